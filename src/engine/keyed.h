/*
 * engine/keyed.h - documents by ids: from the elements of an objectIds list to Elasticsearch.
 *
 * What `serve` and `sync` call for each block of ids, and direct sync for what a page leaves over:
 * keys of an id, read exactly those rows, write, judge. How, says the plan's versioning (DESIGN
 * 3.3):
 *   sequence    look at what is stored (_mget) before the row is read, merge what is preserved,
 *               write on the condition that nothing changed meanwhile, read again what lost
 *   read_time   the time of reading is the version; a conflict is read once more
 *   write_time  the row's own timestamps are; an equal one is there: nothing to do
 *   none        whoever comes last
 * What may have been written, and what is too old, is read again, never sent again. A row that is
 * missing is reported; a document is deleted when we ourselves made it from a row that was gone by
 * then, or when the options say so (KEYED_DELETE).
 *
 * Threads: a keyed belongs to one worker (it owns a CQL session and an HTTP connection); the
 * cluster, the plans and the clock behind it are shared.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "cql/cql.h"
#include "engine/brake.h"
#include "engine/guard.h"
#include "engine/limit.h"
#include "engine/pause.h"
#include "engine/room.h"
#include "mapping/plan.h"
#include "sink/elastic.h"
#include "source/where.h"

/* What becomes of a row that is missing. */
enum keyed_missing {
    KEYED_REPORT, /* a failure */
    KEYED_KEEP,   /* counted, no failure */
    KEYED_DELETE, /* its document goes, when a second read, 1 s later at least, finds no row either:
                     of whole keys only (a part of a key does not say which documents) */
};

/* Scans for elements without the partition key; shared by all keyed. */
struct keyed_scans {
    _Atomic uint64_t scans;
    _Atomic uint64_t rows; /* that they read */
};

/* Everything borrowed for the life of the keyed. */
struct keyed_options {
    struct cql_cluster *cluster;
    const struct elastic_options *elastic;
    struct elastic *sink;            /* used instead of a connection of its own; may be NULL */
    const struct plan *const *plans; /* one per object type, NULL-terminated */
    struct guard *const *guards;     /* one for each plan; may be NULL, or be NULL where the plan's
                                        versioning is sequence or none */
    struct limit *limit;             /* for bulk requests; may be NULL */
    struct pause *pause;             /* of the index of all plans; may be NULL */
    enum keyed_missing missing;
    struct brake *brake; /* for KEYED_DELETE; the owner tells it of ids */
    /* Each document that failed; may be NULL. key: plan_key_count() cells. */
    void (*on_failure)(void *ctx, const struct plan *plan, const struct slice *key,
                       const char *reason, const char *text);
    void *on_failure_ctx;
    /* An element without the partition key: its rows are looked for in the whole table, once for
     * all of a call. NULL: it is bad (no_partition_key). */
    struct keyed_scans *scans;
    /* Conditions on the rows of the first plan, which reads their columns (mapping_read_too): a row
     * that does not fulfil them is filtered, its document stays as it is. NULL: none. */
    const struct where *where;
    bool only_keys; /* rows between the keys of a scan are left alone */
    /* That an _id does not hold the whole key was told (id_collision): once by all who share this.
     * NULL: once in each call of keyed_sync(). */
    atomic_bool *collided;
    struct clock *clock;
    struct cancel *cancel;   /* may be NULL */
    int64_t retry_budget_ms; /* per call of keyed_sync: how long without any progress before it
                                gives up; 0: 10 minutes */
    bool strict_values;      /* an altered value fails its document */
    size_t memory_bytes;     /* what a round of documents aims at, and its ceiling; twice as much
                                for the keys of a call; 0: 32 MiB */
    size_t most_bytes;       /* the ceiling of a round where it is higher; 0: it is not */
    struct room *room;       /* shared with others: a round comes to half of memory_bytes, and what
                                is larger takes its room here; NULL: a round may come to all */
};

enum keyed_outcome {
    KEYED_OPEN,      /* not settled: keyed_sync() ended with an error before; nothing is known */
    KEYED_FOUND,     /* has rows, all of them settled: see the counts */
    KEYED_MISSING,   /* no row: see counts.removed */
    KEYED_DUPLICATE, /* equals an earlier element of the call: `of`; counts are 0 */
    KEYED_BAD,       /* is no id: reason and text */
};

