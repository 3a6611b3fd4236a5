#include "cql/type.h"

#include "base/text.h"

static bool out_of_memory(struct err *err)
{
    err_set(err, ERR_SYSTEM, "no room left for the types of columns");
    return false;
}

static bool copy_slice(struct arena *mem, struct slice s, struct slice *out, struct err *err)
{
    char *copy = arena_strndup(mem, s.p, s.n);

    if (!copy)
        return out_of_memory(err);
    *out = slice_of(copy, s.n);
    return true;
}

/* A type with room for its arguments, which the caller fills in. */
static struct type *type_make(struct arena *mem, enum type_kind kind, size_t count,
                              const struct type ***args)
{
    struct type *t = arena_zalloc(mem, sizeof *t);

    *args = arena_alloc(mem, (count ? count : 1) * sizeof **args);
    if (!t || !*args)
        return NULL;
    t->kind = kind;
    t->arg_count = (uint16_t)count;
    t->args = *args;
    return t;
}

/* ---- [option] ---------------------------------------------------------------------------------
 */

static bool short_option(struct err *err)
{
    err_set(err, ERR_RETRY, "a column's type is cut short");
    return false;
}

static bool take_string(struct slice *in, struct slice *out)
{
    uint16_t n;

    return take_u16(in, &n) && slice_take(in, n, out);
}

static bool take_option(struct slice *in, struct arena *mem, int depth, const struct type **out,
                        struct err *err);

static bool take_options(struct slice *in, struct arena *mem, int depth, enum type_kind kind,
                         size_t count, const struct type **out, struct err *err)
{
    const struct type **args;
    struct type *t = type_make(mem, kind, count, &args);

    if (!t)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++) {
        if (!take_option(in, mem, depth + 1, &args[i], err))
            return false;
    }
    *out = t;
    return true;
}

static bool take_udt(struct slice *in, struct arena *mem, int depth, const struct type **out,
                     struct err *err)
{
    struct slice keyspace;
    struct slice name;
    uint16_t count;

    if (!take_string(in, &keyspace) || !take_string(in, &name) || !take_u16(in, &count) ||
        in->n < (size_t)count * 4)
        return short_option(err);
    const struct type **args;
    struct type *t = type_make(mem, TYPE_UDT, count, &args);
    struct slice *fields = arena_alloc(mem, (count + (size_t)1) * sizeof *fields);
    if (!t || !fields)
        return out_of_memory(err);
    for (uint16_t i = 0; i < count; i++) {
        if (!take_string(in, &fields[i]))
            return short_option(err);
        if (!take_option(in, mem, depth + 1, &args[i], err))
            return false;
    }
    t->name = name;
    t->field_names = fields;
    *out = t;
    return true;
}

static bool parse_class_at(struct slice text, struct arena *mem, int depth, enum err_kind kind,
                           const struct type **out, struct err *err);

static bool take_option(struct slice *in, struct arena *mem, int depth, const struct type **out,
                        struct err *err)
{
    struct slice text = SLICE_NULL;
    uint16_t id;
    uint16_t count;

    if (depth >= TYPE_DEPTH_MAX)
        return err_set(err, ERR_RETRY, "a column's type is more than %d levels deep",
                       TYPE_DEPTH_MAX);
    if (!take_u16(in, &id))
        return short_option(err);
    switch (id) {
    case TYPE_CUSTOM:
        if (!take_string(in, &text))
            return short_option(err);
        return parse_class_at(text, mem, depth, ERR_RETRY, out, err);
    case TYPE_LIST:
    case TYPE_SET:
        return take_options(in, mem, depth, (enum type_kind)id, 1, out, err);
    case TYPE_MAP:
        return take_options(in, mem, depth, TYPE_MAP, 2, out, err);
    case TYPE_TUPLE:
        if (!take_u16(in, &count) || in->n < (size_t)count * 2)
            return short_option(err);
        return take_options(in, mem, depth, TYPE_TUPLE, count, out, err);
    case TYPE_UDT:
        return take_udt(in, mem, depth, out, err);
    case 0x0a: /* text of protocols v1 and v2 */
        id = TYPE_TEXT;
        break;
    default:
        break;
    }
    *out = id < TYPE_LIST ? type_simple((enum type_kind)id) : NULL;
    if (!*out)
        return err_set(err, ERR_RETRY, "a column's type has the unknown number 0x%04x", id);
    return true;
}

