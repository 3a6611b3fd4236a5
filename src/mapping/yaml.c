#include "mapping/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum {
    FILE_MAX_BYTES = 1 << 20,
    CONST_MAX_BYTES = 1 << 20,
    CONST_MAX_DEPTH = 32, /* an alias may point at its own parent */
};

/* ---- errors ------------------------------------------------------------------------------------
 */

static bool fail_at(const char *path, struct place at, struct err *err, const char *fmt,
                    va_list args)
{
    char text[400];

    vsnprintf(text, sizeof text, fmt, args);
    if (!at.line) /* of no file: there is nothing to point at */
        return err_set(err, ERR_USER, "%s", text);
    return err_set(err, ERR_USER, "%s:%u:%u: %s", at.path ? at.path : path, at.line, at.column,
                   text);
}

bool mapping_error(const struct mapping *m, struct place at, struct err *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fail_at(m->path, at, err, fmt, args);
    va_end(args);
    return false;
}

struct place yaml_place(const struct yaml_tree *t, const yaml_node_t *n)
{
    return (struct place){(uint32_t)n->start_mark.line + 1, (uint32_t)n->start_mark.column + 1,
                          t->path};
}

bool yaml_fail(const struct yaml_tree *t, const yaml_node_t *n, struct err *err, const char *fmt,
               ...)
{
    va_list args;

    va_start(args, fmt);
    fail_at(t->path, yaml_place(t, n), err, fmt, args);
    va_end(args);
    return false;
}

bool yaml_too_large(const struct yaml_tree *t, const yaml_node_t *n, struct err *err)
{
    return yaml_fail(t, n, err, "the mapping is too large");
}

static bool in_list(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list))
            return true;
    return false;
}

bool yaml_check_word(const struct yaml_tree *t, const yaml_node_t *n, const char *what,
                     const char *word, const char *const *words, struct err *err)
{
    char allowed[256] = "";
    size_t len = 0;

    if (in_list(word, words))
        return true;
    const char *near = text_nearest(slice_str(word), words);
    if (near)
        return yaml_fail(t, n, err, "unknown %s \"%.60s\"; did you mean \"%s\"", what, word, near);
    for (size_t i = 0; words[i] && len < sizeof allowed; i++)
        len +=
            (size_t)snprintf(allowed + len, sizeof allowed - len, "%s%s", i ? ", " : "", words[i]);
    return yaml_fail(t, n, err, "unknown %s \"%.60s\"; allowed: %s", what, word, allowed);
}

/* ---- the tree ----------------------------------------------------------------------------------
 */

bool yaml_tree_load(struct yaml_tree *t, struct slice text, const char *path, struct err *err)
{
    yaml_parser_t parser;
    yaml_document_t second;
    bool ok = false;

    t->path = path;
    if (!yaml_parser_initialize(&parser))
        return err_set(err, ERR_SYSTEM, "out of memory");
    yaml_parser_set_input_string(&parser, text.p ? text.p : (const uint8_t *)"", text.n);
    if (!yaml_parser_load(&parser, &t->doc)) {
        err_set(err, ERR_USER, "%s:%zu:%zu: %s", path, parser.problem_mark.line + 1,
                parser.problem_mark.column + 1, parser.problem ? parser.problem : "is not YAML");
        yaml_parser_delete(&parser);
        return false;
    }
    if (!yaml_document_get_root_node(&t->doc))
        err_set(err, ERR_USER, "%s:1:1: is empty", path);
    else if (!yaml_parser_load(&parser, &second))
        err_set(err, ERR_USER, "%s:%zu:%zu: %s", path, parser.problem_mark.line + 1,
                parser.problem_mark.column + 1, parser.problem ? parser.problem : "is not YAML");
    else {
        yaml_node_t *more = yaml_document_get_root_node(&second);
        ok = !more || yaml_fail(t, more, err, "a second document; one file holds one mapping");
        yaml_document_delete(&second);
    }
    yaml_parser_delete(&parser);
    if (!ok)
        yaml_document_delete(&t->doc);
    return ok;
}

