/*
 * journal/db.h - one SQLite connection: opening, statements, and what its errors mean to an
 * operator.
 *
 * Threads: a connection belongs to one thread at a time.
 */
#pragma once
#include <sqlite3.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum db_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SYNC,
    SQL_SYNC_LATER,
    SQL_RUN_UNFINISHED,
    SQL_RUN_SUPERSEDE,
    SQL_RUN_ADD,
    SQL_RUN_RESUME,
    SQL_RUN_END,
    SQL_RUN_FORGET_MARKS,
    SQL_RUN_FORGET_CURSORS,
    SQL_RUN_PRUNE,
    SQL_RUN_LEFT,
    SQL_RUN_DELETE,
    SQL_RUN_EACH,
    SQL_MARK_REACH,
    SQL_MARK_DELETE,
    SQL_MARK_ADD,
    SQL_MARKS,
    SQL_CURSOR_PUT,
    SQL_CURSOR_END,
    SQL_CURSORS,
    SQL_BLOCK_PUT,
    SQL_BLOCK_END,
    SQL_BLOCKS_SWEEP,
    SQL_BLOCKS_SWEPT,
    SQL_BLOCK_NEXT,
    SQL_BLOCK_GET,
    SQL_BLOCK_DELETE,
    SQL_COUNT_ADD,
    SQL_COUNT,
    SQL_FAILURE_ADD,
    SQL_FAILURES,
    SQL_FAILURE_END,
    SQL_FAILURE_AGAIN,
    SQL_FAILURES_MOVE,
    SQL_FAILURES_DROP,
    SQL_FAILURES_NEWEST,
    SQL_FAILURES_OLDEST,
    SQL_NOTE_PUT,
    SQL_NOTE,
    SQL_TARGET_PUT,
    SQL_TARGET,
    SQL_CALL_ADD,
    SQL_CALL,
    SQL_CALL_NAMED,
    SQL_CALL_LAST,
    SQL_CALLS_NEWEST,
    SQL_CALLS_OLD,
    SQL_CALL_DELETE,
    SQL_OUTCOME_ADD,
    SQL_OUTCOME,
    SQL_OUTCOME_WAITS,
    SQL_OUTCOMES_DELETE,
    SQL_STATEMENTS,
};

struct db {
    sqlite3 *handle;
    const char *path; /* borrowed */
    sqlite3_stmt *stmt[SQL_STATEMENTS];
};

/* Opens, creates the tables when the file is new, checks its version. On error nothing is open. */
bool db_open(struct db *db, const char *path, bool durable, struct err *err);
void db_close(struct db *db);

/*
 * Starts a statement. `types` names the arguments that follow: i int64_t, t const char * (may be
 * NULL), b struct slice as BLOB, s struct slice as TEXT. What is pointed to must live until db_end.
 * NULL on error.
 */
sqlite3_stmt *db_start(struct db *db, enum db_sql sql, struct err *err, const char *types, ...);
/* The next row: *row false at the end. */
bool db_next(struct db *db, sqlite3_stmt *s, bool *row, struct err *err);
/* Lets the statement, and what it holds in the database, go. */
void db_end(sqlite3_stmt *s);
/* db_start, to the end, db_end: for statements without rows. */
bool db_do(struct db *db, enum db_sql sql, struct err *err, const char *types, ...);
/* Rolls back whatever is open. */
void db_undo(struct db *db);
/* Column text as a C string, "" for null; valid until the next row. */
const char *db_text(sqlite3_stmt *s, int column);
struct slice db_blob(sqlite3_stmt *s, int column);
