/*
 * engine/guard with the clock, the cluster's terms and Cassandra's time in the test's hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/guard.h"

enum { SECOND = 1000000 };

static int64_t now_us;
static int64_t now(void *ctx)
{
    (void)ctx;
    return now_us;
}
static struct clock test_clock;

/* ---- the servers */

static int64_t term_low, term_high, term_sum;
static unsigned asked;
static bool term_fails;

bool elastic_primary_terms(struct elastic *e, const char *index, struct elastic_terms *out,
                           struct err *err)
{
    (void)e;
    assert_string_equal(index, "i");
    asked++;
    if (term_fails)
        return err_set(err, ERR_RETRY, "no answer");
    *out = (struct elastic_terms){term_low, term_high, term_sum ? term_sum : term_low + term_high};
    return true;
}

static int64_t ours_ahead_ms, round_trip_us, max_skew_us;
static unsigned questions;

struct cql_session {
    int dummy;
};

struct cql_session *cql_session_open(struct cql_cluster *c, struct err *err)
{
    (void)c;
    (void)err;
    return xalloc(sizeof(struct cql_session));
}

void cql_session_free(struct cql_session *s)
{
    free(s);
}

static uint8_t answer[12];

bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err)
{
    (void)s;
    (void)err;
    assert_non_null(strstr(q->text, "now()"));
    *out = 7;
    return true;
}

bool cql_take(struct cql_session *s, cql_ticket ticket, struct page *page, struct err *err)
{
    static struct columns columns = {.count = 1};

    (void)s;
    (void)err;
    assert_int_equal(ticket, 7);
    now_us += round_trip_us / 2;
    int64_t server_ms = now_us / 1000 - ours_ahead_ms;
    questions++;
    memcpy(answer, (uint8_t[]){0, 0, 0, 8}, 4);
    for (int i = 0; i < 8; i++)
        answer[4 + i] = (uint8_t)((uint64_t)server_ms >> (56 - 8 * i));
    now_us += round_trip_us / 2;
    *page = (struct page){.columns = &columns, .row_count = 1, .rows = slice_of(answer, 12)};
    return true;
}

void cql_release(struct cql_session *s, cql_ticket ticket)
{
    (void)s;
    assert_int_equal(ticket, 7);
}

/* ---- */

static int setup(void **state)
{
    (void)state;
    now_us = 1000000000000000;
    test_clock = (struct clock){.wall_us = now, .mono_us = now};
    term_low = term_high = 1;
    term_sum = 0;
    asked = 0;
    term_fails = false;
    return 0;
}

static struct guard *open_guard(enum mapping_versioning versioning, int64_t gc_deletes_ms)
{
    struct guard_options o = {.index = "i",
                              .versioning = versioning,
                              .clock = &test_clock,
                              .gc_deletes_ms = gc_deletes_ms,
                              .lowest_term = term_low,
                              .primary_term = term_high,
                              .max_skew_us = max_skew_us};
    struct err err = {0};
    struct guard *g = guard_new(&o, &err);
    assert_string_equal(err.text, "");
    return g;
}

static int64_t read_now(void)
{
    now_us += 10;
    return clock_version_us(&test_clock);
}

