#include "mapping/json.h"

#include <arpa/inet.h>
#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/real.h"
#include "base/text.h"
#include "model/value.h"

enum {
    JSON_DEPTH_MAX = 64,
    PLAIN_DIGITS_MAX = 40,    /* of a decimal; more are written scientific */
    VARINT_BYTES_MAX = 16384, /* converting takes time in the square of it */
    STRING_SLACK = 32,        /* one escape, the quotes, and what is copied too much */
    QUOTED_ROOM = 48,         /* any date, time, timestamp, uuid with quotes */
    PLAIN_DOUBLE_DIGITS = 15, /* in front of the point: more, but for 0s, with an exponent */
    PLAIN_FLOAT_DIGITS = 6,
    REAL_ROOM = 48, /* any float or double, and what is copied too much */
};

/* JSON: strings in quotes. Plain: for ids and keys of objects. */
enum form { FORM_JSON, FORM_PLAIN };

/* What is rare, or needs room of its own, stays out of the way of the rest. */
#define APART __attribute__((noinline))

static bool write_value(struct buf *out, const struct type *t, struct slice cell, enum form form,
                        int depth, struct json_counts *counts);

static APART bool reject(struct buf *out, size_t start, const struct type *t, struct slice cell,
                         struct err *err)
{
    struct buf name;

    buf_cut(out, start);
    buf_init(&name, 160);
    type_add_text(&name, t);
    err_set(err, ERR_REJECT, "%zu bytes that are no %.*s%s", cell.n, (int)name.len,
            (const char *)name.p, name.full ? "..." : "");
    buf_fini(&name);
    return false;
}

uint64_t json_counts_sum(const struct json_counts *c)
{
    return c->nan_to_null + c->bad_utf8 + c->year_out_of_range + c->bad_json;
}

void json_counts_add(struct json_counts *to, const struct json_counts *more)
{
    to->nan_to_null += more->nan_to_null;
    to->bad_utf8 += more->bad_utf8;
    to->year_out_of_range += more->year_out_of_range;
    to->bad_json += more->bad_json;
    to->lookup_missing += more->lookup_missing;
}

bool json_cell(struct buf *out, const struct type *t, struct slice cell, struct json_counts *counts,
               struct err *err)
{
    size_t start = out->len;

    return out->full || write_value(out, t, cell, FORM_JSON, 0, counts) ||
           reject(out, start, t, cell, err);
}

bool json_cell_text(struct buf *out, const struct type *t, struct slice cell, struct err *err)
{
    struct json_counts counts = {0};
    size_t start = out->len;

    return out->full || (write_value(out, t, cell, FORM_PLAIN, 0, &counts) && !counts.bad_utf8) ||
           reject(out, start, t, cell, err);
}

/* ---- strings ----------------------------------------------------------------------------------
 */

/* Bytes of w that are control characters, a quote, a backslash, or (unless `valid`) not ASCII:
 * their top bits. A borrow can mark a byte too much above the first one, never one too few. */
static inline uint64_t special_bytes(uint64_t w, bool valid)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t quote = w ^ ones * '"';
    uint64_t slash = w ^ ones * '\\';

    return ((w - ones * 0x20) | (quote - ones) | (slash - ones) | w) & tops &
           (valid ? ~w : UINT64_MAX);
}

/* Length of the well-formed UTF-8 sequence at p (n bytes left, the first not ASCII), or 0. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];

    if (c < 0xc2 || c > 0xf4)
        return 0;
    if (c < 0xe0)
        return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    size_t length = c < 0xf0 ? 3 : 4;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;  /* no overlong forms */
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf; /* no surrogates, <= U+10FFFF */
    if (n < length || p[1] < low || p[1] > high || (p[2] & 0xc0) != 0x80)
        return 0;
    return length == 3 || (p[3] & 0xc0) == 0x80 ? length : 0;
}

/* The escape of one byte into `to` (6 bytes of room). */
static size_t escape(uint8_t *to, uint8_t c)
{
    static const char short_forms[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                       ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};

    to[0] = '\\';
    if (c < sizeof short_forms && short_forms[c]) {
        to[1] = (uint8_t)short_forms[c];
        return 2;
    }
    memcpy(to + 1, "u00", 3);
    to[4] = (uint8_t)('0' + (c >> 4));
    to[5] = (uint8_t)"0123456789abcdef"[c & 15];
    return 6;
}

