#include "model/value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/text.h"

bool value_int(struct slice cell, int64_t *out)
{
    switch (cell.n) {
    case 1:
        *out = (int8_t)cell.p[0];
        return true;
    case 2:
        *out = (int16_t)load_u16(cell.p);
        return true;
    case 4:
        *out = (int32_t)load_u32(cell.p);
        return true;
    case 8:
        *out = (int64_t)load_u64(cell.p);
        return true;
    default:
        return false;
    }
}

bool value_double(struct slice cell, double *out)
{
    if (cell.n != 8)
        return false;
    uint64_t bits = load_u64(cell.p);
    memcpy(out, &bits, sizeof *out);
    return true;
}

bool value_float(struct slice cell, float *out)
{
    if (cell.n != 4)
        return false;
    uint32_t bits = load_u32(cell.p);
    memcpy(out, &bits, sizeof *out);
    return true;
}

bool value_bool(struct slice cell, bool *out)
{
    if (cell.n != 1)
        return false;
    *out = cell.p[0] != 0;
    return true;
}

bool value_date(struct slice cell, int64_t *days)
{
    if (cell.n != 4)
        return false;
    *days = (int64_t)load_u32(cell.p) - (INT64_C(1) << 31);
    return true;
}

bool value_decimal(struct slice cell, int32_t *scale, struct slice *unscaled)
{
    if (cell.n < 5)
        return false;
    *scale = (int32_t)load_u32(cell.p);
    *unscaled = slice_of(cell.p + 4, cell.n - 4);
    return true;
}

bool take_uvint(struct slice *in, uint64_t *out)
{
    struct slice s;

    if (!in->n)
        return false;
    /* The first byte's leading ones say how many bytes follow. */
    unsigned more = in->p[0] == 0xff ? 8 : (unsigned)__builtin_clz(~((uint32_t)in->p[0] << 24));
    if (!slice_take(in, more + 1, &s))
        return false;
    uint64_t v = more >= 7 ? 0 : s.p[0] & (0xffu >> (more + 1));
    for (unsigned i = 1; i <= more; i++)
        v = v << 8 | s.p[i];
    *out = v;
    return true;
}

bool take_vint(struct slice *in, int64_t *out)
{
    uint64_t v;

    if (!take_uvint(in, &v))
        return false;
    *out = (int64_t)(v >> 1 ^ (0 - (v & 1)));
    return true;
}

bool value_duration(struct slice cell, int64_t *months, int64_t *days, int64_t *nanos)
{
    if (!take_vint(&cell, months) || !take_vint(&cell, days) || !take_vint(&cell, nanos) || cell.n)
        return false;
    if (*months != (int32_t)*months || *days != (int32_t)*days)
        return false;
    bool negative = *months < 0 || *days < 0 || *nanos < 0;
    bool positive = *months > 0 || *days > 0 || *nanos > 0;
    return !(negative && positive);
}

bool value_open(const struct type *t, struct slice cell, struct value_cursor *out)
{
    struct value_cursor c = {.type = t, .rest = cell, .index = UINT32_MAX};
    int32_t n;

    switch (t->kind) {
    case TYPE_LIST:
    case TYPE_SET:
    case TYPE_MAP:
        /* Each element has at least a length: a count that can't be is refused before anyone loops
         * over it. */
        if (!take_i32(&c.rest, &n) || n < 0 ||
            (uint64_t)n * (t->kind == TYPE_MAP ? 8 : 4) > c.rest.n)
            return false;
        c.left = t->kind == TYPE_MAP ? (uint32_t)n * 2 : (uint32_t)n;
        break;
    case TYPE_VECTOR: {
        uint64_t fixed = type_fixed_bytes(t->args[0]);
        c.left = t->dimension;
        if (fixed ? fixed * c.left != cell.n : c.left > cell.n)
            return false;
        break;
    }
    case TYPE_TUPLE:
    case TYPE_UDT:
        c.left = t->arg_count;
        break;
    default:
        return false;
    }
    *out = c;
    return true;
}

static bool take_element(struct value_cursor *c, const struct type *element_type,
                         struct slice *element)
{
    const struct type *t = c->type;
    int32_t n;
    uint64_t length;

