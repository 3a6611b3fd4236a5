#include "engine/keyed.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/text.h"
#include "engine/retry.h"

enum {
    ROUND_DOCS = 200,       /* looked at, read and written together */
    READS_IN_FLIGHT = 64,   /* on one connection */
    KEYS_PER_PAGE = 500,    /* of a query for keys */
    ELEMENTS_AT_ONCE = 200, /* whose queries for keys are pipelined: a usual call is one round */
    LOSSES_MAX = 5,         /* against other writers */
    LATERS_MAX = 5,         /* of "may pass" for a single document while others do pass */
    SEEN_MAX = 200000,      /* keys remembered to find the same row again in a call */
    BUDGET_MS = 10 * 60 * 1000,
    MEMORY_BYTES = 32 << 20,
    CALL_MEMORY = 64 << 20,
};

enum doc_state {
    DOC_LOOK,    /* look at the stored one, read the row, write */
    DOC_CHECK,   /* we created it: is the row still there? */
    DOC_INDEXED, /* the rest is settled */
    DOC_UNCHANGED,
    DOC_FILTERED,
    DOC_GONE,
    DOC_FAILED,
};

/* A key that several elements ask for is a document of the first. */
struct seen {
    enum doc_state state;
};

struct doc {
    uint32_t element;
    const struct plan_query *query; /* of its element: conditions on the row */
    struct slice *key;              /* plan_key_count() cells */
    struct slice id;
    struct seen *seen; /* NULL: not remembered */

    enum doc_state state;
    unsigned losses;
    unsigned laters;
    struct elastic_found stored;
    struct slice sent; /* what a create of unknown outcome carried; null: no such create */
    int64_t created_seq_no, created_term; /* DOC_CHECK */
    bool looked;                          /* stored is of this pass */
    uint64_t altered;                     /* values of the document that are not as in the row */
};

/* A key that an element shares with an earlier one. */
struct shared {
    uint32_t element;
    const struct seen *seen;
};

struct keyed {
    struct keyed_options o;
    struct cql_session *session;
    struct elastic *elastic;
    struct retry retry;
    size_t memory_bytes;

    const struct plan *plan; /* of the call */
    struct keyed_result *results;
    struct arena call_mem;  /* queries, keys seen; for the call */
    struct arena key_mem;   /* keys and ids of `docs` */
    struct arena look_mem;  /* stored documents; for a pass */
    struct arena write_mem; /* for one document */
    struct map seen;
    struct shared *shared;
    size_t shared_count, shared_cap;
    struct doc *docs;
    size_t doc_count, doc_cap;
    size_t look_max; /* documents in one _mget */
    struct elastic_bulk bulk;
    struct doc **bulk_docs; /* for each item */
    struct buf text;
};

/* ---- life --------------------------------------------------------------------------------------
 */

struct keyed *keyed_open(const struct keyed_options *o, struct err *err)
{
    struct keyed *k = xalloc(sizeof *k);

    k->o = *o;
    k->memory_bytes = o->memory_bytes ? o->memory_bytes : MEMORY_BYTES;
    if (!k->o.retry_budget_ms)
        k->o.retry_budget_ms = BUDGET_MS;
    arena_init(&k->call_mem, CALL_MEMORY);
    arena_init(&k->key_mem, CALL_MEMORY);
    arena_init(&k->look_mem, k->memory_bytes);
    arena_init(&k->write_mem, k->memory_bytes);
    map_init(&k->seen);
    elastic_bulk_init(&k->bulk, k->memory_bytes / 2);
    k->bulk_docs = xalloc(ROUND_DOCS * sizeof(struct doc *));
    buf_init(&k->text, k->memory_bytes / 2);
    k->session = cql_session_open(o->cluster, err);
    if (k->session)
        k->elastic = elastic_new(o->elastic, err);
    if (k->elastic)
        return k;
    keyed_free(k);
    return NULL;
}

