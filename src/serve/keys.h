/*
 * serve/keys.h - who may call: bearer keys of a file, one per line.
 *
 * Blank lines, and lines that begin with #, are no keys. Only their SHA-256 is kept in memory;
 * comparing takes the same time whatever was presented, and looks at all of them.
 *
 * Threads: keys_allow() from any; the rest from one.
 */
#pragma once
#include <stdbool.h>

#include "base/err.h"

struct keys;

/* NULL: ERR_USER (can't be read, no key in it, too large). */
struct keys *keys_open(const char *path, struct err *err);
void keys_free(struct keys *k);
/* Reads the file again when it changed, or in any case (`force`). False: it is as it should not be,
 * and the keys known before stay. *changed: there are other keys now. */
bool keys_refresh(struct keys *k, bool force, bool *changed, struct err *err);
/* The value of an Authorization header; NULL: none. */
bool keys_allow(struct keys *k, const char *authorization);
