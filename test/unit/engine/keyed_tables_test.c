/*
 * engine/keyed with documents of several tables, in an index with external versions and with
 * sequence numbers.
 *
 * Every cell holds the number of the change that wrote it. What must hold: once a sync of a key is
 * through that began after a change, the document has that change, or a later one, for good.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mapping/tables.h"
#include "base/text.h"
#include "stores.h"

enum { KEYS = 6, ORGS = 5, CHILDREN = 5, RUNS = 300 };
enum { PARTITIONS = KEYS + 4 }; /* of child: some have no thing */

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

/* ---- their rows: children and ranges come two to a page */

/* In the order of their tokens. */
struct partition {
    int64_t token;
    int i;
};
static struct partition thing_order[PARTITIONS], org_order[ORGS];
static unsigned range_pages[3]; /* of thing, child, org */

static struct column thing_list[] = {COLUMN("p", text_type), COLUMN("o", text_type),
                                     COLUMN("v", int_type)};
static struct column child_list[] = {COLUMN("seq", int_type), COLUMN("o", text_type),
                                     COLUMN("n", int_type), COLUMN("pid", text_type)};
static struct column org_list[] = {COLUMN("name", int_type), COLUMN("id", text_type)};
/* The key of a partition stands behind its rows where they are of a range. */
static struct columns child_range = {.count = 4, .list = child_list},
                      org_range = {.count = 2, .list = org_list};
static struct columns key_columns = {.count = 1, .list = thing_list},
                      thing_columns = {.count = 3, .list = thing_list},
                      child_columns = {.count = 3, .list = child_list},
                      org_columns = {.count = 1, .list = org_list};

static void add_int(struct asked *a, int64_t v)
{
    buf_add_u32(&a->bytes, 4);
    buf_add_u32(&a->bytes, (uint32_t)v);
}

static void add_org(struct asked *a, int i)
{
    add_cell(a, (char[]){'o', (char)('0' + i), 0});
}

static void add_key(struct asked *a, int i)
{
    add_cell(a, (char[]){(char)('a' + i), 0});
}

static void add_child(struct asked *a, int thing, int i)
{
    add_int(a, i);
    add_org(a, db.things[thing].children[i].org);
    add_int(a, db.things[thing].children[i].n);
}

static void add_thing(struct asked *a, int i)
{
    add_key(a, i);
    if (!a->whole)
        return;
    add_org(a, db.things[i].org);
    add_int(a, db.things[i].v);
}

static int copies; /* of each child; more than one: all on one page */

