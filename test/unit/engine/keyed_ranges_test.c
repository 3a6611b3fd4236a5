/*
 * Rows of other tables in a scan, by ranges of tokens, and an index that takes every document. A
 * partition's token is the number that its key begins with, so that two of them may share one. What
 * may come in between is for keyed_tables_test.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "stores.h"

enum { ROWS = 12000 };

/* ---- the tables: parent (p, v) or (p, c, v), child (pid, seq, n), name (id, name) */

enum table { PARENT, CHILD, NAME, TABLES };

struct row {
    enum table table;
    char p[12], c[12], v[24];
};
static struct row rows[ROWS];
static size_t row_count;
static bool wide, sorted;

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

/* ---- what documents are to be */

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

static void expect_document(const struct row *parent)
{
    char id[24];

    snprintf(id, sizeof id, wide ? "%s:%s" : "%s", parent->p, parent->c);
    if (strcmp(doc(id), document(parent)) != 0)
        fail_msg("%s: %s is not %s", id, doc(id), document(parent));
}

static void expect_all(void)
{
    size_t parents = 0;

    for (size_t i = 0; i < row_count; i++)
        if (rows[i].table == PARENT) {
            expect_document(&rows[i]);
            parents++;
        }
    assert_int_equal(doc_count(), parents);
}

/* ---- pages */

static unsigned ranges[TABLES], singles[TABLES]; /* pages of them */
static bool changed;

static struct column parent_list[] = {COLUMN("p", text_type), COLUMN("v", text_type)},
                     wide_list[] = {COLUMN("p", text_type), COLUMN("c", text_type),
                                    COLUMN("v", text_type)},
                     child_list[] = {COLUMN("seq", text_type), COLUMN("n", text_type),
                                     COLUMN("pid", text_type)},
                     name_list[] = {COLUMN("name", text_type), COLUMN("id", text_type)},
                     other_list[] = {COLUMN("seq", text_type), COLUMN("n", text_type),
                                     COLUMN("what", text_type)};
static struct columns shapes[8] = {
    {.count = 2, .list = parent_list}, {.count = 3, .list = wide_list},
    {.count = 2, .list = child_list},  {.count = 3, .list = child_list},
    {.count = 1, .list = name_list},   {.count = 2, .list = name_list},
    {.count = 1, .list = other_list},  {.count = 3, .list = other_list}};

static enum table table_of(const struct asked *a)
{
    return strstr(a->text, "\"child\"") ? CHILD : strstr(a->text, "\"name\"") ? NAME : PARENT;
}

static const struct columns *shape_of(const struct asked *a, enum table table)
{
    if (table == PARENT)
        return &shapes[wide];
    return &shapes[(changed && table == CHILD ? 6 : table == CHILD ? 2 : 4) + a->range];
}

static void add_row(struct asked *a, const struct row *r)
{
    if (r->table == PARENT)
        add_cell(a, r->p);
    if (r->table == CHILD || (r->table == PARENT && wide))
        add_cell(a, r->c);
    add_cell(a, r->v);
    if (r->table != PARENT && a->range)
        add_cell(a, r->p);
}

void page_fill(struct asked *a, struct page *page)
{
    enum table table = table_of(a);

    sort_rows();
    (a->range ? ranges : singles)[table]++;
    page->columns = shape_of(a, table);
    for (; a->next < row_count; a->next++) {
        const struct row *r = &rows[a->next];

        if (r->table != table ||
            !(a->range ? asked_has_token(a, number_of(r->p)) : !strcmp(r->p, asked_key(a))))
            continue;
        if (page_full(a, page))
            break;
        add_row(a, r);
        page->row_count++;
    }
}

/* ---- the fixture */

static struct process ours;
static struct keyed_result sum;
static size_t memory_bytes;

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

    schemas[0] =
        wide ? test_schema("ks", "parent", wides, 3) : test_schema("ks", "parent", parents, 2);
    schemas[1] = test_schema("ks", "child", children, 3);
    schemas[2] = test_schema("ks", "name", names, 2);
    snprintf(both, sizeof both, "%s%s", text, twice ? root : "");
    plan_open(both);
    process_open(
        &ours, false,
        (struct keyed_options){.memory_bytes = memory_bytes, .retry_budget_ms = INT64_C(1) << 40});
}

static void close_keyed(void)
{
    process_close(&ours);
    plan_close();
}

static int setup(void **state)
{
    stores_open();
    wide = *state && !strcmp(*state, "wide");
    twice = *state && !strcmp(*state, "twice");
    row_count = memory_bytes = 0;
    memset(ranges, 0, sizeof ranges);
    memset(singles, 0, sizeof singles);
    changed = false;
    ring_pieces = 1;
    sum = (struct keyed_result){0};
    elastic.body_bytes = 1 << 20;
    buf_init(&expected, 16 << 20);
    open_keyed();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_keyed();
    buf_fini(&expected);
    stores_close();
    return 0;
}

static bool run(enum keyed_task task, struct err *err)
{
    sort_rows();
    keyed_begin(ours.keyed, plan, &sum);
    for (size_t i = 0; i < row_count; i++) {
        const struct slice key[] = {slice_str(rows[i].p), slice_str(rows[i].c)};
        if (rows[i].table == PARENT && !keyed_add(ours.keyed, task, key, 0, 0, err))
            return false;
    }
    return keyed_end(ours.keyed, err);
}

static void scan(void)
{
    struct err err = {0};

    docs_forget();
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

    docs_forget();
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

static bool is_range_of_children(const struct asked *a)
{
    return a->range && table_of(a) == CHILD;
}

static enum err_kind one_is_broken(const struct asked *a)
{
    ranges_asked += is_range_of_children(a);
    return table_of(a) == CHILD && (a->range || !strcmp(asked_key(a), broken)) ? ERR_REJECT
                                                                               : ERR_NONE;
}

static void a_bad_partition_costs_its_own_document(void **state)
{
    (void)state;
    family(40);
    read_fault = one_is_broken;
    broken = "70";
    ranges_asked = 0;
    scan();
    assert_int_equal(doc_count(), 39);
    assert_int_equal(sum.counts.failed, 1);
    assert_string_equal(sum.reason, "read_failed");
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].table == PARENT && strcmp(rows[i].p, broken) != 0)
            expect_document(&rows[i]);
    scan();
    assert_int_equal(ranges_asked, 1); /* not again soon */
}

static enum err_kind second_page_is_rejected(const struct asked *a)
{
    return is_range_of_children(a) && ++ranges_asked == 2 ? ERR_REJECT : ERR_NONE;
}

/* What came before is not there twice. */
static void a_range_may_break_in_the_middle(void **state)
{
    (void)state;
    family(20);
    for (int n = 2; n < 400; n++)
        add_number(CHILD, 50, n, -1);
    ranges_asked = 0;
    read_fault = second_page_is_rejected;
    scan();
    expect_all();
    assert_int_equal(ranges_asked, 2);
    assert_true(singles[CHILD] >= 20);
}

static enum err_kind some_are_lost(const struct asked *a)
{
    return is_range_of_children(a) && ++ranges_asked % 4 == 2 ? ERR_RETRY : ERR_NONE;
}

static void a_lost_page_is_asked_for_again(void **state)
{
    (void)state;
    family(20);
    for (int n = 2; n < 400; n++)
        add_number(CHILD, 50, n, -1);
    ranges_asked = 0;
    read_fault = some_are_lost;
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
    refuse = is_range_of_children;
    scan();
    scan();
    expect_all();
    assert_int_equal(singles[CHILD], 2 * 40);
    assert_int_equal(count.refused, 1);
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
