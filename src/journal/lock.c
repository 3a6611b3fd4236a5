#include "journal/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

struct owner {
    long pid;
    int64_t since_us;
    char run_id[32];
};

static struct flock whole_file(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

static bool read_owner(int fd, struct owner *out)
{
    char text[128];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    *out = (struct owner){0};
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "%ld %" SCNd64 " %31s", &out->pid, &out->since_us, out->run_id) >= 2;
}

static bool refuse(int fd, struct err *err)
{
    struct owner who;
    char when[32] = "";

    /* The text may be missing for the blink between another's lock and its first write. */
    if (!read_owner(fd, &who))
        return err_set(err, ERR_USER,
                       "the same run was just started by another process; wait for "
                       "it, or stop it");
    time_t since_s = (time_t)(who.since_us / 1000000);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&since_s, &tm));
    return err_set(err, ERR_USER,
                   "the same run is in progress (pid %ld, started %s); wait for it, or stop it",
                   who.pid, when);
}

/* Its last owner may have removed the file after we opened it: then we hold a lock that nobody else
 * can see. */
static bool still_there(int fd, const char *path)
{
    struct stat mine;
    struct stat now;

    return fstat(fd, &mine) == 0 && stat(path, &now) == 0 && mine.st_ino == now.st_ino &&
           mine.st_dev == now.st_dev;
}

bool run_lock_take(struct run_lock *l, const char *path, int64_t now_us, struct err *err)
{
    struct flock want = whole_file(F_WRLCK);

    *l = (struct run_lock){.fd = -1};
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            return err_set(err, ERR_SYSTEM, "lock file %s: %s", path, strerror(errno));
        if (fcntl(fd, F_OFD_SETLK, &want) < 0) {
            bool taken = errno == EAGAIN || errno == EACCES;
            if (taken)
                refuse(fd, err);
            else
                err_set(err, ERR_SYSTEM, "lock file %s: %s", path, strerror(errno));
            close(fd);
            return false;
        }
        if (still_there(fd, path)) {
            l->fd = fd;
            l->path = xstrdup(path);
            run_lock_note(l, now_us, "");
            return true;
        }
        close(fd);
    }
}

void run_lock_note(struct run_lock *l, int64_t started_us, const char *run_id)
{
    char text[128];
    int n = snprintf(text, sizeof text, "%ld %" PRId64 " %s\n", (long)getpid(), started_us, run_id);

    /* Only for people: a full disk must not end a run that holds its lock. */
    if (ftruncate(l->fd, 0) < 0 || pwrite(l->fd, text, (size_t)n, 0) < 0)
        return;
}

void run_lock_drop(struct run_lock *l)
{
    if (l->fd < 0)
        return;
    unlink(l->path); /* while it is ours: whoever waits at the old file sees that it is gone */
    close(l->fd);
    free(l->path);
    *l = (struct run_lock){.fd = -1};
}

long run_lock_holder(const char *path, const char *run_id)
{
    struct flock probe = whole_file(F_WRLCK);
    struct owner who;
    long pid = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (fcntl(fd, F_OFD_GETLK, &probe) == 0 && probe.l_type != F_UNLCK && read_owner(fd, &who) &&
        (!run_id || strcmp(run_id, who.run_id) == 0))
        pid = who.pid;
    close(fd);
    return pid;
}
