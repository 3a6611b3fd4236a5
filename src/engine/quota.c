#include "engine/quota.h"

#include "engine/retry.h"

enum { LOOK_MS = 5 };

void quota_init(struct quota *q, uint64_t limit, uint64_t done, struct crew *crew,
                struct clock *clock)
{
    *q = (struct quota){.limited = limit > 0, .crew = crew, .clock = clock};
    pthread_mutex_init(&q->lock, NULL);
    q->left = limit > done ? limit - done : 0;
    atomic_init(&q->ended, q->left == 0);
}

void quota_fini(struct quota *q)
{
    pthread_mutex_destroy(&q->lock);
}

/* Others have to go on first. */
static bool wait_for_others(struct quota *q, struct err *err)
{
    if (crew_stopped(q->crew))
        return err_set(err, ERR_CANCEL, "stopped on request");
    return retry_pause(q->clock, q->crew->cancel, LOOK_MS, err);
}

enum turn { TURN_WAIT, TURN_GO, TURN_ENOUGH };

static enum turn begin(struct quota *q, struct quota_page *p, uint64_t wanted)
{
    if (atomic_load(&q->ended))
        return TURN_ENOUGH;
    if (wanted && q->cutting)
        return TURN_WAIT;
    if (wanted <= q->left) {
        q->left -= wanted;
        q->open += wanted;
        p->held = wanted;
    } else {
        p->cuts = q->cutting = true;
    }
    return TURN_GO;
}

bool quota_begin(struct quota *q, struct quota_page *p, uint64_t wanted, struct err *err)
{
    *p = (struct quota_page){0};
    if (!q->limited)
        return true;
    for (;;) {
        pthread_mutex_lock(&q->lock);
        enum turn turn = begin(q, p, wanted);
        pthread_mutex_unlock(&q->lock);
        if (turn != TURN_WAIT)
            return turn == TURN_GO;
        if (!wait_for_others(q, err))
            return false;
    }
}

bool quota_take_slowly(struct quota *q, struct quota_page *p)
{
    pthread_mutex_lock(&q->lock);
    bool ok = q->left > 0;
    q->left -= ok;
    p->held += ok;
    pthread_mutex_unlock(&q->lock);
    return ok;
}

bool quota_more(struct quota *q, struct quota_page *p, uint64_t documents, struct err *err)
{
    for (;;) {
        pthread_mutex_lock(&q->lock);
        q->left += p->held - documents;
        p->held = documents;
        bool more = q->left > 0;
        bool enough = !more && !q->open;
        pthread_mutex_unlock(&q->lock);
        if (more || enough)
            return more;
        if (!wait_for_others(q, err))
            return false;
    }
}

void quota_end(struct quota *q, struct quota_page *p, uint64_t documents)
{
    if (!q->limited)
        return;
    pthread_mutex_lock(&q->lock);
    if (p->cuts)
        q->cutting = false;
    else
        q->open -= p->held;
    ensure(documents <= p->held);
    q->left += p->held - documents;
    atomic_store(&q->ended, !q->left && !q->open && !q->cutting);
    pthread_mutex_unlock(&q->lock);
    *p = (struct quota_page){0};
}
