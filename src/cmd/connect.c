#include "cmd/connect.h"

#include <string.h>

#include "base/log.h"

static const char *const sunbird_keyspaces[] = {"sunbird", "sunbird_courses", NULL};

/* Beyond that somebody should know: nothing has begun yet. */
enum { START_MS = 3000 };

void start_retry(struct retry *r, const struct config *c, struct context *ctx)
{
    int64_t budget_ms = c->run.retry_budget_ms;

    retry_init(r, &ctx->clock, &ctx->cancel, budget_ms < START_MS ? budget_ms : START_MS);
}

bool start_again(struct retry *r, int64_t at_least_ms, struct err *err)
{
    if (err->kind != ERR_RETRY)
        return false;
    LOG(LOG_WARN, "start_retry", F_STR("error", err->text));
    return retry_wait(r, at_least_ms, err);
}

struct cql_cluster *connect_cassandra(const struct config *c, struct context *ctx, struct err *err)
{
    struct cql_options o;
    struct retry r;

    if (!config_need(c, "cassandra.hosts", err))
        return NULL;
    cql_options_init(&o);
    o.hosts = c->cassandra.hosts;
    o.port = (uint16_t)c->cassandra.port;
    o.local_dc = c->cassandra.local_dc;
    o.address_map = c->cassandra.address_map;
    o.username = c->cassandra.username;
    o.password = secret_text(&c->cassandra.password);
    o.tls = (struct cql_tls){
        .enabled = c->cassandra.tls,
        .insecure = c->cassandra.insecure,
        .ca_file = c->cassandra.ca_file,
        .cert_file = c->cassandra.cert_file,
        .key_file = c->cassandra.key_file,
        .server_name = c->cassandra.server_name,
    };
    o.compression =
        c->cassandra.compression == COMPRESSION_LZ4 ? CQL_COMPRESS_LZ4 : CQL_COMPRESS_NONE;
    o.max_protocol = c->cassandra.protocol;
    ensure(
        cql_consistency_parse(slice_str(config_word(c, "cassandra.consistency")), &o.consistency));
    o.connect_timeout_ms = (int)c->cassandra.connect_timeout_ms;
    o.request_timeout_ms = (int)c->cassandra.request_timeout_ms;
    o.clock = &ctx->clock;
    o.cancel = &ctx->cancel;
    start_retry(&r, c, ctx);
    struct cql_cluster *cluster;
    do
        cluster = cql_cluster_open(&o, err);
    while (!cluster && start_again(&r, 0, err));
    return cluster;
}

static void add_names(struct buf *b, const struct cql_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        buf_add_str(b, i ? ", " : "");
        buf_add_str(b, names->names[i]);
    }
}

/* The keyspace among those that have the table: the only one, or the only one of Sunbird's. */
static const char *choose_keyspace(const struct cql_names *found)
{
    const char *chosen = NULL;

    if (found->count == 1)
        return found->names[0];
    for (size_t i = 0; i < found->count; i++) {
        for (const char *const *known = sunbird_keyspaces; *known; known++) {
            if (strcmp(found->names[i], *known) != 0)
                continue;
            if (chosen)
                return NULL;
            chosen = found->names[i];
        }
    }
    return chosen;
}

static struct schema *find_table(const struct config *c, struct cql_cluster *cluster,
                                 struct err *err)
{
    struct cql_names found = {0};
    struct schema *schema = NULL;

    if (!cql_find_table(cluster, c->cassandra.table, &found, err))
        return NULL;
    const char *keyspace = choose_keyspace(&found);
    if (keyspace) {
        schema = cql_schema_load(cluster, keyspace, c->cassandra.table, err);
    } else if (found.count == 0) {
        config_fault(c, "cassandra.table", err, "no keyspace has a table \"%s\"",
                     c->cassandra.table);
    } else {
        struct buf names;

        buf_init(&names, 300);
        add_names(&names, &found);
        config_fault(c, "cassandra.table", err,
                     "table \"%s\" is in several keyspaces: %s; say which by --keyspace",
                     c->cassandra.table, buf_cstr(&names));
        buf_fini(&names);
    }
    cql_names_fini(&found);
    return schema;
}

struct schema *connect_table(const struct config *c, struct cql_cluster *cluster, struct err *err)
{
    if (!config_need(c, "cassandra.table", err))
        return NULL;
    if (!c->cassandra.keyspace)
        return find_table(c, cluster, err);
    return cql_schema_load(cluster, c->cassandra.keyspace, c->cassandra.table, err);
}

void connect_elastic(const struct config *c, struct context *ctx, struct elastic_options *out)
{
    static const enum elastic_compress modes[] = {[COMPRESS_AUTO] = ELASTIC_AUTO,
                                                  [COMPRESS_OFF] = ELASTIC_PLAIN,
                                                  [COMPRESS_GZIP] = ELASTIC_GZIP};

    *out = (struct elastic_options){
        .urls = c->elastic.urls,
        .username = c->elastic.username,
        .password = secret_text(&c->elastic.password),
        .api_key = secret_text(&c->elastic.api_key),
        .bearer = secret_text(&c->elastic.bearer),
        .ca_file = c->elastic.ca_file,
        .cert_file = c->elastic.cert_file,
        .key_file = c->elastic.key_file,
        .compress = modes[c->elastic.compress],
        .shared = &ctx->elastic,
        .connect_timeout_ms = (int)c->http.connect_timeout_ms,
        .request_timeout_ms = (int)c->http.request_timeout_ms,
        .clock = &ctx->clock,
        .cancel = &ctx->cancel,
    };
}

struct journal *connect_journal(const struct config *c, struct context *ctx, bool durable,
                                struct err *err)
{
    struct journal *j = journal_open(c->run.state_dir, durable, &ctx->clock, err);

    if (j && !journal_prune(j, c->run.keep_runs_ms / 1000, err)) {
        journal_close(j);
        return NULL;
    }
    return j;
}

static bool needs_quotes(const char *word)
{
    return !*word ||
           strspn(word,
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%*") !=
               strlen(word);
}

void connect_add_command_line(struct buf *b, const struct context *ctx)
{
    for (int i = 0; i < ctx->argc; i++) {
        const char *word = ctx->argv[i];

        if (i)
            buf_add_byte(b, ' ');
        if (!needs_quotes(word)) {
            buf_add_str(b, word);
            continue;
        }
        buf_add_byte(b, '\'');
        for (; *word; word++) {
            if (*word == '\'')
                buf_add_str(b, "'\\''");
            else
                buf_add_byte(b, (uint8_t)*word);
        }
        buf_add_byte(b, '\'');
    }
}
