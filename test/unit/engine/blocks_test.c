#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/blocks.h"

struct fixture {
    char dir[64];
    struct clock clock;
    struct cancel cancel;
    struct journal *journal;
    struct run *run;
};

static const struct run_spec spec = {
    .command = "test", .identity = "blocks", .params = "{}", .resumable = true};

static int open_run(struct fixture *f)
{
    struct err err = {0};
    bool resumed;

    f->journal = journal_open(f->dir, false, &f->clock, &err);
    assert_non_null(f->journal);
    f->run = run_begin(f->journal, &spec, &resumed, &err);
    assert_non_null(f->run);
    return resumed;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    strcpy(f->dir, "/tmp/cass2es-blocks-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    clock_init_system(&f->clock);
    assert_true(cancel_init(&f->cancel, &err));
    assert_int_equal(open_run(f), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];

    run_abandon(f->run);
    journal_close(f->journal);
    cancel_fini(&f->cancel);
    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* As a crash would leave it, then the next process. */
static void crash(struct fixture *f)
{
    run_abandon(f->run);
    journal_close(f->journal);
    assert_int_equal(open_run(f), 1);
}

static struct blocks *make(struct fixture *f, uint32_t ids, size_t bytes)
{
    return blocks_new(&(struct blocks_options){.run = f->run,
                                               .cancel = &f->cancel,
                                               .block_ids = ids,
                                               .block_bytes = bytes,
                                               .waiting_bytes = 1 << 20});
}

static void add(struct fixture *f, struct blocks *b, const char *const *ids, size_t n)
{
    struct slice slices[32];
    struct err err = {0};
    struct tx *tx = tx_new(f->run);

    for (size_t i = 0; i < n; i++)
        slices[i] = slice_str(ids[i]);
    assert_true(blocks_add(b, slices, n, tx, &err));
    tx_free(tx);
}

static void expect_block(struct blocks *b, const char *body, uint32_t ids)
{
    struct block *block = blocks_take(b);

    assert_non_null(block);
    assert_int_equal(block->ids, ids);
    assert_int_equal(block->body.n, strlen(body));
    assert_memory_equal(block->body.p, body, block->body.n);
    block_free(block);
}

static int64_t count(struct fixture *f, const char *name)
{
    struct err err = {0};
    int64_t n = -1;

    assert_true(run_count(f->run, name, &n, &err));
    return n;
}

static void packs_full_blocks_across_pages(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 3, 1000);
    struct err err = {0};

    add(f, b, (const char *const[]){"\"a\"", "\"b\""}, 2);
    add(f, b, (const char *const[]){"\"c\"", "\"d\"", "[\"e\",\"f,\\\"]\"]", "{\"g\":[1,2]}"}, 4);
    assert_true(blocks_finish(b, &err));
    expect_block(b, "\"a\",\"b\",\"c\"", 3);
    expect_block(b, "\"d\",[\"e\",\"f,\\\"]\"],{\"g\":[1,2]}", 3);
    assert_null(blocks_take(b));
    assert_int_equal(count(f, "ids"), 6);
    assert_int_equal(blocks_packed(b), 6);
    blocks_free(b);
}

static void drops_and_counts_duplicates(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 2, 1000);
    struct err err = {0};

    /* adjacent, also across the border of a block and of a page; within a block; not across blocks
     */
    add(f, b, (const char *const[]){"\"a\"", "\"a\"", "\"b\"", "\"b\"", "\"c\""}, 5);
    add(f, b, (const char *const[]){"\"c\"", "\"a\"", "\"b\"", "\"c\"", "\"b\""}, 5);
    assert_true(blocks_finish(b, &err));
    expect_block(b, "\"a\",\"b\"", 2);
    expect_block(b, "\"c\",\"a\"", 2);
    expect_block(b, "\"b\",\"c\"", 2);
    expect_block(b, "\"b\"", 1);
    assert_null(blocks_take(b));
    assert_int_equal(count(f, "ids"), 10);
    assert_int_equal(count(f, "duplicate"), 3);
    blocks_free(b);
}

static void what_only_begins_alike_is_no_duplicate(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 10, 1000);
    struct err err = {0};

    add(f, b,
        (const char *const[]){"12", "1", "\"ab\"", "\"a\"", "[1]", "1", "[1,2]", "\"ab\"", "2",
                              "12"},
        10);
    assert_true(blocks_finish(b, &err));
    expect_block(b, "12,1,\"ab\",\"a\",[1],[1,2],2", 7);
    assert_int_equal(count(f, "duplicate"), 3);
    blocks_free(b);
}

/* More ids than the first table of them holds; each twice, in two blocks. */
static void duplicates_of_a_large_block(void **state)
{
    enum { IDS = 5000 };
    struct fixture *f = *state;
    struct blocks *b = make(f, IDS, 1 << 20);
    struct tx *tx = tx_new(f->run);
    char(*text)[16] = malloc(IDS * sizeof *text);
    struct slice *ids = malloc(2 * IDS * sizeof *ids);
    struct err err = {0};

    for (int i = 0; i < IDS; i++) {
        snprintf(text[i], sizeof *text, "\"id-%d\"", i);
        ids[i] = slice_str(text[i]);
        ids[IDS + i] = slice_str(text[i]);
    }
    assert_true(blocks_add(b, ids, IDS - 1, tx, &err));
    assert_true(blocks_add(b, ids + 7, IDS - 1, tx, &err));
    assert_int_equal(count(f, "duplicate"), IDS - 8);
    assert_true(blocks_finish(b, &err));
    struct block *block = blocks_take(b);
    assert_int_equal(block->ids, IDS);
    block_free(block);
    block = blocks_take(b);
    assert_int_equal(block->ids, 6);
    block_free(block);
    tx_free(tx);
    free(text);
    free(ids);
    blocks_free(b);
}

