#include "engine/fetch.h"

#include <stdlib.h>

void fetch_init(struct fetch *f, const struct plan *p, struct cql_cluster *cluster,
                size_t max_bytes)
{
    *f = (struct fetch){.plan = p, .cluster = cluster};
    fetched_init(&f->rows, max_bytes);
    plan_work_init(&f->work, max_bytes);
}

void fetch_fini(struct fetch *f)
{
    fetched_fini(&f->rows);
    plan_work_fini(&f->work);
    cql_session_free(f->own);
}

static bool too_large(struct fetch *f, struct err *err)
{
    f->work.reason = "document_too_large";
    return err_set(err, ERR_REJECT, "the rows of the document are larger than the memory for one");
}

static bool add_page(struct fetch *f, struct fetched_rows *rows, const struct page *page,
                     struct err *err)
{
    const struct plan_read *r = plan_read_at(f->plan, rows->read);
    struct row_cursor cursor = page_rows(page);
    struct slice *cells = NULL;
    bool room = true;

    if (!plan_read_fits(f->plan, rows->read, page->columns))
        return err_set(err, ERR_USER, "table %s.%s changed; start again", r->schema->keyspace,
                       r->schema->table);
    cells = xalloc(r->select_count * sizeof *cells);
    while (room && row_next(&cursor, cells, err))
        room = fetched_add(&f->rows, rows, cells, r->select_count);
    free(cells);
    return room ? err->kind == ERR_NONE : too_large(f, err);
}

static bool read_rows(struct fetch *f, struct fetched_rows *rows, struct err *err)
{
    const struct plan_read *r = plan_read_at(f->plan, rows->read);
    struct buf key;
    struct page page;
    int64_t first_us = 0;

    buf_init(&key, 1 << 20);
    cql_partition_key(rows->key, r->schema->partition_key_count, &key);
    struct cql_query q = {.text = r->text,
                          .values = rows->key,
                          .value_count = r->key_count,
                          .has_token = true,
                          .token = cql_token(buf_slice(&key)),
                          .keyspace = r->schema->keyspace};
    buf_fini(&key);
    AUTO(cql_pager) struct cql_pager *pager = cql_pager_open(f->session, &q, err);
    if (!pager)
        return false;
    while (cql_pager_next(pager, &page, err)) {
        first_us = first_us ? first_us : page.read_at_us;
        if (!add_page(f, rows, &page, err) ||
            (f->limit && !limit_read(f->limit, page.row_count, err)))
            return false;
    }
    if (err->kind == ERR_REJECT) {
        fetched_again(rows);
        fetched_fill(&f->rows, rows, 0, err->text);
        return err_clear(err), true;
    }
    fetched_fill(&f->rows, rows, first_us, NULL);
    return err->kind == ERR_NONE;
}

static bool read_all(struct fetch *f, const struct slice *cells, struct slice id, struct err *err)
{
    fetched_reset(&f->rows);
    for (uint16_t level = 0; level < plan_levels(f->plan); level++) {
        if (!plan_need(f->plan, level, cells, id, &f->rows, &f->work))
            return too_large(f, err);
        for (size_t i = 0; i < fetched_count(&f->rows); i++)
            if (!fetched_at(&f->rows, i)->filled && !read_rows(f, fetched_at(&f->rows, i), err))
                return false;
    }
    return true;
}

bool fetch_document(struct fetch *f, const struct slice *cells, struct slice id, struct buf *out,
                    struct json_counts *counts, struct err *err)
{
    if (plan_levels(f->plan) && !f->session) {
        f->own = cql_session_open(f->cluster, err);
        f->session = f->own;
    }
    return (!plan_levels(f->plan) || (f->session && read_all(f, cells, id, err))) &&
           plan_make(f->plan, cells, id, &f->rows, &f->work, out, counts, err);
}
