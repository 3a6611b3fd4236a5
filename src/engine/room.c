#include "engine/room.h"

#include "base/clock.h"

enum { LOOK_MS = 100 }; /* a waiter looks at the cancel this often */

void room_init(struct room *r, size_t bytes, struct cancel *cancel)
{
    pthread_condattr_t attr;

    *r = (struct room){.bytes = bytes, .cancel = cancel};
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void room_fini(struct room *r)
{
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
}

static void wait_for_change(struct room *r)
{
    struct timespec until = clock_wait_end(LOOK_MS);

    pthread_cond_timedwait(&r->changed, &r->lock, &until);
}

bool room_take(struct room *r, size_t bytes, size_t *got, struct err *err)
{
    size_t wanted = bytes < r->bytes ? bytes : r->bytes;

    pthread_mutex_lock(&r->lock);
    uint64_t turn = r->next++;
    bool stop = false;
    while (r->served != turn || (!stop && r->bytes - r->taken < wanted)) {
        wait_for_change(r);
        stop = cancel_level(r->cancel) >= 2; /* but the turns behind this one go on */
    }
    r->served++;
    if (!stop)
        r->taken += wanted;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (stop)
        return err_set(err, ERR_CANCEL, "stopped on request");
    *got = wanted;
    return true;
}

void room_give(struct room *r, size_t got)
{
    pthread_mutex_lock(&r->lock);
    ensure(got <= r->taken);
    r->taken -= got;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}
