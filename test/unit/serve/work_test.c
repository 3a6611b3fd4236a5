/* Calls are kept, worked off, counted; nothing is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#include "fake.h"
#include "serve/calls.h"

static char call_id[WORK_ID_BYTES]; /* of the call that was taken last */

static enum work_taken submit(struct bed *b, const char *type, const char *ids,
                              struct ticket **ticket)
{
    struct arena mem;
    struct err err;

    arena_init(&mem, 16 << 20);
    const struct json *list = json_parse(slice_str(ids), &mem, &err);
    assert_non_null(list);
    enum work_taken taken = work_submit(b->work, type, list, ticket, call_id, &err);
    arena_fini(&mem);
    return taken;
}

static void drained(struct bed *b)
{
    struct ticket *t;

    /* One worker: what is submitted last is settled last. */
    assert_int_equal(submit(b, "batch", "[\"last\"]", &t), WORK_TAKEN);
    assert_non_null(work_wait(b->work, t, 20000));
    ticket_free(t);
}

static bool list_failure(void *ctx, const struct failure_info *f)
{
    char *text = ctx;
    size_t n = strlen(text);

    snprintf(text + n, 1024 - n, "%s:%s|%s|%s;", f->object, f->key, f->reason, f->text);
    return true;
}

static void outcomes(void **state)
{
    struct bed *b = *state;
    char failures[1024] = "";
    struct run_block block;
    struct ticket *t;
    bool found;

    bed_start(b, 1, 100);
    assert_int_equal(
        submit(b, "batch", "[\"a\",\"missing1\",{\"courseId\":[\"x\"]},7,\"fails1\",\"bad\"]", &t),
        WORK_TAKEN);
    const struct keyed_result *r = work_wait(b->work, t, 20000);
    assert_non_null(r);
    assert_true(r[0].ok && r[2].ok);
    assert_int_equal(r[1].outcome, KEYED_MISSING);
    assert_int_equal(r[3].outcome, KEYED_BAD);
    assert_false(r[4].ok);
    ticket_free(t);

    /* in the journal before it was handed out */
    assert_true(run_next_block(b->run, 0, &block, &found, &b->err));
    assert_false(found);
    assert_int_equal(bed_count(b, "calls"), 1);
    assert_int_equal(bed_count(b, "ids"), 6);
    assert_int_equal(bed_count(b, "found"), 3);
    assert_int_equal(bed_count(b, "missing"), 1);
    assert_int_equal(bed_count(b, "bad"), 2);
    assert_int_equal(bed_count(b, "indexed"), 2);
    assert_int_equal(bed_count(b, "failed"), 1);
    assert_true(journal_each_failure(b->journal, run_id(b->run), list_failure, failures, &b->err));
    assert_string_equal(failures,
                        "batch:missing1|missing|no row;batch:7|bad_id|is no id;"
                        "batch:fails1|mapper_parsing_exception|;batch:bad|bad_id|is no id;");
    assert_int_equal(metrics_get(&b->metrics, METRIC_ids_taken_total), 6);
    assert_int_equal(metrics_get(&b->metrics, METRIC_documents_indexed_total), 2);
    bed_stop(b, 0);
    assert_int_equal(metrics_get(&b->metrics, METRIC_queue_ids), 0);
}

static void a_bounded_queue(void **state)
{
    struct bed *b = *state;
    struct ticket *t;

    fake_hold(&b->fake, true);
    bed_start(b, 1, 5);
    assert_int_equal(submit(b, "batch", "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]", NULL),
                     WORK_TOO_MANY);
    assert_int_equal(submit(b, "batch", "[\"1\",\"2\",\"3\"]", NULL), WORK_TAKEN);
    assert_int_equal(submit(b, "batch", "[\"4\",\"5\",\"6\"]", NULL), WORK_FULL);
    assert_int_equal(submit(b, "batch", "[\"4\",\"5\"]", &t), WORK_TAKEN);
    assert_int_equal(submit(b, "batch", "[\"6\"]", NULL), WORK_FULL);
    assert_int_equal(metrics_get(&b->metrics, METRIC_queue_ids), 5);
    assert_null(work_wait(b->work, t, 10)); /* late */
    fake_hold(&b->fake, false);
    assert_non_null(work_wait(b->work, t, 20000)); /* though the work goes on */
    ticket_free(t);
    drained(b);
    assert_int_equal(bed_count(b, "ids"), 6);
    bed_stop(b, 0);
}

