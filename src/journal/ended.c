#include "journal/ended.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

void ended_init(struct ended *e, char *path)
{
    *e = (struct ended){.path = path, .fd = -1};
    pthread_mutex_init(&e->lock, NULL);
}

void ended_fini(struct ended *e)
{
    if (!e->path)
        return;
    if (e->fd >= 0)
        close(e->fd);
    pthread_mutex_destroy(&e->lock);
    free(e->ring);
    free(e->path);
    *e = (struct ended){.fd = -1};
}

/* Always false. */
static bool failed(const struct ended *e, struct err *err)
{
    return err_set(err, ERR_SYSTEM, "journal file %s: %s", e->path, strerror(errno));
}

static bool make(struct ended *e, struct err *err)
{
    e->fd = open(e->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (e->fd < 0)
        return failed(e, err);
    e->ring = xalloc(ENDED_MAX * sizeof *e->ring);
    return true;
}

static bool write_entry(struct ended *e, uint64_t slot, const struct ended_entry *entry,
                        struct err *err)
{
    ssize_t n;

    do
        n = pwrite(e->fd, entry, sizeof *entry, (off_t)(slot * sizeof *entry));
    while (n < 0 && errno == EINTR);
    if (n >= 0 && (size_t)n < sizeof *entry)
        errno = ENOSPC;
    return n == sizeof *entry || failed(e, err);
}

enum ended_status ended_add(struct ended *e, const struct ended_entry *entry, uint64_t *waiting,
                            struct err *err)
{
    enum ended_status status = ENDED_ERROR;

    pthread_mutex_lock(&e->lock);
    uint64_t slot = e->to % ENDED_MAX;
    if (e->to - e->from == ENDED_MAX) {
        status = ENDED_FULL;
    } else if ((e->fd >= 0 || make(e, err)) && write_entry(e, slot, entry, err)) {
        e->ring[slot] = *entry;
        e->to++;
        status = ENDED_OK;
    }
    *waiting = e->to - e->from;
    pthread_mutex_unlock(&e->lock);
    return status;
}

void ended_waiting(struct ended *e, uint64_t *from, uint64_t *to)
{
    pthread_mutex_lock(&e->lock);
    *from = e->from;
    *to = e->to;
    pthread_mutex_unlock(&e->lock);
}

bool ended_get(struct ended *e, uint64_t number, struct ended_entry *out)
{
    pthread_mutex_lock(&e->lock);
    bool there = number >= e->from && number < e->to;
    if (there)
        *out = e->ring[number % ENDED_MAX];
    pthread_mutex_unlock(&e->lock);
    return there;
}

void ended_release(struct ended *e, uint64_t to)
{
    pthread_mutex_lock(&e->lock);
    if (to > e->from)
        e->from = to;
    pthread_mutex_unlock(&e->lock);
}

bool ended_read(const struct ended *e, struct ended_entry **out, size_t *count, struct err *err)
{
    int fd = open(e->path, O_RDONLY | O_CLOEXEC);

    *out = NULL;
    *count = 0;
    if (fd < 0)
        return errno == ENOENT || failed(e, err);
    struct ended_entry *list = xalloc(ENDED_MAX * sizeof *list);
    ssize_t n = pread(fd, list, ENDED_MAX * sizeof *list, 0);
    if (n < 0)
        failed(e, err);
    close(fd);
    if (n < 0) {
        free(list);
        return false;
    }
    *out = list;
    *count = (size_t)n / sizeof *list; /* one that was half written is none */
    return true;
}

void ended_remove(struct ended *e)
{
    unlink(e->path);
}
