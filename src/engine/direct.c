#include "engine/direct_parts.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "engine/worker.h"
#include "mapping/json.h"

/* ---- the page's books --------------------------------------------------------------------------
 */

/* The row's key as an id that can be given back: "x", or {"column":"x",...} for several columns. */
static void add_key(struct buf *out, const struct plan *p, const struct slice *key)
{
    const struct schema *s = plan_schema(p);
    uint16_t count = plan_key_count(p);
    struct buf text;

    buf_init(&text, 1 << 20);
    if (count > 1)
        buf_add_byte(out, '{');
    for (uint16_t i = 0, n = 0; i < count; i++) {
        struct err ignored = {0};

        if (!key[i].p) /* a partition with static columns only */
            continue;
        buf_reset(&text);
        json_cell_text(&text, s->columns[i].type, key[i], &ignored);
        if (n++)
            buf_add_byte(out, ',');
        if (count > 1) {
            json_add_string(out, slice_str(s->columns[i].name));
            buf_add_byte(out, ':');
        }
        json_add_string(out, buf_slice(&text));
    }
    if (count > 1)
        buf_add_byte(out, '}');
    buf_fini(&text);
}

void direct_note_failure(struct direct_worker *w, const struct slice *key, const char *reason,
                         const char *text)
{
    buf_reset(&w->key);
    add_key(&w->key, w->direct->o.plan, key);
    tx_failure(w->tx, buf_slice(&w->key), reason, text);
}

static void count_page(struct direct_worker *w)
{
    const struct page_sum *s = &w->sum;
    const struct {
        const char *name;
        uint64_t n;
    } list[] = {
        {"rows", s->rows},
        {"filtered", s->filtered},
        {"merged", s->merged},
        {"documents", s->documents},
        {"indexed", s->indexed},
        {"unchanged", s->unchanged},
        {"stale", s->stale},
        {"failed", s->failed},
        {"bytes", s->bytes},
        {"gone", s->gone},
        {"nan_to_null", s->altered.nan_to_null},
        {"bad_utf8", s->altered.bad_utf8},
        {"year_out_of_range", s->altered.year_out_of_range},
        {"bad_json", s->altered.bad_json},
        {"lookup_missing", s->altered.lookup_missing},
        {"id_collision", s->id_collision},
        {"altered", s->altered_singles},
    };

    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].n)
            tx_count(w->tx, list[i].name, (int64_t)list[i].n);
}

static bool save(struct direct_worker *w, struct err *err)
{
    w->saved_ms = clock_mono_ms(w->direct->o.clock);
    return journal_commit(w->tx, err);
}

/* Under a limit a page is saved by itself: the one that is cut short waits for all others, and has
 * to be journalled behind them. */
static bool is_save_due(const struct direct_worker *w)
{
    const struct direct *d = w->direct;

    return d->quota.limited || clock_mono_ms(d->o.clock) - w->saved_ms >= SAVE_MS;
}

bool direct_save_page(struct direct_worker *w, const struct scan_task *task,
                      const struct scan_page *page, struct err *err)
{
    if (!w->cut)
        tasks_mark(w->tx, task, page);
    count_page(w);
    tx_settle(w->tx);
    if (is_save_due(w) && !save(w, err))
        return false;
    atomic_fetch_add(&w->direct->rows, w->sum.rows);
    atomic_fetch_add(&w->direct->failed, w->sum.failed);
    quota_end(&w->direct->quota, &w->quota, w->sum.documents);
    w->sum = (struct page_sum){0};
    return true;
}

void direct_drop_page(struct direct_worker *w)
{
    struct err later = {0};

    tx_drop(w->tx);
    save(w, &later); /* the next try may be long in coming; what can't be saved now is told then */
    quota_end(&w->direct->quota, &w->quota, 0);
    w->sum = (struct page_sum){0};
    w->singles = 0;
}

bool direct_begin_page(struct direct_worker *w, const struct page *page, struct slice *cells,
                       struct err *err)
{
    struct direct *d = w->direct;
    uint64_t wanted = 0;

    w->cut = false;
    return !d->quota.limited || (scan_count_wanted(&d->scan, page, cells, &wanted, err) &&
                                 quota_begin(&d->quota, &w->quota, wanted, err));
}

bool direct_more(struct direct_worker *w, struct err *err)
{
    if (quota_more(&w->direct->quota, &w->quota, w->sum.documents, err))
        return true;
    w->cut = err->kind == ERR_NONE;
    return false;
}

