/*
 * The golden documents (test/golden) as the plan makes them of rows, without servers: the same data
 * as in test/live/test_golden.py. Tables are those of demo/schema.cql.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glob.h>
#include <stdio.h>

#include "cql/type.h"
#include "world.h"

enum { TABLES_MAX = 12, COLUMNS_MAX = 64, FILE_MAX_BYTES = 1 << 20, ROWS_MAX = 256 };

static struct world world;
static char *schema_text;

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        fail_msg("%s", path);
    char *text = xalloc(FILE_MAX_BYTES);
    size_t n = fread(text, 1, FILE_MAX_BYTES - 1, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

/* ---- tables
 */

static int by_kind_and_name(const void *a, const void *b)
{
    const struct test_column *x = a;
    const struct test_column *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->kind == COLUMN_REGULAR ? strcmp(x->name, y->name) : 0;
}

/* The end of an element of a list in CQL: a comma or bracket that is not inside others. */
static char *element_end(char *p)
{
    for (int depth = 0; *p; p++) {
        depth += *p == '<' || *p == '(';
        if (depth == 0 && (*p == ',' || *p == ')'))
            return p;
        depth -= *p == '>' || *p == ')';
    }
    return p;
}

static void mark_key(struct test_column *columns, uint16_t count, char *names)
{
    enum column_kind kind = COLUMN_PARTITION_KEY;
    struct test_column key[8];
    size_t n = 0;

    for (char *save, *name = strtok_r(names, " ,()", &save); name;
         name = strtok_r(NULL, " ,()", &save), kind = COLUMN_CLUSTERING)
        for (uint16_t i = 0; i < count; i++)
            if (!strcmp(columns[i].name, name)) {
                columns[i].kind = kind;
                key[n++] = columns[i];
            }
    /* Key columns in key order. */
    qsort(columns, count, sizeof *columns, by_kind_and_name);
    memcpy(columns, key, n * sizeof *columns);
}

/* "a text PRIMARY KEY, b int" or "a text, b int, PRIMARY KEY (a, b)" and the closing bracket. */
static struct schema *read_columns(const char *keyspace, const char *table, char *p)
{
    struct test_column columns[COLUMNS_MAX];
    char key[200] = "";
    uint16_t count = 0;

    for (char *end; *p != ')'; p = end + (*end == ',')) {
        p += strspn(p, " \n");
        end = element_end(p);
        if (!strncmp(p, "PRIMARY KEY", 11)) {
            snprintf(key, sizeof key, "%.*s", (int)(end - p - 11), p + 11);
            continue;
        }
        size_t name = strcspn(p, " ");
        size_t type = (size_t)(end - p) - name - 1;
        char *primary = memmem(p, (size_t)(end - p), " PRIMARY KEY", 12);
        if (primary) {
            type = (size_t)(primary - p) - name - 1;
            snprintf(key, sizeof key, "%.*s", (int)name, p);
        }
        struct err err = {0};
        struct test_column *c = &columns[count++];
        *c = (struct test_column){arena_strndup(&world.mem, p, name), NULL, COLUMN_REGULAR};
        if (!type_parse_cql(slice_of(p + name + 1, type), NULL, &world.mem, &c->type, &err))
            fail_msg("%s", err.text);
    }
    mark_key(columns, count, key);
    return test_schema(keyspace, table, columns, count);
}

static int start(void **state)
{
    static const char create[] = "CREATE TABLE IF NOT EXISTS ";

    (void)state;
    arena_init(&world.mem, 256 << 20);
    schema_text = read_text(TEST_DATA "/../../demo/schema.cql");
    for (char *p = schema_text; (p = strstr(p, create));) {
        p += sizeof create - 1;
        size_t keyspace = strcspn(p, ".");
        size_t table = strcspn(p + keyspace + 1, " ");
        const char *ks = arena_strndup(&world.mem, p, keyspace);
        const char *name = arena_strndup(&world.mem, p + keyspace + 1, table);
        p = strchr(p, '(') + 1;
        assert_true(world.count < TABLES_MAX);
        world.tables[world.count++].schema = read_columns(ks, name, p);
    }
    assert_int_equal(world.count, 8);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (size_t i = 0; i < world.count; i++)
        schema_free(world.tables[i].schema);
    arena_fini(&world.mem);
    free(schema_text);
    return 0;
}

/* ---- rows
 */

static const struct schema *sorted_by;

static int by_key(const void *a, const void *b)
{
    const struct schema *s = sorted_by;
    int order = 0;

    for (uint16_t i = 0; i < s->partition_key_count + s->clustering_count && !order; i++) {
        struct slice x = json_get_string(*(const struct json *const *)a, s->columns[i].name);
        struct slice y = json_get_string(*(const struct json *const *)b, s->columns[i].name);
        order = strcmp((const char *)x.p, (const char *)y.p); /* as UTF-8 */
    }
    return order;
}