void keyed_free(struct keyed *k)
{
    if (!k)
        return;
    elastic_free(k->elastic);
    cql_session_free(k->session);
    buf_fini(&k->text);
    elastic_bulk_fini(&k->bulk);
    map_fini(&k->seen);
    arena_fini(&k->write_mem);
    arena_fini(&k->look_mem);
    arena_fini(&k->key_mem);
    arena_fini(&k->call_mem);
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

static bool no_memory(struct err *err)
{
    return err_set(err, ERR_SYSTEM, "the memory set aside for a call is too small for its ids");
}

/* Waits before the next try. The first failure in a row is told, and every tenth. */
static bool wait_again(struct keyed *k, const char *event, int64_t at_least_ms, struct err *err)
{
    if (err->kind != ERR_RETRY)
        return false;
    if (k->retry.tries % 10 == 0)
        LOG(LOG_WARN, event, F_STR("object", plan_object(k->plan)),
            F_INT("tries", k->retry.tries + 1), F_STR("error", err->text));
    return retry_wait(&k->retry, at_least_ms, err);
}

/* ---- results -----------------------------------------------------------------------------------
 */

/* The first failure of an element is the one that is told. */
static void tell(struct keyed_result *r, const char *reason, const char *text)
{
    if (r->reason[0])
        return;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    snprintf(r->text, sizeof r->text, "%.*s", (int)sizeof r->text - 1, text);
}

static void settle(struct keyed *k, struct doc *d, enum doc_state state)
{
    struct keyed_counts *c = &k->results[d->element].counts;

    d->state = state;
    if (d->seen)
        d->seen->state = state;
    retry_ok(&k->retry); /* the only progress: looks and reads may well pass while writes do not */
    if (state == DOC_GONE) {
        c->gone++;
        return;
    }
    c->rows++;
    if (state == DOC_FILTERED) {
        c->filtered++;
        return;
    }
    c->documents++;
    c->altered += state == DOC_FAILED ? 0 : d->altered;
    if (state == DOC_INDEXED)
        c->indexed++;
    else if (state == DOC_UNCHANGED)
        c->unchanged++;
    else
        c->failed++;
}

static void fail_doc(struct keyed *k, struct doc *d, const char *reason, const char *text)
{
    tell(&k->results[d->element], reason, text);
    settle(k, d, DOC_FAILED);
}

static void lost(struct keyed *k, struct doc *d)
{
    d->state = DOC_LOOK;
    if (++d->losses <= LOSSES_MAX)
        return;
    k->results[d->element].counts.contended++;
    fail_doc(k, d, "contended", "another writer was faster each time");
}

/* ---- reading -----------------------------------------------------------------------------------
 */

/* One of many reads that are sent together. */
struct read {
    const char *text;
    const struct slice *values;
    uint16_t value_count;
    void *who;
    bool done;
};

/* What to do with an answer; page == NULL: it can't be read, why->text says so. */
typedef bool (*read_taker)(struct keyed *k, struct read *r, const struct page *page,
                           const struct err *why, struct err *err);

static bool send_read(struct keyed *k, const struct read *r, cql_ticket *ticket, struct err *err)
{
    const struct schema *s = plan_schema(k->plan);

    buf_reset(&k->text);
    cql_partition_key(r->values, plan_partition_count(k->plan), &k->text);
    struct cql_query q = {
        .text = r->text,
        .values = r->values,
        .value_count = r->value_count,
        .page_rows = KEYS_PER_PAGE,
        .has_token = true,
        .token = cql_token(buf_slice(&k->text)),
        .keyspace = s->keyspace,
    };
    return cql_send(k->session, &q, ticket, err);
}

static bool is_fatal(const struct err *err)
{
    return err->kind != ERR_NONE && err->kind != ERR_RETRY && err->kind != ERR_REJECT;
}

/* Sends up to READS_IN_FLIGHT of the reads that are not done, from `*next` on, and takes all of
 * their answers. False: err is fatal. `later` gets an ERR_RETRY. */
static bool read_some(struct keyed *k, struct read *reads, size_t count, size_t *next,
                      read_taker taker, struct err *later, struct err *err)
{
    cql_ticket tickets[READS_IN_FLIGHT];
    struct read *of[READS_IN_FLIGHT];
    size_t sent = 0;
    struct err fatal = {0};

    for (; *next < count && sent < READS_IN_FLIGHT; ++*next) {
        struct read *r = &reads[*next];
        struct err why = {0};
        if (r->done)
            continue;
        if (send_read(k, r, &tickets[sent], &why)) {
            of[sent++] = r;
            continue;
        }
        if (why.kind == ERR_REJECT) { /* values that no server would take */
            r->done = taker(k, r, NULL, &why, &fatal);
            if (r->done)
                continue;
        }
        *next = count; /* no more in this pass */
        *(is_fatal(&why) ? &fatal : later) = why;
        break;
    }
    for (size_t i = 0; i < sent; i++) {
        struct page page;
        struct err why = {0};
        if (cql_take(k->session, tickets[i], &page, &why)) {
            if (fatal.kind == ERR_NONE && taker(k, of[i], &page, NULL, &fatal))
                of[i]->done = true;
        } else if (why.kind == ERR_REJECT) {
            of[i]->done = taker(k, of[i], NULL, &why, &fatal);
        } else {
            *(is_fatal(&why) ? &fatal : later) = why;
        }
        cql_release(k->session, tickets[i]);
        if (fatal.kind == ERR_RETRY) { /* an answer with bytes missing: that one again */
            *later = fatal;
            err_clear(&fatal);
        }
    }
    if (fatal.kind == ERR_NONE)
        return true;
    *err = fatal;
    return false;
}

/* All reads are answered, or a fatal err. */
static bool read_all(struct keyed *k, struct read *reads, size_t count, read_taker taker,
                     struct err *err)
{
    for (;;) {
        struct err later = {0};
        size_t done = 0;
        for (size_t next = 0; next < count;)
            if (!read_some(k, reads, count, &next, taker, &later, err))
                return false;
        for (size_t i = 0; i < count; i++)
            done += reads[i].done;
        if (done == count)
            return true;
        ensure(later.kind == ERR_RETRY);
        *err = later;
        if (!wait_again(k, "read_retry", 0, err))
            return false;
    }
}

/* ---- from ids to keys --------------------------------------------------------------------------
 */

static struct slice keep(struct arena *mem, struct slice s)
{
    if (!s.p)
        return s;
    return slice_of(arena_strndup(mem, s.p, s.n), s.n);
}

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
        buf_add_u32(&k->text, (uint32_t)key[i].n);
        buf_add_slice(&k->text, key[i]);
    }
    struct map_entry *e = map_get(&k->seen, buf_slice(&k->text));
    if (e) {
        share(k, element, e->value);
        return true;
    }
    if (k->seen.len >= SEEN_MAX)
        return false;
    struct seen *new = arena_zalloc(&k->call_mem, sizeof *new);
    if (new)
        map_put(&k->seen, buf_slice(&k->text), NULL)->value = new;
    *out = new;
    return false;
}

