/*
 * engine/keyed in the modes that write with versions: two keyed share the stores, `ours`, and
 * `other`, another process, which a test's hook sets to work between any two steps of ours.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "stores.h"

enum { ROWS = 8 };

/* ---- the table: p text, v text; a change of a row has a number */

static struct {
    char p[16], v[32];
    bool live, keyless; /* answered with static columns only */
    int64_t change;
} rows[ROWS];
static int64_t changes;

static int row_find(const char *p)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].p, p))
            return i;
    return -1;
}

static void row_put(const char *p, const char *v)
{
    int i = row_find(p);

    if (i < 0)
        i = row_find("");
    assert_true(i >= 0);
    snprintf(rows[i].p, sizeof rows[0].p, "%s", p);
    snprintf(rows[i].v, sizeof rows[0].v, "%s", v);
    rows[i].live = true;
    rows[i].change = ++changes;
}

static void row_delete(const char *p)
{
    int i = row_find(p);

    if (i < 0)
        return;
    rows[i].live = false;
    rows[i].change = ++changes;
}

static struct column column_list[] = {COLUMN("p", text_type), COLUMN("v", text_type)};
static struct columns key_columns = {.count = 1, .list = column_list},
                      row_columns = {.count = 2, .list = column_list};

void page_fill(struct asked *a, struct page *page)
{
    page->columns = a->whole ? &row_columns : &key_columns;
    for (int i = 0; i < ROWS; i++) {
        if (!rows[i].live || !slice_is(a->values[0], rows[i].p))
            continue;
        add_cell(a, rows[i].p);
        if (a->whole)
            add_cell(a, rows[i].v);
        page->row_count++;
    }
}

/* ---- the fixture */

static struct process ours, other;
static struct brake *brakes[2];
static enum keyed_missing missing;
static int64_t budget_ms;

static void open_one(struct process *p, struct brake **brake)
{
    *brake = brake_new(&(struct brake_options){.clock = &test_clock});
    process_open(
        p, true,
        (struct keyed_options){.missing = missing, .brake = *brake, .retry_budget_ms = budget_ms});
}

static int setup(void **state)
{
    static const struct test_column columns[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                                 {"v", &text_type, COLUMN_REGULAR}};
    const char *versioning = *state ? *state : "read_time";

    stores_open();
    missing = KEYED_REPORT;
    budget_ms = INT64_C(1) << 40;
    if (!strncmp(versioning, "brief:", 6)) {
        budget_ms = 60000;
        versioning += 6;
    }
    if (!strncmp(versioning, "delete:", 7)) {
        missing = KEYED_DELETE;
        versioning += 7;
    }
    memset(rows, 0, sizeof rows);
    changes = 0;
    schemas[0] = test_schema("ks", "t", columns, 2);
    AUTO_STR char *text = xsprintf("object: thing\nsource: {table: t}\ntarget: {index: i}\n"
                                   "versioning: %s\n",
                                   versioning);
    plan_open(text);
    open_one(&ours, &brakes[0]);
    open_one(&other, &brakes[1]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    process_close(&ours);
    process_close(&other);
    brake_free(brakes[0]);
    brake_free(brakes[1]);
    plan_close();
    stores_close();
    return 0;
}

static bool sync_ids(const char *text)
{
    memset(&count, 0, sizeof count);
    return process_sync(&ours, text);
}

static void other_syncs(const char *text)
{
    quiet = true;
    assert_true(process_sync(&other, text));
    quiet = false;
}

#define DOC(v) "{\"p\":\"a\",\"v\":\"" v "\"}"

/* ---- the usual */

static void the_time_of_reading_is_the_version(void **state)
{
    (void)state;
    row_put("a", "1");
    int64_t before = now_us;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_string_equal(doc("a"), DOC("1"));
    assert_true(doc_find("a")->version > before && doc_find("a")->version < now_us);
    assert_int_equal(count.mget, 0);
    assert_int_equal(count.keys, 0);
    int64_t first = doc_find("a")->version;
    row_put("a", "2");
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_true(doc_find("a")->version > first);
    assert_int_equal(count.terms, 0);
}

static void missing_row_is_reported(void **state)
{
    (void)state;
    doc_put_version("a", DOC("1"), 5);
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.totals.missing, 1);
    assert_int_equal(ours.totals.kept, 1);
    assert_false(ours.results[0].ok);
    assert_string_equal(doc("a"), DOC("1"));
    assert_int_equal(count.bulk, 0);
}

