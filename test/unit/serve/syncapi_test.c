/*
 * Recorded calls of both originals (test/data/sync-calls.json), replayed; and what is not recorded.
 * An answer of null was an HTML page, or is too long for the record: then only the status counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "serve/syncapi.h"

#define FRESH "0b0e7a52-5f0c-4b5e-9d0a-1f0c5d3c2a11"
enum { MAX_IDS = 200 };

static const char *const lms_types[] = {"batch", "user_course", NULL};
static const char *const userorg_types[] = {"user", "organisation", "location", NULL};
static const char *const some_types[] = {"batch", "location", "user", "rating", NULL};

static struct slice read_data(const char *name, struct arena *mem)
{
    static char text[1 << 20];
    char path[512];

    (void)mem;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    return slice_of(text, n);
}

static const struct json *must_parse(struct slice text, struct arena *mem)
{
    struct err err;
    const struct json *v = json_parse(text, mem, &err);

    if (!v)
        fail_msg("%s in %.*s", err.text, (int)text.n, (const char *)text.p);
    return v;
}

/* What the work would have come to when the call was recorded. */
static void imagine_results(const struct syncapi_call *call, const char *name,
                            struct keyed_result *out)
{
    size_t i = 0;

    assert_true(call->ids->count <= MAX_IDS);
    json_each (id, call->ids) {
        bool missing =
            id->kind == JSON_STRING && strncmp((const char *)id->text.p, "no-such", 7) == 0;
        out[i] =
            (struct keyed_result){.outcome = missing ? KEYED_MISSING : KEYED_FOUND, .ok = !missing};
        if (strstr(name, "unreachable"))
            out[i] = (struct keyed_result){.outcome = KEYED_OPEN};
        i++;
    }
}

/* The way of the server: parse, work, answer. */
static void answer_call(const struct syncapi_rules *rules, const struct syncapi_request *r,
                        const char *method, const char *name, struct arena *mem,
                        struct syncapi_answer *answer)
{
    static struct keyed_result results[MAX_IDS];
    struct syncapi_call call;

    if (strcmp(method, "POST") != 0) {
        syncapi_refuse(rules, r, SYNCAPI_NOT_FOUND, answer);
        return;
    }
    if (!syncapi_parse(rules, r, mem, &call, answer))
        return;
    imagine_results(&call, name, results);
    if (call.wait == SYNCAPI_NO_WAIT)
        syncapi_accepted(&call, answer);
    else if (call.wait == SYNCAPI_WAIT)
        syncapi_results(&call, results, answer);
    else
        syncapi_late(&call, answer);
}

static const char *header(const struct json *call, const char *name)
{
    return (const char *)json_get_string(json_get(call, "headers"), name).p;
}

static void compare(const struct json *ours, const struct json *theirs, bool traced)
{
    static const char *const top[] = {"id", "ver", "responseCode", "result"};
    static const char *const params[] = {"err", "status", "errmsg"};
    static const char *const ids[] = {"msgid", "resmsgid"};
    const struct json *p = json_get(ours, "params");
    const struct json *q = json_get(theirs, "params");

    assert_int_equal(ours->count, theirs->count);
    assert_int_equal(p->count, q->count);
    for (size_t i = 0; i < 4; i++)
        assert_true(json_equal(json_get(ours, top[i]), json_get(theirs, top[i])));
    for (size_t i = 0; i < 3; i++)
        assert_true(json_equal(json_get(p, params[i]), json_get(q, params[i])));
    for (size_t i = 0; i < 2; i++) {
        const struct json *mine = json_get(p, ids[i]);
        assert_int_equal(mine->kind, json_get(q, ids[i])->kind);
        if (traced)
            assert_true(json_equal(mine, json_get(q, ids[i])));
        else if (mine->kind == JSON_STRING)
            assert_true(slice_is(mine->text, FRESH));
    }
    assert_true(slice_is(json_get_string(ours, "ts"), "2026-11-22 15:52:08:999+0000"));
}

