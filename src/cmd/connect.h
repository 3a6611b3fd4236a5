/*
 * cmd/connect.h - from settings to what the modules are given; shared by the commands.
 */
#pragma once
#include <stdbool.h>

#include "cmd/command.h"
#include "config/options.h"
#include "cql/cql.h"
#include "engine/retry.h"
#include "journal/journal.h"
#include "sink/elastic.h"

/* For what is asked before a run begins: a server that is just busy is asked again for some
 * seconds, no longer than run.retry_budget; beyond that somebody should know, as nothing has begun.
 */
void start_retry(struct retry *r, const struct config *c, struct context *ctx);
/* True: waited, ask again (err cleared). False: no more, or it can't pass; err is set. */
bool start_again(struct retry *r, int64_t at_least_ms, struct err *err);

/* A cluster by the cassandra.* settings, tried as start_again() says. err as cql_cluster_open(). */
struct cql_cluster *connect_cassandra(const struct config *c, struct context *ctx, struct err *err);
/*
 * The table's schema: keyspace as given, else found (Sunbird's first). A doubt, or none, is
 * ERR_USER naming the candidates. cassandra.table is required.
 */
struct schema *connect_table(const struct config *c, struct cql_cluster *cluster, struct err *err);
/* What the elastic.* and http.* settings say; borrows from both. */
void connect_elastic(const struct config *c, struct context *ctx, struct elastic_options *out);
/* The journal of run.state_dir, old runs removed. */
struct journal *connect_journal(const struct config *c, struct context *ctx, bool durable,
                                struct err *err);
/* The command line as given, quoted for a shell, secrets overwritten. */
void connect_add_command_line(struct buf *b, const struct context *ctx);
