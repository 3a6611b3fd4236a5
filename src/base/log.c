#include "base/log.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/text.h"

enum { LOG_LINE_MAX_BYTES = 8 << 10 };

static struct {
    pthread_mutex_t lock;
    enum log_level level;
    enum log_format format;
    void (*clear)(void *ctx);
    void (*redraw)(void *ctx);
    void *ctx;
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level level, enum log_format format)
{
    log_state.level = level;
    log_state.format = format;
}

void log_set_screen(void (*clear)(void *ctx), void (*redraw)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.clear = clear;
    log_state.redraw = redraw;
    log_state.ctx = ctx;
    pthread_mutex_unlock(&log_state.lock);
}

static void add_time(struct buf *line)
{
    struct timespec now;
    struct tm tm;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(line, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

/* A value with a blank, a quote, "=" or a control character is quoted, so that lines can be cut
 * again. */
static void add_text_value(struct buf *line, const char *value)
{
    bool plain = *value != '\0';

    for (const char *c = value; *c && plain; c++)
        plain = (unsigned char)*c > ' ' && *c != '"' && *c != '=' && *c != '\\';
    if (plain)
        buf_add_str(line, value);
    else
        json_add_string(line, slice_str(value));
}

static void add_text(struct buf *line, enum log_level level, const char *event,
                     const struct log_field *f)
{
    add_time(line);
    buf_printf(line, " level=%s event=%s", level_names[level], event);
    for (; f->key; f++) {
        buf_printf(line, " %s=", f->key);
        if (f->str)
            add_text_value(line, f->str);
        else
            text_add_i64(line, f->num);
    }
}

static void add_json(struct buf *line, enum log_level level, const char *event,
                     const struct log_field *f)
{
    buf_add_str(line, "{\"time\":\"");
    add_time(line);
    buf_printf(line, "\",\"level\":\"%s\",\"event\":\"%s\"", level_names[level], event);
    for (; f->key; f++) {
        buf_add_byte(line, ',');
        json_add_string(line, slice_str(f->key));
        buf_add_byte(line, ':');
        if (f->str)
            json_add_string(line, slice_str(f->str));
        else
            text_add_i64(line, f->num);
    }
    buf_add_byte(line, '}');
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    struct buf line;

    if (level > log_state.level)
        return;
    buf_init(&line, LOG_LINE_MAX_BYTES);
    if (log_state.format == LOG_JSON)
        add_json(&line, level, event, fields);
    else
        add_text(&line, level, event, fields);
    if (line.full)
        buf_cut(&line, LOG_LINE_MAX_BYTES - 1);
    buf_add_byte(&line, '\n');

    pthread_mutex_lock(&log_state.lock);
    if (log_state.clear)
        log_state.clear(log_state.ctx);
    ssize_t n = write(STDERR_FILENO, line.p, line.len);
    (void)n; /* there is nowhere left to say it */
    if (log_state.redraw)
        log_state.redraw(log_state.ctx);
    pthread_mutex_unlock(&log_state.lock);
    buf_fini(&line);
}
