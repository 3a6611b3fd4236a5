#include "engine/job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/blocks.h"
#include "engine/crew.h"
#include "engine/retry.h"
#include "engine/tasks.h"
#include "engine/worker.h"
#include "mapping/json.h"
#include "model/value.h"

enum {
    SCAN_PAGE_BYTES =
        256 << 10, /* ids are small: the knee of the server's curve is at some thousands of rows */
    SCAN_FIRST_ROWS = 1000,
    SCAN_RANGE_BYTES = 64 << 20,
    FILE_BATCH_IDS = 2000,
    FILE_BATCH_BYTES = 256 << 10,
    WAITING_BYTES = 256 << 10,
    ID_MAX_BYTES = 64 << 10,
    WRAP_BYTES = 256, /* of the object around a block's ids */
};

#define FILE_AXIS "file"

struct job {
    struct job_options o;
    struct blocks *blocks;
    struct scan_plan plan;

    unsigned sender_count;
    struct crew crew;     /* the feeder and the senders */
    struct crew scanners; /* made by the feeder */

    pthread_mutex_t lock; /* of what follows */
    struct tasks *tasks;
    bool ids_known;          /* all ids are packed: the total is exact */
    int64_t paused_ms;       /* over all senders, pauses that ended */
    int64_t pause_starts_ms; /* of pauses that go on, summed */
    unsigned pausing;

    atomic_bool told_to_stop; /* by the server */
    atomic_uint_fast64_t done;
    atomic_uint_fast64_t failed;
    atomic_uint_fast64_t calls;
    atomic_uint_fast64_t ids; /* read by this process, duplicates included */
    uint64_t before;          /* ids with a verdict, by earlier processes */
    uint64_t ids_before;      /* read by them */
    char *csv_part;           /* csv_path while it is being written */
    int csv_fd;
};

/* ---- ids --------------------------------------------------------------------------------------
 */

/* The ids of one page or batch: their texts in a row, and where each ends. */
struct id_batch {
    struct buf text;
    size_t *ends;
    size_t count;
    size_t cap;
    struct slice *slices;
    struct buf part;
    struct buf csv;
};

static void batch_init(struct id_batch *b)
{
    *b = (struct id_batch){0};
    buf_init(&b->text, 64 << 20);
    buf_init(&b->part, ID_MAX_BYTES);
    buf_init(&b->csv, ID_MAX_BYTES);
}

static void batch_fini(struct id_batch *b)
{
    buf_fini(&b->text);
    buf_fini(&b->part);
    buf_fini(&b->csv);
    free(b->ends);
    free(b->slices);
}

static void batch_end_id(struct id_batch *b)
{
    if (b->count == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 256;
        b->ends = xrealloc(b->ends, b->cap * sizeof *b->ends);
        b->slices = xrealloc(b->slices, b->cap * sizeof *b->slices);
    }
    b->ends[b->count++] = b->text.len;
}

static const struct slice *batch_slices(struct id_batch *b)
{
    size_t start = 0;

    for (size_t i = 0; i < b->count; i++) {
        b->slices[i] = slice_of(b->text.p + start, b->ends[i] - start);
        start = b->ends[i];
    }
    return b->slices;
}

static void batch_reset(struct id_batch *b)
{
    buf_reset(&b->text);
    b->count = 0;
}

/* Several columns as one string: the line that syncIds.csv would have. */
static void add_csv_field(struct buf *b, struct slice s)
{
    bool quote = s.n == 0;

    for (size_t i = 0; i < s.n && !quote; i++)
        quote = s.p[i] == ',' || s.p[i] == '"' || s.p[i] == '\n' || s.p[i] == '\r' ||
                ((i == 0 || i + 1 == s.n) && (s.p[i] == ' ' || s.p[i] == '\t')) ||
                (i == 0 && s.p[i] == '{');
    if (!quote) {
        buf_add_slice(b, s);
        return;
    }
    buf_add_byte(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"')
            buf_add_byte(b, '"');
        buf_add_byte(b, s.p[i]);
    }
    buf_add_byte(b, '"');
}

/* Adds an id from the texts of its columns, in the form that is sent. */
static void batch_add_parts(struct job *j, struct id_batch *b, const struct slice *parts,
                            size_t count)
{
    if (j->o.form == JOB_OBJECTS) {
        for (size_t i = 0; i < count; i++) {
            buf_add_byte(&b->text, i ? ',' : '{');
            json_add_string(&b->text, slice_str(j->o.field_names[i]));
            buf_add_byte(&b->text, ':');
            json_add_string(&b->text, parts[i]);
        }
        buf_add_byte(&b->text, '}');
    } else if (count == 1) {
        json_add_string(&b->text, parts[0]);
    } else {
        buf_reset(&b->csv);
        for (size_t i = 0; i < count; i++) {
            if (i)
                buf_add_byte(&b->csv, ',');
            add_csv_field(&b->csv, parts[i]);
        }
        json_add_string(&b->text, buf_slice(&b->csv));
    }
    batch_end_id(b);
}

