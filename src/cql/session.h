/*
 * cql/session.h - a request from its first try to its answer, for cql_send() and for pagers.
 *
 * Threads: a session and all in it belong to one. Source: DESIGN 3.1, 3.3; protocols 1.5-1.7.
 */
#pragma once
#include "cql/cluster.h"

enum { TRIED_MAX = 16 };

/* A node this session talks to. */
struct link {
    struct link *next;
    struct node *node;
    struct conn *conn;  /* NULL: none at the moment */
    struct err why;     /* how the last one broke */
    uint64_t last_used; /* in requests of the session */
};

/* What a node knows about a prepared statement. */
struct prepared {
    struct link *link;
    const struct columns *columns;
    uint32_t times; /* it was prepared there */
    uint16_t id_bytes;
    uint16_t metadata_id_bytes;
    uint8_t id[128];
    uint8_t metadata_id[128]; /* v5 */
};

struct statement {
    char *text;
    struct arena mem;              /* all shapes its result ever had */
    const struct columns *first;   /* as prepared first */
    const struct columns *columns; /* as known now */
    uint16_t bind_count;
    struct prepared *on;
    size_t on_count;
};

/* One EXECUTE: sent again, here or elsewhere, until it is answered. Zeroed is empty. */
struct request {
    struct call call;
    struct statement *statement;
    struct buf value_bytes;
    struct slice *values;
    uint16_t value_count;
    enum cql_consistency consistency;
    uint32_t page_rows;
    struct slice paging_state; /* lives in the owner */
    bool foreign_state;        /* it came from outside: perhaps another version of the server */
    bool has_token;
    int64_t token;
    char *keyspace;
    struct link *link;           /* where it is, or was last */
    const struct link *verified; /* v4: the node whose metadata were compared by this request */
    bool want_metadata;
    bool again; /* a connection that was idle too long: the same node, once more */
    int reprepared;
    uint32_t prepared_times; /* of `prepared` when it was sent */
    const struct node *tried[TRIED_MAX];
    int tried_count;
    int answered; /* nodes that answered with an error */
    bool failed;  /* `failure` is the error to give when no node is left */
    struct err failure;
};

struct arena *session_scratch(struct cql_session *s);
/* The statement, prepared on some node at least (a round trip when it is new). */
struct statement *session_statement(struct cql_session *s, const struct cql_query *q,
                                    struct err *err);

void request_fini(struct request *r);
/* Copies the query. */
bool request_set(struct cql_session *s, struct request *r, const struct cql_query *q,
                 struct err *err);
/* A new round: all nodes may be tried. */
void request_reset(struct request *r);
/* Sends it to the next node. False when there is none left, with the error to give. */
bool request_start(struct cql_session *s, struct request *r, struct err *err);
/* Waits for the answer, going on to other nodes. The result's bytes are in r->call.bytes. */
bool request_finish(struct cql_session *s, struct request *r, struct codec_result *out,
                    struct err *err);
/* The page, with its columns. False: ask again, the columns must come along (start, finish). */
bool request_page(struct request *r, const struct codec_result *result,
                  const struct columns *expected, struct page *page, bool *again, struct err *err);
