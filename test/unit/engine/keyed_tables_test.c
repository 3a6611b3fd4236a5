/*
 * engine/keyed with documents of several tables: tables in memory behind the calls of cql, and an
 * index with external versions and with sequence numbers behind http_call().
 *
 * Every cell holds the number of the change that wrote it. What must hold: once a sync of a key is
 * through that began after a change, the document has that change, or a later one, for good.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "engine/keyed.h"
#include "http/client.h"

enum { KEYS = 6, ORGS = 5, CHILDREN = 5, TICKETS = 64, SECOND = 1000000, RUNS = 300 };
enum { PARTITIONS = KEYS + 4 }; /* of child: some have no thing */

static int64_t now_us;
static int64_t tick(void *ctx)
{
    (void)ctx;
    return now_us += 1000;
}
static struct clock test_clock = {.wall_us = tick, .mono_us = tick};

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    (void)fds;
    (void)count;
    now_us += (int64_t)timeout_ms * 1000;
    return 0;
}

/* ---- the tables: thing (p, o, v), child (pid, seq, n, o), org (id, name) */

/* What a document must not be older than: numbers of changes. */
struct content {
    int64_t v;
    int64_t children[CHILDREN]; /* written or removed */
    int64_t orgs[ORGS];
};

static struct {
    struct {
        int org;
        int64_t v;
        struct {
            int64_t n; /* 0: no row */
            int64_t removed;
            int org;
        } children[CHILDREN];
    } things[PARTITIONS];
    int64_t orgs[ORGS];
} db;
static int64_t changes;

static struct content content_of(int key)
{
    struct content c = {.v = db.things[key].v};

    memcpy(c.orgs, db.orgs, sizeof c.orgs);
    for (int i = 0; i < CHILDREN; i++)
        c.children[i] = db.things[key].children[i].n ? db.things[key].children[i].n
                                                     : db.things[key].children[i].removed;
    return c;
}

/* ---- the index */

static struct {
    char source[20000];
    bool live;
    int64_t version, seq_no;
} docs[KEYS];
static int64_t next_seq_no;

static unsigned reads, bulks;
static void (*hook)(void);
static unsigned (*fault)(void); /* 1: lost, 2: never came */

static void at(void)
{
    if (hook)
        hook();
}

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
    arena_init(&c->mem, 16 << 20);
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

static struct slice take_line(struct slice *body)
{
    const uint8_t *end = memchr(body->p, '\n', body->n);
    struct slice line = slice_of(body->p, (size_t)(end - body->p));

    *body = slice_of(end + 1, body->n - line.n - 1);
    return line;
}

static int64_t number(const struct json *of, const char *key)
{
    const struct json *v = json_get(of, key);

    return v ? strtoll((const char *)v->text.p, NULL, 10) : -1;
}

static bool may_write(const struct json *meta, int key)
{
    if (slice_is(meta->key, "create"))
        return !docs[key].live;
    if (number(meta, "if_seq_no") >= 0)
        return docs[key].live && docs[key].seq_no == number(meta, "if_seq_no");
    return !docs[key].live || docs[key].version <= number(meta, "version");
}

static void answer_bulk(struct http_client *c, struct slice body)
{
    struct err err = {0};
    const char *comma = "";

    buf_add_str(&c->answer, "{\"took\":1,\"errors\":true,\"items\":[");
    while (body.n) {
        const struct json *meta = json_parse(take_line(&body), &c->mem, &err)->first;
        struct slice source = take_line(&body);
        int key = json_get_string(meta, "_id").p[0] - 'a';
        bool was = docs[key].live, ok = may_write(meta, key);

        if (ok) {
            docs[key].live = true;
            docs[key].version = number(meta, "version");
            docs[key].seq_no = next_seq_no++;
            snprintf(docs[key].source, sizeof docs[key].source, "%.*s", (int)source.n,
                     (const char *)source.p);
        }
        buf_printf(&c->answer, "%s{\"%s\":{\"_id\":\"%c\",\"status\":%d,", comma,
                   (const char *)meta->key.p, 'a' + key, ok ? (was ? 200 : 201) : 409);
        if (ok)
            buf_printf(&c->answer,
                       "\"result\":\"%s\",\"_version\":%" PRId64 ",\"_seq_no\":%" PRId64
                       ",\"_primary_term\":1}}",
                       was ? "updated" : "created", docs[key].version, docs[key].seq_no);
        else
            buf_printf(&c->answer,
                       "\"error\":{\"type\":\"version_conflict_engine_exception\",\"reason\":\""
                       "[%c]: version conflict, current version [%" PRId64
                       "] is higher than the one provided [1]\"}}}",
                       'a' + key, docs[key].version);
        comma = ",";
    }
    buf_add_str(&c->answer, "]}");
}

