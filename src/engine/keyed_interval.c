/*
 * Rows of a scan, read together: keys that stand next to each other in the table are read again by
 * few queries instead of one for each. Partitions that lie wholly within a round come by their
 * tokens; of the first and the last one, of which the round may hold a part only, rows come by name
 * (IN). A key without a row is gone; a row without a key is new, and kept for keyed_add_extras().
 * Whatever can't be read like that is left to be read by itself.
 */
#include "engine/keyed_parts.h"

#include <stdlib.h>

enum {
    GAP_DOCS = 8,      /* between two that are read together: their rows come in vain */
    FEWEST_DOCS = 4,   /* fewer are read by themselves */
    GROUP_DOCS = 100,  /* in one IN */
    REFUSALS_MAX = 10, /* of groups, then no more are tried */
    FIRST_ROWS = 16,   /* when it is not known how large they are */
};

struct interval {
    enum doc_state state; /* of the documents that are read for */
    size_t from, to;      /* in the round: from its first one wanted up to its last */
};

static bool is_wanted(const struct doc *d, enum doc_state state)
{
    return d->in_order && d->state == state && !d->was_read && (state == DOC_CHECK || d->looked);
}

static bool same_cells(const struct slice *a, const struct slice *b, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++)
        if (!a[i].p != !b[i].p || !slice_eq(a[i], b[i]))
            return false;
    return true;
}

static bool same_partition(const struct keyed *k, const struct doc *a, const struct doc *b)
{
    return a->token == b->token && same_cells(a->key, b->key, plan_partition_count(k->plan));
}

static void take_there(struct keyed *k, struct doc *d, const struct slice *cells,
                       int64_t read_at_us)
{
    d->was_read = true;
    d->read_at_us = read_at_us;
    if (d->state == DOC_CHECK)
        keyed_settle(k, d, DOC_INDEXED);
    else
        keyed_take_row(k, d, cells);
}

static void take_gone(struct keyed *k, struct doc *d, int64_t read_at_us)
{
    d->was_read = true;
    d->read_at_us = read_at_us;
    if (d->state == DOC_CHECK)
        keyed_undo(k, d);
    else
        keyed_no_row(k, d);
}

static void take_rest_gone(struct keyed *k, const struct interval *in, int64_t read_at_us)
{
    for (size_t i = in->from; i < in->to; i++)
        if (is_wanted(&k->round[i], in->state))
            take_gone(k, &k->round[i], read_at_us);
}

/* ---- statements --------------------------------------------------------------------------------
 */

/* (c1,c2) IN ((?,?),...), behind a statement that names the partition. */
static char *group_text(struct keyed *k, const char *partition)
{
    const struct schema *s = plan_schema(k->plan);
    uint16_t first = plan_partition_count(k->plan), end = plan_key_count(k->plan);
    struct buf b;

    buf_init(&b, 16 << 20);
    buf_printf(&b, "%s AND (", partition);
    for (uint16_t i = first; i < end; i++) {
        if (i > first)
            buf_add_byte(&b, ',');
        schema_add_quoted(&b, s->columns[i].name);
    }
    buf_add_str(&b, ") IN (");
    for (int n = 0; n < GROUP_DOCS; n++) {
        buf_add_str(&b, n ? ",(" : "(");
        for (uint16_t i = first; i < end; i++)
            buf_add_str(&b, i > first ? ",?" : "?");
        buf_add_byte(&b, ')');
    }
    buf_add_byte(&b, ')');
    char *text = xstrdup(buf_cstr(&b));
    buf_fini(&b);
    return text;
}

void keyed_forget_intervals(struct keyed *k)
{
    if (!k->interval_plan)
        return;
    scan_plan_fini(&k->interval_rows);
    scan_plan_fini(&k->interval_keys);
    free(k->group_rows);
    free(k->group_keys);
    k->group_rows = k->group_keys = NULL;
    k->interval_plan = NULL;
}

