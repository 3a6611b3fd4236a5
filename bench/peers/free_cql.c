/*
 * bench/peers/free_cql.c - a server in Cassandra's place that costs nearly nothing.
 *
 *   free_cql PORT KIND ROWS    127.0.0.1; KIND: small (documents of 126 bytes), medium (250), large
 *                              (1 KB), huge (1 MB)
 *
 * One node, 16 tokens, one table: free.docs, with ROWS rows spread evenly over the ring, each with
 * a key that has its row's token; read by ranges of tokens, or by key. Speaks CQL v4 and v5,
 * uncompressed, any user. The system tables say enough for drivers to log in and to learn ring and
 * schema. Rows are ready in memory: for a page only the keys are put in, and the checksums of v5
 * are made. A thread per connection.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <libdeflate.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    TOKENS = 16,
    MAX_COLUMNS = 24,
    MAX_STATEMENTS = 250,
    VARIANTS = 64,
    HEAD_BYTES = 4096, /* room for envelope and metadata before the rows */
    SEGMENT_BYTES = 131054,
    MAX_PAGE_BYTES = 64 << 20,
    INVALID = 0x2200,
};

static int port;
static const char *kind;
static uint64_t row_total;

static void die(const char *what)
{
    perror(what);
    exit(3);
}

/* ---- bytes out
 * --------------------------------------------------------------------------------- */

struct out {
    uint8_t *p;
    size_t n, cap;
};

static void put(struct out *o, const void *p, size_t n)
{
    if (o->n + n > o->cap) {
        o->cap = 2 * (o->n + n) + 256;
        o->p = realloc(o->p, o->cap);
        if (!o->p)
            die("memory");
    }
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void put16(struct out *o, unsigned v)
{
    uint8_t b[] = {(uint8_t)(v >> 8), (uint8_t)v};
    put(o, b, 2);
}

static void put32(struct out *o, uint32_t v)
{
    v = htonl(v);
    put(o, &v, 4);
}

static void put64(struct out *o, uint64_t v)
{
    v = __builtin_bswap64(v);
    put(o, &v, 8);
}

static void put_string(struct out *o, const char *s)
{
    put16(o, (unsigned)strlen(s));
    put(o, s, strlen(s));
}

static void put_cell(struct out *o, const void *p, size_t n)
{
    put32(o, (uint32_t)n);
    put(o, p, n);
}

/* ---- keys: the UUID that has a given token (Murmur3 backwards)
 * --------------------------------- */

static uint64_t inverse(uint64_t odd)
{
    uint64_t x = odd;
    for (int i = 0; i < 6; i++)
        x *= 2 - odd * x;
    return x;
}

#define C1 0x87c37b91114253d5u
#define C2 0x4cf5ad432745937fu
static uint64_t inv_c1, inv_c2, inv_5, inv_f1, inv_f2;

static uint64_t rotr(uint64_t x, int r)
{
    return x >> r | x << (64 - r);
}

static uint64_t unmix(uint64_t k)
{
    k = (k ^ k >> 33) * inv_f2;
    k = (k ^ k >> 33) * inv_f1;
    return k ^ k >> 33;
}

static void key_of_token(uint64_t token, uint64_t salt, uint8_t *out)
{
    uint64_t h2 = salt - token, h1 = token - h2;

    h1 = unmix(h1);
    h2 = unmix(h2);
    h2 -= h1;
    h1 -= h2;
    h1 ^= 16;
    h2 ^= 16;
    uint64_t k2 = rotr((h2 - 0x38495ab5) * inv_5 - h1, 31);
    uint64_t k1 = rotr((h1 - 0x52dce729) * inv_5, 27);
    k1 = rotr(k1 * inv_c2, 31) * inv_c1;
    k2 = rotr(k2 * inv_c1, 33) * inv_c2;
    memcpy(out, &k1, 8);
    memcpy(out + 8, &k2, 8);
}

static int64_t token_of_row(uint64_t row)
{
    return (int64_t)((1ull << 63) + 1 +
                     (uint64_t)((unsigned __int128)row * (UINT64_MAX - 1) / row_total));
}

/* The first row whose token is greater. */
static uint64_t row_after(int64_t token)
{
    uint64_t at = (uint64_t)token - (1ull << 63);
    uint64_t row = (uint64_t)((unsigned __int128)at * row_total / (UINT64_MAX - 1));

    if (row > row_total)
        row = row_total;
    while (row > 0 && token_of_row(row - 1) > token)
        row--;
    while (row < row_total && token_of_row(row) <= token)
        row++;
    return row;
}

static uint64_t mix(uint64_t k)
{
    k = (k ^ k >> 33) * 0xff51afd7ed558ccdu;
    k = (k ^ k >> 33) * 0xc4ceb9fe1a85ec53u;
    return k ^ k >> 33;
}

static uint64_t rotl(uint64_t x, int r)
{
    return x << r | x >> (64 - r);
}

/* Murmur3 forwards, of 16 bytes. */
static int64_t token_of_key(const uint8_t *key)
{
    uint64_t h1, h2;

    memcpy(&h1, key, 8);
    memcpy(&h2, key + 8, 8);
    h1 = rotl(rotl(h1 * C1, 31) * C2, 27) * 5 + 0x52dce729;
    h2 = (rotl(rotl(h2 * C2, 33) * C1, 31) + h1) * 5 + 0x38495ab5;
    h1 ^= 16;
    h2 ^= 16;
    h1 += h2;
    h2 += h1;
    h1 = mix(h1);
    h2 = mix(h2);
    return (int64_t)(h1 + h2);
}

/* ---- tables
 * ------------------------------------------------------------------------------------ */

struct column {
    char name[40], type[64];
};

struct table {
    const char *keyspace, *name, *columns; /* "name type; name type" */
    void (*rows)(struct table *);
    int count;
    struct column column[MAX_COLUMNS];
    const char *(*cells)[MAX_COLUMNS]; /* by row; text forms, NULL is null */
    int row_count;
};

static const char small_columns[] =
    "id uuid; a text; b int; c boolean; d double; e text; f int; g text; h int; i bigint";
static const char docs_columns[] =
    "id uuid; active boolean; age int; bio text; created timestamp; email text; name text; "
    "props map<text, text>; score double; status text; tags list<text>; visits bigint";

static void add_row(struct table *t, const char *const *cells, int n)
{
    t->cells = realloc(t->cells, (size_t)(t->row_count + 1) * sizeof *t->cells);
    memset(t->cells[t->row_count], 0, sizeof *t->cells);
    for (int i = 0; i < n; i++)
        t->cells[t->row_count][i] = cells[i] ? strdup(cells[i]) : NULL;
    t->row_count++;
}
#define ROW(t, ...)                                                                                \
    add_row(t, (const char *[]){__VA_ARGS__},                                                      \
            (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)))

