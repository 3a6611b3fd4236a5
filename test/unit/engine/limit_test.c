#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/limit.h"

/* Time moves only as far as somebody waits for it: each look at the clock is 10 ms. */
static int64_t fake_us(void *ctx)
{
    return *(int64_t *)ctx += 10000;
}

static struct clock fake_clock(int64_t *now)
{
    return (struct clock){.wall_us = fake_us, .mono_us = fake_us, .ctx = now};
}

static void pass(struct limit *l, enum limit_outcome outcome, int64_t took_ms)
{
    struct err err = {0};

    assert_true(limit_enter(l, 1, &err));
    limit_leave(l, outcome, took_ms);
}

static void halves_when_pushed_back_and_climbs_again(void **state)
{
    (void)state;
    int64_t now = 0;
    struct clock clock = fake_clock(&now);
    AUTO(limit)
    struct limit *l =
        limit_new(&(struct limit_options){.clock = &clock, .requests = 8, .body_bytes = 1 << 20});

    assert_int_equal(limit_requests(l), 8);
    pass(l, LIMIT_PUSHED_BACK, 5);
    assert_int_equal(limit_requests(l), 4);
    assert_int_equal(limit_body_bytes(l), 512 << 10);
    pass(l, LIMIT_PUSHED_BACK, 5); /* of the same burst */
    assert_int_equal(limit_requests(l), 4);
    now += 2000000;
    pass(l, LIMIT_FINE, 60000); /* slow is trouble, too */
    assert_int_equal(limit_requests(l), 2);
    for (int i = 0; i < 100; i++)
        pass(l, LIMIT_FINE, 5);
    assert_int_equal(limit_requests(l), 8);
    assert_int_equal(limit_body_bytes(l), 1 << 20);
}

static void never_below_one_request_and_the_smallest_body(void **state)
{
    (void)state;
    int64_t now = 0;
    struct clock clock = fake_clock(&now);
    AUTO(limit)
    struct limit *l =
        limit_new(&(struct limit_options){.clock = &clock, .requests = 4, .body_bytes = 1 << 20});

    for (int i = 0; i < 20; i++) {
        now += 2000000;
        pass(l, LIMIT_PUSHED_BACK, 5);
    }
    assert_int_equal(limit_requests(l), 1);
    assert_int_equal(limit_body_bytes(l), 64 << 10);
}

static void a_rate_is_kept(void **state)
{
    (void)state;
    int64_t now = 0;
    struct clock clock = fake_clock(&now);
    struct cancel cancel;
    struct err err = {0};

    assert_true(cancel_init(&cancel, &err));
    AUTO(limit)
    struct limit *l = limit_new(&(struct limit_options){.clock = &clock,
                                                        .cancel = &cancel,
                                                        .requests = 1,
                                                        .body_bytes = 1 << 20,
                                                        .reads_per_s = 1000});
    for (int i = 0; i < 11; i++)
        assert_true(limit_read(l, 100, &err));
    assert_in_range(now, 1000000, 3000000); /* 1,000 rows behind the first hundred: a second */
    cancel_fire(&cancel, 1);
    assert_true(limit_read(l, 0, &err));
    assert_false(limit_read(l, 100000, &err) && limit_read(l, 1, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    cancel_fini(&cancel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_when_pushed_back_and_climbs_again),
        cmocka_unit_test(never_below_one_request_and_the_smallest_body),
        cmocka_unit_test(a_rate_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
