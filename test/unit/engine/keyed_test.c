/*
 * engine/keyed against models of both stores: a table in memory behind the calls of cql, and an
 * Elasticsearch behind http_call(). A test's `hook` is called at every step, so that another writer
 * can come in between any two of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "engine/keyed.h"
#include "http/client.h"

enum { ROWS = 400, DOCS = 400, TICKETS = 64 };

/* ---- the table: p text, c text, v text, w text; primary key (p, c) */

static struct {
    char p[16], c[16], v[64], w[16];
    bool live;
} rows[ROWS];

static void row_put(const char *p, const char *c, const char *v)
{
    int free_at = -1;

    for (int i = 0; i < ROWS; i++) {
        if (rows[i].live && !strcmp(rows[i].p, p) && !strcmp(rows[i].c, c)) {
            free_at = i;
            break;
        }
        if (!rows[i].live && free_at < 0)
            free_at = i;
    }
    assert_true(free_at >= 0);
    snprintf(rows[free_at].p, sizeof rows[0].p, "%s", p);
    snprintf(rows[free_at].c, sizeof rows[0].c, "%s", c);
    snprintf(rows[free_at].v, sizeof rows[0].v, "%s", v);
    rows[free_at].live = true;
}

static void row_delete(const char *p, const char *c)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].p, p) && !strcmp(rows[i].c, c))
            rows[i].live = false;
}

/* ---- the index */

static struct {
    char id[32], source[512];
    int64_t seq_no;
    bool live;
} docs[DOCS];
static int64_t next_seq_no;
static bool index_exists, keeps_source;

static int doc_find(const char *id)
{
    for (int i = 0; i < DOCS; i++)
        if (docs[i].live && !strcmp(docs[i].id, id))
            return i;
    return -1;
}

/* Anybody's write, without condition. */
static int64_t doc_put(const char *id, const char *source)
{
    int i = doc_find(id);

    for (int n = 0; i < 0 && n < DOCS; n++)
        if (!docs[n].live)
            i = n;
    assert_true(i >= 0);
    snprintf(docs[i].id, sizeof docs[0].id, "%s", id);
    snprintf(docs[i].source, sizeof docs[0].source, "%s", source);
    docs[i].live = true;
    return docs[i].seq_no = next_seq_no++;
}

static void doc_delete(const char *id)
{
    int i = doc_find(id);

    if (i >= 0)
        docs[i].live = false;
    next_seq_no++;
}

static const char *doc(const char *id)
{
    int i = doc_find(id);

    return i < 0 ? "absent" : docs[i].source;
}

/* ---- what tests do in between */

static struct {
    unsigned mget, bulk, bulk_done, read, keys;
    unsigned written; /* items that were applied */
} count;
/* Called before a step is carried out ("bulk_done": behind it, before its answer), with its number
 * from 1. */
static void (*hook)(const char *step, unsigned n);

enum fault { NO_FAULT, ANSWER, LOSE_ANSWER, NOT_REACHED, ENDLESS };
/* Instead of the usual: an answer, a lost answer, no connection. */
static enum fault (*fault)(const char *url, const char *step, unsigned n, int *status,
                           const char **body);
/* Instead of applying an item: its "status":…,"error":… */
static const char *(*item_fault)(const char *id, unsigned n);
static enum err_kind (*read_fault)(unsigned n);

static void at(const char *step, unsigned n)
{
    if (hook)
        hook(step, n);
}

/* ---- http */

struct http_client {
    int dummy;
};

struct http_client *http_client_new(const struct http_options *o, struct err *err)
{
    (void)o;
    (void)err;
    return xalloc(sizeof(struct http_client));
}

void http_client_free(struct http_client *c)
{
    free(c);
}

void http_client_trim(struct http_client *c)
{
    (void)c;
}

static struct buf answer;
static size_t largest_body;
static struct slice request_body;
static struct arena http_mem;

static void answer_mget(struct slice body, bool with_source)
{
    struct err err = {0};
    const struct json *root = json_parse(body, &http_mem, &err);
    const char *comma = "";

    assert_non_null(root);
    buf_add_str(&answer, "{\"docs\":[");
    json_each (id, json_get(root, "ids")) {
        int i = doc_find((const char *)id->text.p);
        buf_add_str(&answer, comma);
        comma = ",";
        buf_add_str(&answer, "{\"_index\":\"i\",\"_id\":");
        json_add_string(&answer, id->text);
        if (!index_exists)
            buf_add_str(&answer, ",\"error\":{\"type\":\"index_not_found_exception\",\"reason\":"
                                 "\"no such index\"}}");
        else if (i < 0)
            buf_add_str(&answer, ",\"found\":false}");
        else
            buf_printf(&answer, ",\"found\":true,\"_seq_no\":%" PRId64 ",\"_primary_term\":1%s%s}",
                       docs[i].seq_no, with_source ? ",\"_source\":" : "",
                       with_source ? docs[i].source : "");
    }
    buf_add_str(&answer, "]}");
}

static const struct json *bulk_line(struct slice *body, struct slice *text)
{
    struct err err = {0};
    const uint8_t *end = memchr(body->p, '\n', body->n);

    assert_non_null(end);
    *text = slice_of(body->p, (size_t)(end - body->p));
    *body = slice_of(end + 1, body->n - text->n - 1);
    const struct json *v = json_parse(*text, &http_mem, &err);
    assert_string_equal(err.text, "");
    return v;
}

static void apply_item(const struct json *meta, struct slice source)
{
    const char *op = (const char *)meta->key.p;
    const char *id = (const char *)json_get(meta, "_id")->text.p;
    const struct json *condition = json_get(meta, "if_seq_no");
    const char *instead = item_fault ? item_fault(id, count.bulk) : NULL;
    int i = doc_find(id);
    bool conflict =
        condition ? i < 0 || strtoll((const char *)condition->text.p, NULL, 10) != docs[i].seq_no
                  : i >= 0 && !strcmp(op, "create");
    char text[512];

    buf_printf(&answer, "{\"%s\":{\"_id\":\"%s\",", op, id);
    if (instead) {
        buf_printf(&answer, "%s}}", instead);
        return;
    }
    if (conflict) {
        buf_add_str(&answer, "\"status\":409,\"error\":{\"type\":\"version_conflict_engine_"
                             "exception\",\"reason\":\"x\"}}}");
        return;
    }
    count.written++;
    snprintf(text, sizeof text, "%.*s", (int)source.n, (const char *)source.p);
    int64_t seq_no = next_seq_no;
    if (!strcmp(op, "delete"))
        doc_delete(id);
    else
        seq_no = doc_put(id, text);
    buf_printf(&answer, "\"status\":%d,\"_seq_no\":%" PRId64 ",\"_primary_term\":1}}",
               i < 0 ? 201 : 200, seq_no);
}

static void answer_bulk(struct slice body)
{
    const char *comma = "";

    buf_add_str(&answer, "{\"errors\":false,\"items\":[");
    while (body.n) {
        struct slice text, source = SLICE_NULL;
        const struct json *meta = bulk_line(&body, &text)->first;
        if (!slice_is(meta->key, "delete"))
            bulk_line(&body, &source);
        buf_add_str(&answer, comma);
        comma = ",";
        apply_item(meta, source);
    }
    buf_add_str(&answer, "]}");
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    bool bulk = strstr(r->url, "/_bulk") != NULL;
    const char *step = bulk ? "bulk" : "mget", *body = "";
    unsigned n = bulk ? ++count.bulk : ++count.mget;
    int status = 200;

    (void)c;
    *out = (struct http_answer){.retry_after_ms = -1};
    request_body = r->body;
    at(step, n);
    enum fault f = fault ? fault(r->url, step, n, &status, &body) : NO_FAULT;
    *sent = f != NOT_REACHED;
    if (f == NOT_REACHED)
        return err_set(err, ERR_RETRY, "refused");
    buf_reset(&answer);
    arena_reset(&http_mem);
    if (f == ENDLESS && !bulk)
        return err_set(err, ERR_REJECT, "the answer is longer than 9 bytes");
    if (f == ANSWER)
        buf_add_str(&answer, body);
    else if (bulk)
        answer_bulk(r->body);
    else
        answer_mget(r->body, keeps_source && !strstr(r->url, "_source=false"));
    if (bulk)
        at("bulk_done", ++count.bulk_done);
    if (f == LOSE_ANSWER)
        return err_set(err, ERR_RETRY, "lost");
    if (f == ENDLESS)
        return err_set(err, ERR_REJECT, "the answer is longer than 9 bytes");
    out->status = status;
    out->body = buf_slice(&answer);
    return true;
}

