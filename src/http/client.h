/*
 * http/client.h - HTTP out, by libcurl: one handle per worker, connections kept.
 *
 * One call, one answer; no retry here. TLS is verified. A redirect is not followed: it is an
 * answer. Proxy variables are honoured as curl does. Threads: a client belongs to one worker.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct http_options {
    const char *ca_file;   /* PEM; NULL: the system's */
    const char *cert_file; /* PEM, of this client; NULL: none */
    const char *key_file;  /* of cert_file; NULL: in cert_file */
    const char *username;  /* basic auth; NULL: none */
    const char *password;
    const char
        *authorization; /* whole value of the header, such as "Bearer ..."; NULL: none; a secret */
    const char *user_agent;
    int connect_timeout_ms;
    int request_timeout_ms;
    size_t max_answer_bytes; /* a longer answer is ERR_REJECT... the connection is dropped */
    struct clock *clock;
    struct cancel *cancel; /* level 2 ends a call with ERR_CANCEL; may be NULL */
};

struct http_client;

struct http_client *http_client_new(const struct http_options *o, struct err *err);
void http_client_free(struct http_client *c);
/* The last answer ends, and its memory is given back. */
void http_client_trim(struct http_client *c);
AUTO_DEFINE(http_client);

struct http_request {
    const char *method; /* "POST" */
    const char *url;
    const char *content_type;   /* NULL: no body */
    struct slice body;          /* borrowed for the call */
    const char *const *headers; /* more of them, "Name: value", NULL-terminated; may be NULL */
    size_t max_answer_bytes;    /* less than the client's; 0: that */
};

struct http_answer {
    int status;
    struct slice body; /* valid until the next call */
    char content_type[64];
    char location[256];     /* of a redirect */
    int64_t retry_after_ms; /* -1: not said */
    int64_t took_ms;
    int64_t upload_us; /* of that, what the body took to leave: until its last byte was handed to
                          the kernel, and as long as the kernel had bytes that the other end had not
                          acknowledged, in steps of some ms. A server that has all and works is not
                          in it. 0 without a body */
    bool new_connection;
};

/*
 * True when an answer came, whatever its status. Else err:
 *   ERR_RETRY   could not connect, time-out, connection lost, answer cut off; effect unknown
 *   ERR_REACH   the server's certificate is not trusted: says what to do
 *   ERR_USER    wrong URL, no such CA file: says what to do
 *   ERR_REJECT  answer longer than max_answer_bytes
 *   ERR_CANCEL
 * `*sent` (may be NULL): false when no byte of the request can have reached the server.
 */
bool http_call(struct http_client *c, const struct http_request *r, struct http_answer *out,
               bool *sent, struct err *err);
