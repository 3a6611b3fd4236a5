#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "mapping/file.h"

#define HEAD                                                                                       \
    "object: thing\nsource: {keyspace: ks, table: t, key: [a, b]}\ntarget: {index: things, id: "   \
    "\"{a}\"}\n"

static struct mapping *parse(const char *text, struct err *err)
{
    *err = (struct err){0};
    return mapping_parse(slice_str(text), TEST_DATA "/m.yaml", err);
}

static void whole_file(void **state)
{
    struct err err;
    AUTO(mapping) struct mapping *m = parse(HEAD "select: [a]\n"
                                                 "rename: {a: A, b: B}\n"
                                                 "nulls: omit\nempty_collections: keep\n"
                                                 "timestamps: iso_ms_utc\n"
                                                 "steps:\n"
                                                 "  - copy: {id: _id, other: A}\n"
                                                 "  - const: {n: null, t: true, x: 1.50, s: \"1\", "
                                                 "d: 01, l: [1, {k: v}], e: ''}\n"
                                                 "  - drop: [B]\n"
                                                 "  - drop: other\n"
                                                 "preserve: [p, q]\nversioning: sequence\n",
                                            &err);
    (void)state;
    assert_string_equal(err.text, "");
    assert_non_null(m);
    assert_string_equal(m->object, "thing");
    assert_string_equal(m->keyspace.name, "ks");
    assert_string_equal(m->table.name, "t");
    assert_int_equal(m->key.count, 2);
    assert_string_equal(m->key.list[1].name, "b");
    assert_int_equal(m->select.count, 1);
    assert_string_equal(m->index.name, "things");
    assert_string_equal(m->id.name, "{a}");
    assert_int_equal(m->id.at.line, 3);
    assert_int_equal(m->id.at.column, 29);
    assert_int_equal(m->rename.count, 2);
    assert_string_equal(m->rename.list[1].to.name, "B");
    assert_true(m->omit_nulls);
    assert_true(m->empty_said);
    assert_false(m->omit_empty_collections);
    assert_int_equal(m->preserve.count, 2);
    assert_false(m->preserve_all);
    static const struct {
        enum mapping_step_kind kind;
        const char *field, *value;
    } steps[] = {
        {STEP_COPY, "id", "_id"},    {STEP_COPY, "other", "A"},
        {STEP_CONST, "n", "null"},   {STEP_CONST, "t", "true"},
        {STEP_CONST, "x", "1.50"},   {STEP_CONST, "s", "\"1\""},
        {STEP_CONST, "d", "\"01\""}, {STEP_CONST, "l", "[1,{\"k\":\"v\"}]"},
        {STEP_CONST, "e", "\"\""},   {STEP_DROP, "B", NULL},
        {STEP_DROP, "other", NULL},
    };
    assert_int_equal(m->step_count, sizeof steps / sizeof *steps);
    for (size_t i = 0; i < m->step_count; i++) {
        assert_int_equal(m->steps[i].kind, steps[i].kind);
        assert_string_equal(m->steps[i].field.name, steps[i].field);
        if (steps[i].kind == STEP_COPY)
            assert_string_equal(m->steps[i].from.name, steps[i].value);
        if (steps[i].kind == STEP_CONST)
            assert_string_equal(m->steps[i].json, steps[i].value);
    }
}

static void defaults(void **state)
{
    struct err err;
    AUTO(mapping) struct mapping *m =
        parse("object: x\nsource: {table: t}\ntarget: {index: i}\npreserve: all\n", &err);
    (void)state;
    assert_non_null(m);
    assert_null(m->keyspace.name);
    assert_null(m->id.name);
    assert_false(m->omit_nulls);
    assert_false(m->empty_said);
    assert_true(m->preserve_all);
    assert_int_equal(m->step_count, 0);
}

static void dictionary(void **state)
{
    struct err err;
    AUTO(mapping) struct mapping *m =
        parse("object: x\nrename: {file: names.yaml#one.t, b: overridden}\n"
              "source: {table: t}\ntarget: {index: i}\n",
              &err);
    AUTO(mapping) struct mapping *by_table =
        parse("object: x\nrename: {file: names.yaml#one}\nsource: {table: u}\ntarget: {index: i}\n",
              &err);

    (void)state;
    assert_string_equal(err.text, "");
    assert_non_null(m);
    assert_int_equal(m->rename.count, 2);
    assert_string_equal(m->rename.list[0].to.name, "fieldA");
    assert_int_equal(m->rename.list[0].from.at.line, 0); /* from a dictionary */
    assert_string_equal(m->rename.list[1].from.name, "b");
    assert_string_equal(m->rename.list[1].to.name, "overridden");
    assert_int_equal(m->rename.list[1].from.at.line, 2);
    assert_non_null(by_table);
    assert_int_equal(by_table->rename.count, 1);
    assert_string_equal(by_table->rename.list[0].to.name, "fieldOfU");
}

