/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: bytes in, one request at a time, bytes out.  Pipelined requests wait in <in>.
 *
 * A body that is refused is read away for a while after the answer: closing with unread bytes would
 * be a reset, which takes the answer from the peer before it has read it. */
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
static bool take_body(struct conn *c);
static void refuse_head(struct conn *c);
static void refuse_body(struct conn *c, uint16_t status, enum ingest_refused why, const char *text);
static void linger(struct conn *c);
static void drain(struct conn *c);
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
    if (c->phase == CONN_LINGER) {
        drain(c);
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
        if (c->phase == CONN_READ && c->is_head_done)
            api_count_cut(c);
        conn_close(c);
        return;
    }
    c->last_us = c->admin->now_us;
    if (c->phase == CONN_STREAM || c->is_unread)
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
        api_serve(c, NULL);
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
    conn_settle_head(c);
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
    http1_body_begin(&c->body_reader, &c->parser.head, NULL);
}

static void refuse_large(struct conn *c)
{
    refuse_body(c, 413, INGEST_REFUSED_TOO_LARGE,
                c->body.max == CONN_BODY_MAX_BYTES
                    ? "the body is larger than 64 KiB; nothing was taken"
                    : "the body is larger than 1 MiB; nothing was taken, send it in parts");
}

/* What the head alone says: false with a refusal in <out>, before a byte of the body is asked for.
 */
static bool is_body_wanted(struct conn *c)
{
    const struct http1_head *h = &c->parser.head;
    if (h->framing == HTTP1_BODY_LENGTH && h->body_bytes > c->body.max) {
        refuse_large(c);
        return false;
    }
    if (h->expect_continue && h->framing != HTTP1_BODY_NONE) {
        if (!api_may_send(c->admin, h)) { /* waits for 100: need not send in vain */
            refuse_body(c, 401, INGEST_REFUSED_UNAUTHORIZED, "a token is needed");
            return false;
        }
        buf_puts(&c->out, HTTP1_CONTINUE);
    }
    return true;
}

/* True when a whole request is there.  A refusal is in <out>, with the phase WRITE. */
static bool take_request(struct conn *c)
{
    if (!c->is_head_done) {
        enum http1_step step = http1_parse(&c->parser, buf_span(&c->in));
        if (step == HTTP1_FAILED) {
            refuse_head(c);
            return false;
        }
        if (step != HTTP1_DONE)
            return false;
        c->is_head_done = true;
        c->head_base = c->in.at;
        c->body_at = c->parser.head.head_bytes;
        begin_body(c);
        if (!is_body_wanted(c))
            return false;
    }
    return take_body(c);
}

/* <in> may have moved while the body came, and the head's spans point into it: read it once more.
 */
void conn_settle_head(struct conn *c)
{
    if (c->in.at == c->head_base)
        return;
    http1_request_begin(&c->parser, &head_limits, c->fields);
    enum http1_step step = http1_parse(&c->parser, buf_span(&c->in));
    fb_assert(step == HTTP1_DONE);
}

/* What the reader of the body took leaves <in>; the head stays in front. */
static void drop_taken(struct conn *c)
{
    size_t head = c->parser.head.head_bytes;
    if (c->body_at == head)
        return;
    fb_assert(c->body_at > head && c->body_at <= c->in.len);
    memmove(c->in.at + head, c->in.at + c->body_at, c->in.len - c->body_at);
    c->in.len -= c->body_at - head;
    c->body_at = head;
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
            drop_taken(c);
            conn_settle_head(c);
            return true;
        }
        if (c->body.failed) {
            refuse_large(c);
            return false;
        }
        if (step == HTTP1_FAILED) {
            refuse_body(c, 400, INGEST_REFUSED_SYNTAX, http1_error_text(c->body_reader.error));
            return false;
        }
        if (step == HTTP1_MORE) {
            drop_taken(c);
            if (c->out.len > c->out_sent) /* the 100 Continue */
                (void)send_some(c, buf_span(&c->out), &c->out_sent);
            return false;
        }
    }
}

/* Both leave an answer in <out>, phase WRITE; the caller sends it, which may end <c>. */
static void refuse_head(struct conn *c)
{
    const char *text = http1_error_text(c->parser.error);
    const char *status_line = c->parser.error == HTTP1_E_BAD_EXPECT
                                  ? "HTTP/1.1 417 Expectation Failed"
                                  : "HTTP/1.1 400 Bad Request";
    c->is_closing = c->is_unread = true;
    c->phase = CONN_WRITE;
    buf_clear(&c->out);
    c->out_sent = 0;
    buf_printf(&c->out,
               "%s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n"
               "X-Content-Type-Options: nosniff\r\n\r\n%s\n",
               status_line, strlen(text) + 1, text);
}

static void refuse_body(struct conn *c, uint16_t status, enum ingest_refused why, const char *text)
{
    const struct api_refusal refusal = {status, why, text};
    conn_settle_head(c);
    c->is_unread = true;
    c->phase = CONN_WRITE;
    api_serve(c, &refusal);
    fb_assert(!c->stream && !c->waits_for);
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
    if (c->is_closing && c->is_unread) {
        linger(c);
        return;
    }
    if (c->is_closing) {
        shutdown(c->fd, SHUT_WR);
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

/* The peer sees the end of the answer, and what it still sends is read away: at most
 * CONN_LINGER_BYTES in CONN_LINGER_US.  The memory of the request is given back at once. */
static void linger(struct conn *c)
{
    shutdown(c->fd, SHUT_WR);
    c->phase = CONN_LINGER;
    c->linger_until_us = c->admin->now_us + CONN_LINGER_US;
    c->drained_bytes = 0;
    buf_fini(&c->in);
    buf_fini(&c->body);
    buf_fini(&c->out);
    drain(c);
}

static void drain(struct conn *c)
{
    char bytes[16384];
    ssize_t n = 0;
    for (int i = 0; i < 16; i++) { /* 256 KiB of a turn of the loop */
        n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0)
            break;
        c->drained_bytes += (size_t)n;
    }
    bool is_waiting = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
    if (!is_waiting || c->drained_bytes > CONN_LINGER_BYTES)
        conn_close(c);
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
    if (c->phase == CONN_LINGER) {
        if (c->admin->now_us >= c->linger_until_us)
            conn_close(c);
        return;
    }
    if (c->phase == CONN_READ && c->is_head_done && quiet_us > CONN_REQUEST_US) {
        refuse_body(c, 408, INGEST_REFUSED_CUT_OFF,
                    "the body did not go on for 10 s; nothing was taken, send it again");
        conn_flush(c);
        return;
    }
    bool is_midway = c->phase == CONN_WRITE || (c->phase == CONN_READ && c->in.len > 0) ||
                     (c->phase == CONN_STREAM && c->out.len > 0);
    if (quiet_us > (is_midway ? CONN_REQUEST_US : CONN_IDLE_US) &&
        (is_midway || c->phase == CONN_READ))
        conn_close(c);
}
