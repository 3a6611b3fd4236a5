/*
 * cql/cql.h - the CQL client: what a program that reads Cassandra includes.
 *
 * It speaks native protocol v5 and v4 to Apache Cassandra 3.x-5.x and compatible stores. It knows
 * nothing of what the rows are for. One `cql_cluster` per process keeps the control connection: it
 * learns nodes, tokens and replication, and follows their changes on a thread of its own. Each
 * worker thread opens a `cql_session`, which owns its connections (one per node it talks to, at
 * most two at a time), its prepared statements and its buffers. All calls block, with a deadline
 * and the cluster's cancel; none calls back.
 *
 *   struct cql_cluster *cluster = cql_cluster_open(&options, &err);
 *   struct schema *table = cql_schema_load(cluster, "shop", "users", &err);
 *   struct cql_session *s = cql_session_open(cluster, &err);
 *   struct cql_query q = {.text = "SELECT ... WHERE token(\"id\") > ? AND token(\"id\") <= ?",
 * ...}; struct cql_pager *pager = cql_pager_open(s, &q, &err); while (cql_pager_next(pager, &page,
 * &err)) ...
 *
 * Errors: ERR_RETRY (time-outs, overload, lost connections: every reachable replica was tried once;
 * back off and call again), ERR_REJECT (this statement with these values can't pass: READ_FAILURE,
 * invalid values), ERR_USER (unknown table or column, no rights, wrong options), ERR_REACH (no node
 * can be reached or logged in to), ERR_CANCEL. Nothing here sleeps to retry: that is the caller's.
 * A call that succeeds leaves err at ERR_NONE, whatever was tried before.
 *
 * What is freed first: pagers and tickets before their session, sessions before the cluster.
 *
 * Round trips: the connection that opens the cluster reads the topology in one, answers
 * cql_schema_load() (and the estimates of the cql_ranges_plan() after it) in a second, and is taken
 * over by the first session that talks to its node, which prepares in a third and executes. The
 * control thread opens its own connection half a second later.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/row.h"
#include "model/schema.h"

enum cql_consistency {
    CQL_ONE = 1,
    CQL_TWO = 2,
    CQL_THREE = 3,
    CQL_QUORUM = 4,
    CQL_ALL = 5,
    CQL_LOCAL_QUORUM = 6,
    CQL_LOCAL_ONE = 10,
};

enum cql_compression { CQL_COMPRESS_NONE, CQL_COMPRESS_LZ4 };

/* PLAIN now; another mechanism is another pair of functions. */
struct cql_auth {
    /* First token for the server's authenticator class; false with err (ERR_REACH) when it is not
     * ours to answer. */
    bool (*start)(void *ctx, struct slice authenticator_class, struct buf *token, struct err *err);
    /* Answer to AUTH_CHALLENGE. */
    bool (*challenge)(void *ctx, struct slice challenge, struct buf *token, struct err *err);
    void *ctx; /* outlives the cluster; called from several threads */
};

struct cql_tls {
    bool enabled;
    bool insecure;         /* do not verify the server: only on explicit demand */
    const char *ca_file;   /* PEM; NULL: the system's */
    const char *cert_file; /* client certificate, PEM; NULL: none */
    const char *key_file;  /* its key, PEM */
    const char
        *server_name; /* name to check and to send as SNI instead of the host; NULL: the host */
};

struct cql_options {
    const char *const
        *hosts;    /* contact points, "host" or "host:port" or "[v6]:port"; NULL-terminated */
    uint16_t port; /* for hosts without one; 9042 */
    const char *local_dc; /* NULL: that of the first contact point that answers */
    const char *const
        *address_map;     /* "advertised[:port]=reachable[:port]"; NULL-terminated; may be NULL */
    const char *username; /* NULL or "": none; used by the built-in PLAIN */
    const char *password;
    const struct cql_auth *auth; /* NULL: PLAIN with username and password */
    struct cql_tls tls;
    enum cql_compression compression;
    int max_protocol;                 /* 5; 4 to insist on v4 */
    enum cql_consistency consistency; /* CQL_LOCAL_QUORUM */
    int connect_timeout_ms;           /* 5000: TCP, TLS, log-in together */
    int request_timeout_ms;           /* 12000 per attempt */
    uint32_t max_frame_bytes;         /* largest answer taken; 256 MiB */
    struct clock *clock;              /* T comes from here */
    struct cancel *cancel;            /* level 2 ends every wait with ERR_CANCEL; may be NULL */
};

