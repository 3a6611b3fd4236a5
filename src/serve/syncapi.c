#include "serve/syncapi.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/text.h"

enum {
    MAX_HEADER_BYTES = 64 << 10, /* the HTTP server takes half of that */
    FULL_RETRY_S = 1,            /* a queue moves */
    TABLE_RETRY_S = 60,
    RETRY_AFTER_S = 5,
};

static const struct {
    const char *type;
    enum syncapi_dialect dialect;
} homes[] = {
    {"user", SYNCAPI_USERORG}, {"organisation", SYNCAPI_USERORG}, {"location", SYNCAPI_USERORG},
    {"batch", SYNCAPI_LMS},    {"user_course", SYNCAPI_LMS},
};

/* What is said when something is wrong, in both dialects (NULL: that one never says it). */
struct fault {
    int status;
    const char *event;
    const char *lms;
    const char *userorg;
    const char *message;
};

/* clang-format off */
static const struct fault
    no_content_type = {400, "content_type", NULL, "UOS_0061", "Mandatory header parameter Content-Type with value application/json is missing."},
    no_body         = {400, "no_body", NULL, "UOS_0028", "Requested data for this operation is not valid."},
    bad_json        = {400, "bad_json", "INVALID_JSON", "UOS_0028", "The body is not valid JSON."},
    internal        = {500, "no_request", "INTERNAL_ERROR", "INTERNAL_ERROR", "Process failed,please try again later."},
    no_type         = {400, "no_type", "DATA_TYPE_ERROR", "UOS_0003", "Data type of {0} should be {1}."},
    type_not_served = {400, "type_not_served", "INVALID_OBJECT_TYPE", "UOS_0072", "Invalid Object Type."},
    whole_table     = {400, "whole_table", "WHOLE_TABLE_OFF", "WHOLE_TABLE_OFF", "objectIds is missing or empty: this server does not sync a whole table by a call."},
    unauthorized    = {401, "unauthorized", "UNAUTHORIZED_USER", "UNAUTHORIZED_USER", "You are not authorized."},
    no_run          = {404, "no_run", "NOT_FOUND", "NOT_FOUND", "There is no run of this name here, or no longer."},
    filter_scan     = {400, "filter_scan", "FILTER_SCAN_OFF", "FILTER_SCAN_OFF", ""},
    table_busy      = {429, "table_busy", "WHOLE_TABLE_BUSY", "WHOLE_TABLE_BUSY", "A whole table is being synced: one at a time. Try again later."},
    not_read        = {503, "not_read", "SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE", "The journal could not be read. Try again later."},
    too_large       = {413, "too_large", "REQUEST_TOO_LARGE", "REQUEST_TOO_LARGE", "The body is larger, or has more ids, than this server takes in one call."},
    not_found       = {404, "not_found", "NOT_FOUND", "NOT_FOUND", "There is nothing at this path for this method."},
    malformed       = {400, "malformed", "BAD_REQUEST", "BAD_REQUEST", "The headers don't say plainly where the body ends."},
    full            = {429, "full", "TOO_MANY_REQUESTS", "TOO_MANY_REQUESTS", "Too many ids are waiting: try again later."},
    not_kept        = {503, "not_kept", "SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE", "The ids could not be kept: nothing was done. Try again later."},
    stopping        = {503, "stopping", "SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE", "This server is stopping: nothing was done. Try again later."};
/* clang-format on */

void syncapi_answer_init(struct syncapi_answer *a, size_t body_bytes)
{
    *a = (struct syncapi_answer){.event = ""};
    /* An id comes back once, plus its quotes, colon, value and comma; the message's id twice, each
     * byte of it as six at most. */
    buf_init(&a->body, 8 * body_bytes + 12 * MAX_HEADER_BYTES + 8192);
}

void syncapi_answer_fini(struct syncapi_answer *a)
{
    buf_fini(&a->body);
}

/* ---- the envelope ---- */

static void add_text_or_null(struct buf *b, const char *text)
{
    if (text)
        json_add_string(b, slice_str(text));
    else
        buf_add_str(b, "null");
}

static void add_time(struct buf *b, int64_t us)
{
    time_t s = (time_t)(us / 1000000);
    char text[32];
    struct tm tm;

    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", gmtime_r(&s, &tm));
    buf_printf(b, "%s:%03d+0000", text, (int)(us / 1000 % 1000));
}

