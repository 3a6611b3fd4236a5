/*
 * sink/elastic.h - Elasticsearch and OpenSearch: look at documents, write them in bulk.
 *
 * One connection to one of several nodes; another node is taken when one can't be reached. Nothing
 * here sleeps or tries again what may have had an effect: that is the caller's, who reads the rows
 * again first. Answers are checked item by item: as many as actions were sent, each at its place
 * and with its _id; what is missing is an error, never a success. Threads: an elastic belongs to
 * one worker. Source: protocols section 4.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

/* Everything borrowed for the life of the elastic. */
struct elastic_options {
    const char *const *urls; /* "http://host:9200[/prefix]"; NULL-terminated */
    const char *username;    /* basic auth; NULL: none */
    const char *password;
    const char *api_key;     /* sent as "ApiKey ..."; NULL: none; a secret */
    const char *ca_file;     /* NULL: the system's */
    int connect_timeout_ms;  /* 0: 5000 */
    int request_timeout_ms;  /* 0: 60000 */
    size_t body_bytes;       /* largest body sent unless one document is larger; 0: 1 MiB */
    size_t max_answer_bytes; /* 0: 64 MiB */
    struct clock *clock;
    struct cancel *cancel; /* may be NULL */
};

struct elastic;

struct elastic *elastic_new(const struct elastic_options *o, struct err *err);
void elastic_free(struct elastic *e);
AUTO_DEFINE(elastic);

/*
 * Errors of every call below:
 *   ERR_RETRY   not reached, lost, timed out, 429, 502, 503, 504: a write's outcome is unknown
 *   ERR_REJECT  elastic_mget() only: an answer that is too large, or holds a document that can't be
 *               told faithfully; ask for fewer, or without source
 *   ERR_REACH   401, 403: log-in or rights
 *   ERR_USER    the index is not there, an answer that is not Elasticsearch's, TLS, ...
 *   ERR_CANCEL
 */

/* What the server asked us to wait after the last ERR_RETRY, in ms; -1: nothing. */
int64_t elastic_retry_after_ms(const struct elastic *e);

struct elastic_version {
    int major, minor;
    bool opensearch;
    bool known; /* false: the server does not say (no "GET /"); taken for 7 or later */
    char text[64];
};

/* Who is there. ERR_USER for what we don't support yet (before 7). */
bool elastic_identify(struct elastic *e, struct elastic_version *out, struct err *err);
/* ERR_USER unless the name is one index, or an alias of exactly one: says how to create it. */
bool elastic_check_index(struct elastic *e, const char *index, struct err *err);

/* ---- looking ----------------------------------------------------------------------------------
 */

struct elastic_found {
    bool found;
    int64_t seq_no;
    int64_t primary_term;
    const struct json *source; /* NULL when it was not asked for, or the index keeps none */
};

/*
 * _mget, real-time: what is stored at this moment, also when no search sees it yet.
 *   out  count of them; sources live in mem
 */
bool elastic_mget(struct elastic *e, const char *index, const struct slice *ids, size_t count,
                  bool with_source, struct arena *mem, struct elastic_found *out, struct err *err);

/* ---- writing ----------------------------------------------------------------------------------
 */

enum elastic_op {
    ELASTIC_CREATE, /* only if absent */
    ELASTIC_INDEX,  /* only if still as at seq_no, primary_term */
    ELASTIC_DELETE, /* the same */
};

enum elastic_verdict {
    ELASTIC_OPEN,     /* not answered: an error ended the call; the outcome is unknown */
    ELASTIC_DONE,     /* written or deleted */
    ELASTIC_GONE,     /* a delete's document was not there */
    ELASTIC_CONFLICT, /* 409: somebody else wrote */
    ELASTIC_LATER,    /* 429, 503 and the like for this one: may pass */
    ELASTIC_REJECTED, /* can never pass: reason, text */
};

struct elastic_item {
    enum elastic_op op;
    struct slice id;
    int64_t seq_no; /* the condition; after DONE what the write got */
    int64_t primary_term;
    size_t line_begin; /* its lines in the body */
    size_t line_end;

    enum elastic_verdict verdict;
    int status;
    char reason[48]; /* error type */
    char text[200];
};

struct elastic_bulk {
    struct buf body;
    struct elastic_item *items;
    size_t count;
    size_t cap;
};

/* max_bytes: of the body. */
void elastic_bulk_init(struct elastic_bulk *b, size_t max_bytes);
void elastic_bulk_fini(struct elastic_bulk *b);
void elastic_bulk_reset(struct elastic_bulk *b);
/* Adds an action. source: one JSON object on one line (not for DELETE). id is borrowed until the
 * next reset. False when the body is full (nothing was added). */
bool elastic_bulk_add(struct elastic_bulk *b, enum elastic_op op, struct slice id, int64_t seq_no,
                      int64_t primary_term, struct slice source);

/*
 * Sends all actions, in bodies of at most body_bytes; every item gets its verdict. A 413 halves the
 * body size for good, a 400 for the whole body is narrowed down to the line that earns it. After an
 * err, items that were answered before it keep their verdicts, the others are ELASTIC_OPEN.
 */
bool elastic_bulk_send(struct elastic *e, const char *index, struct elastic_bulk *b,
                       struct err *err);

/* ---- answers, for tests and fuzzing -----------------------------------------------------------
 */

/* Reads a _bulk answer for items [0, count). False: ERR_RETRY when it is not one, or when items are
 * missing, in excess or at the wrong place; then no verdict was set. */
bool elastic_read_bulk(struct slice answer, struct elastic_item *items, size_t count,
                       struct arena *mem, struct err *err);
/* Reads an _mget answer. index_missing: set when the server says so for an id. */
bool elastic_read_mget(struct slice answer, const struct slice *ids, size_t count,
                       struct arena *mem, struct elastic_found *out, bool *index_missing,
                       struct err *err);
