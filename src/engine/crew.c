#include "engine/crew.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

struct member {
    struct crew *crew;
    bool (*work)(void *ctx, struct err *err);
    void *ctx;
};

void crew_init(struct crew *c, struct cancel *cancel, void (*on_stop)(void *ctx), void *ctx)
{
    pthread_condattr_t attr;

    memset(c, 0, sizeof *c);
    c->cancel = cancel;
    c->on_stop = on_stop;
    c->ctx = ctx;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->ended, &attr);
    pthread_condattr_destroy(&attr);
}

void crew_fini(struct crew *c)
{
    free(c->threads);
    pthread_cond_destroy(&c->ended);
    pthread_mutex_destroy(&c->lock);
}

static void *run_member(void *arg)
{
    struct member m = *(struct member *)arg;
    struct err err = {0};

    free(arg);
    if (!m.work(m.ctx, &err))
        crew_fail(m.crew, &err);
    pthread_mutex_lock(&m.crew->lock);
    m.crew->running--;
    pthread_cond_broadcast(&m.crew->ended);
    pthread_mutex_unlock(&m.crew->lock);
    return NULL;
}

void crew_add(struct crew *c, bool (*work)(void *ctx, struct err *err), void *ctx)
{
    struct member *m = xalloc(sizeof *m);

    *m = (struct member){c, work, ctx};
    c->threads = xrealloc(c->threads, (c->count + 1) * sizeof *c->threads);
    pthread_mutex_lock(&c->lock);
    c->running++;
    pthread_mutex_unlock(&c->lock);
    ensure(pthread_create(&c->threads[c->count], NULL, run_member, m) == 0);
    c->count++;
}

void crew_fail(struct crew *c, const struct err *err)
{
    pthread_mutex_lock(&c->lock);
    /* What follows from the first error, or from a stop, is not worth keeping. */
    if (c->err.kind == ERR_NONE && err->kind != ERR_CANCEL)
        c->err = *err;
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->stop, true);
    /* Pauses and back-offs of the others end now. */
    if (c->cancel)
        cancel_fire(c->cancel, 1);
    if (c->on_stop)
        c->on_stop(c->ctx);
}

bool crew_stopped(struct crew *c)
{
    return atomic_load(&c->stop) || cancel_level(c->cancel) >= 1;
}

void crew_note(struct crew *c, const char *text)
{
    pthread_mutex_lock(&c->lock);
    strncpy(c->note, text, sizeof c->note - 1);
    pthread_mutex_unlock(&c->lock);
}

void crew_copy_note(struct crew *c, char out[CREW_NOTE_BYTES])
{
    pthread_mutex_lock(&c->lock);
    memcpy(out, c->note, sizeof c->note);
    pthread_mutex_unlock(&c->lock);
}

bool crew_wait(struct crew *c, int64_t ms)
{
    /* A signal handler only sets the cancel's flag: those that wait for something else are woken
     * here. */
    if (cancel_level(c->cancel) >= 1 && c->on_stop)
        c->on_stop(c->ctx);
    struct timespec until = clock_wait_end(ms);
    pthread_mutex_lock(&c->lock);
    while (c->running && pthread_cond_timedwait(&c->ended, &c->lock, &until) != ETIMEDOUT)
        ;
    bool ended = c->running == 0;
    pthread_mutex_unlock(&c->lock);
    return ended;
}

bool crew_join(struct crew *c, struct err *err)
{
    for (unsigned i = 0; i < c->count; i++)
        pthread_join(c->threads[i], NULL);
    c->count = 0;
    *err = c->err;
    if (err->kind == ERR_NONE && crew_stopped(c))
        return err_set(err, ERR_CANCEL, "stopped on request");
    return err->kind == ERR_NONE;
}
