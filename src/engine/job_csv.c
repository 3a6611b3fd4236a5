#include "engine/job_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"

enum { CSV_WRITE_BYTES = 64 << 10 };

void csv_add_field(struct buf *b, struct slice s)
{
    bool quote = s.n == 0;

    for (size_t i = 0; i < s.n && !quote; i++)
        quote = s.p[i] == ',' || s.p[i] == '"' || s.p[i] == '\n' || s.p[i] == '\r' ||
                ((i == 0 || i + 1 == s.n) && (s.p[i] == ' ' || s.p[i] == '\t')) ||
                (i == 0 && s.p[i] == '{');
    if (!quote) {
        buf_add_slice(b, s);
        return;
    }
    buf_add_byte(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"')
            buf_add_byte(b, '"');
        buf_add_byte(b, s.p[i]);
    }
    buf_add_byte(b, '"');
}

static void add_string(struct job *j, struct buf *out, struct slice text)
{
    if (j->o.form == JOB_STRINGS && j->o.field_count > 1)
        buf_add_slice(out, text); /* made of CSV fields already */
    else
        csv_add_field(out, text);
}

/* A line per id that reads back: the columns of a key, or the object as it came. */
static bool add_csv_line(struct job *j, struct buf *out, struct arena *mem, struct slice id,
                         struct err *err)
{
    /* Most ids are strings without an escape: there is nothing to parse. */
    bool plain = id.n >= 2 && id.p[0] == '"' && !memchr(id.p, '\\', id.n);
    const struct json *v = plain ? NULL : json_parse(id, mem, err);

    if (!plain && !v)
        return false;
    if (plain) {
        add_string(j, out, slice_of(id.p + 1, id.n - 2));
    } else if (v->kind == JSON_STRING) {
        add_string(j, out, v->text);
    } else {
        uint32_t i = 0;
        bool ours = j->o.form == JOB_OBJECTS && v->count == j->o.field_count;

        json_each (member, v)
            ours =
                ours && member->kind == JSON_STRING && slice_is(member->key, j->o.field_names[i++]);
        if (!ours)
            buf_add_slice(out, id);
        json_each (member, v) {
            if (ours && member != v->first)
                buf_add_byte(out, ',');
            if (ours)
                csv_add_field(out, member->text);
        }
    }
    buf_add_byte(out, '\n');
    return true;
}

static bool write_all(struct job *j, struct slice s, struct err *err)
{
    while (s.n) {
        ssize_t n = write(j->csv_fd, s.p, s.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_SYSTEM, "%s: %s", j->csv_part, strerror(errno));
        s.p += n;
        s.n -= (size_t)n;
    }
    return true;
}

/* Lines that are not written yet, and all that were. */
struct csv_out {
    struct buf lines;
    uint64_t ids; /* of the lines */
    uint64_t written_ids;
    uint64_t blocks;
};

static bool write_lines(struct job *j, struct csv_out *out, struct err *err)
{
    if (!write_all(j, buf_slice(&out->lines), err))
        return false;
    buf_reset(&out->lines);
    out->written_ids += out->ids;
    atomic_fetch_add(&j->done, out->ids);
    out->ids = 0;
    return true;
}

static bool add_csv_block(struct job *j, const struct block *block, struct csv_out *out,
                          struct arena *mem, struct err *err)
{
    struct slice rest = block->body;
    struct slice id;

    while (block_next_id(&rest, &id)) {
        arena_reset(mem);
        if (!add_csv_line(j, &out->lines, mem, id, err))
            return false;
    }
    out->ids += block->ids;
    out->blocks++;
    return out->lines.len < CSV_WRITE_BYTES || write_lines(j, out, err);
}

bool job_write_csv(void *ctx, struct err *err)
{
    struct job *j = ctx;
    AUTO(tx) struct tx *tx = tx_new(j->o.run);
    struct arena mem;
    struct csv_out out = {0};
    bool ok = true;

    arena_init(&mem, 8 << 20);
    buf_init(&out.lines, CSV_WRITE_BYTES + 4 * j->o.max_body_bytes + WRAP_BYTES);
    while (ok) {
        AUTO(block) struct block *block = blocks_take(j->blocks);

        if (!block)
            break;
        ok = add_csv_block(j, block, &out, &mem, err);
    }
    ok = ok && write_lines(j, &out, err);
    /* Once, at the end: nobody goes on with a dry run. */
    tx_count(tx, "accepted", (int64_t)out.written_ids); /* would be sent */
    tx_count(tx, "blocks", (int64_t)out.blocks);
    ok = ok && journal_commit(tx, err);
    buf_fini(&out.lines);
    arena_fini(&mem);
    return ok;
}

static bool csv_err(const char *path, struct err *err)
{
    return err_set(err, ERR_USER, "%s: %s; the dry run writes the ids there", path,
                   strerror(errno));
}

bool job_open_csv(struct job *j, struct err *err)
{
    struct stat st;

    if (stat(j->o.csv_path, &st) == 0 && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return csv_err(j->o.csv_path, err);
    }
    j->csv_part = xsprintf("%s.part", j->o.csv_path);
    j->csv_fd = open(j->csv_part, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (j->csv_fd < 0)
        return csv_err(j->csv_part, err);
    if (flock(j->csv_fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_USER, "%s: another dry run is writing it", j->csv_part);
    return ftruncate(j->csv_fd, 0) == 0 || csv_err(j->csv_part, err);
}

bool job_close_csv(struct job *j, bool whole, struct err *err)
{
    bool ok = !whole || (fsync(j->csv_fd) == 0 && rename(j->csv_part, j->o.csv_path) == 0) ||
              err_set(err, ERR_SYSTEM, "%s: %s", j->o.csv_path, strerror(errno));

    if (!whole || !ok)
        unlink(j->csv_part);
    close(j->csv_fd);
    j->csv_fd = -1;
    return ok;
}
