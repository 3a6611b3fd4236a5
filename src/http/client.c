#include "http/client.h"

#include <curl/curl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS_KEPT = 2,
    POLL_MS = 1000,
    URL_SHOWN_BYTES = 200,
    UPLOAD_BYTES = 256 << 10, /* handed to the kernel at once; curl makes it at the first need */
};

/* How long a connection had bytes on their way, in all (TCP_INFO, tcpi_busy_time). */
struct sending {
    curl_socket_t fd;
    uint64_t busy_us;
};

struct http_client {
    CURLM *multi; /* keeps the connections */
    CURL *easy;
    struct curl_slist *headers; /* of the call under way */
    struct buf answer;
    size_t max_answer_bytes;
    unsigned tries; /* of the call under way: requests begun */
    size_t body_bytes;
    int64_t sent_us; /* of the clock: when the last byte of the body went; 0: not yet */
    struct sending connections[CONNECTIONS_KEPT];
    unsigned connections_seen;
    char *authorization; /* "Authorization: ..."; a secret */
    struct clock *clock;
    struct cancel *cancel;
    int connect_timeout_ms;
    int request_timeout_ms;
    char why[CURL_ERROR_SIZE];
};

static void init_curl(void)
{
    ensure(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static size_t on_answer(char *p, size_t size, size_t n, void *ctx)
{
    struct http_client *c = ctx;

    buf_add(&c->answer, p, size * n);
    return c->answer.full ? 0 : size * n;
}

/* curl sends a request again by itself when a kept connection breaks before the answer begins, also
 * a POST that may have been worked on. Whether to send again is not ours to decide. */
static int on_request(void *ctx, char *address, char *local, int port, int local_port)
{
    struct http_client *c = ctx;

    (void)address;
    (void)local;
    (void)port;
    (void)local_port;
    return c->tries++ ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* So it is before it connects for the second try. */
static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct http_client *c = ctx;

    (void)purpose;
    return c->tries ? CURL_SOCKET_BAD
                    : socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static bool readable(const char *what, const char *path, struct err *err)
{
    return !path || access(path, R_OK) == 0 || err_set(err, ERR_USER, "%s %s: %m", what, path);
}

struct http_client *http_client_new(const struct http_options *o, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    AUTO(http_client) struct http_client *c = NULL;

    if (!readable("CA file", o->ca_file, err) || !readable("certificate", o->cert_file, err) ||
        !readable("key file", o->key_file, err))
        return NULL;
    pthread_once(&once, init_curl);
    c = xalloc(sizeof *c);
    c->max_answer_bytes = o->max_answer_bytes;
    buf_init(&c->answer, c->max_answer_bytes);
    c->clock = o->clock;
    c->cancel = o->cancel;
    c->connect_timeout_ms = o->connect_timeout_ms;
    c->request_timeout_ms = o->request_timeout_ms;
    c->multi = curl_multi_init();
    c->easy = curl_easy_init();
    if (!c->multi || !c->easy) {
        err_set(err, ERR_SYSTEM, "curl: out of memory");
        return NULL;
    }
    if (o->authorization)
        c->authorization = xsprintf("Authorization: %s", o->authorization);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L); /* threads */
    curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
    curl_easy_setopt(c->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->why);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(c->easy, CURLOPT_PREREQDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETDATA, c);
    if (o->ca_file)
        curl_easy_setopt(c->easy, CURLOPT_CAINFO, o->ca_file);
    if (o->cert_file)
        curl_easy_setopt(c->easy, CURLOPT_SSLCERT, o->cert_file);
    if (o->key_file)
        curl_easy_setopt(c->easy, CURLOPT_SSLKEY, o->key_file);
    if (o->username) {
        curl_easy_setopt(c->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(c->easy, CURLOPT_USERNAME, o->username);
        curl_easy_setopt(c->easy, CURLOPT_PASSWORD, o->password ? o->password : "");
    }
    curl_easy_setopt(c->easy, CURLOPT_USERAGENT,
                     o->user_agent ? o->user_agent : "cass2es/" CASS2ES_VERSION);
    if (o->connect_timeout_ms > 0)
        curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)o->connect_timeout_ms);
    if (o->request_timeout_ms > 0)
        curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)o->request_timeout_ms);
    return TAKE(c);
}

void http_client_free(struct http_client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->easy);
    curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->headers);
    buf_fini(&c->answer);
    if (c->authorization)
        explicit_bzero(c->authorization, strlen(c->authorization));
    free(c->authorization);
    free(c);
}

void http_client_trim(struct http_client *c)
{
    buf_fini(&c->answer);
}

static void add_header(struct http_client *c, const char *line)
{
    struct curl_slist *more = curl_slist_append(c->headers, line);

    ensure(more);
    c->headers = more;
}

