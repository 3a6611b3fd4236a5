/* What is written is read again; runs begin, resume, lock and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "journal/store.h"
#include "scratch.h"

static void commit(struct scratch *s, struct tx *t)
{
    if (!journal_commit(t, &s->err))
        fail_msg("%s", s->err.text);
}

static void assert_slice(struct slice s, const char *text)
{
    assert_non_null(s.p);
    assert_true(slice_is(s, text));
}

/* Pages that were settled one after the other, and one that was given up. */
static void what_is_settled_stays(void **state)
{
    struct scratch *s = *state;
    struct interval range = {0, 100};
    struct interval_set marks = {0};
    struct run_cursors cursors;
    bool resumed;
    int64_t count;
    uint64_t dropped;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    tx_mark(t, "token", 0, 10);
    tx_cursor(t, "token", range, 10, slice_str("one"));
    tx_count(t, "rows", 3);
    tx_failure(t, slice_str("a"), "bad", "first");
    tx_settle(t);
    tx_mark(t, "token", 0, 30);
    tx_mark(t, "token", 50, 60);
    tx_cursor(t, "token", range, 30, slice_str("two"));
    tx_cursor(t, "token", (struct interval){100, 200}, 100, slice_str("other"));
    tx_count(t, "rows", 4);
    tx_count(t, "documents", 7);
    tx_failure(t, slice_str("b"), "bad", "second");
    tx_settle(t);
    tx_mark(t, "token", 0, 70);
    tx_cursor_end(t, "token", 0);
    tx_count(t, "rows", 5);
    tx_failure(t, slice_str("c"), "bad", "given up");
    tx_drop(t);
    tx_cursor_end(t, "token", 100);
    tx_count(t, "rows", -1);
    tx_settle(t);
    tx_settle(t);
    commit(s, t);

    assert_true(run_marks(r, "token", &marks, &s->err));
    assert_int_equal(marks.count, 2);
    assert_int_equal(marks.list[0].end, 30);
    assert_int_equal(marks.list[1].start, 50);
    interval_set_fini(&marks);
    assert_true(run_cursors(r, "token", &cursors, &s->err));
    assert_int_equal(cursors.count, 1);
    assert_int_equal(cursors.list[0].done_to, 30);
    assert_slice(cursors.list[0].state, "two");
    run_cursors_fini(&cursors);
    assert_true(run_count(r, "rows", &count, &s->err));
    assert_int_equal(count, 6);
    assert_true(run_count(r, "documents", &count, &s->err));
    assert_int_equal(count, 7);
    assert_true(journal_drop_failures(s->j, run_id(r), NULL, &dropped, &s->err));
    assert_int_equal(dropped, 2);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);
}

static void all_kinds_come_back(void **state)
{
    struct scratch *s = *state;
    bool resumed = true;
    bool found;
    int64_t count;
    char *note;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    assert_false(resumed);
    struct tx *t = tx_new(r);
    tx_mark(t, "token", 10, 20);
    tx_mark(t, "token", 30, 40);
    tx_mark(t, "bytes", 0, 7);
    tx_cursor(t, "token", (struct interval){40, 90}, 55, slice_str("page"));
    tx_cursor(t, "token", (struct interval){90, 99}, 90, SLICE_NULL);
    tx_cursor(t, "token", (struct interval){100, 110}, 100, slice_str(""));
    for (uint64_t no = 1; no <= 3; no++)
        tx_block(t, &(struct run_block){.no = no,
                                        .ids = 2,
                                        .open = no == 3,
                                        .body = slice_str(no == 2 ? "" : "[\"a\",\"b\"]")});
    tx_count(t, "ids", 5);
    tx_count(t, "ids", -1);
    tx_note(t, "file", "one");
    tx_failure(t, slice_str("id é"), "http_500", "said no");
    commit(s, t);

    /* replaced, ended, merged */
    tx_mark(t, "token", 20, 30);
    tx_cursor(t, "token", (struct interval){40, 90}, 60, slice_str("next"));
    tx_cursor_end(t, "token", 90);
    tx_block_end(t, 1);
    tx_block(t, &(struct run_block){.no = 3, .ids = 3, .body = slice_str("full")});
    tx_count(t, "ids", 10);
    tx_note(t, "file", "two");
    commit(s, t);
    tx_free(t);
    run_abandon(r); /* as a crash would */
    scratch_close(s);

    scratch_open(s);
    r = scratch_begin(s, &resumed);
    assert_true(resumed);
    struct interval_set marks = {0};
    assert_true(run_marks(r, "token", &marks, &s->err));
    assert_int_equal(marks.count, 1);
    assert_int_equal(marks.list[0].start, 10);
    assert_int_equal(marks.list[0].end, 40);
    interval_set_fini(&marks);
    struct run_cursors cursors;
    assert_true(run_cursors(r, "token", &cursors, &s->err));
    assert_int_equal(cursors.count, 2);
    assert_int_equal(cursors.list[0].range.end, 90);
    assert_int_equal(cursors.list[0].done_to, 60);
    assert_slice(cursors.list[0].state, "next");
    assert_slice(cursors.list[1].state, "");
    run_cursors_fini(&cursors);
    struct run_block b;
    assert_true(run_next_block(r, 0, &b, &found, &s->err) && found);
    assert_int_equal(b.no, 2);
    assert_slice(b.body, "");
    run_block_fini(&b);
    assert_true(run_next_block(r, 2, &b, &found, &s->err) && found);
    assert_int_equal(b.no, 3);
    assert_int_equal(b.ids, 3);
    assert_false(b.open);
    assert_slice(b.body, "full");
    run_block_fini(&b);
    assert_true(run_next_block(r, 3, &b, &found, &s->err));
    assert_false(found);
    assert_true(run_count(r, "ids", &count, &s->err));
    assert_int_equal(count, 14);
    assert_true(run_count(r, "never", &count, &s->err));
    assert_int_equal(count, 0);
    assert_true(run_note(r, "file", &note, &s->err));
    assert_string_equal(note, "two");
    free(note);
    assert_true(run_note(r, "never", &note, &s->err));
    assert_null(note);
    assert_true(run_end(r, RUN_FINISHED, 0, "{}", &s->err));
}

