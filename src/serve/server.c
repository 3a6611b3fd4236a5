#include "serve/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "serve/calls.h"

enum {
    STACK_BYTES = 512 << 10,
    STOP_MS = 5000,
    LOG_EVERY_MS = 10000,     /* of the same kind of refusal */
    SWALLOW_BYTES = 64 << 20, /* of a body too large, so that its sender hears the answer */
    BODIES_BYTES = 16 << 20,  /* of all bodies, beside the largest that may be */
    HEADER_BYTES = 32 << 10,
    NODE_BYTES = 512, /* of an id in memory, beside its text */
    NOT_READY_RETRY_S = 5,
    WATCH_MS = 250,
    MAX_RUN_BYTES = 256 << 20, /* about, of an answer about a run */
};

/* A connection, for the watch. */
struct client {
    int fd;
    int64_t since_ms; /* it has to act; -1: we have. Guarded by the server's lock, as is the list */
    struct client *next;
    struct client **link;
};

struct server {
    struct server_options o;
    struct MHD_Daemon *daemon;
    char address[128];
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned active;            /* exchanges whose answer is not sent yet; guarded by the lock */
    atomic_size_t bodies_bytes; /* of all requests being received or answered, and
                                   of what is told of runs */
    _Atomic(const char *const *) types;
    struct client *clients;
    pthread_t watch;
    pthread_cond_t watch_end;
    bool watching;
    atomic_int_least64_t log_next_ms;
    atomic_uint_least64_t log_skipped;
};

enum route { ROUTE_NONE, ROUTE_SYNC, ROUTE_RUN, ROUTE_LIVE, ROUTE_READY, ROUTE_METRICS };

/* One request, from its headers to its answer. */
struct exchange {
    struct server *server;
    enum route route;
    struct buf body;
    size_t received;
    bool too_large;
    bool no_room; /* all bodies together */
    bool unauthorized;
    bool malformed;
    size_t held;             /* of bodies_bytes */
    char run[WORK_ID_BYTES]; /* of the call that was taken */
};

/* ---- answering ---- */

static struct client *client_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return i ? i->socket_context : NULL;
}

/* Whose turn is it, the client's or ours. */
static void turn(struct server *s, struct client *client, bool of_client)
{
    if (!client)
        return;
    pthread_mutex_lock(&s->lock);
    client->since_ms = of_client ? clock_mono_ms(s->o.clock) : -1;
    pthread_mutex_unlock(&s->lock);
}

/* Takes the body's bytes over. */
static enum MHD_Result send_text(struct exchange *x, struct MHD_Connection *c, int status,
                                 int retry_after_s, const char *content_type, struct buf *body)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(body->len, body->p, MHD_RESPMEM_MUST_FREE);

    if (!r)
        return MHD_NO;
    buf_init(body, body->max);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    if (retry_after_s) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", retry_after_s);
        MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (status == 401)
        MHD_add_response_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (x->run[0])
        MHD_add_response_header(r, "X-Cass2es-Run", x->run);
    turn(x->server, client_of(c), true);
    enum MHD_Result ok = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return ok;
}

/* A client that is refused may ask a thousand times a second: one line in ten seconds, with how
 * many there were since the last. */
static void log_refusal(struct server *s, const struct syncapi_answer *a, const char *path)
{
    int64_t now = clock_mono_ms(s->o.clock);
    int64_t next = atomic_load(&s->log_next_ms);

    if (now < next || !atomic_compare_exchange_strong(&s->log_next_ms, &next, now + LOG_EVERY_MS)) {
        atomic_fetch_add(&s->log_skipped, 1);
        return;
    }
    LOG(LOG_WARN, "call_not_taken", F_STR("reason", a->event), F_INT("status", a->status),
        F_STR("path", path), F_INT("more", atomic_exchange(&s->log_skipped, 0)));
}

