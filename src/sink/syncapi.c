#include "sink/syncapi.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/map.h"
#include "base/text.h"

enum {
    MAX_BODY_BYTES = 1000000, /* the gateway's limit */
    JUDGE_MEM_BYTES = 64 << 20,
    SAID_BYTES = 160, /* of what a server said, in texts */
};

static const char body_type[] = "{\"params\":{},\"request\":{\"objectType\":";
static const char body_ids[] = ",\"operationFor\":\"es\",\"objectIds\":[";
static const char body_await[] = "],\"operationType\":\"sync\"}}";
static const char body_end[] = "]}}";

/* ---- endpoint ---------------------------------------------------------------------------------
 */

static bool has_blank(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text <= ' ' || *text == 0x7f)
            return true;
    }
    return false;
}

/* No port, or one that there is. */
static bool port_ok(struct slice authority)
{
    const uint8_t *colon = memrchr(authority.p, ':', authority.n);
    const uint8_t *end = authority.p + authority.n;
    int64_t port;

    if (!colon || memchr(colon, ']', (size_t)(end - colon)))
        return true;
    return text_to_i64(slice_of(colon + 1, (size_t)(end - colon - 1)), 1, 65535, &port);
}

char *syncapi_endpoint(const char *text, struct err *err)
{
    struct slice s = text_trim(slice_str(text ? text : ""));
    AUTO_STR char *given = xstrndup((const char *)s.p, s.n);
    const char *host = strstr(given, "://");

    if (!s.n) {
        err_set(err, ERR_USER, "the Sync API's endpoint is empty");
        return NULL;
    }
    if (strstr(given, "{{") || strstr(given, "}}")) {
        err_set(err, ERR_USER,
                "endpoint %s: put the server's name in place of what stands in braces", given);
        return NULL;
    }
    if (has_blank(given)) {
        err_set(err, ERR_USER, "endpoint \"%s\": a URL holds no blanks", given);
        return NULL;
    }
    if (host && strncasecmp(given, "http://", 7) != 0 && strncasecmp(given, "https://", 8) != 0) {
        err_set(err, ERR_USER, "endpoint %s: http:// or https:// is wanted", given);
        return NULL;
    }
    host = host ? host + 3 : given;
    size_t authority = strcspn(host, "/?#");
    if (memchr(host, '@', authority)) { /* not shown: it may hold a password */
        err_set(err, ERR_USER,
                "the endpoint holds a user name before \"@\"; the API key is given by itself");
        return NULL;
    }
    if (!authority || *host == ':') {
        err_set(err, ERR_USER, "endpoint %s: it names no host", given);
        return NULL;
    }
    if (!port_ok(slice_of(host, authority))) {
        err_set(err, ERR_USER, "endpoint %s: its port is not a number from 1 to 65535", given);
        return NULL;
    }
    if (strchr(host, '#')) {
        err_set(err, ERR_USER, "endpoint %s: \"#\" has no meaning here", given);
        return NULL;
    }
    size_t n = strlen(given);
    while (given[n - 1] == '/')
        given[--n] = '\0';
    return xsprintf("%s%s", host == given ? "https://" : "", given);
}

bool syncapi_key_exposed(const char *url, const char *key)
{
    if (!key || !*key || strncasecmp(url, "http://", 7) != 0)
        return false;
    struct slice host = slice_of(url + 7, strcspn(url + 7, "/?"));
    static const char *const local[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        size_t n = strlen(local[i]);
        if (host.n >= n && strncasecmp((const char *)host.p, local[i], n) == 0 &&
            (host.n == n || host.p[n] == ':'))
            return false;
    }
    return true;
}

/* ---- bodies -----------------------------------------------------------------------------------
 */

size_t syncapi_frame_bytes(const char *object_type, bool await)
{
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    json_add_string(&b, slice_str(object_type));
    size_t n = b.len + sizeof body_type - 1 + sizeof body_ids - 1 +
               (await ? sizeof body_await : sizeof body_end) - 1;
    buf_fini(&b);
    return n;
}

void syncapi_add_body(struct buf *out, const char *object_type, bool await,
                      const struct syncapi_block *b)
{
    ensure(b->count > 0); /* no ids would mean: all of them */
    buf_add_str(out, body_type);
    json_add_string(out, slice_str(object_type));
    buf_add_str(out, body_ids);
    for (size_t i = 0; i < b->count; i++) {
        if (i)
            buf_add_byte(out, ',');
        buf_add_slice(out, b->ids[i]);
    }
    buf_add_str(out, await ? body_await : body_end);
}

/* ---- what an answer means ---------------------------------------------------------------------
 */

