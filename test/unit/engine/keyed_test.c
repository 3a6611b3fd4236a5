/*
 * engine/keyed where it looks before it writes (versioning: sequence): what other writers do in
 * between, what goes wrong, and what elements come to.
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "stores.h"

enum { ROWS = 400 };

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

static struct column column_list[] = {COLUMN("p", text_type), COLUMN("c", text_type),
                                      COLUMN("v", text_type), COLUMN("w", text_type)};
static struct columns key_columns = {.count = 2, .list = column_list},
                      row_columns = {.count = 4, .list = column_list};
static unsigned cut_read;   /* number of the read whose last byte is missing */
static const char *large_w; /* instead of each row's w */

void page_fill(struct asked *a, struct page *page)
{
    page->columns = a->whole ? &row_columns : &key_columns;
    for (; a->next < ROWS; a->next++) {
        const char *c = rows[a->next].c;

        if (!rows[a->next].live || !slice_is(a->values[0], rows[a->next].p) ||
            (a->value_count == 2 && !slice_is(a->values[1], c)))
            continue;
        if (page_full(a, page))
            break;
        add_cell(a, rows[a->next].p);
        add_cell(a, strcmp(c, "static") ? c : NULL); /* of the partition's static columns */
        if (a->whole) {
            add_cell(a, rows[a->next].v);
            add_cell(a, large_w ? large_w : rows[a->next].w);
        }
        page->row_count++;
    }
    if (a->whole && a->n == cut_read)
        a->bytes.len--;
}

/* ---- the fixture */

static struct process ours;

static int setup(void **state)
{
    static const struct test_column columns[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                                 {"c", &text_type, COLUMN_CLUSTERING},
                                                 {"v", &text_type, COLUMN_REGULAR},
                                                 {"w", &text_type, COLUMN_REGULAR}};
    static const char *const two_urls[] = {"http://one:9200", "http://two:9200/", NULL};

    const char *how = *state ? *state : "";

    stores_open();
    memset(rows, 0, sizeof rows);
    page_rows_max = 1000;
    step_us = 500000;
    large_w = NULL;
    elastic.urls = two_urls;
    elastic.body_bytes = 4096;
    schemas[0] = test_schema("ks", "t", columns, 4);
    AUTO_STR char *text = xsprintf("object: thing\nsource: {table: t}\n"
                                   "target: {index: i, id: \"%s\"}\n%s",
                                   strcmp(how, "one id") ? "{p}-{c}" : "{p}",
                                   strcmp(how, "bare") ? "preserve: [own, n]\n" : "");
    plan_open(text);
    process_open(
        &ours, false,
        (struct keyed_options){.retry_budget_ms = strcmp(how, "patient") ? 60000 : INT64_C(1) << 40,
                               .strict_values = !strcmp(how, "strict"),
                               .memory_bytes = strcmp(how, "small") ? 0 : 1 << 20});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    process_close(&ours);
    plan_close();
    stores_close();
    return 0;
}

static bool sync_ids(const char *text)
{
    memset(&count, 0, sizeof count);
    return process_sync(&ours, text);
}

static bool same_json(const char *one, const char *other)
{
    struct err err = {0};
    struct arena mem;

    arena_init(&mem, 1 << 20);
    bool same = json_equal(json_parse(slice_str(one), &mem, &err),
                           json_parse(slice_str(other), &mem, &err));
    arena_fini(&mem);
    return same;
}

static void expect_doc(const char *id, const char *source)
{
    if (!strcmp(source, "absent") || !strcmp(doc(id), "absent"))
        assert_string_equal(doc(id), source);
    else if (!same_json(doc(id), source))
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_true(ours.results[0].ok);
    expect_doc("p-c", DOC("1"));
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.unchanged, 1);
    assert_true(ours.results[0].ok);
    assert_int_equal(count.bulk, 0);
    row_put("p", "c", "2");
    assert_true(sync_ids("[{\"P\":\"p\",\"c\":\"c\"}]")); /* a whole key: no query for keys, no
                                                             check after an update */
    assert_int_equal(ours.results[0].counts.indexed, 1);
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
    assert_int_equal(ours.results[0].counts.unchanged, 1);
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
    assert_int_equal(ours.results[0].counts.unchanged, 1);
}

