/*
 * engine/keyed in the modes that write with versions: against a table in memory behind the calls of
 * cql, and an Elasticsearch with external versions behind http_call(): it forgets the version of a
 * delete after a while, and at once when its engine starts anew, under a higher primary term.
 *
 * Two keyed share both: `ours`, and `other`, another process, which a test's hook sets to work
 * between any two steps of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "engine/keyed.h"
#include "http/client.h"

enum { ROWS = 8, DOCS = 16, TICKETS = 16, SECOND = 1000000 };

static int64_t now_us, step_us;
static int64_t tick(void *ctx)
{
    (void)ctx;
    return now_us += step_us;
}
static struct clock test_clock;

/* Waits pass at once. */
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    (void)fds;
    (void)count;
    now_us += (int64_t)timeout_ms * 1000;
    return 0;
}

/* ---- the table: p text, v text; a change of a row has a number */

static struct {
    char p[16], v[32];
    bool live, keyless; /* answered with static columns only */
    int64_t change;
} rows[ROWS];
static int64_t changes;

static int row_find(const char *p)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].p, p))
            return i;
    return -1;
}

static void row_put(const char *p, const char *v)
{
    int i = row_find(p);

    if (i < 0)
        i = row_find("");
    assert_true(i >= 0);
    snprintf(rows[i].p, sizeof rows[0].p, "%s", p);
    snprintf(rows[i].v, sizeof rows[0].v, "%s", v);
    rows[i].live = true;
    rows[i].change = ++changes;
}

static void row_delete(const char *p)
{
    int i = row_find(p);

    if (i < 0)
        return;
    rows[i].live = false;
    rows[i].change = ++changes;
}

/* ---- the index */

static struct stored {
    char id[16], source[128];
    bool used, live;
    int64_t version, at_us; /* of a delete: since when */
    int64_t seq_no;
} docs[DOCS];
static int64_t term, gc_us, next_seq_no;

static struct stored *doc_slot(const char *id)
{
    for (int i = 0; i < DOCS; i++)
        if (docs[i].used && !strcmp(docs[i].id, id))
            return &docs[i];
    for (int i = 0; i < DOCS; i++)
        if (!docs[i].used) {
            docs[i] = (struct stored){.used = true, .version = -1};
            snprintf(docs[i].id, sizeof docs[i].id, "%s", id);
            return &docs[i];
        }
    fail_msg("too many documents");
    return NULL;
}

static const char *doc(const char *id)
{
    struct stored *d = doc_slot(id);

    return d->live ? d->source : "absent";
}

/* Closed and opened, moved, killed: what was known of deletes is gone. */
static void engine_restart(void)
{
    term++;
    for (int i = 0; i < DOCS; i++)
        if (!docs[i].live)
            docs[i].version = -1;
}

/* Anybody's write. */
static void doc_put(const char *id, const char *source, int64_t version)
{
    struct stored *d = doc_slot(id);

    snprintf(d->source, sizeof d->source, "%s", source);
    d->version = version;
    d->seq_no = next_seq_no++;
    d->live = true;
}

/* ---- what tests do in between */

static struct {
    unsigned mget, bulk, bulk_done, read, keys, written, terms;
} count;
static void (*hook)(const char *step, unsigned n);
enum fault { NO_FAULT, LOSE_ANSWER, NOT_REACHED, UNAVAILABLE };
static enum fault (*fault)(const char *step, unsigned n);
static const char *(*item_fault)(const char *id, unsigned n);
static void (*applied)(const char *id, int64_t version, bool live, const char *source);
static bool quiet; /* the other is at work: no hook, no fault */