static void answer_mget(struct http_client *c, struct slice body)
{
    struct err err = {0};
    const char *comma = "";

    buf_add_str(&c->answer, "{\"docs\":[");
    json_each (id, json_get(json_parse(body, &c->mem, &err), "ids")) {
        int key = id->text.p[0] - 'a';
        buf_printf(&c->answer, "%s{\"_index\":\"i\",\"_id\":\"%c\",", comma, 'a' + key);
        comma = ",";
        if (docs[key].live)
            buf_printf(&c->answer,
                       "\"found\":true,\"_seq_no\":%" PRId64 ",\"_primary_term\":1,\"_source\":%s}",
                       docs[key].seq_no, docs[key].source);
        else
            buf_add_str(&c->answer, "\"found\":false}");
    }
    buf_add_str(&c->answer, "]}");
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    *out = (struct http_answer){.retry_after_ms = -1, .status = 200};
    *sent = true;
    buf_reset(&c->answer);
    arena_reset(&c->mem);
    if (strstr(r->url, "/_cluster/state")) {
        buf_add_str(&c->answer,
                    "{\"metadata\":{\"indices\":{\"i\":{\"primary_terms\":{\"0\":1}}}}}");
    } else {
        at();
        unsigned f = fault ? fault() : 0;
        *sent = f != 2;
        if (f == 2)
            return err_set(err, ERR_RETRY, "refused");
        if (strstr(r->url, "/_bulk")) {
            bulks++;
            answer_bulk(c, r->body);
        } else {
            answer_mget(c, r->body);
        }
        if (f == 1)
            return err_set(err, ERR_RETRY, "lost");
    }
    out->body = buf_slice(&c->answer);
    return true;
}

/* ---- cql: children come two to a page */

struct ticket {
    struct buf bytes;
    struct cql_query q;
    char value[16];
    int64_t sent_us;
    bool open;
};
struct cql_session {
    struct ticket tickets[TICKETS];
};
struct cql_pager {
    struct buf bytes;
    const char *text;
    char value[16];
    int64_t after, to; /* of a range */
    int next;
    bool done;
};

/* In the order of their tokens. */
struct partition {
    int64_t token;
    int i;
};
static struct partition thing_order[PARTITIONS], org_order[ORGS];
static unsigned range_pages[3]; /* of thing, child, org */

static struct column thing_list[] = {{.name = {(const uint8_t *)"p", 1}, .type = &text_type},
                                     {.name = {(const uint8_t *)"o", 1}, .type = &text_type},
                                     {.name = {(const uint8_t *)"v", 1}, .type = &int_type}};
static struct column child_list[] = {{.name = {(const uint8_t *)"seq", 3}, .type = &int_type},
                                     {.name = {(const uint8_t *)"o", 1}, .type = &text_type},
                                     {.name = {(const uint8_t *)"n", 1}, .type = &int_type}};
static struct column org_list[] = {{.name = {(const uint8_t *)"name", 4}, .type = &int_type}};
static struct column child_range_list[] = {
    {.name = {(const uint8_t *)"seq", 3}, .type = &int_type},
    {.name = {(const uint8_t *)"o", 1}, .type = &text_type},
    {.name = {(const uint8_t *)"n", 1}, .type = &int_type},
    {.name = {(const uint8_t *)"pid", 3}, .type = &text_type}};
static struct column org_range_list[] = {{.name = {(const uint8_t *)"name", 4}, .type = &int_type},
                                         {.name = {(const uint8_t *)"id", 2}, .type = &text_type}};
static struct columns child_range = {.count = 4, .list = child_range_list},
                      org_range = {.count = 2, .list = org_range_list};
