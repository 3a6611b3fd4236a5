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
#include "engine/pause.h"
#include "engine/quota.h"
#include "engine/room.h"
#include "engine/tasks.h"
#include "source/scan.h"

enum {
    PAGE_MAX_BYTES = 1 << 20, /* the knee of the measured curve */
    PAGE_MIN_BYTES = 32 << 10,
    PARTS_PER_WORKER = 6, /* a page worked on, one on its way, a body, its answer, and air */
    RANGE_BYTES = 64 << 20,
    SAVE_MS = 250,                  /* pages of a worker that settle within it are one commit */
    FILTERED_RANGE_BYTES = 8 << 20, /* where the server may read long before it finds a row */
};

struct direct {
    struct direct_options o;
    struct crew crew;
    struct scan_plan scan;
    struct tasks *tasks;
    struct quota quota;
    bool by_key;      /* the scan reads keys alone, and keyed the rows */
    struct room room; /* half of the memory: lent for rows and documents larger than what a worker's
                         share was divided for, which is seldom used up */
    struct pause pause;
    atomic_bool collided;
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
    uint64_t id_collision;
    uint64_t altered_singles; /* of documents read by themselves: by what is not known */
};

/* What a worker of either kind has; the first member of its own struct. */
struct direct_worker {
    struct direct *direct;
    struct elastic *elastic;
    struct keyed *keyed; /* over the same elastic */
    const struct plan *plans[2];
    struct guard *guards[2];
    struct tx *tx; /* pages settled and not yet saved; behind them, what the page at hand adds */
    int64_t saved_ms;
    struct page_sum sum;
    struct quota_page quota;
    bool cut;         /* the limit ended the page at hand: it is no mark */
    struct buf key;   /* of a failed document */
    size_t singles;   /* given to keyed for this page */
    int64_t asked_ms; /* that the index asked for, with what failed last; <= 0: nothing */
    struct keyed_result single_sum;
};

/* Threads of the crew; ctx is the direct. */
bool direct_scan_rows(void *ctx, struct err *err);
bool direct_scan_keys(void *ctx, struct err *err);

/* The worker's connections and buffers; close in every case. */
bool direct_worker_open(struct direct_worker *w, struct direct *d, struct err *err);
void direct_worker_close(struct direct_worker *w);
/* The worker's loop; see engine/worker.h. Their ctx is w. trim: NULL where keys alone are read. */
bool direct_work(struct direct_worker *w,
                 bool (*take_page)(void *ctx, const struct scan_task *task,
                                   const struct scan_page *page, struct err *err),
                 void (*trim)(void *ctx), struct err *err);

/* A document of the page that is read and written by itself, with a T of its own. */
bool direct_add_single(struct direct_worker *w, enum keyed_task task, const struct slice *key,
                       struct err *err);
/* Works them off, into the page's sum: rows and documents as well. */
bool direct_settle_singles(struct direct_worker *w, struct err *err);

/*
 * Documents that were sent, with an outcome that nobody knows: those whose row is gone by now go,
 * too. No page's sum has them; only those that fail are counted. Between two pages.
 *   keys   of `count` rows, as in a page
 *   cells  room for one
 */
bool direct_check_keys(struct direct_worker *w, struct slice keys, uint32_t count,
                       struct slice *cells, struct err *err);

/* A failed document into the page's tx; it is counted by the caller. key: plan_key_count() cells.
 */
void direct_note_failure(struct direct_worker *w, const struct slice *key, const char *reason,
                         const char *text);
/*
 * Before the rows of a page. cells: as many as the scan has columns.
 * False with ERR_NONE: the limit is reached, the page is not wanted.
 */
bool direct_begin_page(struct direct_worker *w, const struct page *page, struct slice *cells,
                       struct err *err);
/* Before each document: quota_take(). When there is none, and what the page has so far is settled:
 * true for take again; false with ERR_NONE for a page that ends here. */
bool direct_more(struct direct_worker *w, struct err *err);
/* The page is settled: its counts, failures and mark are journalled, at once (always under a limit)
 * or with those of the pages after it. */
bool direct_save_page(struct direct_worker *w, const struct scan_task *task,
                      const struct scan_page *page, struct err *err);
/* A page that is given up, to be read again: nothing of it was counted. */
void direct_drop_page(struct direct_worker *w);
