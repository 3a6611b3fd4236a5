#include "cql/query.h"

enum { ANSWERS_BYTES_MAX = 64 << 20 };

void queries_init(struct queries *q, struct conn *c)
{
    memset(q, 0, sizeof *q);
    q->conn = c;
    arena_init(&q->mem, ANSWERS_BYTES_MAX);
}

void queries_fini(struct queries *q)
{
    for (int i = 0; i <= QUERIES_MAX; i++)
        call_fini(&q->calls[i]);
    arena_fini(&q->mem);
}

bool queries_register(struct queries *q, struct err *err)
{
    struct call *call = &q->calls[QUERIES_MAX];

    if (!conn_begin(q->conn, call, err))
        return err_wrap(err, "%s", conn_name(q->conn));
    codec_register(conn_out(q->conn), conn_version(q->conn), call->stream,
                   CODEC_EVENT_TOPOLOGY | CODEC_EVENT_STATUS | CODEC_EVENT_SCHEMA);
    q->registered = true;
    return true;
}

bool queries_add(struct queries *q, const char *text, const struct slice *values, uint16_t count,
                 struct err *err)
{
    struct codec_params params = {.consistency = CQL_ONE, .values = values, .value_count = count};

    ensure(q->count < QUERIES_MAX);
    struct call *call = &q->calls[q->count++];
    if (!conn_begin(q->conn, call, err))
        return err_wrap(err, "%s", conn_name(q->conn));
    codec_query(conn_out(q->conn), conn_version(q->conn), call->stream, slice_str(text), &params);
    return true;
}

bool queries_wait(struct queries *q, struct err *err)
{
    for (int i = 0; i < q->count; i++)
        if (!conn_wait(q->conn, &q->calls[i], err))
            return false;
    if (!q->registered)
        return true;
    struct call *call = &q->calls[QUERIES_MAX];
    if (!conn_wait(q->conn, call, err))
        return false;
    if (call->frame.opcode == OP_READY)
        return true;
    struct codec_result r;
    struct codec_error server;
    if (call_result(q->conn, call, &q->mem, &r, &server, err))
        err_set(err, ERR_RETRY, "%s: REGISTER was not answered by READY", conn_name(q->conn));
    return false;
}

bool queries_rows(struct queries *q, int number, struct rows *out, struct err *err)
{
    struct codec_result r;
    struct codec_error server;

    if (!call_result(q->conn, &q->calls[number], &q->mem, &r, &server, err))
        return false;
    if (r.kind != CODEC_ROWS || !r.meta.columns)
        return err_set(err, ERR_RETRY, "%s: an answer without rows", conn_name(q->conn));
    out->page = (struct page){.columns = r.meta.columns, .row_count = r.row_count, .rows = r.rows};
    out->cursor = page_rows(&out->page);
    out->cells = arena_zalloc(&q->mem, (size_t)(r.meta.column_count + 1) * sizeof *out->cells);
    if (!out->cells)
        return err_set(err, ERR_SYSTEM, "%s: an answer is too large", conn_name(q->conn));
    return true;
}

bool rows_next(struct rows *r, struct err *err)
{
    err_clear(err);
    return row_next(&r->cursor, r->cells, err);
}

struct slice rows_cell(const struct rows *r, const char *column)
{
    for (uint16_t i = 0; i < r->page.columns->count; i++)
        if (slice_is(r->page.columns->list[i].name, column))
            return r->cells[i];
    return SLICE_NULL;
}