static void replay(const struct json *call, struct arena *mem, enum syncapi_dialect dialect)
{
    bool lms = slice_is(json_get_string(call, "service"), "lms");
    const char *name = (const char *)json_get_string(call, "case").p;
    const char *method = (const char *)json_get_string(call, "method").p;
    const struct json *theirs = json_get(call, "answer");
    struct syncapi_rules rules = {.dialect = dialect, .types = lms ? lms_types : userorg_types};
    struct syncapi_answer answer;
    struct syncapi_request r = {
        .path = (const char *)json_get_string(call, "path").p,
        .content_type = header(call, "Content-Type"),
        .msgid = header(call, "x-msgid"),
        .request_id = header(call, "X-Request-ID"),
        .fresh_id = FRESH,
        .now_us = INT64_C(1795362728999123),
        .body = json_get_string(call, "body"),
    };

    print_message("%s %s\n", lms ? "lms" : "userorg", name);
    syncapi_answer_init(&answer, r.body.n);
    answer_call(&rules, &r, method, name, mem, &answer);
    assert_int_equal(answer.status,
                     strtol((const char *)json_get(call, "status")->text.p, NULL, 10));
    assert_false(answer.body.full);
    const struct json *ours = must_parse(buf_slice(&answer.body), mem);
    if (theirs->kind == JSON_OBJECT)
        compare(ours, theirs, r.msgid != NULL);
    else
        assert_true(json_get(ours, "result")->kind == JSON_OBJECT); /* HTML, or cut when recorded */
    assert_int_equal(answer.event[0] != '\0', answer.status != 200);
    syncapi_answer_fini(&answer);
}

static void recorded_calls(void **state)
{
    struct arena mem;
    size_t n = 0;

    (void)state;
    arena_init(&mem, 8 << 20);
    const struct json *calls = must_parse(read_data("sync-calls.json", &mem), &mem);
    json_each (call, calls) {
        bool lms = slice_is(json_get_string(call, "service"), "lms");
        replay(call, &mem, lms ? SYNCAPI_LMS : SYNCAPI_USERORG);
        replay(call, &mem, SYNCAPI_AUTO); /* all types are of that service */
        n++;
    }
    assert_int_equal(n, 26);
    arena_fini(&mem);
}

/* ---- what is not recorded ---- */

#define JSON_TYPE       "application/json"
#define SYNC            "/v1/data/sync"
#define INDEX           "/api/data/v1/index/sync"
#define REQUEST(inside) "{\"request\":{" inside "}}"

struct row {
    const char *name;
    const char *path;
    const char *content_type;
    const char *body;
    int status;
    const char *err;    /* NULL: none */
    const char *result; /* JSON */
    const char *event;
};