static void make_statements(struct keyed *k)
{
    const struct plan *p = k->plan;

    if (k->interval_plan == p)
        return;
    keyed_forget_intervals(k);
    scan_plan_select(&k->interval_rows, plan_schema(p), plan_selects(p), plan_column_count(p),
                     NULL);
    scan_plan_init(&k->interval_keys, plan_schema(p), plan_columns(p), plan_key_count(p));
    if (plan_key_count(p) > plan_partition_count(p)) {
        char *rows = plan_rows_text(p, plan_partition_count(p));
        k->group_rows = group_text(k, rows);
        k->group_keys = group_text(k, plan_keys_text(p, plan_partition_count(p)));
        free(rows);
    }
    k->interval_plan = p;
    k->group_refusals = 0;
}

/* ---- by tokens ---------------------------------------------------------------------------------
 */

/* The document of the row, at `*cursor` when nothing changed since the keys were read; NULL: there
 * is none. */
static struct doc *doc_of(struct keyed *k, const struct slice *cells, int64_t token, size_t *cursor)
{
    uint16_t keys = plan_key_count(k->plan);
    size_t low = 0, high = k->round_count;

    if (*cursor < high && same_cells(k->round[*cursor].key, cells, keys))
        return &k->round[(*cursor)++];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (k->round[middle].token < token)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < k->round_count && k->round[low].token == token; low++)
        if (same_cells(k->round[low].key, cells, keys)) {
            *cursor = low + 1;
            return &k->round[low];
        }
    return NULL;
}

static bool keep_extra(struct keyed *k, const struct slice *cells, struct err *err)
{
    for (size_t i = 0; i < k->extra_count; i++)
        if (same_cells(k->extras[i], cells, plan_key_count(k->plan)))
            return true;
    struct slice *key = keyed_keep_key(k, cells);
    if (!key) /* read again, they come as keys */
        return err_set(err, ERR_RETRY, "more new rows than there is memory for");
    if (k->extra_count == k->extra_cap) {
        k->extra_cap = k->extra_cap ? k->extra_cap * 2 : 64;
        k->extras = xrealloc(k->extras, k->extra_cap * sizeof *k->extras);
    }
    k->extras[k->extra_count++] = key;
    return true;
}

/* Partitions may share a token: another one at the ends may be of the rows before or behind. */
static bool is_between(const struct keyed *k, const struct interval *in, const struct slice *cells,
                       int64_t token)
{
    const struct doc *first = &k->round[in->from], *last = &k->round[in->to - 1];
    uint16_t n = plan_partition_count(k->plan);

    return (token != first->token && token != last->token) || same_cells(first->key, cells, n) ||
           same_cells(last->key, cells, n);
}

static bool take_row_of(struct keyed *k, const struct interval *in, const struct page *page,
                        const struct slice *cells, size_t *cursor, struct err *err)
{
    buf_reset(&k->text);
    cql_partition_key(cells, plan_partition_count(k->plan), &k->text);
    int64_t token = cql_token(buf_slice(&k->text));
    struct doc *d = doc_of(k, cells, token, cursor);

    if (d) {
        if (is_wanted(d, in->state))
            take_there(k, d, cells, page->read_at_us);
        return true;
    }
    return in->state != DOC_LOOK || k->o.only_keys || !is_between(k, in, cells, token) ||
           keep_extra(k, cells, err);
}

static bool take_page(struct keyed *k, const struct interval *in, const struct page *page,
                      size_t *cursor, struct err *err)
{
    bool whole = in->state == DOC_LOOK;
    struct row_cursor rows = page_rows(page);
    uint16_t columns = whole ? plan_column_count(k->plan) : plan_key_count(k->plan);

    if (!keyed_fits(k, page, columns, err))
        return false;
    struct slice *cells = xalloc(columns * sizeof *cells);
    while (row_next(&rows, cells, err) && take_row_of(k, in, page, cells, cursor, err))
        ;
    free(cells);
    if (whole && page->row_count) {
        keyed_note_answer(&k->row_answer_bytes, page->rows.n / page->row_count);
        k->round_bytes += page->rows.n;
    }
    return err->kind == ERR_NONE;
}

