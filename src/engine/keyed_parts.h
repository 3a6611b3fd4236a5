/*
 * engine/keyed_parts.h - what the parts of engine/keyed share.
 *
 * keyed.c: a call and its results; keyed_keys.c: ids to documents' keys; keyed_docs.c: look, read,
 * send, pass by pass; keyed_write.c: a row to its action; keyed_judge.c: what an answer means;
 * keyed_make.c: rows of other tables; keyed_ranges.c: the same, many in one query;
 * keyed_reads.c: many reads of Cassandra at once; keyed_scan.c: elements without a partition key;
 * keyed_interval.c: rows of a scan, together. Nothing else includes this. Threads: a keyed belongs
 * to one worker.
 */
#pragma once
#include "base/arena.h"
#include "base/map.h"
#include "engine/keyed.h"
#include "engine/retry.h"
#include "source/scan.h"

enum {
    ROUND_DOCS = 200,    /* looked at, read and written together */
    SCAN_DOCS = 1000,    /* the same of a scan's, where memory allows for it */
    DOCS_AT_ONCE = 4000, /* collected before they are worked off; more keys are read later */
    KEYS_PER_PAGE = 500, /* of a query for keys */
};

enum doc_state {
    DOC_LOOK,    /* look at the stored one, read the row, write */
    DOC_CHECK,   /* we created it: is the row still there? */
    DOC_CONFIRM, /* no row: a second read, then delete */
    DOC_INDEXED, /* the rest is settled */
    DOC_UNCHANGED,
    DOC_STALE,
    DOC_FILTERED,
    DOC_MERGED, /* sequence: a later one has its _id, and stands */
    DOC_GONE,
    DOC_REMOVED,
    DOC_FAILED,
};

/* A key that several elements ask for is a document of the first. */
struct seen {
    enum doc_state state;
};

struct doc {
    uint32_t element;
    const struct plan_query *query; /* of its element: conditions on the row */
    const struct slice *key;        /* plan_key_count() cells */
    struct slice id;
    struct slice routing; /* null: none, or not known yet */
    struct seen *seen;    /* NULL: not remembered */
    size_t later;         /* sequence: 1 + the index of the next one that has this _id; 0: none */

    enum doc_state state;
    unsigned losses; /* sequence */
    unsigned laters;
    unsigned conflicts; /* of versions */
    bool first_is_stale;
    bool in_order;    /* of a scan: `docs` has its neighbours as they are in the table */
    bool was_read;    /* in this pass, with others */
    int64_t token;    /* in_order */
    uint64_t altered; /* values of the document that are not as in the row */
    uint64_t bad_json, lookup_missing;
    const struct slice *cells; /* of the row, until its document is made, in this pass */

    /* The last read, and what was made of it. */
    int64_t read_at_us;
    int64_t version;
    int64_t gone_at_ms; /* DOC_CONFIRM: when the first read found no row */
    bool counted;       /* by the brake */
    bool removed;       /* its document was deleted, as the options want */

    /* A document of our making may be there though the row is gone. */
    bool ours;                            /* versioned */
    struct elastic_found stored;          /* sequence, as all below */
    struct slice sent;                    /* what a create of unknown outcome carried; null: none */
    int64_t created_seq_no, created_term; /* of our create; term 0: none */
    bool looked;                          /* stored is of this pass; other modes do not look */
};

/* A key that an element shares with an earlier one. */
struct shared {
    uint32_t element;
    const struct seen *seen;
};

struct keyed {
    struct keyed_options o;
    struct cql_session *session;
    struct elastic *elastic;
    bool owns_elastic;
    struct retry retry;
    size_t memory_bytes;