bool yaml_file_read(const char *path, struct buf *out, struct err *err)
{
    FILE *f = fopen(path, "re");

    if (!f)
        return err_set(err, ERR_USER, "%s: %m", path);
    buf_init(out, FILE_MAX_BYTES + 4096);
    for (size_t n = 1; n > 0 && !feof(f) && !ferror(f);) {
        uint8_t *to = buf_room(out, 4096);
        n = to ? fread(to, 1, 4096, f) : 0;
        out->len += n;
    }
    bool bad = ferror(f);
    if (bad)
        err_set(err, ERR_USER, "%s: can't be read: %m", path);
    fclose(f);
    if (!bad && (out->full || out->len > FILE_MAX_BYTES))
        bad = !err_set(err, ERR_USER, "%s: larger than 1 MiB", path);
    if (bad)
        buf_fini(out);
    return !bad;
}

yaml_node_t *yaml_node(struct yaml_tree *t, int id)
{
    return yaml_document_get_node(&t->doc, id);
}

const char *yaml_text(const yaml_node_t *n)
{
    return (const char *)n->data.scalar.value;
}

size_t yaml_pair_count(const yaml_node_t *n)
{
    return n->type == YAML_MAPPING_NODE
               ? (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start)
               : 0;
}

bool yaml_is_plain(const yaml_node_t *n, const char *word)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           !strcmp(yaml_text(n), word);
}

void yaml_tree_fini(struct yaml_tree *t)
{
    yaml_document_delete(&t->doc);
}

bool yaml_want_map(struct yaml_tree *t, const yaml_node_t *n, const char *what, struct err *err)
{
    if (n->type != YAML_MAPPING_NODE)
        return yaml_fail(t, n, err, "%s must be a map of names and values", what);
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(t, pair->key);
        if (key->type != YAML_SCALAR_NODE)
            return yaml_fail(t, key, err, "a name in %s must be text", what);
        for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < pair; p++)
            if (!strcmp(yaml_text(yaml_node(t, p->key)), yaml_text(key)))
                return yaml_fail(t, key, err, "\"%.60s\" is there twice", yaml_text(key));
    }
    return true;
}

bool yaml_want_text(struct yaml_tree *t, const yaml_node_t *n, const char *what, const char **out,
                    struct err *err)
{
    if (n->type != YAML_SCALAR_NODE)
        return yaml_fail(t, n, err, "%s must be text", what);
    if (!yaml_text(n)[0])
        return yaml_fail(t, n, err, "%s is empty", what);
    if (strlen(yaml_text(n)) != n->data.scalar.length)
        return yaml_fail(t, n, err, "%s holds a NUL character", what);
    *out = yaml_text(n);
    return true;
}

void *reader_take(struct mapping_reader *r, size_t bytes)
{
    return arena_zalloc(&r->m->mem, bytes ? bytes : 1);
}

bool reader_name(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                 struct mapping_name *out, struct err *err)
{
    const char *text = "";

    if (!yaml_want_text(r->tree, n, what, &text, err))
        return false;
    out->at = yaml_place(r->tree, n);
    out->name = arena_strndup(&r->m->mem, text, strlen(text));
    return out->name || yaml_too_large(r->tree, n, err);
}

bool reader_names(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                  struct mapping_names *out, struct err *err)
{
    if (n->type == YAML_MAPPING_NODE)
        return yaml_fail(r->tree, n, err, "%s must be a list of names", what);
    bool list = n->type == YAML_SEQUENCE_NODE;
    size_t max = list ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start) : 1;
    struct mapping_name *names = reader_take(r, max * sizeof *names);

    if (!names)
        return yaml_too_large(r->tree, n, err);
    *out = (struct mapping_names){.list = names};
    if (!list)
        return reader_name(r, n, what, &names[out->count++], err);
    each_item(item, n)
    {
        const yaml_node_t *one = yaml_node(r->tree, *item);
        struct mapping_name *name = &names[out->count];
        if (!reader_name(r, one, what, name, err))
            return false;
        for (size_t i = 0; i < out->count; i++)
            if (!strcmp(names[i].name, name->name))
                return yaml_fail(r->tree, one, err, "\"%.60s\" is there twice", name->name);
        out->count++;
    }
    return out->count > 0 || yaml_fail(r->tree, n, err, "%s is an empty list", what);
}

bool reader_pairs(struct mapping_reader *r, const yaml_node_t *n, const char *from, const char *to,
                  const char *skip, struct mapping_pairs *out, struct err *err)
{
    struct mapping_pair *list = reader_take(r, yaml_pair_count(n) * sizeof *list);

    if (!list)
        return yaml_too_large(r->tree, n, err);
    *out = (struct mapping_pairs){.list = list};
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        struct mapping_pair *p = &list[out->count];
        if (skip && !strcmp(yaml_text(key), skip))
            continue;
        if (!reader_name(r, key, from, &p->from, err) ||
            !reader_name(r, yaml_node(r->tree, pair->value), to, &p->to, err))
            return false;
        out->count++;
    }
    return true;
}