static void judge(struct syncapi_verdict *v, enum syncapi_outcome outcome, const char *reason,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void judge(struct syncapi_verdict *v, enum syncapi_outcome outcome, const char *reason,
                  const char *fmt, ...)
{
    va_list ap;

    v->outcome = outcome;
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    va_start(ap, fmt);
    vsnprintf(v->text, sizeof v->text, fmt, ap);
    va_end(ap);
}

static void judge_status(struct syncapi_verdict *v, enum syncapi_outcome outcome, int status,
                         const char *words, const char *said)
{
    char reason[32];

    snprintf(reason, sizeof reason, "http_%d", status);
    judge(v, outcome, reason, "HTTP %d%s%s%s%s", status, *words ? ", " : "", words,
          *said ? ": " : "", said);
}

/* One line of printable text, cut at a character's border. */
static void say(char out[SAID_BYTES], struct slice text)
{
    size_t n = 0;
    bool blank = false;

    text = text_trim(text);
    for (size_t i = 0; i < text.n && n < SAID_BYTES - 5; i++) {
        bool space = text.p[i] <= ' ' || text.p[i] == 0x7f;

        if (!space || !blank)
            out[n++] = space ? ' ' : (char)text.p[i];
        blank = space;
    }
    while (n && !utf8_valid(slice_of(out, n)) && n > SAID_BYTES - 9)
        n--;
    out[n] = '\0';
    if (!utf8_valid(slice_of(out, n)))
        out[0] = '\0';
}

static bool is_page(const struct http_answer *a)
{
    struct slice body = text_trim(a->body);

    return strncasecmp(a->content_type, "text/html", 9) == 0 || (body.n && body.p[0] == '<');
}

/* What the server gives as its reason: Sunbird's params, the gateway's message, or plain text. */
static void find_said(const struct http_answer *a, const struct json *json, char out[SAID_BYTES])
{
    const struct json *params = json_get(json, "params");
    struct slice code = json_get_string(params, "err");
    struct slice text = json_get_string(params, "errmsg");

    if (!text.n)
        text = json_get_string(json, "message");
    if (!text.n)
        text = json_get_string(json, "error");
    if (code.n && text.n) {
        char first[SAID_BYTES];
        char both[2 * SAID_BYTES + 2];

        say(first, code);
        say(out, text);
        snprintf(both, sizeof both, "%s %s", first, out);
        say(out, slice_str(both));
    } else if (code.n || text.n) {
        say(out, code.n ? code : text);
    } else if (!json && !is_page(a)) {
        say(out, a->body);
    } else {
        out[0] = '\0';
    }
}

static bool is_true(const struct json *v)
{
    return v && v->kind == JSON_BOOL && v->truth;
}

static bool is_false(const struct json *v)
{
    return v && v->kind == JSON_BOOL && !v->truth;
}

static void index_members(struct map *m, const struct json *object)
{
    map_init(m);
    json_each (member, object)
        map_put(m, member->key, NULL)->value = (void *)(uintptr_t)member;
}

static const struct json *member_of(const struct map *m, struct slice key)
{
    struct map_entry *e = map_get(m, key);

    return e ? e->value : NULL;
}

/* The key under which the server answers for an id: a string itself, an object's compact text. */
static struct slice answer_key(struct slice id, struct arena *mem, struct buf *text)
{
    struct err ignored = {0};
    const struct json *v = json_parse(id, mem, &ignored);

    if (!v)
        return id;
    if (v->kind == JSON_STRING)
        return v->text;
    buf_reset(text);
    json_write(text, v);
    return buf_slice(text);
}

/* "Not true in esSyncResponse" is a failure; so is `false` beside it. */
static void judge_each(const struct json *result, const struct json *done,
                       const struct syncapi_block *b, struct arena *mem, bool *id_ok,
                       struct syncapi_verdict *v)
{
    struct map in_done;
    struct map in_result;
    struct buf text;
    size_t refused = 0;

    index_members(&in_done, done);
    index_members(&in_result, result);
    buf_init(&text, MAX_BODY_BYTES * 4);
    for (size_t i = 0; i < b->count; i++) {
        struct slice key = answer_key(b->ids[i], mem, &text);
        bool no = is_false(member_of(&in_result, key));

        id_ok[i] = is_true(member_of(&in_done, key)) && !no;
        v->confirmed += id_ok[i];
        refused += no;
    }
    buf_fini(&text);
    map_fini(&in_result);
    map_fini(&in_done);
    v->id_ok = id_ok;
    if (v->confirmed == b->count)
        judge(v, SYNC_CONFIRMED, "", "%zu confirmed", v->confirmed);
    else
        judge(v, SYNC_PARTLY, "not_confirmed",
              "the server confirmed %zu of %zu ids (%zu it refused; of the others it says nothing)",
              v->confirmed, b->count, refused);
}

static void judge_ok(const struct http_answer *a, const struct json *json, const char *said,
                     const struct syncapi_block *b, bool await, struct arena *mem, bool *id_ok,
                     struct syncapi_verdict *v)
{
    const struct json *code = json_get(json, "responseCode");
    const struct json *result = json_get(json, "result");
    const struct json *done = json_get(result, "esSyncResponse");

    if (!code || code->kind != JSON_STRING) {
        judge(v, SYNC_FAILED, "answer_unreadable",
              "HTTP %d, but the answer has no responseCode: it is not the Sync API's", a->status);
    } else if (!text_same_nocase(code->text, slice_str("OK"))) {
        char word[SAID_BYTES];

        say(word, code->text);
        judge(v, SYNC_FAILED, "response_code", "HTTP %d with responseCode %.80s%s%s", a->status,
              word, *said ? ": " : "", said);
    } else if (!await) {
        judge(v, SYNC_ACCEPTED, "", "accepted");
    } else if (!done || done->kind == JSON_NULL) {
        v->no_await = true;
        judge(v, SYNC_ACCEPTED, "", "accepted; this server does not await");
    } else if (done->kind != JSON_OBJECT) {
        judge(v, SYNC_FAILED, "answer_unreadable", "HTTP %d, but esSyncResponse is not an object",
              a->status);
    } else {
        judge_each(result, done, b, mem, id_ok, v);
    }
}

static void judge_2xx(const struct http_answer *a, const struct json *json, const struct err *bad,
                      const char *said, const struct syncapi_block *b, bool await,
                      struct arena *mem, bool *id_ok, struct syncapi_verdict *v)
{
    if (json && json->kind == JSON_OBJECT)
        judge_ok(a, json, said, b, await, mem, id_ok, v);
    else if (is_page(a))
        judge(v, SYNC_STOP, "web_page",
              "HTTP %d with a web page: this is not the Sync API; check the endpoint's path",
              a->status);
    else if (!text_trim(a->body).n)
        judge(v, SYNC_FAILED, "answer_unreadable", "HTTP %d with an empty answer", a->status);
    else if (json)
        judge(v, SYNC_FAILED, "answer_unreadable", "HTTP %d, but the answer is not a JSON object",
              a->status);
    else
        judge(v, SYNC_FAILED, "answer_unreadable",
              "HTTP %d, but the answer is not JSON, or was cut off: %.120s", a->status, bad->text);
}

static void judge_other(const struct http_answer *a, const struct json *json, const char *said,
                        bool await, struct syncapi_verdict *v)
{
    struct slice code = json_get_string(json_get(json, "params"), "err");

    switch (a->status) {
    case 401:
    case 403:
        judge_status(v, SYNC_STOP, a->status, "the API key is missing, wrong, or has no right",
                     said);
        return;
    case 407:
        judge_status(v, SYNC_STOP, a->status, "the proxy wants a user name and password", said);
        return;
    case 404:
    case 405:
    case 410:
        judge_status(v, SYNC_STOP, a->status,
                     "there is no Sync API at this endpoint; check its path", said);
        return;
    case 408:
    case 429:
    case 502:
    case 503:
    case 504:
        judge_status(v, SYNC_RETRY, a->status, "", said);
        return;
    case 413:
        judge_status(v, SYNC_FAILED, a->status,
                     "the body is too large for the server; choose smaller blocks", said);
        return;
    case 500:
        if (await && code.n >= 10 && memcmp(code.p, "UOS_ESSYNC", 10) == 0) {
            judge_status(v, SYNC_UNKNOWN, a->status,
                         "the server stopped waiting, its work may go on", said);
            return;
        }
        break;
    default:
        break;
    }
    if (a->status >= 300 && a->status < 400) {
        char to[SAID_BYTES];

        say(to, slice_of(a->location, strcspn(a->location, "?#")));
        judge(v, SYNC_STOP, "redirect",
              "HTTP %d, a redirect%s%s; the endpoint must be the final address", a->status,
              *to ? " to " : "", to);
        return;
    }
    judge_status(v, SYNC_FAILED, a->status, "", said);
}

void syncapi_judge(const struct http_answer *a, const struct syncapi_block *b, bool await,
                   bool *id_ok, struct syncapi_verdict *v)
{
    struct arena mem;
    struct err bad = {0};
    char said[SAID_BYTES];

    *v = (struct syncapi_verdict){
        .status = a->status,
        .retry_after_ms = a->retry_after_ms,
        .answer = a->body,
        .took_ms = a->took_ms,
        .sent = true,
    };
    arena_init(&mem, JUDGE_MEM_BYTES);
    const struct json *json = json_parse(a->body, &mem, &bad);
    find_said(a, json, said);
    if (a->status >= 200 && a->status < 300)
        judge_2xx(a, json, &bad, said, b, await, &mem, id_ok, v);
    else
        judge_other(a, json, said, await, v);
    arena_fini(&mem);
}

/* ---- calls ------------------------------------------------------------------------------------
 */

struct syncapi {
    struct syncapi_options o;
    struct http_client *http;
    struct buf body;
    bool *id_ok;
    size_t id_room;
    char *key; /* a secret */
};

/* "Bearer " is ours to write; operators paste it along with the key. */
static const char *bare_key(const char *key)
{
    if (!key)
        return "";
    key += strspn(key, " \t");
    if (strncasecmp(key, "Bearer ", 7) == 0)
        key += 7 + strspn(key + 7, " ");
    return key;
}

struct syncapi *syncapi_new(const struct syncapi_options *o, struct err *err)
{
    AUTO(syncapi) struct syncapi *s = xalloc(sizeof *s);
    AUTO_STR char *authorization = NULL;

    s->o = *o;
    s->o.key = NULL;
    if (!s->o.max_body_bytes)
        s->o.max_body_bytes = MAX_BODY_BYTES;
    buf_init(&s->body, s->o.max_body_bytes);
    struct slice key = text_trim(slice_str(bare_key(o->key)));
    s->key = xstrndup((const char *)key.p, key.n);
    for (const char *c = s->key; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            err_set(err, ERR_USER, "the API key holds control characters or line ends");
            return NULL;
        }
    }
    if (key.n)
        authorization = xsprintf("Bearer %s", s->key);
    s->o.http.authorization = authorization;
    s->http = http_client_new(&s->o.http, err);
    s->o.http.authorization = NULL;
    if (authorization)
        explicit_bzero(authorization, strlen(authorization));
    return s->http ? TAKE(s) : NULL;
}

