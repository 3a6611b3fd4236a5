/* Some tables with rows, and documents made of them the way the engine does: level by level. */
#pragma once
#include "mapping/plan.h"
#include "tables.h"

struct world_table {
    struct schema *schema;
    const struct json *rows; /* an array, in clustering order */
};

struct world {
    struct world_table tables[12];
    size_t count;
    struct arena mem;
    unsigned reads; /* keys that were read */
    unsigned rounds;
};

static inline const struct schema *world_find(void *ctx, const char *keyspace, const char *table,
                                              struct err *err)
{
    const struct world *w = ctx;

    for (size_t i = 0; i < w->count; i++)
        if (!strcmp(w->tables[i].schema->table, table) &&
            !strcmp(w->tables[i].schema->keyspace, keyspace))
            return w->tables[i].schema;
    err_set(err, ERR_USER, "there is no table %s.%s", keyspace, table);
    return NULL;
}

static inline void world_read(struct world *w, const struct plan_read *r, struct fetched *f,
                              struct fetched_rows *rows)
{
    struct world_table *t = NULL;
    struct slice cells[64];

    for (size_t i = 0; i < w->count; i++)
        if (w->tables[i].schema == r->schema)
            t = &w->tables[i];
    ensure(t);
    w->reads++;
    json_each (row, t->rows) {
        struct slice *all = encode_row(t->schema, row, &w->mem);
        bool same = true;
        for (uint16_t i = 0; i < r->key_count; i++)
            same = same && slice_eq(all[i], rows->key[i]);
        if (!same)
            continue;
        for (uint16_t i = 0; i < r->select_count; i++)
            cells[i] = all[r->selects[i].column];
        ensure(fetched_add(f, rows, cells, r->select_count));
    }
    fetched_fill(f, rows, 1000, NULL);
}

static inline void world_fetch(struct world *w, const struct plan *p, const struct slice *cells,
                               struct slice id, struct fetched *f, struct plan_work *work)
{
    for (uint16_t level = 0; level < plan_levels(p); level++) {
        w->rounds++;
        ensure(plan_need(p, level, cells, id, f, work));
        for (size_t i = 0; i < fetched_count(f); i++) {
            struct fetched_rows *rows = fetched_at(f, i);
            if (!rows->filled)
                world_read(w, plan_read_at(p, rows->read), f, rows);
        }
    }
}

/* The root's cells as the plan selects them. */
static inline struct slice *world_cells(struct world *w, const struct plan *p,
                                        const struct json *row)
{
    struct slice *all = encode_row(plan_schema(p), row, &w->mem);
    struct slice *cells = arena_zalloc(&w->mem, plan_column_count(p) * sizeof *cells);

    for (uint16_t i = 0; i < plan_column_count(p); i++)
        cells[i] = all[plan_columns(p)[i]];
    return cells;
}
