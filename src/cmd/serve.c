/*
 * cmd/serve.c - `cass2es serve`: Sunbird's Sync API, written to Elasticsearch.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "cmd/screen.h"
#include "cmd/serve_table.h"
#include "cmd/serve_types.h"
#include "engine/keyed.h"
#include "engine/retry.h"
#include "http/client.h"
#include "mapping/plan.h"
#include "serve/keys.h"
#include "serve/server.h"
#include "serve/work.h"

enum {
    /* A call that finds nobody is given back to the queue's worker after this time, so that
     * /health/ready tells of it; it is tried again without end. */
    CALL_BUDGET_MS = 30000,
    PROBE_MS = 1000,       /* is Elasticsearch there? per address */
    PROBE_EVERY_MS = 2000, /* is Cassandra? */
    TICK_MS = 500,
    PRUNE_MS = 300000,
    GRACE_LOOK_MS = 20,
};

/* Of one reload; the server and its queue may look at any of them. */
struct names {
    const char *list[MAX_MAPPINGS + 1];
    struct names *next;
};

struct serve {
    const struct config *config;
    struct context *ctx;
    struct cancel stop; /* of the workers: fired when the grace is over */
    struct serve_current current;
    struct names *names;
    struct keyed_scans scans;
    struct journal *journal;
    struct run *run;
    struct cql_cluster *cluster;
    struct elastic_options elastic;
    struct metrics metrics;
    struct keys *keys;
    struct serve_table *table;
    struct work *work;
    struct server *server;
    int64_t pruned_ms;

    pthread_mutex_t probe_lock; /* guards the three below, held while Cassandra is asked */
    struct cql_session *probe;
    int64_t probed_ms;
    char probe_error[256];
};

static atomic_bool hung_up; /* the handler runs on any thread */

static void on_hangup(int number)
{
    (void)number;
    atomic_store(&hung_up, true);
}

static void free_names(struct names *n)
{
    while (n) {
        struct names *next = n->next;
        for (char **at = (char **)n->list; *at; at++)
            free(*at);
        free(n);
        n = next;
    }
}

static void serve_fini(struct serve *s)
{
    server_stop(s->server);
    serve_table_free(s->table);
    if (s->work)
        work_drain(s->work);
    work_free(s->work);
    run_abandon(s->run);
    serve_types_put(s->current.types);
    if (s->probe)
        cql_session_free(s->probe);
    if (s->cluster)
        cql_cluster_free(s->cluster);
    journal_close(s->journal);
    keys_free(s->keys);
    free_names(s->names);
    cancel_fini(&s->stop);
    pthread_mutex_destroy(&s->probe_lock);
    pthread_mutex_destroy(&s->current.lock);
}

/* ---- start ---- */

static bool begin_run(struct serve *s, struct err *err)
{
    struct buf params;
    bool resumed;

    s->journal = connect_journal(s->config, s->ctx, true, err);
    if (!s->journal)
        return false;
    buf_init(&params, 1 << 20);
    config_params_json(s->config, FOR_SERVE, &params);
    /* One per state folder, whatever its settings: what was accepted under other settings must not
     * be left behind. */
    struct run_spec spec = {
        .command = "serve", .identity = "serve", .params = buf_cstr(&params), .resumable = true};
    s->run = run_begin(s->journal, &spec, &resumed, err);
    buf_fini(&params);
    if (!s->run)
        return err_wrap(err, "state folder %s", s->config->run.state_dir);
    if (resumed)
        LOG(LOG_INFO, "resume", F_STR("run", run_id(s->run)));
    return true;
}

/* ---- the workers' side: keyed, of the mappings of the moment ---- */

struct serve_worker {
    struct serve *serve;
    struct serve_types *types;
    struct keyed *keyed;
};

static void close_worker(void *worker)
{
    struct serve_worker *w = worker;

    keyed_free(w->keyed);
    serve_types_put(w->types);
    free(w);
}

/* What was begun keeps its plans; what begins now takes those of now. */
static bool renew(struct serve_worker *w, struct err *err)
{
    struct serve_types *now = serve_current_get(&w->serve->current);

    if (w->keyed && now == w->types) {
        serve_types_put(now);
        return true;
    }
    keyed_free(TAKE(w->keyed));
    serve_types_put(w->types);
    w->types = now;
    w->keyed = keyed_open(&now->keyed, err);
    return w->keyed != NULL;
}

