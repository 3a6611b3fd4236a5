#include "stores.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "http/client.h"

enum { DOCS = 3000, TICKETS = 64 };

/* ---- time */

int64_t now_us, step_us;
struct clock test_clock;

static int64_t look_wall(void *ctx)
{
    (void)ctx;
    return now_us += 1000;
}

static int64_t look_mono(void *ctx)
{
    (void)ctx;
    return now_us += step_us;
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    (void)fds;
    (void)n;
    now_us += (int64_t)timeout_ms * 1000;
    return 0;
}

/* ---- chance */

static uint64_t random_state;

void random_begin(uint64_t seed)
{
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
}

unsigned below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

/* ---- steps and faults */

void (*hook)(const char *step, unsigned n);
struct steps count;
bool quiet;
enum fault (*fault)(struct call *c);
const char *(*item_fault)(const char *id, unsigned n);

static void at(const char *step, unsigned n)
{
    if (hook && !quiet)
        hook(step, n);
}

enum fault lose_first_bulk(struct call *c)
{
    return is_bulk(c, 1) ? LOSE_ANSWER : NO_FAULT;
}

const char *overloaded_twice(const char *id, unsigned n)
{
    (void)id;
    return n <= 2 ? "\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\","
                    "\"reason\":\"full\"}"
                  : NULL;
}

const char *any_item_fault(const char *id, unsigned n)
{
    (void)id;
    (void)n;
    return below(8) ? NULL : "\"status\":429,\"error\":{\"type\":\"full\",\"reason\":\"x\"}";
}

/* ---- the index */

static struct stored docs[DOCS];
static size_t doc_places; /* ids that were ever written */
int64_t next_seq_no, term, gc_us;
bool index_exists, keeps_source, only_conditional;
void (*applied)(const struct stored *d);

static struct stored *doc_place(const char *id, bool make)
{
    for (size_t i = 0; i < doc_places; i++)
        if (!strcmp(docs[i].id, id))
            return &docs[i];
    if (!make)
        return NULL;
    assert_true(doc_places < DOCS && strlen(id) < sizeof docs[0].id);
    struct stored *d = &docs[doc_places++];
    *d = (struct stored){.version = -1};
    snprintf(d->id, sizeof d->id, "%s", id);
    return d;
}

struct stored *doc_find(const char *id)
{
    struct stored *d = doc_place(id, false);

    return d && d->live ? d : NULL;
}

const char *doc(const char *id)
{
    const struct stored *d = doc_find(id);

    return d ? d->source : "absent";
}

size_t doc_count(void)
{
    size_t n = 0;

    for (size_t i = 0; i < doc_places; i++)
        n += docs[i].live;
    return n;
}

/* source: null for a delete. */
static void doc_write(struct stored *d, struct slice source, int64_t version)
{
    d->live = source.p != NULL;
    if (d->live) {
        free(d->source);
        d->source = xstrndup((const char *)source.p, source.n);
    }
    d->version = version;
    d->seq_no = next_seq_no++;
    d->at_us = now_us;
}

void doc_put(const char *id, const char *source)
{
    doc_put_version(id, source, 1);
}

void doc_put_version(const char *id, const char *source, int64_t version)
{
    doc_write(doc_place(id, true), slice_str(source), version);
}

void doc_delete(const char *id)
{
    doc_write(doc_place(id, true), SLICE_NULL, -1);
}

void docs_forget(void)
{
    while (doc_places)
        free(docs[--doc_places].source);
}

void engine_restart(void)
{
    term++;
    for (size_t i = 0; i < doc_places; i++)
        if (!docs[i].live)
            docs[i].version = -1;
}

/* ---- http */

struct http_client {
    struct buf answer;
    struct arena mem;
};

struct http_client *http_client_new(const struct http_options *o, struct err *err)
{
    struct http_client *c = xalloc(sizeof *c);

    (void)o;
    (void)err;
    buf_init(&c->answer, 16 << 20);
    arena_init(&c->mem, 64 << 20);
    return c;
}

void http_client_free(struct http_client *c)
{
    if (!c)
        return;
    buf_fini(&c->answer);
    arena_fini(&c->mem);
    free(c);
}

