/*
 * Keys in the order of a table, as engine/direct_keys gives them, against models of both stores. A
 * table's partitions are ordered by a token that is the number their key begins with, so that two
 * of them may share one; its rows by two clustering columns, the first of them descending. `hook`
 * is called at every step, so that others can come in between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "engine/keyed.h"
#include "http/client.h"

enum { ROWS = 3000, TICKETS = 64 };

/* ---- the table: rows in its order; a == "": of the partition's static columns only */

struct row {
    char p[12], a[8], b[8], v[24];
};
static struct row rows[ROWS];
static size_t row_count;
static bool clustered;

static int64_t token_of(const char *p)
{
    return strtoll(p, NULL, 10);
}

static int compare(const void *x, const void *y)
{
    const struct row *one = x, *two = y;
    int64_t a = token_of(one->p), b = token_of(two->p);
    int c = a < b ? -1 : a > b;

    c = c ? c : strcmp(one->p, two->p);
    c = c ? c : -strcmp(one->a, two->a);
    return c ? c : strcmp(one->b, two->b);
}

static struct row *row_find(const char *p, const char *a, const char *b)
{
    for (size_t i = 0; i < row_count; i++)
        if (!strcmp(rows[i].p, p) && !strcmp(rows[i].a, a) && !strcmp(rows[i].b, b))
            return &rows[i];
    return NULL;
}

static void row_put(const char *p, const char *a, const char *b, const char *v)
{
    struct row *r = row_find(p, a, b);

    if (!r) {
        assert_true(row_count < ROWS);
        r = &rows[row_count++];
    }
    snprintf(r->p, sizeof r->p, "%s", p);
    snprintf(r->a, sizeof r->a, "%s", a);
    snprintf(r->b, sizeof r->b, "%s", b);
    snprintf(r->v, sizeof r->v, "%s", v);
    qsort(rows, row_count, sizeof *rows, compare);
}

static void row_delete(const char *p, const char *a, const char *b)
{
    struct row *r = row_find(p, a, b);

    if (r) {
        *r = rows[--row_count];
        qsort(rows, row_count, sizeof *rows, compare);
    }
}

/* ---- the index */

static struct {
    char id[32], source[160];
    int64_t seq_no;
} docs[ROWS];
static size_t doc_count;
static int64_t next_seq_no;

static int doc_find(const char *id)
{
    for (size_t i = 0; i < doc_count; i++)
        if (!strcmp(docs[i].id, id))
            return (int)i;
    return -1;
}

static int64_t doc_put(const char *id, const char *source)
{
    int i = doc_find(id);

    if (i < 0) {
        assert_true(doc_count < ROWS);
        i = (int)doc_count++;
    }
    snprintf(docs[i].id, sizeof docs[0].id, "%s", id);
    snprintf(docs[i].source, sizeof docs[0].source, "%s", source);
    return docs[i].seq_no = next_seq_no++;
}

static void doc_delete(const char *id)
{
    int i = doc_find(id);

    next_seq_no++;
    if (i >= 0)
        docs[i] = docs[--doc_count];
}

static const char *id_of(const struct row *r)
{
    static char id[40];

    snprintf(id, sizeof id, r->a[0] ? "%s:%s:%s" : "%s", r->p, r->a, r->b);
    return id;
}

static const char *source_of(const struct row *r)
{
    static char text[160];

    if (r->a[0])
        snprintf(text, sizeof text, "{\"p\":\"%s\",\"a\":\"%s\",\"b\":\"%s\",\"v\":\"%s\"}", r->p,
                 r->a, r->b, r->v);
    else
        snprintf(text, sizeof text, "{\"p\":\"%s\",\"v\":\"%s\"}", r->p, r->v);
    return text;
}

/* The index is what the table is. */
static void expect_equal(void)
{
    assert_int_equal(doc_count, row_count);
    for (size_t i = 0; i < row_count; i++) {
        int at = doc_find(id_of(&rows[i]));
        if (at < 0 || strcmp(docs[at].source, source_of(&rows[i])) != 0)
            fail_msg("%s: %s is not %s", id_of(&rows[i]), at < 0 ? "nothing" : docs[at].source,
                     source_of(&rows[i]));
    }
}

static struct {
    unsigned mget, bulk, range, range_keys, group, group_keys, single, single_keys;
} count;
static uint64_t rows_given; /* by all reads */
static void (*hook)(const char *step, unsigned n);
static enum err_kind (*read_fault)(const char *step, unsigned n);
static bool refuse_groups;
static unsigned refuse_mget; /* number of the _mget that is too large to answer */
static unsigned conflicts;

