/*
 * tools/cqlrun.c - runs CQL statements from standard input, one a line; answers are JSON lines.
 *
 * For tests, and for trying src/cql alone. Cells are shown as hex, null as null. Lines that begin
 * with a dot:
 *   .rows N          rows of a page          .pages N     stop after so many pages (0: no limit)
 *   .quiet on|off    pages without rows      .state HEX   the next SELECT goes on from here
 *   .sleep MS                                .prefetch on|off
 *   .schema KS TABLE   .find TABLE   .tables KS   .describe   .counters
 *   .plan KS TABLE BYTES COUNT        the ranges of a scan
 *   .scan KS TABLE COLUMNS THREADS    counts the rows of all ranges
 *   .many N STATEMENT                 the statement N times in flight at once, "?" is 0..N-1 (int)
 *   .token HEX                        .bind =HEX...  values of the next statement; "-" is null
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "cql/cql.h"

enum { BOUND_MAX = 16, SCAN_TRIES = 60 };

struct run {
    struct cql_cluster *cluster;
    struct cql_session *session;
    uint32_t page_rows;
    long pages_max;
    bool quiet;
    bool prefetch;
    struct buf state;
    struct buf bound;               /* the bytes of `values` */
    struct slice values[BOUND_MAX]; /* of the next statement */
    uint16_t value_count;
    struct buf out;
    bool failed;
};

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static void print_line(struct run *r)
{
    buf_add_byte(&r->out, '\n');
    fwrite(r->out.p, 1, r->out.len, stdout);
    fflush(stdout);
    buf_reset(&r->out);
}

static void print_error(struct run *r, const struct err *err)
{
    buf_reset(&r->out);
    buf_printf(&r->out, "{\"error\":\"%s\",\"text\":", err_kind_name(err->kind));
    json_add_string(&r->out, slice_str(err->text));
    buf_add_str(&r->out, "}");
    print_line(r);
    r->failed = true;
}

static void add_cell(struct buf *b, struct slice cell)
{
    if (!cell.p) {
        buf_add_str(b, "null");
        return;
    }
    buf_add_byte(b, '"');
    text_add_hex(b, cell);
    buf_add_byte(b, '"');
}

static bool print_rows(struct run *r, const struct page *page, struct err *err)
{
    struct row_cursor cursor = page_rows(page);
    struct slice *cells = calloc(page->columns->count + 1u, sizeof *cells);

    while (row_next(&cursor, cells, err)) {
        buf_add_byte(&r->out, '{');
        for (uint16_t i = 0; i < page->columns->count; i++) {
            if (i)
                buf_add_byte(&r->out, ',');
            json_add_string(&r->out, page->columns->list[i].name);
            buf_add_byte(&r->out, ':');
            add_cell(&r->out, cells[i]);
        }
        buf_add_byte(&r->out, '}');
        print_line(r);
    }
    free(cells);
    return err->kind == ERR_NONE;
}

static void print_page(struct run *r, const struct page *page, struct slice state)
{
    buf_printf(&r->out,
               "{\"page\":true,\"rows\":%" PRIu32 ",\"more\":%s,\"columns\":%u,"
               "\"shape_changed\":%s,\"read_at_us\":%" PRId64 ",\"node\":\"%s\",\"types\":[",
               page->row_count, page->last ? "false" : "true", page->columns->count,
               page->shape_changed ? "true" : "false", page->read_at_us, page->node);
    for (uint16_t i = 0; i < page->columns->count; i++) {
        struct buf text;
        buf_init(&text, 64 << 10);
        type_add_text(&text, page->columns->list[i].type);
        buf_add_str(&r->out, i ? "," : "");
        json_add_string(&r->out, buf_slice(&text));
        buf_fini(&text);
    }
    buf_add_str(&r->out, "],\"state\":");
    add_cell(&r->out, state);
    buf_add_str(&r->out, "}");
    print_line(r);
}

static bool run_select(struct run *r, const char *text, struct err *err)
{
    struct cql_query q = {.text = text,
                          .page_rows = r->page_rows,
                          .values = r->values,
                          .value_count = r->value_count};
    struct page page;

    if (r->state.len)
        q.paging_state = buf_slice(&r->state);
    AUTO(cql_pager) struct cql_pager *pager = cql_pager_open(r->session, &q, err);
    buf_reset(&r->state);
    r->value_count = 0;
    if (!pager)
        return false;
    cql_pager_set_prefetch(pager, r->prefetch);
    for (long n = 0; r->pages_max == 0 || n < r->pages_max; n++) {
        if (!cql_pager_next(pager, &page, err))
            return err->kind == ERR_NONE;
        if (!r->quiet && !print_rows(r, &page, err))
            return false;
        print_page(r, &page, cql_pager_state(pager));
    }
    return true;
}

