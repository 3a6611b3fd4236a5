#include "cmd/preview.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/id_file.h"
#include "cmd/runs.h"
#include "engine/peek.h"
#include "mapping/json.h"

enum {
    TEXT_MAX_BYTES = 64 << 20,
    GC_DELETES_WANTED_MS = 3600000,
    IDS_TRIED = 20, /* for samples */
};

__attribute__((format(printf, 4, 5))) static void
line(struct preview *p, const char *what, enum preview_grade grade, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    ensure(vasprintf(&text, fmt, ap) >= 0 && "a line is small");
    va_end(ap);
    if (p->count == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 32;
        p->lines = xrealloc(p->lines, p->cap * sizeof *p->lines);
    }
    p->lines[p->count++] = (struct preview_line){what, grade, text};
}

/* An error is a line. Always false. */
static bool failed(struct preview *p, const char *what, const struct err *err)
{
    line(p, what, PREVIEW_FAIL, "%s", err->text);
    return false;
}

size_t preview_failing(const struct preview *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->count; i++)
        n += p->lines[i].grade == PREVIEW_FAIL;
    return n;
}

void preview_fini(struct preview *p)
{
    estimate_fini(&p->estimate);
    if (p->ids)
        ids_close(p->ids);
    direct_sync_fini(&p->d);
    arena_fini(&p->mem);
    for (size_t i = 0; i < p->count; i++)
        free(p->lines[i].text);
    free(p->lines);
}

/* ---- Cassandra --------------------------------------------------------------------------------
 */

/* Columns of the table that the plan does not read, with commas between them. */
static uint16_t unused(const struct preview *p, const struct schema *s, struct buf *b)
{
    uint16_t n = 0;

    for (uint16_t i = 0; i < s->column_count; i++)
        if (!plan_reads_column(p->d.doc.plan, s, i))
            buf_printf(b, "%s%s", n++ ? ", " : "", s->columns[i].name);
    return n;
}

static void look_at_columns_of(struct preview *p, const struct schema *s)
{
    struct buf names;

    buf_init(&names, TEXT_MAX_BYTES);
    uint16_t n = unused(p, s, &names);
    if (n)
        line(p, "columns", PREVIEW_NOTE, "%s.%s: %u of %u %s not read: %s", s->keyspace, s->table,
             n, s->column_count, n == 1 ? "is" : "are", buf_cstr(&names));
    else
        line(p, "columns", PREVIEW_OK, "%s.%s: all %u are read", s->keyspace, s->table,
             s->column_count);
    buf_fini(&names);
}

/* What a mapping leaves out, on purpose or not. */
static void look_at_columns(struct preview *p)
{
    const struct document *d = &p->d.doc;

    look_at_columns_of(p, d->schema);
    for (size_t i = 0; i < d->other_count; i++)
        if (strcmp(d->others[i]->keyspace, d->schema->keyspace) ||
            strcmp(d->others[i]->table, d->schema->table))
            look_at_columns_of(p, d->others[i]);
}

static bool look_at_table(struct preview *p)
{
    struct err err = {0};
    char text[256];

    p->s->cluster = connect_cassandra(p->s->config, p->s->ctx, &err);
    if (!p->s->cluster)
        return failed(p, "cassandra", &err);
    cql_cluster_describe(p->s->cluster, text, sizeof text);
    line(p, "cassandra", PREVIEW_OK, "%s", text);
    if (!direct_sync_document(&p->d, &err))
        return failed(p, "mapping", &err);
    line(p, "mapping", PREVIEW_OK, "%s.%s, %u column%s, versioning %s", p->d.doc.schema->keyspace,
         p->d.doc.schema->table, plan_column_count(p->d.doc.plan),
         show_plural(plan_column_count(p->d.doc.plan)),
         mapping_versioning_word(plan_versioning(p->d.doc.plan)));
    look_at_columns(p);
    return true;
}

static void add_bytes(struct buf *b, uint64_t n)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;
    double v = (double)n;

    for (; v >= 1000 && unit < 5; unit++)
        v /= 1000;
    buf_printf(b, unit && v < 10 ? "%.1f %s" : "%.0f %s", v, units[unit]);
}

