/*
 * cmd/retry.c - `cass2es failures retry`: a run's failures once more, as a run of its own.
 *
 * Ids are read and written by engine/keyed, block by block: what a block settles leaves the old
 * run's failures in the transaction that counts it. Ids for the Sync API, and ranges that could not
 * be read, go through the commands that made them; their failures take the place of the old ones
 * at the end.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/failures.h"
#include "cmd/hints.h"
#include "cmd/serve_table.h"
#include "cmd/sync_index.h"
#include "config/load.h"
#include "engine/brake.h"
#include "engine/keyed.h"

enum {
    BLOCK_IDS = 200, /* a round of keyed */
    BLOCK_MEMORY_BYTES = 64 << 20,
    MAX_OBJECTS = 64, /* types of a serve */
};

extern char **environ;

struct nos {
    int64_t *list;
    size_t count, cap;
};

struct again {
    const struct config *now; /* of this command */
    struct config *of;        /* of the old run */
    struct context *ctx;
    struct journal *journal;
    const struct failed_run *run;
    bool served;       /* the old run was a server's */
    bool keys_of_scan; /* a key is that of a row, not an id as somebody gave it */
    bool filter_scan;  /* the server was allowed to look for ids in the whole table */
    struct keyed_scans scans;
    atomic_bool collided;
    /* what is selected */
    uint64_t ids, ranges, left_out, braked;
    struct nos id_nos, range_nos;
    struct interval_set wanted; /* the ranges */
    char *objects[MAX_OBJECTS];
    size_t object_count;
    FILE *spool;         /* ids as lines */
    struct brake *brake; /* NULL: nothing is deleted */
    int worst;           /* exit code */
};

static void again_fini(struct again *a)
{
    if (a->of)
        config_free(a->of);
    for (size_t i = 0; i < a->object_count; i++)
        free(a->objects[i]);
    free(a->id_nos.list);
    free(a->range_nos.list);
    interval_set_fini(&a->wanted);
    if (a->spool)
        fclose(a->spool);
    brake_free(a->brake);
}

/* ---- the settings of the old run ---------------------------------------------------------------
 *
 * Its parameters become flags, and what is said now as a flag comes in their place. Secrets are not
 * among them.
 */

struct words {
    char *list[512];
    int count;
};

static void add_word(struct words *w, const struct option *o, const char *value)
{
    char flag[OPTION_NAME_BYTES];

    ensure(w->count < 511);
    option_flag(o, flag);
    w->list[w->count++] = xsprintf("--%s=%s", flag, value);
}

static const void *field(const struct config *c, const struct option *o)
{
    return (const uint8_t *)c + o->offset;
}

/* As it was said: nothing is masked. */
static void add_said(struct words *w, const struct config *c, const struct option *o)
{
    struct buf text;

    buf_init(&text, 1 << 20);
    if (o->type == OPT_SECRET) {
        const char *secret = secret_text(field(c, o));
        buf_add_str(&text, secret ? secret : "");
    } else if (o->type == OPT_LIST) {
        const char *const *list = *(const char *const *const *)field(c, o);
        for (size_t i = 0; list[i]; i++)
            buf_printf(&text, "%s%s", i ? "," : "", list[i]);
    } else if (o->type == OPT_STRING) {
        const char *s = *(const char *const *)field(c, o);
        buf_add_str(&text, s ? s : "");
    } else {
        config_show(c, o, &text);
    }
    add_word(w, o, buf_cstr(&text));
    memset(text.p, 0, text.len);
    buf_fini(&text);
}

static bool said_now(const struct config *now, const char *name)
{
    return name && config_from(now, name) == FROM_FLAG;
}

/* A file of a secret that is given otherwise now. */
static bool is_replaced_file(const struct config *now, const struct option *o)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *secret = &config_options[i];
        if (secret->secret_file && !strcmp(secret->secret_file, o->name))
            return said_now(now, secret->name);
    }
    return false;
}

static bool is_kept(const struct again *a, const struct option *o)
{
    static const char *const ours[] = {"run.state_dir",
                                       "sync.fresh",
                                       "sync.limit",
                                       "ids.file",
                                       "ids.csv_column",
                                       "ids.column",
                                       "sync.change_versioning",
                                       NULL};

    if (o->type == OPT_SECRET || !(o->commands & FOR_SYNC) || !strncmp(o->name, "log.", 4) ||
        !strncmp(o->name, "output.", 7))
        return false;
    for (const char *const *name = ours; *name; name++)
        if (!strcmp(o->name, *name))
            return false;
    if (said_now(a->now, o->name) || is_replaced_file(a->now, o))
        return false;
    /* What was kept has no password. */
    return !o->url || !config_said(a->now, o->name);
}

