/*
 * cmd/check.c - `cass2es check`: what is configured, and whether a sync to an index can be done.
 */
#include <stdio.h>

#include "cmd/aim.h"
#include "cmd/check_show.h"
#include "cmd/preview.h"

static void print_config(const struct config *config)
{
    struct buf text;

    buf_init(&text, 16 << 20);
    config_show_all(config, config->output.json, &text);
    fwrite(text.p, 1, text.len, stdout);
    buf_fini(&text);
}

static bool check_index(const struct config *config, struct context *ctx, int *exit_code,
                        struct err *err)
{
    struct sync s = {.config = config, .ctx = ctx};
    struct preview p;

    if (!aim_check(config, err))
        return false;
    bool ok = preview_make(&p, &s, err);
    if (ok)
        preview_print_lines(&p, config->output.json);
    *exit_code = preview_failing(&p) ? EXIT_USAGE : EXIT_DONE;
    preview_fini(&p);
    sync_fini(&s);
    return ok;
}

static bool check_run(const struct config *config, struct context *ctx, int *exit_code,
                      struct err *err)
{
    if (config->print_config) {
        print_config(config);
        return true;
    }
    if (config->show)
        return check_show(config, ctx, exit_code, err);
    if (!config->sync.index && !config->mapping.files[0])
        return err_set(
            err, ERR_USER,
            "nothing to check: give --print-config, or KEYSPACE.TABLE with --index NAME, "
            "or --mapping FILE");
    return check_index(config, ctx, exit_code, err);
}

const struct command command_check = {
    .name = "check",
    .summary = "Whether a sync to an index can be done, before anything is written",
    .usage = "[KEYSPACE.TABLE --index NAME | --mapping FILE | --print-config] [--show ID] "
             "[OPTION...]",
    .details =
        "Looks at Cassandra (log-in, table, columns that no document has, a sample of rows, "
        "replication, clocks), at "
        "Elasticsearch (log-in, index, rights, health, room, what deletes leave), at the "
        "versioning "
        "of earlier runs, and whether columns and sampled documents fit the index's mapping. Each "
        "line is ok, note, warn, fail, or - for what can't be told, with what to do; exit 2 when a "
        "line is fail. Nothing is written.\n\n"
        "With --show: the documents of an id, or of an object of columns as in a call's ids, as "
        "they would be written, each with its _index, _id and _routing; with --json one line each. "
        "Only Cassandra is read, now, with all that the mapping wants of "
        "other tables. What was altered, and why a row has no document, is on standard error; exit "
        "1 when a row has none, or there is no row.\n\n"
        "With --print-config: each setting's value, and where it came from; secrets are ***. Takes "
        "the settings of all commands.",
    .id = FOR_CHECK,
    .takes_table = true,
    .signals = true,
    .run = check_run,
};
