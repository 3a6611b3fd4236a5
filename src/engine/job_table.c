#include "engine/job_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "engine/worker.h"
#include "mapping/json.h"
#include "model/value.h"

enum {
    SCAN_PAGE_BYTES =
        256 << 10, /* ids are small: the knee of the server's curve is at some thousands of rows */
    SCAN_FIRST_ROWS = 1000,
    SCAN_RANGE_BYTES = 64 << 20,
};

struct scanner {
    struct job *job;
    struct id_batch batch;
    struct tx *tx;
    struct slice *cells;
    struct slice *parts;
    struct buf last; /* the id that ended the page before */
};

static bool row_wanted(struct scanner *s, bool *wanted, struct err *err)
{
    struct job *j = s->job;

    *wanted = true;
    if (j->o.wanted_column < 0)
        return true;
    for (uint16_t i = 0; i < j->plan.column_count; i++) {
        if (j->plan.columns[i].column == j->o.wanted_column) {
            *wanted = s->cells[i].p != NULL;
            return !*wanted || idset_see(j->o.wanted, s->cells[i], wanted, err);
        }
    }
    ensure(false && "the wanted column is among those read");
    return false;
}

/* A cell that is its own text; a bad one is left to json_cell_text(), which says what is wrong. */
static bool is_text(const struct type *t, struct slice cell)
{
    return (t->kind == TYPE_TEXT || t->kind == TYPE_ASCII) && utf8_valid(cell);
}

/* The row's id: texts of its columns. A row without one of them (null) has no id: nothing is sent
 * for it. */
static bool add_row_id(struct scanner *s, struct err *err)
{
    struct job *j = s->job;
    struct id_batch *b = &s->batch;
    size_t ends[IDS_KEY_MAX];

    buf_reset(&b->part);
    for (uint16_t i = 0; i < j->o.field_count; i++) {
        const struct schema_column *c = &j->o.schema->columns[j->o.columns[i]];

        if (value_is_null(c->type, s->cells[i]))
            return true;
        if (j->o.field_count == 1 && is_text(c->type, s->cells[i])) {
            batch_add_parts(j, b, s->cells, 1);
            return true;
        }
        if (!json_cell_text(&b->part, c->type, s->cells[i], err))
            return err_wrap(err, "column %s", c->name);
        ends[i] = b->part.len;
    }
    for (uint16_t i = 0; i < j->o.field_count; i++) {
        size_t start = i ? ends[i - 1] : 0;
        s->parts[i] = slice_of(b->part.p + start, ends[i] - start);
    }
    batch_add_parts(j, b, s->parts, j->o.field_count);
    return true;
}

/* A partition that goes on over several pages repeats its id, and the ids of other workers' pages
 * lie between: what blocks_add() knows of the id before does not help. */
static const struct slice *drop_repeated(struct scanner *s, size_t *count)
{
    const struct slice *ids = batch_slices(&s->batch);
    size_t n = 0;

    while (n < s->batch.count && slice_eq(ids[n], buf_slice(&s->last)))
        n++;
    tx_count(s->tx, "ids", (int64_t)n);
    tx_count(s->tx, "duplicate", (int64_t)n);
    *count = s->batch.count - n;
    if (*count) {
        buf_reset(&s->last);
        buf_add_slice(&s->last, ids[s->batch.count - 1]);
    }
    return n ? ids + n : ids; /* an empty page has none */
}

static bool take_page(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err)
{
    struct scanner *s = ctx;
    struct job *j = s->job;
    struct row_cursor rows = page_rows(&page->page);

    batch_reset(&s->batch);
    while (row_next(&rows, s->cells, err)) {
        bool wanted;

        if (!row_wanted(s, &wanted, err))
            return false;
        if (!wanted || add_row_id(s, err))
            continue;
        if (err->kind != ERR_REJECT)
            return false;
        tx_failure(s->tx, slice_str("?"), "bad_value", err->text);
        tx_count(s->tx, "ids", 1);
        tx_count(s->tx, "bad", 1);
        err_clear(err);
    }
    if (err->kind != ERR_NONE)
        return false;
    /* What was seen is safe before the page counts as read. */
    if (j->o.wanted && !idset_flush(j->o.wanted, err))
        return false;
    tasks_mark(s->tx, task, page);
    atomic_fetch_add(&j->ids, s->batch.count);
    size_t count;
    const struct slice *ids = drop_repeated(s, &count);
    return blocks_add(j->blocks, ids, count, s->tx, err);
}

static bool range_cut(void *ctx, const struct scan_task *task, int64_t done_to, bool inside,
                      const char *why, struct err *err)
{
    return tasks_cut(((struct scanner *)ctx)->tx, task, done_to, inside, why, err);
}

static bool range_failed(void *ctx, const struct token_range *range, const char *why,
                         struct err *err)
{
    return tasks_note_unread(((struct scanner *)ctx)->tx, range, why, err);
}

static bool scan_table(void *ctx, struct err *err)
{
    struct job *j = ctx;
    struct scanner s = {.job = j};
    struct worker w = {
        .crew = &j->scanners,
        .cluster = j->o.cluster,
        .plan = &j->plan,
        .tasks = j->tasks,
        .clock = j->o.clock,
        .retry_budget_ms = j->o.retry_budget_ms,
        .page_bytes = SCAN_PAGE_BYTES,
        .first_rows = SCAN_FIRST_ROWS,
        .take_page = take_page,
        .range_cut = range_cut,
        .range_failed = range_failed,
        .ctx = &s,
    };

    batch_init(&s.batch);
    buf_init(&s.last, IDS_KEY_MAX * ID_MAX_BYTES);
    s.tx = tx_new(j->o.run);
    s.cells = xalloc(j->plan.column_count * sizeof *s.cells);
    s.parts = xalloc(j->o.field_count * sizeof *s.parts);
    bool ok = worker_run(&w, err);
    tx_free(s.tx);
    free(s.cells);
    free(s.parts);
    buf_fini(&s.last);
    batch_fini(&s.batch);
    return ok;
}

bool job_feed_table(struct job *j, struct err *err)
{
    uint16_t columns[IDS_KEY_MAX + 1];

    memcpy(columns, j->o.columns, j->o.field_count * sizeof *columns);
    uint16_t count = j->o.field_count;
    if (j->o.wanted_column >= 0)
        columns[count++] = (uint16_t)j->o.wanted_column;
    scan_plan_init(&j->plan, j->o.schema, columns, count);
    struct tasks *tasks = tasks_plan(j->o.cluster, j->o.schema, j->o.run, SCAN_RANGE_BYTES,
                                     4 * (size_t)j->o.scan_workers, err);
    if (!tasks)
        return false;
    pthread_mutex_lock(&j->lock);
    j->tasks = tasks;
    pthread_mutex_unlock(&j->lock);
    for (unsigned i = 0; i < j->o.scan_workers; i++)
        crew_add(&j->scanners, scan_table, j);
    return crew_join(&j->scanners, err);
}
