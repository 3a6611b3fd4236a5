/* Conditions on rows: how they are read, what is refused, and which cells fulfil them. */
#include "source/where.h"

#include <inttypes.h>

#include "base/cmocka_all.h"
#include "model/value.h"
#include "source/scan.h"

#define SIMPLE(KIND) static const struct type KIND##_t = {.kind = TYPE_##KIND}
SIMPLE(TEXT);
SIMPLE(INT);
SIMPLE(BIGINT);
SIMPLE(DOUBLE);
SIMPLE(DECIMAL);
SIMPLE(VARINT);
SIMPLE(TIMEUUID);
SIMPLE(UUID);
SIMPLE(TIMESTAMP);
SIMPLE(BOOLEAN);
SIMPLE(INET);
SIMPLE(DURATION);
SIMPLE(BLOB);
SIMPLE(DATE);
static const struct type *const text_int[] = {&TEXT_t, &INT_t};
static const struct type set_t = {.kind = TYPE_SET, .arg_count = 1, .args = text_int};
static const struct type map_t = {.kind = TYPE_MAP, .arg_count = 2, .args = text_int};

static struct schema_column columns[] = {
    {.name = "id", .type = &TEXT_t, .kind = COLUMN_PARTITION_KEY, .type_text = "text"},
    {.name = "Mixed \"Case\"", .type = &INT_t, .kind = COLUMN_CLUSTERING, .type_text = "int"},
    {.name = "n", .type = &INT_t, .kind = COLUMN_REGULAR, .type_text = "int"},
    {.name = "b", .type = &BIGINT_t, .kind = COLUMN_REGULAR, .type_text = "bigint"},
    {.name = "f", .type = &DOUBLE_t, .kind = COLUMN_REGULAR, .type_text = "double"},
    {.name = "dec", .type = &DECIMAL_t, .kind = COLUMN_REGULAR, .type_text = "decimal"},
    {.name = "v", .type = &VARINT_t, .kind = COLUMN_REGULAR, .type_text = "varint"},
    {.name = "tu", .type = &TIMEUUID_t, .kind = COLUMN_REGULAR, .type_text = "timeuuid"},
    {.name = "u", .type = &UUID_t, .kind = COLUMN_REGULAR, .type_text = "uuid"},
    {.name = "at", .type = &TIMESTAMP_t, .kind = COLUMN_REGULAR, .type_text = "timestamp"},
    {.name = "ok", .type = &BOOLEAN_t, .kind = COLUMN_REGULAR, .type_text = "boolean"},
    {.name = "ip", .type = &INET_t, .kind = COLUMN_REGULAR, .type_text = "inet"},
    {.name = "dur", .type = &DURATION_t, .kind = COLUMN_REGULAR, .type_text = "duration"},
    {.name = "raw", .type = &BLOB_t, .kind = COLUMN_REGULAR, .type_text = "blob"},
    {.name = "tags", .type = &set_t, .kind = COLUMN_REGULAR, .type_text = "set<text>"},
    {.name = "props", .type = &map_t, .kind = COLUMN_REGULAR, .type_text = "map<text, int>"},
    {.name = "day", .type = &DATE_t, .kind = COLUMN_REGULAR, .type_text = "date"},
};
static const struct schema table = {.keyspace = "ks",
                                    .table = "t",
                                    .column_count = sizeof columns / sizeof *columns,
                                    .partition_key_count = 1,
                                    .clustering_count = 1,
                                    .columns = columns};

static struct where *parsed(const char *text)
{
    struct err err = {0};
    struct where *w = where_parse(&table, slice_str(text), &err);

    if (!w)
        fail_msg("%s: %s", text, err.text);
    return w;
}

static void cql_of_conditions(void **state)
{
    struct buf b;

    (void)state;
    AUTO(where)
    struct where *w =
        parsed("ID='it''s' and \"Mixed \"\"Case\"\"\" in (1, -2,3) AND n<>4 AND b >= 5 "
               "AND tags CONTAINS 'q' AND props contains key 'k' AND props CONTAINS 7 "
               "AND f IS NOT NULL AND u = 39d60bba-0a41-4ddd-a21c-72ea95dc73e4 AND "
               "ip=::1 AND raw = 0xff AND ok = true AND at > '2024-02-29T00:00:00Z'");
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < w->count; i++) {
        buf_add_str(&b, i ? "; " : "");
        if (where_has_cql(&w->list[i]))
            where_add_cql(&b, &table, &w->list[i]);
        buf_printf(&b, " #%u", w->list[i].value_count);
    }
    assert_string_equal(
        buf_cstr(&b), "\"id\" = ? #1; \"Mixed \"\"Case\"\"\" IN (?, ?, ?) #3; \"n\" != ? #1; "
                      "\"b\" >= ? #1; \"tags\" CONTAINS ? #1; \"props\" CONTAINS KEY ? #1; "
                      "\"props\" CONTAINS ? #1;  #0; \"u\" = ? #1; \"ip\" = ? #1; \"raw\" = ? #1; "
                      "\"ok\" = ? #1; \"at\" > ? #1");
    assert_true(slice_is(w->list[0].values[0], "it's"));
    assert_memory_equal(w->list[1].values[1].p, "\xff\xff\xff\xfe", 4);
    buf_fini(&b);
}

