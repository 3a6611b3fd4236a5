/*
 * bench/peers/free_es.c - a server in Elasticsearch's place that costs nearly nothing.
 *
 *   free_es PORT [STORED]    127.0.0.1; a thread per connection; until SIGTERM, then says what came
 *
 * A _bulk body is read as fast as the kernel gives it, and nothing but its lines is counted: two
 * are an item. The answer is made of ready-made items, with the fields that filter_path asks for;
 * only where these are the ids, too, is the body kept and looked into. Any index exists, has one
 * shard, and is empty; but when STORED is given, _mget finds each document, with a source of so
 * many bytes. Understands keep-alive, Content-Length, gzip, "Expect: 100-continue".
 */
#include <arpa/inet.h>
#include <libdeflate.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BUF_BYTES = 256 << 10, HEAD_MAX = 16 << 10, ITEM_MAX = 512, MAX_UNPACKED = 512 << 20 };

static atomic_ullong bulks, packed, items, bytes_in, others;
static size_t stored_bytes; /* 0: nothing is stored */

static void die(const char *what)
{
    perror(what);
    exit(3);
}

struct conn {
    int fd;
    char *buf; /* the request's head, and what came behind it */
    size_t n;
    char *body; /* kept only for its ids */
    size_t body_n, body_cap;
    char *answer;
    size_t answer_cap;
};

static bool write_all(int fd, struct iovec *v, int n)
{
    while (n > 0) {
        ssize_t sent = writev(fd, v, n);
        if (sent <= 0)
            return false;
        while (n > 0 && (size_t)sent >= v->iov_len) {
            sent -= (ssize_t)v->iov_len;
            v++, n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + sent;
            v->iov_len -= (size_t)sent;
        }
    }
    return true;
}

static bool answer(struct conn *c, int status, const char *body, size_t n)
{
    char head[256];
    int head_n = snprintf(head, sizeof head,
                          "HTTP/1.1 %d %s\r\nX-elastic-product: Elasticsearch\r\n"
                          "content-type: application/json; charset=UTF-8\r\n"
                          "content-length: %zu\r\n\r\n",
                          status, status == 200 ? "OK" : "No", n);
    struct iovec v[] = {{head, (size_t)head_n}, {(char *)(uintptr_t)body, n}};
    return write_all(c->fd, v, 2);
}

/* One item with those of its fields that the path asks for; nothing when it asks for none. */
static size_t item_text(const char *path, char *out)
{
    static const struct {
        const char *name, *text;
    } fields[] = {
        {"_index", "\"_index\":\"free\""}, {"_type", "\"_type\":\"_doc\""},
        {"_version", "\"_version\":1"},    {"result", "\"result\":\"created\""},
        {"_seq_no", "\"_seq_no\":1"},      {"_primary_term", "\"_primary_term\":1"},
        {"status", "\"status\":201"},
    };
    const char *filter = strstr(path, "filter_path=");
    size_t n = 0, before = (size_t)sprintf(out, "{\"index\":{");

    n = before;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "items.*.%s", fields[i].name);
        if (filter && !strstr(filter, wanted) && !strstr(filter, "items.*.*"))
            continue;
        n += (size_t)sprintf(out + n, "%s%s", n > before ? "," : "", fields[i].text);
    }
    if (n == before)
        return 0;
    return n + (size_t)sprintf(out + n, "}},");
}

static bool is_mget(const char *path)
{
    return strstr(path, "/_mget") != NULL;
}

static bool wants_ids(const char *path)
{
    return strstr(path, "items.*._id,") != NULL || is_mget(path);
}

/* The ready-made items, each with the name and the id of its action. */
static size_t items_with_ids(const struct conn *c, const char *item, size_t item_n, char *out)
{
    static const char open[] = "{\"index\":{";
    size_t n = 0;

    for (const char *p = c->body, *end = p + c->body_n; p && p < end;) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        const char *id = line_end ? memmem(p, (size_t)(line_end - p), "\"_id\":\"", 7) : NULL;
        if (!id)
            break;
        size_t id_n = (size_t)((char *)memchr(id + 7, '"', (size_t)(line_end - id)) + 1 - id);
        memcpy(out + n, p, (size_t)(id - p));
        n += (size_t)(id - p);
        memcpy(out + n, id, id_n);
        n += id_n;
        out[n++] = ',';
        memcpy(out + n, item + sizeof open - 1, item_n - (sizeof open - 1));
        n += item_n - (sizeof open - 1);
        p = memchr(line_end + 1, '\n', (size_t)(end - line_end - 1)); /* the source */
        p = p ? p + 1 : end;
    }
    return n;
}