/* ---- from a table -----------------------------------------------------------------------------
 */

struct scanner {
    struct job *job;
    struct id_batch batch;
    struct tx *tx;
    struct slice *cells;
    struct slice *parts;
    struct buf last; /* the id that ended the page before */
};

static bool row_wanted(struct scanner *s, bool *wanted, struct err *err)
{
    struct job *j = s->job;

    *wanted = true;
    if (j->o.wanted_column < 0)
        return true;
    for (uint16_t i = 0; i < j->plan.column_count; i++) {
        if (j->plan.columns[i] == j->o.wanted_column) {
            *wanted = s->cells[i].p != NULL;
            return !*wanted || idset_see(j->o.wanted, s->cells[i], wanted, err);
        }
    }
    ensure(false && "the wanted column is among those read");
    return false;
}

/* The row's id: texts of its columns. A row without one of them (null) has no id: nothing is sent
 * for it. */
static bool add_row_id(struct scanner *s, struct err *err)
{
    struct job *j = s->job;
    struct id_batch *b = &s->batch;
    size_t ends[IDS_KEY_MAX];

    buf_reset(&b->part);
    for (uint16_t i = 0; i < j->o.field_count; i++) {
        if (value_is_null(j->o.schema->columns[j->o.columns[i]].type, s->cells[i]))
            return true;
        if (!json_cell_text(&b->part, j->o.schema->columns[j->o.columns[i]].type, s->cells[i], err))
            return err_wrap(err, "column %s", j->o.schema->columns[j->o.columns[i]].name);
        ends[i] = b->part.len;
    }
    for (uint16_t i = 0; i < j->o.field_count; i++) {
        size_t start = i ? ends[i - 1] : 0;
        s->parts[i] = slice_of(b->part.p + start, ends[i] - start);
    }
    batch_add_parts(j, b, s->parts, j->o.field_count);
    return true;
}

/* A partition that goes on over several pages repeats its id, and the ids of other workers' pages
 * lie between: what blocks_add() knows of the id before does not help. */
static const struct slice *drop_repeated(struct scanner *s, size_t *count)
{
    const struct slice *ids = batch_slices(&s->batch);
    size_t n = 0;

    while (n < s->batch.count && slice_eq(ids[n], buf_slice(&s->last)))
        n++;
    tx_count(s->tx, "ids", (int64_t)n);
    tx_count(s->tx, "duplicate", (int64_t)n);
    *count = s->batch.count - n;
    if (*count) {
        buf_reset(&s->last);
        buf_add_slice(&s->last, ids[s->batch.count - 1]);
    }
    return n ? ids + n : ids; /* an empty page has none */
}

static bool take_page(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err)
{
    struct scanner *s = ctx;
    struct job *j = s->job;
    struct row_cursor rows = page_rows(&page->page);

    batch_reset(&s->batch);
    while (row_next(&rows, s->cells, err)) {
        bool wanted;

        if (!row_wanted(s, &wanted, err))
            return false;
        if (!wanted || add_row_id(s, err))
            continue;
        if (err->kind != ERR_REJECT)
            return false;
        tx_failure(s->tx, slice_str("?"), "bad_value", err->text);
        tx_count(s->tx, "ids", 1);
        tx_count(s->tx, "bad", 1);
        err_clear(err);
    }
    if (err->kind != ERR_NONE)
        return false;
    /* What was seen is safe before the page counts as read. */
    if (j->o.wanted && !idset_flush(j->o.wanted, err))
        return false;
    tasks_mark(s->tx, task, page);
    atomic_fetch_add(&j->ids, s->batch.count);
    size_t count;
    const struct slice *ids = drop_repeated(s, &count);
    return blocks_add(j->blocks, ids, count, s->tx, err);
}

static bool range_cut(void *ctx, const struct scan_task *task, int64_t done_to, bool inside,
                      const char *why, struct err *err)
{
    return tasks_cut(((struct scanner *)ctx)->tx, task, done_to, inside, why, err);
}

static bool range_failed(void *ctx, const struct token_range *range, const char *why,
                         struct err *err)
{
    return tasks_note_unread(((struct scanner *)ctx)->tx, range, why, err);
}

