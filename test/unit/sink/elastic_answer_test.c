/* _bulk answers: what real servers say, and that the quick reader and the tree never disagree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "recorded.h"
#include "sink/elastic_parts.h"

enum { ITEMS_MAX = 64 };

static struct arena data_mem;

struct reading {
    struct elastic_item items[ITEMS_MAX];
    struct elastic_answer answer;
    struct arena mem, problems;
    struct err err;
};
static struct reading quick, tree;

static int start(void **state)
{
    (void)state;
    arena_init(&data_mem, 64 << 20);
    for (int i = 0; i < 2; i++) {
        arena_init(&(i ? &quick : &tree)->mem, 8 << 20);
        arena_init(&(i ? &quick : &tree)->problems, 1 << 20);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    arena_fini(&data_mem);
    for (int i = 0; i < 2; i++) {
        arena_fini(&(i ? &quick : &tree)->mem);
        arena_fini(&(i ? &quick : &tree)->problems);
    }
    return 0;
}

static void reading_reset(struct reading *r, const struct elastic_item *sent, size_t count,
                          bool lean)
{
    arena_reset(&r->mem);
    arena_reset(&r->problems);
    r->err = (struct err){0};
    memcpy(r->items, sent, count * sizeof *sent);
    r->answer = (struct elastic_answer){
        .items = r->items, .count = count, .lean = lean, .problems = &r->problems, .mem = &r->mem};
}

static void assert_same_items(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct elastic_item *a = &quick.items[i], *b = &tree.items[i];
        assert_int_equal(a->verdict, b->verdict);
        if (a->verdict == ELASTIC_OPEN)
            continue;
        assert_int_equal(a->status, b->status);
        assert_int_equal(a->created, b->created);
        assert_int_equal(a->seq_no, b->seq_no);
        assert_int_equal(a->primary_term, b->primary_term);
        assert_int_equal(a->there, b->there);
        assert_int_equal(!a->problem, !b->problem);
        if (!a->problem)
            continue;
        assert_string_equal(a->problem->reason, b->problem->reason);
        assert_string_equal(a->problem->text, b->problem->text);
    }
}

/* Reads by both; true: the quick one was sure. */
static bool read_both(struct slice text, const struct elastic_item *sent, size_t count, bool lean)
{
    reading_reset(&quick, sent, count, lean);
    reading_reset(&tree, sent, count, lean);
    enum elastic_scan scan = elastic_scan_bulk(text, &quick.answer, &quick.err);
    bool ok = elastic_parse_bulk(text, &tree.answer, &tree.err);
    if (scan == ELASTIC_UNSURE) {
        for (size_t i = 0; i < count; i++)
            assert_int_equal(quick.items[i].verdict, ELASTIC_OPEN);
        return false;
    }
    assert_int_equal(ok, scan == ELASTIC_SCANNED);
    assert_int_equal(quick.err.kind, tree.err.kind);
    assert_string_equal(quick.err.text, tree.err.text);
    assert_int_equal(quick.answer.took_ms, tree.answer.took_ms);
    assert_int_equal(quick.answer.pushed_back, tree.answer.pushed_back);
    assert_same_items(count);
    return true;
}

/* ---- what servers say */

/* The actions of a recorded request. */
static size_t sent_items(struct slice body, struct elastic_item *out)
{
    static const char *const ops[] = {"index", "create", "delete"};
    size_t count = 0;

    while (body.n) {
        const uint8_t *end = memchr(body.p, '\n', body.n);
        size_t n = end ? (size_t)(end - body.p) : body.n;
        struct err err = {0};
        const struct json *line = json_parse(slice_of(body.p, n), &data_mem, &err);
        bool source = false;
        for (int op = 0; line && op < 3; op++) {
            const struct json *v = json_get(line, ops[op]);
            if (!v || !json_get(v, "_id"))
                continue;
            out[count++] =
                (struct elastic_item){.op = (uint8_t)op, .id = json_get_string(v, "_id")};
            source = op != ELASTIC_DELETE;
        }
        for (int skip = source; skip >= 0; skip--) {
            end = memchr(body.p, '\n', body.n);
            n = end ? (size_t)(end - body.p) + 1 : body.n;
            body = slice_of(body.p + n, body.n - n);
        }
    }
    return count;
}

