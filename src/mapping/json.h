/*
 * mapping/json.h - cells to JSON, in the default forms of every type.
 *
 * text, ascii, uuid, timeuuid, inet: string. Whole numbers, counter: number. float, double: the
 * shortest number that gives the same value back in the column's width (with a point or an
 * exponent, so that a whole one is not taken for an integer). varint, decimal: string with every
 * digit (a decimal of more than 40: scientific). timestamp: 2024-02-29T12:34:56.789Z. date:
 * 2024-02-29. time: 12:34:56.123456789. duration: ISO 8601, -P1Y2M3DT4H5M6.7S. blob, unknown
 * custom types: base64. list, set, vector: array; tuple: array with nulls in place; map: object;
 * UDT: object without null fields. Zero-length cells of types that have no empty value: null.
 *
 * Pure; no allocation but `out` growing. Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/type.h"

/* Values that could not be written as they are, by reason. */
struct json_counts {
    uint64_t nan_to_null;       /* NaN, +-Infinity */
    uint64_t bad_utf8;          /* texts in which U+FFFD stands for bytes that are not UTF-8 */
    uint64_t year_out_of_range; /* timestamps outside years 0-9999, written with a signed year */
    uint64_t bad_json;          /* texts that are no JSON, replaced as the mapping says */
    uint64_t lookup_missing; /* rows of other tables that are not there; no alteration: see sum */
};
/* All but lookup_missing: values that are not as they are in the row. */
uint64_t json_counts_sum(const struct json_counts *c);
void json_counts_add(struct json_counts *to, const struct json_counts *more);

/*
 * Appends the cell's JSON; a null cell is "null".
 *   out     may become `full`: the caller looks, and cuts back
 *   counts  added to (also when the caller then cuts `out` back)
 *   err     ERR_REJECT, names the type: bytes that can't be its value; `out` is as before
 */
bool json_cell(struct buf *out, const struct type *t, struct slice cell, struct json_counts *counts,
               struct err *err);

/*
 * The same for a column's cells one after the other, which are neither null nor of a length that
 * stands for null. False: the bytes can't be its value; json_cell() says what is wrong, and `out`
 * has to be cut back.
 */
struct json_writer {
    bool (*write)(struct buf *out, const struct type *t, struct slice cell,
                  struct json_counts *counts);
};
struct json_writer json_writer_of(const struct type *t);

/*
 * Appends the cell as plain text, for ids and lines of files: that of json_cell() without quotes
 * and escapes; NaN and Infinity by name; a null cell is no text at all.
 *   err  as json_cell(); also for a text that is not UTF-8: an id is not altered
 */
bool json_cell_text(struct buf *out, const struct type *t, struct slice cell, struct err *err);
