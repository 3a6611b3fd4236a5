#include "source/ids.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "source/ids_read.h"

enum { POLL_MS = 100, TREE_MAX_BYTES = 16 << 20 };

static bool was_changed(const struct ids *s, struct err *err)
{
    return err_set(err, ERR_USER,
                   "id file %s was changed while it was read; run again with --fresh",
                   s->file.path);
}

static bool copy_input(int from, int to, const char *to_path, struct ids *s, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = from, .events = POLLIN};

        if (cancel_level(s->cancel) >= 1)
            return err_set(err, ERR_CANCEL, "stopped while standard input was read");
        if (poll(&p, 1, POLL_MS) == 0)
            continue;
        ssize_t n = read(from, s->win, WINDOW_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "id file %s: %m", s->file.path);
        if (n == 0)
            return true;
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, s->win + done, (size_t)(n - done));
            if (w < 0 && errno == EINTR)
                continue;
            if (w <= 0)
                return err_set(err, ERR_SYSTEM, "%s: %m", to_path);
            done += w;
        }
    }
}

/* Complete, or not there. */
static bool spool(struct ids *s, int from, const char *spool_path, struct err *err)
{
    AUTO_STR char *part = xsprintf("%s.part", spool_path);
    int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (to < 0)
        return err_set(err, ERR_SYSTEM, "%s: %m", part);
    bool ok = copy_input(from, to, part, s, err);
    if (ok && fsync(to) != 0)
        ok = err_set(err, ERR_SYSTEM, "%s: %m", part);
    if (close(to) != 0 && ok)
        ok = err_set(err, ERR_SYSTEM, "%s: %m", part);
    if (ok && rename(part, spool_path) != 0)
        ok = err_set(err, ERR_SYSTEM, "%s: %m", spool_path);
    if (!ok)
        unlink(part);
    return ok;
}

static int open_path(const struct ids *s, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        bool theirs = errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != EIO;
        err_set(err, theirs ? ERR_USER : ERR_SYSTEM, "id file %s: %m", s->file.path);
    }
    return fd;
}

/* A file that can be read twice, or -1. */
static int open_twice(struct ids *s, const struct ids_options *o, struct err *err)
{
    bool input = strcmp(o->path, "-") == 0;
    bool ok = false;
    struct stat st;

    if (o->spooled && o->spool_path)
        return open_path(s, o->spool_path, err);
    int fd = input ? STDIN_FILENO : open_path(s, o->path, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0)
        err_set(err, ERR_SYSTEM, "id file %s: %m", o->path);
    else if (S_ISREG(st.st_mode) && !input)
        return fd;
    else if (S_ISDIR(st.st_mode))
        err_set(err, ERR_USER, "id file %s: it is a folder", o->path);
    else if (!o->spool_path)
        err_set(err, ERR_USER, "id file %s: it can't be read twice%s", o->path,
                input ? "" : "; give it as standard input, with - as id file");
    else
        ok = spool(s, fd, o->spool_path, err);
    if (!input)
        close(fd);
    return ok ? open_path(s, o->spool_path, err) : -1;
}

static bool open_file(struct ids *s, const struct ids_options *o, struct err *err)
{
    struct stat st;

    s->fd = open_twice(s, o, err);
    if (s->fd < 0)
        return false;
    if (fstat(s->fd, &st) != 0)
        return err_set(err, ERR_SYSTEM, "id file %s: %m", o->path);
    s->file.bytes = (uint64_t)st.st_size;
    s->changed_at = st.st_mtim;
    posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return true;
}

static bool hash_file(struct ids *s, struct err *err)
{
    struct sha256 *h = sha256_new();
    bool ok = true;
    uint8_t last = '\n';

    ids_go_to(s, 0, 1);
    while (ok && ids_offset(s) < s->file.bytes) {
        if (cancel_level(s->cancel) >= 1)
            ok = err_set(err, ERR_CANCEL, "stopped while the id file was read");
        else
            ok = ids_fill(s, err);
        struct slice r = ids_rest(s);
        if (!ok || !r.n)
            continue;
        sha256_add(h, r);
        s->file.count += count_lines(r);
        last = r.p[r.n - 1];
        ids_pass(s, r.n);
    }
    s->file.count += last != '\n';
    sha256_end_hex(h, s->file.sha256);
    sha256_free(h);
    return ok;
}