static void count_refusal(struct server *s, const struct syncapi_answer *a, const char *path)
{
    enum metric m = a->status == 429                ? METRIC_calls_full_total
                    : a->status == 401              ? METRIC_calls_unauthorized_total
                    : a->status == 503              ? METRIC_calls_not_kept_total
                    : strcmp(a->event, "late") == 0 ? METRIC_calls_late_total
                                                    : METRIC_calls_refused_total;

    metrics_add(s->o.metrics, m, 1);
    log_refusal(s, a, path);
}

static void new_uuid(char out[37])
{
    uint8_t b[16];

    ensure(getrandom(b, sizeof b, 0) == sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    for (int i = 0, at = 0; i < 16; i++) {
        at += snprintf(out + at, 3, "%02x", b[i]);
        if (i == 3 || i == 5 || i == 7 || i == 9)
            out[at++] = '-';
    }
    out[36] = '\0';
}

static bool is_unreachable(const struct server *s)
{
    return s->o.hooks.unreachable && s->o.hooks.unreachable(s->o.hooks.ctx);
}

/* ---- a call of the Sync API ---- */

static void wait_for_results(struct server *s, const struct syncapi_call *call, struct ticket *t,
                             struct syncapi_answer *answer)
{
    const struct keyed_result *results = work_wait(s->o.work, t, s->o.sync_timeout_ms);

    if (results && call->wait == SYNCAPI_WAIT)
        syncapi_results(call, results, answer);
    else if (call->wait == SYNCAPI_WAIT && syncapi_answers_as_recorded(call) && is_unreachable(s))
        syncapi_unreachable(call, answer);
    else
        syncapi_late(call, answer);
}

/* Taken, it is answered at once, in whatever way it was asked: it takes hours. */
static void do_table(struct exchange *x, const struct syncapi_call *call,
                     struct syncapi_answer *answer)
{
    struct server *s = x->server;
    struct err err = {0};

    switch (s->o.hooks.whole_table(s->o.hooks.ctx, call->object_type, x->run, &err)) {
    case TABLE_TAKEN:
        syncapi_accepted(call, answer);
        break;
    case TABLE_BUSY:
        syncapi_refuse_call(call, SYNCAPI_TABLE_BUSY, answer);
        break;
    case TABLE_STOPPING:
        syncapi_refuse_call(call, SYNCAPI_STOPPING, answer);
        break;
    case TABLE_NOT_KEPT:
        LOG(LOG_ERROR, "whole_table_not_begun", F_STR("error", err.text));
        syncapi_refuse_call(call, SYNCAPI_NOT_KEPT, answer);
        break;
    }
}

static bool is_keyed(struct server *s, const struct syncapi_call *call,
                     struct syncapi_answer *answer)
{
    const struct server_hooks *h = &s->o.hooks;
    struct err err = {0};

    if (!h->keyed_ids || h->keyed_ids(h->ctx, call->object_type, call->ids, &err))
        return true;
    syncapi_refuse_scan(call, err.text, answer);
    return false;
}

static void do_call(struct exchange *x, const struct syncapi_call *call,
                    struct syncapi_answer *answer)
{
    struct server *s = x->server;
    struct ticket *ticket = NULL;
    bool awaited = call->wait != SYNCAPI_NO_WAIT;
    struct err err;

    if (!call->ids) {
        do_table(x, call, answer);
        return;
    }
    if (!is_keyed(s, call, answer))
        return;
    switch (work_submit(s->o.work, call->object_type, call->ids, awaited ? &ticket : NULL, x->run,
                        &err)) {
    case WORK_TAKEN:
        break;
    case WORK_FULL:
        syncapi_refuse_call(call, SYNCAPI_FULL, answer);
        return;
    case WORK_TOO_MANY:
        syncapi_refuse_call(call, SYNCAPI_TOO_LARGE, answer);
        return;
    case WORK_CLOSED:
        syncapi_refuse_call(call, SYNCAPI_STOPPING, answer);
        return;
    case WORK_NOT_KEPT:
        LOG(LOG_ERROR, "journal_failed", F_STR("error", err.text));
        syncapi_refuse_call(call, SYNCAPI_NOT_KEPT, answer);
        return;
    }
    if (awaited)
        wait_for_results(s, call, ticket, answer);
    else
        syncapi_accepted(call, answer);
    ticket_free(ticket);
}

static void fill_request(const struct exchange *x, struct MHD_Connection *c, const char *path,
                         char fresh_id[37], struct syncapi_request *out)
{
    new_uuid(fresh_id);
    *out = (struct syncapi_request){
        .path = path,
        .content_type = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Type"),
        .msgid = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "x-msgid"),
        .request_id = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "X-Request-ID"),
        .fresh_id = fresh_id,
        .now_us = clock_wall_us(x->server->o.clock),
        .body = buf_slice(&x->body),
    };
}

