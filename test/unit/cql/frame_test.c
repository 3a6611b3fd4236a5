/* Envelopes: taking them off, limits, prefixes. */
#include "cql/vectors.h"

#include "cql/frame.h"

static void every_envelope_of_the_handshake(void **state)
{
    (void)state;
    int count = 0;

    json_each (dialect, vectors_section("handshake")) {
        json_each (step, dialect) {
            struct slice in = vector_bytes(step, "reply_envelope");
            struct slice all = in;
            struct frame f;
            struct err err = {0};
            uint8_t version = slice_is(slice_of(dialect->key.p, 2), "v4") ? 4 : 5;
            if (slice_is(dialect->key, "v4_lz4") && all.p[1])
                continue; /* header of the compressed body: segment_test */
            assert_int_equal(frame_bytes_wanted(in), in.n);
            assert_int_equal(frame_take(&in, version, 1 << 20, &f, &err), FRAME_READY);
            assert_int_equal(f.version, version);
            assert_int_equal(f.stream, load_u16(all.p + 2));
            assert_string_equal(frame_opcode_name(f.opcode),
                                text_of(json_get_string(step, "reply")));
            assert_int_equal(in.n, 0);
            assert_int_equal(f.body.n, all.n - FRAME_HEADER_BYTES);
            count++;
        }
    }
    assert_int_equal(count, 4 * 3 - 2);
}

static void short_until_the_last_byte(void **state)
{
    (void)state;
    struct slice all = unhex_text("8400ffff0c00000003aabbcc84");
    struct frame f;
    struct err err = {0};

    for (size_t n = 0; n < 12; n++) {
        struct slice in = slice_of(all.p, n);
        assert_int_equal(frame_take(&in, 4, 100, &f, &err), FRAME_SHORT);
        assert_int_equal(in.n, n);
        assert_int_equal(frame_bytes_wanted(in), n < 9 ? 0 : 12);
    }
    assert_int_equal(frame_take(&all, 4, 100, &f, &err), FRAME_READY);
    assert_int_equal(f.stream, -1);
    assert_int_equal(f.opcode, OP_EVENT);
    assert_int_equal(all.n, 1);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        uint8_t version;
        const char *text;
    } rows[] = {
        {"48", 4, "not an answer in CQL protocol v4 (first byte 0x48)"},
        {"04", 0, "not an answer in CQL protocol v4 (first byte 0x04)"},
        {"850000", 4, "not an answer in CQL protocol v4 (first byte 0x85)"},
        {"840000000800000065", 4, "an answer of 101 bytes is longer than the limit of 100"},
        {"8400000008ffffffff", 4, "an answer of 4294967295 bytes is longer than the limit of 100"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice in = unhex_text(rows[i].hex);
        struct frame f;
        struct err err = {0};
        assert_int_equal(frame_take(&in, rows[i].version, 100, &f, &err), FRAME_BAD);
        assert_string_equal(err.text, rows[i].text);
        assert_int_equal(err.kind, ERR_RETRY);
    }
}

static void any_version_while_logging_in(void **state)
{
    (void)state;
    struct slice in = unhex_text("861000000000000000");
    struct frame f;
    struct err err = {0};

    assert_int_equal(frame_take(&in, 0, 100, &f, &err), FRAME_READY);
    assert_int_equal(f.version, 6);
    assert_int_equal(f.flags, FRAME_USE_BETA);
}

static void prefixes(void **state)
{
    (void)state;
    struct slice body = unhex_text("000102030405060708090a0b0c0d0e0f" /* tracing id */
                                   "0002"
                                   "000161"
                                   "00026263" /* warnings */
                                   "0002"
                                   "00016b"
                                   "00000001"
                                   "ff"
                                   "00016c"
                                   "ffffffff"
                                   "deadbeef");
    struct frame f = {.flags = FRAME_TRACING | FRAME_WARNING | FRAME_CUSTOM_PAYLOAD, .body = body};
    struct err err = {0};

    assert_true(frame_strip(&f, &err));
    assert_bytes(f.body, unhex_text("deadbeef"));

    for (size_t n = 0; n < body.n - 4; n++) {
        f.body = slice_of(body.p, n);
        assert_false(frame_strip(&f, &err));
        assert_int_equal(err.kind, ERR_RETRY);
    }
    f.flags = FRAME_COMPRESSED | FRAME_USE_BETA;
    f.body = body;
    assert_true(frame_strip(&f, &err));
    assert_int_equal(f.body.n, body.n);
}

static void a_full_buffer_is_left_alone(void **state)
{
    (void)state;
    struct buf b;

    buf_init(&b, 5);
    frame_end(&b, frame_begin(&b, 4, 0, 1, OP_OPTIONS));
    assert_true(b.full);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_envelope_of_the_handshake),
        cmocka_unit_test(short_until_the_last_byte),
        cmocka_unit_test(refused),
        cmocka_unit_test(any_version_while_logging_in),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(a_full_buffer_is_left_alone),
    };
    return cmocka_run_group_tests(tests, vectors_begin, vectors_end);
}
