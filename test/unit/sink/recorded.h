/* Answers of real servers, from test/data/search; see tools/servers/record.py. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"

static const char *const recorded_servers[] = {"elasticsearch-6.8.23",  "elasticsearch-7.10.2",
                                               "elasticsearch-7.17.28", "elasticsearch-8.19.0",
                                               "opensearch-2.19.1",     "opensearch-3.1.0"};
enum { RECORDED_SERVERS = sizeof recorded_servers / sizeof *recorded_servers };

/* Of one server: {NAME: {"request", "status", "headers", "body"}}. */
static const struct json *recorded_load(const char *server, struct arena *mem)
{
    AUTO_STR char *path = xsprintf("%s/search/%s.json", TEST_DATA, server);
    struct err err = {0};
    FILE *f = fopen(path, "rb");
    struct buf text;

    ensure(f);
    buf_init(&text, 16 << 20);
    for (size_t n = 1; n; text.len += n)
        n = fread(buf_room(&text, 1 << 16), 1, 1 << 16, f);
    fclose(f);
    const struct json *root = json_parse(buf_slice(&text), mem, &err);
    ensure(root);
    buf_fini(&text);
    return json_get(root, "answers");
}

static inline int recorded_status(const struct json *answer)
{
    return atoi((const char *)json_get(answer, "status")->text.p);
}
