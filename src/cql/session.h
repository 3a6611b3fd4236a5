/*
 * cql/session.h - what a cql_session is made of.
 *
 * Threads: a session and all in it belong to one.
 */
#pragma once
#include "base/map.h"
#include "cql/cluster.h"

struct cql_session {
    struct cql_cluster *cluster;
    struct topology *topology; /* the snapshot it works with */
    unsigned generation;       /* of that */
    unsigned number;           /* of the session, to begin at different nodes */
    struct link *links;        /* nodes it talks, or has talked, to */
    struct map statements;     /* text -> struct statement */
    struct arena scratch;      /* of one answer */
    struct buf spare[2];       /* a pager's memory for pages, kept for the next one */
    uint64_t clock;            /* counts requests, for the links' last use */
    struct ticket **tickets;
    size_t ticket_count;
    uint32_t *free_tickets;
    size_t free_count;
};

/* Takes the cluster's newest snapshot; what points into the one before is void. */
void session_look_at_topology(struct cql_session *s);
