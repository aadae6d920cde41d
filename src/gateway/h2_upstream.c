/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/h2_upstream.h"

#include "gateway/blame.h"

#include "base/assert.h"
#include "io/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* A connection with requests on it that is silent for this long is asked whether it lives, and
 * given up when it does not answer: a host that lost its power says nothing for many minutes. */
#define PING_AFTER_US (5 * US_PER_S)
#define PING_WAIT_US (5 * US_PER_S)
/* Once it has answered: gRPC servers close a connection for the third ping in five minutes without
 * an answer in between. */
#define PING_AGAIN_US (300 * US_PER_S)
/* More than an endpoint would be asked for at once by one thread. */
#define STREAMS_MAX 1024u
/* How often a request that was known unsent is sent again without asking the gate. */
#define RESTARTS_MAX 3u
/* The largest frame, with its head, that one step of the session makes. */
#define FRAME_MAX_BYTES (16 * KIB + 9)

static struct h2u_conn *pick(struct request *req, uint64_t client_key);
static uint32_t streams_max(const struct h2u_conn *conn);
static struct h2u_conn *conn_new(struct request *req, uint64_t client_key, int *why);
static void conn_free(struct h2u_conn *conn);
static void conn_lost(struct h2u_conn *conn, uint16_t reason, enum gate_outcome outcome);
static void conn_settle(struct h2u_conn *conn);
static void on_ready(struct loop_handle *h, uint32_t events);
static void on_job(struct loop_job *job);
static bool flush(struct h2u_conn *conn);
static bool introduce(struct h2u_conn *conn, struct request *req, uint16_t *reason);
static void read_all(struct h2u_conn *conn);
static void run_dirty(struct h2u_conn *conn);
static bool begin_stream(struct h2u_stream *st);
static void touch(struct h2u_stream *st);
static bool deliver(struct h2u_stream *st);
static bool deliver_head(struct h2u_stream *st, struct span *head_out);
static void fail(struct h2u_stream *st);
static const struct h2_client_hooks hooks;

static struct h2u_stream *stream_of(struct upstream *up)
{
    fb_assert(up->kind == UPSTREAM_H2);
    return (struct h2u_stream *)up;
}

/* ---- what the gateway asks for ---- */

void h2u_start(struct request *req)
{
    struct worker *w = req->worker;
    int why = ENOMEM;
    uint64_t client_key = request_pool_key(req);
    struct h2u_stream *st = slab_take(&w->h2u_streams);
    struct h2u_conn *conn = NULL;
    if (st)
        conn = pick(req, client_key);
    req->is_reused = conn != NULL;
    if (st && !conn)
        conn = conn_new(req, client_key, &why);
    if (!conn) {
        if (st)
            slab_give(&w->h2u_streams, st);
        forward_failed(req, blame_connect(w, req->ep, why), GATE_CONNECT_FAILED);
        return;
    }
    *st = (struct h2u_stream){.up = {.handle = {.fd = -1},
                                     .link = {.fd = -1},
                                     .worker = w,
                                     .ep = req->ep,
                                     .req = req,
                                     .kind = UPSTREAM_H2,
                                     .phase = UPSTREAM_BUSY,
                                     .is_reused = conn->is_reused},
                              .conn = conn,
                              .next = conn->streams,
                              .prev = &conn->streams};
    if (st->next)
        st->next->prev = &st->next;
    conn->streams = st;
    if (conn->stream_count++ == 0)
        conn->heard_us = loop_now_us(w->loop); /* silence counts from now */
    req->up = &st->up;
    req->phase = REQUEST_CONNECTING;
    bool is_alone = conn->stream_count == 1 && !req->is_upgrade; /* it must not wait */
    if (conn->phase != H2U_CONNECTING && (conn->is_settled || is_alone))
        begin_stream(st);
    request_arm(req);
}

void h2u_run(struct upstream *up)
{
    struct client *c = request_waiter(up->req);
    deliver(stream_of(up));
    if (c)
        client_run(c);
}

void h2u_send(struct upstream *up)
{
    struct h2u_stream *st = stream_of(up);
    if (st->id && !st->is_gone) {
        h2_client_resume(st->conn->session, st->id);
        loop_defer(up->worker->loop, &st->conn->job);
    }
}

