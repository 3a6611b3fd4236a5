#include "cql/session.h"

#include <stdlib.h>

enum {
    CONNECTIONS_MAX = 2,
    REPREPARE_MAX = 3,
    OTHERS_MAX = 2, /* coordinators tried when no replica can be reached */
    SCRATCH_BYTES = 16 << 20,
    STATEMENT_BYTES = 64 << 20,
    VALUES_BYTES_MAX = 64 << 20,
    TICKET_INDEX_BITS = 20,
};

struct ticket {
    struct request request;
    cql_ticket number;
    bool open;
};

struct cql_session {
    struct cql_cluster *cluster;
    struct topology *topology;
    unsigned generation;
    unsigned number;
    struct link *links;
    struct map statements;
    struct arena scratch; /* of one answer */
    uint64_t clock;       /* counts requests, for the links' last use */
    struct ticket **tickets;
    size_t ticket_count;
    uint32_t *free_tickets;
    size_t free_count;
};

static struct conn_counts *counts(struct cql_session *s)
{
    return cluster_env(s->cluster)->counts;
}

static struct clock *session_clock(struct cql_session *s)
{
    return cluster_env(s->cluster)->options->clock;
}

struct arena *session_scratch(struct cql_session *s)
{
    return &s->scratch;
}

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

static void statement_free(struct statement *st)
{
    arena_fini(&st->mem);
    free(st->on);
    free(st->text);
    free(st);
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
    for (struct link *l = s->links; l;) {
        struct link *next = l->next;
        conn_free(l->conn);
        free(l);
        l = next;
    }
    for (size_t i = 0; i < s->statements.len; i++)
        if (s->statements.entries[i].value)
            statement_free(s->statements.entries[i].value);
    map_fini(&s->statements);
    arena_fini(&s->scratch);
    topology_free(s->topology);
    free(s);
}

/* ---- connections ------------------------------------------------------------------------------
 */

static struct link *link_of(struct cql_session *s, struct node *node)
{
    for (struct link *l = s->links; l; l = l->next)
        if (l->node == node)
            return l;
    struct link *l = xalloc(sizeof *l);
    l->node = node;
    l->next = s->links;
    s->links = l;
    return l;
}

static void link_drop(struct link *l)
{
    if (l->conn)
        conn_poll(l->conn, &l->why);
    conn_free(l->conn);
    l->conn = NULL;
}

/* Room for one more connection: the one that was used longest ago goes, if nobody waits on it. */
static void make_room(struct cql_session *s)
{
    struct link *oldest = NULL;
    int open = 0;

    for (struct link *l = s->links; l; l = l->next) {
        open += l->conn != NULL;
        if (l->conn && conn_waiting(l->conn) == 0 && (!oldest || l->last_used < oldest->last_used))
            oldest = l;
    }
    if (open >= CONNECTIONS_MAX && oldest)
        link_drop(oldest);
}

/* A connection that works as far as can be known without asking. */
static bool link_connect(struct cql_session *s, struct link *l, struct err *err)
{
    l->last_used = ++s->clock;
    /* One that was idle may have been closed meanwhile. */
    if (l->conn &&
        (conn_broken(l->conn) || (conn_waiting(l->conn) == 0 && !conn_poll(l->conn, err))))
        link_drop(l);
    if (l->conn)
        return true;
    make_room(s);
    l->conn = cluster_connect(s->cluster, l->node, err);
    return l->conn != NULL;
}

static bool link_wait(struct link *l, struct call *call, struct err *err)
{
    if (call->state == CALL_LOST && (!l->conn || !conn_broken(l->conn))) {
        *err = l->why;
        return err_wrap(err, "%s", l->node->address);
    }
    if (call->state == CALL_DONE)
        return true;
    return conn_wait(l->conn, call, err);
}

/* ---- statements -------------------------------------------------------------------------------
 */

static bool columns_equal(const struct columns *a, const struct columns *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->count != b->count)
        return false;
    for (uint16_t i = 0; i < a->count; i++)
        if (!slice_eq(a->list[i].name, b->list[i].name) ||
            !type_equal(a->list[i].type, b->list[i].type))
            return false;
    return true;
}

/* Columns that stay: parsed once more from a copy of the answer, since names point into its bytes.
 */
