/*
 * cmd/failures.h - what failures.c and retry.c share; for them alone.
 *
 * Threads: the main thread alone.
 */
#pragma once
#include "cmd/runs.h"

/* The run that a command is about; all its own. */
struct failed_run {
    char id[32];
    char *command;
    char *params;
    char *summary; /* "": it never came to one */
};
void failed_run_fini(struct failed_run *r);

/* Tries a run's failures again; `reason` NULL: all. */
bool failures_retry(const struct config *config, struct context *ctx, struct journal *journal,
                    const struct failed_run *run, int *exit_code, struct err *err);
