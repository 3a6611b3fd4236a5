/*
 * source/scan.h - the rows of a table, range by range, so that every row comes once.
 *
 * A plan says what is read of which table; a task is one token range, perhaps entered in the
 * middle; an open scan yields its pages with what may be marked as done once a page's rows are
 * safe. Marks are token intervals: all partitions up to `done_to` are complete. Where a page ends
 * inside a partition the cursor's paging state tells how to go on exactly behind the last row, in
 * this process or another.
 *
 * Conditions on rows (source/where.h) are the server's where it takes them; the others are for the
 * owner of the page to ask for, row by row: scan_wants().
 *
 * Threads: the plan is shared, and immutable once it has been asked; a scan belongs to one worker
 * and its session.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "cql/cql.h"
#include "model/schema.h"
#include "model/select.h"
#include "source/where.h"

struct scan_plan {
    const struct schema *schema; /* outlives the plan */
    uint16_t column_count;
    uint16_t own_count;     /* of these, what is read without regard to conditions */
    struct select *columns; /* in the order of the result: those wanted, then the plan's own */
    uint16_t *key_cells;    /* where in the result the partition key's columns are, in key order */
    bool partitions_only;   /* SELECT DISTINCT: one row per partition */
    char *text;             /* the prepared statement: two bind markers, the range's ends, then
                               those of conditions */
    const struct where *where; /* outlives the plan; NULL: none */
    bool *is_pushed;           /* of its conditions */
    uint16_t *where_cells;     /* where in the result the column of one that is not pushed is */
    size_t pushed_count;
    size_t here_count;    /* not pushed */
    struct slice *values; /* of those pushed */
    uint16_t value_count;
    enum cql_consistency consistency; /* 0: the cluster's */
    uint32_t most_rows;               /* of any page; 0: as many as its bytes allow */
    /* Whoever takes a page says its last row by scan_last_row(), which saves a walk through every
     * page. Until then its done_to is that of the page before. */
    bool last_is_told;
};

/*
 * Columns to read, as indexes into the schema; the partition key is added behind them where it is
 * missing. When all wanted columns belong to the partition key only partitions are read.
 */
void scan_plan_init(struct scan_plan *p, const struct schema *schema, const uint16_t *columns,
                    uint16_t count);
/* The same of functions, too, and with conditions on the rows, of which none is pushed yet; their
 * columns are added. */
void scan_plan_select(struct scan_plan *p, const struct schema *schema,
                      const struct select *columns, uint16_t count, const struct where *where);
/*
 * Asks the server, once, which conditions it takes beside the range: all, else one by one. The
 * statement is prepared, and runs over next to nothing. Does nothing where there is no condition.
 *   err  ERR_RETRY, ERR_REACH, ERR_CANCEL, ERR_SYSTEM: as cql_pager_next(); ERR_USER: it takes the
 * statement in no form
 */
bool scan_plan_ask(struct scan_plan *p, struct cql_session *s, struct err *err);
void scan_plan_fini(struct scan_plan *p);

bool scan_plan_holds(const struct scan_plan *p, const struct slice *cells);
/* Does the row fulfil what the server did not look at. False: the row is filtered. */
static inline bool scan_wants(const struct scan_plan *p, const struct slice *cells)
{
    return !p->here_count || scan_plan_holds(p, cells);
}

/* How many rows of a page scan_wants() wants. cells: column_count of them. False: bytes are
 * missing. */
bool scan_count_wanted(const struct scan_plan *p, const struct page *page, struct slice *cells,
                       uint64_t *out, struct err *err);
/* Are these the columns that the plan asks for, of the types that it was made for. */
bool scan_fits(const struct scan_plan *p, const struct columns *c);

struct scan_task {
    struct token_range range;
    int64_t done_to;    /* rows up to here are not wanted again; range.start for a fresh one */
    struct slice state; /* goes on here instead (borrowed); null: behind done_to */
};

struct scan;
struct scan_page {
    struct page page;
    int64_t done_to; /* partitions complete up to here, within the range */
    bool inside; /* the page ended, or may have ended, inside a partition: `state` is needed to go
                    on exactly */
    struct slice
        state; /* paging state behind this page; null at the end; valid until the next call */
    bool last;
    struct scan *scan; /* that it is from */
};

/*
 *   target_bytes  how large a page should be
 *   first_rows    of the first page; 0: 50 (nothing known)
 *   most_rows     of any page, from scan_most_rows() of a scan before; 0: nothing known
 */
struct scan *scan_open(struct cql_session *s, const struct scan_plan *plan,
                       const struct scan_task *task, uint32_t target_bytes, uint32_t first_rows,
                       uint32_t most_rows, struct err *err);
void scan_free(struct scan *s);
AUTO_DEFINE(scan);
/* One page at a time: the next is not read ahead, as it is by default. */
void scan_set_alone(struct scan *s, bool alone);
/* Gives back the memory of the page given last, which ends with it; so scan_ended_whole() can't
 * tell any more. */
void scan_trim(struct scan *s);
/* The last row of the page that scan_next() gave last (plan.last_is_told): makes done_to and
 * inside.
 */
void scan_last_row(struct scan *s, const struct slice *cells);
/* After scan_next() failed: was the row that came last its partition's last one. Reads that
 * partition once more; false also where that can't be told. */
bool scan_ended_whole(struct scan *s);
/* False at the end (ERR_NONE) or on error; after ERR_RETRY the next call goes on behind the last
 * page, and asks for a smaller one: it may have been too much. */
bool scan_next(struct scan *s, struct scan_page *out, struct err *err);
/* Bytes per row seen so far, to size the first page of the next range; 0: none seen. */
uint32_t scan_row_bytes(const struct scan *s);
/* Rows a page may have: few after pages that did not come, then slowly more again. */
uint32_t scan_most_rows(const struct scan *s);
