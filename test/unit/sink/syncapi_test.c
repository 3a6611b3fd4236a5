/* Bodies as the original wrote them, and what each answer means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "sink/syncapi.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

static void endpoints(void **state)
{
    static const struct {
        const char *given;
        const char *want;
        const char *error;
    } samples[] = {
        {"http://localhost:9000/v1/data/sync", "http://localhost:9000/v1/data/sync"},
        {"https://x.org/api/data/v1/index/sync/", "https://x.org/api/data/v1/index/sync"},
        {"  x.org/api/data/v1/index/sync//\n", "https://x.org/api/data/v1/index/sync"},
        {"x.org:8443", "https://x.org:8443"},
        {"HTTP://x.org", "HTTP://x.org"},
        {"[::1]:9000/v1", "https://[::1]:9000/v1"},
        {"", .error = "the Sync API's endpoint is empty"},
        {"{{domain}}/api/data/v1/index/sync",
         .error =
             "endpoint {{domain}}/api/data/v1/index/sync: put the server's name in place of what "
             "stands in braces"},
        {"ftp://x.org/", .error = "endpoint ftp://x.org/: http:// or https:// is wanted"},
        {"http://x.org:99999/v1",
         .error = "endpoint http://x.org:99999/v1: its port is not a number from 1 to 65535"},
        {"x.org:/v1", .error = "endpoint x.org:/v1: its port is not a number from 1 to 65535"},
        {"http://[::1]/v1", "http://[::1]/v1"},
        {"http:///v1", .error = "endpoint http:///v1: it names no host"},
        {"/v1/data/sync", .error = "endpoint /v1/data/sync: it names no host"},
        {"http://:9000/", .error = "endpoint http://:9000/: it names no host"},
        {"http://x y/", .error = "endpoint \"http://x y/\": a URL holds no blanks"},
        {"http://x/#a", .error = "endpoint http://x/#a: \"#\" has no meaning here"},
        {"https://me:secret@x.org/",
         .error = "the endpoint holds a user name before \"@\"; the API key is given by itself"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct err err = {0};
        AUTO_STR char *url = syncapi_endpoint(samples[i].given, &err);

        assert_string_equal(err.text, samples[i].error ? samples[i].error : "");
        assert_int_equal(err.kind, samples[i].error ? ERR_USER : ERR_NONE);
        if (samples[i].want)
            assert_string_equal(url, samples[i].want);
        else
            assert_null(url);
    }
}

static void exposed_keys(void **state)
{
    (void)state;
    assert_true(syncapi_key_exposed("http://x.org/v1", "k"));
    assert_true(syncapi_key_exposed("HTTP://localhost.example.org/v1", "k"));
    assert_false(syncapi_key_exposed("http://x.org/v1", ""));
    assert_false(syncapi_key_exposed("http://x.org/v1", NULL));
    assert_false(syncapi_key_exposed("https://x.org/v1", "k"));
    assert_false(syncapi_key_exposed("http://localhost:9000/v1", "k"));
    assert_false(syncapi_key_exposed("http://127.0.0.1/v1", "k"));
    assert_false(syncapi_key_exposed("http://[::1]:9000", "k"));
}

static void bodies(void **state)
{
    const struct slice ids[] = {slice_str("\"id1\""), slice_str("{\"userId\":[\"u\"]}")};
    const struct syncapi_block two = {ids, 2};
    const struct syncapi_block one = {ids, 1};
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    syncapi_add_body(&b, "user", false, &one);
    assert_string_equal(
        buf_cstr(&b), "{\"params\":{},\"request\":{\"objectType\":\"user\",\"operationFor\":\"es\","
                      "\"objectIds\":[\"id1\"]}}");
    assert_int_equal(b.len, syncapi_frame_bytes("user", false) + 5);
    buf_reset(&b);
    syncapi_add_body(&b, "user_course", true, &two);
    assert_string_equal(
        buf_cstr(&b),
        "{\"params\":{},\"request\":{\"objectType\":\"user_course\",\"operationFor\":\"es\","
        "\"objectIds\":[\"id1\",{\"userId\":[\"u\"]}],\"operationType\":\"sync\"}}");
    assert_int_equal(b.len, syncapi_frame_bytes("user_course", true) + 5 + 1 + 16);
    buf_fini(&b);
}

#define OK(result) "{\"params\":{\"err\":null},\"responseCode\":\"OK\",\"result\":{" result "}}"
#define PAGE       "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"

struct sample {
    int status;
    const char *body;
    bool await;
    enum syncapi_outcome outcome;
    const char *reason;
    const char *text;
    const char *ok; /* per id: "yn" */
    const char *type;
    const char *location;
};

