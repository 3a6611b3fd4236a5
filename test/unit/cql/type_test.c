/* Types from [option] bytes, class text and CQL text: all name the same thing. */
#include "cql/vectors.h"

#include "cql/type.h"

static struct arena mem;

static int begin(void **state)
{
    arena_init(&mem, 8 << 20);
    return vectors_begin(state);
}

static int end(void **state)
{
    arena_fini(&mem);
    return vectors_end(state);
}

static const struct type *option_of(struct slice bytes)
{
    const struct type *t = NULL;
    struct err err = {0};

    if (!type_take_option(&bytes, &mem, &t, &err))
        fail_msg("%s", err.text);
    assert_int_equal(bytes.n, 0);
    return t;
}

/* The two user types of the recording. */
static const struct type *find_recorded(void *ctx, struct slice name)
{
    const char *fields = slice_is(name, "inner_t") ? "int text"
                         : slice_is(name, "addr")  ? "text int frozen<set<text>> frozen<inner_t>"
                                                   : NULL;
    static const char *const inner_names[] = {"a", "b"};
    static const char *const addr_names[] = {"street", "zip", "tags", "loc"};
    const struct type_lookup lookup = {find_recorded, ctx};

    if (!fields)
        return NULL;
    const char *const *names = slice_is(name, "addr") ? addr_names : inner_names;
    struct type *t = arena_zalloc(&mem, sizeof *t);
    const struct type **args = arena_zalloc(&mem, 4 * sizeof(struct type *));
    struct slice *field_names = arena_zalloc(&mem, 4 * sizeof *field_names);
    struct err err = {0};
    for (const char *at = fields; *at;) {
        size_t n = strcspn(at, " ");
        assert_true(type_parse_cql(slice_of(at, n), &lookup, &mem, &args[t->arg_count], &err));
        field_names[t->arg_count] = slice_str(names[t->arg_count]);
        t->arg_count++;
        at += n + (at[n] == ' ');
    }
    t->kind = TYPE_UDT;
    t->name = slice_of(arena_strndup(&mem, name.p, name.n), name.n);
    t->args = args;
    t->field_names = field_names;
    return t;
}

static const struct type_lookup recorded = {find_recorded, NULL};

/* Like the server's text, but without "frozen<" ">". */
static const char *without_frozen(struct slice text)
{
    char *to = arena_strndup(&mem, text.p, text.n);
    char *at = to;
    int depth = 0;
    uint64_t frozen = 0; /* one bit a level */

    for (const char *p = text_of(text); *p; p++) {
        if (strncmp(p, "frozen<", 7) == 0) {
            p += 6;
            frozen |= UINT64_C(1) << ++depth;
            continue;
        }
        if (*p == '<')
            frozen &= ~(UINT64_C(1) << ++depth);
        if (*p == '>' && depth && frozen >> depth-- & 1)
            continue;
        *at++ = *p;
    }
    *at = '\0';
    return to;
}

static const char *type_text(const struct type *t)
{
    struct buf b;

    buf_init(&b, 4096);
    type_add_text(&b, t);
    const char *text = text_of(buf_slice(&b));
    buf_fini(&b);
    return text;
}

static void every_recorded_type(void **state)
{
    (void)state;
    int count = 0;

    json_each (v, vectors_section("types")) {
        struct slice schema_type = json_get_string(v, "schema_type");
        if (!json_get(v, "option"))
            continue; /* the server refused the value */
        const struct type *v4 = option_of(vector_bytes(v, "option"));
        const struct type *parsed;
        struct err err = {0};
        struct slice option_v5 = vector_bytes(v, "option_v5");
        if (option_v5.p)
            assert_true(type_equal(v4, option_of(option_v5)));
        if (!type_parse_cql(schema_type, &recorded, &mem, &parsed, &err))
            fail_msg("%s: %s", text_of(schema_type), err.text);
        assert_true(type_equal(parsed, v4));
        if (v4->kind == TYPE_UUID) /* LexicalUUIDType has no name in CQL */
            assert_string_equal(type_text(v4), "uuid");
        else
            assert_string_equal(type_text(v4), without_frozen(schema_type));
        count++;
        /* Cut anywhere, the bytes are refused. */
        struct slice option = vector_bytes(v, "option");
        for (size_t n = 0; n < option.n; n++) {
            struct slice in = slice_of(option.p, n);
            const struct type *ignored;
            assert_false(type_take_option(&in, &mem, &ignored, &err));
        }
        arena_reset(&mem);
    }
    assert_int_equal(count, 131);
}

