#include "engine/keyed.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/keyed_parts.h"

enum {
    BUDGET_MS = 10 * 60 * 1000,
    MEMORY_BYTES = 32 << 20,
    ROUTING_BYTES = 64 << 10,
};

/* ---- life --------------------------------------------------------------------------------------
 */

static size_t plan_list_count(const struct plan *const *plans)
{
    size_t n = 0;

    while (plans[n])
        n++;
    return n;
}

static void find_where_cells(struct keyed *k)
{
    const struct where *w = k->o.where;
    const struct plan *p = k->o.plans[0];

    if (!w)
        return;
    k->where_cells = xalloc(w->count * sizeof *k->where_cells);
    for (size_t i = 0; i < w->count; i++) {
        const struct select wanted = {w->list[i].column, SELECT_COLUMN};
        uint16_t cell = 0;

        while (!select_eq(plan_selects(p)[cell], wanted))
            ensure(++cell < plan_column_count(p) && "the plan reads what conditions are about");
        k->where_cells[i] = cell;
    }
}

struct keyed *keyed_open(const struct keyed_options *o, struct err *err)
{
    struct keyed *k = xalloc(sizeof *k);

    k->o = *o;
    k->memory_bytes = o->memory_bytes ? o->memory_bytes : MEMORY_BYTES;
    if (!k->o.retry_budget_ms)
        k->o.retry_budget_ms = BUDGET_MS;
    arena_init(&k->call_mem, 2 * k->memory_bytes);
    arena_init(&k->query_mem, 2 * k->memory_bytes);
    arena_init(&k->key_mem, 2 * k->memory_bytes);
    size_t most = o->most_bytes > k->memory_bytes ? o->most_bytes : k->memory_bytes;
    arena_init(&k->look_mem, most);
    arena_init(&k->write_mem, most);
    arena_init(&k->row_mem, most);
    plan_work_init(&k->work, most);
    fetched_init(&k->fetched, most);
    k->kept = xalloc(SCAN_DOCS * sizeof(struct doc *));
    map_init(&k->seen);
    map_init(&k->flush_ids);
    elastic_bulk_init(&k->bulk, most / 2);
    k->bulk_docs = xalloc(SCAN_DOCS * sizeof(struct doc *));
    buf_init(&k->text, most / 2);
    buf_init(&k->routing, ROUTING_BYTES);
    k->partition_texts = xalloc((plan_list_count(o->plans) + 1) * sizeof *k->partition_texts);
    k->look_max = k->scan_docs = ROUND_DOCS;
    find_where_cells(k);
    k->elastic = o->sink;
    k->session = cql_session_open(o->cluster, err);
    if (k->session && !k->elastic) {
        struct elastic_options elastic = *o->elastic;
        if (!elastic.max_answer_bytes)
            elastic.max_answer_bytes = k->memory_bytes;
        k->elastic = elastic_new(&elastic, err);
        k->owns_elastic = true;
    }
    if (k->session && k->elastic)
        return k;
    keyed_free(k);
    return NULL;
}

void keyed_free(struct keyed *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < plan_list_count(k->o.plans); i++)
        free(k->partition_texts[i]);
    free(k->partition_texts);
    if (k->owns_elastic)
        elastic_free(k->elastic);
    cql_session_free(k->session);
    buf_fini(&k->routing);
    buf_fini(&k->text);
    elastic_bulk_fini(&k->bulk);
    map_fini(&k->seen);
    map_fini(&k->flush_ids);
    fetched_fini(&k->fetched);
    plan_work_fini(&k->work);
    arena_fini(&k->row_mem);
    arena_fini(&k->write_mem);
    arena_fini(&k->look_mem);
    arena_fini(&k->key_mem);
    arena_fini(&k->query_mem);
    arena_fini(&k->call_mem);
    keyed_forget_intervals(k);
    keyed_forget_ranges(k);
    free(k->where_cells);
    free(k->extras);
    free(k->kept);
    free(k->bulk_docs);
    free(k->shared);
    free(k->docs);
    free(k);
}

const struct plan *keyed_plan(const struct keyed *k, const char *object_type)
{
    for (const struct plan *const *p = k->o.plans; *p; p++)
        if (!strcmp(plan_object(*p), object_type))
            return *p;
    return NULL;
}

struct slice keyed_keep(struct arena *mem, struct slice s)
{
    if (!s.p)
        return s;
    return slice_of(arena_strndup(mem, s.p, s.n), s.n);
}

bool keyed_no_memory(struct err *err)
{
    return err_set(err, ERR_SYSTEM, "the memory set aside for a call is too small for its ids");
}

/* Waits before the next try. The first failure in a row is told, and every tenth; a pause is, once.
 */
bool keyed_wait(struct keyed *k, const char *event, int64_t at_least_ms, struct err *err)
{
    if (err->kind != ERR_RETRY)
        return false;
    bool told = k->o.pause && pause_is_on(k->o.pause);
    if (k->retry.tries % 10 == 0 && !told)
        LOG(LOG_WARN, event, F_STR("object", plan_object(k->plan)),
            F_INT("tries", k->retry.tries + 1), F_STR("error", err->text));
    return retry_wait(&k->retry, at_least_ms, err);
}