static uint64_t next_block(struct scratch *s, struct run *r, uint64_t after_no)
{
    struct run_block b = {0};
    bool found;

    assert_true(run_next_block(r, after_no, &b, &found, &s->err));
    uint64_t no = found ? b.no : 0;
    run_block_fini(&b);
    return no;
}

static void put_block(struct tx *t, uint64_t no)
{
    tx_block(t, &(struct run_block){.no = no, .ids = 1, .body = slice_str("\"a\"")});
}

/* What has ended is not there, before its row goes, too; and its number is free. */
static void ended_blocks_are_gone(void **state)
{
    struct scratch *s = *state;
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    for (uint64_t no = 1; no <= 4; no++)
        put_block(t, no);
    commit(s, t);
    tx_block_end(t, 1);
    tx_block_end(t, 3);
    commit(s, t);
    tx_free(t);
    assert_int_equal(next_block(s, r, 0), 2);
    run_abandon(r); /* as a crash would */
    scratch_close(s);

    scratch_open(s);
    r = scratch_begin(s, &resumed);
    assert_true(resumed);
    assert_int_equal(next_block(s, r, 0), 2);
    assert_int_equal(next_block(s, r, 2), 4);
    t = tx_new(r);
    put_block(t, 3);
    commit(s, t);
    assert_int_equal(next_block(s, r, 0), 2);
    assert_int_equal(next_block(s, r, 2), 3);
    tx_block_end(t, 2); /* ended and new in one transaction */
    put_block(t, 2);
    tx_block_end(t, 4);
    commit(s, t);
    assert_int_equal(next_block(s, r, 0), 2);
    assert_int_equal(next_block(s, r, 3), 0);
    tx_free(t);
    assert_true(run_end(r, RUN_FINISHED, 0, "{}", &s->err));
}

/* ---- blocks that ended well ---- */

static void put_blocks(struct scratch *s, struct run *r, uint64_t from, uint64_t to)
{
    struct tx *t = tx_new(r);

    for (uint64_t no = from; no <= to; no++)
        put_block(t, no);
    commit(s, t);
    tx_free(t);
}

static void end_block(struct scratch *s, struct run *r, uint64_t no, const char *count)
{
    struct run_block b = {.no = no, .ids = 1, .body = slice_str("\"a\"")};

    if (!run_end_block(r, &b, count, &s->err))
        fail_msg("%s", s->err.text);
}

static int64_t count_of(struct scratch *s, struct run *r, const char *name)
{
    int64_t n = -1;

    assert_true(run_count(r, name, &n, &s->err));
    return n;
}

/* The one file of its kind in the folder of locks. */
static void ended_path(struct scratch *s, struct run *r, char out[256])
{
    snprintf(out, 256, "%s", r->ended.path);
    assert_memory_equal(out, s->dir, strlen(s->dir));
}

static void a_good_end_survives_the_process(void **state)
{
    struct scratch *s = *state;
    char path[256];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    ended_path(s, r, path);
    put_blocks(s, r, 1, 5);
    end_block(s, r, 1, "accepted");
    end_block(s, r, 3, "accepted");
    assert_int_equal(count_of(s, r, "accepted"), 2);
    assert_int_equal(next_block(s, r, 0), 2);
    assert_int_equal(next_block(s, r, 2), 4);
    end_block(s, r, 4, "confirmed");
    end_block(s, r, 5, "accepted");
    run_abandon(r); /* as a crash would, with two of them beside the database */
    scratch_close(s);
    assert_int_equal(access(path, F_OK), 0);

    scratch_open(s);
    r = scratch_begin(s, &resumed);
    assert_true(resumed);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(next_block(s, r, 0), 2);
    assert_int_equal(next_block(s, r, 2), 0);
    assert_int_equal(count_of(s, r, "accepted"), 3);
    assert_int_equal(count_of(s, r, "confirmed"), 1);
    assert_int_equal(count_of(s, r, "blocks"), 4);
    end_block(s, r, 2, "accepted");
    assert_true(run_end(r, RUN_INTERRUPTED, 130, "{}", &s->err));
    assert_int_equal(access(path, F_OK), -1);
    r = scratch_begin(s, &resumed);
    assert_true(resumed);
    assert_int_equal(next_block(s, r, 0), 0);
    assert_int_equal(count_of(s, r, "accepted"), 4);
    assert_true(run_end(r, RUN_FINISHED, 0, "{}", &s->err));
}

