#include "base/text.h"

#ifdef __x86_64__
#include <tmmintrin.h>
#endif

/* Length of the well-formed sequence at p (n bytes left), or 0. Unicode 15, table 3-7. */
static size_t utf8_step(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];

    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    size_t len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < len)
        return 0;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

static const uint64_t tops = UINT64_C(0x8080808080808080);

static inline uint64_t load_word(const uint8_t *p)
{
    uint64_t w;

    memcpy(&w, p, sizeof w);
    return w;
}

static bool utf8_valid_by_steps(struct slice s)
{
    for (size_t i = 0; i < s.n;) {
        size_t step = utf8_step(s.p + i, s.n - i);

        if (!step)
            return false;
        i += step;
    }
    return true;
}

#ifdef __x86_64__
/*
 * 16 bytes at a time. What can be wrong with two bytes that follow each other is a bit each; three
 * tables say by the high and low half of the first, and the high half of the second, what is not
 * excluded, and what all three leave is wrong. "Two continuations" is the exception: right where a
 * longer sequence is under way. Source: John Keiser and Daniel Lemire, "Validating UTF-8 in less
 * than one instruction per byte".
 */
enum {
    TOO_SHORT = 1, /* a lead, then no continuation */
    TOO_LONG = 2,  /* a continuation behind ASCII */
    OVERLONG_3 = 4,
    TOO_LARGE = 8, /* above U+10FFFF */
    SURROGATE = 16,
    OVERLONG_2 = 32,
    OVERLONG_4 = 64,
    FAR_TOO_LARGE = 64,
    TWO_CONTINUE = 128,
    ANY_LOW = TOO_SHORT | TOO_LONG | TWO_CONTINUE,
    LARGE_LOW = ANY_LOW | TOO_LARGE | FAR_TOO_LARGE,
    ANY_CONTINUE = TOO_LONG | OVERLONG_2 | TWO_CONTINUE,
};

__attribute__((target("ssse3"))) static inline __m128i utf8_errors(__m128i now, __m128i before)
{
    static const uint8_t tables[3][16] __attribute__((aligned(16))) = {
        {[0 ... 7] = TOO_LONG,
         [8 ... 11] = TWO_CONTINUE,
         [12] = TOO_SHORT | OVERLONG_2,
         [13] = TOO_SHORT,
         [14] = TOO_SHORT | OVERLONG_3 | SURROGATE,
         [15] = TOO_SHORT | TOO_LARGE | FAR_TOO_LARGE | OVERLONG_4},
        {[0] = ANY_LOW | OVERLONG_2 | OVERLONG_3 | OVERLONG_4,
         [1] = ANY_LOW | OVERLONG_2,
         [2] = ANY_LOW,
         [3] = ANY_LOW,
         [4] = ANY_LOW | TOO_LARGE,
         [5 ... 12] = LARGE_LOW,
         [13] = LARGE_LOW | SURROGATE,
         [14 ... 15] = LARGE_LOW},
        {[0 ... 7] = TOO_SHORT,
         [8] = ANY_CONTINUE | OVERLONG_3 | FAR_TOO_LARGE | OVERLONG_4,
         [9] = ANY_CONTINUE | OVERLONG_3 | TOO_LARGE,
         [10 ... 11] = ANY_CONTINUE | SURROGATE | TOO_LARGE,
         [12 ... 15] = TOO_SHORT},
    };
    const __m128i *table = (const __m128i *)tables;
    __m128i half = _mm_set1_epi8(15);
    __m128i first = _mm_alignr_epi8(now, before, 15);
    __m128i third = _mm_subs_epu8(_mm_alignr_epi8(now, before, 14), _mm_set1_epi8(0xe0 - 0x80));
    __m128i fourth = _mm_subs_epu8(_mm_alignr_epi8(now, before, 13), _mm_set1_epi8(0xf0 - 0x80));
    __m128i wrong = _mm_and_si128(
        _mm_and_si128(_mm_shuffle_epi8(_mm_load_si128(&table[0]),
                                       _mm_and_si128(_mm_srli_epi16(first, 4), half)),
                      _mm_shuffle_epi8(_mm_load_si128(&table[1]), _mm_and_si128(first, half))),
        _mm_shuffle_epi8(_mm_load_si128(&table[2]), _mm_and_si128(_mm_srli_epi16(now, 4), half)));

    /* Top bit: a third or fourth byte has to stand here. */
    return _mm_xor_si128(
        _mm_and_si128(_mm_or_si128(third, fourth), _mm_set1_epi8((char)TWO_CONTINUE)), wrong);
}

