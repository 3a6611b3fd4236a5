/* Cells to C values, and text to key cells. */
#include "cql/vectors.h"

#include "cql/type.h"
#include "model/value.h"

static struct arena mem;
static struct buf out;

static int begin(void **state)
{
    arena_init(&mem, 8 << 20);
    buf_init(&out, 1 << 20);
    return vectors_begin(state);
}

static int end(void **state)
{
    buf_fini(&out);
    arena_fini(&mem);
    return vectors_end(state);
}

static const struct type *cql_type(struct slice text)
{
    const struct type *t = NULL;
    struct err err = {0};

    return type_parse_cql(text, NULL, &mem, &t, &err) ? t : NULL;
}

static void vints(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        uint64_t v;
    } rows[] = {
        {"00", 0},
        {"7f", 127},
        {"8080", 128},
        {"bfff", 16383},
        {"c04000", 16384},
        {"fe01000000000000", UINT64_C(1) << 48},
        {"ff0100000000000000", UINT64_C(1) << 56},
        {"ffffffffffffffffff", UINT64_MAX},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice all = unhex_text(rows[i].hex);
        struct slice in = all;
        uint64_t v;
        int64_t zigzag;
        assert_true(take_uvint(&in, &v));
        assert_int_equal(in.n, 0);
        assert_true(v == rows[i].v);
        in = all;
        assert_true(take_vint(&in, &zigzag));
        assert_true(zigzag == (int64_t)(rows[i].v % 2 ? ~(rows[i].v / 2) : rows[i].v / 2));
        for (size_t n = 0; n < all.n; n++) {
            in = slice_of(all.p, n);
            assert_false(take_uvint(&in, &v));
            assert_int_equal(in.n, n);
        }
    }
}

static void simple_values(void **state)
{
    (void)state;
    int64_t v;
    int64_t days;
    int64_t nanos;
    int32_t scale;
    struct slice unscaled;
    double d;
    float f;
    bool b;

    assert_true(value_int(unhex_text("80"), &v) && v == -128);
    assert_true(value_int(unhex_text("fffe"), &v) && v == -2);
    assert_true(value_int(unhex_text("80000000"), &v) && v == INT32_MIN);
    assert_true(value_int(unhex_text("8000000000000000"), &v) && v == INT64_MIN);
    assert_false(value_int(unhex_text("000000"), &v));
    assert_true(value_double(unhex_text("bff8000000000000"), &d) && d == -1.5);
    assert_false(value_double(unhex_text("bff80000"), &d));
    assert_true(value_float(unhex_text("bfc00000"), &f) && f == -1.5f);
    assert_true(value_bool(unhex_text("00"), &b) && !b);
    assert_true(value_bool(unhex_text("01"), &b) && b);
    assert_false(value_bool(unhex_text("0100"), &b));
    assert_true(value_date(unhex_text("7fffffff"), &v) && v == -1);
    assert_true(value_decimal(unhex_text("ffffffff01"), &scale, &unscaled));
    assert_true(scale == -1 && unscaled.n == 1);
    assert_false(value_decimal(unhex_text("ffffffff"), &scale, &unscaled));
    assert_true(value_duration(unhex_text("010305"), &v, &days, &nanos));
    assert_true(v == -1 && days == -2 && nanos == -3);
    assert_false(value_duration(unhex_text("0102"), &v, &days, &nanos));
    assert_false(value_duration(unhex_text("01020300"), &v, &days, &nanos));
    assert_false(value_duration(unhex_text("010200"), &v, &days, &nanos));
}