static int by_member(const void *a, const void *b)
{
    const struct json *x = a;
    const struct json *y = b;

    return strcmp((const char *)x->key.p, (const char *)y->key.p);
}

/* Cassandra keeps maps by their keys. */
static struct json with_sorted_maps(const struct json *v)
{
    struct json copy = *v;
    struct json *list = arena_zalloc(&world.mem, (v->count + 1) * sizeof *list);
    uint32_t n = 0;

    json_each (child, v)
        list[n++] = with_sorted_maps(child);
    if (v->kind == JSON_OBJECT)
        qsort(list, n, sizeof *list, by_member);
    for (uint32_t i = 0; i < n; i++)
        list[i].next = i + 1 < n ? &list[i + 1] : NULL;
    copy.first = n ? list : NULL;
    return copy;
}

static size_t collect(const struct json *tables, const char *table, const struct json **out,
                      size_t n)
{
    const struct json *rows = json_get(tables, table);

    if (rows)
        json_each (row, rows) {
            ensure(n < ROWS_MAX);
            out[n++] = row;
        }
    return n;
}

/* Rows of the table in all cases, in the order of their keys. */
static const struct json *rows_of(const struct json *file, const struct schema *s)
{
    const struct json *found[ROWS_MAX];
    size_t n = collect(json_get(file, "tables"), s->table, found, 0);
    struct json *all = arena_zalloc(&world.mem, sizeof *all);
    struct json *list = arena_zalloc(&world.mem, (n + ROWS_MAX) * sizeof *list);

    json_each (c, json_get(file, "cases"))
        n = collect(json_get(c, "rows"), s->table, found, n);
    sorted_by = s;
    qsort(found, n, sizeof *found, by_key);
    for (size_t i = 0; i < n; i++) {
        list[i] = *found[i];
        list[i].next = i + 1 < n ? &list[i + 1] : NULL;
    }
    *all = (struct json){.kind = JSON_ARRAY, .first = n ? list : NULL, .count = (uint32_t)n};
    *all = with_sorted_maps(all);
    return all;
}

/* ---- documents
 */

struct maker {
    const struct plan *plan;
    struct fetched fetched;
    struct plan_work work;
    struct buf id;
    struct buf doc;
};

/* Without what only a stored document brings. */
static const struct json *without_preserved(const struct plan *p, const struct json *document,
                                            const struct json *stored)
{
    struct json *copy = arena_zalloc(&world.mem, sizeof *copy);
    struct json *list = arena_zalloc(&world.mem, (document->count + 1) * sizeof *list);
    uint32_t n = 0;

    if (!stored)
        return document;
    json_each (m, document)
        if (!plan_preserves(p, m->key))
            list[n++] = *m;
    for (uint32_t i = 0; i < n; i++)
        list[i].next = i + 1 < n ? &list[i + 1] : NULL;
    *copy = (struct json){.kind = JSON_OBJECT, .first = list, .count = n};
    return copy;
}

/* Numbers are digit by digit what they should be, and members of objects in their order. */
static bool same_text(const struct json *a, const struct json *b)
{
    struct buf x, y;

    buf_init(&x, 1 << 20);
    buf_init(&y, 1 << 20);
    json_write(&x, a);
    json_write(&y, b);
    bool same = slice_eq(buf_slice(&x), buf_slice(&y));
    buf_fini(&x);
    buf_fini(&y);
    return same;
}

/* Fields that are lists of rows of other tables. */
static bool is_of_rows(struct slice field)
{
    return slice_is(field, "organisations") || slice_is(field, "roles");
}

static bool same_row(const struct json *a, const struct json *b);

static bool same_value(struct slice field, const struct json *a, const struct json *b)
{
    if (!is_of_rows(field) || a->kind != JSON_ARRAY || b->kind != JSON_ARRAY)
        return same_text(a, b);
    const struct json *y = b->first;
    for (const struct json *x = a->first; x && y; x = x->next, y = y->next)
        if (!same_row(x, y))
            return false;
    return a->count == b->count;
}

/* What is made of a row has its fields in any order. */
static bool same_row(const struct json *a, const struct json *b)
{
    if (a->kind != JSON_OBJECT || b->kind != JSON_OBJECT)
        return same_text(a, b);
    json_each (m, b) {
        const struct json *there = json_get(a, (const char *)m->key.p);
        if (!there || !same_value(m->key, there, m))
            return false;
    }
    return a->count == b->count;
}

