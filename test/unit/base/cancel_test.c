#include "base/cancel.h"

#include <poll.h>

#include "base/cmocka_all.h"

static int is_readable(struct cancel *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};

    return poll(&p, 1, 0);
}

static void only_the_second_level_wakes_up(void **state)
{
    struct cancel c;
    struct err err;

    (void)state;
    assert_true(cancel_init(&c, &err));
    assert_int_equal(cancel_level(&c), 0);
    cancel_fire(&c, 1);
    assert_int_equal(cancel_level(&c), 1);
    assert_int_equal(is_readable(&c), 0);
    cancel_take_back(&c);
    assert_int_equal(cancel_level(&c), 0);
    cancel_fire(&c, 1);
    cancel_fire(&c, 2);
    assert_int_equal(is_readable(&c), 1);
    cancel_fire(&c, 1); /* never back */
    cancel_take_back(&c);
    assert_int_equal(cancel_level(&c), 2);
    assert_int_equal(is_readable(&c), 1);
    assert_int_equal(cancel_level(NULL), 0);
    cancel_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_second_level_wakes_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
