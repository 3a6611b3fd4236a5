#include "cmd/serve_table.h"

#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "cmd/sync_columns.h"
#include "cmd/versioning.h"
#include "engine/counts.h"
#include "engine/direct.h"
#include "engine/retry.h"
#include "serve/calls.h"

enum {
    WORKERS = 4,
    MEMORY_BYTES = 24 << 20,
    LOOK_MS = 100,
    LOOKS_PER_FEED = 10,
    SYSTEM_TRIES = 6, /* that this machine fails, one behind the other: some seconds */
};
/* It was accepted: no time without a server ends it. */
static const int64_t PATIENCE_MS = INT64_C(1000) * 86400 * 365;

/* The newest run of an object type. */
struct left {
    bool unfinished; /* it did not come to its end */
    char id[32];
    char type[64];
    char identity[SHA256_HEX_BYTES];
    char *params;
    struct left *next;
};

struct serve_table {
    struct serve_table_options o;
    struct cancel cancel;

    pthread_mutex_t lock; /* guards all below */
    pthread_t thread;
    bool started; /* to be joined */
    bool busy;
    bool stopping;
    char type[64];
    struct serve_types *types; /* of the run: those that its identity names */
    struct run *run;
    char run_id[32];
    int64_t started_us;
    struct direct_progress progress;
    struct left *left; /* of earlier processes, whose turn is still to come; oldest first */

    struct direct_counts fed; /* of the run, what the metrics know; the thread's own */
};

/* ---- its run ---- */

/* What its marks are true for: rows from there, as documents made so. */
static void make_identity(const struct serve_table *t, const struct document *doc,
                          char out[SHA256_HEX_BYTES])
{
    const struct config *c = t->o.config;
    const struct schema *s = plan_schema(doc->plan);
    struct buf b;

    buf_init(&b, 16 << 20);
    for (const char *const *host = c->cassandra.hosts; *host; host++)
        buf_printf(&b, "host=%s\n", *host);
    buf_printf(&b, "port=%lld\nconsistency=%s\ntype=%s\ntable=%s.%s\nindex=%s\n",
               (long long)c->cassandra.port, config_word(c, "cassandra.consistency"),
               plan_object(doc->plan), s->keyspace, s->table, plan_index(doc->plan));
    buf_printf(&b, "mapping=%s %016" PRIx64 "\nversioning=%s\n", doc->mapping->path,
               doc->mapping->content, mapping_versioning_word(plan_versioning(doc->plan)));
    sync_columns_identity(doc, &b);
    hash_sha256_hex(buf_slice(&b), out);
    buf_fini(&b);
}

/* What a client is told it is, and the settings that `failures retry` needs: those of the server,
 * but with one mapping. */
static void add_params(const struct serve_table *t, const struct document *doc,
                       const char *identity, struct buf *out)
{
    const struct schema *s = plan_schema(doc->plan);
    struct arena mem;
    struct err err;
    struct buf all;

    buf_init(&all, 1 << 20);
    config_params_json(t->o.config, FOR_SERVE, &all);
    arena_init(&mem, 16 << 20);
    const struct json *settings = json_parse(buf_slice(&all), &mem, &err);
    ensure(settings);
    buf_add_str(out, "{\"object_type\":");
    json_add_string(out, slice_str(plan_object(doc->plan)));
    buf_printf(out, ",\"table\":\"%s.%s\",\"index\":\"%s\",\"mapping.files\":", s->keyspace,
               s->table, plan_index(doc->plan));
    json_add_string(out, slice_str(doc->mapping->path));
    buf_printf(out, ",\"identity\":\"%s\"", identity);
    json_each (setting, settings) {
        if (slice_is(setting->key, "mapping.files"))
            continue;
        buf_add_byte(out, ',');
        json_add_string(out, setting->key);
        buf_add_byte(out, ':');
        json_write(out, setting);
    }
    buf_add_byte(out, '}');
    arena_fini(&mem);
    buf_fini(&all);
}