    if (__builtin_expect(t->kind == TYPE_VECTOR, 0)) {
        uint32_t fixed = type_fixed_bytes(element_type);
        if (fixed)
            return slice_take(&c->rest, fixed, element);
        return take_uvint(&c->rest, &length) && slice_take(&c->rest, length, element);
    }
    if (!c->rest.n && (t->kind == TYPE_TUPLE || t->kind == TYPE_UDT)) {
        *element = SLICE_NULL; /* written before the field was added */
        return true;
    }
    if (!take_i32(&c->rest, &n))
        return false;
    if (n < 0) {
        *element = SLICE_NULL;
        return true;
    }
    return slice_take(&c->rest, (size_t)n, element);
}

bool value_next(struct value_cursor *c, const struct type **type, struct slice *element, bool *bad)
{
    const struct type *t = c->type;

    if (!c->left) {
        *bad = c->rest.n != 0; /* more bytes than elements: not this type */
        return false;
    }
    c->index++;
    if (t->kind == TYPE_TUPLE || t->kind == TYPE_UDT)
        *type = t->args[c->index];
    else
        *type = t->args[t->kind == TYPE_MAP ? c->index & 1 : 0];
    *bad = !take_element(c, *type, element);
    c->left--;
    return !*bad;
}

/* ---- text to cells ----------------------------------------------------------------------------
 */