static bool scan_table(void *ctx, struct err *err)
{
    struct job *j = ctx;
    struct scanner s = {.job = j};
    struct worker w = {
        .crew = &j->scanners,
        .cluster = j->o.cluster,
        .plan = &j->plan,
        .tasks = j->tasks,
        .clock = j->o.clock,
        .retry_budget_ms = j->o.retry_budget_ms,
        .page_bytes = SCAN_PAGE_BYTES,
        .first_rows = SCAN_FIRST_ROWS,
        .take_page = take_page,
        .range_cut = range_cut,
        .range_failed = range_failed,
        .ctx = &s,
    };

    batch_init(&s.batch);
    buf_init(&s.last, IDS_KEY_MAX * ID_MAX_BYTES);
    s.tx = tx_new(j->o.run);
    s.cells = xalloc(j->plan.column_count * sizeof *s.cells);
    s.parts = xalloc(j->o.field_count * sizeof *s.parts);
    bool ok = worker_run(&w, err);
    tx_free(s.tx);
    free(s.cells);
    free(s.parts);
    buf_fini(&s.last);
    batch_fini(&s.batch);
    return ok;
}

static bool feed_from_table(struct job *j, struct err *err)
{
    uint16_t columns[IDS_KEY_MAX + 1];

    memcpy(columns, j->o.columns, j->o.field_count * sizeof *columns);
    uint16_t count = j->o.field_count;
    if (j->o.wanted_column >= 0)
        columns[count++] = (uint16_t)j->o.wanted_column;
    scan_plan_init(&j->plan, j->o.schema, columns, count);
    struct tasks *tasks = tasks_plan(j->o.cluster, j->o.schema, j->o.run, SCAN_RANGE_BYTES,
                                     4 * (size_t)j->o.scan_workers, err);
    if (!tasks)
        return false;
    pthread_mutex_lock(&j->lock);
    j->tasks = tasks;
    pthread_mutex_unlock(&j->lock);
    for (unsigned i = 0; i < j->o.scan_workers; i++)
        crew_add(&j->scanners, scan_table, j);
    return crew_join(&j->scanners, err);
}

/* ---- from a file ------------------------------------------------------------------------------
 */

struct file_feed {
    struct job *job;
    struct id_batch batch;
    struct tx *tx;
    uint64_t from; /* offset up to which everything is safe */
    uint64_t end;
    size_t bad;
};

/* Does every part fit the type of its column. */
static bool parts_fit(struct job *j, const struct id_item *item, struct buf *cell, struct err *err)
{
    for (size_t i = 0;
         j->o.key_types && !(item->json.p && j->o.keep_objects) && i < item->part_count; i++) {
        buf_reset(cell);
        if (!value_from_text(j->o.key_types[i], item->parts[i], cell, err))
            return err_wrap(err, "line %llu", (unsigned long long)item->line);
    }
    return true;
}

static void note_bad(struct file_feed *f, const struct id_item *item, struct err *err,
                     const char *counts)
{
    struct slice key = item->raw.p ? item->raw : item->part_count ? item->parts[0] : slice_str("");

    LOG(LOG_DEBUG, "bad_id", F_STR("error", err->text));
    tx_failure(f->tx, key, "bad_id", err->text);
    AUTO_STR char *bad = xsprintf("%sbad", counts);
    tx_count(f->tx, bad, 1);
    f->bad++;
    err_clear(err);
}

static bool commit_file_batch(struct file_feed *f, struct err *err)
{
    struct job *j = f->job;

    if (f->end == f->from)
        return true;
    tx_mark(f->tx, FILE_AXIS, (int64_t)f->from, (int64_t)f->end);
    tx_count(f->tx, "ids", (int64_t)f->bad);
    atomic_fetch_add(&j->ids, f->batch.count + f->bad);
    if (!blocks_add(j->blocks, batch_slices(&f->batch), f->batch.count, f->tx, err))
        return false;
    f->from = f->end;
    f->bad = 0;
    batch_reset(&f->batch);
    return true;
}

static bool seek_to_mark(struct file_feed *f, struct err *err)
{
    struct interval_set done = {0};

    if (!run_marks(f->job->o.run, FILE_AXIS, &done, err))
        return false;
    f->from = done.count ? (uint64_t)done.list[done.count - 1].end : 0;
    interval_set_fini(&done);
    f->end = f->from;
    return !f->from || ids_seek(f->job->o.ids, f->from, err);
}

