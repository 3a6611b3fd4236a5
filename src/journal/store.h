/*
 * journal/store.h - what journal.c, run.c and tx.c share: the inside of a journal.
 *
 * Two connections: the writer's belongs to whoever leads (one at a time), the reader's to whoever
 * holds read_lock. Everything that writes is a job. Who brings one while nobody leads, leads: does
 * all jobs that wait between one BEGIN and COMMIT, then hands on. So a lone committer waits for no
 * other thread, and many share a transaction.
 */
#pragma once
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "journal/db.h"
#include "journal/ended.h"
#include "journal/journal.h"
#include "journal/lock.h"

struct job {
    /* False undoes what it did. May be called once more after that. */
    bool (*work)(struct journal *j, struct db *db, void *ctx, struct err *err);
    void *ctx;
    bool soon; /* need not be on the disk when it is committed */
    struct err *err;
    bool ok;
    bool done;  /* set before the wake-up; awake and not done: it leads */
    sem_t wake; /* not a condition: nobody has to wait for the lock on waking up */
    struct job *next;
};

struct journal {
    char *state_dir;
    char *path;
    bool durable;
    struct clock *clock;

    struct db writer;

    pthread_mutex_t lock; /* guards the three below */
    struct job *first;
    struct job **last;
    bool led; /* somebody is at work on the writer */

    pthread_mutex_t read_lock;
    struct db reader;
};

struct run {
    struct journal *journal;
    int64_t no;
    char id[32];
    int64_t started_us;
    struct run_lock lock;
    struct ended ended;
    _Atomic int64_t ended_ms; /* when the last of them were brought into the database */
};

/* Does it, together with what others brought; returns when it is committed. */
bool journal_do(struct journal *j,
                bool (*work)(struct journal *j, struct db *db, void *ctx, struct err *err),
                void *ctx, struct err *err);
/* The same, when a machine that crashes may forget it. */
bool journal_do_soon(struct journal *j,
                     bool (*work)(struct journal *j, struct db *db, void *ctx, struct err *err),
                     void *ctx, struct err *err);
/* The lock file of an identity's hash; malloc'ed. */
char *journal_lock_path(const struct journal *j, const char *identity_hash);
/* Removes the blocks that have ended. */
bool blocks_sweep(struct db *db, int64_t run, struct err *err);
/* Brings the ended blocks that wait into the database; `*to` is for ended_release(), once that is
 * committed. Doing it again changes nothing. */
bool ended_apply(struct run *r, struct db *db, uint64_t *to, struct err *err);