/* A tuple that is shorter than its type ends in nulls; a field cut in the middle is bad. */
static void elements(void **state)
{
    (void)state;
    const struct type *t = cql_type(slice_str("tuple<int, text, int>"));
    struct value_cursor c;
    const struct type *type;
    struct slice e;
    bool bad;

    assert_true(value_open(t, unhex_text("0000000400000001"), &c));
    assert_true(value_next(&c, &type, &e, &bad) && e.n == 4 && c.index == 0);
    assert_true(value_next(&c, &type, &e, &bad) && !e.p && type->kind == TYPE_TEXT);
    assert_true(value_next(&c, &type, &e, &bad) && !e.p && c.index == 2);
    assert_false(value_next(&c, &type, &e, &bad));
    assert_false(bad);
    assert_true(value_open(t, unhex_text("00000004000000"), &c));
    assert_false(value_next(&c, &type, &e, &bad));
    assert_true(bad);

    t = cql_type(slice_str("map<int, text>"));
    assert_true(value_open(t, unhex_text("0000000100000004000000070000000161"), &c));
    assert_int_equal(c.left, 2);
    assert_true(value_next(&c, &type, &e, &bad) && type->kind == TYPE_INT);
    assert_true(value_next(&c, &type, &e, &bad) && type->kind == TYPE_TEXT && e.p[0] == 'a');
    assert_false(value_next(&c, &type, &e, &bad));
    assert_false(bad);
    assert_false(value_open(t, unhex_text("40000000ffffffff"), &c));
    assert_false(value_open(type_simple(TYPE_INT), unhex_text("00000000"), &c));
    assert_true(value_is_null(type_simple(TYPE_INT), slice_of("", 0)));
    assert_false(value_is_null(type_simple(TYPE_BLOB), slice_of("", 0)));
    assert_true(value_is_null(type_simple(TYPE_BLOB), SLICE_NULL));
}

