#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/hash.h"
#include "journal/store.h"

/* ---- begin and end ---- */

struct begin {
    const struct run_spec *spec;
    struct run *run;
    const char *identity; /* its hash */
    bool resumed;
};

static bool find_unfinished(struct db *db, struct begin *b, struct err *err)
{
    sqlite3_stmt *s = db_start(db, SQL_RUN_UNFINISHED, err, "t", b->identity);

    if (!s)
        return false;
    bool ok = db_next(db, s, &b->resumed, err);
    if (ok && b->resumed) {
        b->run->no = sqlite3_column_int64(s, 0);
        snprintf(b->run->id, sizeof b->run->id, "%s", db_text(s, 1));
        b->run->started_us = sqlite3_column_int64(s, 2);
    }
    db_end(s);
    return ok;
}

static void make_id(struct run *r)
{
    time_t s = (time_t)(r->started_us / 1000000);
    uint16_t some;
    struct tm tm;
    char when[24];

    ensure(getrandom(&some, sizeof some, 0) == sizeof some);
    strftime(when, sizeof when, "%Y%m%d-%H%M%S", gmtime_r(&s, &tm));
    snprintf(r->id, sizeof r->id, "%s-%04x", when, some);
}

static bool add_run(struct journal *j, struct db *db, struct begin *b, struct err *err)
{
    const struct run_spec *spec = b->spec;
    struct run *r = b->run;

    /* Four hex digits may meet within a second, though hardly five times. */
    for (int left = 5;; left--) {
        r->started_us = clock_wall_us(j->clock);
        make_id(r);
        if (db_do(db, SQL_RUN_ADD, err, "ttttii", r->id, spec->command, b->identity, spec->params,
                  (int64_t)spec->resumable, r->started_us)) {
            r->no = sqlite3_last_insert_rowid(db->handle);
            return true;
        }
        if (sqlite3_errcode(db->handle) != SQLITE_CONSTRAINT || left == 0)
            return false;
        err_clear(err);
    }
}

static bool begin(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct begin *b = ctx;

    b->resumed = false;
    if (b->spec->resumable && !b->spec->fresh && !find_unfinished(db, b, err))
        return false;
    if (b->resumed)
        return db_do(db, SQL_RUN_RESUME, err, "ti", b->spec->params, b->run->no);
    return db_do(db, SQL_RUN_SUPERSEDE, err, "iti", clock_wall_us(j->clock), b->identity,
                 (int64_t)b->spec->fresh) &&
           add_run(j, db, b, err);
}

struct run *run_begin(struct journal *j, const struct run_spec *spec, bool *resumed,
                      struct err *err)
{
    char identity[SHA256_HEX_BYTES];
    AUTO_STR char *same = xsprintf("%s\n%s", spec->command, spec->identity);
    struct run *r = xalloc(sizeof *r);
    struct begin b = {.spec = spec, .run = r, .identity = identity};

    hash_sha256_hex(slice_str(same), identity);
    AUTO_STR char *lock = journal_lock_path(j, identity);
    r->journal = j;
    if (!run_lock_take(&r->lock, lock, clock_wall_us(j->clock), err) ||
        !journal_do(j, begin, &b, err)) {
        run_abandon(r);
        return NULL;
    }
    run_lock_note(&r->lock, r->started_us, r->id);
    *resumed = b.resumed;
    return r;
}

struct end {
    struct run *run;
    enum run_state state;
    int exit_code;
    const char *summary;
};

static bool end(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    const struct end *e = ctx;
    int64_t no = e->run->no;

    if (!db_do(db, SQL_RUN_END, err, "iitii", (int64_t)e->state, (int64_t)e->exit_code,
               e->summary ? e->summary : "", clock_wall_us(j->clock), no))
        return false;
    if (e->state != RUN_FINISHED)
        return true;
    /* A finished run never goes on: where it was is of no use any more. */
    return blocks_sweep(db, no, err) && db_do(db, SQL_RUN_FORGET_MARKS, err, "i", no) &&
           db_do(db, SQL_RUN_FORGET_CURSORS, err, "i", no);
}

bool run_end(struct run *r, enum run_state state, int exit_code, const char *summary,
             struct err *err)
{
    struct end e = {r, state, exit_code, summary};
    bool ok = journal_do(r->journal, end, &e, err);

    run_abandon(r);
    return ok;
}

