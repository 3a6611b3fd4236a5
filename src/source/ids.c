#include "source/ids.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

enum {
    WINDOW_BYTES = 4 * IDS_ITEM_MAX_BYTES,
    FIELDS_MAX = 1024, /* of a CSV record, that can be taken */
    RAW_BYTES = 200,   /* shown of a bad line */
    TREE_MAX_BYTES = 16 << 20,
    POLL_MS = 100,
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

/* ---- the window -------------------------------------------------------------------------------
 */

static struct slice rest(const struct ids *s)
{
    return slice_of(s->win + s->win_from, s->win_to - s->win_from);
}

static uint64_t offset(const struct ids *s)
{
    return s->win_at + s->win_from;
}

static bool was_changed(const struct ids *s, struct err *err)
{
    return err_set(err, ERR_USER,
                   "id file %s was changed while it was read; run again with --fresh",
                   s->file.path);
}

/* Sees to it that a whole item lies in the window, or the file's end. False: err. */
static bool fill(struct ids *s, struct err *err)
{
    size_t have = s->win_to - s->win_from;

    if (have > IDS_ITEM_MAX_BYTES || s->win_at + s->win_to >= s->file.bytes)
        return true;
    memmove(s->win, s->win + s->win_from, have);
    s->win_at += s->win_from;
    s->win_from = 0;
    s->win_to = have;
    while (s->win_to < WINDOW_BYTES && s->win_at + s->win_to < s->file.bytes) {
        uint64_t left = s->file.bytes - s->win_at - s->win_to;
        size_t room = WINDOW_BYTES - s->win_to;
        ssize_t n = pread(s->fd, s->win + s->win_to, left < room ? (size_t)left : room,
                          (off_t)(s->win_at + s->win_to));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "id file %s: %m", s->file.path);
        if (n == 0)
            return was_changed(s, err);
        s->win_to += (size_t)n;
    }
    return true;
}

static void pass(struct ids *s, size_t n)
{
    s->win_from += n;
}

/* Up to and with the line end, however far it is. */
static bool pass_line(struct ids *s, struct err *err)
{
    for (;;) {
        if (!fill(s, err))
            return false;
        struct slice r = rest(s);
        const uint8_t *end = r.n ? memchr(r.p, '\n', r.n) : NULL;
        pass(s, end ? (size_t)(end + 1 - r.p) : r.n);
        if (end)
            s->line++;
        if (end || !r.n)
            return true;
    }
}

static void go_to(struct ids *s, uint64_t at, uint64_t line)
{
    s->win_at = at;
    s->win_from = s->win_to = 0;
    s->line = line;
    s->more = NULL;
    s->place = LOG_OUTSIDE;
}

/* ---- items ------------------------------------------------------------------------------------
 */

static bool item_bad(struct ids *s, struct id_item *out, uint64_t line, struct slice raw,
                     const char *what, struct err *err)
{
    raw = text_trim(raw);
    if (raw.n > RAW_BYTES)
        raw.n = RAW_BYTES;
    *out = (struct id_item){.raw = raw, .line = line, .end = offset(s)};
    return err_set(err, ERR_REJECT, "line %" PRIu64 ": %s", line, what);
}

static bool item_ready(struct ids *s, struct id_item *out, uint64_t line, uint64_t end,
                       struct slice json)
{
    *out = (struct id_item){
        .parts = s->parts,
        .part_count = s->key_count,
        .json = json,
        .end = end,
        .line = line,
    };
    return true;
}

/* "a, b" of the key's columns. */
static const char *key_text(const struct ids *s, char *out, size_t room)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < s->key_count && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%s", i ? ", " : "", s->key_names[i]);
    return out;
}

/* ---- names ------------------------------------------------------------------------------------
 */

static bool name_step(struct slice *s, char *c)
{
    struct slice one;

    while (slice_take(s, 1, &one)) {
        if (*one.p == '_' || *one.p == '-' || *one.p == ' ')
            continue;
        *c = (char)tolower(*one.p);
        return true;
    }
    return false;
}

/* Without regard to case, "_", "-" and blanks. */
static bool name_same(struct slice a, struct slice b)
{
    char x = 0;
    char y = 0;

    for (;;) {
        bool more_a = name_step(&a, &x);
        bool more_b = name_step(&b, &y);
        if (more_a != more_b)
            return false;
        if (!more_a)
            return true;
        if (x != y)
            return false;
    }
}

static const char *const any_id_names[] = {"id",   "ids",      "identifier", "identifiers",
                                           "uuid", "objectid", "objectids",  NULL};
static const char *const some_id_names[] = {
    "userid",   "userids",  "organisationid", "organizationid", "orgid", "batchid",
    "batchids", "courseid", "courseids",      "locationid",     NULL};

static bool name_in(struct slice name, const char *const *list)
{
    for (; *list; list++) {
        if (name_same(name, slice_str(*list)))
            return true;
    }
    return false;
}

static bool name_of_key(const struct ids *s, struct slice name)
{
    for (size_t i = 0; i < s->key_count; i++) {
        if (name_same(name, slice_str(s->key_names[i])))
            return true;
    }
    return false;
}

static bool name_known(const struct ids *s, struct slice name)
{
    return name_in(name, any_id_names) || name_in(name, some_id_names) || name_of_key(s, name);
}

