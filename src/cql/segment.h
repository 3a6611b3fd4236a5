/*
 * cql/segment.h - the outer frame of protocol v5, and LZ4 of both protocols.
 *
 * After the handshake v5 puts envelopes into segments with checksums, plain or LZ4. v4 has none and
 * compresses single bodies. No socket, no clock. Threads: pure. Spec: native_protocol_v5.spec,
 * section 2; CRC24 and CRC32 as there.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cql/frame.h"

enum {
    SEGMENT_PAYLOAD_MAX = (1 << 17) - 1,
    SEGMENT_OVERHEAD_MAX = 8 + 4, /* header (LZ4) and trailer */
};

/*
 * Puts whole envelopes into segments: as many as fit go into one self-contained segment, a bigger
 * one is cut over several.
 *   envelopes  one or more whole envelopes, side by side (our own: frame_begin() .. frame_end())
 *   lz4        the variant agreed on by STARTUP; a payload that does not shrink is stored
 *   out        may become `full`: the caller looks
 */
void segment_encode(struct buf *out, struct slice envelopes, bool lz4);

/*
 * Takes one segment off the front of `in` and appends its payload (decompressed) to `payload`, from
 * which frame_take() then cuts envelopes, whole or in slices.
 *   in   moved past the segment on FRAME_READY, else untouched
 *   err  set on FRAME_BAD only: ERR_RETRY, a checksum or length is wrong or `payload` is at its
 *        maximum: drop the connection
 */
enum frame_status segment_take(struct slice *in, bool lz4, struct buf *payload, struct err *err);

/*
 * Segments as they come from a socket. A plain payload is received where it belongs, behind what
 * `payload` holds, and only headers, trailers and what came along with them are copied; LZ4 is
 * received aside. While `open`, the memory of `payload` may be neither exchanged nor added to.
 */
struct segment_reader {
    struct buf raw; /* received, not yet understood; its first `used` bytes are done with */
    size_t used;
    bool lz4;
    bool open;       /* plain: a header was read, its payload is on the way */
    size_t expected; /* of that payload */
    size_t got;      /* of it, behind payload->len */
};

void segment_reader_init(struct segment_reader *r, bool lz4);
void segment_reader_fini(struct segment_reader *r);

struct segment_room {
    uint8_t *p;
    size_t n;
    uint8_t *then; /* when p's n bytes are full */
    size_t then_n; /* may be 0 */
};

/* Where the next bytes belong; room for at least one. */
struct segment_room segment_room(struct segment_reader *r, struct buf *payload);
/* n bytes were put there. Then ask segment_next() until it is short. */
void segment_received(struct segment_reader *r, size_t n);
/* Appends one more payload that is complete, as segment_take() does. */
enum frame_status segment_next(struct segment_reader *r, struct buf *payload, struct err *err);

/* A v4 body: 4 bytes of length in front, then an LZ4 block. False, nothing added, when it would not
 * get shorter: send it as it is, without FRAME_COMPRESSED. */
bool body_compress(struct buf *out, struct slice body);
/* Appends the decompressed v4 body; max_bytes bounds the announced length. ERR_RETRY. */
bool body_decompress(struct buf *out, struct slice body, uint32_t max_bytes, struct err *err);

/* Of a header's 3 or 5 bytes. */
uint32_t segment_crc24(const uint8_t *p, size_t n);
/* Of a payload as sent. */
uint32_t segment_crc32(struct slice payload);
