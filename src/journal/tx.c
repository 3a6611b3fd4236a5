#include <string.h>

#include "base/arena.h"
#include "journal/store.h"

enum op_kind {
    OP_MARK,
    OP_CURSOR,
    OP_CURSOR_END,
    OP_BLOCK,
    OP_BLOCK_END,
    OP_COUNT,
    OP_FAILURE,
    OP_FAILURE_END,
    OP_FAILURE_AGAIN,
    OP_NOTE,
    OP_CALL,
    OP_OUTCOME,
};

/* One change, copied. Which fields count is said by `kind`. */
struct op {
    enum op_kind kind;
    struct op *next;
    struct op *next_sum; /* of those settled that take in later ones */
    const char *name;    /* axis, count, note, reason */
    const char *text;
    const char *object;
    int64_t a;
    int64_t b;
    int64_t c;
    struct slice bytes;
};

struct tx {
    struct run *run;
    struct op *first;
    struct op **last;
    struct op **settled; /* where what is not settled begins */
    struct op *sums;     /* settled marks, cursors and counts */
    struct arena mem;
    uint64_t ended_to; /* of the run's ended blocks: those that its transaction held, too */
};

enum { TX_KEEP_BYTES = 256 << 10 };

struct tx *tx_new(struct run *r)
{
    struct tx *t = xalloc(sizeof *t);

    t->run = r;
    t->last = t->settled = &t->first;
    /* Bounded by what the caller brings: one page's or one block's outcome. */
    arena_init(&t->mem, SIZE_MAX / 2);
    return t;
}

void tx_free(struct tx *t)
{
    if (!t)
        return;
    arena_fini(&t->mem);
    free(t);
}

static void empty(struct tx *t)
{
    /* One large block must not be kept for ever. */
    if (t->mem.taken > TX_KEEP_BYTES)
        arena_fini(&t->mem);
    else
        arena_reset(&t->mem);
    t->first = t->sums = NULL;
    t->last = t->settled = &t->first;
}

void tx_drop(struct tx *t)
{
    *t->settled = NULL;
    t->last = t->settled;
}

static bool same_name(const struct op *a, const struct op *b)
{
    return !strcmp(a->name, b->name);
}

static bool is_cursor(const struct op *op)
{
    return op->kind == OP_CURSOR || op->kind == OP_CURSOR_END;
}

/* Takes `op` into an earlier one, so that the two together say the same. */
static bool take_in(struct op *earlier, const struct op *op)
{
    if (is_cursor(op) && is_cursor(earlier) && earlier->a == op->a && same_name(earlier, op)) {
        struct op *next = earlier->next, *next_sum = earlier->next_sum;
        *earlier = *op;
        earlier->next = next;
        earlier->next_sum = next_sum;
        return true;
    }
    if (earlier->kind != op->kind || is_cursor(op) || !same_name(earlier, op))
        return false;
    if (op->kind == OP_COUNT)
        earlier->a += op->a;
    else if (earlier->a == op->a && earlier->b <= op->b)
        earlier->b = op->b;
    else
        return false;
    return true;
}

void tx_settle(struct tx *t)
{
    struct op *next, *op = *t->settled;

    *t->settled = NULL;
    for (; op; op = next) {
        bool sums = is_cursor(op) || op->kind == OP_COUNT || op->kind == OP_MARK;
        struct op *earlier = sums ? t->sums : NULL;
        next = op->next;
        op->next = NULL;
        while (earlier && !take_in(earlier, op))
            earlier = earlier->next_sum;
        if (earlier)
            continue;
        *t->settled = op;
        t->settled = &op->next;
        if (sums) {
            op->next_sum = t->sums;
            t->sums = op;
        }
    }
    t->last = t->settled;
}

static struct op *add(struct tx *t, enum op_kind kind, const char *name)
{
    struct op *op = arena_zalloc(&t->mem, sizeof *op);

    op->kind = kind;
    op->name = name ? arena_strndup(&t->mem, name, strlen(name)) : NULL;
    *t->last = op;
    t->last = &op->next;
    return op;
}