static bool add_doc(struct keyed *k, uint32_t element, const struct plan_query *q,
                    const struct slice *key, struct err *err)
{
    uint16_t n = plan_key_count(k->plan);
    struct seen *seen;
    struct err why = {0};

    if (seen_before(k, element, q, key, &seen))
        return true;
    if (k->doc_count == k->doc_cap) {
        k->doc_cap = k->doc_cap ? k->doc_cap * 2 : 256;
        k->docs = xrealloc(k->docs, k->doc_cap * sizeof *k->docs);
    }
    struct doc *d = &k->docs[k->doc_count];
    *d = (struct doc){.element = element, .query = q, .seen = seen};
    d->key = arena_alloc(&k->key_mem, n * sizeof *d->key);
    if (!d->key)
        return no_memory(err);
    for (uint16_t i = 0; i < n; i++) {
        d->key[i] = keep(&k->key_mem, key[i]);
        if (key[i].p && !d->key[i].p)
            return no_memory(err);
    }
    buf_reset(&k->text);
    k->doc_count++;
    if (!plan_id(k->plan, d->key, &k->text, &why)) {
        fail_doc(k, d, "bad_document_id", why.text);
        return true;
    }
    d->id = keep(&k->key_mem, buf_slice(&k->text));
    return d->id.p || no_memory(err);
}

