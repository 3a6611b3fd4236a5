/* Cells of any type: refused, or JSON that parses; texts of key types are read back as the value.
 */
#include "base/json.h"
#include "base/text.h"
#include "cql/type.h"
#include "mapping/json.h"
#include "model/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where a text does not lead back, for reasons that value.h tells. */
static bool leads_back(const struct type *t, struct slice cell, struct slice text)
{
    switch (t->kind) {
    case TYPE_TEXT:
    case TYPE_VARINT:
    case TYPE_DECIMAL:
        return cell.n < 4000;
    case TYPE_ASCII:
        for (size_t i = 0; i < cell.n; i++) {
            if (cell.p[i] >= 0x80)
                return false;
        }
        return cell.n < 4000;
    case TYPE_TIMEUUID:
        return cell.p[6] >> 4 == 1;
    case TYPE_BLOB: /* base64 that could be hex */
        return cell.n < 4000 && !(text.n > 1 && text.p[0] == '0' && text.p[1] == 'x');
    case TYPE_INET: /* an address that Cassandra keeps in 4 bytes */
        return cell.n == 4 || !memmem(text.p, text.n, "::ffff:", 7);
    case TYPE_TINYINT:
    case TYPE_SMALLINT:
    case TYPE_INT:
    case TYPE_BIGINT:
    case TYPE_COUNTER:
    case TYPE_UUID:
    case TYPE_BOOLEAN:
    case TYPE_TIMESTAMP:
    case TYPE_DATE:
    case TYPE_TIME:
    case TYPE_DOUBLE:
    case TYPE_FLOAT:
        return true;
    default:
        return false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice cell = slice_of(data, size);
    struct json_counts counts = {0};
    const struct type *t;
    struct arena mem;
    struct err err = {0};
    struct buf out, text, again, key;

    arena_init(&mem, 32 << 20);
    if (!type_take_option(&cell, &mem, &t, &err)) {
        arena_fini(&mem);
        return 0;
    }
    buf_init(&out, 1 << 18);
    buf_init(&text, 1 << 18);
    buf_init(&again, 1 << 18);
    buf_init(&key, 1 << 18);
    bool ok = json_cell(&out, t, cell, &counts, &err);
    if (!ok)
        ensure(err.kind == ERR_REJECT && out.len == 0);
    if (ok && !out.full) {
        const struct json *parsed = json_parse(buf_slice(&out), &mem, &err);
        ensure(parsed);
        if (t->kind == TYPE_TEXT && utf8_valid(cell))
            ensure(slice_eq(parsed->text, cell));
        ensure(json_cell_text(&text, t, cell, &err) || counts.bad_utf8 || t->arg_count);
        if (!value_is_null(t, cell) && !counts.bad_utf8 && leads_back(t, cell, buf_slice(&text))) {
            ensure(value_from_text(t, buf_slice(&text), &key, &err));
            ensure(json_cell_text(&again, t, buf_slice(&key), &err));
            ensure(slice_eq(buf_slice(&again), buf_slice(&text)));
        }
    }
    /* Any text as a key of this type: refused, or a cell that is written without complaint. */
    buf_reset(&key);
    buf_reset(&out);
    if (value_from_text(t, cell, &key, &err) && key.len)
        ensure(json_cell(&out, t, buf_slice(&key), &counts, &err));
    buf_fini(&out);
    buf_fini(&text);
    buf_fini(&again);
    buf_fini(&key);
    arena_fini(&mem);
    return 0;
}
