#include "cql/conn.h"

#include <stdlib.h>

#include "cql/segment.h"

enum {
    STREAMS_MAX = 1024,        /* in flight on one connection */
    ORPHANS_MAX = 256,         /* a quarter */
    SILENT_MAX = 2,            /* time-outs in a row without a byte from the server */
    READ_BYTES = 16 << 10,     /* at least asked for, so that small answers come together */
    FLUSH_BYTES = 32 << 10,    /* requests go out by themselves beyond it */
    HAND_OVER_BYTES = 8 << 10, /* smaller answers are copied */
    KEEP_BYTES = 4 << 20,      /* bigger answer buffers are not kept */
    TAKE_PART = 4,             /* of the request time-out: left for an answer that waits for us */
    EVENTS_BYTES_MAX = 256 << 10, /* then `events_lost`, and everything is read again */
};

struct conn {
    const struct conn_env *env;
    struct stream *stream;
    uint8_t version;
    bool logged_in;
    bool framed; /* v5 after the answer to STARTUP */
    bool lz4;
    bool used;
    bool broken;
    bool events_lost;
    struct err why;                 /* broken: the reason */
    struct segment_reader segments; /* framed: it receives into `in` */
    struct buf in;                  /* envelopes as received */
    size_t in_used;                 /* of it, delivered */
    struct buf requests;
    struct buf out;
    size_t out_sent;
    struct buf events; /* [u32 length, body]* */
    size_t events_used;
    unsigned waiting;
    unsigned orphans;
    unsigned silent_timeouts;
    uint64_t answers;
    unsigned free_count;
    int16_t free_ids[STREAMS_MAX];
    struct call *calls[STREAMS_MAX]; /* NULL: free */
    uint64_t answers_when_sent[STREAMS_MAX];
    char name[300];
};

/* Marks a stream id whose requester gave up. */
static struct call orphan;

/* ---- small things ------------------------------------------------------------------------------
 */

uint8_t conn_version(const struct conn *c)
{
    return c->version;
}

const char *conn_name(const struct conn *c)
{
    return c->name;
}

int conn_fd(const struct conn *c)
{
    return stream_fd(c->stream);
}

bool conn_broken(const struct conn *c)
{
    return c->broken;
}

unsigned conn_waiting(const struct conn *c)
{
    return c->waiting;
}

bool conn_used(const struct conn *c)
{
    return c->used;
}

void conn_trim(struct conn *c)
{
    if (c->in.len == 0 && !c->segments.open) /* an open one is received behind what is counted */
        buf_fini(&c->in);
    if (c->out.len == 0)
        buf_fini(&c->out);
}

struct buf *conn_out(struct conn *c)
{
    return &c->requests;
}

static bool conn_fail(struct conn *c, struct err *err)
{
    if (!c->broken) {
        c->broken = true;
        c->why = *err;
        for (int i = 0; i < STREAMS_MAX; i++) {
            if (c->calls[i] && c->calls[i] != &orphan) {
                c->calls[i]->state = CALL_LOST;
                c->calls[i]->conn = NULL;
            }
            c->calls[i] = NULL;
        }
        c->waiting = 0;
    }
    *err = c->why;
    return false;
}

static void id_release(struct conn *c, int16_t id)
{
    c->calls[id] = NULL;
    c->free_ids[c->free_count++] = id;
}

/* ---- receiving --------------------------------------------------------------------------------
 */

static void keep_event(struct conn *c, struct slice body)
{
    buf_add_u32(&c->events, (uint32_t)body.n);
    size_t before = c->events.len;
    buf_add_slice(&c->events, body);
    if (c->events.full) {
        buf_cut(&c->events, before >= 4 ? before - 4 : 0);
        c->events_lost = true;
    }
}

bool conn_next_event(struct conn *c, struct slice *body, bool *lost)
{
    struct slice rest = buf_slice(&c->events);
    uint32_t n;

    *lost = c->events_lost;
    c->events_lost = false;
    rest.p = rest.p ? rest.p + c->events_used : NULL;
    rest.n -= c->events_used;
    if (take_u32(&rest, &n) && slice_take(&rest, n, body)) {
        c->events_used += 4 + n;
        return true;
    }
    buf_reset(&c->events);
    c->events_used = 0;
    return false;
}

