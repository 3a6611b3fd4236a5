#include "base/err.h"

#include "base/cmocka_all.h"

static void words_are_put_in_front(void **state)
{
    struct err err = {0};

    (void)state;
    assert_false(err_set(&err, ERR_RETRY, "timed out after %d ms", 12));
    assert_false(err_wrap(&err, "read %s", "10.0.0.3:9042"));
    assert_false(err_wrap(&err, "page %d", 17));
    assert_string_equal(err.text, "page 17: read 10.0.0.3:9042: timed out after 12 ms");
    assert_int_equal(err.kind, ERR_RETRY);
    err_clear(&err);
    assert_string_equal(err.text, "");
    assert_int_equal(err.kind, ERR_NONE);
}

static void the_middle_is_cut_never_the_cause(void **state)
{
    struct err err = {0};
    char cause[101];
    char front[301];

    (void)state;
    memset(cause, 'c', 100);
    cause[100] = '\0';
    memset(front, 'f', 300);
    front[300] = '\0';
    err_set(&err, ERR_USER, "%s the end", cause);
    for (int i = 0; i < 40; i++) {
        err_wrap(&err, "step %d", i);
        assert_true(strlen(err.text) < sizeof err.text);
        assert_string_equal(err.text + strlen(err.text) - 8, " the end");
        char begin[16];
        snprintf(begin, sizeof begin, "step %d: ", i);
        assert_memory_equal(err.text, begin, strlen(begin));
    }
    err_wrap(&err, "%s", front);
    err_wrap(&err, "%s", front);
    assert_string_equal(err.text + strlen(err.text) - 8, " the end");
    assert_non_null(strstr(err.text, ": ... "));
}

static void a_text_that_fills_all_keeps_its_room(void **state)
{
    struct err err = {0};
    char all[600];

    (void)state;
    memset(all, 'x', sizeof all - 1);
    all[sizeof all - 1] = '\0';
    err_set(&err, ERR_SYSTEM, "%s", all);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    err_wrap(&err, "front");
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_memory_equal(err.text, "front: ... xxx", 14);
}

static void kinds_have_names(void **state)
{
    static const char *const names[] = {"none",  "retry",  "reject", "user",
                                        "reach", "system", "cancel"};

    (void)state;
    for (int i = ERR_NONE; i <= ERR_CANCEL; i++)
        assert_string_equal(err_kind_name((enum err_kind)i), names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_put_in_front),
        cmocka_unit_test(the_middle_is_cut_never_the_cause),
        cmocka_unit_test(a_text_that_fills_all_keeps_its_room),
        cmocka_unit_test(kinds_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
