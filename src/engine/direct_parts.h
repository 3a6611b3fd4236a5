/*
 * engine/direct_parts.h - what the files of direct sync share; for them alone.
 *
 *   direct.c       its life, progress and counts
 *   direct_scan.c  a page's rows straight into bulk bodies (read_time, write_time, none)
 *   direct_keys.c  a page's keys: look, read, write on condition (sequence)
 */
#pragma once
#include <stdatomic.h>

#include "engine/crew.h"
#include "engine/direct.h"
#include "engine/keyed.h"
#include "engine/tasks.h"
#include "source/scan.h"

enum {
    PAGE_MAX_BYTES = 1 << 20, /* the knee of the measured curve */
    PAGE_MIN_BYTES = 32 << 10,
    PARTS_PER_WORKER = 6, /* a page worked on, one on its way, a body, its answer, and air */
    RANGE_BYTES = 64 << 20,
};

struct direct {
    struct direct_options o;
    struct crew crew;
    struct scan_plan scan;
    struct tasks *tasks;
    uint64_t before;
    atomic_uint_fast64_t rows;
    atomic_uint_fast64_t failed;
};

/* Sums of one page, journalled with its mark. */
struct page_sum {
    uint64_t rows, filtered, merged, documents;
    uint64_t indexed, unchanged, stale, failed;
    uint64_t bytes, gone;
    struct json_counts altered;
};

/* What a worker of either kind has. */
struct direct_worker {
    struct direct *direct;
    struct elastic *elastic;
    struct keyed *keyed;
    struct tx *tx;
    struct page_sum sum;
    struct buf key; /* of a failed document */
};

/* Threads of the crew; ctx is the direct. */
bool direct_scan_rows(void *ctx, struct err *err);

/* The worker's connections and buffers; close in every case. */
bool direct_worker_open(struct direct_worker *w, struct direct *d, struct err *err);
void direct_worker_close(struct direct_worker *w);

/* A document of the page that is to be read again by itself, with a new T. `created`: it is there,
 * but perhaps should not be: only whether its row is still there is looked at. */
bool direct_add_single(struct direct_worker *w, const struct slice *key, bool created,
                       struct err *err);
/* Works them off, into the page's sum. */
bool direct_settle_singles(struct direct_worker *w, struct err *err);

/* Puts a failed document into the page's tx and counts it. key: plan_key_count() cells. */
void direct_fail(struct direct_worker *w, const struct slice *key, const char *reason,
                 const char *text);
/* Journals the page: counts, failures, mark. */
bool direct_save_page(struct direct_worker *w, const struct scan_task *task,
                      const struct scan_page *page, struct err *err);
/* A page that is given up, to be read again: nothing of it was counted. */
void direct_drop_page(struct direct_worker *w);
/* The worker's loop with its hooks; see engine/worker.h. */
bool direct_work(struct direct_worker *w, void *ctx,
                 bool (*take_page)(void *ctx, const struct scan_task *task,
                                   const struct scan_page *page, struct err *err),
                 bool (*range_cut)(void *ctx, const struct scan_task *task, int64_t done_to,
                                   bool inside, const char *why, struct err *err),
                 bool (*range_failed)(void *ctx, const struct token_range *range, const char *why,
                                      struct err *err),
                 struct err *err);