static int64_t ring_token(int i)
{
    return (int64_t)((1ull << 63) + (1ull << 59) + ((uint64_t)i << 60));
}

static void rows_local(struct table *t)
{
    char tokens[TOKENS * 24] = "", port_text[16];

    for (int i = 0; i < TOKENS; i++)
        sprintf(tokens + strlen(tokens), "%s%lld", i ? "|" : "", (long long)ring_token(i));
    sprintf(port_text, "%d", port);
    ROW(t, "local", "COMPLETED", "127.0.0.1", "7000", "free", "3.4.7", "dc1", "1",
        "c0ffee00000040008000000000000001", "127.0.0.1", "7000", "5",
        "org.apache.cassandra.dht.Murmur3Partitioner", "rack1", "5.0.4", "127.0.0.1", port_text,
        "c0ffee00000040008000000000000002", tokens);
}

static void rows_keyspaces(struct table *t)
{
    ROW(t, "free", "true",
        "class=org.apache.cassandra.locator.SimpleStrategy|replication_factor=1");
    ROW(t, "system", "true", "class=org.apache.cassandra.locator.LocalStrategy");
    ROW(t, "system_schema", "true", "class=org.apache.cassandra.locator.LocalStrategy");
}

static void rows_tables(struct table *t)
{
    ROW(t, "free", "docs", "false", "", "class=SizeTieredCompactionStrategy", "0", "compound",
        "864000", "c0ffee00000040008000000000000003");
}

static struct table *data_table(void);

static void rows_columns(struct table *t)
{
    const struct table *d = data_table();

    for (int i = 0; i < d->count; i++)
        ROW(t, "free", "docs", d->column[i].name, "none", d->column[i].name,
            i ? "regular" : "partition_key", i ? "-1" : "0", d->column[i].type);
}

static size_t row_bytes(void);

static void rows_estimates(struct table *t)
{
    char start[32], end[32], mean[32], count[32];

    sprintf(mean, "%zu", row_bytes());
    sprintf(count, "%llu", (unsigned long long)(row_total / TOKENS));
    for (int i = 0; i < TOKENS; i++) {
        sprintf(start, "%lld", (long long)ring_token((i + TOKENS - 1) % TOKENS));
        sprintf(end, "%lld", (long long)ring_token(i));
        ROW(t, "free", "docs", start, end, mean, count);
    }
}

