/*
 * base/mem.h - allocation that can't fail, and owners that clean up after themselves.
 */
#pragma once
#include <stddef.h>

/* What is large goes back to the system as soon as it is freed. By itself the C library keeps what
 * has been as large before, for each thread. Before there are threads. */
void mem_setup(void);
/* For small bookkeeping: stops the program (exit 4) when memory is out. Zeroed. */
void *xalloc(size_t bytes);
void *xrealloc(void *old, size_t bytes);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t n);
/* A new string, owned by the caller. */
char *xsprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * AUTO(thing) struct thing *t = ...;   calls thing_free(t) when the scope ends (NULL is fine).
 * A module makes its type known with AUTO_DEFINE(thing).
 */
#define AUTO(name) __attribute__((cleanup(auto_free_##name)))
#define AUTO_DEFINE(name)                                                                          \
    static inline void auto_free_##name(struct name **p)                                           \
    {                                                                                              \
        if (*p)                                                                                    \
            name##_free(*p);                                                                       \
    }                                                                                              \
    struct name /* wants a semicolon */

/* Plain malloc'ed text. */
#define AUTO_STR __attribute__((cleanup(auto_free_str)))
void auto_free_str(char **p);

/* Ownership leaves: yields the pointer, leaves NULL behind. */
#define TAKE(p)                                                                                    \
    __extension__({                                                                                \
        __typeof__(p) take_tmp_ = (p);                                                             \
        (p) = NULL;                                                                                \
        take_tmp_;                                                                                 \
    })