static void co_writer_creates(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    hook = write_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", OWN("3", "7"));
    assert_int_equal(ours.results[0].counts.unchanged, 1);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
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
    assert_int_equal(ours.results[0].outcome, KEYED_MISSING);
    assert_int_equal(ours.results[0].counts.gone, 1);
    assert_int_equal(ours.results[0].counts.rows, 0);
}

static void row_and_document_deleted_before_update(void **state)
{
    (void)state;
    row_put("p", "c", "2");
    doc_put("p-c", DOC("1"));
    hook = delete_both_before_first_bulk;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", "absent");
    assert_int_equal(ours.results[0].outcome, KEYED_MISSING);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
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
    assert_int_equal(ours.results[0].outcome, KEYED_MISSING);
    assert_string_equal(ours.results[0].reason, "missing");
}

static void missing_rows_are_reported(void **state)
{
    (void)state;
    doc_put("p-c", DOC("1"));
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c\"},\"q\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(ours.totals.missing, 2);
    assert_false(ours.results[0].ok);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
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
    assert_int_equal(ours.results[0].counts.gone, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_true(ours.results[0].ok);
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
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_int_equal(ours.results[0].counts.contended, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_string_equal(ours.results[0].reason, "contended");
    assert_false(ours.results[0].ok);
}

/* ---- lost answers and refusals */

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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.results[0].counts.documents, 1);
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
    assert_int_equal(ours.results[0].outcome, KEYED_MISSING);
}

static void overload_passes(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    item_fault = overloaded_twice;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(count.bulk, 3);
    assert_int_equal(ours.results[0].counts.indexed, 1);
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
    assert_int_equal(ours.err.kind, ERR_REACH);
    assert_non_null(strstr(ours.err.text, "unavailable_shards_exception"));
    assert_int_equal(ours.results[0].outcome, KEYED_OPEN);
    assert_int_equal(ours.totals.open, 1);
    assert_int_equal(ours.results[1].outcome, KEYED_BAD);
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
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_string_equal(ours.results[0].reason, "mapper_parsing_exception");
    assert_string_equal(ours.results[0].text, "no date");
    assert_false(ours.results[0].ok);
}

static enum fault items_missing(struct call *c)
{
    c->answer = "{\"took\":1,\"errors\":false,\"items\":[]}";
    return is_bulk(c, 1) ? ANSWER : NO_FAULT;
}

static void silence_is_no_success(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = items_missing;
    assert_true(sync_ids("[\"p\"]"));
    expect_doc("p-c", DOC("1"));
    assert_int_equal(count.bulk, 2);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

/* A line that makes the server refuse the whole body. */
static enum fault refuse_seven(struct call *c)
{
    if (strcmp(c->step, "bulk") != 0 || !memmem(c->body.p, c->body.n, "p-c7\"", 5))
        return NO_FAULT;
    c->status = 400;
    c->answer = "{\"error\":{\"type\":\"illegal_argument_exception\",\"reason\":\"bad line\"},"
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
    assert_int_equal(ours.results[0].counts.indexed, 39);
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "illegal_argument_exception");
    assert_true(count.bulk < 20);
}

/* A proxy's limit. */
static enum fault refuse_large(struct call *c)
{
    if (strcmp(c->step, "bulk") != 0 || c->body.n < 500)
        return NO_FAULT;
    c->status = 413;
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
    assert_int_equal(ours.results[0].counts.indexed, 40);
    assert_true(count.bulk > 5);
}

static const char *root_body, *nodes_body, *settings_body;
static enum fault who_is_there(struct call *c)
{
    c->answer = strstr(c->url, "/_nodes/")     ? nodes_body
                : strstr(c->url, "/_settings") ? settings_body
                                               : root_body;
    c->status = c->answer ? 200 : 404;
    c->answer = c->answer ? c->answer : "{\"error\":\"x\"}";
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
        bool ok = keyed_check(ours.keyed, &err);
        assert_string_equal(err.text, cases[i].error ? cases[i].error : "");
        assert_int_equal(ok, !cases[i].error);
        assert_int_equal(err.kind, ok ? ERR_NONE : ERR_USER);
    }
}

static enum fault first_node_is_away(struct call *c)
{
    return strstr(c->url, "//one") ? NOT_REACHED : NO_FAULT;
}

static void another_node(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = first_node_is_away;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(count.mget, 2); /* once in vain */
    assert_int_equal(count.bulk, 1);
}