static void mistakes(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "at character 1: a column is missing"},
        {"n", "at character 2: =, !=, <, <=, >, >=, IN, CONTAINS, CONTAINS KEY, IS NULL or IS NOT "
              "NULL is wanted here"},
        {"n =", "at character 4: a value is missing"},
        {"n = 1 AND", "at character 10: a column is missing"},
        {"n = 1 OR n = 2", "at character 7: OR is not supported; run it once for each side"},
        {"n = 1 n = 2", "at character 7: AND, or the end, is wanted here"},
        {"(n = 1)",
         "at character 1: a column is wanted here, in double quotes where CQL wants them"},
        {"tagz = 1", "at character 1: t has no column \"tagz\"; did you mean \"tags\""},
        {"n = 'x'",
         "at character 5: column \"n\": not what the column holds: wanted an int (-2147483648 to "
         "2147483647)"},
        {"n = null", "at character 5: no value equals null; say IS NULL or IS NOT NULL"},
        {"id = x", "at character 6: text must stand between single quotes"},
        {"id = 'x", "at character 6: a quote without its pair"},
        {"\"id = 1", "at character 1: a quote without its pair"},
        {"n in 1", "at character 6: ( is wanted after IN"},
        {"n in (1 2)", "at character 9: , or ) is wanted here"},
        {"n is 1", "at character 6: NULL is wanted after IS"},
        {"n contains 1", "at character 3: column \"n\" is no list, set or map"},
        {"tags contains key 'x'", "at character 6: column \"tags\" is no map"},
        {"tags = 'x'", "at character 6: values of column \"tags\" (set<text>) can't be compared"},
        {"dur > '1h'", "at character 5: values of column \"dur\" (duration) can't be compared"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};

        assert_null(where_parse(&table, slice_str(cases[i].text), &err));
        assert_int_equal(err.kind, ERR_USER);
        assert_string_equal(err.text, cases[i].error);
    }
}

/* The values of a type in Cassandra's order, each written as a value of a condition. */
static void order_of_values(void **state)
{
    static const struct {
        const char *column;
        const char *values[12];
    } cases[] = {
        {"n", {"-2147483648", "-1", "0", "7", "2147483647"}},
        {"b", {"-9223372036854775808", "-1", "0", "1", "9223372036854775807"}},
        {"f", {"-Infinity", "-1e300", "-0.5", "-0.0", "0.0", "1e-300", "2.5", "Infinity", "NaN"}},
        {"v",
         {"-18446744073709551616", "-65536", "-129", "-128", "-1", "0", "127", "128", "65535",
          "18446744073709551616"}},
        {"dec",
         {"-1e40", "-12.35", "-12.345", "-0.001", "0.000", "1e-40", "0.09", "0.1", "9.99", "10.0",
          "123456789012345678901234567890", "1e2000000000"}},
        {"tu",
         {"13814000-1dd2-11b2-8080-808080808080", "13814000-1dd2-11b2-7f7f-7f7f7f7f7f7f",
          "39d60bba-0a41-11ee-a21c-72ea95dc73e4", "00000000-0a42-11ee-a21c-72ea95dc73e4"}},
        {"u",
         {"39d60bba-0a41-11ee-a21c-72ea95dc73e4", "00000000-0a42-11ee-a21c-72ea95dc73e4",
          "00000000-0a41-4ddd-a21c-72ea95dc73e4", "39d60bba-0a41-4ddd-821c-72ea95dc73e4",
          "39d60bba-0a41-4ddd-a21c-72ea95dc73e4"}},
        {"at", {"'1969-12-31T23:59:59Z'", "0", "'2024-02-29T12:34:56.789Z'"}},
        {"id", {"''", "'A'", "'a'", "'ab'", "'\xc3\xbc'"}},
        {"raw", {"0x00", "0x0001", "0x7f", "0xff"}},
        {"ok", {"false", "true"}},
        {"day", {"'1969-12-31'", "'1970-01-01'", "'2024-02-29'"}},
    };

    (void)state;
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        for (size_t a = 0; a < 12 && cases[n].values[a]; a++) {
            AUTO_STR char *cell_text = xsprintf("%s = %s", cases[n].column, cases[n].values[a]);
            AUTO(where) struct where *cell = parsed(cell_text);
            for (size_t b = 0; b < 12 && cases[n].values[b]; b++) {
                AUTO_STR char *text = xsprintf(
                    "%s = %s AND %s != %s AND %s < %s AND %s <= %s AND %s > %s AND %s >= %s",
                    cases[n].column, cases[n].values[b], cases[n].column, cases[n].values[b],
                    cases[n].column, cases[n].values[b], cases[n].column, cases[n].values[b],
                    cases[n].column, cases[n].values[b], cases[n].column, cases[n].values[b]);
                AUTO(where) struct where *w = parsed(text);
                const bool want[] = {a == b, a != b, a<b, a <= b, a> b, a >= b};
                for (size_t i = 0; i < 6; i++)
                    if (where_holds(&w->list[i], cell->list[0].values[0]) != want[i])
                        fail_msg("%s: %s against condition %zu of %s", cases[n].column,
                                 cases[n].values[a], i, cases[n].values[b]);
            }
        }
    }
}

