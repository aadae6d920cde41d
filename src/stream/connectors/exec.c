/* SPDX-License-Identifier: Apache-2.0 */
/* exec: each record is the standard input of a command, one after the other.
 *
 *   exit 0: delivered | other ends: again, <tries> times, then a dead letter |
 *   cannot be started: needs a hand, kept
 *
 * The commands run in a process beside the brain (exec_wire.h). */
#include "stream/connectors/connector.h"
#include "stream/connectors/exec_wire.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define POLL_MS 50
/* Over the time of the command: to start it, to end it, to answer. */
#define GRACE_MS 2000

struct connector {
    struct connector_setup setup;
    const char *command;
    uint32_t tries, failed; /* <failed> times in a row, at the record of <offset> */
    char offset[24];
    int fd;
};

static enum fb_code dial(struct connector *c, struct fb_err *err);
static enum fb_code write_all(struct connector *c, const void *at, size_t len, uint64_t until_us);
static enum fb_code read_all(struct connector *c, void *at, size_t len, uint64_t until_us);
static enum fb_code judge(struct connector *c, const struct exec_answer *a,
                          struct connector_record *record, struct fb_err *err);

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

static enum fb_code exec_open(struct connector **out, const struct connector_setup *setup,
                              struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for %s", setup->name);
    c->setup = *setup;
    c->command = value(c, "command");
    c->tries = (uint32_t)strtoul(value(c, "tries"), NULL, 10);
    c->fd = -1;
    *out = c;
    return FB_OK;
}

static void hang_up(struct connector *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void exec_close(struct connector *c)
{
    hang_up(c);
    free(c);
}

static enum fb_code exec_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                               void *arg, struct fb_err *err)
{
    char program[1024], text[1100];
    enum fb_code code = FB_OK;
    (void)timeout_ms;
    snprintf(program, sizeof program, "%.*s", (int)strcspn(c->command, "\n"), c->command);
    if (access(program, X_OK) != 0)
        code = fb_fail(err, FB_E_CONFIG, "%.300s cannot be run: %s; see `command` of %s", program,
                       strerror(errno), c->setup.name);
    snprintf(text, sizeof text, "%s can be run; it was not", program);
    step(arg, code == FB_OK, code == FB_OK ? text : err->text);
    return code;
}

static enum fb_code exec_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    struct connector_record *record = &batch->at[0]; /* send_max is 1 */
    struct span value = record->value;
    /* An event alone comes without an end of line, which `while read` of a shell wants. */
    bool is_open = value.len && value.at[0] == '{' && value.at[value.len - 1] != '\n';
    struct exec_ask ask = {.magic = EXEC_MAGIC,
                           .timeout_ms = batch->timeout_ms,
                           .command_bytes = (uint32_t)strlen(c->command),
                           .record_bytes = (uint32_t)value.len + is_open};
    struct exec_answer answer;
    uint64_t until_us = fb_mono_us() + (uint64_t)(batch->timeout_ms + GRACE_MS) * US_PER_MS;
    snprintf(ask.name, sizeof ask.name, "%s", c->setup.name);
    record->result = CONNECTOR_RETRY;
    enum fb_code code = dial(c, err);
    if (code != FB_OK)
        return code;
    code = write_all(c, &ask, sizeof ask, until_us);
    if (code == FB_OK)
        code = write_all(c, c->command, ask.command_bytes, until_us);
    if (code == FB_OK)
        code = write_all(c, value.at, value.len, until_us);
    if (code == FB_OK && is_open)
        code = write_all(c, "\n", 1, until_us);
    if (code == FB_OK)
        code = read_all(c, &answer, sizeof answer, until_us);
    if (code == FB_OK && answer.magic == EXEC_MAGIC)
        return judge(c, &answer, record, err);
    hang_up(c);
    return fb_fail(err, FB_E_AGAIN, "the process that runs commands does not answer");
}

