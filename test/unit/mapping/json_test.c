/* Cells to JSON: everything recorded from a server, and every form by hand. */
#include "cql/vectors.h"

#include <math.h>

#include "base/text.h"
#include "cql/type.h"
#include "mapping/json.h"
#include "model/value.h"

static struct arena mem;
static struct buf out;

static int begin(void **state)
{
    arena_init(&mem, 8 << 20);
    buf_init(&out, 8 << 20);
    return vectors_begin(state);
}

static int end(void **state)
{
    buf_fini(&out);
    arena_fini(&mem);
    return vectors_end(state);
}

static const struct type *cql_type(const char *text)
{
    const struct type *t = NULL;
    struct err err = {0};

    if (!type_parse_cql(slice_str(text), NULL, &mem, &t, &err))
        fail_msg("%s: %s", text, err.text);
    return t;
}

static const char *json_of(const struct type *t, struct slice cell, struct json_counts *counts)
{
    struct err err = {0};

    buf_reset(&out);
    if (!json_cell(&out, t, cell, counts, &err))
        fail_msg("%s", err.text);
    if (!value_is_null(t, cell)) { /* a column's writer says the same */
        struct json_counts ignored = {0};
        size_t n = out.len;
        assert_true(json_writer_of(t).write(&out, t, cell, &ignored));
        assert_int_equal(out.len, 2 * n);
        assert_memory_equal(out.p, out.p + n, n);
        buf_cut(&out, n);
    }
    return text_of(buf_slice(&out));
}

static const char *plain_of(const struct type *t, struct slice cell)
{
    struct err err = {0};

    buf_reset(&out);
    if (!json_cell_text(&out, t, cell, &err))
        fail_msg("%s", err.text);
    return text_of(buf_slice(&out));
}

/* Where our form is not the server's. */
static const struct {
    const char *type;
    const char *literal; /* its beginning */
    const char *json;
} ours[] = {
#include "mapping/json_forms.h"
};

static const char *our_form(const struct json *v)
{
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (slice_is(json_get_string(v, "type"), ours[i].type) &&
            strncmp(text_of(json_get_string(v, "literal")), ours[i].literal,
                    strlen(ours[i].literal)) == 0)
            return ours[i].json;
    }
    return NULL;
}

static const struct type *option_of(struct slice bytes)
{
    const struct type *t = NULL;
    struct err err = {0};

    assert_true(type_take_option(&bytes, &mem, &t, &err));
    return t;
}

static void every_recorded_value(void **state)
{
    (void)state;
    int count = 0;
    int different = 0;
    int failures = 0;

    json_each (v, vectors_section("types")) {
        if (!json_get(v, "option"))
            continue;
        struct slice cell = vector_bytes(v, "cell");
        struct json_counts counts = {0};
        const char *got = json_of(option_of(vector_bytes(v, "option")), cell, &counts);
        struct slice v5 = vector_bytes(v, "option_v5");
        if (v5.p)
            assert_string_equal(got, json_of(option_of(v5), cell, &counts));
        const char *want = our_form(v);
        count++;
        if (want) {
            different++;
            if (strcmp(got, want) == 0)
                continue;
        } else {
            struct err err = {0};
            const struct json *server = json_parse(json_get_string(v, "server_json"), &mem, &err);
            const struct json *parsed = json_parse(slice_str(got), &mem, &err);
            assert_non_null(parsed);
            if (server && json_equal(server, parsed))
                continue;
        }
        failures++;
        print_message("%s | %s | %s | server %s\n", text_of(json_get_string(v, "type")),
                      text_of(json_get_string(v, "literal")), got,
                      text_of(json_get_string(v, "server_json")));
    }
    assert_int_equal(failures, 0);
    assert_int_equal(count, 131);
    assert_int_equal(different, sizeof ours / sizeof *ours);
}