static void texts_of_keys(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        const char *text;
        const char *hex; /* NULL: refused */
        const char *wanted;
    } rows[] = {
        {"text", "h\xc3\xbc", "68c3bc", NULL},
        {"text", "\xff", NULL, "text in UTF-8"},
        {"ascii", "a b", "612062", NULL},
        {"ascii", "\xc3\xbc", NULL, "ASCII text"},
        {"tinyint", "-128", "80", NULL},
        {"tinyint", "128", NULL, "a tinyint (-128 to 127)"},
        {"smallint", "32767", "7fff", NULL},
        {"smallint", "x", NULL, "a smallint (-32768 to 32767)"},
        {"int", "-1", "ffffffff", NULL},
        {"int", "", NULL, "an int (-2147483648 to 2147483647)"},
        {"bigint", "9223372036854775807", "7fffffffffffffff", NULL},
        {"bigint", "9223372036854775808", NULL, "a bigint (a whole number of 64 bits)"},
        {"counter", "1", "0000000000000001", NULL},
        {"uuid", "123E4567-e89b-42d3-a456-426614174000", "123e4567e89b42d3a456426614174000", NULL},
        {"uuid", "123e4567e89b42d3a456426614174000", NULL, "a uuid (8-4-4-4-12 hex digits)"},
        {"uuid", "123e4567-e89b-42d3-a456-42661417400g", NULL, "a uuid (8-4-4-4-12 hex digits)"},
        {"timeuuid", "50554d6e-29bb-11e5-b345-feff819cdc9f", "50554d6e29bb11e5b345feff819cdc9f",
         NULL},
        {"timeuuid", "123e4567-e89b-42d3-a456-426614174000", NULL,
         "a timeuuid (a uuid of version 1)"},
        {"boolean", "TRUE", "01", NULL},
        {"boolean", "false", "00", NULL},
        {"boolean", "1", NULL, "true or false"},
        {"timestamp", "1970-01-01T00:00:00.001Z", "0000000000000001", NULL},
        {"timestamp", "-1", "ffffffffffffffff", NULL},
        {"timestamp", "2024-02-29", "0000018df2292800", NULL},
        {"timestamp", "2024-02-29 12:34:56.789Z", "0000018df4dc5495", NULL},
        {"timestamp", "2024-02-29T14:34:56.789+02:00", "0000018df4dc5495", NULL},
        {"timestamp", "+292278994-08-17T07:12:55.807Z", "7fffffffffffffff", NULL},
        {"timestamp", "-292275055-05-16T16:47:04.192Z", "8000000000000000", NULL},
        {"timestamp", "-292275055-05-16T16:47:04.191Z", NULL,
         "a timestamp (2024-02-29T12:34:56.789Z, or ms since 1970)"},
        {"timestamp", "2023-02-29", NULL,
         "a timestamp (2024-02-29T12:34:56.789Z, or ms since 1970)"},
        {"timestamp", "2024-02-29T12:34:56.7891Z", NULL,
         "a timestamp (2024-02-29T12:34:56.789Z, or ms since 1970)"},
        {"timestamp", "2024-02-29T24:00:00Z", NULL,
         "a timestamp (2024-02-29T12:34:56.789Z, or ms since 1970)"},
        {"date", "2024-02-29", "80004d46", NULL},
        {"date", "-5877641-06-23", "00000000", NULL},
        {"date", "5881580-07-11", "ffffffff", NULL},
        {"date", "+5881580-07-12", NULL, "a date (2024-02-29)"},
        {"date", "2024-2-9", NULL, "a date (2024-02-29)"},
        {"date", "2024-04-31", NULL, "a date (2024-02-29)"},
        {"date", "2024-02-29T", NULL, "a date (2024-02-29)"},
        {"time", "08:12:54.1234", "00001ae5c31eab40", NULL},
        {"time", "24:00:00", NULL, "a time (12:34:56.123456789)"},
        {"time", "08:12:54.1234567891", NULL, "a time (12:34:56.123456789)"},
        {"inet", "127.0.0.1", "7f000001", NULL},
        {"inet", "2001:db8::ff00:42:8329", "20010db8000000000000ff0000428329", NULL},
        {"inet", "::ffff:1.2.3.4", "01020304", NULL},
        {"inet", "1.2.3", NULL, "an IP address"},
        {"varint", "0", "00", NULL},
        {"varint", "-0", "00", NULL},
        {"varint", "128", "0080", NULL},
        {"varint", "-128", "80", NULL},
        {"varint", "-129", "ff7f", NULL},
        {"varint", "255", "00ff", NULL},
        {"varint", "-256", "ff00", NULL},
        {"varint", "4294967296", "0100000000", NULL},
        {"varint", "18446744073709551616", "010000000000000000", NULL},
        {"varint", "-18446744073709551616", "ff0000000000000000", NULL},
        {"varint", "1.0", NULL, "a whole number (of at most 10000 digits)"},
        {"varint", "", NULL, "a whole number (of at most 10000 digits)"},
        {"decimal", "123.4560", "0000000412d680", NULL},
        {"decimal", "-0.001", "00000003ff", NULL},
        {"decimal", "1E+10", "fffffff601", NULL},
        {"decimal", "1e-400", "0000019001", NULL},
        {"decimal", ".5", "0000000105", NULL},
        {"decimal", "1e", NULL, "a decimal number (of at most 10000 digits)"},
        {"decimal", "1.2.3", NULL, "a decimal number (of at most 10000 digits)"},
        {"decimal", "1e2147483648", "8000000001", NULL},
        {"decimal", "1e+-5", NULL, "a decimal number (of at most 10000 digits)"},
        {"decimal", "1e2147483649", NULL, "a decimal number (of at most 10000 digits)"},
        {"decimal", ".", NULL, "a decimal number (of at most 10000 digits)"},
        {"double", "1.5", "3ff8000000000000", NULL},
        {"double", "-0.0", "8000000000000000", NULL},
        {"double", "NaN", "7ff8000000000000", NULL},
        {"double", "-Infinity", "fff0000000000000", NULL},
        {"double", "1e999", NULL, "a number"},
        {"double", "0x10", NULL, "a number"},
        {"double", "", NULL, "a number"},
        {"float", "0.1", "3dcccccd", NULL},
        {"float", "NaN", "7fc00000", NULL},
        {"float", "1e39", NULL, "a number that a float can hold"},
        {"blob", "0x00ff", "00ff", NULL},
        {"blob", "0x", "", NULL},
        {"blob", "AP9/gA==", "00ff7f80", NULL},
        {"blob", "", "", NULL},
        {"blob", "AP9/gB==", NULL, "bytes (0x and hex digits, or base64)"},
        {"blob", "AP9=gA==", NULL, "bytes (0x and hex digits, or base64)"},
        {"blob", "0x0", NULL, "bytes (0x and hex digits, or base64)"},
        {"duration", "1d", NULL, "a value that can be given as text (this type can't)"},
        {"list<int>", "[1]", NULL, "a value that can be given as text (this type can't)"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        char text[200];
        buf_reset(&out);
        buf_add_str(&out, "k");
        bool ok =
            value_from_text(cql_type(slice_str(rows[i].type)), slice_str(rows[i].text), &out, &err);
        if (ok != (rows[i].hex != NULL))
            fail_msg("row %zu (%s %s): %s", i, rows[i].type, rows[i].text, err.text);
        if (ok) {
            assert_bytes(slice_of(out.p + 1, out.len - 1), unhex_text(rows[i].hex));
            continue;
        }
        snprintf(text, sizeof text, "not what the column holds: wanted %s", rows[i].wanted);
        assert_string_equal(err.text, text);
        assert_int_equal(err.kind, ERR_REJECT);
        assert_int_equal(out.len, 1);
    }
}

