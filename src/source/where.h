/*
 * source/where.h - conditions on rows, as text: a = 1 AND b IN ('x', 'y') AND tags CONTAINS 'q'.
 *
 *   name = != < <= > >= value      name IN (value, ...)      name IS [NOT] NULL
 *   name CONTAINS value            name CONTAINS KEY value   joined by AND; there is no OR
 *
 * A name is a column, in double quotes where CQL wants them; a value is a number, a uuid, true,
 * false, 0x bytes, or text between single quotes ('' is one quote), and is read as the column's
 * type. Values compare as Cassandra orders them; a null cell fulfils nothing but IS NULL.
 *
 * Pure. Threads: a where is immutable once parsed.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/schema.h"

enum where_op {
    WHERE_EQ,
    WHERE_NE,
    WHERE_LT,
    WHERE_LE,
    WHERE_GT,
    WHERE_GE,
    WHERE_IN,
    WHERE_CONTAINS,
    WHERE_CONTAINS_KEY,
    WHERE_NULL,
    WHERE_NOT_NULL,
};

struct where_condition {
    uint16_t column; /* index into the schema */
    enum where_op op;
    const struct type *column_type;
    const struct type *type; /* of the values */
    uint32_t value_count;
    struct slice *values; /* as the server takes them */
};

struct where {
    struct arena mem;
    size_t count;
    struct where_condition *list;
};

/* NULL: ERR_USER, "at character 9: ...". The schema outlives the result. */
struct where *where_parse(const struct schema *s, struct slice text, struct err *err);
void where_free(struct where *w);
AUTO_DEFINE(where);

/* Does a cell of the condition's column fulfil it. */
bool where_holds(const struct where_condition *c, struct slice cell);
/* Is there CQL for it. */
bool where_has_cql(const struct where_condition *c);
/* As CQL, with "?" for its values. */
void where_add_cql(struct buf *b, const struct schema *s, const struct where_condition *c);
