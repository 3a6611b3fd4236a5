/*
 * cmd/sync_index_ids.c - cass2es sync --index --id-file: the rows of given ids as documents.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/id_file.h"
#include "cmd/sync_index.h"

enum {
    BLOCK_IDS = 200,            /* a round of keyed */
    BLOCK_BYTES = 1 << 20,      /* of ids, at most */
    MEMORY_PARTS_PER_WORKER = 6 /* of the budget: see keyed_options.memory_bytes */
};

struct index_ids {
    struct direct_sync *d;
    struct job_plan plan;
    struct ids *ids;
    struct brake *brake;
};

/* An id is the columns of the select: a text, or an object of several. */
bool sync_index_plan_ids(const struct direct_sync *d, struct job_plan *p, struct err *err)
{
    const struct plan *plan = d->doc.plan;
    const struct schema *schema = d->doc.schema;
    uint16_t count = plan_select_count(plan);

    if (count > IDS_KEY_MAX)
        return err_set(err, ERR_USER, "ids of more than %d columns can't be read", IDS_KEY_MAX);
    *p = (struct job_plan){.form = count == 1 ? JOB_STRINGS : JOB_OBJECTS,
                           .count = count,
                           .keep_objects = true,
                           .wanted_column = -1};
    for (uint16_t i = 0; i < count; i++) {
        p->columns[i] = plan_select_column(plan, i);
        p->names[i] = p->fields[i] = schema->columns[p->columns[i]].name;
        p->types[i] = schema->columns[p->columns[i]].type;
    }
    return true;
}

static bool some_failed(const struct index_ids *x, const struct job_counts *c)
{
    bool report = x->d->s->config->sync.missing == MISSING_REPORT;

    return c->documents_failed || c->bad || (report && c->missing);
}

static int verdict(struct index_ids *x, const struct job_counts *c, const struct err *err)
{
    int code = command_verdict(err, job_conserved(c), some_failed(x, c));
    bool ended = code == EXIT_DONE || code == EXIT_SOME_FAILED;

    return ended && x->brake && brake_pulled(x->brake, NULL, 0) ? EXIT_BRAKE : code;
}

static bool run_ids(struct index_ids *x, struct job_counts *counts, struct err *err)
{
    static const enum keyed_missing missing[] = {[MISSING_REPORT] = KEYED_REPORT,
                                                 [MISSING_KEEP] = KEYED_KEEP,
                                                 [MISSING_DELETE] = KEYED_DELETE};
    struct direct_sync *d = x->d;
    const struct config *c = d->s->config;
    unsigned workers = index_workers(c, d->doc.plan);
    const struct plan *plans[] = {d->doc.plan, NULL};
    struct guard *guards[] = {d->guard, NULL};
    struct pause pause;
    struct keyed_options keyed = {
        .cluster = d->s->cluster,
        .elastic = &d->elastic,
        .plans = plans,
        .guards = guards,
        .limit = d->limit,
        .pause = &pause,
        .missing = missing[c->sync.missing],
        .brake = x->brake,
        .clock = &d->s->ctx->clock,
        .cancel = &d->s->ctx->cancel,
        .retry_budget_ms = c->run.retry_budget_ms,
        .strict_values = c->sync.strict_values,
        .memory_bytes = c->sync.memory_bytes / (workers * (size_t)MEMORY_PARTS_PER_WORKER),
    };
    struct job_options o = {
        .run = d->s->run,
        .clock = &d->s->ctx->clock,
        .cancel = &d->s->ctx->cancel,
        .retry_budget_ms = c->run.retry_budget_ms,
        .form = x->plan.form,
        .field_names = x->plan.fields,
        .field_count = x->plan.count,
        .keep_objects = true,
        .wanted_column = -1,
        .ids = x->ids,
        .key_types = x->plan.types,
        .keyed = &keyed,
        .workers = workers,
        .block_ids = BLOCK_IDS,
        .max_body_bytes = BLOCK_BYTES,
        .object_type = plan_object(d->doc.plan),
    };
    pause_init(&pause, plan_index(d->doc.plan), o.clock);
    struct job *job = job_start(&o, err);
    bool ok = job && sync_watch_job(d->s, job, counts, err);
    if (ok)
        pause_done(&pause);
    pause_fini(&pause);
    return ok;
}

static const struct {
    const char *name; /* in JSON */
    const char *text;
    size_t at;
    bool always;
} rows[] = {
#define ROW(field, text, always) {#field, text, offsetof(struct job_counts, field), always}
    ROW(ids, "ids", true),
    ROW(duplicate, "duplicate", false),
    ROW(bad, "bad", false),
    ROW(missing, "missing", false),
    ROW(deleted, "  deleted", false),
    ROW(kept, "  left as they are", false),
    ROW(ids_found, "found", true),
    ROW(rows, "rows", true),
    ROW(filtered, "filtered", false),
    ROW(merged, "merged", false),
    ROW(documents, "documents", true),
    ROW(indexed, "indexed", true),
    ROW(unchanged, "unchanged", false),
    ROW(stale, "stale: newer ones are there", false),
    ROW(documents_failed, "failed", true),
    ROW(altered, "altered values", false),
    ROW(id_collision, "rows with the _id of another", false),
    ROW(lookup_missing, "rows of other tables missing", false),
#undef ROW
};