/* Puts the answer's bytes into the call's own memory. A big answer that stands alone at the front
 * of the receive buffer takes the buffer along; what follows it moves to a new one. */
static bool hand_over(struct conn *c, struct call *call, struct frame *f, size_t total,
                      struct err *err)
{
    buf_reset(&call->bytes);
    if (c->version == 4 && f->flags & FRAME_COMPRESSED) {
        if (!body_decompress(&call->bytes, f->body, c->env->options->max_frame_bytes, err))
            return false;
        f->body = buf_slice(&call->bytes);
    } else if (f->body.n >= HAND_OVER_BYTES && c->in_used == 0 && c->in.len - total < total) {
        struct buf rest = call->bytes;
        if (c->in.len > total)
            buf_add(&rest, c->in.p + total, c->in.len - total);
        call->bytes = c->in;
        call->bytes.len = total;
        c->in = rest;
        call->frame = *f;
        return true;
    } else {
        buf_add_slice(&call->bytes, f->body);
        f->body = buf_slice(&call->bytes);
    }
    c->in_used += total;
    call->frame = *f;
    return true;
}

static bool unexpected(struct conn *c, const struct frame *f, struct err *err)
{
    struct frame copy = *f;
    struct codec_error e;
    struct arena mem;

    arena_init(&mem, 64 << 10);
    if (copy.opcode == OP_ERROR && frame_strip(&copy, err) &&
        codec_read_error(copy.body, c->version, &mem, &e, err)) {
        codec_error_set(&e, err);
        err->kind = ERR_RETRY;
    } else {
        err_set(err, ERR_RETRY, "an answer to a request that was not made (%s, stream %d)",
                frame_opcode_name(f->opcode), f->stream);
    }
    arena_fini(&mem);
    return false;
}

/* Nobody waits for an event: one that can't be read is as good as lost. */
static void take_event(struct conn *c, struct frame *f)
{
    struct buf plain;
    struct err ignored;
    bool ok = true;

    buf_init(&plain, EVENTS_BYTES_MAX);
    if (c->version == 4 && f->flags & FRAME_COMPRESSED) {
        ok = body_decompress(&plain, f->body, EVENTS_BYTES_MAX, &ignored);
        f->body = buf_slice(&plain);
    }
    if (ok && frame_strip(f, &ignored))
        keep_event(c, f->body);
    else
        c->events_lost = true;
    buf_fini(&plain);
}

static bool deliver(struct conn *c, struct frame *f, size_t total, struct err *err)
{
    if (f->stream < 0) {
        if (f->opcode == OP_EVENT)
            take_event(c, f);
        c->in_used += total;
        return true;
    }
    struct call *call = f->stream < STREAMS_MAX ? c->calls[f->stream] : NULL;
    if (!call)
        return unexpected(c, f, err);
    if (call == &orphan) {
        c->orphans--;
        c->in_used += total;
    } else {
        if (!hand_over(c, call, f, total, err) || !frame_strip(&call->frame, err))
            return false;
        call->state = CALL_DONE;
        call->conn = NULL;
        c->waiting--;
    }
    c->answers++;
    id_release(c, f->stream);
    return true;
}

static bool deliver_all(struct conn *c, struct err *err)
{
    for (;;) {
        struct slice rest = c->in.len > c->in_used
                                ? slice_of(c->in.p + c->in_used, c->in.len - c->in_used)
                                : SLICE_NULL;
        struct frame f;
        size_t before = rest.n;

        switch (rest.n ? frame_take(&rest, c->logged_in ? c->version : 0,
                                    c->env->options->max_frame_bytes, &f, err)
                       : FRAME_SHORT) {
        case FRAME_READY:
            if (!deliver(c, &f, before - rest.n, err))
                return false;
            continue;
        case FRAME_BAD:
            return false;
        case FRAME_SHORT:
            break;
        }
        break;
    }
    if (c->in_used) {
        memmove(c->in.p, c->in.p + c->in_used, c->in.len - c->in_used);
        c->in.len -= c->in_used;
        c->in_used = 0;
    }
    return true;
}

static bool unwrap_segments(struct conn *c, struct err *err)
{
    enum frame_status status;

    while ((status = segment_next(&c->segments, &c->in, err)) == FRAME_READY) {
        /* One by one: what is packed tight may be a thousand times as long. */
        if (!deliver_all(c, err))
            return false;
    }
    return status != FRAME_BAD;
}

