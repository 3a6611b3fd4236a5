#include "cql/codec.h"

#include "base/text.h"
#include "cql/cql.h"
#include "cql/type.h"

/* ---- requests ---------------------------------------------------------------------------------
 */

static void add_string(struct buf *out, struct slice s)
{
    ensure(s.n <= UINT16_MAX);
    buf_add_u16(out, (uint16_t)s.n);
    buf_add_slice(out, s);
}

static void add_bytes(struct buf *out, struct slice s)
{
    if (!s.p) {
        buf_add_u32(out, UINT32_MAX);
        return;
    }
    buf_add_u32(out, (uint32_t)s.n);
    buf_add_slice(out, s);
}

static void add_long_string(struct buf *out, struct slice s)
{
    buf_add_u32(out, (uint32_t)s.n);
    buf_add_slice(out, s);
}

static void add_pair(struct buf *out, const char *key, const char *value)
{
    add_string(out, slice_str(key));
    add_string(out, slice_str(value));
}

void codec_options(struct buf *out, uint8_t version, int16_t stream)
{
    frame_end(out, frame_begin(out, version, 0, stream, OP_OPTIONS));
}

void codec_startup(struct buf *out, uint8_t version, int16_t stream, const struct codec_startup *o)
{
    size_t begin = frame_begin(out, version, 0, stream, OP_STARTUP);

    buf_add_u16(out, (uint16_t)(1 + !!o->compression + !!o->driver_name + !!o->driver_version +
                                o->throw_on_overload));
    add_pair(out, "CQL_VERSION", "3.0.0");
    if (o->compression)
        add_pair(out, "COMPRESSION", o->compression);
    if (o->driver_name)
        add_pair(out, "DRIVER_NAME", o->driver_name);
    if (o->driver_version)
        add_pair(out, "DRIVER_VERSION", o->driver_version);
    if (o->throw_on_overload)
        add_pair(out, "THROW_ON_OVERLOAD", "1");
    frame_end(out, begin);
}

void codec_auth_response(struct buf *out, uint8_t version, int16_t stream, struct slice token)
{
    size_t begin = frame_begin(out, version, 0, stream, OP_AUTH_RESPONSE);

    add_bytes(out, token);
    frame_end(out, begin);
}

void codec_register(struct buf *out, uint8_t version, int16_t stream, unsigned event_mask)
{
    static const char *const names[] = {"TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE"};
    size_t begin = frame_begin(out, version, 0, stream, OP_REGISTER);

    buf_add_u16(out, (uint16_t)__builtin_popcount(event_mask & 7));
    for (unsigned i = 0; i < 3; i++) {
        if (event_mask & 1u << i)
            add_string(out, slice_str(names[i]));
    }
    frame_end(out, begin);
}

static void add_params(struct buf *out, uint8_t version, const struct codec_params *p)
{
    enum { VALUES = 0x01, SKIP_METADATA = 0x02, PAGE_SIZE = 0x04, PAGING_STATE = 0x08 };
    uint32_t flags = (p->value_count ? VALUES : 0) | (p->skip_metadata ? SKIP_METADATA : 0) |
                     (p->page_rows ? PAGE_SIZE : 0) | (p->paging_state.p ? PAGING_STATE : 0);

    buf_add_u16(out, p->consistency);
    if (version >= 5)
        buf_add_u32(out, flags);
    else
        buf_add_byte(out, (uint8_t)flags);
    if (p->value_count) {
        buf_add_u16(out, p->value_count);
        for (uint16_t i = 0; i < p->value_count; i++)
            add_bytes(out, p->values[i]);
    }
    if (p->page_rows)
        buf_add_u32(out, p->page_rows);
    if (p->paging_state.p)
        add_bytes(out, p->paging_state);
}

void codec_query(struct buf *out, uint8_t version, int16_t stream, struct slice text,
                 const struct codec_params *params)
{
    size_t begin = frame_begin(out, version, 0, stream, OP_QUERY);

    add_long_string(out, text);
    add_params(out, version, params);
    frame_end(out, begin);
}

void codec_prepare(struct buf *out, uint8_t version, int16_t stream, struct slice text)
{
    size_t begin = frame_begin(out, version, 0, stream, OP_PREPARE);

    add_long_string(out, text);
    if (version >= 5)
        buf_add_u32(out, 0);
    frame_end(out, begin);
}

