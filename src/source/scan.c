#include "source/scan.h"

#include <stdlib.h>

enum { FIRST_ROWS = 50, MAX_ROWS = 10000, WHOLE_PAGES = 64, ROW_MAX_BYTES = 64 << 20 };

static void add_token_call(struct buf *b, const struct schema *s)
{
    buf_add_str(b, "token(");
    for (uint16_t i = 0; i < s->partition_key_count; i++) {
        if (i)
            buf_add_byte(b, ',');
        schema_add_quoted(b, s->columns[i].name);
    }
    buf_add_byte(b, ')');
}

static char *statement_text(const struct scan_plan *p)
{
    struct buf b;

    buf_init(&b, 16 << 20);
    buf_add_str(&b, p->partitions_only ? "SELECT DISTINCT " : "SELECT ");
    for (uint16_t i = 0; i < p->column_count; i++) {
        if (i)
            buf_add_byte(&b, ',');
        select_add_text(&b, p->schema, p->columns[i]);
    }
    buf_add_str(&b, " FROM ");
    schema_add_name(&b, p->schema);
    buf_add_str(&b, " WHERE ");
    add_token_call(&b, p->schema);
    buf_add_str(&b, " > ? AND ");
    add_token_call(&b, p->schema);
    buf_add_str(&b, " <= ?");
    for (size_t i = 0; i < (p->where ? p->where->count : 0); i++) {
        if (!p->is_pushed[i])
            continue;
        buf_add_str(&b, " AND ");
        where_add_cql(&b, p->schema, &p->where->list[i]);
    }
    if (p->pushed_count)
        buf_add_str(&b, " ALLOW FILTERING");
    char *text = xstrdup(buf_cstr(&b));
    buf_fini(&b);
    return text;
}

/* Where in the result the column is; added where it is missing. */
static uint16_t cell_of(struct scan_plan *p, uint16_t column)
{
    const struct select which = {column, SELECT_COLUMN};

    for (uint16_t i = 0; i < p->column_count; i++)
        if (select_eq(p->columns[i], which))
            return i;
    p->columns[p->column_count] = which;
    return p->column_count++;
}

/* Statement and values for the conditions that are pushed. */
static void make_statement(struct scan_plan *p)
{
    size_t count = p->where ? p->where->count : 0;

    p->column_count = p->own_count;
    p->value_count = 0;
    p->pushed_count = p->here_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct where_condition *c = &p->where->list[i];

        p->pushed_count += p->is_pushed[i];
        p->here_count += !p->is_pushed[i];
        if (!p->is_pushed[i])
            p->where_cells[i] = cell_of(p, c->column);
        for (uint32_t v = 0; p->is_pushed[i] && v < c->value_count; v++)
            p->values[p->value_count++] = c->values[v];
    }
    free(p->text);
    p->text = statement_text(p);
}

void scan_plan_select(struct scan_plan *p, const struct schema *schema,
                      const struct select *columns, uint16_t count, const struct where *where)
{
    size_t conditions = where ? where->count : 0;
    size_t values = 0;

    *p = (struct scan_plan){.schema = schema, .where = where, .partitions_only = !conditions};
    ensure(count + schema->partition_key_count + conditions <= UINT16_MAX);
    p->columns = xalloc((count + schema->partition_key_count + conditions) * sizeof *p->columns);
    for (uint16_t i = 0; i < count; i++) {
        p->columns[p->column_count++] = columns[i];
        if (schema->columns[columns[i].column].kind != COLUMN_PARTITION_KEY && !schema->partitions)
            p->partitions_only = false;
    }
    p->key_cells = xalloc(schema->partition_key_count * sizeof *p->key_cells);
    for (uint16_t key = 0; key < schema->partition_key_count; key++)
        p->key_cells[key] = cell_of(p, key);
    p->where_cells = xalloc(conditions * sizeof *p->where_cells);
    p->is_pushed = xalloc(conditions * sizeof *p->is_pushed);
    for (size_t i = 0; i < conditions; i++)
        values += where->list[i].value_count;
    p->own_count = p->column_count;
    ensure(values < UINT16_MAX - 2 && "where_parse() takes fewer");
    p->values = xalloc(values * sizeof *p->values);
    make_statement(p);
}

void scan_plan_init(struct scan_plan *p, const struct schema *schema, const uint16_t *columns,
                    uint16_t count)
{
    struct select *selects = xalloc(count * sizeof *selects);

    for (uint16_t i = 0; i < count; i++)
        selects[i] = (struct select){columns[i], SELECT_COLUMN};
    scan_plan_select(p, schema, selects, count, NULL);
    free(selects);
}

