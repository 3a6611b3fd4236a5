/*
 * cmd/check_show.h - `cass2es check --show ID`: what would be written for an id. Threads: the main
 * thread alone.
 */
#pragma once
#include "cmd/command.h"

/* Reads Cassandra alone. Exit 1: there is no row, or one without a document. */
bool check_show(const struct config *config, struct context *ctx, int *exit_code, struct err *err);
