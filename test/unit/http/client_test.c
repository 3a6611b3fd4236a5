/* Calls against a scripted server of one thread on loopback: every way an answer can go wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http/client.h"

enum { STEPS_MAX = 4 };

/* Plays one step per request: answers, then keeps or closes the connection. */
struct step {
    const char *answer; /* NULL: none */
    bool close;
    bool endless; /* goes on sending until the other side leaves */
};

struct server {
    int fd;
    uint16_t port;
    const struct step *steps;
    size_t count;
    char seen[STEPS_MAX][2000]; /* requests */
    unsigned connections;
    int stop[2]; /* closed: ends a wait */
    pthread_t thread;
};

static bool readable(const struct server *s, int fd)
{
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = s->stop[0], .events = POLLIN}};

    return poll(p, 2, 10000) > 0 && !p[1].revents;
}

/* A whole request; false when the peer left. */
static bool read_request(struct server *s, int c, char *out, size_t room)
{
    size_t n = 0;

    for (;;) {
        if (!readable(s, c))
            return false;
        ssize_t got = recv(c, out + n, room - n - 1, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        out[n] = '\0';
        char *body = strstr(out, "\r\n\r\n");
        char *length = strstr(out, "Content-Length: ");
        size_t want = length ? strtoul(length + 16, NULL, 10) : 0;
        if (body && n - (size_t)(body + 4 - out) >= want)
            return true;
    }
}

static void send_endless(int c)
{
    static char junk[4096];

    while (send(c, junk, sizeof junk, MSG_NOSIGNAL) > 0)
        continue;
}

static void *serve(void *ctx)
{
    struct server *s = ctx;
    int c = -1;

    for (size_t i = 0; i < s->count;) {
        const struct step *step = &s->steps[i];

        if (c < 0) {
            if (!readable(s, s->fd))
                break;
            c = accept(s->fd, NULL, NULL);
            s->connections++;
        }
        if (!read_request(s, c, s->seen[i], sizeof s->seen[i])) {
            close(c);
            c = -1;
            struct pollfd p = {.fd = s->stop[0], .events = POLLIN};
            if (poll(&p, 1, 0) > 0)
                break;
            continue;
        }
        i++;
        if (step->answer)
            send(c, step->answer, strlen(step->answer), MSG_NOSIGNAL);
        if (step->endless)
            send_endless(c);
        if (!step->answer && !step->close)
            readable(s, c); /* says nothing until the other side has enough */
        if (step->close || step->endless) {
            close(c);
            c = -1;
        }
    }
    if (c >= 0)
        close(c);
    return NULL;
}

static void server_start(struct server *s, const struct step *steps, size_t count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;

    *s = (struct server){.steps = steps, .count = count};
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(s->fd, 4), 0);
    getsockname(s->fd, (struct sockaddr *)&at, &n);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pipe(s->stop), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
    close(s->stop[1]);
    pthread_join(s->thread, NULL);
    close(s->stop[0]);
    close(s->fd);
}

static struct clock clock_;

static struct http_options options(void)
{
    clock_init_system(&clock_);
    return (struct http_options){
        .authorization = "Bearer s3cret",
        .connect_timeout_ms = 5000,
        .request_timeout_ms = 5000,
        .max_answer_bytes = 1000,
        .clock = &clock_,
    };
}

static struct http_request post(const char *url)
{
    return (struct http_request){
        .method = "POST",
        .url = url,
        .content_type = "application/json",
        .body = slice_str("{\"a\":1}"),
    };
}

