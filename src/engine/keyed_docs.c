#include "engine/keyed_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum {
    LOSSES_MAX = 5, /* against other writers */
    LATERS_MAX = 5, /* of "may pass" for a single document while others do pass */
};

static void lost(struct keyed *k, struct doc *d)
{
    d->state = DOC_LOOK;
    if (++d->losses <= LOSSES_MAX)
        return;
    k->results[d->element].counts.contended++;
    keyed_fail(k, d, "contended", "another writer was faster each time");
}

/* What is stored now, for all documents that are to be written: before their rows are read. */
static bool look(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    struct slice ids[ROUND_DOCS];
    struct elastic_found found[ROUND_DOCS];
    bool source = true;
    struct elastic_target target = {.index = plan_index(k->plan)};

    for (size_t from = 0; from < count;) {
        size_t n = count - from < k->look_max ? count - from : k->look_max;
        for (size_t i = 0; i < n; i++)
            ids[i] = docs[from + i]->id;
        if (elastic_mget(k->elastic, &target, ids, NULL, n, source, &k->look_mem, found, err)) {
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
            if (from)
                return err_clear(err), true;
            if (n > 1) {
                k->look_max = n / 2;
            } else if (source && !plan_has_preserve(k->plan)) {
                source = false; /* that it is there, and as what, will do */
            } else {
                keyed_fail(k, docs[0], "stored_unreadable", err->text);
                return err_clear(err), true;
            }
            arena_reset(&k->look_mem);
            err_clear(err);
            continue;
        }
        if (!from)
            arena_reset(&k->look_mem);
        if (!keyed_wait(k, "mget_retry", elastic_retry_after_ms(k->elastic), err))
            return false;
    }
    return true;
}

/* The stored document's fields that are not ours, behind our own. */
static void add_preserved(struct keyed *k, const struct json *stored, struct buf *doc)
{
    json_each (field, stored) {
        if (!plan_preserves(k->plan, field->key))
            continue;
        doc->len--; /* the brace */
        if (doc->len > 1)
            buf_add_byte(doc, ',');
        json_add_string(doc, field->key);
        buf_add_byte(doc, ':');
        json_write(doc, field);
        buf_add_byte(doc, '}');
        if (doc->full)
            return;
    }
}

static bool same_json(struct keyed *k, struct slice text, const struct json *stored)
{
    struct err ignored = {0};

    arena_reset(&k->write_mem);
    const struct json *ours = json_parse(text, &k->write_mem, &ignored);
    return ours && json_equal(ours, stored);
}

static void add_to_bulk(struct keyed *k, struct doc *d, enum elastic_op op, int64_t seq_no,
                        int64_t term, struct slice source)
{
    struct elastic_action action = {.op = op,
                                    .condition =
                                        op == ELASTIC_CREATE ? ELASTIC_ALWAYS : ELASTIC_IF_SEQ_NO,
                                    .seq_no = seq_no,
                                    .primary_term = term,
                                    .id = d->id};

    elastic_bulk_begin(&k->bulk, &action);
    buf_add_slice(&k->bulk.body, source);
    if (elastic_bulk_end(&k->bulk))
        k->bulk_docs[k->bulk.count - 1] = d;
    else if (k->bulk.count == 0)
        keyed_fail(k, d, "document_too_large", "the document is larger than the memory for a body");
    /* else it waits for the next pass */
}

