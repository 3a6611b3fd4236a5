#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sink/elastic_parts.h"

/* ---- _mget -----------------------------------------------------------------------------------
 */

static bool read_found(const struct json *doc, struct slice id, struct elastic_found *out,
                       bool *index_missing_, struct err *err)
{
    const struct json *found = json_get(doc, "found"), *error = json_get(doc, "error");
    struct elastic_problem why;

    if (!slice_eq(json_get_string(doc, "_id"), id))
        return err_set(err, ERR_RETRY, "an _mget answer with another _id at this place");
    if (error) {
        elastic_read_error(error, &why);
        *index_missing_ = !strcmp(why.reason, "index_not_found_exception");
        /* An alias of several indices, no rights: no trying again helps. A shard may come back. */
        bool transient = strstr(why.reason, "shard") || strstr(why.reason, "node_") ||
                         strstr(why.reason, "circuit") || strstr(why.reason, "rejected");
        return err_set(err, transient ? ERR_RETRY : ERR_USER, "_mget: %s: %s", why.reason,
                       why.text);
    }
    if (!found || found->kind != JSON_BOOL)
        return err_set(err, ERR_RETRY, "an _mget answer without \"found\"");
    out->found = found->truth;
    if (!out->found)
        return true;
    if (!json_i64(json_get(doc, "_seq_no"), &out->seq_no) ||
        !json_i64(json_get(doc, "_primary_term"), &out->primary_term))
        return err_set(err, ERR_RETRY, "an _mget answer without _seq_no and _primary_term");
    out->source = json_get(doc, "_source");
    if (out->source && out->source->kind != JSON_OBJECT)
        return err_set(err, ERR_RETRY, "an _mget answer whose _source is no object");
    return true;
}

bool elastic_read_mget(struct slice answer, const struct slice *ids, size_t count,
                       struct arena *mem, struct elastic_found *out, bool *index_missing_,
                       struct err *err)
{
    const struct json *root = json_parse(answer, mem, err);
    const struct json *docs = json_get(root, "docs");
    size_t i = 0;

    *index_missing_ = false;
    if (!root) {
        /* An answer that is cut off may pass; one that is too large, or has a document in it that
         * can't be told, in smaller pieces. */
        bool lasting = strstr(err->text, "too large") || strstr(err->text, "too deep") ||
                       strstr(err->text, "surrogate");
        err->kind = lasting ? ERR_REJECT : ERR_RETRY;
        return err_wrap(err, "_mget answer");
    }
    if (!docs || docs->kind != JSON_ARRAY || docs->count != count)
        return err_set(err, ERR_RETRY, "an _mget answer of %u documents for %zu ids",
                       docs ? docs->count : 0, count);
    memset(out, 0, count * sizeof *out);
    json_each (doc, docs) {
        if (!read_found(doc, ids[i], &out[i], index_missing_, err))
            return false;
        i++;
    }
    return true;
}

/* ---- one item of a _bulk -----------------------------------------------------------------------
 */

static const char *const op_names[] = {
    [ELASTIC_INDEX] = "index", [ELASTIC_CREATE] = "create", [ELASTIC_DELETE] = "delete"};

/* What an answer says of one item. */
struct said {
    struct slice id;
    int64_t status;
    int64_t seq_no, primary_term; /* -1: not said */
    struct slice type, reason;    /* of an error; null: not said */
};

/* "…version conflict, current version [5] is higher than the one provided [3]": behind the id,
 * which may hold anything, so the text is read from its end. Of the other kinds of conflict
 * (seqNo, a create) no version is told. */
int64_t elastic_version_there(struct slice reason)
{
    static const char before[] = "version conflict, current version [";
    static const char *const behind[] = {"] is higher than the one provided [",
                                         "] is higher or equal to the one provided ["};
    size_t end = reason.n;
    int64_t there, provided;

    if (!end || reason.p[end - 1] != ']')
        return -1;
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++) {
        size_t n = strlen(behind[i]), at = end - 1;
        while (at && reason.p[at - 1] >= '0' && reason.p[at - 1] <= '9')
            at--;
        if (at < n || memcmp(reason.p + at - n, behind[i], n) != 0 ||
            !text_to_i64(slice_of(reason.p + at, end - 1 - at), 0, INT64_MAX, &provided))
            continue;
        size_t digits_end = at - n;
        for (at = digits_end; at && reason.p[at - 1] >= '0' && reason.p[at - 1] <= '9';)
            at--;
        n = sizeof before - 1;
        if (at >= n && memcmp(reason.p + at - n, before, n) == 0 &&
            text_to_i64(slice_of(reason.p + at, digits_end - at), 0, INT64_MAX, &there))
            return there;
    }
    return -1;
}