/* ---- CSV --------------------------------------------------------------------------------------
 */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void add_field(struct ids *s, struct slice field, bool quoted)
{
    if (s->field_count < FIELDS_MAX) {
        s->fields[s->field_count] = quoted ? field : text_trim(field);
        s->quoted[s->field_count] = quoted;
    }
    s->field_count++;
}

static void split_plain(struct ids *s, struct slice line)
{
    for (;;) {
        const uint8_t *comma = line.n ? memchr(line.p, ',', line.n) : NULL;
        size_t n = comma ? (size_t)(comma - line.p) : line.n;

        add_field(s, slice_of(line.p, n), false);
        if (!comma)
            return;
        line = slice_of(comma + 1, line.n - n - 1);
    }
}

/* What a quoted field holds, into s->unquoted; returns what is behind the closing quote, or a null
 * slice. */
static struct slice unquote(struct ids *s, struct slice in, struct slice *field)
{
    size_t start = s->unquoted.len;

    for (size_t i = 1; i < in.n; i++) {
        bool quote = in.p[i] == '"';

        if (quote && (i + 1 == in.n || in.p[i + 1] != '"')) {
            *field = slice_of(s->unquoted.p + start, s->unquoted.len - start);
            return slice_of(in.p + i + 1, in.n - i - 1);
        }
        buf_add_byte(&s->unquoted, in.p[i]);
        i += quote;
    }
    return SLICE_NULL;
}

/* A record with quotes, at the front of `in`: its bytes, or 0 with `why`. */
static size_t split_quoted(struct ids *s, struct slice in, const char **why)
{
    struct slice all = in;
    struct slice field;

    buf_reset(&s->unquoted);
    for (;;) {
        while (in.n && is_blank(*in.p))
            in = slice_of(in.p + 1, in.n - 1);
        if (in.n && *in.p == '"') {
            in = unquote(s, in, &field);
            if (!in.p) {
                *why = "a quote is not closed";
                return 0;
            }
            while (in.n && is_blank(*in.p))
                in = slice_of(in.p + 1, in.n - 1);
            if (in.n && *in.p != ',' && *in.p != '\n') {
                *why = "text behind a closing quote";
                return 0;
            }
            add_field(s, field, true);
        } else {
            size_t n = 0;
            while (n < in.n && in.p[n] != ',' && in.p[n] != '\n')
                n++;
            add_field(s, slice_of(in.p, n), false);
            in = slice_of(in.p + n, in.n - n);
        }
        bool record_end = !in.n || *in.p == '\n';
        if (in.n)
            in = slice_of(in.p + 1, in.n - 1);
        if (record_end)
            return all.n - in.n;
    }
}

