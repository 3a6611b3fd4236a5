/* Any answer gets a verdict that can be acted on. First bytes: status and whether it was awaited.
 */
#include <stdlib.h>

#include "base/text.h"
#include "sink/syncapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 200, 200, 202, 301, 400, 401,
                                   404, 413, 429, 500, 500, 503, 100};
    const struct slice ids[] = {slice_str("\"a\""), slice_str("\"\\u0062\""),
                                slice_str("{\"u\":[\"c\"]}")};
    const struct syncapi_block block = {ids, 3};
    struct syncapi_verdict v;
    bool id_ok[3];

    if (size < 1)
        return 0;
    bool await = data[0] & 1;
    struct http_answer a = {.status =
                                statuses[(data[0] >> 1) % (sizeof statuses / sizeof *statuses)],
                            .retry_after_ms = -1};
    /* a copy: reading beyond the end is seen */
    uint8_t *body = malloc(size);
    memcpy(body, data + 1, size - 1);
    a.body = slice_of(body, size - 1);
    syncapi_judge(&a, &block, await, id_ok, &v);
    ensure(v.text[0] && utf8_valid(slice_str(v.text)));
    ensure((v.reason[0] == '\0') == (v.outcome == SYNC_ACCEPTED || v.outcome == SYNC_CONFIRMED));
    ensure(await || v.outcome <= SYNC_ACCEPTED || v.outcome >= SYNC_FAILED);
    ensure((v.id_ok != NULL) == (v.outcome == SYNC_CONFIRMED || v.outcome == SYNC_PARTLY));
    if (v.id_ok)
        ensure(v.confirmed == (size_t)id_ok[0] + id_ok[1] + id_ok[2]);
    free(body);
    return 0;
}
