#include "sink/joblog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { TAIL_BYTES = 256 << 10, ENTRY_MAX_BYTES = 128 << 20 };

struct log_file {
    char *path;
    int fd;
    off_t bytes;
};

struct joblog {
    pthread_mutex_t lock;
    struct log_file success;
    struct log_file failure;
    struct buf entry;
    uint64_t calls;
};

static const char border[] = "Request No :";

/* The highest N among entries that begin in the last n bytes; 0: none does. A body can't fake one:
 * see add_response(). */
static uint64_t last_number_in(const struct log_file *f, size_t n)
{
    char *tail = xalloc(n + 1);
    ssize_t got = pread(f->fd, tail, n, f->bytes - (off_t)n);
    char *end = tail + (got > 0 ? got : 0);
    uint64_t last = 0;

    for (char *at = tail; (at = memmem(at, (size_t)(end - at), border, sizeof border - 1)); at++) {
        if (at == tail ? (off_t)n < f->bytes : at[-1] != '\n')
            continue;
        uint64_t no = strtoull(at + sizeof border - 1, NULL, 10);
        last = no > last ? no : last;
    }
    free(tail);
    return last;
}

static uint64_t last_number(const struct log_file *f)
{
    for (size_t n = TAIL_BYTES;; n *= 4) {
        bool all = f->bytes <= (off_t)n;
        uint64_t last = last_number_in(f, all ? (size_t)f->bytes : n);

        if (last || all || n > ENTRY_MAX_BYTES)
            return last;
    }
}

static bool open_log(struct log_file *f, const char *dir, const char *name, int64_t ms,
                     struct err *err)
{
    char end = '\n';

    f->path = xsprintf("%s/%s_%" PRId64 ".log", dir, name, ms);
    f->fd = open(f->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (f->fd < 0) {
        bool ours = errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EROFS ||
                    errno == EISDIR || errno == EPERM;
        return err_set(err, ours ? ERR_USER : ERR_SYSTEM, "log file %s: %m", f->path);
    }
    f->bytes = lseek(f->fd, 0, SEEK_END);
    if (f->bytes < 0)
        return err_set(err, ERR_SYSTEM, "log file %s: %m", f->path);
    /* A process that was killed may have left an entry half written. */
    if (f->bytes > 0 && pread(f->fd, &end, 1, f->bytes - 1) == 1 && end != '\n') {
        if (write(f->fd, "\n\n", 2) != 2)
            return err_set(err, ERR_SYSTEM, "log file %s: %m", f->path);
        f->bytes += 2;
    }
    return true;
}

struct joblog *joblog_open(const char *dir, int64_t started_ms, uint64_t calls, struct err *err)
{
    struct joblog *l = xalloc(sizeof *l);

    pthread_mutex_init(&l->lock, NULL);
    l->success.fd = l->failure.fd = -1;
    buf_init(&l->entry, ENTRY_MAX_BYTES);
    if (!open_log(&l->success, dir, "SyncSuccess", started_ms, err) ||
        !open_log(&l->failure, dir, "SyncFailure", started_ms, err)) {
        joblog_close(l);
        return NULL;
    }
    uint64_t a = last_number(&l->success);
    uint64_t b = last_number(&l->failure);
    l->calls = a > b ? a : b;
    if (calls > l->calls)
        l->calls = calls;
    return l;
}

static void close_log(struct log_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
}

void joblog_close(struct joblog *l)
{
    if (!l)
        return;
    close_log(&l->success);
    close_log(&l->failure);
    buf_fini(&l->entry);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* Line ends stay as received, but no line of a response may look like the next entry. */
static void add_response(struct buf *b, struct slice response)
{
    size_t all = response.n;
    size_t n = all < JOBLOG_RESPONSE_MAX_BYTES ? all : JOBLOG_RESPONSE_MAX_BYTES;
    const uint8_t *p = response.p;
    const uint8_t *end = p + n;

    while (p < end) {
        const uint8_t *line_end = memchr(p, '\n', (size_t)(end - p));
        size_t line = line_end ? (size_t)(line_end + 1 - p) : (size_t)(end - p);

        if (p != response.p && line >= sizeof border - 1 &&
            memcmp(p, border, sizeof border - 1) == 0)
            buf_add_byte(b, ' ');
        buf_add(b, p, line);
        p += line;
    }
    if (n < all)
        buf_printf(b, " ... (%zu bytes more)", all - n);
}

/* All of it, or nothing. */
static bool write_entry(struct log_file *f, struct slice entry, struct err *err)
{
    size_t done = 0;

    while (done < entry.n) {
        ssize_t n = write(f->fd, entry.p + done, entry.n - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_set(err, ERR_SYSTEM, "log file %s: %m", f->path);
            if (done && ftruncate(f->fd, f->bytes) != 0)
                f->bytes += (off_t)done;
            return false;
        }
        done += (size_t)n;
    }
    f->bytes += (off_t)entry.n;
    return true;
}

bool joblog_add(struct joblog *l, bool success, struct slice request, struct slice response,
                const char *why, uint64_t *no, struct err *err)
{
    struct log_file *f = success ? &l->success : &l->failure;

    pthread_mutex_lock(&l->lock);
    buf_reset(&l->entry);
    buf_printf(&l->entry, "%s %" PRIu64 "\nRequest : ", border, l->calls + 1);
    buf_add_slice(&l->entry, request);
    buf_add_str(&l->entry, "\nResponse : ");
    if (response.p)
        add_response(&l->entry, response);
    else
        buf_add_str(&l->entry, why ? why : "");
    buf_add_str(&l->entry, "\n\n");
    bool ok = l->entry.full ? err_set(err, ERR_SYSTEM, "log file %s: entry too long", f->path)
                            : write_entry(f, buf_slice(&l->entry), err);
    if (ok) {
        l->calls++;
        if (no)
            *no = l->calls;
    }
    pthread_mutex_unlock(&l->lock);
    return ok;
}

const char *joblog_success_path(const struct joblog *l)
{
    return l->success.path;
}

const char *joblog_failure_path(const struct joblog *l)
{
    return l->failure.path;
}