static uint64_t count_lines(struct slice s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

/* The next record that is not blank into s->fields, and the reader behind it; `raw` is its text.
 * False at the end (ERR_NONE), for a bad line, or with an err. */
static bool csv_record(struct ids *s, struct slice *raw, uint64_t *line, struct id_item *out,
                       struct err *err)
{
    for (;;) {
        if (!fill(s, err))
            return false;
        struct slice r = rest(s);
        *line = s->line;
        if (!r.n)
            return false;
        const uint8_t *end = memchr(r.p, '\n', r.n);
        size_t n = end ? (size_t)(end + 1 - r.p) : r.n;
        struct slice text = slice_of(r.p, n);
        if (n > IDS_ITEM_MAX_BYTES) {
            char shown[RAW_BYTES];
            memcpy(shown, r.p, sizeof shown);
            if (!pass_line(s, err))
                return false;
            buf_reset(&s->unquoted);
            buf_add(&s->unquoted, shown, sizeof shown);
            return item_bad(s, out, *line, buf_slice(&s->unquoted), "longer than 65536 bytes", err);
        }
        if (!text_trim(text).n) {
            pass(s, n);
            s->line += end != NULL;
            continue;
        }
        s->field_count = 0;
        if (!memchr(text.p, '"', text.n)) {
            split_plain(s, text);
        } else {
            const char *why = NULL;
            bool more = r.n > IDS_ITEM_MAX_BYTES;
            if (more)
                r.n = IDS_ITEM_MAX_BYTES;
            n = split_quoted(s, r, &why);
            if (more && n == r.n && r.p[n - 1] != '\n') {
                why = "a record longer than 65536 bytes";
                n = 0;
            }
            if (!n) { /* only this line is lost, not what a wrong quote would swallow */
                pass(s, text.n);
                s->line += end != NULL;
                return item_bad(s, out, *line, text, why, err);
            }
            text.n = n;
        }
        *raw = text;
        pass(s, n);
        s->line += count_lines(text);
        return true;
    }
}

static bool csv_item(struct ids *s, struct slice raw, uint64_t line, struct id_item *out,
                     struct err *err)
{
    size_t count = s->field_count;
    char names[200];
    char why[300];

    while (count > s->key_count && count <= FIELDS_MAX && !s->quoted[count - 1] &&
           !s->fields[count - 1].n)
        count--; /* commas at the end */
    if (!s->by_header && count != s->key_count) {
        snprintf(why, sizeof why, "%zu column%s, %zu wanted (%s)%s", count, count == 1 ? "" : "s",
                 s->key_count, key_text(s, names, sizeof names),
                 s->key_count == 1 ? "; --csv-column says which" : "");
        return item_bad(s, out, line, raw, why, err);
    }
    for (size_t i = 0; i < s->key_count; i++) {
        uint32_t at = s->column_of[i];

        if (at >= s->field_count) {
            snprintf(why, sizeof why, "%zu column%s, no column %u", s->field_count,
                     s->field_count == 1 ? "" : "s", at + 1);
            return item_bad(s, out, line, raw, why, err);
        }
        s->parts[i] = s->fields[at];
        if (!s->parts[i].n && !(s->quoted[at] && s->key_count > 1))
            return item_bad(s, out, line, raw, "empty id", err);
        if (!utf8_valid(s->parts[i]))
            return item_bad(s, out, line, raw, "not UTF-8", err);
    }
    return item_ready(s, out, line, offset(s), SLICE_NULL);
}

static bool csv_next(struct ids *s, struct id_item *out, struct err *err)
{
    struct slice raw;
    uint64_t line;

    return csv_record(s, &raw, &line, out, err) && csv_item(s, raw, line, out, err);
}

/* ---- CSV: the first record --------------------------------------------------------------------
 */

static size_t known_fields(const struct ids *s)
{
    return s->field_count < FIELDS_MAX ? s->field_count : FIELDS_MAX;
}

static bool find_field(const struct ids *s, const char *name, uint32_t *at)
{
    for (size_t pass_no = 0; pass_no < 2; pass_no++) {
        for (size_t i = 0; i < known_fields(s); i++) {
            if (pass_no ? name_same(s->fields[i], slice_str(name)) : slice_is(s->fields[i], name)) {
                *at = (uint32_t)i;
                return true;
            }
        }
    }
    return false;
}

static bool no_column(const struct ids *s, const char *name, struct err *err)
{
    char found[240];
    size_t n = 0;

    for (size_t i = 0; i < known_fields(s) && n < sizeof found; i++)
        n += (size_t)snprintf(found + n, sizeof found - n, "%s%.*s", i ? ", " : "",
                              (int)(s->fields[i].n < 40 ? s->fields[i].n : 40),
                              (const char *)s->fields[i].p);
    return err_set(err, ERR_USER, "id file %s: no column \"%s\" in the first line: %s",
                   s->file.path, name, found);
}

static bool all_fields_known(const struct ids *s)
{
    for (size_t i = 0; i < known_fields(s); i++) {
        if (!name_known(s, s->fields[i]))
            return false;
    }
    return true;
}

/* Ids of another kind than wanted would be sent, accepted, and do nothing. */
static bool header_fits(const struct ids *s, struct slice name, struct err *err)
{
    struct slice key = slice_str(s->key_names[0]);

    if (name_same(name, key) || name_in(name, any_id_names) || name_in(key, any_id_names) ||
        !name_in(name, some_id_names))
        return true;
    char plural[80];
    snprintf(plural, sizeof plural, "%ss", s->key_names[0]);
    if (name_same(name, slice_str(plural)))
        return true;
    return err_set(err, ERR_USER,
                   "id file %s: its header says %.*s, but %s is wanted; --id-column says what the "
                   "ids are, --csv-column which column holds them",
                   s->file.path, (int)name.n, (const char *)name.p, s->key_names[0]);
}

/* Decides from the first record what the columns are, and whether it is a header. */
static bool csv_header(struct ids *s, bool *is_header, struct err *err)
{
    int64_t number = 0;
    uint32_t at;
    const char *missing = NULL;

    *is_header = s->header == IDS_HEADER_YES;
    for (uint32_t i = 0; i < s->key_count; i++)
        s->column_of[i] = i;
    if (s->column && text_to_i64(slice_str(s->column), 1, FIELDS_MAX, &number)) {
        at = (uint32_t)number - 1;
        s->column_of[0] = at;
        s->by_header = true;
        if (s->header == IDS_HEADER_AUTO && at < known_fields(s))
            *is_header = name_known(s, s->fields[at]);
        return true;
    }
    if (s->column) {
        if (!find_field(s, s->column, &s->column_of[0]))
            return no_column(s, s->column, err);
        s->by_header = *is_header = true;
        return true;
    }
    if (s->header == IDS_HEADER_NO)
        return true;
    for (size_t i = 0; i < s->key_count; i++)
        missing = missing || find_field(s, s->key_names[i], &at) ? missing : s->key_names[i];
    if (!missing) {
        for (size_t i = 0; i < s->key_count; i++)
            find_field(s, s->key_names[i], &s->column_of[i]);
        s->by_header = *is_header = true;
        return true;
    }
    if (!*is_header && !all_fields_known(s))
        return true;
    *is_header = true;
    if (s->field_count > 1 || s->key_count > 1)
        return no_column(s, missing, err);
    return header_fits(s, s->fields[0], err);
}

static bool csv_start(struct ids *s, struct err *err)
{
    uint64_t at = offset(s);
    uint64_t line = s->line;
    struct id_item item;
    struct slice raw;
    uint64_t record_line;
    bool is_header = false;

    if (csv_record(s, &raw, &record_line, &item, err)) {
        if (!csv_header(s, &is_header, err))
            return false;
        if (is_header) {
            at = offset(s);
            line = s->line;
            s->file.count -= s->file.count > 0;
        }
    } else if (err->kind != ERR_NONE && err->kind != ERR_REJECT) {
        return false;
    } else if (s->column && !text_to_i64(slice_str(s->column), 1, FIELDS_MAX, &(int64_t){0})) {
        s->field_count = 0;
        return no_column(s, s->column, err);
    }
    err_clear(err);
    s->first_at = at;
    s->first_line = line;
    go_to(s, at, line);
    return true;
}

/* ---- JSON -------------------------------------------------------------------------------------
 */

static bool scalar_part(const struct json *v, struct slice *out)
{
    switch (v->kind) {
    case JSON_STRING:
    case JSON_NUMBER:
        *out = v->text;
        return v->text.n > 0;
    case JSON_BOOL:
        *out = slice_str(v->truth ? "true" : "false");
        return true;
    default:
        return false;
    }
}

static const struct json *member_of(const struct json *object, const char *name)
{
    json_each (v, object) {
        if (name_same(v->key, slice_str(name)))
            return v;
    }
    return NULL;
}

/* A value into s->parts; or its list of them into *list. NULL, or what is wrong. */
static const char *json_parts(struct ids *s, const struct json *v, const struct json **list,
                              struct slice *json)
{
    *list = NULL;
    *json = SLICE_NULL;
    if (v->kind != JSON_OBJECT) {
        if (v->kind == JSON_ARRAY || v->kind == JSON_NULL)
            return "neither a string nor an object";
        if (s->key_count > 1)
            return "a single value, but the key has several columns: an object is wanted";
        return scalar_part(v, &s->parts[0]) ? NULL : "empty id";
    }
    for (size_t i = 0; i < s->key_count; i++) {
        const struct json *part = member_of(v, s->key_names[i]);

        if (part && part->kind == JSON_ARRAY && s->key_count == 1) {
            *list = part->first;
            return part->first ? NULL : "empty list";
        }
        if (!part || !scalar_part(part, &s->parts[i])) {
            if (part && part->kind == JSON_STRING && !part->text.n && s->key_count > 1) {
                s->parts[i] = part->text; /* an empty text is a value in a longer key */
                continue;
            }
            snprintf(s->why, sizeof s->why, "the object has no %s%s", part ? "usable " : "",
                     s->key_names[i]);
            return s->why;
        }
    }
    buf_reset(&s->json);
    json_write(&s->json, v);
    *json = buf_slice(&s->json);
    return NULL;
}

/* A string without escapes needs no parser. */
static bool plain_string(struct slice text, struct slice *out)
{
    if (text.n < 3 || text.p[0] != '"' || text.p[text.n - 1] != '"')
        return false;
    for (size_t i = 1; i < text.n - 1; i++) {
        if (text.p[i] < ' ' || text.p[i] == '"' || text.p[i] == '\\')
            return false;
    }
    *out = slice_of(text.p + 1, text.n - 2);
    return utf8_valid(*out);
}

/* The next of a JSON line's list; ends within it are made up, but grow and are within the line. */
static bool list_next(struct ids *s, struct id_item *out, struct err *err)
{
    const struct json *v = s->more;
    bool ok = scalar_part(v, &s->parts[0]);

    s->more = v->next;
    s->more_at++;
    uint64_t end = s->more ? s->more_at : s->line_end;
    if (ok)
        return item_ready(s, out, s->more_line, end, SLICE_NULL);
    item_bad(s, out, s->more_line, slice_str(""), "the list holds something that is no id", err);
    out->end = end;
    return false;
}

static bool json_next(struct ids *s, struct id_item *out, struct err *err)
{
    while (!s->more) {
        if (!fill(s, err))
            return false;
        struct slice r = rest(s);
        uint64_t line = s->line;
        uint64_t start = offset(s);
        const uint8_t *end = r.n ? memchr(r.p, '\n', r.n) : NULL;
        struct slice text = slice_of(r.p, end ? (size_t)(end + 1 - r.p) : r.n);
        struct slice json;
        struct err bad = {0};

        if (!r.n)
            return false;
        if (text.n > IDS_ITEM_MAX_BYTES) {
            if (!pass_line(s, err))
                return false;
            return item_bad(s, out, line, slice_str(""), "longer than 65536 bytes", err);
        }
        pass(s, text.n);
        s->line += end != NULL;
        text = text_trim(text);
        if (!text.n)
            continue;
        if (s->key_count == 1 && plain_string(text, &s->parts[0]))
            return item_ready(s, out, line, offset(s), SLICE_NULL);
        arena_reset(&s->mem);
        const struct json *v = json_parse(text, &s->mem, &bad);
        if (!v) {
            char why[300];
            snprintf(why, sizeof why, "not JSON: %.250s", bad.text);
            return item_bad(s, out, line, text, why, err);
        }
        const char *why = json_parts(s, v, &s->more, &json);
        if (why)
            return item_bad(s, out, line, text, why, err);
        if (!s->more)
            return item_ready(s, out, line, offset(s), json);
        s->more_at = start;
        s->more_line = line;
        s->line_end = offset(s);
    }
    return list_next(s, out, err);
}

/* ---- failure logs -----------------------------------------------------------------------------
 */

/* Length of `word`, blanks, ":" at the front of text; 0: not there. */
static size_t label_bytes(struct slice text, const char *word)
{
    size_t n = strlen(word);

    if (text.n < n || memcmp(text.p, word, n) != 0)
        return 0;
    while (n < text.n && text.p[n] == ' ')
        n++;
    return n < text.n && text.p[n] == ':' ? n + 1 : 0;
}

static bool log_border(struct slice text)
{
    return label_bytes(text, "Request No") || label_bytes(text, "Response");
}

/* The byte at the reader, or -1 at the end, or with err. */
static int log_peek(struct ids *s, struct err *err)
{
    if (s->win_to - s->win_from <= 64 && !fill(s, err))
        return -1;
    return s->win_from < s->win_to ? s->win[s->win_from] : -1;
}

static void log_pass(struct ids *s)
{
    s->line += s->win[s->win_from] == '\n';
    pass(s, 1);
}

/* To the next byte of JSON; -1 too when the body was cut off, in front of the next part. */
static int log_token(struct ids *s, struct err *err)
{
    for (;;) {
        int c = log_peek(s, err);

        if (c == '\n') {
            struct slice next = rest(s);
            if (log_border(slice_of(next.p + 1, next.n - 1)))
                return -1;
        } else if (c < 0 || (c != ' ' && c != '\t' && c != '\r')) {
            return c;
        }
        log_pass(s);
    }
}

/* A string of any length, reader at its quote; `is_ids`: it says objectIds. False: cut off. */
static bool log_string(struct ids *s, bool *is_ids, struct err *err)
{
    static const char want[] = "objectIds";
    size_t same = 0;
    size_t n = 0;

    log_pass(s);
    for (;;) {
        int c = log_peek(s, err);

        if (c < 0 || c == '\n')
            return false;
        log_pass(s);
        if (c == '"')
            break;
        if (c == '\\') {
            if (log_peek(s, err) < 0)
                return false;
            log_pass(s);
        }
        same += n < sizeof want - 1 && c == want[n];
        n++;
    }
    *is_ids = n == sizeof want - 1 && same == n;
    return true;
}

/* Out of what is left of an object or list that is `depth` deep. False: cut off. */
static bool log_leave(struct ids *s, int depth, struct err *err)
{
    bool ignored;

    while (depth > 0) {
        int c = log_token(s, err);

        if (c < 0)
            return false;
        if (c == '"') {
            if (!log_string(s, &ignored, err))
                return false;
            continue;
        }
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        log_pass(s);
    }
    return true;
}

enum found { FOUND, NOT_FOUND, FOUND_BAD };

/* From the start of a body to the first element of its objectIds. */
static enum found log_find_ids(struct ids *s, const char **why, struct err *err)
{
    int depth = 0;

    *why = "the request is cut off, or not JSON";
    do {
        int c = log_token(s, err);
        bool is_ids = false;

        if (c < 0 || (depth == 0 && c != '{'))
            return FOUND_BAD;
        if (c != '"') {
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            log_pass(s);
            continue;
        }
        if (!log_string(s, &is_ids, err))
            return FOUND_BAD;
        if (!is_ids || log_token(s, err) != ':')
            continue;
        log_pass(s);
        if (log_token(s, err) != '[')
            continue;
        log_pass(s);
        return FOUND;
    } while (depth > 0);
    *why = "the request has no objectIds";
    return FOUND_BAD;
}

/* To the body of the next request: its first byte. */
static enum found log_find_body(struct ids *s, struct err *err)
{
    bool in_entry = false;

    for (;;) {
        if (!fill(s, err))
            return NOT_FOUND;
        if (label_bytes(rest(s), "Request No"))
            in_entry = true;
        else if (!in_entry || label_bytes(rest(s), "Response"))
            in_entry = false;
        /* the three parts may stand on one line */
        for (int c = log_peek(s, err); in_entry && c >= 0 && c != '\n'; c = log_peek(s, err)) {
            size_t label = c == 'R' ? label_bytes(rest(s), "Request") : 0;

            if (!label) {
                log_pass(s);
                continue;
            }
            pass(s, label);
            return FOUND;
        }
        if (err->kind != ERR_NONE || !pass_line(s, err) || log_peek(s, err) < 0)
            return NOT_FOUND;
    }
}

/* The element's bytes, reader at its first one and left there; 0: too long or cut off. */
static size_t log_element(const struct ids *s)
{
    struct slice r = rest(s);
    size_t most = r.n < IDS_ITEM_MAX_BYTES ? r.n : IDS_ITEM_MAX_BYTES;
    bool in_string = false;
    int depth = 0;

    for (size_t i = 0; i < most; i++) {
        uint8_t c = r.p[i];

        if (c == '\n' && (in_string || log_border(slice_of(r.p + i + 1, r.n - i - 1))))
            return 0;
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
            if (!in_string && depth == 0)
                return i + 1;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return i;
            if (--depth == 0)
                return i + 1;
        } else if (depth == 0 && (c == ',' || c <= ' ')) {
            return i;
        }
    }
    return 0;
}

