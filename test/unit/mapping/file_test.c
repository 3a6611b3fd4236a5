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
        {"more_steps: []\n",
         "1:1: more_steps comes with extends, and without steps: it is added to those of the "
         "file that is extended"},
        {"object: x\n", "1:1: source is missing"},
        {"object: x\nsource: {table: t}\n", "1:1: target is missing"},
        {"source: {keyspace: k}\n", "1:9: source has no table"},
        {"target: {id: x}\n", "1:9: target has no index"},
        {"target: {index: 'a b'}\n", "1:17: \"a b\" is no name for an index or alias"},
        {"target: {index: x, routing: [y]}\n", "1:29: routing must be text"},
        {HEAD "object: again\n", "4:1: \"object\" is there twice"},
        {HEAD "steps:\n  - copie: {a: b}\n", "5:5: unknown step \"copie\"; did you mean \"copy\""},
        {HEAD "steps:\n  - parse_json: {feld: b}\n",
         "5:18: unknown key of parse_json \"feld\"; did you mean \"field\""},
        {HEAD "steps:\n  - parse_json: {as: array}\n", "5:17: parse_json has no field"},
        {HEAD "steps:\n  - parse_json: {field: b, as: list}\n",
         "5:32: unknown value of as \"list\"; allowed: any, array, object"},
        {HEAD "steps:\n  - flag: {field: a, from: b}\n",
         "5:11: flag compares with nothing; one of ge, gt, le, lt, eq"},
        {HEAD "steps:\n  - flag: {field: a, from: b, ge: 1, lt: 2}\n",
         "5:42: flag compares once: lt is one too many"},
        {HEAD "steps:\n  - flag: {field: a, from: b, ge: x}\n", "5:35: ge must be a number"},
        {HEAD "steps:\n  - lookup: {field: a, table: b, key: {}, take: c}\n",
         "5:39: key names no column"},
        {HEAD "steps:\n  - children: {field: a, table: b}\n", "5:15: children has no by"},
        {HEAD "steps: &a\n  - children: {field: a, table: b, by: {x: y}, each: *a}\n",
         "4:8: steps within steps, more than 8 deep"},
        {HEAD "steps:\n  - bit_flags: {field: a}\n", "5:16: bit_flags has no config"},
        {HEAD "steps:\n  - split: {field: a}\n",
         "5:12: split has no by: the text between two parts"},
        {HEAD "steps:\n  - cast: {field: a}\n", "5:11: cast has no to"},
        {HEAD "where: {a: []}\n", "4:12: an empty list of values"},
        {HEAD "steps:\n  - zzzzzzzz: 1\n",
         "5:5: unknown step \"zzzzzzzz\"; allowed: copy, const, drop, default, "
         "parse_json, parse_json_values, to_json, lookup, children, first, only, flag, bit_flags, "
         "concat, cast, split, lower, upper"},
        {HEAD "steps:\n  - decrypt: {a: b}\n",
         "5:5: unknown step \"decrypt\"; allowed: copy, const, drop, default, "
         "parse_json, parse_json_values, to_json, lookup, children, first, only, flag, bit_flags, "
         "concat, cast, split, lower, upper"},
        {HEAD "steps:\n  - drop\n", "5:5: step \"drop\" says nothing to do; write \"- drop: ...\""},
        {HEAD "steps: {copy: {a: b}}\n", "4:8: steps must be a list"},
        {HEAD "steps:\n  - {copy: {a: b}, drop: [c]}\n",
         "5:5: a step is one word with its value; write \"- \" before each"},
        {HEAD "steps:\n  - copy: [a, b]\n", "5:11: copy must be a map of names and values"},
        {HEAD "steps:\n  - drop: []\n", "5:11: drop is an empty list"},
        {HEAD "nulls: kep\n", "4:8: unknown value of nulls \"kep\"; did you mean \"keep\""},
        {HEAD "nulls: {a: kep}\n", "4:12: unknown value of nulls \"kep\"; did you mean \"keep\""},
        {HEAD "timestamps: {a: {patern: x}}\n",
         "4:18: unknown key of timestamps \"patern\"; did you mean \"pattern\""},
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
                                        "/../../profiles/sunbird/location.yaml", "/user.yaml"};

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

/* ---- the whole vocabulary */

