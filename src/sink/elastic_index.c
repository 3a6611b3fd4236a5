#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

enum { GC_DELETES_MS = 60 * 1000 };

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

static const struct json *parse(struct elastic *e, const struct http_answer *a)
{
    struct err ignored = {0};

    arena_reset(&e->mem);
    return a->status == 200 ? json_parse(a->body, &e->mem, &ignored) : NULL;
}

/* "GET /" may be missing, or not allowed through a gateway, or made to tell the version that old
 * clients want; the node's own entry says it, too. */
static bool identify_by_nodes(struct elastic *e, struct elastic_version *out, struct err *err)
{
    struct http_answer a;

    if (!elastic_get(e, "/_nodes/_local?filter_path=nodes.*.version", &a, err))
        return false;
    const struct json *nodes = json_get(parse(e, &a), "nodes");
    if (!nodes || !nodes->first || !set_version(json_get_string(nodes->first, "version"), out))
        snprintf(out->text, sizeof out->text, "unknown");
    else
        out->opensearch = out->major < 5; /* there is no Elasticsearch 3 or 4, and 2 is long gone */
    return true;
}

static bool identify_by_root(struct elastic *e, const struct http_answer *a,
                             struct elastic_version *out, struct err *err)
{
    const struct json *root = parse(e, a), *version = json_get(root, "version");

    if (!set_version(json_get_string(version, "number"), out))
        return err_set(err, ERR_USER, "%s is not Elasticsearch or OpenSearch", elastic_url(e));
    out->opensearch = slice_is(json_get_string(version, "distribution"), "opensearch");
    if (!out->opensearch || out->major < 5)
        return true;
    out->known = false;
    return identify_by_nodes(e, out, err);
}

static bool is_supported(const struct elastic_version *v)
{
    if (!v->known)
        return true;
    if (v->opensearch)
        return v->major == 2 || v->major == 3;
    return (v->major == 6 && v->minor == 8) || v->major == 7 || v->major == 8;
}

bool elastic_identify(struct elastic *e, struct elastic_version *out, struct err *err)
{
    struct http_answer a;

    *out = (struct elastic_version){.major = 7};
    if (!elastic_get(e, "/", &a, err) ||
        !(a.status == 200 ? identify_by_root(e, &a, out, err) : identify_by_nodes(e, out, err)))
        return false;
    if (!is_supported(out))
        return err_set(err, ERR_USER,
                       "%s is %s %s, which is not supported; Elasticsearch 6.8, 7 and 8 are, and "
                       "OpenSearch 2 and 3",
                       elastic_url(e), out->opensearch ? "OpenSearch" : "Elasticsearch", out->text);
    atomic_store(&e->shared->major, out->opensearch ? 7 : out->major);
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

/* ---- an index ----------------------------------------------------------------------------------
 */

/* The server would take wildcards and lists for names. */
static bool check_name(const char *name, struct err *err)
{
    if (*name && !strpbrk(name, "*,?/\\\"<>| #") && !strchr("-_+", *name))
        return true;
    return err_set(err, ERR_USER, "\"%s\" is not the name of an index", name);
}

/* Or an index behind one: no place for documents with ids of ours. */
static bool is_data_stream(const struct json *one)
{
    return json_get(one, "data_stream") || (one->key.n > 4 && memcmp(one->key.p, ".ds-", 4) == 0);
}

/* What the server knows as `name`, by its own name: exactly one. */
static bool read_one(struct elastic *e, const char *name, const struct http_answer *a,
                     const struct json **out, struct err *err)
{
    const struct json *root = parse(e, a);

    if (a->status != 200) {
        elastic_fail(e, a, a->status >= 500 ? ERR_RETRY : ERR_USER, err);
        return false;
    }
    if (!root || root->kind != JSON_OBJECT)
        return err_set(err, ERR_USER, "%s is not Elasticsearch or OpenSearch", elastic_url(e));
    if (root->count && is_data_stream(root->first))
        return err_set(err, ERR_USER,
                       "\"%s\" is a data stream; documents are written to an index, or an alias of "
                       "one",
                       name);
    if (root->count != 1)
        return err_set(
            err, ERR_USER,
            "alias \"%s\" stands for %u indices; documents are written to an alias of one", name,
            root->count);
    *out = root->first;
    return true;
}

/* "/NAME" and `rest`, where the answer has mappings: Elasticsearch 6 is asked to leave out the
 * type. */
static void mapped_path(const struct elastic *e, const char *name, const char *rest,
                        char path[ELASTIC_PATH_BYTES])
{
    elastic_index_path(path, ELASTIC_PATH_BYTES, name, rest);
    if (!elastic_has_types(e))
        return;
    size_t n = strlen(path);
    snprintf(path + n, ELASTIC_PATH_BYTES - n, "%cinclude_type_name=false",
             strchr(rest, '?') ? '&' : '?');
}

bool elastic_check_index(struct elastic *e, const char *index, struct err *err)
{
    struct http_answer a;
    char path[ELASTIC_PATH_BYTES];
    const struct json *one;

    if (!check_name(index, err))
        return false;
    elastic_index_path(path, sizeof path, index, "/_settings?filter_path=*.settings.index.uuid");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status == 404)
        return elastic_index_missing(e, index, err);
    return read_one(e, index, &a, &one, err);
}