static uint32_t page_rows_of(const struct keyed *k, const struct interval *in)
{
    size_t all = in->to - in->from + 1; /* one more: so that the server sees the end */
    size_t fit = in->state == DOC_CHECK ? all
                 : k->row_answer_bytes  ? keyed_round_aim(k) / k->row_answer_bytes + 1
                                        : FIRST_ROWS;

    return (uint32_t)(fit < all ? fit : all);
}

static bool read_tokens(struct keyed *k, const struct interval *in, struct err *err)
{
    int64_t before = k->round[in->from].token - 1;
    struct scan_task task = {
        .range = {.start = before, .end = k->round[in->to - 1].token, .node = -1},
        .done_to = before};
    AUTO(scan) struct scan *scan = keyed_scan_open(
        k, k->session, in->state == DOC_LOOK ? &k->interval_rows : &k->interval_keys, &task,
        (uint32_t)keyed_round_aim(k), page_rows_of(k, in), err);
    size_t cursor = in->from;
    struct scan_page page = {0};

    while (scan) {
        if (scan_next(scan, &page, err)) {
            keyed_note_page(k, &page.page);
            if (!take_page(k, in, &page.page, &cursor, err))
                return false;
            if (!page.last)
                continue;
            take_rest_gone(k, in, page.page.read_at_us);
            return true;
        }
        if (err->kind == ERR_REJECT) { /* perhaps not all of them, one by one */
            err_clear(err);
            return true;
        }
        if (!keyed_wait(k, "read_retry", 0, err))
            return false;
    }
    return false;
}

/* ---- by names ----------------------------------------------------------------------------------
 */

struct group {
    struct interval in; /* of one partition */
    struct slice *values;
};

static bool take_group(struct keyed *k, struct read *r, const struct page *page,
                       const struct err *why, struct err *err)
{
    struct group *g = r->who;
    bool whole = g->in.state == DOC_LOOK;
    uint16_t columns = whole ? plan_column_count(k->plan) : plan_key_count(k->plan);
    size_t cursor = g->in.from;

    (void)why;
    if (!page) { /* one by one, then */
        k->group_refusals++;
        return true;
    }
    if (!keyed_fits(k, page, columns, err))
        return false;
    struct row_cursor rows = page_rows(page);
    struct slice *cells = xalloc(columns * sizeof *cells);
    while (row_next(&rows, cells, err)) {
        struct doc *d = doc_of(k, cells, k->round[g->in.from].token, &cursor);
        if (d && is_wanted(d, g->in.state))
            take_there(k, d, cells, page->read_at_us);
    }
    free(cells);
    if (err->kind != ERR_NONE)
        return false;
    if (whole)
        k->round_bytes += page->rows.n;
    if (page->last)
        take_rest_gone(k, &g->in, page->read_at_us);
    return true;
}

/* Not every server takes such a statement. */
static bool groups_work(struct keyed *k, const struct read *r, struct err *err)
{
    if (k->group_refusals >= REFUSALS_MAX)
        return false;
    struct cql_query q = keyed_query(k, r);
    struct cql_pager *pager = cql_pager_open(k->session, &q, err);

    if (pager)
        cql_pager_free(pager);
    else if (err->kind == ERR_USER || err->kind == ERR_REJECT)
        k->group_refusals = REFUSALS_MAX;
    if (err->kind == ERR_RETRY || k->group_refusals)
        err_clear(err);
    return pager != NULL;
}

