#include "engine/tasks.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/text.h"

struct tasks {
    pthread_mutex_t lock;
    struct run_cursors cursors;
    size_t next_cursor;
    struct cql_ranges ranges;
    bool *taken; /* of ranges.list */
    size_t first_free;
    uint32_t share; /* of SAMPLE_ALL */
};

void tasks_free(struct tasks *t)
{
    run_cursors_fini(&t->cursors);
    cql_ranges_fini(&t->ranges);
    free(t->taken);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* The ring less the marks and less what the cursors stand for. */
static bool wanted_ranges(struct tasks *t, struct run *run, uint32_t share,
                          struct token_range **out, size_t *count, struct err *err)
{
    struct token_range *sample;
    size_t sample_count = sample_ranges(share, &sample);
    struct interval_set rest = {0};
    struct interval_set done = {0};

    for (size_t i = 0; i < sample_count; i++)
        interval_set_add(&rest, sample[i].start, sample[i].end);
    free(sample);
    if (run) {
        if (!run_marks(run, TASKS_AXIS, &done, err) ||
            !run_cursors(run, TASKS_AXIS, &t->cursors, err)) {
            interval_set_fini(&rest);
            interval_set_fini(&done);
            return false;
        }
        for (size_t i = 0; i < done.count; i++)
            interval_set_remove(&rest, done.list[i].start, done.list[i].end);
        for (size_t i = 0; i < t->cursors.count; i++) {
            const struct run_cursor *c = &t->cursors.list[i];

            interval_set_remove(&rest, c->done_to, c->range.end);
        }
    }
    *out = xalloc(rest.count * sizeof **out);
    *count = rest.count;
    for (size_t i = 0; i < rest.count; i++)
        (*out)[i] =
            (struct token_range){.start = rest.list[i].start, .end = rest.list[i].end, .node = -1};
    interval_set_fini(&rest);
    interval_set_fini(&done);
    return true;
}

#define SHARE_NOTE "sample_share"

/* The share of a sample by number, as it was when the run began: estimates change. */
static bool find_share(struct cql_cluster *c, const struct schema *schema, struct run *run,
                       struct sample sample, uint32_t *share, struct err *err)
{
    const struct token_range all = {.start = INT64_MIN, .end = INT64_MAX, .node = -1};
    AUTO_STR char *noted = NULL;
    struct cql_ranges ranges;
    char text[24];
    int64_t v = 0;

    if (run && !run_note(run, SHARE_NOTE, &noted, err))
        return false;
    if (noted && text_to_i64(slice_str(noted), 1, SAMPLE_ALL, &v)) {
        *share = (uint32_t)v;
        return true;
    }
    if (!cql_ranges_plan(c, schema, &all, 1, UINT64_MAX, 1, &ranges, err))
        return false;
    uint64_t estimated = ranges.estimated_rows;
    cql_ranges_fini(&ranges);
    if (!estimated)
        return err_set(
            err, ERR_USER,
            "%s.%s has no estimate of its size yet; say --sample as a share, such as 1%%",
            schema->keyspace, schema->table);
    *share = sample_share(sample.partitions, estimated);
    if (!run)
        return true;
    struct tx *tx = tx_new(run);
    snprintf(text, sizeof text, "%u", *share);
    tx_note(tx, SHARE_NOTE, text);
    bool ok = journal_commit(tx, err);
    tx_free(tx);
    return ok;
}

bool tasks_check_sample(struct cql_cluster *c, const struct schema *schema, struct sample sample,
                        struct err *err)
{
    uint32_t share;

    return !sample.partitions || find_share(c, schema, NULL, sample, &share, err);
}

struct tasks *tasks_plan(struct cql_cluster *c, const struct schema *schema, struct run *run,
                         uint64_t target_bytes, size_t at_least, struct err *err)
{
    return tasks_plan_sample(c, schema, run, (struct sample){.share = SAMPLE_ALL}, target_bytes,
                             at_least, err);
}

struct tasks *tasks_plan_sample(struct cql_cluster *c, const struct schema *schema, struct run *run,
                                struct sample sample, uint64_t target_bytes, size_t at_least,
                                struct err *err)
{
    AUTO(tasks) struct tasks *t = xalloc(sizeof *t);
    uint32_t share = sample.share ? sample.share : SAMPLE_ALL;
    struct token_range *wanted = NULL;
    size_t count = 0;

    pthread_mutex_init(&t->lock, NULL);
    if (sample.partitions && !find_share(c, schema, run, sample, &share, err))
        return NULL;
    t->share = share;
    if (!wanted_ranges(t, run, share, &wanted, &count, err))
        return NULL;
    bool ok = cql_ranges_plan(c, schema, wanted, count, target_bytes, at_least, &t->ranges, err);
    free(wanted);
    if (!ok)
        return NULL;
    t->taken = xalloc(t->ranges.count * sizeof *t->taken);
    return TAKE(t);
}

static size_t pick_range(struct tasks *t, int32_t node)
{
    while (t->first_free < t->ranges.count && t->taken[t->first_free])
        t->first_free++;
    if (node >= 0) {
        for (size_t i = t->first_free; i < t->ranges.count; i++) {
            if (!t->taken[i] && t->ranges.list[i].node == node)
                return i;
        }
    }
    return t->first_free;
}

bool tasks_next(struct tasks *t, int32_t *node, struct scan_task *out)
{
    bool found = true;

    pthread_mutex_lock(&t->lock);
    if (t->next_cursor < t->cursors.count) {
        const struct run_cursor *c = &t->cursors.list[t->next_cursor++];

        *out =
            (struct scan_task){.range = {.start = c->range.start, .end = c->range.end, .node = -1},
                               .done_to = c->done_to,
                               .state = c->state};
    } else {
        size_t i = pick_range(t, *node);

        found = i < t->ranges.count;
        if (found) {
            t->taken[i] = true;
            *node = t->ranges.list[i].node;
            *out =
                (struct scan_task){.range = t->ranges.list[i], .done_to = t->ranges.list[i].start};
        }
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

uint64_t tasks_estimated_rows(const struct tasks *t)
{
    return (uint64_t)((__uint128_t)t->ranges.estimated_rows * t->share / SAMPLE_ALL);
}

double tasks_share(const struct tasks *t)
{
    return (double)t->share / (double)SAMPLE_ALL;
}

uint64_t tasks_mean_partition_bytes(const struct tasks *t)
{
    return t->ranges.mean_partition_bytes;
}

void tasks_mark(struct tx *tx, const struct scan_task *task, const struct scan_page *page)
{
    struct interval range = {task->range.start, task->range.end};

    if (page->done_to > task->range.start)
        tx_mark(tx, TASKS_AXIS, task->range.start, page->done_to);
    if (page->inside)
        tx_cursor(tx, TASKS_AXIS, range, page->done_to, page->state);
    else
        tx_cursor_end(tx, TASKS_AXIS, range.start);
}

static void note_unread(struct tx *tx, int64_t start, int64_t end, const char *why)
{
    char key[64];

    snprintf(key, sizeof key, "token %lld..%lld", (long long)start, (long long)end);
    tx_failure(tx, slice_str(key), "unread_range", why);
    tx_count(tx, "unread_ranges", 1);
}

bool tasks_cut(struct tx *tx, const struct scan_task *task, int64_t done_to, bool inside,
               const char *why, struct err *err)
{
    tx_cursor_end(tx, TASKS_AXIS, task->range.start);
    if (inside) {
        if (why)
            note_unread(tx, done_to, done_to + 1, why);
        tx_mark(tx, TASKS_AXIS, done_to, done_to + 1);
    }
    return journal_commit(tx, err);
}

bool tasks_note_unread(struct tx *tx, const struct token_range *range, const char *why,
                       struct err *err)
{
    note_unread(tx, range->start, range->end, why);
    return journal_commit(tx, err);
}