/* Up to and with `"result":`. */
static void open_answer(struct syncapi_answer *a, const struct syncapi_request *r,
                        enum syncapi_dialect dialect, int status, const char *code,
                        const char *message)
{
    bool lms = dialect == SYNCAPI_LMS;
    const char *given = lms ? r->msgid : r->request_id;
    const char *msgid = given ? given : r->fresh_id;
    struct buf *b = &a->body;

    a->status = status;
    buf_reset(b);
    buf_add_str(b, "{\"id\":\"api.data.sync\",\"ver\":\"v1\",\"ts\":\"");
    add_time(b, r->now_us);
    buf_add_str(b, "\",\"params\":{\"resmsgid\":");
    add_text_or_null(b, lms ? NULL : msgid);
    buf_add_str(b, ",\"msgid\":");
    add_text_or_null(b, msgid);
    buf_add_str(b, ",\"err\":");
    add_text_or_null(b, code);
    buf_add_str(b, ",\"status\":");
    if (code)
        add_text_or_null(b, lms ? code : "FAILED");
    else
        add_text_or_null(b, lms ? "success" : "SUCCESS");
    buf_add_str(b, ",\"errmsg\":");
    add_text_or_null(b, message);
    buf_printf(b, "},\"responseCode\":\"%s\",\"result\":",
               !code          ? "OK"
               : status < 500 ? "CLIENT_ERROR"
                              : "SERVER_ERROR");
}

/* Always false. */
static bool answer_fault_text(struct syncapi_answer *a, const struct syncapi_request *r,
                              enum syncapi_dialect dialect, const struct fault *f,
                              const char *message)
{
    open_answer(a, r, dialect, f->status, dialect == SYNCAPI_LMS ? f->lms : f->userorg, message);
    buf_add_str(&a->body, "{}}");
    a->event = f->event;
    a->retry_after_s = f == &table_busy   ? TABLE_RETRY_S
                       : f->status == 429 ? FULL_RETRY_S
                       : f->status == 503 ? RETRY_AFTER_S
                                          : 0;
    return false;
}

/* Always false. */
static bool answer_fault(struct syncapi_answer *a, const struct syncapi_request *r,
                         enum syncapi_dialect dialect, const struct fault *f)
{
    return answer_fault_text(a, r, dialect, f, f->message);
}

/* Always false: complete. */
static bool answer_success(struct syncapi_answer *a, const struct syncapi_request *r,
                           enum syncapi_dialect dialect)
{
    open_answer(a, r, dialect, 200, NULL, NULL);
    buf_add_str(&a->body, "{\"response\":\"SUCCESS\"}}");
    return false;
}

/* ---- a request ---- */

/* SYNCAPI_AUTO: of neither. */
static enum syncapi_dialect home_of(struct slice type)
{
    for (size_t i = 0; i < sizeof homes / sizeof *homes; i++) {
        if (slice_is(type, homes[i].type))
            return homes[i].dialect;
    }
    return SYNCAPI_AUTO;
}

/* Whose types are served, where they are one service's: then we stand in its place. */
static enum syncapi_dialect home_of_all(const char *const *types)
{
    enum syncapi_dialect home = *types ? home_of(slice_str(*types)) : SYNCAPI_AUTO;

    for (; *types; types++) {
        if (home_of(slice_str(*types)) != home)
            return SYNCAPI_AUTO;
    }
    return home;
}

static enum syncapi_dialect pick_dialect(const struct syncapi_rules *rules, const char *path,
                                         struct slice type)
{
    enum syncapi_dialect dialect = rules->dialect;

    if (dialect == SYNCAPI_AUTO)
        dialect = home_of_all(rules->types);
    if (dialect == SYNCAPI_AUTO)
        dialect = home_of(type);
    if (dialect != SYNCAPI_AUTO)
        return dialect;
    return strcmp(path, "/v1/data/sync") == 0 ? SYNCAPI_LMS : SYNCAPI_USERORG;
}

static const char *served_type(const struct syncapi_rules *rules, struct slice type)
{
    for (const char *const *t = rules->types; *t; t++) {
        if (slice_is(type, *t))
            return *t;
    }
    return NULL;
}

static bool is_json_type(const char *content_type)
{
    if (!content_type)
        return false;
    size_t n = strcspn(content_type, "; \t");
    struct slice type = slice_of(content_type, n);
    return text_same_nocase(type, slice_str("application/json")) ||
           text_same_nocase(type, slice_str("text/json"));
}

/* lms-service looks at the type early only when operationFor says something; late, a missing type
 * is an inner error. */
static bool lms_checks_early(const struct json *request)
{
    const struct json *for_what = json_get(request, "operationFor");

    if (!for_what || for_what->kind == JSON_NULL)
        return false;
    return for_what->kind != JSON_STRING ||
           !text_same_nocase(for_what->text, slice_str("keycloak"));
}