/* ---- cql */

struct cql_session {
    int dummy;
};

struct cql_session *cql_session_open(struct cql_cluster *c, struct err *err)
{
    (void)c;
    (void)err;
    return xalloc(sizeof(struct cql_session));
}

void cql_session_free(struct cql_session *s)
{
    free(s);
}

void cql_session_trim(struct cql_session *s)
{
    (void)s;
}

static struct column column_list[4] = {{.name = {(const uint8_t *)"p", 1}, .type = &text_type},
                                       {.name = {(const uint8_t *)"c", 1}, .type = &text_type},
                                       {.name = {(const uint8_t *)"v", 1}, .type = &text_type},
                                       {.name = {(const uint8_t *)"w", 1}, .type = &text_type}};
static struct columns key_columns = {.count = 2, .list = column_list},
                      row_columns = {.count = 4, .list = column_list};
static struct ticket {
    struct buf bytes;
    struct cql_query q;
    struct slice values[2];
    bool open;
} tickets[TICKETS];
static unsigned page_rows_max = 1000;
static unsigned most_open;  /* tickets at the same time */
static unsigned cut_read;   /* number of the read whose last byte is missing */
static const char *large_w; /* instead of each row's w */

static void add_cell(struct buf *b, const char *text)
{
    buf_add_u32(b, (uint32_t)strlen(text));
    buf_add_str(b, text);
}

/* Rows from place `from` on of what the query asks for; the place behind them. */
static int select_rows(struct ticket *t, int from, unsigned most, struct page *page)
{
    bool whole = strstr(t->q.text, "\"v\"") != NULL;
    int i;

    *page = (struct page){.columns = whole ? &row_columns : &key_columns, .last = true};
    buf_reset(&t->bytes);
    for (i = from; i < ROWS; i++) {
        if (!rows[i].live || !slice_is(t->values[0], rows[i].p) ||
            (t->q.value_count == 2 && !slice_is(t->values[1], rows[i].c)))
            continue;
        if (page->row_count == most) {
            page->last = false;
            break;
        }
        add_cell(&t->bytes, rows[i].p);
        if (strcmp(rows[i].c, "static") != 0)
            add_cell(&t->bytes, rows[i].c);
        else
            buf_add_u32(&t->bytes, UINT32_MAX); /* null: a row of the partition's static columns */
        if (whole) {
            add_cell(&t->bytes, rows[i].v);
            add_cell(&t->bytes, large_w ? large_w : rows[i].w);
        }
        page->row_count++;
    }
    page->rows = buf_slice(&t->bytes);
    return i;
}

bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err)
{
    (void)s;
    (void)err;
    assert_true(q->has_token || strstr(q->text, "system.local"));
    for (cql_ticket i = 0; i < TICKETS; i++)
        if (!tickets[i].open) {
            tickets[i].open = true;
            unsigned open = 0;
            for (int other = 0; other < TICKETS; other++)
                open += tickets[other].open;
            most_open = open > most_open ? open : most_open;
            tickets[i].q = *q;
            for (uint16_t v = 0; v < q->value_count; v++)
                tickets[i].values[v] = q->values[v];
            *out = i;
            return true;
        }
    fail_msg("too many tickets");
    return false;
}

bool cql_take(struct cql_session *s, cql_ticket number, struct page *page, struct err *err)
{
    struct ticket *t = &tickets[number];
    bool whole = strstr(t->q.text, "\"v\"") != NULL;
    unsigned n = whole ? ++count.read : ++count.keys;
    enum err_kind f = read_fault ? read_fault(count.read + count.keys) : ERR_NONE;

    (void)s;
    at(whole ? "read" : "keys", n);
    if (f != ERR_NONE)
        return err_set(err, f, "no answer");
    select_rows(t, 0, page_rows_max, page);
    if (whole && n == cut_read)
        page->rows.n--;
    return true;
}

void cql_release(struct cql_session *s, cql_ticket number)
{
    (void)s;
    assert_true(tickets[number].open);
    tickets[number].open = false;
}

struct cql_pager {
    struct ticket t;
    int next;
    bool ended;
};

struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    struct cql_pager *p = xalloc(sizeof *p);

    (void)s;
    (void)err;
    p->t.q = *q;
    memcpy(p->t.values, q->values, q->value_count * sizeof *q->values);
    buf_init(&p->t.bytes, 1 << 20);
    return p;
}

void cql_pager_free(struct cql_pager *p)
{
    buf_fini(&p->t.bytes);
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
    (void)err;
    if (p->ended)
        return false;
    p->next = select_rows(&p->t, p->next, page_rows_max, page);
    p->ended = page->last;
    return true;
}

/* ---- the fixture */

static int64_t now_us, step_us;
static int64_t tick(void *ctx)
{
    (void)ctx;
    return now_us += step_us; /* waits pass quickly */
}
static struct clock test_clock = {.wall_us = tick, .mono_us = tick};
static struct mapping *mapping;
static struct schema *schema;
static struct plan *plan;
static struct keyed *keyed;
static struct arena ids_mem;
static struct keyed_result results[512];
static struct keyed_totals totals;
static int64_t budget_ms = 60000;
static bool bare; /* nothing is preserved */
static const char *id_template = "{p}-{c}";
static bool strict;
static size_t memory_bytes;
static struct err last;

static const char *const urls[] = {"http://one:9200", "http://two:9200/", NULL};

static int setup(void **state)
{
    static const struct test_column columns[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                                 {"c", &text_type, COLUMN_CLUSTERING},
                                                 {"v", &text_type, COLUMN_REGULAR},
                                                 {"w", &text_type, COLUMN_REGULAR}};
    static const struct plan *plans[2];
    static const struct elastic_options elastic = {
        .urls = urls, .clock = &test_clock, .body_bytes = 4096};
    struct err err = {0};

    (void)state;
    memset(rows, 0, sizeof rows);
    memset(docs, 0, sizeof docs);
    memset(&count, 0, sizeof count);
    hook = NULL;
    fault = NULL;
    item_fault = NULL;
    read_fault = NULL;
    page_rows_max = 1000;
    next_seq_no = 0;
    step_us = 500000;
    index_exists = keeps_source = true;
    large_w = NULL;
    buf_init(&answer, 16 << 20);
    arena_init(&http_mem, 16 << 20);
    arena_init(&ids_mem, 256 << 20);
    for (int i = 0; i < TICKETS; i++)
        buf_init(&tickets[i].bytes, 12 << 20);
    schema = test_schema("ks", "t", columns, 4);
    AUTO_STR char *text = xsprintf("object: thing\nsource: {table: t}\n"
                                   "target: {index: i, id: \"%s\"}\npreserve: [own, n]\n",
                                   id_template);
    mapping = mapping_parse(slice_str(text), "m.yaml", &err);
    if (bare)
        mapping->preserve.count = 0;
    plan = plan_compile(mapping, schema, &err);
    plans[0] = plan;
    assert_string_equal(err.text, "");
    struct keyed_options o = {.elastic = &elastic,
                              .plans = plans,
                              .clock = &test_clock,
                              .retry_budget_ms = budget_ms,
                              .strict_values = strict,
                              .memory_bytes = memory_bytes};
    keyed = keyed_open(&o, &err);
    assert_non_null(keyed);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    keyed_free(keyed);
    plan_free(plan);
    mapping_free(mapping);
    schema_free(schema);
    for (int i = 0; i < TICKETS; i++) {
        assert_false(tickets[i].open);
        buf_fini(&tickets[i].bytes);
    }
    buf_fini(&answer);
    arena_fini(&http_mem);
    arena_fini(&ids_mem);
    return 0;
}