void syncapi_free(struct syncapi *s)
{
    if (!s)
        return;
    if (s->http)
        http_client_free(s->http);
    buf_fini(&s->body);
    free(s->id_ok);
    if (s->key)
        explicit_bzero(s->key, strlen(s->key));
    free(s->key);
    free(s);
}

/* A server may send back what it was sent; the bytes are our client's. */
static void mask_key(const char *key, void *text, size_t n)
{
    size_t key_bytes = strlen(key);
    char *from = text;

    if (!key_bytes)
        return;
    while ((from = memmem(from, n - (size_t)(from - (char *)text), key, key_bytes)))
        memset(from, '*', key_bytes);
}

static void no_answer(const struct err *err, bool sent, struct syncapi_verdict *v)
{
    static const struct {
        enum syncapi_outcome outcome;
        const char *reason;
    } means[] = {
        [ERR_NONE] = {SYNC_RETRY, "connection"},         [ERR_RETRY] = {SYNC_RETRY, "connection"},
        [ERR_REJECT] = {SYNC_FAILED, "answer_too_long"}, [ERR_USER] = {SYNC_STOP, "endpoint"},
        [ERR_REACH] = {SYNC_STOP, "endpoint"},           [ERR_SYSTEM] = {SYNC_STOP, "system"},
        [ERR_CANCEL] = {SYNC_CANCELLED, "stopped"},
    };
    bool late = err->kind == ERR_RETRY && strstr(err->text, "timed out");

    *v = (struct syncapi_verdict){.retry_after_ms = -1, .sent = sent};
    judge(v, means[err->kind].outcome, late ? "timeout" : means[err->kind].reason, "%s", err->text);
}

