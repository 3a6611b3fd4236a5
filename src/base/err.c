#include "base/err.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
{
    va_list ap;

    err->kind = kind;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return false;
}

bool err_wrap(struct err *err, const char *fmt, ...)
{
    char front[256];
    char cause[sizeof err->text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(front, sizeof front, fmt, ap);
    va_end(ap);
    memcpy(cause, err->text, sizeof cause);
    size_t front_len = strlen(front);
    size_t cause_len = strlen(cause);
    size_t room = sizeof err->text - 1;

    if (front_len + 2 + cause_len <= room) {
        snprintf(err->text, sizeof err->text, "%s: %.*s", front, (int)cause_len, cause);
        return false;
    }
    /* The tail holds the cause: keep the new front and as much of the tail as there is room for. */
    size_t tail = room - front_len - strlen(": ... ");
    snprintf(err->text, sizeof err->text, "%s: ... %s", front, cause + cause_len - tail);
    return false;
}

void err_clear(struct err *err)
{
    err->kind = ERR_NONE;
    err->text[0] = '\0';
}

const char *err_kind_name(enum err_kind kind)
{
    static const char *const names[] = {
        [ERR_NONE] = "none",     [ERR_RETRY] = "retry", [ERR_REJECT] = "reject",
        [ERR_USER] = "user",     [ERR_REACH] = "reach", [ERR_SYSTEM] = "system",
        [ERR_CANCEL] = "cancel",
    };

    return names[kind];
}

_Noreturn void ensure_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "cass2es: defect: %s:%d: %s does not hold; please report this\n", file, line,
            cond);
#ifdef ENSURE_ABORTS
    abort(); /* libFuzzer keeps the input of what dies by a signal only */
#endif
    /* Exit 5 is documented as "a defect in the program"; nothing can be saved by going on. */
    _Exit(5);
}
