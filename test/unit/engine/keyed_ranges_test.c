/*
 * Rows of other tables in a scan, by ranges of tokens: tables in memory behind the calls of cql, an
 * index that takes every document. A partition's token is the number that its key begins with, so
 * that two of them may share one. What may come in between is for keyed_tables_test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "engine/keyed.h"
#include "http/client.h"

enum { ROWS = 12000, PARENTS = 2000, TICKETS = 64 };

static int64_t now_us;
static int64_t tick(void *ctx)
{
    (void)ctx;
    return now_us += 1000;
}
static struct clock test_clock = {.wall_us = tick, .mono_us = tick};

/* Waits pass at once. */
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    (void)fds;
    (void)count;
    now_us += (int64_t)timeout_ms * 1000;
    return 0;
}

/* ---- the tables: parent (p, v) or (p, c, v), child (pid, seq, n), name (id, name) */

enum table { PARENT, CHILD, NAME, TABLES };

struct row {
    enum table table;
    char p[12], c[12], v[24];
};
static struct row rows[ROWS];
static size_t row_count;
static bool wide, sorted;

static int64_t number_of(const char *p)
{
    return strtoll(p, NULL, 10);
}

static int compare(const void *x, const void *y)
{
    const struct row *one = x, *two = y;
    int64_t a = number_of(one->p), b = number_of(two->p);
    int c = one->table != two->table ? (int)one->table - (int)two->table : (a > b) - (a < b);

    c = c ? c : strcmp(one->p, two->p);
    return c ? c : strcmp(one->c, two->c);
}

static void add(enum table table, const char *p, const char *c, const char *v)
{
    struct row *r = &rows[row_count++];

    assert_true(row_count <= ROWS);
    *r = (struct row){.table = table};
    snprintf(r->p, sizeof r->p, "%s", p);
    snprintf(r->c, sizeof r->c, "%s", c);
    snprintf(r->v, sizeof r->v, "%s", v);
    sorted = false;
}

static void add_number(enum table table, int p, int c, int v)
{
    char texts[3][12];

    snprintf(texts[0], 12, "%d", p);
    snprintf(texts[1], 12, "%05d", c);
    snprintf(texts[2], 12, "%d", v);
    add(table, texts[0], texts[1], texts[2]);
}

static void sort_rows(void)
{
    if (!sorted)
        qsort(rows, row_count, sizeof *rows, compare);
    sorted = true;
}

/* ---- the index */

static struct {
    char id[24];
    char *source;
} docs[PARENTS];
static size_t doc_count;

static bool twice; /* the mapping looks into the names by a column of the parent, too */
static struct buf expected;

/* The document that the tables make of a parent. */
static const char *document(const struct row *parent)
{
    const char *comma = "";

    buf_reset(&expected);
    buf_printf(&expected, "{\"p\":\"%s\",", parent->p);
    if (wide)
        buf_printf(&expected, "\"c\":\"%s\",", parent->c);
    buf_printf(&expected, "\"v\":\"%s\",\"children\":[", parent->v);
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].table != CHILD || strcmp(rows[i].p, parent->p) != 0)
            continue;
        buf_printf(&expected, "%s{\"seq\":\"%s\",\"n\":\"%s\"", comma, rows[i].c, rows[i].v);
        comma = ",";
        for (size_t n = 0; n < row_count; n++)
            if (rows[n].table == NAME && !strcmp(rows[n].p, rows[i].v))
                buf_printf(&expected, ",\"name\":\"%s\"", rows[n].v);
        buf_add_byte(&expected, '}');
    }
    buf_add_byte(&expected, ']');
    for (size_t n = 0; twice && n < row_count; n++)
        if (rows[n].table == NAME && !strcmp(rows[n].p, parent->v))
            buf_printf(&expected, ",\"root\":\"%s\"", rows[n].v);
    buf_add_byte(&expected, '}');
    return buf_cstr(&expected);
}

static const char *source_of(const char *id)
{
    for (size_t i = 0; i < doc_count; i++)
        if (!strcmp(docs[i].id, id))
            return docs[i].source;
    return NULL;
}

