#include "mapping/fit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum { KEYWORD_MAX_BYTES = 32766, PATH_BYTES = 128 };

/* ---- findings ---------------------------------------------------------------------------------
 */

__attribute__((format(printf, 4, 5))) static void find(struct fit *out, enum fit_grade grade,
                                                       const char *field, const char *fmt, ...)
{
    va_list ap;

    for (size_t i = 0; i < out->count; i++)
        if (!strncmp(out->list[i].field, field, sizeof out->list[i].field - 1)) {
            if (out->list[i].grade >= grade)
                return;
            out->list[i] = out->list[--out->count]; /* the graver one takes its place */
            break;
        }
    if (out->count == FIT_FINDINGS) {
        out->left_out++;
        return;
    }
    struct fit_finding *f = &out->list[out->count++];
    f->grade = grade;
    snprintf(f->field, sizeof f->field, "%s", field);
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
}

/* ---- the index's side -------------------------------------------------------------------------
 */

enum dynamic { DYNAMIC_TRUE, DYNAMIC_FALSE, DYNAMIC_STRICT };

enum kind {
    KIND_UNKNOWN, /* of a plug-in, or too special to judge */
    KIND_TEXT,
    KIND_KEYWORD,
    KIND_INT,
    KIND_REAL,
    KIND_BOOLEAN,
    KIND_DATE,
    KIND_IP,
    KIND_BINARY,
    KIND_OBJECT,
    KIND_FLAT,
    KIND_ALIAS,
};

static const struct {
    const char *type;
    enum kind kind;
    int64_t min, max; /* KIND_INT */
} types[] = {
    {"text", KIND_TEXT, 0, 0},
    {"match_only_text", KIND_TEXT, 0, 0},
    {"search_as_you_type", KIND_TEXT, 0, 0},
    {"wildcard", KIND_TEXT, 0, 0},
    {"keyword", KIND_KEYWORD, 0, 0},
    {"byte", KIND_INT, INT8_MIN, INT8_MAX},
    {"short", KIND_INT, INT16_MIN, INT16_MAX},
    {"integer", KIND_INT, INT32_MIN, INT32_MAX},
    {"long", KIND_INT, INT64_MIN, INT64_MAX},
    {"unsigned_long", KIND_INT, 0, INT64_MAX},
    {"float", KIND_REAL, 0, 0},
    {"half_float", KIND_REAL, 0, 0},
    {"double", KIND_REAL, 0, 0},
    {"scaled_float", KIND_REAL, 0, 0},
    {"boolean", KIND_BOOLEAN, 0, 0},
    {"date", KIND_DATE, 0, 0},
    {"date_nanos", KIND_DATE, 0, 0},
    {"ip", KIND_IP, 0, 0},
    {"binary", KIND_BINARY, 0, 0},
    {"object", KIND_OBJECT, 0, 0},
    {"nested", KIND_OBJECT, 0, 0},
    {"flattened", KIND_FLAT, 0, 0},
    {"flat_object", KIND_FLAT, 0, 0},
    {"alias", KIND_ALIAS, 0, 0},
};

struct field {
    const struct json *node;
    enum kind kind;
    int64_t min, max;
    char type[32];
};

static struct field field_of(const struct json *node)
{
    struct field f = {.node = node, .kind = KIND_UNKNOWN};
    struct slice type = json_get_string(node, "type");

    if (!type.p)
        type = slice_str("object");
    snprintf(f.type, sizeof f.type, "%.*s", (int)type.n, (const char *)type.p);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].type, f.type) != 0)
            continue;
        f.kind = types[i].kind;
        f.min = types[i].min;
        f.max = types[i].max;
    }
    return f;
}

static bool is_word(const struct json *v, bool truth, const char *word)
{
    return v && ((v->kind == JSON_BOOL && v->truth == truth) ||
                 (v->kind == JSON_STRING && slice_is(v->text, word)));
}

/* Of an object, or of the one around it. */
static enum dynamic dynamic_of(const struct json *node, enum dynamic around)
{
    const struct json *d = json_get(node, "dynamic");

    if (!d)
        return around;
    if (d->kind == JSON_STRING && slice_is(d->text, "strict"))
        return DYNAMIC_STRICT;
    return is_word(d, false, "false") ? DYNAMIC_FALSE : DYNAMIC_TRUE;
}

/* Values of such a field are not looked at, or repaired. */
static bool takes_anything(const struct json *node)
{
    return is_word(json_get(node, "enabled"), false, "false") ||
           is_word(json_get(node, "ignore_malformed"), true, "true");
}