void http_client_trim(struct http_client *c)
{
    (void)c;
}

int64_t json_number(const struct json *of, const char *key)
{
    const struct json *v = json_get(of, key);

    return v ? strtoll((const char *)v->text.p, NULL, 10) : -1;
}

static struct slice take_line(struct slice *body)
{
    const uint8_t *end = memchr(body->p, '\n', body->n);

    assert_non_null(end);
    struct slice line = slice_of(body->p, (size_t)(end - body->p));
    *body = slice_of(end + 1, body->n - line.n - 1);
    return line;
}

static bool may_write(const struct json *meta, const struct stored *d)
{
    struct slice type = json_get_string(meta, "version_type");
    int64_t version = json_number(meta, "version"), if_seq_no = json_number(meta, "if_seq_no");

    assert_true(!only_conditional || slice_is(meta->key, "create") || if_seq_no >= 0);
    if (slice_is(meta->key, "create"))
        return !d->live;
    if (if_seq_no >= 0)
        return d->live && d->seq_no == if_seq_no;
    return !type.n || (slice_is(type, "external") ? d->version < version : d->version <= version);
}

static void apply_item(struct buf *answer, const struct json *meta, struct slice source)
{
    struct slice id = json_get_string(meta, "_id");
    const char *instead = item_fault && !quiet ? item_fault((const char *)id.p, count.bulk) : NULL;
    int64_t version = json_number(meta, "version");

    buf_printf(answer, "{\"%s\":{\"_id\":", (const char *)meta->key.p);
    json_add_string(answer, id);
    if (instead) {
        buf_printf(answer, ",%s}},", instead);
        return;
    }
    struct stored *d = doc_place((const char *)id.p, true);
    bool was = d->live;
    if (!was && now_us - d->at_us >= gc_us)
        d->version = -1;
    if (!may_write(meta, d)) {
        count.conflicts++;
        buf_printf(answer,
                   ",\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\","
                   "\"reason\":\"[%s]: version conflict, current version [%" PRId64
                   "] is higher %sthan the one provided [%" PRId64 "]\"}}},",
                   d->id, d->version, d->version == version ? "or equal to " : "", version);
        return;
    }
    count.written++;
    doc_write(d, source, version >= 0 ? version : d->version + 1);
    if (applied)
        applied(d);
    buf_printf(answer,
               ",\"status\":%d,\"result\":\"%s\",\"_version\":%" PRId64 ",\"_seq_no\":%" PRId64
               ",\"_primary_term\":%" PRId64 "}},",
               was       ? 200
               : d->live ? 201
                         : 404,
               !d->live ? (was ? "deleted" : "not_found")
               : was    ? "updated"
                        : "created",
               d->version, d->seq_no, term);
}

static void answer_bulk(struct http_client *c, struct slice body)
{
    while (body.n) {
        struct err err = {0};
        const struct json *root = json_parse(take_line(&body), &c->mem, &err);

        assert_string_equal(err.text, "");
        const struct json *meta = root->first;
        apply_item(&c->answer, meta, slice_is(meta->key, "delete") ? SLICE_NULL : take_line(&body));
    }
}

static void answer_mget(struct http_client *c, struct slice body, bool with_source)
{
    struct err err = {0};
    const struct json *root = json_parse(body, &c->mem, &err);

    assert_string_equal(err.text, "");
    json_each (id, json_get(root, "ids")) {
        const struct stored *d = doc_find((const char *)id->text.p);

        buf_add_str(&c->answer, "{\"_index\":\"i\",\"_id\":");
        json_add_string(&c->answer, id->text);
        if (!index_exists)
            buf_add_str(&c->answer, ",\"error\":{\"type\":\"index_not_found_exception\",\"reason\":"
                                    "\"no such index\"}},");
        else if (!d)
            buf_add_str(&c->answer, ",\"found\":false},");
        else
            buf_printf(
                &c->answer,
                ",\"found\":true,\"_seq_no\":%" PRId64 ",\"_primary_term\":%" PRId64 "%s%s},",
                d->seq_no, term, with_source ? ",\"_source\":" : "", with_source ? d->source : "");
    }
}

