/*
 * journal/lock.h - "this run is mine": a lock file per identity that ends with the process.
 *
 * The lock is on the open file (F_OFD_SETLK): the kernel drops it when the process is gone, however
 * it went. The file's text (pid, start, run id) only tells people who holds it.
 * Threads: any; a value has one owner.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct run_lock {
    int fd; /* -1: not held */
    char *path;
};

/* Takes the lock at `path`. err: ERR_USER when another process (or run) has it: names its pid. */
bool run_lock_take(struct run_lock *l, const char *path, int64_t now_us, struct err *err);
/* Adds the run's id to the text, for lists. */
void run_lock_note(struct run_lock *l, int64_t started_us, const char *run_id);
/* Gives it back and removes the file. */
void run_lock_drop(struct run_lock *l);
/* Who holds the lock at `path` for the run `run_id`: a pid, or 0 for nobody. NULL: for any run. */
long run_lock_holder(const char *path, const char *run_id);
