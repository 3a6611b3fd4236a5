/*
 * cmd/check.c - `cass2es check`: what is configured, and where it was said.
 */
#include <stdio.h>

#include "cmd/command.h"

static bool check_run(const struct config *config, struct context *ctx, int *exit_code,
                      struct err *err)
{
    struct buf text;

    (void)ctx;
    (void)exit_code;
    if (!config->print_config)
        return err_set(err, ERR_USER, "nothing to check: give --print-config");
    buf_init(&text, 16 << 20);
    config_show_all(config, config->output.json, &text);
    fwrite(text.p, 1, text.len, stdout);
    buf_fini(&text);
    return true;
}

const struct command command_check = {
    .name = "check",
    .summary = "Show the configuration: each value, and where it came from",
    .usage = "--print-config [OPTION...]",
    .details = "Takes the settings of all commands. Secrets are shown as ***.",
    .id = FOR_CHECK,
    .takes_table = true,
    .run = check_run,
};