static bool has_empty_object(const struct json *list)
{
    json_each (element, list) {
        if (element->kind == JSON_OBJECT && element->count == 0)
            return true;
    }
    return false;
}

static enum syncapi_wait read_wait(const struct json *request, enum syncapi_dialect dialect)
{
    struct slice type = json_get_string(request, "operationType");

    if (!type.p || text_trim(type).n == 0)
        return SYNCAPI_NO_WAIT;
    if (slice_is(type, "sync"))
        return SYNCAPI_WAIT;
    return dialect == SYNCAPI_LMS ? SYNCAPI_NO_WAIT : SYNCAPI_WAIT_IN_VAIN;
}

/* Always false: complete. Nobody answers a call that waits in vain, also when there was nothing to
 * do. */
static bool answer_nothing_to_do(const struct syncapi_call *call, struct syncapi_answer *a)
{
    if (call->wait != SYNCAPI_WAIT_IN_VAIN)
        return answer_success(a, call->request, call->dialect);
    syncapi_late(call, a);
    return false;
}

/* What is not a list of ids: nothing is done, or, where lms-service would sync the whole table, the
 * call is refused. */
static bool read_ids(const struct syncapi_rules *rules, const struct json *request,
                     struct syncapi_call *call, struct syncapi_answer *a)
{
    const struct json *ids = json_get(request, "objectIds");
    bool none = !ids || ids->kind == JSON_NULL || (ids->kind == JSON_ARRAY && ids->count == 0);

    if (call->dialect == SYNCAPI_LMS &&
        (none || (ids->kind == JSON_ARRAY && has_empty_object(ids))))
        return rules->whole_table || answer_fault(a, call->request, call->dialect, &whole_table);
    if (none || ids->kind != JSON_ARRAY)
        return answer_nothing_to_do(call, a);
    call->ids = ids;
    return true;
}

static bool read_call(const struct syncapi_rules *rules, const struct json *body,
                      struct syncapi_call *call, struct syncapi_answer *a)
{
    const struct syncapi_request *r = call->request;
    const struct json *request = json_get(body, "request");

    if (!request || request->kind != JSON_OBJECT)
        return answer_fault(a, r, call->dialect, &internal);
    const struct json *type = json_get(request, "objectType");
    if (!type || type->kind == JSON_NULL) {
        bool late = call->dialect == SYNCAPI_LMS && !lms_checks_early(request);
        return answer_fault(a, r, call->dialect, late ? &internal : &no_type);
    }
    call->object_type = type->kind == JSON_STRING ? served_type(rules, type->text) : NULL;
    if (!call->object_type)
        return answer_fault(a, r, call->dialect, &type_not_served);
    call->wait = read_wait(request, call->dialect);
    return read_ids(rules, request, call, a);
}

bool syncapi_parse(const struct syncapi_rules *rules, const struct syncapi_request *request,
                   struct arena *mem, struct syncapi_call *call, struct syncapi_answer *answer)
{
    struct err err = {0};
    bool blank = text_trim(request->body).n == 0;
    /* Read whatever the Content-Type is: its object type says who would have complained. */
    const struct json *body = blank ? NULL : json_parse(request->body, mem, &err);
    struct slice type = json_get_string(json_get(body, "request"), "objectType");

    *call = (struct syncapi_call){.request = request,
                                  .dialect = pick_dialect(rules, request->path, type)};
    bool lms = call->dialect == SYNCAPI_LMS;
    if (!is_json_type(request->content_type))
        return answer_fault(answer, request, call->dialect, lms ? &internal : &no_content_type);
    if (blank)
        return answer_fault(answer, request, call->dialect, lms ? &internal : &no_body);
    if (!body)
        return answer_fault(answer, request, call->dialect,
                            strstr(err.text, "too large") ? &too_large : &bad_json);
    return read_call(rules, body, call, answer);
}

/* ---- answers to a call ---- */

bool syncapi_answers_as_recorded(const struct syncapi_call *call)
{
    return call->dialect == SYNCAPI_USERORG && (strcmp(call->object_type, "user") == 0 ||
                                                strcmp(call->object_type, "organisation") == 0);
}

void syncapi_accepted(const struct syncapi_call *call, struct syncapi_answer *answer)
{
    answer_success(answer, call->request, call->dialect);
}

static void add_key(struct buf *b, const struct json *id, struct buf *scratch)
{
    if (id->kind == JSON_STRING) {
        json_add_string(b, id->text);
        return;
    }
    buf_reset(scratch);
    json_write(scratch, id);
    json_add_string(b, buf_slice(scratch));
}

