#include "journal/db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum {
    DB_VERSION = 4,              /* of the tables below; PRAGMA user_version */
    DB_APPLICATION = 0x63326573, /* "c2es"; PRAGMA application_id */
    DB_BUSY_MS = 30000,
    DB_CACHE_KIB = 512,
    DB_WAL_PAGES =
        4000, /* the pages of blocks are written again and again: copy them back rarely */
};

static const char create_tables[] =
    "CREATE TABLE run (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, command TEXT NOT NULL,"
    " identity TEXT NOT NULL, params TEXT NOT NULL, summary TEXT NOT NULL DEFAULT '',"
    " resumable INTEGER NOT NULL, state INTEGER NOT NULL, exit_code INTEGER NOT NULL DEFAULT 0,"
    " started_us INTEGER NOT NULL, ended_us INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE INDEX run_identity ON run (identity, no);"
    /* (start, end], disjoint and not touching: see mark_add */
    "CREATE TABLE mark (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, axis TEXT NOT NULL,"
    " start INTEGER NOT NULL, end INTEGER NOT NULL, PRIMARY KEY (run, axis, start)) STRICT,"
    " WITHOUT ROWID;"
    "CREATE TABLE cursor (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " axis TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, done_to INTEGER NOT NULL,"
    " state BLOB, PRIMARY KEY (run, axis, start)) STRICT;"
    "CREATE TABLE block (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " no INTEGER NOT NULL, ids INTEGER NOT NULL, open INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (run, no)) STRICT;"
    "CREATE TABLE count (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " name TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (run, name)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE failure (no INTEGER PRIMARY KEY,"
    " run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, key TEXT NOT NULL,"
    " reason TEXT NOT NULL, text TEXT NOT NULL, at_us INTEGER NOT NULL) STRICT;"
    "CREATE INDEX failure_run ON failure (run);"
    "CREATE TABLE note (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY (run, name)) STRICT, WITHOUT ROWID;";

/* What came with form 2, on top of the tables above. */
static const char to_form_2[] =
    "ALTER TABLE failure ADD COLUMN object TEXT NOT NULL DEFAULT '';"
    "CREATE TABLE target (name TEXT PRIMARY KEY, versioning TEXT NOT NULL, run TEXT NOT NULL,"
    " at_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* And with form 3. */
static const char to_form_3[] =
    "CREATE TABLE call (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, no INTEGER NOT NULL,"
    " parts INTEGER NOT NULL, ids INTEGER NOT NULL, at_us INTEGER NOT NULL,"
    " PRIMARY KEY (run, no)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX call_at ON call (at_us, ids);"
    "CREATE TABLE outcome (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " no INTEGER NOT NULL, ids INTEGER NOT NULL, at_us INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (run, no)) STRICT;";

/* And with form 4: a server's id that could be taken for JSON is kept as JSON. What begins with {
 * was mostly an object. */
static const char to_form_4[] = "UPDATE failure SET key = json_quote(key) WHERE object <> ''"
                                " AND key NOT LIKE '{%' AND json_valid(key);";

