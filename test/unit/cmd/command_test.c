/* What a run ends with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/command.h"

static void an_error_decides_whatever_was_counted(void **state)
{
    static const struct {
        enum err_kind kind;
        int code;
    } cases[] = {{ERR_RETRY, 3},  {ERR_REACH, 3},  {ERR_USER, 2},
                 {ERR_REJECT, 2}, {ERR_SYSTEM, 4}, {ERR_CANCEL, 130}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {.kind = cases[i].kind};

        assert_int_equal(command_exit_code(cases[i].kind), cases[i].code);
        for (int n = 0; n < 4; n++)
            assert_int_equal(command_verdict(&err, n & 1, n & 2), cases[i].code);
    }
}

static void without_one_the_books_decide(void **state)
{
    static const struct {
        bool conserved, failed;
        int code;
    } cases[] = {{true, false, 0}, {true, true, 1}, {false, false, 5}, {false, true, 5}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {.kind = ERR_NONE};

        assert_int_equal(command_verdict(&err, cases[i].conserved, cases[i].failed), cases[i].code);
    }
}

static void an_end_without_an_error_is_a_defect(void **state)
{
    (void)state;
    assert_int_equal(command_exit_code(ERR_NONE), 5);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_decides_whatever_was_counted),
        cmocka_unit_test(without_one_the_books_decide),
        cmocka_unit_test(an_end_without_an_error_is_a_defect),
    };

    return cmocka_run_group_tests_name("cmd/command", tests, NULL, NULL);
}