    const struct plan *plan; /* of the call */
    struct guard *guard;     /* of the plan; may be NULL */
    enum mapping_versioning versioning;
    struct elastic_target target;
    char **partition_texts; /* of each plan: keyed_partition_text() */
    struct keyed_result *results;
    struct arena call_mem;   /* keys seen; for the call */
    struct arena query_mem;  /* queries of the elements under way, and their keys */
    struct arena key_mem;    /* ids of `docs`, and keys that were read */
    size_t key_bytes;        /* taken from it, about */
    size_t key_answer_bytes; /* of an answer with keys, lately; 0: nothing is known */
    size_t row_answer_bytes; /* of an answer with a row */
    const struct columns *fit_rows, *fit_keys; /* looked at and found right */
    struct arena look_mem;                     /* stored documents; for a pass */
    struct arena write_mem;                    /* for one document */
    struct map seen;
    struct shared *shared;
    size_t shared_count, shared_cap;
    struct doc *docs;
    size_t doc_count, doc_cap;
    size_t look_max;   /* documents in one _mget */
    size_t look_bytes; /* of a stored document, lately; 0: not known */
    size_t room;       /* taken from o.room for this pass */
    struct doc *round; /* those worked off together, among `docs` */
    size_t round_count;
    struct map flush_ids;  /* of `docs`, where the _id does not hold the whole key: to 1 + the index
                              of the last that has it */
    atomic_bool collided;  /* and that was told, of this call */
    size_t round_bytes;    /* of rows that came together */
    bool round_cut;        /* it was more than there is room for */
    size_t scan_docs;      /* in a round of a scan: by what they came to */
    struct slice **extras; /* keys of rows that came unasked for, in key_mem */
    size_t extra_count, extra_cap;
    const struct plan *interval_plan; /* whose are the statements below; NULL: none */
    struct scan_plan interval_rows, interval_keys;
    char *group_rows, *group_keys; /* NULL: no clustering columns */
    unsigned group_refusals;
    size_t group_answer_bytes;
    uint16_t *where_cells; /* of o.where: which of the plan's the condition's column is */
    bool by_id;            /* the call names elements: a row that is no document is missing */
    struct plan_work work; /* for one document */
    struct arena row_mem;  /* rows that wait for others, for a pass */
    struct doc **kept;     /* whose they are */
    size_t kept_count;
    struct fetched fetched; /* rows of other tables; for a pass, or a part of it */
    bool fetched_full;
    size_t other_answer_bytes;
    const struct plan *ranges_plan; /* whose are: */
    struct keyed_range *ranges;     /* one for each of its reads; NULL: none yet */
    uint64_t rows_owed;             /* read, and not yet told to o.limit */
    struct elastic_bulk bulk;
    struct doc **bulk_docs; /* for each item */
    int64_t oldest_us;      /* T of the oldest of them */
    struct buf text;
    struct buf routing;
};

/* One of many reads that are sent together. */
struct read {
    const char *text;
    const struct slice *values;
    uint16_t value_count;
    const struct schema *other; /* of another table; NULL: of the plan's */
    void *who;
    bool done;
};

/* The read as a query to its partition's replicas; borrows from `r`. Uses k->text. */
struct cql_query keyed_query(struct keyed *k, const struct read *r);

/* What to do with an answer; page == NULL: it can't be read, why->text says so. */
typedef bool (*read_taker)(struct keyed *k, struct read *r, const struct page *page,
                           const struct err *why, struct err *err);

/* In `mem`; p == NULL when it is full, or s is null. */
struct slice keyed_keep(struct arena *mem, struct slice s);
/* Always false: ERR_SYSTEM. */
bool keyed_no_memory(struct err *err);
/* Waits before the next try, and clears an ERR_RETRY. False: any other err, or the budget is
 * spent. The first failure in a row is logged, and every tenth. */
bool keyed_wait(struct keyed *k, const char *event, int64_t at_least_ms, struct err *err);

/* The first failure of an element is the one that is told. */
void keyed_tell(struct keyed_result *r, const char *reason, const char *text);
/* The document's end: counted once, here only. */
void keyed_settle(struct keyed *k, struct doc *d, enum doc_state state);
void keyed_fail(struct keyed *k, struct doc *d, const char *reason, const char *text);

/* Every page that was read is told: rows of all kinds of reads count for o.limit. */
void keyed_note_page(struct keyed *k, const struct page *page);
/* Waits until more rows may be read. Before reads, never behind them: what was read grows old.
 * False: ERR_CANCEL. */
bool keyed_pay_rows(struct keyed *k, struct err *err);
/* ERR_USER unless these are the plan's columns (or those of its key): the table changed. */
bool keyed_fits(struct keyed *k, const struct page *page, uint16_t columns, struct err *err);
/* All reads are answered, or a fatal err. As many wait at once as answers of the size seen
 * `lately` (kept up here) fit in. */
bool keyed_read_all(struct keyed *k, struct read *reads, size_t count, read_taker taker,
                    size_t *lately, struct err *err);
void keyed_note_answer(size_t *lately, size_t bytes);
/* As cql_pager_open(), but a server that is away is waited for: never ERR_RETRY. */
struct cql_pager *keyed_pager_open(struct keyed *k, const struct cql_query *q, struct err *err);
/* The same of scan_open(), of the whole task. */
struct scan *keyed_scan_open(struct keyed *k, struct cql_session *session,
                             const struct scan_plan *rows, const struct scan_task *task,
                             uint32_t page_bytes, uint32_t first_rows, struct err *err);