static void *open_worker(void *ctx, struct err *err)
{
    struct serve_worker *w = xalloc(sizeof *w);

    w->serve = ctx;
    if (renew(w, err))
        return w;
    close_worker(w);
    return NULL;
}

static bool sync_ids(void *worker, const char *object_type, const struct json *ids,
                     struct keyed_result *results, struct err *err)
{
    struct serve_worker *w = worker;

    return renew(w, err) && keyed_sync(w->keyed, object_type, ids, results, err);
}

/* ---- mappings and keys, at the start and later ---- */

static struct keyed_options keyed_options(struct serve *s)
{
    const struct config *c = s->config;
    int64_t budget_ms = c->run.retry_budget_ms;

    return (struct keyed_options){
        .cluster = s->cluster,
        .elastic = &s->elastic,
        .scans = c->serve.filter_scan ? &s->scans : NULL,
        .clock = &s->ctx->clock,
        .cancel = &s->stop,
        .retry_budget_ms = budget_ms < CALL_BUDGET_MS ? budget_ms : CALL_BUDGET_MS,
    };
}

static void take_types(struct serve *s, struct serve_types *t)
{
    struct names *n = xalloc(sizeof *n);

    for (size_t i = 0; i < t->count; i++)
        n->list[i] = xstrdup(t->docs[i].mapping->object);
    n->next = s->names;
    s->names = n;
    serve_current_set(&s->current, t);
    if (s->work)
        work_set_types(s->work, n->list);
    if (s->server)
        server_set_types(s->server, n->list);
}

static bool read_types(struct serve *s, struct err *err)
{
    struct keyed_options keyed = keyed_options(s);
    struct serve_types *t = serve_types_load(s->config, err);

    if (t && serve_types_open(t, s->config, s->journal, run_id(s->run), &keyed, err)) {
        take_types(s, t);
        return true;
    }
    serve_types_put(t);
    return false;
}

static void refresh_keys(struct serve *s, bool force)
{
    struct err err = {0};
    bool changed;

    if (!s->keys)
        return;
    if (!keys_refresh(s->keys, force, &changed, &err))
        LOG(LOG_ERROR, "keys_not_taken", F_STR("error", err.text));
    else if (changed)
        LOG(LOG_INFO, "keys_changed");
}

static void reload(struct serve *s)
{
    struct err err = {0};
    bool ok = read_types(s, &err);

    if (ok)
        LOG(LOG_INFO, "reloaded", F_INT("types", s->current.types->count));
    else
        LOG(LOG_ERROR, "reload_failed", F_STR("error", err.text));
    metrics_add(&s->metrics, ok ? METRIC_reloads_total : METRIC_reloads_failed_total, 1);
    refresh_keys(s, true);
}

/* Calls and failures of long ago are forgotten, at the start and now and then: the run is one for
 * the server's life, and the journal must not grow as long. */
static void prune(struct serve *s)
{
    const struct config *c = s->config;
    int64_t now_ms = clock_mono_ms(&s->ctx->clock);
    int64_t keep_s = c->run.keep_runs_ms / 1000;
    uint64_t keep = (uint64_t)c->serve.keep_ids;
    uint64_t failures = 0;
    struct err err = {0};

    if (s->pruned_ms && now_ms < s->pruned_ms + PRUNE_MS)
        return;
    s->pruned_ms = now_ms;
    if (!journal_prune(s->journal, keep_s, &err) ||
        !journal_prune_calls(s->journal, keep_s, keep, &err) ||
        !run_prune_failures(s->run, keep_s, keep, &failures, &err))
        LOG(LOG_WARN, "journal_not_pruned", F_STR("error", err.text));
    if (failures)
        LOG(LOG_INFO, "failures_forgotten", F_INT("failures", (int64_t)failures));
}

static void count_scans(struct serve *s)
{
    struct metrics *m = &s->metrics;

    atomic_store(&m->value[METRIC_filter_scans_total], (int64_t)atomic_load(&s->scans.scans));
    atomic_store(&m->value[METRIC_filter_scan_rows_total], (int64_t)atomic_load(&s->scans.rows));
}

static void tick(struct serve *s)
{
    struct err err = {0};

    if (atomic_exchange(&hung_up, false))
        reload(s);
    if (!serve_table_next(s->table, &err))
        LOG(LOG_ERROR, "whole_table_left", F_STR("error", err.text));
    refresh_keys(s, false);
    count_scans(s);
    prune(s);
}

