#include "sink/elastic.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "http/client.h"

enum {
    BODY_BYTES = 1 << 20,
    BODY_BYTES_MIN = 64 << 10,
    ANSWER_BYTES = 64 << 20,
    ANSWER_MEMORY =
        64 << 20, /* of a parsed bulk answer; a node of the tree is larger than its text */
    CONNECT_MS = 5000,
    REQUEST_MS = 60000,
    URL_BYTES = 2048,
};

#define BULK_FILTER                                                                                \
    "filter_path=errors,items.*._id,items.*.status,items.*.result,items.*._seq_no,"                \
    "items.*._primary_term,items.*.error.type,items.*.error.reason"

struct elastic {
    struct elastic_options o;
    struct http_client *http;
    char *authorization;
    size_t node_count;
    size_t node; /* the one in use */
    size_t body_bytes;
    int64_t retry_after_ms;
    struct arena mem; /* of one answer */
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
    if (strlen(url) > URL_BYTES / 2 || strpbrk(url, "?#"))
        return err_set(err, ERR_USER, "the Elasticsearch URL is too long, or has ? or # in it");
    return true;
}

struct elastic *elastic_new(const struct elastic_options *o, struct err *err)
{
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
    e->body_bytes = o->body_bytes ? o->body_bytes : BODY_BYTES;
    e->retry_after_ms = -1;
    arena_init(&e->mem, ANSWER_MEMORY);
    if (o->api_key && o->api_key[0])
        e->authorization = xsprintf("ApiKey %s", o->api_key);
    struct http_options http = {
        .ca_file = o->ca_file,
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
    arena_fini(&e->mem);
    free(e);
}

int64_t elastic_retry_after_ms(const struct elastic *e)
{
    return e->retry_after_ms;
}

/* ---- one call ----------------------------------------------------------------------------------
 */

static void copy_text(char *out, size_t size, struct slice text)
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
    copy_text(out, size, text_trim(text));
}

struct problem {
    char type[48];
    char reason[200];
};

/* {"error": {"type", "reason"}} or {"error": "text"}; else empty. */
static void read_error(const struct json *error, struct problem *out)
{
    struct slice type = json_get_string(error, "type");
    struct slice reason = json_get_string(error, "reason");

    *out = (struct problem){0};
    if (error && error->kind == JSON_STRING)
        reason = error->text;
    if (type.p)
        copy_text(out->type, sizeof out->type, type);
    if (reason.p)
        copy_reason(out->reason, sizeof out->reason, reason);
}

static void read_problem(struct elastic *e, const struct http_answer *a, struct problem *out)
{
    struct err ignored = {0};

    arena_reset(&e->mem);
    const struct json *root = json_parse(a->body, &e->mem, &ignored);
    read_error(json_get(root, "error"), out);
    if (!out->type[0])
        snprintf(out->type, sizeof out->type, "http_%d", a->status);
}

static bool fail_answer(struct elastic *e, const struct http_answer *a, enum err_kind kind,
                        struct err *err)
{
    struct problem why;

    read_problem(e, a, &why);
    return err_set(err, kind, "%s answered %d%s%s%s%s", e->o.urls[e->node], a->status,
                   why.reason[0] ? ": " : "", why.reason[0] ? why.type : "",
                   why.reason[0] ? ": " : "", why.reason);
}

static void next_node(struct elastic *e)
{
    e->node = (e->node + 1) % e->node_count;
}

static bool node_is_ill(int status)
{
    return status == 502 || status == 503 || status == 504;
}

/*
 * One request, at another node when this one is ill. What may have had an effect (`writes`) is not
 * sent twice. True: an answer that is for the caller to judge.
 */
