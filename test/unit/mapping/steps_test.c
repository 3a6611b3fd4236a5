#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "world.h"

static const struct type bigint_type = {.kind = TYPE_BIGINT};
static const struct type uuid_type = {.kind = TYPE_UUID};

static struct world world;

static const struct json *json(const char *text)
{
    struct err err = {0};
    const struct json *v = json_parse(slice_str(text), &world.mem, &err);

    if (!v)
        fail_msg("%s\n%s", err.text, text);
    return v;
}

static void add_table(const char *name, const struct test_column *columns, uint16_t count,
                      const char *rows)
{
    world.tables[world.count++] =
        (struct world_table){test_schema("ks", name, columns, count), json(rows)};
}

#define TABLE(name, columns, rows) add_table(name, columns, sizeof columns / sizeof *columns, rows)

static int start(void **state)
{
    static const struct test_column thing[] = {
        {"id", &text_type, COLUMN_PARTITION_KEY}, {"big", &bigint_type, COLUMN_REGULAR},
        {"dbl", &double_type, COLUMN_REGULAR},    {"flag", &boolean_type, COLUMN_REGULAR},
        {"list", &list_type, COLUMN_REGULAR},     {"map", &map_type, COLUMN_REGULAR},
        {"maps", &nested_type, COLUMN_REGULAR},   {"num", &int_type, COLUMN_REGULAR},
        {"org", &text_type, COLUMN_REGULAR},      {"ts", &timestamp_type, COLUMN_REGULAR},
        {"txt", &text_type, COLUMN_REGULAR},      {"u", &uuid_type, COLUMN_REGULAR},
    };
    static const struct test_column org[] = {
        {"id", &text_type, COLUMN_PARTITION_KEY},
        {"name", &text_type, COLUMN_REGULAR},
        {"size", &int_type, COLUMN_REGULAR},
        {"tags", &list_type, COLUMN_REGULAR},
    };
    static const struct test_column child[] = {
        {"pid", &text_type, COLUMN_PARTITION_KEY},  {"seq", &int_type, COLUMN_CLUSTERING},
        {"deleted", &boolean_type, COLUMN_REGULAR}, {"js", &text_type, COLUMN_REGULAR},
        {"kind", &int_type, COLUMN_REGULAR},        {"list", &list_type, COLUMN_REGULAR},
        {"org", &text_type, COLUMN_REGULAR},
    };
    static const struct test_column grand[] = {
        {"pid", &text_type, COLUMN_PARTITION_KEY},
        {"seq", &int_type, COLUMN_PARTITION_KEY},
        {"k", &text_type, COLUMN_CLUSTERING},
        {"org", &text_type, COLUMN_REGULAR},
    };
    static const struct test_column settings[] = {
        {"id", &text_type, COLUMN_PARTITION_KEY},
        {"value", &text_type, COLUMN_REGULAR},
    };
    static const struct test_column counted[] = {
        {"n", &int_type, COLUMN_PARTITION_KEY},
        {"u", &uuid_type, COLUMN_PARTITION_KEY},
        {"v", &text_type, COLUMN_REGULAR},
    };

    (void)state;
    arena_init(&world.mem, 64 << 20);
    TABLE("thing", thing, "[]");
    TABLE("org", org,
          "[{\"id\":\"o1\",\"name\":\"One\",\"size\":7,\"tags\":[\"a\"]},"
          "{\"id\":\"o2\"},{\"id\":\"o3\",\"name\":\"\"}]");
    TABLE("child", child,
          "[{\"pid\":\"p\",\"seq\":1,\"deleted\":false,\"org\":\"o1\",\"js\":\"[1]\",\"kind\":1},"
          "{\"pid\":\"p\",\"seq\":2,\"deleted\":true,\"org\":\"o2\",\"kind\":2},"
          "{\"pid\":\"p\",\"seq\":3,\"org\":\"none\",\"kind\":1},"
          "{\"pid\":\"q\",\"seq\":9,\"deleted\":false,\"js\":\"{x\"},"
          "{\"pid\":\"static\"}]");
    TABLE("grand", grand,
          "[{\"pid\":\"p\",\"seq\":1,\"k\":\"a\",\"org\":\"o1\"},"
          "{\"pid\":\"p\",\"seq\":1,\"k\":\"b\",\"org\":\"o3\"},"
          "{\"pid\":\"p\",\"seq\":3,\"k\":\"c\"}]");
    TABLE("settings", settings,
          "[{\"id\":\"types\",\"value\":\"{\\\"fields\\\":[{\\\"name\\\":\\\"none\\\"},"
          "{\\\"value\\\":2,\\\"flagNameList\\\":[\\\"isSchool\\\",\\\"num2\\\"]},"
          "{\\\"value\\\":5,\\\"flagNameList\\\":\\\"isBoard\\\"},"
          "{\\\"value\\\":8,\\\"flagNameList\\\":[\\\"txt\\\"]},"
          "{\\\"value\\\":16,\\\"flagNameList\\\":[\\\"ok\\\",\\\"kept\\\"]},"
          "{\\\"value\\\":32,\\\"flagNameList\\\":\\\"a.b\\\"},"
          "{\\\"value\\\":64,\\\"flagNameList\\\":\\\"_id\\\"}]}\"},"
          "{\"id\":\"bad\",\"value\":\"{\"},{\"id\":\"odd\",\"value\":\"{}\"},{\"id\":\"null\"}]");
    TABLE("counted", counted,
          "[{\"n\":5,\"u\":\"00000000-0000-0000-0000-000000000001\",\"v\":\"five\"}]");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (size_t i = 0; i < world.count; i++)
        schema_free(world.tables[i].schema);
    arena_fini(&world.mem);
    return 0;
}

struct made {
    char text[4000]; /* the document, or "reason: text" */
    struct json_counts counts;
};

#define HEAD                                                                                       \
    "object: thing\nsource: {keyspace: ks, table: thing, columns: [id, %s]}\n"                     \
    "target: {index: i, id: \"{id}\"}\n%s"

static struct plan *compile(const char *yaml, struct mapping **m, struct err *err)
{
    const struct plan_tables tables = {world_find, &world};

    *m = mapping_parse(slice_str(yaml), "m.yaml", err);
    return *m ? plan_compile_with(*m, world.tables[0].schema, &tables, err) : NULL;
}

