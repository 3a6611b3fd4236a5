#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "source/ids_read.h"

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
        if (ids_same_name(v->key, slice_str(name)))
            return v;
    }
    return NULL;
}

/* A value into s->parts; or its list of them into *list. NULL, or what is wrong. */
const char *ids_json_parts(struct ids *s, const struct json *v, const struct json **list,
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
bool ids_plain_string(struct slice text, struct slice *out)
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
        return ids_ready(s, out, s->more_line, end, SLICE_NULL);
    ids_bad(s, out, s->more_line, slice_str(""), "the list holds something that is no id", err);
    out->end = end;
    return false;
}

bool ids_json_next(struct ids *s, struct id_item *out, struct err *err)
{
    while (!s->more) {
        if (!ids_fill(s, err))
            return false;
        struct slice r = ids_rest(s);
        uint64_t line = s->line;
        uint64_t start = ids_offset(s);
        const uint8_t *end = r.n ? memchr(r.p, '\n', r.n) : NULL;
        struct slice text = slice_of(r.p, end ? (size_t)(end + 1 - r.p) : r.n);
        struct slice json;
        struct err bad = {0};

        if (!r.n)
            return false;
        if (text.n > IDS_ITEM_MAX_BYTES) {
            if (!ids_pass_line(s, err))
                return false;
            return ids_bad(s, out, line, slice_str(""), "longer than 65536 bytes", err);
        }
        ids_pass(s, text.n);
        s->line += end != NULL;
        text = text_trim(text);
        if (!text.n)
            continue;
        if (s->key_count == 1 && ids_plain_string(text, &s->parts[0]))
            return ids_ready(s, out, line, ids_offset(s), SLICE_NULL);
        arena_reset(&s->mem);
        const struct json *v = json_parse(text, &s->mem, &bad);
        if (!v) {
            char why[300];
            snprintf(why, sizeof why, "not JSON: %.250s", bad.text);
            return ids_bad(s, out, line, text, why, err);
        }
        const char *why = ids_json_parts(s, v, &s->more, &json);
        if (why)
            return ids_bad(s, out, line, text, why, err);
        if (!s->more)
            return ids_ready(s, out, line, ids_offset(s), json);
        s->more_at = start;
        s->more_line = line;
        s->line_end = ids_offset(s);
    }
    return list_next(s, out, err);
}