/* A query for keys, of one combination of an element. */
struct lookup {
    uint32_t element;
    const struct plan_query *query;
    bool large; /* more than one page: by a pager */
};

static bool add_page(struct keyed *k, const struct lookup *l, const struct page *page,
                     struct err *err)
{
    struct row_cursor rows = page_rows(page);
    struct slice *cells = xalloc(page->columns->count * sizeof *cells);
    bool ok = page->columns->count == plan_key_count(k->plan) ||
              err_set(err, ERR_USER, "the primary key of the table changed; start again");

    while (ok && row_next(&rows, cells, err))
        /* A partition with static columns only gives a row without clustering key: no document. */
        ok = !cells[page->columns->count - 1].p || add_doc(k, l->element, l->query, cells, err);
    free(cells);
    return ok && err->kind == ERR_NONE;
}

/* A partition that can't be read counts as one failed document: it is not known how many it has. */
static void fail_lookup(struct keyed *k, const struct lookup *l, const struct err *why)
{
    struct keyed_result *r = &k->results[l->element];

    tell(r, "read_failed", why->text);
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
    if (!page->last) {
        l->large = true;
        return true;
    }
    return add_page(k, l, page, err);
}

static bool flush(struct keyed *k, struct err *err);

/* Many keys in one partition: page by page, each worked off before the next. */
static bool page_through(struct keyed *k, const struct lookup *l, const struct read *r,
                         struct err *err)
{
    buf_reset(&k->text);
    cql_partition_key(r->values, plan_partition_count(k->plan), &k->text);
    struct cql_query q = {
        .text = r->text,
        .values = r->values,
        .value_count = r->value_count,
        .page_rows = KEYS_PER_PAGE,
        .has_token = true,
        .token = cql_token(buf_slice(&k->text)),
        .keyspace = plan_schema(k->plan)->keyspace,
    };
    AUTO(cql_pager) struct cql_pager *pager = cql_pager_open(k->session, &q, err);
    struct page page;

    if (!pager)
        return false;
    /* The connection is used for the documents in between. */
    cql_pager_set_prefetch(pager, false);
    for (;;) {
        if (cql_pager_next(pager, &page, err)) {
            if (!add_page(k, l, &page, err) || !flush(k, err))
                return false;
        } else if (err->kind == ERR_NONE) {
            return true;
        } else if (err->kind == ERR_REJECT) {
            fail_lookup(k, l, err);
            err_clear(err);
            return true;
        } else if (!wait_again(k, "read_retry", 0, err)) {
            return false;
        }
    }
}

