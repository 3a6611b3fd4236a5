/*
 * sink/elastic.h - Elasticsearch and OpenSearch: look at documents, write them in bulk, look after
 * an index.
 *
 * One connection to one of several nodes; another node is taken when one can't be reached. Nothing
 * here sleeps or tries again what may have had an effect: that is the caller's, who reads the rows
 * again first. Answers are checked item by item: as many as actions were sent, each at its place;
 * what is missing is an error, never a success. Threads: an elastic belongs to one worker.
 * Source: protocols section 4.
 *
 * elastic.c: life, calls, fail-over; elastic_index.c: who is there, indices; elastic_bulk.c:
 * looking and writing; elastic_answer.c: what the answers to those mean.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

enum elastic_compress { ELASTIC_PLAIN, ELASTIC_AUTO /* as the link wants it */, ELASTIC_GZIP };

/* What all elastics of a process have in common; zeroed at first. Threads: any. */
struct elastic_shared {
    atomic_uint workers; /* so far: each begins with another node */
    atomic_int major;    /* of the server; 0: not known yet, taken for 7 or later */
};

/* Everything borrowed for the life of the elastic. */
struct elastic_options {
    const char *const *urls; /* "http://host:9200[/prefix]"; NULL-terminated */
    const char *username;    /* basic auth; NULL: none */
    const char *password;
    const char *api_key;   /* sent as "ApiKey ..."; NULL: none; a secret */
    const char *bearer;    /* sent as "Bearer ..."; NULL: none; a secret */
    const char *ca_file;   /* NULL: the system's */
    const char *cert_file; /* PEM, the client's; NULL: none */
    const char *key_file;  /* of cert_file; NULL: in cert_file */
    enum elastic_compress compress;
    int connect_timeout_ms;        /* 0: 5000 */
    int request_timeout_ms;        /* 0: 60000 */
    size_t body_bytes;             /* largest body sent unless one document is larger; 0: 1 MiB */
    size_t max_answer_bytes;       /* 0: 64 MiB */
    struct elastic_shared *shared; /* NULL: it has its own */
    struct clock *clock;
    struct cancel *cancel; /* may be NULL */
};

struct elastic;

struct elastic *elastic_new(const struct elastic_options *o, struct err *err);
void elastic_free(struct elastic *e);
AUTO_DEFINE(elastic);

/*
 * Errors of every call below:
 *   ERR_RETRY   not reached, lost, timed out, 429, 502, 503, 504: a write's outcome is unknown; a
 *               cluster_block_exception
 *   ERR_REJECT  elastic_mget() only: an answer that is too large, or holds a document that can't be
 *               told faithfully; ask for fewer, or without source
 *   ERR_REACH   401, 403: log-in or rights
 *   ERR_USER    the index is not there, an answer that is not Elasticsearch's, TLS, ...
 *   ERR_CANCEL
 */

/* Memory that large bodies and answers took is given back; the last answer ends. */
void elastic_trim(struct elastic *e);

/* What the server asked us to wait after the last ERR_RETRY, in ms; -1: nothing. */
int64_t elastic_retry_after_ms(const struct elastic *e);

struct elastic_version {
    int major, minor;
    bool opensearch;
    bool known; /* false: the server does not say; taken for 7 or later */
    char text[64];
};

/* Who is there: Elasticsearch 6.8, 7, 8 or OpenSearch 2, 3; ERR_USER for others. The paths
 * of this one, and of all that share with it, are that version's from then on. */
bool elastic_identify(struct elastic *e, struct elastic_version *out, struct err *err);
/* ERR_USER unless the name is one index, or an alias of exactly one: says how to create it. */
bool elastic_check_index(struct elastic *e, const char *index, struct err *err);

/* Where documents are. */
struct elastic_target {
    const char *index;
    const char *pipeline; /* NULL: none */
    const char *type;     /* Elasticsearch 6 only; NULL: _doc */
};

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
 *   routings  one for each id (null: none); NULL: none at all
 *   out       count of them; sources live in mem
 *   most      bytes of the answer, which may be less than max_answer_bytes; 0: those
 *   got       bytes of it, when true is returned
 */
bool elastic_mget(struct elastic *e, const struct elastic_target *t, const struct slice *ids,
                  const struct slice *routings, size_t count, bool with_source, size_t most,
                  struct arena *mem, struct elastic_found *out, size_t *got, struct err *err);

/* ---- writing ----------------------------------------------------------------------------------
 */

enum elastic_op { ELASTIC_INDEX, ELASTIC_CREATE /* only if absent */, ELASTIC_DELETE };

enum elastic_condition {
    ELASTIC_ALWAYS,
    ELASTIC_IF_SEQ_NO,   /* only if still as at seq_no, primary_term; not for ELASTIC_CREATE */
    ELASTIC_VERSION,     /* external: only if what is there has a lower version; not for CREATE */
    ELASTIC_VERSION_GTE, /* lower or the same */
};

struct elastic_action {
    enum elastic_op op;
    enum elastic_condition condition;
    int64_t seq_no, primary_term;
    int64_t version;      /* never negative: the server would refuse the whole request */
    struct slice id;      /* 1 to 512 bytes */
    struct slice routing; /* null: none */
};

enum elastic_verdict {
    ELASTIC_OPEN,     /* not answered: an error ended the call; the outcome is unknown */
    ELASTIC_DONE,     /* written or deleted */
    ELASTIC_GONE,     /* a delete's document was not there */
    ELASTIC_CONFLICT, /* 409: somebody else wrote */
    ELASTIC_LATER,    /* 429, 503 and the like for this one: may pass */
    ELASTIC_REJECTED, /* can never pass */
};

