#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "source/ids_read.h"

/* ---- records ---- */

/* "a, b" of the key's columns. */
static const char *key_text(const struct ids *s, char *out, size_t room)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < s->key_count && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%s", i ? ", " : "", s->key_names[i]);
    return out;
}

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

/* The next record that is not blank into s->fields, and the reader behind it; `raw` is its text.
 * False at the end (ERR_NONE), for a bad line, or with an err. */
static bool csv_record(struct ids *s, struct slice *raw, uint64_t *line, struct id_item *out,
                       struct err *err)
{
    for (;;) {
        if (!ids_fill(s, err))
            return false;
        struct slice r = ids_rest(s);
        *line = s->line;
        if (!r.n)
            return false;
        const uint8_t *end = memchr(r.p, '\n', r.n);
        size_t n = end ? (size_t)(end + 1 - r.p) : r.n;
        struct slice text = slice_of(r.p, n);
        if (n > IDS_ITEM_MAX_BYTES) {
            char shown[RAW_BYTES];
            memcpy(shown, r.p, sizeof shown);
            if (!ids_pass_line(s, err))
                return false;
            buf_reset(&s->unquoted);
            buf_add(&s->unquoted, shown, sizeof shown);
            return ids_bad(s, out, *line, buf_slice(&s->unquoted), "longer than 65536 bytes", err);
        }
        if (!text_trim(text).n) {
            ids_pass(s, n);
            s->line += end != NULL;
            continue;
        }
        s->field_count = 0;
        uint64_t lines = end != NULL;
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
                ids_pass(s, text.n);
                s->line += end != NULL;
                return ids_bad(s, out, *line, text, why, err);
            }
            text.n = n;
            lines = count_lines(text);
        }
        *raw = text;
        ids_pass(s, n);
        s->line += lines;
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
        return ids_bad(s, out, line, raw, why, err);
    }
    for (size_t i = 0; i < s->key_count; i++) {
        uint32_t at = s->column_of[i];

        if (at >= s->field_count) {
            snprintf(why, sizeof why, "%zu column%s, no column %u", s->field_count,
                     s->field_count == 1 ? "" : "s", at + 1);
            return ids_bad(s, out, line, raw, why, err);
        }
        s->parts[i] = s->fields[at];
        if (!s->parts[i].n && !(s->quoted[at] && s->key_count > 1))
            return ids_bad(s, out, line, raw, "empty id", err);
        if (!utf8_valid(s->parts[i]))
            return ids_bad(s, out, line, raw, "not UTF-8", err);
        if (!s->quoted[at] && memchr(s->parts[i].p, '\r', s->parts[i].n))
            return ids_bad(s, out, line, raw, "lines end by CR alone: save it with LF", err);
    }
    return ids_ready(s, out, line, ids_offset(s), SLICE_NULL);
}

bool ids_csv_next(struct ids *s, struct id_item *out, struct err *err)
{
    struct slice raw;
    uint64_t line;

    return csv_record(s, &raw, &line, out, err) && csv_item(s, raw, line, out, err);
}

/* ---- the first record ---- */

static const char *const any_id_names[] = {"id",   "ids",      "identifier", "identifiers",
                                           "uuid", "objectid", "objectids",  NULL};
static const char *const some_id_names[] = {
    "userid",   "userids",  "organisationid", "organizationid", "orgid", "batchid",
    "batchids", "courseid", "courseids",      "locationid",     NULL};

static bool name_in(struct slice name, const char *const *list)
{
    for (; *list; list++) {
        if (ids_same_name(name, slice_str(*list)))
            return true;
    }
    return false;
}

static bool name_of_key(const struct ids *s, struct slice name)
{
    for (size_t i = 0; i < s->key_count; i++) {
        if (ids_same_name(name, slice_str(s->key_names[i])))
            return true;
    }
    return false;
}

static bool name_known(const struct ids *s, struct slice name)
{
    return name_in(name, any_id_names) || name_in(name, some_id_names) || name_of_key(s, name);
}

static size_t known_fields(const struct ids *s)
{
    return s->field_count < FIELDS_MAX ? s->field_count : FIELDS_MAX;
}

static bool find_field(const struct ids *s, const char *name, uint32_t *at)
{
    for (size_t pass_no = 0; pass_no < 2; pass_no++) {
        for (size_t i = 0; i < known_fields(s); i++) {
            if (pass_no ? ids_same_name(s->fields[i], slice_str(name))
                        : slice_is(s->fields[i], name)) {
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

    if (ids_same_name(name, key) || name_in(name, any_id_names) || name_in(key, any_id_names) ||
        !name_in(name, some_id_names))
        return true;
    char plural[80];
    snprintf(plural, sizeof plural, "%ss", s->key_names[0]);
    if (ids_same_name(name, slice_str(plural)))
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
    const char *missing = s->key_names[0];
    bool whole_key = true;

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
    for (size_t i = 0; i < s->key_count; i++) {
        if (whole_key && !find_field(s, s->key_names[i], &at)) {
            missing = s->key_names[i];
            whole_key = false;
        }
    }
    if (whole_key) {
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

bool ids_csv_start(struct ids *s, struct err *err)
{
    uint64_t at = ids_offset(s);
    uint64_t line = s->line;
    struct id_item item;
    struct slice raw;
    uint64_t record_line;
    bool is_header = false;

    if (csv_record(s, &raw, &record_line, &item, err)) {
        if (!csv_header(s, &is_header, err))
            return false;
        if (is_header) {
            at = ids_offset(s);
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
    ids_go_to(s, at, line);
    return true;
}
