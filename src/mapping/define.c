#include "mapping/define.h"

#include <string.h>

#include "base/text.h"

/* ---- mapping -----------------------------------------------------------------------------------
 */

/* A plain word may stand in YAML as it is; anything else is quoted as in JSON, which YAML reads. */
static void add_yaml(struct buf *out, const char *text)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n",   NULL};
    bool plain = *text >= 'a' && *text <= 'z' &&
                 strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(text);

    for (size_t i = 0; words[i]; i++)
        plain = plain && strcmp(text, words[i]) != 0;
    if (plain)
        buf_add_str(out, text);
    else
        json_add_string(out, slice_str(text));
}

static bool is_taken(const struct schema *s, uint16_t but, struct slice name)
{
    for (uint16_t i = 0; i < s->column_count; i++)
        if (i != but && slice_is(name, s->columns[i].name))
            return true;
    return false;
}

/* Without what Elasticsearch refuses, and unlike any other column. Two such columns may still meet:
 * then the mapping says so when it is used. */
static void add_field_name(const struct schema *s, uint16_t column, struct buf *out)
{
    const char *name = s->columns[column].name;
    size_t begin = out->len;

    while (*name == '_')
        name++;
    for (; *name; name++)
        buf_add_byte(out, *name == '.' ? '_' : (uint8_t)*name);
    if (out->len == begin)
        buf_add_str(out, "field");
    while (is_taken(s, column, slice_of(out->p + begin, out->len - begin)))
        buf_add_byte(out, '_');
}

static bool is_renamed(const char *column)
{
    return column[0] == '_' || !column[0] || strchr(column, '.');
}

static void add_key(const struct schema *s, struct buf *out)
{
    uint16_t count = (uint16_t)(s->partition_key_count + s->clustering_count);

    for (uint16_t i = 0; i < count; i++) {
        if (i)
            buf_add_str(out, ", ");
        add_yaml(out, s->columns[i].name);
    }
}

static void add_renames(const struct schema *s, struct buf *out)
{
    bool any = false;

    for (uint16_t i = 0; i < s->column_count; i++)
        any = any || is_renamed(s->columns[i].name);
    buf_add_str(out, any ? "rename: # column: field\n" : "rename: {} # column: field\n");
    for (uint16_t i = 0; i < s->column_count; i++) {
        struct buf name;

        if (!is_renamed(s->columns[i].name))
            continue;
        buf_init(&name, 1 << 20);
        add_field_name(s, i, &name);
        buf_add_str(out, "  ");
        add_yaml(out, s->columns[i].name);
        buf_add_str(out, ": ");
        add_yaml(out, buf_cstr(&name));
        buf_add_byte(out, '\n');
        buf_fini(&name);
    }
}

void define_mapping(const struct schema *s, const char *index, struct buf *out)
{
    buf_add_str(out, "# How a row of ");
    buf_add_str(out, s->keyspace);
    buf_add_byte(out, '.');
    buf_add_str(out, s->table);
    buf_add_str(out, " becomes a document: every column under its own name.\n# Columns:\n");
    for (uint16_t i = 0; i < s->column_count; i++)
        buf_printf(out, "#   %s %s\n", s->columns[i].name, s->columns[i].type_text);
    buf_add_str(out, "object: ");
    add_yaml(out, s->table);
    buf_add_str(out, "\nsource: {keyspace: ");
    add_yaml(out, s->keyspace);
    buf_add_str(out, ", table: ");
    add_yaml(out, s->table);
    buf_add_str(out, ", key: [");
    add_key(s, out);
    buf_add_str(out, "]}\n# An id of a list of ids is a value of:\nselect: [");
    add_key(s, out);
    buf_add_str(out, "]\n# Without `id` the _id is the key: its text, or several texts joined by "
                     "colons.\ntarget: {index: ");
    add_yaml(out, index);
    buf_add_str(out, "}\n");
    add_renames(s, out);
    buf_add_str(out,
                "nulls: omit # or keep: \"field\": null\n"
                "timestamps: iso_ms_utc\n"
                "# read_time: cass2es alone writes the index. sequence: others write to it, too.\n"
                "versioning: read_time\n");
}

/* ---- index definition --------------------------------------------------------------------------
 */

struct writer {
    struct buf *out;
    unsigned depth;
    bool first;
    const struct define_server *server;
};

static void line(struct writer *w)
{
    if (!w->first)
        buf_add_byte(w->out, ',');
    buf_add_byte(w->out, '\n');
    for (unsigned i = 0; i < w->depth; i++)
        buf_add_str(w->out, "  ");
    w->first = false;
}

static void open_object(struct writer *w, struct slice name)
{
    line(w);
    json_add_string(w->out, name);
    buf_add_str(w->out, ": {");
    w->depth++;
    w->first = true;
}

static void close_object(struct writer *w)
{
    w->depth--;
    w->first = true;
    buf_add_byte(w->out, '\n');
    for (unsigned i = 0; i < w->depth; i++)
        buf_add_str(w->out, "  ");
    buf_add_byte(w->out, '}');
    w->first = false;
}