/* ---- single documents --------------------------------------------------------------------------
 */

static void single_failed(void *ctx, const struct plan *plan, const struct slice *key,
                          const char *reason, const char *text)
{
    struct direct_worker *w = ctx;

    (void)plan;
    direct_note_failure(w, key, reason, text);
}

bool direct_add_single(struct direct_worker *w, enum keyed_task task, const struct slice *key,
                       struct err *err)
{
    if (!w->singles++) {
        w->single_sum = (struct keyed_result){0};
        keyed_begin(w->keyed, w->direct->o.plan, &w->single_sum);
    }
    return keyed_add(w->keyed, task, key, 0, 0, err);
}

bool direct_settle_singles(struct direct_worker *w, struct err *err)
{
    const struct keyed_counts *c = &w->single_sum.counts;

    if (!w->singles)
        return true;
    w->singles = 0;
    if (!keyed_end(w->keyed, err))
        return false;
    w->sum.rows += c->rows;
    w->sum.filtered += c->filtered;
    w->sum.merged += c->merged;
    w->sum.documents += c->documents;
    w->sum.indexed += c->indexed;
    w->sum.unchanged += c->unchanged;
    w->sum.stale += c->stale;
    w->sum.failed += c->failed;
    w->sum.gone += c->gone;
    w->sum.altered_singles += c->altered - c->bad_json;
    w->sum.altered.bad_json += c->bad_json;
    w->sum.altered.lookup_missing += c->lookup_missing;
    w->sum.id_collision += c->id_collision;
    return true;
}

bool direct_check_keys(struct direct_worker *w, struct slice keys, uint32_t count,
                       struct slice *cells, struct err *err)
{
    const struct plan *p = w->direct->o.plan;
    struct row_cursor at = {.rest = keys, .left = count, .columns = plan_key_count(p)};
    struct keyed_result looked = {0};

    keyed_begin(w->keyed, p, &looked);
    while (row_next(&at, cells, err))
        if (!keyed_add(w->keyed, KEYED_CHECK, cells, 0, 0, err))
            return false;
    if (err->kind != ERR_NONE || !keyed_end(w->keyed, err))
        return false;
    int64_t failed = (int64_t)looked.counts.failed;
    tx_count(w->tx, "rows", failed);
    tx_count(w->tx, "documents", failed);
    tx_count(w->tx, "failed", failed);
    tx_settle(w->tx);
    atomic_fetch_add(&w->direct->failed, looked.counts.failed);
    return true;
}

bool direct_worker_open(struct direct_worker *w, struct direct *d, struct err *err)
{
    struct elastic_options elastic = *d->o.elastic;

    w->direct = d;
    w->tx = tx_new(d->o.run);
    buf_init(&w->key, 1 << 20);
    w->plans[0] = d->o.plan;
    w->guards[0] = d->o.guard;
    if (!elastic.max_answer_bytes)
        elastic.max_answer_bytes = d->o.memory_bytes / 2;
    /* A body ends with the document that takes it to the limit's aim: not cut there. */
    elastic.body_bytes = 2 * limit_body_bytes(d->o.limit);
    w->elastic = elastic_new(&elastic, err);
    if (!w->elastic)
        return false;
    struct keyed_options keyed = {
        .cluster = d->o.cluster,
        .elastic = d->o.elastic,
        .sink = w->elastic,
        .plans = w->plans,
        .guards = w->guards,
        .limit = d->o.limit,
        .missing = KEYED_KEEP,
        .on_failure = single_failed,
        .on_failure_ctx = w,
        .clock = d->o.clock,
        .cancel = d->o.cancel,
        .retry_budget_ms = d->o.retry_budget_ms,
        .strict_values = d->o.strict_values,
        .where = d->o.where,
        .only_keys = d->o.most_documents > 0,
        .memory_bytes = d->o.memory_bytes / d->o.workers,
        .most_bytes = d->by_key ? 0 : d->o.memory_bytes, /* as the scan itself takes */
        .room = d->by_key ? &d->room : NULL,             /* else the reader's, who may hold it */
        .pause = &d->pause,
        .collided = &d->collided,
    };
    w->keyed = keyed_open(&keyed, err);
    return w->keyed != NULL;
}

void direct_worker_close(struct direct_worker *w)
{
    keyed_free(w->keyed);
    elastic_free(w->elastic);
    if (w->tx)
        tx_free(w->tx);
    buf_fini(&w->key);
}