/* Sends the queries for keys of the elements collected so far, and works off what they give. */
static bool run_lookups(struct keyed *k, struct lookup *lookups, struct read *reads, size_t count,
                        struct err *err)
{
    if (!read_all(k, reads, count, take_keys, err) || !flush(k, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (lookups[i].large && !page_through(k, &lookups[i], &reads[i], err))
            return false;
    return true;
}

/* ---- documents ---------------------------------------------------------------------------------
 */

/* What is stored now, for all documents that are to be written: before their rows are read. */
static bool look(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    struct slice ids[ROUND_DOCS];
    struct elastic_found found[ROUND_DOCS];

    for (size_t from = 0; from < count;) {
        size_t n = count - from < k->look_max ? count - from : k->look_max;
        for (size_t i = 0; i < n; i++)
            ids[i] = docs[from + i]->id;
        if (elastic_mget(k->elastic, plan_index(k->plan), ids, n, true, &k->look_mem, found, err)) {
            for (size_t i = 0; i < n; i++) {
                docs[from + i]->stored = found[i];
                docs[from + i]->looked = true;
            }
            from += n;
            continue;
        }
        if (err->kind == ERR_REJECT) {
            /* Too large for one answer, or for our memory: the rest waits for the next pass. */
            if (from)
                return err_clear(err), true;
            if (n == 1) {
                fail_doc(k, docs[0], "stored_too_large", err->text);
                docs[0]->looked = false;
                return err_clear(err), true;
            }
            k->look_max = n / 2;
            arena_reset(&k->look_mem);
            err_clear(err);
            continue;
        }
        if (!wait_again(k, "mget_retry", elastic_retry_after_ms(k->elastic), err))
            return false;
    }
    return true;
}

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

static bool same_json(struct keyed *k, struct slice text, const struct json *stored)
{
    struct err ignored = {0};

    arena_reset(&k->write_mem);
    const struct json *ours = json_parse(text, &k->write_mem, &ignored);
    return ours && json_equal(ours, stored);
}

static void add_to_bulk(struct keyed *k, struct doc *d, enum elastic_op op, int64_t seq_no,
                        int64_t term, struct slice source)
{
    if (elastic_bulk_add(&k->bulk, op, d->id, seq_no, term, source))
        k->bulk_docs[k->bulk.count - 1] = d;
    else if (k->bulk.count == 0)
        fail_doc(k, d, "document_too_large", "the document is larger than the memory for a body");
    /* else it waits for the next pass */
}

/* The row as it is now against the document as it was before: write, or leave it. */
static void write_doc(struct keyed *k, struct doc *d, const struct slice *cells)
{
    const struct elastic_found *stored = &d->stored;
    struct json_counts altered = {0};
    struct err why = {0};

    for (uint16_t i = 0; i < d->query->after_count; i++)
        if (!plan_filter_holds(&d->query->after[i], cells)) {
            settle(k, d, DOC_FILTERED);
            return;
        }
    buf_reset(&k->text);
    if (!plan_write(k->plan, cells, d->id, &k->text, &altered, &why)) {
        fail_doc(k, d, "bad_value", why.text);
        return;
    }
    if (json_counts_sum(&altered) && k->o.strict_values) {
        fail_doc(k, d, "altered_value", "a value can't be written as it is");
        return;
    }
    d->altered = json_counts_sum(&altered);
    if (stored->found && !stored->source && plan_has_preserve(k->plan)) {
        fail_doc(k, d, "no_source", "the index keeps no _source to preserve fields from");
        return;
    }
    if (stored->found && stored->source) {
        add_preserved(k, stored->source, &k->text);
        if (k->text.full) {
            fail_doc(k, d, "document_too_large", "the document is larger than the memory for one");
            return;
        }
        if (same_json(k, buf_slice(&k->text), stored->source)) {
            settle(k, d, DOC_UNCHANGED);
            return;
        }
    }
    add_to_bulk(k, d, stored->found ? ELASTIC_INDEX : ELASTIC_CREATE, stored->seq_no,
                stored->primary_term, buf_slice(&k->text));
}

/* No row. A document that is there is reported, not deleted, unless our own create, whose answer we
 * never got, made it. */
static void no_row(struct keyed *k, struct doc *d)
{
    if (d->sent.p && d->stored.found && d->stored.source && same_json(k, d->sent, d->stored.source))
        add_to_bulk(k, d, ELASTIC_DELETE, d->stored.seq_no, d->stored.primary_term, SLICE_NULL);
    else
        settle(k, d, DOC_GONE);
}

static bool take_row(struct keyed *k, struct read *r, const struct page *page,
                     const struct err *why, struct err *err)
{
    struct doc *d = r->who;
    struct slice *cells = NULL;
    bool ok = true;

    if (!page) {
        fail_doc(k, d, "read_failed", why->text);
        return true;
    }
    if (page->shape_changed || page->columns->count != plan_column_count(k->plan))
        return err_set(err, ERR_USER, "table %s.%s changed; start again",
                       plan_schema(k->plan)->keyspace, plan_schema(k->plan)->table);
    struct row_cursor rows = page_rows(page);
    cells = xalloc(page->columns->count * sizeof *cells);
    if (row_next(&rows, cells, err))
        write_doc(k, d, cells);
    else if (err->kind == ERR_NONE)
        no_row(k, d);
    else
        ok = false;
    free(cells);
    return ok;
}

/* Only whether the row is there: for what we created. */
static bool take_check(struct keyed *k, struct read *r, const struct page *page,
                       const struct err *why, struct err *err)
{
    struct doc *d = r->who;

    (void)err;
    if (!page)
        fail_doc(k, d, "read_failed", why->text);
    else if (page->row_count)
        settle(k, d, DOC_INDEXED);
    else
        add_to_bulk(k, d, ELASTIC_DELETE, d->created_seq_no, d->created_term, SLICE_NULL);
    return true;
}

static bool read_rows(struct keyed *k, struct doc **docs, size_t count, enum doc_state state,
                      struct err *err)
{
    uint16_t keys = plan_key_count(k->plan);
    bool check = state == DOC_CHECK;
    struct read reads[ROUND_DOCS];
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (docs[i]->state == state && (check || docs[i]->looked))
            reads[n++] = (struct read){.text = check ? plan_keys_text(k->plan, keys)
                                                     : plan_read_text(k->plan),
                                       .values = docs[i]->key,
                                       .value_count = keys,
                                       .who = docs[i]};
    return read_all(k, reads, n, check ? take_check : take_row, err);
}

/* A create whose outcome is unknown may have made a document whose row is gone by now. */
static void unknown_outcome(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    if (item->op != ELASTIC_CREATE)
        return;
    size_t begin = item->line_begin;
    const uint8_t *line = memchr(k->bulk.body.p + begin, '\n', item->line_end - begin);
    size_t source = (size_t)(line + 1 - k->bulk.body.p);
    d->sent = keep(&k->key_mem, slice_of(line + 1, item->line_end - 1 - source));
}

/* True: this document waits for the server to recover. */
static bool judge(struct keyed *k, struct doc *d, const struct elastic_item *item)
{
    bool delete = item->op == ELASTIC_DELETE;

    switch (item->verdict) {
    case ELASTIC_DONE:
        if (item->op == ELASTIC_CREATE) {
            d->state = DOC_CHECK;
            d->created_seq_no = item->seq_no;
            d->created_term = item->primary_term;
        } else {
            settle(k, d, delete ? DOC_GONE : DOC_INDEXED);
        }
        return false;
    case ELASTIC_GONE:
        settle(k, d, DOC_GONE);
        return false;
    case ELASTIC_CONFLICT:
        d->sent = delete ? SLICE_NULL : d->sent; /* somebody else's document now */
        lost(k, d);
        return false;
    case ELASTIC_LATER:
        /* Overload and blocks pass for all together: the budget ends those. */
        if (++d->laters > LATERS_MAX && item->status >= 500 && item->status != 503)
            fail_doc(k, d, item->reason[0] ? item->reason : "server_error", item->text);
        return true;
    case ELASTIC_REJECTED:
        fail_doc(k, d, item->reason, item->text);
        return false;
    case ELASTIC_OPEN:
        unknown_outcome(k, d, item);
        return false;
    }
    return false;
}

/* Sends the bulk; what may pass stays as it is and is read again in the next pass. */
static bool send_bulk(struct keyed *k, struct err *err)
{
    struct err later = {0};

    if (!k->bulk.count)
        return true;
    bool sent = elastic_bulk_send(k->elastic, plan_index(k->plan), &k->bulk, err);
    bool fatal = !sent && err->kind != ERR_RETRY;
    int64_t wait_ms = elastic_retry_after_ms(k->elastic);

    if (!sent)
        later = *err;
    for (size_t i = 0; i < k->bulk.count; i++) {
        const struct elastic_item *item = &k->bulk.items[i];
        if (judge(k, k->bulk_docs[i], item) && later.kind == ERR_NONE)
            err_set(&later, ERR_RETRY, "Elasticsearch answered %d for a document: %s", item->status,
                    item->reason);
    }
    if (fatal)
        return false;
    if (later.kind == ERR_NONE)
        return true;
    *err = later;
    return wait_again(k, "bulk_retry", wait_ms, err);
}

/* One pass over the documents that are not settled: look, read, write. */
static bool pass(struct keyed *k, struct doc **docs, size_t count, struct err *err)
{
    struct doc *wanted[ROUND_DOCS];
    size_t n = 0;

    arena_reset(&k->look_mem);
    elastic_bulk_reset(&k->bulk);
    for (size_t i = 0; i < count; i++) {
        docs[i]->looked = false;
        if (docs[i]->state == DOC_LOOK)
            wanted[n++] = docs[i];
    }
    return look(k, wanted, n, err) && read_rows(k, docs, count, DOC_CHECK, err) &&
           read_rows(k, docs, count, DOC_LOOK, err) && send_bulk(k, err);
}

static bool work_off(struct keyed *k, struct doc *first, size_t count, struct err *err)
{
    struct doc *docs[ROUND_DOCS];

    for (;;) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if (first[i].state == DOC_LOOK || first[i].state == DOC_CHECK)
                docs[n++] = &first[i];
        if (!n)
            return true;
        if (!pass(k, docs, n, err))
            return false;
    }
}

/* Works off the documents collected so far. */
static bool flush(struct keyed *k, struct err *err)
{
    for (size_t from = 0; from < k->doc_count; from += ROUND_DOCS) {
        size_t n = k->doc_count - from < ROUND_DOCS ? k->doc_count - from : ROUND_DOCS;
        if (!work_off(k, &k->docs[from], n, err))
            return false;
    }
    k->doc_count = 0;
    arena_reset(&k->key_mem);
    return true;
}

/* ---- a call ------------------------------------------------------------------------------------
 */

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

/* An element becomes documents, or lookups. */
static bool add_element(struct keyed *k, struct lookup_list *l, uint32_t at, const struct json *id,
                        struct err *err)
{
    struct plan_query *q = arena_alloc(&k->call_mem, sizeof *q);
    const char *reason = "";
    struct err why = {0};

