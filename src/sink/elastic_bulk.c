#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

enum { PROBLEM_MEMORY = 4 << 20 };

#define KEYED_FILTER                                                                               \
    "filter_path=took,errors,items.*._id,items.*.status,items.*._seq_no,items.*._primary_term,"    \
    "items.*.error.type,items.*.error.reason"
#define LEAN_FILTER                                                                                \
    "filter_path=took,errors,items.*.status,items.*._primary_term,items.*.error.type,"             \
    "items.*.error.reason"

/* The target's path to `api`; Elasticsearch 6 has the type in between. */
static void add_path(const struct elastic *e, const struct elastic_target *t, const char *api,
                     char out[ELASTIC_PATH_BYTES])
{
    size_t n;

    elastic_index_path(out, ELASTIC_PATH_BYTES / 2, t->index, "");
    if (elastic_has_types(e)) {
        n = strlen(out);
        elastic_index_path(out + n, ELASTIC_PATH_BYTES / 4, t->type ? t->type : "_doc", "");
    }
    n = strlen(out);
    snprintf(out + n, ELASTIC_PATH_BYTES - n, "%s", api);
}

/* ---- looking -----------------------------------------------------------------------------------
 */

static void write_ids(struct buf *body, const struct slice *ids, const struct slice *routings,
                      size_t count)
{
    buf_add_str(body, routings ? "{\"docs\":[" : "{\"ids\":[");
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_add_byte(body, ',');
        if (routings)
            buf_add_str(body, "{\"_id\":");
        json_add_string(body, ids[i]);
        if (routings && routings[i].p) {
            buf_add_str(body, ",\"routing\":");
            json_add_string(body, routings[i]);
        }
        if (routings)
            buf_add_byte(body, '}');
    }
    buf_add_str(body, "]}");
}

bool elastic_mget(struct elastic *e, const struct elastic_target *t, const struct slice *ids,
                  const struct slice *routings, size_t count, bool with_source, size_t most,
                  struct arena *mem, struct elastic_found *out, size_t *got, struct err *err)
{
    struct http_answer a;
    char path[ELASTIC_PATH_BYTES];
    struct buf body;
    bool missing = false;

    *got = 0;
    if (!count)
        return true;
    buf_init(&body, SIZE_MAX / 2);
    write_ids(&body, ids, routings, count);
    add_path(e, t, with_source ? "/_mget" : "/_mget?_source=false", path);
    struct elastic_request r = {.method = "POST",
                                .path = path,
                                .content_type = "application/json",
                                .body = buf_slice(&body),
                                .max_answer_bytes = most};
    bool ok = elastic_call(e, &r, &a, err);
    buf_fini(&body);
    if (!ok)
        return err_wrap(err, "_mget of %s", t->index);
    if (a.status == 404)
        return elastic_index_missing(e, t->index, err);
    if (a.status != 200)
        return elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    *got = a.body.n;
    if (elastic_read_mget(a.body, ids, count, mem, out, &missing, err))
        return true;
    return missing ? elastic_index_missing(e, t->index, err) : err_wrap(err, "%s", elastic_url(e));
}

/* ---- a bulk ------------------------------------------------------------------------------------
 */

void elastic_bulk_init(struct elastic_bulk *b, size_t max_bytes)
{
    *b = (struct elastic_bulk){0};
    buf_init(&b->body, max_bytes < UINT32_MAX ? max_bytes : UINT32_MAX);
    arena_init(&b->problems, PROBLEM_MEMORY);
}

void elastic_bulk_fini(struct elastic_bulk *b)
{
    buf_fini(&b->body);
    arena_fini(&b->problems);
    free(b->items);
    *b = (struct elastic_bulk){0};
}

void elastic_bulk_reset(struct elastic_bulk *b)
{
    buf_reset(&b->body);
    arena_reset(&b->problems);
    b->count = 0;
    b->is_sent = false;
}

void elastic_bulk_trim(struct elastic_bulk *b)
{
    elastic_bulk_reset(b);
    buf_fini(&b->body);
}

#define ADD(b, text) buf_add(b, text, sizeof text - 1)

