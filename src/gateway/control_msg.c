/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control_msg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union rights { /* aligned room for one descriptor */
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static bool send_one(int socket, struct control_msg *m, const char *text, int fd)
{
    size_t len = text ? strlen(text) : 0;
    m->magic = CONTROL_MAGIC;
    m->text_bytes = (uint32_t)(len < sizeof m->text ? len : sizeof m->text);
    if (m->text_bytes)
        memcpy(m->text, text, m->text_bytes);
    struct iovec iov = {m, control_msg_bytes(m->text_bytes)};
    union rights rights = {.bytes = {0}};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = rights.bytes;
        msg.msg_controllen = sizeof rights.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

bool control_send(int socket, enum control_kind kind, uint16_t number, uint32_t value,
                  const char *text)
{
    struct control_msg m = {.kind = (uint16_t)kind, .number = number, .value = value};
    return send_one(socket, &m, text, -1);
}

bool control_send_fd(int socket, enum control_kind kind, const char *text, int fd)
{
    struct control_msg m = {.kind = (uint16_t)kind};
    return send_one(socket, &m, text, fd);
}

int control_receive(int socket, struct control_msg *out, int *fd)
{
    struct iovec iov = {out, sizeof *out};
    union rights rights = {.bytes = {0}};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = rights.bytes,
                         .msg_controllen = sizeof rights.bytes};
    *fd = -1;
    for (;;) {
        ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0)
            return -1;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(fd, CMSG_DATA(c), sizeof *fd);
        if ((size_t)n >= control_msg_bytes(0) && out->magic == CONTROL_MAGIC &&
            out->text_bytes <= sizeof out->text && (size_t)n == control_msg_bytes(out->text_bytes))
            return 1;
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        msg.msg_controllen = sizeof rights.bytes;
    }
}
