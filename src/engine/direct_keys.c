#include "engine/direct_parts.h"

#include <stdlib.h>

/* versioning: sequence. The scan reads keys alone; what is stored is looked at before a row is
 * read, by keyed. */
struct key_scanner {
    struct direct_worker w; /* first: take_page() is given it */
    struct slice *cells;
};

/* The page may have one more document. The cells are the page's: they stay. */
static bool take_one(struct key_scanner *s, struct err *err)
{
    while (!quota_take(&s->w.direct->quota, &s->w.quota))
        if (!direct_settle_singles(&s->w, err) || !direct_more(&s->w, err))
            return false;
    return true;
}

/* Where there are conditions most rows between two keys may be others, and are not to be read. */
static bool add_keys(struct key_scanner *s, const struct page *page, struct err *err)
{
    enum keyed_task task = s->w.direct->o.where ? KEYED_WRITE : KEYED_SCAN;
    struct row_cursor rows = page_rows(page);

    while (row_next(&rows, s->cells, err)) {
        if (!scan_wants(&s->w.direct->scan, s->cells)) {
            s->w.sum.rows++;
            s->w.sum.filtered++;
            continue;
        }
        if (!take_one(s, err))
            return s->w.cut;
        if (!direct_add_single(&s->w, task, s->cells, err))
            return false;
    }
    return err->kind == ERR_NONE && direct_settle_singles(&s->w, err);
}

static bool take_page(void *ctx, const struct scan_task *task, const struct scan_page *page,
                      struct err *err)
{
    struct key_scanner *s = ctx;

    if (!scan_fits(&s->w.direct->scan, page->page.columns))
        return err_set(err, ERR_USER,
                       "the table's columns changed while it was read; run the command again");
    if (!limit_read(s->w.direct->o.limit, page->page.row_count, err))
        return false;
    if (!direct_begin_page(&s->w, &page->page, s->cells, err))
        return err->kind == ERR_NONE;
    if (add_keys(s, &page->page, err) && direct_save_page(&s->w, task, page, err))
        return true;
    direct_drop_page(&s->w);
    return false;
}

bool direct_scan_keys(void *ctx, struct err *err)
{
    struct direct *d = ctx;
    struct key_scanner s = {.cells = xalloc(d->scan.column_count * sizeof *s.cells)};
    bool ok = direct_worker_open(&s.w, d, err) && direct_work(&s.w, take_page, NULL, err);

    direct_worker_close(&s.w);
    free(s.cells);
    return ok;
}
