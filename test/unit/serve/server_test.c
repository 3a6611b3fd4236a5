/* The server on loopback, with plain sockets on the other side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "fake.h"
#include "serve/server.h"

struct house {
    struct bed *bed;
    struct server *server;
};

struct reply {
    int status;
    char text[65536]; /* head and body */
    const char *body;
};

/* The wall clock is an hour ahead of what libc's own waits go by, as when somebody sets it back
 * after a wait was begun: one that ends by it ends an hour late. */
static atomic_bool wall_is_ahead;

int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, id, t);

    if (rc == 0 && id == CLOCK_REALTIME && atomic_load(&wall_is_ahead))
        t->tv_sec += 3600;
    return rc;
}

/* Of the next house. */
static struct keys *house_keys;
static struct server_hooks house_hooks;
static uint32_t house_sync_timeout_ms = 30000;

static struct house house_start(struct bed *b, uint64_t queue_ids, size_t max_body)
{
    struct house h = {.bed = b};
    struct server_options o = {
        .listen = "127.0.0.1:0",
        .max_body_bytes = max_body,
        .sync_timeout_ms = house_sync_timeout_ms,
        .client_timeout_ms = 2000,
        .max_connections = 50,
        .queue_ids = queue_ids,
        .rules = {.types = bed_types},
        .clock = &b->clock,
        .metrics = &b->metrics,
    };

    bed_start(b, 2, queue_ids);
    o.work = b->work;
    o.journal = b->journal;
    o.keys = house_keys;
    o.hooks = house_hooks;
    o.rules.whole_table = house_hooks.whole_table != NULL;
    h.server = server_start(&o, &b->err);
    if (!h.server)
        fail_msg("%s", b->err.text);
    return h;
}

static void house_stop(struct house *h, uint64_t left)
{
    work_drain(h->bed->work);
    server_stop(h->server);
    bed_stop(h->bed, left);
}

static int dial(const struct house *h)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *port = strrchr(server_address(h->server), ':');
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_port = htons((uint16_t)strtol(port + 1, NULL, 10));
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static bool say(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void hear(int fd, struct reply *r)
{
    size_t n = 0;
    ssize_t got;

    while ((got = recv(fd, r->text + n, sizeof r->text - 1 - n, 0)) > 0)
        n += (size_t)got;
    r->text[n] = '\0';
    close(fd);
    r->status = n > 12 ? (int)strtol(r->text + 9, NULL, 10) : 0;
    const char *body = strstr(r->text, "\r\n\r\n");
    r->body = body ? body + 4 : "";
}

static void ask(const struct house *h, const char *method, const char *path, const char *body,
                struct reply *r)
{
    char head[512];
    int fd = dial(h);
    int n = snprintf(head, sizeof head,
                     "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     method, path, strlen(body));

    assert_true(say(fd, head, (size_t)n));
    assert_true(say(fd, body, strlen(body)));
    hear(fd, r);
}

#define CALL(type, ids, more)                                                                      \
    "{\"params\":{},\"request\":{\"objectType\":\"" type                                           \
    "\",\"operationFor\":\"es\",\"objectIds\":[" ids "]" more "}}"
#define AWAIT ",\"operationType\":\"sync\""

static void routes(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;
    static const char *const calls[] = {"/v1/data/sync", "/data/v1/index/sync",
                                        "/api/data/v1/index/sync", "/v1/data/sync?x=1"};
    static const struct {
        const char *method;
        const char *path;
    } wrong[] = {{"GET", "/v1/data/sync"},   {"PUT", "/v1/data/sync"},
                 {"POST", "/v1/data/sync/"}, {"POST", "/"},
                 {"POST", "/health/live"},   {"DELETE", "/metrics"},
                 {"GET", "/v1/data"}};

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        ask(&h, "POST", calls[i], CALL("batch", "\"a\"", ""), &r);
        assert_int_equal(r.status, 200);
        assert_non_null(strstr(r.text, "Content-Type: application/json\r\n"));
        assert_non_null(strstr(r.body, "\"response\":\"SUCCESS\""));
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ask(&h, wrong[i].method, wrong[i].path, "{}", &r);
        assert_int_equal(r.status, 404);
        assert_non_null(strstr(r.body, "\"err\":\"NOT_FOUND\""));
    }
    ask(&h, "GET", "/health/live", "", &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "{\"healthy\":true}");
    ask(&h, "GET", "/health/ready", "", &r);
    assert_int_equal(r.status, 200);
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    ask(&h, "GET", "/metrics", "", &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\ncass2es_calls_taken_total 4\n"));
    assert_non_null(strstr(r.body, "\ncass2es_documents_indexed_total 4\n"));
    assert_non_null(strstr(r.body, "\ncass2es_calls_refused_total 7\n"));
    assert_non_null(strstr(r.body, "# TYPE cass2es_queue_ids gauge\n"));
    house_stop(&h, 0);
}

static void awaited(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;

    ask(&h, "POST", "/v1/data/sync", CALL("user", "\"a\",\"missing\"", AWAIT), &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\"result\":{\"response\":\"SUCCESS\",\"missing\":false,"
                                   "\"esSyncResponse\":{\"a\":true}}}"));
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    assert_int_equal(bed_count(h.bed, "found"), 1);
    assert_int_equal(metrics_get(&h.bed->metrics, METRIC_calls_late_total), 0);
    house_stop(&h, 0);
}

static void awaited_for_too_long(void **state)
{
    house_sync_timeout_ms = 300;
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;

    house_sync_timeout_ms = 30000;
    fake_hold(&h.bed->fake, true);
    int64_t since = clock_mono_ms(&h.bed->clock);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"b\"", AWAIT), &r);
    assert_int_equal(r.status, 500);
    assert_non_null(strstr(r.body, "\"err\":\"UOS_ESSYNCnull\",\"status\":\"FAILED\""));
    assert_true(clock_mono_ms(&h.bed->clock) - since >= 300);
    fake_hold(&h.bed->fake, false); /* the work goes on */
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    assert_int_equal(bed_count(h.bed, "found"), 1);
    assert_int_equal(metrics_get(&h.bed->metrics, METRIC_calls_late_total), 1);
    house_stop(&h, 0);
}

