/*
 * A journal in a scratch folder, and a backend that does what a test says. Ids speak: "missing...",
 * "bad...", "fails..." come to that; "lies..." is a document that came to nothing; all else is
 * indexed.
 */
#pragma once
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/work.h"

struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hold;           /* calls wait until it is false */
    const char *scans;   /* this type's calls read whole tables, and only they wait; NULL: none */
    int holding;         /* calls that do */
    int errors;          /* calls fail so many times, */
    enum err_kind error; /* with this */
    int calls;
    uint64_t ids;
    uint32_t most; /* ids of one call of the backend */
    struct cancel *cancel;
};

struct bed {
    char dir[64];
    struct clock clock;
    struct cancel cancel;
    struct journal *journal;
    struct run *run;
    struct fake fake;
    struct metrics metrics;
    struct work *work;
    struct err err;
};

static const char *const bed_types[] = {"batch", "user", "location", NULL};

static void *fake_open(void *ctx, struct err *err)
{
    (void)err;
    return ctx;
}

static void fake_close(void *worker)
{
    (void)worker;
}

static void fake_result(const struct json *id, struct keyed_result *r)
{
    const char *text = id->kind == JSON_STRING ? (const char *)id->text.p : "";

    *r = (struct keyed_result){.outcome = KEYED_FOUND, .ok = true};
    if (id->kind == JSON_NUMBER || strncmp(text, "bad", 3) == 0) {
        *r = (struct keyed_result){.outcome = KEYED_BAD, .reason = "bad_id", .text = "is no id"};
    } else if (strncmp(text, "missing", 7) == 0) {
        *r = (struct keyed_result){.outcome = KEYED_MISSING, .reason = "missing", .text = "no row"};
    } else {
        r->counts = (struct keyed_counts){.rows = 1, .documents = 1, .indexed = 1};
        if (strncmp(text, "lies", 4) == 0)
            r->counts.indexed = 0;
        if (strncmp(text, "fails", 5) == 0) {
            r->ok = false;
            r->counts.indexed = 0;
            r->counts.failed = 1;
            snprintf(r->reason, sizeof r->reason, "mapper_parsing_exception");
        }
    }
}

static bool fake_sync(void *worker, const char *type, const struct json *ids,
                      struct keyed_result *results, struct err *err)
{
    struct fake *f = worker;
    bool ok = true;

    pthread_mutex_lock(&f->lock);
    bool waits = !f->scans || strcmp(type, f->scans) == 0;
    f->holding += waits;
    pthread_cond_broadcast(&f->changed);
    while (waits && f->hold && cancel_level(f->cancel) == 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 5000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&f->changed, &f->lock, &until);
    }
    f->holding -= waits;
    if (waits && f->hold) {
        ok = err_set(err, ERR_CANCEL, "stopped on request");
    } else if (f->errors > 0) {
        f->errors--;
        ok = err_set(err, f->error, "elastic: index is not there");
    } else {
        f->calls++;
        f->ids += ids->count;
        f->most = ids->count > f->most ? ids->count : f->most;
    }
    pthread_mutex_unlock(&f->lock);
    if (!ok)
        return false;
    size_t i = 0;
    json_each (id, ids)
        fake_result(id, &results[i++]);
    return true;
}

static bool fake_scans(void *worker, const char *type, const struct json *ids)
{
    const struct fake *f = worker;

    (void)ids;
    return f->scans && strcmp(type, f->scans) == 0;
}

static void fake_hold(struct fake *f, bool hold)
{
    pthread_mutex_lock(&f->lock);
    f->hold = hold;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void fake_await_holding(struct fake *f, int n)
{
    pthread_mutex_lock(&f->lock);
    while (f->holding < n)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static int bed_setup(void **state)
{
    struct bed *b = xalloc(sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/cass2es-serve-XXXXXX");
    if (!mkdtemp(b->dir) || !cancel_init(&b->cancel, &b->err))
        return -1;
    clock_init_system(&b->clock);
    pthread_mutex_init(&b->fake.lock, NULL);
    pthread_cond_init(&b->fake.changed, NULL);
    b->fake.cancel = &b->cancel;
    *state = b;
    return 0;
}

static void bed_start(struct bed *b, unsigned threads, uint64_t queue_ids)
{
    struct run_spec spec = {
        .command = "serve", .identity = "serve", .params = "{}", .resumable = true};
    struct work_options o = {
        .backend = {.ctx = &b->fake,
                    .open = fake_open,
                    .sync = fake_sync,
                    .scans = fake_scans,
                    .close = fake_close},
        .clock = &b->clock,
        .cancel = &b->cancel,
        .types = bed_types,
        .threads = threads,
        .queue_ids = queue_ids,
        .metrics = &b->metrics,
    };
    bool resumed;

    b->journal = journal_open(b->dir, false, &b->clock, &b->err);
    assert_non_null(b->journal);
    b->run = run_begin(b->journal, &spec, &resumed, &b->err);
    assert_non_null(b->run);
    o.run = b->run;
    b->work = work_start(&o, &b->err);
    assert_non_null(b->work);
}

/* What is left must be `left`; the books must balance. */
static void bed_stop(struct bed *b, uint64_t left)
{
    uint64_t got;
    bool balanced;

    assert_true(work_stop(b->work, &got, &balanced, &b->err));
    assert_int_equal(got, left);
    assert_true(balanced);
    work_free(TAKE(b->work));
    assert_true(run_end(TAKE(b->run), left ? RUN_INTERRUPTED : RUN_FINISHED, 0, NULL, &b->err));
    journal_close(TAKE(b->journal));
}

static int bed_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int bed_teardown(void **state)
{
    struct bed *b = *state;

    nftw(b->dir, bed_remove, 8, FTW_DEPTH | FTW_PHYS);
    cancel_fini(&b->cancel);
    free(b);
    return 0;
}

static int64_t bed_count(struct bed *b, const char *name)
{
    int64_t n = -1;

    assert_true(run_count(b->run, name, &n, &b->err));
    return n;
}
