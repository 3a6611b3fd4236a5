/*
 * bench/peers/reader.c - a reader that only discards: the floor for a scan.
 *
 *   reader HOST PORT USER PASSWORD QUERY RANGES CONNECTIONS PAGE_ROWS
 *
 * QUERY has "%lld" twice, for the ends of a token range ("... WHERE token(id) > %lld AND token(id)
 * <= %lld"). RANGES is a file with a range in each line, "START END". CQL v4, uncompressed, one
 * page in flight per connection and the next asked for as soon as the paging state is there. Rows
 * are counted by the header of each page and never looked at. It shares no code with the program it
 * is measured against.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *host, *port, *user, *password, *query;
static struct range {
    long long start, end;
} ranges[4096];
static long range_count;
static int page_rows;
static atomic_long next_range;
static atomic_llong rows;

static void die(const char *what)
{
    fprintf(stderr, "reader: %s\n", what);
    exit(3);
}

struct conn {
    int fd;
    uint8_t *buf;
    size_t cap;
    uint8_t out[4096];
    size_t out_len;
};

static void put(struct conn *c, const void *p, size_t n)
{
    if (c->out_len + n > sizeof c->out)
        die("request too long");
    memcpy(c->out + c->out_len, p, n);
    c->out_len += n;
}

static void put32(struct conn *c, uint32_t v)
{
    v = htonl(v);
    put(c, &v, 4);
}

static void put16(struct conn *c, uint16_t v)
{
    v = htons(v);
    put(c, &v, 2);
}

static void begin(struct conn *c, uint8_t opcode)
{
    uint8_t head[] = {4, 0, 0, 1, opcode, 0, 0, 0, 0};

    c->out_len = 0;
    put(c, head, sizeof head);
}

static void send_out(struct conn *c)
{
    uint32_t n = htonl((uint32_t)(c->out_len - 9));

    memcpy(c->out + 5, &n, 4);
    if (write(c->fd, c->out, c->out_len) != (ssize_t)c->out_len)
        die("write");
}

static void read_all(struct conn *c, size_t from, size_t n)
{
    if (from + n > c->cap)
        c->buf = realloc(c->buf, c->cap = 2 * (from + n));
    while (n) {
        ssize_t got = read(c->fd, c->buf + from, n);
        if (got <= 0)
            die("read");
        from += (size_t)got;
        n -= (size_t)got;
    }
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return ntohl(v);
}

/* The next answer into the buffer; its opcode. */
static int answer(struct conn *c)
{
    read_all(c, 0, 9);
    read_all(c, 9, get32(c->buf + 5));
    return c->buf[4];
}

static void log_in(struct conn *c)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int one = 1;

    if (getaddrinfo(host, port, &hints, &found))
        die("host");
    c->fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(c->fd, found->ai_addr, found->ai_addrlen) < 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    freeaddrinfo(found);
    begin(c, 1);
    put16(c, 1);
    put16(c, 11);
    put(c, "CQL_VERSION", 11);
    put16(c, 5);
    put(c, "3.0.0", 5);
    send_out(c);
    if (answer(c) == 3) {
        begin(c, 0x0f);
        put32(c, (uint32_t)(2 + strlen(user) + strlen(password)));
        put(c, "", 1);
        put(c, user, strlen(user));
        put(c, "", 1);
        put(c, password, strlen(password));
        send_out(c);
        if (answer(c) != 0x10)
            die("log-in refused");
    }
}

static void ask(struct conn *c, long long start, long long end, const uint8_t *state,
                uint32_t state_len)
{
    char text[2048];
    uint8_t flags = (uint8_t)(4 | 2 | (state ? 8 : 0));

    snprintf(text, sizeof text, query, start, end);
    begin(c, 7);
    put32(c, (uint32_t)strlen(text));
    put(c, text, strlen(text));
    put16(c, 6);
    put(c, &flags, 1);
    put32(c, (uint32_t)page_rows);
    if (state) {
        put32(c, state_len);
        put(c, state, state_len);
    }
    send_out(c);
}

static void scan(struct conn *c, long long start, long long end)
{
    uint8_t state[1024];
    uint32_t state_len = 0;

    ask(c, start, end, NULL, 0);
    for (bool more = true; more;) {
        if (answer(c) != 8)
            die((const char *)c->buf + 15);
        const uint8_t *p = c->buf + 9 + 4;
        uint32_t meta_flags = get32(p);
        p += 8;
        more = meta_flags & 2;
        if (more) {
            state_len = get32(p);
            if (state_len > sizeof state)
                die("paging state too long");
            memcpy(state, p + 4, state_len);
            p += 4 + state_len;
        }
        long long n = get32(p);
        if (more)
            ask(c, start, end, state, state_len);
        atomic_fetch_add(&rows, n);
    }
}

static void *run(void *arg)
{
    struct conn c = {0};

    (void)arg;
    log_in(&c);
    for (long i; (i = atomic_fetch_add(&next_range, 1)) < range_count;)
        scan(&c, ranges[i].start, ranges[i].end);
    close(c.fd);
    free(c.buf);
    return NULL;
}

static void read_ranges(const char *path)
{
    FILE *f = fopen(path, "r");

    if (!f)
        die(path);
    for (struct range *r = ranges; fscanf(f, "%lld %lld", &r->start, &r->end) == 2; r++) {
        if (++range_count == sizeof ranges / sizeof *ranges)
            die("too many ranges");
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    pthread_t threads[64];

    if (argc != 9) {
        fprintf(stderr,
                "usage: reader HOST PORT USER PASSWORD QUERY RANGES CONNECTIONS PAGE_ROWS\n");
        return 2;
    }
    host = argv[1], port = argv[2], user = argv[3], password = argv[4], query = argv[5];
    read_ranges(argv[6]);
    int connections = atoi(argv[7]);
    page_rows = atoi(argv[8]);
    for (int i = 0; i < connections && i < 64; i++)
        pthread_create(&threads[i], NULL, run, NULL);
    for (int i = 0; i < connections && i < 64; i++)
        pthread_join(threads[i], NULL);
    fprintf(stderr, "rows %lld\n", (long long)rows);
    return 0;
}