static void expect_document(const struct row *parent)
{
    char id[24];

    snprintf(id, sizeof id, wide ? "%s:%s" : "%s", parent->p, parent->c);
    const char *there = source_of(id);
    if (!there || strcmp(there, document(parent)) != 0)
        fail_msg("%s: %s is not %s", id, there ? there : "nothing", document(parent));
}

static void expect_all(void)
{
    size_t parents = 0;

    for (size_t i = 0; i < row_count; i++)
        if (rows[i].table == PARENT) {
            expect_document(&rows[i]);
            parents++;
        }
    assert_int_equal(doc_count, parents);
}

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

static struct slice take_line(struct slice *body)
{
    const uint8_t *end = memchr(body->p, '\n', body->n);
    struct slice line = slice_of(body->p, (size_t)(end - body->p));

    *body = slice_of(end + 1, body->n - line.n - 1);
    return line;
}

bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err)
{
    struct slice body = r->body;

    (void)c;
    assert_non_null(strstr(r->url, "/_bulk"));
    buf_reset(&answer);
    arena_reset(&http_mem);
    buf_add_str(&answer, "{\"errors\":false,\"items\":[");
    while (body.n) {
        const struct json *meta = json_parse(take_line(&body), &http_mem, err)->first;
        struct slice source = take_line(&body);

        assert_true(doc_count < PARENTS);
        snprintf(docs[doc_count].id, sizeof docs[0].id, "%s", json_get(meta, "_id")->text.p);
        docs[doc_count++].source = xstrndup((const char *)source.p, source.n);
        buf_printf(&answer,
                   "{\"index\":{\"_id\":\"%s\",\"status\":200,\"_seq_no\":1,"
                   "\"_primary_term\":1}},",
                   json_get(meta, "_id")->text.p);
    }
    answer.len--;
    buf_add_str(&answer, "]}");
    *out = (struct http_answer){.status = 200, .retry_after_ms = -1, .body = buf_slice(&answer)};
    *sent = true;
    return true;
}

/* ---- cql */

static unsigned ranges[TABLES], singles[TABLES]; /* pages of them */
static enum err_kind (*fault)(enum table t, bool range, const char *key);
static bool refuse_ranges, changed;
static unsigned refused;
static size_t ring_pieces;
static int64_t read_at_us;

struct asked {
    bool open, range, whole, ended;
    enum table table;
    int64_t after, to;
    char key[12];
    uint32_t page_rows;
    size_t next; /* of rows[] */
    struct buf bytes;
};
static struct asked tickets[TICKETS];

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
    return number_of(text);
}

void cql_partition_key(const struct slice *components, size_t n, struct buf *out)
{
    assert_int_equal(n, 1);
    buf_add_slice(out, components[0]);
}

static void ask(struct asked *t, const struct cql_query *q)
{
    *t = (struct asked){.open = true,
                        .range = strstr(q->text, "token(") != NULL,
                        .whole = strstr(q->text, "\"v\"") != NULL,
                        .table = strstr(q->text, "\"child\"")  ? CHILD
                                 : strstr(q->text, "\"name\"") ? NAME
                                                               : PARENT,
                        .page_rows = q->page_rows};
    sort_rows();
    buf_init(&t->bytes, 16 << 20);
    if (t->range) {
        t->after = (int64_t)load_u64(q->values[0].p);
        t->to = (int64_t)load_u64(q->values[1].p);
        return;
    }
    snprintf(t->key, sizeof t->key, "%.*s", (int)q->values[0].n, (const char *)q->values[0].p);
}

static void forget(struct asked *t)
{
    assert_true(t->open);
    buf_fini(&t->bytes);
    t->open = false;
}

static void add_cell(struct asked *t, const char *text)
{
    buf_add_u32(&t->bytes, (uint32_t)strlen(text));
    buf_add_str(&t->bytes, text);
}

