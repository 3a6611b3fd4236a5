/*
 * serve/syncapi.h - Sunbird's Sync API as text: a request's bytes to a call, results to an answer.
 *
 * Two servers have this API and answer differently; which of them we speak like (the dialect)
 * follows from the types that are served, or the call's. Pure: no socket, no clock, no journal.
 * What differs from the originals on purpose: errors are JSON where theirs are HTML pages;
 * operationType "sync" works for every type; a whole table is synced only where that is allowed,
 * and a filter without the partition key is refused or allowed, never passed over in silence.
 * Threads: values belong to one. Source: the behaviour of lms-service 8.1 and userorg-service 8.0.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "engine/keyed.h"

enum syncapi_dialect { SYNCAPI_AUTO, SYNCAPI_LMS, SYNCAPI_USERORG };

struct syncapi_rules {
    enum syncapi_dialect dialect; /* SYNCAPI_AUTO: of the service that has all `types`, else by the
                                     call's type, else by path */
    const char *const *types;     /* that are served; NULL-terminated */
    bool whole_table;             /* a call without ids is one for the whole table */
};

/* Everything borrowed; headers are NULL when not sent. */
struct syncapi_request {
    const char *path;
    const char *content_type;
    const char *msgid;      /* x-msgid */
    const char *request_id; /* X-Request-ID */
    const char *fresh_id;   /* a new UUID: the message's id where the request brings none */
    int64_t now_us;
    struct slice body;
};

enum syncapi_wait {
    SYNCAPI_NO_WAIT,
    SYNCAPI_WAIT,         /* operationType "sync": answered after the work */
    SYNCAPI_WAIT_IN_VAIN, /* another operationType: userorg-service works, and answers 500 */
};

struct syncapi_call {
    const struct syncapi_request *request;
    enum syncapi_dialect dialect; /* never SYNCAPI_AUTO */
    const char *object_type;
    const struct json *ids; /* an array with at least one element; NULL: the whole table */
    enum syncapi_wait wait;
};

struct syncapi_answer {
    int status;
    const char
        *event; /* why it was refused, a stable word for log and metrics; "" when it was not */
    int retry_after_s; /* 0: not said */
    struct buf body;
};

/* body_bytes: of the request that is answered. */
void syncapi_answer_init(struct syncapi_answer *a, size_t body_bytes);
void syncapi_answer_fini(struct syncapi_answer *a);

/* True: there is work to do, and then one of the answers below to be given. False: `answer` is
 * complete. The call lives in `mem` and the request. */
bool syncapi_parse(const struct syncapi_rules *rules, const struct syncapi_request *request,
                   struct arena *mem, struct syncapi_call *call, struct syncapi_answer *answer);

/* 200 SUCCESS: accepted. */
void syncapi_accepted(const struct syncapi_call *call, struct syncapi_answer *answer);
/*
 * Users and organisations, where userorg-service's answers to a failure are recorded: its clients
 * know them, so they are ours. A failed user is `false` beside esSyncResponse, a failed
 * organisation is missing in it, and so is everything when Elasticsearch can't be reached. For any
 * other type every element has its key in esSyncResponse, and is true or false.
 */
bool syncapi_answers_as_recorded(const struct syncapi_call *call);
/* 200 with esSyncResponse; one result per element of call->ids. Elements that are equal share a
 * key. */
void syncapi_results(const struct syncapi_call *call, const struct keyed_result *results,
                     struct syncapi_answer *answer);
/* 500: the work did not end in time, though it goes on; or nobody will say so. */
void syncapi_late(const struct syncapi_call *call, struct syncapi_answer *answer);

/* 200 with nothing in esSyncResponse: the same for a type that answers as recorded, when it was
 * Elasticsearch that could not be reached. */
void syncapi_unreachable(const struct syncapi_call *call, struct syncapi_answer *answer);

/* 200 with a result of our own: an object, which the caller adds to answer->body between the two.
 */
void syncapi_own_begin(const struct syncapi_rules *rules, const struct syncapi_request *request,
                       struct syncapi_answer *answer);
void syncapi_own_end(struct syncapi_answer *answer);

/* Requests that never became a call. */
enum syncapi_refusal {
    SYNCAPI_UNAUTHORIZED, /* 401 */
    SYNCAPI_NO_RUN,       /* 404: of a name of a call */
    SYNCAPI_TABLE_BUSY,   /* 429: another whole table */
    SYNCAPI_NOT_READ,     /* 503: the journal */
    SYNCAPI_NOT_FOUND,    /* 404 */
    SYNCAPI_MALFORMED,    /* 400: the body's end is not plain */
    SYNCAPI_TOO_LARGE,    /* 413 */
    SYNCAPI_FULL,         /* 429 */
    SYNCAPI_NOT_KEPT,     /* 503: the ids could not be made safe */
    SYNCAPI_STOPPING,     /* 503 */
};
void syncapi_refuse(const struct syncapi_rules *rules, const struct syncapi_request *request,
                    enum syncapi_refusal why, struct syncapi_answer *answer);
/* The same of a call, whose type says in which dialect. */
void syncapi_refuse_call(const struct syncapi_call *call, enum syncapi_refusal why,
                         struct syncapi_answer *answer);
/* 400: an element of the call has no partition key, as `why` says. */
void syncapi_refuse_scan(const struct syncapi_call *call, const char *why,
                         struct syncapi_answer *answer);