static void types_of_system_tables(void **state)
{
    (void)state;
    json_each (table, vectors_section("schema")) {
        json_each (option, json_get(table, "column_options"))
            assert_non_null(option_of(unhex(option->text)));
    }
    json_each (row, json_get(json_get(vectors_section("schema"), "columns"), "text")) {
        const struct json *last = row->first;
        while (last->next)
            last = last->next;
        const struct type *t;
        struct err err = {0};
        assert_true(type_parse_cql(last->text, &recorded, &mem, &t, &err));
        assert_string_equal(type_text(t), text_of(last->text));
    }
    json_each (row, json_get(json_get(vectors_section("schema"), "dropped_columns"), "text")) {
        const struct json *last = row->first;
        while (last->next)
            last = last->next;
        const struct type *t;
        struct err err = {0};
        assert_true(type_parse_cql(last->text, &recorded, &mem, &t, &err));
        assert_string_equal(type_text(t), without_frozen(last->text));
    }
    json_each (v, vectors_section("writetime")) {
        struct slice option = vector_bytes(v, "option");
        if (option.p)
            assert_non_null(option_of(option));
    }
}

#define MARSHAL "org.apache.cassandra.db.marshal."

static void class_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *want;
    } rows[] = {
        {MARSHAL "AsciiType", "ascii"},
        {"LongType", "bigint"},
        {MARSHAL "BytesType", "blob"},
        {MARSHAL "BooleanType", "boolean"},
        {MARSHAL "CounterColumnType", "counter"},
        {MARSHAL "DecimalType", "decimal"},
        {MARSHAL "DoubleType", "double"},
        {MARSHAL "FloatType", "float"},
        {MARSHAL "Int32Type", "int"},
        {MARSHAL "TimestampType", "timestamp"},
        {MARSHAL "DateType", "timestamp"},
        {MARSHAL "UUIDType", "uuid"},
        {MARSHAL "LexicalUUIDType", "uuid"},
        {MARSHAL "UTF8Type", "text"},
        {MARSHAL "IntegerType", "varint"},
        {MARSHAL "TimeUUIDType", "timeuuid"},
        {MARSHAL "InetAddressType", "inet"},
        {MARSHAL "SimpleDateType", "date"},
        {MARSHAL "TimeType", "time"},
        {MARSHAL "ShortType", "smallint"},
        {MARSHAL "ByteType", "tinyint"},
        {MARSHAL "DurationType", "duration"},
        {MARSHAL "EmptyType", "empty"},
        {MARSHAL "ReversedType(" MARSHAL "TimestampType)", "timestamp"},
        {MARSHAL "FrozenType(" MARSHAL "ListType(" MARSHAL "UTF8Type))", "list<text>"},
        {MARSHAL "MapType( UTF8Type , Int32Type )", "map<text, int>"},
        {MARSHAL "TupleType(UTF8Type,SetType(DurationType))", "tuple<text, set<duration>>"},
        {MARSHAL "VectorType(" MARSHAL "FloatType , 3)", "vector<float, 3>"},
        {"VectorType(VectorType(UTF8Type,1),2)", "vector<vector<text, 1>, 2>"},
        {MARSHAL "UserType(ks,61646472,7a6970:Int32Type,63:ListType(UTF8Type))", "addr"},
        {MARSHAL "UserType(ks,4d792054,61:Int32Type)", "\"My T\""},
        {MARSHAL "CompositeType(UTF8Type,Int32Type)",
         "'" MARSHAL "CompositeType(UTF8Type,Int32Type)'"},
        {"org.example.PointType", "'org.example.PointType'"},
        {"org.example.UTF8Type", "'org.example.UTF8Type'"},
        {"ListType(org.example.Thing(a, (b)))", "list<'org.example.Thing(a, (b))'>"},
        {"UTF8Type(x)", "'UTF8Type(x)'"},
    };
    static const struct {
        const char *text;
        const char *error;
    } bad[] = {
        {"", "type text: a class name is missing"},
        {"ListType(", "type text: a class name is missing"},
        {"ListType(UTF8Type", "type text: a bracket is not closed"},
        {"ListType(UTF8Type,UTF8Type)", "type text: a class has the wrong number of arguments"},
        {"MapType(UTF8Type)", "type text: a class has the wrong number of arguments"},
        {"VectorType(FloatType)", "type text: a vector's dimension is no positive number"},
        {"VectorType(FloatType,0)", "type text: a vector's dimension is no positive number"},
        {"VectorType(FloatType,99999999999)",
         "type text: a vector's dimension is no positive number"},
        {"UserType(ks)", "type text: a user type without a name"},
        {"UserType(ks,6x)", "type text: a user type's names are not hex digits"},
        {"UserType(ks,61,61)", "type text: a user type's field without a type"},
        {"Thing(((", "type text: a bracket is not closed"},
        {"UTF8Type)", "type text: something follows the end"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct type *t;
        struct err err = {0};
        if (!type_parse_class(slice_str(rows[i].text), &mem, &t, &err))
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_string_equal(type_text(t), rows[i].want);
        if (t->kind == TYPE_UDT) {
            assert_string_equal(text_of(t->field_names[0]), t->arg_count == 2 ? "zip" : "a");
            assert_int_equal(t->args[0]->kind, TYPE_INT);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct type *t;
        struct err err = {0};
        assert_false(type_parse_class(slice_str(bad[i].text), &mem, &t, &err));
        assert_int_equal(err.kind, ERR_REJECT);
        assert_string_equal(err.text, bad[i].error);
    }
}

static const struct type *find_quoted(void *ctx, struct slice name)
{
    static const struct type t = {.kind = TYPE_UDT, .name = {(const uint8_t *)"a\"B,<", 5}};

    (void)ctx;
    return slice_eq(name, t.name) ? &t : NULL;
}

static void cql_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *want; /* NULL: the same */
    } rows[] = {
        {"varchar", "text"},
        {"MAP<text,frozen<list<int>>>", "map<text, list<int>>"},
        {" set < uuid > ", "set<uuid>"},
        {"vector<float, 3>", NULL},
        {"vector<frozen<\"a\"\"B,<\">,2>", "vector<\"a\"\"B,<\", 2>"},
        {"frozen<tuple<int, tuple<text>>>", "tuple<int, tuple<text>>"},
        {"'org.example.X'", NULL},
        {"'org.apache.cassandra.db.marshal.Int32Type'", "int"},
        {"map<text, 'org.example.It''s'>", NULL},
        {"empty", NULL},
        {"counter", NULL},
    };
    static const struct {
        const char *text;
        const char *error;
    } bad[] = {
        {"", "type text: a type is missing"},
        {"list<", "type text: a type is missing"},
        {"list<int", "type text: a bracket is not closed"},
        {"list", "type text: a type has the wrong number of arguments"},
        {"int<int>", "type text: a type has the wrong number of arguments"},
        {"map<int>", "type text: a type has the wrong number of arguments"},
        {"list<int, int>", "type text: a type has the wrong number of arguments"},
        {"vector<float>", "type text: a type has the wrong number of arguments"},
        {"vector<float, x>", "type text: a vector's dimension is no positive number"},
        {"int int", "type text: type \"int int\" is not known"},
        {"int>", "type text: something follows the end"},
        {"\"a", "type text: a quote is not closed"},
        {"address", "type text: type \"address\" is not known"},
    };
    const struct type_lookup lookup = {find_quoted, NULL};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct type *t;
        struct err err = {0};
        if (!type_parse_cql(slice_str(rows[i].text), &lookup, &mem, &t, &err))
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_string_equal(type_text(t), rows[i].want ? rows[i].want : rows[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct type *t;
        struct err err = {0};
        assert_false(
            type_parse_cql(slice_str(bad[i].text), i % 2 ? &lookup : NULL, &mem, &t, &err));
        assert_int_equal(err.kind, ERR_REJECT);
        assert_string_equal(err.text, bad[i].error);
    }
}

