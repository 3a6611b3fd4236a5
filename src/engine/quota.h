/*
 * engine/quota.h - how many documents are still wanted, for all workers together (--limit).
 *
 * A page holds as many as it may become documents, and gives back what came to nothing once it is
 * journalled. The page for which there are too few left is taken by one worker alone, document by
 * document; it waits for what the others give back, and ends there, journalled after all of them.
 * So the journal never has a part of a page but in its very last commit, and a run that goes on
 * neither repeats documents nor leaves out any of the N. Threads: any; a quota_page is one
 * worker's.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "engine/crew.h"

struct quota {
    bool limited;
    atomic_bool ended; /* all are journalled */
    struct crew *crew;
    struct clock *clock;
    pthread_mutex_t lock; /* of what follows */
    uint64_t left;        /* held by nobody */
    uint64_t open;        /* held by pages that are not cut */
    bool cutting;
};

struct quota_page {
    uint64_t held;
    bool cuts; /* it may be the last one: takes as it goes */
};

/* limit 0: none. done: by earlier processes of the run. */
void quota_init(struct quota *q, uint64_t limit, uint64_t done, struct crew *crew,
                struct clock *clock);
void quota_fini(struct quota *q);

/* Nothing more is to be read. */
static inline bool quota_ended(struct quota *q)
{
    return q->limited && atomic_load(&q->ended);
}

/*
 * Before a page of so many rows that may become documents.
 * False with ERR_NONE: there are enough, the page is not wanted; with ERR_CANCEL: stopped.
 */
bool quota_begin(struct quota *q, struct quota_page *p, uint64_t wanted, struct err *err);

bool quota_take_slowly(struct quota *q, struct quota_page *p);
/* For the next document. False: there is none left, see quota_more(). */
static inline bool quota_take(struct quota *q, struct quota_page *p)
{
    return !p->cuts || quota_take_slowly(q, p);
}

/*
 * After quota_take() failed, and what the page has so far is settled: so many documents. True: take
 * again. False with ERR_NONE: there are enough, the page ends here, and is no mark; with
 * ERR_CANCEL: stopped.
 */
bool quota_more(struct quota *q, struct quota_page *p, uint64_t documents, struct err *err);
/* The page's documents are journalled; 0: the page was given up. */
void quota_end(struct quota *q, struct quota_page *p, uint64_t documents);
