/*
 * cmd/sync_index.c - cass2es sync --index, or --mapping: every row of a table as a document of an
 * index.
 */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/sync_columns.h"
#include "cmd/sync_index.h"
#include "cmd/versioning.h"
#include "engine/direct.h"
#include "engine/tasks.h"

enum { LOOK_MS = 100, WORKERS = 8, WORKERS_OF_SEVERAL_TABLES = 4 };

unsigned index_workers(const struct config *c, const struct plan *p)
{
    if (c->sync.workers)
        return (unsigned)c->sync.workers;
    return plan_levels(p) ? WORKERS_OF_SEVERAL_TABLES : WORKERS;
}

void direct_sync_fini(struct direct_sync *d)
{
    if (d->guard)
        guard_free(d->guard);
    if (d->limit)
        limit_free(d->limit);
    elastic_free(d->admin);
    document_fini(&d->doc);
}

/* ---- what is said ------------------------------------------------------------------------------
 */

static void add_json(struct direct_sync *d, struct buf *b, const struct direct_counts *c,
                     int exit_code)
{
    buf_printf(b, "{\"run\":\"%s\",\"exit_code\":%d,\"index\":", run_id(d->s->run), exit_code);
    json_add_string(b, slice_str(plan_index(d->doc.plan)));
    counts_add_json(b, direct_count_list, c);
    buf_printf(b, ",\"took_ms\":%lld}", (long long)d->took_ms);
}

static void row_if(struct show_table *t, const char *name, uint64_t n)
{
    if (n)
        show_row_count(t, name, n);
}

/* How long, and how fast: of this process. */
static void add_pace(struct direct_sync *d, struct show_table *t, const struct direct_counts *c)
{
    uint64_t rows = c->rows > d->before ? c->rows - d->before : 0;
    struct buf b;

    buf_init(&b, 256);
    show_duration(&b, d->took_ms);
    if (d->took_ms >= 1000 && rows) {
        buf_add_str(&b, ", ");
        show_rate(&b, (double)rows * 1000 / (double)d->took_ms);
    }
    show_row(t, "took", "%s", buf_cstr(&b));
    buf_fini(&b);
}

static void counts_text(struct direct_sync *d, struct buf *b, const struct direct_counts *c,
                        bool finished)
{
    const struct schema *schema = d->doc.schema;
    uint64_t limit = (uint64_t)d->s->config->sync.limit;
    struct show_table t = {0};

    buf_printf(b, "%s.%s to index %s: %s", schema->keyspace, schema->table, plan_index(d->doc.plan),
               !finished                        ? "not finished"
               : limit && c->documents >= limit ? "as many as --limit says"
               : c->unread_ranges               ? "not all rows could be read"
               : d->s->config->sync.sample      ? "the sample read"
                                                : "all rows read");
    buf_add_str(b, finished && c->failed ? ", some documents failed\n" : "\n");
    show_row(&t, "run", "%s%s", run_id(d->s->run), d->s->resumed ? " (went on)" : "");
    show_row_count(&t, "rows", c->rows);
    row_if(&t, "filtered", c->filtered);
    row_if(&t, "merged", c->merged);
    show_row_count(&t, "documents", c->documents);
    show_row_count(&t, "indexed", c->indexed);
    row_if(&t, "unchanged", c->unchanged);
    row_if(&t, "stale: newer ones are there", c->stale);
    show_row_count(&t, "failed", c->failed);
    row_if(&t, "gone while they were read", c->gone);
    row_if(&t, "ranges not read", c->unread_ranges);
    row_if(&t, "NaN or infinite, written as null", c->nan_to_null);
    row_if(&t, "not UTF-8, written with U+FFFD", c->bad_utf8);
    row_if(&t, "years outside 0-9999, signed", c->year_out_of_range);
    row_if(&t, "texts that are no JSON, replaced", c->bad_json);
    row_if(&t, "altered otherwise", c->altered);
    row_if(&t, "rows of other tables missing", c->lookup_missing);
    row_if(&t, "rows with the _id of another", c->id_collision);
    add_pace(d, &t, c);
    show_table_end(&t, b);
    if (c->failed)
        buf_add_str(b, "Of failed documents the older version, if any, is still in the index.\n");
    if (c->failed || c->unread_ranges)
        sync_add_failures(d->s, b);
}

/* ---- before the run ----------------------------------------------------------------------------
 */

bool direct_sync_document(struct direct_sync *d, struct err *err)
{
    const struct config *c = d->s->config;

    d->doc.rereads = true;
    return document_open(&d->doc, c, d->s->cluster, c->sync.index, err);
}

