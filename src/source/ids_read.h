/*
 * source/ids_read.h - what the readers of the three forms share: the window over the file, and how
 * an item is handed out.
 *
 * Only for ids.c, ids_csv.c, ids_json.c and ids_log.c. Threads: as source/ids.
 */
#pragma once
#include <time.h>

#include "base/arena.h"
#include "base/json.h"
#include "source/ids.h"

enum {
    WINDOW_BYTES = 4 * IDS_ITEM_MAX_BYTES,
    FIELDS_MAX = 1024, /* of a CSV record, that can be taken */
    RAW_BYTES = 200,   /* shown of a bad line */
};

/* Where the reader stands in a failure log. */
enum log_place { LOG_OUTSIDE, LOG_IN_IDS, LOG_IN_LIST };

struct ids {
    struct ids_file file;
    int fd;
    struct timespec changed_at;
    struct cancel *cancel;
    enum ids_header header;
    const char *const *key_names;
    size_t key_count;
    const char *column;

    uint8_t *win;    /* WINDOW_BYTES of the file */
    size_t win_from; /* read up to here */
    size_t win_to;
    uint64_t win_at;  /* offset of win[0] */
    uint64_t line;    /* of win[win_from], from 1 */
    uint64_t skip_to; /* items that end here or before were read earlier */

    uint32_t column_of[IDS_KEY_MAX]; /* CSV: field of each component */
    bool by_header;                  /* other columns may be there */
    uint64_t first_at;               /* behind BOM and header */
    uint64_t first_line;
    struct slice *fields;
    bool *quoted;
    size_t field_count;
    struct buf unquoted; /* IDS_ITEM_MAX_BYTES, never moved */

    struct arena mem;        /* of the JSON tree under way */
    struct buf json;         /* compact text of an object */
    const struct json *more; /* next of a JSON line's list */
    uint64_t more_at;        /* virtual end of that one */
    uint64_t more_line;
    uint64_t line_end; /* of that JSON line */
    enum log_place place;

    struct slice parts[IDS_KEY_MAX];
    char why[200];
};

/* ---- the window: ids.c ---- */

/* What is in it and not yet passed. */
static inline struct slice ids_rest(const struct ids *s)
{
    return slice_of(s->win + s->win_from, s->win_to - s->win_from);
}

static inline uint64_t ids_offset(const struct ids *s)
{
    return s->win_at + s->win_from;
}

static inline void ids_pass(struct ids *s, size_t n)
{
    s->win_from += n;
}

/* Sees to it that a whole item lies in the window, or the file's end. What pointed into it may
 * move. err: ERR_SYSTEM, ERR_USER (changed). */
bool ids_fill(struct ids *s, struct err *err);
/* Up to and with the line end, however far it is. */
bool ids_pass_line(struct ids *s, struct err *err);
/* Reading goes on at this offset, which is in this line. */
void ids_go_to(struct ids *s, uint64_t at, uint64_t line);
uint64_t count_lines(struct slice text);

/* ---- items: ids.c ---- */

/* ERR_REJECT with "line N: what", always false; `raw` is in the window or in s->unquoted. */
bool ids_bad(struct ids *s, struct id_item *out, uint64_t line, struct slice raw, const char *what,
             struct err *err);
/* s->parts are an id; always true. */
bool ids_ready(struct ids *s, struct id_item *out, uint64_t line, uint64_t end, struct slice json);
/* Without regard to case, "_", "-" and blanks. */
bool ids_same_name(struct slice a, struct slice b);

/* ---- the forms: next item, as ids_next() ---- */

bool ids_csv_next(struct ids *s, struct id_item *out, struct err *err);
/* Reads the first record: which columns are taken, and whether it is a header. ERR_USER. */
bool ids_csv_start(struct ids *s, struct err *err);

bool ids_json_next(struct ids *s, struct id_item *out, struct err *err);
/* A value into s->parts, an object's text into *json; or the first of a list of ids into *list.
 * NULL, or what is wrong with it. */
const char *ids_json_parts(struct ids *s, const struct json *v, const struct json **list,
                           struct slice *json);
/* The content of a JSON string that has no escapes, and so needs no parser. */
bool ids_plain_string(struct slice text, struct slice *out);

bool ids_log_next(struct ids *s, struct id_item *out, struct err *err);
/* Length of `word`, blanks, ":" at the front of text; 0: not there. */
size_t ids_log_label(struct slice text, const char *word);
