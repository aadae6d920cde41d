/* SPDX-License-Identifier: Apache-2.0 */
#include "io/link.h"

#include <sys/socket.h>
#include <sys/uio.h>

ssize_t link_recv(struct link *l, void *at, size_t room)
{
    return recv(l->fd, at, room, 0);
}

ssize_t link_peek(struct link *l, void *at, size_t room)
{
    return recv(l->fd, at, room, MSG_PEEK);
}

ssize_t link_write(struct link *l, struct iovec *iov, int count)
{
    if (count == 1)
        return send(l->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
    const struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    return sendmsg(l->fd, &m, MSG_NOSIGNAL);
}

void link_shutdown(struct link *l)
{
    shutdown(l->fd, SHUT_WR);
}
