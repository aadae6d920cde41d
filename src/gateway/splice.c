/* SPDX-License-Identifier: Apache-2.0 */
/* splice: the rest of a large answer goes from socket to socket through a pipe, and its bytes never
 * through our memory.
 *
 * Only where nobody looks at them: both sides in the clear, Content-Length known on both, no copy
 * kept.  The pipe is empty between two calls: what the client's socket does not take at once is
 * read out of it and waits as every other answer does, and the rest of that answer goes the
 * ordinary way, because then the client is the slow part and not our CPU. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

/* Below this two splice calls cost more than recv and send (measured: doc/design/gateway.md). */
#define SPLICE_MIN_BYTES (16 * KIB)
/* Of the first bytes of an answer this much is read where answers were large before: the head and
 * little else, so that the rest can be spliced. */
#define FIRST_READ_BYTES (4 * KIB)
#define LARGE_SEEN 4

static void drop(struct worker *w, size_t bytes);

bool splice_fits(const struct upstream *up, const struct request *req)
{
    const struct client *c = req->client;
    return up->has_head && up->body.left >= SPLICE_MIN_BYTES &&
           up->body.framing == HTTP1_BODY_LENGTH && up->kind == UPSTREAM_H1 && !up->link.tls && c &&
           c->kind == CLIENT_H1 && !c->link.tls && !c->out && c->can_write && c->blocked_us == 0 &&
           req->framing_out == HTTP1_BODY_LENGTH && !req->is_kept;
}

size_t splice_first_read(const struct upstream *up, size_t room)
{
    const struct pool *p = &up->ep->pools[up->worker->index];
    return p->large_seen >= LARGE_SEEN && !up->link.tls && FIRST_READ_BYTES < room
               ? FIRST_READ_BYTES
               : room;
}

void splice_learn(struct upstream *up, const struct http1_head *head)
{
    struct pool *p = &up->ep->pools[up->worker->index];
    bool is_large = head->framing == HTTP1_BODY_LENGTH && head->body_bytes >= 2 * SPLICE_MIN_BYTES;
    if (is_large && p->large_seen < 2 * LARGE_SEEN)
        p->large_seen++;
    else if (!is_large && p->large_seen > 0)
        p->large_seen--;
}

enum splice_step splice_run(struct upstream *up, struct request *req)
{
    struct worker *w = up->worker;
    struct client *c = req->client;
    if (w->pipe[0] < 0 && !splice_open(w))
        return SPLICE_REFUSED;
    /* One byte more than is owed: if it does not come the socket is empty, and the next request on
     * this connection need not find that out; if it comes the endpoint said more than it announced.
     */
    uint64_t owed = up->body.left;
    size_t want = owed < w->pipe_bytes ? (size_t)owed + 1 : w->pipe_bytes;
    ssize_t n =
        splice(up->link.fd, NULL, w->pipe[1], NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n < 0 && errno == EAGAIN) {
        up->can_read = false;
        return SPLICE_WAITS;
    }
    if (n <= 0)
        return SPLICE_REFUSED; /* recv finds out what it is */
    req->active_us = loop_now_us(w->loop);
    size_t left = (uint64_t)n < owed ? (size_t)n : (size_t)owed, stray = (size_t)n - left;
    bool is_last = http1_body_skip(&up->body, left) == HTTP1_DONE;
    if (is_last)
        up->can_read = false;
    if (stray) /* who knows what it is: as in relay_body */
        up->is_keep_alive = false;
    while (left) {
        ssize_t m =
            splice(w->pipe[0], NULL, c->link.fd, NULL, left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (m < 0 && errno == EINTR)
            continue;
        if (m <= 0) {
            c->is_broken = m == 0 || errno != EAGAIN;
            c->can_write = false;
            break;
        }
        left -= (size_t)m;
        c->written_bytes += (uint64_t)m;
        req->sent_bytes += (uint64_t)m;
    }
    while (left) { /* the pipe is emptied in any case: it is everybody's */
        ssize_t m = read(w->pipe[0], w->in, left < w->in_bytes ? left : w->in_bytes);
        fb_assert(m > 0);
        struct iovec iov = {w->in, (size_t)m};
        client_send(c, &iov, 1);
        left -= (size_t)m;
    }
    if (stray)
        drop(w, stray);
    return is_last ? SPLICE_LAST : SPLICE_MOVED;
}

static void drop(struct worker *w, size_t bytes)
{
    fb_assert(bytes <= w->in_bytes);
    ssize_t n = read(w->pipe[0], w->in, bytes);
    fb_assert(n == (ssize_t)bytes);
}

bool splice_open(struct worker *w)
{
    if (w->pipe_bytes == 0 || pipe2(w->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        w->pipe[0] = w->pipe[1] = -1;
        return false;
    }
    int size = fcntl(w->pipe[1], F_SETPIPE_SZ, (int)w->in_bytes);
    if (size <= 0)
        size = fcntl(w->pipe[1], F_GETPIPE_SZ);
    w->pipe_bytes = size > 0 ? (size_t)size : 4096;
    return true;
}
