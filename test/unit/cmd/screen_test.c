/* What people read: numbers, durations, tables, the progress line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/screen.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

static void durations(void **state)
{
    static const struct {
        int64_t ms;
        const char *want;
    } samples[] = {
        {0, "0 ms"},           {999, "999 ms"},       {1000, "1.0 s"},     {1249, "1.2 s"},
        {9949, "9.9 s"},       {9950, "10 s"},        {59499, "59 s"},     {59500, "1m 00s"},
        {432000, "7m 12s"},    {3599499, "59m 59s"},  {3599500, "1h 00m"}, {7500000, "2h 05m"},
        {172799000, "2d 00h"}, {273600000, "3d 04h"}, {-1, "?"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct buf b;

        buf_init(&b, 100);
        show_duration(&b, samples[i].ms);
        assert_string_equal(buf_cstr(&b), samples[i].want);
        buf_fini(&b);
    }
}

static void numbers(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    show_count(&b, 0);
    buf_add_byte(&b, ' ');
    show_count(&b, 999);
    buf_add_byte(&b, ' ');
    show_count(&b, 1000);
    buf_add_byte(&b, ' ');
    show_count(&b, UINT64_MAX);
    buf_add_byte(&b, ' ');
    show_rate(&b, 0.52);
    buf_add_byte(&b, ' ');
    show_rate(&b, 1234.4);
    assert_string_equal(show_plural(0), "s");
    assert_string_equal(show_plural(1), "");
    assert_string_equal(show_plural(2), "s");
    assert_string_equal(buf_cstr(&b), "0 999 1,000 18,446,744,073,709,551,615 0.5/s 1,234/s");
    buf_fini(&b);
}

static void tables(void **state)
{
    struct show_table t = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    show_row_count(&t, "accepted", 1234567);
    show_row_count(&t, "failed", 3);
    show_row(&t, "gr\xc3\xbc\xc3\x9f", "%s", "/var/log/x");
    show_table_end(&t, &b);
    assert_string_equal(buf_cstr(&b), "  accepted  1,234,567\n"
                                      "  failed            3\n"
                                      "  gr\xc3\xbc\xc3\x9f      /var/log/x\n");
    assert_int_equal(t.count, 0);
    buf_fini(&b);
}

static void eta(void **state)
{
    (void)state;
    assert_int_equal(screen_eta_ms(&(struct progress){.done = 5}, 1000), -1);
    assert_int_equal(screen_eta_ms(&(struct progress){.total = 5}, 1000), -1);
    assert_int_equal(screen_eta_ms(&(struct progress){.done = 10, .total = 30}, 1000), 2000);
    assert_int_equal(screen_eta_ms(&(struct progress){.done = 30, .total = 30}, 1000), 0);
    /* what an earlier process did took none of our time */
    assert_int_equal(screen_eta_ms(&(struct progress){.done = 20, .before = 10, .total = 30}, 1000),
                     1000);
    assert_int_equal(screen_eta_ms(&(struct progress){.done = 10, .before = 10, .total = 30}, 1000),
                     -1);
    /* pauses don't scale with the work, they are known */
    assert_int_equal(
        screen_eta_ms(
            &(struct progress){.done = 10, .total = 30, .paused_ms = 900, .pauses_left_ms = 10000},
            1000),
        10200);
}