static void mistakes(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "1:1: is empty"},
        {"a: [1\n", "2:1: did not find expected ',' or ']'"},
        {"- a\n", "1:1: a mapping must be a map of names and values"},
        {"objct: x\n", "1:1: unknown key \"objct\"; did you mean \"object\""},
        {"source: {tabel: t}\n", "1:10: unknown key of source \"tabel\"; did you mean \"table\""},
        {"extends: x\n", "1:1: key \"extends\" is not supported yet"},
        {"object: x\n", "1:1: source is missing"},
        {"object: x\nsource: {table: t}\n", "1:1: target is missing"},
        {"source: {keyspace: k}\n", "1:9: source has no table"},
        {"target: {id: x}\n", "1:9: target has no index"},
        {"target: {index: 'a b'}\n", "1:17: \"a b\" is no name for an index or alias"},
        {"target: {index: x, routing: [y]}\n", "1:29: routing must be text"},
        {HEAD "object: again\n", "4:1: \"object\" is there twice"},
        {HEAD "steps:\n  - copie: {a: b}\n", "5:5: unknown step \"copie\"; did you mean \"copy\""},
        {HEAD "steps:\n  - parse_json: {field: b}\n",
         "5:5: step \"parse_json\" is not supported yet"},
        {HEAD "steps:\n  - zzzzzzzz: 1\n",
         "5:5: unknown step \"zzzzzzzz\"; allowed: copy, const, drop"},
        {HEAD "steps:\n  - decrypt: {a: b}\n",
         "5:5: unknown step \"decrypt\"; allowed: copy, const, drop"},
        {HEAD "steps:\n  - drop\n", "5:5: step \"drop\" says nothing to do; write \"- drop: ...\""},
        {HEAD "steps: {copy: {a: b}}\n", "4:8: steps must be a list"},
        {HEAD "steps:\n  - {copy: {a: b}, drop: [c]}\n",
         "5:5: a step is one word with its value; write \"- \" before each"},
        {HEAD "steps:\n  - copy: [a, b]\n", "5:11: copy must be a map of names and values"},
        {HEAD "steps:\n  - drop: []\n", "5:11: drop is an empty list"},
        {HEAD "nulls: kep\n", "4:8: unknown value of nulls \"kep\"; did you mean \"keep\""},
        {HEAD "nulls: {a: keep}\n", "4:8: nulls per field is not supported yet"},
        {HEAD "timestamps: {pattern: x}\n", "4:13: timestamps per field is not supported yet"},
        {HEAD "versioning: read_tme\n",
         "4:13: unknown value of versioning \"read_tme\"; did you mean \"read_time\""},
        {HEAD "preserve: everything\n", "4:11: preserve must be a list of fields, or \"all\""},
        {HEAD "rename: {a: [x]}\n", "4:13: a field must be text"},
        {HEAD "rename: {file: none.yaml#x}\n",
         "4:16: " TEST_DATA "/none.yaml: No such file or directory"},
        {HEAD "rename: {file: names.yaml#two}\n",
         "4:16: " TEST_DATA "/names.yaml has no section \"two\" with names for table t"},
        {HEAD "---\nobject: b\n", "5:1: a second document; one file holds one mapping"},
        {HEAD "steps:\n  - const: {a: &x [*x]}\n", "5:16: the value is too large or too deep"},
        {HEAD "preserve: [a, b, a]\n", "4:18: \"a\" is there twice"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err;
        char want[512];
        struct mapping *m = parse(cases[i].text, &err);
        snprintf(want, sizeof want, TEST_DATA "/m.yaml:%s", cases[i].error);
        assert_null(m);
        assert_int_equal(err.kind, ERR_USER);
        assert_string_equal(err.text, want);
    }
}

static void no_file(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(mapping_load("/nowhere/x.yaml", &err));
    assert_string_equal(err.text, "/nowhere/x.yaml: No such file or directory");
}

/* Files named in a mapping are beside it. */
static void definition_of_the_index(void **state)
{
    static const struct {
        const char *said, *path;
    } cases[] = {{"t.index.json", TEST_DATA "/t.index.json"},
                 {"/a/t.index.json", "/a/t.index.json"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err;
        char text[256];
        snprintf(text, sizeof text,
                 "object: x\nsource: {table: t}\ntarget: {index: i, definition: %s}\n",
                 cases[i].said);
        AUTO(mapping) struct mapping *m = parse(text, &err);
        assert_string_equal(err.text, "");
        assert_string_equal(m->definition.name, cases[i].path);
    }
}

static void profiles_load(void **state)
{
    static const char *const paths[] = {"/../../profiles/sunbird/batch.yaml",
                                        "/../../profiles/sunbird/location.yaml",
                                        "/../../demo/user.yaml"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct err err = {0};
        char path[1024];
        snprintf(path, sizeof path, TEST_DATA "%s", paths[i]);
        AUTO(mapping) struct mapping *m = mapping_load(path, &err);
        assert_string_equal(err.text, "");
        assert_non_null(m);
        assert_true(m->rename.count > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_file),
        cmocka_unit_test(defaults),
        cmocka_unit_test(dictionary),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(no_file),
        cmocka_unit_test(profiles_load),
        cmocka_unit_test(definition_of_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
