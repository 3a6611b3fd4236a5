#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/brake.h"

static int64_t now_us;
static int64_t now(void *ctx)
{
    (void)ctx;
    return now_us;
}
static struct clock test_clock = {.wall_us = now, .mono_us = now};

static unsigned deletes(struct brake *b, unsigned of)
{
    unsigned n = 0;

    while (of--)
        n += brake_delete(b);
    return n;
}

static void a_hundred_or_one_percent(void **state)
{
    static const struct {
        uint64_t ids;
        unsigned most;
    } cases[] = {{0, 100}, {50, 100}, {10000, 100}, {10100, 101}, {50000, 500}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO(brake) struct brake *b = brake_new(&(struct brake_options){.clock = &test_clock});
        char why[200] = "";
        brake_ids(b, cases[i].ids);
        assert_int_equal(deletes(b, cases[i].most), cases[i].most);
        assert_false(brake_pulled(b, why, sizeof why));
        assert_int_equal(deletes(b, 5), 0);
        assert_true(brake_pulled(b, why, sizeof why));
        brake_ids(b, 1000000); /* pulled is pulled */
        assert_int_equal(deletes(b, 5), 0);
    }
}

static void goes_on_where_the_run_stopped(void **state)
{
    AUTO(brake)
    struct brake *b =
        brake_new(&(struct brake_options){.clock = &test_clock, .ids = 20000, .missing = 199});
    char why[200];

    (void)state;
    assert_int_equal(deletes(b, 5), 1);
    assert_true(brake_pulled(b, why, sizeof why));
    assert_string_equal(why, "more than 200 rows of 20000 ids are missing");
}

static void every_hour_anew(void **state)
{
    AUTO(brake)
    struct brake *b =
        brake_new(&(struct brake_options){.clock = &test_clock, .window_ms = 3600000});

    (void)state;
    assert_int_equal(deletes(b, 200), 100);
    now_us += INT64_C(3599999000);
    assert_int_equal(deletes(b, 200), 0);
    now_us += 1000;
    assert_false(brake_pulled(b, NULL, 0));
    assert_int_equal(deletes(b, 200), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_or_one_percent),
        cmocka_unit_test(goes_on_where_the_run_stopped),
        cmocka_unit_test(every_hour_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
