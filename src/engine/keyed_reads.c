#include "engine/keyed_parts.h"

enum {
    READS_IN_FLIGHT = 64, /* on one connection */
    READS_FIRST = 16,     /* when it is not known how large rows are */
};

struct cql_query keyed_query(struct keyed *k, const struct read *r)
{
    const struct schema *of = r->other ? r->other : plan_schema(k->plan);

    buf_reset(&k->text);
    cql_partition_key(r->values, of->partition_key_count, &k->text);
    return (struct cql_query){
        .text = r->text,
        .values = r->values,
        .value_count = r->value_count,
        .page_rows = KEYS_PER_PAGE,
        .has_token = true,
        .token = cql_token(buf_slice(&k->text)),
        .keyspace = of->keyspace,
    };
}

static bool send_read(struct keyed *k, const struct read *r, cql_ticket *ticket, struct err *err)
{
    struct cql_query q = keyed_query(k, r);
    return cql_send(k->session, &q, ticket, err);
}

static bool is_fatal(const struct err *err)
{
    return err->kind != ERR_NONE && err->kind != ERR_RETRY && err->kind != ERR_REJECT;
}

/* As many answers as there is room for, all of the size seen lately. */
static size_t reads_at_once(const struct keyed *k, size_t lately)
{
    if (!lately)
        return k->o.room ? 1 : READS_FIRST;
    size_t n = keyed_answers_aim(k) / lately;
    return n < 1 ? 1 : n < READS_IN_FLIGHT ? n : READS_IN_FLIGHT;
}

void keyed_note_page(struct keyed *k, const struct page *page)
{
    k->rows_owed += page->row_count;
}

bool keyed_pay_rows(struct keyed *k, struct err *err)
{
    uint64_t rows = k->rows_owed;

    k->rows_owed = 0;
    return !k->o.limit || limit_read(k->o.limit, rows, err);
}

void keyed_note_answer(size_t *lately, size_t bytes)
{
    if (bytes >= *lately)
        *lately = bytes + 1;
    else
        *lately -= (*lately - bytes) / 16;
}

bool keyed_fits(struct keyed *k, const struct page *page, uint16_t columns, struct err *err)
{
    bool whole = columns == plan_column_count(k->plan);
    const struct columns **fit = whole ? &k->fit_rows : &k->fit_keys;

    if (*fit == page->columns ||
        (page->columns->count == columns && plan_fits(k->plan, page->columns))) {
        *fit = page->columns;
        return true;
    }
    return err_set(err, ERR_USER, "table %s.%s changed; start again",
                   plan_schema(k->plan)->keyspace, plan_schema(k->plan)->table);
}

/* Sends up to reads_at_once() of the reads that are not done, from `*next` on, and takes all of
 * their answers. False: err is fatal. `later` gets an ERR_RETRY. */
static bool read_some(struct keyed *k, struct read *reads, size_t count, size_t *next,
                      read_taker taker, size_t *lately, struct err *later, struct err *err)
{
    cql_ticket tickets[READS_IN_FLIGHT];
    struct read *of[READS_IN_FLIGHT];
    size_t sent = 0, most = reads_at_once(k, *lately);
    struct err fatal = {0};

    for (; *next < count && sent < most; ++*next) {
        struct read *r = &reads[*next];
        struct err why = {0};
        if (r->done)
            continue;
        if (send_read(k, r, &tickets[sent], &why)) {
            of[sent++] = r;
            continue;
        }
        if (why.kind == ERR_REJECT) { /* values that no server would take */
            r->done = taker(k, r, NULL, &why, &fatal);
            if (r->done)
                continue;
        }
        *next = count; /* no more in this pass */
        *(is_fatal(&why) ? &fatal : later) = why;
        break;
    }
    for (size_t i = 0; i < sent; i++) {
        struct page page;
        struct err why = {0};
        if (cql_take(k->session, tickets[i], &page, &why)) {
            keyed_note_answer(lately, page.rows.n);
            keyed_note_page(k, &page);
            if (fatal.kind == ERR_NONE && taker(k, of[i], &page, NULL, &fatal))
                of[i]->done = true;
        } else if (why.kind == ERR_REJECT) {
            of[i]->done = taker(k, of[i], NULL, &why, &fatal);
        } else {
            *(is_fatal(&why) ? &fatal : later) = why;
        }
        cql_release(k->session, tickets[i]);
        if (fatal.kind == ERR_RETRY) { /* an answer with bytes missing: that one again */
            *later = fatal;
            err_clear(&fatal);
        }
    }
    if (fatal.kind == ERR_NONE)
        return true;
    *err = fatal;
    return false;
}

/* All reads are answered, or a fatal err. */
bool keyed_read_all(struct keyed *k, struct read *reads, size_t count, read_taker taker,
                    size_t *lately, struct err *err)
{
    for (;;) {
        struct err later = {0};
        size_t done = 0;
        for (size_t next = 0; next < count;)
            if (!read_some(k, reads, count, &next, taker, lately, &later, err))
                return false;
        for (size_t i = 0; i < count; i++)
            done += reads[i].done;
        if (done == count)
            return true;
        ensure(later.kind == ERR_RETRY);
        *err = later;
        if (!keyed_wait(k, "read_retry", 0, err))
            return false;
    }
}

struct cql_pager *keyed_pager_open(struct keyed *k, const struct cql_query *q, struct err *err)
{
    struct cql_pager *pager = NULL;

    do {
        pager = cql_pager_open(k->session, q, err);
    } while (!pager && keyed_wait(k, "read_retry", 0, err));
    return pager;
}

struct scan *keyed_scan_open(struct keyed *k, struct cql_session *session,
                             const struct scan_plan *rows, const struct scan_task *task,
                             uint32_t page_bytes, uint32_t first_rows, struct err *err)
{
    struct scan *scan = NULL;

    do {
        scan = scan_open(session, rows, task, page_bytes, first_rows, 0, err);
    } while (!scan && keyed_wait(k, "read_retry", 0, err));
    return scan;
}
