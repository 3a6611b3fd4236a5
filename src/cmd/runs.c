/*
 * cmd/runs.c - `cass2es runs`: what the journal knows of runs, for people and programs.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/json.h"
#include "base/text.h"
#include "cmd/runs.h"
#include "journal/journal.h"

enum { LINE_MAX_BYTES = 64 << 20 };

/* ---- opening --------------------------------------------------------------------------------- */

struct journal *runs_open(const struct config *config, struct context *ctx, struct err *err)
{
    AUTO_STR char *file = xsprintf("%s/journal.db", config->run.state_dir);
    struct stat st;

    err_clear(err);
    if (stat(file, &st) != 0 && errno == ENOENT)
        return NULL;
    return journal_open(config->run.state_dir, false, &ctx->clock, err);
}

void runs_add_time(struct buf *out, int64_t us)
{
    char text[32];
    struct tm tm;
    time_t s = (time_t)(us / 1000000);

    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &tm));
    buf_add_str(out, text);
}

static const char *state_name(const struct run_info *run)
{
    switch (run->state) {
    case RUN_RUNNING:
        return run->pid ? "running" : "stopped"; /* its process is gone: resumable */
    case RUN_INTERRUPTED:
        return "interrupted";
    case RUN_FINISHED:
        break;
    }
    return "finished";
}

/* JSON from the journal as it is, anything else as a string; nothing is null. */
static void add_json_text(struct buf *out, const char *text)
{
    struct arena mem;
    struct err err;

    arena_init(&mem, 16 << 20);
    if (!text || !*text)
        buf_add_str(out, "null");
    else if (json_parse(slice_str(text), &mem, &err))
        buf_add_str(out, text);
    else
        json_add_string(out, slice_str(text));
    arena_fini(&mem);
}

static void add_run_json(struct buf *out, const struct run_info *run)
{
    buf_printf(out, "{\"id\":\"%s\",\"command\":\"%s\",\"state\":\"%s\",\"exit_code\":", run->id,
               run->command, state_name(run));
    if (run->state == RUN_FINISHED)
        text_add_i64(out, run->exit_code);
    else
        buf_add_str(out, "null");
    buf_add_str(out, ",\"started\":\"");
    runs_add_time(out, run->started_us);
    buf_add_str(out, run->ended_us ? "\",\"ended\":\"" : "\",\"ended\":null");
    if (run->ended_us) {
        runs_add_time(out, run->ended_us);
        buf_add_byte(out, '"');
    }
    buf_printf(out, ",\"pid\":%ld,\"params\":", run->pid);
    add_json_text(out, run->params);
    buf_add_str(out, ",\"summary\":");
    add_json_text(out, run->summary);
    buf_add_str(out, "}\n");
}

static void print(struct buf *text)
{
    fwrite(text->p, 1, text->len, stdout);
    buf_reset(text);
}

/* ---- runs ------------------------------------------------------------------------------------ */

struct search {
    const char *id;   /* NULL: the newest */
    const char *only; /* a command's name; NULL: any */
    char found[32];   /* "" when there is none */
    struct buf line;
    bool json;
    uint64_t count;
};

static bool list_one(void *ctx, const struct run_info *run)
{
    struct search *s = ctx;

    s->count++;
    if (s->json) {
        add_run_json(&s->line, run);
    } else {
        if (s->count == 1)
            buf_printf(&s->line, "%-22s %-8s %-11s %4s  %-20s  %s\n", "RUN", "COMMAND", "STATE",
                       "EXIT", "STARTED", "ENDED");
        buf_printf(&s->line, "%-22s %-8s %-11s ", run->id, run->command, state_name(run));
        if (run->state == RUN_FINISHED)
            buf_printf(&s->line, "%4d  ", run->exit_code);
        else
            buf_add_str(&s->line, "   -  ");
        runs_add_time(&s->line, run->started_us);
        buf_add_str(&s->line, "  ");
        if (run->ended_us)
            runs_add_time(&s->line, run->ended_us);
        else if (run->pid)
            buf_printf(&s->line, "by process %ld", run->pid);
        buf_add_byte(&s->line, '\n');
    }
    print(&s->line);
    return true;
}