/* ---- workers -----------------------------------------------------------------------------------
 */

static uint32_t page_bytes(const struct direct *d)
{
    size_t bytes = d->o.memory_bytes / (d->o.workers * (size_t)PARTS_PER_WORKER);

    return (uint32_t)(bytes < PAGE_MIN_BYTES   ? PAGE_MIN_BYTES
                      : bytes > PAGE_MAX_BYTES ? PAGE_MAX_BYTES
                                               : bytes);
}

static bool range_cut(void *ctx, const struct scan_task *task, int64_t done_to, bool inside,
                      const char *why, struct err *err)
{
    return tasks_cut(((struct direct_worker *)ctx)->tx, task, done_to, inside, why, err);
}

static bool range_failed(void *ctx, const struct token_range *range, const char *why,
                         struct err *err)
{
    return tasks_note_unread(((struct direct_worker *)ctx)->tx, range, why, err);
}

static int64_t asked_ms(void *ctx)
{
    return ((struct direct_worker *)ctx)->asked_ms;
}

static bool is_told(void *ctx)
{
    return pause_is_on(&((struct direct_worker *)ctx)->direct->pause);
}

static void read_trouble(void *ctx)
{
    struct direct_worker *w = ctx;
    struct err later = {0};

    limit_read_trouble(w->direct->o.limit);
    save(w, &later); /* as above */
}

/* A limit is kept by waiting, and what waits grows old: a page is so small that the turns of all
 * workers together take no longer than a quarter of what a row may wait. */
static uint32_t most_rows(const struct direct_options *o)
{
    int64_t age_us = guard_max_age_us(o->guard);
    uint64_t per_s = o->docs_per_s;

    if (!per_s || (o->reads_per_s && o->reads_per_s < per_s))
        per_s = o->reads_per_s;
    if (!per_s || age_us == INT64_MAX)
        return 0;
    double rows = (double)per_s * (double)age_us / 1e6 / 4 / o->workers;
    return rows < 1 ? 1 : rows > UINT32_MAX ? UINT32_MAX : (uint32_t)rows;
}

bool direct_work(struct direct_worker *w,
                 bool (*take_page)(void *ctx, const struct scan_task *task,
                                   const struct scan_page *page, struct err *err),
                 void (*trim)(void *ctx), struct err *err)
{
    struct direct *d = w->direct;
    struct worker reader = {
        .crew = &d->crew,
        .cluster = d->o.cluster,
        .plan = &d->scan,
        .tasks = d->tasks,
        .quota = &d->quota,
        .clock = d->o.clock,
        .retry_budget_ms = d->o.retry_budget_ms,
        .page_bytes = page_bytes(d),
        .room = d->by_key ? NULL : &d->room,
        .share_bytes = d->o.memory_bytes / d->o.workers,
        .trim = trim,
        .take_page = take_page,
        .range_cut = range_cut,
        .range_failed = range_failed,
        .asked_ms = asked_ms,
        .is_told = is_told,
        .read_trouble = read_trouble,
        .ctx = w,
    };

    bool ok = worker_run(&reader, err);
    struct err unsaved = {0};
    if (save(w, &unsaved))
        return ok;
    if (ok)
        *err = unsaved;
    return false;
}

/* ---- life --------------------------------------------------------------------------------------
 */

static uint32_t least_rows(uint32_t a, uint64_t b)
{
    return !b || (a && a < b) ? a : b < UINT32_MAX ? (uint32_t)b : UINT32_MAX;
}

static bool plan_scan(struct direct *d, struct err *err)
{
    const struct direct_options *o = &d->o;
    const struct schema *schema = plan_schema(o->plan);
    int64_t rows = 0, documents = 0;

    scan_plan_select(&d->scan, schema, plan_selects(o->plan),
                     d->by_key ? plan_key_count(o->plan) : plan_column_count(o->plan), o->where);
    d->scan.last_is_told = !d->by_key;
    AUTO(cql_session)
    struct cql_session *session = o->where ? cql_session_open(o->cluster, err) : NULL;
    if ((o->where && !session) || (session && !scan_plan_ask(&d->scan, session, err)) ||
        !run_count(o->run, "rows", &rows, err) || !run_count(o->run, "documents", &documents, err))
        return false;
    if (o->where)
        LOG(LOG_INFO, "conditions", F_INT("by_server", (int64_t)d->scan.pushed_count),
            F_INT("here", (int64_t)d->scan.here_count));
    d->before = (uint64_t)rows;
    /* No more than are wanted, unless it shows only here which ones are. */
    d->scan.most_rows = least_rows(most_rows(o), d->scan.here_count ? 0 : o->most_documents);
    d->tasks = tasks_plan_sample(o->cluster, schema, o->run, o->sample,
                                 d->scan.pushed_count ? FILTERED_RANGE_BYTES : RANGE_BYTES,
                                 4 * (size_t)o->workers, err);
    quota_init(&d->quota, o->most_documents, (uint64_t)documents, &d->crew, o->clock);
    return d->tasks != NULL;
}

