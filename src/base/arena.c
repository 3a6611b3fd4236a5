#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ARENA_BLOCK_BYTES = 64 << 10, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t cap;
    _Alignas(ARENA_ALIGN) uint8_t bytes[];
};

void arena_init(struct arena *a, size_t max_bytes)
{
    *a = (struct arena){.max = max_bytes};
}

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->first; b;) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    *a = (struct arena){.max = a->max};
}

void arena_reset(struct arena *a)
{
    a->now = a->first;
    a->used = 0;
}

static void *block_take(struct arena *a, size_t bytes)
{
    if (!a->now || a->now->cap - a->used < bytes)
        return NULL;
    void *p = a->now->bytes + a->used;
    a->used += bytes;
    return p;
}

/* Goes on in the first kept block that is large enough; the others stay kept behind it. */
static bool next_block(struct arena *a, size_t bytes)
{
    for (struct arena_block **at = a->now ? &a->now->next : NULL; at && *at; at = &(*at)->next) {
        struct arena_block *b = *at;
        if (b->cap < bytes)
            continue;
        *at = b->next;
        b->next = a->now->next;
        a->now->next = b;
        a->now = b;
        a->used = 0;
        return true;
    }
    return false;
}

/* At the ceiling, blocks of earlier rounds that are too small make room for one that is not. */
static void drop_kept(struct arena *a)
{
    while (a->now && a->now->next) {
        struct arena_block *b = a->now->next;
        a->now->next = b->next;
        a->taken -= b->cap;
        free(b);
    }
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    if (bytes > a->max)
        return NULL;
    bytes = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    void *p = block_take(a, bytes);
    if (!p && next_block(a, bytes))
        p = block_take(a, bytes);
    if (p)
        return p;

    size_t cap = bytes > ARENA_BLOCK_BYTES ? bytes : ARENA_BLOCK_BYTES;
    if (cap > a->max - a->taken)
        drop_kept(a);
    if (cap > a->max - a->taken)
        cap = bytes;
    if (cap > a->max - a->taken)
        return NULL;
    struct arena_block *b = xrealloc(NULL, sizeof *b + cap);
    b->cap = cap;
    b->next = NULL;
    if (a->now)
        a->now->next = b;
    else
        a->first = b;
    a->now = b;
    a->used = 0;
    a->taken += cap;
    return block_take(a, bytes);
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
    void *p = arena_alloc(a, bytes);

    if (p)
        memset(p, 0, bytes);
    return p;
}

char *arena_strndup(struct arena *a, const void *p, size_t n)
{
    char *copy = arena_alloc(a, n + 1);

    if (copy) {
        if (n)
            memcpy(copy, p, n);
        copy[n] = '\0';
    }
    return copy;
}