static bool sync_ids(const char *text)
{
    struct err err = {0};

    arena_reset(&ids_mem);
    const struct json *ids = json_parse(slice_str(text), &ids_mem, &err);
    assert_non_null(ids);
    memset(&count, 0, sizeof count);
    totals = (struct keyed_totals){0};
    last = (struct err){0};
    bool ok = keyed_sync(keyed, "thing", ids, results, &last);
    keyed_totals_add(&totals, results, ids->count);
    assert_true(keyed_conserved(&totals));
    return ok;
}

static void expect_doc(const char *id, const char *source)
{
    struct err err = {0};

    if (!strcmp(source, "absent") || !strcmp(doc(id), "absent")) {
        assert_string_equal(doc(id), source);
        return;
    }
    arena_reset(&http_mem);
    if (!json_equal(json_parse(slice_str(doc(id)), &http_mem, &err),
                    json_parse(slice_str(source), &http_mem, &err)))
        fail_msg("%s\nis not\n%s", doc(id), source);
}

#define DOC(v)      "{\"p\":\"p\",\"c\":\"c\",\"v\":\"" v "\",\"w\":\"\"}"
#define OWN(v, own) "{\"p\":\"p\",\"c\":\"c\",\"v\":\"" v "\",\"w\":\"\",\"own\":" own "}"

/* ---- the usual */

static void creates_updates_leaves(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_true(results[0].ok);
    expect_doc("p-c", DOC("1"));
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.unchanged, 1);
    assert_true(results[0].ok);
    assert_int_equal(count.bulk, 0);
    row_put("p", "c", "2");
    assert_true(sync_ids("[{\"P\":\"p\",\"c\":\"c\"}]")); /* a whole key: no query for keys, no
                                                             check after an update */
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(count.keys, 0);
    assert_int_equal(count.read, 1);
    expect_doc("p-c", DOC("2"));
}

static void preserved_fields_survive(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", "{\"p\":\"p\",\"v\":\"1\",\"n\":1.50,\"own\":{\"big\":12345678901234567890123},"
                   "\"other\":1,\"c\":\"c\"}");
    assert_true(sync_ids("[\"p\"]"));
    /* digit for digit; what is not to be preserved goes; our own fields are never the old ones */
    assert_string_equal(doc("p-c"), "{\"p\":\"p\",\"c\":\"c\",\"v\":\"2\",\"w\":\"\",\"n\":1.50,"
                                    "\"own\":{\"big\":12345678901234567890123}}");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.unchanged, 1);
}

/* ---- other writers */

static void write_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_put("p", "c", "3");
        doc_put("p-c", OWN("3", "7"));
    }
}

static void co_writer_updates(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", OWN("1", "6"));
    hook = write_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("3", "7"));
    assert_int_equal(count.written, 0);
    assert_int_equal(results[0].counts.unchanged, 1);
}

static void co_writer_creates(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    hook = write_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("3", "7"));
    assert_int_equal(results[0].counts.unchanged, 1);
}

static void own_field_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1)
        doc_put("p-c", OWN("1", "9"));
}

static void co_writers_own_field_and_our_content(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", OWN("1", "8"));
    hook = own_field_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("2", "9"));
    assert_int_equal(results[0].counts.indexed, 1);
}

static void write_at_first_mget(const char *step, unsigned n)
{
    if (!strcmp(step, "mget") && n == 1) {
        row_put("p", "c", "3");
        doc_put("p-c", OWN("3", "7"));
    }
}

/* Were the row read before the look, the old row would be written under the new condition. */
static void row_is_read_after_the_look(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    hook = write_at_first_mget;
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c\"}]"));
    expect_doc("p-c", OWN("3", "7"));
}

static void write_at_first_read(const char *step, unsigned n)
{
    if (!strcmp(step, "read") && n == 1) {
        row_put("p", "c", "3");
        doc_put("p-c", OWN("3", "7"));
    }
}

static void written_between_look_and_read(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    hook = write_at_first_read;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("3", "7"));
}

static void delete_both_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        row_delete("p", "c");
        doc_delete("p-c");
    }
}

static void row_deleted_before_create(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    hook = delete_both_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent"); /* created, looked at again, deleted on condition */
    assert_int_equal(results[0].outcome, KEYED_MISSING);
    assert_int_equal(results[0].counts.gone, 1);
    assert_int_equal(results[0].counts.rows, 0);
}

static void row_and_document_deleted_before_update(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    hook = delete_both_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent");
    assert_int_equal(results[0].outcome, KEYED_MISSING);
}

static void delete_doc_before_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1)
        doc_delete("p-c");
}

static void only_the_document_is_deleted(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", OWN("1", "1"));
    hook = delete_doc_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("2"));
    assert_int_equal(results[0].counts.indexed, 1);
}

static void rewritten_after_our_create(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1)
        row_delete("p", "c");
    if (!strcmp(step, "bulk_done") && n == 1)
        doc_put("p-c", OWN("9", "1"));
}

/* Our delete is for our own document only. */
static void foreign_document_is_not_deleted(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    hook = rewritten_after_our_create;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("9", "1"));
    assert_int_equal(results[0].outcome, KEYED_MISSING);
    assert_string_equal(results[0].reason, "missing");
}

static void missing_rows_are_reported(void **state)
{
    (void)state;
    doc_put("p-c", DOC("1"));
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c\"},\"q\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(totals.missing, 2);
    assert_false(results[0].ok);
}

static void row_appears_at_second_read(const char *step, unsigned n)
{
    if (!strcmp(step, "mget") && n == 1)
        row_put("p", "c", "5");
}

static void row_comes_back(void **state)
{
    (void)state;
    hook = row_appears_at_second_read;
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c\"}]"));
    expect_doc("p-c", DOC("5"));
    assert_int_equal(results[0].counts.indexed, 1);
}

static void delete_row_at_mget(const char *step, unsigned n)
{
    if (!strcmp(step, "mget") && n == 1)
        row_delete("p", "c");
}

static void key_of_the_first_look_only(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "1");
    hook = delete_row_at_mget;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent");
    assert_int_equal(results[0].counts.gone, 1);
    assert_int_equal(results[0].counts.indexed, 1);
    assert_true(results[0].ok);
}

static void write_before_each_bulk(const char *step, unsigned n)
{
    char source[128];

    if (strcmp(step, "bulk") != 0)
        return;
    snprintf(source, sizeof source, OWN("1", "%u"), n);
    doc_put("p-c", source);
}

static void contended(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    row_put("p", "d", "2");
    doc_put("p-c", DOC("1"));
    hook = write_before_each_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("1", "6"));
    assert_int_equal(count.bulk, 6);
    assert_int_equal(results[0].counts.failed, 1);
    assert_int_equal(results[0].counts.contended, 1);
    assert_int_equal(results[0].counts.indexed, 1);
    assert_string_equal(results[0].reason, "contended");
    assert_false(results[0].ok);
}

/* ---- lost answers and refusals */

static enum fault lose_first_bulk(const char *url, const char *step, unsigned n, int *status,
                                  const char **body)
{
    (void)url;
    (void)status;
    (void)body;
    return !strcmp(step, "bulk") && n == 1 ? LOSE_ANSWER : NO_FAULT;
}

static void new_row_after_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_put("p", "c", "newer");
}

static void lost_answer_reads_again(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    fault = lose_first_bulk;
    hook = new_row_after_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("newer"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(results[0].counts.documents, 1);
}

static void delete_row_after_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
}

static void lost_create_leaves_no_orphan(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = lose_first_bulk;
    hook = delete_row_after_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent");
    assert_int_equal(results[0].outcome, KEYED_MISSING);
}

static const char *overloaded_twice(const char *id, unsigned n)
{
    (void)id;
    return n <= 2 ? "\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\","
                    "\"reason\":\"full\"}"
                  : NULL;
}

static void overload_passes(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    item_fault = overloaded_twice;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(count.bulk, 3);
    assert_int_equal(results[0].counts.indexed, 1);
}

static const char *always_overloaded(const char *id, unsigned n)
{
    (void)id;
    (void)n;
    return "\"status\":503,\"error\":{\"type\":\"unavailable_shards_exception\",\"reason\":"
           "\"gone\"}";
}

