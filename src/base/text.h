/*
 * base/text.h - small things done with text.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool utf8_valid(struct slice s);
/* Writes s as a JSON string with quotes. Bytes that are not UTF-8 become U+FFFD, one per bad
 * sequence. */
void json_add_string(struct buf *b, struct slice s);
void text_add_base64(struct buf *b, struct slice s);
void text_add_hex(struct buf *b, struct slice s);
void text_add_i64(struct buf *b, int64_t v);
/* Without blanks, tabs, CR, LF at both ends. */
struct slice text_trim(struct slice s);
/* The whole of s is a decimal number within [min, max]. */
bool text_to_i64(struct slice s, int64_t min, int64_t max, int64_t *out);
/* Number of edits (insert, delete, replace, swap) between two short names. */
unsigned text_distance(struct slice a, struct slice b);
/* The nearest of `names` (NULL-terminated list), or NULL when none is near enough to be meant. */
const char *text_nearest(struct slice word, const char *const *names);
/* Case-insensitive, ASCII only. */
bool text_same_nocase(struct slice a, struct slice b);
