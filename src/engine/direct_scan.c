#include "engine/direct_parts.h"

#include <stdlib.h>

#include "base/log.h"
#include "mapping/json.h"

enum {
    BODY_KEEP_BYTES = 4 << 20, /* a body that had to grow beyond it is given back */
    ID_MAX_BYTES = 4 << 10,
};

/* Rows of the page at hand: where they begin. */
struct row_list {
    size_t *at;
    size_t count, cap;
};

struct scanner {
    struct direct_worker w; /* first: take_page() is given it */
    struct elastic_target target;
    struct elastic_bulk bulk;
    size_t *row_at; /* for each action of the bulk: where its row begins in the page */
    size_t row_cap;
    struct slice *cells;
    struct plan_work work;
    const char *reason; /* why the row at hand has no document */
    struct buf id, routing;
    size_t aim;        /* bytes of a body, as the limit said last */
    int64_t sure_term; /* of this answer's items: the guard has no doubts about it; -1: none yet */

    /* of the page at hand */
    const struct page *page;
    struct scan *scan;      /* that it is from */
    size_t row_begin;       /* of the row at hand */
    uint32_t rows_left;     /* behind it */
    struct row_list again;  /* are to be read again by themselves */
    struct row_list unsure; /* the same, and may have made a document */
    struct row_list check;  /* made a document under another term */

    /* of pages given up: rows that may have made documents */
    struct buf sent_keys; /* as in a page */
    uint32_t sent_count;
    int64_t sent_since_us; /* when the first of them was read */
};

static void push(struct row_list *l, size_t begin)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->at = xrealloc(l->at, l->cap * sizeof *l->at);
    }
    l->at[l->count++] = begin;
}

/* The cells of a row met before. */
static const struct slice *row_again(struct scanner *s, size_t begin)
{
    struct row_cursor at = {.rest = slice_of(s->page->rows.p + begin, s->page->rows.n - begin),
                            .left = 1,
                            .columns = s->page->columns->count};
    struct err err = {0};

    ensure(row_next(&at, s->cells, &err) && "it was read before");
    return s->cells;
}

static void fail_row(struct scanner *s, size_t begin, const char *reason, const char *text)
{
    direct_note_failure(&s->w, row_again(s, begin), reason, text);
    s->w.sum.failed++;
}

/* ---- verdicts ----------------------------------------------------------------------------------
 */

/* The version that this row's document was sent with. */
static int64_t sent_version(struct scanner *s, size_t begin)
{
    const struct plan *p = s->w.direct->o.plan;
    int64_t version = s->page->read_at_us;
    struct err err = {0};

    if (plan_versioning(p) == VERSIONING_WRITE_TIME)
        ensure(plan_write_version(p, row_again(s, begin), &version, &err) && "it was sent");
    return version;
}

static void judge_conflict(struct scanner *s, const struct elastic_item *item, size_t begin)
{
    struct direct *d = s->w.direct;
    char text[200];

    switch (guard_conflict(d->o.guard, item->there, sent_version(s, begin))) {
    case GUARD_EQUAL:
        s->w.sum.unchanged++;
        return;
    case GUARD_STALE:
        s->w.sum.stale++;
        return;
    case GUARD_FOREIGN:
        guard_foreign_text(d->o.guard, item->there, text, sizeof text);
        fail_row(s, begin, "foreign_version", text);
        return;
    }
}

/* Of a document that was made anew. The items of an answer share their term, and T: asked once. */
static bool doubts(struct scanner *s, int64_t term)
{
    if (term == s->sure_term)
        return false;
    if (guard_doubts(s->w.direct->o.guard, s->page->read_at_us, term))
        return true;
    s->sure_term = term;
    return false;
}

static void judge(struct scanner *s, const struct elastic_item *item, size_t begin)
{
    switch ((enum elastic_verdict)item->verdict) {
    case ELASTIC_DONE:
        if (item->created && doubts(s, item->primary_term))
            push(&s->check, begin);
        else
            s->w.sum.indexed++;
        return;
    case ELASTIC_CONFLICT:
        judge_conflict(s, item, begin);
        return;
    case ELASTIC_LATER:
        push(item->status >= 500 ? &s->unsure : &s->again, begin);
        return;
    case ELASTIC_REJECTED:
    case ELASTIC_GONE:
        fail_row(s, begin, item->problem ? item->problem->reason : "rejected",
                 item->problem ? item->problem->text : "refused by Elasticsearch");
        return;
    case ELASTIC_OPEN:
        ensure(false && "an answered bulk has a verdict for every item");
    }
}