static enum err_kind at(const char *step, unsigned n)
{
    enum err_kind f = read_fault ? read_fault(step, n) : ERR_NONE;

    if (hook)
        hook(step, n);
    return f;
}

/* ---- http */

struct http_client {
    int dummy;
};
static struct buf answer;
static struct arena http_mem;

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

static void answer_mget(struct slice body)
{
    struct err err = {0};
    const struct json *root = json_parse(body, &http_mem, &err);

    json_each (id, json_get(root, "ids")) {
        int i = doc_find((const char *)id->text.p);
        if (i < 0)
            buf_printf(&answer, "{\"_id\":\"%s\",\"found\":false},", id->text.p);
        else
            buf_printf(&answer,
                       "{\"_id\":\"%s\",\"found\":true,\"_seq_no\":%" PRId64
                       ",\"_primary_term\":1,\"_source\":%s},",
                       id->text.p, docs[i].seq_no, docs[i].source);
    }
}

static struct slice take_line(struct slice *body)
{
    const uint8_t *end = memchr(body->p, '\n', body->n);
    assert_non_null(end);
    struct slice line = slice_of(body->p, (size_t)(end - body->p));

    *body = slice_of(end + 1, body->n - line.n - 1);
    return line;
}

static void apply_item(const struct json *meta, struct slice source)
{
    const char *op = (const char *)meta->key.p;
    const char *id = (const char *)json_get(meta, "_id")->text.p;
    const struct json *condition = json_get(meta, "if_seq_no");
    int i = doc_find(id);
    bool conflict =
        condition ? i < 0 || strtoll((const char *)condition->text.p, NULL, 10) != docs[i].seq_no
                  : i >= 0;
    int64_t seq_no = next_seq_no;
    char text[160];

    assert_true(condition || !strcmp(op, "create"));
    buf_printf(&answer, "{\"%s\":{\"_id\":\"%s\",", op, id);
    if (conflict) {
        conflicts++;
        buf_add_str(&answer, "\"status\":409,\"error\":{\"type\":\"version_conflict_engine_"
                             "exception\",\"reason\":\"x\"}}},");
        return;
    }
    snprintf(text, sizeof text, "%.*s", (int)source.n, (const char *)source.p);
    if (!strcmp(op, "delete"))
        doc_delete(id);
    else
        seq_no = doc_put(id, text);
    buf_printf(&answer, "\"status\":%d,\"_seq_no\":%" PRId64 ",\"_primary_term\":1}},",
               i < 0 ? 201 : 200, seq_no);
}

