#include "mapping/timeform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

enum {
    DAY_S = 86400,
    ZONE_MAX_BYTES = 1 << 20,
    PATTERN_MAX = 200,
};

enum piece { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, MILLI, OFFSET, OFFSET_ISO, LITERAL };

struct item {
    enum piece what;
    uint8_t c; /* LITERAL */
};

/* A change of the zone's rules for ever after, once a year: Mm.w.d/time of POSIX TZ. */
struct rule {
    int month, week, day;
    int64_t at_s;
};

/* A time zone: RFC 8536. */
struct zone {
    size_t count;
    int64_t *from_s;   /* ascending */
    int32_t *offset_s; /* since then */
    int32_t first_s;   /* before the first */
    /* After the last. */
    bool has_tail, has_summer;
    int32_t tail_s, summer_s;
    struct rule begin, end;
};

struct timeform {
    bool number;
    struct item items[PATTERN_MAX];
    size_t count;
    struct zone zone;
};

/* ---- calendar ----------------------------------------------------------------------------------
 */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar. */
static int64_t days_of(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = floor_div(y, 400);
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void civil_of(int64_t days, int64_t *y, int *m, int *d)
{
    days += 719468;
    int64_t era = floor_div(days, 146097);
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    *d = (int)(of_year - (153 * month + 2) / 5 + 1);
    *m = (int)(month + (month < 10 ? 3 : -9));
    *y = year + era * 400 + (*m <= 2);
}

/* ---- zones -------------------------------------------------------------------------------------
 */

static bool take_number(const char **at, int *out)
{
    char *end;
    long n = strtol(*at, &end, 10);

    if (end == *at || n < -1000 || n > 1000)
        return false;
    *at = end;
    *out = (int)n;
    return true;
}

/* [+-]hh[:mm[:ss]] */
static bool take_time(const char **at, int64_t *out_s)
{
    int sign = **at == '-' ? -1 : 1, part[3] = {0};

    if (**at == '-' || **at == '+')
        ++*at;
    for (int i = 0; i < 3; i++) {
        if (!take_number(at, &part[i]))
            return false;
        if (**at != ':')
            break;
        ++*at;
    }
    *out_s = sign * (part[0] * 3600 + part[1] * 60 + part[2]);
    return true;
}

static bool skip_name(const char **at)
{
    const char *from = *at;

    if (**at == '<') {
        *at = strchr(*at, '>');
        if (!*at)
            return false;
        ++*at;
        return true;
    }
    while ((**at | 0x20) >= 'a' && (**at | 0x20) <= 'z')
        ++*at;
    return *at > from;
}

static bool take_dot(const char **at)
{
    bool dot = **at == '.';

    *at += dot;
    return dot;
}

static bool take_rule(const char **at, struct rule *out)
{
    out->at_s = 2 * 3600;
    if (**at != ',' || (*at)[1] != 'M')
        return false;
    *at += 2;
    if (!take_number(at, &out->month) || !take_dot(at) || !take_number(at, &out->week) ||
        !take_dot(at) || !take_number(at, &out->day))
        return false;
    if (**at != '/')
        return true;
    ++*at;
    return take_time(at, &out->at_s);
}

/* What holds after the last change: a POSIX TZ text. Rules of other forms are not in use. */
static void read_tail(struct zone *z, const char *at)
{
    int64_t west, summer_west;

    if (!skip_name(&at) || !take_time(&at, &west))
        return;
    z->tail_s = (int32_t)-west;
    z->has_tail = true;
    if (!*at || !skip_name(&at))
        return;
    summer_west = west - 3600;
    if (*at && *at != ',' && !take_time(&at, &summer_west))
        return;
    z->summer_s = (int32_t)-summer_west;
    z->has_summer = take_rule(&at, &z->begin) && take_rule(&at, &z->end);
}

struct header {
    uint32_t isut, isstd, leap, time, type, chars;
};

static bool take_header(struct slice *in, struct header *h)
{
    struct slice magic, rest;
    uint8_t version;

    return slice_take(in, 4, &magic) && slice_is(magic, "TZif") && take_u8(in, &version) &&
           version >= '2' && slice_take(in, 15, &rest) && take_u32(in, &h->isut) &&
           take_u32(in, &h->isstd) && take_u32(in, &h->leap) && take_u32(in, &h->time) &&
           take_u32(in, &h->type) && take_u32(in, &h->chars);
}

static size_t block_bytes(const struct header *h, size_t time_bytes)
{
    return h->time * (time_bytes + 1) + h->type * (size_t)6 + h->chars +
           h->leap * (time_bytes + 4) + h->isstd + h->isut;
}

static bool type_offset(struct slice types, uint8_t index, int32_t *out)
{
    size_t at = (size_t)index * 6;
    struct slice one = slice_of(types.p + at, at + 6 <= types.n ? 6 : 0);

    return take_i32(&one, out);
}

static bool read_zone(struct zone *z, struct slice in)
{
    struct header h;
    struct slice skipped, times, indexes, types;
    uint8_t index;

    if (!take_header(&in, &h) || h.time > ZONE_MAX_BYTES || h.type > 256 ||
        !slice_take(&in, block_bytes(&h, 4), &skipped) || !take_header(&in, &h) ||
        h.time > ZONE_MAX_BYTES || h.type > 256)
        return false;
    size_t rest = block_bytes(&h, 8) - h.time * (size_t)9 - h.type * (size_t)6;
    if (!slice_take(&in, h.time * (size_t)8, &times) || !slice_take(&in, h.time, &indexes) ||
        !slice_take(&in, h.type * (size_t)6, &types) || !slice_take(&in, rest, &skipped) ||
        !type_offset(types, 0, &z->first_s))
        return false;
    z->from_s = xalloc((h.time + 1) * sizeof *z->from_s);
    z->offset_s = xalloc((h.time + 1) * sizeof *z->offset_s);
    for (z->count = 0; z->count < h.time; z->count++)
        if (!take_i64(&times, &z->from_s[z->count]) || !take_u8(&indexes, &index) ||
            !type_offset(types, index, &z->offset_s[z->count]))
            return false;
    if (in.n > 2 && in.p[0] == '\n') {
        AUTO_STR char *tail = xstrndup((const char *)in.p + 1, in.n - 1);
        tail[strcspn(tail, "\n")] = 0;
        read_tail(z, tail);
    }
    return true;
}

static bool is_zone_name(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') && !(*p >= '0' && *p <= '9') &&
            !strchr("/_+-", *p))
            return false;
    return *name && *name != '/';
}

