/*
 * cql/cluster.h - what sessions and the schema reader need of a cql_cluster.
 *
 * The cluster owns: the current topology (swapped under a lock), the book of nodes, one spare
 * connection, and the control thread with a connection of its own. The connection that opened the
 * cluster is the first spare: questions about the schema go over it, and the first session takes it
 * over. So a program's first page is asked for after three round trips on one connection: topology,
 * schema, PREPARE. The control thread connects half a second later and re-reads what it may have
 * missed; then it follows events (debounced by a second), reads all again every five minutes, and
 * moves to another node when its own fails.
 * Threads: all functions from any.
 */
#pragma once
#include "cql/topology.h"

struct cql_cluster;

const struct conn_env *cluster_env(const struct cql_cluster *c);
struct node_book *cluster_book(struct cql_cluster *c);
const char *cluster_local_dc(const struct cql_cluster *c);
struct contact {
    char host[256];
    uint16_t port;
};
/* The contact points in their order; NULL behind the last. */
const struct contact *cluster_contact(const struct cql_cluster *c, size_t i);
/* The current snapshot; the caller lets it go with topology_free(). */
struct topology *cluster_topology(struct cql_cluster *c);
/* Changes when the snapshot does. */
unsigned cluster_generation(struct cql_cluster *c);

/* Takes it over as the current one. */
void cluster_publish(struct cql_cluster *c, struct topology *t);

/* A connection to this node: the spare when it leads there, else a new one. Notes whether the node
 * can be reached. */
struct conn *cluster_connect(struct cql_cluster *c, struct node *node, struct err *err);

/* A new connection to any node of the local data centre: those that work first. */
struct conn *cluster_connect_any(struct cql_cluster *c, const struct conn_env *env,
                                 struct node **node, struct err *err);

/* The spare, or a new connection to any node; then back with cluster_give_back() (broken: closed).
 */
struct conn *cluster_borrow(struct cql_cluster *c, struct node **node, struct err *err);
void cluster_give_back(struct cql_cluster *c, struct conn *conn, struct node *node);

/* Reads everything again now, over this connection. */
bool cluster_refresh(struct cql_cluster *c, struct conn *conn, struct node *node, struct err *err);

/* system.size_estimates of a table, kept for a while so that cql_ranges_plan() finds what
 * cql_schema_load() brought along. */
struct estimates {
    struct ring_estimate *list;
    size_t count;
};
void cluster_put_estimates(struct cql_cluster *c, const char *keyspace, const char *table,
                           struct estimates *e); /* takes e->list */
/* A copy for the caller to free; false when there is none that is fresh. */
bool cluster_get_estimates(struct cql_cluster *c, const char *keyspace, const char *table,
                           struct estimates *out);
/* 0, 1, 2, ...: sessions begin at different nodes. */
unsigned cluster_session_number(struct cql_cluster *c);