static const struct row rows[] = {
    {"charset", SYNC, "Application/JSON; charset=utf-8",
     REQUEST("\"objectType\":\"batch\",\"objectIds\":[\"a\"]"), 200, NULL,
     "{\"response\":\"SUCCESS\"}", ""},
    {"lms: another content type", SYNC, "text/plain",
     REQUEST("\"objectType\":\"batch\",\"objectIds\":[\"a\"]"), 500, "INTERNAL_ERROR", "{}",
     "no_request"},
    {"no content type, by path", INDEX, NULL, "", 400, "UOS_0061", "{}", "content_type"},
    {"no content type, by type", SYNC, NULL,
     REQUEST("\"objectType\":\"user\",\"objectIds\":[\"a\"]"), 400, "UOS_0061", "{}",
     "content_type"},
    {"blank body", SYNC, JSON_TYPE, " \n", 500, "INTERNAL_ERROR", "{}", "no_request"},
    {"blank body, other path", INDEX, JSON_TYPE, " \n", 400, "UOS_0028", "{}", "no_body"},
    {"bad JSON", SYNC, JSON_TYPE, "{\"request\":", 400, "INVALID_JSON", "{}", "bad_json"},
    {"bad JSON, other path", INDEX, JSON_TYPE, "{\"request\":", 400, "UOS_0028", "{}", "bad_json"},
    {"bad UTF-8", SYNC, JSON_TYPE, "{\"request\":\"\xff\"}", 400, "INVALID_JSON", "{}", "bad_json"},
    {"empty object", SYNC, JSON_TYPE, "{}", 500, "INTERNAL_ERROR", "{}", "no_request"},
    {"empty object, other path", INDEX, JSON_TYPE, "{}", 500, "INTERNAL_ERROR", "{}", "no_request"},
    {"request null", SYNC, JSON_TYPE, "{\"request\":null}", 500, "INTERNAL_ERROR", "{}",
     "no_request"},
    {"array", SYNC, JSON_TYPE, "[]", 500, "INTERNAL_ERROR", "{}", "no_request"},
    {"keycloak", SYNC, JSON_TYPE, REQUEST("\"operationFor\":\"KeyCloak\""), 500, "INTERNAL_ERROR",
     "{}", "no_request"},
    {"type null", SYNC, JSON_TYPE, REQUEST("\"operationFor\":\"es\",\"objectType\":null"), 400,
     "DATA_TYPE_ERROR", "{}", "no_type"},
    {"type of another case", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"Batch\",\"objectIds\":[\"a\"]"), 400, "INVALID_OBJECT_TYPE", "{}",
     "type_not_served"},
    {"unknown type, other path", INDEX, JSON_TYPE,
     REQUEST("\"objectType\":\"nonsense\",\"objectIds\":[\"a\"]"), 400, "UOS_0072", "{}",
     "type_not_served"},
    {"type is a number", SYNC, JSON_TYPE, REQUEST("\"objectType\":7,\"objectIds\":[\"a\"]"), 400,
     "INVALID_OBJECT_TYPE", "{}", "type_not_served"},
    {"no mapping: user_course", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"user_course\",\"objectIds\":[\"a\"]"), 400, "INVALID_OBJECT_TYPE",
     "{}", "type_not_served"},
    {"no mapping: organisation", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"organisation\",\"objectIds\":[\"a\"]"), 400, "UOS_0072", "{}",
     "type_not_served"},
    {"a type of our own", INDEX, JSON_TYPE,
     REQUEST("\"objectType\":\"rating\",\"objectIds\":[\"a\"]"), 200, NULL,
     "{\"response\":\"SUCCESS\"}", ""},
    {"whole table: no ids", SYNC, JSON_TYPE, REQUEST("\"objectType\":\"batch\""), 400,
     "WHOLE_TABLE_OFF", "{}", "whole_table"},
    {"whole table: null", SYNC, JSON_TYPE, REQUEST("\"objectType\":\"batch\",\"objectIds\":null"),
     400, "WHOLE_TABLE_OFF", "{}", "whole_table"},
    {"whole table: empty list", INDEX, JSON_TYPE,
     REQUEST("\"objectType\":\"batch\",\"objectIds\":[]"), 400, "WHOLE_TABLE_OFF", "{}",
     "whole_table"},
    {"whole table: empty map", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"batch\",\"objectIds\":[\"a\",{}]"), 400, "WHOLE_TABLE_OFF", "{}",
     "whole_table"},
    {"ids are an object", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"batch\",\"objectIds\":{\"courseId\":\"a\"}"), 200, NULL,
     "{\"response\":\"SUCCESS\"}", ""},
    {"user: empty list", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"user\",\"objectIds\":[],\"operationType\":\"sync\""), 200, NULL,
     "{\"response\":\"SUCCESS\"}", ""},
    {"user: a string", SYNC, JSON_TYPE, REQUEST("\"objectType\":\"user\",\"objectIds\":\"a\""), 200,
     NULL, "{\"response\":\"SUCCESS\"}", ""},
    {"blank operationType", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"user\",\"objectIds\":[\"a\"],\"operationType\":\" \""), 200, NULL,
     "{\"response\":\"SUCCESS\"}", ""},
    {"lms ignores other operationTypes", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"batch\",\"objectIds\":[\"a\"],\"operationType\":\"other\""), 200,
     NULL, "{\"response\":\"SUCCESS\"}", ""},
    {"sync of batches", SYNC, JSON_TYPE,
     REQUEST("\"objectType\":\"batch\",\"objectIds\":[\"a\",{\"courseId\" : \"b\", "
             "\"batchId\":[\"\\u00e9\\\"\"]},\"no-such\"],\"operationType\":\"sync\""),
     200, NULL,
     "{\"response\":\"SUCCESS\",\"esSyncResponse\":{\"a\":true,\"{\\\"courseId\\\":\\\"b\\\","
     "\\\"batchId\\\":[\\\"é\\\\\\\"\\\"]}\":true,\"no-such\":false}}",
     ""},
};

