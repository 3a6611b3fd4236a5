/* Pages, schemas and types as values. */
#include "cql/vectors.h"

#include "model/row.h"
#include "model/schema.h"

static void rows_of_a_page(void **state)
{
    (void)state;
    struct slice bytes = unhex_text("0000000161"
                                    "ffffffff"
                                    "00000000"
                                    "fffffffe");
    struct columns columns = {.count = 2};
    struct page page = {.columns = &columns, .row_count = 2, .rows = bytes};
    struct slice cells[2];
    struct err err = {0};

    struct row_cursor c = page_rows(&page);
    assert_true(row_next(&c, cells, &err));
    assert_bytes(cells[0], slice_str("a"));
    assert_null(cells[1].p);
    assert_true(row_next(&c, cells, &err));
    assert_non_null(cells[0].p);
    assert_int_equal(cells[0].n, 0);
    assert_null(cells[1].p);
    assert_false(row_next(&c, cells, &err));
    assert_int_equal(err.kind, ERR_NONE);

    for (size_t n = 0; n < bytes.n; n++) {
        page.rows = slice_of(bytes.p, n);
        c = page_rows(&page);
        while (row_next(&c, cells, &err))
            ;
        assert_int_equal(err.kind, ERR_RETRY);
        err_clear(&err);
    }
    page.rows = unhex_text("7fffffff61");
    page.row_count = 1;
    c = page_rows(&page);
    assert_false(row_next(&c, cells, &err));
    assert_string_equal(err.text, "a cell is longer than its page of rows");
}

static void names_of_a_schema(void **state)
{
    (void)state;
    AUTO(schema) struct schema *s = schema_new();
    struct schema_column columns[] = {{.name = "userid"}, {.name = "userId"}, {.name = "Name"}};
    struct buf b;

    s->keyspace = "my\"ks";
    s->table = "T";
    s->columns = columns;
    s->column_count = 3;
    assert_int_equal(schema_find(s, slice_str("userId")), 1);
    assert_int_equal(schema_find(s, slice_str("userid")), 0);
    assert_int_equal(schema_find(s, slice_str("USERID")), 0);
    assert_int_equal(schema_find(s, slice_str("name")), 2);
    assert_int_equal(schema_find(s, slice_str("nam")), -1);
    buf_init(&b, 100);
    schema_add_name(&b, s);
    assert_string_equal(buf_cstr(&b), "\"my\"\"ks\".\"T\"");
    buf_fini(&b);
}

static void types_compared(void **state)
{
    (void)state;
    const struct type *text = type_simple(TYPE_TEXT);
    const struct type *one[] = {text};
    struct slice a = slice_str("a");
    struct slice b = slice_str("b");
    struct type list = {.kind = TYPE_LIST, .arg_count = 1, .args = one};
    struct type set = {.kind = TYPE_SET, .arg_count = 1, .args = one};
    struct type udt_a = {
        .kind = TYPE_UDT, .arg_count = 1, .args = one, .field_names = &a, .name = a};
    struct type udt_b = udt_a;
    struct type vector = {.kind = TYPE_VECTOR, .arg_count = 1, .args = one, .dimension = 2};
    const struct type *uuid[] = {type_simple(TYPE_UUID)};
    struct type fixed = {.kind = TYPE_VECTOR, .arg_count = 1, .args = uuid, .dimension = 3};

    udt_b.field_names = &b;
    assert_true(type_equal(&list, &list));
    assert_false(type_equal(&list, &set));
    assert_false(type_equal(&udt_a, &udt_b));
    assert_int_equal(type_fixed_bytes(&vector), 0);
    assert_int_equal(type_fixed_bytes(&fixed), 48);
    fixed.dimension = UINT32_MAX;
    assert_int_equal(type_fixed_bytes(&fixed), 0);
    assert_int_equal(type_fixed_bytes(type_simple(TYPE_TINYINT)), 0);
    assert_int_equal(type_fixed_bytes(type_simple(TYPE_BOOLEAN)), 1);
    assert_null(type_simple(TYPE_LIST));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_page),
        cmocka_unit_test(names_of_a_schema),
        cmocka_unit_test(types_compared),
    };
    return cmocka_run_group_tests(tests, vectors_begin, vectors_end);
}
