#include "engine/estimate.h"

#include <stdlib.h>
#include <string.h>

#include "engine/fetch.h"
#include "engine/tasks.h"
#include "model/row.h"
#include "source/scan.h"

enum {
    PAGE_BYTES = 256 << 10,
    FIRST_ROWS = 500,
    SAMPLE_ROWS = 20000,
    RANGES = 64,
    RANGE_BYTES = 64 << 20,
    DOCUMENT_MAX_BYTES = 64 << 20,
};

struct sampler {
    const struct estimate_options *o;
    struct estimate *e;
    struct scan_plan scan;
    struct tasks *tasks;
    struct buf id, document;
    struct slice *cells;
    double covered; /* of the ring */
    int64_t read_us;
    struct fetch fetch;
};

static double share(int64_t start, int64_t end)
{
    return (double)((uint64_t)end - (uint64_t)start) / 18446744073709551615.0;
}

static size_t samples_wanted(const struct sampler *s)
{
    uint64_t most = s->o->most_documents;

    if (s->o->by_ids)
        return 0;
    return most && most < ESTIMATE_SAMPLES ? (size_t)most : ESTIMATE_SAMPLES;
}

static void keep_sample(struct sampler *s)
{
    if (s->e->sample_count < samples_wanted(s))
        estimate_add_sample(s->e, buf_slice(&s->id), buf_slice(&s->document));
}

static void take_row(struct sampler *s)
{
    const struct plan *p = s->o->plan;
    struct estimate *e = s->e;
    struct json_counts altered = {0};
    struct err err = {0};

    e->rows_read++;
    if (!scan_wants(&s->scan, s->cells) || !plan_holds(p, s->cells, &s->fetch.work))
        return;
    e->wanted++;
    buf_reset(&s->id);
    buf_reset(&s->document);
    if (plan_id(p, s->cells, &s->id, &err) &&
        fetch_document(&s->fetch, s->cells, buf_slice(&s->id), &s->document, &altered, &err)) {
        e->bytes += s->document.len;
        keep_sample(s);
        return;
    }
    if (strcmp(s->fetch.work.reason, PLAN_FILTERED) == 0) {
        e->wanted--;
        return;
    }
    if (!e->not_written++)
        snprintf(e->problem, sizeof e->problem, "%s", err.text);
}

static bool take_page(struct sampler *s, const struct page *page, struct err *err)
{
    struct row_cursor rows = page_rows(page);

    s->cells = xrealloc(s->cells, (size_t)page->columns->count * sizeof *s->cells);
    while (row_next(&rows, s->cells, err))
        take_row(s);
    return err->kind == ERR_NONE;
}

/* Its first page. */
static bool take_range(struct sampler *s, struct cql_session *session, const struct scan_task *task,
                       struct err *err)
{
    const struct token_range *range = &task->range;
    struct scan_page page;
    AUTO(scan) struct scan *scan =
        scan_open(session, &s->scan, task, PAGE_BYTES, FIRST_ROWS, 0, err);

    if (!scan)
        return false;
    int64_t begin = clock_mono_us(s->o->clock);
    bool more = scan_next(scan, &page, err);
    s->read_us += clock_mono_us(s->o->clock) - begin;
    if (!more) {
        s->covered += err->kind == ERR_NONE ? share(range->start, range->end) : 0;
        return err->kind == ERR_NONE;
    }
    s->covered += share(range->start, page.last ? range->end : page.done_to);
    s->e->whole = s->e->whole && page.last;
    return take_page(s, &page.page, err);
}

/* Rows that a sync of all of them would read. */
static double all_rows(const struct sampler *s)
{
    const struct estimate *e = s->e;

    return e->whole                                                          ? (double)e->rows_read
           : e->partitions && plan_schema(s->o->plan)->clustering_count == 0 ? (double)e->partitions
           : s->covered > 0 ? (double)e->rows_read / s->covered * tasks_share(s->tasks)
                            : 0;
}

