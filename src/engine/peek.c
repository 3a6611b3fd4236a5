#include "engine/peek.h"

#include <stdlib.h>
#include <string.h>

#include "engine/fetch.h"

enum {
    QUERY_MAX_BYTES = 64 << 20,
    DOCUMENT_MAX_BYTES = 64 << 20,
    KEY_MAX_BYTES = 1 << 20,
};

struct peek {
    const struct plan *plan;
    struct cql_session *session;
    void (*take)(void *ctx, const struct peeked *row);
    void *ctx;
    struct arena mem;
    struct plan_query query;
    struct fetch fetch; /* over a session of its own: ours has the next page on its way */
    struct buf key, id, routing, document;
};

static void add_key(struct peek *s, const struct slice *cells)
{
    const struct schema *schema = plan_schema(s->plan);

    for (uint16_t i = 0; i < plan_key_count(s->plan) && (cells[i].p || !i); i++) {
        struct err ignored = {0};

        if (i)
            buf_add_byte(&s->key, ':');
        if (!json_cell_text(&s->key, schema->columns[i].type, cells[i], &ignored))
            buf_add_byte(&s->key, '?');
    }
}

static bool wants(struct peek *s, const struct slice *cells)
{
    for (uint16_t i = 0; i < s->query.after_count; i++)
        if (!plan_filter_holds(&s->query.after[i], cells))
            return false;
    return true;
}

/* False: ERR_REJECT, and out->reason says why; or what stops everything. */
static bool make(struct peek *s, const struct slice *cells, struct peeked *out, struct err *err)
{
    out->reason = PLAN_FILTERED;
    if (!plan_holds(s->plan, cells, &s->fetch.work))
        return err_set(err, ERR_REJECT, "the mapping's where leaves it out");
    out->reason = "bad_document_id";
    if (!plan_id(s->plan, cells, &s->id, err))
        return false;
    out->id = buf_slice(&s->id);
    out->reason = "bad_routing";
    if (plan_has_routing(s->plan)) {
        if (!plan_routing(s->plan, cells, &s->routing, err))
            return false;
        out->routing = buf_slice(&s->routing);
    }
    if (!fetch_document(&s->fetch, cells, out->id, &s->document, &out->counts, err)) {
        out->reason = s->fetch.work.reason;
        return false;
    }
    out->reason = "";
    out->document = buf_slice(&s->document);
    return true;
}

static bool take_row(struct peek *s, const struct slice *cells, struct err *err)
{
    struct peeked row = {0};

    if (!wants(s, cells))
        return true;
    buf_reset(&s->key);
    buf_reset(&s->id);
    buf_reset(&s->routing);
    buf_reset(&s->document);
    add_key(s, cells);
    if (!make(s, cells, &row, err) && err->kind != ERR_REJECT)
        return false;
    row.key = buf_slice(&s->key);
    row.text = err->text;
    s->take(s->ctx, &row);
    err_clear(err);
    return true;
}

static bool take_page(struct peek *s, const struct page *page, struct err *err)
{
    struct row_cursor rows = page_rows(page);
    struct slice *cells = NULL;
    bool ok = true;

    if (page->columns->count != plan_column_count(s->plan) || !plan_fits(s->plan, page->columns))
        return err_set(err, ERR_USER, "table %s.%s changed; start again",
                       plan_schema(s->plan)->keyspace, plan_schema(s->plan)->table);
    cells = xalloc(page->columns->count * sizeof *cells);
    while (ok && row_next(&rows, cells, err))
        ok = take_row(s, cells, err);
    free(cells);
    return ok && err->kind == ERR_NONE;
}

/* All rows of one of the query's keys. */
static bool read_key(struct peek *s, const char *text, const struct slice *values, struct err *err)
{
    const struct schema *schema = plan_schema(s->plan);
    struct page page;

    buf_reset(&s->key);
    cql_partition_key(values, schema->partition_key_count, &s->key);
    struct cql_query q = {.text = text,
                          .values = values,
                          .value_count = s->query.bound,
                          .has_token = true,
                          .token = cql_token(buf_slice(&s->key)),
                          .keyspace = schema->keyspace};
    AUTO(cql_pager) struct cql_pager *pager = cql_pager_open(s->session, &q, err);
    while (pager && cql_pager_next(pager, &page, err))
        if (!take_page(s, &page, err))
            return false;
    return pager && err->kind == ERR_NONE;
}

static bool parse(struct peek *s, const struct json *id, struct err *err)
{
    const char *reason = "";
    struct err why = {0};

    if (!plan_query(s->plan, id, &s->mem, &s->query, &reason, &why))
        return err_set(err, ERR_USER, "%s", why.text);
    return !s->query.scans || err_set(err, ERR_USER, "has no value for %s of the partition key",
                                      plan_schema(s->plan)->columns[s->query.lacks].name);
}

static bool read_all(struct peek *s, struct err *err)
{
    AUTO_STR char *text = plan_rows_text(s->plan, s->query.bound);

    for (uint32_t n = 0; n < s->query.count; n++)
        if (!read_key(s, text, s->query.cells + (size_t)n * s->query.bound, err))
            return false;
    return true;
}

bool peek_id(const struct plan *p, struct cql_cluster *cluster, const struct json *id,
             void (*take)(void *ctx, const struct peeked *row), void *ctx, struct err *err)
{
    struct peek s = {.plan = p, .take = take, .ctx = ctx};

    arena_init(&s.mem, QUERY_MAX_BYTES);
    buf_init(&s.key, KEY_MAX_BYTES);
    buf_init(&s.id, KEY_MAX_BYTES);
    buf_init(&s.routing, KEY_MAX_BYTES);
    buf_init(&s.document, DOCUMENT_MAX_BYTES);
    fetch_init(&s.fetch, p, cluster, DOCUMENT_MAX_BYTES);
    bool ok = parse(&s, id, err);
    AUTO(cql_session) struct cql_session *session = ok ? cql_session_open(cluster, err) : NULL;
    s.session = session;
    ok = session && read_all(&s, err);
    fetch_fini(&s.fetch);
    buf_fini(&s.key);
    buf_fini(&s.id);
    buf_fini(&s.routing);
    buf_fini(&s.document);
    arena_fini(&s.mem);
    return ok;
}