static void age(void **state)
{
    static const struct {
        enum mapping_versioning versioning;
        int64_t gc_ms, max_us;
    } cases[] = {
        {VERSIONING_READ_TIME, 3600000, 30 * SECOND},
        {VERSIONING_READ_TIME, -1, 15 * SECOND},
        {VERSIONING_READ_TIME, 60000, 15 * SECOND},
        {VERSIONING_READ_TIME, 4000, SECOND},
        {VERSIONING_WRITE_TIME, 60000, 15 * SECOND},
        {VERSIONING_SEQUENCE, 60000, INT64_MAX},
        {VERSIONING_NONE, 0, INT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO(guard) struct guard *g = open_guard(cases[i].versioning, cases[i].gc_ms);
        int64_t t = now_us;
        assert_true(guard_max_age_us(g) == cases[i].max_us);
        now_us += 999999;
        assert_false(guard_too_old(g, t));
        now_us = t + 30 * SECOND;
        assert_int_equal(guard_too_old(g, t), cases[i].max_us != INT64_MAX);
        if (cases[i].max_us != INT64_MAX) {
            assert_true(guard_too_old(g, now_us - cases[i].max_us));
            assert_false(guard_too_old(g, now_us - cases[i].max_us + 1));
        }
    }
}

static void deletes_that_are_forgotten_at_once(void **state)
{
    struct guard_options o = {.index = "i",
                              .versioning = VERSIONING_READ_TIME,
                              .clock = &test_clock,
                              .gc_deletes_ms = 3999};
    struct err err = {0};

    (void)state;
    assert_null(guard_new(&o, &err));
    assert_int_equal(err.kind, ERR_USER);
    assert_string_equal(err.text,
                        "index i keeps the versions of deleted documents for 3999 ms only "
                        "(index.gc_deletes); set it to 1h, or to 4000 ms at least");
}

static void conflicts(void **state)
{
    int64_t n = now_us, skew = GUARD_MAX_SKEW_US, hour = INT64_C(3600) * SECOND;
    const struct {
        int64_t there, ours;
        enum guard_conflict want;
    } cases[] = {
        {n - 5, n - 10, GUARD_STALE},
        {n - 10, n - 10, GUARD_EQUAL},
        {n - 20, n - 10, GUARD_STALE}, /* a tombstone of another kind: never foreign */
        {n + skew, n - 10, GUARD_STALE},
        {n + skew + 1, n - 10, GUARD_FOREIGN},
        {n + hour, n - 10, GUARD_FOREIGN},
        {n + hour, n + hour, GUARD_EQUAL}, /* a write time that lies ahead is the table's own */
        {n + hour + 1, n + hour, GUARD_STALE},
        {INT64_MAX, n, GUARD_FOREIGN},
        {-1, n, GUARD_STALE},
    };
    AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);
    char text[300], small[8];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(guard_conflict(g, cases[i].there, cases[i].ours), cases[i].want);
    guard_foreign_text(g, 7, text, sizeof text);
    assert_string_equal(text, "version 7 is there, later than now: another tool or a fast clock "
                              "wrote it; delete the document or rebuild i");
    guard_foreign_text(g, 7, small, sizeof small);
}

/* A delete's version is forgotten when the engine starts anew: the term tells. */
static void terms(void **state)
{
    AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);

    (void)state;
    int64_t before = read_now();
    assert_false(guard_doubts(g, before, 1));
    guard_renew(g, NULL);
    assert_int_equal(asked, 0);
    assert_true(guard_doubts(g, before, 2));
    assert_true(guard_doubts(g, read_now(), 2)); /* not looked up yet */
    term_low = term_high = 2;
    guard_renew(g, NULL);
    guard_renew(g, NULL);
    assert_int_equal(asked, 1);
    assert_true(guard_doubts(g, before, 2)); /* what was read before knew nothing of it */
    assert_false(guard_doubts(g, read_now(), 2));
    assert_true(guard_doubts(g, read_now(), 1));
    assert_false(guard_doubts(g, before, 1)); /* written before it started anew */
}

static void nothing_new_at_an_error(void **state)
{
    AUTO(guard) struct guard *g = open_guard(VERSIONING_WRITE_TIME, -1);
    int64_t t = read_now();

    (void)state;
    guard_refresh(g, NULL);
    assert_int_equal(asked, 1);
    assert_false(guard_doubts(g, t, 1));
}

static void terms_unknown(void **state)
{
    AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);
    int64_t t = read_now();

    (void)state;
    term_fails = true;
    guard_refresh(g, NULL);
    assert_false(guard_doubts(g, t, 1));
    assert_true(guard_doubts(g, read_now(), 1));
    term_fails = false;
    guard_renew(g, NULL); /* too soon */
    assert_int_equal(asked, 1);
    now_us += 2 * SECOND;
    guard_renew(g, NULL);
    assert_int_equal(asked, 2);
    assert_false(guard_doubts(g, read_now(), 1));
}

