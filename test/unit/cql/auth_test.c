#include "cql/auth.h"

#include "base/cmocka_all.h"

static void plain_answers_whom_it_knows(void **state)
{
    static const struct {
        const char *class_name;
        const char *token; /* after the first NUL; NULL: refused */
    } cases[] = {
        {"org.apache.cassandra.auth.PasswordAuthenticator", "\0ann\0secret"},
        {"com.scylladb.auth.TransitionalAuthenticator", "\0ann\0secret"},
        {"org.apache.cassandra.auth.SomethingElse", NULL},
        {"", NULL},
    };
    struct auth_plain plain = {.username = "ann", .password = "secret"};
    struct cql_auth auth = auth_plain(&plain);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        struct buf token;
        buf_init(&token, 1000);
        bool ok = auth.start(auth.ctx, slice_str(cases[i].class_name), &token, &err);
        assert_int_equal(ok, cases[i].token != NULL);
        if (ok) {
            assert_int_equal(token.len, 11);
            assert_memory_equal(token.p, cases[i].token, 11);
        } else {
            assert_int_equal(err.kind, ERR_REACH);
            assert_int_equal(token.len, 0);
            assert_null(strstr(err.text, "secret"));
        }
        buf_fini(&token);
    }
}

static void dse_wants_the_mechanism_first(void **state)
{
    struct auth_plain plain = {.username = "ann", .password = NULL};
    struct cql_auth auth = auth_plain(&plain);
    struct err err = {0};
    struct buf token;

    (void)state;
    buf_init(&token, 1000);
    assert_true(auth.start(auth.ctx, slice_str("com.datastax.bdp.cassandra.auth.DseAuthenticator"),
                           &token, &err));
    assert_true(slice_is(buf_slice(&token), "PLAIN"));
    buf_reset(&token);
    assert_true(auth.challenge(auth.ctx, slice_str("PLAIN-START"), &token, &err));
    assert_int_equal(token.len, 5);
    assert_memory_equal(token.p, "\0ann\0", 5);
    buf_reset(&token);
    assert_false(auth.challenge(auth.ctx, slice_str("more"), &token, &err));
    assert_int_equal(err.kind, ERR_REACH);
    buf_fini(&token);
}

static void without_a_name_nothing_is_sent(void **state)
{
    static const char *const names[] = {NULL, ""};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct auth_plain plain = {.username = names[i], .password = "secret"};
        struct cql_auth auth = auth_plain(&plain);
        struct err err = {0};
        struct buf token;
        buf_init(&token, 1000);
        assert_false(auth.start(auth.ctx, slice_str("x.PasswordAuthenticator"), &token, &err));
        assert_int_equal(err.kind, ERR_REACH);
        assert_string_equal(err.text, "the server wants a user name and password");
        assert_int_equal(token.len, 0);
        buf_fini(&token);
    }
}

static void consistencies_have_names(void **state)
{
    static const enum cql_consistency all[] = {CQL_ONE, CQL_TWO,          CQL_THREE,    CQL_QUORUM,
                                               CQL_ALL, CQL_LOCAL_QUORUM, CQL_LOCAL_ONE};
    enum cql_consistency got;

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_true(cql_consistency_parse(slice_str(cql_consistency_name(all[i])), &got));
        assert_int_equal(got, all[i]);
    }
    assert_true(cql_consistency_parse(slice_str("local_quorum"), &got));
    assert_int_equal(got, CQL_LOCAL_QUORUM);
    assert_false(cql_consistency_parse(slice_str("SERIAL"), &got));
    assert_false(cql_consistency_parse(slice_str(""), &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_answers_whom_it_knows),
        cmocka_unit_test(dse_wants_the_mechanism_first),
        cmocka_unit_test(without_a_name_nothing_is_sent),
        cmocka_unit_test(consistencies_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