static bool holds(const char *text, struct slice cell)
{
    AUTO(where) struct where *w = parsed(text);

    return where_holds(&w->list[0], cell);
}

static void which_cells_fulfil(void **state)
{
    struct slice seven = slice_of("\0\0\0\7", 4), none = slice_of("", 0);
    struct slice tags = slice_of("\0\0\0\2\0\0\0\1q\0\0\0\2rs", 15);
    struct slice props = slice_of("\0\0\0\1\0\0\0\1k\0\0\0\4\0\0\0\7", 17);

    (void)state;
    assert_true(holds("n IN (6, 7)", seven));
    assert_false(holds("n IN (6, 8)", seven));
    /* null fulfils nothing but IS NULL; not even != */
    assert_false(holds("n != 3", SLICE_NULL));
    assert_false(holds("n < 3", SLICE_NULL));
    assert_true(holds("n IS NULL", SLICE_NULL));
    assert_true(holds("n IS NULL", none));
    assert_false(holds("n IS NOT NULL", SLICE_NULL));
    assert_true(holds("id IS NOT NULL", none));
    assert_true(holds("n < -2147483648", none)); /* without bytes: before all others */
    assert_true(holds("dec = 1.50", slice_of("\0\0\0\1\x0f", 5)));
    assert_true(holds("tags CONTAINS 'rs'", tags));
    assert_false(holds("tags CONTAINS 'r'", tags));
    assert_false(holds("tags CONTAINS 'r'", SLICE_NULL));
    assert_true(holds("props CONTAINS 7", props));
    assert_false(holds("props CONTAINS 6", props));
    assert_true(holds("props CONTAINS KEY 'k'", props));
    assert_false(holds("props CONTAINS KEY 'q'", props));
}

/* ---- the plan of a scan */

static void statements(void **state)
{
    static const struct select wanted[] = {{2, SELECT_COLUMN}, {3, SELECT_WRITETIME}};
    struct scan_plan p;

    (void)state;
    AUTO(where) struct where *w = parsed("n > 1 AND b IN (2,3) AND f IS NULL");
    scan_plan_select(&p, &table, wanted, 2, w);
    assert_string_equal(p.text,
                        "SELECT \"n\",writetime(\"b\"),\"id\",\"b\",\"f\" FROM \"ks\".\"t\" "
                        "WHERE token(\"id\") > ? AND token(\"id\") <= ?");
    assert_int_equal(p.key_cells[0], 2);
    struct slice cells[5] = {slice_of("\0\0\0\2", 4), SLICE_NULL, slice_str("x"),
                             slice_of("\0\0\0\0\0\0\0\3", 8), SLICE_NULL};
    assert_true(scan_wants(&p, cells));
    cells[3] = SLICE_NULL;
    assert_false(scan_wants(&p, cells));
    scan_plan_fini(&p);
    scan_plan_select(&p, &table, (struct select[]){{0, SELECT_COLUMN}}, 1, NULL);
    assert_string_equal(p.text,
                        "SELECT DISTINCT \"id\" FROM \"ks\".\"t\" WHERE token(\"id\") > ? AND "
                        "token(\"id\") <= ?");
    assert_true(scan_wants(&p, cells));
    scan_plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cql_of_conditions), cmocka_unit_test(mistakes),
        cmocka_unit_test(order_of_values),   cmocka_unit_test(which_cells_fulfil),
        cmocka_unit_test(statements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