/* "1h" as Elasticsearch writes times; what it does not know is the default. */
static int64_t read_time_ms(struct slice text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1}};
    size_t digits = 0;
    int64_t value;

    while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
        digits++;
    if (text.n && text.p[0] == '-')
        return 0; /* forgotten at once */
    if (!text_to_i64(slice_of(text.p, digits), 0, INT64_MAX / 86400000, &value))
        return GC_DELETES_MS;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (slice_is(slice_of(text.p + digits, text.n - digits), units[i].unit))
            return value * units[i].ms;
    return text.p[digits] == 'm' || text.p[digits] == 'n' ? 0 /* micros, nanos */ : GC_DELETES_MS;
}

/* By its whole name, or level by level: gateways may lose flat_settings. */
static struct slice setting(const struct json *settings, const char *name)
{
    const struct json *v = json_get(settings, name);
    char level[32];

    while (!v && settings) {
        size_t n = strcspn(name, ".");
        snprintf(level, sizeof level, "%.*s", (int)n, name);
        settings = json_get(settings, level);
        name += n + (name[n] == '.');
        v = *name ? json_get(settings, name) : settings;
    }
    return v && (v->kind == JSON_STRING || v->kind == JSON_NUMBER) ? v->text : SLICE_NULL;
}

static int setting_int(const struct json *settings, const char *name)
{
    int64_t value;

    return text_to_i64(setting(settings, name), 0, INT32_MAX, &value) ? (int)value : 0;
}

static bool setting_is_true(const struct json *settings, const char *name)
{
    return slice_is(setting(settings, name), "true");
}

static bool is_false(const struct json *v)
{
    return v && ((v->kind == JSON_BOOL && !v->truth) ||
                 (v->kind == JSON_STRING && slice_is(v->text, "false")));
}

/* Documents come back as they were sent. */
static bool keeps_source(const struct json *mappings)
{
    const struct json *source = json_get(mappings, "_source");

    return !is_false(json_get(source, "enabled")) && !json_get(source, "includes") &&
           !json_get(source, "excludes") && !slice_is(json_get_string(source, "mode"), "disabled");
}

static void read_index(const struct json *one, const char *name, struct elastic_index *out)
{
    const struct json *settings = json_get(one, "settings"), *mappings = json_get(one, "mappings");
    struct slice gc = setting(settings, "index.gc_deletes");
    struct slice versioning =
        json_get_string(json_get(json_get(mappings, "_meta"), "cass2es"), "versioning");

    *out = (struct elastic_index){.is_alias = !slice_is(one->key, name)};
    elastic_copy_text(out->name, sizeof out->name, one->key);
    elastic_copy_text(out->versioning, sizeof out->versioning,
                      versioning.p ? versioning : slice_str(""));
    out->source_enabled = keeps_source(mappings);
    out->write_blocked = setting_is_true(settings, "index.blocks.write") ||
                         setting_is_true(settings, "index.blocks.read_only") ||
                         setting_is_true(settings, "index.blocks.read_only_allow_delete");
    out->gc_deletes_ms = gc.p ? read_time_ms(gc) : GC_DELETES_MS;
    out->shards = setting_int(settings, "index.number_of_shards");
    out->replicas = setting_int(settings, "index.number_of_replicas");
}

/* The index's entry in the cluster's state: is it open, and the primary terms of its shards. */
struct terms {
    bool closed;
    struct elastic_terms of;
};

static bool look_up_terms(struct elastic *e, const char *index, struct terms *out, struct err *err)
{
    char path[ELASTIC_PATH_BYTES] = "/_cluster/state/metadata";
    struct http_answer a;
    size_t n = strlen(path);
    int64_t value;

    elastic_index_path(path + n, sizeof path - n, index,
                       "?filter_path=metadata.indices.*.state,metadata.indices.*.primary_terms");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status != 200)
        return elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    const struct json *indices = json_get(json_get(parse(e, &a), "metadata"), "indices");
    if (!indices || !indices->first)
        return elastic_index_missing(e, index, err);
    const struct json *terms = json_get(indices->first, "primary_terms");
    *out = (struct terms){.closed = slice_is(json_get_string(indices->first, "state"), "close")};
    if (terms)
        json_each (t, terms) {
            if (!json_i64(t, &value))
                continue;
            if (value > out->of.highest)
                out->of.highest = value;
            if (!out->of.lowest || value < out->of.lowest)
                out->of.lowest = value;
            out->of.sum += value;
        }
    return out->of.lowest > 0 ||
           err_set(err, ERR_USER, "%s does not tell the primary terms of \"%s\"", elastic_url(e),
                   index);
}

