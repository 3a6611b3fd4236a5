/* What tables there are, what they are made of, and how a scan of one is cut. */
#include <stdlib.h>

#include "base/text.h"
#include "cql/cluster.h"
#include "cql/query.h"
#include "cql/token.h"
#include "cql/type.h"

enum {
    TRIES = 3, /* connections, for one question */
    NAMES_MAX = 4096,
    UDT_DEPTH_MAX = 32,
    SCHEMA_BYTES_MAX = 16 << 20,
};

/* ---- names ------------------------------------------------------------------------------------
 */

static void names_add(struct cql_names *n, const char *name)
{
    n->names = xrealloc(n->names, (n->count + 2) * sizeof *n->names);
    n->names[n->count++] = xstrdup(name);
    n->names[n->count] = NULL;
}

void cql_names_fini(struct cql_names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->names[i]);
    free(n->names);
    *n = (struct cql_names){0};
}

static bool is_system(const char *keyspace)
{
    static const char *const more[] = {"dse_system", "dse_security", "dse_system_local",
                                       "dse_leases", "solr_admin",   "dsefs",
                                       "dse_perf",   "OpsCenter",    NULL};

    if (strcmp(keyspace, "system") == 0 || strncmp(keyspace, "system_", 7) == 0)
        return true;
    for (size_t i = 0; more[i]; i++)
        if (strcmp(keyspace, more[i]) == 0)
            return true;
    return false;
}

static bool refresh(struct cql_cluster *c, struct err *err)
{
    for (int i = 0; i < TRIES; i++) {
        struct node *node;
        struct conn *conn = cluster_borrow(c, &node, err);
        if (!conn)
            return false;
        bool ok = cluster_refresh(c, conn, node, err);
        cluster_give_back(c, conn, node);
        if (ok || err->kind != ERR_RETRY)
            return ok;
    }
    return false;
}

static void find_table(struct cql_cluster *c, const char *table, struct cql_names *out)
{
    AUTO(topology) struct topology *t = cluster_topology(c);

    *out = (struct cql_names){.names = xalloc(sizeof(char *))};
    for (size_t i = 0; i < t->table_count; i++)
        if (strcmp(t->tables[i].table, table) == 0 && !is_system(t->tables[i].keyspace))
            names_add(out, t->tables[i].keyspace);
}

static void list_tables(struct cql_cluster *c, const char *keyspace, struct cql_names *out)
{
    AUTO(topology) struct topology *t = cluster_topology(c);

    *out = (struct cql_names){.names = xalloc(sizeof(char *))};
    for (size_t i = 0; i < t->table_count; i++)
        if (strcmp(t->tables[i].keyspace, keyspace) == 0)
            names_add(out, t->tables[i].table);
}

/* What is not known may just be new. */
bool cql_find_table(struct cql_cluster *c, const char *table, struct cql_names *out,
                    struct err *err)
{
    find_table(c, table, out);
    if (out->count)
        return true;
    cql_names_fini(out);
    if (!refresh(c, err))
        return false;
    find_table(c, table, out);
    return true;
}

bool cql_list_tables(struct cql_cluster *c, const char *keyspace, struct cql_names *out,
                     struct err *err)
{
    list_tables(c, keyspace, out);
    if (out->count)
        return true;
    cql_names_fini(out);
    if (!refresh(c, err))
        return false;
    list_tables(c, keyspace, out);
    return true;
}

static bool no_keyspace(struct cql_cluster *c, const char *keyspace, struct err *err)
{
    AUTO(topology) struct topology *t = cluster_topology(c);
    const char *names[NAMES_MAX + 1];
    size_t n = 0;

    for (size_t i = 0; i < t->keyspaces.len && n < NAMES_MAX; i++)
        names[n++] = (const char *)t->keyspaces.entries[i].key.p;
    names[n] = NULL;
    const char *near = text_nearest(slice_str(keyspace), names);
    if (near)
        return err_set(err, ERR_USER, "there is no keyspace '%s'; did you mean '%s'?", keyspace,
                       near);
    return err_set(err, ERR_USER, "there is no keyspace '%s'", keyspace);
}

