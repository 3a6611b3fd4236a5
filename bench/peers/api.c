/*
 * bench/peers/api.c - a Sync API that answers at once: the server that costs nothing.
 *
 *   api PORT     127.0.0.1; one thread, epoll, HTTP/1.1 keep-alive; counts calls and ids until
 * SIGTERM
 *
 * It reads a request by its Content-Length and answers 200. Not a server for anything but
 * measuring.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, BUF_BYTES = 4 << 20 };

struct conn {
    char *buf;
    size_t len;
};

static struct conn conns[MAX_CONNECTIONS];
static volatile sig_atomic_t stop;
static const char body[] =
    "{\"id\":\"api.data.sync\",\"ver\":\"v1\",\"ts\":\"2026-01-01 00:00:00:000+0000\",\"params\":{"
    "\"resmsgid\":null,\"msgid\":\"m\",\"err\":null,\"status\":\"success\",\"errmsg\":null},"
    "\"responseCode\":\"OK\",\"result\":{\"response\":\"SUCCESS\"}}";
static char answer[1024];
static size_t answer_len;
static unsigned long long calls, bytes;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static void close_conn(int fd)
{
    close(fd);
    free(conns[fd].buf);
    conns[fd] = (struct conn){0};
}

/* Bytes of the whole request at the front of the buffer; 0: not all there yet. */
static size_t request_bytes(const struct conn *c)
{
    const char *end = memmem(c->buf, c->len, "\r\n\r\n", 4);

    if (!end)
        return 0;
    const char *length = memmem(c->buf, (size_t)(end - c->buf), "\r\nContent-Length:", 17);
    size_t n = length ? strtoul(length + 17, NULL, 10) : 0;
    size_t whole = (size_t)(end + 4 - c->buf) + n;
    return c->len >= whole ? whole : 0;
}

static void serve(int fd)
{
    struct conn *c = &conns[fd];

    if (!c->buf)
        c->buf = malloc(BUF_BYTES);
    ssize_t n = read(fd, c->buf + c->len, BUF_BYTES - c->len);
    if (n <= 0) {
        close_conn(fd);
        return;
    }
    c->len += (size_t)n;
    for (size_t whole; (whole = request_bytes(c)) > 0;) {
        calls++;
        bytes += whole;
        memmove(c->buf, c->buf + whole, c->len - whole);
        c->len -= whole;
        if (write(fd, answer, answer_len) != (ssize_t)answer_len) {
            close_conn(fd);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: api PORT\n");
        return 2;
    }
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    answer_len = (size_t)snprintf(
        answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        sizeof body - 1, body);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 64) < 0) {
        perror("api");
        return 3;
    }
    int poller = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &ev);
    while (!stop) {
        struct epoll_event evs[64];
        int n = epoll_wait(poller, evs, 64, -1);

        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;

            if (fd != listener) {
                serve(fd);
                continue;
            }
            fd = accept(listener, NULL, NULL);
            if (fd < 0 || fd >= MAX_CONNECTIONS)
                continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            ev.data.fd = fd;
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &ev);
        }
    }
    printf("calls %llu, bytes %llu\n", calls, bytes);
    return 0;
}
