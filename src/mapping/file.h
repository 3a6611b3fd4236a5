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
    uint32_t line; /* from 1 */
    uint32_t column;
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

enum mapping_step_kind { STEP_COPY, STEP_CONST, STEP_DROP };

struct mapping_step {
    enum mapping_step_kind kind;
    struct mapping_name field; /* written (copy, const) or removed (drop) */
    struct mapping_name from;  /* STEP_COPY: a field, or "_id" */
    const char *json;          /* STEP_CONST: the value as JSON text */
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
    struct mapping_names columns; /* that fields are made of: names, writetime(c), ttl(c),
                                     maxwritetime(c); empty: every column */
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
