#include "engine/copy.h"

#include <stdlib.h>

#include "base/log.h"
#include "engine/crew.h"
#include "engine/tasks.h"
#include "engine/worker.h"
#include "mapping/row.h"

enum {
    PAGE_MAX_BYTES = 1 << 20, /* the knee of the measured curve */
    PAGE_MIN_BYTES = 32 << 10,
    PAGES_PER_WORKER = 4, /* one worked on, one on its way, their lines */
    RANGE_BYTES = 64 << 20,
    LINES_KEEP_BYTES = 4 << 20,
};

struct copy {
    struct copy_options o;
    struct crew crew;
    struct scan_plan plan;
    struct tasks *tasks;
    uint64_t before;
    atomic_uint_fast64_t rows;
    atomic_uint_fast64_t failed;
};

struct copier {
    struct copy *copy;
    struct row_writer *writer;
    struct tx *tx;
    struct buf lines;
    struct buf key;
    struct slice *cells;
    struct json_counts altered;
    uint64_t rows, failed;
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

/* The row's partition key as text, for the failures. */
static struct slice key_text(struct copier *p)
{
    const struct schema *s = p->copy->o.schema;

    buf_reset(&p->key);
    for (uint16_t i = 0; i < s->partition_key_count; i++) {
        struct err ignored = {0};

        if (i)
            buf_add_byte(&p->key, ':');
        if (!json_cell_text(&p->key, s->columns[i].type, p->cells[p->copy->plan.key_cells[i]],
                            &ignored))
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
 * the page. */
static bool add_line(struct copier *p, struct err *err)
{
    size_t start = p->lines.len;
    uint64_t altered_before = json_counts_sum(&p->altered);

    if (!row_write(p->writer, p->cells, &p->lines, &p->altered, err)) {
        if (err->kind != ERR_REJECT)
            return false;
        fail_row(p, "bad_value", err);
        return true;
    }
    if (p->copy->o.strict_values && json_counts_sum(&p->altered) > altered_before) {
        buf_cut(&p->lines, start);
        err_set(err, ERR_REJECT, "a value would be altered (--strict-values)");
        fail_row(p, "altered_value", err);
        return true;
    }
    buf_add_byte(&p->lines, '\n');
    return true;
}

static void count_page(struct copier *p)
{
    tx_count(p->tx, "rows", (int64_t)p->rows);
    tx_count(p->tx, "documents", (int64_t)p->rows);
    tx_count(p->tx, "written", (int64_t)(p->rows - p->failed));
    tx_count(p->tx, "failed", (int64_t)p->failed);
    tx_count(p->tx, "bytes", (int64_t)p->lines.len);
    tx_count(p->tx, "nan_to_null", (int64_t)p->altered.nan_to_null);
    tx_count(p->tx, "bad_utf8", (int64_t)p->altered.bad_utf8);
    tx_count(p->tx, "year_out_of_range", (int64_t)p->altered.year_out_of_range);
}

static bool take_page(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err)
{
    struct copier *p = ctx;
    struct row_cursor rows = page_rows(&page->page);

    if (page->page.shape_changed)
        return err_set(err, ERR_USER,
                       "the table's columns changed while it was read; run the command again");
    if (!p->writer)
        p->writer = row_writer_new(page->page.columns);
    p->altered = (struct json_counts){0};
    p->rows = p->failed = 0;
    buf_reset(&p->lines);
    while (row_next(&rows, p->cells, err)) {
        p->rows++;
        if (!add_line(p, err))
            return false;
    }
    if (err->kind != ERR_NONE)
        return false;
    if (p->copy->o.resumable)
        tasks_mark(p->tx, task, page);
    count_page(p);
    if (!sink_file_put(p->copy->o.file, buf_slice(&p->lines), commit_page, p, err))
        return false;
    atomic_fetch_add(&p->copy->rows, p->rows);
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

static bool copy_work(void *ctx, struct err *err)
{
    struct copy *c = ctx;
    struct copier p = {.copy = c, .tx = tx_new(c->o.run)};
    struct worker w = {
        .crew = &c->crew,
        .cluster = c->o.cluster,
        .plan = &c->plan,
        .tasks = c->tasks,
        .clock = c->o.clock,
        .retry_budget_ms = c->o.retry_budget_ms,
        .page_bytes = page_bytes(c),
        .take_page = take_page,
        .range_cut = range_cut,
        .range_failed = range_failed,
        .ctx = &p,
    };

    buf_init(&p.lines, c->o.memory_bytes > (64 << 20) ? c->o.memory_bytes : 64 << 20);
    buf_init(&p.key, 64 << 10);
    p.cells = xalloc(c->plan.column_count * sizeof *p.cells);
    bool ok = worker_run(&w, err);
    if (p.writer)
        row_writer_free(p.writer);
    tx_free(p.tx);
    buf_fini(&p.lines);
    buf_fini(&p.key);
    free(p.cells);
    return ok;
}

struct copy *copy_start(const struct copy_options *o, struct err *err)
{
    struct copy *c = xalloc(sizeof *c);
    uint16_t *columns = xalloc(o->schema->column_count * sizeof *columns);
    int64_t before = 0;

    c->o = *o;
    for (uint16_t i = 0; i < o->schema->column_count; i++)
        columns[i] = i;
    scan_plan_init(&c->plan, o->schema, columns, o->schema->column_count);
    /* A table of nothing but its partition key still is read by rows: every one is a document. */
    free(columns);
    c->tasks = tasks_plan(o->cluster, o->schema, o->resumable ? o->run : NULL, RANGE_BYTES,
                          4 * (size_t)o->workers, err);
    if (!c->tasks || !run_count(o->run, "rows", &before, err)) {
        if (c->tasks)
            tasks_free(c->tasks);
        scan_plan_fini(&c->plan);
        free(c);
        return NULL;
    }
    c->before = (uint64_t)before;
    crew_init(&c->crew, o->cancel, NULL, NULL);
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
    if (c->o.schema->clustering_count == 0)
        out->total = tasks_estimated_rows(c->tasks);
    if (out->total < out->done)
        out->total = 0;
    crew_copy_note(&c->crew, out->note);
}

bool copy_finish(struct copy *c, struct copy_counts *counts, struct err *err)
{
    const struct {
        const char *name;
        uint64_t *to;
    } list[] = {
        {"rows", &counts->rows},
        {"documents", &counts->documents},
        {"written", &counts->written},
        {"failed", &counts->failed},
        {"bytes", &counts->bytes},
        {"nan_to_null", &counts->nan_to_null},
        {"bad_utf8", &counts->bad_utf8},
        {"year_out_of_range", &counts->year_out_of_range},
        {"unread_ranges", &counts->unread_ranges},
    };
    struct err count_err = {0};

    *counts = (struct copy_counts){0};
    crew_join(&c->crew, err);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t n = 0;

        if (!run_count(c->o.run, list[i].name, &n, &count_err) && err->kind == ERR_NONE)
            *err = count_err;
        *list[i].to = (uint64_t)n;
    }
    if (err->kind == ERR_NONE)
        sink_file_sync(c->o.file, err);
    tasks_free(c->tasks);
    scan_plan_fini(&c->plan);
    crew_fini(&c->crew);
    free(c);
    return err->kind == ERR_NONE;
}

bool copy_conserved(const struct copy_counts *c)
{
    return c->rows == c->documents && c->documents == c->written + c->failed;
}