/* Sends what was collected. False with ERR_RETRY: nobody knows what became of it, the page is read
 * again. */
static bool send_bulk(struct scanner *s, struct err *err)
{
    struct direct *d = s->w.direct;
    struct elastic_sent sent = {0};

    if (!s->bulk.count)
        return true;
    if (!limit_enter(d->o.limit, s->bulk.count, err))
        return false;
    if (guard_too_old(d->o.guard, s->page->read_at_us)) {
        limit_leave(d->o.limit, LIMIT_FINE, 0);
        return err_set(err, ERR_RETRY, "rows waited too long to be written");
    }
    bool ok = elastic_bulk_send(s->w.elastic, &s->target, &s->bulk, &sent, err);
    limit_leave(d->o.limit, ok && !sent.pushed_back ? LIMIT_FINE : LIMIT_PUSHED_BACK, sent.took_ms);
    if (!ok) {
        s->w.asked_ms = elastic_retry_after_ms(s->w.elastic);
        if (err->kind == ERR_RETRY) {
            pause_look(&d->pause, s->w.elastic);
            guard_refresh(d->o.guard, s->w.elastic);
        }
        return false;
    }
    s->w.sum.bytes += s->bulk.body.len;
    s->sure_term = -1;
    for (size_t i = 0; i < s->bulk.count; i++)
        judge(s, &s->bulk.items[i], s->row_at[i]);
    if (!s->again.count && !s->unsure.count)
        pause_pass(&d->pause, s->w.elastic);
    elastic_bulk_reset(&s->bulk);
    s->aim = limit_body_bytes(d->o.limit);
    return true;
}

/* ---- documents ---------------------------------------------------------------------------------
 */

/* The action and its document, straight into the body. False: the body is full. err: this row has
 * no document. */
static bool add_action(struct scanner *s, const struct elastic_action *a,
                       struct json_counts *altered, struct err *err)
{
    struct direct *d = s->w.direct;

    elastic_bulk_begin(&s->bulk, a);
    if (!plan_make(d->o.plan, s->cells, a->id, NULL, &s->work, &s->bulk.body, altered, err)) {
        bool full = s->bulk.body.full;

        elastic_bulk_cancel(&s->bulk);
        s->reason = s->work.reason;
        if (!full)
            return true;
        err_clear(err);
        return false;
    }
    if (d->o.strict_values && json_counts_sum(altered)) {
        elastic_bulk_cancel(&s->bulk);
        s->reason = "altered_value";
        err_set(err, ERR_REJECT, "a value would be altered (--strict-values)");
        return true;
    }
    return elastic_bulk_end(&s->bulk);
}

static bool describe(struct scanner *s, struct elastic_action *a, const char **reason,
                     struct err *err)
{
    const struct plan *p = s->w.direct->o.plan;

    *a = (struct elastic_action){.op = ELASTIC_INDEX, .condition = ELASTIC_ALWAYS};
    *reason = "bad_document_id";
    buf_reset(&s->id);
    if (!plan_id(p, s->cells, &s->id, err))
        return false;
    a->id = buf_slice(&s->id);
    *reason = "bad_routing";
    if (plan_has_routing(p)) {
        buf_reset(&s->routing);
        if (!plan_routing(p, s->cells, &s->routing, err))
            return false;
        a->routing = buf_slice(&s->routing);
    }
    *reason = "bad_version";
    switch (plan_versioning(p)) {
    case VERSIONING_READ_TIME:
        a->condition = ELASTIC_VERSION_GTE;
        a->version = s->page->read_at_us;
        return true;
    case VERSIONING_WRITE_TIME:
        a->condition = ELASTIC_VERSION;
        return plan_write_version(p, s->cells, &a->version, err);
    case VERSIONING_NONE:
    case VERSIONING_SEQUENCE:
        return true;
    }
    return true;
}

/* A small rest of a page goes along: a request costs both sides more than its bytes. */
static bool is_due(const struct scanner *s)
{
    size_t bytes = s->bulk.body.len;

    return bytes >= s->aim && s->bulk.count && bytes / s->bulk.count * s->rows_left >= s->aim / 2;
}