static bool add_kept(struct again *a, struct words *w, const struct json *params)
{
    json_each (m, params) {
        const struct option *o = option_find((const char *)m->key.p);
        struct buf text;

        if (!o || !is_kept(a, o))
            continue;
        buf_init(&text, 1 << 20);
        if (m->kind == JSON_STRING)
            buf_add_slice(&text, m->text);
        else
            json_write(&text, m);
        add_word(w, o, buf_cstr(&text));
        buf_fini(&text);
    }
    return true;
}

static void add_now(struct again *a, struct words *w)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];
        bool by_file = o->type == OPT_SECRET && said_now(a->now, o->secret_file);

        if (o->commands & FOR_SYNC && said_now(a->now, o->name) && !by_file)
            add_said(w, a->now, o);
    }
    add_word(w, option_find("run.state_dir"), a->now->run.state_dir);
}

static char *spool_path(const struct again *a)
{
    return xsprintf("%s/retry-%s%s%s.ids", a->now->run.state_dir, a->run->id,
                    a->now->failures.reason ? "-" : "",
                    a->now->failures.reason ? a->now->failures.reason : "");
}

static const struct json *old_params(const struct again *a, struct arena *mem, struct err *err)
{
    const struct json *params = json_parse(slice_str(a->run->params), mem, err);

    if (params && params->kind == JSON_OBJECT)
        return params;
    err_set(err, ERR_USER, "the settings of run %s can't be read", a->run->id);
    return NULL;
}

/* with_ids: the spool is its file of ids. */
static bool load_settings(struct again *a, bool with_ids, struct err *err)
{
    struct words w = {0};
    struct arena mem;
    AUTO_STR char *dir =
        a->now->mapping.profiles_dir ? xstrdup(a->now->mapping.profiles_dir) : NULL;

    arena_init(&mem, 16 << 20);
    const struct json *params = old_params(a, &mem, err);
    if (params) {
        add_kept(a, &w, params);
        add_now(a, &w);
        if (with_ids) {
            AUTO_STR char *path = spool_path(a);
            add_word(&w, option_find("ids.file"), path);
        }
        if (dir && !json_get(params, "mapping.profiles_dir"))
            add_word(&w, option_find("mapping.profiles_dir"), dir);
        struct config_input in = {.command = FOR_SYNC,
                                  .command_name = "failures retry",
                                  .argc = w.count,
                                  .argv = w.list,
                                  .env = environ,
                                  .default_file = a->now->config_file};
        if (a->of)
            config_free(TAKE(a->of));
        a->of = config_load(&in, err);
        if (!a->of)
            err_wrap(err, "settings of run %s", a->run->id);
    }
    while (w.count)
        free(w.list[--w.count]);
    arena_fini(&mem);
    return a->of != NULL;
}

/* ---- which failures ----------------------------------------------------------------------------
 */

static void add_no(struct nos *n, int64_t no)
{
    if (n->count == n->cap) {
        n->cap = n->cap ? 2 * n->cap : 256;
        n->list = xrealloc(n->list, n->cap * sizeof *n->list);
    }
    n->list[n->count++] = no;
}

static bool is_range(const struct failure_info *f, long long *start, long long *end)
{
    return !strcmp(f->reason, "unread_range") &&
           sscanf(f->key, "token %lld..%lld", start, end) == 2 && *start < *end;
}

/* Not deleted by a brake: left so until somebody has looked, and asks for it. */
static bool is_braked(const struct again *a, const struct failure_info *f)
{
    return !a->now->failures.reason && strcmp(f->reason, BRAKE_REASON) == 0;
}

/* The key as the element that it was; NULL: it is no id. A server keeps a string as its text,
 * unless that could be taken for JSON, and all else as JSON. `sync` keeps JSON: other text is a
 * line that was no id, or a value of another column. */
