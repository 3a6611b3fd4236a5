/*
 * net/resolve.h - names to addresses, with an end to the waiting.
 *
 * getaddrinfo() knows no deadline, so it runs on a thread of its own that is left behind when time
 * is up. Addresses written as numbers need no thread. Threads: any.
 */
#pragma once
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"

/* `out` is freed with freeaddrinfo(). err: ERR_REACH (no such name), ERR_RETRY (the name service
 * does not answer), ERR_CANCEL, ERR_SYSTEM. */
bool resolve(const char *host, uint16_t port, struct clock *clock, struct cancel *cancel,
             struct deadline until, struct addrinfo **out, struct err *err);