/* One row to one document. False: the page can't go on. */
static bool add_row(struct scanner *s, struct err *err)
{
    struct json_counts altered = {0};
    struct elastic_action action;
    const char *reason;

    s->w.sum.documents++;
    if (!describe(s, &action, &reason, err)) {
        fail_row(s, s->row_begin, reason, err->text);
        return err_clear(err), true;
    }
    if (!add_action(s, &action, &altered, err)) {
        bool alone = s->bulk.count == 0;

        altered = (struct json_counts){0};
        if (!alone && !send_bulk(s, err))
            return false;
        /* The verdicts may have looked at other rows. */
        row_again(s, s->row_begin);
        s->reason = "bad_value";
        if (alone || !add_action(s, &action, &altered, err))
            err_set(err, ERR_REJECT, "the document is larger than --memory allows for one body");
    }
    if (err->kind != ERR_NONE) {
        fail_row(s, s->row_begin, s->reason, err->text);
        return err_clear(err), true;
    }
    json_counts_add(&s->w.sum.altered, &altered);
    if (s->row_cap < s->bulk.count) {
        s->row_cap = s->row_cap ? s->row_cap * 2 : 1024;
        s->row_at = xrealloc(s->row_at, s->row_cap * sizeof *s->row_at);
    }
    s->row_at[s->bulk.count - 1] = s->row_begin;
    return !is_due(s) || send_bulk(s, err);
}

/* ---- a page ------------------------------------------------------------------------------------
 */

static bool settle_rest(struct scanner *s, struct err *err);

/* The page may have one more document; the row at hand stays so. */
static bool take_one(struct scanner *s, struct err *err)
{
    while (!quota_take(&s->w.direct->quota, &s->w.quota)) {
        if (!send_bulk(s, err) || !settle_rest(s, err) || !direct_more(&s->w, err))
            return false;
        row_again(s, s->row_begin);
    }
    return true;
}

static bool add_rows(struct scanner *s, struct err *err)
{
    struct row_cursor rows = page_rows(s->page);

    for (;;) {
        s->row_begin = s->page->rows.n - rows.rest.n;
        if (!row_next(&rows, s->cells, err))
            return err->kind == ERR_NONE && send_bulk(s, err);
        s->rows_left = rows.left;
        if (!rows.left)
            scan_last_row(s->scan, s->cells);
        if (!scan_wants(&s->w.direct->scan, s->cells) ||
            !plan_holds(s->w.direct->o.plan, s->cells, &s->work)) {
            s->w.sum.rows++;
            s->w.sum.filtered++;
            continue;
        }
        if (!take_one(s, err))
            return s->w.cut;
        s->w.sum.rows++;
        if (!add_row(s, err))
            return false;
    }
}

/* They are counted anew, too: the row may be gone by then. */
static bool add_singles(struct scanner *s, struct row_list *l, enum keyed_task task,
                        struct err *err)
{
    s->w.sum.rows -= l->count;
    s->w.sum.documents -= l->count;
    for (size_t i = 0; i < l->count; i++)
        if (!direct_add_single(&s->w, task, row_again(s, l->at[i]), err))
            return false;
    l->count = 0;
    return true;
}

/* What may pass later, and what may have come back from the dead: by itself, with a new T. */
static bool settle_rest(struct scanner *s, struct err *err)
{
    if (s->check.count && guard_clears(s->w.direct->o.guard, s->w.elastic, s->page->read_at_us)) {
        s->w.sum.indexed += s->check.count;
        s->check.count = 0;
    }
    return add_singles(s, &s->again, KEYED_WRITE_STALE, err) &&
           add_singles(s, &s->unsure, KEYED_WRITE_SENT, err) &&
           add_singles(s, &s->check, KEYED_CHECK, err) && direct_settle_singles(&s->w, err);
}

/* ---- a page given up ---------------------------------------------------------------------------
 *
 * It is read again, and has only the rows that are left by then. A document that it made under
 * another term, from a row that was deleted, would be asked for by nobody.
 */

static void remember(struct scanner *s, size_t begin)
{
    const struct slice *cells = row_again(s, begin);

    for (uint16_t i = 0; i < plan_key_count(s->w.direct->o.plan); i++) {
        bool null = !cells[i].p;

        buf_add_u32(&s->sent_keys, null ? UINT32_MAX : (uint32_t)cells[i].n);
        if (!null)
            buf_add_slice(&s->sent_keys, cells[i]);
    }
    if (!s->sent_count++)
        s->sent_since_us = s->page->read_at_us;
}

