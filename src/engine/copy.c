#include "engine/copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/crew.h"
#include "engine/fetch.h"
#include "engine/tasks.h"
#include "engine/worker.h"

enum {
    PAGE_MAX_BYTES = 1 << 20, /* the knee of the measured curve */
    PAGE_MIN_BYTES = 32 << 10,
    PAGES_PER_WORKER = 4, /* one worked on, one on its way, their lines */
    RANGE_BYTES = 64 << 20,
    FILTERED_RANGE_BYTES = 8 << 20, /* where the server may read long before it finds a row */
    ID_KEEP_BYTES = 64 << 10,
    FETCH_MAX_BYTES = 64 << 20,
    LINES_KEEP_BYTES = 4 << 20,
};

struct copy {
    struct copy_options o;
    struct crew crew;
    struct scan_plan plan;
    struct tasks *tasks;
    struct quota quota;
    struct room room;
    uint64_t before;
    atomic_uint_fast64_t rows;
    atomic_uint_fast64_t failed;
};

struct copier {
    struct copy *copy;
    struct tx *tx;
    struct buf lines;
    struct buf key;
    struct buf id;
    struct slice *cells;
    struct fetch fetch;
    struct json_counts altered;
    uint64_t filtered, documents, failed;
    struct quota_page quota;
};

static bool commit_page(void *ctx, uint64_t length, struct err *err)
{
    struct copier *p = ctx;
    char text[24];

    if (p->copy->o.resumable) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)length);
        tx_note(p->tx, "file_length", text);
    }
    return journal_commit(p->tx, err);
}

/* The row's key as text, for the failures. */
static struct slice key_text(struct copier *p)
{
    const struct plan *plan = p->copy->o.plan;
    const struct schema *s = plan_schema(plan);

    buf_reset(&p->key);
    for (uint16_t i = 0; i < plan_key_count(plan) && (p->cells[i].p || !i); i++) {
        struct err ignored = {0};

        if (i)
            buf_add_byte(&p->key, ':');
        if (!json_cell_text(&p->key, s->columns[i].type, p->cells[i], &ignored))
            buf_add_byte(&p->key, '?');
    }
    return buf_slice(&p->key);
}

static void fail_row(struct copier *p, const char *reason, struct err *err)
{
    tx_failure(p->tx, key_text(p), reason, err->text);
    p->failed++;
    err_clear(err);
}

/* One row to one line. A bad cell, or under strict_values an altered one, fails its document, never
 * the page. False: rows of other tables can't be read. */
static bool add_line(struct copier *p, struct err *fatal)
{
    const struct plan *plan = p->copy->o.plan;
    size_t start = p->lines.len;
    uint64_t altered_before = json_counts_sum(&p->altered);
    struct err err = {0};

    buf_reset(&p->id);
    if (plan_needs_id(plan) && !plan_id(plan, p->cells, &p->id, &err)) {
        fail_row(p, "bad_document_id", &err);
        return true;
    }
    if (!fetch_document(&p->fetch, p->cells, buf_slice(&p->id), &p->lines, &p->altered, &err)) {
        buf_cut(&p->lines, start);
        if (err.kind != ERR_REJECT) {
            *fatal = err;
            return false;
        }
        if (strcmp(p->fetch.work.reason, PLAN_FILTERED) == 0) {
            p->documents--;
            p->filtered++;
            return true;
        }
        fail_row(p, p->fetch.work.reason, &err);
        return true;
    }
    if (p->copy->o.strict_values && json_counts_sum(&p->altered) > altered_before) {
        buf_cut(&p->lines, start);
        err_set(&err, ERR_REJECT, "a value would be altered (--strict-values)");
        fail_row(p, "altered_value", &err);
        return true;
    }
    buf_add_byte(&p->lines, '\n');
    return true;
}

static void count_page(struct copier *p)
{
    tx_count(p->tx, "rows", (int64_t)(p->filtered + p->documents));
    tx_count(p->tx, "filtered", (int64_t)p->filtered);
    tx_count(p->tx, "documents", (int64_t)p->documents);
    tx_count(p->tx, "written", (int64_t)(p->documents - p->failed));
    tx_count(p->tx, "failed", (int64_t)p->failed);
    tx_count(p->tx, "bytes", (int64_t)p->lines.len);
    tx_count(p->tx, "nan_to_null", (int64_t)p->altered.nan_to_null);
    tx_count(p->tx, "bad_utf8", (int64_t)p->altered.bad_utf8);
    tx_count(p->tx, "year_out_of_range", (int64_t)p->altered.year_out_of_range);
    tx_count(p->tx, "bad_json", (int64_t)p->altered.bad_json);
    tx_count(p->tx, "lookup_missing", (int64_t)p->altered.lookup_missing);
}

