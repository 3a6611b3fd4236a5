/*
 * base/buf.h - bytes we look at (slice) and bytes we write (buf).
 *
 * slice_take() and its typed forms are the only place where lengths of outside bytes are checked.
 * A buf is born with its maximum; what would go beyond it is dropped and remembered in `full`, so a
 * writer checks once, at the end of a unit, and rolls back with buf_cut(). Threads: one owner.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *p; /* NULL: null, which is not the same as empty */
    size_t n;
};

#define SLICE_NULL ((struct slice){NULL, 0})

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){(const uint8_t *)p, n};
}

/* Of a C string, without its end. */
static inline struct slice slice_str(const char *text)
{
    return slice_of(text, strlen(text));
}

bool slice_eq(struct slice a, struct slice b);
bool slice_is(struct slice a, const char *text);

/* Takes n bytes off the front of `in`; false, and `in` untouched, when there are fewer. */
bool slice_take(struct slice *in, size_t n, struct slice *out);
/* Big-endian numbers off the front; the same rule. */
bool take_u8(struct slice *in, uint8_t *out);
bool take_u16(struct slice *in, uint16_t *out);
bool take_u32(struct slice *in, uint32_t *out);
bool take_i32(struct slice *in, int32_t *out);
bool take_i64(struct slice *in, int64_t *out);

static inline uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t load_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

struct buf {
    uint8_t *p;
    size_t len;
    size_t cap;
    size_t max;
    bool full; /* something did not fit; cleared by buf_cut and buf_reset */
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_fini(struct buf *b);
/* Empty again, memory kept. */
void buf_reset(struct buf *b);
/* Back to an earlier length, `full` cleared. */
void buf_cut(struct buf *b, size_t len);
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->p, b->len);
}

/* Room for n more bytes at b->p + b->len, or NULL (and `full` set). The caller moves b->len. */
uint8_t *buf_grow(struct buf *b, size_t n);
static inline uint8_t *buf_room(struct buf *b, size_t n)
{
    /* As a number: NULL + 0 is not C, and an empty buf asked for nothing is NULL. */
    if (__builtin_expect(b->cap - b->len >= n && !b->full, 1))
        return (uint8_t *)((uintptr_t)b->p + b->len);
    return buf_grow(b, n);
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    uint8_t *to = buf_room(b, n);

    if (to && n) {
        memcpy(to, p, n);
        b->len += n;
    }
}

static inline void buf_add_byte(struct buf *b, uint8_t c)
{
    uint8_t *to = buf_room(b, 1);

    if (to) {
        *to = c;
        b->len++;
    }
}

static inline void buf_add_slice(struct buf *b, struct slice s)
{
    buf_add(b, s.p, s.n);
}

void buf_add_str(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Big-endian. */
void buf_add_u16(struct buf *b, uint16_t v);
void buf_add_u32(struct buf *b, uint32_t v);
void buf_add_u64(struct buf *b, uint64_t v);
/* Ends the bytes with a NUL that does not count, and yields them as a C string ("" when nothing
 * fits). */
const char *buf_cstr(struct buf *b);
