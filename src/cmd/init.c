/*
 * cmd/init.c - cass2es init: a mapping file and an index definition for a live table, or the
 * definition that comes with a mapping; on request the index itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/command.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "mapping/define.h"
#include "mapping/definition.h"

enum { TEXT_MAX_BYTES = 16 << 20 };

struct init {
    const struct config *config;
    struct context *ctx;
    struct cql_cluster *cluster;
    struct schema *schema;
    struct elastic *elastic;
    struct define_server server;
    const char *index;
    char *mapping_path;
    char *index_path;
};

static void init_fini(struct init *i)
{
    elastic_free(i->elastic);
    if (i->schema)
        schema_free(i->schema);
    if (i->cluster)
        cql_cluster_free(i->cluster);
    free(i->mapping_path);
    free(i->index_path);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Never over what is there: it may have been edited. */
static bool write_file(const char *path, struct slice text, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0)
        return err_set(err, errno == EEXIST ? ERR_USER : ERR_SYSTEM, "%s: %s%s", path,
                       strerror(errno),
                       errno == EEXIST ? "; it may have been edited: move it away, or give another "
                                         "folder with --out"
                                       : "");
    bool ok = write(fd, text.p, text.n) == (ssize_t)text.n;
    if (close(fd) < 0 || !ok)
        return err_set(err, ERR_SYSTEM, "%s: %s", path, strerror(errno));
    return true;
}

static bool read_file(const char *path, struct buf *out, struct err *err)
{
    FILE *f = fopen(path, "re");

    if (!f)
        return err_set(err, ERR_USER, "%s: %s", path, strerror(errno));
    while (!feof(f) && !ferror(f) && !out->full) {
        uint8_t *to = buf_room(out, 64 << 10);
        out->len += to ? fread(to, 1, 64 << 10, f) : 0;
    }
    bool ok = !ferror(f) && !out->full;
    fclose(f);
    return ok || err_set(err, ERR_USER, "%s: can't be read whole", path);
}

static bool find_server(struct init *i, struct err *err)
{
    struct elastic_options o;
    struct elastic_version v;

    /* Newest form, unless the server says otherwise. */
    i->server = (struct define_server){.major = 8};
    if (!i->config->elastic.urls[0])
        return !i->config->init.create || config_need(i->config, "elastic.url", err);
    connect_elastic(i->config, i->ctx, &o);
    i->elastic = elastic_new(&o, err);
    if (!i->elastic || !elastic_identify(i->elastic, &v, err))
        return false;
    i->server = (struct define_server){.major = v.known ? v.major : 8, .opensearch = v.opensearch};
    return true;
}

/* Under --create files that are there are used as they are. */
static bool write_both(struct init *i, struct err *err)
{
    bool keep = i->config->init.create;
    struct buf text;
    bool ok = true;

    buf_init(&text, TEXT_MAX_BYTES);
    if (!keep || !exists(i->mapping_path)) {
        define_mapping(i->schema, i->index, &text);
        ok = write_file(i->mapping_path, buf_slice(&text), err);
        if (ok)
            printf("wrote %s: what a document is made of\n", i->mapping_path);
    }
    buf_reset(&text);
    if (ok && (!keep || !exists(i->index_path))) {
        /* Elasticsearch 6 puts its type around the fields by itself. */
        define_index(i->schema, "read_time", &i->server, NULL, &text);
        ok = write_file(i->index_path, buf_slice(&text), err);
        if (ok)
            printf("wrote %s: settings and fields of the index\n", i->index_path);
    }
    buf_fini(&text);
    return ok;
}

static bool create_index(struct init *i, struct err *err)
{
    struct elastic_index there;
    struct buf text;
    bool found;

    if (!elastic_index_look(i->elastic, i->index, &there, &found, err))
        return false;
    if (found)
        return err_set(err, ERR_USER, "the index %s is there already; it was left as it is",
                       i->index);
    buf_init(&text, TEXT_MAX_BYTES);
    bool ok = read_file(i->index_path, &text, err) &&
              (elastic_index_create(i->elastic, i->index, buf_slice(&text), err) ||
               err_wrap(err, "%s", i->index_path));
    buf_fini(&text);
    if (ok)
        printf("created index %s\n", i->index);
    return ok;
}

static bool init_all(struct init *i, struct err *err)
{
    const char *dir = i->config->init.out;

    i->cluster = connect_cassandra(i->config, i->ctx, err);
    i->schema = i->cluster ? connect_table(i->config, i->cluster, err) : NULL;
    if (!i->schema || !find_server(i, err))
        return false;
    i->index = i->config->sync.index ? i->config->sync.index : i->schema->table;
    i->mapping_path = xsprintf("%s/%s.yaml", dir, i->schema->table);
    i->index_path = xsprintf("%s/%s.index.json", dir, i->schema->table);
    if (!write_both(i, err) || (i->config->init.create && !create_index(i, err)))
        return false;
    printf("next: %scass2es sync --mapping %s\n",
           i->config->init.create ? "" : "edit them; cass2es init --create makes the index; ",
           i->mapping_path);
    return true;
}

