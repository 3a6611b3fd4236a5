/*
 * base/log.h - events for operators: one per line, key=value or JSON, to standard error.
 *
 *   LOG(LOG_WARN, "bulk_retry", F_STR("table", name), F_INT("status", 429));
 *   -> 2026-01-02T03:04:05.678Z level=warn event=bulk_retry table=shop.users status=429
 *
 * Event names are stable. Never a secret, a document or a row's value. Threads: any; a line is
 * written with one call.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *key;
    const char *str; /* NULL: num */
    int64_t num;
};

static inline struct log_field log_field_str(const char *key, const char *value)
{
    return (struct log_field){.key = key, .str = value ? value : ""};
}

#define F_STR(key_, value_) log_field_str(key_, value_)
#define F_INT(key_, value_) ((struct log_field){.key = (key_), .num = (int64_t)(value_)})
/* The first element only makes a list without fields possible. */
#define LOG(level, event, ...)                                                                     \
    log_write(level, event,                                                                        \
              &(const struct log_field[]){{.key = NULL}, ##__VA_ARGS__, {.key = NULL}}[1])

/* The only globals of the program. Call before threads start. */
void log_setup(enum log_level level, enum log_format format);
void log_write(enum log_level level, const char *event, const struct log_field *fields);
/* Called before a line is written and after it, with the lock held, so that a progress bar can make
 * room. NULL: none. */
void log_set_screen(void (*clear)(void *ctx), void (*redraw)(void *ctx), void *ctx);