/* Every recorded answer to a bulk of ours gives each item a verdict, by either reader; those that
 * were asked for with our filters are read without a tree. */
static void recorded_answers(void **state)
{
    unsigned read = 0, scanned = 0;

    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        arena_reset(&data_mem);
        json_each (a, recorded_load(recorded_servers[s], &data_mem)) {
            struct elastic_item sent[ITEMS_MAX];
            struct slice request = json_get_string(json_get(a, "request"), "body");
            struct slice body = json_get_string(a, "body");
            struct slice path = json_get_string(json_get(a, "request"), "path");
            if (!request.n || !strstr((const char *)path.p, "_bulk") || recorded_status(a) != 200 ||
                strstr((const char *)path.p, "items.*.error&") ||
                slice_is(a->key, "bulk_bad_action") ||
                strstr((const char *)a->key.p, "only_errors"))
                continue;
            size_t count = sent_items(request, sent);
            bool lean = slice_is(a->key, "bulk_lean");
            bool sure = read_both(body, sent, count, lean);
            assert_int_equal(sure, lean || strstr((const char *)a->key.p, "bulk_filtered") != NULL);
            read++;
            scanned += sure;
            if (tree.err.kind != ERR_NONE) { /* the index is away, closed, or must not be written */
                assert_int_not_equal(tree.err.kind, ERR_RETRY);
                continue;
            }
            for (size_t i = 0; i < count; i++)
                assert_int_not_equal(tree.items[i].verdict, ELASTIC_OPEN);
        }
    }
    assert_true(read > 200);
    assert_int_equal(scanned, 3 * RECORDED_SERVERS);
}

static void recorded_verdicts(void **state)
{
    static const struct {
        const char *name;
        size_t item;
        enum elastic_verdict verdict;
        bool created;
        int64_t there;
        const char *reason;
    } cases[] = {
        {"bulk_external_gte_created", 1, ELASTIC_DONE, true, -1, ""},
        {"bulk_external_gte_equal", 0, ELASTIC_DONE, false, -1, ""},
        {"bulk_external_gte_older", 0, ELASTIC_CONFLICT, false, 2000, ""},
        {"bulk_external_gte_older", 1, ELASTIC_DONE, true, -1, ""},
        {"bulk_external_equal", 0, ELASTIC_CONFLICT, false, 2000, ""},
        {"bulk_external_micros_older", 0, ELASTIC_CONFLICT, false, 1795464361123456, ""},
        {"bulk_delete_external_older", 0, ELASTIC_CONFLICT, false, 2000, ""},
        {"bulk_delete_external", 0, ELASTIC_DONE, false, -1, ""},
        {"bulk_after_delete_older", 0, ELASTIC_CONFLICT, false, 3000, ""},
        {"bulk_delete_missing", 0, ELASTIC_GONE, false, -1, ""},
        {"bulk_create_exists", 0, ELASTIC_CONFLICT, false, -1, ""},
        {"bulk_if_seq_no_lost", 0, ELASTIC_CONFLICT, false, -1, ""},
        {"bulk_if_seq_no_missing", 0, ELASTIC_CONFLICT, false, -1, ""},
        {"bulk_lean", 0, ELASTIC_DONE, false, -1, ""},
        {"bulk_lean", 1, ELASTIC_CONFLICT, false, 20, ""},
        {"bulk_unassigned", 0, ELASTIC_LATER, false, -1, "unavailable_shards_exception"},
        {"bulk_block_read_only_allow_delete", 0, ELASTIC_LATER, false, -1,
         "cluster_block_exception"},
        {"bulk_block_write", 0, ELASTIC_LATER, false, -1, "cluster_block_exception"},
    };

    (void)state;
    for (int s = 0; s < RECORDED_SERVERS; s++) {
        arena_reset(&data_mem);
        const struct json *answers = recorded_load(recorded_servers[s], &data_mem);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct elastic_item sent[ITEMS_MAX];
            const struct json *a = json_get(answers, cases[i].name);
            size_t count = sent_items(json_get_string(json_get(a, "request"), "body"), sent);
            read_both(json_get_string(a, "body"), sent, count, !strcmp(cases[i].name, "bulk_lean"));
            const struct elastic_item *item = &tree.items[cases[i].item];
            assert_int_equal(item->verdict, cases[i].verdict);
            assert_int_equal(item->created, cases[i].created);
            assert_int_equal(item->there, cases[i].there);
            assert_string_equal(item->problem ? item->problem->reason : "", cases[i].reason);
            assert_true(item->verdict != ELASTIC_DONE || item->primary_term > 0);
        }
    }
}