/* The row as it is now against the document as it was before: write, or leave it. */
static void write_doc(struct keyed *k, struct doc *d, const struct slice *cells)
{
    const struct elastic_found *stored = &d->stored;
    struct json_counts altered = {0};
    struct err why = {0};

    for (uint16_t i = 0; i < d->query->after_count; i++)
        if (!plan_filter_holds(&d->query->after[i], cells)) {
            keyed_settle(k, d, DOC_FILTERED);
            return;
        }
    buf_reset(&k->text);
    if (!plan_write(k->plan, cells, d->id, &k->text, &altered, &why)) {
        keyed_fail(k, d, k->text.full ? "document_too_large" : "bad_value", why.text);
        return;
    }
    if (json_counts_sum(&altered) && k->o.strict_values) {
        keyed_fail(k, d, "altered_value", "a value can't be written as it is");
        return;
    }
    d->altered = json_counts_sum(&altered);
    if (stored->found && !stored->source && plan_has_preserve(k->plan)) {
        keyed_fail(k, d, "no_source", "the index keeps no _source to preserve fields from");
        return;
    }
    if (stored->found && stored->source) {
        add_preserved(k, stored->source, &k->text);
        if (k->text.full) {
            keyed_fail(k, d, "document_too_large",
                       "the document is larger than the memory for one");
            return;
        }
        if (same_json(k, buf_slice(&k->text), stored->source)) {
            keyed_settle(k, d, DOC_UNCHANGED);
            return;
        }
    }
    add_to_bulk(k, d, stored->found ? ELASTIC_INDEX : ELASTIC_CREATE, stored->seq_no,
                stored->primary_term, buf_slice(&k->text));
}

/* Our own create made what is stored, whether or not we got its answer. */
static bool is_ours(struct keyed *k, const struct doc *d)
{
    const struct elastic_found *stored = &d->stored;

    if (!stored->found)
        return false;
    if (d->created_term && stored->primary_term == d->created_term &&
        stored->seq_no == d->created_seq_no)
        return true;
    return d->sent.p && stored->source && same_json(k, d->sent, stored->source);
}

/* No row. A document that is there is reported, not deleted, unless it is ours. */
static void no_row(struct keyed *k, struct doc *d)
{
    if (is_ours(k, d))
        add_to_bulk(k, d, ELASTIC_DELETE, d->stored.seq_no, d->stored.primary_term, SLICE_NULL);
    else
        keyed_settle(k, d, DOC_GONE);
}

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
    struct row_cursor rows = page_rows(page);
    cells = xalloc(page->columns->count * sizeof *cells);
    if (row_next(&rows, cells, err))
        write_doc(k, d, cells);
    else if (err->kind == ERR_NONE)
        no_row(k, d);
    else
        ok = false;
    free(cells);
    return ok;
}

/* Only whether the row is there: for what we created. */
static bool take_check(struct keyed *k, struct read *r, const struct page *page,
                       const struct err *why, struct err *err)
{
    struct doc *d = r->who;

    (void)err;
    if (!page)
        keyed_fail(k, d, "read_failed", why->text);
    else if (page->row_count)
        keyed_settle(k, d, DOC_INDEXED);
    else
        add_to_bulk(k, d, ELASTIC_DELETE, d->created_seq_no, d->created_term, SLICE_NULL);
    return true;
}

static bool read_rows(struct keyed *k, struct doc **docs, size_t count, enum doc_state state,
                      struct err *err)
{
    uint16_t keys = plan_key_count(k->plan);
    bool check = state == DOC_CHECK;
    struct read reads[ROUND_DOCS];
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (docs[i]->state == state && (check || docs[i]->looked))
            reads[n++] = (struct read){.text = check ? plan_keys_text(k->plan, keys)
                                                     : plan_read_text(k->plan),
                                       .values = docs[i]->key,
                                       .value_count = keys,
                                       .who = docs[i]};
    return keyed_read_all(k, reads, n, check ? take_check : take_row,
                          check ? &k->key_answer_bytes : &k->row_answer_bytes, err);
}

/* A create whose outcome is unknown may have made a document whose row is gone by now. */
static void unknown_outcome(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    if (item->op != ELASTIC_CREATE)
        return;
    size_t begin = item->line_begin;
    const uint8_t *line = memchr(k->bulk.body.p + begin, '\n', item->line_end - begin);
    size_t source = (size_t)(line + 1 - k->bulk.body.p);
    struct slice sent = slice_of(line + 1, item->line_end - 1 - source);
    if (slice_eq(d->sent, sent))
        return;
    d->sent = keyed_keep(&k->key_mem, sent);
    if (!d->sent.p)
        keyed_fail(k, d, "outcome_unknown", "no memory left to remember what was sent");
}

/* Our own create is undone. The row may have come back before that, and another worker may have
 * found the document as it should be: so the row is read once more. */
static void deleted(struct keyed *k, struct doc *d)
{
    d->created_term = 0;
    d->sent = SLICE_NULL;
    lost(k, d);
}