static bool load_zone(struct zone *z, const char *name, struct err *err)
{
    static const char *const dirs[] = {"/usr/share/zoneinfo", "/usr/lib/zoneinfo",
                                       "/usr/share/lib/zoneinfo"};
    FILE *f = NULL;

    if (!strcmp(name, "UTC"))
        return true;
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs && !f && is_zone_name(name); i++) {
        AUTO_STR char *path = xsprintf("%s/%s", dirs[i], name);
        f = fopen(path, "re");
    }
    if (!f)
        return err_set(err, ERR_USER,
                       "unknown time zone \"%.60s\": a name such as Asia/Kolkata is wanted, and "
                       "the system's tzdata",
                       name);
    uint8_t *bytes = xalloc(ZONE_MAX_BYTES);
    size_t n = fread(bytes, 1, ZONE_MAX_BYTES, f);
    fclose(f);
    bool ok = read_zone(z, slice_of(bytes, n));
    free(bytes);
    return ok || err_set(err, ERR_USER, "time zone \"%.60s\" can't be read", name);
}

/* When a rule holds in that year, in seconds since the epoch. */
static int64_t rule_time(const struct rule *r, int64_t year, int32_t offset_s)
{
    int64_t first = days_of(year, r->month, 1);
    int64_t weekday = ((first + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
    int64_t day = first + (r->day - weekday + 7) % 7 + (r->week - 1) * 7;
    int64_t end = r->month == 12 ? days_of(year + 1, 1, 1) : days_of(year, r->month + 1, 1);

    while (day >= end)
        day -= 7;
    return day * DAY_S + r->at_s - offset_s;
}

static int32_t tail_offset(const struct zone *z, int64_t s)
{
    int64_t year;
    int m, d;

    if (!z->has_summer)
        return z->tail_s;
    civil_of(floor_div(s + z->tail_s, DAY_S), &year, &m, &d);
    int64_t begin = rule_time(&z->begin, year, z->tail_s);
    int64_t end = rule_time(&z->end, year, z->summer_s);
    bool summer = begin < end ? s >= begin && s < end : s >= begin || s < end;
    return summer ? z->summer_s : z->tail_s;
}

static int32_t offset_of(const struct zone *z, int64_t s)
{
    size_t low = 0, high = z->count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (z->from_s[mid] <= s)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == z->count && z->has_tail)
        return tail_offset(z, s);
    return low ? z->offset_s[low - 1] : z->first_s;
}

/* ---- patterns ----------------------------------------------------------------------------------
 */

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool read_word(struct timeform *f, const char *at, size_t n, struct err *err)
{
    static const struct {
        const char *word;
        enum piece what;
    } words[] = {{"yyyy", YEAR}, {"MM", MONTH},  {"dd", DAY},   {"HH", HOUR},       {"mm", MINUTE},
                 {"ss", SECOND}, {"SSS", MILLI}, {"Z", OFFSET}, {"XXX", OFFSET_ISO}};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].word) == n && !strncmp(words[i].word, at, n)) {
            f->items[f->count++] = (struct item){.what = words[i].what};
            return true;
        }
    return err_set(err, ERR_USER,
                   "\"%.*s\" of the pattern is not known; allowed: yyyy MM dd HH mm ss SSS Z XXX "
                   "and 'text'",
                   (int)(n > 20 ? 20 : n), at);
}

