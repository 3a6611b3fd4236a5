/*
 * cql/codec.h - CQL messages: requests to bytes, answers from bytes.
 *
 * Writers append one whole envelope (uncompressed, not segmented) and can only fail by `out` being
 * full. Readers take the body of an answer after frame_strip(); what they yield lives in the
 * caller's arena and points into the body: valid while both are. Readers fail with ERR_RETRY (bytes
 * that make no sense: drop the connection) or ERR_SYSTEM (arena full). Pure.
 * Spec: native_protocol_v4.spec and native_protocol_v5.spec, section 4.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "cql/frame.h"
#include "model/row.h"

/* ---- requests ---------------------------------------------------------------------------------
 */

void codec_options(struct buf *out, uint8_t version, int16_t stream);

struct codec_startup {
    const char *compression;    /* "lz4", or NULL */
    const char *driver_name;    /* NULL: not told */
    const char *driver_version; /* NULL: not told */
    bool throw_on_overload;     /* ask for OVERLOADED rather than a silent stop of reading */
};
void codec_startup(struct buf *out, uint8_t version, int16_t stream,
                   const struct codec_startup *options);

/* A null token is sent as null. */
void codec_auth_response(struct buf *out, uint8_t version, int16_t stream, struct slice token);

enum codec_event_mask { CODEC_EVENT_TOPOLOGY = 1, CODEC_EVENT_STATUS = 2, CODEC_EVENT_SCHEMA = 4 };
void codec_register(struct buf *out, uint8_t version, int16_t stream, unsigned event_mask);

struct codec_params {
    uint16_t consistency;       /* enum cql_consistency */
    uint16_t value_count;       /* 0: no values are sent */
    const struct slice *values; /* p == NULL is null */
    bool skip_metadata;
    uint32_t page_rows;        /* 0: no page size */
    struct slice paging_state; /* null: from the start */
};
void codec_query(struct buf *out, uint8_t version, int16_t stream, struct slice text,
                 const struct codec_params *params);
void codec_prepare(struct buf *out, uint8_t version, int16_t stream, struct slice text);
/* result_metadata_id: v5 only (as PREPARED or the last changed ROWS gave it). */
void codec_execute(struct buf *out, uint8_t version, int16_t stream, struct slice id,
                   struct slice result_metadata_id, const struct codec_params *params);

/* ---- answers ----------------------------------------------------------------------------------
 */

/* The Java class of the server's authenticator. */
bool codec_read_authenticate(struct slice body, struct slice *class_name, struct err *err);
/* Of AUTH_CHALLENGE and AUTH_SUCCESS; may be null. */
bool codec_read_auth_token(struct slice body, struct slice *token, struct err *err);

enum codec_error_code {
    CODEC_SERVER_ERROR = 0x0000,
    CODEC_PROTOCOL_ERROR = 0x000a,
    CODEC_BAD_CREDENTIALS = 0x0100,
    CODEC_UNAVAILABLE = 0x1000,
    CODEC_OVERLOADED = 0x1001,
    CODEC_BOOTSTRAPPING = 0x1002,
    CODEC_TRUNCATE_ERROR = 0x1003,
    CODEC_WRITE_TIMEOUT = 0x1100,
    CODEC_READ_TIMEOUT = 0x1200,
    CODEC_READ_FAILURE = 0x1300,
    CODEC_FUNCTION_FAILURE = 0x1400,
    CODEC_WRITE_FAILURE = 0x1500,
    CODEC_CDC_WRITE_FAILURE = 0x1600,
    CODEC_CAS_WRITE_UNKNOWN = 0x1700,
    CODEC_SYNTAX = 0x2000,
    CODEC_UNAUTHORIZED = 0x2100,
    CODEC_INVALID = 0x2200,
    CODEC_CONFIG = 0x2300,
    CODEC_ALREADY_EXISTS = 0x2400,
    CODEC_UNPREPARED = 0x2500,
};

