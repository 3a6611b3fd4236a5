#include "engine/keyed_parts.h"

#include <stdlib.h>

#include "base/log.h"

enum {
    CONFIRM_MS = 1000,     /* between the two reads that find no row */
    BODY_BYTES = 1 << 20,  /* what a pass should come to: one request */
    ROUND_DOCS_FIRST = 50, /* when it is not known how large rows are */
    ROOM_COPIES = 8,       /* of one large document, where nothing is kept */
    COPIES = 12, /* of a round's bytes: what was read, what is stored (as text, and taken apart),
                    what is sent, plain and packed; each grows by doubling */
    ANSWERS_BYTES = 8 << 20,
};

bool keyed_is_versioned(const struct keyed *k)
{
    return k->versioning == VERSIONING_READ_TIME || k->versioning == VERSIONING_WRITE_TIME;
}

/* ---- looking -----------------------------------------------------------------------------------
 */

/* False: one of them has no routing, and failed. */
static bool look_names(struct keyed *k, struct doc **docs, size_t count, struct slice *ids,
                       struct slice *routings)
{
    struct err why = {0};

    for (size_t i = 0; i < count; i++) {
        if (!keyed_set_routing(k, docs[i], NULL, &why)) {
            keyed_fail(k, docs[i], "bad_routing", why.text);
            return false;
        }
        ids[i] = docs[i]->id;
        routings[i] = docs[i]->routing;
    }
    return true;
}

static void unreadable(struct keyed *k, struct doc *d, const char *text)
{
    if (d->state == DOC_CONFIRM)
        keyed_leave(k, d, "stored_unreadable", text);
    else
        keyed_fail(k, d, "stored_unreadable", text);
}

/* Waits for the index. */
static bool wait_for_index(struct keyed *k, const char *event, int64_t asked_ms, struct err *err)
{
    if (k->o.pause && err->kind == ERR_RETRY)
        pause_look(k->o.pause, k->elastic);
    return keyed_wait(k, event, asked_ms, err);
}

/* Of an _mget: so much that what is made of it fits into the memory of a pass. */
static size_t most_answer(const struct keyed *k)
{
    return !k->o.room ? 0 : k->room ? k->room / 4 : 2 * keyed_round_aim(k);
}

/* One stored document is larger than the room that was taken: more is taken for the next pass. */
static bool wants_more_room(struct keyed *k)
{
    if (!k->o.room || k->room == k->o.room->bytes)
        return false;
    keyed_note_answer(&k->look_bytes, most_answer(k));
    return true;
}

static size_t looks_at_once(const struct keyed *k)
{
    size_t fit = k->o.room && k->look_bytes ? most_answer(k) / 2 / k->look_bytes : SCAN_DOCS;

    return fit < 1 ? 1 : fit < k->look_max ? fit : k->look_max;
}