static void full(void **state)
{
    struct bed *b = *state;
    struct reply r;

    b->fake.hold = true;
    struct house h = house_start(b, 3, 1 << 20);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"1\",\"2\",\"3\",\"4\"", ""), &r);
    assert_int_equal(r.status, 413);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"1\",\"2\",\"3\"", ""), &r);
    assert_int_equal(r.status, 200);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"4\"", ""), &r);
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.text, "\r\nRetry-After: 1\r\n"));
    assert_non_null(strstr(r.body, "\"err\":\"TOO_MANY_REQUESTS\""));
    fake_hold(&b->fake, false);
    while (metrics_get(&b->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"4\"", ""), &r);
    assert_int_equal(r.status, 200);
    while (metrics_get(&b->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    house_stop(&h, 0);
}

static void large_bodies(void **state)
{
    struct house h = house_start(*state, 1000, 4096);
    static char body[8192];
    struct reply r;

    memset(body, ' ', sizeof body - 1);
    ask(&h, "POST", "/v1/data/sync", body, &r);
    assert_int_equal(r.status, 413);
    assert_non_null(strstr(r.body, "\"err\":\"REQUEST_TOO_LARGE\""));
    memcpy(body + 4096 - strlen(CALL("user", "\"a\"", "")), CALL("user", "\"a\"", ""),
           strlen(CALL("user", "\"a\"", "")));
    body[4096] = '\0'; /* exactly as much as is taken */
    ask(&h, "POST", "/v1/data/sync", body, &r);
    assert_int_equal(r.status, 200);

    /* no length said, and no end: the connection goes, memory does not */
    static char chunk[65536 + 16];
    int fd = dial(&h);
    const char head[] =
        "POST /v1/data/sync HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_true(say(fd, head, strlen(head)));
    int n = snprintf(chunk, sizeof chunk, "10000\r\n");
    memset(chunk + n, 'x', 65536);
    memcpy(chunk + n + 65536, "\r\n", 2);
    size_t sent = 0;
    while (say(fd, chunk, (size_t)n + 65538) && sent < (size_t)1 << 30)
        sent += 65536;
    assert_in_range(sent, 1, 100 << 20);
    close(fd);
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    house_stop(&h, 0);
}

/* Half a request, nothing at all, no HTTP: none of them disturbs the others, or the end. */
static void odd_clients(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;
    int silent = dial(&h);
    int noise = dial(&h);
    int gone = dial(&h);

    static const char tls[] = "\x16\x03\x01\x02 no http\r\n\r\n";
    static const char half[] =
        "POST /v1/data/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
    say(noise, tls, sizeof tls - 1);
    say(gone, half, sizeof half - 1);
    close(gone);
    ask(&h, "POST", "/v1/data/sync", CALL("user", "\"a\"", ""), &r);
    assert_int_equal(r.status, 200);
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    house_stop(&h, 0);
    close(silent);
    close(noise);
}

static void *await_main(void *arg)
{
    static struct reply r;

    ask(arg, "POST", "/v1/data/sync", CALL("user", "\"a\"", AWAIT), &r);
    return &r;
}

static void stopped_while_somebody_waits(void **state)
{
    struct bed *b = *state;
    void *reply;
    pthread_t client;

    b->fake.hold = true;
    struct house h = house_start(b, 1000, 1 << 20);
    assert_int_equal(pthread_create(&client, NULL, await_main, &h), 0);
    fake_await_holding(&b->fake, 1);
    cancel_fire(&b->cancel, 1);
    house_stop(&h, 1);
    pthread_join(client, &reply);
    assert_int_equal(((struct reply *)reply)->status, 500);
    assert_non_null(strstr(((struct reply *)reply)->body, "UOS_ESSYNCnull"));
}

static void a_call_while_stopping(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;

    work_drain(h.bed->work);
    ask(&h, "POST", "/v1/data/sync", CALL("user", "\"a\"", ""), &r);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.text, "\r\nRetry-After: 5\r\n"));
    assert_non_null(strstr(r.body, "\"err\":\"SERVICE_UNAVAILABLE\""));
    ask(&h, "GET", "/health/ready", "", &r);
    assert_int_equal(r.status, 503);
    ask(&h, "GET", "/health/live", "", &r);
    assert_int_equal(r.status, 200);
    house_stop(&h, 0);
}

