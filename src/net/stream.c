#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/resolve.h"
#include "net/tls.h"

enum {
    ADDRESSES_MAX = 8,
    NEXT_ADDRESS_MS = 250,
    /* Idle connections stay known to firewalls, and a host that is gone is noticed in a minute. */
    KEEP_ALIVE_IDLE_S = 30,
    KEEP_ALIVE_EVERY_S = 10,
    KEEP_ALIVE_TIMES = 3,
};

struct stream {
    int fd;
    struct tls *tls;
    struct clock *clock;
    struct cancel *cancel;
    short read_events; /* what a read (or write) that yielded 0 waits for */
    short write_events;
};

static bool cancelled(struct cancel *c, struct err *err)
{
    if (cancel_level(c) < 2)
        return false;
    err_set(err, ERR_CANCEL, "cancelled");
    return true;
}

static int start_connect(const struct addrinfo *a, int *why)
{
    const int one = 1;
    const int idle_s = KEEP_ALIVE_IDLE_S;
    const int every_s = KEEP_ALIVE_EVERY_S;
    const int times = KEEP_ALIVE_TIMES;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);

    if (fd < 0) {
        *why = errno;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS)
        return fd;
    *why = errno;
    close(fd);
    return -1;
}

/* Index of a socket that is connected; -1: none yet. Those that failed are closed and become -1. */
static int find_connected(struct pollfd *fds, int count, int *why)
{
    for (int i = 0; i < count; i++) {
        int e = 0;
        socklen_t n = sizeof e;

        if (fds[i].fd < 0 || !fds[i].revents)
            continue;
        getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &e, &n);
        if (e == 0 && !(fds[i].revents & (POLLERR | POLLHUP)))
            return i;
        *why = e ? e : ECONNRESET;
        close(fds[i].fd);
        fds[i].fd = -1;
    }
    return -1;
}

static int connect_any(const struct addrinfo *list, struct clock *clock, struct cancel *cancel,
                       struct deadline until, struct err *err)
{
    struct pollfd fds[ADDRESSES_MAX + 1];
    const struct addrinfo *next = list;
    struct deadline start_next = {0};
    int count = 0;
    int why = ETIMEDOUT;
    int won = -1;

    while (won < 0) {
        int open = 0;
        for (int i = 0; i < count; i++)
            open += fds[i].fd >= 0;
        while (next && count < ADDRESSES_MAX &&
               (open == 0 || deadline_left_ms(clock, start_next) == 0)) {
            fds[count] = (struct pollfd){.fd = start_connect(next, &why), .events = POLLOUT};
            open += fds[count++].fd >= 0;
            next = next->ai_next;
            start_next = deadline_in(clock, NEXT_ADDRESS_MS);
        }
        if (open == 0) {
            err_set(err, ERR_RETRY, "%s", strerror(why));
            break;
        }
        int left = deadline_left_ms(clock, until);
        int wait = next && count < ADDRESSES_MAX ? deadline_left_ms(clock, start_next) : left;
        fds[count] = (struct pollfd){.fd = cancel ? cancel->fd : -1, .events = POLLIN};
        if (poll(fds, (nfds_t)count + 1, wait < left ? wait : left) < 0 && errno != EINTR) {
            err_set(err, ERR_SYSTEM, "poll: %s", strerror(errno));
            break;
        }
        if (cancelled(cancel, err))
            break;
        won = find_connected(fds, count, &why);
        if (won < 0 && left == 0) {
            err_set(err, ERR_RETRY, "timed out while connecting");
            break;
        }
    }
    for (int i = 0; i < count; i++)
        if (i != won && fds[i].fd >= 0)
            close(fds[i].fd);
    return won < 0 ? -1 : fds[won].fd;
}