void scan_plan_fini(struct scan_plan *p)
{
    free(p->columns);
    free(p->key_cells);
    free(p->is_pushed);
    free(p->where_cells);
    free(p->values);
    free(p->text);
    *p = (struct scan_plan){0};
}

bool scan_plan_holds(const struct scan_plan *p, const struct slice *cells)
{
    for (size_t i = 0; i < p->where->count; i++) {
        if (!p->is_pushed[i] && !where_holds(&p->where->list[i], cells[p->where_cells[i]]))
            return false;
    }
    return true;
}

bool scan_count_wanted(const struct scan_plan *p, const struct page *page, struct slice *cells,
                       uint64_t *out, struct err *err)
{
    struct row_cursor rows = page_rows(page);

    *out = page->row_count;
    if (!p->here_count)
        return true;
    *out = 0;
    while (row_next(&rows, cells, err))
        *out += scan_plan_holds(p, cells);
    return err->kind == ERR_NONE;
}

bool scan_fits(const struct scan_plan *p, const struct columns *c)
{
    if (c->count != p->column_count)
        return false;
    for (uint16_t i = 0; i < c->count; i++) {
        struct select want = p->columns[i];

        if (!type_equal(c->list[i].type, select_type(p->schema, want)) ||
            (want.what == SELECT_COLUMN &&
             !slice_is(c->list[i].name, p->schema->columns[want.column].name)))
            return false;
    }
    return true;
}

/* One token wide: some things are refused only by what runs. */
static bool try_statement(struct scan_plan *p, struct cql_session *s, bool *taken, struct err *err)
{
    const struct scan_task one = {.range = {.start = 0, .end = 1, .node = -1}, .done_to = 0};
    struct scan_page page;

    make_statement(p);
    AUTO(scan) struct scan *scan = scan_open(s, p, &one, 0, 1, 1, err);
    *taken = scan && (scan_next(scan, &page, err) || err->kind == ERR_NONE);
    if (*taken || (err->kind != ERR_USER && err->kind != ERR_REJECT))
        return *taken;
    return true;
}

bool scan_plan_ask(struct scan_plan *p, struct cql_session *s, struct err *err)
{
    size_t count = p->where ? p->where->count : 0;
    bool taken = false;

    if (!count)
        return true;
    for (size_t i = 0; i < count; i++)
        p->is_pushed[i] = where_has_cql(&p->where->list[i]);
    if (!try_statement(p, s, &taken, err))
        return false;
    for (size_t i = 0; i < count && !taken; i++)
        p->is_pushed[i] = false;
    for (size_t i = 0; i < count && !taken && count > 1; i++) {
        bool ok = false;

        err_clear(err);
        if (!where_has_cql(&p->where->list[i]))
            continue;
        p->is_pushed[i] = true;
        if (!try_statement(p, s, &ok, err))
            return false;
        p->is_pushed[i] = ok;
    }
    if (taken)
        return true;
    err_clear(err);
    return try_statement(p, s, &taken, err) && taken;
}

struct scan {
    const struct scan_plan *plan;
    struct cql_session *session;
    struct scan_task task;
    struct cql_pager *pager;
    bool by_state; /* entered by a paging state that another process left */
    uint32_t target_bytes;
    uint64_t rows_seen;
    uint64_t bytes_seen;
    uint32_t page_rows;
    uint32_t most_rows; /* less after a page that did not come */
    int64_t done_to;
    struct slice *cells;     /* of one row */
    struct slice *key_cells; /* the partition key among them, in key order */
    struct scan_page *out;   /* given last */
    bool alone;
};

static bool open_pager(struct scan *s, int64_t start, struct slice state, struct err *err)
{
    uint64_t from = __builtin_bswap64((uint64_t)start);
    uint64_t to = __builtin_bswap64((uint64_t)s->task.range.end);
    size_t more = s->plan->value_count;
    struct slice *values = xalloc((2 + more) * sizeof *values);
    struct cql_query q = {.text = s->plan->text,
                          .values = values,
                          .value_count = (uint16_t)(2 + more),
                          .consistency = s->plan->consistency,
                          .page_rows = s->page_rows,
                          .has_token = true,
                          .token = s->task.range.end,
                          .keyspace = s->plan->schema->keyspace,
                          .paging_state = state};

    values[0] = slice_of(&from, sizeof from);
    values[1] = slice_of(&to, sizeof to);
    if (more)
        memcpy(values + 2, s->plan->values, more * sizeof *values);
    s->pager = cql_pager_open(s->session, &q, err);
    free(values);
    if (s->pager && s->alone)
        cql_pager_set_prefetch(s->pager, false);
    return s->pager != NULL;
}