static void at(const char *step, unsigned n)
{
    if (hook && !quiet)
        hook(step, n);
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

static const struct json *bulk_line(struct http_client *c, struct slice *body, struct slice *text)
{
    struct err err = {0};
    const uint8_t *end = memchr(body->p, '\n', body->n);

    assert_non_null(end);
    *text = slice_of(body->p, (size_t)(end - body->p));
    *body = slice_of(end + 1, body->n - text->n - 1);
    const struct json *v = json_parse(*text, &c->mem, &err);
    assert_string_equal(err.text, "");
    return v;
}

static int64_t number(const struct json *of, const char *key)
{
    const struct json *v = json_get(of, key);

    return v ? strtoll((const char *)v->text.p, NULL, 10) : -1;
}

static void conflict(struct http_client *c, const char *id, const struct stored *d, int64_t ours)
{
    buf_printf(&c->answer,
               "\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\","
               "\"reason\":\"[%s]: version conflict, current version [%" PRId64
               "] is higher %sthan the one provided [%" PRId64 "]\"}}}",
               id, d->version, d->version == ours ? "or equal to " : "", ours);
}

static void apply_item(struct http_client *c, const struct json *meta, struct slice source)
{
    bool delete = slice_is(meta->key, "delete");
    char id[64];
    struct slice type = json_get_string(meta, "version_type");
    int64_t version = number(meta, "version"), if_seq_no = number(meta, "if_seq_no");
    snprintf(id, sizeof id, "%s", (const char *)json_get_string(meta, "_id").p);
    const char *instead = item_fault && !quiet ? item_fault(id, count.bulk) : NULL;
    struct stored *d = doc_slot(id);

    if (!d->live && d->version >= 0 && now_us - d->at_us >= gc_us)
        d->version = -1;
    buf_printf(&c->answer, "{\"%s\":{\"_id\":\"%s\",", (const char *)meta->key.p, id);
    if (instead) {
        buf_printf(&c->answer, "%s}}", instead);
        return;
    }
    bool lower = d->version > version || (d->version == version && slice_is(type, "external"));
    if (type.n ? lower : if_seq_no >= 0 && (!d->live || d->seq_no != if_seq_no)) {
        conflict(c, id, d, version);
        return;
    }
    bool was = d->live;
    count.written++;
    d->live = !delete;
    d->version = type.n ? version : d->version + 1;
    d->at_us = now_us;
    d->seq_no = next_seq_no++;
    snprintf(d->source, sizeof d->source, "%.*s", (int)source.n,
             source.n ? (const char *)source.p : "");
    if (applied)
        applied(id, version, d->live, d->source);
    buf_printf(&c->answer,
               "\"status\":%d,\"result\":\"%s\",\"_version\":%" PRId64 ",\"_seq_no\":%" PRId64
               ",\"_primary_term\":%" PRId64 "}}",
               delete ? (was ? 200 : 404)
               : was  ? 200
                      : 201,
               delete ? (was ? "deleted" : "not_found")
               : was  ? "updated"
                      : "created",
               d->version, d->seq_no, term);
}

static void answer_bulk(struct http_client *c, struct slice body)
{
    const char *comma = "";

    buf_add_str(&c->answer, "{\"took\":1,\"errors\":true,\"items\":[");
    while (body.n) {
        struct slice text, source = SLICE_NULL;
        const struct json *meta = bulk_line(c, &body, &text)->first;
        if (!slice_is(meta->key, "delete"))
            bulk_line(c, &body, &source);
        buf_add_str(&c->answer, comma);
        comma = ",";
        apply_item(c, meta, source);
    }
    buf_add_str(&c->answer, "]}");
}

static void answer_mget(struct http_client *c, struct slice body)
{
    struct err err = {0};
    const char *comma = "";

    buf_add_str(&c->answer, "{\"docs\":[");
    json_each (id, json_get(json_parse(body, &c->mem, &err), "ids")) {
        struct stored *d = doc_slot((const char *)id->text.p);
        buf_printf(&c->answer, "%s{\"_index\":\"i\",\"_id\":\"%s\",", comma, d->id);
        comma = ",";
        if (d->live)
            buf_printf(&c->answer,
                       "\"found\":true,\"_seq_no\":%" PRId64 ",\"_primary_term\":%" PRId64
                       ",\"_source\":%s}",
                       d->seq_no, term, d->source);
        else
            buf_add_str(&c->answer, "\"found\":false}");
    }
    buf_add_str(&c->answer, "]}");
}

static bool answer_terms(struct http_client *c, struct http_answer *out)
{
    count.terms++;
    buf_reset(&c->answer);
    buf_printf(&c->answer,
               "{\"metadata\":{\"indices\":{\"i\":{\"primary_terms\":{\"0\":%" PRId64 "}}}}}",
               term);
    out->status = 200;
    out->body = buf_slice(&c->answer);
    return true;
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    bool bulk = strstr(r->url, "/_bulk") != NULL;
    const char *step = bulk ? "bulk" : "mget";

    *out = (struct http_answer){.retry_after_ms = -1, .status = 200};
    *sent = true;
    if (strstr(r->url, "/_cluster/state"))
        return answer_terms(c, out);
    assert_true(bulk || strstr(r->url, "/_mget"));
    unsigned n = bulk ? ++count.bulk : ++count.mget;
    at(step, n);
    enum fault f = fault && !quiet ? fault(step, n) : NO_FAULT;
    *sent = f != NOT_REACHED;
    if (f == NOT_REACHED)
        return err_set(err, ERR_RETRY, "refused");
    buf_reset(&c->answer);
    arena_reset(&c->mem);
    out->status = f == UNAVAILABLE ? 503 : 200;
    if (bulk && f != UNAVAILABLE)
        answer_bulk(c, r->body);
    else if (f != UNAVAILABLE)
        answer_mget(c, r->body);
    if (bulk)
        at("bulk_done", ++count.bulk_done);
    if (f == LOSE_ANSWER)
        return err_set(err, ERR_RETRY, "lost");
    out->body = buf_slice(&c->answer);
    return true;
}

/* ---- cql */

struct ticket {
    struct buf bytes;
    struct cql_query q;
    struct slice value;
    int64_t sent_us;
    bool open;
};
struct cql_session {
    struct ticket tickets[TICKETS];
};

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

static struct column column_list[] = {{.name = {(const uint8_t *)"p", 1}, .type = &text_type},
                                      {.name = {(const uint8_t *)"v", 1}, .type = &text_type}};
static struct columns key_columns = {.count = 1, .list = column_list},
                      row_columns = {.count = 2, .list = column_list};

static void add_cell(struct buf *b, const char *text)
{
    buf_add_u32(b, (uint32_t)strlen(text));
    buf_add_str(b, text);
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
        t->value = q->values[0];
        t->sent_us = clock_version_us(&test_clock);
        *out = i;
        return true;
    }
    fail_msg("too many tickets");
    return false;
}

