/*
 * base/hash.h - hashes: fast (xxHash) for maps and change checks, SHA-256 (OpenSSL) for ids and
 * files.
 */
#pragma once
#include <stdint.h>

#include "base/buf.h"

enum { SHA256_BYTES = 32, SHA256_HEX_BYTES = 65 };

uint64_t hash_64(struct slice bytes);
void hash_sha256(struct slice bytes, uint8_t out[SHA256_BYTES]);
/* Lower-case hex with a NUL. */
void hash_sha256_hex(struct slice bytes, char out[SHA256_HEX_BYTES]);

/* SHA-256 of a stream. */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *h);
void sha256_add(struct sha256 *h, struct slice bytes);
void sha256_end_hex(struct sha256 *h, char out[SHA256_HEX_BYTES]);
