#include "serve/calls.h"

#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/text.h"

static const struct {
    char letter;
    const char *word;
} words[] = {
    {'w', "waiting"}, {'i', "indexed"},   {'u', "unchanged"}, {'s', "stale"},
    {'g', "merged"},  {'f', "failed"},    {'m', "missing"},   {'k', "kept"},
    {'x', "deleted"}, {'d', "duplicate"}, {'b', "bad"},       {'r', "refused"},
};
enum { WORDS = sizeof words / sizeof *words };

struct description {
    struct buf *out;
    bool (*room)(void *ctx, size_t bytes);
    void *ctx;
    uint64_t counts[WORDS];
    bool first;
    int64_t ended_us; /* 0: a part waits */
};

static size_t word_of(char letter)
{
    size_t i = 0;

    while (i < WORDS - 1 && words[i].letter != letter)
        i++;
    return i;
}

void calls_add_time(struct buf *out, int64_t us)
{
    time_t s = (time_t)(us / 1000000);
    char text[32];
    struct tm tm;

    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
    buf_printf(out, "\"%s.%03dZ\"", text, (int)(us / 1000 % 1000));
}

/* "20260102-030405-7f3a-17" */
static bool split_id(const char *id, char run[32], uint64_t *no)
{
    const char *last = strrchr(id, '-');
    int64_t number;
    size_t dashes = 0;

    for (const char *p = id; *p; p++)
        dashes += *p == '-';
    if (dashes != 3 || !last || (size_t)(last - id) >= 32 ||
        !text_to_i64(slice_str(last + 1), 1, INT64_MAX, &number))
        return false;
    snprintf(run, 32, "%.*s", (int)(last - id), id);
    *no = (uint64_t)number;
    return true;
}

bool calls_is_id(const char *id)
{
    char run[32];
    uint64_t no;

    return split_id(id, run, &no);
}

static void add_result(struct description *d, const struct json *id, char letter,
                       const struct json *why)
{
    size_t word = word_of(letter);
    struct buf *b = d->out;

    d->counts[word]++;
    buf_add_str(b, d->first ? "{\"id\":" : ",{\"id\":");
    d->first = false;
    json_write(b, id);
    buf_printf(b, ",\"outcome\":\"%s\"", words[word].word);
    if (why) {
        buf_add_str(b, ",\"reason\":");
        json_write(b, why->first->next);
        buf_add_str(b, ",\"text\":");
        json_write(b, why->first->next->next);
    }
    buf_add_byte(b, '}');
}

static bool is_about(const struct json *why, uint32_t at)
{
    int64_t n;

    return why && why->kind == JSON_ARRAY && why->count == 3 &&
           text_to_i64(why->first->text, 0, UINT32_MAX, &n) && n == at;
}

static bool add_part(struct description *d, const struct run_part *part, bool with_type,
                     struct err *err)
{
    struct arena mem;
    uint32_t at = 0;

    arena_init(&mem, 64 * part->body.n + (1 << 20));
    const struct json *tree = json_parse(part->body, &mem, err);
    const struct json *ids = json_get(tree, "objectIds");
    const struct json *whys = json_get(tree, "why");
    const struct json *why = whys ? whys->first : NULL;
    struct slice letters = json_get_string(tree, "outcomes");
    bool waits = part->at_us == 0;
    bool ok = ids && (waits || letters.n == ids->count);

    if (ok && with_type) {
        buf_add_str(d->out, ",\"objectType\":");
        json_add_string(d->out, json_get_string(tree, "objectType"));
        buf_add_str(d->out, ",\"results\":[");
    }
    for (const struct json *id = ok ? ids->first : NULL; id; id = id->next, at++) {
        bool said = is_about(why, at);
        add_result(d, id, waits ? 'w' : (char)letters.p[at], said ? why : NULL);
        why = said ? why->next : why;
    }
    arena_fini(&mem);
    return ok || err_set(err, ERR_SYSTEM, "the journal's outcome of a call is damaged");
}

static bool add_parts(struct journal *j, const char *run, const struct run_call *call,
                      struct description *d, bool *found, struct err *err)
{
    for (uint32_t i = 0; *found && i < call->parts; i++) {
        struct run_part part;
        if (!journal_part(j, run, call->no + i, &part, found, err))
            return false;
        if (!*found)
            break;
        bool ok = add_part(d, &part, i == 0, err);
        if (part.at_us == 0 || d->ended_us == 0)
            d->ended_us = i == 0 ? part.at_us : 0;
        else if (part.at_us > d->ended_us)
            d->ended_us = part.at_us;
        run_part_fini(&part);
        if (!ok)
            return false;
        if (!d->room(d->ctx, d->out->cap))
            return err_set(err, ERR_RETRY, "no room for the answer");
    }
    return true;
}

bool calls_describe(struct journal *j, const char *id, bool (*room)(void *ctx, size_t bytes),
                    void *ctx, struct buf *out, bool *found, struct err *err)
{
    struct description d = {.out = out, .room = room, .ctx = ctx, .first = true};
    struct run_call call = {0};
    char run[32];
    uint64_t no;

    *found = split_id(id, run, &no);
    if (!*found || !journal_call(j, run, no, &call, found, err) || !*found)
        return err->kind == ERR_NONE;
    buf_printf(out, "{\"run\":\"%s\",\"ids\":%u,\"acceptedAt\":", id, call.ids);
    calls_add_time(out, call.at_us);
    if (!add_parts(j, run, &call, &d, found, err) || !*found)
        return err->kind == ERR_NONE;
    buf_printf(out, "],\"state\":\"%s\",\"endedAt\":", d.ended_us ? "done" : "waiting");
    if (d.ended_us)
        calls_add_time(out, d.ended_us);
    else
        buf_add_str(out, "null");
    buf_add_str(out, ",\"counts\":{");
    for (size_t i = 0; i < WORDS; i++)
        buf_printf(out, "%s\"%s\":%llu", i ? "," : "", words[i].word,
                   (unsigned long long)d.counts[i]);
    buf_add_str(out, "}}");
    return true;
}
