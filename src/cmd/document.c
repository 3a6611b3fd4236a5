#include "cmd/document.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/connect.h"

struct profiles {
    char **names; /* ends with NULL */
    size_t count;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Adds the profiles in a folder, such as "sunbird/user"; one folder deep. */
static void add_profiles(struct profiles *p, const char *root, const char *folder)
{
    AUTO_STR char *path = xsprintf("%s/%s", root, folder);
    DIR *dir = opendir(path);
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        AUTO_STR char *name = xsprintf("%s%s%s", folder, *folder ? "/" : "", e->d_name);

        if (e->d_name[0] == '.')
            continue;
        if (!ends_with(name, ".yaml")) {
            if (!*folder)
                add_profiles(p, root, name);
            continue;
        }
        p->names = xrealloc(p->names, (p->count + 2) * sizeof *p->names);
        p->names[p->count++] = xsprintf("%.*s", (int)(strlen(name) - strlen(".yaml")), name);
        p->names[p->count] = NULL;
    }
    if (dir)
        closedir(dir);
}

static bool no_profile(const struct config *c, const char *name, struct err *err)
{
    struct profiles p = {0};

    add_profiles(&p, c->mapping.profiles_dir, "");
    const char *near = p.count ? text_nearest(slice_str(name), (const char *const *)p.names) : NULL;
    config_fault(c, "mapping.files", err, "there is no profile %s in %s; %s%s%s", name,
                 c->mapping.profiles_dir, near ? "did you mean " : "a file ends in .yaml",
                 near ? near : "", near ? "?" : "");
    for (size_t i = 0; i < p.count; i++)
        free(p.names[i]);
    free(p.names);
    return false;
}

bool document_load(struct document *d, const struct config *c, const char *name, struct err *err)
{
    const char *dir = c->mapping.profiles_dir;
    bool is_file = ends_with(name, ".yaml") || ends_with(name, ".yml");

    if (!is_file && !dir)
        return config_fault(c, "mapping.files", err,
                            "profile %s: no folder of profiles was found; say --profiles-dir, or "
                            "give a file (.yaml)",
                            name);
    AUTO_STR char *path = is_file ? xstrdup(name) : xsprintf("%s/%s.yaml", dir, name);
    if (!is_file && access(path, F_OK) != 0)
        return no_profile(c, name, err);
    d->mapping = mapping_load(path, err);
    return d->mapping != NULL;
}

static char *find_keyspace(const struct config *c, struct cql_cluster *cluster,
                           const struct mapping *m, struct err *err)
{
    struct cql_names found = {0};
    char *keyspace = NULL;

    if (m->keyspace.name)
        return xstrdup(m->keyspace.name);
    if (c->cassandra.keyspace)
        return xstrdup(c->cassandra.keyspace);
    if (!cql_find_table(cluster, m->table.name, &found, err))
        return NULL;
    if (found.count == 1)
        keyspace = xstrdup(found.names[0]);
    else
        mapping_error(m, m->table.at, err,
                      found.count ? "%zu keyspaces have a table %s: say which by keyspace"
                                  : "%zu keyspaces have a table %s",
                      found.count, m->table.name);
    cql_names_fini(&found);
    return keyspace;
}

static bool document_where(struct document *d, const struct config *c, struct err *err)
{
    struct err why = {0};

    if (!c->sync.where)
        return true;
    d->where = where_parse(d->schema, slice_str(c->sync.where), &why);
    if (!d->where)
        return config_fault(c, "sync.where", err, "%s", why.text);
    if (d->mapping->rows)
        return config_fault(c, "sync.where", err,
                            "can't be used with a mapping of partitions; its own where can");
    for (size_t i = 0; d->rereads && i < d->where->count; i++)
        if (!mapping_read_too(d->mapping, d->schema->columns[d->where->list[i].column].name, err))
            return false;
    return true;
}

/* Tables that steps read: each is asked for once. */
struct tables {
    struct document *document;
    struct cql_cluster *cluster;
};

static const struct schema *find_table(void *ctx, const char *keyspace, const char *table,
                                       struct err *err)
{
    struct tables *t = ctx;
    struct document *d = t->document;

    for (size_t i = 0; i < d->other_count; i++)
        if (!strcmp(d->others[i]->keyspace, keyspace) && !strcmp(d->others[i]->table, table))
            return d->others[i];
    struct schema *s = cql_schema_load(t->cluster, keyspace, table, err);
    if (!s)
        return NULL;
    d->others = xrealloc(d->others, (d->other_count + 1) * sizeof(struct schema *));
    d->others[d->other_count++] = s;
    return s;
}

