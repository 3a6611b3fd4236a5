/*
 * mapping/definition.h - the definition of an index that comes with a mapping, made fit for a
 * server.
 *
 * A definition is JSON: {"settings": ..., "mappings": ...}, without a type around the fields. Pure.
 * Threads: any.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

struct definition_wish {
    const char *versioning; /* word of the mapping, kept in _meta so that no run uses another */
    const char *alias;      /* NULL: none is added */
};

/* Name of the index that a file makes: "a/userv3.index.json" makes userv3. False: ERR_USER, the
 * file is not called so. */
bool definition_index(const char *path, struct arena *mem, const char **out, struct err *err);

/* The value of _meta with this versioning; what else is in `meta` (NULL: none) stays. */
void definition_write_meta(const struct json *meta, const char *versioning, struct buf *out);
/* Appends the definition, compact, as it is sent. ERR_USER: no JSON, no object, no mappings, or
 * another mode of versioning. */
bool definition_write(struct slice text, const struct definition_wish *wish, struct arena *mem,
                      struct buf *out, struct err *err);