/* A machine that crashed may have kept the note and lost the block, and another may have come. */
static void a_good_end_is_of_its_block_alone(void **state)
{
    static const char *const changes[] = {
        "UPDATE block SET body = CAST('\"b\"' AS BLOB) WHERE no = 1",
        "UPDATE block SET ids = 2 WHERE no = 1",
        "UPDATE block SET open = 1 WHERE no = 1",
        "UPDATE block SET no = 7 WHERE no = 1",
    };
    struct scratch *s = *state;
    bool resumed;

    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        scratch_open(s);
        struct run *r = scratch_begin(s, &resumed);
        put_blocks(s, r, 1, 2);
        end_block(s, r, 1, "accepted");
        end_block(s, r, 2, "accepted");
        assert_int_equal(sqlite3_exec(s->j->writer.handle, changes[i], NULL, NULL, NULL),
                         SQLITE_OK);
        run_abandon(r);
        scratch_close(s);

        scratch_open(s);
        r = scratch_begin(s, &resumed);
        assert_true(resumed);
        assert_int_equal(next_block(s, r, 0), i == 3 ? 7 : 1);
        assert_int_equal(count_of(s, r, "accepted"), 1);
        assert_int_equal(count_of(s, r, "blocks"), 1);
        assert_true(run_end(r, RUN_FINISHED, 0, "{}", &s->err));
        scratch_close(s);
    }
}

static void a_good_end_is_of_its_run_alone(void **state)
{
    struct scratch *s = *state;
    char path[256];
    char aside[300];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    ended_path(s, r, path);
    put_blocks(s, r, 1, 1);
    end_block(s, r, 1, "accepted");
    snprintf(aside, sizeof aside, "%s-aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_true(run_end(r, RUN_FINISHED, 0, "{}", &s->err));
    r = scratch_begin(s, &resumed);
    assert_false(resumed);
    put_blocks(s, r, 1, 1);
    run_abandon(r);
    assert_int_equal(rename(aside, path), 0);
    r = scratch_begin(s, &resumed);
    assert_true(resumed);
    assert_int_equal(next_block(s, r, 0), 1);
    assert_int_equal(count_of(s, r, "accepted"), 0);
    assert_true(run_end(r, RUN_FINISHED, 0, "{}", &s->err));
}

enum { ENDERS = 4, ENDS = 3000 };

struct ender {
    struct scratch *s;
    struct run *run;
    uint64_t first;
    bool ok;
};

static void *end_many(void *arg)
{
    struct ender *e = arg;
    struct err err;

    e->ok = true;
    for (uint64_t no = e->first; e->ok && no < e->first + ENDS; no++)
        e->ok = run_end_block(e->run,
                              &(struct run_block){.no = no, .ids = 1, .body = slice_str("\"a\"")},
                              no % 100 ? "accepted" : "confirmed", &err);
    return NULL;
}

/* More of them than wait beside the database, by several threads, while others commit. */
static void many_good_ends(void **state)
{
    struct scratch *s = *state;
    struct ender enders[ENDERS];
    pthread_t threads[ENDERS];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    put_blocks(s, r, 1, ENDERS * ENDS);
    for (int i = 0; i < ENDERS; i++) {
        enders[i] = (struct ender){.s = s, .run = r, .first = (uint64_t)i * ENDS + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, end_many, &enders[i]), 0);
    }
    for (uint64_t no = 0; no < 20; no++)
        put_blocks(s, r, ENDERS * ENDS + 1 + no, ENDERS * ENDS + 1 + no);
    for (int i = 0; i < ENDERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(enders[i].ok);
    }
    assert_int_equal(next_block(s, r, 0), ENDERS * ENDS + 1);
    assert_int_equal(count_of(s, r, "confirmed"), ENDERS * ENDS / 100);
    assert_int_equal(count_of(s, r, "accepted"), ENDERS * ENDS * 99 / 100);
    assert_int_equal(count_of(s, r, "blocks"), ENDERS * ENDS);
    run_abandon(r);
}

static void a_good_end_that_is_not_safe_is_an_error(void **state)
{
    struct scratch *s = *state;
    struct run_block b = {.no = 1, .ids = 1, .body = slice_str("\"a\"")};
    char path[256];
    char text[400];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    ended_path(s, r, path);
    put_blocks(s, r, 1, 1);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(run_end_block(r, &b, "accepted", &s->err));
    snprintf(text, sizeof text, "journal file %s: Is a directory", path);
    assert_string_equal(s->err.text, text);
    assert_int_equal(s->err.kind, ERR_SYSTEM);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(next_block(s, r, 0), 1);
    assert_int_equal(count_of(s, r, "accepted"), 0);
    run_abandon(r);
}

/* ---- several at once ---- */

struct writer {
    struct scratch *s;
    sem_t *begin; /* waits in the midst of its transaction, when set */
    bool fails;
    const char *name;
    bool ok;
    struct err err;
};

static bool write_name(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct writer *w = ctx;

    (void)j;
    if (w->begin)
        sem_wait(w->begin);
    return db_do(db, SQL_NOTE_PUT, err, "itt", (int64_t)1, w->name, "here") &&
           (!w->fails || err_set(err, ERR_REJECT, "%s is not wanted", w->name));
}

static void *write_one(void *arg)
{
    struct writer *w = arg;

    w->ok = journal_do(w->s->j, write_name, w, &w->err);
    return NULL;
}

static void await_waiting(struct journal *j, size_t wanted)
{
    size_t n;

    do {
        n = 0;
        pthread_mutex_lock(&j->lock);
        for (struct job *job = j->first; job; job = job->next)
            n++;
        if (!j->led)
            n = SIZE_MAX;
        pthread_mutex_unlock(&j->lock);
    } while (n != wanted);
}

static void assert_note(struct scratch *s, struct run *r, const char *name, bool there)
{
    AUTO_STR char *note = NULL;

    assert_true(run_note(r, name, &note, &s->err));
    assert_int_equal(note != NULL, there);
}