static void trouble_passes(void **state)
{
    struct bed *b = *state;
    static const enum err_kind kinds[] = {ERR_RETRY, ERR_REACH, ERR_SYSTEM};
    char why[300];

    bed_start(b, 1, 100);
    for (size_t i = 0; i < 3; i++) {
        b->fake.errors = 2;
        b->fake.error = kinds[i];
        struct ticket *t;
        assert_int_equal(submit(b, "user", "[\"a\",\"missing\"]", &t), WORK_TAKEN);
        while (metrics_get(&b->metrics, METRIC_work_waits_total) == (int64_t)i * 2)
            usleep(1000);
        assert_false(work_healthy(b->work, why, sizeof why));
        assert_string_equal(why, "elastic: index is not there");
        assert_non_null(work_wait(b->work, t, 20000));
        ticket_free(t);
        assert_true(work_healthy(b->work, why, sizeof why));
    }
    assert_int_equal(bed_count(b, "found"), 3); /* a retry never counts twice */
    assert_int_equal(bed_count(b, "missing"), 3);
    assert_int_equal(metrics_get(&b->metrics, METRIC_workers_in_trouble), 0);
    bed_stop(b, 0);
}

/* What this machine can't do is not tried for ever. */
static void machine_trouble_ends(void **state)
{
    struct bed *b = *state;
    struct ticket *t;

    bed_start(b, 1, 100);
    b->fake.errors = 1000;
    b->fake.error = ERR_SYSTEM;
    assert_int_equal(submit(b, "user", "[\"a\",\"b\"]", &t), WORK_TAKEN);
    assert_non_null(work_wait(b->work, t, 30000));
    ticket_free(t);
    assert_int_equal(b->fake.errors, 994);
    assert_int_equal(bed_count(b, "refused"), 2);
    assert_int_equal(metrics_get(&b->metrics, METRIC_workers_in_trouble), 0);
    bed_stop(b, 0);
}

static bool any_room(void *ctx, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    return true;
}

static const char *described(struct bed *b, const char *id)
{
    static char text[1 << 20];
    struct buf out;
    bool found;

    buf_init(&out, 2 << 20);
    if (!calls_describe(b->journal, id, any_room, NULL, &out, &found, &b->err))
        fail_msg("%s", b->err.text);
    snprintf(text, sizeof text, "%s", found ? buf_cstr(&out) : "none");
    buf_fini(&out);
    return text;
}

static void said(struct bed *b, const char *id, const char *what)
{
    const char *got = described(b, id);

    if (!strstr(got, what))
        fail_msg("%s is not in %s", what, got);
}