static void answer_bulk(struct slice body)
{
    struct err err = {0};

    while (body.n) {
        const struct json *meta = json_parse(take_line(&body), &http_mem, &err)->first;
        apply_item(meta, slice_is(meta->key, "delete") ? SLICE_NULL : take_line(&body));
    }
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    bool bulk = strstr(r->url, "/_bulk") != NULL;

    (void)c;
    *out = (struct http_answer){.status = 200, .retry_after_ms = -1};
    *sent = true;
    at(bulk ? "bulk" : "mget", bulk ? ++count.bulk : ++count.mget);
    if (!bulk && refuse_mget && (count.mget == refuse_mget || count.mget == refuse_mget + 2))
        return err_set(err, ERR_REJECT, "the answer is longer than 9 bytes");
    buf_reset(&answer);
    arena_reset(&http_mem);
    buf_add_str(&answer, bulk ? "{\"errors\":false,\"items\":[" : "{\"docs\":[");
    if (bulk)
        answer_bulk(r->body);
    else
        answer_mget(r->body);
    answer.len--;
    buf_add_str(&answer, "]}");
    out->body = buf_slice(&answer);
    if (bulk)
        at("bulk_done", count.bulk);
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

int64_t cql_token(struct slice key)
{
    char text[24];

    snprintf(text, sizeof text, "%.*s", (int)key.n, (const char *)key.p);
    return token_of(text);
}

void cql_partition_key(const struct slice *components, size_t n, struct buf *out)
{
    assert_int_equal(n, 1);
    buf_add_slice(out, components[0]);
}

static struct column column_list[4] = {{.name = {(const uint8_t *)"p", 1}, .type = &text_type},
                                       {.name = {(const uint8_t *)"a", 1}, .type = &text_type},
                                       {.name = {(const uint8_t *)"b", 1}, .type = &text_type},
                                       {.name = {(const uint8_t *)"v", 1}, .type = &text_type}};
static struct column flat_list[2];
static struct columns key_columns = {.count = 3, .list = column_list},
                      row_columns = {.count = 4, .list = column_list},
                      flat_keys = {.count = 1, .list = flat_list},
                      flat_rows = {.count = 2, .list = flat_list};

/* A query under way; values are copied, as the client does. */
struct asked {
    bool open, whole, range, group;
    uint16_t value_count;
    struct slice values[1 + 200];
    uint32_t page_rows;
    struct buf values_mem, bytes;
    struct row last; /* of the page before */
    bool begun, ended;
};
static struct asked tickets[TICKETS];
static int64_t read_at_us;

static void ask(struct asked *t, const struct cql_query *q)
{
    *t = (struct asked){.open = true,
                        .whole = strstr(q->text, "\"v\"") != NULL,
                        .range = strstr(q->text, "token(") != NULL,
                        .group = strstr(q->text, ") IN (") != NULL,
                        .value_count = q->value_count,
                        .page_rows = q->page_rows};
    size_t at[201], n = 0;

    assert_true(q->has_token && q->value_count <= 201);
    assert_true(!t->group || strstr(q->text, "(\"a\",\"b\") IN ((?,?),(?,?)"));
    buf_init(&t->values_mem, 1 << 20);
    buf_init(&t->bytes, 1 << 24);
    for (; n < q->value_count; n++) {
        at[n] = t->values_mem.len;
        buf_add_slice(&t->values_mem, q->values[n]);
        buf_add_byte(&t->values_mem, 0);
    }
    for (n = 0; n < q->value_count; n++)
        t->values[n] = slice_of(t->values_mem.p + at[n], q->values[n].n);
}

static void forget(struct asked *t)
{
    assert_true(t->open);
    buf_fini(&t->values_mem);
    buf_fini(&t->bytes);
    t->open = false;
}

static bool asks_for(const struct asked *t, const struct row *r)
{
    if (t->range)
        return token_of(r->p) > (int64_t)load_u64(t->values[0].p) &&
               token_of(r->p) <= (int64_t)load_u64(t->values[1].p);
    if (!slice_is(t->values[0], r->p))
        return false;
    for (uint16_t i = 1; i < t->value_count; i += 2)
        if (slice_is(t->values[i], r->a) && slice_is(t->values[i + 1], r->b))
            return true;
    return t->value_count == 1;
}

static void add_cell(struct buf *b, const char *text, bool null)
{
    buf_add_u32(b, null ? UINT32_MAX : (uint32_t)strlen(text));
    buf_add_str(b, null ? "" : text);
}

static void add_row(struct asked *t, const struct row *r)
{
    add_cell(&t->bytes, r->p, false);
    if (clustered) {
        add_cell(&t->bytes, r->a, !r->a[0]);
        add_cell(&t->bytes, r->b, !r->a[0]);
    }
    if (t->whole)
        add_cell(&t->bytes, r->v, false);
}

static bool page_of(struct asked *t, struct page *page, struct err *err)
{
    unsigned *n = t->range   ? t->whole ? &count.range : &count.range_keys
                  : t->group ? t->whole ? &count.group : &count.group_keys
                             : (t->whole ? &count.single : &count.single_keys);
    const char *step = t->range   ? t->whole ? "range" : "range_keys"
                       : t->group ? t->whole ? "group" : "group_keys"
                                  : (t->whole ? "single" : "single_keys");
    enum err_kind f = at(step, ++*n);

    if (f != ERR_NONE)
        return err_set(err, f, "no answer");
    *page = (struct page){.columns = clustered ? (t->whole ? &row_columns : &key_columns)
                                               : (t->whole ? &flat_rows : &flat_keys),
                          .last = true,
                          .read_at_us = ++read_at_us};
    buf_reset(&t->bytes);
    for (size_t i = 0; i < row_count; i++) {
        if (!asks_for(t, &rows[i]) || (t->begun && compare(&rows[i], &t->last) <= 0))
            continue;
        if (page->row_count == t->page_rows) {
            page->last = false;
            break;
        }
        add_row(t, &rows[i]);
        page->row_count++;
        rows_given++;
    }
    /* The next page goes on behind this one's last row. */
    for (size_t i = 0, left = page->row_count; left; i++)
        if (asks_for(t, &rows[i]) && (!t->begun || compare(&rows[i], &t->last) > 0) && !--left) {
            t->last = rows[i];
            t->begun = true;
        }
    t->ended = page->last;
    page->rows = buf_slice(&t->bytes);
    return true;
}

bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err)
{
    (void)s;
    (void)err;
    for (cql_ticket i = 0; i < TICKETS; i++)
        if (!tickets[i].open) {
            ask(&tickets[i], q);
            *out = i;
            return true;
        }
    fail_msg("too many tickets");
    return false;
}

