/*
 * Documents that need rows of other tables. The rows of a pass are kept until all of them are read;
 * then what they want is read round by round, and they are written. So every other read begins
 * after the T of every document that may share it, and what was fetched ends with the pass.
 */
#include "engine/keyed_parts.h"

#include <stdlib.h>

/* The row stays until the pass has read all; no room: it is read again in the next one. */
static void keep_row(struct keyed *k, struct doc *d, const struct slice *cells)
{
    uint16_t n = plan_column_count(k->plan);
    struct slice *kept = arena_alloc(&k->row_mem, n * sizeof *kept);

    for (uint16_t i = 0; kept && i < n; i++) {
        kept[i] = keyed_keep(&k->row_mem, cells[i]);
        if (cells[i].p && !kept[i].p)
            kept = NULL;
    }
    if (kept) {
        d->cells = kept;
        k->kept[k->kept_count++] = d;
    } else if (!k->kept_count) {
        keyed_fail(k, d, "document_too_large", "the row is larger than the memory for a round");
    } else {
        k->round_cut = true;
    }
}

bool keyed_holds(struct keyed *k, const struct slice *cells)
{
    return plan_holds(k->plan, cells, &k->work);
}

void keyed_take_row(struct keyed *k, struct doc *d, const struct slice *cells)
{
    if (!keyed_holds(k, cells)) {
        if (k->by_id) /* the mapping knows no such document */
            keyed_no_row(k, d);
        else
            keyed_settle(k, d, DOC_FILTERED);
    } else if (plan_levels(k->plan)) {
        ensure(k->kept_count < SCAN_DOCS && "a pass has no more");
        keep_row(k, d, cells);
    } else {
        keyed_write_row(k, d, cells);
    }
}

void keyed_begin_rows(struct keyed *k)
{
    arena_reset(&k->row_mem);
    k->kept_count = 0;
}

/* ---- rounds ------------------------------------------------------------------------------------
 */

static bool changed(struct keyed *k, const struct plan_read *r, struct err *err)
{
    (void)k;
    return err_set(err, ERR_USER, "table %s.%s changed; start again", r->schema->keyspace,
                   r->schema->table);
}

/* False: no room (k->fetched_full), or err. */
static bool add_page(struct keyed *k, struct fetched_rows *rows, const struct page *page,
                     struct err *err)
{
    struct row_cursor cursor = page_rows(page);
    struct slice *cells = xalloc((page->columns->count + 1u) * sizeof *cells);

    if (!plan_read_fits(k->plan, rows->read, page->columns)) {
        free(cells);
        return changed(k, plan_read_at(k->plan, rows->read), err);
    }
    while (!k->fetched_full && row_next(&cursor, cells, err))
        k->fetched_full = !fetched_add(&k->fetched, rows, cells, page->columns->count);
    free(cells);
    return err->kind == ERR_NONE;
}

static bool take_rows(struct keyed *k, struct read *r, const struct page *page,
                      const struct err *why, struct err *err)
{
    struct fetched_rows *rows = r->who;

    if (!page) {
        fetched_fill(&k->fetched, rows, 0, why->text);
        return true;
    }
    if (!page->last || k->fetched_full) /* by a pager, or not at all */
        return true;
    fetched_again(rows);
    if (!add_page(k, rows, page, err))
        return false;
    if (!k->fetched_full)
        fetched_fill(&k->fetched, rows, page->read_at_us, NULL);
    return true;
}

/* More than one page. */
static bool page_rows_through(struct keyed *k, struct fetched_rows *rows, const struct read *r,
                              struct err *err)
{
    struct cql_query q = keyed_query(k, r);
    AUTO(cql_pager) struct cql_pager *pager = keyed_pager_open(k, &q, err);
    int64_t first_us = 0;
    struct page page;

    fetched_again(rows);
    while (pager && !k->fetched_full) {
        if (cql_pager_next(pager, &page, err)) {
            first_us = first_us ? first_us : page.read_at_us;
            keyed_note_page(k, &page);
            if (!add_page(k, rows, &page, err))
                return false;
        } else if (err->kind == ERR_NONE) {
            fetched_fill(&k->fetched, rows, first_us, NULL);
            return true;
        } else if (err->kind == ERR_REJECT) {
            fetched_again(rows);
            fetched_fill(&k->fetched, rows, 0, err->text);
            return err_clear(err), true;
        } else if (!keyed_wait(k, "read_retry", 0, err)) {
            return false;
        }
    }
    return pager != NULL;
}

/* All that is wanted and not there: at once, on one connection. */
static bool read_singles(struct keyed *k, struct err *err)
{
    size_t count = fetched_count(&k->fetched), n = 0;
    struct read *reads = xalloc((count + 1) * sizeof *reads);
    bool ok = true;

    for (size_t i = 0; i < count; i++) {
        struct fetched_rows *rows = fetched_at(&k->fetched, i);
        const struct plan_read *of = plan_read_at(k->plan, rows->read);
        if (!rows->filled)
            reads[n++] = (struct read){.text = of->text,
                                       .values = rows->key,
                                       .value_count = rows->key_count,
                                       .other = of->schema,
                                       .who = rows};
    }
    ok = keyed_read_all(k, reads, n, take_rows, &k->other_answer_bytes, err);
    for (size_t i = 0; ok && i < n && !k->fetched_full; i++) {
        struct fetched_rows *rows = reads[i].who;
        ok = rows->filled || page_rows_through(k, rows, &reads[i], err);
    }
    free(reads);
    return ok;
}

/* Everything that is wanted and not there. A document alone has all the memory for its own rows. */
static bool fill(struct keyed *k, size_t documents, struct err *err)
{
    if (documents > 1 && !keyed_read_ranges(k, err))
        return false;
    return k->fetched_full || read_singles(k, err);
}

/* Everything that these documents want. False: err; else k->fetched_full says whether there was
 * room. */
static bool fetch(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    k->fetched_full = false;
    fetched_reset(&k->fetched);
    for (uint16_t level = 0; level < plan_levels(k->plan); level++) {
        for (size_t i = 0; i < count && !k->fetched_full; i++)
            k->fetched_full =
                !plan_need(k->plan, level, docs[i]->cells, docs[i]->id, &k->fetched, &k->work);
        if (k->fetched_full || !fill(k, count, err))
            return err->kind == ERR_NONE;
        if (k->fetched_full)
            return true;
    }
    return true;
}

bool keyed_make_rows(struct keyed *k, struct err *err)
{
    size_t most = k->kept_count;

    for (size_t from = 0; from < k->kept_count;) {
        size_t n = k->kept_count - from < most ? k->kept_count - from : most;
        if (!fetch(k, k->kept + from, n, err))
            return false;
        if (k->fetched_full && n > 1) {
            most = n / 2;
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            struct doc *d = k->kept[from + i];
            /* A document with version T has only rows that were read at or after T. */
            ensure(k->fetched.oldest_us >= d->read_at_us);
            if (k->fetched_full)
                keyed_fail(k, d, "document_too_large",
                           "the rows of its document are larger than the memory for a round");
            else
                keyed_write_row(k, d, d->cells);
        }
        from += n;
    }
    k->kept_count = 0;
    return true;
}
