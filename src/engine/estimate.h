/*
 * engine/estimate.h - what a sync would be: how many rows and bytes, how long, and the first
 * documents as they would be sent. Nothing is written.
 *
 * The server's own estimates, and a short look: the first page of some ranges, two seconds at most.
 * Threads: one connection, on the caller's thread. Source: DESIGN 3.7.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "cql/cql.h"
#include "mapping/plan.h"
#include "source/sample.h"
#include "source/where.h"

enum { ESTIMATE_SAMPLES = 3, ESTIMATE_MS = 2000 };

struct estimate_options {
    struct cql_cluster *cluster;
    const struct plan *plan;
    const struct where *where; /* NULL: every row */
    struct sample sample;      /* zeroed: everything */
    uint64_t most_documents;   /* 0: no limit */
    bool by_ids;               /* rows of ids are read; the table tells how large they are */
    uint64_t ids;              /* then: how many; 0: unknown */
    struct clock *clock;
    unsigned workers; /* that the sync will have */
};

struct estimate_sample {
    struct buf id;
    struct buf document;
};

struct estimate {
    char *statement; /* as it is read: CQL */
    /* of what was looked at */
    uint64_t rows_read, wanted, not_written;
    uint64_t bytes;    /* of the documents */
    char problem[512]; /* of the first that could not be written; "" */
    bool whole;        /* it was all that the sync would read */
    /* of the sync */
    uint64_t partitions; /* as the server estimates; 0: it does not say */
    uint64_t documents;  /* 0: unknown, unless whole */
    uint64_t document_bytes;
    int64_t ms; /* for reading alone, by all workers; -1: unknown */
    struct estimate_sample samples[ESTIMATE_SAMPLES]; /* by_ids: left to the caller */
    size_t sample_count;
};

/* Also after an error: estimate_fini(). err: as a scan's. */
bool estimate_make(const struct estimate_options *o, struct estimate *out, struct err *err);
void estimate_fini(struct estimate *e);
/* One more sample, while there is room. */
void estimate_add_sample(struct estimate *e, struct slice id, struct slice document);
