#include "cmd/sync_columns.h"

#include <string.h>

#include "base/log.h"
#include "engine/retry.h"

enum { LOOKS = 4, LOOK_AGAIN_MS = 500 };

void sync_columns_identity(const struct document *d, struct buf *out)
{
    const uint16_t *columns = plan_columns(d->plan);

    for (uint16_t i = 0; i < plan_column_count(d->plan); i++) {
        const struct schema_column *c = &d->schema->columns[columns[i]];
        buf_printf(out, "column=%s %s\n", c->name, c->type_text);
    }
}

static const struct schema_column *find(const struct schema *s, const char *name)
{
    for (uint16_t i = 0; i < s->column_count; i++)
        if (!strcmp(s->columns[i].name, name))
            return &s->columns[i];
    return NULL;
}

static struct schema *load(const struct document *d, struct cql_cluster *cluster)
{
    struct err err = {0};
    struct schema *now = cql_schema_load(cluster, d->schema->keyspace, d->schema->table, &err);

    if (!now)
        LOG(LOG_DEBUG, "schema_unknown", F_STR("error", err.text));
    return now;
}

static bool lost(const struct document *d, const struct schema *now)
{
    const uint16_t *columns = plan_columns(d->plan);

    for (uint16_t i = 0; i < plan_column_count(d->plan); i++) {
        const struct schema_column *was = &d->schema->columns[columns[i]];
        const struct schema_column *is = find(now, was->name);

        if (is && !strcmp(is->type_text, was->type_text))
            continue;
        LOG(LOG_WARN, "column_dropped", F_STR("column", was->name),
            F_STR("text", "the table changed: its rows are read again from the beginning"));
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
        AUTO(schema) struct schema *now = load(d, cluster);
        if (now && lost(d, now))
            return true;
    }
    return false;
}

void sync_columns_warn_added(const struct document *d, struct cql_cluster *cluster)
{
    if (d->mapping->columns.count)
        return;
    AUTO(schema) struct schema *now = load(d, cluster);
    if (!now)
        return;
    for (uint16_t i = 0; i < now->column_count; i++)
        if (!find(d->schema, now->columns[i].name))
            LOG(LOG_WARN, "column_added", F_STR("column", now->columns[i].name),
                F_STR("text", "it was added while the rows were read; the documents are without "
                              "it until the command is run again"));
}
