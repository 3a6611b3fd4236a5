#include "mapping/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "mapping/json.h"
#include "mapping/plan_parts.h"
#include "model/select.h"
#include "model/value.h"

enum {
    ID_MAX_BYTES = 512, /* Elasticsearch's, of UTF-8 */
    KEYS_MAX = 10000,   /* that one element may ask for */
    LABEL_STEP = 16,    /* copied at a time, also beyond the end: there is room */
    LABELS_MAX_BYTES = 64 << 20,
};

/* How a field is written: chosen once. */
enum how {
    HOW_CELL,         /* a null cell is left out */
    HOW_CELL_OR_NULL, /* a null cell is null */
    HOW_COLLECTION,   /* empty_collections has a word */
    HOW_JSON,
    HOW_ID,
    HOW_TIME, /* a timestamp in a form of its own, or null */
    HOW_SLOT,
};

/* What the loop over a row's fields looks at, close together. */
struct writer {
    const struct type *type; /* of the cell */
    struct json_writer writer;
    const char *json;  /* HOW_JSON */
    uint32_t label_at; /* in plan.labels: ,"name": */
    uint32_t label_n;
    uint16_t cell;
    uint8_t how; /* enum how */
    bool empty_is_null;
    bool omit_null; /* HOW_TIME, HOW_SLOT */
};

/* A piece of a template. */
struct part {
    const char *text; /* NULL: a column */
    size_t text_len;
    uint16_t cell; /* index into the cells; of the id: into the key's */
};

struct plan {
    const struct mapping *mapping;
    const struct schema *schema; /* of its rows */
    const struct schema *table;  /* as it is */
    struct schema *partitions;   /* when a document is a partition; else NULL */
    uint16_t key_count, partition_count;

    struct select *selects; /* in the order of the cells */
    uint16_t *columns;      /* of the schema, likewise */
    uint16_t column_count;
    uint16_t *written_at; /* cells with times of writing, of write_time */
    uint16_t written_at_count;
    char *read_text;
    char **keys_text; /* by number of bound columns */

    uint16_t *select; /* for each key column that a text id gives: index of the key column */
    uint16_t select_count;

    struct steps steps;
    struct field *fields; /* written, in order; then the dropped */
    size_t field_count;
    size_t written;
    struct writer *writers; /* `written` of them */
    struct buf labels;
    bool needs_id;
    bool has_steps;
    struct part *id;
    size_t id_count;
    struct part *routing;
    size_t routing_count;
};

/* ---- compiling ---------------------------------------------------------------------------------
 */

struct field *fields_find(const struct fields *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (!strcmp(f->list[i].name, name))
            return &f->list[i];
    return NULL;
}

struct field *fields_put(struct fields *f, const char *name)
{
    struct field *old = fields_find(f, name);

    if (old)
        return old;
    if (f->count == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->list = xrealloc(f->list, f->cap * sizeof *f->list);
    }
    f->list[f->count] = (struct field){.name = name};
    return &f->list[f->count++];
}

void fields_near(const struct fields *f, const char *name, char *out, size_t size)
{
    const char **names = xalloc((f->count + 1) * sizeof *names);

    size_t n = 0;
    for (size_t i = 0; i < f->count; i++)
        if (!f->list[i].dropped)
            names[n++] = f->list[i].name;
    const char *near = text_nearest(slice_str(name), names);
    *out = 0;
    if (near)
        snprintf(out, size, "; did you mean \"%s\"", near);
    free(names);
}

static bool no_column(const struct mapping *m, const struct schema *s, struct mapping_name n,
                      struct err *err)
{
    const char **names = xalloc((s->column_count + 1u) * sizeof *names);

    for (uint16_t i = 0; i < s->column_count; i++)
        names[i] = s->columns[i].name;
    const char *near = text_nearest(slice_str(n.name), names);
    free(names);
    return mapping_error(m, n.at, err,
                         near ? "%s.%s has no column \"%s\"; did you mean \"%s\""
                              : "%s.%s has no column \"%s\"",
                         s->keyspace, s->table, n.name, near);
}

static int find_exact(const struct schema *s, const char *name)
{
    for (uint16_t i = 0; i < s->column_count; i++)
        if (!strcmp(s->columns[i].name, name))
            return i;
    return -1;
}

/* Elasticsearch's own names, and names that it takes apart. */
const char *plan_refused_name(const char *name)
{
    static const char *const own[] = {
        "_id",        "_index",       "_type",        "_source",       "_routing",
        "_ignored",   "_field_names", "_seq_no",      "_version",      "_size",
        "_doc_count", "_tier",        "_nested_path", "_primary_term", NULL};

    if (!*name)
        return "an empty name";
    if (strchr(name, '.'))
        return "a dot, which makes an object of it";
    for (size_t i = 0; own[i]; i++)
        if (!strcmp(name, own[i]))
            return "Elasticsearch's own meaning";
    return NULL;
}

static bool check_field(const struct mapping *m, struct place at, const char *name, struct err *err)
{
    const char *why = m->index.name ? plan_refused_name(name) : NULL;

    if (at.line == 0)
        at = m->table.at;
    return !why || mapping_error(m, at, err, "field \"%s\" has %s; rename it%s", name, why,
                                 *m->path ? "" : " in a mapping file: cass2es init writes one");
}

static const struct mapping_pair *rename_of(const struct mapping *m, const char *column)
{
    for (size_t i = 0; i < m->rename.count; i++)
        if (!strcmp(m->rename.list[i].from.name, column))
            return &m->rename.list[i];
    return NULL;
}

static void add_from(struct buf *b, const struct plan *p, struct select from)
{
    if (from.what == SELECT_COLUMN)
        buf_add_str(b, p->schema->columns[from.column].name);
    else
        select_add_text(b, p->schema, from);
}

static bool two_of_a_name(const struct plan *p, const struct field *other, struct select from,
                          const struct mapping_pair *by, struct err *err)
{
    struct buf one, two;

    buf_init(&one, 256);
    buf_init(&two, 256);
    add_from(&one, p, other->from);
    add_from(&two, p, from);
    mapping_error(p->mapping, by && by->to.at.line ? by->to.at : p->mapping->table.at, err,
                  "columns \"%s\" and \"%s\" both become field \"%s\"", buf_cstr(&one),
                  buf_cstr(&two), other->name);
    buf_fini(&one);
    buf_fini(&two);
    return false;
}