/* ---- conflicts */

static void other_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_put("a", "2");
        other_syncs("[\"a\"]");
    }
}

/* Fails without the version: the older row would be written over the newer one. */
static void later_read_wins(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = other_before_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(count.read, 3); /* ours, the other's, and ours once more */
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void other_before_each_bulk(const char *step, unsigned n)
{
    (void)n;
    if (!strcmp(step, "bulk"))
        other_syncs("[\"a\"]");
}

static void second_conflict_is_stale(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = other_before_each_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.stale, 1);
    assert_true(ours.results[0].ok);
    assert_int_equal(ours.totals.counts.documents, 1);
}

static void add_key(enum keyed_task task, const char *p)
{
    struct slice key = slice_str(p);
    struct err err = {0};

    assert_true(keyed_add(ours.keyed, task, &key, 0, 0, &err));
}

static void conflict_of_a_scan_is_stale(void **state)
{
    struct keyed_result sum = {0};
    struct err err = {0};

    (void)state;
    row_put("a", "1");
    hook = other_before_first_bulk;
    keyed_begin(ours.keyed, plan, &sum);
    add_key(KEYED_WRITE_STALE, "a");
    assert_true(keyed_end(ours.keyed, &err));
    assert_int_equal(sum.counts.stale, 1);
    assert_int_equal(sum.counts.documents, 1);
    assert_string_equal(doc("a"), DOC("2"));
}

/* A scan's, whose outcome nobody knows: nothing is left of it, but what others wrote later. */
static void what_was_sent_goes_with_its_row(void **state)
{
    struct keyed_result sum = {0};
    struct err err = {0};

    (void)state;
    row_put("there", "1");
    doc_put_version("a", DOC("1"), now_us);
    doc_put_version("later", DOC("2"), now_us + 4 * SECOND);
    doc_put_version("unsent", DOC("3"), now_us);
    keyed_begin(ours.keyed, plan, &sum);
    add_key(KEYED_WRITE_SENT, "there");
    add_key(KEYED_WRITE_SENT, "a");
    add_key(KEYED_WRITE_SENT, "later");
    add_key(KEYED_WRITE_STALE, "unsent");
    assert_true(keyed_end(ours.keyed, &err));
    assert_int_equal(sum.counts.indexed, 1);
    assert_int_equal(sum.counts.gone, 3);
    assert_string_equal(doc("a"), "absent");
    assert_string_equal(doc("later"), DOC("2"));
    assert_string_equal(doc("unsent"), DOC("3"));
}

/* Fails without GUARD_FOREIGN: taken for stale, the document would never be written again. */
static void foreign_version(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put_version("a", DOC("x"), now_us + INT64_C(3600) * SECOND);
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "foreign_version");
    assert_non_null(strstr(ours.results[0].text, "later than now"));
    assert_string_equal(doc("a"), DOC("x"));
    assert_int_equal(count.bulk, 1);
}

static void slightly_fast_clock(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put_version("a", DOC("x"), now_us + 4 * SECOND);
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.stale, 1);
}

/* ---- resurrection */

static void deleted_elsewhere(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_delete("a");
        other_syncs("[\"a\"]");
        assert_string_equal(doc("a"), "absent");
    }
}

/* Fails without the version of the delete. */
static void older_body_after_a_delete(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put_version("a", DOC("0"), 5);
    hook = deleted_elsewhere;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
}

static void deleted_elsewhere_and_restarted(const char *step, unsigned n)
{
    deleted_elsewhere(step, n);
    if (!strcmp(step, "bulk") && n == 1)
        engine_restart();
}

/* Fails without guard_doubts(): the document comes back for good. */
static void older_body_after_a_delete_and_a_restart(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put_version("a", DOC("0"), 5);
    hook = deleted_elsewhere_and_restarted;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(count.written, 3); /* the other's delete, ours back to life, and away again */
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
    assert_int_equal(count.terms, 1); /* the new one is known: nothing is doubted */
    row_put("b", "1");
    hook = NULL;
    assert_true(sync_ids("[\"b\"]"));
    assert_int_equal(count.terms, 0);
    assert_int_equal(count.keys, 0);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void restart_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1)
        engine_restart();
}

