#include "config/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

struct unit {
    const char *name;
    int64_t factor;
};

/* Largest first, so that the shown form finds the shortest. */
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                        {"s", 1000},     {"ms", 1},      {NULL, 0}};
static const struct unit sizes[] = {{"TiB", (int64_t)1 << 40},
                                    {"GiB", 1 << 30},
                                    {"MiB", 1 << 20},
                                    {"KiB", 1 << 10},
                                    {"GB", 1000000000},
                                    {"MB", 1000000},
                                    {"kB", 1000},
                                    {"B", 1},
                                    {NULL, 0}};

/* ---- storing ------------------------------------------------------------------------------- */

static bool refuse(struct err *err, const struct option *o, const char *where, struct slice text,
                   const char *what)
{
    struct buf allowed;

    buf_init(&allowed, 256);
    option_range(o, &allowed);
    err_set(err, ERR_USER, "%s: '%.*s' is %s (%s)", where, (int)(text.n > 80 ? 80 : text.n),
            (const char *)text.p, what, buf_cstr(&allowed));
    buf_fini(&allowed);
    return false;
}

/* Digits, then a unit (none: `bare`; 0: a unit is wanted). False when it is no such thing. */
static bool measure(struct slice text, const struct unit *units, int64_t bare, int64_t *out,
                    bool *overflow)
{
    size_t digits = 0;

    while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
        digits++;
    struct slice unit = text_trim(slice_of(text.p + digits, text.n - digits));
    int64_t factor = unit.n ? 0 : bare;

    *overflow = false;
    for (; unit.n && units->name; units++) {
        if (text_same_nocase(unit, slice_str(units->name)))
            factor = units->factor;
    }
    if (!digits)
        return false;
    *overflow = !text_to_i64(slice_of(text.p, digits), 0, INT64_MAX, out);
    if (!unit.n && !*overflow && *out == 0)
        return true;
    if (!factor)
        return false;
    *overflow = *overflow || __builtin_mul_overflow(*out, factor, out);
    return true;
}

static bool store_number(struct config *c, const struct option *o, const char *where,
                         struct slice text, struct err *err)
{
    uint8_t *at = (uint8_t *)c + o->offset;
    int64_t v = 0;
    bool overflow = false;
    bool ok = o->type == OPT_DURATION ? measure(text, durations, o->bare_ms ? 1 : 0, &v, &overflow)
              : o->type == OPT_SIZE   ? measure(text, sizes, 1, &v, &overflow)
                                      : text_to_i64(text, INT64_MIN, INT64_MAX, &v);

    if (!ok)
        return refuse(err, o, where, text,
                      o->type == OPT_DURATION ? "no duration such as 500ms, 5s or 10m"
                      : o->type == OPT_SIZE   ? "no size such as 4096, 64KiB or 1MB"
                                              : "not a whole number");
    if (overflow || v < o->min || v > o->max)
        return refuse(err, o, where, text, "out of range");
    if (o->type == OPT_DURATION)
        memcpy(at, &v, sizeof v);
    else if (o->type == OPT_SIZE)
        memcpy(at, &(size_t){(size_t)v}, sizeof(size_t));
    else
        memcpy(at, &(int){(int)v}, sizeof(int));
    return true;
}

static bool store_bool(struct config *c, const struct option *o, const char *where,
                       struct slice text, struct err *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (text_same_nocase(text, slice_str(words[i]))) {
            *((bool *)c + o->offset) = i % 2 == 1; /* a bool is one byte */
            return true;
        }
    }
    return refuse(err, o, where, text, "neither true nor false");
}

static bool store_enum(struct config *c, const struct option *o, const char *where,
                       struct slice text, struct err *err)
{
    for (int i = 0; o->choices[i]; i++) {
        if (text_same_nocase(text, slice_str(o->choices[i]))) {
            memcpy((uint8_t *)c + o->offset, &i, sizeof i);
            return true;
        }
    }
    refuse(err, o, where, text, "no such choice");
    const char *near = text_nearest(text, o->choices);
    size_t len = strlen(err->text);
    if (near)
        snprintf(err->text + len, sizeof err->text - len, "; did you mean %s?", near);
    return false;
}

static void store_list(struct config *c, const struct option *o, bool append, struct slice text)
{
    const char *const **at = (void *)((uint8_t *)c + o->offset);
    size_t count = 0;
    size_t commas = 0;

    while (append && (*at)[count])
        count++;
    for (size_t i = 0; i < text.n; i++)
        commas += text.p[i] == ',';
    char **list = config_keep(c, xalloc((count + commas + 2) * sizeof *list));
    if (count)
        memcpy(list, *at, count * sizeof *list);
    while (text.n) {
        const uint8_t *comma = memchr(text.p, ',', text.n);
        size_t n = comma ? (size_t)(comma - text.p) : text.n;
        struct slice one = text_trim(slice_of(text.p, n));

        if (one.n)
            list[count++] = config_keep(c, xstrndup((const char *)one.p, one.n));
        n += comma != NULL;
        text = slice_of(text.p + n, text.n - n);
    }
    *at = (const char *const *)list;
}