/* One that fails leaves nothing behind, and does no harm to those that share its transaction. */
static void a_failure_stays_alone(void **state)
{
    struct scratch *s = *state;
    sem_t begin;
    bool resumed;
    pthread_t threads[4];

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    sem_init(&begin, 0, 0);
    struct writer w[] = {{s, &begin, false, "first", false, {0}},
                         {s, NULL, false, "good", false, {0}},
                         {s, NULL, true, "bad", true, {0}},
                         {s, NULL, false, "late", false, {0}}};
    for (size_t i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, write_one, &w[i]);
        await_waiting(s->j, i); /* the first is at work, the others wait behind it */
    }
    sem_post(&begin);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(w[i].ok, !w[i].fails);
        assert_note(s, r, w[i].name, !w[i].fails);
    }
    assert_string_equal(w[2].err.text, "bad is not wanted");
    sem_destroy(&begin);
    run_abandon(r);
}

/* ---- lists ---- */

struct seen {
    int runs;
    struct run_info newest; /* its texts are gone */
    char texts[256];
    int failures;
};

static bool see_run(void *ctx, const struct run_info *info)
{
    struct seen *seen = ctx;

    if (seen->runs++ == 0) {
        seen->newest = *info;
        snprintf(seen->texts, sizeof seen->texts, "%s %s %s", info->command, info->params,
                 info->summary);
    }
    return true;
}

static bool see_failure(void *ctx, const struct failure_info *info)
{
    struct seen *seen = ctx;

    seen->failures++;
    snprintf(seen->texts, sizeof seen->texts, "%s|%s|%s|%d", info->key, info->reason, info->text,
             info->at_us > 0);
    return true;
}

static void lists(void **state)
{
    struct scratch *s = *state;
    struct seen seen = {0};
    bool resumed;
    char id[32];

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    snprintf(id, sizeof id, "%s", run_id(r));
    assert_int_equal(strlen(id), strlen("20260102-030405-7f3a"));
    struct tx *t = tx_new(r);
    tx_failure(t, slice_str("k"), "missing", "no row");
    commit(s, t);
    tx_free(t);

    assert_true(journal_each_run(s->j, see_run, &seen, &s->err));
    assert_int_equal(seen.newest.pid, getpid());
    assert_int_equal(seen.newest.state, RUN_RUNNING);
    assert_int_equal(seen.newest.started_us, run_started_us(r));
    assert_true(run_end(r, RUN_FINISHED, 1, "{\"failed\":1}", &s->err));

    seen.runs = 0;
    assert_true(journal_each_run(s->j, see_run, &seen, &s->err));
    assert_int_equal(seen.runs, 1);
    assert_int_equal(seen.newest.pid, 0);
    assert_int_equal(seen.newest.state, RUN_FINISHED);
    assert_int_equal(seen.newest.exit_code, 1);
    assert_true(seen.newest.ended_us >= seen.newest.started_us);
    assert_string_equal(seen.texts, "sync {} {\"failed\":1}");
    assert_string_equal(seen.newest.id, id);
    assert_true(journal_each_failure(s->j, id, see_failure, &seen, &s->err));
    assert_int_equal(seen.failures, 1);
    assert_string_equal(seen.texts, "k|missing|no row|1");
    assert_true(journal_each_failure(s->j, "none", see_failure, &seen, &s->err));
    assert_int_equal(seen.failures, 1);
}

struct listed {
    char text[512];
    int64_t no[8];
    int count;
};

static bool list_failure(void *ctx, const struct failure_info *f)
{
    struct listed *l = ctx;
    size_t n = strlen(l->text);

    snprintf(l->text + n, sizeof l->text - n, "%s:%s|%s|%s;", f->object, f->key, f->reason,
             f->text);
    l->no[l->count++] = f->no;
    return true;
}

static struct listed listed(struct scratch *s, const char *id, int64_t after)
{
    struct listed l = {0};

    assert_true(journal_failures_after(s->j, id, after, list_failure, &l, &s->err));
    return l;
}

static void failures_end_move_and_go(void **state)
{
    struct scratch *s = *state;
    bool resumed;
    uint64_t dropped;
    char id[32];

    scratch_open(s);
    struct run *old = scratch_begin(s, &resumed);
    snprintf(id, sizeof id, "%s", run_id(old));
    struct tx *t = tx_new(old);
    tx_failure(t, slice_str("a"), "missing", "1");
    tx_failure_of(t, "user", slice_str("b"), "http_500", "2");
    tx_failure(t, slice_str("c"), "missing", "3");
    commit(s, t);
    tx_free(t);
    assert_true(run_end(old, RUN_FINISHED, 1, NULL, &s->err));
    struct listed l = listed(s, id, 0);
    assert_string_equal(l.text, ":a|missing|1;user:b|http_500|2;:c|missing|3;");
    assert_string_equal(listed(s, id, l.no[0]).text, "user:b|http_500|2;:c|missing|3;");

    struct run_spec spec = {.command = "retry", .identity = "x", .params = "{}"};
    struct run *again = run_begin(s->j, &spec, &resumed, &s->err);
    t = tx_new(again);
    tx_failure_again(t, l.no[1], "contended", "new");
    tx_failure_again(t, 1000, "none", "there is no such");
    tx_failure(t, slice_str("d"), "unread_range", "4");
    commit(s, t);
    tx_free(t);
    assert_true(journal_replace_failures(s->j, id, &l.no[0], 1, run_id(again), &s->err));
    assert_string_equal(listed(s, run_id(again), 0).text, "");
    assert_string_equal(listed(s, id, 0).text,
                        "user:b|contended|new;:c|missing|3;:d|unread_range|4;");

    assert_true(journal_drop_failures(s->j, id, "missing", &dropped, &s->err));
    assert_int_equal(dropped, 1);
    assert_string_equal(listed(s, id, 0).text, "user:b|contended|new;:d|unread_range|4;");
    assert_true(journal_drop_failures(s->j, "none", NULL, &dropped, &s->err));
    assert_int_equal(dropped, 0);
    assert_true(run_end(again, RUN_FINISHED, 0, NULL, &s->err));
    spec.identity = "y";
    again = run_begin(s->j, &spec, &resumed, &s->err);
    t = tx_new(again);
    tx_failure_end(t, l.no[1]);
    commit(s, t);
    tx_free(t);
    assert_string_equal(listed(s, id, 0).text, ":d|unread_range|4;");
    assert_true(journal_drop_failures(s->j, id, NULL, &dropped, &s->err));
    assert_int_equal(dropped, 1);
    assert_string_equal(listed(s, id, 0).text, "");
    run_abandon(again);
}

