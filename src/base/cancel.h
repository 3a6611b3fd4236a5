/*
 * base/cancel.h - "please stop": a flag with a descriptor, so that poll() wakes up.
 *
 * Threads: cancel_fire() from any thread and from a signal handler; everything else anywhere.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

struct cancel {
    int fd;           /* readable once fired */
    atomic_int fired; /* 0 no, 1 finish what is in flight, 2 stop now */
};

bool cancel_init(struct cancel *c, struct err *err);
void cancel_fini(struct cancel *c);
/* Level 1: finish what is in flight. Level 2: stop now; only then the descriptor becomes readable.
 * Async-signal-safe. */
void cancel_fire(struct cancel *c, int level);
/* What was fired to end one attempt is over before the next; level 2 stays. */
void cancel_take_back(struct cancel *c);
static inline int cancel_level(struct cancel *c)
{
    return c ? atomic_load_explicit(&c->fired, memory_order_relaxed) : 0;
}
