#include "mapping/definition.h"

#include <string.h>

#include "base/json.h"
#include "base/text.h"

static const char ending[] = ".index.json";

bool definition_index(const char *path, struct arena *mem, const char **out, struct err *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(name);

    if (n < sizeof ending || strcmp(name + n - (sizeof ending - 1), ending) != 0)
        return err_set(err, ERR_USER, "%s: a definition is named after its index: NAME%s", path,
                       ending);
    *out = arena_strndup(mem, name, n - (sizeof ending - 1));
    return *out || err_set(err, ERR_USER, "%s: the name is too long", path);
}

static bool is(struct slice key, const char *name)
{
    return slice_eq(key, slice_str(name));
}

static void add_key(struct buf *out, bool *first, struct slice key)
{
    if (!*first)
        buf_add_byte(out, ',');
    *first = false;
    json_add_string(out, key);
    buf_add_byte(out, ':');
}

/* All members of `of` (NULL: none) but one. */
static void add_members(struct buf *out, bool *first, const struct json *of, const char *but)
{
    if (!of)
        return;
    json_each (member, of) {
        if (is(member->key, but))
            continue;
        add_key(out, first, member->key);
        json_write(out, member);
    }
}

void definition_write_meta(const struct json *meta, const char *versioning, struct buf *out)
{
    bool first = false;

    buf_add_str(out, "{\"cass2es\":{\"versioning\":");
    json_add_string(out, slice_str(versioning));
    add_members(out, &first, json_get(meta, "cass2es"), "versioning");
    buf_add_byte(out, '}');
    add_members(out, &first, meta, "cass2es");
    buf_add_byte(out, '}');
}

static bool check_object(const struct json *v, const char *what, struct err *err)
{
    return !v || v->kind == JSON_OBJECT || err_set(err, ERR_USER, "%s is no object", what);
}

/* {"_meta": {"cass2es": {"versioning": ...}}, ...} */
static bool add_mappings(struct buf *out, const struct json *mappings, const char *versioning,
                         struct err *err)
{
    const struct json *meta = json_get(mappings, "_meta"), *ours = json_get(meta, "cass2es");
    const struct json *said = json_get(ours, "versioning");
    bool first = true;

    if (!check_object(meta, "_meta", err) || !check_object(ours, "_meta.cass2es", err))
        return false;
    if (said && (said->kind != JSON_STRING || !is(said->text, versioning)))
        return err_set(
            err, ERR_USER,
            "_meta.cass2es.versioning is not \"%s\", as in the mapping: take it out, or change "
            "one of them",
            versioning);
    buf_add_byte(out, '{');
    add_key(out, &first, slice_str("_meta"));
    definition_write_meta(meta, versioning, out);
    add_members(out, &first, mappings, "_meta");
    buf_add_byte(out, '}');
    return true;
}

bool definition_write(struct slice text, const struct definition_wish *wish, struct arena *mem,
                      struct buf *out, struct err *err)
{
    const struct json *all = json_parse(text, mem, err);
    bool first = true;

    if (!all) {
        err->kind = ERR_USER; /* the operator's file */
        return false;
    }
    const struct json *mappings = json_get(all, "mappings"), *aliases = json_get(all, "aliases");
    if (all->kind != JSON_OBJECT || !mappings || mappings->kind != JSON_OBJECT)
        return err_set(err, ERR_USER, "is no definition of an index: it has no \"mappings\"");
    if (!check_object(aliases, "aliases", err))
        return false;
    buf_add_byte(out, '{');
    json_each (member, all) {
        if (is(member->key, "mappings") || is(member->key, "aliases"))
            continue;
        add_key(out, &first, member->key);
        json_write(out, member);
    }
    if (aliases || wish->alias) {
        bool none = true;
        add_key(out, &first, slice_str("aliases"));
        buf_add_byte(out, '{');
        add_members(out, &none, aliases, wish->alias ? wish->alias : "");
        if (wish->alias) {
            add_key(out, &none, slice_str(wish->alias));
            buf_add_str(out, "{}");
        }
        buf_add_byte(out, '}');
    }
    add_key(out, &first, slice_str("mappings"));
    if (!add_mappings(out, mappings, wish->versioning, err))
        return false;
    buf_add_byte(out, '}');
    return !out->full || err_set(err, ERR_USER, "is too large");
}