static bool answer_bulk(struct conn *c, const char *path, size_t count)
{
    char item[ITEM_MAX];
    size_t item_n = item_text(path, item);
    bool took = !strstr(path, "filter_path=") || strstr(path, "took");
    bool ids = item_n && wants_ids(path);
    size_t most = 64 + count * item_n + (ids ? c->body_n : 0);

    if (c->answer_cap < most)
        c->answer = realloc(c->answer, c->answer_cap = 2 * most);
    size_t n = (size_t)sprintf(c->answer, "{%s\"errors\":false", took ? "\"took\":1," : "");
    if (item_n && count) {
        n += (size_t)sprintf(c->answer + n, ",\"items\":[");
        if (ids)
            n += items_with_ids(c, item, item_n, c->answer + n);
        for (size_t i = 0; i < count && !ids; i++, n += item_n)
            memcpy(c->answer + n, item, item_n);
        c->answer[n - 1] = ']';
    }
    c->answer[n++] = '}';
    return answer(c, 200, c->answer, n);
}

/* Every document that was asked for by its id, as {"ids":["...",...]}. */
static bool answer_mget(struct conn *c, const char *path)
{
    size_t source = stored_bytes && !strstr(path, "_source=false") ? stored_bytes : 0, n = 0;
    const char *p = memchr(c->body, '[', c->body_n), *end = c->body + c->body_n;

    c->answer_cap = 0;
    free(c->answer);
    c->answer = NULL;
    for (const char *id; p && (id = memchr(p, '"', (size_t)(end - p))) != NULL;) {
        p = memchr(id + 1, '"', (size_t)(end - id - 1));
        if (!p++)
            break;
        if (c->answer_cap - n < source + (size_t)(p - id) + 256)
            c->answer = realloc(c->answer, c->answer_cap += 8 * (source + (size_t)(p - id) + 256));
        n += (size_t)sprintf(c->answer + n,
                             "%s{\"_index\":\"free\",\"_type\":\"_doc\",\"_id\":%.*s,\"found\":%s",
                             n ? "," : "{\"docs\":[", (int)(p - id), id,
                             stored_bytes ? "true,\"_seq_no\":1,\"_primary_term\":1" : "false");
        if (source) {
            n += (size_t)sprintf(c->answer + n, ",\"_source\":{\"old\":\"");
            memset(c->answer + n, 'o', source);
            n += source;
            n += (size_t)sprintf(c->answer + n, "\"}");
        }
        c->answer[n++] = '}';
    }
    if (!n)
        return answer(c, 400, "{}", 2);
    memcpy(c->answer + n, "]}", 2);
    return answer(c, 200, c->answer, n + 2);
}

static size_t lines_in(const char *p, size_t n)
{
    size_t lines = 0;
    for (size_t i = 0; i < n; i++) /* the compiler makes vectors of it */
        lines += p[i] == '\n';
    return lines;
}

static void keep(struct conn *c, const char *p, size_t n)
{
    if (c->body_n + n > c->body_cap)
        c->body = realloc(c->body, c->body_cap = 2 * (c->body_n + n));
    memcpy(c->body + c->body_n, p, n);
    c->body_n += n;
}

static bool gzip_lines(struct conn *c, char *packed, size_t n, bool ids, size_t *lines)
{
    static _Thread_local struct libdeflate_decompressor *d;
    size_t cap = 16 * n + 4096, got = 0;
    enum libdeflate_result r = LIBDEFLATE_INSUFFICIENT_SPACE;

    if (!d)
        d = libdeflate_alloc_decompressor();
    for (; r == LIBDEFLATE_INSUFFICIENT_SPACE && cap < MAX_UNPACKED; cap *= 4) {
        char *out = malloc(cap);
        r = libdeflate_gzip_decompress(d, packed, n, out, cap, &got);
        *lines = r == LIBDEFLATE_SUCCESS ? lines_in(out, got) : 0;
        if (r == LIBDEFLATE_SUCCESS && ids)
            keep(c, out, got);
        free(out);
    }
    return r == LIBDEFLATE_SUCCESS;
}

