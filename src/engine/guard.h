/*
 * engine/guard.h - versions: what a conflict means, how old a body may be, which create is doubted.
 *
 * One guard per index and process, for the versioned modes (read_time, write_time); under sequence
 * and none it says yes to everything. Elasticsearch keeps the version of a delete in memory only,
 * for index.gc_deletes, and loses it when a shard's engine starts anew, which shows in its primary
 * term. So: nothing is sent that was read longer ago than max_age; and a document that was created
 * under another term than the one known when its row was read is looked up in Cassandra once more.
 * Threads: any; a guard is shared by all workers of an index. Source: DESIGN 3.3.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cql/cql.h"
#include "mapping/plan.h"
#include "sink/elastic.h"

enum {
    GUARD_MAX_SKEW_US = 5000000,
    GUARD_MAX_AGE_US = 30000000,
    GUARD_GC_DELETES_MS = 60000,    /* Elasticsearch's own default */
    GUARD_GC_DELETES_MIN_MS = 4000, /* below it a quarter is shorter than a read and a write */
};

struct guard_options {
    const char *index; /* copied */
    enum mapping_versioning versioning;
    struct clock *clock;   /* the one that T comes from */
    int64_t max_skew_us;   /* 0: GUARD_MAX_SKEW_US */
    int64_t gc_deletes_ms; /* of the index; < 0: GUARD_GC_DELETES_MS */
    int64_t primary_term;  /* highest of the index's shards, read just now; 0: unknown */
    int64_t lowest_term;   /* 0: the same */
};

struct guard;

/* NULL with ERR_USER: gc_deletes is too short for a versioned mode. */
struct guard *guard_new(const struct guard_options *o, struct err *err);
void guard_free(struct guard *g);
AUTO_DEFINE(guard);

/* What was read at T is too old to be sent: read it again. */
bool guard_too_old(const struct guard *g, int64_t read_at_us);
/* µs; INT64_MAX where age does not matter. */
int64_t guard_max_age_us(const struct guard *g);

enum guard_conflict {
    GUARD_STALE,   /* a later one is there */
    GUARD_EQUAL,   /* the same (write_time) */
    GUARD_FOREIGN, /* later than any clock of ours may say: not of our making */
};
/*
 * A write with version `ours` was refused because of version `there` (-1: the answer did not say;
 * taken for a later one of ours).
 */
enum guard_conflict guard_conflict(const struct guard *g, int64_t there, int64_t ours);
/* What to say and to do about GUARD_FOREIGN. */
void guard_foreign_text(const struct guard *g, int64_t there, char *text, size_t size);

/* The document was created under `term`, from a row read at T: is the row to be looked for once
 * more, unless guard_clears(). Takes notice of the term. */
bool guard_doubts(struct guard *g, int64_t read_at_us, int64_t term);
/* After the answers: does another look show that no shard has started anew since T, so that every
 * doubt about what was read at T or later is unfounded. For shards of different terms, whose
 * creates are all doubted: one request for many rows. */
bool guard_clears(struct guard *g, struct elastic *e, int64_t read_at_us);
/* Another look at the terms: after every error of the sink. One call at a time goes out; while the
 * terms are not known every create is doubted. */
void guard_refresh(struct guard *g, struct elastic *e);
/* The same, when one is due: at the beginning of a page or a round. Costs nothing else. */
void guard_renew(struct guard *g, struct elastic *e);

/* For tests: the terms as they are from now on. */
void guard_learn(struct guard *g, const struct elastic_terms *terms);

/*
 * Our clock minus that of a Cassandra node, as far as the time for the question allows to say (0
 * when it could be right). One round trip, a second one when the first leaves too much open.
 */
bool guard_clock_skew(struct guard *g, struct cql_session *s, int64_t *skew_us, struct err *err);
/* In the versioned modes ERR_USER when it is more than max_skew_us: versions would be wrong. With a
 * session of its own. */
bool guard_check_clock(struct guard *g, struct cql_cluster *c, struct err *err);
