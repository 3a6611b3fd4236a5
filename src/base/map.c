#include "base/map.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

void map_init(struct map *m)
{
    struct arena *keys = xalloc(sizeof *keys);

    arena_init(keys, SIZE_MAX / 2);
    *m = (struct map){.keys = keys};
}

void map_fini(struct map *m)
{
    if (m->keys)
        arena_fini(m->keys);
    free(m->keys);
    free(m->entries);
    free(m->slots);
    *m = (struct map){0};
}

void map_reset(struct map *m)
{
    arena_reset(m->keys);
    m->len = 0;
    if (m->slots)
        memset(m->slots, 0, m->slot_count * sizeof *m->slots);
}

static uint32_t *slot_of(const struct map *m, struct slice key)
{
    size_t i = hash_64(key) & (m->slot_count - 1);

    while (m->slots[i] && !slice_eq(m->entries[m->slots[i] - 1].key, key))
        i = (i + 1) & (m->slot_count - 1);
    return &m->slots[i];
}

static void map_grow(struct map *m)
{
    m->cap = m->cap ? m->cap * 2 : 16;
    m->entries = xrealloc(m->entries, m->cap * sizeof *m->entries);
    free(m->slots);
    m->slot_count = m->cap * 2;
    m->slots = xalloc(m->slot_count * sizeof *m->slots);
    for (size_t i = 0; i < m->len; i++)
        *slot_of(m, m->entries[i].key) = (uint32_t)i + 1;
}

struct map_entry *map_put(struct map *m, struct slice key, bool *added)
{
    if (m->len == m->cap)
        map_grow(m);
    uint32_t *slot = slot_of(m, key);
    if (added)
        *added = *slot == 0;
    if (*slot == 0) {
        char *copy = arena_strndup(m->keys, key.p, key.n);

        ensure(copy);
        m->entries[m->len] = (struct map_entry){slice_of(copy, key.n), NULL};
        *slot = (uint32_t)++m->len;
    }
    return &m->entries[*slot - 1];
}

struct map_entry *map_get(const struct map *m, struct slice key)
{
    if (!m->len)
        return NULL;
    uint32_t *slot = slot_of(m, key);
    return *slot ? &m->entries[*slot - 1] : NULL;
}
