/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel: after 101 both connections carry bytes that are not ours to understand (WebSocket).
 *
 * Each direction: read while the other side takes what it was given; an end is passed on as an end.
 */
#include "base/assert.h"
#include "gateway/gateway_int.h"

#include <errno.h>
#include <sys/uio.h>

static bool from_client(struct request *req);
static bool from_stream(struct request *req);
static bool end_in(struct request *req);
static bool from_upstream(struct request *req);
static bool in_bulk(struct request *req);
static bool out_bulk(struct request *req);
static bool flush(struct request *req);
static bool rests(struct request *req, uint32_t reads);
static void end(struct request *req, uint16_t reason);

void tunnel_begin(struct request *req)
{
    req->phase = REQUEST_TUNNEL;
    req->is_stream = true;
    req->is_keep_alive = false;
    if (!req->is_first_byte_told)
        service_first_byte(req);
    /* A tunnel lasts for hours: it is not one unit of work, and must not hold a slot of the limit.
     */
    service_done(req, GATE_OK);
    request_arm(req);
    struct client *c = req->client;
    if (c->in) { /* sent behind the request without waiting for the 101 */
        if (c->kind == CLIENT_H2)
            return; /* tunnel_run takes it */
        req->up->out = c->in;
        c->in = NULL;
    }
}

void tunnel_run(struct request *req)
{
    struct client *c = req->client;
    struct upstream *up = req->up;
    fb_assert(c != NULL);
    bool had_its_turn = up->again.is_queued;
    bool goes_on = flush(req) && (had_its_turn || (from_client(req) && from_upstream(req)));
    if (!goes_on || c->is_broken || up->is_broken) {
        bool is_cut = c->is_broken || up->is_broken;
        end(req, is_cut                             ? REASON_TUNNEL_CUT
                 : req->protocol == EV_PROTOCOL_TCP ? REASON_TCP_ENDED
                                                    : REASON_UPGRADED);
        return;
    }
    if (c->out)
        client_wait(c);
}

/* What the endpoint has not taken yet. */
static bool flush(struct request *req)
{
    struct upstream *up = req->up;
    if (up->kind == UPSTREAM_H2) { /* its frames are made from <out> when there is room */
        if (up->out)
            h2u_send(up);
        return true;
    }
    while (up->out && up->can_write) {
        struct span rest = chunk_span(up->out);
        struct iovec iov = {(void *)(uintptr_t)rest.at, rest.len};
        ssize_t n = link_write(&up->link, &iov, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            up->can_write = false;
            return errno == EAGAIN;
        }
        up->out->from += (uint32_t)n;
        if ((size_t)n == rest.len) {
            chunk_give(&up->worker->chunks, up->out);
            up->out = NULL;
        } else {
            up->can_write = false;
        }
    }
    return true;
}

static bool from_client(struct request *req)
{
    struct client *c = req->client;
    struct upstream *up = req->up;
    struct worker *w = req->worker;
    if (c->kind == CLIENT_H2)
        return from_stream(req);
    for (uint32_t reads = 0; c->can_read && !up->out; reads++) {
        if (rests(req, reads))
            return true;
        if (req->is_in_bulk && up->can_write && in_bulk(req))
            continue;
        ssize_t n = link_recv(&c->link, w->in, CHUNK_BODY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            c->can_read = false;
            return true;
        }
        if (n < 0)
            return false;
        if (n == 0) {
            c->can_read = false;
            return end_in(req);
        }
        req->active_us = loop_now_us(w->loop);
        req->received_bytes += (uint64_t)n;
        if (n < CHUNK_BODY_BYTES && !c->has_ended)
            c->can_read = false;
        req->is_in_bulk = n == CHUNK_BODY_BYTES && tcp_splice_fits(req, &c->link, &up->link);
        if (!chunk_append(&w->chunks, &up->out, (struct span){w->in, (size_t)n}) || !flush(req))
            return false;
    }
    return true;
}

/* True after <reads> of one direction in a row: the thread's other connections come first.  What a
 * stream of HTTP/2 may send or take is bounded by its window. */
static bool rests(struct request *req, uint32_t reads)
{
    if (reads < READS_PER_TURN || req->up->kind == UPSTREAM_H2)
        return false;
    loop_defer(req->worker->loop, &req->up->again);
    return true;
}

