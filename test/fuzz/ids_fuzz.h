/* One id file of any bytes: every item lies behind the one before it, and reading on from any
 * item's end gives what reading through gave. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/text.h"
#include "source/ids.h"

struct seen {
    uint64_t end;
    uint64_t hash; /* of line, kind and parts */
};

static uint64_t item_hash(const struct id_item *item, bool ok, const struct err *err)
{
    uint64_t h = item->line * 31 + ok;

    for (size_t i = 0; ok && i < item->part_count; i++) {
        ensure(utf8_valid(item->parts[i]));
        h = h * 1000003 + hash_64(item->parts[i]);
    }
    return ok ? h : h * 1000003 + hash_64(slice_str(err->text));
}

/* Up to `most` items from here; compared with `want` when it is given, else stored. */
static size_t read_items(struct ids *s, struct seen *list, size_t most, bool compare)
{
    struct err err = {0};
    struct id_item item;
    uint64_t before = 0;
    size_t n = 0;

    while (n < most) {
        bool ok = ids_next(s, &item, &err);
        if (!ok && err.kind != ERR_REJECT)
            break;
        ensure(item.end >= before && item.end <= ids_file(s)->bytes && item.line >= 1);
        struct seen now = {item.end, item_hash(&item, ok, &err)};
        if (compare)
            ensure(now.end == list[n].end && now.hash == list[n].hash);
        list[n++] = now;
        before = item.end;
    }
    ensure(err.kind == ERR_NONE || err.kind == ERR_REJECT);
    return n;
}

static int fuzz_ids(const uint8_t *data, size_t size, enum ids_form form)
{
    static const char *const names[] = {"userid", "courseid", "batchid"};
    static const char *const columns[] = {NULL, "2", "userid", NULL};
    enum { SEEN_MAX = 4096 };
    static struct seen list[SEEN_MAX];
    char path[64];

    if (size < 1)
        return 0;
    uint8_t pick = *data;
    int fd = memfd_create("ids", MFD_CLOEXEC);
    ensure(fd >= 0 && write(fd, data + 1, size - 1) == (ssize_t)(size - 1));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct ids_options o = {
        .path = path,
        .form = form,
        .header = (enum ids_header)((pick >> 4) % 3),
        .key_names = names,
        .key_count = 1 + (pick & 3) % 3,
    };
    if (o.key_count == 1)
        o.column = columns[(pick >> 2) & 3];
    struct err err = {0};
    struct ids *s = ids_open(&o, &err);
    if (s) {
        size_t n = read_items(s, list, SEEN_MAX, false);
        size_t from = n ? (pick * 7u + size) % n : 0;
        /* items may share an end only when nothing was read between them: go on behind them all */
        while (from + 1 < n && list[from + 1].end == list[from].end)
            from++;
        if (n) {
            ensure(ids_seek(s, list[from].end, &err));
            size_t rest = read_items(s, list + from + 1, SEEN_MAX - from - 1, true);
            ensure(n == SEEN_MAX || rest == n - from - 1);
        }
        ids_close(s);
    } else {
        ensure(err.kind == ERR_USER && err.text[0]);
    }
    close(fd);
    return 0;
}
