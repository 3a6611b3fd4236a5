/*
 * engine/retry.h - waiting before the next try: the only place that sleeps.
 *
 * Exponential back-off with jitter within a budget of time, counted from the first failure in a
 * row. A cancel of either level ends a wait. Threads: a retry belongs to one worker.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"

enum { RETRY_FIRST_MS = 100, RETRY_MAX_MS = 30000 };

struct retry {
    struct clock *clock;
    struct cancel *cancel;
    int64_t budget_ms;
    int64_t since_ms; /* first failure in a row; -1: none */
    unsigned tries;   /* failures in a row */
    uint64_t random;
};

void retry_init(struct retry *r, struct clock *clock, struct cancel *cancel, int64_t budget_ms);
/* It worked: the budget begins anew with the next failure. */
void retry_ok(struct retry *r);
/*
 * Waits before the next try.
 *   at_least_ms  what the server asked for (Retry-After), 0 for nothing
 *   err          the failure that led here. True: try again (err cleared). False: budget spent
 * (ERR_REACH, with the last failure and the number of tries) or cancelled (ERR_CANCEL).
 */
bool retry_wait(struct retry *r, int64_t at_least_ms, struct err *err);
/* A plain pause; false with ERR_CANCEL when it was cut short. */
bool retry_pause(struct clock *clock, struct cancel *cancel, int64_t ms, struct err *err);
