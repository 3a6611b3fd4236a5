#include "cmd/serve_types.h"

#include <string.h>

#include "cmd/versioning.h"

struct serve_types *serve_types_ref(struct serve_types *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void serve_types_put(struct serve_types *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) > 1)
        return;
    for (size_t i = 0; i < t->count; i++) {
        guard_free(t->guards[i]);
        document_fini(&t->docs[i]);
    }
    free(t);
}

static bool load_one(struct serve_types *t, const struct config *c, const char *name,
                     struct err *err)
{
    struct document *d = &t->docs[t->count];

    if (t->count == MAX_MAPPINGS)
        return config_fault(c, "mapping.files", err, "more than %d", MAX_MAPPINGS);
    if (!document_load(d, c, name, err))
        return false;
    t->count++;
    for (size_t i = 0; t->docs[i].mapping != d->mapping; i++) {
        if (strcmp(t->docs[i].mapping->object, d->mapping->object) == 0)
            return mapping_error(d->mapping, d->mapping->object_at, err,
                                 "object type %s is described in %s, too", d->mapping->object,
                                 t->docs[i].mapping->path);
    }
    return true;
}

struct serve_types *serve_types_load(const struct config *c, struct err *err)
{
    struct serve_types *t = xalloc(sizeof *t);

    atomic_store(&t->refs, 1);
    for (const char *const *name = c->mapping.files; *name; name++) {
        if (!load_one(t, c, *name, err)) {
            serve_types_put(t);
            return NULL;
        }
    }
    return t;
}

static bool open_guard(struct serve_types *t, const struct config *c, struct elastic *e, size_t i,
                       struct err *err)
{
    struct elastic_index index;
    bool exists;

    if (!elastic_index_look(e, plan_index(t->plans[i]), &index, &exists, err))
        return false;
    if (!exists)
        return elastic_check_index(e, plan_index(t->plans[i]), err);
    t->guards[i] = guard_new(
        &(struct guard_options){
            .index = plan_index(t->plans[i]),
            .versioning = plan_versioning(t->plans[i]),
            .clock = t->keyed.clock,
            .max_skew_us = c->sync.max_skew_ms * 1000,
            .gc_deletes_ms = index.gc_deletes_ms,
            .primary_term = index.primary_term,
            .lowest_term = index.lowest_term,
        },
        err);
    return t->guards[i] && guard_check_clock(t->guards[i], t->keyed.cluster, err);
}

static bool look_at(struct serve_types *t, const struct config *c, struct journal *journal,
                    struct elastic *e, size_t i, struct elastic_origin *index, struct err *err)
{
    enum mapping_versioning v = plan_versioning(t->plans[i]);

    return versioning_check(journal, e, t->plans[i], c->sync.change_versioning, index, err) &&
           ((v != VERSIONING_READ_TIME && v != VERSIONING_WRITE_TIME) ||
            open_guard(t, c, e, i, err));
}

/* What an operator has wrong is said now, not by the first call; nothing is noted before all is
 * well. */
static bool check_all(struct serve_types *t, const struct config *c, struct journal *journal,
                      const char *run, struct err *err)
{
    AUTO(keyed) struct keyed *k = keyed_open(&t->keyed, err);
    struct elastic_origin *indices;
    struct elastic_version version;

    if (!k || !keyed_check(k, err))
        return false;
    AUTO(elastic) struct elastic *e = elastic_new(t->keyed.elastic, err);
    bool ok = e && elastic_identify(e, &version, err);
    indices = xalloc(MAX_MAPPINGS * sizeof *indices);
    for (size_t i = 0; ok && i < t->count; i++) {
        document_warn_type(&t->docs[i], &version);
        ok = look_at(t, c, journal, e, i, &indices[i], err);
    }
    for (size_t i = 0; ok && i < t->count; i++)
        ok = versioning_note(journal, e, &indices[i], t->plans[i], run, err);
    free(indices);
    return ok;
}

bool serve_types_open(struct serve_types *t, const struct config *c, struct journal *journal,
                      const char *run, const struct keyed_options *keyed, struct err *err)
{
    for (size_t i = 0; i < t->count; i++) {
        if (!document_compile(&t->docs[i], c, keyed->cluster, err))
            return false;
        t->plans[i] = t->docs[i].plan;
    }
    t->keyed = *keyed;
    t->keyed.plans = t->plans;
    t->keyed.guards = t->guards;
    return check_all(t, c, journal, run, err);
}

const struct document *serve_types_document(const struct serve_types *t, const char *object_type)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(plan_object(t->plans[i]), object_type) == 0)
            return &t->docs[i];
    }
    return NULL;
}

const struct plan *serve_types_plan(const struct serve_types *t, const char *object_type)
{
    const struct document *doc = serve_types_document(t, object_type);

    return doc ? doc->plan : NULL;
}

struct serve_types *serve_current_get(struct serve_current *c)
{
    pthread_mutex_lock(&c->lock);
    struct serve_types *t = serve_types_ref(c->types);
    pthread_mutex_unlock(&c->lock);
    return t;
}

void serve_current_set(struct serve_current *c, struct serve_types *t)
{
    pthread_mutex_lock(&c->lock);
    struct serve_types *old = c->types;
    c->types = t;
    pthread_mutex_unlock(&c->lock);
    serve_types_put(old);
}