/* The shard of term 1 may start anew, and has 2 like the other. */
static void shards_of_different_terms(void **state)
{
    (void)state;
    term_high = 2;
    AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);
    assert_true(guard_doubts(g, read_now(), 1));
    assert_true(guard_doubts(g, read_now(), 2));
}

/* Every create is doubted; one look at the end tells that no shard has started anew. */
static void doubts_are_cleared(void **state)
{
    (void)state;
    term_high = 3;
    AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);
    int64_t t = read_now();
    assert_false(guard_clears(g, NULL, t)); /* how many there are is not known yet */
    guard_renew(g, NULL);
    assert_int_equal(asked, 1);
    assert_false(guard_clears(g, NULL, t));
    t = read_now();
    assert_true(guard_doubts(g, t, 1));
    assert_true(guard_clears(g, NULL, t));
    term_sum = 5; /* one between the lowest and the highest has risen */
    assert_false(guard_clears(g, NULL, t));
    assert_true(guard_clears(g, NULL, read_now()));
    term_fails = true;
    assert_false(guard_clears(g, NULL, read_now()));
}

static void many_changes(void **state)
{
    AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);
    int64_t t = read_now();

    (void)state;
    for (int64_t i = 2; i < 100; i++)
        guard_learn(g, &(struct elastic_terms){i, i, i});
    assert_true(guard_doubts(g, t, 1));
    assert_false(guard_doubts(g, read_now(), 99));
}

static void others_doubt_nothing(void **state)
{
    AUTO(guard) struct guard *g = open_guard(VERSIONING_SEQUENCE, 0);

    (void)state;
    assert_false(guard_doubts(g, 0, 9));
    guard_refresh(g, NULL);
    guard_renew(g, NULL);
    assert_int_equal(asked, 0);
}

static void clock_skew(void **state)
{
    static const struct {
        int64_t ours_ahead_ms, round_trip_us, skew_us;
        const char *error;
    } cases[] = {
        {0, 0, 0, ""},
        {0, 400000, 0, ""},
        {100, 0, 99000, ""}, /* Cassandra says milliseconds */
        {-100, 0, -100000, ""},
        {100, 300000, 0, ""}, /* could be right */
        {100, 600000, 0, ""},
        {5000, 0, 4999000, ""},
        {5002, 0, 5001000,
         "this machine's clock is 5001 ms ahead of Cassandra's; the time of reading is the version "
         "of a document: set the clocks right (NTP), or allow it by --max-skew"},
        {-7000, 0, -7000000,
         "this machine's clock is 7000 ms behind Cassandra's; the time of reading is the version "
         "of a document: set the clocks right (NTP), or allow it by --max-skew"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        int64_t skew = 1;
        AUTO(guard) struct guard *g = open_guard(VERSIONING_READ_TIME, -1);
        max_skew_us = 10 * SECOND;
        AUTO(guard) struct guard *generous = open_guard(VERSIONING_READ_TIME, -1);
        AUTO(guard) struct guard *other = open_guard(VERSIONING_SEQUENCE, -1);
        max_skew_us = 0;
        round_trip_us = cases[i].round_trip_us;
        ours_ahead_ms = cases[i].ours_ahead_ms;
        questions = 0;
        assert_true(guard_clock_skew(g, NULL, &skew, &err));
        assert_int_equal(skew, cases[i].skew_us);
        assert_int_equal(questions, round_trip_us < 500000 ? 1 : 2);
        assert_int_equal(guard_check_clock(g, NULL, &err), !*cases[i].error);
        assert_string_equal(err.text, cases[i].error);
        err_clear(&err);
        assert_true(guard_check_clock(generous, NULL, &err));
        assert_true(guard_check_clock(other, NULL, &err));
    }
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(age),
        T(deletes_that_are_forgotten_at_once),
        T(conflicts),
        T(terms),
        T(terms_unknown),
        T(nothing_new_at_an_error),
        T(many_changes),
        T(shards_of_different_terms),
        T(doubts_are_cleared),
        T(clock_skew),
        T(others_doubt_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