/* clang-format off */
static const struct sample samples[] = {
    {200, OK("\"response\":\"SUCCESS\""), false, SYNC_ACCEPTED, "", "accepted"},
    {200, " {\"responseCode\":\"ok\"}\n", false, SYNC_ACCEPTED, "", "accepted"},
    {202, OK(""), false, SYNC_ACCEPTED, "", "accepted"},
    /* awaited: true in esSyncResponse, and not false beside it */
    {200, OK("\"esSyncResponse\":{\"a\":true,\"{\\\"u\\\":1}\":true}"), true, SYNC_CONFIRMED, "", "2 confirmed", "yy"},
    {200, OK("\"esSyncResponse\":{\"a\":true}"), true, SYNC_PARTLY, "not_confirmed",
     "the server confirmed 1 of 2 ids (0 it refused; of the others it says nothing)", "yn"},
    {200, OK("\"{\\\"u\\\":1}\":false,\"esSyncResponse\":{\"a\":true}"), true, SYNC_PARTLY, "not_confirmed",
     "the server confirmed 1 of 2 ids (1 it refused; of the others it says nothing)", "yn"},
    {200, OK("\"a\":false,\"esSyncResponse\":{\"a\":true,\"{\\\"u\\\":1}\":\"true\"}"), true, SYNC_PARTLY,
     "not_confirmed", "the server confirmed 0 of 2 ids (1 it refused; of the others it says nothing)", "nn"},
    {200, OK("\"esSyncResponse\":{}"), true, SYNC_PARTLY, "not_confirmed",
     "the server confirmed 0 of 2 ids (0 it refused; of the others it says nothing)", "nn"},
    {200, OK("\"response\":\"SUCCESS\""), true, SYNC_ACCEPTED, "", "accepted; this server does not await"},
    {200, OK("\"esSyncResponse\":[1]"), true, SYNC_FAILED, "answer_unreadable",
     "HTTP 200, but esSyncResponse is not an object"},
    /* 200 that is none */
    {200, "{\"responseCode\":\"CLIENT_ERROR\",\"params\":{\"err\":\"E1\",\"errmsg\":\"Bad  ids.\\n\"}}", false,
     SYNC_FAILED, "response_code", "HTTP 200 with responseCode CLIENT_ERROR: E1 Bad ids."},
    {200, "{\"responseCode\":200}", false, SYNC_FAILED, "answer_unreadable",
     "HTTP 200, but the answer has no responseCode: it is not the Sync API's"},
    {200, "[]", false, SYNC_FAILED, "answer_unreadable", "HTTP 200, but the answer is not a JSON object"},
    {200, "", false, SYNC_FAILED, "answer_unreadable", "HTTP 200 with an empty answer"},
    {200, "{\"responseCode\":\"OK\"", false, SYNC_FAILED, "answer_unreadable",
     "HTTP 200, but the answer is not JSON, or was cut off: byte 20: parse error: premature EOF"},
    {200, PAGE, false, SYNC_STOP, "web_page",
     "HTTP 200 with a web page: this is not the Sync API; check the endpoint's path"},
    {200, "Welcome", false, SYNC_STOP, "web_page",
     "HTTP 200 with a web page: this is not the Sync API; check the endpoint's path", .type = "text/html; charset=utf-8"},
    /* stops the job */
    {301, "", false, SYNC_STOP, "redirect",
     "HTTP 301, a redirect to https://x.org/login; the endpoint must be the final address", .location = "https://x.org/login?token=s"},
    {302, "", false, SYNC_STOP, "redirect", "HTTP 302, a redirect; the endpoint must be the final address"},
    {401, "{\"message\":\"Unauthorized\"}", false, SYNC_STOP, "http_401",
     "HTTP 401, the API key is missing, wrong, or has no right: Unauthorized"},
    {403, PAGE, false, SYNC_STOP, "http_403", "HTTP 403, the API key is missing, wrong, or has no right"},
    {404, "{\"message\":\"no Route matched with those values\"}", false, SYNC_STOP, "http_404",
     "HTTP 404, there is no Sync API at this endpoint; check its path: no Route matched with those values"},
    {407, "", false, SYNC_STOP, "http_407", "HTTP 407, the proxy wants a user name and password"},
    /* the block fails */
    {400, "{\"responseCode\":\"CLIENT_ERROR\",\"params\":{\"err\":\"INVALID_OBJECT_TYPE\",\"errmsg\":\"Invalid Object Type.\"}}",
     false, SYNC_FAILED, "http_400", "HTTP 400: INVALID_OBJECT_TYPE Invalid Object Type."},
    {400, PAGE, false, SYNC_FAILED, "http_400", "HTTP 400"},
    {413, "", false, SYNC_FAILED, "http_413", "HTTP 413, the body is too large for the server; choose smaller blocks"},
    {500, "{\"params\":{\"err\":\"INTERNAL_ERROR\"}}", true, SYNC_FAILED, "http_500", "HTTP 500: INTERNAL_ERROR"},
    {500, "{\"params\":{\"err\":\"UOS_ESSYNCnull\",\"errmsg\":null}}", false, SYNC_FAILED, "http_500",
     "HTTP 500: UOS_ESSYNCnull"},
    {500, "{\"params\":{\"err\":\"UOS_ESSYNCnull\",\"errmsg\":null}}", true, SYNC_UNKNOWN, "http_500",
     "HTTP 500, the server stopped waiting, its work may go on: UOS_ESSYNCnull"},
    {418, "short  and\tstout", false, SYNC_FAILED, "http_418", "HTTP 418: short and stout"},
    {418, "\xff\xfe", false, SYNC_FAILED, "http_418", "HTTP 418"},
    /* may pass */
    {429, "{\"message\":\"API rate limit exceeded\"}", false, SYNC_RETRY, "http_429", "HTTP 429: API rate limit exceeded"},
    {502, PAGE, false, SYNC_RETRY, "http_502", "HTTP 502"},
    {503, "", false, SYNC_RETRY, "http_503", "HTTP 503"},
    {504, "", true, SYNC_RETRY, "http_504", "HTTP 504"},
    {408, "", false, SYNC_RETRY, "http_408", "HTTP 408"},
};
/* clang-format on */