static bool run_many(struct run *r, char *rest, struct err *err)
{
    uint32_t n = (uint32_t)strtoul(rest, &rest, 10);
    cql_ticket *tickets = calloc(n + 1u, sizeof *tickets);
    uint64_t rows = 0;
    bool ok = true;

    while (*rest == ' ')
        rest++;
    for (uint32_t i = 0; i < n && ok; i++) {
        uint32_t value = __builtin_bswap32(i);
        struct slice values[1] = {slice_of(&value, 4)};
        struct cql_query q = {.text = rest,
                              .values = values,
                              .value_count = strchr(rest, '?') != NULL,
                              .page_rows = r->page_rows};
        ok = cql_send(r->session, &q, &tickets[i], err);
    }
    for (uint32_t i = n; i-- > 0 && ok;) { /* not in the order they were sent */
        struct page page;
        ok = cql_take(r->session, tickets[i], &page, err);
        if (ok)
            rows += page.row_count;
        cql_release(r->session, tickets[i]);
    }
    free(tickets);
    if (!ok)
        return false;
    buf_printf(&r->out, "{\"answers\":%" PRIu32 ",\"rows\":%" PRIu64 "}", n, rows);
    print_line(r);
    return true;
}

static bool print_schema(struct run *r, const char *ks, const char *table, struct err *err)
{
    AUTO(schema) struct schema *s = cql_schema_load(r->cluster, ks, table, err);

    if (!s)
        return false;
    buf_printf(&r->out, "{\"partition_keys\":%u,\"clustering\":%u,\"counter\":%s,\"columns\":[",
               s->partition_key_count, s->clustering_count, s->counter ? "true" : "false");
    for (uint16_t i = 0; i < s->column_count; i++) {
        const struct schema_column *c = &s->columns[i];
        struct buf text;
        buf_init(&text, 64 << 10);
        type_add_text(&text, c->type);
        buf_add_str(&r->out, i ? ",{\"name\":" : "{\"name\":");
        json_add_string(&r->out, slice_str(c->name));
        buf_printf(&r->out, ",\"kind\":%d,\"position\":%d,\"descending\":%s,\"type\":", c->kind,
                   c->position, c->descending ? "true" : "false");
        json_add_string(&r->out, buf_slice(&text));
        buf_add_str(&r->out, ",\"type_text\":");
        json_add_string(&r->out, slice_str(c->type_text));
        buf_add_byte(&r->out, '}');
        buf_fini(&text);
    }
    buf_add_str(&r->out, "]}");
    print_line(r);
    return true;
}

static void print_names(struct run *r, struct cql_names *names)
{
    buf_add_byte(&r->out, '[');
    for (size_t i = 0; i < names->count; i++) {
        buf_add_str(&r->out, i ? "," : "");
        json_add_string(&r->out, slice_str(names->names[i]));
    }
    buf_add_byte(&r->out, ']');
    print_line(r);
    cql_names_fini(names);
}

static bool plan(struct run *r, const char *ks, const char *table, uint64_t bytes, size_t count,
                 struct cql_ranges *out, struct err *err)
{
    static const struct token_range all = {.start = INT64_MIN, .end = INT64_MAX};
    AUTO(schema) struct schema *s = cql_schema_load(r->cluster, ks, table, err);

    return s && cql_ranges_plan(r->cluster, s, &all, 1, bytes, count, out, err);
}

static bool print_plan(struct run *r, const char *ks, const char *table, uint64_t bytes,
                       size_t count, struct err *err)
{
    struct cql_ranges ranges;

    if (!plan(r, ks, table, bytes, count, &ranges, err))
        return false;
    for (size_t i = 0; i < ranges.count; i++) {
        const struct token_range *t = &ranges.list[i];
        buf_printf(&r->out,
                   "{\"start\":%" PRId64 ",\"end\":%" PRId64 ",\"node\":%d,\"bytes\":%" PRIu64
                   ",\"rows\":%" PRIu64 "}",
                   t->start, t->end, t->node, t->estimated_bytes, t->estimated_rows);
        print_line(r);
    }
    buf_printf(&r->out,
               "{\"ranges\":%zu,\"estimated_rows\":%" PRIu64 ",\"mean_partition_bytes\":%" PRIu64
               "}",
               ranges.count, ranges.estimated_rows, ranges.mean_partition_bytes);
    print_line(r);
    cql_ranges_fini(&ranges);
    return true;
}