#ifdef __SSE2__
/* Yields which of them do not stand for themselves, a bit each. */
static inline unsigned copy_16(uint8_t *to, const uint8_t *p, bool valid)
{
    __m128i v = _mm_loadu_si128((const __m128i_u *)p);

    _mm_storeu_si128((__m128i_u *)to, v);
    /* As signed bytes, those that are not ASCII are below the space, too. */
    __m128i control = valid ? _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v)
                            : _mm_cmplt_epi8(v, _mm_set1_epi8(' '));
    __m128i special = _mm_or_si128(control, _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                                                         _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));
    return (unsigned)_mm_movemask_epi8(special);
}
#endif

static inline uint64_t copy_8(uint8_t *to, const uint8_t *p, bool valid)
{
    uint64_t w;

    memcpy(&w, p, 8);
    memcpy(to, &w, 8);
    return special_bytes(w, valid);
}

static inline size_t first_of(uint64_t special)
{
    return (size_t)__builtin_ctzll(special) / 8;
}

/* copy_plain() of 1 to 7 bytes: by pieces that may overlap. */
static inline size_t copy_few(uint8_t *to, const uint8_t *p, size_t n, bool valid)
{
    uint32_t front, back;
    uint64_t special;

    if (n >= 4) {
        memcpy(&front, p, 4);
        memcpy(&back, p + n - 4, 4);
        memcpy(to, &front, 4);
        memcpy(to + n - 4, &back, 4);
        special = special_bytes(front | (uint64_t)back << 32, valid);
        if (!special)
            return n;
        return first_of(special) < 4 ? first_of(special) : n - 8 + first_of(special);
    }
    for (size_t i = 0; i < n; i++) {
        to[i] = p[i];
        if (special_bytes(UINT64_C(0x2020202020202000) | p[i], valid))
            return i;
    }
    return n;
}

/* Copies n bytes up to the first that does not stand for itself, and yields how many; some of what
 * is behind it is copied, too. valid: what is not ASCII is known to be UTF-8. */
static inline size_t copy_plain(uint8_t *to, const uint8_t *p, size_t n, bool valid)
{
    size_t i = 0;
    uint64_t special;

#ifdef __SSE2__
    unsigned found;

    for (; n - i >= 16; i += 16)
        if ((found = copy_16(to + i, p + i, valid)) != 0)
            return i + (size_t)__builtin_ctz(found);
    if (n >= 16) { /* the end, and with it some once more */
        found = i < n ? copy_16(to + n - 16, p + n - 16, valid) : 0;
        return found ? n - 16 + (size_t)__builtin_ctz(found) : n;
    }
#endif
    for (; n - i >= 8; i += 8)
        if ((special = copy_8(to + i, p + i, valid)) != 0)
            return i + first_of(special);
    if (i == n)
        return n;
    if (n < 8)
        return copy_few(to, p, n, valid);
    special = copy_8(to + n - 8, p + n - 8, valid);
    return special ? n - 8 + first_of(special) : n;
}

/* Copies well-formed sequences that are not ASCII, as many as there are; yields their bytes. */
static size_t copy_utf8(uint8_t *to, const uint8_t *p, size_t n)
{
    size_t i = 0;
    size_t length;

    while (i < n && p[i] >= 0x80 && (length = utf8_length(p + i, n - i)) != 0)
        for (size_t end = i + length; i < end; i++)
            to[i] = p[i];
    return i;
}

/*
 * What follows the first byte that does not stand for itself. Room is asked for once more behind
 * each of them. All behind the first byte that is not ASCII is checked at once, which is much
 * faster than by sequences; those are looked at where it is not UTF-8. Yields where it ends.
 */
static APART uint8_t *write_rest(struct buf *out, uint8_t *to, const uint8_t *p, const uint8_t *end,
                                 struct json_counts *counts)
{
    enum { NOT_SEEN, VALID, NOT_VALID } beyond_ascii = NOT_SEEN;
    bool bad = false;

    while (p != end) {
        if (*p >= 0x80 && beyond_ascii == NOT_SEEN)
            beyond_ascii = utf8_valid(slice_of(p, (size_t)(end - p))) ? VALID : NOT_VALID;
        size_t left = (size_t)(end - p);
        size_t n =
            beyond_ascii == VALID ? copy_plain(to, p, left, true) : copy_plain(to, p, left, false);
        p += n;
        to += n;
        if (n)
            continue;
        n = copy_utf8(to, p, left);
        p += n;
        to += n;
        if (n)
            continue;
        uint8_t c = *p++;
        if (c < 0x80) {
            to += escape(to, c);
        } else {
            /* One U+FFFD for a sequence that is cut off: what belongs to it is skipped. */
            size_t most = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
            memcpy(to, "\xef\xbf\xbd", 3);
            to += 3;
            for (size_t k = 1; k < most && p < end && (*p & 0xc0) == 0x80; k++)
                p++;
            bad = true;
        }
        out->len = (size_t)(to - out->p);
        to = buf_room(out, (size_t)(end - p) + STRING_SLACK);
        if (!to)
            return NULL;
    }
    counts->bad_utf8 += bad;
    return to;
}

