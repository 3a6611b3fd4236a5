/* Segments: arbitrary bytes, arbitrary payloads behind right checksums, and round trips. */
#include "cql/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAYLOAD_MAX = 1 << 20 };

static void add_le(struct buf *b, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        buf_add_byte(b, (uint8_t)(v >> (i * 8)));
}

static void take_all(struct slice in, bool lz4)
{
    struct buf payload;
    struct err err = {0};

    buf_init(&payload, PAYLOAD_MAX);
    while (segment_take(&in, lz4, &payload, &err) == FRAME_READY)
        ;
    ensure(payload.len <= PAYLOAD_MAX);
    buf_fini(&payload);
}

/* As from a socket, in pieces of up to `most` bytes: the same as at once. */
static void take_pieces(struct slice in, bool lz4, size_t most)
{
    struct segment_reader r;
    struct buf payload;
    struct buf whole;
    struct err err = {0};
    struct slice rest = in;
    enum frame_status status = FRAME_SHORT;
    enum frame_status whole_status;

    segment_reader_init(&r, lz4);
    buf_init(&payload, PAYLOAD_MAX);
    buf_init(&whole, PAYLOAD_MAX);
    while (in.n && status != FRAME_BAD) {
        struct segment_room room = segment_room(&r, &payload);
        size_t n = most < in.n ? most : in.n;
        n = n < room.n + room.then_n ? n : room.n + room.then_n;
        memcpy(room.p, in.p, n < room.n ? n : room.n);
        if (n > room.n)
            memcpy(room.then, in.p + room.n, n - room.n);
        segment_received(&r, n);
        in = slice_of(in.p + n, in.n - n);
        while ((status = segment_next(&r, &payload, &err)) == FRAME_READY)
            ;
    }
    while ((whole_status = segment_take(&rest, lz4, &whole, &err)) == FRAME_READY)
        ;
    /* Only that a payload has no room is seen before it is there. */
    if (whole.len + SEGMENT_PAYLOAD_MAX <= PAYLOAD_MAX)
        ensure(status == whole_status);
    ensure(slice_eq(buf_slice(&payload), buf_slice(&whole)));
    segment_reader_fini(&r);
    buf_fini(&payload);
    buf_fini(&whole);
}

/* A header and checksums that are right, whatever the payload is. */
static void take_as_payload(struct slice in, bool lz4)
{
    uint16_t plain;
    struct buf wire;

    if (!take_u16(&in, &plain) || in.n > SEGMENT_PAYLOAD_MAX)
        return;
    buf_init(&wire, PAYLOAD_MAX);
    add_le(&wire, in.n | (lz4 ? (uint64_t)plain << 17 : 0), lz4 ? 5 : 3);
    add_le(&wire, segment_crc24(wire.p, wire.len), 3);
    buf_add_slice(&wire, in);
    add_le(&wire, segment_crc32(in), 4);
    take_all(buf_slice(&wire), lz4);
    take_pieces(buf_slice(&wire), lz4, in.n % 97 + 1);
    buf_fini(&wire);
}

/* The input as bodies of envelopes: each byte says how long, how often, and then what. */
static void round_trip(struct slice in, bool lz4)
{
    struct buf plain, wire, back;
    struct err err = {0};
    struct slice body;
    uint8_t n;
    uint8_t times;

    buf_init(&plain, PAYLOAD_MAX);
    buf_init(&wire, PAYLOAD_MAX * 2);
    buf_init(&back, PAYLOAD_MAX);
    while (take_u8(&in, &n) && take_u8(&in, &times) && slice_take(&in, n, &body)) {
        size_t start = plain.len;
        size_t begin = frame_begin(&plain, 5, 0, 1, OP_QUERY);
        for (int i = 0; i < times * 4 + 1; i++)
            buf_add_slice(&plain, body);
        frame_end(&plain, begin);
        if (plain.full) {
            buf_cut(&plain, start);
            break;
        }
    }
    segment_encode(&wire, buf_slice(&plain), lz4);
    ensure(!wire.full);
    struct slice rest = buf_slice(&wire);
    while (rest.n)
        ensure(segment_take(&rest, lz4, &back, &err) == FRAME_READY);
    ensure(slice_eq(buf_slice(&back), buf_slice(&plain)));
    buf_reset(&wire);
    buf_reset(&back);
    if (body_compress(&wire, buf_slice(&plain))) {
        ensure(wire.len < plain.len);
        ensure(body_decompress(&back, buf_slice(&wire), PAYLOAD_MAX, &err));
        ensure(slice_eq(buf_slice(&back), buf_slice(&plain)));
    }
    buf_fini(&plain);
    buf_fini(&wire);
    buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct buf out;
    struct err err = {0};
    uint8_t how;

    if (!take_u8(&in, &how))
        return 0;
    switch (how >> 1 & 3) {
    case 0:
        take_all(in, how & 1);
        take_pieces(in, how & 1, 1u << (how >> 3));
        break;
    case 1:
        take_as_payload(in, how & 1);
        break;
    case 2:
        round_trip(in, how & 1);
        break;
    default:
        buf_init(&out, PAYLOAD_MAX);
        body_decompress(&out, in, PAYLOAD_MAX, &err);
        buf_fini(&out);
        break;
    }
    return 0;
}
