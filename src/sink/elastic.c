#include "sink/elastic.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

enum {
    BODY_BYTES = 1 << 20,
    ANSWER_BYTES = 64 << 20,
    ANSWER_MEMORY =
        64 << 20, /* of a parsed bulk answer; a node of the tree is larger than its text */
    CONNECT_MS = 5000,
    REQUEST_MS = 60000,
    URL_MAX = 1024,
    URL_BYTES = 4096,
};

/* ---- life --------------------------------------------------------------------------------------
 */

/* Never shown when wrong: it may hold a password. */
static bool check_url(const char *url, struct err *err)
{
    const char *host = strstr(url, "://");

    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return err_set(err, ERR_USER, "the Elasticsearch URL must begin with http:// or https://");
    if (strcspn(host + 3, "@") < strcspn(host + 3, "/"))
        return err_set(err, ERR_USER,
                       "the Elasticsearch URL must not hold user and password; they "
                       "have settings of their own");
    if (strlen(url) > URL_MAX || strpbrk(url, "?#"))
        return err_set(err, ERR_USER, "the Elasticsearch URL is too long, or has ? or # in it");
    return true;
}

struct elastic *elastic_new(const struct elastic_options *o, struct err *err)
{
    static const enum gzip_mode gzip_modes[] = {
        [ELASTIC_PLAIN] = GZIP_OFF, [ELASTIC_AUTO] = GZIP_AUTO, [ELASTIC_GZIP] = GZIP_ON};
    struct elastic *e;
    size_t count = 0;

    for (; o->urls && o->urls[count]; count++)
        if (!check_url(o->urls[count], err))
            return NULL;
    if (!count) {
        err_set(err, ERR_USER, "no Elasticsearch URL is given");
        return NULL;
    }
    e = xalloc(sizeof *e);
    e->o = *o;
    e->node_count = count;
    e->shared = o->shared ? o->shared : &e->own;
    e->node = atomic_fetch_add(&e->shared->workers, 1) % count;
    e->body_max = SIZE_MAX;
    e->body_bytes = o->body_bytes ? o->body_bytes : BODY_BYTES;
    e->retry_after_ms = -1;
    arena_init(&e->mem, ANSWER_MEMORY);
    gzip_init(&e->gzip, gzip_modes[o->compress], o->clock);
    if (o->api_key && o->api_key[0])
        e->authorization = xsprintf("ApiKey %s", o->api_key);
    else if (o->bearer && o->bearer[0])
        e->authorization = xsprintf("Bearer %s", o->bearer);
    struct http_options http = {
        .ca_file = o->ca_file,
        .cert_file = o->cert_file,
        .key_file = o->key_file,
        .username = e->authorization ? NULL : o->username,
        .password = e->authorization ? NULL : o->password,
        .authorization = e->authorization,
        .user_agent = "cass2es/" CASS2ES_VERSION,
        .connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : CONNECT_MS,
        .request_timeout_ms = o->request_timeout_ms ? o->request_timeout_ms : REQUEST_MS,
        .max_answer_bytes = o->max_answer_bytes ? o->max_answer_bytes : ANSWER_BYTES,
        .clock = o->clock,
        .cancel = o->cancel,
    };
    e->http = http_client_new(&http, err);
    if (!e->http) {
        elastic_free(e);
        return NULL;
    }
    return e;
}

void elastic_free(struct elastic *e)
{
    if (!e)
        return;
    http_client_free(e->http);
    if (e->authorization)
        explicit_bzero(e->authorization, strlen(e->authorization));
    free(e->authorization);
    gzip_fini(&e->gzip);
    arena_fini(&e->mem);
    free(e);
}

void elastic_trim(struct elastic *e)
{
    http_client_trim(e->http);
    gzip_trim(&e->gzip);
    arena_fini(&e->mem);
}

int64_t elastic_retry_after_ms(const struct elastic *e)
{
    return e->retry_after_ms;
}

/* ---- one call ----------------------------------------------------------------------------------
 */

void elastic_copy_text(char *out, size_t size, struct slice text)
{
    size_t n = text.n < size - 1 ? text.n : size - 1;

    while (n < text.n && n && (text.p[n] & 0xc0) == 0x80)
        n--; /* not inside a character */
    if (n)
        memcpy(out, text.p, n);
    out[n] = 0;
}

/* A reason may go on with the value that was refused, or with the whole document: not ours to show.
 */
static void copy_reason(char *out, size_t size, struct slice text)
{
    static const char *const secrets[] = {"Preview of field's value", "source[", "request: [",
                                          "prefix of the first immense term"};

    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        const void *at = text.n ? memmem(text.p, text.n, secrets[i], strlen(secrets[i])) : NULL;
        if (at)
            text.n = (size_t)((const uint8_t *)at - text.p);
    }
    elastic_copy_text(out, size, text_trim(text));
}

