/*
 * cql/token.h - tokens as text. (cql_token() and cql_partition_key() are in cql/cql.h.)
 *
 * Murmur3 only. Pure.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* "-9223372036854775808" ... as system.local and system.size_estimates write them. */
bool token_parse(struct slice text, int64_t *out);
/* Whether "org.apache.cassandra.dht.Murmur3Partitioner" (or its short name) is one whose tokens we
 * know. */
bool token_partitioner_known(struct slice partitioner);
