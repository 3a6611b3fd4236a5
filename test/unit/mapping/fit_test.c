/* What an index would refuse is told beforehand, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "mapping/fit.h"
#include "tables.h"

static struct arena mem;

static const struct json *json(const char *text)
{
    struct err err = {0};
    const struct json *v = json_parse(slice_str(text), &mem, &err);

    assert_string_equal(err.text, "");
    return v;
}

static const char *said(const struct fit *f)
{
    static char text[4096];

    text[0] = 0;
    for (size_t i = 0; i < f->count; i++) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s %s: %s\n",
                 f->list[i].grade == FIT_FAIL ? "FAIL" : "warn", f->list[i].field, f->list[i].text);
    }
    return text;
}

static void documents(void **state)
{
    static const struct {
        const char *properties, *document, *expected;
    } cases[] = {
        {"\"a\":{\"type\":\"integer\"}", "{\"a\":1,\"b\":2}", ""},
        {"\"a\":{\"type\":\"integer\"}", "{\"a\":\"x1\"}",
         "FAIL a: is no number, and the field is of type integer\n"},
        {"\"a\":{\"type\":\"integer\"}", "{\"a\":\"12\"}", ""},
        {"\"a\":{\"type\":\"byte\"}", "{\"a\":[1,128]}",
         "FAIL a: is beyond the range of type byte\n"},
        {"\"a\":{\"type\":\"long\"}", "{\"a\":true}",
         "FAIL a: is no number, and the field is of type long\n"},
        {"\"a\":{\"type\":\"integer\",\"ignore_malformed\":true}", "{\"a\":\"x\"}", ""},
        {"\"a\":{\"type\":\"boolean\"}", "{\"a\":1}",
         "FAIL a: is neither true nor false, and the field is a boolean\n"},
        {"\"a\":{\"type\":\"boolean\"}", "{\"a\":\"true\"}", ""},
        {"\"a\":{\"type\":\"date\"}", "{\"a\":\"2026-01-02\",\"b\":null}", ""},
        {"\"a\":{\"type\":\"date\"}", "{\"a\":\"soon\"}",
         "FAIL a: is no date, and the field is of type date\n"},
        {"\"a\":{\"type\":\"date\",\"format\":\"MMM\"}", "{\"a\":\"Jan\"}", ""},
        {"\"a\":{\"type\":\"ip\"}", "{\"a\":\"::1\"}", ""},
        {"\"a\":{\"type\":\"ip\"}", "{\"a\":\"one\"}",
         "FAIL a: is no address, and the field is of type ip\n"},
        {"\"a\":{\"properties\":{\"b\":{\"type\":\"long\"}}}", "{\"a\":{\"b\":\"x\"}}",
         "FAIL a.b: is no number, and the field is of type long\n"},
        {"\"a\":{\"properties\":{\"b\":{\"type\":\"long\"}}}", "{\"a.b\":\"x\"}",
         "FAIL a.b: is no number, and the field is of type long\n"},
        {"\"a\":{\"type\":\"nested\"}", "{\"a\":[{\"c\":1},3]}",
         "FAIL a: is no object, and the field is one\n"},
        {"\"a\":{\"type\":\"keyword\"}", "{\"a\":{\"c\":1}}",
         "FAIL a: is an object, and the field is of type keyword\n"},
        {"\"a\":{\"type\":\"flattened\"}", "{\"a\":{\"c\":1}}", ""},
        {"\"a\":{\"type\":\"object\",\"enabled\":false}", "{\"a\":7}", ""},
        {"\"a\":{\"type\":\"geo_point\"}", "{\"a\":{\"lat\":1,\"lon\":2}}", ""},
        {"\"a\":{\"dynamic\":\"strict\",\"properties\":{}}", "{\"a\":{\"b\":1},\"c\":1}",
         "FAIL a.b: is not in the index's mapping, which is strict\n"},
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fit f = {0};
        snprintf(text, sizeof text, "{\"properties\":{%s}}", cases[i].properties);
        fit_document(json(text), json(cases[i].document), &f);
        assert_string_equal(said(&f), cases[i].expected);
    }
    struct fit f = {0};
    fit_document(NULL, json("{\"a\":1}"), &f);
    fit_document(json("{\"dynamic\":\"false\"}"), json("{\"a\":1,\"n\":null}"), &f);
    assert_string_equal(said(&f), "warn a: is not in the index's mapping: stored, but not "
                                  "searchable\n");
    fit_document(json("{\"dynamic\":\"strict\"}"), json("{\"a\":1}"), &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.list[0].grade, FIT_FAIL); /* the graver one stays */
}