static void children_page(struct asked *a, struct page *page)
{
    int key = asked_key(a)[0] - 'a';

    page->columns = &child_columns;
    for (; a->next < CHILDREN; a->next++) {
        if (!db.things[key].children[a->next].n)
            continue;
        if (copies == 1 && page_full(a, page))
            break;
        for (int i = 0; i < copies; i++) {
            page->row_count++;
            add_child(a, key, (int)a->next);
        }
    }
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

/* A page may end inside a partition. */
static void range_page(struct asked *a, struct page *page)
{
    bool is_org = strstr(a->text, "\"org\""), is_child = strstr(a->text, "\"child\"");
    int each = is_child ? CHILDREN : 1, all = is_org ? ORGS : PARTITIONS;

    range_pages[is_org ? 2 : is_child]++;
    page->columns = is_org     ? &org_range
                    : is_child ? &child_range
                               : (a->whole ? &thing_columns : &key_columns);
    for (; a->next < (size_t)(all * each); a->next++) {
        const struct partition *p =
            is_org ? &org_order[a->next] : &thing_order[a->next / (size_t)each];
        int row = (int)a->next % each;
        if (!asked_has_token(a, p->token) || (!is_org && !is_child && p->i >= KEYS) ||
            (is_child && !db.things[p->i].children[row].n))
            continue;
        if (page_full(a, page))
            break;
        page->row_count++;
        if (is_org) {
            add_int(a, db.orgs[p->i]);
            add_org(a, p->i);
        } else if (is_child) {
            add_child(a, p->i, row);
            add_key(a, p->i);
        } else {
            add_thing(a, p->i);
        }
    }
}

void page_fill(struct asked *a, struct page *page)
{
    if (a->range) {
        range_page(a, page);
    } else if (strstr(a->text, "\"child\"")) {
        children_page(a, page);
    } else if (strstr(a->text, "\"org\"")) {
        int org = asked_key(a)[1] - '0';
        page->columns = &org_columns;
        page->row_count = org < ORGS;
        if (org < ORGS)
            add_int(a, db.orgs[org]);
    } else {
        page->columns = a->whole ? &thing_columns : &key_columns;
        page->row_count = 1;
        add_thing(a, asked_key(a)[0] - 'a');
    }
}

/* ---- the fixture */

static struct process ours, other;
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

static void open_one(struct process *p, size_t memory_bytes)
{
    process_open(p, true,
                 (struct keyed_options){.memory_bytes = memory_bytes,
                                        .on_failure = note_failed,
                                        .on_failure_ctx = p == &ours ? p : NULL,
                                        .retry_budget_ms = INT64_C(1) << 40});
}

static void start_db(void)
{
    memset(&db, 0, sizeof db);
    docs_forget();
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

    stores_open();
    start_db();
    copies = 1;
    page_rows_max = 2;
    ring_pieces = 1000; /* so many that keys of ids are read by themselves, or one */
    memset(range_pages, 0, sizeof range_pages);
    order_tables();
    schemas[0] = test_schema("ks", "thing", things, 3);
    schemas[1] = test_schema("ks", "child", children, 4);
    schemas[2] = test_schema("ks", "org", orgs, 2);
    AUTO_STR char *text = xsprintf(
        "object: thing\nsource: {keyspace: ks, table: thing}\ntarget: {index: i}\n"
        "versioning: %s\nsteps:\n"
        "  - lookup: {field: name, table: org, key: {id: \"{o}\"}, take: name, missing: omit}\n"
        "  - children: {field: c, table: child, by: {pid: \"{p}\"}, columns: [seq, o, n], each: "
        "[lookup: {field: name, table: org, key: {id: \"{o}\"}, take: name}]}\n",
        *state ? (const char *)*state : "read_time");
    plan_open(text);
    open_one(&ours, 0);
    open_one(&other, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    process_close(&ours);
    process_close(&other);
    plan_close();
    stores_close();
    return 0;
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
    assert_true(process_sync(&ours, "[\"a\",\"b\",\"c\",\"d\"]"));
    assert_string_equal(
        doc("a"), "{\"p\":\"a\",\"o\":\"o0\",\"v\":6,\"name\":1,\"c\":[{\"seq\":1,\"o\":\"o2\""
                  ",\"n\":91,\"name\":3}]}");
    assert_string_equal(doc("d"), "{\"p\":\"d\",\"o\":\"o0\",\"v\":9,\"name\":1,\"c\":[]}");
    assert_int_equal(count.bulk, 1);
    /* 4 rows; then o0 once, and children of 4; then o2: o0 is there */
    assert_int_equal(count.reads, *state ? 4 + 5 + 1 + 4 : 4 + 5 + 1);
}

static void children_come_on_many_pages(void **state)
{
    (void)state;
    for (int i = 0; i < CHILDREN; i++)
        db.things[2].children[i].n = 50 + i;
    assert_true(process_sync(&ours, "[\"c\"]"));
    assert_non_null(strstr(doc("c"), "{\"seq\":0,\"o\":\"o0\",\"n\":50,\"name\":1},{\"seq\":"
                                     "1,\"o\":\"o0\",\"n\":51,\"name\":1},{\"seq\":2,"));
    assert_non_null(strstr(doc("c"), "{\"seq\":4,\"o\":\"o0\",\"n\":54,\"name\":1}]}"));
}

static void missing_rows_are_counted(void **state)
{
    (void)state;
    db.things[0].org = 7;
    assert_true(process_sync(&ours, "[\"a\",\"b\"]"));
    assert_int_equal(ours.results[0].counts.lookup_missing, 1);
    assert_int_equal(ours.results[0].counts.altered, 0);
    assert_int_equal(ours.results[0].counts.indexed, 1);
    assert_string_equal(doc("a"), "{\"p\":\"a\",\"o\":\"o7\",\"v\":6,\"c\":[]}");
    db.things[0].org = 0;
    db.things[0].children[0].n = 1;
    db.things[0].children[0].org = 8;
    assert_true(process_sync(&ours, "[\"a\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "lookup_missing");
}

static const char *document(int key)
{
    return doc((char[]){(char)('a' + key), 0});
}

static unsigned json_rows(int key)
{
    unsigned n = 0;

    for (const char *p = document(key); (p = strstr(p, "\"seq\"")); p++)
        n++;
    return n;
}

static void little_memory(size_t bytes, int rows_each)
{
    process_close(&ours);
    open_one(&ours, bytes);
    copies = rows_each;
    for (int i = 0; i < KEYS; i++)
        db.things[i].children[0].n = 1;
}

/* What does not fit together comes in parts. */
static void rounds_are_cut_to_the_memory(void **state)
{
    (void)state;
    little_memory(80 << 10, 250);
    assert_true(process_sync(&ours, "[\"a\",\"b\",\"c\",\"d\"]"));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ours.results[i].counts.indexed, 1);
        assert_int_equal(json_rows(i), 250);
    }
    assert_true(count.reads > 4 + 4 + 3); /* some were read once more */
}

static void one_that_never_fits_fails(void **state)
{
    (void)state;
    little_memory(80 << 10, 700);
    db.things[1].children[0].n = 0;
    assert_true(process_sync(&ours, "[\"a\",\"b\"]"));
    assert_int_equal(ours.results[0].counts.failed, 1);
    assert_string_equal(ours.results[0].reason, "document_too_large");
    assert_int_equal(ours.results[1].counts.indexed, 1);
}

/* ---- many runs with whatever comes */

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
    return json_number(row, "name") >= promised[key].orgs[json_get_string(row, "o").p[1] - '0'];
}

static void check_promise(uint64_t seed, int key)
{
    struct err err = {0};
    struct arena mem;

    arena_init(&mem, 1 << 20);
    const struct json *d = json_parse(slice_str(document(key)), &mem, &err);
    bool ok = d && json_number(d, "v") >= promised[key].v && name_is_young(key, d);
    int64_t n[CHILDREN] = {0};
    json_each (row, json_get(d, "c")) {
        n[json_number(row, "seq")] = json_number(row, "n");
        ok = ok && name_is_young(key, row);
    }
    /* Where there is none the row may have been away for a while since. */
    for (int i = 0; i < CHILDREN; i++)
        ok = ok && (n[i] ? n[i] : db.things[key].children[i].removed) >= promised[key].children[i];
    if (!ok)
        fail_msg("seed %" PRIu64 ": %c is %s", seed, 'a' + key, document(key));
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
    int from = (int)below(KEYS), keys = 1 + (int)below(2);
    struct content c[] = {content_of(from), content_of((from + 1) % KEYS)};
    char ids[24];

    snprintf(ids, sizeof ids, keys == 1 ? "[\"%c\"]" : "[\"%c\",\"%c\"]", 'a' + from,
             'a' + (from + 1) % KEYS);
    ensure(process_sync(&other, ids));
    for (int i = 0; i < keys; i++)
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

static void somebody(const char *step, unsigned n)
{
    (void)step;
    (void)n;
    while (below(4) == 0)
        application();
    if (!turns.over && below(3) == 0)
        give_turn(!turns.others);
}

static enum fault any_fault(struct call *c)
{
    (void)c;
    return below(20) ? NO_FAULT : below(2) ? LOSE_ANSWER : NOT_REACHED;
}

static enum err_kind any_read_fault(const struct asked *a)
{
    (void)a;
    return below(40) ? ERR_NONE : ERR_RETRY;
}

static bool sync_all(bool scan)
{
    struct err err = {0};

    return scan ? scan_with(&ours, &err)
                : process_sync(&ours, "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]");
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

        random_begin(seed);
        start_db();
        memset(promised, 0, sizeof promised);
        for (unsigned n = below(12); n; n--)
            application();
        for (int i = 0; i < KEYS; i++)
            begin[i] = content_of(i);
        hook = somebody;
        fault = seed % 2 ? any_fault : NULL;
        read_fault = seed % 2 ? any_read_fault : NULL;
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