#define COLUMN(n) {.name = {(const uint8_t *)n, sizeof(n) - 1}, .type = &text_type}
static struct column parent_list[] = {COLUMN("p"), COLUMN("v")},
                     wide_list[] = {COLUMN("p"), COLUMN("c"), COLUMN("v")},
                     child_list[] = {COLUMN("seq"), COLUMN("n"), COLUMN("pid")},
                     name_list[] = {COLUMN("name"), COLUMN("id")},
                     other_list[] = {COLUMN("seq"), COLUMN("n"), COLUMN("what")};
static struct columns shapes[8] = {
    {.count = 2, .list = parent_list}, {.count = 3, .list = wide_list},
    {.count = 2, .list = child_list},  {.count = 3, .list = child_list},
    {.count = 1, .list = name_list},   {.count = 2, .list = name_list},
    {.count = 1, .list = other_list},  {.count = 3, .list = other_list}};

static const struct columns *shape_of(const struct asked *t)
{
    if (t->table == PARENT)
        return &shapes[wide];
    return &shapes[(changed && t->table == CHILD ? 6 : t->table == CHILD ? 2 : 4) + t->range];
}

static void add_row(struct asked *t, const struct row *r)
{
    if (t->table == PARENT)
        add_cell(t, r->p);
    if (t->table == CHILD || (t->table == PARENT && wide))
        add_cell(t, r->c);
    add_cell(t, r->v);
    if (t->table != PARENT && t->range)
        add_cell(t, r->p);
}

static bool wants(const struct asked *t, const struct row *r)
{
    int64_t token = number_of(r->p);

    return r->table == t->table &&
           (t->range ? token > t->after && token <= t->to : !strcmp(r->p, t->key));
}

