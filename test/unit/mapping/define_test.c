#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "mapping/define.h"
#include "mapping/plan.h"
#include "tables.h"

static struct schema *odd_table(void)
{
    static const struct test_column columns[] = {
        {"id", &text_type, COLUMN_PARTITION_KEY}, {"Day", &int_type, COLUMN_CLUSTERING},
        {"_id", &text_type, COLUMN_REGULAR},      {"a.b", &text_type, COLUMN_REGULAR},
        {"list", &list_type, COLUMN_REGULAR},     {"map", &map_type, COLUMN_REGULAR},
        {"no", &boolean_type, COLUMN_REGULAR},
    };
    return test_schema("Shop", "things", columns, sizeof columns / sizeof *columns);
}

static void the_mapping_compiles_for_its_table(void **state)
{
    (void)state;
    AUTO(schema) struct schema *s = odd_table();
    struct err err = {0};
    struct buf text;

    buf_init(&text, 1 << 20);
    define_mapping(s, "things-1", &text);
    AUTO(mapping) struct mapping *m = mapping_parse(buf_slice(&text), "things.yaml", &err);
    assert_string_equal(err.text, "");
    AUTO(plan) struct plan *p = plan_compile(m, s, &err);
    assert_string_equal(err.text, "");
    assert_string_equal(plan_index(p), "things-1");
    assert_int_equal(plan_column_count(p), s->column_count);
    buf_fini(&text);
}

static void assert_field(const struct json *root, const char *field, const char *type)
{
    const struct json *f = json_get(json_get(json_get(root, "mappings"), "properties"), field);
    struct slice is = json_get_string(f, "type");

    assert_non_null(f);
    assert_true(slice_is(is, type));
}

static void the_definition_names_a_type_for_every_column(void **state)
{
    (void)state;
    AUTO(schema) struct schema *s = odd_table();
    struct define_server server = {.major = 7};
    struct err err = {0};
    struct arena mem;
    struct buf text;

    arena_init(&mem, 1 << 20);
    buf_init(&text, 1 << 20);
    define_index(s, &server, NULL, &text);
    const struct json *root = json_parse(buf_slice(&text), &mem, &err);
    assert_string_equal(err.text, "");
    assert_field(root, "id", "keyword");
    assert_field(root, "id_", "text"); /* _id, which is Elasticsearch's; id is taken */
    assert_field(root, "Day", "integer");
    assert_field(root, "a_b", "text");
    assert_field(root, "map", "object");
    assert_field(root, "no", "boolean");
    assert_null(json_get(json_get(json_get(root, "mappings"), "properties"), "a.b"));
    const struct json *ours = json_get(json_get(json_get(root, "mappings"), "_meta"), "cass2es");
    assert_true(slice_is(json_get_string(ours, "source"), "Shop.things"));
    assert_null(json_get(ours, "versioning")); /* the mapping's, which may be edited */
    assert_true(slice_is(json_get_string(json_get(root, "settings"), "index.gc_deletes"), "1h"));
    buf_fini(&text);
    arena_fini(&mem);
}

static void elasticsearch_6_gets_its_type(void **state)
{
    (void)state;
    AUTO(schema) struct schema *s = odd_table();
    struct define_server server = {.major = 6};
    struct err err = {0};
    struct arena mem;
    struct buf text;

    arena_init(&mem, 1 << 20);
    buf_init(&text, 1 << 20);
    define_index(s, &server, "_doc", &text);
    const struct json *root = json_parse(buf_slice(&text), &mem, &err);
    const struct json *type = json_get(json_get(root, "mappings"), "_doc");
    assert_non_null(json_get(json_get(type, "properties"), "id"));
    buf_fini(&text);
    arena_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mapping_compiles_for_its_table),
        cmocka_unit_test(the_definition_names_a_type_for_every_column),
        cmocka_unit_test(elasticsearch_6_gets_its_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