/* `written`: what the mapping calls it, by which it may be renamed. */
static bool start_field(struct plan *p, struct fields *f, const char *written, struct select from,
                        struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct mapping_pair *r = rename_of(m, written);
    const char *name = r ? r->to.name : written;
    const struct field *other = fields_find(f, name);

    if (other)
        return two_of_a_name(
            p, other, from, r ? r : rename_of(m, p->schema->columns[other->from.column].name), err);
    if (p->schema->columns[from.column].type->kind == TYPE_EMPTY)
        return true;
    struct field *new = fields_put(f, name);
    new->source = FROM_COLUMN;
    new->from = from;
    steps_column(&p->steps, p->schema, new);
    return true;
}

/* Every pair is used by something; a dictionary may know more than this table has. */
static bool check_rename(const struct plan *p, struct err *err)
{
    const struct schema *s = p->table;
    const struct mapping *m = p->mapping;

    for (size_t i = 0; i < m->rename.count; i++) {
        const struct mapping_name from = m->rename.list[i].from;
        bool named = !from.at.line || find_exact(s, from.name) >= 0;
        for (size_t n = 0; n < m->columns.count && !named; n++)
            named = !strcmp(m->columns.list[n].name, from.name);
        if (!named)
            return no_column(m, s, from, err);
    }
    return true;
}

/* The columns named, in that order; else every column, in the schema's. */
static bool start_fields(struct plan *p, struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->schema;

    if (!check_rename(p, err))
        return false;
    for (size_t i = 0; i < m->columns.count; i++) {
        struct mapping_name n = m->columns.list[i];
        struct select from;
        struct err why = {0};
        if (!select_parse(s, slice_str(n.name), &from, &why))
            return mapping_error(m, n.at, err, "%s", why.text);
        /* A column by its real name; a function as it was written. */
        const char *name = from.what == SELECT_COLUMN ? s->columns[from.column].name : n.name;
        if (!start_field(p, f, name, from, err))
            return false;
    }
    for (uint16_t i = 0; i < s->column_count && !m->columns.count; i++)
        if (!start_field(p, f, s->columns[i].name, (struct select){i, SELECT_COLUMN}, err))
            return false;
    return true;
}

/* The column that the field is made of, or that would be a field of that name; -1: none. */
static int column_of_field(const struct plan *p, const struct fields *f, const char *name)
{
    const struct field *field = fields_find(f, name);

    if (field)
        return field->source == FROM_COLUMN && field->from.what == SELECT_COLUMN
                   ? field->from.column
                   : -1;
    for (uint16_t i = 0; i < p->schema->column_count; i++) {
        const struct mapping_pair *r = rename_of(p->mapping, p->schema->columns[i].name);
        if (!strcmp(r ? r->to.name : p->schema->columns[i].name, name))
            return i;
    }
    return -1;
}

static int key_of_field(const struct plan *p, const struct fields *f, const char *name)
{
    int column = column_of_field(p, f, name);

    return column < p->key_count ? column : -1;
}

static void add_part(struct part **list, size_t *count, const char *text, size_t len, int cell)
{
    *list = xrealloc(*list, (*count + 1) * sizeof **list);
    (*list)[(*count)++] =
        (struct part){cell < 0 ? text : NULL, len, (uint16_t)(cell < 0 ? 0 : cell)};
}

/* {x} is a field after rename. `which` finds its cell, -1: not to be had. */
static bool compile_template(struct plan *p, const struct fields *f, struct mapping_name text,
                             const char *what, const char *why_not,
                             int (*which)(const struct plan *p, const struct fields *f,
                                          const char *name),
                             struct part **list, size_t *count, struct err *err)
{
    const struct mapping *m = p->mapping;
    const char *at = text.name;
    bool any = false;

    while (*at) {
        size_t len = strcspn(at, "{}");
        if (len)
            add_part(list, count, at, len, -1);
        at += len;
        if (!*at)
            break;
        size_t end = strcspn(at + 1, "{}");
        if (*at == '}' || at[1 + end] != '}')
            return mapping_error(m, text.at, err, "the %s \"%s\" has a brace without its pair",
                                 what, text.name);
        AUTO_STR char *name = xstrndup(at + 1, end);
        int cell = which(p, f, name);
        if (cell < 0) {
            char near[128];
            if (fields_find(f, name) || column_of_field(p, f, name) >= 0)
                return mapping_error(m, text.at, err, "the %s needs field \"%s\", which is %s",
                                     what, name, why_not);
            fields_near(f, name, near, sizeof near);
            return mapping_error(m, text.at, err, "the %s needs field \"%s\", which is not there%s",
                                 what, name, near);
        }
        add_part(list, count, NULL, 0, cell);
        any = true;
        at += end + 2;
    }
    return any || mapping_error(m, text.at, err, "the %s \"%s\" is the same for every row", what,
                                text.name);
}

/* The id is known before the row is read. Without a template: see default_id(). */
static bool compile_id(struct plan *p, const struct fields *f, struct err *err)
{
    return !p->mapping->id.name ||
           compile_template(p, f, p->mapping->id, "id",
                            "no column of the primary key; the id is known before the row is read",
                            key_of_field, &p->id, &p->id_count, err);
}

/* Columns of the schema, until compile_columns(). */
static bool compile_routing(struct plan *p, const struct fields *f, struct err *err)
{
    bool by_key = p->mapping->versioning == VERSIONING_SEQUENCE;

    return !p->mapping->routing.name ||
           compile_template(p, f, p->mapping->routing, "routing",
                            by_key ? "no column of the primary key; under versioning: sequence the "
                                     "document is looked up before the row is read"
                                   : "no column of the table",
                            by_key ? key_of_field : column_of_field, &p->routing, &p->routing_count,
                            err);
}

/* Other modes do not look at what is stored. */
static bool check_preserve(struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;

    return m->versioning == VERSIONING_SEQUENCE || (!m->preserve_all && !m->preserve.count) ||
           mapping_error(m, m->preserve.count ? m->preserve.list[0].at : m->object_at, err,
                         "preserve needs versioning: sequence");
}

/* What one document has of them and the next one has not would stay as if others had written it. */
static bool check_flags(struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;

    return !m->preserve_all || !p->steps.root.has_flags ||
           mapping_error(m, m->object_at, err,
                         "preserve: all can't be where bit_flags makes fields that are not known "
                         "before; name those to preserve");
}

