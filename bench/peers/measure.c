/*
 * bench/peers/measure.c - runs a program and says what it took.
 *
 *   measure OUT PROGRAM [ARGUMENT...]    into OUT: wall s, user s, system s, peak resident KiB,
 * exit code
 *
 * A process's peak begins with that of the process it was forked from, so a small one has to start
 * it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct rusage used;
    int status;

    if (argc < 3) {
        fprintf(stderr, "usage: measure OUT PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) < 0) {
        perror("measure");
        return 3;
    }
    double wall = now() - start;
    FILE *out = fopen(argv[1], "w");
    if (!out) {
        perror(argv[1]);
        return 3;
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(out, "%.6f %ld.%06ld %ld.%06ld %ld %d\n", wall, (long)used.ru_utime.tv_sec,
            (long)used.ru_utime.tv_usec, (long)used.ru_stime.tv_sec, (long)used.ru_stime.tv_usec,
            used.ru_maxrss, code);
    fclose(out);
    return code;
}
