/* _mget answers: what is found has the place that a condition needs. */
#include "sink/elastic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice ids[] = {slice_str("a"), slice_str("b")};
    struct elastic_found out[2];
    struct err err = {0};
    struct arena mem;
    bool missing;

    arena_init(&mem, 16 << 20);
    bool ok = elastic_read_mget(slice_of(data, size), ids, 2, &mem, out, &missing, &err);
    for (int i = 0; ok && i < 2; i++) {
        ensure(out[i].seq_no >= 0 && out[i].primary_term >= 0);
        ensure(!out[i].source || out[i].source->kind == JSON_OBJECT);
    }
    ensure(ok == (err.kind == ERR_NONE));
    ensure(!missing || !ok);
    arena_fini(&mem);
    return 0;
}
