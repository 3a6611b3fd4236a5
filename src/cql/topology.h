/*
 * cql/topology.h - what is known of the cluster at one moment: nodes, ring, keyspaces, tables.
 *
 * A snapshot is read in one round trip over one connection (each node hides itself in its peers
 * table), never changes (but for ring maps, made when first asked for), and is counted: sessions
 * hold the one they work with. Nodes are known by host_id; a `struct node` lives as long as the
 * cluster.
 * Threads: any. Source: protocols 1.10, 1.11: system.local, system.peers_v2, system.peers,
 * system_schema.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "cql/conn.h"
#include "cql/node.h"
#include "cql/ring.h"

struct table_name {
    const char *keyspace;
    const char *table;
};

struct topology {
    atomic_int owners;
    struct ring *ring;
    struct node **nodes; /* by index of the ring */
    size_t node_count;
    struct node *asked; /* the node that told all this */
    char *local_dc;
    char *cluster_name;
    char *release; /* of `asked` */
    bool murmur3;  /* tokens are known; without it nothing is routed by token */
    char *partitioner;
    struct arena mem;     /* of the names */
    struct map keyspaces; /* name -> struct keyspace */
    struct table_name *tables;
    size_t table_count;
    pthread_mutex_t map_lock;
};

/* Sends the queries, waits for all answers. `host`, `port`: how the connection was made.
 *   local_dc  NULL: that of the node asked
 *   events    REGISTER goes along */
struct topology *topology_read(struct conn *c, const struct conn_env *env, struct node_book *book,
                               const char *host, uint16_t port, const char *local_dc, bool events,
                               struct err *err);
struct topology *topology_hold(struct topology *t);
void topology_free(struct topology *t); /* lets go */
AUTO_DEFINE(topology);

bool topology_has_keyspace(const struct topology *t, const char *name);
/* The ring under the keyspace's replication; NULL when there is no such keyspace or the partitioner
 * is not known. Lives as long as the snapshot. */
const struct ring_map *topology_map(struct topology *t, const char *keyspace);