#define PEER_COLUMNS "data_center text; host_id uuid; rack text; release_version text; "
#define SCHEMA       "keyspace_name text; "
static struct table tables[] = {
    {"free", "docs", NULL, NULL, 0, {{"", ""}}, NULL, 0},
    {"system",
     "local",
     "key text; bootstrapped text; broadcast_address inet; broadcast_port int; cluster_name text; "
     "cql_version text; data_center text; gossip_generation int; host_id uuid; listen_address "
     "inet; "
     "listen_port int; native_protocol_version text; partitioner text; rack text; "
     "release_version text; rpc_address inet; rpc_port int; schema_version uuid; tokens set<text>",
     rows_local,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system",
     "peers_v2",
     "peer inet; peer_port int; " PEER_COLUMNS "native_address inet; native_port int; "
     "preferred_ip inet; preferred_port int; schema_version uuid; tokens set<text>",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system",
     "peers",
     "peer inet; " PEER_COLUMNS "preferred_ip inet; rpc_address inet; schema_version uuid; "
     "tokens set<text>",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system",
     "size_estimates",
     SCHEMA "table_name text; range_start text; range_end text; mean_partition_size bigint; "
            "partitions_count bigint",
     rows_estimates,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "keyspaces",
     SCHEMA "durable_writes boolean; replication frozen<map<text, text>>",
     rows_keyspaces,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "tables",
     SCHEMA "table_name text; cdc boolean; comment text; compaction frozen<map<text, text>>; "
            "default_time_to_live int; flags frozen<set<text>>; gc_grace_seconds int; id uuid",
     rows_tables,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "columns",
     SCHEMA "table_name text; column_name text; clustering_order text; column_name_bytes blob; "
            "kind text; position int; type text",
     rows_columns,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "types",
     SCHEMA "type_name text; field_names frozen<list<text>>; field_types frozen<list<text>>",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "views",
     SCHEMA
     "view_name text; base_table_id uuid; base_table_name text; include_all_columns boolean; "
     "where_clause text; id uuid",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "indexes",
     SCHEMA "table_name text; index_name text; kind text; options frozen<map<text, text>>",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "triggers",
     SCHEMA "table_name text; trigger_name text; options frozen<map<text, text>>",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "functions",
     SCHEMA "function_name text; argument_types frozen<list<text>>; argument_names "
            "frozen<list<text>>; body text; called_on_null_input boolean; language text; "
            "return_type text",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "aggregates",
     SCHEMA
     "aggregate_name text; argument_types frozen<list<text>>; final_func text; initcond text; "
     "return_type text; state_func text; state_type text",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_schema",
     "dropped_columns",
     SCHEMA "table_name text; column_name text; dropped_time timestamp; kind text; type text",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_virtual_schema",
     "keyspaces",
     SCHEMA "durable_writes boolean",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_virtual_schema",
     "tables",
     SCHEMA "table_name text; comment text",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
    {"system_virtual_schema",
     "columns",
     SCHEMA "table_name text; column_name text; clustering_order text; kind text; position int; "
            "type text",
     NULL,
     0,
     {{"", ""}},
     NULL,
     0},
};
enum { TABLES = sizeof tables / sizeof *tables };

static struct table *data_table(void)
{
    return &tables[0];
}

static void read_columns(struct table *t)
{
    for (const char *p = t->columns; *p; t->count++) {
        struct column *c = &t->column[t->count];
        sscanf(p, " %39[^ ] %63[^;]", c->name, c->type);
        p += strcspn(p, ";");
        p += *p == ';';
    }
}

/* ---- types
 * ------------------------------------------------------------------------------------- */

static const char *inner(const char *type)
{
    return strncmp(type, "frozen<", 7) == 0 ? type + 7 : type;
}

static void put_type(struct out *o, const char *type)
{
    static const struct {
        const char *name;
        unsigned code;
    } codes[] = {{"bigint", 2}, {"blob", 3},        {"boolean", 4}, {"double", 7}, {"int", 9},
                 {"uuid", 0xc}, {"timestamp", 0xb}, {"text", 0xd},  {"inet", 0x10}};
    type = inner(type);
    if (strncmp(type, "list<", 5) == 0 || strncmp(type, "set<", 4) == 0) {
        put16(o, *type == 'l' ? 0x20 : 0x22);
        put16(o, 0xd);
        return;
    }
    if (strncmp(type, "map<", 4) == 0) {
        put16(o, 0x21);
        put16(o, 0xd);
        put16(o, 0xd);
        return;
    }
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (strcmp(codes[i].name, type) == 0) {
            put16(o, codes[i].code);
            return;
        }
    }
    fprintf(stderr, "free_cql: no type %s\n", type);
    exit(3);
}

/* A collection of texts from "a|b" or "k=v|k=v". */
static void put_collection(struct out *o, const char *text, bool map)
{
    struct out c = {0};
    uint32_t n = 0;

    put32(&c, 0);
    for (const char *p = text; *p; n++) {
        size_t len = strcspn(p, "|");
        size_t key = map ? strcspn(p, "=") : len;
        put_cell(&c, p, key);
        if (map)
            put_cell(&c, p + key + 1, len - key - 1);
        p += len + (p[len] == '|');
    }
    n = htonl(n);
    memcpy(c.p, &n, 4);
    put_cell(o, c.p, c.n);
    free(c.p);
}

static void put_text_as(struct out *o, const char *type, const char *text)
{
    if (!text) {
        put32(o, UINT32_MAX);
        return;
    }
    type = inner(type);
    if (*type == 'l' || strncmp(type, "set", 3) == 0 || *type == 'm') {
        put_collection(o, text, *type == 'm');
    } else if (strcmp(type, "int") == 0) {
        put32(o, 4);
        put32(o, (uint32_t)atoi(text));
    } else if (strcmp(type, "bigint") == 0 || strcmp(type, "timestamp") == 0) {
        put32(o, 8);
        put64(o, (uint64_t)strtoll(text, NULL, 10));
    } else if (strcmp(type, "double") == 0) {
        double d = strtod(text, NULL);
        uint64_t v;
        memcpy(&v, &d, 8);
        put32(o, 8);
        put64(o, v);
    } else if (strcmp(type, "boolean") == 0) {
        put_cell(o, *text == 't' ? "\1" : "\0", 1);
    } else if (strcmp(type, "inet") == 0) {
        struct in_addr a;
        inet_pton(AF_INET, text, &a);
        put_cell(o, &a, 4);
    } else if (strcmp(type, "uuid") == 0) {
        uint8_t b[16];
        for (int i = 0; i < 16; i++)
            sscanf(text + 2 * i, "%2hhx", &b[i]);
        put_cell(o, b, 16);
    } else {
        put_cell(o, text, strlen(text));
    }
}

/* ---- the rows
 * ---------------------------------------------------------------------------------- */

static const char *const words[] = {"table",  "river",  "green",  "seven",  "copy",   "index",
                                    "state",  "winter", "paper",  "number", "garden", "light",
                                    "market", "orange", "silver", "window"};

static char *prose(unsigned seed, size_t bytes)
{
    char *text = malloc(bytes + 1);
    size_t n = 0;

    while (n < bytes) {
        seed = seed * 1664525 + 1013904223;
        const char *w = words[seed >> 28];
        for (; *w && n < bytes; w++)
            text[n++] = *w;
        if (n < bytes)
            text[n++] = ' ';
    }
    text[bytes] = 0;
    return text;
}

