/* The books of direct sync: the program's exit code 5 hangs on them alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "books.h"
#include "engine/direct.h"

static const struct direct_counts whole = {
    /* rows: 1 + 2 + 64; documents: 4 + 8 + 16 + 36 */
    .rows = 67,   .filtered = 1,  .merged = 2, .documents = 64,
    .indexed = 4, .unchanged = 8, .stale = 16, .failed = 36,
};

static const struct count in_the_law[] = {
    COUNT(direct_counts, rows),
    COUNT(direct_counts, filtered),
    COUNT(direct_counts, merged),
    COUNT(direct_counts, documents),
    COUNT(direct_counts, indexed),
    COUNT(direct_counts, unchanged),
    COUNT(direct_counts, stale),
    COUNT(direct_counts, failed),
    {NULL, 0},
};

static const struct count beside_it[] = {
    COUNT(direct_counts, bytes),
    COUNT(direct_counts, gone),
    COUNT(direct_counts, unread_ranges),
    COUNT(direct_counts, nan_to_null),
    COUNT(direct_counts, bad_utf8),
    COUNT(direct_counts, year_out_of_range),
    COUNT(direct_counts, bad_json),
    COUNT(direct_counts, id_collision),
    COUNT(direct_counts, lookup_missing),
    COUNT(direct_counts, altered),
    {NULL, 0},
};

static bool conserved(const void *counts)
{
    return direct_conserved(counts);
}

static void one_more_or_less_of_any_breaks_the_law(void **state)
{
    struct direct_counts c;

    (void)state;
    books_check(conserved, &whole, &c, sizeof c, in_the_law, false);
}

static void what_is_counted_besides_does_not(void **state)
{
    struct direct_counts c;

    (void)state;
    books_check(conserved, &whole, &c, sizeof c, beside_it, true);
}

static void a_run_of_nothing_balances(void **state)
{
    (void)state;
    assert_true(direct_conserved(&(struct direct_counts){0}));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_more_or_less_of_any_breaks_the_law),
        cmocka_unit_test(what_is_counted_besides_does_not),
        cmocka_unit_test(a_run_of_nothing_balances),
    };

    return cmocka_run_group_tests_name("engine/direct", tests, NULL, NULL);
}