static void set_headers(struct http_client *c, const struct http_request *r)
{
    curl_slist_free_all(c->headers);
    c->headers = NULL;
    add_header(c, "Expect:"); /* no round trip to ask whether the body is welcome */
    if (r->content_type) {
        AUTO_STR char *line = xsprintf("Content-Type: %s", r->content_type);

        add_header(c, line);
    }
    if (c->authorization)
        add_header(c, c->authorization);
    for (const char *const *h = r->headers; h && *h; h++)
        add_header(c, *h);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
}

static void set_method(struct http_client *c, const struct http_request *r)
{
    bool body = r->content_type || strcmp(r->method, "POST") == 0;

    curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(c->easy, CURLOPT_NOBODY, 0L);
    if (body) {
        curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
        /* a small one leaves together with the head */
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, r->body.n ? (const char *)r->body.p : "");
    } else if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(c->easy, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(c->easy, CURLOPT_HTTPGET, 1L);
    }
    if (strcmp(r->method, "HEAD") != 0)
        curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, r->method);
}

static void note_upload(struct http_client *c)
{
    curl_off_t gone = 0;

    if (c->sent_us || !c->body_bytes)
        return;
    curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &gone);
    if ((size_t)gone >= c->body_bytes)
        c->sent_us = clock_mono_us(c->clock);
}

/* Until the transfer has ended; false when it was cancelled. */
static bool transfer(struct http_client *c, CURLcode *result)
{
    int running = 1;

    *result = CURLE_OK;
    while (running) {
        struct curl_waitfd stop = {.events = CURL_WAIT_POLLIN};

        if (cancel_level(c->cancel) >= 2)
            return false;
        if (curl_multi_perform(c->multi, &running) != CURLM_OK) {
            *result = CURLE_OUT_OF_MEMORY;
            return true;
        }
        note_upload(c);
        if (!running)
            break;
        if (c->cancel)
            stop.fd = c->cancel->fd;
        curl_multi_poll(c->multi, &stop, c->cancel ? 1 : 0, POLL_MS, NULL);
    }
    int left;
    CURLMsg *msg = curl_multi_info_read(c->multi, &left);
    if (msg && msg->msg == CURLMSG_DONE)
        *result = msg->data.result;
    return true;
}

/* Without user names and query, which may be secret. */
static void add_url(char out[URL_SHOWN_BYTES], const char *url)
{
    const char *host = strstr(url, "://");

    host = host ? host + 3 : url;
    size_t authority = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', authority);
    const char *from = at ? at + 1 : host;
    snprintf(out, URL_SHOWN_BYTES, "%.*s%.*s", (int)(host - url), url, (int)strcspn(from, "?#"),
             from);
}

/* A handshake that was refused for what the sides are, and not because a connection broke. */
static bool tls_mismatch(const char *why)
{
    static const char *const lasting[] = {
        "wrong version", "unsupported protocol", "alert",
        "no protocols",  "packet length",        "http request",
        "no shared",     "dh key too small",     "unknown protocol"};

    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        if (strcasestr(why, lasting[i]))
            return true;
    }
    return false;
}

static bool explain(struct http_client *c, const struct http_request *r, CURLcode code,
                    struct err *err)
{
    const char *why = *c->why ? c->why : curl_easy_strerror(code);
    char url[URL_SHOWN_BYTES];
    curl_off_t connected_us = 0;

    add_url(url, r->url);
    if (code == CURLE_COULDNT_CONNECT && c->tries) /* on_socket */
        code = CURLE_GOT_NOTHING;
    switch (code) {
    case CURLE_WRITE_ERROR:
        return err_set(err, ERR_REJECT, "%s %s: the answer is longer than %zu bytes", r->method,
                       url, c->answer.max);
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
        if (connected_us <= 0)
            return err_set(err, ERR_RETRY, "%s %s: connecting timed out after %d ms", r->method,
                           url, c->connect_timeout_ms);
        return err_set(err, ERR_RETRY, "%s %s: timed out after %d ms", r->method, url,
                       c->request_timeout_ms);
    case CURLE_UNSUPPORTED_PROTOCOL: /* also said of an answer that does not begin with HTTP/1.x */
        if (!strstr(why, "HTTP/0.9"))
            return err_set(err, ERR_USER, "%s %s: %s", r->method, url, why);
        return err_set(err, ERR_USER,
                       "%s %s: what answers there does not speak HTTP; check the port", r->method,
                       url);
    case CURLE_URL_MALFORMAT:
        return err_set(err, ERR_USER, "%s %s: not a usable URL: %s", r->method, url, why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        return err_set(err, ERR_REACH,
                       "%s %s: the server's certificate is not trusted: %s; give its authority as "
                       "CA file",
                       r->method, url, why);
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
        return err_set(err, ERR_USER, "%s %s: TLS: %s", r->method, url, why);
    case CURLE_SSL_CONNECT_ERROR:
        if (tls_mismatch(why))
            return err_set(err, ERR_USER,
                           "%s %s: TLS: %s; is it http:// what the server speaks there?", r->method,
                           url, why);
        return err_set(err, ERR_RETRY, "%s %s: TLS: %s", r->method, url, why);
    case CURLE_PARTIAL_FILE:
        return err_set(err, ERR_RETRY, "%s %s: the answer was cut off: %s", r->method, url, why);
    case CURLE_ABORTED_BY_CALLBACK: /* on_request */
    case CURLE_GOT_NOTHING:
        return err_set(err, ERR_RETRY, "%s %s: connection closed without an answer", r->method,
                       url);
    case CURLE_OUT_OF_MEMORY:
        return err_set(err, ERR_SYSTEM, "%s %s: out of memory", r->method, url);
    default:
        return err_set(err, ERR_RETRY, "%s %s: %s", r->method, url, why);
    }
}

static void copy_text(char *out, size_t room, const char *text)
{
    snprintf(out, room, "%s", text ? text : "");
}

static struct sending *connection_of(struct http_client *c, curl_socket_t fd, bool is_new)
{
    struct sending *found = NULL;

