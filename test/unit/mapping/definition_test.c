#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "mapping/definition.h"
#include "mapping/file.h"

#define META "\"_meta\":{\"cass2es\":{\"versioning\":\"sequence\"}}"

static struct arena mem;

static int set_up(void **state)
{
    (void)state;
    arena_init(&mem, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&mem);
    return 0;
}

static void written(void **state)
{
    static const struct {
        const char *text, *alias, *want;
    } cases[] = {
        {"{\"mappings\": {}}", NULL, "{\"mappings\":{" META "}}"},
        {"{\"settings\": {\"x\": 1.50}, \"mappings\": {\"properties\": {\"a\": {}}}}", NULL,
         "{\"settings\":{\"x\":1.50},\"mappings\":{" META ",\"properties\":{\"a\":{}}}}"},
        {"{\"mappings\": {\"_meta\": {\"by\": \"me\", \"cass2es\": {\"source\": \"k.t\"}}}}", NULL,
         "{\"mappings\":{\"_meta\":{\"cass2es\":{\"versioning\":\"sequence\",\"source\":\"k.t\"},"
         "\"by\":\"me\"}}}"},
        {"{\"mappings\": {" META "}}", NULL, "{\"mappings\":{" META "}}"},
        {"{\"mappings\": {}}", "al\"ias",
         "{\"aliases\":{\"al\\\"ias\":{}},\"mappings\":{" META "}}"},
        {"{\"aliases\": {\"b\": {\"is_hidden\": true}, \"a\": 1}, \"mappings\": {}}", "a",
         "{\"aliases\":{\"b\":{\"is_hidden\":true},\"a\":{}},\"mappings\":{" META "}}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        struct buf out;
        buf_init(&out, 1 << 16);
        bool ok = definition_write(slice_str(cases[i].text),
                                   &(struct definition_wish){"sequence", cases[i].alias}, &mem,
                                   &out, &err);
        assert_string_equal(err.text, "");
        assert_true(ok);
        buf_add_byte(&out, 0);
        assert_string_equal((const char *)out.p, cases[i].want);
        buf_fini(&out);
    }
}

static void refused(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"[]", "is no definition of an index: it has no \"mappings\""},
        {"{\"properties\": {}}", "is no definition of an index: it has no \"mappings\""},
        {"{\"mappings\": []}", "is no definition of an index: it has no \"mappings\""},
        {"{\"mappings\": {}, \"aliases\": [\"a\"]}", "aliases is no object"},
        {"{\"mappings\": {\"_meta\": 1}}", "_meta is no object"},
        {"{\"mappings\": {\"_meta\": {\"cass2es\": {\"versioning\": \"read_time\"}}}}",
         "_meta.cass2es.versioning is not \"sequence\", as in the mapping: take it out, or "
         "change one of them"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        struct buf out;
        buf_init(&out, 1 << 16);
        assert_false(definition_write(slice_str(cases[i].text),
                                      &(struct definition_wish){.versioning = "sequence"}, &mem,
                                      &out, &err));
        assert_int_equal(err.kind, ERR_USER);
        assert_string_equal(err.text, cases[i].why);
        buf_fini(&out);
    }
    struct err err = {0};
    assert_false(definition_write(slice_str("{\"mappings\":"),
                                  &(struct definition_wish){.versioning = "none"}, &mem,
                                  &(struct buf){0}, &err));
    assert_int_equal(err.kind, ERR_USER);
}

static void named_after_the_index(void **state)
{
    struct err err = {0};
    const char *name = "";

    (void)state;
    assert_true(definition_index("/a/b.index.json/userv3.index.json", &mem, &name, &err));
    assert_string_equal(name, "userv3");
    assert_true(definition_index("x.index.json", &mem, &name, &err));
    assert_string_equal(name, "x");
    assert_false(definition_index("/a/.index.json", &mem, &name, &err));
    assert_string_equal(err.text,
                        "/a/.index.json: a definition is named after its index: NAME.index.json");
    assert_false(definition_index("userv3.json", &mem, &name, &err));
    assert_int_equal(err.kind, ERR_USER);
}

/* Each profile that ships loads, and its definition is one that a server can be given. */
static void those_of_the_profiles(void **state)
{
    size_t count = 0;
    glob_t found;

    (void)state;
    assert_int_equal(glob(TEST_DATA "/../../profiles/*/*.yaml", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct err err = {0};
        struct buf text;
        struct buf out;
        if (strstr(found.gl_pathv[i], "/renames.yaml"))
            continue;
        AUTO(mapping) struct mapping *m = mapping_load(found.gl_pathv[i], &err);
        assert_string_equal(err.text, "");
        assert_int_equal(m->versioning, VERSIONING_SEQUENCE);
        FILE *f = fopen(m->definition.name, "re");
        assert_non_null(f);
        buf_init(&text, 1 << 16);
        buf_init(&out, 1 << 16);
        text.len = fread(buf_room(&text, 1 << 15), 1, 1 << 15, f);
        assert_true(text.len < 1 << 15);
        fclose(f);
        assert_true(definition_write(buf_slice(&text), &(struct definition_wish){"sequence", "a"},
                                     &mem, &out, &err));
        const struct json *all = json_parse(buf_slice(&out), &mem, &err);
        assert_true(json_get(json_get(all, "mappings"), "properties")->count > 6);
        buf_fini(&out);
        buf_fini(&text);
        count++;
    }
    globfree(&found);
    assert_true(count >= 19);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(named_after_the_index, set_up, tear_down),
        cmocka_unit_test_setup_teardown(those_of_the_profiles, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