static void budget_ends(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    item_fault = always_overloaded;
    step_us = 10000000;
    assert_false(sync_ids("[\"p\",7]"));
    assert_int_equal(last.kind, ERR_REACH);
    assert_non_null(strstr(last.text, "unavailable_shards_exception"));
    assert_int_equal(results[0].outcome, KEYED_OPEN);
    assert_int_equal(totals.open, 1);
    assert_int_equal(results[1].outcome, KEYED_BAD);
}

static const char *rejects_c(const char *id, unsigned n)
{
    (void)n;
    return strcmp(id, "p-c") ? NULL
                             : "\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\","
                               "\"reason\":\"no date\"}";
}

static void rejected_document(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "1");
    item_fault = rejects_c;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.failed, 1);
    assert_int_equal(results[0].counts.indexed, 1);
    assert_string_equal(results[0].reason, "mapper_parsing_exception");
    assert_string_equal(results[0].text, "no date");
    assert_false(results[0].ok);
}

static enum fault items_missing(const char *url, const char *step, unsigned n, int *status,
                                const char **body)
{
    (void)url;
    (void)status;
    *body = "{\"took\":1,\"errors\":false,\"items\":[]}";
    return !strcmp(step, "bulk") && n == 1 ? ANSWER : NO_FAULT;
}

static void silence_is_no_success(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = items_missing;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(count.bulk, 2);
    assert_int_equal(results[0].counts.indexed, 1);
}

/* A line that makes the server refuse the whole body. */
static enum fault refuse_seven(const char *url, const char *step, unsigned n, int *status,
                               const char **body)
{
    (void)url;
    (void)n;
    if (strcmp(step, "bulk") != 0 || !memmem(request_body.p, request_body.n, "p-c7\"", 5))
        return NO_FAULT;
    *status = 400;
    *body = "{\"error\":{\"type\":\"illegal_argument_exception\",\"reason\":\"bad line\"},"
            "\"status\":400}";
    return ANSWER;
}

static void bad_line_is_found(void **state)
{
    char c[16];

    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(c, sizeof c, "c%d", i);
        row_put("p", c, "1");
    }
    fault = refuse_seven;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 39);
    assert_int_equal(results[0].counts.failed, 1);
    assert_string_equal(results[0].reason, "illegal_argument_exception");
    assert_true(count.bulk < 20);
}

/* A proxy's limit. */
static enum fault refuse_large(const char *url, const char *step, unsigned n, int *status,
                               const char **body)
{
    (void)url;
    (void)n;
    (void)body;
    *status = 413;
    if (strcmp(step, "bulk") != 0 || request_body.n < 500) {
        *status = 200;
        return NO_FAULT;
    }
    return ANSWER;
}

static void body_is_halved(void **state)
{
    char c[16];

    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(c, sizeof c, "c%d", i);
        row_put("p", c, "1");
    }
    fault = refuse_large;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 40);
    assert_true(count.bulk > 5);
}

static const char *root_body, *nodes_body, *settings_body;
static enum fault who_is_there(const char *url, const char *step, unsigned n, int *status,
                               const char **body)
{
    (void)step;
    (void)n;
    *body = strstr(url, "/_nodes/")     ? nodes_body
            : strstr(url, "/_settings") ? settings_body
                                        : root_body;
    *status = *body ? 200 : 404;
    *body = *body ? *body : "{\"error\":\"x\"}";
    return ANSWER;
}

static void checks(void **state)
{
    static const char seven[] = "{\"version\":{\"number\":\"7.17.28\"},\"tagline\":\"x\"}";
    static const char one[] = "{\"i-1\":{\"settings\":{\"index\":{\"uuid\":\"u\"}}}}";
    static const struct {
        const char *root, *nodes, *settings, *error; /* NULL: 404; error NULL: fine */
    } cases[] = {
        {seven, NULL, one, NULL},
        {"{\"version\":{\"number\":\"2.19.1\",\"distribution\":\"opensearch\"}}", NULL, one, NULL},
        {NULL, "{\"nodes\":{\"a\":{\"version\":\"8.19.0\"}}}", one, NULL},
        {NULL, NULL, one, NULL},
        {"{\"version\":{\"number\":\"6.8.23\"}}", NULL, one, NULL},
        {"{\"version\":{\"number\":\"6.7.2\"}}", NULL, one,
         "http://one:9200 is Elasticsearch 6.7.2, which is not supported; Elasticsearch 6.8, 7 and "
         "8 are, and OpenSearch 2 and 3"},
        {"<html>", NULL, one, "http://one:9200 is not Elasticsearch or OpenSearch"},
        {"[]", NULL, one, "http://one:9200 is not Elasticsearch or OpenSearch"},
        {seven, NULL, NULL,
         "there is no index or alias \"i\" on http://one:9200; it is never created silently. "
         "Create it with its "
         "mapping first: curl -X PUT http://one:9200/i -H 'Content-Type: application/json' -d "
         "@DEFINITION.json"},
        {seven, NULL, "{\"a\":{},\"b\":{}}",
         "alias \"i\" stands for 2 indices; documents are written to an alias of one"},
    };

    (void)state;
    fault = who_is_there;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        root_body = cases[i].root;
        nodes_body = cases[i].nodes;
        settings_body = cases[i].settings;
        bool ok = keyed_check(keyed, &err);
        assert_string_equal(err.text, cases[i].error ? cases[i].error : "");
        assert_int_equal(ok, !cases[i].error);
        assert_int_equal(err.kind, ok ? ERR_NONE : ERR_USER);
    }
}

static enum fault first_node_is_away(const char *url, const char *step, unsigned n, int *status,
                                     const char **body)
{
    (void)step;
    (void)n;
    (void)status;
    (void)body;
    return strstr(url, "//one") ? NOT_REACHED : NO_FAULT;
}

static void another_node(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = first_node_is_away;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(count.mget, 2); /* once in vain */
    assert_int_equal(count.bulk, 1);
}

static enum fault first_node_is_ill(const char *url, const char *step, unsigned n, int *status,
                                    const char **body)
{
    (void)step;
    (void)n;
    if (!strstr(url, "//one"))
        return NO_FAULT;
    *status = 503;
    *body = "";
    return ANSWER;
}

static void ill_node_is_left_at_once(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = first_node_is_ill;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(count.mget, 2);
    assert_int_equal(count.bulk, 1);
}

static void newer_row_at_first_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1)
        row_put("p", "c", "newer");
}

static enum fault first_bulk_is_answered_503(const char *url, const char *step, unsigned n,
                                             int *status, const char **body)
{
    (void)url;
    if (strcmp(step, "bulk") != 0 || n != 1)
        return NO_FAULT;
    *status = 503;
    *body = "";
    return ANSWER;
}

/* What may have had an effect is no body for another node: the row is read again first. */
static void body_is_not_sent_to_another_node(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    hook = newer_row_at_first_bulk;
    fault = first_bulk_is_answered_503;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("newer"));
    assert_int_equal(count.mget, 2);
    assert_int_equal(count.bulk, 2);
}

static enum fault first_bulk_is_not_reached(const char *url, const char *step, unsigned n,
                                            int *status, const char **body)
{
    (void)url;
    (void)status;
    (void)body;
    return !strcmp(step, "bulk") && n == 1 ? NOT_REACHED : NO_FAULT;
}

static void unsent_body_goes_to_another_node(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    fault = first_bulk_is_not_reached;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("2"));
    assert_int_equal(count.mget, 1);
    assert_int_equal(count.bulk, 2);
}

static enum fault forbidden(const char *url, const char *step, unsigned n, int *status,
                            const char **body)
{
    (void)url;
    (void)step;
    (void)n;
    *status = 403;
    *body = "{\"error\":{\"type\":\"security_exception\",\"reason\":\"no rights\"}}";
    return ANSWER;
}