struct direct *direct_start(const struct direct_options *o, struct err *err)
{
    struct direct *d = xalloc(sizeof *d);

    d->o = *o;
    /* Documents of several tables, too: keyed reads what they want. */
    d->by_key = plan_versioning(o->plan) == VERSIONING_SEQUENCE || plan_levels(o->plan) > 0;
    if (!plan_scan(d, err)) {
        scan_plan_fini(&d->scan);
        free(d);
        return NULL;
    }
    crew_init(&d->crew, o->cancel, NULL, NULL);
    room_init(&d->room, o->memory_bytes / 2, o->cancel);
    pause_init(&d->pause, plan_index(o->plan), o->clock);
    for (unsigned i = 0; i < o->workers; i++)
        crew_add(&d->crew, d->by_key ? direct_scan_keys : direct_scan_rows, d);
    return d;
}

bool direct_wait(struct direct *d, int64_t ms)
{
    return crew_wait(&d->crew, ms);
}

void direct_progress(struct direct *d, struct direct_progress *out)
{
    uint64_t rows = atomic_load(&d->rows);

    *out = (struct direct_progress){
        .done = d->before + rows, .before = d->before, .failed = atomic_load(&d->failed)};
    /* The server counts partitions; with clustering columns that says nothing about rows. */
    if (plan_schema(d->o.plan)->clustering_count == 0 && !d->o.where)
        out->total = tasks_estimated_rows(d->tasks);
    if (d->o.most_documents && (!out->total || out->total > d->o.most_documents))
        out->total = d->o.where ? 0 : d->o.most_documents;
    if (out->total < out->done)
        out->total = 0;
    crew_copy_note(&d->crew, out->note);
    pause_copy_note(&d->pause, out->note, sizeof out->note);
    unsigned at_once = limit_requests(d->o.limit);
    if (!*out->note && at_once < d->o.workers)
        snprintf(out->note, sizeof out->note, "slowed down: %u of %u requests at once", at_once,
                 d->o.workers);
}

const struct count direct_count_list[] = {
    COUNT(direct_counts, rows),
    COUNT(direct_counts, filtered),
    COUNT(direct_counts, merged),
    COUNT(direct_counts, documents),
    COUNT(direct_counts, indexed),
    COUNT(direct_counts, unchanged),
    COUNT(direct_counts, stale),
    COUNT(direct_counts, failed),
    COUNT(direct_counts, bytes),
    COUNT(direct_counts, gone),
    COUNT(direct_counts, unread_ranges),
    COUNT(direct_counts, nan_to_null),
    COUNT(direct_counts, bad_utf8),
    COUNT(direct_counts, year_out_of_range),
    COUNT(direct_counts, bad_json),
    COUNT(direct_counts, lookup_missing),
    COUNT(direct_counts, id_collision),
    COUNT(direct_counts, altered),
    {NULL, 0},
};

bool direct_finish(struct direct *d, struct direct_counts *counts, struct err *err)
{
    struct err count_err = {0};

    *counts = (struct direct_counts){0};
    crew_join(&d->crew, err);
    if (!counts_read(d->o.run, direct_count_list, counts, &count_err) && err->kind == ERR_NONE)
        *err = count_err;
    if (err->kind == ERR_NONE && !d->o.most_documents) /* else what waited may not be wanted */
        pause_done(&d->pause);
    tasks_free(d->tasks);
    scan_plan_fini(&d->scan);
    crew_fini(&d->crew);
    quota_fini(&d->quota);
    room_fini(&d->room);
    pause_fini(&d->pause);
    free(d);
    return err->kind == ERR_NONE;
}

bool direct_conserved(const struct direct_counts *c)
{
    return c->rows == c->filtered + c->merged + c->documents &&
           c->documents == c->indexed + c->unchanged + c->stale + c->failed;
}