void h2u_close(struct upstream *up)
{
    struct h2u_stream *st = stream_of(up);
    struct h2u_conn *conn = st->conn;
    struct worker *w = up->worker;
    if (up->req)
        up->req->up = NULL;
    if (st->id && !st->is_gone)
        h2_client_reset(conn->session, st->id);
    if (st->dirty_prev) {
        *st->dirty_prev = st->dirty_next;
        if (st->dirty_next)
            st->dirty_next->dirty_prev = st->dirty_prev;
    }
    *st->prev = st->next;
    if (st->next)
        st->next->prev = st->prev;
    fb_assert(conn->stream_count > 0);
    if (--conn->stream_count == 0)
        conn->idle_us = loop_now_us(w->loop);
    chunk_give(&w->chunks, up->in);
    chunk_give(&w->chunks, up->out);
    chunk_give(&w->chunks, st->data);
    trailers_give(w, up->trailers);
    slab_give(&w->h2u_streams, st);
    if (conn->phase != H2U_LOST)
        loop_defer(w->loop, &conn->job); /* the reset goes out, or the connection ends */
}

/* Each 100 ms: connections that nobody needs, and those that may be dead. */
void h2u_expire(struct worker *w)
{
    uint64_t now_us = loop_now_us(w->loop);
    uint64_t keep_us = w->is_draining ? 0 : w->gen->conf->p.upstream_keepalive * US_PER_MS;
    for (struct h2u_conn *conn = w->h2u_conns, *next; conn; conn = next) {
        next = conn->w_next;
        if (conn->phase == H2U_CONNECTING)
            continue; /* its requests give it up in time */
        if (conn->stream_count == 0) {
            bool is_gone = atomic_load_explicit(&conn->ep->is_gone, memory_order_relaxed);
            if (is_gone || conn->idle_us + keep_us <= now_us)
                conn->phase = H2U_LEAVING;
            conn_settle(conn);
            continue;
        }
        if (conn->heard_us > conn->ping_us)
            conn->ping_us = 0;
        if (conn->ping_us && now_us - conn->ping_us >= PING_WAIT_US) {
            conn_lost(conn, REASON_UPSTREAM_RESET, GATE_FAILED);
            next = w->h2u_conns; /* clients ran: whatever stood behind it may be gone */
        } else if (!conn->ping_us && now_us - conn->heard_us >= conn->ping_gap_us) {
            conn->ping_us = now_us;
            conn->ping_gap_us = PING_AGAIN_US;
            h2_client_ping(conn->session);
            loop_defer(w->loop, &conn->job);
        }
    }
}

void h2u_fini(struct worker *w)
{
    while (w->h2u_conns) {
        fb_assert(w->h2u_conns->streams == NULL);
        conn_free(w->h2u_conns);
    }
}

/* ---- one connection ---- */

static struct h2u_conn *pick(struct request *req, uint64_t client_key)
{
    struct h2u_conn *conn = req->ep->pools[req->worker->index].h2;
    for (; conn; conn = conn->next) {
        if (conn->phase > H2U_OPEN || conn->client_key != client_key)
            continue;
        if (conn->stream_count < streams_max(conn))
            return conn;
    }
    return NULL;
}

static uint32_t streams_max(const struct h2u_conn *conn)
{
    uint32_t known = conn->ep->pools[conn->worker->index].h2_streams_max;
    if (!conn->is_settled && known)
        return known;
    return fb_min_u32(h2_client_streams_max(conn->session), STREAMS_MAX);
}

/* The endpoint has said how many streams it takes: those that waited for that word begin, or look
 * for another connection. */
static void settle(struct h2u_conn *conn)
{
    uint32_t begun = 0;
    conn->is_settled = true;
    uint32_t most = streams_max(conn);
    conn->ep->pools[conn->worker->index].h2_streams_max = most;
    for (struct h2u_stream *st = conn->streams; st; st = st->next)
        begun += st->id != 0;
    for (struct h2u_stream *st = conn->streams; st; st = st->next) {
        if (st->id || st->is_gone)
            continue;
        if (begun < most) {
            begun++;
            begin_stream(st);
        } else {
            st->is_gone = true;
            st->why = H2_GONE_UNSENT;
            touch(st);
        }
    }
}

