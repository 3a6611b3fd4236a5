#include "cql/cluster.h"

#include <stdlib.h>

#include "cql/auth.h"
#include "cql/control.h"

enum {
    ESTIMATES_FRESH_MS = 60 * 1000,
    CONTACTS_MAX = 64,
    REASONS_BYTES = 440, /* of those that could not be reached; an err has room for some */
};

struct cql_cluster {
    struct cql_options options; /* its strings are ours */
    struct auth_plain plain;
    struct cql_auth auth;
    struct tls_context *tls;
    struct contact contacts[CONTACTS_MAX];
    size_t contact_count;
    char *local_dc;
    atomic_int version;
    struct conn_counts counts;
    struct conn_env env;
    struct node_book book;
    atomic_uint generation;
    atomic_uint sessions;

    pthread_mutex_t lock; /* of what follows */
    struct topology *topology;
    struct conn *spare;
    struct node *spare_node;
    struct estimates estimates;
    char *estimates_of; /* "ks\ntable" */
    int64_t estimates_ms;

    struct control *control;
};

/* ---- options ----------------------------------------------------------------------------------
 */

static const char *dup_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

static const char **dup_list(const char *const *list)
{
    size_t n = 0;

    while (list && list[n])
        n++;
    const char **copy = xalloc((n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = xstrdup(list[i]);
    return copy;
}

static void free_list(const char *const *list)
{
    for (size_t i = 0; list && list[i]; i++)
        free((char *)(uintptr_t)list[i]);
    free((void *)(uintptr_t)list);
}

static void copy_options(struct cql_cluster *c, const struct cql_options *o)
{
    struct cql_options *mine = &c->options;

    *mine = *o;
    mine->hosts = dup_list(o->hosts);
    mine->address_map = dup_list(o->address_map);
    mine->local_dc = dup_or_null(o->local_dc && o->local_dc[0] ? o->local_dc : NULL);
    mine->username = dup_or_null(o->username);
    mine->password = dup_or_null(o->password);
    mine->tls.ca_file = dup_or_null(o->tls.ca_file);
    mine->tls.cert_file = dup_or_null(o->tls.cert_file);
    mine->tls.key_file = dup_or_null(o->tls.key_file);
    mine->tls.server_name = dup_or_null(o->tls.server_name);
}

static void free_options(struct cql_options *o)
{
    free_list(o->hosts);
    free_list(o->address_map);
    if (o->password)
        explicit_bzero((char *)(uintptr_t)o->password, strlen(o->password));
    const char *const texts[] = {o->local_dc,       o->username,      o->password,
                                 o->tls.ca_file,    o->tls.cert_file, o->tls.key_file,
                                 o->tls.server_name};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free((char *)(uintptr_t)texts[i]);
}

static bool read_contacts(struct cql_cluster *c, struct err *err)
{
    for (const char *const *h = c->options.hosts; *h; h++) {
        struct contact *to = &c->contacts[c->contact_count];
        if (c->contact_count == CONTACTS_MAX)
            return err_set(err, ERR_USER, "more than %d Cassandra hosts are given", CONTACTS_MAX);
        to->port = c->options.port;
        if (!address_split(*h, to->host, sizeof to->host, &to->port))
            return err_set(err, ERR_USER, "'%s' is not a host or host:port", *h);
        c->contact_count++;
    }
    if (!c->contact_count)
        return err_set(err, ERR_USER, "no Cassandra host is given");
    for (const char *const *m = c->options.address_map; *m; m++)
        if (!strchr(*m, '=') || (*m)[0] == '=' || strchr(*m, '=')[1] == '\0')
            return err_set(err, ERR_USER, "address map: '%s' is not ADVERTISED=REACHABLE", *m);
    return true;
}

/* ---- opening and closing ----------------------------------------------------------------------
 */

void cluster_publish(struct cql_cluster *c, struct topology *t)
{
    pthread_mutex_lock(&c->lock);
    struct topology *old = c->topology;
    c->topology = t;
    pthread_mutex_unlock(&c->lock);
    atomic_fetch_add(&c->generation, 1);
    topology_free(old);
}

/* Beside each other: they are no chain of causes. */
static void add_reason(struct err *all, const struct err *one, size_t *left_out)
{
    size_t n = strlen(all->text);

    if (!n)
        *all = *one;
    else if (n + strlen("; ") + strlen(one->text) <= REASONS_BYTES)
        snprintf(all->text + n, sizeof all->text - n, "; %s", one->text);
    else
        (*left_out)++;
}

static bool open_first(struct cql_cluster *c, struct err *err)
{
    struct err all = {0};
    enum err_kind kind = ERR_RETRY; /* as long as each of them may pass */
    size_t left_out = 0;

    for (size_t i = 0; i < c->contact_count; i++) {
        const struct contact *to = &c->contacts[i];
        struct topology *t = NULL;

        err_clear(err);
        AUTO(conn) struct conn *conn = conn_open(&c->env, to->host, to->port, err);
        if (conn)
            t = topology_read(conn, &c->env, &c->book, to->host, to->port, c->options.local_dc,
                              false, err);
        if (t) {
            c->local_dc = xstrdup(t->local_dc);
            c->topology = t;
            c->spare_node = t->asked;
            c->spare = TAKE(conn);
            return true;
        }
        if (err->kind != ERR_RETRY && err->kind != ERR_REACH)
            return false;
        if (err->kind == ERR_REACH)
            kind = ERR_REACH;
        add_reason(&all, err, &left_out);
    }
    if (left_out)
        err_set(err, kind, "%s; and %zu more", all.text, left_out);
    else
        err_set(err, kind, "%s", all.text);
    return err_wrap(err, "could not reach Cassandra");
}

struct cql_cluster *cql_cluster_open(const struct cql_options *options, struct err *err)
{
    AUTO(cql_cluster) struct cql_cluster *c = xalloc(sizeof *c);

    ensure(options->clock && options->hosts);
    pthread_mutex_init(&c->lock, NULL);
    node_book_init(&c->book);
    copy_options(c, options);
    c->plain = (struct auth_plain){c->options.username, c->options.password};
    c->auth = options->auth ? *options->auth : auth_plain(&c->plain);
    c->env = (struct conn_env){.options = &c->options,
                               .auth = &c->auth,
                               .cancel = options->cancel,
                               .version = &c->version,
                               .counts = &c->counts};
    if (!read_contacts(c, err))
        return NULL;
    if (c->options.tls.enabled) {
        const struct cql_tls *tls = &c->options.tls;
        struct tls_options files = {.insecure = tls->insecure,
                                    .ca_file = tls->ca_file,
                                    .cert_file = tls->cert_file,
                                    .key_file = tls->key_file};
        c->tls = tls_context_new(&files, err);
        if (!c->tls)
            return NULL;
        c->env.tls = c->tls;
    }
    if (!open_first(c, err) || !(c->control = control_start(c, err)))
        return NULL;
    return TAKE(c);
}

void cql_cluster_free(struct cql_cluster *c)
{
    if (!c)
        return;
    control_stop(c->control);
    conn_free(c->spare);
    topology_free(c->topology);
    node_book_fini(&c->book);
    tls_context_free(c->tls);
    free(c->estimates.list);
    free(c->estimates_of);
    free(c->local_dc);
    free_options(&c->options);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- for sessions and the schema reader -------------------------------------------------------
 */

const struct conn_env *cluster_env(const struct cql_cluster *c)
{
    return &c->env;
}

struct node_book *cluster_book(struct cql_cluster *c)
{
    return &c->book;
}

const char *cluster_local_dc(const struct cql_cluster *c)
{
    return c->local_dc;
}

const struct contact *cluster_contact(const struct cql_cluster *c, size_t i)
{
    return i < c->contact_count ? &c->contacts[i] : NULL;
}

struct topology *cluster_topology(struct cql_cluster *c)
{
    pthread_mutex_lock(&c->lock);
    struct topology *t = topology_hold(c->topology);
    pthread_mutex_unlock(&c->lock);
    return t;
}

unsigned cluster_generation(struct cql_cluster *c)
{
    return atomic_load(&c->generation);
}

unsigned cluster_session_number(struct cql_cluster *c)
{
    return atomic_fetch_add(&c->sessions, 1);
}

/* The spare if it leads to `node` (NULL: anywhere) and still works. */
static struct conn *take_spare(struct cql_cluster *c, const struct node *node, struct node **which)
{
    struct conn *conn = NULL;
    struct err err;

    pthread_mutex_lock(&c->lock);
    if (c->spare && (!node || c->spare_node == node)) {
        conn = TAKE(c->spare);
        *which = c->spare_node;
    }
    pthread_mutex_unlock(&c->lock);
    if (conn && !conn_poll(conn, &err)) {
        conn_free(conn);
        conn = NULL;
    }
    return conn;
}

static struct conn *connect_node(struct cql_cluster *c, const struct conn_env *env,
                                 struct node *node, struct err *err)
{
    struct conn *conn = conn_open(env, node->host, node->port, err);

    if (conn)
        node_worked(node);
    else if (err->kind != ERR_CANCEL && err->kind != ERR_SYSTEM)
        node_failed(node, c->options.clock);
    if (conn)
        atomic_fetch_add_explicit(&c->counts.reconnects, 1, memory_order_relaxed);
    return conn;
}

struct conn *cluster_connect(struct cql_cluster *c, struct node *node, struct err *err)
{
    struct node *which;
    struct conn *conn = take_spare(c, node, &which);

    return conn ? conn : connect_node(c, &c->env, node, err);
}

struct conn *cluster_connect_any(struct cql_cluster *c, const struct conn_env *env,
                                 struct node **node, struct err *err)
{
    AUTO(topology) struct topology *t = cluster_topology(c);

    err_set(err, ERR_RETRY, "no node is known in data centre '%s'", c->local_dc);
    for (int avoided = 0; avoided < 2; avoided++) {
        for (size_t i = 0; i < t->node_count; i++) {
            struct node *n = t->nodes[i];
            if (strcmp(n->dc, c->local_dc) != 0 ||
                node_avoided(n, c->options.clock) != (bool)avoided)
                continue;
            struct conn *conn = connect_node(c, env, n, err);
            if (conn)
                *node = n;
            if (conn || err->kind == ERR_CANCEL || err->kind == ERR_SYSTEM)
                return conn;
        }
    }
    return NULL;
}

struct conn *cluster_borrow(struct cql_cluster *c, struct node **node, struct err *err)
{
    struct conn *conn = take_spare(c, NULL, node);

    return conn ? conn : cluster_connect_any(c, &c->env, node, err);
}

void cluster_give_back(struct cql_cluster *c, struct conn *conn, struct node *node)
{
    if (!conn)
        return;
    if (!conn_broken(conn) && conn_waiting(conn) == 0) {
        pthread_mutex_lock(&c->lock);
        if (!c->spare) {
            c->spare = TAKE(conn);
            c->spare_node = node;
        }
        pthread_mutex_unlock(&c->lock);
    }
    conn_free(conn);
}

bool cluster_refresh(struct cql_cluster *c, struct conn *conn, struct node *node, struct err *err)
{
    struct topology *t =
        topology_read(conn, &c->env, &c->book, node->host, node->port, c->local_dc, false, err);

    if (t)
        cluster_publish(c, t);
    return t != NULL;
}

void cluster_put_estimates(struct cql_cluster *c, const char *keyspace, const char *table,
                           struct estimates *e)
{
    pthread_mutex_lock(&c->lock);
    free(c->estimates.list);
    free(c->estimates_of);
    c->estimates = *e;
    c->estimates_of = xsprintf("%s\n%s", keyspace, table);
    c->estimates_ms = clock_mono_ms(c->options.clock);
    pthread_mutex_unlock(&c->lock);
    *e = (struct estimates){0};
}

bool cluster_get_estimates(struct cql_cluster *c, const char *keyspace, const char *table,
                           struct estimates *out)
{
    AUTO_STR char *of = xsprintf("%s\n%s", keyspace, table);
    bool found = false;

    pthread_mutex_lock(&c->lock);
    if (c->estimates_of && strcmp(c->estimates_of, of) == 0 &&
        clock_mono_ms(c->options.clock) - c->estimates_ms < ESTIMATES_FRESH_MS) {
        size_t bytes = c->estimates.count * sizeof *out->list;
        out->count = c->estimates.count;
        out->list = xalloc(bytes ? bytes : 1);
        if (bytes)
            memcpy(out->list, c->estimates.list, bytes);
        found = true;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

/* ---- what the operator sees -------------------------------------------------------------------
 */

void cql_cluster_counters(struct cql_cluster *c, struct cql_counters *out)
{
    const struct conn_counts *n = &c->counts;

    *out = (struct cql_counters){
        .requests = atomic_load(&n->requests),
        .retries_other_node = atomic_load(&n->retries_other_node),
        .reprepares = atomic_load(&n->reprepares),
        .reconnects = atomic_load(&n->reconnects),
        .bytes_in = atomic_load(&n->bytes_in),
        .bytes_out = atomic_load(&n->bytes_out),
    };
}

void cql_cluster_describe(struct cql_cluster *c, char *text, size_t size)
{
    AUTO(topology) struct topology *t = cluster_topology(c);

    snprintf(text, size, "%s, release %s, protocol v%d, data centre %s, %zu node%s",
             t->cluster_name, t->release, atomic_load(&c->version), c->local_dc, t->node_count,
             t->node_count == 1 ? "" : "s");
}