    if (!q)
        return no_memory(err);
    if (!plan_query(k->plan, id, &k->call_mem, q, &reason, &why)) {
        k->results[at].outcome = KEYED_BAD;
        tell(&k->results[at], reason, why.text);
        return true;
    }
    for (uint32_t n = 0; n < q->count; n++) {
        if (q->bound < plan_key_count(k->plan))
            add_lookup(k, l, at, q, n);
        else if (!add_doc(k, at, q, q->cells + (size_t)n * q->bound, err))
            return false;
    }
    return true;
}

static bool run_elements(struct keyed *k, const struct json *ids, struct map *elements,
                         struct err *err)
{
    struct lookup_list l = {0};
    uint32_t at = 0;
    size_t waiting = 0;
    bool ok = true;

    json_each (id, ids) {
        if (!is_duplicate(k, elements, id, at, &k->results[at])) {
            ok = add_element(k, &l, at, id, err);
            waiting++;
        }
        at++;
        if (ok && (waiting == ELEMENTS_AT_ONCE || l.count > ELEMENTS_AT_ONCE ||
                   k->doc_count > ROUND_DOCS || at == ids->count)) {
            for (size_t i = 0; i < l.count; i++)
                l.reads[i].who = &l.lookups[i];
            ok = run_lookups(k, l.lookups, l.reads, l.count, err);
            l.count = waiting = 0;
        }
        if (!ok)
            break;
    }
    free(l.lookups);
    free(l.reads);
    return ok;
}

/* Keys that belong to another element's documents, and what each element comes to. */
static void finish(struct keyed *k, uint32_t count)
{
    for (size_t i = 0; i < k->shared_count; i++) {
        struct keyed_result *r = &k->results[k->shared[i].element];
        enum doc_state state = k->shared[i].seen->state;
        if (state == DOC_GONE) {
            r->counts.gone++;
            continue;
        }
        r->counts.rows++;
        r->counts.merged++;
        if (state == DOC_FAILED)
            tell(r, "shared_failed", "a document that another element asks for, too, failed");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct keyed_result *r = &k->results[i];
        if (r->outcome == KEYED_DUPLICATE) {
            r->ok = k->results[r->of].ok;
            continue;
        }
        if (r->outcome != KEYED_OPEN)
            continue;
        r->outcome = r->counts.documents + r->counts.merged ? KEYED_FOUND : KEYED_MISSING;
        if (r->outcome == KEYED_MISSING)
            tell(r, "missing",
                 r->counts.filtered ? "no row fulfils the conditions" : "no row has this key");
        r->ok = r->outcome == KEYED_FOUND && !r->reason[0];
    }
}

/* What was settled before an error stays told; an element is open unless it is bad or a duplicate.
 */
static bool check_state(struct keyed *k, const char *object_type, const struct json *ids,
                        struct err *err)
{
    k->plan = keyed_plan(k, object_type);
    if (!k->plan)
        return err_set(err, ERR_USER, "no mapping for object type \"%.60s\"", object_type);
    if (!ids || ids->kind != JSON_ARRAY)
        return err_set(err, ERR_USER, "the ids are no list");
    return true;
}

bool keyed_sync(struct keyed *k, const char *object_type, const struct json *ids,
                struct keyed_result *results, struct err *err)
{
    struct map elements;