void codec_execute(struct buf *out, uint8_t version, int16_t stream, struct slice id,
                   struct slice result_metadata_id, const struct codec_params *params)
{
    size_t begin = frame_begin(out, version, 0, stream, OP_EXECUTE);

    add_string(out, id);
    if (version >= 5)
        add_string(out, result_metadata_id);
    add_params(out, version, params);
    frame_end(out, begin);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static bool cut_short(struct err *err, const char *what)
{
    return err_set(err, ERR_RETRY, "%s is cut short", what);
}

static bool no_room(struct err *err)
{
    return err_set(err, ERR_SYSTEM, "no room left for an answer's description");
}

static bool take_string(struct slice *in, struct slice *out)
{
    uint16_t n;

    return take_u16(in, &n) && slice_take(in, n, out);
}

/* A negative length is null. */
static bool take_bytes(struct slice *in, struct slice *out)
{
    int32_t n;

    if (!take_i32(in, &n))
        return false;
    if (n < 0) {
        *out = SLICE_NULL;
        return true;
    }
    return slice_take(in, (size_t)n, out);
}

bool codec_read_authenticate(struct slice body, struct slice *class_name, struct err *err)
{
    return take_string(&body, class_name) || cut_short(err, "AUTHENTICATE");
}

bool codec_read_auth_token(struct slice body, struct slice *token, struct err *err)
{
    return take_bytes(&body, token) || cut_short(err, "an answer of the authenticator");
}

/* ---- errors -----------------------------------------------------------------------------------
 */

enum {
    OTHER_NODE = 1,
    DROP_CONNECTION = 2,
    OVERLOAD = 4,
};

static const struct error_row {
    int32_t code;
    const char *name;
    enum err_kind kind;
    int what;
} error_rows[] = {
    {CODEC_SERVER_ERROR, "server error", ERR_RETRY, OTHER_NODE},
    {CODEC_PROTOCOL_ERROR, "protocol error", ERR_REJECT, DROP_CONNECTION},
    {CODEC_BAD_CREDENTIALS, "bad credentials", ERR_REACH, DROP_CONNECTION},
    {CODEC_UNAVAILABLE, "unavailable", ERR_RETRY, OTHER_NODE},
    {CODEC_OVERLOADED, "overloaded", ERR_RETRY, OTHER_NODE | OVERLOAD},
    {CODEC_BOOTSTRAPPING, "bootstrapping", ERR_RETRY, OTHER_NODE},
    {CODEC_TRUNCATE_ERROR, "truncate error", ERR_RETRY, OTHER_NODE},
    {CODEC_WRITE_TIMEOUT, "write timeout", ERR_RETRY, OTHER_NODE | OVERLOAD},
    {CODEC_READ_TIMEOUT, "read timeout", ERR_RETRY, OTHER_NODE | OVERLOAD},
    {CODEC_READ_FAILURE, "read failure", ERR_REJECT, OTHER_NODE},
    {CODEC_FUNCTION_FAILURE, "function failure", ERR_REJECT, 0},
    {CODEC_WRITE_FAILURE, "write failure", ERR_RETRY, OTHER_NODE},
    {CODEC_CDC_WRITE_FAILURE, "CDC write failure", ERR_RETRY, OTHER_NODE},
    {CODEC_CAS_WRITE_UNKNOWN, "CAS write unknown", ERR_RETRY, OTHER_NODE},
    {CODEC_SYNTAX, "syntax error", ERR_USER, 0},
    {CODEC_UNAUTHORIZED, "unauthorized", ERR_USER, 0},
    {CODEC_INVALID, "invalid", ERR_REJECT, 0},
    {CODEC_CONFIG, "configuration error", ERR_USER, 0},
    {CODEC_ALREADY_EXISTS, "already exists", ERR_USER, 0},
    {CODEC_UNPREPARED, "unprepared", ERR_RETRY, 0},
};

static const struct error_row *error_find(int32_t code)
{
    static const struct error_row unknown = {-1, "server error", ERR_RETRY, OTHER_NODE};

    for (size_t i = 0; i < sizeof error_rows / sizeof *error_rows; i++) {
        if (error_rows[i].code == code)
            return &error_rows[i];
    }
    return &unknown;
}

const char *codec_error_name(int32_t code)
{
    return error_find(code)->name;
}

static bool take_failures(struct slice *in, uint8_t version, struct arena *mem,
                          struct codec_error *e, struct err *err)
{
    int32_t count;

