#include "cmd/job_text.h"

#include "base/text.h"
#include "cmd/job_plan.h"

void job_add_json(struct sync *s, struct buf *b, const struct job_counts *c,
                  const struct joblog *log, const char *csv, int exit_code)
{
    buf_printf(
        b,
        "{\"run\":\"%s\",\"exit_code\":%d,\"dry_run\":%s,\"ids\":%llu,\"duplicate\":%llu,\"bad\":%"
        "llu,\"missing\":%llu,"
        "\"accepted\":%llu,\"confirmed\":%llu,\"failed\":%llu,\"blocks\":%llu,\"calls\":%llu",
        run_id(s->run), exit_code, s->config->sync.dry_run ? "true" : "false",
        (unsigned long long)c->ids, (unsigned long long)c->duplicate, (unsigned long long)c->bad,
        (unsigned long long)(c->missing + c->given_missing), (unsigned long long)c->accepted,
        (unsigned long long)c->confirmed, (unsigned long long)c->failed,
        (unsigned long long)c->blocks, (unsigned long long)c->calls);
    if (c->given)
        buf_printf(b, ",\"given\":%llu,\"given_duplicate\":%llu,\"given_bad\":%llu,\"found\":%llu",
                   (unsigned long long)c->given, (unsigned long long)c->given_duplicate,
                   (unsigned long long)c->given_bad, (unsigned long long)c->found);
    if (log) {
        buf_add_str(b, ",\"success_log\":");
        json_add_string(b, slice_str(joblog_success_path(log)));
        buf_add_str(b, ",\"failure_log\":");
        json_add_string(b, slice_str(joblog_failure_path(log)));
    }
    if (csv) {
        buf_add_str(b, ",\"ids_file\":");
        json_add_string(b, slice_str(csv));
    }
    buf_add_byte(b, '}');
}

static void add_given_rows(struct show_table *t, const struct job_counts *c)
{
    show_row_count(t, "ids given", c->given);
    if (c->given_duplicate)
        show_row_count(t, "  duplicate", c->given_duplicate);
    if (c->given_bad)
        show_row_count(t, "  bad", c->given_bad);
    show_row_count(t, "  missing", c->given_missing);
    show_row_count(t, "  found", c->found);
}

static void dry_run_text(struct sync *s, struct buf *b, struct show_table *t,
                         const struct job_counts *c, const char *csv)
{
    const struct config *cfg = s->config;
    uint64_t workers = cfg->sync.workers ? (uint64_t)cfg->sync.workers : API_WORKERS;
    uint64_t each = (c->blocks + workers - 1) / workers;
    int64_t pauses_ms = each > 1 ? (int64_t)(each - 1) * cfg->sync_api.pause_ms : 0;

    show_row_count(t, "would be sent", c->accepted);
    show_row(t, "ids in", "%s", csv);
    show_table_end(t, b);
    buf_printf(b, "\nDry run: no call was made. It would be %llu %s", (unsigned long long)c->blocks,
               c->blocks == 1 ? "call" : "calls");
    if (pauses_ms) {
        buf_add_str(b, "; the pauses between them alone take ");
        show_duration(b, pauses_ms);
    }
    buf_add_str(b, ".\nTo send them: --dry-run=false, or --context_param dry_run=false\n");
}

static void stopped_dry_run_text(struct buf *b, struct show_table *t, const char *csv)
{
    show_table_end(t, b);
    buf_printf(b, "\nDry run: no call was made, and %s is not written.\n", csv);
}

static void sent_text(struct sync *s, struct buf *b, struct show_table *t,
                      const struct job_counts *c, const struct joblog *log)
{
    show_row_count(t, "accepted", c->accepted);
    if (c->confirmed || s->config->sync_api.await)
        show_row_count(t, "confirmed", c->confirmed);
    show_row_count(t, "failed", c->failed);
    show_row_count(t, "calls", c->calls);
    show_row(t, "success log", "%s", joblog_success_path(log));
    show_row(t, "failure log", "%s", joblog_failure_path(log));
    show_table_end(t, b);
    if (c->accepted && s->config->sync_api.await && c->no_await)
        buf_add_str(b, "\nThis server does not await: it accepted the ids, and whether they are "
                       "indexed is not known.\n");
    else if (c->accepted && s->config->sync_api.await)
        buf_add_str(b, "\nFor ids counted as accepted the server did not say in time whether they "
                       "are indexed.\n");
    else if (c->accepted)
        buf_add_str(b, "\nThe server accepted these ids; whether they are indexed is not known "
                       "(--await asks for it).\n");
}

void job_add_text(struct sync *s, struct buf *b, const struct job_counts *c,
                  const struct joblog *log, const char *csv, bool finished)
{
    struct show_table t = {0};

    buf_printf(b, "%s of %s: %s\n", csv ? "Dry run" : "Sync", s->config->sync.object_type,
               !finished             ? "not finished"
               : c->failed || c->bad ? "finished with failures"
                                     : "finished");
    show_row(&t, "run", "%s%s", run_id(s->run), s->resumed ? " (went on)" : "");
    if (s->schema && !(s->config->ids.file && !c->given))
        show_row(&t, "table", "%s.%s", s->schema->keyspace, s->schema->table);
    if (s->config->ids.file)
        show_row(&t, "id file", "%s", s->config->ids.file);
    if (c->given)
        add_given_rows(&t, c);
    show_row_count(&t, "ids", c->ids);
    if (c->duplicate)
        show_row_count(&t, "duplicate", c->duplicate);
    if (c->bad)
        show_row_count(&t, "bad", c->bad);
    if (c->unread_ranges)
        show_row_count(&t, "ranges not read", c->unread_ranges);
    if (csv && finished)
        dry_run_text(s, b, &t, c, csv);
    else if (csv)
        stopped_dry_run_text(b, &t, csv);
    else
        sent_text(s, b, &t, c, log);
    if (finished && !c->ids && s->schema && !s->config->ids.file)
        buf_printf(b, "\nThere was nothing to send: table %s.%s has no rows.\n",
                   s->schema->keyspace, s->schema->table);
    if (c->failed || c->bad || c->given_bad || c->given_missing || c->unread_ranges)
        sync_add_failures(s, b);
    if (c->failed && finished)
        buf_printf(b, "To send the failed calls again: --id-file %s\n", joblog_failure_path(log));
}
