#include "serve/work.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/retry.h"

/* Nothing is dropped because a backend is away for long. */
static const int64_t PATIENCE_MS = INT64_C(1000) * 86400 * 365;

enum {
    PART_IDS = 1000, /* of a call that are worked on at once: a bound for memory */
    PART_BYTES = 1 << 20,
    SYSTEM_TRIES = 6, /* of a part that this machine fails at: some seconds */
};

struct ticket {
    struct work *work;
    int refs; /* the one who waits, and each part */
    uint32_t open_parts;
    struct keyed_result *results; /* NULL: nobody waits */
};

/* A part of a call in the queue; its ids are in the journal only. */
struct item {
    uint64_t no; /* of its block */
    uint32_t ids;
    uint32_t at;           /* of its first id, in the call */
    struct ticket *ticket; /* NULL: left over by an earlier process */
    bool scans;            /* found out; it is done when no other scan is under way */
    struct item *next;
};

struct queue {
    struct item *first;
    struct item **last;
};

struct worker {
    struct work *work;
    pthread_t thread;
    bool started;
    void *backend;
    char trouble[256]; /* "" when all is well; guarded by the work's lock */
};

struct work {
    struct work_options o;
    struct worker *workers;

    pthread_mutex_t lock; /* guards all below, tickets' refs and settled, and workers' trouble */
    pthread_cond_t more;
    pthread_cond_t settled;
    struct queue queue;
    struct queue scans; /* were taken from the queue, and wait for each other */
    bool scanning;      /* one of those is being worked on */
    uint64_t last_no;
    uint64_t ids; /* waiting or being worked on */
    uint64_t calls;
    const char *const *types;
    bool refusing; /* nothing new is taken */
    bool closed;   /* nothing more is begun */
    bool unbalanced;
};

/* ---- tickets ---- */

static void ticket_drop_locked(struct ticket *t)
{
    if (--t->refs > 0)
        return;
    free(t->results);
    free(t);
}

void ticket_free(struct ticket *t)
{
    if (!t)
        return;
    struct work *w = t->work;
    pthread_mutex_lock(&w->lock);
    ticket_drop_locked(t);
    pthread_mutex_unlock(&w->lock);
}

const struct keyed_result *work_wait(struct work *w, struct ticket *t, int64_t timeout_ms)
{
    struct timespec until = clock_wait_end(timeout_ms);

    pthread_mutex_lock(&w->lock);
    while (t->open_parts && !w->closed) {
        if (pthread_cond_timedwait(&w->settled, &w->lock, &until) == ETIMEDOUT)
            break;
    }
    const struct keyed_result *results = t->open_parts ? NULL : t->results;
    pthread_mutex_unlock(&w->lock);
    return results;
}

/* ---- the queue ---- */

static void gauges_locked(struct work *w)
{
    struct metrics *m = w->o.metrics;

    atomic_store(&m->value[METRIC_queue_ids], (int64_t)w->ids);
    atomic_store(&m->value[METRIC_queue_calls], (int64_t)w->calls);
}

static void queue_put(struct queue *q, struct item *item)
{
    item->next = NULL;
    *q->last = item;
    q->last = &item->next;
}

static struct item *queue_take(struct queue *q)
{
    struct item *item = q->first;

    q->first = item->next;
    if (!q->first)
        q->last = &q->first;
    return item;
}

static void append_locked(struct work *w, const struct item *as)
{
    struct item *item = xalloc(sizeof *item);

    *item = *as;
    queue_put(&w->queue, item);
    pthread_cond_signal(&w->more);
}

static void item_free(struct item *item)
{
    ticket_free(item->ticket);
    free(item);
}

/* Settled, or never kept. */
static void release_locked(struct work *w, uint32_t ids, bool whole)
{
    w->ids -= ids;
    w->calls -= whole;
    gauges_locked(w);
    if (w->ids == 0)
        pthread_cond_broadcast(&w->settled);
}

static bool may_scan_locked(const struct work *w)
{
    return w->scans.first && !w->scanning;
}

static struct item *take(struct work *w)
{
    struct item *item = NULL;

    pthread_mutex_lock(&w->lock);
    while (!w->queue.first && !may_scan_locked(w) && !w->closed)
        pthread_cond_wait(&w->more, &w->lock);
    if (!w->closed && may_scan_locked(w)) {
        item = queue_take(&w->scans);
        w->scanning = true;
    } else if (!w->closed) {
        item = queue_take(&w->queue);
    }
    pthread_mutex_unlock(&w->lock);
    return item;
}

