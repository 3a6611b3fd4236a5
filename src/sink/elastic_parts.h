/*
 * sink/elastic_parts.h - what the files of sink/elastic share; for them and their tests alone.
 */
#pragma once
#include "http/client.h"
#include "sink/elastic.h"
#include "sink/gzip.h"

enum {
    ELASTIC_PATH_BYTES = 2048,
    BODY_BYTES_MIN = 64 << 10, /* a 413 halves down to it */
};

struct elastic {
    struct elastic_options o;
    struct http_client *http;
    char *authorization;
    size_t node_count;
    size_t node;       /* the one in use */
    size_t body_bytes; /* as asked for */
    size_t body_max;   /* as the server has taught us */
    struct elastic_shared own;
    struct elastic_shared *shared;
    int64_t retry_after_ms;
    struct arena mem; /* of one answer */
    struct gzip gzip;
};

/* Elasticsearch 6: a type stands in paths. */
bool elastic_has_types(const struct elastic *e);
/* The address in use, for messages. */
const char *elastic_url(const struct elastic *e);
/*
 * One request, at another node when this one is ill. What may have had an effect (`writes`) is not
 * sent twice. True: an answer that is for the caller to judge.
 */
struct elastic_request {
    const char *method, *path;
    const char *content_type; /* of the body */
    struct slice body;        /* empty: none */
    size_t max_answer_bytes;  /* 0: of the elastic */
    bool packed;              /* body is gzip */
    bool writes;
};
bool elastic_call(struct elastic *e, const struct elastic_request *r, struct http_answer *a,
                  struct err *err);
/* For what is asked about the server itself: an answer without end is not Elasticsearch's. */
bool elastic_get(struct elastic *e, const char *path, struct http_answer *a, struct err *err);
/* The answer's own words as an err; always false. */
bool elastic_fail(struct elastic *e, const struct http_answer *a, enum err_kind kind,
                  struct err *err);
/* What went wrong, from the answer's body; reason is never empty. */
void elastic_read_problem(struct elastic *e, const struct http_answer *a,
                          struct elastic_problem *out);
/* Of {"type", "reason"} or a text; else empty. */
void elastic_read_error(const struct json *error, struct elastic_problem *out);
/* The same of two texts; those may be null. */
void elastic_copy_error(struct slice type, struct slice reason, struct elastic_problem *out);
/* Cut, but not inside a character. */
void elastic_copy_text(char *out, size_t size, struct slice text);
/* "/" and the name, escaped, then the rest. */
void elastic_index_path(char *out, size_t size, const char *index, const char *rest);
/* Always false: ERR_USER, with how to create it. */
bool elastic_index_missing(struct elastic *e, const char *index, struct err *err);
/* The version a conflict's reason names; -1: it names none. */
int64_t elastic_version_there(struct slice reason);

/* The two readers behind elastic_read_bulk(); they agree. The quick one says false where it is not
 * sure, and has then set no verdict. */
enum elastic_scan { ELASTIC_SCANNED, ELASTIC_UNSURE, ELASTIC_STOPPED /* err is set */ };
enum elastic_scan elastic_scan_bulk(struct slice text, struct elastic_answer *a, struct err *err);
bool elastic_parse_bulk(struct slice text, struct elastic_answer *a, struct err *err);