static void stops(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    index_exists = false;
    assert_false(sync_ids("[\"p\"]"));
    assert_int_equal(last.kind, ERR_USER);
    assert_non_null(strstr(last.text, "there is no index or alias \"i\""));
    assert_non_null(strstr(last.text, "curl -X PUT http://one:9200/i"));
    assert_int_equal(count.bulk, 0);
    fault = forbidden;
    assert_false(sync_ids("[\"p\"]"));
    assert_int_equal(last.kind, ERR_REACH);
    assert_string_equal(
        last.text,
        "thing: _mget of i: http://one:9200 answered 403: security_exception: no rights");
}

static enum err_kind third_read_times_out(unsigned n)
{
    return n == 3 ? ERR_RETRY : ERR_NONE;
}

static enum err_kind second_read_fails(unsigned n)
{
    return n == 2 ? ERR_REJECT : ERR_NONE;
}

static enum err_kind first_read_fails(unsigned n)
{
    return n == 1 ? ERR_REJECT : ERR_NONE;
}

static void cassandra_faults(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char c[16];
        snprintf(c, sizeof c, "c%d", i);
        row_put("p", c, "1");
    }
    read_fault = third_read_times_out;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 5);
    read_fault = second_read_fails;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.unchanged, 4);
    assert_int_equal(results[0].counts.failed, 1);
    assert_string_equal(results[0].reason, "read_failed");
    read_fault = first_read_fails;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.failed, 1);
    assert_false(results[0].ok);
}

/* ---- what a first reading missed */

static void row_goes_then_comes_back(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
    if (!strcmp(step, "bulk_done") && n == 2)
        row_put("p", "c", "9");
}

static enum fault lose_second_bulk(const char *url, const char *step, unsigned n, int *status,
                                   const char **body)
{
    (void)url;
    (void)status;
    (void)body;
    return !strcmp(step, "bulk") && n == 2 ? LOSE_ANSWER : NO_FAULT;
}

/* The delete of what we created was carried out, its answer lost; then the row is back. */
static void row_comes_back_after_a_lost_delete(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    hook = row_goes_then_comes_back;
    fault = lose_second_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("9"));
    assert_int_equal(results[0].counts.indexed, 1);
}

static void row_goes_for_good(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
}

static enum fault second_bulk_never_arrives(const char *url, const char *step, unsigned n,
                                            int *status, const char **body)
{
    (void)url;
    if (strcmp(step, "bulk") != 0 || n != 2)
        return NO_FAULT;
    *status = 503;
    *body = "";
    return ANSWER;
}

static void delete_is_tried_again(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    hook = row_goes_for_good;
    fault = second_bulk_never_arrives;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent");
    assert_int_equal(results[0].outcome, KEYED_MISSING);
}

static void create_is_done_all_the_same(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk") && n == 1) {
        doc_put("p-c", DOC("1"));
        row_delete("p", "c");
    }
}

static const char *item_503_once(const char *id, unsigned n)
{
    (void)id;
    return n == 1 ? "\"status\":503,\"error\":{\"type\":\"unavailable_shards_exception\","
                    "\"reason\":\"time-out\"}"
                  : NULL;
}

/* A single item's 503 says as little about what was done as one for the whole. */
static void item_of_unknown_outcome_leaves_no_orphan(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    hook = create_is_done_all_the_same;
    item_fault = item_503_once;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent");
}

static enum fault endless_bulk_answer(const char *url, const char *step, unsigned n, int *status,
                                      const char **body)
{
    (void)url;
    (void)status;
    (void)body;
    return !strcmp(step, "bulk") && n == 1 ? ENDLESS : NO_FAULT;
}

static void endless_answer_is_an_unknown_outcome(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = endless_bulk_answer;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(count.bulk, 1); /* the second look finds it as it should be */
}

static enum fault endless_root(const char *url, const char *step, unsigned n, int *status,
                               const char **body)
{
    (void)url;
    (void)step;
    (void)n;
    (void)status;
    (void)body;
    return ENDLESS;
}

static enum err_kind no_read(unsigned n)
{
    (void)n;
    return ERR_RETRY;
}

static void checks_that_fail_leave_nothing_open(void **state)
{
    struct err err = {0};

    (void)state;
    fault = endless_root;
    assert_false(keyed_check(keyed, &err));
    assert_int_equal(err.kind, ERR_USER);
    read_fault = no_read;
    err_clear(&err);
    assert_false(keyed_check(keyed, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    for (int i = 0; i < TICKETS; i++)
        assert_false(tickets[i].open);
}

static void unreadable(const char *own)
{
    char text[256];

    row_put("p", "b", "2");
    row_put("p", "c", "2");
    row_put("p", "d", "2");
    doc_put("p-b", "{\"p\":\"p\"}");
    snprintf(text, sizeof text, "{\"p\":\"p\",\"own\":%s}", own);
    doc_put("p-c", text);
    doc_put("p-d", "{\"p\":\"p\"}");
}

/* Others may store what can't be taken over faithfully. Only that document fails. */
static void unreadable_document_fails_alone(void **state)
{
    (void)state;
    unreadable("\"\\ud800\"");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 2);
    assert_int_equal(results[0].counts.failed, 1);
    assert_string_equal(results[0].reason, "stored_unreadable");
    expect_doc("p-d", "{\"p\":\"p\",\"c\":\"d\",\"v\":\"2\",\"w\":\"\"}");
    assert_string_equal(doc("p-c"), "{\"p\":\"p\",\"own\":\"\\ud800\"}");
}

/* Where nothing is taken over, it is written anew. */
static void unreadable_document_is_replaced(void **state)
{
    (void)state;
    unreadable("\"\\ud800\"");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 3);
    expect_doc("p-c", DOC("2"));
}

/* A proxy that refuses one document does not make bodies larger. */
static enum fault refuse_very_large(const char *url, const char *step, unsigned n, int *status,
                                    const char **body)
{
    (void)url;
    (void)n;
    (void)body;
    if (strcmp(step, "bulk") != 0)
        return NO_FAULT;
    largest_body = request_body.n > largest_body ? request_body.n : largest_body;
    if (!memmem(request_body.p, request_body.n, "p-c0\"", 5))
        return NO_FAULT;
    *status = 413;
    return ANSWER;
}

static void refused_document_makes_bodies_no_larger(void **state)
{
    char c[16];

    (void)state;
    for (int i = 0; i < 200; i++) {
        snprintf(c, sizeof c, "c%d", i);
        row_put("p", c, "0123456789012345678901234567890123456789");
    }
    fault = refuse_very_large;
    largest_body = 0;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 199);
    assert_string_equal(results[0].reason, "document_too_large");
    assert_true(largest_body <= 4096);
}

static void table_that_changed_is_seen(void **state)
{

    (void)state;
    row_put("p", "c", "1");
    const struct type *was = row_columns.list[2].type;
    row_columns.list[2].type = &int_type;
    bool ok = sync_ids("[\"p\"]");
    row_columns.list[2].type = was;
    assert_false(ok);
    assert_int_equal(last.kind, ERR_USER);
    assert_string_equal(last.text, "thing: table ks.t changed; start again");
    assert_int_equal(count.bulk, 0);
}

/* One element may ask for thousands of keys; what they need is given back when they are done. */
static void many_wide_elements(void **state)
{
    struct buf ids;

    (void)state;
    row_put("p", "c", "1");
    buf_init(&ids, 64 << 20);
    buf_add_byte(&ids, '[');
    for (int n = 0; n < 60; n++) {
        buf_printf(&ids, "%s{\"p\":\"p%d\",\"c\":[\"c\"", n ? "," : "", n);
        for (int i = 0; i < 400; i++)
            buf_printf(&ids, ",\"%060d\"", i);
        buf_add_str(&ids, "]}");
    }
    buf_add_str(&ids, ",\"p\"]");
    assert_true(sync_ids(buf_cstr(&ids)));
    assert_int_equal(totals.missing, 60);
    assert_int_equal(results[60].counts.indexed, 1);
    buf_fini(&ids);
}

static const char *c_has_an_error(const char *id, unsigned n)
{
    (void)n;
    return strcmp(id, "p-c") ? NULL
                             : "\"status\":500,\"error\":{\"type\":\"odd\",\"reason\":\"bug\"}";
}

static void row_is_back_before_our_delete(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
    if (!strcmp(step, "bulk") && n == 2)
        row_put("p", "c", "1");
}

