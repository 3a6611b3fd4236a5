#include "serve/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"

enum { FILE_MAX_BYTES = 1 << 20 };

struct digest {
    uint8_t bytes[SHA256_BYTES];
};

struct keys {
    char *path;
    struct stat seen; /* of the file that was read last, also when it was not well */
    pthread_mutex_t lock;
    struct digest *list;
    size_t count;
};

/* Is it another file, or was it written to. */
static bool differs(const struct stat *a, const struct stat *b)
{
    return a->st_ino != b->st_ino || a->st_dev != b->st_dev || a->st_size != b->st_size ||
           a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static bool read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;

    for (uint8_t *to; fd >= 0 && (to = buf_room(out, 4096)); out->len += (size_t)n) {
        n = read(fd, to, 4096);
        if (n <= 0)
            break;
    }
    bool ok = fd >= 0 && n == 0;
    if (!ok && out->full)
        err_set(err, ERR_USER, "keys file %s: larger than 1 MiB", path);
    else if (!ok)
        err_set(err, ERR_USER, "keys file %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool is_key(struct slice line)
{
    return line.n > 0 && line.p[0] != '#';
}

static struct digest *digest_lines(struct slice text, size_t *count)
{
    struct digest *list = NULL;

    *count = 0;
    while (text.n > 0) {
        const uint8_t *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        struct slice line = text_trim(slice_of(text.p, n));
        if (is_key(line)) {
            list = xrealloc(list, (*count + 1) * sizeof *list);
            hash_sha256(line, list[(*count)++].bytes);
        }
        n += end != NULL;
        text = slice_of(text.p + n, text.n - n);
    }
    return list;
}

static bool load(struct keys *k, bool *changed, struct err *err)
{
    struct buf text;
    size_t count = 0;

    buf_init(&text, FILE_MAX_BYTES);
    bool ok = read_file(k->path, &text, err);
    struct digest *list = ok ? digest_lines(buf_slice(&text), &count) : NULL;
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_fini(&text);
    if (ok && !list)
        return err_set(err, ERR_USER, "keys file %s: there is no key in it", k->path);
    if (!ok)
        return false;
    pthread_mutex_lock(&k->lock);
    struct digest *old = k->list;
    *changed = count != k->count || memcmp(list, old, count * sizeof *list) != 0;
    k->list = list;
    k->count = count;
    pthread_mutex_unlock(&k->lock);
    free(old);
    return true;
}

struct keys *keys_open(const char *path, struct err *err)
{
    struct keys *k = xalloc(sizeof *k);
    bool changed;

    k->path = xstrdup(path);
    pthread_mutex_init(&k->lock, NULL);
    if (keys_refresh(k, true, &changed, err))
        return k;
    keys_free(k);
    return NULL;
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    pthread_mutex_destroy(&k->lock);
    free(k->list);
    free(k->path);
    free(k);
}

bool keys_refresh(struct keys *k, bool force, bool *changed, struct err *err)
{
    struct stat now = {0};

    *changed = false;
    if (stat(k->path, &now) < 0)
        now = (struct stat){0}; /* gone: reading it says so, once */
    if (!force && !differs(&now, &k->seen))
        return true;
    k->seen = now;
    return load(k, changed, err);
}

static bool same(const struct digest *a, const struct digest *b)
{
    volatile uint8_t other = 0;

    for (size_t i = 0; i < SHA256_BYTES; i++)
        other |= a->bytes[i] ^ b->bytes[i];
    return other == 0;
}

bool keys_allow(struct keys *k, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    struct digest given;
    bool allowed = false;

    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    hash_sha256(text_trim(slice_str(authorization + sizeof scheme - 1)), given.bytes);
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->count; i++)
        allowed |= same(&given, &k->list[i]);
    pthread_mutex_unlock(&k->lock);
    return allowed;
}
