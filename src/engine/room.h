/*
 * engine/room.h - memory that workers lend each other for what is larger than their own share.
 *
 * Every worker has a share for its pages and bodies. A document that is larger than what the share
 * was divided for takes its room here, before it is asked for: so few of them are worked on at
 * once, and the sum stays what it is. First come, first served; who takes has given back what it
 * took before. Threads: any.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/err.h"

struct room {
    size_t bytes;
    struct cancel *cancel;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    size_t taken;
    uint64_t next, served; /* turns given out, and those that had theirs */
};

/* cancel: may be NULL. */
void room_init(struct room *r, size_t bytes, struct cancel *cancel);
void room_fini(struct room *r);
/* Waits until there is room. More than there is at all is all of it. *got: to be given back. False:
 * ERR_CANCEL, at level 2. */
bool room_take(struct room *r, size_t bytes, size_t *got, struct err *err);
void room_give(struct room *r, size_t got);
