/*
 * mapping/define.h - what `init` writes: a mapping file and an index definition for a live table.
 *
 * The mapping is the one that is used without a file, spelt out for editing. The definition names
 * for every column the field type that takes all its values without loss. Pure. Threads: any.
 */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "model/schema.h"

/* Mapping file for the table (YAML, with comments). Columns that Elasticsearch refuses as they are
 * get a rename. */
void define_mapping(const struct schema *s, const char *index, struct buf *out);

struct define_server {
    int major;
    bool opensearch;
};

/*
 * Settings and mappings of an index (JSON, indented). Its versioning is the mapping's, and comes
 * with definition_write().
 *   type  of Elasticsearch 6, which wants one around the properties; else NULL
 */
void define_index(const struct schema *s, const struct define_server *server, const char *type,
                  struct buf *out);