static void doubted_and_right(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = restart_before_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("1"));
    assert_int_equal(count.keys, 1);
    assert_int_equal(count.written, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void slow_after_first_read(const char *step, unsigned n)
{
    if (!strcmp(step, "read_done") && n == 1) {
        row_delete("a");
        other_syncs("[\"a\"]");
        now_us += gc_us + SECOND; /* the delete is forgotten */
    }
}

/* Fails without guard_too_old(). */
static void body_that_is_too_old(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put_version("a", DOC("0"), 5);
    hook = slow_after_first_read;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(count.bulk, 2); /* deletes: the other's, and ours */
    assert_int_equal(ours.totals.missing, 1);
}

static void always_slow(const char *step, unsigned n)
{
    (void)n;
    if (!strcmp(step, "read_done"))
        now_us += gc_us;
}

static void always_too_old(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = always_slow;
    assert_false(sync_ids("[\"a\"]"));
    assert_int_equal(ours.err.kind, ERR_REACH);
    assert_non_null(strstr(ours.err.text, "rows waited too long to be written"));
    assert_int_equal(count.bulk, 0);
}

/* ---- unknown outcomes */

static void new_row_after_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_put("a", "2");
}

/* Fails when the body is sent again as it was. */
static void lost_answer_reads_again(void **state)
{
    (void)state;
    row_put("a", "1");
    fault = lose_first_bulk;
    hook = new_row_after_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(count.read, 2);
    assert_int_equal(count.terms, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.totals.counts.documents, 1);
}

static void row_gone_after_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("a");
}

static void lost_write_leaves_no_orphan(void **state)
{
    (void)state;
    row_put("a", "1");
    fault = lose_first_bulk;
    hook = row_gone_after_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
}

