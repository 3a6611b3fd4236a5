/*
 * base/real.h - the shortest decimal that reads back as a floating-point number.
 *
 * Of all decimals that round to the number (to nearest, ties to even) at its own width: one with
 * the fewest digits, and of those the nearest to it. Exact integer arithmetic throughout.
 * Threads: any. Source: Raffaello Giulietti, "The Schubfach way to render doubles".
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { REAL_DIGITS_MAX = 17 };

/* digits x 10^exponent; the last digit is not 0. */
struct real_decimal {
    uint64_t digits;
    int exponent;
};

/* v is finite and above 0; narrow: it is a float's value, and has to be read back as a float. */
struct real_decimal real_shortest(double v, bool narrow);
