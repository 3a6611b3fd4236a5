#include "cql/segment.h"

#include <libdeflate.h>
#include <lz4.h>

enum {
    SELF_CONTAINED = 1,
    COMPRESS_FROM_BYTES = 512, /* below it a request gains nothing worth the time */
    TRAILER_BYTES = 4,
};

/* ---- checksums --------------------------------------------------------------------------------
 */

uint32_t segment_crc32(struct slice payload)
{
    /* libdeflate's takes 16 bytes and more a step where the processor can. It continues from a
     * checksum: that of the four bytes fa 2d 55 ca, which come before every payload (v5.spec,
     * section 2.3.1). */
    enum { CRC32_OF_THE_FOUR = 0x44777ed3 };

    return payload.n ? libdeflate_crc32(CRC32_OF_THE_FOUR, payload.p, payload.n)
                     : CRC32_OF_THE_FOUR;
}

uint32_t segment_crc24(const uint8_t *p, size_t n)
{
    uint32_t crc = 0x875060;

    for (size_t i = 0; i < n; i++) {
        crc ^= (uint32_t)p[i] << 16;
        for (int bit = 0; bit < 8; bit++) {
            crc <<= 1;
            if (crc & 0x1000000)
                crc ^= 0x1974f0b;
        }
    }
    return crc & 0xffffff;
}

/* ---- segments ---------------------------------------------------------------------------------
 */

/* Little-endian, unlike everything else in CQL. */
static void store_le(uint8_t *to, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(v >> (i * 8));
}

static uint64_t load_le(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;

    for (size_t i = bytes; i--;)
        v = v << 8 | p[i];
    return v;
}

static size_t header_bytes(bool lz4)
{
    return lz4 ? 5 : 3;
}

static void encode_one(struct buf *out, struct slice payload, bool self_contained, bool lz4)
{
    size_t head = header_bytes(lz4);
    bool try_lz4 = lz4 && payload.n >= COMPRESS_FROM_BYTES;
    size_t room = try_lz4 ? (size_t)LZ4_compressBound((int)payload.n) : payload.n;
    uint8_t *to = buf_room(out, head + 3 + room + TRAILER_BYTES);

    if (!to)
        return;
    uint8_t *body = to + head + 3;
    size_t sent = 0;
    if (try_lz4)
        sent = (size_t)LZ4_compress_default((const char *)payload.p, (char *)body, (int)payload.n,
                                            (int)room);
    bool stored = sent == 0 || sent >= payload.n;
    if (stored) {
        memcpy(body, payload.p, payload.n);
        sent = payload.n;
    }
    uint64_t header = sent;
    if (lz4)
        header |= (uint64_t)(stored ? 0 : payload.n) << 17 | (uint64_t)self_contained << 34;
    else
        header |= (uint64_t)self_contained << 17;
    store_le(to, header, head);
    store_le(to + head, segment_crc24(to, head), 3);
    store_le(body + sent, segment_crc32(slice_of(body, sent)), TRAILER_BYTES);
    out->len += head + 3 + sent + TRAILER_BYTES;
}

void segment_encode(struct buf *out, struct slice envelopes, bool lz4)
{
    while (envelopes.n) {
        size_t take = frame_bytes_wanted(envelopes);
        ensure(take && take <= envelopes.n);
        bool self_contained = take <= SEGMENT_PAYLOAD_MAX;
        while (self_contained && take < envelopes.n) {
            size_t next = frame_bytes_wanted(slice_of(envelopes.p + take, envelopes.n - take));
            ensure(next && next <= envelopes.n - take);
            if (next > SEGMENT_PAYLOAD_MAX - take)
                break;
            take += next;
        }
        for (size_t done = 0; done < take;) {
            size_t n = take - done < SEGMENT_PAYLOAD_MAX ? take - done : SEGMENT_PAYLOAD_MAX;
            encode_one(out, slice_of(envelopes.p + done, n), self_contained, lz4);
            done += n;
        }
        envelopes = slice_of(envelopes.p + take, envelopes.n - take);
    }
}

static enum frame_status segment_bad(struct err *err, const char *what)
{
    err_set(err, ERR_RETRY, "a segment %s", what);
    return FRAME_BAD;
}

enum frame_status segment_take(struct slice *in, bool lz4, struct buf *payload, struct err *err)
{
    size_t head = header_bytes(lz4);

    if (in->n < head + 3)
        return FRAME_SHORT;
    /* Nothing in the header is believed before its checksum. */
    if (load_le(in->p + head, 3) != segment_crc24(in->p, head))
        return segment_bad(err, "header's checksum is wrong");
    uint64_t header = load_le(in->p, head);
    size_t sent = header & SEGMENT_PAYLOAD_MAX;
    size_t plain = lz4 ? header >> 17 & SEGMENT_PAYLOAD_MAX : 0;
    size_t whole = head + 3 + sent + TRAILER_BYTES;
    if (in->n < whole)
        return FRAME_SHORT;
    struct slice body = slice_of(in->p + head + 3, sent);
    if (load_le(body.p + sent, TRAILER_BYTES) != segment_crc32(body))
        return segment_bad(err, "payload's checksum is wrong");

    uint8_t *to = buf_room(payload, plain ? plain : sent);
    if (!to)
        return segment_bad(err, "does not fit in the memory for answers");
    if (plain) {
        if (LZ4_decompress_safe((const char *)body.p, (char *)to, (int)sent, (int)plain) !=
            (int)plain)
            return segment_bad(err, "can't be decompressed");
        payload->len += plain;
    } else if (sent) {
        memcpy(to, body.p, sent);
        payload->len += sent;
    }
    *in = slice_of(in->p + whole, in->n - whole);
    return FRAME_READY;
}

/* ---- v4 bodies --------------------------------------------------------------------------------
 */

bool body_compress(struct buf *out, struct slice body)
{
    if (body.n < COMPRESS_FROM_BYTES || body.n > LZ4_MAX_INPUT_SIZE)
        return false;
    size_t room = (size_t)LZ4_compressBound((int)body.n);
    uint8_t *to = buf_room(out, 4 + room);
    if (!to)
        return false;
    int n = LZ4_compress_default((const char *)body.p, (char *)to + 4, (int)body.n, (int)room);
    if (n <= 0 || (size_t)n + 4 >= body.n)
        return false;
    uint32_t length = __builtin_bswap32((uint32_t)body.n);
    memcpy(to, &length, sizeof length);
    out->len += 4 + (size_t)n;
    return true;
}

bool body_decompress(struct buf *out, struct slice body, uint32_t max_bytes, struct err *err)
{
    uint32_t length;

    if (!take_u32(&body, &length))
        return err_set(err, ERR_RETRY, "a compressed body has no length");
    if (length > max_bytes || length > INT32_MAX)
        return err_set(err, ERR_RETRY,
                       "a compressed body of %u bytes is longer than the limit of %u", length,
                       max_bytes);
    if (!length)
        return true;
    if (length / 255 > body.n) /* no LZ4 block gives more than 255 bytes for one */
        return err_set(err, ERR_RETRY, "a compressed body can't be as long as it says");
    uint8_t *to = body.n <= INT32_MAX ? buf_room(out, length) : NULL;
    if (!to)
        return err_set(err, ERR_RETRY, "a compressed body does not fit in the memory for answers");
    if (LZ4_decompress_safe((const char *)body.p, (char *)to, (int)body.n, (int)length) !=
        (int)length)
        return err_set(err, ERR_RETRY, "a compressed body can't be decompressed");
    out->len += length;
    return true;
}
