/*
 * config/load.h - all layers of settings become one struct config.
 *
 * Later wins: defaults, the file, CASS2ES_* variables, --context_param, flags. Secret values are
 * overwritten in argv as soon as they are copied, so that the process title does not show them.
 * Threads: the main one, before others start.
 */
#pragma once
#include "config/options.h"

#define CONFIG_DEFAULT_FILE "/etc/cass2es/cass2es.yaml"

struct config_input {
    unsigned command;         /* one of FOR_* */
    const char *command_name; /* for messages */
    bool takes_table;         /* the first operand is KEYSPACE.TABLE, or TABLE */
    int argc;                 /* what follows the command's name */
    char **argv;
    char *const *env;         /* as environ */
    const char *default_file; /* read when there, unless --config names another */
    const char *program_dir;  /* where profiles are looked for; NULL: nowhere */
};

/* NULL with err (ERR_USER: names the flag, variable or place in the file). */
struct config *config_load(const struct config_input *in, struct err *err);