/* {"userId":["u1",...]}: the reader goes in, and takes the list's values one by one. */
static bool log_enter_list(struct ids *s)
{
    struct slice r = rest(s);
    size_t i = 1;

    if (s->key_count != 1 || !r.n || r.p[0] != '{')
        return false;
    while (i < r.n && r.p[i] <= ' ')
        i++;
    size_t name = ++i;
    if (name > r.n || r.p[name - 1] != '"')
        return false;
    while (i < r.n && r.p[i] != '"' && r.p[i] != '\\')
        i++;
    if (i >= r.n || !name_same(slice_of(r.p + name, i - name), slice_str(s->key_names[0])))
        return false;
    for (i++; i < r.n && (r.p[i] <= ' ' || r.p[i] == ':');)
        i++;
    if (i >= r.n || r.p[i] != '[')
        return false;
    s->line += count_lines(slice_of(r.p, i + 1));
    pass(s, i + 1);
    s->place = LOG_IN_LIST;
    return true;
}

static bool log_cut_off(struct ids *s, struct id_item *out, uint64_t line, struct err *err)
{
    if (err->kind != ERR_NONE)
        return false;
    struct slice raw = rest(s);
    const uint8_t *end = raw.n ? memchr(raw.p, '\n', raw.n) : NULL;
    if (end)
        raw.n = (size_t)(end - raw.p);
    if (raw.n > RAW_BYTES)
        raw.n = RAW_BYTES;
    buf_reset(&s->unquoted);
    buf_add_slice(&s->unquoted, raw);
    s->place = LOG_OUTSIDE;
    if (!pass_line(s, err))
        return false;
    return item_bad(s, out, line, buf_slice(&s->unquoted),
                    "the list of ids is cut off, or not JSON", err);
}