static ssize_t receive_segments(struct conn *c, struct err *err)
{
    struct segment_room to = segment_room(&c->segments, &c->in);
    ssize_t got = stream_read_two(c->stream, to.p, to.n, to.then, to.then_n, err);

    if (got > 0)
        segment_received(&c->segments, (size_t)got);
    return got;
}

static ssize_t receive_envelopes(struct conn *c, struct err *err)
{
    size_t n = READ_BYTES;
    size_t wanted = frame_bytes_wanted(buf_slice(&c->in));

    if (wanted > c->in.len + n)
        n = wanted - c->in.len;
    uint8_t *room = buf_room(&c->in, n);
    if (!room) {
        err_set(err, ERR_RETRY, "an answer is longer than %u bytes",
                c->env->options->max_frame_bytes);
        return -1;
    }
    ssize_t got = stream_read(c->stream, room, n, err);
    if (got > 0)
        c->in.len += (size_t)got;
    return got;
}

/* One read. 1: something came, 0: nothing there, -1: broken. */
static int receive(struct conn *c, struct err *err)
{
    ssize_t got = c->framed ? receive_segments(c, err) : receive_envelopes(c, err);

    if (got <= 0)
        return (int)got;
    atomic_fetch_add_explicit(&c->env->counts->bytes_in, (uint64_t)got, memory_order_relaxed);
    c->silent_timeouts = 0;
    return (c->framed ? unwrap_segments(c, err) : deliver_all(c, err)) ? 1 : -1;
}

/* ---- sending ----------------------------------------------------------------------------------
 */

static bool out_pending(const struct conn *c)
{
    return c->out_sent < c->out.len || c->requests.len;
}

static bool send_some(struct conn *c, struct err *err)
{
    if (c->requests.full)
        return err_set(err, ERR_SYSTEM, "requests do not fit into memory");
    if (c->requests.len) {
        if (c->framed)
            segment_encode(&c->out, buf_slice(&c->requests), c->lz4);
        else
            buf_add_slice(&c->out, buf_slice(&c->requests));
        buf_reset(&c->requests);
        if (c->out.full)
            return err_set(err, ERR_SYSTEM, "requests do not fit into memory");
    }
    while (c->out_sent < c->out.len) {
        ssize_t n = stream_write(c->stream, c->out.p + c->out_sent, c->out.len - c->out_sent, err);
        if (n <= 0)
            return n == 0;
        c->out_sent += (size_t)n;
        atomic_fetch_add_explicit(&c->env->counts->bytes_out, (uint64_t)n, memory_order_relaxed);
    }
    buf_reset(&c->out);
    c->out_sent = 0;
    if (c->out.cap > KEEP_BYTES)
        buf_fini(&c->out);
    return true;
}

bool conn_flush(struct conn *c, struct err *err)
{
    if (c->broken || !send_some(c, err))
        return conn_fail(c, err);
    return true;
}

/* A call that begins lends its answer memory to the connection, where the answer will arrive: two
 * buffers go round between a page in use and the page to come. */
static void lend_memory(struct conn *c, struct call *call)
{
    if (!call->bytes.max)
        buf_init(&call->bytes, c->in.max);
    if (call->bytes.cap > KEEP_BYTES)
        buf_fini(&call->bytes);
    if (c->in.len || c->segments.open || c->in.cap >= call->bytes.cap)
        return;
    struct buf mine = call->bytes;
    call->bytes = c->in;
    c->in = mine;
    buf_reset(&c->in);
}

/* False may come with the answer that ended the wait. */
static bool wait_some(struct conn *c, struct deadline until, struct err *err)
{
    int got = 0;

    if (!send_some(c, err) || (got = receive(c, err)) < 0)
        return conn_fail(c, err);
    if (got > 0) { /* a server that never stops talking doesn't stop the clock */
        if (cancel_level(c->env->cancel) >= 2)
            return err_set(err, ERR_CANCEL, "cancelled");
        return deadline_left_ms(c->env->options->clock, until) > 0 ||
               err_set(err, ERR_RETRY, "timed out");
    }
    return stream_wait(c->stream, STREAM_READ | (out_pending(c) ? STREAM_WRITE : 0), until, err);
}