static bool compile(struct document *d, struct cql_cluster *cluster, struct err *err)
{
    struct tables t = {d, cluster};
    const struct plan_tables tables = {find_table, &t};

    d->plan = plan_compile_with(d->mapping, d->schema, &tables, err);
    return d->plan != NULL;
}

bool document_compile(struct document *d, const struct config *c, struct cql_cluster *cluster,
                      struct err *err)
{
    AUTO_STR char *keyspace = find_keyspace(c, cluster, d->mapping, err);

    if (!keyspace)
        return false;
    d->schema = cql_schema_load(cluster, keyspace, d->mapping->table.name, err);
    if (!d->schema)
        return err_wrap(err, "%s", d->mapping->path);
    return document_where(d, c, err) && compile(d, cluster, err);
}

/* Of no file. */
static bool document_default(struct document *d, const struct config *c,
                             struct cql_cluster *cluster, const char *index, struct err *err)
{
    d->schema = connect_table(c, cluster, err);
    if (!d->schema)
        return false;
    d->mapping = mapping_default(d->schema, index);
    if (c->sync.columns[0] && !mapping_set_columns(d->mapping, c->sync.columns, err))
        return config_fault(c, "sync.columns", err, "%s", err->text);
    if (!document_where(d, c, err))
        return false;
    d->plan = plan_compile(d->mapping, d->schema, err);
    return d->plan || !c->sync.columns[0] ? d->plan != NULL
                                          : config_fault(c, "sync.columns", err, "%s", err->text);
}

static bool document_sample(struct document *d, const struct config *c, struct err *err)
{
    struct err why = {0};

    return !c->sync.sample || sample_parse(slice_str(c->sync.sample), &d->sample, &why) ||
           config_fault(c, "sync.sample", err, "%s", why.text);
}

bool document_open(struct document *d, const struct config *c, struct cql_cluster *cluster,
                   const char *index, struct err *err)
{
    const char *const *file = c->mapping.files;

    if (!*file)
        return document_default(d, c, cluster, index, err) && document_sample(d, c, err);
    if (file[1])
        return config_fault(c, "mapping.files", err, "takes one mapping here");
    if (c->cassandra.table)
        return config_fault(c, "mapping.files", err,
                            "names the table itself; leave out KEYSPACE.TABLE");
    if (c->sync.index)
        return config_fault(c, "sync.index", err,
                            "has no meaning with --mapping, which names the index");
    if (c->sync.columns[0])
        return config_fault(c, "sync.columns", err,
                            "has no meaning with --mapping, which has source.columns");
    return document_load(d, c, *file, err) && document_compile(d, c, cluster, err) &&
           document_sample(d, c, err);
}

bool document_type_is_ignored(const struct document *d, const struct elastic_version *v)
{
    const char *type = plan_type(d->plan);
    bool has_types = v->known && !v->opensearch && v->major < 7;

    return type && strcmp(type, "_doc") != 0 && !has_types;
}

void document_warn_type(const struct document *d, const struct elastic_version *v)
{
    if (document_type_is_ignored(d, v))
        LOG(LOG_WARN, "type_ignored", F_STR("mapping", d->mapping->path),
            F_STR("type", plan_type(d->plan)), F_STR("server", v->text),
            F_STR("why", "types are of Elasticsearch 6; later ones have none"));
}

const char *document_index_fault(const char *name)
{
    for (const char *c = name; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            return "the name of an index may not have upper-case letters (Elasticsearch's rule)";
    return NULL;
}

bool document_no_index(const struct document *d, struct err *err)
{
    const char *name = plan_index(d->plan);
    const char *fault = document_index_fault(name);

    if (fault)
        return err_set(err, ERR_USER, "there is no index %s, and there can be none: %s", name,
                       fault);
    return err_set(err, ERR_USER,
                   "there is no index %s; to make one that fits the table: cass2es init %s.%s "
                   "--index %s --create",
                   name, d->schema->keyspace, d->schema->table, name);
}

void document_fini(struct document *d)
{
    if (d->where)
        where_free(d->where);
    plan_free(d->plan);
    for (size_t i = 0; i < d->other_count; i++)
        schema_free(d->others[i]);
    free(d->others);
    if (d->schema)
        schema_free(d->schema);
    mapping_free(d->mapping);
    *d = (struct document){0};
}
