#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

/* ---- who is there ------------------------------------------------------------------------------
 */

static bool set_version(struct slice number, struct elastic_version *out)
{
    struct slice major = number, minor = SLICE_NULL;
    int64_t value;
    const uint8_t *dot = number.n ? memchr(number.p, '.', number.n) : NULL;

    if (!dot)
        return false;
    major.n = (size_t)(dot - number.p);
    minor = slice_of(dot + 1, number.n - major.n - 1);
    const uint8_t *next = minor.n ? memchr(minor.p, '.', minor.n) : NULL;
    if (next)
        minor.n = (size_t)(next - minor.p);
    if (!text_to_i64(major, 0, 1000, &value))
        return false;
    out->major = (int)value;
    out->minor = text_to_i64(minor, 0, 1000, &value) ? (int)value : 0;
    out->known = true;
    elastic_copy_text(out->text, sizeof out->text, number);
    return true;
}

/* "GET /" may be missing, or not allowed through a gateway; the node's own entry says it, too. */
static bool identify_by_nodes(struct elastic *e, struct elastic_version *out, struct err *err)
{
    struct http_answer a;

    if (!elastic_get(e, "/_nodes/_local?filter_path=nodes.*.version", &a, err))
        return false;
    arena_reset(&e->mem);
    struct err ignored = {0};
    const struct json *root = a.status == 200 ? json_parse(a.body, &e->mem, &ignored) : NULL;
    const struct json *nodes = json_get(root, "nodes");
    if (!nodes || !nodes->first || !set_version(json_get_string(nodes->first, "version"), out))
        snprintf(out->text, sizeof out->text, "unknown");
    return true;
}

bool elastic_identify(struct elastic *e, struct elastic_version *out, struct err *err)
{
    struct http_answer a;

    *out = (struct elastic_version){.major = 7};
    if (!elastic_get(e, "/", &a, err))
        return false;
    if (a.status != 200) {
        if (!identify_by_nodes(e, out, err))
            return false;
    } else {
        arena_reset(&e->mem);
        struct err ignored = {0};
        const struct json *root = json_parse(a.body, &e->mem, &ignored);
        const struct json *version = json_get(root, "version");
        if (!set_version(json_get_string(version, "number"), out))
            return err_set(err, ERR_USER, "%s is not Elasticsearch or OpenSearch", elastic_url(e));
        out->opensearch = slice_is(json_get_string(version, "distribution"), "opensearch");
    }
    if (out->known && !out->opensearch && out->major < 7)
        return err_set(err, ERR_USER,
                       "%s is Elasticsearch %s, which is not supported yet; 7 or later is",
                       elastic_url(e), out->text);
    return true;
}

bool elastic_index_missing(struct elastic *e, const char *index, struct err *err)
{
    return err_set(
        err, ERR_USER,
        "there is no index or alias \"%s\" on %s; it is never created silently. Create it "
        "with its mapping first: curl -X PUT %s/%s -H 'Content-Type: application/json' -d "
        "@DEFINITION.json",
        index, elastic_url(e), elastic_url(e), index);
}

bool elastic_check_index(struct elastic *e, const char *index, struct err *err)
{
    struct http_answer a;
    char path[512];

    elastic_index_path(path, sizeof path, index, "/_settings?filter_path=*.settings.index.uuid");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status == 404)
        return elastic_index_missing(e, index, err);
    if (a.status != 200)
        return elastic_fail(e, &a, ERR_USER, err);
    arena_reset(&e->mem);
    const struct json *root = json_parse(a.body, &e->mem, err);
    if (!root || root->kind != JSON_OBJECT)
        return err_set(err, ERR_USER, "%s is not Elasticsearch or OpenSearch", elastic_url(e));
    if (root->count != 1)
        return err_set(
            err, ERR_USER,
            "alias \"%s\" stands for %u indices; documents are written to an alias of one", index,
            root->count);
    return true;
}
