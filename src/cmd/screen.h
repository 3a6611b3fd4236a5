/*
 * cmd/screen.h - what people see while a run goes on, and helpers for its summary.
 *
 * On a terminal one line that is redrawn, at most five times a second; elsewhere a log line every
 * 10 s (event=progress). No thread: the caller's main thread calls screen_update() some five times
 * a second. Log lines of any thread make room for the bar by log_set_screen(). One screen per
 * process.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

enum screen_mode { SCREEN_AUTO, SCREEN_BAR, SCREEN_LINES, SCREEN_NONE };

struct screen_options {
    enum screen_mode mode; /* SCREEN_AUTO: a bar if fd is a terminal (TERM not dumb), else lines */
    int fd;                /* 2 */
    const char *unit;      /* "ids", "rows" */
    struct clock *clock;
};

struct progress {
    uint64_t done;   /* of this run, failed ones included */
    uint64_t before; /* of `done`: by an earlier process of the same run */
    uint64_t total;  /* 0: not known (yet) */
    uint64_t failed;
    int64_t paused_ms; /* spent in pauses so far, as wall time (summed over workers / workers) */
    int64_t pauses_left_ms; /* still to come, likewise */
    const char *note;       /* a few words at the end ("waiting for the server: 503"), or NULL */
};

struct screen;

struct screen *screen_start(const struct screen_options *o);
/* Draws when it is time. Keeps a copy of the numbers; `note` too. */
void screen_update(struct screen *s, const struct progress *p);
/* Removes the bar; frees. NULL is fine. */
void screen_stop(struct screen *s);

/* ms until the end by what was seen so far: (elapsed - paused) / done x left + pauses_left; -1
 * unknown. Pure. */
int64_t screen_eta_ms(const struct progress *p, int64_t elapsed_ms);
/* The bar's line, without line end, at most `width` columns. Pure. `rate` per second, eta -1
 * unknown. */
void screen_add_line(struct buf *out, const struct progress *p, const char *unit, double rate,
                     int64_t eta_ms, unsigned width, bool colour);

/* ---- text for people --------------------------------------------------------------------------
 */

void show_count(struct buf *b, uint64_t n);    /* 1,234,567 */
const char *show_plural(uint64_t n);           /* the end of so many "row"s: "", or "s" */
void show_duration(struct buf *b, int64_t ms); /* 850 ms, 4.2 s, 7m 12s, 2h 05m, 3d 04h */
void show_rate(struct buf *b, double per_s);   /* 0.5/s, 1,234/s */

/* Aligned "  key    value" lines. */
struct show_table {
    struct show_row {
        char *key;
        char *value;
    } *rows;
    size_t count;
};
void show_row(struct show_table *t, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void show_row_count(struct show_table *t, const char *key, uint64_t n);
/* Counts (rows of digits and commas alone) are right-aligned among themselves. Appends and empties
 * the table. */
void show_table_end(struct show_table *t, struct buf *out);
