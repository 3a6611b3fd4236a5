/*
 * cmd/sync_columns.h - tables whose columns change under a run: its own, and those that its steps
 * read.
 *
 * Threads: the main thread alone.
 */
#pragma once
#include <stdbool.h>

#include "cmd/document.h"

/* Of the run's identity: the columns that its documents are made of. A run that began with others
 * is not gone on with. */
void sync_columns_identity(const struct document *d, struct buf *out);
/*
 * Has a column that the documents are made of gone, or become another? Asks for a moment whether it
 * has: not all nodes learn of it at once. Says which one (a warning).
 */
bool sync_columns_lost(const struct document *d, struct cql_cluster *cluster, struct clock *clock);
/* Warns of columns that came, where the mapping takes every column. */
void sync_columns_warn_added(const struct document *d, struct cql_cluster *cluster);
