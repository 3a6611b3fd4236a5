#include "cql/request.h"

#include <stdlib.h>

enum {
    REPREPARE_MAX = 3,
    OTHERS_MAX = 2, /* coordinators tried when no replica can be reached */
    VALUES_BYTES_MAX = 64 << 20,
};

static struct conn_counts *counts(struct cql_session *s)
{
    return cluster_env(s->cluster)->counts;
}

static struct clock *session_clock(struct cql_session *s)
{
    return cluster_env(s->cluster)->options->clock;
}

/* ---- where to send ----------------------------------------------------------------------------
 */

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

struct node *request_next_node(struct cql_session *s, const struct request *r)
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

bool request_is_final(const struct err *err)
{
    return err->kind == ERR_CANCEL || err->kind == ERR_SYSTEM || err->kind == ERR_USER;
}

bool request_check_values(const struct request *r, struct err *err)
{
    if (r->value_count == r->statement->bind_count)
        return true;
    return err_set(err, ERR_USER, "the statement takes %u values, %u were given: %s",
                   r->statement->bind_count, r->value_count, r->statement->text);
}

/* EXECUTE on a connected link. */
static bool execute(struct cql_session *s, struct request *r, struct link *l, struct err *err)
{
    struct statement *st = r->statement;
    struct prepared *p = prepared_on(st, l);

    if (!p) {
        if (!statement_prepare(s, st, l, err))
            return false;
        p = prepared_on(st, l);
    }
    if (!request_check_values(r, err))
        return false;
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

bool request_execute(struct cql_session *s, struct request *r, struct err *err)
{
    return link_connect(s, r->link, err) && execute(s, r, r->link, err);
}

bool request_start(struct cql_session *s, struct request *r, struct err *err)
{
    struct node *n;

    session_look_at_topology(s);
    while (r->tried_count < TRIED_MAX && (n = request_next_node(s, r))) {
        struct link *l = link_of(s, n);
        if (r->tried_count)
            atomic_fetch_add_explicit(&counts(s)->retries_other_node, 1, memory_order_relaxed);
        r->tried[r->tried_count++] = n;
        r->link = l;
        err_clear(err);
        if (link_connect(s, l, err) && execute(s, r, l, err))
            return true;
        if (request_is_final(err))
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
        if (!statement_prepare(s, r->statement, r->link, err))
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
        else if (request_is_final(err))
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
    if (request_is_final(err))
        return false;
    if (r->call.state == CALL_LOST && was_used && !r->again) {
        /* Perhaps closed for being idle: that is not the node's fault. */
        r->again = true;
        if (link_connect(s, r->link, err) && execute(s, r, r->link, err))
            return true;
        if (request_is_final(err))
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
    if (result->kind != CODEC_ROWS && r->statement->columns->count)
        return err_set(err, ERR_RETRY, "%s: a SELECT was answered without rows",
                       r->link->node->address);
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
    if (meta->changed && !prepared_keep_id(meta->metadata_id, p->metadata_id, sizeof p->metadata_id,
                                           &p->metadata_id_bytes, err))
        return false;
    if (meta->column_count != p->columns->count || (meta->changed && !meta->columns)) {
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

struct statement *request_prepare(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    struct statement *st = statement_of(s, q->text);
    struct request r = {0};
    struct node *n;

    if (st->columns)
        return st;
    session_look_at_topology(s);
    r.has_token = q->has_token;
    r.token = q->token;
    r.keyspace = q->keyspace ? xstrdup(q->keyspace) : NULL;
    err_set(err, ERR_RETRY, "no node is known in data centre '%s'", s->topology->local_dc);
    while (!st->columns && r.tried_count < TRIED_MAX && (n = request_next_node(s, &r))) {
        struct link *l = link_of(s, n);
        r.tried[r.tried_count++] = n;
        err_clear(err);
        if ((link_connect(s, l, err) && statement_prepare(s, st, l, err)) || request_is_final(err))
            break;
        note(&r, err, false);
        *err = r.failure;
    }
    request_fini(&r);
    return st->columns ? st : NULL;
}
