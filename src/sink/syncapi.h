/*
 * sink/syncapi.h - the Sync API: a block of ids out, a verdict back. No retry here.
 *
 * What an answer means is decided in syncapi_judge(), which is pure. Accepted is not indexed: the
 * servers answer first and work later, unless asked to await. Threads: a syncapi belongs to one
 * worker.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/client.h"

/*
 * The endpoint as a URL, malloc'ed: "https://" in front when there is no scheme, no "/" at the end,
 * path prefix kept. NULL with ERR_USER: empty, another scheme, no host, a placeholder such as
 * {{domain}} left in, a user name or password in it, blanks.
 */
char *syncapi_endpoint(const char *text, struct err *err);
/* A key would go over plain http:// to another machine. */
bool syncapi_key_exposed(const char *url, const char *key);

/* ---- bodies -----------------------------------------------------------------------------------
 */

/* Ids are JSON texts: "\"do_1\"" or "{\"userId\":\"u1\"}", already encoded. */
struct syncapi_block {
    const struct slice *ids;
    size_t count; /* never 0: an empty list means "everything" to one of the servers */
};

/* The body without any id; each id adds its length, and 1 for each comma. */
size_t syncapi_frame_bytes(const char *object_type, bool await);
/* Appends the body; b->count > 0 is ensured. */
void syncapi_add_body(struct buf *out, const char *object_type, bool await,
                      const struct syncapi_block *b);

/* ---- calls ------------------------------------------------------------------------------------
 */

enum syncapi_outcome {
    SYNC_ACCEPTED,  /* 200 OK: the server will do it, it says */
    SYNC_CONFIRMED, /* awaited, every id is indexed */
    SYNC_PARTLY,    /* awaited, see id_ok */
    SYNC_FAILED,    /* the block failed; the run goes on */
    SYNC_RETRY,     /* may pass if sent again: back off, at least retry_after_ms */
    SYNC_STOP,      /* no block can pass: the job stops at once */
    SYNC_UNKNOWN,   /* the server stopped waiting, its work goes on: send once more without await */
    SYNC_CANCELLED, /* stop now was asked for; the outcome is unknown */
};

struct syncapi_verdict {
    enum syncapi_outcome outcome;
    int status;             /* 0: there was no answer */
    char reason[32];        /* stable word for the failures table, "" when all is well: "http_500",
                               "response_code", "not_confirmed", "connection", ... */
    char text[400];         /* for people; holds no secret */
    int64_t retry_after_ms; /* -1: not said */
    bool no_await;          /* awaited, but this server answers without esSyncResponse */
    size_t confirmed;       /* ids, when awaited */
    const bool *id_ok;      /* SYNC_CONFIRMED, SYNC_PARTLY: one per id of the block, until the next
                               call; else NULL */
    struct slice answer;    /* body as received (the key masked), until the next call; null: none */
    int64_t took_ms;
    bool sent; /* false: no byte can have reached the server */
};

struct syncapi_options {
    const char *url;          /* of syncapi_endpoint() */
    const char *object_type;  /* "user" */
    const char *key;          /* NULL or "": no Authorization; a secret; copied */
    bool await;               /* ask for operationType "sync" */
    size_t max_body_bytes;    /* a longer body is SYNC_FAILED without a call; 0: 1,000,000 */
    struct http_options http; /* authorization is set here, not by the caller */
};

struct syncapi;

/* err: ERR_USER (CA file, key with control characters), ERR_SYSTEM. Strings of the options outlive
 * it, but for `key`. */
struct syncapi *syncapi_new(const struct syncapi_options *o, struct err *err);
void syncapi_free(struct syncapi *s);
AUTO_DEFINE(syncapi);

/*
 * One call. `await` false overrides the option (for SYNC_UNKNOWN). The verdict always says what to
 * do; there is no err.
 */
void syncapi_send(struct syncapi *s, const struct syncapi_block *b, bool await,
                  struct syncapi_verdict *out);
/* The body that was sent last, for the log; until the next call. */
struct slice syncapi_last_body(const struct syncapi *s);

/*
 * What an answer means; pure. `id_ok` has room for b->count. Rules:
 *   2xx with JSON and responseCode OK   accepted; awaited: per id, true in result.esSyncResponse
 * and not false beside it; without esSyncResponse: accepted 2xx with another responseCode, no JSON,
 * JSON cut off   failed 2xx with a web page, 3xx, 401, 403, 404, 405, 407, 410 stop: it is not the
 * Sync API, or it does not let us in, and no other block would fare better 408, 429, 502, 503, 504
 * retry 500 UOS_ESSYNC... when awaited      unknown everything else (400, 413, 500)     failed
 */
void syncapi_judge(const struct http_answer *a, const struct syncapi_block *b, bool await,
                   bool *id_ok, struct syncapi_verdict *out);