/* Zero-length cells: the server's null is ours; text stays text. */
static void every_recorded_empty_value(void **state)
{
    (void)state;
    json_each (v, vectors_section("empty_values")) {
        struct slice type = json_get_string(v, "type");
        struct json_counts counts = {0};
        struct type inner = {.kind = TYPE_UDT, .name = slice_str("inner_t")};
        const struct type *t =
            memmem(type.p, type.n, "inner_t", 7) ? &inner : cql_type(text_of(type));
        bool text = slice_is(type, "ascii") || slice_is(type, "text") || slice_is(type, "blob");
        assert_string_equal(json_of(t, slice_of("", 0), &counts), text ? "\"\"" : "null");
        assert_string_equal(plain_of(t, slice_of("", 0)), "");
        assert_string_equal(json_of(t, SLICE_NULL, &counts), "null");
        assert_string_equal(plain_of(t, SLICE_NULL), "");
        assert_int_equal(json_counts_sum(&counts), 0);
    }
}

static void recorded_writetimes(void **state)
{
    (void)state;
    struct json_counts counts = {0};

    json_each (v, vectors_section("writetime")) {
        struct slice option = vector_bytes(v, "option");
        if (!option.p)
            continue;
        const struct type *t = option_of(option);
        json_each (row, json_get(v, "rows")) {
            const struct json *hex = row->first->next;
            struct slice cell = hex->kind == JSON_STRING ? unhex(hex->text) : SLICE_NULL;
            const char *got = json_of(t, cell, &counts);
            if (!cell.p)
                assert_string_equal(got, "null");
            else if (t->kind == TYPE_BIGINT)
                assert_int_equal(strtoll(got, NULL, 10), (int64_t)load_u64(cell.p));
            else
                assert_int_equal(got[0] == '[', t->kind == TYPE_LIST);
        }
    }
}

/* Rows of system_schema: texts as recorded, everything else at least as something. */
static void recorded_schema_rows(void **state)
{
    (void)state;
    int texts = 0;

    json_each (table, vectors_section("schema")) {
        const struct json *rows = json_get(table, "rows");
        const struct json *text_row = rows ? json_get(table, "text")->first : NULL;
        if (!rows)
            continue;
        json_each (row, rows) {
            const struct json *option = json_get(table, "column_options")->first;
            const struct json *text = text_row->first;
            json_each (hex, row) {
                struct slice cell = hex->kind == JSON_STRING ? unhex(hex->text) : SLICE_NULL;
                const struct type *t = option_of(unhex(option->text));
                struct json_counts counts = {0};
                struct err err = {0};
                assert_non_null(json_parse(slice_str(json_of(t, cell, &counts)), &mem, &err));
                if (t->kind == TYPE_TEXT && cell.p) {
                    assert_string_equal(plain_of(t, cell), text_of(text->text));
                    texts++;
                }
                option = option->next;
                text = text->next;
            }
            text_row = text_row->next;
            arena_reset(&mem);
        }
    }
    assert_true(texts > 40);
}

