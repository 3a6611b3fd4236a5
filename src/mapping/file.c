#include "mapping/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/hash.h"
#include "base/text.h"

enum {
    FILE_MAX_BYTES = 1 << 20,
    MAPPING_MAX_BYTES = 16 << 20,
    CONST_MAX_BYTES = 1 << 20,
    CONST_MAX_DEPTH = 32, /* an alias may point at its own parent */
    PATH_PARTS_MAX = 8,
};

/* One YAML file as a tree. */
struct tree {
    const char *path;
    yaml_document_t doc;
};

/* Words of the vocabulary: now, and those that a later version brings. */
static const char *const top_words[] = {
    "object",     "source", "select",   "target",     "rename", "nulls", "empty_collections",
    "timestamps", "steps",  "preserve", "versioning", NULL};
static const char *const top_later[] = {"extends", "where", "rows", "missing", NULL};
static const char *const source_words[] = {"keyspace", "table", "key", "columns", NULL};
static const char *const source_later[] = {"where", "rows", NULL};
static const char *const target_words[] = {"index",    "id",         "type", "routing",
                                           "pipeline", "definition", NULL};
static const char *const step_words[] = {"copy", "const", "drop", NULL};
static const char *const step_later[] = {"parse_json", "parse_json_values",
                                         "to_json",    "lookup",
                                         "children",   "flag",
                                         "bit_flags",  "first",
                                         "only",       "concat",
                                         "default",    "cast",
                                         "split",      "lower",
                                         "upper",      "where",
                                         "rows",       NULL};
static const char *const nulls_words[] = {"keep", "omit", NULL};
static const char *const timestamp_words[] = {"iso_ms_utc", NULL};
static const char *const versioning_words[] = {"read_time", "sequence", "write_time", "none", NULL};
static const char *const none[] = {NULL};

/* ---- errors ------------------------------------------------------------------------------------
 */

static bool fail_at(const char *path, struct place at, struct err *err, const char *fmt,
                    va_list args)
{
    char text[400];

    vsnprintf(text, sizeof text, fmt, args);
    if (!at.line) /* of no file: there is nothing to point at */
        return err_set(err, ERR_USER, "%s", text);
    return err_set(err, ERR_USER, "%s:%u:%u: %s", path, at.line, at.column, text);
}

bool mapping_error(const struct mapping *m, struct place at, struct err *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fail_at(m->path, at, err, fmt, args);
    va_end(args);
    return false;
}

static struct place place_of(const yaml_node_t *n)
{
    return (struct place){(uint32_t)n->start_mark.line + 1, (uint32_t)n->start_mark.column + 1};
}

static bool fail(const struct tree *t, const yaml_node_t *n, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static bool fail(const struct tree *t, const yaml_node_t *n, struct err *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fail_at(t->path, place_of(n), err, fmt, args);
    va_end(args);
    return false;
}

static bool in_list(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list))
            return true;
    return false;
}

/* The word is one of `words`; else says what it is instead. */
static bool check_word(const struct tree *t, const yaml_node_t *n, const char *what,
                       const char *word, const char *const *words, const char *const *later,
                       struct err *err)
{
    char allowed[256] = "";
    size_t len = 0;

    if (in_list(word, words))
        return true;
    if (in_list(word, later))
        return fail(t, n, err, "%s \"%s\" is not supported yet", what, word);
    const char *near = text_nearest(slice_str(word), words);
    if (near)
        return fail(t, n, err, "unknown %s \"%.60s\"; did you mean \"%s\"", what, word, near);
    for (size_t i = 0; words[i] && len < sizeof allowed; i++)
        len +=
            (size_t)snprintf(allowed + len, sizeof allowed - len, "%s%s", i ? ", " : "", words[i]);
    return fail(t, n, err, "unknown %s \"%.60s\"; allowed: %s", what, word, allowed);
}

/* ---- the tree ----------------------------------------------------------------------------------
 */

