#include "base/clock.h"

static int64_t read_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t system_wall_us(void *ctx)
{
    (void)ctx;
    return read_us(CLOCK_REALTIME);
}

static int64_t system_mono_us(void *ctx)
{
    (void)ctx;
    return read_us(CLOCK_MONOTONIC);
}

void clock_init_system(struct clock *c)
{
    c->wall_us = system_wall_us;
    c->mono_us = system_mono_us;
    c->ctx = NULL;
    atomic_init(&c->last_version_us, 0);
}

int64_t clock_wall_us(struct clock *c)
{
    return c->wall_us(c->ctx);
}

int64_t clock_mono_us(struct clock *c)
{
    return c->mono_us(c->ctx);
}

int64_t clock_mono_ms(struct clock *c)
{
    return c->mono_us(c->ctx) / 1000;
}

int64_t clock_version_us(struct clock *c)
{
    int64_t last = atomic_load(&c->last_version_us);
    int64_t next;

    do {
        int64_t now = clock_wall_us(c);
        next = now > last ? now : last + 1;
    } while (!atomic_compare_exchange_weak(&c->last_version_us, &last, next));
    return next;
}

struct timespec clock_wait_end(int64_t ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + ms % 1000 * 1000000;
    t.tv_sec += ms / 1000 + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

struct deadline deadline_in(struct clock *c, int64_t ms)
{
    return (struct deadline){clock_mono_ms(c) + ms};
}

int deadline_left_ms(struct clock *c, struct deadline d)
{
    if (d.at_ms == INT64_MAX)
        return INT32_MAX;
    int64_t left = d.at_ms - clock_mono_ms(c);
    return left <= 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}
