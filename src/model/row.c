#include "model/row.h"

struct row_cursor page_rows(const struct page *page)
{
    return (struct row_cursor){
        .rest = page->rows,
        .left = page->row_count,
        .columns = page->columns->count,
    };
}

/* Each cell's place depends on the length before it, so that every line of cache that is not there
 * yet is waited for, and cells are too far apart for the processor to guess. n bytes, some rows or
 * lines ahead of `p`, are asked for now. */
static inline void fetch_ahead(const uint8_t *p, size_t left, size_t n)
{
    enum { AHEAD_BYTES = 2048, LINE_BYTES = 64, MOST_BYTES = 4096 };

    if (left < AHEAD_BYTES + n || n > MOST_BYTES)
        return;
    for (size_t i = 0; i < n; i += LINE_BYTES)
        __builtin_prefetch(p + AHEAD_BYTES + i);
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
    fetch_ahead(p, left, (size_t)(p - c->rest.p));
    c->rest = slice_of(p, left);
    c->left--;
    return true;
}
