/*
 * cmd/sync_rows.c - cass2es sync --to: every row of a table as a line of JSON.
 */
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "cmd/sync.h"
#include "cmd/sync_columns.h"
#include "engine/copy.h"
#include "engine/limit.h"
#include "engine/tasks.h"

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

/* ours: the run has opened its file before. */
static bool journalled_length(struct sync *s, uint64_t *length, bool *ours, struct err *err)
{
    AUTO_STR char *text = NULL;
    int64_t n = 0;

    if (!run_note(s->run, "file_length", &text, err))
        return false;
    *ours = text != NULL;
    if (text)
        text_to_i64(slice_str(text), 0, INT64_MAX, &n);
    *length = (uint64_t)n;
    return true;
}

/* A file that is there already, of somebody else, is replaced by --fresh alone: not by a run that
 * goes on, either, unless it made the file. */
static struct sink_file *open_file(struct sync *s, bool *ours, struct err *err)
{
    uint64_t length = 0;

    if (!journalled_length(s, &length, ours, err))
        return NULL;
    AUTO(sink_file) struct sink_file *file =
        sink_file_open(s->config->sync.to, length, s->config->sync.fresh || *ours, err);
    if (!file || *ours)
        return TAKE(file);
    AUTO(tx) struct tx *tx = tx_new(s->run);
    tx_note(tx, "file_length", "0");
    return journal_commit(tx, err) ? TAKE(file) : NULL;
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
    struct buf text;

    buf_init(&text, 16 << 20);
    buf_printf(&text, "table=%s.%s\nread=%s\n", d->schema->keyspace, d->schema->table,
               plan_read_text(d->plan));
    sync_columns_identity(d, &text);
    char *identity = xstrdup(buf_cstr(&text));
    buf_fini(&text);
    return identity;
}

/* Columns that its lines have are gone: nothing can go on with the run. Standard output starts over
 * by itself. */
static bool end_for_good(struct sync *s, const struct document *d, struct err *err)
{
    if (err->kind != ERR_USER || !sync_columns_lost(d, s->cluster, &s->ctx->clock))
        return false;
    if (strcmp(s->config->sync.to, "-") != 0)
        err_set(err, ERR_USER,
                "columns were dropped while the rows were read, and %s has lines with them: start "
                "over with --fresh",
                s->config->sync.to);
    return true;
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
    bool ours = false;
    AUTO(sink_file) struct sink_file *file = open_file(s, &ours, err);
    bool ok = file && copy_rows(s, d, file, &counts, err);
    *exit_code =
        command_verdict(err, copy_conserved(&counts), counts.failed || counts.unread_ranges);
    bool over = !ok && (file ? end_for_good(s, d, err) : !ours && err->kind == ERR_USER);
    struct err ended = *err;

    if (over)
        err_clear(&ended);
    buf_init(&text, 64 << 10);
    buf_init(&json, 64 << 10);
    copy_json(&json, run_id(s->run), to, &counts, *exit_code);
    if (s->config->output.json) {
        buf_add_slice(&text, buf_slice(&json));
        buf_add_byte(&text, '\n');
    } else {
        copy_text(s, d->schema, &text, &counts, ok);
        if (!ok && !over && !to_stdout)
            sync_add_how_to_go_on(s, *exit_code, &text);
    }
    sync_print(&text, to_stdout);
    if (!sync_end(s, buf_cstr(&json), *exit_code, &ended) && err->kind == ERR_NONE)
        *err = ended;
    buf_fini(&text);
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

bool sync_rows(struct sync *s, int *exit_code, struct err *err)
{
    struct document d = {0};

    s->cluster = connect_cassandra(s->config, s->ctx, err);
    bool ok = s->cluster && document_open(&d, s->config, s->cluster, NULL, err) &&
              tasks_check_sample(s->cluster, d.schema, d.sample, err) &&
              rows_to_file(s, &d, exit_code, err);
    document_fini(&d);
    return ok;
}