enum { KEY_MAX_BYTES = 65535, NUMBER_MAX_DIGITS = 10000 };

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(uint8_t c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool text_uuid(struct slice s, uint8_t out[16])
{
    size_t n = 0;

    if (s.n != 36)
        return false;
    for (size_t i = 0; i < 36;) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (s.p[i++] != '-')
                return false;
            continue;
        }
        int high = hex_digit(s.p[i]);
        int low = hex_digit(s.p[i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[n++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    return true;
}

/* Between `min` and `max` digits off the front. */
static bool take_digits(struct slice *s, size_t min, size_t max, int64_t *out)
{
    size_t n = 0;
    int64_t v = 0;

    while (n < s->n && n < max && is_digit(s->p[n]))
        v = v * 10 + (s->p[n++] - '0');
    *s = slice_of(s->p + n, s->n - n);
    *out = v;
    return n >= min;
}

static bool take_char(struct slice *s, uint8_t c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = slice_of(s->p + 1, s->n - 1);
    return true;
}

/* Days from 1970-01-01 to a date of the proleptic Gregorian calendar; false: there is no such day.
 */
static bool days_of(int64_t year, int64_t month, int64_t day, int64_t *out)
{
    static const uint8_t month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    if (month < 1 || month > 12 || day < 1 || day > month_days[month - 1] ||
        (month == 2 && day == 29 && !leap))
        return false;
    /* Years that begin in March put the leap day last. */
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    *out = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return true;
}

/* [+-]yyyy-MM-dd off the front. */
static bool take_date(struct slice *s, int64_t *days)
{
    bool negative = take_char(s, '-');
    int64_t year;
    int64_t month;
    int64_t day;

    if (!negative)
        take_char(s, '+');
    return take_digits(s, 4, 9, &year) && take_char(s, '-') && take_digits(s, 2, 2, &month) &&
           take_char(s, '-') && take_digits(s, 2, 2, &day) &&
           days_of(negative ? -year : year, month, day, days);
}

/* HH:mm[:ss[.fraction]] off the front, in ns of the day. */
static bool take_time(struct slice *s, int64_t *nanos)
{
    int64_t hour;
    int64_t minute;
    int64_t second = 0;
    int64_t fraction = 0;

    if (!take_digits(s, 2, 2, &hour) || !take_char(s, ':') || !take_digits(s, 2, 2, &minute))
        return false;
    if (take_char(s, ':') && !take_digits(s, 2, 2, &second))
        return false;
    if (take_char(s, '.')) {
        size_t before = s->n;
        if (!take_digits(s, 1, 9, &fraction))
            return false;
        for (size_t n = before - s->n; n < 9; n++)
            fraction *= 10;
    }
    *nanos = ((hour * 60 + minute) * 60 + second) * 1000000000 + fraction;
    return hour < 24 && minute < 60 && second < 60;
}

/* Z, +hh:mm, -hhmm, or nothing (UTC). */
static bool take_zone(struct slice *s, int64_t *minutes)
{
    int64_t hour;
    int64_t minute;

    *minutes = 0;
    if (!s->n || take_char(s, 'Z') || take_char(s, 'z'))
        return true;
    bool west = take_char(s, '-');
    if (!west && !take_char(s, '+'))
        return false;
    if (!take_digits(s, 2, 2, &hour))
        return false;
    take_char(s, ':');
    if (!take_digits(s, 2, 2, &minute) || hour > 18 || minute > 59)
        return false;
    *minutes = (west ? -1 : 1) * (hour * 60 + minute);
    return true;
}

static bool text_timestamp(struct slice s, int64_t *ms)
{
    int64_t days;
    int64_t nanos = 0;
    int64_t zone = 0;

    if (text_to_i64(s, INT64_MIN, INT64_MAX, ms))
        return true;
    if (!take_date(&s, &days))
        return false;
    if (take_char(&s, 'T') || take_char(&s, ' ')) {
        if (!take_time(&s, &nanos) || nanos % 1000000 || !take_zone(&s, &zone))
            return false;
    }
    __int128 all = (__int128)days * 86400000 + nanos / 1000000 - zone * 60000;
    *ms = (int64_t)all;
    return s.n == 0 && all == *ms;
}

/* A whole number of decimal digits as the shortest two's complement, at most NUMBER_MAX_DIGITS. */
static bool add_varint(struct buf *b, bool negative, const uint8_t *digits, size_t n)
{
    uint32_t limbs[NUMBER_MAX_DIGITS * 10 / 96 + 2]; /* log2(10) < 10 / 3, 32 bits each */
    size_t count = 0;

    if (!n || n > NUMBER_MAX_DIGITS)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint64_t carry = (uint64_t)(digits[i] - '0');
        for (size_t k = 0; k < count; k++) {
            carry += (uint64_t)limbs[k] * 10;
            limbs[k] = (uint32_t)carry;
            carry >>= 32;
        }
        if (carry)
            limbs[count++] = (uint32_t)carry;
    }
    limbs[count++] = 0; /* room for the sign */
    if (negative) {
        uint64_t carry = 1;
        for (size_t k = 0; k < count; k++) {
            carry += ~limbs[k];
            limbs[k] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    size_t from =
        count * 4; /* bytes, most significant first, without those that only repeat the sign */
    while (from > 1) {
        uint8_t top = (uint8_t)(limbs[(from - 1) / 4] >> ((from - 1) % 4 * 8));
        uint8_t next = (uint8_t)(limbs[(from - 2) / 4] >> ((from - 2) % 4 * 8));
        if (!(top == 0 && next < 0x80) && !(top == 0xff && next >= 0x80))
            break;
        from--;
    }
    while (from--)
        buf_add_byte(b, (uint8_t)(limbs[from / 4] >> (from % 4 * 8)));
    return true;
}

static bool text_varint(struct slice s, struct buf *b)
{
    bool negative = take_char(&s, '-');

    if (!negative)
        take_char(&s, '+');
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]))
            return false;
    }
    return add_varint(b, negative, s.p, s.n);
}

/* [+-]digits[.digits][e[+-]digits] */
static bool text_decimal(struct slice s, struct buf *b)
{
    uint8_t digits[NUMBER_MAX_DIGITS];
    size_t n = 0;
    int64_t fraction = 0;
    int64_t exponent = 0;
    bool point = false;
    bool negative = take_char(&s, '-');

    if (!negative)
        take_char(&s, '+');
    while (s.n && (is_digit(s.p[0]) || (s.p[0] == '.' && !point))) {
        if (s.p[0] == '.') {
            point = true;
        } else {
            if (n == sizeof digits)
                return false;
            digits[n++] = s.p[0];
            fraction += point;
        }
        s = slice_of(s.p + 1, s.n - 1);
    }
    if (take_char(&s, 'e') || take_char(&s, 'E')) {
        bool plus = take_char(&s, '+');
        if ((plus && s.n && !is_digit(s.p[0])) ||
            !text_to_i64(s, -(INT64_C(1) << 33), INT64_C(1) << 33, &exponent))
            return false;
        s.n = 0;
    }
    int64_t scale = fraction - exponent;
    if (s.n || scale != (int32_t)scale)
        return false;
    buf_add_u32(b, (uint32_t)(int32_t)scale);
    return add_varint(b, negative, digits, n);
}

