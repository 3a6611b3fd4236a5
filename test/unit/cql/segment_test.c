/* Segments of v5, LZ4 of v4 and v5, checksums. */
#include "cql/vectors.h"

#include "cql/segment.h"

static void crc24_as_the_server(void **state)
{
    (void)state;
    json_each (v, vectors_section("crc24")) {
        struct slice header = vector_bytes(v, "header");
        uint32_t crc = segment_crc24(header.p, header.n);
        uint8_t wire[] = {(uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16)};
        assert_bytes(slice_of(wire, 3), vector_bytes(v, "crc24_on_wire"));
    }
}

static uint32_t crc32_by_bits(struct slice s)
{
    static const uint8_t before[] = {0xfa, 0x2d, 0x55, 0xca};
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < s.n + 4; i++) {
        crc ^= i < 4 ? before[i] : s.p[i - 4];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void crc32_as_the_server(void **state)
{
    (void)state;
    uint8_t noise[67];

    json_each (v, vectors_section("crc32")) {
        uint32_t crc = segment_crc32(vector_bytes(v, "payload"));
        uint8_t wire[] = {(uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16),
                          (uint8_t)(crc >> 24)};
        assert_bytes(slice_of(wire, 4), vector_bytes(v, "crc32_on_wire"));
    }
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 151 + 7);
    for (size_t n = 0; n <= sizeof noise; n++)
        assert_int_equal(segment_crc32(slice_of(noise, n)), crc32_by_bits(slice_of(noise, n)));
}

static void recorded_frames(void **state)
{
    (void)state;
    int whole = 0;
    int headers = 0;

    json_each (v, vectors_section("v5_frames")) {
        bool lz4 = slice_is(slice_of(json_get_string(v, "name").p, 6), "v5_lz4");
        struct buf payload;
        struct buf again;
        struct err err = {0};
        buf_init(&payload, 1 << 20);
        buf_init(&again, 1 << 20);
        struct slice sent = vector_bytes(v, "sent");
        if (sent.p) { /* a request that we would write with the same bytes */
            struct slice in = sent;
            assert_int_equal(segment_take(&in, lz4, &payload, &err), FRAME_READY);
            segment_encode(&again, buf_slice(&payload), lz4);
            assert_bytes(buf_slice(&again), sent);
            buf_reset(&payload);
        }
        size_t plain = 0;
        json_each (r, json_get(v, "received")) {
            struct slice in = vector_bytes(r, "wire");
            if (in.p) {
                assert_int_equal(segment_take(&in, lz4, &payload, &err), FRAME_READY);
                assert_int_equal(in.n, 0);
                assert_bytes(buf_slice(&payload), vector_bytes(v, "reply_envelope"));
                whole++;
                continue;
            }
            struct slice header = vector_bytes(r, "header");
            size_t n = header.n - 3;
            uint32_t crc = segment_crc24(header.p, n);
            assert_int_equal(crc & 0xff, header.p[n]);
            assert_int_equal(crc >> 8 & 0xff, header.p[n + 1]);
            assert_int_equal(crc >> 16, header.p[n + 2]);
            /* The header is believed, and waits for as many bytes as it says. */
            assert_int_equal(segment_take(&header, lz4, &payload, &err), FRAME_SHORT);
            int64_t uncompressed = vector_int(r, "uncompressed_length");
            plain += (size_t)(uncompressed ? uncompressed : vector_int(r, "payload_length"));
            headers++;
        }
        if (plain)
            assert_int_equal(plain, vector_int(v, "envelope_length"));
        buf_fini(&payload);
        buf_fini(&again);
    }
    assert_int_equal(whole, 2);
    assert_int_equal(headers, 6);
}

static void recorded_handshakes(void **state)
{
    (void)state;
    json_each (dialect, vectors_section("handshake")) {
        json_each (step, dialect) {
            const struct json *framed = json_get(step, "framed");
            struct slice in = unhex(json_get(step, "received")->first->text);
            struct slice envelope = vector_bytes(step, "reply_envelope");
            struct buf out;
            struct err err = {0};
            buf_init(&out, 1 << 20);
            if (framed->truth) {
                bool lz4 = slice_is(dialect->key, "v5_lz4");
                assert_int_equal(segment_take(&in, lz4, &out, &err), FRAME_READY);
                assert_bytes(buf_slice(&out), envelope);
                struct slice sent = vector_bytes(step, "sent");
                struct slice rest = sent;
                struct buf again;
                buf_init(&again, 1 << 20);
                buf_reset(&out);
                assert_int_equal(segment_take(&rest, lz4, &out, &err), FRAME_READY);
                segment_encode(&again, buf_slice(&out), lz4);
                assert_bytes(buf_slice(&again), sent);
                buf_fini(&again);
            } else if (in.p[1] & FRAME_COMPRESSED) {
                struct frame f;
                assert_int_equal(frame_take(&in, 4, 1000, &f, &err), FRAME_READY);
                assert_true(body_decompress(&out, f.body, 1000, &err));
                assert_bytes(buf_slice(&out), slice_of(envelope.p + 9, envelope.n - 9));
            } else {
                assert_bytes(in, envelope);
            }
            buf_fini(&out);
        }
    }
}

