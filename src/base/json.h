/*
 * base/json.h - JSON text from outside, as a tree in an arena.
 *
 * For calls, answers, ids and stored documents; never for the documents of a scan, which are
 * written straight from row bytes. Numbers keep their text digit for digit, objects their order of
 * keys (a repeated key stays twice; json_get finds the last). Parsed by libyajl. Threads: a tree is
 * its owner's.
 */
#pragma once
#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    bool truth;               /* JSON_BOOL */
    struct slice key;         /* of a member of an object, decoded; NUL-terminated */
    struct slice text;        /* JSON_STRING decoded (NUL-terminated), JSON_NUMBER as written */
    const struct json *first; /* JSON_ARRAY, JSON_OBJECT: children in order */
    const struct json *next;
    uint32_t count; /* children */
};

#define json_each(child, parent)                                                                   \
    for (const struct json *child = (parent)->first; child; child = (child)->next)

/* Exactly one value (blanks around it allowed), UTF-8 checked, at most 200 levels deep.
 * err: ERR_REJECT with the offset, or when the arena is full. The tree lives as long as the arena's
 * round. */
const struct json *json_parse(struct slice text, struct arena *mem, struct err *err);
/* The member's value, or NULL; also NULL when `of` is NULL or no object. The last of repeated keys.
 */
const struct json *json_get(const struct json *of, const char *key);
/* False: not a whole number from 0 on; *out stays as it is. v may be NULL. */
bool json_i64(const struct json *v, int64_t *out);
/* json_get when it is a string, else a null slice. */
struct slice json_get_string(const struct json *of, const char *key);
/* Compact text. */
void json_write(struct buf *b, const struct json *v);
/* A well-formed text on many lines, two blanks for each level; all but white space stays byte for
 * byte. */
void json_indent(struct buf *b, struct slice text);
/* Equal as parsed JSON: order of keys aside; numbers equal by text or by value. */
bool json_equal(const struct json *a, const struct json *b);