struct scan {
    struct run *run;
    const char *keyspace;
    const char *text;
    const struct cql_ranges *ranges;
    atomic_size_t next;
    atomic_uint_fast64_t rows, pages, bytes;
    pthread_mutex_t lock;
    struct err err;
};

static bool scan_range(struct scan *s, struct cql_session *session, const struct token_range *range,
                       struct err *err)
{
    uint64_t bounds[2] = {__builtin_bswap64((uint64_t)range->start),
                          __builtin_bswap64((uint64_t)range->end)};
    struct slice values[2] = {slice_of(&bounds[0], 8), slice_of(&bounds[1], 8)};
    struct cql_query q = {.text = s->text,
                          .values = values,
                          .value_count = 2,
                          .page_rows = s->run->page_rows,
                          .has_token = true,
                          .token = range->end,
                          .keyspace = s->keyspace};
    struct page page;
    AUTO(cql_pager) struct cql_pager *pager = cql_pager_open(session, &q, err);

    if (!pager)
        return false;
    for (int tries = 0; tries < SCAN_TRIES;) {
        if (!cql_pager_next(pager, &page, err)) {
            if (err->kind != ERR_RETRY)
                return err->kind == ERR_NONE;
            tries++;
            sleep_ms(500);
            continue;
        }
        struct row_cursor cursor = page_rows(&page);
        struct slice cells[64];
        uint64_t rows = 0;
        if (page.columns->count > 64)
            return err_set(err, ERR_USER, "too many columns");
        while (row_next(&cursor, cells, err))
            rows++;
        if (err->kind != ERR_NONE)
            return false;
        atomic_fetch_add(&s->rows, rows);
        atomic_fetch_add(&s->pages, 1);
        atomic_fetch_add(&s->bytes, page.rows.n);
        tries = 0;
    }
    return false;
}

static void *scan_main(void *arg)
{
    struct scan *s = arg;
    struct err err;
    size_t i;
    AUTO(cql_session) struct cql_session *session = cql_session_open(s->run->cluster, &err);

    while (session && (i = atomic_fetch_add(&s->next, 1)) < s->ranges->count) {
        if (scan_range(s, session, &s->ranges->list[i], &err))
            continue;
        pthread_mutex_lock(&s->lock);
        s->err = err;
        pthread_mutex_unlock(&s->lock);
        break;
    }
    return NULL;
}

static bool run_scan(struct run *r, const char *ks, const char *table, const char *columns,
                     long threads, struct err *err)
{
    struct scan s = {.run = r, .keyspace = ks, .lock = PTHREAD_MUTEX_INITIALIZER};
    AUTO(schema) struct schema *schema = cql_schema_load(r->cluster, ks, table, err);
    struct cql_ranges ranges;
    pthread_t ids[16];
    struct buf key;
    struct buf text;

    if (!schema || !plan(r, ks, table, 4 << 20, 16, &ranges, err))
        return false;
    buf_init(&key, 64 << 10);
    buf_init(&text, 64 << 10);
    for (uint16_t i = 0; i < schema->partition_key_count; i++) {
        buf_add_str(&key, i ? "," : "");
        schema_add_quoted(&key, schema->columns[i].name);
    }
    buf_printf(&text, "SELECT %s FROM ", columns);
    schema_add_name(&text, schema);
    buf_printf(&text, " WHERE token(%s) > ? AND token(%s) <= ?", buf_cstr(&key), buf_cstr(&key));
    s.text = buf_cstr(&text);
    s.ranges = &ranges;
    size_t range_count = ranges.count;
    threads = threads < 1 ? 1 : threads > 16 ? 16 : threads;
    for (long i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, scan_main, &s);
    for (long i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    buf_fini(&key);
    buf_fini(&text);
    cql_ranges_fini(&ranges);
    if (s.err.kind != ERR_NONE) {
        *err = s.err;
        return false;
    }
    buf_printf(&r->out,
               "{\"rows\":%" PRIuFAST64 ",\"pages\":%" PRIuFAST64 ",\"bytes\":%" PRIuFAST64
               ",\"ranges\":%zu}",
               s.rows, s.pages, s.bytes, range_count);
    print_line(r);
    return true;
}

static size_t add_unhex(const char *text, struct buf *out)
{
    unsigned byte;

    for (; sscanf(text, "%2x", &byte) == 1 && text[1]; text += 2)
        buf_add_byte(out, (uint8_t)byte);
    return out->len;
}

static size_t unhex(const char *text, struct buf *out)
{
    buf_reset(out);
    return add_unhex(text, out);
}

static bool run_bind(struct run *r, char *rest, struct err *err)
{
    static const uint8_t empty[1];
    size_t ends[BOUND_MAX];
    size_t at = 0;
    uint16_t n = 0;

    buf_reset(&r->bound);
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (n == BOUND_MAX)
            return err_set(err, ERR_USER, "too many values");
        r->values[n] = word[0] == '-' ? SLICE_NULL : slice_of(empty, 0);
        ends[n++] = word[0] == '-' ? r->bound.len : add_unhex(word + 1, &r->bound);
    }
    for (uint16_t i = 0; i < n; i++) {
        if (ends[i] > at)
            r->values[i] = slice_of(r->bound.p + at, ends[i] - at);
        at = ends[i];
    }
    r->value_count = n;
    return true;
}