/* The text of a column in variant v of the rows. */
static char *value_of(const char *name, unsigned v)
{
    static const struct {
        const char *kind;
        size_t bytes;
    } bios[] = {{"medium", 4}, {"large", 720}, {"huge", 1 << 20}};
    char *text = malloc(256);
    bool yes = v % 2 == 0;

    *text = 0;
    if (strcmp(name, "id") == 0)
        return strcpy(text, "00000000000000000000000000000000");
    if (strcmp(name, "a") == 0)
        return strcpy(text, yes ? "Ann" : "Bo");
    if (strcmp(name, "c") == 0 || strcmp(name, "active") == 0)
        return strcpy(text, yes ? "true" : "false");
    if (strcmp(name, "bio") == 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < sizeof bios / sizeof *bios; i++) {
            if (strcmp(bios[i].kind, kind) == 0)
                bytes = bios[i].bytes;
        }
        free(text);
        return prose(v, bytes);
    }
    if (strcmp(name, "b") == 0)
        sprintf(text, "%u", 10000 + v * 977);
    else if (strcmp(name, "d") == 0)
        sprintf(text, "%u.5", v % 10);
    else if (strcmp(name, "e") == 0)
        sprintf(text, "x%u", v % 10);
    else if (strcmp(name, "f") == 0)
        sprintf(text, "%u", v % 10);
    else if (strcmp(name, "g") == 0)
        strcpy(text, "on");
    else if (strcmp(name, "h") == 0)
        sprintf(text, "%u", 100 + v * 13);
    else if (strcmp(name, "i") == 0)
        sprintf(text, "%u", 1000000 + v * 100003);
    else if (strcmp(name, "age") == 0)
        sprintf(text, "%u", 18 + v);
    else if (strcmp(name, "created") == 0)
        sprintf(text, "%llu", 1600000000000ull + v * 86413579ull);
    else if (strcmp(name, "email") == 0)
        sprintf(text, "u%u@x.org", 1000 + v);
    else if (strcmp(name, "name") == 0)
        sprintf(text, "%s %s", words[v % 16], words[v / 4]);
    else if (strcmp(name, "props") == 0)
        sprintf(text, strcmp(kind, "medium") == 0 ? "k=%s" : "lang=en|place=%s|level=%u",
                words[v % 16], v % 7);
    else if (strcmp(name, "score") == 0)
        sprintf(text, "%u.%02u", v % 100, v + 11);
    else if (strcmp(name, "status") == 0)
        strcpy(text, yes ? "active" : "closed");
    else if (strcmp(name, "tags") == 0)
        sprintf(text, strcmp(kind, "medium") == 0 ? "%s" : "%s|%s|%s", words[v % 16],
                words[(v + 3) % 16], words[(v + 7) % 16]);
    else if (strcmp(name, "visits") == 0)
        sprintf(text, "%llu", 10000000ull + v * 1234567ull);
    return text;
}

/* ---- statements
 * -------------------------------------------------------------------------------- */

enum { MAX_BINDS = 8 };
struct statement {
    char text[1024];
    struct table *table;
    int columns[MAX_COLUMNS * 2];
    int count;
    bool tokens; /* bind values are the ends of a range */
    int bind_count, binds[MAX_BINDS];
    uint8_t *cycle; /* the variants' rows, one after the other */
    size_t cycle_bytes, key_at[VARIANTS], end_at[VARIANTS];
    unsigned variants;
    bool has_key;
};

static struct statement *statements[MAX_STATEMENTS];
static int statement_count;
static pthread_mutex_t statements_lock = PTHREAD_MUTEX_INITIALIZER;

static int find_column(const struct table *t, const char *name, size_t n)
{
    for (int i = 0; i < t->count; i++) {
        if (strlen(t->column[i].name) == n && strncasecmp(t->column[i].name, name, n) == 0)
            return i;
    }
    return -1;
}