    if (!take_i32(in, &count) || count < 0)
        return cut_short(err, "ERROR");
    e->failure_count = (uint32_t)count;
    if (version < 5)
        return true;
    /* An address of 4 bytes with its length, and a code. */
    if (in->n / 7 < (size_t)count)
        return cut_short(err, "ERROR");
    struct codec_failure *list = arena_alloc(mem, ((size_t)count + 1) * sizeof *list);
    if (!list)
        return no_room(err);
    for (int32_t i = 0; i < count; i++) {
        uint8_t n;
        if (!take_u8(in, &n) || !slice_take(in, n, &list[i].address) ||
            !take_u16(in, &list[i].code))
            return cut_short(err, "ERROR");
    }
    e->failures = list;
    return true;
}

static bool contains(struct slice text, const char *word)
{
    return text.n && memmem(text.p, text.n, word, strlen(word));
}

/* A read that failed for want of time or of a node may pass; one that met too many tombstones will
 * meet them again. v4 tells the reasons in the message alone. */
static bool failure_may_pass(const struct codec_error *e)
{
    enum { REASON_TIMEOUT = 2, REASON_NODE_DOWN = 5 };

    if (!e->failures)
        return (contains(e->message, "TIMEOUT") || contains(e->message, "NODE_DOWN")) &&
               !contains(e->message, "READ_");
    for (uint32_t i = 0; i < e->failure_count; i++) {
        if (e->failures[i].code != REASON_TIMEOUT && e->failures[i].code != REASON_NODE_DOWN)
            return false;
    }
    return e->failure_count > 0;
}

static bool take_counts(struct slice *in, struct codec_error *e)
{
    return take_u16(in, &e->consistency) && take_i32(in, &e->received) &&
           take_i32(in, &e->required);
}

static bool take_flag(struct slice *in, bool *out)
{
    uint8_t v;

    if (!take_u8(in, &v))
        return false;
    *out = v != 0;
    return true;
}

static bool take_error_extras(struct slice *in, uint8_t version, struct arena *mem,
                              struct codec_error *e, struct err *err)
{
    bool ok = true;

    switch (e->code) {
    case CODEC_UNAVAILABLE:
        ok = take_u16(in, &e->consistency) && take_i32(in, &e->required) &&
             take_i32(in, &e->received);
        break;
    case CODEC_READ_TIMEOUT:
        ok = take_counts(in, e) && take_flag(in, &e->data_present);
        break;
    case CODEC_WRITE_TIMEOUT:
        ok = take_counts(in, e) && take_string(in, &e->write_type);
        if (ok && version >= 5 && slice_is(e->write_type, "CAS"))
            ok = take_u16(in, &e->contentions);
        break;
    case CODEC_READ_FAILURE:
        ok = take_counts(in, e);
        if (ok && !take_failures(in, version, mem, e, err))
            return false;
        ok = ok && take_flag(in, &e->data_present);
        break;
    case CODEC_WRITE_FAILURE:
        ok = take_counts(in, e);
        if (ok && !take_failures(in, version, mem, e, err))
            return false;
        ok = ok && take_string(in, &e->write_type);
        break;
    case CODEC_CAS_WRITE_UNKNOWN:
        ok = take_counts(in, e);
        break;
    case CODEC_FUNCTION_FAILURE:
    case CODEC_ALREADY_EXISTS:
        ok = take_string(in, &e->keyspace) && take_string(in, &e->name);
        break;
    case CODEC_UNPREPARED:
        ok = take_string(in, &e->unprepared_id);
        break;
    default:
        break;
    }
    return ok || cut_short(err, "ERROR");
}

/* INVALID because the table or a column is not there (any more): no other values would pass. */
static bool names_the_schema(const struct codec_error *e)
{
    static const char *const words[] = {"does not exist", "unconfigured table",
                                        "Undefined column name"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (memmem(e->message.p, e->message.n, words[i], strlen(words[i])))
            return true;
    }
    return false;
}

bool codec_read_error(struct slice body, uint8_t version, struct arena *mem,
                      struct codec_error *out, struct err *err)
{
    struct codec_error e = {0};