static bool no_table(struct cql_cluster *c, const char *keyspace, const char *table,
                     struct err *err)
{
    struct cql_names here;
    struct cql_names elsewhere;

    if (!refresh(c, err))
        return false;
    {
        AUTO(topology) struct topology *t = cluster_topology(c);
        if (!topology_has_keyspace(t, keyspace))
            return no_keyspace(c, keyspace, err);
    }
    list_tables(c, keyspace, &here);
    find_table(c, table, &elsewhere);
    const char *near = text_nearest(slice_str(table), (const char *const *)here.names);
    if (near)
        err_set(err, ERR_USER, "there is no table '%s' in keyspace '%s'; did you mean '%s'?", table,
                keyspace, near);
    else if (elsewhere.count)
        err_set(err, ERR_USER, "there is no table '%s' in keyspace '%s'; keyspace '%s' has one",
                table, keyspace, elsewhere.names[0]);
    else
        err_set(err, ERR_USER, "there is no table '%s' in keyspace '%s'", table, keyspace);
    cql_names_fini(&here);
    cql_names_fini(&elsewhere);
    return false;
}

/* ---- a table's schema -------------------------------------------------------------------------
 */

enum { Q_COLUMNS, Q_TYPES, Q_TABLE, Q_ESTIMATES };

static const char columns_text[] =
    "SELECT column_name, clustering_order, kind, position, type FROM system_schema.columns "
    "WHERE keyspace_name = ? AND table_name = ?";
static const char types_text[] =
    "SELECT type_name, field_names, field_types FROM system_schema.types WHERE keyspace_name = ?";
static const char table_text[] =
    "SELECT flags FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
static const char estimates_text[] =
    "SELECT range_start, range_end, mean_partition_size, partitions_count FROM "
    "system.size_estimates WHERE keyspace_name = ? AND table_name = ?";

/* The keyspace's user-defined types, parsed when something refers to them. */
struct udt {
    struct slice names; /* list<text> cells */
    struct slice types;
    const struct type *type;
    bool open; /* being parsed: a type can't contain itself */
};

struct udts {
    struct map by_name;
    struct arena *mem;
    struct err *err;
    int depth;
};

static bool next_text(struct slice *list, struct slice *out)
{
    uint32_t n;

    return take_u32(list, &n) && slice_take(list, n, out);
}

static struct slice keep(struct arena *mem, struct slice s)
{
    char *p = arena_strndup(mem, s.p ? (const char *)s.p : "", s.n);

    return p ? slice_of(p, s.n) : SLICE_NULL;
}

static const struct type *udt_find(void *ctx, struct slice name)
{
    struct udts *all = ctx;
    struct map_entry *e = map_get(&all->by_name, name);
    struct udt *u = e ? e->value : NULL;
    const struct type_lookup lookup = {udt_find, all};
    uint32_t count;
    uint32_t type_count;

    if (!u || u->type)
        return u ? u->type : NULL;
    struct slice names = u->names;
    struct slice types = u->types;
    if (u->open || all->depth >= UDT_DEPTH_MAX || !take_u32(&names, &count) ||
        !take_u32(&types, &type_count) || count != type_count || count > UINT16_MAX)
        return NULL;
    struct type *t = arena_zalloc(all->mem, sizeof *t);
    const struct type **args = arena_zalloc(all->mem, (count + 1) * sizeof(void *));
    struct slice *fields = arena_zalloc(all->mem, (count + 1) * sizeof *fields);
    if (!t || !args || !fields)
        return NULL;
    u->open = true;
    all->depth++;
    for (uint32_t i = 0; i < count; i++) {
        struct slice field;
        struct slice text;
        if (!next_text(&names, &field) || !next_text(&types, &text) ||
            !type_parse_cql(text, &lookup, all->mem, &args[i], all->err))
            return NULL;
        fields[i] = keep(all->mem, field);
    }
    all->depth--;
    u->open = false;
    *t = (struct type){.kind = TYPE_UDT,
                       .arg_count = (uint16_t)count,
                       .args = args,
                       .field_names = fields,
                       .name = keep(all->mem, name)};
    return u->type = t;
}