static void answer_usual(struct http_client *c, const struct http_request *r, bool bulk)
{
    assert_true(bulk || strstr(r->url, "/_mget"));
    buf_add_str(&c->answer, bulk ? "{\"errors\":true,\"items\":[" : "{\"docs\":[");
    if (bulk)
        answer_bulk(c, r->body);
    else
        answer_mget(c, r->body, keeps_source && !strstr(r->url, "_source=false"));
    if (buf_slice(&c->answer).p[c->answer.len - 1] == ',')
        c->answer.len--;
    buf_add_str(&c->answer, "]}");
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    bool bulk = strstr(r->url, "/_bulk") != NULL;
    struct call call = {.url = r->url,
                        .step = bulk ? "bulk" : "mget",
                        .body = r->body,
                        .status = 200,
                        .answer = ""};

    *out = (struct http_answer){.retry_after_ms = -1, .status = 200};
    *sent = true;
    buf_reset(&c->answer);
    arena_reset(&c->mem);
    if (strstr(r->url, "/_cluster/state")) {
        count.terms++;
        buf_printf(&c->answer,
                   "{\"metadata\":{\"indices\":{\"i\":{\"primary_terms\":{\"0\":%" PRId64 "}}}}}",
                   term);
        out->body = buf_slice(&c->answer);
        return true;
    }
    call.n = bulk ? ++count.bulk : ++count.mget;
    at(call.step, call.n);
    enum fault f = fault && !quiet ? fault(&call) : NO_FAULT;
    *sent = f != NOT_REACHED;
    if (f == NOT_REACHED)
        return err_set(err, ERR_RETRY, "refused");
    if (f == ENDLESS && !bulk)
        return err_set(err, ERR_REJECT, "the answer is longer than 9 bytes");
    if (f == ANSWER)
        buf_add_str(&c->answer, call.answer);
    else
        answer_usual(c, r, bulk);
    if (bulk)
        at("bulk_done", ++count.bulk_done);
    if (f == LOSE_ANSWER)
        return err_set(err, ERR_RETRY, "lost");
    if (f == ENDLESS)
        return err_set(err, ERR_REJECT, "the answer is longer than 9 bytes");
    out->status = call.status;
    out->body = buf_slice(&c->answer);
    return true;
}

/* ---- cql: queries */

enum err_kind (*read_fault)(const struct asked *a);
bool (*refuse)(const struct asked *a);
unsigned lost_opens;
uint32_t page_rows_max;
unsigned tickets_open, tickets_most;

static uint32_t most_rows(uint32_t wanted)
{
    wanted = wanted ? wanted : 5000;
    return wanted < page_rows_max ? wanted : page_rows_max;
}

static void ask(struct asked *a, const struct cql_query *q)
{
    *a = (struct asked){.open = true,
                        .text = q->text,
                        .whole = strstr(q->text, "\"v\"") != NULL,
                        .range = strstr(q->text, "token(") != NULL,
                        .group = strstr(q->text, ") IN (") != NULL,
                        .value_count = q->value_count,
                        .page_rows = most_rows(q->page_rows)};
    assert_true(q->has_token || strstr(q->text, "system.local"));
    assert_true(q->value_count <= VALUES);
    arena_init(&a->mem, 1 << 20);
    buf_init(&a->bytes, 16 << 20);
    for (uint16_t i = 0; i < q->value_count; i++)
        a->values[i] =
            slice_of((const uint8_t *)arena_strndup(&a->mem, q->values[i].p, q->values[i].n),
                     q->values[i].n);
    a->sent_us = clock_version_us(&test_clock);
}

static void forget(struct asked *a)
{
    assert_true(a->open);
    arena_fini(&a->mem);
    buf_fini(&a->bytes);
    a->open = false;
}

bool page_full(const struct asked *a, struct page *page)
{
    page->last = page->row_count < a->page_rows;
    return !page->last;
}

void add_cell(struct asked *a, const char *text)
{
    buf_add_u32(&a->bytes, text ? (uint32_t)strlen(text) : UINT32_MAX);
    buf_add_str(&a->bytes, text ? text : "");
}

