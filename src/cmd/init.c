/*
 * cmd/init.c - cass2es init: a mapping file and an index definition for a live table; on request
 * the index itself.
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
#include "mapping/define.h"

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
    for (;;) {
        uint8_t *to = buf_room(out, 64 << 10);
        size_t n = to ? fread(to, 1, 64 << 10, f) : 0;
        if (!n)
            break;
        out->len += n;
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
        define_index(i->schema, "read_time", &i->server,
                     i->server.major == 6 && !i->server.opensearch ? "_doc" : NULL, &text);
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

static bool init_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    struct init i = {.config = config, .ctx = ctx};

    (void)exit_code;
    bool ok = init_all(&i, err);
    init_fini(&i);
    return ok;
}

const struct command command_init = {
    .name = "init",
    .summary = "Write a mapping file and an index definition for a table",
    .usage = "KEYSPACE.TABLE [--index NAME] [--create] [OPTION]...",
    .details = "Reads the live schema and writes TABLE.yaml (what a document is made of; the same "
               "as is used without a file) and TABLE.index.json (settings and fields of the "
               "index), for editing. Nothing that is there is written over. With --create the "
               "index is made of TABLE.index.json, edited or just written.",
    .id = FOR_INIT,
    .takes_table = true,
    .signals = true,
    .run = init_run,
};