bool cql_take(struct cql_session *s, cql_ticket number, struct page *page, struct err *err)
{
    (void)s;
    return page_of(&tickets[number], page, err);
}

void cql_release(struct cql_session *s, cql_ticket number)
{
    (void)s;
    forget(&tickets[number]);
}

struct cql_pager {
    struct asked t;
};

static unsigned lost_opens; /* the connection breaks while the next statements are prepared */

struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err)
{
    (void)s;
    if (lost_opens) {
        lost_opens--;
        err_set(err, ERR_RETRY, "connection reset");
        return NULL;
    }
    if (refuse_groups && strstr(q->text, ") IN (")) {
        err_set(err, ERR_USER, "no such thing here");
        return NULL;
    }
    struct cql_pager *p = xalloc(sizeof *p);
    ask(&p->t, q);
    return p;
}

void cql_pager_free(struct cql_pager *p)
{
    forget(&p->t);
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
    p->t.page_rows = page_rows;
}

struct slice cql_pager_state(const struct cql_pager *p)
{
    return p->t.ended ? SLICE_NULL : slice_str("state");
}

bool cql_pager_next(struct cql_pager *p, struct page *page, struct err *err)
{
    assert_true(p->t.range);
    return !p->t.ended && page_of(&p->t, page, err);
}

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
    (void)out;
    (void)err;
    fail_msg("nothing asks for ranges here");
    return false;
}

void cql_ranges_fini(struct cql_ranges *r)
{
    (void)r;
}

/* ---- the fixture */

static int64_t now_us;
static int64_t tick(void *ctx)
{
    (void)ctx;
    return now_us += 500000; /* waits pass quickly */
}
static struct clock test_clock = {.wall_us = tick, .mono_us = tick};
static struct mapping *mapping;
static struct schema *schema;
static struct plan *plan;
static struct keyed *keyed;
static struct limit *limit; /* of rows read; NULL: none */
static struct keyed_result sum;
static size_t memory_bytes;
static const char *const urls[] = {"http://one:9200", NULL};

static void open_keyed(void)
{
    static const struct test_column wide[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                              {"a", &text_type, COLUMN_CLUSTERING},
                                              {"b", &text_type, COLUMN_CLUSTERING},
                                              {"v", &text_type, COLUMN_STATIC}};
    static const struct test_column flat[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                              {"v", &text_type, COLUMN_REGULAR}};
    static const struct plan *plans[2];
    static const struct elastic_options elastic = {
        .urls = urls, .clock = &test_clock, .body_bytes = 1 << 20};
    struct err err = {0};

    flat_list[0] = column_list[0];
    flat_list[1] = column_list[3];
    schema = clustered ? test_schema("ks", "t", wide, 4) : test_schema("ks", "t", flat, 2);
    mapping = mapping_parse(slice_str("object: thing\nsource: {table: t}\ntarget: {index: i}\n"
                                      "nulls: omit\nversioning: sequence\n"),
                            "m.yaml", &err);
    assert_string_equal(err.text, "");
    plan = plan_compile(mapping, schema, &err);
    assert_string_equal(err.text, "");
    plans[0] = plan;
    struct keyed_options o = {.elastic = &elastic,
                              .plans = plans,
                              .clock = &test_clock,
                              .limit = limit,
                              .missing = KEYED_KEEP,
                              .retry_budget_ms = 60000,
                              .memory_bytes = memory_bytes};
    keyed = keyed_open(&o, &err);
    assert_non_null(keyed);
}

static void close_keyed(void)
{
    keyed_free(keyed);
    plan_free(plan);
    mapping_free(mapping);
    schema_free(schema);
    for (int i = 0; i < TICKETS; i++)
        assert_false(tickets[i].open);
}

static int begin(void **state, bool with_clustering)
{
    (void)state;
    row_count = doc_count = 0;
    memset(&count, 0, sizeof count);
    hook = NULL;
    read_fault = NULL;
    refuse_groups = false;
    refuse_mget = conflicts = lost_opens = 0;
    memory_bytes = 0;
    clustered = with_clustering;
    buf_init(&answer, 16 << 20);
    arena_init(&http_mem, 64 << 20);
    open_keyed();
    return 0;
}

