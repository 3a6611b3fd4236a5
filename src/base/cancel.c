#include "base/cancel.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool cancel_init(struct cancel *c, struct err *err)
{
    atomic_init(&c->fired, 0);
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->fd < 0)
        return err_set(err, ERR_SYSTEM, "eventfd: %s", strerror(errno));
    return true;
}

void cancel_fini(struct cancel *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void cancel_fire(struct cancel *c, int level)
{
    int was = atomic_load(&c->fired);

    while (was < level && !atomic_compare_exchange_weak(&c->fired, &was, level))
        ;
    if (level >= 2) {
        uint64_t one = 1;
        ssize_t n = write(c->fd, &one, sizeof one);
        (void)n; /* full means it is readable already */
    }
}

void cancel_take_back(struct cancel *c)
{
    int level = 1;

    atomic_compare_exchange_strong(&c->fired, &level, 0);
}
