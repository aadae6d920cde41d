/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control_msg.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union rights { /* aligned room for descriptors */
    struct cmsghdr head;
    char bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
};

static bool send_one(int socket, struct control_msg *m, const char *text,
                     const struct control_fds *fds)
{
    size_t len = text ? strlen(text) : 0;
    m->magic = CONTROL_MAGIC;
    m->text_bytes = (uint32_t)(len < sizeof m->text ? len : sizeof m->text);
    if (m->text_bytes)
        memcpy(m->text, text, m->text_bytes);
    struct iovec iov = {m, control_msg_bytes(m->text_bytes)};
    union rights rights = {.bytes = {0}};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fds->count) {
        size_t bytes = fds->count * sizeof(int);
        msg.msg_control = rights.bytes;
        msg.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), fds->at, bytes);
    }
    return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

bool control_send(int socket, enum control_kind kind, uint16_t number, uint32_t value,
                  const char *text)
{
    struct control_msg m = {.kind = (uint16_t)kind, .number = number, .value = value};
    return send_one(socket, &m, text, &(const struct control_fds){.count = 0});
}

bool control_send_fd(int socket, enum control_kind kind, const char *text, int fd)
{
    struct control_msg m = {.kind = (uint16_t)kind};
    return send_one(socket, &m, text,
                    &(const struct control_fds){.at = {fd}, .count = fd >= 0 ? 1 : 0});
}

bool control_send_fds(int socket, enum control_kind kind, uint16_t number,
                      const struct control_fds *fds)
{
    struct control_msg m = {.kind = (uint16_t)kind, .number = number};
    fb_assert(fds->count <= CONTROL_FDS_MAX);
    return send_one(socket, &m, "", fds);
}

int control_receive(int socket, struct control_msg *out, int *fd)
{
    struct control_fds fds;
    int got = control_receive_fds(socket, out, &fds);
    *fd = fds.count ? fds.at[0] : -1;
    for (size_t i = 1; i < fds.count; i++)
        close(fds.at[i]);
    return got;
}

static void close_all(struct control_fds *fds)
{
    for (size_t i = 0; i < fds->count; i++)
        close(fds->at[i]);
    fds->count = 0;
}

int control_receive_fds(int socket, struct control_msg *out, struct control_fds *fds)
{
    struct iovec iov = {out, sizeof *out};
    union rights rights = {.bytes = {0}};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = rights.bytes,
                         .msg_controllen = sizeof rights.bytes};
    fds->count = 0;
    for (;;) {
        ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0)
            return -1;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            fds->count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            fb_assert(fds->count <= CONTROL_FDS_MAX);
            memcpy(fds->at, CMSG_DATA(c), fds->count * sizeof(int));
        }
        if ((size_t)n >= control_msg_bytes(0) && out->magic == CONTROL_MAGIC &&
            out->text_bytes <= sizeof out->text && (size_t)n == control_msg_bytes(out->text_bytes))
            return 1;
        close_all(fds);
        msg.msg_controllen = sizeof rights.bytes;
    }
}