/* rows = filtered + merged + documents; documents = indexed + unchanged + stale + failed. */
struct keyed_counts {
    uint64_t rows;      /* read for this element */
    uint64_t filtered;  /* not what its filter asks for */
    uint64_t merged;    /* a document of another element of this call (a whole key comes before a
                           part of one; an element with conditions shares nothing); sequence: has
                           the _id of a later one that was worked off with it, and is not written */
    uint64_t documents; /* the rest, each ended as one of the four below */
    uint64_t indexed;
    uint64_t unchanged; /* equal to what is stored: not written */
    uint64_t stale;     /* a later one is there; always 0 under sequence */
    uint64_t failed;
    uint64_t contended; /* of the failed: lost against other writers each time */
    uint64_t gone;      /* keys without a row; not among `rows` */
    uint64_t removed;   /* of the gone: their document was there, and is deleted */
    uint64_t altered;   /* values in documents that could not be written as they are (NaN, ...) */
    uint64_t bad_json;  /* of the altered: texts that are no JSON */
    uint64_t id_collision;   /* documents with the _id of another one that was worked off with them:
                                the mapping's _id does not hold the whole key */
    uint64_t lookup_missing; /* rows of other tables that are not there, where the mapping allows
                                for it */
};

struct keyed_result {
    enum keyed_outcome outcome;
    uint32_t of; /* KEYED_DUPLICATE: index of the first */
    bool ok;     /* FOUND and every one of its documents, merged ones too, is indexed, unchanged or
                    stale; MISSING and as the options want it (a duplicate: as its first) */
    bool unwritten; /* the reason came of writing: Elasticsearch refused, others were faster */
    struct keyed_counts counts;
    char reason[32]; /* "" or of the first failure: bad_id, unknown_column, no_partition_key,
                        missing, contended, or the type of Elasticsearch's error, ... : stable words
                      */
    char text[256];  /* the same for people */
};

/* Sums of a list of results. ids = duplicate + bad + missing + found (+ open after an error);
 * missing = deleted + kept. */
struct keyed_totals {
    uint64_t ids, duplicate, bad, missing, found, open;
    uint64_t deleted, kept; /* a missing one with nothing to delete is kept */
    struct keyed_counts counts;
};

struct keyed;

/* NULL with err. No connection is made before it is needed. */
struct keyed *keyed_open(const struct keyed_options *o, struct err *err);
void keyed_free(struct keyed *k);
/* Between two calls: gives back the memory that large documents took, also of the elastic client.
 */
void keyed_trim(struct keyed *k);
AUTO_DEFINE(keyed);

/* The plan of an object type (case matters, as in the original), or NULL. */
const struct plan *keyed_plan(const struct keyed *k, const char *object_type);

/*
 * Works off all elements, with retries.
 *   ids      JSON array: strings (a value of the select's columns), or objects (column filters);
 *            anything else is bad
 *   results  ids->count of them, overwritten; conserved (keyed_conserved()) when true is returned
 * False: ERR_USER (no such type, index missing, a column is gone, no rights), ERR_REACH (refused to
 * log in, budget spent), ERR_CANCEL, ERR_SYSTEM. Then elements that were not settled are
 * KEYED_OPEN; the whole call may be repeated.
 */
bool keyed_sync(struct keyed *k, const char *object_type, const struct json *ids,
                struct keyed_result *results, struct err *err);

void keyed_totals_add(struct keyed_totals *t, const struct keyed_result *results, size_t count);
/* The laws named above hold; else it is a defect (exit 5). */
bool keyed_conserved(const struct keyed_totals *t);

/* Is everything there: Cassandra answers, and the index of every plan exists. For readiness and
 * start. */
bool keyed_check(struct keyed *k, struct err *err);

/* ---- keys, for engine/direct ------------------------------------------------------------------
 *
 * keyed_begin(), keyed_add() for each key, keyed_end(): reads, writes and judges each by itself.
 */

enum keyed_task {
    KEYED_WRITE,       /* read the row, write the document */
    KEYED_SCAN,        /* the same; keys come in the table's order, so that rows are read together,
                          and those between two keys are documents, too */
    KEYED_WRITE_STALE, /* the same, and the first conflict is `stale`: the row was read just now */
    KEYED_WRITE_SENT,  /* the same, and it may have been written: without a row its document goes
                          (versioned modes) */
    KEYED_CHECK,       /* we created its document: is the row still there; else delete it */
};

/* sum: of all that follows, added to (outcome, reason and text are of no meaning). */
void keyed_begin(struct keyed *k, const struct plan *plan, struct keyed_result *sum);
/*
 *   key           plan_key_count() cells, copied
 *   seq_no, term  KEYED_CHECK under sequence: what the create got
 * False: as keyed_sync(). Works them off when many have come together.
 */
bool keyed_add(struct keyed *k, enum keyed_task task, const struct slice *key, int64_t seq_no,
               int64_t term, struct err *err);
bool keyed_end(struct keyed *k, struct err *err);
