/*
 * serve/server.h - HTTP in: Sync API, health, metrics. The only home of libmicrohttpd.
 *
 * A connection is a thread: a call waits for the journal, and, awaited, for its work; in a pool of
 * few threads it would hold up the calls of others. Connections, and the bytes of bodies that are
 * being received, are bounded.
 *
 *   POST /v1/data/sync, /data/v1/index/sync, /api/data/v1/index/sync
 *   GET  /health/live     200 as long as it answers
 *   GET  /health/ready    200, or 503 with the reason: work waits for a server or for the journal,
 * or Elasticsearch can't be connected to GET  /metrics         Prometheus text
 *
 * Threads: start and stop by one.
 */
#pragma once
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "metrics/metrics.h"
#include "serve/syncapi.h"
#include "serve/work.h"

struct server_options {
    const char *listen; /* "host:port", ":port", "[v6]:port"; port 0: any free one */
    size_t max_body_bytes;
    int64_t sync_timeout_ms;
    struct syncapi_rules rules;
    struct work *work; /* borrowed; outlives the server */
    /* Whether Elasticsearch can't even be connected to, at this moment; from any thread, within
     * seconds. May be NULL: then it is not known. */
    bool (*unreachable)(void *ctx);
    void *unreachable_ctx;
    struct clock *clock;
    struct metrics *metrics;
};

struct server;

/* Listens when it returns. NULL: ERR_USER (wrong address, in use), ERR_SYSTEM. */
struct server *server_start(const struct server_options *o, struct err *err);
/* "127.0.0.1:9000", with the port that was taken. */
const char *server_address(const struct server *s);
/* No new connections; returns when the last answer is sent. Call work_drain() before, so that
 * nobody waits for work any more. */
void server_stop(struct server *s);
