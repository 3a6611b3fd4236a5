#include "cmd/job_plan.h"

#include <string.h>

#include "base/log.h"
#include "base/text.h"

/* What the servers can use, by object type: which column, under which name, in which form. */
static const struct object_type {
    const char *name;
    const char *column;
    const char *field;
    enum job_form form;
    bool objects; /* its server takes objects of column filters, too */
} object_types[] = {
    {"batch", "courseid", "courseId", JOB_STRINGS, true},
    {"user_course", "userid", "userId", JOB_OBJECT_PER_BLOCK, true},
    {"user", "id", "id", JOB_STRINGS, false},
    {"organisation", "id", "id", JOB_STRINGS, false},
    {"location", "id", "id", JOB_STRINGS, false},
};

/* Names under which the servers know key columns, for objects. */
static const char *field_name(const char *column)
{
    static const char *const known[][2] = {
        {"courseid", "courseId"}, {"batchid", "batchId"}, {"userid", "userId"}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(column, known[i][0]) == 0)
            return known[i][1];
    }
    return column;
}

static const struct object_type *find_object_type(const char *name)
{
    for (size_t i = 0; i < sizeof object_types / sizeof *object_types; i++) {
        if (strcmp(object_types[i].name, name) == 0)
            return &object_types[i];
    }
    return NULL;
}

static bool plan_column(const struct sync *s, struct job_plan *p, const char *column,
                        const char *field, struct err *err)
{
    p->names[p->count] = column;
    p->fields[p->count] = field;
    if (s->schema) {
        int i = schema_find(s->schema, slice_str(column));

        if (i < 0)
            return err_set(err, ERR_USER,
                           "table %s.%s has no column \"%s\", which object type %s is synced by; "
                           "say another by --id-column, or another --id-form",
                           s->schema->keyspace, s->schema->table, column,
                           s->config->sync.object_type);
        p->columns[p->count] = (uint16_t)i;
        p->types[p->count] = s->schema->columns[i].type;
    }
    p->count++;
    return true;
}

static bool plan_whole_key(const struct sync *s, struct job_plan *p, struct err *err)
{
    if (!s->schema)
        return config_fault(
            s->config, "ids.form", err,
            "needs the table whose key the ids are: give --cassandra-hosts and --table, too");
    uint16_t keys = (uint16_t)(s->schema->partition_key_count + s->schema->clustering_count);
    if (keys > IDS_KEY_MAX)
        return err_set(err, ERR_USER, "table %s.%s: a key of %u columns; at most %d",
                       s->schema->keyspace, s->schema->table, keys, IDS_KEY_MAX);
    for (uint16_t i = 0; i < keys; i++) {
        if (!plan_column(s, p, s->schema->columns[i].name, field_name(s->schema->columns[i].name),
                         err))
            return false;
    }
    return true;
}

/* A type of one's own is fine; a slip would be refused by the server, block after block. */
static void check_object_type(const char *name)
{
    const char *names[sizeof object_types / sizeof *object_types + 1] = {NULL};

    for (size_t i = 0; i < sizeof object_types / sizeof *object_types; i++)
        names[i] = object_types[i].name;
    const char *near = text_nearest(slice_str(name), names);
    LOG(LOG_WARN, "object_type_unknown", F_STR("type", name),
        F_STR("why", "Sunbird's servers know user, organisation, batch, user_course, location"),
        F_STR("did_you_mean", near ? near : ""));
}

/* Both servers answer 200 to what they can't use. */
static void check_form(const struct object_type *type, enum job_form form)
{
    if (!type->objects && form != JOB_STRINGS)
        LOG(LOG_WARN, "id_form_useless", F_STR("type", type->name),
            F_STR("why", "its server takes strings only: objects are accepted, and not synced"));
    if (type->form == JOB_OBJECT_PER_BLOCK && form == JOB_STRINGS)
        LOG(LOG_WARN, "id_form_useless", F_STR("type", type->name),
            F_STR("why", "its server takes objects only: strings are accepted, and find nothing"));
}

static bool check_id_column(const struct sync *s, int *column, struct err *err)
{
    const char *names[1024];
    size_t n = 0;

    *column = schema_find(s->schema, slice_str(s->config->ids.column));
    if (*column >= 0)
        return true;
    for (; n < s->schema->column_count && n < 1023; n++)
        names[n] = s->schema->columns[n].name;
    names[n] = NULL;
    const char *near = text_nearest(slice_str(s->config->ids.column), names);
    return config_fault(s->config, "ids.column", err, "table %s.%s has no column \"%s\"%s%s%s",
                        s->schema->keyspace, s->schema->table, s->config->ids.column,
                        near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

bool job_plan_make(const struct sync *s, struct job_plan *p, struct err *err)
{
    const struct config *c = s->config;
    const struct object_type *type = find_object_type(c->sync.object_type);
    static const enum job_form forms[] = {[ID_FORM_STRING] = JOB_STRINGS,
                                          [ID_FORM_OBJECT] = JOB_OBJECTS,
                                          [ID_FORM_OBJECT_PER_BLOCK] = JOB_OBJECT_PER_BLOCK};
    int id_column = -1;

    if (!type)
        check_object_type(c->sync.object_type);
    *p = (struct job_plan){.form = type ? type->form : JOB_STRINGS, .wanted_column = -1};
    if (c->ids.form != ID_FORM_AUTO)
        p->form = forms[c->ids.form];
    if (type)
        check_form(type, p->form);
    p->keep_objects = p->form == JOB_OBJECTS || (c->ids.form == ID_FORM_AUTO &&
                                                 p->form == JOB_STRINGS && type && type->objects);
    if (c->ids.column && !s->schema)
        return config_fault(c, "ids.column", err,
                            "needs the table to look in: give --cassandra-hosts and --table, too");
    if (c->ids.column && !check_id_column(s, &id_column, err))
        return false;
    if (id_column >= 0 && !c->ids.file) {
        /* From the table itself: the column's values are the ids. */
        const char *name = s->schema->columns[id_column].name;

        return plan_column(s, p, name, field_name(name), err);
    }
    if (p->form == JOB_OBJECTS || (!type && s->schema)) {
        if (!plan_whole_key(s, p, err))
            return false;
        if (p->count > 1 && c->ids.form == ID_FORM_AUTO)
            p->form = JOB_OBJECTS;
    } else if (!plan_column(s, p, type ? type->column : "id", type ? type->field : "id", err)) {
        return false;
    }
    if (p->form == JOB_OBJECT_PER_BLOCK && p->count > 1)
        return config_fault(c, "ids.form", err,
                            "object-per-block is for a key of one column; this one has %u",
                            p->count);
    if (id_column >= 0 && !(p->count == 1 && p->columns[0] == id_column)) {
        p->wanted_column = id_column;
        p->wanted_name = s->schema->columns[id_column].name;
        p->wanted_type = s->schema->columns[id_column].type;
    }
    return true;
}