static void no_field(enum dynamic dynamic, const char *path, struct fit *out)
{
    if (dynamic == DYNAMIC_STRICT)
        find(out, FIT_FAIL, path, "is not in the index's mapping, which is strict");
    else if (dynamic == DYNAMIC_FALSE)
        find(out, FIT_WARN, path, "is not in the index's mapping: stored, but not searchable");
}

static void add_path(char out[PATH_BYTES], const char *path, struct slice name)
{
    char text[PATH_BYTES];

    snprintf(text, sizeof text, "%s%s%.*s", path, *path ? "." : "", (int)name.n,
             (const char *)name.p);
    memcpy(out, text, PATH_BYTES);
}

/* ---- documents --------------------------------------------------------------------------------
 */

static bool is_number(struct slice text)
{
    const char digits[] = "0123456789.+-eE";
    bool any = false;

    for (size_t i = 0; i < text.n; i++) {
        if (!strchr(digits, text.p[i]) || !text.p[i])
            return false;
        any = any || (text.p[i] >= '0' && text.p[i] <= '9');
    }
    return any;
}

static void fit_number(const struct field *f, const struct json *v, const char *path,
                       struct fit *out)
{
    int64_t n;

    if (v->kind == JSON_BOOL || (v->kind == JSON_STRING && v->text.n && !is_number(v->text))) {
        find(out, FIT_FAIL, path, "is no number, and the field is of type %s", f->type);
        return;
    }
    if (f->kind == KIND_INT && v->text.n < 19 && !memchr(v->text.p, '.', v->text.n) &&
        text_to_i64(v->text, INT64_MIN, INT64_MAX, &n) && (n < f->min || n > f->max))
        find(out, FIT_FAIL, path, "is beyond the range of type %s", f->type);
}

static void fit_scalar(const struct field *f, const struct json *v, const char *path,
                       struct fit *out)
{
    bool text = v->kind == JSON_STRING;
    uint8_t first = text && v->text.n ? v->text.p[0] : '0';

    switch (f->kind) {
    case KIND_INT:
    case KIND_REAL:
        fit_number(f, v, path, out);
        return;
    case KIND_KEYWORD:
        if (text && v->text.n > KEYWORD_MAX_BYTES && !json_get(f->node, "ignore_above"))
            find(out, FIT_FAIL, path, "is longer than %d bytes, and the field is a keyword",
                 KEYWORD_MAX_BYTES);
        return;
    case KIND_BOOLEAN:
        if (v->kind != JSON_BOOL &&
            !(text && (slice_is(v->text, "true") || !v->text.n || slice_is(v->text, "false"))))
            find(out, FIT_FAIL, path, "is neither true nor false, and the field is a boolean");
        return;
    case KIND_DATE:
        if (v->kind == JSON_BOOL || (text && !json_get(f->node, "format") && first != '-' &&
                                     first != '+' && (first < '0' || first > '9')))
            find(out, FIT_FAIL, path, "is no date, and the field is of type %s", f->type);
        return;
    case KIND_IP:
        if (!text || (!memchr(v->text.p, '.', v->text.n) && !memchr(v->text.p, ':', v->text.n)))
            find(out, FIT_FAIL, path, "is no address, and the field is of type ip");
        return;
    case KIND_OBJECT:
    case KIND_FLAT:
        find(out, FIT_FAIL, path, "is no object, and the field is one");
        return;
    case KIND_ALIAS:
        find(out, FIT_FAIL, path, "is the name of an alias of another field");
        return;
    case KIND_BINARY:
        if (!text)
            find(out, FIT_FAIL, path, "is no text, and the field is binary");
        return;
    case KIND_TEXT:
    case KIND_UNKNOWN:
        return;
    }
}

static void fit_members(const struct json *node, enum dynamic around, const struct json *object,
                        const char *path, struct fit *out);

static void fit_value(const struct field *f, enum dynamic around, const struct json *v,
                      const char *path, struct fit *out)
{
    if (v->kind == JSON_NULL || takes_anything(f->node))
        return;
    if (v->kind == JSON_ARRAY) {
        json_each (one, v)
            fit_value(f, around, one, path, out);
        return;
    }
    if (v->kind != JSON_OBJECT) {
        fit_scalar(f, v, path, out);
        return;
    }
    if (f->kind == KIND_OBJECT)
        fit_members(f->node, around, v, path, out);
    else if (f->kind != KIND_FLAT && f->kind != KIND_UNKNOWN)
        find(out, FIT_FAIL, path, "is an object, and the field is of type %s", f->type);
}