static void too_deep(void **state)
{
    (void)state;
    for (int depth = TYPE_DEPTH_MAX - 2; depth <= TYPE_DEPTH_MAX + 1; depth++) {
        struct buf cql, class, option;
        const struct type *t;
        struct err err = {0};
        bool fits = depth < TYPE_DEPTH_MAX;
        buf_init(&cql, 4096);
        buf_init(&class, 4096);
        buf_init(&option, 4096);
        for (int i = 0; i < depth; i++) {
            buf_add_str(&cql, "list<");
            buf_add_str(&class, "ListType(");
            buf_add_u16(&option, TYPE_LIST);
        }
        buf_add_str(&cql, "int");
        buf_add_str(&class, "Int32Type");
        buf_add_u16(&option, TYPE_INT);
        for (int i = 0; i < depth; i++) {
            buf_add_str(&cql, ">");
            buf_add_str(&class, ")");
        }
        struct slice in = buf_slice(&option);
        assert_int_equal(type_parse_cql(buf_slice(&cql), NULL, &mem, &t, &err), fits);
        assert_int_equal(err.kind, fits ? ERR_NONE : ERR_REJECT);
        assert_int_equal(type_parse_class(buf_slice(&class), &mem, &t, &err), fits);
        assert_int_equal(type_take_option(&in, &mem, &t, &err), fits);
        assert_int_equal(err.kind, fits ? ERR_NONE : ERR_RETRY);
        buf_fini(&cql);
        buf_fini(&class);
        buf_fini(&option);
    }
}

static void a_full_arena(void **state)
{
    (void)state;
    struct arena small;
    const struct type *t;
    struct err err = {0};
    struct slice in = unhex_text("00200020002000200009");

    arena_init(&small, 64);
    assert_false(type_take_option(&in, &small, &t, &err));
    assert_int_equal(err.kind, ERR_SYSTEM);
    err_clear(&err);
    assert_false(type_parse_cql(slice_str("list<set<int>>"), NULL, &small, &t, &err));
    assert_int_equal(err.kind, ERR_SYSTEM);
    arena_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_type),
        cmocka_unit_test(types_of_system_tables),
        cmocka_unit_test(class_texts),
        cmocka_unit_test(cql_texts),
        cmocka_unit_test(too_deep),
        cmocka_unit_test(a_full_arena),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