static struct columns key_columns = {.count = 1, .list = thing_list},
                      thing_columns = {.count = 3, .list = thing_list},
                      child_columns = {.count = 3, .list = child_list},
                      org_columns = {.count = 1, .list = org_list};

struct cql_session *cql_session_open(struct cql_cluster *c, struct err *err)
{
    struct cql_session *s = xalloc(sizeof *s);

    (void)c;
    (void)err;
    for (int i = 0; i < TICKETS; i++)
        buf_init(&s->tickets[i].bytes, 1 << 20);
    return s;
}

void cql_session_free(struct cql_session *s)
{
    for (int i = 0; s && i < TICKETS; i++) {
        assert_false(s->tickets[i].open);
        buf_fini(&s->tickets[i].bytes);
    }
    free(s);
}

void cql_session_trim(struct cql_session *s)
{
    (void)s;
}

static void add_int(struct buf *b, int64_t v)
{
    buf_add_u32(b, 4);
    buf_add_u32(b, (uint32_t)v);
}

static void add_text(struct buf *b, const char *kind, int i)
{
    buf_add_u32(b, 2);
    buf_add_byte(b, (uint8_t)*kind);
    buf_add_byte(b, (uint8_t)('0' + i));
}

static int copies; /* of each child; more than one: all on one page */

/* Children from `*from` on, two at most. */
static void children_page(int key, int *from, struct buf *b, struct page *page)
{
    page->columns = &child_columns;
    page->last = true;
    for (; *from < CHILDREN; ++*from) {
        if (!db.things[key].children[*from].n)
            continue;
        if (page->row_count == 2 && copies == 1) {
            page->last = false;
            break;
        }
        for (int i = 0; i < copies; i++) {
            page->row_count++;
            add_int(b, *from);
            add_text(b, "o", db.things[key].children[*from].org);
            add_int(b, db.things[key].children[*from].n);
        }
    }
}

static void fill_page(const char *text, const char *value, struct buf *b, struct page *page)
{
    buf_reset(b);
    page->last = true;
    if (strstr(text, "\"org\"")) {
        int org = value[1] - '0';
        page->columns = &org_columns;
        page->row_count = org < ORGS;
        if (org < ORGS)
            add_int(b, db.orgs[org]);
    } else if (strstr(text, "\"child\"")) {
        int from = 0;
        children_page(value[0] - 'a', &from, b, page);
    } else {
        int key = value[0] - 'a';
        bool whole = strstr(text, "\"v\"") != NULL;
        page->columns = whole ? &thing_columns : &key_columns;
        page->row_count = 1;
        buf_add_u32(b, 1);
        buf_add_byte(b, (uint8_t)value[0]);
        if (whole) {
            add_text(b, "o", db.things[key].org);
            add_int(b, db.things[key].v);
        }
    }
    page->rows = buf_slice(b);
}

bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err)
{
    (void)err;
    for (cql_ticket i = 0; i < TICKETS; i++) {
        struct ticket *t = &s->tickets[i];
        if (t->open)
            continue;
        t->open = true;
        t->q = *q;
        snprintf(t->value, sizeof t->value, "%.*s", (int)q->values[0].n,
                 (const char *)q->values[0].p);
        t->sent_us = clock_version_us(&test_clock);
        *out = i;
        at();
        return true;
    }
    fail_msg("too many tickets");
    return false;
}

bool cql_take(struct cql_session *s, cql_ticket n, struct page *page, struct err *err)
{
    struct ticket *t = &s->tickets[n];

    reads++;
    at();
    if (fault && fault() == 1)
        return err_set(err, ERR_RETRY, "no answer");
    *page = (struct page){.read_at_us = t->sent_us};
    fill_page(t->q.text, t->value, &t->bytes, page);
    at();
    return true;
}

void cql_release(struct cql_session *s, cql_ticket n)
{
    s->tickets[n].open = false;
}

static int by_token(const void *a, const void *b)
{
    const struct partition *x = a, *y = b;

    return x->token < y->token ? -1 : x->token > y->token;
}

static void order_tables(void)
{
    char name[3] = "o";

    for (int i = 0; i < PARTITIONS; i++) {
        char key = (char)('a' + i);
        thing_order[i] = (struct partition){cql_token(slice_of((uint8_t *)&key, 1)), i};
    }
    for (int i = 0; i < ORGS; i++) {
        name[1] = (char)('0' + i);
        org_order[i] = (struct partition){cql_token(slice_str(name)), i};
    }
    qsort(thing_order, PARTITIONS, sizeof *thing_order, by_token);
    qsort(org_order, ORGS, sizeof *org_order, by_token);
}