static bool is_any(const struct keyed_result *r)
{
    (void)r;
    return true;
}

static bool is_ok(const struct keyed_result *r)
{
    return r->ok;
}

/* A user who can't be read or made into a document: there, only that throws. */
static bool is_thrown(const struct keyed_result *r)
{
    return !r->ok && !r->unwritten;
}

/*
 * Adds `,"<id>":false` or `"<id>":true,` ... for the elements that are wanted; a repeated element
 * has its first one's key.
 */
static void add_keys(struct buf *b, const struct syncapi_call *call,
                     const struct keyed_result *results,
                     bool (*wanted)(const struct keyed_result *), bool comma_first)
{
    struct buf scratch;
    size_t i = 0;
    size_t added = 0;

    buf_init(&scratch, b->max);
    json_each (id, call->ids) {
        const struct keyed_result *r = &results[i++];
        if (r->outcome == KEYED_DUPLICATE || !wanted(r))
            continue;
        if (comma_first || added)
            buf_add_byte(b, ',');
        add_key(b, id, &scratch);
        buf_add_str(b, r->ok ? ":true" : ":false");
        added++;
    }
    buf_fini(&scratch);
}

static bool any_open(const struct syncapi_call *call, const struct keyed_result *results)
{
    for (uint32_t i = 0; i < call->ids->count; i++) {
        if (results[i].outcome == KEYED_OPEN)
            return true;
    }
    return false;
}

void syncapi_results(const struct syncapi_call *call, const struct keyed_result *results,
                     struct syncapi_answer *answer)
{
    struct buf *b = &answer->body;
    bool recorded = syncapi_answers_as_recorded(call);

    open_answer(answer, call->request, call->dialect, 200, NULL, NULL);
    buf_add_str(b, "{\"response\":\"SUCCESS\"");
    if (recorded && strcmp(call->object_type, "user") == 0 && !any_open(call, results))
        add_keys(b, call, results, is_thrown, true);
    buf_add_str(b, ",\"esSyncResponse\":{");
    add_keys(b, call, results, recorded ? is_ok : is_any, false);
    buf_add_str(b, "}}}");
}

void syncapi_unreachable(const struct syncapi_call *call, struct syncapi_answer *answer)
{
    open_answer(answer, call->request, call->dialect, 200, NULL, NULL);
    buf_add_str(&answer->body, "{\"response\":\"SUCCESS\",\"esSyncResponse\":{}}}");
    answer->event = "late";
}

void syncapi_late(const struct syncapi_call *call, struct syncapi_answer *answer)
{
    /* In userorg-service's words for every type: clients know it by this code. */
    open_answer(answer, call->request, SYNCAPI_USERORG, 500, "UOS_ESSYNCnull", NULL);
    buf_add_str(&answer->body, "{}}");
    answer->event = "late";
}

static const struct fault *const refusals[] = {
    [SYNCAPI_UNAUTHORIZED] = &unauthorized, [SYNCAPI_NO_RUN] = &no_run,
    [SYNCAPI_TABLE_BUSY] = &table_busy,     [SYNCAPI_NOT_READ] = &not_read,
    [SYNCAPI_NOT_FOUND] = &not_found,       [SYNCAPI_MALFORMED] = &malformed,
    [SYNCAPI_TOO_LARGE] = &too_large,       [SYNCAPI_FULL] = &full,
    [SYNCAPI_NOT_KEPT] = &not_kept,         [SYNCAPI_STOPPING] = &stopping,
};

void syncapi_refuse(const struct syncapi_rules *rules, const struct syncapi_request *request,
                    enum syncapi_refusal why, struct syncapi_answer *answer)
{
    answer_fault(answer, request, pick_dialect(rules, request->path, SLICE_NULL), refusals[why]);
}

void syncapi_refuse_call(const struct syncapi_call *call, enum syncapi_refusal why,
                         struct syncapi_answer *answer)
{
    answer_fault(answer, call->request, call->dialect, refusals[why]);
}

void syncapi_refuse_scan(const struct syncapi_call *call, const char *why,
                         struct syncapi_answer *answer)
{
    answer_fault_text(answer, call->request, call->dialect, &filter_scan, why);
}

void syncapi_own_begin(const struct syncapi_rules *rules, const struct syncapi_request *request,
                       struct syncapi_answer *answer)
{
    open_answer(answer, request, pick_dialect(rules, request->path, SLICE_NULL), 200, NULL, NULL);
}

void syncapi_own_end(struct syncapi_answer *answer)
{
    buf_add_byte(&answer->body, '}');
}
