#include "mapping/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "mapping/json.h"
#include "model/value.h"

enum {
    ID_MAX_BYTES = 512, /* Elasticsearch's, of UTF-8 */
    KEYS_MAX = 10000,   /* that one element may ask for */
};

enum source { FROM_COLUMN, FROM_JSON, FROM_ID };

/* One field of the document. */
struct field {
    const char *name; /* borrowed from mapping or schema */
    enum source source;
    uint16_t cell;           /* FROM_COLUMN: index into the cells */
    const struct type *type; /* FROM_COLUMN */
    const char *json;        /* FROM_JSON */
    struct slice label;      /* "name": written in front */
    bool dropped;            /* a name only: never written, never preserved by `all` */
};

/* A piece of a template. */
struct part {
    const char *text; /* NULL: a column */
    size_t text_len;
    uint16_t cell; /* index into the cells; of the id: into the key's */
};

struct plan {
    const struct mapping *mapping;
    const struct schema *schema;
    uint16_t key_count, partition_count;

    uint16_t *columns; /* indexes into the schema, in the order of the cells */
    uint16_t column_count;
    char *read_text;
    char **keys_text; /* by number of bound columns */

    uint16_t *select; /* for each key column that a text id gives: index of the key column */
    uint16_t select_count;

    struct field *fields; /* written, in order; then the dropped */
    size_t field_count;
    size_t written;
    struct part *id;
    size_t id_count;
    struct part *routing;
    size_t routing_count;
};

/* ---- compiling ---------------------------------------------------------------------------------
 */

/* Fields while steps are applied. */
struct fields {
    struct field *list;
    size_t count, cap;
};

static struct field *field_find(const struct fields *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (!strcmp(f->list[i].name, name))
            return &f->list[i];
    return NULL;
}

static struct field *field_put(struct fields *f, const char *name)
{
    struct field *old = field_find(f, name);

    if (old)
        return old;
    if (f->count == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->list = xrealloc(f->list, f->cap * sizeof *f->list);
    }
    f->list[f->count] = (struct field){.name = name};
    return &f->list[f->count++];
}

/* "; did you mean ..." for a field that is not there, or "". */
static void near_field(const struct fields *f, const char *name, char *out, size_t size)
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
static const char *refused_name(const char *name)
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
    const char *why = refused_name(name);

    if (at.line == 0)
        at = m->table.at;
    return !why || mapping_error(m, at, err, "field \"%s\" has %s; rename it", name, why);
}

static const struct mapping_pair *rename_of(const struct mapping *m, const char *column)
{
    for (size_t i = 0; i < m->rename.count; i++)
        if (!strcmp(m->rename.list[i].from.name, column))
            return &m->rename.list[i];
    return NULL;
}

/* Every column under its name, in the schema's order. */
static bool start_fields(struct plan *p, struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->schema;

    for (size_t i = 0; i < m->rename.count; i++) {
        const struct mapping_pair *r = &m->rename.list[i];
        if (r->from.at.line && find_exact(s, r->from.name) < 0)
            return no_column(m, s, r->from, err);
    }
    for (uint16_t i = 0; i < s->column_count; i++) {
        const struct schema_column *c = &s->columns[i];
        const struct mapping_pair *r = rename_of(m, c->name);
        const char *name = r ? r->to.name : c->name;
        const struct field *other = field_find(f, name);
        const struct mapping_pair *by =
            r || !other ? r : rename_of(m, s->columns[other->cell].name);
        if (other)
            return mapping_error(m, by && by->to.at.line ? by->to.at : m->table.at, err,
                                 "columns \"%s\" and \"%s\" both become field \"%s\"",
                                 s->columns[other->cell].name, c->name, name);
        if (c->type->kind == TYPE_EMPTY)
            continue;
        struct field *new = field_put(f, name);
        new->source = FROM_COLUMN;
        new->cell = i; /* of the schema, until finish_columns() */
        new->type = c->type;
    }
    return true;
}