static void not_ready(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;

    pthread_mutex_lock(&h.bed->fake.lock);
    h.bed->fake.errors = INT_MAX;
    h.bed->fake.error = ERR_REACH;
    pthread_mutex_unlock(&h.bed->fake.lock);
    ask(&h, "POST", "/v1/data/sync", CALL("user", "\"a\"", ""), &r);
    assert_int_equal(r.status, 200); /* safe in the journal all the same */
    while (metrics_get(&h.bed->metrics, METRIC_work_waits_total) == 0)
        usleep(1000);
    ask(&h, "GET", "/health/ready", "", &r);
    assert_int_equal(r.status, 503);
    assert_string_equal(r.body, "{\"healthy\":false,\"reason\":\"elastic: index is not there\"}");
    pthread_mutex_lock(&h.bed->fake.lock);
    h.bed->fake.errors = 0;
    pthread_mutex_unlock(&h.bed->fake.lock);
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    ask(&h, "GET", "/health/ready", "", &r);
    assert_int_equal(r.status, 200);
    house_stop(&h, 0);
}

static void ask_with(const struct house *h, const char *method, const char *path,
                     const char *header, const char *body, struct reply *r)
{
    char head[512];
    int fd = dial(h);
    int n = snprintf(head, sizeof head,
                     "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     method, path, header, strlen(body));

    assert_true(say(fd, head, (size_t)n));
    assert_true(say(fd, body, strlen(body)));
    hear(fd, r);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void with_keys(void **state)
{
    struct bed *b = *state;
    char path[128];
    struct reply r;
    bool changed;

    snprintf(path, sizeof path, "%s/keys", b->dir);
    assert_null(keys_open(path, &b->err));
    assert_int_equal(b->err.kind, ERR_USER);
    write_file(path, "# none\n\n  \n");
    assert_null(keys_open(path, &b->err));
    assert_non_null(strstr(b->err.text, "there is no key in it"));
    write_file(path, "# two\nfirst\n  second \n");
    house_keys = keys_open(path, &b->err);
    assert_non_null(house_keys);
    struct house h = house_start(b, 1000, 1 << 20);

    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"a\"", ""), &r);
    assert_int_equal(r.status, 401);
    assert_non_null(strstr(r.text, "WWW-Authenticate: Bearer\r\n"));
    assert_non_null(strstr(r.body, "\"err\":\"UNAUTHORIZED_USER\""));
    static const char *const wrong[] = {"Authorization: Bearer firs\r\n",
                                        "Authorization: Bearer first2\r\n",
                                        "Authorization: Bearer # two\r\n",
                                        "Authorization: Bearer \r\n", "Authorization: first\r\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ask_with(&h, "POST", "/data/v1/index/sync", wrong[i], CALL("batch", "\"a\"", ""), &r);
        assert_int_equal(r.status, 401);
        ask_with(&h, "GET", "/v1/data/sync/runs/x", wrong[i], "", &r);
        assert_int_equal(r.status, 401);
    }
    ask_with(&h, "POST", "/v1/data/sync", "Authorization: bearer second\r\n",
             CALL("batch", "\"a\"", ""), &r);
    assert_int_equal(r.status, 200);
    ask(&h, "GET", "/metrics", "", &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\ncass2es_calls_unauthorized_total 11\n"));

    write_file(path, "third\n");
    assert_true(keys_refresh(house_keys, false, &changed, &b->err) && changed);
    assert_true(keys_refresh(house_keys, false, &changed, &b->err) && !changed);
    assert_false(keys_allow(house_keys, "Bearer second"));
    assert_true(keys_allow(house_keys, "Bearer third"));
    write_file(path, "");
    assert_false(keys_refresh(house_keys, false, &changed, &b->err));
    assert_true(keys_refresh(house_keys, false, &changed, &b->err)); /* said once */
    assert_true(keys_allow(house_keys, "Bearer third"));
    house_stop(&h, 0);
    keys_free(TAKE(house_keys));
}

