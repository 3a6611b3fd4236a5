/*
 * cmd/serve.c - `cass2es serve`: Sunbird's Sync API, written to Elasticsearch.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/connect.h"
#include "cmd/document.h"
#include "cmd/screen.h"
#include "engine/keyed.h"
#include "engine/retry.h"
#include "http/client.h"
#include "mapping/plan.h"
#include "serve/server.h"
#include "serve/work.h"

enum {
    MAX_MAPPINGS = 64,
    /* A call that finds nobody is given back to the queue's worker after this time, so that
     * /health/ready tells of it; it is tried again without end. */
    CALL_BUDGET_MS = 30000,
    PROBE_MS = 1000, /* is Elasticsearch there? per address */
};

struct serve {
    const struct config *config;
    struct context *ctx;
    struct document types[MAX_MAPPINGS];
    size_t type_count;
    const struct plan *plans[MAX_MAPPINGS + 1];
    struct guard *guards[MAX_MAPPINGS];
    const char *names[MAX_MAPPINGS + 1];
    struct journal *journal;
    struct run *run;
    struct cql_cluster *cluster;
    struct elastic_options elastic;
    struct keyed_options keyed;
    struct metrics metrics;
    struct work *work;
    struct server *server;
};

static void serve_fini(struct serve *s)
{
    server_stop(s->server);
    if (s->work)
        work_drain(s->work);
    work_free(s->work);
    run_abandon(s->run);
    for (size_t i = 0; i < s->type_count; i++) {
        guard_free(s->guards[i]);
        document_fini(&s->types[i]);
    }
    if (s->cluster)
        cql_cluster_free(s->cluster);
    journal_close(s->journal);
}

/* ---- mappings ---- */

static bool load_mapping(struct serve *s, const char *name, struct err *err)
{
    struct document *t = &s->types[s->type_count];

    if (s->type_count == MAX_MAPPINGS)
        return config_fault(s->config, "mapping.files", err, "more than %d", MAX_MAPPINGS);
    if (!document_load(t, s->config, name, err))
        return false;
    s->type_count++;
    for (size_t i = 0; s->types[i].mapping != t->mapping; i++) {
        if (strcmp(s->types[i].mapping->object, t->mapping->object) == 0)
            return mapping_error(t->mapping, t->mapping->object_at, err,
                                 "object type %s is described in %s, too", t->mapping->object,
                                 s->types[i].mapping->path);
    }
    s->names[s->type_count - 1] = t->mapping->object;
    return true;
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

static void *open_keyed(void *ctx, struct err *err)
{
    return keyed_open(ctx, err);
}

static bool sync_keyed(void *worker, const char *object_type, const struct json *ids,
                       struct keyed_result *results, struct err *err)
{
    return keyed_sync(worker, object_type, ids, results, err);
}

static void close_keyed(void *worker)
{
    keyed_free(worker);
}

static void fill_options(struct serve *s)
{
    const struct config *c = s->config;
    int64_t budget_ms = c->run.retry_budget_ms;

    connect_elastic(c, s->ctx, &s->elastic);
    s->keyed = (struct keyed_options){
        .cluster = s->cluster,
        .elastic = &s->elastic,
        .plans = s->plans,
        .guards = s->guards,
        .clock = &s->ctx->clock,
        .cancel = &s->ctx->cancel,
        .retry_budget_ms = budget_ms < CALL_BUDGET_MS ? budget_ms : CALL_BUDGET_MS,
    };
}

static bool open_guard(struct serve *s, struct elastic *e, size_t i, struct err *err)
{
    struct elastic_index index;
    bool exists;

    if (!elastic_index_look(e, plan_index(s->plans[i]), &index, &exists, err))
        return false;
    if (!exists)
        return elastic_check_index(e, plan_index(s->plans[i]), err);
    s->guards[i] = guard_new(
        &(struct guard_options){
            .index = plan_index(s->plans[i]),
            .versioning = plan_versioning(s->plans[i]),
            .clock = &s->ctx->clock,
            .max_skew_us = s->config->sync.max_skew_ms * 1000,
            .gc_deletes_ms = index.gc_deletes_ms,
            .primary_term = index.primary_term,
            .lowest_term = index.lowest_term,
        },
        err);
    return s->guards[i] && guard_check_clock(s->guards[i], s->cluster, err);
}

/* What an operator has wrong is said at the start, not by the first call. */
static bool check_all(struct serve *s, struct err *err)
{
    AUTO(keyed) struct keyed *k = keyed_open(&s->keyed, err);

    if (!k || !keyed_check(k, err))
        return false;
    AUTO(elastic) struct elastic *e = elastic_new(&s->elastic, err);
    for (size_t i = 0; e && i < s->type_count; i++) {
        enum mapping_versioning v = plan_versioning(s->plans[i]);
        if ((v == VERSIONING_READ_TIME || v == VERSIONING_WRITE_TIME) && !open_guard(s, e, i, err))
            return false;
    }
    return e != NULL;
}

static bool start_work(struct serve *s, struct err *err)
{
    struct work_options o = {
        .backend = {.ctx = &s->keyed, .open = open_keyed, .sync = sync_keyed, .close = close_keyed},
        .run = s->run,
        .clock = &s->ctx->clock,
        .cancel = &s->ctx->cancel,
        .types = s->names,
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
        .rules = {.dialect = dialects[c->serve.dialect], .types = s->names},
        .work = s->work,
        .unreachable = is_unreachable,
        .unreachable_ctx = s,
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

static bool start_all(struct serve *s, struct err *err)
{
    const char *const *mapping = s->config->mapping.files;

    for (; *mapping; mapping++) {
        if (!load_mapping(s, *mapping, err))
            return false;
    }
    if (!begin_run(s, err))
        return false;
    s->cluster = connect_cassandra(s->config, s->ctx, err);
    if (!s->cluster)
        return false;
    for (size_t i = 0; i < s->type_count; i++) {
        if (!document_compile(&s->types[i], s->config, s->cluster, err))
            return false;
        s->plans[i] = s->types[i].plan;
    }
    fill_options(s);
    return check_all(s, err) && start_work(s, err) && start_server(s, err);
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

static bool stop_all(struct serve *s, int *exit_code, struct err *err)
{
    bool balanced = true;
    uint64_t left = 0;

    LOG(LOG_INFO, "stopping");
    work_drain(s->work);
    server_stop(TAKE(s->server));
    if (!work_stop(s->work, &left, &balanced, err))
        return false;
    *exit_code = !balanced ? EXIT_DEFECT : left ? EXIT_INTERRUPTED : EXIT_DONE;
    return end_run(s, left, *exit_code, err);
}

static bool serve_run(const struct config *config, struct context *ctx, int *exit_code,
                      struct err *err)
{
    struct serve s = {.config = config, .ctx = ctx};
    struct err stop;

    signal(SIGXFSZ, SIG_IGN); /* a limit on the journal's size is an error of the call */
    bool ok = start_all(&s, err);
    if (ok) {
        while (retry_pause(&ctx->clock, &ctx->cancel, INT32_MAX, &stop))
            ;
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
        "/health/live, /health/ready, /metrics.\n"
        "\n"
        "A call is answered when its ids are safe in the journal. SIGTERM ends what is in flight;\n"
        "what still waits then (exit 130), or after a crash, is worked off at the next start. "
        "There\n"
        "is one server per state folder.",
    .id = FOR_SERVE,
    .signals = true,
    .run = serve_run,
};