static bool read_pattern(struct timeform *f, const char *at, struct err *err)
{
    bool quoted = false;

    if (!*at || strlen(at) > PATTERN_MAX)
        return err_set(err, ERR_USER, "a pattern has 1 to %d characters", PATTERN_MAX);
    while (*at) {
        size_t n = 1;
        if (at[0] == '\'' && at[1] == '\'') {
            f->items[f->count++] = (struct item){LITERAL, '\''};
            n = 2;
        } else if (*at == '\'') {
            quoted = !quoted;
        } else if (quoted || !is_letter(*at)) {
            f->items[f->count++] = (struct item){LITERAL, (uint8_t)*at};
        } else {
            while (at[n] == *at)
                n++;
            if (!read_word(f, at, n, err))
                return false;
        }
        at += n;
    }
    return !quoted || err_set(err, ERR_USER, "the pattern has a quote without its pair");
}

struct timeform *timeform_new(const char *pattern, const char *zone, struct err *err)
{
    struct timeform *f = xalloc(sizeof *f);

    f->number = !pattern;
    if (!pattern || (read_pattern(f, pattern, err) && (!zone || load_zone(&f->zone, zone, err))))
        return f;
    timeform_free(f);
    return NULL;
}

void timeform_free(struct timeform *f)
{
    if (!f)
        return;
    free(f->zone.from_s);
    free(f->zone.offset_s);
    free(f);
}

static void add_offset(struct buf *b, int32_t offset_s, bool iso)
{
    int32_t minutes = offset_s / 60, abs = minutes < 0 ? -minutes : minutes;

    if (iso && !minutes) {
        buf_add_byte(b, 'Z');
        return;
    }
    buf_printf(b, iso ? "%c%02d:%02d" : "%c%02d%02d", offset_s < 0 ? '-' : '+', abs / 60, abs % 60);
}

bool timeform_add(const struct timeform *f, int64_t ms, struct buf *out)
{
    char text[PATTERN_MAX * 24];
    struct buf b;
    int64_t year;
    int month, day;

    if (f->number) {
        text_add_i64(out, ms);
        return true;
    }
    int64_t s = floor_div(ms, 1000), milli = ms - s * 1000;
    int32_t offset_s = offset_of(&f->zone, s);
    int64_t days = floor_div(s + offset_s, DAY_S);
    int64_t of_day = s + offset_s - days * DAY_S;
    civil_of(days, &year, &month, &day);
    buf_init(&b, sizeof text);
    for (size_t i = 0; i < f->count; i++) {
        switch (f->items[i].what) {
        case YEAR:
            buf_printf(&b, year > 9999 ? "+%lld" : year < 0 ? "%05lld" : "%04lld", (long long)year);
            break;
        case MONTH:
            buf_printf(&b, "%02d", month);
            break;
        case DAY:
            buf_printf(&b, "%02d", day);
            break;
        case HOUR:
            buf_printf(&b, "%02d", (int)(of_day / 3600));
            break;
        case MINUTE:
            buf_printf(&b, "%02d", (int)(of_day / 60 % 60));
            break;
        case SECOND:
            buf_printf(&b, "%02d", (int)(of_day % 60));
            break;
        case MILLI:
            buf_printf(&b, "%03d", (int)milli);
            break;
        case OFFSET:
        case OFFSET_ISO:
            add_offset(&b, offset_s, f->items[i].what == OFFSET_ISO);
            break;
        case LITERAL:
            buf_add_byte(&b, f->items[i].c);
            break;
        }
    }
    json_add_string(out, buf_slice(&b));
    buf_fini(&b);
    return year >= 0 && year <= 9999;
}
