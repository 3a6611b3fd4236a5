#include "engine/worker.h"

#include <string.h>

#include "base/log.h"

struct reading {
    struct worker *w;
    struct cql_session *session;
    struct retry retry;
    uint32_t row_bytes;    /* mean of the last range that had rows; 0: none had */
    uint64_t last_bytes;   /* mean of the last page that had rows */
    uint32_t most_rows;    /* of a page, seen in the last range; 0: nothing seen */
    unsigned splits;       /* of the task at hand */
    bool taking;           /* what failed was the owner's part */
    bool alone;            /* the page at hand has taken its room */
    struct scan_page page; /* at hand: the scan looks at it as well */
};

/* One partition in the way takes at most 64 cuts to be alone; a server that refuses everything is
 * not asked for ever. */
enum {
    MAX_SPLITS = 200,
    STATE_MAX_BYTES = 1 << 20,
    ROOM_COPIES = 4 /* of a large row: the answer and the body, each of which grows by doubling */
};

static uint32_t first_page_rows(const struct reading *r)
{
    uint64_t row_bytes = r->row_bytes;

    if (!row_bytes && r->w->first_rows)
        return r->w->first_rows;
    if (!row_bytes)
        row_bytes = tasks_mean_partition_bytes(r->w->tasks);
    if (!row_bytes)
        return r->w->room ? 1 : 0;
    return (uint32_t)(r->w->page_bytes / row_bytes + 1);
}

/* The next page, or the first after opening. False with ERR_NONE at the end of the range. */
static bool next_page(struct reading *r, struct scan **scan, const struct scan_task *task,
                      struct scan_page *page, struct err *err)
{
    if (!*scan) {
        *scan = scan_open(r->session, r->w->plan, task, r->w->page_bytes, first_page_rows(r),
                          r->most_rows, err);
        if (!*scan)
            return false;
        scan_set_alone(*scan, r->alone);
    }
    return scan_next(*scan, page, err);
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

enum step {
    STEP_ON,
    STEP_ENDED,  /* the range, or what is wanted */
    STEP_UNREAD, /* why: err */
    STEP_UNTAKEN /* likewise */
};

/* One page, read and handed on. */
static enum step step(struct reading *r, struct scan **scan, struct reached *at, struct err *err)
{
    if (!next_page(r, scan, &at->task, &r->page, err))
        return err->kind == ERR_NONE ? STEP_ENDED : STEP_UNREAD;
    if (r->page.page.row_count) {
        r->row_bytes = scan_row_bytes(*scan);
        r->last_bytes = r->page.page.rows.n / r->page.page.row_count + 1;
    }
    r->most_rows = scan_most_rows(*scan);
    if (!r->w->take_page(r->w->ctx, &at->task, &r->page, err))
        return STEP_UNTAKEN;
    retry_ok(&r->retry);
    reach(at, &r->page);
    return r->page.last || has_enough(r) ? STEP_ENDED : STEP_ON;
}

/* What a row needs, from what was seen; 0: it has room in the worker's share. The first row, when
 * nothing is known, may be as large as can be; where conditions leave few rows it is not waited
 * for. */
static uint64_t row_needs(const struct reading *r)
{
    uint64_t bytes = r->last_bytes;

    if (!bytes) {
        bytes = tasks_mean_partition_bytes(r->w->tasks);
        bool small =
            r->w->plan->pushed_count || (bytes && bytes * ROOM_COPIES <= r->w->share_bytes);
        return small ? 0 : SIZE_MAX;
    }
    bytes *= ROOM_COPIES;
    return bytes > r->w->share_bytes ? bytes : 0;
}

static void trim(struct reading *r, struct scan *scan)
{
    r->w->trim(r->w->ctx);
    if (scan)
        scan_trim(scan);
}

static enum step step_in_room(struct reading *r, struct scan **scan, struct reached *at,
                              struct err *err)
{
    uint64_t needs = r->w->room ? row_needs(r) : 0;
    enum step what = STEP_ENDED;
    size_t room = 0;

    r->alone = needs > 0;
    if (r->alone && !room_take(r->w->room, needs, &room, err))
        return STEP_UNREAD;
    if (*scan)
        scan_set_alone(*scan, r->alone);
    if (crew_stopped(r->w->crew)) /* while it waited for room */
        what = STEP_ON;
    else if (!has_enough(r))
        what = step(r, scan, at, err);
    if (r->w->room && r->last_bytes && row_needs(r))
        trim(r, *scan);
    if (r->alone)
        room_give(r->w->room, room);
    return what;
}

static bool read_pages(struct reading *r, struct reached *at, struct err *err)
{
    AUTO(scan) struct scan *scan = NULL;

    while (!crew_stopped(r->w->crew)) {
        switch (step_in_room(r, &scan, at, err)) {
        case STEP_ON:
            break;
        case STEP_ENDED:
            return true;
        case STEP_UNTAKEN:
            if (!read_again(r, &scan, err))
                return false;
            break;
        case STEP_UNREAD:
            if (try_again(r, err))
                break;
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
