/*
 * model/row.h - a page: rows as they came, with the time they were read at.
 *
 * Rows are not unpacked in advance. A cursor walks the page's bytes once, filling one array of
 * cells per row. Threads: a page belongs to one worker.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/type.h"

struct column {
    struct slice keyspace;
    struct slice table;
    struct slice name; /* unquoted, case kept */
    const struct type *type;
};

struct columns {
    uint16_t count;
    struct column *list;
};

struct page {
    const struct columns *columns; /* of the statement; outlives the page */
    uint32_t row_count;
    struct slice rows;  /* row_count x columns->count x [bytes], native_protocol_v5.spec 4.2.5.2 */
    int64_t read_at_us; /* T: stamped before the request's bytes were sent (the page holds all
                           writes acknowledged before) */
    const char *node;   /* "10.0.0.3:9042", for messages; lives as long as the session */
    bool last;          /* no page follows */
    bool shape_changed; /* the columns differ from those prepared (a column was added or dropped) */
};

struct row_cursor {
    struct slice rest;
    uint32_t left;
    uint16_t columns;
};

struct row_cursor page_rows(const struct page *page);
/*
 * The next row's cells into `cells` (page->columns->count of them; a null cell has p == NULL).
 * False at the end, or, with err set (ERR_RETRY: drop the connection), when bytes are missing.
 */
bool row_next(struct row_cursor *c, struct slice *cells, struct err *err);