static bool tree_load(struct tree *t, struct slice text, const char *path, struct err *err)
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
        ok = !more || fail(t, more, err, "a second document; one file holds one mapping");
        yaml_document_delete(&second);
    }
    yaml_parser_delete(&parser);
    if (!ok)
        yaml_document_delete(&t->doc);
    return ok;
}

static bool read_file(const char *path, struct buf *out, struct err *err)
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

static yaml_node_t *node(struct tree *t, int id)
{
    return yaml_document_get_node(&t->doc, id);
}

static const char *scalar(const yaml_node_t *n)
{
    return (const char *)n->data.scalar.value;
}

/* The members of a map; iterates `pair`. */
#define each_pair(pair, n)                                                                         \
    for (yaml_node_pair_t *pair = (n)->data.mapping.pairs.start;                                   \
         pair < (n)->data.mapping.pairs.top; pair++)
#define each_item(item, n)                                                                         \
    for (yaml_node_item_t *item = (n)->data.sequence.items.start;                                  \
         item < (n)->data.sequence.items.top; item++)

/* A map with text keys, none of them twice. */
static bool want_map(struct tree *t, const yaml_node_t *n, const char *what, struct err *err)
{
    if (n->type != YAML_MAPPING_NODE)
        return fail(t, n, err, "%s must be a map of names and values", what);
    each_pair(pair, n)
    {
        const yaml_node_t *key = node(t, pair->key);
        if (key->type != YAML_SCALAR_NODE)
            return fail(t, key, err, "a name in %s must be text", what);
        for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < pair; p++)
            if (!strcmp(scalar(node(t, p->key)), scalar(key)))
                return fail(t, key, err, "\"%.60s\" is there twice", scalar(key));
    }
    return true;
}

static bool want_text(struct tree *t, const yaml_node_t *n, const char *what, const char **out,
                      struct err *err)
{
    if (n->type != YAML_SCALAR_NODE)
        return fail(t, n, err, "%s must be text", what);
    if (!scalar(n)[0])
        return fail(t, n, err, "%s is empty", what);
    if (strlen(scalar(n)) != n->data.scalar.length)
        return fail(t, n, err, "%s holds a NUL character", what);
    *out = scalar(n);
    return true;
}

static void *take(struct mapping *m, size_t bytes)
{
    return arena_zalloc(&m->mem, bytes ? bytes : 1);
}

static bool too_large(const struct tree *t, const yaml_node_t *n, struct err *err)
{
    return fail(t, n, err, "the mapping is too large");
}

static bool take_name(struct tree *t, const yaml_node_t *n, const char *what, struct mapping *m,
                      struct mapping_name *out, struct err *err)
{
    const char *text = "";

    if (!want_text(t, n, what, &text, err))
        return false;
    out->at = place_of(n);
    out->name = arena_strndup(&m->mem, text, strlen(text));
    return out->name || too_large(t, n, err);
}

/* One name or a list of them. */
static bool take_names(struct tree *t, const yaml_node_t *n, const char *what, struct mapping *m,
                       struct mapping_names *out, struct err *err)
{
    if (n->type == YAML_MAPPING_NODE)
        return fail(t, n, err, "%s must be a list of names", what);
    bool list = n->type == YAML_SEQUENCE_NODE;
    size_t max = list ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start) : 1;
    struct mapping_name *names = take(m, max * sizeof *names);

    if (!names)
        return too_large(t, n, err);
    out->list = names;
    if (!list)
        return take_name(t, n, what, m, &names[out->count++], err);
    each_item(item, n)
    {
        struct mapping_name *name = &names[out->count];
        if (!take_name(t, node(t, *item), what, m, name, err))
            return false;
        for (size_t i = 0; i < out->count; i++)
            if (!strcmp(names[i].name, name->name))
                return fail(t, node(t, *item), err, "\"%.60s\" is there twice", name->name);
        out->count++;
    }
    return out->count > 0 || fail(t, n, err, "%s is an empty list", what);
}

