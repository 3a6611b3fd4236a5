#include "mapping/convert.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "base/err.h"
#include "base/map.h"
#include "base/text.h"

enum {
    DEPTH_MAX = 100,
    FEW_MEMBERS = 24,  /* compared one with another; more: by a map */
    DIGITS_MAX = 1000, /* of a whole number that was written with an exponent */
};

enum json_kind convert_kind(struct slice json)
{
    switch (json.p[0]) {
    case '"':
        return JSON_STRING;
    case '[':
        return JSON_ARRAY;
    case '{':
        return JSON_OBJECT;
    case 't':
    case 'f':
        return JSON_BOOL;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool convert_is_blank(struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!is_space(text.p[i]))
            return false;
    return true;
}

/* ---- parsing -----------------------------------------------------------------------------------
 */

static bool too_deep(const struct json *v, int depth)
{
    if (v->kind != JSON_ARRAY && v->kind != JSON_OBJECT)
        return false;
    if (depth == DEPTH_MAX)
        return true;
    json_each (child, v) {
        if (too_deep(child, depth + 1))
            return true;
    }
    return false;
}

static void write_unique(struct buf *b, const struct json *v);

/* The last member of the same key; NULL: an earlier one has it, too, and stands for it. */
static const struct json *last_of(const struct json *object, const struct json *member)
{
    const struct json *last = member;
    bool before = true;

    json_each (other, object) {
        if (other == member) {
            before = false;
            continue;
        }
        if (!slice_eq(other->key, member->key))
            continue;
        if (before)
            return NULL;
        last = other;
    }
    return last;
}

static void write_member(struct buf *b, const struct json *v, bool *any)
{
    if (*any)
        buf_add_byte(b, ',');
    *any = true;
    json_add_string(b, v->key);
    buf_add_byte(b, ':');
    write_unique(b, v);
}

static void write_many(struct buf *b, const struct json *object)
{
    struct map members;
    bool any = false;

    map_init(&members);
    json_each (member, object)
        map_put(&members, member->key, NULL)->value = (void *)(uintptr_t)member;
    for (size_t i = 0; i < members.len; i++)
        write_member(b, members.entries[i].value, &any);
    map_fini(&members);
}

static void write_object(struct buf *b, const struct json *object)
{
    bool any = false;

    if (object->count > FEW_MEMBERS) {
        write_many(b, object);
        return;
    }
    json_each (member, object) {
        const struct json *last = last_of(object, member);
        if (last)
            write_member(b, last, &any);
    }
}

static void write_unique(struct buf *b, const struct json *v)
{
    if (v->kind == JSON_OBJECT) {
        buf_add_byte(b, '{');
        write_object(b, v);
        buf_add_byte(b, '}');
    } else if (v->kind == JSON_ARRAY) {
        buf_add_byte(b, '[');
        json_each (child, v) {
            if (child != v->first)
                buf_add_byte(b, ',');
            write_unique(b, child);
        }
        buf_add_byte(b, ']');
    } else {
        json_write(b, v);
    }
}

static bool is_of(const struct json *v, enum mapping_json_kind as)
{
    return as == JSON_OF_ANY || (as == JSON_OF_ARRAY && v->kind == JSON_ARRAY) ||
           (as == JSON_OF_OBJECT && v->kind == JSON_OBJECT);
}

static bool was_too_large(const struct err *err)
{
    const char *end = strrchr(err->text, ':');

    return end && !strcmp(end, ": too large");
}

static enum convert_result done(const struct buf *out)
{
    return out->full ? CONVERT_FULL : CONVERT_DONE;
}

enum convert_result convert_parse(struct slice text, enum mapping_json_kind as, struct arena *mem,
                                  struct buf *out)
{
    struct err err = {0};