bool cql_take(struct cql_session *s, cql_ticket n, struct page *page, struct err *err)
{
    struct ticket *t = &s->tickets[n];
    bool whole = strstr(t->q.text, "\"v\"") != NULL;
    enum fault f = fault && !quiet ? fault(whole ? "read" : "keys", 0) : NO_FAULT;

    at(whole ? "read" : "keys", whole ? ++count.read : ++count.keys);
    if (f != NO_FAULT) {
        t->sent_us = clock_version_us(&test_clock);
        return err_set(err, ERR_RETRY, "no answer");
    }
    *page = (struct page){
        .columns = whole ? &row_columns : &key_columns, .last = true, .read_at_us = t->sent_us};
    buf_reset(&t->bytes);
    for (int i = 0; i < ROWS; i++) {
        if (!rows[i].live || !slice_is(t->value, rows[i].p))
            continue;
        add_cell(&t->bytes, rows[i].p);
        if (whole)
            add_cell(&t->bytes, rows[i].v);
        page->row_count++;
    }
    page->rows = buf_slice(&t->bytes);
    at(whole ? "read_done" : "keys_done", whole ? count.read : count.keys);
    return true;
}

void cql_release(struct cql_session *s, cql_ticket n)
{
    s->tickets[n].open = false;
}

struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    (void)s;
    (void)q;
    (void)err;
    fail_msg("no pages here");
    return NULL;
}

void cql_pager_free(struct cql_pager *p)
{
    (void)p;
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
    (void)p;
    (void)page;
    (void)err;
    return false;
}

/* ---- the fixture */

static const char *const urls[] = {"http://one:9200", NULL};
static const struct elastic_options elastic = {.urls = urls, .clock = &test_clock};

struct process {
    struct guard *guard;
    struct guard *guards[1];
    const struct plan *plans[2];
    struct brake *brake;
    struct keyed *keyed;
    struct arena ids;
    struct keyed_result results[256];
    struct keyed_totals totals;
    struct err err;
};
static struct process ours, other;
static struct mapping *mapping;
static struct schema *schema;
static struct plan *plan;
static const char *versioning;
static enum keyed_missing missing;
static int64_t budget_ms;

