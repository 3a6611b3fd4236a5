#include "base/real.h"

#include <string.h>

/* ---- powers of ten ----------------------------------------------------------------------------
 */

enum {
    POWER_MIN = -292, /* for the largest double */
    POWER_MAX = 324,  /* for the smallest one */
    LIMBS = 40,       /* 1280 bits: 10^324 takes 1077, and 2^1270 / 10^292 leaves 300 */
    BIG_ONE_BIT = 1270,
};

/* 10^k x 2^s rounded up to whole numbers, s such that the top one of 128 bits is set. */
static struct {
    uint64_t high, low;
} powers[POWER_MAX - POWER_MIN + 1];

/* A number of 32-bit limbs, least significant first, below 2^1280. */
static void keep_power(int k, const uint32_t *limbs, bool exact)
{
    uint32_t top[5] = {0};
    size_t n = LIMBS;
    uint32_t rest = 0;

    while (!limbs[n - 1])
        n--;
    for (size_t i = 0; i < 5 && i < n; i++)
        top[i] = limbs[n - 1 - i];
    for (size_t i = 5; i < n; i++)
        rest |= limbs[n - 1 - i];
    int shift = __builtin_clz(top[0]);
    for (size_t i = 0; i < 4; i++)
        top[i] = (uint32_t)(((uint64_t)top[i] << 32 | top[i + 1]) << shift >> 32);
    rest |= top[4] << shift;
    uint64_t low = (uint64_t)top[2] << 32 | top[3];
    bool up = rest || !exact;
    powers[k - POWER_MIN].low = low + up;
    powers[k - POWER_MIN].high = ((uint64_t)top[0] << 32 | top[1]) + (up && low == UINT64_MAX);
}

/* Before main(), so that no thread has to ask: 0.1 ms. */
__attribute__((constructor)) static void prepare_powers(void)
{
    uint32_t limbs[LIMBS] = {1};

    for (int k = 0; k <= POWER_MAX; k++) {
        keep_power(k, limbs, true);
        uint64_t carry = 0;
        for (size_t i = 0; i < LIMBS; i++) {
            carry += (uint64_t)limbs[i] * 10;
            limbs[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    memset(limbs, 0, sizeof limbs);
    limbs[BIG_ONE_BIT / 32] = 1u << BIG_ONE_BIT % 32;
    for (int k = -1; k >= POWER_MIN; k--) {
        uint64_t rest = 0;
        for (size_t i = LIMBS; i--;) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 10);
            rest %= 10;
        }
        keep_power(k, limbs, false); /* 2^n / 10^k is never whole */
    }
}

/* ---- shortest ---------------------------------------------------------------------------------
 */

/* x * 10^k's integer part, its lowest bit set when something was cut off behind it. */
static inline uint64_t scaled_to_odd(int k, uint64_t x)
{
    unsigned __int128 low = (unsigned __int128)powers[k - POWER_MIN].low * x;
    unsigned __int128 all =
        (unsigned __int128)powers[k - POWER_MIN].high * x + (uint64_t)(low >> 64);

    return (uint64_t)(all >> 64) | ((uint64_t)all > 1);
}

static struct real_decimal without_zeros(uint64_t digits, int exponent)
{
    if (digits % 100000000 == 0) {
        digits /= 100000000;
        exponent += 8;
    }
    if (digits % 10000 == 0) {
        digits /= 10000;
        exponent += 4;
    }
    while (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    return (struct real_decimal){digits, exponent};
}

/* The paper's names: v = c x 2^q; between vbl and vbr, in quarters of 10^k, everything reads back
 * as v; the candidates are s and s + 1, and their neighbours of one digit less. */
struct real_decimal real_shortest(double v, bool narrow)
{
    uint64_t bits;

    /* Most numbers in tables are decimals of few digits. A quotient of two whole numbers is rounded
     * once, as reading its digits is; and up to 15 digits no two decimals share a double. */
    if (!narrow && v < 1e11) {
        int64_t m = (int64_t)(v * 1e4 + 0.5);
        if ((double)m / 1e4 == v)
            return without_zeros((uint64_t)m, -4);
    }
    int fraction_bits = narrow ? 23 : 52;
    int q_min = narrow ? -149 : -1074;

    memcpy(&bits, &v, sizeof bits);
    uint64_t c = bits & ((UINT64_C(1) << 52) - 1);
    int q = (int)(bits >> 52) - 1075;
    if (q > -1075)
        c |= UINT64_C(1) << 52;
    else
        q = -1074;
    /* A float, subnormal or not, is a normal double whose low bits are 0. */
    int cut = 52 - fraction_bits > q_min - q ? 52 - fraction_bits : q_min - q;
    c >>= cut;
    q += cut;

    bool even = c % 2 == 0;
    bool lower_is_closer = c == UINT64_C(1) << fraction_bits && q > q_min;
    int k = (q * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22; /* floor(log10(2^q [x 3/4])) */
    int h = q + ((-k * 1741647) >> 19) + 1;                       /* floor(log2(10^-k)) */
    uint64_t lower = scaled_to_odd(-k, (4 * c - 2 + lower_is_closer) << h) + !even;
    uint64_t at = scaled_to_odd(-k, 4 * c << h);
    uint64_t upper = scaled_to_odd(-k, (4 * c + 2) << h) - !even;

    uint64_t s = at / 4;
    uint64_t tens = s / 10;
    bool down_fits = lower <= 40 * tens;
    bool up_fits = 40 * tens + 40 <= upper;
    if (s >= 10 && down_fits != up_fits)
        return without_zeros(tens + up_fits, k + 1);
    down_fits = lower <= 4 * s;
    up_fits = 4 * s + 4 <= upper;
    bool round_up = at > 4 * s + 2 || (at == 4 * s + 2 && s % 2);
    return without_zeros(s + (down_fits != up_fits ? up_fits : round_up), k);
}
