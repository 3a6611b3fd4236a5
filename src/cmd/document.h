/*
 * cmd/document.h - a document type as a command uses it: mapping, live schema, plan.
 *
 * The mapping comes from a file, from a profile, or is made of the table itself. Threads: the main
 * thread alone; the plan may then be shared.
 */
#pragma once
#include "cmd/command.h"
#include "cql/cql.h"
#include "mapping/plan.h"
#include "source/sample.h"
#include "source/where.h"

struct document {
    struct mapping *mapping;
    struct schema *schema;
    struct schema **others; /* tables that the mapping's steps read */
    size_t other_count;
    struct plan *plan;
    bool rereads; /* set before: rows may be read again by their keys, and so the plan reads the
                     columns of conditions, too */
    struct where *where;  /* of --where; NULL: every row */
    struct sample sample; /* of --sample */
};

/*
 * For sync: by --mapping, or every column (those of --columns) of the table that is named; with
 * --where and --sample.
 *   index  of the default mapping; NULL: for a file
 */
bool document_open(struct document *d, const struct config *c, struct cql_cluster *cluster,
                   const char *index, struct err *err);

/* Reads the mapping: a file (.yaml, .yml), else a profile of mapping.profiles_dir. ERR_USER. */
bool document_load(struct document *d, const struct config *c, const char *name, struct err *err);
/* Finds the table, and compiles the plan against it. ERR_USER, or as cql_schema_load(). */
bool document_compile(struct document *d, const struct config *c, struct cql_cluster *cluster,
                      struct err *err);
/* The mapping names a type, and this server has none but _doc: Elasticsearch 7 and later. */
bool document_type_is_ignored(const struct document *d, const struct elastic_version *v);
/* An event, where it is. */
void document_warn_type(const struct document *d, const struct elastic_version *v);
/* Why no index can have this name, by Elasticsearch's rules; NULL: one may. */
const char *document_index_fault(const char *name);
/* There is no index of the plan's name, and what to do. ERR_USER; always false. */
bool document_no_index(const struct document *d, struct err *err);
void document_fini(struct document *d);