static enum fault first_node_is_ill(struct call *c)
{
    if (!strstr(c->url, "//one"))
        return NO_FAULT;
    c->status = 503;
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

static enum fault first_bulk_is_answered_503(struct call *c)
{
    if (!is_bulk(c, 1))
        return NO_FAULT;
    c->status = 503;
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

static enum fault first_bulk_is_not_reached(struct call *c)
{
    return is_bulk(c, 1) ? NOT_REACHED : NO_FAULT;
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

static enum fault forbidden(struct call *c)
{
    c->status = 403;
    c->answer = "{\"error\":{\"type\":\"security_exception\",\"reason\":\"no rights\"}}";
    return ANSWER;
}

static void stops(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    index_exists = false;
    assert_false(sync_ids("[\"p\"]"));
    assert_int_equal(ours.err.kind, ERR_USER);
    assert_non_null(strstr(ours.err.text, "there is no index or alias \"i\""));
    assert_non_null(strstr(ours.err.text, "curl -X PUT http://one:9200/i"));
    assert_int_equal(count.bulk, 0);
    fault = forbidden;
    assert_false(sync_ids("[\"p\"]"));
    assert_int_equal(ours.err.kind, ERR_REACH);
    assert_string_equal(
        ours.err.text,
        "thing: _mget of i: http://one:9200 answered 403: security_exception: no rights");
}

static enum err_kind third_read_times_out(const struct asked *a)
{
    (void)a;
    return count.reads == 3 ? ERR_RETRY : ERR_NONE;
}

static enum err_kind second_read_fails(const struct asked *a)
{
    (void)a;
    return count.reads == 2 ? ERR_REJECT : ERR_NONE;
}

static enum err_kind first_read_fails(const struct asked *a)
{
    (void)a;
    return count.reads == 1 ? ERR_REJECT : ERR_NONE;
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
    assert_int_equal(ours.results[0].counts.indexed, 5);
    read_fault = second_read_fails;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.unchanged, 4);
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "read_failed");
    read_fault = first_read_fails;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_false(ours.results[0].ok);
}

/* ---- what a first reading missed */

static void row_goes_then_comes_back(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
    if (!strcmp(step, "bulk_done") && n == 2)
        row_put("p", "c", "9");
}

static enum fault lose_second_bulk(struct call *c)
{
    return is_bulk(c, 2) ? LOSE_ANSWER : NO_FAULT;
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void row_goes_for_good(const char *step, unsigned n)
{
    if (!strcmp(step, "bulk_done") && n == 1)
        row_delete("p", "c");
}

static enum fault second_bulk_never_arrives(struct call *c)
{
    if (!is_bulk(c, 2))
        return NO_FAULT;
    c->status = 503;
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
    assert_int_equal(ours.results[0].outcome, KEYED_MISSING);
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

static enum fault endless_bulk_answer(struct call *c)
{
    return is_bulk(c, 1) ? ENDLESS : NO_FAULT;
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

static enum fault endless_root(struct call *c)
{
    (void)c;
    return ENDLESS;
}

static enum err_kind no_read(const struct asked *a)
{
    (void)a;
    return ERR_RETRY;
}

static void checks_that_fail_leave_nothing_open(void **state)
{
    struct err err = {0};

    (void)state;
    fault = endless_root;
    assert_false(keyed_check(ours.keyed, &err));
    assert_int_equal(err.kind, ERR_USER);
    read_fault = no_read;
    err_clear(&err);
    assert_false(keyed_check(ours.keyed, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    assert_int_equal(tickets_open, 0);
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
    assert_int_equal(ours.results[0].counts.indexed, 2);
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "stored_unreadable");
    expect_doc("p-d", "{\"p\":\"p\",\"c\":\"d\",\"v\":\"2\",\"w\":\"\"}");
    assert_string_equal(doc("p-c"), "{\"p\":\"p\",\"own\":\"\\ud800\"}");
}

/* Where nothing is taken over, it is written anew. */
static void unreadable_document_is_replaced(void **state)
{
    (void)state;
    unreadable("\"\\ud800\"");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 3);
    expect_doc("p-c", DOC("2"));
}

static size_t largest_body;

/* A proxy that refuses one document does not make bodies larger. */
static enum fault refuse_very_large(struct call *c)
{
    if (strcmp(c->step, "bulk") != 0)
        return NO_FAULT;
    largest_body = c->body.n > largest_body ? c->body.n : largest_body;
    if (!memmem(c->body.p, c->body.n, "p-c0\"", 5))
        return NO_FAULT;
    c->status = 413;
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
    assert_int_equal(ours.results[0].counts.indexed, 199);
    assert_string_equal(ours.results[0].reason, "document_too_large");
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
    assert_int_equal(ours.err.kind, ERR_USER);
    assert_string_equal(ours.err.text, "thing: table ks.t changed; start again");
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
    assert_int_equal(ours.totals.missing, 60);
    assert_int_equal(ours.results[60].counts.indexed, 1);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.results[0].counts.gone, 0);
}

static enum err_kind second_read_is_refused(const struct asked *a)
{
    (void)a;
    return count.reads == 2 ? ERR_USER : ERR_NONE;
}

static void fatal_read_ends_the_call(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    row_put("p", "d", "1");
    read_fault = second_read_is_refused;
    assert_false(sync_ids("[\"p\"]"));
    assert_int_equal(ours.err.kind, ERR_USER);
    assert_string_equal(ours.err.text, "thing: no answer");
    assert_int_equal(ours.totals.open, 1);
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
    assert_int_equal(ours.results[0].counts.indexed, 2);
    assert_int_equal(ours.results[0].counts.documents, 2);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    expect_doc("p",
               "{\"p\":\"p\",\"c\":null,\"v\":\"1\",\"w\":\"\"}"); /* its id is the partition key */
    hook = partition_gets_a_row;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.gone, 1);
    assert_int_equal(count.written, 0);
}

static void partition_that_gets_a_row_after_our_create(void **state)
{
    (void)state;
    row_put("p", "static", "1");
    hook = partition_gets_a_row_after_the_create;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.gone, 1);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "odd");
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
    assert_int_equal(ours.results[0].counts.indexed, 120);
    assert_int_equal(count.written, 120);
    assert_int_equal(count.read, 120); /* none without a look before */
    assert_non_null(strstr(doc("p-c119"), "\"v\":\"1\",\"w\":\"\",\"own\":[0,0,1,2"));
}