static bool log_value(struct ids *s, struct id_item *out, struct err *err)
{
    uint64_t line = s->line;
    struct slice json = SLICE_NULL;
    struct err bad = {0};
    const struct json *list = NULL;

    if (!fill(s, err))
        return false;
    size_t n = log_element(s);
    if (!n)
        return log_cut_off(s, out, line, err);
    struct slice text = slice_of(rest(s).p, n);
    s->line += count_lines(text);
    pass(s, n);
    if (s->key_count == 1 && plain_string(text, &s->parts[0]))
        return item_ready(s, out, line, offset(s), SLICE_NULL);
    arena_reset(&s->mem);
    const struct json *v = json_parse(text, &s->mem, &bad);
    const char *why = v ? json_parts(s, v, &list, &json) : "not JSON";
    if (!why && list)
        why = "a list in an object with other members before it";
    if (why)
        return item_bad(s, out, line, text, why, err);
    return item_ready(s, out, line, offset(s), json);
}

static bool log_next(struct ids *s, struct id_item *out, struct err *err)
{
    for (;;) {
        if (s->place == LOG_OUTSIDE) {
            const char *why;
            if (log_find_body(s, err) != FOUND)
                return false;
            uint64_t line = s->line;
            if (log_find_ids(s, &why, err) != FOUND) {
                if (err->kind != ERR_NONE)
                    return false;
                return item_bad(s, out, line, slice_str(""), why, err);
            }
            s->place = LOG_IN_IDS;
        }
        if (!fill(s, err))
            return false;
        int c = log_token(s, err);
        if (c == ',') {
            log_pass(s);
        } else if (c == ']' && s->place == LOG_IN_LIST) {
            s->place = LOG_IN_IDS;
            log_pass(s);
            if (!log_leave(s, 1, err))
                return log_cut_off(s, out, s->line, err);
        } else if (c == ']') {
            s->place = LOG_OUTSIDE;
            if (!pass_line(s, err))
                return false;
        } else if (c < 0 || c == '}' || c == ':') {
            return log_cut_off(s, out, s->line, err);
        } else if (c != '{' || s->place == LOG_IN_LIST || !fill(s, err) || !log_enter_list(s)) {
            return err->kind == ERR_NONE && log_value(s, out, err);
        }
    }
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static bool still_same(struct ids *s, struct err *err)
{
    struct stat st;

    if (fstat(s->fd, &st) != 0)
        return err_set(err, ERR_SYSTEM, "id file %s: %m", s->file.path);
    if ((uint64_t)st.st_size != s->file.bytes || st.st_mtim.tv_sec != s->changed_at.tv_sec ||
        st.st_mtim.tv_nsec != s->changed_at.tv_nsec)
        return was_changed(s, err);
    return true;
}

bool ids_next(struct ids *s, struct id_item *out, struct err *err)
{
    for (;;) {
        err_clear(err);
        bool ok = s->file.form == IDS_CSV    ? csv_next(s, out, err)
                  : s->file.form == IDS_JSON ? json_next(s, out, err)
                                             : log_next(s, out, err);
        if (!ok && err->kind == ERR_NONE) {
            still_same(s, err);
            return false;
        }
        if ((ok || err->kind == ERR_REJECT) && out->end <= s->skip_to)
            continue;
        return ok;
    }
}

/* Counts the lines in front of `end`, and finds where the last one of them starts. */
static bool line_at(struct ids *s, uint64_t end, uint64_t *line, uint64_t *start, struct err *err)
{
    *line = 1;
    *start = 0;
    for (uint64_t at = 0; at < end;) {
        go_to(s, at, 1);
        if (!fill(s, err))
            return false;
        struct slice r = rest(s);
        if (r.n > end - at)
            r.n = (size_t)(end - at);
        const uint8_t *last = memrchr(r.p, '\n', r.n);
        if (last)
            *start = at + (uint64_t)(last + 1 - r.p);
        *line += count_lines(r);
        at += r.n;
    }
    return true;
}

bool ids_seek(struct ids *s, uint64_t end, struct err *err)
{
    uint64_t line;
    uint64_t start;

    s->skip_to = 0;
    if (end > s->file.bytes)
        return was_changed(s, err);
    if (end <= s->first_at || s->file.form == IDS_LOG) {
        go_to(s, s->first_at, s->first_line);
        s->skip_to = end; /* an item's end is within a request: its start is needed */
        return true;
    }
    if (!line_at(s, end, &line, &start, err))
        return false;
    bool within_line = s->file.form == IDS_JSON && start != end && end < s->file.bytes;
    go_to(s, within_line ? start : end, line);
    s->skip_to = end;
    return true;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static bool copy_input(int from, int to, const char *to_path, struct ids *s, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = from, .events = POLLIN};

        if (cancel_level(s->cancel) >= 1)
            return err_set(err, ERR_CANCEL, "stopped while standard input was read");
        if (poll(&p, 1, POLL_MS) == 0)
            continue;
        ssize_t n = read(from, s->win, WINDOW_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "id file %s: %m", s->file.path);
        if (n == 0)
            return true;
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, s->win + done, (size_t)(n - done));
            if (w < 0 && errno == EINTR)
                continue;
            if (w <= 0)
                return err_set(err, ERR_SYSTEM, "%s: %m", to_path);
            done += w;
        }
    }
}