static void forms_by_hand(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        const char *hex;
        const char *json;
        const char *plain; /* NULL: the same */
    } rows[] = {
        {"int", "00000000", "0", NULL},
        {"bigint", "8000000000000000", "-9223372036854775808", NULL},
        {"counter", "000000000000000a", "10", NULL},
        {"tinyint", "9c", "-100", NULL},
        {"boolean", "02", "true", NULL},
        {"double", "4008000000000000", "3.0", NULL},
        {"double", "c340000000000001", "-9007199254740994.0", NULL},
        {"double", "0000000000000001", "5e-324", NULL},
        {"double", "7fefffffffffffff", "1.7976931348623157e+308", NULL},
        {"double", "3fd5555555555555", "0.3333333333333333", NULL},
        {"double", "3f1a36e2eb1c432d", "0.0001", NULL},
        {"double", "7ff0000000000000", "null", "Infinity"},
        {"double", "fff0000000000000", "null", "-Infinity"},
        {"double", "7ff8000000000000", "null", "NaN"},
        {"float", "00000001", "1e-45", NULL},
        {"float", "4b800001", "16777218.0", NULL},
        {"float", "50df8476", "3e+10", NULL},
        {"float", "3eaaaaab", "0.33333334", NULL},
        {"varint", "0100000000000000000000000000000000",
         "\"340282366920938463463374607431768211456\"", "340282366920938463463374607431768211456"},
        {"varint", "ffffffffffffffffff", "\"-1\"", "-1"},
        {"varint", "000000000000000000", "\"0\"", "0"},
        {"decimal", "0000000000", "\"0\"", "0"},
        {"decimal", "0000000300", "\"0.000\"", "0.000"},
        {"decimal", "fffffff600", "\"0\"", "0"},
        {"decimal", "000000010a", "\"1.0\"", "1.0"},
        {"decimal", "0000000196", "\"-10.6\"", "-10.6"},
        {"decimal", "0000002701", "\"0.000000000000000000000000000000000000001\"",
         "0.000000000000000000000000000000000000001"},
        {"decimal", "0000002801", "\"1E-40\"", "1E-40"},
        {"decimal", "ffffffd901", "\"1000000000000000000000000000000000000000\"",
         "1000000000000000000000000000000000000000"},
        {"decimal", "ffffffd801", "\"1E+40\"", "1E+40"},
        {"decimal", "8000000085", "\"-1.23E+2147483650\"", "-1.23E+2147483650"},
        {"decimal", "7fffffff01", "\"1E-2147483647\"", "1E-2147483647"},
        {"date", "00000000", "\"-5877641-06-23\"", "-5877641-06-23"},
        {"date", "ffffffff", "\"+5881580-07-11\"", "+5881580-07-11"},
        {"date", "7ff50557", "\"-0001-12-31\"", "-0001-12-31"},
        {"date", "7ff50558", "\"0000-01-01\"", "0000-01-01"},
        {"time", "00004e94914effff", "\"23:59:59.999999999\"", "23:59:59.999999999"},
        {"duration", "000001", "\"-PT0.000000001S\"", "-PT0.000000001S"},
        {"inet", "00000000000000000000000000000000", "\"::\"", "::"},
        {"blob", "ff", "\"/w==\"", "/w=="},
        {"blob", "ffee", "\"/+4=\"", "/+4="},
        {"list<int>", "0000000200000004000000010000000400000002", "[1,2]", NULL},
        {"list<int>", "0000000200000004000000 01ffffffff", "[1,null]", NULL},
        {"tuple<int, text>", "0000000400000001", "[1,null]", NULL},
        {"map<text, int>", "0000000100000002225c0000000400000001", "{\"\\\"\\\\\":1}", NULL},
        {"map<text, int>", "00000001ffffffff0000000400000001", "{\"\":1}", NULL},
        {"map<double, int>", "00000001000000087ff80000000000000000000400000001", "{\"NaN\":1}",
         NULL},
        {"map<list<text>, int>",
         "00000001"
         "0000000a"
         "00000001"
         "00000002"
         "2261"
         "00000004"
         "00000001",
         "{\"[\\\"\\\\\\\"a\\\"]\":1}", NULL},
        {"map<blob, int>",
         "00000001"
         "00000001"
         "ff"
         "00000004"
         "00000001",
         "{\"/w==\":1}", NULL},
        {"vector<tinyint, 2>", "01010102", "[1,2]", NULL},
        {"'org.example.X'", "00ff", "\"AP8=\"", "AP8="},
        {"'org.example.X'", "", "\"\"", ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char hex[300];
        size_t n = 0;
        for (const char *p = rows[i].hex; *p; p++) {
            if (*p != ' ')
                hex[n++] = *p;
        }
        hex[n] = '\0';
        struct slice cell = n ? unhex_text(hex) : slice_of("", 0);
        struct json_counts counts = {0};
        const struct type *t = cql_type(rows[i].type);
        assert_string_equal(json_of(t, cell, &counts), rows[i].json);
        assert_int_equal(counts.nan_to_null, strcmp(rows[i].json, "null") == 0);
        assert_string_equal(plain_of(t, cell), rows[i].plain ? rows[i].plain : rows[i].json);
    }
}

static void years_are_counted(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        const char *json;
        uint64_t counted;
    } rows[] = {
        {"ffffc77cedd32800", "\"0001-01-01T00:00:00.000Z\"", 0},
        {"0000e677d21fdbff", "\"9999-12-31T23:59:59.999Z\"", 0},
        {"0000e677d21fdc00", "\"+10000-01-01T00:00:00.000Z\"", 1},
        {"ffffc77590fba000", "\"0000-01-01T00:00:00.000Z\"", 0},
        {"ffffc77590fb9fff", "\"-0001-12-31T23:59:59.999Z\"", 1},
        {"8000000000000000", "\"-292275055-05-16T16:47:04.192Z\"", 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json_counts counts = {0};
        assert_string_equal(json_of(type_simple(TYPE_TIMESTAMP), unhex_text(rows[i].hex), &counts),
                            rows[i].json);
        assert_int_equal(counts.year_out_of_range, rows[i].counted);
        assert_int_equal(json_counts_sum(&counts), rows[i].counted);
    }
}