static void make(const char *columns, const char *rest, const char *row, struct made *out)
{
    struct err err = {0};
    struct mapping *m;
    struct fetched fetched;
    struct plan_work work;
    struct buf doc;

    AUTO_STR char *yaml = xsprintf(HEAD, columns, rest);
    *out = (struct made){0};
    struct plan *p = compile(yaml, &m, &err);
    if (!p)
        fail_msg("%s\n%s", err.text, yaml);
    fetched_init(&fetched, 1 << 20);
    plan_work_init(&work, 8 << 20);
    buf_init(&doc, 1 << 20);
    struct slice *cells = world_cells(&world, p, json(row));
    struct slice id = cells[0];
    world.reads = world.rounds = 0;
    world_fetch(&world, p, cells, id, &fetched, &work);
    if (!plan_holds(p, cells, &work))
        snprintf(out->text, sizeof out->text, "filtered");
    else if (plan_make(p, cells, id, &fetched, &work, &doc, &out->counts, &err))
        snprintf(out->text, sizeof out->text, "%s", buf_cstr(&doc));
    else {
        assert_int_equal(err.kind, ERR_REJECT);
        assert_int_equal(doc.len, 0);
        snprintf(out->text, sizeof out->text, "%s: %s", work.reason, err.text);
    }
    buf_fini(&doc);
    plan_work_fini(&work);
    fetched_fini(&fetched);
    plan_free(p);
    mapping_free(m);
}

/* What steps make of a row with id "p" and these other columns. `want` leaves out the id's member,
 * and is the document's other text, byte by byte. */
struct step_case {
    const char *columns;
    const char *rest;
    const char *row;
    const char *want;
    unsigned bad_json, missing;
};

static void check(const struct step_case *c)
{
    struct made got;
    char want[4000];

    AUTO_STR char *row = xsprintf("{\"id\":\"p\"%s%s}", *c->row ? "," : "", c->row);
    make(c->columns, c->rest, row, &got);
    if (*c->want == '{' || !*c->want)
        snprintf(want, sizeof want, "{\"id\":\"p\"%s%s}", *c->want ? "," : "",
                 *c->want ? c->want + 1 : "");
    else
        snprintf(want, sizeof want, "%s", c->want);
    if (strcmp(got.text, want) != 0)
        fail_msg("%s\nof %s\nwant %s\ngot  %s", c->rest, row, want, got.text);
    if (got.counts.bad_json != c->bad_json || got.counts.lookup_missing != c->missing)
        fail_msg("%s\nof %s\ncounts %u %u", c->rest, row, (unsigned)got.counts.bad_json,
                 (unsigned)got.counts.lookup_missing);
}

#define CHECK_ALL(cases)                                                                           \
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)                                      \
    check(&cases[i])

#define PARSE(more) "nulls: keep\nsteps:\n  - parse_json: {field: txt" more "}\n"
#define BAD_TEXT    "bad_json: field txt: its text is no JSON of the kind that the mapping wants"