static uint32_t cap_rows(const struct scan *s, uint32_t rows)
{
    uint32_t most =
        s->plan->most_rows && s->plan->most_rows < MAX_ROWS ? s->plan->most_rows : MAX_ROWS;

    return rows < most ? rows : most;
}

struct scan *scan_open(struct cql_session *session, const struct scan_plan *plan,
                       const struct scan_task *task, uint32_t target_bytes, uint32_t first_rows,
                       uint32_t most_rows, struct err *err)
{
    AUTO(scan) struct scan *s = xalloc(sizeof *s);

    s->plan = plan;
    s->session = session;
    s->task = *task;
    s->target_bytes = target_bytes;
    s->page_rows = first_rows ? first_rows : FIRST_ROWS;
    s->most_rows = cap_rows(s, most_rows ? most_rows : MAX_ROWS);
    if (s->page_rows > s->most_rows)
        s->page_rows = s->most_rows;
    s->done_to = task->done_to;
    s->by_state = task->state.p != NULL;
    s->cells = xalloc(plan->column_count * sizeof *s->cells);
    s->key_cells = xalloc(plan->schema->partition_key_count * sizeof *s->key_cells);
    /* A state belongs to the very query it came from: the same ends of the range. */
    if (!open_pager(s, s->by_state ? task->range.start : task->done_to, task->state, err))
        return NULL;
    return TAKE(s);
}

void scan_free(struct scan *s)
{
    if (s->pager)
        cql_pager_free(s->pager);
    free(s->cells);
    free(s->key_cells);
    free(s);
}

void scan_set_alone(struct scan *s, bool alone)
{
    s->alone = alone;
    if (s->pager)
        cql_pager_set_prefetch(s->pager, !alone);
}

void scan_trim(struct scan *s)
{
    s->out = NULL;
    if (s->pager)
        cql_pager_trim(s->pager);
}

uint32_t scan_row_bytes(const struct scan *s)
{
    return s->rows_seen ? (uint32_t)(s->bytes_seen / s->rows_seen) + 1 : 0;
}

uint32_t scan_most_rows(const struct scan *s)
{
    return s->most_rows;
}

static void size_next_page(struct scan *s, const struct page *page)
{
    s->rows_seen += page->row_count;
    s->bytes_seen += page->rows.n;
    if (!page->row_count)
        return;
    /* What came last counts most: rows of a table differ by range. */
    uint64_t row_bytes = page->rows.n / page->row_count + 1;
    uint64_t rows = s->target_bytes / row_bytes;
    if (rows > (uint64_t)s->page_rows * 8)
        rows = (uint64_t)s->page_rows * 8;
    s->most_rows = cap_rows(s, s->most_rows + s->most_rows / 8 + 1);
    s->page_rows = (uint32_t)(rows < 1 ? 1 : rows > s->most_rows ? s->most_rows : rows);
    cql_pager_set_rows(s->pager, s->page_rows);
}

/* Perhaps the page was too much: for the server's time-out, or for the largest answer we take. */
static void ask_for_less(struct scan *s)
{
    s->most_rows = s->page_rows > 4 ? s->page_rows / 4 : 1;
    s->page_rows = s->most_rows;
    if (s->pager)
        cql_pager_set_rows(s->pager, s->page_rows);
}

/* The token of the row's partition. */
static int64_t row_token(const struct scan *s, const struct slice *cells)
{
    uint16_t keys = s->plan->schema->partition_key_count;
    struct buf key;

    for (uint16_t i = 0; i < keys; i++)
        s->key_cells[i] = cells[s->plan->key_cells[i]];
    buf_init(&key, 1 << 20);
    cql_partition_key(s->key_cells, keys, &key);
    int64_t token = cql_token(buf_slice(&key));
    buf_fini(&key);
    return token;
}

void scan_last_row(struct scan *s, const struct slice *cells)
{
    if (s->out->last)
        return;
    int64_t token = row_token(s, cells);
    if (s->plan->partitions_only) {
        s->done_to = token;
    } else {
        s->out->inside = true;
        if (token > INT64_MIN && token - 1 > s->done_to)
            s->done_to = token - 1;
    }
    s->out->done_to = s->done_to;
}

