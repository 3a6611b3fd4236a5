#include "engine/keyed_parts.h"

#include <string.h>

enum {
    LOSSES_MAX = 5, /* against other writers */
    LATERS_MAX = 5, /* of "may pass" for a single document while others do pass */
};

static void fail_write(struct keyed *k, struct doc *d, const char *reason, const char *text)
{
    struct keyed_result *r = &k->results[d->element];

    r->unwritten |= !r->reason[0]; /* the first reason is the one that is told */
    keyed_fail(k, d, reason, text);
}

static void lost(struct keyed *k, struct doc *d)
{
    d->state = DOC_LOOK;
    if (++d->losses <= LOSSES_MAX)
        return;
    k->results[d->element].counts.contended++;
    fail_write(k, d, "contended", "another writer was faster each time");
}

static bool is_removal(const struct doc *d)
{
    return d->state == DOC_CONFIRM;
}

/* A document that failed, or a missing row whose document could not be deleted. */
static void refuse(struct keyed *k, struct doc *d, const char *reason, const char *text)
{
    if (is_removal(d))
        keyed_leave(k, d, reason, text);
    else
        fail_write(k, d, reason, text);
}

/* ---- unknown outcomes --------------------------------------------------------------------------
 */

/* A create whose outcome is unknown may have made a document whose row is gone by now. */
static void remember_sent(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    size_t begin = item->line_begin;
    const uint8_t *line = memchr(k->bulk.body.p + begin, '\n', item->line_end - begin);
    size_t source = (size_t)(line + 1 - k->bulk.body.p);
    struct slice sent = slice_of(line + 1, item->line_end - 1 - source);

    if (slice_eq(d->sent, sent))
        return;
    d->sent = keyed_keep(&k->key_mem, sent);
    if (!d->sent.p)
        fail_write(k, d, "outcome_unknown", "no memory left to remember what was sent");
}

/* It is read again, never sent again. */
static void unknown_outcome(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    if (item->op == ELASTIC_CREATE)
        remember_sent(k, d, item);
    else if (item->op == ELASTIC_INDEX)
        d->ours = true;
}

/* ---- deletes -----------------------------------------------------------------------------------
 */

/* Under a condition: the row may have come back before that, and another worker may have found the
 * document as it should be: so the row is read once more. With a version, whoever saw the row come
 * back writes a later one. */
static void deleted(struct keyed *k, struct doc *d, bool was_there)
{
    bool removal = is_removal(d);

    d->removed |= removal && was_there;
    if (k->versioning != VERSIONING_SEQUENCE) {
        keyed_settle(k, d, d->removed ? DOC_REMOVED : DOC_GONE);
        return;
    }
    d->created_term = 0;
    d->sent = SLICE_NULL;
    lost(k, d);
}

/* ---- conflicts ---------------------------------------------------------------------------------
 */

static void foreign(struct keyed *k, struct doc *d, int64_t there)
{
    char text[256];

    guard_foreign_text(k->guard, there, text, sizeof text);
    refuse(k, d, "foreign_version", text);
}

/* A later version is there. It may be of a read that saw less than we would see now: read once
 * more, with a new T; a second conflict is of somebody who read still later. */
static void stale(struct keyed *k, struct doc *d, bool delete)
{
    bool again = k->versioning == VERSIONING_READ_TIME || delete;

    if (again && !d->first_is_stale && d->conflicts++ == 0)
        d->state = DOC_LOOK;
    else
        keyed_settle(k, d, delete ? DOC_GONE : DOC_STALE);
}

static void version_conflict(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    bool delete = item->op == ELASTIC_DELETE;

    switch (guard_conflict(k->guard, item->there, d->version)) {
    case GUARD_FOREIGN:
        foreign(k, d, item->there);
        return;
    case GUARD_EQUAL:
        if (k->versioning == VERSIONING_WRITE_TIME && !delete)
            keyed_settle(k, d, DOC_UNCHANGED);
        else
            stale(k, d, delete);
        return;
    case GUARD_STALE:
        stale(k, d, delete);
        return;
    }
}

static void conflict(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    if (keyed_is_versioned(k)) {
        version_conflict(k, d, item);
        return;
    }
    if (item->op == ELASTIC_DELETE)
        d->sent = SLICE_NULL; /* somebody else's document now */
    lost(k, d);
}

/* ---- verdicts ----------------------------------------------------------------------------------
 */

static void done(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    if (item->op == ELASTIC_DELETE) {
        deleted(k, d, true);
    } else if (item->op == ELASTIC_CREATE) {
        d->state = DOC_CHECK;
        d->created_seq_no = item->seq_no;
        d->created_term = item->primary_term;
    } else if (item->created && keyed_is_versioned(k) &&
               guard_doubts(k->guard, d->read_at_us, item->primary_term)) {
        d->state = DOC_CHECK;
    } else {
        keyed_settle(k, d, DOC_INDEXED);
    }
}

/* Overload and blocks pass for all together: the budget ends those. */
static bool later(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    const struct elastic_problem *p = item->problem;

    if (item->status >= 500)
        unknown_outcome(k, d, item);
    if (d->state == DOC_FAILED)
        return false;
    if (++d->laters > LATERS_MAX && item->status >= 500 && item->status != 503)
        refuse(k, d, p ? p->reason : "server_error", p ? p->text : "");
    else
        d->state = DOC_LOOK; /* also behind a delete: the row may be back by then */
    return true;
}

bool keyed_judge(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    const struct elastic_problem *p = item->problem;

    switch ((enum elastic_verdict)item->verdict) {
    case ELASTIC_DONE:
        done(k, d, item);
        return false;
    case ELASTIC_GONE:
        deleted(k, d, false);
        return false;
    case ELASTIC_CONFLICT:
        conflict(k, d, item);
        return false;
    case ELASTIC_LATER:
        return later(k, d, item);
    case ELASTIC_REJECTED:
        refuse(k, d, p ? p->reason : "rejected", p ? p->text : "refused by Elasticsearch");
        return false;
    case ELASTIC_OPEN:
        unknown_outcome(k, d, item);
        if (d->state != DOC_FAILED)
            d->state = DOC_LOOK;
        return false;
    }
    return false;
}
