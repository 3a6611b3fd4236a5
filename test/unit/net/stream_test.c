#include "net/stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cmocka_all.h"
#include "certs.h"

static struct clock clock_;
static char folder[] = "/tmp/cass2es-net-XXXXXX";

/* ---- the other end: a thread that takes connections and runs `serve` on each --------------------
 */

struct peer {
    int fd;
    uint16_t port;
    pthread_t thread;
    void (*serve)(int fd, void *ctx);
    void *ctx;
};

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    int fd;

    while ((fd = accept(p->fd, NULL, NULL)) >= 0) {
        p->serve(fd, p->ctx);
        close(fd);
    }
    return NULL;
}

static int listen_any(uint16_t *port, int backlog)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(fd, backlog), 0);
    getsockname(fd, (struct sockaddr *)&at, &n);
    *port = ntohs(at.sin_port);
    return fd;
}

static void peer_start(struct peer *p, void (*serve)(int, void *), void *ctx)
{
    p->serve = serve;
    p->ctx = ctx;
    p->fd = listen_any(&p->port, 16);
    pthread_create(&p->thread, NULL, peer_main, p);
}

static void peer_stop(struct peer *p)
{
    shutdown(p->fd, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->fd);
}

static void serve_echo(int fd, void *ctx)
{
    char bytes[4096];
    ssize_t n;

    (void)ctx;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        for (ssize_t sent = 0; sent < n;)
            sent += send(fd, bytes + sent, (size_t)(n - sent), MSG_NOSIGNAL);
}

static void serve_silence(int fd, void *ctx)
{
    char byte;

    (void)ctx;
    while (recv(fd, &byte, 1, 0) > 0)
        ;
}

static void serve_close(int fd, void *ctx)
{
    (void)fd;
    (void)ctx;
}

static void serve_http(int fd, void *ctx)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    char bytes[512];

    (void)ctx;
    if (recv(fd, bytes, sizeof bytes, 0) > 0)
        (void)!send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
}

/* ---- */

static struct stream *open_to(const char *host, uint16_t port, const struct tls_context *tls,
                              const char *server_name, int ms, struct cancel *cancel,
                              struct err *err)
{
    struct stream_target to = {.host = host, .port = port, .tls = tls, .server_name = server_name};

    err_clear(err);
    return stream_open(&to, &clock_, cancel, deadline_in(&clock_, ms), err);
}

/* Sends n bytes and receives them back, both at once, as a client of a real protocol does. */
static void assert_echo(struct stream *s, size_t n)
{
    uint8_t *out = xalloc(n);
    uint8_t *in = xalloc(n);
    size_t sent = 0;
    size_t got = 0;
    struct err err;
    struct deadline until = deadline_in(&clock_, 20000);

    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(i * 7 + (i >> 8));
    while (got < n) {
        ssize_t w = sent < n ? stream_write(s, out + sent, n - sent, &err) : 0;
        assert_true(w >= 0);
        sent += (size_t)w;
        ssize_t r = stream_read(s, in + got, n - got, &err);
        assert_true(r >= 0);
        got += (size_t)r;
        if (w == 0 && r == 0)
            assert_true(stream_wait(s, STREAM_READ | (sent < n ? STREAM_WRITE : 0), until, &err));
    }
    assert_memory_equal(out, in, n);
    free(out);
    free(in);
}

static bool read_some(struct stream *s, int ms, struct err *err)
{
    char bytes[64];
    ssize_t n;

    while ((n = stream_read(s, bytes, sizeof bytes, err)) == 0)
        if (!stream_wait(s, STREAM_READ, deadline_in(&clock_, ms), err))
            return false;
    return n > 0;
}

static void bytes_go_and_come_back(void **state)
{
    struct peer p;
    struct err err;

    (void)state;
    peer_start(&p, serve_echo, NULL);
    AUTO(stream) struct stream *s = open_to("127.0.0.1", p.port, NULL, NULL, 2000, NULL, &err);
    assert_non_null(s);
    assert_echo(s, 1);
    assert_echo(s, 16 << 20); /* more than both sockets hold: a client that only sends would hang */
    stream_free(TAKE(s));
    peer_stop(&p);
}

