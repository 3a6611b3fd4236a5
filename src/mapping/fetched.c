#include "mapping/fetched.h"

#include <string.h>

#include "base/err.h"

enum { KEY_BYTES = 1 << 20 };

void fetched_init(struct fetched *f, size_t max_bytes)
{
    map_init(&f->map);
    arena_init(&f->mem, max_bytes);
    buf_init(&f->key, KEY_BYTES);
    f->oldest_us = INT64_MAX;
}

void fetched_fini(struct fetched *f)
{
    map_fini(&f->map);
    arena_fini(&f->mem);
    buf_fini(&f->key);
}

void fetched_reset(struct fetched *f)
{
    map_reset(&f->map);
    arena_reset(&f->mem);
    f->oldest_us = INT64_MAX;
}

static struct slice name_of(struct fetched *f, uint16_t read, const struct slice *key,
                            uint16_t count)
{
    buf_reset(&f->key);
    buf_add_u16(&f->key, read);
    for (uint16_t i = 0; i < count; i++) {
        buf_add_u32(&f->key, (uint32_t)key[i].n);
        buf_add_slice(&f->key, key[i]);
    }
    return f->key.full ? SLICE_NULL : buf_slice(&f->key);
}

static struct slice *keep(struct arena *mem, const struct slice *cells, uint16_t count)
{
    struct slice *kept = arena_alloc(mem, count * sizeof *kept);

    for (uint16_t i = 0; kept && i < count; i++) {
        kept[i] = cells[i];
        if (!cells[i].p)
            continue;
        kept[i].p = (const uint8_t *)arena_strndup(mem, cells[i].p, cells[i].n);
        if (!kept[i].p)
            return NULL;
    }
    return kept;
}

bool fetched_want(struct fetched *f, uint16_t read, const struct slice *key, uint16_t count)
{
    struct slice name = name_of(f, read, key, count);

    if (!name.p)
        return false;
    if (map_get(&f->map, name))
        return true;
    struct fetched_rows *rows = arena_zalloc(&f->mem, sizeof *rows);
    const struct slice *kept = rows ? keep(&f->mem, key, count) : NULL;
    if (!kept)
        return false;
    *rows = (struct fetched_rows){.read = read, .key = kept, .key_count = count};
    map_put(&f->map, name, NULL)->value = rows;
    return true;
}

struct fetched_rows *fetched_get(struct fetched *f, uint16_t read, const struct slice *key,
                                 uint16_t count)
{
    struct slice name = name_of(f, read, key, count);
    struct map_entry *e = name.p ? map_get(&f->map, name) : NULL;

    return e ? e->value : NULL;
}

size_t fetched_count(const struct fetched *f)
{
    return f->map.len;
}

struct fetched_rows *fetched_at(const struct fetched *f, size_t i)
{
    return f->map.entries[i].value;
}

bool fetched_add(struct fetched *f, struct fetched_rows *to, const struct slice *cells,
                 uint16_t count)
{
    struct fetched_row *row = arena_zalloc(&f->mem, sizeof *row);

    ensure(!to->filled);
    if (!row || !(row->cells = keep(&f->mem, cells, count)))
        return false;
    if (to->last)
        to->last->next = row;
    else
        to->first = row;
    to->last = row;
    to->count++;
    return true;
}

void fetched_fill(struct fetched *f, struct fetched_rows *to, int64_t read_at_us,
                  const char *failed)
{
    to->filled = true;
    if (failed) {
        const char *why = arena_strndup(&f->mem, failed, strlen(failed));
        to->failed = why ? why : "it can't be read";
        return;
    }
    if (read_at_us < f->oldest_us)
        f->oldest_us = read_at_us;
}

void fetched_again(struct fetched_rows *to)
{
    to->first = to->last = NULL;
    to->count = 0;
}
