/*
 * cmd/job_text.h - the job's summary, for people and for machines.
 */
#pragma once
#include "cmd/sync.h"
#include "engine/job.h"

/* One object, without line end. log is NULL in a dry run, csv in a real one. */
void job_add_json(struct sync *s, struct buf *b, const struct job_counts *c,
                  const struct joblog *log, const char *csv, int exit_code);
void job_add_text(struct sync *s, struct buf *b, const struct job_counts *c,
                  const struct joblog *log, const char *csv, bool finished);