bool conn_begin(struct conn *c, struct call *call, struct err *err)
{
    const struct cql_options *o = c->env->options;
    struct deadline until = deadline_in(o->clock, o->request_timeout_ms);

    ensure(call->state != CALL_WAITING);
    if (c->requests.len + c->out.len - c->out_sent > FLUSH_BYTES && !conn_flush(c, err))
        return false;
    while (!c->broken && c->free_count == 0)
        if (!wait_some(c, until, err) && c->free_count == 0)
            return err_wrap(err, "%s: all stream ids are taken", c->name);
    if (c->broken)
        return conn_fail(c, err);
    lend_memory(c, call);
    call->stream = c->free_ids[--c->free_count];
    call->state = CALL_WAITING;
    call->conn = c;
    call->until = until;
    call->read_at_us = clock_version_us(o->clock);
    c->calls[call->stream] = call;
    c->answers_when_sent[call->stream] = c->answers;
    c->waiting++;
    atomic_fetch_add_explicit(&c->env->counts->requests, 1, memory_order_relaxed);
    return true;
}

void call_give_up(struct call *call)
{
    if (call->state == CALL_WAITING) {
        struct conn *c = call->conn;
        c->calls[call->stream] = &orphan;
        c->orphans++;
        c->waiting--;
        if (c->orphans > ORPHANS_MAX) {
            struct err err;
            err_set(&err, ERR_RETRY, "too many requests were left without an answer");
            conn_fail(c, &err);
        }
    }
    call->state = CALL_IDLE;
    call->conn = NULL;
}

void call_fini(struct call *call)
{
    call_give_up(call);
    buf_fini(&call->bytes);
}

/* Time is up for one call. A server that sent nothing at all meanwhile may be gone without a word:
 * the second time in a row the connection goes, too. */
static bool timed_out(struct conn *c, struct call *call, struct err *err)
{
    bool silent = c->answers == c->answers_when_sent[call->stream];

    err_set(err, ERR_RETRY, "timed out after %d ms", c->env->options->request_timeout_ms);
    struct err why = *err;
    call_give_up(call);
    if (silent && ++c->silent_timeouts >= SILENT_MAX)
        conn_fail(c, &why);
    return err_wrap(err, "%s", c->name);
}

/* Whoever begins a call may turn to other work before it waits. What the server sent meanwhile lies
 * in the socket, or waits at the other end for room there: some time to take it is left in any
 * case. */
static void leave_time_to_take(struct conn *c, struct call *call)
{
    const struct cql_options *o = c->env->options;
    int least_ms = o->request_timeout_ms / TAKE_PART;

    if (call->state == CALL_WAITING && deadline_left_ms(o->clock, call->until) < least_ms)
        call->until = deadline_in(o->clock, least_ms);
}

bool conn_wait(struct conn *c, struct call *call, struct err *err)
{
    leave_time_to_take(c, call);
    while (call->state == CALL_WAITING) {
        if (wait_some(c, call->until, err))
            continue;
        if (call->state == CALL_WAITING && err->kind == ERR_RETRY)
            return timed_out(c, call, err);
        if (call->state == CALL_WAITING) {
            call_give_up(call);
            return err_wrap(err, "%s", c->name);
        }
    }
    if (call->state == CALL_DONE) {
        c->used = true;
        return true;
    }
    *err = c->why;
    return err_wrap(err, "%s", c->name);
}

bool conn_poll(struct conn *c, struct err *err)
{
    int got = 0;

    if (c->broken || !send_some(c, err))
        return conn_fail(c, err);
    while (cancel_level(c->env->cancel) < 2 && (got = receive(c, err)) > 0)
        ;
    return got >= 0 || conn_fail(c, err);
}

bool call_result(struct conn *c, struct call *call, struct arena *mem, struct codec_result *out,
                 struct codec_error *server, struct err *err)
{
    const struct frame *f = &call->frame;
    bool drop = true;

