#include "engine/job_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

struct missing_report {
    struct job *job;
    struct tx *tx;
    int64_t row;
    uint64_t count;
};

enum { MISSING_BATCH = 1000 };

static bool add_missing(void *ctx, int64_t row, struct slice text)
{
    struct missing_report *m = ctx;

    tx_failure(m->tx, text, "missing", "no row of the table has this value");
    m->row = row;
    return ++m->count < MISSING_BATCH;
}

static bool report_missing(struct job *j, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(j->o.run);
    struct missing_report m = {.job = j, .tx = tx};
    AUTO_STR char *after = NULL;
    uint64_t found = 0;

    if (!run_note(j->o.run, "missing_after", &after, err))
        return false;
    if (after && strcmp(after, "all") == 0)
        return true;
    if (after)
        text_to_i64(slice_str(after), 0, INT64_MAX, &m.row);
    do {
        char row[24];

        m.count = 0;
        if (!idset_each_unseen(j->o.wanted, m.row, add_missing, &m, err))
            return false;
        snprintf(row, sizeof row, "%lld", (long long)m.row);
        tx_note(tx, "missing_after", m.count < MISSING_BATCH ? "all" : row);
        tx_count(tx, "given_missing", (int64_t)m.count);
        if (m.count < MISSING_BATCH) {
            if (!idset_seen(j->o.wanted, &found, err))
                return false;
            tx_count(tx, "found", (int64_t)found);
        }
        if (!journal_commit(tx, err))
            return false;
    } while (m.count == MISSING_BATCH);
    return true;
}

static bool feed(struct job *j, struct err *err)
{
    /* What was packed before goes first: those ids waited longest. */
    if (!blocks_reload(j->blocks, err))
        return false;
    if (j->o.ids && !(j->o.wanted && j->o.wanted_complete) && !job_feed_file(j, err))
        return false;
    if (j->o.schema && (!j->o.ids || j->o.wanted)) {
        if (!job_feed_table(j, err))
            return false;
        if (crew_stopped(&j->crew))
            return err_set(err, ERR_CANCEL, "stopped on request");
        if (j->o.wanted && !report_missing(j, err))
            return false;
    }
    return blocks_finish(j->blocks, err);
}

bool job_feed(void *ctx, struct err *err)
{
    struct job *j = ctx;
    bool ok = feed(j, err);

    pthread_mutex_lock(&j->lock);
    j->ids_known = ok;
    pthread_mutex_unlock(&j->lock);
    return ok;
}
