/*
 * cmd/sync.h - what the two kinds of sync share: ids to the Sync API, rows to a file.
 *
 * Threads: the main thread alone. err as everywhere: the caller's, set on false.
 */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "base/hash.h"
#include "cmd/command.h"
#include "cmd/screen.h"
#include "cql/cql.h"
#include "engine/job.h"
#include "journal/journal.h"

/* Freed by sync_fini(), also after an error. */
struct sync {
    const struct config *config;
    struct context *ctx;
    struct journal *journal;
    struct run *run;
    struct cql_cluster *cluster;
    struct schema *schema;
    struct screen *screen;
    char id[32]; /* of the run, also when it has ended */
    bool resumed;
    const char *retry_of;            /* id of the run whose failures these are; NULL: none */
    const struct interval_set *only; /* tokens to read; NULL: all */
    char identity[SHA256_HEX_BYTES]; /* of the run: the name of what it keeps beside the journal */
};

void sync_fini(struct sync *s);
/* Opens the journal (unless it is open) and begins, or goes on with, the run of these settings and
 * `more_identity` (lines name=value). */
bool sync_begin(struct sync *s, const char *more_identity, struct err *err);
/* Ends the run: finished, or interrupted where err is set. err takes the journal's own error only
 * if it was not set. */
bool sync_end(struct sync *s, const char *summary, int exit_code, struct err *err);

void sync_start_screen(struct sync *s, const char *unit);
/* Shows a job's progress until it ends, and joins it: job_finish(). */
bool sync_watch_job(struct sync *s, struct job *job, struct job_counts *counts, struct err *err);
void sync_print(struct buf *text, bool to_stderr);
/* Of a run that did not come to its end. Where the operator has to change something (exit 2),
 * nothing is added: the same command would say the same again. */
void sync_add_how_to_go_on(struct sync *s, int exit_code, struct buf *text);
/* The first few kinds of failures, so that nobody needs to look further for the common case. */
void sync_add_failures(struct sync *s, struct buf *text);

/* Rows of a table to --to. */
bool sync_rows(struct sync *s, int *exit_code, struct err *err);
/* Rows of a table to an index. */
bool sync_index(struct sync *s, int *exit_code, struct err *err);
/* Ids to the Sync API, or to syncIds.csv. */
bool sync_ids(struct sync *s, int *exit_code, struct err *err);
