#include "cmd/screen.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

enum {
    BAR_EVERY_MS = 200,
    LINE_EVERY_MS = 10000,
    SAMPLE_EVERY_MS = 1000,
    SAMPLES = 16, /* the rate shown is that of the last 15 s or so */
    BAR_MAX = 30,
    BAR_MIN = 8,
    LINE_MAX_BYTES = 2048,
    NOTE_BYTES = 120,
};

struct sample {
    int64_t at_ms;
    uint64_t done;
};

struct screen {
    pthread_mutex_t lock; /* the terminal's line: log lines come from any thread */
    struct screen_options o;
    bool bar;
    bool colour;
    int64_t start_ms;
    int64_t drawn_ms;
    int64_t sampled_ms;
    struct sample samples[SAMPLES];
    unsigned sample_count;
    struct progress now;
    char note[NOTE_BYTES];
    struct buf line; /* as it stands on the terminal */
};

/* ---- text for people --------------------------------------------------------------------------
 */

void show_count(struct buf *b, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);

    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf_add_byte(b, ',');
        buf_add_byte(b, (uint8_t)digits[i]);
    }
}

const char *show_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

void show_duration(struct buf *b, int64_t ms)
{
    int64_t s = (ms + 500) / 1000;
    int64_t min = s / 60;
    int64_t hours = (s + 30) / 3600;

    if (ms < 0)
        buf_add_byte(b, '?');
    else if (ms < 1000)
        buf_printf(b, "%" PRId64 " ms", ms);
    else if (ms < 9950)
        buf_printf(b, "%" PRId64 ".%" PRId64 " s", (ms + 50) / 1000, (ms + 50) % 1000 / 100);
    else if (s < 60)
        buf_printf(b, "%" PRId64 " s", s);
    else if (min < 60)
        buf_printf(b, "%" PRId64 "m %02" PRId64 "s", min, s % 60);
    else if (hours < 48)
        buf_printf(b, "%" PRId64 "h %02" PRId64 "m", s / 3600, s % 3600 / 60);
    else
        buf_printf(b, "%" PRId64 "d %02" PRId64 "h", hours / 24, hours % 24);
}

void show_rate(struct buf *b, double per_s)
{
    if (per_s < 0)
        per_s = 0;
    if (per_s < 9.95)
        buf_printf(b, "%.1f", per_s);
    else
        show_count(b, per_s < 1e18 ? (uint64_t)(per_s + 0.5) : UINT64_MAX);
    buf_add_str(b, "/s");
}

void show_row(struct show_table *t, const char *key, const char *fmt, ...)
{
    va_list ap;
    char *value = NULL;

    va_start(ap, fmt);
    ensure(vasprintf(&value, fmt, ap) >= 0);
    va_end(ap);
    t->rows = xrealloc(t->rows, (t->count + 1) * sizeof *t->rows);
    t->rows[t->count++] = (struct show_row){.key = xstrdup(key), .value = value};
}

void show_row_count(struct show_table *t, const char *key, uint64_t n)
{
    struct buf b;

    buf_init(&b, 64);
    show_count(&b, n);
    show_row(t, key, "%s", buf_cstr(&b));
    buf_fini(&b);
}

