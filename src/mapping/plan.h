/*
 * mapping/plan.h - a mapping compiled against a live table: rows to documents, pure.
 *
 * Compiled once, immutable, shared by all workers: which columns to read, how an id becomes a key,
 * and for each field of the document how it is written straight from the row's bytes. What steps
 * compute is made in the caller's memory; what they want of other tables comes in rounds: each
 * round's keys are known from the rounds before. The same rows and plan give the same bytes.
 * Threads: shared freely; a struct plan_work is one worker's.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "mapping/fetched.h"
#include "mapping/file.h"
#include "mapping/json.h"
#include "model/row.h"
#include "model/schema.h"
#include "model/select.h"

struct plan;

/*
 * Both are borrowed: they outlive the plan. NULL with ERR_USER, "FILE:LINE:COLUMN: ..." for what
 * does not fit the table (a column that is not there, two columns of one name, an id that is not
 * made of key columns, a field that Elasticsearch refuses).
 */
struct plan *plan_compile(const struct mapping *m, const struct schema *s, struct err *err);

/* Schemas of other tables, which outlive the plan. find: NULL with err. */
struct plan_tables {
    const struct schema *(*find)(void *ctx, const char *keyspace, const char *table,
                                 struct err *err);
    void *ctx;
};
/* The same for a mapping with steps that read other tables. */
struct plan *plan_compile_with(const struct mapping *m, const struct schema *s,
                               const struct plan_tables *tables, struct err *err);
void plan_free(struct plan *p);
AUTO_DEFINE(plan);

const char *plan_object(const struct plan *p);
/* NULL: of a default mapping for a file. */
const char *plan_index(const struct plan *p);
const struct schema *plan_schema(const struct plan *p);
enum mapping_versioning plan_versioning(const struct plan *p);
/* Of the target; NULL: none. */
const char *plan_type(const struct plan *p);
const char *plan_pipeline(const struct plan *p);

/* The columns of the primary key, in key order: partition key first. */
uint16_t plan_key_count(const struct plan *p);
uint16_t plan_partition_count(const struct plan *p);

/* ---- what to read -----------------------------------------------------------------------------
 */

/* SELECT <primary key, columns of the document, then functions of columns and times of writing>
 * FROM "ks"."t" WHERE <whole primary key> = ? Valid as long as the plan. */
const char *plan_read_text(const struct plan *p);
/* Columns that plan_read_text() selects, primary key first. */
uint16_t plan_column_count(const struct plan *p);

/* The same of all rows with these first `bound` columns of the primary key, at least the partition
 * key; malloc'ed. */
char *plan_rows_text(const struct plan *p, uint16_t bound);
/* Does it read that column, of its own table or of another: for a key, a condition, an id or a
 * document. Times of writing that make a version don't count. */
bool plan_reads_column(const struct plan *p, const struct schema *s, uint16_t column);

/* The same, in the order of the cells: for a scan (source/scan.h). */
const struct select *plan_selects(const struct plan *p);
/* Their columns alone, as indexes into the schema. */
const uint16_t *plan_columns(const struct plan *p);

/* Are these the columns that it selects (or, fewer, those of the primary key), of the types that
 * the plan was compiled for. */
bool plan_fits(const struct plan *p, const struct columns *c);

/* SELECT <primary key> FROM ... WHERE <the first `bound` columns of the primary key> = ?, bound
 * being at least the partition key. */
const char *plan_keys_text(const struct plan *p, uint16_t bound);

/* ---- an id of the input -----------------------------------------------------------------------
 */

/* The key columns that a text id is a value of, as indexes into the schema. Without the partition
 * key every text id is a plan_query.scans. */
uint16_t plan_select_count(const struct plan *p);
uint16_t plan_select_column(const struct plan *p, uint16_t i);

/* A condition on the rows that were read. */
struct plan_filter {
    uint16_t cell;        /* index into the cells of plan_read_text() */
    uint32_t value_count; /* any of them */
    struct slice *values;
};

/* What an element of the ids asks for: `count` keys, each bound in its first `bound` columns; a
 * list of values in a filter becomes one key for each. */
struct plan_query {
    uint16_t bound; /* == plan_key_count(): whole keys */
    uint32_t count;
    struct slice *cells; /* count x bound */
    struct plan_filter *after;
    uint16_t after_count;
    bool scans;     /* the partition key is missing: no key (bound 0), only conditions */
    uint16_t lacks; /* then: the first column of the key without a value, as index of the schema */
};

/*
 *   id    a string, or an object of filters
 *   mem   the query lives there
 * False: ERR_REJECT when it is no id; `reason` gets a stable word (bad_id, empty_id, bad_value,
 * unknown_column, no_partition_key: {}, too_many_keys), err->text says more.
 */
