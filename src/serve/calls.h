/*
 * serve/calls.h - what became of a call, for who asks: the journal's outcomes as JSON.
 *
 * The outcome of a part is {"objectType":T,"objectIds":[...],"outcomes":"iim","why":[[2,"missing",
 * "no row has this key"]]}: one letter per id
 *
 *   i indexed  u unchanged  s stale  g merged  f failed  m missing  k kept  x deleted
 *   d duplicate  b bad  r refused
 *
 * Threads: any.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "journal/journal.h"

/* Does the text have the form of a call's name. */
bool calls_is_id(const char *id);
/*
 * Appends an object: run, objectType, state (waiting, done), acceptedAt, endedAt, ids, counts,
 * results. `waiting` are ids whose part has not ended. *found: false when there is no such call, or
 * no longer.
 *   room  asked behind each part, with the bytes that `out` takes by then. False: it ends there,
 *         with ERR_RETRY
 */
bool calls_describe(struct journal *j, const char *id, bool (*room)(void *ctx, size_t bytes),
                    void *ctx, struct buf *out, bool *found, struct err *err);
/* ISO 8601 UTC with milliseconds, in quotes. */
void calls_add_time(struct buf *out, int64_t us);
