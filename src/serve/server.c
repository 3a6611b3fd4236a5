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

enum {
    MAX_CONNECTIONS = 512,
    IDLE_S = 120, /* of a connection that says nothing */
    STACK_BYTES = 512 << 10,
    STOP_S = 5,
    FULL_RETRY_S = 1,         /* Retry-After of 429: a queue moves */
    RETRY_AFTER_S = 5,        /* of 503 */
    LOG_EVERY_MS = 10000,     /* of the same kind of refusal */
    SWALLOW_BYTES = 64 << 20, /* of a body too large, so that its sender hears the answer */
};

struct server {
    struct server_options o;
    struct MHD_Daemon *daemon;
    char address[128];
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned active;            /* exchanges whose answer is not sent yet; guarded by the lock */
    atomic_size_t bodies_bytes; /* of all requests being received or answered */
    atomic_int_least64_t log_next_ms;
    atomic_uint_least64_t log_skipped;
};

enum route { ROUTE_NONE, ROUTE_SYNC, ROUTE_LIVE, ROUTE_READY, ROUTE_METRICS };

/* One request, from its headers to its answer. */
struct exchange {
    struct server *server;
    enum route route;
    struct buf body;
    size_t received;
    bool too_large;
    bool no_room; /* all bodies together */
};

/* ---- answering ---- */

static enum MHD_Result send_text(struct MHD_Connection *c, int status, const char *content_type,
                                 const struct buf *body)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(body->len, body->p, MHD_RESPMEM_MUST_COPY);

    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    if (status == 429 || status == 503) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", status == 429 ? FULL_RETRY_S : RETRY_AFTER_S);
        MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
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
    return s->o.unreachable && s->o.unreachable(s->o.unreachable_ctx);
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

static void do_call(struct server *s, const struct syncapi_call *call,
                    struct syncapi_answer *answer)
{
    const struct syncapi_rules *rules = &s->o.rules;
    struct ticket *ticket = NULL;
    bool awaited = call->wait != SYNCAPI_NO_WAIT;
    struct err err;

