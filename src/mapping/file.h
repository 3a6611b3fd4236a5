/*
 * mapping/file.h - a mapping file: what one document type is made of, as data.
 *
 * YAML is read into a tree that knows line and column, then into struct mapping. Every mistake is
 * one line: "FILE:LINE:COLUMN: what; what is allowed or near". Words of the vocabulary that come
 * later are refused as "not supported yet". The only home of the YAML library besides config.
 * Threads: a mapping is an immutable value. Source: DESIGN 4, data model section 6.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/schema.h"

/* Where something was written. */
struct place {
    uint32_t line; /* from 1; 0: nowhere */
    uint32_t column;
    const char *path; /* of the file: the mapping, or what it extends; NULL: the mapping */
};

struct mapping_name {
    const char *name;
    struct place at;
};

struct mapping_names {
    const struct mapping_name *list;
    size_t count;
};

/* column -> field, or field -> field */
struct mapping_pair {
    struct mapping_name from;
    struct mapping_name to;
};

struct mapping_pairs {
    const struct mapping_pair *list;
    size_t count;
};

/* What to do where a value can't be had. */
enum mapping_otherwise_kind { OTHERWISE_FAIL, OTHERWISE_OMIT, OTHERWISE_VALUE };

struct mapping_otherwise {
    enum mapping_otherwise_kind kind;
    const char *json; /* OTHERWISE_VALUE: as JSON text */
    bool said;        /* it is in the file */
};

/* A field, and the values that it may have (as JSON texts). */
struct mapping_condition {
    struct mapping_name field;
    const char *const *values;
    size_t value_count;
};

struct mapping_conditions {
    const struct mapping_condition *list;
    size_t count;
};

struct mapping_steps {
    const struct mapping_step *list;
    size_t count;
};

/* Rows of another table (children, first, only), or of the partition (rows). */
struct mapping_rows {
    struct mapping_name keyspace; /* name NULL: the source's */
    struct mapping_name table;    /* rows: name NULL */
    struct mapping_pairs by;      /* column, template; rows: none */
    struct mapping_conditions where;
    struct mapping_names columns; /* empty: all */
    struct mapping_pairs rename;
    struct mapping_steps each;
    struct mapping_otherwise missing; /* first, only */
};

/* One row of another table by its whole key, one column of it (lookup, and the table of
 * bit_flags). */
struct mapping_lookup {
    struct mapping_name keyspace; /* name NULL: the source's */
    struct mapping_name table;
    struct mapping_pairs key; /* column, template */
    struct mapping_name take;
    struct mapping_otherwise missing;
};

enum mapping_step_kind {
    STEP_COPY,
    STEP_CONST,
    STEP_DROP,
    STEP_DEFAULT,
    STEP_PARSE_JSON,
    STEP_PARSE_JSON_VALUES,
    STEP_TO_JSON,
    STEP_LOOKUP,
    STEP_CHILDREN,
    STEP_FIRST,
    STEP_ONLY,
    STEP_FLAG,
    STEP_BIT_FLAGS,
    STEP_CONCAT,
    STEP_CAST,
    STEP_SPLIT,
    STEP_LOWER,
    STEP_UPPER,
};

enum mapping_json_kind { JSON_OF_ANY, JSON_OF_ARRAY, JSON_OF_OBJECT };
enum mapping_compare { COMPARE_GE, COMPARE_GT, COMPARE_LE, COMPARE_LT, COMPARE_EQ };
enum mapping_cast { CAST_STRING, CAST_INTEGER, CAST_NUMBER, CAST_BOOLEAN };

/* A step with several pairs or names in the file is one of these for each of them. */
struct mapping_step {
    enum mapping_step_kind kind;
    struct mapping_name field; /* written, or removed (drop) */
    struct mapping_name from;  /* what it is made of: a field; STEP_COPY: or "_id". Never NULL where
                                  a step reads one: the field itself when the file does not say */
    const char *json;          /* STEP_CONST, STEP_DEFAULT: the value as JSON text */
    union {
        struct { /* STEP_PARSE_JSON, STEP_PARSE_JSON_VALUES */
            enum mapping_json_kind as;
            struct mapping_otherwise blank, bad;
            struct mapping_names keys; /* _VALUES: only these; empty: all */
            bool omit_empty;           /* _VALUES */
        } parse;
        struct mapping_lookup lookup;
        struct mapping_rows *rows; /* STEP_CHILDREN, STEP_FIRST, STEP_ONLY */
        struct {                   /* STEP_FLAG */
            enum mapping_compare compare;
            const char *with;                 /* as JSON text */
            struct mapping_otherwise if_null; /* OTHERWISE_OMIT: absent */
        } flag;
        struct { /* STEP_BIT_FLAGS */
            struct mapping_lookup config;
            const char *path, *value, *names;
        } bits;
        struct { /* STEP_CONCAT */
            struct mapping_names of;
            const char *with;
        } concat;
        struct { /* STEP_CAST */
            enum mapping_cast to;
            struct mapping_otherwise bad;
        } cast;
        struct { /* STEP_SPLIT */
            const char *by;
            bool no_trim, keep_empty;
        } split;
    };
};