bool elastic_primary_terms(struct elastic *e, const char *index, struct elastic_terms *out,
                           struct err *err)
{
    struct terms terms = {0};

    if (!look_up_terms(e, index, &terms, err))
        return false;
    *out = terms.of;
    return true;
}

bool elastic_index_look(struct elastic *e, const char *name, struct elastic_index *out,
                        bool *exists, struct err *err)
{
    char path[ELASTIC_PATH_BYTES];
    struct http_answer a;
    const struct json *one;
    struct elastic_index index;
    struct terms terms = {0};

    if (!check_name(name, err))
        return false;
    mapped_path(e, name, "?flat_settings=true", path);
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status == 404) {
        *exists = false;
        return true;
    }
    if (!read_one(e, name, &a, &one, err))
        return false;
    read_index(one, name, &index);
    if (!look_up_terms(e, index.name, &terms, err))
        return false;
    index.primary_term = terms.of.highest;
    index.lowest_term = terms.of.lowest;
    if (terms.closed)
        return err_set(err, ERR_USER, "index \"%s\" is closed; open it first", index.name);
    *exists = true;
    *out = index;
    return true;
}

bool elastic_index_create(struct elastic *e, const char *name, struct slice definition,
                          struct err *err)
{
    char path[ELASTIC_PATH_BYTES];
    struct http_answer a;

    if (!check_name(name, err))
        return false;
    mapped_path(e, name, "", path);
    struct elastic_request r = {.method = "PUT",
                                .path = path,
                                .content_type = "application/json",
                                .body = definition,
                                .writes = true};
    if (!elastic_call(e, &r, &a, err))
        return err_wrap(err, "create index \"%s\"", name);
    if (a.status != 200) {
        elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
        return err_wrap(err, "create index \"%s\"", name);
    }
    const struct json *done = json_get(parse(e, &a), "acknowledged");
    return (done && done->kind == JSON_BOOL && done->truth) ||
           err_set(err, ERR_RETRY, "%s did not acknowledge that index \"%s\" was created",
                   elastic_url(e), name);
}

/* ---- may we write now? -------------------------------------------------------------------------
 */

static bool blocks_writes(const struct json *block)
{
    const struct json *levels = json_get(block, "levels");

    if (levels)
        json_each (level, levels)
            if (level->kind == JSON_STRING && slice_is(level->text, "write"))
                return true;
    return false;
}

/* The first of these that keeps us from writing. */
static bool find_block(const struct json *blocks, struct elastic_state *out)
{
    if (!blocks)
        return false;
    json_each (block, blocks) {
        if (!blocks_writes(block))
            continue;
        struct slice why = json_get_string(block, "description");
        const uint8_t *more = why.n ? memchr(why.p, ';', why.n) : NULL; /* an address to read on */
        if (more)
            why.n = (size_t)(more - why.p);
        out->pause = true;
        snprintf(out->why, sizeof out->why, "no writing: %.*s", (int)why.n,
                 why.p ? (const char *)why.p : "");
        return true;
    }
    return false;
}

static bool look_at_blocks(struct elastic *e, const char *index, struct elastic_state *out,
                           struct err *err)
{
    char path[ELASTIC_PATH_BYTES] = "/_cluster/state/blocks";
    struct http_answer a;
    size_t n = strlen(path);

    elastic_index_path(path + n, sizeof path - n, index, "?filter_path=blocks");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status != 200)
        return elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    const struct json *blocks = json_get(parse(e, &a), "blocks");
    const struct json *indices = json_get(blocks, "indices");
    if (find_block(json_get(blocks, "global"), out) || !indices)
        return true;
    json_each (one, indices)
        if (find_block(one, out))
            return true;
    return true;
}

bool elastic_cluster_state(struct elastic *e, const char *index, struct elastic_state *out,
                           struct err *err)
{
    char path[ELASTIC_PATH_BYTES] = "/_cluster/health";
    struct elastic_state state = {0};
    struct http_answer a;
    size_t n = strlen(path);
    int64_t missing = 0;

    elastic_index_path(path + n, sizeof path - n, index,
                       "?timeout=1s&filter_path=status,unassigned_shards");
    if (!elastic_get(e, path, &a, err))
        return false;
    if (a.status != 200 && a.status != 408)
        return elastic_fail(e, &a, a.status >= 500 ? ERR_RETRY : ERR_USER, err);
    const struct json *health = parse(e, &a);
    json_i64(json_get(health, "unassigned_shards"), &missing);
    bool red = slice_is(json_get_string(health, "status"), "red");
    if (!look_at_blocks(e, index, &state, err))
        return false;
    if (!state.pause && red) {
        state.pause = true;
        snprintf(state.why, sizeof state.why, "the index is red: %" PRId64 " shards are nowhere",
                 missing);
    }
    *out = state;
    return true;
}
