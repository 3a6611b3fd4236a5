/*
 * cmd/versioning.h - one index, one kind of versions: what earlier runs wrote it under is kept.
 *
 * An index that was made for one says so in its _meta, to everybody who writes it. Of others the
 * mode is noted in the journal, by the index's uuid.
 *
 * Threads: the one of the elastic.
 */
#pragma once
#include "journal/journal.h"
#include "mapping/plan.h"
#include "sink/elastic_ask.h"

/*
 * Of the index that the plan writes.
 *   journal  NULL: none, only _meta is asked
 *   change   another mode is what the operator wants
 *   index    for versioning_note()
 * ERR_USER: it is of another mode; else what asking for it says.
 */
bool versioning_check(struct journal *journal, struct elastic *e, const struct plan *plan,
                      bool change, struct elastic_origin *index, struct err *err);
/* From now on it is of the plan's mode, by this run: where it says another one, it is told so.
 * Before the first write. */
bool versioning_note(struct journal *journal, struct elastic *e, const struct elastic_origin *index,
                     const struct plan *plan, const char *run, struct err *err);