static bool check_index(struct direct_sync *d, struct err *err)
{
    return !d->index.write_blocked ||
           err_set(err, ERR_USER,
                   "index %s is blocked for writing (index.blocks.*); take the block away first",
                   d->index.name);
}

static bool open_index(struct direct_sync *d, struct err *err)
{
    const char *name = plan_index(d->doc.plan);
    struct elastic_version version;
    struct retry r;
    bool exists;

    connect_elastic(d->s->config, d->s->ctx, &d->elastic);
    d->admin = elastic_new(&d->elastic, err);
    if (!d->admin)
        return false;
    start_retry(&r, d->s->config, d->s->ctx);
    while (!elastic_identify(d->admin, &version, err) ||
           !elastic_index_look(d->admin, name, &d->index, &exists, err))
        if (!start_again(&r, elastic_retry_after_ms(d->admin), err))
            return false;
    LOG(LOG_INFO, "elastic", F_STR("server", version.text), F_STR("index", name));
    document_warn_type(&d->doc, &version);
    return exists ? check_index(d, err) : document_no_index(&d->doc, err);
}

static bool check_versioning(struct direct_sync *d, struct elastic_origin *index, struct err *err)
{
    struct retry r;

    start_retry(&r, d->s->config, d->s->ctx);
    while (!versioning_check(d->s->journal, d->admin, d->doc.plan,
                             d->s->config->sync.change_versioning, index, err))
        if (!start_again(&r, elastic_retry_after_ms(d->admin), err))
            return false;
    return true;
}

bool direct_sync_check_versioning(struct direct_sync *d, struct err *err)
{
    struct elastic_origin index;

    return check_versioning(d, &index, err);
}

static bool note_versioning(struct direct_sync *d, const struct elastic_origin *index,
                            struct err *err)
{
    struct retry r;

    start_retry(&r, d->s->config, d->s->ctx);
    while (!versioning_note(d->s->journal, d->admin, index, d->doc.plan, d->s->id, err))
        if (!start_again(&r, elastic_retry_after_ms(d->admin), err))
            return false;
    return true;
}

bool direct_sync_begin(struct direct_sync *d, const char *more_identity, struct err *err)
{
    struct elastic_origin index;

    if (!d->s->journal)
        d->s->journal = connect_journal(d->s->config, d->s->ctx, false, err);
    return d->s->journal && check_versioning(d, &index, err) &&
           (d->s->run || sync_begin(d->s, more_identity, err)) && note_versioning(d, &index, err);
}

char *direct_sync_identity(const struct direct_sync *d)
{
    struct buf text;

    buf_init(&text, 16 << 20);
    buf_printf(&text, "table=%s.%s\nindex=%s\nmapping=%s %016" PRIx64 "\n", d->doc.schema->keyspace,
               d->doc.schema->table, d->index.name,
               d->doc.mapping->path ? d->doc.mapping->path : "", d->doc.mapping->content);
    sync_columns_identity(&d->doc, &text);
    char *identity = xstrdup(buf_cstr(&text));
    buf_fini(&text);
    return identity;
}

static bool open_guard(struct direct_sync *d, struct err *err)
{
    const struct config *c = d->s->config;
    unsigned workers = index_workers(c, d->doc.plan);

    d->guard = guard_new(
        &(struct guard_options){
            .index = d->index.name,
            .versioning = plan_versioning(d->doc.plan),
            .clock = &d->s->ctx->clock,
            .max_skew_us = c->sync.max_skew_ms * 1000,
            .gc_deletes_ms = d->index.gc_deletes_ms,
            .primary_term = d->index.primary_term,
            .lowest_term = d->index.lowest_term,
        },
        err);
    if (!d->guard)
        return false;
    d->limit = limit_new(&(struct limit_options){
        .clock = &d->s->ctx->clock,
        .cancel = &d->s->ctx->cancel,
        .requests = workers,
        .body_bytes = c->sync.body_bytes,
        .docs_per_s = (uint64_t)c->sync.max_docs_per_s,
        .reads_per_s = (uint64_t)c->sync.max_reads_per_s,
    });
    struct retry r;
    start_retry(&r, c, d->s->ctx);
    while (!guard_check_clock(d->guard, d->s->cluster, err))
        if (!start_again(&r, 0, err))
            return false;
    return true;
}

/* ---- the run -----------------------------------------------------------------------------------
 */

