#include "engine/limit.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/retry.h"

enum {
    SLOW_MS = 15000,
    BODY_MIN_BYTES = 64 << 10,
    LOWER_AGAIN_MS = 1000, /* one burst of trouble counts once */
    LOOK_MS = 100,         /* a waiter looks at the cancel this often */
};

/* So many per second; what is taken ahead of time is waited for. */
struct rate {
    uint64_t per_s; /* 0: no limit */
    int64_t free_at_us;
};

struct limit {
    struct limit_options o;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    double requests; /* in flight at most */
    unsigned in_flight;
    double body_bytes;
    int64_t lowered_ms;
    struct rate docs, reads;
};

struct limit *limit_new(const struct limit_options *o)
{
    struct limit *l = xalloc(sizeof *l);
    pthread_condattr_t attr;

    l->o = *o;
    if (!l->o.slow_ms)
        l->o.slow_ms = SLOW_MS;
    l->requests = o->requests ? o->requests : 1;
    l->body_bytes = (double)(o->body_bytes > BODY_MIN_BYTES ? o->body_bytes : BODY_MIN_BYTES);
    l->o.requests = (unsigned)l->requests;
    l->o.body_bytes = (size_t)l->body_bytes;
    l->lowered_ms = INT64_MIN / 2;
    l->docs.per_s = o->docs_per_s;
    l->reads.per_s = o->reads_per_s;
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &attr);
    pthread_condattr_destroy(&attr);
    return l;
}

void limit_free(struct limit *l)
{
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* Takes n of the rate; the wait that it costs, in ms. Under the lock. */
static int64_t rate_take(struct rate *r, uint64_t n, int64_t now_us)
{
    if (!r->per_s || !n)
        return 0;
    if (r->free_at_us < now_us)
        r->free_at_us = now_us;
    int64_t wait_us = r->free_at_us - now_us;
    r->free_at_us += (int64_t)((double)n * 1e6 / (double)r->per_s);
    return (wait_us + 999) / 1000;
}

static bool wait_rate(struct limit *l, struct rate *r, uint64_t n, struct err *err)
{
    pthread_mutex_lock(&l->lock);
    int64_t wait_ms = rate_take(r, n, clock_mono_us(l->o.clock));
    pthread_mutex_unlock(&l->lock);
    return wait_ms <= 0 || retry_pause(l->o.clock, l->o.cancel, wait_ms, err);
}

static void wait_for_change(struct limit *l)
{
    struct timespec until = clock_wait_end(LOOK_MS);

    pthread_cond_timedwait(&l->changed, &l->lock, &until);
}

bool limit_enter(struct limit *l, uint64_t docs, struct err *err)
{
    if (!wait_rate(l, &l->docs, docs, err))
        return false;
    pthread_mutex_lock(&l->lock);
    while (l->in_flight >= (unsigned)l->requests && cancel_level(l->o.cancel) < 2)
        wait_for_change(l);
    bool ok = cancel_level(l->o.cancel) < 2;
    if (ok)
        l->in_flight++;
    pthread_mutex_unlock(&l->lock);
    return ok || err_set(err, ERR_CANCEL, "stopped on request");
}

static void lower(struct limit *l)
{
    int64_t now_ms = clock_mono_ms(l->o.clock);

    if (now_ms - l->lowered_ms < LOWER_AGAIN_MS)
        return;
    l->lowered_ms = now_ms;
    l->requests = fmax(1, l->requests / 2);
    l->body_bytes = fmax((double)BODY_MIN_BYTES, l->body_bytes / 2);
}

static void raise_again(struct limit *l)
{
    l->requests = fmin(l->o.requests, l->requests + 1 / l->requests);
    l->body_bytes = fmin((double)l->o.body_bytes, l->body_bytes + (double)BODY_MIN_BYTES / 4);
}

void limit_leave(struct limit *l, enum limit_outcome outcome, int64_t took_ms)
{
    pthread_mutex_lock(&l->lock);
    ensure(l->in_flight > 0);
    l->in_flight--;
    if (outcome == LIMIT_FINE && took_ms < l->o.slow_ms)
        raise_again(l);
    else
        lower(l);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

bool limit_read(struct limit *l, uint64_t rows, struct err *err)
{
    return wait_rate(l, &l->reads, rows, err);
}

void limit_read_trouble(struct limit *l)
{
    pthread_mutex_lock(&l->lock);
    lower(l);
    pthread_mutex_unlock(&l->lock);
}

size_t limit_body_bytes(struct limit *l)
{
    pthread_mutex_lock(&l->lock);
    size_t bytes = (size_t)l->body_bytes;
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

unsigned limit_requests(struct limit *l)
{
    pthread_mutex_lock(&l->lock);
    unsigned n = (unsigned)l->requests;
    pthread_mutex_unlock(&l->lock);
    return n;
}
