#include "engine/blocks.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"

struct waiting {
    struct waiting *next;
    struct block block;
};

/* The ids of the open block, to find those that come again: open addressing. */
struct seen {
    struct seen_slot {
        uint32_t hash;
        uint32_t at; /* 1 + where in the block's body it starts; 0: free */
    } *slots;
    size_t count; /* of slots, a power of two */
    size_t used;
};

struct blocks {
    struct blocks_options o;
    pthread_mutex_t lock; /* of the queue */
    pthread_cond_t ready; /* a block is there, or there will be none */
    pthread_cond_t room;
    struct waiting *first;
    struct waiting **last;
    size_t bytes;
    bool ended;
    uint64_t packed;

    pthread_mutex_t
        pack_lock; /* of what follows: held by one producer at a time, across its commit */
    uint64_t next_no;
    struct buf body; /* of the open block */
    uint32_t ids;
    struct seen in_block;
    struct slice previous; /* the id added last */
    struct buf kept;       /* its bytes, when those it came from are gone */
};

enum { SEEN_SLOTS = 256 };

static void seen_grow(struct seen *s)
{
    struct seen old = *s;

    s->count = old.count ? 2 * old.count : SEEN_SLOTS;
    s->slots = xalloc(s->count * sizeof *s->slots);
    for (size_t i = 0; i < old.count; i++) {
        if (!old.slots[i].at)
            continue;
        size_t to = old.slots[i].hash & (s->count - 1);
        while (s->slots[to].at)
            to = (to + 1) & (s->count - 1);
        s->slots[to] = old.slots[i];
    }
    free(old.slots);
}

static void seen_reset(struct seen *s)
{
    if (s->used)
        memset(s->slots, 0, s->count * sizeof *s->slots);
    s->used = 0;
}

/* Is it the whole id that starts there? Ids are JSON texts: none is the beginning of another. */
static bool id_at(const struct buf *body, size_t at, struct slice id)
{
    size_t end = at + id.n;

    return end <= body->len && (end == body->len || body->p[end] == ',') &&
           memcmp(body->p + at, id.p, id.n) == 0;
}

/* Notes an id that is to be added at `at`; false when it is in the body already. */
static bool seen_add(struct seen *s, const struct buf *body, struct slice id, size_t at)
{
    uint32_t hash = (uint32_t)hash_64(id);
    size_t i;

    if (2 * s->used >= s->count)
        seen_grow(s);
    for (i = hash & (s->count - 1); s->slots[i].at; i = (i + 1) & (s->count - 1)) {
        if (s->slots[i].hash == hash && id_at(body, s->slots[i].at - 1, id))
            return false;
    }
    s->slots[i] = (struct seen_slot){hash, (uint32_t)at + 1};
    s->used++;
    return true;
}

struct blocks *blocks_new(const struct blocks_options *o)
{
    struct blocks *b = xalloc(sizeof *b);

    b->o = *o;
    b->last = &b->first;
    b->next_no = 1;
    pthread_mutex_init(&b->lock, NULL);
    pthread_mutex_init(&b->pack_lock, NULL);
    pthread_cond_init(&b->ready, NULL);
    pthread_cond_init(&b->room, NULL);
    buf_init(&b->body, o->block_bytes);
    buf_init(&b->kept, o->block_bytes);
    seen_grow(&b->in_block);
    return b;
}

bool block_next_id(struct slice *rest, struct slice *id)
{
    int depth = 0;
    bool quoted = false;
    size_t n = 0;

    if (!rest->n)
        return false;
    /* A string without escapes, which most ids are. */
    if (rest->p[0] == '"') {
        const uint8_t *end = rest->n > 1 ? memchr(rest->p + 1, '"', rest->n - 1) : NULL;

        n = end ? (size_t)(end + 1 - rest->p) : 0;
        if (!end || memchr(rest->p, '\\', n))
            n = 0;
    }
    for (; n < rest->n; n++) {
        uint8_t c = rest->p[n];

        if (quoted && c == '\\')
            n++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{'))
            depth++;
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
        else if (!quoted && c == ',' && depth == 0)
            break;
    }
    if (n > rest->n)
        n = rest->n;
    *id = slice_of(rest->p, n);
    *rest = n < rest->n ? slice_of(rest->p + n + 1, rest->n - n - 1) : SLICE_NULL;
    return true;
}

void block_free(struct block *b)
{
    free((void *)b->body.p);
    free(b);
}

static void waiting_free(struct waiting *list)
{
    while (list) {
        struct waiting *next = list->next;

        free((void *)list->block.body.p);
        free(list);
        list = next;
    }
}

void blocks_free(struct blocks *b)
{
    waiting_free(b->first);
    buf_fini(&b->body);
    buf_fini(&b->kept);
    free(b->in_block.slots);
    pthread_cond_destroy(&b->ready);
    pthread_cond_destroy(&b->room);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->pack_lock);
    free(b);
}