/* Reads the rest of a body and counts its lines. `have` bytes of it are at c->buf + at. */
static bool take_body(struct conn *c, size_t at, size_t length, bool gzip, bool ids, size_t *lines)
{
    c->body_n = 0;
    size_t have = c->n - at < length ? c->n - at : length;

    *lines = 0;
    if (gzip) {
        char *packed = malloc(length + 1);
        memcpy(packed, c->buf + at, have);
        for (size_t n = have; n < length;) {
            ssize_t got = read(c->fd, packed + n, length - n);
            if (got <= 0)
                return false;
            n += (size_t)got;
        }
        bool ok = gzip_lines(c, packed, length, ids, lines);
        free(packed);
        memmove(c->buf, c->buf + at + have, c->n -= at + have);
        return ok;
    }
    *lines = lines_in(c->buf + at, have);
    if (ids)
        keep(c, c->buf + at, have);
    memmove(c->buf, c->buf + at + have, c->n -= at + have);
    for (size_t left = length - have; left;) {
        ssize_t got = read(c->fd, c->buf, left < BUF_BYTES ? left : BUF_BYTES);
        if (got <= 0)
            return false;
        *lines += lines_in(c->buf, (size_t)got);
        if (ids)
            keep(c, c->buf, (size_t)got);
        left -= (size_t)got;
    }
    return true;
}

/* What is not a _bulk: enough for a client to go on. */
static bool answer_other(struct conn *c, const char *method, const char *path)
{
    static const char root[] =
        "{\"name\":\"free\",\"cluster_name\":\"free\",\"cluster_uuid\":\"AAAAAAAAAAAAAAAAAAAAAA\","
        "\"version\":{\"number\":\"7.17.28\",\"build_flavor\":\"default\",\"build_type\":\"tar\","
        "\"lucene_version\":\"8.11.3\",\"minimum_wire_compatibility_version\":\"6.8.0\","
        "\"minimum_index_compatibility_version\":\"6.0.0-beta1\"},"
        "\"tagline\":\"You Know, for Search\"}";
    static const struct {
        const char *part, *text;
    } texts[] = {
        {"/_cluster/health", "{\"cluster_name\":\"free\",\"status\":\"green\",\"timed_out\":false,"
                             "\"number_of_nodes\":1,\"number_of_data_nodes\":1}"},
        {"/_cluster/state",
         "{\"metadata\":{\"indices\":{\"free\":{\"state\":\"open\",\"settings\":{\"index\":{"
         "\"number_of_shards\":\"1\",\"uuid\":\"free\"}},\"primary_terms\":{\"0\":1},"
         "\"mappings\":{},\"aliases\":[]}}},\"routing_table\":{\"indices\":{}}}"},
        {"/_cluster/settings", "{\"persistent\":{},\"transient\":{},\"defaults\":{}}"},
        {"/_nodes", "{\"nodes\":{\"n\":{\"name\":\"free\",\"version\":\"7.17.28\",\"roles\":["
                    "\"data\",\"ingest\",\"master\"],\"http\":{\"publish_address\":"
                    "\"127.0.0.1:0\",\"max_content_length_in_bytes\":104857600}}}}"},
        {"/_settings", "{\"free\":{\"settings\":{\"index\":{\"uuid\":\"free\",\"number_of_shards\":"
                       "\"1\",\"number_of_replicas\":\"0\",\"gc_deletes\":\"1h\","
                       "\"provided_name\":\"free\"}}}}"},
        {"/_mapping", "{\"free\":{\"mappings\":{\"properties\":{}}}}"},
        {"/_alias", "{\"free\":{\"aliases\":{}}}"},
        {"/_stats", "{\"_all\":{\"primaries\":{\"docs\":{\"count\":0,\"deleted\":0}}}}"},
        {"/_count", "{\"count\":0,\"_shards\":{\"total\":1,\"successful\":1,\"failed\":0}}"},
        {"/_refresh", "{\"_shards\":{\"total\":1,\"successful\":1,\"failed\":0}}"},
    };
    const char *text = "{\"acknowledged\":true,\"shards_acknowledged\":true,\"index\":\"free\"}";

    atomic_fetch_add(&others, 1);
    if (strcmp(method, "GET") == 0) {
        text =
            "{\"free\":{\"aliases\":{},\"mappings\":{\"properties\":{}},\"settings\":{\"index\":{"
            "\"uuid\":\"free\",\"number_of_shards\":\"1\",\"number_of_replicas\":\"0\","
            "\"gc_deletes\":\"1h\",\"provided_name\":\"free\"}}}}";
        if (strcmp(path, "/") == 0 || strncmp(path, "/?", 2) == 0)
            text = root;
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strstr(path, texts[i].part) && strcmp(method, "PUT") != 0) {
            text = texts[i].text;
            break;
        }
    }
    return answer(c, 200, text, strcmp(method, "HEAD") == 0 ? 0 : strlen(text));
}

