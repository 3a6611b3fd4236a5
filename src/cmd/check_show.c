#include "cmd/check_show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "engine/peek.h"

enum { TEXT_MAX_BYTES = 256 << 20, ID_MAX_BYTES = 16 << 20 };

struct shower {
    const struct config *config;
    struct document doc;
    struct arena mem;
    uint64_t rows, without;
    struct buf text;
};

/* As in a file of ids: an object of columns, else the text as it is. */
static const struct json *parse_id(struct shower *s, struct err *err)
{
    const struct config *c = s->config;
    struct slice text = slice_str(c->show);
    struct err why = {0};
    struct json *id = arena_zalloc(&s->mem, sizeof *id);

    if (*c->show == '{') {
        const struct json *object = json_parse(text, &s->mem, &why);
        if (!object)
            config_fault(c, "show", err, "%s", why.text);
        return object;
    }
    ensure(id && "nothing else is there");
    id->kind = JSON_STRING;
    id->text = text;
    return id;
}

static void add_text(struct buf *b, const char *name, struct slice text)
{
    buf_printf(b, ",\"%s\":", name);
    json_add_string(b, text);
}

/* As Elasticsearch itself shows a document. */
static void add_document(struct shower *s, struct buf *b, const struct peeked *row)
{
    const struct plan *plan = s->doc.plan;
    const char *index = plan_index(plan);

    buf_add_str(b, "{\"_index\":");
    if (index)
        json_add_string(b, slice_str(index));
    else
        buf_add_str(b, "null");
    add_text(b, "_id", row->id);
    if (row->routing.p)
        add_text(b, "_routing", row->routing);
    if (plan_pipeline(plan))
        add_text(b, "pipeline", slice_str(plan_pipeline(plan)));
    buf_add_str(b, ",\"_source\":");
    buf_add_slice(b, row->document);
    buf_add_byte(b, '}');
}

static void print_document(struct shower *s, const struct peeked *row)
{
    ensure(row->document.p && "it has no reason for none");
    buf_reset(&s->text);
    add_document(s, &s->text, row);
    if (!s->config->output.json) {
        struct buf compact = s->text;

        buf_init(&s->text, TEXT_MAX_BYTES);
        json_indent(&s->text, buf_slice(&compact));
        buf_fini(&compact);
    }
    buf_add_byte(&s->text, '\n');
    fwrite(s->text.p, 1, s->text.len, stdout);
}

/* What the document does not show of itself. */
static void tell(const struct peeked *row)
{
    const struct {
        uint64_t n;
        const char *what;
    } list[] = {
        {row->counts.nan_to_null, "NaN or infinite, written as null"},
        {row->counts.bad_utf8, "not UTF-8, written with U+FFFD"},
        {row->counts.year_out_of_range, "years outside 0-9999, signed"},
        {row->counts.bad_json, "texts that are no JSON, replaced"},
        {row->counts.lookup_missing, "rows of other tables missing"},
    };

    fflush(stdout);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].n)
            fprintf(stderr, "%.*s: %s: %" PRIu64 "\n", (int)row->key.n, (const char *)row->key.p,
                    list[i].what, list[i].n);
    if (*row->reason)
        fprintf(stderr, "%.*s: %s: %s\n", (int)row->key.n, (const char *)row->key.p, row->reason,
                row->text);
}

static void take(void *ctx, const struct peeked *row)
{
    struct shower *s = ctx;
    struct peeked told = *row;
    bool strict = s->config->sync.strict_values && json_counts_sum(&row->counts);

    if (strict && row->document.p) {
        told.reason = "altered_value";
        told.text = "a value would be altered (--strict-values)";
    }
    s->rows++;
    if (*told.reason)
        s->without++;
    else
        print_document(s, row);
    tell(&told);
}

static bool show(struct shower *s, struct context *ctx, int *exit_code, struct err *err)
{
    const struct config *c = s->config;
    const struct json *id = parse_id(s, err);

    if (!id)
        return false;
    AUTO(cql_cluster) struct cql_cluster *cluster = connect_cassandra(c, ctx, err);
    if (!cluster || !document_open(&s->doc, c, cluster, c->sync.index, err) ||
        !peek_id(s->doc.plan, cluster, id, take, s, err))
        return false;
    if (!s->rows)
        fprintf(stderr, "%s.%s has no row of %s\n", s->doc.schema->keyspace, s->doc.schema->table,
                c->show);
    if (s->rows > s->without && plan_has_preserve(s->doc.plan))
        fprintf(stderr, "What the mapping preserves of the stored document is not shown.\n");
    *exit_code = s->without || !s->rows ? EXIT_SOME_FAILED : EXIT_DONE;
    return true;
}

bool check_show(const struct config *config, struct context *ctx, int *exit_code, struct err *err)
{
    struct shower s = {.config = config};

    if (config->sync.where)
        return config_fault(config, "sync.where", err, "can't be used with --show");
    arena_init(&s.mem, ID_MAX_BYTES);
    buf_init(&s.text, TEXT_MAX_BYTES);
    bool ok = show(&s, ctx, exit_code, err);
    buf_fini(&s.text);
    arena_fini(&s.mem);
    document_fini(&s.doc);
    return ok;
}