static bool call(struct elastic *e, const char *method, const char *path, struct slice body,
                 const char *content_type, bool writes, struct http_answer *a, struct err *err)
{
    char url[URL_BYTES];

    e->retry_after_ms = -1;
    for (size_t tries = 1;; tries++) {
        const char *base = e->o.urls[e->node];
        size_t len = strlen(base);
        bool more = tries < e->node_count, sent = true;
        while (len && base[len - 1] == '/')
            len--;
        snprintf(url, sizeof url, "%.*s%s", (int)len, base, path);
        struct http_request r = {.method = method,
                                 .url = url,
                                 .content_type = body.n ? content_type : NULL,
                                 .body = body};
        if (!http_call(e->http, &r, a, &sent, err)) {
            if (err->kind == ERR_REJECT && writes)
                err->kind = ERR_RETRY; /* an endless answer: what was done is unknown */
            if (err->kind != ERR_RETRY)
                return err_wrap(err, "%s", base);
            next_node(e);
            if (more && (!writes || !sent)) {
                err_clear(err);
                continue;
            }
            return err_wrap(err, "%s", base);
        }
        e->retry_after_ms = a->retry_after_ms;
        if (a->status == 429)
            return fail_answer(e, a, ERR_RETRY, err);
        if (node_is_ill(a->status)) {
            if (more && !writes) {
                next_node(e);
                continue;
            }
            fail_answer(e, a, ERR_RETRY, err);
            next_node(e);
            return false;
        }
        if (a->status == 401 || a->status == 403)
            return fail_answer(e, a, ERR_REACH, err);
        if (a->status >= 300 && a->status < 400)
            return err_set(err, ERR_USER, "%s answered with a redirect to %s; give that address",
                           base, a->location);
        return true;
    }
}

/* For what is asked about the server itself: an answer without end is not Elasticsearch's. */
static bool get(struct elastic *e, const char *path, struct http_answer *a, struct err *err)
{
    if (call(e, "GET", path, SLICE_NULL, NULL, false, a, err))
        return true;
    if (err->kind == ERR_REJECT)
        err->kind = ERR_USER;
    return false;
}

/* "/" and the name, escaped. */
static void add_index_path(char *out, size_t size, const char *index, const char *rest)
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

/* ---- who is there ------------------------------------------------------------------------------
 */

static bool set_version(struct slice number, struct elastic_version *out)
{
    struct slice major = number, minor = SLICE_NULL;
    int64_t value;
    const uint8_t *dot = number.n ? memchr(number.p, '.', number.n) : NULL;

    if (!dot)
        return false;
    major.n = (size_t)(dot - number.p);
    minor = slice_of(dot + 1, number.n - major.n - 1);
    const uint8_t *next = minor.n ? memchr(minor.p, '.', minor.n) : NULL;
    if (next)
        minor.n = (size_t)(next - minor.p);
    if (!text_to_i64(major, 0, 1000, &value))
        return false;
    out->major = (int)value;
    out->minor = text_to_i64(minor, 0, 1000, &value) ? (int)value : 0;
    out->known = true;
    copy_text(out->text, sizeof out->text, number);
    return true;
}

/* "GET /" may be missing, or not allowed through a gateway; the node's own entry says it, too. */
static bool identify_by_nodes(struct elastic *e, struct elastic_version *out, struct err *err)
{
    struct http_answer a;

    if (!get(e, "/_nodes/_local?filter_path=nodes.*.version", &a, err))
        return false;
    arena_reset(&e->mem);
    struct err ignored = {0};
    const struct json *root = a.status == 200 ? json_parse(a.body, &e->mem, &ignored) : NULL;
    const struct json *nodes = json_get(root, "nodes");
    if (!nodes || !nodes->first || !set_version(json_get_string(nodes->first, "version"), out))
        snprintf(out->text, sizeof out->text, "unknown");
    return true;
}

bool elastic_identify(struct elastic *e, struct elastic_version *out, struct err *err)
{
    struct http_answer a;

    *out = (struct elastic_version){.major = 7};
    if (!get(e, "/", &a, err))
        return false;
    if (a.status != 200) {
        if (!identify_by_nodes(e, out, err))
            return false;
    } else {
        arena_reset(&e->mem);
        struct err ignored = {0};
        const struct json *root = json_parse(a.body, &e->mem, &ignored);
        const struct json *version = json_get(root, "version");
        if (!set_version(json_get_string(version, "number"), out))
            return err_set(err, ERR_USER, "%s is not Elasticsearch or OpenSearch",
                           e->o.urls[e->node]);
        out->opensearch = slice_is(json_get_string(version, "distribution"), "opensearch");
    }
    if (out->known && !out->opensearch && out->major < 7)
        return err_set(err, ERR_USER,
                       "%s is Elasticsearch %s, which is not supported yet; 7 or later is",
                       e->o.urls[e->node], out->text);
    return true;
}

static bool index_missing(struct elastic *e, const char *index, struct err *err)
{
    return err_set(
        err, ERR_USER,
        "there is no index or alias \"%s\" on %s; it is never created silently. Create it "
        "with its mapping first: curl -X PUT %s/%s -H 'Content-Type: application/json' -d "
        "@DEFINITION.json",
        index, e->o.urls[e->node], e->o.urls[e->node], index);
}

