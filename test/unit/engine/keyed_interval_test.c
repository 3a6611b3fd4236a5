/*
 * Keys in the order of a table, as engine/direct_keys gives them. A table's partitions are ordered
 * by a token that is the number their key begins with, so that two of them may share one; its rows
 * by two clustering columns, the first of them descending.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../mapping/tables.h"
#include "stores.h"

enum { ROWS = 3000 };

/* ---- the table: rows in its order; a == "": of the partition's static columns only */

struct row {
    char p[12], a[8], b[8], v[24];
};
static struct row rows[ROWS];
static size_t row_count;
static bool clustered;

static int compare(const struct row *one, const struct row *two)
{
    int64_t a = number_of(one->p), b = number_of(two->p);
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
    struct row *r = row_find(p, a, b), new = {.v = ""};

    if (!r) {
        assert_true(row_count < ROWS);
        snprintf(new.p, sizeof new.p, "%s", p);
        snprintf(new.a, sizeof new.a, "%s", a);
        snprintf(new.b, sizeof new.b, "%s", b);
        for (r = &rows[row_count++]; r > rows && compare(&r[-1], &new) > 0; r--)
            *r = r[-1];
        *r = new;
    }
    snprintf(r->v, sizeof r->v, "%s", v);
}

static void row_delete(const char *p, const char *a, const char *b)
{
    struct row *r = row_find(p, a, b);

    if (r)
        memmove(r, r + 1, (size_t)(&rows[row_count--] - (r + 1)) * sizeof *r);
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
    assert_int_equal(doc_count(), row_count);
    for (size_t i = 0; i < row_count; i++)
        if (strcmp(doc(id_of(&rows[i])), source_of(&rows[i])) != 0)
            fail_msg("%s: %s is not %s", id_of(&rows[i]), doc(id_of(&rows[i])),
                     source_of(&rows[i]));
}

/* ---- its pages */

static struct column column_list[] = {COLUMN("p", text_type), COLUMN("a", text_type),
                                      COLUMN("b", text_type), COLUMN("v", text_type)};
static struct column flat_list[] = {COLUMN("p", text_type), COLUMN("v", text_type)};
static struct columns key_columns = {.count = 3, .list = column_list},
                      row_columns = {.count = 4, .list = column_list},
                      flat_keys = {.count = 1, .list = flat_list},
                      flat_rows = {.count = 2, .list = flat_list};
static uint64_t rows_given; /* by all reads */

static bool asks_for(const struct asked *a, const struct row *r)
{
    if (a->range)
        return asked_has_token(a, number_of(r->p));
    if (!slice_is(a->values[0], r->p))
        return false;
    for (uint16_t i = 1; i < a->value_count; i += 2)
        if (slice_is(a->values[i], r->a) && slice_is(a->values[i + 1], r->b))
            return true;
    return a->value_count == 1;
}

static void add_row(struct asked *a, const struct row *r)
{
    add_cell(a, r->p);
    if (clustered) {
        add_cell(a, r->a[0] ? r->a : NULL);
        add_cell(a, r->a[0] ? r->b : NULL);
    }
    if (a->whole)
        add_cell(a, r->v);
}

void page_fill(struct asked *a, struct page *page)
{
    struct row *last = (struct row *)a->behind; /* of the pages until now */

    _Static_assert(sizeof *last <= sizeof a->behind, "room for a row");
    assert_true(!a->group || strstr(a->text, "(\"a\",\"b\") IN ((?,?),(?,?)"));
    page->columns =
        clustered ? (a->whole ? &row_columns : &key_columns) : (a->whole ? &flat_rows : &flat_keys);
    for (size_t i = 0; i < row_count; i++) {
        if (!asks_for(a, &rows[i]) || (last->p[0] && compare(&rows[i], last) <= 0))
            continue;
        if (page_full(a, page))
            break;
        add_row(a, &rows[i]);
        *last = rows[i];
        page->row_count++;
        rows_given++;
    }
}

/* ---- the fixture */

static struct process ours;
static struct limit *limit; /* of rows read; NULL: none */
static struct keyed_result sum;
static size_t memory_bytes;

static void open_keyed(void)
{
    static const struct test_column wide[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                              {"a", &text_type, COLUMN_CLUSTERING},
                                              {"b", &text_type, COLUMN_CLUSTERING},
                                              {"v", &text_type, COLUMN_STATIC}};
    static const struct test_column flat[] = {{"p", &text_type, COLUMN_PARTITION_KEY},
                                              {"v", &text_type, COLUMN_REGULAR}};

    schemas[0] = clustered ? test_schema("ks", "t", wide, 4) : test_schema("ks", "t", flat, 2);
    plan_open("object: thing\nsource: {table: t}\ntarget: {index: i}\n"
              "nulls: omit\nversioning: sequence\n");
    process_open(&ours, false,
                 (struct keyed_options){.limit = limit,
                                        .missing = KEYED_KEEP,
                                        .retry_budget_ms = 60000,
                                        .memory_bytes = memory_bytes});
}

static void close_keyed(void)
{
    process_close(&ours);
    plan_close();
}

static int begin(bool with_clustering)
{
    stores_open();
    row_count = 0;
    step_us = 500000;
    memory_bytes = 0;
    clustered = with_clustering;
    only_conditional = true;
    elastic.body_bytes = 1 << 20;
    open_keyed();
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return begin(true);
}

static int setup_flat(void **state)
{
    (void)state;
    return begin(false);
}