/* Every day of 800 years, one after the other, against a calendar that counts. */
static void every_day_follows_the_one_before(void **state)
{
    (void)state;
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = 1600;
    int month = 0;
    int day = 1;

    for (uint32_t days = 0x80000000u - 135140; year < 2400; days++) {
        uint32_t wire = __builtin_bswap32(days);
        struct json_counts counts = {0};
        char want[40];
        struct err err = {0};
        snprintf(want, sizeof want, "\"%04d-%02d-%02d\"", year, month + 1, day);
        buf_reset(&out);
        assert_true(json_cell(&out, type_simple(TYPE_DATE), slice_of(&wire, 4), &counts, &err));
        assert_int_equal(out.len, strlen(want));
        assert_memory_equal(out.p, want, out.len);
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        if (++day > lengths[month] + (month == 1 && leap)) {
            day = 1;
            if (++month == 12) {
                month = 0;
                year++;
            }
        }
    }
}

static uint64_t seed = 7;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static size_t significant(const char *text)
{
    size_t n = 0;
    size_t zeros = 0;

    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (!n && *text == '0'))
            continue;
        n += 1;
        zeros = *text == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

/* Reads back as the same bits, and with no more digits than the first %.Ng that does. */
static void check_real(double v, bool narrow)
{
    uint64_t bits = 0;
    uint8_t wire[8];
    float f = (float)v;
    struct json_counts counts = {0};
    char shortest[40] = "";

    if (narrow) {
        memcpy(&bits, &f, 4);
        bits <<= 32;
        v = (double)f;
    } else {
        memcpy(&bits, &v, 8);
    }
    for (int i = 0; i < 8; i++)
        wire[i] = (uint8_t)(bits >> (56 - i * 8));
    buf_reset(&out);
    struct err err = {0};
    assert_true(json_cell(&out, type_simple(narrow ? TYPE_FLOAT : TYPE_DOUBLE),
                          slice_of(wire, narrow ? 4 : 8), &counts, &err));
    const char *got = buf_cstr(&out);
    if (!isfinite(v)) {
        assert_string_equal(got, "null");
        return;
    }
    if (narrow ? strtof(got, NULL) != f : strtod(got, NULL) != v)
        fail_msg("%a became %s", v, got);
    assert_int_equal(signbit(strtod(got, NULL)), signbit(v));
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(shortest, sizeof shortest, "%.*g", digits, v);
        if (narrow ? strtof(shortest, NULL) == f : strtod(shortest, NULL) == v)
            break;
    }
    if (significant(got) > significant(shortest) && fabs(v) > 0x1p53)
        fail_msg("%s could be %s", got, shortest);
    if (significant(got) > significant(shortest) && v != nearbyint(v))
        fail_msg("%s could be %s", got, shortest);
}

static void numbers_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < 30000; i++) {
        uint64_t r = next_random();
        double d;
        float f;
        uint32_t half = (uint32_t)(r >> 20);
        memcpy(&d, &r, sizeof d);
        memcpy(&f, &half, sizeof f);
        check_real(d, false);
        check_real((double)f, true);
        double decimal = (double)(int64_t)(r % 2000000000 - 1000000000) / pow(10, (double)(i % 12));
        check_real(decimal, false);
        check_real(decimal, true);
        check_real((double)(r % 1000) / 8, false);
        check_real((double)(r >> 11) * 0x1p-53, false);
        check_real((double)(r >> 40) * 0x1p-24, true);
        check_real((double)(r >> 4), false);
        check_real((double)(r >> 4), true);
    }
    for (int e = -1074; e < 1024; e++) {
        check_real(ldexp(1, e), false);
        check_real(nextafter(ldexp(1, e), 0), false);
        if (e > -150 && e < 128)
            check_real(ldexp(1, e), true);
    }
}