/* One name, without quotes; moves p behind it. */
static size_t name_at(const char **p, const char **out)
{
    *p += strspn(*p, " \n\t,");
    bool quoted = **p == '"';
    *p += quoted;
    *out = *p;
    size_t n = quoted
                   ? strcspn(*p, "\"")
                   : strspn(*p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    *p += n + quoted;
    return n;
}

static struct table *table_at(const char **p)
{
    const char *ks, *name;
    size_t ks_n = name_at(p, &ks);

    if (**p != '.')
        return NULL;
    ++*p;
    size_t n = name_at(p, &name);
    for (int i = 0; i < TABLES; i++) {
        if (strlen(tables[i].keyspace) == ks_n && strncasecmp(tables[i].keyspace, ks, ks_n) == 0 &&
            strlen(tables[i].name) == n && strncasecmp(tables[i].name, name, n) == 0)
            return &tables[i];
    }
    return NULL;
}

/* The binds of a WHERE: "token(...) > ?" or "column = ?". */
static bool read_where(struct statement *s, const char *where)
{
    int column = -1;

    s->tokens = strcasestr(where, "token(") != NULL;
    for (const char *p = where; *p;) {
        const char *name;
        if (isalpha((unsigned char)*p) || *p == '"') {
            size_t n = name_at(&p, &name);
            int found = find_column(s->table, name, n);
            column = found >= 0 ? found : column;
        } else if (*p == '\'') {
            p += 1 + strcspn(p + 1, "'");
            p += *p == '\'';
        } else if (*p++ == '?') {
            if (s->bind_count == MAX_BINDS || column < 0)
                return false;
            s->binds[s->bind_count++] = s->tokens ? -1 : column;
        }
    }
    return true;
}

static void build_cycle(struct statement *s)
{
    struct out o = {0};
    size_t bytes = 0;

    s->variants = VARIANTS;
    for (unsigned v = 0; v < s->variants; v++) {
        for (int i = 0; i < s->count; i++) {
            const struct column *c = &s->table->column[s->columns[i]];
            char *text = value_of(c->name, v);
            if (strcmp(c->name, "id") == 0) {
                s->key_at[v] = o.n + 4;
                s->has_key = true;
            }
            put_text_as(&o, c->type, text);
            free(text);
        }
        s->end_at[v] = o.n;
        if (v == 0)
            bytes = o.n;
        if (v == 1 && bytes > 100000)
            s->variants = 2;
    }
    s->cycle = o.p;
    s->cycle_bytes = o.n;
}

/* NULL and a word in `why` when it isn't understood. */
static struct statement *parse(const char *text, char *why)
{
    struct statement *s = calloc(1, sizeof *s);
    const char *from = strcasestr(text, " from ");
    const char *p = from ? from + 6 : text;

    snprintf(s->text, sizeof s->text, "%s", text);
    if (strncasecmp(text, "select ", 7) != 0 || !from || !(s->table = table_at(&p))) {
        sprintf(why, "unconfigured table: %.200s", text);
        return NULL;
    }
    const char *c = text + 7;
    if (strncasecmp(c, "distinct ", 9) == 0) /* a partition has one row */
        c += 9;
    while (c < from) {
        const char *name;
        c += strspn(c, " \n\t,");
        if (*c == '*') {
            for (int i = 0; i < s->table->count; i++)
                s->columns[s->count++] = i;
            break;
        }
        size_t n = name_at(&c, &name);
        int found = find_column(s->table, name, n);
        if (found < 0 || s->count == MAX_COLUMNS) {
            sprintf(why, "Undefined column name %.*s", n < 100 ? (int)n : 100, name);
            return NULL;
        }
        s->columns[s->count++] = found;
        c += strspn(c, " \n\t");
    }
    const char *where = strcasestr(p, "where ");
    if (where && !read_where(s, where + 6)) {
        sprintf(why, "not understood: %.200s", text);
        return NULL;
    }
    if (s->table == data_table())
        build_cycle(s);
    return s;
}

/* Parsed once, kept for ever. */
static struct statement *statement_of(const char *text, int *id, char *why)
{
    struct statement *s = NULL;

    pthread_mutex_lock(&statements_lock);
    for (*id = 0; *id < statement_count; ++*id) {
        if (strcmp(statements[*id]->text, text) == 0) {
            s = statements[*id];
            break;
        }
    }
    if (!s && (s = parse(text, why)) != NULL) {
        *id = -1; /* full: texts with values in them, not worth keeping */
        if (statement_count < MAX_STATEMENTS) {
            *id = statement_count;
            statements[statement_count++] = s;
        }
    }
    pthread_mutex_unlock(&statements_lock);
    return s;
}

static size_t row_bytes(void)
{
    char why[512];
    int id;
    struct statement *s = statement_of("SELECT * FROM free.docs", &id, why);
    return s->cycle_bytes / s->variants;
}

/* ---- a connection
 * ------------------------------------------------------------------------------ */

struct conn {
    int fd;
    uint8_t version;
    bool framed;
    uint8_t *in; /* envelopes received */
    size_t in_n, in_cap;
    uint8_t *page; /* HEAD_BYTES, then rows */
    const struct statement *page_of;
    uint64_t page_rows;
    struct out body;
};

static bool write_all(int fd, struct iovec *v, int n)
{
    while (n > 0) {
        ssize_t sent = writev(fd, v, n < 1000 ? n : 1000);
        if (sent <= 0)
            return false;
        while (n > 0 && (size_t)sent >= v->iov_len) {
            sent -= (ssize_t)v->iov_len;
            v++, n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + sent;
            v->iov_len -= (size_t)sent;
        }
    }
    return true;
}

static void segment_head(uint8_t *out, size_t n, bool whole)
{
    uint32_t head = (uint32_t)n | (uint32_t)whole << 17, crc = 0x875060;

    for (int i = 0; i < 3; i++) {
        out[i] = (uint8_t)(head >> (8 * i));
        crc ^= (uint32_t)out[i] << 16;
        for (int bit = 0; bit < 8; bit++) {
            crc <<= 1;
            if (crc & 0x1000000)
                crc ^= 0x1974f0b;
        }
    }
    for (int i = 0; i < 3; i++)
        out[3 + i] = (uint8_t)(crc >> (8 * i));
}

static uint32_t payload_crc(const void *p, size_t n)
{
    return libdeflate_crc32(libdeflate_crc32(0, "\xfa\x2d\x55\xca", 4), p, n);
}

/* An envelope: as it is, or in segments. */
static bool send_envelope(struct conn *c, uint8_t *p, size_t n)
{
    if (!c->framed)
        return write_all(c->fd, &(struct iovec){p, n}, 1);
    size_t count = (n + SEGMENT_BYTES - 1) / SEGMENT_BYTES;
    struct iovec *v = malloc(3 * count * sizeof *v);
    uint8_t(*ends)[10] = malloc(count * sizeof *ends);
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = p + i * SEGMENT_BYTES;
        size_t bytes = i + 1 < count ? SEGMENT_BYTES : n - i * SEGMENT_BYTES;
        uint32_t crc = payload_crc(at, bytes);
        segment_head(ends[i], bytes, count == 1);
        memcpy(ends[i] + 6, &crc, 4);
        v[3 * i] = (struct iovec){ends[i], 6};
        v[3 * i + 1] = (struct iovec){at, bytes};
        v[3 * i + 2] = (struct iovec){ends[i] + 6, 4};
    }
    bool ok = write_all(c->fd, v, (int)(3 * count));
    free(v);
    free(ends);
    return ok;
}