/* The header names the call; what became of it is under each path. */
static void runs(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;
    char path[200];

    ask(&h, "POST", "/v1/data/sync",
        CALL("location", "\"a\",\"missing\"", ",\"operationType\":\"sync\""), &r);
    assert_int_equal(r.status, 200);
    char *id = strstr(r.text, "X-Cass2es-Run: ");
    assert_non_null(id);
    id += strlen("X-Cass2es-Run: ");
    id[strcspn(id, "\r")] = '\0';
    snprintf(path, sizeof path, "/api/data/v1/index/sync/runs/%.60s", id);
    ask(&h, "GET", path, "", &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\"responseCode\":\"OK\",\"result\":{\"run\":\""));
    assert_non_null(strstr(r.body, "{\"id\":\"missing\",\"outcome\":\"missing\""));
    ask(&h, "GET", "/v1/data/sync/runs/20200101-000000-0000-1", "", &r);
    assert_int_equal(r.status, 404);
    assert_non_null(strstr(r.body, "There is no run of this name"));
    ask(&h, "GET", "/v1/data/sync/runs/", "", &r);
    assert_int_equal(r.status, 404);
    ask(&h, "GET", "/v1/data/sync/runs/a/b", "", &r);
    assert_int_equal(r.status, 404);
    house_stop(&h, 0);
}

static enum server_table fake_table(void *ctx, const char *type, char run[WORK_ID_BYTES],
                                    struct err *err)
{
    enum server_table *answer = ctx;

    assert_string_equal(type, "batch");
    if (*answer == TABLE_TAKEN)
        snprintf(run, WORK_ID_BYTES, "20200101-000000-0000");
    err_set(err, ERR_SYSTEM, "disk full");
    return *answer;
}

static bool refuse_odd(void *ctx, const char *type, const struct json *ids, struct err *err)
{
    (void)ctx;
    (void)type;
    return ids->first->kind != JSON_OBJECT ||
           err_set(err, ERR_USER, "objectIds[0]: has no value for courseid");
}

static void whole_tables_and_filters(void **state)
{
    enum server_table answer = TABLE_TAKEN;
    struct reply r;

    house_hooks =
        (struct server_hooks){.ctx = &answer, .whole_table = fake_table, .keyed_ids = refuse_odd};
    struct house h = house_start(*state, 1000, 1 << 20);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "", ""), &r);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.text, "X-Cass2es-Run: 20200101-000000-0000\r\n"));
    assert_non_null(strstr(r.body, "\"result\":{\"response\":\"SUCCESS\"}}"));
    answer = TABLE_BUSY;
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "{}", ""), &r);
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.text, "Retry-After: 60\r\n"));
    assert_non_null(strstr(r.body, "WHOLE_TABLE_BUSY"));
    answer = TABLE_STOPPING;
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "", ""), &r);
    assert_int_equal(r.status, 503);
    answer = TABLE_NOT_KEPT;
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "", ""), &r);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.text, "Retry-After: 5\r\n"));
    ask(&h, "POST", "/v1/data/sync", CALL("user", "", ""), &r);
    assert_int_equal(r.status, 200); /* userorg-service does nothing */
    assert_null(strstr(r.text, "X-Cass2es-Run"));
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "{\"a\":1}", ""), &r);
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(r.body, "\"err\":\"FILTER_SCAN_OFF\""));
    assert_non_null(strstr(r.body, "\"errmsg\":\"objectIds[0]: has no value for courseid\""));
    house_stop(&h, 0);
    house_hooks = (struct server_hooks){0};
}