/* Literals of the recorded keys give the recorded components. */
static void recorded_keys(void **state)
{
    (void)state;
    int checked = 0;

    json_each (v, vectors_section("tokens")) {
        if (!json_get(v, "values"))
            continue;
        const struct json *type = json_get(v, "columns")->first;
        const struct json *part = json_get(v, "components")->first;
        json_each (value, json_get(v, "values")) {
            struct slice text = value->text;
            const struct type *t = cql_type(type->text);
            struct err err = {0};
            if (text.n && text.p[0] == '\'')
                text = slice_of(text.p + 1, text.n - 2);
            if (t && t->arg_count == 0) {
                buf_reset(&out);
                if (!value_from_text(t, text, &out, &err))
                    fail_msg("%s: %s", text_of(text), err.text);
                assert_bytes(buf_slice(&out), unhex(part->text));
                checked++;
            }
            type = type->next;
            part = part->next;
        }
    }
    assert_true(checked > 15);
}

static void too_long(void **state)
{
    (void)state;
    static char digits[10002];
    struct err err = {0};
    struct buf small;

    memset(digits, '9', 10001);
    buf_reset(&out);
    assert_false(value_from_text(type_simple(TYPE_VARINT), slice_of(digits, 10001), &out, &err));
    assert_true(value_from_text(type_simple(TYPE_VARINT), slice_of(digits, 10000), &out, &err));
    assert_int_equal(out.len, 4153);
    static char text[65537];
    memset(text, 'x', sizeof text);
    buf_reset(&out);
    assert_true(value_from_text(type_simple(TYPE_TEXT), slice_of(text, 65535), &out, &err));
    buf_reset(&out);
    assert_false(value_from_text(type_simple(TYPE_TEXT), slice_of(text, 65536), &out, &err));
    assert_string_equal(err.text, "not what the column holds: wanted a key of at most 65535 bytes");
    buf_init(&small, 3);
    assert_false(value_from_text(type_simple(TYPE_INT), slice_str("1"), &small, &err));
    assert_int_equal(small.len, 0);
    buf_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vints),         cmocka_unit_test(simple_values),
        cmocka_unit_test(elements),      cmocka_unit_test(texts_of_keys),
        cmocka_unit_test(recorded_keys), cmocka_unit_test(too_long),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
