#include "engine/job_parts.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    WAITING_BYTES = 256 << 10,
};

static bool count_before(struct job *j, struct err *err)
{
    static const char *const names[] = {"accepted", "confirmed", "failed", "ids_found", "missing"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t n = 0;

        if (!run_count(j->o.run, names[i], &n, err))
            return false;
        j->before += (uint64_t)n;
        if (i == 2)
            atomic_store(&j->failed, (uint64_t)n);
    }
    int64_t read = 0;
    bool ok = run_count(j->o.run, "ids", &read, err);
    j->ids_before = (uint64_t)read;
    return ok;
}

/* Whoever waits for blocks, on either side, is woken; scan workers look at their crew. */
static void stop_all(void *ctx)
{
    struct job *j = ctx;

    blocks_stop(j->blocks);
    atomic_store(&j->scanners.stop, true);
}

static void job_free(struct job *j)
{
    if (j->csv_fd >= 0)
        close(j->csv_fd);
    free(j->csv_part);
    free(j);
}

struct job *job_start(const struct job_options *o, struct err *err)
{
    struct job *j = xalloc(sizeof *j);
    size_t frame = syncapi_frame_bytes(o->object_type, true) +
                   (o->form == JOB_OBJECT_PER_BLOCK ? WRAP_BYTES : 0);

    j->o = *o;
    j->csv_fd = -1;
    if (!count_before(j, err) || (!o->api && !o->keyed && !job_open_csv(j, err))) {
        job_free(j);
        return NULL;
    }
    pthread_mutex_init(&j->lock, NULL);
    crew_init(&j->crew, o->cancel, stop_all, j);
    crew_init(&j->scanners, o->cancel, NULL, NULL);
    j->blocks = blocks_new(&(struct blocks_options){
        .run = o->run,
        .cancel = o->cancel,
        .block_ids = o->block_ids,
        .block_bytes = o->max_body_bytes > frame ? o->max_body_bytes - frame : 1,
        .waiting_bytes = WAITING_BYTES,
        .passing = !o->api && !o->keyed,
    });
    j->sender_count = o->api || o->keyed ? o->workers : 1;
    for (unsigned i = 0; i < j->sender_count; i++)
        crew_add(&j->crew, o->keyed ? job_index : o->api ? job_send : job_write_csv, j);
    crew_add(&j->crew, job_feed, j);
    return j;
}

bool job_wait(struct job *j, int64_t ms)
{
    return crew_wait(&j->crew, ms);
}

/* Ids that are to get a verdict; 0: unknown. Duplicates and bad ones leave it as they are met. */
static uint64_t total_ids(struct job *j)
{
    uint64_t read = j->ids_before + atomic_load(&j->ids);
    uint64_t packed = j->before + blocks_packed(j->blocks);

    if (j->ids_known)
        return packed;
    if (j->o.ids && !j->o.wanted) {
        uint64_t given = ids_file(j->o.ids)->count;

        return packed + (given > read ? given - read : 0);
    }
    uint64_t estimate = j->tasks && j->o.wanted_column < 0 ? tasks_estimated_rows(j->tasks) : 0;
    return estimate > packed ? estimate : 0;
}

void job_progress(struct job *j, struct job_progress *out)
{
    uint64_t done = j->before + atomic_load(&j->done);

    *out =
        (struct job_progress){.done = done, .before = j->before, .failed = atomic_load(&j->failed)};
    pthread_mutex_lock(&j->lock);
    int64_t pausing_ms = j->pausing * clock_mono_ms(j->o.clock) - j->pause_starts_ms;
    out->total = total_ids(j);
    out->paused_ms = (j->paused_ms + pausing_ms) / j->sender_count;
    pthread_mutex_unlock(&j->lock);
    crew_copy_note(&j->crew, out->note);
    if (j->o.keyed && j->o.keyed->pause)
        pause_copy_note(j->o.keyed->pause, out->note, sizeof out->note);
    if (out->total <= done || !j->o.api)
        return;
    uint64_t calls = (out->total - done + j->o.block_ids - 1) / j->o.block_ids;
    int64_t left_ms = ((int64_t)calls * j->o.pause_ms - pausing_ms) / j->sender_count;
    out->pauses_left_ms = left_ms > 0 ? left_ms : 0;
}

static const struct count count_list[] = {
    COUNT(job_counts, ids),
    COUNT(job_counts, duplicate),
    COUNT(job_counts, bad),
    COUNT(job_counts, missing),
    COUNT(job_counts, accepted),
    COUNT(job_counts, confirmed),
    COUNT(job_counts, failed),
    COUNT(job_counts, given),
    COUNT(job_counts, given_duplicate),
    COUNT(job_counts, given_bad),
    COUNT(job_counts, given_missing),
    COUNT(job_counts, found),
    COUNT(job_counts, blocks),
    COUNT(job_counts, unread_ranges),
    COUNT(job_counts, ids_found),
    COUNT(job_counts, deleted),
    COUNT(job_counts, kept),
    COUNT(job_counts, rows),
    COUNT(job_counts, filtered),
    COUNT(job_counts, merged),
    COUNT(job_counts, documents),
    COUNT(job_counts, indexed),
    COUNT(job_counts, unchanged),
    COUNT(job_counts, stale),
    COUNT(job_counts, documents_failed),
    COUNT(job_counts, altered),
    COUNT(job_counts, lookup_missing),
    COUNT(job_counts, id_collision),
    {NULL, 0},
};

static bool read_counts(struct job *j, struct job_counts *c, struct err *err)
{
    AUTO_STR char *no_await = NULL;

    if (!counts_read(j->o.run, count_list, c, err))
        return false;
    c->calls = atomic_load(&j->calls);
    if (!run_note(j->o.run, "no_await", &no_await, err))
        return false;
    c->no_await = no_await != NULL;
    return true;
}

bool job_finish(struct job *j, struct job_counts *counts, struct err *err)
{
    struct err count_err = {0};

    *counts = (struct job_counts){0};
    crew_join(&j->crew, err);
    if (!read_counts(j, counts, &count_err) && err->kind == ERR_NONE)
        *err = count_err;
    if (j->csv_fd >= 0)
        job_close_csv(j, err->kind == ERR_NONE, err);
    if (j->tasks)
        tasks_free(j->tasks);
    scan_plan_fini(&j->plan);
    blocks_free(j->blocks);
    crew_fini(&j->crew);
    crew_fini(&j->scanners);
    pthread_mutex_destroy(&j->lock);
    job_free(j);
    return err->kind == ERR_NONE;
}

bool job_conserved(const struct job_counts *c)
{
    return c->ids == c->duplicate + c->bad + c->missing + c->accepted + c->confirmed + c->failed +
                         c->ids_found &&
           c->given == c->given_duplicate + c->given_bad + c->given_missing + c->found &&
           c->rows == c->filtered + c->merged + c->documents &&
           c->documents == c->indexed + c->unchanged + c->stale + c->documents_failed &&
           (!c->ids_found || c->missing == c->deleted + c->kept);
}
