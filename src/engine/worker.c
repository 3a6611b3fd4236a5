#include "engine/worker.h"

#include <string.h>

#include "base/log.h"

struct reading {
    struct worker *w;
    struct cql_session *session;
    struct retry retry;
    uint32_t row_bytes; /* seen in the last range; 0: nothing seen */
    uint32_t most_rows; /* likewise */
    unsigned splits;    /* of the task at hand */
    bool taking;        /* what failed was the owner's part */
};

/* One partition in the way takes at most 64 cuts to be alone; a server that refuses everything is
 * not asked for ever. */
enum { MAX_SPLITS = 200, STATE_MAX_BYTES = 1 << 20 };

static uint32_t first_page_rows(const struct reading *r)
{
    uint64_t row_bytes = r->row_bytes;

    if (!row_bytes && r->w->first_rows)
        return r->w->first_rows;
    if (!row_bytes)
        row_bytes = tasks_mean_partition_bytes(r->w->tasks);
    return row_bytes ? (uint32_t)(r->w->page_bytes / row_bytes + 1) : 0;
}

/* The next page, or the first after opening. False with ERR_NONE at the end of the range. */
static bool next_page(struct reading *r, struct scan **scan, const struct scan_task *task,
                      struct scan_page *page, struct err *err)
{
    if (!*scan)
        *scan = scan_open(r->session, r->w->plan, task, r->w->page_bytes, first_page_rows(r),
                          r->most_rows, err);
    return *scan && scan_next(*scan, page, err);
}

/* Waits before another try of what failed; false when that is of no use. */
static bool try_again(struct reading *r, struct err *err)
{
    if (err->kind != ERR_RETRY)
        return false;
    if (!r->taking || !r->w->is_told || !r->w->is_told(r->w->ctx))
        LOG(LOG_WARN, r->taking ? "page_retry" : "scan_retry", F_STR("error", err->text),
            F_INT("tries", r->retry.tries + 1));
    crew_note(r->w->crew, r->taking ? "waiting for the index" : "waiting for Cassandra");
    int64_t asked_ms = r->taking && r->w->asked_ms ? r->w->asked_ms(r->w->ctx) : 0;
    if (!r->taking && r->w->read_trouble)
        r->w->read_trouble(r->w->ctx);
    if (!retry_wait(&r->retry, asked_ms, err))
        return false;
    crew_note(r->w->crew, "");
    return true;
}

/* How far a range was read: what a page settled. */
struct reached {
    struct scan_task task; /* goes on here */
    struct buf state;      /* the task's, kept */
    bool inside;           /* rows of the partition behind done_to were handed on, too */
    bool whole;            /* all of them */
};

static void reach(struct reached *at, const struct scan_page *page)
{
    at->task.done_to = page->done_to;
    at->inside = page->inside;
    at->whole = false;
    at->task.state = SLICE_NULL;
    if (!page->inside)
        return;
    buf_reset(&at->state);
    buf_add_slice(&at->state, page->state);
    at->task.state = buf_slice(&at->state);
}

/* A page that the owner gave back is read again, and so with a new time of reading: the scan begins
 * anew behind the last page that was settled. */
static bool read_again(struct reading *r, struct scan **scan, struct err *err)
{
    if (*scan)
        scan_free(TAKE(*scan));
    r->taking = true;
    bool ok = try_again(r, err);
    r->taking = false;
    return ok;
}

static bool has_enough(const struct reading *r)
{
    return r->w->quota && quota_ended(r->w->quota);
}

static bool read_pages(struct reading *r, struct reached *at, struct err *err)
{
    AUTO(scan) struct scan *scan = NULL;
    struct scan_page page;

    while (!crew_stopped(r->w->crew)) {
        if (next_page(r, &scan, &at->task, &page, err)) {
            r->row_bytes = scan_row_bytes(scan);
            r->most_rows = scan_most_rows(scan);
            if (r->w->take_page(r->w->ctx, &at->task, &page, err)) {
                retry_ok(&r->retry);
                reach(at, &page);
                if (page.last || has_enough(r))
                    return true;
            } else if (!read_again(r, &scan, err)) {
                return false;
            }
        } else if (err->kind == ERR_NONE) {
            return true;
        } else if (!try_again(r, err)) {
            at->whole = err->kind == ERR_REJECT && scan && scan_ended_whole(scan);
            return false;
        }
    }
    return err_set(err, ERR_CANCEL, "stopped on request");
}

/* What the server refuses to read as a whole (READ_FAILURE) is read in halves, so that only the
 * part in the way is lost. */
static bool read_range(struct reading *r, const struct scan_task *task, struct err *err)
{
    struct reached at = {.task = *task, .inside = task->state.p != NULL};
    char why[sizeof err->text];

    buf_init(&at.state, STATE_MAX_BYTES);
    bool ok = read_pages(r, &at, err);
    buf_fini(&at.state);
    if (ok || err->kind != ERR_REJECT)
        return ok;
    struct token_range rest = task->range;
    rest.start = at.task.done_to;
    memcpy(why, err->text, sizeof why);
    err_clear(err);
    if (!r->w->range_cut(r->w->ctx, task, rest.start, at.inside, at.whole ? NULL : why, err))
        return false;
    if (at.inside && ++rest.start == rest.end)
        return true;
    if (rest.end - 1 <= rest.start || r->splits++ >= MAX_SPLITS)
        return r->w->range_failed(r->w->ctx, &rest, why, err);
    LOG(LOG_WARN, "range_split", F_STR("error", why), F_INT("start", rest.start),
        F_INT("end", rest.end));
    struct scan_task left = {.range = rest, .done_to = rest.start};
    struct scan_task right = left;
    left.range.end = right.range.start = right.done_to =
        (int64_t)((uint64_t)rest.start + ((uint64_t)rest.end - (uint64_t)rest.start) / 2);
    return read_range(r, &left, err) && read_range(r, &right, err);
}

static bool read_tasks(struct reading *r, struct err *err)
{
    struct scan_task task;
    int32_t node = -1;

    while (!has_enough(r) && tasks_next(r->w->tasks, &node, &task)) {
        r->splits = 0;
        if (read_range(r, &task, err))
            continue;
        return err->kind != ERR_CANCEL &&
               err_wrap(err, "%s.%s: range %lld..%lld", r->w->plan->schema->keyspace,
                        r->w->plan->schema->table, (long long)task.range.start,
                        (long long)task.range.end);
    }
    return true;
}

bool worker_run(struct worker *w, struct err *err)
{
    struct reading r = {.w = w};

    retry_init(&r.retry, w->clock, w->crew->cancel, w->retry_budget_ms);
    r.session = cql_session_open(w->cluster, err);
    if (!r.session)
        return false;
    bool ok = read_tasks(&r, err);
    cql_session_free(r.session);
    return ok;
}