static void not_recorded(void **state)
{
    struct syncapi_rules rules = {.dialect = SYNCAPI_AUTO, .types = some_types};
    struct arena mem;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        struct syncapi_answer answer;
        struct syncapi_request r = {.path = row->path,
                                    .content_type = row->content_type,
                                    .fresh_id = FRESH,
                                    .body = slice_str(row->body)};

        print_message("%s\n", row->name);
        arena_init(&mem, 1 << 20);
        syncapi_answer_init(&answer, r.body.n);
        answer_call(&rules, &r, "POST", "", &mem, &answer);
        const struct json *got = must_parse(buf_slice(&answer.body), &mem);
        assert_int_equal(answer.status, row->status);
        assert_string_equal(answer.event, row->event);
        const struct json *code = json_get(json_get(got, "params"), "err");
        if (row->err)
            assert_string_equal((const char *)code->text.p, row->err);
        else
            assert_int_equal(code->kind, JSON_NULL);
        assert_true(json_equal(json_get(got, "result"), must_parse(slice_str(row->result), &mem)));
        syncapi_answer_fini(&answer);
        arena_fini(&mem);
    }
}

static void repeated_ids_have_one_key(void **state)
{
    struct syncapi_rules rules = {.types = some_types};
    struct syncapi_request r = {
        .path = SYNC,
        .content_type = JSON_TYPE,
        .fresh_id = FRESH,
        .body = slice_str(REQUEST("\"objectType\":\"location\",\"operationType\":\"sync\","
                                  "\"objectIds\":[\"a\",\"b\",\"a\"]"))};
    struct keyed_result results[3] = {{.outcome = KEYED_FOUND, .ok = true},
                                      {.outcome = KEYED_FOUND, .ok = false},
                                      {.outcome = KEYED_DUPLICATE, .of = 0, .ok = true}};
    struct syncapi_answer answer;
    struct syncapi_call call;
    struct arena mem;

    (void)state;
    arena_init(&mem, 1 << 20);
    syncapi_answer_init(&answer, r.body.n);
    assert_true(syncapi_parse(&rules, &r, &mem, &call, &answer));
    syncapi_results(&call, results, &answer);
    const struct json *got = must_parse(buf_slice(&answer.body), &mem);
    assert_true(json_equal(json_get(json_get(got, "result"), "esSyncResponse"),
                           must_parse(slice_str("{\"a\":true,\"b\":false}"), &mem)));
    syncapi_answer_fini(&answer);
    arena_fini(&mem);
}

static void too_large_a_tree(void **state)
{
    struct syncapi_rules rules = {.types = some_types};
    static char body[200000];
    struct syncapi_request r = {.path = SYNC, .content_type = JSON_TYPE, .fresh_id = FRESH};
    struct syncapi_answer answer;
    struct syncapi_call call;
    struct arena mem;

    (void)state;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = i % 2 ? '0' : ',';
    body[0] = '[';
    body[sizeof body - 1] = ']';
    r.body = slice_of(body, sizeof body);
    arena_init(&mem, 1 << 20);
    syncapi_answer_init(&answer, r.body.n);
    assert_false(syncapi_parse(&rules, &r, &mem, &call, &answer));
    assert_int_equal(answer.status, 413);
    assert_string_equal(answer.event, "too_large");
    syncapi_answer_fini(&answer);
    arena_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_calls),
        cmocka_unit_test(not_recorded),
        cmocka_unit_test(repeated_ids_have_one_key),
        cmocka_unit_test(too_large_a_tree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
