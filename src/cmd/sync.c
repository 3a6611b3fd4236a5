/*
 * cmd/sync.c - cass2es sync: brings ids to the Sync API, or rows to a file.
 */
#include "cmd/command.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "cmd/connect.h"
#include "cmd/screen.h"
#include "engine/copy.h"
#include "engine/job.h"

enum { LOOK_MS = 100, API_WORKERS = 1, COPY_WORKERS = 8, API_ANSWER_MAX_BYTES = 4 << 20 };

static bool sync_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err);

const struct command command_sync = {
    .name = "sync",
    .summary = "Bring ids to the Sync API, or the rows of a table to a file",
    .usage = "[KEYSPACE.TABLE] [--context_param NAME=VALUE]... [OPTION]...",
    .details =
        "Takes ids from a table or a file and posts them in blocks to Sunbird's Sync API, as "
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

/* ---- what both kinds share --------------------------------------------------------------------
 */

struct sync {
    const struct config *config;
    struct context *ctx;
    struct journal *journal;
    struct run *run;
    struct cql_cluster *cluster;
    struct schema *schema;
    struct screen *screen;
    bool resumed;
};

static void sync_fini(struct sync *s)
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

static bool begin_run(struct sync *s, const char *more_identity, struct err *err)
{
    struct buf identity;
    struct buf params;

    s->journal = connect_journal(s->config, s->ctx, false, err);
    if (!s->journal)
        return false;
    buf_init(&identity, 1 << 20);
    buf_init(&params, 1 << 20);
    config_identity(s->config, FOR_SYNC, &identity);
    buf_add_str(&identity, more_identity);
    config_params_json(s->config, FOR_SYNC, &params);
    struct run_spec spec = {.command = "sync",
                            .identity = buf_cstr(&identity),
                            .params = buf_cstr(&params),
                            .resumable = !s->config->sync.dry_run,
                            .fresh = s->config->sync.fresh};
    s->run = run_begin(s->journal, &spec, &s->resumed, err);
    buf_fini(&identity);
    buf_fini(&params);
    if (s->run)
        LOG(LOG_INFO, s->resumed ? "resume" : "start", F_STR("run", run_id(s->run)));
    return s->run != NULL;
}

static void start_screen(struct sync *s, const char *unit)
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
static bool end_run(struct sync *s, const char *summary, int exit_code, struct err *err)
{
    struct err end_err = {0};
    enum run_state state = err->kind == ERR_NONE ? RUN_FINISHED : RUN_INTERRUPTED;

    if (run_end(TAKE(s->run), state, exit_code, summary, &end_err))
        return true;
    if (err->kind == ERR_NONE)
        *err = end_err;
    return false;
}

static void print_summary(struct buf *text, bool to_stderr)
{
    FILE *out = to_stderr ? stderr : stdout;

    fwrite(text->p, 1, text->len, out);
    fflush(out);
}

static void add_how_to_go_on(struct sync *s, struct buf *text)
{
    buf_add_str(text, "\nTo go on where it stopped, run the same command again:\n  ");
    connect_add_command_line(text, s->ctx);
    buf_add_byte(text, '\n');
}

/* The first few kinds of failures, so that nobody needs to look further for the common case. */
enum { SHOWN_FAILURES = 5 };

struct shown_failures {
    struct buf *text;
    char *seen[SHOWN_FAILURES];
    size_t count;
};

static bool show_failure(void *ctx, const struct failure_info *f)
{
    struct shown_failures *shown = ctx;

    for (size_t i = 0; i < shown->count; i++) {
        if (strcmp(shown->seen[i], f->text) == 0)
            return true;
    }
    buf_printf(shown->text, "  %s: %s: %s\n", f->reason, f->key, f->text);
    shown->seen[shown->count++] = xstrdup(f->text);
    return shown->count < SHOWN_FAILURES;
}

static void add_failures(struct sync *s, struct buf *text)
{
    struct shown_failures shown = {.text = text};
    struct err ignored = {0}; /* the summary is not the place to fail */

    buf_add_str(text, "\nFailures, one of each kind:\n");
    journal_each_failure(s->journal, run_id(s->run), show_failure, &shown, &ignored);
    while (shown.count)
        free(shown.seen[--shown.count]);
    buf_printf(text, "All of them: cass2es failures list %s\n", run_id(s->run));
}

/* ---- rows to a file ---------------------------------------------------------------------------
 */

static void copy_json(struct buf *b, const char *id, const char *to, const struct copy_counts *c,
                      int exit_code)
{
    buf_printf(
        b,
        "{\"run\":\"%s\",\"exit_code\":%d,\"rows\":%llu,\"documents\":%llu,\"written\":%llu,"
        "\"failed\":%llu,"
        "\"nan_to_null\":%llu,\"bad_utf8\":%llu,\"year_out_of_range\":%llu,\"bytes\":%llu,\"to\":",
        id, exit_code, (unsigned long long)c->rows, (unsigned long long)c->documents,
        (unsigned long long)c->written, (unsigned long long)c->failed,
        (unsigned long long)c->nan_to_null, (unsigned long long)c->bad_utf8,
        (unsigned long long)c->year_out_of_range, (unsigned long long)c->bytes);
    json_add_string(b, slice_str(to));
    buf_add_byte(b, '}');
}

static void copy_text(struct sync *s, struct buf *b, const struct copy_counts *c, bool finished)
{
    struct show_table t = {0};

    buf_printf(b, "%s.%s to %s: %s\n", s->schema->keyspace, s->schema->table, s->config->sync.to,
               finished ? "all rows read" : "not finished");
    show_row(&t, "run", "%s%s", run_id(s->run), s->resumed ? " (went on)" : "");
    show_row_count(&t, "rows", c->rows);
    show_row_count(&t, "written", c->written);
    show_row_count(&t, "failed", c->failed);
    if (c->unread_ranges)
        show_row_count(&t, "ranges not read", c->unread_ranges);
    if (c->nan_to_null)
        show_row_count(&t, "NaN or infinite, written as null", c->nan_to_null);
    if (c->bad_utf8)
        show_row_count(&t, "not UTF-8, written with U+FFFD", c->bad_utf8);
    if (c->year_out_of_range)
        show_row_count(&t, "years outside 0-9999, signed", c->year_out_of_range);
    show_table_end(&t, b);
    if (c->failed || c->unread_ranges)
        add_failures(s, b);
}

static uint64_t journalled_length(struct sync *s, bool *ok, struct err *err)
{
    AUTO_STR char *text = NULL;
    int64_t length = 0;

    *ok = run_note(s->run, "file_length", &text, err);
    if (text)
        text_to_i64(slice_str(text), 0, INT64_MAX, &length);
    return (uint64_t)length;
}

static bool copy_rows(struct sync *s, struct sink_file *file, struct copy_counts *counts,
                      struct err *err)
{
    const struct config *c = s->config;
    struct copy_options o = {
        .run = s->run,
        .clock = &s->ctx->clock,
        .cancel = &s->ctx->cancel,
        .retry_budget_ms = c->run.retry_budget_ms,
        .cluster = s->cluster,
        .schema = s->schema,
        .file = file,
        .resumable = strcmp(c->sync.to, "-") != 0,
        .workers = c->sync.workers ? (unsigned)c->sync.workers : COPY_WORKERS,
        .memory_bytes = c->sync.memory_bytes,
        .strict_values = c->sync.strict_values,
    };
    struct copy *copy = copy_start(&o, err);

    if (!copy)
        return false;
    start_screen(s, "rows");
    while (!copy_wait(copy, LOOK_MS)) {
        struct copy_progress p;

        copy_progress(copy, &p);
        screen_update(s->screen, &(struct progress){.done = p.done,
                                                    .before = p.before,
                                                    .total = p.total,
                                                    .failed = p.failed,
                                                    .note = p.note});
    }
    screen_stop(TAKE(s->screen));
    return copy_finish(copy, counts, err);
}

static int copy_verdict(const struct copy_counts *c, const struct err *err)
{
    if (err->kind != ERR_NONE)
        return command_exit_code(err->kind);
    if (!copy_conserved(c))
        return EXIT_DEFECT;
    return c->failed || c->unread_ranges ? EXIT_SOME_FAILED : EXIT_DONE;
}

/* What went to standard output is gone: an interrupted run can't be gone on with. */
static bool start_over(struct sync *s, const char *identity, struct err *err)
{
    LOG(LOG_WARN, "start_over", F_STR("run", run_id(s->run)),
        F_STR("why", "standard output can't be resumed: it starts over with all rows"));
    if (!run_end(TAKE(s->run), RUN_FINISHED, EXIT_INTERRUPTED, "{}", err))
        return false;
    journal_close(TAKE(s->journal));
    return begin_run(s, identity, err);
}

static bool sync_to_file(struct sync *s, int *exit_code, struct err *err)
{
    const char *to = s->config->sync.to;
    bool to_stdout = strcmp(to, "-") == 0;
    struct copy_counts counts = {0};
    struct buf text;
    struct buf json;

    s->cluster = connect_cassandra(s->config, s->ctx, err);
    if (!s->cluster)
        return false;
    s->schema = connect_table(s->config, s->cluster, err);
    if (!s->schema)
        return false;
    AUTO_STR char *identity = xsprintf("table=%s.%s\n", s->schema->keyspace, s->schema->table);
    if (!begin_run(s, identity, err) || (to_stdout && s->resumed && !start_over(s, identity, err)))
        return false;
    bool ok = true;
    uint64_t length = journalled_length(s, &ok, err);
    AUTO(sink_file) struct sink_file *file =
        ok ? sink_file_open(to, length, s->config->sync.fresh || s->resumed, err) : NULL;
    ok = file && copy_rows(s, file, &counts, err);
    *exit_code = copy_verdict(&counts, err);

    buf_init(&text, 64 << 10);
    buf_init(&json, 64 << 10);
    copy_json(&json, run_id(s->run), to, &counts, *exit_code);
    if (s->config->output.json) {
        buf_add_slice(&text, buf_slice(&json));
        buf_add_byte(&text, '\n');
    } else {
        copy_text(s, &text, &counts, ok);
        if (!ok && !to_stdout)
            add_how_to_go_on(s, &text);
    }
    print_summary(&text, to_stdout);
    end_run(s, buf_cstr(&json), *exit_code, err);
    buf_fini(&text);
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

/* ---- ids to the Sync API ----------------------------------------------------------------------
 */

/* What the servers can use, by object type: which column, under which name, in which form. */
static const struct object_type {
    const char *name;
    const char *column;
    const char *field;
    enum job_form form;
    bool objects; /* its server takes objects of column filters, too */
} object_types[] = {
    {"batch", "courseid", "courseId", JOB_STRINGS, true},
    {"user_course", "userid", "userId", JOB_OBJECT_PER_BLOCK, true},
    {"user", "id", "id", JOB_STRINGS, false},
    {"organisation", "id", "id", JOB_STRINGS, false},
    {"location", "id", "id", JOB_STRINGS, false},
};

/* Names under which the servers know key columns, for objects. */
static const char *field_name(const char *column)
{
    static const char *const known[][2] = {
        {"courseid", "courseId"}, {"batchid", "batchId"}, {"userid", "userId"}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(column, known[i][0]) == 0)
            return known[i][1];
    }
    return column;
}

static const struct object_type *find_object_type(const char *name)
{
    for (size_t i = 0; i < sizeof object_types / sizeof *object_types; i++) {
        if (strcmp(object_types[i].name, name) == 0)
            return &object_types[i];
    }
    return NULL;
}

/* What the job is, decided from settings and, where there is one, the table. */
struct job_plan {
    enum job_form form;
    const char *names[IDS_KEY_MAX];  /* columns that make an id, for the file's reader */
    const char *fields[IDS_KEY_MAX]; /* the same as fields of an object */
    uint16_t columns[IDS_KEY_MAX];   /* the same in the schema */
    const struct type *types[IDS_KEY_MAX];
    uint16_t count;
    bool keep_objects;
    int wanted_column; /* lookup: ids of the file are values of this one; -1 */
    const char *wanted_name;
    const struct type *wanted_type;
};

static bool plan_column(const struct sync *s, struct job_plan *p, const char *column,
                        const char *field, struct err *err)
{
    p->names[p->count] = column;
    p->fields[p->count] = field;
    if (s->schema) {
        int i = schema_find(s->schema, slice_str(column));

        if (i < 0)
            return err_set(err, ERR_USER,
                           "table %s.%s has no column \"%s\", which object type %s is synced by; "
                           "say another by --id-column, or another --id-form",
                           s->schema->keyspace, s->schema->table, column,
                           s->config->sync.object_type);
        p->columns[p->count] = (uint16_t)i;
        p->types[p->count] = s->schema->columns[i].type;
    }
    p->count++;
    return true;
}

static bool plan_whole_key(const struct sync *s, struct job_plan *p, struct err *err)
{
    if (!s->schema)
        return config_fault(
            s->config, "ids.form", err,
            "needs the table whose key the ids are: give --cassandra-hosts and --table, too");
    uint16_t keys = (uint16_t)(s->schema->partition_key_count + s->schema->clustering_count);
    if (keys > IDS_KEY_MAX)
        return err_set(err, ERR_USER, "table %s.%s: a key of %u columns; at most %d",
                       s->schema->keyspace, s->schema->table, keys, IDS_KEY_MAX);
    for (uint16_t i = 0; i < keys; i++) {
        if (!plan_column(s, p, s->schema->columns[i].name, field_name(s->schema->columns[i].name),
                         err))
            return false;
    }
    return true;
}

static bool check_id_column(const struct sync *s, int *column, struct err *err)
{
    const char *names[1024];
    size_t n = 0;

    *column = schema_find(s->schema, slice_str(s->config->ids.column));
    if (*column >= 0)
        return true;
    for (; n < s->schema->column_count && n < 1023; n++)
        names[n] = s->schema->columns[n].name;
    names[n] = NULL;
    const char *near = text_nearest(slice_str(s->config->ids.column), names);
    return config_fault(s->config, "ids.column", err, "table %s.%s has no column \"%s\"%s%s%s",
                        s->schema->keyspace, s->schema->table, s->config->ids.column,
                        near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static bool make_plan(const struct sync *s, struct job_plan *p, struct err *err)
{
    const struct config *c = s->config;
    const struct object_type *type = find_object_type(c->sync.object_type);
    static const enum job_form forms[] = {[ID_FORM_STRING] = JOB_STRINGS,
                                          [ID_FORM_OBJECT] = JOB_OBJECTS,
                                          [ID_FORM_OBJECT_PER_BLOCK] = JOB_OBJECT_PER_BLOCK};
    int id_column = -1;

    *p = (struct job_plan){.form = type ? type->form : JOB_STRINGS, .wanted_column = -1};
    if (c->ids.form != ID_FORM_AUTO)
        p->form = forms[c->ids.form];
    p->keep_objects = p->form == JOB_OBJECTS || (c->ids.form == ID_FORM_AUTO &&
                                                 p->form == JOB_STRINGS && type && type->objects);
    if (c->ids.column && !s->schema)
        return config_fault(c, "ids.column", err,
                            "needs the table to look in: give --cassandra-hosts and --table, too");
    if (c->ids.column && !check_id_column(s, &id_column, err))
        return false;
    if (id_column >= 0 && !c->ids.file) {
        /* From the table itself: the column's values are the ids. */
        const char *name = s->schema->columns[id_column].name;

        return plan_column(s, p, name, field_name(name), err);
    }
    if (p->form == JOB_OBJECTS || (!type && s->schema)) {
        if (!plan_whole_key(s, p, err))
            return false;
        if (p->count > 1 && c->ids.form == ID_FORM_AUTO)
            p->form = JOB_OBJECTS;
    } else if (!plan_column(s, p, type ? type->column : "id", type ? type->field : "id", err)) {
        return false;
    }
    if (p->form == JOB_OBJECT_PER_BLOCK && p->count > 1)
        return config_fault(c, "ids.form", err,
                            "object-per-block is for a key of one column; this one has %u",
                            p->count);
    if (id_column >= 0 && !(p->count == 1 && p->columns[0] == id_column)) {
        p->wanted_column = id_column;
        p->wanted_name = s->schema->columns[id_column].name;
        p->wanted_type = s->schema->columns[id_column].type;
    }
    return true;
}

/* ---- the id file ------------------------------------------------------------------------------
 */

static struct ids_options ids_options(const struct sync *s, const struct job_plan *p)
{
    struct ids_options o = {.path = s->config->ids.file,
                            .column = s->config->ids.csv_column,
                            .key_names = p->wanted_name ? &p->wanted_name : p->names,
                            .key_count = p->wanted_name ? 1 : p->count,
                            .cancel = &s->ctx->cancel};

    return o;
}

static char *state_file(const struct sync *s, const char *what)
{
    return xsprintf("%s/%s.%s", s->config->run.state_dir, run_id(s->run), what);
}

static bool stdin_has_bytes(void)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    struct stat st;

    if (isatty(STDIN_FILENO) || fstat(STDIN_FILENO, &st) < 0)
        return false;
    return S_ISREG(st.st_mode) ? st.st_size > 0 : poll(&fd, 1, 1000) > 0;
}

static bool same_file(const struct sync *s, const char *sha256, struct err *err)
{
    AUTO_STR char *known = NULL;

    if (!run_note(s->run, "file_sha256", &known, err))
        return false;
    if (!known || strcmp(known, sha256) == 0)
        return true;
    return err_set(err, ERR_USER,
                   "%s: changed since run %s was interrupted; put the old content back to go on, "
                   "or start over with --fresh",
                   strcmp(s->config->ids.file, "-") == 0 ? "standard input" : s->config->ids.file,
                   run_id(s->run));
}

/* The same pipe may be given again: what it holds must be what was spooled. */
static bool check_stdin_again(const struct sync *s, const struct job_plan *p, struct err *err)
{
    AUTO_STR char *path = state_file(s, "stdin-again");
    struct ids_options o = ids_options(s, p);
    struct err ignored = {0};

    if (!stdin_has_bytes())
        return true;
    o.spool_path = path;
    struct ids *again = ids_open(&o, &ignored);
    bool ok = !again || same_file(s, ids_file(again)->sha256, err);
    if (again)
        ids_close(again);
    unlink(path);
    return ok;
}

static struct ids *open_stdin(const struct sync *s, const struct job_plan *p, struct err *err)
{
    AUTO_STR char *path = state_file(s, "stdin");
    AUTO_STR char *known = NULL;
    struct ids_options o = ids_options(s, p);

    if (!run_note(s->run, "file_sha256", &known, err))
        return NULL;
    if (known && !check_stdin_again(s, p, err))
        return NULL;
    o.spool_path = path;
    o.spooled = known != NULL;
    return ids_open(&o, err);
}

static bool note_file(struct sync *s, const struct ids *ids, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(s->run);

    if (!same_file(s, ids_file(ids)->sha256, err))
        return false;
    tx_note(tx, "file_sha256", ids_file(ids)->sha256);
    return journal_commit(tx, err);
}

static struct idset *open_wanted(struct sync *s, bool *complete, struct err *err)
{
    AUTO_STR char *path = state_file(s, "wanted");
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

/* ---- the job's summary ------------------------------------------------------------------------
 */

static void job_json(struct sync *s, struct buf *b, const struct job_counts *c,
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
    struct buf pauses;

    buf_init(&pauses, 64);
    show_duration(&pauses, each > 1 ? (int64_t)(each - 1) * cfg->sync_api.pause_ms : 0);
    show_row_count(t, "would be sent", c->accepted);
    show_row(t, "ids in", "%s", csv);
    show_table_end(t, b);
    buf_printf(
        b,
        "\nDry run: no call was made. It would be %llu %s; the pauses between them alone take %s.\n"
        "To send them: --dry-run=false, or --context_param dry_run=false\n",
        (unsigned long long)c->blocks, c->blocks == 1 ? "call" : "calls", buf_cstr(&pauses));
    buf_fini(&pauses);
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

static void job_text(struct sync *s, struct buf *b, const struct job_counts *c,
                     const struct joblog *log, const char *csv, bool finished)
{
    struct show_table t = {0};

    buf_printf(b, "%s of %s: %s\n", csv ? "Dry run" : "Sync", s->config->sync.object_type,
               !finished             ? "not finished"
               : c->failed || c->bad ? "finished with failures"
                                     : "finished");
    show_row(&t, "run", "%s%s", run_id(s->run), s->resumed ? " (went on)" : "");
    if (c->given)
        add_given_rows(&t, c);
    show_row_count(&t, "ids", c->ids);
    if (c->duplicate)
        show_row_count(&t, "duplicate", c->duplicate);
    if (c->bad)
        show_row_count(&t, "bad", c->bad);
    if (c->unread_ranges)
        show_row_count(&t, "ranges not read", c->unread_ranges);
    if (csv)
        dry_run_text(s, b, &t, c, csv);
    else
        sent_text(s, b, &t, c, log);
    if (c->failed || c->bad || c->given_bad || c->given_missing || c->unread_ranges)
        add_failures(s, b);
    if (c->failed && finished)
        buf_printf(b, "To send the failed calls again: --id-file %s\n", joblog_failure_path(log));
}

/* ---- the job ----------------------------------------------------------------------------------
 */

static int job_verdict(const struct job_counts *c, const struct err *err)
{
    if (err->kind != ERR_NONE)
        return command_exit_code(err->kind);
    if (!job_conserved(c))
        return EXIT_DEFECT;
    return c->failed || c->bad || c->given_bad || c->unread_ranges ? EXIT_SOME_FAILED : EXIT_DONE;
}

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
    start_screen(s, "ids");
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
    struct ids_options o = ids_options(s, &parts->plan);

    /* A file is looked at before the run begins, so that a missing one leaves nothing behind. */
    parts->ids = ids_open(&o, err);
    return parts->ids != NULL;
}

static bool open_run_parts(struct sync *s, struct job_parts *parts, struct err *err)
{
    const struct config *c = s->config;

    if (c->ids.file && !parts->ids) {
        parts->ids = open_stdin(s, &parts->plan, err);
        if (!parts->ids)
            return false;
    }
    if (parts->ids && !note_file(s, parts->ids, err))
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
    AUTO_STR char *spool = state_file(s, "stdin");

    unlink(spool);
    if (parts->wanted)
        idset_remove(TAKE(parts->wanted));
}

static void say_job(struct sync *s, struct job_parts *parts, const struct job_counts *counts,
                    int exit_code, bool ok, struct buf *json)
{
    struct buf text;

    buf_init(&text, 64 << 10);
    job_json(s, json, counts, parts->log, parts->csv_path, exit_code);
    if (s->config->output.json) {
        buf_add_slice(&text, buf_slice(json));
        buf_add_byte(&text, '\n');
    } else {
        job_text(s, &text, counts, parts->log, parts->csv_path, ok);
        if (!ok && !s->config->sync.dry_run)
            add_how_to_go_on(s, &text);
    }
    print_summary(&text, false);
    buf_fini(&text);
}

static bool sync_ids(struct sync *s, struct job_parts *parts, int *exit_code, struct err *err)
{
    const struct config *c = s->config;
    struct job_counts counts = {0};
    struct buf json;

    if (!config_need(c, "sync.object_type", err) || !open_sink(s, parts, err) ||
        !open_source(s, err) || !make_plan(s, &parts->plan, err))
        return false;
    if (c->ids.file && strcmp(c->ids.file, "-") != 0 && !open_ids(s, parts, err))
        return false;
    /* The keyspace that was found is part of what is synced; a table that only checks ids is not.
     */
    AUTO_STR char *identity = !c->ids.file || parts->plan.wanted_name
                                  ? xsprintf("table=%s.%s\n", s->schema->keyspace, s->schema->table)
                                  : xstrdup("");
    if (!begin_run(s, identity, err))
        return false;
    bool ok = open_run_parts(s, parts, err);
    if (!ok) {
        end_run(s, "{}", command_exit_code(err->kind), err);
        return false;
    }
    ok = run_job(s, parts, &counts, err);
    *exit_code = job_verdict(&counts, err);
    buf_init(&json, 64 << 10);
    say_job(s, parts, &counts, *exit_code, ok, &json);
    if (ok || c->sync.dry_run)
        remove_state_files(s, parts);
    end_run(s, buf_cstr(&json), *exit_code, err);
    buf_fini(&json);
    return err->kind == ERR_NONE;
}

static bool sync_run(const struct config *config, struct context *ctx, int *exit_code,
                     struct err *err)
{
    if (config->sync.to && config->sync.dry_run)
        return config_fault(config, "sync.dry_run", err,
                            "has no meaning with --to; give --dry-run=false");
    struct sync s = {.config = config, .ctx = ctx};
    struct job_parts parts = {0};
    bool ok =
        config->sync.to ? sync_to_file(&s, exit_code, err) : sync_ids(&s, &parts, exit_code, err);

    job_parts_fini(&parts);
    sync_fini(&s);
    return ok;
}