static uint64_t count_at(const struct job_counts *c, size_t at)
{
    return *(const uint64_t *)((const char *)c + at);
}

static void add_json(struct index_ids *x, struct buf *b, const struct job_counts *c, int exit_code)
{
    buf_printf(b, "{\"run\":\"%s\",\"exit_code\":%d,\"index\":", run_id(x->d->s->run), exit_code);
    json_add_string(b, slice_str(plan_index(x->d->doc.plan)));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        buf_printf(b, ",\"%s\":%llu", rows[i].name, (unsigned long long)count_at(c, rows[i].at));
    buf_add_byte(b, '}');
}

static void add_text(struct index_ids *x, struct buf *b, const struct job_counts *c, bool finished)
{
    struct direct_sync *d = x->d;
    struct show_table t = {0};
    char why[200] = "";

    buf_printf(b, "ids of %s.%s to index %s: %s\n", d->doc.schema->keyspace, d->doc.schema->table,
               plan_index(d->doc.plan), finished ? "all ids read" : "not finished");
    show_row(&t, "run", "%s%s", run_id(d->s->run), d->s->resumed ? " (went on)" : "");
    show_row(&t, "id file", "%s", d->s->config->ids.file);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].always || count_at(c, rows[i].at))
            show_row_count(&t, rows[i].text, count_at(c, rows[i].at));
    show_table_end(&t, b);
    bool braked = x->brake && brake_pulled(x->brake, why, sizeof why);
    if (braked)
        buf_printf(b, "\nThe brake was pulled, and nothing more was deleted: %s\n", why);
    if (c->documents_failed)
        buf_add_str(b, "Of failed documents the older version, if any, is still in the index.\n");
    if (some_failed(x, c) || braked) /* what the brake left is a failure, too */
        sync_add_failures(d->s, b);
}

static void say(struct index_ids *x, const struct job_counts *counts, int exit_code, bool ok,
                struct buf *json)
{
    struct buf text;

    buf_init(&text, 64 << 10);
    add_json(x, json, counts, exit_code);
    if (x->d->s->config->output.json) {
        buf_add_slice(&text, buf_slice(json));
        buf_add_byte(&text, '\n');
    } else {
        add_text(x, &text, counts, ok);
        if (!ok)
            sync_add_how_to_go_on(x->d->s, exit_code, &text);
    }
    sync_print(&text, false);
    buf_fini(&text);
}

static bool open_brake(struct index_ids *x, struct err *err)
{
    struct sync *s = x->d->s;
    int64_t deleted = 0;

    if (s->config->sync.missing != MISSING_DELETE)
        return true;
    if (!run_count(s->run, "deleted", &deleted, err))
        return false;
    /* The share is of all the file's ids: missing ones may stand together at its start. */
    x->brake = brake_new(&(struct brake_options){
        .clock = &s->ctx->clock, .ids = ids_file(x->ids)->count, .missing = (uint64_t)deleted});
    return true;
}

static bool sync_parts(struct index_ids *x, int *exit_code, struct err *err)
{
    struct sync *s = x->d->s;
    bool spooled = strcmp(s->config->ids.file, "-") == 0;
    struct job_counts counts = {0};
    struct buf json;

    if (!sync_index_plan_ids(x->d, &x->plan, err))
        return false;
    if (!spooled && !(x->ids = id_file_open(s, &x->plan, err)))
        return false;
    AUTO_STR char *identity = direct_sync_identity(x->d);
    if (!direct_sync_begin(x->d, identity, err))
        return false;
    if (spooled)
        x->ids = id_file_open_stdin(s, &x->plan, err);
    if (!x->ids || !id_file_note(s, x->ids, err) || !open_brake(x, err)) {
        sync_end(s, "{}", command_exit_code(err->kind), err);
        return false;
    }
    bool ok = run_ids(x, &counts, err);
    *exit_code = verdict(x, &counts, err);
    buf_init(&json, 64 << 10);
    say(x, &counts, *exit_code, ok, &json);
    if (sync_end(s, buf_cstr(&json), *exit_code, err) && ok && spooled) {
        AUTO_STR char *spool = id_state_file(s, "stdin");
        unlink(spool);
    }
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

bool sync_index_ids(struct direct_sync *d, int *exit_code, struct err *err)
{
    struct index_ids x = {.d = d};
    bool ok = sync_parts(&x, exit_code, err);

    if (x.ids)
        ids_close(x.ids);
    if (x.brake)
        brake_free(x.brake);
    return ok;
}