bool type_take_option(struct slice *in, struct arena *mem, const struct type **out, struct err *err)
{
    return take_option(in, mem, 0, out, err);
}

/* ---- text -------------------------------------------------------------------------------------
 */

struct reader {
    struct slice rest;
    struct arena *mem;
    const struct type_lookup *udts;
    enum err_kind kind; /* of errors in the text */
    struct err *err;
};

static bool bad_text(struct reader *r, const char *what)
{
    err_set(r->err, r->kind, "type text: %s", what);
    return false;
}

static void skip(struct reader *r, size_t n)
{
    r->rest = slice_of(r->rest.p + n, r->rest.n - n);
}

static void skip_blanks(struct reader *r)
{
    while (r->rest.n && (r->rest.p[0] == ' ' || r->rest.p[0] == '\t'))
        skip(r, 1);
}

static bool take_sign(struct reader *r, char c)
{
    skip_blanks(r);
    if (!r->rest.n || r->rest.p[0] != (uint8_t)c)
        return false;
    skip(r, 1);
    return true;
}

/* Up to the next of `ends`, blanks around it dropped. */
static struct slice take_word(struct reader *r, const char *ends)
{
    size_t n = 0;

    while (n < r->rest.n && (!r->rest.p[n] || !strchr(ends, r->rest.p[n])))
        n++;
    struct slice word = text_trim(slice_of(r->rest.p, n));
    skip(r, n);
    return word;
}

static bool take_dimension(struct reader *r, const char *ends, uint32_t *out)
{
    int64_t v;

    if (!text_to_i64(take_word(r, ends), 1, INT32_MAX, &v))
        return bad_text(r, "a vector's dimension is no positive number");
    *out = (uint32_t)v;
    return true;
}

/* What is told from a list of arguments whose number is not known beforehand. */
enum { ARGS_MAX = 8192 };

struct arg_list {
    const struct type **types;
    struct slice *names;
    size_t count;
    size_t cap;
};

static bool arg_add(struct reader *r, struct arg_list *l, struct slice name, const struct type *t)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        const struct type **types = arena_alloc(r->mem, cap * sizeof(struct type *));
        struct slice *names = arena_alloc(r->mem, cap * sizeof *names);
        if (cap > ARGS_MAX)
            return bad_text(r, "too many fields");
        if (!types || !names)
            return out_of_memory(r->err);
        if (l->count) {
            memcpy(types, l->types, l->count * sizeof(struct type *));
            memcpy(names, l->names, l->count * sizeof *names);
        }
        l->types = types;
        l->names = names;
        l->cap = cap;
    }
    l->types[l->count] = t;
    l->names[l->count++] = name;
    return true;
}

/* NULL (and err) when memory is out. */
static struct type *make_from(struct reader *r, enum type_kind kind, const struct arg_list *l)
{
    struct type *t = arena_zalloc(r->mem, sizeof *t);

    if (!t) {
        out_of_memory(r->err);
        return NULL;
    }
    t->kind = kind;
    t->arg_count = (uint16_t)l->count;
    t->args = l->types;
    return t;
}

/* ---- Java classes -----------------------------------------------------------------------------
 */

