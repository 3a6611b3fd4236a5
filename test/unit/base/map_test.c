#include "base/map.h"

#include "base/cmocka_all.h"

static void keys_are_found_and_keep_their_order(void **state)
{
    struct map m;
    char key[16];
    bool added;

    (void)state;
    map_init(&m);
    assert_null(map_get(&m, slice_str("none")));
    for (intptr_t i = 0; i < 10000; i++) {
        int n = snprintf(key, sizeof key, "k%ld", (long)i);
        struct map_entry *e = map_put(&m, slice_of(key, (size_t)n), &added);

        assert_true(added);
        assert_null(e->value);
        e->value = (void *)(i + 1);
    }
    assert_int_equal(m.len, 10000);
    for (intptr_t i = 0; i < 10000; i++) {
        int n = snprintf(key, sizeof key, "k%ld", (long)i);

        assert_ptr_equal(map_get(&m, slice_of(key, (size_t)n))->value, i + 1);
        assert_string_equal((const char *)m.entries[i].key.p, key); /* a NUL follows it */
    }
    struct map_entry *again = map_put(&m, slice_str("k7"), &added);
    assert_false(added);
    assert_ptr_equal(again->value, 8);
    assert_ptr_equal(map_put(&m, slice_str("k8"), NULL)->value, 9);
    assert_null(map_get(&m, slice_str("k10000")));
    map_reset(&m);
    assert_int_equal(m.len, 0);
    assert_null(map_get(&m, slice_str("k7")));
    map_put(&m, slice_str("k7"), &added);
    assert_true(added);
    map_fini(&m);
}

static void keys_are_bytes(void **state)
{
    struct map m;

    (void)state;
    map_init(&m);
    map_put(&m, slice_of("a\0b", 3), NULL)->value = &m;
    map_put(&m, slice_of("", 0), NULL)->value = state;
    assert_null(map_get(&m, slice_str("a")));
    assert_ptr_equal(map_get(&m, slice_of("a\0b", 3))->value, &m);
    assert_ptr_equal(map_get(&m, slice_of("", 0))->value, state);
    map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_found_and_keep_their_order),
        cmocka_unit_test(keys_are_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
