#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "mapping/plan_parts.h"
#include "model/value.h"

enum { COMPILED_MAX_BYTES = 64 << 20, OPS_MAX = 60000 };

static bool compile_step(struct steps *s, struct program *p, const struct mapping_step *step,
                         uint32_t number, struct err *err);

void steps_init(struct steps *s, const struct mapping *m, const struct plan_tables *tables)
{
    *s = (struct steps){.mapping = m, .tables = tables};
    arena_init(&s->mem, COMPILED_MAX_BYTES);
    if (m->epoch_ms)
        s->epoch = timeform_new(NULL, NULL, &(struct err){0});
}

static void program_fini(struct program *p)
{
    for (size_t i = 0; i < p->op_count; i++)
        if (p->ops[i].each)
            program_fini(p->ops[i].each);
    free(p->ops);
    free(p->fields.list);
}

void steps_fini(struct steps *s)
{
    program_fini(&s->root);
    for (size_t i = 0; i < s->form_count; i++)
        timeform_free(s->forms[i]);
    free(s->forms);
    timeform_free(s->epoch);
    free(s->reads);
    arena_fini(&s->mem);
}

static void *take(struct steps *s, size_t bytes)
{
    void *p = arena_zalloc(&s->mem, bytes ? bytes : 1);

    ensure(p && "a mapping is far smaller");
    return p;
}

static const char *take_text(struct steps *s, struct buf *b)
{
    ensure(!b->full);
    const char *text = arena_strndup(&s->mem, b->p ? b->p : (const uint8_t *)"", b->len);
    ensure(text);
    return text;
}

/* ---- fields ------------------------------------------------------------------------------------
 */

static enum shape shape_of_type(const struct type *t)
{
    ensure(t);
    switch (t->kind) {
    case TYPE_BOOLEAN:
        return SHAPE_BOOL;
    case TYPE_BIGINT:
    case TYPE_COUNTER:
    case TYPE_DOUBLE:
    case TYPE_FLOAT:
    case TYPE_INT:
    case TYPE_SMALLINT:
    case TYPE_TINYINT:
        return SHAPE_NUMBER;
    case TYPE_LIST:
    case TYPE_SET:
    case TYPE_TUPLE:
    case TYPE_VECTOR:
        return SHAPE_ARRAY;
    case TYPE_MAP:
    case TYPE_UDT:
        return SHAPE_OBJECT;
    case TYPE_EMPTY:
        return SHAPE_NULL;
    default:
        return SHAPE_STRING;
    }
}

static enum shape shape_of_json(const char *json)
{
    switch (*json) {
    case 'n':
        return SHAPE_NULL;
    case 't':
    case 'f':
        return SHAPE_BOOL;
    case '"':
        return SHAPE_STRING;
    case '[':
        return SHAPE_ARRAY;
    case '{':
        return SHAPE_OBJECT;
    default:
        return SHAPE_NUMBER;
    }
}

static void shape_words(const struct field *f, char *out, size_t size)
{
    static const char *const words[] = {"anything", "null",     "true or false", "a number",
                                        "a text",   "an array", "an object"};
    struct buf b;

    if (f->source != FROM_COLUMN) {
        snprintf(out, size, "%s", words[f->shape]);
        return;
    }
    buf_init(&b, 256);
    type_add_text(&b, f->type);
    snprintf(out, size, "%s", buf_cstr(&b));
    buf_fini(&b);
}

void steps_column(const struct steps *s, const struct schema *schema, struct field *f)
{
    f->type = select_type(schema, f->from);
    f->shape = shape_of_type(f->type);
    if (f->type->kind == TYPE_TIMESTAMP && s->epoch) {
        f->time = s->epoch;
        f->shape = SHAPE_NUMBER;
    }
}

static bool no_field(const struct steps *s, const struct program *p, struct mapping_name n,
                     const char *word, struct err *err)
{
    char near[128];

    fields_near(&p->fields, n.name, near, sizeof near);
    return mapping_error(s->mapping, n.at, err, "%s: there is no field \"%s\" at this step%s", word,
                         n.name, near);
}

static const struct field *find(const struct steps *s, const struct program *p,
                                struct mapping_name n, const char *word, struct err *err)
{
    const struct field *f = fields_find(&p->fields, n.name);

    if (f && !f->dropped)
        return f;
    no_field(s, p, n, word, err);
    return NULL;
}