/* clang-format off */
static const struct class_row {
    const char *name;
    enum type_kind kind;
    int args; /* -1: any number */
} class_rows[] = {
    {"AsciiType", TYPE_ASCII, 0},           {"LongType", TYPE_BIGINT, 0},
    {"BytesType", TYPE_BLOB, 0},            {"BooleanType", TYPE_BOOLEAN, 0},
    {"CounterColumnType", TYPE_COUNTER, 0}, {"DecimalType", TYPE_DECIMAL, 0},
    {"DoubleType", TYPE_DOUBLE, 0},         {"FloatType", TYPE_FLOAT, 0},
    {"Int32Type", TYPE_INT, 0},             {"TimestampType", TYPE_TIMESTAMP, 0},
    {"DateType", TYPE_TIMESTAMP, 0},        {"UUIDType", TYPE_UUID, 0},
    {"LexicalUUIDType", TYPE_UUID, 0},      {"UTF8Type", TYPE_TEXT, 0},
    {"IntegerType", TYPE_VARINT, 0},        {"TimeUUIDType", TYPE_TIMEUUID, 0},
    {"InetAddressType", TYPE_INET, 0},      {"SimpleDateType", TYPE_DATE, 0},
    {"TimeType", TYPE_TIME, 0},             {"ShortType", TYPE_SMALLINT, 0},
    {"ByteType", TYPE_TINYINT, 0},          {"DurationType", TYPE_DURATION, 0},
    {"EmptyType", TYPE_EMPTY, 0},           {"ListType", TYPE_LIST, 1},
    {"SetType", TYPE_SET, 1},               {"MapType", TYPE_MAP, 2},
    {"TupleType", TYPE_TUPLE, -1},          {"UserType", TYPE_UDT, -1},
    {"VectorType", TYPE_VECTOR, 1},         {"FrozenType", TYPE_CUSTOM, 1},
    {"ReversedType", TYPE_CUSTOM, 1},
};
/* clang-format on */

static const struct class_row *class_find(struct slice name)
{
    for (size_t i = name.n; i--;) {
        if (name.p[i] == '.') {
            if (!slice_eq(slice_of(name.p, i), slice_str("org.apache.cassandra.db.marshal")))
                return NULL;
            name = slice_of(name.p + i + 1, name.n - i - 1);
            break;
        }
    }
    for (size_t i = 0; i < sizeof class_rows / sizeof *class_rows; i++) {
        if (slice_is(name, class_rows[i].name))
            return &class_rows[i];
    }
    return NULL;
}

static bool read_class(struct reader *r, int depth, const struct type **out);

static bool hex_text(struct reader *r, struct slice hex, struct slice *out)
{
    char *to = arena_alloc(r->mem, hex.n / 2 + 1);

    if (!to)
        return out_of_memory(r->err);
    for (size_t i = 0; i < hex.n / 2 * 2; i++) {
        uint8_t c = hex.p[i];
        int v = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (v < 0)
            return bad_text(r, "a user type's names are not hex digits");
        to[i / 2] = (char)(i % 2 ? to[i / 2] | v : v << 4);
    }
    if (hex.n % 2)
        return bad_text(r, "a user type's names are not hex digits");
    *out = slice_of(to, hex.n / 2);
    return true;
}

/* "(" is read: ks, hexname, hexfield:type, ...) */
static bool read_user_class(struct reader *r, int depth, const struct type **out)
{
    struct arg_list l = {0};
    struct slice name;

    take_word(r, ",()");
    if (!take_sign(r, ',') || !hex_text(r, take_word(r, ",()"), &name))
        return r->err->kind ? false : bad_text(r, "a user type without a name");
    while (take_sign(r, ',')) {
        struct slice field;
        const struct type *arg = NULL;
        if (!hex_text(r, take_word(r, ":,()"), &field))
            return false;
        if (!take_sign(r, ':'))
            return bad_text(r, "a user type's field without a type");
        if (!read_class(r, depth + 1, &arg) || !arg_add(r, &l, field, arg))
            return false;
    }
    if (!take_sign(r, ')'))
        return bad_text(r, "a bracket is not closed");
    struct type *t = make_from(r, TYPE_UDT, &l);
    if (!t)
        return false;
    t->name = name;
    t->field_names = l.names;
    *out = t;
    return true;
}

/* Behind "(": the arguments of a class that is not known, brackets balanced. */
static bool skip_arguments(struct reader *r)
{
    size_t open = 1;

    while (open) {
        if (!r->rest.n)
            return bad_text(r, "a bracket is not closed");
        if (r->rest.p[0] == '(')
            open++;
        if (r->rest.p[0] == ')')
            open--;
        skip(r, 1);
    }
    return true;
}

