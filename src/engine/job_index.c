#include "engine/job_parts.h"

#include <stdlib.h>

#include "base/log.h"
#include "engine/keyed.h"

enum { IDS_MEMORY_BYTES = 64 << 20 };

/* Blocks of ids to an index: each id's rows are read and written by keyed. */
struct indexer {
    struct job *job;
    struct keyed *keyed;
    struct tx *tx;
    struct arena mem; /* of a block's ids */
    struct buf text;
    struct keyed_result *results;
    uint32_t cap;
};

static void add_counts(struct indexer *x, const struct keyed_totals *t)
{
    const struct keyed_counts *c = &t->counts;
    const struct {
        const char *name;
        uint64_t n;
    } list[] = {
        {"duplicate", t->duplicate},
        {"bad", t->bad},
        {"missing", t->missing},
        {"deleted", t->deleted},
        {"kept", t->kept},
        {"ids_found", t->found},
        {"rows", c->rows},
        {"filtered", c->filtered},
        {"merged", c->merged},
        {"documents", c->documents},
        {"indexed", c->indexed},
        {"unchanged", c->unchanged},
        {"stale", c->stale},
        {"documents_failed", c->failed},
        {"altered", c->altered},
        {"lookup_missing", c->lookup_missing},
        {"id_collision", c->id_collision},
    };

    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].n)
            tx_count(x->tx, list[i].name, (int64_t)list[i].n);
}

static uint64_t add_failures(struct indexer *x, const struct json *ids)
{
    const struct keyed_result *r = x->results;
    uint64_t failed = 0;

    json_each (id, ids) {
        if (!r->ok && r->outcome != KEYED_DUPLICATE) {
            buf_reset(&x->text);
            json_write(&x->text, id);
            tx_failure(x->tx, buf_slice(&x->text), r->reason[0] ? r->reason : "failed", r->text);
            failed++;
        }
        r++;
    }
    return failed;
}

static const struct json *block_ids(struct indexer *x, const struct block *block, struct err *err)
{
    arena_reset(&x->mem);
    buf_reset(&x->text);
    buf_add_byte(&x->text, '[');
    buf_add_slice(&x->text, block->body);
    buf_add_byte(&x->text, ']');
    const struct json *ids = json_parse(buf_slice(&x->text), &x->mem, err);
    if (!ids)
        return NULL;
    ensure(ids->count == block->ids && "the packer counts its ids");
    if (x->cap < ids->count) {
        x->cap = ids->count;
        x->results = xrealloc(x->results, x->cap * sizeof *x->results);
    }
    return ids;
}

static bool index_block(struct indexer *x, const struct block *block, struct err *err)
{
    struct job *j = x->job;
    struct keyed_totals totals = {0};
    const struct json *ids = block_ids(x, block, err);

    if (!ids)
        return false;
    if (!keyed_sync(x->keyed, j->o.object_type, ids, x->results, err))
        return false;
    keyed_totals_add(&totals, x->results, ids->count);
    add_counts(x, &totals);
    uint64_t failed = add_failures(x, ids);
    tx_block_end(x->tx, block->no);
    tx_count(x->tx, "blocks", 1);
    if (!journal_commit(x->tx, err))
        return false;
    atomic_fetch_add(&j->done, block->ids);
    atomic_fetch_add(&j->failed, failed);
    return true;
}

bool job_index(void *ctx, struct err *err)
{
    struct job *j = ctx;
    struct indexer x = {.job = j, .tx = tx_new(j->o.run)};
    struct keyed_options keyed = *j->o.keyed;

    arena_init(&x.mem, IDS_MEMORY_BYTES);
    buf_init(&x.text, IDS_MEMORY_BYTES);
    keyed.collided = &j->collided;
    x.keyed = keyed_open(&keyed, err);
    bool ok = x.keyed != NULL;
    while (ok) {
        AUTO(block) struct block *block = blocks_take(j->blocks);

        if (!block)
            break;
        ok = index_block(&x, block, err);
    }
    keyed_free(x.keyed);
    tx_free(x.tx);
    arena_fini(&x.mem);
    buf_fini(&x.text);
    free(x.results);
    return ok;
}