/* Of every length, with their neighbours. */
static void whole_numbers(void **state)
{
    (void)state;
    for (uint64_t power = 1; power <= 1000000000000000000u; power *= 10) {
        for (int i = 0; i < 12; i++) {
            int64_t v = (int64_t)(power * (uint64_t)(i / 6 * 8 + 1)) + i % 3 - 1;
            struct json_counts counts = {0};
            char want[32];
            uint8_t wire[8];
            if (i % 6 > 2)
                v = -v;
            snprintf(want, sizeof want, "%lld", (long long)v);
            for (int k = 0; k < 8; k++)
                wire[k] = (uint8_t)((uint64_t)v >> (56 - k * 8));
            json_of(type_simple(TYPE_BIGINT), slice_of(wire, 8), &counts);
            assert_string_equal(buf_cstr(&out), want);
        }
    }
}

/* Any varint, against long division by hand. */
static void varints_of_any_length(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint8_t cell[40];
        uint8_t rest[41];
        char digits[120];
        size_t n = 1 + next_random() % sizeof cell;
        size_t at = sizeof digits - 1;
        struct json_counts counts = {0};
        for (size_t i = 0; i < n; i++)
            cell[i] = round % 5 ? (uint8_t)next_random() : round % 2 ? 0xff : 0;
        bool negative = cell[0] >= 0x80;
        memcpy(rest, cell, n);
        if (negative) { /* its magnitude */
            for (size_t i = 0; i < n; i++)
                rest[i] = (uint8_t)~rest[i];
            for (size_t i = n; i-- && ++rest[i] == 0;)
                ;
        }
        digits[at] = '\0';
        bool more = true;
        while (more) {
            uint32_t carry = 0;
            more = false;
            for (size_t i = 0; i < n; i++) {
                carry = carry << 8 | rest[i];
                rest[i] = (uint8_t)(carry / 10);
                carry %= 10;
                more = more || rest[i];
            }
            digits[--at] = (char)('0' + carry);
        }
        if (negative)
            digits[--at] = '-';
        assert_string_equal(plain_of(type_simple(TYPE_VARINT), slice_of(cell, n)), digits + at);
        const char *quoted = json_of(type_simple(TYPE_VARINT), slice_of(cell, n), &counts);
        assert_int_equal(strlen(quoted), strlen(digits + at) + 2);
        assert_memory_equal(quoted + 1, digits + at, strlen(digits + at));
    }
    static uint8_t huge[16385] = {1};
    struct json_counts counts = {0};
    struct err err = {0};
    assert_int_equal(strlen(json_of(type_simple(TYPE_VARINT), slice_of(huge, 16384), &counts)),
                     39457);
    assert_false(json_cell(&out, type_simple(TYPE_VARINT), slice_of(huge, 16385), &counts, &err));
}

/* Strings as base/text.h writes them, whatever stands at which place. */
static void strings(void **state)
{
    (void)state;
    static const char *const parts[] = {"a",
                                        "plain text of some length",
                                        "\"",
                                        "\\",
                                        "\n",
                                        "\x01",
                                        "\x1f",
                                        "\x7f",
                                        "\xc3\xbc",
                                        "\xe2\x98\x83",
                                        "\xf0\x9f\x98\x80",
                                        "\xe0\xa4\xa8\xe0\xa4\xae\xe0\xa4\xb8",
                                        "\xff",
                                        "\xc3",
                                        "\xe2\x98",
                                        "\xf0\x9f\x98",
                                        "\xed\xa0\x80",
                                        "\xc0\x80",
                                        "\x80"};
    struct buf want;
    struct buf text;

    buf_init(&want, 1 << 20);
    buf_init(&text, 1 << 20);
    for (int round = 0; round < 20000; round++) {
        struct json_counts counts = {0};
        buf_reset(&want);
        buf_reset(&text);
        size_t count = next_random() % 12;
        for (size_t i = 0; i < count; i++)
            buf_add_str(&text, parts[next_random() % (sizeof parts / sizeof *parts)]);
        struct slice cell = text.len ? buf_slice(&text) : slice_of("", 0);
        json_add_string(&want, cell);
        json_of(type_simple(TYPE_TEXT), cell, &counts);
        assert_bytes(buf_slice(&out), buf_slice(&want));
        assert_int_equal(counts.bad_utf8, !utf8_valid(cell));
        struct err err = {0};
        buf_reset(&out);
        assert_int_equal(json_cell_text(&out, type_simple(TYPE_TEXT), cell, &err),
                         utf8_valid(cell));
        if (utf8_valid(cell))
            assert_bytes(buf_slice(&out), cell);
        else
            assert_int_equal(err.kind, ERR_REJECT);
    }
    buf_fini(&want);
    buf_fini(&text);
}

