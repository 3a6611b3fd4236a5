#include "engine/guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"

enum {
    TERMS_KEPT = 16,         /* more changes than this within the life of a body: all are doubted */
    REFRESH_AGAIN_MS = 1000, /* after one that failed */
};

/* What was known from a moment on. */
struct known_terms {
    int64_t since_us;       /* on the clock of T */
    struct elastic_terms t; /* 0: not known */
};

struct guard {
    struct guard_options o;
    char *index;
    int64_t max_age_us;
    pthread_mutex_t lock; /* of what follows */
    struct known_terms terms[TERMS_KEPT];
    unsigned term_count;
    bool asking;
    int64_t asked_ms;
    atomic_bool due;
};

static bool is_versioned(const struct guard *g)
{
    return g->o.versioning == VERSIONING_READ_TIME || g->o.versioning == VERSIONING_WRITE_TIME;
}

struct guard *guard_new(const struct guard_options *o, struct err *err)
{
    struct guard *g = xalloc(sizeof *g);

    g->o = *o;
    g->index = xstrdup(o->index);
    g->o.index = g->index;
    if (g->o.max_skew_us == 0)
        g->o.max_skew_us = GUARD_MAX_SKEW_US;
    if (g->o.gc_deletes_ms < 0)
        g->o.gc_deletes_ms = GUARD_GC_DELETES_MS;
    pthread_mutex_init(&g->lock, NULL);
    g->max_age_us = INT64_MAX;
    if (!is_versioned(g))
        return g;
    if (g->o.gc_deletes_ms < GUARD_GC_DELETES_MIN_MS) {
        err_set(err, ERR_USER,
                "index %s keeps the versions of deleted documents for %lld ms only "
                "(index.gc_deletes); set it to 1h, or to %d ms at least",
                o->index, (long long)g->o.gc_deletes_ms, GUARD_GC_DELETES_MIN_MS);
        guard_free(g);
        return NULL;
    }
    g->max_age_us = g->o.gc_deletes_ms * 1000 / 4;
    if (g->max_age_us > GUARD_MAX_AGE_US)
        g->max_age_us = GUARD_MAX_AGE_US;
    guard_learn(g, &(struct elastic_terms){o->lowest_term ? o->lowest_term : o->primary_term,
                                           o->primary_term, 0});
    return g;
}

void guard_free(struct guard *g)
{
    if (!g)
        return;
    pthread_mutex_destroy(&g->lock);
    free(g->index);
    free(g);
}

/* ---- versions ----------------------------------------------------------------------------------
 */

int64_t guard_max_age_us(const struct guard *g)
{
    return g->max_age_us;
}

bool guard_too_old(const struct guard *g, int64_t read_at_us)
{
    return is_versioned(g) && clock_wall_us(g->o.clock) - read_at_us >= g->max_age_us;
}

enum guard_conflict guard_conflict(const struct guard *g, int64_t there, int64_t ours)
{
    int64_t now = clock_wall_us(g->o.clock);

    if (now < ours)
        now = ours;
    if (there > now && there - now > g->o.max_skew_us)
        return GUARD_FOREIGN;
    return there == ours ? GUARD_EQUAL : GUARD_STALE;
}

void guard_foreign_text(const struct guard *g, int64_t there, char *text, size_t size)
{
    snprintf(text, size,
             "version %lld is there, later than now: another tool or a fast clock wrote it; "
             "delete the document or rebuild %.60s",
             (long long)there, g->index);
}

/* ---- primary terms -----------------------------------------------------------------------------
 */

static const struct elastic_terms nothing_known;

static bool same_terms(const struct elastic_terms *a, const struct elastic_terms *b)
{
    return a->lowest == b->lowest && a->highest == b->highest && a->sum == b->sum;
}

static void learn_locked(struct guard *g, const struct elastic_terms *t)
{
    struct known_terms *last = g->term_count ? &g->terms[g->term_count - 1] : NULL;

    /* A uniform one is known whole without its sum. */
    if (last && t->lowest > 0 && t->lowest == t->highest && last->t.lowest == t->lowest &&
        last->t.highest == t->highest)
        last->t.sum = t->sum ? t->sum : last->t.sum;
    if (last && same_terms(&last->t, t))
        return;
    if (g->term_count == TERMS_KEPT)
        memmove(g->terms, g->terms + 1, --g->term_count * sizeof *g->terms);
    /* What was read before now was read without this knowledge. */
    g->terms[g->term_count++] = (struct known_terms){clock_version_us(g->o.clock), *t};
    atomic_store(&g->due, t->lowest <= 0 || (t->lowest != t->highest && !t->sum));
}

void guard_learn(struct guard *g, const struct elastic_terms *terms)
{
    pthread_mutex_lock(&g->lock);
    learn_locked(g, terms);
    pthread_mutex_unlock(&g->lock);
}

static const struct known_terms *known_at(const struct guard *g, int64_t read_at_us)
{
    for (unsigned i = g->term_count; i-- > 0;)
        if (g->terms[i].since_us < read_at_us)
            return &g->terms[i];
    return NULL;
}

