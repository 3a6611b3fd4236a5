/*
 * cmd/id_file.h - the id file of a run: opened, known again, or spooled from standard input.
 *
 * Threads: the main thread alone. err: ERR_USER (missing, empty, changed since the run was
 * interrupted), ERR_SYSTEM.
 */
#pragma once
#include "cmd/job_plan.h"
#include "cmd/sync.h"

/* A file beside the journal. Named by what the run is, not by its id: one that starts over takes
 * the place of the old one. */
char *id_state_file(const struct sync *s, const char *what);
/* Before the run begins, so that a missing one leaves nothing behind. Not for standard input. */
struct ids *id_file_open(const struct sync *s, const struct job_plan *p, struct err *err);
/* Within the run: what was spooled before, or what comes now. */
struct ids *id_file_open_stdin(const struct sync *s, const struct job_plan *p, struct err *err);
/* The run knows its file by its hash: another one is refused. */
bool id_file_note(struct sync *s, const struct ids *ids, struct err *err);
