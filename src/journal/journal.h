/*
 * journal/journal.h - what is done, what is not, what was refused: the only home of SQLite.
 *
 * One file per state folder, journal.db (WAL), shared by any number of processes. A run is one row
 * with an id, an identity (what makes two commands the same run), its parameters with secrets
 * already redacted, a ledger of intervals on one or more axes (token, or byte offset of a file),
 * blocks of ids not yet acknowledged, failures, counts, and small notes. A run is locked by its
 * identity with a lock file beside the database, held by the process and gone with it, also after
 * SIGKILL.
 *
 * Writing: a worker collects changes in a tx and gives it to journal_commit(), which returns when
 * it is committed, together with what other workers brought meanwhile (group commit). A tx is all
 * or nothing. With `durable` the commit has reached the disk (synchronous=FULL), else it
 * survives the process but perhaps not the machine; order is kept either way, so what is there is
 * always a consistent earlier state.
 *
 * Threads: any thread calls; a tx belongs to one. Errors: ERR_SYSTEM (disk full, corrupt: names the
 * file and what to do), ERR_USER (locked by another run: names the pid; another version of the
 * file).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

/* ---- intervals --------------------------------------------------------------------------------
 */

/* (start, end] */
struct interval {
    int64_t start;
    int64_t end;
};

/* Sorted, disjoint, not touching; {0} is the empty set. The whole token ring is (INT64_MIN,
 * INT64_MAX]. */
struct interval_set {
    struct interval *list;
    size_t count;
    size_t cap;
};

void interval_set_fini(struct interval_set *s);
void interval_set_add(struct interval_set *s, int64_t start, int64_t end);
void interval_set_remove(struct interval_set *s, int64_t start, int64_t end);

/* ---- journal and runs -------------------------------------------------------------------------
 */

struct journal;

/*
 * Creates the folder (mode 0700) and the file (0600) when missing.
 *   durable   synchronous=FULL
 */
struct journal *journal_open(const char *state_dir, bool durable, struct clock *clock,
                             struct err *err);
void journal_close(struct journal *j);
/* Removes runs that ended more than `keep_s` seconds ago. What can still be resumed stays. */
bool journal_prune(struct journal *j, int64_t keep_s, struct err *err);

enum run_state { RUN_RUNNING, RUN_INTERRUPTED, RUN_FINISHED };

struct run_spec {
    const char *command;  /* "sync", "serve" */
    const char *identity; /* canonical text of what makes it the same run; hashed */
    const char *params;   /* JSON for people, secrets redacted */
    bool resumable;       /* false (a dry run): never resumes and is never resumed */
    bool fresh; /* an unfinished run of this identity is ended (interrupted) and a new one begun */
};

struct run; /* an open, locked run */

/* `*resumed`: an unfinished run of the same identity goes on. The lock error names the pid of the
 * other process. */
struct run *run_begin(struct journal *j, const struct run_spec *spec, bool *resumed,
                      struct err *err);
/* Ends it; RUN_INTERRUPTED can be resumed. `summary` is JSON or NULL. Frees the handle in every
 * case. */
bool run_end(struct run *r, enum run_state state, int exit_code, const char *summary,
             struct err *err);
/* Leaves it as it is (as a crash would) and frees the handle. */
void run_abandon(struct run *r);
const char *
run_id(const struct run *r); /* "20260102-030405-7f3a": sorts by time, good as a file name */
int64_t run_started_us(const struct run *r);

/* ---- reading an open run ----------------------------------------------------------------------
 */

/* All intervals marked on an axis. */
bool run_marks(struct run *r, const char *axis, struct interval_set *out, struct err *err);

/* A range that was left in the middle of a partition or page: go on at `state` (opaque, may be
 * null: then behind `done_to`). */
struct run_cursor {
    struct interval range; /* what was being read */
    int64_t done_to;       /* complete up to here, within the range */
    struct slice state;    /* malloc'ed bytes */
};
struct run_cursors {
    struct run_cursor *list;
    size_t count;
};
bool run_cursors(struct run *r, const char *axis, struct run_cursors *out, struct err *err);
void run_cursors_fini(struct run_cursors *c);

struct run_block {
    uint64_t no;
    uint32_t ids;      /* how many */
    bool open;         /* not full yet: the packer goes on filling it */
    struct slice body; /* malloc'ed; the caller's form */
};
/* Blocks not ended, by number; `after_no` 0 for the first. *found false when there is none left. */
bool run_next_block(struct run *r, uint64_t after_no, struct run_block *out, bool *found,
                    struct err *err);
void run_block_fini(struct run_block *b);

bool run_count(struct run *r, const char *name, int64_t *out,
               struct err *err); /* 0 when never counted */
/* malloc'ed text, or NULL when there is no such note. */
bool run_note(struct run *r, const char *name, char **out, struct err *err);

/* ---- writing ----------------------------------------------------------------------------------
 */

struct tx;

struct tx *tx_new(struct run *r);
void tx_free(struct tx *t);
AUTO_DEFINE(tx);
/* Everything given is copied. Order within a tx is kept. */
void tx_mark(struct tx *t, const char *axis, int64_t start, int64_t end);
/* One cursor per range start; replaced when it is there. */
void tx_cursor(struct tx *t, const char *axis, struct interval range, int64_t done_to,
               struct slice state);