__attribute__((target("ssse3"))) static bool utf8_valid_by_16(struct slice s)
{
    __m128i before = _mm_setzero_si128();
    __m128i errors = _mm_setzero_si128();
    uint8_t rest[16] = {0}; /* at least one 0 behind the end: nothing may be under way there */
    size_t i = 0;

    for (; s.n - i >= 16; i += 16) {
        __m128i now = _mm_loadu_si128((const __m128i_u *)(s.p + i));
        errors = _mm_or_si128(errors, utf8_errors(now, before));
        before = now;
    }
    memcpy(rest, s.p + i, s.n - i);
    errors = _mm_or_si128(errors, utf8_errors(_mm_loadu_si128((const __m128i_u *)rest), before));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(errors, _mm_setzero_si128())) == 0xffff;
}
#endif

bool utf8_valid(struct slice s)
{
#ifdef __x86_64__
    if (s.n >= 16 && __builtin_cpu_supports("ssse3"))
        return utf8_valid_by_16(s);
#endif
    return utf8_valid_by_steps(s);
}

/* 1: copied as it is; 0: needs a look. */
static const uint8_t json_plain[256] = {
    [0x20] = 1, [0x21] = 1, [0x23 ... 0x5b] = 1, [0x5d ... 0x7e] = 1, [0x7f] = 1,
};

/* Top bits of bytes below the space, quotes, backslashes, and what is not ASCII. A borrow may set
 * too many, never too few. */
static inline uint64_t special_bytes(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t quote = w ^ ones * '"';
    uint64_t slash = w ^ ones * '\\';

    return ((w - ones * 0x20) | (quote - ones) | (slash - ones) | w) & tops;
}

/* How many bytes in front are copied as they are. */
static inline size_t plain_bytes(const uint8_t *p, size_t n)
{
    size_t i = 0;

    while (n - i >= 8 && !special_bytes(load_word(p + i)))
        i += 8;
    if (n - i < 8 && n >= 8 && !special_bytes(load_word(p + n - 8)))
        return n;
    while (i < n && json_plain[p[i]])
        i++;
    return i;
}

static size_t json_escape(struct buf *b, const uint8_t *p, size_t n)
{
    static const char short_forms[] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    uint8_t c = p[0];

    if (c == '"' || c == '\\') {
        buf_add(b, (uint8_t[]){'\\', c}, 2);
        return 1;
    }
    if (c < sizeof short_forms && short_forms[c]) {
        buf_add(b, (uint8_t[]){'\\', (uint8_t)short_forms[c]}, 2);
        return 1;
    }
    if (c < 0x20) {
        buf_printf(b, "\\u%04x", c);
        return 1;
    }
    size_t step = utf8_step(p, n);
    if (step) {
        buf_add(b, p, step);
        return step;
    }
    buf_add(b, "\xef\xbf\xbd", 3);
    /* One replacement for a cut-off sequence: skip the continuation bytes that belong to it. */
    size_t skip = 1;
    size_t most = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
    while (skip < most && skip < n && (p[skip] & 0xc0) == 0x80)
        skip++;
    return skip;
}