static void verdicts(void **state)
{
    const struct slice ids[] = {slice_str("\"\\u0061\""), slice_str("{\"u\" : 1}")};
    const struct syncapi_block block = {ids, 2};

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const struct sample *t = &samples[i];
        struct http_answer a = {
            .status = t->status, .body = slice_str(t->body), .retry_after_ms = 7000, .took_ms = 3};
        struct syncapi_verdict v;
        bool id_ok[2];

        strcpy(a.content_type, t->type ? t->type : "application/json");
        strcpy(a.location, t->location ? t->location : "");
        syncapi_judge(&a, &block, t->await, id_ok, &v);
        assert_string_equal(v.text, t->text);
        assert_string_equal(v.reason, t->reason);
        assert_int_equal(v.outcome, t->outcome);
        assert_int_equal(v.status, t->status);
        assert_int_equal(v.retry_after_ms, 7000);
        assert_int_equal(v.no_await, t->await && t->outcome == SYNC_ACCEPTED);
        assert_int_equal(v.id_ok != NULL, t->ok != NULL);
        for (size_t k = 0; t->ok && k < 2; k++)
            assert_int_equal(v.id_ok[k], t->ok[k] == 'y');
        if (t->ok)
            assert_int_equal(v.confirmed, (t->ok[0] == 'y') + (t->ok[1] == 'y'));
    }
}

/* Cut at a character's border, never longer than there is room for. */
static void long_words(void **state)
{
    const struct slice ids[] = {slice_str("\"a\"")};
    const struct syncapi_block block = {ids, 1};
    char body[4000];
    struct syncapi_verdict v;

    (void)state;
    for (size_t skip = 0; skip < 4; skip++) {
        struct http_answer a = {.status = 500};

        memset(body, 'x', skip);
        for (size_t i = skip; i + 1 < sizeof body; i += 2)
            memcpy(body + i, "\xc3\xbc", 2);
        a.body = slice_of(body, sizeof body - 4);
        syncapi_judge(&a, &block, false, NULL, &v);
        assert_true(strlen(v.text) > 100 && strlen(v.text) < 200);
        assert_int_equal((unsigned char)v.text[strlen(v.text) - 1], 0xbc);
    }
}

static void no_calls(void **state)
{
    struct clock clock;
    const struct slice ids[] = {slice_str("\"abc\""), slice_str("\"def\"")};
    const struct syncapi_block block = {ids, 2};
    struct syncapi_options o = {
        .url = "http://127.0.0.1:1/v1",
        .object_type = "user",
        .key = " Bearer k ",
        .http = {.clock = &clock,
                 .max_answer_bytes = 1000,
                 .connect_timeout_ms = 1000,
                 .request_timeout_ms = 1000},
    };
    struct syncapi_verdict v;
    struct err err = {0};

    (void)state;
    clock_init_system(&clock);
    o.max_body_bytes = syncapi_frame_bytes("user", false) + 10;
    struct syncapi *s = syncapi_new(&o, &err);
    assert_non_null(s);
    syncapi_send(s, &block, false, &v);
    assert_int_equal(v.outcome, SYNC_FAILED);
    assert_string_equal(v.reason, "body_too_long");
    assert_string_equal(v.text, "the body would be longer than 90 bytes; choose smaller blocks");
    syncapi_free(s);

    o.max_body_bytes = 0; /* nobody listens on port 1 */
    s = syncapi_new(&o, &err);
    syncapi_send(s, &block, false, &v);
    assert_int_equal(v.outcome, SYNC_RETRY);
    assert_string_equal(v.reason, "connection");
    assert_false(v.sent);
    assert_int_equal(v.retry_after_ms, -1);
    assert_non_null(strstr(v.text, "POST http://127.0.0.1:1/v1: Failed to connect"));
    assert_true(
        slice_is(syncapi_last_body(s),
                 "{\"params\":{},\"request\":{\"objectType\":\"user\",\"operationFor\":\"es\","
                 "\"objectIds\":[\"abc\",\"def\"]}}"));
    syncapi_free(s);

    o.key = "a\r\nX-Other: b";
    assert_null(syncapi_new(&o, &err));
    assert_string_equal(err.text, "the API key holds control characters or line ends");
    assert_int_equal(err.kind, ERR_USER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints), cmocka_unit_test(exposed_keys), cmocka_unit_test(bodies),
        cmocka_unit_test(verdicts),  cmocka_unit_test(long_words),   cmocka_unit_test(no_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
