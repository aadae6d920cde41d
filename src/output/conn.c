/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: bytes in, one request at a time, bytes out.  Pipelined requests wait in <in>. */
#include "output/admin_int.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct http1_limits head_limits = {
    .line_bytes = 4096, .header_bytes = 8192, .header_count = CONN_FIELDS_MAX};

static void conn_read(struct conn *c);
static void serve_what_is_there(struct conn *c);
static bool take_request(struct conn *c);
static void settle_head(struct conn *c);
static bool take_body(struct conn *c);
static void refuse(struct conn *c, const char *status_line, const char *text);
static bool send_some(struct conn *c, struct span bytes, size_t *sent);
static void answer_is_sent(struct conn *c);

static void put_source(const struct sock_addr *peer, unsigned char source[AUTH_SOURCE_BYTES])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(source, mapped, sizeof mapped);
    if (peer->any.sa_family == AF_INET) {
        memcpy(source + 12, &peer->v4.sin_addr, 4);
    } else if (peer->any.sa_family == AF_INET6) {
        const unsigned char *at = peer->v6.sin6_addr.s6_addr;
        bool is_v4 = memcmp(at, mapped, sizeof mapped) == 0;
        if (!is_v4) /* who has one address of a network has all of them */
            memset(source, 0, AUTH_SOURCE_BYTES);
        memcpy(source, at, is_v4 ? 16 : 8);
    }
}

bool conn_new(struct admin *a, int fd, const struct sock_addr *peer)
{
    uint32_t slot = 0;
    while (slot < ADMIN_CONNS_MAX && a->conn[slot])
        slot++;
    struct conn *c = slot < ADMIN_CONNS_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return false;
    c->admin = a;
    c->fd = fd;
    c->slot = slot;
    put_source(peer, c->source);
    c->phase = CONN_READ;
    c->last_us = a->now_us;
    buf_init(&c->in, CONN_HEAD_MAX_BYTES + CONN_BODY_MAX_BYTES);
    buf_init(&c->body, CONN_BODY_MAX_BYTES);
    buf_init(&c->out, CONN_OUT_MAX_BYTES);
    http1_request_begin(&c->parser, &head_limits, c->fields);
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    if (epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e) != 0) {
        free(c);
        return false;
    }
    a->conn[slot] = c;
    a->conn_count++;
    return true;
}

void conn_close(struct conn *c)
{
    struct admin *a = c->admin;
    fb_assert(a->conn[c->slot] == c);
    close(c->fd); /* also leaves epoll */
    a->conn[c->slot] = NULL;
    a->conn_count--;
    if (c->stream)
        a->stream_count--;
    free(c->stream);
    if (c->waits_for == CONN_WAIT_QUERY)
        a->source.query_drop(a->source.ctx, c->ticket);
    buf_fini(&c->in);
    buf_fini(&c->body);
    buf_fini(&c->out);
    free(c);
}

void conn_on_ready(struct conn *c, uint32_t events)
{
    if (events & (EPOLLERR | EPOLLHUP)) {
        conn_close(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP)) {
        conn_read(c);
        return; /* may have closed it; what can be written is written at once or comes again */
    }
    if (events & EPOLLOUT) {
        if (c->phase == CONN_STREAM && c->out.len == 0)
            stream_pump(c);
        else
            conn_flush(c);
    }
}

static void conn_read(struct conn *c)
{
    char bytes[16384];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    /* A peer that shuts down its half before the answer is complete is rare; it gets none. */
    if (n <= 0) {
        conn_close(c);
        return;
    }
    c->last_us = c->admin->now_us;
    if (c->phase == CONN_STREAM)
        return; /* nothing is expected; dropped */
    buf_put(&c->in, bytes, (size_t)n);
    if (c->in.failed) {
        conn_close(c); /* more than one whole request of the largest kind ahead */
        return;
    }
    serve_what_is_there(c);
}

static void serve_what_is_there(struct conn *c)
{
    if (c->phase == CONN_READ && take_request(c)) {
        c->phase = CONN_WRITE;
        api_serve(c);
        if (c->stream)
            c->phase = CONN_STREAM;
        if (c->waits_for)
            c->phase = CONN_WAIT;
    }
    if (c->phase != CONN_READ && c->phase != CONN_WAIT)
        conn_flush(c);
}

void conn_on_answer(struct conn *c)
{
    if (c->phase != CONN_WAIT)
        return;
    settle_head(c);
    if (!api_resume(c))
        return;
    c->last_us = c->admin->now_us;
    c->phase = CONN_WRITE;
    conn_flush(c);
}

static void begin_body(struct conn *c)
{
    buf_clear(&c->body);
    c->body.max = api_body_max(c->admin, &c->parser.head);
    /* what came early may fill it further than a small body would */
    c->in.max = CONN_HEAD_MAX_BYTES + fb_max_u64(c->body.max, c->in.max - CONN_HEAD_MAX_BYTES);
}

/* True when a whole request is there.  A refusal is in <out>, with the phase WRITE. */
static bool take_request(struct conn *c)
{
    if (!c->is_head_done) {
        enum http1_step step = http1_parse(&c->parser, buf_span(&c->in));
        if (step == HTTP1_FAILED) {
            refuse(c, "HTTP/1.1 400 Bad Request", http1_error_text(c->parser.error));
            c->phase = CONN_WRITE; /* the caller sends it, which may end <c> */
            return false;
        }
        if (step != HTTP1_DONE)
            return false;
        c->is_head_done = true;
        c->head_base = c->in.at;
        c->body_at = c->parser.head.head_bytes;
        begin_body(c);
        http1_body_begin(&c->body_reader, &c->parser.head, NULL);
        if (c->parser.head.expect_continue && c->parser.head.framing != HTTP1_BODY_NONE)
            buf_puts(&c->out, HTTP1_CONTINUE);
    }
    return take_body(c);
}