/* Null stays null; what is empty stays empty. */
static struct slice keep(struct tx *t, struct slice s)
{
    return s.p ? slice_of(arena_strndup(&t->mem, s.p, s.n), s.n) : SLICE_NULL;
}

void tx_mark(struct tx *t, const char *axis, int64_t start, int64_t end)
{
    ensure(start <= end);
    struct op *op = add(t, OP_MARK, axis);
    op->a = start;
    op->b = end;
}

void tx_cursor(struct tx *t, const char *axis, struct interval range, int64_t done_to,
               struct slice state)
{
    struct op *op = add(t, OP_CURSOR, axis);

    op->a = range.start;
    op->b = range.end;
    op->c = done_to;
    op->bytes = keep(t, state);
}

void tx_cursor_end(struct tx *t, const char *axis, int64_t range_start)
{
    add(t, OP_CURSOR_END, axis)->a = range_start;
}

void tx_block(struct tx *t, const struct run_block *b)
{
    ensure(b->no > 0 && b->no <= INT64_MAX);
    struct op *op = add(t, OP_BLOCK, NULL);
    op->a = (int64_t)b->no;
    op->b = b->ids;
    op->c = b->open;
    op->bytes = keep(t, b->body.p ? b->body : slice_str(""));
}

void tx_block_end(struct tx *t, uint64_t no)
{
    add(t, OP_BLOCK_END, NULL)->a = (int64_t)no;
}

void tx_count(struct tx *t, const char *name, int64_t delta)
{
    if (delta)
        add(t, OP_COUNT, name)->a = delta;
}

void tx_failure(struct tx *t, struct slice key, const char *reason, const char *text)
{
    tx_failure_of(t, "", key, reason, text);
}

void tx_failure_of(struct tx *t, const char *object, struct slice key, const char *reason,
                   const char *text)
{
    struct op *op = add(t, OP_FAILURE, reason);

    op->bytes = keep(t, key);
    op->text = arena_strndup(&t->mem, text, strlen(text));
    op->object = arena_strndup(&t->mem, object, strlen(object));
}

void tx_failure_end(struct tx *t, int64_t no)
{
    add(t, OP_FAILURE_END, NULL)->a = no;
}

void tx_failure_again(struct tx *t, int64_t no, const char *reason, const char *text)
{
    struct op *op = add(t, OP_FAILURE_AGAIN, reason);

    op->a = no;
    op->text = arena_strndup(&t->mem, text, strlen(text));
}

void tx_note(struct tx *t, const char *name, const char *value)
{
    struct op *op = add(t, OP_NOTE, name);

    op->text = arena_strndup(&t->mem, value, strlen(value));
}

void tx_call(struct tx *t, const struct run_call *call)
{
    struct op *op = add(t, OP_CALL, NULL);

    op->a = (int64_t)call->no;
    op->b = call->parts;
    op->c = call->ids;
}

void tx_outcome(struct tx *t, uint64_t no, uint32_t ids, struct slice body)
{
    struct op *op = add(t, OP_OUTCOME, NULL);

    op->a = (int64_t)no;
    op->b = ids;
    op->bytes = keep(t, body);
}

/* ---- by the one that leads ---- */

/* The last mark that begins at or before `end`. */
static bool reaching(struct db *db, int64_t run, const char *axis, int64_t end,
                     struct interval *out, bool *found, struct err *err)
{
    sqlite3_stmt *s = db_start(db, SQL_MARK_REACH, err, "iti", run, axis, end);
    bool ok = s && db_next(db, s, found, err);

    if (ok && *found)
        *out = (struct interval){sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1)};
    db_end(s);
    return ok;
}

/* Keeps the table disjoint and not touching, so that it is never larger than the gaps are many:
 * neighbours go, their union comes. */
static bool mark_add(struct db *db, int64_t run, const char *axis, struct interval mark,
                     struct err *err)
{
    struct interval other = {0};
    bool found = false;

