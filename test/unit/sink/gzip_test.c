/* When a body is packed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libdeflate.h>
#include <string.h>

#include "sink/gzip.h"

static void pays_by_the_link(void **state)
{
    static const struct {
        double link_mb, pack_mb, ratio;
        bool off, on; /* what it says when it is off, and on */
    } cases[] = {
        {1000, 300, 4, false, false},  /* loopback */
        {10, 300, 4, true, true},      /* 100 Mbit/s */
        {10, 300, 1.02, false, false}, /* what can't be packed */
        {10, 5, 4, false, false},      /* a slow machine */
        {50, 75, 4, false, true},      /* about the same: stays as it is */
        {0, 300, 4, false, true},      /* nothing is known */
        {10, 0, 0, false, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gzip_facts f = {cases[i].link_mb * 1e6, cases[i].pack_mb * 1e6, cases[i].ratio};
        assert_int_equal(gzip_pays(&f, false), cases[i].off);
        assert_int_equal(gzip_pays(&f, true), cases[i].on);
    }
}

static int64_t now_us, step_us;
static int64_t tick(void *ctx)
{
    (void)ctx;
    return now_us += step_us;
}
static struct clock clock_ = {.wall_us = tick, .mono_us = tick};
static uint8_t body[1 << 20];

/* Bodies over a link of so many bytes per second; how many of them were packed. */
static unsigned send_bodies(struct gzip *g, unsigned count, double bytes_per_s)
{
    unsigned packed_count = 0;

    for (unsigned i = 0; i < count; i++) {
        bool packed;
        struct slice wire = gzip_body(g, slice_of(body, sizeof body), &packed);
        packed_count += packed;
        /* Most of the time the server is busy; the link shows in the best of them. */
        double busy = i % 8 == 3 ? 1 : 5;
        gzip_sent(g, wire.n, (int64_t)((double)wire.n * 1e6 * busy / bytes_per_s));
    }
    return packed_count;
}

static void decides_anew(void **state)
{
    struct gzip g;

    (void)state;
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)"{\"name: 01"[(x = x * 6364136223846793005u + 1) >> 61];
    step_us = 400; /* a sample of 128 KB in 0.4 ms */
    gzip_init(&g, GZIP_AUTO, &clock_);
    assert_int_equal(send_bodies(&g, 200, 500e6), 0);
    assert_null(g.packer); /* nor was it tried */
    assert_true(send_bodies(&g, 200, 10e6) >= 200 - 65);
    assert_true(g.on);
    send_bodies(&g, 128, 500e6);
    assert_false(g.on);
    gzip_fini(&g);
    gzip_init(&g, GZIP_AUTO, &clock_); /* the first decision comes early */
    assert_int_equal(send_bodies(&g, 16, 10e6), 8);
    gzip_fini(&g);
}

static void packs_what_was_there(void **state)
{
    static uint8_t out[sizeof body];
    struct gzip g;
    bool packed;
    size_t n;

    (void)state;
    gzip_init(&g, GZIP_ON, &clock_);
    struct slice wire = gzip_body(&g, slice_of(body, sizeof body), &packed);
    assert_true(packed && wire.n < sizeof body / 2);
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    assert_int_equal(libdeflate_gzip_decompress(d, wire.p, wire.n, out, sizeof out, &n), 0);
    assert_int_equal(n, sizeof body);
    assert_memory_equal(out, body, n);
    libdeflate_free_decompressor(d);
    gzip_body(&g, slice_of(body, 100), &packed);
    assert_false(packed); /* not worth it */
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)((x = x * 6364136223846793005u + 1) >> 56);
    wire = gzip_body(&g, slice_of(body, sizeof body), &packed);
    assert_false(packed); /* it would be larger */
    assert_ptr_equal(wire.p, body);
    gzip_fini(&g);
}

/* However small, and one behind the other. */
static void members_stand_alone(void **state)
{
    static const char *const texts[] = {"a\n", "", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"};
    struct libdeflate_decompressor *unpacker = libdeflate_alloc_decompressor();
    struct gzip g;

    (void)state;
    gzip_init(&g, GZIP_ON, NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char out[100];
        size_t in_bytes, out_bytes;
        struct slice member = gzip_member(&g, slice_str(texts[i]));

        assert_true(member.n >= 18); /* head and tail: RFC 1952, 2.3 */
        assert_int_equal(libdeflate_gzip_decompress_ex(unpacker, member.p, member.n, out,
                                                       sizeof out, &in_bytes, &out_bytes),
                         LIBDEFLATE_SUCCESS);
        assert_int_equal(in_bytes, member.n);
        assert_int_equal(out_bytes, strlen(texts[i]));
        assert_memory_equal(out, texts[i], out_bytes);
    }
    libdeflate_free_decompressor(unpacker);
    gzip_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pays_by_the_link),
        cmocka_unit_test(decides_anew),
        cmocka_unit_test(packs_what_was_there),
        cmocka_unit_test(members_stand_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