/* Columns on a terminal: characters, not bytes. */
static int columns_of(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

static bool is_count(const char *value)
{
    return *value && value[strspn(value, "0123456789,")] == '\0';
}

void show_table_end(struct show_table *t, struct buf *out)
{
    int key_width = 0;
    int count_width = 0;

    for (size_t i = 0; i < t->count; i++) {
        int key = columns_of(t->rows[i].key);
        int value = is_count(t->rows[i].value) ? columns_of(t->rows[i].value) : 0;

        key_width = key > key_width ? key : key_width;
        count_width = value > count_width ? value : count_width;
    }
    for (size_t i = 0; i < t->count; i++) {
        struct show_row *r = &t->rows[i];
        int pad = is_count(r->value) ? count_width - columns_of(r->value) : 0;

        buf_printf(out, "  %s%*s  %*s%s\n", r->key, key_width - columns_of(r->key), "", pad, "",
                   r->value);
        free(r->key);
        free(r->value);
    }
    free(t->rows);
    *t = (struct show_table){0};
}

/* ---- the line ---------------------------------------------------------------------------------
 */

int64_t screen_eta_ms(const struct progress *p, int64_t elapsed_ms)
{
    uint64_t own = p->done > p->before ? p->done - p->before : 0;
    int64_t busy_ms = elapsed_ms > p->paused_ms ? elapsed_ms - p->paused_ms : 0;

    if (!p->total)
        return -1;
    if (p->done >= p->total)
        return 0;
    if (!own)
        return -1;
    double left = (double)busy_ms / (double)own * (double)(p->total - p->done) +
                  (double)(p->pauses_left_ms > 0 ? p->pauses_left_ms : 0);
    return left < 9e15 ? (int64_t)left : -1;
}

static void add_bar(struct buf *out, double part, int width)
{
    int full = (int)(part * width);

    buf_add_byte(out, '[');
    for (int i = 0; i < width; i++)
        buf_add_byte(out, i < full ? '#' : '-');
    buf_printf(out, "] %3d%%  ", (int)(part * 100));
}

/* Text in pieces, for a narrow terminal takes away from the end. */
void screen_add_line(struct buf *out, const struct progress *p, const char *unit, double rate,
                     int64_t eta_ms, unsigned width, bool colour)
{
    double part = p->total ? (double)p->done / (double)p->total : 0;
    struct buf text;
    size_t failed_from;
    size_t failed_to;

    if (part > 1)
        part = 1;
    buf_init(&text, LINE_MAX_BYTES);
    show_count(&text, p->done);
    if (p->total) {
        buf_add_byte(&text, '/');
        show_count(&text, p->total);
    }
    buf_printf(&text, " %s  ", unit);
    show_rate(&text, rate);
    buf_add_str(&text, "  ");
    failed_from = text.len;
    show_count(&text, p->failed);
    buf_add_str(&text, " failed");
    failed_to = text.len;
    if (p->total) {
        buf_add_str(&text, "  ETA ");
        show_duration(&text, eta_ms);
    }
    if (p->note && *p->note)
        buf_printf(&text, "  %s", p->note);

    int used = columns_of(buf_cstr(&text));
    int room = (int)width - used - 9; /* brackets, percent, blanks */
    if (p->total && room >= BAR_MIN) {
        add_bar(out, part, room < BAR_MAX ? room : BAR_MAX);
    }
    /* cut at the width, at a character's border */
    size_t n = 0;
    for (unsigned seen = 0; n < text.len; n++) {
        bool begins = (text.p[n] & 0xc0) != 0x80;
        if (begins && seen++ == width)
            break;
    }
    if (colour && p->failed && n >= failed_to) {
        buf_add(out, text.p, failed_from);
        buf_add_str(out, "\033[31m");
        buf_add(out, text.p + failed_from, failed_to - failed_from);
        buf_add_str(out, "\033[0m");
        buf_add(out, text.p + failed_to, n - failed_to);
    } else {
        buf_add(out, text.p, n);
    }
    buf_fini(&text);
}

/* ---- the screen -------------------------------------------------------------------------------
 */

static void put(const struct screen *s, const void *p, size_t n)
{
    ssize_t done = write(s->o.fd, p, n);
    (void)done; /* there is nobody to tell */
}

/* The lock is held from here until redraw(), while the log line is written. */
static void on_log_clear(void *ctx)
{
    struct screen *s = ctx;

    pthread_mutex_lock(&s->lock);
    if (s->line.len)
        put(s, "\r\033[K", 4);
}

static void on_log_redraw(void *ctx)
{
    struct screen *s = ctx;

    if (s->line.len)
        put(s, s->line.p, s->line.len);
    pthread_mutex_unlock(&s->lock);
}

struct screen *screen_start(const struct screen_options *o)
{
    const char *term = getenv("TERM");
    const char *no_colour = getenv("NO_COLOR");
    bool terminal = isatty(o->fd) && term && *term && strcmp(term, "dumb") != 0;
    struct screen *s = xalloc(sizeof *s);

    pthread_mutex_init(&s->lock, NULL);
    s->o = *o;
    if (o->mode == SCREEN_AUTO)
        s->o.mode = terminal ? SCREEN_BAR : SCREEN_LINES;
    s->bar = s->o.mode == SCREEN_BAR;
    s->colour = s->bar && terminal && !(no_colour && *no_colour);
    s->start_ms = clock_mono_ms(o->clock);
    s->drawn_ms = s->start_ms - (s->bar ? BAR_EVERY_MS : 0);
    s->sampled_ms = INT64_MIN / 2;
    buf_init(&s->line, LINE_MAX_BYTES);
    if (s->bar)
        log_set_screen(on_log_clear, on_log_redraw, s);
    return s;
}

static unsigned width_of(int fd)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");

    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    long n = columns ? strtol(columns, NULL, 10) : 0;
    return n > 0 && n < 1000 ? (unsigned)n : 80;
}