/* Whoever calls these two takes the next item itself: nobody has to be woken. */
static void wait_for_scans(struct work *w, struct item *item)
{
    pthread_mutex_lock(&w->lock);
    item->scans = true;
    queue_put(&w->scans, item);
    pthread_mutex_unlock(&w->lock);
}

static void end_scan(struct work *w)
{
    pthread_mutex_lock(&w->lock);
    w->scanning = false;
    pthread_mutex_unlock(&w->lock);
}

static enum work_taken reserve(struct work *w, uint32_t ids, uint32_t parts, uint64_t *no)
{
    enum work_taken taken = WORK_TAKEN;

    pthread_mutex_lock(&w->lock);
    if (w->refusing || w->closed) {
        taken = WORK_CLOSED;
    } else if (ids > w->o.queue_ids) {
        taken = WORK_TOO_MANY;
    } else if (w->ids + ids > w->o.queue_ids) {
        taken = WORK_FULL;
    } else {
        *no = w->last_no + 1;
        w->last_no += parts;
        w->ids += ids;
        w->calls++;
        gauges_locked(w);
    }
    pthread_mutex_unlock(&w->lock);
    return taken;
}

/* The first element behind a part that begins at `from`. */
static const struct json *part_end(const struct json *from, uint32_t *count)
{
    size_t bytes = 0;

    *count = 0;
    while (from && *count < PART_IDS && bytes < PART_BYTES) {
        bytes += from->kind == JSON_STRING ? from->text.n : 64 * (1 + (size_t)from->count);
        from = from->next;
        ++*count;
    }
    return from;
}

static uint32_t count_parts(const struct json *ids)
{
    uint32_t parts = 0;
    uint32_t count;

    for (const struct json *at = ids->first; at; at = part_end(at, &count))
        parts++;
    return parts;
}

/* {"objectType":"batch","objectIds":[...] */
static void open_body(struct buf *b, const char *object_type)
{
    buf_add_str(b, "{\"objectType\":");
    json_add_string(b, slice_str(object_type));
    buf_add_str(b, ",\"objectIds\":[");
}

static bool keep(struct work *w, const struct run_call *call, const char *object_type,
                 const struct json *ids, struct err *err)
{
    AUTO(tx) struct tx *t = tx_new(w->o.run);
    const struct json *at = ids->first;
    struct buf body;

    buf_init(&body, SIZE_MAX / 2); /* what came in through a bounded body */
    for (uint32_t part = 0; part < call->parts; part++) {
        uint32_t count;
        const struct json *end = part_end(at, &count);
        buf_reset(&body);
        open_body(&body, object_type);
        for (const struct json *id = at; id && id != end; id = id->next) {
            if (id != at)
                buf_add_byte(&body, ',');
            json_write(&body, id);
        }
        buf_add_str(&body, "]}");
        tx_block(
            t, &(struct run_block){.no = call->no + part, .ids = count, .body = buf_slice(&body)});
        at = end;
    }
    tx_call(t, call);
    tx_count(t, "calls", 1);
    tx_count(t, "ids", ids->count);
    bool ok = journal_commit(t, err);
    buf_fini(&body);
    return ok;
}

static void queue_up(struct work *w, const struct run_call *call, const struct json *ids,
                     struct ticket *t)
{
    const struct json *from = ids->first;
    struct item item = {.no = call->no, .ticket = t};

    pthread_mutex_lock(&w->lock);
    for (uint32_t part = 0; part < call->parts; part++) {
        from = part_end(from, &item.ids);
        append_locked(w, &item);
        item.no++;
        item.at += item.ids;
    }
    pthread_mutex_unlock(&w->lock);
}

enum work_taken work_submit(struct work *w, const char *object_type, const struct json *ids,
                            struct ticket **ticket, char id[WORK_ID_BYTES], struct err *err)
{
    struct run_call call = {.parts = count_parts(ids), .ids = ids->count};
    enum work_taken taken = reserve(w, ids->count, call.parts, &call.no);