static void targets_are_remembered(void **state)
{
    struct scratch *s = *state;
    char *mode;

    scratch_open(s);
    assert_true(journal_target(s->j, "uuid1", &mode, &s->err));
    assert_null(mode);
    assert_true(journal_note_target(s->j, "uuid1", "read_time", "r1", &s->err));
    assert_true(journal_note_target(s->j, "uuid1", "sequence", "r2", &s->err));
    scratch_close(s);
    scratch_open(s);
    assert_true(journal_target(s->j, "uuid1", &mode, &s->err));
    assert_string_equal(mode, "sequence");
    free(mode);
    assert_true(journal_target(s->j, "uuid2", &mode, &s->err));
    assert_null(mode);
}

/* ---- which run goes on ---- */

static void resume_rules(void **state)
{
    struct scratch *s = *state;
    struct run_spec spec = {.command = "sync", .identity = "x", .params = "{}", .resumable = true};
    struct run_spec other = spec;
    struct run_spec dry = spec;
    char first[32];
    bool resumed;

    other.identity = "y";
    dry.resumable = false;
    scratch_open(s);
    struct run *r = run_begin(s->j, &spec, &resumed, &s->err);
    snprintf(first, sizeof first, "%s", run_id(r));
    assert_true(run_end(r, RUN_INTERRUPTED, 130, NULL, &s->err));

    r = run_begin(s->j, &other, &resumed, &s->err); /* another identity is another run */
    assert_false(resumed);
    assert_true(run_end(r, RUN_FINISHED, 0, NULL, &s->err));

    r = run_begin(s->j, &dry, &resumed, &s->err); /* never resumes */
    assert_false(resumed);
    run_abandon(r);

    r = run_begin(s->j, &spec, &resumed, &s->err); /* and is never resumed */
    assert_true(resumed);
    assert_string_equal(run_id(r), first);
    assert_true(run_end(r, RUN_INTERRUPTED, 130, NULL, &s->err));

    spec.fresh = true;
    r = run_begin(s->j, &spec, &resumed, &s->err);
    assert_false(resumed);
    assert_string_not_equal(run_id(r), first);
    assert_true(run_end(r, RUN_FINISHED, 1, NULL, &s->err));

    spec.fresh = false; /* neither the finished one nor the one that --fresh ended goes on */
    r = run_begin(s->j, &spec, &resumed, &s->err);
    assert_false(resumed);
    run_abandon(r);
}

/* ---- locks ---- */

static void the_same_run_twice(void **state)
{
    struct scratch *s = *state;
    struct run_spec spec = {.command = "sync", .identity = "a table", .params = "{}"};
    char expected[512];
    char when[32];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    time_t since = (time_t)(run_started_us(r) / 1000000);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&since));
    assert_null(run_begin(s->j, &spec, &resumed, &s->err));
    assert_int_equal(s->err.kind, ERR_USER);
    snprintf(expected, sizeof expected,
             "the same run is in progress (pid %ld, started %s); wait for it, or stop it",
             (long)getpid(), when);
    assert_string_equal(s->err.text, expected);

    spec.identity = "another";
    struct run *beside = run_begin(s->j, &spec, &resumed, &s->err);
    assert_non_null(beside);
    run_abandon(beside);
    run_abandon(r);
    run_abandon(scratch_begin(s, &resumed)); /* free again */
    assert_true(resumed);
}

static void the_lock_dies_with_its_process(void **state)
{
    struct scratch *s = *state;
    struct seen seen = {0};
    bool resumed;
    int ready[2];
    char c;

    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct run_spec spec = {
            .command = "sync", .identity = "a table", .params = "{}", .resumable = true};
        s->j = journal_open(s->dir, false, &s->clock, &s->err);
        if (!s->j || !run_begin(s->j, &spec, &resumed, &s->err) || write(ready[1], "r", 1) != 1)
            _exit(1);
        pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    scratch_open(s);
    assert_null(run_begin(
        s->j, &(struct run_spec){.command = "sync", .identity = "a table", .params = "{}"},
        &resumed, &s->err));
    char pid[32];
    snprintf(pid, sizeof pid, "(pid %d,", child);
    assert_non_null(strstr(s->err.text, pid));
    assert_true(journal_each_run(s->j, see_run, &seen, &s->err));
    assert_int_equal(seen.newest.pid, child);

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    seen.runs = 0;
    assert_true(journal_each_run(s->j, see_run, &seen, &s->err));
    assert_int_equal(seen.newest.pid, 0);
    assert_int_equal(seen.newest.state, RUN_RUNNING);
    run_abandon(scratch_begin(s, &resumed));
    assert_true(resumed);
    close(ready[0]);
    close(ready[1]);
}