static bool page_of(struct asked *t, struct page *page, struct err *err)
{
    enum err_kind f = fault ? fault(t->table, t->range, t->key) : ERR_NONE;

    if (f != ERR_NONE)
        return err_set(err, f, "no answer");
    (t->range ? ranges : singles)[t->table]++;
    *page = (struct page){.columns = shape_of(t), .last = true, .read_at_us = ++read_at_us};
    buf_reset(&t->bytes);
    for (; t->next < row_count; t->next++) {
        if (!wants(t, &rows[t->next]))
            continue;
        if (page->row_count == t->page_rows) {
            page->last = false;
            break;
        }
        add_row(t, &rows[t->next]);
        page->row_count++;
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
    tickets[number].next = 0;
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
    if (refuse_ranges && strstr(q->text, "\"child\"") && strstr(q->text, "token(")) {
        refused++;
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
    return !p->t.ended && page_of(&p->t, page, err);
}

bool cql_ranges_plan(struct cql_cluster *c, const struct schema *table,
                     const struct token_range *of, size_t of_count, uint64_t target_bytes,
                     size_t at_least, struct cql_ranges *out, struct err *err)
{
    (void)c;
    (void)target_bytes;
    (void)at_least;
    (void)err;
    assert_true(!strcmp(table->table, "name") || !strcmp(table->table, "child"));
    assert_true(of_count == 1 && of->start == INT64_MIN && of->end == INT64_MAX);
    *out = (struct cql_ranges){.count = ring_pieces};
    return true;
}

void cql_ranges_fini(struct cql_ranges *r)
{
    (void)r;
}

/* ---- the fixture */

static struct mapping *mapping;
static struct schema *parent, *child, *name;
static struct plan *plan;
static struct keyed *keyed;
static struct keyed_result sum;
static size_t memory_bytes;
static const char *const urls[] = {"http://one:9200", NULL};

static const struct schema *find(void *ctx, const char *keyspace, const char *table,
                                 struct err *err)
{
    (void)ctx;
    (void)keyspace;
    (void)err;
    return !strcmp(table, "child") ? child : name;
}

static void open_keyed(void)
{
    static const struct test_column wides[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                               {"c", &text_type, COLUMN_CLUSTERING},
                                               {"v", &text_type, COLUMN_REGULAR}};
    static const struct test_column parents[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                                 {"v", &text_type, COLUMN_REGULAR}};
    static const struct test_column children[] = {{"pid", &text_type, COLUMN_PARTITION_KEY},
                                                  {"seq", &text_type, COLUMN_CLUSTERING},
                                                  {"n", &text_type, COLUMN_REGULAR}};
    static const struct test_column names[] = {{"id", &text_type, COLUMN_PARTITION_KEY},
                                               {"name", &text_type, COLUMN_REGULAR}};
    static const char text[] =
        "object: parent\nsource: {keyspace: ks, table: parent}\ntarget: {index: i}\n"
        "versioning: none\nsteps:\n"
        "  - children: {field: children, table: child, by: {pid: \"{p}\"}, columns: [seq, n], "
        "each: "
        "[lookup: {field: name, table: name, key: {id: \"{n}\"}, take: name, missing: omit}]}\n";
    static const char root[] =
        "  - lookup: {field: root, table: name, key: {id: \"{v}\"}, take: name, missing: omit}\n";
    char both[sizeof text + sizeof root];
    static const struct plan *plans[2];
    static const struct elastic_options elastic = {
        .urls = urls, .clock = &test_clock, .body_bytes = 1 << 20};
    const struct plan_tables tables = {.find = find};
    struct err err = {0};

    parent = wide ? test_schema("ks", "parent", wides, 3) : test_schema("ks", "parent", parents, 2);
    child = test_schema("ks", "child", children, 3);
    name = test_schema("ks", "name", names, 2);
    snprintf(both, sizeof both, "%s%s", text, twice ? root : "");
    mapping = mapping_parse(slice_str(both), "m.yaml", &err);
    assert_string_equal(err.text, "");
    plans[0] = plan = plan_compile_with(mapping, parent, &tables, &err);
    assert_string_equal(err.text, "");
    keyed = keyed_open(&(struct keyed_options){.elastic = &elastic,
                                               .plans = plans,
                                               .clock = &test_clock,
                                               .memory_bytes = memory_bytes,
                                               .retry_budget_ms = INT64_C(1) << 40},
                       &err);
    assert_non_null(keyed);
}

static int setup(void **state)
{
    wide = *state && !strcmp(*state, "wide");
    twice = *state && !strcmp(*state, "twice");
    row_count = doc_count = memory_bytes = 0;
    memset(ranges, 0, sizeof ranges);
    memset(singles, 0, sizeof singles);
    fault = NULL;
    refuse_ranges = changed = false;
    refused = lost_opens = 0;
    ring_pieces = 1;
    sum = (struct keyed_result){0};
    buf_init(&answer, 16 << 20);
    buf_init(&expected, 16 << 20);
    arena_init(&http_mem, 64 << 20);
    open_keyed();
    return 0;
}

static void forget_documents(void)
{
    while (doc_count)
        free(docs[--doc_count].source);
}

static void close_keyed(void)
{
    keyed_free(keyed);
    plan_free(plan);
    mapping_free(mapping);
    schema_free(parent);
    schema_free(child);
    schema_free(name);
}

static int teardown(void **state)
{
    (void)state;
    forget_documents();
    close_keyed();
    arena_fini(&http_mem);
    buf_fini(&expected);
    buf_fini(&answer);
    return 0;
}

static bool run(enum keyed_task task, struct err *err)
{
    sort_rows();
    keyed_begin(keyed, plan, &sum);
    for (size_t i = 0; i < row_count; i++) {
        const struct slice key[] = {slice_str(rows[i].p), slice_str(rows[i].c)};
        if (rows[i].table == PARENT && !keyed_add(keyed, task, key, 0, 0, err))
            return false;
    }
    return keyed_end(keyed, err);
}

static void scan(void)
{
    struct err err = {0};

    forget_documents();
    if (!run(KEYED_SCAN, &err))
        fail_msg("%s", err.text);
}

/* Parents 10, 20, ... of which every third has no child, the others one or two. */
static void family(int parents)
{
    for (int i = 1; i <= parents; i++) {
        add_number(PARENT, 10 * i, 0, i);
        for (int n = 0; n < i % 3; n++)
            add_number(CHILD, 10 * i, n, -1);
    }
}

/* ---- what comes by a range */

static void children_come_by_ranges(void **state)
{
    (void)state;
    family(200);
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 0);
    assert_in_range(ranges[CHILD], 1, 6); /* one for each round */
}

static void children_of_nobody_are_left_out(void **state)
{
    (void)state;
    family(200);
    for (int i = 0; i < 400; i++)
        add_number(CHILD, 10 * (i / 2) + 3 + i % 2, i % 3, -1);
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 0);
}

