/*
 * source/sample.h - a part of a table: some token ranges, the same ones each time.
 *
 * The ring is cut into 4096 equal slices, or more for less than 1 %, and every so many of them are
 * taken, spread over the whole. Only those are read. A partition's slice follows from its token, so
 * the same share of the same table gives the same partitions, whatever happens to nodes and
 * workers. Pure. Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cql/cql.h"

enum { SAMPLE_ALL = 1000000000 };

struct sample {
    uint32_t share;      /* of SAMPLE_ALL; 0: by `partitions`, or everything */
    uint64_t partitions; /* about as many, by the server's estimates; 0: not so */
};

/* "5%", "0.01%", or a number of partitions. ERR_USER. */
bool sample_parse(struct slice text, struct sample *out, struct err *err);
/* The share for about so many of so many. */
uint32_t sample_share(uint64_t wanted, uint64_t of);
/* The ranges of a share (1..SAMPLE_ALL), in order, none touching another; malloc'ed. */
size_t sample_ranges(uint32_t share, struct token_range **out);
