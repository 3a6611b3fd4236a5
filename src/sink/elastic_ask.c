#include "sink/elastic_ask.h"

#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

/* The answer as a tree in e->mem, or in mem. NULL: it is not JSON, or not 200. */
static const struct json *tree(struct elastic *e, const struct http_answer *a, struct arena *mem)
{
    struct err ignored = {0};

    if (!mem) {
        arena_reset(&e->mem);
        mem = &e->mem;
    }
    return a->status == 200 ? json_parse(a->body, mem, &ignored) : NULL;
}

static uint64_t count_of(const struct json *v)
{
    int64_t n;

    if (!v || (v->kind != JSON_STRING && v->kind != JSON_NUMBER))
        return 0;
    return text_to_i64(v->text, 0, INT64_MAX, &n) ? (uint64_t)n : 0;
}

bool elastic_index_origin(struct elastic *e, const char *name, struct elastic_origin *out,
                          struct err *err)
{
    char path[ELASTIC_PATH_BYTES];
    struct http_answer a;

    elastic_index_path(path, sizeof path, name,
                       elastic_has_types(e) ? "?include_type_name=false&" : "?");
    size_t n = strlen(path);
    snprintf(path + n, sizeof path - n,
             "filter_path=*.settings.index.uuid,*.mappings._meta.cass2es");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status == 404)
        return elastic_index_missing(e, name, err);
    if (a.status != 200)
        return elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    const struct json *root = tree(e, &a, NULL);
    const struct json *one = root ? root->first : NULL;
    struct slice uuid = json_get_string(json_get(json_get(one, "settings"), "index"), "uuid");
    struct slice versioning = json_get_string(
        json_get(json_get(json_get(one, "mappings"), "_meta"), "cass2es"), "versioning");
    elastic_copy_text(out->name, sizeof out->name, one ? one->key : slice_str(name));
    elastic_copy_text(out->uuid, sizeof out->uuid, uuid.n ? uuid : slice_str(out->name));
    elastic_copy_text(out->versioning, sizeof out->versioning,
                      versioning.p ? versioning : slice_str(""));
    return true;
}

bool elastic_index_mappings(struct elastic *e, const char *name, struct arena *mem,
                            const struct json **mappings, struct err *err)
{
    char path[ELASTIC_PATH_BYTES];
    struct http_answer a;

    elastic_index_path(path, sizeof path, name,
                       elastic_has_types(e) ? "/_mapping?include_type_name=false" : "/_mapping");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status == 404)
        return elastic_index_missing(e, name, err);
    if (a.status != 200)
        return elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    const struct json *root = tree(e, &a, mem);
    *mappings = root && root->first ? json_get(root->first, "mappings") : NULL;
    return true;
}

bool elastic_index_put_mapping(struct elastic *e, const char *name, struct slice body,
                               struct err *err)
{
    char path[ELASTIC_PATH_BYTES];
    struct http_answer a;
    struct elastic_request r = {
        .method = "PUT", .path = path, .content_type = "application/json", .body = body};

    elastic_index_path(path, sizeof path, name,
                       elastic_has_types(e) ? "/_mapping?include_type_name=false" : "/_mapping");
    if (!elastic_call(e, &r, &a, err))
        return false;
    return a.status == 200 || elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
}

/* ---- rights ----------------------------------------------------------------------------------
 */

bool elastic_may_write(struct elastic *e, const char *name, enum elastic_right *out,
                       struct err *err)
{
    struct http_answer a;
    struct buf body;

    *out = ELASTIC_RIGHT_UNKNOWN;
    buf_init(&body, 4096);
    buf_add_str(&body, "{\"index\":[{\"names\":[");
    json_add_string(&body, slice_str(name));
    buf_add_str(&body,
                "],\"privileges\":[\"index\",\"create\",\"delete\",\"view_index_metadata\"]}]}");
    struct elastic_request r = {.method = "POST",
                                .path = "/_security/user/_has_privileges",
                                .content_type = "application/json",
                                .body = buf_slice(&body)};
    bool ok = elastic_call(e, &r, &a, err);
    buf_fini(&body);
    if (!ok)
        return false;
    const struct json *all = json_get(tree(e, &a, NULL), "has_all_requested");
    if (all && all->kind == JSON_BOOL)
        *out = all->truth ? ELASTIC_RIGHT_YES : ELASTIC_RIGHT_NO;
    return true;
}

/* ---- room ------------------------------------------------------------------------------------
 */

bool elastic_disk(struct elastic *e, struct elastic_disk *out, struct err *err)
{
    struct http_answer a;

    *out = (struct elastic_disk){0};
    if (!elastic_get(e, "/_cat/allocation?format=json&bytes=b&h=node,disk.avail,disk.total", &a,
                     err))
        return false;
    const struct json *list = tree(e, &a, NULL);
    if (!list || list->kind != JSON_ARRAY)
        return true;
    json_each (node, list) {
        uint64_t avail = count_of(json_get(node, "disk.avail"));
        uint64_t total = count_of(json_get(node, "disk.total"));

        if (!total) /* shards that are nowhere */
            continue;
        out->nodes++;
        out->free_everywhere_bytes += avail;
        if (out->nodes > 1 && avail >= out->free_bytes)
            continue;
        out->free_bytes = avail;
        out->total_bytes = total;
        elastic_copy_text(out->node, sizeof out->node, json_get_string(node, "node"));
    }
    return true;
}

bool elastic_index_size(struct elastic *e, const char *name, struct elastic_size *out,
                        struct err *err)
{
    char path[ELASTIC_PATH_BYTES];
    struct http_answer a;

    *out = (struct elastic_size){0};
    elastic_index_path(path, sizeof path, name, "/_stats/docs,store?filter_path=_all.primaries");
    if (!elastic_get(e, path, &a, err))
        return false;
    const struct json *primaries = json_get(json_get(tree(e, &a, NULL), "_all"), "primaries");
    out->docs = count_of(json_get(json_get(primaries, "docs"), "count"));
    out->bytes = count_of(json_get(json_get(primaries, "store"), "size_in_bytes"));
    return true;
}