    if (!check_state(k, object_type, ids, err))
        return false;
    memset(results, 0, ids->count * sizeof *results);
    k->results = results;
    k->look_max = ROUND_DOCS;
    k->doc_count = k->shared_count = 0;
    arena_reset(&k->call_mem);
    arena_reset(&k->key_mem);
    map_reset(&k->seen);
    map_init(&elements);
    retry_init(&k->retry, k->o.clock, k->o.cancel, k->o.retry_budget_ms);
    bool ok = run_elements(k, ids, &elements, err);
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
        t->counts.altered += c->altered;
    }
}

bool keyed_conserved(const struct keyed_totals *t)
{
    const struct keyed_counts *c = &t->counts;

    return t->ids == t->duplicate + t->bad + t->missing + t->found + t->open &&
           c->rows == c->filtered + c->merged + c->documents &&
           c->documents == c->indexed + c->unchanged + c->stale + c->failed &&
           c->contended <= c->failed;
}

bool keyed_check(struct keyed *k, struct err *err)
{
    static const char text[] = "SELECT key FROM system.local";
    struct cql_query q = {.text = text, .consistency = CQL_ONE};
    struct elastic_version version;
    cql_ticket ticket;
    struct page page;

    if (!cql_send(k->session, &q, &ticket, err) || !cql_take(k->session, ticket, &page, err))
        return false;
    cql_release(k->session, ticket);
    if (!elastic_identify(k->elastic, &version, err))
        return false;
    for (const struct plan *const *p = k->o.plans; *p; p++)
        if (!elastic_check_index(k->elastic, plan_index(*p), err))
            return false;
    return true;
}