    *server = (struct codec_error){.code = -1};
    if (f->opcode == OP_RESULT) {
        if (codec_read_result(f->body, f->version, mem, out, err))
            return true;
    } else if (f->opcode == OP_ERROR) {
        if (codec_read_error(f->body, f->version, mem, server, err)) {
            codec_error_set(server, err);
            drop = server->drop_connection;
        } else {
            *server = (struct codec_error){.code = -1};
        }
    } else {
        err_set(err, ERR_RETRY, "%s instead of a result", frame_opcode_name(f->opcode));
    }
    if (drop && c) {
        struct err why = *err;
        conn_fail(c, &why);
    }
    return c ? err_wrap(err, "%s", c->name) : false;
}

/* ---- log-in -----------------------------------------------------------------------------------
 */

/* Words for a first answer that is none of Cassandra's. */
static bool not_cassandra(struct conn *c, struct err *err)
{
    struct err was = *err; /* err_set() must not read what it writes */
    struct slice s = buf_slice(&c->in);

    if (err->kind != ERR_RETRY || c->logged_in)
        return false;
    if (s.n && s.p[0] >= 0x83 && s.p[0] <= 0x85)
        return false; /* an answer of Cassandra's, whole or begun: it was interrupted */
    if (s.n >= 4 && (!memcmp(s.p, "HTTP", 4) || s.p[0] == '<'))
        return err_set(err, ERR_REACH,
                       "this is an HTTP server, not Cassandra's native port (9042 by default)");
    if (s.n >= 2 && s.p[0] == 0x15 && s.p[1] == 0x03)
        return err_set(err, ERR_REACH, "the server speaks TLS here: switch TLS on");
    if (s.n)
        return err_set(err, ERR_REACH,
                       "the server does not speak Cassandra's native protocol (%s); its port is "
                       "9042 by default",
                       was.text);
    /* It may also just be busy or going down: another try is worth it. */
    if (!c->env->tls)
        return err_set(err, ERR_RETRY,
                       "%s, before the server said a word: it may want TLS (switch it on), or not "
                       "be Cassandra's native port (9042 by default)",
                       was.text);
    return err_set(err, ERR_RETRY,
                   "%s, before the server said a word: it may want a client certificate, or not be "
                   "Cassandra's native port",
                   was.text);
}

/* Sends the request just written and waits until the log-in's own deadline. */
static bool exchange(struct conn *c, struct call *call, struct deadline until, struct err *err)
{
    call->until = until;
    while (call->state == CALL_WAITING) {
        if (!wait_some(c, until, err) && call->state == CALL_WAITING) {
            call_give_up(call);
            return false;
        }
    }
    if (call->state == CALL_DONE)
        return true;
    *err = c->why;
    return false;
}

static bool login_error(struct conn *c, const struct call *call, int32_t *code, struct err *err)
{
    struct codec_error e;
    struct arena mem;

    arena_init(&mem, 64 << 10);
    if (codec_read_error(call->frame.body, c->version, &mem, &e, err)) {
        *code = e.code;
        codec_error_set(&e, err);
        if (e.code == CODEC_BAD_CREDENTIALS || e.code == CODEC_PROTOCOL_ERROR ||
            e.code == CODEC_UNAUTHORIZED || e.code == CODEC_INVALID)
            err->kind = ERR_REACH;
        else
            err->kind = ERR_RETRY;
    }
    arena_fini(&mem);
    return false;
}

static bool authenticate(struct conn *c, struct call *call, struct deadline until, struct err *err)
{
    const struct cql_auth *auth = c->env->auth;
    struct buf token;
    struct slice text;
    int32_t code;
    bool ok = false;

    buf_init(&token, 64 << 10);
    for (int round = 0; round < 16; round++) {
        bool first = call->frame.opcode == OP_AUTHENTICATE;
        buf_reset(&token);
        if (first ? !codec_read_authenticate(call->frame.body, &text, err) ||
                        !auth->start(auth->ctx, text, &token, err)
                  : !codec_read_auth_token(call->frame.body, &text, err) ||
                        !auth->challenge(auth->ctx, text, &token, err))
            break;
        if (!conn_begin(c, call, err))
            break;
        codec_auth_response(&c->requests, c->version, call->stream, buf_slice(&token));
        if (!exchange(c, call, until, err))
            break;
        if (call->frame.opcode == OP_AUTH_SUCCESS) {
            ok = true;
            break;
        }
        if (call->frame.opcode == OP_ERROR) {
            login_error(c, call, &code, err);
            break;
        }
        if (call->frame.opcode != OP_AUTH_CHALLENGE) {
            err_set(err, ERR_REACH, "log-in: %s was not expected",
                    frame_opcode_name(call->frame.opcode));
            break;
        }
    }
    if (token.p)
        explicit_bzero(token.p, token.cap);
    buf_fini(&token);
    /* The password was in these, too. */
    if (c->out.p)
        explicit_bzero(c->out.p, c->out.cap);
    if (c->requests.p)
        explicit_bzero(c->requests.p, c->requests.cap);
    return ok;
}