static bool type_has(const struct said *s, const char *word)
{
    return s->type.n && memmem(s->type.p, s->type.n, word, strlen(word));
}

/* What an item's status means; protocols 4.4. */
static enum elastic_verdict classify(enum elastic_op op, const struct said *s)
{
    if (s->status == 200 || s->status == 201)
        return ELASTIC_DONE;
    if (s->status == 404 && op == ELASTIC_DELETE && !s->type.n)
        return ELASTIC_GONE;
    if (s->status == 409)
        return ELASTIC_CONFLICT;
    if (s->status == 429 || s->status >= 500 || (s->status == 403 && type_has(s, "cluster_block")))
        return ELASTIC_LATER;
    return ELASTIC_REJECTED;
}

static const struct elastic_problem *keep_problem(struct elastic_answer *a, const struct said *s)
{
    static const struct elastic_problem too_many = {
        "too_many_errors", "the reasons of this request's failures did not fit into memory"};
    struct elastic_problem *p = arena_alloc(a->problems, sizeof *p);

    if (!p)
        return &too_many;
    elastic_copy_error(s->type, s->reason, p);
    if (!p->reason[0])
        snprintf(p->reason, sizeof p->reason, "status_%" PRId64, s->status);
    return p;
}

/* Not this document's fault: the run must stop. */
static enum err_kind stops(enum elastic_verdict verdict, const struct said *s)
{
    if (verdict != ELASTIC_REJECTED)
        return ERR_NONE;
    if (s->status == 403)
        return ERR_REACH;
    return slice_is(s->type, "index_not_found_exception") ||
                   slice_is(s->type, "index_closed_exception")
               ? ERR_USER
               : ERR_NONE;
}

/* The first thing that is wrong with it; NULL: nothing. */
static const char *item_fault(const struct elastic_answer *a, const struct elastic_item *item,
                              const struct said *s)
{
    bool done = s->status == 200 || s->status == 201;

    if (!a->lean && !slice_eq(s->id, item->id))
        return "a _bulk answer with another action or _id at this place";
    if (s->status < 100 || s->status > 999)
        return "a _bulk answer with an item without status";
    if (done && !a->lean && (s->seq_no < 0 || s->primary_term < 0))
        return "a _bulk answer with a write without _seq_no";
    if (done && s->primary_term < 0)
        return "a _bulk answer with a write without _primary_term";
    return NULL;
}

/* err: set when it stops the run; the item stays open then. */
static void take_item(struct elastic_answer *a, struct elastic_item *item, const struct said *s,
                      struct err *err)
{
    enum elastic_verdict verdict = classify((enum elastic_op)item->op, s);
    enum err_kind stop = stops(verdict, s);

    if (stop != ERR_NONE) {
        struct elastic_problem why;
        elastic_copy_error(s->type, s->reason, &why);
        if (err->kind == ERR_NONE)
            err_set(err, stop, "%s: %s", why.reason, why.text);
        item->verdict = ELASTIC_OPEN;
        return;
    }
    a->pushed_back |= s->status == 429;
    item->verdict = (uint8_t)verdict;
    item->status = (uint16_t)s->status;
    item->created = s->status == 201;
    item->seq_no = verdict == ELASTIC_DONE ? s->seq_no : -1;
    item->primary_term = verdict == ELASTIC_DONE ? s->primary_term : -1;
    item->there = verdict == ELASTIC_CONFLICT ? elastic_version_there(s->reason) : -1;
    item->problem =
        verdict == ELASTIC_LATER || verdict == ELASTIC_REJECTED ? keep_problem(a, s) : NULL;
}

static void forget(struct elastic_answer *a)
{
    for (size_t i = 0; i < a->count; i++)
        a->items[i].verdict = ELASTIC_OPEN;
    a->took_ms = -1;
    a->pushed_back = false;
}

/* ---- the quick reader --------------------------------------------------------------------------
 *
 * Goes through the text once, without a tree. It knows the forms that servers write, with any
 * blanks between the tokens; at anything else it gives up, and the tree decides.
 */

struct scan {
    const uint8_t *p, *end;
    struct elastic_answer *a;
};

