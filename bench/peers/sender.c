/*
 * bench/peers/sender.c - a bare sender: ready-made bodies over keep-alive connections, answers
 * thrown away.
 *
 *   sender PORT CONNECTIONS CALLS BODY_FILE     127.0.0.1; a thread per connection, one call at a
 * time on each
 *
 * The floor for `cass2es sync` with as many workers: the same bodies, and nothing done for them.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static struct sockaddr_in at;
static atomic_long left;
static char head[512];
static size_t head_len;
static char *body;
static size_t body_len;

static void die(const char *what)
{
    perror(what);
    exit(3);
}

/* Reads one answer: head, then Content-Length bytes. */
static void read_answer(int fd)
{
    char buf[8192];
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, buf + len, sizeof buf - len);
        if (n <= 0)
            die("read");
        len += (size_t)n;
        const char *end = memmem(buf, len, "\r\n\r\n", 4);
        if (!end)
            continue;
        const char *length = memmem(buf, (size_t)(end - buf), "\r\nContent-Length:", 17);
        size_t whole = (size_t)(end + 4 - buf) + (length ? strtoul(length + 17, NULL, 10) : 0);
        if (len >= whole)
            return;
    }
}

static void *run(void *arg)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;

    (void)arg;
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (atomic_fetch_sub(&left, 1) > 0) {
        struct iovec v[] = {{head, head_len}, {body, body_len}};

        if (writev(fd, v, 2) != (ssize_t)(head_len + body_len))
            die("write");
        read_answer(fd);
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];

    if (argc != 5) {
        fprintf(stderr, "usage: sender PORT CONNECTIONS CALLS BODY_FILE\n");
        return 2;
    }
    int connections = atoi(argv[2]);
    FILE *f = fopen(argv[4], "rb");
    if (!f || connections < 1 || connections > 64)
        die(argv[4]);
    body = malloc(4 << 20);
    body_len = fread(body, 1, 4 << 20, f);
    fclose(f);
    at = (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)atoi(argv[1]))};
    head_len = (size_t)snprintf(
        head, sizeof head,
        "POST /v1/data/sync HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n",
        body_len);
    atomic_store(&left, atol(argv[3]));
    for (int i = 0; i < connections; i++)
        pthread_create(&threads[i], NULL, run, NULL);
    for (int i = 0; i < connections; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
