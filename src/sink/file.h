/*
 * sink/file.h - documents as lines of a file, or of standard output.
 *
 * Writers come in any order; each brings whole lines together with the journal transaction they
 * stand for. Lines and commit happen under one lock, so the journalled length always is the length
 * up to which every line is covered by a mark: a run that goes on cuts the file back to it.
 * In a file whose name ends in .gz each put is a gzip member of its own: so every journalled length
 * is a member's end, and what is cut back stays whole. Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct sink_file;

/*
 *   path     "-": standard output, never packed
 *   length   cut back to it (what the journal says); 0: begin anew
 *   replace  when beginning anew, a file that is there and not empty is emptied; else it is refused
 * (ERR_USER) err      ERR_USER (no such folder, no rights, shorter than `length`: it was changed
 * meanwhile; says --fresh)
 */
struct sink_file *sink_file_open(const char *path, uint64_t length, bool replace, struct err *err);
void sink_file_free(struct sink_file *f); /* closes; what was put is safe already */
AUTO_DEFINE(sink_file);

/*
 * Appends the lines, then calls commit(ctx, length behind them, err) before anybody else may
 * append. When the commit fails the lines are of no account: the run stops. err  ERR_SYSTEM (disk
 * full: names the file), ERR_USER (the reader of a pipe is gone), or commit's
 */
bool sink_file_put(struct sink_file *f, struct slice lines,
                   bool (*commit)(void *ctx, uint64_t length, struct err *err), void *ctx,
                   struct err *err);
/* Names a packed file: it ends in .gz. */
bool sink_file_is_packed(const char *path);
/* On disk, at the end of a run. */
bool sink_file_sync(struct sink_file *f, struct err *err);
