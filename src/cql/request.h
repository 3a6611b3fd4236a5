/*
 * cql/request.h - one EXECUTE from its first try to its answer, for cql_send() and for pagers.
 *
 * Where it goes: the replicas of its token in the local data centre, those that just failed last,
 * each once in a round; without a token, any local node. Threads: as the session.
 * Source: DESIGN 3.1, 3.3; protocols 1.5-1.7.
 */
#pragma once
#include "cql/statement.h"

enum { TRIED_MAX = 16 };

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

void request_fini(struct request *r);
/* Copies the query. */
bool request_set(struct cql_session *s, struct request *r, const struct cql_query *q,
                 struct err *err);
/* Once it is prepared: whether there is one value for each "?". ERR_USER. */
bool request_check_values(const struct request *r, struct err *err);
/* A new round: all nodes may be tried. */
void request_reset(struct request *r);
/* Sends it to the node it was sent to last. */
bool request_execute(struct cql_session *s, struct request *r, struct err *err);
/* Sends it to the next node. False when there is none left, with the error to give. */
bool request_start(struct cql_session *s, struct request *r, struct err *err);
/* Waits for the answer, going on to other nodes. The result's bytes are in r->call.bytes. */
bool request_finish(struct cql_session *s, struct request *r, struct codec_result *out,
                    struct err *err);
/* The page, with its columns. False: ask again, the columns must come along (start, finish). */
bool request_page(struct request *r, const struct codec_result *result,
                  const struct columns *expected, struct page *page, bool *again, struct err *err);

/* The query's statement, prepared on some node at least (a round trip when it is new). */
struct statement *request_prepare(struct cql_session *s, const struct cql_query *q,
                                  struct err *err);
/* The next node to try; NULL: none is left. */
struct node *request_next_node(struct cql_session *s, const struct request *r);
/* Another node won't make it better. */
bool request_is_final(const struct err *err);