static void calls(void **state)
{
    static const struct step steps[] = {
        {.answer =
             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"},
        {.answer = "HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"},
        {.answer = "HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"},
        {.answer = "HTTP/1.1 204 No\r\n\r\n"},
    };
    static const char *const more[] = {"X-One: 1", NULL};
    struct server s;
    struct http_answer a;
    struct err err = {0};
    bool sent = false;

    (void)state;
    server_start(&s, steps, 4);
    AUTO_STR char *url = xsprintf("http://127.0.0.1:%u/v1/sync?x=1", s.port);
    AUTO_STR char *other = xsprintf("http://127.0.0.1:%u/else", s.port);
    struct http_options o = options();
    AUTO(http_client) struct http_client *c = http_client_new(&o, &err);
    struct http_request r = post(url);

    assert_true(http_call(c, &r, &a, &sent, &err));
    assert_int_equal(a.status, 200);
    assert_true(slice_is(a.body, "{}"));
    assert_string_equal(a.content_type, "application/json");
    assert_int_equal(a.retry_after_ms, -1);
    assert_true(a.new_connection && sent && a.took_ms >= 0);
    assert_true(a.upload_us > 0 && a.upload_us / 1000 <= a.took_ms);
    r.headers = more;
    assert_true(http_call(c, &r, &a, NULL, &err));
    assert_int_equal(a.status, 429);
    assert_int_equal(a.retry_after_ms, 3000);
    assert_false(a.new_connection);
    assert_int_equal(a.body.n, 0);
    assert_true(http_call(c, &r, &a, NULL, &err)); /* a redirect is an answer */
    assert_int_equal(a.status, 302);
    assert_string_equal(a.location, other);
    r = (struct http_request){.method = "DELETE", .url = url};
    assert_true(http_call(c, &r, &a, NULL, &err));
    assert_int_equal(a.status, 204);
    assert_int_equal(a.upload_us, 0);
    server_stop(&s);

    AUTO_STR char *want = xsprintf(
        "POST /v1/sync?x=1 HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: cass2es/" CASS2ES_VERSION
        "\r\nAccept: */*\r\nContent-Type: application/json\r\nAuthorization: Bearer s3cret\r\n"
        "Content-Length: 7\r\n\r\n{\"a\":1}",
        s.port);
    assert_string_equal(s.seen[0], want);
    assert_non_null(strstr(s.seen[1], "\r\nX-One: 1\r\n"));
    assert_null(strstr(s.seen[3], "Content-"));
    assert_memory_equal(s.seen[3], "DELETE /v1", 10);
    assert_int_equal(s.connections, 1);
}

static void failures(void **state)
{
    static const struct {
        struct step step;
        enum err_kind kind;
        const char *want; /* behind "POST http://127.0.0.1:PORT/p: " */
        int timeout_ms;
    } samples[] = {
        {{.close = true}, ERR_RETRY, "connection closed without an answer", 5000},
        {{.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", .close = true},
         ERR_RETRY,
         "the answer was cut off: transfer closed with 8 bytes remaining to read",
         5000},
        {{.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", .endless = true},
         ERR_REJECT,
         "the answer is longer than 1000 bytes",
         5000},
        {{.answer = "HTTP/1.1 200 OK\r\n\r\n", .endless = true},
         ERR_REJECT,
         "the answer is longer than 1000 bytes",
         5000},
        {{.answer = "SSH-2.0-x\r\n\r\n", .close = true},
         ERR_USER,
         "what answers there does not speak HTTP; check the port",
         5000},
        {{.answer = NULL}, ERR_RETRY, "timed out after 2000 ms", 2000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct server s;
        struct http_answer a;
        struct err err = {0};
        bool sent = false;
        struct http_options o = options();

        server_start(&s, &samples[i].step, 1);
        o.request_timeout_ms = samples[i].timeout_ms;
        AUTO_STR char *url = xsprintf("http://127.0.0.1:%u/p?secret", s.port);
        AUTO_STR char *want = xsprintf("POST http://127.0.0.1:%u/p: %s", s.port, samples[i].want);
        AUTO(http_client) struct http_client *c = http_client_new(&o, &err);
        struct http_request r = post(url);
        assert_false(http_call(c, &r, &a, &sent, &err));
        assert_string_equal(err.text, want);
        assert_int_equal(err.kind, samples[i].kind);
        assert_true(sent);
        server_stop(&s);
    }
}

/* A kept connection breaks after the request went out: curl must not send it again by itself. */
static void no_second_try(void **state)
{
    static const struct step steps[] = {
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
        {.close = true},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
    };
    struct server s;
    struct http_answer a;
    struct err err = {0};
    bool sent = false;

    (void)state;
    server_start(&s, steps, 3);
    AUTO_STR char *url = xsprintf("http://127.0.0.1:%u/p", s.port);
    AUTO_STR char *want = xsprintf("POST %s: connection closed without an answer", url);
    struct http_options o = options();
    AUTO(http_client) struct http_client *c = http_client_new(&o, &err);
    struct http_request r = post(url);
    assert_true(http_call(c, &r, &a, NULL, &err));
    assert_false(http_call(c, &r, &a, &sent, &err));
    assert_string_equal(err.text, want);
    assert_int_equal(err.kind, ERR_RETRY);
    assert_true(sent);
    assert_string_equal(s.seen[2], "");
    assert_true(http_call(c, &r, &a, NULL, &err)); /* the client is fit for use */
    server_stop(&s);
    assert_int_equal(s.connections, 2);
}

static void *fire(void *ctx)
{
    cancel_fire(ctx, 2);
    return NULL;
}

static void stopped(void **state)
{
    static const struct step steps[] = {{.answer = NULL}};
    struct server s;
    struct http_answer a;
    struct err err = {0};
    struct cancel stop;
    pthread_t thread;

    (void)state;
    assert_true(cancel_init(&stop, &err));
    server_start(&s, steps, 1);
    AUTO_STR char *url = xsprintf("http://127.0.0.1:%u/p", s.port);
    struct http_options o = options();
    o.request_timeout_ms = 60000;
    o.cancel = &stop;
    AUTO(http_client) struct http_client *c = http_client_new(&o, &err);
    struct http_request r = post(url);
    int64_t start_ms = clock_mono_ms(&clock_);
    assert_int_equal(pthread_create(&thread, NULL, fire, &stop), 0);
    assert_false(http_call(c, &r, &a, NULL, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    assert_true(clock_mono_ms(&clock_) - start_ms < 5000);
    pthread_join(thread, NULL);
    server_stop(&s);
    cancel_fini(&stop);
}

static void not_reached(void **state)
{
    struct http_options o = options();
    struct http_answer a;
    struct err err = {0};
    bool sent = true;

    (void)state;
    o.ca_file = "/nowhere/ca.pem";
    assert_null(http_client_new(&o, &err));
    assert_string_equal(err.text, "CA file /nowhere/ca.pem: No such file or directory");
    assert_int_equal(err.kind, ERR_USER);

    o.ca_file = NULL;
    o.cert_file = "/nowhere/me.pem";
    assert_null(http_client_new(&o, &err));
    assert_string_equal(err.text, "certificate /nowhere/me.pem: No such file or directory");
    o.cert_file = NULL;
    AUTO(http_client) struct http_client *c = http_client_new(&o, &err);
    struct http_request r = post("http://127.0.0.1:1/x");
    assert_false(http_call(c, &r, &a, &sent, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_false(sent);
    assert_non_null(strstr(err.text, "POST http://127.0.0.1:1/x: Failed to connect to 127.0.0.1"));
    r = post("http://127.0.0.1:99999/x");
    assert_false(http_call(c, &r, &a, &sent, &err));
    assert_int_equal(err.kind, ERR_USER);
    assert_non_null(strstr(err.text, "not a usable URL"));
    r = post("gopher://127.0.0.1/x");
    assert_false(http_call(c, &r, &a, &sent, &err));
    assert_int_equal(err.kind, ERR_USER);
}

/* https:// where plain HTTP is spoken. */
static void tls_mismatch(void **state)
{
    static const char answer[] = "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    struct http_options o = options();
    struct http_answer a;
    struct err err = {0};

    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&at, &n);
    int child = fork();
    if (child == 0) {
        int c = accept(fd, NULL, NULL);
        char hello[1000];
        ssize_t got = recv(c, hello, sizeof hello, 0);
        got = send(c, answer, strlen(answer), MSG_NOSIGNAL);
        _exit(got > 0 ? 0 : 1);
    }
    AUTO_STR char *url = xsprintf("https://127.0.0.1:%u/p", ntohs(at.sin_port));
    AUTO(http_client) struct http_client *c = http_client_new(&o, &err);
    struct http_request r = post(url);
    assert_false(http_call(c, &r, &a, NULL, &err));
    assert_int_equal(err.kind, ERR_USER);
    assert_non_null(strstr(err.text, "is it http:// what the server speaks there?"));
    waitpid(child, NULL, 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls),   cmocka_unit_test(failures),    cmocka_unit_test(no_second_try),
        cmocka_unit_test(stopped), cmocka_unit_test(not_reached), cmocka_unit_test(tls_mismatch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
