#include <stdlib.h>

#include "cql/request.h"

enum {
    STATE_BYTES_MAX = 1 << 20,
    KEEP_BYTES = 4 << 20, /* bigger pages' memory is not kept */
};

struct cql_pager {
    struct cql_session *session;
    struct request request;        /* of the next page; its call is idle when none is on its way */
    const struct columns *columns; /* when it was opened */
    struct buf page;               /* the bytes of the page given last */
    struct buf state;              /* behind that page */
    bool prefetch;
    bool begun;
    bool ended;
};

/* Fresh memory costs more than reading a page into it: the ranges of a scan hand theirs on. */
static void take_spare(struct cql_session *s, struct buf *b)
{
    for (size_t i = 0; i < sizeof s->spare / sizeof *s->spare; i++) {
        if (!s->spare[i].cap)
            continue;
        *b = s->spare[i];
        s->spare[i] = (struct buf){0};
        buf_reset(b);
        return;
    }
}

static void give_spare(struct cql_session *s, struct buf *b)
{
    for (size_t i = 0; i < sizeof s->spare / sizeof *s->spare && b->cap <= KEEP_BYTES; i++) {
        if (s->spare[i].cap)
            continue;
        s->spare[i] = *b;
        *b = (struct buf){0};
        return;
    }
    buf_fini(b);
}

struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    AUTO(cql_pager) struct cql_pager *p = xalloc(sizeof *p);

    p->session = s;
    p->prefetch = true;
    buf_init(&p->state, STATE_BYTES_MAX);
    p->request.statement = request_prepare(s, q, err);
    if (!p->request.statement || !request_set(s, &p->request, q, err) ||
        !request_check_values(&p->request, err))
        return NULL;
    p->columns = p->request.statement->columns;
    take_spare(s, &p->page);
    take_spare(s, &p->request.call.bytes);
    if (q->paging_state.p) {
        buf_add_slice(&p->state, q->paging_state);
        p->begun = true;
    }
    return TAKE(p);
}

void cql_pager_free(struct cql_pager *p)
{
    if (!p)
        return;
    call_give_up(&p->request.call);
    give_spare(p->session, &p->request.call.bytes);
    give_spare(p->session, &p->page);
    request_fini(&p->request);
    buf_fini(&p->state);
    free(p);
}

static bool ask(struct cql_pager *p, struct err *err)
{
    struct request *r = &p->request;

    request_reset(r);
    r->paging_state = p->begun ? buf_slice(&p->state) : SLICE_NULL;
    return request_start(p->session, r, err);
}

static bool answer(struct cql_pager *p, struct page *page, struct codec_result *result,
                   struct err *err)
{
    struct request *r = &p->request;
    bool again;

    for (;;) {
        if (!request_finish(p->session, r, result, err))
            return false;
        if (request_page(r, result, p->columns, page, &again, err))
            return true;
        if (!again)
            return false;
        /* Once more, with the columns. */
        call_give_up(&r->call);
        if (!ask(p, err))
            return false;
    }
}

bool cql_pager_next(struct cql_pager *p, struct page *page, struct err *err)
{
    struct request *r = &p->request;
    struct codec_result result;

    err_clear(err);
    if (p->ended)
        return false;
    if ((r->call.state == CALL_IDLE && !ask(p, err)) || !answer(p, page, &result, err)) {
        call_give_up(&r->call);
        return false;
    }
    struct buf old = p->page;
    p->page = r->call.bytes;
    r->call.bytes = old;
    call_give_up(&r->call);
    r->foreign_state = false;
    buf_reset(&p->state);
    buf_add_slice(&p->state, result.meta.paging_state);
    if (p->state.full)
        return err_set(err, ERR_REJECT, "a paging state of %zu bytes", result.meta.paging_state.n);
    p->begun = true;
    p->ended = page->last;
    /* Not over a new connection: the page in hand would wait for it. */
    if (p->prefetch && !p->ended && r->link->conn && !conn_broken(r->link->conn)) {
        struct err ignored; /* it is asked for again by the next call */
        if (!ask(p, &ignored) || !conn_flush(r->link->conn, &ignored))
            call_give_up(&r->call);
    }
    return true;
}

struct slice cql_pager_state(const struct cql_pager *p)
{
    return p->begun && !p->ended ? buf_slice(&p->state) : SLICE_NULL;
}

void cql_pager_set_rows(struct cql_pager *p, uint32_t page_rows)
{
    p->request.page_rows = page_rows ? page_rows : 1;
}

void cql_pager_set_prefetch(struct cql_pager *p, bool on)
{
    p->prefetch = on;
}

void cql_pager_trim(struct cql_pager *p)
{
    buf_fini(&p->page);
    if (p->request.call.state == CALL_IDLE)
        buf_fini(&p->request.call.bytes);
    cql_session_trim(p->session);
}
