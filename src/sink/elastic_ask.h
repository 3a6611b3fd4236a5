/*
 * sink/elastic_ask.h - what a check wants to know of a search server, beside what writing needs,
 * and the one thing that is noted there.
 *
 * Threads and errors: as sink/elastic.h. Source: protocols section 4.
 */
#pragma once
#include "sink/elastic.h"

/* Which index it is, and what it was made for. */
struct elastic_origin {
    char name[256];      /* the one behind an alias */
    char uuid[64];       /* another one when it is made anew; where it is hidden: the name */
    char versioning[16]; /* _meta.cass2es.versioning; "": not said */
};
/* In one request that wants no right but to look at the index. */
bool elastic_index_origin(struct elastic *e, const char *name, struct elastic_origin *out,
                          struct err *err);
/* Adds to the mapping; _meta is replaced whole. Wants the right to change it. */
bool elastic_index_put_mapping(struct elastic *e, const char *name, struct slice body,
                               struct err *err);
/* The whole mapping, `dynamic` and all; NULL: it has none. Lives in mem. */
bool elastic_index_mappings(struct elastic *e, const char *name, struct arena *mem,
                            const struct json **mappings, struct err *err);

enum elastic_right {
    ELASTIC_RIGHT_UNKNOWN /* no security here, or it does not tell */,
    ELASTIC_RIGHT_YES,
    ELASTIC_RIGHT_NO
};
/* May this log-in look at and write the index. */
bool elastic_may_write(struct elastic *e, const char *name, enum elastic_right *out,
                       struct err *err);

/* Of the fullest data node and of all; 0: not told. */
struct elastic_disk {
    char node[64];                    /* with the least room */
    uint64_t free_bytes, total_bytes; /* of that node */
    uint64_t free_everywhere_bytes;
    unsigned nodes;
};
bool elastic_disk(struct elastic *e, struct elastic_disk *out, struct err *err);

/* Documents in the index, and their bytes (primaries). */
struct elastic_size {
    uint64_t docs, bytes;
};
bool elastic_index_size(struct elastic *e, const char *name, struct elastic_size *out,
                        struct err *err);