    if (mark.start == mark.end)
        return true;
    for (;;) {
        if (!reaching(db, run, axis, mark.end, &other, &found, err))
            return false;
        if (!found || other.end < mark.start)
            break;
        if (other.start <= mark.start && other.end >= mark.end)
            return true; /* there already, whole */
        if (!db_do(db, SQL_MARK_DELETE, err, "iti", run, axis, other.start))
            return false;
        mark.start = other.start < mark.start ? other.start : mark.start;
        mark.end = other.end > mark.end ? other.end : mark.end;
    }
    return db_do(db, SQL_MARK_ADD, err, "itii", run, axis, mark.start, mark.end);
}

bool blocks_sweep(struct db *db, int64_t run, struct err *err)
{
    return db_do(db, SQL_BLOCKS_SWEEP, err, "i", run) && db_do(db, SQL_BLOCKS_SWEPT, err, "i", run);
}

static bool apply_op(struct journal *j, struct db *db, int64_t run, const struct op *op,
                     struct err *err)
{
    switch (op->kind) {
    case OP_MARK:
        return mark_add(db, run, op->name, (struct interval){op->a, op->b}, err);
    case OP_CURSOR:
        return db_do(db, SQL_CURSOR_PUT, err, "itiiib", run, op->name, op->a, op->b, op->c,
                     op->bytes);
    case OP_CURSOR_END:
        return db_do(db, SQL_CURSOR_END, err, "iti", run, op->name, op->a);
    case OP_BLOCK:
        return db_do(db, SQL_BLOCK_PUT, err, "iiiib", run, op->a, op->b, op->c, op->bytes);
    case OP_BLOCK_END:
        return db_do(db, SQL_BLOCK_END, err, "ii", run, op->a);
    case OP_COUNT:
        return db_do(db, SQL_COUNT_ADD, err, "iti", run, op->name, op->a);
    case OP_FAILURE:
        return db_do(db, SQL_FAILURE_ADD, err, "isttit", run, op->bytes, op->name, op->text,
                     clock_wall_us(j->clock), op->object);
    case OP_FAILURE_END:
        return db_do(db, SQL_FAILURE_END, err, "i", op->a);
    case OP_FAILURE_AGAIN:
        return db_do(db, SQL_FAILURE_AGAIN, err, "ttii", op->name, op->text,
                     clock_wall_us(j->clock), op->a);
    case OP_NOTE:
        return db_do(db, SQL_NOTE_PUT, err, "itt", run, op->name, op->text);
    case OP_CALL:
        return db_do(db, SQL_CALL_ADD, err, "iiiii", run, op->a, op->b, op->c,
                     clock_wall_us(j->clock)) &&
               db_do(db, SQL_CALL_NAMED, err, "ii", run, op->a + op->b - 1);
    case OP_OUTCOME:
        return db_do(db, SQL_OUTCOME_ADD, err, "iiiib", run, op->a, op->b, clock_wall_us(j->clock),
                     op->bytes);
    }
    ensure(false);
    return false;
}

static bool apply(struct journal *j, struct db *db, void *ctx, struct err *err)
{
    struct tx *t = ctx;
    bool swept = false;

    /* Before blocks come, for the same reason as below. */
    if (!ended_apply(t->run, db, &t->ended_to, err))
        return false;
    for (const struct op *op = t->first; op; op = op->next) {
        /* Before blocks come: they get the room, and perhaps the numbers, of those that ended. */
        if (op->kind == OP_BLOCK && !swept && !blocks_sweep(db, t->run->no, err))
            return false;
        swept = op->kind != OP_BLOCK_END && (swept || op->kind == OP_BLOCK);
        if (!apply_op(j, db, t->run->no, op, err))
            return false;
    }
    return true;
}

static bool commit(struct tx *t, bool soon, struct err *err)
{
    struct journal *j = t->run->journal;

    if (t->first) {
        if (!(soon ? journal_do_soon : journal_do)(j, apply, t, err))
            return false;
        ended_release(&t->run->ended, t->ended_to);
        atomic_store(&t->run->ended_ms, clock_mono_ms(j->clock));
    }
    empty(t);
    return true;
}

bool journal_commit(struct tx *t, struct err *err)
{
    return commit(t, false, err);
}

bool journal_commit_soon(struct tx *t, struct err *err)
{
    return commit(t, true, err);
}
