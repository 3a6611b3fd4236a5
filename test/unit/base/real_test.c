#include "base/real.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cmocka_all.h"

static uint64_t seed = 11;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* printf rounds exactly: the first precision that reads back is shortest, but where the nearest of
 * that many digits lies beyond the closer neighbour of a power of two. */
static void check(double v, bool narrow)
{
    struct real_decimal d = real_shortest(v, narrow);
    char got[40];
    char other[40];
    int digits = 0;
    int wanted = 1;

    snprintf(got, sizeof got, "%llue%d", (unsigned long long)d.digits, d.exponent);
    if (narrow ? strtof(got, NULL) != (float)v : strtod(got, NULL) != v)
        fail_msg("%a became %s", v, got);
    if (d.digits % 10 == 0)
        fail_msg("%s ends by 0", got);
    for (uint64_t rest = d.digits; rest; rest /= 10)
        digits++;
    for (;; wanted++) {
        snprintf(other, sizeof other, "%.*e", wanted - 1, v);
        if (narrow ? strtof(other, NULL) == (float)v : strtod(other, NULL) == v)
            break;
    }
    if (digits > wanted)
        fail_msg("%s could be %s", got, other);
    /* Of so many digits it is the nearest: that which printf gives, unless v lies in the middle. */
    snprintf(got, sizeof got, "%.*e", digits - 1, strtod(got, NULL));
    snprintf(other, sizeof other, "%.*e", digits - 1, v);
    int exponent;
    if (frexp(v, &exponent) != 0.5 && digits == wanted && digits < 17 && strcmp(got, other) != 0 &&
        !narrow)
        fail_msg("%s instead of %s", got, other);
}

static void known_forms(void **state)
{
    static const struct {
        double v;
        bool narrow;
        uint64_t digits;
        int exponent;
    } cases[] = {
        {1, false, 1, 0},
        {10, false, 1, 1},
        {0.1, false, 1, -1},
        {(double)0.1f, true, 1, -1},
        {(double)0.1f, false, 10000000149011612, -17},
        {874.45, false, 87445, -2},
        {1e22, false, 1, 22},
        {1e23, false, 1, 23},
        {9007199254740993.0, false, 9007199254740992, 0},
        {2e-44, false, 2, -44},
        {DBL_TRUE_MIN, false, 5, -324},
        {DBL_MIN, false, 22250738585072014, -324},
        {DBL_MAX, false, 17976931348623157, 292},
        {(double)FLT_TRUE_MIN, true, 1, -45},
        {(double)FLT_MIN, true, 11754944, -45},
        {(double)FLT_MAX, true, 34028235, 31},
        {(double)16777216.0f, true, 16777216, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct real_decimal d = real_shortest(cases[i].v, cases[i].narrow);

        if (d.digits != cases[i].digits || d.exponent != cases[i].exponent)
            fail_msg("%a: %llue%d", cases[i].v, (unsigned long long)d.digits, d.exponent);
    }
}

/* Every binary exponent, with what lies next to it. */
static void borders(void **state)
{
    (void)state;
    for (int e = -1074; e < 1024; e++) {
        double v = ldexp(1, e);
        check(v, false);
        check(nextafter(v, INFINITY), false);
        if (e > -1074)
            check(nextafter(v, 0), false);
        check(ldexp(3, e < 1023 ? e : 1022), false);
        if (e >= -149 && e < 128) {
            float f = (float)v;
            check((double)f, true);
            check((double)nextafterf(f, 1e30f), true);
            if (e > -149)
                check((double)nextafterf(f, 0), true);
        }
    }
    for (int e = -323; e < 309; e++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", e);
        double v = strtod(text, NULL);
        check(v, false);
        check(nextafter(v, INFINITY), false);
        check(nextafter(v, 0), false);
    }
}

static void any_number(void **state)
{
    /* Many more when asked for: REAL_ROUNDS=10000000. */
    const char *rounds = getenv("REAL_ROUNDS");
    long count = rounds ? strtol(rounds, NULL, 10) : 50000;

    (void)state;
    for (long i = 0; i < count; i++) {
        uint64_t bits = next_random() & INT64_MAX;
        uint32_t half = (uint32_t)(bits >> 20) & INT32_MAX;
        double d;
        float f;
        memcpy(&d, &bits, sizeof d);
        memcpy(&f, &half, sizeof f);
        if (isfinite(d) && d > 0)
            check(d, false);
        if (isfinite(f) && f > 0)
            check((double)f, true);
        check((double)(bits % 1000000000 + 1) / pow(10, (double)(i % 12)), false);
        check((double)(float)((double)(bits % 10000000 + 1) / pow(10, (double)(i % 8))), true);
        check((double)(bits >> i % 60) + 1, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_forms),
        cmocka_unit_test(borders),
        cmocka_unit_test(any_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