static bool check_key(struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->table;
    uint16_t keys = (uint16_t)(s->partition_key_count + s->clustering_count);

    for (size_t i = 0; i < m->key.count; i++)
        if (find_exact(s, m->key.list[i].name) < 0)
            return no_column(m, s, m->key.list[i], err);
    for (size_t i = 0; i < m->key.count && i < keys; i++)
        if (strcmp(s->columns[i].name, m->key.list[i].name) != 0)
            return mapping_error(m, m->key.list[i].at, err,
                                 "column %zu of the primary key of %s.%s is \"%s\", not \"%s\"",
                                 i + 1, s->keyspace, s->table, s->columns[i].name,
                                 m->key.list[i].name);
    if (m->key.count && m->key.count != keys)
        return mapping_error(m, m->key.list[0].at, err,
                             "the primary key of %s.%s has %u columns, the mapping names %zu",
                             s->keyspace, s->table, keys, m->key.count);
    return true;
}

/* The columns that a text id is: those named, else the partition key. */
static bool compile_select(struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->schema;
    uint64_t have = 0;
    bool scans = m->select.count > 0;

    p->select_count = m->select.count ? (uint16_t)m->select.count : p->partition_count;
    p->select = xalloc(p->select_count * sizeof *p->select);
    for (uint16_t i = 0; i < p->select_count; i++) {
        if (!m->select.count) {
            p->select[i] = i;
            continue;
        }
        struct mapping_name n = m->select.list[i];
        int column = find_exact(s, n.name);
        if (column < 0)
            return no_column(m, s, n, err);
        if (column >= p->key_count)
            return mapping_error(m, n.at, err, "select: \"%s\" is no column of the primary key",
                                 n.name);
        p->select[i] = (uint16_t)column;
        have |= 1ull << column % 64;
        scans = scans && column >= p->partition_count;
    }
    if (scans) /* nothing of the partition key: on purpose, see plan_query.scans */
        return true;
    for (uint16_t i = 0; m->select.count && i < p->select_count; i++)
        if (!(have >> i % 64 & 1)) /* the first columns of the key, none left out */
            return mapping_error(m, m->select.list[0].at, err,
                                 "select leaves out \"%s\", which comes first in the primary key",
                                 s->columns[i].name);
    if (p->select_count < p->partition_count)
        return mapping_error(m, m->select.list[0].at, err,
                             "select must name the whole partition key; \"%s\" is missing",
                             s->columns[p->select_count].name);
    return true;
}

static int cell_of(const struct plan *p, struct select which)
{
    for (uint16_t i = 0; i < p->column_count; i++)
        if (select_eq(p->selects[i], which))
            return i;
    return -1;
}

/* The cell that it comes in; a new one where it is not read yet. */
static uint16_t read_too(struct plan *p, struct select which)
{
    int cell = cell_of(p, which);

    if (cell >= 0)
        return (uint16_t)cell;
    p->selects[p->column_count] = which;
    p->columns[p->column_count] = which.column;
    return p->column_count++;
}

struct use {
    struct select which;
    bool found;
};

static void look_for(void *ctx, struct field *f)
{
    struct use *use = ctx;

    use->found = use->found || select_eq(f->from, use->which);
}

static void set_cell(void *ctx, struct field *f)
{
    f->cell = read_too(ctx, f->from);
}

static bool is_used(struct plan *p, const struct fields *f, uint16_t column)
{
    struct use use = {.which = {column, SELECT_COLUMN}};

    const struct select which = use.which;

    for (size_t n = 0; n < p->routing_count; n++)
        if (!p->routing[n].text && p->routing[n].cell == column)
            return true;
    for (size_t n = 0; n < f->count; n++)
        if (!f->list[n].dropped && f->list[n].source == FROM_COLUMN &&
            select_eq(f->list[n].from, which))
            return true;
    steps_each_column(&p->steps.root, look_for, &use);
    return use.found;
}

/* The time of every regular column counts, whether or not it is in the document: less rows have
 * none, then. */
static bool compile_written_at(struct plan *p, const struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->schema;
    struct select last;

    if (m->versioning != VERSIONING_WRITE_TIME)
        return true;
    for (uint16_t i = p->key_count; i < s->column_count; i++)
        if ((s->columns[i].kind == COLUMN_REGULAR || is_used(p, f, i)) &&
            select_last_write(s, i, &last))
            p->written_at[p->written_at_count++] = read_too(p, last);
    if (p->written_at_count)
        return true;
    return mapping_error(m, m->versioning_at, err,
                         "versioning write_time: %s.%s has no column with a time of writing%s; "
                         "read_time takes any table",
                         s->keyspace, s->table, s->counter ? " (counters have none)" : "");
}

/* What to read: the primary key, then the columns and functions that a field needs, then times. */
static bool compile_columns(struct plan *p, struct fields *f, struct err *err)
{
    const struct schema *s = p->schema;
    size_t most = 2 * (size_t)s->column_count + f->count;

    for (size_t i = 0; i < p->steps.root.op_count; i++) /* functions of columns, too */
        most += p->steps.root.ops[i].ref_count;
    most += p->steps.root.where_count;

    if (most > UINT16_MAX)
        return mapping_error(p->mapping, p->mapping->table.at, err, "too many columns");
    p->columns = xalloc(most * sizeof *p->columns);
    p->selects = xalloc(most * sizeof *p->selects);
    p->written_at = xalloc(s->column_count * sizeof *p->written_at);
    for (uint16_t i = 0; i < s->column_count; i++)
        if (i < p->key_count || is_used(p, f, i))
            read_too(p, (struct select){i, SELECT_COLUMN});
    for (size_t n = 0; n < f->count; n++)
        if (!f->list[n].dropped && f->list[n].source == FROM_COLUMN)
            f->list[n].cell = read_too(p, f->list[n].from);
    steps_each_column(&p->steps.root, set_cell, p);
    if (!compile_written_at(p, f, err))
        return false;
    for (size_t n = 0; n < p->routing_count; n++)
        if (!p->routing[n].text)
            p->routing[n].cell = read_too(p, (struct select){p->routing[n].cell, SELECT_COLUMN});
    for (size_t n = 0; n < p->mapping->read_too.count; n++) {
        uint16_t i = 0;
        while (strcmp(s->columns[i].name, p->mapping->read_too.list[n].name))
            ensure(++i < s->column_count && "mapping_read_too() is told columns of the table");
        read_too(p, (struct select){i, SELECT_COLUMN});
    }
    return true;
}

static char *statement(const struct plan *p, uint16_t columns, uint16_t bound)
{
    const struct schema *s = p->schema;
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_add_str(&b, s->partitions ? "SELECT DISTINCT " : "SELECT ");
    for (uint16_t i = 0; i < columns; i++) {
        if (i)
            buf_add_str(&b, ", ");
        select_add_text(&b, s, p->selects[i]);
    }
    buf_add_str(&b, " FROM ");
    schema_add_name(&b, s);
    for (uint16_t i = 0; i < bound; i++) {
        buf_add_str(&b, i ? " AND " : " WHERE ");
        schema_add_quoted(&b, s->columns[i].name);
        buf_add_str(&b, " = ?");
    }
    char *text = xstrndup((const char *)b.p, b.len);
    buf_fini(&b);
    return text;
}