/* What is stored now, for all documents that are to be written: before their rows are read. */
static bool look(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    struct slice ids[SCAN_DOCS], routings[SCAN_DOCS];
    struct elastic_found found[SCAN_DOCS];
    bool source = true;

    for (size_t from = 0; from < count;) {
        size_t n = looks_at_once(k), got;
        n = count - from < n ? count - from : n;
        if (!look_names(k, docs + from, n, ids, routings))
            return true; /* without it, in the next pass */
        if (elastic_mget(k->elastic, &k->target, ids, plan_has_routing(k->plan) ? routings : NULL,
                         n, source, most_answer(k), &k->look_mem, found, &got, err)) {
            keyed_note_answer(&k->look_bytes, got / n);
            for (size_t i = 0; i < n; i++) {
                docs[from + i]->stored = found[i];
                docs[from + i]->looked = true;
            }
            from += n;
            source = true;
            continue;
        }
        if (err->kind == ERR_REJECT) {
            /* Too large for one answer, or for our memory, or not to be told faithfully: the rest
             * waits for the next pass. */
            k->round_cut = true;
            if (from)
                return err_clear(err), true;
            if (n > 1) {
                k->look_max = n / 2;
            } else if (wants_more_room(k)) {
                return err_clear(err), true;
            } else if (source && !plan_has_preserve(k->plan)) {
                source = false; /* that it is there, and as what, will do */
            } else {
                unreadable(k, docs[0], err->text);
                return err_clear(err), true;
            }
            arena_reset(&k->look_mem);
            err_clear(err);
            continue;
        }
        if (!from)
            arena_reset(&k->look_mem);
        if (!wait_for_index(k, "mget_retry", elastic_retry_after_ms(k->elastic), err))
            return false;
    }
    return true;
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static bool take_row(struct keyed *k, struct read *r, const struct page *page,
                     const struct err *why, struct err *err)
{
    struct doc *d = r->who;
    struct slice *cells = NULL;
    bool ok = true;

    if (!page) {
        keyed_fail(k, d, "read_failed", why->text);
        return true;
    }
    if (!keyed_fits(k, page, plan_column_count(k->plan), err))
        return false;
    d->read_at_us = page->read_at_us;
    struct row_cursor rows = page_rows(page);
    cells = xalloc(page->columns->count * sizeof *cells);
    bool found = row_next(&rows, cells, err);
    if (found && keyed_is_partition(k, d->key) == keyed_is_partition(k, cells))
        keyed_take_row(k, d, cells);
    else if (err->kind == ERR_NONE)
        keyed_no_row(k, d);
    else
        ok = false;
    free(cells);
    return ok;
}

/* False: bytes are missing. */
static bool has_row(struct keyed *k, const struct doc *d, const struct page *page, bool *has,
                    struct err *err)
{
    struct row_cursor rows = page_rows(page);
    struct slice *cells = NULL;

    bool whole = d->state == DOC_CONFIRM && plan_has_where(k->plan);

    *has = page->row_count > 0;
    if (!*has || (!whole && !keyed_is_partition(k, d->key)))
        return true;
    if (whole && !keyed_fits(k, page, plan_column_count(k->plan), err))
        return false;
    cells = xalloc(page->columns->count * sizeof *cells);
    bool ok = row_next(&rows, cells, err);
    *has = ok && keyed_is_partition(k, cells) == keyed_is_partition(k, d->key) &&
           (!whole || keyed_holds(k, cells));
    free(cells);
    return ok;
}

/* Only whether the row is there: for what we created. */
static bool take_check(struct keyed *k, struct read *r, const struct page *page,
                       const struct err *why, struct err *err)
{
    struct doc *d = r->who;

    bool there;

    if (!page) {
        keyed_fail(k, d, "read_failed", why->text);
        return true;
    }
    if (!has_row(k, d, page, &there, err))
        return false;
    d->read_at_us = page->read_at_us;
    if (there)
        keyed_settle(k, d, DOC_INDEXED);
    else
        keyed_undo(k, d);
    return true;
}

/* The second read of a row that was missing. */
static bool take_confirm(struct keyed *k, struct read *r, const struct page *page,
                         const struct err *why, struct err *err)
{
    struct doc *d = r->who;

    bool there;

    if (!page) {
        keyed_leave(k, d, "read_failed", why->text);
        return true;
    }
    if (!has_row(k, d, page, &there, err))
        return false;
    d->read_at_us = page->read_at_us;
    if (there)
        d->state = DOC_LOOK;
    else
        keyed_remove(k, d);
    return true;
}

static struct read read_of(struct keyed *k, struct doc *d, bool whole)
{
    bool partition = keyed_is_partition(k, d->key);
    uint16_t bound = partition ? plan_partition_count(k->plan) : plan_key_count(k->plan);

    return (struct read){.text = !whole      ? plan_keys_text(k->plan, bound)
                                 : partition ? keyed_partition_text(k)
                                             : plan_read_text(k->plan),
                         .values = d->key,
                         .value_count = bound,
                         .who = d};
}

static bool read_rows(struct keyed *k, struct doc **docs, size_t count, enum doc_state state,
                      struct err *err)
{
    static const read_taker takers[] = {
        [DOC_LOOK] = take_row, [DOC_CHECK] = take_check, [DOC_CONFIRM] = take_confirm};
    bool whole = state == DOC_LOOK || (state == DOC_CONFIRM && plan_has_where(k->plan));
    struct read reads[SCAN_DOCS];
    size_t n = 0;

    if (state != DOC_CONFIRM && !keyed_read_intervals(k, state, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (docs[i]->state == state && !docs[i]->was_read &&
            (state == DOC_CHECK || docs[i]->looked))
            reads[n++] = read_of(k, docs[i], whole);
    return keyed_read_all(k, reads, n, takers[state],
                          whole ? &k->row_answer_bytes : &k->key_answer_bytes, err);
}

/* ---- writing -----------------------------------------------------------------------------------
 */

/* False: what was read is too old to be sent, or a fatal err. */
static bool may_send(struct keyed *k, struct err *err)
{
    if (k->o.limit && !limit_enter(k->o.limit, k->bulk.count, err))
        return false;
    if (!keyed_is_versioned(k) || !guard_too_old(k->guard, k->oldest_us))
        return true;
    if (k->o.limit)
        limit_leave(k->o.limit, LIMIT_FINE, 0);
    return err_set(err, ERR_RETRY, "rows waited too long to be written");
}

static bool send(struct keyed *k, struct err *err)
{
    struct elastic_sent sent = {0};
    bool ok = elastic_bulk_send(k->elastic, &k->target, &k->bulk, &sent, err);

    if (k->o.limit)
        limit_leave(k->o.limit, ok && !sent.pushed_back ? LIMIT_FINE : LIMIT_PUSHED_BACK,
                    sent.took_ms);
    return ok;
}

/* Documents that were created under a term that says nothing. */
static void clear_doubts(struct keyed *k)
{
    size_t doubted = 0;

    for (size_t i = 0; keyed_is_versioned(k) && i < k->bulk.count; i++)
        doubted += k->bulk_docs[i]->state == DOC_CHECK && !k->bulk_docs[i]->ours;
    if (!doubted || !guard_clears(k->guard, k->elastic, k->oldest_us))
        return;
    for (size_t i = 0; i < k->bulk.count; i++)
        if (k->bulk_docs[i]->state == DOC_CHECK && !k->bulk_docs[i]->ours)
            keyed_settle(k, k->bulk_docs[i], DOC_INDEXED);
}

/* Sends the bulk; what may pass stays as it is and is read again in the next pass. */
static bool send_bulk(struct keyed *k, struct err *err)
{
    struct err later = {0};

    if (!k->bulk.count)
        return true;
    if (!may_send(k, err))
        return keyed_wait(k, "too_old", 0, err);
    bool sent = send(k, err);
    bool fatal = !sent && err->kind != ERR_RETRY;
    int64_t wait_ms = elastic_retry_after_ms(k->elastic);

    if (!sent)
        later = *err;
    for (size_t i = 0; i < k->bulk.count; i++) {
        const struct elastic_item *item = &k->bulk.items[i];
        if (keyed_judge(k, k->bulk_docs[i], item) && later.kind == ERR_NONE)
            err_set(&later, ERR_RETRY, "Elasticsearch answered %d for a document: %s",
                    (int)item->status, item->problem ? item->problem->reason : "");
    }
    if (fatal)
        return false;
    clear_doubts(k);
    if (later.kind == ERR_NONE) {
        if (k->o.pause)
            pause_pass(k->o.pause, k->elastic);
        return true;
    }
    *err = later;
    if (!wait_for_index(k, "bulk_retry", wait_ms, err))
        return false;
    if (k->guard)
        guard_refresh(k->guard, k->elastic);
    return true;
}

/* ---- passes ------------------------------------------------------------------------------------
 */

/* One pass over the documents that are not settled: look, read, write. Second reads have passes of
 * their own. */
static bool pass(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    bool confirm = docs[0]->state == DOC_CONFIRM;
    struct doc *wanted[SCAN_DOCS];
    size_t n = 0;

    if (!keyed_pay_rows(k, err))
        return false;
    arena_reset(&k->look_mem);
    elastic_bulk_reset(&k->bulk);
    keyed_begin_rows(k);
    if (k->guard)
        guard_renew(k->guard, k->elastic);
    for (size_t i = 0; i < count; i++) {
        docs[i]->was_read = false;
        docs[i]->looked = k->versioning != VERSIONING_SEQUENCE;
        if (docs[i]->state != DOC_CHECK && !docs[i]->looked)
            wanted[n++] = docs[i];
    }
    if (!look(k, wanted, n, err))
        return false;
    bool ok = confirm ? read_rows(k, docs, count, DOC_CONFIRM, err)
                      : read_rows(k, docs, count, DOC_CHECK, err) &&
                            read_rows(k, docs, count, DOC_LOOK, err) && keyed_make_rows(k, err);
    return ok && send_bulk(k, err);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A row, or what is stored of it; 0: not known. */
static size_t doc_bytes(const struct keyed *k)
{
    return k->row_answer_bytes > k->look_bytes ? k->row_answer_bytes : k->look_bytes;
}

static size_t first_docs(const struct keyed *k)
{
    return k->o.room ? 1 : ROUND_DOCS_FIRST;
}

static bool is_large(const struct keyed *k)
{
    return k->o.room && doc_bytes(k) > keyed_round_aim(k);
}

/* Rows that are to be written with a version have to be young: no more than a request's. */
static size_t docs_in_a_pass(const struct keyed *k)
{
    if (is_large(k))
        return 1;
    if (!keyed_is_versioned(k))
        return SCAN_DOCS;
    if (!k->row_answer_bytes)
        return first_docs(k);
    size_t n = BODY_BYTES / k->row_answer_bytes;
    return n < 1 ? 1 : n < ROUND_DOCS ? n : ROUND_DOCS;
}

/* Its turn comes when no later one of its _id can be written any more, or one was. */
static bool waits(const struct keyed *k, const struct doc *d)
{
    bool open = false;

    for (const struct doc *l = keyed_later(k, d); l; l = keyed_later(k, l))
        open = open || l->state <= DOC_CONFIRM;
    return open && !keyed_is_shadowed(k, d);
}

/* Those that have something to do now. When only second reads are left, their time is waited for.
 */
static bool choose(struct keyed *k, struct doc *first, size_t count, struct doc **docs, size_t *n,
                   struct err *err)
{
    size_t most = docs_in_a_pass(k);
    int64_t latest_ms = INT64_MIN;

    *n = 0;
    for (size_t i = 0; i < count && *n < most; i++)
        if ((first[i].state == DOC_LOOK || first[i].state == DOC_CHECK) && !waits(k, &first[i]))
            docs[(*n)++] = &first[i];
    if (*n)
        return true;
    for (size_t i = 0; i < count && *n < most; i++)
        if (first[i].state == DOC_CONFIRM) {
            docs[(*n)++] = &first[i];
            if (first[i].gone_at_ms > latest_ms)
                latest_ms = first[i].gone_at_ms;
        }
    int64_t wait_ms = *n ? latest_ms + CONFIRM_MS - clock_mono_ms(k->o.clock) : 0;
    return wait_ms <= 0 || retry_pause(k->o.clock, k->o.cancel, wait_ms + 1, err);
}

void keyed_trim(struct keyed *k)
{
    arena_fini(&k->look_mem);
    arena_fini(&k->write_mem);
    arena_fini(&k->row_mem);
    plan_work_fini(&k->work);
    buf_fini(&k->text);
    elastic_bulk_trim(&k->bulk);
    elastic_trim(k->elastic);
    cql_session_trim(k->session);
}

/* What a large document took is given back with its room: it does not become the worker's. */
static void give_room(struct keyed *k)
{
    if (!k->room)
        return;
    keyed_trim(k);
    room_give(k->o.room, k->room);
    k->room = 0;
}

static bool pass_in_room(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    if (is_large(k) && !room_take(k->o.room, ROOM_COPIES * doc_bytes(k), &k->room, err))
        return false;
    bool ok = pass(k, docs, count, err);
    give_room(k);
    return ok;
}

static bool work_off(struct keyed *k, struct doc *first, size_t count, struct err *err)
{
    struct doc *docs[SCAN_DOCS];
    size_t n;

    k->round = first;
    k->round_count = count;
    k->round_bytes = 0;
    k->round_cut = false;
    for (;;) {
        if (!choose(k, first, count, docs, &n, err))
            return false;
        if (!n)
            return true;
        if (!pass_in_room(k, docs, n, err))
            return false;
    }
}

size_t keyed_round_aim(const struct keyed *k)
{
    return least(k->memory_bytes / (k->o.room ? 2 : 1) / COPIES, BODY_BYTES);
}

size_t keyed_answers_aim(const struct keyed *k)
{
    return k->o.room ? 2 * keyed_round_aim(k) : ANSWERS_BYTES;
}

/* Documents are of one kind in a round: a scan's, or single ones. */
static size_t next_round(const struct keyed *k, size_t from)
{
    bool scan = k->docs[from].in_order;
    size_t rows = doc_bytes(k) ? 2 * keyed_round_aim(k) / doc_bytes(k) : first_docs(k);
    size_t most = scan ? least(rows, least(k->scan_docs, k->look_max)) : ROUND_DOCS;
    size_t n = 1;

    while (n < most && from + n < k->doc_count && k->docs[from + n].in_order == scan)
        n++;
    return n;
}

/* So that what a round of a scan comes to is one request's. */
static void size_rounds(struct keyed *k, size_t n)
{
    if (k->round_bytes)
        keyed_note_answer(&k->row_answer_bytes, k->round_bytes / n);
    if (k->round_cut || k->round_bytes > 2 * keyed_round_aim(k))
        k->scan_docs = n / 2 + 1;
    else if (k->round_bytes < keyed_round_aim(k) && n == k->scan_docs)
        k->scan_docs = least(2 * n, SCAN_DOCS);
}

static void tell_collision(struct keyed *k, const struct doc *d)
{
    if (atomic_exchange(k->o.collided ? k->o.collided : &k->collided, true))
        return;
    AUTO_STR char *id = xstrndup((const char *)d->id.p, d->id.n);
    LOG(LOG_WARN, "id_collision", F_STR("object", plan_object(k->plan)),
        F_STR("why", "several rows have one _id, which does not hold the whole key; the last one "
                     "written stays"));
    LOG(LOG_DEBUG, "id_collision", F_STR("object", plan_object(k->plan)), F_STR("id", id));
}

/* Among those that are flushed together. Rows that share an _id stand together, mostly: in one
 * partition. Under sequence they are linked, so that one of them is written. */
static void find_collisions(struct keyed *k, size_t from)
{
    if (plan_id_unique(k->plan))
        return;
    for (size_t i = from; i < k->doc_count; i++) {
        struct doc *d = &k->docs[i];
        if (d->state != DOC_LOOK)
            continue;
        bool added;
        struct map_entry *e = map_put(&k->flush_ids, d->id, &added);
        size_t before = added ? 0 : (uintptr_t)e->value;
        e->value = (void *)(uintptr_t)(i + 1);
        if (added)
            continue;
        if (k->versioning == VERSIONING_SEQUENCE)
            k->docs[before - 1].later = i + 1;
        k->results[d->element].counts.id_collision++;
        tell_collision(k, d);
    }
}

static bool flush_rounds(struct keyed *k, struct err *err)
{
    for (size_t from = 0; from < k->doc_count;) {
        size_t n = next_round(k, from);
        size_t known = k->doc_count;
        bool scan = k->docs[from].in_order;
        if (!work_off(k, &k->docs[from], n, err))
            return false;
        if (scan)
            size_rounds(k, n);
        if (!keyed_add_extras(k, err))
            return false;
        find_collisions(k, known);
        from += n;
    }
    return true;
}

/* What waited for one of a later round. Read by names: rows between them were seen to. */
static bool flush_rest(struct keyed *k, struct err *err)
{
    size_t n;

    for (size_t end = plan_id_unique(k->plan) ? 0 : k->doc_count; end > 0; end -= n) {
        n = least(end, ROUND_DOCS);
        for (size_t i = end - n; i < end; i++)
            k->docs[i].in_order = false;
        if (!work_off(k, &k->docs[end - n], n, err))
            return false;
    }
    return true;
}

bool keyed_flush(struct keyed *k, struct err *err)
{
    map_reset(&k->flush_ids);
    find_collisions(k, 0);
    if (!flush_rounds(k, err) || !flush_rest(k, err))
        return false;
    k->doc_count = 0;
    arena_reset(&k->key_mem);
    k->key_bytes = 0;
    return true;
}
