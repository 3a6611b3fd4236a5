#include "journal/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "journal/store.h"

enum { FAILURES_AT_ONCE = 1000 }; /* forgotten in one transaction: others wait for it */

/* ---- one writes for all ---- */

/* Waiting for the disk is the most of a small transaction: only where somebody wants it. */
static bool set_sync(struct journal *j, const struct job *group, const struct job *end,
                     struct err *err)
{
    bool soon = true;

    for (const struct job *job = group; job != end; job = job->next)
        soon = soon && job->soon;
    return !j->durable || db_do(&j->writer, soon ? SQL_SYNC_LATER : SQL_SYNC, err, "");
}

/* All of the group in one transaction, or nothing of it. */
static bool work_group(struct journal *j, struct job *group, struct job *end)
{
    struct db *db = &j->writer;
    struct err err;
    bool ok = set_sync(j, group, end, &err) && db_do(db, SQL_BEGIN, &err, "");
    bool told = false; /* one of the jobs knows why */

    for (struct job *job = group; ok && job != end; job = job->next) {
        err_clear(job->err);
        ok = job->work(j, db, job->ctx, job->err);
        told = !ok;
    }
    ok = ok && db_do(db, SQL_COMMIT, &err, "");
    if (!ok)
        db_undo(db);
    for (struct job *job = group; job != end; job = job->next) {
        job->ok = ok;
        if (!ok && !told)
            *job->err = err;
    }
    return ok;
}

/* One that fails must not take the others with it: it is rare enough to do them all again, each by
 * itself, and a savepoint for each would have every page written twice. */
static void commit_group(struct journal *j, struct job *group)
{
    if (work_group(j, group, NULL) || !group->next)
        return;
    for (struct job *job = group; job; job = job->next)
        work_group(j, job, job->next);
}

/* Does what waits. Who leads next may begin before the others of this group are told. */
static void lead(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct job *group = j->first;
    j->first = NULL;
    j->last = &j->first;
    pthread_mutex_unlock(&j->lock);
    commit_group(j, group);
    pthread_mutex_lock(&j->lock);
    struct job *successor = j->first;
    j->led = successor != NULL;
    pthread_mutex_unlock(&j->lock);
    if (successor)
        sem_post(&successor->wake);
    while (group) {
        struct job *next = group->next; /* a done job is its owner's again */

        group->done = true;
        sem_post(&group->wake);
        group = next;
    }
}

static bool do_job(struct journal *j, struct job *job)
{
    err_clear(job->err);
    sem_init(&job->wake, 0, 0);
    pthread_mutex_lock(&j->lock);
    *j->last = job;
    j->last = &job->next;
    bool wait = j->led;
    j->led = true;
    pthread_mutex_unlock(&j->lock);
    while (wait && sem_wait(&job->wake) < 0)
        ; /* a signal */
    if (!job->done)
        lead(j);
    sem_destroy(&job->wake);
    return job->ok;
}

bool journal_do(struct journal *j,
                bool (*work)(struct journal *j, struct db *db, void *ctx, struct err *err),
                void *ctx, struct err *err)
{
    return do_job(j, &(struct job){.work = work, .ctx = ctx, .err = err});
}

bool journal_do_soon(struct journal *j,
                     bool (*work)(struct journal *j, struct db *db, void *ctx, struct err *err),
                     void *ctx, struct err *err)
{
    return do_job(j, &(struct job){.work = work, .ctx = ctx, .err = err, .soon = true});
}

/* ---- open and close ---- */

/* Each missing folder of the path, for the owner alone. */
static bool make_folder(const char *path, struct err *err)
{
    AUTO_STR char *copy = xstrdup(path);

    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p)
            continue;
        char was = *p;
        *p = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST && errno != EISDIR)
            return err_set(err, ERR_SYSTEM,
                           "state folder: can't create %s: %s: use another --state-dir", copy,
                           strerror(errno));
        if (!was)
            return true;
        *p = was;
    }
}

static void journal_free(struct journal *j)
{
    free(j->state_dir);
    free(j->path);
    free(j);
}

struct journal *journal_open(const char *state_dir, bool durable, struct clock *clock,
                             struct err *err)
{
    struct journal *j = xalloc(sizeof *j);
    AUTO_STR char *locks = xsprintf("%s/locks", state_dir);

    j->state_dir = xstrdup(state_dir);
    j->path = xsprintf("%s/journal.db", state_dir);
    j->clock = clock;
    j->durable = durable;
    if (!make_folder(locks, err) || !db_open(&j->writer, j->path, durable, err)) {
        journal_free(j);
        return NULL;
    }
    if (!db_open(&j->reader, j->path, durable, err)) {
        db_close(&j->writer);
        journal_free(j);
        return NULL;
    }
    j->last = &j->first;
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->read_lock, NULL);
    return j;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    db_close(&j->reader);
    db_close(&j->writer);
    pthread_mutex_destroy(&j->read_lock);
    pthread_mutex_destroy(&j->lock);
    journal_free(j);
}

