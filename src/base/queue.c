#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    void **items;
    size_t cap;
    size_t head;
    size_t len;
    bool closed;
};

struct queue *queue_new(size_t max_items)
{
    struct queue *q = xalloc(sizeof *q);
    pthread_condattr_t attr;

    q->cap = max_items ? max_items : 1;
    q->items = xalloc(q->cap * sizeof *q->items);
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->not_empty, &attr);
    pthread_cond_init(&q->not_full, &attr);
    pthread_condattr_destroy(&attr);
    return q;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->not_full);
    pthread_cond_destroy(&q->not_empty);
    pthread_mutex_destroy(&q->lock);
    free(q->items);
    free(q);
}

static bool push_locked(struct queue *q, void *item)
{
    if (q->closed || q->len == q->cap)
        return false;
    q->items[(q->head + q->len++) % q->cap] = item;
    pthread_cond_signal(&q->not_empty);
    return true;
}

bool queue_push(struct queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    while (!q->closed && q->len == q->cap)
        pthread_cond_wait(&q->not_full, &q->lock);
    bool ok = push_locked(q, item);
    pthread_mutex_unlock(&q->lock);
    return ok;
}

bool queue_try_push(struct queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    bool ok = push_locked(q, item);
    pthread_mutex_unlock(&q->lock);
    return ok;
}

void *queue_pop(struct queue *q, int timeout_ms)
{
    struct timespec until;
    void *item = NULL;

    clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms >= 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
    }
    pthread_mutex_lock(&q->lock);
    while (!q->closed && q->len == 0) {
        int rc = timeout_ms < 0 ? pthread_cond_wait(&q->not_empty, &q->lock)
                                : pthread_cond_timedwait(&q->not_empty, &q->lock, &until);
        if (rc == ETIMEDOUT)
            break;
    }
    if (q->len > 0) {
        item = q->items[q->head];
        q->head = (q->head + 1) % q->cap;
        q->len--;
        pthread_cond_signal(&q->not_full);
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->lock);
}

size_t queue_len(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->len;
    pthread_mutex_unlock(&q->lock);
    return n;
}