static bool udts_read(struct udts *all, struct queries *q, struct err *err)
{
    struct rows rows;

    if (!queries_rows(q, Q_TYPES, &rows, err))
        return false;
    while (rows_next(&rows, err)) {
        struct udt *u = arena_zalloc(all->mem, sizeof *u);
        if (!u)
            return err_set(err, ERR_SYSTEM, "the keyspace has too many types");
        u->names = rows_cell(&rows, "field_names");
        u->types = rows_cell(&rows, "field_types");
        map_put(&all->by_name, rows_cell(&rows, "type_name"), NULL)->value = u;
    }
    return err->kind == ERR_NONE;
}

static enum column_kind kind_of(struct slice text)
{
    if (slice_is(text, "partition_key"))
        return COLUMN_PARTITION_KEY;
    if (slice_is(text, "clustering"))
        return COLUMN_CLUSTERING;
    return slice_is(text, "static") ? COLUMN_STATIC : COLUMN_REGULAR;
}

static int column_order(const void *pa, const void *pb)
{
    const struct schema_column *a = pa;
    const struct schema_column *b = pb;

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->position != b->position)
        return a->position < b->position ? -1 : 1;
    return strcmp(a->name, b->name);
}

static bool columns_read(struct schema *s, struct udts *udts, struct queries *q, struct err *err)
{
    const struct type_lookup lookup = {udt_find, udts};
    struct rows rows;

    if (!queries_rows(q, Q_COLUMNS, &rows, err))
        return false;
    if (rows.page.row_count > UINT16_MAX)
        return err_set(err, ERR_USER, "more than 65535 columns");
    s->columns = arena_zalloc(&s->mem, (rows.page.row_count + 1) * sizeof *s->columns);
    while (s->columns && rows_next(&rows, err)) {
        struct schema_column *col = &s->columns[s->column_count];
        struct slice type = rows_cell(&rows, "type");
        struct slice position = rows_cell(&rows, "position");
        if (slice_is(type, "empty"))
            continue; /* of a compact table: never holds anything */
        col->name = (const char *)keep(&s->mem, rows_cell(&rows, "column_name")).p;
        col->type_text = (const char *)keep(&s->mem, type).p;
        col->kind = kind_of(rows_cell(&rows, "kind"));
        col->position = position.n == 4 ? (int)load_u32(position.p) : -1;
        if (col->kind != COLUMN_PARTITION_KEY && col->kind != COLUMN_CLUSTERING)
            col->position = -1;
        col->descending = slice_is(rows_cell(&rows, "clustering_order"), "desc") ||
                          slice_is(rows_cell(&rows, "clustering_order"), "DESC");
        if (!col->name || !col->type_text)
            return err_set(err, ERR_SYSTEM, "the table has too many columns");
        /* Parsed from our copy: a type's names may point into its text. */
        if (!type_parse_cql(slice_str(col->type_text), &lookup, &s->mem, &col->type, err))
            return err_wrap(err, "column %s", col->name);
        if (col->kind == COLUMN_PARTITION_KEY)
            s->partition_key_count++;
        if (col->kind == COLUMN_CLUSTERING)
            s->clustering_count++;
        s->column_count++;
    }
    if (!s->columns)
        return err_set(err, ERR_SYSTEM, "the table has too many columns");
    if (err->kind == ERR_NONE)
        qsort(s->columns, s->column_count, sizeof *s->columns, column_order);
    return err->kind == ERR_NONE;
}

/* A table of Thrift's, without clustering: the columns that CQL knows are stored as static ones,
 * beside a name and a value that it doesn't show. */