static bool read_file(struct file_feed *f, struct err *err)
{
    struct job *j = f->job;
    struct id_item item;

    if (!seek_to_mark(f, err))
        return false;
    for (;;) {
        bool got = ids_next(j->o.ids, &item, err);

        if (!got && err->kind == ERR_NONE)
            return commit_file_batch(f, err);
        if (got && parts_fit(j, &item, &f->batch.part, err)) {
            if (item.json.p && j->o.keep_objects) {
                buf_add_slice(&f->batch.text, item.json);
                batch_end_id(&f->batch);
            } else {
                batch_add_parts(j, &f->batch, item.parts, item.part_count);
            }
        } else if (err->kind == ERR_REJECT) {
            note_bad(f, &item, err, "");
        } else {
            return false;
        }
        f->end = item.end;
        if (f->batch.count + f->bad >= FILE_BATCH_IDS || f->batch.text.len >= FILE_BATCH_BYTES) {
            if (!commit_file_batch(f, err))
                return false;
        }
        if (crew_stopped(&j->crew))
            return err_set(err, ERR_CANCEL, "stopped on request");
    }
}

/* The ids of another column: into the set that the scan looks things up in. */
static bool fill_wanted(struct file_feed *f, struct err *err)
{
    struct job *j = f->job;
    struct id_item item;
    uint64_t given = 0;
    uint64_t duplicate = 0;

    for (;;) {
        bool got = ids_next(j->o.ids, &item, err);
        bool added = false;

        if (!got && err->kind == ERR_NONE)
            break;
        given++;
        if (got && parts_fit(j, &item, &f->batch.part, err)) {
            if (!idset_add(j->o.wanted, buf_slice(&f->batch.part), item.parts[0], &added, err))
                return false;
            duplicate += !added;
        } else if (err->kind == ERR_REJECT) {
            note_bad(f, &item, err, "given_");
        } else {
            return false;
        }
        if (crew_stopped(&j->crew))
            return err_set(err, ERR_CANCEL, "stopped on request");
    }
    if (!idset_complete(j->o.wanted, err))
        return false;
    tx_count(f->tx, "given", (int64_t)given);
    tx_count(f->tx, "given_duplicate", (int64_t)duplicate);
    tx_note(f->tx, "wanted", "complete");
    return journal_commit(f->tx, err);
}

static bool feed_from_file(struct job *j, struct err *err)
{
    struct file_feed f = {.job = j};

    batch_init(&f.batch);
    f.tx = tx_new(j->o.run);
    bool ok = j->o.wanted ? fill_wanted(&f, err) : read_file(&f, err);
    tx_free(f.tx);
    batch_fini(&f.batch);
    return ok;
}

/* ---- what the scan did not find ---------------------------------------------------------------
 */

struct missing_report {
    struct job *job;
    struct tx *tx;
    int64_t row;
    uint64_t count;
};

enum { MISSING_BATCH = 1000 };

static bool add_missing(void *ctx, int64_t row, struct slice text)
{
    struct missing_report *m = ctx;

    tx_failure(m->tx, text, "missing", "no row of the table has this value");
    m->row = row;
    return ++m->count < MISSING_BATCH;
}

static bool report_missing(struct job *j, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(j->o.run);
    struct missing_report m = {.job = j, .tx = tx};
    AUTO_STR char *after = NULL;
    uint64_t found = 0;

    if (!run_note(j->o.run, "missing_after", &after, err))
        return false;
    if (after && strcmp(after, "all") == 0)
        return true;
    if (after)
        text_to_i64(slice_str(after), 0, INT64_MAX, &m.row);
    do {
        char row[24];

        m.count = 0;
        if (!idset_each_unseen(j->o.wanted, m.row, add_missing, &m, err))
            return false;
        snprintf(row, sizeof row, "%lld", (long long)m.row);
        tx_note(tx, "missing_after", m.count < MISSING_BATCH ? "all" : row);
        tx_count(tx, "given_missing", (int64_t)m.count);
        if (m.count < MISSING_BATCH) {
            if (!idset_seen(j->o.wanted, &found, err))
                return false;
            tx_count(tx, "found", (int64_t)found);
        }
        if (!journal_commit(tx, err))
            return false;
    } while (m.count == MISSING_BATCH);
    return true;
}

static bool feed(struct job *j, struct err *err)
{
    /* What was packed before goes first: those ids waited longest. */
    if (!blocks_reload(j->blocks, err))
        return false;
    if (j->o.ids && !(j->o.wanted && j->o.wanted_complete) && !feed_from_file(j, err))
        return false;
    if (j->o.schema && (!j->o.ids || j->o.wanted)) {
        if (!feed_from_table(j, err))
            return false;
        if (crew_stopped(&j->crew))
            return err_set(err, ERR_CANCEL, "stopped on request");
        if (j->o.wanted && !report_missing(j, err))
            return false;
    }
    return blocks_finish(j->blocks, err);
}

