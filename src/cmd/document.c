#include "cmd/document.h"

#include <string.h>

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
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

bool document_compile(struct document *d, const struct config *c, struct cql_cluster *cluster,
                      struct err *err)
{
    AUTO_STR char *keyspace = find_keyspace(c, cluster, d->mapping, err);

    if (!keyspace)
        return false;
    d->schema = cql_schema_load(cluster, keyspace, d->mapping->table.name, err);
    if (!d->schema)
        return err_wrap(err, "%s", d->mapping->path);
    d->plan = plan_compile(d->mapping, d->schema, err);
    return d->plan != NULL;
}

void document_fini(struct document *d)
{
    plan_free(d->plan);
    if (d->schema)
        schema_free(d->schema);
    mapping_free(d->mapping);
    *d = (struct document){0};
}