bool elastic_check_index(struct elastic *e, const char *index, struct err *err)
{
    struct http_answer a;
    char path[512];

    add_index_path(path, sizeof path, index, "/_settings?filter_path=*.settings.index.uuid");
    if (!get(e, path, &a, err))
        return false;
    if (a.status == 404)
        return index_missing(e, index, err);
    if (a.status != 200)
        return fail_answer(e, &a, ERR_USER, err);
    arena_reset(&e->mem);
    const struct json *root = json_parse(a.body, &e->mem, err);
    if (!root || root->kind != JSON_OBJECT)
        return err_set(err, ERR_USER, "%s is not Elasticsearch or OpenSearch", e->o.urls[e->node]);
    if (root->count != 1)
        return err_set(
            err, ERR_USER,
            "alias \"%s\" stands for %u indices; documents are written to an alias of one", index,
            root->count);
    return true;
}

/* ---- looking -----------------------------------------------------------------------------------
 */

static bool json_i64(const struct json *v, int64_t *out)
{
    return v && v->kind == JSON_NUMBER && text_to_i64(v->text, 0, INT64_MAX, out);
}

static bool read_found(const struct json *doc, struct slice id, struct elastic_found *out,
                       bool *index_missing_, struct err *err)
{
    const struct json *found = json_get(doc, "found"), *error = json_get(doc, "error");
    struct problem why;

    if (!slice_eq(json_get_string(doc, "_id"), id))
        return err_set(err, ERR_RETRY, "an _mget answer with another _id at this place");
    if (error) {
        read_error(error, &why);
        *index_missing_ = !strcmp(why.type, "index_not_found_exception");
        /* An alias of several indices, no rights: no trying again helps. A shard may come back. */
        bool transient = strstr(why.type, "shard") || strstr(why.type, "node_") ||
                         strstr(why.type, "circuit") || strstr(why.type, "rejected");
        return err_set(err, transient ? ERR_RETRY : ERR_USER, "_mget: %s: %s", why.type,
                       why.reason);
    }
    if (!found || found->kind != JSON_BOOL)
        return err_set(err, ERR_RETRY, "an _mget answer without \"found\"");
    out->found = found->truth;
    if (!out->found)
        return true;
    if (!json_i64(json_get(doc, "_seq_no"), &out->seq_no) ||
        !json_i64(json_get(doc, "_primary_term"), &out->primary_term))
        return err_set(err, ERR_RETRY, "an _mget answer without _seq_no and _primary_term");
    out->source = json_get(doc, "_source");
    if (out->source && out->source->kind != JSON_OBJECT)
        return err_set(err, ERR_RETRY, "an _mget answer whose _source is no object");
    return true;
}

bool elastic_read_mget(struct slice answer, const struct slice *ids, size_t count,
                       struct arena *mem, struct elastic_found *out, bool *index_missing_,
                       struct err *err)
{
    const struct json *root = json_parse(answer, mem, err);
    const struct json *docs = json_get(root, "docs");
    size_t i = 0;

    *index_missing_ = false;
    if (!root) {
        /* An answer that is cut off may pass; one that is too large, or has a document in it that
         * can't be told, in smaller pieces. */
        bool lasting = strstr(err->text, "too large") || strstr(err->text, "too deep") ||
                       strstr(err->text, "surrogate");
        err->kind = lasting ? ERR_REJECT : ERR_RETRY;
        return err_wrap(err, "_mget answer");
    }
    if (!docs || docs->kind != JSON_ARRAY || docs->count != count)
        return err_set(err, ERR_RETRY, "an _mget answer of %u documents for %zu ids",
                       docs ? docs->count : 0, count);
    memset(out, 0, count * sizeof *out);
    json_each (doc, docs) {
        if (!read_found(doc, ids[i], &out[i], index_missing_, err))
            return false;
        i++;
    }
    return true;
}