/* Files that people have at hand and that are no list of ids. */
static bool refuse_kind(const struct ids *s, struct slice start, struct err *err)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } kinds[] = {
        {"\x1f\x8b", 2, "it is compressed: zcat it, and give the ids as -"},
        {"\x28\xb5\x2f\xfd", 4, "it is compressed: zstdcat it, and give the ids as -"},
        {"PK\x03\x04", 4, "it is a spreadsheet or zip archive: save it as CSV"},
        {"\xff\xfe", 2, "it is UTF-16: save it as UTF-8"},
        {"\xfe\xff", 2, "it is UTF-16: save it as UTF-8"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (start.n >= kinds[i].n && memcmp(start.p, kinds[i].bytes, kinds[i].n) == 0)
            return err_set(err, ERR_USER, "id file %s: %s", s->file.path, kinds[i].what);
    }
    if (memchr(start.p, 0, start.n < 4 ? start.n : 4))
        return err_set(err, ERR_USER, "id file %s: it is not text", s->file.path);
    return true;
}

static bool has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path);
    size_t m = strlen(ending);

    return n > m && strcasecmp(path + n - m, ending) == 0;
}

/* Lines that are all quoted strings: JSON when one of them has a backslash and none a doubled quote
 * or a comma behind a quote. */
static bool quoted_json(struct slice text)
{
    bool backslash = false;

    for (size_t i = 0; i + 1 < text.n; i++) {
        if (text.p[i] == '\\') {
            backslash = true;
            i++;
        } else if (text.p[i] == '"' && (text.p[i + 1] == '"' || text.p[i + 1] == ',')) {
            return false;
        }
    }
    return backslash;
}

static enum ids_form find_form(const struct ids *s, struct slice start)
{
    struct slice text = text_trim(start);

    if (ids_log_label(text, "Request No"))
        return IDS_LOG;
    if (!text.n)
        return IDS_CSV;
    if (has_ending(s->file.path, ".json") || has_ending(s->file.path, ".jsonl") ||
        has_ending(s->file.path, ".ndjson") || text.p[0] == '{')
        return IDS_JSON;
    return text.p[0] == '"' && quoted_json(text) ? IDS_JSON : IDS_CSV;
}

/* " id\n------\n  u1": the second line is made of dashes and plus signs alone. */
static bool cqlsh_table(struct slice text)
{
    const uint8_t *line = text.n ? memchr(text.p, '\n', text.n) : NULL;
    size_t dashes = 0;
    size_t i = line ? (size_t)(line + 1 - text.p) : text.n;

    for (; i < text.n && (text.p[i] == '-' || text.p[i] == '+'); i++)
        dashes++;
    return dashes >= 3 && i < text.n && (text.p[i] == '\n' || text.p[i] == '\r');
}

/* The value of the first "objectType" in a log; null when there is none near its start. */
static struct slice log_object_type(struct slice log)
{
    static const char name[] = "\"objectType\":\"";
    const uint8_t *at = log.n ? memmem(log.p, log.n, name, sizeof name - 1) : NULL;

    if (!at)
        return SLICE_NULL;
    at += sizeof name - 1;
    size_t rest = log.n - (size_t)(at - log.p);
    const uint8_t *end = memchr(at, '"', rest);
    return end ? slice_of(at, (size_t)(end - at)) : SLICE_NULL;
}

static bool check_start(const struct ids *s, struct slice text, const char *object_type,
                        struct err *err)
{
    if (s->file.form == IDS_LOG) {
        struct slice type = log_object_type(text);

        if (!object_type || !type.p || slice_is(type, object_type))
            return true;
        return err_set(err, ERR_USER, "id file %s: it is a log of object type %.*s, not %s",
                       s->file.path, type.n < 60 ? (int)type.n : 60, (const char *)type.p,
                       object_type);
    }
    if (text.n && text.p[0] == '[')
        return err_set(err, ERR_USER,
                       "id file %s: it begins with \"[\"; one JSON value a line is wanted, not one "
                       "array (jq -c '.[]' makes it so)",
                       s->file.path);
    if (s->file.form == IDS_CSV && cqlsh_table(text))
        return err_set(
            err, ERR_USER,
            "id file %s: it is a table as cqlsh prints it; make a file of ids by cqlsh's "
            "COPY ... TO, or leave its lines and blanks out",
            s->file.path);
    return true;
}

