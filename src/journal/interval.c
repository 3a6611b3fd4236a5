#include <stdlib.h>
#include <string.h>

#include "journal/journal.h"

void interval_set_fini(struct interval_set *s)
{
    free(s->list);
    *s = (struct interval_set){0};
}

/* The first interval that ends at or behind `value`; s->count when there is none. */
static size_t first_reaching(const struct interval_set *s, int64_t value)
{
    size_t low = 0;
    size_t high = s->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->list[mid].end < value)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Puts `fresh` new intervals in the place of `old` ones at `at`. */
static void replace(struct interval_set *s, size_t at, size_t old, const struct interval *with,
                    size_t fresh)
{
    size_t count = s->count - old + fresh;

    if (count > s->cap) {
        s->cap = count < 8 ? 8 : count + count / 2;
        s->list = xrealloc(s->list, s->cap * sizeof *s->list);
    }
    if (s->count > at + old)
        memmove(s->list + at + fresh, s->list + at + old, (s->count - at - old) * sizeof *s->list);
    for (size_t i = 0; i < fresh; i++)
        s->list[at + i] = with[i];
    s->count = count;
}

void interval_set_add(struct interval_set *s, int64_t start, int64_t end)
{
    ensure(start <= end);
    if (start == end)
        return;
    struct interval all = {start, end};
    size_t from = first_reaching(s, start); /* touching counts */
    size_t to = from;
    for (; to < s->count && s->list[to].start <= end; to++) {
        if (s->list[to].start < all.start)
            all.start = s->list[to].start;
        if (s->list[to].end > all.end)
            all.end = s->list[to].end;
    }
    replace(s, from, to - from, &all, 1);
}

void interval_set_remove(struct interval_set *s, int64_t start, int64_t end)
{
    struct interval left[2];
    size_t kept = 0;

    ensure(start <= end);
    if (start == end)
        return;
    size_t from = first_reaching(s, start);
    size_t to = from;
    for (; to < s->count && s->list[to].start < end; to++) {
        struct interval was = s->list[to];
        if (was.start < start)
            left[kept++] = (struct interval){was.start, start < was.end ? start : was.end};
        if (was.end > end)
            left[kept++] = (struct interval){end, was.end};
    }
    if (to > from)
        replace(s, from, to - from, left, kept);
}