/* ---- the queue --------------------------------------------------------------------------------
 */

static struct waiting *waiting_new(uint64_t no, uint32_t ids, struct slice body)
{
    struct waiting *w = xalloc(sizeof *w);

    w->block = (struct block){no, ids, slice_of(xstrndup((const char *)body.p, body.n), body.n)};
    return w;
}

/* Takes over `list`. One block is let in however large it is, else nothing would ever move.
 * Consumers are woken when there is something for all of them, or nothing more comes. */
static void give_out(struct blocks *b, struct waiting *list)
{
    pthread_mutex_lock(&b->lock);
    while (list) {
        struct waiting *w = list;

        list = w->next;
        w->next = NULL;
        while (b->first && b->bytes + w->block.body.n > b->o.waiting_bytes && !b->ended) {
            pthread_cond_broadcast(&b->ready);
            pthread_cond_wait(&b->room, &b->lock);
        }
        *b->last = w;
        b->last = &w->next;
        b->bytes += w->block.body.n;
    }
    pthread_mutex_unlock(&b->lock);
    pthread_cond_broadcast(&b->ready);
}

struct block *blocks_take(struct blocks *b)
{
    struct block *out = NULL;

    pthread_mutex_lock(&b->lock);
    while (!b->first && !b->ended)
        pthread_cond_wait(&b->ready, &b->lock);
    struct waiting *w = b->first;
    if (w && cancel_level(b->o.cancel) == 0) {
        b->first = w->next;
        if (!b->first)
            b->last = &b->first;
        b->bytes -= w->block.body.n;
        out = xalloc(sizeof *out);
        *out = w->block;
        free(w);
        /* Half empty is soon enough: waking the producer for every block costs more than the block.
         */
        if (b->bytes <= b->o.waiting_bytes / 2)
            pthread_cond_signal(&b->room);
    }
    pthread_mutex_unlock(&b->lock);
    return out;
}

static void end_queue(struct blocks *b, bool drop)
{
    pthread_mutex_lock(&b->lock);
    b->ended = true;
    if (drop) {
        waiting_free(b->first);
        b->first = NULL;
        b->last = &b->first;
    }
    pthread_cond_broadcast(&b->ready);
    pthread_cond_broadcast(&b->room);
    pthread_mutex_unlock(&b->lock);
}

void blocks_stop(struct blocks *b)
{
    end_queue(b, true);
}

static void count_packed(struct blocks *b, uint64_t ids)
{
    pthread_mutex_lock(&b->lock);
    b->packed += ids;
    pthread_mutex_unlock(&b->lock);
}

uint64_t blocks_packed(struct blocks *b)
{
    pthread_mutex_lock(&b->lock);
    uint64_t n = b->packed;
    pthread_mutex_unlock(&b->lock);
    return n;
}

/* ---- packing ----------------------------------------------------------------------------------
 */

struct packing {
    struct waiting *first;
    struct waiting **last;
    struct tx *tx;
    uint64_t duplicate;
    uint64_t bad;
};

static void close_block(struct blocks *b, struct packing *p)
{
    struct waiting *w = waiting_new(b->next_no++, b->ids, buf_slice(&b->body));

    if (!b->o.passing)
        tx_block(p->tx, &(struct run_block){
                            .no = w->block.no, .ids = w->block.ids, .body = w->block.body});
    *p->last = w;
    p->last = &w->next;
    buf_reset(&b->body);
    seen_reset(&b->in_block);
    b->ids = 0;
}

static bool add_to_open_block(struct blocks *b, struct slice id)
{
    if (!seen_add(&b->in_block, &b->body, id, b->body.len + (b->ids > 0)))
        return false;
    if (b->ids++)
        buf_add_byte(&b->body, ',');
    buf_add_slice(&b->body, id);
    return true;
}

static void add_id(struct blocks *b, struct slice id, struct packing *p)
{
    if (id.n > b->o.block_bytes) {
        tx_failure(p->tx, slice_of(id.p, id.n < 200 ? id.n : 200), "too_long",
                   "the id is longer than a call's body may be");
        p->bad++;
        return;
    }
    if (slice_eq(id, b->previous)) {
        p->duplicate++;
        return;
    }
    b->previous = id;
    if (b->ids && b->body.len + 1 + id.n > b->o.block_bytes)
        close_block(b, p);
    if (!add_to_open_block(b, id))
        p->duplicate++;
    if (b->ids == b->o.block_ids)
        close_block(b, p);
}

/* Before the bytes of the ids go. */
static void keep_previous(struct blocks *b)
{
    if (b->previous.p == b->kept.p)
        return;
    buf_reset(&b->kept);
    buf_add_slice(&b->kept, b->previous);
    b->previous = buf_slice(&b->kept);
}

