#include "base/json.h"

#include <stdlib.h>
#include <yajl/yajl_parse.h>

#include "base/text.h"

enum { JSON_MAX_DEPTH = 200 };

struct builder {
    struct arena *mem;
    struct json *open[JSON_MAX_DEPTH];
    struct json *last[JSON_MAX_DEPTH]; /* last child of open[i] */
    int depth;
    struct json *root;
    struct slice key;
    const char *why;
};

static struct json *add_node(struct builder *b, enum json_kind kind)
{
    struct json *v = arena_zalloc(b->mem, sizeof *v);

    if (!v) {
        b->why = "too large";
        return NULL;
    }
    v->kind = kind;
    v->key = b->key;
    b->key = SLICE_NULL;
    if (b->depth == 0) {
        b->root = v;
        return v;
    }
    struct json **last = &b->last[b->depth - 1];
    if (*last)
        (*last)->next = v;
    else
        b->open[b->depth - 1]->first = v;
    *last = v;
    b->open[b->depth - 1]->count++;
    return v;
}

/* Raw bytes are checked by the parser; an escaped half of a surrogate pair it hands on as three
 * bytes that are no UTF-8. */
static bool copy_text(struct builder *b, const void *p, size_t n, struct slice *out)
{
    if (!utf8_valid(slice_of(p, n))) {
        b->why = "half of a surrogate pair";
        return false;
    }
    char *copy = arena_strndup(b->mem, p, n);

    if (!copy)
        b->why = "too large";
    *out = slice_of(copy, n);
    return copy != NULL;
}

static int on_null(void *ctx)
{
    return add_node(ctx, JSON_NULL) != NULL;
}

static int on_bool(void *ctx, int truth)
{
    struct json *v = add_node(ctx, JSON_BOOL);

    if (v)
        v->truth = truth;
    return v != NULL;
}

static int on_number(void *ctx, const char *p, size_t n)
{
    struct json *v = add_node(ctx, JSON_NUMBER);

    return v && copy_text(ctx, p, n, &v->text);
}

static int on_string(void *ctx, const unsigned char *p, size_t n)
{
    struct json *v = add_node(ctx, JSON_STRING);

    return v && copy_text(ctx, p, n, &v->text);
}

static int on_key(void *ctx, const unsigned char *p, size_t n)
{
    struct builder *b = ctx;

    return copy_text(b, p, n, &b->key);
}

static int open_node(struct builder *b, enum json_kind kind)
{
    struct json *v = add_node(b, kind);

    if (!v)
        return 0;
    if (b->depth == JSON_MAX_DEPTH) {
        b->why = "nested too deep";
        return 0;
    }
    b->open[b->depth] = v;
    b->last[b->depth++] = NULL;
    return 1;
}

static int on_object(void *ctx)
{
    return open_node(ctx, JSON_OBJECT);
}

static int on_array(void *ctx)
{
    return open_node(ctx, JSON_ARRAY);
}

static int on_end(void *ctx)
{
    ((struct builder *)ctx)->depth--;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_array,
    .yajl_end_array = on_end,
};

static bool hex4(const uint8_t *p, const uint8_t *end, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4 && p + i < end; i++) {
        unsigned c = p[i] | 0x20u;
        *out = *out << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return end - p >= 4;
}

/* Where, in JSON text that has been parsed; SIZE_MAX: nowhere. The parser makes "?" or another
 * character of such a half. */
static size_t half_pair(struct slice text)
{
    const uint8_t *end = text.p + text.n;
    unsigned code, low;

    for (const uint8_t *p = text.p; (p = memchr(p, '\\', (size_t)(end - p)));) {
        if (p[1] != 'u' || !hex4(p + 2, end, &code) || code < 0xd800 || code > 0xdfff) {
            p += 2;
            continue;
        }
        if (code >= 0xdc00 || end - p < 12 || p[6] != '\\' || p[7] != 'u' ||
            !hex4(p + 8, end, &low) || low < 0xdc00 || low > 0xdfff)
            return (size_t)(p - text.p);
        p += 12;
    }
    return SIZE_MAX;
}

