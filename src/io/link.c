/* SPDX-License-Identifier: Apache-2.0 */
#include "io/link.h"

#include "base/sanitize.h"
#include "io/tls.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if defined(SYS_recvfrom) && defined(SYS_sendto) && !FB_IS_SANITIZED
/* recv and send of the C library are points where a thread may be cancelled: in a process with
 * threads each call pays two locked instructions for that, and no thread here is ever cancelled. */
static ssize_t receive(int fd, void *at, size_t room)
{
    return syscall(SYS_recvfrom, fd, at, room, 0, NULL, NULL);
}
static ssize_t put(int fd, const void *at, size_t bytes)
{
    return syscall(SYS_sendto, fd, at, bytes, MSG_NOSIGNAL, NULL, 0);
}
#else
static ssize_t receive(int fd, void *at, size_t room)
{
    return recv(fd, at, room, 0);
}
static ssize_t put(int fd, const void *at, size_t bytes)
{
    return send(fd, at, bytes, MSG_NOSIGNAL);
}
#endif

ssize_t link_recv(struct link *l, void *at, size_t room)
{
    if (l->tls)
        return tls_recv(l->tls, at, room);
    return receive(l->fd, at, room);
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
        return put(l->fd, iov->iov_base, iov->iov_len);
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