/* How a field is written, where it differs from the mapping's default. */
struct mapping_null_rule {
    struct mapping_name field;
    bool omit;
};

struct mapping_time_rule {
    struct mapping_name field;
    bool epoch_ms;       /* else: */
    const char *pattern; /* NULL: ISO 8601, UTC, ms */
    const char *zone;    /* IANA name; NULL: UTC */
};

/* DESIGN 3.3 */
enum mapping_versioning {
    VERSIONING_READ_TIME, /* the time of reading; cass2es is the only writer */
    VERSIONING_SEQUENCE,  /* conditional writes; others write, too */
    VERSIONING_WRITE_TIME,
    VERSIONING_NONE,
};

struct mapping {
    struct arena mem;
    const char *path;
    uint64_t content;   /* a hash of the file's bytes, and of all that it takes in; 0: of no file */
    const char *object; /* its name: the object type */
    struct place object_at;

    struct mapping_name keyspace; /* name NULL: found by the table's name */
    struct mapping_name table;
    struct mapping_names
        key; /* columns of the primary key, as the mapping believes them; may be empty */
    struct mapping_names columns;  /* that fields are made of: names, writetime(c), ttl(c),
                                      maxwritetime(c); empty: every column */
    struct mapping_names read_too; /* columns that are read, too, and are no fields for that */
    struct mapping_names
        select; /* the columns that a string id is a value of, in order; may be empty: the
                   whole primary key when it is one column, else the partition key */
    struct mapping_name index;      /* name NULL: a file, where fields may have any name */
    struct mapping_name type;       /* of Elasticsearch 6; name NULL: _doc */
    struct mapping_name routing;    /* template like id, of any column; name NULL: none */
    struct mapping_name pipeline;   /* of ingest; name NULL: none */
    struct mapping_name definition; /* path of a JSON file that makes the index; name NULL: none */
    struct mapping_name id; /* template such as "{batchId}_{userId}"; name NULL: the default _id */
    struct mapping_pairs rename;
    struct mapping_conditions where; /* rows that are documents; on fields after rename */
    struct mapping_name rows_field;  /* rows of a partition as an array; name NULL: a row each */
    struct mapping_rows *rows;       /* of it; NULL likewise */
    const struct mapping_null_rule *null_rules;
    size_t null_rule_count;
    const struct mapping_time_rule *time_rules;
    size_t time_rule_count;
    bool epoch_ms; /* timestamps without a rule of their own: numbers */
    bool omit_nulls;
    bool omit_empty_collections; /* empty_collections: omit; keep writes [] and {} for null, too */
    bool empty_said; /* empty_collections is in the file; else null collections follow nulls */
    const struct mapping_step *steps; /* in written order */
    size_t step_count;
    struct mapping_names preserve;
    bool preserve_all;
    enum mapping_versioning versioning;
    struct place versioning_at;
};

/* Every column under its own name, null cells left out, the default _id, by time of reading. Its
 * path is "": it comes from no file. `s` and `index` are copied from; index NULL: for a
 * file. */
struct mapping *mapping_default(const struct schema *s, const char *index);
/* Only these columns, for a mapping of no file. ERR_USER: one twice. */
bool mapping_set_columns(struct mapping *m, const char *const *columns, struct err *err);
/* Of the table: rows come with it, for conditions on them. False: no memory (ERR_SYSTEM). */
bool mapping_read_too(struct mapping *m, const char *column, struct err *err);
/* The mode's word in a mapping file. */
const char *mapping_versioning_word(enum mapping_versioning v);
bool mapping_versioning_named(const char *word, enum mapping_versioning *out);
/* Reads a file; rename files are looked for beside it. NULL with ERR_USER. */
struct mapping *mapping_load(const char *path, struct err *err);
/* The same from memory: `path` is for messages and for where rename files are. For tests and
 * fuzzing. */
struct mapping *mapping_parse(struct slice text, const char *path, struct err *err);
void mapping_free(struct mapping *m);
AUTO_DEFINE(mapping);

/* "path:line:column: " and the words, as ERR_USER. Always false. */
bool mapping_error(const struct mapping *m, struct place at, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
