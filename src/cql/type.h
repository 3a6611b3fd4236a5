/*
 * cql/type.h - types as Cassandra writes them: [option] bytes, Java class text, CQL text.
 *
 * Parsed types live in the caller's arena; names of [option]s point into the given bytes where
 * possible, names of texts are copied. At most TYPE_DEPTH_MAX levels deep. Errors: ERR_RETRY for
 * bytes of a frame, ERR_REJECT for text; ERR_SYSTEM when the arena is full. Pure.
 * Spec: native_protocol_v5.spec, section 4.2.5.2 ([option]).
 */
#pragma once
#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "model/type.h"

enum { TYPE_DEPTH_MAX = 32 };

/* Takes an [option] off the front of `in`. Its slices (names) point into `in`'s bytes. */
bool type_take_option(struct slice *in, struct arena *mem, const struct type **out,
                      struct err *err);

/* Java class text ("org.apache.cassandra.db.marshal.VectorType(... , 3)"). A class that is not
 * known is TYPE_CUSTOM, not an error; false only when brackets and counts make no sense. */
bool type_parse_class(struct slice text, struct arena *mem, const struct type **out,
                      struct err *err);

/* Finds a user-defined type of the table's keyspace by its unquoted name; NULL: not known. */
struct type_lookup {
    const struct type *(*find)(void *ctx, struct slice name);
    void *ctx;
};

/* CQL text of system_schema: map<text, frozen<list<int>>>, "My Type", vector<float, 3>,
 * 'org.apache...'. `udts` may be NULL: then every name that is not a type's is an error. Types
 * found by it are linked, not copied. */
bool type_parse_cql(struct slice text, const struct type_lookup *udts, struct arena *mem,
                    const struct type **out, struct err *err);