/* n bytes of an envelope in all; `shape`: how well it can be compressed. */
static void add_envelope(struct buf *b, size_t n, unsigned shape)
{
    size_t begin = frame_begin(b, 5, 0, 7, OP_QUERY);
    uint32_t x = 12345;

    for (size_t i = FRAME_HEADER_BYTES; i < n; i++) {
        x = x * 1103515245 + 12345;
        buf_add_byte(b, shape ? (uint8_t)(x >> 16) : (uint8_t)(i / 100));
    }
    frame_end(b, begin);
}

static void round_trips(void **state)
{
    (void)state;
    static const size_t sizes[][4] = {
        {9},          {600},        {131071},           {131072}, {131071, 9}, {100, 131071, 100},
        {131000, 71}, {131000, 72}, {9, 400000, 9, 20}, {262142},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (unsigned way = 0; way < 4; way++) {
            bool lz4 = way & 1;
            struct buf plain, wire, back;
            struct err err = {0};
            buf_init(&plain, 4 << 20);
            buf_init(&wire, 4 << 20);
            buf_init(&back, 4 << 20);
            for (int k = 0; k < 4 && sizes[i][k]; k++)
                add_envelope(&plain, sizes[i][k], way & 2);
            segment_encode(&wire, buf_slice(&plain), lz4);
            assert_false(wire.full);
            struct slice in = buf_slice(&wire);
            while (in.n)
                assert_int_equal(segment_take(&in, lz4, &back, &err), FRAME_READY);
            assert_bytes(buf_slice(&back), buf_slice(&plain));
            if (lz4 && !(way & 2) && plain.len > 600)
                assert_true(wire.len < plain.len / 4);
            buf_fini(&plain);
            buf_fini(&wire);
            buf_fini(&back);
        }
    }
}

static void every_flipped_bit_is_seen(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct buf plain, wire, back;
        buf_init(&plain, 1 << 20);
        buf_init(&wire, 1 << 20);
        buf_init(&back, 1 << 20);
        add_envelope(&plain, 700, 0);
        segment_encode(&wire, buf_slice(&plain), way);
        for (size_t bit = 0; bit < wire.len * 8; bit++) {
            struct err err = {0};
            struct slice in = buf_slice(&wire);
            wire.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(segment_take(&in, way, &back, &err), FRAME_BAD);
            assert_int_equal(err.kind, ERR_RETRY);
            assert_int_equal(back.len, 0);
            wire.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t n = 0; n < wire.len; n++) {
            struct err err = {0};
            struct slice in = slice_of(wire.p, n);
            assert_int_equal(segment_take(&in, way, &back, &err), FRAME_SHORT);
        }
        buf_fini(&plain);
        buf_fini(&wire);
        buf_fini(&back);
    }
}

static void a_payload_beyond_the_memory_is_refused(void **state)
{
    (void)state;
    struct buf plain, wire, back;
    struct err err = {0};

    buf_init(&plain, 1 << 20);
    buf_init(&wire, 1 << 20);
    buf_init(&back, 500);
    add_envelope(&plain, 700, 0);
    segment_encode(&wire, buf_slice(&plain), true);
    struct slice in = buf_slice(&wire);
    assert_int_equal(segment_take(&in, true, &back, &err), FRAME_BAD);
    assert_string_equal(err.text, "a segment does not fit in the memory for answers");
    buf_fini(&plain);
    buf_fini(&wire);
    buf_fini(&back);
}

static void bodies_of_v4(void **state)
{
    (void)state;
    struct buf body, wire, back;
    struct err err = {0};

    buf_init(&body, 1 << 20);
    buf_init(&wire, 1 << 20);
    buf_init(&back, 1 << 20);
    for (int i = 0; i < 5000; i++)
        buf_add_byte(&body, (uint8_t)(i / 50));
    assert_true(body_compress(&wire, buf_slice(&body)));
    assert_true(wire.len < 1000);
    assert_true(body_decompress(&back, buf_slice(&wire), 5000, &err));
    assert_bytes(buf_slice(&back), buf_slice(&body));
    assert_false(body_decompress(&back, buf_slice(&wire), 4999, &err));
    assert_string_equal(err.text,
                        "a compressed body of 5000 bytes is longer than the limit of 4999");
    for (size_t n = 0; n < wire.len; n++)
        assert_false(body_decompress(&back, slice_of(wire.p, n), 5000, &err));
    assert_int_equal(back.len, 5000);
    assert_false(body_decompress(&back, unhex_text("0fffffff1000"), 256 << 20, &err));
    assert_string_equal(err.text, "a compressed body can't be as long as it says");
    assert_true(body_decompress(&back, unhex_text("00000000"), 100, &err));
    size_t before = wire.len;
    assert_false(body_compress(&wire, slice_of(body.p, 20)));
    assert_int_equal(wire.len, before);
    buf_fini(&body);
    buf_fini(&wire);
    buf_fini(&back);
}