void json_add_string(struct buf *b, struct slice s)
{
    uint8_t *to = buf_room(b, s.n + 2);
    size_t plain = plain_bytes(s.p, s.n);

    if (to && s.n && plain == s.n) { /* most of all */
        *to++ = '"';
        memcpy(to, s.p, s.n);
        to[s.n] = '"';
        b->len += s.n + 2;
        return;
    }
    buf_add_byte(b, '"');
    for (size_t i = 0; i < s.n;) {
        plain = plain_bytes(s.p + i, s.n - i);

        buf_add(b, s.p + i, plain);
        i += plain;
        if (i < s.n)
            i += json_escape(b, s.p + i, s.n - i);
    }
    buf_add_byte(b, '"');
}

void text_add_base64(struct buf *b, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *to = buf_room(b, (s.n + 2) / 3 * 4);

    if (!to)
        return;
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)s.p[i] << 16 | (left > 1 ? (uint32_t)s.p[i + 1] << 8 : 0) |
                     (left > 2 ? s.p[i + 2] : 0);
        *to++ = (uint8_t)digits[v >> 18];
        *to++ = (uint8_t)digits[v >> 12 & 63];
        *to++ = left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        *to++ = left > 2 ? (uint8_t)digits[v & 63] : '=';
    }
    b->len += (s.n + 2) / 3 * 4;
}

void text_add_hex(struct buf *b, struct slice s)
{
    uint8_t *to = buf_room(b, s.n * 2);

    if (!to)
        return;
    for (size_t i = 0; i < s.n; i++) {
        *to++ = (uint8_t)"0123456789abcdef"[s.p[i] >> 4];
        *to++ = (uint8_t)"0123456789abcdef"[s.p[i] & 15];
    }
    b->len += s.n * 2;
}

void text_add_i64(struct buf *b, int64_t v)
{
    uint8_t digits[20];
    size_t n = 0;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do {
        digits[sizeof digits - ++n] = (uint8_t)('0' + u % 10);
        u /= 10;
    } while (u);
    if (v < 0)
        buf_add_byte(b, '-');
    buf_add(b, digits + sizeof digits - n, n);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice text_trim(struct slice s)
{
    while (s.n && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool text_to_i64(struct slice s, int64_t min, int64_t max, int64_t *out)
{
    bool minus = s.n && s.p[0] == '-';
    size_t i = minus || (s.n && s.p[0] == '+');
    int64_t v = 0;

    if (i == s.n)
        return false;
    for (; i < s.n; i++) {
        int digit = s.p[i] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(v, 10, &v) ||
            (minus ? __builtin_sub_overflow(v, digit, &v) : __builtin_add_overflow(v, digit, &v)))
            return false;
    }
    if (v < min || v > max)
        return false;
    *out = v;
    return true;
}

enum { NAME_MAX_BYTES = 63 };

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

unsigned text_distance(struct slice a, struct slice b)
{
    unsigned rows[3][NAME_MAX_BYTES + 1];

    if (a.n > NAME_MAX_BYTES || b.n > NAME_MAX_BYTES)
        return (unsigned)(a.n > b.n ? a.n : b.n);
    for (unsigned j = 0; j <= b.n; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *up = rows[(i + 2) % 3];
        const unsigned *up2 = rows[(i + 1) % 3];

        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned cost = a.p[i - 1] != b.p[j - 1];

            row[j] = min3(up[j] + 1, row[j - 1] + 1, up[j - 1] + cost);
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] &&
                up2[j - 2] + 1 < row[j])
                row[j] = up2[j - 2] + 1;
        }
    }
    return rows[a.n % 3][b.n];
}

const char *text_nearest(struct slice word, const char *const *names)
{
    const char *best = NULL;
    unsigned best_distance = (unsigned)(word.n / 3 + 1);

    for (; *names; names++) {
        unsigned d = text_distance(word, slice_str(*names));

        if (d <= best_distance && (!best || d < best_distance)) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}

bool text_same_nocase(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        uint8_t x = a.p[i];
        uint8_t y = b.p[i];

        x |= (uint8_t)(x >= 'A' && x <= 'Z' ? 0x20 : 0);
        y |= (uint8_t)(y >= 'A' && y <= 'Z' ? 0x20 : 0);
        if (x != y)
            return false;
    }
    return true;
}
