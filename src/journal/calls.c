#include <stdlib.h>
#include <string.h>

#include "journal/store.h"

enum { PRUNE_AT_ONCE = 1000 };

/* One row of the reader, or none. */
static bool read_one(struct journal *j, enum db_sql sql, const char *run_id, uint64_t no,
                     void (*take)(sqlite3_stmt *s, void *out), void *out, bool *found,
                     struct err *err)
{
    struct db *db = &j->reader;

    *found = false;
    pthread_mutex_lock(&j->read_lock);
    sqlite3_stmt *s = db_start(db, sql, err, "ti", run_id, (int64_t)no);
    bool ok = s && db_next(db, s, found, err);
    if (ok && *found)
        take(s, out);
    db_end(s);
    pthread_mutex_unlock(&j->read_lock);
    return ok;
}

static void take_call(sqlite3_stmt *s, void *out)
{
    struct run_call *call = out;

    call->parts = (uint32_t)sqlite3_column_int64(s, 0);
    call->ids = (uint32_t)sqlite3_column_int64(s, 1);
    call->at_us = sqlite3_column_int64(s, 2);
}

bool journal_call(struct journal *j, const char *run_id, uint64_t no, struct run_call *out,
                  bool *found, struct err *err)
{
    *out = (struct run_call){.no = no};
    return read_one(j, SQL_CALL, run_id, no, take_call, out, found, err);
}

static void take_part(sqlite3_stmt *s, void *out)
{
    struct slice body = db_blob(s, 2);
    uint8_t *copy = xalloc(body.n + 1);

    if (body.n)
        memcpy(copy, body.p, body.n);
    *(struct run_part *)out = (struct run_part){.ids = (uint32_t)sqlite3_column_int64(s, 0),
                                                .at_us = sqlite3_column_int64(s, 1),
                                                .body = slice_of(copy, body.n)};
}

bool journal_part(struct journal *j, const char *run_id, uint64_t no, struct run_part *out,
                  bool *found, struct err *err)
{
    /* In this order: a block is still there for a while after its outcome came. */
    return read_one(j, SQL_OUTCOME, run_id, no, take_part, out, found, err) &&
           (*found || read_one(j, SQL_OUTCOME_WAITS, run_id, no, take_part, out, found, err));
}

void run_part_fini(struct run_part *p)
{
    free((void *)(uintptr_t)p->body.p);
    *p = (struct run_part){0};
}

bool run_last_call(struct run *r, uint64_t *no, struct err *err)
{
    struct db *db = &r->journal->reader;
    bool row = false;

    pthread_mutex_lock(&r->journal->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_CALL_LAST, err, "i", r->no);
    bool ok = s && db_next(db, s, &row, err);
    *no = ok && row ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
    db_end(s);
    pthread_mutex_unlock(&r->journal->read_lock);
    return ok;
}

/* ---- forgetting ---- */

/* When the calls that came later have so many ids together. */
static bool find_cut(struct journal *j, uint64_t keep_ids, int64_t *cut_us, struct err *err)
{
    struct db *db = &j->reader;
    uint64_t ids = 0;
    bool row = true;

    pthread_mutex_lock(&j->read_lock);
    sqlite3_stmt *s = db_start(db, SQL_CALLS_NEWEST, err, "");
    bool ok = s != NULL;
    while (ok && ids <= keep_ids) {
        ok = db_next(db, s, &row, err);
        if (!ok || !row)
            break;
        ids += (uint64_t)sqlite3_column_int64(s, 1);
        if (ids > keep_ids && sqlite3_column_int64(s, 0) >= *cut_us)
            *cut_us = sqlite3_column_int64(s, 0) + 1;
    }
    db_end(s);
    pthread_mutex_unlock(&j->read_lock);
    return ok;
}

struct old_call {
    int64_t run, no, parts;
};

struct forget {
    int64_t before_us;
    size_t count;
    struct old_call calls[PRUNE_AT_ONCE];
};

static bool list_old(struct db *db, struct forget *f, struct err *err)
{
    bool row = true;

    f->count = 0;
    sqlite3_stmt *s = db_start(db, SQL_CALLS_OLD, err, "ii", f->before_us, (int64_t)PRUNE_AT_ONCE);
    bool ok = s != NULL;
    while (ok && f->count < PRUNE_AT_ONCE) {
        ok = db_next(db, s, &row, err);
        if (!ok || !row)
            break;
        f->calls[f->count++] = (struct old_call){
            sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2)};
    }
    db_end(s);
    return ok;
}

static bool forget(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct forget *f = ctx;
    bool ok = list_old(db, f, err);

    (void)j;
    for (size_t i = 0; ok && i < f->count; i++) {
        const struct old_call *c = &f->calls[i];
        ok = db_do(db, SQL_OUTCOMES_DELETE, err, "iii", c->run, c->no, c->no + c->parts - 1) &&
             db_do(db, SQL_CALL_DELETE, err, "ii", c->run, c->no);
    }
    return ok;
}

bool journal_prune_calls(struct journal *j, int64_t keep_s, uint64_t keep_ids, struct err *err)
{
    struct forget *f = xalloc(sizeof *f);

    f->before_us = clock_wall_us(j->clock) - keep_s * 1000000;
    bool ok = find_cut(j, keep_ids, &f->before_us, err);
    do
        ok = ok && journal_do(j, forget, f, err);
    while (ok && f->count == PRUNE_AT_ONCE);
    free(f);
    return ok;
}
