/*
 * JSON from outside: what is taken is written and read again as the same tree.
 */
#include "base/json.h"

/* Not ensure(): libFuzzer keeps the input of what aborts. */
#define must(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena mem;
    struct err err = {0};

    arena_init(&mem, 64 << 20);
    const struct json *tree = json_parse(slice_of(data, size), &mem, &err);
    if (tree) {
        struct buf out;
        struct buf again;

        buf_init(&out, 64 << 20);
        buf_init(&again, 64 << 20);
        json_write(&out, tree);
        const struct json *second = json_parse(buf_slice(&out), &mem, &err);
        must(second != NULL);
        must(json_equal(tree, second) && json_equal(second, tree));
        json_write(&again, second);
        must(slice_eq(buf_slice(&out), buf_slice(&again)));
        buf_fini(&out);
        buf_fini(&again);
    } else {
        must(err.kind == ERR_REJECT);
    }
    arena_fini(&mem);
    return 0;
}