static bool begin_run(struct serve_table *t, const struct document *doc, bool fresh, bool *resumed,
                      struct err *err)
{
    char identity[SHA256_HEX_BYTES];
    struct buf params;

    make_identity(t, doc, identity);
    buf_init(&params, 2 << 20);
    add_params(t, doc, identity, &params);
    t->run = run_begin(t->o.journal,
                       &(struct run_spec){.command = SERVE_TABLE_COMMAND,
                                          .identity = identity,
                                          .params = buf_cstr(&params),
                                          .resumable = true,
                                          .fresh = fresh},
                       resumed, err);
    buf_fini(&params);
    if (!t->run)
        return false;
    snprintf(t->run_id, sizeof t->run_id, "%s", run_id(t->run));
    snprintf(t->type, sizeof t->type, "%s", plan_object(doc->plan));
    t->started_us = run_started_us(t->run);
    t->progress = (struct direct_progress){0};
    return true;
}

static uint64_t altered(const struct direct_counts *c)
{
    return c->altered + c->nan_to_null + c->bad_utf8 + c->year_out_of_range + c->bad_json;
}

static void counts_json(struct buf *b, const struct direct_counts *c)
{
    const struct {
        const char *name;
        uint64_t n;
    } list[] = {
        {"rows", c->rows},
        {"filtered", c->filtered},
        {"merged", c->merged},
        {"documents", c->documents},
        {"indexed", c->indexed},
        {"unchanged", c->unchanged},
        {"stale", c->stale},
        {"failed", c->failed},
        {"gone", c->gone},
        {"unread_ranges", c->unread_ranges},
        {"altered", altered(c)},
        {"lookup_missing", c->lookup_missing},
        {"id_collision", c->id_collision},
    };

    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        buf_printf(b, "%s\"%s\":%llu", i ? "," : "", list[i].name, (unsigned long long)list[i].n);
}

/* What was in its way is not of the run. */
static bool can_go_on(int code)
{
    return code == EXIT_INTERRUPTED || code == EXIT_REACH || code == EXIT_MACHINE;
}

/* Stopped, or failed by this machine, it is left to be gone on with at the next start; anything
 * else ends it for good. */
static void end_run(struct serve_table *t, const struct direct_counts *c, const struct err *err)
{
    int code = command_verdict(err, direct_conserved(c), c->failed || c->unread_ranges);
    struct err why = {0};
    struct buf b;

    buf_init(&b, 64 << 10);
    buf_printf(&b, "{\"exit_code\":%d,\"counts\":{", code);
    counts_json(&b, c);
    buf_add_str(&b, "},\"error\":");
    if (err->kind == ERR_NONE)
        buf_add_str(&b, "null");
    else
        json_add_string(&b, slice_str(err->text));
    buf_add_byte(&b, '}');
    LOG(code > EXIT_SOME_FAILED && code != EXIT_INTERRUPTED ? LOG_ERROR : LOG_INFO,
        "whole_table_ended", F_STR("run", t->run_id), F_STR("type", t->type), F_INT("code", code),
        F_INT("documents", c->documents), F_INT("failed", c->failed), F_STR("error", err->text));
    if (code > EXIT_SOME_FAILED && code != EXIT_INTERRUPTED)
        metrics_add(t->o.metrics, METRIC_whole_tables_failed_total, 1);
    if (!run_end(TAKE(t->run), can_go_on(code) ? RUN_INTERRUPTED : RUN_FINISHED, code, buf_cstr(&b),
                 &why))
        LOG(LOG_ERROR, "journal_failed", F_STR("error", why.text));
    buf_fini(&b);
}

/* ---- the work ---- */

/* What the run's counts have grown by since the last time; `fed` are those of a run that is gone on
 * with, at its begin. */
