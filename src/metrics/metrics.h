/*
 * metrics/metrics.h - numbers for a monitor: one table, counted anywhere, read as Prometheus text.
 *
 * Counted per call or batch, never per row. Threads: any.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

enum metric {
#define METRIC(name, kind, help) METRIC_##name,
#include "metrics/metrics.def"
#undef METRIC
    METRIC_COUNT,
};

/* {0} is the start. */
struct metrics {
    _Atomic int64_t value[METRIC_COUNT];
};

static inline void metrics_add(struct metrics *m, enum metric which, int64_t delta)
{
    atomic_fetch_add_explicit(&m->value[which], delta, memory_order_relaxed);
}

static inline int64_t metrics_get(struct metrics *m, enum metric which)
{
    return atomic_load_explicit(&m->value[which], memory_order_relaxed);
}

/* All of them in Prometheus' text format. */
void metrics_write(struct metrics *m, struct buf *out);
