/*
 * engine/quota.h - how many documents are still wanted, for all workers together (--limit).
 *
 * A worker takes before it writes, and gives back what came to nothing. Threads: any.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct quota {
    bool limited;
    atomic_int_fast64_t left;
};

/* limit 0: none. done: by earlier processes of the run. */
static inline void quota_init(struct quota *q, uint64_t limit, uint64_t done)
{
    q->limited = limit > 0;
    atomic_init(&q->left, limit > done ? (int_fast64_t)(limit - done) : 0);
}

/* False: there are enough. */
static inline bool quota_take(struct quota *q)
{
    if (!q->limited)
        return true;
    for (int_fast64_t left = atomic_load(&q->left); left > 0;)
        if (atomic_compare_exchange_weak(&q->left, &left, left - 1))
            return true;
    return false;
}

static inline void quota_give(struct quota *q, uint64_t count)
{
    if (q->limited)
        atomic_fetch_add(&q->left, (int_fast64_t)count);
}

static inline bool quota_is_empty(struct quota *q)
{
    return q->limited && atomic_load(&q->left) <= 0;
}