/* Walks through the page to its last row. */
static bool find_last_row(struct scan *s, const struct page *page, struct err *err)
{
    struct row_cursor rows = page_rows(page);

    while (row_next(&rows, s->cells, err))
        ;
    if (err->kind != ERR_NONE)
        return false;
    if (page->row_count)
        scan_last_row(s, s->cells);
    return true;
}

static bool next_page(struct scan *s, struct page *page, struct err *err)
{
    if (cql_pager_next(s->pager, page, err))
        return true;
    /* A state of another process may be refused (an upgrade in between): begin behind the last
     * complete partition. */
    if (!s->by_state || (err->kind != ERR_USER && err->kind != ERR_REJECT))
        return false;
    s->by_state = false;
    cql_pager_free(s->pager);
    s->pager = NULL;
    err_clear(err);
    return open_pager(s, s->task.done_to, SLICE_NULL, err) && cql_pager_next(s->pager, page, err);
}

bool scan_next(struct scan *s, struct scan_page *out, struct err *err)
{
    struct page page; /* the one before stays what it was when none comes */

    if (!next_page(s, &page, err)) {
        if (err->kind == ERR_RETRY)
            ask_for_less(s);
        return false;
    }
    out->page = page;
    /* Rows are taken apart into as many cells as were asked for. */
    if (out->page.columns->count != s->plan->column_count)
        return err_set(err, ERR_USER, "%s: %u columns came, %u were asked for", out->page.node,
                       out->page.columns->count, s->plan->column_count);
    s->by_state = false;
    size_next_page(s, &out->page);
    out->last = out->page.last;
    out->state = cql_pager_state(s->pager);
    out->inside = false;
    if (out->last)
        s->done_to = s->task.range.end;
    out->done_to = s->done_to;
    out->scan = s;
    s->out = out;
    return out->last || s->plan->last_is_told || find_last_row(s, &out->page, err);
}

/* ---- a partition's end -------------------------------------------------------------------------
 */

static bool reads_whole_key(const struct scan_plan *p)
{
    unsigned keys = p->schema->partition_key_count + (unsigned)p->schema->clustering_count;
    unsigned found = 0;

    for (uint16_t i = 0; i < p->column_count; i++)
        found += p->columns[i].what == SELECT_COLUMN && p->columns[i].column < keys;
    return found == keys;
}

/* The page's last row, all cells of it; as it was before when there is none. */
static bool keep_last_row(struct scan *s, const struct page *page, struct buf *row)
{
    struct row_cursor rows = page_rows(page);
    struct slice last = SLICE_NULL;
    struct err ignored = {0};

    for (;;) {
        struct slice at = rows.rest;

        if (!row_next(&rows, s->cells, &ignored))
            break;
        last = slice_of(at.p, at.n - rows.rest.n);
    }
    if (ignored.kind != ERR_NONE)
        return false;
    if (last.p) {
        buf_reset(row);
        buf_add_slice(row, last);
    }
    return !row->full;
}

/* The row that is the last of the partition now; empty: unknown. */
static void read_last_row(struct scan *s, struct buf *row)
{
    struct token_range one = {.start = s->done_to, .end = s->done_to + 1, .node = -1};
    struct scan_task task = {.range = one, .done_to = one.start};
    struct scan_page page;
    struct err ignored = {0};
    AUTO(scan) struct scan *again = scan_open(s->session, s->plan, &task, s->target_bytes,
                                              s->page_rows, s->most_rows, &ignored);

    for (int i = 0; again && i < WHOLE_PAGES; i++) {
        if (!scan_next(again, &page, &ignored) || !keep_last_row(again, &page.page, row))
            break;
        if (page.last)
            return;
    }
    buf_reset(row);
}

/* What was in the way may lie in this partition or behind it: where it can be read alone up to the
 * very row that came last, it lies behind. */
bool scan_ended_whole(struct scan *s)
{
    struct buf came, last;

    if (!s->out || !s->out->inside || !reads_whole_key(s->plan))
        return false;
    buf_init(&came, ROW_MAX_BYTES);
    buf_init(&last, ROW_MAX_BYTES);
    if (keep_last_row(s, &s->out->page, &came) && came.len)
        read_last_row(s, &last);
    bool whole = last.len && slice_eq(buf_slice(&came), buf_slice(&last));
    buf_fini(&last);
    buf_fini(&came);
    return whole;
}