struct elastic_problem {
    char reason[48]; /* error type, never empty */
    char text[200];  /* for people, without values of the document */
};

struct elastic_item {
    uint8_t op;      /* enum elastic_op */
    uint8_t verdict; /* enum elastic_verdict */
    bool created;    /* 201: there was none before */
    uint16_t status;
    uint32_t line_begin, line_end; /* its lines in the body */
    struct slice id;               /* borrowed until reset; null in a lean bulk */
    int64_t seq_no, primary_term;  /* what the write got; -1: unknown */
    int64_t there; /* of a conflict of external versions: the one that is there; -1: unknown */
    const struct elastic_problem *problem; /* of LATER and REJECTED, else NULL; until reset */
};

struct elastic_bulk {
    struct buf body;
    struct elastic_item *items;
    size_t count;
    size_t cap;
    /* Set before the first action: answers come without _id and _seq_no, for many documents. */
    bool lean;
    struct arena problems;
    bool is_sent;        /* items have verdicts */
    uint32_t line_begin; /* of the action that was begun */
    uint8_t end_n; /* of end: the version as it stands at the action line's end; 0: none yet */
    enum elastic_condition end_condition;
    int64_t end_version;
    char end[72];
    uint8_t op;
    struct slice id;
};

/* max_bytes: of the body, less than 4 GiB. */
void elastic_bulk_init(struct elastic_bulk *b, size_t max_bytes);
void elastic_bulk_fini(struct elastic_bulk *b);
void elastic_bulk_reset(struct elastic_bulk *b);
/* A reset that keeps no memory for the body. */
void elastic_bulk_trim(struct elastic_bulk *b);
/* Writes the action line; the caller appends one JSON object on one line to b->body (not for
 * DELETE), then ends or cancels it. The id is borrowed until the next reset, but in a lean bulk,
 * until the end. */
void elastic_bulk_begin(struct elastic_bulk *b, const struct elastic_action *a);
/* False: the body is full; the action was taken back. */
bool elastic_bulk_end(struct elastic_bulk *b);
/* Takes the begun action back. */
void elastic_bulk_cancel(struct elastic_bulk *b);

/* Of one elastic_bulk_send(); set also when it fails. */
struct elastic_sent {
    size_t bytes;      /* of bodies */
    size_t wire_bytes; /* the same as sent: compressed or not */
    int64_t took_ms;   /* waited for */
    int64_t server_ms; /* of that, what the server says it worked */
    unsigned requests;
    bool pushed_back; /* 429, for a whole request or for items */
};

/*
 * Sends all actions, in bodies of at most body_bytes (a lean bulk is one body, as large as the
 * caller made it, unless the server has taught otherwise); every item gets its verdict. A 413
 * halves the body size for good, a 400 for the whole body is narrowed down to the line that earns
 * it. After an err, items that were answered before it keep their verdicts, the others are
 * ELASTIC_OPEN.
 */
bool elastic_bulk_send(struct elastic *e, const struct elastic_target *t, struct elastic_bulk *b,
                       struct elastic_sent *sent, struct err *err);

/* ---- an index ---------------------------------------------------------------------------------
 */

struct elastic_index {
    char name[256]; /* the one behind an alias */
    bool is_alias;
    bool source_enabled;
    bool write_blocked;    /* index.blocks.write or read_only: somebody's will */
    char versioning[16];   /* _meta.cass2es.versioning; "": not said */
    int64_t gc_deletes_ms; /* 60000 unless set */
    int64_t primary_term;  /* highest of its shards */
    int64_t lowest_term;   /* lowest of its shards */
    int shards, replicas;
};

/* False *exists: there is none, *out is untouched. ERR_USER: a data stream, an alias of several
 * indices, a closed index. */
bool elastic_index_look(struct elastic *e, const char *name, struct elastic_index *out,
                        bool *exists, struct err *err);
/* Of the index's shards. One rises when a primary starts anew, and forgets its deletes; none ever
 * falls: an equal sum says that none has risen. */
struct elastic_terms {
    int64_t lowest, highest, sum;
};
bool elastic_primary_terms(struct elastic *e, const char *index, struct elastic_terms *out,
                           struct err *err);
/* definition: JSON, {"settings": ..., "mappings": ...}. ERR_USER when it is there already, or the
 * server refuses it. */
bool elastic_index_create(struct elastic *e, const char *name, struct slice definition,
                          struct err *err);

/* Whether writing makes sense now. */
struct elastic_state {
    bool pause; /* a primary is missing, a read-only or flood-stage block: wait */
    char why[200];
};
bool elastic_cluster_state(struct elastic *e, const char *index, struct elastic_state *out,
                           struct err *err);

/* ---- answers, for tests and fuzzing -----------------------------------------------------------
 */

/* What a _bulk answer is read into. */
struct elastic_answer {
    struct elastic_item *items;
    size_t count;
    bool lean;
    struct arena *problems; /* of the items */
    struct arena *mem;      /* while it is read */
    int64_t took_ms;        /* as the server says; -1: it does not */
    bool pushed_back;       /* an item has a 429 */
};

/* Reads a _bulk answer. False: ERR_RETRY when it is not one, or when items are missing, in excess
 * or at the wrong place; then no verdict was set. Else items that stop the run are ELASTIC_OPEN. */
bool elastic_read_bulk(struct slice text, struct elastic_answer *a, struct err *err);
/* Reads an _mget answer. index_missing: set when the server says so for an id. */
bool elastic_read_mget(struct slice answer, const struct slice *ids, size_t count,
                       struct arena *mem, struct elastic_found *out, bool *index_missing,
                       struct err *err);