static bool apply_step(struct plan *p, const struct mapping_step *s, struct fields *f,
                       struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct field *from = NULL;
    char near[128];

    if (s->kind == STEP_DROP) {
        struct field *gone = field_find(f, s->field.name);
        if (!gone || gone->dropped) {
            near_field(f, s->field.name, near, sizeof near);
            return mapping_error(m, s->field.at, err,
                                 "drop: there is no field \"%s\" at this step%s", s->field.name,
                                 near);
        }
        gone->dropped = true;
        return true;
    }
    if (s->kind == STEP_COPY && strcmp(s->from.name, "_id") != 0) {
        from = field_find(f, s->from.name);
        if (!from || from->dropped) {
            near_field(f, s->from.name, near, sizeof near);
            return mapping_error(m, s->from.at, err,
                                 "copy: there is no field \"%s\" at this step%s", s->from.name,
                                 near);
        }
    }
    struct field value = {.source = s->kind == STEP_CONST ? FROM_JSON : FROM_ID, .json = s->json};
    if (from)
        value = *from;
    struct field *to = field_put(f, s->field.name);
    value.name = to->name;
    value.dropped = false;
    *to = value;
    return true;
}

/* Which key column is the field made of; -1: none. */
static int key_of_field(const struct plan *p, const struct fields *f, const char *name)
{
    const struct field *field = field_find(f, name);

    return field && field->source == FROM_COLUMN && field->cell < p->key_count ? field->cell : -1;
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
            if (field_find(f, name))
                return mapping_error(m, text.at, err, "the %s needs field \"%s\", which is %s",
                                     what, name, why_not);
            near_field(f, name, near, sizeof near);
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

static int column_of_field(const struct plan *p, const struct fields *f, const char *name)
{
    const struct field *field = field_find(f, name);

    (void)p;
    return field && field->source == FROM_COLUMN ? field->cell : -1;
}

/* Columns of the schema, until compile_columns(). */
static bool compile_routing(struct plan *p, const struct fields *f, struct err *err)
{
    return !p->mapping->routing.name ||
           compile_template(p, f, p->mapping->routing, "routing", "no column of the table",
                            column_of_field, &p->routing, &p->routing_count, err);
}

static bool check_key(struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->schema;

    for (size_t i = 0; i < m->key.count; i++)
        if (find_exact(s, m->key.list[i].name) < 0)
            return no_column(m, s, m->key.list[i], err);
    for (size_t i = 0; i < m->key.count && i < p->key_count; i++)
        if (strcmp(s->columns[i].name, m->key.list[i].name) != 0)
            return mapping_error(m, m->key.list[i].at, err,
                                 "column %zu of the primary key of %s.%s is \"%s\", not \"%s\"",
                                 i + 1, s->keyspace, s->table, s->columns[i].name,
                                 m->key.list[i].name);
    if (m->key.count && m->key.count != p->key_count)
        return mapping_error(m, m->key.list[0].at, err,
                             "the primary key of %s.%s has %u columns, the mapping names %zu",
                             s->keyspace, s->table, p->key_count, m->key.count);
    return true;
}

/* The columns that a text id is: those named, else the partition key. */
static bool compile_select(struct plan *p, struct err *err)
{
    const struct mapping *m = p->mapping;
    const struct schema *s = p->schema;
    uint64_t have = 0;

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
    }
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

/* Columns to read: the primary key, then those that a field needs. */
static void compile_columns(struct plan *p, struct fields *f)
{
    const struct schema *s = p->schema;
    int32_t *cell = xalloc(s->column_count * sizeof *cell);

    p->columns = xalloc(s->column_count * sizeof *p->columns);
    for (uint16_t i = 0; i < s->column_count; i++) {
        bool used = i < p->key_count;
        for (size_t n = 0; n < p->routing_count && !used; n++)
            used = !p->routing[n].text && p->routing[n].cell == i;
        for (size_t n = 0; n < f->count && !used; n++)
            used = !f->list[n].dropped && f->list[n].source == FROM_COLUMN && f->list[n].cell == i;
        cell[i] = used ? p->column_count : -1;
        if (used)
            p->columns[p->column_count++] = i;
    }
    for (size_t n = 0; n < f->count; n++)
        if (!f->list[n].dropped && f->list[n].source == FROM_COLUMN)
            f->list[n].cell = (uint16_t)cell[f->list[n].cell];
    for (size_t n = 0; n < p->routing_count; n++)
        if (!p->routing[n].text)
            p->routing[n].cell = (uint16_t)cell[p->routing[n].cell];
    free(cell);
}

static char *statement(const struct plan *p, uint16_t columns, uint16_t bound)
{
    const struct schema *s = p->schema;
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_add_str(&b, "SELECT ");
    for (uint16_t i = 0; i < columns; i++) {
        if (i)
            buf_add_str(&b, ", ");
        schema_add_quoted(&b, s->columns[p->columns[i]].name);
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

/* Written fields first, their labels made once. */
static bool finish_fields(struct plan *p, struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;

    p->fields = xalloc((f->count + 1) * sizeof *p->fields);
    for (int dropped = 0; dropped < 2; dropped++)
        for (size_t i = 0; i < f->count; i++)
            if (f->list[i].dropped == (dropped == 1))
                p->fields[p->field_count++] = f->list[i];
    while (p->written < p->field_count && !p->fields[p->written].dropped) {
        struct field *field = &p->fields[p->written];
        struct buf b;
        struct place at = m->table.at;
        for (size_t i = 0; i < m->step_count; i++)
            if (!strcmp(m->steps[i].field.name, field->name))
                at = m->steps[i].field.at;
        for (size_t i = 0; i < m->rename.count; i++)
            if (!strcmp(m->rename.list[i].to.name, field->name))
                at = m->rename.list[i].to.at;
        if (!check_field(m, at, field->name, err))
            return false;
        buf_init(&b, SIZE_MAX / 2);
        json_add_string(&b, slice_str(field->name));
        buf_add_byte(&b, ':');
        field->label = slice_of(xstrndup((const char *)b.p, b.len), b.len);
        buf_fini(&b);
        p->written++;
    }
    return p->written > 0 || mapping_error(m, m->table.at, err, "the document has no field");
}

static bool compile(struct plan *p, struct fields *f, struct err *err)
{
    const struct mapping *m = p->mapping;

    if (!check_key(p, err) || !start_fields(p, f, err) || !compile_id(p, f, err) ||
        !compile_routing(p, f, err) || !compile_select(p, err))
        return false;
    for (size_t i = 0; i < m->step_count; i++)
        if (!apply_step(p, &m->steps[i], f, err))
            return false;
    compile_columns(p, f);
    p->read_text = statement(p, p->column_count, p->key_count);
    p->keys_text = xalloc((p->key_count + 1u) * sizeof *p->keys_text);
    for (uint16_t n = p->partition_count; n <= p->key_count; n++)
        p->keys_text[n] = statement(p, p->key_count, n);
    return finish_fields(p, f, err);
}

struct plan *plan_compile(const struct mapping *m, const struct schema *s, struct err *err)
{
    struct plan *p = xalloc(sizeof *p);
    struct fields f = {0};

    p->mapping = m;
    p->schema = s;
    p->partition_count = s->partition_key_count;
    p->key_count = (uint16_t)(s->partition_key_count + s->clustering_count);
    bool ok = compile(p, &f, err);
    free(f.list);
    if (ok)
        return p;
    plan_free(p);
    return NULL;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->written; i++)
        free((void *)p->fields[i].label.p);
    for (uint16_t n = 0; p->keys_text && n <= p->key_count; n++)
        free(p->keys_text[n]);
    free(p->keys_text);
    free(p->fields);
    free(p->columns);
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

bool plan_fits(const struct plan *p, const struct columns *c)
{
    if (c->count != p->column_count && c->count != p->key_count)
        return false;
    for (uint16_t i = 0; i < c->count; i++) {
        const struct schema_column *want = &p->schema->columns[p->columns[i]];
        if (!slice_is(c->list[i].name, want->name) || !type_equal(c->list[i].type, want->type))
            return false;
    }
    return true;
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
    return combine(of, p->select_count, mem, out, reason, err);
}

static int cell_of_column(const struct plan *p, int column)
{
    for (uint16_t i = 0; i < p->column_count; i++)
        if (p->columns[i] == column)
            return i;
    return -1;
}

static bool object_query(const struct plan *p, const struct json *id, struct arena *mem,
                         struct plan_query *out, const char **reason, struct err *err)
{
    const struct schema *s = p->schema;
    struct values *of = arena_zalloc(mem, s->column_count * sizeof *of);
    uint16_t bound = 0;

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
    while (bound < p->key_count && of[bound].count)
        bound++;
    if (bound < p->partition_count)
        return reject(reason, "no_partition_key", err, "has no value for %s of the partition key",
                      s->columns[bound].name);
    out->after = arena_alloc(mem, s->column_count * sizeof *out->after);
    if (!out->after)
        return out_of_memory(reason, err);
    for (uint16_t i = bound; i < s->column_count; i++)
        if (of[i].count)
            out->after[out->after_count++] =
                (struct plan_filter){(uint16_t)cell_of_column(p, i), of[i].count, of[i].list};
    return combine(of, bound, mem, out, reason, err);
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

static void add_escaped(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] == '%' || text.p[i] == ':')
            buf_printf(out, "%%%02X", text.p[i]);
        else
            buf_add_byte(out, text.p[i]);
}

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

/* Escapes what add_key_text() just wrote behind `begin`: rarely anything. */
static void escape_from(struct buf *out, size_t begin)
{
    const uint8_t *text = out->p + begin;
    size_t n = out->len - begin, plain = 0;

    while (plain < n && text[plain] != '%' && text[plain] != ':')
        plain++;
    if (plain == n)
        return;
    AUTO_STR char *copy = xstrndup((const char *)text, n);
    buf_cut(out, begin);
    add_escaped(out, slice_of(copy, n));
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
    bool ok = p->id_count ? template_text(p, p->id, p->id_count, key, out, err)
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

bool plan_has_routing(const struct plan *p)
{
    return p->routing_count > 0;
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

bool plan_write_version(const struct plan *p, const struct slice *cells, int64_t *out,
                        struct err *err)
{
    (void)cells;
    (void)out;
    ensure(p->mapping->versioning == VERSIONING_WRITE_TIME);
    return err_set(err, ERR_REJECT, "no cell has a time of writing");
}

enum emptiness { HAS_VALUE, WRITE_NULL, WRITE_ARRAY, WRITE_OBJECT, LEAVE_OUT };

/* The mapping's rules for a cell without value. */
static enum emptiness empty_as(const struct mapping *m, const struct type *t, struct slice cell)
{
    bool map = t->kind == TYPE_MAP;
    bool collection = map || t->kind == TYPE_LIST || t->kind == TYPE_SET;
    bool null = value_is_null(t, cell);

    if (collection && m->empty_said && (null || (cell.n >= 4 && load_u32(cell.p) == 0)))
        return m->omit_empty_collections ? LEAVE_OUT : map ? WRITE_OBJECT : WRITE_ARRAY;
    if (!null)
        return HAS_VALUE;
    return m->omit_nulls ? LEAVE_OUT : WRITE_NULL;
}

static bool write_cell(const struct plan *p, const struct field *f, struct slice cell,
                       struct buf *out, struct json_counts *counts, struct err *err)
{
    return json_cell(out, f->type, cell, counts, err) ||
           err_wrap(err, "column %s", p->schema->columns[p->columns[f->cell]].name);
}

bool plan_write(const struct plan *p, const struct slice *cells, struct slice id, struct buf *out,
                struct json_counts *counts, struct err *err)
{
    static const char *const words[] = {
        [WRITE_NULL] = "null", [WRITE_ARRAY] = "[]", [WRITE_OBJECT] = "{}"};
    size_t begin = out->len;
    bool first = true;

    buf_add_byte(out, '{');
    for (size_t i = 0; i < p->written; i++) {
        const struct field *f = &p->fields[i];
        enum emptiness e = HAS_VALUE;
        if (f->source == FROM_COLUMN)
            e = empty_as(p->mapping, f->type, cells[f->cell]);
        if (e == LEAVE_OUT)
            continue;
        if (!first)
            buf_add_byte(out, ',');
        first = false;
        buf_add_slice(out, f->label);
        if (e != HAS_VALUE)
            buf_add_str(out, words[e]);
        else if (f->source == FROM_JSON)
            buf_add_str(out, f->json);
        else if (f->source == FROM_ID)
            json_add_string(out, id);
        else if (!write_cell(p, f, cells[f->cell], out, counts, err)) {
            buf_cut(out, begin);
            return false;
        }
    }
    buf_add_byte(out, '}');
    if (!out->full)
        return true;
    buf_cut(out, begin);
    out->full = true;
    return err_set(err, ERR_REJECT, "the document is too large");
}

static bool is_named(const struct mapping_names *names, struct slice field)
{
    for (size_t i = 0; i < names->count; i++)
        if (slice_is(field, names->list[i].name))
            return true;
    return false;
}

bool plan_preserves(const struct plan *p, struct slice field)
{
    for (size_t i = 0; i < p->field_count; i++)
        if (slice_is(field, p->fields[i].name) && (i < p->written || p->mapping->preserve_all))
            return false;
    return p->mapping->preserve_all || is_named(&p->mapping->preserve, field);
}

bool plan_has_preserve(const struct plan *p)
{
    return p->mapping->preserve_all || p->mapping->preserve.count > 0;
}
