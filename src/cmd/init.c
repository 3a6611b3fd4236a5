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

#include "base/json.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "mapping/define.h"
#include "mapping/definition.h"

enum { TEXT_MAX_BYTES = 16 << 20, NEXT_WORDS = 12 };

struct init {
    const struct config *config;
    struct context *ctx;
    struct cql_cluster *cluster;
    struct schema *schema;
    struct elastic *elastic;
    struct define_server server;
    struct mapping *mapping; /* TABLE.yaml that was there; NULL: none */
    char *table;             /* KEYSPACE.TABLE */
    char *index;
    char *mapping_path;
    char *index_path;
    /* What was done, and what to do next: borrowed. */
    const char *written[2];
    size_t written_count;
    const char *alias; /* NULL: none */
    bool created;
    const char *next[NEXT_WORDS];
    size_t next_count;
};

static void init_fini(struct init *i)
{
    elastic_free(i->elastic);
    if (i->schema)
        schema_free(i->schema);
    if (i->cluster)
        cql_cluster_free(i->cluster);
    mapping_free(i->mapping);
    free(i->table);
    free(i->index);
    free(i->mapping_path);
    free(i->index_path);
}

/* ---- what is said ------------------------------------------------------------------------------
 */

static void say_written(struct init *i, const char *path, const char *what)
{
    i->written[i->written_count++] = path;
    if (!i->config->output.json)
        printf("wrote %s: %s\n", path, what);
}

static void say_created(struct init *i, const char *from)
{
    i->created = true;
    if (!i->config->output.json)
        printf("created index %s%s%s, of %s\n", i->index, i->alias ? " with alias " : "",
               i->alias ? i->alias : "", from);
}

static void add_next(struct init *i, const char *word)
{
    ensure(i->next_count < NEXT_WORDS);
    i->next[i->next_count++] = word;
}

static void next_is_create(struct init *i, const char *option, const char *what, bool index)
{
    add_next(i, "cass2es");
    add_next(i, "init");
    if (option)
        add_next(i, option);
    add_next(i, what);
    if (strcmp(i->config->init.out, ".") != 0) {
        add_next(i, "--out");
        add_next(i, i->config->init.out);
    }
    if (index) {
        add_next(i, "--index");
        add_next(i, i->index);
    }
    add_next(i, "--create");
}

static void next_is_sync(struct init *i, const char *mapping)
{
    add_next(i, "cass2es");
    add_next(i, "sync");
    add_next(i, "--mapping");
    add_next(i, mapping);
}

static void print_next(const struct init *i)
{
    printf(i->created ? "next:" : i->written_count > 1 ? "next: edit them;" : "next: edit it;");
    for (size_t n = 0; n < i->next_count; n++)
        printf(" %s", i->next[n]);
    printf(i->created ? "\n" : " makes the index\n");
}

static void add_list(struct buf *b, const char *const *list, size_t count)
{
    buf_add_byte(b, '[');
    for (size_t n = 0; n < count; n++) {
        if (n)
            buf_add_byte(b, ',');
        json_add_string(b, slice_str(list[n]));
    }
    buf_add_byte(b, ']');
}

static void print_json(const struct init *i)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    buf_add_str(&b, "{\"index\":");
    json_add_string(&b, slice_str(i->index));
    buf_add_str(&b, ",\"written\":");
    add_list(&b, i->written, i->written_count);
    buf_printf(&b, ",\"created\":%s,\"alias\":", i->created ? "true" : "false");
    if (i->alias)
        json_add_string(&b, slice_str(i->alias));
    else
        buf_add_str(&b, "null");
    buf_add_str(&b, ",\"next\":");
    add_list(&b, i->next, i->next_count);
    printf("%s}\n", buf_cstr(&b));
    buf_fini(&b);
}

/* ---- files and server --------------------------------------------------------------------------
 */

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

