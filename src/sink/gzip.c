#include "sink/gzip.h"

#include <libdeflate.h>

#include "base/err.h"
#include "base/mem.h"

enum {
    LEVEL = 1, /* protocols 4.9: 4 times smaller at 2 µs per document */
    FIRST_WINDOW = 8,
    WINDOW = 64,
    BODY_MIN_BYTES = 4 << 10,     /* smaller ones are sent as they are */
    MEASURE_MIN_BYTES = 16 << 10, /* smaller ones tell of round trips, not of the link */
    SAMPLE_BYTES = 128 << 10,
};
/* Of one connection: several of them together are as fast as a network of today. */
static const double fast_bytes_per_s = 60e6;

bool gzip_pays(const struct gzip_facts *f, bool on)
{
    if (f->link_bytes_per_s <= 0 || f->pack_bytes_per_s <= 0 || f->ratio <= 0)
        return on;
    if (f->link_bytes_per_s >= fast_bytes_per_s)
        return false;
    double plain = 1 / f->link_bytes_per_s;
    double packed = 1 / f->pack_bytes_per_s + plain / f->ratio;
    return on ? packed < plain : packed * 1.25 < plain;
}

void gzip_init(struct gzip *g, enum gzip_mode mode, struct clock *clock)
{
    *g = (struct gzip){.mode = mode, .on = mode == GZIP_ON, .clock = clock, .window = FIRST_WINDOW};
    buf_init(&g->packed, SIZE_MAX / 2);
}

void gzip_fini(struct gzip *g)
{
    if (g->packer)
        libdeflate_free_compressor(g->packer);
    buf_fini(&g->packed);
}

void gzip_trim(struct gzip *g)
{
    buf_fini(&g->packed);
}

static bool has_packer(struct gzip *g)
{
    if (!g->packer)
        g->packer = libdeflate_alloc_compressor(LEVEL);
    return g->packer != NULL;
}

/* 0: it would not be smaller. */
static size_t pack(struct gzip *g, struct slice body)
{
    if (!has_packer(g))
        return 0;
    buf_reset(&g->packed);
    uint8_t *to = buf_room(&g->packed, body.n);
    if (!to)
        return 0;
    int64_t start_us = clock_mono_us(g->clock);
    size_t n = libdeflate_gzip_compress(g->packer, body.p, body.n, to, body.n);
    g->pack_us += (double)(clock_mono_us(g->clock) - start_us);
    g->in_bytes += (double)body.n;
    g->out_bytes += (double)(n ? n : body.n);
    return n;
}

static void decide(struct gzip *g)
{
    if (g->in_bytes > 0) {
        g->facts.ratio = g->in_bytes / g->out_bytes;
        g->facts.pack_bytes_per_s = g->in_bytes * 1e6 / (g->pack_us > 1 ? g->pack_us : 1);
    }
    g->on = gzip_pays(&g->facts, g->on);
    g->bodies = 0;
    g->window = WINDOW;
    g->in_bytes = g->out_bytes = g->pack_us = 0;
    g->facts.link_bytes_per_s = 0;
    g->wants_sample = false;
}

struct slice gzip_body(struct gzip *g, struct slice body, bool *packed)
{
    size_t n = 0;

    *packed = false;
    if (g->mode == GZIP_OFF || body.n < BODY_MIN_BYTES)
        return body;
    if (g->wants_sample) {
        pack(g, slice_of(body.p, body.n < SAMPLE_BYTES ? body.n : SAMPLE_BYTES));
        decide(g);
    }
    if (g->on)
        n = pack(g, body);
    if (!n)
        return body;
    *packed = true;
    return slice_of(g->packed.p, n);
}

struct slice gzip_member(struct gzip *g, struct slice body)
{
    if (!has_packer(g))
        return SLICE_NULL;
    size_t most = libdeflate_gzip_compress_bound(g->packer, body.n);
    buf_reset(&g->packed);
    uint8_t *to = buf_room(&g->packed, most);
    size_t n = to ? libdeflate_gzip_compress(g->packer, body.p, body.n, to, most) : 0;
    return n ? slice_of(to, n) : SLICE_NULL;
}

void gzip_sent(struct gzip *g, size_t wire_bytes, int64_t link_us)
{
    if (g->mode != GZIP_AUTO || wire_bytes < MEASURE_MIN_BYTES)
        return;
    double speed = (double)wire_bytes * 1e6 / (double)(link_us > 1 ? link_us : 1);
    if (speed > g->facts.link_bytes_per_s)
        g->facts.link_bytes_per_s = speed;
    if (++g->bodies < g->window)
        return;
    if (g->in_bytes > 0 || g->facts.link_bytes_per_s >= fast_bytes_per_s)
        decide(g);
    else
        g->wants_sample = true; /* the next body tells, then it is decided */
}
