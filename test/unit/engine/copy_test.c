/* The books of a table that is written into a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "books.h"
#include "engine/copy.h"

static const struct copy_counts whole = {
    .rows = 13, .filtered = 1, .documents = 12, .written = 8, .failed = 4};

static const struct count in_the_law[] = {
    COUNT(copy_counts, rows),    COUNT(copy_counts, filtered), COUNT(copy_counts, documents),
    COUNT(copy_counts, written), COUNT(copy_counts, failed),   {NULL, 0},
};

static const struct count beside_it[] = {
    COUNT(copy_counts, bytes),          COUNT(copy_counts, unread_ranges),
    COUNT(copy_counts, nan_to_null),    COUNT(copy_counts, bad_utf8),
    COUNT(copy_counts, bad_json),       COUNT(copy_counts, year_out_of_range),
    COUNT(copy_counts, lookup_missing), {NULL, 0},
};

static bool conserved(const void *counts)
{
    return copy_conserved(counts);
}

static void one_more_or_less_of_any_breaks_the_law(void **state)
{
    struct copy_counts c;

    (void)state;
    books_check(conserved, &whole, &c, sizeof c, in_the_law, false);
}

static void what_is_counted_besides_does_not(void **state)
{
    struct copy_counts c;

    (void)state;
    books_check(conserved, &whole, &c, sizeof c, beside_it, true);
}

static void a_run_of_nothing_balances(void **state)
{
    (void)state;
    assert_true(copy_conserved(&(struct copy_counts){0}));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_more_or_less_of_any_breaks_the_law),
        cmocka_unit_test(what_is_counted_besides_does_not),
        cmocka_unit_test(a_run_of_nothing_balances),
    };

    return cmocka_run_group_tests_name("engine/copy", tests, NULL, NULL);
}
