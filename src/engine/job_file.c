#include "engine/job_parts.h"

#include "base/log.h"
#include "model/value.h"

enum {
    FILE_BATCH_IDS = 8000,
    FILE_BATCH_BYTES = 256 << 10,
};

#define FILE_AXIS "file"

struct file_feed {
    struct job *job;
    struct id_batch batch;
    struct tx *tx;
    uint64_t from; /* offset up to which everything is safe */
    uint64_t end;
    size_t bad;
};

/* Does every part fit the type of its column. */
static bool parts_fit(struct job *j, const struct id_item *item, struct buf *cell, struct err *err)
{
    for (size_t i = 0;
         j->o.key_types && !(item->json.p && j->o.keep_objects) && i < item->part_count; i++) {
        buf_reset(cell);
        if (!value_from_text(j->o.key_types[i], item->parts[i], cell, err))
            return err_wrap(err, "line %llu", (unsigned long long)item->line);
    }
    return true;
}

static void note_bad(struct file_feed *f, const struct id_item *item, struct err *err,
                     const char *counts)
{
    struct slice key = item->raw.p ? item->raw : item->part_count ? item->parts[0] : slice_str("");

    LOG(LOG_DEBUG, "bad_id", F_STR("error", err->text));
    tx_failure(f->tx, key, "bad_id", err->text);
    AUTO_STR char *bad = xsprintf("%sbad", counts);
    tx_count(f->tx, bad, 1);
    f->bad++;
    err_clear(err);
}

static bool commit_file_batch(struct file_feed *f, struct err *err)
{
    struct job *j = f->job;

    if (f->end == f->from)
        return true;
    tx_mark(f->tx, FILE_AXIS, (int64_t)f->from, (int64_t)f->end);
    tx_count(f->tx, "ids", (int64_t)f->bad);
    atomic_fetch_add(&j->ids, f->batch.count + f->bad);
    if (!blocks_add(j->blocks, batch_slices(&f->batch), f->batch.count, f->tx, err))
        return false;
    f->from = f->end;
    f->bad = 0;
    batch_reset(&f->batch);
    return true;
}

static bool seek_to_mark(struct file_feed *f, struct err *err)
{
    struct interval_set done = {0};

    if (!run_marks(f->job->o.run, FILE_AXIS, &done, err))
        return false;
    f->from = done.count ? (uint64_t)done.list[done.count - 1].end : 0;
    interval_set_fini(&done);
    f->end = f->from;
    return !f->from || ids_seek(f->job->o.ids, f->from, err);
}

static bool read_file(struct file_feed *f, struct err *err)
{
    struct job *j = f->job;
    struct id_item item;

    if (!seek_to_mark(f, err))
        return false;
    for (;;) {
        bool got = ids_next(j->o.ids, &item, err);

        if (!got && err->kind == ERR_NONE)
            return commit_file_batch(f, err);
        if (got && parts_fit(j, &item, &f->batch.part, err)) {
            if (item.json.p && j->o.keep_objects) {
                buf_add_slice(&f->batch.text, item.json);
                batch_end_id(&f->batch);
            } else {
                batch_add_parts(j, &f->batch, item.parts, item.part_count);
            }
        } else if (err->kind == ERR_REJECT) {
            note_bad(f, &item, err, "");
        } else {
            return false;
        }
        f->end = item.end;
        if (f->batch.count + f->bad >= FILE_BATCH_IDS || f->batch.text.len >= FILE_BATCH_BYTES) {
            if (!commit_file_batch(f, err))
                return false;
        }
        if (crew_stopped(&j->crew))
            return err_set(err, ERR_CANCEL, "stopped on request");
    }
}

/* The ids of another column: into the set that the scan looks things up in. */
static bool fill_wanted(struct file_feed *f, struct err *err)
{
    struct job *j = f->job;
    struct id_item item;
    uint64_t given = 0;
    uint64_t duplicate = 0;

    for (;;) {
        bool got = ids_next(j->o.ids, &item, err);
        bool added = false;

        if (!got && err->kind == ERR_NONE)
            break;
        given++;
        if (got && parts_fit(j, &item, &f->batch.part, err)) {
            if (!idset_add(j->o.wanted, buf_slice(&f->batch.part), item.parts[0], &added, err))
                return false;
            duplicate += !added;
        } else if (err->kind == ERR_REJECT) {
            note_bad(f, &item, err, "given_");
        } else {
            return false;
        }
        if (crew_stopped(&j->crew))
            return err_set(err, ERR_CANCEL, "stopped on request");
    }
    if (!idset_complete(j->o.wanted, err))
        return false;
    tx_count(f->tx, "given", (int64_t)given);
    tx_count(f->tx, "given_duplicate", (int64_t)duplicate);
    tx_note(f->tx, "wanted", "complete");
    return journal_commit(f->tx, err);
}

bool job_feed_file(struct job *j, struct err *err)
{
    struct file_feed f = {.job = j};

    batch_init(&f.batch);
    f.tx = tx_new(j->o.run);
    bool ok = j->o.wanted ? fill_wanted(&f, err) : read_file(&f, err);
    tx_free(f.tx);
    batch_fini(&f.batch);
    return ok;
}