static void envelope_head(uint8_t *out, uint8_t version, const uint8_t *request, uint8_t opcode,
                          size_t body)
{
    uint32_t n = htonl((uint32_t)body);

    out[0] = 0x80 | version;
    out[1] = 0;
    out[2] = request[2];
    out[3] = request[3];
    out[4] = opcode;
    memcpy(out + 5, &n, 4);
}

static bool reply(struct conn *c, const uint8_t *request, uint8_t opcode, const void *body,
                  size_t n)
{
    uint8_t *all = malloc(9 + n);

    envelope_head(all, c->version, request, opcode, n);
    memcpy(all + 9, body, n);
    bool ok = send_envelope(c, all, 9 + n);
    free(all);
    return ok;
}

static bool refuse(struct conn *c, const uint8_t *request, uint32_t code, const char *text)
{
    struct out o = {0};

    put32(&o, code);
    put_string(&o, text);
    bool ok = reply(c, request, 0, o.p, o.n);
    free(o.p);
    return ok;
}

struct in {
    const uint8_t *p, *end;
};

static uint64_t take(struct in *in, int n)
{
    uint64_t v = 0;
    for (; n > 0 && in->p < in->end; n--)
        v = v << 8 | *in->p++;
    return v;
}

static struct in take_bytes(struct in *in, int64_t n)
{
    if (n < 0 || n > in->end - in->p)
        n = 0;
    struct in out = {in->p, in->p + n};
    in->p += n;
    return out;
}

struct params {
    bool skip_metadata;
    uint32_t page_rows;
    int value_count;
    struct in values[MAX_BINDS];
    struct in state;
};

static struct params take_params(const struct conn *c, struct in *in)
{
    struct params p = {.page_rows = 5000};

    take(in, 2);
    uint32_t flags = (uint32_t)take(in, c->version >= 5 ? 4 : 1);
    if (flags & 1) {
        p.value_count = (int)take(in, 2);
        for (int i = 0; i < p.value_count && i < MAX_BINDS; i++)
            p.values[i] = take_bytes(in, (int32_t)take(in, 4));
    }
    p.skip_metadata = flags & 2;
    if (flags & 4)
        p.page_rows = (uint32_t)take(in, 4);
    if (flags & 8)
        p.state = take_bytes(in, (int32_t)take(in, 4));
    return p;
}

static void put_specs(struct out *o, const struct statement *s)
{
    put_string(o, s->table->keyspace);
    put_string(o, s->table->name);
    for (int i = 0; i < s->count; i++) {
        put_string(o, s->table->column[s->columns[i]].name);
        put_type(o, s->table->column[s->columns[i]].type);
    }
}

static void put_metadata(struct out *o, const struct statement *s, const struct params *p,
                         const uint64_t *next)
{
    put32(o, 2);
    put32(o, (p->skip_metadata ? 4u : 1u) | (next ? 2u : 0u));
    put32(o, (uint32_t)s->count);
    if (next) {
        put32(o, 8);
        put64(o, *next);
    }
    if (!p->skip_metadata)
        put_specs(o, s);
}

/* Whether a row of a system table meets every "column = 'text'" or "column = ?" of the WHERE. */
static bool meets(const struct statement *s, const char **cells, const struct params *p)
{
    const char *where = strcasestr(s->text, "where ");
    int bind = 0;

    if (!where)
        return true;
    for (const char *e = where + 6; (e = strchr(e, '=')) != NULL; e++) {
        const char *end = e;
        while (end > where && end[-1] == ' ')
            end--;
        end -= end[-1] == '"';
        const char *start = end;
        while (start > where && (isalnum((unsigned char)start[-1]) || start[-1] == '_'))
            start--;
        int column = find_column(s->table, start, (size_t)(end - start));
        const char *value = e + 1 + strspn(e + 1, " ");
        struct in want = {0};
        if (*value == '?' && bind < p->value_count)
            want = p->values[bind++];
        else if (*value == '\'')
            want = (struct in){(const uint8_t *)value + 1,
                               (const uint8_t *)value + 1 + strcspn(value + 1, "'")};
        else
            continue;
        size_t n = (size_t)(want.end - want.p);
        if (column < 0 || !cells[column] || strlen(cells[column]) != n ||
            memcmp(cells[column], want.p, n) != 0)
            return false;
    }
    return true;
}

static bool send_system(struct conn *c, const uint8_t *request, const struct statement *s,
                        const struct params *p)
{
    struct out *o = &c->body;
    uint32_t n = 0;

    o->n = 0;
    put_metadata(o, s, p, NULL);
    size_t count_at = o->n;
    put32(o, 0);
    for (int r = 0; r < s->table->row_count; r++) {
        if (!meets(s, s->table->cells[r], p))
            continue;
        for (int i = 0; i < s->count; i++)
            put_text_as(o, s->table->column[s->columns[i]].type, s->table->cells[r][s->columns[i]]);
        n++;
    }
    n = htonl(n);
    memcpy(o->p + count_at, &n, 4);
    return reply(c, request, 8, o->p, o->n);
}

/* Makes room for so many rows of the statement, filled but for the keys. */
static void ready_page(struct conn *c, const struct statement *s, uint64_t rows)
{
    if (c->page_of == s && c->page_rows >= rows)
        return;
    uint64_t cycles = (rows + s->variants - 1) / s->variants;
    free(c->page);
    c->page = malloc(HEAD_BYTES + cycles * s->cycle_bytes);
    if (!c->page)
        die("memory");
    for (uint64_t i = 0; i < cycles; i++)
        memcpy(c->page + HEAD_BYTES + i * s->cycle_bytes, s->cycle, s->cycle_bytes);
    c->page_of = s;
    c->page_rows = cycles * s->variants;
}

