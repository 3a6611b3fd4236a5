/*
 * cmd/sync.c - cass2es sync: brings rows to an index or a file, or ids to the Sync API.
 */
#include "cmd/command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/aim.h"
#include "cmd/connect.h"
#include "cmd/hints.h"
#include "cmd/preview.h"
#include "cmd/sync.h"

enum { LOOK_MS = 100 };

static bool sync_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err);

const struct command command_sync = {
    .name = "sync",
    .summary = "Bring rows to an index or a file, or ids to the Sync API",
    .usage = "[KEYSPACE.TABLE] [--context_param NAME=VALUE]... [OPTION]...",
    .details =
        "With --index or --mapping every row of the table, or of the ids in --id-file, becomes a "
        "document of an index of Elasticsearch or OpenSearch; --dry-run shows the plan. "
        "Without them it takes ids from a table or a file and posts them in blocks to Sunbird's "
        "Sync API, as "
        "Sync_run.sh does; "
        "with --dry-run (the default as soon as a --context_param is given) it writes them to "
        "syncIds.csv instead. "
        "With --to it writes every row of the table as a line of JSON to a file or to standard "
        "output. "
        "The same command again goes on where an interrupted run stopped; --fresh starts over.",
    .id = FOR_SYNC,
    .takes_table = true,
    .signals = true,
    .run = sync_run,
};

void sync_fini(struct sync *s)
{
    screen_stop(s->screen);
    if (s->run)
        run_abandon(s->run);
    if (s->schema)
        schema_free(s->schema);
    if (s->cluster)
        cql_cluster_free(s->cluster);
    if (s->journal)
        journal_close(s->journal);
}

/* All other tokens count as done, so that only these are read. */
static bool mark_others(struct sync *s, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(s->run);
    AUTO_STR char *known = NULL;
    int64_t at = INT64_MIN;

    if (!run_note(s->run, "only", &known, err))
        return false;
    if (known)
        return true;
    for (size_t i = 0; i < s->only->count; i++) {
        tx_mark(tx, "token", at, s->only->list[i].start);
        at = s->only->list[i].end;
    }
    tx_mark(tx, "token", at, INT64_MAX);
    tx_note(tx, "only", "ranges");
    return journal_commit(tx, err);
}

static void add_retry_identity(const struct sync *s, struct buf *identity)
{
    if (!s->retry_of)
        return;
    buf_printf(identity, "retry_of=%s\n", s->retry_of);
    for (size_t i = 0; s->only && i < s->only->count; i++)
        buf_printf(identity, "token=%lld..%lld\n", (long long)s->only->list[i].start,
                   (long long)s->only->list[i].end);
}

bool sync_begin(struct sync *s, const char *more_identity, struct err *err)
{
    struct buf identity;
    struct buf params;

    if (!s->journal)
        s->journal = connect_journal(s->config, s->ctx, false, err);
    if (!s->journal)
        return false;
    buf_init(&identity, 1 << 20);
    buf_init(&params, 1 << 20);
    config_identity(s->config, FOR_SYNC, &identity);
    buf_add_str(&identity, more_identity);
    add_retry_identity(s, &identity);
    hash_sha256_hex(buf_slice(&identity), s->identity);
    config_params_json(s->config, FOR_SYNC, &params);
    struct run_spec spec = {.command = s->retry_of ? "retry" : "sync",
                            .identity = buf_cstr(&identity),
                            .params = buf_cstr(&params),
                            .resumable = !s->config->sync.dry_run,
                            .fresh = s->config->sync.fresh};
    s->run = run_begin(s->journal, &spec, &s->resumed, err);
    buf_fini(&identity);
    buf_fini(&params);
    if (!s->run)
        return false;
    snprintf(s->id, sizeof s->id, "%s", run_id(s->run));
    LOG(LOG_INFO, s->resumed ? "resume" : "start", F_STR("run", s->id));
    return !s->only || mark_others(s, err);
}

void sync_start_screen(struct sync *s, const char *unit)
{
    static const enum screen_mode modes[] = {[PROGRESS_AUTO] = SCREEN_AUTO,
                                             [PROGRESS_BAR] = SCREEN_BAR,
                                             [PROGRESS_PLAIN] = SCREEN_LINES,
                                             [PROGRESS_NONE] = SCREEN_NONE};

    s->screen = screen_start(&(struct screen_options){.mode = modes[s->config->output.progress],
                                                      .fd = STDERR_FILENO,
                                                      .unit = unit,
                                                      .clock = &s->ctx->clock});
}

/* A run that did not come to its end can be gone on with, except a dry run or one that began at
 * standard output. */
bool sync_end(struct sync *s, const char *summary, int exit_code, struct err *err)
{
    struct err end_err = {0};
    enum run_state state = err->kind == ERR_NONE ? RUN_FINISHED : RUN_INTERRUPTED;

    if (run_end(TAKE(s->run), state, exit_code, summary, &end_err))
        return true;
    if (err->kind == ERR_NONE)
        *err = end_err;
    return false;
}

bool sync_watch_job(struct sync *s, struct job *job, struct job_counts *counts, struct err *err)
{
    sync_start_screen(s, "ids");
    while (!job_wait(job, LOOK_MS)) {
        struct job_progress p;

        job_progress(job, &p);
        screen_update(s->screen, &(struct progress){.done = p.done,
                                                    .before = p.before,
                                                    .total = p.total,
                                                    .failed = p.failed,
                                                    .paused_ms = p.paused_ms,
                                                    .pauses_left_ms = p.pauses_left_ms,
                                                    .note = p.note});
    }
    screen_stop(TAKE(s->screen));
    return job_finish(job, counts, err);
}