bool value_store(struct config *c, const struct option *o, enum config_layer layer,
                 const char *where, struct slice text, struct err *err)
{
    struct config_origin *origin = &c->own->origins[o - config_options];
    uint8_t *at = (uint8_t *)c + o->offset;

    if (text.n && memchr(text.p, '\0', text.n))
        return err_set(err, ERR_USER, "%s: a NUL byte in the value", where);
    switch (o->type) {
    case OPT_BOOL:
        if (!store_bool(c, o, where, text, err))
            return false;
        break;
    case OPT_INT:
    case OPT_SIZE:
    case OPT_DURATION:
        if (!store_number(c, o, where, text, err))
            return false;
        break;
    case OPT_ENUM:
        if (!store_enum(c, o, where, text, err))
            return false;
        break;
    case OPT_STRING: {
        char *copy = text.n ? config_keep(c, xstrndup((const char *)text.p, text.n)) : NULL;

        *(const char **)(void *)at = copy;
        break;
    }
    case OPT_LIST:
        store_list(c, o, origin->layer == layer, text);
        break;
    case OPT_SECRET:
        secret_set((struct secret *)(void *)at, text);
        break;
    }
    origin->layer = layer;
    origin->where = where ? config_keep(c, xstrdup(where)) : NULL;
    return true;
}

/* ---- showing ------------------------------------------------------------------------------- */

static void add_unit(struct buf *out, const struct unit *units, int64_t v)
{
    const struct unit *best = NULL;

    for (; units->name; units++) {
        if (v && v % units->factor == 0 && (!best || units->factor > best->factor))
            best = units;
    }
    text_add_i64(out, best ? v / best->factor : v);
    if (best)
        buf_add_str(out, best->name);
}

void value_add_duration(struct buf *out, int64_t ms)
{
    add_unit(out, durations, ms);
}

void value_add_size(struct buf *out, int64_t bytes)
{
    add_unit(out, sizes, bytes);
}

bool url_password(struct slice url, size_t *at, size_t *n)
{
    const char *text = (const char *)url.p;

    if (!text || !url.n)
        return false;
    const char *begin = memmem(text, url.n, "://", 3);
    begin = begin ? begin + 3 : text;
    size_t host = url.n - (size_t)(begin - text);
    const char *slash = memchr(begin, '/', host);
    if (slash)
        host = (size_t)(slash - begin);
    const char *end = memrchr(begin, '@', host);
    const char *colon = end ? memchr(begin, ':', (size_t)(end - begin)) : NULL;
    if (!colon)
        return false;
    *at = (size_t)(colon + 1 - text);
    *n = (size_t)(end - colon - 1);
    return true;
}

void value_add_url(struct buf *out, struct slice url)
{
    size_t at;
    size_t n;

    if (!url_password(url, &at, &n)) {
        buf_add_slice(out, url);
        return;
    }
    buf_add(out, url.p, at);
    buf_add_str(out, "***");
    buf_add(out, url.p + at + n, url.n - at - n);
}

void option_range(const struct option *o, struct buf *out)
{
    void (*add)(struct buf *, int64_t) = o->type == OPT_DURATION ? value_add_duration
                                         : o->type == OPT_SIZE   ? value_add_size
                                                                 : text_add_i64;

    switch (o->type) {
    case OPT_BOOL:
        buf_add_str(out, "true, false");
        break;
    case OPT_INT:
    case OPT_SIZE:
    case OPT_DURATION:
        add(out, o->min);
        buf_add_str(out, " to ");
        add(out, o->max);
        break;
    case OPT_ENUM:
        for (size_t i = 0; o->choices[i]; i++)
            buf_printf(out, "%s%s", i ? ", " : "", o->choices[i]);
        break;
    case OPT_STRING:
    case OPT_LIST:
    case OPT_SECRET:
        break;
    }
}

static void show_text(const struct option *o, const char *text, struct buf *out)
{
    if (o->url)
        value_add_url(out, slice_str(text));
    else
        buf_add_str(out, text);
}

void config_show(const struct config *c, const struct option *o, struct buf *out)
{
    const uint8_t *at = (const uint8_t *)c + o->offset;

    switch (o->type) {
    case OPT_BOOL:
        buf_add_str(out, *(const bool *)at ? "true" : "false");
        break;
    case OPT_INT:
        text_add_i64(out, *(const int *)(const void *)at);
        break;
    case OPT_SIZE:
        value_add_size(out, (int64_t)*(const size_t *)(const void *)at);
        break;
    case OPT_DURATION:
        value_add_duration(out, *(const int64_t *)(const void *)at);
        break;
    case OPT_ENUM:
        buf_add_str(out, o->choices[*(const int *)(const void *)at]);
        break;
    case OPT_STRING: {
        const char *text = *(const char *const *)(const void *)at;

        show_text(o, text ? text : "", out);
        break;
    }
    case OPT_LIST: {
        const char *const *list = *(const char *const *const *)(const void *)at;

        for (size_t i = 0; list[i]; i++) {
            if (i)
                buf_add_byte(out, ',');
            show_text(o, list[i], out);
        }
        break;
    }
    case OPT_SECRET:
        buf_add_str(out, secret_show((const struct secret *)(const void *)at));
        break;
    }
}