/* The rules of this moment. */
static struct syncapi_rules rules_now(struct server *s)
{
    struct syncapi_rules rules = s->o.rules;

    rules.types = atomic_load(&s->types);
    return rules;
}

/* What was read is in the tree now. */
static bool parse(struct exchange *x, const struct syncapi_rules *rules,
                  struct syncapi_request *request, struct arena *mem, struct syncapi_call *call,
                  struct syncapi_answer *answer)
{
    bool is_call = syncapi_parse(rules, request, mem, call, answer);

    buf_fini(&x->body);
    buf_init(&x->body, x->server->o.max_body_bytes);
    request->body = SLICE_NULL;
    return is_call;
}

static enum MHD_Result answer_sync(struct exchange *x, struct MHD_Connection *c, const char *path)
{
    struct server *s = x->server;
    struct syncapi_request request;
    struct syncapi_answer answer;
    struct syncapi_rules rules = rules_now(s);
    struct syncapi_call call;
    struct arena mem;
    char fresh_id[37];

    fill_request(x, c, path, fresh_id, &request);
    syncapi_answer_init(&answer, x->body.len);
    /* Text, and what is around it for as many ids as the queue takes: more are refused here. */
    arena_init(&mem, x->body.len + x->body.len / 4 + NODE_BYTES * s->o.queue_ids + (1 << 20));
    if (x->malformed)
        syncapi_refuse(&rules, &request, SYNCAPI_MALFORMED, &answer);
    else if (x->unauthorized)
        syncapi_refuse(&rules, &request, SYNCAPI_UNAUTHORIZED, &answer);
    else if (x->route == ROUTE_NONE)
        syncapi_refuse(&rules, &request, SYNCAPI_NOT_FOUND, &answer);
    else if (x->too_large)
        syncapi_refuse(&rules, &request, SYNCAPI_TOO_LARGE, &answer);
    else if (x->no_room)
        syncapi_refuse(&rules, &request, SYNCAPI_FULL, &answer);
    else if (parse(x, &rules, &request, &mem, &call, &answer))
        do_call(x, &call, &answer);
    if (answer.event[0])
        count_refusal(s, &answer, path);
    ensure(!answer.body.full);
    arena_fini(&mem);
    enum MHD_Result ok =
        send_text(x, c, answer.status, answer.retry_after_s, "application/json", &answer.body);
    syncapi_answer_fini(&answer);
    return ok;
}

static void let_go(struct exchange *x)
{
    atomic_fetch_sub(&x->server->bodies_bytes, x->held);
    x->held = 0;
}

/* Of an answer's bytes, among those of all bodies: one of any size, when it is alone. */
static bool hold(void *ctx, size_t bytes)
{
    struct exchange *x = ctx;
    struct server *s = x->server;
    size_t more = bytes > x->held ? bytes - x->held : 0;
    size_t all = atomic_fetch_add(&s->bodies_bytes, more) + more;

    x->held += more;
    return all <= s->o.max_body_bytes + BODIES_BYTES || all == x->held;
}