static const char *const sql_text[SQL_STATEMENTS] = {
    /* Writers take turns from the start: no transaction finds out at its end that it came late. */
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",

    [SQL_SYNC] = "PRAGMA synchronous = FULL",
    [SQL_SYNC_LATER] = "PRAGMA synchronous = NORMAL",

    [SQL_RUN_UNFINISHED] = "SELECT no, id, started_us FROM run WHERE identity = ? AND state < 2"
                           " AND resumable ORDER BY no DESC LIMIT 1",
    [SQL_RUN_SUPERSEDE] = "UPDATE run SET state = 1, resumable = 0, ended_us = max(ended_us, ?)"
                          " WHERE identity = ? AND state < 2 AND (NOT resumable OR ?)",
    [SQL_RUN_ADD] = "INSERT INTO run (id, command, identity, params, resumable, state, started_us)"
                    " VALUES (?, ?, ?, ?, ?, 0, ?)",
    [SQL_RUN_RESUME] = "UPDATE run SET state = 0, ended_us = 0, exit_code = 0, summary = '',"
                       " params = ? WHERE no = ?",
    [SQL_RUN_END] = "UPDATE run SET state = ?, exit_code = ?, summary = ?, ended_us = ?"
                    " WHERE no = ?",
    [SQL_RUN_FORGET_MARKS] = "DELETE FROM mark WHERE run = ?",
    [SQL_RUN_FORGET_CURSORS] = "DELETE FROM cursor WHERE run = ?",
    [SQL_RUN_PRUNE] = "DELETE FROM run WHERE ended_us BETWEEN 1 AND ?"
                      " AND (state = 2 OR state = 1 AND NOT resumable)",
    [SQL_RUN_LEFT] = "SELECT no, id, identity FROM run WHERE state = 0 AND NOT resumable"
                     " AND started_us <= ? AND no > ? ORDER BY no LIMIT 1",
    [SQL_RUN_DELETE] = "DELETE FROM run WHERE no = ?",
    [SQL_RUN_EACH] = "SELECT id, command, params, summary, state, exit_code, started_us, ended_us,"
                     " identity FROM run ORDER BY no DESC",

    [SQL_MARK_REACH] = "SELECT start, end FROM mark WHERE run = ?1 AND axis = ?2 AND start <= ?3"
                       " ORDER BY start DESC LIMIT 1",
    [SQL_MARK_DELETE] = "DELETE FROM mark WHERE run = ? AND axis = ? AND start = ?",
    [SQL_MARK_ADD] = "INSERT INTO mark VALUES (?, ?, ?, ?)",
    [SQL_MARKS] = "SELECT start, end FROM mark WHERE run = ? AND axis = ? ORDER BY start",
    [SQL_CURSOR_PUT] = "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?, ?, ?)",
    [SQL_CURSOR_END] = "DELETE FROM cursor WHERE run = ? AND axis = ? AND start = ?",
    [SQL_CURSORS] = "SELECT start, end, done_to, state FROM cursor WHERE run = ? AND axis = ?"
                    " ORDER BY start",
    [SQL_BLOCK_PUT] = "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)",
    /* A verdict is a few bytes on one page, where the block's own page, the index and the list of
     * free pages would be five. The blocks go later, many at once. */
    [SQL_BLOCK_END] = "INSERT OR IGNORE INTO mark VALUES (?1, 'ended block', ?2 - 1, ?2)",
    [SQL_BLOCKS_SWEEP] = "DELETE FROM block WHERE run = ?1 AND no IN"
                         " (SELECT end FROM mark WHERE run = ?1 AND axis = 'ended block')",
    [SQL_BLOCKS_SWEPT] = "DELETE FROM mark WHERE run = ? AND axis = 'ended block'",
    [SQL_BLOCK_NEXT] =
        "SELECT no, ids, open, body FROM block WHERE run = ?1 AND no > ?2 AND no NOT IN"
        " (SELECT end FROM mark WHERE run = ?1 AND axis = 'ended block')"
        " ORDER BY no LIMIT 1",
    [SQL_BLOCK_GET] = "SELECT ids, body FROM block WHERE run = ? AND no = ? AND NOT open",
    [SQL_BLOCK_DELETE] = "DELETE FROM block WHERE run = ? AND no = ?",
    [SQL_COUNT_ADD] = "INSERT INTO count VALUES (?, ?, ?)"
                      " ON CONFLICT DO UPDATE SET value = value + excluded.value",
    [SQL_COUNT] = "SELECT value FROM count WHERE run = ? AND name = ?",
    [SQL_FAILURE_ADD] = "INSERT INTO failure (run, key, reason, text, at_us, object)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
    [SQL_FAILURES] = "SELECT key, reason, text, at_us, no, object FROM failure"
                     " WHERE run = (SELECT no FROM run WHERE id = ?) AND no > ? ORDER BY no",
    [SQL_FAILURE_END] = "DELETE FROM failure WHERE no = ?",
    [SQL_FAILURE_AGAIN] = "UPDATE failure SET reason = ?, text = ?, at_us = ? WHERE no = ?",
    [SQL_FAILURES_MOVE] = "UPDATE failure SET run = (SELECT no FROM run WHERE id = ?)"
                          " WHERE run = (SELECT no FROM run WHERE id = ?)",
    [SQL_FAILURES_DROP] = "DELETE FROM failure WHERE run = (SELECT no FROM run WHERE id = ?1)"
                          " AND (?2 = '' OR reason = ?2)",
    [SQL_FAILURES_NEWEST] = "SELECT no FROM failure WHERE run = ? ORDER BY no DESC LIMIT 1"
                            " OFFSET ?",
    [SQL_FAILURES_OLDEST] = "SELECT no, at_us FROM failure WHERE run = ? AND no > ?"
                            " ORDER BY no LIMIT ?",
    [SQL_NOTE_PUT] = "INSERT OR REPLACE INTO note VALUES (?, ?, ?)",
    [SQL_NOTE] = "SELECT value FROM note WHERE run = ? AND name = ?",
    [SQL_TARGET_PUT] = "INSERT OR REPLACE INTO target VALUES (?, ?, ?, ?)",
    [SQL_TARGET] = "SELECT versioning FROM target WHERE name = ?",
    [SQL_CALL_ADD] = "INSERT INTO call VALUES (?, ?, ?, ?, ?)",
    [SQL_CALL] = "SELECT parts, ids, at_us FROM call"
                 " WHERE run = (SELECT no FROM run WHERE id = ?) AND no = ?",
    [SQL_CALL_NAMED] = "INSERT INTO note VALUES (?1, 'last_call', CAST(?2 AS TEXT))"
                       " ON CONFLICT (run, name) DO UPDATE SET value = excluded.value"
                       " WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)",
    /* The note came later than the table: a run may be older than it. */
    [SQL_CALL_LAST] = "SELECT max(coalesce((SELECT no + parts - 1 FROM call WHERE run = ?1"
                      " ORDER BY no DESC LIMIT 1), 0),"
                      " coalesce((SELECT CAST(value AS INTEGER) FROM note"
                      " WHERE run = ?1 AND name = 'last_call'), 0))",
    [SQL_CALLS_NEWEST] = "SELECT at_us, ids FROM call ORDER BY at_us DESC",
    [SQL_CALLS_OLD] = "SELECT run, no, parts FROM call WHERE at_us < ?1 AND NOT EXISTS"
                      " (SELECT 1 FROM block WHERE block.run = call.run AND block.no"
                      " BETWEEN call.no AND call.no + call.parts - 1) ORDER BY at_us LIMIT ?2",
    [SQL_CALL_DELETE] = "DELETE FROM call WHERE run = ? AND no = ?",
    [SQL_OUTCOME_ADD] = "INSERT INTO outcome VALUES (?, ?, ?, ?, ?)",
    [SQL_OUTCOME] = "SELECT ids, at_us, body FROM outcome"
                    " WHERE run = (SELECT no FROM run WHERE id = ?) AND no = ?",
    [SQL_OUTCOME_WAITS] = "SELECT ids, 0, body FROM block"
                          " WHERE run = (SELECT no FROM run WHERE id = ?) AND no = ?",
    [SQL_OUTCOMES_DELETE] = "DELETE FROM outcome WHERE run = ? AND no BETWEEN ? AND ?",
};