static bool omits_null(const struct mapping *m, const char *name)
{
    for (size_t i = 0; i < m->null_rule_count; i++)
        if (!strcmp(m->null_rules[i].field.name, name))
            return m->null_rules[i].omit;
    return m->omit_nulls;
}

static enum how how_to_write(const struct plan *p, const struct field *f, const struct type *t)
{
    static const enum how others[] = {
        [FROM_ID] = HOW_ID, [FROM_JSON] = HOW_JSON, [FROM_SLOT] = HOW_SLOT};
    bool collection = t && (t->kind == TYPE_MAP || t->kind == TYPE_LIST || t->kind == TYPE_SET);

    if (f->source != FROM_COLUMN)
        return others[f->source];
    if (f->time)
        return HOW_TIME;
    if (collection && p->mapping->empty_said)
        return HOW_COLLECTION;
    return omits_null(p->mapping, f->name) ? HOW_CELL : HOW_CELL_OR_NULL;
}

static void make_writer(struct plan *p, const struct field *f)
{
    struct writer *w = &p->writers[p->written++];
    const struct type *t = f->source == FROM_COLUMN ? select_type(p->schema, f->from) : NULL;
    size_t label_at = p->labels.len;

    buf_add_byte(&p->labels, ',');
    json_add_string(&p->labels, slice_str(f->name));
    buf_add_byte(&p->labels, ':');
    *w = (struct writer){
        .type = t,
        .writer = t ? json_writer_of(t) : (struct json_writer){NULL},
        .json = f->json,
        .label_at = (uint32_t)label_at,
        .label_n = (uint32_t)(p->labels.len - label_at),
        .how = (uint8_t)how_to_write(p, f, t),
        .empty_is_null = t && value_is_null(t, slice_of("", 0)),
        .omit_null = omits_null(p->mapping, f->name),
    };
    if (f->source == FROM_COLUMN)
        w->cell = (uint16_t)cell_of(p, f->from);
    p->needs_id |= f->source == FROM_ID;
    p->has_steps |= w->how >= HOW_TIME;
}

/* A rule may be about a field that a step brings, or that is gone by now. */
static bool check_null_rules(const struct plan *p, const struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;
    char near[128];

    for (size_t i = 0; i < m->null_rule_count; i++) {
        const struct mapping_name n = m->null_rules[i].field;
        if (fields_find(f, n.name))
            continue;
        fields_near(f, n.name, near, sizeof near);
        return mapping_error(m, n.at, err, "nulls: there is no field \"%s\"%s", n.name, near);
    }
    return true;
}

static struct place place_of_field(const struct mapping *m, const char *name)
{
    struct place at = m->table.at;

    for (size_t i = 0; i < m->step_count; i++)
        if (!strcmp(m->steps[i].field.name, name))
            at = m->steps[i].field.at;
    for (size_t i = 0; i < m->rename.count; i++)
        if (!strcmp(m->rename.list[i].to.name, name))
            at = m->rename.list[i].to.at;
    return at;
}

/* Written fields first, then the dropped. */
static bool finish_fields(struct plan *p, struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;

    p->fields = xalloc((f->count + 1) * sizeof *p->fields);
    p->writers = xalloc((f->count + 1) * sizeof *p->writers);
    buf_init(&p->labels, LABELS_MAX_BYTES);
    for (int dropped = 0; dropped < 2; dropped++)
        for (size_t i = 0; i < f->count; i++)
            if (f->list[i].dropped == (dropped == 1))
                p->fields[p->field_count++] = f->list[i];
    for (size_t i = 0; i < p->field_count && !p->fields[i].dropped; i++) {
        const struct field *field = &p->fields[i];
        if (!check_field(m, place_of_field(m, field->name), field->name, err))
            return false;
        make_writer(p, field);
    }
    uint8_t *end = buf_room(&p->labels, LABEL_STEP);
    ensure(end && "a mapping is far smaller");
    memset(end, 0, LABEL_STEP);
    return p->written > 0 || mapping_error(m, m->table.at, err, "the document has no field");
}

static bool compile_steps(struct plan *p, struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct mapping_steps list = {m->steps, m->step_count};
    const struct mapping_conditions none = {0};
    struct program *root = &p->steps.root;

    if (!steps_times(&p->steps, root, err) ||
        !steps_start(&p->steps, root, m->rows ? &none : &m->where, err) ||
        (m->rows && !steps_rows(&p->steps, root, p->table, err)) ||
        !steps_compile(&p->steps, root, &list, err))
        return false;
    steps_finish(root);
    ensure(f == &root->fields);
    return true;
}

static bool compile(struct plan *p, struct fields *f, struct err *err)
{
    if (!check_key(p, err) || !check_preserve(p, err) || !start_fields(p, f, err) ||
        !compile_id(p, f, err) || !compile_routing(p, f, err) || !compile_select(p, err))
        return false;
    if (!compile_steps(p, f, err) || !check_flags(p, err) || !check_null_rules(p, f, err) ||
        !compile_columns(p, f, err))
        return false;
    p->read_text = statement(p, p->column_count, p->key_count);
    p->keys_text = xalloc((p->key_count + 1u) * sizeof *p->keys_text);
    for (uint16_t n = p->partition_count; n <= p->key_count; n++)
        p->keys_text[n] = statement(p, p->key_count, n);
    p->has_steps = p->steps.root.op_count > 0;
    return finish_fields(p, f, err);
}

struct plan *plan_compile(const struct mapping *m, const struct schema *s, struct err *err)
{
    return plan_compile_with(m, s, NULL, err);
}

/* A partition has no time of writing, and is read by its key and static columns alone. */
static bool check_rows(const struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;

    if (!m->rows)
        return true;
    if (m->versioning == VERSIONING_WRITE_TIME)
        return mapping_error(m, m->versioning_at, err,
                             "rows needs another versioning than write_time: a partition has no "
                             "time of writing");
    for (size_t i = 0; i < m->columns.count; i++)
        if (strchr(m->columns.list[i].name, '('))
            return mapping_error(m, m->columns.list[i].at, err,
                                 "rows: functions of columns can't be read of partitions");
    return !m->read_too.count ||
           mapping_error(m, m->rows_field.at, err,
                         "rows: conditions on rows belong in the mapping's where");
}

