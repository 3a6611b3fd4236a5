#include "engine/job_parts.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "engine/retry.h"

struct sender {
    struct job *job;
    struct syncapi *api;
    struct retry retry;
    struct tx *tx;
    struct slice *ids;
    size_t cap;
    struct buf object; /* of JOB_OBJECT_PER_BLOCK */
    bool called;       /* a call was made: the pause counts from its end */
    int64_t ended_ms;
    bool no_await_noted;
};

/* The block's ids as they are sent; object-per-block makes one of them. */
static struct syncapi_block block_ids(struct sender *s, const struct block *block)
{
    struct slice rest = block->body;
    size_t count = 0;

    if (s->cap < block->ids) {
        s->cap = block->ids;
        s->ids = xrealloc(s->ids, s->cap * sizeof *s->ids);
    }
    if (s->job->o.form == JOB_OBJECT_PER_BLOCK) {
        buf_reset(&s->object);
        buf_add_byte(&s->object, '{');
        json_add_string(&s->object, slice_str(s->job->o.field_names[0]));
        buf_add_str(&s->object, ":[");
        buf_add_slice(&s->object, block->body);
        buf_add_str(&s->object, "]}");
        ensure(!s->object.full && "a block is cut to fit");
        s->ids[count++] = buf_slice(&s->object);
    } else if (!s->job->o.api->await) {
        s->ids[count++] = block->body; /* nobody asks for a single one: as they are, with commas */
    } else {
        while (count < block->ids && block_next_id(&rest, &s->ids[count]))
            count++;
    }
    return (struct syncapi_block){s->ids, count};
}

/* A pause counts from its start, so that the estimate of the end stands still in it. */
static void count_pause(struct job *j, int64_t start_ms, bool ended)
{
    pthread_mutex_lock(&j->lock);
    j->pausing += ended ? -1U : 1U;
    j->pause_starts_ms += ended ? -start_ms : start_ms;
    if (ended)
        j->paused_ms += clock_mono_ms(j->o.clock) - start_ms;
    pthread_mutex_unlock(&j->lock);
}

/* The promise to the server: this long between the end of a call and the start of the next. */
static bool keep_pause(struct sender *s, struct err *err)
{
    struct job *j = s->job;
    int64_t now_ms = clock_mono_ms(j->o.clock);
    int64_t left = s->called ? s->ended_ms + j->o.pause_ms - now_ms : 0;

    if (left <= 0)
        return true;
    count_pause(j, now_ms, false);
    bool ok = retry_pause(j->o.clock, j->o.cancel, left, err);
    count_pause(j, now_ms, true);
    return ok;
}

/* Sends until there is a verdict that ends the block or the job. False: the block stays for the
 * next run. */
static bool send_block(struct sender *s, const struct syncapi_block *ids, struct syncapi_verdict *v,
                       struct err *err)
{
    struct job *j = s->job;
    bool await = j->o.api->await;

    for (;;) {
        if (!keep_pause(s, err))
            return false;
        syncapi_send(s->api, ids, await, v);
        s->called = true;
        s->ended_ms = clock_mono_ms(j->o.clock);
        atomic_fetch_add(&j->calls, 1);
        switch (v->outcome) {
        case SYNC_RETRY:
            break;
        case SYNC_UNKNOWN:
            await = false;
            continue;
        case SYNC_CANCELLED:
            return err_set(err, ERR_CANCEL, "stopped on request");
        default:
            retry_ok(&s->retry);
            return true;
        }
        err_set(err, ERR_RETRY, "%s", v->text);
        LOG(LOG_WARN, "call_retry", F_STR("reason", v->reason), F_INT("status", v->status),
            F_INT("tries", s->retry.tries + 1), F_STR("error", v->text));
        AUTO_STR char *note = xsprintf("waiting for the Sync API: %s", v->reason);
        crew_note(&j->crew, note);
        if (!retry_wait(&s->retry, v->retry_after_ms, err))
            return false;
        crew_note(&j->crew, "");
    }
}

