/*
 * engine/peek.h - the documents of one id, as they would be written. Nothing is written.
 *
 * What keyed would make of the id now: rows of whole keys, of a part of the key, or of conditions,
 * and what their documents want of other tables, read after them. Without the index: what is
 * preserved of a stored document is not there. Threads: the caller's alone.
 */
#pragma once
#include "base/json.h"
#include "cql/cql.h"
#include "mapping/plan.h"

/* One row, borrowed for the call. */
struct peeked {
    struct slice key;         /* the row's, as text: its parts with ':' between them */
    struct slice id, routing; /* null: it has none, or fails before */
    struct slice document;    /* compact JSON; null: there is none, see reason */
    const char *reason;       /* a stable word, as in the failures; "filtered": its conditions leave
                                 the row out; "": it has a document */
    const char *text;         /* the same for people */
    struct json_counts counts; /* values altered, rows of other tables missing */
};

/*
 * Gives `take` one row after the other.
 *   id  a string, or an object of columns: as an element of a call
 * False: ERR_USER, it is no id, or lacks the partition key; else as cql_pager_next(), ERR_RETRY
 * among them.
 */
bool peek_id(const struct plan *p, struct cql_cluster *cluster, const struct json *id,
             void (*take)(void *ctx, const struct peeked *row), void *ctx, struct err *err);