    if (taken != WORK_TAKEN)
        return taken;
    if (!keep(w, &call, object_type, ids, err)) {
        pthread_mutex_lock(&w->lock);
        release_locked(w, ids->count, true);
        pthread_mutex_unlock(&w->lock);
        return WORK_NOT_KEPT;
    }
    metrics_add(w->o.metrics, METRIC_calls_taken_total, 1);
    metrics_add(w->o.metrics, METRIC_ids_taken_total, ids->count);
    snprintf(id, WORK_ID_BYTES, "%s-%llu", run_id(w->o.run), (unsigned long long)call.no);
    struct ticket *t = xalloc(sizeof *t);
    *t = (struct ticket){
        .work = w, .refs = (int)call.parts + (ticket != NULL), .open_parts = call.parts};
    if (ticket) {
        t->results = xalloc((ids->count + 1) * sizeof *t->results);
        *ticket = t;
    }
    queue_up(w, &call, ids, t);
    return WORK_TAKEN;
}

/* ---- a worker ---- */

static void set_trouble(struct worker *me, const struct err *err)
{
    struct work *w = me->work;

    pthread_mutex_lock(&w->lock);
    bool was = me->trouble[0];
    snprintf(me->trouble, sizeof me->trouble, "%.255s", err ? err->text : "");
    pthread_mutex_unlock(&w->lock);
    metrics_add(w->o.metrics, METRIC_workers_in_trouble, (err != NULL) - was);
    if (err)
        LOG(LOG_WARN, "work_waits", F_STR("error", err->text));
    else if (was)
        LOG(LOG_INFO, "work_goes_on");
}

static void clear_trouble(struct worker *me)
{
    set_trouble(me, NULL);
}

/* True: try again. False: stopping. */
static bool wait_for_better(struct worker *me, struct retry *retry, struct err *err)
{
    set_trouble(me, err);
    metrics_add(me->work->o.metrics, METRIC_work_waits_total, 1);
    return retry_wait(retry, 0, err);
}

static void init_retry(struct worker *me, struct retry *retry)
{
    retry_init(retry, me->work->o.clock, me->work->o.cancel, PATIENCE_MS);
}

/* A call may be older than the mappings of today. */
static bool sync_served(struct worker *me, const char *type, const struct json *ids,
                        struct keyed_result *results, struct err *err)
{
    struct work *w = me->work;
    const struct work_options *o = &w->o;

    pthread_mutex_lock(&w->lock);
    const char *const *types = w->types;
    pthread_mutex_unlock(&w->lock);
    for (const char *const *t = types; *t; t++) {
        if (strcmp(*t, type) == 0)
            return o->backend.sync(me->backend, type, ids, results, err);
    }
    return err_set(err, ERR_USER, "no mapping for object type %s", type);
}

/* Has it done, however long that takes. False: stopping; the call stays in the journal. `err` says
 * why when it can never pass; elements without an outcome are KEYED_OPEN then. */
static bool do_call(struct worker *me, const char *type, const struct json *ids,
                    struct keyed_result *results, struct err *err)
{
    struct retry retry;
    unsigned machine = 0;

    err_clear(err);
    init_retry(me, &retry);
    while (!sync_served(me, type, ids, results, err)) {
        machine += err->kind == ERR_SYSTEM;
        if (err->kind == ERR_USER || err->kind == ERR_REJECT || machine == SYSTEM_TRIES) {
            LOG(LOG_ERROR, "call_refused", F_STR("type", type), F_INT("ids", ids->count),
                F_STR("error", err->text));
            clear_trouble(me);
            return true;
        }
        if (err->kind == ERR_CANCEL || !wait_for_better(me, &retry, err))
            return false;
        memset(results, 0, ids->count * sizeof *results);
    }
    clear_trouble(me);
    err_clear(err);
    return true;
}

/* Not to be taken for JSON: what `failures retry` reads must be what was given. */
static bool is_plain(struct slice text)
{
    struct err ignored = {0};
    struct arena mem;

    arena_init(&mem, 64 * text.n + (1 << 20));
    bool plain = !memchr(text.p, 0, text.n) && !json_parse(text, &mem, &ignored);
    arena_fini(&mem);
    return plain;
}

static void add_failure(struct tx *t, const char *type, const struct json *id, const char *reason,
                        const char *text)
{
    struct buf key;

    if (id->kind == JSON_STRING && is_plain(id->text)) {
        tx_failure_of(t, type, id->text, reason, text);
        return;
    }
    buf_init(&key, SIZE_MAX / 2);
    json_write(&key, id);
    tx_failure_of(t, type, buf_slice(&key), reason, text);
    buf_fini(&key);
}

static void add_failures(struct tx *t, const char *type, const struct json *ids,
                         const struct keyed_result *results, const struct err *why)
{
    const struct keyed_result *r = results;

    json_each (id, ids) {
        if (r->outcome == KEYED_OPEN)
            add_failure(t, type, id, "refused", why->text);
        else if (!r->ok && r->outcome != KEYED_DUPLICATE)
            add_failure(t, type, id, r->reason[0] ? r->reason : "failed", r->text);
        r++;
    }
}