static bool run_dot(struct run *r, char *line, struct err *err)
{
    char *rest = NULL;
    const char *word = strtok_r(line, " ", &rest);
    struct cql_names names;

    if (!strcmp(word, ".many"))
        return run_many(r, rest, err);
    if (!strcmp(word, ".bind"))
        return run_bind(r, rest, err);
    const char *a[4] = {NULL};
    for (int i = 0; i < 4; i++) {
        a[i] = strtok_r(NULL, " ", &rest);
        if (!a[i])
            a[i] = "";
    }
    if (!strcmp(word, ".rows")) {
        r->page_rows = (uint32_t)strtoul(a[0], NULL, 10);
    } else if (!strcmp(word, ".pages")) {
        r->pages_max = strtol(a[0], NULL, 10);
    } else if (!strcmp(word, ".quiet")) {
        r->quiet = !strcmp(a[0], "on");
    } else if (!strcmp(word, ".prefetch")) {
        r->prefetch = !strcmp(a[0], "on");
    } else if (!strcmp(word, ".state")) {
        unhex(a[0], &r->state);
    } else if (!strcmp(word, ".sleep")) {
        sleep_ms(strtol(a[0], NULL, 10));
    } else if (!strcmp(word, ".schema")) {
        return print_schema(r, a[0], a[1], err);
    } else if (!strcmp(word, ".find")) {
        if (!cql_find_table(r->cluster, a[0], &names, err))
            return false;
        print_names(r, &names);
    } else if (!strcmp(word, ".tables")) {
        if (!cql_list_tables(r->cluster, a[0], &names, err))
            return false;
        print_names(r, &names);
    } else if (!strcmp(word, ".describe")) {
        char text[256];
        cql_cluster_describe(r->cluster, text, sizeof text);
        json_add_string(&r->out, slice_str(text));
        print_line(r);
    } else if (!strcmp(word, ".counters")) {
        struct cql_counters n;
        cql_cluster_counters(r->cluster, &n);
        buf_printf(
            &r->out,
            "{\"requests\":%" PRIu64 ",\"retries_other_node\":%" PRIu64 ",\"reprepares\":%" PRIu64
            ",\"reconnects\":%" PRIu64 ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64 "}",
            n.requests, n.retries_other_node, n.reprepares, n.reconnects, n.bytes_in, n.bytes_out);
        print_line(r);
    } else if (!strcmp(word, ".plan")) {
        return print_plan(r, a[0], a[1], strtoull(a[2], NULL, 10), strtoul(a[3], NULL, 10), err);
    } else if (!strcmp(word, ".scan")) {
        return run_scan(r, a[0], a[1], a[2], strtol(a[3], NULL, 10), err);
    } else if (!strcmp(word, ".token")) {
        struct buf key;
        buf_init(&key, 1 << 20);
        unhex(a[0], &key);
        buf_printf(&r->out, "%" PRId64, cql_token(buf_slice(&key)));
        print_line(r);
        buf_fini(&key);
    } else {
        return err_set(err, ERR_USER, "unknown word %s", word);
    }
    return true;
}

