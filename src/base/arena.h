/*
 * base/arena.h - memory that is given back all at once.
 *
 * Allocation is a pointer moved; a reset frees everything and keeps the blocks. An arena has a
 * ceiling: reaching it yields NULL, which callers turn into an err. Threads: one owner.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct arena_block;

struct arena {
    struct arena_block *first;
    struct arena_block *now;
    size_t used;  /* in `now` */
    size_t taken; /* bytes of all blocks */
    size_t max;   /* ceiling of `taken` */
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_fini(struct arena *a);
/* All allocations end; blocks are kept for the next round. */
void arena_reset(struct arena *a);
/* 16-byte aligned, not zeroed; NULL at the ceiling. */
void *arena_alloc(struct arena *a, size_t bytes);
void *arena_zalloc(struct arena *a, size_t bytes);
/* A copy with a NUL behind it; NULL at the ceiling. */
char *arena_strndup(struct arena *a, const void *p, size_t n);
