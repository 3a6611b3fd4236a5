/* The server on loopback, with plain sockets on the other side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

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

static struct house house_start(struct bed *b, uint64_t queue_ids, size_t max_body)
{
    struct house h = {.bed = b};
    struct server_options o = {
        .listen = "127.0.0.1:0",
        .max_body_bytes = max_body,
        .sync_timeout_ms = 300,
        .rules = {.types = bed_types},
        .clock = &b->clock,
        .metrics = &b->metrics,
    };

    bed_start(b, 2, queue_ids);
    o.work = b->work;
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

    fake_hold(&h.bed->fake, true);
    int64_t since = clock_mono_ms(&h.bed->clock);
    ask(&h, "POST", "/v1/data/sync", CALL("batch", "\"b\"", AWAIT), &r);
    assert_int_equal(r.status, 500);
    assert_non_null(strstr(r.body, "\"err\":\"UOS_ESSYNCnull\",\"status\":\"FAILED\""));
    assert_true(clock_mono_ms(&h.bed->clock) - since >= 300);
    fake_hold(&h.bed->fake, false); /* the work goes on */
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    assert_int_equal(bed_count(h.bed, "found"), 2);
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
    h.bed->fake.errors = 3;
    h.bed->fake.error = ERR_REACH;
    pthread_mutex_unlock(&h.bed->fake.lock);
    ask(&h, "POST", "/v1/data/sync", CALL("user", "\"a\"", ""), &r);
    assert_int_equal(r.status, 200); /* safe in the journal all the same */
    while (metrics_get(&h.bed->metrics, METRIC_work_waits_total) == 0)
        usleep(1000);
    ask(&h, "GET", "/health/ready", "", &r);
    assert_int_equal(r.status, 503);
    assert_string_equal(r.body, "{\"healthy\":false,\"reason\":\"elastic: index is not there\"}");
    while (metrics_get(&h.bed->metrics, METRIC_queue_ids) > 0)
        usleep(1000);
    ask(&h, "GET", "/health/ready", "", &r);
    assert_int_equal(r.status, 200);
    house_stop(&h, 0);
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
        IN_BED(full),
        IN_BED(large_bodies),
        IN_BED(odd_clients),
        IN_BED(stopped_while_somebody_waits),
        IN_BED(a_call_while_stopping),
        IN_BED(not_ready),
        IN_BED(wrong_addresses),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
