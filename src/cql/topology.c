#include "cql/topology.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/text.h"
#include "cql/query.h"
#include "cql/token.h"

enum {
    NAMES_BYTES_MAX = 64 << 20,
};

struct keyspace {
    struct replication how;
    bool readable; /* replication was understood */
    struct ring_map *map;
};

static char *slice_dup(struct slice s)
{
    return xstrndup(s.p ? (const char *)s.p : "", s.n);
}

enum {
    Q_LOCAL,
    Q_PEERS_V2,
    Q_PEERS,
    Q_KEYSPACES,
    Q_TABLES,
    Q_VIEWS,
    Q_COUNT,
};

static const char *const texts[Q_COUNT] = {
    "SELECT * FROM system.local WHERE key='local'",
    "SELECT * FROM system.peers_v2",
    "SELECT * FROM system.peers",
    "SELECT keyspace_name, replication FROM system_schema.keyspaces",
    "SELECT keyspace_name, table_name FROM system_schema.tables",
    "SELECT keyspace_name, view_name FROM system_schema.views",
};

static bool inet_text(struct slice cell, char *out, size_t size)
{
    static const uint8_t zero[16];

    if ((cell.n != 4 && cell.n != 16) || memcmp(cell.p, zero, cell.n) == 0)
        return false;
    return inet_ntop(cell.n == 4 ? AF_INET : AF_INET6, cell.p, out, (socklen_t)size) != NULL;
}

/* Where a row of a node says that it listens; its other addresses when that is a wildcard. */
static bool row_address(const struct rows *r, uint16_t default_port, char *host, size_t size,
                        uint16_t *port)
{
    static const char *const names[] = {"native_address", "rpc_address", "peer",
                                        "broadcast_address", "listen_address"};
    static const char *const ports[] = {"native_port", "rpc_port"};
    bool found = false;

    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++)
        found = inet_text(rows_cell(r, names[i]), host, size);
    *port = default_port;
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
        struct slice cell = rows_cell(r, ports[i]);
        if (cell.n == 4 && load_u32(cell.p) > 0 && load_u32(cell.p) < 65536) {
            *port = (uint16_t)load_u32(cell.p);
            break;
        }
    }
    return found;
}

static size_t read_tokens(struct slice set, struct arena *mem, const int64_t **out)
{
    uint32_t count = 0;
    size_t n = 0;

    if (!take_u32(&set, &count) || count > set.n / 4)
        return 0;
    int64_t *tokens = arena_alloc(mem, (count ? count : 1) * sizeof *tokens);
    for (uint32_t i = 0; tokens && i < count; i++) {
        struct slice one;
        uint32_t len;
        if (!take_u32(&set, &len) || !slice_take(&set, len, &one))
            break;
        if (token_parse(one, &tokens[n]))
            n++;
    }
    *out = tokens;
    return tokens ? n : 0;
}

struct reading {
    struct topology *t;
    const struct conn_env *env;
    struct node_book *book;
    const char *host; /* of the connection */
    uint16_t port;
    struct ring_node *found;
    size_t room;
    struct arena mem; /* tokens, till the ring is made */
};

static bool add_node(struct reading *r, const struct rows *row, bool local)
{
    struct found_node f = {
        .host_id = rows_cell(row, "host_id"),
        .dc = rows_cell(row, "data_center"),
        .rack = rows_cell(row, "rack"),
        .tokens = rows_cell(row, "tokens"),
        .contact = local,
    };
    struct topology *t = r->t;

    /* A node that is only half there, or has left. */
    if (f.host_id.n != 16 || !f.dc.p || !f.rack.p || (!f.tokens.p && !local))
        return false;
    /* Before 4.0 no port is told: all nodes listen where this one does, unless there is a map. */
    uint16_t same = r->env->options->address_map[0] ? r->env->options->port : r->port;
    bool known = row_address(row, same, f.host, sizeof f.host, &f.port);
    if (!known && !local)
        return false;
    f.advertised = address_text(known ? f.host : r->host, known ? f.port : r->port);
    if (local) {
        snprintf(f.host, sizeof f.host, "%s", r->host);
        f.port = r->port;
    } else {
        address_map(r->env->options->address_map, f.host, sizeof f.host, &f.port);
    }
    if (t->node_count == r->room) {
        r->room = r->room ? 2 * r->room : 16;
        t->nodes = xrealloc(t->nodes, r->room * sizeof(struct node *));
        r->found = xrealloc(r->found, r->room * sizeof *r->found);
    }
    struct node *n = node_book_put(r->book, &f);
    free(f.advertised);
    for (size_t i = 0; i < t->node_count; i++)
        if (memcmp(t->nodes[i]->host_id, n->host_id, 16) == 0)
            return false;
    struct ring_node *into = &r->found[t->node_count];
    *into = (struct ring_node){.dc = n->dc, .rack = n->rack};
    if (t->murmur3)
        into->token_count = read_tokens(f.tokens, &r->mem, &into->tokens);
    t->nodes[t->node_count++] = n;
    if (local)
        t->asked = n;
    return true;
}