static enum fault long_answers_cut_off(struct call *c)
{
    static char text[20000];

    if (strcmp(c->step, "mget") != 0 || c->n > 4)
        return NO_FAULT;
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 2 ? '1' : i ? ',' : '[';
    c->answer = text;
    return ANSWER;
}

/* Tries that failed leave no memory taken. */
static void cut_off_answers_take_no_memory(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    fault = long_answers_cut_off;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void index_without_source(void **state)
{
    (void)state;
    keeps_source = false;
    row_put("p", "c", "1");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_true(sync_ids("[\"p\"]"));
    assert_string_equal(ours.results[0].reason, "no_source"); /* what is preserved can't be known */
    assert_int_equal(ours.results[0].counts.failed, 1);
}

static void index_without_source_written_anew(void **state)
{
    (void)state;
    keeps_source = false;
    row_put("p", "c", "1");
    doc_put("p-c", DOC("1"));
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void altered_value_is_counted(void **state)
{
    (void)state;
    row_put("p", "c", "\xff");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.altered, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
}

static void altered_value_fails_when_strict(void **state)
{
    (void)state;
    row_put("p", "c", "\xff");
    assert_true(sync_ids("[\"p\"]"));
    assert_string_equal(ours.results[0].reason, "altered_value");
    assert_int_equal(ours.results[0].counts.altered, 0);
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

static enum fault bulks_end_in_503(struct call *c)
{
    if (strcmp(c->step, "bulk") != 0 || c->n > 20)
        return NO_FAULT;
    c->status = 503;
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
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "outcome_unknown");
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
    tickets_most = 0;
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]")); /* filtered: nothing is written */
    assert_int_equal(ours.results[0].counts.filtered, 40);
    assert_true(tickets_most <= 16);
    tickets_most = 0;
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]"));
    assert_int_equal(ours.results[0].counts.filtered, 40);
    assert_in_range(tickets_most, 4, 8);
    large_w = nine;
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c1\",\"v\":\"2\"}]"));
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"c1\",\"v\":\"2\"}]"));
    assert_int_equal(ours.results[0].counts.filtered,
                     1); /* more than there is room for: one by one */
    large_w = NULL;
    for (int i = 0; i < 20; i++)
        assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]"));
    tickets_most = 0;
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"}]"));
    assert_int_equal(tickets_most, 40); /* small again: all at once */
}