/* Each id's end can be asked for, by the call's name, while it waits and in a later process. */
static void asked_for(void **state)
{
    struct bed *b = *state;
    char first[WORK_ID_BYTES];

    bed_start(b, 1, 100);
    fake_hold(&b->fake, true);
    assert_int_equal(submit(b, "batch",
                            "[\"a\",\"missing1\",{\"courseId\":[\"x\"]},7,\"fails1\",\"a\\u00e9\"]",
                            NULL),
                     WORK_TAKEN);
    memcpy(first, call_id, sizeof first);
    assert_true(calls_is_id(first));
    said(b, first, "\"state\":\"waiting\",\"endedAt\":null,\"counts\":{\"waiting\":6,");
    said(b, first, "{\"id\":\"a\",\"outcome\":\"waiting\"}");
    fake_hold(&b->fake, false);
    drained(b);
    bed_stop(b, 0);

    bed_start(b, 1, 100);
    said(b, first,
         "\"objectType\":\"batch\",\"results\":[{\"id\":\"a\",\"outcome\":\"indexed\"},"
         "{\"id\":\"missing1\",\"outcome\":\"missing\",\"reason\":\"missing\","
         "\"text\":\"no row\"},{\"id\":{\"courseId\":[\"x\"]},\"outcome\":\"indexed\"},"
         "{\"id\":7,\"outcome\":\"bad\",\"reason\":\"bad_id\",\"text\":\"is no id\"},"
         "{\"id\":\"fails1\",\"outcome\":\"failed\","
         "\"reason\":\"mapper_parsing_exception\",\"text\":\"\"},"
         "{\"id\":\"a\u00e9\",\"outcome\":\"indexed\"}],\"state\":\"done\"");
    said(b, first,
         "\"counts\":{\"waiting\":0,\"indexed\":3,\"unchanged\":0,\"stale\":0,"
         "\"merged\":0,\"failed\":1,\"missing\":1,\"kept\":0,\"deleted\":0,"
         "\"duplicate\":0,\"bad\":1,\"refused\":0}}");
    assert_string_equal(described(b, "20260102-030405-7f3a-1"), "none");
    assert_string_equal(described(b, "x"), "none");
    assert_int_equal(submit(b, "batch", "[\"b\"]", NULL), WORK_TAKEN);
    assert_string_not_equal(call_id, first);
    drained(b);
    assert_true(journal_prune_calls(b->journal, 3600, 1, &b->err));
    assert_string_equal(described(b, first), "none"); /* more ids than are kept */
    bed_stop(b, 0);
}

/* Numbers go on in a run that goes on, though nothing is left of the first process's calls. */
static void names_are_given_once(void **state)
{
    struct bed *b = *state;
    char first[WORK_ID_BYTES];
    uint64_t left;
    bool balanced;

    bed_start(b, 1, 100);
    assert_int_equal(submit(b, "batch", "[\"b\"]", NULL), WORK_TAKEN);
    memcpy(first, call_id, sizeof first);
    drained(b);
    assert_true(work_stop(b->work, &left, &balanced, &b->err));
    work_free(TAKE(b->work));
    run_abandon(TAKE(b->run));
    journal_close(TAKE(b->journal));
    bed_start(b, 1, 100);
    assert_int_equal(submit(b, "batch", "[\"c\"]", NULL), WORK_TAKEN);
    assert_memory_equal(first, call_id, strlen(run_id(b->run))); /* the same run */
    assert_int_equal(strtol(strrchr(call_id, '-') + 1, NULL, 10), 3);
    drained(b);
    bed_stop(b, 0);
}

static void end_blocks(struct bed *b, uint64_t no, uint64_t count)
{
    AUTO(tx) struct tx *t = tx_new(b->run);

    for (uint64_t i = 0; i < count; i++)
        tx_block_end(t, no + i);
    assert_true(journal_commit(t, &b->err));
}

static void take_call(struct bed *b, uint64_t no)
{
    AUTO(tx) struct tx *t = tx_new(b->run);

    tx_block(t, &(struct run_block){.no = no, .ids = 1, .body = slice_str("{}")});
    tx_call(t, &(struct run_call){.no = no, .parts = 1, .ids = 1});
    assert_true(journal_commit(t, &b->err));
}

/* Calls that came together may be journalled in any order; and what is forgotten had a name, too.
 */
static void names_of_forgotten_calls(void **state)
{
    struct bed *b = *state;
    struct run_call call;
    bool found;

    bed_start(b, 1, 100);
    take_call(b, 2);
    end_blocks(b, 2, 1);
    take_call(b, 1);
    end_blocks(b, 1, 1);
    assert_true(journal_prune_calls(b->journal, 3600, 0, &b->err));
    assert_true(journal_call(b->journal, run_id(b->run), 2, &call, &found, &b->err));
    assert_false(found);
    work_drain(b->work);
    work_free(TAKE(b->work));
    run_abandon(TAKE(b->run));
    journal_close(TAKE(b->journal));
    bed_start(b, 1, 100);
    assert_int_equal(submit(b, "batch", "[\"c\"]", NULL), WORK_TAKEN);
    assert_int_equal(strtol(strrchr(call_id, '-') + 1, NULL, 10), 3);
    drained(b);
    bed_stop(b, 0);
}

