#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "mapping/plan.h"
#include "tables.h"

static struct arena mem;
static struct plan_work work;

static int start(void **state)
{
    (void)state;
    arena_init(&mem, 32 << 20);
    plan_work_init(&work, 1 << 20);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    arena_fini(&mem);
    plan_work_fini(&work);
    return 0;
}

static struct schema *thing_table(void)
{
    static const struct test_column columns[] = {
        {"a", &text_type, COLUMN_PARTITION_KEY}, {"b", &int_type, COLUMN_PARTITION_KEY},
        {"c", &text_type, COLUMN_CLUSTERING},    {"d", &int_type, COLUMN_CLUSTERING},
        {"flag", &boolean_type, COLUMN_REGULAR}, {"list", &list_type, COLUMN_REGULAR},
        {"map", &map_type, COLUMN_REGULAR},      {"num", &double_type, COLUMN_REGULAR},
        {"txt", &text_type, COLUMN_REGULAR},
    };
    return test_schema("ks", "thing", columns, sizeof columns / sizeof *columns);
}

#define THING                                                                                      \
    "object: thing\nsource: {keyspace: ks, table: thing}\ntarget: {index: i, id: \"{a}_{c}\"}\n"

/* A mapping, its table and its plan. */
struct fixture {
    struct mapping *m;
    struct schema *s;
    struct plan *p;
    struct err err;
};

static void fixture_init(struct fixture *f, const char *yaml)
{
    *f = (struct fixture){.s = thing_table()};
    f->m = mapping_parse(slice_str(yaml), "m.yaml", &f->err);
    if (f->m)
        f->p = plan_compile(f->m, f->s, &f->err);
}

static void fixture_fini(struct fixture *f)
{
    plan_free(f->p);
    mapping_free(f->m);
    schema_free(f->s);
}

static const struct json *json(const char *text)
{
    struct err err = {0};
    const struct json *v = json_parse(slice_str(text), &mem, &err);

    assert_string_equal(err.text, "");
    return v;
}

/* ---- what Sunbird's services write */