/* ---- what the server asks ---- */

/* Asked at most every PROBE_EVERY_MS, by one at a time; others hear what was heard last. */
static bool ask_cassandra(void *ctx, char *why, size_t why_size)
{
    static const char text[] = "SELECT key FROM system.local";
    struct serve *s = ctx;
    struct cql_query q = {.text = text, .consistency = CQL_ONE};
    struct err err = {0};
    cql_ticket ticket;
    struct page page;

    pthread_mutex_lock(&s->probe_lock);
    int64_t now_ms = clock_mono_ms(&s->ctx->clock);
    bool due = !s->probed_ms || now_ms >= s->probed_ms + PROBE_EVERY_MS;
    if (due && !s->probe)
        s->probe = cql_session_open(s->cluster, &err);
    if (due && s->probe && cql_send(s->probe, &q, &ticket, &err)) {
        cql_take(s->probe, ticket, &page, &err);
        cql_release(s->probe, ticket);
    }
    if (due) {
        s->probed_ms = clock_mono_ms(&s->ctx->clock);
        snprintf(s->probe_error, sizeof s->probe_error, "%.255s",
                 err.kind == ERR_NONE ? "" : err.text);
    }
    bool well = !s->probe_error[0];
    if (!well)
        snprintf(why, why_size, "Cassandra can't be asked: %s", s->probe_error);
    pthread_mutex_unlock(&s->probe_lock);
    return well;
}

static enum server_table begin_table(void *ctx, const char *type, char run[WORK_ID_BYTES],
                                     struct err *err)
{
    struct serve *s = ctx;

    return serve_table_begin(s->table, type, run, err);
}

static bool describe_table(void *ctx, const char *run, struct buf *out, bool *found,
                           struct err *err)
{
    struct serve *s = ctx;

    return serve_table_describe(s->table, run, out, found, err);
}

/* False: it would have to be looked for in the whole table. What is no id at all is not said here.
 */
static bool is_keyed(const struct plan *plan, const struct json *id, struct arena *mem,
                     struct err *err)
{
    struct plan_query q;
    const char *reason;
    struct err why;

    if (!plan_query(plan, id, mem, &q, &reason, &why) || !q.scans)
        return true;
    return err_set(err, ERR_USER,
                   "has no value for %s of the partition key: the whole table would have to be "
                   "read for it, which this server does not do.",
                   plan_schema(plan)->columns[q.lacks].name);
}

static bool check_ids(void *ctx, const char *type, const struct json *ids, struct err *err)
{
    struct serve *s = ctx;
    struct serve_types *types = serve_current_get(&s->current);
    const struct plan *plan = serve_types_plan(types, type);
    bool by_text = plan && plan_select_column(plan, 0) >= plan_partition_count(plan);
    struct arena mem;
    size_t at = 0;
    bool ok = true;

    arena_init(&mem, 16 << 20);
    for (const struct json *id = plan ? ids->first : NULL; ok && id; id = id->next, at++) {
        arena_reset(&mem);
        if (by_text || id->kind == JSON_OBJECT)
            ok = is_keyed(plan, id, &mem, err) || err_wrap(err, "objectIds[%zu]", at);
    }
    arena_fini(&mem);
    serve_types_put(types);
    return ok;
}

static bool ids_scan(void *worker, const char *type, const struct json *ids)
{
    const struct serve_worker *w = worker;
    struct err why = {0};

    return !check_ids(w->serve, type, ids, &why);
}

static bool start_work(struct serve *s, struct err *err)
{
    struct work_options o = {
        .backend = {.ctx = s,
                    .open = open_worker,
                    .sync = sync_ids,
                    .scans = s->config->serve.filter_scan ? ids_scan : NULL,
                    .close = close_worker},
        .run = s->run,
        .clock = &s->ctx->clock,
        .cancel = &s->stop,
        .types = s->names->list,
        .threads = (unsigned)s->config->serve.threads,
        .queue_ids = (uint64_t)s->config->serve.queue_ids,
        .metrics = &s->metrics,
    };

    s->work = work_start(&o, err);
    return s->work != NULL;
}

/* No address of Elasticsearch takes a connection. Any answer, and silence after a request, is not
 * that. */