static void process_open(struct process *p)
{
    struct guard_options g = {.index = "i",
                              .versioning = plan_versioning(plan),
                              .clock = &test_clock,
                              .gc_deletes_ms = gc_us / 1000,
                              .primary_term = term};
    struct err err = {0};

    p->guard = p->guards[0] = guard_new(&g, &err);
    assert_string_equal(err.text, "");
    p->brake = brake_new(&(struct brake_options){.clock = &test_clock});
    p->plans[0] = plan;
    p->keyed = keyed_open(&(struct keyed_options){.elastic = &elastic,
                                                  .plans = p->plans,
                                                  .guards = p->guards,
                                                  .missing = missing,
                                                  .brake = p->brake,
                                                  .clock = &test_clock,
                                                  .retry_budget_ms = budget_ms},
                          &err);
    assert_non_null(p->keyed);
    arena_init(&p->ids, 1 << 20);
}

static void process_close(struct process *p)
{
    keyed_free(p->keyed);
    brake_free(p->brake);
    guard_free(p->guard);
    arena_fini(&p->ids);
}

static int setup(void **state)
{
    static const struct test_column columns[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                                 {"v", &text_type, COLUMN_REGULAR}};
    struct err err = {0};
    char text[200];

    versioning = *state ? *state : "read_time";
    missing = KEYED_REPORT;
    budget_ms = INT64_C(1) << 40;
    if (!strncmp(versioning, "brief:", 6)) {
        budget_ms = 60000;
        versioning += 6;
    }
    if (!strncmp(versioning, "delete:", 7)) {
        missing = KEYED_DELETE;
        versioning += 7;
    }
    memset(rows, 0, sizeof rows);
    memset(docs, 0, sizeof docs);
    memset(&count, 0, sizeof count);
    changes = 0;
    hook = NULL;
    fault = NULL;
    item_fault = NULL;
    applied = NULL;
    quiet = false;
    now_us = INT64_C(1700000000) * SECOND;
    step_us = 1000;
    test_clock = (struct clock){.wall_us = tick, .mono_us = tick};
    term = 1;
    next_seq_no = 0;
    gc_us = 60 * SECOND;
    schema = test_schema("ks", "t", columns, 2);
    snprintf(text, sizeof text,
             "object: thing\nsource: {table: t}\ntarget: {index: i}\n"
             "versioning: %s\n",
             versioning);
    mapping = mapping_parse(slice_str(text), "m.yaml", &err);
    assert_string_equal(err.text, "");
    plan = plan_compile(mapping, schema, &err);
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
    schema_free(schema);
    return 0;
}

static bool sync_with(struct process *p, const char *text)
{
    struct err err = {0};

    arena_reset(&p->ids);
    const struct json *ids = json_parse(slice_str(text), &p->ids, &err);
    p->totals = (struct keyed_totals){0};
    p->err = (struct err){0};
    bool ok = keyed_sync(p->keyed, "thing", ids, p->results, &p->err);
    keyed_totals_add(&p->totals, p->results, ids->count);
    assert_true(keyed_conserved(&p->totals));
    return ok;
}

static bool sync_ids(const char *text)
{
    memset(&count, 0, sizeof count);
    return sync_with(&ours, text);
}

static void other_syncs(const char *text)
{
    quiet = true;
    assert_true(sync_with(&other, text));
    quiet = false;
}

#define DOC(v) "{\"p\":\"a\",\"v\":\"" v "\"}"

/* ---- the usual */

static void the_time_of_reading_is_the_version(void **state)
{
    (void)state;
    row_put("a", "1");
    int64_t before = now_us;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_string_equal(doc("a"), DOC("1"));
    assert_true(doc_slot("a")->version > before && doc_slot("a")->version < now_us);
    assert_int_equal(count.mget, 0);
    assert_int_equal(count.keys, 0);
    int64_t first = doc_slot("a")->version;
    row_put("a", "2");
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_true(doc_slot("a")->version > first);
    assert_int_equal(count.terms, 0);
}

static void missing_row_is_reported(void **state)
{
    (void)state;
    doc_put("a", DOC("1"), 5);
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.totals.missing, 1);
    assert_int_equal(ours.totals.kept, 1);
    assert_false(ours.results[0].ok);
    assert_string_equal(doc("a"), DOC("1"));
    assert_int_equal(count.bulk, 0);
}

/* ---- conflicts */

static void other_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_put("a", "2");
        other_syncs("[\"a\"]");
    }
}

