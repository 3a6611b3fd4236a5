/*
 * net/stream.h - a TCP connection, perhaps with TLS, on which every wait has an end.
 *
 * The socket does not block. Reading and writing take what is possible now; stream_wait() is the
 * only place that waits: for the socket, the deadline, or the cancel (level 2). A caller that has
 * bytes to write goes on reading meanwhile, so that two full pipes can't hold each other.
 * Threads: a stream belongs to one; a tls_context is shared. Source: OpenSSL 3.0, RFC 8305 (several
 * addresses), RFC 6125 (names in certificates).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct tls_options {
    bool insecure;         /* the server's certificate is not verified */
    const char *ca_file;   /* PEM; NULL: the system's */
    const char *cert_file; /* client certificate and its chain, PEM; NULL: none */
    const char *key_file;  /* its key, PEM; NULL: in cert_file */
};

struct tls_context;

/* Reads the files. NULL with ERR_USER, naming the file, when one can't be used. OpenSSL is touched
 * here for the first time: a program without TLS doesn't pay for it. */
struct tls_context *tls_context_new(const struct tls_options *o, struct err *err);
void tls_context_free(struct tls_context *t);
AUTO_DEFINE(tls_context);

struct stream_target {
    const char *host; /* name or address (v6 without brackets) */
    uint16_t port;
    const struct tls_context *tls; /* NULL: plain; outlives the stream */
    const char *server_name;       /* TLS: sent as SNI and checked; NULL: host */
};

struct stream;

/*
 * Connects; with TLS, shakes hands and checks the certificate. Several addresses of a name are
 * tried side by side, each 250 ms after the one before it, and the first that answers is taken.
 *   clock, cancel   outlive the stream; cancel may be NULL
 *   err             ERR_RETRY when the peer could not be reached in time, ERR_REACH when it must be
 *                   set right first (certificate, TLS, unknown name), ERR_CANCEL, ERR_SYSTEM
 */
struct stream *stream_open(const struct stream_target *to, struct clock *clock,
                           struct cancel *cancel, struct deadline until, struct err *err);
void stream_free(struct stream *s);
AUTO_DEFINE(stream);

/* Up to n (> 0) bytes that are there now: their number, 0 when none are, -1 with err (ERR_RETRY:
 * closed or broken). */
ssize_t stream_read(struct stream *s, void *p, size_t n, struct err *err);
/* The same into two places, the first of which (n > 0) is filled first. */
ssize_t stream_read_two(struct stream *s, void *p, size_t n, void *then, size_t then_n,
                        struct err *err);
/* Takes what the socket takes now; the same results. */
ssize_t stream_write(struct stream *s, const void *p, size_t n, struct err *err);

enum stream_wait_for { STREAM_READ = 1, STREAM_WRITE = 2 };
/* Waits until a read (or write) may get on. False with err: ERR_RETRY "timed out", ERR_CANCEL. Call
 * it only after a read or write that yielded 0: TLS may hold bytes that the socket doesn't show. */
bool stream_wait(struct stream *s, unsigned wait_for, struct deadline until, struct err *err);

/* For a caller with a poll() of its own: readable when there is something to read (after a read
 * that yielded 0). */
int stream_fd(const struct stream *s);
