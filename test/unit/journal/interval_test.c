/* Interval arithmetic, against a bitmap and at the ends of the numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "journal/journal.h"

enum { SPAN = 64 };

static void check_form(const struct interval_set *s)
{
    for (size_t i = 0; i < s->count; i++) {
        assert_true(s->list[i].start < s->list[i].end);
        if (i > 0)
            assert_true(s->list[i - 1].end < s->list[i].start);
    }
}

static void check_against(const struct interval_set *s, const bool *bits, int64_t base)
{
    size_t covered = 0;

    check_form(s);
    for (int v = 1; v <= SPAN; v++) {
        assert_int_equal(interval_set_has(s, base + v - 1, base + v), bits[v]);
        covered += bits[v];
    }
    assert_int_equal(interval_set_size(s), covered);
}

static void check_whole(const struct interval_set *s, const bool *bits, int64_t base, int from,
                        int to)
{
    bool all = true;

    for (int v = from + 1; v <= to; v++)
        all = all && bits[v];
    assert_int_equal(interval_set_has(s, base + from, base + to), all);
}

static void like_a_bitmap(void **state)
{
    /* The last span ends with the numbers themselves. */
    static const int64_t bases[] = {0, -SPAN / 2, INT64_MIN, INT64_MAX - SPAN};
    unsigned seed = (unsigned)time(NULL);

    (void)state;
    print_message("seed %u\n", seed);
    for (unsigned round = 0; round < 400; round++) {
        struct interval_set s = {0};
        bool bits[SPAN + 1] = {false};
        int64_t base = bases[round % 4];

        for (int step = 0; step < 60; step++) {
            int a = rand_r(&seed) % (SPAN + 1);
            int b = rand_r(&seed) % (SPAN + 1);
            int from = a < b ? a : b;
            int to = a < b ? b : a;
            bool add = rand_r(&seed) % 5 < 2 || to - from < 6;

            if (add)
                interval_set_add(&s, base + from, base + to);
            else
                interval_set_remove(&s, base + from, base + to);
            for (int v = from + 1; v <= to; v++)
                bits[v] = add;
            check_against(&s, bits, base);
            check_whole(&s, bits, base, rand_r(&seed) % (from + 1), to);
        }
        interval_set_fini(&s);
    }
}

static void the_whole_ring(void **state)
{
    struct interval_set s = {0};

    (void)state;
    assert_true(interval_set_size(&s) == 0);
    assert_false(interval_set_has(&s, INT64_MIN, INT64_MAX));
    interval_set_add(&s, INT64_MIN, 0);
    interval_set_add(&s, 0, INT64_MAX);
    assert_int_equal(s.count, 1);
    assert_true(interval_set_size(&s) == UINT64_MAX);
    assert_true(interval_set_has(&s, INT64_MIN, INT64_MAX));
    interval_set_remove(&s, -1, 0);
    assert_int_equal(s.count, 2);
    assert_true(interval_set_size(&s) == UINT64_MAX - 1);
    interval_set_remove(&s, INT64_MIN, INT64_MAX);
    assert_int_equal(s.count, 0);
    interval_set_fini(&s);
}

static void empty_changes_nothing(void **state)
{
    struct interval_set s = {0};

    (void)state;
    interval_set_add(&s, 5, 5);
    assert_int_equal(s.count, 0);
    interval_set_add(&s, 1, 9);
    interval_set_remove(&s, 5, 5);
    assert_int_equal(s.count, 1);
    assert_true(interval_set_has(&s, 20, 20));
    interval_set_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_a_bitmap),
        cmocka_unit_test(the_whole_ring),
        cmocka_unit_test(empty_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