static void lines(void **state)
{
    static const struct {
        struct progress p;
        unsigned width;
        bool colour;
        const char *want;
    } samples[] = {
        {{.done = 420000, .total = 1000000, .failed = 3},
         120,
         false,
         "[############------------------]  42%  420,000/1,000,000 ids  1,234/s  3 failed  ETA 7m "
         "12s"},
        {{.done = 420000, .total = 1000000, .failed = 3},
         76,
         false,
         "[######---------]  42%  420,000/1,000,000 ids  1,234/s  3 failed  ETA 7m 12s"},
        {{.done = 420000, .total = 1000000, .failed = 3},
         60,
         false,
         "420,000/1,000,000 ids  1,234/s  3 failed  ETA 7m 12s"},
        {{.done = 420000, .total = 1000000, .failed = 3},
         30,
         false,
         "420,000/1,000,000 ids  1,234/s"},
        {{.done = 42, .note = "wartet, k\xc3\xbchl"},
         120,
         false,
         "42 ids  1,234/s  0 failed  wartet, k\xc3\xbchl"},
        {{.done = 42, .note = "wartet, k\xc3\xbchl"},
         37,
         false,
         "42 ids  1,234/s  0 failed  wartet, k\xc3\xbc"},
        {{.done = 42, .failed = 1}, 60, true, "42 ids  1,234/s  \033[31m1 failed\033[0m"},
        {{.done = 42, .failed = 0}, 60, true, "42 ids  1,234/s  0 failed"},
        {{.done = 50, .total = 42},
         60,
         false,
         "[###########] 100%  50/42 ids  1,234/s  0 failed  ETA 7m 12s"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct buf b;

        buf_init(&b, 2000);
        screen_add_line(&b, &samples[i].p, "ids", 1234, 432000, samples[i].width,
                        samples[i].colour);
        assert_string_equal(buf_cstr(&b), samples[i].want);
        buf_fini(&b);
    }
}

static int64_t now_us;

static int64_t fake_us(void *ctx)
{
    (void)ctx;
    return now_us;
}

/* What was written to fd since the last time. */
static const char *written(int fd)
{
    static char text[4000];
    ssize_t n = read(fd, text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void screen_over_time(void **state)
{
    struct clock clock = {.wall_us = fake_us, .mono_us = fake_us};
    struct screen_options o = {.mode = SCREEN_BAR, .unit = "ids", .clock = &clock};
    struct progress p = {.done = 0};
    int ends[2];

    (void)state;
    setenv("COLUMNS", "60", 1);
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    o.fd = ends[1];
    struct screen *s = screen_start(&o);
    screen_update(s, &p);
    assert_string_equal(written(ends[0]), "\r\033[K0 ids  0.0/s  0 failed");
    now_us += 199 * 1000;
    screen_update(s, &p);
    assert_string_equal(written(ends[0]), ""); /* not more than five times a second */
    now_us += 1000 * 1000;
    p.done = 1199;
    screen_update(s, &p);
    assert_string_equal(written(ends[0]), "\r\033[K1,199 ids  1,000/s  0 failed");

    /* a log line goes above it: both write to the same terminal */
    int old = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    LOG(LOG_WARN, "something");
    dup2(old, STDERR_FILENO);
    close(old);
    const char *text = written(ends[0]);
    assert_memory_equal(text, "\r\033[K2", 5);
    assert_non_null(strstr(text, "event=something\n\r\033[K1,199 ids"));
    screen_stop(s);
    assert_string_equal(written(ends[0]), "\r\033[K");

    o.mode = SCREEN_AUTO; /* a pipe is no terminal: a line every 10 s */
    s = screen_start(&o);
    old = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    p = (struct progress){.total = 10000, .failed = 2, .note = "x y"};
    screen_update(s, &p);
    now_us += 9999 * 1000;
    screen_update(s, &p);
    bool silent = !*written(ends[0]);
    now_us += 1000;
    p.done = 5000;
    screen_update(s, &p);
    dup2(old, STDERR_FILENO);
    close(old);
    assert_true(silent);
    assert_non_null(strstr(written(ends[0]),
                           " level=info event=progress done=5000 total=10000 failed=2 "
                           "per_s=500 eta_s=10 note=\"x y\"\n"));
    screen_stop(s);

    o.mode = SCREEN_NONE;
    s = screen_start(&o);
    screen_update(s, &p);
    screen_stop(s);
    screen_stop(NULL);
    assert_string_equal(written(ends[0]), "");
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations), cmocka_unit_test(numbers), cmocka_unit_test(tables),
        cmocka_unit_test(eta),       cmocka_unit_test(lines),   cmocka_unit_test(screen_over_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
