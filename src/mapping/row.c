#include "mapping/row.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "model/value.h"

struct row_writer {
    const struct columns *columns;
    struct buf names; /* "name": one after the other */
    size_t *name_ends;
};

struct row_writer *row_writer_new(const struct columns *columns)
{
    struct row_writer *w = xalloc(sizeof *w);

    w->columns = columns;
    buf_init(&w->names, 64 << 20);
    w->name_ends = xalloc(columns->count * sizeof *w->name_ends);
    for (uint16_t i = 0; i < columns->count; i++) {
        json_add_string(&w->names, columns->list[i].name);
        buf_add_byte(&w->names, ':');
        w->name_ends[i] = w->names.len;
    }
    return w;
}

void row_writer_free(struct row_writer *w)
{
    buf_fini(&w->names);
    free(w->name_ends);
    free(w);
}

bool row_write(const struct row_writer *w, const struct slice *cells, struct buf *out,
               struct json_counts *counts, struct err *err)
{
    size_t start = out->len;
    bool first = true;

    buf_add_byte(out, '{');
    for (uint16_t i = 0; i < w->columns->count; i++) {
        const struct column *column = &w->columns->list[i];
        size_t name_start = i ? w->name_ends[i - 1] : 0;

        if (value_is_null(column->type, cells[i]))
            continue;
        if (!first)
            buf_add_byte(out, ',');
        first = false;
        buf_add(out, w->names.p + name_start, w->name_ends[i] - name_start);
        if (!json_cell(out, column->type, cells[i], counts, err)) {
            buf_cut(out, start);
            return err_wrap(err, "column %.*s", (int)column->name.n, (const char *)column->name.p);
        }
    }
    buf_add_byte(out, '}');
    if (!out->full)
        return true;
    buf_cut(out, start);
    return err_set(err, ERR_REJECT, "the document is larger than %zu bytes", out->max);
}