static const struct json *key_json(const struct again *a, const char *key, struct arena *mem)
{
    struct err ignored = {0};
    const struct json *v = json_parse(slice_str(key), mem, &ignored);

    if (v && (a->served || v->kind == JSON_STRING || v->kind == JSON_OBJECT))
        return v;
    if (!a->served)
        return NULL;
    struct buf text;
    buf_init(&text, SIZE_MAX / 2);
    json_add_string(&text, slice_str(key));
    v = json_parse(buf_slice(&text), mem, &ignored);
    buf_fini(&text);
    return v;
}

static bool has_id(const struct again *a, const struct failure_info *f)
{
    struct arena mem;

    if (hint_is_final(f->reason))
        return false;
    arena_init(&mem, BLOCK_MEMORY_BYTES);
    bool has = key_json(a, f->key, &mem) != NULL;
    arena_fini(&mem);
    return has;
}

static bool is_id(const struct again *a, const struct failure_info *f)
{
    long long start, end;

    if ((a->now->failures.reason && strcmp(a->now->failures.reason, f->reason) != 0) ||
        is_range(f, &start, &end) || is_braked(a, f))
        return false;
    return has_id(a, f);
}

static void add_object(struct again *a, const char *object)
{
    for (size_t i = 0; i < a->object_count; i++)
        if (!strcmp(a->objects[i], object))
            return;
    if (a->object_count < MAX_OBJECTS)
        a->objects[a->object_count++] = xstrdup(object);
}

static bool select_one(void *ctx, const struct failure_info *f)
{
    struct again *a = ctx;
    long long start, end;

    if (a->now->failures.reason && strcmp(a->now->failures.reason, f->reason) != 0)
        return true;
    if (is_range(f, &start, &end)) {
        interval_set_add(&a->wanted, start, end);
        add_no(&a->range_nos, f->no);
        a->ranges++;
    } else if (is_id(a, f)) {
        add_object(a, f->object);
        add_no(&a->id_nos, f->no);
        a->ids++;
    } else if (is_braked(a, f)) {
        a->braked++;
    } else {
        a->left_out++;
    }
    return true;
}

/* ---- rows to an index --------------------------------------------------------------------------
 */

struct round {
    struct again *a;
    struct direct_sync d;
    const char *object;
    struct keyed *keyed;
    struct tx *tx;
    int64_t after_no;
    int64_t up_to_no;
    struct buf text; /* [id,id] */
    int64_t nos[BLOCK_IDS];
    size_t count;
    struct keyed_result results[BLOCK_IDS];
};

static bool take_one(void *ctx, const struct failure_info *f)
{
    struct round *r = ctx;
    struct arena mem;

    if (f->no > r->up_to_no)
        return false;
    r->after_no = f->no;
    if (!is_id(r->a, f) || strcmp(f->object, r->object) != 0)
        return true;
    arena_init(&mem, BLOCK_MEMORY_BYTES);
    const struct json *id = key_json(r->a, f->key, &mem);
    if (r->count)
        buf_add_byte(&r->text, ',');
    /* A row's key is no value of the columns that ids are made of, perhaps. */
    bool by_name = r->a->keys_of_scan && id->kind == JSON_STRING;
    if (by_name) {
        buf_add_byte(&r->text, '{');
        json_add_string(&r->text, slice_str(r->d.doc.schema->columns[0].name));
        buf_add_byte(&r->text, ':');
    }
    json_write(&r->text, id);
    if (by_name)
        buf_add_byte(&r->text, '}');
    arena_fini(&mem);
    r->nos[r->count++] = f->no;
    return r->count < BLOCK_IDS;
}

static void settle_one(struct round *r, size_t i)
{
    const struct keyed_result *of = &r->results[i];

    if (of->outcome == KEYED_DUPLICATE)
        of = &r->results[of->of];
    if (of->ok)
        tx_failure_end(r->tx, r->nos[i]);
    else
        tx_failure_again(r->tx, r->nos[i], of->reason[0] ? of->reason : "failed", of->text);
    tx_count(r->tx, of->ok ? "settled" : "failed", 1);
}

static bool work_block(struct round *r, struct err *err)
{
    struct arena mem;

    buf_add_byte(&r->text, ']');
    arena_init(&mem, BLOCK_MEMORY_BYTES);
    const struct json *ids = json_parse(buf_slice(&r->text), &mem, err);
    bool ok = ids && keyed_sync(r->keyed, plan_object(r->d.doc.plan), ids, r->results, err);
    for (size_t i = 0; ok && i < r->count; i++)
        settle_one(r, i);
    tx_count(r->tx, "tried", ok ? (int64_t)r->count : 0);
    ok = ok && journal_commit(r->tx, err);
    arena_fini(&mem);
    return ok;
}