static void add_estimate(struct buf *b, const struct preview *p)
{
    const struct estimate *e = &p->estimate;

    if (e->whole && !e->documents) {
        buf_add_str(b, e->rows_read                ? "no row fulfils the conditions"
                       : p->s->config->sync.sample ? "the sample has no rows"
                                                   : "the table has no rows");
        return;
    }
    if (!e->documents) {
        buf_add_str(b, p->s->config->ids.file && !p->ids
                           ? "unknown: ids come from standard input"
                           : "unknown: the server has no estimate yet");
        return;
    }
    buf_add_str(b, e->whole ? "" : "about ");
    show_count(b, e->documents);
    buf_printf(b, " document%s, ", show_plural(e->documents));
    add_bytes(b, e->document_bytes);
    if (e->ms >= 0 && e->ms < 1000) {
        buf_add_str(b, ", less than a second of reading");
    } else if (e->ms >= 0) {
        buf_add_str(b, ", at least ");
        show_duration(b, e->ms);
        unsigned workers = index_workers(p->s->config, p->d.doc.plan);
        buf_printf(b, " of reading with %u worker%s", workers, show_plural(workers));
    }
}

/* ---- ids --------------------------------------------------------------------------------------
 */

/* The file as a run would open it. Standard input is left to the run. */
static bool look_at_ids(struct preview *p)
{
    const char *path = p->s->config->ids.file;
    struct err err = {0};

    if (!path)
        return true;
    if (!sync_index_plan_ids(&p->d, &p->id_plan, &err))
        return failed(p, "ids", &err);
    if (strcmp(path, "-") == 0) {
        line(p, "ids", PREVIEW_UNKNOWN, "standard input is not read beforehand");
        return true;
    }
    p->ids = id_file_open(p->s, &p->id_plan, &err);
    if (!p->ids)
        return failed(p, "ids", &err);
    line(p, "ids", PREVIEW_OK, "%s: about %" PRIu64, path, ids_file(p->ids)->count);
    return true;
}

static void take_sample(void *ctx, const struct peeked *row)
{
    if (row->document.p)
        estimate_add_sample(ctx, row->id, row->document);
}

/* As an element of a call: what it came from, or its columns. NULL: none. */
static const struct json *id_json(const struct preview *p, const struct id_item *item,
                                  struct arena *mem)
{
    struct err ignored = {0};
    struct buf b;

    if (item->json.p)
        return json_parse(item->json, mem, &ignored);
    buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < item->part_count; i++) {
        if (item->part_count > 1) {
            buf_add_byte(&b, i ? ',' : '{');
            json_add_string(&b, slice_str(p->id_plan.names[i]));
            buf_add_byte(&b, ':');
        }
        json_add_string(&b, item->parts[i]);
    }
    if (item->part_count > 1)
        buf_add_byte(&b, '}');
    const struct json *id = json_parse(buf_slice(&b), mem, &ignored);
    buf_fini(&b);
    return id;
}

/* Documents of the first ids; of one that has none, the run will tell. */
static void sample_ids(struct preview *p)
{
    struct err err = {0};
    struct id_item item;

    for (int i = 0; i < IDS_TRIED && p->estimate.sample_count < ESTIMATE_SAMPLES; i++) {
        struct arena mem;

        if (!ids_next(p->ids, &item, &err)) {
            if (err.kind != ERR_REJECT)
                return;
            continue;
        }
        arena_init(&mem, TEXT_MAX_BYTES);
        const struct json *id = id_json(p, &item, &mem);
        bool ok = !id || peek_id(p->d.doc.plan, p->s->cluster, id, take_sample, &p->estimate, &err);
        arena_fini(&mem);
        if (!ok && err.kind != ERR_USER)
            return;
        err_clear(&err);
    }
}

