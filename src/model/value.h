/*
 * model/value.h - cells to C values, one function per type. Pure.
 *
 * Forms: native_protocol_v5.spec section 5 (and for vectors: elements of fixed size stand side by
 * side, others have an unsigned vint length in front). A zero-length cell of a type that has no
 * empty value is null: value_is_null() says so. Functions return false when the bytes can't be the
 * type.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "model/type.h"

/* Null, or a zero-length cell of a type other than text, ascii, blob, custom. */
static inline bool value_is_null(const struct type *t, struct slice cell)
{
    return !cell.p || (cell.n == 0 && t->kind != TYPE_TEXT && t->kind != TYPE_ASCII &&
                       t->kind != TYPE_BLOB && t->kind != TYPE_CUSTOM);
}
/* tinyint, smallint, int, bigint, counter, timestamp (ms), time (ns): sign-extended. */
bool value_int(struct slice cell, int64_t *out);
bool value_double(struct slice cell, double *out);
bool value_float(struct slice cell, float *out);
bool value_bool(struct slice cell, bool *out);
/* Days since 1970-01-01. */
bool value_date(struct slice cell, int64_t *days);
/* "scale" and the varint behind it; value = unscaled x 10^-scale. */
bool value_decimal(struct slice cell, int32_t *scale, struct slice *unscaled);
bool value_duration(struct slice cell, int64_t *months, int64_t *days, int64_t *nanos);
/* Unsigned and zigzag vints off the front (native_protocol_v5.spec 3: [vint]). */
bool take_vint(struct slice *in, int64_t *out);
bool take_uvint(struct slice *in, uint64_t *out);

/* Elements of list, set, vector; keys and values of a map; fields of a tuple or UDT, in order. */
struct value_cursor {
    const struct type *type;
    struct slice rest;
    uint32_t left;  /* elements (of a map: keys and values) still to come */
    uint32_t index; /* of the element that came last, from 0 */
};

bool value_open(const struct type *t, struct slice cell, struct value_cursor *out);
/* False at the end or on bad bytes; `bad` tells them apart. A missing tail of a tuple or UDT reads
 * as nulls. */
bool value_next(struct value_cursor *c, const struct type **type, struct slice *element, bool *bad);

/* Reads text such as an id from outside as a key cell of type t, appended to b (no length in
 * front). Takes text, ascii, int types, counter, uuid, timeuuid, boolean, timestamp (ISO 8601 or
 * ms), date, time, inet, varint, decimal, float, double, blob (0x hex or base64 as we write it).
 * False with err (ERR_REJECT, says what is wanted) else. */
struct err;
bool value_from_text(const struct type *t, struct slice text, struct buf *b, struct err *err);