static bool work_rounds(struct round *r, struct err *err)
{
    struct again *a = r->a;
    uint64_t done = 0;

    for (;;) {
        r->count = 0;
        buf_reset(&r->text);
        buf_add_byte(&r->text, '[');
        if (!journal_failures_after(a->journal, a->run->id, r->after_no, take_one, r, err))
            return false;
        if (!r->count)
            return true;
        if (!work_block(r, err))
            return false;
        done += r->count;
        screen_update(r->d.s->screen, &(struct progress){.done = done, .total = a->ids});
    }
}

/* What the run deleted counts here, too: a retry is no second allowance, except for who asks for
 * what the brake left. */
static void open_brake(struct again *a)
{
    bool asked = a->now->failures.reason && strcmp(a->now->failures.reason, BRAKE_REASON) == 0;
    int64_t ids = 0, deleted = 0;
    struct arena mem;
    struct err none = {0};

    arena_init(&mem, 16 << 20);
    const struct json *summary = json_parse(slice_str(a->run->summary), &mem, &none);
    json_i64(json_get(summary, "ids"), &ids);
    json_i64(json_get(summary, "deleted"), &deleted);
    a->brake =
        brake_new(&(struct brake_options){.clock = &a->ctx->clock,
                                          .ids = (uint64_t)ids > a->ids ? (uint64_t)ids : a->ids,
                                          .missing = asked ? 0 : (uint64_t)deleted});
    arena_fini(&mem);
}

static bool open_rounds(struct round *r, struct err *err)
{
    static const enum keyed_missing missing[] = {[MISSING_REPORT] = KEYED_REPORT,
                                                 [MISSING_KEEP] = KEYED_KEEP,
                                                 [MISSING_DELETE] = KEYED_DELETE};
    const struct config *c = r->a->of;
    const struct plan *plans[] = {r->d.doc.plan, NULL};
    struct guard *guards[] = {r->d.guard, NULL};
    /* A scan says nothing of rows that are gone meanwhile. */
    enum keyed_missing what = r->a->keys_of_scan ? KEYED_KEEP : missing[c->sync.missing];

    if (what == KEYED_DELETE && !r->a->brake)
        open_brake(r->a);
    r->keyed = keyed_open(&(struct keyed_options){.cluster = r->d.s->cluster,
                                                  .elastic = &r->d.elastic,
                                                  .plans = plans,
                                                  .guards = guards,
                                                  .limit = r->d.limit,
                                                  .missing = what,
                                                  .collided = &r->a->collided,
                                                  .scans = r->a->filter_scan ? &r->a->scans : NULL,
                                                  .brake = r->a->brake,
                                                  .clock = &r->a->ctx->clock,
                                                  .cancel = &r->a->ctx->cancel,
                                                  .retry_budget_ms = c->run.retry_budget_ms,
                                                  .where = r->d.doc.where,
                                                  .strict_values = c->sync.strict_values,
                                                  .memory_bytes = c->sync.memory_bytes / 2},
                          err);
    if (!r->keyed)
        return false;
    r->tx = tx_new(r->d.s->run);
    buf_init(&r->text, BLOCK_MEMORY_BYTES);
    bool ok = work_rounds(r, err);
    buf_fini(&r->text);
    tx_free(r->tx);
    keyed_free(r->keyed);
    return ok;
}

/* The mapping that a server had for the type. */
static bool open_served(struct round *r, struct err *err)
{
    const struct config *c = r->a->of;

    for (const char *const *file = c->mapping.files; *file; file++) {
        if (!document_load(&r->d.doc, c, *file, err))
            return false;
        if (strcmp(r->d.doc.mapping->object, r->object) == 0)
            return document_compile(&r->d.doc, c, r->d.s->cluster, err) &&
                   direct_sync_open_index(&r->d, err);
        document_fini(&r->d.doc);
    }
    return err_set(err, ERR_USER, "no mapping of run %s is for object type \"%s\"; give --mapping",
                   r->a->run->id, r->object);
}