bool guard_doubts(struct guard *g, int64_t read_at_us, int64_t term)
{
    if (!is_versioned(g))
        return false;
    pthread_mutex_lock(&g->lock);
    const struct known_terms *known = known_at(g, read_at_us);
    /* Shards of different terms: a shard may have reached the other's since. */
    bool doubted = !known || known->t.lowest != known->t.highest || known->t.highest != term;
    if (term > g->terms[g->term_count - 1].t.highest)
        learn_locked(g, &nothing_known);
    pthread_mutex_unlock(&g->lock);
    return doubted;
}

bool guard_clears(struct guard *g, struct elastic *e, int64_t read_at_us)
{
    struct elastic_terms now;
    struct err err = {0};

    pthread_mutex_lock(&g->lock);
    const struct known_terms *known = known_at(g, read_at_us);
    int64_t sum = known ? known->t.sum : 0;
    pthread_mutex_unlock(&g->lock);
    if (!sum || !elastic_primary_terms(e, g->index, &now, &err))
        return false;
    guard_learn(g, &now);
    return now.sum == sum;
}

static bool may_ask(struct guard *g)
{
    int64_t now = clock_mono_ms(g->o.clock);

    pthread_mutex_lock(&g->lock);
    bool may = !g->asking && (!g->asked_ms || now - g->asked_ms >= REFRESH_AGAIN_MS);
    if (may) {
        g->asking = true;
        g->asked_ms = now;
    } else {
        learn_locked(g, &nothing_known);
    }
    pthread_mutex_unlock(&g->lock);
    return may;
}

void guard_refresh(struct guard *g, struct elastic *e)
{
    struct elastic_terms terms;
    struct err err = {0};

    if (!is_versioned(g) || !may_ask(g))
        return;
    if (!elastic_primary_terms(e, g->index, &terms, &err)) {
        LOG(LOG_DEBUG, "primary_term_unknown", F_STR("index", g->index), F_STR("error", err.text));
        terms = nothing_known;
    }
    pthread_mutex_lock(&g->lock);
    learn_locked(g, &terms);
    g->asking = false;
    pthread_mutex_unlock(&g->lock);
}

void guard_renew(struct guard *g, struct elastic *e)
{
    if (atomic_load(&g->due))
        guard_refresh(g, e);
}

/* ---- clocks ------------------------------------------------------------------------------------
 */

static bool read_server_ms(struct cql_session *s, int64_t *ms, struct err *err)
{
    static const char text[] = "SELECT toUnixTimestamp(now()) FROM system.local";
    struct cql_query q = {.text = text, .consistency = CQL_ONE};
    struct slice cell = SLICE_NULL;
    cql_ticket ticket;
    struct page page;

    if (!cql_send(s, &q, &ticket, err))
        return false;
    bool ok = cql_take(s, ticket, &page, err);
    if (ok) {
        struct row_cursor rows = page_rows(&page);
        ok = page.columns->count == 1 && row_next(&rows, &cell, err) && cell.n == 8;
        for (size_t i = 0; ok && i < 8; i++)
            *ms = (int64_t)((uint64_t)(i ? *ms : 0) << 8 | cell.p[i]);
        if (!ok && err->kind == ERR_NONE)
            err_set(err, ERR_RETRY, "Cassandra does not say what time it is");
    }
    cql_release(s, ticket);
    return ok;
}

static bool ask_skew(struct guard *g, struct cql_session *s, int64_t *skew_us, int64_t *took_us,
                     struct err *err)
{
    int64_t server_ms = 0, before = clock_wall_us(g->o.clock);

    if (!read_server_ms(s, &server_ms, err))
        return false;
    int64_t after = clock_wall_us(g->o.clock), from = server_ms * 1000, to = from + 1000;
    *skew_us = after < from ? after - from : before > to ? before - to : 0;
    *took_us = after - before;
    return true;
}

bool guard_clock_skew(struct guard *g, struct cql_session *s, int64_t *skew_us, struct err *err)
{
    int64_t took_us;

    if (!ask_skew(g, s, skew_us, &took_us, err))
        return false;
    /* The first had to connect. */
    return took_us < g->o.max_skew_us / 10 || ask_skew(g, s, skew_us, &took_us, err);
}

bool guard_check_clock(struct guard *g, struct cql_cluster *c, struct err *err)
{
    int64_t skew_us;

    if (!is_versioned(g))
        return true;
    AUTO(cql_session) struct cql_session *s = cql_session_open(c, err);
    if (!s || !guard_clock_skew(g, s, &skew_us, err))
        return err_wrap(err, "clock check");
    int64_t size = skew_us < 0 ? -skew_us : skew_us;
    if (size <= g->o.max_skew_us)
        return true;
    return err_set(err, ERR_USER,
                   "this machine's clock is %lld ms %s Cassandra's; the time of reading is the "
                   "version of a document: set the clocks right (NTP), or allow it by --max-skew",
                   (long long)(size / 1000), skew_us < 0 ? "behind" : "ahead of");
}