/* Another worker may have seen the row again, and the document as it should be, just before we
 * delete it. */
static void row_comes_back_before_our_delete(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    hook = row_is_back_before_our_delete;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(results[0].counts.gone, 0);
}

static enum err_kind second_read_is_refused(unsigned n)
{
    return n == 2 ? ERR_USER : ERR_NONE;
}

static void fatal_read_ends_the_call(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "1");
    read_fault = second_read_is_refused;
    assert_false(sync_ids("[\"p\"]"));
    assert_int_equal(last.kind, ERR_USER);
    assert_string_equal(last.text, "thing: no answer");
    assert_int_equal(totals.open, 1);
    assert_int_equal(count.bulk, 0);
}

/* An answer with bytes missing is asked for again, and only that. */
static void cut_rows_are_read_again(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "1");
    cut_read = 2;
    assert_true(sync_ids("[\"p\"]"));
    cut_read = 0;
    assert_int_equal(results[0].counts.indexed, 2);
    assert_int_equal(results[0].counts.documents, 2);
    assert_int_equal(count.read, 3);
}

static void partition_gets_a_row(const char *step, unsigned n)
{
    if (!strcmp(step, "mget") && n == 1) {
        row_delete("p", "static");
        row_put("p", "c", "1");
    }
}

static void partition_gets_a_row_after_the_create(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1) {
        row_delete("p", "static");
        row_put("p", "c", "1");
    }
}

static void partition_with_static_columns_only(void **state)
{
    (void)state;
    row_put("p", "static", "1");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
    expect_doc("p",
               "{\"p\":\"p\",\"c\":null,\"v\":\"1\",\"w\":\"\"}"); /* its id is the partition key */
    hook = partition_gets_a_row;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.gone, 1);
    assert_int_equal(count.written, 0);
}

static void partition_that_gets_a_row_after_our_create(void **state)
{
    (void)state;
    row_put("p", "static", "1");
    hook = partition_gets_a_row_after_the_create;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.gone, 1);
    expect_doc("p", "absent");
}

/* Any other 5xx may be the document's fault: it does not hold up the call for ever. */
static void lasting_error_fails_alone(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "1");
    item_fault = c_has_an_error;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(results[0].counts.failed, 1);
    assert_string_equal(results[0].reason, "odd");
    assert_int_equal(count.bulk, 6);
}

/* Stored documents that together are more than the memory for them are looked at in turns. */
static void large_stored_documents(void **state)
{
    char c[16], text[500];

    (void)state;
    for (int i = 0; i < 120; i++) {
        snprintf(c, sizeof c, "p-c%d", i);
        row_put("p", c + 2, "1");
        size_t len = (size_t)snprintf(text, sizeof text, "{\"own\":[0");
        for (int n = 0; n < 200; n++)
            len += (size_t)snprintf(text + len, sizeof text - len, ",%d", n % 10);
        snprintf(text + len, sizeof text - len, "]}");
        doc_put(c, text);
    }
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 120);
    assert_int_equal(count.written, 120);
    assert_int_equal(count.read, 120); /* none without a look before */
    assert_non_null(strstr(doc("p-c119"), "\"v\":\"1\",\"w\":\"\",\"own\":[0,0,1,2"));
}

static enum fault long_answers_cut_off(const char *url, const char *step, unsigned n, int *status,
                                       const char **body)
{
    static char text[20000];

    (void)url;
    (void)status;
    if (strcmp(step, "mget") != 0 || n > 4)
        return NO_FAULT;
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 2 ? '1' : i ? ',' : '[';
    *body = text;
    return ANSWER;
}

/* Tries that failed leave no memory taken. */
static void cut_off_answers_take_no_memory(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = long_answers_cut_off;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
}

static void index_without_source(void **state)
{
    (void)state;
    keeps_source = false;
    row_put("p", "c", "1");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_true(sync_ids("[\"p\"]"));
    assert_string_equal(results[0].reason, "no_source"); /* what is preserved can't be known */
    assert_int_equal(results[0].counts.failed, 1);
}

static void index_without_source_written_anew(void **state)
{
    (void)state;
    keeps_source = false;
    row_put("p", "c", "1");
    doc_put("p-c", DOC("1"));
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
}

static void altered_value_is_counted(void **state)
{
    (void)state;
    row_put("p", "c", "\xff");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.altered, 1);
    assert_int_equal(results[0].counts.indexed, 1);
}

static void altered_value_fails_when_strict(void **state)
{
    (void)state;
    row_put("p", "c", "\xff");
    assert_true(sync_ids("[\"p\"]"));
    assert_string_equal(results[0].reason, "altered_value");
    assert_int_equal(results[0].counts.altered, 0);
    expect_doc("p-c", "absent");
}

static void rewritten_before_our_delete(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
    if (!strcmp(step, "bulk") && n == 2)
        doc_put("p-c", DOC("1"));
}

/* The same content, but somebody else's write by now. */
static void equal_document_of_another_is_not_deleted(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = lose_first_bulk;
    hook = rewritten_before_our_delete;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(count.written, 1); /* our create */
}

static char changing_w[300001];
static void w_changes(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk"))
        changing_w[0] = (char)('a' + n % 26);
}

static enum fault bulks_end_in_503(const char *url, const char *step, unsigned n, int *status,
                                   const char **body)
{
    (void)url;
    if (strcmp(step, "bulk") != 0 || n > 20)
        return NO_FAULT;
    *status = 503;
    *body = "";
    return ANSWER;
}

/* What can't be remembered can't be told from others' documents later. */
static void too_many_unknown_outcomes(void **state)
{
    (void)state;
    memset(changing_w, 'w', sizeof changing_w - 1);
    large_w = changing_w;
    row_put("p", "c", "1");
    hook = w_changes;
    fault = bulks_end_in_503;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.failed, 1);
    assert_string_equal(results[0].reason, "outcome_unknown");
}

/* Answers that wait together are bounded by their bytes, once it is known how large rows are. */
static void large_rows_are_read_a_few_at_a_time(void **state)
{
    AUTO_STR char *w = xalloc((1 << 20) + 1);
    AUTO_STR char *nine = xalloc((9 << 20) + 1);
    char c[16];

    (void)state;
    memset(w, 'w', 1 << 20);
    memset(nine, 'n', 9 << 20);
    large_w = w;
    for (int i = 0; i < 40; i++) {
        snprintf(c, sizeof c, "c%d", i);
        row_put("p", c, "1");
    }
    most_open = 0;
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]")); /* filtered: nothing is written */
    assert_int_equal(results[0].counts.filtered, 40);
    assert_true(most_open <= 16);
    most_open = 0;
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]"));
    assert_int_equal(results[0].counts.filtered, 40);
    assert_in_range(most_open, 4, 8);
    large_w = nine;
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c1\",\"v\":\"2\"}]"));
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c1\",\"v\":\"2\"}]"));
    assert_int_equal(results[0].counts.filtered, 1); /* more than there is room for: one by one */
    large_w = NULL;
    for (int i = 0; i < 20; i++)
        assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]"));
    most_open = 0;
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]"));
    assert_int_equal(most_open, 40); /* small again: all at once */
}

static void document_larger_than_the_memory(void **state)
{
    AUTO_STR char *w = xalloc((1 << 20) + 1);

    (void)state;
    memset(w, 'w', 1 << 20);
    large_w = w;
    row_put("p", "c", "1");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.failed, 1);
    assert_string_equal(results[0].reason, "document_too_large");
    large_w = NULL;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 1);
}

/* As many as the queue takes, in one call, strings and objects. */
static void a_hundred_thousand_ids(void **state)
{
    enum { MANY = 100000 };
    struct keyed_result *many = xalloc(MANY * sizeof *many);
    struct err err = {0};
    struct buf ids;

    (void)state;
    row_put("p77", "c", "1");
    buf_init(&ids, 64 << 20);
    for (int i = 0; i < MANY; i++)
        buf_printf(&ids, i % 2 ? "%c\"p%d\"" : "%c{\"p\":\"p%d\",\"c\":\"c\"}", i ? ',' : '[', i);
    buf_add_byte(&ids, ']');
    const struct json *list = json_parse(buf_slice(&ids), &ids_mem, &err);
    assert_non_null(list);
    struct mallinfo2 before = mallinfo2();
    assert_true(keyed_sync(keyed, "thing", list, many, &err));
    struct mallinfo2 after = mallinfo2();
    size_t grown = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
    if (grown > 24 << 20)
        fail_msg("%zu bytes are kept", grown);
    totals = (struct keyed_totals){0};
    keyed_totals_add(&totals, many, MANY);
    assert_true(keyed_conserved(&totals));
    assert_int_equal(totals.found, 1);
    assert_int_equal(totals.missing, MANY - 1);
    buf_fini(&ids);
    free(many);
}

