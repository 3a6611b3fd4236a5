#include "engine/job_parts.h"

#include <stdlib.h>

#include "base/text.h"

void batch_init(struct id_batch *b)
{
    *b = (struct id_batch){0};
    buf_init(&b->text, 64 << 20);
    buf_init(&b->part, ID_MAX_BYTES);
    buf_init(&b->csv, ID_MAX_BYTES);
}

void batch_fini(struct id_batch *b)
{
    buf_fini(&b->text);
    buf_fini(&b->part);
    buf_fini(&b->csv);
    free(b->ends);
    free(b->slices);
}

void batch_end_id(struct id_batch *b)
{
    if (b->count == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 256;
        b->ends = xrealloc(b->ends, b->cap * sizeof *b->ends);
        b->slices = xrealloc(b->slices, b->cap * sizeof *b->slices);
    }
    b->ends[b->count++] = b->text.len;
}

const struct slice *batch_slices(struct id_batch *b)
{
    size_t start = 0;

    for (size_t i = 0; i < b->count; i++) {
        b->slices[i] = slice_of(b->text.p + start, b->ends[i] - start);
        start = b->ends[i];
    }
    return b->slices;
}

void batch_reset(struct id_batch *b)
{
    buf_reset(&b->text);
    b->count = 0;
}

void batch_add_parts(struct job *j, struct id_batch *b, const struct slice *parts, size_t count)
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
    } else { /* several columns as one string: the line that syncIds.csv would have */
        buf_reset(&b->csv);
        for (size_t i = 0; i < count; i++) {
            if (i)
                buf_add_byte(&b->csv, ',');
            csv_add_field(&b->csv, parts[i]);
        }
        json_add_string(&b->text, buf_slice(&b->csv));
    }
    batch_end_id(b);
}