static bool feed_work(void *ctx, struct err *err)
{
    struct job *j = ctx;
    bool ok = feed(j, err);

    pthread_mutex_lock(&j->lock);
    j->ids_known = ok;
    pthread_mutex_unlock(&j->lock);
    return ok;
}

/* ---- to the Sync API --------------------------------------------------------------------------
 */

struct sender {
    struct job *job;
    struct syncapi *api;
    struct retry retry;
    struct tx *tx;
    struct slice *ids;
    size_t cap;
    struct buf object; /* of JOB_OBJECT_PER_BLOCK */
    bool called;       /* a call was made: the pause counts from its end */
    int64_t ended_ms;
};

/* The block's ids as they are sent; object-per-block makes one of them. */
static struct syncapi_block block_ids(struct sender *s, const struct block *block)
{
    struct slice rest = block->body;
    size_t count = 0;

    if (s->cap < block->ids) {
        s->cap = block->ids;
        s->ids = xrealloc(s->ids, s->cap * sizeof *s->ids);
    }
    if (s->job->o.form == JOB_OBJECT_PER_BLOCK) {
        buf_reset(&s->object);
        buf_add_byte(&s->object, '{');
        json_add_string(&s->object, slice_str(s->job->o.field_names[0]));
        buf_add_str(&s->object, ":[");
        buf_add_slice(&s->object, block->body);
        buf_add_str(&s->object, "]}");
        ensure(!s->object.full && "a block is cut to fit");
        s->ids[count++] = buf_slice(&s->object);
    } else if (!s->job->o.api->await) {
        s->ids[count++] = block->body; /* nobody asks for a single one: as they are, with commas */
    } else {
        while (count < block->ids && block_next_id(&rest, &s->ids[count]))
            count++;
    }
    return (struct syncapi_block){s->ids, count};
}

/* A pause counts from its start, so that the estimate of the end stands still in it. */
static void count_pause(struct job *j, int64_t start_ms, bool ended)
{
    pthread_mutex_lock(&j->lock);
    j->pausing += ended ? -1U : 1U;
    j->pause_starts_ms += ended ? -start_ms : start_ms;
    if (ended)
        j->paused_ms += clock_mono_ms(j->o.clock) - start_ms;
    pthread_mutex_unlock(&j->lock);
}

/* The promise to the server: this long between the end of a call and the start of the next. */
static bool keep_pause(struct sender *s, struct err *err)
{
    struct job *j = s->job;
    int64_t now_ms = clock_mono_ms(j->o.clock);
    int64_t left = s->called ? s->ended_ms + j->o.pause_ms - now_ms : 0;

    if (left <= 0)
        return true;
    count_pause(j, now_ms, false);
    bool ok = retry_pause(j->o.clock, j->o.cancel, left, err);
    count_pause(j, now_ms, true);
    return ok;
}

/* Sends until there is a verdict that ends the block or the job. False: the block stays for the
 * next run. */
static bool send_block(struct sender *s, const struct syncapi_block *ids, struct syncapi_verdict *v,
                       struct err *err)
{
    struct job *j = s->job;
    bool await = j->o.api->await;

    for (;;) {
        if (!keep_pause(s, err))
            return false;
        syncapi_send(s->api, ids, await, v);
        s->called = true;
        s->ended_ms = clock_mono_ms(j->o.clock);
        atomic_fetch_add(&j->calls, 1);
        switch (v->outcome) {
        case SYNC_RETRY:
            break;
        case SYNC_UNKNOWN:
            await = false;
            continue;
        case SYNC_CANCELLED:
            return err_set(err, ERR_CANCEL, "stopped on request");
        default:
            retry_ok(&s->retry);
            return true;
        }
        err_set(err, ERR_RETRY, "%s", v->text);
        LOG(LOG_WARN, "call_retry", F_STR("reason", v->reason), F_INT("status", v->status),
            F_INT("tries", s->retry.tries + 1), F_STR("error", v->text));
        AUTO_STR char *note = xsprintf("waiting for the Sync API: %s", v->reason);
        crew_note(&j->crew, note);
        if (!retry_wait(&s->retry, v->retry_after_ms, err))
            return false;
        crew_note(&j->crew, "");
    }
}