/* A large call is worked on in parts; who waits gets all of them. */
static void parts(void **state)
{
    struct bed *b = *state;
    struct ticket *t;
    struct buf ids;

    bed_start(b, 2, 10000);
    fake_hold(&b->fake, true);
    buf_init(&ids, 1 << 20);
    for (int i = 0; i < 2500; i++)
        buf_printf(&ids, "%s\"%s%d\"", i ? "," : "[", i % 1000 == 7 ? "missing" : "a", i);
    buf_add_byte(&ids, ']');
    assert_int_equal(submit(b, "batch", buf_cstr(&ids), &t), WORK_TAKEN);
    assert_int_equal(metrics_get(&b->metrics, METRIC_queue_calls), 1);
    fake_hold(&b->fake, false);
    const struct keyed_result *r = work_wait(b->work, t, 20000);
    assert_non_null(r);
    for (int i = 0; i < 2500; i++)
        assert_int_equal(r[i].outcome, i % 1000 == 7 ? KEYED_MISSING : KEYED_FOUND);
    ticket_free(t);
    assert_int_equal(metrics_get(&b->metrics, METRIC_queue_calls), 0);
    assert_int_equal(b->fake.calls, 3);
    assert_int_equal(b->fake.most, 1000);
    said(b, call_id, "\"indexed\":2497,");
    said(b, call_id, "\"ids\":2500,");
    assert_int_equal(bed_count(b, "calls"), 1);
    assert_int_equal(bed_count(b, "missing"), 3);
    buf_fini(&ids);
    bed_stop(b, 0);
}

/* Nothing new, but what was taken is finished. */
static void refusing(void **state)
{
    struct bed *b = *state;
    char why[300];

    bed_start(b, 1, 100);
    fake_hold(&b->fake, true);
    assert_int_equal(submit(b, "batch", "[\"b\"]", NULL), WORK_TAKEN);
    assert_int_equal(submit(b, "batch", "[\"c\"]", NULL), WORK_TAKEN);
    work_refuse(b->work);
    assert_int_equal(submit(b, "batch", "[\"d\"]", NULL), WORK_CLOSED);
    assert_false(work_healthy(b->work, why, sizeof why));
    assert_string_equal(why, "stopping");
    assert_false(work_idle(b->work));
    fake_hold(&b->fake, false);
    while (!work_idle(b->work))
        usleep(1000);
    assert_int_equal(bed_count(b, "found"), 2);
    bed_stop(b, 0);
}

/* A type that is served no more is refused from then on. */
static void other_types(void **state)
{
    static const char *const others[] = {"user", NULL};
    struct bed *b = *state;
    struct ticket *t;

    bed_start(b, 1, 100);
    work_set_types(b->work, others);
    assert_int_equal(submit(b, "batch", "[\"b\"]", &t), WORK_TAKEN);
    assert_int_equal(work_wait(b->work, t, 20000)->outcome, KEYED_OPEN);
    ticket_free(t);
    said(b, call_id,
         "{\"id\":\"b\",\"outcome\":\"refused\",\"reason\":\"refused\","
         "\"text\":\"no mapping for object type batch\"}");
    bed_stop(b, 0);
}

