/*
 * engine/counts.h - the counts of a run: their names, in the journal and in summaries, and where
 * each is in the struct that has them all.
 *
 * Threads: pure but for the run, see journal/journal.h.
 */
#pragma once
#include <stddef.h>

#include "base/buf.h"
#include "journal/journal.h"

struct count {
    const char *name; /* NULL ends a list */
    size_t at;        /* of an uint64_t */
};
#define COUNT(type, field) {#field, offsetof(struct type, field)}

/* As the journal has them now. err: as run_count(). */
bool counts_read(struct run *run, const struct count *list, void *counts, struct err *err);
/* ,"rows":17 for each. */
void counts_add_json(struct buf *b, const struct count *list, const void *counts);
