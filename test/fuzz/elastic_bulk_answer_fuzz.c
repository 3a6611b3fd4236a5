/* _bulk answers: a verdict for every item, or for none but those before a stop. */
#include "sink/elastic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elastic_item items[3] = {{.op = ELASTIC_CREATE, .id = slice_str("a")},
                                    {.op = ELASTIC_INDEX, .id = slice_str("b"), .seq_no = 1},
                                    {.op = ELASTIC_DELETE, .id = slice_str("c"), .seq_no = 1}};
    struct err err = {0};
    struct arena mem;

    arena_init(&mem, 16 << 20);
    bool ok = elastic_read_bulk(slice_of(data, size), items, 3, &mem, &err);
    for (int i = 0; i < 3; i++) {
        ensure(!ok || items[i].verdict != ELASTIC_OPEN);
        ensure(ok || err.kind != ERR_RETRY || items[i].verdict == ELASTIC_OPEN);
        ensure(items[i].verdict != ELASTIC_REJECTED || items[i].reason[0]);
    }
    ensure(ok == (err.kind == ERR_NONE));
    arena_fini(&mem);
    return 0;
}
