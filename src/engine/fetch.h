/*
 * engine/fetch.h - what one row's document wants of other tables, read at once and by itself.
 *
 * For files and samples; engine/keyed reads for many documents together. Everything is read after
 * the row. Threads: a fetch belongs to one worker.
 */
#pragma once
#include "cql/cql.h"
#include "engine/limit.h"
#include "mapping/plan.h"

struct fetch {
    const struct plan *plan;
    struct cql_session *session; /* borrowed; NULL: opened when it is needed first */
    struct cql_session *own;
    struct cql_cluster *cluster;
    struct limit *limit; /* of rows read per second; borrowed; NULL: none */
    struct fetched rows;
    struct plan_work work;
};

/* Both are borrowed. */
void fetch_init(struct fetch *f, const struct plan *p, struct cql_cluster *cluster,
                size_t max_bytes);
void fetch_fini(struct fetch *f);

/*
 * plan_make() with what it wants. False with ERR_REJECT: the document fails, f->work.reason says
 * why; else as cql_pager_next(), ERR_RETRY among them.
 */
bool fetch_document(struct fetch *f, const struct slice *cells, struct slice id, struct buf *out,
                    struct json_counts *counts, struct err *err);