static void what_can_never_pass(void **state)
{
    struct bed *b = *state;
    char failures[1024] = "";
    struct ticket *t;

    bed_start(b, 1, 100);
    b->fake.errors = 1;
    b->fake.error = ERR_USER;
    assert_int_equal(submit(b, "user", "[\"a\",\"b\"]", &t), WORK_TAKEN);
    const struct keyed_result *r = work_wait(b->work, t, 20000);
    assert_non_null(r);
    assert_int_equal(r[0].outcome, KEYED_OPEN);
    ticket_free(t);
    assert_true(journal_each_failure(b->journal, run_id(b->run), list_failure, failures, &b->err));
    assert_string_equal(
        failures,
        "user:a|refused|elastic: index is not there;user:b|refused|elastic: index is not there;");
    assert_int_equal(bed_count(b, "refused"), 2);
    bed_stop(b, 0);
}

static void a_type_without_mapping_after_a_restart(void **state)
{
    struct bed *b = *state;
    char failures[1024] = "";

    fake_hold(&b->fake, true);
    bed_start(b, 1, 100);
    assert_int_equal(submit(b, "rating", "[\"a\"]", NULL), WORK_TAKEN);
    fake_hold(&b->fake, false);
    drained(b);
    assert_true(journal_each_failure(b->journal, run_id(b->run), list_failure, failures, &b->err));
    assert_string_equal(failures, "rating:a|refused|no mapping for object type rating;");
    bed_stop(b, 0);
}

static void a_defect_is_found(void **state)
{
    struct bed *b = *state;
    bool balanced = true;
    uint64_t left;
    struct ticket *t;

    bed_start(b, 1, 100);
    assert_int_equal(submit(b, "user", "[\"a\",\"lies\"]", &t), WORK_TAKEN);
    assert_non_null(work_wait(b->work, t, 20000));
    ticket_free(t);
    assert_true(work_stop(b->work, &left, &balanced, &b->err));
    assert_false(balanced);
    work_free(TAKE(b->work));
    run_abandon(TAKE(b->run));
    journal_close(TAKE(b->journal));
}

/* ---- stopping ---- */

static void *wait_long(void *arg)
{
    void **a = arg;

    return (void *)work_wait(a[0], a[1], 60000);
}