static uint16_t level_of(const struct program *p, const struct field *f)
{
    uint16_t level = f->source == FROM_SLOT ? f->level : p->base;

    return p->has_flags && p->flags_level > level ? p->flags_level : level;
}

/* ---- operations --------------------------------------------------------------------------------
 */

static struct op *add_op(struct program *p, const struct mapping_step *step, uint32_t number)
{
    ensure(p->op_count < OPS_MAX && "a file is far smaller");
    if (p->op_count == p->op_cap) {
        p->op_cap = p->op_cap ? p->op_cap * 2 : 16;
        p->ops = xrealloc(p->ops, p->op_cap * sizeof *p->ops);
    }
    struct op *op = &p->ops[p->op_count++];
    *op = (struct op){.step = step, .number = number, .level = p->base};
    return op;
}

static uint16_t add_ref(struct steps *s, const struct program *p, struct op *op,
                        const struct field *f)
{
    struct field *refs = take(s, (op->ref_count + 1u) * sizeof *refs);
    uint16_t level = level_of(p, f);

    if (op->ref_count)
        memcpy(refs, op->refs, op->ref_count * sizeof *refs);
    refs[op->ref_count] = *f;
    op->refs = refs;
    op->level = level > op->level ? level : op->level;
    return op->ref_count++;
}

/* The field that the step writes is what the operation makes. */
static void put_slot(struct program *p, struct op *op, const char *name, enum shape shape)
{
    struct field *f = fields_put(&p->fields, name);
    const char *kept = f->name;

    op->slot = p->slot_count++;
    *f = (struct field){.name = kept,
                        .source = FROM_SLOT,
                        .slot = op->slot,
                        .level = op->level,
                        .step = op->number,
                        .shape = shape};
    if (op->level > p->levels)
        p->levels = op->level;
}

static bool compile_template(struct steps *s, struct program *p, struct op *op,
                             struct mapping_name text, const char *word, struct template *out,
                             struct err *err)
{
    const char *at = text.name;
    size_t most = 1;

    for (const char *c = at; *c; c++)
        most += *c == '{' ? 2 : 0;
    out->list = take(s, most * sizeof *out->list);
    while (*at) {
        size_t len = strcspn(at, "{}");
        if (len)
            out->list[out->count++] = (struct piece){.text = at, .len = len};
        at += len;
        if (!*at)
            break;
        size_t end = strcspn(at + 1, "{}");
        if (*at == '}' || at[1 + end] != '}')
            return mapping_error(s->mapping, text.at, err,
                                 "%s: \"%s\" has a brace without its pair", word, text.name);
        AUTO_STR char *name = xstrndup(at + 1, end);
        const struct field *f = find(s, p, (struct mapping_name){name, text.at}, word, err);
        if (!f)
            return false;
        out->list[out->count++] = (struct piece){.ref = add_ref(s, p, op, f)};
        at += end + 2;
    }
    return true;
}

/* ---- other tables ------------------------------------------------------------------------------
 */

static const struct schema *find_table(struct steps *s, struct mapping_name keyspace,
                                       struct mapping_name table, struct err *err)
{
    const struct schema *root = s->root.schema;
    const char *in = keyspace.name ? keyspace.name : root->keyspace;

    if (!root->partitions && !strcmp(in, root->keyspace) && !strcmp(table.name, root->table))
        return root;
    if (!s->tables) {
        mapping_error(s->mapping, table.at, err,
                      "the step needs table %s.%s, which can't be read "
                      "here",
                      in, table.name);
        return NULL;
    }
    const struct schema *schema = s->tables->find(s->tables->ctx, in, table.name, err);
    if (!schema && err->kind == ERR_USER) {
        struct err why = *err;
        err_clear(err);
        mapping_error(s->mapping, table.at, err, "%s", why.text);
    }
    return schema;
}

static int column_named(const struct schema *schema, const char *name)
{
    for (uint16_t i = 0; i < schema->column_count; i++)
        if (!strcmp(schema->columns[i].name, name))
            return i;
    return -1;
}

static bool no_column(const struct steps *s, const struct schema *schema, struct mapping_name n,
                      struct err *err)
{
    const char **names = xalloc((schema->column_count + 1u) * sizeof *names);

    for (uint16_t i = 0; i < schema->column_count; i++)
        names[i] = schema->columns[i].name;
    const char *near = text_nearest(slice_str(n.name), names);
    free(names);
    return mapping_error(s->mapping, n.at, err,
                         near ? "%s.%s has no column \"%s\"; did you mean \"%s\""
                              : "%s.%s has no column \"%s\"",
                         schema->keyspace, schema->table, n.name, near);
}

