#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/room.h"

enum { THREADS = 8, TIMES = 200 };

static struct room room;
static atomic_size_t held, most;

static void takes_and_gives(void **state)
{
    struct err err = {0};
    size_t a, b;

    (void)state;
    room_init(&room, 10, NULL);
    assert_true(room_take(&room, 6, &a, &err));
    assert_true(room_take(&room, 4, &b, &err));
    assert_int_equal(a, 6);
    assert_int_equal(b, 4);
    room_give(&room, a);
    room_give(&room, b);
    assert_int_equal(room.taken, 0);
    room_fini(&room);
}

static void more_than_all_is_all(void **state)
{
    struct err err = {0};
    size_t got;

    (void)state;
    room_init(&room, 10, NULL);
    assert_true(room_take(&room, SIZE_MAX, &got, &err));
    assert_int_equal(got, 10);
    room_give(&room, got);
    room_fini(&room);
}

static void *worker(void *arg)
{
    size_t wanted = (size_t)(uintptr_t)arg;
    struct err err = {0};

    for (int i = 0; i < TIMES; i++) {
        size_t got;

        ensure(room_take(&room, wanted, &got, &err));
        size_t now = atomic_fetch_add(&held, got) + got, before = atomic_load(&most);
        while (now > before && !atomic_compare_exchange_weak(&most, &before, now))
            ;
        sched_yield();
        atomic_fetch_sub(&held, got);
        room_give(&room, got);
    }
    return NULL;
}

/* One that wants all has its turn, too, however many want little. */
static void never_more_than_there_is(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    room_init(&room, 10, NULL);
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, worker, (void *)(uintptr_t)(i ? 1 + i % 4 : 10));
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&most), 10);
    assert_int_equal(room.taken, 0);
    room_fini(&room);
}

/* And those behind it have theirs. */
static void a_stop_ends_the_wait(void **state)
{
    struct cancel cancel;
    struct err err = {0};
    size_t all, got = 77;

    (void)state;
    cancel_init(&cancel, &err);
    room_init(&room, 10, &cancel);
    assert_true(room_take(&room, 10, &all, &err));
    cancel_fire(&cancel, 2);
    for (int i = 0; i < 2; i++) {
        assert_false(room_take(&room, 1, &got, &err));
        assert_int_equal(err.kind, ERR_CANCEL);
        assert_string_equal(err.text, "stopped on request");
        assert_int_equal(got, 77);
        err_clear(&err);
    }
    room_give(&room, all);
    assert_true(room_take(&room, 1, &got, &err));
    room_give(&room, got);
    room_fini(&room);
    cancel_fini(&cancel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_and_gives),
        cmocka_unit_test(more_than_all_is_all),
        cmocka_unit_test(never_more_than_there_is),
        cmocka_unit_test(a_stop_ends_the_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
