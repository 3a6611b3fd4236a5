#include "cql/segment.h"

#include <libdeflate.h>
#include <lz4.h>

enum {
    SELF_CONTAINED = 1,
    COMPRESS_FROM_BYTES = 512, /* below it a request gains nothing worth the time */
    TRAILER_BYTES = 4,
    ASIDE_BYTES = 16 << 10, /* received when it is not known what comes */
    BEHIND_BYTES = 4 << 10, /* and behind a payload: its trailer, the next header, small answers */
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

/* Sizes from the header at the front of `in`; nothing in it is believed before its checksum. */
static enum frame_status read_header(struct slice in, bool lz4, size_t *sent, size_t *plain,
                                     struct err *err)
{
    size_t head = header_bytes(lz4);

    if (in.n < head + 3)
        return FRAME_SHORT;
    if (load_le(in.p + head, 3) != segment_crc24(in.p, head))
        return segment_bad(err, "header's checksum is wrong");
    uint64_t header = load_le(in.p, head);
    *sent = header & SEGMENT_PAYLOAD_MAX;
    *plain = lz4 ? header >> 17 & SEGMENT_PAYLOAD_MAX : 0;
    return FRAME_READY;
}

static enum frame_status check_payload(struct slice payload, const uint8_t *trailer,
                                       struct err *err)
{
    if (load_le(trailer, TRAILER_BYTES) != segment_crc32(payload))
        return segment_bad(err, "payload's checksum is wrong");
    return FRAME_READY;
}

enum frame_status segment_take(struct slice *in, bool lz4, struct buf *payload, struct err *err)
{
    size_t head = header_bytes(lz4);
    size_t sent;
    size_t plain;
    enum frame_status status = read_header(*in, lz4, &sent, &plain, err);

    if (status != FRAME_READY)
        return status;
    size_t whole = head + 3 + sent + TRAILER_BYTES;
    if (in->n < whole)
        return FRAME_SHORT;
    struct slice body = slice_of(in->p + head + 3, sent);
    if (check_payload(body, body.p + sent, err) == FRAME_BAD)
        return FRAME_BAD;

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

/* ---- receiving --------------------------------------------------------------------------------
 */

void segment_reader_init(struct segment_reader *r, bool lz4)
{
    *r = (struct segment_reader){.lz4 = lz4};
    buf_init(&r->raw, 2 * (SEGMENT_PAYLOAD_MAX + SEGMENT_OVERHEAD_MAX));
}

void segment_reader_fini(struct segment_reader *r)
{
    buf_fini(&r->raw);
}

static struct slice raw_rest(const struct segment_reader *r)
{
    return r->raw.p ? slice_of(r->raw.p + r->used, r->raw.len - r->used) : SLICE_NULL;
}

struct segment_room segment_room(struct segment_reader *r, struct buf *payload)
{
    struct segment_room room = {0};

    if (r->used) {
        memmove(r->raw.p, r->raw.p + r->used, r->raw.len - r->used);
        r->raw.len -= r->used;
        r->used = 0;
    }
    if (r->open && r->got < r->expected) {
        room.p = payload->p + payload->len + r->got;
        room.n = r->expected - r->got;
        room.then_n = BEHIND_BYTES;
        room.then = buf_room(&r->raw, room.then_n);
    } else {
        room.n = r->lz4 ? SEGMENT_PAYLOAD_MAX + SEGMENT_OVERHEAD_MAX : ASIDE_BYTES;
        room.p = buf_room(&r->raw, room.n);
    }
    return room;
}

void segment_received(struct segment_reader *r, size_t n)
{
    size_t missing = r->open ? r->expected - r->got : 0;
    size_t in_place = n < missing ? n : missing;

    r->got += in_place;
    r->raw.len += n - in_place;
}

static enum frame_status open_segment(struct segment_reader *r, struct buf *payload,
                                      struct err *err)
{
    struct slice rest = raw_rest(r);
    size_t plain;
    enum frame_status status = read_header(rest, false, &r->expected, &plain, err);

    if (status != FRAME_READY)
        return status;
    uint8_t *to = buf_room(payload, r->expected);
    if (!to)
        return segment_bad(err, "does not fit in the memory for answers");
    size_t head = header_bytes(false) + 3;
    r->got = rest.n - head < r->expected ? rest.n - head : r->expected;
    if (r->got)
        memcpy(to, rest.p + head, r->got);
    r->used += head + r->got;
    r->open = true;
    return FRAME_READY;
}

enum frame_status segment_next(struct segment_reader *r, struct buf *payload, struct err *err)
{
    struct slice rest = raw_rest(r);
    enum frame_status status;

    if (r->lz4) {
        status = segment_take(&rest, true, payload, err);
        r->used = r->raw.len - rest.n;
        return status;
    }
    if (!r->open && (status = open_segment(r, payload, err)) != FRAME_READY)
        return status;
    rest = raw_rest(r);
    if (r->got < r->expected || rest.n < TRAILER_BYTES)
        return FRAME_SHORT;
    if (check_payload(slice_of(payload->p + payload->len, r->expected), rest.p, err) == FRAME_BAD)
        return FRAME_BAD;
    r->used += TRAILER_BYTES;
    r->open = false;
    payload->len += r->expected;
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