static bool is_unreachable(void *ctx)
{
    const struct serve *s = ctx;
    struct http_options o = {
        .ca_file = s->elastic.ca_file,
        .user_agent = "cass2es",
        .connect_timeout_ms = PROBE_MS,
        .request_timeout_ms = 2 * PROBE_MS,
        .max_answer_bytes = 1 << 20,
        .clock = s->elastic.clock,
        .cancel = s->elastic.cancel,
    };
    struct err err;
    AUTO(http_client) struct http_client *c = http_client_new(&o, &err);

    for (const char *const *url = s->elastic.urls; c && *url; url++) {
        struct http_request r = {.method = "GET", .url = *url};
        struct http_answer answer;
        bool sent = true;
        if (http_call(c, &r, &answer, &sent, &err) || err.kind != ERR_RETRY || sent)
            return false;
    }
    return c != NULL;
}

static bool start_server(struct serve *s, struct err *err)
{
    static const enum syncapi_dialect dialects[] = {[DIALECT_AUTO] = SYNCAPI_AUTO,
                                                    [DIALECT_LMS] = SYNCAPI_LMS,
                                                    [DIALECT_USERORG] = SYNCAPI_USERORG};
    const struct config *c = s->config;
    struct server_options o = {
        .listen = c->serve.listen,
        .max_body_bytes = c->serve.max_body_bytes,
        .sync_timeout_ms = c->serve.sync_timeout_ms,
        .client_timeout_ms = c->serve.client_timeout_ms,
        .max_connections = (unsigned)c->serve.max_connections,
        .queue_ids = (size_t)c->serve.queue_ids,
        .rules = {.dialect = dialects[c->serve.dialect],
                  .types = s->names->list,
                  .whole_table = c->serve.whole_table},
        .work = s->work,
        .journal = s->journal,
        .keys = s->keys,
        .hooks = {.ctx = s,
                  .unreachable = is_unreachable,
                  .cassandra = ask_cassandra,
                  .whole_table = begin_table,
                  .table_run = describe_table,
                  .keyed_ids = c->serve.filter_scan ? NULL : check_ids},
        .clock = &s->ctx->clock,
        .metrics = &s->metrics,
    };

    s->server = server_start(&o, err);
    if (!s->server)
        return false;
    LOG(LOG_INFO, "listening", F_STR("address", server_address(s->server)),
        F_STR("run", run_id(s->run)));
    return true;
}

static bool start_table(struct serve *s, struct err *err)
{
    s->table = serve_table_new(&(struct serve_table_options){.config = s->config,
                                                             .journal = s->journal,
                                                             .current = &s->current,
                                                             .clock = &s->ctx->clock,
                                                             .metrics = &s->metrics},
                               err);
    return s->table && serve_table_resume(s->table, err);
}

static bool open_keys(struct serve *s, struct err *err)
{
    if (!s->config->serve.keys_file)
        return true;
    s->keys = keys_open(s->config->serve.keys_file, err);
    return s->keys != NULL;
}

static bool start_all(struct serve *s, struct err *err)
{
    /* What is wrong in a file is said before anything else is done. */
    struct serve_types *looked_at = serve_types_load(s->config, err);

    if (!looked_at)
        return false;
    serve_types_put(looked_at);
    if (!open_keys(s, err) || !begin_run(s, err))
        return false;
    s->cluster = connect_cassandra(s->config, s->ctx, err);
    if (!s->cluster)
        return false;
    connect_elastic(s->config, s->ctx, &s->elastic);
    return read_types(s, err) && start_work(s, err) && start_table(s, err) && start_server(s, err);
}

/* ---- end ---- */

static bool add_summary(struct serve *s, uint64_t left, struct buf *json, struct show_table *table,
                        struct err *err)
{
    static const char *const names[] = {
        "calls",    "ids",    "duplicate", "bad",     "missing",   "found", "refused", "rows",
        "filtered", "merged", "documents", "indexed", "unchanged", "stale", "failed",
    };

    buf_printf(json, "{\"run\":\"%s\"", run_id(s->run));
    show_row(table, "run", "%s", run_id(s->run));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t n;
        if (!run_count(s->run, names[i], &n, err))
            return false;
        buf_printf(json, ",\"%s\":%lld", names[i], (long long)n);
        show_row_count(table, names[i], (uint64_t)n);
    }
    buf_printf(json, ",\"waiting\":%llu}", (unsigned long long)left);
    show_row_count(table, "waiting", left);
    return true;
}