/* ---- files ---- */

static void private_files(void **state)
{
    struct scratch *s = *state;
    struct err err;
    struct stat st;
    char deep[128];
    char path[192];
    static const char *const names[] = {"journal.db", "journal.db-wal", "journal.db-shm"};

    snprintf(deep, sizeof deep, "%s/a/b", s->dir);
    struct journal *j = journal_open(deep, true, &s->clock, &err);
    assert_non_null(j);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", deep, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    journal_close(j);
}

static void sql(const char *dir, const char *text)
{
    char path[128];
    sqlite3 *db;

    snprintf(path, sizeof path, "%s/journal.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void other_files(void **state)
{
    struct scratch *s = *state;
    char expected[512];

    scratch_open(s);
    scratch_close(s);
    sql(s->dir, "PRAGMA user_version=7");
    assert_null(journal_open(s->dir, false, &s->clock, &s->err));
    assert_int_equal(s->err.kind, ERR_USER);
    snprintf(expected, sizeof expected,
             "journal %s/journal.db was written by a newer cass2es (form 7, this one knows 4): use "
             "that one, or another --state-dir",
             s->dir);
    assert_string_equal(s->err.text, expected);

    sql(s->dir, "PRAGMA application_id=1");
    assert_null(journal_open(s->dir, false, &s->clock, &s->err));
    assert_int_equal(s->err.kind, ERR_USER);
    snprintf(expected, sizeof expected,
             "%s/journal.db is a database of another program: use another --state-dir", s->dir);
    assert_string_equal(s->err.text, expected);
}

/* A file of the first form gets what came later, and keeps what it has. */
static void the_first_form(void **state)
{
    struct scratch *s = *state;
    bool resumed;
    char *mode;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    char *id = xstrdup(run_id(r));
    struct tx *t = tx_new(r);
    tx_failure(t, slice_str("k"), "missing", "no row");
    commit(s, t);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);
    sql(s->dir, "ALTER TABLE failure DROP COLUMN object; DROP TABLE target; DROP TABLE call; DROP "
                "TABLE outcome; PRAGMA user_version=1");

    scratch_open(s);
    assert_string_equal(listed(s, id, 0).text, ":k|missing|no row;");
    assert_true(journal_target(s->j, "uuid", &mode, &s->err));
    assert_null(mode);
    r = scratch_begin(s, &resumed);
    assert_true(resumed);
    run_abandon(r);
    free(id);
}

/* Ids of a server as form 3 had them: all strings as their text. */
static void the_third_form(void **state)
{
    static const char *const keys[] = {"plain", "5", "\"q\"", "{\"id\":\"o\"}", "[1", ""};
    struct scratch *s = *state;
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    char *id = xstrdup(run_id(r));
    struct tx *t = tx_new(r);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        tx_failure_of(t, "user", slice_str(keys[i]), "missing", "");
    tx_failure(t, slice_str("5"), "bad_id", ""); /* of a file */
    commit(s, t);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);
    sql(s->dir, "PRAGMA user_version=3");

    scratch_open(s);
    assert_string_equal(listed(s, id, 0).text,
                        "user:plain|missing|;user:\"5\"|missing|;user:\"\\\"q\\\"\"|missing|;"
                        "user:{\"id\":\"o\"}|missing|;user:[1|missing|;user:|missing|;"
                        ":5|bad_id|;");
    free(id);
}

static void damaged(void **state)
{
    struct scratch *s = *state;
    char path[128];
    char expected[512];
    char noise[4096];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    for (int i = 0; i < 2000; i++)
        tx_failure(t, slice_str("some key"), "reason", "some longer text to fill several pages");
    commit(s, t);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);

    /* pages in the middle: found when they are read */
    snprintf(path, sizeof path, "%s/journal.db", s->dir);
    memset(noise, 0xa5, sizeof noise);
    int fd = open(path, O_RDWR);
    for (off_t at = 4096; at < lseek(fd, 0, SEEK_END); at += 4096)
        assert_int_equal(pwrite(fd, noise, sizeof noise, at), sizeof noise);
    scratch_open(s);
    struct run_spec spec = {.command = "sync", .identity = "a table", .params = "{}"};
    assert_null(run_begin(s->j, &spec, &resumed, &s->err));
    assert_int_equal(s->err.kind, ERR_SYSTEM);
    snprintf(expected, sizeof expected,
             "journal %s is damaged (database disk image is malformed): move it away, or use "
             "another --state-dir",
             path);
    assert_string_equal(s->err.text, expected);
    scratch_close(s);

    /* the beginning: no database at all */
    assert_int_equal(pwrite(fd, noise, 512, 0), 512);
    close(fd);
    assert_null(journal_open(s->dir, false, &s->clock, &s->err));
    assert_int_equal(s->err.kind, ERR_SYSTEM);
    snprintf(expected, sizeof expected,
             "journal %s is damaged (file is not a database): move it away, or use another "
             "--state-dir",
             path);
    assert_string_equal(s->err.text, expected);
}

