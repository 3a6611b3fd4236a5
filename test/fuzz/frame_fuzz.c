/* Envelopes: what is taken off the front is written again with the same bytes. */
#include "cql/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct frame f;
    struct err err = {0};
    uint8_t version;

    if (!take_u8(&in, &version))
        return 0;
    version = version % 3 ? (uint8_t)(3 + version % 3) : 0;
    for (;;) {
        struct slice before = in;
        enum frame_status status = frame_take(&in, version, 1 << 16, &f, &err);
        if (status != FRAME_READY) {
            ensure(in.p == before.p && in.n == before.n);
            ensure((status == FRAME_BAD) == (err.kind == ERR_RETRY));
            return 0;
        }
        size_t taken = before.n - in.n;
        ensure(frame_bytes_wanted(before) == taken);
        struct slice cut = slice_of(before.p, taken - 1);
        struct frame ignored;
        ensure(frame_take(&cut, version, 1 << 16, &ignored, &err) == FRAME_SHORT);

        struct buf again;
        buf_init(&again, 1 << 17);
        size_t begin =
            frame_begin(&again, f.version | 0x80, f.flags, f.stream, (enum frame_opcode)f.opcode);
        buf_add_slice(&again, f.body);
        frame_end(&again, begin);
        ensure(slice_eq(buf_slice(&again), slice_of(before.p, taken)));
        buf_fini(&again);

        struct slice body = f.body;
        if (!frame_strip(&f, &err)) {
            ensure(f.body.p == body.p && err.kind == ERR_RETRY);
            return 0;
        }
        ensure(f.body.p + f.body.n == body.p + body.n);
    }
}
