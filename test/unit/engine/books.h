/* Counts of a run that balance, and one of them changed by one: for the tests of x_conserved(). */
#pragma once
#include <stdbool.h>
#include <string.h>

#include "engine/counts.h"

/* `room`: size bytes for the changed copy of `whole`. */
static inline void books_check(bool (*conserved)(const void *counts), const void *whole, void *room,
                               size_t size, const struct count *changed, bool want)
{
    assert_true(conserved(whole));
    for (; changed->name; changed++) {
        for (int by = -1; by <= 1; by += 2) {
            uint64_t n;

            memcpy(room, whole, size);
            memcpy(&n, (char *)room + changed->at, sizeof n);
            n += (uint64_t)by;
            memcpy((char *)room + changed->at, &n, sizeof n);
            if (conserved(room) != want)
                fail_msg("%s changed by %+d: the books %s", changed->name, by,
                         want ? "do not balance" : "still balance");
        }
    }
}
