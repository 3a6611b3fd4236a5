/*
 * engine/brake.h - how many documents may be deleted because their row is missing.
 *
 * More than max(100, 1 %) of a run's ids (for serve: of an hour's), or a range that could not be
 * read, means that something else is wrong: the brake is pulled, nothing more is deleted, and the
 * run ends with exit 7. Threads: any; one brake is shared by all workers. Source: DESIGN 6.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/mem.h"

/* Of a document that it left, among the failures. */
#define BRAKE_REASON "brake"

enum { BRAKE_FLOOR = 100, BRAKE_SHARE = 100 /* one of so many */ };

struct brake_options {
    struct clock *clock;
    int64_t window_ms; /* counts begin anew after it; 0: never */
    uint64_t ids;      /* of earlier processes of the run */
    uint64_t missing;
};

struct brake;

struct brake *brake_new(const struct brake_options *o);
void brake_free(struct brake *b);
AUTO_DEFINE(brake);

/* So many more ids (or documents of the index) belong to the run. */
void brake_ids(struct brake *b, uint64_t ids);
/* One more row is confirmed to be missing: may its document go? False: pulled. */
bool brake_delete(struct brake *b);
/* `why` may be NULL. */
bool brake_pulled(struct brake *b, char *why, size_t size);
