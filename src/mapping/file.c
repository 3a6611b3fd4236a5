#include "mapping/file.h"

#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "mapping/yaml.h"

enum {
    MAPPING_MAX_BYTES = 16 << 20,
    PATH_PARTS_MAX = 8,
    EXTENDS_MAX = 4,
};

static const char *const top_words[] = {"extends",
                                        "object",
                                        "source",
                                        "select",
                                        "target",
                                        "where",
                                        "rename",
                                        "nulls",
                                        "rows",
                                        "timestamps",
                                        "steps",
                                        "more_steps",
                                        "empty_collections",
                                        "preserve",
                                        "versioning",
                                        NULL};
static const char *const source_words[] = {"keyspace", "table", "key", "columns", NULL};
static const char *const target_words[] = {"index",    "id",         "type", "routing",
                                           "pipeline", "definition", NULL};
static const char *const nulls_words[] = {"keep", "omit", NULL};
static const char *const timestamp_words[] = {"iso_ms_utc", "epoch_ms", NULL};
static const char *const versioning_words[] = {"read_time", "sequence", "write_time", "none", NULL};

/* ---- sections ----------------------------------------------------------------------------------
 */

static bool read_source(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    struct mapping *m = r->m;

    if (!yaml_want_map(r->tree, n, "source", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        const yaml_node_t *value = yaml_node(r->tree, pair->value);
        const char *word = yaml_text(key);
        if (!yaml_check_word(r->tree, key, "key of source", word, source_words, err))
            return false;
        bool ok = !strcmp(word, "keyspace") ? reader_name(r, value, word, &m->keyspace, err)
                  : !strcmp(word, "table")  ? reader_name(r, value, word, &m->table, err)
                  : !strcmp(word, "key")    ? reader_names(r, value, word, &m->key, err)
                                            : reader_names(r, value, word, &m->columns, err);
        if (!ok)
            return false;
    }
    return m->table.name || yaml_fail(r->tree, n, err, "source has no table");
}

/* A file named in a mapping is looked for beside it. NULL: the arena is full. */
static const char *beside(struct mapping_reader *r, const char *name, size_t len)
{
    const char *slash = name[0] == '/' ? NULL : strrchr(r->tree->path, '/');
    AUTO_STR char *path = xsprintf("%.*s%.*s", slash ? (int)(slash + 1 - r->tree->path) : 0,
                                   r->tree->path, (int)len, name);

    return arena_strndup(&r->m->mem, path, strlen(path));
}

static bool read_target(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    struct mapping *m = r->m;

    if (!yaml_want_map(r->tree, n, "target", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        const yaml_node_t *value = yaml_node(r->tree, pair->value);
        struct mapping_name *const places[] = {&m->index,   &m->id,       &m->type,
                                               &m->routing, &m->pipeline, &m->definition};
        if (!yaml_check_word(r->tree, key, "key of target", yaml_text(key), target_words, err))
            return false;
        for (size_t i = 0; target_words[i]; i++)
            if (!strcmp(yaml_text(key), target_words[i]) &&
                !reader_name(r, value, target_words[i], places[i], err))
                return false;
        if (!strcmp(yaml_text(key), "definition")) {
            m->definition.name = beside(r, m->definition.name, strlen(m->definition.name));
            if (!m->definition.name)
                return yaml_too_large(r->tree, value, err);
        }
    }
    if (!m->index.name)
        return yaml_fail(r->tree, n, err, "target has no index");
    if (strpbrk(m->index.name, "/\\*?\"<>| ,#") || strchr("-_+.", m->index.name[0]))
        return mapping_error(m, m->index.at, err, "\"%.60s\" is no name for an index or alias",
                             m->index.name);
    return true;
}

static bool read_preserve(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    struct mapping *m = r->m;

    m->preserve = (struct mapping_names){0};
    m->preserve_all = n->type == YAML_SCALAR_NODE && !strcmp(yaml_text(n), "all");
    if (m->preserve_all)
        return true;
    if (n->type != YAML_SEQUENCE_NODE)
        return yaml_fail(r->tree, n, err, "preserve must be a list of fields, or \"all\"");
    return reader_names(r, n, "preserve", &m->preserve, err);
}

static bool read_choice(struct mapping_reader *r, const yaml_node_t *n, const char *what,
                        const char *const *words, const char **out, struct err *err)
{
    AUTO_STR char *name = xsprintf("value of %s", what);

    return yaml_want_text(r->tree, n, what, out, err) &&
           yaml_check_word(r->tree, n, name, *out, words, err);
}

/* One word for all fields, or a map: `default`, and fields. */
static bool read_nulls(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    struct mapping *m = r->m;
    const char *word = "";

    m->null_rules = NULL;
    m->null_rule_count = 0;
    if (n->type != YAML_MAPPING_NODE) {
        if (!read_choice(r, n, "nulls", nulls_words, &word, err))
            return false;
        m->omit_nulls = !strcmp(word, "omit");
        return true;
    }
    struct mapping_null_rule *rules = reader_take(r, yaml_pair_count(n) * sizeof *rules);
    if (!rules)
        return yaml_too_large(r->tree, n, err);
    m->null_rules = rules;
    if (!yaml_want_map(r->tree, n, "nulls", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        if (!read_choice(r, yaml_node(r->tree, pair->value), "nulls", nulls_words, &word, err))
            return false;
        if (!strcmp(yaml_text(key), "default")) {
            m->omit_nulls = !strcmp(word, "omit");
            continue;
        }
        struct mapping_null_rule *rule = &rules[m->null_rule_count++];
        rule->omit = !strcmp(word, "omit");
        if (!reader_name(r, key, "a field", &rule->field, err))
            return false;
    }
    return true;
}

static bool read_time_form(struct mapping_reader *r, const yaml_node_t *n,
                           struct mapping_time_rule *rule, struct err *err)
{
    static const char *const words[] = {"pattern", "tz", NULL};
    const char *text = "";

    if (n->type != YAML_MAPPING_NODE) {
        if (!read_choice(r, n, "timestamps", timestamp_words, &text, err))
            return false;
        rule->epoch_ms = !strcmp(text, "epoch_ms");
        return true;
    }
    if (!yaml_want_map(r->tree, n, "timestamps", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        const char **out = !strcmp(yaml_text(key), "tz") ? &rule->zone : &rule->pattern;
        if (!yaml_check_word(r->tree, key, "key of timestamps", yaml_text(key), words, err) ||
            !yaml_want_text(r->tree, yaml_node(r->tree, pair->value), yaml_text(key), &text, err))
            return false;
        *out = arena_strndup(&r->m->mem, text, strlen(text));
        if (!*out)
            return yaml_too_large(r->tree, n, err);
    }
    return rule->pattern || yaml_fail(r->tree, n, err, "timestamps has a tz but no pattern");
}

static bool read_timestamps(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    struct mapping *m = r->m;
    struct mapping_time_rule all = {0};

    m->time_rules = NULL;
    m->time_rule_count = 0;
    bool per_field = n->type == YAML_MAPPING_NODE;
    if (!per_field) {
        bool ok = read_time_form(r, n, &all, err);
        m->epoch_ms = all.epoch_ms;
        return ok;
    }
    struct mapping_time_rule *rules = reader_take(r, yaml_pair_count(n) * sizeof *rules);
    if (!rules)
        return yaml_too_large(r->tree, n, err);
    m->time_rules = rules;
    if (!yaml_want_map(r->tree, n, "timestamps", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *key = yaml_node(r->tree, pair->key);
        const yaml_node_t *value = yaml_node(r->tree, pair->value);
        bool rest = !strcmp(yaml_text(key), "default");
        struct mapping_time_rule *rule = rest ? &all : &rules[m->time_rule_count++];
        if (!rest && !reader_name(r, key, "a field", &rule->field, err))
            return false;
        if (!read_time_form(r, value, rule, err))
            return false;
        if (rest && rule->pattern)
            return yaml_fail(r->tree, value, err, "default must be iso_ms_utc or epoch_ms");
    }
    m->epoch_ms = all.epoch_ms;
    return true;
}

static bool read_rows(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    static const char *const words[] = {"field", "columns", "each", NULL};
    struct mapping *m = r->m;

    m->rows = reader_take(r, sizeof *m->rows);
    return m->rows ? reader_rows(r, n, "rows", words, &m->rows_field, m->rows, err)
                   : yaml_too_large(r->tree, n, err);
}

static bool set_steps(struct mapping_reader *r, const yaml_node_t *n, bool more, struct err *err)
{
    struct mapping *m = r->m;
    struct mapping_steps steps = {0};

    if (!more)
        r->renames = NULL; /* those of the base's steps go with them */
    if (!reader_steps(r, n, &steps, err))
        return false;
    if (more && m->step_count) {
        struct mapping_step *both = reader_take(r, (m->step_count + steps.count) * sizeof *both);
        if (!both)
            return yaml_too_large(r->tree, n, err);
        memcpy(both, m->steps, m->step_count * sizeof *both);
        if (steps.count)
            memcpy(both + m->step_count, steps.list, steps.count * sizeof *both);
        steps = (struct mapping_steps){both, m->step_count + steps.count};
    }
    m->steps = steps.list;
    m->step_count = steps.count;
    return true;
}

/* ---- names of columns --------------------------------------------------------------------------
 */

/* `file` and pairs; both are kept until the tables are known. */
static bool read_rename(struct mapping_reader *r, const yaml_node_t *n, struct err *err)
{
    struct mapping_pairs more = {0};

    if (!yaml_want_map(r->tree, n, "rename", err))
        return false;
    each_pair(pair, n)
    {
        const yaml_node_t *value = yaml_node(r->tree, pair->value);
        const char *text = "";
        if (strcmp(yaml_text(yaml_node(r->tree, pair->key)), "file") != 0)
            continue;
        if (!yaml_want_text(r->tree, value, "file", &text, err))
            return false;
        size_t len = strcspn(text, "#");
        const char *section = text[len] ? text + len + 1 : "";
        r->dictionary = beside(r, text, len);
        r->section = arena_strndup(&r->m->mem, section, strlen(section));
        r->dictionary_at = yaml_place(r->tree, value);
        if (!r->dictionary || !r->section)
            return yaml_too_large(r->tree, value, err);
    }
    if (!reader_pairs(r, n, "a column", "a field", "file", &more, err))
        return false;
    struct mapping_pair *both = reader_take(r, (r->own.count + more.count) * sizeof *both);
    if (!both)
        return yaml_too_large(r->tree, n, err);
    if (r->own.count)
        memcpy(both, r->own.list, r->own.count * sizeof *both);
    if (more.count)
        memcpy(both + r->own.count, more.list, more.count * sizeof *both);
    r->own = (struct mapping_pairs){both, r->own.count + more.count};
    return true;
}

/* section "a.b" of a dictionary; where that holds maps only, the one named as the table. */
static const yaml_node_t *find_section(struct yaml_tree *t, const char *section, const char *table)
{
    const yaml_node_t *n = yaml_document_get_root_node(&t->doc);

    for (int depth = 0; depth < PATH_PARTS_MAX && n->type == YAML_MAPPING_NODE; depth++) {
        size_t len = strcspn(section, ".");
        const yaml_node_t *next = NULL;
        each_pair(pair, n)
        {
            const yaml_node_t *key = yaml_node(t, pair->key);
            const char *want = len ? section : table;
            size_t want_len = len ? len : strlen(table);
            if (key->type == YAML_SCALAR_NODE && strlen(yaml_text(key)) == want_len &&
                !memcmp(yaml_text(key), want, want_len))
                next = yaml_node(t, pair->value);
        }
        if (len == 0) {
            bool maps = n->data.mapping.pairs.start < n->data.mapping.pairs.top &&
                        yaml_node(t, n->data.mapping.pairs.start->value)->type == YAML_MAPPING_NODE;
            return maps ? next : n;
        }
        if (!next)
            return NULL;
        n = next;
        section += len + (section[len] == '.');
    }
    return NULL;
}

static void add_content(struct mapping *m, struct slice bytes)
{
    uint64_t both[2] = {m->content, hash_64(bytes)};

    m->content = hash_64(slice_of(both, sizeof both));
}

/* Later pairs win over earlier ones of the same column. */
static void put_pair(struct mapping_pair *list, size_t *count, struct mapping_pair p)
{
    size_t i = 0;

    while (i < *count && strcmp(list[i].from.name, p.from.name))
        i++;
    list[i] = p;
    *count += i == *count;
}

/* The dictionary's names for a table (none without a section of its own), then its own pairs. */
static bool names_of(struct mapping_reader *r, struct yaml_tree *dict, const char *table,
                     const struct mapping_pairs *own, bool needed, struct mapping_pairs *out,
                     struct err *err)
{
    const yaml_node_t *section = dict ? find_section(dict, r->section, table) : NULL;
    struct mapping_pairs known = {0};
    size_t count = 0;

    if (dict && !section && needed)
        return mapping_error(r->m, r->dictionary_at, err,
                             "%s has no section \"%s\" with names for table %s", r->dictionary,
                             r->section, table);
    if (section) {
        struct mapping_reader of = {.m = r->m, .tree = dict};
        if (!yaml_want_map(dict, section, "a dictionary of names", err) ||
            !reader_pairs(&of, section, "a column", "a field", NULL, &known, err))
            return false;
    }
    struct mapping_pair *list = reader_take(r, (known.count + own->count) * sizeof *list);
    if (!list)
        return err_set(err, ERR_USER, "%s: the mapping is too large", r->m->path);
    for (size_t i = 0; i < known.count; i++) {
        struct mapping_pair p = known.list[i];
        p.from.at = p.to.at = (struct place){0}; /* it may know columns that this table lacks */
        put_pair(list, &count, p);
    }
    for (size_t i = 0; i < own->count; i++)
        put_pair(list, &count, own->list[i]);
    *out = (struct mapping_pairs){list, count};
    return true;
}

static bool all_names(struct mapping_reader *r, struct yaml_tree *dict, struct err *err)
{
    if (!names_of(r, dict, r->m->table.name, &r->own, true, &r->m->rename, err))
        return false;
    for (struct pending_rename *p = r->renames; p; p = p->next)
        if (!names_of(r, dict, p->table, &p->own, false, p->out, err))
            return false;
    return true;
}

static bool finish_names(struct mapping_reader *r, struct err *err)
{
    struct buf bytes = {0};
    struct yaml_tree dict;
    struct err why = {0};

    if (!r->dictionary)
        return all_names(r, NULL, err);
    if (!yaml_file_read(r->dictionary, &bytes, &why))
        return mapping_error(r->m, r->dictionary_at, err, "%s", why.text);
    add_content(r->m, buf_slice(&bytes));
    bool ok = yaml_tree_load(&dict, buf_slice(&bytes), r->dictionary, err);
    buf_fini(&bytes);
    if (!ok)
        return false;
    ok = all_names(r, &dict, err);
    yaml_tree_fini(&dict);
    return ok;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static bool read_key(struct mapping_reader *r, const char *key, const yaml_node_t *n,
                     struct err *err)
{
    struct mapping *m = r->m;
    const char *word = "";

    if (!strcmp(key, "object")) {
        struct mapping_name name;
        if (!reader_name(r, n, "object", &name, err))
            return false;
        m->object = name.name;
        m->object_at = name.at;
        return true;
    }
    if (!strcmp(key, "source"))
        return read_source(r, n, err);
    if (!strcmp(key, "select"))
        return reader_names(r, n, "select", &m->select, err);
    if (!strcmp(key, "target"))
        return read_target(r, n, err);
    if (!strcmp(key, "where"))
        return reader_conditions(r, n, &m->where, err);
    if (!strcmp(key, "rename"))
        return read_rename(r, n, err);
    if (!strcmp(key, "rows"))
        return read_rows(r, n, err);
    if (!strcmp(key, "steps") || !strcmp(key, "more_steps"))
        return set_steps(r, n, key[0] == 'm', err);
    if (!strcmp(key, "preserve"))
        return read_preserve(r, n, err);
    if (!strcmp(key, "nulls"))
        return read_nulls(r, n, err);
    if (!strcmp(key, "timestamps"))
        return read_timestamps(r, n, err);
    if (!strcmp(key, "empty_collections")) {
        if (!read_choice(r, n, key, nulls_words, &word, err))
            return false;
        m->empty_said = true;
        m->omit_empty_collections = !strcmp(word, "omit");
        return true;
    }
    ensure(!strcmp(key, "versioning"));
    m->versioning_at = yaml_place(r->tree, n);
    return read_choice(r, n, key, versioning_words, &word, err) &&
           mapping_versioning_named(word, &m->versioning);
}

static const yaml_node_t *top_member(struct mapping_reader *r, const yaml_node_t *root,
                                     const char *name, const yaml_node_t **key)
{
    each_pair(pair, root)
    {
        *key = yaml_node(r->tree, pair->key);
        if (!strcmp(yaml_text(*key), name))
            return yaml_node(r->tree, pair->value);
    }
    return NULL;
}

static bool read_tree(struct mapping_reader *r, int depth, struct err *err);

/* The base first: what stands in this file comes over it. */
static bool read_base(struct mapping_reader *r, const yaml_node_t *n, int depth, struct err *err)
{
    struct yaml_tree base, *here = r->tree;
    struct buf bytes = {0};
    struct err why = {0};
    const char *name = "";

    if (!yaml_want_text(here, n, "extends", &name, err))
        return false;
    if (depth == EXTENDS_MAX)
        return yaml_fail(here, n, err, "extends more than %d files, one from the other",
                         EXTENDS_MAX);
    const char *path = beside(r, name, strlen(name));
    if (!path)
        return yaml_too_large(here, n, err);
    if (!yaml_file_read(path, &bytes, &why))
        return yaml_fail(here, n, err, "%s", why.text);
    add_content(r->m, buf_slice(&bytes));
    bool ok = yaml_tree_load(&base, buf_slice(&bytes), path, err);
    buf_fini(&bytes);
    if (!ok)
        return false;
    r->tree = &base;
    ok = read_tree(r, depth + 1, err);
    r->tree = here;
    yaml_tree_fini(&base);
    return ok;
}

static bool read_tree(struct mapping_reader *r, int depth, struct err *err)
{
    const yaml_node_t *root = yaml_document_get_root_node(&r->tree->doc), *key = NULL;

    if (!yaml_want_map(r->tree, root, "a mapping", err))
        return false;
    each_pair(pair, root)
    {
        key = yaml_node(r->tree, pair->key);
        if (!yaml_check_word(r->tree, key, "key", yaml_text(key), top_words, err))
            return false;
    }
    const yaml_node_t *base = top_member(r, root, "extends", &key);
    if (base && !read_base(r, base, depth, err))
        return false;
    if (top_member(r, root, "more_steps", &key) && (!base || top_member(r, root, "steps", &key)))
        return yaml_fail(r->tree, key, err,
                         "more_steps comes with extends, and without steps: it is added to those "
                         "of the file that is extended");
    each_pair(pair, root)
    {
        key = yaml_node(r->tree, pair->key);
        if (strcmp(yaml_text(key), "extends") != 0 &&
            !read_key(r, yaml_text(key), yaml_node(r->tree, pair->value), err))
            return false;
    }
    return true;
}

static bool read_mapping(struct mapping_reader *r, struct err *err)
{
    const yaml_node_t *root = yaml_document_get_root_node(&r->tree->doc);
    const struct mapping *m = r->m;

    if (!read_tree(r, 0, err))
        return false;
    if (!m->object)
        return yaml_fail(r->tree, root, err, "object is missing: the name of the document type");
    if (!m->table.name)
        return yaml_fail(r->tree, root, err, "source is missing");
    if (!m->index.name)
        return yaml_fail(r->tree, root, err, "target is missing");
    return finish_names(r, err);
}

struct mapping *mapping_parse(struct slice text, const char *path, struct err *err)
{
    struct mapping *m = xalloc(sizeof *m);
    struct yaml_tree t;
    struct mapping_reader r = {.m = m, .tree = &t};

    arena_init(&m->mem, MAPPING_MAX_BYTES);
    m->path = arena_strndup(&m->mem, path, strlen(path));
    m->versioning = VERSIONING_SEQUENCE;
    add_content(m, text);
    if (!yaml_tree_load(&t, text, m->path, err)) {
        mapping_free(m);
        return NULL;
    }
    bool ok = read_mapping(&r, err);
    yaml_tree_fini(&t);
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
    struct mapping_name *names = arena_zalloc(&m->mem, (count + 1) * sizeof *names);
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

bool mapping_read_too(struct mapping *m, const char *column, struct err *err)
{
    size_t count = m->read_too.count;
    struct mapping_name *names = arena_zalloc(&m->mem, (count + 1) * sizeof *names);
    const char *name = arena_strndup(&m->mem, column, strlen(column));

    if (!names || !name)
        return err_set(err, ERR_SYSTEM, "no memory for one more column");
    for (size_t i = 0; i < count; i++)
        names[i] = m->read_too.list[i];
    names[count].name = name;
    m->read_too = (struct mapping_names){names, count + 1};
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

    if (!yaml_file_read(path, &bytes, err))
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
