/* SPDX-License-Identifier: Apache-2.0 */
#include "io/link.h"

#include "io/tls.h"

#include <sys/socket.h>
#include <sys/uio.h>

ssize_t link_recv(struct link *l, void *at, size_t room)
{
    if (l->tls)
        return tls_recv(l->tls, at, room);
    return recv(l->fd, at, room, 0);
}

ssize_t link_peek(struct link *l, void *at, size_t room)
{
    if (l->tls)
        return tls_peek(l->tls, at, room);
    return recv(l->fd, at, room, MSG_PEEK);
}

ssize_t link_write(struct link *l, struct iovec *iov, int count)
{
    if (l->tls)
        return tls_write(l->tls, iov, count);
    if (count == 1)
        return send(l->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
    const struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    return sendmsg(l->fd, &m, MSG_NOSIGNAL);
}

void link_end_next(struct link *l)
{
    if (l->tls)
        tls_end_next(l->tls);
}

bool link_rest(struct link *l)
{
    return l->tls && tls_rest(l->tls);
}

void link_shutdown(struct link *l)
{
    if (l->tls)
        tls_shutdown(l->tls);
    shutdown(l->fd, SHUT_WR);
}

void link_fini(struct link *l, bool is_clean)
{
    if (!l->tls)
        return;
    tls_free(l->tls, is_clean);
    l->tls = NULL;
}
