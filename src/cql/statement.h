/*
 * cql/statement.h - a session's connections, and what it has prepared over them.
 *
 * Prepared statements are a node's own: each node that is asked prepares once, and again when it
 * has forgotten. Columns of a result are kept in all shapes they ever had, so that pages can point
 * to them. Threads: a session and all in it belong to one. Source: protocols 1.6.
 */
#pragma once
#include "cql/session.h"

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

/* The session's entry for the node; not connected yet. */
struct link *link_of(struct cql_session *s, struct node *node);
/* A connection that works as far as can be known without asking. */
bool link_connect(struct cql_session *s, struct link *l, struct err *err);
/* conn_wait(), also when the connection was replaced meanwhile. */
bool link_wait(struct link *l, struct call *call, struct err *err);
void links_free(struct link *first);

/* The session's entry for the text; not prepared yet when `columns` is NULL. */
struct statement *statement_of(struct cql_session *s, const char *text);
void statement_free(struct statement *st);
/* NULL: not prepared there. Valid until the next statement_prepare(). */
struct prepared *prepared_on(struct statement *st, const struct link *l);
/* PREPARE on a connected link, waiting for the answer. */
bool statement_prepare(struct cql_session *s, struct statement *st, struct link *l,
                       struct err *err);
/* Same names and types. */
bool columns_equal(const struct columns *a, const struct columns *b);
/* The columns of a RESULT, in memory that stays as long as the statement. NULL with err. */
const struct columns *columns_keep(struct statement *st, const struct call *call, struct err *err);
/* Copies an id of a node into its place. */
bool prepared_keep_id(struct slice id, uint8_t *to, size_t size, uint16_t *bytes, struct err *err);