/* ---- results -----------------------------------------------------------------------------------
 */

/* The first failure of an element is the one that is told. */
void keyed_tell(struct keyed_result *r, const char *reason, const char *text)
{
    if (r->reason[0])
        return;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    snprintf(r->text, sizeof r->text, "%.*s", (int)sizeof r->text - 1, text);
}

void keyed_settle(struct keyed *k, struct doc *d, enum doc_state state)
{
    struct keyed_counts *c = &k->results[d->element].counts;

    d->state = state;
    if (d->seen)
        d->seen->state = state;
    retry_ok(&k->retry); /* the only progress: looks and reads may well pass while writes do not */
    if (state == DOC_GONE || state == DOC_REMOVED) {
        c->gone++;
        c->removed += state == DOC_REMOVED;
        return;
    }
    c->rows++;
    if (state == DOC_FILTERED || state == DOC_MERGED) {
        c->filtered += state == DOC_FILTERED;
        c->merged += state == DOC_MERGED;
        return;
    }
    c->documents++;
    c->altered += state == DOC_FAILED ? 0 : d->altered;
    c->bad_json += state == DOC_FAILED ? 0 : d->bad_json;
    c->lookup_missing += state == DOC_FAILED ? 0 : d->lookup_missing;
    if (state == DOC_INDEXED)
        c->indexed++;
    else if (state == DOC_UNCHANGED)
        c->unchanged++;
    else if (state == DOC_STALE)
        c->stale++;
    else
        c->failed++;
}

void keyed_fail(struct keyed *k, struct doc *d, const char *reason, const char *text)
{
    keyed_tell(&k->results[d->element], reason, text);
    if (k->o.on_failure)
        k->o.on_failure(k->o.on_failure_ctx, k->plan, d->key, reason, text);
    keyed_settle(k, d, DOC_FAILED);
}

/* ---- a call ------------------------------------------------------------------------------------
 */

/* No row at all: whether that is well, the options say. */
static void finish_missing(struct keyed *k, struct keyed_result *r)
{
    bool wanted =
        k->o.missing == KEYED_KEEP || (k->o.missing == KEYED_DELETE && r->counts.gone > 0);

    r->ok = wanted && !r->reason[0];
    if (!r->ok)
        keyed_tell(r, "missing",
                   r->counts.filtered ? "no row fulfils the conditions" : "no row has this key");
}

/* Keys that belong to another element's documents, and what each element comes to. */
static void finish(struct keyed *k, uint32_t count)
{
    for (size_t i = 0; i < k->shared_count; i++) {
        struct keyed_result *r = &k->results[k->shared[i].element];
        enum doc_state state = k->shared[i].seen->state;
        if (state == DOC_GONE || state == DOC_REMOVED) {
            r->counts.gone++;
            r->counts.removed += state == DOC_REMOVED;
            continue;
        }
        r->counts.rows++;
        r->counts.merged++;
        if (state == DOC_FAILED)
            keyed_tell(r, "shared_failed", "a document that another element asks for, too, failed");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct keyed_result *r = &k->results[i];
        if (r->outcome == KEYED_DUPLICATE) {
            r->ok = k->results[r->of].ok;
            continue;
        }
        if (r->outcome != KEYED_OPEN)
            continue;
        bool found = r->counts.documents + r->counts.merged || (k->o.where && r->counts.filtered);
        r->outcome = found ? KEYED_FOUND : KEYED_MISSING;
        if (r->outcome == KEYED_MISSING)
            finish_missing(k, r);
        else
            r->ok = !r->reason[0];
    }
}

/* What was settled before an error stays told; an element is open unless it is bad or a duplicate.
 */
static bool check_state(struct keyed *k, const char *object_type, const struct json *ids,
                        const struct plan **plan, struct err *err)
{
    *plan = keyed_plan(k, object_type);
    if (!*plan)
        return err_set(err, ERR_USER, "no mapping for object type \"%.60s\"", object_type);
    if (!ids || ids->kind != JSON_ARRAY)
        return err_set(err, ERR_USER, "the ids are no list");
    return true;
}

static struct guard *guard_of(const struct keyed *k, const struct plan *plan)
{
    for (size_t i = 0; k->o.guards && k->o.plans[i]; i++)
        if (k->o.plans[i] == plan)
            return k->o.guards[i];
    return NULL;
}

void keyed_begin(struct keyed *k, const struct plan *plan, struct keyed_result *sum)
{
    k->plan = plan;
    k->versioning = plan_versioning(plan);
    k->guard = guard_of(k, plan);
    ensure(k->guard || !keyed_is_versioned(k));
    k->target = (struct elastic_target){
        .index = plan_index(plan), .pipeline = plan_pipeline(plan), .type = plan_type(plan)};
    k->results = sum;
    k->by_id = false;
    if (k->look_max < SCAN_DOCS) /* documents may be smaller today */
        k->look_max = k->look_max * 2 < SCAN_DOCS ? k->look_max * 2 : SCAN_DOCS;
    k->doc_count = k->shared_count = k->extra_count = 0;
    arena_reset(&k->call_mem);
    arena_reset(&k->query_mem);
    arena_reset(&k->key_mem);
    k->key_bytes = 0;
    map_reset(&k->seen);
    retry_init(&k->retry, k->o.clock, k->o.cancel, k->o.retry_budget_ms);
}

