/* Any bytes as the body of a Sync API call: an answer or a call, and the answer is JSON. */
#include <string.h>

#include "serve/syncapi.h"

static const char *const types[] = {"batch", "user", "location", NULL};

static void check_answer(const struct syncapi_answer *a)
{
    struct arena mem;
    struct err err;

    ensure(!a->body.full);
    ensure(a->status >= 200 && a->status < 600);
    arena_init(&mem, 256 << 20);
    ensure(json_parse(buf_slice(&a->body), &mem, &err));
    arena_fini(&mem);
}

static void answer_call(const struct syncapi_call *call, struct syncapi_answer *answer)
{
    struct keyed_result *results = xalloc((call->ids->count + 1) * sizeof *results);

    for (uint32_t i = 0; i < call->ids->count; i++)
        results[i] =
            (struct keyed_result){.outcome = (enum keyed_outcome)(i % 5), .ok = i % 5 == 1};
    syncapi_results(call, results, answer);
    check_answer(answer);
    syncapi_accepted(call, answer);
    check_answer(answer);
    syncapi_late(call, answer);
    free(results);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct syncapi_rules rules = {.types = types};
    struct syncapi_request r = {.path = "/v1/data/sync",
                                .content_type = "application/json",
                                .fresh_id = "id",
                                .body = slice_of(data, size)};
    struct syncapi_answer answer;
    struct syncapi_call call;
    struct arena mem;

    for (int dialect = SYNCAPI_AUTO; dialect <= SYNCAPI_USERORG; dialect++) {
        rules.dialect = (enum syncapi_dialect)dialect;
        arena_init(&mem, 8 * size + (1 << 20));
        syncapi_answer_init(&answer, size);
        if (syncapi_parse(&rules, &r, &mem, &call, &answer))
            answer_call(&call, &answer);
        check_answer(&answer);
        syncapi_answer_fini(&answer);
        arena_fini(&mem);
    }
    return 0;
}