static void add_failed_ids(struct sender *s, const struct block *block,
                           const struct syncapi_verdict *v)
{
    struct slice rest = block->body;
    struct slice id;

    /* Under object-per-block the one object speaks for all ids of the block. */
    for (size_t i = 0; block_next_id(&rest, &id); i++) {
        if (!v->id_ok || !v->id_ok[s->job->o.form == JOB_OBJECT_PER_BLOCK ? 0 : i])
            tx_failure(s->tx, id, v->reason, v->text);
    }
}

static bool save_verdict(struct sender *s, const struct block *block,
                         const struct syncapi_verdict *v, struct err *err)
{
    struct job *j = s->job;
    bool awaited = v->outcome == SYNC_CONFIRMED || v->outcome == SYNC_PARTLY;
    uint64_t confirmed = !awaited                            ? 0
                         : j->o.form == JOB_OBJECT_PER_BLOCK ? (v->confirmed ? block->ids : 0)
                                                             : v->confirmed;
    uint64_t accepted = v->outcome == SYNC_ACCEPTED ? block->ids : 0;
    uint64_t failed = block->ids - confirmed - accepted;

    if (!joblog_add(j->o.log, failed == 0, syncapi_last_body(s->api), v->answer, v->text, NULL,
                    err))
        return false;
    if (failed)
        add_failed_ids(s, block, v);
    tx_block_end(s->tx, block->no);
    tx_count(s->tx, "accepted", (int64_t)accepted);
    tx_count(s->tx, "confirmed", (int64_t)confirmed);
    tx_count(s->tx, "failed", (int64_t)failed);
    tx_count(s->tx, "blocks", 1);
    if (v->no_await)
        tx_note(s->tx, "no_await", "yes");
    if (!journal_commit(s->tx, err))
        return false;
    atomic_fetch_add(&j->done, block->ids);
    atomic_fetch_add(&j->failed, failed);
    return true;
}

static bool handle_block(struct sender *s, const struct block *block, struct err *err)
{
    struct syncapi_block ids = block_ids(s, block);
    struct syncapi_verdict v;

    if (!send_block(s, &ids, &v, err)) {
        struct err log_err;
        /* The block is not lost: the same command sends it. The log says why it stopped here. */
        if (err->kind == ERR_REACH)
            joblog_add(s->job->o.log, false, syncapi_last_body(s->api), v.answer, v.text, NULL,
                       &log_err);
        return false;
    }
    if (v.outcome != SYNC_STOP)
        return save_verdict(s, block, &v, err);
    /* Several calls may be in flight: the first to be told to stop writes the one entry. */
    if (!atomic_exchange(&s->job->told_to_stop, true) &&
        !joblog_add(s->job->o.log, false, syncapi_last_body(s->api), v.answer, v.text, NULL, err))
        return false;
    return err_set(err, ERR_REACH, "%s", v.text);
}

static bool send_work(void *ctx, struct err *err)
{
    struct job *j = ctx;
    struct sender s = {.job = j};

    retry_init(&s.retry, j->o.clock, j->o.cancel, j->o.retry_budget_ms);
    s.tx = tx_new(j->o.run);
    buf_init(&s.object, j->o.max_body_bytes + WRAP_BYTES);
    s.api = syncapi_new(j->o.api, err);
    bool ok = s.api != NULL;
    while (ok) {
        AUTO(block) struct block *block = blocks_take(j->blocks);

        if (!block)
            break;
        ok = handle_block(&s, block, err);
    }
    if (s.api)
        syncapi_free(s.api);
    tx_free(s.tx);
    buf_fini(&s.object);
    free(s.ids);
    return ok;
}

/* ---- to syncIds.csv ---------------------------------------------------------------------------
 */

/* A line per id that reads back: the columns of a key, or the object as it came. */
static bool add_csv_line(struct job *j, struct buf *out, struct arena *mem, struct slice id,
                         struct err *err)
{
    const struct json *v = json_parse(id, mem, err);

    if (!v)
        return false;
    if (v->kind == JSON_STRING && j->o.form == JOB_STRINGS && j->o.field_count > 1) {
        buf_add_slice(out, v->text); /* made of CSV fields already */
    } else if (v->kind == JSON_STRING) {
        add_csv_field(out, v->text);
    } else {
        uint32_t i = 0;
        bool ours = j->o.form == JOB_OBJECTS && v->count == j->o.field_count;

        json_each (member, v)
            ours =
                ours && member->kind == JSON_STRING && slice_is(member->key, j->o.field_names[i++]);
        if (!ours)
            buf_add_slice(out, id);
        json_each (member, v) {
            if (ours && member != v->first)
                buf_add_byte(out, ',');
            if (ours)
                add_csv_field(out, member->text);
        }
    }
    buf_add_byte(out, '\n');
    return true;
}

