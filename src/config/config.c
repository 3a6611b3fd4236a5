/*
 * config/config.c - a loaded configuration: its life, where values came from, what is shown of it.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "config/options.h"
#include "config/value.h"

static const char *const empty_list[] = {NULL};

struct config *config_new(void)
{
    struct config *c = xalloc(sizeof *c);

    c->own = xalloc(sizeof *c->own);
    c->own->origins = xalloc(config_option_count * sizeof *c->own->origins);
    c->operands = empty_list;
    c->warnings = empty_list;
    for (size_t i = 0; i < config_option_count; i++) {
        const char *const *none = empty_list;

        if (config_options[i].type == OPT_LIST)
            memcpy((uint8_t *)c + config_options[i].offset, &none, sizeof(void *));
    }
    return c;
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].type == OPT_SECRET)
            secret_fini((void *)((uint8_t *)c + config_options[i].offset));
    }
    for (size_t i = 0; i < c->own->kept_count; i++)
        free(c->own->kept[i]);
    free(c->own->kept);
    free(c->own->origins);
    free(c->own);
    free(c);
}

void *config_keep(struct config *c, void *p)
{
    struct config_own *own = c->own;

    if ((own->kept_count & (own->kept_count - 1)) == 0) /* full at each power of two */
        own->kept = xrealloc(own->kept, (own->kept_count * 2 + 1) * sizeof *own->kept);
    own->kept[own->kept_count++] = p;
    return p;
}

/* ---- where from ---------------------------------------------------------------------------- */

static const struct option *must_find(const char *name)
{
    const struct option *o = option_find(name);

    ensure(o != NULL);
    return o;
}

enum config_layer config_from(const struct config *c, const char *name)
{
    return c->own->origins[must_find(name) - config_options].layer;
}

bool config_said(const struct config *c, const char *name)
{
    return config_from(c, name) != FROM_DEFAULT;
}

const char *config_where(const struct config *c, const char *name)
{
    const char *where = c->own->origins[must_find(name) - config_options].where;

    return where ? where : "default";
}

const char *config_word(const struct config *c, const char *name)
{
    const struct option *o = must_find(name);
    int value;

    ensure(o->type == OPT_ENUM);
    memcpy(&value, (const uint8_t *)c + o->offset, sizeof value);
    return o->choices[value];
}

static bool is_given(const struct config *c, const struct option *o)
{
    struct buf value;

    buf_init(&value, INT_MAX);
    config_show(c, o, &value);
    bool given = value.len > 0;
    buf_fini(&value);
    return given;
}

bool config_need(const struct config *c, const char *name, struct err *err)
{
    const struct option *o = must_find(name);
    char flag[OPTION_NAME_BYTES];
    char env[OPTION_NAME_BYTES];

    if (is_given(c, o))
        return true;
    option_flag(o, flag);
    option_env(o, env);
    if (o->param && c->by_context_params)
        return err_set(err, ERR_USER,
                       "%s is missing: --context_param %s=... (or --%s, %s, %s in the file)", name,
                       o->param, flag, env, name);
    return err_set(err, ERR_USER, "%s is missing: --%s (or %s, or %s in the file)", name, flag, env,
                   name);
}

bool config_fault(const struct config *c, const char *name, struct err *err, const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list ap;
    char flag[OPTION_NAME_BYTES];
    const char *where = c->own->origins[must_find(name) - config_options].where;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    option_flag(must_find(name), flag);
    err_set(err, ERR_USER, "%s", text);
    return where ? err_wrap(err, "%s", where) : err_wrap(err, "--%s", flag);
}

/* ---- what is shown -------------------------------------------------------------------------- */

/* A file is the same file from wherever it is named, there or not yet there: its folder is
 * resolved. */
static char *whole_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    AUTO_STR char *folder = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
    char *real = realpath(folder, NULL);

    if (!real)
        return xstrdup(path);
    char *whole = xsprintf("%s/%s", real, slash ? slash + 1 : path);
    free(real);
    return whole;
}

static void add_identity_value(const struct config *c, const struct option *o, struct buf *out)
{
    struct buf value;

    buf_init(&value, INT_MAX);
    config_show(c, o, &value);
    const char *text = buf_cstr(&value);
    bool is_path = !strcmp(o->name, "ids.file") || !strcmp(o->name, "sync.to");
    char *path = is_path && *text && strcmp(text, "-") != 0 ? whole_path(text) : NULL;
    json_add_string(out, slice_str(path ? path : text));
    free(path);
    buf_fini(&value);
}

void config_identity(const struct config *c, unsigned command, struct buf *out)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];

        if (!o->identity || !(o->commands & command))
            continue;
        buf_printf(out, "%s=", o->name);
        add_identity_value(c, o, out);
        buf_add_byte(out, '\n');
    }
}

static void add_json_value(const struct config *c, const struct option *o, struct buf *out)
{
    struct buf value;

    buf_init(&value, INT_MAX);
    config_show(c, o, &value);
    if (o->type == OPT_BOOL || o->type == OPT_INT)
        buf_add_slice(out, buf_slice(&value));
    else
        json_add_string(out, buf_slice(&value));
    buf_fini(&value);
}

void config_params_json(const struct config *c, unsigned command, struct buf *out)
{
    bool first = true;

    buf_add_byte(out, '{');
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];

        if (c->own->origins[i].layer == FROM_DEFAULT || !(o->commands & command))
            continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", o->name);
        add_json_value(c, o, out);
        first = false;
    }
    buf_add_byte(out, '}');
}

void config_show_all(const struct config *c, bool json, struct buf *out)
{
    bool first = true;

    if (json)
        buf_add_byte(out, '[');
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *o = &config_options[i];
        const char *where = config_where(c, o->name);

        if (o->flag_only)
            continue;
        if (json) {
            buf_printf(out, "%s\n{\"name\":\"%s\",\"value\":", first ? "" : ",", o->name);
            add_json_value(c, o, out);
            buf_add_str(out, ",\"from\":");
            json_add_string(out, slice_str(where));
            buf_add_byte(out, '}');
        } else {
            size_t start = out->len;

            buf_printf(out, "%-26s ", o->name);
            config_show(c, o, out);
            buf_printf(out, "%*s  # %s\n",
                       (int)(out->len - start < 50 ? 50 - (out->len - start) : 0), "", where);
        }
        first = false;
    }
    if (json)
        buf_add_str(out, "\n]\n");
}