static bool start(struct ids *s, const struct ids_options *o, struct err *err)
{
    uint64_t at = 0;

    ids_go_to(s, 0, 1);
    if (!ids_fill(s, err) || !refuse_kind(s, ids_rest(s), err))
        return false;
    struct slice r = ids_rest(s);
    if (r.n >= 3 && memcmp(r.p, "\xef\xbb\xbf", 3) == 0)
        at = 3;
    ids_pass(s, (size_t)at);
    r = text_trim(ids_rest(s));
    s->file.form = o->form == IDS_AUTO ? find_form(s, r) : o->form;
    s->first_at = at;
    s->first_line = 1;
    if (!check_start(s, r, o->object_type, err))
        return false;
    return s->file.form != IDS_CSV || ids_csv_start(s, err);
}

/* There is something in it, if only a bad line. A log is counted, for its lines say little. */
static bool look_through(struct ids *s, struct err *err)
{
    struct id_item item;
    uint64_t n = 0;
    bool more = true;

    while (more && (n == 0 || s->file.form == IDS_LOG)) {
        more = ids_next(s, &item, err) || err->kind == ERR_REJECT;
        n += more;
        if (cancel_level(s->cancel) >= 1)
            return err_set(err, ERR_CANCEL, "stopped while the id file was read");
    }
    if (!more && err->kind != ERR_NONE)
        return false;
    err_clear(err);
    if (!n)
        return err_set(err, ERR_USER, "id file %s: it holds no ids", s->file.path);
    if (s->file.form == IDS_LOG)
        s->file.count = n;
    ids_go_to(s, s->first_at, s->first_line);
    return true;
}

struct ids *ids_open(const struct ids_options *o, struct err *err)
{
    ensure(o->key_count >= 1 && o->key_count <= IDS_KEY_MAX);
    ensure(!o->column || o->key_count == 1);
    struct ids *s = xalloc(sizeof *s);

    *s = (struct ids){
        .file.path = o->path,
        .fd = -1,
        .cancel = o->cancel,
        .header = o->header,
        .key_names = o->key_names,
        .key_count = o->key_count,
        .column = o->column,
        .win = xalloc(WINDOW_BYTES),
        .fields = xalloc(FIELDS_MAX * sizeof(struct slice)),
        .quoted = xalloc(FIELDS_MAX),
    };
    buf_init(&s->unquoted, IDS_ITEM_MAX_BYTES);
    buf_room(&s->unquoted, IDS_ITEM_MAX_BYTES); /* all of it now: fields point into it */
    buf_init(&s->json, 8 * IDS_ITEM_MAX_BYTES);
    arena_init(&s->mem, TREE_MAX_BYTES);
    if (!open_file(s, o, err) || !hash_file(s, err) || !start(s, o, err) || !look_through(s, err)) {
        ids_close(s);
        return NULL;
    }
    return s;
}

void ids_close(struct ids *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    arena_fini(&s->mem);
    buf_fini(&s->json);
    buf_fini(&s->unquoted);
    free(s->win);
    free(s->fields);
    free(s->quoted);
    free(s);
}

const struct ids_file *ids_file(const struct ids *s)
{
    return &s->file;
}

/* ---- reading ---- */

static bool still_same(struct ids *s, struct err *err)
{
    struct stat st;

    if (fstat(s->fd, &st) != 0)
        return err_set(err, ERR_SYSTEM, "id file %s: %m", s->file.path);
    if ((uint64_t)st.st_size != s->file.bytes || st.st_mtim.tv_sec != s->changed_at.tv_sec ||
        st.st_mtim.tv_nsec != s->changed_at.tv_nsec)
        return was_changed(s, err);
    return true;
}

bool ids_next(struct ids *s, struct id_item *out, struct err *err)
{
    for (;;) {
        err_clear(err);
        *out = (struct id_item){0};
        bool ok = s->file.form == IDS_CSV    ? ids_csv_next(s, out, err)
                  : s->file.form == IDS_JSON ? ids_json_next(s, out, err)
                                             : ids_log_next(s, out, err);
        if (!ok && err->kind == ERR_NONE) {
            still_same(s, err);
            return false;
        }
        if ((ok || err->kind == ERR_REJECT) && out->end <= s->skip_to)
            continue;
        return ok;
    }
}

/* Counts the lines in front of `end`, and finds where the last one of them starts. */
static bool line_at(struct ids *s, uint64_t end, uint64_t *line, uint64_t *start, struct err *err)
{
    *line = 1;
    *start = 0;
    for (uint64_t at = 0; at < end;) {
        ids_go_to(s, at, 1);
        if (!ids_fill(s, err))
            return false;
        struct slice r = ids_rest(s);
        if (r.n > end - at)
            r.n = (size_t)(end - at);
        const uint8_t *last = memrchr(r.p, '\n', r.n);
        if (last)
            *start = at + (uint64_t)(last + 1 - r.p);
        *line += count_lines(r);
        at += r.n;
    }
    return true;
}