static int setup(void **state)
{
    return begin(state, true);
}

static int setup_flat(void **state)
{
    return begin(state, false);
}

static int teardown(void **state)
{
    (void)state;
    close_keyed();
    buf_fini(&answer);
    arena_fini(&http_mem);
    return 0;
}

/* The keys of one page, as they are now: from `from` on, which is moved behind it. */
static size_t page_keys(struct row *keys, size_t most, struct row *from)
{
    size_t n = 0;

    for (size_t i = 0; i < row_count && n < most; i++)
        if (compare(&rows[i], from) > 0)
            keys[n++] = rows[i];
    if (n)
        *from = keys[n - 1];
    return n;
}

/* False: the page has to be read again. */
static bool sync_keys(const struct row *keys, size_t n)
{
    struct err err = {0};

    sum = (struct keyed_result){0};
    keyed_begin(keyed, plan, &sum);
    for (size_t i = 0; i < n; i++) {
        bool partition = !keys[i].a[0];
        const struct slice key[3] = {slice_str(keys[i].p),
                                     partition ? SLICE_NULL : slice_str(keys[i].a),
                                     partition ? SLICE_NULL : slice_str(keys[i].b)};
        if (!keyed_add(keyed, KEYED_SCAN, key, 0, 0, &err))
            break;
    }
    if (err.kind == ERR_NONE && keyed_end(keyed, &err))
        return true;
    if (err.kind != ERR_RETRY || strncmp(err.text, "more new rows", 13) != 0)
        fail_msg("%s", err.text);
    return false;
}

/* The whole table, page by page; what all pages' rows come to. */
static uint64_t sync_pages(size_t page_rows)
{
    static struct row keys[ROWS];
    struct row from = {.p = "-1"}, again = from;
    uint64_t all = 0;
    size_t n;

    while ((n = page_keys(keys, page_rows, &from))) {
        if (!sync_keys(keys, n)) {
            from = again;
            continue;
        }
        again = from;
        all += sum.counts.rows;
        assert_int_equal(sum.counts.documents, sum.counts.rows);
        assert_int_equal(sum.counts.indexed + sum.counts.unchanged + sum.counts.failed,
                         sum.counts.rows);
    }
    return all;
}

/* What is there now is one page. */
static void sync_page(void)
{
    static struct row keys[ROWS];
    struct row from = {.p = "-1"};

    assert_true(sync_keys(keys, page_keys(keys, ROWS, &from)));
}

static void fill(int partitions, int of_each)
{
    char p[12], a[8] = "", b[8] = "";

    for (int i = 0; i < partitions; i++)
        for (int j = 0; j < of_each; j++) {
            snprintf(p, sizeof p, "%d", 10 + i);
            if (clustered) {
                snprintf(a, sizeof a, "%c", 'a' + j / 10);
                snprintf(b, sizeof b, "%d", j % 10);
            }
            row_put(p, a, b, "1");
        }
}

/* ---- how much is asked for */

static void a_page_by_few_reads(void **state)
{
    (void)state;
    fill(150, 1);
    assert_int_equal(sync_pages(1000), 150);
    expect_equal();
    assert_int_equal(sum.counts.indexed, 150);
    assert_true(count.range <= 5); /* little at once until it is known how large rows are */
    assert_int_equal(count.range_keys, 2);
    assert_int_equal(count.single + count.single_keys, 0);
    assert_int_equal(count.mget, 2);
    memset(&count, 0, sizeof count);
    assert_int_equal(sync_pages(1000), 150);
    assert_int_equal(sum.counts.unchanged, 150);
    assert_int_equal(count.range, 1);
    assert_int_equal(count.bulk + count.range_keys + count.single + count.single_keys, 0);
}

static void wide_partitions_by_name(void **state)
{
    (void)state;
    fill(1, 180);
    assert_int_equal(sync_pages(90), 180);
    expect_equal();
    assert_int_equal(count.group, 3);
    assert_int_equal(count.group_keys, 3);
    assert_int_equal(count.range + count.single, 0);
}

/* The page begins and ends inside partitions: the rows before and behind are not its. */
static void parts_of_partitions(void **state)
{
    (void)state;
    fill(5, 20);
    assert_int_equal(sync_pages(50), 100);
    expect_equal();
    assert_int_equal(count.single, 0);
    assert_int_equal(count.group, 4);
    assert_true(count.range >= 2);
}

