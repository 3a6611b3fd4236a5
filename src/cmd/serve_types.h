/*
 * cmd/serve_types.h - the object types that are served: mappings as they were when last read.
 *
 * One set is never changed; a reload makes another, and work under way keeps the one it began with.
 * Threads: get and put from any; the rest from the main thread.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "cmd/document.h"
#include "engine/guard.h"
#include "engine/keyed.h"
#include "journal/journal.h"

enum { MAX_MAPPINGS = 64 };

struct serve_types {
    atomic_int refs;
    struct document docs[MAX_MAPPINGS];
    size_t count;
    const struct plan *plans[MAX_MAPPINGS + 1];
    struct guard *guards[MAX_MAPPINGS];
    struct keyed_options keyed; /* with these plans and guards */
};

/* The mapping files are read, and fit each other; nothing is connected. */
struct serve_types *serve_types_load(const struct config *c, struct err *err);
/*
 * Compiles them against the live tables, and looks at Cassandra and the indices. An index that was
 * written in another mode is refused; else it is noted as this run's.
 *   keyed  what all sets have in common
 */
bool serve_types_open(struct serve_types *t, const struct config *c, struct journal *journal,
                      const char *run, const struct keyed_options *keyed, struct err *err);
struct serve_types *serve_types_ref(struct serve_types *t);
void serve_types_put(struct serve_types *t); /* NULL: nothing */
/* NULL: not served. */
const struct document *serve_types_document(const struct serve_types *t, const char *object_type);
const struct plan *serve_types_plan(const struct serve_types *t, const char *object_type);

/* The set of this moment. */
struct serve_current {
    pthread_mutex_t lock;
    struct serve_types *types;
};
struct serve_types *serve_current_get(struct serve_current *c);         /* to be put back */
void serve_current_set(struct serve_current *c, struct serve_types *t); /* takes it over */