/* What a socket gives, in pieces of any size, as conn.c asks for it; envelopes are taken out of the
 * payload as soon as they are whole. */
static void received_in_pieces(void **state)
{
    (void)state;
    uint64_t seed = 3;
    struct buf plain;
    struct buf wire;
    struct buf in;
    struct buf back;

    buf_init(&plain, 4 << 20);
    buf_init(&wire, 4 << 20);
    buf_init(&in, 4 << 20);
    buf_init(&back, 4 << 20);
    for (int round = 0; round < 60; round++) {
        bool lz4 = round % 2;
        size_t most = (size_t[]){1, 7, 4 << 10, 64 << 10, 1 << 20}[round / 2 % 5];
        struct segment_reader r;
        struct err err = {0};
        segment_reader_init(&r, lz4);
        buf_reset(&plain);
        buf_reset(&wire);
        buf_reset(&back);
        buf_fini(&in);
        while (plain.len < (most < 100 ? 20u << 10 : 700u << 10)) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t n = seed >> 33 & (seed >> 60 ? 2047 : 512 << 10 >> most % 2 * 6);
            size_t begin = frame_begin(&plain, 5, 0, 1, OP_RESULT);
            for (size_t i = 0; i < n; i++)
                buf_add_byte(&plain, (uint8_t)(i * seed >> 20));
            frame_end(&plain, begin);
        }
        segment_encode(&wire, buf_slice(&plain), lz4);
        for (struct slice rest = buf_slice(&wire); rest.n;) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t piece = (seed >> 33) % most + 1;
            struct segment_room room = segment_room(&r, &in);
            assert_true(room.n > 0);
            piece = piece < rest.n ? piece : rest.n;
            piece = piece < room.n + room.then_n ? piece : room.n + room.then_n;
            size_t first = piece < room.n ? piece : room.n;
            memcpy(room.p, rest.p, first);
            if (piece > first)
                memcpy(room.then, rest.p + first, piece - first);
            segment_received(&r, piece);
            rest = slice_of(rest.p + piece, rest.n - piece);
            enum frame_status status;
            while ((status = segment_next(&r, &in, &err)) == FRAME_READY) {
                if (round % 3)
                    continue;
                buf_add_slice(&back, buf_slice(&in)); /* as if it were handed over */
                buf_fini(&in);
            }
            assert_int_equal(status, FRAME_SHORT);
        }
        buf_add_slice(&back, buf_slice(&in));
        assert_bytes(buf_slice(&back), buf_slice(&plain));
        segment_reader_fini(&r);
    }
    buf_fini(&plain);
    buf_fini(&wire);
    buf_fini(&in);
    buf_fini(&back);
}

static void received_damaged(void **state)
{
    (void)state;
    struct buf plain;
    struct buf wire;
    struct buf in;

    buf_init(&plain, 1 << 20);
    buf_init(&wire, 1 << 20);
    frame_end(&plain, frame_begin(&plain, 5, 0, 1, OP_OPTIONS));
    segment_encode(&wire, buf_slice(&plain), false);
    for (size_t at = 0; at < wire.len; at++) {
        struct segment_reader r;
        struct err err = {0};
        segment_reader_init(&r, false);
        buf_init(&in, 1 << 20);
        memcpy(segment_room(&r, &in).p, wire.p, wire.len);
        r.raw.p[at] ^= 0x10;
        segment_received(&r, wire.len);
        assert_int_equal(segment_next(&r, &in, &err), FRAME_BAD);
        assert_int_equal(err.kind, ERR_RETRY);
        assert_string_equal(err.text, at < 6 ? "a segment header's checksum is wrong"
                                             : "a segment payload's checksum is wrong");
        assert_int_equal(in.len, 0);
        segment_reader_fini(&r);
        buf_fini(&in);
    }
    buf_fini(&plain);
    buf_fini(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc24_as_the_server),
        cmocka_unit_test(crc32_as_the_server),
        cmocka_unit_test(recorded_frames),
        cmocka_unit_test(received_in_pieces),
        cmocka_unit_test(received_damaged),
        cmocka_unit_test(recorded_handshakes),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(a_payload_beyond_the_memory_is_refused),
        cmocka_unit_test(bodies_of_v4),
    };
    return cmocka_run_group_tests(tests, vectors_begin, vectors_end);
}