void tx_cursor_end(struct tx *t, const char *axis, int64_t range_start);
void tx_block(struct tx *t, const struct run_block *b); /* added, or replaced by number */
/*
 * Ends a block all of whose ids went well: counts them as `count` (shorter than 16 bytes), and 1 as
 * "blocks". When it returns that is as safe against the death of this process as a commit, and
 * costs much less; only a machine that crashes may forget it. In the database it is after a
 * second, after some thousands of them, and with the next commit of the run.
 */
bool run_end_block(struct run *r, const struct run_block *b, const char *count, struct err *err);
void tx_block_end(struct tx *t, uint64_t no); /* gone: its outcome is in the counts and failures */
void tx_count(struct tx *t, const char *name, int64_t delta);
/* `key`: the id as text; `reason`: a stable word ("http_500", "missing"); `text`: what was said. */
void tx_failure(struct tx *t, struct slice key, const char *reason, const char *text);
/* The same where a run has several types of objects: `object` says what the key is one of. */
void tx_failure_of(struct tx *t, const char *object, struct slice key, const char *reason,
                   const char *text);
/* Of any run, by failure_info.no: settled; failed once more. One that is gone meanwhile stays
 * gone. */
void tx_failure_end(struct tx *t, int64_t no);
void tx_failure_again(struct tx *t, int64_t no, const char *reason, const char *text);
void tx_note(struct tx *t, const char *name, const char *value);
/* What was added stays together: tx_drop() takes back only what comes after it. Marks, cursors and
 * counts that are settled one after the other become one change each. */
void tx_settle(struct tx *t);
void tx_drop(struct tx *t);
/* Commits and empties the tx; on error it is kept as it was. */
bool journal_commit(struct tx *t, struct err *err);
/* The same without waiting for the disk, also in a durable journal: a machine that crashes may
 * forget it, never what was committed before it, nor what comes after without it. */
bool journal_commit_soon(struct tx *t, struct err *err);

/* ---- lists, for people ------------------------------------------------------------------------
 */

struct run_info {
    char id[32];
    const char *command;
    const char *params;
    const char *summary; /* "" when none */
    enum run_state state;
    int exit_code;
    int64_t started_us;
    int64_t ended_us; /* 0: not ended */
    long pid;         /* of the process that holds it; 0: nobody (RUN_RUNNING: it was killed) */
};
/* Newest first; stops when `each` returns false. `each` must not call the journal; what it is given
 * is valid during the call. */
bool journal_each_run(struct journal *j, bool (*each)(void *ctx, const struct run_info *info),
                      void *ctx, struct err *err);

struct failure_info {
    int64_t no;         /* rises; never given again while it is there */
    const char *object; /* "": the run's only type */
    const char *key;
    const char *reason;
    const char *text;
    int64_t at_us;
};
bool journal_each_failure(struct journal *j, const char *run_id,
                          bool (*each)(void *ctx, const struct failure_info *info), void *ctx,
                          struct err *err);
/* The same, behind `after_no`. */
bool journal_failures_after(struct journal *j, const char *run_id, int64_t after_no,
                            bool (*each)(void *ctx, const struct failure_info *info), void *ctx,
                            struct err *err);
/* Forgets failures: of this reason (NULL: all). */
bool journal_drop_failures(struct journal *j, const char *run_id, const char *reason,
                           uint64_t *count, struct err *err);
/* Forgets failures of a run that goes on for long: those of more than `keep_s` seconds ago, and the
 * oldest beyond `keep`. */
bool run_prune_failures(struct run *r, int64_t keep_s, uint64_t keep, uint64_t *count,
                        struct err *err);
/* These of a run (by failure_info.no) were tried again by another: its failures take their place.
 */
bool journal_replace_failures(struct journal *j, const char *run_id, const int64_t *nos,
                              size_t count, const char *by_run, struct err *err);

/* ---- calls ------------------------------------------------------------------------------------
 *
 * What a server was asked, and what became of it, for who asks later. A call is the blocks no to
 * no + parts - 1 of its run; what a part came to is journalled with the end of its block.
 */

struct run_call {
    uint64_t no;
    uint32_t parts;
    uint32_t ids;
    int64_t at_us; /* when it was journalled */
};
void tx_call(struct tx *t, const struct run_call *call);
void tx_outcome(struct tx *t, uint64_t no, uint32_t ids, struct slice body);
/* The highest number of a block that any call of the run had, forgotten ones too; 0: none. */
bool run_last_call(struct run *r, uint64_t *no, struct err *err);

struct run_part {
    uint32_t ids;
    int64_t at_us;     /* when it ended; 0: it waits, and this is its block */
    struct slice body; /* malloc'ed */
};
/* Of any run. *found: false when there is none, or no longer. */
bool journal_call(struct journal *j, const char *run_id, uint64_t no, struct run_call *out,
                  bool *found, struct err *err);
bool journal_part(struct journal *j, const char *run_id, uint64_t no, struct run_part *out,
                  bool *found, struct err *err);
void run_part_fini(struct run_part *p);
/* Forgets calls that came more than `keep_s` seconds ago, and the oldest beyond `keep_ids` ids in
 * all. What waits stays. */
bool journal_prune_calls(struct journal *j, int64_t keep_s, uint64_t keep_ids, struct err *err);

/* ---- targets ----------------------------------------------------------------------------------
 *
 * What documents of an index are versioned by, for as long as this journal is there.
 */

/* name: the uuid of an index, another one when it is made anew. */
bool journal_note_target(struct journal *j, const char *name, const char *versioning,
                         const char *run_id, struct err *err);
/* malloc'ed; NULL: never noted. */
bool journal_target(struct journal *j, const char *name, char **versioning, struct err *err);
