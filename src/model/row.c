#include "model/row.h"

struct row_cursor page_rows(const struct page *page)
{
    return (struct row_cursor){
        .rest = page->rows,
        .left = page->row_count,
        .columns = page->columns->count,
    };
}

/* The hot loop of every scan: lengths are checked here rather than by a call for each cell. */
bool row_next(struct row_cursor *c, struct slice *cells, struct err *err)
{
    const uint8_t *p = c->rest.p;
    size_t left = c->rest.n;

    if (!c->left)
        return false;
    for (uint16_t i = 0; i < c->columns; i++) {
        if (left < 4)
            return err_set(err, ERR_RETRY, "a page of rows is cut short");
        int32_t n = (int32_t)load_u32(p);
        p += 4;
        left -= 4;
        if (n < 0) {
            cells[i] = SLICE_NULL;
            continue;
        }
        if (left < (size_t)n)
            return err_set(err, ERR_RETRY, "a cell is longer than its page of rows");
        cells[i] = slice_of(p, (size_t)n);
        p += n;
        left -= (size_t)n;
    }
    c->rest = slice_of(p, left);
    c->left--;
    return true;
}