/* Equal statements are one read: their rows are shared. */
static uint16_t add_read(struct steps *s, const struct schema *schema, uint16_t bound,
                         const struct select *selects, uint16_t count, int limit)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    buf_add_str(&b, "SELECT ");
    for (uint16_t i = 0; i < count; i++) {
        if (i)
            buf_add_str(&b, ", ");
        select_add_text(&b, schema, selects[i]);
    }
    buf_add_str(&b, " FROM ");
    schema_add_name(&b, schema);
    for (uint16_t i = 0; i < bound; i++) {
        buf_add_str(&b, i ? " AND " : " WHERE ");
        schema_add_quoted(&b, schema->columns[i].name);
        buf_add_str(&b, " = ?");
    }
    if (limit)
        buf_printf(&b, " LIMIT %d", limit);
    const char *text = take_text(s, &b);
    buf_fini(&b);
    for (uint16_t i = 0; i < s->read_count; i++)
        if (!strcmp(s->reads[i].text, text))
            return i;
    s->reads = xrealloc(s->reads, (s->read_count + 1u) * sizeof *s->reads);
    s->reads[s->read_count] =
        (struct plan_read){.text = text,
                           .schema = schema,
                           .key_count = bound,
                           .by_partition = bound == schema->partition_key_count && !limit,
                           .select_count = count,
                           .selects = selects};
    return s->read_count++;
}

/* The values of the first columns of the primary key, `least` at least; in the key's order. */
static bool compile_key(struct steps *s, struct program *p, struct op *op,
                        const struct schema *schema, const struct mapping_pairs *pairs,
                        struct place at, uint16_t least, const char *word, struct err *err)
{
    uint16_t keys = (uint16_t)(schema->partition_key_count + schema->clustering_count);

    op->key = take(s, keys * sizeof *op->key);
    for (size_t i = 0; i < pairs->count; i++) {
        const struct mapping_pair *pair = &pairs->list[i];
        int column = column_named(schema, pair->from.name);
        if (column < 0)
            return no_column(s, schema, pair->from, err);
        if (column >= keys)
            return mapping_error(s->mapping, pair->from.at, err,
                                 "%s: \"%s\" is no column of the primary key of %s.%s", word,
                                 pair->from.name, schema->keyspace, schema->table);
        if (op->key[column].type)
            return mapping_error(s->mapping, pair->from.at, err, "%s: \"%s\" is there twice", word,
                                 pair->from.name);
        op->key[column].type = schema->columns[column].type;
        op->key[column].column = schema->columns[column].name;
        if (!compile_template(s, p, op, pair->to, word, &op->key[column].text, err))
            return false;
    }
    op->key_count = (uint16_t)pairs->count;
    for (size_t i = 0; i < (least > pairs->count ? least : pairs->count); i++)
        if (!op->key[i].type)
            return mapping_error(s->mapping, pairs->count ? pairs->list[0].from.at : at, err,
                                 "%s: a value for \"%s\" is missing, which is of the %s key of "
                                 "%s.%s",
                                 word, schema->columns[i].name,
                                 i < schema->partition_key_count ? "partition" : "primary",
                                 schema->keyspace, schema->table);
    op->read_level = op->level;
    p->has_reads = true;
    return true;
}

/* The row is read in the round of its key. */
static void after_read(struct steps *s, struct program *p, struct op *op)
{
    op->level = (uint16_t)(op->read_level + 1);
    if (op->each && op->each->levels > op->level)
        op->level = op->each->levels;
    if (op->level > s->levels)
        s->levels = op->level;
    if (op->level > p->levels)
        p->levels = op->level;
}

static bool compile_lookup(struct steps *s, struct program *p, struct op *op,
                           const struct mapping_lookup *l, const char *word, struct err *err)
{
    const struct schema *schema = find_table(s, l->keyspace, l->table, err);

    if (!schema)
        return false;
    int column = column_named(schema, l->take.name);
    if (column < 0)
        return no_column(s, schema, l->take, err);
    if (!compile_key(s, p, op, schema, &l->key, l->table.at,
                     (uint16_t)(schema->partition_key_count + schema->clustering_count), word, err))
        return false;
    struct select *which = take(s, sizeof *which);
    *which = (struct select){(uint16_t)column, SELECT_COLUMN};
    op->take = select_type(schema, *which);
    op->read = add_read(s, schema, op->key_count, which, 1, 0);
    after_read(s, p, op);
    return true;
}