static bool end_run(struct serve *s, uint64_t left, int exit_code, struct err *err)
{
    struct show_table table = {0};
    struct buf json;
    struct buf text;

    buf_init(&json, 64 << 10);
    buf_init(&text, 64 << 10);
    bool ok = add_summary(s, left, &json, &table, err);
    show_table_end(&table, &text);
    if (ok) {
        if (s->config->output.json)
            printf("%s\n", buf_cstr(&json));
        else
            printf("Stopped.\n%s", buf_cstr(&text));
        if (left && !s->config->output.json)
            printf("\nIds that wait are in the journal: the next start goes on with them.\n");
        ok = run_end(TAKE(s->run), left ? RUN_INTERRUPTED : RUN_FINISHED, exit_code,
                     buf_cstr(&json), err);
    }
    buf_fini(&json);
    buf_fini(&text);
    return ok;
}

/* What was taken is worked off, and the page of a whole table, for as long as the grace lasts; new
 * calls hear that we stop. Who waits for a server after that waits no longer: an answer may never
 * come. */
static void finish_taken(struct serve *s)
{
    bool idle;
    struct deadline grace = deadline_in(&s->ctx->clock, s->config->serve.grace_ms);
    struct err err;

    LOG(LOG_INFO, "stopping", F_INT("grace_ms", s->config->serve.grace_ms));
    while (!(idle = work_idle(s->work) && serve_table_idle(s->table)) &&
           deadline_left_ms(&s->ctx->clock, grace) > 0 && cancel_level(&s->ctx->cancel) < 2)
        retry_pause(&s->ctx->clock, &s->stop, GRACE_LOOK_MS, &err);
    cancel_fire(&s->stop, idle ? 1 : 2);
    if (idle)
        return;
    cancel_fire(&s->ctx->cancel, 2); /* where connections look */
    serve_table_stop_now(s->table);
}

static bool stop_all(struct serve *s, int *exit_code, struct err *err)
{
    bool balanced = true;
    uint64_t left = 0;

    work_refuse(s->work);
    serve_table_stop(s->table);
    finish_taken(s);
    work_drain(s->work);
    server_stop(TAKE(s->server));
    serve_table_free(TAKE(s->table));
    if (!work_stop(s->work, &left, &balanced, err))
        return false;
    *exit_code = !balanced ? EXIT_DEFECT : left ? EXIT_INTERRUPTED : EXIT_DONE;
    return end_run(s, left, *exit_code, err);
}

static bool serve_run(const struct config *config, struct context *ctx, int *exit_code,
                      struct err *err)
{
    struct serve s = {.config = config, .ctx = ctx};
    struct sigaction hangup = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    struct err stop;

    pthread_mutex_init(&s.current.lock, NULL);
    pthread_mutex_init(&s.probe_lock, NULL);
    if (!cancel_init(&s.stop, err))
        return false;
    signal(SIGXFSZ, SIG_IGN); /* a limit on the journal's size is an error of the call */
    sigaction(SIGHUP, &hangup, NULL);
    bool ok = start_all(&s, err);
    if (ok) {
        while (retry_pause(&ctx->clock, &ctx->cancel, TICK_MS, &stop))
            tick(&s);
        ok = stop_all(&s, exit_code, err);
    }
    serve_fini(&s);
    return ok;
}

const struct command command_serve = {
    .name = "serve",
    .summary = "Be the Sync API: take calls with ids, index their documents",
    .usage = "--mapping FILE|PROFILE,... [OPTION...]",
    .details =
        "Serves POST /v1/data/sync, /data/v1/index/sync and /api/data/v1/index/sync as Sunbird's\n"
        "lms-service and userorg-service do, for the object types of the mappings given, and\n"
        "/health/live, /health/ready, /metrics. What became of a call says GET .../runs/ID, ID "
        "being\n"
        "the header X-Cass2es-Run of its answer.\n"
        "\n"
        "A call is answered when its ids are safe in the journal. SIGTERM refuses new calls and "
        "works\n"
        "off those taken, for --grace; what still waits then (exit 130), or after a crash, is "
        "worked\n"
        "off at the next start. SIGHUP reads mappings, tables and keys again. There is one server "
        "per\n"
        "state folder.",
    .id = FOR_SERVE,
    .signals = true,
    .run = serve_run,
};
