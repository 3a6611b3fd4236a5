/*
 * sink/joblog.h - SyncSuccess_<ms>.log and SyncFailure_<ms>.log, in the original job's form.
 *
 *   Request No : 1
 *   Request : {"params":{},"request":{...}}
 *   Response : {"id":"api.sync",...}
 *   (a blank line)
 *
 * N counts calls from 1 over both files, also when a run goes on. source/ids reads the failure log
 * as an id file. Bodies carry no key: it is in a header that is never given to us. Threads: any; an
 * entry is written with one call, and cut off again when it did not fit.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { JOBLOG_RESPONSE_MAX_BYTES = 64 << 10 };

struct joblog;

/*
 * Opens both files for appending, made when missing (mode 0640).
 *   started_ms  of the run: a run that goes on finds its files again
 *   calls       entries already written by the run, or 0: read back from the files
 *   err         ERR_USER (no such folder, no rights), ERR_SYSTEM; names the file
 */
struct joblog *joblog_open(const char *dir, int64_t started_ms, uint64_t calls, struct err *err);
void joblog_close(struct joblog *l);

/*
 * One entry. `response` null: none came, `why` is written in its place. Longer than
 * JOBLOG_RESPONSE_MAX_BYTES: cut, and says so.
 *   no   the entry's N; may be NULL
 *   err  ERR_SYSTEM naming the file (disk full); nothing of the entry is left in it
 */
bool joblog_add(struct joblog *l, bool success, struct slice request, struct slice response,
                const char *why, uint64_t *no, struct err *err);

const char *joblog_success_path(const struct joblog *l);
const char *joblog_failure_path(const struct joblog *l);
