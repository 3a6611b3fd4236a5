/*
 * cmd/version.c - `cass2es --version`.
 */
#include <stdio.h>

#include "cmd/command.h"

static bool version_run(const struct config *config, struct context *ctx, int *exit_code,
                        struct err *err)
{
    (void)config;
    (void)ctx;
    (void)exit_code;
    (void)err;
    puts("cass2es " CASS2ES_VERSION);
    return true;
}

const struct command command_version = {
    .name = "version",
    .summary = "Print the version",
    .usage = "",
    .run = version_run,
};
