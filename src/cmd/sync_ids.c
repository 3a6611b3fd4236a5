/*
 * cmd/sync_ids.c - the job: ids from a table or a file to the Sync API, or to syncIds.csv.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/connect.h"
#include "cmd/id_file.h"
#include "cmd/job_plan.h"
#include "cmd/job_text.h"
#include "cmd/sync.h"
#include "engine/job.h"

enum { API_ANSWER_MAX_BYTES = 4 << 20 };

static struct idset *open_wanted(struct sync *s, bool *complete, struct err *err)
{
    AUTO_STR char *path = id_state_file(s, "wanted");
    AUTO_STR char *note = NULL;

    if (!run_note(s->run, "wanted", &note, err))
        return NULL;
    struct idset *set = idset_open(path, complete, err);
    if (set && *complete && !note) {
        /* Filled, but not counted: once more. */
        idset_remove(set);
        set = idset_open(path, complete, err);
    }
    return set;
}

/* ---- the job ----------------------------------------------------------------------------------
 */

struct job_parts {
    struct job_plan plan;
    struct ids *ids;
    struct idset *wanted;
    bool wanted_complete;
    struct joblog *log;
    char *url;
    char *csv_path;
};

static void job_parts_fini(struct job_parts *p)
{
    if (p->ids)
        ids_close(p->ids);
    if (p->wanted)
        idset_free(p->wanted);
    if (p->log)
        joblog_close(p->log);
    free(p->url);
    free(p->csv_path);
}

/* What is about to happen, before it does. */
static void log_job(const struct sync *s, const struct job_parts *parts)
{
    const struct config *c = s->config;
    AUTO_STR char *table = s->schema && (!parts->ids || parts->wanted)
                               ? xsprintf("%s.%s", s->schema->keyspace, s->schema->table)
                               : xstrdup("");

    LOG(LOG_INFO, "job", F_STR("object_type", c->sync.object_type), F_STR("table", table),
        F_STR("id_file", c->ids.file ? c->ids.file : ""),
        F_STR("to", parts->url ? parts->url : parts->csv_path),
        F_INT("block_size", c->sync_api.block_size), F_INT("pause_ms", c->sync_api.pause_ms),
        F_INT("workers", c->sync.workers ? c->sync.workers : API_WORKERS));
}

static bool run_job(struct sync *s, struct job_parts *parts, struct job_counts *counts,
                    struct err *err)
{
    const struct config *c = s->config;
    struct syncapi_options api = {
        .url = parts->url,
        .object_type = c->sync.object_type,
        .key = secret_text(&c->sync_api.key),
        .await = c->sync_api.await,
        .max_body_bytes = c->sync_api.max_body_bytes,
        .http = {.ca_file = c->sync_api.ca_file,
                 .user_agent = "cass2es/" CASS2ES_VERSION,
                 .connect_timeout_ms = (int)c->http.connect_timeout_ms,
                 .request_timeout_ms = (int)c->http.request_timeout_ms,
                 .max_answer_bytes = API_ANSWER_MAX_BYTES,
                 .clock = &s->ctx->clock,
                 .cancel = &s->ctx->cancel},
    };
    bool from_table = !parts->ids || parts->wanted;
    struct job_options o = {
        .run = s->run,
        .clock = &s->ctx->clock,
        .cancel = &s->ctx->cancel,
        .retry_budget_ms = c->run.retry_budget_ms,
        .form = parts->plan.form,
        .field_names = parts->plan.fields,
        .field_count = parts->plan.count,
        .keep_objects = parts->plan.keep_objects,
        .cluster = s->cluster,
        .schema = from_table ? s->schema : NULL,
        .columns = parts->plan.columns,
        .scan_workers = (unsigned)c->sync.scan_workers,
        .wanted_column = parts->wanted ? parts->plan.wanted_column : -1,
        .wanted = parts->wanted,
        .wanted_complete = parts->wanted_complete,
        .ids = parts->ids,
        .key_types = !s->schema      ? NULL
                     : parts->wanted ? &parts->plan.wanted_type
                                     : parts->plan.types,
        .api = c->sync.dry_run ? NULL : &api,
        .log = parts->log,
        .workers = c->sync.workers ? (unsigned)c->sync.workers : API_WORKERS,
        .pause_ms = c->sync_api.pause_ms,
        .csv_path = parts->csv_path,
        .block_ids = (uint32_t)c->sync_api.block_size,
        .max_body_bytes = c->sync_api.max_body_bytes,
        .object_type = c->sync.object_type,
    };
    struct job *job = job_start(&o, err);

    if (!job)
        return false;
    return sync_watch_job(s, job, counts, err);
}

/* The table is needed for a scan; with an id file it only serves to check the ids, as far as it can
 * be reached. */
static bool open_source(struct sync *s, struct err *err)
{
    const struct config *c = s->config;

    if (!c->ids.file && !c->cassandra.table)
        return err_set(
            err, ERR_USER,
            "what to sync? Give a table (--table, or --context_param sunbird_cassandra_table=...) "
            "or a file of ids (--id-file, or --context_param sunbird_sync_id_file=...)");
    if (c->ids.file && !c->ids.column && c->ids.form != ID_FORM_OBJECT &&
        !(c->cassandra.table && c->cassandra.hosts[0]))
        return true;
    s->cluster = connect_cassandra(c, s->ctx, err);
    if (s->cluster)
        s->schema = connect_table(c, s->cluster, err);
    if (s->schema)
        return true;
    if (!c->ids.file || c->ids.column || c->ids.form == ID_FORM_OBJECT ||
        (err->kind != ERR_REACH && err->kind != ERR_RETRY))
        return false;
    LOG(LOG_WARN, "ids_not_checked", F_STR("why", err->text));
    err_clear(err);
    if (s->cluster)
        cql_cluster_free(TAKE(s->cluster));
    return true;
}