static struct h2u_conn *conn_new(struct request *req, uint64_t client_key, int *why)
{
    struct worker *w = req->worker;
    struct pool *pool = &req->ep->pools[w->index];
    struct h2u_conn *conn = calloc(1, sizeof *conn);
    int fd = -1;
    *why = ENOMEM;
    if (!conn)
        return NULL;
    const struct h2_client_conf conf = {.limits = req->gen->limits,
                                        .stream_window_bytes = H2U_WINDOW_BYTES,
                                        .connection_window_bytes = H2U_CONNECTION_WINDOW_BYTES,
                                        .is_tls = request_tls(req) != NULL};
    conn->session = h2_client_new(&conf, &hooks, conn);
    if (conn->session)
        *why = sock_connect(&req->ep->addr, &fd);
    conn->handle = (struct loop_handle){.on_ready = on_ready, .fd = -1};
    if (fd < 0 ||
        loop_add(w->loop, &conn->handle, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE) != FB_OK) {
        if (fd >= 0) {
            *why = ENOMEM;
            close(fd);
        }
        h2_client_free(conn->session);
        free(conn);
        return NULL;
    }
    conn->link.fd = fd;
    conn->worker = w;
    conn->ep = req->ep;
    conn->client_key = client_key;
    conn->job.on_run = on_job;
    conn->ping_gap_us = PING_AFTER_US;
    conn->next = pool->h2;
    conn->prev = &pool->h2;
    if (conn->next)
        conn->next->prev = &conn->next;
    pool->h2 = conn;
    conn->w_next = w->h2u_conns;
    conn->w_prev = &w->h2u_conns;
    if (conn->w_next)
        conn->w_next->w_prev = &conn->w_next;
    w->h2u_conns = conn;
    atomic_fetch_add_explicit(&conn->ep->refs, 1, memory_order_relaxed);
    upstream_count(conn->ep, w, 1);
    return conn;
}

static void conn_free(struct h2u_conn *conn)
{
    struct worker *w = conn->worker;
    fb_assert(conn->stream_count == 0);
    *conn->prev = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    *conn->w_prev = conn->w_next;
    if (conn->w_next)
        conn->w_next->w_prev = conn->w_prev;
    tls_free(conn->link.tls, conn->phase == H2U_LEAVING); /* NULL is fine */
    if (conn->handle.fd >= 0) {
        close(conn->handle.fd);
        loop_forget(w->loop, &conn->handle);
    }
    loop_job_cancel(w->loop, &conn->job);
    h2_client_free(conn->session);
    chunk_give(&w->chunks, conn->out);
    upstream_count(conn->ep, w, UINT32_MAX);
    endpoint_unref(conn->ep);
    free(conn);
}

/* Without streams, a connection that takes no new ones ends. */
static void conn_settle(struct h2u_conn *conn)
{
    if (conn->stream_count)
        return;
    if (conn->phase == H2U_LEAVING && !conn->is_said) {
        conn->is_said = true;
        h2_client_leave(conn->session);
        if (flush(conn) && conn->out) { /* the goodbye waits for room */
            conn->idle_us = loop_now_us(conn->worker->loop);
            return;
        }
        conn_free(conn);
    } else if (conn->phase != H2U_OPEN) {
        conn_free(conn);
    }
}

/* Frees it.  Its requests go on elsewhere, or fail. */
static void conn_lost(struct h2u_conn *conn, uint16_t reason, enum gate_outcome outcome)
{
    bool was_connecting = conn->phase == H2U_CONNECTING;
    conn->phase = H2U_LOST;
    while (conn->streams) {
        struct h2u_stream *st = conn->streams;
        struct client *c = request_waiter(st->up.req);
        if (was_connecting) {
            struct request *req = st->up.req;
            upstream_close(&st->up);
            forward_failed(req, reason, outcome);
        } else {
            if (!st->is_gone && !st->is_ended)
                st->why = st->id ? H2_GONE_RESET : H2_GONE_UNSENT;
            st->is_gone = true;
            deliver(st);
        }
        if (c)
            client_run(c);
        if (conn->streams == st && st->up.req->phase == REQUEST_TUNNEL) {
            /* its client cannot end it now: it has more to read, or has not ended its side */
            struct request *req = st->up.req;
            upstream_close(&st->up);
            forward_failed(req, REASON_TUNNEL_CUT, GATE_OK);
            if (c)
                client_run(c);
        }
    }
    conn_free(conn);
}

