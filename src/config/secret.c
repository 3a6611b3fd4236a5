#include "config/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { SECRET_FILE_MAX_BYTES = 64 << 10 };

const char *secret_text(const struct secret *s)
{
    return s->hidden;
}

const char *secret_show(const struct secret *s)
{
    return s->hidden ? "***" : "";
}

void secret_fini(struct secret *s)
{
    if (s->hidden)
        explicit_bzero(s->hidden, strlen(s->hidden));
    free(s->hidden);
    s->hidden = NULL;
}

void secret_set(struct secret *s, struct slice text)
{
    secret_fini(s);
    if (text.n)
        s->hidden = xstrndup((const char *)text.p, text.n);
}

bool secret_read(struct secret *s, const char *file, struct err *err)
{
    uint8_t bytes[SECRET_FILE_MAX_BYTES + 1];
    size_t n = 0;
    ssize_t got = 1;
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, ERR_USER, "%s: %s", file, strerror(errno));
    while (n < sizeof bytes && (got = read(fd, bytes + n, sizeof bytes - n)) > 0)
        n += (size_t)got;
    int failed = got < 0 ? errno : 0;
    close(fd);
    if (!failed && n <= SECRET_FILE_MAX_BYTES) {
        size_t whole = n;

        if (n && bytes[n - 1] == '\n')
            n--;
        if (n < whole && n && bytes[n - 1] == '\r')
            n--;
    }
    bool text = !memchr(bytes, '\0', n) && !memchr(bytes, '\n', n);
    if (!failed && n <= SECRET_FILE_MAX_BYTES && text)
        secret_set(s, slice_of(bytes, n));
    explicit_bzero(bytes, sizeof bytes);
    if (failed)
        return err_set(err, ERR_USER, "%s: %s", file, strerror(failed));
    if (n > SECRET_FILE_MAX_BYTES || !text)
        return err_set(err, ERR_USER, "%s: not a secret: one line of text is expected", file);
    return true;
}
