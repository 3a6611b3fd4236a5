/* Conditions on rows: what is read has CQL, and says of every cell yes or no. */
#include "source/where.h"

#include "model/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { COLUMNS = 20 };

/* The last byte is how much of the input, from its end, is a cell. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum type_kind kinds[COLUMNS] = {
        TYPE_TEXT,    TYPE_INT,    TYPE_BIGINT,  TYPE_DOUBLE,   TYPE_FLOAT,
        TYPE_DECIMAL, TYPE_VARINT, TYPE_UUID,    TYPE_INET,     TYPE_TIMESTAMP,
        TYPE_DATE,    TYPE_TIME,   TYPE_BLOB,    TYPE_BOOLEAN,  TYPE_TIMEUUID,
        TYPE_LIST,    TYPE_MAP,    TYPE_TINYINT, TYPE_DURATION, TYPE_SET};
    static const char *const names[COLUMNS] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
                                               "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"};
    static struct type types[COLUMNS];
    static struct schema_column columns[COLUMNS];
    static const struct type *args[] = {&types[0], &types[5]};
    const struct schema schema = {
        .keyspace = "k", .table = "t", .column_count = COLUMNS, .columns = columns};
    struct err err = {0};

    if (!size)
        return 0;
    for (int i = 0; i < COLUMNS; i++) {
        bool map = kinds[i] == TYPE_MAP, list = kinds[i] == TYPE_LIST || kinds[i] == TYPE_SET;
        types[i] = (struct type){.kind = kinds[i], .arg_count = map ? 2 : list, .args = args};
        columns[i] =
            (struct schema_column){.name = names[i], .type = &types[i], .kind = COLUMN_REGULAR};
    }
    size_t cell = data[size - 1] < size ? data[size - 1] : size - 1;
    struct slice text = slice_of(data, size - 1 - cell);
    AUTO(where) struct where *w = where_parse(&schema, text, &err);
    ensure((w != NULL) == (err.kind == ERR_NONE));
    for (size_t i = 0; w && i < w->count; i++) {
        const struct where_condition *c = &w->list[i];
        struct slice bytes = slice_of(data + text.n, cell);
        struct buf b;
        buf_init(&b, 1 << 22);
        if (where_has_cql(c))
            where_add_cql(&b, &schema, c);
        ensure(!b.full);
        buf_fini(&b);
        where_holds(c, bytes);
        ensure(!where_holds(c, SLICE_NULL) || c->op == WHERE_NULL);
        if (c->value_count == 1 && c->type == c->column_type) /* a value is as itself */
            ensure(where_holds(c, c->values[0]) == (c->op == WHERE_EQ || c->op == WHERE_LE ||
                                                    c->op == WHERE_GE || c->op == WHERE_IN));
    }
    return 0;
}
