/* Mapping files: whatever is accepted can be compiled, or is refused with a place. */
#include "mapping/file.h"
#include "mapping/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct schema *table(void)
{
    static const struct type text = {.kind = TYPE_TEXT}, number = {.kind = TYPE_INT};
    static const struct type *const args[] = {&text};
    static const struct type list = {.kind = TYPE_LIST, .arg_count = 1, .args = args};
    static const struct schema_column columns[] = {
        {"a", COLUMN_PARTITION_KEY, 0, false, &text, "text"},
        {"b", COLUMN_CLUSTERING, 0, false, &number, "int"},
        {"l", COLUMN_REGULAR, -1, false, &list, "list<text>"},
        {"x", COLUMN_REGULAR, -1, false, &text, "text"},
    };
    struct schema *s = schema_new();

    s->keyspace = "k";
    s->table = "t";
    s->column_count = 4;
    s->partition_key_count = s->clustering_count = 1;
    s->columns = arena_alloc(&s->mem, sizeof columns);
    memcpy(s->columns, columns, sizeof columns);
    return s;
}

/* What was written is JSON. */
static void write_row(const struct plan *p)
{
    struct slice cells[] = {slice_str("A"), slice_of("\0\0\0\1", 4), SLICE_NULL, slice_str("X")};
    struct json_counts counts = {0};
    struct err err = {0};
    struct buf id, doc;
    struct arena mem;
    struct plan_work work;

    buf_init(&id, 4096);
    buf_init(&doc, 4 << 20);
    arena_init(&mem, 64 << 20);
    plan_work_init(&work, 64 << 20);
    if (plan_column_count(p) == 4 && plan_id(p, cells, &id, &err) &&
        plan_make(p, cells, buf_slice(&id), NULL, &work, &doc, &counts, &err))
        ensure(json_parse(buf_slice(&doc), &mem, &err));
    plan_work_fini(&work);
    arena_fini(&mem);
    buf_fini(&id);
    buf_fini(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    AUTO(mapping) struct mapping *m = mapping_parse(slice_of(data, size), "m.yaml", &err);

    if (!m) {
        ensure(err.kind == ERR_USER && err.text[0]);
        return 0;
    }
    AUTO(schema) struct schema *s = table();
    AUTO(plan) struct plan *p = plan_compile(m, s, &err);
    if (p)
        write_row(p);
    else
        ensure(err.kind == ERR_USER && !strncmp(err.text, "m.yaml:", 7));
    return 0;
}