static void document_larger_than_the_memory(void **state)
{
    AUTO_STR char *w = xalloc((1 << 20) + 1);

    (void)state;
    memset(w, 'w', 1 << 20);
    large_w = w;
    row_put("p", "c", "1");
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "document_too_large");
    large_w = NULL;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.indexed, 1);
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
    const struct json *list = json_parse(buf_slice(&ids), &ours.ids, &err);
    assert_non_null(list);
    struct mallinfo2 before = mallinfo2();
    assert_true(keyed_sync(ours.keyed, "thing", list, many, &err));
    struct mallinfo2 after = mallinfo2();
    size_t grown = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
    if (grown > 24 << 20)
        fail_msg("%zu bytes are kept", grown);
    ours.totals = (struct keyed_totals){0};
    keyed_totals_add(&ours.totals, many, MANY);
    assert_true(keyed_conserved(&ours.totals));
    assert_int_equal(ours.totals.found, 1);
    assert_int_equal(ours.totals.missing, MANY - 1);
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
    assert_int_equal(ours.totals.ids, 9);
    /* the whole key comes before the look-ups: it owns the document */
    assert_int_equal(ours.results[0].counts.documents, 1);
    assert_int_equal(ours.results[0].counts.merged, 1);
    assert_int_equal(ours.results[1].outcome, KEYED_DUPLICATE);
    assert_int_equal(ours.results[1].of, 0);
    assert_true(ours.results[1].ok);
    assert_string_equal(ours.results[2].reason, "bad_id");
    assert_int_equal(ours.results[3].counts.documents, 1);
    assert_true(ours.results[3].ok);
    assert_int_equal(ours.results[4].outcome, KEYED_MISSING);
    /* with conditions: read by itself, also where it is another element's document */
    assert_int_equal(ours.results[5].counts.rows, 3);
    assert_int_equal(ours.results[5].counts.filtered, 1);
    assert_int_equal(ours.results[5].counts.documents, 2);
    assert_int_equal(ours.results[5].counts.merged, 0);
    assert_true(ours.results[5].ok);
    assert_string_equal(ours.results[6].reason, "no_partition_key");
    assert_int_equal(ours.results[7].outcome, KEYED_MISSING);
    assert_int_equal(ours.results[7].counts.filtered, 1);
    assert_string_equal(ours.results[8].reason, "empty_id");
    assert_int_equal(ours.totals.duplicate, 1);
    assert_int_equal(ours.totals.bad, 3);
    assert_int_equal(ours.totals.missing, 2);
    assert_int_equal(ours.totals.found, 3);
    assert_int_equal(next_seq_no, 3);
}

/* A row that one element's condition leaves out is still the next one's. */
static void filtered_row_is_not_lost(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"2\"},\"p\"]"));
    assert_int_equal(ours.results[0].counts.filtered, 1);
    assert_int_equal(ours.results[1].counts.indexed, 1);
    expect_doc("p-c", DOC("1"));
}

static void failure_is_shared(void **state)
{
    (void)state;
    row_put("p", "c", "1");
    item_fault = rejects_c;
    assert_true(sync_ids("[\"p\",{\"p\":\"p\",\"c\":\"c\"}]"));
    assert_int_equal(ours.results[1].counts.failed, 1);
    assert_int_equal(ours.results[0].counts.merged, 1);
    assert_false(ours.results[0].ok);
    assert_false(ours.results[1].ok);
    assert_string_equal(ours.results[0].reason, "shared_failed");
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
    assert_int_equal(ours.results[0].counts.indexed, 350);
    assert_int_equal(next_seq_no, 350);
}

static void unknown_type(void **state)
{
    struct err err = {0};

    (void)state;
    arena_reset(&ours.ids);
    assert_false(keyed_sync(ours.keyed, "Thing", json_parse(slice_str("[]"), &ours.ids, &err),
                            ours.results, &err));
    assert_string_equal(err.text, "no mapping for object type \"Thing\"");
    assert_true(sync_ids("[]"));
    assert_int_equal(count.mget, 0);
}

/* ---- many runs with whatever comes: other writers between any two steps, and faults of both
 * stores
 */