/* The id stands in front, and may hold anything. */
static void versions_there(void **state)
{
    static const struct {
        const char *reason;
        int64_t want;
    } cases[] = {
        {"[a]: version conflict, current version [5] is higher than the one provided [3]", 5},
        {"[_doc][a]: version conflict, current version [9223372036854775807] is higher or equal to "
         "the one provided [0]",
         INT64_MAX},
        {"[version conflict, current version [9] is higher than the one provided [1]]: version "
         "conflict, current version [5] is higher than the one provided [3]",
         5},
        {"[version conflict, current version [9] is higher than the one provided [1]]: version "
         "conflict, required seqNo [1], primary term [1]. but no document was found",
         -1},
        {"[a]: version conflict, required seqNo [0], primary term [1]. current document has seqNo "
         "[1] and primary term [1]",
         -1},
        {"[a]: version conflict, document already exists (current version [1])", -1},
        {"current version [] is higher than the one provided [3]", -1},
        {"version conflict, current version [] is higher than the one provided [3]", -1},
        {"version conflict, current version [99999999999999999999] is higher than the one provided "
         "[3]",
         -1},
        {" is higher than the one provided [3]", -1},
        {"]", -1},
        {"", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(elastic_version_there(slice_str(cases[i].reason)), cases[i].want);
}

/* ---- quick reader and tree */

static uint64_t seed;

static uint32_t pick(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void blanks(struct buf *b)
{
    for (uint32_t n = pick(8) ? 0 : pick(3); n; n--)
        buf_add_byte(b, (uint8_t)" \n\t\r"[pick(4)]);
}

static void text(struct buf *b, const char *s)
{
    blanks(b);
    buf_add_str(b, s);
    blanks(b);
}

static void member(struct buf *b, bool *first, const char *key)
{
    text(b, *first ? "" : ",");
    *first = false;
    buf_printf(b, "\"%s\"", key);
    text(b, ":");
}

static const char *const ids[] = {"a", "b\\u0041\\n", "\xc3\xbc", "x y", ""};
static const char *const ids_decoded[] = {"a", "bA\n", "\xc3\xbc", "x y", ""};

static void random_item(struct buf *b, const struct elastic_item *item, size_t id, bool lean)
{
    static const char *const statuses[] = {"200", "201", "404", "409", "429", "503",
                                           "400", "403", "413", "500", "99",  "2e2"};
    static const char *const ops[] = {"index", "create", "delete"};
    static const char *const types[] = {
        "version_conflict_engine_exception", "mapper_parsing_exception", "cluster_block_exception",
        "index_not_found_exception",         "security_exception",       "x\\\"y"};
    static const char *const reasons[] = {
        "[a]: version conflict, current version [7] is higher than the one provided [3]",
        ("[\\u00fc]: version conflict, current version [8] is higher or equal to the one provided "
         "[8]"),
        "failed. Preview of field's value: 'secret'",
        "\xc3\xbc",
        "no such index [x]",
        ""};
    const char *status = statuses[pick(3) ? pick(2) : pick(12)];
    bool first = true, done = !strcmp(status, "200") || !strcmp(status, "201");
    static const char keys[] = "itsnre";
    uint32_t from = pick(6);

    text(b, "{");
    buf_printf(b, "\"%s\"", ops[item->op]);
    text(b, ":");
    text(b, "{");
    for (uint32_t i = 0; i < 6; i++) {
        char key = keys[(i + from) % 6];
        if (key == 'i' && !lean) {
            member(b, &first, "_id");
            buf_printf(b, "\"%s\"", ids[id]);
        } else if (key == 't' && (done || !pick(20)) && pick(40)) {
            member(b, &first, "_primary_term");
            buf_printf(b, "%u", pick(5));
        } else if (key == 's' && pick(60)) {
            member(b, &first, "status");
            buf_add_str(b, status);
        } else if (key == 'n' && done && !lean) {
            member(b, &first, "_seq_no");
            buf_add_str(b, pick(10) ? "123456789012345678" : "0");
        } else if (key == 'r' && !pick(6)) {
            member(b, &first, pick(10) ? "result" : "_version");
            buf_add_str(b, "\"created\"");
        } else if (key == 'e' && (!done || !pick(30))) {
            bool inner = true;
            member(b, &first, "error");
            text(b, "{");
            if (pick(8)) {
                member(b, &inner, "type");
                buf_printf(b, "\"%s\"", types[pick(6)]);
            }
            if (pick(8)) {
                member(b, &inner, "reason");
                buf_printf(b, "\"%s\"", reasons[pick(6)]);
            }
            text(b, "}");
        }
    }
    text(b, "}");
    text(b, "}");
}

static size_t random_answer(struct buf *b, struct elastic_item *sent, bool lean)
{
    size_t count = 1 + pick(6), told = pick(30) ? count : count + pick(3) - 1;
    bool first = true;

    buf_reset(b);
    text(b, "{");
    if (pick(4)) {
        member(b, &first, "took");
        buf_printf(b, "%u", pick(1000));
    }
    if (pick(4)) {
        member(b, &first, "errors");
        buf_add_str(b, pick(2) ? "true" : "false");
    }
    member(b, &first, "items");
    text(b, "[");
    for (size_t i = 0; i < (told > count ? told : count); i++) {
        size_t id = pick(5);
        struct elastic_item item = {.op = (uint8_t)pick(3), .id = slice_str(ids_decoded[id])};
        if (lean)
            item.id = SLICE_NULL;
        if (i < count)
            sent[i] = item;
        if (i >= told)
            continue;
        if (i)
            text(b, ",");
        random_item(b, &item, id, lean);
    }
    text(b, "]");
    text(b, "}");
    return count;
}

static void readers_agree(void **state)
{
    struct elastic_item sent[ITEMS_MAX];
    unsigned sure = 0, sure_broken = 0;
    struct buf b;

    (void)state;
    seed = 4711;
    buf_init(&b, 1 << 16);
    for (int i = 0; i < 20000; i++) {
        bool lean = pick(2);
        size_t count = random_answer(&b, sent, lean);
        sure += read_both(buf_slice(&b), sent, count, lean);
        for (int n = 0; n < 3; n++) { /* and broken by a byte, or cut off */
            size_t at = pick((uint32_t)b.len);
            uint8_t old = b.p[at];
            b.p[at] =
                pick(3) ? (uint8_t)"{}[]\",:0 9\\truefx\x01\xc3"[pick(18)] : (uint8_t)pick(256);
            sure_broken += read_both(buf_slice(&b), sent, count, lean);
            b.p[at] = old;
            read_both(slice_of(b.p, at), sent, count, lean);
        }
    }
    assert_true(sure > 8000); /* it is the tree that must be the exception */
    assert_true(sure_broken > 100);
    buf_fini(&b);
}

/* Runs of items with the very same text, and what ends them. */
static void same_items_are_read_as_one(void **state)
{
#define DONE(op) "{\"" op "\":{\"_primary_term\":3,\"status\":201}}"
    static const char *const answers[] = {
        DONE("index") "," DONE("index") "," DONE("index") "," DONE("index"),
        DONE("index") ", " DONE("index") " ," DONE("index") "," DONE("index") " ",
        DONE("index") "," DONE("index") ",{\"index\":{\"_primary_term\":3,\"status\":200}},"
                                        "{\"index\":{\"_primary_term\":31,\"status\":200}}",
        DONE("index") "," DONE("index") ",{\"index\":{\"status\":429}}," DONE("index"),
        "{\"index\":{\"status\":409}},{\"index\":{\"status\":409}}," DONE("index") "," DONE(
            "index"),
    };
    /* These are refused: too few, too many, another action, cut off. */
    static const char *const wrong[] = {
        DONE("index") "," DONE("index") "," DONE("index"),
        DONE("index") "," DONE("index") "," DONE("index") "," DONE("index") "," DONE("index"),
        DONE("index") "," DONE("index") "," DONE("index") "," DONE("delete"),
        DONE("index") "," DONE("index") "," DONE("index") "," DONE("index") ",",
        DONE("index") "," DONE("index") "," DONE("index") DONE("index"),
    };
#undef DONE
    struct elastic_item sent[4] = {{.op = ELASTIC_INDEX}};
    char text[1000];

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        snprintf(text, sizeof text, "{\"errors\":false,\"items\":[%s]}", answers[i]);
        assert_true(read_both(slice_str(text), sent, 4, true));
        assert_int_equal(quick.err.kind, ERR_NONE);
        assert_int_equal(quick.answer.pushed_back, i == 3);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "{\"errors\":false,\"items\":[%s]}", wrong[i]);
        assert_false(read_both(slice_str(text), sent, 4, true));
        assert_int_equal(tree.err.kind, ERR_RETRY);
    }
    /* Another action's answer at its place. */
    sent[2].op = ELASTIC_DELETE;
    snprintf(text, sizeof text, "{\"errors\":false,\"items\":[%s]}", answers[0]);
    assert_false(read_both(slice_str(text), sent, 4, true));
}

/* A member without a value, a value without a member, one that comes twice: no JSON, or not for the
 * quick reader. */
static void members_are_whole(void **state)
{
#define ITEM "{\"index\":{\"_primary_term\":3,\"status\":201}}"
    static const char *const wrong[] = {
        "{\"errors\":,\"items\":[" ITEM "]}",
        "{\"errors\",\"items\":[" ITEM "]}",
        "{\"items\":[" ITEM "],\"errors\":}",
        "{\"items\":,\"items\":[" ITEM "]}",
        "{\"items\":[,\"items\":[" ITEM "]}",
        "{\"took\":,\"items\":[" ITEM "]}",
        "{\"items\":[" ITEM "],}",
        "{,\"items\":[" ITEM "]}",
    };
    static const char *const twice[] = {
        "{\"items\":[" ITEM "],\"items\":[" ITEM "]}",
        "{\"errors\":true,\"errors\":false,\"items\":[" ITEM "]}",
        "{\"took\":1,\"took\":2,\"items\":[" ITEM "]}",
    };
#undef ITEM
    const struct elastic_item sent[1] = {{.op = ELASTIC_INDEX}};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(read_both(slice_str(wrong[i]), sent, 1, true));
        assert_int_equal(tree.err.kind, ERR_RETRY);
    }
    for (size_t i = 0; i < sizeof twice / sizeof *twice; i++)
        assert_false(read_both(slice_str(twice[i]), sent, 1, true));
}