/* A string in quotes. Room is asked for as if every byte stood for itself, which most do. */
static inline void write_string(struct buf *out, struct slice s, struct json_counts *counts)
{
    uint8_t *to = buf_room(out, s.n + STRING_SLACK);

    if (!to)
        return;
    *to++ = '"';
    if (s.n) { /* NULL + 0 is not C */
        size_t n = copy_plain(to, s.p, s.n, false);
        to += n;
        if (n < s.n)
            to = write_rest(out, to, s.p + n, s.p + s.n, counts);
    }
    if (!to)
        return;
    *to++ = '"';
    out->len = (size_t)(to - out->p);
}

/* Short ASCII without anything to escape, in quotes or not. */
static void write_plain(struct buf *out, const void *p, size_t n, enum form form)
{
    uint8_t *to = buf_room(out, n + 2);

    if (!to)
        return;
    size_t at = 0;
    if (form == FORM_JSON)
        to[at++] = '"';
    memcpy(to + at, p, n);
    at += n;
    if (form == FORM_JSON)
        to[at++] = '"';
    out->len += at;
}

static inline bool write_text(struct buf *out, struct slice cell, enum form form,
                              struct json_counts *counts)
{
    if (form == FORM_JSON) {
        write_string(out, cell, counts);
        return true;
    }
    counts->bad_utf8 += !utf8_valid(cell);
    buf_add_slice(out, cell);
    return true;
}

