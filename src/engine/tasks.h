/*
 * engine/tasks.h - what is still to be read of a table: token ranges, less what the journal has as
 * done.
 *
 * Ranges that an earlier process left in the middle come first, entered where it stopped. Workers
 * stay with a node while it has ranges. Threads: any number take tasks; the rest belongs to who
 * made it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "cql/cql.h"
#include "journal/journal.h"
#include "source/sample.h"
#include "source/scan.h"

#define TASKS_AXIS "token"

struct tasks;

/*
 * Plans the rest of the run's scan.
 *   run           NULL: the whole table (nothing is resumed)
 *   target_bytes  a range's estimated size at most
 *   at_least      ranges for a table that is not tiny
 */
struct tasks *tasks_plan(struct cql_cluster *c, const struct schema *schema, struct run *run,
                         uint64_t target_bytes, size_t at_least, struct err *err);
/* The same for a part of the table. One by number of partitions keeps the share that was estimated
 * when the run began. ERR_USER: the server has no estimate. */
struct tasks *tasks_plan_sample(struct cql_cluster *c, const struct schema *schema, struct run *run,
                                struct sample sample, uint64_t target_bytes, size_t at_least,
                                struct err *err);
/* Whether that will do, before a run is begun: one that can't even start is not to be left behind.
 * ERR_USER: the server has no estimate. */
bool tasks_check_sample(struct cql_cluster *c, const struct schema *schema, struct sample sample,
                        struct err *err);
void tasks_free(struct tasks *t);
AUTO_DEFINE(tasks);

/* `*node`: the one the worker read last, -1 at first; updated. False: none is left. `out` borrows
 * from tasks. */
bool tasks_next(struct tasks *t, int32_t *node, struct scan_task *out);
/* Partitions of the table, or of the sample, by the server's estimates; 0: unknown. */
uint64_t tasks_estimated_rows(const struct tasks *t);
/* Which part of the ring that is: 0 to 1. */
double tasks_share(const struct tasks *t);
uint64_t tasks_mean_partition_bytes(const struct tasks *t);

/* Puts into tx what a page settles: the mark, and the cursor or its end. Call when all its rows are
 * safe in the same tx. */
void tasks_mark(struct tx *tx, const struct scan_task *task, const struct scan_page *page);
/*
 * The task's range goes on in parts from done_to: its cursor is forgotten. `inside`: rows of the
 * partition behind done_to were handed on already; what is left of it is noted as unread (why NULL:
 * nothing is left), and it is never read again, for that would give those rows twice.
 */
bool tasks_cut(struct tx *tx, const struct scan_task *task, int64_t done_to, bool inside,
               const char *why, struct err *err);
/* Notes a range that could not be read: counted as "unread_ranges", not marked. */
bool tasks_note_unread(struct tx *tx, const struct token_range *range, const char *why,
                       struct err *err);