/* False with ERR_NONE: the limit is reached, the page is not wanted. */
static bool begin_page(struct copier *p, const struct page *page, struct err *err)
{
    struct copy *c = p->copy;
    uint64_t wanted = 0;

    p->altered = (struct json_counts){0};
    p->filtered = p->documents = p->failed = 0;
    buf_reset(&p->lines);
    return (!c->quota.limited || scan_count_wanted(&c->plan, page, p->cells, &wanted, err)) &&
           quota_begin(&c->quota, &p->quota, wanted, err);
}

/* One more line. False with ERR_NONE: the limit is reached, the page ends here. */
static bool take_one(struct copier *p, struct err *err)
{
    while (!quota_take(&p->copy->quota, &p->quota))
        if (!quota_more(&p->copy->quota, &p->quota, p->documents, err))
            return false;
    p->documents++;
    return true;
}

/* whole: all rows of the page are in. */
static bool add_lines(struct copier *p, const struct page *page, bool *whole, struct err *err)
{
    struct row_cursor rows = page_rows(page);

    *whole = true;
    while (*whole && row_next(&rows, p->cells, err)) {
        if (!scan_wants(&p->copy->plan, p->cells) ||
            !plan_holds(p->copy->o.plan, p->cells, &p->fetch.work)) {
            p->filtered++;
            continue;
        }
        *whole = take_one(p, err);
        if (*whole && !add_line(p, err))
            return false;
    }
    return err->kind == ERR_NONE;
}

static bool take_page(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err)
{
    struct copier *p = ctx;
    bool whole;

    if (page->page.shape_changed)
        return err_set(err, ERR_USER,
                       "the table's columns changed while it was read; run the command again");
    if (!limit_read(p->copy->o.rates, page->page.row_count, err))
        return false;
    if (!begin_page(p, &page->page, err))
        return err->kind == ERR_NONE;
    bool ok = add_lines(p, &page->page, &whole, err);
    if (ok && p->copy->o.resumable && whole)
        tasks_mark(p->tx, task, page);
    if (ok)
        count_page(p);
    ok = ok && sink_file_put(p->copy->o.file, buf_slice(&p->lines), commit_page, p, err);
    quota_end(&p->copy->quota, &p->quota, ok ? p->documents : 0);
    if (!ok) {
        tx_drop(p->tx); /* its failures, too: the page may be read again */
        return false;
    }
    atomic_fetch_add(&p->copy->rows, p->filtered + p->documents);
    atomic_fetch_add(&p->copy->failed, p->failed);
    if (p->lines.cap > LINES_KEEP_BYTES)
        buf_fini(&p->lines);
    return true;
}

static bool range_cut(void *ctx, const struct scan_task *task, int64_t done_to, bool inside,
                      const char *why, struct err *err)
{
    return tasks_cut(((struct copier *)ctx)->tx, task, done_to, inside, why, err);
}

static bool range_failed(void *ctx, const struct token_range *range, const char *why,
                         struct err *err)
{
    return tasks_note_unread(((struct copier *)ctx)->tx, range, why, err);
}

static uint32_t page_bytes(const struct copy *c)
{
    size_t bytes = c->o.memory_bytes / (c->o.workers * (size_t)PAGES_PER_WORKER);

    return (uint32_t)(bytes < PAGE_MIN_BYTES   ? PAGE_MIN_BYTES
                      : bytes > PAGE_MAX_BYTES ? PAGE_MAX_BYTES
                                               : bytes);
}

static void trim(void *ctx)
{
    struct copier *p = ctx;

    buf_fini(&p->lines);
    plan_work_fini(&p->fetch.work);
}

static bool copy_work(void *ctx, struct err *err)
{
    struct copy *c = ctx;
    struct copier p = {.copy = c, .tx = tx_new(c->o.run)};
    struct worker w = {
        .crew = &c->crew,
        .cluster = c->o.cluster,
        .plan = &c->plan,
        .tasks = c->tasks,
        .quota = &c->quota,
        .clock = c->o.clock,
        .retry_budget_ms = c->o.retry_budget_ms,
        .page_bytes = page_bytes(c),
        .room = &c->room,
        .share_bytes = c->o.memory_bytes / c->o.workers,
        .trim = trim,
        .take_page = take_page,
        .range_cut = range_cut,
        .range_failed = range_failed,
        .ctx = &p,
    };

    buf_init(&p.lines, c->o.memory_bytes > (64 << 20) ? c->o.memory_bytes : 64 << 20);
    buf_init(&p.key, 1 << 20);
    buf_init(&p.id, ID_KEEP_BYTES);
    fetch_init(&p.fetch, c->o.plan, c->o.cluster, FETCH_MAX_BYTES);
    p.fetch.limit = c->o.rates;
    p.cells = xalloc(c->plan.column_count * sizeof *p.cells);
    bool ok = worker_run(&w, err);
    tx_free(p.tx);
    fetch_fini(&p.fetch);
    buf_fini(&p.lines);
    buf_fini(&p.key);
    buf_fini(&p.id);
    free(p.cells);
    return ok;
}