struct plan *plan_compile_with(const struct mapping *m, const struct schema *s,
                               const struct plan_tables *tables, struct err *err)
{
    struct plan *p = xalloc(sizeof *p);

    p->mapping = m;
    p->table = p->schema = s;
    if (m->rows)
        p->schema = p->partitions = schema_partitions(s);
    p->partition_count = s->partition_key_count;
    p->key_count = (uint16_t)(s->partition_key_count + p->schema->clustering_count);
    steps_init(&p->steps, m, tables);
    p->steps.root.schema = p->schema;
    if (check_rows(p, err) && compile(p, &p->steps.root.fields, err))
        return p;
    plan_free(p);
    return NULL;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (uint16_t n = 0; p->keys_text && n <= p->key_count; n++)
        free(p->keys_text[n]);
    free(p->keys_text);
    if (p->partitions)
        schema_free(p->partitions);
    steps_fini(&p->steps);
    free(p->fields);
    free(p->writers);
    buf_fini(&p->labels);
    free(p->columns);
    free(p->selects);
    free(p->written_at);
    free(p->read_text);
    free(p->select);
    free(p->id);
    free(p->routing);
    free(p);
}

const char *plan_object(const struct plan *p)
{
    return p->mapping->object;
}

const char *plan_index(const struct plan *p)
{
    return p->mapping->index.name;
}

const struct schema *plan_schema(const struct plan *p)
{
    return p->schema;
}

enum mapping_versioning plan_versioning(const struct plan *p)
{
    return p->mapping->versioning;
}

const char *plan_type(const struct plan *p)
{
    return p->mapping->type.name;
}

const char *plan_pipeline(const struct plan *p)
{
    return p->mapping->pipeline.name;
}

const struct select *plan_selects(const struct plan *p)
{
    return p->selects;
}

const uint16_t *plan_columns(const struct plan *p)
{
    return p->columns;
}

uint16_t plan_key_count(const struct plan *p)
{
    return p->key_count;
}

uint16_t plan_partition_count(const struct plan *p)
{
    return p->partition_count;
}

uint16_t plan_column_count(const struct plan *p)
{
    return p->column_count;
}

const char *plan_read_text(const struct plan *p)
{
    return p->read_text;
}

char *plan_rows_text(const struct plan *p, uint16_t bound)
{
    ensure(bound >= p->partition_count && bound <= p->key_count);
    return statement(p, p->column_count, bound);
}

static bool same_table(const struct schema *a, const struct schema *b)
{
    return !strcmp(a->keyspace, b->keyspace) && !strcmp(a->table, b->table);
}

static bool selects_name(const struct schema *s, const struct select *list, uint16_t count,
                         const char *name, bool functions)
{
    for (uint16_t i = 0; i < count; i++)
        if ((functions || list[i].what == SELECT_COLUMN) &&
            !strcmp(s->columns[list[i].column].name, name))
            return true;
    return false;
}

bool plan_reads_column(const struct plan *p, const struct schema *s, uint16_t column)
{
    const char *name = s->columns[column].name;

    if (same_table(s, p->schema) &&
        selects_name(p->schema, p->selects, p->column_count, name, !p->written_at_count))
        return true;
    for (uint16_t i = 0; i < p->steps.read_count; i++) {
        const struct plan_read *r = &p->steps.reads[i];
        if (same_table(s, r->schema) &&
            (column < r->key_count ||
             selects_name(r->schema, r->selects, r->select_count, name, true)))
            return true;
    }
    return false;
}

bool plan_fits(const struct plan *p, const struct columns *c)
{
    if (c->count != p->column_count && c->count != p->key_count)
        return false;
    for (uint16_t i = 0; i < c->count; i++) {
        struct select want = p->selects[i];
        if (!type_equal(c->list[i].type, select_type(p->schema, want)) ||
            (want.what == SELECT_COLUMN &&
             !slice_is(c->list[i].name, p->schema->columns[want.column].name)))
            return false;
    }
    return true;
}

uint16_t plan_select_count(const struct plan *p)
{
    return p->select_count;
}

uint16_t plan_select_column(const struct plan *p, uint16_t i)
{
    ensure(i < p->select_count);
    return p->select[i];
}

const char *plan_keys_text(const struct plan *p, uint16_t bound)
{
    ensure(bound >= p->partition_count && bound <= p->key_count);
    return p->keys_text[bound];
}

/* ---- ids ---------------------------------------------------------------------------------------
 */

/* Values of one column. */
struct values {
    struct slice *list;
    uint32_t count;
};