static void overload_reads_again(void **state)
{
    (void)state;
    row_put("a", "1");
    item_fault = overloaded_twice;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(count.bulk, 3);
    assert_int_equal(count.read, 3);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static struct {
    unsigned calls;
    char reason[64], key[16];
} failure;
static void note_failure(void *ctx, const struct plan *p, const struct slice *key,
                         const char *reason, const char *text)
{
    assert_ptr_equal(ctx, &failure);
    assert_ptr_equal(p, plan);
    assert_true(text[0]);
    failure.calls++;
    snprintf(failure.reason, sizeof failure.reason, "%s", reason);
    snprintf(failure.key, sizeof failure.key, "%.*s", (int)key->n, (const char *)key->p);
}

static const char *rejected(const char *id, unsigned n)
{
    (void)n;
    return strcmp(id, "a") ? NULL
                           : "\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\","
                             "\"reason\":\"no date\"}";
}

static void failures_are_told_with_their_key(void **state)
{
    struct keyed_result sum = {0};
    struct err err = {0};

    (void)state;
    row_put("a", "1");
    row_put("b", "1");
    row_put("c", "1");
    keyed_free(ours.keyed);
    AUTO(elastic) struct elastic *sink = elastic_new(&elastic, &err);
    ours.keyed = keyed_open(&(struct keyed_options){.sink = sink,
                                                    .plans = ours.plans,
                                                    .guards = ours.guards,
                                                    .clock = &test_clock,
                                                    .on_failure = note_failure,
                                                    .on_failure_ctx = &failure},
                            &err);
    item_fault = rejected;
    failure.calls = 0;
    keyed_begin(ours.keyed, plan, &sum);
    add_key(KEYED_WRITE_STALE, "a");
    add_key(KEYED_WRITE_STALE, "b");
    add_key(KEYED_CHECK, "c");
    add_key(KEYED_WRITE, "none");
    assert_true(keyed_end(ours.keyed, &err));
    assert_int_equal(failure.calls, 1);
    assert_string_equal(failure.reason, "mapper_parsing_exception");
    assert_string_equal(failure.key, "a");
    assert_int_equal(sum.counts.rows, 3);
    assert_int_equal(sum.counts.indexed, 2);
    assert_int_equal(sum.counts.failed, 1);
    assert_int_equal(sum.counts.gone, 1);
    assert_string_equal(doc("c"), "absent"); /* looked for, not written */
    keyed_free(ours.keyed);
    ours.keyed = NULL;
}

/* ---- missing rows, deleted */

static void missing_row_is_deleted(void **state)
{
    (void)state;
    doc_put_version("a", DOC("1"), 5);
    int64_t before = now_us;
    assert_true(sync_ids("[\"a\",\"none\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 2);
    assert_int_equal(ours.totals.deleted, 1);
    assert_int_equal(ours.totals.kept, 1);
    assert_true(ours.results[0].ok);
    assert_true(ours.results[1].ok); /* nothing to delete */
    assert_true(now_us - before >= SECOND);
    assert_int_equal(count.keys, 2);
}

static void row_is_back(const char *step, unsigned n)
{
    (void)n;
    if (!strcmp(step, "keys"))
        row_put("a", "2");
}

/* Fails when the first read is believed. */
static void second_read_finds_the_row(void **state)
{
    (void)state;
    doc_put_version("a", DOC("1"), 5);
    hook = row_is_back;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(ours.totals.found, 1);
}

static void row_is_back_and_synced(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_put("a", "2");
        other_syncs("[\"a\"]");
    }
}

/* Fails when the delete has no version (or condition). */
static void row_is_back_before_the_delete(void **state)
{
    (void)state;
    doc_put_version("a", DOC("1"), 5);
    hook = row_is_back_and_synced;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(ours.totals.found, 1);
}

static void foreign_document_is_not_deleted(void **state)
{
    (void)state;
    doc_put_version("a", DOC("x"), now_us + INT64_C(3600) * SECOND);
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("x"));
    assert_int_equal(ours.totals.kept, 1);
    assert_false(ours.results[0].ok);
    assert_string_equal(ours.results[0].reason, "foreign_version");
}

static void lost_delete_is_tried_again(void **state)
{
    (void)state;
    doc_put_version("a", DOC("1"), 5);
    fault = lose_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
    assert_int_equal(count.keys, 2);
}

/* Fails without the brake. */
static void too_many_missing(void **state)
{
    (void)state;
    doc_put_version("k99", DOC("1"), 5);
    doc_put_version("k100", DOC("1"), 5);
    for (int i = 0; i < 99; i++)
        brake_delete(brakes[0]); /* earlier ones */
    assert_true(sync_ids("[\"k99\",\"k100\",\"k101\"]"));
    assert_string_equal(doc("k99"), "absent");
    assert_int_equal(ours.totals.deleted, 1);
    assert_string_equal(doc("k100"), DOC("1"));
    assert_true(brake_pulled(brakes[0], NULL, 0));
    assert_string_equal(ours.results[1].reason, "brake");
    assert_string_equal(ours.results[1].text,
                        "not deleted: more than 100 rows of 0 ids are missing");
    assert_false(ours.results[1].ok);
}

/* ---- none */

static void none_is_last_come_last_served(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = other_before_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("1"));
    assert_int_equal(count.read, 2);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

/* ---- many runs with whatever comes */

enum { KEYS = 4, RUNS = 4000 };

/* Of each key: what the row was like, by change; the newest of which was ever in the index. */
static struct {
    int64_t newest, now;
} seen[KEYS];
static int64_t last_delete[KEYS]; /* change */

static void note_applied(const struct stored *d)
{
    int key = d->id[0] - 'a';

    /* A delete does not say of which change it is: of the row's last deletion, or an older one. */
    seen[key].now =
        d->live ? strtoll(strstr(d->source, "\"v\":\"") + 5, NULL, 10) : last_delete[key];
    if (seen[key].now > seen[key].newest)
        seen[key].newest = seen[key].now;
}

static void application(void)
{
    char p[2] = {(char)('a' + (int)below(KEYS)), 0}, v[24];
    int i = row_find(p);

    if (below(3) == 0 && i >= 0 && rows[i].live) {
        row_delete(p);
        last_delete[p[0] - 'a'] = changes;
    } else {
        snprintf(v, sizeof v, "%" PRId64, changes + 1);
        row_put(p, v);
    }
}

static void somebody(const char *step, unsigned n)
{
    (void)step;
    (void)n;
    while (below(3) == 0) {
        unsigned what = below(10);
        char ids[32];
        snprintf(ids, sizeof ids, "[\"%c\",\"%c\"]", 'a' + (int)below(KEYS),
                 'a' + (int)below(KEYS));
        if (what < 5)
            application();
        else if (what < 8)
            other_syncs(ids);
        else if (what == 8)
            engine_restart();
        else
            now_us += (int64_t)below(40) * SECOND;
    }
}

static enum fault any_fault(struct call *c)
{
    if (below(6))
        return NO_FAULT;
    enum fault f = (enum fault)(1 + below(3));
    c->status = f == ANSWER ? 503 : 200;
    return f;
}

static enum err_kind any_read_fault(const struct asked *a)
{
    (void)a;
    return below(6) ? ERR_NONE : ERR_RETRY;
}

/* Whatever comes, in whatever order: once a row's last change was in the index, it stays. */
static void nothing_goes_back(void **state)
{
    const char *given = getenv("CASS2ES_TEST_SEED");
    uint64_t first = given ? strtoull(given, NULL, 10) : 1;
    unsigned written = 0;

    for (uint64_t seed = first; seed < first + (given ? 1 : RUNS); seed++) {
        if (seed != first) {
            teardown(state);
            setup(state);
        }
        random_begin(seed);
        memset(seen, 0, sizeof seen);
        memset(last_delete, 0, sizeof last_delete);
        for (int i = 0; i < KEYS; i++)
            row_put((char[]){(char)('a' + i), 0}, (char[]){(char)('1' + i), 0});
        applied = note_applied;
        hook = somebody;
        fault = any_fault;
        read_fault = any_read_fault;
        item_fault = any_item_fault;
        if (!sync_ids("[\"a\",\"b\",\"c\",\"d\"]"))
            fail_msg("seed %" PRIu64 ": %s", seed, ours.err.text);
        assert_int_equal(ours.totals.counts.failed, 0);
        written += count.written;
        for (int i = 0; i < KEYS; i++)
            if (seen[i].newest == rows[row_find((char[]){(char)('a' + i), 0})].change &&
                seen[i].now != seen[i].newest)
                fail_msg("seed %" PRIu64 ": %c is %" PRId64 ", was %" PRId64, seed, 'a' + i,
                         seen[i].now, seen[i].newest);
    }
    assert_true(given || written > RUNS);
}

#define T(f)        cmocka_unit_test_setup_teardown(f, setup, teardown)
#define IN(mode, f) {#f " (" mode ")", f, setup, teardown, (void *)mode}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_time_of_reading_is_the_version),
        T(missing_row_is_reported),
        T(later_read_wins),
        T(second_conflict_is_stale),
        T(conflict_of_a_scan_is_stale),
        T(what_was_sent_goes_with_its_row),
        T(foreign_version),
        T(slightly_fast_clock),
        IN("delete:read_time", older_body_after_a_delete),
        IN("delete:read_time", older_body_after_a_delete_and_a_restart),
        T(doubted_and_right),
        IN("delete:read_time", body_that_is_too_old),
        IN("brief:read_time", always_too_old),
        T(lost_answer_reads_again),
        T(lost_write_leaves_no_orphan),
        T(overload_reads_again),
        T(failures_are_told_with_their_key),
        IN("delete:read_time", missing_row_is_deleted),
        IN("delete:sequence", missing_row_is_deleted),
        IN("delete:none", missing_row_is_deleted),
        IN("delete:read_time", second_read_finds_the_row),
        IN("delete:sequence", second_read_finds_the_row),
        IN("delete:none", second_read_finds_the_row),
        IN("delete:read_time", row_is_back_before_the_delete),
        IN("delete:sequence", row_is_back_before_the_delete),
        IN("delete:read_time", foreign_document_is_not_deleted),
        IN("delete:read_time", lost_delete_is_tried_again),
        IN("delete:sequence", lost_delete_is_tried_again),
        IN("delete:none", lost_delete_is_tried_again),
        IN("delete:read_time", too_many_missing),
        IN("delete:sequence", too_many_missing),
        IN("delete:none", too_many_missing),
        IN("none", none_is_last_come_last_served),
        IN("none", missing_row_is_reported),
        IN("delete:read_time", nothing_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