/* Fails without the version: the older row would be written over the newer one. */
static void later_read_wins(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = other_before_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(count.read, 3); /* ours, the other's, and ours once more */
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void other_before_each_bulk(const char *step, unsigned n)
{
    (void)n;
    if (!strcmp(step, "bulk"))
        other_syncs("[\"a\"]");
}

static void second_conflict_is_stale(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = other_before_each_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.stale, 1);
    assert_true(ours.results[0].ok);
    assert_int_equal(ours.totals.counts.documents, 1);
}

static void add_key(enum keyed_task task, const char *p)
{
    struct slice key = slice_str(p);
    struct err err = {0};

    assert_true(keyed_add(ours.keyed, task, &key, 0, 0, &err));
}

static void conflict_of_a_scan_is_stale(void **state)
{
    struct keyed_result sum = {0};
    struct err err = {0};

    (void)state;
    row_put("a", "1");
    hook = other_before_first_bulk;
    keyed_begin(ours.keyed, plan, &sum);
    add_key(KEYED_WRITE_STALE, "a");
    assert_true(keyed_end(ours.keyed, &err));
    assert_int_equal(sum.counts.stale, 1);
    assert_int_equal(sum.counts.documents, 1);
    assert_string_equal(doc("a"), DOC("2"));
}

/* A scan's, whose outcome nobody knows: nothing is left of it, but what others wrote later. */
static void what_was_sent_goes_with_its_row(void **state)
{
    struct keyed_result sum = {0};
    struct err err = {0};

    (void)state;
    row_put("there", "1");
    doc_put("a", DOC("1"), now_us);
    doc_put("later", DOC("2"), now_us + 4 * SECOND);
    doc_put("unsent", DOC("3"), now_us);
    keyed_begin(ours.keyed, plan, &sum);
    add_key(KEYED_WRITE_SENT, "there");
    add_key(KEYED_WRITE_SENT, "a");
    add_key(KEYED_WRITE_SENT, "later");
    add_key(KEYED_WRITE_STALE, "unsent");
    assert_true(keyed_end(ours.keyed, &err));
    assert_int_equal(sum.counts.indexed, 1);
    assert_int_equal(sum.counts.gone, 3);
    assert_string_equal(doc("a"), "absent");
    assert_string_equal(doc("later"), DOC("2"));
    assert_string_equal(doc("unsent"), DOC("3"));
}

/* Fails without GUARD_FOREIGN: taken for stale, the document would never be written again. */
static void foreign_version(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put("a", DOC("x"), now_us + INT64_C(3600) * SECOND);
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "foreign_version");
    assert_non_null(strstr(ours.results[0].text, "later than now"));
    assert_string_equal(doc("a"), DOC("x"));
    assert_int_equal(count.bulk, 1);
}

static void slightly_fast_clock(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put("a", DOC("x"), now_us + 4 * SECOND);
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(ours.results[0].counts.stale, 1);
}

/* ---- resurrection */

static void deleted_elsewhere(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_delete("a");
        other_syncs("[\"a\"]");
        assert_string_equal(doc("a"), "absent");
    }
}

/* Fails without the version of the delete. */
static void older_body_after_a_delete(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put("a", DOC("0"), 5);
    hook = deleted_elsewhere;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
}

static void deleted_elsewhere_and_restarted(const char *step, unsigned n)
{
    deleted_elsewhere(step, n);
    if (!strcmp(step, "bulk") && n == 1)
        engine_restart();
}

/* Fails without guard_doubts(): the document comes back for good. */
static void older_body_after_a_delete_and_a_restart(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put("a", DOC("0"), 5);
    hook = deleted_elsewhere_and_restarted;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(count.written, 3); /* the other's delete, ours back to life, and away again */
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
    assert_int_equal(count.terms, 1); /* the new one is known: nothing is doubted */
    row_put("b", "1");
    hook = NULL;
    assert_true(sync_ids("[\"b\"]"));
    assert_int_equal(count.terms, 0);
    assert_int_equal(count.keys, 0);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void restart_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1)
        engine_restart();
}

