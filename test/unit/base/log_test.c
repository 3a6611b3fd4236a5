#include "base/log.h"

#include <unistd.h>

#include "base/cmocka_all.h"
#include "base/json.h"

/* What LOG wrote to standard error while `write` ran. */
static char *written(void (*write_them)(void))
{
    FILE *file = tmpfile();
    int old = dup(STDERR_FILENO);
    static char text[32 << 10];

    dup2(fileno(file), STDERR_FILENO);
    write_them();
    dup2(old, STDERR_FILENO);
    close(old);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void two_events(void)
{
    LOG(LOG_WARN, "bulk_retry", F_STR("table", "shop.users"), F_INT("status", 429),
        F_STR("said", "a \"b\"=c\n"), F_STR("none", NULL), F_INT("less", -5));
    LOG(LOG_DEBUG, "not_shown");
    LOG(LOG_ERROR, "bare");
}

static void lines_are_text(void **state)
{
    const char *rest = "Z level=warn event=bulk_retry table=shop.users status=429 said=\"a "
                       "\\\"b\\\"=c\\n\" none=\"\" less=-5\n";

    (void)state;
    log_setup(LOG_INFO, LOG_TEXT);
    char *text = written(two_events);
    assert_true(strlen(text) > 23);
    assert_int_equal(text[4], '-');
    assert_int_equal(text[10], 'T');
    assert_memory_equal(text + 23, rest, strlen(rest)); /* behind 2026-01-02T03:04:05.678 */
    char *second = text + 23 + strlen(rest);
    assert_string_equal(second + 23, "Z level=error event=bare\n");
}

static void lines_are_json(void **state)
{
    struct arena mem;
    struct err err;

    (void)state;
    log_setup(LOG_INFO, LOG_JSON);
    char *text = written(two_events);
    char *end = strchr(text, '\n');
    arena_init(&mem, 1 << 20);
    const struct json *v = json_parse(slice_of(text, (size_t)(end - text)), &mem, &err);
    assert_non_null(v);
    assert_true(slice_is(json_get_string(v, "level"), "warn"));
    assert_true(slice_is(json_get_string(v, "event"), "bulk_retry"));
    assert_true(slice_is(json_get_string(v, "said"), "a \"b\"=c\n"));
    assert_true(slice_is(json_get(v, "status")->text, "429"));
    assert_int_equal(json_get_string(v, "time").n, strlen("2026-01-02T03:04:05.678Z"));
    v = json_parse(slice_str(end + 1), &mem, &err);
    assert_true(slice_is(json_get_string(v, "event"), "bare"));
    arena_fini(&mem);
}

static void one_debug(void)
{
    LOG(LOG_DEBUG, "shown", F_INT("n", 1));
}

static void the_level_decides(void **state)
{
    (void)state;
    log_setup(LOG_DEBUG, LOG_TEXT);
    assert_non_null(strstr(written(one_debug), "event=shown n=1\n"));
    log_setup(LOG_ERROR, LOG_TEXT);
    assert_null(strstr(written(two_events), "bulk_retry"));
}

static int cleared;
static int redrawn;

static void on_clear(void *ctx)
{
    (void)ctx;
    cleared++;
}

static void on_redraw(void *ctx)
{
    (void)ctx;
    assert_int_equal(cleared, ++redrawn);
}

static void a_screen_makes_room(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT);
    log_set_screen(on_clear, on_redraw, NULL);
    written(two_events);
    log_set_screen(NULL, NULL, NULL);
    assert_int_equal(cleared, 2);
    assert_int_equal(redrawn, 2);
}

static void a_huge_one(void)
{
    static char huge[20000];

    memset(huge, 'x', sizeof huge - 1);
    LOG(LOG_ERROR, "huge", F_STR("text", huge));
    LOG(LOG_ERROR, "next");
}

static void a_huge_line_ends(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT);
    char *text = written(a_huge_one);
    char *end = strchr(text, '\n');
    assert_true(end - text < 9000);
    assert_non_null(strstr(end, "event=next\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_text),    cmocka_unit_test(lines_are_json),
        cmocka_unit_test(the_level_decides), cmocka_unit_test(a_screen_makes_room),
        cmocka_unit_test(a_huge_line_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
