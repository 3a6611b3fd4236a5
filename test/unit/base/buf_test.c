#include "base/buf.h"

#include "base/cmocka_all.h"

static void numbers_are_taken_or_nothing_is(void **state)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct slice in = slice_of(bytes, sizeof bytes);
    struct slice out;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    int32_t i32;
    int64_t i64;

    (void)state;
    assert_true(take_u8(&in, &u8) && u8 == 1);
    assert_true(take_i64(&in, &i64) && i64 == 0x0203040506070809);
    assert_int_equal(in.n, 0);
    in = slice_of(bytes, 3);
    assert_false(take_u32(&in, &u32));
    assert_false(take_i32(&in, &i32));
    assert_false(take_i64(&in, &i64));
    assert_int_equal(in.n, 3);
    assert_true(take_u16(&in, &u16) && u16 == 0x0102);
    assert_false(take_u16(&in, &u16));
    assert_false(slice_take(&in, 2, &out));
    assert_false(slice_take(&in, SIZE_MAX, &out));
    assert_true(slice_take(&in, 1, &out) && out.n == 1 && out.p[0] == 3);
    assert_true(slice_take(&in, 0, &out) && out.n == 0);
    assert_false(take_u8(&in, &u8));
    const uint8_t minus[] = {0xff, 0xff, 0xff, 0xfe};
    in = slice_of(minus, 4);
    assert_true(take_i32(&in, &i32) && i32 == -2);
}

static void slices_are_compared_by_bytes(void **state)
{
    (void)state;
    assert_true(slice_is(slice_str("ab"), "ab"));
    assert_false(slice_is(slice_str("ab"), "abc"));
    assert_false(slice_is(slice_str("abc"), "ab"));
    assert_true(slice_eq(slice_of("", 0), slice_of("x", 0)));
    assert_false(slice_eq(slice_str("a"), slice_str("b")));
}

static void beyond_the_maximum_nothing_is_written_until_it_is_cut(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    buf_add_str(&b, "12345");
    assert_false(b.full);
    buf_add_str(&b, "678901"); /* one too many */
    assert_true(b.full);
    assert_int_equal(b.len, 5);
    buf_add_byte(&b, 'x'); /* would fit, but comes after a hole */
    assert_int_equal(b.len, 5);
    buf_cut(&b, 3);
    assert_false(b.full);
    buf_add_str(&b, "4567890");
    assert_int_equal(b.len, 10);
    assert_memory_equal(b.p, "1234567890", 10);
    assert_false(b.full);
    assert_string_equal(buf_cstr(&b), ""); /* no room for the end */
    buf_reset(&b);
    assert_int_equal(b.len, 0);
    buf_add(&b, NULL, 0);
    assert_false(b.full);
    buf_fini(&b);
}

static void printf_and_numbers(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    buf_printf(&b, "%s-%d", "a", 7);
    assert_string_equal(buf_cstr(&b), "a-7");
    buf_reset(&b);
    buf_add_u16(&b, 0x0102);
    buf_add_u32(&b, 0x03040506);
    buf_add_u64(&b, 0x0708090a0b0c0d0e);
    for (uint8_t i = 0; i < 14; i++)
        assert_int_equal(b.p[i], i + 1);
    assert_int_equal(load_u16(b.p), 0x0102);
    assert_int_equal(load_u32(b.p + 2), 0x03040506);
    assert_true(load_u64(b.p + 6) == 0x0708090a0b0c0d0e);
    for (int i = 0; i < 100000; i++)
        buf_add_byte(&b, 'x');
    assert_int_equal(b.len, 100014);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_taken_or_nothing_is),
        cmocka_unit_test(slices_are_compared_by_bytes),
        cmocka_unit_test(beyond_the_maximum_nothing_is_written_until_it_is_cut),
        cmocka_unit_test(printf_and_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
