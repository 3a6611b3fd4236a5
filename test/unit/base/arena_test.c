#include "base/arena.h"

#include "base/cmocka_all.h"

static void allocations_are_apart_and_aligned(void **state)
{
    struct arena a;
    uint8_t *p[100];

    (void)state;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < 100; i++) {
        p[i] = arena_alloc(&a, i + 1);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, i + 1);
    }
    for (size_t i = 0; i < 100; i++) {
        for (size_t k = 0; k <= i; k++)
            assert_int_equal(p[i][k], i);
    }
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    uint8_t *zero = arena_zalloc(&a, 5000);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(zero[i], 0);
    arena_fini(&a);
}

static void the_ceiling_holds_and_a_reset_gives_all_back(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 256 << 10);
    for (int round = 0; round < 3; round++) {
        size_t got = 0;

        while (arena_alloc(&a, 1000))
            got += 1000;
        assert_true(got >= 128 << 10);
        assert_true(a.taken <= a.max);
        assert_null(arena_alloc(&a, 1 << 20));
        assert_null(arena_alloc(&a, SIZE_MAX));
        arena_reset(&a);
    }
    size_t taken = a.taken;
    assert_non_null(arena_alloc(&a, 1000));
    assert_int_equal(a.taken, taken); /* blocks are kept */
    arena_fini(&a);
}

static void a_large_one_finds_room(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 8 << 20);
    assert_non_null(arena_alloc(&a, 10));
    uint8_t *large = arena_alloc(&a, 4 << 20);
    assert_non_null(large);
    memset(large, 1, 4 << 20);
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 4 << 20)); /* again, from the kept block */
    arena_fini(&a);
}

static void a_large_one_finds_room_after_many_small(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 20);
    while (arena_alloc(&a, 1000)) {
    }
    assert_null(arena_alloc(&a, 600 << 10));
    arena_reset(&a);
    uint8_t *small = arena_alloc(&a, 1000);
    memset(small, 7, 1000);
    uint8_t *large = arena_alloc(&a, 600 << 10);
    assert_non_null(large);
    memset(large, 8, 600 << 10);
    assert_int_equal(small[999], 7);
    assert_true(a.taken <= a.max);
    assert_non_null(arena_alloc(&a, 200 << 10));
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_apart_and_aligned),
        cmocka_unit_test(the_ceiling_holds_and_a_reset_gives_all_back),
        cmocka_unit_test(a_large_one_finds_room),
        cmocka_unit_test(a_large_one_finds_room_after_many_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
