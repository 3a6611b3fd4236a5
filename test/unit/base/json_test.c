#include "base/json.h"

#include "base/cmocka_all.h"

static const struct json *parse(const char *text, struct arena *mem, struct err *err)
{
    err_clear(err);
    return json_parse(slice_str(text), mem, err);
}

static void texts_come_back_as_they_were(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: the same */
    } cases[] = {
        {"null", NULL},
        {" true ", "true"},
        {"false", NULL},
        {"0", NULL},
        {"-0.0", NULL},
        {"123456789012345678901234567890.10", NULL},
        {"1E+400", NULL},
        {"\"\"", NULL},
        {"\"a\\\"b\\\\c\\n\\u0001\"", NULL},
        {"\"\\u00e9\\/\"", "\"\xc3\xa9/\""},
        {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
        {"[]", NULL},
        {"{}", NULL},
        {"[1, [2,[]] ,{\"a\":null}]", "[1,[2,[]],{\"a\":null}]"},
        {"{\"b\":1,\"a\":2,\"b\":3}", NULL},
        {"{\"\":\"x\"}", NULL},
    };
    struct arena mem;
    struct buf out;
    struct err err;

    (void)state;
    arena_init(&mem, 1 << 20);
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct json *v = parse(cases[i].in, &mem, &err);

        if (!v)
            fail_msg("%s: %s", cases[i].in, err.text);
        buf_reset(&out);
        json_write(&out, v);
        assert_string_equal(buf_cstr(&out), cases[i].out ? cases[i].out : cases[i].in);
    }
    buf_fini(&out);
    arena_fini(&mem);
}

static void what_is_no_json_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "nul",
        "{",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "1 2",
        "{}{}",
        "\"a",
        "\"\xff\"",
        "\"\\x\"",
        "01",
        "+1",
        "[1 2]",
        "{a:1}",
        "'a'",
        "NaN",
        "// c\n1",
        "\"a\\ud800\\u0041\"",
        "\"\\\\\\uD9abc\"",
        "\"\\ud800\"x",
        "]",
        "\"\t\"",
        "\"x\\ude00\"",
        "{\"\\udfff\":1}",
        /* a string that is begun behind the value */
        "1\"",
        "1 \"abc",
        "{\"a\":1}\"x}",
        "[1]\"\\",
        "\"a\"\"b",
        "-2\"\\udbe0",
        "1\"\\u12",
        "1\"\xc3",
    };
    struct arena mem;
    struct err err;

    (void)state;
    arena_init(&mem, 1 << 20);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (parse(texts[i], &mem, &err))
            fail_msg("taken: %s", texts[i]);
        assert_int_equal(err.kind, ERR_REJECT);
        assert_true(err.text[0] != '\0');
    }
    arena_fini(&mem);
}

static void depth_and_memory_have_a_limit(void **state)
{
    struct arena mem;
    struct err err;
    char deep[1002];

    (void)state;
    arena_init(&mem, 256 << 10);
    memset(deep, '[', 500);
    memset(deep + 500, ']', 500);
    deep[1000] = '\0';
    assert_null(parse(deep, &mem, &err));
    assert_int_equal(err.kind, ERR_REJECT);
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    deep[400] = '\0';
    assert_non_null(parse(deep, &mem, &err));
    char *large = malloc(400001);
    large[0] = '[';
    for (int i = 1; i < 400000; i += 2)
        memcpy(large + i, "1,", 2);
    large[399999] = ']';
    large[400000] = '\0';
    assert_null(parse(large, &mem, &err));
    assert_int_equal(err.kind, ERR_REJECT);
    free(large);
    arena_fini(&mem);
}

static void members_are_found(void **state)
{
    struct arena mem;
    struct err err;

    (void)state;
    arena_init(&mem, 1 << 20);
    const struct json *v = parse("{\"a\":1,\"b\":\"x\",\"a\":[true,2]}", &mem, &err);
    assert_int_equal(v->count, 3);
    assert_int_equal(json_get(v, "a")->kind, JSON_ARRAY); /* the last of repeated keys */
    assert_true(json_get(v, "a")->first->truth);
    assert_string_equal((const char *)json_get(v, "a")->first->next->text.p, "2");
    assert_true(slice_is(json_get_string(v, "b"), "x"));
    assert_null(json_get_string(v, "a").p);
    assert_null(json_get_string(v, "c").p);
    assert_null(json_get(v, "c"));
    assert_null(json_get(NULL, "c"));
    assert_null(json_get(v->first, "c"));
    size_t n = 0;
    json_each (child, v) {
        n += child->key.n;
    }
    assert_int_equal(n, 3);
    arena_fini(&mem);
}

static void equality_is_of_what_is_meant(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", true},
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", false},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"c\":2}", false},
        {"{\"a\":null}", "{}", false},
        {"[1,2]", "[2,1]", false},
        {"[1,2]", "[1,2]", true},
        {"[1]", "[1,1]", false},
        {"1", "1.0", true},
        {"1e2", "100", true},
        {"1", "2", false},
        {"-1", "1", false},
        {"0.05", "5E-2", true},
        {"-0.0", "0", true},
        {"0e9", "0.000", true},
        {"10", "1", false},
        {"101", "11", false},
        {"1.50", "15e-1", true},
        {"1200.0e+1", "0.012e6", true},
        {"9007199254740992", "9007199254740993", false},
        {"0.1", "0.10000000000000000001", false},
        {"12345678901234567890123.10", "12345678901234567890123.1", true},
        {"1e400", "1e401", false},
        {"1e400", "10e399", true},
        {"1e99999999999999999999", "1e99999999999999999998", false},
        {"{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":2}", false},
        {"{\"a\\u0000b\":1,\"a\":1}", "{\"a\":1,\"c\":1}", false},
        {"9007199254740993", "9007199254740993", true},
        {"1", "\"1\"", false},
        {"\"\\u0061\"", "\"a\"", true},
        {"true", "false", false},
        {"null", "null", true},
        {"{\"a\":{\"b\":[{\"c\":1,\"d\":2}]}}", "{\"a\":{\"b\":[{\"d\":2,\"c\":1}]}}", true},
    };
    struct arena mem;
    struct err err;

    (void)state;
    arena_init(&mem, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct json *a = parse(cases[i].a, &mem, &err);
        const struct json *b = parse(cases[i].b, &mem, &err);

        if (json_equal(a, b) != cases[i].equal || json_equal(b, a) != cases[i].equal)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
    }
    arena_fini(&mem);
}

static void a_text_is_indented_byte_for_byte(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"1.50E+2", "1.50E+2"},
        {"{}", "{}"},
        {" [ ] ", "[]"},
        {"{\"a\":[],\"b\":{ }}", "{\n  \"a\": [],\n  \"b\": {}\n}"},
        {"[1,[2,{\"a\":null}]]", "[\n  1,\n  [\n    2,\n    {\n      \"a\": null\n    }\n  ]\n]"},
        {"{\"a{\\\"}[,:\":\"\\\\\",\"b\":\" x \"}",
         "{\n  \"a{\\\"}[,:\": \"\\\\\",\n  \"b\": \" x \"\n}"},
    };
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_reset(&out);
        json_indent(&out, slice_str(cases[i].in));
        assert_string_equal(buf_cstr(&out), cases[i].out);
    }
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_as_they_were),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(depth_and_memory_have_a_limit),
        cmocka_unit_test(members_are_found),
        cmocka_unit_test(equality_is_of_what_is_meant),
        cmocka_unit_test(a_text_is_indented_byte_for_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
