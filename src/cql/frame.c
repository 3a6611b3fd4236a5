#include "cql/frame.h"

enum { FRAME_RESPONSE_BIT = 0x80 };

size_t frame_bytes_wanted(struct slice in)
{
    if (in.n < FRAME_HEADER_BYTES)
        return 0;
    return FRAME_HEADER_BYTES + (size_t)load_u32(in.p + 5);
}

enum frame_status frame_take(struct slice *in, uint8_t version, uint32_t max_body_bytes,
                             struct frame *out, struct err *err)
{
    if (in->n < 1)
        return FRAME_SHORT;
    /* The first byte tells a CQL server from something else before there is a length to trust. */
    uint8_t first = in->p[0];
    bool wrong = version ? first != (version | FRAME_RESPONSE_BIT) : !(first & FRAME_RESPONSE_BIT);
    if (wrong) {
        err_set(err, ERR_RETRY, "not an answer in CQL protocol v%d (first byte 0x%02x)",
                version ? version : 4, first);
        return FRAME_BAD;
    }
    if (in->n < FRAME_HEADER_BYTES)
        return FRAME_SHORT;
    uint32_t length = load_u32(in->p + 5);
    if (length > max_body_bytes) {
        err_set(err, ERR_RETRY, "an answer of %u bytes is longer than the limit of %u", length,
                max_body_bytes);
        return FRAME_BAD;
    }
    if (in->n - FRAME_HEADER_BYTES < length)
        return FRAME_SHORT;

    *out = (struct frame){
        .version = first & 0x7f,
        .response = true,
        .flags = in->p[1],
        .stream = (int16_t)load_u16(in->p + 2),
        .opcode = in->p[4],
        .body = slice_of(in->p + FRAME_HEADER_BYTES, length),
    };
    *in = slice_of(in->p + FRAME_HEADER_BYTES + length, in->n - FRAME_HEADER_BYTES - length);
    return FRAME_READY;
}

static bool take_string(struct slice *in, struct slice *out)
{
    uint16_t n;

    return take_u16(in, &n) && slice_take(in, n, out);
}

static bool skip_warnings(struct slice *body)
{
    struct slice skipped;
    uint16_t n;

    if (!take_u16(body, &n))
        return false;
    while (n--)
        if (!take_string(body, &skipped))
            return false;
    return true;
}

static bool skip_payload(struct slice *body)
{
    struct slice skipped;
    uint16_t n;
    int32_t length;

    if (!take_u16(body, &n))
        return false;
    while (n--)
        if (!take_string(body, &skipped) || !take_i32(body, &length) ||
            (length > 0 && !slice_take(body, (size_t)length, &skipped)))
            return false;
    return true;
}

bool frame_strip(struct frame *f, struct err *err)
{
    struct slice body = f->body, tracing_id;

    /* In this order: native_protocol_v4.spec, section 2.2. */
    if (((f->flags & FRAME_TRACING) && !slice_take(&body, 16, &tracing_id)) ||
        ((f->flags & FRAME_WARNING) && !skip_warnings(&body)) ||
        ((f->flags & FRAME_CUSTOM_PAYLOAD) && !skip_payload(&body)))
        return err_set(err, ERR_RETRY, "the flags of a %s promise more than is there",
                       frame_opcode_name(f->opcode));
    f->body = body;
    return true;
}

size_t frame_begin(struct buf *out, uint8_t version, uint8_t flags, int16_t stream,
                   enum frame_opcode opcode)
{
    size_t begin = out->len;
    uint8_t header[FRAME_HEADER_BYTES] = {version, flags, (uint8_t)((uint16_t)stream >> 8),
                                          (uint8_t)stream, (uint8_t)opcode};

    buf_add(out, header, sizeof header);
    return begin;
}

void frame_end(struct buf *out, size_t begin)
{
    if (out->full || out->len < begin + FRAME_HEADER_BYTES)
        return; /* something did not fit: the caller looks at `full` */
    uint32_t length = __builtin_bswap32((uint32_t)(out->len - begin - FRAME_HEADER_BYTES));
    memcpy(out->p + begin + 5, &length, sizeof length);
}

const char *frame_opcode_name(uint8_t opcode)
{
    static const char *const names[] = {
        [OP_ERROR] = "ERROR",
        [OP_STARTUP] = "STARTUP",
        [OP_READY] = "READY",
        [OP_AUTHENTICATE] = "AUTHENTICATE",
        [OP_OPTIONS] = "OPTIONS",
        [OP_SUPPORTED] = "SUPPORTED",
        [OP_QUERY] = "QUERY",
        [OP_RESULT] = "RESULT",
        [OP_PREPARE] = "PREPARE",
        [OP_EXECUTE] = "EXECUTE",
        [OP_REGISTER] = "REGISTER",
        [OP_EVENT] = "EVENT",
        [OP_BATCH] = "BATCH",
        [OP_AUTH_CHALLENGE] = "AUTH_CHALLENGE",
        [OP_AUTH_RESPONSE] = "AUTH_RESPONSE",
        [OP_AUTH_SUCCESS] = "AUTH_SUCCESS",
    };

    if (opcode < sizeof names / sizeof *names && names[opcode])
        return names[opcode];
    return "unknown";
}