static bool text_double(struct slice s, double *out)
{
    char text[64];
    char *end;

    if (slice_is(s, "NaN") || slice_is(s, "Infinity") || slice_is(s, "-Infinity")) {
        *out = s.p[0] == 'N' ? (double)NAN : s.p[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    if (!s.n || s.n >= sizeof text)
        return false;
    for (size_t i = 0; i < s.n; i++) { /* what else strtod() takes: blanks, hex, "inf" */
        if (!is_digit(s.p[i]) && !memchr("+-.eE", s.p[i], 5))
            return false;
    }
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    *out = strtod(text, &end);
    return *end == '\0' && !isinf(*out);
}

static bool text_float(struct slice s, float *out)
{
    double d;
    char text[64];

    if (!text_double(s, &d))
        return false;
    *out = (float)d;
    if (isinf(d) || isnan(d))
        return true;
    memcpy(text, s.p, s.n); /* rounded once, not twice */
    text[s.n] = '\0';
    *out = strtof(text, NULL);
    return !isinf(*out);
}

static bool text_inet(struct slice s, struct buf *b)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t address[16];

    if (!s.n || s.n >= sizeof text || memchr(s.p, 0, s.n))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    if (inet_pton(AF_INET, text, address) == 1) {
        buf_add(b, address, 4);
        return true;
    }
    if (inet_pton(AF_INET6, text, address) != 1)
        return false;
    /* Cassandra keeps ::ffff:1.2.3.4 as 4 bytes. */
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(address, mapped, sizeof mapped) == 0)
        buf_add(b, address + 12, 4);
    else
        buf_add(b, address, 16);
    return true;
}

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool text_base64(struct slice s, struct buf *b)
{
    if (s.n % 4)
        return false;
    for (size_t i = 0; i < s.n; i += 4) {
        uint32_t v = 0;
        int pad = 0;
        for (size_t k = 0; k < 4; k++) {
            uint8_t c = s.p[i + k];
            int digit = base64_digit(c);
            if (c == '=' && i + 4 == s.n && k >= 2) {
                digit = 0;
                pad++;
            } else if (digit < 0 || pad) {
                return false;
            }
            v = v << 6 | (uint32_t)digit;
        }
        if (pad && (v & (pad == 1 ? 0xffu : 0xffffu))) /* bits that no byte has: not ours */
            return false;
        buf_add(b, (uint8_t[]){(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v},
                (size_t)(3 - pad));
    }
    return true;
}

/* Text that is both (0x and hex digits, a multiple of four long) is hex. */
static bool text_blob(struct slice s, struct buf *b)
{
    bool hex = s.n >= 2 && s.n % 2 == 0 && s.p[0] == '0' && s.p[1] == 'x';

    for (size_t i = 2; hex && i < s.n; i++)
        hex = hex_digit(s.p[i]) >= 0;
    if (!hex)
        return text_base64(s, b);
    for (size_t i = 2; i < s.n; i += 2)
        buf_add_byte(b, (uint8_t)(hex_digit(s.p[i]) << 4 | hex_digit(s.p[i + 1])));
    return true;
}

static bool text_ascii(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] >= 0x80)
            return false;
    }
    return true;
}

