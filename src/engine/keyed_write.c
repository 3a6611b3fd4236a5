#include "engine/keyed_parts.h"

#include <string.h>

#include "base/text.h"

/* The stored document's fields that are not ours, behind our own. */
static void add_preserved(struct keyed *k, const struct json *stored, struct buf *doc)
{
    json_each (field, stored) {
        if (!plan_preserves(k->plan, field->key))
            continue;
        doc->len--; /* the brace */
        if (doc->len > 1)
            buf_add_byte(doc, ',');
        json_add_string(doc, field->key);
        buf_add_byte(doc, ':');
        json_write(doc, field);
        buf_add_byte(doc, '}');
        if (doc->full)
            return;
    }
}

bool keyed_same_json(struct keyed *k, struct slice text, const struct json *stored)
{
    struct err ignored = {0};

    arena_reset(&k->write_mem);
    const struct json *ours = json_parse(text, &k->write_mem, &ignored);
    return ours && json_equal(ours, stored);
}

bool keyed_set_routing(struct keyed *k, struct doc *d, const struct slice *cells, struct err *err)
{
    if (!plan_has_routing(k->plan) || (!cells && d->routing.p))
        return true;
    if (!cells && !plan_routing_by_key(k->plan))
        return err_set(err, ERR_REJECT, "its routing needs columns of the row, which is gone");
    buf_reset(&k->routing);
    if (!plan_routing(k->plan, cells ? cells : d->key, &k->routing, err))
        return false;
    if (slice_eq(buf_slice(&k->routing), d->routing))
        return true;
    d->routing = keyed_keep(&k->key_mem, buf_slice(&k->routing));
    return d->routing.p || err_set(err, ERR_REJECT, "no memory left for the routing");
}

static void add_action(struct keyed *k, struct doc *d, struct elastic_action *a,
                       struct slice source)
{
    a->id = d->id;
    a->routing = d->routing;
    elastic_bulk_begin(&k->bulk, a);
    buf_add_slice(&k->bulk.body, source);
    if (!elastic_bulk_end(&k->bulk)) {
        k->round_cut = true;
        if (k->bulk.count == 0)
            keyed_fail(k, d, "document_too_large",
                       "the document is larger than the memory for a body");
        return; /* else it waits for the next pass */
    }
    k->bulk_docs[k->bulk.count - 1] = d;
    d->version = a->version;
    if (k->bulk.count == 1 || d->read_at_us < k->oldest_us)
        k->oldest_us = d->read_at_us;
}

/* ---- a row -------------------------------------------------------------------------------------
 */

const struct doc *keyed_later(const struct keyed *k, const struct doc *d)
{
    return d->later ? &k->docs[d->later - 1] : NULL;
}

/* Else each would take back at every sync what another wrote. */
bool keyed_is_shadowed(const struct keyed *k, const struct doc *d)
{
    for (const struct doc *l = keyed_later(k, d); l; l = keyed_later(k, l))
        if (l->state == DOC_INDEXED || l->state == DOC_UNCHANGED)
            return true;
    return false;
}

/* What is stored is looked at: merged, left alone, or replaced as it was. */
static void write_on_condition(struct keyed *k, struct doc *d)
{
    const struct elastic_found *stored = &d->stored;

    if (keyed_is_shadowed(k, d)) {
        keyed_settle(k, d, DOC_MERGED);
        return;
    }
    if (stored->found && !stored->source && plan_has_preserve(k->plan)) {
        keyed_fail(k, d, "no_source", "the index keeps no _source to preserve fields from");
        return;
    }
    if (stored->found && stored->source) {
        add_preserved(k, stored->source, &k->text);
        if (k->text.full) {
            keyed_fail(k, d, "document_too_large",
                       "the document is larger than the memory for one");
            return;
        }
        if (keyed_same_json(k, buf_slice(&k->text), stored->source)) {
            keyed_settle(k, d, DOC_UNCHANGED);
            return;
        }
    }
    struct elastic_action a = {.op = ELASTIC_CREATE, .condition = ELASTIC_ALWAYS};
    if (stored->found)
        a = (struct elastic_action){.op = ELASTIC_INDEX,
                                    .condition = ELASTIC_IF_SEQ_NO,
                                    .seq_no = stored->seq_no,
                                    .primary_term = stored->primary_term};
    add_action(k, d, &a, buf_slice(&k->text));
}

static void write_version(struct keyed *k, struct doc *d, const struct slice *cells)
{
    struct elastic_action a = {
        .op = ELASTIC_INDEX, .condition = ELASTIC_VERSION_GTE, .version = d->read_at_us};
    struct err why = {0};

    if (k->versioning == VERSIONING_WRITE_TIME) {
        a.condition = ELASTIC_VERSION;
        if (!plan_write_version(k->plan, cells, &a.version, &why)) {
            keyed_fail(k, d, "bad_version", why.text);
            return;
        }
    }
    add_action(k, d, &a, buf_slice(&k->text));
}

static bool is_filtered(const struct keyed *k, const struct doc *d, const struct slice *cells)
{
    for (uint16_t i = 0; i < d->query->after_count; i++)
        if (!plan_filter_holds(&d->query->after[i], cells))
            return true;
    for (size_t i = 0; i < (k->o.where ? k->o.where->count : 0); i++)
        if (!where_holds(&k->o.where->list[i], cells[k->where_cells[i]]))
            return true;
    return false;
}

/* The partition is there, and the mapping wants none of its rows. Whoever asked for it misses it. A
 * second read of the partition alone does not tell: the row's next one does. */