/* Always false. */
static bool db_fail(const struct db *db, struct err *err)
{
    int code = db->handle ? sqlite3_errcode(db->handle) & 0xff : SQLITE_NOMEM;
    const char *why = db->handle ? sqlite3_errmsg(db->handle) : "out of memory";
    int os = db->handle ? sqlite3_system_errno(db->handle) : 0;

    switch (code) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, ERR_SYSTEM,
                       "journal %s is damaged (%s): move it away, or use another --state-dir",
                       db->path, why);
    case SQLITE_FULL:
        return err_set(err, ERR_SYSTEM,
                       "journal %s: disk full: make room, then give the same command again",
                       db->path);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return err_set(err, ERR_SYSTEM,
                       "journal %s can't be written (%s): check the rights of its folder, or use "
                       "another --state-dir",
                       db->path, os ? strerror(os) : why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ERR_SYSTEM, "journal %s: another process held it for more than %d s",
                       db->path, DB_BUSY_MS / 1000);
    case SQLITE_IOERR:
        return err_set(err, ERR_SYSTEM, "journal %s: %s%s%s", db->path, why, os ? ": " : "",
                       os ? strerror(os) : "");
    default:
        return err_set(err, ERR_SYSTEM, "journal %s: %s", db->path, why);
    }
}

