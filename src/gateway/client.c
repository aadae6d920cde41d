/* SPDX-License-Identifier: Apache-2.0 */
/* client: one connection of a client: heads in, answers out, one request at a time, in order.
 *
 *   idle --bytes--> head --complete--> request in hand --answer written--> idle ... --> closing -->
 * lingering
 *
 * An idle connection owns no buffer.  All its waits share one timer that looks, when it comes up,
 * at what is waited for now. */
#include "base/assert.h"
#include "gateway/cache.h"
#include "proto/h2.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* After an answer that ends the connection early, unread bytes are read for this long: a reset
 * would make the client lose the answer (RFC 9112 section 9.6). */
#define LINGER_US (2 * US_PER_S)
/* A client that says nothing for this long may not do so for a minute: what its connection can do
 * without is given up (tls_rest). */
#define REST_US US_PER_S
/* About what that is. */
#define TLS_REST_BYTES (13 * KIB)
/* Rates are judged this often. */
#define RATE_STEP_US (250 * US_PER_MS)
/* An answer that waits this long for its reader gives the endpoint's slot back: else a few hundred
 * slow readers hold all of them (test/fault/test_attacks.py). */
#define READER_PATIENCE_US (200 * US_PER_MS)

static void on_ready(struct loop_handle *h, uint32_t events);
static void on_timer(struct loop_timer *t);
static void run(struct client *c);
static bool secure(struct client *c);
static bool step(struct client *c);
static bool step_request(struct client *c, struct request *req);
static bool rest(struct client *c);
static bool is_last(const struct client *c);
static bool flush(struct client *c);
static bool is_slow_reader(struct client *c, uint64_t blocked_us);
static uint64_t delivered(const struct client *c);
static bool read_head(struct client *c);
static bool parse_head(struct client *c, struct span bytes);
static bool takes_preface(struct client *c, struct span bytes);
static bool keep_rest(struct client *c, struct span bytes);
static void end_request(struct client *c);
static bool is_gone(struct client *c);
static void shut(struct client *c);
static void linger(struct client *c);

void client_accept(struct listener *l, int fd, const struct sock_addr *peer)
{
    struct worker *w = l->worker;
    uint64_t now_us = loop_now_us(w->loop);
    if (!proxied_is_trusted(l->conf, peer)) {
        report_refused(w, REASON_PROXY_UNTRUSTED, 0, now_us, 0);
        close(fd);
        return;
    }
    struct client *c = slab_take(&w->clients);
    if (!c) {
        close(fd);
        return;
    }
    *c = (struct client){.handle = {.on_ready = on_ready, .fd = -1},
                         .timer = {.on_due = on_timer},
                         .worker = w,
                         .link = {.fd = fd},
                         .next = w->client_list,
                         .prev = &w->client_list,
                         .peer = *peer,
                         .since_us = now_us,
                         .listener = l,
                         .kind = l->conf->is_tcp ? CLIENT_TCP : CLIENT_H1,
                         .awaits_proxy = l->conf->is_proxied,
                         .can_write = true,
                         .is_first = true};
    if (loop_add(w->loop, &c->handle, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE) != FB_OK) {
        close(fd);
        slab_give(&w->clients, c);
        return;
    }
    if (c->next)
        c->next->prev = &c->next;
    w->client_list = c;
    w->client_count++;
    w->connections_total++;
    listener_joined(c);
    client_wait(c);
    if (!c->awaits_proxy && !secure(c))
        return;
    uint32_t most = w->gen->conf->p.limits_connections;
    if (most && w->client_count > (most + w->gw->thread_count - 1) / w->gw->thread_count) {
        c->awaits_proxy = false;
        report_refused(w, REASON_SHED_OVERLOAD, c->kind == CLIENT_TCP ? 0 : 503, now_us, 0);
        bool is_secure = l->tls != NULL;
        if (c->handshake)
            handshake_fail(c, TLS_FAULT_BUSY);
        if (c->kind == CLIENT_TCP || is_secure) { /* saying why would cost more than serving it */
            client_close(c);
            return;
        }
        answer_raw(c, REASON_SHED_OVERLOAD, false);
        run(c);
    }
}

/* TLS begins where the listener has it; false: the client is gone. */
static bool secure(struct client *c)
{
    struct tls_server *tls = c->listener->tls;
    if (!tls || handshake_begin(c, tls))
        return true;
    client_close(c);
    return false;
}

void client_run(struct client *c)
{
    if (c->is_running) /* the caller of the caller is in it and goes on after us */
        return;
    if (c->kind == CLIENT_H2)
        h2_stream_run(c);
    else
        run(c);
}