    if (convert_is_blank(text))
        return CONVERT_BLANK;
    const struct json *v = json_parse(text, mem, &err);
    if (!v)
        return was_too_large(&err) ? CONVERT_FULL : CONVERT_BAD;
    if (!is_of(v, as) || too_deep(v, 0))
        return CONVERT_BAD;
    write_unique(out, v);
    return done(out);
}

bool convert_text(struct slice json, struct arena *mem, struct slice *out)
{
    struct err err = {0};

    *out = SLICE_NULL;
    switch (convert_kind(json)) {
    case JSON_NUMBER:
    case JSON_BOOL:
        *out = json;
        return true;
    case JSON_STRING:
        break;
    default:
        return true;
    }
    if (!memchr(json.p, '\\', json.n)) {
        *out = slice_of(json.p + 1, json.n - 2);
        return true;
    }
    const struct json *v = json_parse(json, mem, &err);
    if (v)
        *out = v->text;
    return v != NULL;
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* A number as JSON writes one, taken apart. */
struct number {
    bool negative;
    struct slice whole, fraction;
    int64_t exponent;
};

static struct slice take_digits(struct slice *s)
{
    size_t n = 0;

    while (n < s->n && is_digit(s->p[n]))
        n++;
    struct slice digits = slice_of(s->p, n);
    *s = slice_of(s->p + n, s->n - n);
    return digits;
}

static bool take_char(struct slice *s, uint8_t c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = slice_of(s->p + 1, s->n - 1);
    return true;
}

/* `zeros`: leading ones are well. */
static bool read_number(struct slice s, bool zeros, struct number *out)
{
    *out = (struct number){.negative = take_char(&s, '-')};
    out->whole = take_digits(&s);
    if (!out->whole.n || (!zeros && out->whole.n > 1 && out->whole.p[0] == '0'))
        return false;
    if (take_char(&s, '.')) {
        out->fraction = take_digits(&s);
        if (!out->fraction.n)
            return false;
    }
    if (take_char(&s, 'e') || take_char(&s, 'E')) {
        bool minus = take_char(&s, '-');
        if (!minus)
            take_char(&s, '+');
        struct slice digits = take_digits(&s);
        if (!digits.n || !text_to_i64(digits, 0, 1000000, &out->exponent))
            return false;
        out->exponent = minus ? -out->exponent : out->exponent;
    }
    return s.n == 0;
}

/* The digit at a place, counted from the first of `whole`. */
static uint8_t digit_at(const struct number *v, int64_t i)
{
    if (i < 0)
        return '0';
    if ((size_t)i < v->whole.n)
        return v->whole.p[i];
    size_t f = (size_t)i - v->whole.n;
    return f < v->fraction.n ? v->fraction.p[f] : '0';
}

/* Its digits, when what is behind the point is nothing. */
static enum convert_result add_whole(const struct number *v, struct buf *out)
{
    int64_t point = (int64_t)v->whole.n + v->exponent;
    int64_t all = (int64_t)(v->whole.n + v->fraction.n);
    int64_t first = 0;

    for (int64_t i = point < 0 ? 0 : point; i < all; i++)
        if (digit_at(v, i) != '0')
            return CONVERT_BAD;
    while (first < point && digit_at(v, first) == '0' && first < all)
        first++;
    if (first >= point || first == all) {
        buf_add_byte(out, '0');
        return done(out);
    }
    if (v->exponent > 0 && point - first > DIGITS_MAX)
        return CONVERT_BAD;
    if (v->negative)
        buf_add_byte(out, '-');
    for (int64_t i = first; i < point; i++)
        buf_add_byte(out, digit_at(v, i));
    return done(out);
}

bool convert_int(struct slice json, int64_t *out)
{
    struct number v;
    struct buf b;

    if (convert_kind(json) != JSON_NUMBER || !read_number(json, false, &v))
        return false;
    if (text_to_i64(json, INT64_MIN, INT64_MAX, out))
        return true;
    buf_init(&b, 64);
    bool ok =
        add_whole(&v, &b) == CONVERT_DONE && text_to_i64(buf_slice(&b), INT64_MIN, INT64_MAX, out);
    buf_fini(&b);
    return ok;
}

bool convert_equal(struct slice a, struct slice b, struct arena *mem)
{
    struct err err = {0};

    if (slice_eq(a, b))
        return true;
    if (convert_kind(a) != convert_kind(b))
        return false;
    switch (convert_kind(a)) {
    case JSON_NULL:
    case JSON_BOOL:
        return false;
    case JSON_NUMBER: {
        const struct json x = {.kind = JSON_NUMBER, .text = a},
                          y = {.kind = JSON_NUMBER, .text = b};
        return json_equal(&x, &y);
    }
    default:
        break;
    }
    const struct json *x = json_parse(a, mem, &err), *y = json_parse(b, mem, &err);
    return x && y && json_equal(x, y);
}

static double real_of(struct slice json)
{
    char text[400];
    size_t n = json.n < sizeof text - 1 ? json.n : sizeof text - 1;

    memcpy(text, json.p, n);
    text[n] = 0;
    return strtod(text, NULL);
}

bool convert_compare(struct slice a, enum mapping_compare compare, struct slice b,
                     struct arena *mem)
{
    int64_t x, y;
    int order;

    if (compare == COMPARE_EQ)
        return convert_equal(a, b, mem);
    if (convert_kind(a) != JSON_NUMBER || convert_kind(b) != JSON_NUMBER)
        return false;
    if (convert_int(a, &x) && convert_int(b, &y)) {
        order = (x > y) - (x < y);
    } else if (convert_equal(a, b, mem)) {
        order = 0;
    } else {
        double u = real_of(a), v = real_of(b);
        order = (u > v) - (u < v);
    }
    switch (compare) {
    case COMPARE_GE:
        return order >= 0;
    case COMPARE_GT:
        return order > 0;
    case COMPARE_LE:
        return order <= 0;
    case COMPARE_LT:
        return order < 0;
    case COMPARE_EQ:
        break;
    }
    return false;
}

/* ---- other kinds -------------------------------------------------------------------------------
 */

static enum convert_result cast_boolean(struct slice text, struct buf *out)
{
    bool yes = text_same_nocase(text, slice_str("true")) || slice_is(text, "1");

    if (!yes && !text_same_nocase(text, slice_str("false")) && !slice_is(text, "0"))
        return CONVERT_BAD;
    buf_add_str(out, yes ? "true" : "false");
    return done(out);
}

enum convert_result convert_cast(struct slice json, enum mapping_cast to, struct arena *mem,
                                 struct buf *out)
{
    enum json_kind kind = convert_kind(json);
    struct slice text;
    struct number v;

    if (!convert_text(json, mem, &text))
        return CONVERT_FULL;
    if (to == CAST_STRING) {
        json_add_string(out, text.p ? text : json);
        return done(out);
    }
    if (!text.p)
        return CONVERT_BAD;
    if (to == CAST_BOOLEAN)
        return cast_boolean(text, out);
    if (kind == JSON_BOOL)
        return CONVERT_BAD;
    if (to == CAST_NUMBER) {
        if (!read_number(text, false, &v))
            return CONVERT_BAD;
        buf_add_slice(out, text);
        return done(out);
    }
    if (!read_number(text, kind == JSON_STRING, &v) ||
        (kind == JSON_STRING && (v.fraction.n || v.exponent || memchr(text.p, 'e', text.n) ||
                                 memchr(text.p, 'E', text.n))))
        return CONVERT_BAD;
    return add_whole(&v, out);
}

static struct slice trimmed(struct slice s)
{
    while (s.n && is_space(s.p[0]))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

void convert_split(struct slice text, const char *by, bool trim, bool keep_empty, struct buf *out)
{
    size_t by_n = strlen(by);
    bool any = false;

    buf_add_byte(out, '[');
    while (text.n) {
        const uint8_t *at = memmem(text.p, text.n, by, by_n);
        struct slice part = slice_of(text.p, at ? (size_t)(at - text.p) : text.n);
        size_t used = part.n + (at ? by_n : 0);

        text = slice_of(text.p + used, text.n - used);
        part = trim ? trimmed(part) : part;
        for (int i = 0; i < (at && !text.n ? 2 : 1); i++) { /* a text may end with `by` */
            if (i)
                part = slice_of("", 0);
            if (!part.n && !keep_empty)
                continue;
            if (any)
                buf_add_byte(out, ',');
            any = true;
            json_add_string(out, part);
        }
    }
    buf_add_byte(out, ']');
}

/* ---- upper, lower ------------------------------------------------------------------------------
 */

/* Of well-formed UTF-8. */
static size_t take_rune(const uint8_t *p, uint32_t *out)
{
    if (p[0] < 0x80) {
        *out = p[0];
        return 1;
    }
    size_t n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    *out = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        *out = *out << 6 | (p[i] & 0x3fu);
    return n;
}

static void add_rune(struct buf *b, uint32_t c)
{
    if (c < 0x80) {
        buf_add_byte(b, (uint8_t)c);
        return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t heads[] = {0, 0xc0, 0xe0, 0xf0};
    buf_add_byte(b, (uint8_t)(heads[more] | c >> (6 * more)));
    while (more--)
        buf_add_byte(b, (uint8_t)(0x80 | (c >> (6 * more) & 0x3f)));
}

/* The program runs in the C locale; letters are those of C.UTF-8. One for all threads, for ever. */
static locale_t letters(void)
{
    static _Atomic(locale_t) made;
    locale_t have = made, none = (locale_t)0;

    if (have)
        return have;
    locale_t new = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!new)
        new = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
    ensure(new);
    if (__atomic_compare_exchange_n((locale_t *)&made, &none, new, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        return new;
    freelocale(new);
    return none;
}

static bool add_case(struct slice text, bool upper, struct buf *out)
{
    locale_t in = letters();
    struct buf b;
    uint32_t c;

    buf_init(&b, out->max);
    for (size_t i = 0; i < text.n;) {
        i += take_rune(text.p + i, &c);
        c = (uint32_t)(upper ? towupper_l((wint_t)c, in) : towlower_l((wint_t)c, in));
        add_rune(&b, c);
    }
    if (b.full)
        out->full = true;
    json_add_string(out, buf_slice(&b));
    buf_fini(&b);
    return !out->full;
}

enum convert_result convert_case(struct slice json, bool upper, struct arena *mem, struct buf *out)
{
    struct err err = {0};

    if (convert_kind(json) != JSON_STRING && convert_kind(json) != JSON_ARRAY) {
        buf_add_slice(out, json);
        return done(out);
    }
    const struct json *v = json_parse(json, mem, &err);
    if (!v)
        return CONVERT_FULL;
    if (v->kind == JSON_STRING)
        return add_case(v->text, upper, out) ? CONVERT_DONE : CONVERT_FULL;
    buf_add_byte(out, '[');
    json_each (e, v) {
        if (e != v->first)
            buf_add_byte(out, ',');
        if (e->kind == JSON_STRING)
            add_case(e->text, upper, out);
        else
            json_write(out, e);
    }
    buf_add_byte(out, ']');
    return done(out);
}
