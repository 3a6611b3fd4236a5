#include <inttypes.h>

#include "base/text.h"
#include "source/ids_read.h"

size_t ids_log_label(struct slice text, const char *word)
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
    return ids_log_label(text, "Request No") || ids_log_label(text, "Response");
}

/* The byte at the reader, or -1 at the end, or with err. */
static int log_peek(struct ids *s, struct err *err)
{
    if (s->win_to - s->win_from <= 64 && !ids_fill(s, err))
        return -1;
    return s->win_from < s->win_to ? s->win[s->win_from] : -1;
}

static void log_pass(struct ids *s)
{
    s->line += s->win[s->win_from] == '\n';
    ids_pass(s, 1);
}

/* To the next byte of JSON; -1 too when the body was cut off, in front of the next part. */
static int log_token(struct ids *s, struct err *err)
{
    for (;;) {
        int c = log_peek(s, err);

        if (c == '\n') {
            struct slice next = ids_rest(s);
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
        if (!ids_fill(s, err))
            return NOT_FOUND;
        if (ids_log_label(ids_rest(s), "Request No"))
            in_entry = true;
        else if (!in_entry || ids_log_label(ids_rest(s), "Response"))
            in_entry = false;
        /* the three parts may stand on one line */
        for (int c = log_peek(s, err); in_entry && c >= 0 && c != '\n'; c = log_peek(s, err)) {
            size_t label = c == 'R' ? ids_log_label(ids_rest(s), "Request") : 0;

            if (!label) {
                log_pass(s);
                continue;
            }
            ids_pass(s, label);
            return FOUND;
        }
        if (err->kind != ERR_NONE || !ids_pass_line(s, err) || log_peek(s, err) < 0)
            return NOT_FOUND;
    }
}

/* The element's bytes, reader at its first one and left there; 0: too long or cut off. */
static size_t log_element(const struct ids *s)
{
    struct slice r = ids_rest(s);
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
    struct slice r = ids_rest(s);
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
    if (i >= r.n || !ids_same_name(slice_of(r.p + name, i - name), slice_str(s->key_names[0])))
        return false;
    for (i++; i < r.n && (r.p[i] <= ' ' || r.p[i] == ':');)
        i++;
    if (i >= r.n || r.p[i] != '[')
        return false;
    s->line += count_lines(slice_of(r.p, i + 1));
    ids_pass(s, i + 1);
    s->place = LOG_IN_LIST;
    return true;
}

static bool log_cut_off(struct ids *s, struct id_item *out, uint64_t line, struct err *err)
{
    if (err->kind != ERR_NONE)
        return false;
    struct slice raw = ids_rest(s);
    const uint8_t *end = raw.n ? memchr(raw.p, '\n', raw.n) : NULL;
    if (end)
        raw.n = (size_t)(end - raw.p);
    if (raw.n > RAW_BYTES)
        raw.n = RAW_BYTES;
    buf_reset(&s->unquoted);
    buf_add_slice(&s->unquoted, raw);
    s->place = LOG_OUTSIDE;
    if (!ids_pass_line(s, err))
        return false;
    return ids_bad(s, out, line, buf_slice(&s->unquoted), "the list of ids is cut off, or not JSON",
                   err);
}

static bool log_value(struct ids *s, struct id_item *out, struct err *err)
{
    uint64_t line = s->line;
    struct slice json = SLICE_NULL;
    struct err bad = {0};
    const struct json *list = NULL;

    if (!ids_fill(s, err))
        return false;
    size_t n = log_element(s);
    if (!n)
        return log_cut_off(s, out, line, err);
    struct slice text = slice_of(ids_rest(s).p, n);
    s->line += count_lines(text);
    ids_pass(s, n);
    if (s->key_count == 1 && ids_plain_string(text, &s->parts[0]))
        return ids_ready(s, out, line, ids_offset(s), SLICE_NULL);
    arena_reset(&s->mem);
    const struct json *v = json_parse(text, &s->mem, &bad);
    const char *why = v ? ids_json_parts(s, v, &list, &json) : "not JSON";
    if (!why && list)
        why = "a list in an object with other members before it";
    if (why)
        return ids_bad(s, out, line, text, why, err);
    return ids_ready(s, out, line, ids_offset(s), json);
}

bool ids_log_next(struct ids *s, struct id_item *out, struct err *err)
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
                return ids_bad(s, out, line, slice_str(""), why, err);
            }
            s->place = LOG_IN_IDS;
        }
        if (!ids_fill(s, err))
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
            if (!ids_pass_line(s, err))
                return false;
        } else if (c < 0 || c == '}' || c == ':') {
            return log_cut_off(s, out, s->line, err);
        } else if (c != '{' || s->place == LOG_IN_LIST || !ids_fill(s, err) || !log_enter_list(s)) {
            return err->kind == ERR_NONE && log_value(s, out, err);
        }
    }
}