void run_abandon(struct run *r)
{
    if (!r)
        return;
    run_lock_drop(&r->lock);
    free(r);
}

const char *run_id(const struct run *r)
{
    return r->id;
}

int64_t run_started_us(const struct run *r)
{
    return r->started_us;
}

/* ---- reading ---- */

bool run_marks(struct run *r, const char *axis, struct interval_set *out, struct err *err)
{
    struct db *db = &r->journal->reader;
    struct interval_set set = {0};
    bool row = true;

    pthread_mutex_lock(&r->journal->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_MARKS, err, "it", r->no, axis);
    bool ok = s != NULL;
    while (ok && (ok = db_next(db, s, &row, err)) && row)
        interval_set_add(&set, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1));
    db_end(s);
    pthread_mutex_unlock(&r->journal->read_lock);
    if (ok)
        *out = set;
    else
        interval_set_fini(&set);
    return ok;
}

/* A copy of its own; null stays null. */
static struct slice slice_copy(struct slice from)
{
    if (!from.p)
        return SLICE_NULL;
    void *p = xrealloc(NULL, from.n ? from.n : 1);
    memcpy(p, from.p, from.n);
    return slice_of(p, from.n);
}

static void add_cursor(struct run_cursors *all, sqlite3_stmt *s)
{
    struct run_cursor c = {
        .range = {sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1)},
        .done_to = sqlite3_column_int64(s, 2),
        .state = slice_copy(db_blob(s, 3)),
    };

    if ((all->count & (all->count - 1)) == 0) /* full at 0, 1, 2, 4, 8, ... */
        all->list = xrealloc(all->list, (all->count ? all->count * 2 : 1) * sizeof c);
    all->list[all->count++] = c;
}

bool run_cursors(struct run *r, const char *axis, struct run_cursors *out, struct err *err)
{
    struct db *db = &r->journal->reader;
    struct run_cursors all = {0};
    bool row = true;

    pthread_mutex_lock(&r->journal->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_CURSORS, err, "it", r->no, axis);
    bool ok = s != NULL;
    while (ok && (ok = db_next(db, s, &row, err)) && row)
        add_cursor(&all, s);
    db_end(s);
    pthread_mutex_unlock(&r->journal->read_lock);
    if (ok)
        *out = all;
    else
        run_cursors_fini(&all);
    return ok;
}

void run_cursors_fini(struct run_cursors *c)
{
    for (size_t i = 0; i < c->count; i++)
        free((void *)c->list[i].state.p);
    free(c->list);
    *c = (struct run_cursors){0};
}

bool run_next_block(struct run *r, uint64_t after_no, struct run_block *out, bool *found,
                    struct err *err)
{
    struct db *db = &r->journal->reader;

    pthread_mutex_lock(&r->journal->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_BLOCK_NEXT, err, "ii", r->no, (int64_t)after_no);
    bool ok = s && db_next(db, s, found, err);
    if (ok && *found)
        *out = (struct run_block){
            .no = (uint64_t)sqlite3_column_int64(s, 0),
            .ids = (uint32_t)sqlite3_column_int64(s, 1),
            .open = sqlite3_column_int(s, 2),
            .body = slice_copy(db_blob(s, 3)),
        };
    db_end(s);
    pthread_mutex_unlock(&r->journal->read_lock);
    return ok;
}

void run_block_fini(struct run_block *b)
{
    free((void *)b->body.p);
    *b = (struct run_block){0};
}

bool run_count(struct run *r, const char *name, int64_t *out, struct err *err)
{
    struct db *db = &r->journal->reader;
    bool row = false;

    pthread_mutex_lock(&r->journal->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_COUNT, err, "it", r->no, name);
    bool ok = s && db_next(db, s, &row, err);
    if (ok)
        *out = row ? sqlite3_column_int64(s, 0) : 0;
    db_end(s);
    pthread_mutex_unlock(&r->journal->read_lock);
    return ok;
}

bool run_note(struct run *r, const char *name, char **out, struct err *err)
{
    struct db *db = &r->journal->reader;
    bool row = false;

    pthread_mutex_lock(&r->journal->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_NOTE, err, "it", r->no, name);
    bool ok = s && db_next(db, s, &row, err);
    if (ok)
        *out = row ? xstrdup(db_text(s, 0)) : NULL;
    db_end(s);
    pthread_mutex_unlock(&r->journal->read_lock);
    return ok;
}
