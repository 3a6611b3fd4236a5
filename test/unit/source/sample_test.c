/* A share of the ring: as much as was asked for, spread, in order, the same each time. */
#include "source/sample.h"

#include <stdlib.h>
#include <string.h>

#include "base/cmocka_all.h"

static void words(void **state)
{
    static const struct {
        const char *text;
        uint32_t share;
        uint64_t partitions;
    } good[] = {{"100%", SAMPLE_ALL, 0},
                {"5%", 50000000, 0},
                {" 0.5% ", 5000000, 0},
                {"12.5%", 125000000, 0},
                {"0.0000001%", 1, 0},
                {"1000", 0, 1000},
                {"1", 0, 1},
                {"99.99%", 999900000, 0}};
    static const char *const bad[] = {"",     "%",  "0%",  "0",   "-1",          "101%", "100.1%",
                                      "5 %x", "x%", ".5%", "5.%", "0.00000001%", "1e3"};
    struct sample s;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct err err = {0};
        if (!sample_parse(slice_str(good[i].text), &s, &err))
            fail_msg("%s: %s", good[i].text, err.text);
        assert_int_equal(s.share, good[i].share);
        assert_int_equal(s.partitions, good[i].partitions);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        if (sample_parse(slice_str(bad[i]), &s, &err))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(err.kind, ERR_USER);
    }
}

static void shares(void **state)
{
    (void)state;
    assert_int_equal(sample_share(10, 10), SAMPLE_ALL);
    assert_int_equal(sample_share(11, 10), SAMPLE_ALL);
    assert_int_equal(sample_share(1, 100), 10000000);
    assert_int_equal(sample_share(1, UINT64_MAX), 1);
}

/* Of SAMPLE_ALL. */
static double covered(const struct token_range *list, size_t count, int64_t from, int64_t to)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t start = list[i].start > from ? list[i].start : from;
        int64_t end = list[i].end < to ? list[i].end : to;
        if (start < end)
            sum += (double)end - (double)start;
    }
    return sum / 18446744073709551616.0 * (double)SAMPLE_ALL;
}

static void ranges(void **state)
{
    static const uint32_t list[] = {SAMPLE_ALL,       SAMPLE_ALL / 2,    SAMPLE_ALL / 10,
                                    SAMPLE_ALL / 100, SAMPLE_ALL / 1000, SAMPLE_ALL / 100000};

    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct token_range *one, *two;
        size_t count = sample_ranges(list[i], &one);
        assert_int_equal(sample_ranges(list[i], &two), count);
        assert_memory_equal(one, two, count * sizeof *one);
        for (size_t n = 0; n < count; n++) {
            assert_true(one[n].start < one[n].end);
            assert_true(n == 0 || one[n].start > one[n - 1].end);
        }
        double share = covered(one, count, INT64_MIN, INT64_MAX);
        assert_true(share <= list[i] * 1.0001 && share >= list[i] * 0.96);
        for (uint64_t quarter = 0; quarter < 4; quarter++) { /* spread */
            int64_t from = (int64_t)((quarter << 62) + (UINT64_C(1) << 63));
            double part = covered(one, count, from, from + INT64_MAX / 2);
            assert_true(part > share / 4 * 0.7 && part < share / 4 * 1.3);
        }
        free(one);
        free(two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(shares),
        cmocka_unit_test(ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