bool elastic_mget(struct elastic *e, const char *index, const struct slice *ids, size_t count,
                  bool with_source, struct arena *mem, struct elastic_found *out, struct err *err)
{
    struct http_answer a;
    char path[512];
    struct buf body;
    bool missing = false;

    if (!count)
        return true;
    buf_init(&body, SIZE_MAX / 2);
    buf_add_str(&body, "{\"ids\":[");
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_add_byte(&body, ',');
        json_add_string(&body, ids[i]);
    }
    buf_add_str(&body, "]}");
    add_index_path(path, sizeof path, index, with_source ? "/_mget" : "/_mget?_source=false");
    bool ok = call(e, "POST", path, buf_slice(&body), "application/json", false, &a, err);
    buf_fini(&body);
    if (!ok)
        return err_wrap(err, "_mget of %s", index);
    if (a.status == 404)
        return index_missing(e, index, err);
    if (a.status != 200)
        return fail_answer(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    if (elastic_read_mget(a.body, ids, count, mem, out, &missing, err))
        return true;
    return missing ? index_missing(e, index, err) : err_wrap(err, "%s", e->o.urls[e->node]);
}

/* ---- writing -----------------------------------------------------------------------------------
 */

void elastic_bulk_init(struct elastic_bulk *b, size_t max_bytes)
{
    *b = (struct elastic_bulk){0};
    buf_init(&b->body, max_bytes);
}

void elastic_bulk_fini(struct elastic_bulk *b)
{
    buf_fini(&b->body);
    free(b->items);
    *b = (struct elastic_bulk){0};
}

void elastic_bulk_reset(struct elastic_bulk *b)
{
    buf_reset(&b->body);
    b->count = 0;
}

static const char *op_name(enum elastic_op op)
{
    return op == ELASTIC_CREATE ? "create" : op == ELASTIC_INDEX ? "index" : "delete";
}

bool elastic_bulk_add(struct elastic_bulk *b, enum elastic_op op, struct slice id, int64_t seq_no,
                      int64_t primary_term, struct slice source)
{
    size_t begin = b->body.len;

    buf_printf(&b->body, "{\"%s\":{\"_id\":", op_name(op));
    json_add_string(&b->body, id);
    if (op != ELASTIC_CREATE)
        buf_printf(&b->body, ",\"if_seq_no\":%" PRId64 ",\"if_primary_term\":%" PRId64, seq_no,
                   primary_term);
    buf_add_str(&b->body, "}}\n");
    if (op != ELASTIC_DELETE) {
        buf_add_slice(&b->body, source);
        buf_add_byte(&b->body, '\n');
    }
    if (b->body.full) {
        buf_cut(&b->body, begin);
        return false;
    }
    if (b->count == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->items = xrealloc(b->items, b->cap * sizeof *b->items);
    }
    b->items[b->count++] = (struct elastic_item){.op = op,
                                                 .id = id,
                                                 .seq_no = seq_no,
                                                 .primary_term = primary_term,
                                                 .line_begin = begin,
                                                 .line_end = b->body.len};
    return true;
}

static bool is_block(const char *type)
{
    return strstr(type, "cluster_block") != NULL;
}

/* What an item's status means; protocols 4.4. */
static enum elastic_verdict classify(const struct elastic_item *item)
{
    int s = item->status;

    if (s == 200 || s == 201)
        return ELASTIC_DONE;
    if (s == 404 && item->op == ELASTIC_DELETE && !item->reason[0])
        return ELASTIC_GONE;
    if (s == 409)
        return ELASTIC_CONFLICT;
    if (s == 429 || s >= 500 || (s == 403 && is_block(item->reason)))
        return ELASTIC_LATER;
    return ELASTIC_REJECTED;
}

/* Not this document's fault: the run must stop. */
static bool stops(const struct elastic_item *item, struct err *err)
{
    if (item->verdict != ELASTIC_REJECTED)
        return false;
    if (item->status == 403)
        return !err_set(err, ERR_REACH, "%s: %s", item->reason, item->text);
    if (!strcmp(item->reason, "index_not_found_exception") ||
        !strcmp(item->reason, "index_closed_exception"))
        return !err_set(err, ERR_USER, "%s: %s", item->reason, item->text);
    return false;
}

static bool read_item(const struct json *wrapper, const struct elastic_item *sent,
                      struct elastic_item *out, struct err *err)
{
    const struct json *v = wrapper->kind == JSON_OBJECT ? wrapper->first : NULL;
    int64_t status;
    struct problem why;