static void few_left_are_read_by_themselves(void **state)
{
    (void)state;
    fill(60, 1);
    sync_pages(1000);
    memset(&count, 0, sizeof count);
    for (size_t i = 0; i < 60; i += 20) {
        doc_delete(id_of(&rows[i]));
        rows[i].v[0] = '2';
    }
    sync_pages(1000);
    expect_equal();
    assert_int_equal(sum.counts.indexed, 3);
    assert_int_equal(count.range, 1);
    assert_int_equal(count.range_keys, 0);
    assert_int_equal(count.single_keys, 3);
}

static int64_t limit_us;
static int64_t look_us(void *ctx)
{
    (void)ctx;
    return limit_us += 10000;
}

/* Rows and keys alike; what was read last is paid for before the next reads. */
static void rows_per_second(void **state)
{
    static struct clock clock = {.wall_us = look_us, .mono_us = look_us};
    struct cancel never = {0};
    int pipe_fds[2];

    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    never.fd = pipe_fds[0]; /* readable: nobody really waits */
    close_keyed();
    limit = limit_new(&(struct limit_options){.clock = &clock,
                                              .cancel = &never,
                                              .requests = 1,
                                              .body_bytes = 1 << 20,
                                              .reads_per_s = 100});
    open_keyed();
    fill(150, 1);
    rows_given = 0;
    int64_t begin_us = limit_us;
    for (int i = 0; i < 6; i++)
        assert_int_equal(sync_pages(1000), 150);
    expect_equal();
    assert_in_range(rows_given, 7 * 150, 7 * 150 + 50);
    assert_in_range(limit_us - begin_us, (rows_given - 2 * 150) * 10000, rows_given * 10000);
    teardown(state);
    limit_free(TAKE(limit));
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    setup_flat(state);
}

/* ---- changes between the keys and their rows */

static void change_before_read(const char *step, unsigned n)
{
    if (strcmp(step, "mget") != 0 || n != 1)
        return;
    row_delete("12", "a", "0");
    row_put("11", "c", "0", "new");
    row_put("111", "a", "0", "beyond");
    row_put("15x", "a", "0", "same token");
}

static void gone_and_new_rows(void **state)
{
    (void)state;
    fill(30, 5);
    doc_put("12:a:0", "{\"v\":\"orphan\"}");
    hook = change_before_read;
    sync_page();
    assert_int_equal(sum.counts.gone, 1);
    assert_int_equal(sum.counts.rows, 150 - 1 + 2);
    assert_true(doc_find("11:c:0") >= 0);
    assert_true(doc_find("15x:a:0") >= 0);
    assert_true(doc_find("111:a:0") < 0); /* not of this page */
    assert_true(doc_find("12:a:0") >= 0); /* not ours */
    assert_int_equal(count.single, 2);    /* new ones are looked up and read by themselves */
    hook = NULL;
    doc_delete("12:a:0");
    sync_pages(1000);
    expect_equal();
}

static void delete_after_bulk(const char *step, unsigned n)
{
    if (strcmp(step, "bulk_done") != 0 || n != 1)
        return;
    row_delete("12", "a", "0");
    row_delete("10", "a", "1");
    row_put("14", "x", "0", "later");
}

static void created_and_its_row_deleted(void **state)
{
    (void)state;
    fill(30, 5);
    hook = delete_after_bulk;
    sync_pages(1000);
    assert_true(doc_find("12:a:0") < 0);
    assert_true(doc_find("10:a:1") < 0);
    assert_int_equal(sum.counts.gone, 2);
    assert_int_equal(sum.counts.rows, 148);
    assert_int_equal(doc_count, 148); /* what came later is not of this page */
}

static void co_write_before_bulk(const char *step, unsigned n)
{
    if (strcmp(step, "bulk") != 0 || n != 1)
        return;
    row_put("12", "a", "0", "2");
    doc_put("12:a:0", source_of(row_find("12", "a", "0")));
    row_put("10", "a", "0", "3");
    doc_put("10:a:0", source_of(row_find("10", "a", "0")));
}

static void losers_are_read_again(void **state)
{
    (void)state;
    fill(30, 5);
    hook = co_write_before_bulk;
    sync_pages(1000);
    expect_equal();
    assert_int_equal(sum.counts.unchanged, 2);
    assert_int_equal(count.single, 2);
}

