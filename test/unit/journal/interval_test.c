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

/* The list is the bitmap's runs. */
static void check_against(const struct interval_set *s, const bool *bits, int64_t base)
{
    size_t n = 0;

    for (int v = 1; v <= SPAN; v++) {
        int from = v - 1;
        if (!bits[v])
            continue;
        while (v < SPAN && bits[v + 1])
            v++;
        assert_true(n < s->count);
        assert_int_equal(s->list[n].start, base + from);
        assert_int_equal(s->list[n++].end, base + v);
    }
    assert_int_equal(s->count, n);
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
        }
        interval_set_fini(&s);
    }
}

static void the_whole_ring(void **state)
{
    struct interval_set s = {0};

    (void)state;
    interval_set_add(&s, INT64_MIN, 0);
    interval_set_add(&s, 0, INT64_MAX);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.list[0].start, INT64_MIN);
    assert_int_equal(s.list[0].end, INT64_MAX);
    interval_set_remove(&s, -1, 0);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.list[0].end, -1);
    assert_int_equal(s.list[1].start, 0);
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
