/*
 * journal/idset.h - a set of ids on disk: what was asked for, and what a scan has seen of it.
 *
 * For id files that hold values of another column than the one the server wants: any number of ids
 * in constant memory. A scratch file of its own, made anew unless it was completed. Threads: any;
 * calls take turns. Errors: ERR_SYSTEM.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct idset;

/* `*complete`: an earlier process has filled it; else it is empty. */
struct idset *idset_open(const char *path, bool *complete, struct err *err);
void idset_free(struct idset *s);
AUTO_DEFINE(idset);
/* Closes it and removes the file. */
void idset_remove(struct idset *s);

/*
 *   cell    what the scan compares with
 *   text    the id as it was given, for the report
 *   added   false: it was there
 */
bool idset_add(struct idset *s, struct slice cell, struct slice text, bool *added, struct err *err);
/* All are in. */
bool idset_complete(struct idset *s, struct err *err);
/* Is the cell in the set? Remembers that it was seen; idset_flush() makes that safe. */
bool idset_see(struct idset *s, struct slice cell, bool *found, struct err *err);
bool idset_flush(struct idset *s, struct err *err);
/* How many were seen. */
bool idset_seen(struct idset *s, uint64_t *out, struct err *err);
/* Those not seen, in the order they were given, behind the `after`-th row (0: from the first);
 * stops when `each` returns false. */
bool idset_each_unseen(struct idset *s, int64_t after,
                       bool (*each)(void *ctx, int64_t row, struct slice text), void *ctx,
                       struct err *err);