static void check_sample(const struct json *sample, const char *profile, struct schema *s)
{
    char path[1024];
    struct err err = {0};
    struct json_counts counts = {0};
    const struct json *row = json_get(sample, "rows")->first->first;
    const struct json *want = json_get(sample, "document");
    struct buf id, doc;

    snprintf(path, sizeof path, TEST_DATA "/../../profiles/sunbird/%s.yaml", profile);
    AUTO(mapping) struct mapping *m = mapping_load(path, &err);
    assert_string_equal(err.text, "");
    AUTO(plan) struct plan *p = plan_compile(m, s, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(plan_column_count(p), s->column_count);
    struct slice *cells = encode_row(s, row, &mem);
    buf_init(&id, 4096);
    buf_init(&doc, 1 << 20);
    assert_true(plan_id(p, cells, &id, &err));
    assert_true(slice_eq(buf_slice(&id), json_get_string(want, "_id")));
    assert_true(plan_make(p, cells, buf_slice(&id), NULL, &work, &doc, &counts, &err));
    const struct json *got = json_parse(buf_slice(&doc), &mem, &err);
    assert_non_null(got);
    if (!json_equal(got, json_get(want, "_source")))
        fail_msg("%s\n%s", buf_cstr(&id), buf_cstr(&doc));
    assert_int_equal(got->count, json_get(want, "_source")->count);
    buf_fini(&id);
    buf_fini(&doc);
}

static void sunbird_documents(void **state)
{
    FILE *f = fopen(TEST_DATA "/sunbird-documents.json", "re");
    static char text[1 << 20];
    struct err err = {0};
    unsigned batches = 0, locations = 0;

    (void)state;
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    arena_reset(&mem);
    const struct json *root = json_parse(slice_of(text, n), &mem, &err);
    assert_non_null(root);
    AUTO(schema) struct schema *batch = course_batch();
    AUTO(schema) struct schema *location = location_table();
    json_each (sample, json_get(root, "samples")) {
        bool is_batch = slice_is(json_get_string(sample, "object"), "batch");
        batches += is_batch;
        locations += !is_batch;
        check_sample(sample, is_batch ? "batch" : "location", is_batch ? batch : location);
    }
    assert_int_equal(batches, 3);
    assert_int_equal(locations, 2);
}

/* ---- documents */

#define ROW "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2}"
#define FULL                                                                                       \
    "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2,\"flag\":true,\"list\":[\"x\"],\"map\":{\"k\":"      \
    "\"v\"},\"txt\":\"\"}"

static void documents(void **state)
{
    static const struct {
        const char *yaml, *row, *document;
    } cases[] = {
        {"", ROW,
         "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2,\"flag\":null,\"list\":null,\"map\":null,"
         "\"num\":null,\"txt\":null}"},
        {"nulls: omit\n", ROW, "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2}"},
        {"nulls: omit\nempty_collections: keep\n", ROW,
         "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2,\"list\":[],\"map\":{}}"},
        {"nulls: keep\nempty_collections: omit\n", ROW,
         "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2,\"flag\":null,\"num\":null,\"txt\":null}"},
        {"nulls: omit\n", FULL,
         "{\"a\":\"A\",\"b\":1,\"c\":\"C\",\"d\":2,\"flag\":true,\"list\":[\"x\"],\"map\":{\"k\":"
         "\"v\"},\"txt\":\"\"}"},
        /* steps in written order: what a step finds is what those before it left */
        {"nulls: omit\nsteps:\n  - copy: {x: txt}\n  - const: {txt: 1}\n  - copy: {y: txt}\n  - "
         "drop: [a, b, d, flag, list, map, num]\n",
         FULL, "{\"c\":\"C\",\"txt\":1,\"x\":\"\",\"y\":1}"},
        {"nulls: omit\nsteps:\n  - drop: [txt]\n  - const: {txt: null}\n  - drop: [a, b, c, d, "
         "flag, list, map, num]\n",
         FULL, "{\"txt\":null}"},
        {"nulls: omit\nrename: {a: B, b: A}\nsteps:\n  - copy: {b: _id}\n  - drop: [c, d, flag, "
         "list, map, num, txt]\n",
         FULL, "{\"B\":\"A\",\"A\":1,\"b\":\"the-id\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        char yaml[1024];
        struct buf doc;
        struct json_counts counts = {0};
        /* the id is of no matter here, and must fit the renamed fields */
        snprintf(yaml, sizeof yaml, "object: thing\nsource: {table: thing}\ntarget: {index: i}\n%s",
                 cases[i].yaml);
        arena_reset(&mem);
        fixture_init(&f, yaml);
        assert_string_equal(f.err.text, "");
        buf_init(&doc, 1 << 16);
        struct slice *row = encode_row(f.s, json(cases[i].row), &mem);
        /* only columns that are used are read, in the schema's order */
        struct slice cells[16];
        uint16_t n = 0;
        for (uint16_t c = 0; c < f.s->column_count; c++) {
            char name[32];
            snprintf(name, sizeof name, "\"%s\"", f.s->columns[c].name);
            const char *from = strstr(plan_read_text(f.p), " FROM ");
            const char *at = strstr(plan_read_text(f.p), name);
            if (at && at < from)
                cells[n++] = row[c];
        }
        assert_int_equal(n, plan_column_count(f.p));
        assert_true(plan_make(f.p, cells, slice_str("the-id"), NULL, &work, &doc, &counts, &f.err));
        const struct json *got = json_parse(buf_slice(&doc), &mem, &f.err);
        assert_non_null(got);
        if (!json_equal(got, json(cases[i].document)) ||
            got->count != json(cases[i].document)->count)
            fail_msg("case %zu: %s", i, buf_cstr(&doc));
        buf_fini(&doc);
        fixture_fini(&f);
    }
}

static void altered_and_bad_values(void **state)
{
    struct fixture f;
    struct buf doc;
    struct json_counts counts = {0};

    (void)state;
    arena_reset(&mem);
    fixture_init(&f, THING);
    buf_init(&doc, 1 << 16);
    buf_add_str(&doc, "before");
    struct slice *cells = encode_row(f.s, json(ROW), &mem);
    cells[7] = slice_of("\x7f\xf8\0\0\0\0\0\0", 8); /* NaN */
    assert_true(plan_make(f.p, cells, slice_str("x"), NULL, &work, &doc, &counts, &f.err));
    assert_int_equal(counts.nan_to_null, 1);
    cells[7] = slice_of("abc", 3);
    buf_cut(&doc, 6);
    assert_false(plan_make(f.p, cells, slice_str("x"), NULL, &work, &doc, &counts, &f.err));
    assert_int_equal(f.err.kind, ERR_REJECT);
    assert_non_null(strstr(f.err.text, "column num"));
    assert_int_equal(doc.len, 6);
    buf_fini(&doc);
    buf_init(&doc, 8);
    assert_false(plan_make(f.p, encode_row(f.s, json(ROW), &mem), slice_str("x"), NULL, &work, &doc,
                           &counts, &f.err));
    assert_string_equal(f.err.text, "the document is too large");
    buf_fini(&doc);
    fixture_fini(&f);
}

/* ---- statements and ids */

static void statements(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, THING "steps:\n  - drop: [list, map, num, txt]\n");
    assert_string_equal(
        plan_read_text(f.p),
        "SELECT \"a\", \"b\", \"c\", \"d\", \"flag\" FROM \"ks\".\"thing\" WHERE \"a\" = ? AND "
        "\"b\" = ? AND \"c\" = ? AND \"d\" = ?");
    assert_string_equal(
        plan_keys_text(f.p, 3),
        "SELECT \"a\", \"b\", \"c\", \"d\" FROM \"ks\".\"thing\" WHERE \"a\" = ? AND \"b\" = ? "
        "AND \"c\" = ?");
    fixture_fini(&f);
}

static void ids(void **state)
{
    static const struct {
        const char *id, *row, *want;
    } cases[] = {
        {"id: \"{a}_{c}\"", ROW, "A_C"},
        {"id: \"x{d}y\"", ROW, "x2y"},
        {"id: \"{a}\"", "{\"a\":\"ü:% \",\"b\":1,\"c\":\"C\",\"d\":2}", "ü:% "},
        {"index: i", ROW, "A:1:C:2"},
        {"index: i", "{\"a\":\"a:b%c\",\"b\":-1,\"c\":\"ü\",\"d\":2}", "a%3Ab%25c:-1:ü:2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        struct buf id;
        char yaml[256];
        snprintf(yaml, sizeof yaml, "object: thing\nsource: {table: thing}\ntarget: {%s%s}\n",
                 strncmp(cases[i].id, "index", 5) ? "index: i, " : "", cases[i].id);
        arena_reset(&mem);
        fixture_init(&f, yaml);
        assert_string_equal(f.err.text, "");
        buf_init(&id, 4096);
        assert_true(plan_id(f.p, encode_row(f.s, json(cases[i].row), &mem), &id, &f.err));
        assert_string_equal(buf_cstr(&id), cases[i].want);
        buf_fini(&id);
        fixture_fini(&f);
    }
}

static void ids_that_may_collide(void **state)
{
    static const struct {
        const char *id;
        bool unique;
    } rows[] = {{"{a}_{c}", false}, {"{a}{b}{c}{d}", true}, {"{d}-{c}-{b}-{a}", true}};
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        AUTO_STR char *yaml = xsprintf("object: thing\nsource: {keyspace: ks, table: thing}\n"
                                       "target: {index: i, id: \"%s\"}\n",
                                       rows[i].id);
        fixture_init(&f, yaml);
        assert_non_null(f.p);
        assert_int_equal(plan_id_unique(f.p), rows[i].unique);
        fixture_fini(&f);
    }
    fixture_init(&f, "object: thing\nsource: {keyspace: ks, table: thing}\ntarget: {index: i}\n");
    assert_true(plan_id_unique(f.p));
    fixture_fini(&f);
}

static void long_ids(void **state)
{
    struct fixture plain, mapped;
    static char text[600];
    struct slice key[] = {slice_of(text, 509), slice_of("\0\0\0\1", 4), slice_of("", 0),
                          slice_of("\0\0\0\1", 4)};
    struct buf id;

    (void)state;
    memset(text, 'x', sizeof text);
    fixture_init(&plain, "object: thing\nsource: {table: thing}\ntarget: {index: i}\n");
    fixture_init(&mapped, THING);
    buf_init(&id, 4096);
    assert_true(plan_id(plain.p, key, &id, &plain.err)); /* 509 + ":1::1" */
    assert_int_equal(id.len, 66);
    assert_memory_equal(id.p, "h:", 2);
    buf_reset(&id);
    assert_true(plan_id(mapped.p, key, &id, &mapped.err));
    assert_int_equal(id.len, 510);
    buf_reset(&id);
    key[0].n = 512;
    assert_false(plan_id(mapped.p, key, &id, &mapped.err));
    assert_string_equal(mapped.err.text, "the _id has 513 bytes; Elasticsearch takes 512");
    assert_int_equal(id.len, 0);
    buf_fini(&id);
    fixture_fini(&plain);
    fixture_fini(&mapped);
}

/* ---- mistakes that only the table shows */

static void mistakes(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {THING "rename: {nam: x}\n",
         "m.yaml:4:10: ks.thing has no column \"nam\"; did you mean \"num\""},
        {THING "rename: {txt: num}\n",
         "m.yaml:4:15: columns \"num\" and \"txt\" both become field \"num\""},
        {THING "rename: {num: txt}\n",
         "m.yaml:4:15: columns \"num\" and \"txt\" both become field \"txt\""},
        {THING "rename: {num: a.b}\n",
         "m.yaml:4:15: field \"a.b\" has a dot, which makes an object of it; rename it"},
        {THING "rename: {num: _id}\n",
         "m.yaml:4:15: field \"_id\" has Elasticsearch's own meaning; rename it"},
        {THING "steps:\n  - const: {_source: 1}\n",
         "m.yaml:5:13: field \"_source\" has Elasticsearch's own meaning; rename it"},
        {THING "steps:\n  - copy: {x: tct}\n",
         "m.yaml:5:15: copy: there is no field \"tct\" at this step; did you mean \"txt\""},
        {THING "steps:\n  - drop: [txt]\n  - copy: {x: txt}\n",
         "m.yaml:6:15: copy: there is no field \"txt\" at this step"},
        {THING "steps:\n  - drop: [pasword]\n",
         "m.yaml:5:12: drop: there is no field \"pasword\" at this step"},
        {THING "select: [b, c]\n",
         "m.yaml:4:10: select leaves out \"a\", which comes first in the primary key"},
        {THING "select: [a]\n",
         "m.yaml:4:10: select must name the whole partition key; \"b\" is missing"},
        {THING "select: [txt]\n", "m.yaml:4:10: select: \"txt\" is no column of the primary key"},
        {"object: x\nsource: {table: thing, key: [a, c]}\ntarget: {index: i}\n",
         "m.yaml:2:33: column 2 of the primary key of ks.thing is \"b\", not \"c\""},
        {"object: x\nsource: {table: thing, key: [a, b]}\ntarget: {index: i}\n",
         "m.yaml:2:30: the primary key of ks.thing has 4 columns, the mapping names 2"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, id: \"{txt}\"}\n",
         "m.yaml:3:24: the id needs field \"txt\", which is no column of the primary key; the "
         "id is known before the row is read"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, routing: \"r-{txt\"}\n",
         "m.yaml:3:29: the routing \"r-{txt\" has a brace without its pair"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, routing: \"{txt}\"}\n"
         "versioning: sequence\n",
         "m.yaml:3:29: the routing needs field \"txt\", which is no column of the primary key; "
         "under "
         "versioning: sequence the document is looked up before the row is read"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i}\npreserve: [own]\n"
         "versioning: read_time\n",
         "m.yaml:4:12: preserve needs versioning: sequence"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, id: \"{q}\"}\n",
         "m.yaml:3:24: the id needs field \"q\", which is not there; did you mean \"a\""},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, id: \"{a\"}\n",
         "m.yaml:3:24: the id \"{a\" has a brace without its pair"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, id: \"a}\"}\n",
         "m.yaml:3:24: the id \"a}\" has a brace without its pair"},
        {"object: x\nsource: {table: thing}\ntarget: {index: i, id: \"one\"}\n",
         "m.yaml:3:24: the id \"one\" is the same for every row"},
        {"object: x\nsource: {table: thing, columns: [txt, nim]}\ntarget: {index: i}\n",
         "m.yaml:2:39: ks.thing has no column \"nim\"; did you mean \"num\""},
        {"object: x\nsource: {table: thing, columns: [age(txt)]}\ntarget: {index: i}\n",
         "m.yaml:2:34: unknown function \"age\"; allowed: writetime, ttl, maxwritetime"},
        {"object: x\nsource: {table: thing, columns: [ttl(c)]}\ntarget: {index: i}\n",
         "m.yaml:2:34: column \"c\" has no ttl: it is part of the primary key"},
        {"object: x\nsource: {table: thing, columns: [TXT, txt]}\ntarget: {index: i}\n",
         "m.yaml:2:17: columns \"txt\" and \"txt\" both become field \"txt\""},
        {"object: x\nsource: {table: thing, columns: [txt]}\nrename: {ttl(txt): t}\n"
         "target: {index: i}\n",
         "m.yaml:3:10: ks.thing has no column \"ttl(txt)\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        fixture_init(&f, cases[i].text);
        assert_null(f.p);
        assert_int_equal(f.err.kind, ERR_USER);
        assert_string_equal(f.err.text, cases[i].error);
        fixture_fini(&f);
    }
}