struct codec_failure {
    struct slice address; /* 4 or 16 bytes */
    uint16_t code;        /* 1 too many tombstones, 2 timeout, 4 read size, 5 node down, ... */
};

struct codec_error {
    int32_t code; /* enum codec_error_code, or one we do not know */
    struct slice message;
    /* What the caller does: */
    enum err_kind kind;   /* for CODEC_INVALID ERR_REJECT: of a PREPARE it is the operator's (a
                             column vanished), say ERR_USER there */
    bool try_other_node;  /* another replica may answer; at the end of replicas `kind` holds */
    bool drop_connection; /* its state is not known any more */
    bool overloaded;      /* send less */
    /* Where the code has them: */
    uint16_t consistency;
    int32_t received; /* answers that came; of UNAVAILABLE: replicas alive */
    int32_t required;
    bool data_present;
    uint32_t failure_count;               /* READ_FAILURE, WRITE_FAILURE */
    const struct codec_failure *failures; /* v5: failure_count of them; v4: NULL */
    struct slice write_type;
    uint16_t contentions;       /* WRITE_TIMEOUT of a CAS, v5 */
    struct slice unprepared_id; /* UNPREPARED */
    struct slice keyspace;      /* ALREADY_EXISTS, FUNCTION_FAILURE */
    struct slice name;          /* of the table (may be empty) or function */
};
bool codec_read_error(struct slice body, uint8_t version, struct arena *mem,
                      struct codec_error *out, struct err *err);
/* Kind and text ("read timeout (LOCAL_QUORUM, 1 of 2 answered): <message>"); the server's words are
 * made printable. Always false. */
bool codec_error_set(const struct codec_error *e, struct err *err);
const char *codec_error_name(int32_t code);

enum codec_result_kind {
    CODEC_VOID = 1,
    CODEC_ROWS = 2,
    CODEC_SET_KEYSPACE = 3,
    CODEC_PREPARED = 4,
    CODEC_SCHEMA_CHANGE = 5,
};

struct codec_metadata {
    uint16_t column_count;         /* also when `columns` is NULL */
    const struct columns *columns; /* NULL: the server left them out (skip_metadata) */
    bool more;                     /* another page follows */
    bool changed;                  /* v5: shape differs from that prepared; metadata_id is new */
    struct slice paging_state;     /* null: none */
    struct slice metadata_id;      /* with `changed` */
};

struct codec_schema_change {
    struct slice change; /* CREATED, UPDATED, DROPPED */
    struct slice target; /* KEYSPACE, TABLE, TYPE, FUNCTION, AGGREGATE */
    struct slice keyspace;
    struct slice name; /* null for KEYSPACE */
};

struct codec_result {
    enum codec_result_kind kind;
    struct codec_metadata meta; /* ROWS: of the rows; PREPARED: of the rows to come */
    /* ROWS: */
    uint32_t row_count;
    struct slice rows; /* for struct page: row_next() checks each length */
    /* PREPARED: */
    struct slice id;
    struct slice result_metadata_id; /* v5, else null */
    const struct columns *bind;      /* one per "?" */
    uint16_t pk_count;               /* 0: the partition key is not bound as a whole */
    const uint16_t *pk_indexes;      /* of the "?" of each partition-key component */
    /* SET_KEYSPACE: */
    struct slice keyspace;
    /* SCHEMA_CHANGE: */
    struct codec_schema_change schema;
};
bool codec_read_result(struct slice body, uint8_t version, struct arena *mem,
                       struct codec_result *out, struct err *err);

struct codec_event {
    enum codec_event_mask type;
    struct slice change;  /* NEW_NODE, REMOVED_NODE, UP, DOWN, ...; of a schema: in `schema` */
    struct slice address; /* 4 or 16 bytes: the node's rpc address */
    int32_t port;
    struct codec_schema_change schema;
};
/* An event of a kind we do not know: `type` is 0. */
bool codec_read_event(struct slice body, struct codec_event *out, struct err *err);

/* Names of enum cql_consistency are in cql/cql.h: cql_consistency_name(). */
