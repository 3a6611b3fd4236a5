#include "cql/auth.h"

static bool ends_with(struct slice s, const char *end)
{
    size_t n = strlen(end);

    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

static void add_token(const struct auth_plain *plain, struct buf *token)
{
    buf_add_byte(token, 0);
    buf_add_str(token, plain->username);
    buf_add_byte(token, 0);
    buf_add_str(token, plain->password ? plain->password : "");
}

static bool plain_start(void *ctx, struct slice class_name, struct buf *token, struct err *err)
{
    static const char *const known[] = {"PasswordAuthenticator", "PlainTextAuthenticator",
                                        "TransitionalAuthenticator", "AllowAllAuthenticator"};
    const struct auth_plain *plain = ctx;

    if (!plain->username || !plain->username[0])
        return err_set(err, ERR_REACH, "the server wants a user name and password");
    if (ends_with(class_name, "DseAuthenticator")) {
        buf_add_str(token, "PLAIN");
        return true;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (ends_with(class_name, known[i])) {
            add_token(plain, token);
            return true;
        }
    }
    /* A password is not sent to somebody who asks for something else. */
    return err_set(err, ERR_REACH, "the server's authenticator %.*s is not known",
                   (int)(class_name.n < 120 ? class_name.n : 120),
                   class_name.p ? (const char *)class_name.p : "");
}

static bool plain_challenge(void *ctx, struct slice challenge, struct buf *token, struct err *err)
{
    if (!slice_is(challenge, "PLAIN-START"))
        return err_set(err, ERR_REACH, "the server goes on asking after user name and password");
    add_token(ctx, token);
    return true;
}

struct cql_auth auth_plain(struct auth_plain *plain)
{
    return (struct cql_auth){.start = plain_start, .challenge = plain_challenge, .ctx = plain};
}