static bool write_all(struct job *j, struct slice s, struct err *err)
{
    while (s.n) {
        ssize_t n = write(j->csv_fd, s.p, s.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "%s: %s", j->csv_part, strerror(errno));
        s.p += n;
        s.n -= (size_t)n;
    }
    return true;
}

static bool write_csv_block(struct job *j, const struct block *block, struct buf *out,
                            struct arena *mem, struct tx *tx, struct err *err)
{
    struct slice rest = block->body;
    struct slice id;

    buf_reset(out);
    while (block_next_id(&rest, &id)) {
        arena_reset(mem);
        if (!add_csv_line(j, out, mem, id, err))
            return false;
    }
    if (!write_all(j, buf_slice(out), err))
        return false;
    tx_block_end(tx, block->no);
    tx_count(tx, "accepted", block->ids); /* of a dry run: would be sent */
    tx_count(tx, "blocks", 1);
    if (!journal_commit(tx, err))
        return false;
    atomic_fetch_add(&j->done, block->ids);
    return true;
}

static bool csv_work(void *ctx, struct err *err)
{
    struct job *j = ctx;
    struct tx *tx = tx_new(j->o.run);
    struct arena mem;
    struct buf out;
    bool ok = true;

    arena_init(&mem, 8 << 20);
    buf_init(&out, 4 * j->o.max_body_bytes + WRAP_BYTES);
    while (ok) {
        AUTO(block) struct block *block = blocks_take(j->blocks);

        if (!block)
            break;
        ok = write_csv_block(j, block, &out, &mem, tx, err);
    }
    tx_free(tx);
    buf_fini(&out);
    arena_fini(&mem);
    return ok;
}

/* ---- the whole --------------------------------------------------------------------------------
 */

static bool count_before(struct job *j, struct err *err)
{
    static const char *const names[] = {"accepted", "confirmed", "failed"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t n = 0;

        if (!run_count(j->o.run, names[i], &n, err))
            return false;
        j->before += (uint64_t)n;
        if (i == 2)
            atomic_store(&j->failed, (uint64_t)n);
    }
    int64_t read = 0;
    bool ok = run_count(j->o.run, "ids", &read, err);
    j->ids_before = (uint64_t)read;
    return ok;
}

/* Whoever waits for blocks, on either side, is woken; scan workers look at their crew. */
static void stop_all(void *ctx)
{
    struct job *j = ctx;

    blocks_stop(j->blocks);
    atomic_store(&j->scanners.stop, true);
}

static bool csv_err(const char *path, struct err *err)
{
    return err_set(err, ERR_USER, "%s: %s; the dry run writes the ids there", path,
                   strerror(errno));
}

/* Written beside, put in place when whole: a half list must not be taken for the list, and the old
 * one may be the very id file that is read. */
