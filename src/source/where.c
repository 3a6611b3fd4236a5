#include "source/where.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "model/value.h"

enum {
    WHERE_MAX_BYTES = 1 << 20, /* of text */
    CONDITIONS_MAX = 100,
    VALUES_MAX = 10000, /* of all together */
};

/* ---- reading -----------------------------------------------------------------------------------
 */

struct parser {
    const struct schema *schema;
    struct slice text;
    size_t at;
    size_t token_at; /* where the word at hand begins */
    struct where *out;
    size_t values;
    struct err *err;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool fail(const struct parser *p, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail(const struct parser *p, size_t at, const char *fmt, ...)
{
    char text[300];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    while (at < p->text.n && is_blank(p->text.p[at]))
        at++;
    return err_set(p->err, ERR_USER, "at character %zu: %s", at + 1, text);
}

static bool is_word(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c >= 0x80;
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->text.n && is_blank(p->text.p[p->at]))
        p->at++;
    p->token_at = p->at;
}

static bool at_end(struct parser *p)
{
    skip_blanks(p);
    return p->at == p->text.n;
}

/* A run of letters and digits; of a value also what numbers, uuids and times are made of. */
static struct slice take_word(struct parser *p, const char *more)
{
    skip_blanks(p);
    while (p->at < p->text.n &&
           (is_word(p->text.p[p->at]) || (p->text.p[p->at] && strchr(more, p->text.p[p->at]))))
        p->at++;
    return slice_of(p->text.p + p->token_at, p->at - p->token_at);
}

static bool take_keyword(struct parser *p, const char *word)
{
    size_t at = p->at;

    if (text_same_nocase(take_word(p, ""), slice_str(word)))
        return true;
    p->at = at;
    return false;
}

static bool take_sign(struct parser *p, const char *sign)
{
    size_t n = strlen(sign);

    skip_blanks(p);
    if (p->text.n - p->at < n || memcmp(p->text.p + p->at, sign, n) != 0)
        return false;
    p->at += n;
    return true;
}

/* Between two quotes, doubled ones being one. */
static bool take_quoted(struct parser *p, uint8_t quote, struct slice *out)
{
    char *to = arena_alloc(&p->out->mem, p->text.n + 1);
    size_t n = 0;

    if (!to)
        return fail(p, p->at, "the conditions are too large");
    for (size_t i = p->at + 1; i < p->text.n; i++) {
        if (p->text.p[i] == quote && (i + 1 == p->text.n || p->text.p[i + 1] != quote)) {
            p->at = i + 1;
            *out = slice_of(to, n);
            return true;
        }
        i += p->text.p[i] == quote;
        to[n++] = (char)p->text.p[i];
    }
    return fail(p, p->token_at, "a quote without its pair");
}

static bool take_column(struct parser *p, struct where_condition *c)
{
    struct slice name = SLICE_NULL;
    int column;

    if (at_end(p))
        return fail(p, p->at, "a column is missing");
    if (p->text.p[p->at] == '"') {
        if (!take_quoted(p, '"', &name))
            return false;
    } else {
        name = take_word(p, "");
    }
    if (!name.n)
        return fail(p, p->token_at,
                    "a column is wanted here, in double quotes where CQL wants them");
    column = schema_find(p->schema, name);
    if (column < 0) {
        const char **names = xalloc((p->schema->column_count + 1u) * sizeof *names);
        for (uint16_t i = 0; i < p->schema->column_count; i++)
            names[i] = p->schema->columns[i].name;
        const char *near = text_nearest(name, names);
        free(names);
        return fail(p, p->token_at,
                    near ? "%s has no column \"%.*s\"; did you mean \"%s\""
                         : "%s has no column \"%.*s\"",
                    p->schema->table, (int)(name.n > 60 ? 60 : name.n), (const char *)name.p, near);
    }
    c->column = (uint16_t)column;
    c->column_type = c->type = p->schema->columns[column].type;
    return true;
}

static bool is_comparable(const struct type *t)
{
    switch (t->kind) {
    case TYPE_CUSTOM:
    case TYPE_DURATION:
    case TYPE_LIST:
    case TYPE_MAP:
    case TYPE_SET:
    case TYPE_UDT:
    case TYPE_TUPLE:
    case TYPE_VECTOR:
    case TYPE_EMPTY:
        return false;
    default:
        return true;
    }
}

static bool take_op(struct parser *p, enum where_op *out)
{
    static const struct {
        const char *sign;
        enum where_op op;
    } signs[] = {{"!=", WHERE_NE}, {"<>", WHERE_NE}, {"<=", WHERE_LE}, {">=", WHERE_GE},
                 {"=", WHERE_EQ},  {"<", WHERE_LT},  {">", WHERE_GT}};

    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (take_sign(p, signs[i].sign))
            return *out = signs[i].op, true;
    if (take_keyword(p, "in"))
        return *out = WHERE_IN, true;
    if (take_keyword(p, "contains"))
        return *out = take_keyword(p, "key") ? WHERE_CONTAINS_KEY : WHERE_CONTAINS, true;
    if (take_keyword(p, "is")) {
        bool negated = take_keyword(p, "not");
        *out = negated ? WHERE_NOT_NULL : WHERE_NULL;
        return take_keyword(p, "null") || fail(p, p->at, "NULL is wanted after IS");
    }
    skip_blanks(p);
    return fail(p, p->at,
                "=, !=, <, <=, >, >=, IN, CONTAINS, CONTAINS KEY, IS NULL or IS NOT NULL is wanted "
                "here");
}

/* Which type the values have. */
static bool check_op(const struct parser *p, size_t at, struct where_condition *c)
{
    const char *name = p->schema->columns[c->column].name;
    const struct type *t = c->column_type;

    if (c->op == WHERE_NULL || c->op == WHERE_NOT_NULL)
        return true;
    if (c->op == WHERE_CONTAINS || c->op == WHERE_CONTAINS_KEY) {
        bool key = c->op == WHERE_CONTAINS_KEY;
        if (t->kind != TYPE_MAP && (key || (t->kind != TYPE_LIST && t->kind != TYPE_SET)))
            return fail(p, at, "column \"%s\" is no %s", name, key ? "map" : "list, set or map");
        c->type = t->args[!key && t->kind == TYPE_MAP];
    }
    if (is_comparable(c->type))
        return true;
    struct buf text;
    buf_init(&text, 200);
    type_add_text(&text, t);
    fail(p, at, "values of column \"%s\" (%s) can't be compared", name, buf_cstr(&text));
    buf_fini(&text);
    return false;
}

static bool take_value(struct parser *p, struct where_condition *c)
{
    struct slice text = SLICE_NULL;
    struct err why = {0};
    struct buf b;

    if (at_end(p))
        return fail(p, p->at, "a value is missing");
    size_t at = p->at;
    if (p->text.p[p->at] == '\'') {
        if (!take_quoted(p, '\'', &text))
            return false;
    } else {
        text = take_word(p, "-+.:");
        if (!text.n)
            return fail(p, at, "a value is wanted here: a number, a uuid, or text between '");
        if (text_same_nocase(text, slice_str("null")))
            return fail(p, at, "no value equals null; say IS NULL or IS NOT NULL");
        bool wants_quotes = c->type->kind == TYPE_TEXT || c->type->kind == TYPE_ASCII;
        if (wants_quotes)
            return fail(p, at, "text must stand between single quotes");
    }
    buf_init(&b, WHERE_MAX_BYTES);
    bool ok = value_from_text(c->type, text, &b, &why) && !b.full;
    void *copy = arena_strndup(&p->out->mem, b.p ? b.p : (const uint8_t *)"", b.len);
    if (ok && copy)
        c->values[c->value_count++] = slice_of(copy, b.len);
    else
        ok = fail(p, at, "column \"%s\": %s", p->schema->columns[c->column].name,
                  why.kind != ERR_NONE ? why.text : "the value is too large");
    buf_fini(&b);
    return ok;
}

static bool take_values(struct parser *p, struct where_condition *c)
{
    if (c->op == WHERE_NULL || c->op == WHERE_NOT_NULL)
        return true;
    /* Of IN at most as many as there are characters left. */
    size_t room = c->op == WHERE_IN ? p->text.n - p->at + 1 : 1;
    c->values =
        arena_alloc(&p->out->mem, (room < VALUES_MAX ? room : VALUES_MAX) * sizeof *c->values);
    if (!c->values)
        return fail(p, p->at, "the conditions are too large");
    if (c->op != WHERE_IN)
        return take_value(p, c);
    if (!take_sign(p, "("))
        return fail(p, p->at, "( is wanted after IN");
    do {
        if (p->values++ == VALUES_MAX)
            return fail(p, p->at, "more than %d values", VALUES_MAX);
        if (!take_value(p, c))
            return false;
    } while (take_sign(p, ","));
    return take_sign(p, ")") || fail(p, p->at, ", or ) is wanted here");
}

static bool take_conditions(struct parser *p)
{
    struct where *w = p->out;

    w->list = arena_zalloc(&w->mem, CONDITIONS_MAX * sizeof *w->list);
    ensure(w->list && "the arena is new");
    while (true) {
        struct where_condition *c = &w->list[w->count++];
        if (!take_column(p, c))
            return false;
        skip_blanks(p);
        size_t at = p->at;
        if (!take_op(p, &c->op) || !check_op(p, at, c) || !take_values(p, c))
            return false;
        if (at_end(p))
            return true;
        if (take_keyword(p, "or"))
            return fail(p, p->token_at, "OR is not supported; run it once for each side");
        if (!take_keyword(p, "and"))
            return fail(p, p->at, "AND, or the end, is wanted here");
        if (w->count == CONDITIONS_MAX)
            return fail(p, p->at, "more than %d conditions", CONDITIONS_MAX);
    }
}

struct where *where_parse(const struct schema *s, struct slice text, struct err *err)
{
    struct where *w = xalloc(sizeof *w);
    struct parser p = {.schema = s, .text = text, .out = w, .err = err};