static bool read_local(struct reading *r, struct rows *rows, struct err *err)
{
    struct topology *t = r->t;

    if (!rows_next(rows, err))
        return err->kind == ERR_NONE ? err_set(err, ERR_RETRY, "system.local is empty") : false;
    t->cluster_name = slice_dup(rows_cell(rows, "cluster_name"));
    t->release = slice_dup(rows_cell(rows, "release_version"));
    t->partitioner = slice_dup(rows_cell(rows, "partitioner"));
    t->murmur3 = token_partitioner_known(rows_cell(rows, "partitioner"));
    if (!add_node(r, rows, true))
        return err_set(err, ERR_RETRY, "system.local has no host_id, data_center or rack yet");
    return true;
}

static bool read_peers(struct reading *r, struct rows *rows, struct err *err)
{
    while (rows_next(rows, err))
        add_node(r, rows, false);
    return err->kind == ERR_NONE;
}

static bool read_keyspaces(struct topology *t, struct rows *rows, struct err *err)
{
    while (rows_next(rows, err)) {
        struct keyspace *ks = xalloc(sizeof *ks);
        struct err ignored;
        struct map_entry *e = map_put(&t->keyspaces, rows_cell(rows, "keyspace_name"), NULL);

        ks->readable = replication_read(rows_cell(rows, "replication"), &ks->how, &ignored);
        free(e->value);
        e->value = ks;
    }
    return err->kind == ERR_NONE;
}

static bool read_tables(struct topology *t, struct rows *rows, const char *name_column,
                        struct err *err)
{
    while (rows_next(rows, err)) {
        struct slice ks = rows_cell(rows, "keyspace_name");
        struct slice name = rows_cell(rows, name_column);
        struct map_entry *known = map_get(&t->keyspaces, ks);

        if ((t->table_count & (t->table_count - 1)) == 0 && t->table_count != 1)
            t->tables =
                xrealloc(t->tables, (t->table_count ? 2 * t->table_count : 2) * sizeof *t->tables);
        struct table_name *into = &t->tables[t->table_count];
        into->keyspace = known ? (const char *)known->key.p
                               : arena_strndup(&t->mem, ks.p ? (const char *)ks.p : "", ks.n);
        into->table = arena_strndup(&t->mem, name.p ? (const char *)name.p : "", name.n);
        if (!into->keyspace || !into->table)
            return err_set(err, ERR_SYSTEM, "the cluster has too many tables");
        t->table_count++;
    }
    return err->kind == ERR_NONE;
}