static void conclude(struct sampler *s)
{
    struct estimate *e = s->e;
    uint64_t good = e->wanted - e->not_written;
    double rows = s->o->by_ids ? (double)s->o->ids : all_rows(s);
    uint64_t most = s->o->most_documents;

    if (!e->rows_read)
        return;
    double documents = rows * (double)e->wanted / (double)e->rows_read;
    if (most && documents > (double)most) { /* and no more rows than they need */
        rows *= (double)most / documents;
        documents = (double)most;
    }
    e->documents = (uint64_t)documents;
    e->document_bytes =
        good ? (uint64_t)((double)e->documents * (double)e->bytes / (double)good) : 0;
    if (s->o->by_ids) { /* which the time of a scan says nothing about */
        e->whole = false;
        return;
    }
    e->ms = (int64_t)(rows * (double)s->read_us / (double)e->rows_read / 1000.0 /
                      (s->o->workers ? s->o->workers : 1));
}

static bool look(struct sampler *s, struct cql_session *session, struct err *err)
{
    int64_t until_us = clock_mono_us(s->o->clock) + (int64_t)ESTIMATE_MS * 1000;
    struct scan_task task;

    s->e->whole = true;
    for (int32_t node = -1; tasks_next(s->tasks, &node, &task); node = -1) {
        bool enough = s->e->rows_read >= SAMPLE_ROWS && s->e->sample_count == samples_wanted(s);
        if (enough || clock_mono_us(s->o->clock) > until_us) {
            s->e->whole = false;
            break;
        }
        if (!take_range(s, session, &task, err))
            return false;
    }
    conclude(s);
    return true;
}

bool estimate_make(const struct estimate_options *o, struct estimate *out, struct err *err)
{
    struct sampler s = {.o = o, .e = out};

    *out = (struct estimate){.ms = -1};
    AUTO(cql_session) struct cql_session *session = cql_session_open(o->cluster, err);
    if (!session)
        return false;
    scan_plan_select(&s.scan, plan_schema(o->plan), plan_selects(o->plan),
                     plan_column_count(o->plan), o->where);
    fetch_init(&s.fetch, o->plan, o->cluster, DOCUMENT_MAX_BYTES);
    buf_init(&s.id, DOCUMENT_MAX_BYTES);
    buf_init(&s.document, DOCUMENT_MAX_BYTES);
    AUTO(tasks) struct tasks *tasks = NULL;
    if (scan_plan_ask(&s.scan, session, err))
        tasks = tasks_plan_sample(o->cluster, plan_schema(o->plan), NULL, o->sample, RANGE_BYTES,
                                  RANGES, err);
    s.tasks = tasks;
    if (tasks) {
        out->statement = xstrdup(o->by_ids ? plan_read_text(o->plan) : s.scan.text);
        out->partitions = tasks_estimated_rows(tasks);
    }
    bool ok = tasks && look(&s, session, err);
    scan_plan_fini(&s.scan);
    fetch_fini(&s.fetch);
    buf_fini(&s.id);
    buf_fini(&s.document);
    free(s.cells);
    return ok;
}

void estimate_add_sample(struct estimate *e, struct slice id, struct slice document)
{
    if (e->sample_count == ESTIMATE_SAMPLES)
        return;
    struct estimate_sample *to = &e->samples[e->sample_count++];
    buf_init(&to->id, SIZE_MAX / 2);
    buf_init(&to->document, SIZE_MAX / 2);
    buf_add_slice(&to->id, id);
    buf_add_slice(&to->document, document);
}

void estimate_fini(struct estimate *e)
{
    free(e->statement);
    for (size_t i = 0; i < e->sample_count; i++) {
        buf_fini(&e->samples[i].id);
        buf_fini(&e->samples[i].document);
    }
    *e = (struct estimate){.ms = -1};
}
