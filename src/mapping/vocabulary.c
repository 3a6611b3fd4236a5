#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "mapping/yaml.h"

enum { STEPS_MAX_DEPTH = 8 /* an alias may point at its own parent */ };

struct step_list {
    struct mapping_step *list;
    size_t count, cap;
};

static struct mapping_step *step_add(struct step_list *l, enum mapping_step_kind kind)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->list = xrealloc(l->list, l->cap * sizeof *l->list);
    }
    l->list[l->count] = (struct mapping_step){.kind = kind};
    return &l->list[l->count++];
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- members of a step -------------------------------------------------------------------------
 */

/* A map whose keys are among `words`. */
static bool want_members(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                         const char *const *words, struct err *err)
{
    AUTO_STR char *key_of = xsprintf("key of %s", what);

    if (!yaml_want_map(r->tree, n, what, err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        if (!yaml_check_word(r->tree, key, key_of, yaml_text(key), words, err))
            return false;
    }
    return true;
}

static const yaml_node_t *member(struct mapping_reader *r, const yaml_node_t *n, const char *name)
{
    each_pair(pair, n)
    {
        if (!strcmp(yaml_text(yaml_node(r->tree, pair->key)), name))
            return yaml_node(r->tree, pair->value);
    }
    return NULL;
}

static bool need_name(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                      const char *name, struct mapping_name *out, struct err *err)
{
    const yaml_node_t *value = member(r, n, name);

    return value ? reader_name(r, value, name, out, err)
                 : yaml_fail(r->tree, n, err, "%s has no %s", what, name);
}

static bool may_name(struct mapping_reader *r, const yaml_node_t *n, const char *name,
                     struct mapping_name *out, struct err *err)
{
    const yaml_node_t *value = member(r, n, name);

    return !value || reader_name(r, value, name, out, err);
}

/* `field`, and `from`, which is the field when it is not said. */
static bool take_field(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                       struct mapping_step *s, struct err *err)
{
    if (!need_name(r, n, what, "field", &s->field, err))
        return false;
    s->from = s->field;
    return may_name(r, n, "from", &s->from, err);
}

static bool take_otherwise(struct mapping_reader *r, const yaml_node_t *n, const char *name,
                           const char *fail_word, const char *omit_word,
                           struct mapping_otherwise *out, struct err *err)
{
    const yaml_node_t *value = member(r, n, name);

    if (!value)
        return true;
    out->said = true;
    if (fail_word && yaml_is_plain(value, fail_word))
        out->kind = OTHERWISE_FAIL;
    else if (omit_word && yaml_is_plain(value, omit_word))
        out->kind = OTHERWISE_OMIT;
    else
        out->kind = OTHERWISE_VALUE;
    return out->kind != OTHERWISE_VALUE || reader_const(r, value, &out->json, err);
}

/* One of some words; *out is its index, unchanged when nothing is said. */
static bool take_choice(struct mapping_reader *r, const yaml_node_t *n, const char *name,
                        const char *const *words, unsigned *out, struct err *err)
{
    const yaml_node_t *value = member(r, n, name);
    const char *text = "";
    AUTO_STR char *what = xsprintf("value of %s", name);

    if (!value)
        return true;
    if (!yaml_want_text(r->tree, value, name, &text, err) ||
        !yaml_check_word(r->tree, value, what, text, words, err))
        return false;
    for (unsigned i = 0; words[i]; i++)
        if (!strcmp(words[i], text))
            *out = i;
    return true;
}

static bool take_text(struct mapping_reader *r, const yaml_node_t *n, const char *name,
                      const char **out, struct err *err)
{
    const yaml_node_t *value = member(r, n, name);

    if (!value)
        return true;
    if (value->type != YAML_SCALAR_NODE)
        return yaml_fail(r->tree, value, err, "%s must be text", name);
    *out = arena_strndup(&r->m->mem, yaml_text(value), strlen(yaml_text(value)));
    return *out || yaml_too_large(r->tree, value, err);
}

static bool take_pairs(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                       const char *name, struct mapping_pairs *out, struct err *err)
{
    const yaml_node_t *value = member(r, n, name);

    if (!value)
        return yaml_fail(r->tree, n, err, "%s has no %s", what, name);
    if (!yaml_want_map(r->tree, value, name, err) ||
        !reader_pairs(r, value, "a column", "a template", NULL, out, err))
        return false;
    return out->count > 0 || yaml_fail(r->tree, value, err, "%s names no column", name);
}

/* ---- several fields in one step ----------------------------------------------------------------
 */

static bool read_copy(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                      struct err *err)
{
    if (!yaml_want_map(r->tree, n, "copy", err))
        return false;
    each_pair(pair, n)
    {
        struct mapping_step *s = step_add(l, STEP_COPY);
        if (!reader_name(r, yaml_node(r->tree, pair->key), "a field", &s->field, err) ||
            !reader_name(r, yaml_node(r->tree, pair->value), "a field", &s->from, err))
            return false;
    }
    return true;
}

static bool read_values(struct mapping_reader *r, const yaml_node_t *n, const char *word,
                        enum mapping_step_kind kind, struct step_list *l, struct err *err)
{
    if (!yaml_want_map(r->tree, n, word, err))
        return false;
    each_pair(pair, n)
    {
        struct mapping_step *s = step_add(l, kind);
        if (!reader_name(r, yaml_node(r->tree, pair->key), "a field", &s->field, err) ||
            !reader_const(r, yaml_node(r->tree, pair->value), &s->json, err))
            return false;
        s->from = s->field;
    }
    return true;
}

static bool read_const(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                       struct err *err)
{
    return read_values(r, n, "const", STEP_CONST, l, err);
}

static bool read_default(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                         struct err *err)
{
    return read_values(r, n, "default", STEP_DEFAULT, l, err);
}

static bool read_list(struct mapping_reader *r, const yaml_node_t *n, const char *word,
                      enum mapping_step_kind kind, struct step_list *l, struct err *err)
{
    struct mapping_names names = {0};

    if (!reader_names(r, n, word, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        struct mapping_step *s = step_add(l, kind);
        s->field = s->from = names.list[i];
    }
    return true;
}

static bool read_drop(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                      struct err *err)
{
    return read_list(r, n, "drop", STEP_DROP, l, err);
}

static bool read_lower(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                       struct err *err)
{
    return read_list(r, n, "lower", STEP_LOWER, l, err);
}

static bool read_upper(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                       struct err *err)
{
    return read_list(r, n, "upper", STEP_UPPER, l, err);
}

/* ---- JSON --------------------------------------------------------------------------------------
 */

static bool take_parse(struct mapping_reader *r, const yaml_node_t *n, const char *word,
                       struct mapping_step *s, struct err *err)
{
    unsigned as = JSON_OF_ANY;

    if (!take_field(r, n, word, s, err) ||
        !take_choice(r, n, "as", WORDS("any", "array", "object"), &as, err) ||
        !take_otherwise(r, n, "bad", "fail", "omit", &s->parse.bad, err))
        return false;
    s->parse.as = (enum mapping_json_kind)as;
    s->parse.blank = s->parse.bad; /* but not `said` */
    s->parse.blank.said = false;
    return take_otherwise(r, n, "blank", "fail", "omit", &s->parse.blank, err);
}

static bool read_parse_json(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                            struct err *err)
{
    return want_members(r, n, "parse_json", WORDS("field", "from", "as", "blank", "bad"), err) &&
           take_parse(r, n, "parse_json", step_add(l, STEP_PARSE_JSON), err);
}

static bool read_parse_json_values(struct mapping_reader *r, const yaml_node_t *n,
                                   struct step_list *l, struct err *err)
{
    unsigned omit = 0;

    if (!want_members(r, n, "parse_json_values",
                      WORDS("field", "from", "as", "blank", "bad", "keys", "empty"), err))
        return false;
    struct mapping_step *s = step_add(l, STEP_PARSE_JSON_VALUES);
    const yaml_node_t *keys = member(r, n, "keys");
    if (!take_parse(r, n, "parse_json_values", s, err) ||
        (keys && !reader_names(r, keys, "keys", &s->parse.keys, err)) ||
        !take_choice(r, n, "empty", WORDS("keep", "omit"), &omit, err))
        return false;
    s->parse.omit_empty = omit == 1;
    return true;
}

static bool read_to_json(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                         struct err *err)
{
    return want_members(r, n, "to_json", WORDS("field", "from"), err) &&
           take_field(r, n, "to_json", step_add(l, STEP_TO_JSON), err);
}

/* ---- other tables ------------------------------------------------------------------------------
 */

static bool read_lookup(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                        struct err *err)
{
    if (!want_members(r, n, "lookup", WORDS("field", "table", "keyspace", "key", "take", "missing"),
                      err))
        return false;
    struct mapping_step *s = step_add(l, STEP_LOOKUP);
    return need_name(r, n, "lookup", "field", &s->field, err) &&
           need_name(r, n, "lookup", "table", &s->lookup.table, err) &&
           may_name(r, n, "keyspace", &s->lookup.keyspace, err) &&
           take_pairs(r, n, "lookup", "key", &s->lookup.key, err) &&
           need_name(r, n, "lookup", "take", &s->lookup.take, err) &&
           take_otherwise(r, n, "missing", "error", "omit", &s->lookup.missing, err);
}

/* The table's names come from the dictionary, which is known at the end; its own win. */
static bool take_rename(struct mapping_reader *r, const yaml_node_t *n, struct mapping_rows *out,
                        struct err *err)
{
    const yaml_node_t *value = member(r, n, "rename");
    struct pending_rename *p = reader_take(r, sizeof *p);

    if (!p)
        return yaml_too_large(r->tree, n, err);
    if (value && (!yaml_want_map(r->tree, value, "rename", err) ||
                  !reader_pairs(r, value, "a column", "a field", NULL, &p->own, err)))
        return false;
    p->table = out->table.name;
    p->out = &out->rename;
    p->next = r->renames;
    r->renames = p;
    return true;
}

bool reader_rows(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                 const char *const *words, struct mapping_name *field, struct mapping_rows *out,
                 struct err *err)
{
    if (!want_members(r, n, what, words, err) || !need_name(r, n, what, "field", field, err))
        return false;
    const yaml_node_t *where = member(r, n, "where"), *columns = member(r, n, "columns");
    const yaml_node_t *each = member(r, n, "each");
    return (!where || reader_conditions(r, where, &out->where, err)) &&
           (!columns || reader_names(r, columns, "columns", &out->columns, err)) &&
           (!each || reader_steps(r, each, &out->each, err));
}

static bool take_children(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                          const char *const *words, struct mapping_step *s, struct err *err)
{
    struct mapping_rows *rows = s->rows = reader_take(r, sizeof *rows);

    if (!rows)
        return yaml_too_large(r->tree, n, err);
    rows->missing.kind = OTHERWISE_OMIT;
    return reader_rows(r, n, what, words, &s->field, rows, err) &&
           need_name(r, n, what, "table", &rows->table, err) &&
           may_name(r, n, "keyspace", &rows->keyspace, err) &&
           take_pairs(r, n, what, "by", &rows->by, err) && take_rename(r, n, rows, err) &&
           take_otherwise(r, n, "missing", "error", "omit", &rows->missing, err);
}

static bool read_children(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                          struct err *err)
{
    return take_children(
        r, n, "children",
        WORDS("field", "table", "keyspace", "by", "where", "columns", "rename", "each"),
        step_add(l, STEP_CHILDREN), err);
}

static bool read_first(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                       struct err *err)
{
    return take_children(
        r, n, "first",
        WORDS("field", "table", "keyspace", "by", "where", "columns", "rename", "each", "missing"),
        step_add(l, STEP_FIRST), err);
}

static bool read_only(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                      struct err *err)
{
    return take_children(
        r, n, "only",
        WORDS("field", "table", "keyspace", "by", "where", "columns", "rename", "each", "missing"),
        step_add(l, STEP_ONLY), err);
}

/* ---- values ------------------------------------------------------------------------------------
 */

static bool read_flag(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                      struct err *err)
{
    static const char *const words[] = {"ge", "gt", "le", "lt", "eq", NULL};

    if (!want_members(r, n, "flag", WORDS("field", "from", "ge", "gt", "le", "lt", "eq", "if_null"),
                      err))
        return false;
    struct mapping_step *s = step_add(l, STEP_FLAG);
    s->flag.if_null.kind = OTHERWISE_OMIT;
    if (!need_name(r, n, "flag", "field", &s->field, err) ||
        !need_name(r, n, "flag", "from", &s->from, err) ||
        !take_otherwise(r, n, "if_null", NULL, "absent", &s->flag.if_null, err))
        return false;
    for (unsigned i = 0; words[i]; i++) {
        const yaml_node_t *with = member(r, n, words[i]);
        if (!with)
            continue;
        if (s->flag.with)
            return yaml_fail(r->tree, with, err, "flag compares once: %s is one too many",
                             words[i]);
        if (with->type != YAML_SCALAR_NODE || !reader_const(r, with, &s->flag.with, err))
            return err->kind != ERR_NONE ||
                   yaml_fail(r->tree, with, err, "%s must be one value", words[i]);
        s->flag.compare = (enum mapping_compare)i;
        if (i < COMPARE_EQ && !strchr("-0123456789", s->flag.with[0]))
            return yaml_fail(r->tree, with, err, "%s must be a number", words[i]);
    }
    return s->flag.with ||
           yaml_fail(r->tree, n, err, "flag compares with nothing; one of ge, gt, le, lt, eq");
}

static bool take_config(struct mapping_reader *r, const yaml_node_t *n, struct mapping_step *s,
                        struct err *err)
{
    struct mapping_lookup *c = &s->bits.config;

    s->bits.path = "";
    s->bits.value = "value";
    s->bits.names = "flagNameList";
    return want_members(r, n, "config",
                        WORDS("table", "keyspace", "key", "column", "path", "value", "names"),
                        err) &&
           need_name(r, n, "config", "table", &c->table, err) &&
           may_name(r, n, "keyspace", &c->keyspace, err) &&
           take_pairs(r, n, "config", "key", &c->key, err) &&
           need_name(r, n, "config", "column", &c->take, err) &&
           take_text(r, n, "path", &s->bits.path, err) &&
           take_text(r, n, "value", &s->bits.value, err) &&
           take_text(r, n, "names", &s->bits.names, err);
}

static bool read_bit_flags(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                           struct err *err)
{
    if (!want_members(r, n, "bit_flags", WORDS("field", "config", "missing"), err))
        return false;
    struct mapping_step *s = step_add(l, STEP_BIT_FLAGS);
    const yaml_node_t *config = member(r, n, "config");
    s->bits.config.missing.kind = OTHERWISE_OMIT;
    if (!need_name(r, n, "bit_flags", "field", &s->field, err))
        return false;
    s->from = s->field;
    if (!config)
        return yaml_fail(r->tree, n, err, "bit_flags has no config");
    if (!take_config(r, config, s, err) ||
        !take_otherwise(r, n, "missing", "error", "omit", &s->bits.config.missing, err))
        return false;
    return s->bits.config.missing.kind != OTHERWISE_VALUE ||
           yaml_fail(r->tree, member(r, n, "missing"), err, "missing must be omit or error");
}

static bool read_concat(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                        struct err *err)
{
    if (!want_members(r, n, "concat", WORDS("field", "of", "with"), err))
        return false;
    struct mapping_step *s = step_add(l, STEP_CONCAT);
    const yaml_node_t *of = member(r, n, "of");
    s->concat.with = "";
    if (!of)
        return yaml_fail(r->tree, n, err, "concat has no of");
    return need_name(r, n, "concat", "field", &s->field, err) &&
           reader_names(r, of, "of", &s->concat.of, err) &&
           take_text(r, n, "with", &s->concat.with, err);
}

static bool read_cast(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                      struct err *err)
{
    unsigned to = CAST_STRING;

    if (!want_members(r, n, "cast", WORDS("field", "from", "to", "bad"), err))
        return false;
    struct mapping_step *s = step_add(l, STEP_CAST);
    if (!member(r, n, "to"))
        return yaml_fail(r->tree, n, err, "cast has no to");
    if (!take_field(r, n, "cast", s, err) ||
        !take_choice(r, n, "to", WORDS("string", "integer", "number", "boolean"), &to, err))
        return false;
    s->cast.to = (enum mapping_cast)to;
    return take_otherwise(r, n, "bad", "fail", "omit", &s->cast.bad, err);
}

static bool read_split(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                       struct err *err)
{
    unsigned no_trim = 0, keep = 0;

    if (!want_members(r, n, "split", WORDS("field", "from", "by", "trim", "empty"), err))
        return false;
    struct mapping_step *s = step_add(l, STEP_SPLIT);
    if (!take_field(r, n, "split", s, err) || !take_text(r, n, "by", &s->split.by, err) ||
        !take_choice(r, n, "trim", WORDS("true", "false"), &no_trim, err) ||
        !take_choice(r, n, "empty", WORDS("drop", "keep"), &keep, err))
        return false;
    s->split.no_trim = no_trim == 1;
    s->split.keep_empty = keep == 1;
    return (s->split.by && *s->split.by) ||
           yaml_fail(r->tree, n, err, "split has no by: the text between two parts");
}

/* ---- the list ----------------------------------------------------------------------------------
 */

static const struct {
    const char *word;
    bool (*read)(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                 struct err *err);
} readers[] = {
    {"copy", read_copy},
    {"const", read_const},
    {"drop", read_drop},
    {"default", read_default},
    {"parse_json", read_parse_json},
    {"parse_json_values", read_parse_json_values},
    {"to_json", read_to_json},
    {"lookup", read_lookup},
    {"children", read_children},
    {"first", read_first},
    {"only", read_only},
    {"flag", read_flag},
    {"bit_flags", read_bit_flags},
    {"concat", read_concat},
    {"cast", read_cast},
    {"split", read_split},
    {"lower", read_lower},
    {"upper", read_upper},
};

enum { READERS = sizeof readers / sizeof *readers };

static bool read_step(struct mapping_reader *r, const yaml_node_t *n, struct step_list *l,
                      struct err *err)
{
    const char *words[READERS + 1] = {NULL};

    for (size_t i = 0; i < READERS; i++)
        words[i] = readers[i].word;
    if (n->type == YAML_SCALAR_NODE)
        return yaml_check_word(r->tree, n, "step", yaml_text(n), words, err) &&
               yaml_fail(r->tree, n, err, "step \"%s\" says nothing to do; write \"- %s: ...\"",
                         yaml_text(n), yaml_text(n));
    if (!yaml_want_map(r->tree, n, "a step", err))
        return false;
    if (yaml_pair_count(n) != 1)
        return yaml_fail(r->tree, n, err,
                         "a step is one word with its value; write \"- \" before each");
    const yaml_node_t *key = yaml_node(r->tree, n->data.mapping.pairs.start->key);
    const yaml_node_t *value = yaml_node(r->tree, n->data.mapping.pairs.start->value);
    if (!yaml_check_word(r->tree, key, "step", yaml_text(key), words, err))
        return false;
    for (size_t i = 0; i < READERS; i++)
        if (!strcmp(readers[i].word, yaml_text(key)))
            return readers[i].read(r, value, l, err);
    return false;
}

bool reader_steps(struct mapping_reader *r, const yaml_node_t *n, struct mapping_steps *out,
                  struct err *err)
{
    struct step_list l = {0};
    bool ok = true;

    if (n->type != YAML_SEQUENCE_NODE)
        return yaml_fail(r->tree, n, err, "steps must be a list");
    if (r->depth == STEPS_MAX_DEPTH)
        return yaml_fail(r->tree, n, err, "steps within steps, more than %d deep", STEPS_MAX_DEPTH);
    r->depth++;
    each_item(item, n) if (!(ok = read_step(r, yaml_node(r->tree, *item), &l, err))) break;
    if (ok && l.count) {
        struct mapping_step *steps = reader_take(r, l.count * sizeof *steps);
        ok = steps || yaml_too_large(r->tree, n, err);
        if (steps)
            memcpy(steps, l.list, l.count * sizeof *steps);
        *out = (struct mapping_steps){steps, l.count};
    }
    r->depth--;
    free(l.list);
    return ok;
}