static bool check_dc(const struct topology *t, const char *wanted, struct err *err)
{
    const char *names[33] = {NULL};
    size_t count = 0;

    for (size_t i = 0; i < t->node_count; i++) {
        bool known = false;
        if (strcmp(t->nodes[i]->dc, wanted) == 0)
            return true;
        for (size_t j = 0; j < count; j++)
            known = known || strcmp(names[j], t->nodes[i]->dc) == 0;
        if (!known && count < 32)
            names[count++] = t->nodes[i]->dc;
    }
    const char *near = text_nearest(slice_str(wanted), names);
    char list[256] = "";
    for (size_t i = 0, n = 0; i < count && n < sizeof list; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    if (near)
        return err_set(err, ERR_USER, "no node is in data centre '%s'; did you mean '%s'? (%s)",
                       wanted, near, list);
    return err_set(err, ERR_USER, "no node is in data centre '%s' (there are: %s)", wanted, list);
}

static bool read_all(struct reading *r, struct queries *q, struct err *err)
{
    struct topology *t = r->t;
    struct rows rows;
    struct err ignored;

    if (!queries_rows(q, Q_LOCAL, &rows, err) || !read_local(r, &rows, err))
        return false;
    /* Cassandra 4.0 and later have peers_v2; others have no such table. */
    if (!queries_rows(q, Q_PEERS_V2, &rows, &ignored) && !queries_rows(q, Q_PEERS, &rows, err))
        return false;
    if (!read_peers(r, &rows, err))
        return false;
    if (!queries_rows(q, Q_KEYSPACES, &rows, err) || !read_keyspaces(t, &rows, err) ||
        !queries_rows(q, Q_TABLES, &rows, err) || !read_tables(t, &rows, "table_name", err))
        return false;
    if (queries_rows(q, Q_VIEWS, &rows, &ignored) && !read_tables(t, &rows, "view_name", err))
        return false;
    t->ring = ring_new(r->found, t->node_count);
    return true;
}

struct topology *topology_read(struct conn *c, const struct conn_env *env, struct node_book *book,
                               const char *host, uint16_t port, const char *local_dc, bool events,
                               struct err *err)
{
    AUTO(topology) struct topology *t = xalloc(sizeof *t);
    struct reading r = {.t = t, .env = env, .book = book, .host = host, .port = port};
    struct queries q;

    atomic_init(&t->owners, 1);
    pthread_mutex_init(&t->map_lock, NULL);
    map_init(&t->keyspaces);
    arena_init(&t->mem, NAMES_BYTES_MAX);
    arena_init(&r.mem, NAMES_BYTES_MAX);
    queries_init(&q, c);
    bool ok = !events || queries_register(&q, err);
    for (int i = 0; i < Q_COUNT && ok; i++)
        ok = queries_add(&q, texts[i], NULL, 0, err);
    ok = ok && queries_wait(&q, err) && read_all(&r, &q, err);
    queries_fini(&q);
    arena_fini(&r.mem);
    free(r.found);
    if (!ok)
        return NULL;
    t->local_dc = xstrdup(local_dc ? local_dc : t->asked->dc);
    if (!check_dc(t, t->local_dc, err))
        return NULL;
    return TAKE(t);
}

struct topology *topology_hold(struct topology *t)
{
    atomic_fetch_add(&t->owners, 1);
    return t;
}

void topology_free(struct topology *t)
{
    if (!t || atomic_fetch_sub(&t->owners, 1) != 1)
        return;
    for (size_t i = 0; i < t->keyspaces.len; i++) {
        struct keyspace *ks = t->keyspaces.entries[i].value;
        if (ks && ks->map)
            ring_map_free(ks->map);
        free(ks);
    }
    map_fini(&t->keyspaces);
    if (t->ring)
        ring_free(t->ring);
    free(t->nodes);
    free(t->tables);
    free(t->local_dc);
    free(t->cluster_name);
    free(t->release);
    free(t->partitioner);
    arena_fini(&t->mem);
    pthread_mutex_destroy(&t->map_lock);
    free(t);
}

bool topology_has_keyspace(const struct topology *t, const char *name)
{
    return map_get(&t->keyspaces, slice_str(name)) != NULL;
}

const struct ring_map *topology_map(struct topology *t, const char *keyspace)
{
    struct map_entry *e = t->murmur3 ? map_get(&t->keyspaces, slice_str(keyspace)) : NULL;
    struct keyspace *ks = e ? e->value : NULL;

    if (!ks || !ks->readable)
        return NULL;
    pthread_mutex_lock(&t->map_lock);
    if (!ks->map)
        ks->map = ring_map_new(t->ring, &ks->how);
    struct ring_map *map = ks->map;
    pthread_mutex_unlock(&t->map_lock);
    return map;
}
