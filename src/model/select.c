#include "model/select.h"

#include <string.h>

#include "base/text.h"

static const char *const functions[] = {"", "writetime", "ttl", "maxwritetime"};

/* Stored as many cells, each with a time of its own. The wire does not show "frozen", the schema's
 * text does. */
static bool has_elements(const struct schema_column *c)
{
    enum type_kind k = c->type->kind;

    return (k == TYPE_LIST || k == TYPE_SET || k == TYPE_MAP || k == TYPE_UDT) &&
           strncmp(c->type_text, "frozen<", 7) != 0;
}

/* NULL, or why not. */
static const char *no_times(const struct schema_column *c)
{
    if (c->kind == COLUMN_PARTITION_KEY || c->kind == COLUMN_CLUSTERING)
        return "is part of the primary key";
    if (c->type->kind == TYPE_COUNTER)
        return "is a counter";
    return c->type->kind == TYPE_EMPTY ? "holds no value" : NULL;
}

static bool find_column(const struct schema *s, struct slice name, uint16_t *out, struct err *err)
{
    AUTO_STR char *plain = xstrndup((const char *)name.p, name.n);
    int column;

    if (name.n >= 2 && name.p[0] == '"' && name.p[name.n - 1] == '"') {
        char *to = plain; /* quoted: as it stands, "" being one quote */
        for (size_t i = 1; i + 1 < name.n; i++) {
            *to++ = (char)name.p[i];
            i += name.p[i] == '"' && name.p[i + 1] == '"' && i + 2 < name.n;
        }
        *to = 0;
    }
    column = schema_find(s, slice_str(plain));
    if (column >= 0) {
        *out = (uint16_t)column;
        return true;
    }
    const char **names = xalloc((s->column_count + 1u) * sizeof *names);
    for (uint16_t i = 0; i < s->column_count; i++)
        names[i] = s->columns[i].name;
    const char *near = text_nearest(slice_str(plain), names);
    free(names);
    return err_set(err, ERR_USER,
                   near ? "%s.%s has no column \"%.60s\"; did you mean \"%s\""
                        : "%s.%s has no column \"%.60s\"",
                   s->keyspace, s->table, plain, near);
}

bool select_parse(const struct schema *s, struct slice text, struct select *out, struct err *err)
{
    struct select found = {0, SELECT_COLUMN};
    const uint8_t *open = NULL;

    text = text_trim(text);
    if (text.n && text.p[text.n - 1] == ')' && text.p[0] != '"')
        open = memchr(text.p, '(', text.n);
    if (!open)
        return find_column(s, text, &found.column, err) && (*out = found, true);
    struct slice name = text_trim(slice_of(text.p, (size_t)(open - text.p)));
    struct slice inside = text_trim(slice_of(open + 1, text.n - (size_t)(open - text.p) - 2));
    for (size_t i = SELECT_WRITETIME; i <= SELECT_MAXWRITETIME; i++)
        if (text_same_nocase(name, slice_str(functions[i])))
            found.what = (enum select_what)i;
    if (found.what == SELECT_COLUMN)
        return err_set(err, ERR_USER,
                       "unknown function \"%.*s\"; allowed: writetime, ttl, maxwritetime",
                       (int)(name.n > 60 ? 60 : name.n), (const char *)name.p);
    if (!find_column(s, inside, &found.column, err))
        return false;
    const struct schema_column *c = &s->columns[found.column];
    if (no_times(c))
        return err_set(err, ERR_USER, "column \"%s\" has no %s: it %s", c->name,
                       functions[found.what], no_times(c));
    *out = found;
    return true;
}

void select_add_text(struct buf *b, const struct schema *s, struct select which)
{
    if (which.what == SELECT_COLUMN) {
        schema_add_quoted(b, s->columns[which.column].name);
        return;
    }
    buf_add_str(b, functions[which.what]);
    buf_add_byte(b, '(');
    schema_add_quoted(b, s->columns[which.column].name);
    buf_add_byte(b, ')');
}

const struct type *select_type(const struct schema *s, struct select which)
{
    static const struct type number = {.kind = TYPE_INT}, big = {.kind = TYPE_BIGINT};
    static const struct type *const number_arg[] = {&number}, *const big_arg[] = {&big};
    static const struct type numbers = {.kind = TYPE_LIST, .arg_count = 1, .args = number_arg};
    static const struct type bigs = {.kind = TYPE_LIST, .arg_count = 1, .args = big_arg};
    const struct schema_column *c = &s->columns[which.column];

    switch (which.what) {
    case SELECT_COLUMN:
        return c->type;
    case SELECT_WRITETIME:
        return has_elements(c) ? &bigs : &big;
    case SELECT_TTL:
        return has_elements(c) ? &numbers : &number;
    case SELECT_MAXWRITETIME:
        return &big;
    }
    return NULL;
}

bool select_last_write(const struct schema *s, uint16_t column, struct select *out)
{
    const struct schema_column *c = &s->columns[column];

    if (no_times(c))
        return false;
    *out = (struct select){column, has_elements(c) ? SELECT_MAXWRITETIME : SELECT_WRITETIME};
    return true;
}
