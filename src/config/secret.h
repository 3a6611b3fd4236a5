/*
 * config/secret.h - a text that is never shown.
 *
 * Threads: read by any once the configuration is loaded.
 */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct secret {
    char *hidden; /* read it by secret_text() only; NULL: none */
};

/* What is sent to the server, and nowhere else; NULL when none or empty. */
const char *secret_text(const struct secret *s);
/* For people: "***", or "" when none. */
const char *secret_show(const struct secret *s);
/* Replaces it by a copy; empty is none. */
void secret_set(struct secret *s, struct slice text);
/* Overwrites and frees. */
void secret_fini(struct secret *s);
/* The first line end at the end of the file does not count. err: ERR_USER, names the file. */
bool secret_read(struct secret *s, const char *file, struct err *err);
