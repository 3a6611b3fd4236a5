/* The journal when things go wrong: killed, crowded, full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "scratch.h"

/*
 * One step is a tx whose parts must stand or fall together: step n marks (n-1, n], counts one,
 * opens block n, ends block n-1, and sets a note.
 */
static void add_step(struct tx *t, int64_t n)
{
    char text[32];

    snprintf(text, sizeof text, "%lld", (long long)n);
    tx_mark(t, "step", n - 1, n);
    tx_count(t, "steps", 1);
    tx_block(t, &(struct run_block){.no = (uint64_t)n, .ids = 1, .body = slice_str(text)});
    if (n > 1)
        tx_block_end(t, (uint64_t)n - 1);
    tx_note(t, "last", text);
    tx_failure(t, slice_str(text), "test", "a text that takes some room in the file");
}

static bool count_failure(void *ctx, const struct failure_info *info)
{
    (void)info;
    (*(int64_t *)ctx)++;
    return true;
}

/* The number of steps that are there; fails unless they are exactly a prefix. */
static int64_t steps_there(struct scratch *s, struct run *r)
{
    struct interval_set marks;
    struct run_block b;
    int64_t steps;
    int64_t failures = 0;
    bool found;
    char *note;
    char text[32];

    assert_true(run_count(r, "steps", &steps, &s->err));
    assert_true(run_marks(r, "step", &marks, &s->err));
    assert_true(run_note(r, "last", &note, &s->err));
    assert_true(run_next_block(r, 0, &b, &found, &s->err));
    assert_true(journal_each_failure(s->j, run_id(r), count_failure, &failures, &s->err));
    assert_int_equal(failures, steps);
    assert_int_equal(marks.count, steps > 0);
    if (marks.count) {
        assert_int_equal(marks.list[0].start, 0);
        assert_int_equal(marks.list[0].end, steps);
    }
    assert_int_equal(found, steps > 0);
    if (found) {
        snprintf(text, sizeof text, "%lld", (long long)steps);
        assert_string_equal(note, text);
        assert_int_equal(b.no, steps);
        assert_true(slice_is(b.body, text));
        run_block_fini(&b);
    }
    free(note);
    interval_set_fini(&marks);
    return steps;
}

/* ---- killed ---- */

static void child_steps(struct scratch *s, int said, int64_t from)
{
    struct run_spec spec = {
        .command = "sync", .identity = "a table", .params = "{}", .resumable = true};
    bool resumed;
    struct run *r;

    s->j = journal_open(s->dir, false, &s->clock, &s->err);
    if (!s->j || !(r = run_begin(s->j, &spec, &resumed, &s->err)))
        _exit(1);
    struct tx *t = tx_new(r);
    for (int64_t n = from + 1;; n++) {
        add_step(t, n);
        if (!journal_commit(t, &s->err) || write(said, &n, sizeof n) != sizeof n)
            _exit(1);
    }
}

static void killed_at_any_moment(void **state)
{
    struct scratch *s = *state;
    unsigned seed = (unsigned)time(NULL);
    int64_t there = 0;

    print_message("seed %u\n", seed);
    for (int round = 0; round < 12; round++) {
        int said[2];
        int64_t acknowledged = there;
        int64_t n;
        bool resumed;

        assert_int_equal(pipe(said), 0);
        pid_t child = fork();
        if (child == 0)
            child_steps(s, said[1], there);
        close(said[1]);
        struct timespec wait = {.tv_nsec = rand_r(&seed) % 40 * 1000000L + 1};
        assert_int_equal(read(said[0], &n, sizeof n), sizeof n);
        acknowledged = n;
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(said[0], &n, sizeof n) == sizeof n)
            acknowledged = n;
        close(said[0]);

        scratch_open(s);
        struct run *r = scratch_begin(s, &resumed);
        assert_true(resumed);
        there = steps_there(s, r);
        /* All that was acknowledged, and at most the one in flight. */
        assert_in_range(there, acknowledged, acknowledged + 1);
        run_abandon(r);
        scratch_close(s);
    }
}

