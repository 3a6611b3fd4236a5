/*
 * base/err.h - what went wrong, and what to do next.
 *
 * The kind says what the caller does, the text what happened, outermost first. No allocation, no
 * globals: the struct is the caller's. Threads: a value belongs to one.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum err_kind {
    ERR_NONE,
    ERR_RETRY,  /* may pass if tried again: back off, try again */
    ERR_REJECT, /* this row or id can never pass: failures table, go on */
    ERR_USER,   /* the operator must act: stop, say what to change */
    ERR_REACH,  /* could not reach or log in: stop, resumable (exit 3) */
    ERR_SYSTEM, /* disk, memory, descriptors: stop, resumable */
    ERR_CANCEL, /* somebody asked us to stop: resumable (exit 130) */
};

struct err {
    enum err_kind kind;
    char text[512];
};

/* Sets kind and text. Always false, so that `return err_set(...)` reads well. */
bool err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts its words and ": " in front of the text; when room ends the middle is cut, never the cause.
 * Always false. */
bool err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Back to ERR_NONE with an empty text. */
void err_clear(struct err *err);

/* "retry", "reject", ... for logs and tests. */
const char *err_kind_name(enum err_kind kind);

/* For our own mistakes; stays on in release. Never for bytes from outside. */
#define ensure(cond) ((cond) ? (void)0 : ensure_failed(#cond, __FILE__, __LINE__))
_Noreturn void ensure_failed(const char *cond, const char *file, int line);