bool keyed_add(struct keyed *k, enum keyed_task task, const struct slice *key, int64_t seq_no,
               int64_t term, struct err *err)
{
    static const struct plan_query whole;
    const struct slice *kept = keyed_keep_key(k, key);
    struct doc *d = kept ? keyed_new_doc(k, 0, kept, err) : NULL;

    if (!d)
        return err->kind == ERR_NONE ? keyed_no_memory(err) : false;
    d->query = &whole;
    d->first_is_stale = task == KEYED_WRITE_STALE || task == KEYED_WRITE_SENT;
    d->ours = task == KEYED_WRITE_SENT;
    d->in_order = task == KEYED_SCAN;
    if (d->in_order) {
        buf_reset(&k->text);
        cql_partition_key(key, plan_partition_count(k->plan), &k->text);
        d->token = cql_token(buf_slice(&k->text));
    }
    if (task == KEYED_CHECK && d->state == DOC_LOOK) {
        d->state = DOC_CHECK;
        d->created_seq_no = seq_no;
        d->created_term = term;
    }
    k->key_bytes += d->id.n;
    for (uint16_t i = 0; i < plan_key_count(k->plan); i++)
        k->key_bytes += key[i].n + sizeof *key;
    return (k->doc_count < DOCS_AT_ONCE && k->key_bytes < k->memory_bytes / 2) ||
           keyed_flush(k, err);
}

bool keyed_end(struct keyed *k, struct err *err)
{
    return keyed_flush(k, err);
}

bool keyed_sync(struct keyed *k, const char *object_type, const struct json *ids,
                struct keyed_result *results, struct err *err)
{
    const struct plan *plan;
    struct map elements;

    if (!check_state(k, object_type, ids, &plan, err))
        return false;
    memset(results, 0, ids->count * sizeof *results);
    keyed_begin(k, plan, results);
    k->by_id = true;
    k->collided = false;
    map_init(&elements);
    bool ok = keyed_elements(k, ids, &elements, err);
    map_fini(&elements);
    if (!ok)
        return err_wrap(err, "%s", object_type);
    finish(k, ids->count);
    return true;
}

void keyed_totals_add(struct keyed_totals *t, const struct keyed_result *results, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct keyed_counts *c = &results[i].counts;
        t->ids++;
        t->duplicate += results[i].outcome == KEYED_DUPLICATE;
        t->bad += results[i].outcome == KEYED_BAD;
        t->missing += results[i].outcome == KEYED_MISSING;
        t->deleted += results[i].outcome == KEYED_MISSING && c->removed;
        t->kept += results[i].outcome == KEYED_MISSING && !c->removed;
        t->found += results[i].outcome == KEYED_FOUND;
        t->open += results[i].outcome == KEYED_OPEN;
        t->counts.rows += c->rows;
        t->counts.filtered += c->filtered;
        t->counts.merged += c->merged;
        t->counts.documents += c->documents;
        t->counts.indexed += c->indexed;
        t->counts.unchanged += c->unchanged;
        t->counts.stale += c->stale;
        t->counts.failed += c->failed;
        t->counts.contended += c->contended;
        t->counts.gone += c->gone;
        t->counts.removed += c->removed;
        t->counts.altered += c->altered;
        t->counts.bad_json += c->bad_json;
        t->counts.lookup_missing += c->lookup_missing;
        t->counts.id_collision += c->id_collision;
    }
}

bool keyed_conserved(const struct keyed_totals *t)
{
    const struct keyed_counts *c = &t->counts;

    return t->ids == t->duplicate + t->bad + t->missing + t->found + t->open &&
           c->rows == c->filtered + c->merged + c->documents &&
           c->documents == c->indexed + c->unchanged + c->stale + c->failed &&
           t->missing == t->deleted + t->kept && c->contended <= c->failed && c->removed <= c->gone;
}

bool keyed_check(struct keyed *k, struct err *err)
{
    static const char text[] = "SELECT key FROM system.local";
    struct cql_query q = {.text = text, .consistency = CQL_ONE};
    struct elastic_version version;
    cql_ticket ticket;
    struct page page;

    if (!cql_send(k->session, &q, &ticket, err))
        return false;
    bool ok = cql_take(k->session, ticket, &page, err);
    cql_release(k->session, ticket);
    if (!ok || !elastic_identify(k->elastic, &version, err))
        return false;
    for (const struct plan *const *p = k->o.plans; *p; p++)
        if (!elastic_check_index(k->elastic, plan_index(*p), err))
            return false;
    return true;
}