/* Appends the cell and yields NULL, or says what was wanted. */
static const char *cell_from_text(const struct type *t, struct slice s, struct buf *b)
{
    static const struct {
        enum type_kind kind;
        int bytes;
        int64_t min, max;
        const char *wanted;
    } ints[] = {
        {TYPE_TINYINT, 1, INT8_MIN, INT8_MAX, "a tinyint (-128 to 127)"},
        {TYPE_SMALLINT, 2, INT16_MIN, INT16_MAX, "a smallint (-32768 to 32767)"},
        {TYPE_INT, 4, INT32_MIN, INT32_MAX, "an int (-2147483648 to 2147483647)"},
        {TYPE_BIGINT, 8, INT64_MIN, INT64_MAX, "a bigint (a whole number of 64 bits)"},
        {TYPE_COUNTER, 8, INT64_MIN, INT64_MAX, "a counter (a whole number of 64 bits)"},
    };
    uint8_t uuid[16];
    int64_t v;
    uint64_t bits = 0;
    double d;
    float f;

    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        if (ints[i].kind != t->kind)
            continue;
        if (!text_to_i64(s, ints[i].min, ints[i].max, &v))
            return ints[i].wanted;
        for (int k = ints[i].bytes - 1; k >= 0; k--)
            buf_add_byte(b, (uint8_t)((uint64_t)v >> (k * 8)));
        return NULL;
    }
    switch (t->kind) {
    case TYPE_TEXT:
        if (!utf8_valid(s))
            return "text in UTF-8";
        buf_add_slice(b, s);
        return NULL;
    case TYPE_ASCII:
        if (!text_ascii(s))
            return "ASCII text";
        buf_add_slice(b, s);
        return NULL;
    case TYPE_UUID:
    case TYPE_TIMEUUID:
        if (!text_uuid(s, uuid))
            return "a uuid (8-4-4-4-12 hex digits)";
        if (t->kind == TYPE_TIMEUUID && uuid[6] >> 4 != 1)
            return "a timeuuid (a uuid of version 1)";
        buf_add(b, uuid, sizeof uuid);
        return NULL;
    case TYPE_BOOLEAN:
        if (!text_same_nocase(s, slice_str("true")) && !text_same_nocase(s, slice_str("false")))
            return "true or false";
        buf_add_byte(b, s.n == 4);
        return NULL;
    case TYPE_TIMESTAMP:
        if (!text_timestamp(s, &v))
            return "a timestamp (2024-02-29T12:34:56.789Z, or ms since 1970)";
        buf_add_u64(b, (uint64_t)v);
        return NULL;
    case TYPE_DATE:
        if (!take_date(&s, &v) || s.n || v < INT32_MIN || v > INT32_MAX)
            return "a date (2024-02-29)";
        buf_add_u32(b, (uint32_t)(v + (INT64_C(1) << 31)));
        return NULL;
    case TYPE_TIME:
        if (!take_time(&s, &v) || s.n)
            return "a time (12:34:56.123456789)";
        buf_add_u64(b, (uint64_t)v);
        return NULL;
    case TYPE_INET:
        return text_inet(s, b) ? NULL : "an IP address";
    case TYPE_VARINT:
        return text_varint(s, b) ? NULL : "a whole number (of at most 10000 digits)";
    case TYPE_DECIMAL:
        return text_decimal(s, b) ? NULL : "a decimal number (of at most 10000 digits)";
    case TYPE_DOUBLE:
        if (!text_double(s, &d))
            return "a number";
        memcpy(&bits, &d, sizeof d);
        buf_add_u64(b, bits);
        return NULL;
    case TYPE_FLOAT:
        if (!text_float(s, &f))
            return "a number that a float can hold";
        memcpy(&bits, &f, sizeof f);
        buf_add_u32(b, (uint32_t)bits);
        return NULL;
    case TYPE_BLOB:
        return text_blob(s, b) ? NULL : "bytes (0x and hex digits, or base64)";
    default:
        return "a value that can be given as text (this type can't)";
    }
}

bool value_from_text(const struct type *t, struct slice text, struct buf *b, struct err *err)
{
    size_t start = b->len;
    const char *wanted = cell_from_text(t, text, b);

    if (!wanted && b->len - start > KEY_MAX_BYTES)
        wanted = "a key of at most 65535 bytes";
    if (!wanted && b->full)
        wanted = "a shorter value";
    if (!wanted)
        return true;
    buf_cut(b, start);
    return err_set(err, ERR_REJECT, "not what the column holds: wanted %s", wanted);
}