static void no_rights(void **state)
{
    struct scratch *s = *state;
    char dir[128];
    char expected[512];
    bool root = geteuid() == 0;

    snprintf(dir, sizeof dir, "%s/ro", s->dir);
    assert_int_equal(mkdir(dir, 0555), 0);
    assert_int_equal(chmod(s->dir, 0755), 0);
    if (root)
        assert_int_equal(seteuid(65534), 0); /* root may write everywhere */
    struct journal *j = journal_open(dir, false, &s->clock, &s->err);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_null(j);
    assert_int_equal(s->err.kind, ERR_SYSTEM);
    snprintf(expected, sizeof expected,
             "state folder: can't create %s/locks: Permission denied: use another --state-dir",
             dir);
    assert_string_equal(s->err.text, expected);

    /* a folder that went read-only later */
    snprintf(dir, sizeof dir, "%s/ro/locks", s->dir);
    assert_int_equal(mkdir(dir, 0555), 0);
    snprintf(dir, sizeof dir, "%s/ro", s->dir);
    if (root)
        assert_int_equal(seteuid(65534), 0);
    j = journal_open(dir, false, &s->clock, &s->err);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_null(j);
    snprintf(expected, sizeof expected,
             "journal %s/journal.db can't be created (Permission denied): check the rights of its "
             "folder, or use another --state-dir",
             dir);
    assert_string_equal(s->err.text, expected);
}

/* ---- pruning ---- */

static int64_t fixed_wall;

static int64_t wall(void *ctx)
{
    (void)ctx;
    return fixed_wall;
}

static bool count_run(void *ctx, const struct run_info *info)
{
    (void)info;
    (*(int *)ctx)++;
    return true;
}

static struct run *begin_as(struct scratch *s, const char *identity, bool resumable)
{
    struct run_spec spec = {
        .command = "sync", .identity = identity, .params = "{}", .resumable = resumable};
    bool resumed;
    struct run *r = run_begin(s->j, &spec, &resumed, &s->err);

    assert_non_null(r);
    return r;
}

static void old_runs_go(void **state)
{
    struct scratch *s = *state;
    const int64_t day_us = INT64_C(86400) * 1000000;
    int runs = 0;

    s->clock.wall_us = wall;
    fixed_wall = 1000 * day_us;
    scratch_open(s);
    struct run *r = begin_as(s, "finished", true);
    struct tx *t = tx_new(r);
    tx_failure(t, slice_str("k"), "r", "t");
    tx_count(t, "ids", 1);
    commit(s, t);
    tx_free(t);
    assert_true(run_end(r, RUN_FINISHED, 0, NULL, &s->err));
    assert_true(run_end(begin_as(s, "waiting", true), RUN_INTERRUPTED, 130, NULL, &s->err));
    run_abandon(begin_as(s, "killed", true));
    run_abandon(begin_as(s, "killed dry run", false));
    struct run *busy = begin_as(s, "dry run, still going", false);

    fixed_wall += 30 * day_us;
    assert_true(journal_prune(s->j, 30 * 86400 + 1, &s->err));
    assert_true(journal_each_run(s->j, count_run, &runs, &s->err));
    assert_int_equal(runs, 5);
    runs = 0;
    assert_true(journal_prune(s->j, 30 * 86400, &s->err));
    assert_true(journal_each_run(s->j, count_run, &runs, &s->err));
    assert_int_equal(runs, 3); /* what can be resumed stays, and what has a process */
    run_abandon(busy);
    runs = 0;
    assert_true(journal_prune(s->j, 30 * 86400, &s->err));
    assert_true(journal_each_run(s->j, count_run, &runs, &s->err));
    assert_int_equal(runs, 2);

    sqlite3 *db;
    sqlite3_stmt *q;
    char path[128];
    snprintf(path, sizeof path, "%s/journal.db", s->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_prepare_v2(db, "SELECT (SELECT count(*) FROM failure) + (SELECT count(*) FROM count)",
                       -1, &q, NULL);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(q, 0), 0); /* gone with their run */
    sqlite3_finalize(q);
    sqlite3_close(db);
}

static void add_failures_at(struct scratch *s, struct run *r, const char *keys, int64_t at_us)
{
    struct tx *t = tx_new(r);

    fixed_wall = at_us;
    for (const char *key = keys; *key; key++)
        tx_failure(t, slice_of(key, 1), "r", "t");
    commit(s, t);
    tx_free(t);
}

static void assert_failures(struct scratch *s, struct run *r, const char *text)
{
    assert_string_equal(listed(s, run_id(r), 0).text, text);
}

/* In the place of the C library's, also for SQLite. */
static atomic_int synced;

int fdatasync(int fd)
{
    synced++;
    return (int)syscall(SYS_fdatasync, fd);
}

static int syncs_of(struct scratch *s, struct run *r, bool (*commits)(struct tx *, struct err *))
{
    struct tx *t = tx_new(r);
    int before = synced;

    tx_count(t, "ids", 1);
    assert_true(commits(t, &s->err));
    tx_free(t);
    return synced - before;
}