static const struct columns *columns_keep(struct statement *st, const struct call *call,
                                          struct err *err)
{
    static const struct columns none = {0};
    struct codec_result r;
    struct slice body = call->frame.body;
    char *copy = arena_strndup(&st->mem, (const char *)body.p, body.n);

    if (!copy) {
        err_set(err, ERR_SYSTEM, "the statement's columns changed too often");
        return NULL;
    }
    if (!codec_read_result(slice_of(copy, body.n), call->frame.version, &st->mem, &r, err))
        return NULL;
    return r.meta.columns ? r.meta.columns : &none;
}

static struct prepared *prepared_on(struct statement *st, const struct link *l)
{
    for (size_t i = 0; i < st->on_count; i++)
        if (st->on[i].link == l)
            return &st->on[i];
    return NULL;
}

static bool keep_id(struct slice id, uint8_t *to, size_t size, uint16_t *bytes, struct err *err)
{
    if (id.n > size)
        return err_set(err, ERR_RETRY, "an id of %zu bytes for a prepared statement", id.n);
    if (id.n)
        memcpy(to, id.p, id.n);
    *bytes = (uint16_t)id.n;
    return true;
}

static bool prepare_read(struct statement *st, struct link *l, struct call *call,
                         struct codec_result *r, struct err *err)
{
    struct prepared *p = prepared_on(st, l);

    if (!st->columns || !columns_equal(st->columns, r->meta.columns)) {
        st->columns = columns_keep(st, call, err);
        if (!st->columns)
            return false;
    }
    if (!st->first)
        st->first = st->columns;
    st->bind_count = r->bind ? r->bind->count : 0;
    uint32_t times = p ? p->times : 0;
    if (!p) {
        st->on = xrealloc(st->on, (st->on_count + 1) * sizeof *st->on);
        p = &st->on[st->on_count++];
    }
    *p = (struct prepared){.link = l, .columns = st->columns, .times = times + 1};
    return keep_id(r->id, p->id, sizeof p->id, &p->id_bytes, err) &&
           keep_id(r->result_metadata_id, p->metadata_id, sizeof p->metadata_id,
                   &p->metadata_id_bytes, err);
}

/* PREPARE on a connected link, waiting for the answer. */
static bool prepare(struct cql_session *s, struct statement *st, struct link *l, struct err *err)
{
    struct call call = {0};
    struct codec_result r;
    struct codec_error server;
    bool ok = false;

    if (!conn_begin(l->conn, &call, err))
        return false;
    codec_prepare(conn_out(l->conn), conn_version(l->conn), call.stream, slice_str(st->text));
    if (conn_wait(l->conn, &call, err)) {
        arena_reset(&s->scratch);
        ok = call_result(l->conn, &call, &s->scratch, &r, &server, err);
        if (ok && r.kind != CODEC_PREPARED)
            ok = err_set(err, ERR_RETRY, "%s: PREPARE was not answered by PREPARED",
                         l->node->address);
        if (!ok && server.code == CODEC_INVALID)
            err->kind = ERR_USER; /* no such table or column: of the statement, not of its values */
        ok = ok && prepare_read(st, l, &call, &r, err);
    }
    call_fini(&call);
    return ok;
}

static struct statement *statement_of(struct cql_session *s, const char *text)
{
    struct map_entry *e = map_put(&s->statements, slice_str(text), NULL);
    struct statement *st = e->value;

    if (!st) {
        st = e->value = xalloc(sizeof *st);
        st->text = xstrdup(text);
        arena_init(&st->mem, STATEMENT_BYTES);
    }
    return st;
}

/* ---- where to send ----------------------------------------------------------------------------
 */

static void look_at_topology(struct cql_session *s)
{
    unsigned now = cluster_generation(s->cluster);

    if (now == s->generation)
        return;
    topology_free(s->topology);
    s->generation = now;
    s->topology = cluster_topology(s->cluster);
}

static bool was_tried(const struct request *r, const struct node *n)
{
    for (int i = 0; i < r->tried_count; i++)
        if (r->tried[i] == n)
            return true;
    return false;
}

static bool is_local(const struct cql_session *s, const struct node *n)
{
    return strcmp(n->dc, s->topology->local_dc) == 0;
}

/* The first of the candidates that was not tried yet; those which just failed come last. */
static struct node *pick(struct cql_session *s, const struct request *r, const int32_t *indexes,
                         size_t count, size_t begin)
{
    struct node *last = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t at = (begin + i) % count;
        struct node *n = s->topology->nodes[indexes ? (size_t)indexes[at] : at];
        if (!is_local(s, n) || was_tried(r, n))
            continue;
        if (!node_avoided(n, session_clock(s)))
            return n;
        if (!last)
            last = n;
    }
    return last;
}