static void a_keyword_has_an_end(void **state)
{
    struct fit f = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    buf_add_str(&b, "{\"a\":\"");
    for (int i = 0; i < 32767; i++)
        buf_add_byte(&b, 'x');
    buf_add_str(&b, "\"}");
    const struct json *doc = json(buf_cstr(&b));
    fit_document(json("{\"properties\":{\"a\":{\"type\":\"keyword\",\"ignore_above\":9}}}"), doc,
                 &f);
    assert_int_equal(f.count, 0);
    fit_document(json("{\"properties\":{\"a\":{\"type\":\"keyword\"}}}"), doc, &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.list[0].grade, FIT_FAIL);
    buf_fini(&b);
}

static void columns(void **state)
{
    static const struct {
        const struct type *type;
        const char *field, *expected;
    } cases[] = {
        {&int_type, "{\"type\":\"integer\"}", ""},
        {&int_type, "{\"type\":\"short\"}",
         "warn c: may be beyond the range of type short; such are refused\n"},
        {&int_type, "{\"type\":\"keyword\"}", ""},
        {&int_type, "{\"type\":\"date\"}", ""},
        {&int_type, "{\"type\":\"boolean\"}", "FAIL c: is never what type boolean takes\n"},
        {&text_type, "{\"type\":\"long\"}",
         "warn c: is text; what is no number is refused, the field is of type long\n"},
        {&text_type, "{\"type\":\"date\"}",
         "warn c: is text; what does not look like type date is refused\n"},
        {&text_type, "{\"properties\":{}}", "FAIL c: is no object, and the field is one\n"},
        {&boolean_type, "{\"type\":\"long\"}",
         "FAIL c: is never a number, and the field is of type long\n"},
        {&list_type, "{\"type\":\"ip\"}",
         "warn c: is text; what does not look like type ip is refused\n"},
        {&map_type, "{\"type\":\"text\"}", "FAIL c: is an object, and the field is of type text\n"},
        {&map_type, "{\"type\":\"flattened\"}", ""},
        {&text_type, "{\"type\":\"dense_vector\"}", ""},
        {&text_type, NULL, "FAIL c: is not in the index's mapping, which is strict\n"},
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct test_column list[] = {{"id", &text_type, COLUMN_PARTITION_KEY},
                                           {"c", cases[i].type, COLUMN_REGULAR}};
        AUTO(schema) struct schema *s = test_schema("k", "t", list, 2);
        AUTO(mapping) struct mapping *m = mapping_default(s, "i");
        struct fit f = {0};

        snprintf(text, sizeof text,
                 "{\"dynamic\":\"strict\",\"properties\":{\"id\":{\"type\":\"keyword\"}%s%s}}",
                 cases[i].field ? ",\"c\":" : "", cases[i].field ? cases[i].field : "");
        fit_columns(json(text), m, s, &f);
        assert_string_equal(said(&f), cases[i].expected);
    }
}

static void what_a_mapping_changes(void **state)
{
    static const char text[] = "object: t\nsource: {keyspace: k, table: t, key: [id]}\n"
                               "target: {index: i}\nrename: {c: d}\nsteps:\n  - drop: gone\n";
    const struct test_column list[] = {{"id", &text_type, COLUMN_PARTITION_KEY},
                                       {"c", &boolean_type, COLUMN_REGULAR},
                                       {"gone", &boolean_type, COLUMN_REGULAR}};
    AUTO(schema) struct schema *s = test_schema("k", "t", list, 3);
    struct fit f = {0};
    struct err err = {0};

    (void)state;
    AUTO(mapping) struct mapping *m = mapping_parse(slice_str(text), "t.yaml", &err);
    assert_string_equal(err.text, "");
    fit_columns(json("{\"properties\":{\"c\":{\"type\":\"ip\"},\"d\":{\"type\":\"long\"},"
                     "\"gone\":{\"type\":\"long\"}}}"),
                m, s, &f);
    assert_string_equal(said(&f), "FAIL d: is never a number, and the field is of type long\n");
}

static void findings_have_a_bound(void **state)
{
    struct fit f = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < FIT_FINDINGS + 5; i++)
        buf_printf(&b, "%s\"f%d\":1", i ? "," : "{", i);
    buf_add_byte(&b, '}');
    fit_document(json("{\"dynamic\":\"strict\"}"), json(buf_cstr(&b)), &f);
    assert_int_equal(f.count, FIT_FINDINGS);
    assert_int_equal(f.left_out, 5);
    buf_fini(&b);
}

static int begin(void **state)
{
    (void)state;
    arena_init(&mem, 16 << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_fini(&mem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents),
        cmocka_unit_test(a_keyword_has_an_end),
        cmocka_unit_test(columns),
        cmocka_unit_test(what_a_mapping_changes),
        cmocka_unit_test(findings_have_a_bound),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