bool asked_has_token(const struct asked *a, int64_t token)
{
    return token > (int64_t)load_u64(a->values[0].p) && token <= (int64_t)load_u64(a->values[1].p);
}

static bool page_of(struct asked *a, struct page *page, struct err *err)
{
    static const struct {
        const char *step, *done;
        unsigned *count;
    } kinds[] = {{"read", "read_done", &count.read},
                 {"keys", "keys_done", &count.keys},
                 {"range", "range_done", &count.range},
                 {"range_keys", "range_keys_done", &count.range_keys},
                 {"group", "group_done", &count.group},
                 {"group_keys", "group_keys_done", &count.group_keys}};
    unsigned kind = (a->range ? 2u : a->group ? 4u : 0u) + !a->whole;

    a->n = ++*kinds[kind].count;
    count.reads++;
    enum err_kind f = read_fault && !quiet ? read_fault(a) : ERR_NONE;
    at(kinds[kind].step, a->n);
    if (f != ERR_NONE) {
        a->sent_us = clock_version_us(&test_clock);
        return err_set(err, f, "no answer");
    }
    *page = (struct page){.last = true, .read_at_us = a->sent_us};
    buf_reset(&a->bytes);
    page_fill(a, page);
    page->rows = buf_slice(&a->bytes);
    a->ended = page->last;
    at(kinds[kind].done, a->n);
    return true;
}

/* ---- cql: its calls */

struct cql_session {
    struct asked tickets[TICKETS];
};

struct cql_session *cql_session_open(struct cql_cluster *c, struct err *err)
{
    (void)c;
    (void)err;
    return xalloc(sizeof(struct cql_session));
}

void cql_session_free(struct cql_session *s)
{
    for (int i = 0; s && i < TICKETS; i++)
        assert_false(s->tickets[i].open);
    free(s);
}

void cql_session_trim(struct cql_session *s)
{
    (void)s;
}

bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err)
{
    cql_ticket i = 0;

    (void)err;
    while (i < TICKETS && s->tickets[i].open)
        i++;
    if (i == TICKETS)
        fail_msg("too many tickets");
    ask(&s->tickets[i], q);
    if (++tickets_open > tickets_most)
        tickets_most = tickets_open;
    *out = i;
    at("sent", ++count.sent);
    return true;
}

bool cql_take(struct cql_session *s, cql_ticket n, struct page *page, struct err *err)
{
    s->tickets[n].next = 0;
    s->tickets[n].behind[0] = 0;
    return page_of(&s->tickets[n], page, err);
}

void cql_release(struct cql_session *s, cql_ticket n)
{
    forget(&s->tickets[n]);
    tickets_open--;
}

struct cql_pager {
    struct asked a;
};

struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    struct cql_pager *p = xalloc(sizeof *p);

    (void)s;
    ask(&p->a, q);
    if (lost_opens) {
        lost_opens--;
        err_set(err, ERR_RETRY, "connection reset");
    } else if (refuse && refuse(&p->a)) {
        count.refused++;
        err_set(err, ERR_USER, "no such thing here");
    } else {
        return p;
    }
    cql_pager_free(p);
    return NULL;
}

void cql_pager_free(struct cql_pager *p)
{
    if (!p)
        return;
    forget(&p->a);
    free(p);
}

void cql_pager_trim(struct cql_pager *p)
{
    (void)p;
}

void cql_pager_set_prefetch(struct cql_pager *p, bool on)
{
    (void)p;
    (void)on;
}

void cql_pager_set_rows(struct cql_pager *p, uint32_t page_rows)
{
    p->a.page_rows = most_rows(page_rows);
}

struct slice cql_pager_state(const struct cql_pager *p)
{
    return p->a.ended ? SLICE_NULL : slice_str("state");
}

bool cql_pager_next(struct cql_pager *p, struct page *page, struct err *err)
{
    if (p->a.ended)
        return false;
    p->a.sent_us = clock_version_us(&test_clock);
    return page_of(&p->a, page, err);
}

size_t ring_pieces;

