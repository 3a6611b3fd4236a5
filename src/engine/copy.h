/*
 * engine/copy.h - every row of a table as a line of JSON: table -> pages -> documents -> file.
 *
 * Each worker reads one token range after the other with a session of its own; page by page the
 * lines go to the file together with the page's mark. The page after is on its way meanwhile.
 *
 * Threads: copy_start() makes `workers` of them; the rest is called by the thread that started it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "cql/cql.h"
#include "engine/counts.h"
#include "engine/limit.h"
#include "journal/journal.h"
#include "mapping/plan.h"
#include "sink/file.h"
#include "source/sample.h"
#include "source/where.h"

/* All borrowed until copy_finish(). */
struct copy_options {
    struct run *run;
    struct clock *clock;
    struct cancel *cancel;
    int64_t retry_budget_ms;
    struct cql_cluster *cluster;
    const struct plan *plan;
    const struct where *where; /* NULL: every row */
    struct sample sample;
    uint64_t limit;      /* documents; 0: all */
    struct limit *rates; /* of rows read */
    struct sink_file *file;
    bool resumable; /* false: nothing but counts is journalled */
    unsigned workers;
    size_t memory_bytes; /* for pages and lines of all workers */
    bool strict_values;  /* an altered value fails its document */
};

/* Of the whole run. rows = filtered + documents; documents = written + failed. */
struct copy_counts {
    uint64_t filtered; /* rows that the server did not filter by itself */
    uint64_t rows, documents, written, failed, bytes;
    uint64_t unread_ranges; /* their rows are not among `rows` */
    uint64_t nan_to_null, bad_utf8, year_out_of_range,
        bad_json;            /* values altered, by reason (mapping/json.h) */
    uint64_t lookup_missing; /* rows of other tables that are not there */
};

extern const struct count copy_count_list[]; /* all of them */

struct copy_progress {
    uint64_t done, before, total, failed;
    char note[96];
};

struct copy;

struct copy *copy_start(const struct copy_options *o, struct err *err);
bool copy_wait(struct copy *c, int64_t ms);
void copy_progress(struct copy *c, struct copy_progress *out);
bool copy_finish(struct copy *c, struct copy_counts *counts, struct err *err);
bool copy_conserved(const struct copy_counts *c);
