/*
 * cmd/job_plan.h - what the job sends: which columns make an id, under which names, in which form.
 *
 * Decided from the settings, the object type and, where there is one, the table. No network.
 */
#pragma once
#include "cmd/sync.h"
#include "engine/job.h"

enum { API_WORKERS = 1 }; /* calls in flight, unless told: the pause is a promise */

/* What the job is, decided from settings and, where there is one, the table. */
struct job_plan {
    enum job_form form;
    const char *names[IDS_KEY_MAX];  /* columns that make an id, for the file's reader */
    const char *fields[IDS_KEY_MAX]; /* the same as fields of an object */
    uint16_t columns[IDS_KEY_MAX];   /* the same in the schema */
    const struct type *types[IDS_KEY_MAX];
    uint16_t count;
    bool keep_objects;
    int wanted_column; /* lookup: ids of the file are values of this one; -1 */
    const char *wanted_name;
    const struct type *wanted_type;
};

/* p borrows names and types from the settings and the schema of s. err: ERR_USER. */
bool job_plan_make(const struct sync *s, struct job_plan *p, struct err *err);
