#include "engine/retry.h"

#include <poll.h>

/* A level-1 cancel only sets a flag, so waits look at it this often. */
enum { LOOK_MS = 50 };

void retry_init(struct retry *r, struct clock *clock, struct cancel *cancel, int64_t budget_ms)
{
    *r = (struct retry){.clock = clock,
                        .cancel = cancel,
                        .budget_ms = budget_ms,
                        .since_ms = -1,
                        .random =
                            (uint64_t)clock_mono_us(clock) * 0x9e3779b97f4a7c15u + (uintptr_t)r};
}

void retry_ok(struct retry *r)
{
    r->since_ms = -1;
    r->tries = 0;
}

bool retry_pause(struct clock *clock, struct cancel *cancel, int64_t ms, struct err *err)
{
    struct deadline until = deadline_in(clock, ms);

    for (;;) {
        if (cancel_level(cancel) >= 1)
            return err_set(err, ERR_CANCEL, "stopped on request");
        int left = deadline_left_ms(clock, until);
        if (left <= 0)
            return true;
        struct pollfd fd = {.fd = cancel ? cancel->fd : -1, .events = POLLIN};
        poll(&fd, 1, left < LOOK_MS ? left : LOOK_MS);
    }
}

static int64_t with_jitter(struct retry *r, int64_t ms)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return ms / 2 + (int64_t)(r->random % (uint64_t)(ms / 2 + 1));
}

bool retry_wait(struct retry *r, int64_t at_least_ms, struct err *err)
{
    int64_t now = clock_mono_ms(r->clock);
    int64_t wait_ms = RETRY_MAX_MS;

    if (r->since_ms < 0)
        r->since_ms = now;
    if (r->tries < 9)
        wait_ms =
            RETRY_FIRST_MS << r->tries < RETRY_MAX_MS ? RETRY_FIRST_MS << r->tries : RETRY_MAX_MS;
    wait_ms = with_jitter(r, wait_ms);
    if (wait_ms < at_least_ms)
        wait_ms = at_least_ms;
    r->tries++;
    int64_t left = r->since_ms + r->budget_ms - now;
    if (left <= 0 || at_least_ms > left) {
        err->kind = ERR_REACH;
        return err_wrap(err, "gave up after %u %s in %lld ms", r->tries,
                        r->tries == 1 ? "try" : "tries", (long long)(now - r->since_ms));
    }
    if (wait_ms > left)
        wait_ms = left; /* one last try when the budget ends */
    if (!retry_pause(r->clock, r->cancel, wait_ms, err))
        return false;
    err_clear(err);
    return true;
}