    arena_init(&w->mem, 64 * (size_t)WHERE_MAX_BYTES);
    if (text.n <= WHERE_MAX_BYTES ? take_conditions(&p)
                                  : fail(&p, WHERE_MAX_BYTES, "the conditions are too large"))
        return w;
    where_free(w);
    return NULL;
}

void where_free(struct where *w)
{
    arena_fini(&w->mem);
    free(w);
}

/* ---- comparing ---------------------------------------------------------------------------------
 */

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

static int order_bytes(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? ORDER(c, 0) : ORDER(a.n, b.n);
}

/* As Java: -0.0 before 0.0, NaN behind all. */
static int order_doubles(double a, double b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) - isnan(b);
    return a != b ? ORDER(a, b) : (signbit(b) != 0) - (signbit(a) != 0);
}

/* Without bytes that say nothing but the sign. */
static struct slice short_varint(struct slice v)
{
    while (v.n > 1 && ((v.p[0] == 0 && v.p[1] < 0x80) || (v.p[0] == 0xff && v.p[1] >= 0x80)))
        v = slice_of(v.p + 1, v.n - 1);
    return v;
}

static int order_varints(struct slice a, struct slice b)
{
    a = short_varint(a);
    b = short_varint(b);
    bool a_minus = a.p[0] >= 0x80, b_minus = b.p[0] >= 0x80;
    if (a_minus != b_minus)
        return a_minus ? -1 : 1;
    if (a.n != b.n)
        return ORDER(a.n, b.n) * (a_minus ? -1 : 1);
    return order_bytes(a, b);
}