static void doubted_and_right(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = restart_before_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("1"));
    assert_int_equal(count.keys, 1);
    assert_int_equal(count.written, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void slow_after_first_read(const char *step, unsigned n)
{
    if (!strcmp(step, "read_done") && n == 1) {
        row_delete("a");
        other_syncs("[\"a\"]");
        now_us += gc_us + SECOND; /* the delete is forgotten */
    }
}

/* Fails without guard_too_old(). */
static void body_that_is_too_old(void **state)
{
    (void)state;
    row_put("a", "1");
    doc_put("a", DOC("0"), 5);
    hook = slow_after_first_read;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(count.bulk, 2); /* deletes: the other's, and ours */
    assert_int_equal(ours.totals.missing, 1);
}

static void always_slow(const char *step, unsigned n)
{
    (void)n;
    if (!strcmp(step, "read_done"))
        now_us += gc_us;
}

static void always_too_old(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = always_slow;
    assert_false(sync_ids("[\"a\"]"));
    assert_int_equal(ours.err.kind, ERR_REACH);
    assert_non_null(strstr(ours.err.text, "rows waited too long to be written"));
    assert_int_equal(count.bulk, 0);
}

/* ---- unknown outcomes */

static enum fault lose_first_bulk(const char *step, unsigned n)
{
    return !strcmp(step, "bulk") && n == 1 ? LOSE_ANSWER : NO_FAULT;
}

static void new_row_after_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_put("a", "2");
}

/* Fails when the body is sent again as it was. */
static void lost_answer_reads_again(void **state)
{
    (void)state;
    row_put("a", "1");
    fault = lose_first_bulk;
    hook = new_row_after_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(count.read, 2);
    assert_int_equal(count.terms, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.totals.counts.documents, 1);
}

static void row_gone_after_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("a");
}

static void lost_write_leaves_no_orphan(void **state)
{
    (void)state;
    row_put("a", "1");
    fault = lose_first_bulk;
    hook = row_gone_after_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
}

static const char *overloaded_twice(const char *id, unsigned n)
{
    (void)id;
    return n <= 2 ? "\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\","
                    "\"reason\":\"full\"}"
                  : NULL;
}

static void overload_reads_again(void **state)
{
    (void)state;
    row_put("a", "1");
    item_fault = overloaded_twice;
    assert_true(sync_ids("[\"a\"]"));
    assert_int_equal(count.bulk, 3);
    assert_int_equal(count.read, 3);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static struct {
    unsigned calls;
    char reason[64], key[16];
} failure;
static void note_failure(void *ctx, const struct plan *p, const struct slice *key,
                         const char *reason, const char *text)
{
    assert_ptr_equal(ctx, &failure);
    assert_ptr_equal(p, plan);
    assert_true(text[0]);
    failure.calls++;
    snprintf(failure.reason, sizeof failure.reason, "%s", reason);
    snprintf(failure.key, sizeof failure.key, "%.*s", (int)key->n, (const char *)key->p);
}

static const char *rejected(const char *id, unsigned n)
{
    (void)n;
    return strcmp(id, "a") ? NULL
                           : "\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\","
                             "\"reason\":\"no date\"}";
}

static void failures_are_told_with_their_key(void **state)
{
    struct keyed_result sum = {0};
    struct err err = {0};

    (void)state;
    row_put("a", "1");
    row_put("b", "1");
    row_put("c", "1");
    keyed_free(ours.keyed);
    AUTO(elastic) struct elastic *sink = elastic_new(&elastic, &err);
    ours.keyed = keyed_open(&(struct keyed_options){.sink = sink,
                                                    .plans = ours.plans,
                                                    .guards = ours.guards,
                                                    .clock = &test_clock,
                                                    .on_failure = note_failure,
                                                    .on_failure_ctx = &failure},
                            &err);
    item_fault = rejected;
    failure.calls = 0;
    keyed_begin(ours.keyed, plan, &sum);
    add_key(KEYED_WRITE_STALE, "a");
    add_key(KEYED_WRITE_STALE, "b");
    add_key(KEYED_CHECK, "c");
    add_key(KEYED_WRITE, "none");
    assert_true(keyed_end(ours.keyed, &err));
    assert_int_equal(failure.calls, 1);
    assert_string_equal(failure.reason, "mapper_parsing_exception");
    assert_string_equal(failure.key, "a");
    assert_int_equal(sum.counts.rows, 3);
    assert_int_equal(sum.counts.indexed, 2);
    assert_int_equal(sum.counts.failed, 1);
    assert_int_equal(sum.counts.gone, 1);
    assert_string_equal(doc("c"), "absent"); /* looked for, not written */
    keyed_free(ours.keyed);
    ours.keyed = NULL;
}

/* ---- missing rows, deleted */

static void missing_row_is_deleted(void **state)
{
    (void)state;
    doc_put("a", DOC("1"), 5);
    int64_t before = now_us;
    assert_true(sync_ids("[\"a\",\"none\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 2);
    assert_int_equal(ours.totals.deleted, 1);
    assert_int_equal(ours.totals.kept, 1);
    assert_true(ours.results[0].ok);
    assert_true(ours.results[1].ok); /* nothing to delete */
    assert_true(now_us - before >= SECOND);
    assert_int_equal(count.keys, 2);
}

static void row_is_back(const char *step, unsigned n)
{
    (void)n;
    if (!strcmp(step, "keys"))
        row_put("a", "2");
}

/* Fails when the first read is believed. */
static void second_read_finds_the_row(void **state)
{
    (void)state;
    doc_put("a", DOC("1"), 5);
    hook = row_is_back;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(ours.totals.found, 1);
}

static void row_is_back_and_synced(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_put("a", "2");
        other_syncs("[\"a\"]");
    }
}

/* Fails when the delete has no version (or condition). */
static void row_is_back_before_the_delete(void **state)
{
    (void)state;
    doc_put("a", DOC("1"), 5);
    hook = row_is_back_and_synced;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("2"));
    assert_int_equal(ours.totals.found, 1);
}

static void foreign_document_is_not_deleted(void **state)
{
    (void)state;
    doc_put("a", DOC("x"), now_us + INT64_C(3600) * SECOND);
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("x"));
    assert_int_equal(ours.totals.kept, 1);
    assert_false(ours.results[0].ok);
    assert_string_equal(ours.results[0].reason, "foreign_version");
}