static bool describe_run(struct exchange *x, const char *id, struct buf *out, bool *found,
                         struct err *err)
{
    struct server *s = x->server;

    *found = false;
    if (calls_is_id(id))
        return calls_describe(s->o.journal, id, hold, x, out, found, err);
    if (s->o.hooks.table_run && !s->o.hooks.table_run(s->o.hooks.ctx, id, out, found, err))
        return false;
    return hold(x, out->cap) || err_set(err, ERR_RETRY, "no room for the answer");
}

static void refuse_run(struct exchange *x, const struct syncapi_rules *rules,
                       const struct syncapi_request *request, enum syncapi_refusal why,
                       struct syncapi_answer *answer)
{
    buf_fini(&answer->body);
    let_go(x);
    syncapi_refuse(rules, request, why, answer);
}

static enum MHD_Result answer_run(struct exchange *x, struct MHD_Connection *c, const char *path)
{
    struct server *s = x->server;
    struct syncapi_rules rules = rules_now(s);
    struct syncapi_request request;
    struct syncapi_answer answer;
    struct err err = {0};
    char fresh_id[37];
    bool found;

    fill_request(x, c, path, fresh_id, &request);
    syncapi_answer_init(&answer, MAX_RUN_BYTES / 8);
    syncapi_own_begin(&rules, &request, &answer);
    bool read = describe_run(x, strrchr(path, '/') + 1, &answer.body, &found, &err);
    syncapi_own_end(&answer);
    if (err.kind == ERR_RETRY) {
        refuse_run(x, &rules, &request, SYNCAPI_FULL, &answer);
    } else if (!read || answer.body.full) {
        LOG(LOG_ERROR, "run_not_read", F_STR("error", err.text));
        refuse_run(x, &rules, &request, SYNCAPI_NOT_READ, &answer);
    } else if (!found) {
        refuse_run(x, &rules, &request, SYNCAPI_NO_RUN, &answer);
    }
    enum MHD_Result ok =
        send_text(x, c, answer.status, answer.retry_after_s, "application/json", &answer.body);
    syncapi_answer_fini(&answer);
    return ok;
}

/* ---- the rest ---- */

/* Also when nobody asked for work lately. */
static bool is_ready(struct server *s, char *why, size_t why_size)
{
    if (!work_healthy(s->o.work, why, why_size))
        return false;
    if (is_unreachable(s)) {
        snprintf(why, why_size, "Elasticsearch can't be connected to");
        return false;
    }
    return !s->o.hooks.cassandra || s->o.hooks.cassandra(s->o.hooks.ctx, why, why_size);
}

static enum MHD_Result answer_health(struct exchange *x, struct MHD_Connection *c)
{
    struct server *s = x->server;
    char why[300] = "";
    bool well = x->route == ROUTE_LIVE || is_ready(s, why, sizeof why);
    struct buf b;

    buf_init(&b, 4096);
    buf_printf(&b, "{\"healthy\":%s", well ? "true" : "false");
    if (!well) {
        buf_add_str(&b, ",\"reason\":");
        json_add_string(&b, slice_str(why));
    }
    buf_add_byte(&b, '}');
    enum MHD_Result ok =
        send_text(x, c, well ? 200 : 503, well ? 0 : NOT_READY_RETRY_S, "application/json", &b);
    buf_fini(&b);
    return ok;
}

static enum MHD_Result answer_metrics(struct exchange *x, struct MHD_Connection *c)
{
    struct server *s = x->server;
    struct buf b;

    buf_init(&b, 64 << 10);
    metrics_write(s->o.metrics, &b);
    enum MHD_Result ok = send_text(x, c, 200, 0, "text/plain; version=0.0.4", &b);
    buf_fini(&b);
    return ok;
}

/* ---- what libmicrohttpd calls ---- */

