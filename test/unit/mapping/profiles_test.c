/*
 * Where each shipped profile reads, and what it writes: a wrong alias, keyspace or key is data in
 * the wrong place. Facts about Sunbird's tables and indices, not read from the profiles.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glob.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "mapping/file.h"

#define PROFILES TEST_DATA "/../../profiles/"

struct facts {
    const char *object, *source, *key, *select, *index, *id, *definition;
};

/* clang-format off */
static const struct facts
    user         = {"user", "sunbird.user", "id", "", "user_alias", "{id}", "userv3.index.json"},
    organisation = {"organisation", "sunbird.organisation", "id", "", "org_alias", "{id}", "orgv3.index.json"},
    location     = {"location", "sunbird.location", "id", "", "location", "{id}", "location.index.json"},
    batch        = {"batch", "sunbird_courses.course_batch", "courseid,batchid", "courseid", "course-batch", "{batchId}", "course-batch.index.json"},
    user_course  = {"user_course", "sunbird_courses.user_enrolments", "userid,courseid,batchid", "batchid", "user-courses", "{batchId}_{userId}", "user-courses.index.json"};

/* All of them are also written by Sunbird's services. */
static const char versioning[] = "sequence";

static const struct {
    const char *profile;
    const struct facts *facts;
} profiles[] = {
    {"sunbird/user", &user},      {"sunbird/organisation", &organisation},      {"sunbird/location", &location},      {"sunbird/batch", &batch},      {"sunbird/user_course", &user_course},
    {"sunbird-5/user", &user},    {"sunbird-5/organisation", &organisation},    {"sunbird-5/location", &location},    {"sunbird-5/batch", &batch},    {"sunbird-5/user_course", &user_course},
    {"sunbird-4.2/user", &user},  {"sunbird-4.2/organisation", &organisation},  {"sunbird-4.2/location", &location},  {"sunbird-4.2/batch", &batch},  {"sunbird-4.2/user_course", &user_course},
    {"sunbird-lern/user", &user}, {"sunbird-lern/organisation", &organisation},                                       {"sunbird-lern/batch", &batch}, {"sunbird-lern/user_course", &user_course},
};
/* clang-format on */
enum { COUNT = sizeof profiles / sizeof *profiles };

static void expect(const char *profile, const char *what, const char *found, const char *wanted)
{
    if (!found || strcmp(found, wanted) != 0)
        fail_msg("%s: %s is %s, not %s", profile, what, found ? found : "not there", wanted);
}

static void expect_names(const char *profile, const char *what, const struct mapping_names *found,
                         const char *wanted)
{
    struct buf b;

    buf_init(&b, 1 << 12);
    for (size_t i = 0; i < found->count; i++)
        buf_printf(&b, "%s%s", i ? "," : "", found->list[i].name);
    expect(profile, what, buf_cstr(&b), wanted);
    buf_fini(&b);
}

static void each_is_about_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        const char *profile = profiles[i].profile;
        const struct facts *f = profiles[i].facts;
        AUTO_STR char *path = xsprintf(PROFILES "%s.yaml", profile);
        struct err err = {0};
        AUTO(mapping) struct mapping *m = mapping_load(path, &err);

        if (!m)
            fail_msg("%s: %s", profile, err.text);
        AUTO_STR char *source = xsprintf("%s.%s", m->keyspace.name, m->table.name);
        AUTO_STR char *definition = xsprintf(PROFILES "sunbird/%s", f->definition);
        AUTO_STR char *wanted = realpath(definition, NULL);
        AUTO_STR char *found = m->definition.name ? realpath(m->definition.name, NULL) : NULL;
        expect(profile, "object", m->object, f->object);
        expect(profile, "source", source, f->source);
        expect_names(profile, "key", &m->key, f->key);
        expect_names(profile, "select", &m->select, f->select);
        expect(profile, "index", m->index.name, f->index);
        expect(profile, "_id", m->id.name, f->id);
        assert_non_null(wanted);
        expect(profile, "definition", found, wanted);
        expect(profile, "versioning", mapping_versioning_word(m->versioning), versioning);
    }
}

static bool is_listed(const char *path)
{
    for (size_t i = 0; i < COUNT; i++) {
        AUTO_STR char *end = xsprintf("/%s.yaml", profiles[i].profile);
        size_t n = strlen(end);
        if (strlen(path) > n && strcmp(path + strlen(path) - n, end) == 0)
            return true;
    }
    return strcmp(strrchr(path, '/'), "/renames.yaml") == 0; /* a dictionary */
}

static void all_are_listed(void **state)
{
    glob_t found;

    (void)state;
    assert_int_equal(glob(PROFILES "*/*.yaml", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        if (!is_listed(found.gl_pathv[i]))
            fail_msg("%s is not in this test's table", found.gl_pathv[i]);
    assert_int_equal(found.gl_pathc, COUNT + 1);
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_about_what_it_says),
        cmocka_unit_test(all_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