static void no_rows(struct keyed *k, struct doc *d)
{
    bool confirmed = d->gone_at_ms && !d->removed;

    if (!k->by_id) {
        keyed_settle(k, d, DOC_FILTERED);
    } else if (confirmed) {
        d->state = DOC_CONFIRM; /* what comes of the delete is judged as a removal's */
        keyed_remove(k, d);
    } else {
        keyed_no_row(k, d);
    }
}

void keyed_write_row(struct keyed *k, struct doc *d, const struct slice *cells)
{
    struct elastic_action plain = {.op = ELASTIC_INDEX, .condition = ELASTIC_ALWAYS};
    struct json_counts altered = {0};
    struct err why = {0};

    if (is_filtered(k, d, cells)) {
        keyed_settle(k, d, DOC_FILTERED);
        return;
    }
    buf_reset(&k->text);
    if (!plan_make(k->plan, cells, d->id, &k->fetched, &k->work, &k->text, &altered, &why)) {
        if (strcmp(k->work.reason, PLAN_FILTERED) == 0)
            no_rows(k, d);
        else
            keyed_fail(k, d, k->work.reason, why.text);
        return;
    }
    if (json_counts_sum(&altered) && k->o.strict_values) {
        keyed_fail(k, d, "altered_value", "a value can't be written as it is");
        return;
    }
    d->gone_at_ms = 0; /* what was missing once is there */
    d->altered = json_counts_sum(&altered);
    d->bad_json = altered.bad_json;
    d->lookup_missing = altered.lookup_missing;
    if (!keyed_set_routing(k, d, cells, &why)) {
        keyed_fail(k, d, "bad_routing", why.text);
        return;
    }
    switch (k->versioning) {
    case VERSIONING_SEQUENCE:
        write_on_condition(k, d);
        return;
    case VERSIONING_READ_TIME:
    case VERSIONING_WRITE_TIME:
        write_version(k, d, cells);
        return;
    case VERSIONING_NONE:
        add_action(k, d, &plain, buf_slice(&k->text));
        return;
    }
}

/* ---- no row ------------------------------------------------------------------------------------
 */

/* Our own create made what is stored, whether or not we got its answer. */
static bool is_ours(struct keyed *k, const struct doc *d)
{
    const struct elastic_found *stored = &d->stored;

    if (keyed_is_versioned(k))
        return d->ours;
    if (!stored->found)
        return false;
    if (d->created_term && stored->primary_term == d->created_term &&
        stored->seq_no == d->created_seq_no)
        return true;
    return d->sent.p && stored->source && keyed_same_json(k, d->sent, stored->source);
}

/* A delete of what was looked at, or with the time at which the row was not there. */
static void add_delete(struct keyed *k, struct doc *d, int64_t seq_no, int64_t term)
{
    struct elastic_action a = {.op = ELASTIC_DELETE, .condition = ELASTIC_ALWAYS};

    if (k->versioning == VERSIONING_SEQUENCE) {
        a.condition = ELASTIC_IF_SEQ_NO;
        a.seq_no = seq_no;
        a.primary_term = term;
    } else if (keyed_is_versioned(k)) {
        a.condition = ELASTIC_VERSION_GTE;
        a.version = d->read_at_us;
    }
    add_action(k, d, &a, SLICE_NULL);
}

void keyed_undo(struct keyed *k, struct doc *d)
{
    struct err why = {0};

    if (!keyed_set_routing(k, d, NULL, &why)) {
        keyed_fail(k, d, "bad_routing", why.text);
        return;
    }
    d->ours = true;
    add_delete(k, d, d->created_seq_no, d->created_term);
}

void keyed_leave(struct keyed *k, struct doc *d, const char *reason, const char *text)
{
    keyed_tell(&k->results[d->element], reason, text);
    keyed_settle(k, d, DOC_GONE);
}

/* A document that is there is reported, not deleted, unless it is ours, or the options say so and
 * it is no other row's. */
void keyed_no_row(struct keyed *k, struct doc *d)
{
    struct err why = {0};

    if (is_ours(k, d)) {
        if (keyed_set_routing(k, d, NULL, &why))
            add_delete(k, d, d->stored.seq_no, d->stored.primary_term);
        else
            keyed_fail(k, d, "bad_routing", why.text);
    } else if (d->removed) {
        keyed_settle(k, d, DOC_REMOVED);
    } else if (k->o.missing != KEYED_DELETE || keyed_is_shadowed(k, d)) {
        keyed_settle(k, d, DOC_GONE);
    } else {
        d->state = DOC_CONFIRM;
        d->gone_at_ms = clock_mono_ms(k->o.clock);
    }
}

void keyed_remove(struct keyed *k, struct doc *d)
{
    char why[200] = "";
    char text[256];
    struct err unknown = {0};

    if (k->versioning == VERSIONING_SEQUENCE && !d->stored.found) {
        keyed_settle(k, d, DOC_GONE); /* as wanted */
        return;
    }
    if (!keyed_set_routing(k, d, NULL, &unknown)) {
        keyed_leave(k, d, "bad_routing", unknown.text);
        return;
    }
    bool may = d->counted ? !brake_pulled(k->o.brake, NULL, 0) : brake_delete(k->o.brake);
    d->counted = true;
    if (may) {
        add_delete(k, d, d->stored.seq_no, d->stored.primary_term);
        return;
    }
    brake_pulled(k->o.brake, why, sizeof why);
    snprintf(text, sizeof text, "not deleted: %s", why);
    keyed_leave(k, d, BRAKE_REASON, text);
}
