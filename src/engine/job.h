/*
 * engine/job.h - the job: ids from a table or a file, in blocks, to the Sync API, to an index, or
 * into syncIds.csv.
 *
 *   scan workers or the file's reader -> blocks (journalled) -> senders -> verdict -> journal
 *
 * Threads: job_start() makes them (one feeder, which starts the scan workers, and the senders); the
 * rest is called by the thread that started it. Everything given by pointer is borrowed until
 * job_finish().
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "cql/cql.h"
#include "engine/keyed.h"
#include "journal/idset.h"
#include "journal/journal.h"
#include "sink/joblog.h"
#include "sink/syncapi.h"
#include "source/ids.h"

enum job_form {
    JOB_STRINGS,          /* "x" each; several columns: their texts with commas between */
    JOB_OBJECTS,          /* {"field":"x",...} each */
    JOB_OBJECT_PER_BLOCK, /* one {"field":["x",...]} for the block */
};

struct job_options {
    struct run *run;
    struct clock *clock;
    struct cancel *cancel;
    int64_t retry_budget_ms;

    /* what an id is */
    enum job_form form;
    const char *const *field_names; /* of objects, one per column */
    uint16_t field_count;
    bool keep_objects; /* an object in the id file is sent as it came, else its key columns make the
                          id */

    /* from a table: schema set */
    struct cql_cluster *cluster;
    const struct schema *schema;
    const uint16_t
        *columns; /* indexes into the schema, field_count of them: their texts are the id */
    unsigned scan_workers;
    int wanted_column;    /* only rows whose cell of this column is in `wanted`; -1: all rows */
    struct idset *wanted; /* filled from `ids` first, unless complete */
    bool wanted_complete;

    /* from a file: ids set */
    struct ids *ids;
    const struct type *const *key_types; /* of the parts; NULL: not checked */

    /* to an index: its plan is the first */
    const struct keyed_options *keyed;

    /* to the Sync API */
    const struct syncapi_options *api; /* NULL, and no keyed: dry run, to csv_path */
    struct joblog *log;
    unsigned workers;
    int64_t pause_ms;
    const char *csv_path;

    uint32_t block_ids;
    size_t max_body_bytes;
    const char *object_type;
};

/* All of the run, earlier processes included. ids = duplicate + bad + missing + accepted +
 * confirmed + failed + ids_found. */
struct job_counts {
    uint64_t ids, duplicate, bad, missing, accepted, confirmed, failed;
    uint64_t given, given_duplicate, given_bad, given_missing,
        found; /* of a file of another column's values */
    /* to an index: missing = deleted + kept; rows = filtered + merged + documents; documents =
     * indexed + unchanged + stale + documents_failed */
    uint64_t ids_found, deleted, kept, rows, filtered, merged, documents;
    uint64_t indexed, unchanged, stale, documents_failed, altered, lookup_missing, id_collision;
    uint64_t calls, blocks;
    uint64_t unread_ranges; /* of the table: their ids are not among `ids` */
    bool no_await;          /* asked to await, but the server does not */
};

struct job_progress {
    uint64_t done; /* ids with a verdict, in this run */
    uint64_t before;
    uint64_t total; /* 0: unknown */
    uint64_t failed;
    int64_t paused_ms;
    int64_t pauses_left_ms;
    char note[96]; /* why it waits; "" */
};

struct job;

struct job *job_start(const struct job_options *o, struct err *err);
/* Waits up to ms; true when all threads have ended. */
bool job_wait(struct job *j, int64_t ms);
void job_progress(struct job *j, struct job_progress *out);
/* Joins and frees. False with the error that stopped it (ERR_CANCEL: on request). Counts are filled
 * in either case. */
bool job_finish(struct job *j, struct job_counts *counts, struct err *err);
/* The law of conservation, for a run that came to its end. */
bool job_conserved(const struct job_counts *c);
