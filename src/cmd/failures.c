/*
 * cmd/failures.c - `cass2es failures`: what a run could not do, and what to do about it.
 */
#include "cmd/failures.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/map.h"
#include "base/text.h"
#include "cmd/hints.h"

enum { LINE_MAX_BYTES = 64 << 20 };

void failed_run_fini(struct failed_run *r)
{
    free(r->command);
    free(r->params);
    free(r->summary);
}

/* ---- the run ----------------------------------------------------------------------------------
 */

struct finding {
    const char *id; /* NULL: the newest that is none of our own retries */
    struct failed_run *run;
};

static bool find_one(void *ctx, const struct run_info *info)
{
    struct finding *f = ctx;

    if (f->id ? strcmp(f->id, info->id) != 0 : strcmp(info->command, "retry") == 0)
        return true;
    snprintf(f->run->id, sizeof f->run->id, "%s", info->id);
    f->run->command = xstrdup(info->command);
    f->run->params = xstrdup(info->params);
    f->run->summary = xstrdup(info->summary);
    return false;
}

static bool find_run(const struct config *config, struct journal *journal, const char *id,
                     struct failed_run *run, struct err *err)
{
    struct finding f = {.id = id, .run = run};

    if (journal && !journal_each_run(journal, find_one, &f, err))
        return false;
    if (run->id[0])
        return true;
    return id ? err_set(err, ERR_USER, "no run %s in %s", id, config->run.state_dir)
              : err_set(err, ERR_USER, "no runs in %s", config->run.state_dir);
}

/* ---- list and show ----------------------------------------------------------------------------
 */

struct cause {
    uint64_t count;
    char *key; /* of the first */
    char *text;
};

struct listing {
    const struct config *config;
    struct cancel *cancel;
    struct map causes; /* reason -> struct cause */
    struct buf line;
    uint64_t shown;
};

static bool is_asked_for(const struct config *c, const char *reason)
{
    return !c->failures.reason || strcmp(c->failures.reason, reason) == 0;
}

static bool count_failure(void *ctx, const struct failure_info *f)
{
    struct listing *l = ctx;

    if (!is_asked_for(l->config, f->reason))
        return true;
    struct map_entry *e = map_put(&l->causes, slice_str(f->reason), NULL);
    struct cause *cause = e->value;

    if (!cause) {
        cause = e->value = xalloc(sizeof *cause);
        cause->key = xstrdup(f->key);
        cause->text = xstrdup(f->text);
    }
    cause->count++;
    return cancel_level(l->cancel) == 0;
}

static void print(struct buf *text)
{
    fwrite(text->p, 1, text->len, stdout);
    buf_reset(text);
}

static bool show_failure(void *ctx, const struct failure_info *f)
{
    struct listing *l = ctx;
    struct buf *line = &l->line;
    uint64_t limit = (uint64_t)l->config->sync.limit;

    if (!is_asked_for(l->config, f->reason))
        return true;
    if (l->config->output.json) {
        buf_add_str(line, "{\"key\":");
        json_add_string(line, slice_str(f->key));
        if (*f->object) {
            buf_add_str(line, ",\"object\":");
            json_add_string(line, slice_str(f->object));
        }
        buf_add_str(line, ",\"reason\":");
        json_add_string(line, slice_str(f->reason));
        buf_add_str(line, ",\"text\":");
        json_add_string(line, slice_str(f->text));
        buf_add_str(line, ",\"at\":\"");
        runs_add_time(line, f->at_us);
        buf_add_str(line, "\"}\n");
    } else {
        buf_printf(line, "%s\t%s\t%s\n", f->key, f->reason, f->text);
    }
    print(line);
    l->shown++;
    return (!limit || l->shown < limit) && cancel_level(l->cancel) == 0;
}

static void add_cause_json(struct buf *line, const char *run, const struct map_entry *e)
{
    const struct cause *cause = e->value;

    buf_printf(line, "{\"run\":\"%s\",\"reason\":", run);
    json_add_string(line, e->key);
    buf_printf(line, ",\"count\":%llu,\"key\":", (unsigned long long)cause->count);
    json_add_string(line, slice_str(cause->key));
    buf_add_str(line, ",\"example\":");
    json_add_string(line, slice_str(cause->text));
    buf_add_str(line, ",\"hint\":");
    json_add_string(line, slice_str(hint_of((const char *)e->key.p)));
    buf_add_str(line, "}\n");
}

/* Most frequent first. */
static int by_count(const void *a, const void *b)
{
    const struct cause *x = (*(const struct map_entry *const *)a)->value;
    const struct cause *y = (*(const struct map_entry *const *)b)->value;

    return x->count > y->count ? -1 : x->count < y->count;
}