static bool reject(const char **reason, const char *word, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static bool reject(const char **reason, const char *word, struct err *err, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    *reason = word;
    return err_set(err, ERR_REJECT, "%s", text);
}

static bool out_of_memory(const char **reason, struct err *err)
{
    return reject(reason, "bad_id", err, "the id is too large");
}

static bool take_cell(const struct schema_column *c, struct slice text, struct arena *mem,
                      struct slice *out, const char **reason, struct err *err)
{
    struct buf b;
    bool key = c->kind == COLUMN_PARTITION_KEY || c->kind == COLUMN_CLUSTERING;

    if (key && text.n == 0)
        return reject(reason, "empty_id", err, "empty value for %s", c->name);
    buf_init(&b, 1 << 20);
    bool ok = value_from_text(c->type, text, &b, err);
    if (ok) {
        void *copy = arena_strndup(mem, b.p ? b.p : (const uint8_t *)"", b.len);
        *out = slice_of(copy, b.len);
        ok = copy && !b.full;
        if (!ok)
            out_of_memory(reason, err);
    } else {
        *reason = "bad_value";
        err_wrap(err, "column %s", c->name);
    }
    buf_fini(&b);
    return ok;
}

static bool scalar_text(const struct json *v, struct slice *out)
{
    if (v->kind == JSON_STRING || v->kind == JSON_NUMBER)
        *out = v->text;
    else if (v->kind == JSON_BOOL)
        *out = slice_str(v->truth ? "true" : "false");
    else
        return false;
    return true;
}

/* One value, or a list of them: any. */
static bool take_values(const struct schema_column *c, const struct json *v, struct arena *mem,
                        struct values *out, const char **reason, struct err *err)
{
    bool list = v->kind == JSON_ARRAY;
    uint32_t count = list ? v->count : 1;
    const struct json *element = list ? v->first : v;
    struct slice text;

    if (count == 0)
        return reject(reason, "empty_id", err, "an empty list for %s", c->name);
    if (count > KEYS_MAX)
        return reject(reason, "too_many_keys", err, "more than %d values for %s", KEYS_MAX,
                      c->name);
    out->list = arena_alloc(mem, count * sizeof *out->list);
    if (!out->list)
        return out_of_memory(reason, err);
    for (; element; element = list ? element->next : NULL) {
        if (!scalar_text(element, &text))
            return reject(reason, "bad_value", err, "a value of %s is null, a list or an object",
                          c->name);
        if (!take_cell(c, text, mem, &out->list[out->count], reason, err))
            return false;
        out->count++;
    }
    return true;
}

/* All combinations of the values of the first `bound` key columns. */
static bool combine(const struct values *of, uint16_t bound, struct arena *mem,
                    struct plan_query *out, const char **reason, struct err *err)
{
    uint64_t count = 1;

    for (uint16_t i = 0; i < bound; i++) {
        count *= of[i].count;
        if (count > KEYS_MAX)
            return reject(reason, "too_many_keys", err, "asks for more than %d keys", KEYS_MAX);
    }
    out->bound = bound;
    out->count = (uint32_t)count;
    out->cells = arena_alloc(mem, count * bound * sizeof *out->cells);
    if (!out->cells)
        return out_of_memory(reason, err);
    for (uint32_t n = 0; n < count; n++) {
        uint32_t rest = n;
        for (int i = bound - 1; i >= 0; i--) {
            out->cells[(size_t)n * bound + (size_t)i] = of[i].list[rest % of[i].count];
            rest /= of[i].count;
        }
    }
    return true;
}

static int cell_of_column(const struct plan *p, int column)
{
    return cell_of(p, (struct select){(uint16_t)column, SELECT_COLUMN});
}

/* What has a value binds the first columns of the key; the rest are conditions. Without the
 * partition key all are. */
static bool bind(const struct plan *p, const struct values *of, uint16_t count, struct arena *mem,
                 struct plan_query *out, const char **reason, struct err *err)
{
    uint16_t bound = 0;

    while (bound < p->key_count && of[bound].count)
        bound++;
    out->after_count = 0;
    out->scans = bound < p->partition_count;
    out->lacks = bound;
    if (out->scans)
        bound = 0;
    out->after = arena_alloc(mem, count * sizeof *out->after);
    if (!out->after)
        return out_of_memory(reason, err);
    for (uint16_t i = bound; i < count; i++)
        if (of[i].count)
            out->after[out->after_count++] =
                (struct plan_filter){(uint16_t)cell_of_column(p, i), of[i].count, of[i].list};
    if (out->scans && !out->after_count)
        return reject(reason, "no_partition_key", err, "has no value for %s of the partition key",
                      p->schema->columns[out->lacks].name);
    return out->scans || combine(of, bound, mem, out, reason, err);
}

/* A text: values of the select's columns, with commas between them when there are several. */
static bool text_query(const struct plan *p, struct slice text, struct arena *mem,
                       struct plan_query *out, const char **reason, struct err *err)
{
    struct values *of = arena_zalloc(mem, p->key_count * sizeof *of);

    if (!of)
        return out_of_memory(reason, err);
    for (uint16_t i = 0; i < p->select_count; i++) {
        const uint8_t *comma = i + 1 < p->select_count ? memchr(text.p, ',', text.n) : NULL;
        struct slice part = comma ? slice_of(text.p, (size_t)(comma - text.p)) : text;
        struct values *v = &of[p->select[i]];
        if (i + 1 < p->select_count && !comma)
            return reject(reason, "bad_id", err, "%u values with commas between them are wanted",
                          p->select_count);
        v->list = arena_alloc(mem, sizeof *v->list);
        if (!v->list)
            return out_of_memory(reason, err);
        if (!take_cell(&p->schema->columns[p->select[i]], part, mem, v->list, reason, err))
            return false;
        v->count = 1;
        if (comma)
            text = slice_of(comma + 1, text.n - part.n - 1);
    }
    return bind(p, of, p->key_count, mem, out, reason, err);
}

static bool object_query(const struct plan *p, const struct json *id, struct arena *mem,
                         struct plan_query *out, const char **reason, struct err *err)
{
    const struct schema *s = p->schema;
    struct values *of = arena_zalloc(mem, s->column_count * sizeof *of);

    if (!of)
        return out_of_memory(reason, err);
    json_each (member, id) {
        int column = schema_find(s, member->key);
        if (column < 0 || cell_of_column(p, column) < 0)
            return reject(reason, "unknown_column", err, "%s.%s has no column \"%.*s\"%s",
                          s->keyspace, s->table, (int)(member->key.n > 60 ? 60 : member->key.n),
                          (const char *)member->key.p, column < 0 ? "" : " in its documents");
        if (of[column].count)
            return reject(reason, "bad_id", err, "column %s is there twice",
                          s->columns[column].name);
        if (!take_values(&s->columns[column], member, mem, &of[column], reason, err))
            return false;
    }
    return bind(p, of, s->column_count, mem, out, reason, err);
}

bool plan_query(const struct plan *p, const struct json *id, struct arena *mem,
                struct plan_query *out, const char **reason, struct err *err)
{
    *out = (struct plan_query){0};
    if (id->kind == JSON_STRING)
        return text_query(p, id->text, mem, out, reason, err);
    if (id->kind == JSON_OBJECT)
        return object_query(p, id, mem, out, reason, err);
    return reject(reason, "bad_id", err, "an id is a string, or an object of columns");
}

bool plan_filter_holds(const struct plan_filter *f, const struct slice *cells)
{
    struct slice cell = cells[f->cell];

    for (uint32_t i = 0; cell.p && i < f->value_count; i++)
        if (slice_eq(cell, f->values[i]))
            return true;
    return false;
}

/* ---- documents ---------------------------------------------------------------------------------
 */

/* How many key columns make the id: a partition with static columns only has no clustering key. */
static uint16_t id_columns(const struct plan *p, const struct slice *key)
{
    for (uint16_t i = p->partition_count; i < p->key_count; i++)
        if (!key[i].p)
            return p->partition_count;
    return p->key_count;
}

static bool add_key_text(const struct plan *p, uint16_t i, struct slice cell, struct buf *out,
                         struct err *err)
{
    return json_cell_text(out, p->schema->columns[i].type, cell, err) ||
           err_wrap(err, "column %s", p->schema->columns[i].name);
}

/* Escapes what add_key_text() just wrote behind `begin`, in place from its end. */
static void escape_from(struct buf *out, size_t begin)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t more = 0;

    for (size_t i = begin; i < out->len; i++)
        more += out->p[i] == '%' || out->p[i] == ':' ? 2 : 0;
    if (!more || !buf_room(out, more))
        return;
    size_t to = out->len + more;
    for (size_t from = out->len; from-- > begin;) {
        uint8_t c = out->p[from];
        if (c != '%' && c != ':') {
            out->p[--to] = c;
            continue;
        }
        out->p[--to] = (uint8_t)hex[c & 15];
        out->p[--to] = (uint8_t)hex[c >> 4];
        out->p[--to] = '%';
    }
    out->len += more;
}