/* Recorded documents were kept with their members sorted: what order they had isn't known. */
static bool same_document(const char *path, const struct json *a, const struct json *b)
{
    if (!strstr(path, ".recorded."))
        return same_row(a, b);
    struct json x = with_sorted_maps(a);
    struct json y = with_sorted_maps(b);
    return same_text(&x, &y);
}

static void check_case(struct maker *m, const char *path, const struct json *c)
{
    const struct plan *p = m->plan;
    struct json row = with_sorted_maps(json_get(json_get(c, "rows"), plan_schema(p)->table)->first);
    const struct json *want = json_get(c, "document");
    const struct json *missing = json_get(json_get(c, "counts"), "lookup_missing");
    struct json_counts counts = {0};
    struct err err = {0};
    struct slice *cells = world_cells(&world, p, &row);
    const char *name = (const char *)json_get_string(c, "name").p;

    fetched_reset(&m->fetched);
    buf_reset(&m->id);
    buf_reset(&m->doc);
    assert_true(plan_id(p, cells, &m->id, &err));
    if (!slice_eq(buf_slice(&m->id), json_get_string(c, "_id")))
        fail_msg("%s: %s: _id %s", path, name, buf_cstr(&m->id));
    world_fetch(&world, p, cells, buf_slice(&m->id), &m->fetched, &m->work);
    bool made =
        plan_make(p, cells, buf_slice(&m->id), &m->fetched, &m->work, &m->doc, &counts, &err);
    if (!made) {
        const struct json *reason = json_get(c, "reason");
        if (!reason || strcmp(m->work.reason, (const char *)reason->text.p) != 0)
            fail_msg("%s: %s: %s: %s", path, name, m->work.reason, err.text);
        return;
    }
    const struct json *got = json_parse(buf_slice(&m->doc), &world.mem, &err);
    assert_non_null(got);
    if (want->kind == JSON_NULL ||
        !same_document(path, got, without_preserved(p, want, json_get(c, "stored"))))
        fail_msg("%s: %s:\n%s", path, name, buf_cstr(&m->doc));
    if (counts.lookup_missing != (missing ? strtoul((const char *)missing->text.p, NULL, 10) : 0))
        fail_msg("%s: %s: lookup_missing %u", path, name, (unsigned)counts.lookup_missing);
}

/* "…/golden/sunbird/user.recorded.json" is about the profile "sunbird/user". */
static struct plan *compile(const char *path, struct mapping **mapping)
{
    const struct plan_tables tables = {world_find, &world};
    const char *name = strrchr(path, '/') + 1;
    const char *folder = name - 1;
    struct err err = {0};
    struct plan *p = NULL;

    while (folder[-1] != '/')
        folder--;
    AUTO_STR char *profile = xsprintf(TEST_DATA "/../../profiles/%.*s%.*s.yaml",
                                      (int)(name - folder), folder, (int)strcspn(name, "."), name);
    *mapping = mapping_load(profile, &err);
    for (size_t i = 0; *mapping && i < world.count; i++)
        if (!strcmp(world.tables[i].schema->table, (*mapping)->table.name))
            p = plan_compile_with(*mapping, world.tables[i].schema, &tables, &err);
    if (!p)
        fail_msg("%s: %s", profile, err.text);
    return p;
}

static size_t check_file(const char *path)
{
    struct err err = {0};
    struct mapping *mapping;
    struct plan *p = compile(path, &mapping);
    struct maker m = {.plan = p};
    char *text = read_text(path);
    const struct json *file = json_parse(slice_str(text), &world.mem, &err);
    size_t count = 0;

    if (!file)
        fail_msg("%s: %s", path, err.text);
    for (size_t i = 0; i < world.count; i++)
        world.tables[i].rows = rows_of(file, world.tables[i].schema);
    fetched_init(&m.fetched, 8 << 20);
    plan_work_init(&m.work, 8 << 20);
    buf_init(&m.id, 1 << 12);
    buf_init(&m.doc, 1 << 20);
    json_each (c, json_get(file, "cases")) {
        check_case(&m, path, c);
        count++;
    }
    buf_fini(&m.doc);
    buf_fini(&m.id);
    plan_work_fini(&m.work);
    fetched_fini(&m.fetched);
    free(text);
    plan_free(p);
    mapping_free(mapping);
    return count;
}

static void all_files(void **state)
{
    size_t count = 0;
    glob_t found;

    (void)state;
    assert_int_equal(glob(TEST_DATA "/../golden/*/*.json", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        count += check_file(found.gl_pathv[i]);
    globfree(&found);
    assert_true(count >= 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(all_files, start, stop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
