#include "engine/estimate.h"

#include <stdlib.h>
#include <string.h>

#include "engine/fetch.h"
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

static void keep_sample(struct sampler *s)
{
    struct estimate *e = s->e;

    if (e->sample_count == ESTIMATE_SAMPLES)
        return;
    struct estimate_sample *to = &e->samples[e->sample_count++];
    buf_init(&to->id, SIZE_MAX / 2);
    buf_init(&to->document, SIZE_MAX / 2);
    buf_add_slice(&to->id, buf_slice(&s->id));
    buf_add_slice(&to->document, buf_slice(&s->document));
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
static bool take_range(struct sampler *s, struct cql_session *session,
                       const struct token_range *range, struct err *err)
{
    struct scan_task task = {.range = *range, .done_to = range->start};
    struct scan_page page;
    AUTO(scan) struct scan *scan =
        scan_open(session, &s->scan, &task, PAGE_BYTES, FIRST_ROWS, 0, err);

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

static void conclude(struct sampler *s, uint64_t ranges_left)
{
    struct estimate *e = s->e;
    uint64_t good = e->wanted - e->not_written;
    double rows = e->whole && !ranges_left ? (double)e->rows_read
                  : e->partitions && plan_schema(s->o->plan)->clustering_count == 0
                      ? (double)e->partitions
                  : s->covered > 0 ? (double)e->rows_read / s->covered
                                   : 0;

    e->whole = e->whole && !ranges_left;
    if (!e->rows_read)
        return;
    e->documents = (uint64_t)(rows * (double)e->wanted / (double)e->rows_read);
    e->document_bytes =
        good ? (uint64_t)((double)e->documents * (double)e->bytes / (double)good) : 0;
    e->ms = (int64_t)(rows * (double)s->read_us / (double)e->rows_read / 1000.0 /
                      (s->o->workers ? s->o->workers : 1));
}

static bool sample(struct sampler *s, struct cql_session *session, const struct cql_ranges *ranges,
                   struct err *err)
{
    int64_t until_us = clock_mono_us(s->o->clock) + (int64_t)ESTIMATE_MS * 1000;
    size_t i;

    s->e->whole = true;
    for (i = 0; i < ranges->count; i++) {
        bool enough = s->e->rows_read >= SAMPLE_ROWS && s->e->sample_count == ESTIMATE_SAMPLES;
        if (enough || clock_mono_us(s->o->clock) > until_us)
            break;
        if (!take_range(s, session, &ranges->list[i], err))
            return false;
    }
    conclude(s, ranges->count - i);
    return true;
}

bool estimate_make(const struct estimate_options *o, struct estimate *out, struct err *err)
{
    struct sampler s = {.o = o, .e = out};
    struct token_range ring = {.start = INT64_MIN, .end = INT64_MAX, .node = -1};
    struct cql_ranges ranges = {0};

    *out = (struct estimate){.ms = -1};
    AUTO(cql_session) struct cql_session *session = cql_session_open(o->cluster, err);
    if (!session)
        return false;
    scan_plan_select(&s.scan, plan_schema(o->plan), plan_selects(o->plan),
                     plan_column_count(o->plan), o->where);
    fetch_init(&s.fetch, o->plan, o->cluster, DOCUMENT_MAX_BYTES);
    buf_init(&s.id, DOCUMENT_MAX_BYTES);
    buf_init(&s.document, DOCUMENT_MAX_BYTES);
    bool ok = scan_plan_ask(&s.scan, session, err) &&
              cql_ranges_plan(o->cluster, plan_schema(o->plan), &ring, 1, RANGE_BYTES, RANGES,
                              &ranges, err);
    if (ok) {
        out->statement = xstrdup(s.scan.text);
        out->partitions = ranges.estimated_rows;
        ok = sample(&s, session, &ranges, err);
    }
    cql_ranges_fini(&ranges);
    scan_plan_fini(&s.scan);
    fetch_fini(&s.fetch);
    buf_fini(&s.id);
    buf_fini(&s.document);
    free(s.cells);
    return ok;
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