/* Statements have one number of names: the last one fills up. */
static void name_group(struct keyed *k, struct group *g, struct read *r)
{
    uint16_t partition = plan_partition_count(k->plan), keys = plan_key_count(k->plan);
    size_t clustering = keys - partition, n = 0;

    g->values = xalloc((partition + clustering * GROUP_DOCS) * sizeof *g->values);
    memcpy(g->values, k->round[g->in.from].key, partition * sizeof *g->values);
    struct slice *at = g->values + partition;
    for (size_t i = g->in.from; i < g->in.to; i++)
        if (is_wanted(&k->round[i], g->in.state)) {
            memcpy(at + clustering * n, k->round[i].key + partition, clustering * sizeof *at);
            n++;
        }
    for (; n < GROUP_DOCS; n++)
        memcpy(at + clustering * n, at + clustering * (n - 1), clustering * sizeof *at);
    *r = (struct read){.text = g->in.state == DOC_LOOK ? k->group_rows : k->group_keys,
                       .values = g->values,
                       .value_count = (uint16_t)(partition + clustering * GROUP_DOCS),
                       .who = g};
}

/* Documents of one partition, from `from` on: as many as one statement names. */
static size_t next_group(struct keyed *k, size_t from, size_t to, struct group *g, size_t *members)
{
    size_t i = from;

    *members = 0;
    for (; i < to && *members < GROUP_DOCS && same_partition(k, &k->round[i], &k->round[from]); i++)
        if (is_wanted(&k->round[i], g->in.state))
            ++*members;
    g->in.from = from;
    g->in.to = i;
    return i;
}

static bool read_groups(struct keyed *k, size_t from, size_t to, enum doc_state state,
                        struct err *err)
{
    size_t most = (to - from) / FEWEST_DOCS + 1, count = 0, members;
    struct group *groups = xalloc(most * sizeof *groups);
    struct read *reads = xalloc(most * sizeof *reads);
    bool ok = true;

    while (from < to) {
        struct group *g = &groups[count];

        g->in.state = state;
        from = next_group(k, from, to, g, &members);
        if (members >= FEWEST_DOCS) {
            name_group(k, g, &reads[count]);
            count++;
        }
    }
    if (count && groups_work(k, &reads[0], err))
        ok = keyed_read_all(k, reads, count, take_group, &k->group_answer_bytes, err);
    for (size_t i = 0; i < count; i++)
        free(groups[i].values);
    free(reads);
    free(groups);
    return ok && err->kind == ERR_NONE;
}

/* ---- a round -----------------------------------------------------------------------------------
 */

/* The next documents that are wanted and stand close together. False: no more. */
static bool next_run(const struct keyed *k, size_t from, size_t to, struct interval *in,
                     size_t *members)
{
    *members = 0;
    for (size_t i = from; i < to; i++) {
        if (*members && i >= in->to + GAP_DOCS)
            break;
        if (!is_wanted(&k->round[i], in->state))
            continue;
        if (!(*members)++)
            in->from = i;
        in->to = i + 1;
    }
    return *members > 0;
}

static bool read_runs(struct keyed *k, size_t from, size_t to, enum doc_state state,
                      struct err *err)
{
    struct interval in = {.state = state, .to = from};
    size_t members;

    while (next_run(k, in.to, to, &in, &members))
        if (members >= FEWEST_DOCS && !read_tokens(k, &in, err))
            return false;
    return true;
}

bool keyed_read_intervals(struct keyed *k, enum doc_state state, struct err *err)
{
    size_t first = 0, last = k->round_count;

    if (!k->round[0].in_order)
        return true;
    make_statements(k);
    if (!k->group_rows)
        return read_runs(k, 0, last, state, err);
    while (first < k->round_count && same_partition(k, &k->round[first], &k->round[0]))
        first++;
    while (last > first && same_partition(k, &k->round[last - 1], &k->round[k->round_count - 1]))
        last--;
    return read_groups(k, 0, first, state, err) && read_runs(k, first, last, state, err) &&
           read_groups(k, last, k->round_count, state, err);
}

bool keyed_add_extras(struct keyed *k, struct err *err)
{
    static const struct plan_query whole;

    for (size_t i = 0; i < k->extra_count; i++) {
        struct doc *d = keyed_new_doc(k, 0, k->extras[i], err);
        if (!d)
            return false;
        d->query = &whole;
    }
    k->extra_count = 0;
    return true;
}
