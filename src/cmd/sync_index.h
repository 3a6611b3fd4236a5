/*
 * cmd/sync_index.h - what the two kinds of sync to an index share: a whole table, or ids.
 *
 * Threads: the main thread alone.
 */
#pragma once
#include "cmd/document.h"
#include "cmd/job_plan.h"
#include "cmd/sync.h"
#include "engine/guard.h"
#include "engine/limit.h"
#include "sink/elastic.h"

/* What is set, or the default: documents that want rows of other tables come in larger rounds, of
 * fewer workers with more memory each. */
unsigned index_workers(const struct config *c, const struct plan *p);

/* What these commands have besides the struct sync. */
struct direct_sync {
    struct sync *s;
    struct document doc;
    struct elastic_options elastic;
    struct elastic *admin; /* looks at the index */
    struct elastic_index index;
    struct guard *guard;
    struct limit *limit;
    int64_t took_ms; /* of this process */
    uint64_t before; /* rows of earlier ones */
};

/* Connects, compiles the plan, looks at the index and at the clocks. err as the parts'. Fini in
 * every case. */
bool direct_sync_open(struct direct_sync *d, struct err *err);
void direct_sync_fini(struct direct_sync *d);
/* Its parts: the mapping or the table, and the plan; cluster is connected. */
bool direct_sync_document(struct direct_sync *d, struct err *err);
/* Of the mode that the journal (where there is one) and the index know. ERR_USER. */
bool direct_sync_check_versioning(struct direct_sync *d, struct err *err);
/* The second half: the index and the clocks, when cluster and document are there. */
bool direct_sync_open_index(struct direct_sync *d, struct err *err);
/*
 * sync_begin() for an index: a mode of versioning that is not that of earlier runs is refused
 * (ERR_USER), and the mode is noted. Does nothing while a run is open.
 */
bool direct_sync_begin(struct direct_sync *d, const char *more_identity, struct err *err);
/* The run's identity beside the settings: names as they were found. */
char *direct_sync_identity(const struct direct_sync *d);

/* How the file's ids are to be read: as columns of the plan's select. ERR_USER. */
bool sync_index_plan_ids(const struct direct_sync *d, struct job_plan *p, struct err *err);
/* Ids of a file to an index. */
bool sync_index_ids(struct direct_sync *d, int *exit_code, struct err *err);