static bool read_values(struct mapping_reader *r, const yaml_node_t *n, struct mapping_condition *c,
                        struct err *err)
{
    bool list = n->type == YAML_SEQUENCE_NODE;
    size_t max = list ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start) : 1;
    const char **values = reader_take(r, max * sizeof *values);

    if (!values)
        return yaml_too_large(r->tree, n, err);
    c->values = values;
    if (!list)
        return reader_const(r, n, &values[c->value_count++], err);
    each_item(item, n) if (!reader_const(r, yaml_node(r->tree, *item), &values[c->value_count++],
                                         err)) return false;
    return c->value_count > 0 || yaml_fail(r->tree, n, err, "an empty list of values");
}

bool reader_conditions(struct mapping_reader *r, const yaml_node_t *n,
                       struct mapping_conditions *out, struct err *err)
{
    if (!yaml_want_map(r->tree, n, "where", err))
        return false;
    struct mapping_condition *list = reader_take(r, yaml_pair_count(n) * sizeof *list);
    if (!list)
        return yaml_too_large(r->tree, n, err);
    *out = (struct mapping_conditions){.list = list};
    each_pair(pair, n)
    {
        struct mapping_condition *c = &list[out->count++];
        if (!reader_name(r, yaml_node(r->tree, pair->key), "a field", &c->field, err) ||
            !read_values(r, yaml_node(r->tree, pair->value), c, err))
            return false;
    }
    return true;
}

/* ---- constants ---------------------------------------------------------------------------------
 */

/* A number as JSON writes it. */
static bool is_json_number(const char *s)
{
    s += *s == '-';
    if (*s == '0')
        s++;
    else if (*s >= '1' && *s <= '9')
        s += strspn(s, "0123456789");
    else
        return false;
    if (*s == '.') {
        size_t n = strspn(++s, "0123456789");
        if (!n)
            return false;
        s += n;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        size_t n = strspn(s, "0123456789");
        if (!n)
            return false;
        s += n;
    }
    return !*s;
}

static void add_scalar(struct buf *b, const yaml_node_t *n)
{
    const char *s = yaml_text(n);
    struct slice text = slice_of(s, n->data.scalar.length);
    bool plain = n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strlen(s) == text.n;

    if (plain && (!*s || !strcmp(s, "null") || !strcmp(s, "~")))
        buf_add_str(b, "null");
    else if (plain && (!strcmp(s, "true") || !strcmp(s, "false") || is_json_number(s)))
        buf_add_slice(b, text);
    else
        json_add_string(b, text);
}

static bool add_value(struct yaml_tree *t, const yaml_node_t *n, int depth, struct buf *b,
                      struct err *err)
{
    bool first = true;

    if (depth > CONST_MAX_DEPTH || b->full)
        return yaml_fail(t, n, err, "the value is too large or too deep");
    if (n->type == YAML_SCALAR_NODE) {
        add_scalar(b, n);
        return true;
    }
    if (n->type == YAML_SEQUENCE_NODE) {
        buf_add_byte(b, '[');
        each_item(item, n)
        {
            if (!first)
                buf_add_byte(b, ',');
            first = false;
            if (!add_value(t, yaml_node(t, *item), depth + 1, b, err))
                return false;
        }
        buf_add_byte(b, ']');
        return true;
    }
    if (!yaml_want_map(t, n, "the value", err))
        return false;
    buf_add_byte(b, '{');
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(t, pair->key);
        if (!first)
            buf_add_byte(b, ',');
        first = false;
        json_add_string(b, slice_of(yaml_text(key), key->data.scalar.length));
        buf_add_byte(b, ':');
        if (!add_value(t, yaml_node(t, pair->value), depth + 1, b, err))
            return false;
    }
    buf_add_byte(b, '}');
    return true;
}

bool reader_const(struct mapping_reader *r, const yaml_node_t *n, const char **out, struct err *err)
{
    struct buf b;

    buf_init(&b, CONST_MAX_BYTES);
    bool ok = add_value(r->tree, n, 0, &b, err);
    if (ok && b.full)
        ok = yaml_fail(r->tree, n, err, "the value is too large or too deep");
    if (ok) {
        *out = arena_strndup(&r->m->mem, b.p, b.len);
        ok = *out || yaml_too_large(r->tree, n, err);
    }
    buf_fini(&b);
    return ok;
}