bool cql_ranges_plan(struct cql_cluster *c, const struct schema *table,
                     const struct token_range *of, size_t of_count, uint64_t target_bytes,
                     size_t at_least, struct cql_ranges *out, struct err *err)
{
    (void)c;
    (void)target_bytes;
    (void)at_least;
    (void)err;
    assert_true(ring_pieces > 0);
    assert_true(table != schemas[0] && (table == schemas[1] || table == schemas[2]));
    assert_true(of_count == 1 && of->start == INT64_MIN && of->end == INT64_MAX);
    *out = (struct cql_ranges){.count = ring_pieces};
    return true;
}

void cql_ranges_fini(struct cql_ranges *r)
{
    (void)r;
}

/* ---- what documents are made of */

static const char *const one_url[] = {"http://one:9200", NULL};

struct schema *schemas[3];
struct mapping *mapping;
struct plan *plan;
struct elastic_options elastic;

static const struct schema *find_schema(void *ctx, const char *keyspace, const char *table,
                                        struct err *err)
{
    (void)ctx;
    (void)keyspace;
    (void)err;
    return !strcmp(table, schemas[1]->table) ? schemas[1] : schemas[2];
}

void plan_open(const char *yaml)
{
    const struct plan_tables tables = {.find = find_schema};
    struct err err = {0};

    mapping = mapping_parse(slice_str(yaml), "m.yaml", &err);
    assert_string_equal(err.text, "");
    plan = plan_compile_with(mapping, schemas[0], schemas[1] ? &tables : NULL, &err);
    assert_string_equal(err.text, "");
}

void plan_close(void)
{
    plan_free(plan);
    mapping_free(mapping);
    for (int i = 0; i < 3; i++)
        schema_free(TAKE(schemas[i]));
}

void process_open(struct process *p, bool guarded, struct keyed_options o)
{
    struct guard_options g = {.index = "i",
                              .versioning = plan_versioning(plan),
                              .clock = &test_clock,
                              .gc_deletes_ms = gc_us / 1000,
                              .primary_term = term};
    struct err err = {0};

    p->guards[0] = guarded ? guard_new(&g, &err) : NULL;
    assert_string_equal(err.text, "");
    p->plans[0] = plan;
    o.elastic = &elastic;
    o.plans = p->plans;
    o.guards = guarded ? p->guards : NULL;
    o.clock = &test_clock;
    p->keyed = keyed_open(&o, &err);
    assert_non_null(p->keyed);
    arena_init(&p->ids, 256 << 20);
}

void process_close(struct process *p)
{
    keyed_free(p->keyed);
    guard_free(p->guards[0]);
    arena_fini(&p->ids);
}

bool process_sync(struct process *p, const char *text)
{
    struct err err = {0};

    arena_reset(&p->ids);
    const struct json *ids = json_parse(slice_str(text), &p->ids, &err);
    assert_non_null(ids);
    p->totals = (struct keyed_totals){0};
    p->err = (struct err){0};
    bool ok = keyed_sync(p->keyed, "thing", ids, p->results, &p->err);
    keyed_totals_add(&p->totals, p->results, ids->count);
    assert_true(keyed_conserved(&p->totals));
    return ok;
}

/* ---- all of it */

void stores_open(void)
{
    docs_forget();
    hook = NULL;
    fault = NULL;
    item_fault = NULL;
    read_fault = NULL;
    refuse = NULL;
    applied = NULL;
    quiet = false;
    count = (struct steps){0};
    lost_opens = tickets_open = tickets_most = 0;
    page_rows_max = UINT32_MAX;
    ring_pieces = 0;
    index_exists = keeps_source = true;
    only_conditional = false;
    next_seq_no = 0;
    term = 1;
    gc_us = 60 * SECOND;
    now_us = INT64_C(1700000000) * SECOND;
    step_us = 1000;
    test_clock = (struct clock){.wall_us = look_wall, .mono_us = look_mono};
    elastic = (struct elastic_options){.urls = one_url, .clock = &test_clock};
}

void stores_close(void)
{
    assert_int_equal(tickets_open, 0);
    docs_forget();
}