/* What was acknowledged without a doubt is not among them. */
static void remember_page(struct scanner *s)
{
    if (plan_versioning(s->w.direct->o.plan) == VERSIONING_NONE)
        return;
    for (size_t i = 0; s->bulk.is_sent && i < s->bulk.count; i++)
        remember(s, s->row_at[i]);
    for (size_t i = 0; i < s->unsure.count; i++)
        remember(s, s->unsure.at[i]);
    for (size_t i = 0; i < s->check.count; i++)
        remember(s, s->check.at[i]);
}

/* As soon as the index answers again: what is remembered is forgotten, or looked for. */
static bool settle_sent(struct scanner *s, struct err *err)
{
    const struct direct *d = s->w.direct;

    if (!s->sent_count)
        return true;
    s->w.asked_ms = 0;
    if (!elastic_check_index(s->w.elastic, plan_index(d->o.plan), err)) {
        s->w.asked_ms = elastic_retry_after_ms(s->w.elastic);
        return false;
    }
    if (!guard_clears(d->o.guard, s->w.elastic, s->sent_since_us) &&
        !direct_check_keys(&s->w, buf_slice(&s->sent_keys), s->sent_count, s->cells, err))
        return false;
    buf_fini(&s->sent_keys);
    s->sent_count = 0;
    return true;
}

static void begin_page(struct scanner *s, const struct scan_page *page)
{
    s->w.asked_ms = 0;
    s->page = &page->page;
    s->scan = page->scan;
    s->aim = limit_body_bytes(s->w.direct->o.limit);
    guard_renew(s->w.direct->o.guard, s->w.elastic);
    s->again.count = s->unsure.count = s->check.count = 0;
    elastic_bulk_reset(&s->bulk);
    if (s->bulk.body.cap > BODY_KEEP_BYTES)
        buf_fini(&s->bulk.body);
}

static bool take_page(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err)
{
    struct scanner *s = ctx;

    if (page->page.shape_changed || !plan_fits(s->w.direct->o.plan, page->page.columns))
        return err_set(err, ERR_USER,
                       "the table's columns changed while it was read; run the command again");
    if (!limit_read(s->w.direct->o.limit, page->page.row_count, err))
        return false;
    if (!settle_sent(s, err)) {
        direct_drop_page(&s->w);
        return false;
    }
    if (!direct_begin_page(&s->w, &page->page, s->cells, err))
        return err->kind == ERR_NONE;
    begin_page(s, page);
    if (add_rows(s, err) && settle_rest(s, err) && direct_save_page(&s->w, task, page, err))
        return true;
    if (err->kind == ERR_RETRY)
        remember_page(s);
    direct_drop_page(&s->w);
    return false;
}

static void trim(void *ctx)
{
    struct scanner *s = ctx;

    elastic_bulk_trim(&s->bulk);
    plan_work_fini(&s->work);
    keyed_trim(s->w.keyed); /* rows that were read again by themselves; and of the connections */
}

bool direct_scan_rows(void *ctx, struct err *err)
{
    struct direct *d = ctx;
    struct scanner s = {.target = {.index = plan_index(d->o.plan),
                                   .pipeline = plan_pipeline(d->o.plan),
                                   .type = plan_type(d->o.plan)}};

    buf_init(&s.id, ID_MAX_BYTES);
    buf_init(&s.routing, ID_MAX_BYTES);
    buf_init(&s.sent_keys, SIZE_MAX / 2); /* no more than a page has */
    elastic_bulk_init(&s.bulk, d->o.memory_bytes / 2);
    plan_work_init(&s.work, d->o.memory_bytes / 2);
    s.bulk.lean = true;
    s.cells = xalloc(d->scan.column_count * sizeof *s.cells);
    bool ok = direct_worker_open(&s.w, d, err) && direct_work(&s.w, take_page, trim, err);
    direct_worker_close(&s.w);
    elastic_bulk_fini(&s.bulk);
    plan_work_fini(&s.work);
    buf_fini(&s.routing);
    buf_fini(&s.id);
    buf_fini(&s.sent_keys);
    free(s.cells);
    free(s.row_at);
    free(s.again.at);
    free(s.unsure.at);
    free(s.check.at);
    return ok;
}