static void on_ready(struct loop_handle *h, uint32_t events)
{
    struct h2u_conn *conn = FB_CONTAINER(h, struct h2u_conn, handle);
    if (events & LOOP_WRITE)
        conn->can_write = true;
    if (conn->phase == H2U_CONNECTING) {
        int why = sock_error(h->fd);
        bool is_broken = why || (events & LOOP_ERROR);
        if (is_broken && !conn->link.tls) { /* else an alert may say why */
            conn_lost(conn, upstream_reason_of(why ? why : ECONNRESET), GATE_CONNECT_FAILED);
            return;
        }
        if (!conn->can_write)
            return;
        struct h2u_stream *first = conn->streams;
        if (!first) { /* they all left */
            conn_free(conn);
            return;
        }
        uint16_t reason = REASON_NONE;
        if (!introduce(conn, first->up.req, &reason)) {
            if (reason || is_broken)
                conn_lost(conn, reason ? reason : REASON_UPSTREAM_TLS, GATE_CONNECT_FAILED);
            return;
        }
        events |= LOOP_READ; /* what came behind a handshake lies in TLS, not in the socket */
        if (conn->is_http1) {
            h2u_fall_back(conn);
            conn_free(conn);
            return;
        }
        conn->phase = H2U_OPEN;
        if (!first->up.req->is_upgrade)
            begin_stream(first);
    } else if (conn->link.tls && (events & LOOP_WRITE)) {
        tls_flush(conn->link.tls);
    }
    loop_defer(conn->worker->loop, &conn->job);
    if (events & (LOOP_READ | LOOP_END | LOOP_ERROR))
        read_all(conn);
}

/* PROXY header and TLS handshake.  False: it takes longer, or it failed for *reason. */
static bool introduce(struct h2u_conn *conn, struct request *req, uint16_t *reason)
{
    uint8_t version = request_conf(req)->proxy_version;
    if (version && !conn->is_introduced && !proxied_write(conn->link.fd, req, version)) {
        *reason = REASON_CONNECT_FAILED;
        return false;
    }
    conn->is_introduced = true;
    if (!request_tls(req))
        return true;
    uint16_t why = REASON_UPSTREAM_TLS;
    enum tls_step step = request_secure(req, &conn->link, &why);
    if (step == TLS_OK && span_eq(tls_alpn(conn->link.tls), SPAN("h2")))
        return true;
    conn->is_http1 = step == TLS_OK && request_conf(req)->protocol == CONF_PROTOCOL_AUTO;
    if (conn->is_http1)
        return true;
    if (step == TLS_OK) {
        why = REASON_UPSTREAM_NOT_HTTP2;
        blame_say(conn->worker, conn->ep, &conn->link, why);
    }
    if (step != TLS_WAIT)
        *reason = why;
    return false;
}

static void read_all(struct h2u_conn *conn)
{
    struct worker *w = conn->worker;
    for (;;) {
        ssize_t n = link_recv(&conn->link, w->in, w->in_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            blame_h2(conn, (struct span){NULL, 0});
            conn_lost(conn, REASON_UPSTREAM_RESET, GATE_FAILED);
            return;
        }
        conn->heard_us = loop_now_us(w->loop);
        bool is_good = h2_client_take(conn->session, (struct span){w->in, (size_t)n});
        if (h2_client_is_leaving(conn->session) && conn->phase == H2U_OPEN)
            conn->phase = H2U_LEAVING;
        if (!conn->is_settled && h2_client_is_settled(conn->session))
            settle(conn);
        run_dirty(conn);
        if (!is_good) {
            blame_h2(conn, (struct span){w->in, (size_t)n});
            bool is_http2 = h2_client_is_settled(conn->session);
            for (struct h2u_stream *st = conn->streams; st && !is_http2; st = st->next)
                if (!st->is_gone) {
                    st->is_gone = true;
                    st->why = H2_GONE_BAD;
                }
            conn_lost(conn, REASON_UPSTREAM_RESET, GATE_FAILED);
            return;
        }
    }
}