/* ---- sections ----------------------------------------------------------------------------------
 */

static bool read_source(struct tree *t, const yaml_node_t *n, struct mapping *m, struct err *err)
{
    if (!want_map(t, n, "source", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = node(t, pair->key), *value = node(t, pair->value);
        if (!check_word(t, key, "key of source", scalar(key), source_words, source_later, err))
            return false;
        bool ok =
            !strcmp(scalar(key), "keyspace") ? take_name(t, value, "keyspace", m, &m->keyspace, err)
            : !strcmp(scalar(key), "table")  ? take_name(t, value, "table", m, &m->table, err)
            : !strcmp(scalar(key), "key")    ? take_names(t, value, "key", m, &m->key, err)
                                             : take_names(t, value, "columns", m, &m->columns, err);
        if (!ok)
            return false;
    }
    return m->table.name || fail(t, n, err, "source has no table");
}

/* A file named in a mapping is looked for beside it. */
static bool set_definition_path(const struct tree *t, const yaml_node_t *n, struct mapping *m,
                                struct err *err)
{
    const char *name = m->definition.name;
    const char *slash = strrchr(t->path, '/');

    if (!name || name[0] == '/' || !slash)
        return true;
    AUTO_STR char *path = xsprintf("%.*s%s", (int)(slash + 1 - t->path), t->path, name);
    m->definition.name = arena_strndup(&m->mem, path, strlen(path));
    return m->definition.name || too_large(t, n, err);
}

static bool read_target(struct tree *t, const yaml_node_t *n, struct mapping *m, struct err *err)
{
    if (!want_map(t, n, "target", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = node(t, pair->key), *value = node(t, pair->value);
        struct mapping_name *const places[] = {&m->index,   &m->id,       &m->type,
                                               &m->routing, &m->pipeline, &m->definition};
        if (!check_word(t, key, "key of target", scalar(key), target_words, none, err))
            return false;
        for (size_t i = 0; target_words[i]; i++)
            if (!strcmp(scalar(key), target_words[i]) &&
                !take_name(t, value, target_words[i], m, places[i], err))
                return false;
    }
    if (!m->index.name)
        return fail(t, n, err, "target has no index");
    if (!set_definition_path(t, n, m, err))
        return false;
    if (strpbrk(m->index.name, "/\\*?\"<>| ,#") || strchr("-_+.", m->index.name[0]))
        return mapping_error(m, m->index.at, err, "\"%.60s\" is no name for an index or alias",
                             m->index.name);
    return true;
}

/* Later pairs win over earlier ones of the same column. */
static bool add_pairs(struct tree *t, const yaml_node_t *n, struct mapping *m, bool overrides,
                      struct mapping_pair *list, size_t *count, struct err *err)
{
    each_pair(pair, n)
    {
        const yaml_node_t *key = node(t, pair->key);
        struct mapping_pair p = {0};
        if (overrides && !strcmp(scalar(key), "file"))
            continue;
        if (!take_name(t, key, "a column", m, &p.from, err) ||
            !take_name(t, node(t, pair->value), "a field", m, &p.to, err))
            return false;
        if (!overrides) /* a dictionary may know columns that this table lacks */
            p.from.at = p.to.at = (struct place){0, 0};
        size_t i = 0;
        while (i < *count && strcmp(list[i].from.name, p.from.name))
            i++;
        list[i] = p;
        *count += i == *count;
    }
    return true;
}

/* section "a.b" of a dictionary; where that holds maps only, the one named as the table. */
static const yaml_node_t *find_section(struct tree *t, const char *section, const char *table)
{
    const yaml_node_t *n = yaml_document_get_root_node(&t->doc);

    for (int depth = 0; depth < PATH_PARTS_MAX && n->type == YAML_MAPPING_NODE; depth++) {
        size_t len = strcspn(section, ".");
        const yaml_node_t *next = NULL;
        each_pair(pair, n)
        {
            const yaml_node_t *key = node(t, pair->key);
            const char *want = len ? section : table;
            size_t want_len = len ? len : strlen(table);
            if (key->type == YAML_SCALAR_NODE && strlen(scalar(key)) == want_len &&
                !memcmp(scalar(key), want, want_len))
                next = node(t, pair->value);
        }
        if (len == 0) {
            bool maps = n->data.mapping.pairs.start < n->data.mapping.pairs.top &&
                        node(t, n->data.mapping.pairs.start->value)->type == YAML_MAPPING_NODE;
            return maps ? next : n;
        }
        if (!next)
            return NULL;
        n = next;
        section += len + (section[len] == '.');
    }
    return NULL;
}

static size_t pair_count(const yaml_node_t *n)
{
    return (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
}

static void add_content(struct mapping *m, struct slice bytes)
{
    uint64_t both[2] = {m->content, hash_64(bytes)};

    m->content = hash_64(slice_of(both, sizeof both));
}

/* "FILE#SECTION", the file beside the mapping. */
static bool read_dictionary(struct tree *t, const yaml_node_t *n, struct mapping *m, size_t more,
                            struct mapping_pair **list, size_t *count, struct err *err)
{
    const char *text = "";

    if (!want_text(t, n, "file", &text, err))
        return false;
    const char *hash = strchr(text, '#');
    const char *slash = text[0] == '/' ? NULL : strrchr(t->path, '/');
    int name_len = (int)(hash ? (size_t)(hash - text) : strlen(text));
    AUTO_STR char *path =
        xsprintf("%.*s%.*s", slash ? (int)(slash + 1 - t->path) : 0, t->path, name_len, text);
    struct buf bytes = {0};
    struct tree dict;
    struct err why = {0};

    if (!read_file(path, &bytes, &why))
        return fail(t, n, err, "%s", why.text);
    add_content(m, buf_slice(&bytes));
    bool loaded = tree_load(&dict, buf_slice(&bytes), path, err);
    buf_fini(&bytes);
    if (!loaded)
        return false;
    const yaml_node_t *section = find_section(&dict, hash ? hash + 1 : "", m->table.name);
    bool ok = false;
    if (!section)
        fail(t, n, err, "%s has no section \"%s\" with names for table %s", path,
             hash ? hash + 1 : "", m->table.name);
    else if (want_map(&dict, section, "a dictionary of names", err)) {
        *list = take(m, (pair_count(section) + more) * sizeof **list);
        ok = *list ? add_pairs(&dict, section, m, false, *list, count, err) : too_large(t, n, err);
    }
    yaml_document_delete(&dict.doc);
    return ok;
}

static bool read_rename(struct tree *t, const yaml_node_t *n, struct mapping *m, struct err *err)
{
    struct mapping_pair *list = NULL;
    size_t count = 0;

    if (!want_map(t, n, "rename", err))
        return false;
    each_pair(pair, n) if (!strcmp(scalar(node(t, pair->key)), "file") &&
                           !read_dictionary(t, node(t, pair->value), m, pair_count(n), &list,
                                            &count, err)) return false;
    if (!list)
        list = take(m, pair_count(n) * sizeof *list);
    if (!list)
        return too_large(t, n, err);
    if (!add_pairs(t, n, m, true, list, &count, err))
        return false;
    m->rename = (struct mapping_pairs){list, count};
    return true;
}

static bool read_choice(struct tree *t, const yaml_node_t *n, const char *what,
                        const char *const *words, const char *const *later, const char **out,
                        struct err *err)
{
    char name[64];

    if (n->type != YAML_SCALAR_NODE && words != versioning_words)
        return fail(t, n, err, "%s per field is not supported yet", what);
    snprintf(name, sizeof name, "value of %s", what);
    return want_text(t, n, what, out, err) && check_word(t, n, name, *out, words, later, err);
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
    const char *s = scalar(n);
    struct slice text = slice_of(s, n->data.scalar.length);
    bool plain = n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strlen(s) == text.n;

    if (plain && (!*s || !strcmp(s, "null") || !strcmp(s, "~")))
        buf_add_str(b, "null");
    else if (plain && (!strcmp(s, "true") || !strcmp(s, "false") || is_json_number(s)))
        buf_add_slice(b, text);
    else
        json_add_string(b, text);
}

static bool add_value(struct tree *t, const yaml_node_t *n, int depth, struct buf *b,
                      struct err *err)
{
    bool first = true;

    if (depth > CONST_MAX_DEPTH || b->full)
        return fail(t, n, err, "the value is too large or too deep");
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
            if (!add_value(t, node(t, *item), depth + 1, b, err))
                return false;
        }
        buf_add_byte(b, ']');
        return true;
    }
    if (!want_map(t, n, "the value", err))
        return false;
    buf_add_byte(b, '{');
    each_pair(pair, n)
    {
        const yaml_node_t *key = node(t, pair->key);
        if (!first)
            buf_add_byte(b, ',');
        first = false;
        json_add_string(b, slice_of(scalar(key), key->data.scalar.length));
        buf_add_byte(b, ':');
        if (!add_value(t, node(t, pair->value), depth + 1, b, err))
            return false;
    }
    buf_add_byte(b, '}');
    return true;
}

static bool take_const(struct tree *t, const yaml_node_t *n, struct mapping *m, const char **out,
                       struct err *err)
{
    struct buf b;

    buf_init(&b, CONST_MAX_BYTES);
    bool ok = add_value(t, n, 0, &b, err);
    if (ok && b.full)
        ok = fail(t, n, err, "the value is too large or too deep");
    if (ok) {
        *out = arena_strndup(&m->mem, b.p, b.len);
        ok = *out || too_large(t, n, err);
    }
    buf_fini(&b);
    return ok;
}

/* ---- steps -------------------------------------------------------------------------------------
 */

struct step_list {
    struct mapping_step *list;
    size_t count, cap;
};

static struct mapping_step *step_add(struct step_list *l)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->list = xrealloc(l->list, l->cap * sizeof *l->list);
    }
    l->list[l->count] = (struct mapping_step){0};
    return &l->list[l->count++];
}