/* <in> may have moved while the body came, and the head's spans point into it: read it once more.
 */
static void settle_head(struct conn *c)
{
    if (c->in.at == c->head_base)
        return;
    http1_request_begin(&c->parser, &head_limits, c->fields);
    enum http1_step step = http1_parse(&c->parser, buf_span(&c->in));
    fb_assert(step == HTTP1_DONE);
}

static bool take_body(struct conn *c)
{
    for (;;) {
        struct span rest = {c->in.at + c->body_at, c->in.len - c->body_at}, data;
        size_t used = 0;
        enum http1_step step = http1_body_next(&c->body_reader, rest, &data, &used);
        c->body_at += used;
        if (step == HTTP1_DATA)
            buf_put_span(&c->body, data);
        if (step == HTTP1_DONE && !c->body.failed) {
            settle_head(c);
            return true;
        }
        if (step == HTTP1_FAILED || c->body.failed) {
            if (c->body.failed)
                refuse(c, "HTTP/1.1 413 Content Too Large",
                       c->body.max == CONN_BODY_MAX_BYTES ? "the body is larger than 64 KiB"
                                                          : "the body is larger than 1 MiB");
            else
                refuse(c, "HTTP/1.1 400 Bad Request", http1_error_text(c->body_reader.error));
            c->phase = CONN_WRITE; /* the caller sends it, which may end <c> */
            return false;
        }
        if (step == HTTP1_MORE) {
            if (c->out.len > c->out_sent) /* the 100 Continue */
                (void)send_some(c, buf_span(&c->out), &c->out_sent);
            return false;
        }
    }
}

static void refuse(struct conn *c, const char *status_line, const char *text)
{
    buf_clear(&c->out);
    c->out_sent = 0;
    c->is_closing = true;
    buf_printf(&c->out,
               "%s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n"
               "X-Content-Type-Options: nosniff\r\n\r\n%s\n",
               status_line, strlen(text) + 1, text);
}

/* Sends from <*sent> on; false when the connection broke. */
static bool send_some(struct conn *c, struct span bytes, size_t *sent)
{
    while (*sent < bytes.len) {
        ssize_t n = send(c->fd, bytes.at + *sent, bytes.len - *sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        c->last_us = c->admin->now_us;
        *sent += (size_t)n;
    }
    return true;
}

void conn_flush(struct conn *c)
{
    bool is_up = send_some(c, buf_span(&c->out), &c->out_sent);
    if (is_up && c->out_sent == c->out.len)
        is_up = send_some(c, c->tail, &c->tail_sent);
    if (!is_up) {
        conn_close(c);
        return;
    }
    bool is_done = c->out_sent == c->out.len && c->tail_sent == c->tail.len;
    conn_want(c, !is_done);
    if (c->phase == CONN_STREAM) {
        buf_drop_front(&c->out, c->out_sent);
        c->out_sent = 0;
        if (is_done && c->stream->is_over)
            conn_close(c);
        else if (is_done && c->stream->kind == STREAM_EVENTS && !c->stream->is_waiting)
            conn_want(c, true); /* go on reading the log with the next turn of the loop */
        return;
    }
    if (is_done)
        answer_is_sent(c);
}

static void answer_is_sent(struct conn *c)
{
    if (c->is_closing) {
        /* Half close first: a peer that still sends (a refused body) then sees the answer, no
         * reset. */
        shutdown(c->fd, SHUT_WR);
        char drain[4096];
        while (recv(c->fd, drain, sizeof drain, MSG_DONTWAIT) > 0)
            continue;
        conn_close(c);
        return;
    }
    buf_drop_front(&c->in, c->body_at);
    if (c->out.cap > 64 * KIB) { /* a big answer was the exception */
        buf_fini(&c->out);
        buf_init(&c->out, CONN_OUT_MAX_BYTES);
    }
    if (c->body.cap > 64 * KIB) {
        buf_fini(&c->body);
        buf_init(&c->body, CONN_BODY_MAX_BYTES);
    }
    buf_clear(&c->out);
    c->tail = (struct span){NULL, 0};
    c->out_sent = c->tail_sent = c->body_at = 0;
    c->is_head_done = false;
    c->phase = CONN_READ;
    http1_request_begin(&c->parser, &head_limits, c->fields);
    if (c->in.len > 0)
        serve_what_is_there(c); /* pipelined; depth is bounded by <in> / shortest request */
}

void conn_want(struct conn *c, bool write)
{
    if (c->wants_write == write)
        return;
    c->wants_write = write;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    if (write)
        e.events |= EPOLLOUT;
    (void)epoll_ctl(c->admin->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

void conn_check_idle(struct conn *c)
{
    uint64_t quiet_us = fb_sub_floor_u64(c->admin->now_us, c->last_us);
    bool is_midway = c->phase == CONN_WRITE || (c->phase == CONN_READ && c->in.len > 0) ||
                     (c->phase == CONN_STREAM && c->out.len > 0);
    if (quiet_us > (is_midway ? CONN_REQUEST_US : CONN_IDLE_US) &&
        (is_midway || c->phase == CONN_READ))
        conn_close(c);
}