char *journal_lock_path(const struct journal *j, const char *identity_hash)
{
    return xsprintf("%s/locks/%s", j->state_dir, identity_hash);
}

/* ---- pruning ---- */

/* The next run after `after` that can't be resumed and whose process is gone without ending it. */
static bool next_left(struct journal *j, struct db *db, int64_t before_us, int64_t *after,
                      bool *gone, bool *found, struct err *err)
{
    sqlite3_stmt *s = db_start(db, SQL_RUN_LEFT, err, "ii", before_us, *after);

    if (!s)
        return false;
    bool ok = db_next(db, s, found, err);
    if (ok && *found) {
        AUTO_STR char *lock = journal_lock_path(j, db_text(s, 2));
        *after = sqlite3_column_int64(s, 0);
        *gone = run_lock_holder(lock, db_text(s, 1)) == 0;
    }
    db_end(s);
    return ok;
}

static bool prune(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    int64_t before_us = *(int64_t *)ctx;
    int64_t at = 0;
    bool found = true;
    bool gone = false;

    if (!db_do(db, SQL_RUN_PRUNE, err, "i", before_us))
        return false;
    while (found) {
        if (!next_left(j, db, before_us, &at, &gone, &found, err) ||
            (found && gone && !db_do(db, SQL_RUN_DELETE, err, "i", at)))
            return false;
    }
    return true;
}

bool journal_prune(struct journal *j, int64_t keep_s, struct err *err)
{
    int64_t before_us = clock_wall_us(j->clock) - keep_s * 1000000;

    return journal_do(j, prune, &before_us, err);
}

struct forget_failures {
    int64_t run;
    int64_t before_us;
    int64_t up_to_no; /* and all before it, however young */
    int64_t after_no; /* looked at so far */
    uint64_t count;
    bool more;
};

/* Of the oldest that were not looked at: one that was tried again lately may be among them. */
static bool list_old_failures(struct db *db, struct forget_failures *f,
                              int64_t nos[FAILURES_AT_ONCE], size_t *count, struct err *err)
{
    sqlite3_stmt *s = db_start(db, SQL_FAILURES_OLDEST, err, "iii", f->run, f->after_no,
                               (int64_t)FAILURES_AT_ONCE);
    bool ok = s != NULL;
    bool row = true;

    *count = 0;
    while (ok && row) {
        ok = db_next(db, s, &row, err);
        if (!ok || !row)
            break;
        f->after_no = sqlite3_column_int64(s, 0);
        if (f->after_no <= f->up_to_no || sqlite3_column_int64(s, 1) < f->before_us)
            nos[(*count)++] = f->after_no;
    }
    db_end(s);
    return ok;
}

static bool forget_failures(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct forget_failures *f = ctx;
    int64_t nos[FAILURES_AT_ONCE];
    size_t count;
    bool ok = list_old_failures(db, f, nos, &count, err);

    (void)j;
    for (size_t i = 0; ok && i < count; i++)
        ok = db_do(db, SQL_FAILURE_END, err, "i", nos[i]);
    f->more = ok && count > 0;
    f->count += count;
    return ok;
}

/* The newest failure of those that are too many; 0: there is none. */
static bool find_surplus(struct run *r, uint64_t keep, int64_t *no, struct err *err)
{
    struct journal *j = r->journal;
    bool row = false;

    pthread_mutex_lock(&j->read_lock);
    sqlite3_stmt *s = db_start(&j->reader, SQL_FAILURES_NEWEST, err, "ii", r->no, (int64_t)keep);
    bool ok = s && db_next(&j->reader, s, &row, err);
    *no = ok && row ? sqlite3_column_int64(s, 0) : 0;
    db_end(s);
    pthread_mutex_unlock(&j->read_lock);
    return ok;
}

bool run_prune_failures(struct run *r, int64_t keep_s, uint64_t keep, uint64_t *count,
                        struct err *err)
{
    struct forget_failures f = {.run = r->no,
                                .before_us = clock_wall_us(r->journal->clock) - keep_s * 1000000};
    bool ok = find_surplus(r, keep, &f.up_to_no, err);

    do
        ok = ok && journal_do(r->journal, forget_failures, &f, err);
    while (ok && f.more);
    *count = f.count;
    return ok;
}

/* ---- lists ---- */

