/* SPDX-License-Identifier: Apache-2.0 */
/* tcp_splice: connections that are passed through, when many bytes come: from socket to socket
 * through a pipe, never through our memory.
 *
 * It begins when a read filled its buffer and ends with the first that does not: a question and its
 * answer cost one recv and one send as before (figures: doc/design/gateway.md). */
#include "base/assert.h"
#include "gateway/gateway_int.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool tcp_splice_fits(const struct request *req, const struct link *from, const struct link *to)
{
    return req->protocol == EV_PROTOCOL_TCP && !from->tls && !to->tls;
}

enum splice_step tcp_splice(struct worker *w, int from, int to, struct tcp_moved *moved)
{
    *moved = (struct tcp_moved){.bytes = 0};
    if (w->pipe[0] < 0 && !splice_open(w))
        return SPLICE_REFUSED;
    ssize_t n =
        splice(from, NULL, w->pipe[1], NULL, w->pipe_bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n < 0 && errno == EAGAIN)
        return SPLICE_WAITS;
    if (n <= 0)
        return SPLICE_REFUSED; /* recv finds out what it is */
    size_t left = (size_t)n;
    while (left) {
        ssize_t m = splice(w->pipe[0], NULL, to, NULL, left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (m < 0 && errno == EINTR)
            continue;
        if (m <= 0) {
            moved->is_broken = m == 0 || errno != EAGAIN;
            break;
        }
        left -= (size_t)m;
    }
    moved->bytes = (size_t)n - left;
    fb_assert(left <= w->in_bytes);
    for (size_t at = 0; at < left;) { /* the pipe is emptied in any case: it is everybody's */
        ssize_t m = read(w->pipe[0], w->in + at, left - at);
        fb_assert(m > 0);
        at += (size_t)m;
    }
    moved->rest = (struct span){w->in, left};
    return SPLICE_MOVED;
}