static void show_static_compact(struct schema *s)
{
    uint16_t n = 0;

    for (uint16_t i = 0; i < s->column_count; i++) {
        struct schema_column col = s->columns[i];
        if (col.kind == COLUMN_CLUSTERING || col.kind == COLUMN_REGULAR)
            continue;
        if (col.kind == COLUMN_STATIC)
            col.kind = COLUMN_REGULAR;
        s->columns[n++] = col;
    }
    s->column_count = n;
    s->clustering_count = 0;
}

static void flags_read(struct schema *s, struct queries *q)
{
    struct rows rows;
    struct err ignored;
    uint32_t count = 0;
    bool clustered = false;

    /* A view has no row here, and no flags that matter. */
    if (!queries_rows(q, Q_TABLE, &rows, &ignored) || !rows_next(&rows, &ignored))
        return;
    struct slice set = rows_cell(&rows, "flags");
    struct slice flag;
    bool told = take_u32(&set, &count);
    while (count-- && next_text(&set, &flag)) {
        s->counter = s->counter || slice_is(flag, "counter");
        clustered = clustered || slice_is(flag, "compound") || slice_is(flag, "dense") ||
                    slice_is(flag, "super");
    }
    if (told && !clustered)
        show_static_compact(s);
}

/* False only when there is no such table in system.size_estimates to read (Keyspaces, some Astra).
 */
static void estimates_read(struct queries *q, int number, struct estimates *out)
{
    struct rows rows;
    struct err ignored;

    *out = (struct estimates){0};
    if (!queries_rows(q, number, &rows, &ignored))
        return;
    out->list = xalloc((rows.page.row_count + 1) * sizeof *out->list);
    while (out->count < rows.page.row_count && rows_next(&rows, &ignored)) {
        struct ring_estimate *e = &out->list[out->count];
        struct slice mean = rows_cell(&rows, "mean_partition_size");
        struct slice partitions = rows_cell(&rows, "partitions_count");
        if (token_parse(rows_cell(&rows, "range_start"), &e->start) &&
            token_parse(rows_cell(&rows, "range_end"), &e->end) && mean.n == 8 &&
            partitions.n == 8) {
            e->mean_partition_bytes = (int64_t)load_u64(mean.p);
            e->partitions = (int64_t)load_u64(partitions.p);
            out->count++;
        }
    }
}

static struct schema *schema_ask(struct cql_cluster *c, struct conn *conn, const char *keyspace,
                                 const char *table, struct err *err)
{
    const struct slice both[2] = {slice_str(keyspace), slice_str(table)};
    struct queries q;
    struct udts udts = {.err = err};
    AUTO(schema) struct schema *s = schema_new();
    bool ok;

    udts.mem = &s->mem;
    map_init(&udts.by_name);
    queries_init(&q, conn);
    ok = queries_add(&q, columns_text, both, 2, err) && queries_add(&q, types_text, both, 1, err) &&
         queries_add(&q, table_text, both, 2, err) &&
         queries_add(&q, estimates_text, both, 2, err) && queries_wait(&q, err) &&
         udts_read(&udts, &q, err) && columns_read(s, &udts, &q, err);
    if (ok) {
        struct estimates e;
        flags_read(s, &q);
        estimates_read(&q, Q_ESTIMATES, &e);
        cluster_put_estimates(c, keyspace, table, &e);
        free(e.list);
        s->keyspace = arena_strndup(&s->mem, keyspace, strlen(keyspace));
        s->table = arena_strndup(&s->mem, table, strlen(table));
    }
    map_fini(&udts.by_name);
    queries_fini(&q);
    return ok ? TAKE(s) : NULL;
}

