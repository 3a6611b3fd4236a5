#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "mapping/convert.h"
#include "mapping/plan_parts.h"
#include "model/value.h"

static const struct slice null_text = {(const uint8_t *)"null", 4};

bool json_is_null(struct slice json)
{
    return json.n == 4 && json.p[0] == 'n';
}

bool json_is_empty(struct slice json)
{
    return json.n == 2 && (json.p[0] == '[' || json.p[0] == '{');
}

/* ---- failures ----------------------------------------------------------------------------------
 */

static bool fail(struct making *m, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail(struct making *m, const char *reason, const char *fmt, ...)
{
    char text[300];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    m->work->reason = reason;
    return err_set(m->err, ERR_REJECT, "%s", text);
}

static bool no_room(struct making *m)
{
    return fail(m, "document_too_large", "the document is too large");
}

/* What was written behind `begin`, as a value that stays. */
static bool take_text(struct making_row *r, size_t begin, struct slice *out)
{
    struct buf *b = &r->m->work->text;
    size_t n = b->len - begin;
    char *kept = b->full ? NULL : arena_strndup(&r->m->work->mem, b->p + begin, n);

    buf_cut(b, begin);
    *out = slice_of(kept, n);
    return kept ? true : no_room(r->m);
}

/* ---- reading fields ----------------------------------------------------------------------------
 */

static bool is_collection(const struct type *t)
{
    return t->kind == TYPE_LIST || t->kind == TYPE_SET || t->kind == TYPE_MAP;
}

/* "null", or what the mapping has for empty collections; never for a cell with a value. */
static const char *null_of(const struct making_row *r, const struct type *t)
{
    if (!is_collection(t) || !r->m->steps->mapping->empty_said)
        return "null";
    return t->kind == TYPE_MAP ? "{}" : "[]";
}

static bool add_cell(struct making_row *r, const struct type *t, const struct timeform *time,
                     struct slice cell, const char *name, struct buf *out)
{
    struct making *m = r->m;
    int64_t ms;

    if (value_is_null(t, cell)) {
        buf_add_str(out, null_of(r, t));
        return true;
    }
    if (time && value_int(cell, &ms)) {
        m->counts->year_out_of_range += !timeform_add(time, ms, out);
        return true;
    }
    if (json_cell(out, t, cell, m->counts, m->err))
        return true;
    m->work->reason = "bad_value";
    return err_wrap(m->err, "column %s", name);
}

static bool add_column(struct making_row *r, const struct field *f, struct buf *out)
{
    return add_cell(r, f->type, f->time, r->cells[f->cell],
                    r->program->schema->columns[f->from.column].name, out);
}

bool make_overridden(const struct making_row *r, const struct field *f)
{
    for (const struct extra *e = r->extras; e; e = e->next)
        if (e->step > f->step && slice_is(e->name, f->name))
            return true;
    return false;
}

/* Its value; null slice: it is absent. */
static bool field_json(struct making_row *r, const struct field *f, struct slice *out)
{
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;

    if (r->extras && make_overridden(r, f)) {
        *out = slice_str("true");
        return true;
    }
    switch (f->source) {
    case FROM_SLOT:
        ensure(r->slots);
        *out = r->slots[f->slot];
        return true;
    case FROM_JSON:
        *out = slice_str(f->json);
        return true;
    case FROM_ID:
        json_add_string(b, r->m->id);
        return take_text(r, begin, out);
    case FROM_COLUMN:
        break;
    }
    if (value_is_null(f->type, r->cells[f->cell])) {
        *out = slice_str(null_of(r, f->type));
        return true;
    }
    if (add_column(r, f, b))
        return take_text(r, begin, out);
    buf_cut(b, begin);
    return false;
}

/* The bytes of a column that is text. */
static bool is_plain_text(const struct making_row *r, const struct field *f)
{
    return f->source == FROM_COLUMN &&
           (f->type->kind == TYPE_TEXT || f->type->kind == TYPE_ASCII) &&
           !(r->extras && make_overridden(r, f));
}

/* As text, the way templates have it; null slice: null, absent, an array or an object. */
static bool field_text(struct making_row *r, const struct field *f, struct slice *out)
{
    struct slice json;

    if (is_plain_text(r, f) && utf8_valid(r->cells[f->cell])) {
        *out = r->cells[f->cell];
        return true;
    }
    if (!field_json(r, f, &json))
        return false;
    *out = SLICE_NULL;
    return !json.p || convert_text(json, &r->m->work->mem, out) || no_room(r->m);
}

static bool template_text(struct making_row *r, const struct op *op, const struct template *t,
                          struct slice *out)
{
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;
    struct slice part;

    ensure(op->refs && (t->list || !t->count));
    if (t->count == 1 && !t->list[0].text)
        return field_text(r, &op->refs[t->list[0].ref], out);
    for (size_t i = 0; i < t->count; i++) {
        const struct piece *piece = &t->list[i];
        if (piece->text) {
            buf_add(b, piece->text, piece->len);
            continue;
        }
        bool ok = field_text(r, &op->refs[piece->ref], &part);
        if (!ok || !part.p) {
            buf_cut(b, begin);
            *out = SLICE_NULL;
            return ok;
        }
        buf_add_slice(b, part);
    }
    return take_text(r, begin, out);
}

/* ---- rows of other tables ----------------------------------------------------------------------
 */

/* A key column's cell; null slice: null or empty, so there is no row. */
static bool key_cell(struct making_row *r, const struct op *op, const struct key_part *part,
                     struct slice *out)
{
    struct buf *b = &r->m->work->text;
    const struct piece *only = part->text.count == 1 ? &part->text.list[0] : NULL;
    const struct field *f = only && !only->text ? &op->refs[only->ref] : NULL;
    struct err why = {0};
    struct slice text;

    if (f && f->source == FROM_COLUMN && type_equal(f->type, part->type) &&
        !(r->extras && make_overridden(r, f))) {
        *out = r->cells[f->cell].n ? r->cells[f->cell] : SLICE_NULL;
        return true;
    }
    *out = SLICE_NULL;
    if (!template_text(r, op, &part->text, &text))
        return false;
    if (!text.n)
        return true;
    size_t begin = b->len;
    if (value_from_text(part->type, text, b, &why))
        return take_text(r, begin, out);
    buf_cut(b, begin);
    return fail(r->m, "bad_key", "what the mapping makes for column %s of another table is no %s",
                part->column, "value of its type");
}

/* *out NULL: a part is null or empty. */
static bool make_key(struct making_row *r, const struct op *op, struct slice **out)
{
    struct slice *cells = arena_alloc(&r->m->work->mem, (op->key_count + 1u) * sizeof *cells);

    if (!cells)
        return no_room(r->m);
    *out = cells;
    for (uint16_t i = 0; i < op->key_count; i++) {
        if (!key_cell(r, op, &op->key[i], &cells[i]))
            return false;
        if (!cells[i].p)
            *out = NULL;
    }
    return true;
}

static const char *word_of(const struct op *op)
{
    return op->step->field.name;
}

/* The rows of the operation's key. *has: the key has values; *out NULL: no rows came. */
static bool find_rows(struct making_row *r, const struct op *op, bool *has,
                      const struct fetched_row **out)
{
    struct making *m = r->m;
    struct slice *key = NULL;

    *out = NULL;
    if (!make_key(r, op, &key))
        return false;
    *has = key != NULL;
    if (!key || !m->fetched)
        return true;
    const struct fetched_rows *rows = fetched_get(m->fetched, op->read, key, op->key_count);
    if (!rows || !rows->filled)
        return true;
    if (rows->failed)
        return fail(m, "read_failed", "field %s: %s", word_of(op), rows->failed);
    *out = rows->first;
    return true;
}

static enum mapping_otherwise_kind kind_of(const struct mapping_otherwise *o,
                                           enum mapping_otherwise_kind otherwise)
{
    return o->said ? o->kind : otherwise;
}

/* The value in place of a row that is not there. */
static bool missing(struct making_row *r, const struct op *op, const struct mapping_otherwise *o,
                    enum mapping_otherwise_kind otherwise, bool counts, struct slice *out)
{
    enum mapping_otherwise_kind kind = kind_of(o, otherwise);

    if (kind == OTHERWISE_FAIL)
        return fail(r->m, "lookup_missing", "field %s: the row that it is made of is not there",
                    word_of(op));
    r->m->counts->lookup_missing += counts;
    *out = kind == OTHERWISE_VALUE ? slice_str(o->json) : SLICE_NULL;
    return true;
}

static bool do_lookup(struct making_row *r, const struct op *op, struct slice *out)
{
    struct buf *b = &r->m->work->text;
    const struct fetched_row *row;
    size_t begin = b->len;
    bool has;

    if (!find_rows(r, op, &has, &row))
        return false;
    if (!row)
        return missing(r, op, &op->step->lookup.missing, OTHERWISE_FAIL, has, out);
    if (add_cell(r, op->take, op->take->kind == TYPE_TIMESTAMP ? r->m->steps->epoch : NULL,
                 row->cells[0], op->step->lookup.take.name, b))
        return take_text(r, begin, out);
    buf_cut(b, begin);
    return false;
}

static bool begin_child(struct making_row *c, struct making_row *r, const struct op *op,
                        const struct fetched_row *row, bool *holds)
{
    ensure(op->each);
    *holds = op->each->clustering < 0 || row->cells[op->each->clustering].p;
    return make_begin(c, r->m, op->each, row->cells) && (!*holds || make_holds(c, holds));
}

/* Is the value written: nulls and empties may be left out. */
static bool is_written(const struct making_row *r, struct slice json)
{
    if (!json.p || (r->program->omit_nulls && json_is_null(json)))
        return false;
    return !json_is_empty(json) || !r->m->steps->mapping->omit_empty_collections;
}

static bool add_member(struct making_row *r, const struct field *f, struct buf *out)
{
    size_t begin = out->len;

    buf_add_str(out, f->label);
    size_t value = out->len;
    if (r->extras && make_overridden(r, f)) {
        buf_add_str(out, "true");
        return true;
    }
    switch (f->source) {
    case FROM_JSON:
        buf_add_str(out, f->json);
        return true;
    case FROM_SLOT:
        if (r->slots[f->slot].p)
            buf_add_slice(out, r->slots[f->slot]);
        break;
    case FROM_COLUMN:
        if (!add_column(r, f, out))
            return false;
        break;
    case FROM_ID:
        break;
    }
    struct slice json = slice_of(out->len > value ? out->p + value : NULL, out->len - value);
    if (!is_written(r, json))
        buf_cut(out, begin);
    return true;
}

void make_add_extras(const struct making_row *r, const struct fields *fields, struct buf *out)
{
    for (const struct extra *e = r->extras; e; e = e->next) {
        bool there = false;
        for (size_t i = 0; i < fields->count && !there; i++) {
            const struct field *f = &fields->list[i];
            there = slice_is(e->name, f->name) && (!f->dropped || f->step > e->step);
        }
        if (there)
            continue;
        buf_add_byte(out, ',');
        json_add_string(out, e->name);
        buf_add_str(out, ":true");
    }
}

/* Behind what is in `text` already: the row's object. */
static bool add_object(struct making_row *c, struct buf *out)
{
    size_t begin = out->len;

    for (size_t i = 0; i < c->program->fields.count; i++) {
        const struct field *f = &c->program->fields.list[i];
        if (!f->dropped && !add_member(c, f, out))
            return false;
    }
    make_add_extras(c, &c->program->fields, out);
    if (out->full)
        return no_room(c->m);
    if (out->len == begin)
        buf_add_byte(out, '{');
    else
        out->p[begin] = '{'; /* where the first has its comma */
    buf_add_byte(out, '}');
    return true;
}

static bool do_rows(struct making_row *r, const struct op *op, struct slice *out)
{
    enum mapping_step_kind kind = op->step->kind;
    struct buf *b = &r->m->work->text;
    size_t begin = b->len, found = 0;
    const struct fetched_row *row;
    struct making_row c;
    bool has, holds;

    if (!find_rows(r, op, &has, &row))
        return false;
    ensure(op->each);
    if (kind == STEP_CHILDREN)
        buf_add_byte(b, '[');
    for (; row && !(kind == STEP_FIRST && found); row = row->next) {
        if (!begin_child(&c, r, op, row, &holds))
            return false;
        if (!holds)
            continue;
        if (found++ && kind == STEP_ONLY)
            return fail(r->m, "several_rows", "field %s: there is more than one row", word_of(op));
        if (found > 1)
            buf_add_byte(b, ',');
        if (!make_run(&c) || !add_object(&c, b))
            return false;
    }
    if (op->is_document && !found && op->each->where_count)
        return fail(r->m, PLAN_FILTERED, "no row fulfils the mapping's conditions");
    if (kind == STEP_CHILDREN)
        buf_add_byte(b, ']');
    else if (!found)
        return missing(r, op, &op->step->rows->missing, OTHERWISE_OMIT, has, out);
    return take_text(r, begin, out);
}

/* ---- flags -------------------------------------------------------------------------------------
 */

static const struct json *at_path(const struct json *v, const char *path)
{
    while (v && path && *path) {
        size_t n = strcspn(path, ".");
        AUTO_STR char *name = xstrndup(path, n);
        v = json_get(v, name);
        path += n + (path[n] == '.');
    }
    return v;
}

/* As check_field() does where names are known before. */
static bool check_extra(struct making_row *r, const struct op *op, struct slice name)
{
    const struct mapping *m = r->m->steps->mapping;
    AUTO_STR char *text = xstrndup((const char *)name.p, name.n);
    const char *why = m->index.name ? plan_refused_name(text) : NULL;

    if (why)
        return fail(r->m, "bad_config", "field %s: one of its flags is \"%.60s\", which has %s",
                    word_of(op), text, why);
    return r->program != &r->m->steps->root || !mapping_names_has(&m->preserve, name) ||
           fail(r->m, "bad_config",
                "field %s: one of its flags is \"%.60s\", which the mapping preserves", word_of(op),
                text);
}

static bool add_extra(struct making_row *r, const struct op *op, const struct json *name)
{
    if (!check_extra(r, op, name->text))
        return false;
    /* One member, however many steps set it: the last one counts. */
    for (struct extra *old = r->extras; old; old = old->next)
        if (slice_eq(old->name, name->text)) {
            old->step = op->number > old->step ? op->number : old->step;
            return true;
        }
    struct extra *e = arena_zalloc(&r->m->work->mem, sizeof *e);
    if (!e)
        return no_room(r->m);
    *e = (struct extra){.name = name->text, .step = op->number, .next = r->extras};
    r->extras = e;
    return true;
}

static bool add_names(struct making_row *r, const struct op *op, const struct json *names)
{
    if (names->kind == JSON_STRING)
        return add_extra(r, op, names);
    json_each (name, names) {
        if (name->kind == JSON_STRING && !add_extra(r, op, name))
            return false;
    }
    return true;
}

static bool match_bits(struct making_row *r, const struct op *op, const struct json *types,
                       int64_t bits)
{
    const char *value = op->step->bits.value ? op->step->bits.value : "value";
    const char *names = op->step->bits.names ? op->step->bits.names : "flagNameList";
    int64_t v;

    json_each (type, types) {
        const struct json *mask = json_get(type, value);
        const struct json *list = json_get(type, names);
        if (!mask || mask->kind != JSON_NUMBER || !convert_int(mask->text, &v) || !list ||
            (list->kind != JSON_STRING && list->kind != JSON_ARRAY) || v <= 0 || (bits & v) != v)
            continue;
        return add_names(r, op, list);
    }
    return true;
}

static bool do_bits(struct making_row *r, const struct op *op)
{
    struct slice json, ignored;
    const struct fetched_row *row;
    struct err why = {0};
    int64_t bits;
    bool has;

    if (!field_json(r, &op->refs[op->ref_count - 1], &json))
        return false;
    if (!json.p || !convert_int(json, &bits))
        return true;
    if (!find_rows(r, op, &has, &row))
        return false;
    if (!row || !row->cells[0].p)
        return missing(r, op, &op->step->bits.config.missing, OTHERWISE_OMIT, has, &ignored);
    const struct json *config = json_parse(row->cells[0], &r->m->work->mem, &why);
    const struct json *types = at_path(config, op->step->bits.path);
    if (!types || types->kind != JSON_ARRAY)
        return fail(r->m, "bad_config", "field %s: the table of its flags %s", word_of(op),
                    config ? "has no list at the path" : "is no JSON");
    return match_bits(r, op, types, bits);
}

static bool do_flag(struct making_row *r, const struct op *op, struct slice *out)
{
    const struct mapping_otherwise *if_null = &op->step->flag.if_null;
    struct slice json, with = slice_str(op->step->flag.with);

    if (!field_json(r, &op->refs[0], &json))
        return false;
    bool has = json.p && !json_is_null(json) &&
               (op->step->flag.compare == COMPARE_EQ || convert_kind(json) == JSON_NUMBER);
    if (has)
        *out = slice_str(convert_compare(json, op->step->flag.compare, with, &r->m->work->mem)
                             ? "true"
                             : "false");
    else if (kind_of(if_null, OTHERWISE_OMIT) == OTHERWISE_VALUE)
        *out = slice_str(if_null->json);
    return true;
}

/* ---- JSON in texts -----------------------------------------------------------------------------
 */

static bool bad_json(struct making_row *r, const struct op *op)
{
    return fail(r->m, "bad_json",
                "field %s: its text is no JSON of the kind that the mapping wants",
                op->step->from.name ? op->step->from.name : op->step->field.name);
}

/* A rule's value instead; null slice: no field. */
static bool replace(struct making_row *r, const struct op *op, const struct mapping_otherwise *o,
                    struct slice *out)
{
    if (o->kind == OTHERWISE_FAIL)
        return bad_json(r, op);
    *out = o->kind == OTHERWISE_VALUE ? slice_str(o->json) : SLICE_NULL;
    return true;
}

/* text: a null slice for null. */
static bool parse_text(struct making_row *r, const struct op *op, struct slice text,
                       struct slice *out)
{
    const struct mapping_otherwise *bad = &op->step->parse.bad;
    const struct mapping_otherwise *blank =
        op->step->parse.blank.said ? &op->step->parse.blank : bad;
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;

    if (!text.p && !op->step->parse.blank.said && bad->kind == OTHERWISE_FAIL) {
        *out = null_text;
        return true;
    }
    enum convert_result result =
        text.p ? convert_parse(text, op->step->parse.as, &r->m->work->mem, b) : CONVERT_BLANK;
    switch (result) {
    case CONVERT_DONE:
        return take_text(r, begin, out);
    case CONVERT_BLANK:
        return replace(r, op, blank, out);
    case CONVERT_BAD:
        r->m->counts->bad_json += bad->kind != OTHERWISE_FAIL;
        return replace(r, op, bad, out);
    case CONVERT_FULL:
        break;
    }
    buf_cut(b, begin);
    return no_room(r->m);
}

static bool do_parse(struct making_row *r, const struct op *op, struct slice *out)
{
    const struct field *f = &op->refs[0];
    struct slice json, text;

    if (is_plain_text(r, f))
        return parse_text(r, op, r->cells[f->cell], out);
    if (!field_json(r, f, &json))
        return false;
    if (!json.p || json_is_null(json))
        return parse_text(r, op, SLICE_NULL, out);
    if (convert_kind(json) != JSON_STRING) {
        r->m->counts->bad_json += op->step->parse.bad.kind != OTHERWISE_FAIL;
        return replace(r, op, &op->step->parse.bad, out);
    }
    return convert_text(json, &r->m->work->mem, &text) ? parse_text(r, op, text, out)
                                                       : no_room(r->m);
}

static bool is_chosen(const struct mapping_names *keys, struct slice key)
{
    for (size_t i = 0; i < keys->count; i++)
        if (slice_is(key, keys->list[i].name))
            return true;
    return keys->count == 0;
}

static bool add_parsed(struct making_row *r, const struct op *op, const struct json *member,
                       bool *any)
{
    struct buf *b = &r->m->work->text;
    bool chosen = is_chosen(&op->step->parse.keys, member->key);
    struct slice value = SLICE_NULL;

    if (chosen && member->kind != JSON_STRING && member->kind != JSON_NULL) {
        r->m->counts->bad_json += op->step->parse.bad.kind != OTHERWISE_FAIL;
        if (!replace(r, op, &op->step->parse.bad, &value))
            return false;
    } else if (chosen && !parse_text(r, op, member->text, &value)) {
        return false;
    }
    if (chosen && !value.p)
        return true;
    if (*any)
        buf_add_byte(b, ',');
    *any = true;
    json_add_string(b, member->key);
    buf_add_byte(b, ':');
    if (chosen)
        buf_add_slice(b, value);
    else
        json_write(b, member);
    return true;
}

static bool add_all_parsed(struct making_row *r, const struct op *op, const struct json *map)
{
    struct buf *b = &r->m->work->text;
    bool any = false;

    buf_add_byte(b, '{');
    json_each (member, map) {
        if (!add_parsed(r, op, member, &any))
            return false;
    }
    buf_add_byte(b, '}');
    return true;
}

/* A map of maps, which all keep their keys. */
static bool add_maps(struct making_row *r, const struct op *op, const struct json *maps)
{
    struct buf *b = &r->m->work->text;

    buf_add_byte(b, '{');
    json_each (map, maps) {
        if (map != maps->first)
            buf_add_byte(b, ',');
        json_add_string(b, map->key);
        buf_add_byte(b, ':');
        if (!add_all_parsed(r, op, map))
            return false;
    }
    buf_add_byte(b, '}');
    return true;
}

static bool is_map_of_maps(const struct field *f)
{
    return f->source == FROM_COLUMN && f->type->args[1]->kind == TYPE_MAP;
}

static bool do_parse_values(struct making_row *r, const struct op *op, struct slice *out)
{
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;
    struct err why = {0};
    struct slice json;
    uint64_t bad_utf8 = r->m->counts->bad_utf8;

    if (!field_json(r, &op->refs[0], &json))
        return false;
    /* Texts are made UTF-8 on the way, which JSON must not be: what was bad is no JSON. */
    bool invalid = r->m->counts->bad_utf8 > bad_utf8;
    r->m->counts->bad_utf8 = bad_utf8;
    if (!json.p)
        return true;
    if (json_is_null(json) || json_is_empty(json)) {
        *out = op->step->parse.omit_empty ? SLICE_NULL : slice_str("{}");
        return true;
    }
    const struct json *v = json_parse(json, &r->m->work->mem, &why);
    if (!v)
        return no_room(r->m);
    if (v->kind != JSON_OBJECT || invalid) {
        r->m->counts->bad_json += op->step->parse.bad.kind != OTHERWISE_FAIL;
        return replace(r, op, &op->step->parse.bad, out);
    }
    bool ok = is_map_of_maps(&op->refs[0]) ? add_maps(r, op, v) : add_all_parsed(r, op, v);
    return ok && take_text(r, begin, out);
}

/* ---- other steps -------------------------------------------------------------------------------
 */

static bool do_concat(struct making_row *r, const struct op *op, struct slice *out)
{
    struct buf *b = &r->m->work->text;
    struct buf joined;
    bool any = false, ok = true;
    struct slice text;

    buf_init(&joined, b->max);
    for (uint16_t i = 0; i < op->ref_count && ok; i++) {
        ok = field_text(r, &op->refs[i], &text);
        if (!ok || !text.n)
            continue;
        if (any && op->step->concat.with)
            buf_add_str(&joined, op->step->concat.with);
        any = true;
        buf_add_slice(&joined, text);
    }
    size_t begin = b->len;
    if (ok && any) {
        json_add_string(b, buf_slice(&joined));
        ok = take_text(r, begin, out);
    } else {
        *out = null_text;
    }
    buf_fini(&joined);
    return ok;
}

static bool do_cast(struct making_row *r, const struct op *op, struct slice json, struct slice *out)
{
    const struct mapping_otherwise *bad = &op->step->cast.bad;
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;

    switch (convert_cast(json, op->step->cast.to, &r->m->work->mem, b)) {
    case CONVERT_DONE:
        return take_text(r, begin, out);
    case CONVERT_BLANK:
    case CONVERT_BAD:
        break;
    case CONVERT_FULL:
        buf_cut(b, begin);
        return no_room(r->m);
    }
    buf_cut(b, begin);
    if (bad->kind == OTHERWISE_FAIL)
        return fail(r->m, "bad_cast", "field %s: the value can't be cast", word_of(op));
    *out = bad->kind == OTHERWISE_VALUE ? slice_str(bad->json) : SLICE_NULL;
    return true;
}

static bool do_split(struct making_row *r, const struct op *op, struct slice *out)
{
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;
    struct slice text;

    if (!field_text(r, &op->refs[0], &text))
        return false;
    if (!text.p) {
        *out = null_text;
        return true;
    }
    convert_split(text, op->step->split.by, !op->step->split.no_trim, op->step->split.keep_empty,
                  b);
    return take_text(r, begin, out);
}

/* Steps on one value that is there. */
static bool do_value(struct making_row *r, const struct op *op, struct slice json,
                     struct slice *out)
{
    struct buf *b = &r->m->work->text;
    size_t begin = b->len;

    switch (op->step->kind) {
    case STEP_TO_JSON:
        json_add_string(b, json);
        return take_text(r, begin, out);
    case STEP_CAST:
        return do_cast(r, op, json, out);
    case STEP_SPLIT:
        return do_split(r, op, out);
    case STEP_LOWER:
    case STEP_UPPER:
        if (convert_case(json, op->step->kind == STEP_UPPER, &r->m->work->mem, b) == CONVERT_DONE)
            return take_text(r, begin, out);
        buf_cut(b, begin);
        return no_room(r->m);
    default:
        *out = json;
        return true;
    }
}

static bool run_op(struct making_row *r, const struct op *op)
{
    struct slice *out, json;

    if (op->step->kind == STEP_BIT_FLAGS)
        return do_bits(r, op);
    out = &r->slots[op->slot];
    *out = SLICE_NULL;
    switch (op->step->kind) {
    case STEP_LOOKUP:
        return do_lookup(r, op, out);
    case STEP_CHILDREN:
    case STEP_FIRST:
    case STEP_ONLY:
        return do_rows(r, op, out);
    case STEP_FLAG:
        return do_flag(r, op, out);
    case STEP_PARSE_JSON:
        return do_parse(r, op, out);
    case STEP_PARSE_JSON_VALUES:
        return do_parse_values(r, op, out);
    case STEP_CONCAT:
        return do_concat(r, op, out);
    default:
        break;
    }
    if (!field_json(r, &op->refs[0], &json))
        return false;
    if (op->step->kind == STEP_DEFAULT) {
        *out = json.p && !json_is_null(json) ? json : slice_str(op->step->json);
        return true;
    }
    if (json.p && !json_is_null(json))
        return do_value(r, op, json, out);
    *out = json;
    return true;
}

/* ---- a row -------------------------------------------------------------------------------------
 */

bool make_begin(struct making_row *r, struct making *m, const struct program *p,
                const struct slice *cells)
{
    *r = (struct making_row){.m = m, .program = p, .cells = cells};
    if (!p->slot_count)
        return true;
    r->slots = arena_zalloc(&m->work->mem, p->slot_count * sizeof *r->slots);
    return r->slots ? true : no_room(m);
}

bool make_holds(struct making_row *r, bool *holds)
{
    struct slice json;

    *holds = true;
    for (size_t i = 0; *holds && i < r->program->where_count; i++) {
        const struct condition *c = &r->program->where[i];
        if (!field_json(r, &c->field, &json))
            return false;
        *holds = false;
        for (size_t n = 0; !*holds && n < c->count; n++)
            *holds = convert_equal(json, c->values[n], &r->m->work->mem);
    }
    return true;
}

bool make_run(struct making_row *r)
{
    for (size_t i = 0; i < r->program->op_count; i++)
        if (!run_op(r, &r->program->ops[i]))
            return false;
    return true;
}

static bool want_key(struct making_row *r, const struct op *op)
{
    struct making *m = r->m;
    struct slice *key = NULL;

    if (!make_key(r, op, &key))
        return err_clear(m->err), true; /* it fails when it is made */
    return !key || fetched_want(m->fetched, op->read, key, op->key_count);
}

static bool want_children(struct making_row *r, const struct op *op)
{
    struct making *m = r->m;
    const struct fetched_row *row = NULL;
    struct making_row c;
    bool has, holds;

    if (!find_rows(r, op, &has, &row))
        return err_clear(m->err), true;
    for (; row; row = row->next) {
        if (!begin_child(&c, r, op, row, &holds))
            return err_clear(m->err), true;
        if (holds && !make_need(&c))
            return false;
        if (op->step->kind == STEP_FIRST && holds)
            break;
    }
    return true;
}

bool make_need(struct making_row *r)
{
    int level = r->m->level;

    for (size_t i = 0; i < r->program->op_count; i++) {
        const struct op *op = &r->program->ops[i];
        if (op->key && op->read_level == level && !want_key(r, op))
            return false;
        if (op->each && op->each->has_reads && op->read_level < level && !want_children(r, op))
            return false;
        if (op->for_keys && op->level <= level && !run_op(r, op))
            return err_clear(r->m->err), true;
    }
    return true;
}