/* Neither of them is written while one of them is there. */
static bool check_free(const char *path, struct err *err)
{
    return !exists(path) ||
           err_set(err, ERR_USER,
                   "%s: File exists; it may have been edited: move it away, or give another "
                   "folder with --out",
                   path);
}

/* Under --create files that are there are used as they are. */
static bool write_both(struct init *i, struct err *err)
{
    bool keep = i->config->init.create;
    struct buf text;
    bool ok = keep || (check_free(i->mapping_path, err) && check_free(i->index_path, err));

    buf_init(&text, TEXT_MAX_BYTES);
    if (ok && !exists(i->mapping_path)) {
        define_mapping(i->schema, i->index, &text);
        ok = write_file(i->mapping_path, buf_slice(&text), err);
        if (ok)
            say_written(i, i->mapping_path, "what a document is made of");
    }
    buf_reset(&text);
    if (ok && !exists(i->index_path)) {
        /* Elasticsearch 6 puts its type around the fields by itself. */
        define_index(i->schema, &i->server, NULL, &text);
        ok = write_file(i->index_path, buf_slice(&text), err);
        if (ok)
            say_written(i, i->index_path, "settings and fields of the index");
    }
    buf_fini(&text);
    return ok;
}

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

/* The definition in a file, with the mapping's versioning, so that no run uses another. */
static bool create_index(struct init *i, const struct mapping *m, const char *from, struct err *err)
{
    struct definition_wish wish = {
        .versioning = mapping_versioning_word(m->versioning),
        .alias = i->alias,
    };
    struct arena mem;
    struct buf text;
    struct buf out;

    if (!look_free(i, i->index, err) || (i->alias && !look_free(i, i->alias, err)))
        return false;
    arena_init(&mem, TEXT_MAX_BYTES);
    buf_init(&text, TEXT_MAX_BYTES);
    buf_init(&out, TEXT_MAX_BYTES);
    bool ok = read_file(from, &text, err);
    if (ok)
        ok = (definition_write(buf_slice(&text), &wish, &mem, &out, err) &&
              elastic_index_create(i->elastic, i->index, buf_slice(&out), err)) ||
             err_wrap(err, "%s", from);
    buf_fini(&out);
    buf_fini(&text);
    arena_fini(&mem);
    if (ok)
        say_created(i, from);
    return ok;
}

/* Of --index, else of the mapping that is there, else the table's name. */
static bool choose_index(struct init *i, const char *otherwise, struct err *err)
{
    const char *given = i->config->sync.index;
    const char *fault;

    i->index = xstrdup(given ? given : otherwise);
    fault = document_index_fault(i->index);
    return !fault ||
           err_set(err, ERR_USER, "%s: %s; give another one with --index", i->index, fault);
}

/* The next command would write into the index of the mapping that is kept. */
static bool check_mapping_beside(struct init *i, struct err *err)
{
    const char *given = i->config->sync.index;

    if (!exists(i->mapping_path))
        return true;
    i->mapping = mapping_load(i->mapping_path, err);
    if (!i->mapping)
        return false;
    return !given || !strcmp(given, i->mapping->index.name) ||
           config_fault(i->config, "sync.index", err,
                        "%s is for the index %s: leave --index out, change target.index there, or "
                        "give another folder with --out",
                        i->mapping_path, i->mapping->index.name);
}