static void all_are_written_before_bulk(const char *step, unsigned n)
{
    if (!strcmp(step, "mget") && n == 1)
        row_put("15", "x", "9", "new");
    if (strcmp(step, "bulk") != 0 || n != 1)
        return;
    for (size_t i = 0; i < row_count; i++) {
        rows[i].v[0] = '2';
        doc_put(id_of(&rows[i]), source_of(&rows[i]));
    }
}

/* Many are read together again; a row that is new both times is so once. */
static void all_lose(void **state)
{
    (void)state;
    fill(30, 5);
    hook = all_are_written_before_bulk;
    sync_page();
    expect_equal();
    assert_int_equal(sum.counts.rows, 151);
    assert_int_equal(sum.counts.unchanged, 151);
    assert_int_equal(count.mget, 4);
}

static void write_at_read(const char *step, unsigned n)
{
    if ((strcmp(step, "range") && strcmp(step, "group")) || n != 1)
        return;
    row_put("12", "a", "0", "2");
    doc_put("12:a:0", source_of(row_find("12", "a", "0")));
    row_put("10", "a", "0", "3");
    doc_put("10:a:0", source_of(row_find("10", "a", "0")));
}

/* Were rows read before the look, the old ones would come over the new. */
static void written_between_look_and_read(void **state)
{
    (void)state;
    fill(30, 5);
    for (size_t i = 0; i < row_count; i++)
        doc_put(id_of(&rows[i]), "{\"v\":\"0\"}");
    hook = write_at_read;
    sync_pages(1000);
    expect_equal();
}

/* ---- partitions of one token */

static void shared_tokens(void **state)
{
    char p[12];

    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(p, sizeof p, "%d%c", 10 + i / 4, 'a' + i % 4);
        row_put(p, "", "", "1");
    }
    for (size_t page = 1; page < 14; page++) { /* pages end between two of one token */
        doc_count = 0;
        assert_int_equal(sync_pages(page), 40);
        expect_equal();
    }
}

static void shared_tokens_of_wide_partitions(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        char p[12], b[8];
        snprintf(p, sizeof p, "%d%c", 10 + i / 8, 'a' + i % 4);
        for (int j = 0; j < 1 + i % 5; j++) {
            snprintf(b, sizeof b, "%d", j);
            row_put(p, i % 3 ? "k" : "l", b, "1");
        }
    }
    for (size_t page = 1; page < 30; page++) {
        doc_count = 0;
        assert_int_equal(sync_pages(page), row_count);
        expect_equal();
    }
}

static void partitions_with_static_columns_only(void **state)
{
    (void)state;
    fill(10, 2);
    row_put("9", "", "", "s");
    row_put("12x", "", "", "s");
    row_put("15x", "", "", "s");
    row_put("99", "", "", "s");
    assert_int_equal(sync_pages(1000), 24);
    expect_equal();
}

static void row_comes_to_partition(const char *step, unsigned n)
{
    if (strcmp(step, "mget") != 0 || n != 1)
        return;
    row_delete("12x", "", "");
    row_put("12x", "a", "1", "s");
}

static void partition_gets_its_first_row(void **state)
{
    (void)state;
    fill(10, 2);
    row_put("12x", "", "", "s");
    hook = row_comes_to_partition;
    assert_int_equal(sync_pages(1000), 21);
    expect_equal();
    assert_int_equal(sum.counts.gone, 1);
}

/* ---- what can't be read together */

static enum err_kind refuse_ranges(const char *step, unsigned n)
{
    (void)n;
    return strcmp(step, "single") && strcmp(step, "single_keys") ? ERR_REJECT : ERR_NONE;
}

static void refused_together_read_one_by_one(void **state)
{
    (void)state;
    fill(20, 5);
    read_fault = refuse_ranges;
    assert_int_equal(sync_pages(1000), 100);
    expect_equal();
    assert_int_equal(count.single, 100);
}

static void server_without_such_groups(void **state)
{
    (void)state;
    fill(3, 20);
    refuse_groups = true;
    assert_int_equal(sync_pages(1000), 60);
    expect_equal();
    assert_int_equal(count.group, 0);
    assert_int_equal(count.single, 40);
}

static enum err_kind every_seventh(const char *step, unsigned n)
{
    return (step[0] != 'm' && step[0] != 'b') && n % 7 == 1 ? ERR_RETRY : ERR_NONE;
}

static void what_fails_is_read_again(void **state)
{
    (void)state;
    fill(30, 5);
    read_fault = every_seventh;
    lost_opens = 3;
    assert_int_equal(sync_pages(1000), 150);
    expect_equal();
    assert_int_equal(lost_opens, 0);
}

