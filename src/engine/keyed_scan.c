#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/keyed_parts.h"
#include "engine/tasks.h"

enum {
    RANGE_BYTES = 64 << 20,
    PAGE_BYTES = 256 << 10,
};

/* An element that is looked for. */
struct wanted {
    uint32_t element;
    const struct plan_query *query;
    struct wanted *next; /* of the same value */
};

struct search {
    struct keyed *k;
    struct wanted *list;
    size_t count;
    uint16_t keys;        /* cells of the key, which come first */
    uint16_t *cell_of;    /* for each cell of the plan: which of the scan it is */
    struct select *cells; /* of the scan */
    uint16_t cell_count;
    struct slice *values; /* of a row, in the plan's order */
    bool by_value;        /* all have one value for the same column: */
    uint16_t column;      /* cell of the plan */
    struct map values_of; /* to struct wanted */
};

static bool list_wanted(struct search *s, const struct json *ids, const bool *is_wanted,
                        struct err *err)
{
    struct keyed *k = s->k;
    uint32_t at = 0;

    s->list = xalloc((ids->count + 1) * sizeof *s->list);
    json_each (id, ids) {
        struct plan_query *q = is_wanted[at] ? arena_alloc(&k->query_mem, sizeof *q) : NULL;
        const char *reason;
        if (is_wanted[at] && (!q || !plan_query(k->plan, id, &k->query_mem, q, &reason, err)))
            return q ? false : keyed_no_memory(err);
        if (q)
            s->list[s->count++] = (struct wanted){.element = at, .query = q};
        at++;
    }
    return true;
}

/* The key, and the columns that conditions are about. */
static void choose_cells(struct search *s)
{
    const struct select *all = plan_selects(s->k->plan);
    uint16_t n = plan_column_count(s->k->plan);

    s->cell_of = xalloc(n * sizeof *s->cell_of);
    s->cells = xalloc(n * sizeof *s->cells);
    s->values = xalloc(n * sizeof *s->values);
    s->keys = plan_key_count(s->k->plan);
    for (uint16_t i = 0; i < n; i++)
        s->cell_of[i] = UINT16_MAX;
    for (uint16_t i = 0; i < s->keys; i++) {
        s->cell_of[i] = i;
        s->cells[s->cell_count++] = all[i];
    }
    for (size_t w = 0; w < s->count; w++) {
        const struct plan_query *q = s->list[w].query;
        for (uint16_t f = 0; f < q->after_count; f++) {
            uint16_t cell = q->after[f].cell;
            if (s->cell_of[cell] != UINT16_MAX)
                continue;
            s->cell_of[cell] = s->cell_count;
            s->cells[s->cell_count++] = all[cell];
        }
    }
}

/* A thousand batches are as quick to look for as one. */
static void index_values(struct search *s)
{
    s->column = s->list[0].query->after[0].cell;
    s->by_value = true;
    for (size_t i = 0; i < s->count; i++) {
        const struct plan_query *q = s->list[i].query;
        s->by_value = s->by_value && q->after_count == 1 && q->after[0].value_count == 1 &&
                      q->after[0].cell == s->column;
    }
    for (size_t i = 0; s->by_value && i < s->count; i++) {
        struct map_entry *e = map_put(&s->values_of, s->list[i].query->after[0].values[0], NULL);
        s->list[i].next = e->value;
        e->value = &s->list[i];
    }
}

static bool add_match(struct search *s, const struct wanted *w, struct err *err)
{
    const struct slice *key = keyed_keep_key(s->k, s->values);

    for (uint16_t i = 0; i < s->keys; i++)
        s->k->key_bytes += s->values[i].n;
    return key ? keyed_add_doc(s->k, w->element, w->query, key, err) : keyed_no_memory(err);
}

static bool holds(const struct search *s, const struct plan_query *q)
{
    for (uint16_t i = 0; i < q->after_count; i++)
        if (!plan_filter_holds(&q->after[i], s->values))
            return false;
    return true;
}

