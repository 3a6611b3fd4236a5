/*
 * cmd/sync_rows.c - cass2es sync --to: every row of a table as a line of JSON.
 */
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "cmd/sync.h"
#include "engine/copy.h"
#include "engine/limit.h"

enum { LOOK_MS = 100, COPY_WORKERS = 8 };

static void copy_json(struct buf *b, const char *id, const char *to, const struct copy_counts *c,
                      int exit_code)
{
    buf_printf(b, "{\"run\":\"%s\",\"exit_code\":%d", id, exit_code);
    counts_add_json(b, copy_count_list, c);
    buf_add_str(b, ",\"to\":");
    json_add_string(b, slice_str(to));
    buf_add_byte(b, '}');
}

static void copy_text(struct sync *s, const struct schema *schema, struct buf *b,
                      const struct copy_counts *c, bool finished)
{
    struct show_table t = {0};
    uint64_t limit = (uint64_t)s->config->sync.limit;

    buf_printf(b, "%s.%s to %s: %s\n", schema->keyspace, schema->table, s->config->sync.to,
               !finished                        ? "not finished"
               : limit && c->documents >= limit ? "as many as --limit says"
               : s->config->sync.sample         ? "the sample read"
                                                : "all rows read");
    show_row(&t, "run", "%s%s", run_id(s->run), s->resumed ? " (went on)" : "");
    show_row_count(&t, "rows", c->rows);
    if (c->filtered)
        show_row_count(&t, "filtered", c->filtered);
    show_row_count(&t, "written", c->written);
    show_row_count(&t, "failed", c->failed);
    if (c->unread_ranges)
        show_row_count(&t, "ranges not read", c->unread_ranges);
    if (c->nan_to_null)
        show_row_count(&t, "NaN or infinite, written as null", c->nan_to_null);
    if (c->bad_utf8)
        show_row_count(&t, "not UTF-8, written with U+FFFD", c->bad_utf8);
    if (c->year_out_of_range)
        show_row_count(&t, "years outside 0-9999, signed", c->year_out_of_range);
    if (c->bad_json)
        show_row_count(&t, "texts that are no JSON, replaced", c->bad_json);
    if (c->lookup_missing)
        show_row_count(&t, "rows of other tables missing", c->lookup_missing);
    show_table_end(&t, b);
    if (c->failed || c->unread_ranges)
        sync_add_failures(s, b);
}

static uint64_t journalled_length(struct sync *s, bool *ok, struct err *err)
{
    AUTO_STR char *text = NULL;
    int64_t length = 0;

    *ok = run_note(s->run, "file_length", &text, err);
    if (text)
        text_to_i64(slice_str(text), 0, INT64_MAX, &length);
    return (uint64_t)length;
}

static bool copy_rows(struct sync *s, const struct document *d, struct sink_file *file,
                      struct copy_counts *counts, struct err *err)
{
    const struct config *c = s->config;
    AUTO(limit) struct limit *rates =
        limit_new(&(struct limit_options){.clock = &s->ctx->clock,
                                          .cancel = &s->ctx->cancel,
                                          .reads_per_s = (uint64_t)c->sync.max_reads_per_s});
    struct copy_options o = {
        .run = s->run,
        .clock = &s->ctx->clock,
        .cancel = &s->ctx->cancel,
        .retry_budget_ms = c->run.retry_budget_ms,
        .cluster = s->cluster,
        .plan = d->plan,
        .where = d->where,
        .sample = d->sample,
        .limit = (uint64_t)c->sync.limit,
        .rates = rates,
        .file = file,
        .resumable = strcmp(c->sync.to, "-") != 0,
        .workers = c->sync.workers ? (unsigned)c->sync.workers : COPY_WORKERS,
        .memory_bytes = c->sync.memory_bytes,
        .strict_values = c->sync.strict_values,
    };
    struct copy *copy = copy_start(&o, err);

    if (!copy)
        return false;
    sync_start_screen(s, "rows");
    while (!copy_wait(copy, LOOK_MS)) {
        struct copy_progress p;

        copy_progress(copy, &p);
        screen_update(s->screen, &(struct progress){.done = p.done,
                                                    .before = p.before,
                                                    .total = p.total,
                                                    .failed = p.failed,
                                                    .note = p.note});
    }
    screen_stop(TAKE(s->screen));
    return copy_finish(copy, counts, err);
}

static int copy_verdict(const struct copy_counts *c, const struct err *err)
{
    if (err->kind != ERR_NONE)
        return command_exit_code(err->kind);
    if (!copy_conserved(c))
        return EXIT_DEFECT;
    return c->failed || c->unread_ranges ? EXIT_SOME_FAILED : EXIT_DONE;
}

/* What went to standard output is gone: an interrupted run can't be gone on with. */
static bool start_over(struct sync *s, const char *identity, struct err *err)
{
    LOG(LOG_WARN, "start_over", F_STR("run", run_id(s->run)),
        F_STR("why", "standard output can't be resumed: it starts over with all rows"));
    if (!run_end(TAKE(s->run), RUN_FINISHED, EXIT_INTERRUPTED, "{}", err))
        return false;
    journal_close(TAKE(s->journal));
    return sync_begin(s, identity, err);
}

/* The run's identity beside the settings: the mapping is its content, not its path. */
static char *identity_of(const struct document *d)
{
    return xsprintf("table=%s.%s\nread=%s\n", d->schema->keyspace, d->schema->table,
                    plan_read_text(d->plan));
}

static bool rows_to_file(struct sync *s, const struct document *d, int *exit_code, struct err *err)
{
    const char *to = s->config->sync.to;
    bool to_stdout = strcmp(to, "-") == 0;
    struct copy_counts counts = {0};
    struct buf text;
    struct buf json;

    AUTO_STR char *identity = identity_of(d);
    if (!sync_begin(s, identity, err) || (to_stdout && s->resumed && !start_over(s, identity, err)))
        return false;
    bool ok = true;
    uint64_t length = journalled_length(s, &ok, err);
    AUTO(sink_file) struct sink_file *file =
        ok ? sink_file_open(to, length, s->config->sync.fresh || s->resumed, err) : NULL;
    ok = file && copy_rows(s, d, file, &counts, err);
    *exit_code = copy_verdict(&counts, err);

    buf_init(&text, 64 << 10);
    buf_init(&json, 64 << 10);
    copy_json(&json, run_id(s->run), to, &counts, *exit_code);
    if (s->config->output.json) {
        buf_add_slice(&text, buf_slice(&json));
        buf_add_byte(&text, '\n');
    } else {
        copy_text(s, d->schema, &text, &counts, ok);
        if (!ok && !to_stdout)
            sync_add_how_to_go_on(s, &text);
    }
    sync_print(&text, to_stdout);
    sync_end(s, buf_cstr(&json), *exit_code, err);
    buf_fini(&text);
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

bool sync_rows(struct sync *s, int *exit_code, struct err *err)
{
    struct document d = {0};

    if (s->config->sync.max_docs_per_s)
        return config_fault(s->config, "sync.max_docs_per_s", err,
                            "is for an index; with --to it is --max-reads-per-s");
    s->cluster = connect_cassandra(s->config, s->ctx, err);
    bool ok = s->cluster && document_open(&d, s->config, s->cluster, NULL, err) &&
              rows_to_file(s, &d, exit_code, err);
    document_fini(&d);
    return ok;
}