static void lost_delete_is_tried_again(void **state)
{
    (void)state;
    doc_put("a", DOC("1"), 5);
    fault = lose_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), "absent");
    assert_int_equal(ours.totals.missing, 1);
    assert_int_equal(count.keys, 2);
}

/* Fails without the brake. */
static void too_many_missing(void **state)
{
    (void)state;
    doc_put("k99", DOC("1"), 5);
    doc_put("k100", DOC("1"), 5);
    for (int i = 0; i < 99; i++)
        brake_delete(ours.brake); /* earlier ones */
    assert_true(sync_ids("[\"k99\",\"k100\",\"k101\"]"));
    assert_string_equal(doc("k99"), "absent");
    assert_int_equal(ours.totals.deleted, 1);
    assert_string_equal(doc("k100"), DOC("1"));
    assert_true(brake_pulled(ours.brake, NULL, 0));
    assert_string_equal(ours.results[1].reason, "brake");
    assert_string_equal(ours.results[1].text,
                        "not deleted: more than 100 rows of 0 ids are missing");
    assert_false(ours.results[1].ok);
}

/* ---- none */

static void none_is_last_come_last_served(void **state)
{
    (void)state;
    row_put("a", "1");
    hook = other_before_first_bulk;
    assert_true(sync_ids("[\"a\"]"));
    assert_string_equal(doc("a"), DOC("1"));
    assert_int_equal(count.read, 2);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

/* ---- many runs with whatever comes */

enum { KEYS = 4, RUNS = 4000 };

static uint64_t random_state;
static unsigned below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

/* Of each key: what the row was like, by change; the newest of which was ever in the index. */
static struct {
    int64_t newest, now;
} seen[KEYS];
static int64_t last_delete[KEYS]; /* change */

static void note_applied(const char *id, int64_t version, bool live, const char *source)
{
    int key = id[0] - 'a';
    const char *v = strstr(source, "\"v\":\"");

    (void)version;
    /* A delete does not say of which change it is: of the row's last deletion, or an older one. */
    seen[key].now = live ? strtoll(v + 5, NULL, 10) : last_delete[key];
    if (seen[key].now > seen[key].newest)
        seen[key].newest = seen[key].now;
}

static void application(void)
{
    char p[2] = {(char)('a' + (int)below(KEYS)), 0}, v[24];
    int i = row_find(p);

    if (below(3) == 0 && i >= 0 && rows[i].live) {
        row_delete(p);
        last_delete[p[0] - 'a'] = changes;
    } else {
        snprintf(v, sizeof v, "%" PRId64, changes + 1);
        row_put(p, v);
    }
}

static void somebody(const char *step, unsigned n)
{
    (void)step;
    (void)n;
    while (below(3) == 0) {
        unsigned what = below(10);
        char ids[32];
        snprintf(ids, sizeof ids, "[\"%c\",\"%c\"]", 'a' + (int)below(KEYS),
                 'a' + (int)below(KEYS));
        if (what < 5)
            application();
        else if (what < 8)
            other_syncs(ids);
        else if (what == 8)
            engine_restart();
        else
            now_us += (int64_t)below(40) * SECOND;
    }
}

static enum fault any_fault(const char *step, unsigned n)
{
    (void)step;
    (void)n;
    return below(6) ? NO_FAULT : (enum fault)(1 + below(3));
}

static const char *any_item_fault(const char *id, unsigned n)
{
    (void)id;
    (void)n;
    return below(8) ? NULL : "\"status\":429,\"error\":{\"type\":\"full\",\"reason\":\"x\"}";
}

/* Whatever comes, in whatever order: once a row's last change was in the index, it stays. */
static void nothing_goes_back(void **state)
{
    const char *given = getenv("CASS2ES_TEST_SEED");
    uint64_t first = given ? strtoull(given, NULL, 10) : 1;
    unsigned written = 0;

    for (uint64_t seed = first; seed < first + (given ? 1 : RUNS); seed++) {
        if (seed != first) {
            teardown(state);
            setup(state);
        }
        random_state = seed * 0x9e3779b97f4a7c15u + 1;
        memset(seen, 0, sizeof seen);
        memset(last_delete, 0, sizeof last_delete);
        for (int i = 0; i < KEYS; i++)
            row_put((char[]){(char)('a' + i), 0}, (char[]){(char)('1' + i), 0});
        applied = note_applied;
        hook = somebody;
        fault = any_fault;
        item_fault = any_item_fault;
        if (!sync_ids("[\"a\",\"b\",\"c\",\"d\"]"))
            fail_msg("seed %" PRIu64 ": %s", seed, ours.err.text);
        assert_int_equal(ours.totals.counts.failed, 0);
        written += count.written;
        for (int i = 0; i < KEYS; i++)
            if (seen[i].newest == rows[row_find((char[]){(char)('a' + i), 0})].change &&
                seen[i].now != seen[i].newest)
                fail_msg("seed %" PRIu64 ": %c is %" PRId64 ", was %" PRId64, seed, 'a' + i,
                         seen[i].now, seen[i].newest);
    }
    assert_true(given || written > RUNS);
}

#define T(f)        cmocka_unit_test_setup_teardown(f, setup, teardown)
#define IN(mode, f) {#f " (" mode ")", f, setup, teardown, (void *)mode}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_time_of_reading_is_the_version),
        T(missing_row_is_reported),
        T(later_read_wins),
        T(second_conflict_is_stale),
        T(conflict_of_a_scan_is_stale),
        T(what_was_sent_goes_with_its_row),
        T(foreign_version),
        T(slightly_fast_clock),
        IN("delete:read_time", older_body_after_a_delete),
        IN("delete:read_time", older_body_after_a_delete_and_a_restart),
        T(doubted_and_right),
        IN("delete:read_time", body_that_is_too_old),
        IN("brief:read_time", always_too_old),
        T(lost_answer_reads_again),
        T(lost_write_leaves_no_orphan),
        T(overload_reads_again),
        T(failures_are_told_with_their_key),
        IN("delete:read_time", missing_row_is_deleted),
        IN("delete:sequence", missing_row_is_deleted),
        IN("delete:none", missing_row_is_deleted),
        IN("delete:read_time", second_read_finds_the_row),
        IN("delete:sequence", second_read_finds_the_row),
        IN("delete:none", second_read_finds_the_row),
        IN("delete:read_time", row_is_back_before_the_delete),
        IN("delete:sequence", row_is_back_before_the_delete),
        IN("delete:read_time", foreign_document_is_not_deleted),
        IN("delete:read_time", lost_delete_is_tried_again),
        IN("delete:sequence", lost_delete_is_tried_again),
        IN("delete:none", lost_delete_is_tried_again),
        IN("delete:read_time", too_many_missing),
        IN("delete:sequence", too_many_missing),
        IN("delete:none", too_many_missing),
        IN("none", none_is_last_come_last_served),
        IN("none", missing_row_is_reported),
        IN("delete:read_time", nothing_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
