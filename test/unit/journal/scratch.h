/* A state folder of its own for each test. */
#pragma once
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "journal/journal.h"

struct scratch {
    char dir[64];
    struct clock clock;
    struct err err;
    struct journal *j;
};

static int scratch_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int scratch_setup(void **state)
{
    struct scratch *s = xalloc(sizeof *s);

    snprintf(s->dir, sizeof s->dir, "/tmp/cass2es-journal-XXXXXX");
    if (!mkdtemp(s->dir))
        return -1;
    clock_init_system(&s->clock);
    *state = s;
    return 0;
}

static int scratch_teardown(void **state)
{
    struct scratch *s = *state;

    journal_close(s->j);
    nftw(s->dir, scratch_remove, 8, FTW_DEPTH | FTW_PHYS);
    free(s);
    return 0;
}

static void scratch_open(struct scratch *s)
{
    s->j = journal_open(s->dir, false, &s->clock, &s->err);
    if (!s->j)
        print_message("%s\n", s->err.text);
    assert_non_null(s->j);
}

static void scratch_close(struct scratch *s)
{
    journal_close(TAKE(s->j));
}

static struct run *scratch_begin(struct scratch *s, bool *resumed)
{
    struct run_spec spec = {
        .command = "sync", .identity = "a table", .params = "{}", .resumable = true};
    struct run *r = run_begin(s->j, &spec, resumed, &s->err);

    if (!r)
        print_message("%s\n", s->err.text);
    assert_non_null(r);
    return r;
}