/* Any node: one we are connected to, else each session begins at another. */
static struct node *pick_any(struct cql_session *s, const struct request *r)
{
    struct node *n = pick(s, r, NULL, s->topology->node_count, s->number);

    for (struct link *l = s->links; l; l = l->next)
        if (l->conn && !conn_broken(l->conn) && is_local(s, l->node) && !was_tried(r, l->node) &&
            !node_avoided(l->node, session_clock(s)))
            return l->node;
    return n;
}

static struct node *next_node(struct cql_session *s, const struct request *r)
{
    const struct ring_map *map =
        r->has_token && r->keyspace ? topology_map(s->topology, r->keyspace) : NULL;
    struct node *n;

    /* The node of the page before goes on, as long as it works. */
    if (r->link && r->tried_count == 0 && !node_avoided(r->link->node, session_clock(s)) &&
        is_local(s, r->link->node))
        return r->link->node;
    if (!map)
        return pick_any(s, r);
    const struct ring_range *range = ring_map_find(map, r->token);
    bool local = false;
    for (uint32_t i = 0; i < range->replica_count; i++)
        local = local || is_local(s, s->topology->nodes[range->replicas[i]]);
    if (!local)
        return pick_any(s, r);
    n = pick(s, r, range->replicas, range->replica_count, 0);
    if (n)
        return n;
    /* No replica can be reached by us; another node may reach them. */
    if (r->answered == 0 && r->tried_count < (int)range->replica_count + OTHERS_MAX)
        return pick_any(s, r);
    return NULL;
}

/* ---- requests ---------------------------------------------------------------------------------
 */

void request_fini(struct request *r)
{
    call_fini(&r->call);
    buf_fini(&r->value_bytes);
    free(r->values);
    free(r->keyspace);
    *r = (struct request){0};
}

void request_reset(struct request *r)
{
    r->tried_count = 0;
    r->answered = 0;
    r->reprepared = 0;
    r->again = false;
    r->failed = false;
}

static void copy_values(struct request *r, const struct cql_query *q)
{
    size_t at = 0;

    if (!r->value_bytes.max)
        buf_init(&r->value_bytes, VALUES_BYTES_MAX);
    buf_reset(&r->value_bytes);
    for (uint16_t i = 0; i < q->value_count; i++)
        buf_add_slice(&r->value_bytes, q->values[i]);
    if (q->value_count > r->value_count || !r->values)
        r->values = xrealloc(r->values, (q->value_count + 1u) * sizeof *r->values);
    r->value_count = q->value_count;
    for (uint16_t i = 0; i < q->value_count; i++) {
        static const uint8_t empty[1];
        size_t n = q->values[i].n;
        r->values[i] =
            !q->values[i].p ? SLICE_NULL : slice_of(n ? r->value_bytes.p + at : empty, n);
        at += n;
    }
}

bool request_set(struct cql_session *s, struct request *r, const struct cql_query *q,
                 struct err *err)
{
    copy_values(r, q);
    if (r->value_bytes.full)
        return err_set(err, ERR_REJECT, "the values are larger than %d bytes", VALUES_BYTES_MAX);
    r->consistency =
        q->consistency ? q->consistency : cluster_env(s->cluster)->options->consistency;
    r->page_rows = q->page_rows ? q->page_rows : 5000;
    r->paging_state = SLICE_NULL;
    r->foreign_state = q->paging_state.p != NULL;
    r->has_token = q->has_token;
    r->token = q->token;
    if (!r->keyspace || !q->keyspace || strcmp(r->keyspace, q->keyspace) != 0) {
        free(r->keyspace);
        r->keyspace = q->keyspace ? xstrdup(q->keyspace) : NULL;
    }
    r->link = NULL;
    r->verified = NULL;
    r->want_metadata = false;
    request_reset(r);
    return true;
}

/* Notes a failed attempt. What a node answered says more than a node that could not be asked. */
static void note(struct request *r, const struct err *err, bool answer)
{
    bool better = !r->failed || (answer && !r->answered) ||
                  (answer == (r->answered > 0) && err->kind == ERR_RETRY) ||
                  (answer && err->kind == ERR_REJECT);

    if (better)
        r->failure = *err;
    r->failed = true;
    r->answered += answer;
}