enum { KEYS = 9, RUNS = 1500 };

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
    } else if (row_value(key) && doc_find(keys[key].id) && below(2)) {
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

static enum fault any_fault(struct call *c)
{
    static const int ill[] = {429, 502, 503, 504, 500, 200, 200};
    static const char *const texts[] = {"", "{\"items\":[", "{\"docs\":[]}", "<html>", "null"};

    if (below(4))
        return NO_FAULT;
    c->status = ill[below(7)];
    if (c->status == 500 && !strcmp(c->step, "bulk"))
        c->status = 503; /* else the sixth fails the document */
    c->answer = texts[below(5)];
    return (enum fault)(1 + below(3));
}

static enum err_kind any_read_fault(const struct asked *a)
{
    (void)a;
    return below(8) ? ERR_NONE : ERR_RETRY;
}

static void begin_run(uint64_t seed)
{
    random_begin(seed);
    memset(rows, 0, sizeof rows);
    docs_forget();
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
        const char *v = row_value(i), *have = doc(keys[i].id);
        if (keys[i].own)
            snprintf(own, sizeof own, ",\"own\":%u", keys[i].own);
        if (v)
            snprintf(want, sizeof want, "{\"p\":\"%s\",\"c\":\"%s\",\"v\":\"%s\",\"w\":\"\"%s}",
                     keys[i].p, keys[i].c, v, own);
        bool same = !v || !strcmp(have, "absent") ? !strcmp(have, want) : same_json(have, want);
        if (!same)
            fail_msg("seed %" PRIu64 ": %s is %s, wanted %s", seed, keys[i].id, have, want);
    }
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
            fail_msg("seed %" PRIu64 ": %s", seed, ours.err.text);
        assert_int_equal(ours.totals.open, 0);
        assert_int_equal(ours.totals.counts.failed, ours.totals.counts.contended);
        written += count.written;
        lost += (unsigned)ours.totals.counts.failed;
        for (int i = 0; i < KEYS; i++)
            finish_pending(i);
        if (ours.totals.counts.failed == 0)
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.results[0].counts.merged, 19);
    assert_int_equal(ours.results[0].counts.id_collision, 19);
    assert_true(ours.results[0].ok);
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(count.bulk, 0);
    assert_int_equal(ours.results[0].counts.unchanged, 1);
    assert_int_equal(ours.results[0].counts.merged, 19);
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
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_int_equal(ours.results[1].outcome, KEYED_MISSING);
    expect_doc("p", document);
    assert_true(sync_ids("[{\"p\":\"p\",\"c\":\"gone\"},{\"p\":\"p\",\"c\":\"c1\"}]"));
    assert_int_equal(ours.results[0].outcome, KEYED_MISSING);
    assert_int_equal(ours.results[1].counts.unchanged, 1);
    doc_delete("p");
    row_put("p", "c2", "2");
    item_fault = rejects_first_p;
    assert_true(sync_ids("[\"p\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    expect_doc("p", document);
    item_fault = NULL;
    doc_delete("p");
    assert_true(sync_ids("[{\"p\":\"p\",\"v\":\"1\"}]")); /* not of the last */
    assert_int_equal(ours.results[0].counts.filtered, 1);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    expect_doc("p", document);
}

#define T(f)       cmocka_unit_test_setup_teardown(f, setup, teardown)
/* "bare": nothing is preserved; "one id": rows of a partition share it. */
#define IN(how, f) cmocka_unit_test_prestate_setup_teardown(f, setup, teardown, (void *)how)

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
        IN("bare", unreadable_document_is_replaced),
        T(refused_document_makes_bodies_no_larger),
        T(table_that_changed_is_seen),
        IN("small", many_wide_elements),
        T(lasting_error_fails_alone),
        T(row_comes_back_before_our_delete),
        T(fatal_read_ends_the_call),
        T(cut_rows_are_read_again),
        T(partition_with_static_columns_only),
        T(partition_that_gets_a_row_after_our_create),
        IN("small", large_stored_documents),
        IN("small", cut_off_answers_take_no_memory),
        T(index_without_source),
        IN("bare", index_without_source_written_anew),
        T(altered_value_is_counted),
        IN("strict", altered_value_fails_when_strict),
        T(equal_document_of_another_is_not_deleted),
        IN("small", too_many_unknown_outcomes),
        T(large_rows_are_read_a_few_at_a_time),
        IN("small", document_larger_than_the_memory),
        T(a_hundred_thousand_ids),
        IN("one id", last_of_one_id_stands),
        IN("one id", rows_of_one_id_that_are_no_documents),
        IN("patient", whatever_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