/* One key column: its text; several: joined by colons; too long: its hash. */
static bool default_id(const struct plan *p, const struct slice *key, struct buf *out,
                       struct err *err)
{
    size_t begin = out->len;
    uint16_t count = id_columns(p, key);

    for (uint16_t i = 0; i < count; i++) {
        if (i)
            buf_add_byte(out, ':');
        size_t part = out->len;
        if (!add_key_text(p, i, key[i], out, err))
            return false;
        if (p->key_count > 1)
            escape_from(out, part);
    }
    if (out->len - begin > ID_MAX_BYTES) {
        char hex[SHA256_HEX_BYTES];
        hash_sha256_hex(slice_of(out->p + begin, out->len - begin), hex);
        buf_cut(out, begin);
        buf_add_str(out, "h:");
        buf_add_str(out, hex);
    }
    return true;
}

static bool template_text(const struct plan *p, const struct part *parts, size_t count,
                          const struct slice *cells, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct part *part = &parts[i];
        const struct schema_column *c = &p->schema->columns[p->columns[part->cell]];
        if (part->text)
            buf_add(out, part->text, part->text_len);
        else if (!json_cell_text(out, c->type, cells[part->cell], err))
            return err_wrap(err, "column %s", c->name);
    }
    return true;
}

bool plan_id(const struct plan *p, const struct slice *key, struct buf *out, struct err *err)
{
    size_t begin = out->len;
    bool whole = id_columns(p, key) == p->key_count;
    bool ok = p->id_count && whole ? template_text(p, p->id, p->id_count, key, out, err)
                                   : default_id(p, key, out, err);

    if (ok && out->full)
        ok = err_set(err, ERR_REJECT, "the _id is too large");
    else if (ok && out->len == begin)
        ok = err_set(err, ERR_REJECT, "the _id is empty");
    else if (ok && out->len - begin > ID_MAX_BYTES)
        ok = err_set(err, ERR_REJECT, "the _id has %zu bytes; Elasticsearch takes %d",
                     out->len - begin, ID_MAX_BYTES);
    if (!ok)
        buf_cut(out, begin);
    return ok;
}

bool plan_id_unique(const struct plan *p)
{
    for (uint16_t key = 0; p->id_count && key < p->key_count; key++) {
        bool found = false;
        for (size_t i = 0; i < p->id_count; i++)
            found = found || (!p->id[i].text && p->id[i].cell == key);
        if (!found)
            return false;
    }
    return true;
}

bool plan_has_routing(const struct plan *p)
{
    return p->routing_count > 0;
}

bool plan_routing_by_key(const struct plan *p)
{
    for (size_t i = 0; i < p->routing_count; i++)
        if (!p->routing[i].text && p->routing[i].cell >= p->key_count)
            return false;
    return true;
}

bool plan_routing(const struct plan *p, const struct slice *cells, struct buf *out, struct err *err)
{
    size_t begin = out->len;
    bool ok = template_text(p, p->routing, p->routing_count, cells, out, err);

    if (ok && (out->full || out->len == begin))
        ok = err_set(err, ERR_REJECT,
                     out->full ? "the routing is too large" : "the routing is empty");
    if (!ok)
        buf_cut(out, begin);
    return ok;
}

bool plan_needs_id(const struct plan *p)
{
    return p->needs_id;
}

bool plan_write_version(const struct plan *p, const struct slice *cells, int64_t *out,
                        struct err *err)
{
    int64_t latest = 0, at;
    bool any = false;

    ensure(p->mapping->versioning == VERSIONING_WRITE_TIME);
    for (uint16_t i = 0; i < p->written_at_count; i++) {
        if (!value_int(cells[p->written_at[i]], &at))
            continue;
        any = true;
        latest = at > latest ? at : latest;
    }
    if (!any)
        return err_set(err, ERR_REJECT, "no cell of the row has a time of writing");
    *out = latest;
    return true;
}

/* For an empty collection, by the mapping's word; NULL: it is not empty. */
static const char *empty_collection(const struct plan *p, const struct type *t, struct slice cell)
{
    if (!value_is_null(t, cell) && (cell.n < 4 || load_u32(cell.p) != 0))
        return NULL;
    return p->mapping->omit_empty_collections ? "" : t->kind == TYPE_MAP ? "{}" : "[]";
}

static void add_label(const struct plan *p, const struct writer *w, struct buf *out)
{
    const uint8_t *from = p->labels.p + w->label_at;
    uint8_t *to = buf_room(out, w->label_n + LABEL_STEP);

    if (!to)
        return;
    for (size_t i = 0; i < w->label_n; i += LABEL_STEP)
        memcpy(to + i, from + i, LABEL_STEP);
    out->len += w->label_n;
}

/* The text of a field that is not made of a cell's bytes; NULL: it is, "": no field. */
static inline const char *fixed_text(const struct plan *p, const struct writer *w,
                                     const struct slice *cells)
{
    if (w->how == HOW_JSON)
        return w->json;
    if (w->how == HOW_ID || w->how == HOW_SLOT)
        return NULL;
    if (w->how == HOW_COLLECTION)
        return empty_collection(p, w->type, cells[w->cell]);
    if (cells[w->cell].p && (cells[w->cell].n || !w->empty_is_null))
        return NULL;
    return w->how == HOW_CELL || (w->how == HOW_TIME && w->omit_null) ? "" : "null";
}

/* What is not made of one cell's bytes or of a text of the mapping. False: err, reason. */
static bool add_made(const struct plan *p, const struct writer *w, const struct slice *cells,
                     struct making_row *row, struct buf *out)
{
    bool omit_empty = p->mapping->omit_empty_collections;
    int64_t ms;

    ensure(row && row->m);
    if (w->how == HOW_TIME) {
        add_label(p, w, out);
        if (!value_int(cells[w->cell], &ms))
            return false;
        row->m->counts->year_out_of_range += !timeform_add(p->fields[w - p->writers].time, ms, out);
        return true;
    }
    ensure(row->slots);
    struct slice json = row->slots[p->fields[w - p->writers].slot];
    if (!json.p || (w->omit_null && json_is_null(json)) || (omit_empty && json_is_empty(json)))
        return true;
    add_label(p, w, out);
    buf_add_slice(out, json);
    return true;
}