/* One step without a copy; false: the next bytes go the ordinary way. */
static bool in_bulk(struct request *req)
{
    struct client *c = req->client;
    struct upstream *up = req->up;
    struct tcp_moved moved;
    enum splice_step step = tcp_splice(req->worker, c->link.fd, up->link.fd, &moved);
    req->is_in_bulk = step == SPLICE_MOVED && moved.bytes >= CHUNK_BODY_BYTES && !moved.rest.len;
    if (step == SPLICE_WAITS)
        c->can_read = false;
    if (step != SPLICE_MOVED)
        return step == SPLICE_WAITS;
    req->active_us = loop_now_us(req->worker->loop);
    req->received_bytes += moved.bytes + moved.rest.len;
    if (moved.rest.len) {
        up->can_write = false;
        if (!chunk_append(&req->worker->chunks, &up->out, moved.rest))
            up->is_broken = true;
    }
    up->is_broken |= moved.is_broken;
    return true;
}

static bool out_bulk(struct request *req)
{
    struct client *c = req->client;
    struct upstream *up = req->up;
    struct tcp_moved moved;
    enum splice_step step = tcp_splice(req->worker, up->link.fd, c->link.fd, &moved);
    req->is_out_bulk = step == SPLICE_MOVED && moved.bytes >= CHUNK_BODY_BYTES && !moved.rest.len;
    if (step == SPLICE_WAITS)
        up->can_read = false;
    if (step != SPLICE_MOVED)
        return step == SPLICE_WAITS;
    req->active_us = loop_now_us(req->worker->loop);
    req->sent_bytes += moved.bytes;
    c->written_bytes += moved.bytes;
    if (moved.rest.len) {
        struct iovec iov = {(void *)(uintptr_t)moved.rest.at, moved.rest.len};
        c->can_write = false;
        client_send(c, &iov, 1);
    }
    c->is_broken |= moved.is_broken;
    return true;
}

/* The same for a stream (RFC 8441): its bytes are here already, as many as its window allows. */
static bool from_stream(struct request *req)
{
    struct client *c = req->client;
    struct upstream *up = req->up;
    if (!up->out && c->in) {
        up->out = h2_stream_take(c);
        req->active_us = loop_now_us(req->worker->loop);
        if (!flush(req))
            return false;
    }
    if (up->out || req->is_in_ended || !h2_stream_has_ended(c))
        return true;
    return end_in(req);
}

/* The client sends nothing more. */
static bool end_in(struct request *req)
{
    req->is_in_ended = true;
    if (req->up->kind == UPSTREAM_H2)
        return h2u_tunnel_end(req);
    link_shutdown(&req->up->link);
    return !req->is_up_ended;
}

static bool from_upstream(struct request *req)
{
    struct client *c = req->client;
    struct upstream *up = req->up;
    struct worker *w = req->worker;
    if (up->kind == UPSTREAM_H2)
        return h2u_tunnel_read(req);
    for (uint32_t reads = 0; up->can_read && !c->out; reads++) {
        if (rests(req, reads))
            return true;
        if (req->is_out_bulk && c->can_write && out_bulk(req)) {
            if (c->is_broken)
                return false;
            continue;
        }
        ssize_t n = link_recv(&up->link, w->in, CHUNK_BODY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            up->can_read = false;
            return true;
        }
        if (n < 0)
            return false;
        if (n == 0) {
            up->can_read = false;
            req->is_up_ended = true;
            client_end_send(c);
            return !req->is_in_ended;
        }
        req->active_us = loop_now_us(w->loop);
        if (n < CHUNK_BODY_BYTES && !up->has_ended)
            up->can_read = false;
        req->is_out_bulk = n == CHUNK_BODY_BYTES && tcp_splice_fits(req, &up->link, &c->link);
        struct iovec iov = {w->in, (size_t)n};
        client_send(c, &iov, 1);
        if (c->is_broken)
            return false;
    }
    return true;
}

static void end(struct request *req, uint16_t reason)
{
    /* An endpoint that resets before its first byte is not there, whoever took the connection. */
    bool is_failed = req->up->is_broken && req->sent_bytes == 0;
    upstream_close(req->up);
    if (req->is_ticket_live)
        service_done(req, is_failed ? GATE_FAILED : GATE_OK);
    req->is_failed |= is_failed;
    req->phase = REQUEST_OVER;
    req->is_out_done = true;
    req->reason = reason;
    req->client->is_cut = true;
}
