#include "cql/session.h"

#include <stdlib.h>

#include "cql/request.h"

enum {
    SCRATCH_BYTES = 16 << 20,
    TICKET_INDEX_BITS = 20,
};

struct ticket {
    struct request request;
    cql_ticket number;
    bool open;
};

struct cql_session *cql_session_open(struct cql_cluster *c, struct err *err)
{
    struct cql_session *s = xalloc(sizeof *s);

    (void)err;
    s->cluster = c;
    s->generation = cluster_generation(c);
    s->topology = cluster_topology(c);
    s->number = cluster_session_number(c);
    map_init(&s->statements);
    arena_init(&s->scratch, SCRATCH_BYTES);
    return s;
}

void cql_session_free(struct cql_session *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->ticket_count; i++) {
        request_fini(&s->tickets[i]->request);
        free(s->tickets[i]);
    }
    free(s->tickets);
    free(s->free_tickets);
    links_free(s->links);
    for (size_t i = 0; i < s->statements.len; i++)
        if (s->statements.entries[i].value)
            statement_free(s->statements.entries[i].value);
    map_fini(&s->statements);
    arena_fini(&s->scratch);
    for (size_t i = 0; i < sizeof s->spare / sizeof *s->spare; i++)
        buf_fini(&s->spare[i]);
    topology_free(s->topology);
    free(s);
}

void cql_session_trim(struct cql_session *s)
{
    for (size_t i = 0; i < sizeof s->spare / sizeof *s->spare; i++)
        buf_fini(&s->spare[i]);
    for (struct link *l = s->links; l; l = l->next)
        if (l->conn)
            conn_trim(l->conn);
}

void session_look_at_topology(struct cql_session *s)
{
    unsigned now = cluster_generation(s->cluster);

    if (now == s->generation)
        return;
    topology_free(s->topology);
    s->generation = now;
    s->topology = cluster_topology(s->cluster);
}

/* ---- single requests --------------------------------------------------------------------------
 */

static struct ticket *ticket_new(struct cql_session *s)
{
    struct ticket *t;

    if (s->free_count == 0) {
        uint32_t index = (uint32_t)s->ticket_count++;
        ensure(index < 1u << TICKET_INDEX_BITS);
        s->tickets = xrealloc(s->tickets, s->ticket_count * sizeof(void *));
        s->free_tickets = xrealloc(s->free_tickets, s->ticket_count * sizeof *s->free_tickets);
        t = s->tickets[index] = xalloc(sizeof *t);
        t->number = index;
    } else {
        t = s->tickets[s->free_tickets[--s->free_count]];
    }
    t->open = true;
    return t;
}

static struct ticket *ticket_at(struct cql_session *s, cql_ticket number)
{
    uint32_t index = number & ((1u << TICKET_INDEX_BITS) - 1);

    ensure(index < s->ticket_count);
    ensure(s->tickets[index]->open && s->tickets[index]->number == number);
    return s->tickets[index];
}

void cql_release(struct cql_session *s, cql_ticket number)
{
    enum { KEEP = 64 << 10 };
    struct ticket *t = ticket_at(s, number);

    call_give_up(&t->request.call);
    if (t->request.call.bytes.cap > KEEP)
        buf_fini(&t->request.call.bytes);
    t->open = false;
    t->number += 1u << TICKET_INDEX_BITS;
    s->free_tickets[s->free_count++] = number & ((1u << TICKET_INDEX_BITS) - 1);
}

bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err)
{
    struct ticket *t = ticket_new(s);
    struct request *r = &t->request;

    r->statement = statement_of(s, q->text);
    if (request_set(s, r, q, err)) {
        r->paging_state = q->paging_state;
        if (request_start(s, r, err)) {
            r->paging_state = SLICE_NULL;
            *out = t->number;
            return true;
        }
    }
    cql_release(s, t->number);
    return false;
}

bool cql_take(struct cql_session *s, cql_ticket number, struct page *page, struct err *err)
{
    struct request *r = &ticket_at(s, number)->request;
    struct codec_result result;
    bool again = true;

    if (r->call.state == CALL_IDLE) { /* taken before, in vain: a new round */
        request_reset(r);
        if (!request_start(s, r, err))
            return false;
    }
    for (;;) {
        if (!request_finish(s, r, &result, err)) {
            call_give_up(&r->call);
            return false;
        }
        if (request_page(r, &result, r->statement->first, page, &again, err))
            return true;
        if (!again || !request_execute(s, r, err)) {
            call_give_up(&r->call);
            return false;
        }
    }
}

bool cql_run(struct cql_session *s, const char *text, struct err *err)
{
    struct request r = {0};
    struct codec_result result;
    struct codec_error server;
    struct node *n;
    bool ok = false;

    session_look_at_topology(s);
    err_set(err, ERR_RETRY, "no node is known in data centre '%s'", s->topology->local_dc);
    /* Another node only while nothing was sent: the statement may not be one to run twice. */
    while (r.tried_count < TRIED_MAX && (n = request_next_node(s, &r))) {
        struct link *l = link_of(s, n);
        r.tried[r.tried_count++] = n;
        err_clear(err);
        if (!link_connect(s, l, err) || !conn_begin(l->conn, &r.call, err)) {
            if (request_is_final(err))
                break;
            continue;
        }
        struct codec_params params = {
            .consistency = (uint16_t)cluster_env(s->cluster)->options->consistency,
            .page_rows = 100,
        };
        codec_query(conn_out(l->conn), conn_version(l->conn), r.call.stream, slice_str(text),
                    &params);
        arena_reset(&s->scratch);
        ok = conn_wait(l->conn, &r.call, err) &&
             call_result(l->conn, &r.call, &s->scratch, &result, &server, err);
        if (!ok && err->kind == ERR_REJECT)
            err->kind = ERR_USER; /* it has no values: the statement itself is wrong */
        break;
    }
    request_fini(&r);
    return ok;
}