/* By a short name, for the folder's may be longer than an address can be. */
static enum fb_code dial(struct connector *c, struct fb_err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct ucred who;
    socklen_t len = sizeof who;
    if (c->fd >= 0)
        return FB_OK;
    int dir = open(c->setup.state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%s", dir, EXEC_SOCKET);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool is_there = dir >= 0 && c->fd >= 0 && connect(c->fd, (void *)&at, sizeof at) == 0 &&
                    getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
                    who.uid == geteuid();
    if (dir >= 0)
        close(dir);
    if (is_there)
        return FB_OK;
    hang_up(c);
    return fb_fail(err, FB_E_AGAIN, "the process that runs commands is not there yet");
}

static bool wait_for(struct connector *c, short events, uint64_t until_us)
{
    struct pollfd p = {.fd = c->fd, .events = events};
    while (!c->setup.is_stopping(c->setup.ctx) && fb_mono_us() < until_us)
        if (poll(&p, 1, POLL_MS) > 0)
            return true;
    return false;
}

static enum fb_code write_all(struct connector *c, const void *at, size_t len, uint64_t until_us)
{
    const char *from = at;
    while (len) {
        ssize_t n = send(c->fd, from, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return FB_E_AGAIN;
        if (n < 0 && !wait_for(c, POLLOUT, until_us))
            return FB_E_AGAIN;
        if (n > 0) {
            from += n;
            len -= (size_t)n;
        }
    }
    return FB_OK;
}

static enum fb_code read_all(struct connector *c, void *at, size_t len, uint64_t until_us)
{
    char *to = at;
    while (len) {
        if (!wait_for(c, POLLIN, until_us))
            return FB_E_AGAIN;
        ssize_t n = recv(c->fd, to, len, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return FB_E_AGAIN;
        if (n > 0) {
            to += n;
            len -= (size_t)n;
        }
    }
    return FB_OK;
}

static bool is_last_try(struct connector *c, const struct connector_record *record)
{
    struct span offset = {"", 0};
    for (uint32_t i = 0; i < record->header_count; i++)
        if (strcmp(record->headers[i].name, "foldback-offset") == 0)
            offset = record->headers[i].value;
    if (!span_eq(offset, span_of(c->offset))) {
        c->failed = 0;
        snprintf(c->offset, sizeof c->offset, "%.*s", SPAN_ARG(offset));
    }
    return ++c->failed >= c->tries;
}

static enum fb_code judge(struct connector *c, const struct exec_answer *a,
                          struct connector_record *record, struct fb_err *err)
{
    char why[120];
    if (a->end == EXEC_EXITED && a->status == 0) {
        record->result = CONNECTOR_DELIVERED;
        return FB_OK;
    }
    if (a->end == EXEC_UNKNOWN) { /* one of us has not seen a reload yet */
        hang_up(c);
        return fb_fail(err, FB_E_AGAIN, "the process that runs commands does not know %s yet",
                       c->setup.name);
    }
    if (a->end == EXEC_NOT_STARTED)
        return fb_fail(err, FB_E_CONFIG, "%.*s cannot be started: %s; see `command` of %s",
                       (int)strcspn(c->command, "\n"), c->command, strerror(a->status),
                       c->setup.name);
    snprintf(why, sizeof why,
             a->end == EXEC_EXITED      ? "ended with code %d"
             : a->end == EXEC_SIGNALLED ? "was ended by signal %d"
                                        : "took too long and was ended",
             a->status);
    fb_fail(err, FB_E_AGAIN, "%.*s %s: %.*s", (int)strcspn(c->command, "\n"), c->command, why,
            EXEC_TEXT_BYTES, a->text);
    if (!is_last_try(c, record))
        return FB_E_AGAIN;
    c->setup.say(c->setup.ctx, FB_LOG_WARN, err->text);
    record->result = CONNECTOR_POISON;
    return FB_OK;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "exec",
                    .can = CONNECTOR_SINK | CONNECTOR_ORDERED,
                    .send_max = 1,
                    .record_bytes_max = EXEC_RECORD_BYTES_MAX - 1, /* and the end of line */
                    .send_bytes_max = EXEC_RECORD_BYTES_MAX,
                    .open = exec_open,
                    .close = exec_close,
                    .check = exec_check,
                    .send = exec_send};
