/*
 * journal/ended.h - blocks that ended well, noted beside the database until they are brought into
 * it.
 *
 * A transaction for every verdict would cost more than the call it is about. One pwrite() of a few
 * bytes is as safe against the death of the process; many of them go into the database at once.
 * The file is a ring of entries. What it says of a block that the database does not have, or has
 * with other ids, counts for nothing: entries need not be taken out again, and a file that is
 * newer than the database (a machine that crashed) does no harm. Threads: any.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { ENDED_MAX = 4096, ENDED_COUNT_BYTES = 16 };

/* As it lies in the file. */
struct ended_entry {
    int64_t run;
    uint64_t no;
    uint64_t hash; /* of the body */
    uint64_t ids;
    char count[ENDED_COUNT_BYTES]; /* what the ids are counted as */
};

struct ended {
    char *path;
    int fd;               /* -1: not made yet */
    pthread_mutex_t lock; /* of what follows */
    struct ended_entry *ring;
    uint64_t from; /* entries from..to are not in the database yet; slot: number % ENDED_MAX */
    uint64_t to;
};

/* Takes over `path`, malloc'ed. */
void ended_init(struct ended *e, char *path);
/* The file stays. */
void ended_fini(struct ended *e);

enum ended_status { ENDED_OK, ENDED_FULL, ENDED_ERROR };
/* `*waiting`: how many are not in the database yet. ENDED_FULL: nothing done, release some. */
enum ended_status ended_add(struct ended *e, const struct ended_entry *entry, uint64_t *waiting,
                            struct err *err);
/* Those that wait: numbers *from up to *to. */
void ended_waiting(struct ended *e, uint64_t *from, uint64_t *to);
/* False: it was released meanwhile. */
bool ended_get(struct ended *e, uint64_t number, struct ended_entry *out);
/* Those below `to` are in the database. */
void ended_release(struct ended *e, uint64_t to);

/* What an earlier process left, in no order: malloc'ed, NULL when there is nothing. */
bool ended_read(const struct ended *e, struct ended_entry **out, size_t *count, struct err *err);
void ended_remove(struct ended *e);