/* Every element that is not bad or a duplicate becomes documents, worked off block by block. */
bool keyed_elements(struct keyed *k, const struct json *ids, struct map *elements, struct err *err);
/* The same of elements whose plan_query scans: one scan for all. `is_wanted` says which. */
bool keyed_scan(struct keyed *k, const struct json *ids, const bool *is_wanted, struct err *err);
/* A key that an element asks for becomes a document, or is one already. key: lives until the
 * documents are worked off. */
bool keyed_add_doc(struct keyed *k, uint32_t element, const struct plan_query *q,
                   const struct slice *key, struct err *err);
/* A document to be worked off. key: lives until then. */
struct doc *keyed_new_doc(struct keyed *k, uint32_t element, const struct slice *key,
                          struct err *err);
/* Cells that outlive the page they came in; NULL: no memory. */
struct slice *keyed_keep_key(struct keyed *k, const struct slice *key);
/* Works off the documents collected so far. */
bool keyed_flush(struct keyed *k, struct err *err);

bool keyed_is_versioned(const struct keyed *k); /* read_time, write_time */
/* A partition with static columns only: its key has no clustering columns. It is read as SELECT
 * <all columns> ... WHERE <partition key> = ? LIMIT 1, and there while no row with a clustering key
 * comes. */
bool keyed_is_partition(const struct keyed *k, const struct slice *key);
const char *keyed_partition_text(struct keyed *k);

/* ---- rows of a scan, together (keyed_interval.c) */

/* Reads what it can of the round's documents in this state; they are `was_read` then. */
bool keyed_read_intervals(struct keyed *k, enum doc_state state, struct err *err);
/* Rows that came though nobody asked for them become documents; behind a round. */
bool keyed_add_extras(struct keyed *k, struct err *err);
void keyed_forget_intervals(struct keyed *k);
/* Bytes that the rows of a round, or their documents, should come to. */
size_t keyed_round_aim(const struct keyed *k);
/* Bytes of answers that may wait to be taken. */
size_t keyed_answers_aim(const struct keyed *k);

/* ---- documents that need rows of other tables (keyed_make.c) */

/* A row that was read: it is written, kept for keyed_make_rows(), or is no document. */
void keyed_take_row(struct keyed *k, struct doc *d, const struct slice *cells);
/* Does the mapping make a document of the row. */
bool keyed_holds(struct keyed *k, const struct slice *cells);
/* A pass begins. */
void keyed_begin_rows(struct keyed *k);
/* Reads what the rows kept want, and writes them. */
bool keyed_make_rows(struct keyed *k, struct err *err);

/* Of what is wanted and not filled, fills what comes cheaper by ranges of tokens (keyed_ranges.c).
 * False: err; k->fetched_full: there was no room. */
bool keyed_read_ranges(struct keyed *k, struct err *err);
void keyed_forget_ranges(struct keyed *k);

/* ---- a document's action and its end (keyed_write.c, keyed_judge.c) */

/* Routing that the key alone decides is known at once. cells: of a row; NULL: only the key. False:
 * it is wanted and not to be had. */
bool keyed_set_routing(struct keyed *k, struct doc *d, const struct slice *cells, struct err *err);
/* Equal as parsed JSON. */
bool keyed_same_json(struct keyed *k, struct slice text, const struct json *stored);
/* The row as it is now against the document as it was before: write, or leave it. */
void keyed_write_row(struct keyed *k, struct doc *d, const struct slice *cells);
/* No row: leave it, delete what is ours, or wait for the second read. */
void keyed_no_row(struct keyed *k, struct doc *d);
/* A later document has its _id, and is in the index: that stays. */
bool keyed_is_shadowed(const struct keyed *k, const struct doc *d);
/* The next one that has its _id; NULL: none. */
const struct doc *keyed_later(const struct keyed *k, const struct doc *d);
/* No row at the second read, either. */
void keyed_remove(struct keyed *k, struct doc *d);
/* The document that we made a moment ago: without its row it has to go. */
void keyed_undo(struct keyed *k, struct doc *d);
/* The row is missing, and its document stays. */
void keyed_leave(struct keyed *k, struct doc *d, const char *reason, const char *text);
/* True: this document waits for the server to recover. */
bool keyed_judge(struct keyed *k, struct doc *d, const struct elastic_item *item);