static bool run_direct(struct direct_sync *d, struct direct_counts *counts, struct err *err)
{
    const struct config *c = d->s->config;
    struct direct_options o = {
        .run = d->s->run,
        .clock = &d->s->ctx->clock,
        .cancel = &d->s->ctx->cancel,
        .retry_budget_ms = c->run.retry_budget_ms,
        .cluster = d->s->cluster,
        .plan = d->doc.plan,
        .where = d->doc.where,
        .sample = d->doc.sample,
        .most_documents = (uint64_t)c->sync.limit,
        .elastic = &d->elastic,
        .guard = d->guard,
        .limit = d->limit,
        .workers = index_workers(c, d->doc.plan),
        .memory_bytes = c->sync.memory_bytes,
        .strict_values = c->sync.strict_values,
        .docs_per_s = (uint64_t)c->sync.max_docs_per_s,
        .reads_per_s = (uint64_t)c->sync.max_reads_per_s,
    };
    int64_t begin_ms = clock_mono_ms(&d->s->ctx->clock);
    struct direct *direct = direct_start(&o, err);

    if (!direct)
        return false;
    sync_start_screen(d->s, "rows");
    while (!direct_wait(direct, LOOK_MS)) {
        struct direct_progress p;

        direct_progress(direct, &p);
        d->before = p.before;
        screen_update(d->s->screen, &(struct progress){.done = p.done,
                                                       .before = p.before,
                                                       .total = p.total,
                                                       .failed = p.failed,
                                                       .note = p.note});
    }
    screen_stop(TAKE(d->s->screen));
    d->took_ms = clock_mono_ms(&d->s->ctx->clock) - begin_ms;
    return direct_finish(direct, counts, err);
}

/* A run whose columns are gone: nothing can go on with it. */
static bool give_up_run(struct direct_sync *d, const struct direct_counts *counts, int exit_code,
                        struct err *err)
{
    struct buf json;

    buf_init(&json, 64 << 10);
    add_json(d, &json, counts, exit_code);
    err_clear(err);
    bool ok = sync_end(d->s, buf_cstr(&json), exit_code, err);
    buf_fini(&json);
    return ok;
}

/* again: a column was dropped; the run is ended, another one has to begin from the start. */
static bool sync_table(struct direct_sync *d, int *exit_code, bool *again, struct err *err)
{
    struct direct_counts counts = {0};
    struct buf text;
    struct buf json;

    AUTO_STR char *more = direct_sync_identity(d);
    if (!tasks_check_sample(d->s->cluster, d->doc.schema, d->doc.sample, err) ||
        !direct_sync_begin(d, more, err))
        return false;
    bool ok = run_direct(d, &counts, err);
    *exit_code =
        command_verdict(err, direct_conserved(&counts), counts.failed || counts.unread_ranges);
    *again = !ok && err->kind == ERR_USER &&
             sync_columns_lost(&d->doc, d->s->cluster, &d->s->ctx->clock);
    if (*again)
        return give_up_run(d, &counts, *exit_code, err);
    if (ok)
        sync_columns_warn_added(&d->doc, d->s->cluster);
    buf_init(&text, 64 << 10);
    buf_init(&json, 64 << 10);
    add_json(d, &json, &counts, *exit_code);
    if (d->s->config->output.json) {
        buf_add_slice(&text, buf_slice(&json));
        buf_add_byte(&text, '\n');
    } else {
        counts_text(d, &text, &counts, ok);
        if (!ok)
            sync_add_how_to_go_on(d->s, *exit_code, &text);
    }
    sync_print(&text, false);
    sync_end(d->s, buf_cstr(&json), *exit_code, err);
    buf_fini(&text);
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

static bool plan_target(struct direct_sync *d, struct err *err)
{
    return direct_sync_document(d, err) && direct_sync_open_index(d, err);
}

bool direct_sync_open_index(struct direct_sync *d, struct err *err)
{
    return open_index(d, err) && open_guard(d, err);
}

bool direct_sync_open(struct direct_sync *d, struct err *err)
{
    struct sync *s = d->s;

    if (!config_need(s->config, "elastic.url", err))
        return false;
    s->cluster = connect_cassandra(s->config, s->ctx, err);
    return s->cluster && plan_target(d, err);
}

/* Everything anew but the journal, which may be the caller's, and what is connected to Cassandra.
 */
static bool plan_again(struct direct_sync *d, struct err *err)
{
    struct sync *s = d->s;

    direct_sync_fini(d);
    *d = (struct direct_sync){.s = s};
    cancel_take_back(&s->ctx->cancel);
    return plan_target(d, err);
}

bool sync_index(struct sync *s, int *exit_code, struct err *err)
{
    struct direct_sync d = {.s = s};
    bool again = false;
    bool ok = direct_sync_open(&d, err);

    if (ok && s->config->ids.file)
        ok = sync_index_ids(&d, exit_code, err);
    else if (ok)
        do
            ok = (!again || plan_again(&d, err)) && sync_table(&d, exit_code, &again, err);
        while (ok && again);
    direct_sync_fini(&d);
    return ok;
}
