/* Loads a configuration from a command line in one text; words are cut at blanks. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/load.h"

struct loaded {
    struct config *config;
    struct err err;
    char line[2048]; /* where argv points into: what the process title would show */
    char *argv[64];
    int argc;
};

static inline void load_as(struct loaded *l, unsigned command, const char *line, const char *file,
                           char *const *env)
{
    static char *const home[] = {(char *)"HOME=/home/op", NULL};
    struct config_input in = {.command = command,
                              .command_name = command == FOR_SYNC ? "sync" : "serve",
                              .takes_table = command == FOR_SYNC,
                              .default_file = file,
                              .env = env ? env : home};

    memset(l, 0, sizeof *l);
    snprintf(l->line, sizeof l->line, "%s", line);
    for (char *p = l->line; *p;) {
        l->argv[l->argc++] = p;
        p += strcspn(p, " ");
        if (*p)
            *p++ = '\0';
    }
    in.argc = l->argc;
    in.argv = l->argv;
    l->config = config_load(&in, &l->err);
}

static inline void unload(struct loaded *l)
{
    if (l->config)
        config_free(l->config);
    l->config = NULL;
}

/* A file of that text; the caller unlinks and frees the name. */
static inline char *file_of(const char *text)
{
    char *name = strdup("/tmp/cass2es-test-XXXXXX");
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return name;
}

static inline char *shown(const struct config *c, const char *name)
{
    struct buf out;

    buf_init(&out, 1 << 20);
    config_show(c, option_find(name), &out);
    char *text = strdup(buf_cstr(&out));
    buf_fini(&out);
    return text;
}