static void every_step(void **state)
{
    (void)state;
    struct err err = {0};
    AUTO(mapping) struct mapping *m = mapping_parse(
        slice_str(
            "object: o\nsource: {table: t}\ntarget: {index: i}\n"
            "where: {status: 1, kind: [a, null]}\n"
            "nulls: {default: omit, a: keep}\n"
            "timestamps: {default: epoch_ms, d: {pattern: yyyy, tz: Asia/Kolkata}}\n"
            "rename: {x: y}\n"
            "steps:\n"
            "  - default: {a: 0, b: []}\n"
            "  - parse_json: {field: p, as: object, bad: null}\n"
            "  - parse_json_values: {field: v, bad: omit, blank: fail, keys: k, empty: omit}\n"
            "  - to_json: {field: j, from: v}\n"
            "  - lookup: {field: n, table: u, keyspace: ks, key: {id: '{x}'}, take: c, "
            "missing: 'omit'}\n"
            "  - children: {field: c, table: u, by: {id: '{x}'}, where: {gone: false}, "
            "rename: {q: r}, each: [{drop: z}]}\n"
            "  - flag: {field: f, from: n, ge: 4}\n"
            "  - bit_flags: {field: g, config: {table: s, key: {id: t}, column: value, "
            "path: a.b}}\n"
            "  - concat: {field: h, of: [a, b], with: ' '}\n"
            "  - cast: {field: k, to: integer, bad: 0}\n"
            "  - split: {field: l, by: ',', trim: false, empty: keep}\n"
            "  - lower: [a, b]\n"
            "  - only: {field: w, table: u, by: {id: x}, missing: error}\n"),
        "m.yaml", &err);

    assert_string_equal(err.text, "");
    assert_int_equal(m->where.count, 2);
    assert_string_equal(m->where.list[0].values[0], "1");
    assert_string_equal(m->where.list[1].values[0], "\"a\"");
    assert_string_equal(m->where.list[1].values[1], "null");
    assert_true(m->omit_nulls && m->null_rule_count == 1 && !m->null_rules[0].omit);
    assert_true(m->epoch_ms && m->time_rule_count == 1);
    assert_string_equal(m->time_rules[0].zone, "Asia/Kolkata");
    assert_int_equal(m->step_count, 15); /* two of default and of lower */
    const struct mapping_step *s = m->steps;
    assert_string_equal(s[1].json, "[]");
    assert_true(s[2].parse.as == JSON_OF_OBJECT && s[2].parse.bad.kind == OTHERWISE_VALUE);
    assert_string_equal(s[2].parse.bad.json, "null");
    assert_true(s[2].parse.blank.kind == OTHERWISE_VALUE && !s[2].parse.blank.said);
    assert_true(s[3].parse.bad.kind == OTHERWISE_OMIT && s[3].parse.omit_empty);
    assert_true(s[3].parse.blank.kind == OTHERWISE_FAIL && s[3].parse.blank.said);
    assert_string_equal(s[4].from.name, "v");
    assert_true(s[5].lookup.missing.kind == OTHERWISE_VALUE); /* in quotes it is a text */
    assert_string_equal(s[5].lookup.missing.json, "\"omit\"");
    assert_string_equal(s[6].rows->rename.list[0].to.name, "r");
    assert_int_equal(s[6].rows->each.list[0].kind, STEP_DROP);
    assert_true(s[7].flag.compare == COMPARE_GE && s[7].flag.if_null.kind == OTHERWISE_OMIT);
    assert_string_equal(s[8].bits.names, "flagNameList");
    assert_string_equal(s[9].concat.with, " ");
    assert_true(s[10].cast.to == CAST_INTEGER && s[11].split.no_trim && s[11].split.keep_empty);
    assert_int_equal(s[14].kind, STEP_ONLY);
    assert_int_equal(s[14].rows->missing.kind, OTHERWISE_FAIL);
}

static void a_release_extends_another(void **state)
{
    (void)state;
    static const char *const names[] = {"sunbird", "sunbird-5", "sunbird-4.2", "sunbird-lern"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct err err = {0};
        AUTO_STR char *path = xsprintf("%s/../../profiles/%s/user.yaml", TEST_DATA, names[i]);
        AUTO(mapping) struct mapping *m = mapping_load(path, &err);
        assert_string_equal(err.text, "");
        assert_string_equal(m->object, "user");
        assert_string_equal(m->table.name, "user");
        assert_true(m->step_count > 0 && m->rename.count > 0);
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
        cmocka_unit_test(every_step),
        cmocka_unit_test(a_release_extends_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
