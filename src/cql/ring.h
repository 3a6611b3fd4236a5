/*
 * cql/ring.h - who holds which tokens, and how a scan is cut. Pure: no socket, no clock.
 *
 * A ring is made once from what system.local and system.peers say; a ring_map is a ring under one
 * keyspace's replication. Both are immutable. Threads: shared freely.
 * Ranges are (start, end], unwrapped: the whole ring is (INT64_MIN, INT64_MAX].
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "cql/cql.h"

struct ring_node {
    const char *dc;
    const char *rack;
    const int64_t *tokens;
    size_t token_count;
};

struct ring;
/* Everything is copied. A token that two nodes claim goes to the first of them. Indexes of nodes in
 * all functions here are those of `nodes`. */
struct ring *ring_new(const struct ring_node *nodes, size_t count);
void ring_free(struct ring *r);
AUTO_DEFINE(ring);

enum replication_kind {
    REPLICATION_SIMPLE,     /* SimpleStrategy */
    REPLICATION_TOPOLOGY,   /* NetworkTopologyStrategy */
    REPLICATION_LOCAL,      /* LocalStrategy: the node asked */
    REPLICATION_EVERYWHERE, /* EverywhereStrategy: every node */
    REPLICATION_UNKNOWN,    /* another class: no replicas are known */
};

enum { REPLICATION_DC_MAX = 64 };

struct replication {
    enum replication_kind kind;
    int factor;    /* SIMPLE: all replicas */
    int transient; /* SIMPLE: of them, those that can't serve reads alone: "3/1" is 3 and 1 */
    size_t dc_count;
    struct replication_dc {
        char dc[64];
        int factor;
        int transient;
    } dcs[REPLICATION_DC_MAX];
};

/* From system_schema.keyspaces.replication, a map<text, text> cell. ERR_REJECT. */
bool replication_read(struct slice map_cell, struct replication *out, struct err *err);

struct ring_range {
    int64_t start;
    int64_t end;
    uint32_t replica_count;
    const int32_t *replicas; /* indexes of nodes, primary first; transient ones left out */
};

/* Every vnode range from INT64_MIN to INT64_MAX, neighbours with the same replicas merged. Without
 * tokens: one range without replicas. */
struct ring_map {
    size_t count;
    struct ring_range *ranges;
    int32_t *pool; /* the replica lists */
};
struct ring_map *ring_map_new(const struct ring *r, const struct replication *how);
void ring_map_free(struct ring_map *m);
AUTO_DEFINE(ring_map);
/* The range that holds the token; its replicas are the places to send a read of it. Never NULL. */
const struct ring_range *ring_map_find(const struct ring_map *m, int64_t token);

/* A row of system.size_estimates; start > end when it wraps; start == end is the whole ring. */
struct ring_estimate {
    int64_t start;
    int64_t end;
    int64_t mean_partition_bytes;
    int64_t partitions;
};

struct ring_split {
    const char *local_dc;                  /* NULL: any */
    uint64_t target_bytes;                 /* no range is estimated above it; 0: no limit */
    size_t at_least;                       /* ranges in all, unless the table is known to be tiny */
    const struct ring_estimate *estimates; /* any order; from one node or several, NULL: none */
    size_t estimate_count;
};

/*
 * Cuts the intervals `of` (sorted, disjoint, unwrapped) into ranges that don't cross replica sets.
 * Ordered so that nodes take turns; together they are exactly `of`. Parts of the ring without an
 * estimate are taken to be like the others. `out` is freed with cql_ranges_fini() (defined here).
 */
void ring_split(const struct ring *r, const struct ring_map *m, const struct ring_split *how,
                const struct token_range *of, size_t of_count, struct cql_ranges *out);
