#include "journal/idset.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

enum { IDSET_VERSION = 1, FLUSH_ROWS = 20000 };

struct idset {
    pthread_mutex_t lock;
    sqlite3 *db;
    sqlite3_stmt *add;
    sqlite3_stmt *find;
    sqlite3_stmt *see;
    char *path;
    unsigned changes; /* since the last commit */
};

static bool fail(struct idset *s, struct err *err)
{
    return err_set(err, ERR_SYSTEM, "%s: %s", s->path,
                   s->db ? sqlite3_errmsg(s->db) : "out of memory");
}

static bool run_sql(struct idset *s, const char *sql, struct err *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail(s, err);
}

static bool prepare(struct idset *s, const char *sql, sqlite3_stmt **out, struct err *err)
{
    return sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) == SQLITE_OK ||
           fail(s, err);
}

static bool open_file(struct idset *s, struct err *err)
{
    if (sqlite3_open(s->path, &s->db) != SQLITE_OK)
        return fail(s, err);
    return run_sql(
        s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2000;",
        err);
}

static int version_of(struct idset *s)
{
    sqlite3_stmt *stmt = NULL;
    int version = -1;

    if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        version = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return version;
}

static void close_file(struct idset *s)
{
    sqlite3_finalize(s->add);
    sqlite3_finalize(s->find);
    sqlite3_finalize(s->see);
    s->add = s->find = s->see = NULL;
    sqlite3_close(s->db);
    s->db = NULL;
}

static void unlink_files(const struct idset *s)
{
    static const char *const ends[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        AUTO_STR char *name = xsprintf("%s%s", s->path, ends[i]);

        unlink(name);
    }
}

struct idset *idset_open(const char *path, bool *complete, struct err *err)
{
    AUTO(idset) struct idset *s = xalloc(sizeof *s);

    pthread_mutex_init(&s->lock, NULL);
    s->path = xstrdup(path);
    *complete = open_file(s, err) && version_of(s) == IDSET_VERSION;
    if (!*complete) {
        /* Half filled, or of no use: it is only a scratch file. */
        close_file(s);
        unlink_files(s);
        err_clear(err);
        if (!open_file(s, err) ||
            !run_sql(s,
                     "CREATE TABLE ids (row INTEGER PRIMARY KEY, cell BLOB NOT NULL UNIQUE, text "
                     "TEXT NOT NULL, seen INTEGER NOT NULL DEFAULT 0) STRICT;",
                     err))
            return NULL;
    }
    if (!prepare(s, "INSERT INTO ids (cell, text) VALUES (?, ?) ON CONFLICT DO NOTHING", &s->add,
                 err) ||
        !prepare(s, "SELECT row, seen FROM ids WHERE cell = ?", &s->find, err) ||
        !prepare(s, "UPDATE ids SET seen = 1 WHERE row = ?", &s->see, err) ||
        !run_sql(s, "BEGIN", err))
        return NULL;
    return TAKE(s);
}

void idset_free(struct idset *s)
{
    close_file(s);
    pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s);
}

void idset_remove(struct idset *s)
{
    close_file(s);
    unlink_files(s);
    idset_free(s);
}

static bool commit(struct idset *s, struct err *err)
{
    s->changes = 0;
    return run_sql(s, "COMMIT; BEGIN", err);
}

static bool bind_cell(sqlite3_stmt *stmt, struct slice cell)
{
    /* A zero-length cell is an empty blob, not null. */
    return sqlite3_bind_blob64(stmt, 1, cell.n ? (const void *)cell.p : "", cell.n,
                               SQLITE_STATIC) == SQLITE_OK;
}

bool idset_add(struct idset *s, struct slice cell, struct slice text, bool *added, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    bool ok = bind_cell(s->add, cell) &&
              sqlite3_bind_text64(s->add, 2, (const char *)text.p, text.n, SQLITE_STATIC,
                                  SQLITE_UTF8) == SQLITE_OK &&
              sqlite3_step(s->add) == SQLITE_DONE;
    *added = ok && sqlite3_changes(s->db) > 0;
    sqlite3_reset(s->add);
    if (!ok)
        fail(s, err);
    else if (++s->changes >= FLUSH_ROWS)
        ok = commit(s, err);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool idset_complete(struct idset *s, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    bool ok = run_sql(s, "PRAGMA user_version = 1", err) && commit(s, err);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool idset_see(struct idset *s, struct slice cell, bool *found, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    bool ok = bind_cell(s->find, cell);
    int rc = ok ? sqlite3_step(s->find) : SQLITE_ERROR;
    *found = rc == SQLITE_ROW;
    bool seen = *found && sqlite3_column_int(s->find, 1);
    int64_t row = *found ? sqlite3_column_int64(s->find, 0) : 0;
    sqlite3_reset(s->find);
    if (*found && !seen) {
        rc = sqlite3_bind_int64(s->see, 1, row) == SQLITE_OK ? sqlite3_step(s->see) : SQLITE_ERROR;
        sqlite3_reset(s->see);
        s->changes++;
    }
    ok = rc == SQLITE_ROW || rc == SQLITE_DONE || fail(s, err);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool idset_flush(struct idset *s, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    bool ok = s->changes == 0 || commit(s, err);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool idset_seen(struct idset *s, uint64_t *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;

    pthread_mutex_lock(&s->lock);
    bool ok = sqlite3_prepare_v2(s->db, "SELECT count(*) FROM ids WHERE seen", -1, &stmt, NULL) ==
                  SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_ROW;
    *out = ok ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    if (!ok)
        fail(s, err);
    sqlite3_finalize(stmt);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool idset_each_unseen(struct idset *s, int64_t after,
                       bool (*each)(void *ctx, int64_t row, struct slice text), void *ctx,
                       struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    pthread_mutex_lock(&s->lock);
    bool ok = prepare(s, "SELECT row, text FROM ids WHERE NOT seen AND row > ? ORDER BY row", &stmt,
                      err) &&
              sqlite3_bind_int64(stmt, 1, after) == SQLITE_OK;
    while (ok && (rc = sqlite3_step(stmt)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            ok = fail(s, err);
            break;
        }
        struct slice text =
            slice_of(sqlite3_column_text(stmt, 1), (size_t)sqlite3_column_bytes(stmt, 1));

        if (!each(ctx, sqlite3_column_int64(stmt, 0), text))
            break;
    }
    sqlite3_finalize(stmt);
    pthread_mutex_unlock(&s->lock);
    return ok;
}