/* ---- elements */

static void elements_are_conserved(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "2");
    row_put("q", "c", "3");
    assert_true(sync_ids("[\"p\",\"p\",7,{\"p\":\"p\",\"c\":\"c\"},\"none\",{\"p\":[\"q\",\"p\"],"
                         "\"v\":[\"2\",\"3\"]},{\"c\":\"c\"},"
                         "{\"p\":\"q\",\"v\":\"zzz\"},\"\"]"));
    assert_int_equal(totals.ids, 9);
    /* the whole key comes before the look-ups: it owns the document */
    assert_int_equal(results[0].counts.documents, 1);
    assert_int_equal(results[0].counts.merged, 1);
    assert_int_equal(results[1].outcome, KEYED_DUPLICATE);
    assert_int_equal(results[1].of, 0);
    assert_true(results[1].ok);
    assert_string_equal(results[2].reason, "bad_id");
    assert_int_equal(results[3].counts.documents, 1);
    assert_true(results[3].ok);
    assert_int_equal(results[4].outcome, KEYED_MISSING);
    /* with conditions: read by itself, also where it is another element's document */
    assert_int_equal(results[5].counts.rows, 3);
    assert_int_equal(results[5].counts.filtered, 1);
    assert_int_equal(results[5].counts.documents, 2);
    assert_int_equal(results[5].counts.merged, 0);
    assert_true(results[5].ok);
    assert_string_equal(results[6].reason, "no_partition_key");
    assert_int_equal(results[7].outcome, KEYED_MISSING);
    assert_int_equal(results[7].counts.filtered, 1);
    assert_string_equal(results[8].reason, "empty_id");
    assert_int_equal(totals.duplicate, 1);
    assert_int_equal(totals.bad, 3);
    assert_int_equal(totals.missing, 2);
    assert_int_equal(totals.found, 3);
    assert_int_equal(next_seq_no, 3);
}

/* A row that one element's condition leaves out is still the next one's. */
static void filtered_row_is_not_lost(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"},\"p\"]"));
    assert_int_equal(results[0].counts.filtered, 1);
    assert_int_equal(results[1].counts.indexed, 1);
    expect_doc("p-c", DOC("1"));
}

static void failure_is_shared(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    item_fault = rejects_c;
    assert_true(sync_ids("[\"p\",{\"p\":\"p\",\"c\":\"c\"}]"));
    assert_int_equal(results[1].counts.failed, 1);
    assert_int_equal(results[0].counts.merged, 1);
    assert_false(results[0].ok);
    assert_false(results[1].ok);
    assert_string_equal(results[0].reason, "shared_failed");
}

static void large_partition(void **state)
{
    (void)state;
    for (int i = 0; i < 350; i++) {
        char c[16];
        snprintf(c, sizeof c, "c%d", i);
        row_put("p", c, "1");
    }
    page_rows_max = 100;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.indexed, 350);
    assert_int_equal(next_seq_no, 350);
}

static void unknown_type(void **state)
{
    struct err err = {0};

    (void)state;
    arena_reset(&ids_mem);
    assert_false(
        keyed_sync(keyed, "Thing", json_parse(slice_str("[]"), &ids_mem, &err), results, &err));
    assert_string_equal(err.text, "no mapping for object type \"Thing\"");
    assert_true(sync_ids("[]"));
    assert_int_equal(count.mget, 0);
}

/* ---- many runs with whatever comes: other writers between any two steps, and faults of both
 * stores
 */

enum { KEYS = 9, RUNS = 1500 };

static uint64_t random_state;
static unsigned below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

/* What the other writer has begun and not finished, as Sunbird's services do: the row first, then,
 * later and without condition, its document. */
static struct {
    char p[16], c[16], id[40];
    enum { NOTHING, WRITES, DELETES } pending;
    unsigned own; /* last value of its own field; 0: none */
} keys[KEYS];
static unsigned next_own;

static const char *row_value(int key)
{
    for (int i = 0; i < ROWS; i++)
        if (rows[i].live && !strcmp(rows[i].p, keys[key].p) && !strcmp(rows[i].c, keys[key].c))
            return rows[i].v;
    return NULL;
}

static void put_with_own(int key, const char *v)
{
    char text[128];

    keys[key].own = ++next_own;
    snprintf(text, sizeof text, "{\"p\":\"%s\",\"c\":\"%s\",\"v\":\"%s\",\"w\":\"\",\"own\":%u}",
             keys[key].p, keys[key].c, v, keys[key].own);
    doc_put(keys[key].id, text);
}

static void finish_pending(int key)
{
    if (keys[key].pending == WRITES)
        put_with_own(key, row_value(key));
    if (keys[key].pending == DELETES) {
        doc_delete(keys[key].id);
        keys[key].own = 0;
    }
    keys[key].pending = NOTHING;
}

static void other_writer(int key)
{
    char v[8];

    if (keys[key].pending != NOTHING) {
        finish_pending(key);
        return;
    }
    snprintf(v, sizeof v, "%u", below(4));
    if (below(3) == 0) {
        row_delete(keys[key].p, keys[key].c);
        keys[key].pending = DELETES;
    } else if (row_value(key) && doc_find(keys[key].id) >= 0 && below(2)) {
        put_with_own(key, row_value(key)); /* its own field only */
    } else {
        row_put(keys[key].p, keys[key].c, v);
        keys[key].pending = WRITES;
    }
}

static void somebody(const char *step, unsigned n)
{
    (void)step;
    (void)n;
    while (below(3) == 0)
        other_writer((int)below(KEYS));
}

static enum fault any_fault(const char *url, const char *step, unsigned n, int *status,
                            const char **body)
{
    static const int ill[] = {429, 502, 503, 504, 500, 200, 200};
    static const char *const texts[] = {"", "{\"items\":[", "{\"docs\":[]}", "<html>", "null"};

    (void)url;
    (void)step;
    (void)n;
    if (below(4))
        return NO_FAULT;
    *status = ill[below(7)];
    if (*status == 500 && !strcmp(step, "bulk"))
        *status = 503; /* else the sixth fails the document */
    *body = texts[below(5)];
    return (enum fault)(1 + below(3));
}

static const char *any_item_fault(const char *id, unsigned n)
{
    (void)id;
    (void)n;
    return below(8) ? NULL : "\"status\":429,\"error\":{\"type\":\"full\",\"reason\":\"x\"}";
}

static enum err_kind any_read_fault(unsigned n)
{
    (void)n;
    return below(8) ? ERR_NONE : ERR_RETRY;
}

static void begin_run(uint64_t seed)
{
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    memset(rows, 0, sizeof rows);
    memset(docs, 0, sizeof docs);
    for (int i = 0; i < KEYS; i++) {
        memset(&keys[i], 0, sizeof keys[i]);
        snprintf(keys[i].p, sizeof keys[i].p, "p%d", i / 3);
        snprintf(keys[i].c, sizeof keys[i].c, "c%d", i % 3);
        snprintf(keys[i].id, sizeof keys[i].id, "p%d-c%d", i / 3, i % 3);
        if (below(4))
            row_put(keys[i].p, keys[i].c, "0");
        if (row_value(i) && below(2))
            put_with_own(i, below(2) ? "0" : "old");
    }
}

