/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/exec_call.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define POLL_MS 50
/* Over the time of the command: to start it, to end it, to answer. */
#define GRACE_MS 2000

static enum fb_code dial(struct exec_call *x, struct fb_err *err);
static enum fb_code write_all(struct exec_call *x, const void *at, size_t len, uint64_t until_us);
static enum fb_code read_all(struct exec_call *x, void *at, size_t len, uint64_t until_us);

void exec_call_end(struct exec_call *x)
{
    if (x->fd >= 0)
        close(x->fd);
    x->fd = -1;
}

enum fb_code exec_call_run(struct exec_call *x, struct fb_err *err)
{
    /* An event alone comes without an end of line, which `while read` of a shell wants. */
    bool is_open = x->is_line && x->record.len && x->record.at[0] == '{' &&
                   x->record.at[x->record.len - 1] != '\n';
    struct exec_ask ask = {.magic = EXEC_MAGIC,
                           .kind = x->is_token ? EXEC_TOKEN : EXEC_RECORD,
                           .timeout_ms = x->timeout_ms,
                           .command_bytes = (uint32_t)strlen(x->command),
                           .record_bytes = (uint32_t)x->record.len + is_open};
    uint64_t until_us = fb_mono_us() + (uint64_t)(x->timeout_ms + GRACE_MS) * US_PER_MS;
    snprintf(ask.name, sizeof ask.name, "%s", x->setup->name);
    enum fb_code code = dial(x, err);
    if (code != FB_OK)
        return code;
    code = write_all(x, &ask, sizeof ask, until_us);
    if (code == FB_OK)
        code = write_all(x, x->command, ask.command_bytes, until_us);
    if (code == FB_OK)
        code = write_all(x, x->record.at, x->record.len, until_us);
    if (code == FB_OK && is_open)
        code = write_all(x, "\n", 1, until_us);
    if (code == FB_OK)
        code = read_all(x, &x->answer, sizeof x->answer, until_us);
    bool is_good = code == FB_OK && x->answer.magic == EXEC_MAGIC;
    if (!is_good || x->answer.end == EXEC_UNKNOWN) /* one of us has not seen a reload yet */
        exec_call_end(x);
    if (is_good && x->answer.end != EXEC_UNKNOWN)
        return FB_OK;
    return is_good ? fb_fail(err, FB_E_AGAIN, "the process that runs commands does not know %s yet",
                             x->setup->name)
                   : fb_fail(err, FB_E_AGAIN, "the process that runs commands does not answer");
}

/* By a short name, for the folder's may be longer than an address can be. */
static enum fb_code dial(struct exec_call *x, struct fb_err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct ucred who;
    socklen_t len = sizeof who;
    if (x->fd >= 0)
        return FB_OK;
    int dir = open(x->setup->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%s", dir, EXEC_SOCKET);
    x->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool is_there = dir >= 0 && x->fd >= 0 && connect(x->fd, (void *)&at, sizeof at) == 0 &&
                    getsockopt(x->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
                    who.uid == geteuid();
    if (dir >= 0)
        close(dir);
    if (is_there)
        return FB_OK;
    exec_call_end(x);
    return fb_fail(err, FB_E_AGAIN, "the process that runs commands is not there yet");
}

static bool wait_for(struct exec_call *x, short events, uint64_t until_us)
{
    struct pollfd p = {.fd = x->fd, .events = events};
    while (!x->setup->is_stopping(x->setup->ctx) && fb_mono_us() < until_us)
        if (poll(&p, 1, POLL_MS) > 0)
            return true;
    return false;
}

static enum fb_code write_all(struct exec_call *x, const void *at, size_t len, uint64_t until_us)
{
    const char *from = at;
    while (len) {
        ssize_t n = send(x->fd, from, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return FB_E_AGAIN;
        if (n < 0 && !wait_for(x, POLLOUT, until_us))
            return FB_E_AGAIN;
        if (n > 0) {
            from += n;
            len -= (size_t)n;
        }
    }
    return FB_OK;
}

static enum fb_code read_all(struct exec_call *x, void *at, size_t len, uint64_t until_us)
{
    char *to = at;
    while (len) {
        if (!wait_for(x, POLLIN, until_us))
            return FB_E_AGAIN;
        ssize_t n = recv(x->fd, to, len, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return FB_E_AGAIN;
        if (n > 0) {
            to += n;
            len -= (size_t)n;
        }
    }
    return FB_OK;
}