static int teardown(void **state)
{
    (void)state;
    close_keyed();
    stores_close();
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
    keyed_begin(ours.keyed, plan, &sum);
    for (size_t i = 0; i < n; i++) {
        bool partition = !keys[i].a[0];
        const struct slice key[3] = {slice_str(keys[i].p),
                                     partition ? SLICE_NULL : slice_str(keys[i].a),
                                     partition ? SLICE_NULL : slice_str(keys[i].b)};
        if (!keyed_add(ours.keyed, KEYED_SCAN, key, 0, 0, &err))
            break;
    }
    if (err.kind == ERR_NONE && keyed_end(ours.keyed, &err))
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
    assert_int_equal(count.read + count.keys, 0);
    assert_int_equal(count.mget, 2);
    memset(&count, 0, sizeof count);
    assert_int_equal(sync_pages(1000), 150);
    assert_int_equal(sum.counts.unchanged, 150);
    assert_int_equal(count.range, 1);
    assert_int_equal(count.bulk + count.range_keys + count.read + count.keys, 0);
}

static void wide_partitions_by_name(void **state)
{
    (void)state;
    fill(1, 180);
    assert_int_equal(sync_pages(90), 180);
    expect_equal();
    assert_int_equal(count.group, 3);
    assert_int_equal(count.group_keys, 3);
    assert_int_equal(count.range + count.read, 0);
}

/* The page begins and ends inside partitions: the rows before and behind are not its. */
static void parts_of_partitions(void **state)
{
    (void)state;
    fill(5, 20);
    assert_int_equal(sync_pages(50), 100);
    expect_equal();
    assert_int_equal(count.read, 0);
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
    assert_int_equal(count.keys, 3);
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
    assert_non_null(doc_find("11:c:0"));
    assert_non_null(doc_find("15x:a:0"));
    assert_null(doc_find("111:a:0"));    /* not of this page */
    assert_non_null(doc_find("12:a:0")); /* not ours */
    assert_int_equal(count.read, 2);     /* new ones are looked up and read by themselves */
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
    assert_null(doc_find("12:a:0"));
    assert_null(doc_find("10:a:1"));
    assert_int_equal(sum.counts.gone, 2);
    assert_int_equal(sum.counts.rows, 148);
    assert_int_equal(doc_count(), 148); /* what came later is not of this page */
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
    assert_int_equal(count.read, 2);
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
        docs_forget();
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
        docs_forget();
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

static enum err_kind refuse_together(const struct asked *a)
{
    return a->range || a->group ? ERR_REJECT : ERR_NONE;
}

static void refused_together_read_one_by_one(void **state)
{
    (void)state;
    fill(20, 5);
    read_fault = refuse_together;
    assert_int_equal(sync_pages(1000), 100);
    expect_equal();
    assert_int_equal(count.read, 100);
}

static bool refuse_groups(const struct asked *a)
{
    return a->group;
}

static void server_without_such_groups(void **state)
{
    (void)state;
    fill(3, 20);
    refuse = refuse_groups;
    assert_int_equal(sync_pages(1000), 60);
    expect_equal();
    assert_int_equal(count.group, 0);
    assert_int_equal(count.read, 40);
}

static enum err_kind every_seventh(const struct asked *a)
{
    return a->n % 7 == 1 ? ERR_RETRY : ERR_NONE;
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

static enum fault first_looks_are_too_large(struct call *c)
{
    return !strcmp(c->step, "mget") && (c->n == 1 || c->n == 3) ? ENDLESS : NO_FAULT;
}

/* The first is too much for one answer, then half of it behind the first half: what is not looked
 * at waits. */
static void looks_that_are_cut(void **state)
{
    (void)state;
    fill(150, 1);
    for (size_t i = 0; i < row_count; i++)
        doc_put(id_of(&rows[i]), "{\"v\":\"0\"}");
    fault = first_looks_are_too_large;
    sync_page();
    assert_int_equal(sum.counts.indexed, 150);
    assert_int_equal(count.conflicts, 0);
    expect_equal();
}

/* ---- anything, at any time */

static struct row late; /* its document is not written yet */
static bool has_late;

static struct row any_row(void)
{
    struct row r = {.v = ""};

    snprintf(r.p, sizeof r.p, "%u%s", below(40), below(4) ? "" : "x");
    if (clustered) {
        snprintf(r.a, sizeof r.a, "%c", 'a' + (int)below(3));
        snprintf(r.b, sizeof r.b, "%u", below(below(8) ? 4 : 30));
    }
    snprintf(r.v, sizeof r.v, "%u", below(1000));
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
    if (below(3))
        return;
    struct row r = row_count && below(2) ? rows[below((unsigned)row_count)] : any_row();
    if (below(3))
        row_put(r.p, r.a, r.b, r.v[0] == '7' ? "8" : "7");
    else
        row_delete(r.p, r.a, r.b);
    late = r;
    has_late = below(2);
    if (!has_late)
        write_document_of(&r);
}

static enum err_kind sometimes(const struct asked *a)
{
    if (below(12))
        return ERR_NONE;
    return (a->range || a->group) && !below(4) ? ERR_REJECT : ERR_RETRY;
}

static void whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        random_begin(seed);
        row_count = 0;
        docs_forget();
        has_late = false;
        hook = NULL;
        close_keyed();
        memory_bytes = below(2) ? 0 : 12u << 10;
        open_keyed();
        for (unsigned i = below(600); i; i--) {
            struct row r = any_row();
            row_put(r.p, r.a, r.b, r.v);
        }
        for (size_t i = 0; i < row_count; i++)
            if (below(2))
                doc_put(id_of(&rows[i]), below(2) ? source_of(&rows[i]) : "{\"v\":\"old\"}");
        hook = anything;
        read_fault = below(2) ? sometimes : NULL;
        sync_pages(1 + below(below(2) ? 40 : 800));
        if (has_late)
            write_document_of(&late);
        print_message("# seed %" PRIu64 "\n", seed);
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
