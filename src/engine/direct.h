/*
 * engine/direct.h - direct sync: every row of a table as a document of an index.
 *
 * Each worker reads one token range after the other and writes its pages with _bulk, on a Cassandra
 * session and an HTTP connection of its own; a page's mark is journalled when every document of it
 * is acknowledged or among the failures. What loses, or may pass later, is read again by itself
 * (engine/keyed). Versions: DESIGN 3.3, engine/guard.
 *
 * Threads: direct_start() makes `workers` of them; the rest is called by the thread that started
 * it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "cql/cql.h"
#include "engine/counts.h"
#include "engine/guard.h"
#include "engine/limit.h"
#include "journal/journal.h"
#include "mapping/plan.h"
#include "sink/elastic.h"
#include "source/sample.h"
#include "source/where.h"

/* All borrowed until direct_finish(). */
struct direct_options {
    struct run *run;
    struct clock *clock;
    struct cancel *cancel;
    int64_t retry_budget_ms;
    struct cql_cluster *cluster;
    const struct plan *plan;
    const struct where *where; /* whose columns the plan reads, too; NULL: every row */
    struct sample sample;      /* zeroed: everything */
    uint64_t most_documents;   /* --limit, in all processes of the run; 0: no limit */
    const struct elastic_options *elastic;
    struct guard *guard;
    struct limit *limit;
    unsigned workers;
    size_t memory_bytes;              /* for pages and bodies of all workers */
    bool strict_values;               /* an altered value fails its document */
    uint64_t docs_per_s, reads_per_s; /* what `limit` was told; 0: no limit */
};

/* Of the whole run, earlier processes included. rows = filtered + merged + documents;
 * documents = indexed + unchanged + stale + failed. */
struct direct_counts {
    uint64_t rows, filtered, merged, documents;
    uint64_t indexed, unchanged, stale, failed;
    uint64_t bytes;         /* of documents and action lines sent */
    uint64_t gone;          /* keys whose row was gone when it was read; not among `rows` */
    uint64_t unread_ranges; /* their rows are not among `rows` */
    uint64_t nan_to_null, bad_utf8, year_out_of_range, bad_json; /* values altered, by reason */
    uint64_t id_collision;   /* documents of a scan by keys with the _id of another row */
    uint64_t lookup_missing; /* rows of other tables that are not there */
    uint64_t altered;        /* of documents that were read by themselves */
};

extern const struct count direct_count_list[]; /* all of them */

struct direct_progress {
    uint64_t done, before, total /* 0: unknown */, failed;
    char note[96]; /* why it waits, or goes slowly; "" */
};

struct direct;

struct direct *direct_start(const struct direct_options *o, struct err *err);
bool direct_wait(struct direct *d, int64_t ms);
void direct_progress(struct direct *d, struct direct_progress *out);
/* Joins and frees. False with the error that stopped it; counts are filled in either case. */
bool direct_finish(struct direct *d, struct direct_counts *counts, struct err *err);
bool direct_conserved(const struct direct_counts *c);
