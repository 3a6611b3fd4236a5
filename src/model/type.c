#include "model/type.h"

#include <stddef.h>

/* Rows of all kinds that have no arguments; the rest is written by type_add_text(). */
static const struct {
    struct type type;
    const char *name;
    uint8_t fixed_bytes; /* what the class says of itself: tinyint, date, ... say "variable" */
} simple_types[] = {
    {{.kind = TYPE_ASCII}, "ascii", 0},     {{.kind = TYPE_BIGINT}, "bigint", 8},
    {{.kind = TYPE_BLOB}, "blob", 0},       {{.kind = TYPE_BOOLEAN}, "boolean", 1},
    {{.kind = TYPE_COUNTER}, "counter", 0}, {{.kind = TYPE_DECIMAL}, "decimal", 0},
    {{.kind = TYPE_DOUBLE}, "double", 8},   {{.kind = TYPE_FLOAT}, "float", 4},
    {{.kind = TYPE_INT}, "int", 4},         {{.kind = TYPE_TIMESTAMP}, "timestamp", 8},
    {{.kind = TYPE_UUID}, "uuid", 16},      {{.kind = TYPE_TEXT}, "text", 0},
    {{.kind = TYPE_VARINT}, "varint", 0},   {{.kind = TYPE_TIMEUUID}, "timeuuid", 16},
    {{.kind = TYPE_INET}, "inet", 0},       {{.kind = TYPE_DATE}, "date", 0},
    {{.kind = TYPE_TIME}, "time", 0},       {{.kind = TYPE_SMALLINT}, "smallint", 0},
    {{.kind = TYPE_TINYINT}, "tinyint", 0}, {{.kind = TYPE_DURATION}, "duration", 0},
    {{.kind = TYPE_EMPTY}, "empty", 0},
};

static int simple_row(enum type_kind kind)
{
    for (size_t i = 0; i < sizeof simple_types / sizeof *simple_types; i++) {
        if (simple_types[i].type.kind == kind)
            return (int)i;
    }
    return -1;
}

const struct type *type_simple(enum type_kind kind)
{
    int row = simple_row(kind);

    return row < 0 ? NULL : &simple_types[row].type;
}

uint32_t type_fixed_bytes(const struct type *t)
{
    if (t->kind == TYPE_VECTOR) {
        uint64_t bytes = (uint64_t)type_fixed_bytes(t->args[0]) * t->dimension;
        return bytes <= INT32_MAX ? (uint32_t)bytes : 0;
    }
    int row = simple_row(t->kind);

    return row < 0 ? 0 : simple_types[row].fixed_bytes;
}

bool type_equal(const struct type *a, const struct type *b)
{
    if (a == b)
        return true;
    if (a->kind != b->kind || a->arg_count != b->arg_count || a->dimension != b->dimension ||
        !slice_eq(a->name, b->name))
        return false;
    for (uint16_t i = 0; i < a->arg_count; i++) {
        if (!type_equal(a->args[i], b->args[i]))
            return false;
        if (a->kind == TYPE_UDT && !slice_eq(a->field_names[i], b->field_names[i]))
            return false;
    }
    return true;
}

static void add_args(struct buf *b, const struct type *t, const char *open)
{
    buf_add_str(b, open);
    for (uint16_t i = 0; i < t->arg_count; i++) {
        if (i)
            buf_add_str(b, ", ");
        type_add_text(b, t->args[i]);
    }
    if (t->kind == TYPE_VECTOR)
        buf_printf(b, ", %u", t->dimension);
    buf_add_byte(b, '>');
}

/* Between quotes, those inside doubled. */
static void add_quoted(struct buf *b, struct slice text, uint8_t quote)
{
    buf_add_byte(b, quote);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == quote)
            buf_add_byte(b, quote);
        buf_add_byte(b, text.p[i]);
    }
    buf_add_byte(b, quote);
}

/* Names in another form than [a-z][a-z0-9_]* stand in quotes. */
static void add_udt_name(struct buf *b, struct slice name)
{
    bool plain = name.n && name.p[0] >= 'a' && name.p[0] <= 'z';

    for (size_t i = 0; i < name.n && plain; i++) {
        uint8_t c = name.p[i];
        plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    }
    if (plain)
        buf_add_slice(b, name);
    else
        add_quoted(b, name, '"');
}

void type_add_text(struct buf *b, const struct type *t)
{
    switch (t->kind) {
    case TYPE_LIST:
        add_args(b, t, "list<");
        return;
    case TYPE_SET:
        add_args(b, t, "set<");
        return;
    case TYPE_MAP:
        add_args(b, t, "map<");
        return;
    case TYPE_TUPLE:
        add_args(b, t, "tuple<");
        return;
    case TYPE_VECTOR:
        add_args(b, t, "vector<");
        return;
    case TYPE_UDT:
        add_udt_name(b, t->name);
        return;
    case TYPE_CUSTOM:
        add_quoted(b, t->name, '\'');
        return;
    default:
        break;
    }
    int row = simple_row(t->kind);

    buf_add_str(b, row < 0 ? "?" : simple_types[row].name);
}
