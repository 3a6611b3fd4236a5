/*
 * engine/limit.h - how much at once: bulk requests in flight, bytes of a body, documents and reads
 * per second.
 *
 * One limit is shared by all workers of a run. Requests in flight go up by one per window of good
 * answers and down by half when the server pushes back (429), loses a request, or takes long
 * (additive increase, multiplicative decrease); the aim for a body's size likewise. Rates are a
 * budget that fills with time, at most a second's worth ahead. Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct limit_options {
    struct clock *clock;
    struct cancel *cancel;
    unsigned requests;    /* in flight at most */
    size_t body_bytes;    /* largest aim */
    int64_t slow_ms;      /* a request that takes longer lowers the limit; 0: 15000 */
    uint64_t docs_per_s;  /* 0: no limit */
    uint64_t reads_per_s; /* rows read; 0: no limit */
};

struct limit;

struct limit *limit_new(const struct limit_options *o);
void limit_free(struct limit *l);
AUTO_DEFINE(limit);

/* Waits until a request of so many documents may be sent. False: ERR_CANCEL. */
bool limit_enter(struct limit *l, uint64_t docs, struct err *err);

enum limit_outcome {
    LIMIT_FINE,
    LIMIT_PUSHED_BACK, /* 429, for the whole or for some; lost, timed out */
};
/* Ends what limit_enter() began. */
void limit_leave(struct limit *l, enum limit_outcome outcome, int64_t took_ms);

/* Waits until so many more rows may be read. False: ERR_CANCEL. */
bool limit_read(struct limit *l, uint64_t rows, struct err *err);
/* The server had trouble with a read: fewer requests, as for a bulk that was pushed back. */
void limit_read_trouble(struct limit *l);

/* What a body should come to, in bytes. */
size_t limit_body_bytes(struct limit *l);
/* Requests that may be in flight now, for the status. */
unsigned limit_requests(struct limit *l);
