/*
 * cql/conn.h - one connection to one node: log-in, then many requests in flight.
 *
 * A request is a `struct call` of the requester: conn_begin() gives it a stream id, the requester
 * writes its message with a codec_ function into conn_out(), conn_wait() brings the answer.
 * Answers come in any order; each lands in its own call. Big answers are handed over without a
 * copy.
 * Threads: a connection belongs to one thread at a time. Source: native_protocol_v4.spec and
 * _v5.spec, sections 2-4.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cql/codec.h"
#include "cql/cql.h"
#include "cql/frame.h"
#include "net/stream.h"

/* Of the whole cluster; read while others write. */
struct conn_counts {
    atomic_uint_fast64_t requests, retries_other_node, reprepares, reconnects, bytes_in, bytes_out;
};

/* What all connections of a cluster share. Outlives them. */
struct conn_env {
    const struct cql_options *options;
    const struct cql_auth *auth;
    const struct tls_context *tls; /* NULL: plain */
    struct cancel *cancel;
    atomic_int *version; /* 0 before the first log-in, then what it agreed on: later ones begin
                            with it */
    struct conn_counts *counts;
};

enum call_state {
    CALL_IDLE,
    CALL_WAITING,
    CALL_DONE, /* the answer is in `frame` */
    CALL_LOST, /* the connection broke */
};

struct conn;

/* Zeroed is idle. Stays in its place from conn_begin() until it is DONE, LOST or given up. */
struct call {
    enum call_state state;
    int16_t stream;
    struct conn *conn;     /* while WAITING */
    struct frame frame;    /* DONE: the body, behind its prefix, not compressed; in `bytes` */
    struct buf bytes;      /* memory of the answer, kept from call to call */
    struct deadline until; /* from options.request_timeout_ms */
    int64_t read_at_us;    /* T: stamped by conn_begin(), before anything is sent */
};

/* Connects and logs in. err: ERR_RETRY (refused, timed out, closed), ERR_REACH (credentials, TLS,
 * not Cassandra: says what to change), ERR_CANCEL, ERR_SYSTEM; the text begins with "host:port: ".
 */
struct conn *conn_open(const struct conn_env *env, const char *host, uint16_t port,
                       struct err *err);
void conn_free(struct conn *c);
AUTO_DEFINE(conn);

uint8_t conn_version(const struct conn *c);
const char *conn_name(const struct conn *c); /* "host:port" */
int conn_fd(const struct conn *c);
bool conn_broken(const struct conn *c);
/* Calls that wait for an answer. */
unsigned conn_waiting(const struct conn *c);
/* Has answered a request since it was opened: if it breaks, it may just have been idle too long. */
bool conn_used(const struct conn *c);

/* Gives back buffers that are empty. */
void conn_trim(struct conn *c);

/* Gives the call a stream id and T; then write the message into conn_out() with call->stream. Waits
 * for an answer to come when all ids are taken. False with err: broken, timed out, cancelled. */
bool conn_begin(struct conn *c, struct call *call, struct err *err);
struct buf *conn_out(struct conn *c);
/* Begins to send what was written. Without it, that happens in conn_wait(), or when enough has come
 * together. False: broken. */
bool conn_flush(struct conn *c, struct err *err);
/*
 * Waits for the call's answer until its deadline; other calls' answers land meanwhile.
 * False with err: ERR_RETRY when the connection broke (CALL_LOST) or time ran out (CALL_IDLE: its
 * stream id is kept back until the late answer comes; too many of them break the connection).
 */
bool conn_wait(struct conn *c, struct call *call, struct err *err);
/* Takes what is there without waiting (events). False: broken, with err. */
bool conn_poll(struct conn *c, struct err *err);
/* Not interested any more: WAITING becomes IDLE. */
void call_give_up(struct call *call);
/* Gives up and frees its memory. */
void call_fini(struct call *call);

/* The DONE call's answer as RESULT; c may be NULL when the connection has gone meanwhile. An ERROR
 * answer is false with `server` set (valid as long as the call's bytes and `mem`) and err holding
 * its kind and text; anything else is false with server->code -1 and breaks the connection. */
bool call_result(struct conn *c, struct call *call, struct arena *mem, struct codec_result *out,
                 struct codec_error *server, struct err *err);

/* The next EVENT body off the queue; valid until the next conn_ call. `*lost` when some had to be
 * dropped. */
bool conn_next_event(struct conn *c, struct slice *body, bool *lost);