/* A byte now and then does not keep a connection; a call that is worked on does. */
static void slow_clients(void **state)
{
    struct house h = house_start(*state, 1000, 1 << 20);
    struct reply r;
    int fd = dial(&h);
    int idle = dial(&h);
    char byte;
    bool open = true;
    int64_t since = clock_mono_ms(&h.bed->clock);

    for (int i = 0; open && i < 100; i++) {
        open = say(fd, "x", 1);
        usleep(100000);
        open = open && recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 0;
    }
    assert_false(open);
    assert_true(clock_mono_ms(&h.bed->clock) - since >= 1500);
    assert_int_equal(recv(idle, &byte, 1, 0), 0);
    close(fd);
    close(idle);
    while (metrics_get(&h.bed->metrics, METRIC_connections) > 0)
        usleep(1000);
    assert_true(metrics_get(&h.bed->metrics, METRIC_connections_cut_total) >= 2);
    ask(&h, "GET", "/health/live", "", &r);
    assert_int_equal(r.status, 200);
    house_stop(&h, 0);
}

static bool large_run(void *ctx, const char *run, struct buf *out, bool *found, struct err *err)
{
    (void)ctx;
    (void)run;
    (void)err;
    buf_add_str(out, "{\"a\":\"");
    for (size_t i = 0; i < (20 << 20); i++)
        buf_add_byte(out, 'x');
    buf_add_str(out, "\"}");
    *found = true;
    return true;
}

static int ask_run(const struct house *h)
{
    static const char text[] =
        "GET /v1/data/sync/runs/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    int fd = dial(h);
    char byte;

    assert_true(say(fd, text, strlen(text)));
    assert_int_equal(recv(fd, &byte, 1, MSG_PEEK), 1);
    return fd;
}

/* One of any size; another one when there is room for it. */
static void answers_about_runs(void **state)
{
    struct reply r;
    size_t all = 0;
    ssize_t got;

    house_hooks = (struct server_hooks){.table_run = large_run};
    struct house h = house_start(*state, 1000, 1 << 20);
    int first = ask_run(&h);
    ask(&h, "GET", "/v1/data/sync/runs/y", "", &r);
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.text, "Retry-After: 1\r\n"));
    while ((got = recv(first, r.text, sizeof r.text, 0)) > 0)
        all += (size_t)got;
    assert_true(all > (20 << 20));
    close(first);
    close(ask_run(&h));
    ask(&h, "GET", "/health/live", "", &r);
    assert_int_equal(r.status, 200);
    house_stop(&h, 0);
    house_hooks = (struct server_hooks){0};
}

static void a_clock_that_is_set(void **state)
{
    atomic_store(&wall_is_ahead, true);
    struct house h = house_start(*state, 1000, 1 << 20);
    struct timeval patience = {.tv_sec = 60};
    int idle = dial(&h);
    char byte;

    setsockopt(idle, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(recv(idle, &byte, 1, 0), 0); /* it is cut all the same */
    close(idle);
    house_stop(&h, 0);
    atomic_store(&wall_is_ahead, false);
}

static void wrong_addresses(void **state)
{
    struct bed *b = *state;
    struct house h = house_start(b, 1000, 1 << 20);
    char expected[512];
    static const char *const wrong[] = {"9000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536",
                                        "::1:9000"};
    struct server_options o = {.work = b->work, .clock = &b->clock, .metrics = &b->metrics};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.listen = wrong[i];
        assert_null(server_start(&o, &b->err));
        assert_int_equal(b->err.kind, ERR_USER);
        snprintf(expected, sizeof expected, "listen address %s: must be HOST:PORT", wrong[i]);
        assert_string_equal(b->err.text, expected);
    }
    o.listen = server_address(h.server);
    assert_null(server_start(&o, &b->err));
    assert_int_equal(b->err.kind, ERR_USER);
    snprintf(expected, sizeof expected, "listen address %s: Address already in use", o.listen);
    assert_string_equal(b->err.text, expected);
    house_stop(&h, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_BED(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
        IN_BED(routes),
        IN_BED(awaited),
        IN_BED(awaited_for_too_long),
        IN_BED(full),
        IN_BED(large_bodies),
        IN_BED(odd_clients),
        IN_BED(a_clock_that_is_set),
        IN_BED(answers_about_runs),
        IN_BED(stopped_while_somebody_waits),
        IN_BED(a_call_while_stopping),
        IN_BED(not_ready),
        IN_BED(with_keys),
        IN_BED(runs),
        IN_BED(whole_tables_and_filters),
        IN_BED(slow_clients),
        IN_BED(wrong_addresses),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