/* What one element came to, as a letter; see serve/calls.h. */
static char outcome_letter(const struct keyed_result *r)
{
    const struct keyed_counts *c = &r->counts;

    switch (r->outcome) {
    case KEYED_OPEN:
        return 'r';
    case KEYED_BAD:
        return 'b';
    case KEYED_DUPLICATE:
        return 'd';
    case KEYED_MISSING:
        return c->removed ? 'x' : r->ok ? 'k' : 'm';
    case KEYED_FOUND:
        break;
    }
    if (!r->ok)
        return 'f';
    return c->indexed ? 'i' : c->unchanged ? 'u' : c->stale ? 's' : 'g';
}

static void add_outcome(struct tx *t, const struct item *item, const char *type,
                        const struct json *ids, const struct keyed_result *results,
                        const struct err *refused)
{
    struct buf b;
    bool first = true;

    buf_init(&b, SIZE_MAX / 2);
    open_body(&b, type);
    json_each (id, ids) {
        if (id != ids->first)
            buf_add_byte(&b, ',');
        json_write(&b, id);
    }
    buf_add_str(&b, "],\"outcomes\":\"");
    for (uint32_t i = 0; i < ids->count; i++)
        buf_add_byte(&b, (uint8_t)outcome_letter(&results[i]));
    buf_add_str(&b, "\",\"why\":[");
    for (uint32_t i = 0; i < ids->count; i++) {
        const struct keyed_result *r = &results[i];
        bool open = r->outcome == KEYED_OPEN;
        if ((r->ok && !open) || r->outcome == KEYED_DUPLICATE)
            continue;
        buf_printf(&b, "%s[%u,", first ? "" : ",", i);
        json_add_string(&b, slice_str(open ? "refused" : r->reason[0] ? r->reason : "failed"));
        buf_add_byte(&b, ',');
        json_add_string(&b, slice_str(open ? refused->text : r->text));
        buf_add_byte(&b, ']');
        first = false;
    }
    buf_add_str(&b, "]}");
    tx_outcome(t, item->no, ids->count, buf_slice(&b));
    buf_fini(&b);
}

static void add_counts(struct work *w, struct tx *t, const struct keyed_totals *sum)
{
    const struct {
        const char *name;
        uint64_t n;
        int metric; /* -1: none */
    } counts[] = {
        {"duplicate", sum->duplicate, METRIC_ids_duplicate_total},
        {"bad", sum->bad, METRIC_ids_bad_total},
        {"missing", sum->missing, METRIC_ids_missing_total},
        {"found", sum->found, METRIC_ids_found_total},
        {"refused", sum->open, METRIC_ids_refused_total},
        {"rows", sum->counts.rows, -1},
        {"filtered", sum->counts.filtered, -1},
        {"merged", sum->counts.merged, -1},
        {"documents", sum->counts.documents, -1},
        {"indexed", sum->counts.indexed, METRIC_documents_indexed_total},
        {"unchanged", sum->counts.unchanged, METRIC_documents_unchanged_total},
        {"stale", sum->counts.stale, METRIC_documents_stale_total},
        {"failed", sum->counts.failed, METRIC_documents_failed_total},
        {"contended", sum->counts.contended, METRIC_documents_contended_total},
        {"altered", sum->counts.altered, METRIC_values_altered_total},
        {"bad_json", sum->counts.bad_json, METRIC_values_bad_json_total},
        {"lookup_missing", sum->counts.lookup_missing, METRIC_lookups_missing_total},
        {"id_collision", sum->counts.id_collision, METRIC_id_collisions_total},
    };

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i].n == 0)
            continue;
        tx_count(t, counts[i].name, (int64_t)counts[i].n);
        if (counts[i].metric >= 0)
            metrics_add(w->o.metrics, (enum metric)counts[i].metric, (int64_t)counts[i].n);
    }
}

static void check_books(struct work *w, const struct keyed_totals *sum, uint32_t ids)
{
    if (keyed_conserved(sum) && sum->ids == ids)
        return;
    LOG(LOG_ERROR, "books_do_not_balance", F_INT("ids", ids), F_INT("settled", sum->ids),
        F_INT("documents", sum->counts.documents), F_INT("indexed", sum->counts.indexed),
        F_INT("failed", sum->counts.failed));
    pthread_mutex_lock(&w->lock);
    w->unbalanced = true;
    pthread_mutex_unlock(&w->lock);
}

