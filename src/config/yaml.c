#include "config/yaml.h"

#include <string.h>
#include <yaml.h>

#include "base/text.h"
#include "config/value.h"

struct reading {
    struct config *config;
    const char *name; /* of the file */
    yaml_document_t *doc;
    bool *seen; /* by row of the table */
    struct err *err;
};

static bool read_sections(struct reading *r, const yaml_node_t *root);

static bool fault_at(struct reading *r, yaml_mark_t mark, const char *what)
{
    return err_set(r->err, ERR_USER, "%s:%zu:%zu: %s", r->name, mark.line + 1, mark.column + 1,
                   what);
}

static bool parser_fault(const yaml_parser_t *p, const char *name, struct err *err)
{
    const char *problem = p->problem ? p->problem : "not YAML";

    if (p->error == YAML_MEMORY_ERROR)
        return err_set(err, ERR_SYSTEM, "%s: out of memory", name);
    if (p->error == YAML_READER_ERROR)
        return err_set(err, ERR_USER, "%s: byte %zu: %s", name, p->problem_offset, problem);
    return err_set(err, ERR_USER, "%s:%zu:%zu: %s", name, p->problem_mark.line + 1,
                   p->problem_mark.column + 1, problem);
}

/* The first document must be the only one. */
static bool is_last(yaml_parser_t *p, const char *name, struct err *err)
{
    yaml_document_t next;

    if (!yaml_parser_load(p, &next))
        return parser_fault(p, name, err);
    const yaml_node_t *root = yaml_document_get_root_node(&next);
    if (root)
        err_set(err, ERR_USER, "%s:%zu:%zu: a second document; one is expected", name,
                root->start_mark.line + 1, root->start_mark.column + 1);
    yaml_document_delete(&next);
    return root == NULL;
}

bool yaml_settings(struct config *c, const char *name, struct slice text, struct err *err)
{
    yaml_parser_t parser;
    yaml_document_t doc;

    if (!yaml_parser_initialize(&parser))
        return err_set(err, ERR_SYSTEM, "%s: out of memory", name);
    yaml_parser_set_input_string(&parser, text.p, text.n);
    bool ok = yaml_parser_load(&parser, &doc) || parser_fault(&parser, name, err);
    if (ok) {
        struct reading r = {.config = c, .name = name, .doc = &doc, .err = err};
        const yaml_node_t *root = yaml_document_get_root_node(&doc);

        r.seen = xalloc(config_option_count);
        ok = !root || (is_last(&parser, name, err) && read_sections(&r, root));
        free(r.seen);
        yaml_document_delete(&doc);
    }
    yaml_parser_delete(&parser);
    return ok;
}

static struct slice scalar(const yaml_node_t *node)
{
    return slice_of(node->data.scalar.value, node->data.scalar.length);
}

/* A plain ~ or null, or nothing at all, is the empty text. */
static struct slice scalar_value(const yaml_node_t *node)
{
    struct slice text = scalar(node);
    bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

    return plain && (slice_is(text, "~") || slice_is(text, "null")) ? slice_str("") : text;
}

static bool store(struct reading *r, const struct option *o, const yaml_node_t *value)
{
    char where[512];

    if (value->type != YAML_SCALAR_NODE)
        return fault_at(r, value->start_mark,
                        o->type == OPT_LIST ? "a text, or a list of texts, is expected"
                                            : "a single value is expected");
    snprintf(where, sizeof where, "%s:%zu:%zu", r->name, value->start_mark.line + 1,
             value->start_mark.column + 1);
    if (value_store(r->config, o, FROM_FILE, where, scalar_value(value), r->err))
        return true;
    /* "file:3:9: '0' is out of range" wants the name of what is out of range */
    const char *rest = r->err->text + strlen(where) + 2;
    char text[sizeof r->err->text];
    snprintf(text, sizeof text, "%s", rest);
    err_set(r->err, ERR_USER, "%s", text);
    err_wrap(r->err, "%s", o->name);
    return err_wrap(r->err, "%s", where);
}

