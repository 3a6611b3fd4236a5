#include "config/secret.h"

#include "config/helper.h"

static void a_secret_file_loses_one_line_end(void **state)
{
    static const struct {
        const char *text, *secret;
    } cases[] = {{"key", "key"},     {"key\n", "key"}, {"key\r\n", "key"},
                 {" key ", " key "}, {"", NULL},       {"\n", NULL}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct secret s = {0};
        struct err err = {0};
        char *file = file_of(cases[i].text);

        assert_true(secret_read(&s, file, &err));
        if (cases[i].secret)
            assert_string_equal(secret_text(&s), cases[i].secret);
        else
            assert_null(secret_text(&s));
        assert_string_equal(secret_show(&s), cases[i].secret ? "***" : "");
        secret_fini(&s);
        unlink(file);
        free(file);
    }
}

static void a_file_that_is_no_secret_is_refused(void **state)
{
    struct secret s = {0};
    struct err err = {0};
    char *lines = file_of("one\ntwo\n");
    char wanted[128];

    (void)state;
    assert_false(secret_read(&s, lines, &err));
    snprintf(wanted, sizeof wanted, "%s: not a secret: one line of text is expected", lines);
    assert_string_equal(err.text, wanted);
    assert_false(secret_read(&s, "/dev/zero", &err));
    assert_string_equal(err.text, "/dev/zero: not a secret: one line of text is expected");
    assert_false(secret_read(&s, "/", &err));
    assert_string_equal(err.text, "/: Is a directory");
    assert_int_equal(err.kind, ERR_USER);
    assert_null(secret_text(&s));
    unlink(lines);
    free(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_file_loses_one_line_end),
        cmocka_unit_test(a_file_that_is_no_secret_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