/* What a server sends for a page is read without a tree; only what went wrong has a text. */
static void problems_are_few(void **state)
{
    static const char answer[] =
        "{\"took\":12,\"errors\":true,\"items\":["
        "{\"index\":{\"_primary_term\":3,\"status\":201}},{\"index\":{\"status\":409,\"error\":{"
        "\"type\":\"version_conflict_engine_exception\",\"reason\":\"[b]: version conflict, "
        "current version [5] is higher than the one provided [3]\"}}},"
        "{\"index\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":"
        "\"failed to parse field [n]. Preview of field's value: 'secret'\"}}}]}";
    const struct elastic_item sent[3] = {{.op = ELASTIC_INDEX}};

    (void)state;
    assert_true(read_both(slice_str(answer), sent, 3, true));
    assert_int_equal(quick.answer.took_ms, 12);
    assert_true(quick.items[0].created);
    assert_int_equal(quick.items[0].primary_term, 3);
    assert_null(quick.items[1].problem);
    assert_int_equal(quick.items[1].there, 5);
    assert_string_equal(quick.items[2].problem->reason, "mapper_parsing_exception");
    assert_string_equal(quick.items[2].problem->text, "failed to parse field [n].");
    assert_false(elastic_read_bulk(slice_str("{\"items\":[{\"index\":{\"status\":201}}]}"),
                                   &(struct elastic_answer){.items = quick.items,
                                                            .count = 1,
                                                            .lean = true,
                                                            .problems = &quick.problems,
                                                            .mem = &quick.mem},
                                   &quick.err));
    assert_string_equal(quick.err.text, "a _bulk answer with a write without _primary_term");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_answers),
        cmocka_unit_test(recorded_verdicts),
        cmocka_unit_test(versions_there),
        cmocka_unit_test(readers_agree),
        cmocka_unit_test(same_items_are_read_as_one),
        cmocka_unit_test(members_are_whole),
        cmocka_unit_test(problems_are_few),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