/* ---- what an id asks for */

static void good_queries(void **state)
{
    static const struct {
        const char *select, *id;
        uint16_t bound;
        uint32_t count;
        const char *cells; /* texts and numbers, by blanks */
        uint16_t after;
    } cases[] = {
        {"", "\"x,7\"", 2, 1, "x 7", 0},
        {"", "\"x,-7\"", 2, 1, "x -7", 0},
        {"select: [a, b, c]\n", "\"x,7,p,q\"", 3, 1, "x 7 p,q", 0},
        {"", "{\"A\":\"x\",\"b\":7}", 2, 1, "x 7", 0},
        {"", "{\"b\":\"7\",\"a\":\"x\",\"c\":\"y\",\"d\":1}", 4, 1, "x 7 y 1", 0},
        {"", "{\"a\":[\"x\",\"y\"],\"b\":[1,2]}", 2, 4, "x 1 x 2 y 1 y 2", 0},
        {"", "{\"a\":\"x\",\"b\":7,\"d\":1}", 2, 1, "x 7", 1},
        {"", "{\"a\":\"x\",\"b\":7,\"c\":\"y\",\"Flag\":true,\"txt\":[\"p\",\"\"]}", 3, 1, "x 7 y",
         2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        struct plan_query q;
        const char *reason = "";
        char yaml[512], got[256] = "";
        snprintf(yaml, sizeof yaml, THING "%s", cases[i].select);
        arena_reset(&mem);
        fixture_init(&f, yaml);
        assert_string_equal(f.err.text, "");
        assert_true(plan_query(f.p, json(cases[i].id), &mem, &q, &reason, &f.err));
        assert_int_equal(q.bound, cases[i].bound);
        assert_int_equal(q.count, cases[i].count);
        assert_int_equal(q.after_count, cases[i].after);
        for (uint32_t n = 0; n < q.count * q.bound; n++) {
            size_t len = strlen(got);
            struct slice c = q.cells[n];
            if (n % q.bound == 1 || n % q.bound == 3)
                snprintf(got + len, sizeof got - len, "%s%d", n ? " " : "", (int32_t)load_u32(c.p));
            else
                snprintf(got + len, sizeof got - len, "%s%.*s", n ? " " : "", (int)c.n,
                         (const char *)c.p);
        }
        assert_string_equal(got, cases[i].cells);
        fixture_fini(&f);
    }
}

static void bad_queries(void **state)
{
    static const struct {
        const char *id, *reason, *text;
    } cases[] = {
        {"7", "bad_id", "an id is a string, or an object of columns"},
        {"null", "bad_id", "an id is a string, or an object of columns"},
        {"[\"x\"]", "bad_id", "an id is a string, or an object of columns"},
        {"\"x\"", "bad_id", "2 values with commas between them are wanted"},
        {"\"\"", "bad_id", "2 values with commas between them are wanted"},
        {"\",7\"", "empty_id", "empty value for a"},
        {"\"x,y\"", "bad_value", NULL},
        {"{}", "no_partition_key", "has no value for a of the partition key"},
        {"{\"nope\":\"x\"}", "unknown_column", "ks.thing has no column \"nope\""},
        {"{\"list\":\"x\",\"a\":\"x\",\"b\":1}", "bad_value", NULL},
        {"{\"num\":1,\"a\":\"x\",\"b\":1}", "unknown_column",
         "ks.thing has no column \"num\" in its documents"},
        {"{\"a\":\"x\",\"A\":\"y\",\"b\":1}", "bad_id", "column a is there twice"},
        {"{\"a\":null,\"b\":1}", "bad_value", "a value of a is null, a list or an object"},
        {"{\"a\":[],\"b\":1}", "empty_id", "an empty list for a"},
        {"{\"a\":[[\"x\"]],\"b\":1}", "bad_value", "a value of a is null, a list or an object"},
        {"{\"a\":\"x\",\"b\":1.5}", "bad_value", NULL},
        {"{\"a\":\"x\",\"b\":99999999999}", "bad_value", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        struct plan_query q;
        const char *reason = "";
        arena_reset(&mem);
        fixture_init(&f, THING "steps:\n  - drop: [num]\n");
        assert_false(plan_query(f.p, json(cases[i].id), &mem, &q, &reason, &f.err));
        assert_int_equal(f.err.kind, ERR_REJECT);
        assert_string_equal(reason, cases[i].reason);
        if (cases[i].text)
            assert_string_equal(f.err.text, cases[i].text);
        fixture_fini(&f);
    }
}

/* Without the partition key all that is there is conditions. */
static void queries_that_scan(void **state)
{
    static const struct {
        const char *select, *id;
        int lacks, after;
    } cases[] = {
        {"", "{\"a\":\"x\"}", 1, 1},
        {"", "{\"c\":\"x\"}", 0, 1},
        {"", "{\"c\":[\"x\",\"y\"],\"b\":7}", 0, 2},
        {"select: [c]\n", "\"x\"", 0, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        struct plan_query q;
        const char *reason = "";
        char yaml[512];
        snprintf(yaml, sizeof yaml, THING "%s", cases[i].select);
        arena_reset(&mem);
        fixture_init(&f, yaml);
        assert_string_equal(f.err.text, "");
        assert_true(plan_query(f.p, json(cases[i].id), &mem, &q, &reason, &f.err));
        assert_true(q.scans);
        assert_int_equal(q.lacks, cases[i].lacks);
        assert_int_equal(q.count, 0);
        assert_int_equal(q.bound, 0);
        assert_int_equal(q.after_count, cases[i].after);
        fixture_fini(&f);
    }
}

static void too_many_keys(void **state)
{
    struct fixture f;
    struct plan_query q;
    const char *reason = "";
    struct buf b;

    (void)state;
    arena_reset(&mem);
    fixture_init(&f, THING);
    buf_init(&b, 1 << 20);
    for (int half = 0; half < 2; half++) {
        buf_add_str(&b, half ? "],\"b\":[1" : "{\"a\":[\"x\"");
        for (int i = 0; i < 101; i++)
            buf_printf(&b, half ? ",%d" : ",\"%d\"", i);
    }
    buf_add_str(&b, "]}");
    assert_false(plan_query(f.p, json(buf_cstr(&b)), &mem, &q, &reason, &f.err));
    assert_string_equal(reason, "too_many_keys");
    buf_fini(&b);
    fixture_fini(&f);
}

static void conditions(void **state)
{
    struct fixture f;
    struct plan_query q;
    const char *reason = "";

    (void)state;
    arena_reset(&mem);
    fixture_init(&f, THING);
    assert_true(plan_query(f.p, json("{\"a\":\"A\",\"b\":1,\"d\":[2,3],\"txt\":\"\"}"), &mem, &q,
                           &reason, &f.err));
    struct slice *empty = encode_row(f.s, json(FULL), &mem),
                 *null = encode_row(f.s, json(ROW), &mem);
    assert_int_equal(q.after_count, 2);
    assert_true(plan_filter_holds(&q.after[0], empty));
    assert_true(plan_filter_holds(&q.after[1], empty));
    assert_false(plan_filter_holds(&q.after[1], null)); /* null is not empty */
    fixture_fini(&f);
}

/* ---- preserve */

static void preserves(void **state)
{
    static const struct {
        const char *yaml, *field;
        bool want;
    } cases[] = {
        {"preserve: [p]\n", "p", true},
        {"preserve: [p]\n", "q", false},
        {"preserve: [txt]\n", "txt", false}, /* ours, also where the row has no value for it */
        {"nulls: omit\npreserve: all\n", "txt", false},
        {"preserve: all\n", "q", true},
        {"preserve: all\nsteps:\n  - drop: [txt]\n", "txt", false}, /* dropped on purpose */
        {"preserve: [txt]\nsteps:\n  - drop: [txt]\n", "txt",
         true}, /* left to another writer on purpose */
        {"preserve: all\nrename: {txt: t}\n", "txt", true},
        {"", "q", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        char yaml[512];
        snprintf(yaml, sizeof yaml, THING "%s", cases[i].yaml);
        fixture_init(&f, yaml);
        assert_string_equal(f.err.text, "");
        assert_int_equal(plan_preserves(f.p, slice_str(cases[i].field)), cases[i].want);
        assert_int_equal(plan_has_preserve(f.p), cases[i].yaml[0] != 0);
        fixture_fini(&f);
    }
}

static void routing_is_made_of_any_column(void **state)
{
    (void)state;
    struct fixture f;
    struct buf out;

    fixture_init(&f, "object: x\nsource: {table: thing}\n"
                     "target: {index: i, routing: \"{txt}-{b}\", type: t, pipeline: p}\n"
                     "versioning: none\nsteps:\n  - drop: txt\n");
    assert_string_equal(f.err.text, "");
    assert_int_equal(plan_versioning(f.p), VERSIONING_NONE);
    assert_string_equal(plan_type(f.p), "t");
    assert_string_equal(plan_pipeline(f.p), "p");
    assert_true(plan_has_routing(f.p));
    struct slice cells[9] = {{NULL, 0}};
    for (uint16_t i = 0; i < plan_column_count(f.p); i++) {
        const char *name = f.s->columns[plan_columns(f.p)[i]].name;
        if (!strcmp(name, "txt"))
            cells[i] = slice_str("here");
        if (!strcmp(name, "b"))
            cells[i] = slice_of("\0\0\0\7", 4);
    }
    buf_init(&out, 100);
    assert_true(plan_routing(f.p, cells, &out, &f.err));
    assert_string_equal(buf_cstr(&out), "here-7");
    buf_fini(&out);
    fixture_fini(&f);
}

static void without_a_file_every_column_is_copied(void **state)
{
    (void)state;
    AUTO(schema) struct schema *s = thing_table();
    AUTO(mapping) struct mapping *m = mapping_default(s, "things");
    struct err err = {0};
    struct buf out;

    AUTO(plan) struct plan *p = plan_compile(m, s, &err);
    assert_string_equal(err.text, "");
    assert_string_equal(plan_index(p), "things");
    assert_int_equal(plan_versioning(p), VERSIONING_READ_TIME);
    assert_int_equal(plan_column_count(p), s->column_count);
    assert_false(plan_has_routing(p));
    /* A partition with static columns only: the partition key is the id. */
    const struct slice key[4] = {slice_str("a:b"), slice_of("\0\0\0\1", 4)};
    buf_init(&out, 100);
    assert_true(plan_id(p, key, &out, &err));
    assert_string_equal(buf_cstr(&out), "a%3Ab:1");
    buf_fini(&out);
}

/* ---- functions of columns */

static void columns_and_functions(void **state)
{
    struct fixture f;
    struct json_counts counts = {0};
    struct buf out;
    int64_t version = 0;

    (void)state;
    fixture_init(&f, "object: x\nsource: {table: thing, columns: [writetime(txt), txt, "
                     "'TTL( map )', WriteTime(list)]}\n"
                     "rename: {writetime(txt): written}\nnulls: omit\nversioning: write_time\n"
                     "target: {index: i, id: \"{a}{d}\", routing: \"{c}\"}\n");
    assert_string_equal(f.err.text, "");
    assert_string_equal(plan_read_text(f.p),
                        "SELECT \"a\", \"b\", \"c\", \"d\", \"txt\", writetime(\"txt\"), "
                        "ttl(\"map\"), writetime(\"list\"), writetime(\"flag\"), "
                        "maxwritetime(\"list\"), maxwritetime(\"map\"), writetime(\"num\") "
                        "FROM \"ks\".\"thing\" WHERE \"a\" = ? AND \"b\" = ? AND \"c\" = ? AND "
                        "\"d\" = ?");
    assert_int_equal(plan_column_count(f.p), 12);
    struct slice cells[12] = {
        [0] = slice_str("A"),
        [1] = slice_of("\0\0\0\1", 4),
        [2] = slice_str("C"),
        [3] = slice_of("\0\0\0\2", 4),
        [4] = slice_str("T"),
        [5] = slice_of("\0\0\0\0\0\0\1\0", 8),
        [6] = slice_of("\0\0\0\2\0\0\0\4\0\0\0\7\xff\xff\xff\xff", 16),
    };
    buf_init(&out, 1 << 16);
    assert_true(plan_make(f.p, cells, SLICE_NULL, NULL, &work, &out, &counts, &f.err));
    assert_string_equal(buf_cstr(&out), "{\"written\":256,\"txt\":\"T\",\"TTL( map )\":[7,null]}");
    assert_true(plan_write_version(f.p, cells, &version, &f.err));
    assert_int_equal(version, 256);
    cells[10] = slice_of("\0\0\0\0\0\0\1\1", 8); /* a collection's */
    assert_true(plan_write_version(f.p, cells, &version, &f.err));
    assert_int_equal(version, 257);
    cells[10] = SLICE_NULL;
    cells[5] = slice_of("\xff\xff\xff\xff\xff\xff\xff\xfb", 8); /* USING TIMESTAMP -5 */
    assert_true(plan_write_version(f.p, cells, &version, &f.err));
    assert_int_equal(version, 0);
    cells[5] = SLICE_NULL;
    assert_false(plan_write_version(f.p, cells, &version, &f.err));
    assert_int_equal(f.err.kind, ERR_REJECT);
    assert_string_equal(f.err.text, "no cell of the row has a time of writing");
    buf_reset(&out);
    assert_true(plan_routing(f.p, cells, &out, &f.err));
    assert_string_equal(buf_cstr(&out), "C");
    buf_fini(&out);
    fixture_fini(&f);
}

static void what_has_no_time_of_writing(void **state)
{
    static const struct type counter_type = {.kind = TYPE_COUNTER};
    static const struct test_column columns[] = {{"id", &text_type, COLUMN_PARTITION_KEY},
                                                 {"n", &counter_type, COLUMN_REGULAR}};
    struct err err = {0};

    (void)state;
    AUTO(schema) struct schema *s = test_schema("ks", "counts", columns, 2);
    AUTO(mapping) struct mapping *m = mapping_default(s, "i");
    s->counter = true;
    m->versioning = VERSIONING_WRITE_TIME;
    assert_null(plan_compile(m, s, &err));
    assert_string_equal(err.text,
                        "versioning write_time: ks.counts has no column with a time of writing "
                        "(counters have none); read_time takes any table");
    m->versioning = VERSIONING_READ_TIME;
    assert_true(mapping_set_columns(m, (const char *[]){"id", "ttl(n)", NULL}, &err));
    assert_null(plan_compile(m, s, &err));
    assert_string_equal(err.text, "column \"n\" has no ttl: it is a counter");
    assert_false(mapping_set_columns(m, (const char *[]){"n", "n", NULL}, &err));
    assert_string_equal(err.text, "column \"n\" is there twice");
}

/* ---- the default mapping */

static const struct test_column plain[] = {
    {"id", &int_type, COLUMN_PARTITION_KEY},
    {"a_name_of_exactl", &text_type, COLUMN_REGULAR},
    {"e", &text_type, COLUMN_REGULAR},
    {"with \"quotes\" and longer than two steps", &text_type, COLUMN_REGULAR},
};

static const char *plain_document(const struct plan *p, const struct slice *cells, struct buf *out)
{
    struct json_counts counts = {0};
    struct err err = {0};

    buf_reset(out);
    assert_true(plan_make(p, cells, SLICE_NULL, NULL, &work, out, &counts, &err));
    return buf_cstr(out);
}

static void nulls_are_left_out(void **state)
{
    struct slice t = slice_str("t"), n = slice_of("\0\0\0\7", 4);
    struct json_counts counts = {0};
    struct err err = {0};
    struct buf out;

    (void)state;
    AUTO(schema) struct schema *s = test_schema("ks", "plain", plain, 4);
    AUTO(mapping) struct mapping *m = mapping_default(s, "i");
    AUTO(plan) struct plan *p = plan_compile(m, s, &err);
    buf_init(&out, 1 << 16);
    assert_string_equal(plain_document(p, (struct slice[]){n, t, t, t}, &out),
                        "{\"id\":7,\"a_name_of_exactl\":\"t\",\"e\":\"t\","
                        "\"with \\\"quotes\\\" and longer than two steps\":\"t\"}");
    assert_string_equal(plain_document(p, (struct slice[4]){[2] = t}, &out), "{\"e\":\"t\"}");
    assert_string_equal(plain_document(p, (struct slice[4]){slice_of("", 0), [2] = t}, &out),
                        "{\"e\":\"t\"}");
    assert_string_equal(plain_document(p, (struct slice[4]){0}, &out), "{}");
    buf_reset(&out);
    buf_add_str(&out, "before");
    assert_false(plan_make(p, (struct slice[4]){slice_str("abc")}, SLICE_NULL, NULL, &work, &out,
                           &counts, &err));
    assert_string_equal(err.text, "column id: 3 bytes that are no int");
    assert_string_equal(buf_cstr(&out), "before");
    buf_fini(&out);
    for (size_t max = 1; max < 100; max++) {
        err_clear(&err);
        buf_init(&out, max);
        bool ok = plan_make(p, (struct slice[4]){n, slice_str("some text")}, SLICE_NULL, NULL,
                            &work, &out, &counts, &err);
        assert_int_equal(err.kind, ok ? ERR_NONE : ERR_REJECT);
        assert_int_equal(out.len, ok ? 39 : 0);
        assert_true(out.full != ok);
        assert_true(ok || max < 39 + 64); /* what may be copied too much */
        buf_fini(&out);
    }
}

static void a_name_that_is_refused_says_how_to_rename_it(void **state)
{
    static const struct test_column columns[] = {{"id", &text_type, COLUMN_PARTITION_KEY},
                                                 {"_id", &int_type, COLUMN_REGULAR}};
    struct err err = {0};

    (void)state;
    AUTO(schema) struct schema *s = test_schema("ks", "t", columns, 2);
    AUTO(mapping) struct mapping *m = mapping_default(s, "i");
    assert_null(plan_compile(m, s, &err));
    assert_string_equal(err.text, "field \"_id\" has Elasticsearch's own meaning; rename it in a "
                                  "mapping file: cass2es init writes one");
}

/* A partition with static columns only: whatever the mapping says of ids. */
static void an_id_without_clustering_key(void **state)
{
    struct fixture f;
    struct buf out;

    (void)state;
    fixture_init(&f, THING);
    buf_init(&out, 1 << 10);
    const struct slice key[4] = {slice_str("100%:"), slice_of("\0\0\0\1", 4)};
    assert_true(plan_id(f.p, key, &out, &f.err));
    assert_string_equal(buf_cstr(&out), "100%25%3A:1");
    buf_fini(&out);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sunbird_documents),
        cmocka_unit_test(documents),
        cmocka_unit_test(altered_and_bad_values),
        cmocka_unit_test(statements),
        cmocka_unit_test(ids),
        cmocka_unit_test(ids_that_may_collide),
        cmocka_unit_test(long_ids),
        cmocka_unit_test(routing_is_made_of_any_column),
        cmocka_unit_test(without_a_file_every_column_is_copied),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(good_queries),
        cmocka_unit_test(bad_queries),
        cmocka_unit_test(queries_that_scan),
        cmocka_unit_test(too_many_keys),
        cmocka_unit_test(conditions),
        cmocka_unit_test(preserves),
        cmocka_unit_test(columns_and_functions),
        cmocka_unit_test(what_has_no_time_of_writing),
        cmocka_unit_test(nulls_are_left_out),
        cmocka_unit_test(a_name_that_is_refused_says_how_to_rename_it),
        cmocka_unit_test(an_id_without_clustering_key),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