/* The first and the last token of a round are others' as well. */
static void keys_may_share_a_token(void **state)
{
    (void)state;
    for (int i = 1; i <= 40; i++)
        for (const char *of = "abc"; *of; of++) {
            char p[12];
            snprintf(p, sizeof p, "%d%c", i, *of);
            if (*of != 'b')
                add(PARENT, p, "", "v");
            add(CHILD, p, of, "-1");
        }
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 0);
}

static void rows_of_a_partition_share_their_children(void **state)
{
    (void)state;
    for (int p = 1; p <= 30; p++) {
        for (int c = 0; c < 20; c++)
            add_number(PARENT, p, c, 100 * p + c);
        for (int n = 0; n < p % 4; n++)
            add_number(CHILD, p, n, -1);
    }
    scan();
    expect_all();
    assert_true(singles[CHILD] <= 6); /* a round with too few partitions */
    assert_true(ranges[CHILD] > 0);
}

static void one_partition_may_take_many_pages(void **state)
{
    (void)state;
    family(20);
    for (int n = 2; n < 5000; n++)
        add_number(CHILD, 50, n, -1);
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 0);
    assert_true(ranges[CHILD] > 3);
}

static void nothing_at_all_is_known_by_one_page(void **state)
{
    (void)state;
    for (int i = 1; i <= 30; i++)
        add_number(PARENT, i, 0, i);
    scan();
    expect_all();
    assert_int_equal(ranges[CHILD], 1);
    assert_int_equal(singles[CHILD], 0);
}

/* Children look into 60 of 70 names. */
static void family_with_names(int parents)
{
    family(parents);
    for (size_t i = 0, n = 0; i < row_count; i++)
        if (rows[i].table == CHILD)
            snprintf(rows[i].v, sizeof rows[i].v, "%zu", 100000 + n++ % 60);
    for (int i = 0; i < 70; i++)
        add_number(NAME, 100000 + i, 0, i);
}

static void names_of_a_small_table_come_together(void **state)
{
    (void)state;
    family_with_names(200);
    scan();
    expect_all();
    assert_int_equal(singles[NAME], 0);
    assert_in_range(ranges[NAME], 1, 6);
}

/* Names that a level before has brought stand among those that the next one wants. */
static void one_table_may_serve_two_levels(void **state)
{
    (void)state;
    family(200);
    for (size_t i = 0, n = 0; i < row_count; i++)
        if (rows[i].table == CHILD)
            snprintf(rows[i].v, sizeof rows[i].v, "%zu", 100000 + n++ % 60);
        else
            snprintf(rows[i].v, sizeof rows[i].v, "%zu", 100000 + 7 * (i % 9));
    for (int i = 0; i < 70; i++)
        add_number(NAME, 100000 + i, 0, i);
    scan();
    expect_all();
    assert_in_range(ranges[NAME], 2, 12);
}

/* ---- what does not */

static void few_come_by_themselves(void **state)
{
    (void)state;
    family(3);
    scan();
    expect_all();
    assert_int_equal(ranges[CHILD], 0);
    assert_int_equal(singles[CHILD], 3);
}

/* It has all the memory for its rows, once. */
static void a_document_alone_reads_by_keys(void **state)
{
    (void)state;
    add_number(PARENT, 1, 0, 1);
    for (int i = 0; i < 50; i++) {
        add_number(CHILD, 1, i, 100000 + i);
        add_number(NAME, 100000 + i, 0, i);
    }
    scan();
    expect_all();
    assert_int_equal(ranges[NAME], 0);
    assert_int_equal(singles[NAME], 50);
}

