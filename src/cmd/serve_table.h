/*
 * cmd/serve_table.h - whole tables for `serve`: one run at a time, by engine/direct.
 *
 * A run of its own in the journal: it goes on at the next start when the server stopped, or was
 * killed, in its middle; several that were left do so one after the other. Trouble with a server is
 * waited out.
 *
 * Threads: begin and describe from any; the rest from the main thread. It has one of its own.
 */
#pragma once
#include "cmd/serve_types.h"
#include "journal/journal.h"
#include "metrics/metrics.h"
#include "serve/server.h"

/* Of its runs in the journal. Their params are the server's settings as those of a sync with one
 * mapping: `failures retry` tries again by them. */
#define SERVE_TABLE_COMMAND "serve-table"

struct serve_table_options {
    const struct config *config;
    struct journal *journal;
    struct serve_current *current;
    struct clock *clock;
    struct metrics *metrics;
};

struct serve_table;

struct serve_table *serve_table_new(const struct serve_table_options *o, struct err *err);
/* Goes on with what earlier processes left, oldest first, where whole tables are allowed; else it
 * stays left. Of runs of one type it is the newest that counts. */
bool serve_table_resume(struct serve_table *t, struct err *err);
/* The next of those, when none is under way: to be called now and then. False: it stays left. */
bool serve_table_next(struct serve_table *t, struct err *err);
/* As server_hooks.whole_table, of a table. */
enum server_table serve_table_begin(struct serve_table *t, const char *type,
                                    char run[WORK_ID_BYTES], struct err *err);
/* As server_hooks.table_run. */
bool serve_table_describe(struct serve_table *t, const char *run, struct buf *out, bool *found,
                          struct err *err);
/* Nothing new is begun, and what runs stops at its next page. */
void serve_table_stop(struct serve_table *t);
bool serve_table_idle(struct serve_table *t);
/* The same without waiting for an answer that is on its way. */
void serve_table_stop_now(struct serve_table *t);
void serve_table_free(struct serve_table *t); /* waits for its thread */
