/*
 * cmd/runs.h - what the commands over the journal share.
 *
 * Threads: the main thread alone.
 */
#pragma once
#include "cmd/command.h"
#include "journal/journal.h"

/* The journal as it is. NULL with ERR_NONE: nothing has run here yet (and no folder is made for
 * looking). */
struct journal *runs_open(const struct config *config, struct context *ctx, struct err *err);
/* 2026-01-02T03:04:05Z */
void runs_add_time(struct buf *out, int64_t us);