static void skip_blanks(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* The byte, with blanks around it. */
static bool skip(struct scan *s, char c)
{
    skip_blanks(s);
    if (s->p == s->end || *s->p != (uint8_t)c)
        return false;
    s->p++;
    skip_blanks(s);
    return true;
}

/* A string of plain ASCII as it stands; *plain false: it holds more than that, and out its token
 * with the quotes. */
static bool scan_string(struct scan *s, struct slice *out, bool *plain)
{
    const uint8_t *p = s->p;

    *plain = true;
    if (p == s->end || *p != '"')
        return false;
    for (p++; p < s->end && *p != '"'; p++) {
        if (*p >= ' ' && *p < 0x7f && *p != '\\')
            continue;
        if (*p < ' ')
            return false;
        *plain = false;
        p += *p == '\\' && p + 1 < s->end; /* what it escapes is no end */
    }
    if (p == s->end)
        return false;
    *out = *plain ? slice_of(s->p + 1, (size_t)(p - s->p) - 1)
                  : slice_of(s->p, (size_t)(p - s->p) + 1);
    s->p = p + 1;
    return true;
}

/* A string, decoded. */
static bool scan_text(struct scan *s, struct slice *out)
{
    struct err ignored = {0};
    bool plain;

    if (out->p || !scan_string(s, out, &plain))
        return false; /* a second time is not for us */
    if (plain)
        return true;
    const struct json *v = json_parse(*out, s->a->mem, &ignored);
    if (!v)
        return false;
    *out = v->text;
    return true;
}

static bool scan_number(struct scan *s, int64_t *out)
{
    const uint8_t *from = s->p;
    int64_t v = 0;

    if (*out >= 0)
        return false;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        v = v * 10 + (*s->p - '0');
    size_t n = (size_t)(s->p - from);
    if (!n || n > 18 || (n > 1 && *from == '0'))
        return false;
    *out = v;
    return true;
}

/* "key": and the blanks behind it. */
static bool scan_key(struct scan *s, struct slice *key)
{
    bool plain;

    return scan_string(s, key, &plain) && plain && skip(s, ':');
}

static bool scan_bool(struct scan *s)
{
    size_t left = (size_t)(s->end - s->p);

    if (left >= 4 && memcmp(s->p, "true", 4) == 0)
        s->p += 4;
    else if (left >= 5 && memcmp(s->p, "false", 5) == 0)
        s->p += 5;
    else
        return false;
    return true;
}

static bool is(struct slice key, const char *text, size_t n)
{
    return key.n == n && memcmp(key.p, text, n) == 0;
}
#define IS(key, text) is(key, text, sizeof text - 1)

static bool scan_error(struct scan *s, struct said *out)
{
    struct slice key;

    if (out->type.p || out->reason.p || !skip(s, '{'))
        return false;
    do {
        if (!scan_key(s, &key) || !(IS(key, "type")     ? scan_text(s, &out->type)
                                    : IS(key, "reason") ? scan_text(s, &out->reason)
                                                        : false))
            return false;
    } while (skip(s, ','));
    return skip(s, '}');
}

static bool scan_item(struct scan *s, struct elastic_item *item, struct err *err)
{
    struct said said = {.status = -1, .seq_no = -1, .primary_term = -1};
    const char *op = op_names[item->op];
    struct slice key, result = SLICE_NULL;

    if (!skip(s, '{') || !scan_key(s, &key) || !is(key, op, strlen(op)) || !skip(s, '{'))
        return false;
    do {
        if (!scan_key(s, &key) || !(IS(key, "status")          ? scan_number(s, &said.status)
                                    : IS(key, "_primary_term") ? scan_number(s, &said.primary_term)
                                    : IS(key, "_id")           ? scan_text(s, &said.id)
                                    : IS(key, "_seq_no")       ? scan_number(s, &said.seq_no)
                                    : IS(key, "result")        ? scan_text(s, &result)
                                    : IS(key, "error")         ? scan_error(s, &said)
                                                               : false))
            return false;
    } while (skip(s, ','));
    if (!skip(s, '}') || item_fault(s->a, item, &said))
        return false;
    take_item(s->a, item, &said, err);
    return skip(s, '}');
}

/* A lean answer says the very same of all documents that were taken. Items behind `i` whose text is
 * that of item i are what that is; the last one of them. */
static size_t scan_same(struct scan *s, size_t i, struct slice text)
{
    const struct elastic_item *like = &s->a->items[i];

    if (!s->a->lean || like->verdict != ELASTIC_DONE)
        return i;
    while (i + 1 < s->a->count && s->a->items[i + 1].op == like->op &&
           (size_t)(s->end - s->p) > text.n && *s->p == ',' &&
           memcmp(s->p + 1, text.p, text.n) == 0) {
        struct elastic_item *item = &s->a->items[++i];

        s->p += 1 + text.n;
        item->verdict = like->verdict;
        item->status = like->status;
        item->created = like->created;
        item->seq_no = like->seq_no;
        item->primary_term = like->primary_term;
        item->there = like->there;
        item->problem = NULL;
    }
    return i;
}

static bool scan_items(struct scan *s, struct err *err)
{
    size_t i = 0;

    if (!skip(s, '['))
        return false;
    do {
        const uint8_t *from = s->p;

        if (i == s->a->count || !scan_item(s, &s->a->items[i], err))
            return false;
        i = scan_same(s, i, slice_of(from, (size_t)(s->p - from))) + 1;
    } while (skip(s, ','));
    return i == s->a->count && skip(s, ']');
}

static bool scan_answer(struct scan *s, struct err *err)
{
    bool errors = false, items = false;
    struct slice key;

    if (!skip(s, '{'))
        return false;
    do {
        if (!scan_key(s, &key))
            return false;
        bool *once = IS(key, "items") ? &items : IS(key, "errors") ? &errors : NULL;
        if (once && *once)
            return false;
        if (!(once == &items    ? scan_items(s, err)
              : once == &errors ? scan_bool(s)
              : IS(key, "took") ? scan_number(s, &s->a->took_ms)
                                : false))
            return false;
        if (once)
            *once = true;
    } while (skip(s, ','));
    return items && skip(s, '}') && s->p == s->end;
}

enum elastic_scan elastic_scan_bulk(struct slice text, struct elastic_answer *a, struct err *err)
{
    struct scan s = {.p = text.p, .end = text.p + text.n, .a = a};

    a->took_ms = -1;
    a->pushed_back = false;
    if (!text.n || !scan_answer(&s, err)) {
        err_clear(err);
        forget(a);
        return ELASTIC_UNSURE;
    }
    return err->kind == ERR_NONE ? ELASTIC_SCANNED : ELASTIC_STOPPED;
}

/* ---- the reader of everything else -------------------------------------------------------------
 */

static bool read_item(const struct json *wrapper, const struct elastic_answer *a,
                      const struct elastic_item *item, struct said *out, struct err *err)
{
    const struct json *v = wrapper->kind == JSON_OBJECT ? wrapper->first : NULL;
    const struct json *error = json_get(v, "error");

    *out = (struct said){.status = -1, .seq_no = -1, .primary_term = -1};
    if (!v || wrapper->count != 1 || !slice_is(v->key, op_names[item->op]))
        return err_set(err, ERR_RETRY, "a _bulk answer with another action or _id at this place");
    out->id = json_get_string(v, "_id");
    json_i64(json_get(v, "status"), &out->status);
    json_i64(json_get(v, "_seq_no"), &out->seq_no);
    json_i64(json_get(v, "_primary_term"), &out->primary_term);
    out->type = json_get_string(error, "type");
    out->reason =
        error && error->kind == JSON_STRING ? error->text : json_get_string(error, "reason");
    const char *fault = item_fault(a, item, out);
    return !fault || err_set(err, ERR_RETRY, "%s", fault);
}

/* All items are looked at before the first verdict is believed. */
bool elastic_parse_bulk(struct slice text, struct elastic_answer *a, struct err *err)
{
    const struct json *root = json_parse(text, a->mem, err);
    const struct json *list = json_get(root, "items");
    struct said said;
    size_t i = 0;

    forget(a);
    if (!root) {
        err->kind = ERR_RETRY;
        return err_wrap(err, "_bulk answer");
    }
    if (!list || list->kind != JSON_ARRAY || list->count != a->count)
        return err_set(err, ERR_RETRY, "a _bulk answer of %u items for %zu actions",
                       list ? list->count : 0, a->count);
    json_each (v, list)
        if (!read_item(v, a, &a->items[i++], &said, err))
            return false;
    i = 0;
    json_each (v, list) {
        struct err none = {0};
        ensure(read_item(v, a, &a->items[i], &said, &none));
        take_item(a, &a->items[i++], &said, err);
    }
    json_i64(json_get(root, "took"), &a->took_ms);
    return err->kind == ERR_NONE;
}

bool elastic_read_bulk(struct slice text, struct elastic_answer *a, struct err *err)
{
    switch (elastic_scan_bulk(text, a, err)) {
    case ELASTIC_SCANNED:
        return true;
    case ELASTIC_STOPPED:
        return false;
    case ELASTIC_UNSURE:
        return elastic_parse_bulk(text, a, err);
    }
    return false;
}