/* The text of a field that has no fields of its own; NULL for maps and UDTs. */
static const char *simple_field(const struct type *t, bool key)
{
    static const char text_field[] = "{\"type\": \"text\", \"fields\": {\"keyword\": {\"type\": "
                                     "\"keyword\", \"ignore_above\": 256}}}";

    switch (t->kind) {
    case TYPE_ASCII:
    case TYPE_TEXT:
        return key ? "{\"type\": \"keyword\"}" : text_field;
    case TYPE_BIGINT:
    case TYPE_COUNTER:
        return "{\"type\": \"long\"}";
    case TYPE_INT:
        return "{\"type\": \"integer\"}";
    case TYPE_SMALLINT:
        return "{\"type\": \"short\"}";
    case TYPE_TINYINT:
        return "{\"type\": \"byte\"}";
    case TYPE_FLOAT:
        return "{\"type\": \"float\"}";
    case TYPE_DOUBLE:
        return "{\"type\": \"double\"}";
    case TYPE_BOOLEAN:
        return "{\"type\": \"boolean\"}";
    case TYPE_TIMESTAMP:
        return "{\"type\": \"date\", \"format\": \"strict_date_optional_time\"}";
    case TYPE_DATE:
        return "{\"type\": \"date\", \"format\": \"strict_date\"}";
    case TYPE_INET:
        return "{\"type\": \"ip\"}";
    case TYPE_BLOB:
    case TYPE_CUSTOM:
        return "{\"type\": \"binary\"}";
    case TYPE_MAP:
        return "{\"type\": \"object\"}";
    case TYPE_TUPLE:
        return "{\"type\": \"object\", \"enabled\": false}"; /* an array of unlike things */
    case TYPE_DECIMAL:                                       /* texts: every digit is kept */
    case TYPE_VARINT:
    case TYPE_UUID:
    case TYPE_TIMEUUID:
    case TYPE_TIME:
    case TYPE_DURATION:
        return "{\"type\": \"keyword\"}";
    case TYPE_LIST:
    case TYPE_SET:
    case TYPE_VECTOR:
    case TYPE_UDT:
    case TYPE_EMPTY:
        break;
    }
    return NULL;
}

static bool is_float_vector(const struct type *t)
{
    return t->kind == TYPE_VECTOR && t->args[0]->kind == TYPE_FLOAT;
}

static void add_field(struct writer *w, struct slice name, const struct type *t, bool key)
{
    /* Elasticsearch 8 and later: searchable once somebody says how. */
    if (is_float_vector(t) && w->server->major >= 8 && !w->server->opensearch &&
        t->dimension <= 4096) {
        line(w);
        json_add_string(w->out, name);
        buf_printf(w->out, ": {\"type\": \"dense_vector\", \"dims\": %u, \"index\": false}",
                   t->dimension);
        return;
    }
    while (t->kind == TYPE_LIST || t->kind == TYPE_SET || t->kind == TYPE_VECTOR)
        t = t->args[0]; /* an array is as its elements */
    if (t->kind != TYPE_UDT) {
        const char *text = simple_field(t, key);

        if (!text)
            return;
        line(w);
        json_add_string(w->out, name);
        buf_add_str(w->out, ": ");
        buf_add_str(w->out, text);
        return;
    }
    open_object(w, name);
    open_object(w, slice_str("properties"));
    for (uint16_t i = 0; i < t->arg_count; i++)
        add_field(w, t->field_names[i], t->args[i], false);
    close_object(w);
    close_object(w);
}

static void add_mappings(struct writer *w, const struct schema *s)
{
    open_object(w, slice_str("_meta"));
    open_object(w, slice_str("cass2es"));
    line(w);
    buf_add_str(w->out, "\"source\": ");
    AUTO_STR char *source = xsprintf("%s.%s", s->keyspace, s->table);
    json_add_string(w->out, slice_str(source));
    close_object(w);
    close_object(w);
    open_object(w, slice_str("properties"));
    for (uint16_t i = 0; i < s->column_count; i++) {
        const struct schema_column *c = &s->columns[i];
        struct buf name;

        buf_init(&name, 1 << 20);
        if (is_renamed(c->name))
            add_field_name(s, i, &name);
        else
            buf_add_str(&name, c->name);
        add_field(w, buf_slice(&name), c->type,
                  c->kind == COLUMN_PARTITION_KEY || c->kind == COLUMN_CLUSTERING);
        buf_fini(&name);
    }
    close_object(w);
}

void define_index(const struct schema *s, const struct define_server *server, const char *type,
                  struct buf *out)
{
    struct writer w = {.out = out, .depth = 1, .first = true, .server = server};

    buf_add_byte(out, '{');
    open_object(&w, slice_str("settings"));
    line(&w);
    buf_add_str(out, "\"index.number_of_shards\": 1");
    line(&w);
    buf_add_str(out, "\"index.number_of_replicas\": 1");
    /* A delete's version is remembered this long: DESIGN 3.3. */
    line(&w);
    buf_add_str(out, "\"index.gc_deletes\": \"1h\"");
    close_object(&w);
    open_object(&w, slice_str("mappings"));
    if (type)
        open_object(&w, slice_str(type));
    add_mappings(&w, s);
    if (type)
        close_object(&w);
    close_object(&w);
    buf_add_str(out, "\n}\n");
}