static bool run_line(struct run *r, char *line, struct err *err)
{
    err_clear(err);
    if (line[0] == '.')
        return run_dot(r, line, err);
    if (r->value_count || !strncasecmp(line, "SELECT", 6))
        return run_select(r, line, err);
    if (!cql_run(r->session, line, err))
        return false;
    buf_add_str(&r->out, "{\"done\":true}");
    print_line(r);
    return true;
}

static int usage(void)
{
    fputs(
        "usage: cqlrun [-H HOST[:PORT]]... [-P PORT] [-u USER] [-d LOCAL_DC] [-4] [-z] [-t] [-k]\n"
        "              [-a CA_FILE] [-c CERT] [-y KEY] [-n SERVER_NAME] [-m "
        "ADVERTISED=REACHABLE]...\n"
        "              [-l CONSISTENCY] [-x CONNECT_MS] [-r REQUEST_MS] < STATEMENTS\n"
        "-t TLS, -k TLS without verifying, -z LZ4, -4 protocol v4; password: $CQLRUN_PASSWORD\n",
        stderr);
    return 2;
}

static bool read_options(int argc, char **argv, struct cql_options *o, const char **hosts,
                         const char **map)
{
    size_t host_count = 0;
    size_t map_count = 0;
    int c;

    while ((c = getopt(argc, argv, "H:P:u:d:4ztka:c:y:n:m:l:x:r:")) != -1) {
        switch (c) {
        case 'H':
            if (host_count < 15)
                hosts[host_count++] = optarg;
            break;
        case 'P':
            o->port = (uint16_t)atoi(optarg);
            break;
        case 'u':
            o->username = optarg;
            break;
        case 'd':
            o->local_dc = optarg;
            break;
        case '4':
            o->max_protocol = 4;
            break;
        case 'z':
            o->compression = CQL_COMPRESS_LZ4;
            break;
        case 'k':
            o->tls.insecure = true;
            o->tls.enabled = true;
            break;
        case 't':
            o->tls.enabled = true;
            break;
        case 'a':
            o->tls.ca_file = optarg;
            break;
        case 'c':
            o->tls.cert_file = optarg;
            break;
        case 'y':
            o->tls.key_file = optarg;
            break;
        case 'n':
            o->tls.server_name = optarg;
            break;
        case 'm':
            if (map_count < 15)
                map[map_count++] = optarg;
            break;
        case 'l':
            if (!cql_consistency_parse(slice_str(optarg), &o->consistency))
                return false;
            break;
        case 'x':
            o->connect_timeout_ms = atoi(optarg);
            break;
        case 'r':
            o->request_timeout_ms = atoi(optarg);
            break;
        default:
            return false;
        }
    }
    if (!host_count)
        hosts[0] = "127.0.0.1";
    return optind == argc;
}

int main(int argc, char **argv)
{
    const char *hosts[16] = {NULL};
    const char *map[16] = {NULL};
    struct cql_options o;
    struct clock clock;
    struct err err = {0};
    struct run r = {.page_rows = 5000, .prefetch = true};
    char *line = NULL;
    size_t size = 0;
    ssize_t n;

    cql_options_init(&o);
    clock_init_system(&clock);
    o.hosts = hosts;
    o.address_map = map;
    o.clock = &clock;
    o.password = getenv("CQLRUN_PASSWORD");
    if (!read_options(argc, argv, &o, hosts, map))
        return usage();
    buf_init(&r.out, 256 << 20);
    buf_init(&r.state, 1 << 20);
    buf_init(&r.bound, 1 << 20);
    r.cluster = cql_cluster_open(&o, &err);
    if (r.cluster)
        r.session = cql_session_open(r.cluster, &err);
    if (!r.session)
        print_error(&r, &err);
    while (r.session && (n = getline(&line, &size, stdin)) > 0) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == ';' || line[n - 1] == ' '))
            line[--n] = '\0';
        if (n > 0 && line[0] != '#' && !run_line(&r, line, &err))
            print_error(&r, &err);
    }
    free(line);
    cql_session_free(r.session);
    cql_cluster_free(r.cluster);
    buf_fini(&r.out);
    buf_fini(&r.state);
    buf_fini(&r.bound);
    return r.failed;
}