/* ---- rows of another table ---------------------------------------------------------------------
 */

static const struct mapping_pair *rename_of(const struct mapping_pairs *rename, const char *column)
{
    for (size_t i = 0; i < rename->count; i++)
        if (!strcmp(rename->list[i].from.name, column))
            return &rename->list[i];
    return NULL;
}

static bool start_child_field(struct steps *s, struct program *c, const struct mapping_rows *rows,
                              uint16_t column, struct err *err)
{
    const char *written = c->schema->columns[column].name;
    const struct mapping_pair *r = rename_of(&rows->rename, written);
    const char *name = r ? r->to.name : written;
    struct place at = r && r->to.at.line ? r->to.at : rows->table.at;
    const struct field *other = fields_find(&c->fields, name);

    if (other)
        return mapping_error(s->mapping, at, err,
                             "columns \"%s\" and \"%s\" both become field "
                             "\"%s\"",
                             c->schema->columns[other->from.column].name, written, name);
    if (!*name || strchr(name, '.'))
        return mapping_error(s->mapping, at, err, "field \"%s\" has %s; rename it", name,
                             *name ? "a dot, which makes an object of it" : "an empty name");
    if (c->schema->columns[column].type->kind == TYPE_EMPTY)
        return true;
    struct field *f = fields_put(&c->fields, name);
    f->source = FROM_COLUMN;
    f->from = (struct select){column, SELECT_COLUMN};
    steps_column(s, c->schema, f);
    return true;
}

static bool start_child(struct steps *s, struct program *c, const struct mapping_rows *rows,
                        struct err *err)
{
    for (size_t i = 0; i < rows->rename.count; i++) {
        const struct mapping_name from = rows->rename.list[i].from;
        if (from.at.line && column_named(c->schema, from.name) < 0)
            return no_column(s, c->schema, from, err);
    }
    for (size_t i = 0; i < rows->columns.count; i++) {
        int column = column_named(c->schema, rows->columns.list[i].name);
        if (column < 0)
            return no_column(s, c->schema, rows->columns.list[i], err);
        if (!start_child_field(s, c, rows, (uint16_t)column, err))
            return false;
    }
    for (uint16_t i = 0; i < c->schema->column_count && !rows->columns.count; i++)
        if (!start_child_field(s, c, rows, i, err))
            return false;
    return true;
}

/* The cell that it comes in. */
static void select_too(void *ctx, struct field *f)
{
    struct program *c = ctx;

    for (uint16_t i = 0; i < c->select_count; i++)
        if (select_eq(c->selects[i], f->from)) {
            f->cell = i;
            return;
        }
    c->selects[c->select_count] = f->from;
    f->cell = c->select_count++;
}

static void select_columns(struct steps *s, struct program *c)
{
    const struct schema *schema = c->schema;
    struct buf b;

    c->selects = take(s, (schema->column_count + 1u) * sizeof *c->selects);
    c->clustering = -1;
    if (schema->clustering_count) { /* a partition with static columns only has no rows */
        struct field last = {.from = {schema->partition_key_count, SELECT_COLUMN}};
        select_too(c, &last);
        c->clustering = 0;
    }
    steps_each_column(c, select_too, c);
    for (size_t i = 0; i < c->fields.count; i++) {
        struct field *f = &c->fields.list[i];
        if (f->dropped)
            continue;
        if (f->source == FROM_COLUMN)
            select_too(c, f);
        buf_init(&b, 1 << 20);
        buf_add_byte(&b, ',');
        json_add_string(&b, slice_str(f->name));
        buf_add_byte(&b, ':');
        f->label = take_text(s, &b);
        buf_fini(&b);
    }
    if (!c->select_count) {
        struct field first = {.from = {0, SELECT_COLUMN}};
        select_too(c, &first);
    }
}

