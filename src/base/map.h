/*
 * base/map.h - a hash map from byte strings to pointers, in the order of insertion.
 *
 * Keys are copied. Removal is not needed and not there; map_reset() empties. Threads: one owner.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct map_entry {
    struct slice key; /* valid until the map is reset; a NUL follows it */
    void *value;
};

struct map {
    struct map_entry *entries; /* insertion order */
    uint32_t *slots;           /* 1 + index of an entry; 0 empty */
    size_t len;
    size_t cap;
    size_t slot_count;
    void *keys; /* arena of key bytes */
};

void map_init(struct map *m);
void map_fini(struct map *m);
void map_reset(struct map *m);
/* The entry of a key, added with a NULL value when it is new (`*added` says so; may be NULL). Valid
 * until the next put. */
struct map_entry *map_put(struct map *m, struct slice key, bool *added);
/* NULL when there is none. */
struct map_entry *map_get(const struct map *m, struct slice key);