static bool open_csv(struct job *j, struct err *err)
{
    struct stat st;

    if (stat(j->o.csv_path, &st) == 0 && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return csv_err(j->o.csv_path, err);
    }
    j->csv_part = xsprintf("%s.part", j->o.csv_path);
    j->csv_fd = open(j->csv_part, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (j->csv_fd < 0)
        return csv_err(j->csv_part, err);
    if (flock(j->csv_fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_USER, "%s: another dry run is writing it", j->csv_part);
    return ftruncate(j->csv_fd, 0) == 0 || csv_err(j->csv_part, err);
}

/* With `whole` it becomes syncIds.csv, else it goes. */
static bool close_csv(struct job *j, bool whole, struct err *err)
{
    bool ok = !whole || (fsync(j->csv_fd) == 0 && rename(j->csv_part, j->o.csv_path) == 0) ||
              err_set(err, ERR_SYSTEM, "%s: %s", j->o.csv_path, strerror(errno));

    if (!whole || !ok)
        unlink(j->csv_part);
    close(j->csv_fd);
    j->csv_fd = -1;
    return ok;
}

static void job_free(struct job *j)
{
    if (j->csv_fd >= 0)
        close(j->csv_fd);
    free(j->csv_part);
    free(j);
}

struct job *job_start(const struct job_options *o, struct err *err)
{
    struct job *j = xalloc(sizeof *j);
    size_t frame = syncapi_frame_bytes(o->object_type, true) +
                   (o->form == JOB_OBJECT_PER_BLOCK ? WRAP_BYTES : 0);

    j->o = *o;
    j->csv_fd = -1;
    if (!count_before(j, err) || (!o->api && !open_csv(j, err))) {
        job_free(j);
        return NULL;
    }
    pthread_mutex_init(&j->lock, NULL);
    crew_init(&j->crew, o->cancel, stop_all, j);
    crew_init(&j->scanners, o->cancel, NULL, NULL);
    j->blocks = blocks_new(&(struct blocks_options){
        .run = o->run,
        .cancel = o->cancel,
        .block_ids = o->block_ids,
        .block_bytes = o->max_body_bytes > frame ? o->max_body_bytes - frame : 1,
        .waiting_bytes = WAITING_BYTES,
    });
    j->sender_count = o->api ? o->workers : 1;
    for (unsigned i = 0; i < j->sender_count; i++)
        crew_add(&j->crew, o->api ? send_work : csv_work, j);
    crew_add(&j->crew, feed_work, j);
    return j;
}

bool job_wait(struct job *j, int64_t ms)
{
    return crew_wait(&j->crew, ms);
}

/* Ids that are to get a verdict; 0: unknown. Duplicates and bad ones leave it as they are met. */
static uint64_t total_ids(struct job *j)
{
    uint64_t read = j->ids_before + atomic_load(&j->ids);
    uint64_t packed = j->before + blocks_packed(j->blocks);

    if (j->ids_known)
        return packed;
    if (j->o.ids && !j->o.wanted) {
        uint64_t given = ids_file(j->o.ids)->count;

        return packed + (given > read ? given - read : 0);
    }
    uint64_t estimate = j->tasks && j->o.wanted_column < 0 ? tasks_estimated_rows(j->tasks) : 0;
    return estimate > packed ? estimate : 0;
}

void job_progress(struct job *j, struct job_progress *out)
{
    uint64_t done = j->before + atomic_load(&j->done);

    *out =
        (struct job_progress){.done = done, .before = j->before, .failed = atomic_load(&j->failed)};
    pthread_mutex_lock(&j->lock);
    int64_t pausing_ms = j->pausing * clock_mono_ms(j->o.clock) - j->pause_starts_ms;
    out->total = total_ids(j);
    out->paused_ms = (j->paused_ms + pausing_ms) / j->sender_count;
    pthread_mutex_unlock(&j->lock);
    crew_copy_note(&j->crew, out->note);
    if (out->total <= done || !j->o.api)
        return;
    uint64_t calls = (out->total - done + j->o.block_ids - 1) / j->o.block_ids;
    int64_t left_ms = ((int64_t)calls * j->o.pause_ms - pausing_ms) / j->sender_count;
    out->pauses_left_ms = left_ms > 0 ? left_ms : 0;
}

static bool read_counts(struct job *j, struct job_counts *c, struct err *err)
{
    const struct {
        const char *name;
        uint64_t *to;
    } list[] = {
        {"ids", &c->ids},
        {"duplicate", &c->duplicate},
        {"bad", &c->bad},
        {"missing", &c->missing},
        {"accepted", &c->accepted},
        {"confirmed", &c->confirmed},
        {"failed", &c->failed},
        {"given", &c->given},
        {"given_duplicate", &c->given_duplicate},
        {"given_bad", &c->given_bad},
        {"given_missing", &c->given_missing},
        {"found", &c->found},
        {"blocks", &c->blocks},
        {"unread_ranges", &c->unread_ranges},
    };
    AUTO_STR char *no_await = NULL;

    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t n = 0;

        if (!run_count(j->o.run, list[i].name, &n, err))
            return false;
        *list[i].to = (uint64_t)n;
    }
    c->calls = atomic_load(&j->calls);
    if (!run_note(j->o.run, "no_await", &no_await, err))
        return false;
    c->no_await = no_await != NULL;
    return true;
}

bool job_finish(struct job *j, struct job_counts *counts, struct err *err)
{
    struct err count_err = {0};

    *counts = (struct job_counts){0};
    crew_join(&j->crew, err);
    if (!read_counts(j, counts, &count_err) && err->kind == ERR_NONE)
        *err = count_err;
    if (j->csv_fd >= 0)
        close_csv(j, err->kind == ERR_NONE, err);
    if (j->tasks)
        tasks_free(j->tasks);
    scan_plan_fini(&j->plan);
    blocks_free(j->blocks);
    crew_fini(&j->crew);
    crew_fini(&j->scanners);
    pthread_mutex_destroy(&j->lock);
    job_free(j);
    return err->kind == ERR_NONE;
}

bool job_conserved(const struct job_counts *c)
{
    return c->ids == c->duplicate + c->bad + c->missing + c->accepted + c->confirmed + c->failed &&
           c->given == c->given_duplicate + c->given_bad + c->given_missing + c->found;
}
