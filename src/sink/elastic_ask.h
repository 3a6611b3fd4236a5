/*
 * sink/elastic_ask.h - what a check wants to know of a search server, beside what writing needs.
 *
 * Threads and errors: as sink/elastic.h. Source: protocols section 4.
 */
#pragma once
#include "sink/elastic.h"

enum { ELASTIC_UUID_BYTES = 64 };

/* Of an index, by its own name: another one when it is made anew. */
bool elastic_index_uuid(struct elastic *e, const char *name, char out[ELASTIC_UUID_BYTES],
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