static bool bad_cell(const struct plan *p, const struct writer *w, struct slice cell,
                     struct buf *out, struct err *err)
{
    struct json_counts ignored = {0};

    ensure(!json_cell(out, w->type, cell, &ignored, err) && "it was refused just now");
    return err_wrap(err, "column %s", p->schema->columns[p->columns[w->cell]].name);
}

/* row: NULL for a plan without steps. */
static bool write_fields(const struct plan *p, const struct slice *cells, struct slice id,
                         struct making_row *row, struct buf *out, struct json_counts *counts,
                         struct err *err)
{
    bool has_extras = row && row->extras;

    for (size_t i = 0; i < p->written; i++) {
        const struct writer *w = &p->writers[i];
        if (w->how == HOW_CELL && !has_extras) { /* nearly all are */
            struct slice cell = cells[w->cell];
            if (!cell.p || (!cell.n && w->empty_is_null))
                continue;
            add_label(p, w, out);
            if (!out->full && !w->writer.write(out, w->type, cell, counts))
                return bad_cell(p, w, cell, out, err);
            continue;
        }
        bool flagged = has_extras && make_overridden(row, &p->fields[i]);
        const char *text = flagged ? "true" : fixed_text(p, w, cells);

        if (text && !*text)
            continue;
        if (!text && w->how >= HOW_TIME) {
            if (!add_made(p, w, cells, row, out))
                return err_set(err, ERR_REJECT, "column %s: bytes that are no timestamp",
                               p->schema->columns[p->columns[w->cell]].name);
            continue;
        }
        add_label(p, w, out);
        if (text)
            buf_add_str(out, text);
        else if (w->how == HOW_ID)
            json_add_string(out, id);
        else if (!out->full && !w->writer.write(out, w->type, cells[w->cell], counts))
            return bad_cell(p, w, cells[w->cell], out, err);
    }
    if (row && row->extras)
        make_add_extras(row, &p->steps.root.fields, out);
    return true;
}

static bool write_document(const struct plan *p, const struct slice *cells, struct slice id,
                           struct making_row *row, struct buf *out, struct json_counts *counts,
                           struct err *err)
{
    size_t begin = out->len;

    if (!write_fields(p, cells, id, row, out, counts, err)) {
        buf_cut(out, begin);
        return false;
    }
    if (out->len == begin)
        buf_add_byte(out, '{');
    else
        out->p[begin] = '{'; /* where the first label has its comma */
    buf_add_byte(out, '}');
    if (!out->full)
        return true;
    buf_cut(out, begin);
    out->full = true;
    return err_set(err, ERR_REJECT, "the document is too large");
}

/* ---- documents of more than their row ----------------------------------------------------------
 */

void plan_work_init(struct plan_work *w, size_t max_bytes)
{
    *w = (struct plan_work){.reason = ""};
    arena_init(&w->mem, max_bytes);
    buf_init(&w->text, max_bytes);
}

void plan_work_fini(struct plan_work *w)
{
    arena_fini(&w->mem);
    buf_fini(&w->text);
}

static bool begin_row(const struct plan *p, struct making *m, const struct slice *cells,
                      struct making_row *row)
{
    m->plan = p;
    m->steps = &p->steps;
    m->work->reason = "bad_value";
    arena_reset(&m->work->mem);
    buf_reset(&m->work->text);
    return make_begin(row, m, &p->steps.root, cells);
}

uint16_t plan_read_count(const struct plan *p)
{
    return p->steps.read_count;
}

const struct plan_read *plan_read_at(const struct plan *p, uint16_t read)
{
    return &p->steps.reads[read];
}

bool plan_read_fits(const struct plan *p, uint16_t read, const struct columns *c)
{
    const struct plan_read *r = &p->steps.reads[read];

    if (c->count != r->select_count)
        return false;
    for (uint16_t i = 0; i < c->count; i++)
        if (!type_equal(c->list[i].type, select_type(r->schema, r->selects[i])))
            return false;
    return true;
}

uint16_t plan_levels(const struct plan *p)
{
    return p->steps.levels;
}

bool plan_has_where(const struct plan *p)
{
    return p->steps.root.where_count > 0;
}

static bool holds(const struct plan *p, const struct slice *cells, struct plan_work *w)
{
    struct json_counts ignored = {0};
    struct err err = {0};
    struct making m = {.work = w, .counts = &ignored, .err = &err};
    struct making_row row;
    bool yes;

    /* What can't be told is a document that fails. */
    return !begin_row(p, &m, cells, &row) || !make_holds(&row, &yes) || yes;
}

bool plan_holds(const struct plan *p, const struct slice *cells, struct plan_work *w)
{
    return !plan_has_where(p) || holds(p, cells, w);
}

bool plan_need(const struct plan *p, uint16_t level, const struct slice *cells, struct slice id,
               struct fetched *fetched, struct plan_work *w)
{
    struct json_counts ignored = {0};
    struct err err = {0};
    struct making m = {
        .fetched = fetched, .work = w, .id = id, .counts = &ignored, .level = level, .err = &err};
    struct making_row row;

    return !begin_row(p, &m, cells, &row) || make_need(&row);
}

bool plan_make(const struct plan *p, const struct slice *cells, struct slice id,
               struct fetched *fetched, struct plan_work *w, struct buf *out,
               struct json_counts *counts, struct err *err)
{
    struct making m = {
        .fetched = fetched, .work = w, .id = id, .counts = counts, .level = -1, .err = err};
    struct making_row row;

    w->reason = "bad_value";
    if (p->has_steps && (!begin_row(p, &m, cells, &row) || !make_run(&row)))
        return false;
    if (write_document(p, cells, id, p->has_steps ? &row : NULL, out, counts, err))
        return true;
    w->reason = out->full ? "document_too_large" : "bad_value";
    return false;
}

bool mapping_names_has(const struct mapping_names *names, struct slice name)
{
    for (size_t i = 0; i < names->count; i++)
        if (slice_is(name, names->list[i].name))
            return true;
    return false;
}

bool plan_preserves(const struct plan *p, struct slice field)
{
    for (size_t i = 0; i < p->field_count; i++)
        if (slice_is(field, p->fields[i].name) && (i < p->written || p->mapping->preserve_all))
            return false;
    return p->mapping->preserve_all || mapping_names_has(&p->mapping->preserve, field);
}

bool plan_has_preserve(const struct plan *p)
{
    return p->mapping->preserve_all || p->mapping->preserve.count > 0;
}