/* Its key is known. */
static bool compile_child(struct steps *s, struct program *p, struct op *op,
                          const struct schema *schema, struct err *err)
{
    const struct mapping_rows *rows = op->step->rows;
    enum mapping_step_kind kind = op->step->kind;

    struct program *c = take(s, sizeof *c);
    op->each = c;
    *c = (struct program){.schema = schema,
                          .base = (uint16_t)(op->read_level + 1),
                          .levels = (uint16_t)(op->read_level + 1),
                          .omit_nulls = s->mapping->omit_nulls};
    if (!start_child(s, c, rows, err) || !steps_start(s, c, &rows->where, err) ||
        !steps_compile(s, c, &rows->each, err))
        return false;
    steps_finish(c);
    select_columns(s, c);
    int limit = rows->where.count || kind == STEP_CHILDREN ? 0 : kind == STEP_FIRST ? 1 : 2;
    op->read = add_read(s, schema, op->key_count, c->selects, c->select_count, limit);
    after_read(s, p, op);
    return true;
}

static bool compile_rows(struct steps *s, struct program *p, struct op *op, const char *word,
                         struct err *err)
{
    const struct mapping_rows *rows = op->step->rows;
    const struct schema *schema = find_table(s, rows->keyspace, rows->table, err);

    return schema &&
           compile_key(s, p, op, schema, &rows->by, rows->table.at, schema->partition_key_count,
                       word, err) &&
           compile_child(s, p, op, schema, err);
}

/* Clustering and regular columns. */
static struct mapping_names columns_of_rows(struct steps *s, const struct schema *table)
{
    struct mapping_name *list = take(s, table->column_count * sizeof *list);
    size_t n = 0;

    for (uint16_t i = table->partition_key_count; i < table->column_count; i++)
        if (table->columns[i].kind != COLUMN_STATIC)
            list[n++] = (struct mapping_name){.name = table->columns[i].name};
    return (struct mapping_names){list, n};
}

bool steps_rows(struct steps *s, struct program *p, const struct schema *table, struct err *err)
{
    const struct mapping *m = s->mapping;
    struct mapping_rows *rows = take(s, sizeof *rows);
    struct mapping_step *step = take(s, sizeof *step);

    *rows = *m->rows;
    rows->table = m->table;
    rows->where = m->where;
    rows->rename = m->rename;
    if (!rows->columns.count)
        rows->columns = columns_of_rows(s, table);
    *step = (struct mapping_step){.kind = STEP_CHILDREN, .field = m->rows_field, .rows = rows};
    struct op *op = add_op(p, step, 0);
    op->is_document = true;
    op->key_count = table->partition_key_count;
    op->key = take(s, op->key_count * sizeof *op->key);
    for (uint16_t i = 0; i < op->key_count; i++) {
        struct field f = {.name = "", .source = FROM_COLUMN, .from = {i, SELECT_COLUMN}};
        steps_column(s, p->schema, &f);
        op->key[i].type = table->columns[i].type;
        op->key[i].column = table->columns[i].name;
        op->key[i].text.list = take(s, sizeof *op->key[i].text.list);
        op->key[i].text.list[0].ref = add_ref(s, p, op, &f);
        op->key[i].text.count = 1;
    }
    op->read_level = op->level;
    p->has_reads = true;
    if (!compile_child(s, p, op, table, err))
        return false;
    put_slot(p, op, m->rows_field.name, SHAPE_ARRAY);
    return true;
}

/* ---- conditions --------------------------------------------------------------------------------
 */

static bool add_condition(struct steps *s, struct program *p, const struct mapping_condition *c,
                          struct err *err)
{
    struct condition *to = &p->where[p->where_count++];
    bool may = false;
    char words[160];

    const struct field *f = fields_find(&p->fields, c->field.name);
    if (!f) {
        fields_near(&p->fields, c->field.name, words, sizeof words);
        return mapping_error(s->mapping, c->field.at, err, "where: there is no field \"%s\"%s",
                             c->field.name, words);
    }
    to->field = *f;
    to->values = take(s, c->value_count * sizeof *to->values);
    for (size_t i = 0; i < c->value_count; i++) {
        enum shape shape = shape_of_json(c->values[i]);
        may = may || shape == f->shape || shape == SHAPE_NULL;
        to->values[to->count++] = slice_str(c->values[i]);
    }
    shape_words(f, words, sizeof words);
    return may || mapping_error(s->mapping, c->field.at, err,
                                "where: field \"%s\" is %s, which none of the values is",
                                c->field.name, words);
}

bool steps_start(struct steps *s, struct program *p, const struct mapping_conditions *where,
                 struct err *err)
{
    p->where = take(s, where->count * sizeof *p->where);
    for (size_t i = 0; i < where->count; i++)
        if (!add_condition(s, p, &where->list[i], err))
            return false;
    return true;
}

