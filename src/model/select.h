/*
 * model/select.h - what a statement selects: a column, or a function of one.
 *
 * writetime(c): when the cell was written, in µs, as a number; ttl(c): seconds that it has left; of
 * a collection or UDT that is not frozen both are lists, an element each (Cassandra 5.0 on).
 * maxwritetime(c): the latest of those (5.0 on). Key columns and counters have none. A selection is
 * a small value. Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/schema.h"

enum select_what { SELECT_COLUMN, SELECT_WRITETIME, SELECT_TTL, SELECT_MAXWRITETIME };

struct select {
    uint16_t column; /* index into the schema */
    enum select_what what;
};

/*
 * Reads `name`, `"Name"` or `writetime(name)`; the function's name in any case, the column's as
 * schema_find(). False: ERR_USER, says what there is, or why the column has no such thing.
 */
bool select_parse(const struct schema *s, struct slice text, struct select *out, struct err *err);
/* As CQL. */
void select_add_text(struct buf *b, const struct schema *s, struct select which);
/* Type of the cells that come. Lives as long as the schema. */
const struct type *select_type(const struct schema *s, struct select which);
/* The one for the latest write of the column: maxwritetime() where it has a time per element.
 * False: it has none. */
bool select_last_write(const struct schema *s, uint16_t column, struct select *out);
static inline bool select_eq(struct select a, struct select b)
{
    return a.column == b.column && a.what == b.what;
}
