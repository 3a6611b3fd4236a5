/*
 * mapping/row.h - the document of a row when there is no mapping file: every column under its own
 * name.
 *
 * Null cells are left out; values are in the default forms (mapping/json.h). Compiled once,
 * immutable, shared by threads.
 */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "mapping/json.h"
#include "model/row.h"

struct row_writer;

/* `columns` is borrowed. */
struct row_writer *row_writer_new(const struct columns *columns);
void row_writer_free(struct row_writer *w);
AUTO_DEFINE(row_writer);
/* Appends {"name":value,...}. False: ERR_REJECT naming the column, and `out` is cut back. */
bool row_write(const struct row_writer *w, const struct slice *cells, struct buf *out,
               struct json_counts *counts, struct err *err);