static bool look_at_rows(struct preview *p)
{
    struct estimate_options o = {.cluster = p->s->cluster,
                                 .plan = p->d.doc.plan,
                                 .where = p->d.doc.where,
                                 .sample = p->d.doc.sample,
                                 .most_documents = (uint64_t)p->s->config->sync.limit,
                                 .by_ids = p->s->config->ids.file != NULL,
                                 .ids = p->ids ? ids_file(p->ids)->count : 0,
                                 .clock = &p->s->ctx->clock,
                                 .workers = index_workers(p->s->config, p->d.doc.plan)};
    struct err err = {0};
    struct buf text;

    if (!estimate_make(&o, &p->estimate, &err))
        return failed(p, "read", &err);
    if (p->ids)
        sample_ids(p);
    const struct estimate *e = &p->estimate;
    line(p, "read", PREVIEW_OK, "a sample of %" PRIu64 " row%s was read", e->rows_read,
         show_plural(e->rows_read));
    if (e->not_written)
        line(p, "documents", PREVIEW_WARN,
             "%" PRIu64 " of %" PRIu64
             " row%s of the sample without a document; each will be a failure: %s",
             e->not_written, e->wanted, show_plural(e->wanted), e->problem);
    buf_init(&text, 4096);
    add_estimate(&text, p);
    line(p, "size", e->documents || e->whole ? PREVIEW_OK : PREVIEW_UNKNOWN, "%s", buf_cstr(&text));
    buf_fini(&text);
    return true;
}

/* ---- W + R > N --------------------------------------------------------------------------------
 */

struct replicas {
    char strategy[64];
    int64_t all;   /* in all data centres */
    int64_t local; /* in ours */
    unsigned centres;
};

static bool read_replicas(struct preview *p, struct replicas *out, struct err *err)
{
    struct cql_query q = {.text = "SELECT replication FROM system_schema.keyspaces"
                                  " WHERE keyspace_name = ?",
                          .values = &(struct slice){0},
                          .value_count = 1};
    struct slice keyspace = slice_str(p->d.doc.schema->keyspace);
    struct json_counts counts = {0};
    struct page page;
    struct slice cell;
    struct buf text;
    char where[256];
    const char *local = p->s->config->cassandra.local_dc;

    q.values = &keyspace;
    *out = (struct replicas){0};
    AUTO(cql_session) struct cql_session *session = cql_session_open(p->s->cluster, err);
    AUTO(cql_pager) struct cql_pager *pager = session ? cql_pager_open(session, &q, err) : NULL;
    if (!pager || !cql_pager_next(pager, &page, err))
        return false;
    struct row_cursor rows = page_rows(&page);
    if (page.columns->count != 1 || !row_next(&rows, &cell, err))
        return false;
    if (!local) {
        cql_cluster_describe(p->s->cluster, where, sizeof where);
        char *at = strstr(where, "data centre ");
        local = at ? at + strlen("data centre ") : "";
        if (at)
            at[strlen("data centre ") + strcspn(local, ",")] = 0;
    }
    buf_init(&text, 1 << 20);
    const struct json *how = json_cell(&text, page.columns->list[0].type, cell, &counts, err)
                                 ? json_parse(buf_slice(&text), &p->mem, err)
                                 : NULL;
    if (how)
        json_each (m, how) {
            int64_t n = 0;

            if (slice_is(m->key, "class")) {
                const char *dot = strrchr((const char *)m->text.p, '.');
                snprintf(out->strategy, sizeof out->strategy, "%s",
                         dot ? dot + 1 : (const char *)m->text.p);
                continue;
            }
            struct slice count = m->text;
            const uint8_t *transient = count.n ? memchr(count.p, '/', count.n) : NULL;
            if (transient)
                count.n = (size_t)(transient - count.p);
            text_to_i64(count, 0, 1000, &n);
            out->all += n;
            out->centres += n > 0;
            if (slice_is(m->key, "replication_factor") || slice_is(m->key, local))
                out->local = n;
        }
    buf_fini(&text);
    return how != NULL;
}

static int64_t read_from(const char *consistency, const struct replicas *r)
{
    return !strcmp(consistency, "all")            ? r->all
           : !strcmp(consistency, "quorum")       ? r->all / 2 + 1
           : !strcmp(consistency, "local_quorum") ? r->local / 2 + 1
           : !strcmp(consistency, "two")          ? 2
           : !strcmp(consistency, "three")        ? 3
                                                  : 1;
}

