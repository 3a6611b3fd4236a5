/*
 * Models of both stores for the tests of engine/keyed: an Elasticsearch with one index behind
 * http_call(), queries and their pages behind the calls of cql, and a clock that moves when it is
 * looked at. What rows there are is each test's own: it defines page_fill(). A test's `hook` is
 * called at every step, so that others can come in between any two of them; faults say what goes
 * wrong. All of it is one test's at a time: stores_open() in its setup, stores_close() in its
 * teardown.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "cql/cql.h"
#include "engine/guard.h"
#include "engine/keyed.h"
#include "mapping/plan.h"
#include "model/row.h"
#include "model/schema.h"
#include "sink/elastic.h"

void stores_open(void);
void stores_close(void);

/* ---- time: waits pass at once, and each look at the clock takes a little */

enum { SECOND = 1000000 };

extern int64_t now_us;
extern int64_t step_us; /* that a look at the monotone time takes: 1 ms */
extern struct clock test_clock;

/* ---- chance: the same for the same seed */

void random_begin(uint64_t seed);
unsigned below(unsigned n);

/* ---- steps and faults */

/* "mget" stands for all requests but _bulk; "sent" is a query that waits for its answer. The rest
 * of the names are those of `count`; "bulk_done", "read_done", ... are behind the step, before its
 * answer. n: from 1 since `count` was 0. */
extern void (*hook)(const char *step, unsigned n);

extern struct steps {
    unsigned mget, bulk, bulk_done, terms;
    unsigned written, conflicts; /* items of _bulk */
    unsigned sent, reads;        /* reads: those of all kinds, answered or not */
    unsigned read, keys;         /* of one partition: rows, or keys alone */
    unsigned range, range_keys;  /* of a range of tokens */
    unsigned group, group_keys;  /* of rows by name */
    unsigned refused;            /* statements */
} count;

/* Another process is at work: no hook, and nothing goes wrong. */
extern bool quiet;

struct call {
    const char *url, *step;
    unsigned n;
    struct slice body;
    int status; /* with ANSWER: 200, "" */
    const char *answer;
};
enum fault { NO_FAULT, ANSWER, LOSE_ANSWER, NOT_REACHED, ENDLESS };
/* Instead of the usual: an answer of the test's, a lost answer, no connection, an answer that is
 * too long. */
extern enum fault (*fault)(struct call *c);
static inline bool is_bulk(const struct call *c, unsigned n)
{
    return c->n == n && !strcmp(c->step, "bulk");
}

/* Instead of applying an item of the n-th _bulk: its "status":…,"error":… */
extern const char *(*item_fault)(const char *id, unsigned n);

enum fault lose_first_bulk(struct call *c);
const char *overloaded_twice(const char *id, unsigned n);
const char *any_item_fault(const char *id, unsigned n);

/* ---- the index: external versions and sequence numbers. The version of a delete is forgotten
 * after a while, and at once when the engine starts anew, under a higher primary term. */

struct stored {
    char id[40];
    char *source; /* NULL: never written */
    bool live;
    int64_t version; /* -1: none, or forgotten */
    int64_t seq_no;
    int64_t at_us; /* of the last write */
};
extern int64_t next_seq_no, term, gc_us;
extern bool index_exists, keeps_source; /* both are so, until a test says otherwise */
extern bool only_conditional;           /* a write without a condition fails the test */
/* Each write that was applied. */
extern void (*applied)(const struct stored *d);

struct stored *doc_find(const char *id); /* NULL: not there */
const char *doc(const char *id);         /* "absent": not there */
size_t doc_count(void);
/* Anybody's writes, without condition. */
void doc_put(const char *id, const char *source);
void doc_put_version(const char *id, const char *source, int64_t version);
void doc_delete(const char *id);
void docs_forget(void);
/* Closed and opened, moved, killed: what was known of deletes is gone. */
void engine_restart(void);

/* A number of an object of an answer or a document; -1: not there. */
int64_t json_number(const struct json *of, const char *key);

/* ---- queries */

enum { VALUES = 201 };

/* A query under way; values are copied, as the client does, and end with a 0. */
struct asked {
    bool open;
    const char *text;
    bool whole, range, group; /* asks for "v", by tokens, by names */
    uint16_t value_count;
    struct slice values[VALUES];
    uint32_t page_rows;
    unsigned n; /* of its kind, from 1 */
    int64_t sent_us;
    size_t next;     /* of page_fill(): where the next page begins; */
    char behind[64]; /* or behind which row */
    bool ended;
    struct arena mem;
    struct buf bytes; /* cells */
};

/* A test's own: the next page, `last` unless it says otherwise. Sets its columns, adds cells to
 * a->bytes and counts rows. */
void page_fill(struct asked *a, struct page *page);
/* True: no further row fits, and another page comes. */
bool page_full(const struct asked *a, struct page *page);
/* NULL: a null. */
void add_cell(struct asked *a, const char *text);
/* The value as a text. */
static inline const char *asked_key(const struct asked *a)
{
    return (const char *)a->values[0].p;
}
/* Of a query by tokens. */
bool asked_has_token(const struct asked *a, int64_t token);

#define COLUMN(n, of) {.name = {(const uint8_t *)(n), sizeof(n) - 1}, .type = &(of)}

/* No answer, of this kind. */
extern enum err_kind (*read_fault)(const struct asked *a);
/* The server does not know such a statement. */
extern bool (*refuse)(const struct asked *a);
extern unsigned lost_opens;    /* the connection breaks while the next statements are prepared */
extern uint32_t page_rows_max; /* of a page, whatever is asked for */
extern unsigned tickets_open, tickets_most; /* at the same time */
extern size_t ring_pieces;                  /* ranges that the ring has; 0: nobody may ask */

/* Of tokens.c: a partition's token is the number that its key begins with. */
int64_t number_of(const char *p);

/* ---- what documents are made of */

extern struct schema *schemas[3]; /* the table's, then those it takes rows from; freed at the end */
extern struct mapping *mapping;
extern struct plan *plan;
extern struct elastic_options elastic;
void plan_open(const char *yaml);
void plan_close(void);

/* Two of them share both stores. */
struct process {
    struct guard *guards[1];
    const struct plan *plans[2];
    struct keyed *keyed;
    struct arena ids;
    struct keyed_result results[512];
    struct keyed_totals totals;
    struct err err;
};
/* By `plan`, with a guard where the mode wants one; of the options the test gives what it wants
 * otherwise. */
void process_open(struct process *p, bool guarded, struct keyed_options o);
void process_close(struct process *p);
bool process_sync(struct process *p, const char *ids);
