#include "cql/token.h"

#include "base/text.h"
#include "cql/cql.h"

bool token_parse(struct slice text, int64_t *out)
{
    return text_to_i64(text, INT64_MIN, INT64_MAX, out);
}

bool token_partitioner_known(struct slice partitioner)
{
    static const char name[] = "Murmur3Partitioner";
    size_t n = sizeof name - 1;

    if (partitioner.n > n && partitioner.p[partitioner.n - n - 1] != '.')
        return false;
    return partitioner.n >= n && memcmp(partitioner.p + partitioner.n - n, name, n) == 0;
}

static uint64_t rotate(uint64_t v, int bits)
{
    return v << bits | v >> (64 - bits);
}

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 33) * UINT64_C(0xff51afd7ed558ccd);
    v = (v ^ v >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return v ^ v >> 33;
}

/* Bytes of the tail, sign-extended each: a mistake in Cassandra's version that is now the standard.
 */
static uint64_t tail_word(const uint8_t *p, size_t n)
{
    uint64_t k = 0;

    for (size_t i = 0; i < n; i++)
        k ^= (uint64_t)(int64_t)(int8_t)p[i] << (i * 8);
    return k;
}

/* MurmurHash3 x64 128, seed 0, first half. */
int64_t cql_token(struct slice key)
{
    const uint64_t c1 = UINT64_C(0x87c37b91114253d5);
    const uint64_t c2 = UINT64_C(0x4cf5ad432745937f);
    const uint8_t *p = key.p;
    size_t n = key.n;
    uint64_t h1 = 0;
    uint64_t h2 = 0;

    if (!n)
        return INT64_MIN;
    for (; n >= 16; p += 16, n -= 16) {
        uint64_t k1;
        uint64_t k2;
        memcpy(&k1, p, 8);
        memcpy(&k2, p + 8, 8);
        h1 ^= rotate(k1 * c1, 31) * c2;
        h1 = (rotate(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= rotate(k2 * c2, 33) * c1;
        h2 = (rotate(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    if (n > 8)
        h2 ^= rotate(tail_word(p + 8, n - 8) * c2, 33) * c1;
    if (n)
        h1 ^= rotate(tail_word(p, n < 8 ? n : 8) * c1, 31) * c2;
    h1 ^= key.n;
    h2 ^= key.n;
    h1 += h2;
    h2 += h1;
    int64_t token = (int64_t)(mix(h1) + mix(h2));
    return token == INT64_MIN ? INT64_MAX : token;
}

void cql_partition_key(const struct slice *components, size_t count, struct buf *out)
{
    if (count == 1) {
        buf_add_slice(out, components[0]);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        buf_add_u16(out, (uint16_t)components[i].n);
        buf_add_slice(out, components[i]);
        buf_add_byte(out, 0);
    }
}