static bool read_value(struct reading *r, const struct option *o, const yaml_node_t *value)
{
    if (o->type != OPT_LIST || value->type != YAML_SEQUENCE_NODE)
        return store(r, o, value);
    for (yaml_node_item_t *item = value->data.sequence.items.start;
         item < value->data.sequence.items.top; item++) {
        if (!store(r, o, yaml_document_get_node(r->doc, *item)))
            return false;
    }
    return true;
}

/* "unknown WHAT 'NAME'; did you mean NEAR?" */
static bool unknown(struct reading *r, const yaml_node_t *key, const char *what, struct slice name,
                    const char *const *known)
{
    const char *near = text_nearest(name, known);
    char text[300];

    snprintf(text, sizeof text, "unknown %s '%.*s'%s%s%s", what, (int)(name.n > 100 ? 100 : name.n),
             (const char *)name.p, near ? "; did you mean " : "", near ? near : "",
             near ? "?" : "");
    return fault_at(r, key->start_mark, text);
}

static bool unknown_setting(struct reading *r, const yaml_node_t *key, const char *path)
{
    const char **names = xalloc((config_option_count + 1) * sizeof *names);
    size_t n = 0;

    for (size_t i = 0; i < config_option_count; i++) {
        if (!config_options[i].flag_only)
            names[n++] = config_options[i].name;
    }
    unknown(r, key, "setting", slice_str(path), names);
    free(names);
    return false;
}

static bool read_section(struct reading *r, const char *section, const yaml_node_t *names)
{
    for (yaml_node_pair_t *pair = names->data.mapping.pairs.start;
         pair < names->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(r->doc, pair->key);
        char path[128];

        if (key->type != YAML_SCALAR_NODE)
            return fault_at(r, key->start_mark, "the name of a setting is expected");
        struct slice name = scalar(key);
        snprintf(path, sizeof path, "%s.%.*s", section, (int)(name.n > 100 ? 100 : name.n),
                 (const char *)name.p);
        const struct option *o = option_find(path);
        if (!o)
            return unknown_setting(r, key, path);
        if (r->seen[o - config_options])
            return fault_at(r, key->start_mark, "this setting is said twice");
        r->seen[o - config_options] = true;
        if (!read_value(r, o, yaml_document_get_node(r->doc, pair->value)))
            return false;
    }
    return true;
}

static const struct option_section *find_section(struct slice name)
{
    for (const struct option_section *s = config_sections; s->name; s++) {
        if (slice_is(name, s->name))
            return s;
    }
    return NULL;
}

static bool unknown_section(struct reading *r, const yaml_node_t *key)
{
    const char *names[32];
    size_t n = 0;

    for (const struct option_section *s = config_sections; s->name && n < 31; s++)
        names[n++] = s->name;
    names[n] = NULL;
    return unknown(r, key, "section", scalar(key), names);
}

static bool read_sections(struct reading *r, const yaml_node_t *root)
{
    if (root->type == YAML_SCALAR_NODE && !scalar_value(root).n)
        return true; /* nothing but comments */
    if (root->type != YAML_MAPPING_NODE)
        return fault_at(r, root->start_mark, "sections are expected, such as \"cassandra:\"");
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(r->doc, pair->key);
        const yaml_node_t *value = yaml_document_get_node(r->doc, pair->value);

        if (key->type != YAML_SCALAR_NODE)
            return fault_at(r, key->start_mark, "the name of a section is expected");
        const struct option_section *s = find_section(scalar(key));
        if (!s)
            return unknown_section(r, key);
        if (value->type == YAML_SCALAR_NODE && !scalar_value(value).n)
            continue;
        if (value->type != YAML_MAPPING_NODE)
            return fault_at(r, value->start_mark, "settings are expected, such as \"port: 9042\"");
        if (!read_section(r, s->name, value))
            return false;
    }
    return true;
}
