/*
 * cql/frame.h - the envelope around every CQL message.
 *
 * Finds envelopes in received bytes and writes their headers. No socket, no clock, no allocation.
 * Threads: a value belongs to one worker. Spec: native_protocol_v4.spec and _v5.spec, section 2.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { FRAME_HEADER_BYTES = 9 };

enum frame_opcode {
    OP_ERROR = 0x00,
    OP_STARTUP = 0x01,
    OP_READY = 0x02,
    OP_AUTHENTICATE = 0x03,
    OP_OPTIONS = 0x05,
    OP_SUPPORTED = 0x06,
    OP_QUERY = 0x07,
    OP_RESULT = 0x08,
    OP_PREPARE = 0x09,
    OP_EXECUTE = 0x0a,
    OP_REGISTER = 0x0b,
    OP_EVENT = 0x0c,
    OP_BATCH = 0x0d,
    OP_AUTH_CHALLENGE = 0x0e,
    OP_AUTH_RESPONSE = 0x0f,
    OP_AUTH_SUCCESS = 0x10,
};

enum frame_flag {
    FRAME_COMPRESSED = 0x01, /* v4 only: ignored in v5 */
    FRAME_TRACING = 0x02,
    FRAME_CUSTOM_PAYLOAD = 0x04,
    FRAME_WARNING = 0x08,
    FRAME_USE_BETA = 0x10,
};

struct frame {
    uint8_t version; /* 4, 5, or what the server said while versions are negotiated */
    bool response;
    uint8_t flags;
    int16_t stream; /* -1: pushed by the server (EVENT) */
    uint8_t opcode;
    struct slice body; /* as received: perhaps compressed, prefix still in front */
};

enum frame_status { FRAME_READY, FRAME_SHORT, FRAME_BAD };

/*
 * Takes one envelope off the front of `in`.
 *   in              received so far; moved past the envelope on FRAME_READY, else untouched
 *   version         4 or 5: another one is FRAME_BAD; 0 (log-in): any response is taken
 *   max_body_bytes  a longer body is FRAME_BAD as soon as its header is there
 *   out             points into `in`: valid while those bytes are; set on FRAME_READY only
 *   err             set on FRAME_BAD only (ERR_RETRY: drop the connection)
 */
enum frame_status frame_take(struct slice *in, uint8_t version, uint32_t max_body_bytes,
                             struct frame *out, struct err *err);
/* Bytes of the envelope at the front of `in`, header included; 0 while the header is not there.
 * (To ask for the right amount of room before reading on.) */
size_t frame_bytes_wanted(struct slice in);

/* Moves f->body (not compressed any more) past what f->flags announce in front of a response's
 * message: a tracing id, warnings, a custom payload. False with err (ERR_RETRY) when it is cut
 * short. */
bool frame_strip(struct frame *f, struct err *err);

/* Writes a request's header with length 0 and yields where it begins; frame_end() fills in the
 * length. */
size_t frame_begin(struct buf *out, uint8_t version, uint8_t flags, int16_t stream,
                   enum frame_opcode opcode);
void frame_end(struct buf *out, size_t begin);
/* "RESULT"; "opcode 0x7f" is "unknown". */
const char *frame_opcode_name(uint8_t opcode);
