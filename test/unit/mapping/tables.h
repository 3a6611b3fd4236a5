/* Schemas for tests, and rows of them from JSON as SELECT JSON gives it. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/schema.h"
#include "model/value.h"

static const struct type *const text_args[] = {&(const struct type){.kind = TYPE_TEXT},
                                               &(const struct type){.kind = TYPE_TEXT}};
static const struct type text_type = {.kind = TYPE_TEXT};
static const struct type int_type = {.kind = TYPE_INT};
static const struct type boolean_type = {.kind = TYPE_BOOLEAN};
static const struct type timestamp_type = {.kind = TYPE_TIMESTAMP};
static const struct type double_type = {.kind = TYPE_DOUBLE};

static const struct type list_type = {.kind = TYPE_LIST, .arg_count = 1, .args = text_args};
static const struct type map_type = {.kind = TYPE_MAP, .arg_count = 2, .args = text_args};
static const struct type *const nested_args[] = {&text_type, &map_type};
static const struct type nested_type = {.kind = TYPE_MAP, .arg_count = 2, .args = nested_args};

struct test_column {
    const char *name;
    const struct type *type;
    enum column_kind kind;
};

/* Columns in the order of a schema: key first, then by name. */
static struct schema *test_schema(const char *keyspace, const char *table,
                                  const struct test_column *columns, uint16_t count)
{
    struct schema *s = schema_new();

    s->keyspace = keyspace;
    s->table = table;
    s->column_count = count;
    s->columns = arena_zalloc(&s->mem, count * sizeof *s->columns);
    for (uint16_t i = 0; i < count; i++) {
        if (columns[i].kind == COLUMN_PARTITION_KEY)
            s->partition_key_count++;
        if (columns[i].kind == COLUMN_CLUSTERING)
            s->clustering_count++;
        s->columns[i] =
            (struct schema_column){.name = columns[i].name,
                                   .kind = columns[i].kind,
                                   .position = columns[i].kind <= COLUMN_CLUSTERING ? i : -1,
                                   .type = columns[i].type,
                                   .type_text = "?"};
    }
    return s;
}

static inline struct schema *course_batch(void)
{
    static const struct test_column columns[] = {
        {"courseid", &text_type, COLUMN_PARTITION_KEY},
        {"batchid", &text_type, COLUMN_CLUSTERING},
        {"cert_templates", &nested_type, COLUMN_REGULAR},
        {"created_date", &timestamp_type, COLUMN_REGULAR},
        {"createdby", &text_type, COLUMN_REGULAR},
        {"createddate", &text_type, COLUMN_REGULAR},
        {"createdfor", &list_type, COLUMN_REGULAR},
        {"description", &text_type, COLUMN_REGULAR},
        {"end_date", &timestamp_type, COLUMN_REGULAR},
        {"enddate", &text_type, COLUMN_REGULAR},
        {"enrollment_enddate", &timestamp_type, COLUMN_REGULAR},
        {"enrollmentenddate", &text_type, COLUMN_REGULAR},
        {"enrollmenttype", &text_type, COLUMN_REGULAR},
        {"mentors", &list_type, COLUMN_REGULAR},
        {"name", &text_type, COLUMN_REGULAR},
        {"start_date", &timestamp_type, COLUMN_REGULAR},
        {"startdate", &text_type, COLUMN_REGULAR},
        {"status", &int_type, COLUMN_REGULAR},
        {"tandc", &boolean_type, COLUMN_REGULAR},
        {"updated_date", &timestamp_type, COLUMN_REGULAR},
        {"updateddate", &text_type, COLUMN_REGULAR},
    };
    return test_schema("sunbird_courses", "course_batch", columns,
                       sizeof columns / sizeof *columns);
}

static inline struct schema *location_table(void)
{
    static const struct test_column columns[] = {
        {"id", &text_type, COLUMN_PARTITION_KEY}, {"code", &text_type, COLUMN_REGULAR},
        {"name", &text_type, COLUMN_REGULAR},     {"parentid", &text_type, COLUMN_REGULAR},
        {"type", &text_type, COLUMN_REGULAR},
    };
    return test_schema("sunbird", "location", columns, sizeof columns / sizeof *columns);
}

static inline void encode(const struct type *t, const struct json *v, struct buf *b);

static inline void encode_part(const struct type *t, const struct json *v, struct buf *b)
{
    size_t at = b->len;

    buf_add_u32(b, 0);
    encode(t, v, b);
    uint32_t n = __builtin_bswap32((uint32_t)(b->len - at - 4));
    memcpy(b->p + at, &n, 4);
}

/* The cell of a value; nothing for null. In texts SUB stands for a byte that no UTF-8 has. */
static inline void encode(const struct type *t, const struct json *v, struct buf *b)
{
    struct err err = {0};
    char text[64];

    switch (t->kind) {
    case TYPE_LIST:
        buf_add_u32(b, v->count);
        json_each (e, v)
            encode_part(t->args[0], e, b);
        return;
    case TYPE_MAP:
        buf_add_u32(b, v->count);
        json_each (e, v) {
            buf_add_u32(b, (uint32_t)e->key.n);
            buf_add_slice(b, e->key);
            encode_part(t->args[1], e, b);
        }
        return;
    case TYPE_TIMESTAMP: /* a blank stands for the T */
        snprintf(text, sizeof text, "%.*s", (int)v->text.n, (const char *)v->text.p);
        text[10] = 'T';
        ensure(value_from_text(t, slice_str(text), b, &err));
        return;
    case TYPE_BOOLEAN:
        buf_add_byte(b, v->truth);
        return;
    default: {
        size_t begin = b->len;
        ensure(value_from_text(t, v->text, b, &err));
        for (size_t i = begin; t->kind == TYPE_TEXT && i < b->len; i++)
            b->p[i] = b->p[i] == 0x1a ? 0xff : b->p[i];
    }
    }
}

/* Cells of the first `count` columns of the schema, in mem. */
static inline struct slice *encode_row(const struct schema *s, const struct json *row,
                                       struct arena *mem)
{
    struct slice *cells = arena_zalloc(mem, s->column_count * sizeof *cells);

    for (uint16_t i = 0; i < s->column_count; i++) {
        const struct json *v = json_get(row, s->columns[i].name);
        struct buf b;
        if (!v || v->kind == JSON_NULL)
            continue;
        buf_init(&b, 1 << 20);
        encode(s->columns[i].type, v, &b);
        cells[i] = slice_of(arena_strndup(mem, b.p ? b.p : (const uint8_t *)"", b.len), b.len);
        buf_fini(&b);
    }
    return cells;
}