const struct json *json_parse(struct slice text, struct arena *mem, struct err *err)
{
    struct builder b = {.mem = mem};
    yajl_handle parser = yajl_alloc(&callbacks, NULL, &b);

    yajl_status status = yajl_parse(parser, text.p, text.n);
    size_t at = yajl_get_bytes_consumed(parser);
    /* A string that is begun behind the value is nothing to yajl, and a line's end ends it: no
     * string may hold one. */
    if (status == yajl_status_ok)
        status = yajl_parse(parser, (const unsigned char *)"\n", 1);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(parser);
    size_t half = status == yajl_status_ok && text.n ? half_pair(text) : SIZE_MAX;
    if (half != SIZE_MAX) {
        status = yajl_status_error;
        at = half;
        b.why = "half of a surrogate pair";
    }
    if (status != yajl_status_ok && !b.why) {
        unsigned char *why = yajl_get_error(parser, 0, text.p, text.n);
        size_t n = strcspn((const char *)why, "\n");

        err_set(err, ERR_REJECT, "byte %zu: %.*s", at, (int)n, (const char *)why);
        yajl_free_error(parser, why);
    } else if (status != yajl_status_ok) {
        err_set(err, ERR_REJECT, "byte %zu: %s", at, b.why);
    } else if (!b.root) {
        status = yajl_status_error;
        err_set(err, ERR_REJECT, "no JSON value");
    }
    yajl_free(parser);
    return status == yajl_status_ok ? b.root : NULL;
}

const struct json *json_get(const struct json *of, const char *key)
{
    const struct json *found = NULL;

    if (!of || of->kind != JSON_OBJECT)
        return NULL;
    json_each (v, of) {
        if (slice_is(v->key, key))
            found = v;
    }
    return found;
}

bool json_i64(const struct json *v, int64_t *out)
{
    return v && v->kind == JSON_NUMBER && text_to_i64(v->text, 0, INT64_MAX, out);
}

struct slice json_get_string(const struct json *of, const char *key)
{
    const struct json *v = json_get(of, key);

    return v && v->kind == JSON_STRING ? v->text : SLICE_NULL;
}

static void write_children(struct buf *b, const struct json *v)
{
    json_each (child, v) {
        if (child != v->first)
            buf_add_byte(b, ',');
        if (v->kind == JSON_OBJECT) {
            json_add_string(b, child->key);
            buf_add_byte(b, ':');
        }
        json_write(b, child);
    }
}

