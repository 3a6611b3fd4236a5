#include "base/queue.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/cmocka_all.h"

enum { ITEMS = 20000, PUSHERS = 3, POPPERS = 3 };

static void first_in_first_out_up_to_its_size(void **state)
{
    struct queue *q = queue_new(3);
    int items[4];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_true(queue_try_push(q, &items[i]));
    assert_false(queue_try_push(q, &items[3]));
    assert_int_equal(queue_len(q), 3);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(queue_pop(q, -1), &items[i]);
    assert_null(queue_pop(q, 0));
    assert_null(queue_pop(q, 1));
    queue_free(q);
}

static void a_closed_queue_is_drained(void **state)
{
    struct queue *q = queue_new(3);
    int item;

    (void)state;
    assert_true(queue_push(q, &item));
    queue_close(q);
    assert_false(queue_push(q, &item));
    assert_false(queue_try_push(q, &item));
    assert_ptr_equal(queue_pop(q, -1), &item);
    assert_null(queue_pop(q, -1));
    queue_free(q);
}

struct shared {
    struct queue *q;
    atomic_int next;
    atomic_int seen[ITEMS];
};

static void *push_all(void *ctx)
{
    struct shared *s = ctx;

    for (int i; (i = atomic_fetch_add(&s->next, 1)) < ITEMS;)
        queue_push(s->q, &s->seen[i]);
    return NULL;
}

static void *pop_all(void *ctx)
{
    struct shared *s = ctx;

    for (atomic_int *item; (item = queue_pop(s->q, -1));)
        atomic_fetch_add(item, 1);
    return NULL;
}

static void each_item_is_popped_once(void **state)
{
    struct shared *s = calloc(1, sizeof *s);
    pthread_t pushers[PUSHERS];
    pthread_t poppers[POPPERS];

    (void)state;
    s->q = queue_new(7);
    for (int i = 0; i < POPPERS; i++)
        pthread_create(&poppers[i], NULL, pop_all, s);
    for (int i = 0; i < PUSHERS; i++)
        pthread_create(&pushers[i], NULL, push_all, s);
    for (int i = 0; i < PUSHERS; i++)
        pthread_join(pushers[i], NULL);
    queue_close(s->q);
    for (int i = 0; i < POPPERS; i++)
        pthread_join(poppers[i], NULL);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(atomic_load(&s->seen[i]), 1);
    queue_free(s->q);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out_up_to_its_size),
        cmocka_unit_test(a_closed_queue_is_drained),
        cmocka_unit_test(each_item_is_popped_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