void sync_print(struct buf *text, bool to_stderr)
{
    FILE *out = to_stderr ? stderr : stdout;

    fwrite(text->p, 1, text->len, out);
    fflush(out);
}

void sync_add_how_to_go_on(struct sync *s, int exit_code, struct buf *text)
{
    if (exit_code == EXIT_USAGE)
        return;
    buf_add_str(text, "\nTo go on where it stopped, run the same command again:\n  ");
    connect_add_command_line(text, s->ctx);
    buf_add_byte(text, '\n');
}

/* The first few kinds of failures, so that nobody needs to look further for the common case. */
enum { SHOWN_FAILURES = 5, SHOWN_KEY_BYTES = 80 };

struct shown_kind {
    char *kind;
    char *reason, *key, *text; /* of the first */
    uint64_t failures;
};

struct shown_failures {
    struct shown_kind kinds[SHOWN_FAILURES];
    size_t count;
    bool more;
};

/* Keys are data: nothing in them may speak to the terminal, or fill it. */
static void add_key(struct buf *b, const char *key)
{
    size_t n = strlen(key);
    size_t shown = n;

    if (n > SHOWN_KEY_BYTES)
        for (shown = SHOWN_KEY_BYTES; shown && ((uint8_t)key[shown] & 0xc0) == 0x80; shown--)
            ;
    for (size_t i = 0; i < shown; i++)
        buf_add_byte(b, (uint8_t)key[i] < 0x20 || key[i] == 0x7f ? '?' : (uint8_t)key[i]);
    if (shown < n)
        buf_add_str(b, "...");
}

/* What differs from one document to the next is left out: numbers that stand alone ("line 7"),
 * and what is in single quotes ("with id 'x'"). */
static char *kind_of(const struct failure_info *f)
{
    struct buf b;
    bool quoted = false;
    uint8_t before = ' ';

    buf_init(&b, SIZE_MAX / 2);
    buf_printf(&b, "%s: ", f->reason);
    for (const char *c = f->text; *c; c++) {
        bool digit = *c >= '0' && *c <= '9';
        bool word = (before >= '0' && before <= '9') || (before >= 'A' && before <= 'Z') ||
                    (before >= 'a' && before <= 'z') || before == '_';

        quoted = quoted != (*c == '\'');
        if (!quoted && !(digit && !word))
            buf_add_byte(&b, (uint8_t)*c);
        if (!digit || word)
            before = (uint8_t)*c;
    }
    char *kind = xstrdup(buf_cstr(&b));
    buf_fini(&b);
    return kind;
}

static bool note_failure(void *ctx, const struct failure_info *f)
{
    struct shown_failures *shown = ctx;
    char *kind = kind_of(f);

    for (size_t i = 0; i < shown->count; i++) {
        if (strcmp(shown->kinds[i].kind, kind) != 0)
            continue;
        shown->kinds[i].failures++;
        free(kind);
        return true;
    }
    if (shown->count == SHOWN_FAILURES) {
        shown->more = true;
        free(kind);
        return true;
    }
    struct shown_kind *k = &shown->kinds[shown->count++];
    *k = (struct shown_kind){.kind = kind,
                             .reason = xstrdup(f->reason),
                             .key = xstrdup(f->key),
                             .text = xstrdup(f->text),
                             .failures = 1};
    return true;
}

static void add_kind(struct buf *text, const struct shown_kind *k)
{
    buf_printf(text, "  %s: ", k->reason);
    add_key(text, k->key);
    buf_printf(text, ": %s", k->text);
    if (k->failures > 1) {
        buf_add_str(text, " (and ");
        show_count(text, k->failures - 1);
        buf_add_str(text, " like it)");
    }
    buf_printf(text, "\n    -> %s\n", hint_of(k->reason));
}

void sync_add_failures(struct sync *s, struct buf *text)
{
    struct shown_failures shown = {0};
    struct err ignored = {0}; /* the summary is not the place to fail */

    buf_add_str(text, "\nFailures, one of each kind:\n");
    journal_each_failure(s->journal, run_id(s->run), note_failure, &shown, &ignored);
    for (size_t i = 0; i < shown.count; i++) {
        struct shown_kind *k = &shown.kinds[i];

        add_kind(text, k);
        free(k->kind);
        free(k->reason);
        free(k->key);
        free(k->text);
    }
    if (shown.more)
        buf_add_str(text, "  and other kinds\n");
    buf_printf(text,
               "All of them: cass2es failures list %s\nOnce more:   cass2es failures retry %s\n",
               run_id(s->run), s->retry_of ? s->retry_of : run_id(s->run));
}

static bool sync_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    if (config->sync.to && config->sync.dry_run)
        return config_fault(config, "sync.dry_run", err,
                            "has no meaning with --to; give --dry-run=false");
    struct sync s = {.config = config, .ctx = ctx};
    enum aim aim = aim_of(config);
    if (!aim_check(config, err))
        return false;
    bool ok = aim == AIM_FILE        ? sync_rows(&s, exit_code, err)
              : aim == AIM_API       ? sync_ids(&s, exit_code, err)
              : config->sync.dry_run ? sync_dry_run(&s, exit_code, err)
                                     : sync_index(&s, exit_code, err);

    sync_fini(&s);
    return ok;
}
