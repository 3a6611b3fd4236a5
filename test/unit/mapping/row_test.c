/* Rows to documents without a mapping file. */
#include "mapping/row.h"

#include "base/cmocka_all.h"
#include "model/type.h"

static struct column columns_list[] = {
    {.name = {(const uint8_t *)"id", 2}},
    {.name = {(const uint8_t *)"a_name_of_exactl", 16}},
    {.name = {(const uint8_t *)"with \"quotes\" and longer than two steps", 39}},
    {.name = {(const uint8_t *)"e", 1}},
};
static const struct columns columns = {.count = 4, .list = columns_list};

static const char *document(const struct slice *cells, struct buf *out)
{
    struct row_writer *w = row_writer_new(&columns);
    struct json_counts counts = {0};
    struct err err = {0};

    buf_reset(out);
    assert_true(row_write(w, cells, out, &counts, &err));
    row_writer_free(w);
    return buf_cstr(out);
}

static void nulls_are_left_out(void **state)
{
    struct slice t = slice_str("t");
    struct slice n = slice_of("\0\0\0\7", 4);
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 16);
    assert_string_equal(document((struct slice[]){n, t, t, t}, &out),
                        "{\"id\":7,\"a_name_of_exactl\":\"t\","
                        "\"with \\\"quotes\\\" and longer than two steps\":\"t\",\"e\":\"t\"}");
    assert_string_equal(document((struct slice[]){SLICE_NULL, t, SLICE_NULL, t}, &out),
                        "{\"a_name_of_exactl\":\"t\",\"e\":\"t\"}");
    assert_string_equal(
        document((struct slice[]){slice_of("", 0), SLICE_NULL, SLICE_NULL, t}, &out),
        "{\"e\":\"t\"}");
    assert_string_equal(
        document((struct slice[]){SLICE_NULL, SLICE_NULL, SLICE_NULL, SLICE_NULL}, &out), "{}");
    buf_fini(&out);
}

static void a_bad_cell_names_its_column(void **state)
{
    struct slice cells[] = {slice_str("abc"), SLICE_NULL, SLICE_NULL, SLICE_NULL};
    struct row_writer *w = row_writer_new(&columns);
    struct json_counts counts = {0};
    struct err err = {0};
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 16);
    buf_add_str(&out, "before");
    assert_false(row_write(w, cells, &out, &counts, &err));
    assert_int_equal(err.kind, ERR_REJECT);
    assert_string_equal(err.text, "column id: 3 bytes that are no int");
    assert_string_equal(buf_cstr(&out), "before");
    row_writer_free(w);
    buf_fini(&out);
}

static void a_full_buffer_is_cut_back(void **state)
{
    struct slice cells[] = {SLICE_NULL, slice_str("some text"), SLICE_NULL, SLICE_NULL};
    struct row_writer *w = row_writer_new(&columns);

    (void)state;
    for (size_t max = 1; max < 100; max++) {
        struct json_counts counts = {0};
        struct err err = {0};
        struct buf out;
        buf_init(&out, max);
        bool ok = row_write(w, cells, &out, &counts, &err);
        assert_int_equal(err.kind, ok ? ERR_NONE : ERR_REJECT);
        assert_int_equal(out.len, ok ? 32 : 0);
        assert_true(ok || max < 32 + 64); /* what may be copied too much */
        assert_false(out.full);
        buf_fini(&out);
    }
    row_writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nulls_are_left_out),
        cmocka_unit_test(a_bad_cell_names_its_column),
        cmocka_unit_test(a_full_buffer_is_cut_back),
    };

    columns_list[0].type = type_simple(TYPE_INT);
    for (size_t i = 1; i < 4; i++)
        columns_list[i].type = type_simple(TYPE_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
