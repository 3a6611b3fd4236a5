/*
 * mapping/timeform.h - timestamps in a form that the mapping names.
 *
 * Patterns: yyyy MM dd HH mm ss SSS Z (+0530) XXX (+05:30, Z for UTC), 'text', and characters that
 * are no letters. Time zones by their IANA names, from the system's tzdata. A form is an immutable
 * value. Threads: shared freely.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct timeform;

/* pattern NULL: milliseconds, as a number; zone NULL: UTC. NULL: ERR_USER, says what is wrong. */
struct timeform *timeform_new(const char *pattern, const char *zone, struct err *err);
void timeform_free(struct timeform *f);
/* Appends JSON: a number or a string. False: the year is outside 0-9999 (it is written, signed). */
bool timeform_add(const struct timeform *f, int64_t ms, struct buf *out);