/* What the promise of DESIGN 3.3 is worth here. */
static void look_at_consistency(struct preview *p)
{
    const char *consistency = config_word(p->s->config, "cassandra.consistency");
    bool local = strncmp(consistency, "local", 5) == 0;
    struct replicas r;
    struct err err = {0};

    if (!read_replicas(p, &r, &err)) {
        line(p, "consistency", PREVIEW_UNKNOWN, "the replication of the keyspace is not known: %s",
             err.text);
        return;
    }
    int64_t n = local ? r.local : r.all;
    int64_t reads = read_from(consistency, &r);
    if (!n) {
        line(p, "consistency", PREVIEW_UNKNOWN, "%s: replicas can't be counted", r.strategy);
        return;
    }
    if (n - reads + 1 > n / 2 + 1)
        line(p, "consistency", PREVIEW_WARN,
             "reads at %s ask %" PRId64 " of %" PRId64
             " replica%s: only writes acknowledged by %" PRId64
             " of them are sure to be seen; --consistency local_quorum also sees those of QUORUM",
             consistency, reads, n, show_plural((uint64_t)n), n - reads + 1);
    else if (local && r.centres > 1)
        line(p, "consistency", PREVIEW_WARN,
             "reads at %s see what was acknowledged at LOCAL_QUORUM in this data centre; writes to "
             "the other %u may come later: run where is written, or --consistency quorum",
             consistency, r.centres - 1);
    else
        line(p, "consistency", PREVIEW_OK,
             "reads at %s ask %" PRId64 " of %" PRId64
             " replica%s: every write acknowledged by %" PRId64 " before is seen",
             consistency, reads, n, show_plural((uint64_t)n), n - reads + 1);
}

/* ---- Elasticsearch ----------------------------------------------------------------------------
 */

static bool look_at_server(struct preview *p)
{
    struct err err = {0};

    if (!config_need(p->s->config, "elastic.url", &err))
        return failed(p, "elasticsearch", &err);
    connect_elastic(p->s->config, p->s->ctx, &p->d.elastic);
    p->d.admin = elastic_new(&p->d.elastic, &err);
    if (!p->d.admin || !elastic_identify(p->d.admin, &p->server, &err))
        return failed(p, "elasticsearch", &err);
    line(p, "elasticsearch", PREVIEW_OK, "%s %s",
         p->server.opensearch ? "OpenSearch" : "Elasticsearch", p->server.text);
    if (p->d.doc.plan && document_type_is_ignored(&p->d.doc, &p->server))
        line(p, "type", PREVIEW_NOTE,
             "%s is of Elasticsearch 6; this server has no types, and it is ignored",
             plan_type(p->d.doc.plan));
    return true;
}

static bool look_at_index(struct preview *p)
{
    const char *name = plan_index(p->d.doc.plan);
    const struct elastic_index *i = &p->d.index;
    struct err err = {0};

    if (!elastic_index_look(p->d.admin, name, &p->d.index, &p->has_index, &err))
        return failed(p, "index", &err);
    if (!p->has_index) {
        document_no_index(&p->d.doc, &err);
        return failed(p, "index", &err);
    }
    if (elastic_index_size(p->d.admin, i->name, &p->size, &err))
        line(p, "index", i->write_blocked ? PREVIEW_FAIL : PREVIEW_OK,
             "%s%s%s: %d shard%s, %d replica%s, %" PRIu64 " document%s%s", name,
             i->is_alias ? ", an alias of " : "", i->is_alias ? i->name : "", i->shards,
             show_plural((uint64_t)i->shards), i->replicas, show_plural((uint64_t)i->replicas),
             p->size.docs, show_plural(p->size.docs),
             i->write_blocked ? "; it is blocked for writing: take the block away" : "");
    else
        failed(p, "index", &err);
    return true;
}

static void look_at_state(struct preview *p)
{
    struct elastic_state state;
    struct err err = {0};

    if (!elastic_cluster_state(p->d.admin, p->d.index.name, &state, &err))
        failed(p, "health", &err);
    else if (state.pause)
        line(p, "health", PREVIEW_FAIL, "%s; a run would wait", state.why);
    else
        line(p, "health", PREVIEW_OK, "the index takes writes");
}