static bool send_page(struct conn *c, const uint8_t *request, const struct statement *s,
                      const struct params *p, int64_t after, int64_t to)
{
    uint64_t row = row_after(after), last = to == INT64_MIN ? row_total : row_after(to);
    uint64_t most = p->page_rows ? p->page_rows : 5000;

    if (p->state.end - p->state.p == 8) {
        struct in state = p->state;
        row = take(&state, 8);
    }
    if (most > MAX_PAGE_BYTES / (s->cycle_bytes / s->variants))
        most = MAX_PAGE_BYTES / (s->cycle_bytes / s->variants);
    uint64_t n = last > row ? last - row : 0;
    n = n < most ? n : most;
    uint64_t next = row + n;
    ready_page(c, s, n);
    uint8_t *rows = c->page + HEAD_BYTES;
    size_t bytes = 0;
    for (uint64_t i = 0, cycle = 0; i < n; cycle += s->cycle_bytes) {
        for (unsigned v = 0; v < s->variants && i < n; v++, i++) {
            if (s->has_key)
                key_of_token((uint64_t)token_of_row(row + i), row + i, rows + cycle + s->key_at[v]);
            bytes = cycle + s->end_at[v];
        }
    }
    struct out *o = &c->body;
    o->n = 0;
    put_metadata(o, s, p, next < last ? &next : NULL);
    put32(o, (uint32_t)n);
    uint8_t *start = rows - o->n - 9;
    memcpy(rows - o->n, o->p, o->n);
    envelope_head(start, c->version, request, 8, o->n + bytes);
    return send_envelope(c, start, 9 + o->n + bytes);
}

static bool run_statement(struct conn *c, const uint8_t *request, const struct statement *s,
                          const struct params *p)
{
    if (s->table != data_table())
        return send_system(c, request, s, p);
    int64_t ends[2] = {INT64_MIN, INT64_MIN}; /* an end that is the lowest token is the highest */
    const char *where = strcasestr(s->text, "where ");
    if (where && !s->tokens && p->value_count == 1 && p->values[0].end - p->values[0].p == 16) {
        int64_t token = token_of_key(p->values[0].p); /* keys are one to a token */
        return send_page(c, request, s, p, token - 1, token);
    }
    if (where && (!s->tokens || (p->value_count != 0 && p->value_count != 2)))
        return refuse(c, request, INVALID, "only ranges of tokens, or a key");
    if (p->value_count == 2) {
        for (int i = 0; i < 2; i++) {
            struct in v = p->values[i];
            ends[i] = (int64_t)take(&v, 8);
        }
    } else if (where) {
        const char *low = strchr(where, '>'), *high = strstr(where, "<=");
        ends[0] = low ? strtoll(low + 1, NULL, 10) : INT64_MIN;
        ends[1] = high ? strtoll(high + 2, NULL, 10) : INT64_MIN;
    }
    return send_page(c, request, s, p, ends[0], ends[1]);
}

/* "SELECT toUnixTimestamp(now()) FROM ...": the clock, as a program asks for it. */
static bool is_clock(const char *text)
{
    return strcasestr(text, "tounixtimestamp(now())") != NULL;
}

static void put_clock_metadata(struct out *o)
{
    put32(o, 1);
    put32(o, 1);
    put_string(o, "system");
    put_string(o, "local");
    put_string(o, "system.tounixtimestamp(system.now())");
    put16(o, 2);
}