/* "a.b" is b within a. */
static void fit_member(const struct json *node, enum dynamic around, struct slice name,
                       const struct json *v, const char *path, struct fit *out)
{
    enum dynamic dynamic = dynamic_of(node, around);
    const uint8_t *dot = memchr(name.p, '.', name.n);
    struct slice head = dot ? slice_of(name.p, (size_t)(dot - name.p)) : name;
    char key[PATH_BYTES];
    char full[PATH_BYTES];

    snprintf(key, sizeof key, "%.*s", (int)head.n, (const char *)head.p);
    add_path(full, path, head);
    const struct json *found = json_get(json_get(node, "properties"), key);
    if (!found) {
        if (v->kind != JSON_NULL)
            no_field(dynamic, full, out);
        return;
    }
    struct field f = field_of(found);
    if (!dot)
        fit_value(&f, dynamic, v, full, out);
    else if (f.kind == KIND_OBJECT)
        fit_member(found, dynamic, slice_of(dot + 1, name.n - head.n - 1), v, full, out);
}

static void fit_members(const struct json *node, enum dynamic around, const struct json *object,
                        const char *path, struct fit *out)
{
    json_each (m, object)
        fit_member(node, around, m->key, m, path, out);
}

void fit_document(const struct json *mappings, const struct json *document, struct fit *out)
{
    if (mappings && document->kind == JSON_OBJECT)
        fit_members(mappings, DYNAMIC_TRUE, document, "", out);
}

/* ---- columns ----------------------------------------------------------------------------------
 */

/* What the values of a CQL type are in a document. */
enum form {
    FORM_ANY,    /* text: whatever it says */
    FORM_WORD,   /* text that is nothing else */
    FORM_DIGITS, /* text of a number */
    FORM_INT,
    FORM_REAL,
    FORM_BOOL,
    FORM_DATE,
    FORM_ADDRESS,
    FORM_BYTES,
    FORM_OBJECT,
};

static enum form form_of(const struct type *t)
{
    switch (t->kind) {
    case TYPE_TINYINT:
    case TYPE_SMALLINT:
    case TYPE_INT:
    case TYPE_BIGINT:
    case TYPE_COUNTER:
        return FORM_INT;
    case TYPE_FLOAT:
    case TYPE_DOUBLE:
        return FORM_REAL;
    case TYPE_VARINT:
    case TYPE_DECIMAL:
        return FORM_DIGITS;
    case TYPE_BOOLEAN:
        return FORM_BOOL;
    case TYPE_TIMESTAMP:
    case TYPE_DATE:
        return FORM_DATE;
    case TYPE_INET:
        return FORM_ADDRESS;
    case TYPE_BLOB:
    case TYPE_CUSTOM:
        return FORM_BYTES;
    case TYPE_MAP:
    case TYPE_UDT:
        return FORM_OBJECT;
    case TYPE_LIST:
    case TYPE_SET:
    case TYPE_VECTOR:
        return form_of(t->args[0]);
    case TYPE_UUID:
    case TYPE_TIMEUUID:
    case TYPE_TIME:
    case TYPE_DURATION:
        return FORM_WORD;
    default: /* texts; a tuple is of several */
        return FORM_ANY;
    }
}

static int64_t int_max(const struct type *t)
{
    while (t->kind == TYPE_LIST || t->kind == TYPE_SET || t->kind == TYPE_VECTOR)
        t = t->args[0];
    return t->kind == TYPE_TINYINT    ? INT8_MAX
           : t->kind == TYPE_SMALLINT ? INT16_MAX
           : t->kind == TYPE_INT      ? INT32_MAX
                                      : INT64_MAX;
}

static void judge_number(const struct field *f, enum form form, const struct type *t,
                         const char *path, struct fit *out)
{
    if (form == FORM_ANY)
        find(out, FIT_WARN, path, "is text; what is no number is refused, the field is of type %s",
             f->type);
    else if (form == FORM_DIGITS && f->kind == KIND_INT)
        find(out, FIT_WARN, path, "has numbers of any size; those beyond %s are refused", f->type);
    else if (form == FORM_INT && f->kind == KIND_INT && int_max(t) > f->max)
        find(out, FIT_WARN, path, "may be beyond the range of type %s; such are refused", f->type);
    else if (form == FORM_INT && f->kind == KIND_INT && f->min == 0)
        find(out, FIT_WARN, path, "may be negative; such are refused, the field is of type %s",
             f->type);
    else if (form != FORM_INT && form != FORM_REAL && form != FORM_DIGITS)
        find(out, FIT_FAIL, path, "is never a number, and the field is of type %s", f->type);
}