static bool open_sink(struct sync *s, struct job_parts *parts, struct err *err)
{
    const struct config *c = s->config;

    if (c->sync.dry_run) {
        parts->csv_path = xstrdup("syncIds.csv");
        return true;
    }
    if (!config_need(c, "sync_api.endpoint", err))
        return false;
    if (!strstr(c->sync_api.endpoint, "://"))
        LOG(LOG_INFO, "https_assumed", F_STR("endpoint", c->sync_api.endpoint));
    parts->url = syncapi_endpoint(c->sync_api.endpoint, err);
    if (!parts->url)
        return config_fault(c, "sync_api.endpoint", err, "%s", err->text);
    if (syncapi_key_exposed(parts->url, secret_text(&c->sync_api.key)))
        LOG(LOG_WARN, "key_in_clear", F_STR("endpoint", parts->url),
            F_STR("do", "use https://: the key can be read on the way"));
    return true;
}

static bool open_ids(struct sync *s, struct job_parts *parts, struct err *err)
{
    parts->ids = id_file_open(s, &parts->plan, err);
    return parts->ids != NULL;
}

static bool open_run_parts(struct sync *s, struct job_parts *parts, struct err *err)
{
    const struct config *c = s->config;

    if (c->ids.file && !parts->ids) {
        parts->ids = id_file_open_stdin(s, &parts->plan, err);
        if (!parts->ids)
            return false;
    }
    if (parts->ids && !id_file_note(s, parts->ids, err))
        return false;
    if (parts->plan.wanted_name) {
        parts->wanted = open_wanted(s, &parts->wanted_complete, err);
        if (!parts->wanted)
            return false;
    }
    if (!c->sync.dry_run)
        parts->log = joblog_open(c->run.log_dir, run_started_us(s->run) / 1000, 0, err);
    return c->sync.dry_run || parts->log != NULL;
}

static void remove_state_files(struct sync *s, struct job_parts *parts)
{
    AUTO_STR char *spool = id_state_file(s, "stdin");

    unlink(spool);
    if (parts->wanted)
        idset_remove(TAKE(parts->wanted));
}

static void say_job(struct sync *s, struct job_parts *parts, const struct job_counts *counts,
                    int exit_code, bool ok, struct buf *json)
{
    struct buf text;

    buf_init(&text, 64 << 10);
    job_add_json(s, json, counts, parts->log, parts->csv_path, exit_code);
    if (s->config->output.json) {
        buf_add_slice(&text, buf_slice(json));
        buf_add_byte(&text, '\n');
    } else {
        job_add_text(s, &text, counts, parts->log, parts->csv_path, ok);
        if (!ok && !s->config->sync.dry_run)
            sync_add_how_to_go_on(s, exit_code, &text);
    }
    sync_print(&text, false);
    buf_fini(&text);
}

/* KEYSPACE.TABLE alone says where from, not where to. */
static bool check_aim_said(const struct config *c, struct err *err)
{
    if (c->sync.object_type || c->sync_api.endpoint || !c->cassandra.table)
        return true;
    return err_set(
        err, ERR_USER,
        "where to? To an index by --index NAME or --mapping FILE, to a file by --to FILE, or to "
        "a Sync API by --object-type TYPE and --endpoint URL");
}

static bool sync_parts(struct sync *s, struct job_parts *parts, int *exit_code, struct err *err)
{
    const struct config *c = s->config;
    struct job_counts counts = {0};
    struct buf json;

    if (!check_aim_said(c, err) || !config_need(c, "sync.object_type", err) ||
        !open_sink(s, parts, err) || !open_source(s, err) || !job_plan_make(s, &parts->plan, err))
        return false;
    if (c->ids.file && strcmp(c->ids.file, "-") != 0 && !open_ids(s, parts, err))
        return false;
    /* The keyspace that was found is part of what is synced; a table that only checks ids is not.
     */
    AUTO_STR char *identity = !c->ids.file || parts->plan.wanted_name
                                  ? xsprintf("table=%s.%s\n", s->schema->keyspace, s->schema->table)
                                  : xstrdup("");
    if (!sync_begin(s, identity, err))
        return false;
    bool ok = open_run_parts(s, parts, err);
    if (!ok) {
        sync_end(s, "{}", command_exit_code(err->kind), err);
        return false;
    }
    log_job(s, parts);
    ok = run_job(s, parts, &counts, err);
    *exit_code =
        command_verdict(err, job_conserved(&counts),
                        counts.failed || counts.bad || counts.given_bad || counts.unread_ranges);
    buf_init(&json, 64 << 10);
    say_job(s, parts, &counts, *exit_code, ok, &json);
    bool ended = sync_end(s, buf_cstr(&json), *exit_code, err);
    /* After the end is journalled: a run that can go on needs them. */
    if (ended && (ok || c->sync.dry_run))
        remove_state_files(s, parts);
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

bool sync_ids(struct sync *s, int *exit_code, struct err *err)
{
    struct job_parts parts = {0};
    bool ok = sync_parts(s, &parts, exit_code, err);

    job_parts_fini(&parts);
    return ok;
}