static bool read_class(struct reader *r, int depth, const struct type **out)
{
    if (depth >= TYPE_DEPTH_MAX)
        return err_set(r->err, r->kind, "type text: more than %d levels deep", TYPE_DEPTH_MAX);
    skip_blanks(r);
    const uint8_t *start = r->rest.p;
    struct slice name = take_word(r, "(),");
    if (!name.n)
        return bad_text(r, "a class name is missing");
    const struct class_row *row = class_find(name);
    bool has_args = take_sign(r, '(');
    struct arg_list l = {0};

    if (!row || has_args != (row->args != 0)) {
        if (has_args && !skip_arguments(r))
            return false;
        struct slice all = text_trim(slice_of(start, (size_t)(r->rest.p - start)));
        struct type *custom = make_from(r, TYPE_CUSTOM, &l);
        if (!custom || !copy_slice(r->mem, all, &custom->name, r->err))
            return false;
        *out = custom;
        return true;
    }
    if (!has_args) {
        *out = type_simple(row->kind);
        return true;
    }
    if (row->kind == TYPE_UDT)
        return read_user_class(r, depth, out);
    do {
        const struct type *arg = NULL;
        if (row->kind == TYPE_VECTOR && l.count == 1)
            break;
        if (!read_class(r, depth + 1, &arg) || !arg_add(r, &l, SLICE_NULL, arg))
            return false;
    } while (take_sign(r, ','));
    uint32_t dimension = 0;
    if (row->kind == TYPE_VECTOR && !take_dimension(r, ")", &dimension))
        return false;
    if (!take_sign(r, ')'))
        return bad_text(r, "a bracket is not closed");
    if (!l.count || (row->args > 0 && l.count != (size_t)row->args))
        return bad_text(r, "a class has the wrong number of arguments");
    if (row->kind == TYPE_CUSTOM) { /* frozen and reversed say nothing about bytes */
        *out = l.types[0];
        return true;
    }
    struct type *t = make_from(r, row->kind, &l);
    if (!t)
        return false;
    t->dimension = dimension;
    *out = t;
    return true;
}

static bool parse_class_at(struct slice text, struct arena *mem, int depth, enum err_kind kind,
                           const struct type **out, struct err *err)
{
    struct reader r = {.rest = text, .mem = mem, .kind = kind, .err = err};

    err_clear(err);
    if (!read_class(&r, depth, out))
        return false;
    skip_blanks(&r);
    return r.rest.n == 0 || bad_text(&r, "something follows the end");
}

bool type_parse_class(struct slice text, struct arena *mem, const struct type **out,
                      struct err *err)
{
    return parse_class_at(text, mem, 0, ERR_REJECT, out, err);
}

/* ---- CQL text ---------------------------------------------------------------------------------
 */

/* clang-format off */
static const struct cql_row {
    const char *name;
    enum type_kind kind;
    int args; /* -1: any number */
} cql_rows[] = {
    {"ascii", TYPE_ASCII, 0},         {"bigint", TYPE_BIGINT, 0},     {"blob", TYPE_BLOB, 0},
    {"boolean", TYPE_BOOLEAN, 0},     {"counter", TYPE_COUNTER, 0},   {"decimal", TYPE_DECIMAL, 0},
    {"double", TYPE_DOUBLE, 0},       {"float", TYPE_FLOAT, 0},       {"int", TYPE_INT, 0},
    {"timestamp", TYPE_TIMESTAMP, 0}, {"uuid", TYPE_UUID, 0},         {"text", TYPE_TEXT, 0},
    {"varchar", TYPE_TEXT, 0},        {"varint", TYPE_VARINT, 0},     {"timeuuid", TYPE_TIMEUUID, 0},
    {"inet", TYPE_INET, 0},           {"date", TYPE_DATE, 0},         {"time", TYPE_TIME, 0},
    {"smallint", TYPE_SMALLINT, 0},   {"tinyint", TYPE_TINYINT, 0},   {"duration", TYPE_DURATION, 0},
    {"empty", TYPE_EMPTY, 0},         {"list", TYPE_LIST, 1},         {"set", TYPE_SET, 1},
    {"map", TYPE_MAP, 2},             {"tuple", TYPE_TUPLE, -1},      {"vector", TYPE_VECTOR, 1},
    {"frozen", TYPE_CUSTOM, 1},
};
/* clang-format on */