static void decode(char *path)
{
    char *out = path;

    for (unsigned v; *path; path++) {
        if (*path == '%' && sscanf(path + 1, "%2x", &v) == 1 && path[2]) {
            *out++ = (char)v;
            path += 2;
        } else {
            *out++ = *path;
        }
    }
    *out = 0;
}

static const char *header(const char *head, const char *name)
{
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) + strspn(found + strlen(name), " ") : NULL;
}

/* One request: its head is at the front of the buffer, `head_n` bytes. */
static bool handle(struct conn *c, size_t head_n)
{
    char head[HEAD_MAX], method[8] = "", path[4096] = "";
    size_t lines;

    if (head_n >= sizeof head)
        return false;
    memcpy(head, c->buf, head_n);
    head[head_n] = 0;
    sscanf(head, "%7s %4095s", method, path);
    decode(path);
    const char *length = header(head, "\r\ncontent-length:");
    const char *coding = header(head, "\r\ncontent-encoding:");
    if (header(head, "\r\ntransfer-encoding:"))
        return answer(c, 411, "{}", 2) && false;
    if (header(head, "\r\nexpect:")) {
        static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        if (!write_all(c->fd, &(struct iovec){go_on, sizeof go_on - 1}, 1))
            return false;
    }
    bool gzip = coding && strncasecmp(coding, "gzip", 4) == 0;
    size_t n = length ? strtoul(length, NULL, 10) : 0;
    if (!take_body(c, head_n, n, gzip, wants_ids(path), &lines))
        return false;
    if (is_mget(path))
        return answer_mget(c, path);
    if (!strstr(path, "_bulk"))
        return answer_other(c, method, path);
    atomic_fetch_add(&bulks, 1);
    atomic_fetch_add(&packed, gzip);
    atomic_fetch_add(&items, lines / 2);
    atomic_fetch_add(&bytes_in, n);
    return answer_bulk(c, path, lines / 2);
}

static void *serve(void *arg)
{
    struct conn c = {.fd = (int)(intptr_t)arg, .buf = malloc(BUF_BYTES)};

    for (bool ok = c.buf != NULL; ok;) {
        const char *end = memmem(c.buf, c.n, "\r\n\r\n", 4);
        if (end) {
            ok = handle(&c, (size_t)(end + 4 - c.buf));
            continue;
        }
        ssize_t got = c.n < BUF_BYTES ? read(c.fd, c.buf + c.n, BUF_BYTES - c.n) : 0;
        ok = got > 0;
        c.n += ok ? (size_t)got : 0;
    }
    close(c.fd);
    free(c.buf);
    free(c.answer);
    free(c.body);
    return NULL;
}

static void *wait_for_end(void *arg)
{
    int got;

    sigwait(arg, &got);
    printf("bulks %llu (%llu packed), items %llu, bytes %llu, others %llu\n", bulks, packed, items,
           bytes_in, others);
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static sigset_t ends;
    pthread_t thread;
    int one = 1;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: free_es PORT [STORED]\n");
        return 2;
    }
    stored_bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    pthread_create(&thread, NULL, wait_for_end, &ends);
    signal(SIGPIPE, SIG_IGN);
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 64) < 0)
        die("free_es");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
}