/* Complete, or not there. */
static bool spool(struct ids *s, int from, const char *spool_path, struct err *err)
{
    AUTO_STR char *part = xsprintf("%s.part", spool_path);
    int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (to < 0)
        return err_set(err, ERR_SYSTEM, "%s: %m", part);
    bool ok = copy_input(from, to, part, s, err);
    if (ok && fsync(to) != 0)
        ok = err_set(err, ERR_SYSTEM, "%s: %m", part);
    if (close(to) != 0 && ok)
        ok = err_set(err, ERR_SYSTEM, "%s: %m", part);
    if (ok && rename(part, spool_path) != 0)
        ok = err_set(err, ERR_SYSTEM, "%s: %m", spool_path);
    if (!ok)
        unlink(part);
    return ok;
}

static int open_path(const struct ids *s, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        bool theirs = errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != EIO;
        err_set(err, theirs ? ERR_USER : ERR_SYSTEM, "id file %s: %m", s->file.path);
    }
    return fd;
}

/* s->fd: a file that can be read twice. */
static bool open_file(struct ids *s, const struct ids_options *o, struct err *err)
{
    bool input = strcmp(o->path, "-") == 0;
    struct stat st;
    int fd;

    if (o->spooled && o->spool_path) {
        s->fd = open_path(s, o->spool_path, err);
    } else {
        fd = input ? STDIN_FILENO : open_path(s, o->path, err);
        if (fd < 0 || fstat(fd, &st) != 0)
            return fd < 0 ? false : err_set(err, ERR_SYSTEM, "id file %s: %m", o->path);
        bool plain = S_ISREG(st.st_mode) && !input;
        bool ok = true;
        if (S_ISDIR(st.st_mode))
            ok = err_set(err, ERR_USER, "id file %s: it is a folder", o->path);
        else if (!plain && !o->spool_path)
            ok = err_set(err, ERR_USER, "id file %s: it can't be read twice", o->path);
        else if (!plain)
            ok = spool(s, fd, o->spool_path, err);
        if (!plain && !input)
            close(fd);
        if (!ok) {
            if (plain)
                close(fd);
            return false;
        }
        s->fd = plain ? fd : open_path(s, o->spool_path, err);
    }
    if (s->fd < 0)
        return false;
    if (fstat(s->fd, &st) != 0)
        return err_set(err, ERR_SYSTEM, "id file %s: %m", o->path);
    s->file.bytes = (uint64_t)st.st_size;
    s->changed_at = st.st_mtim;
    posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return true;
}