/* {"a":1,"b":"x"} as "  a  1" lines. */
static void add_members(struct buf *out, const char *title, const char *text)
{
    struct arena mem;
    struct err err;

    if (!text || !*text)
        return;
    arena_init(&mem, 16 << 20);
    const struct json *tree = json_parse(slice_str(text), &mem, &err);
    buf_printf(out, "%s:\n", title);
    if (tree && tree->kind == JSON_OBJECT) {
        json_each (m, tree) {
            buf_printf(out, "  %-26s ", (const char *)m->key.p);
            if (m->kind == JSON_STRING)
                buf_add_slice(out, m->text);
            else
                json_write(out, m);
            buf_add_byte(out, '\n');
        }
    } else {
        buf_printf(out, "  %s\n", text);
    }
    arena_fini(&mem);
}

static bool show_one(void *ctx, const struct run_info *run)
{
    struct search *s = ctx;

    if (s->id && strcmp(s->id, run->id) != 0)
        return true;
    snprintf(s->found, sizeof s->found, "%s", run->id);
    if (s->json) {
        add_run_json(&s->line, run);
    } else {
        buf_printf(&s->line, "run      %s\ncommand  %s\nstate    %s", run->id, run->command,
                   state_name(run));
        if (run->state == RUN_FINISHED)
            buf_printf(&s->line, ", exit %d", run->exit_code);
        else if (run->pid)
            buf_printf(&s->line, ", process %ld", run->pid);
        buf_add_str(&s->line, "\nstarted  ");
        runs_add_time(&s->line, run->started_us);
        if (run->ended_us) {
            buf_add_str(&s->line, "\nended    ");
            runs_add_time(&s->line, run->ended_us);
        }
        buf_add_byte(&s->line, '\n');
        add_members(&s->line, "settings", run->params);
        add_members(&s->line, "summary", run->summary);
    }
    print(&s->line);
    return false;
}

/* Operands are [list | show] [RUN]. */
static bool read_operands(const struct config *config, bool *list, const char **id, struct err *err)
{
    const char *verb = config->operands[0] ? config->operands[0] : "list";

    *list = !strcmp(verb, "list");
    *id = config->operands[0] ? config->operands[1] : NULL;
    if (!*list && strcmp(verb, "show") != 0)
        return err_set(err, ERR_USER, "%s: list or show is expected", verb);
    return true;
}

static bool runs_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    struct search s = {.json = config->output.json};
    bool list;

    (void)exit_code;
    if (!read_operands(config, &list, &s.id, err))
        return false;
    if (list && s.id)
        return err_set(err, ERR_USER, "unexpected argument %s: a run is shown by runs show", s.id);
    struct journal *journal = runs_open(config, ctx, err);
    if (!journal && err->kind != ERR_NONE)
        return false;
    buf_init(&s.line, LINE_MAX_BYTES);
    bool ok = !journal || journal_each_run(journal, list ? list_one : show_one, &s, err);
    if (ok && !list && !s.found[0])
        ok = s.id ? err_set(err, ERR_USER, "no run %s in %s", s.id, config->run.state_dir)
                  : err_set(err, ERR_USER, "no runs in %s", config->run.state_dir);
    if (ok && list && !s.count && !s.json)
        printf("no runs in %s\n", config->run.state_dir);
    buf_fini(&s.line);
    if (journal)
        journal_close(journal);
    return ok;
}

const struct command command_runs = {
    .name = "runs",
    .summary = "List past and present runs, or show one",
    .usage = "[list | show [RUN]] [OPTION...]",
    .details =
        "list gives one line per run, newest first; show gives the settings and the summary of "
        "one, the newest when none is named. With --json, one object per line. A run that is "
        "stopped or interrupted goes on when the same command is given again.",
    .id = FOR_RUNS,
    .max_operands = 2,
    .run = runs_run,
};
