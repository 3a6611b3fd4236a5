#include "sink/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink/gzip.h"

/* One for each thread that packs at the same time. */
struct packer {
    struct gzip gzip;
    struct packer *next;
};

struct sink_file {
    pthread_mutex_t lock;
    bool packed;
    struct packer *idle;
    char *path;
    int fd;
    bool regular; /* can be cut back and synced */
    uint64_t length;
};

static bool cut_back(struct sink_file *f, uint64_t length, bool replace, struct err *err)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return err_set(err, ERR_SYSTEM, "%s: %s", f->path, strerror(errno));
    f->regular = S_ISREG(st.st_mode);
    if (f->regular && length == 0 && st.st_size > 0 && !replace)
        return err_set(err, ERR_USER, "%s: there already; --fresh replaces it", f->path);
    if (!f->regular)
        return length == 0 ||
               err_set(err, ERR_USER, "%s: not a plain file any more; start over with --fresh",
                       f->path);
    if ((uint64_t)st.st_size < length)
        return err_set(err, ERR_USER,
                       "%s: %llu bytes, but the interrupted run had written %llu; put the file "
                       "back, or start over "
                       "with --fresh",
                       f->path, (unsigned long long)st.st_size, (unsigned long long)length);
    if (ftruncate(f->fd, (off_t)length) < 0 || lseek(f->fd, (off_t)length, SEEK_SET) < 0)
        return err_set(err, ERR_SYSTEM, "%s: %s", f->path, strerror(errno));
    f->length = length;
    return true;
}

struct sink_file *sink_file_open(const char *path, uint64_t length, bool replace, struct err *err)
{
    AUTO(sink_file) struct sink_file *f = xalloc(sizeof *f);

    pthread_mutex_init(&f->lock, NULL);
    f->fd = -1;
    if (strcmp(path, "-") == 0) {
        f->path = xstrdup("standard output");
        f->fd = dup(STDOUT_FILENO);
        if (f->fd < 0)
            return err_set(err, ERR_SYSTEM, "standard output: %s", strerror(errno)), NULL;
        return TAKE(f);
    }
    f->path = xstrdup(path);
    f->packed = sink_file_is_packed(path);
    f->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (f->fd < 0)
        return err_set(err, errno == ENOSPC || errno == EMFILE ? ERR_SYSTEM : ERR_USER, "%s: %s",
                       path, strerror(errno)),
               NULL;
    if (!cut_back(f, length, replace, err))
        return NULL;
    return TAKE(f);
}

void sink_file_free(struct sink_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    for (struct packer *p = f->idle, *next; p; p = next) {
        next = p->next;
        gzip_fini(&p->gzip);
        free(p);
    }
    pthread_mutex_destroy(&f->lock);
    free(f->path);
    free(f);
}

static bool write_all(struct sink_file *f, struct slice s, struct err *err)
{
    while (s.n) {
        ssize_t n = write(f->fd, s.p, s.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "%s: %s", f->path, strerror(errno));
        s.p += n;
        s.n -= (size_t)n;
    }
    return true;
}

static struct packer *take_packer(struct sink_file *f)
{
    pthread_mutex_lock(&f->lock);
    struct packer *p = f->idle;
    if (p)
        f->idle = p->next;
    pthread_mutex_unlock(&f->lock);
    if (!p) {
        p = xalloc(sizeof *p);
        gzip_init(&p->gzip, GZIP_ON, NULL);
    }
    return p;
}

static bool put(struct sink_file *f, struct slice bytes,
                bool (*commit)(void *ctx, uint64_t length, struct err *err), void *ctx,
                struct err *err)
{
    pthread_mutex_lock(&f->lock);
    bool ok = write_all(f, bytes, err);
    if (ok) {
        f->length += bytes.n;
        ok = commit(ctx, f->length, err);
    }
    pthread_mutex_unlock(&f->lock);
    return ok;
}

bool sink_file_put(struct sink_file *f, struct slice lines,
                   bool (*commit)(void *ctx, uint64_t length, struct err *err), void *ctx,
                   struct err *err)
{
    if (!f->packed || !lines.n)
        return put(f, lines, commit, ctx, err);
    struct packer *p = take_packer(f); /* packing takes longer than writing: not under the lock */
    struct slice member = gzip_member(&p->gzip, lines);
    bool ok = member.p ? put(f, member, commit, ctx, err)
                       : err_set(err, ERR_SYSTEM, "%s: no memory for packing", f->path);
    pthread_mutex_lock(&f->lock);
    p->next = f->idle;
    f->idle = p;
    pthread_mutex_unlock(&f->lock);
    return ok;
}

bool sink_file_is_packed(const char *path)
{
    size_t n = strlen(path);

    return n > 3 && strcmp(path + n - 3, ".gz") == 0;
}

bool sink_file_sync(struct sink_file *f, struct err *err)
{
    if (f->regular && fdatasync(f->fd) < 0)
        return err_set(err, ERR_SYSTEM, "%s: %s", f->path, strerror(errno));
    return true;
}