bool steps_times(struct steps *s, struct program *p, struct err *err)
{
    const struct mapping *m = s->mapping;
    struct err why = {0};
    char words[160];

    s->forms = xalloc((m->time_rule_count + 1) * sizeof(struct timeform *));
    for (size_t i = 0; i < m->time_rule_count; i++) {
        const struct mapping_time_rule *r = &m->time_rules[i];
        struct field *f = fields_find(&p->fields, r->field.name);
        if (!f) {
            fields_near(&p->fields, r->field.name, words, sizeof words);
            return mapping_error(m, r->field.at, err, "timestamps: there is no field \"%s\"%s",
                                 r->field.name, words);
        }
        shape_words(f, words, sizeof words);
        if (f->type->kind != TYPE_TIMESTAMP)
            return mapping_error(m, r->field.at, err,
                                 "timestamps: field \"%s\" is %s, not timestamp", r->field.name,
                                 words);
        f->time = NULL;
        f->shape = SHAPE_STRING;
        if (!r->epoch_ms && !r->pattern)
            continue;
        struct timeform *form = timeform_new(r->epoch_ms ? NULL : r->pattern, r->zone, &why);
        if (!form)
            return mapping_error(m, r->field.at, err, "timestamps: %s", why.text);
        s->forms[s->form_count++] = form;
        f->time = form;
        f->shape = r->epoch_ms ? SHAPE_NUMBER : SHAPE_STRING;
    }
    return true;
}

/* ---- steps -------------------------------------------------------------------------------------
 */

static const char *const words[] = {
    [STEP_COPY] = "copy",
    [STEP_CONST] = "const",
    [STEP_DROP] = "drop",
    [STEP_DEFAULT] = "default",
    [STEP_PARSE_JSON] = "parse_json",
    [STEP_PARSE_JSON_VALUES] = "parse_json_values",
    [STEP_TO_JSON] = "to_json",
    [STEP_LOOKUP] = "lookup",
    [STEP_CHILDREN] = "children",
    [STEP_FIRST] = "first",
    [STEP_ONLY] = "only",
    [STEP_FLAG] = "flag",
    [STEP_BIT_FLAGS] = "bit_flags",
    [STEP_CONCAT] = "concat",
    [STEP_CAST] = "cast",
    [STEP_SPLIT] = "split",
    [STEP_LOWER] = "lower",
    [STEP_UPPER] = "upper",
};

/* A column that `columns` leaves out is a known name, too. */
static bool is_known(const struct program *p, const struct mapping_pairs *rename, const char *name)
{
    if (fields_find(&p->fields, name))
        return true;
    for (uint16_t i = 0; i < p->schema->column_count; i++) {
        const char *column = p->schema->columns[i].name;
        const struct mapping_pair *r = rename_of(rename, column);
        if (!strcmp(r ? r->to.name : column, name))
            return true;
    }
    return false;
}

static bool compile_drop(struct steps *s, struct program *p, const struct mapping_step *step,
                         uint32_t number, struct err *err)
{
    struct field *f = fields_find(&p->fields, step->field.name);

    if (!f)
        return is_known(p, &s->mapping->rename, step->field.name) ||
               no_field(s, p, step->field, "drop", err);
    f->dropped = true;
    f->step = number;
    return true;
}

static void put_json(struct program *p, const struct mapping_step *step, uint32_t number)
{
    struct field *f = fields_put(&p->fields, step->field.name);

    *f = (struct field){.name = f->name,
                        .source = FROM_JSON,
                        .json = step->json,
                        .step = number,
                        .shape = shape_of_json(step->json)};
}

static bool compile_copy(struct steps *s, struct program *p, const struct mapping_step *step,
                         uint32_t number, struct err *err)
{
    bool id = !strcmp(step->from.name, "_id") && p == &s->root;
    struct field value = {.source = FROM_ID, .shape = SHAPE_STRING};

    if (!id) {
        const struct field *from = find(s, p, step->from, "copy", err);
        if (!from)
            return false;
        value = *from;
    }
    if (p->has_flags && !id) { /* which may say something else of it */
        struct op *op = add_op(p, step, number);
        add_ref(s, p, op, &value);
        put_slot(p, op, step->field.name, value.shape);
        return true;
    }
    struct field *to = fields_put(&p->fields, step->field.name);
    value.name = to->name;
    value.dropped = false;
    value.step = number;
    *to = value;
    return true;
}