static void add_key(struct buf *b, int i)
{
    buf_add_u32(b, 1);
    buf_add_byte(b, (uint8_t)('a' + i));
}

static void add_child(struct buf *b, int thing, int i)
{
    add_int(b, i);
    add_text(b, "o", db.things[thing].children[i].org);
    add_int(b, db.things[thing].children[i].n);
    add_key(b, thing);
}

static void add_thing(struct buf *b, int i, bool whole)
{
    add_key(b, i);
    if (!whole)
        return;
    add_text(b, "o", db.things[i].org);
    add_int(b, db.things[i].v);
}

/* A range of tokens, two rows to a page, which may end inside a partition. */
static void range_page(struct cql_pager *p, struct page *page)
{
    bool is_org = strstr(p->text, "\"org\""), is_child = strstr(p->text, "\"child\"");
    bool whole = strstr(p->text, "\"v\"");
    int each = is_child ? CHILDREN : 1, count = is_org ? ORGS : is_child ? PARTITIONS : KEYS;

    range_pages[is_org ? 2 : is_child]++;
    page->columns = is_org     ? &org_range
                    : is_child ? &child_range
                               : (whole ? &thing_columns : &key_columns);
    page->last = true;
    for (int i = 0, place = 0; place < count * each; i++) {
        const struct partition *at = is_org ? &org_order[i / each] : &thing_order[i / each];
        int row = i % each;
        if (!is_org && !is_child && at->i >= KEYS)
            continue;
        if (place++ < p->next || at->token <= p->after || at->token > p->to ||
            (is_child && !db.things[at->i].children[row].n))
            continue;
        if (page->row_count == 2) {
            page->last = false;
            p->next = place - 1;
            break;
        }
        page->row_count++;
        if (is_org) {
            add_int(&p->bytes, db.orgs[at->i]);
            add_text(&p->bytes, "o", at->i);
        } else if (is_child) {
            add_child(&p->bytes, at->i, row);
        } else {
            add_thing(&p->bytes, at->i, whole);
        }
    }
}

static size_t ring_pieces; /* so many that keys of ids are read by themselves, or one */

bool cql_ranges_plan(struct cql_cluster *c, const struct schema *table,
                     const struct token_range *of, size_t of_count, uint64_t target_bytes,
                     size_t at_least, struct cql_ranges *out, struct err *err)
{
    (void)c;
    (void)table;
    (void)of;
    (void)of_count;
    (void)target_bytes;
    (void)at_least;
    (void)err;
    *out = (struct cql_ranges){.count = ring_pieces};
    return true;
}

void cql_ranges_fini(struct cql_ranges *r)
{
    (void)r;
}

struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    struct cql_pager *p = xalloc(sizeof *p);

    (void)s;
    (void)err;
    p->text = q->text;
    buf_init(&p->bytes, 1 << 20);
    if (strstr(q->text, "token(")) {
        p->after = (int64_t)load_u64(q->values[0].p);
        p->to = (int64_t)load_u64(q->values[1].p);
        return p;
    }
    assert_non_null(strstr(q->text, "\"child\""));
    snprintf(p->value, sizeof p->value, "%.*s", (int)q->values[0].n, (const char *)q->values[0].p);
    return p;
}

void cql_pager_free(struct cql_pager *p)
{
    if (p)
        buf_fini(&p->bytes);
    free(p);
}

void cql_pager_set_rows(struct cql_pager *p, uint32_t page_rows)
{
    (void)p;
    (void)page_rows;
}