bool blocks_add(struct blocks *b, const struct slice *ids, size_t count, struct tx *tx,
                struct err *err)
{
    struct packing p = {.tx = tx};

    p.last = &p.first;
    pthread_mutex_lock(&b->pack_lock);
    for (size_t i = 0; i < count; i++)
        add_id(b, ids[i], &p);
    keep_previous(b);
    if (b->ids && !b->o.passing)
        tx_block(tx,
                 &(struct run_block){
                     .no = b->next_no, .ids = b->ids, .open = true, .body = buf_slice(&b->body)});
    tx_count(tx, "ids", (int64_t)count);
    tx_count(tx, "duplicate", (int64_t)p.duplicate);
    tx_count(tx, "bad", (int64_t)p.bad);
    bool ok = journal_commit(tx, err);
    /* Given out with the lock held: blocks leave in the order of their numbers. */
    if (ok) {
        count_packed(b, count - p.duplicate - p.bad);
        give_out(b, p.first);
    } else {
        waiting_free(p.first);
    }
    pthread_mutex_unlock(&b->pack_lock);
    return ok;
}

bool blocks_finish(struct blocks *b, struct err *err)
{
    bool ok = true;

    pthread_mutex_lock(&b->pack_lock);
    if (b->ids) {
        AUTO(tx) struct tx *tx = tx_new(b->o.run);
        struct packing p = {.tx = tx};

        p.last = &p.first;
        close_block(b, &p);
        ok = journal_commit(tx, err);
        if (ok)
            give_out(b, p.first);
        else
            waiting_free(p.first);
    }
    pthread_mutex_unlock(&b->pack_lock);
    end_queue(b, false);
    return ok;
}

static void reopen_block(struct blocks *b, const struct run_block *block)
{
    struct slice rest = block->body;
    struct slice id;

    b->next_no = block->no;
    while (block_next_id(&rest, &id)) {
        add_to_open_block(b, id);
        b->previous = id;
    }
    keep_previous(b);
}

static bool too_large(const struct blocks *b, const struct run_block *block)
{
    return block->ids > b->o.block_ids || block->body.n > b->o.block_bytes;
}

/* The ids of a block packed under wider limits go into blocks of their own, in one step. */
static bool cut_again(struct blocks *b, const struct run_block *block, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(b->o.run);
    struct packing p = {.tx = tx};
    struct slice rest = block->body;
    struct slice id;

    p.last = &p.first;
    while (block_next_id(&rest, &id))
        add_id(b, id, &p);
    keep_previous(b);
    if (b->ids)
        close_block(b, &p);
    waiting_free(p.first); /* they come back from the journal, in their order */
    tx_block_end(tx, block->no);
    tx_count(tx, "duplicate", (int64_t)p.duplicate);
    tx_count(tx, "bad", (int64_t)p.bad);
    return journal_commit(tx, err);
}

/* The block that was being filled: one that is cut may not take a number behind it. */
static bool close_journalled(struct blocks *b, struct run_block *block, struct err *err)
{
    AUTO(tx) struct tx *tx = tx_new(b->o.run);

    block->open = false;
    tx_block(tx, block);
    return journal_commit(tx, err);
}

/* Limits may differ from those of the process that was interrupted: smaller ones hold for what it
 * had packed, too. */
static bool fit_blocks(struct blocks *b, struct err *err)
{
    uint64_t last = 0;
    bool cut = false;
    bool found = true;
    bool ok = true;

    for (uint64_t no = 0; ok && found;) {
        struct run_block block;

        ok = run_next_block(b->o.run, no, &block, &found, err);
        if (!ok || !found)
            break;
        last = no = block.no;
        cut = cut || too_large(b, &block);
        if (cut && block.open)
            ok = close_journalled(b, &block, err);
        run_block_fini(&block);
    }
    b->next_no = last + 1;
    for (uint64_t no = 0; ok && cut && no < last;) {
        struct run_block block;

        ok = run_next_block(b->o.run, no, &block, &found, err);
        if (!ok || !found)
            break;
        no = block.no;
        ok = no > last || !too_large(b, &block) || cut_again(b, &block, err);
        run_block_fini(&block);
    }
    b->previous = SLICE_NULL;
    return ok;
}

bool blocks_reload(struct blocks *b, struct err *err)
{
    uint64_t no = 0;

    if (!fit_blocks(b, err))
        return false;
    for (;;) {
        struct run_block block;
        bool found = false;

        if (!run_next_block(b->o.run, no, &block, &found, err))
            return false;
        if (!found)
            return true;
        no = block.no;
        count_packed(b, block.ids);
        if (block.open) {
            reopen_block(b, &block);
        } else {
            b->next_no = no + 1;
            give_out(b, waiting_new(block.no, block.ids, block.body));
        }
        run_block_fini(&block);
        if (cancel_level(b->o.cancel))
            return err_set(err, ERR_CANCEL, "stopped on request");
    }
}
