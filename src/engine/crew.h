/*
 * engine/crew.h - the threads of a run: started together, stopped by the first error, joined at the
 * end.
 *
 * Threads: crew_fail, crew_stopped, crew_note from any of them; the rest by the one that made the
 * crew.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/err.h"

enum { CREW_NOTE_BYTES = 96 };

struct crew {
    struct cancel *cancel;
    void (*on_stop)(
        void *ctx); /* wakes whoever waits for something else than the cancel; may be NULL */
    void *ctx;
    pthread_t *threads;
    unsigned count;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ended;
    unsigned running;
    struct err err; /* the first */
    char note[CREW_NOTE_BYTES];
    atomic_bool stop;
};

void crew_init(struct crew *c, struct cancel *cancel, void (*on_stop)(void *ctx), void *ctx);
void crew_fini(struct crew *c);
/* Starts a thread; when its work returns false the whole crew stops with that error. `ctx` outlives
 * the join. */
void crew_add(struct crew *c, bool (*work)(void *ctx, struct err *err), void *ctx);
/* Keeps the first error, fires the cancel (level 1), calls on_stop. */
void crew_fail(struct crew *c, const struct err *err);
/* Somebody failed, or the operator asked to stop. */
bool crew_stopped(struct crew *c);
/* What it waits for, for the progress line; "" for nothing. */
void crew_note(struct crew *c, const char *text);
void crew_copy_note(struct crew *c, char out[CREW_NOTE_BYTES]);
/* Waits up to ms; true when all threads have ended. Passes a cancel on to on_stop. */
bool crew_wait(struct crew *c, int64_t ms);
/* Waits for all. False with the first error; ERR_CANCEL when there was none but a stop was asked
 * for. */
bool crew_join(struct crew *c, struct err *err);