bool ids_seek(struct ids *s, uint64_t end, struct err *err)
{
    uint64_t line;
    uint64_t start;

    s->skip_to = 0;
    if (end > s->file.bytes)
        return was_changed(s, err);
    if (end <= s->first_at || s->file.form == IDS_LOG) {
        ids_go_to(s, s->first_at, s->first_line);
        s->skip_to = end; /* an item's end is within a request: its start is needed */
        return true;
    }
    if (!line_at(s, end, &line, &start, err))
        return false;
    bool within_line = s->file.form == IDS_JSON && start != end && end < s->file.bytes;
    ids_go_to(s, within_line ? start : end, line);
    s->skip_to = end;
    return true;
}

/* ---- what the forms share ---- */

uint64_t count_lines(struct slice s)
{
    uint64_t n = 0;

    /* As many at a time as a byte can count: so the compiler makes vectors of it. */
    while (s.n) {
        size_t some = s.n < 255 ? s.n : 255;
        uint8_t in_some = 0;

        for (size_t i = 0; i < some; i++)
            in_some = (uint8_t)(in_some + (s.p[i] == '\n'));
        n += in_some;
        s = slice_of(s.p + some, s.n - some);
    }
    return n;
}

/* Sees to it that a whole item lies in the window, or the file's end. False: err. */
bool ids_fill(struct ids *s, struct err *err)
{
    size_t have = s->win_to - s->win_from;

    if (have > IDS_ITEM_MAX_BYTES || s->win_at + s->win_to >= s->file.bytes)
        return true;
    memmove(s->win, s->win + s->win_from, have);
    s->win_at += s->win_from;
    s->win_from = 0;
    s->win_to = have;
    while (s->win_to < WINDOW_BYTES && s->win_at + s->win_to < s->file.bytes) {
        uint64_t left = s->file.bytes - s->win_at - s->win_to;
        size_t room = WINDOW_BYTES - s->win_to;
        ssize_t n = pread(s->fd, s->win + s->win_to, left < room ? (size_t)left : room,
                          (off_t)(s->win_at + s->win_to));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "id file %s: %m", s->file.path);
        if (n == 0)
            return was_changed(s, err);
        s->win_to += (size_t)n;
    }
    return true;
}

/* Up to and with the line end, however far it is. */
bool ids_pass_line(struct ids *s, struct err *err)
{
    for (;;) {
        if (!ids_fill(s, err))
            return false;
        struct slice r = ids_rest(s);
        const uint8_t *end = r.n ? memchr(r.p, '\n', r.n) : NULL;
        ids_pass(s, end ? (size_t)(end + 1 - r.p) : r.n);
        if (end)
            s->line++;
        if (end || !r.n)
            return true;
    }
}

void ids_go_to(struct ids *s, uint64_t at, uint64_t line)
{
    s->win_at = at;
    s->win_from = s->win_to = 0;
    s->line = line;
    s->more = NULL;
    s->place = LOG_OUTSIDE;
}

bool ids_bad(struct ids *s, struct id_item *out, uint64_t line, struct slice raw, const char *what,
             struct err *err)
{
    raw = text_trim(raw);
    if (raw.n > RAW_BYTES)
        raw.n = RAW_BYTES;
    *out = (struct id_item){.raw = raw, .line = line, .end = ids_offset(s)};
    return err_set(err, ERR_REJECT, "line %" PRIu64 ": %s", line, what);
}

bool ids_ready(struct ids *s, struct id_item *out, uint64_t line, uint64_t end, struct slice json)
{
    *out = (struct id_item){
        .parts = s->parts,
        .part_count = s->key_count,
        .json = json,
        .end = end,
        .line = line,
    };
    return true;
}

static bool name_step(struct slice *s, char *c)
{
    struct slice one;

    while (slice_take(s, 1, &one)) {
        if (*one.p == '_' || *one.p == '-' || *one.p == ' ')
            continue;
        *c = (char)tolower(*one.p);
        return true;
    }
    return false;
}

/* Without regard to case, "_", "-" and blanks. */
bool ids_same_name(struct slice a, struct slice b)
{
    char x = 0;
    char y = 0;

    for (;;) {
        bool more_a = name_step(&a, &x);
        bool more_b = name_step(&b, &y);
        if (more_a != more_b)
            return false;
        if (!more_a)
            return true;
        if (x != y)
            return false;
    }
}