/* Ids stand anywhere in the table: a range is from the first to the last. */
static void by_ids(void)
{
    struct err err = {0};

    forget_documents();
    if (!run(KEYED_WRITE, &err))
        fail_msg("%s", err.text);
    expect_all();
}

static void ids_read_a_small_table_by_a_range(void **state)
{
    (void)state;
    family_with_names(100);
    by_ids();
    assert_int_equal(singles[CHILD], 0);
    assert_int_equal(singles[NAME], 0);
    assert_in_range(ranges[NAME], 1, 3);
}

static void ids_read_a_large_table_by_keys(void **state)
{
    (void)state;
    family_with_names(100);
    for (int i = 1; i <= 100; i++)
        for (int n = 0; n < 30; n++)
            add_number(CHILD, 10 * i + 1 + n % 9, n, -1);
    by_ids();
    assert_in_range(ranges[CHILD], 1, 2);
    assert_int_equal(singles[CHILD], 100);
    assert_int_equal(singles[NAME], 0);
}

static void ids_read_by_keys_in_a_ring_of_many_parts(void **state)
{
    (void)state;
    family(100);
    ring_pieces = SIZE_MAX / 4; /* tokens are small numbers here */
    by_ids();
    assert_int_equal(ranges[CHILD], 0);
    assert_int_equal(singles[CHILD], 100);
}

/* Most of what comes is in vain: that is seen soon, and remembered for a while. */
static void a_crowded_table_is_read_by_keys(void **state)
{
    (void)state;
    family(20);
    for (int i = 0; i < 5000; i++)
        add_number(CHILD, 11 + i % 8, i, -1);
    scan();
    expect_all();
    assert_in_range(ranges[CHILD], 1, 2);
    assert_int_equal(singles[CHILD], 20);
    for (int i = 1; i < 16; i++)
        scan();
    assert_in_range(ranges[CHILD], 1, 2);
    assert_int_equal(singles[CHILD], 16 * 20);
    for (size_t i = row_count; i--;) /* it is tried again, and found to be better */
        if (number_of(rows[i].p) % 10)
            rows[i] = rows[--row_count];
    sorted = false;
    scan();
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 16 * 20);
}

static void names_of_a_large_table_come_by_themselves(void **state)
{
    (void)state;
    family(50);
    for (size_t i = 0, n = 0; i < row_count; i++)
        if (rows[i].table == CHILD)
            snprintf(rows[i].v, sizeof rows[i].v, "%zu", 100000 + 100 * n++);
    for (int i = 0; i < 5000; i++)
        add_number(NAME, 100000 + i, 0, i);
    scan();
    expect_all();
    assert_in_range(ranges[NAME], 1, 2);
    assert_int_equal(singles[NAME], 51);
}

/* Each part of a ring is a read of its own for the server. */
static void a_ring_of_many_parts_is_not_crossed(void **state)
{
    (void)state;
    ring_pieces = SIZE_MAX / 2;
    family(50);
    for (size_t i = 0, n = 0; i < row_count; i++)
        if (rows[i].table == CHILD)
            snprintf(rows[i].v, sizeof rows[i].v, "%zu", 1000000000 + 10000000 * n++);
    scan();
    expect_all();
    assert_int_equal(ranges[NAME], 0);
    assert_int_equal(singles[NAME], 51);
    assert_int_equal(singles[CHILD], 0);
}

/* ---- what goes wrong */

static const char *broken; /* key of the partition that can't be read */

static unsigned ranges_asked;

static enum err_kind one_is_broken(enum table t, bool range, const char *key)
{
    ranges_asked += t == CHILD && range;
    return t == CHILD && (range || !strcmp(key, broken)) ? ERR_REJECT : ERR_NONE;
}

static void a_bad_partition_costs_its_own_document(void **state)
{
    (void)state;
    family(40);
    fault = one_is_broken;
    broken = "70";
    ranges_asked = 0;
    scan();
    assert_int_equal(doc_count, 39);
    assert_int_equal(sum.counts.failed, 1);
    assert_string_equal(sum.reason, "read_failed");
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].table == PARENT && strcmp(rows[i].p, broken) != 0)
            expect_document(&rows[i]);
    scan();
    assert_int_equal(ranges_asked, 1); /* not again soon */
}