/* A quoted text off the front, doubled quotes undone; the first sign is the quote. */
static bool take_quoted(struct reader *r, struct slice *out)
{
    uint8_t quote = r->rest.p[0];
    char *to = arena_alloc(r->mem, r->rest.n);
    size_t n = 0;

    if (!to)
        return out_of_memory(r->err);
    skip(r, 1);
    while (r->rest.n) {
        uint8_t c = r->rest.p[0];
        skip(r, 1);
        if (c == quote) {
            if (!r->rest.n || r->rest.p[0] != quote) {
                *out = slice_of(to, n);
                return true;
            }
            skip(r, 1);
        }
        to[n++] = (char)c;
    }
    return bad_text(r, "a quote is not closed");
}

static bool find_udt(struct reader *r, struct slice name, const struct type **out)
{
    *out = r->udts ? r->udts->find(r->udts->ctx, name) : NULL;
    if (!*out)
        return err_set(r->err, r->kind, "type text: type \"%.*s\" is not known",
                       (int)(name.n < 64 ? name.n : 64), (const char *)name.p);
    return true;
}

static bool read_cql(struct reader *r, int depth, const struct type **out);

/* Behind "<". */
static bool read_cql_args(struct reader *r, int depth, const struct cql_row *row,
                          const struct type **out)
{
    struct arg_list l = {0};
    uint32_t dimension = 0;

    do {
        const struct type *arg = NULL;
        if (row->kind == TYPE_VECTOR && l.count == 1) {
            if (!take_dimension(r, ">", &dimension))
                return false;
            break;
        }
        if (!read_cql(r, depth + 1, &arg) || !arg_add(r, &l, SLICE_NULL, arg))
            return false;
    } while (take_sign(r, ','));
    if (!take_sign(r, '>'))
        return bad_text(r, "a bracket is not closed");
    if ((row->args > 0 && l.count != (size_t)row->args) || (row->kind == TYPE_VECTOR && !dimension))
        return bad_text(r, "a type has the wrong number of arguments");
    if (row->kind == TYPE_CUSTOM) {
        *out = l.types[0];
        return true;
    }
    struct type *t = make_from(r, row->kind, &l);
    if (!t)
        return false;
    t->dimension = dimension;
    *out = t;
    return true;
}

static bool read_cql(struct reader *r, int depth, const struct type **out)
{
    struct slice name = SLICE_NULL;

    if (depth >= TYPE_DEPTH_MAX)
        return err_set(r->err, r->kind, "type text: more than %d levels deep", TYPE_DEPTH_MAX);
    skip_blanks(r);
    if (r->rest.n && r->rest.p[0] == '\'') {
        if (!take_quoted(r, &name))
            return false;
        return parse_class_at(name, r->mem, depth, r->kind, out, r->err);
    }
    if (r->rest.n && r->rest.p[0] == '"')
        return take_quoted(r, &name) && find_udt(r, name, out);
    name = take_word(r, "<>,'\"");
    if (!name.n)
        return bad_text(r, "a type is missing");
    for (size_t i = 0; i < sizeof cql_rows / sizeof *cql_rows; i++) {
        const struct cql_row *row = &cql_rows[i];
        if (!text_same_nocase(name, slice_str(row->name)))
            continue;
        bool has_args = take_sign(r, '<');
        if (has_args != (row->args != 0))
            return bad_text(r, "a type has the wrong number of arguments");
        if (has_args)
            return read_cql_args(r, depth, row, out);
        *out = type_simple(row->kind);
        return true;
    }
    return find_udt(r, name, out);
}

bool type_parse_cql(struct slice text, const struct type_lookup *udts, struct arena *mem,
                    const struct type **out, struct err *err)
{
    struct reader r = {.rest = text, .mem = mem, .udts = udts, .kind = ERR_REJECT, .err = err};

    err_clear(err);
    if (!read_cql(&r, 0, out))
        return false;
    skip_blanks(&r);
    return r.rest.n == 0 || bad_text(&r, "something follows the end");
}
