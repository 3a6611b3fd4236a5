/*
 * source/ids.h - ids out of a file: CSV, JSON lines, or the failure log of a run, as a stream.
 *
 * The form is told by the file: its first text is "Request No" (a failure log, ours or the original
 * job's), "{" (JSON lines), a quoted string with backslashes or a name ending in .json, .jsonl,
 * .ndjson (JSON lines), else CSV (RFC 4180; also our syncIds.csv). Memory does not grow with the
 * file. Offsets are bytes from the start of the file and only grow, so a reader marks (0, end] when
 * everything up to an item is safe.
 *
 * CSV: comma, quotes (with commas, newlines and doubled quotes inside), LF or CRLF, BOM, blanks
 * around unquoted fields, blank lines. The first record is a header when a column was chosen by a
 * name, or when it holds all of key_names, or when the chosen field (of several columns: each
 * field) is a key name or one of: id ids identifier(s) uuid objectid(s) userid(s) organisationid
 * organizationid orgid batchid(s) courseid(s) locationid. Names are compared without regard to
 * case, "_", "-" and blanks. With a header holding all key names, columns are taken by name, in any
 * order; else a record has as many columns as the key, in key order.
 * JSON: a string, a number, or an object with the key columns (names as above; a list as the value
 * of a single key column is several ids).
 * Failure log: the elements of each request's objectIds, as JSON above.
 *
 * Threads: a reader belongs to one.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cancel.h"
#include "base/err.h"
#include "base/hash.h"

enum ids_form { IDS_AUTO, IDS_CSV, IDS_JSON, IDS_LOG };
enum ids_header { IDS_HEADER_AUTO, IDS_HEADER_YES, IDS_HEADER_NO };

enum { IDS_KEY_MAX = 32, IDS_ITEM_MAX_BYTES = 64 << 10 };

struct ids_options {
    const char *path;       /* "-": standard input (a pipe given by name is treated alike) */
    const char *spool_path; /* copy of standard input; NULL: "-" is refused */
    bool spooled;           /* the copy is there already (a run goes on): input is not read again */
    enum ids_form form;     /* IDS_AUTO: by the first bytes */
    enum ids_header header; /* CSV */
    const char *column;     /* CSV: the one column to take, by name or number (from 1); or NULL */
    const char *const *key_names; /* columns that an id is made of, in key order; borrowed */
    size_t key_count;             /* 1..IDS_KEY_MAX; more than 1 excludes `column` */
    const char *object_type;      /* a log of another one is refused; NULL: any */
    struct cancel *cancel;        /* level 1 ends opening with ERR_CANCEL; may be NULL */
};

struct ids_file {
    const char *path; /* as given */
    enum ids_form form;
    uint64_t bytes;
    char sha256[SHA256_HEX_BYTES];
    uint64_t count; /* ids, for progress: lines of CSV and JSON (an estimate), of a log exact */
};

struct ids;

/*
 * Opens, spools, hashes, finds the form and sees that there is at least one item.
 *   err  ERR_USER (missing, no rights, a folder, no ids in it, a column that is not there, UTF-16,
 *        compressed, one JSON array, a table that cqlsh printed, a log of another object type),
 * ERR_SYSTEM (reading, spooling), ERR_CANCEL
 */
struct ids *ids_open(const struct ids_options *o, struct err *err);
void ids_close(struct ids *s);
/* What was opened; lives as long as the reader. */
const struct ids_file *ids_file(const struct ids *s);

struct id_item {
    const struct slice *parts; /* key_count components as text, in key order */
    size_t part_count;
    struct slice json; /* compact text of the object it came from; null when it was no object */
    struct slice raw;  /* of an ERR_REJECT: the start of the text as it stands in the file */
    uint64_t end;      /* offset behind it */
    uint64_t line;     /* where it starts, from 1 */
};

/*
 * The next id. `out` points into the reader until the next call.
 * False: err->kind is ERR_NONE at the end of the file; ERR_REJECT for a bad line ("line 7: empty
 * id"; out->raw, end and line are set, call again to go on); ERR_USER when the file was changed
 * meanwhile; ERR_SYSTEM. Clears err first.
 */
bool ids_next(struct ids *s, struct id_item *out, struct err *err);

/* Goes on behind an item that was read earlier: its `end` (0: from the start). Lines are counted
 * anew, so this reads what lies before. */
bool ids_seek(struct ids *s, uint64_t end, struct err *err);