static void a_name_with_several_addresses_finds_the_one_that_listens(void **state)
{
    struct peer p;
    struct err err;

    (void)state;
    peer_start(&p, serve_echo, NULL); /* only on 127.0.0.1, while localhost may be ::1 first */
    AUTO(stream) struct stream *s = open_to("localhost", p.port, NULL, NULL, 5000, NULL, &err);
    assert_non_null(s);
    assert_echo(s, 100);
    stream_free(TAKE(s));
    peer_stop(&p);
}

static void nobody_listens(void **state)
{
    struct err err;
    uint16_t port;

    (void)state;
    close(listen_any(&port, 1));
    assert_null(open_to("127.0.0.1", port, NULL, NULL, 2000, NULL, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_string_equal(err.text, "Connection refused");
}

static void a_name_that_is_none(void **state)
{
    struct err err;

    (void)state;
    assert_null(open_to("no-such-host.invalid", 9042, NULL, NULL, 5000, NULL, &err));
    assert_true(err.kind == ERR_REACH ||
                err.kind == ERR_RETRY); /* without a network: again later */
    assert_non_null(strstr(err.text, "no-such-host.invalid"));
}

/* A listener that takes nobody: its queue is full, so the kernel leaves connects without answer. */
static void connecting_has_an_end(void **state)
{
    struct stream *waiting[8] = {NULL};
    struct err err;
    uint16_t port;
    int fd = listen_any(&port, 0);
    bool timed_out = false;

    (void)state;
    for (int i = 0; i < 8 && !timed_out; i++) {
        waiting[i] = open_to("127.0.0.1", port, NULL, NULL, 100, NULL, &err);
        timed_out = !waiting[i];
    }
    assert_true(timed_out);
    assert_int_equal(err.kind, ERR_RETRY);
    assert_string_equal(err.text, "timed out while connecting");
    for (int i = 0; i < 8; i++)
        stream_free(waiting[i]);
    close(fd);
}

static void reading_has_an_end(void **state)
{
    struct peer p;
    struct err err;

    (void)state;
    peer_start(&p, serve_silence, NULL);
    AUTO(stream) struct stream *s = open_to("127.0.0.1", p.port, NULL, NULL, 2000, NULL, &err);
    int64_t begin = clock_mono_ms(&clock_);
    assert_false(read_some(s, 50, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_string_equal(err.text, "timed out");
    assert_in_range(clock_mono_ms(&clock_) - begin, 50, 20000);
    stream_free(TAKE(s));
    peer_stop(&p);
}

static void the_peer_closes(void **state)
{
    struct peer p;
    struct err err;

    (void)state;
    peer_start(&p, serve_close, NULL);
    AUTO(stream) struct stream *s = open_to("127.0.0.1", p.port, NULL, NULL, 2000, NULL, &err);
    assert_false(read_some(s, 5000, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_string_equal(err.text, "closed by the server");
    stream_free(TAKE(s));
    peer_stop(&p);
}

static void *fire_soon(void *arg)
{
    (void)poll(NULL, 0, 30);
    cancel_fire(arg, 1);
    (void)poll(NULL, 0, 30);
    cancel_fire(arg, 2);
    return NULL;
}

static void a_cancel_ends_every_wait(void **state)
{
    struct cancel cancel;
    struct peer p;
    struct err err;
    pthread_t thread;

    (void)state;
    assert_true(cancel_init(&cancel, &err));
    peer_start(&p, serve_silence, NULL);
    AUTO(stream) struct stream *s = open_to("127.0.0.1", p.port, NULL, NULL, 2000, &cancel, &err);
    int64_t begin = clock_mono_ms(&clock_);
    pthread_create(&thread, NULL, fire_soon, &cancel);
    assert_false(read_some(s, 20000, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    assert_in_range(clock_mono_ms(&clock_) - begin, 55, 10000); /* level 1 did not end it */
    pthread_join(thread, NULL);
    assert_null(open_to("127.0.0.1", p.port, NULL, NULL, 2000, &cancel, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    stream_free(TAKE(s));
    peer_stop(&p);
    cancel_fini(&cancel);
}

/* ---- TLS ---------------------------------------------------------------------------------------
 */

static SSL_CTX *server_context(const char *name, bool want_client)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    char path[300];

    snprintf(path, sizeof path, "%s/%s.pem", folder, name);
    assert_int_equal(SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM), 1);
    snprintf(path, sizeof path, "%s/%s.key", folder, name);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM), 1);
    if (want_client) {
        snprintf(path, sizeof path, "%s/ca.pem", folder);
        SSL_CTX_load_verify_file(ctx, path);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return ctx;
}

static void serve_tls_echo(int fd, void *ctx)
{
    SSL *ssl = SSL_new(ctx);
    char bytes[4096];
    int n;

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1)
        while ((n = SSL_read(ssl, bytes, sizeof bytes)) > 0)
            if (SSL_write(ssl, bytes, n) <= 0)
                break;
    SSL_free(ssl);
    ERR_clear_error();
}

static struct tls_context *client_context(const char *ca, const char *cert, bool insecure)
{
    static char paths[3][300];
    struct err err;

    snprintf(paths[0], sizeof paths[0], "%s/%s.pem", folder, ca);
    snprintf(paths[1], sizeof paths[1], "%s/%s.pem", folder, cert ? cert : "");
    snprintf(paths[2], sizeof paths[2], "%s/%s.key", folder, cert ? cert : "");
    struct tls_options o = {.insecure = insecure,
                            .ca_file = paths[0],
                            .cert_file = cert ? paths[1] : NULL,
                            .key_file = cert ? paths[2] : NULL};
    struct tls_context *t = tls_context_new(&o, &err);
    assert_non_null(t);
    return t;
}

static void tls_is_checked(void **state)
{
    static const struct {
        const char *server_cert; /* and its key */
        const char *ca;
        const char *server_name;
        bool insecure;
        const char *refused; /* NULL: it works */
    } cases[] = {
        {"server", "ca", NULL, false, NULL}, /* 127.0.0.1 is in the certificate */
        {"server", "ca", "db.test", false, NULL},
        {"named", "ca", "db.test", false, NULL},
        {"named", "ca", NULL, false, "TLS: the server's certificate is not for '127.0.0.1'"},
        {"server", "ca", "other.test", false,
         "TLS: the server's certificate is not for 'other.test'"},
        {"server", "other-ca", NULL, false, "TLS: the server's certificate is not trusted: "},
        {"expired", "ca", NULL, false, "TLS: the server's certificate has expired (renew it"},
        {"server", "other-ca", "other.test", true, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SSL_CTX *ctx = server_context(cases[i].server_cert, false);
        struct peer p;
        struct err err;

        peer_start(&p, serve_tls_echo, ctx);
        AUTO(tls_context)
        struct tls_context *t = client_context(cases[i].ca, NULL, cases[i].insecure);
        AUTO(stream)
        struct stream *s = open_to("127.0.0.1", p.port, t, cases[i].server_name, 5000, NULL, &err);
        if (cases[i].refused) {
            assert_null(s);
            assert_int_equal(err.kind, ERR_REACH);
            assert_memory_equal(err.text, cases[i].refused, strlen(cases[i].refused));
        } else {
            assert_non_null(s);
            assert_echo(s, 100);
            assert_echo(s, 3 << 20);
        }
        stream_free(TAKE(s));
        peer_stop(&p);
        SSL_CTX_free(ctx);
    }
}

static void a_client_certificate(void **state)
{
    SSL_CTX *ctx = server_context("server", true);
    struct peer p;
    struct err err;

    (void)state;
    peer_start(&p, serve_tls_echo, ctx);
    AUTO(tls_context) struct tls_context *with = client_context("ca", "client", false);
    AUTO(stream) struct stream *s = open_to("127.0.0.1", p.port, with, NULL, 5000, NULL, &err);
    assert_non_null(s);
    assert_echo(s, 1000);
    stream_free(TAKE(s));

    /* In TLS 1.3 the refusal comes after our side of the handshake is done. */
    AUTO(tls_context) struct tls_context *without = client_context("ca", NULL, false);
    s = open_to("127.0.0.1", p.port, without, NULL, 5000, NULL, &err);
    if (s)
        assert_false(read_some(s, 5000, &err));
    assert_int_equal(err.kind, ERR_REACH);
    assert_non_null(strstr(err.text, "client certificate"));
    stream_free(TAKE(s));
    peer_stop(&p);
    SSL_CTX_free(ctx);
}

static void tls_where_there_is_none(void **state)
{
    AUTO(tls_context) struct tls_context *t = client_context("ca", NULL, false);
    struct peer p;
    struct err err;

    (void)state;
    peer_start(&p, serve_http, NULL);
    assert_null(open_to("127.0.0.1", p.port, t, NULL, 5000, NULL, &err));
    assert_int_equal(err.kind, ERR_REACH);
    assert_string_equal(err.text, "TLS: the server does not answer in TLS (switch TLS off, or use "
                                  "its TLS port)");
    peer_stop(&p);
    peer_start(&p, serve_silence, NULL);
    assert_null(open_to("127.0.0.1", p.port, t, NULL, 60, NULL, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_string_equal(err.text, "TLS handshake: timed out");
    peer_stop(&p);
    peer_start(&p, serve_close, NULL);
    assert_null(open_to("127.0.0.1", p.port, t, NULL, 5000, NULL, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_memory_equal(err.text, "TLS handshake: ", 15);
    peer_stop(&p);
}

static void files_that_can_not_be_used_are_named(void **state)
{
    char ca[300], cert[300], key[300], other_key[300];
    struct err err;

    (void)state;
    snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    snprintf(cert, sizeof cert, "%s/client.pem", folder);
    snprintf(key, sizeof key, "%s/client.key", folder);
    snprintf(other_key, sizeof other_key, "%s/server.key", folder);
    const struct {
        struct tls_options o;
        const char *named;
    } cases[] = {
        {{.ca_file = "/nonexistent/ca.pem"}, "CA file /nonexistent/ca.pem can't be used: "},
        {{.ca_file = key}, "CA file"},
        {{.ca_file = ca, .cert_file = "/nonexistent.pem"}, "client certificate /nonexistent.pem"},
        {{.ca_file = ca, .cert_file = cert, .key_file = "/no.key"}, "client key /no.key"},
        {{.ca_file = ca, .cert_file = cert}, "client key"},
        {{.ca_file = ca, .cert_file = cert, .key_file = other_key}, "client key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(tls_context_new(&cases[i].o, &err));
        assert_int_equal(err.kind, ERR_USER);
        assert_memory_equal(err.text, cases[i].named, strlen(cases[i].named));
    }
}

static int make_files(void **state)
{
    (void)state;
    clock_init_system(&clock_);
    if (!mkdtemp(folder))
        return -1;
    struct authority ca = make_cert(folder, "ca", NULL, NULL);
    struct authority other = make_cert(folder, "other-ca", NULL, NULL);
    struct authority more[4] = {
        make_cert(folder, "server", &ca, "DNS:db.test,DNS:localhost,IP:127.0.0.1"),
        make_cert(folder, "named", &ca, "DNS:db.test"),
        make_cert(folder, "expired", &ca, "IP:127.0.0.1"),
        make_cert(folder, "client", &ca, NULL),
    };
    for (int i = 0; i < 4; i++)
        free_cert(&more[i]);
    free_cert(&other);
    free_cert(&ca);
    return 0;
}

static int remove_files(void **state)
{
    static const char *const names[] = {"ca", "other-ca", "server", "named", "expired", "client"};
    char path[300];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s.pem", folder, names[i]);
        unlink(path);
        snprintf(path, sizeof path, "%s/%s.key", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_and_come_back),
        cmocka_unit_test(a_name_with_several_addresses_finds_the_one_that_listens),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(a_name_that_is_none),
        cmocka_unit_test(connecting_has_an_end),
        cmocka_unit_test(reading_has_an_end),
        cmocka_unit_test(the_peer_closes),
        cmocka_unit_test(a_cancel_ends_every_wait),
        cmocka_unit_test(tls_is_checked),
        cmocka_unit_test(a_client_certificate),
        cmocka_unit_test(tls_where_there_is_none),
        cmocka_unit_test(files_that_can_not_be_used_are_named),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
