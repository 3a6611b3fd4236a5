#include "cmd/sync_columns.h"

#include <string.h>

#include "base/log.h"
#include "engine/retry.h"

enum { LOOKS = 4, LOOK_AGAIN_MS = 500 };

static void add_columns(struct buf *out, const struct schema *s, const struct select *list,
                        uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        const struct schema_column *c = &s->columns[list[i].column];
        buf_printf(out, "column=%s %s\n", c->name, c->type_text);
    }
}

void sync_columns_identity(const struct document *d, struct buf *out)
{
    add_columns(out, d->schema, plan_selects(d->plan), plan_column_count(d->plan));
    for (uint16_t i = 0; i < plan_read_count(d->plan); i++) {
        const struct plan_read *r = plan_read_at(d->plan, i);

        buf_printf(out, "read=%s\n", r->text);
        add_columns(out, r->schema, r->selects, r->select_count);
    }
}

static const struct schema_column *find(const struct schema *s, const char *name)
{
    for (uint16_t i = 0; i < s->column_count; i++)
        if (!strcmp(s->columns[i].name, name))
            return &s->columns[i];
    return NULL;
}

static struct schema *load(const struct schema *was, struct cql_cluster *cluster)
{
    struct err err = {0};
    struct schema *now = cql_schema_load(cluster, was->keyspace, was->table, &err);

    if (!now)
        LOG(LOG_DEBUG, "schema_unknown", F_STR("error", err.text));
    return now;
}

static bool is_lost(const struct schema *s, uint16_t column, const struct schema *now)
{
    const struct schema_column *was = &s->columns[column];
    const struct schema_column *is = find(now, was->name);

    if (is && !strcmp(is->type_text, was->type_text))
        return false;
    AUTO_STR char *table = xsprintf("%s.%s", s->keyspace, s->table);
    LOG(LOG_WARN, "column_dropped", F_STR("column", was->name), F_STR("table", table),
        F_STR("text", "documents that were made with it have to be made anew, all of them"));
    return true;
}

/* Any of them; also false while the table's schema can't be had. */
static bool any_lost(const struct schema *s, const struct select *list, uint16_t count,
                     struct cql_cluster *cluster)
{
    AUTO(schema) struct schema *now = load(s, cluster);

    for (uint16_t i = 0; now && i < count; i++)
        if (is_lost(s, list[i].column, now))
            return true;
    return false;
}

static bool lost(const struct document *d, struct cql_cluster *cluster)
{
    if (any_lost(d->schema, plan_selects(d->plan), plan_column_count(d->plan), cluster))
        return true;
    for (uint16_t i = 0; i < plan_read_count(d->plan); i++) {
        const struct plan_read *r = plan_read_at(d->plan, i);

        if (any_lost(r->schema, r->selects, r->select_count, cluster))
            return true;
    }
    return false;
}

bool sync_columns_lost(const struct document *d, struct cql_cluster *cluster, struct clock *clock)
{
    struct err err = {0};

    for (int i = 0; i < LOOKS; i++) {
        if (i && !retry_pause(clock, NULL, LOOK_AGAIN_MS, &err))
            return false;
        if (lost(d, cluster))
            return true;
    }
    return false;
}

void sync_columns_warn_added(const struct document *d, struct cql_cluster *cluster)
{
    if (d->mapping->columns.count)
        return;
    AUTO(schema) struct schema *now = load(d->schema, cluster);
    if (!now)
        return;
    for (uint16_t i = 0; i < now->column_count; i++)
        if (!find(d->schema, now->columns[i].name))
            LOG(LOG_WARN, "column_added", F_STR("column", now->columns[i].name),
                F_STR("text", "it was added while the rows were read; the documents are without "
                              "it until the command is run again"));
}