/* At the end of a turn: what all requests of this turn have to say goes out in one piece. */
static void on_job(struct loop_job *job)
{
    struct h2u_conn *conn = FB_CONTAINER(job, struct h2u_conn, job);
    if (conn->phase == H2U_CONNECTING) {
        conn_settle(conn);
        return;
    }
    if (!flush(conn)) {
        blame_h2_unheard(conn);
        conn_lost(conn, REASON_UPSTREAM_RESET, GATE_FAILED);
        return;
    }
    run_dirty(conn); /* bodies have room again; requests that the session could not send */
    conn_settle(conn);
}

/* False: the connection is broken. */
static bool flush(struct h2u_conn *conn)
{
    struct worker *w = conn->worker;
    while (conn->can_write) {
        struct iovec iov = {NULL, 0};
        if (conn->out) {
            iov.iov_base = conn->out->at + conn->out->from;
            iov.iov_len = chunk_span(conn->out).len;
        } else {
            conn->put_bytes = 0;
            if (!h2_client_pump(conn->session, w->in_bytes - FRAME_MAX_BYTES) &&
                conn->put_bytes == 0)
                return false;
            if (conn->put_bytes == 0)
                return true;
            iov = (struct iovec){w->in, conn->put_bytes};
        }
        ssize_t n = link_write(&conn->link, &iov, 1);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        size_t sent = n > 0 ? (size_t)n : 0;
        if (sent < iov.iov_len && !(n < 0 && errno == EINTR))
            conn->can_write = false;
        if (conn->out) {
            conn->out->from += (uint32_t)sent;
            if (sent == iov.iov_len) {
                chunk_give(&w->chunks, conn->out);
                conn->out = NULL;
            }
        } else if (sent < iov.iov_len &&
                   !chunk_append(&w->chunks, &conn->out,
                                 (struct span){w->in + sent, iov.iov_len - sent})) {
            return false;
        }
    }
    return true;
}

/* ---- one stream ---- */

/* False: it could not begin here and is marked as unsent. */
static bool begin_stream(struct h2u_stream *st)
{
    struct request *req = st->up.req;
    struct worker *w = st->up.worker;
    struct h2_client *session = st->conn->session;
    if (req->is_upgrade && !h2_client_has_connect(session)) {
        st->is_gone = true;
        st->why = H2_GONE_NO_TUNNEL;
        touch(st);
        loop_defer(w->loop, &st->conn->job);
        return false;
    }
    bool has_body = !req->is_in_done || chunk_span(req->body).len > 0 ||
                    (req->trailers && req->trailers->t.field_count > 0);
    struct span head = {req->head->at, req->head->to};
    st->id = req->is_upgrade ? h2_client_connect(session, st, head)
                             : h2_client_request(session, st, head, has_body);
    if (st->id == 0) {
        if (st->conn->phase == H2U_OPEN)
            st->conn->phase = H2U_LEAVING;
        st->is_gone = true;
        st->why = H2_GONE_UNSENT;
        touch(st);
        loop_defer(w->loop, &st->conn->job);
        return false;
    }
    req->phase = REQUEST_AWAITING;
    req->head_sent = req->head->to;
    req->sent_us = req->active_us = loop_now_us(w->loop);
    request_arm(req);
    loop_defer(w->loop, &st->conn->job);
    return true;
}

void h2u_touch(struct h2u_stream *st)
{
    touch(st);
}

static void touch(struct h2u_stream *st)
{
    if (st->dirty_prev)
        return;
    struct h2u_conn *conn = st->conn;
    st->dirty_next = conn->dirty;
    st->dirty_prev = &conn->dirty;
    if (st->dirty_next)
        st->dirty_next->dirty_prev = &st->dirty_next;
    conn->dirty = st;
}

static void run_dirty(struct h2u_conn *conn)
{
    while (conn->dirty) {
        struct h2u_stream *st = conn->dirty;
        struct client *c = request_waiter(st->up.req);
        conn->dirty = st->dirty_next;
        if (st->dirty_next)
            st->dirty_next->dirty_prev = &conn->dirty;
        st->dirty_next = NULL;
        st->dirty_prev = NULL;
        deliver(st);
        if (c)
            client_run(c);
    }
}