static void look_at_rights(struct preview *p)
{
    enum elastic_right right;
    struct err err = {0};

    if (!elastic_may_write(p->d.admin, p->d.index.name, &right, &err))
        failed(p, "rights", &err);
    else if (right == ELASTIC_RIGHT_NO)
        line(p, "rights", PREVIEW_FAIL,
             "this log-in may not index, create and delete in %s, and look at it: ask for those "
             "privileges",
             p->d.index.name);
    else if (right == ELASTIC_RIGHT_YES)
        line(p, "rights", PREVIEW_OK, "may write %s", p->d.index.name);
    else
        line(p, "rights", PREVIEW_UNKNOWN, "not checked: the server does not tell (no security?)");
}

static void look_at_disk(struct preview *p)
{
    const struct estimate *e = &p->estimate;
    uint64_t need = e->document_bytes * (uint64_t)(1 + p->d.index.replicas);
    struct elastic_disk disk;
    struct err err = {0};
    struct buf text;

    if (!elastic_disk(p->d.admin, &disk, &err) || !disk.nodes) {
        line(p, "disk", PREVIEW_UNKNOWN, "not checked: the server does not tell");
        return;
    }
    buf_init(&text, 4096);
    add_bytes(&text, disk.free_everywhere_bytes);
    buf_printf(&text, " free on %u node%s, least on %s: ", disk.nodes, show_plural(disk.nodes),
               disk.node);
    add_bytes(&text, disk.free_bytes);
    bool full = disk.free_bytes < disk.total_bytes / 10;
    bool small = need > disk.free_everywhere_bytes;
    if (need) {
        buf_add_str(&text, "; the documents, with replicas, are ");
        add_bytes(&text, need);
    }
    if (full)
        buf_add_str(&text, ". It is over 90 % full: Elasticsearch moves shards away, and blocks "
                           "writing at 95 %");
    line(p, "disk", full || small ? PREVIEW_WARN : PREVIEW_OK, "%s", buf_cstr(&text));
    buf_fini(&text);
}

static void look_at_deletes(struct preview *p)
{
    int64_t ms = p->d.index.gc_deletes_ms;
    enum mapping_versioning v = plan_versioning(p->d.doc.plan);

    if (v == VERSIONING_SEQUENCE || v == VERSIONING_NONE)
        return;
    if (ms < GC_DELETES_WANTED_MS)
        line(p, "gc_deletes", ms < GUARD_GC_DELETES_MIN_MS ? PREVIEW_FAIL : PREVIEW_WARN,
             "index.gc_deletes is %.3g s; 1h is advised, so that a slow write can't bring back "
             "what was deleted: PUT %s/_settings {\"index.gc_deletes\": \"1h\"}",
             (double)ms / 1000, p->d.index.name);
    else
        line(p, "gc_deletes", PREVIEW_OK, "%.3g h", (double)ms / 3600000);
}

static void look_at_clocks(struct preview *p)
{
    int64_t max_us = p->s->config->sync.max_skew_ms * 1000;
    struct err err = {0};
    int64_t skew = 0;

    AUTO(guard) struct guard *g =
        guard_new(&(struct guard_options){.index = "",
                                          .versioning = plan_versioning(p->d.doc.plan),
                                          .clock = &p->s->ctx->clock,
                                          .max_skew_us = max_us,
                                          .gc_deletes_ms = -1},
                  &err);
    AUTO(cql_session) struct cql_session *session =
        g ? cql_session_open(p->s->cluster, &err) : NULL;
    if (!session || !guard_clock_skew(g, session, &skew, &err)) {
        failed(p, "clocks", &err);
        return;
    }
    bool matters = plan_versioning(p->d.doc.plan) == VERSIONING_READ_TIME ||
                   plan_versioning(p->d.doc.plan) == VERSIONING_WRITE_TIME;
    int64_t off = skew < 0 ? -skew : skew;
    if (off > max_us)
        line(p, "clocks", matters ? PREVIEW_FAIL : PREVIEW_WARN,
             "this machine's clock and Cassandra's differ by %.1f s: versions would be wrong; set "
             "them right (NTP)",
             (double)off / 1e6);
    else
        line(p, "clocks", PREVIEW_OK,
             "no difference that matters between this machine and "
             "Cassandra");
}