void elastic_copy_error(struct slice type, struct slice reason, struct elastic_problem *out)
{
    out->reason[0] = out->text[0] = '\0';
    if (type.p)
        elastic_copy_text(out->reason, sizeof out->reason, type);
    if (reason.p)
        copy_reason(out->text, sizeof out->text, reason);
}

void elastic_read_error(const struct json *error, struct elastic_problem *out)
{
    struct slice reason = json_get_string(error, "reason");

    if (error && error->kind == JSON_STRING)
        reason = error->text;
    elastic_copy_error(json_get_string(error, "type"), reason, out);
}

void elastic_read_problem(struct elastic *e, const struct http_answer *a,
                          struct elastic_problem *out)
{
    struct err ignored = {0};

    arena_reset(&e->mem);
    const struct json *root = json_parse(a->body, &e->mem, &ignored);
    elastic_read_error(json_get(root, "error"), out);
    if (!out->reason[0])
        snprintf(out->reason, sizeof out->reason, "http_%d", a->status);
}

bool elastic_has_types(const struct elastic *e)
{
    return atomic_load_explicit(&e->shared->major, memory_order_relaxed) == 6;
}

const char *elastic_url(const struct elastic *e)
{
    return e->o.urls[e->node];
}

bool elastic_fail(struct elastic *e, const struct http_answer *a, enum err_kind kind,
                  struct err *err)
{
    struct elastic_problem why;

    elastic_read_problem(e, a, &why);
    return err_set(err, kind, "%s answered %d%s%s%s%s", elastic_url(e), a->status,
                   why.text[0] ? ": " : "", why.text[0] ? why.reason : "", why.text[0] ? ": " : "",
                   why.text);
}

static void next_node(struct elastic *e)
{
    e->node = (e->node + 1) % e->node_count;
}

static bool node_is_ill(int status)
{
    return status == 502 || status == 503 || status == 504;
}

/* A block of the whole cluster looks like missing rights, and passes. */
static bool is_blocked(struct elastic *e, const struct http_answer *a)
{
    struct elastic_problem why;

    elastic_read_problem(e, a, &why);
    return strcmp(why.reason, "cluster_block_exception") == 0;
}

bool elastic_call(struct elastic *e, const struct elastic_request *r, struct http_answer *a,
                  struct err *err)
{
    static const char *const packed[] = {"Content-Encoding: gzip", NULL};
    char url[URL_BYTES];

    e->retry_after_ms = -1;
    for (size_t tries = 1;; tries++) {
        const char *base = e->o.urls[e->node];
        size_t len = strlen(base);
        bool more = tries < e->node_count, sent = true;
        while (len && base[len - 1] == '/')
            len--;
        snprintf(url, sizeof url, "%.*s%s", (int)len, base, r->path);
        struct http_request request = {.method = r->method,
                                       .url = url,
                                       .content_type = r->body.n ? r->content_type : NULL,
                                       .body = r->body,
                                       .max_answer_bytes = r->max_answer_bytes,
                                       .headers = r->packed ? packed : NULL};
        if (!http_call(e->http, &request, a, &sent, err)) {
            if (err->kind == ERR_REJECT && r->writes)
                err->kind = ERR_RETRY; /* an endless answer: what was done is unknown */
            if (err->kind != ERR_RETRY)
                return err_wrap(err, "%s", base);
            next_node(e);
            if (more && (!r->writes || !sent)) {
                err_clear(err);
                continue;
            }
            return err_wrap(err, "%s", base);
        }
        e->retry_after_ms = a->retry_after_ms;
        if (a->status == 429)
            return elastic_fail(e, a, ERR_RETRY, err);
        if (node_is_ill(a->status)) {
            if (more && !r->writes) {
                next_node(e);
                continue;
            }
            elastic_fail(e, a, ERR_RETRY, err);
            next_node(e);
            return false;
        }
        if (a->status == 401 || a->status == 403)
            return elastic_fail(e, a, is_blocked(e, a) ? ERR_RETRY : ERR_REACH, err);
        if (a->status >= 300 && a->status < 400)
            return err_set(err, ERR_USER, "%s answered with a redirect to %s; give that address",
                           base, a->location);
        return true;
    }
}

bool elastic_get(struct elastic *e, const char *path, struct http_answer *a, struct err *err)
{
    struct elastic_request r = {.method = "GET", .path = path};

    if (elastic_call(e, &r, a, err))
        return true;
    if (err->kind == ERR_REJECT)
        err->kind = ERR_USER;
    return false;
}

void elastic_index_path(char *out, size_t size, const char *index, const char *rest)
{
    size_t len = 0;

    out[len++] = '/';
    for (; *index && len + 4 < size; index++) {
        bool plain = (*index >= 'a' && *index <= 'z') || (*index >= '0' && *index <= '9') ||
                     strchr("-_.", *index);
        len +=
            (size_t)snprintf(out + len, size - len, plain ? "%c" : "%%%02X", (unsigned char)*index);
    }
    snprintf(out + len, size - len, "%s", rest);
}