/* The defaults named above. */
void cql_options_init(struct cql_options *o);

/* "quorum", "LOCAL_ONE", ... */
bool cql_consistency_parse(struct slice name, enum cql_consistency *out);
const char *cql_consistency_name(enum cql_consistency c);

/* ---- cluster ----------------------------------------------------------------------------------
 */

struct cql_cluster; /* options are copied; shared by threads */

/* Connects to the first contact point that answers, learns the topology, starts the control thread.
 * NULL with ERR_REACH (every contact point is named with its reason: not Cassandra, TLS,
 * credentials; each has connect_timeout_ms), ERR_RETRY (likewise, and each may pass: refused, timed
 * out, overloaded), ERR_USER (options), ERR_CANCEL or ERR_SYSTEM. */
struct cql_cluster *cql_cluster_open(const struct cql_options *options, struct err *err);
void cql_cluster_free(struct cql_cluster *c);
AUTO_DEFINE(cql_cluster);

struct cql_counters {
    uint64_t requests; /* sent, log-in and topology included */
    uint64_t retries_other_node;
    uint64_t reprepares;
    uint64_t reconnects; /* connections opened after the first */
    uint64_t bytes_in;   /* of the socket (of TLS: inside it) */
    uint64_t bytes_out;
};
void cql_cluster_counters(struct cql_cluster *c, struct cql_counters *out);

/* "Shop, release 5.0.4, protocol v5, data centre dc1, 3 nodes" into text. */
void cql_cluster_describe(struct cql_cluster *c, char *text, size_t size);

/* ERR_USER when keyspace or table is not there (the text names the nearest), or when the
 * consistency is a local one and the keyspace has no replica in the local data centre. Views count
 * as tables. */
struct schema *cql_schema_load(struct cql_cluster *c, const char *keyspace, const char *table,
                               struct err *err);

/* Keyspaces that hold a table (or view) of that name, system keyspaces left out; `names` is
 * NULL-terminated and malloc'ed. */
struct cql_names {
    char **names;
    size_t count;
};
bool cql_find_table(struct cql_cluster *c, const char *table, struct cql_names *out,
                    struct err *err);
/* Tables of a keyspace, for "did you mean". */
bool cql_list_tables(struct cql_cluster *c, const char *keyspace, struct cql_names *out,
                     struct err *err);
void cql_names_fini(struct cql_names *n);

/* ---- ring -------------------------------------------------------------------------------------
 */

/* (start, end]; the whole ring is (INT64_MIN, INT64_MAX]. Unwrapped: start < end always. */
struct token_range {
    int64_t start;
    int64_t end;
    int32_t node; /* index of the first local replica: ranges of one node are worked off together;
                     -1 unknown */
    uint64_t estimated_bytes; /* 0: unknown */
    uint64_t estimated_rows;  /* partitions; 0: unknown */
};

struct cql_ranges {
    struct token_range *list;
    size_t count;
    uint64_t estimated_rows;       /* partitions of the table; 0: unknown */
    uint64_t mean_partition_bytes; /* 0: unknown */
};

/*
 * Cuts (start, end] pieces of the ring for a scan of the table: none crosses the border of two
 * replica sets, none is estimated above target_bytes (system.size_estimates), at least `at_least`
 * in all when the table is not tiny. Ordered so that nodes take turns. Together they are exactly
 * the given intervals. of, of_count   what is wanted, sorted, disjoint ((INT64_MIN, INT64_MAX] for
 * all)
 */
bool cql_ranges_plan(struct cql_cluster *c, const struct schema *table,
                     const struct token_range *of, size_t of_count, uint64_t target_bytes,
                     size_t at_least, struct cql_ranges *out, struct err *err);
void cql_ranges_fini(struct cql_ranges *r);

