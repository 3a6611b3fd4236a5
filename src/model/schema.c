#include "model/schema.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/text.h"

enum { SCHEMA_MAX_BYTES = 16 << 20 };

struct schema *schema_new(void)
{
    struct schema *s = xalloc(sizeof *s);

    arena_init(&s->mem, SCHEMA_MAX_BYTES);
    return s;
}

void schema_free(struct schema *s)
{
    if (!s)
        return;
    arena_fini(&s->mem);
    free(s);
}

struct schema *schema_partitions(const struct schema *s)
{
    struct schema *p = schema_new();

    p->keyspace = s->keyspace;
    p->table = s->table;
    p->partition_key_count = s->partition_key_count;
    p->partitions = true;
    p->columns = arena_alloc(&p->mem, s->column_count * sizeof *p->columns);
    ensure(p->columns);
    for (uint16_t i = 0; i < s->column_count; i++)
        if (i < s->partition_key_count || s->columns[i].kind == COLUMN_STATIC)
            p->columns[p->column_count++] = s->columns[i];
    return p;
}

int schema_find(const struct schema *s, struct slice name)
{
    for (int i = 0; i < s->column_count; i++) {
        if (slice_is(name, s->columns[i].name))
            return i;
    }
    for (int i = 0; i < s->column_count; i++) {
        if (text_same_nocase(name, slice_str(s->columns[i].name)))
            return i;
    }
    return -1;
}

void schema_add_quoted(struct buf *b, const char *name)
{
    buf_add_byte(b, '"');
    for (; *name; name++) {
        if (*name == '"')
            buf_add_byte(b, '"');
        buf_add_byte(b, (uint8_t)*name);
    }
    buf_add_byte(b, '"');
}

void schema_add_name(struct buf *b, const struct schema *s)
{
    schema_add_quoted(b, s->keyspace);
    buf_add_byte(b, '.');
    schema_add_quoted(b, s->table);
}