static void parse_json(void **state)
{
    static const struct step_case cases[] = {
        {"txt", PARSE(""), "\"txt\":\"{\\\"b\\\" : 1.50, \\\"a\\\":[ ]}\"",
         "{\"txt\":{\"b\":1.50,\"a\":[]}", 0, 0},
        {"txt", PARSE(""), "\"txt\":\" 12345678901234567890.10E+2 \"",
         "{\"txt\":12345678901234567890.10E+2", 0, 0},
        {"txt", PARSE(""), "\"txt\":\"\\\"\\\\u00e9\\\\n\\\"\"", "{\"txt\":\"é\\n\"", 0, 0},
        {"txt", PARSE(""), "\"txt\":\"{\\\"a\\\":1,\\\"b\\\":2,\\\"a\\\":3}\"",
         "{\"txt\":{\"a\":3,\"b\":2}", 0, 0},
        {"txt", PARSE(""), "\"txt\":null", "{\"txt\":null", 0, 0},
        {"txt", PARSE(""), "\"txt\":\" \\n\"", BAD_TEXT, 0, 0},
        {"txt", PARSE(""), "\"txt\":\"\"", BAD_TEXT, 0, 0},
        {"txt", PARSE(""), "\"txt\":\"[1] x\"", BAD_TEXT, 0, 0},
        {"txt", PARSE(""), "\"txt\":\"\\\"\\\\ud800\\\"\"", BAD_TEXT, 0, 0},
        {"txt", PARSE(""), "\"txt\":\"null\"", "{\"txt\":null", 0, 0},
        {"txt", PARSE(", as: array"), "\"txt\":\"null\"", BAD_TEXT, 0, 0},
        {"txt", PARSE(", as: array, bad: []"), "\"txt\":\"{}\"", "{\"txt\":[]", 1, 0},
        {"txt", PARSE(", as: array, bad: []"), "\"txt\":\"\"", "{\"txt\":[]", 0, 0},
        {"txt", PARSE(", as: array, bad: []"), "\"txt\":null", "{\"txt\":[]", 0, 0},
        {"txt", PARSE(", as: object, bad: null, blank: omit"), "\"txt\":\"[]\"", "{\"txt\":null", 1,
         0},
        {"txt", PARSE(", as: object, bad: null, blank: omit"), "\"txt\":\" \"", "", 0, 0},
        {"txt", PARSE(", as: object, bad: omit, blank: {}"), "\"txt\":\"nope\"", "", 1, 0},
        {"txt", PARSE(", as: object, bad: omit, blank: {}"), "\"txt\":null", "{\"txt\":{}", 0, 0},
        {"txt", PARSE(", blank: fail, bad: 1"), "\"txt\":null", BAD_TEXT, 0, 0},
        {"txt", "steps:\n  - parse_json: {field: x, from: txt}\n", "\"txt\":\"[2]\"",
         "{\"txt\":\"[2]\",\"x\":[2]", 0, 0},
        /* invalid UTF-8 */
        {"txt", PARSE(""), "\"txt\":\"[\\\"\\u001a\\\"]\"", BAD_TEXT, 0, 0},
        {"txt", PARSE(", bad: 0"), "\"txt\":\"[\\\"\\u001a\\\"]\"", "{\"txt\":0", 1, 0},
        /* of what a step made */
        {"txt",
         "steps:\n  - const: {c: \"[1, 2]\", n: null}\n  - parse_json: {field: c}\n"
         "  - parse_json: {field: n, blank: 0}\n",
         "", "{\"txt\":null,\"c\":[1,2],\"n\":0", 0, 0},
        {"txt", "steps:\n  - parse_json: {field: txt}\n  - parse_json: {field: txt, bad: 7}\n",
         "\"txt\":\"\\\"[5]\\\"\"", "{\"txt\":[5]", 0, 0},
        {"txt", "steps:\n  - parse_json: {field: txt}\n  - parse_json: {field: txt, bad: 7}\n",
         "\"txt\":\"[5]\"", "{\"txt\":7", 1, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

static void parse_json_depth(void **state)
{
    char row[600] = "\"txt\":\"", want[600] = "{\"txt\":";
    struct step_case c = {"txt", PARSE(", bad: 0"), row, want, 0, 0};

    (void)state;
    for (int deep = 0; deep < 2; deep++) {
        char text[300] = "";
        memset(text, '[', (size_t)(100 + deep));
        memset(text + 100 + deep, ']', (size_t)(100 + deep));
        snprintf(row, sizeof row, "\"txt\":\"%s\"", text);
        snprintf(want, sizeof want, "{\"txt\":%s", deep ? "0" : text);
        c.bad_json = (unsigned)deep;
        check(&c);
    }
}

#define VALUES(more) "nulls: keep\nsteps:\n  - parse_json_values: {field: map" more "}\n"
#define MAPS(more)   "nulls: keep\nsteps:\n  - parse_json_values: {field: maps" more "}\n"
#define MAP_TEXT     "bad_json: field map: its text is no JSON of the kind that the mapping wants"

static void parse_json_values(void **state)
{
    static const struct step_case cases[] = {
        {"map", VALUES(""), "\"map\":{\"b\":\"{\\\"z\\\":1.0,\\\"a\\\":2}\",\"a\":\"[]\"}",
         "{\"map\":{\"b\":{\"z\":1.0,\"a\":2},\"a\":[]}", 0, 0},
        {"map", VALUES(", as: object"), "\"map\":{\"a\":\"[]\"}", MAP_TEXT, 0, 0},
        {"map", VALUES(", as: object, bad: null"), "\"map\":{\"a\":\"[]\",\"b\":\"\"}",
         "{\"map\":{\"a\":null,\"b\":null}", 1, 0},
        {"map", VALUES(", bad: omit"), "\"map\":{\"a\":\"x\",\"b\":\"1\"}", "{\"map\":{\"b\":1}", 1,
         0},
        {"map", VALUES(", keys: [b]"), "\"map\":{\"a\":\"x\",\"b\":\"1\"}",
         "{\"map\":{\"a\":\"x\",\"b\":1}", 0, 0},
        /* invalid UTF-8 */
        {"map", VALUES(""), "\"map\":{\"b\":\"1\",\"a\":\"[\\\"\\u001a\\\"]\"}", MAP_TEXT, 0, 0},
        {"map", VALUES(", bad: null"), "\"map\":{\"b\":\"1\",\"a\":\"[\\\"\\u001a\\\"]\"}",
         "{\"map\":null", 1, 0},
        {"map", VALUES(""), "", "{\"map\":{}", 0, 0},
        /* maps of maps: keys are those of the inner ones */
        {"maps", MAPS(""), "\"maps\":{\"b\":{\"z\":\"[1.0]\",\"a\":\"2\"},\"a\":{}}",
         "{\"maps\":{\"b\":{\"z\":[1.0],\"a\":2},\"a\":{}}", 0, 0},
        {"maps", MAPS(", keys: [c], as: object"),
         "\"maps\":{\"t\":{\"c\":\"{\\\"x\\\":1}\",\"name\":\"{\"},\"c\":{\"c\":\"{}\"}}",
         "{\"maps\":{\"t\":{\"c\":{\"x\":1},\"name\":\"{\"},\"c\":{\"c\":{}}}", 0, 0},
        {"maps", MAPS(", bad: omit"),
         "\"maps\":{\"t\":{\"c\":\"x\",\"d\":\"1\"},\"u\":{\"c\":\"\"}}",
         "{\"maps\":{\"t\":{\"d\":1},\"u\":{}}", 1, 0},
        {"maps", MAPS(""), "\"maps\":{\"t\":{\"c\":\"x\"}}",
         "bad_json: field maps: its text is no JSON of the kind that the mapping wants", 0, 0},
        {"maps", MAPS(""), "", "{\"maps\":{}", 0, 0},
        {"maps", MAPS(", empty: omit"), "", "", 0, 0},
        {"map", VALUES(", empty: omit"), "", "", 0, 0},
        {"map", "empty_collections: keep\n" VALUES(""), "", "{\"map\":{}", 0, 0},
        {"map", "empty_collections: omit\n" VALUES(""), "", "", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

static void texts(void **state)
{
    static const struct step_case cases[] = {
        {"map", "empty_collections: keep\nsteps:\n  - to_json: {field: map}\n",
         "\"map\":{\"z\":\"1\",\"a\":\"\\\"\"}",
         "{\"map\":\"{\\\"z\\\":\\\"1\\\",\\\"a\\\":\\\"\\\\\\\"\\\"}\"", 0, 0},
        {"map", "empty_collections: keep\nsteps:\n  - to_json: {field: map}\n", "",
         "{\"map\":\"{}\"", 0, 0},
        {"map", "nulls: keep\nsteps:\n  - to_json: {field: map}\n", "", "{\"map\":null", 0, 0},
        {"num", "nulls: omit\nsteps:\n  - to_json: {field: x, from: num}\n", "\"num\":-3",
         "{\"num\":-3,\"x\":\"-3\"", 0, 0},
        {"num", "nulls: omit\nsteps:\n  - to_json: {field: x, from: num}\n", "", "", 0, 0},
        /* concat */
        {"num, txt, flag, list",
         "nulls: omit\nsteps:\n  - concat: {field: x, of: [txt, num, list, flag, id], with: \" "
         "\"}\n",
         "\"num\":5,\"txt\":\"a\\\"\",\"flag\":true,\"list\":[\"q\"]",
         "{\"num\":5,\"txt\":\"a\\\"\",\"flag\":true,\"list\":[\"q\"],\"x\":\"a\\\" 5 true p\"", 0,
         0},
        {"txt", "nulls: omit\nsteps:\n  - concat: {field: x, of: [txt, id]}\n", "\"txt\":\"\"",
         "{\"txt\":\"\",\"x\":\"p\"", 0, 0},
        {"txt",
         "nulls: keep\nsteps:\n  - const: {n: null}\n  - concat: {field: x, of: [txt, n]}\n  - "
         "drop: [n]\n",
         "", "{\"txt\":null,\"x\":null", 0, 0},
        /* split */
        {"txt", "nulls: keep\nsteps:\n  - split: {field: txt, by: \",\"}\n",
         "\"txt\":\" a, b ,,\\u00e9,\"", "{\"txt\":[\"a\",\"b\",\"é\"]", 0, 0},
        {"txt", "nulls: keep\nsteps:\n  - split: {field: txt, by: \",\", empty: keep}\n",
         "\"txt\":\" a,, ,\"", "{\"txt\":[\"a\",\"\",\"\",\"\"]", 0, 0},
        {"txt", "nulls: keep\nsteps:\n  - split: {field: txt, by: \"--\", trim: false}\n",
         "\"txt\":\" a -- b\"", "{\"txt\":[\" a \",\" b\"]", 0, 0},
        {"txt", "nulls: keep\nsteps:\n  - split: {field: txt, by: \",\"}\n", "", "{\"txt\":null", 0,
         0},
        {"txt", "nulls: keep\nsteps:\n  - split: {field: txt, by: \",\"}\n", "\"txt\":\"\"",
         "{\"txt\":[]", 0, 0},
        /* lower, upper */
        {"txt, list", "nulls: keep\nsteps:\n  - upper: [txt, list]\n",
         "\"txt\":\"a\\u00e9\\u00df\\ud801\\udc28 1\\\"\",\"list\":[\"x\",\"\\u0436\"]",
         "{\"txt\":\"AÉß𐐀 1\\\"\",\"list\":[\"X\",\"Ж\"]", 0, 0},
        {"txt, u", "nulls: keep\nsteps:\n  - lower: txt\n  - upper: [u]\n",
         "\"txt\":\"ÀB\",\"u\":\"00000000-0000-0000-0000-0000000000ab\"",
         "{\"txt\":\"àb\",\"u\":\"00000000-0000-0000-0000-0000000000AB\"", 0, 0},
        {"txt", "nulls: keep\nsteps:\n  - lower: txt\n", "", "{\"txt\":null", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

static void casts(void **state)
{
    static const struct {
        const char *value, *to, *want; /* NULL: bad */
    } rows[] = {
        {"1.50", "string", "\"1.50\""},
        {"true", "string", "\"true\""},
        {"\"x\"", "string", "\"x\""},
        {"{a: [1, b]}", "string", "\"{\\\"a\\\":[1,\\\"b\\\"]}\""},
        {"null", "string", "null"},
        {"\"123456789012345678901234567890\"", "integer", "123456789012345678901234567890"},
        {"\"007\"", "integer", "7"},
        {"\"-0\"", "integer", "0"},
        {"\"\"", "integer", NULL},
        {"\" 5\"", "integer", NULL},
        {"\"5.0\"", "integer", NULL},
        {"\"1e3\"", "integer", NULL},
        {"5.00", "integer", "5"},
        {"1.2e3", "integer", "1200"},
        {"-120e-1", "integer", "-12"},
        {"5.5", "integer", NULL},
        {"true", "integer", NULL},
        {"[]", "integer", NULL},
        {"null", "integer", "null"},
        {"\"1.50\"", "number", "1.50"},
        {"\"-1e+400\"", "number", "-1e+400"},
        {"\"01\"", "number", NULL},
        {"\".5\"", "number", NULL},
        {"\"NaN\"", "number", NULL},
        {"7", "number", "7"},
        {"\"TRUE\"", "boolean", "true"},
        {"\"fAlse\"", "boolean", "false"},
        {"0", "boolean", "false"},
        {"1", "boolean", "true"},
        {"2", "boolean", NULL},
        {"\"yes\"", "boolean", NULL},
        {"false", "boolean", "false"},
    };
    char rest[300], want[300];
    struct step_case c = {"txt", rest, "\"txt\":\"\"", want, 0, 0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool compound = *rows[i].value == '[';
        /* a constant list is known to be none: it comes through JSON, then */
        snprintf(rest, sizeof rest,
                 "nulls: keep\nsteps:\n  - drop: [txt]\n  - const: {v: %s%s%s}\n%s"
                 "  - cast: {field: v, to: %s}\n",
                 compound ? "\"" : "", rows[i].value, compound ? "\"" : "",
                 compound ? "  - parse_json: {field: v}\n" : "", rows[i].to);
        snprintf(want, sizeof want,
                 rows[i].want ? "{\"v\":%s"
                              : "bad_cast: field v: the value "
                                "can't be cast",
                 rows[i].want);
        check(&c);
    }
    static const struct step_case rules[] = {
        {"txt", "steps:\n  - cast: {field: txt, to: integer, bad: -1}\n", "\"txt\":\"x\"",
         "{\"txt\":-1", 0, 0},
        {"txt", "steps:\n  - cast: {field: txt, to: integer, bad: omit}\n", "\"txt\":\"x\"", "", 0,
         0},
        {"num", "steps:\n  - cast: {field: s, from: num, to: string}\n", "\"num\":5",
         "{\"num\":5,\"s\":\"5\"", 0, 0},
    };
    CHECK_ALL(rules);
}

static void defaults_flags_nulls(void **state)
{
    static const struct step_case cases[] = {
        {"num, txt", "nulls: keep\nsteps:\n  - default: {num: 0, txt: none, more: [1]}\n",
         "\"txt\":\"\"", "{\"num\":0,\"txt\":\"\",\"more\":[1]", 0, 0},
        {"num", "nulls: keep\nsteps:\n  - default: {num: 0}\n", "\"num\":4", "{\"num\":4", 0, 0},
        /* flag */
        {"num", "nulls: keep\nsteps:\n  - flag: {field: f, from: num, ge: 4}\n", "\"num\":4",
         "{\"num\":4,\"f\":true", 0, 0},
        {"num", "nulls: keep\nsteps:\n  - flag: {field: f, from: num, gt: 4}\n", "\"num\":4",
         "{\"num\":4,\"f\":false", 0, 0},
        {"num", "nulls: keep\nsteps:\n  - flag: {field: f, from: num, lt: 4.5}\n", "\"num\":4",
         "{\"num\":4,\"f\":true", 0, 0},
        {"dbl", "nulls: keep\nsteps:\n  - flag: {field: f, from: dbl, le: 4}\n", "\"dbl\":\"4.0\"",
         "{\"dbl\":4.0,\"f\":true", 0, 0},
        {"big", "nulls: keep\nsteps:\n  - flag: {field: f, from: big, eq: 9007199254740993}\n",
         "\"big\":9007199254740992", "{\"big\":9007199254740992,\"f\":false", 0, 0},
        {"num", "nulls: keep\nsteps:\n  - flag: {field: f, from: num, ge: 4}\n", "",
         "{\"num\":null", 0, 0},
        {"num", "nulls: keep\nsteps:\n  - flag: {field: f, from: num, ge: 4, if_null: false}\n", "",
         "{\"num\":null,\"f\":false", 0, 0},
        {"txt", "nulls: keep\nsteps:\n  - flag: {field: txt, from: txt, eq: yes}\n",
         "\"txt\":\"yes\"", "{\"txt\":true", 0, 0},
        {"txt, num", "nulls: keep\nsteps:\n  - flag: {field: txt, from: num, ge: 1}\n",
         "\"txt\":\"gone\"", "{\"num\":null", 0, 0},
        /* nulls and empties when written */
        {"num, txt",
         "nulls: {default: omit, txt: keep, x: keep}\nsteps:\n  - copy: {x: num}\n"
         "  - to_json: {field: y, from: num}\n",
         "", "{\"txt\":null,\"x\":null", 0, 0},
        {"num, txt", "nulls: {default: keep, txt: omit}\nsteps:\n  - lower: txt\n", "",
         "{\"num\":null", 0, 0},
        {"txt", "empty_collections: omit\nsteps:\n  - parse_json: {field: txt}\n", "\"txt\":\"[]\"",
         "", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

static void times(void **state)
{
#define AT      "\"ts\":\"2024-03-31 20:15:09.007Z\""
#define FORM(f) "timestamps: {default: iso_ms_utc, ts: " f "}\n"
    static const struct step_case cases[] = {
        {"ts", "timestamps: iso_ms_utc\n", AT, "{\"ts\":\"2024-03-31T20:15:09.007Z\"", 0, 0},
        {"ts", "timestamps: epoch_ms\n", AT, "{\"ts\":1711916109007", 0, 0},
        {"ts", "timestamps: {default: epoch_ms, ts: iso_ms_utc}\n", AT,
         "{\"ts\":\"2024-03-31T20:15:09.007Z\"", 0, 0},
        {"ts", FORM("{pattern: yyyy-MM-dd, tz: Asia/Kolkata}"), AT, "{\"ts\":\"2024-04-01\"", 0, 0},
        {"ts", FORM("{pattern: \"yyyy-MM-dd HH:mm:ss:SSSZ\", tz: Asia/Kolkata}"), AT,
         "{\"ts\":\"2024-04-01 01:45:09:007+0530\"", 0, 0},
        {"ts", FORM("{pattern: \"yyyy-MM-dd'T'HH:mm:ssXXX\", tz: Europe/Berlin}"), AT,
         "{\"ts\":\"2024-03-31T22:15:09+02:00\"", 0, 0},
        {"ts", FORM("{pattern: \"HH''mmXXX\"}"), AT, "{\"ts\":\"20'15Z\"", 0, 0},
        {"ts", "nulls: keep\n" FORM("{pattern: yyyy}"), "", "{\"ts\":null", 0, 0},
        {"ts", "nulls: omit\n" FORM("{pattern: yyyy}"), "", "", 0, 0},
        /* far from now: by the zone's last rule */
        {"ts", FORM("{pattern: \"dd HH Z\", tz: America/New_York}"),
         "\"ts\":\"2055-07-01 12:00:00.000Z\"", "{\"ts\":\"01 08 -0400\"", 0, 0},
        {"ts", FORM("{pattern: \"dd HH Z\", tz: Australia/Sydney}"),
         "\"ts\":\"2055-01-01 12:00:00.000Z\"", "{\"ts\":\"01 23 +1100\"", 0, 0},
        {"ts", FORM("{pattern: \"yyyy-MM-dd HH\", tz: America/New_York}"),
         "\"ts\":\"1969-12-31 23:00:00.000Z\"", "{\"ts\":\"1969-12-31 18\"", 0, 0},
        /* a copy has the same form, a step sees it */
        {"ts",
         FORM("{pattern: yyyy}") "steps:\n  - copy: {x: ts}\n  - cast: {field: n, from: ts, "
                                 "to: integer}\n",
         AT, "{\"ts\":\"2024\",\"x\":\"2024\",\"n\":2024", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

static void conditions(void **state)
{
    static const struct step_case cases[] = {
        {"num", "where: {num: 1}\n", "\"num\":1", "{\"num\":1", 0, 0},
        {"num", "where: {num: 1}\n", "\"num\":2", "filtered", 0, 0},
        {"num", "where: {num: [1, 2.0]}\n", "\"num\":2", "{\"num\":2", 0, 0},
        {"num", "where: {num: 1}\n", "", "filtered", 0, 0},
        {"flag", "where: {flag: false}\n", "", "filtered", 0, 0},
        {"flag", "where: {flag: false}\n", "\"flag\":false", "{\"flag\":false", 0, 0},
        {"flag", "nulls: omit\nwhere: {flag: [null, true]}\n", "", "", 0, 0},
        {"txt, num", "where: {txt: \"1\", num: [1, 3]}\n", "\"txt\":\"1\",\"num\":3",
         "{\"num\":3,\"txt\":\"1\"", 0, 0},
        {"txt", "rename: {txt: T}\nwhere: {T: a}\nsteps:\n  - const: {T: b}\n", "\"txt\":\"a\"",
         "{\"T\":\"b\"", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].columns, "txt, num") != 0) /* columns come in the order named */
            check(&cases[i]);
}

#define LOOKUP(more)                                                                               \
    "nulls: keep\nsteps:\n  - lookup: {field: o, table: org, key: {id: \"{org}\"}, take: "         \
    "name" more "}\n"

static void lookups(void **state)
{
    static const struct step_case cases[] = {
        {"org", LOOKUP(""), "\"org\":\"o1\"", "{\"org\":\"o1\",\"o\":\"One\"", 0, 0},
        {"org", LOOKUP(""), "\"org\":\"o2\"", "{\"org\":\"o2\",\"o\":null", 0, 0},
        {"org", LOOKUP(""), "\"org\":\"o3\"", "{\"org\":\"o3\",\"o\":\"\"", 0, 0},
        {"org", LOOKUP(""), "\"org\":\"zz\"",
         "lookup_missing: field o: the row that it is made of is not there", 0, 0},
        {"org", LOOKUP(""), "", "lookup_missing: field o: the row that it is made of is not there",
         0, 0},
        {"org", LOOKUP(", missing: omit"), "\"org\":\"zz\"", "{\"org\":\"zz\"", 0, 1},
        {"org", LOOKUP(", missing: omit"), "\"org\":\"\"", "{\"org\":\"\"", 0, 0},
        {"org", LOOKUP(", missing: omit"), "", "{\"org\":null", 0, 0},
        {"org", LOOKUP(", missing: null"), "\"org\":\"zz\"", "{\"org\":\"zz\",\"o\":null", 0, 1},
        {"org", LOOKUP(", missing: \"\""), "\"org\":\"zz\"", "{\"org\":\"zz\",\"o\":\"\"", 0, 1},
        /* an existing field is replaced, or goes */
        {"org, txt",
         "steps:\n  - lookup: {field: txt, table: org, key: {id: \"{org}\"}, take: "
         "size, missing: omit}\n",
         "\"org\":\"zz\",\"txt\":\"t\"", "{\"org\":\"zz\"", 0, 1},
        {"org, txt",
         "steps:\n  - lookup: {field: txt, table: org, key: {id: \"{org}\"}, take: "
         "tags, missing: omit}\n",
         "\"org\":\"o1\",\"txt\":\"t\"", "{\"org\":\"o1\",\"txt\":[\"a\"]", 0, 0},
        /* keys of other types, in any order; a template; one that can't be */
        {"txt, u",
         "steps:\n  - lookup: {field: v, table: counted, key: {u: \"{u}\", n: "
         "\"{txt}\"}, take: v}\n  - drop: [txt, u]\n",
         "\"txt\":\"5\",\"u\":\"00000000-0000-0000-0000-000000000001\"", "{\"v\":\"five\"", 0, 0},
        {"txt",
         "steps:\n  - lookup: {field: v, table: counted, key: {u: "
         "\"00000000-0000-0000-0000-00000000000{txt}\", n: \"5\"}, take: v}\n  - drop: [txt]\n",
         "\"txt\":\"1\"", "{\"v\":\"five\"", 0, 0},
        {"txt, u",
         "steps:\n  - lookup: {field: v, table: counted, key: {u: \"{u}\", n: "
         "\"{txt}\"}, take: v, missing: omit}\n",
         "\"txt\":\"five\",\"u\":\"00000000-0000-0000-0000-000000000001\"",
         "bad_key: what the mapping makes for column n of another table is no value of its type", 0,
         0},
        /* the key is what another lookup found: two rounds */
        {"txt",
         "steps:\n  - parse_json: {field: txt}\n  - cast: {field: k, from: txt, to: "
         "string}\n  - lookup: {field: a, table: org, key: {id: \"o{k}\"}, take: size}\n  - "
         "lookup: {field: b, table: counted, key: {n: \"5\", u: "
         "\"00000000-0000-0000-0000-00000000000{k}\"}, take: v}\n  - drop: [txt, k]\n",
         "\"txt\":\"1\"", "{\"a\":7,\"b\":\"five\"", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

static void children(void **state)
{
#define C(word, more)                                                                              \
    "nulls: omit\nsteps:\n  - " word ": {field: c, table: child, by: {pid: \"{id}\"}" more "}\n"
    static const struct step_case cases[] = {
        {"txt", C("children", ", columns: [seq, kind]"), "",
         "{\"c\":[{\"seq\":1,\"kind\":1},{\"seq\":2,\"kind\":2},{\"seq\":3,\"kind\":1}]", 0, 0},
        {"txt", C("children", ", columns: [seq, deleted], where: {deleted: false}"), "",
         "{\"c\":[{\"seq\":1,\"deleted\":false}]", 0, 0},
        {"txt",
         C("children", ", columns: [seq, kind], where: {K: [1]}, rename: {kind: K}, each: [drop: "
                       "[K]]"),
         "", "{\"c\":[{\"seq\":1},{\"seq\":3}]", 0, 0},
        {"txt",
         C("children", ", columns: [seq, org], each: [lookup: {field: o, table: org, key: {id: "
                       "\"{org}\"}, take: name, missing: omit}]"),
         "",
         "{\"c\":[{\"seq\":1,\"org\":\"o1\",\"o\":\"One\"},{\"seq\":2,\"org\":\"o2\"},{\"seq\":3,"
         "\"org\":\"none\"}]",
         0, 1},
        {"txt",
         C("children", ", columns: [seq, org], each: [lookup: {field: o, table: org, key: {id: "
                       "\"{org}\"}, take: name}]"),
         "", "lookup_missing: field o: the row that it is made of is not there", 0, 0},
        /* children inside children, and a lookup in them: three rounds */
        {"txt",
         C("children",
           ", columns: [pid, seq], each: [children: {field: g, table: grand, by: {pid: "
           "\"{pid}\", seq: \"{seq}\"}, columns: [k, org], each: [lookup: {field: o, table: org, "
           "key: {id: \"{org}\"}, take: name, missing: \"-\"}, drop: [org]]}, drop: [pid]]"),
         "",
         "{\"c\":[{\"seq\":1,\"g\":[{\"k\":\"a\",\"o\":\"One\"},{\"k\":\"b\",\"o\":\"\"}]},"
         "{\"seq\":2,\"g\":[]},{\"seq\":3,\"g\":[{\"k\":\"c\",\"o\":\"-\"}]}]",
         0, 0},
        {"txt", C("first", ", columns: [seq]"), "", "{\"c\":{\"seq\":1}", 0, 0},
        {"txt", C("first", ", columns: [seq, kind], where: {kind: 2}"), "",
         "{\"c\":{\"seq\":2,\"kind\":2}", 0, 0},
        {"txt", C("first", ", columns: [seq, kind], where: {kind: 7}"), "", "", 0, 1},
        {"txt", C("first", ", columns: [seq, kind], where: {kind: 7}, missing: {a: 1}"), "",
         "{\"c\":{\"a\":1}", 0, 1},
        {"txt", C("first", ", columns: [seq, kind], where: {kind: 7}, missing: error"), "",
         "lookup_missing: field c: the row that it is made of is not there", 0, 0},
        {"txt", C("only", ", columns: [seq, kind], where: {kind: 2}"), "",
         "{\"c\":{\"seq\":2,\"kind\":2}", 0, 0},
        {"txt", C("only", ", columns: [seq]"), "",
         "several_rows: field c: there is more than one row", 0, 0},
    };
    static const struct step_case by_text[] = {
        /* by a field that is null, empty, or has no rows; a partition with static columns only */
        {"txt",
         "nulls: omit\nsteps:\n  - children: {field: c, table: child, by: {pid: \"{txt}\"}}\n", "",
         "{\"c\":[]", 0, 0},
        {"txt",
         "nulls: omit\nsteps:\n  - children: {field: txt, table: child, by: {pid: \"{txt}\"}}\n",
         "\"txt\":\"\"", "{\"txt\":[]", 0, 0},
        {"txt",
         "nulls: omit\nsteps:\n  - children: {field: txt, table: child, by: {pid: \"{txt}\"}}\n",
         "\"txt\":\"static\"", "{\"txt\":[]", 0, 0},
        {"txt",
         "empty_collections: omit\nsteps:\n  - children: {field: txt, table: child, by: {pid: "
         "\"{txt}\"}}\n",
         "\"txt\":\"none\"", "", 0, 0},
        {"txt",
         "nulls: keep\nempty_collections: keep\nsteps:\n  - children: {field: txt, table: "
         "child, by: {pid: \"{txt}\"}, each: [parse_json: {field: js, bad: []}]}\n",
         "\"txt\":\"q\"",
         "{\"txt\":[{\"pid\":\"q\",\"seq\":9,\"deleted\":false,\"js\":[],\"kind\":null,\"list\":[],"
         "\"org\":null}]",
         1, 0},
        {"txt",
         "nulls: keep\nsteps:\n  - children: {field: txt, table: child, by: {pid: \"{txt}\", "
         "seq: \"9\"}, columns: [js], each: [parse_json: {field: js}]}\n",
         "\"txt\":\"q\"",
         "bad_json: field js: its text is no JSON of the kind that the mapping "
         "wants",
         0, 0},
        {"txt",
         "nulls: keep\nsteps:\n  - first: {field: txt, table: child, by: {pid: \"{txt}\"}, "
         "missing: null}\n",
         "\"txt\":\"\"", "{\"txt\":null", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
    CHECK_ALL(by_text);
}

#define BITS(id, more)                                                                             \
    "nulls: omit\nsteps:\n  - bit_flags: {field: num, config: {table: settings, key: {id: " id     \
    "}, column: value, path: fields}" more "}\n"

static void bit_flags(void **state)
{
    static const struct step_case cases[] = {
        {"num", BITS("types", ""), "\"num\":2", "{\"num\":2,\"num2\":true,\"isSchool\":true", 0, 0},
        {"num", BITS("types", ""), "\"num\":5", "{\"num\":5,\"isBoard\":true", 0, 0},
        {"num", BITS("types", ""), "\"num\":7", "{\"num\":7,\"num2\":true,\"isSchool\":true", 0, 0},
        {"num", BITS("types", ""), "\"num\":1", "{\"num\":1", 0, 0},
        {"num", BITS("types", ""), "", "", 0, 0},
        {"num", BITS("absent", ""), "\"num\":2", "{\"num\":2", 0, 1},
        {"num", BITS("absent", ""), "", "", 0, 0},
        {"num", BITS("null", ", missing: error"), "\"num\":2",
         "lookup_missing: field num: the row that it is made of is not there", 0, 0},
        {"num", BITS("bad", ""), "\"num\":2",
         "bad_config: field num: the table of its flags is no JSON", 0, 0},
        {"num", BITS("odd", ""), "\"num\":2",
         "bad_config: field num: the table of its flags has no list at the path", 0, 0},
        /* names that Elasticsearch takes apart; that others write */
        {"num", BITS("types", ""), "\"num\":32",
         "bad_config: field num: one of its flags is \"a.b\", which has a dot, which makes an "
         "object of it",
         0, 0},
        {"num", BITS("types", ""), "\"num\":64",
         "bad_config: field num: one of its flags is \"_id\", which has Elasticsearch's own "
         "meaning",
         0, 0},
        {"num", BITS("types", ""), "\"num\":16", "{\"num\":16,\"kept\":true,\"ok\":true", 0, 0},
        {"num", "versioning: sequence\npreserve: [other, kept]\n" BITS("types", ""), "\"num\":16",
         "bad_config: field num: one of its flags is \"kept\", which the mapping preserves", 0, 0},
        {"num", "versioning: sequence\npreserve: [other, kept]\n" BITS("types", ""), "\"num\":2",
         "{\"num\":2,\"num2\":true,\"isSchool\":true", 0, 0},
        /* a flag of a field's name replaces it; steps see that; a later step wins */
        {"num, txt", BITS("types", "") "  - copy: {x: txt}\n", "\"num\":8,\"txt\":\"t\"",
         "{\"num\":8,\"txt\":true,\"x\":true", 0, 0},
        {"num, txt", BITS("types", "") "  - const: {txt: c}\n", "\"num\":8,\"txt\":\"t\"",
         "{\"num\":8,\"txt\":\"c\"", 0, 0},
        {"num, txt", BITS("types", "") "  - drop: [txt]\n", "\"num\":8,\"txt\":\"t\"", "{\"num\":8",
         0, 0},
        {"num, txt",
         "steps:\n  - drop: [txt]\n"
         "  - bit_flags: {field: num, config: {table: settings, "
         "key: {id: types}, column: value, path: fields}}\n",
         "\"num\":8,\"txt\":\"t\"", "{\"num\":8,\"txt\":true", 0, 0},
    };

    (void)state;
    CHECK_ALL(cases);
}

/* Equal keys are read once, and what is known at the same time in one round. */
static void reads_are_few(void **state)
{
    static const char rest[] =
        "steps:\n"
        "  - children: {field: c, table: child, by: {pid: \"{id}\"}, columns: [seq, org], each: ["
        "lookup: {field: o, table: org, key: {id: \"{org}\"}, take: name, missing: omit}]}\n"
        "  - lookup: {field: a, table: org, key: {id: \"{org}\"}, take: name}\n"
        "  - lookup: {field: b, table: org, key: {id: \"{org}\"}, take: name}\n"
        "  - lookup: {field: s, table: org, key: {id: \"{org}\"}, take: size}\n";
    struct made got;

    (void)state;
    make("org", rest, "{\"id\":\"p\",\"org\":\"o1\"}", &got);
    assert_int_equal(world.rounds, 2);
    assert_int_equal(world.reads, 5); /* children; o1 twice, by two statements; o2, none */
    assert_string_equal(got.text,
                        "{\"id\":\"p\",\"org\":\"o1\",\"c\":[{\"seq\":1,\"org\":\"o1\",\"o\":"
                        "\"One\"},{\"seq\":2,\"org\":\"o2\",\"o\":null},{\"seq\":3,\"org\":"
                        "\"none\"}],\"a\":\"One\",\"b\":\"One\",\"s\":7}");
    assert_int_equal(got.counts.lookup_missing, 1);
}

/* A partition as one document: key and static columns, and its rows. */
static void partitions(void **state)
{
    static const struct test_column columns[] = {
        {"pid", &text_type, COLUMN_PARTITION_KEY}, {"seq", &int_type, COLUMN_CLUSTERING},
        {"title", &text_type, COLUMN_STATIC},      {"n", &int_type, COLUMN_REGULAR},
        {"org", &text_type, COLUMN_REGULAR},
    };
    static const struct {
        const char *rest, *want;
    } rows[] = {
        {"", "{\"pid\":\"p\",\"title\":\"T\",\"items\":[{\"seq\":1,\"n\":5,\"org\":\"o1\"},"
             "{\"seq\":2,\"n\":6,\"org\":null}]}"},
        {", columns: [n, org], each: [lookup: {field: name, table: org, key: {id: \"{org}\"}, "
         "take: "
         "name, missing: omit}]",
         "{\"pid\":\"p\",\"title\":\"T\",\"items\":[{\"n\":5,\"org\":\"o1\",\"name\":\"One\"},"
         "{\"n\":6,\"org\":null}]}"},
        {", columns: [seq]}\nwhere: {n: 6}\n#", NULL},
        {", columns: [seq, n]}\nrename: {n: N}\nwhere: {N: 6}\nsteps: [{copy: {id: _id}}]\n#",
         "{\"pid\":\"p\",\"title\":\"T\",\"items\":[{\"seq\":2,\"N\":6}],\"id\":\"p\"}"},
        {", columns: [seq, n]}\nwhere: {n: 7}\n#",
         "filtered: no row fulfils the mapping's conditions"},
    };
    const struct plan_tables tables = {world_find, &world};

    (void)state;
    struct schema *t = test_schema("ks", "part", columns, 5);
    world.tables[world.count++] = (struct world_table){
        t, json("[{\"pid\":\"p\",\"title\":\"T\",\"seq\":1,\"n\":5,\"org\":\"o1\"},"
                "{\"pid\":\"p\",\"title\":\"T\",\"seq\":2,\"n\":6}]")};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct json_counts counts = {0};
        struct fetched fetched;
        struct plan_work work;
        struct buf doc, id;
        AUTO_STR char *yaml =
            xsprintf("object: part\nsource: {keyspace: ks, table: part, key: [pid, seq]}\n"
                     "target: {index: i}\nrows: {field: items%s}\n",
                     rows[i].rest);
        AUTO(mapping) struct mapping *m = mapping_parse(slice_str(yaml), "m.yaml", &err);
        if (!rows[i].want) { /* n is no column of the rows */
            assert_null(m ? plan_compile_with(m, t, &tables, &err) : NULL);
            continue;
        }
        AUTO(plan) struct plan *p = m ? plan_compile_with(m, t, &tables, &err) : NULL;
        if (!p)
            fail_msg("%s\n%s", err.text, yaml);
        assert_string_equal(plan_read_text(p),
                            "SELECT DISTINCT \"pid\", \"title\" FROM \"ks\".\"part\" WHERE "
                            "\"pid\" = ?");
        fetched_init(&fetched, 1 << 20);
        plan_work_init(&work, 8 << 20);
        buf_init(&doc, 1 << 20);
        buf_init(&id, 100);
        struct slice *cells = world_cells(&world, p, json("{\"pid\":\"p\",\"title\":\"T\"}"));
        assert_true(plan_id(p, cells, &id, &err));
        world_fetch(&world, p, cells, buf_slice(&id), &fetched, &work);
        if (!plan_make(p, cells, buf_slice(&id), &fetched, &work, &doc, &counts, &err))
            buf_printf(&doc, "%s: %s", work.reason, err.text);
        if (strcmp(buf_cstr(&doc), rows[i].want) != 0)
            fail_msg("want %s\ngot  %s", rows[i].want, buf_cstr(&doc));
        buf_fini(&doc);
        buf_fini(&id);
        plan_work_fini(&work);
        fetched_fini(&fetched);
    }
}

static void mistakes(void **state)
{
    static const struct {
        const char *columns, *rest, *want;
    } rows[] = {
        {"txt", "steps:\n  - parse_json: {field: tx}\n",
         "parse_json: there is no field \"tx\" at this step; did you mean \"txt\""},
        {"num", "steps:\n  - parse_json: {field: num}\n",
         "parse_json needs text; field \"num\" is int"},
        {"u", "steps:\n  - parse_json: {field: u}\n", "parse_json needs text; field \"u\" is uuid"},
        {"list", "steps:\n  - parse_json_values: {field: list}\n",
         "parse_json_values needs a map of texts, or of maps of texts; field \"list\" is "
         "list<text>"},
        {"txt", "steps:\n  - flag: {field: f, from: txt, ge: 4}\n",
         "flag needs a number; field \"txt\" is text"},
        {"num", "steps:\n  - lower: num\n", "lower needs text; field \"num\" is int"},
        {"num", "steps:\n  - const: {c: [1]}\n  - split: {field: c, by: x}\n",
         "split needs text; field \"c\" is an array"},
        {"map", "steps:\n  - cast: {field: map, to: integer}\n",
         "cast needs a single value; field \"map\" is map<text, text>"},
        {"num", "steps:\n  - drop: [num]\n  - cast: {field: num, to: string}\n",
         "cast: there is no field \"num\" at this step"},
        {"num", "steps:\n  - drop: [nums]\n",
         "drop: there is no field \"nums\" at this step; did you mean \"num\""},
        {"txt", "where: {tx: 1}\n", "where: there is no field \"tx\"; did you mean \"txt\""},
        {"txt", "where: {txt: 1}\n", "where: field \"txt\" is text, which none of the values is"},
        {"txt", "nulls: {default: keep, tx: omit}\n",
         "nulls: there is no field \"tx\"; did you mean \"txt\""},
        {"txt", "timestamps: {default: iso_ms_utc, txt: epoch_ms}\n",
         "timestamps: field \"txt\" is text, not timestamp"},
        {"ts", "timestamps: {default: iso_ms_utc, ts: {pattern: yy}}\n",
         "timestamps: \"yy\" of the pattern is not known; allowed: yyyy MM dd HH mm ss SSS Z XXX "
         "and 'text'"},
        {"ts", "timestamps: {default: iso_ms_utc, ts: {pattern: yyyy, tz: Asia/Nowhere}}\n",
         "timestamps: unknown time zone \"Asia/Nowhere\": a name such as Asia/Kolkata is wanted, "
         "and the system's tzdata"},
        {"num", "versioning: sequence\npreserve: all\n" BITS("types", ""),
         "preserve: all can't be where bit_flags makes fields that are not known before; name "
         "those to preserve"},
        {"org", "steps:\n  - lookup: {field: o, table: orgs, key: {id: \"{org}\"}, take: name}\n",
         "there is no table ks.orgs"},
        {"org", "steps:\n  - lookup: {field: o, table: org, key: {id: \"{org}\"}, take: nam}\n",
         "ks.org has no column \"nam\"; did you mean \"name\""},
        {"org", "steps:\n  - lookup: {field: o, table: org, key: {name: \"{org}\"}, take: name}\n",
         "lookup: \"name\" is no column of the primary key of ks.org"},
        {"org", "steps:\n  - lookup: {field: o, table: org, key: {id: \"{ogr}\"}, take: name}\n",
         "lookup: there is no field \"ogr\" at this step; did you mean \"org\""},
        {"org", "steps:\n  - lookup: {field: o, table: counted, key: {n: \"1\"}, take: v}\n",
         "lookup: a value for \"u\" is missing, which is of the partition key of ks.counted"},
        {"org", "steps:\n  - children: {field: o, table: grand, by: {pid: \"1\", k: \"2\"}}\n",
         "children: a value for \"seq\" is missing, which is of the partition key of ks.grand"},
        {"org",
         "steps:\n  - children: {field: c, table: child, by: {pid: \"1\"}, columns: [seq], "
         "where: {kind: 1}}\n",
         "where: there is no field \"kind\""},
        {"org",
         "steps:\n  - children: {field: c, table: child, by: {pid: \"1\"}, each: [copy: {x: "
         "nope}]}\n",
         "copy: there is no field \"nope\" at this step"},
        {"org",
         "steps:\n  - children: {field: c, table: child, by: {pid: \"1\"}, rename: {kind: "
         "org}}\n",
         "columns \"kind\" and \"org\" both become field \"org\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct mapping *m;
        AUTO_STR char *yaml = xsprintf(HEAD, rows[i].columns, rows[i].rest);
        struct plan *p = compile(yaml, &m, &err);

        if (p || err.kind != ERR_USER || !strstr(err.text, rows[i].want) ||
            strcmp(strstr(err.text, rows[i].want), rows[i].want) != 0 ||
            strncmp(err.text, "m.yaml:", 7) != 0)
            fail_msg("%s\nwant %s\ngot  %s", yaml, rows[i].want, err.text);
        plan_free(p);
        mapping_free(m);
    }
}

/* A step whose tables can't be read says so. */
static void without_other_tables(void **state)
{
    struct err err = {0};

    (void)state;
    AUTO_STR char *yaml = xsprintf(HEAD, "org", LOOKUP(""));
    AUTO(mapping) struct mapping *m = mapping_parse(slice_str(yaml), "m.yaml", &err);
    assert_non_null(m);
    assert_null(plan_compile(m, world.tables[0].schema, &err));
    assert_non_null(strstr(err.text, "the step needs table ks.org, which can't be read here"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_json),
        cmocka_unit_test(parse_json_depth),
        cmocka_unit_test(parse_json_values),
        cmocka_unit_test(texts),
        cmocka_unit_test(casts),
        cmocka_unit_test(defaults_flags_nulls),
        cmocka_unit_test(times),
        cmocka_unit_test(conditions),
        cmocka_unit_test(lookups),
        cmocka_unit_test(children),
        cmocka_unit_test(bit_flags),
        cmocka_unit_test(reads_are_few),
        cmocka_unit_test(partitions),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(without_other_tables),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, start, stop);
}
