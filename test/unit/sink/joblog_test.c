/* The two logs of the job: their form, their numbers, and what happens when the disk is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sink/joblog.h"
#include "source/ids.h"

static char folder[64];

static struct buf content(const char *path)
{
    struct buf b;
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    buf_init(&b, 64 << 20);
    for (;;) {
        uint8_t *to = buf_room(&b, 1 << 16);
        ssize_t n = read(fd, to, 1 << 16);
        if (n <= 0)
            break;
        b.len += (size_t)n;
    }
    close(fd);
    return b;
}

static void assert_content(const char *path, const char *want)
{
    struct buf b = content(path);

    assert_string_equal(buf_cstr(&b), want);
    buf_fini(&b);
}

static struct joblog *open_log(uint64_t calls)
{
    struct err err = {0};
    struct joblog *l = joblog_open(folder, 1700000000123, calls, &err);

    assert_string_equal(err.text, "");
    return l;
}

static void add(struct joblog *l, bool success, const char *request, const char *response,
                const char *why, uint64_t want_no)
{
    struct err err = {0};
    uint64_t no = 0;

    assert_true(joblog_add(l, success, slice_str(request),
                           response ? slice_str(response) : SLICE_NULL, why, &no, &err));
    assert_int_equal(no, want_no);
}

static void form(void **state)
{
    (void)state;
    struct joblog *l = open_log(0);
    AUTO_STR char *good = xsprintf("%s/SyncSuccess_1700000000123.log", folder);
    AUTO_STR char *bad = xsprintf("%s/SyncFailure_1700000000123.log", folder);

    assert_string_equal(joblog_success_path(l), good);
    assert_string_equal(joblog_failure_path(l), bad);
    add(l, true, "{1}", "{\"a\":1}", NULL, 1);
    add(l, false, "{2}", NULL, "timed out", 2);
    add(l, false, "{3}", "<p>\r\nRequest No : 9\nRequest : x</p>\n", NULL, 3);
    add(l, true, "{4}", "", NULL, 4);
    joblog_close(l);
    assert_content(good, "Request No : 1\nRequest : {1}\nResponse : {\"a\":1}\n\n"
                         "Request No : 4\nRequest : {4}\nResponse : \n\n");
    assert_content(bad,
                   "Request No : 2\nRequest : {2}\nResponse : timed out\n\n"
                   "Request No : 3\nRequest : {3}\nResponse : <p>\r\n Request No : 9\nRequest : "
                   "x</p>\n\n\n");

    /* the run goes on: numbers too, also behind an entry that was cut off by a kill */
    FILE *f = fopen(bad, "a");
    fputs("Request No : 5\nRequest : {5", f);
    fclose(f);
    l = open_log(0);
    add(l, false, "{6}", "", NULL, 6);
    joblog_close(l);
    struct buf b = content(bad);
    assert_non_null(strstr(buf_cstr(&b), "Request : {5\n\nRequest No : 6\n"));
    buf_fini(&b);
    l = open_log(40);
    add(l, true, "{41}", "", NULL, 41);
    joblog_close(l);
    struct stat st;
    assert_int_equal(stat(bad, &st), 0);
    assert_int_equal(st.st_mode & 0137, 0);
}

static void long_answers(void **state)
{
    (void)state;
    struct joblog *l = open_log(0);
    char *text = xalloc(900001);
    struct err err = {0};

    memset(text, 'x', 900000);
    assert_true(joblog_add(l, true, slice_str(text), slice_str(text), NULL, NULL, &err));
    struct buf b = content(joblog_success_path(l));
    const char *all = buf_cstr(&b);
    assert_int_equal(b.len,
                     strlen("Request No : 1\nRequest : \nResponse : \n\n ... (834464 bytes more)") +
                         900000 + JOBLOG_RESPONSE_MAX_BYTES);
    assert_non_null(strstr(all, "x ... (834464 bytes more)\n\n"));
    buf_fini(&b);
    joblog_close(l);
    l = open_log(0); /* N is found in front of a long entry */
    add(l, true, "{2}", "", NULL, 2);
    joblog_close(l);
    free(text);
}

static void no_folder(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(joblog_open("/nowhere", 5, 0, &err));
    assert_int_equal(err.kind, ERR_USER);
    assert_string_equal(err.text, "log file /nowhere/SyncSuccess_5.log: No such file or directory");
}

/* A limit on the file's size stands for a full disk: the entry that does not fit leaves nothing. */
static void full_disk(void **state)
{
    struct rlimit old;
    struct rlimit small;
    struct err err = {0};

    (void)state;
    struct joblog *l = open_log(0);
    add(l, false, "{1}", "", NULL, 1);
    struct buf before = content(joblog_failure_path(l));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = before.len + 10;
    setrlimit(RLIMIT_FSIZE, &small);
    bool ok =
        joblog_add(l, false, slice_str("{2222222222222222222}"), slice_str(""), NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(ok);
    assert_int_equal(err.kind, ERR_SYSTEM);
    AUTO_STR char *want = xsprintf("log file %s: File too large", joblog_failure_path(l));
    assert_string_equal(err.text, want);
    assert_content(joblog_failure_path(l), buf_cstr(&before));
    add(l, false, "{2}", "", NULL, 2); /* its number was not used up */
    buf_fini(&before);
    joblog_close(l);
}

enum { THREADS = 4, EACH = 200 };

static void *add_many(void *ctx)
{
    struct err err = {0};

    for (int i = 0; i < EACH; i++) {
        if (!joblog_add(ctx, false, slice_str("{\"request\":{\"objectIds\":[\"a\",\"b\"]}}"),
                        slice_str("x\ny"), NULL, NULL, &err))
            return "failed";
    }
    return NULL;
}

/* Entries of several workers don't mix, and what was written reads back as ids. */
static void many_workers(void **state)
{
    static const char *const key[] = {"id"};
    pthread_t threads[THREADS];
    struct id_item item;
    struct err err = {0};
    int n = 0;

    (void)state;
    struct joblog *l = open_log(0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, l), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    add(l, true, "{}", "", NULL, THREADS * EACH + 1);
    struct ids *s = ids_open(
        &(struct ids_options){.path = joblog_failure_path(l), .key_names = key, .key_count = 1},
        &err);
    assert_string_equal(err.text, "");
    assert_int_equal(ids_file(s)->count, 2 * THREADS * EACH);
    while (ids_next(s, &item, &err))
        assert_true(slice_is(item.parts[0], n++ % 2 ? "b" : "a"));
    assert_int_equal(err.kind, ERR_NONE);
    assert_int_equal(n, 2 * THREADS * EACH);
    ids_close(s);
    joblog_close(l);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/joblog_test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    AUTO_STR char *good = xsprintf("%s/SyncSuccess_1700000000123.log", folder);
    AUTO_STR char *bad = xsprintf("%s/SyncFailure_1700000000123.log", folder);

    (void)state;
    unlink(good);
    unlink(bad);
    return rmdir(folder);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(form),      IN_FOLDER(long_answers), IN_FOLDER(no_folder),
        IN_FOLDER(full_disk), IN_FOLDER(many_workers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