    if (!v || wrapper->count != 1 || !slice_is(v->key, op_name(sent->op)) ||
        !slice_eq(json_get_string(v, "_id"), sent->id))
        return err_set(err, ERR_RETRY, "a _bulk answer with another action or _id at this place");
    if (!json_i64(json_get(v, "status"), &status) || status < 100 || status > 999)
        return err_set(err, ERR_RETRY, "a _bulk answer with an item without status");
    *out = *sent;
    out->status = (int)status;
    read_error(json_get(v, "error"), &why);
    memcpy(out->reason, why.type, sizeof out->reason);
    memcpy(out->text, why.reason, sizeof out->text);
    out->verdict = classify(out);
    if (out->verdict == ELASTIC_REJECTED && !out->reason[0])
        snprintf(out->reason, sizeof out->reason, "status_%d", out->status);
    if (out->verdict == ELASTIC_DONE &&
        (!json_i64(json_get(v, "_seq_no"), &out->seq_no) ||
         !json_i64(json_get(v, "_primary_term"), &out->primary_term)))
        return err_set(err, ERR_RETRY, "a _bulk answer with a write without _seq_no");
    return true;
}

/* All items are looked at before the first verdict is believed. */
bool elastic_read_bulk(struct slice answer, struct elastic_item *items, size_t count,
                       struct arena *mem, struct err *err)
{
    const struct json *root = json_parse(answer, mem, err);
    const struct json *list = json_get(root, "items");
    struct elastic_item item = {0};
    size_t i = 0;

    if (!root) {
        err->kind = ERR_RETRY;
        return err_wrap(err, "_bulk answer");
    }
    if (!list || list->kind != JSON_ARRAY || list->count != count)
        return err_set(err, ERR_RETRY, "a _bulk answer of %u items for %zu actions",
                       list ? list->count : 0, count);
    json_each (v, list)
        if (!read_item(v, &items[i++], &item, err))
            return false;
    i = 0;
    bool ok = true;
    json_each (v, list) {
        if (read_item(v, &items[i], &item, err)) {
            bool stop = stops(&item, err);
            ok = ok && !stop;
            if (!stop)
                items[i] = item;
        }
        i++;
    }
    return ok;
}

static void reject_one(struct elastic *e, const struct http_answer *a, struct elastic_item *item)
{
    struct problem why;

    read_problem(e, a, &why);
    item->verdict = a->status == 500 ? ELASTIC_LATER : ELASTIC_REJECTED;
    item->status = a->status;
    copy_text(item->reason, sizeof item->reason,
              slice_str(a->status == 413 ? "document_too_large" : why.type));
    copy_text(item->text, sizeof item->text,
              slice_str(why.reason[0] ? why.reason : "the server refused the request"));
}

/* Items [from, to). The body is halved until the line is found that earns the refusal. */
static bool send_range(struct elastic *e, const char *path, struct elastic_bulk *b, size_t from,
                       size_t to, struct err *err)
{
    struct http_answer a;
    size_t begin = b->items[from].line_begin, end = b->items[to - 1].line_end;

    if (!call(e, "POST", path, slice_of(b->body.p + begin, end - begin), "application/x-ndjson",
              true, &a, err))
        return err_wrap(err, "_bulk");
    if (a.status == 200) {
        arena_reset(&e->mem);
        return elastic_read_bulk(a.body, b->items + from, to - from, &e->mem, err) ||
               err_wrap(err, "%s", e->o.urls[e->node]);
    }
    if (a.status != 400 && a.status != 413 && a.status != 500)
        return fail_answer(e, &a, ERR_USER, err);
    size_t half = (end - begin) / 2;
    half = half < BODY_BYTES_MIN ? BODY_BYTES_MIN : half;
    if (a.status == 413 && to - from > 1 && half < e->body_bytes)
        e->body_bytes = half;
    if (to - from == 1) {
        reject_one(e, &a, &b->items[from]);
        return true;
    }
    size_t mid = from + (to - from) / 2;
    return send_range(e, path, b, from, mid, err) && send_range(e, path, b, mid, to, err);
}

bool elastic_bulk_send(struct elastic *e, const char *index, struct elastic_bulk *b,
                       struct err *err)
{
    char path[768];

    add_index_path(path, sizeof path, index, "/_bulk?" BULK_FILTER);
    for (size_t i = 0; i < b->count; i++)
        b->items[i].verdict = ELASTIC_OPEN;
    for (size_t from = 0, to; from < b->count; from = to) {
        for (to = from + 1; to < b->count; to++)
            if (b->items[to].line_end - b->items[from].line_begin > e->body_bytes)
                break;
        if (!send_range(e, path, b, from, to, err)) {
            if (err->kind == ERR_USER && strstr(err->text, "index_not_found_exception"))
                return index_missing(e, index, err);
            return false;
        }
    }
    return true;
}
