/*
 * serve/work.h - calls that were accepted: kept in the journal, worked off by threads.
 *
 * A call is one or several blocks of the run (parts, so that memory is bounded): written durably
 * before work_submit() returns, each ended in the same transaction as its counts, failures and
 * outcome (serve/calls.h). A part is worked off by itself: an id that is twice in a call is a
 * duplicate only within a part. What the process ends is noted without waiting for the disk: a
 * machine that crashes may have parts worked off again. What an earlier process left is worked off
 * first. Trouble with a backend keeps a part with its worker, who tries again until it passes; what
 * can never pass becomes failures, and so does what this machine can't do at the sixth try. Of
 * parts that read a whole table one is worked on at a time; the others wait for it while other work
 * is done. Conserved: ids = duplicate + bad + missing + found + refused + waiting.
 *
 * Threads: submit, wait and the readers from any; start, stop and free from one.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/keyed.h"
#include "journal/journal.h"
#include "metrics/metrics.h"

/* What does the work; one of `open` per thread. */
struct work_backend {
    void *ctx;
    void *(*open)(void *ctx, struct err *err);
    /* As keyed_sync(). */
    bool (*sync)(void *worker, const char *object_type, const struct json *ids,
                 struct keyed_result *results, struct err *err);
    /* Would sync read a whole table for some of them? May be NULL: never. */
    bool (*scans)(void *worker, const char *object_type, const struct json *ids);
    void (*close)(void *worker);
};

struct work_options {
    struct work_backend backend;
    struct run *run;
    struct clock *clock;
    struct cancel *cancel;    /* fired: workers end when what they have in hand is settled */
    const char *const *types; /* lives as long as the work */
    unsigned threads;
    uint64_t queue_ids; /* waiting or being worked on, at most */
    struct metrics *metrics;
};

struct work;

/* NULL with err. */
struct work *work_start(const struct work_options *o, struct err *err);
/* From now on; calls of other types that wait are refused when their turn comes. */
void work_set_types(struct work *w, const char *const *types);
/* Nothing new is taken; what was is worked off. */
void work_refuse(struct work *w);
/* Nothing waits, and nothing is being worked on. */
bool work_idle(struct work *w);
/* Nothing more is taken or begun, and nobody waits any longer: every work_wait() returns. */
void work_drain(struct work *w);
/* Ends the workers and checks the books. Calls that wait stay in the journal: *left says how many
 * ids. False: ERR_SYSTEM from the journal; *balanced is false on a defect. */
bool work_stop(struct work *w, uint64_t *left, bool *balanced, struct err *err);
void work_free(struct work *w);

/* A call somebody waits for. */
struct ticket;

enum work_taken {
    WORK_TAKEN,
    WORK_FULL,     /* no room now */
    WORK_TOO_MANY, /* never will be: more ids than the queue holds */
    WORK_CLOSED,   /* draining */
    WORK_NOT_KEPT, /* the journal failed: err */
};
/* The name of a call: that of the run, and a number: "20260102-030405-7f3a-17". It is never given
 * twice in a state folder. */
enum { WORK_ID_BYTES = 56 };

/* `ticket`: NULL, or gets one to wait with (only when taken). */
enum work_taken work_submit(struct work *w, const char *object_type, const struct json *ids,
                            struct ticket **ticket, char id[WORK_ID_BYTES], struct err *err);
/* Its results, one per id, once they are in the journal; NULL after timeout_ms, or when draining.
 * Valid until ticket_free(). */
const struct keyed_result *work_wait(struct work *w, struct ticket *t, int64_t timeout_ms);
void ticket_free(struct ticket *t);

/* False while a worker can't go on: `why` says what for. */
bool work_healthy(struct work *w, char *why, size_t why_size);
