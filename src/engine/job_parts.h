/*
 * engine/job_parts.h - what the files of the job share; for them alone.
 *
 *   job.c        its life, progress and counts
 *   job_feed.c   the feeder: table or file, and what a scan did not find
 *   job_table.c  ids of the rows of a table      job_file.c  ids of a file
 *   job_batch.c  the texts of the ids of a page
 *   job_send.c   blocks to the Sync API          job_csv.c   blocks to syncIds.csv
 *   job_index.c  blocks to an index
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "engine/blocks.h"
#include "engine/counts.h"
#include "engine/crew.h"
#include "engine/job.h"
#include "engine/tasks.h"

enum {
    ID_MAX_BYTES = 64 << 10,
    WRAP_BYTES = 256, /* of the object around a block's ids */
};

struct job {
    struct job_options o;
    struct blocks *blocks;
    struct scan_plan plan;

    unsigned sender_count;
    struct crew crew;     /* the feeder and the senders */
    struct crew scanners; /* made by the feeder */

    pthread_mutex_t lock; /* of what follows */
    struct tasks *tasks;
    bool ids_known;          /* all ids are packed: the total is exact */
    int64_t paused_ms;       /* over all senders, pauses that ended */
    int64_t pause_starts_ms; /* of pauses that go on, summed */
    unsigned pausing;

    atomic_bool told_to_stop; /* by the server */
    atomic_bool collided;     /* an _id that several rows have was told */
    atomic_uint_fast64_t done;
    atomic_uint_fast64_t failed;
    atomic_uint_fast64_t calls;
    atomic_uint_fast64_t ids; /* read by this process, duplicates included */
    uint64_t before;          /* ids with a verdict, by earlier processes */
    uint64_t ids_before;      /* read by them */
    char *csv_part;           /* csv_path while it is being written */
    int csv_fd;
};

/* The ids of one page or batch: their texts in a row, and where each ends. */
struct id_batch {
    struct buf text;
    size_t *ends;
    size_t count;
    size_t cap;
    struct slice *slices;
    struct buf part;
    struct buf csv;
};

void batch_init(struct id_batch *b);
void batch_fini(struct id_batch *b);
void batch_reset(struct id_batch *b);
/* What was added to b->text since the last one is an id. */
void batch_end_id(struct id_batch *b);
/* Adds an id from the texts of its columns, in the form that is sent. */
void batch_add_parts(struct job *j, struct id_batch *b, const struct slice *parts, size_t count);
/* Valid until the batch changes. */
const struct slice *batch_slices(struct id_batch *b);

/* A field of a CSV line, quoted where it must be to be read back. */
void csv_add_field(struct buf *b, struct slice s);

/* Threads of the crew; ctx is the job. */
bool job_feed(void *ctx, struct err *err);
bool job_send(void *ctx, struct err *err);
bool job_index(void *ctx, struct err *err);
bool job_write_csv(void *ctx, struct err *err);

bool job_feed_table(struct job *j, struct err *err);
bool job_feed_file(struct job *j, struct err *err);

/* Written beside, put in place when whole: a half list must not be taken for the list, and the old
 * one may be the very id file that is read. */
bool job_open_csv(struct job *j, struct err *err);
/* With `whole` it becomes syncIds.csv, else it goes. */
bool job_close_csv(struct job *j, bool whole, struct err *err);