    switch (work_submit(s->o.work, call->object_type, call->ids, awaited ? &ticket : NULL, &err)) {
    case WORK_TAKEN:
        break;
    case WORK_FULL:
        syncapi_refuse(rules, call->request, SYNCAPI_FULL, answer);
        return;
    case WORK_TOO_MANY:
        syncapi_refuse(rules, call->request, SYNCAPI_TOO_LARGE, answer);
        return;
    case WORK_CLOSED:
        syncapi_refuse(rules, call->request, SYNCAPI_STOPPING, answer);
        return;
    case WORK_NOT_KEPT:
        LOG(LOG_ERROR, "journal_failed", F_STR("error", err.text));
        syncapi_refuse(rules, call->request, SYNCAPI_NOT_KEPT, answer);
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

static enum MHD_Result answer_sync(struct exchange *x, struct MHD_Connection *c, const char *path)
{
    struct server *s = x->server;
    struct syncapi_request request;
    struct syncapi_answer answer;
    struct syncapi_call call;
    struct arena mem;
    char fresh_id[37];

    fill_request(x, c, path, fresh_id, &request);
    syncapi_answer_init(&answer, x->body.len);
    /* A tree is a few times its text; text that is nothing but tiny elements is refused. */
    arena_init(&mem, 8 * x->body.len + (1 << 20));
    if (x->route == ROUTE_NONE)
        syncapi_refuse(&s->o.rules, &request, SYNCAPI_NOT_FOUND, &answer);
    else if (x->too_large)
        syncapi_refuse(&s->o.rules, &request, SYNCAPI_TOO_LARGE, &answer);
    else if (x->no_room)
        syncapi_refuse(&s->o.rules, &request, SYNCAPI_FULL, &answer);
    else if (syncapi_parse(&s->o.rules, &request, &mem, &call, &answer))
        do_call(s, &call, &answer);
    if (answer.event[0])
        count_refusal(s, &answer, path);
    ensure(!answer.body.full);
    enum MHD_Result ok = send_text(c, answer.status, "application/json", &answer.body);
    arena_fini(&mem);
    syncapi_answer_fini(&answer);
    return ok;
}

/* ---- the rest ---- */

/* Also when nobody asked for work lately. */
static bool is_ready(struct server *s, char *why, size_t why_size)
{
    if (!work_healthy(s->o.work, why, why_size))
        return false;
    if (!is_unreachable(s))
        return true;
    snprintf(why, why_size, "Elasticsearch can't be connected to");
    return false;
}

static enum MHD_Result answer_health(struct server *s, struct MHD_Connection *c, enum route route)
{
    char why[300] = "";
    bool well = route == ROUTE_LIVE || is_ready(s, why, sizeof why);
    struct buf b;

    buf_init(&b, 4096);
    buf_printf(&b, "{\"healthy\":%s", well ? "true" : "false");
    if (!well) {
        buf_add_str(&b, ",\"reason\":");
        json_add_string(&b, slice_str(why));
    }
    buf_add_byte(&b, '}');
    enum MHD_Result ok = send_text(c, well ? 200 : 503, "application/json", &b);
    buf_fini(&b);
    return ok;
}

static enum MHD_Result answer_metrics(struct server *s, struct MHD_Connection *c)
{
    struct buf b;

    buf_init(&b, 64 << 10);
    metrics_write(s->o.metrics, &b);
    enum MHD_Result ok = send_text(c, 200, "text/plain; version=0.0.4", &b);
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

    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
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
    if (x->route != ROUTE_SYNC || x->too_large || x->no_room) {
        atomic_fetch_sub(&s->bodies_bytes, x->body.len);
        buf_fini(&x->body);
        buf_init(&x->body, max);
        return x->received <= max + SWALLOW_BYTES;
    }
    /* A few of the largest at once, any number of small ones. */
    if (atomic_fetch_add(&s->bodies_bytes, n) + n > 2 * max + SWALLOW_BYTES) {
        atomic_fetch_sub(&s->bodies_bytes, n);
        x->no_room = true;
        return true;
    }
    buf_add(&x->body, data, n);
    return true;
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
        buf_init(&x->body, s->o.max_body_bytes);
        *own = x;
        count_active(s, 1);
        return MHD_YES;
    }
    if (*data_size > 0) {
        size_t n = *data_size;
        *data_size = 0;
        return add_body(x, data, n) ? MHD_YES : MHD_NO;
    }
    switch (x->route) {
    case ROUTE_LIVE:
    case ROUTE_READY:
        return answer_health(s, c, x->route);
    case ROUTE_METRICS:
        return answer_metrics(s, c);
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

    (void)c;
    (void)how;
    if (!x)
        return;
    atomic_fetch_sub(&s->bodies_bytes, x->body.len);
    buf_fini(&x->body);
    free(x);
    *own = NULL;
    count_active(s, -1);
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
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct server *server_start(const struct server_options *o, struct err *err)
{
    int fd = open_socket(o->listen, err);

    if (fd < 0)
        return NULL;
    struct server *s = xalloc(sizeof *s);
    s->o = *o;
    name_socket(fd, s->address, sizeof s->address);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->idle, NULL);
    s->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
            MHD_USE_ITC | MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_THREAD_STACK_SIZE,
        (size_t)STACK_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
    if (s->daemon)
        return s;
    err_set(err, ERR_SYSTEM, "can't start the HTTP server: %s", strerror(errno));
    close(fd);
    server_free(s);
    return NULL;
}

const char *server_address(const struct server *s)
{
    return s->address;
}

/* Requests that came before the door was shut get their answers; one that is still being received
 * has STOP_S for the rest. */
static void finish_exchanges(struct server *s)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_S;
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
    server_free(s);
}
