/*
 * Rows of other tables for many documents, by ranges of tokens. What a round wants of a table often
 * stands close together: children of a scan have the partition keys of the round's own rows, and a
 * table of names may be small, for ids as well. One query for all from the first key to the last
 * then costs the server a tenth of a read for each. Rows between that nobody wants come in vain; so
 * how densely a table is filled is noted, and where single reads are cheaper they stay. They also
 * do where a range can't be read: then one bad partition costs its own document only.
 */
#include "engine/keyed_parts.h"

#include <math.h>
#include <stdlib.h>

enum {
    FEWEST_KEYS = 4,
    VAIN_ROWS = 8,    /* for a key; a read of its own costs the server as much as twice as many */
    PROBE_ROWS = 256, /* of a page, while it is not known how many there are */
    SKIPS_MAX = 16,   /* then what is known of the table is old */
};

/* Of one of the plan's reads. */
struct keyed_range {
    struct scan_plan rows;
    double per_token; /* keys, by what was read last; negative: not known */
    double per_key;   /* rows */
    size_t row_bytes; /* 0: not known */
    size_t pieces;    /* of the ring, each a read for the server; 0: not known */
    unsigned skips;   /* rounds in a row that it was too much for */
};

struct wanted {
    int64_t token;
    struct fetched_rows *rows;
};

/* A range under way. */
struct reading {
    struct keyed_range *range;
    uint16_t read;
    const struct wanted *list; /* in the order of tokens */
    size_t count;
    struct slice *cells, *key; /* of a row */
    bool has_key;              /* of the row before, in the same page: */
    struct fetched_rows *rows; /* whose it is; NULL: nobody's, or filled by a level before */
    int64_t end;               /* token of the last row of the page before */
    size_t keys, came, vain;
    int64_t first_us; /* T of the first page; 0: there was none */
};

void keyed_forget_ranges(struct keyed *k)
{
    for (uint16_t i = 0; k->ranges && i < plan_read_count(k->ranges_plan); i++)
        if (k->ranges[i].rows.text)
            scan_plan_fini(&k->ranges[i].rows);
    free(k->ranges);
    k->ranges = NULL;
}

static void make_ranges(struct keyed *k)
{
    if (k->ranges && k->ranges_plan == k->plan)
        return;
    keyed_forget_ranges(k);
    k->ranges_plan = k->plan;
    k->ranges = xalloc(plan_read_count(k->plan) * sizeof *k->ranges);
    for (uint16_t i = 0; i < plan_read_count(k->plan); i++) {
        const struct plan_read *of = plan_read_at(k->plan, i);
        struct keyed_range *range = &k->ranges[i];

        *range = (struct keyed_range){.per_token = -1};
        if (!of->by_partition)
            continue;
        scan_plan_select(&range->rows, of->schema, of->selects, of->select_count, NULL);
        range->rows.last_is_told = true;
    }
}

static int64_t token_of(struct keyed *k, const struct slice *key, uint16_t count)
{
    buf_reset(&k->text);
    cql_partition_key(key, count, &k->text);
    return cql_token(buf_slice(&k->text));
}

static int by_token(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    return x->token < y->token ? -1 : x->token > y->token;
}

/* What this read still has to bring, by token. */
static size_t list_wanted(struct keyed *k, uint16_t read, struct wanted *list)
{
    size_t n = 0;

    for (size_t i = 0; i < fetched_count(&k->fetched); i++) {
        struct fetched_rows *rows = fetched_at(&k->fetched, i);
        if (rows->read == read && !rows->filled)
            list[n++] = (struct wanted){token_of(k, rows->key, rows->key_count), rows};
    }
    qsort(list, n, sizeof *list, by_token);
    return n;
}

/* ---- does it pay -------------------------------------------------------------------------------
 */

static double tokens_between(int64_t before, int64_t last)
{
    return (double)((uint64_t)last - (uint64_t)before);
}

/* For the server a range is at least one read in each part of the ring that it crosses. Rows of the
 * own partitions of a scan's round are all in one: tasks are cut like that. */
static bool crosses_little(struct keyed *k, const struct reading *r)
{
    const struct token_range all = {.start = INT64_MIN, .end = INT64_MAX, .node = -1};
    int64_t first = r->list[0].token, last = r->list[r->count - 1].token;
    struct keyed_range *range = r->range;
    struct cql_ranges ranges;
    struct err why = {0};

    if (k->round[0].in_order && first >= k->round[0].token &&
        last <= k->round[k->round_count - 1].token)
        return true;
    if (!range->pieces &&
        cql_ranges_plan(k->o.cluster, range->rows.schema, &all, 1, UINT64_MAX, 1, &ranges, &why)) {
        range->pieces = ranges.count;
        cql_ranges_fini(&ranges);
    }
    double share = tokens_between(first, last) / tokens_between(INT64_MIN, INT64_MAX);
    return range->pieces && (double)range->pieces * share + 1 <= (double)r->count / 2;
}

/* rows: as many are expected; negative: that is not known. */
static bool pays(struct keyed *k, const struct reading *r, double *rows)
{
    struct keyed_range *range = r->range;

    if (!crosses_little(k, r))
        return false;
    double keys =
        range->per_token * tokens_between(r->list[0].token - 1, r->list[r->count - 1].token);
    *rows = keys * range->per_key;
    if ((keys - (double)r->count) * range->per_key <= (double)(VAIN_ROWS * r->count)) {
        range->skips = 0;
        return true;
    }
    if (++range->skips < SKIPS_MAX)
        return false;
    range->skips = 0;
    *rows = -1;
    return true;
}