static void look_at_versioning(struct preview *p)
{
    const char *mode = mapping_versioning_word(plan_versioning(p->d.doc.plan));
    struct err err = {0};

    p->s->journal = runs_open(p->s->config, p->s->ctx, &err);
    if (!p->s->journal && err.kind != ERR_NONE)
        failed(p, "versioning", &err);
    else if (!direct_sync_check_versioning(&p->d, &err))
        failed(p, "versioning", &err);
    else
        line(p, "versioning", PREVIEW_OK, "%s", mode);
}

static void look_at_fields(struct preview *p)
{
    struct err err = {0};
    size_t conflicts = p->fit.count;

    if (!elastic_index_mappings(p->d.admin, p->d.index.name, &p->mem, &p->mappings, &err)) {
        failed(p, "fields", &err);
        return;
    }
    fit_columns(p->mappings, p->d.doc.mapping, p->d.doc.schema, &p->fit);
    for (size_t i = 0; i < p->estimate.sample_count; i++) {
        const struct json *doc =
            json_parse(buf_slice(&p->estimate.samples[i].document), &p->mem, &err);
        if (doc)
            fit_document(p->mappings, doc, &p->fit);
    }
    for (size_t i = 0; i < p->fit.count; i++)
        line(p, "field", p->fit.list[i].grade == FIT_FAIL ? PREVIEW_FAIL : PREVIEW_WARN, "%s %s",
             p->fit.list[i].field, p->fit.list[i].text);
    if (p->fit.left_out)
        line(p, "field", PREVIEW_WARN, "and %zu more", p->fit.left_out);
    if (p->fit.count == conflicts)
        line(p, "fields", PREVIEW_OK, "all columns, and %zu document%s, fit the index's mapping",
             p->estimate.sample_count, show_plural(p->estimate.sample_count));
}

bool preview_make(struct preview *p, struct sync *s, struct err *err)
{
    *p = (struct preview){.s = s, .d = {.s = s}, .estimate = {.ms = -1}};
    arena_init(&p->mem, TEXT_MAX_BYTES);
    bool table = look_at_table(p);
    if (table) {
        if (look_at_ids(p))
            look_at_rows(p);
        look_at_consistency(p);
        look_at_clocks(p);
    }
    if (look_at_server(p) && table && look_at_index(p)) {
        look_at_state(p);
        look_at_rights(p);
        look_at_disk(p);
        look_at_deletes(p);
        look_at_versioning(p);
        look_at_fields(p);
    }
    return cancel_level(&s->ctx->cancel) == 0 || err_set(err, ERR_CANCEL, "interrupted");
}

/* ---- what is said -----------------------------------------------------------------------------
 */

static const char *const grades[] = {[PREVIEW_OK] = "ok",
                                     [PREVIEW_UNKNOWN] = "-",
                                     [PREVIEW_NOTE] = "note",
                                     [PREVIEW_WARN] = "warn",
                                     [PREVIEW_FAIL] = "fail"};

static const char *grade_json(enum preview_grade g)
{
    return g == PREVIEW_UNKNOWN ? "unknown" : grades[g];
}

static void add_line_json(struct buf *b, const struct preview_line *l)
{
    buf_printf(b, "{\"check\":\"%s\",\"result\":\"%s\",\"text\":", l->what, grade_json(l->grade));
    json_add_string(b, slice_str(l->text));
    buf_add_byte(b, '}');
}

static void print(struct buf *b)
{
    fwrite(b->p, 1, b->len, stdout);
    buf_fini(b);
}

void preview_print_lines(const struct preview *p, bool json)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < p->count; i++) {
        const struct preview_line *l = &p->lines[i];

        if (json) {
            add_line_json(&b, l);
            buf_add_byte(&b, '\n');
        } else {
            buf_printf(&b, "%-4s  %-13s  %s\n", grades[l->grade], l->what, l->text);
        }
    }
    print(&b);
}