static bool hash_file(struct ids *s, struct err *err)
{
    struct sha256 *h = sha256_new();
    bool ok = true;
    uint8_t last = '\n';

    go_to(s, 0, 1);
    while (ok && offset(s) < s->file.bytes) {
        if (cancel_level(s->cancel) >= 1)
            ok = err_set(err, ERR_CANCEL, "stopped while the id file was read");
        else
            ok = fill(s, err);
        struct slice r = rest(s);
        if (!ok || !r.n)
            continue;
        sha256_add(h, r);
        s->file.count += count_lines(r);
        last = r.p[r.n - 1];
        pass(s, r.n);
    }
    s->file.count += last != '\n';
    sha256_end_hex(h, s->file.sha256);
    sha256_free(h);
    return ok;
}

/* Files that people have at hand and that are no list of ids. */
static bool refuse_kind(const struct ids *s, struct slice start, struct err *err)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } kinds[] = {
        {"\x1f\x8b", 2, "it is compressed: zcat it, and give the ids as -"},
        {"\x28\xb5\x2f\xfd", 4, "it is compressed: zstdcat it, and give the ids as -"},
        {"PK\x03\x04", 4, "it is a spreadsheet or zip archive: save it as CSV"},
        {"\xff\xfe", 2, "it is UTF-16: save it as UTF-8"},
        {"\xfe\xff", 2, "it is UTF-16: save it as UTF-8"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (start.n >= kinds[i].n && memcmp(start.p, kinds[i].bytes, kinds[i].n) == 0)
            return err_set(err, ERR_USER, "id file %s: %s", s->file.path, kinds[i].what);
    }
    if (memchr(start.p, 0, start.n < 4 ? start.n : 4))
        return err_set(err, ERR_USER, "id file %s: it is not text", s->file.path);
    return true;
}

