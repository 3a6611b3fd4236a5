/*
 * net/tls.h - what net/stream needs of OpenSSL: one session over a socket that does not block.
 *
 * Threads: as net/stream. Include it only there. Source: OpenSSL 3.0 manual pages.
 */
#pragma once
#include "net/stream.h"

struct tls; /* one session */

/* Over fd, which stays the caller's. `name` is sent as SNI (unless it is an address) and checked.
 */
struct tls *tls_new(const struct tls_context *t, int fd, const char *name, struct err *err);
void tls_free(struct tls *s);

enum tls_result {
    TLS_DONE,
    TLS_WANT_READ,
    TLS_WANT_WRITE,
    TLS_FAILED, /* err set */
};
enum tls_result tls_handshake(struct tls *s, struct err *err);
/* On TLS_DONE `*done` bytes (> 0) were moved. */
enum tls_result tls_read(struct tls *s, void *p, size_t n, size_t *done, struct err *err);
enum tls_result tls_write(struct tls *s, const void *p, size_t n, size_t *done, struct err *err);
