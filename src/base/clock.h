/*
 * base/clock.h - the time, from one place, so that tests can hold it.
 *
 * Threads: any. A clock is shared by the whole process: clock_version_us() never goes back and
 * never gives the same value twice (DESIGN: the time of reading is the version).
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

struct clock {
    int64_t (*wall_us)(void *ctx); /* µs since 1970-01-01 UTC */
    int64_t (*mono_us)(void *ctx); /* µs since some start, never back */
    void *ctx;
    _Atomic int64_t last_version_us;
};

/* The system's. */
void clock_init_system(struct clock *c);
int64_t clock_wall_us(struct clock *c);
int64_t clock_mono_us(struct clock *c);
int64_t clock_mono_ms(struct clock *c);
/* max(wall, last + 1) */
int64_t clock_version_us(struct clock *c);

/* When `ms` from now are over, for a pthread wait by CLOCK_MONOTONIC: of the system, always. */
struct timespec clock_wait_end(int64_t ms);

/* A point in time on the monotone clock by which something must have ended, in ms. */
struct deadline {
    int64_t at_ms; /* INT64_MAX: none */
};
struct deadline deadline_in(struct clock *c, int64_t ms);
/* ms left, 0 when over, at most INT32_MAX. */
int deadline_left_ms(struct clock *c, struct deadline d);