static void plan_json(const struct preview *p, struct buf *b)
{
    const struct estimate *e = &p->estimate;
    const struct schema *s = p->d.doc.schema;

    buf_printf(b, "{\"dry_run\":true,\"failing\":%zu", preview_failing(p));
    if (s) {
        buf_add_str(b, ",\"table\":");
        AUTO_STR char *table = xsprintf("%s.%s", s->keyspace, s->table);
        json_add_string(b, slice_str(table));
        buf_add_str(b, ",\"index\":");
        json_add_string(b, slice_str(plan_index(p->d.doc.plan)));
        buf_printf(b, ",\"index_exists\":%s,\"versioning\":\"%s\"", p->has_index ? "true" : "false",
                   mapping_versioning_word(plan_versioning(p->d.doc.plan)));
    }
    if (e->statement) {
        buf_add_str(b, ",\"statement\":");
        json_add_string(b, slice_str(e->statement));
        buf_printf(b,
                   ",\"whole\":%s,\"documents\":%" PRIu64 ",\"document_bytes\":%" PRIu64
                   ",\"read_ms\":%" PRId64,
                   e->whole ? "true" : "false", e->documents, e->document_bytes, e->ms);
    }
    buf_add_str(b, ",\"samples\":[");
    for (size_t i = 0; i < e->sample_count; i++) {
        buf_add_str(b, i ? ",{\"_id\":" : "{\"_id\":");
        json_add_string(b, buf_slice(&e->samples[i].id));
        buf_add_str(b, ",\"document\":");
        buf_add_slice(b, buf_slice(&e->samples[i].document));
        buf_add_byte(b, '}');
    }
    buf_add_str(b, "],\"checks\":[");
    for (size_t i = 0; i < p->count; i++) {
        if (i)
            buf_add_byte(b, ',');
        add_line_json(b, &p->lines[i]);
    }
    buf_add_str(b, "]}\n");
}

/* Without a file: every column, or those of --columns. */
static void show_mapping(struct show_table *t, const struct mapping *m)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    if (m->path[0])
        buf_add_str(&b, m->path);
    else if (!m->columns.count)
        buf_add_str(&b, "every column");
    else
        buf_printf(&b, "the column%s ", show_plural(m->columns.count));
    for (size_t i = 0; !m->path[0] && i < m->columns.count; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", m->columns.list[i].name);
    show_row(t, "mapping", "%s", buf_cstr(&b));
    buf_fini(&b);
}

static void plan_text(const struct preview *p, struct buf *b)
{
    const struct document *doc = &p->d.doc;
    const struct estimate *e = &p->estimate;
    struct show_table t = {0};

    if (doc->plan) {
        buf_printf(b, "Dry run: %s.%s to index %s\n", doc->schema->keyspace, doc->schema->table,
                   plan_index(doc->plan));
        show_row(&t, "statement", "%s", e->statement ? e->statement : "-");
        show_mapping(&t, doc->mapping);
        show_row(&t, "versioning", "%s", mapping_versioning_word(plan_versioning(doc->plan)));
        if (plan_pipeline(doc->plan))
            show_row(&t, "pipeline", "%s", plan_pipeline(doc->plan));
        show_table_end(&t, b);
    }
    for (size_t i = 0; i < e->sample_count; i++) {
        buf_add_str(b, i ? "\n_id " : "\nDocuments as they would be sent:\n_id ");
        json_add_string(b, buf_slice(&e->samples[i].id));
        buf_add_byte(b, '\n');
        buf_add_slice(b, buf_slice(&e->samples[i].document));
        buf_add_byte(b, '\n');
    }
    buf_add_byte(b, '\n');
}

void preview_print_plan(const struct preview *p, bool json)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    if (json)
        plan_json(p, &b);
    else
        plan_text(p, &b);
    print(&b);
    if (!json)
        preview_print_lines(p, false);
}

bool sync_dry_run(struct sync *s, int *exit_code, struct err *err)
{
    struct preview p;
    bool ok = preview_make(&p, s, err);

    if (ok) {
        preview_print_plan(&p, s->config->output.json);
        if (!s->config->output.json)
            printf("\nNothing was written.%s\n",
                   preview_failing(&p) ? " The run would fail: see the lines that begin with fail"
                                       : " To do it: the same without --dry-run");
        *exit_code = preview_failing(&p) ? EXIT_USAGE : EXIT_DONE;
    }
    preview_fini(&p);
    return ok;
}