static bool has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path);
    size_t m = strlen(ending);

    return n > m && strcasecmp(path + n - m, ending) == 0;
}

/* Lines that are all quoted strings: JSON when one of them has a backslash and none a doubled quote
 * or a comma behind a quote. */
static bool quoted_json(struct slice text)
{
    bool backslash = false;

    for (size_t i = 0; i + 1 < text.n; i++) {
        if (text.p[i] == '\\') {
            backslash = true;
            i++;
        } else if (text.p[i] == '"' && (text.p[i + 1] == '"' || text.p[i + 1] == ',')) {
            return false;
        }
    }
    return backslash;
}

static enum ids_form find_form(const struct ids *s, struct slice start)
{
    struct slice text = text_trim(start);

    if (label_bytes(text, "Request No"))
        return IDS_LOG;
    if (!text.n)
        return IDS_CSV;
    if (has_ending(s->file.path, ".json") || has_ending(s->file.path, ".jsonl") ||
        has_ending(s->file.path, ".ndjson") || text.p[0] == '{')
        return IDS_JSON;
    return text.p[0] == '"' && quoted_json(text) ? IDS_JSON : IDS_CSV;
}

static bool start(struct ids *s, enum ids_form form, struct err *err)
{
    uint64_t at = 0;

    go_to(s, 0, 1);
    if (!fill(s, err) || !refuse_kind(s, rest(s), err))
        return false;
    struct slice r = rest(s);
    if (r.n >= 3 && memcmp(r.p, "\xef\xbb\xbf", 3) == 0)
        at = 3;
    pass(s, (size_t)at);
    r = text_trim(rest(s));
    s->file.form = form == IDS_AUTO ? find_form(s, r) : form;
    s->first_at = at;
    s->first_line = 1;
    if (s->file.form != IDS_LOG && r.n && r.p[0] == '[')
        return err_set(err, ERR_USER,
                       "id file %s: it begins with \"[\"; one JSON value a line is wanted, not one "
                       "array (jq -c '.[]' makes it so)",
                       s->file.path);
    return s->file.form != IDS_CSV || csv_start(s, err);
}

/* There is something in it, if only a bad line. A log is counted, for its lines say little. */
static bool look_through(struct ids *s, struct err *err)
{
    struct id_item item;
    uint64_t n = 0;
    bool more = true;

    while (more && (n == 0 || s->file.form == IDS_LOG)) {
        more = ids_next(s, &item, err) || err->kind == ERR_REJECT;
        n += more;
        if (cancel_level(s->cancel) >= 1)
            return err_set(err, ERR_CANCEL, "stopped while the id file was read");
    }
    if (!more && err->kind != ERR_NONE)
        return false;
    err_clear(err);
    if (!n)
        return err_set(err, ERR_USER, "id file %s: it holds no ids", s->file.path);
    if (s->file.form == IDS_LOG)
        s->file.count = n;
    go_to(s, s->first_at, s->first_line);
    return true;
}

struct ids *ids_open(const struct ids_options *o, struct err *err)
{
    ensure(o->key_count >= 1 && o->key_count <= IDS_KEY_MAX);
    ensure(!o->column || o->key_count == 1);
    struct ids *s = xalloc(sizeof *s);

    *s = (struct ids){
        .file.path = o->path,
        .fd = -1,
        .cancel = o->cancel,
        .header = o->header,
        .key_names = o->key_names,
        .key_count = o->key_count,
        .column = o->column,
        .win = xalloc(WINDOW_BYTES),
        .fields = xalloc(FIELDS_MAX * sizeof(struct slice)),
        .quoted = xalloc(FIELDS_MAX),
    };
    buf_init(&s->unquoted, IDS_ITEM_MAX_BYTES);
    buf_room(&s->unquoted, IDS_ITEM_MAX_BYTES); /* all of it now: fields point into it */
    buf_init(&s->json, 8 * IDS_ITEM_MAX_BYTES);
    arena_init(&s->mem, TREE_MAX_BYTES);
    if (!open_file(s, o, err) || !hash_file(s, err) || !start(s, o->form, err) ||
        !look_through(s, err)) {
        ids_close(s);
        return NULL;
    }
    return s;
}

void ids_close(struct ids *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    arena_fini(&s->mem);
    buf_fini(&s->json);
    buf_fini(&s->unquoted);
    free(s->win);
    free(s->fields);
    free(s->quoted);
    free(s);
}

const struct ids_file *ids_file(const struct ids *s)
{
    return &s->file;
}