/* The digits of |v|, the first not 0; none for 0. O(n^2): such numbers are short. */
static char *decimal_digits(struct slice v, size_t *count)
{
    bool minus = v.p[0] >= 0x80;
    size_t parts = v.n / 3 + 2, used = 0;
    uint32_t *part = xalloc(parts * sizeof *part); /* of nine digits, the lowest first */

    for (size_t i = 0; i < v.n; i++) {
        uint64_t carry = minus ? (uint8_t)~v.p[i] : v.p[i];
        for (size_t k = 0; k < used || carry; k++) {
            carry += k < used ? (uint64_t)part[k] << 8 : 0;
            part[k] = (uint32_t)(carry % 1000000000);
            carry /= 1000000000;
            used = k < used ? used : k + 1;
        }
    }
    for (size_t k = 0; minus; k++) { /* ~v is one too small */
        used = k < used ? used : k + 1;
        part[k] = part[k] == 999999999 ? 0 : part[k] + 1;
        if (part[k])
            break;
    }
    char *text = xalloc(used * 9 + 1);
    for (size_t k = 0; k < used; k++)
        for (size_t d = 0, rest = part[used - 1 - k]; d < 9; d++, rest /= 10)
            text[k * 9 + 8 - d] = (char)('0' + rest % 10);
    size_t zeros = strspn(text, "0");
    *count = used * 9 - zeros;
    memmove(text, text + zeros, *count + 1);
    free(part);
    return text;
}

static int order_decimals(struct slice a, struct slice b)
{
    struct slice va, vb;
    int32_t sa, sb;
    size_t na, nb;

    if (!value_decimal(a, &sa, &va) || !value_decimal(b, &sb, &vb))
        return order_bytes(a, b);
    bool a_minus = va.p[0] >= 0x80, b_minus = vb.p[0] >= 0x80;
    AUTO_STR char *da = decimal_digits(va, &na);
    AUTO_STR char *db = decimal_digits(vb, &nb);
    int sign_a = !na ? 0 : a_minus ? -1 : 1, sign_b = !nb ? 0 : b_minus ? -1 : 1;
    if (sign_a != sign_b || !na)
        return ORDER(sign_a, sign_b);
    int64_t above_a = (int64_t)na - sa, above_b = (int64_t)nb - sb; /* digits before the point */
    int c = ORDER(above_a, above_b);
    for (size_t i = 0; !c && (i < na || i < nb); i++) {
        char x = i < na ? da[i] : '0', y = i < nb ? db[i] : '0';
        c = ORDER(x, y);
    }
    return c * sign_a;
}

/* The 60 bits of time, the highest first (the version stays on top). */
static uint64_t uuid_time(uint64_t high)
{
    return high << 48 | (high << 16 & 0xffff00000000) | high >> 32;
}