/* Murmur3 as Cassandra computes it (tail bytes sign-extended). `key` is the serialised partition
 * key. */
int64_t cql_token(struct slice key);
/* Serialises a partition key from its components' cells: one: as it is; several: [short] length,
 * bytes, 0 each. */
void cql_partition_key(const struct slice *components, size_t count, struct buf *out);

/* ---- session ----------------------------------------------------------------------------------
 */

struct cql_session; /* belongs to one thread; ends before the cluster does */

struct cql_session *
cql_session_open(struct cql_cluster *c,
                 struct err *err); /* no connection is made before the first request */
void cql_session_free(struct cql_session *s);
/* Gives back the memory that large answers took. */
void cql_session_trim(struct cql_session *s);
AUTO_DEFINE(cql_session);

/* A value to bind: p == NULL is null. */
struct cql_query {
    const char *text;           /* prepared once per node, then executed; stays valid while used */
    const struct slice *values; /* one per "?" */
    uint16_t value_count;
    enum cql_consistency consistency; /* 0: the cluster's */
    uint32_t page_rows;               /* 0: 5000 */
    bool has_token; /* route to a replica of `token` in `keyspace` (NULL: any node) */
    int64_t token;
    const char *keyspace;
    struct slice paging_state; /* go on from here; null: from the start. One that the server does
                                  not take (another version made it) is ERR_REJECT: begin anew */
};

/*
 * All pages of a query, one after the other. While the caller works on a page the next is on its
 * way (prefetch). After ERR_RETRY, call cql_pager_next() again: it goes on behind the last page
 * that was given, at another replica; no row is lost or repeated. The query's texts and values are
 * copied. An empty page is not the end. A page in use and the page to come are two buffers of a
 * page's size.
 */
struct cql_pager;
/* Prepares, when the session has not yet: ERR_USER when table or column are unknown, or the number
 * of values is not that of the "?". Nothing is executed before the first cql_pager_next(). */
struct cql_pager *cql_pager_open(struct cql_session *s, const struct cql_query *q, struct err *err);
void cql_pager_free(struct cql_pager *p);
AUTO_DEFINE(cql_pager);
/* False at the end (err->kind == ERR_NONE) or on error. The page's bytes are valid until the next
 * call, its columns as long as the session: `shape_changed` says that they are not those known when
 * the pager was opened. */
bool cql_pager_next(struct cql_pager *p, struct page *page, struct err *err);
/* State behind the page given last, to go on from in another process; null slice at the end or
 * before the first. Valid until the next call. */
struct slice cql_pager_state(const struct cql_pager *p);
/* Rows to ask for in the pages that are requested from now on. */
void cql_pager_set_rows(struct cql_pager *p, uint32_t page_rows);
/* Prefetch off or on (on): off when the bytes of a page are taken from a budget first. */
void cql_pager_set_prefetch(struct cql_pager *p, bool on);
/* Gives back the memory of the page given last, which ends with it, and what
 * cql_session_trim() does. */
void cql_pager_trim(struct cql_pager *p);

/*
 * Many single requests at once: send all, then take each answer, in any order. An answer is one
 * page (more pages: `last` is false; go on with a pager). A failed request is retried at another
 * replica inside cql_take(), then with a new T. Requests go out together: at the latest with the
 * next cql_take() or cql_pager_next(). At most 1024 wait on one connection: cql_send() then waits
 * for an answer to come, which stays in memory until it is released.
 */
typedef uint32_t cql_ticket; /* a number, not a struct: the one typedef */
bool cql_send(struct cql_session *s, const struct cql_query *q, cql_ticket *out, struct err *err);
/* The page's bytes are valid until cql_release(). After ERR_RETRY it may be taken again, which
 * sends it again. */
bool cql_take(struct cql_session *s, cql_ticket ticket, struct page *page, struct err *err);
/* Ends the ticket, taken or not. */
void cql_release(struct cql_session *s, cql_ticket ticket);

/* Runs a statement that answers no rows (DDL, INSERT), for tools and tests. It is sent once: after
 * ERR_RETRY nobody knows whether it was done. */
bool cql_run(struct cql_session *s, const char *text, struct err *err);