static void same_as_text(struct slice s)
{
    struct json_counts counts = {0};
    struct buf want;
    /* Of exactly its length, so that reading beyond it shows. */
    uint8_t *copy = malloc(s.n ? s.n : 1);

    memcpy(copy, s.p, s.n);
    buf_init(&want, 1 << 20);
    json_add_string(&want, s);
    json_of(type_simple(TYPE_TEXT), slice_of(copy, s.n), &counts);
    assert_bytes(buf_slice(&out), buf_slice(&want));
    assert_int_equal(counts.bad_utf8, !utf8_valid(s));
    buf_fini(&want);
    free(copy);
}

/* Strings are taken by steps of several sizes: any byte at any place of any length. */
static void strings_of_any_length(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0,    0x1f, ' ',  '!',  '"',  '#',  '[',
                                    '\\', ']',  0x7f, 0x80, 0xc3, 0xe2, 0xff};
    uint8_t text[70];

    for (size_t n = 0; n <= sizeof text; n++) {
        for (size_t at = 0; at < n; at++) {
            for (size_t k = 0; k < sizeof bytes; k++) {
                memset(text, 'x', n);
                text[at] = bytes[k];
                if (k % 2 && at + 20 < n)
                    text[at + 20] = '"';
                same_as_text(slice_of(text, n));
            }
        }
    }
    for (unsigned first = 0x80; first < 0x100; first++) {
        for (unsigned second = 0; second < 0x100; second++) {
            uint8_t sequence[] = {(uint8_t)first, (uint8_t)second, 0x80, 0xbf, 'a', '"'};
            for (size_t n = 1; n <= sizeof sequence; n++)
                same_as_text(slice_of(sequence, n));
        }
    }
}

static void bytes_that_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        const char *hex;
        const char *text;
    } rows[] = {
        {"int", "000000", "3 bytes that are no int"},
        {"bigint", "00000000", "4 bytes that are no bigint"},
        {"smallint", "00", "1 bytes that are no smallint"},
        {"tinyint", "0000", "2 bytes that are no tinyint"},
        {"boolean", "0000", "2 bytes that are no boolean"},
        {"double", "00000000", "4 bytes that are no double"},
        {"float", "0000000000000000", "8 bytes that are no float"},
        {"uuid", "00", "1 bytes that are no uuid"},
        {"timestamp", "00000000", "4 bytes that are no timestamp"},
        {"date", "00", "1 bytes that are no date"},
        {"time", "00004e94914f0000", "8 bytes that are no time"},
        {"time", "ffffffffffffffff", "8 bytes that are no time"},
        {"inet", "0000000000", "5 bytes that are no inet"},
        {"decimal", "00000000", "4 bytes that are no decimal"},
        {"duration", "0002", "2 bytes that are no duration"},
        {"duration", "010200", "3 bytes that are no duration"},
        {"duration", "f1ffffffff0000", "7 bytes that are no duration"},
        {"list<int>", "000000", "3 bytes that are no list<int>"},
        {"list<int>", "ffffffff", "4 bytes that are no list<int>"},
        {"list<int>", "7fffffff00000000", "8 bytes that are no list<int>"},
        {"list<int>", "0000000100000005000000ff", "12 bytes that are no list<int>"},
        {"list<int>", "0000000100000004000000ffff", "13 bytes that are no list<int>"},
        {"set<text>", "000000010000000a61", "9 bytes that are no set<text>"},
        {"map<int, int>", "000000010000000400000001", "12 bytes that are no map<int, int>"},
        {"tuple<int>", "00000004000000", "7 bytes that are no tuple<int>"},
        {"tuple<int>", "0000000400000001ff", "9 bytes that are no tuple<int>"},
        {"vector<float, 2>", "00000000", "4 bytes that are no vector<float, 2>"},
        {"vector<text, 2>", "00", "1 bytes that are no vector<text, 2>"},
        {"vector<text, 1>", "0561", "2 bytes that are no vector<text, 1>"},
        {"empty", "00", "1 bytes that are no empty"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json_counts counts = {0};
        struct err err = {0};
        const struct type *t = cql_type(rows[i].type);
        buf_reset(&out);
        buf_add_str(&out, "kept");
        assert_false(json_cell(&out, t, unhex_text(rows[i].hex), &counts, &err));
        assert_int_equal(err.kind, ERR_REJECT);
        assert_string_equal(err.text, rows[i].text);
        assert_int_equal(out.len, 4);
        assert_false(json_cell_text(&out, t, unhex_text(rows[i].hex), &err));
        assert_int_equal(out.len, 4);
    }
}

