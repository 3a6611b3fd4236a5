#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>

struct tls_context {
    SSL_CTX *ssl_ctx;
    BIO_METHOD *socket_method;
    bool insecure;
};

struct tls {
    SSL *ssl;
    char name[256];
};

/* OpenSSL's own socket BIO writes with write(2) and so may raise SIGPIPE in a program that didn't
 * ask for it; this one sends with MSG_NOSIGNAL. */
static int socket_write(BIO *b, const char *p, int n)
{
    int fd = (int)(intptr_t)BIO_get_data(b);
    ssize_t sent = send(fd, p, (size_t)n, MSG_NOSIGNAL);

    BIO_clear_retry_flags(b);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(b);
    return (int)sent;
}

static int socket_read(BIO *b, char *p, int n)
{
    int fd = (int)(intptr_t)BIO_get_data(b);
    ssize_t got = recv(fd, p, (size_t)n, 0);

    BIO_clear_retry_flags(b);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(b);
    if (got == 0)
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    return (int)got;
}

static long socket_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_EOF)
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_PUSH || cmd == BIO_CTRL_POP;
}

static const char *ssl_reason(void)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;

    return reason ? reason : "unknown error";
}

static bool context_load(struct tls_context *t, const struct tls_options *o, struct err *err)
{
    SSL_CTX *ctx = t->ssl_ctx;

    if (o->insecure)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    else
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (o->ca_file && SSL_CTX_load_verify_file(ctx, o->ca_file) != 1)
        return err_set(err, ERR_USER, "CA file %s can't be used: %s", o->ca_file, ssl_reason());
    if (!o->ca_file && !o->insecure)
        SSL_CTX_set_default_verify_paths(ctx);
    if (!o->cert_file)
        return true;
    if (SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
        return err_set(err, ERR_USER, "client certificate %s can't be used: %s", o->cert_file,
                       ssl_reason());
    const char *key = o->key_file ? o->key_file : o->cert_file;
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return err_set(err, ERR_USER, "client key %s can't be used: %s", key, ssl_reason());
    if (SSL_CTX_check_private_key(ctx) != 1)
        return err_set(err, ERR_USER, "client key %s does not belong to certificate %s", key,
                       o->cert_file);
    return true;
}

/* A password for a key file would be asked for on the terminal: say no instead. */
static int no_password(char *buf, int size, int rwflag, void *u)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)u;
    return -1;
}

struct tls_context *tls_context_new(const struct tls_options *o, struct err *err)
{
    AUTO(tls_context) struct tls_context *t = xalloc(sizeof *t);

    ERR_clear_error();
    t->insecure = o->insecure;
    t->ssl_ctx = SSL_CTX_new(TLS_client_method());
    t->socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (!t->ssl_ctx || !t->socket_method) {
        err_set(err, ERR_SYSTEM, "TLS: %s", ssl_reason());
        return NULL;
    }
    BIO_meth_set_write(t->socket_method, socket_write);
    BIO_meth_set_read(t->socket_method, socket_read);
    BIO_meth_set_ctrl(t->socket_method, socket_ctrl);
    SSL_CTX_set_min_proto_version(t->ssl_ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(t->ssl_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                     SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(t->ssl_ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(t->ssl_ctx, no_password);
    if (!context_load(t, o, err))
        return NULL;
    return TAKE(t);
}

void tls_context_free(struct tls_context *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ssl_ctx);
    BIO_meth_free(t->socket_method);
    free(t);
}

static bool is_address(const char *name)
{
    uint8_t bytes[16];

    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

struct tls *tls_new(const struct tls_context *t, int fd, const char *name, struct err *err)
{
    struct tls *s = xalloc(sizeof *s);
    BIO *bio = BIO_new(t->socket_method);
    bool ok;

    snprintf(s->name, sizeof s->name, "%s", name);
    s->ssl = SSL_new(t->ssl_ctx);
    if (!s->ssl || !bio) {
        BIO_free(bio);
        tls_free(s);
        err_set(err, ERR_SYSTEM, "TLS: %s", ssl_reason());
        return NULL;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd); /* NOLINT(performance-no-int-to-ptr) */
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    if (is_address(name)) {
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->ssl), name) == 1;
    } else {
        SSL_set_hostflags(s->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = SSL_set1_host(s->ssl, name) == 1 && SSL_set_tlsext_host_name(s->ssl, name) == 1;
    }
    if (ok)
        return s;
    tls_free(s);
    err_set(err, ERR_USER, "'%s' can't be a server name", name);
    return NULL;
}

void tls_free(struct tls *s)
{
    if (!s)
        return;
    /* A word of good-bye, if the socket takes it now; a session that failed must not be shut down.
     */
    if (s->ssl && SSL_is_init_finished(s->ssl) && !ERR_peek_error())
        SSL_shutdown(s->ssl);
    ERR_clear_error();
    SSL_free(s->ssl);
    free(s);
}

static enum tls_result failed(struct tls *s, struct err *err)
{
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;
    long verdict = SSL_get_verify_result(s->ssl);

    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED &&
        (verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH))
        err_set(err, ERR_REACH,
                "TLS: the server's certificate is not for '%s' (connect by the name in it, or give "
                "that as server name)",
                s->name);
    else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED &&
             (verdict == X509_V_ERR_CERT_HAS_EXPIRED || verdict == X509_V_ERR_CERT_NOT_YET_VALID))
        err_set(err, ERR_REACH,
                "TLS: the server's %s (renew it; or is this machine's clock wrong?)",
                X509_verify_cert_error_string(verdict));
    else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        err_set(err, ERR_REACH,
                "TLS: the server's certificate is not trusted: %s (give the CA's certificate as CA "
                "file)",
                X509_verify_cert_error_string(verdict));
    else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_PACKET_LENGTH_TOO_LONG ||
             reason == SSL_R_HTTP_REQUEST || reason == SSL_R_BAD_RECORD_TYPE)
        err_set(err, ERR_REACH,
                "TLS: the server does not answer in TLS (switch TLS off, or use its TLS port)");
    else if (reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED ||
             reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE ||
             reason == SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN ||
             reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA ||
             reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE)
        err_set(err, ERR_REACH,
                "TLS: the server refused the handshake: %s (it may want a client certificate it "
                "trusts)",
                ssl_reason());
    else if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING || (e == 0 && errno == 0))
        err_set(err, ERR_RETRY, "closed by the server");
    else if (e == 0)
        err_set(err, ERR_RETRY, "%s", strerror(errno));
    else
        err_set(err, ERR_RETRY, "TLS: %s", ssl_reason());
    return TLS_FAILED;
}

static enum tls_result outcome(struct tls *s, int rc, struct err *err)
{
    switch (SSL_get_error(s->ssl, rc)) {
    case SSL_ERROR_NONE:
        return TLS_DONE;
    case SSL_ERROR_WANT_READ:
        return TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        err_set(err, ERR_RETRY, "closed by the server");
        return TLS_FAILED;
    default:
        return failed(s, err);
    }
}

enum tls_result tls_handshake(struct tls *s, struct err *err)
{
    ERR_clear_error();
    errno = 0;
    return outcome(s, SSL_connect(s->ssl), err);
}

enum tls_result tls_read(struct tls *s, void *p, size_t n, size_t *done, struct err *err)
{
    ERR_clear_error();
    errno = 0;
    return outcome(s, SSL_read_ex(s->ssl, p, n, done), err);
}

enum tls_result tls_write(struct tls *s, const void *p, size_t n, size_t *done, struct err *err)
{
    ERR_clear_error();
    errno = 0;
    return outcome(s, SSL_write_ex(s->ssl, p, n, done), err);
}
