/*
 * model/schema.h - what a table is made of (system_schema, read by cql).
 *
 * A schema is an immutable value in one block; free it once. Threads: shared freely.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "model/type.h"

enum column_kind { COLUMN_PARTITION_KEY, COLUMN_CLUSTERING, COLUMN_STATIC, COLUMN_REGULAR };

struct schema_column {
    const char *name; /* unquoted, case kept */
    enum column_kind kind;
    int position; /* within its kind; -1 for static and regular */
    bool descending;
    const struct type *type;
    const char *type_text; /* CQL, as the server wrote it */
};

struct schema {
    struct arena mem;
    const char *keyspace;
    const char *table;
    uint16_t column_count;
    uint16_t partition_key_count; /* they come first in `columns`, in key order */
    uint16_t clustering_count;    /* they follow, in key order; then static, then regular by name */
    struct schema_column *columns;
    bool counter;
    bool partitions; /* its rows are the partitions of a table: see schema_partitions() */
};

struct schema *schema_new(void);
void schema_free(struct schema *s);
/* The table as if it had a row for each partition: partition key and static columns, read by SELECT
 * DISTINCT. Borrows from `s`. */
struct schema *schema_partitions(const struct schema *s);
AUTO_DEFINE(schema);
/* Exact name first, then the same without regard to case; -1 when there is none. */
int schema_find(const struct schema *s, struct slice name);
/* "ks"."table" with quotes doubled. */
void schema_add_name(struct buf *b, const struct schema *s);
/* A quoted identifier. */
void schema_add_quoted(struct buf *b, const char *name);