bool plan_query(const struct plan *p, const struct json *id, struct arena *mem,
                struct plan_query *out, const char **reason, struct err *err);
bool plan_filter_holds(const struct plan_filter *f, const struct slice *cells);

/* ---- documents --------------------------------------------------------------------------------
 */

/* Appends the _id of the row with these key cells (plan_key_count() of them); where a clustering
 * column is null (a partition with static columns only) it is that of the partition key. False:
 * ERR_REJECT (a part that is no text, nothing at all, or over 512 bytes where the mapping says the
 * form). */
bool plan_id(const struct plan *p, const struct slice *key, struct buf *out, struct err *err);

/* The _id holds the whole primary key; else rows of a table may share one, and the last wins. */
bool plan_id_unique(const struct plan *p);

/* Is the _id copied into documents: plan_make() then wants it. */
bool plan_needs_id(const struct plan *p);

bool plan_has_routing(const struct plan *p);
/* The key alone decides it: cells of the key will do. Always so under sequence. */
bool plan_routing_by_key(const struct plan *p);
/* Appends the routing value of a row: plan_column_count() cells. False: ERR_REJECT. */
bool plan_routing(const struct plan *p, const struct slice *cells, struct buf *out,
                  struct err *err);

/* Under write_time: the latest write of the row's cells, in µs, never negative. False: ERR_REJECT,
 * no cell has one. */
bool plan_write_version(const struct plan *p, const struct slice *cells, int64_t *out,
                        struct err *err);

/* ---- documents --------------------------------------------------------------------------------
 *
 * for (level = 0; level < plan_levels(p); level++) {
 *     plan_need(p, level, cells, &fetched, &work);   for each row: after all of them were read
 *     ... all of `fetched` that is not filled is read, and filled
 * }
 * plan_make(p, cells, id, &fetched, &work, out, &counts, err);
 */

/* A statement on another table. */
struct plan_read {
    const char *text; /* SELECT ... WHERE <the first columns of the primary key> = ? */
    const struct schema *schema;
    uint16_t key_count; /* values, in the order of the primary key */
    bool by_partition;  /* they are the partition key, and all rows behind it are wanted: those of
                           many keys may come together, by a range of tokens */
    uint16_t select_count;
    const struct select *selects;
};

uint16_t plan_read_count(const struct plan *p);
const struct plan_read *plan_read_at(const struct plan *p, uint16_t read);
bool plan_read_fits(const struct plan *p, uint16_t read, const struct columns *c);
/* Rounds of reads; 0: a document is its row. */
uint16_t plan_levels(const struct plan *p);

struct plan_work {
    struct arena mem;
    struct buf text;
    const char *reason; /* of the last document that failed: a stable word */
};
void plan_work_init(struct plan_work *w, size_t max_bytes);
/* Gives all memory back; it may be used again. */
void plan_work_fini(struct plan_work *w);

/* Does the mapping make a document of this row (`where`). Always so without conditions. */
bool plan_has_where(const struct plan *p);
bool plan_holds(const struct plan *p, const struct slice *cells, struct plan_work *w);

/* Adds the keys of the round `level` (from 0) to `fetched`, where all before are filled. What fails
 * here fails in plan_make(), too. False: no room for them. */
bool plan_need(const struct plan *p, uint16_t level, const struct slice *cells, struct slice id,
               struct fetched *fetched, struct plan_work *w);

/* A reason that is none: the mapping's conditions leave nothing, there is no such document. */
#define PLAN_FILTERED "filtered"

/*
 * Appends the document of a row as compact JSON.
 *   cells    plan_column_count() of them, as plan_read_text() selects
 *   id       its _id, for copies of it
 *   fetched  rows of other tables: those that are not there are missing; may be NULL without levels
 *   counts   added to: values that were altered
 * False: ERR_REJECT (a value that can't be decoded: names the column), and `out` is cut back; it is
 * left `full` when it was too small. w->reason is bad_value, bad_json, lookup_missing, bad_key,
 * several_rows, bad_config, bad_cast, read_failed, document_too_large, or PLAN_FILTERED.
 */
bool plan_make(const struct plan *p, const struct slice *cells, struct slice id,
               struct fetched *fetched, struct plan_work *w, struct buf *out,
               struct json_counts *counts, struct err *err);

/* Is the field to be taken over from the stored document. Never one that the plan writes itself,
 * also where this row gives it no value. */
bool plan_preserves(const struct plan *p, struct slice field);
/* Are there any. */
bool plan_has_preserve(const struct plan *p);
