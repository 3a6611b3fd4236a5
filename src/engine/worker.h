/*
 * engine/worker.h - the life of a worker that reads a table: take a task, read its pages, hand each
 * on.
 *
 * Read this first. What becomes of a page (ids in blocks, lines in a file, documents in an index)
 * is the owner's; what is here is the order of things, and that what may pass is tried again where
 * it stopped. Threads: one worker per thread; crew, tasks and plan are shared.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cql/cql.h"
#include "engine/crew.h"
#include "engine/quota.h"
#include "engine/retry.h"
#include "engine/room.h"
#include "engine/tasks.h"
#include "source/scan.h"

struct worker {
    struct crew *crew;
    struct cql_cluster *cluster;
    const struct scan_plan *plan;
    struct tasks *tasks;
    struct clock *clock;
    int64_t retry_budget_ms;
    uint32_t page_bytes; /* aim */
    struct quota *quota; /* nothing more is read when it has ended; NULL: everything is */
    uint32_t first_rows; /* of the very first page; 0: by the table's estimates, else 1
                          * (with `room`) or 50 */
    /* Rows that are too large for `share_bytes`, a worker's part of the memory, take their room
     * here from before they are read until they are handed on, one at a time, as soon as one was
     * seen; so does the first row when nothing is known. `trim` gives back what they left with the
     * owner. NULL: no bound, and no trim. */
    struct room *room;
    size_t share_bytes;
    void (*trim)(void *ctx);
    /*
     * Makes a page's rows safe, with its mark (tasks_mark) in the same transaction. Its page is
     * valid until it returns. False: with ERR_RETRY, and nothing of it kept, the page is read again
     * after a while; else the run stops.
     */
    bool (*take_page)(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err);
    /* The range is gone on with in parts: tasks_cut() with the owner's tx; it says what `why` is.
     */
    bool (*range_cut)(void *ctx, const struct scan_task *task, int64_t done_to, bool inside,
                      const char *why, struct err *err);
    /* A range that can't be read even cut down to its smallest (READ_FAILURE: tombstones): noted,
     * the run goes on. */
    bool (*range_failed)(void *ctx, const struct token_range *range, const char *why,
                         struct err *err);
    /* What the owner was asked to wait before it is given a page again (Retry-After), in ms; NULL:
     * nothing. */
    int64_t (*asked_ms)(void *ctx);
    bool (*is_told)(void *ctx); /* why the owner gives pages back, by itself; NULL: it is not */
    void (*read_trouble)(void *ctx); /* a read failed, and may pass; NULL: nobody asks */
    void *ctx;
};

/* Until no task is left. False: what waiting does not cure; ERR_CANCEL when stopped. */
bool worker_run(struct worker *w, struct err *err);
