#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool slice_is(struct slice a, const char *text)
{
    return slice_eq(a, slice_str(text));
}

bool slice_take(struct slice *in, size_t n, struct slice *out)
{
    if (in->n < n)
        return false;
    *out = slice_of(in->p, n);
    in->p += n;
    in->n -= n;
    return true;
}

bool take_u8(struct slice *in, uint8_t *out)
{
    struct slice s;

    if (!slice_take(in, 1, &s))
        return false;
    *out = s.p[0];
    return true;
}

bool take_u16(struct slice *in, uint16_t *out)
{
    struct slice s;

    if (!slice_take(in, 2, &s))
        return false;
    *out = load_u16(s.p);
    return true;
}

bool take_u32(struct slice *in, uint32_t *out)
{
    struct slice s;

    if (!slice_take(in, 4, &s))
        return false;
    *out = load_u32(s.p);
    return true;
}

bool take_i32(struct slice *in, int32_t *out)
{
    uint32_t v;

    if (!take_u32(in, &v))
        return false;
    *out = (int32_t)v;
    return true;
}

bool take_i64(struct slice *in, int64_t *out)
{
    struct slice s;

    if (!slice_take(in, 8, &s))
        return false;
    *out = (int64_t)load_u64(s.p);
    return true;
}

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes};
}

void buf_fini(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->full = false;
}

void buf_cut(struct buf *b, size_t len)
{
    if (len < b->len)
        b->len = len;
    b->full = false;
}

uint8_t *buf_grow(struct buf *b, size_t n)
{
    if (b->full || n > b->max || b->len > b->max - n) {
        b->full = true;
        return NULL;
    }
    if (b->cap - b->len < n) {
        size_t cap = b->cap ? b->cap : 256;

        while (cap - b->len < n)
            cap *= 2;
        if (cap > b->max)
            cap = b->max;
        b->p = xrealloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->len;
}

void buf_add_str(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_list again;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    uint8_t *to = n >= 0 ? buf_room(b, (size_t)n + 1) : NULL;
    if (to) {
        vsnprintf((char *)to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_add_u16(struct buf *b, uint16_t v)
{
    v = __builtin_bswap16(v);
    buf_add(b, &v, sizeof v);
}

void buf_add_u32(struct buf *b, uint32_t v)
{
    v = __builtin_bswap32(v);
    buf_add(b, &v, sizeof v);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    v = __builtin_bswap64(v);
    buf_add(b, &v, sizeof v);
}

const char *buf_cstr(struct buf *b)
{
    uint8_t *to = buf_room(b, 1);

    if (!to)
        return "";
    *to = '\0';
    return (const char *)b->p;
}
