/*
 * config/value.h - the text of a setting becomes its value, and the other way round.
 *
 * Threads: the loading one.
 */
#pragma once
#include "config/options.h"

struct config_origin {
    enum config_layer layer;
    const char *where; /* "--port", "file:3:9"; NULL: default */
};

/* What a config keeps for itself. */
struct config_own {
    void **kept; /* malloc'ed: freed with the config */
    size_t kept_count;
    struct config_origin *origins; /* one per row of the table */
};

/* The config frees `p`; yields it. */
void *config_keep(struct config *c, void *p);
/* An empty one: no value, not even a default. */
struct config *config_new(void);

/*
 * Checks the text and stores it. A list said again on the same layer grows, else it is replaced.
 *   where  names the place for errors and `print-config`; copied
 * err: ERR_USER: "--block-size: 0 is out of range (1 to 100000)"; never the value of a secret.
 */
bool value_store(struct config *c, const struct option *o, enum config_layer layer,
                 const char *where, struct slice text, struct err *err);

/* "5s", "48MiB": the largest unit that divides it. */
void value_add_duration(struct buf *out, int64_t ms);
void value_add_size(struct buf *out, int64_t bytes);
/* "http://user:secret@host" without the secret. */
void value_add_url(struct buf *out, struct slice url);
/* Where a password stands within a URL; false: none. */
bool url_password(struct slice url, size_t *at, size_t *n);
