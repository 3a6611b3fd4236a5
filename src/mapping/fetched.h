/*
 * mapping/fetched.h - rows of other tables that documents are made of.
 *
 * A plan says which it wants (plan_need), the engine fills them in, the plan takes them from here
 * (plan_make). A read is known by its number in the plan and the cells of its key; equal ones
 * are one. Rows may come by single reads, or by any other way that brings all rows of the key in
 * clustering order.
 *
 * Sharing: a document with version T may only hold rows that were read at or after T. So a fetched
 * is filled after all rows that use it were read, and reset before the next ones are.
 * Threads: one owner.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"

struct fetched_row {
    const struct slice *cells; /* as the read selects */
    struct fetched_row *next;
};

struct fetched_rows {
    uint16_t read;
    uint16_t key_count;
    bool filled;             /* rows are all that there are */
    const char *failed;      /* they can't be read: why; NULL: they can */
    const struct slice *key; /* key_count cells */
    struct fetched_row *first, *last;
    uint32_t count;
};

struct fetched {
    struct map map; /* to struct fetched_rows, in the order in which they were wanted */
    struct arena mem;
    struct buf key;
    int64_t oldest_us; /* T of the earliest answer; INT64_MAX: none */
};

void fetched_init(struct fetched *f, size_t max_bytes);
void fetched_fini(struct fetched *f);
void fetched_reset(struct fetched *f);

/* Wants the rows of a key; the cells are copied. False: no room. */
bool fetched_want(struct fetched *f, uint16_t read, const struct slice *key, uint16_t count);
/* NULL: nobody wanted it. */
struct fetched_rows *fetched_get(struct fetched *f, uint16_t read, const struct slice *key,
                                 uint16_t count);
size_t fetched_count(const struct fetched *f);
/* In the order in which they were wanted. */
struct fetched_rows *fetched_at(const struct fetched *f, size_t i);
/* A row behind the others; its cells are copied. False: no room. */
bool fetched_add(struct fetched *f, struct fetched_rows *to, const struct slice *cells,
                 uint16_t count);
/* All rows are there, read at this time. failed: NULL, or why they can't be read (copied). */
void fetched_fill(struct fetched *f, struct fetched_rows *to, int64_t read_at_us,
                  const char *failed);
/* Rows so far are taken back, to be read again. */
void fetched_again(struct fetched_rows *to);