static enum route find_route(const char *method, const char *path)
{
    static const struct {
        const char *method;
        const char *path;
        enum route route;
    } routes[] = {
        {"POST", "/v1/data/sync", ROUTE_SYNC},
        {"POST", "/data/v1/index/sync", ROUTE_SYNC},
        {"POST", "/api/data/v1/index/sync", ROUTE_SYNC},
        {"GET", "/health/live", ROUTE_LIVE},
        {"GET", "/health/ready", ROUTE_READY},
        {"GET", "/metrics", ROUTE_METRICS},
    };

    if (strcmp(method, "HEAD") == 0)
        method = "GET"; /* the body is left out by who sends it */
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        size_t n = strlen(routes[i].path);
        if (routes[i].route == ROUTE_SYNC && strcmp(method, "GET") == 0 &&
            strncmp(path, routes[i].path, n) == 0 && strncmp(path + n, "/runs/", 6) == 0 &&
            path[n + 6] && !strchr(path + n + 6, '/'))
            return ROUTE_RUN;
        if (strcmp(method, routes[i].method) == 0 && strcmp(path, routes[i].path) == 0)
            return routes[i].route;
    }
    return ROUTE_NONE;
}

/* False: give up on a body without end. */
static bool add_body(struct exchange *x, const char *data, size_t n)
{
    struct server *s = x->server;
    size_t max = s->o.max_body_bytes;

    x->received += n;
    if (x->received > max)
        x->too_large = true;
    if (x->route != ROUTE_SYNC || x->unauthorized || x->too_large || x->no_room) {
        let_go(x);
        buf_fini(&x->body);
        buf_init(&x->body, max);
        return x->received <= max + SWALLOW_BYTES;
    }
    /* One of the largest at a time, any number of small ones. */
    if (atomic_fetch_add(&s->bodies_bytes, n) + n > max + BODIES_BYTES) {
        atomic_fetch_sub(&s->bodies_bytes, n);
        x->no_room = true;
        return true;
    }
    x->held += n;
    buf_add(&x->body, data, n);
    return true;
}