static void feed_metrics(struct serve_table *t)
{
    struct direct_counts now = {0}, *fed = &t->fed;
    struct err ignored = {0}; /* the next time will do */

    if (!counts_read(t->run, direct_count_list, &now, &ignored))
        return;
    const struct {
        enum metric metric;
        uint64_t more;
    } list[] = {
        {METRIC_documents_indexed_total, now.indexed - fed->indexed},
        {METRIC_documents_unchanged_total, now.unchanged - fed->unchanged},
        {METRIC_documents_stale_total, now.stale - fed->stale},
        {METRIC_documents_failed_total, now.failed - fed->failed},
        {METRIC_values_altered_total, altered(&now) - altered(fed)},
        {METRIC_values_bad_json_total, now.bad_json - fed->bad_json},
        {METRIC_lookups_missing_total, now.lookup_missing - fed->lookup_missing},
        {METRIC_id_collisions_total, now.id_collision - fed->id_collision},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        metrics_add(t->o.metrics, list[i].metric, (int64_t)list[i].more);
    t->fed = now;
}

static struct guard *open_guard(struct serve_table *t, const struct serve_types *types,
                                const struct plan *plan, struct err *err)
{
    AUTO(elastic) struct elastic *e = elastic_new(types->keyed.elastic, err);
    struct elastic_version version;
    struct elastic_origin origin;
    struct elastic_index index;
    bool exists;

    if (!e || !elastic_identify(e, &version, err) ||
        !versioning_check(t->o.journal, e, plan, t->o.config->sync.change_versioning, &origin,
                          err) ||
        !versioning_note(t->o.journal, e, &origin, plan, t->run_id, err) ||
        !elastic_index_look(e, plan_index(plan), &index, &exists, err))
        return NULL;
    if (!exists && !elastic_check_index(e, plan_index(plan), err))
        return NULL;
    return guard_new(
        &(struct guard_options){
            .index = index.name,
            .versioning = plan_versioning(plan),
            .clock = t->o.clock,
            .max_skew_us = t->o.config->sync.max_skew_ms * 1000,
            .gc_deletes_ms = index.gc_deletes_ms,
            .primary_term = index.primary_term,
            .lowest_term = index.lowest_term,
        },
        err);
}

static bool sync_table(struct serve_table *t, const struct serve_types *types,
                       const struct plan *plan, struct direct_counts *counts, struct err *err)
{
    AUTO(guard) struct guard *guard = open_guard(t, types, plan, err);
    AUTO(limit)
    struct limit *limit =
        limit_new(&(struct limit_options){.clock = t->o.clock,
                                          .cancel = &t->cancel,
                                          .requests = WORKERS,
                                          .body_bytes = t->o.config->sync.body_bytes});
    struct direct_options o = {
        .run = t->run,
        .clock = t->o.clock,
        .cancel = &t->cancel,
        .retry_budget_ms = PATIENCE_MS,
        .cluster = types->keyed.cluster,
        .plan = plan,
        .elastic = types->keyed.elastic,
        .guard = guard,
        .limit = limit,
        .workers = WORKERS,
        .memory_bytes = MEMORY_BYTES,
    };
    struct direct *d = guard ? direct_start(&o, err) : NULL;

    if (!d)
        return false;
    for (unsigned looks = 1; !direct_wait(d, LOOK_MS); looks++) {
        struct direct_progress p;
        if (looks % LOOKS_PER_FEED == 0)
            feed_metrics(t);
        direct_progress(d, &p);
        pthread_mutex_lock(&t->lock);
        t->progress = p;
        pthread_mutex_unlock(&t->lock);
    }
    bool ok = direct_finish(d, counts, err);
    feed_metrics(t);
    return ok;
}

static bool may_pass(const struct err *err, unsigned *machine)
{
    *machine += err->kind == ERR_SYSTEM;
    return err->kind == ERR_RETRY || err->kind == ERR_REACH ||
           (err->kind == ERR_SYSTEM && *machine < SYSTEM_TRIES);
}

/* The workers of an attempt that failed were told to stop; a stop of the server's stays. */
static void take_back_stop(struct serve_table *t)
{
    pthread_mutex_lock(&t->lock);
    if (!t->stopping)
        cancel_take_back(&t->cancel);
    pthread_mutex_unlock(&t->lock);
}

static void *table_main(void *arg)
{
    struct serve_table *t = arg;
    const struct plan *plan = serve_types_plan(t->types, t->type);
    struct direct_counts counts = {0};
    uint64_t rows = 0;
    unsigned machine = 0;
    struct retry retry;
    struct err err = {0};

    retry_init(&retry, t->o.clock, &t->cancel, PATIENCE_MS);
    t->fed = (struct direct_counts){0};
    counts_read(t->run, direct_count_list, &t->fed, &err);
    err_clear(&err);
    while (!sync_table(t, t->types, plan, &counts, &err)) {
        if (counts.rows > rows) { /* it went on since */
            retry_ok(&retry);
            machine = 0;
        }
        rows = counts.rows;
        if (!may_pass(&err, &machine))
            break;
        take_back_stop(t);
        err.kind = ERR_RETRY;
        LOG(LOG_WARN, "whole_table_waits", F_STR("run", t->run_id), F_STR("error", err.text));
        if (!retry_wait(&retry, 0, &err))
            break;
    }
    end_run(t, &counts, &err);
    serve_types_put(TAKE(t->types));
    metrics_add(t->o.metrics, METRIC_whole_tables_running, -1);
    pthread_mutex_lock(&t->lock);
    t->busy = false;
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- begin and end ---- */

static void left_free(struct left *l)
{
    free(l->params);
    free(l);
}

/* The table was taken anew, which does for the run that is left, too. */
static void drop_left_locked(struct serve_table *t, const char *type)
{
    for (struct left **at = &t->left; *at; at = &(*at)->next) {
        struct left *l = *at;
        if (strcmp(l->type, type) == 0) {
            *at = l->next;
            left_free(l);
            return;
        }
    }
}

static bool start_locked(struct serve_table *t, struct serve_types *types,
                         const struct document *doc, bool fresh, bool *resumed, struct err *err)
{
    if (t->started)
        pthread_join(t->thread, NULL);
    t->started = false;
    if (!begin_run(t, doc, fresh, resumed, err))
        return false;
    t->types = serve_types_ref(types);
    int rc = pthread_create(&t->thread, NULL, table_main, t);
    if (rc != 0) {
        serve_types_put(TAKE(t->types));
        run_abandon(TAKE(t->run));
        return err_set(err, ERR_SYSTEM, "can't start a thread: %s", strerror(rc));
    }
    t->started = t->busy = true;
    metrics_add(t->o.metrics, METRIC_whole_tables_total, 1);
    metrics_add(t->o.metrics, METRIC_whole_tables_running, 1);
    LOG(LOG_INFO, *resumed ? "whole_table_goes_on" : "whole_table_begins", F_STR("run", t->run_id),
        F_STR("type", t->type));
    return true;
}

enum server_table serve_table_begin(struct serve_table *t, const char *type,
                                    char run[WORK_ID_BYTES], struct err *err)
{
    struct serve_types *types = serve_current_get(t->o.current);
    const struct document *doc = serve_types_document(types, type);
    enum server_table taken = TABLE_NOT_KEPT;
    bool resumed;

    if (!doc)
        err_set(err, ERR_USER, "no mapping for object type %s", type);
    pthread_mutex_lock(&t->lock);
    if (t->stopping)
        taken = TABLE_STOPPING;
    else if (t->busy)
        taken = TABLE_BUSY;
    else if (doc && start_locked(t, types, doc, true, &resumed, err))
        taken = TABLE_TAKEN;
    if (taken == TABLE_TAKEN) {
        drop_left_locked(t, type);
        snprintf(run, WORK_ID_BYTES, "%s", t->run_id);
    }
    pthread_mutex_unlock(&t->lock);
    serve_types_put(types);
    return taken;
}

static void copy_param(const struct json *params, const char *name, char *out, size_t size)
{
    struct slice value = json_get_string(params, name);

    snprintf(out, size, "%.*s", (int)value.n, value.p ? (const char *)value.p : "");
}

/* They come newest first; one of the same type that is newer does for the older ones, too. */
static bool look_for_left(void *ctx, const struct run_info *info)
{
    struct left **list = ctx;
    struct left *l;
    struct arena mem;
    struct err err;

    if (strcmp(info->command, SERVE_TABLE_COMMAND) != 0)
        return true;
    l = xalloc(sizeof *l);
    *l = (struct left){.unfinished = info->state != RUN_FINISHED, .params = xstrdup(info->params)};
    arena_init(&mem, 16 << 20);
    const struct json *params = json_parse(slice_str(info->params), &mem, &err);
    snprintf(l->id, sizeof l->id, "%s", info->id);
    copy_param(params, "object_type", l->type, sizeof l->type);
    copy_param(params, "identity", l->identity, sizeof l->identity);
    arena_fini(&mem);
    for (const struct left *newer = *list; newer; newer = newer->next) {
        if (strcmp(newer->type, l->type) == 0) {
            left_free(l);
            return true;
        }
    }
    l->next = *list;
    *list = l;
    return true;
}

/* Nobody can go on with it: whoever asks for it hears where its rows are read. */
static bool end_left(struct serve_table *t, const struct left *left, const char *by,
                     struct err *err)
{
    bool resumed;
    struct run *run = run_begin(t->o.journal,
                                &(struct run_spec){.command = SERVE_TABLE_COMMAND,
                                                   .identity = left->identity,
                                                   .params = left->params,
                                                   .resumable = true},
                                &resumed, err);
    if (!run)
        return false;
    AUTO_STR char *summary =
        xsprintf("{\"exit_code\":%d,\"counts\":{},\"error\":\"its mapping, columns or settings are "
                 "others now: begun from the start as run %s\"}",
                 EXIT_USAGE, by);
    return run_end(run, RUN_FINISHED, EXIT_USAGE, summary, err);
}

static bool go_on_locked(struct serve_table *t, struct serve_types *types,
                         const struct document *doc, const struct left *left, struct err *err)
{
    bool resumed;

    if (!start_locked(t, types, doc, false, &resumed, err))
        return false;
    if (resumed)
        return true;
    LOG(LOG_WARN, "whole_table_begins_anew", F_STR("run", t->run_id), F_STR("left", left->id),
        F_STR("type", left->type),
        F_STR("why", "its mapping, columns or settings are others than when it was begun"));
    return end_left(t, left, t->run_id, err);
}

static bool take_left_locked(struct serve_table *t, const struct left *left, struct err *err)
{
    struct serve_types *types = serve_current_get(t->o.current);
    const struct document *doc = serve_types_document(types, left->type);
    const char *why = !doc ? "its type is not served any more"
                      : !t->o.config->serve.whole_table
                          ? "--whole-table allow is not given any more"
                          : NULL;
    bool ok = why || go_on_locked(t, types, doc, left, err);

    serve_types_put(types);
    if (why)
        LOG(LOG_WARN, "whole_table_left", F_STR("run", left->id), F_STR("type", left->type),
            F_STR("error", why));
    return ok;
}

bool serve_table_next(struct serve_table *t, struct err *err)
{
    bool ok = true;

    pthread_mutex_lock(&t->lock);
    while (ok && t->left && !t->busy && !t->stopping) {
        struct left *l = t->left;
        t->left = l->next;
        ok = !l->unfinished || take_left_locked(t, l, err);
        left_free(l);
    }
    pthread_mutex_unlock(&t->lock);
    return ok;
}

bool serve_table_resume(struct serve_table *t, struct err *err)
{
    return journal_each_run(t->o.journal, look_for_left, &t->left, err) && serve_table_next(t, err);
}

struct serve_table *serve_table_new(const struct serve_table_options *o, struct err *err)
{
    struct serve_table *t = xalloc(sizeof *t);

    t->o = *o;
    pthread_mutex_init(&t->lock, NULL);
    if (cancel_init(&t->cancel, err))
        return t;
    pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

void serve_table_stop(struct serve_table *t)
{
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_mutex_unlock(&t->lock);
    cancel_fire(&t->cancel, 1);
}

bool serve_table_idle(struct serve_table *t)
{
    pthread_mutex_lock(&t->lock);
    bool idle = !t->busy;
    pthread_mutex_unlock(&t->lock);
    return idle;
}

void serve_table_stop_now(struct serve_table *t)
{
    serve_table_stop(t);
    cancel_fire(&t->cancel, 2);
}

void serve_table_free(struct serve_table *t)
{
    if (!t)
        return;
    serve_table_stop(t);
    if (t->started)
        pthread_join(t->thread, NULL);
    while (t->left) {
        struct left *next = t->left->next;
        left_free(t->left);
        t->left = next;
    }
    cancel_fini(&t->cancel);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- for who asks ---- */

struct asked {
    const char *id;
    struct buf *out;
    bool found;
};

/* The settings are not for clients. */
static void describe_what(struct buf *b, const struct run_info *info)
{
    static const char *const names[] = {"object_type", "table", "index"};
    struct arena mem;
    struct err err;

    arena_init(&mem, 16 << 20);
    const struct json *params = json_parse(slice_str(info->params), &mem, &err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct json *value = json_get(params, names[i]);
        buf_printf(b, "%c\"%s\":", i ? ',' : '{', names[i]);
        if (value)
            json_write(b, value);
        else
            buf_add_str(b, "null");
    }
    buf_add_byte(b, '}');
    arena_fini(&mem);
}

static void describe_ended(struct buf *b, const struct run_info *info)
{
    static const char *const states[] = {
        [RUN_RUNNING] = "interrupted", [RUN_INTERRUPTED] = "interrupted", [RUN_FINISHED] = "done"};

    buf_printf(b, "{\"run\":\"%s\",\"state\":\"%s\",\"of\":", info->id, states[info->state]);
    describe_what(b, info);
    buf_add_str(b, ",\"acceptedAt\":");
    calls_add_time(b, info->started_us);
    buf_add_str(b, ",\"endedAt\":");
    if (info->ended_us)
        calls_add_time(b, info->ended_us);
    else
        buf_add_str(b, "null");
    buf_printf(b, ",\"summary\":%s}", info->summary[0] ? info->summary : "null");
}

static bool ask_run(void *ctx, const struct run_info *info)
{
    struct asked *a = ctx;

    if (strcmp(info->id, a->id) != 0)
        return true;
    a->found = strcmp(info->command, SERVE_TABLE_COMMAND) == 0;
    if (a->found)
        describe_ended(a->out, info);
    return false;
}

bool serve_table_describe(struct serve_table *t, const char *run, struct buf *out, bool *found,
                          struct err *err)
{
    struct asked a = {.id = run, .out = out};

    pthread_mutex_lock(&t->lock);
    *found = t->busy && strcmp(run, t->run_id) == 0;
    if (*found) {
        buf_printf(out,
                   "{\"run\":\"%s\",\"objectType\":\"%s\",\"state\":\"running\",\"acceptedAt\":",
                   t->run_id, t->type);
        calls_add_time(out, t->started_us);
        buf_printf(out, ",\"rows\":%llu,\"estimatedRows\":%llu,\"failed\":%llu}",
                   (unsigned long long)(t->progress.before + t->progress.done),
                   (unsigned long long)t->progress.total, (unsigned long long)t->progress.failed);
    }
    pthread_mutex_unlock(&t->lock);
    if (*found)
        return true;
    bool ok = journal_each_run(t->o.journal, ask_run, &a, err);
    *found = a.found;
    return ok;
}