    if (!take_i32(&body, &e.code) || !take_string(&body, &e.message))
        return cut_short(err, "ERROR");
    if (!take_error_extras(&body, version, mem, &e, err))
        return false;
    const struct error_row *row = error_find(e.code);
    e.kind = row->kind;
    e.try_other_node = row->what & OTHER_NODE;
    e.drop_connection = row->what & DROP_CONNECTION;
    e.overloaded = row->what & OVERLOAD;
    if (e.code == CODEC_READ_FAILURE && failure_may_pass(&e))
        e.kind = ERR_RETRY;
    if (e.code == CODEC_INVALID && names_the_schema(&e))
        e.kind = ERR_USER;
    *out = e;
    return true;
}

/* The server's words, made fit for a log line. */
static void add_printable(char *to, size_t size, struct slice s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n && n + 1 < size; i++)
        to[n++] = (char)(s.p[i] < 0x20 || s.p[i] == 0x7f ? ' ' : s.p[i]);
    while (n && n + 1 == size && (to[n - 1] & 0xc0) == 0x80) /* don't end inside a character */
        n--;
    if (n && n + 1 == size && (uint8_t)to[n - 1] >= 0xc0)
        n--;
    to[n] = '\0';
}

bool codec_error_set(const struct codec_error *e, struct err *err)
{
    char message[360];
    char detail[96] = "";

    add_printable(message, sizeof message, e->message);
    if (e->required || e->failure_count) {
        const char *level = cql_consistency_name((enum cql_consistency)e->consistency);
        snprintf(detail, sizeof detail, " (%s, %d of %d replicas %s, %u failed)",
                 level ? level : "?", e->received, e->required,
                 e->code == CODEC_UNAVAILABLE ? "alive" : "answered", e->failure_count);
    }
    if (e->code != CODEC_SERVER_ERROR && error_find(e->code)->code < 0)
        snprintf(detail, sizeof detail, " 0x%04x", (unsigned)e->code);
    return err_set(err, e->kind, "%s%s%s%s", codec_error_name(e->code), detail,
                   *message ? ": " : "", message);
}

/* ---- RESULT -----------------------------------------------------------------------------------
 */

enum metadata_flag {
    META_GLOBAL_TABLE = 0x01,
    META_MORE_PAGES = 0x02,
    META_NONE = 0x04,
    META_CHANGED = 0x08,
};

/* Column descriptions; `in` stands behind the counts. */
static bool take_columns(struct slice *in, uint32_t flags, uint16_t count, struct arena *mem,
                         const struct columns **out, struct err *err)
{
    struct slice keyspace = SLICE_NULL;
    struct slice table = SLICE_NULL;

    if ((flags & META_GLOBAL_TABLE) && (!take_string(in, &keyspace) || !take_string(in, &table)))
        return cut_short(err, "a result's description");
    if (in->n / 4 < count) /* a name and a type have two bytes each at least */
        return cut_short(err, "a result's description");
    struct columns *columns = arena_alloc(mem, sizeof *columns);
    struct column *list = arena_alloc(mem, ((size_t)count + 1) * sizeof *list);
    if (!columns || !list)
        return no_room(err);
    for (uint16_t i = 0; i < count; i++) {
        list[i].keyspace = keyspace;
        list[i].table = table;
        if ((!(flags & META_GLOBAL_TABLE) &&
             (!take_string(in, &list[i].keyspace) || !take_string(in, &list[i].table))) ||
            !take_string(in, &list[i].name))
            return cut_short(err, "a result's description");
        if (!type_take_option(in, mem, &list[i].type, err))
            return err_wrap(err, "column %d", i + 1);
    }
    *columns = (struct columns){.count = count, .list = list};
    *out = columns;
    return true;
}

static bool take_column_count(struct slice *in, uint16_t *out)
{
    int32_t count;

    if (!take_i32(in, &count) || count < 0 || count > UINT16_MAX)
        return false;
    *out = (uint16_t)count;
    return true;
}

static bool take_metadata(struct slice *in, struct arena *mem, struct codec_metadata *m,
                          struct err *err)
{
    uint32_t flags;

    if (!take_u32(in, &flags) || !take_column_count(in, &m->column_count))
        return cut_short(err, "a result's description");
    m->more = flags & META_MORE_PAGES;
    m->changed = flags & META_CHANGED;
    if ((m->more && !take_bytes(in, &m->paging_state)) ||
        (m->changed && !take_string(in, &m->metadata_id)))
        return cut_short(err, "a result's description");
    if (m->more && !m->paging_state.p)
        return err_set(err, ERR_RETRY, "a result has more pages but no state to ask for them");
    if (flags & META_NONE)
        return true;
    return take_columns(in, flags, m->column_count, mem, &m->columns, err);
}