static void little_memory(void **state)
{
    (void)state;
    close_keyed();
    memory_bytes = 16 << 10;
    open_keyed();
    fill(100, 6);
    assert_int_equal(sync_pages(1000), 600);
    expect_equal();
    assert_int_equal(sync_pages(1000), 600);
}

/* The first is too much for one answer, then half of it behind the first half: what is not looked
 * at waits. */
static void looks_that_are_cut(void **state)
{
    (void)state;
    fill(150, 1);
    for (size_t i = 0; i < row_count; i++)
        doc_put(id_of(&rows[i]), "{\"v\":\"0\"}");
    refuse_mget = 1;
    sync_page();
    assert_int_equal(sum.counts.indexed, 150);
    assert_int_equal(conflicts, 0);
    expect_equal();
}

/* ---- anything, at any time */

static uint64_t seed;
static struct row late; /* its document is not written yet */
static bool has_late;

static unsigned pick(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static struct row any_row(void)
{
    struct row r = {.v = ""};

    snprintf(r.p, sizeof r.p, "%u%s", pick(40), pick(4) ? "" : "x");
    if (clustered) {
        snprintf(r.a, sizeof r.a, "%c", 'a' + (int)pick(3));
        snprintf(r.b, sizeof r.b, "%u", pick(pick(8) ? 4 : 30));
    }
    snprintf(r.v, sizeof r.v, "%u", pick(1000));
    return r;
}

static void write_document_of(const struct row *key)
{
    const struct row *r = row_find(key->p, key->a, key->b);

    if (r)
        doc_put(id_of(r), source_of(r));
    else
        doc_delete(id_of(key));
}

/* Another writer: a row, then (now or at a later step) its document as the row is then. */
static void anything(const char *step, unsigned n)
{
    (void)step;
    (void)n;
    if (has_late)
        write_document_of(&late);
    has_late = false;
    if (pick(3))
        return;
    struct row r = row_count && pick(2) ? rows[pick((unsigned)row_count)] : any_row();
    if (pick(3))
        row_put(r.p, r.a, r.b, r.v[0] == '7' ? "8" : "7");
    else
        row_delete(r.p, r.a, r.b);
    late = r;
    has_late = pick(2);
    if (!has_late)
        write_document_of(&r);
}

static enum err_kind sometimes(const char *step, unsigned n)
{
    (void)n;
    if (step[0] == 'm' || step[0] == 'b' || pick(12))
        return ERR_NONE;
    return strncmp(step, "single", 6) && !pick(4) ? ERR_REJECT : ERR_RETRY;
}

static void whatever_happens(void **state)
{
    (void)state;
    for (uint64_t run = 1; run <= 400; run++) {
        seed = run;
        row_count = doc_count = 0;
        has_late = false;
        hook = NULL;
        close_keyed();
        memory_bytes = pick(2) ? 0 : 12u << 10;
        open_keyed();
        for (unsigned i = pick(600); i; i--) {
            struct row r = any_row();
            row_put(r.p, r.a, r.b, r.v);
        }
        for (size_t i = 0; i < row_count; i++)
            if (pick(2))
                doc_put(id_of(&rows[i]), pick(2) ? source_of(&rows[i]) : "{\"v\":\"old\"}");
        hook = anything;
        read_fault = pick(2) ? sometimes : NULL;
        sync_pages(1 + pick(pick(2) ? 40 : 800));
        if (has_late)
            write_document_of(&late);
        print_message("# seed %" PRIu64 "\n", run);
        expect_equal();
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define F(f) cmocka_unit_test_setup_teardown(f, setup_flat, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        F(a_page_by_few_reads),
        T(wide_partitions_by_name),
        T(parts_of_partitions),
        F(few_left_are_read_by_themselves),
        F(rows_per_second),
        T(gone_and_new_rows),
        T(created_and_its_row_deleted),
        T(losers_are_read_again),
        T(all_lose),
        T(written_between_look_and_read),
        F(shared_tokens),
        T(shared_tokens_of_wide_partitions),
        T(partitions_with_static_columns_only),
        T(partition_gets_its_first_row),
        T(refused_together_read_one_by_one),
        T(server_without_such_groups),
        T(what_fails_is_read_again),
        T(little_memory),
        F(looks_that_are_cut),
        T(whatever_happens),
        F(whatever_happens),
    };
    return cmocka_run_group_tests_name("keyed_interval", tests, NULL, NULL);
}
