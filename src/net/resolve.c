#include "net/resolve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

/* Shared by the caller and the thread; whoever lets go last frees it. */
struct lookup {
    atomic_int owners;
    int done_fd;
    int rc;
    struct addrinfo *found;
    char port[8];
    char host[];
};

static const struct addrinfo wanted = {
    .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};

static void lookup_let_go(struct lookup *l)
{
    if (atomic_fetch_sub(&l->owners, 1) != 1)
        return;
    if (l->found)
        freeaddrinfo(l->found);
    close(l->done_fd);
    free(l);
}

static void *lookup_main(void *arg)
{
    struct lookup *l = arg;
    uint64_t one = 1;

    l->rc = getaddrinfo(l->host, l->port, &wanted, &l->found);
    ssize_t n = write(l->done_fd, &one, sizeof one);
    (void)n;
    lookup_let_go(l);
    return NULL;
}

static struct lookup *lookup_start(const char *host, uint16_t port, struct err *err)
{
    size_t host_bytes = strlen(host) + 1;
    struct lookup *l = xalloc(sizeof *l + host_bytes);
    pthread_attr_t attr;
    pthread_t thread;

    memcpy(l->host, host, host_bytes);
    snprintf(l->port, sizeof l->port, "%u", port);
    atomic_init(&l->owners, 2);
    l->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->done_fd < 0) {
        err_set(err, ERR_SYSTEM, "eventfd: %s", strerror(errno));
        free(l);
        return NULL;
    }
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, lookup_main, l);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        return l;
    err_set(err, ERR_SYSTEM, "thread: %s", strerror(rc));
    atomic_init(&l->owners, 1);
    lookup_let_go(l);
    return NULL;
}

static bool lookup_wait(struct lookup *l, const char *host, struct clock *clock,
                        struct cancel *cancel, struct deadline until, struct err *err)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = l->done_fd, .events = POLLIN},
                                {.fd = cancel ? cancel->fd : -1, .events = POLLIN}};
        int left = deadline_left_ms(clock, until);

        if (poll(fds, 2, left) < 0 && errno != EINTR)
            return err_set(err, ERR_SYSTEM, "poll: %s", strerror(errno));
        if (cancel_level(cancel) >= 2)
            return err_set(err, ERR_CANCEL, "cancelled");
        uint64_t n;
        if (read(l->done_fd, &n, sizeof n) == (ssize_t)sizeof n)
            break;
        if (left == 0)
            return err_set(err, ERR_RETRY, "the name %s was not resolved in time", host);
    }
    if (l->rc == EAI_AGAIN || l->rc == EAI_SYSTEM || l->rc == EAI_MEMORY)
        return err_set(err, ERR_RETRY, "the name %s: %s", host, gai_strerror(l->rc));
    if (l->rc != 0)
        return err_set(err, ERR_REACH, "the name %s: %s", host, gai_strerror(l->rc));
    return true;
}

bool resolve(const char *host, uint16_t port, struct clock *clock, struct cancel *cancel,
             struct deadline until, struct addrinfo **out, struct err *err)
{
    struct addrinfo numbers = wanted;
    char port_text[8];

    numbers.ai_flags = AI_NUMERICHOST;
    snprintf(port_text, sizeof port_text, "%u", port);
    if (getaddrinfo(host, port_text, &numbers, out) == 0)
        return true;

    struct lookup *l = lookup_start(host, port, err);
    if (!l)
        return false;
    bool ok = lookup_wait(l, host, clock, cancel, until, err);
    if (ok)
        *out = TAKE(l->found);
    lookup_let_go(l);
    return ok;
}