static uint32_t first_rows(const struct keyed *k, const struct keyed_range *range, double expected)
{
    size_t fit = range->row_bytes ? keyed_round_aim(k) / range->row_bytes + 1 : 0;
    double rows = (expected < 0 ? 0 : expected + expected / 4) + (double)PROBE_ROWS;

    return rows < (double)fit ? (uint32_t)rows : (uint32_t)fit;
}

/* ---- reading -----------------------------------------------------------------------------------
 */

/* Whose the row is; NULL: nobody wants it. */
static struct fetched_rows *rows_of(struct keyed *k, struct reading *r)
{
    const uint16_t *cell = r->range->rows.key_cells;
    uint16_t keys = r->range->rows.schema->partition_key_count;
    bool same = r->has_key;

    for (uint16_t i = 0; i < keys; i++) {
        same = same && slice_eq(r->key[i], r->cells[cell[i]]);
        r->key[i] = r->cells[cell[i]];
    }
    if (same)
        return r->rows;
    if (r->has_key || !r->came || token_of(k, r->key, keys) != r->end)
        r->keys++;
    r->has_key = true;
    r->rows = fetched_get(&k->fetched, r->read, r->key, keys);
    if (r->rows && r->rows->filled)
        r->rows = NULL;
    return r->rows;
}

/* How the table is filled from the range's first token to this one. */
static void note_density(const struct reading *r, int64_t last)
{
    r->range->per_token = (double)r->keys / tokens_between(r->list[0].token - 1, last);
    r->range->per_key = r->keys ? (double)r->came / (double)r->keys : 0;
}

/* Most of what came so far is nobody's. */
static bool is_in_vain(struct keyed *k, struct reading *r)
{
    size_t passed = 0;

    if (!r->has_key)
        return false;
    r->end = token_of(k, r->key, r->range->rows.schema->partition_key_count);
    while (passed < r->count && r->list[passed].token <= r->end)
        passed++;
    if (r->vain <= VAIN_ROWS * (passed + FEWEST_KEYS))
        return false;
    note_density(r, r->end);
    return true;
}

/* k->fetched_full, or all rows are taken. */
static bool take_page(struct keyed *k, struct reading *r, const struct page *page, struct err *err)
{
    struct row_cursor rows = page_rows(page);
    const struct schema *of = r->range->rows.schema;

    if (!scan_fits(&r->range->rows, page->columns))
        return err_set(err, ERR_USER, "table %s.%s changed; start again", of->keyspace, of->table);
    if (!r->first_us)
        r->first_us = page->read_at_us;
    if (page->row_count)
        keyed_note_answer(&r->range->row_bytes, page->rows.n / page->row_count);
    r->has_key = false; /* its bytes are gone */
    while (!k->fetched_full && row_next(&rows, r->cells, err)) {
        struct fetched_rows *to = rows_of(k, r);

        r->came++;
        r->vain += to == NULL;
        if (to)
            k->fetched_full = !fetched_add(&k->fetched, to, r->cells,
                                           plan_read_at(k->plan, r->read)->select_count);
    }
    return err->kind == ERR_NONE;
}

static void fill_all(struct keyed *k, const struct reading *r)
{
    note_density(r, r->list[r->count - 1].token);
    for (size_t i = 0; i < r->count; i++)
        fetched_fill(&k->fetched, r->list[i].rows, r->first_us, NULL);
}

/* Not again soon. */
static void refuse(struct keyed_range *range)
{
    range->per_token = INFINITY;
    range->per_key = 1;
}

/* What is not filled then is left to single reads, which begin anew. */
static bool read_pages(struct keyed *k, struct reading *r, struct scan *scan, struct err *err)
{
    struct scan_page page = {0};

    for (;;) {
        if (scan_next(scan, &page, err)) {
            keyed_note_page(k, &page.page);
            if (!take_page(k, r, &page.page, err))
                return false;
            if (k->fetched_full)
                return true;
            if (page.last)
                return fill_all(k, r), true;
            if (is_in_vain(k, r))
                return true;
        } else if (err->kind == ERR_REJECT || err->kind == ERR_USER) {
            refuse(r->range);
            return err_clear(err), true;
        } else if (!keyed_wait(k, "read_retry", 0, err)) {
            return false;
        }
    }
}

static bool read_range(struct keyed *k, struct reading *r, struct err *err)
{
    int64_t before = r->list[0].token - 1;
    struct scan_task task = {
        .range = {.start = before, .end = r->list[r->count - 1].token, .node = -1},
        .done_to = before};
    double rows;

    if (!pays(k, r, &rows))
        return true;
    AUTO(scan) struct scan *scan =
        keyed_scan_open(k, k->session, &r->range->rows, &task, (uint32_t)keyed_round_aim(k),
                        first_rows(k, r->range, rows), err);
    if (scan) {
        r->cells = xalloc(r->range->rows.column_count * sizeof *r->cells);
        r->key = xalloc(r->range->rows.schema->partition_key_count * sizeof *r->key);
        read_pages(k, r, scan, err);
        free(r->key);
        free(r->cells);
    } else if (err->kind == ERR_REJECT || err->kind == ERR_USER) { /* not every server takes it */
        refuse(r->range);
        err_clear(err);
    }
    return err->kind == ERR_NONE;
}

bool keyed_read_ranges(struct keyed *k, struct err *err)
{
    struct wanted *list;
    bool ok = true;

    make_ranges(k);
    list = xalloc((fetched_count(&k->fetched) + 1) * sizeof *list);
    for (uint16_t i = 0; ok && i < plan_read_count(k->plan) && !k->fetched_full; i++) {
        struct reading r = {.range = &k->ranges[i], .read = i, .list = list};

        if (!plan_read_at(k->plan, i)->by_partition)
            continue;
        r.count = list_wanted(k, i, list);
        ok = r.count < FEWEST_KEYS || read_range(k, &r, err);
    }
    free(list);
    return ok;
}
