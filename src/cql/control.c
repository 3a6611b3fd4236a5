#include "cql/control.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum {
    CONTROL_DELAY_MS = 500,
    DEBOUNCE_MS = 1000,
    REFRESH_MS = 5 * 60 * 1000,
    KEEP_ALIVE_MS = 30 * 1000,
    KEEP_ALIVE_ANSWER_MS = 5000,
    RECONNECT_FIRST_MS = 1000,
    RECONNECT_MOST_MS = 30000,
};

struct control {
    struct cql_cluster *c;
    struct cancel stop;
    struct conn_env env; /* the cluster's, with `stop` for its cancel */
    pthread_t thread;
    struct conn *conn; /* NULL: none at the moment */
    char host[256];    /* where it leads */
    uint16_t port;
    struct node *node;  /* the same; NULL: not known */
    int64_t heard_ms;   /* last sign of life */
    int64_t refresh_ms; /* when to read everything again */
    int backoff_ms;
};

static int64_t now_ms(struct control *t)
{
    return clock_mono_ms(t->env.options->clock);
}

static bool stopped(struct control *t)
{
    return cancel_level(&t->stop) >= 2;
}

static void rest(struct control *t, int ms)
{
    struct pollfd fd = {.fd = t->stop.fd, .events = POLLIN};

    (void)poll(&fd, 1, ms);
}

static void control_drop(struct control *t)
{
    conn_free(t->conn);
    t->conn = NULL;
}

static bool control_read(struct control *t, bool events)
{
    struct cql_cluster *c = t->c;
    struct err err;
    struct topology *now = topology_read(t->conn, &t->env, cluster_book(c), t->host, t->port,
                                         cluster_local_dc(c), events, &err);

    t->heard_ms = now_ms(t);
    t->refresh_ms = t->heard_ms + REFRESH_MS;
    if (now) {
        t->node = now->asked;
        /* Whatever UP was said while nobody listened. */
        for (size_t i = 0; events && i < now->node_count; i++)
            atomic_store(&now->nodes[i]->down_until_ms, 0);
        cluster_publish(c, now);
        return true;
    }
    /* The local data centre may be gone from this node's view for a moment: what is known stays. */
    if (err.kind == ERR_USER && !conn_broken(t->conn))
        return true;
    control_drop(t);
    return false;
}

static bool control_connect(struct control *t)
{
    struct cql_cluster *c = t->c;
    const struct contact *to;
    struct err err;

    t->conn = cluster_connect_any(c, &t->env, &t->node, &err);
    if (t->conn) {
        snprintf(t->host, sizeof t->host, "%s", t->node->host);
        t->port = t->node->port;
        return control_read(t, true);
    }
    t->node = NULL;
    for (size_t i = 0; !stopped(t) && (to = cluster_contact(c, i)); i++) {
        t->conn = conn_open(&t->env, to->host, to->port, &err);
        if (t->conn) {
            snprintf(t->host, sizeof t->host, "%s", to->host);
            t->port = to->port;
            return control_read(t, true);
        }
    }
    return false;
}

static void soon(struct control *t)
{
    int64_t at = now_ms(t) + DEBOUNCE_MS;

    if (at < t->refresh_ms)
        t->refresh_ms = at;
}

static void node_status(struct control *t, const struct codec_event *e)
{
    struct cql_cluster *c = t->c;
    char host[64];
    char address[80];

    if ((e->address.n != 4 && e->address.n != 16) ||
        !inet_ntop(e->address.n == 4 ? AF_INET : AF_INET6, e->address.p, host, sizeof host))
        return;
    snprintf(address, sizeof address, e->address.n == 4 ? "%s:%d" : "[%s]:%d", host, e->port);
    AUTO(topology) struct topology *now = cluster_topology(c);
    for (size_t i = 0; i < now->node_count; i++) {
        if (strcmp(now->nodes[i]->advertised, address) != 0)
            continue;
        if (slice_is(e->change, "DOWN"))
            node_is_down(now->nodes[i], t->env.options->clock);
        else if (slice_is(e->change, "UP"))
            node_worked(now->nodes[i]);
    }
}

static void take_events(struct control *t)
{
    struct slice body;
    bool lost;
    bool any = false;

    while (conn_next_event(t->conn, &body, &lost)) {
        struct codec_event e;
        struct err err;
        any = true;
        if (codec_read_event(body, &e, &err) && e.type == CODEC_EVENT_STATUS)
            node_status(t, &e);
    }
    if (any || lost)
        soon(t);
}

static bool keep_alive(struct control *t)
{
    struct call call = {0};
    struct err err;
    bool ok = conn_begin(t->conn, &call, &err);

    if (ok) {
        codec_options(conn_out(t->conn), conn_version(t->conn), call.stream);
        call.until = deadline_in(t->env.options->clock, KEEP_ALIVE_ANSWER_MS);
        ok = conn_wait(t->conn, &call, &err);
    }
    call_fini(&call);
    t->heard_ms = now_ms(t);
    if (!ok)
        control_drop(t);
    return ok;
}

static void control_step(struct control *t)
{
    struct pollfd fds[2] = {{.fd = conn_fd(t->conn), .events = POLLIN},
                            {.fd = t->stop.fd, .events = POLLIN}};
    struct err err;

    if (!conn_poll(t->conn, &err)) {
        if (t->node)
            node_failed(t->node, t->env.options->clock);
        control_drop(t);
        return;
    }
    take_events(t); /* also those that came while something else was asked */
    int64_t now = now_ms(t);
    int64_t keep_alive_ms = t->heard_ms + KEEP_ALIVE_MS;
    if (now >= t->refresh_ms) {
        control_read(t, false);
    } else if (now >= keep_alive_ms) {
        keep_alive(t);
    } else {
        int64_t due = keep_alive_ms < t->refresh_ms ? keep_alive_ms : t->refresh_ms;
        (void)poll(fds, 2, (int)(due - now));
        if (fds[0].revents)
            t->heard_ms = now_ms(t);
    }
}

static void *control_main(void *arg)
{
    struct control *t = arg;

    /* The topology was read a moment ago, and a short run needs no control connection at all. */
    rest(t, CONTROL_DELAY_MS);
    while (!stopped(t)) {
        if (t->conn) {
            control_step(t);
        } else if (control_connect(t)) {
            t->backoff_ms = RECONNECT_FIRST_MS;
        } else if (!stopped(t)) {
            rest(t, t->backoff_ms);
            t->backoff_ms =
                2 * t->backoff_ms > RECONNECT_MOST_MS ? RECONNECT_MOST_MS : 2 * t->backoff_ms;
        }
    }
    control_drop(t);
    return NULL;
}

struct control *control_start(struct cql_cluster *c, struct err *err)
{
    struct control *t = xalloc(sizeof *t);
    sigset_t all;
    sigset_t before;

    t->c = c;
    t->backoff_ms = RECONNECT_FIRST_MS;
    if (!cancel_init(&t->stop, err)) {
        free(t);
        return NULL;
    }
    t->env = *cluster_env(c);
    t->env.cancel = &t->stop;
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&t->thread, NULL, control_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        return t;
    err_set(err, ERR_SYSTEM, "thread: %s", strerror(rc));
    cancel_fini(&t->stop);
    free(t);
    return NULL;
}

void control_stop(struct control *t)
{
    if (!t)
        return;
    cancel_fire(&t->stop, 2);
    pthread_join(t->thread, NULL);
    cancel_fini(&t->stop);
    free(t);
}