static bool is_text(const struct field *f)
{
    if (f->source == FROM_COLUMN)
        return f->type->kind == TYPE_TEXT || f->type->kind == TYPE_ASCII;
    return f->shape == SHAPE_ANY || f->shape == SHAPE_NULL || f->shape == SHAPE_STRING;
}

static bool is_shape(const struct field *f, enum shape one, enum shape other)
{
    return f->shape == SHAPE_ANY || f->shape == SHAPE_NULL || f->shape == one || f->shape == other;
}

/* Or of such maps. */
static bool is_map_of_texts(const struct field *f)
{
    const struct type *of = f->type;

    if (f->source != FROM_COLUMN)
        return is_shape(f, SHAPE_OBJECT, SHAPE_OBJECT);
    for (int deep = 0; deep < 2 && of->kind == TYPE_MAP; deep++)
        of = of->args[1];
    return f->type->kind == TYPE_MAP && (of->kind == TYPE_TEXT || of->kind == TYPE_ASCII);
}

/* Can the step do anything with such a value. NULL: it can; else what it needs. */
static const char *needs(const struct mapping_step *step, const struct field *f)
{
    switch (step->kind) {
    case STEP_PARSE_JSON:
        return is_text(f) ? NULL : "text";
    case STEP_PARSE_JSON_VALUES:
        return is_map_of_texts(f) ? NULL : "a map of texts, or of maps of texts";
    case STEP_FLAG:
        return step->flag.compare == COMPARE_EQ || is_shape(f, SHAPE_NUMBER, SHAPE_NUMBER)
                   ? NULL
                   : "a number";
    case STEP_BIT_FLAGS:
        return is_shape(f, SHAPE_NUMBER, SHAPE_NUMBER) ? NULL : "a number";
    case STEP_SPLIT:
        return is_shape(f, SHAPE_STRING, SHAPE_STRING) ? NULL : "text";
    case STEP_LOWER:
    case STEP_UPPER:
        return is_shape(f, SHAPE_STRING, SHAPE_ARRAY) ? NULL : "text";
    case STEP_CAST:
        return step->cast.to == CAST_STRING || (f->shape != SHAPE_ARRAY && f->shape != SHAPE_OBJECT)
                   ? NULL
                   : "a single value";
    default:
        return NULL;
    }
}

static bool ref_from(struct steps *s, struct program *p, struct op *op, struct mapping_name from,
                     struct err *err)
{
    const char *word = words[op->step->kind];
    const struct field *f = find(s, p, from, word, err);
    char is[160];

    if (!f)
        return false;
    const char *wants = needs(op->step, f);
    if (wants) {
        shape_words(f, is, sizeof is);
        return mapping_error(s->mapping, from.at, err, "%s needs %s; field \"%s\" is %s", word,
                             wants, from.name, is);
    }
    add_ref(s, p, op, f);
    return true;
}

/* What is known of the result of one field. */
static enum shape result_shape(const struct mapping_step *step, const struct field *from)
{
    switch (step->kind) {
    case STEP_TO_JSON:
    case STEP_CONCAT:
        return SHAPE_STRING;
    case STEP_SPLIT:
        return SHAPE_ARRAY;
    case STEP_PARSE_JSON_VALUES:
        return SHAPE_OBJECT;
    case STEP_LOWER:
    case STEP_UPPER:
        ensure(from);
        return from->shape;
    default:
        return SHAPE_ANY;
    }
}

static bool compile_one(struct steps *s, struct program *p, const struct mapping_step *step,
                        uint32_t number, struct err *err)
{
    struct op *op = add_op(p, step, number);

    if (!ref_from(s, p, op, step->from.name ? step->from : step->field, err))
        return false;
    put_slot(p, op, step->field.name, result_shape(step, &op->refs[0]));
    return true;
}

static bool compile_default(struct steps *s, struct program *p, const struct mapping_step *step,
                            uint32_t number)
{
    const struct field *f = fields_find(&p->fields, step->field.name);

    if (!f || f->dropped) {
        put_json(p, step, number);
        return true;
    }
    enum shape shape = f->shape == shape_of_json(step->json) ? f->shape : SHAPE_ANY;
    struct op *op = add_op(p, step, number);
    add_ref(s, p, op, f);
    put_slot(p, op, step->field.name, shape);
    return true;
}