static void fill_info(const struct journal *j, sqlite3_stmt *s, struct run_info *info)
{
    snprintf(info->id, sizeof info->id, "%s", db_text(s, 0));
    info->command = db_text(s, 1);
    info->params = db_text(s, 2);
    info->summary = db_text(s, 3);
    info->state = (enum run_state)sqlite3_column_int(s, 4);
    info->exit_code = sqlite3_column_int(s, 5);
    info->started_us = sqlite3_column_int64(s, 6);
    info->ended_us = sqlite3_column_int64(s, 7);
    info->pid = 0;
    if (info->state == RUN_RUNNING) {
        AUTO_STR char *lock = journal_lock_path(j, db_text(s, 8));
        info->pid = run_lock_holder(lock, info->id);
    }
}

bool journal_each_run(struct journal *j, bool (*each)(void *ctx, const struct run_info *info),
                      void *ctx, struct err *err)
{
    struct db *db = &j->reader;
    struct run_info info;
    bool row = true;

    pthread_mutex_lock(&j->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_RUN_EACH, err, "");
    bool ok = s != NULL;
    while (ok && row) {
        ok = db_next(db, s, &row, err);
        if (!ok || !row)
            break;
        fill_info(j, s, &info);
        row = each(ctx, &info);
    }
    db_end(s);
    pthread_mutex_unlock(&j->read_lock);
    return ok;
}

bool journal_each_failure(struct journal *j, const char *run_id,
                          bool (*each)(void *ctx, const struct failure_info *info), void *ctx,
                          struct err *err)
{
    return journal_failures_after(j, run_id, 0, each, ctx, err);
}

bool journal_failures_after(struct journal *j, const char *run_id, int64_t after_no,
                            bool (*each)(void *ctx, const struct failure_info *info), void *ctx,
                            struct err *err)
{
    struct db *db = &j->reader;
    bool row = true;

    pthread_mutex_lock(&j->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_FAILURES, err, "ti", run_id, after_no);
    bool ok = s != NULL;
    while (ok && row) {
        ok = db_next(db, s, &row, err);
        if (!ok || !row)
            break;
        struct failure_info info = {
            .key = db_text(s, 0),
            .reason = db_text(s, 1),
            .text = db_text(s, 2),
            .at_us = sqlite3_column_int64(s, 3),
            .no = sqlite3_column_int64(s, 4),
            .object = db_text(s, 5),
        };
        row = each(ctx, &info);
    }
    db_end(s);
    pthread_mutex_unlock(&j->read_lock);
    return ok;
}

struct drop {
    const char *run_id;
    const char *reason;
    uint64_t count;
};

static bool drop_failures(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct drop *d = ctx;

    (void)j;
    if (!db_do(db, SQL_FAILURES_DROP, err, "tt", d->run_id, d->reason))
        return false;
    d->count = (uint64_t)sqlite3_changes64(db->handle);
    return true;
}

bool journal_drop_failures(struct journal *j, const char *run_id, const char *reason,
                           uint64_t *count, struct err *err)
{
    struct drop d = {.run_id = run_id, .reason = reason ? reason : ""};

    if (!journal_do(j, drop_failures, &d, err))
        return false;
    *count = d.count;
    return true;
}

struct settle {
    const int64_t *nos;
    size_t count;
    const char *from;
    const char *to;
};

static bool settle(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    const struct settle *s = ctx;

    (void)j;
    for (size_t i = 0; i < s->count; i++)
        if (!db_do(db, SQL_FAILURE_END, err, "i", s->nos[i]))
            return false;
    return db_do(db, SQL_FAILURES_MOVE, err, "tt", s->to, s->from);
}

bool journal_replace_failures(struct journal *j, const char *run_id, const int64_t *nos,
                              size_t count, const char *by_run, struct err *err)
{
    struct settle s = {nos, count, by_run, run_id};

    return journal_do(j, settle, &s, err);
}

/* ---- targets ---- */

struct target {
    const char *name;
    const char *versioning;
    const char *run_id;
};

static bool put_target(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    const struct target *t = ctx;

    return db_do(db, SQL_TARGET_PUT, err, "ttti", t->name, t->versioning, t->run_id,
                 clock_wall_us(j->clock));
}

bool journal_note_target(struct journal *j, const char *name, const char *versioning,
                         const char *run_id, struct err *err)
{
    struct target t = {name, versioning, run_id};

    return journal_do(j, put_target, &t, err);
}

bool journal_target(struct journal *j, const char *name, char **versioning, struct err *err)
{
    struct db *db = &j->reader;
    bool row = false;

    pthread_mutex_lock(&j->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_TARGET, err, "t", name);
    bool ok = s && db_next(db, s, &row, err);
    if (ok)
        *versioning = row ? xstrdup(db_text(s, 0)) : NULL;
    db_end(s);
    pthread_mutex_unlock(&j->read_lock);
    return ok;
}
