#include "engine/brake.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct brake {
    struct brake_options o;
    pthread_mutex_t lock; /* of what follows */
    int64_t since_ms;     /* of the window */
    uint64_t ids, missing;
    bool pulled;
    char why[200];
};

struct brake *brake_new(const struct brake_options *o)
{
    struct brake *b = xalloc(sizeof *b);

    b->o = *o;
    b->ids = o->ids;
    b->missing = o->missing;
    b->since_ms = clock_mono_ms(o->clock);
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

void brake_free(struct brake *b)
{
    if (!b)
        return;
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void look_at_window(struct brake *b)
{
    int64_t now = clock_mono_ms(b->o.clock);

    if (!b->o.window_ms || now - b->since_ms < b->o.window_ms)
        return;
    b->since_ms = now;
    b->ids = b->missing = 0;
    b->pulled = false;
}

static void pull_locked(struct brake *b, const char *why)
{
    if (b->pulled)
        return;
    b->pulled = true;
    snprintf(b->why, sizeof b->why, "%s", why);
}

void brake_ids(struct brake *b, uint64_t ids)
{
    pthread_mutex_lock(&b->lock);
    look_at_window(b);
    b->ids += ids;
    pthread_mutex_unlock(&b->lock);
}

bool brake_delete(struct brake *b)
{
    char why[160];

    pthread_mutex_lock(&b->lock);
    look_at_window(b);
    uint64_t most = b->ids / BRAKE_SHARE > BRAKE_FLOOR ? b->ids / BRAKE_SHARE : BRAKE_FLOOR;
    b->missing++;
    if (b->missing > most) {
        snprintf(why, sizeof why, "more than %llu rows of %llu ids are missing",
                 (unsigned long long)most, (unsigned long long)b->ids);
        pull_locked(b, why);
    }
    bool may = !b->pulled;
    pthread_mutex_unlock(&b->lock);
    return may;
}

bool brake_pulled(struct brake *b, char *why, size_t size)
{
    pthread_mutex_lock(&b->lock);
    look_at_window(b);
    bool pulled = b->pulled;
    if (pulled && why)
        snprintf(why, size, "%s", b->why);
    pthread_mutex_unlock(&b->lock);
    return pulled;
}