static bool is_allowed(struct server *s, struct MHD_Connection *c, enum route route)
{
    return !s->o.keys || (route != ROUTE_SYNC && route != ROUTE_RUN) ||
           keys_allow(s->o.keys, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization"));
}

struct framing {
    unsigned said; /* how often where the body ends */
    bool odd;
};

static enum MHD_Result look_at_header(void *ctx, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    struct framing *f = ctx;
    bool coding = strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;

    (void)kind;
    f->said += coding || strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    f->odd = f->odd || strpbrk(name, " \t") ||
             (coding && strcasecmp(value ? value : "", "chunked") != 0);
    return MHD_YES;
}

/* Where a proxy in front may see the end of a request elsewhere than we do, what it lets pass as a
 * body would be a request here. */
static bool is_malformed(struct MHD_Connection *c)
{
    struct framing f = {0};

    MHD_get_connection_values(c, MHD_HEADER_KIND, look_at_header, &f);
    return f.odd || f.said > 1;
}

static void count_active(struct server *s, int delta)
{
    pthread_mutex_lock(&s->lock);
    s->active += (unsigned)delta;
    if (s->active == 0)
        pthread_cond_signal(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **own)
{
    struct server *s = ctx;
    struct exchange *x = *own;

    (void)version;
    if (!x) { /* headers */
        x = xalloc(sizeof *x);
        x->server = s;
        x->route = find_route(method, path);
        x->unauthorized = !is_allowed(s, c, x->route);
        buf_init(&x->body, s->o.max_body_bytes);
        *own = x;
        count_active(s, 1);
        x->malformed = is_malformed(c);
        /* Answered before its body, it is the connection's last. */
        return x->malformed ? answer_sync(x, c, path) : MHD_YES;
    }
    if (*data_size > 0) {
        size_t n = *data_size;
        *data_size = 0;
        return add_body(x, data, n) ? MHD_YES : MHD_NO;
    }
    turn(s, client_of(c), false);
    switch (x->route) {
    case ROUTE_LIVE:
    case ROUTE_READY:
        return answer_health(x, c);
    case ROUTE_METRICS:
        return answer_metrics(x, c);
    case ROUTE_RUN:
        return x->unauthorized ? answer_sync(x, c, path) : answer_run(x, c, path);
    case ROUTE_NONE:
    case ROUTE_SYNC:
        break;
    }
    return answer_sync(x, c, path);
}

static void on_completed(void *ctx, struct MHD_Connection *c, void **own,
                         enum MHD_RequestTerminationCode how)
{
    struct server *s = ctx;
    struct exchange *x = *own;

    (void)how;
    if (!x)
        return;
    turn(s, client_of(c), true);
    atomic_fetch_sub(&s->bodies_bytes, x->held);
    buf_fini(&x->body);
    free(x);
    *own = NULL;
    count_active(s, -1);
}

/* ---- clients that take their time ---- */

static void on_connection(void *ctx, struct MHD_Connection *c, void **own,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *s = ctx;
    struct client *client = *own;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) { /* before the descriptor is */
        pthread_mutex_lock(&s->lock);
        *client->link = client->next;
        if (client->next)
            client->next->link = client->link;
        pthread_mutex_unlock(&s->lock);
        metrics_add(s->o.metrics, METRIC_connections, -1);
        free(client);
        *own = NULL;
        return;
    }
    client = xalloc(sizeof *client);
    client->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    client->since_ms = clock_mono_ms(s->o.clock);
    pthread_mutex_lock(&s->lock);
    client->next = s->clients;
    client->link = &s->clients;
    if (client->next)
        client->next->link = &client->next;
    s->clients = client;
    pthread_mutex_unlock(&s->lock);
    metrics_add(s->o.metrics, METRIC_connections, 1);
    *own = client;
}

static void cut_slow_locked(struct server *s)
{
    int64_t latest = clock_mono_ms(s->o.clock) - s->o.client_timeout_ms;

    for (struct client *c = s->clients; c; c = c->next) {
        if (c->since_ms < 0 || c->since_ms > latest)
            continue;
        shutdown(c->fd, SHUT_RDWR); /* its thread sees the end, and closes */
        c->since_ms = -1;
        metrics_add(s->o.metrics, METRIC_connections_cut_total, 1);
    }
}

static void *watch_main(void *ctx)
{
    struct server *s = ctx;
    struct timespec until = clock_wait_end(WATCH_MS);

    pthread_mutex_lock(&s->lock);
    while (s->watching) {
        if (pthread_cond_timedwait(&s->watch_end, &s->lock, &until) == ETIMEDOUT) {
            cut_slow_locked(s);
            until = clock_wait_end(WATCH_MS);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static bool start_watch(struct server *s, struct err *err)
{
    s->watching = true;
    int rc = pthread_create(&s->watch, NULL, watch_main, s);
    if (rc == 0)
        return true;
    s->watching = false;
    return err_set(err, ERR_SYSTEM, "can't start a thread: %s", strerror(rc));
}

static void stop_watch(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    bool was = s->watching;
    s->watching = false;
    pthread_cond_signal(&s->watch_end);
    pthread_mutex_unlock(&s->lock);
    if (was)
        pthread_join(s->watch, NULL);
}

/* A path ends where it says: with a NUL in it, it would be another one here. */
static size_t on_unescape(void *ctx, struct MHD_Connection *c, char *text)
{
    (void)ctx;
    (void)c;
    return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}

static void on_log(void *ctx, const char *fmt, va_list ap)
{
    char text[256];

    (void)ctx;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    const char *line = text;
    LOG(LOG_DEBUG, "http_server", F_STR("text", line));
}

/* ---- listening ---- */

static bool split_address(const char *listen, char host[256], char port[8], struct err *err)
{
    const char *colon = strrchr(listen, ':');
    size_t n = colon ? (size_t)(colon - listen) : 0;
    bool bracketed = n >= 2 && listen[0] == '[' && listen[n - 1] == ']';
    int64_t number;

    if (!colon || n >= 256 || (memchr(listen, ':', n) && !bracketed) ||
        !text_to_i64(slice_str(colon + 1), 0, 65535, &number))
        return err_set(err, ERR_USER, "listen address %s: must be HOST:PORT", listen);
    snprintf(host, 256, "%.*s", (int)(bracketed ? n - 2 : n), bracketed ? listen + 1 : listen);
    snprintf(port, 8, "%d", (int)number);
    return true;
}

static int listen_at(const struct addrinfo *a)
{
    int on = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int open_socket(const char *address, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char host[256] = "";
    char port[8] = "";
    int fd = -1;

    if (!split_address(address, host, port, err))
        return -1;
    bool any = !host[0] || strcmp(host, "*") == 0;
    int rc = getaddrinfo(any ? NULL : host, port, &hints, &found);
    if (rc != 0) {
        err_set(err, ERR_USER, "listen address %s: %s", address, gai_strerror(rc));
        return -1;
    }
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = listen_at(a);
    if (fd < 0)
        err_set(err, ERR_USER, "listen address %s: %s", address, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static void name_socket(int fd, char *out, size_t size)
{
    struct sockaddr_storage at = {0};
    socklen_t n = sizeof at;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];

    ensure(getsockname(fd, (struct sockaddr *)&at, &n) == 0);
    if (getnameinfo((struct sockaddr *)&at, n, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(out, size, "?");
    else
        snprintf(out, size, at.ss_family == AF_INET6 ? "[%.80s]:%.8s" : "%.80s:%.8s", host, port);
}

static void server_free(struct server *s)
{
    pthread_cond_destroy(&s->watch_end);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct server *server_start(const struct server_options *o, struct err *err)
{
    int fd = open_socket(o->listen, err);
    pthread_condattr_t attr;

    if (fd < 0)
        return NULL;
    struct server *s = xalloc(sizeof *s);
    s->o = *o;
    name_socket(fd, s->address, sizeof s->address);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->idle, &attr);
    pthread_cond_init(&s->watch_end, &attr);
    pthread_condattr_destroy(&attr);
    atomic_store(&s->types, o->rules.types);
    if (!start_watch(s, err)) {
        close(fd);
        server_free(s);
        return NULL;
    }
    s->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                                     MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG,
                                 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                                 NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 o->max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)HEADER_BYTES, MHD_OPTION_THREAD_STACK_SIZE,
                                 (size_t)STACK_BYTES, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape,
                                 NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
    if (s->daemon)
        return s;
    err_set(err, ERR_SYSTEM, "can't start the HTTP server: %s", strerror(errno));
    close(fd);
    stop_watch(s);
    server_free(s);
    return NULL;
}

void server_set_types(struct server *s, const char *const *types)
{
    atomic_store(&s->types, types);
}

const char *server_address(const struct server *s)
{
    return s->address;
}

/* Requests that came before the door was shut get their answers; one that is still being received
 * has STOP_MS for the rest. */
static void finish_exchanges(struct server *s)
{
    struct timespec until = clock_wait_end(STOP_MS);

    pthread_mutex_lock(&s->lock);
    while (s->active > 0) {
        if (pthread_cond_timedwait(&s->idle, &s->lock, &until) == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&s->lock);
}

void server_stop(struct server *s)
{
    if (!s)
        return;
    int fd = MHD_quiesce_daemon(s->daemon);
    if (fd >= 0)
        close(fd);
    finish_exchanges(s);
    MHD_stop_daemon(s->daemon);
    stop_watch(s);
    server_free(s);
}
