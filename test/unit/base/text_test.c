#include "base/text.h"

#include "base/cmocka_all.h"

static void utf8_is_checked(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", true},
        {"\xef\xbf\xbf", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\x80", false},
        {"\xc0\x80", false},         /* overlong */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xe2\x82", false}, /* cut off */
        {"a\xff", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(utf8_valid(slice_str(cases[i].text)), cases[i].valid);
}

/* By the numbers that sequences stand for. */
static bool decodes(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t more = p[i] < 0x80 ? 0 : p[i] < 0xc0 ? 9 : p[i] < 0xe0 ? 1 : p[i] < 0xf0 ? 2 : 3;
        uint32_t v = more ? p[i] & (0x3fu >> more) : p[i];

        if (more > 3 || p[i] >= 0xf8 || n - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++) {
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
            v = v << 6 | (p[i + k] & 0x3f);
        }
        if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000) ||
            v < (const uint32_t[]){0, 0x80, 0x800, 0x10000}[more])
            return false;
        i += more + 1;
    }
    return true;
}

/* Long texts are checked by blocks: every beginning of a sequence, at every place near the border
 * of two and near the end. */
static void utf8_in_long_texts(void **state)
{
    static const uint8_t thirds[] = {'x', 0x80, 0x8f, 0x90, 0xa0, 0xbf, 0xc0, 0xe0};
    static const size_t lengths[] = {16, 17, 31, 32, 33};
    static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    uint8_t text[40];

    (void)state;
    for (unsigned first = 0x7f; first < 0x100; first++) {
        for (unsigned second = 0; second < 0x100; second += second < 0x78 ? 8 : 1) {
            for (size_t k = 0; k < sizeof thirds * 2; k++) {
                for (size_t at = 11; at < 17; at++) {
                    memset(text, 'x', sizeof text);
                    text[at] = (uint8_t)first;
                    text[at + 1] = (uint8_t)second;
                    text[at + 2] = thirds[k / 2];
                    text[at + 3] = k % 2 ? 0x80 : 'x';
                    size_t n = lengths[k % 5];
                    if (utf8_valid(slice_of(text, n)) != decodes(text, n))
                        fail_msg("%02x %02x %02x at %zu of %zu", first, second, text[at + 2], at,
                                 n);
                }
            }
        }
    }
    uint64_t seed = 5;
    for (int round = 0; round < 200000; round++) { /* mostly right, and one byte changed */
        size_t n = 0;
        while (n < sizeof text - 4) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t v = (uint32_t)(seed >> 40) & (0x1fffffu >> (seed >> 33 & 15));
            if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
                continue;
            size_t more = v < 0x80 ? 0 : v < 0x800 ? 1 : v < 0x10000 ? 2 : 3;
            text[n] = (uint8_t)(leads[more] | v >> (6 * more));
            for (size_t i = 1; i <= more; i++)
                text[n + i] = (uint8_t)(0x80 | (v >> (6 * (more - i)) & 0x3f));
            n += more + 1;
        }
        assert_true(decodes(text, n));
        assert_true(utf8_valid(slice_of(text, n)));
        text[seed >> 20 & 31] = (uint8_t)(seed >> 12);
        assert_int_equal(utf8_valid(slice_of(text, n)), decodes(text, n));
    }
}

static void strings_are_escaped(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        const char *json;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"q\"b\\s/", 6, "\"q\\\"b\\\\s/\""},
        {"\b\t\n\f\r", 5, "\"\\b\\t\\n\\f\\r\""},
        {"\0\x1f\x7f", 3, "\"\\u0000\\u001f\x7f\""},
        {"\xc3\xa9", 2, "\"\xc3\xa9\""},
        {"a\xff"
         "b",
         3,
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xe2\x82", 2, "\"\xef\xbf\xbd\""},
    };
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 10);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_reset(&out);
        json_add_string(&out, slice_of(cases[i].text, cases[i].n));
        assert_string_equal(buf_cstr(&out), cases[i].json);
    }
    buf_fini(&out);
}

