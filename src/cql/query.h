/*
 * cql/query.h - the client's own questions: several statements in one round trip.
 *
 * For system tables only: not prepared, consistency ONE, everything in one page. Threads: as the
 * connection. Source: native_protocol_v5.spec, 4.1.4.
 */
#pragma once
#include "cql/conn.h"

enum { QUERIES_MAX = 10 };

struct queries {
    struct conn *conn;
    int count;
    bool registered; /* one more call, behind the others */
    struct call calls[QUERIES_MAX + 1];
    struct arena mem; /* what the answers are parsed into */
};

void queries_init(struct queries *q, struct conn *c);
void queries_fini(struct queries *q);
/* REGISTER for all events. */
bool queries_register(struct queries *q, struct err *err);
/* The statement with its values ("?" in text) is number 0, 1, ... in the order of the calls. */
bool queries_add(struct queries *q, const char *text, const struct slice *values, uint16_t count,
                 struct err *err);
/* Sends all, waits for all. False when the connection fails; errors of single statements come out
 * of queries_rows(). */
bool queries_wait(struct queries *q, struct err *err);

/* A walk over one statement's rows, with cells by name of the column. */
struct rows {
    struct page page;
    struct row_cursor cursor;
    struct slice *cells;
};
bool queries_rows(struct queries *q, int number, struct rows *out, struct err *err);
/* False at the end (err: ERR_NONE) or on bad bytes. */
bool rows_next(struct rows *r, struct err *err);
/* Null when the cell is null or the server has no such column. */
struct slice rows_cell(const struct rows *r, const char *column);