static void only_what_has_to_waits_for_the_disk(void **state)
{
    struct scratch *s = *state;
    int64_t ids;

    s->j = journal_open(s->dir, true, &s->clock, &s->err);
    assert_non_null(s->j);
    struct run *r = begin_as(s, "server", true);
    assert_true(syncs_of(s, r, journal_commit) > 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(syncs_of(s, r, journal_commit_soon), 0);
    assert_true(syncs_of(s, r, journal_commit) > 0);
    assert_true(run_count(r, "ids", &ids, &s->err));
    assert_int_equal(ids, 5);
    run_abandon(r);
}

static void old_failures_of_a_run_that_goes_on(void **state)
{
    struct scratch *s = *state;
    const int64_t day_us = INT64_C(86400) * 1000000;
    uint64_t count;

    s->clock.wall_us = wall;
    scratch_open(s);
    fixed_wall = day_us;
    struct run *r = begin_as(s, "server", true);
    struct run *other = begin_as(s, "other", true);
    add_failures_at(s, other, "x", 1 * day_us);
    add_failures_at(s, r, "ab", 1 * day_us);
    add_failures_at(s, r, "cd", 2 * day_us);
    add_failures_at(s, r, "e", 9 * day_us);
    /* The oldest failed again lately. */
    struct tx *t = tx_new(r);
    tx_failure_again(t, listed(s, run_id(r), 0).no[0], "r", "again");
    commit(s, t);
    tx_free(t);
    fixed_wall = 10 * day_us;

    assert_true(run_prune_failures(r, 9 * 86400, 100, &count, &s->err));
    assert_int_equal(count, 0);
    assert_true(run_prune_failures(r, 9 * 86400 - 1, 100, &count, &s->err));
    assert_int_equal(count, 1);
    assert_failures(s, r, ":a|r|again;:c|r|t;:d|r|t;:e|r|t;");
    assert_true(run_prune_failures(r, 1000 * 86400, 2, &count, &s->err));
    assert_int_equal(count, 2);
    assert_failures(s, r, ":d|r|t;:e|r|t;");
    assert_true(run_prune_failures(r, 1000 * 86400, 0, &count, &s->err));
    assert_failures(s, r, "");
    assert_failures(s, other, ":x|r|t;");
    run_abandon(r);
    run_abandon(other);
}

static void many_failures_go_step_by_step(void **state)
{
    struct scratch *s = *state;
    uint64_t count;
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    for (int i = 0; i < 3500; i++)
        tx_failure(t, slice_str("k"), "r", "t");
    commit(s, t);
    tx_free(t);
    assert_true(run_prune_failures(r, 86400, 7, &count, &s->err));
    assert_int_equal(count, 3493);
    assert_int_equal(listed(s, run_id(r), 0).count, 7);
    run_abandon(r);
}

/* ---- marks ---- */

static void marks_like_a_set(void **state)
{
    struct scratch *s = *state;
    struct interval_set model = {0};
    unsigned seed = (unsigned)time(NULL);
    bool resumed;

    print_message("seed %u\n", seed);
    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    for (int i = 0; i < 2000; i++) {
        int64_t start =
            i % 5 == 0 ? INT64_MIN + rand_r(&seed) % 500 : INT64_MAX - 600 + rand_r(&seed) % 500;
        int64_t end = start + rand_r(&seed) % 9;

        tx_mark(t, "token", start, end);
        interval_set_add(&model, start, end);
        if (i % 20)
            continue;
        commit(s, t);
        struct interval_set got;
        assert_true(run_marks(r, "token", &got, &s->err));
        assert_int_equal(got.count, model.count);
        assert_memory_equal(got.list, model.list, got.count * sizeof *got.list);
        interval_set_fini(&got);
    }
    tx_mark(t, "token", INT64_MIN, INT64_MAX);
    commit(s, t);
    struct interval_set got;
    assert_true(run_marks(r, "token", &got, &s->err));
    assert_int_equal(got.count, 1);
    assert_int_equal(got.list[0].start, INT64_MIN);
    assert_int_equal(got.list[0].end, INT64_MAX);
    interval_set_fini(&got);
    interval_set_fini(&model);
    tx_free(t);
    run_abandon(r);
}

static void many_marks_stay_small(void **state)
{
    struct scratch *s = *state;
    const int marks = 100000;
    struct stat st;
    char path[128];
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    /* Every second one first, so that the table is at its worst, then what closes the gaps. */
    for (int half = 0; half < 2; half++) {
        for (int i = half; i < marks; i += 2) {
            tx_mark(t, "token", i * 10, i * 10 + 10);
            if (i % 1000 == half)
                commit(s, t);
        }
    }
    commit(s, t);
    struct interval_set got;
    assert_true(run_marks(r, "token", &got, &s->err));
    assert_int_equal(got.count, 1);
    assert_int_equal(got.list[0].start, 0);
    assert_int_equal(got.list[0].end, marks * 10);
    interval_set_fini(&got);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);
    snprintf(path, sizeof path, "%s/journal.db", s->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_in_range(st.st_size, 1, 4 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_SCRATCH(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
        IN_SCRATCH(all_kinds_come_back),
        IN_SCRATCH(what_is_settled_stays),
        IN_SCRATCH(ended_blocks_are_gone),
        IN_SCRATCH(a_good_end_survives_the_process),
        IN_SCRATCH(a_good_end_is_of_its_block_alone),
        IN_SCRATCH(a_good_end_is_of_its_run_alone),
        IN_SCRATCH(many_good_ends),
        IN_SCRATCH(a_good_end_that_is_not_safe_is_an_error),
        IN_SCRATCH(a_failure_stays_alone),
        IN_SCRATCH(lists),
        IN_SCRATCH(failures_end_move_and_go),
        IN_SCRATCH(only_what_has_to_waits_for_the_disk),
        IN_SCRATCH(old_failures_of_a_run_that_goes_on),
        IN_SCRATCH(many_failures_go_step_by_step),
        IN_SCRATCH(targets_are_remembered),
        IN_SCRATCH(resume_rules),
        IN_SCRATCH(the_same_run_twice),
        IN_SCRATCH(the_lock_dies_with_its_process),
        IN_SCRATCH(private_files),
        IN_SCRATCH(other_files),
        IN_SCRATCH(the_first_form),
        IN_SCRATCH(the_third_form),
        IN_SCRATCH(damaged),
        IN_SCRATCH(no_rights),
        IN_SCRATCH(old_runs_go),
        IN_SCRATCH(marks_like_a_set),
        IN_SCRATCH(many_marks_stay_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