static void add_failed_ids(struct sender *s, const struct block *block,
                           const struct syncapi_verdict *v)
{
    struct slice rest = block->body;
    struct slice id;

    /* Under object-per-block the one object speaks for all ids of the block. */
    for (size_t i = 0; block_next_id(&rest, &id); i++) {
        if (!v->id_ok || !v->id_ok[s->job->o.form == JOB_OBJECT_PER_BLOCK ? 0 : i])
            tx_failure(s->tx, id, v->reason, v->text);
    }
}

static bool save_verdict(struct sender *s, const struct block *block,
                         const struct syncapi_verdict *v, struct err *err)
{
    struct job *j = s->job;
    bool awaited = v->outcome == SYNC_CONFIRMED || v->outcome == SYNC_PARTLY;
    uint64_t confirmed = !awaited                            ? 0
                         : j->o.form == JOB_OBJECT_PER_BLOCK ? (v->confirmed ? block->ids : 0)
                                                             : v->confirmed;
    uint64_t accepted = v->outcome == SYNC_ACCEPTED ? block->ids : 0;
    uint64_t failed = block->ids - confirmed - accepted;

    if (!joblog_add(j->o.log, failed == 0, syncapi_last_body(s->api), v->answer, v->text, NULL,
                    err))
        return false;
    if (!failed && (!v->no_await || s->no_await_noted)) {
        const struct run_block ended = {.no = block->no, .ids = block->ids, .body = block->body};

        if (!run_end_block(j->o.run, &ended, accepted ? "accepted" : "confirmed", err))
            return false;
        atomic_fetch_add(&j->done, block->ids);
        return true;
    }
    if (failed)
        add_failed_ids(s, block, v);
    tx_block_end(s->tx, block->no);
    tx_count(s->tx, "accepted", (int64_t)accepted);
    tx_count(s->tx, "confirmed", (int64_t)confirmed);
    tx_count(s->tx, "failed", (int64_t)failed);
    tx_count(s->tx, "blocks", 1);
    if (v->no_await)
        tx_note(s->tx, "no_await", "yes");
    if (!journal_commit(s->tx, err))
        return false;
    s->no_await_noted = s->no_await_noted || v->no_await;
    atomic_fetch_add(&j->done, block->ids);
    atomic_fetch_add(&j->failed, failed);
    return true;
}

static bool handle_block(struct sender *s, const struct block *block, struct err *err)
{
    struct syncapi_block ids = block_ids(s, block);
    struct syncapi_verdict v = {0};

    if (!send_block(s, &ids, &v, err)) {
        struct err log_err;
        /* The block is not lost: the same command sends it. The log says why it stopped here. */
        if (err->kind == ERR_REACH)
            joblog_add(s->job->o.log, false, syncapi_last_body(s->api), v.answer, v.text, NULL,
                       &log_err);
        return false;
    }
    if (v.outcome != SYNC_STOP)
        return save_verdict(s, block, &v, err);
    /* Several calls may be in flight: the first to be told to stop writes the one entry. */
    if (!atomic_exchange(&s->job->told_to_stop, true) &&
        !joblog_add(s->job->o.log, false, syncapi_last_body(s->api), v.answer, v.text, NULL, err))
        return false;
    return err_set(err, ERR_REACH, "%s", v.text);
}

bool job_send(void *ctx, struct err *err)
{
    struct job *j = ctx;
    struct sender s = {.job = j};

    retry_init(&s.retry, j->o.clock, j->o.cancel, j->o.retry_budget_ms);
    s.tx = tx_new(j->o.run);
    buf_init(&s.object, j->o.max_body_bytes + WRAP_BYTES);
    s.api = syncapi_new(j->o.api, err);
    bool ok = s.api != NULL;
    while (ok) {
        AUTO(block) struct block *block = blocks_take(j->blocks);

        if (!block)
            break;
        ok = handle_block(&s, block, err);
    }
    if (s.api)
        syncapi_free(s.api);
    tx_free(s.tx);
    buf_fini(&s.object);
    free(s.ids);
    return ok;
}