struct slice cql_pager_state(const struct cql_pager *p)
{
    (void)p;
    return SLICE_NULL;
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

bool cql_pager_next(struct cql_pager *p, struct page *page, struct err *err)
{
    int64_t sent_us = clock_version_us(&test_clock);

    if (p->done)
        return false;
    reads++;
    at();
    if (fault && fault() == 1)
        return err_set(err, ERR_RETRY, "no answer");
    *page = (struct page){.read_at_us = sent_us};
    buf_reset(&p->bytes);
    if (p->value[0])
        children_page(p->value[0] - 'a', &p->next, &p->bytes, page);
    else
        range_page(p, page);
    page->rows = buf_slice(&p->bytes);
    p->done = page->last;
    return true;
}

/* ---- the fixture */

static const char *const urls[] = {"http://one:9200", NULL};
static const struct elastic_options elastic = {.urls = urls, .clock = &test_clock};

static bool failed[KEYS]; /* of our scan */

static void note_failed(void *ctx, const struct plan *p, const struct slice *key,
                        const char *reason, const char *text)
{
    (void)p;
    (void)reason;
    (void)text;
    if (ctx)
        failed[key[0].p[0] - 'a'] = true;
}

struct process {
    struct guard *guard;
    struct guard *guards[1];
    const struct plan *plans[2];
    struct keyed *keyed;
    struct arena ids;
    struct keyed_result results[KEYS];
};
static struct process ours, other;
static size_t memory_bytes;
static struct mapping *mapping;
static struct schema *thing, *child, *org;
static struct plan *plan;

static const struct schema *find(void *ctx, const char *keyspace, const char *table,
                                 struct err *err)
{
    (void)ctx;
    (void)keyspace;
    (void)err;
    return !strcmp(table, "child") ? child : org;
}

static void process_open(struct process *p)
{
    struct err err = {0};
    struct guard_options g = {.index = "i",
                              .versioning = plan_versioning(plan),
                              .clock = &test_clock,
                              .gc_deletes_ms = 60000,
                              .primary_term = 1};

    p->guard = p->guards[0] = guard_new(&g, &err);
    p->plans[0] = plan;
    p->keyed = keyed_open(&(struct keyed_options){.elastic = &elastic,
                                                  .plans = p->plans,
                                                  .guards = p->guards,
                                                  .clock = &test_clock,
                                                  .memory_bytes = memory_bytes,
                                                  .on_failure = note_failed,
                                                  .on_failure_ctx = p == &ours ? p : NULL,
                                                  .retry_budget_ms = INT64_C(1) << 40},
                          &err);
    assert_non_null(p->keyed);
    arena_init(&p->ids, 1 << 20);
}

static void process_close(struct process *p)
{
    keyed_free(p->keyed);
    guard_free(p->guard);
    arena_fini(&p->ids);
}

static void start_db(void)
{
    memset(&db, 0, sizeof db);
    memset(docs, 0, sizeof docs);
    changes = 0;
    for (int i = 0; i < ORGS; i++)
        db.orgs[i] = ++changes;
    for (int i = 0; i < KEYS; i++) {
        db.things[i].v = ++changes;
        db.things[i].org = i % ORGS;
    }
}

static int setup(void **state)
{
    static const struct test_column things[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                                {"o", &text_type, COLUMN_REGULAR},
                                                {"v", &int_type, COLUMN_REGULAR}};
    static const struct test_column children[] = {{"pid", &text_type, COLUMN_PARTITION_KEY},
                                                  {"seq", &int_type, COLUMN_CLUSTERING},
                                                  {"n", &int_type, COLUMN_REGULAR},
                                                  {"o", &text_type, COLUMN_REGULAR}};
    static const struct test_column orgs[] = {{"id", &text_type, COLUMN_PARTITION_KEY},
                                              {"name", &int_type, COLUMN_REGULAR}};
    const struct plan_tables tables = {.find = find};
    struct err err = {0};

    start_db();
    hook = NULL;
    fault = NULL;
    copies = 1;
    ring_pieces = 1000;
    reads = bulks = 0;
    memset(range_pages, 0, sizeof range_pages);
    order_tables();
    now_us = INT64_C(1700000000) * SECOND;
    next_seq_no = 0;
    thing = test_schema("ks", "thing", things, 3);
    child = test_schema("ks", "child", children, 4);
    org = test_schema("ks", "org", orgs, 2);
    AUTO_STR char *text = xsprintf(
        "object: thing\nsource: {keyspace: ks, table: thing}\ntarget: {index: i}\n"
        "versioning: %s\nsteps:\n"
        "  - lookup: {field: name, table: org, key: {id: \"{o}\"}, take: name, missing: omit}\n"
        "  - children: {field: c, table: child, by: {pid: \"{p}\"}, columns: [seq, o, n], each: "
        "[lookup: {field: name, table: org, key: {id: \"{o}\"}, take: name}]}\n",
        *state ? (const char *)*state : "read_time");
    mapping = mapping_parse(slice_str(text), "m.yaml", &err);
    assert_string_equal(err.text, "");
    plan = plan_compile_with(mapping, thing, &tables, &err);
    assert_string_equal(err.text, "");
    process_open(&ours);
    process_open(&other);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    process_close(&ours);
    process_close(&other);
    plan_free(plan);
    mapping_free(mapping);
    schema_free(thing);
    schema_free(child);
    schema_free(org);
    return 0;
}

static bool sync_with(struct process *p, const char *text)
{
    struct keyed_totals totals = {0};
    struct err err = {0};

    arena_reset(&p->ids);
    const struct json *ids = json_parse(slice_str(text), &p->ids, &err);
    bool ok = keyed_sync(p->keyed, "thing", ids, p->results, &err);
    keyed_totals_add(&totals, p->results, ids->count);
    assert_true(keyed_conserved(&totals));
    return ok;
}

/* All keys, as engine/direct_keys gives them. */
static bool scan_with(struct process *p, struct err *err)
{
    struct keyed_result sum = {0};

    memset(failed, 0, sizeof failed);
    keyed_begin(p->keyed, plan, &sum);
    for (int i = 0; i < PARTITIONS; i++) {
        char key = (char)('a' + thing_order[i].i);
        const struct slice cells[] = {slice_of((uint8_t *)&key, 1)};
        if (thing_order[i].i < KEYS && !keyed_add(p->keyed, KEYED_SCAN, cells, 0, 0, err))
            return false;
    }
    return keyed_end(p->keyed, err);
}

/* ---- the usual */

static void rounds_are_few_and_shared(void **state)
{
    (void)state;
    for (int i = 0; i < KEYS; i++)
        db.things[i].org = 0;
    db.things[0].children[1].n = 91;
    db.things[0].children[1].org = 2;
    db.things[1].children[0].n = 92;
    assert_true(sync_with(&ours, "[\"a\",\"b\",\"c\",\"d\"]"));
    assert_string_equal(
        docs[0].source,
        "{\"p\":\"a\",\"o\":\"o0\",\"v\":6,\"name\":1,\"c\":[{\"seq\":1,\"o\":\"o2\""
        ",\"n\":91,\"name\":3}]}");
    assert_string_equal(docs[3].source, "{\"p\":\"d\",\"o\":\"o0\",\"v\":9,\"name\":1,\"c\":[]}");
    assert_int_equal(bulks, 1);
    /* 4 rows; then o0 once, and children of 4; then o2: o0 is there */
    assert_int_equal(reads, *state ? 4 + 5 + 1 + 4 : 4 + 5 + 1);
}

static void children_come_on_many_pages(void **state)
{
    (void)state;
    for (int i = 0; i < CHILDREN; i++)
        db.things[2].children[i].n = 50 + i;
    assert_true(sync_with(&ours, "[\"c\"]"));
    assert_non_null(strstr(docs[2].source, "{\"seq\":0,\"o\":\"o0\",\"n\":50,\"name\":1},{\"seq\":"
                                           "1,\"o\":\"o0\",\"n\":51,\"name\":1},{\"seq\":2,"));
    assert_non_null(strstr(docs[2].source, "{\"seq\":4,\"o\":\"o0\",\"n\":54,\"name\":1}]}"));
}

static void missing_rows_are_counted(void **state)
{
    (void)state;
    db.things[0].org = 7;
    assert_true(sync_with(&ours, "[\"a\",\"b\"]"));
    assert_int_equal(ours.results[0].counts.lookup_missing, 1);
    assert_int_equal(ours.results[0].counts.altered, 0);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_string_equal(docs[0].source, "{\"p\":\"a\",\"o\":\"o7\",\"v\":6,\"c\":[]}");
    db.things[0].org = 0;
    db.things[0].children[0].n = 1;
    db.things[0].children[0].org = 8;
    assert_true(sync_with(&ours, "[\"a\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "lookup_missing");
}

static unsigned json_rows(int key)
{
    unsigned n = 0;

    for (const char *p = docs[key].source; (p = strstr(p, "\"seq\"")); p++)
        n++;
    return n;
}

static void little_memory(size_t bytes, int rows_each)
{
    process_close(&ours);
    memory_bytes = bytes;
    process_open(&ours);
    memory_bytes = 0;
    copies = rows_each;
    for (int i = 0; i < KEYS; i++)
        db.things[i].children[0].n = 1;
}

/* What does not fit together comes in parts. */
static void rounds_are_cut_to_the_memory(void **state)
{
    (void)state;
    little_memory(80 << 10, 250);
    assert_true(sync_with(&ours, "[\"a\",\"b\",\"c\",\"d\"]"));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ours.results[i].counts.indexed, 1);
        assert_int_equal(json_rows(i), 250);
    }
    assert_true(reads > 4 + 4 + 3); /* some were read once more */
}

static void one_that_never_fits_fails(void **state)
{
    (void)state;
    little_memory(80 << 10, 700);
    db.things[1].children[0].n = 0;
    assert_true(sync_with(&ours, "[\"a\",\"b\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "document_too_large");
    assert_int_equal(ours.results[1].counts.indexed, 1);
}

/* ---- many runs with whatever comes */

static uint64_t random_state;
static unsigned below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

static struct content promised[KEYS];

static void raise(int64_t *to, int64_t value)
{
    *to = value > *to ? value : *to;
}

static void promise(int key, const struct content *c)
{
    raise(&promised[key].v, c->v);
    for (int i = 0; i < CHILDREN; i++)
        raise(&promised[key].children[i], c->children[i]);
    for (int i = 0; i < ORGS; i++)
        raise(&promised[key].orgs[i], c->orgs[i]);
}

static bool name_is_young(int key, const struct json *row)
{
    return number(row, "name") >= promised[key].orgs[json_get_string(row, "o").p[1] - '0'];
}

static void check_promise(uint64_t seed, int key)
{
    struct err err = {0};
    struct arena mem;

    arena_init(&mem, 1 << 20);
    const struct json *d = json_parse(slice_str(docs[key].source), &mem, &err);
    bool ok = docs[key].live && d && number(d, "v") >= promised[key].v && name_is_young(key, d);
    int64_t n[CHILDREN] = {0};
    json_each (row, json_get(d, "c")) {
        n[number(row, "seq")] = number(row, "n");
        ok = ok && name_is_young(key, row);
    }
    /* Where there is none the row may have been away for a while since. */
    for (int i = 0; i < CHILDREN; i++)
        ok = ok && (n[i] ? n[i] : db.things[key].children[i].removed) >= promised[key].children[i];
    if (!ok)
        fail_msg("seed %" PRIu64 ": %c is %s", seed, 'a' + key, docs[key].source);
    arena_fini(&mem);
}

static void application(void)
{
    int key = (int)below(PARTITIONS), i = (int)below(CHILDREN);

    switch (below(5)) {
    case 0:
        db.orgs[below(ORGS)] = ++changes;
        break;
    case 1:
        db.things[key].org = (int)below(ORGS);
        db.things[key].v = ++changes;
        break;
    case 2:
        if (!db.things[key].children[i].n)
            break;
        db.things[key].children[i].n = 0;
        db.things[key].children[i].removed = ++changes;
        break;
    default:
        db.things[key].children[i].org = (int)below(ORGS);
        db.things[key].children[i].n = ++changes;
    }
}

/* A sync of some keys by another process. */
static void sync_some(void)
{
    int from = (int)below(KEYS), count = 1 + (int)below(2);
    struct content c[] = {content_of(from), content_of((from + 1) % KEYS)};
    char ids[24];

    snprintf(ids, sizeof ids, count == 1 ? "[\"%c\"]" : "[\"%c\",\"%c\"]", 'a' + from,
             'a' + (from + 1) % KEYS);
    ensure(sync_with(&other, ids));
    for (int i = 0; i < count; i++)
        if (other.results[i].ok)
            promise((from + i) % KEYS, &c[i]);
}

/* The other process works in a thread of its own; at every step of either the turn may go to the
 * other: one of them runs at a time, and the seed says which. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool others; /* turn */
    bool over, ended;
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void give_turn(bool to_other)
{
    pthread_mutex_lock(&turns.lock);
    turns.others = to_other && !turns.ended;
    pthread_cond_broadcast(&turns.changed);
    while (turns.others == to_other && !(to_other ? turns.ended : turns.over))
        pthread_cond_wait(&turns.changed, &turns.lock);
    pthread_mutex_unlock(&turns.lock);
}

static void *other_process(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&turns.lock);
    while (!turns.others)
        pthread_cond_wait(&turns.changed, &turns.lock);
    pthread_mutex_unlock(&turns.lock);
    while (!turns.over)
        sync_some();
    pthread_mutex_lock(&turns.lock);
    turns.ended = true;
    turns.others = false;
    pthread_cond_broadcast(&turns.changed);
    pthread_mutex_unlock(&turns.lock);
    return NULL;
}

static void somebody(void)
{
    while (below(4) == 0)
        application();
    if (!turns.over && below(3) == 0)
        give_turn(!turns.others);
}

static unsigned any_fault(void)
{
    return below(20) ? 0 : 1 + below(2);
}

static bool sync_all(bool scan)
{
    struct err err = {0};

    return scan ? scan_with(&ours, &err)
                : sync_with(&ours, "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]");
}

/* What the other process is in the midst of when ours is through, it brings to its end. */
static bool sync_overlapped(bool scan)
{
    pthread_t thread;

    turns.others = turns.over = turns.ended = false;
    ensure(pthread_create(&thread, NULL, other_process, NULL) == 0);
    bool ok = sync_all(scan);
    pthread_mutex_lock(&turns.lock);
    turns.over = turns.others = true;
    pthread_cond_broadcast(&turns.changed);
    pthread_mutex_unlock(&turns.lock);
    pthread_join(thread, NULL);
    return ok;
}

/* A sync of everything, by ids or by a scan, and syncs of single keys in its midst. */
static void run_many(bool scan)
{
    const char *given = getenv("CASS2ES_TEST_SEED");
    uint64_t first = given ? strtoull(given, NULL, 10) : 1;

    for (uint64_t seed = first; seed < first + (given ? 1 : RUNS); seed++) {
        struct content begin[KEYS];

        random_state = seed * 0x9e3779b97f4a7c15u + 1;
        start_db();
        memset(promised, 0, sizeof promised);
        for (unsigned n = below(12); n; n--)
            application();
        for (int i = 0; i < KEYS; i++)
            begin[i] = content_of(i);
        hook = somebody;
        fault = seed % 2 ? any_fault : NULL;
        bool ok = sync_overlapped(scan);
        if (!ok)
            fail_msg("seed %" PRIu64, seed);
        for (int i = 0; i < KEYS; i++) {
            if (scan ? !failed[i] : ours.results[i].ok)
                promise(i, &begin[i]);
            check_promise(seed, i);
        }
    }
}

static void nothing_older_stays(void **state)
{
    (void)state;
    run_many(false);
    assert_int_equal(range_pages[1] + range_pages[2], 0);
}

static void nothing_older_stays_of_ids_by_ranges(void **state)
{
    (void)state;
    ring_pieces = 1;
    run_many(false);
    assert_true(range_pages[1] > RUNS / 4 && range_pages[2] > RUNS / 4);
}

static void nothing_older_stays_of_ranges(void **state)
{
    (void)state;
    ring_pieces = 1;
    run_many(true);
    assert_true(range_pages[1] > RUNS && range_pages[2] > RUNS / 4);
}

#define T(f)        cmocka_unit_test_setup_teardown(f, setup, teardown)
#define IN(mode, f) {#f " (" mode ")", f, setup, teardown, (void *)mode}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(rounds_are_few_and_shared),
        IN("sequence", rounds_are_few_and_shared),
        T(children_come_on_many_pages),
        IN("sequence", children_come_on_many_pages),
        T(rounds_are_cut_to_the_memory),
        T(one_that_never_fits_fails),
        T(missing_rows_are_counted),
        IN("sequence", missing_rows_are_counted),
        T(nothing_older_stays),
        IN("sequence", nothing_older_stays),
        T(nothing_older_stays_of_ids_by_ranges),
        IN("sequence", nothing_older_stays_of_ids_by_ranges),
        T(nothing_older_stays_of_ranges),
        IN("sequence", nothing_older_stays_of_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