/* Another node won't make it better. */
static bool is_final(const struct err *err)
{
    return err->kind == ERR_CANCEL || err->kind == ERR_SYSTEM || err->kind == ERR_USER;
}

/* EXECUTE on a connected link. */
static bool execute(struct cql_session *s, struct request *r, struct link *l, struct err *err)
{
    struct statement *st = r->statement;
    struct prepared *p = prepared_on(st, l);

    if (!p) {
        if (!prepare(s, st, l, err))
            return false;
        p = prepared_on(st, l);
    }
    if (r->value_count != st->bind_count)
        return err_set(err, ERR_USER, "the statement takes %u values, %u were given: %s",
                       st->bind_count, r->value_count, st->text);
    if (!conn_begin(l->conn, &r->call, err))
        return false;
    r->prepared_times = p->times;
    uint8_t version = conn_version(l->conn);
    struct codec_params params = {
        .consistency = (uint16_t)r->consistency,
        .values = r->values,
        .value_count = r->value_count,
        /* v5 says when the columns have changed, v4 does not. */
        .skip_metadata =
            !r->want_metadata && p->columns->count && (version >= 5 || r->verified == l),
        .page_rows = r->page_rows,
        .paging_state = r->paging_state,
    };
    codec_execute(conn_out(l->conn), version, r->call.stream, slice_of(p->id, p->id_bytes),
                  slice_of(p->metadata_id, p->metadata_id_bytes), &params);
    return true;
}

bool request_start(struct cql_session *s, struct request *r, struct err *err)
{
    struct node *n;

    look_at_topology(s);
    while (r->tried_count < TRIED_MAX && (n = next_node(s, r))) {
        struct link *l = link_of(s, n);
        if (r->tried_count)
            atomic_fetch_add_explicit(&counts(s)->retries_other_node, 1, memory_order_relaxed);
        r->tried[r->tried_count++] = n;
        r->link = l;
        err_clear(err);
        if (link_connect(s, l, err) && execute(s, r, l, err))
            return true;
        if (is_final(err))
            return false;
        note(r, err, false);
    }
    if (!r->failed)
        return err_set(err, ERR_RETRY, "no node is known in data centre '%s'",
                       s->topology->local_dc);
    *err = r->failure;
    if (r->tried_count > 1) {
        struct err cause = *err;
        err_set(err, cause.kind, "%s (%d nodes were tried)", cause.text, r->tried_count);
    }
    return false;
}

/* The node has forgotten the statement (a restart, a full cache, an ALTER). */
static bool prepare_again(struct cql_session *s, struct request *r, struct err *err)
{
    if (!link_connect(s, r->link, err))
        return false;
    /* Of many requests in flight the first one prepares for all. */
    if (prepared_on(r->statement, r->link)->times == r->prepared_times) {
        atomic_fetch_add_explicit(&counts(s)->reprepares, 1, memory_order_relaxed);
        if (!prepare(s, r->statement, r->link, err))
            return false;
    }
    return execute(s, r, r->link, err);
}

/* True: it was sent again. */
static bool after_server_error(struct cql_session *s, struct request *r,
                               const struct codec_error *e, struct err *err)
{
    if (e->code == CODEC_UNPREPARED) {
        if (r->reprepared++ >= REPREPARE_MAX)
            note(r, err, true);
        else if (prepare_again(s, r, err))
            return true;
        else if (is_final(err))
            return false;
        else
            note(r, err, false);
        return request_start(s, r, err);
    }
    if (e->code == CODEC_PROTOCOL_ERROR && r->foreign_state) {
        /* The state was made by another version of the server, or is damaged: it never passes. */
        err->kind = ERR_REJECT;
        return false;
    }
    if (!e->try_other_node)
        return false;
    if (e->code == CODEC_OVERLOADED || e->code == CODEC_BOOTSTRAPPING)
        node_failed(r->link->node, session_clock(s));
    note(r, err, true);
    return request_start(s, r, err);
}

