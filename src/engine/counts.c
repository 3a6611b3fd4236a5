#include "engine/counts.h"

#include <inttypes.h>
#include <string.h>

bool counts_read(struct run *run, const struct count *list, void *counts, struct err *err)
{
    for (; list->name; list++) {
        int64_t n = 0;

        if (!run_count(run, list->name, &n, err))
            return false;
        memcpy((char *)counts + list->at, &(uint64_t){(uint64_t)n}, sizeof(uint64_t));
    }
    return true;
}

void counts_add_json(struct buf *b, const struct count *list, const void *counts)
{
    for (; list->name; list++) {
        uint64_t n;

        memcpy(&n, (const char *)counts + list->at, sizeof n);
        buf_printf(b, ",\"%s\":%" PRIu64, list->name, n);
    }
}
