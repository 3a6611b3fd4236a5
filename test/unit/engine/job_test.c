/* The books of the job, to a Sync API and to an index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "books.h"
#include "engine/job.h"

static const struct job_counts to_an_index = {
    .ids = 1 + 2 + 12 + 16 + 32 + 64 + 128,
    .duplicate = 1,
    .bad = 2,
    .missing = 12,
    .accepted = 16,
    .confirmed = 32,
    .failed = 64,
    .ids_found = 128,
    .given = 3 + 5 + 9 + 17,
    .given_duplicate = 3,
    .given_bad = 5,
    .given_missing = 9,
    .found = 17,
    .deleted = 4,
    .kept = 8,
    .rows = 21 + 42 + 300,
    .filtered = 21,
    .merged = 42,
    .documents = 300,
    .indexed = 100,
    .unchanged = 90,
    .stale = 60,
    .documents_failed = 50,
};

/* There missing ids are neither deleted nor kept. */
static const struct job_counts to_an_api = {
    .ids = 1 + 2 + 12 + 16 + 32 + 64,
    .duplicate = 1,
    .bad = 2,
    .missing = 12,
    .accepted = 16,
    .confirmed = 32,
    .failed = 64,
};

static const struct count in_the_law[] = {
    COUNT(job_counts, ids),
    COUNT(job_counts, duplicate),
    COUNT(job_counts, bad),
    COUNT(job_counts, missing),
    COUNT(job_counts, accepted),
    COUNT(job_counts, confirmed),
    COUNT(job_counts, failed),
    COUNT(job_counts, ids_found),
    COUNT(job_counts, given),
    COUNT(job_counts, given_duplicate),
    COUNT(job_counts, given_bad),
    COUNT(job_counts, given_missing),
    COUNT(job_counts, found),
    COUNT(job_counts, rows),
    COUNT(job_counts, filtered),
    COUNT(job_counts, merged),
    COUNT(job_counts, documents),
    COUNT(job_counts, indexed),
    COUNT(job_counts, unchanged),
    COUNT(job_counts, stale),
    COUNT(job_counts, documents_failed),
    {NULL, 0},
};

static const struct count of_missing[] = {
    COUNT(job_counts, deleted),
    COUNT(job_counts, kept),
    {NULL, 0},
};

static const struct count beside_it[] = {
    COUNT(job_counts, altered),
    COUNT(job_counts, lookup_missing),
    COUNT(job_counts, id_collision),
    COUNT(job_counts, calls),
    COUNT(job_counts, blocks),
    COUNT(job_counts, unread_ranges),
    {NULL, 0},
};

static bool conserved(const void *counts)
{
    return job_conserved(counts);
}

static void one_more_or_less_of_any_breaks_the_law(void **state)
{
    struct job_counts c;

    (void)state;
    books_check(conserved, &to_an_index, &c, sizeof c, in_the_law, false);
    books_check(conserved, &to_an_index, &c, sizeof c, of_missing, false);
    books_check(conserved, &to_an_api, &c, sizeof c, in_the_law, false);
}

/* ids and missing still add up: only that none of the deleted or kept is the one in excess. */
static void a_missing_id_is_deleted_or_kept(void **state)
{
    struct job_counts c = to_an_index;

    (void)state;
    c.missing++;
    c.ids_found--;
    assert_false(job_conserved(&c));
    c.kept++;
    assert_true(job_conserved(&c));
}

static void what_is_counted_besides_does_not(void **state)
{
    struct job_counts c;

    (void)state;
    books_check(conserved, &to_an_index, &c, sizeof c, beside_it, true);
    books_check(conserved, &to_an_api, &c, sizeof c, beside_it, true);
}

static void a_run_of_nothing_balances(void **state)
{
    (void)state;
    assert_true(job_conserved(&(struct job_counts){0}));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_more_or_less_of_any_breaks_the_law),
        cmocka_unit_test(a_missing_id_is_deleted_or_kept),
        cmocka_unit_test(what_is_counted_besides_does_not),
        cmocka_unit_test(a_run_of_nothing_balances),
    };

    return cmocka_run_group_tests_name("engine/job", tests, NULL, NULL);
}