/* True: this document waits for the server to recover. */
static bool judge(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    bool delete = item->op == ELASTIC_DELETE;

    switch ((enum elastic_verdict)item->verdict) {
    case ELASTIC_DONE:
        if (item->op == ELASTIC_CREATE) {
            d->state = DOC_CHECK;
            d->created_seq_no = item->seq_no;
            d->created_term = item->primary_term;
        } else if (delete) {
            deleted(k, d);
        } else {
            keyed_settle(k, d, DOC_INDEXED);
        }
        return false;
    case ELASTIC_GONE:
        deleted(k, d);
        return false;
    case ELASTIC_CONFLICT:
        d->sent = delete ? SLICE_NULL : d->sent; /* somebody else's document now */
        lost(k, d);
        return false;
    case ELASTIC_LATER:
        d->state = DOC_LOOK; /* also behind a delete: the row may be back by then */
        if (item->status >= 500)
            unknown_outcome(k, d, item);
        if (d->state != DOC_LOOK)
            return false;
        /* Overload and blocks pass for all together: the budget ends those. */
        if (++d->laters > LATERS_MAX && item->status >= 500 && item->status != 503)
            keyed_fail(k, d, item->problem->reason, item->problem->text);
        return true;
    case ELASTIC_REJECTED:
        keyed_fail(k, d, item->problem->reason, item->problem->text);
        return false;
    case ELASTIC_OPEN:
        d->state = DOC_LOOK;
        unknown_outcome(k, d, item);
        return false;
    }
    return false;
}

/* Sends the bulk; what may pass stays as it is and is read again in the next pass. */
static bool send_bulk(struct keyed *k, struct err *err)
{
    struct err later = {0};

    if (!k->bulk.count)
        return true;
    struct elastic_target target = {.index = plan_index(k->plan)};
    struct elastic_sent cost;
    bool sent = elastic_bulk_send(k->elastic, &target, &k->bulk, &cost, err);
    bool fatal = !sent && err->kind != ERR_RETRY;
    int64_t wait_ms = elastic_retry_after_ms(k->elastic);

    if (!sent)
        later = *err;
    for (size_t i = 0; i < k->bulk.count; i++) {
        const struct elastic_item *item = &k->bulk.items[i];
        if (judge(k, k->bulk_docs[i], item) && later.kind == ERR_NONE)
            err_set(&later, ERR_RETRY, "Elasticsearch answered %d for a document: %s", item->status,
                    item->problem->reason);
    }
    if (fatal)
        return false;
    if (later.kind == ERR_NONE)
        return true;
    *err = later;
    return keyed_wait(k, "bulk_retry", wait_ms, err);
}

/* One pass over the documents that are not settled: look, read, write. */
static bool pass(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    struct doc *wanted[ROUND_DOCS];
    size_t n = 0;

    arena_reset(&k->look_mem);
    elastic_bulk_reset(&k->bulk);
    for (size_t i = 0; i < count; i++) {
        docs[i]->looked = false;
        if (docs[i]->state == DOC_LOOK)
            wanted[n++] = docs[i];
    }
    return look(k, wanted, n, err) && read_rows(k, docs, count, DOC_CHECK, err) &&
           read_rows(k, docs, count, DOC_LOOK, err) && send_bulk(k, err);
}

static bool work_off(struct keyed *k, struct doc *first, size_t count, struct err *err)
{
    struct doc *docs[ROUND_DOCS];

    for (;;) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if (first[i].state == DOC_LOOK || first[i].state == DOC_CHECK)
                docs[n++] = &first[i];
        if (!n)
            return true;
        if (!pass(k, docs, n, err))
            return false;
    }
}

/* Works off the documents collected so far. */
bool keyed_flush(struct keyed *k, struct err *err)
{
    for (size_t from = 0; from < k->doc_count; from += ROUND_DOCS) {
        size_t n = k->doc_count - from < ROUND_DOCS ? k->doc_count - from : ROUND_DOCS;
        if (!work_off(k, &k->docs[from], n, err))
            return false;
    }
    k->doc_count = 0;
    arena_reset(&k->key_mem);
    k->key_bytes = 0;
    return true;
}
