#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/quota.h"

static struct clock the_clock;
static struct cancel cancel;
static struct crew crew;

static struct quota made(uint64_t limit, uint64_t done)
{
    struct quota q;

    quota_init(&q, limit, done, &crew, &the_clock);
    return q;
}

static void begin(struct quota *q, struct quota_page *p, uint64_t wanted)
{
    struct err err = {0};

    assert_true(quota_begin(q, p, wanted, &err));
}

static void none_is_no_limit(void **state)
{
    (void)state;
    struct quota q = made(0, 5);
    struct quota_page p;

    for (int i = 0; i < 3; i++) {
        begin(&q, &p, 1000);
        assert_true(quota_take(&q, &p));
        quota_end(&q, &p, 1000);
        assert_false(quota_ended(&q));
    }
    quota_fini(&q);
}

static void ends_with_what_earlier_processes_did(void **state)
{
    (void)state;
    struct quota q = made(10, 10);
    struct quota_page p;
    struct err err = {0};

    assert_true(quota_ended(&q));
    assert_false(quota_begin(&q, &p, 5, &err));
    assert_int_equal(err.kind, ERR_NONE);
    quota_fini(&q);
}

static void pages_give_back_what_came_to_nothing(void **state)
{
    (void)state;
    struct quota q = made(10, 0);
    struct quota_page a, b;

    begin(&q, &a, 6);
    begin(&q, &b, 4);
    quota_end(&q, &a, 2); /* four rows were filtered, or gone */
    assert_false(quota_ended(&q));
    quota_end(&q, &b, 0); /* given up */
    begin(&q, &a, 8);
    assert_false(a.cuts);
    quota_end(&q, &a, 8);
    assert_true(quota_ended(&q));
    quota_fini(&q);
}

static void the_last_page_takes_as_it_goes(void **state)
{
    (void)state;
    struct quota q = made(5, 2);
    struct quota_page p;
    struct err err = {0};

    begin(&q, &p, 10);
    assert_true(p.cuts);
    for (int i = 0; i < 3; i++)
        assert_true(quota_take(&q, &p));
    assert_false(quota_take(&q, &p));
    assert_true(quota_more(&q, &p, 2, &err)); /* one of them was gone */
    assert_true(quota_take(&q, &p));
    assert_false(quota_take(&q, &p));
    assert_false(quota_more(&q, &p, 3, &err));
    assert_int_equal(err.kind, ERR_NONE);
    assert_false(quota_ended(&q)); /* not before it is journalled */
    quota_end(&q, &p, 3);
    assert_true(quota_ended(&q));
    quota_fini(&q);
}

static void waiting_ends_when_the_crew_stops(void **state)
{
    (void)state;
    struct quota q = made(5, 0);
    struct quota_page a, b, c;
    struct err err = {0};

    begin(&q, &a, 4);
    begin(&q, &b, 4); /* cuts: one is left */
    begin(&q, &c, 0); /* nothing is wanted of it: nobody waits */
    quota_end(&q, &c, 0);
    assert_true(quota_take(&q, &b));
    assert_false(quota_take(&q, &b));
    atomic_store(&crew.stop, true);
    assert_false(quota_more(&q, &b, 1, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    err_clear(&err);
    assert_false(quota_begin(&q, &c, 4, &err));
    assert_int_equal(err.kind, ERR_CANCEL);
    atomic_store(&crew.stop, false);
    quota_fini(&q);
}

/* Many workers, pages of all sizes, some given up, some with rows that come to nothing. */
enum { WORKERS = 8, WANTED = 20000 };

struct worker_state {
    struct quota *q;
    unsigned seed;
    uint64_t documents;
    unsigned cut_pages; /* journalled as a part */
};

/* A page's documents; false: it was cut short. */
static bool fill(struct worker_state *w, struct quota_page *p, uint64_t rows, uint64_t *documents)
{
    struct err err = {0};

    *documents = 0;
    for (uint64_t i = 0; i < rows; i++) {
        while (!quota_take(w->q, p))
            if (!quota_more(w->q, p, *documents, &err))
                return false;
        *documents += rand_r(&w->seed) % 5 > 0;
    }
    return true;
}

static void *work(void *arg)
{
    struct worker_state *w = arg;
    struct quota_page p;
    struct err err = {0};

    while (!quota_ended(w->q)) {
        uint64_t rows = (uint64_t)rand_r(&w->seed) % 300, documents;
        if (!quota_begin(w->q, &p, rows, &err))
            break;
        bool whole = fill(w, &p, rows, &documents);
        if (rand_r(&w->seed) % 7 == 0 && whole)
            documents = 0; /* given up */
        quota_end(w->q, &p, documents);
        w->documents += documents;
        w->cut_pages += !whole;
    }
    return NULL;
}

static void is_exact_for_all_workers_together(void **state)
{
    (void)state;
    struct quota q = made(WANTED, 0);
    struct worker_state workers[WORKERS];
    pthread_t threads[WORKERS];
    uint64_t documents = 0;
    unsigned cut_pages = 0;

    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker_state){.q = &q, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        documents += workers[i].documents;
        cut_pages += workers[i].cut_pages;
    }
    assert_int_equal(documents, WANTED);
    assert_true(cut_pages <= 1);
    assert_true(quota_ended(&q));
    quota_fini(&q);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_is_no_limit),
        cmocka_unit_test(ends_with_what_earlier_processes_did),
        cmocka_unit_test(pages_give_back_what_came_to_nothing),
        cmocka_unit_test(the_last_page_takes_as_it_goes),
        cmocka_unit_test(waiting_ends_when_the_crew_stops),
        cmocka_unit_test(is_exact_for_all_workers_together),
    };
    struct err err = {0};

    clock_init_system(&the_clock);
    if (!cancel_init(&cancel, &err))
        return 1;
    crew_init(&crew, &cancel, NULL, NULL);
    int failed = cmocka_run_group_tests_name("engine/quota", tests, NULL, NULL);
    crew_fini(&crew);
    cancel_fini(&cancel);
    return failed;
}
