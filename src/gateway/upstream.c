/* SPDX-License-Identifier: Apache-2.0 */
/* upstream: one connection to an endpoint: connect, send the request, read the answer.
 *
 * Reads go into the worker's scratch memory and from there straight to the client; only what the
 * client's socket does not take, and a head that came in parts, is kept.  While the client has
 * bytes waiting nothing is read here: that is the whole of backpressure, one read of at most
 * CHUNK_BODY_BYTES ahead. */
#include "base/assert.h"
#include "gateway/blame.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

static struct upstream *connect_new(struct request *req, const struct link *ready);
static void start_http1(struct request *req, const struct link *ready);
static void run(struct upstream *up, struct request *req);
static void on_again(struct loop_job *job);
static bool finish_connect(struct upstream *up, struct request *req);
static bool read_some(struct upstream *up, struct request *req);
static void lost(struct upstream *up, struct request *req);
static bool may_start_over(const struct upstream *up, const struct request *req);

/* One writer per counter: no locked instruction is needed. */
void upstream_count(struct endpoint *ep, const struct worker *w, uint32_t n)
{
    _Atomic uint32_t *open = &ep->pools[w->index].open;
    atomic_store_explicit(open, atomic_load_explicit(open, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

uint16_t upstream_reason_of(int why)
{
    switch (why) {
    case ECONNREFUSED:
    case ENOENT: /* the file of a Unix socket: nobody is there */
        return REASON_CONNECT_REFUSED;
    case ETIMEDOUT:
    case EAGAIN: /* a full backlog, for which TCP would wait until its time is over */
        return REASON_CONNECT_TIMEOUT;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case EADDRNOTAVAIL: /* no local port left */
        return REASON_SHED_OVERLOAD;
    default:
        return REASON_CONNECT_FAILED;
    }
}

void upstream_start(struct request *req)
{
    struct worker *w = req->worker;
    fb_assert(req->up == NULL);
    fb_assert(req->ep != NULL);
    req->sent_us = loop_now_us(w->loop);
    req->active_us = req->sent_us;
    /* A second try waits twice as long: what was cut once is not cut again by the same number. */
    uint32_t again = req->ticket.attempts > 1 ? fb_min_u32(req->ticket.attempts - 1u, 3) : 0;
    req->timeout_us = request_timeout_us(req) << again;
    req->first_byte_us = 0;
    req->is_first_byte_told = false;
    req->is_censored = false; /* what is told is the last attempt */
    req->head_sent = 0;
    if (req->body)
        req->body->from = 0;
    bool is_tcp = req->protocol == EV_PROTOCOL_TCP;
    if (!is_tcp)
        request_head_finish(req, req->sent_us);
    hedge_arm(req);
    if (!is_tcp && h2u_is_for(req) && body_frame(req, true))
        h2u_start(req);
    else
        start_http1(req, NULL);
}

void upstream_start_http1(struct request *req, const struct link *ready)
{
    fb_assert(req->up == NULL);
    req->head_sent = 0;
    req->restarts++;
    req->sent_us = req->active_us = loop_now_us(req->worker->loop);
    start_http1(req, ready);
}

static void start_http1(struct request *req, const struct link *ready)
{
    struct worker *w = req->worker;
    bool is_tcp = req->protocol == EV_PROTOCOL_TCP;
    if (!is_tcp && !body_frame(req, false)) {
        if (ready) {
            tls_free(ready->tls, false);
            close(ready->fd);
        }
        forward_failed(req, REASON_SHED_OVERLOAD, GATE_CONNECT_FAILED);
        return;
    }
    struct upstream *up = NULL;
    if (!is_tcp && !ready)
        up = pool_take(w, req->ep, request_pool_key(req));
    req->is_reused = up != NULL;
    if (up) {
        up->req = req;
        req->up = up;
        req->phase = REQUEST_AWAITING;
        request_arm(req);
        if (!upstream_send_later(up))
            upstream_send(up);
        if (up->is_broken) /* nobody has read from it since it was freed: it was stale */
            lost(up, req);
        return;
    }
    up = connect_new(req, ready);
    if (!up)
        return;
    req->phase = up->phase == UPSTREAM_CONNECTING || is_tcp ? REQUEST_CONNECTING : REQUEST_AWAITING;
    request_arm(req);
}

void upstream_on_ready(struct loop_handle *h, uint32_t events)
{
    struct upstream *up = FB_CONTAINER(h, struct upstream, handle);
    if (events & LOOP_READ)
        up->can_read = true;
    if (events & LOOP_WRITE)
        up->can_write = true;
    if (events & LOOP_END)
        up->has_ended = true;
    if (events & LOOP_ERROR)
        up->is_broken = true;
    if (up->phase == UPSTREAM_IDLE) {
        /* it closed, or speaks without being asked; TLS may hand out a session at any time */
        if ((events & ~(uint32_t)LOOP_WRITE) && !upstream_is_quiet(up))
            upstream_close(up);
        return;
    }
    if (up->link.tls && (events & LOOP_WRITE))
        tls_flush(up->link.tls);
    upstream_run(up);
}

void upstream_run(struct upstream *up)
{
    struct request *req = up->req;
    fb_assert(req != NULL);
    if (up->kind == UPSTREAM_H2) {
        h2u_run(up);
        return;
    }
    if (up->again.is_queued)
        return;
    struct client *c = request_waiter(req);
    run(up, req);
    if (c && !c->is_send_due) /* the request is still there, and so is its client */
        client_run(c);
}

void upstream_send_now(struct upstream *up)
{
    struct request *req = up->req;
    struct client *c = request_waiter(req);
    upstream_send(up);
    /* what was sent made room for more of the body, and no event will say so: what is to come may
     * lie in the client's socket already */
    bool is_due = up->is_broken || !req->is_in_done;
    if (up->is_broken)
        lost(up, req); /* nobody has read from it since it was freed: it was stale */
    if (c && is_due)
        client_run(c);
}

void upstream_send(struct upstream *up)
{
    struct request *req = up->req;
    if (up->kind == UPSTREAM_H2) {
        h2u_send(up);
        return;
    }
    if (up->owes_proxy && up->can_write) {
        up->owes_proxy = false;
        up->is_broken |= !proxied_write(up->handle.fd, req, request_conf(req)->proxy_version);
    }
    while (up->can_write && !up->is_broken) {
        struct iovec iov[2];
        int count = 0;
        size_t head_left = req->head->to - req->head_sent;
        struct span body = chunk_span(req->body);
        if (head_left)
            iov[count++] = (struct iovec){req->head->at + req->head_sent, head_left};
        if (body.len)
            iov[count++] = (struct iovec){(void *)(uintptr_t)body.at, body.len};
        if (count == 0)
            return;
        ssize_t n = link_write(&up->link, iov, count);
        if (n < 0) {
            if (errno == EAGAIN)
                up->can_write = false;
            else if (errno != EINTR)
                up->is_broken = true;
            continue;
        }
        size_t sent = (size_t)n, head_part = sent < head_left ? sent : head_left;
        req->head_sent += (uint32_t)head_part;
        if (req->body)
            req->body->from += (uint32_t)(sent - head_part);
        req->active_us = loop_now_us(up->worker->loop);
        if (sent < head_left + body.len)
            up->can_write = false;
    }
}

void upstream_close(struct upstream *up)
{
    struct worker *w = up->worker;
    if (up->kind == UPSTREAM_H2) {
        h2u_close(up);
        return;
    }
    if (up->phase == UPSTREAM_IDLE)
        pool_remove(up);
    send_batch_forget_upstream(up);
    loop_job_cancel(w->loop, &up->again);
    if (up->req)
        up->req->up = NULL;
    link_fini(&up->link, !up->is_broken);
    if (up->handle.fd >= 0) {
        close(up->handle.fd);
        loop_forget(w->loop, &up->handle);
    }
    chunk_give(&w->chunks, up->in);
    chunk_give(&w->chunks, up->out);
    trailers_give(w, up->trailers);
    upstream_count(up->ep, w, UINT32_MAX);
    endpoint_unref(up->ep);
    slab_give(&w->upstreams, up);
}

/* A new connection for <req>, or NULL when it failed already (the request has been told).
 * <ready>: one whose handshake is over; it is used up in any case. */
static struct upstream *connect_new(struct request *req, const struct link *ready)
{
    struct worker *w = req->worker;
    int fd = -1, why = ENOMEM;
    uint64_t pool_key = request_pool_key(req);
    bool is_secure = request_tls(req) != NULL && !ready;
    struct upstream *up = slab_take(&w->upstreams);
    if (up && ready) {
        fd = ready->fd;
        why = 0;
    } else if (up) {
        why = sock_connect(&req->ep->addr, &fd);
    } else if (ready) {
        tls_free(ready->tls, false);
        close(ready->fd);
    }
    if (fd < 0) {
        if (up)
            slab_give(&w->upstreams, up);
        forward_failed(req, blame_connect(w, req->ep, why), GATE_CONNECT_FAILED);
        return NULL;
    }
    *up = (struct upstream){.handle = {.on_ready = upstream_on_ready, .fd = -1},
                            .again = {.on_run = on_again},
                            .worker = w,
                            .link = {.fd = fd},
                            .ep = req->ep,
                            .req = req,
                            .client_key = pool_key,
                            .owes_proxy = request_conf(req)->proxy_version != 0 && !ready,
                            .phase = why || is_secure ? UPSTREAM_CONNECTING : UPSTREAM_BUSY};
    if (ready)
        up->link = *ready;
    atomic_fetch_add_explicit(&req->ep->refs, 1, memory_order_relaxed);
    upstream_count(req->ep, w, 1);
    req->up = up;
    if (loop_add(w->loop, &up->handle, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE) != FB_OK) {
        close(fd);
        upstream_close(up);
        forward_failed(req, REASON_SHED_OVERLOAD, GATE_CONNECT_FAILED);
        return NULL;
    }
    return up;
}

static void run(struct upstream *up, struct request *req)
{
    if (up->phase == UPSTREAM_CONNECTING && !finish_connect(up, req))
        return;
    if (req->protocol == EV_PROTOCOL_TCP && req->phase != REQUEST_TUNNEL)
        tcp_connected(req);
    if (req->phase == REQUEST_TUNNEL) {
        tunnel_run(req);
        return;
    }
    if (up->can_write)
        upstream_send(up);
    for (int reads = 0; up->can_read && !(req->client && req->client->out); reads++) {
        if (reads == READS_PER_TURN) {
            loop_defer(up->worker->loop, &up->again);
            return;
        }
        if (!read_some(up, req))
            return;    /* the connection is not ours any more */
        req = up->req; /* a copy may have changed places with its first */
        if (req->phase == REQUEST_TUNNEL)
            return;
    }
    if (up->is_broken && !up->can_read)
        lost(up, req);
}

static void on_again(struct loop_job *job)
{
    struct upstream *up = FB_CONTAINER(job, struct upstream, again);
    if (up->req)
        upstream_run(up);
}

static bool finish_connect(struct upstream *up, struct request *req)
{
    if (!up->can_write && !up->is_broken && !up->has_ended)
        return false;
    int why = sock_error(up->handle.fd);
    if (why == 0 && !up->can_write)
        return false;
    if (why && !up->link.tls) {
        upstream_close(up);
        forward_failed(req, upstream_reason_of(why), GATE_CONNECT_FAILED);
        return false;
    }
    if (request_tls(req)) { /* a reset may follow an alert that says why */
        uint16_t reason;
        enum tls_step step = upstream_secure(up, &reason);
        if (step == TLS_WAIT && !why)
            return false;
        if (step == TLS_WAIT)
            step = TLS_FAILED;
        if (step == TLS_FAILED) {
            up->is_broken = true;
            upstream_close(up);
            forward_failed(req, reason, GATE_CONNECT_FAILED);
            return false;
        }
    }
    up->phase = UPSTREAM_BUSY;
    req->phase = REQUEST_AWAITING;
    req->sent_us = req->active_us = loop_now_us(up->worker->loop);
    request_arm(req);
    return true;
}

/* One read; false when <up> is gone or back in the pool. */
static bool read_some(struct upstream *up, struct request *req)
{
    struct worker *w = up->worker;
    if (splice_fits(up, req)) {
        switch (splice_run(up, req)) {
        case SPLICE_WAITS:
        case SPLICE_MOVED:
            return true;
        case SPLICE_LAST:
            relay_finish(up, req);
            return false;
        case SPLICE_REFUSED:
            break;
        }
    }
    /* A client that has kept us waiting in this answer gets small pieces, which bounds what waits
     * for it; for the others 64 KiB per read cost a quarter less CPU than 16 KiB (64 KiB bodies,
     * doc/design/gateway.md). */
    bool is_slow = req->client && req->client->blocked_us > 0;
    size_t room = is_slow ? CHUNK_BODY_BYTES : w->in_bytes;
    if (!up->has_bytes)
        room = splice_first_read(up, room);
    ssize_t n = link_recv(&up->link, w->in, room);
    if (n <= 0) {
        if (n < 0 && errno == EINTR)
            return true;
        up->can_read = false;
        if (n < 0 && errno == EAGAIN)
            return true;
        up->is_broken = n < 0;
        lost(up, req);
        return false;
    }
    if ((size_t)n < room && !up->has_ended && !up->is_broken)
        up->can_read = false; /* a short read: the next bytes come with the next event */
    req->active_us = loop_now_us(w->loop);
    up->has_bytes = true;
    struct span bytes = {w->in, (size_t)n};
    if (up->has_head)
        return relay_body(up, req, (struct span){NULL, 0}, bytes);
    return relay_head(up, req, bytes);
}

/* The connection ended or broke while a request was on it. */
static void lost(struct upstream *up, struct request *req)
{
    if (up->has_head && !up->is_broken && http1_body_end(&up->body) == HTTP1_DONE) {
        up->is_keep_alive = false;
        relay_end(up, req);
        return;
    }
    bool starts_over = may_start_over(up, req);
    bool is_cut = up->has_head;
    uint16_t blame = is_cut ? REASON_NONE : blame_end(&up->link, chunk_span(up->in), false);
    if (blame)
        blame_say(up->worker, up->ep, &up->link, blame);
    upstream_close(up);
    if (starts_over) {
        /* The endpoint closed a free connection just when we took it: not its failure, and no
         * retry. */
        req->head_sent = 0;
        if (req->body)
            req->body->from = 0;
        req->is_reused = false;
        req->sent_us = loop_now_us(req->worker->loop);
        up = connect_new(req, NULL);
        if (up) {
            req->phase = REQUEST_CONNECTING;
            request_arm(req);
        }
        return;
    }
    if (blame) /* nobody worked on it */
        forward_failed(req, blame, req->is_replayable ? GATE_CONNECT_FAILED : GATE_FAILED);
    else
        forward_failed(req, is_cut ? REASON_UPSTREAM_CUT : REASON_UPSTREAM_RESET, GATE_FAILED);
}

/* Sent on a kept connection, nothing came back, and sending it twice is harmless or it was never
 * sent. */
static bool may_start_over(const struct upstream *up, const struct request *req)
{
    bool is_alone = !request_waiter(req) && !req->is_own;
    if (!up->is_reused || up->has_bytes || is_alone || req->is_answered)
        return false;
    if (req->head_sent == 0)
        return true;
    return req->ticket.is_idempotent && req->is_replayable;
}
