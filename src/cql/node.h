/*
 * cql/node.h - the nodes of a cluster, and where each is reached.
 *
 * A node is known by its host_id; its address is only where it is found now. An entry of the book
 * is never changed but for what the atomics say, and lives as long as the cluster.
 * Threads: any. Source: DESIGN 3.8, protocols 1.11.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"

struct node {
    struct node *next; /* in the node_book */
    uint8_t host_id[16];
    char *dc;
    char *rack;
    char *host; /* where we connect to: mapped, or as the contact point was written */
    uint16_t port;
    char *advertised;              /* "10.0.0.3:9042": for events */
    char *address;                 /* "10.0.0.3:9042", of host and port: for messages */
    bool contact;                  /* reached by this address when the node itself was asked */
    _Atomic int64_t down_until_ms; /* said an event; 0: it is not down */
    atomic_int failures;
    _Atomic int64_t avoid_until_ms; /* it just failed: others first */
};

/* All nodes ever seen, shared by all snapshots. */
struct node_book {
    pthread_mutex_t lock;
    struct node *first;
};
void node_book_init(struct node_book *b);
void node_book_fini(struct node_book *b);
void node_failed(struct node *n, struct clock *clock);
/* An event says so. It is believed for ten minutes: the one that says UP may be lost. */
void node_is_down(struct node *n, struct clock *clock);
void node_worked(struct node *n);
/* Down, or just failed. */
bool node_avoided(const struct node *n, struct clock *clock);

/* A node as its row of system.local or system.peers shows it. */
struct found_node {
    struct slice host_id, dc, rack, tokens;
    char host[256]; /* where it is reached */
    uint16_t port;
    char *advertised;
    bool contact;
};

/* The node's entry; a new one when it is new or has moved. What reached the node once as a contact
 * point keeps reaching it: its advertised address may not be for us. */
struct node *node_book_put(struct node_book *b, const struct found_node *f);

/* "host", "host:port", "[v6]:port", "v6"; *port is kept when none is written. False: not an
 * address. */
bool address_split(const char *text, char *host, size_t size, uint16_t *port);
/* Rewrites host and port by the first "advertised[:port]=reachable[:port]" that fits; `map` is
 * NULL-terminated, or NULL. */
void address_map(const char *const *map, char *host, size_t size, uint16_t *port);
/* "host:port", "[v6]:port"; a new string. */
char *address_text(const char *host, unsigned port);