/* Passes on what has come.  False: the stream is gone. */
static bool deliver(struct h2u_stream *st)
{
    struct upstream *up = &st->up;
    struct request *req = up->req;
    struct worker *w = up->worker;
    struct span head_out = {NULL, 0};
    bool is_failed = st->is_gone && !st->is_ended;
    if (req->phase == REQUEST_TUNNEL)
        return true; /* its client runs next, and the tunnel with it */
    if (up->in && !deliver_head(st, &head_out))
        return false;
    req = up->req; /* a copy may have changed places with its first */
    if (req->phase == REQUEST_TUNNEL)
        return true;
    if (st->is_ended && !up->has_head) {
        st->is_ended = false;
        st->is_gone = is_failed = true;
        st->why = H2_GONE_BAD;
    }
    bool is_held = req->client && req->client->out && head_out.len == 0 && !is_failed &&
                   st->conn->phase != H2U_LOST;
    up->can_read = is_held && (st->data || st->is_ended); /* the client asks when it has room */
    if (up->has_head && !is_held && (head_out.len || st->data || st->is_ended)) {
        struct span payload = chunk_span(st->data);
        if (!relay_payload(up, req,
                           &(struct answer_piece){
                               .head = head_out,
                               .payload = payload,
                               .trailers = up->trailers ? &up->trailers->t : NULL,
                               .is_last = st->is_ended,
                           }))
            return false;
        if (payload.len && !st->is_gone) {
            h2_client_consume(st->conn->session, st->id, payload.len);
            loop_defer(w->loop, &st->conn->job);
        }
        chunk_give(&w->chunks, st->data);
        st->data = NULL;
    }
    if (!is_failed)
        return true;
    fail(st);
    return false;
}

/* Interim heads and the final one, as the endpoint sent them.  False: the stream is gone. */
static bool deliver_head(struct h2u_stream *st, struct span *head_out)
{
    struct upstream *up = &st->up;
    struct request *req = up->req;
    struct worker *w = up->worker;
    struct chunk *in = up->in;
    struct span rest = chunk_span(in);
    bool goes_on = true;
    up->in = NULL;
    while (goes_on && rest.len && !up->has_head) {
        http1_response_begin(&w->answer_parser, &req->gen->limits, w->answer_fields, req->method);
        struct http1_head *head = &w->answer_parser.head;
        if (http1_parse(&w->answer_parser, rest) != HTTP1_DONE || head->status == 101) {
            goes_on = relay_bad(up, req, REASON_UPSTREAM_BAD);
            break;
        }
        rest.at += head->head_bytes;
        rest.len -= head->head_bytes;
        if (head->status < 200) {
            goes_on = relay_interim(up, req, head);
            continue;
        }
        /* HTTP/2 knows where a body ends without being told a length */
        if (head->framing == HTTP1_BODY_CLOSE && st->is_ended && !st->data && !up->trailers) {
            head->framing = HTTP1_BODY_LENGTH;
            head->body_bytes = 0;
        } else if (head->framing == HTTP1_BODY_CLOSE) {
            head->framing = HTTP1_BODY_CHUNKED;
        }
        st->conn->is_reused = true;
        if (req->is_upgrade && head->status < 300) { /* also when all of it came at once */
            goes_on = h2u_tunnel_begin(st, head);
            break;
        }
        goes_on = relay_final(up, req, head, head_out);
    }
    chunk_give(&w->chunks, in);
    return goes_on;
}