/* No answer. True: it was sent again. */
static bool after_silence(struct cql_session *s, struct request *r, bool was_used, struct err *err)
{
    if (is_final(err))
        return false;
    if (r->call.state == CALL_LOST && was_used && !r->again) {
        /* Perhaps closed for being idle: that is not the node's fault. */
        r->again = true;
        if (link_connect(s, r->link, err) && execute(s, r, r->link, err))
            return true;
        if (is_final(err))
            return false;
    } else {
        node_failed(r->link->node, session_clock(s));
    }
    note(r, err, false);
    return request_start(s, r, err);
}

bool request_finish(struct cql_session *s, struct request *r, struct codec_result *out,
                    struct err *err)
{
    for (;;) {
        struct link *l = r->link;
        struct codec_error server;
        bool was_used = l->conn && conn_used(l->conn);

        if (!link_wait(l, &r->call, err)) {
            if (!after_silence(s, r, was_used, err))
                return false;
            continue;
        }
        arena_reset(&s->scratch);
        if (call_result(l->conn, &r->call, &s->scratch, out, &server, err)) {
            node_worked(l->node);
            err_clear(err); /* of attempts before */
            err_clear(err); /* of tries before this one */
            return true;
        }
        if (server.code < 0) { /* bytes that made no sense: the connection has gone */
            if (!after_silence(s, r, false, err))
                return false;
        } else if (!after_server_error(s, r, &server, err)) {
            return false;
        }
    }
}

bool request_page(struct request *r, const struct codec_result *result,
                  const struct columns *expected, struct page *page, bool *again, struct err *err)
{
    struct prepared *p = prepared_on(r->statement, r->link);
    const struct codec_metadata *meta = &result->meta;

    *again = false;
    if (result->kind != CODEC_ROWS) {
        *page = (struct page){.columns = r->statement->columns,
                              .read_at_us = r->call.read_at_us,
                              .node = r->link->node->address,
                              .last = true};
        return true;
    }
    if (meta->columns && !columns_equal(meta->columns, p->columns)) {
        const struct columns *now = columns_keep(r->statement, &r->call, err);
        if (!now)
            return false;
        p->columns = r->statement->columns = now;
    }
    if (meta->changed && !keep_id(meta->metadata_id, p->metadata_id, sizeof p->metadata_id,
                                  &p->metadata_id_bytes, err))
        return false;
    if (meta->column_count != p->columns->count) {
        /* v4, and the table changed between two pages: this page can't be read. */
        *again = !r->want_metadata;
        r->want_metadata = true;
        return err_set(err, ERR_RETRY, "%s: %u columns came, %u were expected",
                       r->link->node->address, meta->column_count, p->columns->count);
    }
    r->want_metadata = false;
    r->verified = r->link;
    *page = (struct page){
        .columns = p->columns,
        .row_count = result->row_count,
        .rows = result->rows,
        .read_at_us = r->call.read_at_us,
        .node = r->link->node->address,
        .last = !meta->more,
        .shape_changed = !columns_equal(p->columns, expected),
    };
    return true;
}

struct statement *session_statement(struct cql_session *s, const struct cql_query *q,
                                    struct err *err)
{
    struct statement *st = statement_of(s, q->text);
    struct request r = {0};
    struct node *n;

    if (st->columns)
        return st;
    look_at_topology(s);
    r.has_token = q->has_token;
    r.token = q->token;
    r.keyspace = q->keyspace ? xstrdup(q->keyspace) : NULL;
    err_set(err, ERR_RETRY, "no node is known in data centre '%s'", s->topology->local_dc);
    while (!st->columns && r.tried_count < TRIED_MAX && (n = next_node(s, &r))) {
        struct link *l = link_of(s, n);
        r.tried[r.tried_count++] = n;
        err_clear(err);
        if ((link_connect(s, l, err) && prepare(s, st, l, err)) || is_final(err))
            break;
        note(&r, err, false);
        *err = r.failure;
    }
    request_fini(&r);
    return st->columns ? st : NULL;
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
        if (!again || !execute(s, r, r->link, err)) {
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

    look_at_topology(s);
    err_set(err, ERR_RETRY, "no node is known in data centre '%s'", s->topology->local_dc);
    /* Another node only while nothing was sent: the statement may not be one to run twice. */
    while (r.tried_count < TRIED_MAX && (n = next_node(s, &r))) {
        struct link *l = link_of(s, n);
        r.tried[r.tried_count++] = n;
        err_clear(err);
        if (!link_connect(s, l, err) || !conn_begin(l->conn, &r.call, err)) {
            if (is_final(err))
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
        break;
    }
    request_fini(&r);
    return ok;
}
