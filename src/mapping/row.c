#include "mapping/row.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "model/value.h"

/* Copied at a time, also beyond the end: there is room. */
enum { NAME_STEP = 16 };

struct row_writer {
    const struct columns *columns;
    struct buf names;  /* ,"name": one after the other, and NAME_STEP bytes */
    size_t *name_ends; /* behind each, after that of nothing: 0 */
};

struct row_writer *row_writer_new(const struct columns *columns)
{
    struct row_writer *w = xalloc(sizeof *w);

    w->columns = columns;
    buf_init(&w->names, 64 << 20);
    w->name_ends = xalloc((columns->count + 1u) * sizeof *w->name_ends);
    for (uint16_t i = 0; i < columns->count; i++) {
        buf_add_byte(&w->names, ',');
        json_add_string(&w->names, columns->list[i].name);
        buf_add_byte(&w->names, ':');
        w->name_ends[i + 1] = w->names.len;
    }
    ensure(buf_room(&w->names, NAME_STEP));
    memset(w->names.p + w->names.len, 0, NAME_STEP);
    return w;
}

void row_writer_free(struct row_writer *w)
{
    buf_fini(&w->names);
    free(w->name_ends);
    free(w);
}

static void add_name(struct buf *out, const uint8_t *name, size_t n)
{
    uint8_t *to = buf_room(out, n + NAME_STEP);

    if (!to)
        return;
    for (size_t i = 0; i < n; i += NAME_STEP)
        memcpy(to + i, name + i, NAME_STEP);
    out->len += n;
}

bool row_write(const struct row_writer *w, const struct slice *cells, struct buf *out,
               struct json_counts *counts, struct err *err)
{
    size_t start = out->len;
    bool first = true;

    buf_add_byte(out, '{');
    for (uint16_t i = 0; i < w->columns->count; i++) {
        const struct column *column = &w->columns->list[i];
        size_t name_start = w->name_ends[i] + first; /* the first one without its comma */

        if (value_is_null(column->type, cells[i]))
            continue;
        first = false;
        add_name(out, w->names.p + name_start, w->name_ends[i + 1] - name_start);
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
