#include "engine/keyed_parts.h"

#include <stdlib.h>
#include <string.h>

enum {
    ELEMENTS_AT_ONCE = 200, /* whose queries for keys are pipelined: a usual call is one round */
    SEEN_MAX = 200000,      /* keys remembered to find the same row again in a call */
};

static void share(struct keyed *k, uint32_t element, const struct seen *seen)
{
    if (k->shared_count == k->shared_cap) {
        k->shared_cap = k->shared_cap ? k->shared_cap * 2 : 64;
        k->shared = xrealloc(k->shared, k->shared_cap * sizeof *k->shared);
    }
    k->shared[k->shared_count++] = (struct shared){element, seen};
}

/* The key is a document of an earlier element. An element with conditions neither owns a document
 * for others nor takes theirs: whether the row fulfils the conditions shows only when it is read.
 */
static bool seen_before(struct keyed *k, uint32_t element, const struct plan_query *q,
                        const struct slice *key, struct seen **out)
{
    *out = NULL;
    if (q->after_count)
        return false;
    buf_reset(&k->text);
    for (uint16_t i = 0; i < plan_key_count(k->plan); i++) {
        buf_add_u32(&k->text, key[i].p ? (uint32_t)key[i].n : UINT32_MAX);
        if (key[i].p)
            buf_add_slice(&k->text, key[i]);
    }
    struct map_entry *e = map_get(&k->seen, buf_slice(&k->text));
    if (e) {
        share(k, element, e->value);
        return true;
    }
    if (k->seen.len >= SEEN_MAX)
        return false;
    *out = arena_zalloc(&k->call_mem, sizeof **out);
    if (*out)
        map_put(&k->seen, buf_slice(&k->text), NULL)->value = *out;
    return false;
}

struct slice *keyed_keep_key(struct keyed *k, const struct slice *key)
{
    uint16_t n = plan_key_count(k->plan);
    struct slice *kept = arena_alloc(&k->key_mem, n * sizeof *kept);

    for (uint16_t i = 0; kept && i < n; i++) {
        kept[i] = keyed_keep(&k->key_mem, key[i]);
        if (key[i].p && !kept[i].p)
            return NULL;
    }
    return kept;
}

bool keyed_is_partition(const struct keyed *k, const struct slice *key)
{
    uint16_t n = plan_key_count(k->plan);

    return n > plan_partition_count(k->plan) && !key[n - 1].p;
}

const char *keyed_partition_text(struct keyed *k)
{
    const struct plan *p = k->plan;
    size_t at = 0;

    while (k->o.plans[at] != p)
        at++;
    char **text = &k->partition_texts[at];
    if (!*text) {
        char *all = plan_rows_text(p, plan_partition_count(p));
        *text = xsprintf("%s LIMIT 1", all);
        free(all);
    }
    return *text;
}

struct doc *keyed_new_doc(struct keyed *k, uint32_t element, const struct slice *key,
                          struct err *err)
{
    struct err why = {0};

    if (k->doc_count == k->doc_cap) {
        k->doc_cap = k->doc_cap ? k->doc_cap * 2 : 256;
        k->docs = xrealloc(k->docs, k->doc_cap * sizeof *k->docs);
    }
    struct doc *d = &k->docs[k->doc_count++];
    *d = (struct doc){.element = element, .key = key};
    buf_reset(&k->text);
    if (!plan_id(k->plan, d->key, &k->text, &why)) {
        keyed_fail(k, d, "bad_document_id", why.text);
        return d;
    }
    d->id = keyed_keep(&k->key_mem, buf_slice(&k->text));
    if (d->id.p)
        return d;
    keyed_no_memory(err);
    return NULL;
}

bool keyed_add_doc(struct keyed *k, uint32_t element, const struct plan_query *q,
                   const struct slice *key, struct err *err)
{
    struct seen *seen;

    if (seen_before(k, element, q, key, &seen))
        return true;
    struct doc *d = keyed_new_doc(k, element, key, err);
    if (!d)
        return false;
    d->query = q;
    d->seen = seen;
    if (seen)
        seen->state = d->state; /* it may have failed */
    return true;
}

/* A query for keys, of one combination of an element. */
struct lookup {
    uint32_t element;
    const struct plan_query *query;
    bool large; /* more than one page, or too much at once: by a pager */
};

static bool add_page(struct keyed *k, const struct lookup *l, const struct page *page,
                     struct err *err)
{
    struct row_cursor rows = page_rows(page);
    struct slice *cells = xalloc(page->columns->count * sizeof *cells);
    bool ok = true;

    k->key_bytes += page->rows.n;
    while (ok && row_next(&rows, cells, err)) {
        const struct slice *key = keyed_keep_key(k, cells);
        ok = key ? keyed_add_doc(k, l->element, l->query, key, err) : keyed_no_memory(err);
    }
    free(cells);
    return ok && err->kind == ERR_NONE;
}

/* A partition that can't be read counts as one failed document: it is not known how many it has. */
static void fail_lookup(struct keyed *k, const struct lookup *l, const struct err *why)
{
    struct keyed_result *r = &k->results[l->element];

    keyed_tell(r, "read_failed", why->text);
    r->counts.rows++;
    r->counts.documents++;
    r->counts.failed++;
}

static bool take_keys(struct keyed *k, struct read *r, const struct page *page,
                      const struct err *why, struct err *err)
{
    struct lookup *l = r->who;

    if (!page) {
        fail_lookup(k, l, why);
        return true;
    }
    if (!keyed_fits(k, page, plan_key_count(k->plan), err))
        return false;
    l->large = !page->last || k->doc_count >= DOCS_AT_ONCE ||
               k->key_bytes + page->rows.n > k->memory_bytes / 2;
    return l->large || add_page(k, l, page, err);
}