static bool work_object(struct again *a, struct sync *s, const char *object, struct err *err)
{
    struct round *r = xalloc(sizeof *r);

    r->a = a;
    r->object = object;
    r->d.s = s;
    r->up_to_no = a->id_nos.list[a->id_nos.count - 1];
    bool ok = (a->served ? open_served(r, err) : direct_sync_open(&r->d, err)) &&
              direct_sync_begin(&r->d, "", err);
    if (ok) {
        if (!s->screen)
            sync_start_screen(s, "ids");
        ok = open_rounds(r, err);
    }
    direct_sync_fini(&r->d);
    free(r);
    return ok;
}

static bool add_counts(struct again *a, struct sync *s, bool finished, struct buf *json,
                       struct err *err)
{
    int64_t tried, settled, failed;

    if (!run_count(s->run, "tried", &tried, err) || !run_count(s->run, "settled", &settled, err) ||
        !run_count(s->run, "failed", &failed, err))
        return false;
    if (finished && a->brake && brake_pulled(a->brake, NULL, 0))
        a->worst = EXIT_BRAKE;
    else if (finished && failed && a->worst == EXIT_DONE)
        a->worst = EXIT_SOME_FAILED;
    buf_printf(json, "{\"run\":\"%s\",\"exit_code\":%d,\"retry_of\":\"%s\",\"tried\":%lld,", s->id,
               a->worst, a->run->id, (long long)tried);
    buf_printf(json, "\"settled\":%lld,\"failed\":%lld}", (long long)settled, (long long)failed);
    if (a->now->output.json)
        printf("%s\n", buf_cstr(json));
    else
        printf("retry of run %s: %s\n  run      %s\n  tried    %lld\n  settled  %lld\n"
               "  failed   %lld\n",
               a->run->id, finished ? "finished" : "not finished", s->id, (long long)tried,
               (long long)settled, (long long)failed);
    if (failed && !a->now->output.json)
        printf("What failed again, and why: cass2es failures list %s\n", a->run->id);
    return true;
}

static bool ids_to_index(struct again *a, struct err *err)
{
    struct sync s = {.config = a->of, .ctx = a->ctx, .journal = a->journal, .retry_of = a->run->id};
    struct buf json;
    bool ok = true;

    if (a->served) {
        s.cluster = connect_cassandra(a->of, a->ctx, err);
        ok = s.cluster != NULL;
    }
    for (size_t i = 0; ok && i < a->object_count; i++)
        ok = work_object(a, &s, a->objects[i], err);
    screen_stop(TAKE(s.screen));
    if (s.run) {
        struct err count_err = {0};

        buf_init(&json, 4096);
        if (!ok)
            a->worst = command_exit_code(err->kind);
        if (!add_counts(a, &s, ok, &json, &count_err) && ok)
            *err = count_err;
        sync_end(&s, buf_cstr(&json), a->worst, err);
        buf_fini(&json);
    }
    s.journal = NULL;
    sync_fini(&s);
    return err->kind == ERR_NONE;
}

/* ---- through the commands ----------------------------------------------------------------------
 */

static bool run_command(struct again *a, const struct interval_set *only, const struct nos *nos,
                        struct err *err)
{
    struct sync s = {.config = a->of,
                     .ctx = a->ctx,
                     .journal = a->journal,
                     .retry_of = a->run->id,
                     .only = only};
    int exit_code = EXIT_DONE;
    bool to_index = a->of->sync.index || a->of->mapping.files[0];
    bool ok = to_index ? sync_index(&s, &exit_code, err) : sync_ids(&s, &exit_code, err);

    s.journal = NULL;
    sync_fini(&s);
    if (exit_code > a->worst)
        a->worst = exit_code;
    return ok && journal_replace_failures(a->journal, a->run->id, nos->list, nos->count, s.id, err);
}

static bool spool_one(void *ctx, const struct failure_info *f)
{
    struct again *a = ctx;
    struct arena mem;
    struct buf line;

    if (f->no > a->id_nos.list[a->id_nos.count - 1])
        return false;
    if (!is_id(a, f))
        return true;
    arena_init(&mem, BLOCK_MEMORY_BYTES);
    buf_init(&line, BLOCK_MEMORY_BYTES);
    json_write(&line, key_json(a, f->key, &mem));
    buf_add_byte(&line, '\n');
    fwrite(line.p, 1, line.len, a->spool);
    buf_fini(&line);
    arena_fini(&mem);
    return true;
}