static bool db_exec(struct db *db, const char *sql, struct err *err)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK || db_fail(db, err);
}

static bool db_pragma(struct db *db, const char *name, int64_t *out, struct err *err)
{
    char sql[64];
    sqlite3_stmt *s = NULL;

    snprintf(sql, sizeof sql, "PRAGMA %s", name);
    bool ok = sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL) == SQLITE_OK &&
              sqlite3_step(s) == SQLITE_ROW;
    if (ok)
        *out = sqlite3_column_int64(s, 0);
    else
        db_fail(db, err);
    sqlite3_finalize(s);
    return ok;
}

/* SQLite makes new files readable for everybody; its -wal and -shm follow the file's mode. Only a
 * file that nobody has open yet is touched: closing it would end this process's locks on it. */
static bool create_private(struct db *db, struct err *err)
{
    int fd = open(db->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 && errno == EEXIST)
        return true;
    if (fd < 0)
        return err_set(err, ERR_SYSTEM,
                       "journal %s can't be created (%s): check the rights of its folder, or use "
                       "another --state-dir",
                       db->path, strerror(errno));
    close(fd);
    return true;
}

/* The busy handler isn't asked while another process changes the file to WAL. */
static bool set_wal(struct db *db, struct err *err)
{
    for (int waited_ms = 0;; waited_ms += 10) {
        int code = sqlite3_exec(db->handle, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            return true;
        if (code != SQLITE_BUSY || waited_ms >= DB_BUSY_MS)
            return db_fail(db, err);
        sqlite3_sleep(10);
    }
}

static bool check_version(struct db *db, int64_t *version, struct err *err)
{
    int64_t application;

    if (!db_pragma(db, "user_version", version, err) ||
        !db_pragma(db, "application_id", &application, err))
        return false;
    if (*version > DB_VERSION && application == DB_APPLICATION)
        return err_set(err, ERR_USER,
                       "journal %s was written by a newer cass2es (form %" PRId64
                       ", this one knows %d): use that one, or another --state-dir",
                       db->path, *version, DB_VERSION);
    if ((*version != 0 || application != 0) && application != DB_APPLICATION)
        return err_set(err, ERR_USER,
                       "%s is a database of another program: use another --state-dir", db->path);
    return true;
}

static bool create_if_new(struct db *db, struct err *err)
{
    char stamp[96];
    int64_t version;

    if (!check_version(db, &version, err))
        return false;
    if (version == DB_VERSION)
        return true;
    snprintf(stamp, sizeof stamp, "PRAGMA application_id=%d; PRAGMA user_version=%d",
             DB_APPLICATION, DB_VERSION);
    if (!db_exec(db, sql_text[SQL_BEGIN], err))
        return false;
    /* Asked again under the lock: another process may have been faster. */
    bool ok = check_version(db, &version, err) &&
              (version > 0 || db_exec(db, create_tables, err)) &&
              (version > 1 || db_exec(db, to_form_2, err)) &&
              (version > 2 || db_exec(db, to_form_3, err)) &&
              (version > 3 || db_exec(db, to_form_4, err)) && db_exec(db, stamp, err) &&
              db_exec(db, sql_text[SQL_COMMIT], err);
    if (!ok)
        db_undo(db);
    return ok;
}

bool db_open(struct db *db, const char *path, bool durable, struct err *err)
{
    char settings[160];

    *db = (struct db){.path = path};
    if (!create_private(db, err))
        return false;
    snprintf(settings, sizeof settings,
             "PRAGMA synchronous=%s; PRAGMA foreign_keys=ON; PRAGMA cache_size=-%d;"
             " PRAGMA wal_autocheckpoint=%d",
             durable ? "FULL" : "NORMAL", DB_CACHE_KIB, DB_WAL_PAGES);
    bool ok = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                              NULL) == SQLITE_OK ||
              db_fail(db, err);
    ok = ok && sqlite3_busy_timeout(db->handle, DB_BUSY_MS) == SQLITE_OK && set_wal(db, err) &&
         db_exec(db, settings, err) && create_if_new(db, err);
    if (!ok)
        db_close(db);
    return ok;
}