/* The block ends with its outcome. False: stopping. */
static bool settle(struct worker *me, const struct item *item, const char *type,
                   const struct json *ids, const struct keyed_result *results,
                   const struct err *why)
{
    struct work *w = me->work;
    AUTO(tx) struct tx *t = tx_new(w->o.run);
    struct keyed_totals sum = {0};
    struct retry retry;
    struct err err = {0};

    keyed_totals_add(&sum, results, ids->count);
    check_books(w, &sum, item->ids);
    tx_block_end(t, item->no);
    add_counts(w, t, &sum);
    add_failures(t, type, ids, results, why);
    add_outcome(t, item, type, ids, results, why);
    init_retry(me, &retry);
    /* Forgotten by a machine that crashes, it is worked off once more. */
    while (!journal_commit_soon(t, &err)) {
        if (!wait_for_better(me, &retry, &err))
            return false;
    }
    clear_trouble(me);
    return true;
}

static void hand_out(struct work *w, const struct item *item, const struct keyed_result *results)
{
    struct ticket *t = item->ticket;

    pthread_mutex_lock(&w->lock);
    if (t && t->results)
        memcpy(t->results + item->at, results, item->ids * sizeof *results);
    if (t)
        t->open_parts--;
    /* In one step: who has the answer finds the queue without it. */
    release_locked(w, item->ids, !t || t->open_parts == 0);
    pthread_cond_broadcast(&w->settled);
    pthread_mutex_unlock(&w->lock);
}

/* Reads the block's ids from the journal. False: stopping, or the journal is damaged. */
static bool load(struct worker *me, const struct item *item, struct run_block *b)
{
    struct retry retry;
    struct err err = {0};
    bool found = false;

    init_retry(me, &retry);
    while (!run_next_block(me->work->o.run, item->no - 1, b, &found, &err)) {
        if (!wait_for_better(me, &retry, &err))
            return false;
    }
    ensure(found && b->no == item->no);
    return true;
}

/* A scan reads a whole table: one at a time, so that other work goes on beside it. */
static bool has_to_wait(struct worker *me, const struct item *item, const char *type,
                        const struct json *ids)
{
    const struct work_backend *b = &me->work->o.backend;

    return !item->scans && b->scans && b->scans(me->backend, type, ids);
}

enum worked { WORKED, WAITS, STOPPING };

static enum worked work_off(struct worker *me, struct item *item)
{
    struct run_block block = {0};
    struct arena mem;
    struct err err = {0};
    enum worked end;

    if (!load(me, item, &block))
        return STOPPING;
    arena_init(&mem, 64 * block.body.n + (1 << 20));
    const struct json *call = json_parse(block.body, &mem, &err);
    const struct json *ids = json_get(call, "objectIds");
    ensure(ids && ids->count == item->ids); /* we wrote it */
    const char *type = (const char *)json_get_string(call, "objectType").p;
    struct keyed_result *results = xalloc((ids->count + 1) * sizeof *results);
    if (has_to_wait(me, item, type, ids))
        end = WAITS;
    else if (do_call(me, type, ids, results, &err) && settle(me, item, type, ids, results, &err))
        end = WORKED;
    else
        end = STOPPING;
    if (end == WORKED)
        hand_out(me->work, item, results);
    free(results);
    arena_fini(&mem);
    run_block_fini(&block);
    return end;
}

static void *worker_main(void *arg)
{
    struct worker *me = arg;
    struct work *w = me->work;
    struct item *item;

    while (cancel_level(w->o.cancel) == 0 && (item = take(w))) {
        enum worked end = work_off(me, item);
        if (end == WAITS) {
            wait_for_scans(w, item);
            continue;
        }
        if (item->scans)
            end_scan(w);
        item_free(item);
        if (end == STOPPING)
            break;
    }
    return NULL;
}

/* ---- start and stop ---- */

static bool load_pending(struct work *w, struct err *err)
{
    struct run_block b;
    bool found = true;
    uint64_t last;

    if (!run_last_call(w->o.run, &last, err))
        return false;
    for (uint64_t after = 0; found; after = w->last_no) {
        if (!run_next_block(w->o.run, after, &b, &found, err))
            return false;
        if (!found)
            break;
        w->last_no = b.no;
        w->ids += b.ids;
        w->calls++;
        append_locked(w, &(struct item){.no = b.no, .ids = b.ids});
        run_block_fini(&b);
    }
    if (w->last_no < last) /* a call's name is never given twice */
        w->last_no = last;
    if (w->calls)
        LOG(LOG_INFO, "calls_left_over", F_INT("calls", w->calls), F_INT("ids", w->ids));
    gauges_locked(w);
    return true;
}

