#include "sink/elastic_ask.h"

#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

enum { MAPPING_MAX_BYTES = 64 << 20 }; /* as a tree */

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

static void add_member(struct buf *b, struct slice key)
{
    json_add_string(b, key);
    buf_add_byte(b, ':');
}

/* The members of `of` (NULL: none) but one, each behind a comma. */
static void add_others(struct buf *b, const struct json *of, const char *but)
{
    if (!of)
        return;
    json_each (v, of) {
        if (slice_is(v->key, but))
            continue;
        buf_add_byte(b, ',');
        add_member(b, v->key);
        json_write(b, v);
    }
}

static void write_meta(struct buf *b, const struct json *meta, const char *versioning)
{
    buf_add_str(b, "{\"_meta\":{\"cass2es\":{\"versioning\":");
    json_add_string(b, slice_str(versioning));
    add_others(b, json_get(meta, "cass2es"), "versioning");
    buf_add_byte(b, '}');
    add_others(b, meta, "cass2es");
    buf_add_str(b, "}}");
}

static bool put_mapping(struct elastic *e, const char *name, struct slice body, struct err *err)
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

bool elastic_index_set_versioning(struct elastic *e, const char *name, const char *versioning,
                                  struct err *err)
{
    const struct json *mappings = NULL;
    struct arena mem;
    struct buf body;

    arena_init(&mem, MAPPING_MAX_BYTES);
    buf_init(&body, MAPPING_MAX_BYTES);
    bool ok = elastic_index_mappings(e, name, &mem, &mappings, err);
    if (ok && !mappings)
        ok = err_set(err, ERR_USER, "its mapping can't be read"); /* what is in _meta would go */
    if (ok) {
        write_meta(&body, json_get(mappings, "_meta"), versioning);
        ok = body.full ? err_set(err, ERR_USER, "it is too large")
                       : put_mapping(e, name, buf_slice(&body), err);
    }
    buf_fini(&body);
    arena_fini(&mem);
    return ok || err_wrap(err,
                          "%s: can't note the versioning in the index's _meta (that takes the "
                          "right \"manage\")",
                          name);
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