void syncapi_send(struct syncapi *s, const struct syncapi_block *b, bool await,
                  struct syncapi_verdict *out)
{
    struct err err = {0};
    struct http_answer answer;
    bool sent = false;

    await = await && s->o.await;
    buf_reset(&s->body);
    syncapi_add_body(&s->body, s->o.object_type, await, b);
    if (s->body.full) {
        *out = (struct syncapi_verdict){.retry_after_ms = -1};
        judge(out, SYNC_FAILED, "body_too_long",
              "the body would be longer than %zu bytes; choose smaller blocks",
              s->o.max_body_bytes);
        return;
    }
    if (await && s->id_room < b->count) {
        s->id_ok = xrealloc(s->id_ok, b->count * sizeof *s->id_ok);
        s->id_room = b->count;
    }
    struct http_request request = {
        .method = "POST",
        .url = s->o.url,
        .content_type = "application/json",
        .body = buf_slice(&s->body),
    };
    if (!http_call(s->http, &request, &answer, &sent, &err)) {
        no_answer(&err, sent, out);
        return;
    }
    mask_key(s->key, (void *)(uintptr_t)answer.body.p, answer.body.n);
    mask_key(s->key, answer.location, strlen(answer.location));
    syncapi_judge(&answer, b, await, s->id_ok, out);
}

struct slice syncapi_last_body(const struct syncapi *s)
{
    return buf_slice(&s->body);
}
