/*
 * cql/vectors.h - bytes recorded from a real server (test/data/cql-vectors.json), for the tests.
 *
 * One tree for the whole test program; its memory is freed by vectors_end().
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/json.h"

static struct arena vectors_mem;
static const struct json *vectors_root;

static inline int vectors_begin(void **state)
{
    (void)state;
    static char text[1 << 20];
    struct err err = {0};
    FILE *f = fopen(TEST_DATA "/cql-vectors.json", "rb");

    if (!f)
        return -1;
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    arena_init(&vectors_mem, 64 << 20);
    vectors_root = json_parse(slice_of(text, n), &vectors_mem, &err);
    return vectors_root ? 0 : -1;
}

static inline int vectors_end(void **state)
{
    (void)state;
    arena_fini(&vectors_mem);
    return 0;
}

static inline const struct json *vectors_section(const char *name)
{
    const struct json *section = json_get(vectors_root, name);

    assert_non_null(section);
    return section;
}

/* Bytes of hex digits; a null slice for a null. Lives as long as the vectors. */
static inline struct slice unhex(struct slice hex)
{
    if (!hex.p)
        return SLICE_NULL;
    uint8_t *to = arena_alloc(&vectors_mem, hex.n / 2 + 1);
    assert_non_null(to);
    for (size_t i = 0; i + 1 < hex.n; i += 2) {
        char pair[3] = {(char)hex.p[i], (char)hex.p[i + 1], 0};
        to[i / 2] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return slice_of(to, hex.n / 2);
}

static inline struct slice unhex_text(const char *hex)
{
    return unhex(slice_str(hex));
}

static inline struct slice vector_bytes(const struct json *of, const char *key)
{
    return unhex(json_get_string(of, key));
}

static inline int64_t vector_int(const struct json *of, const char *key)
{
    const struct json *v = json_get(of, key);

    assert_non_null(v);
    return strtoll((const char *)v->text.p, NULL, 10);
}

static inline void assert_bytes(struct slice got, struct slice want)
{
    assert_int_equal(got.n, want.n);
    if (want.n)
        assert_memory_equal(got.p, want.p, want.n);
}

/* A C string of a slice, for messages and asserts. */
static inline const char *text_of(struct slice s)
{
    char *text = arena_strndup(&vectors_mem, s.p, s.n);

    assert_non_null(text);
    return text;
}