static int order_uuids(struct slice a, struct slice b, bool by_time)
{
    if (a.n != 16 || b.n != 16)
        return order_bytes(a, b);
    uint64_t ha = load_u64(a.p), hb = load_u64(b.p), la = load_u64(a.p + 8), lb = load_u64(b.p + 8);
    unsigned va = ha >> 12 & 15, vb = hb >> 12 & 15;
    if (!by_time && va != vb)
        return ORDER(va, vb);
    if (by_time || va == 1) {
        uint64_t ta = uuid_time(ha), tb = uuid_time(hb);
        if (ta != tb)
            return ORDER(ta, tb);
    } else if (ha != hb) {
        return ORDER(ha, hb);
    }
    if (!by_time)
        return ORDER(la, lb);
    const uint64_t tops = UINT64_C(0x8080808080808080); /* timeuuid: each byte with its sign */
    return ORDER(la ^ tops, lb ^ tops);
}

/* Cassandra's order of two values of the type. A value without bytes is before all others. */
static int order_values(const struct type *t, struct slice a, struct slice b)
{
    int64_t ia, ib;
    double da, db;
    float fa, fb;

    if (!a.n || !b.n)
        return ORDER(a.n, b.n);
    switch (t->kind) {
    case TYPE_TINYINT:
    case TYPE_SMALLINT:
    case TYPE_INT:
    case TYPE_BIGINT:
    case TYPE_COUNTER:
    case TYPE_TIMESTAMP:
    case TYPE_TIME:
        return value_int(a, &ia) && value_int(b, &ib) ? ORDER(ia, ib) : order_bytes(a, b);
    case TYPE_DOUBLE:
        return value_double(a, &da) && value_double(b, &db) ? order_doubles(da, db)
                                                            : order_bytes(a, b);
    case TYPE_FLOAT:
        return value_float(a, &fa) && value_float(b, &fb) ? order_doubles((double)fa, (double)fb)
                                                          : order_bytes(a, b);
    case TYPE_VARINT:
        return order_varints(a, b);
    case TYPE_DECIMAL:
        return order_decimals(a, b);
    case TYPE_UUID:
    case TYPE_TIMEUUID:
        return order_uuids(a, b, t->kind == TYPE_TIMEUUID);
    default:
        return order_bytes(a, b); /* text, blob, inet, date, boolean */
    }
}

static bool contains(const struct where_condition *c, struct slice cell)
{
    struct value_cursor at;
    const struct type *type;
    struct slice element;
    bool bad;

    if (!value_open(c->column_type, cell, &at))
        return false;
    while (value_next(&at, &type, &element, &bad)) {
        bool is_key = c->column_type->kind == TYPE_MAP && at.index % 2 == 0;
        if (is_key == (c->op == WHERE_CONTAINS_KEY) && element.p &&
            order_values(c->type, element, c->values[0]) == 0)
            return true;
    }
    return false;
}

bool where_holds(const struct where_condition *c, struct slice cell)
{
    if (c->op == WHERE_NULL || c->op == WHERE_NOT_NULL)
        return value_is_null(c->column_type, cell) == (c->op == WHERE_NULL);
    if (!cell.p)
        return false;
    if (c->op == WHERE_CONTAINS || c->op == WHERE_CONTAINS_KEY)
        return contains(c, cell);
    for (uint32_t i = 0; i < c->value_count && c->op == WHERE_IN; i++)
        if (order_values(c->type, cell, c->values[i]) == 0)
            return true;
    if (c->op == WHERE_IN)
        return false;
    int order = order_values(c->type, cell, c->values[0]);
    switch (c->op) {
    case WHERE_EQ:
        return order == 0;
    case WHERE_NE:
        return order != 0;
    case WHERE_LT:
        return order < 0;
    case WHERE_LE:
        return order <= 0;
    case WHERE_GT:
        return order > 0;
    default:
        return order >= 0;
    }
}

/* ---- CQL ---------------------------------------------------------------------------------------
 */

bool where_has_cql(const struct where_condition *c)
{
    return c->op != WHERE_NULL && c->op != WHERE_NOT_NULL;
}

void where_add_cql(struct buf *b, const struct schema *s, const struct where_condition *c)
{
    static const char *const signs[] = {" = ?",  " != ?", " < ?",        " <= ?",           " > ?",
                                        " >= ?", " IN (", " CONTAINS ?", " CONTAINS KEY ?", "",
                                        ""};

    schema_add_quoted(b, s->columns[c->column].name);
    buf_add_str(b, signs[c->op]);
    for (uint32_t i = 0; i < c->value_count && c->op == WHERE_IN; i++)
        buf_add_str(b, i ? ", ?" : "?");
    if (c->op == WHERE_IN)
        buf_add_byte(b, ')');
}