static char *lower_case(const char *text)
{
    char *out = xstrdup(text);

    for (char *c = out; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return out;
}

static bool init_table(struct init *i, struct err *err)
{
    const char *dir = i->config->init.out;

    i->cluster = connect_cassandra(i->config, i->ctx, err);
    i->schema = i->cluster ? connect_table(i->config, i->cluster, err) : NULL;
    if (!i->schema || !find_server(i, err))
        return false;
    i->table = xsprintf("%s.%s", i->schema->keyspace, i->schema->table);
    i->mapping_path = xsprintf("%s/%s.yaml", dir, i->schema->table);
    i->index_path = xsprintf("%s/%s.index.json", dir, i->schema->table);
    AUTO_STR char *of_table = lower_case(i->schema->table);
    if (!check_mapping_beside(i, err) ||
        !choose_index(i, i->mapping ? i->mapping->index.name : of_table, err) ||
        !write_both(i, err))
        return false;
    if (!i->config->init.create) {
        next_is_create(i, NULL, i->table, false);
        return true;
    }
    if (!i->mapping)
        i->mapping = mapping_load(i->mapping_path, err);
    if (!i->mapping || !create_index(i, i->mapping, i->index_path, err))
        return false;
    next_is_sync(i, i->mapping_path);
    return true;
}

/* ---- by a mapping that brings a definition -----------------------------------------------------
 */

static bool create_defined(struct init *i, const struct mapping *m, struct err *err)
{
    bool own = exists(i->index_path); /* edited: it goes before the one of the mapping */

    if (i->server.major == 6 && m->type.name && strcmp(m->type.name, "_doc") != 0)
        return mapping_error(m, m->type.at, err,
                             "an index with another type than _doc must be made by hand");
    return create_index(i, m, own ? i->index_path : m->definition.name, err);
}

static bool copy_definition(struct init *i, const struct mapping *m, struct err *err)
{
    struct buf text;

    buf_init(&text, TEXT_MAX_BYTES);
    bool ok = read_file(m->definition.name, &text, err) &&
              write_file(i->index_path, buf_slice(&text), err);
    buf_fini(&text);
    if (ok)
        say_written(i, i->index_path, "settings and fields of the index");
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
    if (!definition_index(m->definition.name, mem, &name, err) || !choose_index(i, name, err) ||
        !find_server(i, err))
        return false;
    i->alias = strcmp(i->index, m->index.name) != 0 ? m->index.name : NULL;
    i->index_path = xsprintf("%s/%s.index.json", c->init.out, name);
    if (!(c->init.create ? create_defined(i, m, err) : copy_definition(i, m, err)))
        return false;
    if (c->init.create)
        next_is_sync(i, c->mapping.files[0]);
    else
        next_is_create(i, "--mapping", c->mapping.files[0], c->sync.index != NULL);
    return true;
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
    bool ok = document_load(&d, c, c->mapping.files[0], err);
    i->mapping = TAKE(d.mapping);
    ok = ok && init_defined(i, i->mapping, &mem, err);
    arena_fini(&mem);
    document_fini(&d);
    return ok;
}

static bool init_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    struct init i = {.config = config, .ctx = ctx};

    (void)exit_code;
    bool ok = config->mapping.files[0] ? init_mapping(&i, err) : init_table(&i, err);
    if (config->output.json && i.index &&
        (ok || i.written_count)) /* files may be there without the index */
        print_json(&i);
    else if (ok)
        print_next(&i);
    init_fini(&i);
    return ok;
}

const struct command command_init = {
    .name = "init",
    .summary = "Write a mapping file and an index definition, make an index",
    .usage = "KEYSPACE.TABLE|--mapping FILE|PROFILE [--index NAME] [--create] [OPTION]...",
    .details =
        "Reads the live schema and writes TABLE.yaml (what a document is made of; the same "
        "as is used without a file) and TABLE.index.json (settings and fields of the "
        "index), for editing. Nothing that is there is written over. Without --index the index "
        "is the one that a TABLE.yaml that is there names, else it is called as the table, "
        "in lower case. With --create the index is made of TABLE.index.json, edited or just "
        "written, with the versioning that TABLE.yaml says. With --mapping the definition "
        "that comes with it is written for editing, or the index made of it; where the "
        "mapping names an alias, that is made, too.\n\n"
        "With --json, one object: index, written (paths), created (the index was made), "
        "alias (null: none), and next, the words of the command to go on with.",
    .id = FOR_INIT,
    .takes_table = true,
    .signals = true,
    .run = init_run,
};
