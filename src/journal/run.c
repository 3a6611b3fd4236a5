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

/* What counts is what the database has, too: the same block, with the same ids. */
static bool recover_block(struct db *db, const struct ended_entry *e, struct err *err)
{
    sqlite3_stmt *s = db_start(db, SQL_BLOCK_GET, err, "ii", e->run, (int64_t)e->no);
    bool found = false;
    bool ok = s && db_next(db, s, &found, err);
    bool same = ok && found && (uint64_t)sqlite3_column_int64(s, 0) == e->ids &&
                hash_64(db_blob(s, 1)) == e->hash && memchr(e->count, 0, sizeof e->count);

    db_end(s);
    return ok &&
           (!same || (db_do(db, SQL_BLOCK_DELETE, err, "ii", e->run, (int64_t)e->no) &&
                      db_do(db, SQL_COUNT_ADD, err, "iti", e->run, e->count, (int64_t)e->ids) &&
                      db_do(db, SQL_COUNT_ADD, err, "iti", e->run, "blocks", INT64_C(1))));
}

static bool ended_recover(struct run *r, struct db *db, struct err *err)
{
    struct ended_entry *list;
    size_t count;
    bool ok = ended_read(&r->ended, &list, &count, err);

    for (size_t i = 0; ok && i < count; i++)
        ok = list[i].run != r->no || recover_block(db, &list[i], err);
    free(list);
    return ok;
}

static bool begin(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct begin *b = ctx;

    b->resumed = false;
    if (b->spec->resumable && !b->spec->fresh && !find_unfinished(db, b, err))
        return false;
    if (b->resumed)
        return ended_recover(b->run, db, err) &&
               db_do(db, SQL_RUN_RESUME, err, "ti", b->spec->params, b->run->no);
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
    ended_init(&r->ended, xsprintf("%s.ended", lock));
    if (!run_lock_take(&r->lock, lock, clock_wall_us(j->clock), err) ||
        !journal_do(j, begin, &b, err)) {
        run_abandon(r);
        return NULL;
    }
    ended_remove(&r->ended); /* it is in the database, or of another run */
    atomic_store(&r->ended_ms, clock_mono_ms(j->clock));
    run_lock_note(&r->lock, r->started_us, r->id);
    *resumed = b.resumed;
    return r;
}

struct end {
    struct run *run;
    uint64_t ended_to;
    enum run_state state;
    int exit_code;
    const char *summary;
};

static bool end(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct end *e = ctx;
    int64_t no = e->run->no;

    if (!ended_apply(e->run, db, &e->ended_to, err) ||
        !db_do(db, SQL_RUN_END, err, "iitii", (int64_t)e->state, (int64_t)e->exit_code,
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
    struct end e = {.run = r, .state = state, .exit_code = exit_code, .summary = summary};
    bool ok = journal_do(r->journal, end, &e, err);

    if (ok)
        ended_remove(&r->ended);
    run_abandon(r);
    return ok;
}

void run_abandon(struct run *r)
{
    if (!r)
        return;
    ended_fini(&r->ended);
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

/* ---- blocks that ended well ---- */

enum { ENDED_MS = 1000 };

static bool add_ended_count(struct db *db, int64_t run, const char *name, uint64_t ids,
                            struct err *err)
{
    return !ids || db_do(db, SQL_COUNT_ADD, err, "iti", run, name, (int64_t)ids);
}

bool ended_apply(struct run *r, struct db *db, uint64_t *to, struct err *err)
{
    struct ended_entry e;
    char count[ENDED_COUNT_BYTES] = "";
    uint64_t ids = 0;
    uint64_t blocks = 0;
    uint64_t from;

    ended_waiting(&r->ended, &from, to);
    for (uint64_t at = from; at < *to; at++) {
        /* Somebody else's transaction, committed before this one, may have held it. */
        if (!ended_get(&r->ended, at, &e))
            continue;
        if (!db_do(db, SQL_BLOCK_DELETE, err, "ii", r->no, (int64_t)e.no))
            return false;
        if (!sqlite3_changes(db->handle))
            continue; /* it is in the database already */
        if (strcmp(count, e.count) != 0) {
            if (!add_ended_count(db, r->no, count, ids, err))
                return false;
            memcpy(count, e.count, sizeof count);
            ids = 0;
        }
        ids += e.ids;
        blocks++;
    }
    return add_ended_count(db, r->no, count, ids, err) &&
           add_ended_count(db, r->no, "blocks", blocks, err);
}

struct fold {
    struct run *run;
    uint64_t to;
};

static bool fold(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct fold *f = ctx;

    (void)j;
    return ended_apply(f->run, db, &f->to, err);
}

static bool fold_ended(struct run *r, struct err *err)
{
    struct fold f = {.run = r};
    uint64_t from;

    ended_waiting(&r->ended, &from, &f.to);
    if (from == f.to)
        return true;
    if (!journal_do(r->journal, fold, &f, err))
        return false;
    ended_release(&r->ended, f.to);
    return true;
}

bool run_end_block(struct run *r, const struct run_block *b, const char *count, struct err *err)
{
    struct ended_entry e = {.run = r->no, .no = b->no, .hash = hash_64(b->body), .ids = b->ids};
    uint64_t waiting;
    enum ended_status status;

    ensure(strlen(count) < sizeof e.count);
    memcpy(e.count, count, strlen(count));
    while ((status = ended_add(&r->ended, &e, &waiting, err)) == ENDED_FULL) {
        if (!fold_ended(r, err))
            return false;
    }
    if (status == ENDED_ERROR)
        return false;
    /* Where calls are far apart, others who look at the journal see each of them. One of those who
     * come at the same time is enough. */
    int64_t now_ms = clock_mono_ms(r->journal->clock);
    int64_t last_ms = atomic_load(&r->ended_ms);
    if (waiting < ENDED_MAX / 2 && now_ms < last_ms + ENDED_MS)
        return true;
    return !atomic_compare_exchange_strong(&r->ended_ms, &last_ms, now_ms) || fold_ended(r, err);
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

    if (!fold_ended(r, err))
        return false;
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

    if (!fold_ended(r, err))
        return false;
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