static bool start_worker(struct work *w, struct worker *me, struct err *err)
{
    me->work = w;
    me->backend = w->o.backend.open(w->o.backend.ctx, err);
    if (!me->backend)
        return false;
    int rc = pthread_create(&me->thread, NULL, worker_main, me);
    me->started = rc == 0;
    return me->started || err_set(err, ERR_SYSTEM, "can't start a thread: %s", strerror(rc));
}

struct work *work_start(const struct work_options *o, struct err *err)
{
    struct work *w = xalloc(sizeof *w);
    pthread_condattr_t attr;

    w->o = *o;
    w->types = o->types;
    w->queue.last = &w->queue.first;
    w->scans.last = &w->scans.first;
    w->workers = xalloc(o->threads * sizeof *w->workers);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->settled, &attr);
    pthread_condattr_destroy(&attr);
    bool ok = load_pending(w, err);
    for (unsigned i = 0; ok && i < o->threads; i++)
        ok = start_worker(w, &w->workers[i], err);
    if (ok)
        return w;
    work_drain(w);
    work_free(w);
    return NULL;
}

void work_set_types(struct work *w, const char *const *types)
{
    pthread_mutex_lock(&w->lock);
    w->types = types;
    pthread_mutex_unlock(&w->lock);
}

void work_refuse(struct work *w)
{
    pthread_mutex_lock(&w->lock);
    w->refusing = true;
    pthread_mutex_unlock(&w->lock);
}

bool work_idle(struct work *w)
{
    pthread_mutex_lock(&w->lock);
    bool idle = w->ids == 0;
    pthread_mutex_unlock(&w->lock);
    return idle;
}

void work_drain(struct work *w)
{
    pthread_mutex_lock(&w->lock);
    w->closed = true;
    pthread_cond_broadcast(&w->more);
    pthread_cond_broadcast(&w->settled);
    pthread_mutex_unlock(&w->lock);
}

static void join_workers(struct work *w)
{
    for (unsigned i = 0; i < w->o.threads; i++) {
        if (w->workers[i].started)
            pthread_join(w->workers[i].thread, NULL);
        w->workers[i].started = false;
        if (w->workers[i].backend)
            w->o.backend.close(w->workers[i].backend);
        w->workers[i].backend = NULL;
    }
}

/* What the journal says of all calls of this run, by this process or an earlier one. */
static bool check_run(struct work *w, uint64_t left, bool *balanced, struct err *err)
{
    static const char *const settled[] = {"duplicate", "bad", "missing", "found", "refused"};
    int64_t ids;
    int64_t sum = (int64_t)left;

    if (!run_count(w->o.run, "ids", &ids, err))
        return false;
    for (size_t i = 0; i < sizeof settled / sizeof *settled; i++) {
        int64_t n;
        if (!run_count(w->o.run, settled[i], &n, err))
            return false;
        sum += n;
    }
    *balanced = sum == ids && !w->unbalanced;
    if (sum != ids)
        LOG(LOG_ERROR, "books_do_not_balance", F_INT("ids", ids), F_INT("settled", sum));
    return true;
}

bool work_stop(struct work *w, uint64_t *left, bool *balanced, struct err *err)
{
    work_drain(w);
    join_workers(w);
    *left = w->ids;
    return check_run(w, *left, balanced, err);
}

void work_free(struct work *w)
{
    if (!w)
        return;
    join_workers(w);
    while (w->queue.first)
        item_free(queue_take(&w->queue));
    while (w->scans.first)
        item_free(queue_take(&w->scans));
    pthread_cond_destroy(&w->settled);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w->workers);
    free(w);
}

bool work_healthy(struct work *w, char *why, size_t why_size)
{
    bool healthy = true;

    pthread_mutex_lock(&w->lock);
    for (unsigned i = 0; healthy && i < w->o.threads; i++) {
        healthy = !w->workers[i].trouble[0];
        if (!healthy)
            snprintf(why, why_size, "%s", w->workers[i].trouble);
    }
    if (healthy && (w->refusing || w->closed)) {
        healthy = false;
        snprintf(why, why_size, "stopping");
    }
    pthread_mutex_unlock(&w->lock);
    return healthy;
}