/* What a local consistency can never meet is said before anything is read. */
static bool replicas_are_near(struct cql_cluster *c, const char *keyspace, struct err *err)
{
    AUTO(topology) struct topology *t = cluster_topology(c);
    enum cql_consistency level = cluster_env(c)->options->consistency;
    const struct ring_map *map = topology_map(t, keyspace);
    const char *elsewhere = NULL;

    if ((level != CQL_LOCAL_QUORUM && level != CQL_LOCAL_ONE) || !map)
        return true;
    for (size_t i = 0; i < map->count; i++) {
        for (uint32_t k = 0; k < map->ranges[i].replica_count; k++) {
            elsewhere = t->nodes[map->ranges[i].replicas[k]]->dc;
            if (strcmp(elsewhere, t->local_dc) == 0)
                return true;
        }
    }
    return !elsewhere || err_set(err, ERR_USER,
                                 "keyspace '%s' has no replica in data centre '%s', but in '%s': "
                                 "read there, or at another consistency than %s",
                                 keyspace, t->local_dc, elsewhere, cql_consistency_name(level));
}

struct schema *cql_schema_load(struct cql_cluster *c, const char *keyspace, const char *table,
                               struct err *err)
{
    for (int i = 0; i < TRIES; i++) {
        struct node *node;
        struct conn *conn = cluster_borrow(c, &node, err);
        if (!conn)
            return NULL;
        AUTO(schema) struct schema *s = schema_ask(c, conn, keyspace, table, err);
        cluster_give_back(c, conn, node);
        if (s && s->column_count) {
            /* Before it is said: it may have been changed a moment ago. */
            if (!replicas_are_near(c, keyspace, err) &&
                !(refresh(c, err) && replicas_are_near(c, keyspace, err)))
                return NULL;
            err_clear(err);
            return TAKE(s);
        }
        if (s) {
            no_table(c, keyspace, table, err);
            return NULL;
        }
        if (err->kind != ERR_RETRY)
            break;
    }
    err_wrap(err, "schema of %s.%s", keyspace, table);
    return NULL;
}

/* ---- ranges -----------------------------------------------------------------------------------
 */

static bool estimates_ask(struct cql_cluster *c, const struct schema *table, struct estimates *out,
                          struct err *err)
{
    const struct slice both[2] = {slice_str(table->keyspace), slice_str(table->table)};

    for (int i = 0; i < TRIES; i++) {
        struct node *node;
        struct queries q;
        struct conn *conn = cluster_borrow(c, &node, err);
        if (!conn)
            return false;
        queries_init(&q, conn);
        bool ok = queries_add(&q, estimates_text, both, 2, err) && queries_wait(&q, err);
        if (ok)
            estimates_read(&q, 0, out);
        queries_fini(&q);
        cluster_give_back(c, conn, node);
        if (ok || err->kind != ERR_RETRY)
            return ok;
    }
    return false;
}

bool cql_ranges_plan(struct cql_cluster *c, const struct schema *table,
                     const struct token_range *of, size_t of_count, uint64_t target_bytes,
                     size_t at_least, struct cql_ranges *out, struct err *err)
{
    AUTO(topology) struct topology *t = cluster_topology(c);
    struct estimates e = {0};

    *out = (struct cql_ranges){0};
    if (!t->murmur3)
        return err_set(err, ERR_USER,
                       "the cluster's partitioner %s is not supported (Murmur3Partitioner is)",
                       t->partitioner);
    if (!topology_map(t, table->keyspace)) {
        topology_free(TAKE(t));
        if (!refresh(c, err))
            return false;
        t = cluster_topology(c);
    }
    const struct ring_map *map = topology_map(t, table->keyspace);
    if (!map)
        return topology_has_keyspace(t, table->keyspace)
                   ? err_set(err, ERR_USER, "the replication of keyspace '%s' can't be read",
                             table->keyspace)
                   : no_keyspace(c, table->keyspace, err);
    if (!cluster_get_estimates(c, table->keyspace, table->table, &e) &&
        !estimates_ask(c, table, &e, err))
        return err_wrap(err, "size of %s.%s", table->keyspace, table->table);
    struct ring_split how = {.local_dc = t->local_dc,
                             .target_bytes = target_bytes,
                             .at_least = at_least,
                             .estimates = e.list,
                             .estimate_count = e.count};
    ring_split(t->ring, map, &how, of, of_count, out);
    free(e.list);
    return true;
}