static void only(const struct field *f, enum form form, enum form wanted, const char *path,
                 struct fit *out)
{
    if (form == FORM_ANY)
        find(out, FIT_WARN, path, "is text; what does not look like type %s is refused", f->type);
    else if (form != wanted)
        find(out, FIT_FAIL, path, "is never what type %s takes", f->type);
}

static void fit_fields(const struct json *node, enum dynamic around, const struct type *t,
                       const char *path, struct fit *out);

static void fit_type(const struct field *f, enum dynamic around, const struct type *t,
                     const char *path, struct fit *out)
{
    enum form form = form_of(t);

    if (takes_anything(f->node) || t->kind == TYPE_TUPLE || f->kind == KIND_UNKNOWN)
        return;
    if (f->kind == KIND_ALIAS)
        find(out, FIT_FAIL, path, "is the name of an alias of another field");
    else if (form == FORM_OBJECT && f->kind == KIND_OBJECT)
        fit_fields(f->node, around, t, path, out);
    else if (form == FORM_OBJECT && f->kind != KIND_FLAT)
        find(out, FIT_FAIL, path, "is an object, and the field is of type %s", f->type);
    else if (form != FORM_OBJECT && (f->kind == KIND_OBJECT || f->kind == KIND_FLAT))
        find(out, FIT_FAIL, path, "is no object, and the field is one");
    else if (f->kind == KIND_INT || f->kind == KIND_REAL)
        judge_number(f, form, t, path, out);
    else if (f->kind == KIND_BOOLEAN)
        only(f, form, FORM_BOOL, path, out);
    else if (f->kind == KIND_DATE && form != FORM_INT && form != FORM_DIGITS && form != FORM_REAL)
        only(f, form, FORM_DATE, path, out);
    else if (f->kind == KIND_IP)
        only(f, form, FORM_ADDRESS, path, out);
    else if (f->kind == KIND_BINARY)
        only(f, form, FORM_BYTES, path, out);
}

/* Fields of a UDT; the keys of a map are data. */
static void fit_fields(const struct json *node, enum dynamic around, const struct type *t,
                       const char *path, struct fit *out)
{
    enum dynamic dynamic = dynamic_of(node, around);

    while (t->kind == TYPE_LIST || t->kind == TYPE_SET || t->kind == TYPE_VECTOR)
        t = t->args[0];
    for (uint16_t i = 0; t->kind == TYPE_UDT && i < t->arg_count; i++) {
        char key[PATH_BYTES];
        char full[PATH_BYTES];

        snprintf(key, sizeof key, "%.*s", (int)t->field_names[i].n,
                 (const char *)t->field_names[i].p);
        add_path(full, path, t->field_names[i]);
        const struct json *found = json_get(json_get(node, "properties"), key);
        struct field f = field_of(found);
        if (found)
            fit_type(&f, dynamic, t->args[i], full, out);
        else
            no_field(dynamic, full, out);
    }
}

static bool is_wanted(const struct mapping *m, const char *column)
{
    if (!m->columns.count)
        return true;
    for (size_t i = 0; i < m->columns.count; i++)
        if (strcmp(m->columns.list[i].name, column) == 0)
            return true;
    return false;
}

static const char *field_name(const struct mapping *m, const char *column)
{
    for (size_t i = 0; i < m->rename.count; i++)
        if (strcmp(m->rename.list[i].from.name, column) == 0)
            return m->rename.list[i].to.name;
    return column;
}

/* What a step does with the field is not known here. */
static bool is_touched(const struct mapping *m, const char *field)
{
    for (size_t i = 0; i < m->step_count; i++)
        if (m->steps[i].field.name && strcmp(m->steps[i].field.name, field) == 0)
            return true;
    return false;
}

void fit_columns(const struct json *mappings, const struct mapping *m, const struct schema *s,
                 struct fit *out)
{
    enum dynamic dynamic = dynamic_of(mappings, DYNAMIC_TRUE);

    for (uint16_t i = 0; mappings && i < s->column_count; i++) {
        const char *field = field_name(m, s->columns[i].name);

        if (!is_wanted(m, s->columns[i].name) || is_touched(m, field))
            continue;
        const struct json *found = json_get(json_get(mappings, "properties"), field);
        struct field f = field_of(found);
        if (found)
            fit_type(&f, dynamic, s->columns[i].type, field, out);
        else
            no_field(dynamic, field, out);
    }
}