static bool compile_concat(struct steps *s, struct program *p, const struct mapping_step *step,
                           uint32_t number, struct err *err)
{
    struct op *op = add_op(p, step, number);

    for (size_t i = 0; i < step->concat.of.count; i++)
        if (!ref_from(s, p, op, step->concat.of.list[i], err))
            return false;
    put_slot(p, op, step->field.name, SHAPE_STRING);
    return true;
}

static bool compile_bits(struct steps *s, struct program *p, const struct mapping_step *step,
                         uint32_t number, struct err *err)
{
    struct op *op = add_op(p, step, number);
    uint16_t level;

    if (!compile_lookup(s, p, op, &step->bits.config, "bit_flags", err))
        return false;
    level = op->level;
    if (!ref_from(s, p, op, step->from.name ? step->from : step->field, err))
        return false;
    op->level = op->level > level ? op->level : level;
    if (op->level > p->levels)
        p->levels = op->level;
    p->has_flags = true;
    if (op->level > p->flags_level)
        p->flags_level = op->level;
    return true;
}

static enum shape shape_taken(const struct mapping_step *step, const struct op *op)
{
    return step->lookup.missing.kind == OTHERWISE_VALUE ? SHAPE_ANY : shape_of_type(op->take);
}

static bool compile_step(struct steps *s, struct program *p, const struct mapping_step *step,
                         uint32_t number, struct err *err)
{
    struct op *op;

    switch (step->kind) {
    case STEP_DROP:
        return compile_drop(s, p, step, number, err);
    case STEP_CONST:
        put_json(p, step, number);
        return true;
    case STEP_COPY:
        return compile_copy(s, p, step, number, err);
    case STEP_DEFAULT:
        return compile_default(s, p, step, number);
    case STEP_CONCAT:
        return compile_concat(s, p, step, number, err);
    case STEP_BIT_FLAGS:
        return compile_bits(s, p, step, number, err);
    case STEP_LOOKUP:
        op = add_op(p, step, number);
        if (!compile_lookup(s, p, op, &step->lookup, "lookup", err))
            return false;
        put_slot(p, op, step->field.name, shape_taken(step, op));
        return true;
    case STEP_CHILDREN:
    case STEP_FIRST:
    case STEP_ONLY:
        op = add_op(p, step, number);
        if (!compile_rows(s, p, op, words[step->kind], err))
            return false;
        put_slot(p, op, step->field.name, step->kind == STEP_CHILDREN ? SHAPE_ARRAY : SHAPE_ANY);
        return true;
    case STEP_PARSE_JSON:
    case STEP_PARSE_JSON_VALUES:
    case STEP_TO_JSON:
    case STEP_FLAG:
    case STEP_CAST:
    case STEP_SPLIT:
    case STEP_LOWER:
    case STEP_UPPER:
        break;
    }
    return compile_one(s, p, step, number, err);
}

bool steps_compile(struct steps *s, struct program *p, const struct mapping_steps *list,
                   struct err *err)
{
    for (size_t i = 0; i < list->count; i++)
        if (!compile_step(s, p, &list->list[i], (uint32_t)i + 1, err))
            return false;
    return true;
}

/* Operations whose slots are wanted, from the last to the first. */
void steps_finish(struct program *p)
{
    bool *wanted = xalloc(p->slot_count + 1u);
    bool flags = false; /* those before are wanted */

    for (size_t i = p->op_count; i-- > 0;) {
        struct op *op = &p->ops[i];
        bool is_flags = op->step->kind == STEP_BIT_FLAGS;

        op->for_keys = is_flags ? flags : wanted[op->slot];
        if (!op->for_keys && !op->key)
            continue;
        for (uint16_t n = 0; n < op->ref_count; n++) {
            if (op->refs[n].source == FROM_SLOT)
                wanted[op->refs[n].slot] = true;
            flags = true;
        }
    }
    free(wanted);
}

void steps_each_column(struct program *p, void (*visit)(void *ctx, struct field *f), void *ctx)
{
    for (size_t i = 0; i < p->where_count; i++)
        if (p->where[i].field.source == FROM_COLUMN)
            visit(ctx, &p->where[i].field);
    for (size_t i = 0; i < p->op_count; i++)
        for (uint16_t n = 0; n < p->ops[i].ref_count; n++)
            if (p->ops[i].refs[n].source == FROM_COLUMN)
                visit(ctx, &p->ops[i].refs[n]);
}