void client_send(struct client *c, struct iovec *iov, int count)
{
    struct worker *w = c->worker;
    size_t total = 0, sent = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (c->is_broken)
        return;
    if (c->kind == CLIENT_H2) {
        h2_stream_send(c, iov, count);
        return;
    }
    if (!c->out && c->can_write) {
        ssize_t n = link_write(&c->link, iov, count);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            c->is_broken = true;
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
        c->written_bytes += sent;
        if (sent < total)
            c->can_write = false;
    }
    if (c->req)
        c->req->sent_bytes += total;
    if (sent == total)
        return;
    if (!c->out) {
        c->since_us = loop_now_us(w->loop);
        if (c->blocked_us == 0)
            c->read_from_bytes = delivered(c);
    }
    size_t skip = sent;
    for (int i = 0; i < count; i++) {
        size_t part = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        skip -= part;
        struct span rest = {(const char *)iov[i].iov_base + part, iov[i].iov_len - part};
        if (rest.len && !chunk_append(&w->chunks, &c->out, rest)) {
            c->is_broken = true;
            return;
        }
    }
    client_wait(c);
}

void client_close(struct client *c)
{
    struct worker *w = c->worker;
    fb_assert(c->req == NULL);
    fb_assert(c->kind != CLIENT_H2);
    if (c->h2)
        h2_conn_close(c);
    if (c->handshake)
        handshake_fail(c, TLS_FAULT_CLOSED);
    link_fini(&c->link, !c->out && !c->is_broken && !c->is_cut);
    if (c->out) { /* a plain close would go on delivering for as long as the slow reader likes */
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(c->handle.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    send_batch_forget_client(c);
    close(c->handle.fd);
    loop_forget(w->loop, &c->handle);
    loop_timer_stop(w->loop, &c->timer);
    chunk_give(&w->chunks, c->in);
    chunk_give(&w->chunks, c->out);
    chunk_give(&w->chunks, c->proxied);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    w->client_count--;
    listener_left(c);
    slab_give(&w->clients, c);
}

void client_gone(struct client *c)
{
    struct request *req = c->req;
    c->req = NULL;
    if (req)
        request_detach(req);
    client_close(c);
}

void client_wait(struct client *c)
{
    const struct request *req = c->req;
    const struct conf_params *p = &(req ? req->gen : c->worker->gen)->conf->p;
    uint64_t now_us = loop_now_us(c->worker->loop), due_us;
    if (c->kind == CLIENT_H2) {
        h2_stream_wait(c);
        return;
    }
    if (c->h2) {
        h2_conn_wait(c);
        return;
    }
    if (c->is_send_due)
        return; /* run again before this turn ends */
    if (c->is_lingering)
        due_us = c->since_us + LINGER_US;
    else if (c->out && c->kind == CLIENT_TCP)
        return; /* who reads from a database row by row may rest: the idle timeout runs */
    else if (c->out)
        due_us =
            fb_min_u64(c->since_us + p->limits_write_timeout * US_PER_MS, now_us + RATE_STEP_US);
    else if (!req && !c->in)
        due_us = fb_min_u64(client_rest_us(c, c->since_us),
                            c->since_us +
                                (c->is_first ? p->limits_header_timeout : p->limits_idle_timeout) *
                                    US_PER_MS);
    else if (!req)
        due_us = c->since_us + p->limits_header_timeout * US_PER_MS;
    else if (req->body_since_us)
        due_us = fb_min_u64(req->body_since_us + p->limits_body_timeout * US_PER_MS,
                            now_us + RATE_STEP_US);
    else
        return; /* the endpoint's turn: the request's own timer runs */
    loop_timer_set(c->worker->loop, &c->timer, due_us);
}

uint64_t client_rest_us(const struct client *c, uint64_t since_us)
{
    return c->link.tls && !c->handshake && !c->is_rested ? since_us + REST_US : UINT64_MAX;
}

bool client_rest(struct client *c, uint64_t since_us)
{
    if (client_rest_us(c, since_us) > loop_now_us(c->worker->loop))
        return false;
    c->is_rested = true;
    if (link_rest(&c->link))
        c->worker->rested_bytes += TLS_REST_BYTES;
    return true;
}

void client_end_send(struct client *c)
{
    if (c->kind == CLIENT_H2)
        h2_stream_finish(c);
    else
        link_shutdown(&c->link);
}

static void on_ready(struct loop_handle *h, uint32_t events)
{
    struct client *c = FB_CONTAINER(h, struct client, handle);
    if (events & LOOP_READ)
        c->can_read = true;
    if (events & LOOP_WRITE)
        c->can_write = true;
    if (events & LOOP_END)
        c->has_ended = true;
    if (events & LOOP_ERROR)
        c->is_broken = true;
    if (c->handshake) {
        handshake_ready(c);
        return;
    }
    if (c->link.tls && (events & LOOP_WRITE))
        tls_flush(c->link.tls);
    run(c);
}

static void run(struct client *c)
{
    c->is_running = true;
    while (step(c))
        ;
}

/* One step forward.  False: it waits, or it is gone (then nothing of it may be touched). */
static bool step(struct client *c)
{
    struct request *req = c->req;
    if (c->is_broken || (c->is_cut && !c->out)) {
        client_gone(c);
        return false;
    }
    if (c->awaits_proxy) {
        if (!proxied_read(c) || !secure(c))
            return false;
        if (!c->handshake)
            return true;
        handshake_ready(c);
        return rest(c);
    }
    if (c->is_lingering) {
        linger(c);
        return false;
    }
    if (c->h2)
        return h2_conn_step(c);
    if (c->is_send_due)
        return rest(c);
    if (c->out && !flush(c))
        return c->is_broken || rest(c);
    if (!req && c->kind == CLIENT_TCP)
        return tcp_begin(c);
    if (!req) {
        if (c->is_closing) {
            shut(c);
            return false;
        }
        return read_head(c);
    }
    return step_request(c, req);
}

static bool step_request(struct client *c, struct request *req)
{
    if (req->phase == REQUEST_TUNNEL) {
        tunnel_run(req);
        return c->is_broken || c->is_cut || rest(c);
    }
    if (!req->is_in_done && req->is_out_done && req->is_keep_alive && !req->is_discarding) {
        req->is_discarding = true;
        req->discard_to_bytes = req->in.payload_bytes + BODY_DROP_MAX_BYTES;
    }
    if (!req->is_in_done) {
        uint16_t was_phase = req->phase;
        body_pump(req);
        if (c->is_broken || req->phase != was_phase)
            return true;
        if (req->up && req->up->is_broken && !req->is_out_done) {
            c->is_running = false;
            upstream_run(req->up);
            return false;
        }
    }
    if (req->cw && req->phase == REQUEST_OVER && !req->is_out_done) {
        return cache_more(req) || rest(c);
    }
    if (req->is_out_done && (req->is_in_done || !req->is_keep_alive)) {
        end_request(c);
        return true;
    }
    if (c->has_ended && req->is_in_done && c->kind != CLIENT_TCP && is_gone(c)) {
        c->is_broken = true;
        return true;
    }
    if (req->up && req->up->can_read && req->up->phase == UPSTREAM_BUSY && !req->is_out_done) {
        c->is_running = false;
        upstream_run(req->up); /* it was held back while <out> was full */
        return false;
    }
    return rest(c);
}

/* Until the next event. */
static bool rest(struct client *c)
{
    client_wait(c);
    c->is_running = false;
    return false;
}

/* What <out> holds ends the answer, and the connection closes behind it as shut() does. */
static bool is_last(const struct client *c)
{
    const struct request *req = c->req;
    return req && c->kind == CLIENT_H1 && req->phase == REQUEST_OVER && req->is_out_done &&
           req->is_in_done && !req->is_keep_alive && !c->in && !c->can_read;
}

/* True when everything is out. */
static bool flush(struct client *c)
{
    struct worker *w = c->worker;
    if (is_last(c))
        link_end_next(&c->link);
    while (c->can_write) {
        struct span rest = chunk_span(c->out);
        struct iovec iov = {(void *)(uintptr_t)rest.at, rest.len};
        ssize_t n = link_write(&c->link, &iov, 1);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            c->can_write = false;
            c->is_broken = errno != EAGAIN;
            return false;
        }
        uint64_t now_us = loop_now_us(w->loop);
        c->blocked_us += fb_sub_floor_u64(now_us, c->since_us);
        c->written_bytes += (uint64_t)n;
        c->since_us = now_us;
        c->out->from += (uint32_t)n;
        if ((size_t)n == rest.len) {
            chunk_give(&w->chunks, c->out);
            c->out = NULL;
            if (c->req)
                c->req->active_us = now_us; /* the endpoint was held back meanwhile */
            return true;
        }
        c->can_write = false;
        if (c->blocked_us == 0)
            c->read_from_bytes = delivered(c);
        client_release_slot(c, c->blocked_us);
        if (is_slow_reader(c, c->blocked_us)) {
            c->is_broken = true;
            return false;
        }
    }
    return false;
}

/* What the client's kernel has acknowledged of all that was written: megabytes can wait in our own.
 */
static uint64_t delivered(const struct client *c)
{
    int waiting = 0;
    if (ioctl(c->handle.fd, SIOCOUTQ, &waiting) < 0 || waiting < 0)
        waiting = 0;
    return fb_sub_floor_u64(c->written_bytes, (uint64_t)waiting);
}

void client_release_slot(struct client *c, uint64_t blocked_us)
{
    struct request *req = c->req;
    if (req && req->phase == REQUEST_ANSWERING && req->is_ticket_live && req->outcome == GATE_OK &&
        blocked_us >= READER_PATIENCE_US)
        service_done(req, GATE_RELEASED);
}

/* The mean rate over the time in which we waited for it to read. */
static bool is_slow_reader(struct client *c, uint64_t blocked_us)
{
    const struct conf_params *p = &(c->req ? c->req->gen : c->worker->gen)->conf->p;
    if (c->kind == CLIENT_TCP || blocked_us <= 2 * p->limits_min_rate_grace * US_PER_MS)
        return false;
    uint64_t read_bytes = fb_sub_floor_u64(delivered(c), c->read_from_bytes);
    if (read_bytes * US_PER_S / blocked_us >= p->limits_min_rate)
        return false;
    if (c->req)
        c->req->reason = REASON_READER_TOO_SLOW;
    return true;
}

/* Reads towards the next head; true when there may be more to do. */
static bool read_head(struct client *c)
{
    struct worker *w = c->worker;
    if (c->in && !c->is_parsed) {
        c->is_parsed = true;
        return parse_head(c, chunk_span(c->in));
    }
    while (c->can_read) {
        ssize_t n = link_recv(&c->link, w->in, CHUNK_BODY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            c->can_read = false;
            break;
        }
        if (n <= 0) { /* the end, or a reset: between requests or inside a head nobody is owed
                         anything */
            client_close(c);
            return false;
        }
        if (n < CHUNK_BODY_BYTES && !c->has_ended)
            c->can_read = false;
        struct span bytes = {w->in, (size_t)n};
        if (!c->in) {
            c->since_us = loop_now_us(w->loop);
            return parse_head(c, bytes);
        }
        if (!chunk_append(&w->chunks, &c->in, bytes)) {
            c->is_broken = true;
            return true;
        }
        const struct conf_params *p = &w->gen->conf->p;
        bool may_be_whole = memchr(bytes.at, '\n', bytes.len) ||
                            chunk_span(c->in).len > p->limits_line_bytes + p->limits_header_bytes;
        /* A head can only be complete, or wrong in its fields, with a line's end: bytes that drip
         * in are not parsed again and again. */
        if (may_be_whole || chunk_span(c->in).len > p->limits_line_bytes)
            return parse_head(c, chunk_span(c->in));
    }
    client_wait(c);
    c->is_running = false;
    return false;
}

static bool parse_head(struct client *c, struct span bytes)
{
    struct worker *w = c->worker;
    if (c->is_first && bytes.len && (bytes.at[0] == 'P' || c->listener->conf->is_http1_off) &&
        takes_preface(c, bytes))
        return true;
    http1_request_begin(&w->request_parser, &w->gen->limits, w->request_fields);
    enum http1_step is = http1_parse(&w->request_parser, bytes);
    const struct http1_head *head = &w->request_parser.head;
    if (is == HTTP1_MORE) {
        if (!c->in && !chunk_append(&w->chunks, &c->in, bytes))
            c->is_broken = true;
        c->is_parsed = true;
        if (c->can_read)
            return true;
        client_wait(c);
        c->is_running = false;
        return false;
    }
    c->is_first = false;
    c->blocked_us = 0;
    if (is == HTTP1_FAILED) {
        uint16_t reason = answer_reason_of(w->request_parser.error);
        report_refused(w, reason, ev_reason_row(reason)->status, c->since_us, bytes.len);
        answer_raw(c, reason, false);
        return true;
    }
    struct chunk *in = c->in; /* <head> and <rest> may lie in it */
    c->in = NULL;
    struct span rest = {bytes.at + head->head_bytes, bytes.len - head->head_bytes};
    size_t taken = request_begin(c, head, rest);
    rest.at += taken;
    rest.len -= taken;
    bool is_kept = keep_rest(c, rest);
    chunk_give(&w->chunks, in);
    if (!is_kept)
        c->is_broken = true;
    return true;
}

/* HTTP/2 with prior knowledge (RFC 9113 3.3), or nothing else is spoken here.  True when the bytes
 * are all or the beginning of its preface: no method of HTTP/1 is told from it before the fourth
 * byte. */
static bool takes_preface(struct client *c, struct span bytes)
{
    const struct span preface = SPAN(H2_PREFACE);
    struct span seen = {bytes.at, bytes.len < preface.len ? bytes.len : preface.len};
    const struct conf_listen *conf = c->listener->conf;
    if (!conf->is_http1_off && (conf->is_h2_off || seen.len < 4 || !span_starts(preface, seen)))
        return false; /* of fewer bytes the parser wants more too */
    struct chunk *in = c->in;
    c->in = NULL;
    client_begin_h2(c, bytes);
    chunk_give(&c->worker->chunks, in);
    return true;
}

/* Bytes behind a request: the next one, sent without waiting for the answer. */
static bool keep_rest(struct client *c, struct span bytes)
{
    c->is_parsed = false;
    return bytes.len == 0 || chunk_append(&c->worker->chunks, &c->in, bytes);
}

/* The answer is written and the request is read: the connection is idle, or closes. */
static void end_request(struct client *c)
{
    struct request *req = c->req;
    fb_assert(req->phase == REQUEST_OVER);
    if (!req->is_keep_alive)
        c->is_closing = true;
    c->is_whole = req->is_in_done;
    c->req = NULL;
    c->since_us = loop_now_us(c->worker->loop);
    req->end_us = c->since_us;
    request_free(req);
}

/* The client closed: for good, unless it sent more requests before that. */
static bool is_gone(struct client *c)
{
    char byte;
    if (c->in)
        return false;
    ssize_t n = link_peek(&c->link, &byte, 1);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void shut(struct client *c)
{
    /* TLS says goodbye before TCP does: a client that hears it has the whole answer, and nothing
     * that it sends afterwards can cost it that. */
    bool is_said = c->link.tls && c->is_whole && !c->in;
    if (!c->can_read && (c->has_ended || is_said)) {
        client_close(c);
        return;
    }
    link_shutdown(&c->link);
    c->is_lingering = true;
    c->since_us = loop_now_us(c->worker->loop);
    linger(c);
}

static void linger(struct client *c)
{
    struct worker *w = c->worker;
    while (c->can_read) {
        ssize_t n = link_recv(&c->link, w->in, w->in_bytes);
        if (n < 0 && errno == EAGAIN) {
            c->can_read = false;
            break;
        }
        if (n <= 0) {
            client_close(c);
            return;
        }
    }
    client_wait(c);
    c->is_running = false;
}

static void on_timer(struct loop_timer *t)
{
    struct client *c = FB_CONTAINER(t, struct client, timer);
    struct request *req = c->req;
    const struct conf_params *p = &(req ? req->gen : c->worker->gen)->conf->p;
    if (c->h2) {
        h2_conn_timer(c);
        return;
    }
    uint64_t now_us = loop_now_us(c->worker->loop);
    uint64_t wait_us = fb_sub_floor_u64(now_us, c->since_us);
    if (c->is_lingering) {
        if (wait_us >= LINGER_US) {
            client_close(c);
            return;
        }
    } else if (c->out && c->kind != CLIENT_TCP) {
        client_release_slot(c, c->blocked_us + wait_us);
        if (wait_us >= p->limits_write_timeout * US_PER_MS) {
            if (req)
                req->reason = REASON_READER_TOO_SLOW;
            c->is_broken = true;
        } else if (is_slow_reader(c, c->blocked_us + wait_us)) {
            c->is_broken = true;
        }
    } else if (!req && !c->in) {
        uint64_t most_ms = c->is_first ? p->limits_header_timeout : p->limits_idle_timeout;
        if (client_rest(c, c->since_us) && wait_us < most_ms * US_PER_MS) {
            client_wait(c);
            return;
        }
        if (wait_us >= most_ms * US_PER_MS) {
            if (c->handshake)
                handshake_fail(c, TLS_FAULT_TIMEOUT);
            if (c->awaits_proxy)
                proxied_late(c);
            else
                client_close(c);
            return;
        }
    } else if (!req) {
        if (wait_us >= p->limits_header_timeout * US_PER_MS) {
            report_refused(c->worker, REASON_HEADER_TIMEOUT, 408, c->since_us,
                           chunk_span(c->in).len);
            answer_raw(c, REASON_HEADER_TIMEOUT, false);
        }
    } else if (req->body_since_us) {
        body_judge(req, now_us);
    } else {
        return;
    }
    if (c->handshake)
        client_wait(c);
    else
        run(c);
}