static bool take_row(struct search *s, const struct slice *cells, struct err *err)
{
    for (uint16_t i = 0; i < plan_column_count(s->k->plan); i++)
        s->values[i] = s->cell_of[i] == UINT16_MAX ? SLICE_NULL : cells[s->cell_of[i]];
    if (s->by_value) {
        struct slice value = s->values[s->column];
        struct map_entry *e = value.p ? map_get(&s->values_of, value) : NULL;
        for (const struct wanted *w = e ? e->value : NULL; w; w = w->next)
            if (!add_match(s, w, err))
                return false;
        return true;
    }
    for (size_t i = 0; i < s->count; i++)
        if (holds(s, s->list[i].query) && !add_match(s, &s->list[i], err))
            return false;
    return true;
}

static bool take_page(struct search *s, const struct page *page, struct err *err)
{
    struct row_cursor rows = page_rows(page);
    struct slice *cells = xalloc(page->columns->count * sizeof *cells);
    bool ok = true;

    while (ok && row_next(&rows, cells, err))
        ok = take_row(s, cells, err);
    ok = ok && err->kind == ERR_NONE;
    atomic_fetch_add(&s->k->o.scans->rows, page->row_count);
    free(cells);
    return ok && (s->k->doc_count == 0 || keyed_flush(s->k, err));
}

/* Which of the elements have rows in what can't be read is not known. */
static void fail_range(struct search *s, const struct err *why)
{
    for (size_t i = 0; i < s->count; i++) {
        struct keyed_result *r = &s->k->results[s->list[i].element];
        keyed_tell(r, "read_failed", why->text);
        r->counts.rows++;
        r->counts.documents++;
        r->counts.failed++;
    }
}

static bool read_range(struct search *s, struct cql_session *session, const struct scan_plan *plan,
                       const struct scan_task *task, struct err *err)
{
    AUTO(scan) struct scan *scan = keyed_scan_open(s->k, session, plan, task, PAGE_BYTES, 0, err);
    struct scan_page page;

    if (!scan)
        return false;
    for (;;) {
        if (cancel_level(s->k->o.cancel) > 0)
            return err_set(err, ERR_CANCEL, "stopped on request");
        if (!keyed_pay_rows(s->k, err))
            return false;
        if (scan_next(scan, &page, err)) {
            keyed_note_page(s->k, &page.page);
            retry_ok(&s->k->retry); /* also where nothing matches */
            if (!take_page(s, &page.page, err))
                return false;
        } else if (err->kind == ERR_NONE) {
            return true;
        } else if (err->kind == ERR_REJECT) {
            fail_range(s, err);
            err_clear(err);
            return true;
        } else if (!keyed_wait(s->k, "scan_retry", 0, err)) {
            return false;
        }
    }
}

static bool read_all(struct search *s, struct err *err)
{
    struct keyed *k = s->k;
    const struct schema *schema = plan_schema(k->plan);
    struct scan_plan plan;
    struct scan_task task;
    int32_t node = -1;
    bool ok = true;

    AUTO(tasks) struct tasks *tasks = tasks_plan(k->o.cluster, schema, NULL, RANGE_BYTES, 1, err);
    AUTO(cql_session)
    struct cql_session *session = tasks ? cql_session_open(k->o.cluster, err) : NULL;
    if (!session)
        return false;
    scan_plan_select(&plan, schema, s->cells, s->cell_count, NULL);
    while (ok && tasks_next(tasks, &node, &task))
        ok = read_range(s, session, &plan, &task, err);
    scan_plan_fini(&plan);
    return ok;
}

bool keyed_scan(struct keyed *k, const struct json *ids, const bool *is_wanted, struct err *err)
{
    struct search s = {.k = k};

    map_init(&s.values_of);
    bool ok = list_wanted(&s, ids, is_wanted, err);
    if (ok) {
        choose_cells(&s);
        index_values(&s);
        atomic_fetch_add(&k->o.scans->scans, 1);
        LOG(LOG_INFO, "filter_scan", F_STR("object", plan_object(k->plan)),
            F_INT("elements", s.count));
        ok = read_all(&s, err);
    }
    map_fini(&s.values_of);
    free(s.values);
    free(s.cells);
    free(s.cell_of);
    free(s.list);
    return ok;
}
