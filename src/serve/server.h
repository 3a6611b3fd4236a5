/*
 * serve/server.h - HTTP in: Sync API, health, metrics. The only home of libmicrohttpd.
 *
 * A connection is a thread: a call waits for the journal, and, awaited, for its work; in a pool of
 * few threads it would hold up the calls of others. Connections, and the bytes of bodies that are
 * being received, are bounded.
 *
 *   POST /v1/data/sync, /data/v1/index/sync, /api/data/v1/index/sync
 *   GET  .../runs/ID      what became of a call, under each of the three
 *   GET  /health/live     200 as long as it answers
 *   GET  /health/ready    200, or 503 with the reason: work waits for a server or for the journal,
 *                         Elasticsearch or Cassandra can't be reached, or it is stopping
 *   GET  /metrics         Prometheus text
 *
 * The answer to a call that was taken has its name in the header X-Cass2es-Run. A client has
 * client_timeout_ms for a whole request, as well as for taking the answer, and as long between two
 * requests; then its connection is cut.
 *
 * Threads: start and stop by one.
 */
#pragma once
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "metrics/metrics.h"
#include "serve/keys.h"
#include "serve/syncapi.h"
#include "serve/work.h"

enum server_table { TABLE_TAKEN, TABLE_BUSY, TABLE_STOPPING, TABLE_NOT_KEPT };

/* What the server asks of its owner, from any thread; each may be NULL. */
struct server_hooks {
    void *ctx;
    /* Whether Elasticsearch can't even be connected to, at this moment; within seconds. */
    bool (*unreachable)(void *ctx);
    /* Can Cassandra be asked; `why` says why not. */
    bool (*cassandra)(void *ctx, char *why, size_t why_size);
    /* Begins to sync the whole table; durable when it returns. run: its name. */
    enum server_table (*whole_table)(void *ctx, const char *type, char run[WORK_ID_BYTES],
                                     struct err *err);
    /* Appends what is known of a whole table's run, an object. */
    bool (*table_run)(void *ctx, const char *run, struct buf *out, bool *found, struct err *err);
    /* False: an element has no partition key; err says which, and what it lacks. */
    bool (*keyed_ids)(void *ctx, const char *type, const struct json *ids, struct err *err);
};

struct server_options {
    const char *listen; /* "host:port", ":port", "[v6]:port"; port 0: any free one */
    size_t max_body_bytes;
    int64_t sync_timeout_ms;
    int64_t client_timeout_ms;
    unsigned max_connections;
    size_t queue_ids; /* of the work: more in a call are not read to the end */
    struct syncapi_rules rules;
    struct work *work;       /* borrowed; outlives the server */
    struct journal *journal; /* borrowed: where calls can be looked up */
    struct keys *keys;       /* borrowed; NULL: everybody may call */
    struct server_hooks hooks;
    struct clock *clock;
    struct metrics *metrics;
};

struct server;

/* Listens when it returns. NULL: ERR_USER (wrong address, in use), ERR_SYSTEM. */
struct server *server_start(const struct server_options *o, struct err *err);
/* "127.0.0.1:9000", with the port that was taken. */
const char *server_address(const struct server *s);
/* From the next request on. Lives as long as the server. */
void server_set_types(struct server *s, const char *const *types);
/* No new connections; returns when the last answer is sent. Call work_drain() before, so that
 * nobody waits for work any more. */
void server_stop(struct server *s);