/* Every recorded cell, cut at each byte and with one more: refused or written, never beyond. */
static void cells_cut_short(void **state)
{
    (void)state;
    json_each (v, vectors_section("types")) {
        struct slice cell = vector_bytes(v, "cell");
        struct json_counts counts = {0};
        struct err err = {0};
        if (!json_get(v, "option") || !cell.p)
            continue;
        const struct type *t = option_of(vector_bytes(v, "option"));
        for (size_t n = 0; n < cell.n; n++) {
            uint8_t *exact = malloc(n + 1); /* so that a sanitizer sees a byte too much */
            assert_non_null(exact);
            memcpy(exact + 1, cell.p, n);
            buf_reset(&out);
            if (json_cell(&out, t, slice_of(exact + 1, n), &counts, &err)) {
                struct err parse = {0};
                assert_non_null(json_parse(buf_slice(&out), &mem, &parse));
            }
            free(exact);
        }
        arena_reset(&mem);
    }
}

/* A body at its end: nothing is torn that the caller does not see. */
static void a_full_body(void **state)
{
    (void)state;
    json_each (v, vectors_section("types")) {
        struct slice cell = vector_bytes(v, "cell");
        if (!json_get(v, "option"))
            continue;
        const struct type *t = option_of(vector_bytes(v, "option"));
        struct json_counts counts = {0};
        struct err err = {0};
        size_t whole = strlen(json_of(t, cell, &counts));
        for (size_t max = 0; max < whole; max++) {
            struct buf small;
            buf_init(&small, max);
            assert_true(json_cell(&small, t, cell, &counts, &err));
            assert_true(small.full && small.len <= max);
            buf_fini(&small);
        }
    }
}

static void too_deep_a_value(void **state)
{
    (void)state;
    struct type types[80];
    const struct type *args[80];
    struct buf cell;
    struct json_counts counts = {0};
    struct err err = {0};

    buf_init(&cell, 4096);
    types[0] = *type_simple(TYPE_INT);
    for (int i = 1; i < 80; i++) {
        args[i] = &types[i - 1];
        types[i] = (struct type){.kind = TYPE_LIST, .arg_count = 1, .args = &args[i]};
    }
    for (uint32_t i = 79; i; i--) {
        buf_add_u32(&cell, 1);
        buf_add_u32(&cell, 4 + (i - 1) * 8);
    }
    buf_add_u32(&cell, 5);
    buf_reset(&out);
    assert_false(json_cell(&out, &types[79], buf_slice(&cell), &counts, &err));
    assert_int_equal(err.kind, ERR_REJECT);
    struct slice inner = slice_of(cell.p + 8 * 40, cell.len - 8 * 40);
    assert_true(json_cell(&out, &types[39], inner, &counts, &err));
    assert_int_equal(out.len, 39 * 2 + 1);
    buf_fini(&cell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_value),
        cmocka_unit_test(every_recorded_empty_value),
        cmocka_unit_test(recorded_writetimes),
        cmocka_unit_test(recorded_schema_rows),
        cmocka_unit_test(forms_by_hand),
        cmocka_unit_test(years_are_counted),
        cmocka_unit_test(every_day_follows_the_one_before),
        cmocka_unit_test(numbers_read_back),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(varints_of_any_length),
        cmocka_unit_test(strings),
        cmocka_unit_test(strings_of_any_length),
        cmocka_unit_test(bytes_that_cannot_be),
        cmocka_unit_test(cells_cut_short),
        cmocka_unit_test(a_full_body),
        cmocka_unit_test(too_deep_a_value),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