/* When all is quiet, every document is its row, and has what others put there. */
static void check_run(uint64_t seed)
{
    for (int i = 0; i < KEYS; i++) {
        char want[128] = "absent", own[32] = "";
        struct err err = {0};
        const char *v = row_value(i), *have = doc(keys[i].id);
        if (keys[i].own)
            snprintf(own, sizeof own, ",\"own\":%u", keys[i].own);
        if (v)
            snprintf(want, sizeof want, "{\"p\":\"%s\",\"c\":\"%s\",\"v\":\"%s\",\"w\":\"\"%s}",
                     keys[i].p, keys[i].c, v, own);
        arena_reset(&http_mem);
        bool same = !v || !strcmp(have, "absent")
                        ? !strcmp(have, want)
                        : json_equal(json_parse(slice_str(have), &http_mem, &err),
                                     json_parse(slice_str(want), &http_mem, &err));
        if (!same)
            fail_msg("seed %" PRIu64 ": %s is %s, wanted %s", seed, keys[i].id, have, want);
    }
}

static int setup_small(void **state)
{
    memory_bytes = 1 << 20;
    int failed = setup(state);
    memory_bytes = 0;
    return failed;
}

static int setup_strict(void **state)
{
    strict = true;
    int failed = setup(state);
    strict = false;
    return failed;
}

static int setup_bare(void **state)
{
    bare = true;
    int failed = setup(state);
    bare = false;
    return failed;
}

static int setup_one_id(void **state)
{
    id_template = "{p}";
    int failed = setup(state);
    id_template = "{p}-{c}";
    return failed;
}

static int setup_patient(void **state)
{
    budget_ms = INT64_C(1) << 40;
    int failed = setup(state);
    budget_ms = 60000;
    return failed;
}

static void whatever_comes(void **state)
{
    const char *given = getenv("CASS2ES_TEST_SEED");
    uint64_t first = given ? strtoull(given, NULL, 10) : 1;
    unsigned written = 0, lost = 0;

    (void)state;
    step_us = 20000000; /* waits pass at once */
    for (uint64_t seed = first; seed < first + (given ? 1 : RUNS); seed++) {
        begin_run(seed);
        hook = somebody;
        fault = any_fault;
        item_fault = any_item_fault;
        read_fault = any_read_fault;
        page_rows_max = 1 + below(4);
        if (!sync_ids("[\"p0\",{\"p\":\"p1\"},\"p0\",{\"p\":[\"p2\",\"p1\"],\"c\":[\"c0\",\"c1\"]},"
                      "\"p2\",{\"P\":\"p0\"}]"))
            fail_msg("seed %" PRIu64 ": %s", seed, last.text);
        assert_int_equal(totals.open, 0);
        assert_int_equal(totals.counts.failed, totals.counts.contended);
        written += count.written;
        lost += (unsigned)totals.counts.failed;
        for (int i = 0; i < KEYS; i++)
            finish_pending(i);
        if (totals.counts.failed == 0)
            check_run(seed);
    }
    assert_true(given || (written > RUNS && lost < RUNS)); /* something happened */
}

/* ---- rows that share an _id */

static void last_of_one_id_stands(void **state)
{
    char c[8];

    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(c, sizeof c, "c%02d", i);
        row_put("p", c, "1");
    }
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p", "{\"p\":\"p\",\"c\":\"c19\",\"v\":\"1\",\"w\":\"\"}");
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(results[0].counts.merged, 19);
    assert_int_equal(results[0].counts.id_collision, 19);
    assert_true(results[0].ok);
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(count.bulk, 0);
    assert_int_equal(results[0].counts.unchanged, 1);
    assert_int_equal(results[0].counts.merged, 19);
    row_put("p", "c19", "2");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(count.written, 1);
    expect_doc("p", "{\"p\":\"p\",\"c\":\"c19\",\"v\":\"2\",\"w\":\"\"}");
}

static const char *rejects_first_p(const char *id, unsigned n)
{
    (void)id;
    return n == 1 ? "\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\","
                    "\"reason\":\"no\"}"
                  : NULL;
}

/* Missing is told of each; and what comes to nothing stands in nobody's way. */
static void rows_of_one_id_that_are_no_documents(void **state)
{
    static const char document[] = "{\"p\":\"p\",\"c\":\"c1\",\"v\":\"1\",\"w\":\"\"}";

    (void)state;
    row_put("p", "c1", "1");
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c1\"},{\"p\":\"p\",\"c\":\"gone\"}]"));
    assert_int_equal(results[0].counts.indexed, 1);
    assert_int_equal(results[1].outcome, KEYED_MISSING);
    expect_doc("p", document);
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"gone\"},{\"p\":\"p\",\"c\":\"c1\"}]"));
    assert_int_equal(results[0].outcome, KEYED_MISSING);
    assert_int_equal(results[1].counts.unchanged, 1);
    doc_delete("p");
    row_put("p", "c2", "2");
    item_fault = rejects_first_p;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(results[0].counts.failed, 1);
    assert_int_equal(results[0].counts.indexed, 1);
    expect_doc("p", document);
    item_fault = NULL;
    doc_delete("p");
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"1\"}]")); /* not of the last */
    assert_int_equal(results[0].counts.filtered, 1);
    assert_int_equal(results[0].counts.indexed, 1);
    expect_doc("p", document);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(creates_updates_leaves),
        T(preserved_fields_survive),
        T(co_writer_updates),
        T(co_writer_creates),
        T(co_writers_own_field_and_our_content),
        T(row_is_read_after_the_look),
        T(written_between_look_and_read),
        T(row_deleted_before_create),
        T(row_and_document_deleted_before_update),
        T(only_the_document_is_deleted),
        T(foreign_document_is_not_deleted),
        T(missing_rows_are_reported),
        T(row_comes_back),
        T(key_of_the_first_look_only),
        T(contended),
        T(lost_answer_reads_again),
        T(lost_create_leaves_no_orphan),
        T(overload_passes),
        T(budget_ends),
        T(rejected_document),
        T(silence_is_no_success),
        T(bad_line_is_found),
        T(body_is_halved),
        T(checks),
        T(another_node),
        T(ill_node_is_left_at_once),
        T(body_is_not_sent_to_another_node),
        T(unsent_body_goes_to_another_node),
        T(stops),
        T(cassandra_faults),
        T(elements_are_conserved),
        T(filtered_row_is_not_lost),
        T(failure_is_shared),
        T(large_partition),
        T(unknown_type),
        T(row_comes_back_after_a_lost_delete),
        T(delete_is_tried_again),
        T(item_of_unknown_outcome_leaves_no_orphan),
        T(endless_answer_is_an_unknown_outcome),
        T(checks_that_fail_leave_nothing_open),
        T(unreadable_document_fails_alone),
        cmocka_unit_test_setup_teardown(unreadable_document_is_replaced, setup_bare, teardown),
        T(refused_document_makes_bodies_no_larger),
        T(table_that_changed_is_seen),
        cmocka_unit_test_setup_teardown(many_wide_elements, setup_small, teardown),
        T(lasting_error_fails_alone),
        T(row_comes_back_before_our_delete),
        T(fatal_read_ends_the_call),
        T(cut_rows_are_read_again),
        T(partition_with_static_columns_only),
        T(partition_that_gets_a_row_after_our_create),
        cmocka_unit_test_setup_teardown(large_stored_documents, setup_small, teardown),
        cmocka_unit_test_setup_teardown(cut_off_answers_take_no_memory, setup_small, teardown),
        T(index_without_source),
        cmocka_unit_test_setup_teardown(index_without_source_written_anew, setup_bare, teardown),
        T(altered_value_is_counted),
        cmocka_unit_test_setup_teardown(altered_value_fails_when_strict, setup_strict, teardown),
        T(equal_document_of_another_is_not_deleted),
        cmocka_unit_test_setup_teardown(too_many_unknown_outcomes, setup_small, teardown),
        T(large_rows_are_read_a_few_at_a_time),
        cmocka_unit_test_setup_teardown(document_larger_than_the_memory, setup_small, teardown),
        T(a_hundred_thousand_ids),
        cmocka_unit_test_setup_teardown(last_of_one_id_stands, setup_one_id, teardown),
        cmocka_unit_test_setup_teardown(rows_of_one_id_that_are_no_documents, setup_one_id,
                                        teardown),
        cmocka_unit_test_setup_teardown(whatever_comes, setup_patient, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
