#include "engine/pause.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

enum { ASK_AGAIN_MS = 1000, WAIT_MS = 2000 };

void pause_init(struct pause *p, const char *index, struct clock *clock)
{
    *p = (struct pause){.index = index, .clock = clock, .asked_ms = INT64_MIN / 2};
    pthread_mutex_init(&p->asking, NULL);
    pthread_mutex_init(&p->lock, NULL);
}

void pause_fini(struct pause *p)
{
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->asking);
}

/* False: somebody asks, and the server takes its time. */
static bool lock_asking(struct pause *p)
{
    struct timespec end = clock_wait_end(WAIT_MS);

    return pthread_mutex_clocklock(&p->asking, CLOCK_MONOTONIC, &end) == 0;
}

/* Under `asking`. False: nothing new is known. */
static bool ask(struct pause *p, struct elastic *e, struct elastic_state *out)
{
    struct err ignored = {0}; /* the refusal has a text of its own */

    if (clock_mono_ms(p->clock) - p->asked_ms < ASK_AGAIN_MS)
        return false;
    bool ok = elastic_cluster_state(e, p->index, out, &ignored);
    p->asked_ms = clock_mono_ms(p->clock);
    return ok;
}

static void begin(struct pause *p, const struct elastic_state *state)
{
    pthread_mutex_lock(&p->lock);
    memcpy(p->why, state->why, sizeof p->why);
    p->since_ms = clock_mono_ms(p->clock);
    atomic_store(&p->on, true);
    pthread_mutex_unlock(&p->lock);
    LOG(LOG_WARN, "paused", F_STR("index", p->index), F_STR("why", state->why));
}

/* One worker asks; those that were refused, too, wait for what it learns. */
bool pause_look(struct pause *p, struct elastic *e)
{
    struct elastic_state state;

    if (!lock_asking(p))
        return atomic_load(&p->on);
    if (!atomic_load(&p->on) && ask(p, e, &state) && state.pause)
        begin(p, &state);
    bool on = atomic_load(&p->on);
    pthread_mutex_unlock(&p->asking);
    return on;
}

/* Under `asking`, or when nobody else is left. */
static void end(struct pause *p)
{
    atomic_store(&p->on, false);
    LOG(LOG_WARN, "goes_on", F_STR("index", p->index),
        F_INT("paused_ms", clock_mono_ms(p->clock) - p->since_ms));
}

/* Some shards may well take writes while another is nowhere. */
void pause_pass(struct pause *p, struct elastic *e)
{
    struct elastic_state state;

    if (!atomic_load_explicit(&p->on, memory_order_relaxed))
        return;
    if (!lock_asking(p))
        return;
    if (atomic_load(&p->on) && ask(p, e, &state) && !state.pause)
        end(p);
    pthread_mutex_unlock(&p->asking);
}

void pause_done(struct pause *p)
{
    if (atomic_load(&p->on))
        end(p);
}

bool pause_is_on(struct pause *p)
{
    return atomic_load(&p->on);
}

void pause_copy_note(struct pause *p, char *out, size_t size)
{
    pthread_mutex_lock(&p->lock);
    if (atomic_load(&p->on))
        snprintf(out, size, "paused: %.*s", (int)sizeof p->why, p->why);
    pthread_mutex_unlock(&p->lock);
}
