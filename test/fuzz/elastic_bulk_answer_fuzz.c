/* _bulk answers: a verdict for every item, or for none but those before a stop; and where the quick
 * reader is sure, the tree says the same. */
#include <string.h>

#include "sink/elastic_parts.h"

enum { ITEMS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    struct elastic_item items[ITEMS];
    struct elastic_answer answer;
    struct arena mem, problems;
    struct err err;
};

static void reading_init(struct reading *r, bool lean)
{
    static const enum elastic_op ops[] = {ELASTIC_CREATE, ELASTIC_INDEX, ELASTIC_DELETE};
    static const char *const ids[] = {"a", "b", "c"};

    *r = (struct reading){0};
    arena_init(&r->mem, 16 << 20);
    arena_init(&r->problems, 1 << 20);
    for (int i = 0; i < ITEMS; i++)
        r->items[i] = (struct elastic_item){.op = (uint8_t)ops[i],
                                            .id = lean ? SLICE_NULL : slice_str(ids[i])};
    r->answer = (struct elastic_answer){
        .items = r->items, .count = ITEMS, .lean = lean, .problems = &r->problems, .mem = &r->mem};
}

static void reading_fini(struct reading *r)
{
    arena_fini(&r->mem);
    arena_fini(&r->problems);
}

static void same_item(const struct elastic_item *a, const struct elastic_item *b)
{
    ensure(a->verdict == b->verdict);
    if (a->verdict == ELASTIC_OPEN)
        return;
    ensure(a->status == b->status && a->created == b->created);
    ensure(a->seq_no == b->seq_no && a->primary_term == b->primary_term && a->there == b->there);
    ensure(!a->problem == !b->problem);
    ensure(!a->problem || (strcmp(a->problem->reason, b->problem->reason) == 0 &&
                           strcmp(a->problem->text, b->problem->text) == 0));
}

static void check(const struct reading *r, bool ok)
{
    for (int i = 0; i < ITEMS; i++) {
        const struct elastic_item *item = &r->items[i];
        ensure(!ok || item->verdict != ELASTIC_OPEN);
        ensure(ok || r->err.kind != ERR_RETRY || item->verdict == ELASTIC_OPEN);
        ensure(item->verdict != ELASTIC_REJECTED || item->problem->reason[0]);
    }
    ensure(ok == (r->err.kind == ERR_NONE));
}

static void read_both(struct slice text, bool lean)
{
    struct reading quick, tree;

    reading_init(&quick, lean);
    reading_init(&tree, lean);
    bool ok = elastic_parse_bulk(text, &tree.answer, &tree.err);
    check(&tree, ok);
    enum elastic_scan scan = elastic_scan_bulk(text, &quick.answer, &quick.err);
    if (scan != ELASTIC_UNSURE) {
        check(&quick, scan == ELASTIC_SCANNED);
        ensure(ok == (scan == ELASTIC_SCANNED));
        ensure(strcmp(quick.err.text, tree.err.text) == 0 && quick.err.kind == tree.err.kind);
        ensure(quick.answer.took_ms == tree.answer.took_ms);
        for (int i = 0; i < ITEMS; i++)
            same_item(&quick.items[i], &tree.items[i]);
    }
    reading_fini(&quick);
    reading_fini(&tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_both(slice_of(data, size), false);
    read_both(slice_of(data, size), true);
    return 0;
}
