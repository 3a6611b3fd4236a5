/*
 * bench/peers/sender.c - a bare sender: ready-made bodies over keep-alive connections, answers
 * thrown away.
 *
 *   sender PORT CONNECTIONS CALLS BODY_FILE                127.0.0.1; a thread per connection, one
 *                                                          call at a time on each
 *   sender PORT CONNECTIONS CALLS BODY_FILE PATH SIZES     for _bulk: BODY_FILE holds many bodies,
 *                                                          SIZES their lengths, one a line
 *
 * The floor for `cass2es sync` with as many workers: the same bodies, and nothing done for them.
 * When there are more calls than bodies it begins again with the first. A call answered 429 is made
 * again after 50 ms, and the number of those said at the end; any other answer that is not 200, or
 * has "errors":true in front, ends it.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static struct sockaddr_in at;
static atomic_long next_call, refused;
static long calls;
static const char *path = "/v1/data/sync", *type = "application/json";
static const char *file; /* mapped: all bodies */
static size_t file_len;
static struct body {
    const char *p;
    size_t n;
} *bodies;
static long body_count;

static void die(const char *what)
{
    perror(what);
    exit(3);
}

/*
 * Reads one answer: head, then Content-Length bytes, of which only the first are looked at. False
 * for one that refuses the call for now.
 */
static bool read_answer(int fd)
{
    char buf[65536 + 1];
    size_t len = 0, whole = 0, head = 0;
    bool taken = true;

    while (!head) {
        ssize_t n = read(fd, buf + len, sizeof buf - 1 - len);
        if (n <= 0)
            die("read");
        len += (size_t)n;
        const char *end = memmem(buf, len, "\r\n\r\n", 4);
        if (!end)
            continue;
        buf[len] = 0;
        head = (size_t)(end + 4 - buf);
        const char *length = strcasestr(buf, "\r\ncontent-length:");
        whole = head + (length ? strtoul(length + 17, NULL, 10) : 0);
    }
    if (strncmp(buf, "HTTP/1.1 429", 12) == 0) {
        taken = false;
    } else if (strncmp(buf, "HTTP/1.1 200", 12) != 0 ||
               memmem(buf + head, len - head, "\"errors\":true", 14)) {
        fprintf(stderr, "sender: %.300s\n", buf);
        exit(1);
    }
    while (len < whole) {
        ssize_t n = read(fd, buf, sizeof buf - 1);
        if (n <= 0)
            die("read");
        len += (size_t)n;
    }
    return taken;
}

static void write_all(int fd, struct iovec *v, int n)
{
    while (n > 0) {
        ssize_t sent = writev(fd, v, n);
        if (sent <= 0)
            die("write");
        while (n > 0 && (size_t)sent >= v->iov_len) {
            sent -= (ssize_t)v->iov_len;
            v++, n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + sent;
            v->iov_len -= (size_t)sent;
        }
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
    for (long call; (call = atomic_fetch_add(&next_call, 1)) < calls;) {
        const struct body *body = &bodies[call % body_count];
        char head[512];
        int head_len = snprintf(head, sizeof head,
                                "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\n"
                                "Content-Length: %zu\r\n\r\n",
                                path, type, body->n);
        for (bool taken = false; !taken;) {
            struct iovec v[] = {{head, (size_t)head_len}, {(char *)(uintptr_t)body->p, body->n}};

            write_all(fd, v, 2);
            taken = read_answer(fd);
            if (!taken) {
                atomic_fetch_add(&refused, 1);
                usleep(50000);
            }
        }
    }
    close(fd);
    return NULL;
}

static void map_file(const char *name)
{
    struct stat st;
    int fd = open(name, O_RDONLY);

    if (fd < 0 || fstat(fd, &st) < 0)
        die(name);
    file_len = (size_t)st.st_size;
    file = mmap(NULL, file_len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED)
        die(name);
    close(fd);
}

static void read_sizes(const char *name)
{
    FILE *f = fopen(name, "r");
    size_t at = 0, n;

    if (!f)
        die(name);
    while (fscanf(f, "%zu", &n) == 1 && at + n <= file_len) {
        bodies = realloc(bodies, (size_t)(body_count + 1) * sizeof *bodies);
        bodies[body_count++] = (struct body){file + at, n};
        at += n;
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    pthread_t threads[64];

    if (argc != 5 && argc != 7) {
        fprintf(stderr, "usage: sender PORT CONNECTIONS CALLS BODY_FILE [PATH SIZES]\n");
        return 2;
    }
    int connections = atoi(argv[2]);
    if (connections < 1 || connections > 64)
        die(argv[2]);
    calls = atol(argv[3]);
    map_file(argv[4]);
    if (argc == 7) {
        path = argv[5];
        type = "application/x-ndjson";
        read_sizes(argv[6]);
    } else {
        bodies = malloc(sizeof *bodies);
        bodies[body_count++] = (struct body){file, file_len};
    }
    if (body_count == 0)
        die("no body");
    at = (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)atoi(argv[1]))};
    for (int i = 0; i < connections; i++)
        pthread_create(&threads[i], NULL, run, NULL);
    for (int i = 0; i < connections; i++)
        pthread_join(threads[i], NULL);
    if (refused)
        fprintf(stderr, "sender: %ld calls were answered 429 and made again\n", refused);
    return 0;
}