/* It ended without a complete answer: once more when nobody worked on it, else that is it. */
static void fail(struct h2u_stream *st)
{
    struct upstream *up = &st->up;
    struct request *req = up->req;
    enum h2_gone why = (enum h2_gone)st->why;
    bool has_head = up->has_head,
         is_untouched = !has_head && request_waiter(req) && !req->is_answered;
    /* A connection that ended just when its next request was written, without a word to it. */
    bool is_stale = why == H2_GONE_RESET && st->conn->phase == H2U_LOST && up->is_reused &&
                    req->ticket.is_idempotent && req->restarts == 0;
    uint16_t blame = has_head ? REASON_NONE : st->conn->blame;
    bool may_restart = is_untouched && !blame && req->is_replayable &&
                       req->restarts < RESTARTS_MAX && (why == H2_GONE_UNSENT || is_stale);
    bool is_refused = blame && st->conn->is_blame_sure;
    upstream_close(up);
    if (may_restart) {
        req->restarts++;
        req->head_sent = 0;
        if (req->body)
            req->body->from = 0;
        h2u_start(req);
        return;
    }
    if (why == H2_GONE_NO_TUNNEL && h2u_refuse_tunnel(req))
        return;
    uint16_t reason = has_head                   ? REASON_UPSTREAM_CUT
                      : blame                    ? blame
                      : why == H2_GONE_BAD       ? REASON_UPSTREAM_BAD
                      : why == H2_GONE_TOO_LARGE ? REASON_UPSTREAM_HEADERS_TOO_LARGE
                                                 : REASON_UPSTREAM_RESET;
    bool is_unsent = (why == H2_GONE_UNSENT || is_refused) && req->is_replayable;
    forward_failed(req, reason, is_unsent ? GATE_CONNECT_FAILED : GATE_FAILED);
}

/* ---- hooks: they keep, nothing else ---- */

static void on_head(void *arg, void *stream, struct span head, bool is_last)
{
    struct h2u_conn *conn = arg;
    struct h2u_stream *st = stream;
    (void)is_last; /* on_last follows */
    st->up.has_bytes = true;
    conn->ping_gap_us = PING_AFTER_US;
    st->up.req->active_us = loop_now_us(conn->worker->loop);
    if (!chunk_append(&conn->worker->chunks, &st->up.in, head)) {
        h2_client_reset(conn->session, st->id);
        st->is_gone = true;
        st->why = H2_GONE_RESET;
    }
    touch(st);
}

static void on_data(void *arg, void *stream, struct span payload)
{
    struct h2u_conn *conn = arg;
    struct h2u_stream *st = stream;
    conn->ping_gap_us = PING_AFTER_US;
    st->up.req->active_us = loop_now_us(conn->worker->loop);
    if (!chunk_append(&conn->worker->chunks, &st->data, payload)) {
        h2_client_reset(conn->session, st->id);
        st->is_gone = true;
        st->why = H2_GONE_RESET;
    }
    touch(st);
}

static void on_last(void *arg, void *stream, const struct http1_field *trailers, uint32_t count)
{
    struct h2u_conn *conn = arg;
    struct h2u_stream *st = stream;
    struct worker *w = conn->worker;
    st->is_ended = true;
    if (count)
        st->up.trailers = trailers_take(w);
    if (count && !(st->up.trailers && trailers_keep(w, st->up.trailers, trailers, count))) {
        h2_client_reset(conn->session, st->id); /* without its end the answer is not whole */
        st->is_ended = false;
        st->is_gone = true;
        st->why = H2_GONE_RESET;
    }
    touch(st);
}

static void on_gone(void *arg, void *stream, enum h2_gone why)
{
    struct h2u_stream *st = stream;
    (void)arg;
    st->is_gone = true;
    st->why = (uint8_t)why;
    touch(st);
}

static struct h2_client_give give(void *arg, void *stream, char *to, size_t room)
{
    struct h2u_conn *conn = arg;
    struct h2u_stream *st = stream;
    struct request *req = st->up.req;
    if (req->is_upgrade)
        return h2u_tunnel_give(st, to, room);
    struct span body = chunk_span(req->body);
    struct h2_client_give g = {.bytes = body.len < room ? body.len : room};
    if (g.bytes) {
        memcpy(to, body.at, g.bytes);
        req->body->from += (uint32_t)g.bytes;
        req->active_us = loop_now_us(conn->worker->loop);
        touch(st); /* the client may go on */
    }
    g.is_last = req->is_in_done && g.bytes == body.len;
    if (g.is_last && req->trailers)
        g.trailers = &req->trailers->t;
    return g;
}

static void put(void *arg, struct span frames)
{
    struct h2u_conn *conn = arg;
    fb_assert(conn->put_bytes + frames.len <= conn->worker->in_bytes);
    memcpy(conn->worker->in + conn->put_bytes, frames.at, frames.len);
    conn->put_bytes += (uint32_t)frames.len;
}

static const struct h2_client_hooks hooks = {.on_head = on_head,
                                             .on_data = on_data,
                                             .on_last = on_last,
                                             .on_gone = on_gone,
                                             .give = give,
                                             .put = put};
