/*
 * sink/gzip.h - bodies packed by gzip, where the link is slower than packing.
 *
 * Each worker measures what its bodies take to the server, and now and then what packing costs and
 * saves, and decides anew every 64 bodies. On a fast link nothing is packed, not even for a sample.
 * Threads: one owner.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"

struct gzip_facts {
    double link_bytes_per_s; /* best of some bodies: a busy server only makes it look slower */
    double pack_bytes_per_s; /* of what goes in */
    double ratio;            /* bytes in for one out */
};

/* Whether a body arrives earlier when it is packed. `on`: it is packed now; a tie stays as it is.
 */
bool gzip_pays(const struct gzip_facts *f, bool on);

enum gzip_mode { GZIP_OFF, GZIP_AUTO, GZIP_ON };

struct gzip {
    enum gzip_mode mode;
    bool on;
    bool wants_sample; /* of packing, before it can be decided */
    unsigned bodies;   /* since the last decision */
    unsigned window;
    struct gzip_facts facts;
    double in_bytes, out_bytes, pack_us; /* since the last decision */
    struct clock *clock;
    void *packer;
    struct buf packed;
};

void gzip_init(struct gzip *g, enum gzip_mode mode, struct clock *clock);
void gzip_fini(struct gzip *g);
/* The memory of the last packed body is given back. */
void gzip_trim(struct gzip *g);
/* What to send for the body: itself, or packed (*packed true; valid until the next call). */
struct slice gzip_body(struct gzip *g, struct slice body, bool *packed);
/* The body as a gzip member of its own, however small; null: no memory. Valid until the next call.
 */
struct slice gzip_member(struct gzip *g, struct slice body);
/* Bytes of a body went over the link in so many µs. */
void gzip_sent(struct gzip *g, size_t wire_bytes, int64_t link_us);
