/* Bodies of answers: results with their rows down to JSON, errors, events. */
#include "base/json.h"
#include "cql/codec.h"
#include "mapping/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every cell of a page: refused, or JSON that parses. */
static void walk(const struct codec_result *r, struct arena *mem)
{
    struct page page = {.columns = r->meta.columns, .row_count = r->row_count, .rows = r->rows};
    struct slice *cells = arena_alloc(mem, (page.columns->count + (size_t)1) * sizeof *cells);
    struct row_cursor c = page_rows(&page);
    struct json_counts counts = {0};
    struct err err = {0};
    struct buf out;

    ensure(cells);
    buf_init(&out, 1 << 16);
    while (row_next(&c, cells, &err)) {
        for (uint16_t i = 0; i < page.columns->count; i++) {
            buf_reset(&out);
            if (!json_cell(&out, page.columns->list[i].type, cells[i], &counts, &err)) {
                ensure(err.kind == ERR_REJECT && out.len == 0);
            } else if (!out.full) {
                struct arena tree;
                arena_init(&tree, 16 << 20);
                ensure(json_parse(buf_slice(&out), &tree, &err));
                arena_fini(&tree);
            }
        }
        err_clear(&err);
    }
    ensure(err.kind == ERR_NONE || err.kind == ERR_RETRY);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct arena mem;
    struct err err = {0};
    uint8_t how;
    struct codec_result r;
    struct codec_error e;
    struct codec_event event;

    if (!take_u8(&in, &how))
        return 0;
    uint8_t version = how & 1 ? 5 : 4;
    bool ok = true;
    arena_init(&mem, 32 << 20);
    switch (how >> 1 & 3) {
    case 0:
        ok = codec_read_result(in, version, &mem, &r, &err);
        if (ok && r.kind == CODEC_ROWS && r.meta.columns)
            walk(&r, &mem);
        break;
    case 1:
        ok = codec_read_error(in, version, &mem, &e, &err);
        if (ok) {
            codec_error_set(&e, &err);
            ensure(err.kind == e.kind && strlen(err.text) < sizeof err.text);
        }
        break;
    default:
        ok = codec_read_event(in, &event, &err);
        break;
    }
    if (!ok)
        ensure(err.kind == ERR_RETRY || err.kind == ERR_SYSTEM);
    arena_fini(&mem);
    return 0;
}
