/*
 * mapping/convert.h - what steps do to one value: JSON text in, JSON text out.
 *
 * Values are compact JSON texts: what passes through keeps its digits and its order of keys. What
 * is made is appended to `out`, which is left as it was when there is nothing. `mem` is for trees
 * on the way, and for texts that had to be unescaped. Pure. Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "mapping/file.h"

enum convert_result {
    CONVERT_DONE,
    CONVERT_BLANK, /* nothing but white space */
    CONVERT_BAD,
    CONVERT_FULL, /* no room left */
};

/* Of a JSON text that is not empty. */
enum json_kind convert_kind(struct slice json);
/* Nothing, or nothing but white space. */
bool convert_is_blank(struct slice text);

/*
 * Text to JSON. Of a key that comes twice the last value stays, at the place of the first
 * (Elasticsearch refuses both). Nested deeper than 100: bad.
 */
enum convert_result convert_parse(struct slice text, enum mapping_json_kind as, struct arena *mem,
                                  struct buf *out);
/* As text: strings unescaped, numbers and booleans as written; null, arrays, objects: a null slice.
 * False: no room. */
bool convert_text(struct slice json, struct arena *mem, struct slice *out);
/* Never for null. */
enum convert_result convert_cast(struct slice json, enum mapping_cast to, struct arena *mem,
                                 struct buf *out);
/* An array of texts. */
void convert_split(struct slice text, const char *by, bool trim, bool keep_empty, struct buf *out);
/* Of a text, and of texts directly in an array; all else stays as it is. Unicode, a character for a
 * character. */
enum convert_result convert_case(struct slice json, bool upper, struct arena *mem, struct buf *out);
/* Is a <compare> b, both JSON numbers (or, with COMPARE_EQ, anything). */
bool convert_compare(struct slice a, enum mapping_compare compare, struct slice b,
                     struct arena *mem);
/* Equal as parsed JSON. */
bool convert_equal(struct slice a, struct slice b, struct arena *mem);
/* A number without a fraction, as far as it fits. */
bool convert_int(struct slice json, int64_t *out);
