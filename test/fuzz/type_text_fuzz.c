/* CQL text of types: what is read is written, and read again as the same. */
#include "cql/type.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A schema in which every name is that of a user type. */
static const struct type *find_any(void *ctx, struct slice name)
{
    struct arena *mem = ctx;
    struct type *t = arena_zalloc(mem, sizeof *t);
    char *copy = arena_strndup(mem, name.p, name.n);

    if (!t || !copy)
        return NULL;
    t->kind = TYPE_UDT;
    t->name = slice_of(copy, name.n);
    return t;
}

/* "int" in quotes is a user type whose text, unquoted, would be another type; a class text has
 * user types with fields, which CQL text does not show. */
static bool ambiguous(const struct type *t)
{
    if (t->kind == TYPE_UDT)
        return t->arg_count || t->name.n < 12;
    for (uint16_t i = 0; i < t->arg_count; i++) {
        if (ambiguous(t->args[i]))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena mem;
    struct err err = {0};
    const struct type *t;
    const struct type *again;
    struct buf text;

    arena_init(&mem, 16 << 20);
    buf_init(&text, 1 << 20);
    const struct type_lookup lookup = {find_any, &mem};
    if (type_parse_cql(slice_of(data, size), &lookup, &mem, &t, &err)) {
        type_add_text(&text, t);
        ensure(!text.full);
        if (!ambiguous(t)) {
            ensure(type_parse_cql(buf_slice(&text), &lookup, &mem, &again, &err));
            ensure(type_equal(t, again));
        }
        type_fixed_bytes(t);
    } else {
        ensure(err.kind == ERR_REJECT || err.kind == ERR_SYSTEM);
    }
    buf_fini(&text);
    arena_fini(&mem);
    return 0;
}