void db_close(struct db *db)
{
    for (int i = 0; i < SQL_STATEMENTS; i++)
        sqlite3_finalize(db->stmt[i]);
    ensure(sqlite3_close(db->handle) == SQLITE_OK);
    *db = (struct db){.path = db->path};
}

static int bind_all(sqlite3_stmt *s, const char *types, va_list ap)
{
    int code = SQLITE_OK;

    for (int i = 1; *types && code == SQLITE_OK; i++, types++) {
        struct slice bytes;
        switch (*types) {
        case 'i':
            code = sqlite3_bind_int64(s, i, va_arg(ap, int64_t));
            break;
        case 't':
            code = sqlite3_bind_text(s, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
            break;
        case 's':
            bytes = va_arg(ap, struct slice);
            code = sqlite3_bind_text64(s, i, bytes.p ? (const char *)bytes.p : "", bytes.n,
                                       SQLITE_STATIC, SQLITE_UTF8);
            break;
        case 'b':
            bytes = va_arg(ap, struct slice);
            code = sqlite3_bind_blob64(s, i, bytes.p, bytes.n, SQLITE_STATIC);
            break;
        default:
            ensure(false);
        }
    }
    return code;
}

static sqlite3_stmt *start(struct db *db, enum db_sql sql, struct err *err, const char *types,
                           va_list ap)
{
    sqlite3_stmt **s = &db->stmt[sql];

    if (!*s && sqlite3_prepare_v3(db->handle, sql_text[sql], -1, SQLITE_PREPARE_PERSISTENT, s,
                                  NULL) != SQLITE_OK) {
        db_fail(db, err);
        return NULL;
    }
    if (bind_all(*s, types, ap) != SQLITE_OK) {
        db_fail(db, err);
        db_end(*s);
        return NULL;
    }
    return *s;
}

sqlite3_stmt *db_start(struct db *db, enum db_sql sql, struct err *err, const char *types, ...)
{
    va_list ap;

    va_start(ap, types);
    sqlite3_stmt *s = start(db, sql, err, types, ap);
    va_end(ap);
    return s;
}

bool db_next(struct db *db, sqlite3_stmt *s, bool *row, struct err *err)
{
    int code = sqlite3_step(s);

    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return db_fail(db, err);
    *row = code == SQLITE_ROW;
    return true;
}

void db_end(sqlite3_stmt *s)
{
    if (!s)
        return;
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

bool db_do(struct db *db, enum db_sql sql, struct err *err, const char *types, ...)
{
    va_list ap;
    bool row;

    va_start(ap, types);
    sqlite3_stmt *s = start(db, sql, err, types, ap);
    va_end(ap);
    bool ok = s && db_next(db, s, &row, err);
    db_end(s);
    return ok;
}

void db_undo(struct db *db)
{
    /* A full disk or an I/O error may have rolled back already. */
    if (!sqlite3_get_autocommit(db->handle))
        sqlite3_exec(db->handle, sql_text[SQL_ROLLBACK], NULL, NULL, NULL);
}

const char *db_text(sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    return text ? (const char *)text : "";
}

struct slice db_blob(sqlite3_stmt *s, int column)
{
    const void *p = sqlite3_column_blob(s, column);
    int n = sqlite3_column_bytes(s, column);

    /* SQLite yields NULL for an empty blob as well. */
    if (!p && sqlite3_column_type(s, column) == SQLITE_BLOB)
        return slice_str("");
    return slice_of(p, (size_t)n);
}
