/*
 * cmd/aim.h - what a sync is for, and which options have no meaning there.
 *
 * An option that would have no effect is an error, not a surprise: --missing delete of a whole
 * table deletes nothing, and an id file beside --to would be a table written whole. Pace and sizes
 * may stand in a file or a variable for other commands; said by flag they are meant for this one.
 */
#pragma once
#include "base/err.h"
#include "config/options.h"

enum aim {
    AIM_API = 1,   /* ids, posted */
    AIM_TABLE = 2, /* every row, as a document */
    AIM_IDS = 4,   /* the rows of given ids, as documents */
    AIM_FILE = 8,  /* every row, as a line */
};

enum aim aim_of(const struct config *c);
/* ERR_USER with where the first option that has no meaning was said. */
bool aim_check(const struct config *c, struct err *err);
