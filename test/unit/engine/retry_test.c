#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/crew.h"
#include "engine/retry.h"

/* Time moves only as somebody looks at the clock: by as much as a wait sleeps between two looks. */
static int64_t fake_us(void *ctx)
{
    return *(int64_t *)ctx += 100000;
}

static struct clock fake_clock(int64_t *now)
{
    return (struct clock){.wall_us = fake_us, .mono_us = fake_us, .ctx = now};
}

static void gives_up_when_the_budget_is_spent(void **state)
{
    (void)state;
    int64_t now = 0;
    struct clock clock = fake_clock(&now);
    struct retry r;
    struct err err;
    unsigned tries = 0;

    retry_init(&r, &clock, NULL, 500);
    do {
        err_set(&err, ERR_RETRY, "timed out");
        tries++;
    } while (retry_wait(&r, 0, &err));
    assert_true(tries >= 2 && tries < 20);
    assert_int_equal(err.kind, ERR_REACH);
    assert_non_null(strstr(err.text, "gave up after"));
    assert_non_null(strstr(err.text, "timed out"));
}

static void a_success_gives_a_new_budget(void **state)
{
    (void)state;
    int64_t now = 0;
    struct clock clock = fake_clock(&now);
    struct retry r;
    struct err err;

    retry_init(&r, &clock, NULL, 300);
    for (int i = 0; i < 20; i++) {
        err_set(&err, ERR_RETRY, "x");
        assert_true(retry_wait(&r, 0, &err));
        assert_int_equal(err.kind, ERR_NONE);
        retry_ok(&r);
    }
}

static void waits_as_long_as_the_server_asks(void **state)
{
    (void)state;
    int64_t now = 0;
    struct clock clock = fake_clock(&now);
    struct retry r;
    struct err err;

    retry_init(&r, &clock, NULL, 100000);
    err_set(&err, ERR_RETRY, "429");
    int64_t before = now;
    assert_true(retry_wait(&r, 2000, &err));
    assert_true(now - before >= 2000 * 1000);
    /* longer than the budget has left: no use */
    err_set(&err, ERR_RETRY, "429");
    assert_false(retry_wait(&r, 200000, &err));
    assert_int_equal(err.kind, ERR_REACH);
}

static void a_cancel_ends_a_wait(void **state)
{
    (void)state;
    struct clock clock;
    struct cancel cancel;
    struct retry r;
    struct err err = {0};

    clock_init_system(&clock);
    assert_true(cancel_init(&cancel, &err));
    cancel_fire(&cancel, 1);
    retry_init(&r, &clock, &cancel, 1000000);
    err_set(&err, ERR_RETRY, "x");
    assert_false(retry_wait(&r, 600000, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    assert_false(retry_pause(&clock, &cancel, 600000, &err));
    cancel_fini(&cancel);
}

static bool fails(void *ctx, struct err *err)
{
    (void)ctx;
    return err_set(err, ERR_SYSTEM, "disk full");
}

static bool waits_for_stop(void *ctx, struct err *err)
{
    while (!crew_stopped(ctx))
        ;
    return err_set(err, ERR_CANCEL, "stopped on request");
}

static void count_stops(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static void the_first_error_stops_the_crew(void **state)
{
    (void)state;
    struct crew crew;
    struct cancel cancel;
    struct err err = {0};
    atomic_int stops = 0;

    assert_true(cancel_init(&cancel, &err));
    crew_init(&crew, &cancel, count_stops, &stops);
    crew_add(&crew, waits_for_stop, &crew);
    crew_add(&crew, waits_for_stop, &crew);
    assert_false(crew_wait(&crew, 1));
    crew_add(&crew, fails, NULL);
    assert_false(crew_join(&crew, &err));
    assert_int_equal(err.kind, ERR_SYSTEM);
    assert_string_equal(err.text, "disk full");
    assert_true(stops >= 1);
    crew_fini(&crew);
    cancel_fini(&cancel);
}

static void a_stop_on_request_is_a_cancel(void **state)
{
    (void)state;
    struct crew crew;
    struct cancel cancel;
    struct err err = {0};

    assert_true(cancel_init(&cancel, &err));
    crew_init(&crew, &cancel, NULL, NULL);
    crew_add(&crew, waits_for_stop, &crew);
    cancel_fire(&cancel, 1);
    assert_false(crew_join(&crew, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    crew_fini(&crew);
    cancel_fini(&cancel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_up_when_the_budget_is_spent),
        cmocka_unit_test(a_success_gives_a_new_budget),
        cmocka_unit_test(waits_as_long_as_the_server_asks),
        cmocka_unit_test(a_cancel_ends_a_wait),
        cmocka_unit_test(the_first_error_stops_the_crew),
        cmocka_unit_test(a_stop_on_request_is_a_cancel),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