/* False with *try_older when the server does not know this version. */
static bool log_in(struct conn *c, struct deadline until, bool *try_older, struct err *err)
{
    bool lz4 = c->env->options->compression == CQL_COMPRESS_LZ4;
    struct codec_startup startup = {.compression = lz4 ? "lz4" : NULL,
                                    .driver_name = "cass2es",
                                    .driver_version = CASS2ES_VERSION,
                                    .throw_on_overload = true};
    struct call call = {0};
    int32_t code = -1;
    bool ok = false;

    if (!conn_begin(c, &call, err))
        return false;
    codec_startup(&c->requests, c->version, call.stream, &startup);
    if (!exchange(c, &call, until, err)) {
        not_cassandra(c, err);
    } else if (call.frame.opcode == OP_READY || call.frame.opcode == OP_AUTHENTICATE) {
        c->framed = c->version >= 5;
        c->lz4 = lz4;
        segment_reader_init(&c->segments, lz4);
        c->logged_in = true;
        ok = call.frame.opcode == OP_READY || authenticate(c, &call, until, err);
    } else if (call.frame.opcode == OP_ERROR) {
        login_error(c, &call, &code, err);
        *try_older = code == CODEC_PROTOCOL_ERROR && c->version > 4;
    } else {
        err_set(err, ERR_REACH, "log-in: %s was not expected",
                frame_opcode_name(call.frame.opcode));
    }
    call_fini(&call);
    c->used = false;
    return ok;
}

static struct conn *open_version(const struct conn_env *env, const char *host, uint16_t port,
                                 uint8_t version, struct deadline until, bool *try_older,
                                 struct err *err)
{
    const struct cql_options *o = env->options;
    struct stream_target target = {
        .host = host, .port = port, .tls = env->tls, .server_name = o->tls.server_name};
    AUTO(conn) struct conn *c = xalloc(sizeof *c);

    c->env = env;
    c->version = version;
    snprintf(c->name, sizeof c->name, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    buf_init(&c->in, (size_t)o->max_frame_bytes + FRAME_HEADER_BYTES + SEGMENT_PAYLOAD_MAX);
    buf_init(&c->requests, 64 << 20);
    buf_init(&c->out, 80 << 20);
    buf_init(&c->events, EVENTS_BYTES_MAX);
    for (int i = 0; i < STREAMS_MAX; i++)
        c->free_ids[c->free_count++] = (int16_t)(STREAMS_MAX - 1 - i);
    c->stream = stream_open(&target, o->clock, env->cancel, until, err);
    if (!c->stream || !log_in(c, until, try_older, err)) {
        err_wrap(err, "%s", c->name);
        return NULL;
    }
    return TAKE(c);
}

struct conn *conn_open(const struct conn_env *env, const char *host, uint16_t port, struct err *err)
{
    const struct cql_options *o = env->options;
    struct deadline until = deadline_in(o->clock, o->connect_timeout_ms);
    int known = atomic_load(env->version);
    bool try_older = false;

    uint8_t version = (uint8_t)(known ? known : o->max_protocol == 4 ? 4 : 5);
    struct conn *c = open_version(env, host, port, version, until, &try_older, err);
    if (!c && try_older)
        c = open_version(env, host, port, 4, until, &try_older, err);
    if (c && !known)
        atomic_store(env->version, c->version);
    return c;
}

void conn_free(struct conn *c)
{
    struct err err;

    if (!c)
        return;
    err_set(&err, ERR_RETRY, "closed");
    conn_fail(c, &err);
    stream_free(c->stream);
    segment_reader_fini(&c->segments);
    buf_fini(&c->in);
    buf_fini(&c->requests);
    buf_fini(&c->out);
    buf_fini(&c->events);
    free(c);
}