static bool send_clock(struct conn *c, const uint8_t *request)
{
    struct timespec t;
    struct out *o = &c->body;

    clock_gettime(CLOCK_REALTIME, &t);
    o->n = 0;
    put32(o, 2);
    put_clock_metadata(o);
    put32(o, 1);
    put32(o, 8);
    put64(o, (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
    return reply(c, request, 8, o->p, o->n);
}

static bool prepare_clock(struct conn *c, const uint8_t *request)
{
    struct out *o = &c->body;

    o->n = 0;
    put32(o, 4);
    for (int i = 0; i < (c->version >= 5 ? 2 : 1); i++) {
        put16(o, 5);
        put(o, "clock", 5);
    }
    put32(o, 1);
    put32(o, 0);
    put32(o, 0);
    put_string(o, "system");
    put_string(o, "local");
    put_clock_metadata(o);
    return reply(c, request, 8, o->p, o->n);
}

static bool prepare(struct conn *c, const uint8_t *request, const char *text)
{
    char why[512];
    uint8_t id[16] = {0};
    int number;
    struct statement *s = statement_of(text, &number, why);

    if (!s || number < 0)
        return refuse(c, request, INVALID, s ? "too many statements" : why);
    id[15] = (uint8_t)number;
    struct out *o = &c->body;
    o->n = 0;
    put32(o, 4);
    for (int i = 0; i < (c->version >= 5 ? 2 : 1); i++) {
        put16(o, 16);
        put(o, id, 16);
    }
    put32(o, 1);
    put32(o, (uint32_t)s->bind_count);
    put32(o, 0);
    put_string(o, s->table->keyspace);
    put_string(o, s->table->name);
    for (int i = 0; i < s->bind_count; i++) {
        int b = s->binds[i];
        put_string(o, b < 0 ? "partition key token" : s->table->column[b].name);
        put_type(o, b < 0 ? "bigint" : s->table->column[b].type);
    }
    put32(o, 1);
    put32(o, (uint32_t)s->count);
    put_specs(o, s);
    return reply(c, request, 8, o->p, o->n);
}

static bool supported(struct conn *c, const uint8_t *request)
{
    struct out o = {0};

    put16(&o, 3);
    put_string(&o, "CQL_VERSION");
    put16(&o, 1);
    put_string(&o, "3.4.7");
    put_string(&o, "COMPRESSION");
    put16(&o, 0);
    put_string(&o, "PROTOCOL_VERSIONS");
    put16(&o, 2);
    put_string(&o, "4/v4");
    put_string(&o, "5/v5");
    bool ok = reply(c, request, 6, o.p, o.n);
    free(o.p);
    return ok;
}

static bool handle(struct conn *c, const uint8_t *e, size_t n)
{
    struct in in = {e + 9, e + n};
    char text[1024], why[512];
    struct statement *s = NULL;
    int id;

    if (!c->framed && (e[0] == 4 || e[0] == 5))
        c->version = e[0];
    else if (!c->framed) {
        c->version = 5;
        return refuse(c, e, 0xa,
                      "Invalid or unsupported protocol version; supported versions are "
                      "(4/v4, 5/v5)");
    }
    switch (e[4]) {
    case 1: /* STARTUP: its answer is not yet framed */
        if (!reply(c, e, 2, "", 0))
            return false;
        c->framed = c->version >= 5;
        return true;
    case 5:
        return supported(c, e);
    case 7:
    case 9: {
        struct in t = take_bytes(&in, (int32_t)take(&in, 4));
        if (t.end - t.p >= (ptrdiff_t)sizeof text)
            return refuse(c, e, INVALID, "statement too long");
        memcpy(text, t.p, (size_t)(t.end - t.p));
        text[t.end - t.p] = 0;
        if (is_clock(text))
            return e[4] == 9 ? prepare_clock(c, e) : send_clock(c, e);
        if (e[4] == 9)
            return prepare(c, e, text);
        s = statement_of(text, &id, why);
        break;
    }
    case 10: {
        struct in key = take_bytes(&in, (int64_t)take(&in, 2));
        if (c->version >= 5)
            take_bytes(&in, (int64_t)take(&in, 2));
        if (key.end - key.p == 5)
            return send_clock(c, e);
        s = key.end - key.p == 16 && key.p[15] < statement_count ? statements[key.p[15]] : NULL;
        snprintf(why, sizeof why, "no such statement");
        break;
    }
    case 11:
        return reply(c, e, 2, "", 0);
    default:
        return refuse(c, e, 0xa, "not understood");
    }
    if (!s)
        return refuse(c, e, INVALID, why);
    struct params p = take_params(c, &in);
    return run_statement(c, e, s, &p);
}

/* Handles the whole envelopes at the front of what came. */
static bool handle_all(struct conn *c)
{
    size_t at = 0;

    while (c->in_n - at >= 9) {
        uint32_t body;
        memcpy(&body, c->in + at + 5, 4);
        size_t n = 9 + (size_t)ntohl(body);
        if (c->in_n - at < n)
            break;
        bool was_framed = c->framed;
        if (!handle(c, c->in + at, n))
            return false;
        at += n;
        if (c->framed != was_framed)
            break; /* a client waits for this answer before it goes on */
    }
    memmove(c->in, c->in + at, c->in_n - at);
    c->in_n -= at;
    return true;
}

static void *serve(void *arg)
{
    struct conn c = {.fd = (int)(intptr_t)arg, .version = 5};
    uint8_t raw[1 << 17];
    size_t raw_n = 0;

    for (;;) {
        ssize_t got = read(c.fd, raw + raw_n, sizeof raw - raw_n);
        if (got <= 0)
            break;
        raw_n += (size_t)got;
        if (c.in_cap < c.in_n + raw_n)
            c.in = realloc(c.in, c.in_cap = 2 * (c.in_n + raw_n));
        size_t at = 0;
        if (!c.framed) {
            memcpy(c.in + c.in_n, raw, raw_n);
            c.in_n += raw_n;
            at = raw_n;
        }
        while (c.framed && raw_n - at >= 10) {
            size_t n = (raw[at] | raw[at + 1] << 8 | raw[at + 2] << 16) & 0x1ffff;
            if (raw_n - at < n + 10)
                break;
            memcpy(c.in + c.in_n, raw + at + 6, n);
            c.in_n += n;
            at += n + 10;
        }
        memmove(raw, raw + at, raw_n - at);
        raw_n -= at;
        if (!handle_all(&c))
            break;
    }
    close(c.fd);
    free(c.in);
    free(c.page);
    free(c.body.p);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    if (argc != 4 || !strstr(" small medium large huge ", argv[2]) || atoll(argv[3]) < 1) {
        fprintf(stderr, "usage: free_cql PORT small|medium|large|huge ROWS\n");
        return 2;
    }
    port = atoi(argv[1]);
    kind = argv[2];
    row_total = (uint64_t)atoll(argv[3]);
    inv_c1 = inverse(C1), inv_c2 = inverse(C2), inv_5 = inverse(5);
    inv_f1 = inverse(0xff51afd7ed558ccd), inv_f2 = inverse(0xc4ceb9fe1a85ec53);
    tables[0].columns = strcmp(kind, "small") == 0 ? small_columns : docs_columns;
    for (int i = 0; i < TABLES; i++) {
        read_columns(&tables[i]);
    }
    for (int i = 0; i < TABLES; i++) {
        if (tables[i].rows)
            tables[i].rows(&tables[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    at.sin_port = htons((uint16_t)port);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 64) < 0)
        die("free_cql");
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
}