/* Many keys in one partition: page by page, each worked off before the next. */
static bool page_through(struct keyed *k, const struct lookup *l, const struct read *r,
                         struct err *err)
{
    struct cql_query q = keyed_query(k, r);
    AUTO(cql_pager) struct cql_pager *pager = keyed_pager_open(k, &q, err);
    struct page page;

    if (!pager)
        return false;
    /* The connection is used for the documents in between. */
    cql_pager_set_prefetch(pager, false);
    for (;;) {
        if (cql_pager_next(pager, &page, err)) {
            keyed_note_page(k, &page);
            if (!keyed_fits(k, &page, plan_key_count(k->plan), err) ||
                !add_page(k, l, &page, err) || !keyed_flush(k, err))
                return false;
        } else if (err->kind == ERR_NONE) {
            return true;
        } else if (err->kind == ERR_REJECT) {
            fail_lookup(k, l, err);
            err_clear(err);
            return true;
        } else if (!keyed_wait(k, "read_retry", 0, err)) {
            return false;
        }
    }
}

/* Sends the queries for keys of the elements collected so far, and works off what they give. */
static bool run_lookups(struct keyed *k, struct lookup *lookups, struct read *reads, size_t count,
                        struct err *err)
{
    if (!keyed_read_all(k, reads, count, take_keys, &k->key_answer_bytes, err) ||
        !keyed_flush(k, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (lookups[i].large && !page_through(k, &lookups[i], &reads[i], err))
            return false;
    return true;
}

/* The element's own words, to find it again: strings and objects can't be confused. */
static bool is_duplicate(struct keyed *k, struct map *elements, const struct json *id, uint32_t at,
                         struct keyed_result *r)
{
    bool added;

    buf_reset(&k->text);
    json_write(&k->text, id);
    struct map_entry *e = map_put(elements, buf_slice(&k->text), &added);
    if (added) {
        e->value = (void *)(uintptr_t)at;
        return false;
    }
    r->outcome = KEYED_DUPLICATE;
    r->of = (uint32_t)(uintptr_t)e->value;
    return true;
}

/* Lookups of some elements, sent together. */
struct lookup_list {
    struct lookup *lookups;
    struct read *reads;
    size_t count, cap;
};

static void add_lookup(struct keyed *k, struct lookup_list *l, uint32_t element,
                       const struct plan_query *q, uint32_t n)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->lookups = xrealloc(l->lookups, l->cap * sizeof *l->lookups);
        l->reads = xrealloc(l->reads, l->cap * sizeof *l->reads);
    }
    l->lookups[l->count] = (struct lookup){.element = element, .query = q};
    l->reads[l->count++] = (struct read){.text = plan_keys_text(k->plan, q->bound),
                                         .values = q->cells + (size_t)n * q->bound,
                                         .value_count = q->bound};
}

/* An element becomes documents, or lookups, or has to be looked for (*scans). */
static bool add_element(struct keyed *k, struct lookup_list *l, uint32_t at, const struct json *id,
                        bool *scans, struct err *err)
{
    struct plan_query *q = arena_alloc(&k->query_mem, sizeof *q);
    const char *reason = "";
    struct err why = {0};

    if (!q)
        return keyed_no_memory(err);
    if (!plan_query(k->plan, id, &k->query_mem, q, &reason, &why)) {
        k->results[at].outcome = KEYED_BAD;
        keyed_tell(&k->results[at], reason, why.text);
        return true;
    }
    *scans = q->scans && k->o.scans;
    if (q->scans && !k->o.scans) {
        err_set(&why, ERR_REJECT, "has no value for %s of the partition key",
                plan_schema(k->plan)->columns[q->lacks].name);
        k->results[at].outcome = KEYED_BAD;
        keyed_tell(&k->results[at], "no_partition_key", why.text);
    }
    for (uint32_t n = 0; n < q->count; n++) {
        if (q->bound < plan_key_count(k->plan))
            add_lookup(k, l, at, q, n);
        else if (!keyed_add_doc(k, at, q, q->cells + (size_t)n * q->bound, err))
            return false;
    }
    return true;
}

bool keyed_elements(struct keyed *k, const struct json *ids, struct map *elements, struct err *err)
{
    struct lookup_list l = {0};
    bool *scans = xalloc(ids->count + 1);
    bool any = false;
    uint32_t at = 0;
    size_t waiting = 0;
    bool ok = true;

    json_each (id, ids) {
        if (!is_duplicate(k, elements, id, at, &k->results[at])) {
            ok = add_element(k, &l, at, id, &scans[at], err);
            any = any || scans[at];
            waiting++;
        }
        at++;
        if (ok && (waiting == ELEMENTS_AT_ONCE || l.count > ELEMENTS_AT_ONCE ||
                   k->doc_count > ROUND_DOCS || at == ids->count)) {
            for (size_t i = 0; i < l.count; i++)
                l.reads[i].who = &l.lookups[i];
            ok = run_lookups(k, l.lookups, l.reads, l.count, err);
            l.count = waiting = 0;
            arena_reset(&k->query_mem);
        }
        if (!ok)
            break;
    }
    free(l.lookups);
    free(l.reads);
    ok = ok && (!any || keyed_scan(k, ids, scans, err));
    free(scans);
    return ok;
}