static enum err_kind second_page_is_rejected(enum table t, bool range, const char *key)
{
    (void)key;
    return t == CHILD && range && ++ranges_asked == 2 ? ERR_REJECT : ERR_NONE;
}

/* What came before is not there twice. */
static void a_range_may_break_in_the_middle(void **state)
{
    (void)state;
    family(20);
    for (int n = 2; n < 400; n++)
        add_number(CHILD, 50, n, -1);
    ranges_asked = 0;
    fault = second_page_is_rejected;
    scan();
    expect_all();
    assert_int_equal(ranges_asked, 2);
    assert_true(singles[CHILD] >= 20);
}

static enum err_kind some_are_lost(enum table t, bool range, const char *key)
{
    (void)key;
    return t == CHILD && range && ++ranges_asked % 4 == 2 ? ERR_RETRY : ERR_NONE;
}

static void a_lost_page_is_asked_for_again(void **state)
{
    (void)state;
    family(20);
    for (int n = 2; n < 400; n++)
        add_number(CHILD, 50, n, -1);
    ranges_asked = 0;
    fault = some_are_lost;
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 0);
}

static void a_lost_statement_is_prepared_again(void **state)
{
    (void)state;
    family_with_names(20);
    lost_opens = 3;
    by_ids();
    assert_int_equal(lost_opens, 0);
    assert_int_equal(singles[CHILD], 0);
}

static void a_server_may_refuse_the_statement(void **state)
{
    (void)state;
    family(40);
    refuse_ranges = true;
    scan();
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 2 * 40);
    assert_int_equal(refused, 1);
}

static void a_table_that_changed_is_told(void **state)
{
    struct err err = {0};

    (void)state;
    family(20);
    sort_rows();
    changed = true;
    assert_false(run(KEYED_SCAN, &err));
    assert_int_equal(err.kind, ERR_USER);
    assert_string_equal(err.text, "table ks.child changed; start again");
}

static void rounds_are_cut_to_the_memory(void **state)
{
    (void)state;
    close_keyed();
    memory_bytes = 96 << 10;
    open_keyed();
    for (int i = 1; i <= 40; i++) {
        add_number(PARENT, i, 0, i);
        for (int n = 0; n < 120; n++)
            add_number(CHILD, i, n, -1);
    }
    scan();
    expect_all();
    assert_int_equal(sum.counts.failed, 0);
    assert_true(ranges[CHILD] > 8);
    assert_int_equal(singles[CHILD], 0);
}

#define T(f)     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define WIDE(f)  {#f " (wide)", f, setup, teardown, (void *)"wide"}
#define TWICE(f) {#f, f, setup, teardown, (void *)"twice"}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(children_come_by_ranges),
        T(children_of_nobody_are_left_out),
        T(keys_may_share_a_token),
        WIDE(rows_of_a_partition_share_their_children),
        T(one_partition_may_take_many_pages),
        T(nothing_at_all_is_known_by_one_page),
        T(names_of_a_small_table_come_together),
        TWICE(one_table_may_serve_two_levels),
        T(few_come_by_themselves),
        T(a_document_alone_reads_by_keys),
        T(ids_read_a_small_table_by_a_range),
        T(ids_read_a_large_table_by_keys),
        T(ids_read_by_keys_in_a_ring_of_many_parts),
        T(a_crowded_table_is_read_by_keys),
        T(names_of_a_large_table_come_by_themselves),
        T(a_ring_of_many_parts_is_not_crossed),
        T(a_bad_partition_costs_its_own_document),
        T(a_range_may_break_in_the_middle),
        T(a_lost_page_is_asked_for_again),
        T(a_lost_statement_is_prepared_again),
        T(a_server_may_refuse_the_statement),
        T(a_table_that_changed_is_told),
        T(rounds_are_cut_to_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
