#include "cql/statement.h"

#include <stdlib.h>

enum {
    CONNECTIONS_MAX = 2,
    STATEMENT_BYTES = 64 << 20,
};

struct link *link_of(struct cql_session *s, struct node *node)
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

/* Room for one more connection: those that were used longest ago go, where nobody waits on them. */
static void make_room(struct cql_session *s)
{
    for (;;) {
        struct link *oldest = NULL;
        int open = 0;

        for (struct link *l = s->links; l; l = l->next) {
            open += l->conn != NULL;
            if (l->conn && conn_waiting(l->conn) == 0 &&
                (!oldest || l->last_used < oldest->last_used))
                oldest = l;
        }
        if (open < CONNECTIONS_MAX || !oldest)
            return;
        link_drop(oldest);
    }
}

bool link_connect(struct cql_session *s, struct link *l, struct err *err)
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

bool link_wait(struct link *l, struct call *call, struct err *err)
{
    if (call->state == CALL_LOST && (!l->conn || !conn_broken(l->conn))) {
        *err = l->why;
        return err_wrap(err, "%s", l->node->address);
    }
    if (call->state == CALL_DONE)
        return true;
    return conn_wait(l->conn, call, err);
}

void links_free(struct link *first)
{
    for (struct link *l = first; l;) {
        struct link *next = l->next;
        conn_free(l->conn);
        free(l);
        l = next;
    }
}

/* ---- statements -------------------------------------------------------------------------------
 */

bool columns_equal(const struct columns *a, const struct columns *b)
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
const struct columns *columns_keep(struct statement *st, const struct call *call, struct err *err)
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

struct prepared *prepared_on(struct statement *st, const struct link *l)
{
    for (size_t i = 0; i < st->on_count; i++)
        if (st->on[i].link == l)
            return &st->on[i];
    return NULL;
}

bool prepared_keep_id(struct slice id, uint8_t *to, size_t size, uint16_t *bytes, struct err *err)
{
    if (id.n > size)
        return err_set(err, ERR_RETRY, "an id of %zu bytes for a prepared statement", id.n);
    if (id.p)
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
    return prepared_keep_id(r->id, p->id, sizeof p->id, &p->id_bytes, err) &&
           prepared_keep_id(r->result_metadata_id, p->metadata_id, sizeof p->metadata_id,
                            &p->metadata_id_bytes, err);
}

bool statement_prepare(struct cql_session *s, struct statement *st, struct link *l, struct err *err)
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
    } else if (err->kind == ERR_RETRY) {
        node_failed(l->node, cluster_env(s->cluster)->options->clock);
    }
    call_fini(&call);
    return ok;
}

struct statement *statement_of(struct cql_session *s, const char *text)
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

void statement_free(struct statement *st)
{
    arena_fini(&st->mem);
    free(st->on);
    free(st->text);
    free(st);
}