static void stopping(void **state)
{
    struct bed *b = *state;
    struct ticket *t;
    struct ticket *queued;
    void *result = b;
    pthread_t waiter;

    fake_hold(&b->fake, true);
    bed_start(b, 2, 100);
    assert_int_equal(submit(b, "batch", "[\"in hand 1\"]", &t), WORK_TAKEN);
    assert_int_equal(submit(b, "batch", "[\"in hand 2\"]", NULL), WORK_TAKEN);
    fake_await_holding(&b->fake, 2);
    assert_int_equal(submit(b, "batch", "[\"queued 1\",\"queued 2\"]", &queued), WORK_TAKEN);
    void *args[] = {b->work, t};
    assert_int_equal(pthread_create(&waiter, NULL, wait_long, args), 0);

    cancel_fire(&b->cancel, 1);
    work_drain(b->work);
    pthread_join(waiter, &result); /* at once, not after a minute */
    assert_null(result);
    assert_int_equal(submit(b, "batch", "[\"late\"]", NULL), WORK_CLOSED);
    ticket_free(t);
    ticket_free(queued);
    bed_stop(b, 4);

    /* the next start goes on with them */
    cancel_fini(&b->cancel);
    assert_true(cancel_init(&b->cancel, &b->err));
    fake_hold(&b->fake, false);
    bed_start(b, 1, 3); /* more than fit in its queue: accepted is accepted */
    while (metrics_get(&b->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    assert_int_equal(bed_count(b, "ids"), 4);
    assert_int_equal(bed_count(b, "found"), 4);
    bed_stop(b, 0);
}

/* What reads a whole table holds one worker, however much of it waits; and is kept as all else. */
static void one_scan_at_a_time(void **state)
{
    struct bed *b = *state;
    struct ticket *t;

    b->fake.scans = "user";
    fake_hold(&b->fake, true);
    bed_start(b, 3, 100);
    for (int i = 0; i < 4; i++)
        assert_int_equal(submit(b, "user", "[\"u\"]", i < 3 ? NULL : &t), WORK_TAKEN);
    fake_await_holding(&b->fake, 1);
    for (int i = 0; i < 5; i++)
        drained(b);
    pthread_mutex_lock(&b->fake.lock);
    assert_int_equal(b->fake.holding, 1);
    pthread_mutex_unlock(&b->fake.lock);
    assert_int_equal(metrics_get(&b->metrics, METRIC_queue_ids), 4);
    fake_hold(&b->fake, false);
    assert_non_null(work_wait(b->work, t, 20000));
    ticket_free(t);
    while (metrics_get(&b->metrics, METRIC_queue_ids) > 0) /* they come in any order */
        usleep(1000);

    fake_hold(&b->fake, true);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(b, "user", "[\"u\"]", NULL), WORK_TAKEN);
    fake_await_holding(&b->fake, 1);
    drained(b);
    cancel_fire(&b->cancel, 1);
    bed_stop(b, 3);
}

static void killed(void **state)
{
    struct bed *b = *state;
    int ready[2];
    char c;

    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        b->fake.hold = true;
        bed_start(b, 2, 1000);
        for (int i = 0; i < 20; i++) {
            if (submit(b, "user", "[\"a\",\"b\",\"missing\"]", NULL) != WORK_TAKEN)
                _exit(1);
        }
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    bed_start(b, 3, 1000);
    while (metrics_get(&b->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    assert_int_equal(bed_count(b, "ids"), 60);
    assert_int_equal(bed_count(b, "missing"), 20);
    bed_stop(b, 0);
    assert_int_equal(b->fake.calls, 20);
    close(ready[0]);
    close(ready[1]);
}

/* ---- many ---- */

enum { CLIENTS = 6, CALLS = 60 };

static void *client_main(void *arg)
{
    struct bed *b = arg;
    struct arena mem;
    struct err err;
    intptr_t bad = 0;

    arena_init(&mem, 1 << 20);
    const struct json *ids =
        json_parse(slice_str("[\"a\",\"missing\",\"fails\",{\"x\":1}]"), &mem, &err);
    for (int i = 0; i < CALLS; i++) {
        struct ticket *t = NULL;
        char id[WORK_ID_BYTES];
        enum work_taken taken;
        while ((taken = work_submit(b->work, "batch", ids, i % 3 ? &t : NULL, id, &err)) ==
               WORK_FULL)
            usleep(500);
        bad += taken != WORK_TAKEN;
        if (t) {
            const struct keyed_result *r = work_wait(b->work, t, 30000);
            bad += !r || !r[0].ok || r[1].outcome != KEYED_MISSING || r[2].ok || !r[3].ok;
        }
        ticket_free(t);
    }
    arena_fini(&mem);
    return (void *)bad;
}

static void many_at_once(void **state)
{
    struct bed *b = *state;
    pthread_t client[CLIENTS];

    bed_start(b, 4, 40);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&client[i], NULL, client_main, b), 0);
    for (int i = 0; i < CLIENTS; i++) {
        void *bad;
        pthread_join(client[i], &bad);
        assert_null(bad);
    }
    while (metrics_get(&b->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    assert_int_equal(bed_count(b, "missing"), CLIENTS * CALLS);
    assert_int_equal(bed_count(b, "indexed"), 2 * CLIENTS * CALLS);
    bed_stop(b, 0);
    assert_int_equal(b->fake.calls, CLIENTS * CALLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_BED(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
        IN_BED(outcomes),
        IN_BED(a_bounded_queue),
        IN_BED(trouble_passes),
        IN_BED(machine_trouble_ends),
        IN_BED(asked_for),
        IN_BED(names_are_given_once),
        IN_BED(names_of_forgotten_calls),
        IN_BED(parts),
        IN_BED(refusing),
        IN_BED(other_types),
        IN_BED(what_can_never_pass),
        IN_BED(a_type_without_mapping_after_a_restart),
        IN_BED(a_defect_is_found),
        IN_BED(stopping),
        IN_BED(one_scan_at_a_time),
        IN_BED(killed),
        IN_BED(many_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