/* ---- by a mapping that brings a definition -----------------------------------------------------
 */

static bool look_free(struct init *i, const char *name, struct err *err)
{
    struct elastic_index there;
    bool found;

    if (!elastic_index_look(i->elastic, name, &there, &found, err))
        return false;
    if (!found)
        return true;
    return err_set(err, ERR_USER, "%s is there already%s%s; it was left as it is", name,
                   there.is_alias ? ", an alias of " : "", there.is_alias ? there.name : "");
}

static bool create_defined(struct init *i, const struct mapping *m, struct arena *mem,
                           struct err *err)
{
    bool own = exists(i->index_path); /* edited: it goes before the one of the mapping */
    const char *from = own ? i->index_path : m->definition.name;
    struct definition_wish wish = {
        .versioning = mapping_versioning_word(m->versioning),
        .alias = strcmp(i->index, m->index.name) != 0 ? m->index.name : NULL,
    };
    struct buf text;
    struct buf out;

    if (i->server.major == 6 && m->type.name && strcmp(m->type.name, "_doc") != 0)
        return mapping_error(m, m->type.at, err,
                             "an index with another type than _doc must be made by hand");
    if (!look_free(i, i->index, err) || (wish.alias && !look_free(i, wish.alias, err)))
        return false;
    buf_init(&text, TEXT_MAX_BYTES);
    buf_init(&out, TEXT_MAX_BYTES);
    bool ok = read_file(from, &text, err);
    if (ok)
        ok = (definition_write(buf_slice(&text), &wish, mem, &out, err) &&
              elastic_index_create(i->elastic, i->index, buf_slice(&out), err)) ||
             err_wrap(err, "%s", from);
    buf_fini(&out);
    buf_fini(&text);
    if (ok)
        printf("created index %s%s%s, of %s\n", i->index, wish.alias ? " with alias " : "",
               wish.alias ? wish.alias : "", from);
    return ok;
}

static bool copy_definition(const struct init *i, const struct mapping *m, struct err *err)
{
    struct buf text;

    buf_init(&text, TEXT_MAX_BYTES);
    bool ok = read_file(m->definition.name, &text, err) &&
              write_file(i->index_path, buf_slice(&text), err);
    buf_fini(&text);
    if (ok)
        printf("wrote %s: settings and fields of the index\n"
               "next: edit it; cass2es init --create with the same --mapping makes the index\n",
               i->index_path);
    return ok;
}

static bool init_defined(struct init *i, const struct mapping *m, struct arena *mem,
                         struct err *err)
{
    const struct config *c = i->config;
    const char *name;

    if (!m->definition.name)
        return mapping_error(m, m->index.at, err,
                             "the mapping names no definition of its index (target.definition); "
                             "init KEYSPACE.TABLE writes one from the live schema");
    if (!definition_index(m->definition.name, mem, &name, err) || !find_server(i, err))
        return false;
    i->index = c->sync.index ? c->sync.index : name;
    i->index_path = xsprintf("%s/%s.index.json", c->init.out, name);
    if (!c->init.create)
        return copy_definition(i, m, err);
    return create_defined(i, m, mem, err);
}

static bool init_mapping(struct init *i, struct err *err)
{
    const struct config *c = i->config;
    struct document d = {0};
    struct arena mem;

    if (c->mapping.files[1])
        return config_fault(c, "mapping.files", err, "takes one mapping here");
    if (c->cassandra.table)
        return config_fault(c, "mapping.files", err,
                            "names the table itself; leave out KEYSPACE.TABLE");
    arena_init(&mem, TEXT_MAX_BYTES);
    bool ok =
        document_load(&d, c, c->mapping.files[0], err) && init_defined(i, d.mapping, &mem, err);
    arena_fini(&mem);
    document_fini(&d);
    return ok;
}

static bool init_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    struct init i = {.config = config, .ctx = ctx};

    (void)exit_code;
    bool ok = config->mapping.files[0] ? init_mapping(&i, err) : init_all(&i, err);
    init_fini(&i);
    return ok;
}

const struct command command_init = {
    .name = "init",
    .summary = "Write a mapping file and an index definition, make an index",
    .usage = "KEYSPACE.TABLE|--mapping FILE|PROFILE [--index NAME] [--create] [OPTION]...",
    .details = "Reads the live schema and writes TABLE.yaml (what a document is made of; the same "
               "as is used without a file) and TABLE.index.json (settings and fields of the "
               "index), for editing. Nothing that is there is written over. With --create the "
               "index is made of TABLE.index.json, edited or just written. With --mapping the "
               "definition that comes with it is written for editing, or the index made of it; "
               "where the mapping names an alias, that is made, too.",
    .id = FOR_INIT,
    .takes_table = true,
    .signals = true,
    .run = init_run,
};