static APART void write_base64(struct buf *out, struct slice cell, enum form form)
{
    if (form == FORM_JSON)
        buf_add_byte(out, '"');
    text_add_base64(out, cell);
    if (form == FORM_JSON)
        buf_add_byte(out, '"');
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233"
                            "34353637383940414243444546474849505152535455565758596061626364656667"
                            "6869707172737475767778798081828384858687888990919293949596979899";

static inline uint8_t *put_2(uint8_t *to, uint32_t v)
{
    memcpy(to, pairs + v * 2, 2);
    return to + 2;
}

static inline unsigned digits_of(uint64_t v)
{
    static const uint64_t powers[] = {
        /* clang-format off */
        0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
        100000000000, 1000000000000, 10000000000000, 100000000000000, 1000000000000000,
        10000000000000000, 100000000000000000, 1000000000000000000, 10000000000000000000u,
        /* clang-format on */
    };
    /* Bits x log10(2), which is right or one too few. */
    unsigned n = (64 - (unsigned)__builtin_clzll(v | 1)) * 1233 >> 12;

    return n + (v >= powers[n]);
}

static inline uint8_t *put_u64(uint8_t *to, uint64_t v)
{
    unsigned n = digits_of(v);
    uint8_t *at = to + n;

    for (; v >= 100; v /= 100) {
        at -= 2;
        memcpy(at, pairs + v % 100 * 2, 2);
    }
    if (v >= 10)
        memcpy(at - 2, pairs + v * 2, 2);
    else
        at[-1] = (uint8_t)('0' + v);
    return to + n;
}

static uint8_t *put_padded(uint8_t *to, uint64_t v, int width)
{
    for (int i = width; i--; v /= 10)
        to[i] = (uint8_t)('0' + v % 10);
    return to + width;
}

static uint64_t magnitude(int64_t v)
{
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

static inline bool write_int(struct buf *out, struct slice cell, size_t width)
{
    int64_t v;

    if (cell.n != width || !value_int(cell, &v))
        return false;
    uint8_t *to = buf_room(out, 20);
    if (!to)
        return true;
    uint8_t *at = to;
    if (v < 0)
        *at++ = '-';
    at = put_u64(at, magnitude(v));
    out->len += (size_t)(at - to);
    return true;
}

/* As %g does, but with all digits that are needed: from 0.00001 to some 15 digits plainly, else
 * with an exponent; always with a point or an exponent. REAL_ROOM bytes of room: digits are copied
 * with what lies behind them. */
static uint8_t *put_real(uint8_t *to, double v, bool narrow)
{
    enum { COPIED = 20 };
    struct real_decimal d = real_shortest(v, narrow);
    uint8_t digits[2 * COPIED] = {0};
    int n = (int)(put_u64(digits, d.digits) - digits);
    int whole = n + d.exponent; /* digits in front of the point; may be negative */
    int plain_max = narrow ? PLAIN_FLOAT_DIGITS : PLAIN_DOUBLE_DIGITS;

    if (whole > (n > plain_max ? n : plain_max) || whole < -4) {
        uint32_t power = (uint32_t)(whole > 0 ? whole - 1 : 1 - whole);
        *to++ = digits[0];
        *to = '.';
        memcpy(to + 1, digits + 1, COPIED);
        to += n > 1 ? n : 0;
        *to++ = 'e';
        *to++ = whole > 0 ? '+' : '-';
        if (power >= 100)
            *to++ = (uint8_t)('0' + power / 100);
        return put_2(to, power % 100);
    }
    if (whole <= 0) {
        memcpy(to, "0.0000", 6);
        memcpy(to + 2 - whole, digits, COPIED);
        return to + 2 - whole + n;
    }
    memcpy(to, digits, COPIED);
    if (whole >= n) {
        memset(to + n, '0', (size_t)(whole - n));
        memcpy(to + whole, ".0", 2);
        return to + whole + 2;
    }
    to[whole] = '.';
    memcpy(to + whole + 1, digits + whole, COPIED);
    return to + n + 1;
}

static APART void write_real(struct buf *out, double v, bool narrow, enum form form,
                             struct json_counts *counts)
{
    uint8_t *to = buf_room(out, REAL_ROOM);

    if (!to)
        return;
    if (!isfinite(v)) {
        if (form == FORM_PLAIN) {
            buf_add_str(out, isnan(v) ? "NaN" : v < 0 ? "-Infinity" : "Infinity");
            return;
        }
        counts->nan_to_null++;
        buf_add_str(out, "null");
        return;
    }
    uint8_t *at = to;
    if (signbit(v)) {
        *at++ = '-';
        v = -v;
    }
    /* Up to here every whole number is a value of its own. */
    if (v <= (narrow ? 0x1p24 : 0x1p53) && v == (double)(uint64_t)v) {
        at = put_u64(at, (uint64_t)v);
        memcpy(at, ".0", 2);
        at += 2;
    } else {
        at = put_real(at, v, narrow);
    }
    out->len += (size_t)(at - to);
}

/* Digits of a two's complement number of any length; `to` has room for the bytes x 2.41 + 20.
 * Yields the digits behind the sign. */
static size_t varint_digits(uint8_t *to, struct slice s, bool *negative)
{
    *negative = s.p[0] >= 0x80;
    if (s.n <= 8) {
        uint64_t v = *negative ? UINT64_MAX : 0;
        for (size_t i = 0; i < s.n; i++)
            v = v << 8 | s.p[i];
        return (size_t)(put_u64(to, *negative ? 0 - v : v) - to);
    }
    /* Magnitude in limbs, least significant first, then divided by 10^9 again and again. */
    enum { LIMBS = VARINT_BYTES_MAX / 4 + 2, CHUNK_DIGITS = 9, CHUNK = 1000000000 };
    uint32_t limbs[LIMBS];
    size_t count = (s.n + 3) / 4;
    uint64_t carry = *negative;
    for (size_t k = 0; k < count; k++) {
        uint32_t limb = 0;
        for (size_t b = 4; b--;) {
            size_t from_end = k * 4 + b;
            limb = limb << 8 | (from_end < s.n ? s.p[s.n - 1 - from_end] : *negative ? 0xffu : 0);
        }
        carry += *negative ? ~limb : limb;
        limbs[k] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry)
        limbs[count++] = (uint32_t)carry;

    uint8_t digits[VARINT_BYTES_MAX * 5 / 2 + 32];
    size_t at = sizeof digits;
    while (count && !limbs[count - 1])
        count--;
    while (count) {
        uint64_t rest = 0;
        for (size_t k = count; k--;) {
            rest = rest << 32 | limbs[k];
            limbs[k] = (uint32_t)(rest / CHUNK);
            rest %= CHUNK;
        }
        at -= CHUNK_DIGITS;
        put_padded(digits + at, rest, CHUNK_DIGITS);
        while (count && !limbs[count - 1])
            count--;
    }
    while (at < sizeof digits && digits[at] == '0')
        at++;
    if (at == sizeof digits)
        digits[--at] = '0';
    memcpy(to, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

static APART bool write_varint(struct buf *out, struct slice cell, enum form form)
{
    bool negative;

    if (!cell.n || cell.n > VARINT_BYTES_MAX)
        return false;
    uint8_t *to = buf_room(out, cell.n * 5 / 2 + 24);
    if (!to)
        return true;
    size_t at = 0;
    if (form == FORM_JSON)
        to[at++] = '"';
    size_t n = varint_digits(to + at + 1, cell, &negative); /* one left for the sign */
    if (negative)
        to[at++] = '-';
    else
        memmove(to + at, to + at + 1, n);
    at += n;
    if (form == FORM_JSON)
        to[at++] = '"';
    out->len += at;
    return true;
}

/* Plain while that takes at most 40 digits, else one digit, the rest, and the exponent. */
static size_t decimal_layout(uint8_t *to, const uint8_t *digits, size_t n, int64_t scale)
{
    uint8_t *at = to;
    bool zero = n == 1 && digits[0] == '0';
    int64_t whole = (int64_t)n - scale; /* digits in front of the point; may be negative */
    int64_t plain = zero && scale < 0 ? 1 : scale <= 0 ? whole : whole > 0 ? (int64_t)n : scale + 1;

    if (plain <= PLAIN_DIGITS_MAX) {
        if (whole <= 0) {
            *at++ = '0';
            *at++ = '.';
            memset(at, '0', (size_t)-whole);
            at += -whole;
            memcpy(at, digits, n);
            return (size_t)(at + n - to);
        }
        size_t front = scale > 0 ? (size_t)whole : n;
        memcpy(at, digits, front);
        at += front;
        if (scale > 0) {
            *at++ = '.';
            memcpy(at, digits + front, n - front);
            at += n - front;
        } else if (!zero) {
            memset(at, '0', (size_t)-scale);
            at += -scale;
        }
        return (size_t)(at - to);
    }
    *at++ = digits[0];
    if (n > 1) {
        *at++ = '.';
        memcpy(at, digits + 1, n - 1);
        at += n - 1;
    }
    int64_t exponent = whole - 1;
    *at++ = 'E';
    *at++ = exponent < 0 ? '-' : '+';
    at = put_u64(at, magnitude(exponent));
    return (size_t)(at - to);
}

static APART bool write_decimal(struct buf *out, struct slice cell, enum form form)
{
    uint8_t digits[VARINT_BYTES_MAX * 5 / 2 + 32];
    struct slice unscaled;
    int32_t scale;
    bool negative;

    if (!value_decimal(cell, &scale, &unscaled) || unscaled.n > VARINT_BYTES_MAX)
        return false;
    digits[0] = '0';
    size_t n = varint_digits(digits, unscaled, &negative);
    uint8_t *to = buf_room(out, n + PLAIN_DIGITS_MAX + 24);
    if (!to)
        return true;
    size_t at = 0;
    if (form == FORM_JSON)
        to[at++] = '"';
    if (negative)
        to[at++] = '-';
    at += decimal_layout(to + at, digits, n, scale);
    if (form == FORM_JSON)
        to[at++] = '"';
    out->len += at;
    return true;
}

/* ---- dates, times, addresses ------------------------------------------------------------------
 */

/* yyyy-MM-dd of a day since 1970-01-01; years outside 0-9999 with a sign. */
static uint8_t *put_date(uint8_t *to, int64_t days, bool *out_of_range)
{
    /* Years that begin in March, eras of 400 years. */
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    uint32_t of_era = (uint32_t)(z - era * 146097);
    uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted = (5 * of_year + 2) / 153;
    uint32_t day = of_year - (153 * shifted + 2) / 5 + 1;
    uint32_t month = shifted < 10 ? shifted + 3 : shifted - 9;
    int64_t year = (int64_t)year_of_era + era * 400 + (month <= 2);

    *out_of_range = year < 0 || year > 9999;
    if (!*out_of_range) {
        to = put_2(to, (uint32_t)year / 100);
        to = put_2(to, (uint32_t)year % 100);
    } else {
        uint64_t y = magnitude(year);
        *to++ = year < 0 ? '-' : '+';
        to = y < 10000 ? put_padded(to, y, 4) : put_u64(to, y);
    }
    *to++ = '-';
    to = put_2(to, month);
    *to++ = '-';
    return put_2(to, day);
}

static uint8_t *put_clock(uint8_t *to, uint32_t seconds)
{
    to = put_2(to, seconds / 3600);
    *to++ = ':';
    to = put_2(to, seconds / 60 % 60);
    *to++ = ':';
    return put_2(to, seconds % 60);
}

/* Room for a short value behind its quote; NULL when `out` is full. */
static uint8_t *quoted_begin(struct buf *out, enum form form)
{
    uint8_t *at = buf_room(out, QUOTED_ROOM);

    if (at && form == FORM_JSON)
        *at++ = '"';
    return at;
}

static void quoted_end(struct buf *out, uint8_t *at, enum form form)
{
    if (form == FORM_JSON)
        *at++ = '"';
    out->len = (size_t)(at - out->p);
}

static uint8_t *put_timestamp(uint8_t *to, int64_t ms, bool *out_of_range)
{
    int64_t days = ms / 86400000 - (ms % 86400000 < 0);
    uint32_t of_day = (uint32_t)(ms % 86400000 + (ms % 86400000 < 0 ? 86400000 : 0));

    to = put_date(to, days, out_of_range);
    *to++ = 'T';
    to = put_clock(to, of_day / 1000);
    *to++ = '.';
    to = put_padded(to, of_day % 1000, 3);
    *to++ = 'Z';
    return to;
}

static inline bool write_timestamp(struct buf *out, struct slice cell, enum form form,
                                   struct json_counts *counts)
{
    int64_t ms;
    bool out_of_range;

    if (cell.n != 8 || !value_int(cell, &ms))
        return false;
    uint8_t *at = quoted_begin(out, form);
    if (!at)
        return true;
    quoted_end(out, put_timestamp(at, ms, &out_of_range), form);
    counts->year_out_of_range += out_of_range;
    return true;
}

static APART bool write_date(struct buf *out, struct slice cell, enum form form)
{
    int64_t days;
    bool out_of_range;

    if (!value_date(cell, &days))
        return false;
    uint8_t *at = quoted_begin(out, form);
    if (at)
        quoted_end(out, put_date(at, days, &out_of_range), form);
    return true;
}

static APART bool write_time(struct buf *out, struct slice cell, enum form form)
{
    int64_t nanos;

    if (cell.n != 8 || !value_int(cell, &nanos) || nanos < 0 || nanos >= INT64_C(86400000000000))
        return false;
    uint8_t *at = quoted_begin(out, form);
    if (!at)
        return true;
    at = put_clock(at, (uint32_t)(nanos / 1000000000));
    *at++ = '.';
    quoted_end(out, put_padded(at, (uint64_t)nanos % 1000000000, 9), form);
    return true;
}

/* 32 digits of 16 bytes. */
static inline void put_hex(uint8_t *to, const uint8_t *p)
{
#ifdef __SSE2__
    const __m128i low = _mm_set1_epi8(15), nine = _mm_set1_epi8(9), zero = _mm_set1_epi8('0');
    const __m128i to_letter = _mm_set1_epi8('a' - '0' - 10);
    __m128i v = _mm_loadu_si128((const __m128i_u *)p);
    __m128i high = _mm_and_si128(_mm_srli_epi16(v, 4), low);
    __m128i halves[2];

    v = _mm_and_si128(v, low);
    halves[0] = _mm_unpacklo_epi8(high, v);
    halves[1] = _mm_unpackhi_epi8(high, v);
    for (int i = 0; i < 2; i++) {
        __m128i letter = _mm_and_si128(_mm_cmpgt_epi8(halves[i], nine), to_letter);
        _mm_storeu_si128((__m128i_u *)(to + i * 16),
                         _mm_add_epi8(_mm_add_epi8(halves[i], zero), letter));
    }
#else
    for (int i = 0; i < 16; i++) {
        *to++ = (uint8_t)"0123456789abcdef"[p[i] >> 4];
        *to++ = (uint8_t)"0123456789abcdef"[p[i] & 15];
    }
#endif
}

/* 36 characters. */
static inline uint8_t *put_uuid(uint8_t *to, const uint8_t *p)
{
    uint8_t hex[32];

    put_hex(hex, p);
    memcpy(to, hex, 8);
    memcpy(to + 9, hex + 8, 4);
    memcpy(to + 14, hex + 12, 4);
    memcpy(to + 19, hex + 16, 4);
    memcpy(to + 24, hex + 20, 12);
    to[8] = to[13] = to[18] = to[23] = '-';
    return to + 36;
}

static inline bool write_uuid(struct buf *out, struct slice cell, enum form form)
{
    if (cell.n != 16)
        return false;
    uint8_t *at = quoted_begin(out, form);
    if (at)
        quoted_end(out, put_uuid(at, cell.p), form);
    return true;
}

static APART bool write_inet(struct buf *out, struct slice cell, enum form form)
{
    char text[INET6_ADDRSTRLEN];

    if ((cell.n != 4 && cell.n != 16) ||
        !inet_ntop(cell.n == 4 ? AF_INET : AF_INET6, cell.p, text, sizeof text))
        return false;
    write_plain(out, text, strlen(text), form);
    return true;
}

static char *put_part(char *at, uint64_t v, char unit)
{
    if (!v)
        return at;
    at = (char *)put_u64((uint8_t *)at, v);
    *at++ = unit;
    return at;
}

/* All three parts have one sign, which stands in front. */
static APART bool write_duration(struct buf *out, struct slice cell, enum form form)
{
    char text[96];
    char *at = text;
    int64_t months;
    int64_t days;
    int64_t nanos;

    if (!value_duration(cell, &months, &days, &nanos))
        return false;
    if (months < 0 || days < 0 || nanos < 0)
        *at++ = '-';
    *at++ = 'P';
    at = put_part(at, magnitude(months) / 12, 'Y');
    at = put_part(at, magnitude(months) % 12, 'M');
    at = put_part(at, magnitude(days), 'D');
    uint64_t n = magnitude(nanos);
    if (n || (!months && !days))
        *at++ = 'T';
    at = put_part(at, n / UINT64_C(3600000000000), 'H');
    at = put_part(at, n / UINT64_C(60000000000) % 60, 'M');
    uint64_t seconds = n / 1000000000 % 60;
    uint64_t fraction = n % 1000000000;
    if (seconds || fraction || (!n && !months && !days)) {
        at = (char *)put_u64((uint8_t *)at, seconds);
        if (fraction) {
            *at++ = '.';
            at = (char *)put_padded((uint8_t *)at, fraction, 9);
            while (at[-1] == '0')
                at--;
        }
        *at++ = 'S';
    }
    write_plain(out, text, (size_t)(at - text), form);
    return true;
}

/* ---- values made of values --------------------------------------------------------------------
 */

static bool is_container(const struct type *t)
{
    return t->kind == TYPE_LIST || t->kind == TYPE_SET || t->kind == TYPE_MAP ||
           t->kind == TYPE_TUPLE || t->kind == TYPE_UDT || t->kind == TYPE_VECTOR;
}

/* Moves the text behind `start` into quotes, escaped. */
static void quote_tail(struct buf *out, size_t start, struct json_counts *counts)
{
    size_t n = out->len - start;

    if (out->full || !buf_room(out, n * 6 + 2 * STRING_SLACK))
        return;
    /* There is room for the longest outcome: the source does not move while it is read. */
    write_string(out, slice_of(out->p + start, n), counts);
    size_t quoted = out->len - start - n;
    if (out->full)
        return;
    memmove(out->p + start, out->p + start + n, quoted);
    out->len = start + quoted;
}

/* A map's key as the name of a member; what is no simple value becomes compact JSON in a string. */
static APART bool write_key(struct buf *out, const struct type *t, struct slice key, int depth,
                            struct json_counts *counts)
{
    size_t start = out->len;

    if (t->kind == TYPE_TEXT || t->kind == TYPE_ASCII) {
        write_string(out, key, counts);
        return true;
    }
    if (is_container(t)) {
        if (!write_value(out, t, key, FORM_JSON, depth, counts))
            return false;
        quote_tail(out, start, counts);
        return true;
    }
    buf_add_byte(out, '"');
    if (!write_value(out, t, key, FORM_PLAIN, depth, counts))
        return false;
    buf_add_byte(out, '"');
    return true;
}

static APART bool write_array(struct buf *out, const struct type *t, struct slice cell, int depth,
                              struct json_counts *counts)
{
    struct value_cursor c;
    const struct type *type;
    struct slice element;
    bool bad = false;

    if (!value_open(t, cell, &c))
        return false;
    buf_add_byte(out, '[');
    while (value_next(&c, &type, &element, &bad)) {
        if (c.index)
            buf_add_byte(out, ',');
        if (out->full)
            return true;
        if (!write_value(out, type, element, FORM_JSON, depth + 1, counts))
            return false;
    }
    buf_add_byte(out, ']');
    return !bad;
}

static APART bool write_map(struct buf *out, const struct type *t, struct slice cell, int depth,
                            struct json_counts *counts)
{
    struct value_cursor c;
    const struct type *type;
    struct slice element;
    bool bad = false;

    if (!value_open(t, cell, &c))
        return false;
    buf_add_byte(out, '{');
    while (value_next(&c, &type, &element, &bad)) {
        if (c.index)
            buf_add_byte(out, ',');
        if (out->full)
            return true;
        if (!write_key(out, type, element, depth + 1, counts))
            return false;
        if (!value_next(&c, &type, &element, &bad))
            return false;
        buf_add_byte(out, ':');
        if (!write_value(out, type, element, FORM_JSON, depth + 1, counts))
            return false;
    }
    buf_add_byte(out, '}');
    return !bad;
}

static APART bool write_udt(struct buf *out, const struct type *t, struct slice cell, int depth,
                            struct json_counts *counts)
{
    struct value_cursor c;
    const struct type *type;
    struct slice element;
    bool bad = false;
    bool some = false;

    if (!value_open(t, cell, &c))
        return false;
    buf_add_byte(out, '{');
    while (value_next(&c, &type, &element, &bad)) {
        if (value_is_null(type, element))
            continue;
        if (some)
            buf_add_byte(out, ',');
        some = true;
        write_string(out, t->field_names[c.index], counts);
        buf_add_byte(out, ':');
        if (out->full)
            return true;
        if (!write_value(out, type, element, FORM_JSON, depth + 1, counts))
            return false;
    }
    buf_add_byte(out, '}');
    return !bad;
}

/* False when the bytes can't be the type. */
static bool write_value(struct buf *out, const struct type *t, struct slice cell, enum form form,
                        int depth, struct json_counts *counts)
{
    double d;
    float f;
    bool truth;

    if (value_is_null(t, cell)) {
        if (form == FORM_JSON)
            buf_add(out, "null", 4);
        return true;
    }
    if (depth > JSON_DEPTH_MAX)
        return false;
    switch (t->kind) {
    case TYPE_TEXT:
    case TYPE_ASCII:
        return write_text(out, cell, form, counts);
    case TYPE_INT:
        return write_int(out, cell, 4);
    case TYPE_BIGINT:
    case TYPE_COUNTER:
        return write_int(out, cell, 8);
    case TYPE_SMALLINT:
        return write_int(out, cell, 2);
    case TYPE_TINYINT:
        return write_int(out, cell, 1);
    case TYPE_UUID:
    case TYPE_TIMEUUID:
        return write_uuid(out, cell, form);
    case TYPE_TIMESTAMP:
        return write_timestamp(out, cell, form, counts);
    case TYPE_BOOLEAN:
        if (!value_bool(cell, &truth))
            return false;
        buf_add(out, truth ? "true" : "false", truth ? 4 : 5);
        return true;
    case TYPE_DOUBLE:
        if (!value_double(cell, &d))
            return false;
        write_real(out, d, false, form, counts);
        return true;
    case TYPE_FLOAT:
        if (!value_float(cell, &f))
            return false;
        write_real(out, (double)f, true, form, counts);
        return true;
    case TYPE_DATE:
        return write_date(out, cell, form);
    case TYPE_TIME:
        return write_time(out, cell, form);
    case TYPE_DURATION:
        return write_duration(out, cell, form);
    case TYPE_INET:
        return write_inet(out, cell, form);
    case TYPE_VARINT:
        return write_varint(out, cell, form);
    case TYPE_DECIMAL:
        return write_decimal(out, cell, form);
    case TYPE_BLOB:
    case TYPE_CUSTOM:
        write_base64(out, cell, form);
        return true;
    case TYPE_LIST:
    case TYPE_SET:
    case TYPE_TUPLE:
    case TYPE_VECTOR:
        return write_array(out, t, cell, depth, counts);
    case TYPE_MAP:
        return write_map(out, t, cell, depth, counts);
    case TYPE_UDT:
        return write_udt(out, t, cell, depth, counts);
    case TYPE_EMPTY:
        return false;
    }
    return false;
}

/* ---- a column's values -------------------------------------------------------------------------
 */

static bool write_texts(struct buf *out, const struct type *t, struct slice cell,
                        struct json_counts *counts)
{
    (void)t;
    write_string(out, cell, counts);
    return true;
}

static bool write_ints(struct buf *out, const struct type *t, struct slice cell,
                       struct json_counts *counts)
{
    (void)t, (void)counts;
    return write_int(out, cell, 4);
}

static bool write_bigints(struct buf *out, const struct type *t, struct slice cell,
                          struct json_counts *counts)
{
    (void)t, (void)counts;
    return write_int(out, cell, 8);
}

static bool write_uuids(struct buf *out, const struct type *t, struct slice cell,
                        struct json_counts *counts)
{
    (void)t, (void)counts;
    return write_uuid(out, cell, FORM_JSON);
}

static bool write_timestamps(struct buf *out, const struct type *t, struct slice cell,
                             struct json_counts *counts)
{
    (void)t;
    return write_timestamp(out, cell, FORM_JSON, counts);
}

static bool write_any(struct buf *out, const struct type *t, struct slice cell,
                      struct json_counts *counts)
{
    return write_value(out, t, cell, FORM_JSON, 0, counts);
}

struct json_writer json_writer_of(const struct type *t)
{
    switch (t->kind) {
    case TYPE_TEXT:
    case TYPE_ASCII:
        return (struct json_writer){write_texts};
    case TYPE_INT:
        return (struct json_writer){write_ints};
    case TYPE_BIGINT:
    case TYPE_COUNTER:
        return (struct json_writer){write_bigints};
    case TYPE_UUID:
    case TYPE_TIMEUUID:
        return (struct json_writer){write_uuids};
    case TYPE_TIMESTAMP:
        return (struct json_writer){write_timestamps};
    default:
        return (struct json_writer){write_any};
    }
}
