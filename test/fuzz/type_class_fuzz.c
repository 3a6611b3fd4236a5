/* Java class text of types, alone and as an [option]: the same type, with a text that is read
 * again. */
#include "cql/type.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_udt(const struct type *t)
{
    if (t->kind == TYPE_UDT)
        return true;
    for (uint16_t i = 0; i < t->arg_count; i++) {
        if (has_udt(t->args[i]))
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
    struct slice in = slice_of(data, size);

    if (size > 10000)
        return 0;
    arena_init(&mem, 16 << 20);
    buf_init(&text, 1 << 20);
    bool ok = type_parse_class(in, &mem, &t, &err);
    if (ok && !has_udt(t)) {
        type_add_text(&text, t);
        ensure(type_parse_cql(buf_slice(&text), NULL, &mem, &again, &err));
        ensure(type_equal(t, again));
    }
    buf_reset(&text);
    buf_add_u16(&text, TYPE_CUSTOM);
    buf_add_u16(&text, (uint16_t)size);
    buf_add_slice(&text, in);
    struct slice option = buf_slice(&text);
    ensure(type_take_option(&option, &mem, &again, &err) == ok);
    if (ok)
        ensure(option.n == 0 && type_equal(t, again));
    option = in; /* and the bytes as an [option] of any kind */
    if (type_take_option(&option, &mem, &t, &err))
        ensure(option.n < size);
    buf_fini(&text);
    arena_fini(&mem);
    return 0;
}