static bool read_rows(struct slice in, struct arena *mem, struct codec_result *r, struct err *err)
{
    int32_t rows;

    if (!take_metadata(&in, mem, &r->meta, err))
        return false;
    /* Each cell has a length: so many rows can be there, or not. */
    if (!take_i32(&in, &rows) || rows < 0 ||
        (rows &&
         (uint64_t)rows * (r->meta.column_count ? r->meta.column_count : in.n + 1) * 4 > in.n))
        return cut_short(err, "a page of rows");
    r->row_count = (uint32_t)rows;
    r->rows = in;
    return true;
}

static bool read_prepared(struct slice in, uint8_t version, struct arena *mem,
                          struct codec_result *r, struct err *err)
{
    uint32_t flags;
    uint16_t count;
    uint32_t pk_count;

    if (!take_string(&in, &r->id) || (version >= 5 && !take_string(&in, &r->result_metadata_id)) ||
        !take_u32(&in, &flags) || !take_column_count(&in, &count) || !take_u32(&in, &pk_count) ||
        pk_count > UINT16_MAX || in.n / 2 < pk_count)
        return cut_short(err, "PREPARED");
    uint16_t *indexes = arena_alloc(mem, (pk_count + (size_t)1) * sizeof *indexes);
    if (!indexes)
        return no_room(err);
    for (uint32_t i = 0; i < pk_count; i++) {
        if (!take_u16(&in, &indexes[i]) || indexes[i] >= count)
            return err_set(err, ERR_RETRY, "PREPARED names a value that is not there");
    }
    r->pk_count = (uint16_t)pk_count;
    r->pk_indexes = indexes;
    return take_columns(&in, flags, count, mem, &r->bind, err) &&
           take_metadata(&in, mem, &r->meta, err);
}

static bool take_schema_change(struct slice *in, struct codec_schema_change *c, struct err *err)
{
    if (!take_string(in, &c->change) || !take_string(in, &c->target) ||
        !take_string(in, &c->keyspace) ||
        (!slice_is(c->target, "KEYSPACE") && !take_string(in, &c->name)))
        return cut_short(err, "a schema change");
    return true;
}

bool codec_read_result(struct slice body, uint8_t version, struct arena *mem,
                       struct codec_result *out, struct err *err)
{
    struct codec_result r = {0};
    int32_t kind;
    bool ok = true;

    if (!take_i32(&body, &kind))
        return cut_short(err, "RESULT");
    r.kind = (enum codec_result_kind)kind;
    switch (kind) {
    case CODEC_VOID:
        break;
    case CODEC_ROWS:
        ok = read_rows(body, mem, &r, err);
        break;
    case CODEC_SET_KEYSPACE:
        ok = take_string(&body, &r.keyspace) || cut_short(err, "RESULT");
        break;
    case CODEC_PREPARED:
        ok = read_prepared(body, version, mem, &r, err);
        break;
    case CODEC_SCHEMA_CHANGE:
        ok = take_schema_change(&body, &r.schema, err);
        break;
    default:
        return err_set(err, ERR_RETRY, "a RESULT of the unknown kind %d", kind);
    }
    if (ok)
        *out = r;
    return ok;
}

bool codec_read_event(struct slice body, struct codec_event *out, struct err *err)
{
    struct codec_event e = {0};
    struct slice type;
    uint8_t n;

    if (!take_string(&body, &type))
        return cut_short(err, "EVENT");
    if (slice_is(type, "SCHEMA_CHANGE")) {
        e.type = CODEC_EVENT_SCHEMA;
        if (!take_schema_change(&body, &e.schema, err))
            return false;
    } else if (slice_is(type, "TOPOLOGY_CHANGE") || slice_is(type, "STATUS_CHANGE")) {
        e.type = slice_is(type, "STATUS_CHANGE") ? CODEC_EVENT_STATUS : CODEC_EVENT_TOPOLOGY;
        if (!take_string(&body, &e.change) || !take_u8(&body, &n) || (n != 4 && n != 16) ||
            !slice_take(&body, n, &e.address) || !take_i32(&body, &e.port))
            return cut_short(err, "EVENT");
    }
    *out = e;
    return true;
}
