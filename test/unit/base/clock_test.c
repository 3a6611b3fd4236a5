#include "base/clock.h"

#include <pthread.h>

#include "base/cmocka_all.h"

static int64_t held(void *ctx)
{
    return *(int64_t *)ctx;
}

static void versions_never_go_back(void **state)
{
    int64_t now = 1000;
    struct clock c = {.wall_us = held, .mono_us = held, .ctx = &now};

    (void)state;
    assert_int_equal(clock_version_us(&c), 1000);
    assert_int_equal(clock_version_us(&c), 1001); /* the time stands still */
    now = 500;                                    /* somebody sets the clock back */
    assert_int_equal(clock_version_us(&c), 1002);
    now = 5000;
    assert_int_equal(clock_version_us(&c), 5000);
}

enum { THREADS = 4, EACH = 20000 };

struct taker {
    struct clock *clock;
    int64_t got[EACH];
};

static void *take(void *ctx)
{
    struct taker *t = ctx;

    for (int i = 0; i < EACH; i++)
        t->got[i] = clock_version_us(t->clock);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void versions_are_unique_among_threads(void **state)
{
    static struct taker takers[THREADS];
    static int64_t all[THREADS * EACH];
    pthread_t threads[THREADS];
    struct clock c;

    (void)state;
    clock_init_system(&c);
    for (int i = 0; i < THREADS; i++) {
        takers[i].clock = &c;
        pthread_create(&threads[i], NULL, take, &takers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        for (int k = 1; k < EACH; k++)
            assert_true(takers[i].got[k] > takers[i].got[k - 1]);
        memcpy(&all[i * EACH], takers[i].got, sizeof takers[i].got);
    }
    qsort(all, THREADS * EACH, sizeof all[0], by_value);
    for (int i = 1; i < THREADS * EACH; i++)
        assert_true(all[i] != all[i - 1]);
}

static void a_deadline_runs_down(void **state)
{
    int64_t now = 1000000;
    struct clock c = {.wall_us = held, .mono_us = held, .ctx = &now};
    struct deadline d = deadline_in(&c, 250);

    (void)state;
    assert_int_equal(deadline_left_ms(&c, d), 250);
    now += 200000;
    assert_int_equal(deadline_left_ms(&c, d), 50);
    now += 200000;
    assert_int_equal(deadline_left_ms(&c, d), 0);
    assert_int_equal(deadline_left_ms(&c, (struct deadline){INT64_MAX}), INT32_MAX);
}

/* Of whole and of broken seconds. */
static void a_wait_ends_in_time(void **state)
{
    (void)state;
    for (int64_t ms = 0; ms < 5000; ms += 333) {
        struct timespec before, end;
        clock_gettime(CLOCK_MONOTONIC, &before);
        end = clock_wait_end(ms);
        int64_t ns =
            (end.tv_sec - before.tv_sec) * INT64_C(1000000000) + end.tv_nsec - before.tv_nsec;
        assert_in_range(end.tv_nsec, 0, 999999999);
        assert_true(ns >= ms * 1000000 && ns < (ms + 10000) * 1000000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_ends_in_time),
        cmocka_unit_test(versions_never_go_back),
        cmocka_unit_test(versions_are_unique_among_threads),
        cmocka_unit_test(a_deadline_runs_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
