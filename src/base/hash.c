#include "base/hash.h"

#include <openssl/evp.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/err.h"
#include "base/mem.h"

uint64_t hash_64(struct slice bytes)
{
    return XXH3_64bits(bytes.p, bytes.n);
}

void hash_sha256(struct slice bytes, uint8_t out[SHA256_BYTES])
{
    unsigned n = 0;

    ensure(EVP_Digest(bytes.p, bytes.n, out, &n, EVP_sha256(), NULL) == 1 && n == SHA256_BYTES);
}

static void to_hex(const uint8_t bytes[SHA256_BYTES], char out[SHA256_HEX_BYTES])
{
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[2 * SHA256_BYTES] = '\0';
}

void hash_sha256_hex(struct slice bytes, char out[SHA256_HEX_BYTES])
{
    uint8_t sum[SHA256_BYTES];

    hash_sha256(bytes, sum);
    to_hex(sum, out);
}

struct sha256 {
    EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *h = xalloc(sizeof *h);

    h->ctx = EVP_MD_CTX_new();
    ensure(h->ctx && EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) == 1);
    return h;
}

void sha256_free(struct sha256 *h)
{
    if (h)
        EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_add(struct sha256 *h, struct slice bytes)
{
    ensure(EVP_DigestUpdate(h->ctx, bytes.p, bytes.n) == 1);
}

void sha256_end_hex(struct sha256 *h, char out[SHA256_HEX_BYTES])
{
    uint8_t sum[SHA256_BYTES];
    unsigned n = 0;

    ensure(EVP_DigestFinal_ex(h->ctx, sum, &n) == 1 && n == SHA256_BYTES);
    to_hex(sum, out);
}