    for (size_t i = 0; i < CONNECTIONS_KEPT && i < c->connections_seen && !found; i++)
        found = c->connections[i].fd == fd ? &c->connections[i] : NULL;
    if (!found)
        found = &c->connections[c->connections_seen++ % CONNECTIONS_KEPT];
    if (found->fd != fd || is_new)
        *found = (struct sending){.fd = fd};
    return found;
}

/* Since the call before on the same connection; 0 where the kernel does not say it. */
static int64_t busy_us(struct http_client *c, bool is_new)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    struct tcp_info info = {0};
    socklen_t n = sizeof info;

    if (curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd < 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0)
        return 0;
    struct sending *connection = connection_of(c, fd, is_new);
    int64_t us = (int64_t)(info.tcpi_busy_time - connection->busy_us);
    connection->busy_us = info.tcpi_busy_time;
    return us;
}

/* Connecting aside. */
static int64_t upload_us(struct http_client *c, int64_t start_us, bool new_connection)
{
    curl_off_t begun_us = 0;
    int64_t busy = busy_us(c, new_connection);

    if (!c->sent_us)
        return 0;
    curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &begun_us);
    int64_t us = c->sent_us - start_us - (int64_t)begun_us;
    us = us > busy ? us : busy;
    return us > 0 ? us : 1;
}

static void take_answer(struct http_client *c, int64_t start_us, struct http_answer *out)
{
    long status = 0;
    long connects = 0;
    curl_off_t retry_after_s = 0;
    const char *type = NULL;
    const char *location = NULL;

    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(c->easy, CURLINFO_REDIRECT_URL, &location);
    *out = (struct http_answer){
        .status = (int)status,
        .body = slice_of(c->answer.p ? c->answer.p : (const uint8_t *)"", c->answer.len),
        .retry_after_ms = retry_after_s > 0 ? (int64_t)retry_after_s * 1000 : -1,
        .took_ms = (clock_mono_us(c->clock) - start_us) / 1000,
        .upload_us = upload_us(c, start_us, connects > 0),
        .new_connection = connects > 0,
    };
    copy_text(out->content_type, sizeof out->content_type, type);
    copy_text(out->location, sizeof out->location, location);
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    int64_t start_us = clock_mono_us(c->clock);
    CURLcode code = CURLE_OK;
    long request_bytes = 0;

    buf_reset(&c->answer);
    c->answer.max = r->max_answer_bytes && r->max_answer_bytes < c->max_answer_bytes
                        ? r->max_answer_bytes
                        : c->max_answer_bytes;
    c->why[0] = '\0';
    c->tries = 0;
    c->body_bytes = r->body.n;
    c->sent_us = 0;
    set_headers(c, r);
    set_method(c, r);
    curl_easy_setopt(c->easy, CURLOPT_URL, r->url);
    bool ended = curl_multi_add_handle(c->multi, c->easy) == CURLM_OK;
    if (!ended)
        return err_set(err, ERR_SYSTEM, "curl: out of memory");
    ended = transfer(c, &code);
    curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    if (sent)
        *sent = request_bytes > 0;
    if (ended && code == CURLE_OK)
        take_answer(c, start_us, out);
    else if (ended)
        explain(c, r, code, err);
    else
        err_set(err, ERR_CANCEL, "%s: stopped while waiting for the answer", r->method);
    curl_multi_remove_handle(c->multi, c->easy); /* an unfinished one loses its connection */
    return ended && code == CURLE_OK;
}