void json_write(struct buf *b, const struct json *v)
{
    switch (v->kind) {
    case JSON_NULL:
        buf_add_str(b, "null");
        break;
    case JSON_BOOL:
        buf_add_str(b, v->truth ? "true" : "false");
        break;
    case JSON_NUMBER:
        buf_add_slice(b, v->text);
        break;
    case JSON_STRING:
        json_add_string(b, v->text);
        break;
    case JSON_ARRAY:
        buf_add_byte(b, '[');
        write_children(b, v);
        buf_add_byte(b, ']');
        break;
    case JSON_OBJECT:
        buf_add_byte(b, '{');
        write_children(b, v);
        buf_add_byte(b, '}');
        break;
    }
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void add_line(struct buf *b, unsigned depth)
{
    buf_add_byte(b, '\n');
    for (unsigned i = 0; i < depth; i++)
        buf_add_str(b, "  ");
}

/* Behind the string that begins at i. */
static size_t string_end(struct slice text, size_t i)
{
    for (i++; i < text.n && text.p[i] != '"'; i++)
        i += text.p[i] == '\\';
    return i < text.n ? i + 1 : text.n;
}

void json_indent(struct buf *b, struct slice text)
{
    unsigned depth = 0;
    bool opened = false; /* a bracket, and nothing in it so far */

    for (size_t i = 0, end; i < text.n; i = end) {
        uint8_t c = text.p[i];

        end = c == '"' ? string_end(text, i) : i + 1;
        if (is_blank(c))
            continue;
        bool closes = c == '}' || c == ']';
        if (closes && depth)
            depth--;
        if (opened != closes)
            add_line(b, depth);
        opened = c == '{' || c == '[';
        depth += opened;
        buf_add(b, text.p + i, end - i);
        if (c == ',')
            add_line(b, depth);
        else if (c == ':')
            buf_add_byte(b, ' ');
    }
}

/* A number's digits from the first to the last that is not 0 (a point may be among them), and the
 * power of ten of the first. */
struct decimal {
    bool negative;
    struct slice digits; /* none: 0 */
    int64_t power;
};

/* False: an exponent beyond all reason. */
static bool decimal_of(struct slice text, struct decimal *out)
{
    size_t minus = text.p[0] == '-', end = minus, point = SIZE_MAX, first = SIZE_MAX, last = 0;
    int64_t exponent = 0;

    for (; end < text.n && (text.p[end] | 0x20) != 'e'; end++) {
        if (text.p[end] == '.') {
            point = end;
        } else if (text.p[end] != '0') {
            first = first == SIZE_MAX ? end : first;
            last = end;
        }
    }
    if (end < text.n) {
        size_t from = end + 1 + (text.p[end + 1] == '+');
        if (!text_to_i64(slice_of(text.p + from, text.n - from), -INT64_C(1000000000000),
                         INT64_C(1000000000000), &exponent))
            return false;
    }
    *out = (struct decimal){.negative = minus && first != SIZE_MAX};
    if (first == SIZE_MAX)
        return true;
    if (point == SIZE_MAX)
        point = end;
    out->digits = slice_of(text.p + first, last + 1 - first);
    out->power = exponent + (int64_t)point - (int64_t)first - (first < point);
    return true;
}

/* By value, exactly: as doubles, two different ids or amounts would look alike. */
static bool number_equal(struct slice a, struct slice b)
{
    struct decimal x, y;
    size_t i = 0, j = 0;

    if (slice_eq(a, b))
        return true;
    if (!decimal_of(a, &x) || !decimal_of(b, &y) || x.negative != y.negative || x.power != y.power)
        return false;
    for (;; i++, j++) {
        i += i < x.digits.n && x.digits.p[i] == '.';
        j += j < y.digits.n && y.digits.p[j] == '.';
        if (i == x.digits.n || j == y.digits.n)
            return i == x.digits.n && j == y.digits.n;
        if (x.digits.p[i] != y.digits.p[j])
            return false;
    }
}

static const struct json *member_of(const struct json *of, struct slice key)
{
    const struct json *found = NULL;

    json_each (v, of) {
        if (slice_eq(v->key, key))
            found = v;
    }
    return found;
}

static bool has_members_of(const struct json *a, const struct json *b, bool compare)
{
    const struct json *guess = a->first; /* members mostly come in the same order */

    json_each (member, b) {
        const struct json *other = guess;

        if (!other || !slice_eq(other->key, member->key))
            other = member_of(a, member->key);
        if (!other || (compare && !json_equal(member, other)))
            return false;
        guess = other->next;
    }
    return true;
}

/* The other way round, too: a repeated key would hide one that is missing. */
static bool object_equal(const struct json *a, const struct json *b)
{
    return has_members_of(a, b, true) && has_members_of(b, a, false);
}

bool json_equal(const struct json *a, const struct json *b)
{
    if (a->kind != b->kind || a->count != b->count)
        return false;
    switch (a->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return a->truth == b->truth;
    case JSON_NUMBER:
        return number_equal(a->text, b->text);
    case JSON_STRING:
        return slice_eq(a->text, b->text);
    case JSON_OBJECT:
        return object_equal(a, b);
    case JSON_ARRAY:
        break;
    }
    const struct json *y = b->first;
    for (const struct json *x = a->first; x; x = x->next, y = y->next) {
        if (!json_equal(x, y))
            return false;
    }
    return true;
}
