/*
 * cmd/preview.h - a sync to an index looked at beforehand, for `check` and for --dry-run.
 *
 * Everything is read, nothing is written: neither to the index nor to the journal. Each step gives
 * a line; what needs a step that failed is left out. Threads: the main thread alone.
 */
#pragma once
#include "cmd/sync_index.h"
#include "engine/estimate.h"
#include "mapping/fit.h"
#include "sink/elastic_ask.h"

enum preview_grade {
    PREVIEW_OK,
    PREVIEW_UNKNOWN, /* could not be looked at, or does not matter here */
    PREVIEW_NOTE,    /* right as it is, and perhaps not what was meant */
    PREVIEW_WARN,
    PREVIEW_FAIL,
};

struct preview_line {
    const char *what;
    enum preview_grade grade;
    char *text; /* with what to do */
};

struct preview {
    struct sync *s;
    struct direct_sync d;
    struct elastic_version server;
    bool has_index;
    struct ids *ids; /* NULL: none, or of standard input */
    struct job_plan id_plan;
    struct arena mem;
    const struct json *mappings;
    struct elastic_size size;
    struct estimate estimate;
    struct fit fit;
    struct preview_line *lines;
    size_t count, cap;
};

/* Fini in every case. False: ERR_CANCEL; all else is a line. */
bool preview_make(struct preview *p, struct sync *s, struct err *err);
void preview_fini(struct preview *p);
size_t preview_failing(const struct preview *p);

/* The lines, and for a dry run the plan, for people or as JSON. */
void preview_print_lines(const struct preview *p, bool json);
void preview_print_plan(const struct preview *p, bool json);
/* --dry-run of a sync to an index. Exit 2 when it would fail. */
bool sync_dry_run(struct sync *s, int *exit_code, struct err *err);