static void add_condition(struct buf *body, const struct elastic_action *a)
{
    switch (a->condition) {
    case ELASTIC_ALWAYS:
        return;
    case ELASTIC_IF_SEQ_NO:
        ADD(body, ",\"if_seq_no\":");
        text_add_i64(body, a->seq_no);
        ADD(body, ",\"if_primary_term\":");
        text_add_i64(body, a->primary_term);
        return;
    case ELASTIC_VERSION:
    case ELASTIC_VERSION_GTE:
        return;
    }
}

/* Rows of a page have the same version: its text is made once. */
static void add_version(struct elastic_bulk *b, const struct elastic_action *a)
{
    if (!b->end_n || a->version != b->end_version || a->condition != b->end_condition) {
        b->end_n = (uint8_t)snprintf(
            b->end, sizeof b->end, ",\"version\":%" PRId64 ",\"version_type\":\"%s\"}}\n",
            a->version, a->condition == ELASTIC_VERSION ? "external" : "external_gte");
        b->end_version = a->version;
        b->end_condition = a->condition;
    }
    buf_add(&b->body, b->end, b->end_n);
}

void elastic_bulk_begin(struct elastic_bulk *b, const struct elastic_action *a)
{
    struct buf *body = &b->body;

    b->line_begin = (uint32_t)body->len;
    b->op = (uint8_t)a->op;
    b->id = a->id;
    switch (a->op) {
    case ELASTIC_INDEX:
        ADD(body, "{\"index\":{\"_id\":");
        break;
    case ELASTIC_CREATE:
        ADD(body, "{\"create\":{\"_id\":");
        break;
    case ELASTIC_DELETE:
        ADD(body, "{\"delete\":{\"_id\":");
        break;
    }
    json_add_string(body, a->id);
    if (a->routing.p) {
        ADD(body, ",\"routing\":");
        json_add_string(body, a->routing);
    }
    if (a->condition == ELASTIC_VERSION || a->condition == ELASTIC_VERSION_GTE) {
        add_version(b, a);
        return;
    }
    add_condition(body, a);
    ADD(body, "}}\n");
}

void elastic_bulk_cancel(struct elastic_bulk *b)
{
    buf_cut(&b->body, b->line_begin);
}

bool elastic_bulk_end(struct elastic_bulk *b)
{
    if (b->op != ELASTIC_DELETE)
        buf_add_byte(&b->body, '\n');
    if (b->body.full) {
        elastic_bulk_cancel(b);
        return false;
    }
    if (b->count == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->items = xrealloc(b->items, b->cap * sizeof *b->items);
    }
    b->items[b->count++] = (struct elastic_item){.op = b->op,
                                                 .line_begin = b->line_begin,
                                                 .line_end = (uint32_t)b->body.len,
                                                 .id = b->lean ? SLICE_NULL : b->id,
                                                 .seq_no = -1,
                                                 .primary_term = -1,
                                                 .there = -1};
    return true;
}

/* ---- writing -----------------------------------------------------------------------------------
 */

/* One elastic_bulk_send(). */
struct sending {
    struct elastic *e;
    struct elastic_bulk *bulk;
    struct elastic_sent *sent;
    char path[ELASTIC_PATH_BYTES];
    size_t wire_bytes; /* of the request at hand */
};

static bool reject_one(struct sending *s, const struct http_answer *a, struct elastic_item *item)
{
    struct elastic_problem *why = arena_alloc(&s->bulk->problems, sizeof *why);
    static const struct elastic_problem refused = {"request_refused",
                                                   "the server refused the request"};

    item->verdict = a->status == 500 ? ELASTIC_LATER : ELASTIC_REJECTED;
    item->status = (uint16_t)a->status;
    item->problem = why ? why : &refused;
    if (!why)
        return true;
    elastic_read_problem(s->e, a, why);
    if (a->status == 413)
        elastic_copy_text(why->reason, sizeof why->reason, slice_str("document_too_large"));
    if (!why->text[0])
        elastic_copy_text(why->text, sizeof why->text, slice_str(refused.text));
    return true;
}

static bool post(struct sending *s, struct slice body, struct http_answer *a, struct err *err)
{
    struct elastic_request r = {
        .method = "POST", .path = s->path, .content_type = "application/x-ndjson", .writes = true};
    int64_t start_ms = clock_mono_ms(s->e->o.clock);

    s->sent->requests++;
    s->sent->bytes += body.n;
    r.body = gzip_body(&s->e->gzip, body, &r.packed);
    s->wire_bytes = r.body.n;
    s->sent->wire_bytes += r.body.n;
    bool ok = elastic_call(s->e, &r, a, err);
    s->sent->took_ms += clock_mono_ms(s->e->o.clock) - start_ms;
    return ok;
}