static bool write_spool(struct again *a, const char *path, struct err *err)
{
    a->spool = fopen(path, "we");
    if (!a->spool)
        return err_set(err, ERR_SYSTEM, "%s: %s", path, strerror(errno));
    if (!journal_each_failure(a->journal, a->run->id, spool_one, a, err))
        return false;
    bool ok = !ferror(a->spool);
    ok = fclose(TAKE(a->spool)) == 0 && ok;
    return ok || err_set(err, ERR_SYSTEM, "%s: %s", path, strerror(errno));
}

static bool ids_to_api(struct again *a, struct err *err)
{
    AUTO_STR char *path = spool_path(a);

    if (!write_spool(a, path, err) || !load_settings(a, true, err) ||
        !run_command(a, NULL, &a->id_nos, err))
        return false; /* the file stays: the same command goes on with it */
    unlink(path);
    return true;
}

/* ---- all of it ---------------------------------------------------------------------------------
 */

static bool is_scan_of_server(const struct failed_run *run)
{
    return strcmp(run->command, SERVE_TABLE_COMMAND) == 0;
}

static bool check_kind(struct again *a, struct err *err)
{
    a->served = strcmp(a->run->command, "serve") == 0;
    if (!a->served && !is_scan_of_server(a->run) && strcmp(a->run->command, "sync") != 0)
        return err_set(err, ERR_USER, "%s is a run of %s: give the run that it was a retry of",
                       a->run->id, a->run->command);
    if (a->of->sync.to)
        return err_set(err, ERR_USER,
                       "run %s wrote a file; rows are not added to it later: run it again, with "
                       "--fresh",
                       a->run->id);
    return !a->of->sync.dry_run ||
           err_set(err, ERR_USER,
                   "run %s was a dry run: nothing was sent that could be tried again", a->run->id);
}

static bool retry_all(struct again *a, struct err *err)
{
    bool to_index = a->of->sync.index || a->of->mapping.files[0];

    if (a->left_out)
        LOG(LOG_WARN, "not_retried", F_INT("failures", (int64_t)a->left_out),
            F_STR("why", "what was kept is no id, or only a part of one"));
    if (a->braked) {
        a->worst = EXIT_BRAKE;
        LOG(LOG_WARN, "not_retried", F_INT("failures", (int64_t)a->braked),
            F_STR("why", "a brake refused to delete them: look why their rows are missing, then "
                         "retry with --reason brake"));
    }
    if (a->ranges && !run_command(a, &a->wanted, &a->range_nos, err))
        return false;
    return !a->ids || (to_index ? ids_to_index(a, err) : ids_to_api(a, err));
}

/* A scan says nothing of rows that are gone: their documents are kept, whatever is wanted. */
static bool check_missing(const struct again *a, struct err *err)
{
    return !a->keys_of_scan || config_from(a->now, "sync.missing") != FROM_FLAG ||
           config_fault(a->now, "sync.missing", err,
                        "is for ids that were given, and that run read a whole table");
}

bool failures_retry(const struct config *config, struct context *ctx, struct journal *journal,
                    const struct failed_run *run, int *exit_code, struct err *err)
{
    struct again a = {.now = config, .ctx = ctx, .journal = journal, .run = run};
    struct arena mem;

    if (config->sync.limit)
        return config_fault(config, "sync.limit", err, "is for failures show");
    arena_init(&mem, 16 << 20);
    const struct json *params = old_params(&a, &mem, err);
    a.keys_of_scan = is_scan_of_server(run) ||
                     (params && !json_get(params, "ids.file") && strcmp(run->command, "sync") == 0);
    a.filter_scan = slice_is(json_get_string(params, "serve.filter_scan"), "allow");
    bool ok = params && check_missing(&a, err) && load_settings(&a, false, err) &&
              check_kind(&a, err) && journal_each_failure(journal, run->id, select_one, &a, err);
    if (ok && !a.ids && !a.ranges && !a.left_out && !a.braked)
        printf(config->output.json ? "{\"retry_of\":\"%s\",\"tried\":0}\n"
                                   : "run %s: no failures to try again\n",
               run->id);
    ok = ok && retry_all(&a, err);
    *exit_code = a.worst;
    arena_fini(&mem);
    again_fini(&a);
    return ok;
}