/* ---- crowded ---- */

static void two_processes(void **state)
{
    struct scratch *s = *state;
    enum { STEPS = 150 };
    pid_t child[2];
    bool resumed;

    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            char identity[] = {(char)('a' + i), '\0'};
            struct run_spec spec = {
                .command = "sync", .identity = identity, .params = "{}", .resumable = true};
            s->j = journal_open(s->dir, false, &s->clock, &s->err); /* both create it at once */
            struct run *r = s->j ? run_begin(s->j, &spec, &resumed, &s->err) : NULL;
            if (!r)
                _exit(1);
            struct tx *t = tx_new(r);
            for (int n = 1; n <= STEPS; n++) {
                add_step(t, n);
                if (!journal_commit(t, &s->err))
                    _exit(2);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status;
        waitpid(child[i], &status, 0);
        assert_int_equal(status, 0);
    }
    scratch_open(s);
    for (int i = 0; i < 2; i++) {
        char identity[] = {(char)('a' + i), '\0'};
        struct run_spec spec = {
            .command = "sync", .identity = identity, .params = "{}", .resumable = true};
        struct run *r = run_begin(s->j, &spec, &resumed, &s->err);
        assert_non_null(r);
        assert_true(resumed);
        assert_int_equal(steps_there(s, r), STEPS);
        run_abandon(r);
    }
}

struct crowd {
    struct run *run;
    int no;
    bool ok;
};

enum { THREADS = 8, COMMITS = 200 };

static void *crowd_main(void *arg)
{
    struct crowd *c = arg;
    struct err err;
    char name[16];
    struct tx *t = tx_new(c->run);

    snprintf(name, sizeof name, "t%d", c->no);
    c->ok = true;
    for (int i = 0; i < COMMITS; i++) {
        int64_t seen;
        tx_mark(t, "token", (c->no * COMMITS + i) * 3, (c->no * COMMITS + i) * 3 + 3);
        tx_count(t, name, 1);
        tx_count(t, "all", 1);
        c->ok = c->ok && journal_commit(t, &err) && run_count(c->run, name, &seen, &err) &&
                seen == i + 1; /* what is committed is seen at once */
    }
    tx_free(t);
    return NULL;
}