static bool read_answer(struct sending *s, const struct http_answer *a, size_t from, size_t to,
                        struct err *err)
{
    struct elastic_answer answer = {.items = s->bulk->items + from,
                                    .count = to - from,
                                    .lean = s->bulk->lean,
                                    .problems = &s->bulk->problems,
                                    .mem = &s->e->mem};

    arena_reset(&s->e->mem);
    bool ok = elastic_read_bulk(a->body, &answer, err);
    gzip_sent(&s->e->gzip, s->wire_bytes, a->upload_us);
    if (answer.took_ms > 0)
        s->sent->server_ms += answer.took_ms;
    s->sent->pushed_back |= answer.pushed_back;
    return ok || err_wrap(err, "%s", elastic_url(s->e));
}

/* Items [from, to). The body is halved until the line is found that earns the refusal. */
static bool send_range(struct sending *s, size_t from, size_t to, struct err *err)
{
    struct elastic_bulk *b = s->bulk;
    struct http_answer a = {0};
    size_t begin = b->items[from].line_begin, end = b->items[to - 1].line_end;

    if (!post(s, slice_of(b->body.p + begin, end - begin), &a, err)) {
        s->sent->pushed_back |= a.status == 429;
        return err_wrap(err, "_bulk");
    }
    if (a.status == 200)
        return read_answer(s, &a, from, to, err);
    if (a.status != 400 && a.status != 413 && a.status != 500)
        return elastic_fail(s->e, &a, ERR_USER, err);
    size_t half = (end - begin) / 2;
    half = half < BODY_BYTES_MIN ? BODY_BYTES_MIN : half;
    if (a.status == 413 && to - from > 1 && half < s->e->body_max)
        s->e->body_max = half;
    if (to - from == 1)
        return reject_one(s, &a, &b->items[from]);
    size_t mid = from + (to - from) / 2;
    return send_range(s, from, mid, err) && send_range(s, mid, to, err);
}

static size_t body_limit(const struct elastic *e, bool lean)
{
    return !lean && e->body_bytes < e->body_max ? e->body_bytes : e->body_max;
}

/* The first item that no longer fits into a body that begins with `from`. */
static size_t body_end(const struct elastic_bulk *b, size_t from, size_t limit)
{
    uint32_t begin = b->items[from].line_begin;

    if (b->items[b->count - 1].line_end - begin <= limit)
        return b->count;
    for (size_t to = from + 1; to < b->count; to++)
        if (b->items[to].line_end - begin > limit)
            return to;
    return b->count;
}

static void add_query(const struct elastic_target *t, bool lean, char path[ELASTIC_PATH_BYTES])
{
    size_t n = strlen(path);

    n += (size_t)snprintf(path + n, ELASTIC_PATH_BYTES - n, "?%s",
                          lean ? LEAN_FILTER : KEYED_FILTER);
    if (!t->pipeline)
        return;
    n += (size_t)snprintf(path + n, ELASTIC_PATH_BYTES - n, "&pipeline");
    elastic_index_path(path + n, ELASTIC_PATH_BYTES - n, t->pipeline, "");
    path[n] = '=';
}

bool elastic_bulk_send(struct elastic *e, const struct elastic_target *t, struct elastic_bulk *b,
                       struct elastic_sent *sent, struct err *err)
{
    struct sending s = {.e = e, .bulk = b, .sent = sent};

    *sent = (struct elastic_sent){0};
    add_path(e, t, "/_bulk", s.path);
    add_query(t, b->lean, s.path);
    if (b->is_sent)
        for (size_t i = 0; i < b->count; i++)
            b->items[i].verdict = ELASTIC_OPEN;
    b->is_sent = true;
    for (size_t from = 0, to; from < b->count; from = to) {
        to = body_end(b, from, body_limit(e, b->lean));
        if (send_range(&s, from, to, err))
            continue;
        if (err->kind == ERR_USER && strstr(err->text, "index_not_found_exception"))
            return elastic_index_missing(e, t->index, err);
        return false;
    }
    return true;
}