static bool shake_hands(struct stream *s, const struct stream_target *to, struct deadline until,
                        struct err *err)
{
    s->tls = tls_new(to->tls, s->fd, to->server_name ? to->server_name : to->host, err);
    if (!s->tls)
        return false;
    for (;;) {
        switch (tls_handshake(s->tls, err)) {
        case TLS_DONE:
            return true;
        case TLS_WANT_READ:
            s->read_events = POLLIN;
            break;
        case TLS_WANT_WRITE:
            s->read_events = POLLOUT;
            break;
        case TLS_FAILED:
            if (err->kind == ERR_RETRY)
                err_wrap(err, "TLS handshake");
            return false;
        }
        if (!stream_wait(s, STREAM_READ, until, err))
            return err_wrap(err, "TLS handshake");
    }
}

struct stream *stream_open(const struct stream_target *to, struct clock *clock,
                           struct cancel *cancel, struct deadline until, struct err *err)
{
    AUTO(stream) struct stream *s = xalloc(sizeof *s);
    struct addrinfo *list = NULL;

    s->fd = -1;
    s->clock = clock;
    s->cancel = cancel;
    s->read_events = POLLIN;
    s->write_events = POLLOUT;
    if (cancelled(cancel, err) || !resolve(to->host, to->port, clock, cancel, until, &list, err))
        return NULL;
    s->fd = connect_any(list, clock, cancel, until, err);
    freeaddrinfo(list);
    if (s->fd < 0)
        return NULL;
    if (to->tls && !shake_hands(s, to, until, err))
        return NULL;
    s->read_events = POLLIN;
    s->write_events = POLLOUT;
    return TAKE(s);
}

void stream_free(struct stream *s)
{
    if (!s)
        return;
    tls_free(s->tls);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

static ssize_t tls_moved(enum tls_result r, const size_t *done, short *events)
{
    if (r == TLS_DONE)
        return (ssize_t)*done;
    if (r == TLS_FAILED)
        return -1;
    *events = r == TLS_WANT_WRITE ? POLLOUT : POLLIN;
    return 0;
}

ssize_t stream_read(struct stream *s, void *p, size_t n, struct err *err)
{
    return stream_read_two(s, p, n, NULL, 0, err);
}

ssize_t stream_read_two(struct stream *s, void *p, size_t n, void *then, size_t then_n,
                        struct err *err)
{
    size_t done = 0;

    if (s->tls) /* a record at a time */
        return tls_moved(tls_read(s->tls, p, n, &done, err), &done, &s->read_events);
    struct iovec places[] = {{.iov_base = p, .iov_len = n}, {.iov_base = then, .iov_len = then_n}};
    ssize_t got = then_n ? readv(s->fd, places, 2) : recv(s->fd, p, n, 0);
    if (got > 0)
        return got;
    if (got == 0)
        err_set(err, ERR_RETRY, "closed by the server");
    else if (errno == EAGAIN || errno == EINTR)
        return 0;
    else
        err_set(err, ERR_RETRY, "%s", strerror(errno));
    return -1;
}

ssize_t stream_write(struct stream *s, const void *p, size_t n, struct err *err)
{
    size_t done = 0;

    if (s->tls)
        return tls_moved(tls_write(s->tls, p, n, &done, err), &done, &s->write_events);
    ssize_t sent = send(s->fd, p, n, MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    err_set(err, ERR_RETRY, "%s", strerror(errno));
    return -1;
}

bool stream_wait(struct stream *s, unsigned wait_for, struct deadline until, struct err *err)
{
    for (;;) {
        short events = (short)((wait_for & STREAM_READ ? s->read_events : 0) |
                               (wait_for & STREAM_WRITE ? s->write_events : 0));
        struct pollfd fds[2] = {{.fd = s->fd, .events = events},
                                {.fd = s->cancel ? s->cancel->fd : -1, .events = POLLIN}};

        if (cancelled(s->cancel, err))
            return false;
        int left = deadline_left_ms(s->clock, until);
        int n = poll(fds, 2, left);
        if (n < 0 && errno != EINTR)
            return err_set(err, ERR_SYSTEM, "poll: %s", strerror(errno));
        if (cancelled(s->cancel, err))
            return false;
        if (n > 0 && fds[0].revents)
            return true;
        if (left == 0)
            return err_set(err, ERR_RETRY, "timed out");
    }
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}