static void passing_blocks_leave_no_trace(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = blocks_new(&(struct blocks_options){.run = f->run,
                                                           .cancel = &f->cancel,
                                                           .block_ids = 2,
                                                           .block_bytes = 100,
                                                           .waiting_bytes = 1000,
                                                           .passing = true});
    struct run_block left;
    struct err err = {0};
    bool found;

    add(f, b, (const char *const[]){"\"a\"", "\"b\"", "\"c\""}, 3);
    assert_true(run_next_block(f->run, 0, &left, &found, &err));
    assert_false(found);
    assert_true(blocks_finish(b, &err));
    expect_block(b, "\"a\",\"b\"", 2);
    expect_block(b, "\"c\"", 1);
    assert_int_equal(count(f, "ids"), 3);
    assert_true(run_next_block(f->run, 0, &left, &found, &err));
    assert_false(found);
    blocks_free(b);
}

static void ids_are_cut_off_a_body(void **state)
{
    static const char *const ids[] = {"\"a\"",         "\"a\\\"b,c\"", "\"\\\\\"",
                                      "\"\"",          "[\"x,\",[1]]", "17",
                                      "{\"a\":\"}\"}", "\"a,b\"",      "\"last\""};
    struct buf body;
    struct slice id;

    (void)state;
    buf_init(&body, 1000);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        if (i)
            buf_add_byte(&body, ',');
        buf_add_str(&body, ids[i]);
    }
    struct slice rest = buf_slice(&body);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_true(block_next_id(&rest, &id));
        assert_true(slice_is(id, ids[i]));
    }
    assert_false(block_next_id(&rest, &id));
    buf_fini(&body);
}

static void a_block_also_ends_at_its_bytes(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 100, 9);
    struct err err = {0};

    add(f, b, (const char *const[]){"\"abc\"", "\"d\"", "\"e\"", "\"far too long\"", "\"f\""}, 5);
    assert_true(blocks_finish(b, &err));
    expect_block(b, "\"abc\",\"d\"", 2);
    expect_block(b, "\"e\",\"f\"", 2);
    assert_null(blocks_take(b));
    assert_int_equal(count(f, "bad"), 1);
    blocks_free(b);
}

static void what_was_packed_is_given_out_again(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 2, 1000);
    struct err err = {0};

    add(f, b, (const char *const[]){"\"a\"", "\"b\"", "\"c\"", "\"d\"", "\"e\""}, 5);
    /* the first ended, the second was in flight, the third is open */
    struct block *first = blocks_take(b);
    struct tx *tx = tx_new(f->run);
    tx_block_end(tx, first->no);
    assert_true(journal_commit(tx, &err));
    tx_free(tx);
    block_free(first);
    block_free(blocks_take(b));
    blocks_free(b);
    crash(f);

    b = make(f, 2, 1000);
    assert_true(blocks_reload(b, &err));
    add(f, b, (const char *const[]){"\"e\"", "\"f\"", "\"g\""},
        3); /* the open block goes on, and knows its ids */
    assert_true(blocks_finish(b, &err));
    expect_block(b, "\"c\",\"d\"", 2);
    expect_block(b, "\"e\",\"f\"", 2);
    expect_block(b, "\"g\"", 1);
    assert_null(blocks_take(b));
    assert_int_equal(count(f, "duplicate"), 1);
    blocks_free(b);
}

static void ids_and_their_mark_are_one(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 10, 1000);
    struct interval_set marks = {0};
    struct err err = {0};
    struct slice id = slice_str("\"a\"");
    struct tx *tx = tx_new(f->run);

    tx_mark(tx, "token", 0, 100);
    assert_true(blocks_add(b, &id, 1, tx, &err));
    tx_free(tx);
    blocks_free(b);
    crash(f);

    assert_true(run_marks(f->run, "token", &marks, &err));
    assert_int_equal(marks.count, 1);
    interval_set_fini(&marks);
    b = make(f, 10, 1000);
    assert_true(blocks_reload(b, &err));
    assert_true(blocks_finish(b, &err));
    expect_block(b, "\"a\"", 1);
    blocks_free(b);
}

static void nothing_is_given_out_after_a_stop(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 1, 1000);

    add(f, b, (const char *const[]){"\"a\"", "\"b\""}, 2);
    blocks_stop(b);
    assert_null(blocks_take(b));
    blocks_free(b);
}

static void no_ids_make_no_block(void **state)
{
    struct fixture *f = *state;
    struct blocks *b = make(f, 2, 1000);
    struct err err = {0};

    add(f, b, NULL, 0);
    assert_true(blocks_finish(b, &err));
    assert_null(blocks_take(b));
    blocks_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packs_full_blocks_across_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(drops_and_counts_duplicates, setup, teardown),
        cmocka_unit_test_setup_teardown(what_only_begins_alike_is_no_duplicate, setup, teardown),
        cmocka_unit_test_setup_teardown(duplicates_of_a_large_block, setup, teardown),
        cmocka_unit_test_setup_teardown(passing_blocks_leave_no_trace, setup, teardown),
        cmocka_unit_test(ids_are_cut_off_a_body),
        cmocka_unit_test_setup_teardown(a_block_also_ends_at_its_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_packed_is_given_out_again, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_and_their_mark_are_one, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_given_out_after_a_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(no_ids_make_no_block, setup, teardown),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