static void print_causes(struct listing *l, const char *run)
{
    struct buf *line = &l->line;
    const struct map_entry **order = xalloc((l->causes.len + 1) * sizeof *order);

    for (size_t i = 0; i < l->causes.len; i++)
        order[i] = &l->causes.entries[i];
    qsort(order, l->causes.len, sizeof *order, by_count);
    if (!l->config->output.json)
        buf_printf(line, "run %s: %s\n", run, l->causes.len ? "failures by reason" : "no failures");
    for (size_t i = 0; i < l->causes.len; i++) {
        const struct cause *cause = order[i]->value;
        const char *reason = (const char *)order[i]->key.p;

        if (l->config->output.json)
            add_cause_json(line, run, order[i]);
        else
            buf_printf(line, "%10llu  %-20s  %s\n            such as %.200s\n            %s\n",
                       (unsigned long long)cause->count, reason, cause->text, cause->key,
                       hint_of(reason));
    }
    if (!l->config->output.json && l->causes.len)
        buf_printf(line, "each: cass2es failures show %s; again: cass2es failures retry %s\n", run,
                   run);
    print(line);
    free(order);
}

static void free_causes(struct map *causes)
{
    for (size_t i = 0; i < causes->len; i++) {
        struct cause *cause = causes->entries[i].value;

        free(cause->key);
        free(cause->text);
        free(cause);
    }
    map_fini(causes);
}

static bool list(const struct config *config, struct context *ctx, struct journal *journal,
                 const struct failed_run *run, bool causes, struct err *err)
{
    struct listing l = {.config = config, .cancel = &ctx->cancel};

    buf_init(&l.line, LINE_MAX_BYTES);
    map_init(&l.causes);
    bool ok =
        journal_each_failure(journal, run->id, causes ? count_failure : show_failure, &l, err);
    if (ok && causes)
        print_causes(&l, run->id);
    free_causes(&l.causes);
    buf_fini(&l.line);
    return ok;
}

/* ---- drop ------------------------------------------------------------------------------------ */

static bool drop(const struct config *config, struct journal *journal, const struct failed_run *run,
                 struct err *err)
{
    uint64_t count;

    if (!journal_drop_failures(journal, run->id, config->failures.reason, &count, err))
        return false;
    if (config->output.json)
        printf("{\"run\":\"%s\",\"dropped\":%llu}\n", run->id, (unsigned long long)count);
    else
        printf("run %s: dropped %llu %s\n", run->id, (unsigned long long)count,
               count == 1 ? "failure" : "failures");
    return true;
}

/* ---- command --------------------------------------------------------------------------------- */

static bool failures_run(const struct config *config, struct context *ctx, int *exit_code,
                         struct err *err)
{
    const char *verb = config->operands[0] ? config->operands[0] : "list";
    const char *id = config->operands[0] ? config->operands[1] : NULL;
    struct failed_run run = {0};
    bool reads = !strcmp(verb, "list") || !strcmp(verb, "show");

    if (!reads && strcmp(verb, "drop") != 0 && strcmp(verb, "retry") != 0)
        return err_set(err, ERR_USER, "%s: list, show, retry or drop is expected", verb);
    if (!reads && !id)
        return err_set(err, ERR_USER, "%s: of which run? cass2es runs lists them", verb);
    struct journal *journal = runs_open(config, ctx, err);
    if (!journal && err->kind != ERR_NONE)
        return false;
    bool ok = find_run(config, journal, id, &run, err);
    if (ok && reads)
        ok = list(config, ctx, journal, &run, !strcmp(verb, "list"), err);
    else if (ok && !strcmp(verb, "drop"))
        ok = drop(config, journal, &run, err);
    else if (ok)
        ok = failures_retry(config, ctx, journal, &run, exit_code, err);
    failed_run_fini(&run);
    if (journal)
        journal_close(journal);
    return ok;
}

const struct command command_failures = {
    .name = "failures",
    .summary = "What a run could not do: by reason, one by one; try it again",
    .usage = "[list [RUN] | show [RUN] | retry RUN | drop RUN] [--reason REASON] [OPTION...]",
    .details =
        "list counts a run's failures by reason, with an example of each and what to do; show "
        "gives every one: key, reason and what was said, separated by tabs. Without RUN both are "
        "of "
        "the newest run; retry and drop want it named. With --json, one object per line.\n\n"
        "retry reads the rows of the failures again, as they are now, and writes or sends them "
        "with the settings of that run; what is given on this command line comes before those. "
        "Passwords and keys are not kept: they come from the environment, the configuration file "
        "or flags, as ever. What succeeds is no failure of that run any more, what fails again "
        "stays with its new reason. drop forgets failures. Both take --reason.\n\n"
        "What a safety brake did not delete is left alone by retry (exit 7), unless --reason brake "
        "asks for it; then, too, the brake lets no more pass than in a run of its own.",
    .id = FOR_FAILURES,
    .max_operands = 2,
    .signals = true,
    .run = failures_run,
};