static void a_crowd_of_threads(void **state)
{
    struct scratch *s = *state;
    struct crowd crowd[THREADS];
    pthread_t thread[THREADS];
    struct interval_set marks;
    int64_t all;
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    for (int i = 0; i < THREADS; i++) {
        crowd[i] = (struct crowd){.run = r, .no = i};
        assert_int_equal(pthread_create(&thread[i], NULL, crowd_main, &crowd[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(crowd[i].ok);
    }
    assert_true(run_count(r, "all", &all, &s->err));
    assert_int_equal(all, THREADS * COMMITS);
    assert_true(run_marks(r, "token", &marks, &s->err));
    assert_int_equal(marks.count, 1);
    interval_set_fini(&marks);
    run_abandon(r);
}

/* A tx that can't be applied, among others in the same group, takes none of them with it. */
static void *poison_main(void *arg)
{
    struct crowd *c = arg;
    struct err err;
    struct tx *t = tx_new(c->run);

    c->ok = true;
    for (int i = 0; i < COMMITS; i++) {
        tx_note(t, "poison", "never there");
        tx_count(t, "big", INT64_MAX); /* the second time it is no integer any more */
        tx_count(t, "big", INT64_MAX);
        c->ok = c->ok && !journal_commit(t, &err) && err.kind == ERR_SYSTEM;
        tx_free(t);
        t = tx_new(c->run);
    }
    tx_free(t);
    return NULL;
}

static void one_bad_apple(void **state)
{
    struct scratch *s = *state;
    struct crowd crowd[4];
    pthread_t thread[4];
    int64_t all;
    char *note;
    bool resumed;

    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    for (int i = 0; i < 4; i++) {
        crowd[i] = (struct crowd){.run = r, .no = i};
        assert_int_equal(
            pthread_create(&thread[i], NULL, i == 3 ? poison_main : crowd_main, &crowd[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_true(crowd[i].ok);
    }
    assert_true(run_count(r, "all", &all, &s->err));
    assert_int_equal(all, 3 * COMMITS);
    assert_true(run_count(r, "big", &all, &s->err));
    assert_int_equal(all, 0);
    assert_true(run_note(r, "poison", &note, &s->err));
    assert_null(note);
    run_abandon(r);
}

/* ---- full: a VFS that refuses the n-th write ---- */

struct full_file {
    sqlite3_file base;
    struct sqlite3_io_methods methods;
    sqlite3_file *real;
};

static sqlite3_vfs full_vfs;
static sqlite3_vfs *real_vfs;
static atomic_long writes;
static atomic_long fail_at;   /* 0: never */
static atomic_int fail_again; /* and every one after it */

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct full_file *)f)->real;
}

static int full_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    long no = atomic_fetch_add(&writes, 1) + 1;
    long bad = atomic_load(&fail_at);

    if (bad && (no == bad || (no > bad && fail_again)))
        return SQLITE_FULL;
    return real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
}

static int full_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}
static int full_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}
static int full_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    return real_of(f)->pMethods->xTruncate(real_of(f), n);
}
/* The machine does not go down here, and thousands of syncs take their time. */
static int full_sync(sqlite3_file *f, int flags)
{
    (void)f, (void)flags;
    return SQLITE_OK;
}
static int full_size(sqlite3_file *f, sqlite3_int64 *n)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), n);
}
static int full_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}
static int full_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}
static int full_check(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}
static int full_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int full_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}
static int full_device(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}
static int full_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, p);
}
static int full_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}
static void full_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}
static int full_shm_unmap(sqlite3_file *f, int remove_it)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove_it);
}

static int full_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags, int *out)
{
    struct full_file *file = (struct full_file *)f;
    sqlite3_file *real = (sqlite3_file *)(file + 1);

    (void)vfs;
    int code = real_vfs->xOpen(real_vfs, name, real, flags, out);
    file->real = real;
    file->methods = (struct sqlite3_io_methods){
        .iVersion = 2,
        .xClose = full_close,
        .xRead = full_read,
        .xWrite = full_write,
        .xTruncate = full_truncate,
        .xSync = full_sync,
        .xFileSize = full_size,
        .xLock = full_lock,
        .xUnlock = full_unlock,
        .xCheckReservedLock = full_check,
        .xFileControl = full_control,
        .xSectorSize = full_sector,
        .xDeviceCharacteristics = full_device,
        .xShmMap = full_shm_map,
        .xShmLock = full_shm_lock,
        .xShmBarrier = full_shm_barrier,
        .xShmUnmap = full_shm_unmap,
    };
    f->pMethods = code == SQLITE_OK ? &file->methods : NULL;
    return code;
}

static void use_full_vfs(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    full_vfs = *real_vfs;
    full_vfs.zName = "full";
    full_vfs.szOsFile = (int)sizeof(struct full_file) + real_vfs->szOsFile;
    full_vfs.xOpen = full_open;
    sqlite3_vfs_register(&full_vfs, 1);
}

enum { FULL_STEPS = 6 };

/* The whole life of a run; returns how many steps were acknowledged. */
static int64_t live(struct scratch *s)
{
    struct run_spec spec = {
        .command = "sync", .identity = "a table", .params = "{}", .resumable = true};
    struct err err = {0};
    int64_t acknowledged = 0;
    bool resumed;

    struct journal *j = journal_open(s->dir, true, &s->clock, &err);
    struct run *r = j ? run_begin(j, &spec, &resumed, &err) : NULL;
    if (r) {
        struct tx *t = tx_new(r);
        for (int64_t n = 1; n <= FULL_STEPS; n++) {
            add_step(t, n);
            if (!journal_commit(t, &err))
                break;
            acknowledged = n;
        }
        tx_free(t);
        run_abandon(r);
    }
    if (acknowledged < FULL_STEPS) {
        assert_int_equal(err.kind, ERR_SYSTEM);
        assert_non_null(strstr(err.text, "disk full"));
        assert_non_null(strstr(err.text, s->dir));
    }
    journal_close(j);
    return acknowledged;
}