static void take_sample(struct screen *s, int64_t now_ms)
{
    if (now_ms - s->sampled_ms < SAMPLE_EVERY_MS)
        return;
    s->sampled_ms = now_ms;
    s->samples[s->sample_count++ % SAMPLES] = (struct sample){now_ms, s->now.done};
}

/* Of late: since the oldest sample. */
static double rate_of(const struct screen *s, int64_t now_ms)
{
    unsigned oldest = s->sample_count > SAMPLES ? s->sample_count % SAMPLES : 0;
    const struct sample *from = &s->samples[oldest];

    if (!s->sample_count || now_ms <= from->at_ms || s->now.done < from->done)
        return 0;
    return (double)(s->now.done - from->done) * 1000 / (double)(now_ms - from->at_ms);
}

static void draw_bar(struct screen *s, double rate, int64_t eta_ms)
{
    pthread_mutex_lock(&s->lock);
    buf_reset(&s->line);
    buf_add_str(&s->line, "\r\033[K");
    screen_add_line(&s->line, &s->now, s->o.unit, rate, eta_ms, width_of(s->o.fd) - 1, s->colour);
    put(s, s->line.p, s->line.len);
    pthread_mutex_unlock(&s->lock);
}

static void log_line(const struct screen *s, double rate, int64_t eta_ms)
{
    struct log_field fields[8];
    struct log_field *f = fields;

    *f++ = F_INT("done", s->now.done);
    if (s->now.total)
        *f++ = F_INT("total", s->now.total);
    *f++ = F_INT("failed", s->now.failed);
    *f++ = F_INT("per_s", rate + 0.5);
    if (eta_ms >= 0)
        *f++ = F_INT("eta_s", (eta_ms + 500) / 1000);
    if (*s->note)
        *f++ = F_STR("note", s->note);
    *f = (struct log_field){.key = NULL};
    log_write(LOG_INFO, "progress", fields);
}

void screen_update(struct screen *s, const struct progress *p)
{
    int64_t now_ms = clock_mono_ms(s->o.clock);

    if (s->o.mode == SCREEN_NONE)
        return;
    s->now = *p;
    snprintf(s->note, sizeof s->note, "%s", p->note ? p->note : "");
    s->now.note = s->note;
    take_sample(s, now_ms);
    if (now_ms - s->drawn_ms < (s->bar ? BAR_EVERY_MS : LINE_EVERY_MS))
        return;
    s->drawn_ms = now_ms;
    double rate = rate_of(s, now_ms);
    int64_t eta_ms = screen_eta_ms(&s->now, now_ms - s->start_ms);
    if (s->bar)
        draw_bar(s, rate, eta_ms);
    else
        log_line(s, rate, eta_ms);
}

void screen_stop(struct screen *s)
{
    if (!s)
        return;
    if (s->bar) {
        log_set_screen(NULL, NULL, NULL);
        if (s->line.len)
            put(s, "\r\033[K", 4);
    }
    buf_fini(&s->line);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