static bool plan_scan(struct copy *c, struct err *err)
{
    const struct copy_options *o = &c->o;
    const struct schema *schema = plan_schema(o->plan);
    int64_t rows = 0, documents = 0;

    scan_plan_select(&c->plan, schema, plan_selects(o->plan), plan_column_count(o->plan), o->where);
    AUTO(cql_session) struct cql_session *session = cql_session_open(o->cluster, err);
    if (!session || !scan_plan_ask(&c->plan, session, err) ||
        !run_count(o->run, "rows", &rows, err) || !run_count(o->run, "documents", &documents, err))
        return false;
    if (o->where)
        LOG(LOG_INFO, "conditions", F_INT("by_server", (int64_t)c->plan.pushed_count),
            F_INT("here", (int64_t)c->plan.here_count));
    c->before = (uint64_t)rows;
    quota_init(&c->quota, o->limit, (uint64_t)documents, &c->crew, o->clock);
    if (o->limit && o->limit < UINT32_MAX && !c->plan.here_count)
        c->plan.most_rows = (uint32_t)o->limit;
    c->tasks = tasks_plan_sample(o->cluster, schema, o->resumable ? o->run : NULL, o->sample,
                                 c->plan.pushed_count ? FILTERED_RANGE_BYTES : RANGE_BYTES,
                                 4 * (size_t)o->workers, err);
    return c->tasks != NULL;
}

struct copy *copy_start(const struct copy_options *o, struct err *err)
{
    struct copy *c = xalloc(sizeof *c);

    c->o = *o;
    if (!plan_scan(c, err)) {
        scan_plan_fini(&c->plan);
        free(c);
        return NULL;
    }
    crew_init(&c->crew, o->cancel, NULL, NULL);
    room_init(&c->room, o->memory_bytes / 2, o->cancel);
    for (unsigned i = 0; i < o->workers; i++)
        crew_add(&c->crew, copy_work, c);
    return c;
}

bool copy_wait(struct copy *c, int64_t ms)
{
    return crew_wait(&c->crew, ms);
}

void copy_progress(struct copy *c, struct copy_progress *out)
{
    uint64_t rows = atomic_load(&c->rows);

    *out = (struct copy_progress){
        .done = c->before + rows, .before = c->before, .failed = atomic_load(&c->failed)};
    /* The server counts partitions; with clustering columns that says nothing about rows. */
    if (plan_schema(c->o.plan)->clustering_count == 0 && !c->o.where)
        out->total = tasks_estimated_rows(c->tasks);
    if (c->o.limit && (!out->total || out->total > c->o.limit))
        out->total = c->o.where ? 0 : c->o.limit;
    if (out->total < out->done)
        out->total = 0;
    crew_copy_note(&c->crew, out->note);
}

const struct count copy_count_list[] = {
    COUNT(copy_counts, rows),
    COUNT(copy_counts, filtered),
    COUNT(copy_counts, documents),
    COUNT(copy_counts, written),
    COUNT(copy_counts, failed),
    COUNT(copy_counts, bytes),
    COUNT(copy_counts, nan_to_null),
    COUNT(copy_counts, bad_utf8),
    COUNT(copy_counts, year_out_of_range),
    COUNT(copy_counts, bad_json),
    COUNT(copy_counts, lookup_missing),
    COUNT(copy_counts, unread_ranges),
    {NULL, 0},
};

bool copy_finish(struct copy *c, struct copy_counts *counts, struct err *err)
{
    struct err count_err = {0};

    *counts = (struct copy_counts){0};
    crew_join(&c->crew, err);
    if (!counts_read(c->o.run, copy_count_list, counts, &count_err) && err->kind == ERR_NONE)
        *err = count_err;
    if (err->kind == ERR_NONE)
        sink_file_sync(c->o.file, err);
    tasks_free(c->tasks);
    scan_plan_fini(&c->plan);
    crew_fini(&c->crew);
    quota_fini(&c->quota);
    room_fini(&c->room);
    free(c);
    return err->kind == ERR_NONE;
}

bool copy_conserved(const struct copy_counts *c)
{
    return c->rows == c->filtered + c->documents && c->documents == c->written + c->failed;
}