/* Words of eight bytes are looked at as one: every place in and behind them must count. */
static void every_length_and_place(void **state)
{
    static const struct {
        uint8_t byte;
        bool utf8;
        const char *json;
    } cases[] = {
        {'"', true, "\\\""},  {'\\', true, "\\\\"},          {0x1f, true, "\\u001f"},
        {0x20, true, " "},    {0x7f, true, "\x7f"},          {'\n', true, "\\n"},
        {0, true, "\\u0000"}, {0x80, false, "\xef\xbf\xbd"}, {0xff, false, "\xef\xbf\xbd"},
    };
    struct buf out;
    char text[48];
    char wanted[128];

    (void)state;
    buf_init(&out, 4096);
    for (size_t n = 1; n <= 40; n++) {
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                memset(text, '!', n);
                text[at] = (char)cases[i].byte;
                snprintf(wanted, sizeof wanted, "\"%.*s%s%.*s\"", (int)at,
                         "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", cases[i].json,
                         (int)(n - at - 1), "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!");
                buf_reset(&out);
                json_add_string(&out, slice_of(text, n));
                assert_string_equal(buf_cstr(&out), wanted);
                assert_int_equal(utf8_valid(slice_of(text, n)), cases[i].utf8);
            }
            if (at + 1 < n) {
                memset(text, '#', n);
                text[at] = '\xc3';
                text[at + 1] = '\xa9';
                assert_true(utf8_valid(slice_of(text, n)));
                assert_false(utf8_valid(slice_of(text, at + 1)));
            }
        }
    }
    buf_fini(&out);
}

static void base64_and_hex(void **state)
{
    static const struct {
        const char *text, *base64, *hex;
    } cases[] = {{"", "", ""},
                 {"f", "Zg==", "66"},
                 {"fo", "Zm8=", "666f"},
                 {"foo", "Zm9v", "666f6f"},
                 {"foob", "Zm9vYg==", "666f6f62"},
                 {"\xff\xfe\xfd", "//79", "fffefd"}};
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 10);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_reset(&out);
        text_add_base64(&out, slice_str(cases[i].text));
        assert_string_equal(buf_cstr(&out), cases[i].base64);
        buf_reset(&out);
        text_add_hex(&out, slice_str(cases[i].text));
        assert_string_equal(buf_cstr(&out), cases[i].hex);
    }
    buf_fini(&out);
}

static void numbers_come_and_go(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"+7", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"1x", false, 0},
        {" 1", false, 0},
        {"1.0", false, 0},
    };
    static const int64_t written[] = {0, 1, -1, 10, INT64_MAX, INT64_MIN};
    struct buf out;
    int64_t v;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        v = 0;
        assert_int_equal(text_to_i64(slice_str(cases[i].text), INT64_MIN, INT64_MAX, &v),
                         cases[i].ok);
        assert_true(v == cases[i].value);
    }
    assert_false(text_to_i64(slice_str("11"), 0, 10, &v));
    assert_true(text_to_i64(slice_str("10"), 0, 10, &v));
    assert_false(text_to_i64(slice_str("-1"), 0, 10, &v));
    buf_init(&out, 1 << 10);
    for (size_t i = 0; i < sizeof written / sizeof written[0]; i++) {
        buf_reset(&out);
        text_add_i64(&out, written[i]);
        assert_true(text_to_i64(buf_slice(&out), INT64_MIN, INT64_MAX, &v) && v == written[i]);
    }
    buf_fini(&out);
}

static void near_names_are_offered(void **state)
{
    static const char *const names[] = {"sync", "serve", "failures", "runs", "check", NULL};
    static const struct {
        const char *word, *near;
    } cases[] = {{"snyc", "sync"}, {"serv", "serve"},  {"failure", "failures"},
                 {"run", "runs"},  {"chekc", "check"}, {"xyz", NULL},
                 {"", NULL},       {"sync", "sync"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *near = text_nearest(slice_str(cases[i].word), names);

        if (cases[i].near)
            assert_string_equal(near, cases[i].near);
        else
            assert_null(near);
    }
    assert_int_equal(text_distance(slice_str("abc"), slice_str("acb")), 1); /* a swap */
    assert_int_equal(text_distance(slice_str(""), slice_str("abc")), 3);
    assert_int_equal(text_distance(slice_str("kitten"), slice_str("sitting")), 3);
    char longer[100];
    memset(longer, 'x', sizeof longer);
    assert_int_equal(text_distance(slice_of(longer, 100), slice_str("x")), 100);
}

static void trimmed_and_compared(void **state)
{
    (void)state;
    assert_true(slice_is(text_trim(slice_str(" \t\r\n a b \n")), "a b"));
    assert_int_equal(text_trim(slice_str(" \n ")).n, 0);
    assert_true(text_same_nocase(slice_str("AbZ"), slice_str("aBz")));
    assert_false(text_same_nocase(slice_str("a["), slice_str("A{")));
    assert_false(text_same_nocase(slice_str("a"), slice_str("ab")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_checked),        cmocka_unit_test(utf8_in_long_texts),
        cmocka_unit_test(strings_are_escaped),    cmocka_unit_test(every_length_and_place),
        cmocka_unit_test(base64_and_hex),         cmocka_unit_test(numbers_come_and_go),
        cmocka_unit_test(near_names_are_offered), cmocka_unit_test(trimmed_and_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
