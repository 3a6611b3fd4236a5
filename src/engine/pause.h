/*
 * engine/pause.h - a run that waits for its index: a read-only block, a full disk, a red index.
 *
 * Every worker meets the refusal by itself, and tries again within its budget; here the reason is
 * asked for, told once for all of them, and that it has passed. Threads: any.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "sink/elastic.h"

struct pause {
    const char *index;
    struct clock *clock;
    atomic_bool on;
    pthread_mutex_t asking; /* held for as long as the server's answer takes */
    int64_t asked_ms;
    pthread_mutex_t lock; /* of what follows */
    int64_t since_ms;
    char why[200];
};

/* index, clock: outlive it. */
void pause_init(struct pause *p, const char *index, struct clock *clock);
void pause_fini(struct pause *p);
/* A request, or a part of it, was put off: asks the server why, not more than once a second. True:
 * the run is paused, and that was told. The last answer of `e` ends. */
bool pause_look(struct pause *p, struct elastic *e);
/* A request was carried out, the whole of it: when the run is paused, asks whether it still is. */
void pause_pass(struct pause *p, struct elastic *e);
/* The run is over and nothing waits for the index any more: what it waited for has passed, asked or
 * not. After the threads of all others have ended. */
void pause_done(struct pause *p);
bool pause_is_on(struct pause *p);
/* "paused: " and the reason, cut to the size; nothing is written while it is not. */
void pause_copy_note(struct pause *p, char *out, size_t size);