static bool read_copy(struct tree *t, const yaml_node_t *n, struct mapping *m, struct step_list *l,
                      struct err *err)
{
    if (!want_map(t, n, "copy", err))
        return false;
    each_pair(pair, n)
    {
        struct mapping_step *s = step_add(l);
        s->kind = STEP_COPY;
        if (!take_name(t, node(t, pair->key), "a field", m, &s->field, err) ||
            !take_name(t, node(t, pair->value), "a field", m, &s->from, err))
            return false;
    }
    return true;
}

static bool read_const(struct tree *t, const yaml_node_t *n, struct mapping *m, struct step_list *l,
                       struct err *err)
{
    if (!want_map(t, n, "const", err))
        return false;
    each_pair(pair, n)
    {
        struct mapping_step *s = step_add(l);
        s->kind = STEP_CONST;
        if (!take_name(t, node(t, pair->key), "a field", m, &s->field, err) ||
            !take_const(t, node(t, pair->value), m, &s->json, err))
            return false;
    }
    return true;
}

static bool read_drop(struct tree *t, const yaml_node_t *n, struct mapping *m, struct step_list *l,
                      struct err *err)
{
    struct mapping_names names = {0};

    if (!take_names(t, n, "drop", m, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        struct mapping_step *s = step_add(l);
        s->kind = STEP_DROP;
        s->field = names.list[i];
    }
    return true;
}

static bool read_step(struct tree *t, const yaml_node_t *n, struct mapping *m, struct step_list *l,
                      struct err *err)
{
    if (n->type == YAML_SCALAR_NODE)
        return check_word(t, n, "step", scalar(n), step_words, step_later, err) &&
               fail(t, n, err, "step \"%s\" says nothing to do; write \"- %s: ...\"", scalar(n),
                    scalar(n));
    if (!want_map(t, n, "a step", err))
        return false;
    if (pair_count(n) != 1)
        return fail(t, n, err, "a step is one word with its value; write \"- \" before each");
    const yaml_node_t *key = node(t, n->data.mapping.pairs.start->key);
    const yaml_node_t *value = node(t, n->data.mapping.pairs.start->value);
    if (!check_word(t, key, "step", scalar(key), step_words, step_later, err))
        return false;
    if (!strcmp(scalar(key), "copy"))
        return read_copy(t, value, m, l, err);
    if (!strcmp(scalar(key), "const"))
        return read_const(t, value, m, l, err);
    return read_drop(t, value, m, l, err);
}

static bool read_steps(struct tree *t, const yaml_node_t *n, struct mapping *m, struct err *err)
{
    struct step_list l = {0};
    bool ok = true;

    if (n->type != YAML_SEQUENCE_NODE)
        return fail(t, n, err, "steps must be a list");
    each_item(item, n) if (!(ok = read_step(t, node(t, *item), m, &l, err))) break;
    if (ok && l.count) {
        struct mapping_step *steps = take(m, l.count * sizeof *steps);
        ok = steps || too_large(t, n, err);
        if (steps && l.list)
            memcpy(steps, l.list, l.count * sizeof *steps);
        m->steps = steps;
        m->step_count = l.count;
    }
    free(l.list);
    return ok;
}

static bool read_preserve(struct tree *t, const yaml_node_t *n, struct mapping *m, struct err *err)
{
    if (n->type == YAML_SCALAR_NODE && !strcmp(scalar(n), "all")) {
        m->preserve_all = true;
        return true;
    }
    if (n->type != YAML_SEQUENCE_NODE)
        return fail(t, n, err, "preserve must be a list of fields, or \"all\"");
    return take_names(t, n, "preserve", m, &m->preserve, err);
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static bool read_key(struct tree *t, const char *key, const yaml_node_t *n, struct mapping *m,
                     struct err *err)
{
    const char *word = "";

    if (!strcmp(key, "object")) {
        struct mapping_name name;
        if (!take_name(t, n, "object", m, &name, err))
            return false;
        m->object = name.name;
        m->object_at = name.at;
        return true;
    }
    if (!strcmp(key, "source"))
        return read_source(t, n, m, err);
    if (!strcmp(key, "select"))
        return take_names(t, n, "select", m, &m->select, err);
    if (!strcmp(key, "target"))
        return read_target(t, n, m, err);
    if (!strcmp(key, "steps"))
        return read_steps(t, n, m, err);
    if (!strcmp(key, "preserve"))
        return read_preserve(t, n, m, err);
    if (!strcmp(key, "nulls")) {
        if (!read_choice(t, n, key, nulls_words, none, &word, err))
            return false;
        m->omit_nulls = !strcmp(word, "omit");
        return true;
    }
    if (!strcmp(key, "empty_collections")) {
        if (!read_choice(t, n, key, nulls_words, none, &word, err))
            return false;
        m->empty_said = true;
        m->omit_empty_collections = !strcmp(word, "omit");
        return true;
    }
    if (!strcmp(key, "timestamps"))
        return read_choice(t, n, key, timestamp_words, none, &word, err);
    m->versioning_at = strcmp(key, "versioning") ? m->versioning_at : place_of(n);
    if (!strcmp(key, "versioning"))
        return read_choice(t, n, key, versioning_words, none, &word, err) &&
               mapping_versioning_named(word, &m->versioning);
    return true; /* rename: after source, whose table it may need */
}

static bool read_mapping(struct tree *t, struct mapping *m, struct err *err)
{
    const yaml_node_t *root = yaml_document_get_root_node(&t->doc), *rename = NULL;

    if (!want_map(t, root, "a mapping", err))
        return false;
    each_pair(pair, root)
    {
        const yaml_node_t *key = node(t, pair->key);
        if (!check_word(t, key, "key", scalar(key), top_words, top_later, err))
            return false;
        if (!strcmp(scalar(key), "rename"))
            rename = node(t, pair->value);
        else if (!read_key(t, scalar(key), node(t, pair->value), m, err))
            return false;
    }
    if (!m->object)
        return fail(t, root, err, "object is missing: the name of the document type");
    if (!m->table.name)
        return fail(t, root, err, "source is missing");
    if (!m->index.name)
        return fail(t, root, err, "target is missing");
    return !rename || read_rename(t, rename, m, err);
}

struct mapping *mapping_parse(struct slice text, const char *path, struct err *err)
{
    struct mapping *m = xalloc(sizeof *m);
    struct tree t;

    arena_init(&m->mem, MAPPING_MAX_BYTES);
    m->path = arena_strndup(&m->mem, path, strlen(path));
    m->versioning = VERSIONING_SEQUENCE;
    add_content(m, text);
    if (!tree_load(&t, text, m->path, err)) {
        mapping_free(m);
        return NULL;
    }
    bool ok = read_mapping(&t, m, err);
    yaml_document_delete(&t.doc);
    if (!ok) {
        mapping_free(m);
        return NULL;
    }
    return m;
}

struct mapping *mapping_default(const struct schema *s, const char *index)
{
    struct mapping *m = xalloc(sizeof *m);

    arena_init(&m->mem, MAPPING_MAX_BYTES);
    m->path = ""; /* not of a file */
    m->object = arena_strndup(&m->mem, s->table, strlen(s->table));
    m->keyspace.name = arena_strndup(&m->mem, s->keyspace, strlen(s->keyspace));
    m->table.name = m->object;
    m->index.name = index ? arena_strndup(&m->mem, index, strlen(index)) : NULL;
    m->omit_nulls = true;
    m->versioning = VERSIONING_READ_TIME;
    /* An id names a row: the whole primary key. */
    struct mapping_name *key =
        arena_zalloc(&m->mem, (s->partition_key_count + s->clustering_count) * sizeof *key);
    for (uint16_t i = 0; i < s->partition_key_count + s->clustering_count; i++)
        key[m->select.count++].name =
            arena_strndup(&m->mem, s->columns[i].name, strlen(s->columns[i].name));
    m->select.list = key;
    return m;
}

bool mapping_set_columns(struct mapping *m, const char *const *columns, struct err *err)
{
    size_t count = 0;

    while (columns[count])
        count++;
    struct mapping_name *names = take(m, count * sizeof *names);
    for (size_t i = 0; names && i < count; i++) {
        names[i].name = arena_strndup(&m->mem, columns[i], strlen(columns[i]));
        for (size_t other = 0; other < i; other++)
            if (!strcmp(columns[i], columns[other]))
                return err_set(err, ERR_USER, "column \"%.60s\" is there twice", columns[i]);
        if (!names[i].name)
            names = NULL;
    }
    if (!names)
        return err_set(err, ERR_USER, "too many columns");
    m->columns = (struct mapping_names){names, count};
    return true;
}

const char *mapping_versioning_word(enum mapping_versioning v)
{
    static const char *const words[] = {"read_time", "sequence", "write_time", "none"};

    return words[v];
}

bool mapping_versioning_named(const char *word, enum mapping_versioning *out)
{
    for (int v = VERSIONING_READ_TIME; v <= VERSIONING_NONE; v++) {
        if (strcmp(word, mapping_versioning_word((enum mapping_versioning)v)) != 0)
            continue;
        *out = (enum mapping_versioning)v;
        return true;
    }
    return false;
}

struct mapping *mapping_load(const char *path, struct err *err)
{
    struct buf bytes = {0};

    if (!read_file(path, &bytes, err))
        return NULL;
    struct mapping *m = mapping_parse(buf_slice(&bytes), path, err);
    buf_fini(&bytes);
    return m;
}

void mapping_free(struct mapping *m)
{
    if (!m)
        return;
    arena_fini(&m->mem);
    free(m);
}