static void every_write_fails_once(void **state)
{
    use_full_vfs();
    for (int again = 0; again < 2; again++) {
        long n = 1;
        for (;; n++) {
            void *scratch = NULL;
            bool resumed;

            assert_int_equal(scratch_setup(&scratch), 0);
            struct scratch *s = scratch;
            writes = 0;
            fail_again = again;
            fail_at = n;
            int64_t acknowledged = live(s);
            bool reached = writes >= n;
            fail_at = 0;

            scratch_open(s);
            struct run *r = scratch_begin(s, &resumed);
            int64_t there = steps_there(s, r);
            assert_int_equal(there, acknowledged);

            /* With room again it goes on where it was. */
            struct tx *t = tx_new(r);
            add_step(t, there + 1);
            assert_true(journal_commit(t, &s->err));
            tx_free(t);
            assert_int_equal(steps_there(s, r), there + 1);
            run_abandon(r);
            scratch_teardown(&scratch);
            if (!reached)
                break;
        }
        assert_true(n > 20);
    }
    sqlite3_vfs_unregister(&full_vfs);
    (void)state;
}

/* The tx is kept on error: the same one can be given again when there is room. */
static void a_failed_commit_can_be_given_again(void **state)
{
    struct scratch *s = *state;
    bool resumed;

    use_full_vfs();
    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    add_step(t, 1);
    fail_again = 1;
    fail_at = writes + 1;
    assert_false(journal_commit(t, &s->err));
    assert_int_equal(s->err.kind, ERR_SYSTEM);
    assert_int_equal(steps_there(s, r), 0);
    fail_at = 0;
    assert_true(journal_commit(t, &s->err));
    assert_int_equal(steps_there(s, r), 1);
    assert_true(journal_commit(t, &s->err)); /* empty now */
    assert_int_equal(steps_there(s, r), 1);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);
    sqlite3_vfs_unregister(&full_vfs);
}

/* More than SQLite's cache holds is written before COMMIT: then the disk is full in the middle of
 * it, and all of the transaction is gone. */
static void full_in_the_middle_of_a_tx(void **state)
{
    struct scratch *s = *state;
    static char text[1200000];
    bool resumed;
    bool done = false;
    int failed = 0;

    use_full_vfs();
    scratch_open(s);
    struct run *r = scratch_begin(s, &resumed);
    struct tx *t = tx_new(r);
    add_step(t, 1);
    assert_true(journal_commit(t, &s->err));
    memset(text, 'x', sizeof text - 1);
    for (long n = 1; !done; n += 23) {
        add_step(t, 2);
        tx_note(t, "large 1", text);
        tx_note(t, "large 2", text);
        fail_again = 0;
        fail_at = writes + n;
        done = journal_commit(t, &s->err);
        fail_at = 0;
        if (done)
            break;
        failed++;
        assert_int_equal(s->err.kind, ERR_SYSTEM);
        assert_non_null(strstr(s->err.text, "disk full"));
        assert_int_equal(steps_there(s, r), 1);
        tx_free(t);
        t = tx_new(r);
    }
    assert_true(failed > 10);
    assert_int_equal(steps_there(s, r), 2);
    tx_free(t);
    run_abandon(r);
    scratch_close(s);
    sqlite3_vfs_unregister(&full_vfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_SCRATCH(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
        IN_SCRATCH(killed_at_any_moment),         IN_SCRATCH(two_processes),
        IN_SCRATCH(a_crowd_of_threads),           IN_SCRATCH(one_bad_apple),
        cmocka_unit_test(every_write_fails_once), IN_SCRATCH(a_failed_commit_can_be_given_again),
        IN_SCRATCH(full_in_the_middle_of_a_tx),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
