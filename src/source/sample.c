#include "source/sample.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

enum {
    SLICES_LEAST = 12, /* as a power of two */
    SLICES_MOST = 30,
    TAKEN_LEAST = 32, /* slices: fewer would not be spread */
    DECIMALS = 7,     /* of a percent */
};

/* "12.5" -> 12.5 x 10^DECIMALS */
static bool take_percent(struct slice text, int64_t *out)
{
    const uint8_t *point = memchr(text.p, '.', text.n);
    struct slice whole = point ? slice_of(text.p, (size_t)(point - text.p)) : text;
    int64_t v = 0, part = 0;

    if (!text_to_i64(whole, 0, 100, &v))
        return false;
    for (int i = 0; i < DECIMALS; i++)
        v *= 10;
    if (point) {
        struct slice rest = slice_of(point + 1, text.n - whole.n - 1);
        if (rest.n > DECIMALS || !text_to_i64(rest, 0, INT64_MAX, &part))
            return false;
        for (size_t i = rest.n; i < DECIMALS; i++)
            part *= 10;
    }
    *out = v + part;
    return true;
}

bool sample_parse(struct slice text, struct sample *out, struct err *err)
{
    int64_t v = 0;

    text = text_trim(text);
    bool percent = text.n && text.p[text.n - 1] == '%';
    bool ok = percent ? take_percent(slice_of(text.p, text.n - 1), &v)
                      : text_to_i64(text, 1, INT64_MAX, &v);
    if (percent && v > SAMPLE_ALL)
        ok = false;
    if (!ok || v < 1)
        return err_set(
            err, ERR_USER,
            "\"%.*s\" is no sample; say a share such as 5%% or 0.01%%, or about how many "
            "partitions",
            (int)(text.n > 40 ? 40 : text.n), (const char *)text.p);
    *out = (struct sample){0};
    if (percent)
        out->share = (uint32_t)v;
    else
        out->partitions = (uint64_t)v;
    return true;
}

uint32_t sample_share(uint64_t wanted, uint64_t of)
{
    if (wanted >= of)
        return SAMPLE_ALL;
    uint32_t share = (uint32_t)((__uint128_t)wanted * SAMPLE_ALL / of);

    return share ? share : 1;
}

size_t sample_ranges(uint32_t share, struct token_range **out)
{
    unsigned bits = SLICES_LEAST;

    while (bits < SLICES_MOST && ((uint64_t)share << bits) / SAMPLE_ALL < TAKEN_LEAST)
        bits++;
    uint64_t slices = UINT64_C(1) << bits, taken = ((uint64_t)share << bits) / SAMPLE_ALL;
    if (!taken)
        taken = 1;
    /* Slice step * n, for n = 0 .. taken - 1: an odd step meets each slice once, and one near the
     * golden section spreads them. */
    uint64_t step = (uint64_t)((double)slices * 0.6180339887498949) | 1;
    uint8_t *is_taken = xalloc(slices / 8);
    for (uint64_t n = 0; n < taken; n++) {
        uint64_t slice = n * step & (slices - 1);
        is_taken[slice / 8] |= (uint8_t)(1u << slice % 8);
    }
    struct token_range *list = xalloc(taken * sizeof *list);
    size_t count = 0;
    for (uint64_t i = 0; i < slices; i++) {
        if (!(is_taken[i / 8] >> i % 8 & 1))
            continue;
        int64_t start = (int64_t)((i << (64 - bits)) + (UINT64_C(1) << 63));
        int64_t end =
            i + 1 < slices ? (int64_t)(((i + 1) << (64 - bits)) + (UINT64_C(1) << 63)) : INT64_MAX;
        if (count && list[count - 1].end == start)
            list[count - 1].end = end;
        else
            list[count++] = (struct token_range){.start = start, .end = end, .node = -1};
    }
    free(is_taken);
    *out = list;
    return count;
}
