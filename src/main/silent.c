/* SPDX-License-Identifier: Apache-2.0 */
/* silent: a brain that stands still: stopped, in a loop, or in a call of the system that hangs.
 *
 *   ticks --3 s without one--> silent: new connections to the admin address hear 503
 *     ^                          | admin.stall_timeout
 *     +---------- ready <-- killed, started again
 *
 * Its listener is the supervisor's too, so that an application that pushes events is told to come
 * again instead of waiting in the queue of the kernel; requests of clients never pass here.
 * Time counts as far as this process saw it pass: a machine that slept says nothing about the
 * brain.
 */
#include "base/clock.h"
#include "base/log.h"
#include "main/supervisor_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* The brain ticks each 100 ms; on a machine that is overloaded some ticks come late. */
#define SILENT_US (3 * US_PER_S)
#define LOOK_US (1 * US_PER_S)
#define LOOK_SILENT_US (20 * US_PER_MS)
#define STEP_US_MAX (2 * US_PER_S)
/* For a request to arrive, and its answer to leave. */
#define CALLER_US (2 * US_PER_S)

#define BODY                                                                                       \
    "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"                  \
    "\"detail\":\"the brain stands still; nothing was taken, send it again\",\"code\":\"AGAIN\","  \
    "\"remedy\":\"Try again in a moment.\"}\n"

static void answer_callers(struct supervisor *s, uint64_t now_us);
static void take_callers(struct supervisor *s, uint64_t now_us);

static bool is_watched(const struct supervisor *s)
{
    return s->phase == PHASE_RUN && s->upgrade.step == UPGRADE_NONE && s->brain.pid &&
           s->brain.is_ready;
}

uint64_t silent_due_us(const struct supervisor *s)
{
    const struct silent *x = &s->silent;
    if (x->is_silent || x->caller_count)
        return x->looked_us + LOOK_SILENT_US;
    return is_watched(s) ? x->looked_us + LOOK_US : UINT64_MAX;
}

void silent_advance(struct supervisor *s, uint64_t now_us)
{
    struct silent *x = &s->silent;
    uint64_t beat_us = s->mem.head ? atomic_load(&s->mem.head->brain_beat_us) : 0;
    uint64_t passed_us = fb_min_u64(fb_sub_floor_u64(now_us, x->looked_us), STEP_US_MAX);
    if (!is_watched(s) || beat_us != x->beat_us) {
        if (x->is_silent && is_watched(s))
            fb_log(FB_LOG_WARN, "the brain goes on");
        x->is_silent = false;
        x->still_us = 0;
    } else {
        x->still_us += passed_us;
    }
    x->beat_us = beat_us;
    x->looked_us = now_us;
    if (x->still_us >= SILENT_US && !x->is_silent) {
        x->is_silent = true;
        fb_log(FB_LOG_WARN,
               "the brain (%d) has stood still for 3 s; traffic goes on, the admin "
               "address answers 503 meanwhile",
               (int)s->brain.pid);
    }
    if (x->is_silent && s->admin_fd >= 0)
        take_callers(s, now_us);
    answer_callers(s, now_us);
    if (x->is_silent && x->still_us >= s->conf->p.admin_stall_timeout * US_PER_MS) {
        fb_log(FB_LOG_ERROR, "the brain (%d) has stood still for admin.stall_timeout: it is killed",
               (int)s->brain.pid);
        kill(s->brain.pid, SIGKILL); /* and started again, as one that died */
        x->still_us = SILENT_US;
    }
}

void silent_stop(struct supervisor *s)
{
    struct silent *x = &s->silent;
    while (x->caller_count)
        close(x->caller[--x->caller_count].fd);
}

static void take_callers(struct supervisor *s, uint64_t now_us)
{
    struct silent *x = &s->silent;
    while (x->caller_count < SILENT_CALLERS_MAX) {
        int fd = accept4(s->admin_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        x->caller[x->caller_count++] =
            (struct silent_caller){.fd = fd, .until_us = now_us + CALLER_US};
    }
}

/* The answer goes with the first bytes; what comes behind is read, so that no reset overtakes it.
 * False: it is over. */
static bool goes_on(struct silent_caller *c, uint64_t now_us)
{
    char room[4096], answer[800];
    ssize_t n;
    while ((n = recv(c->fd, room, sizeof room, MSG_DONTWAIT)) > 0) {
        if (c->is_answered)
            continue;
        int len = snprintf(answer, sizeof answer,
                           "HTTP/1.1 503 Service Unavailable\r\n"
                           "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                           "Retry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
                           "%s",
                           sizeof BODY - 1, BODY);
        c->is_answered = true;
        (void)!send(c->fd, answer, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)shutdown(c->fd, SHUT_WR);
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR) && now_us < c->until_us;
}

static void answer_callers(struct supervisor *s, uint64_t now_us)
{
    struct silent *x = &s->silent;
    for (uint32_t i = x->caller_count; i-- > 0;) {
        if (goes_on(&x->caller[i], now_us))
            continue;
        close(x->caller[i].fd);
        x->caller[i] = x->caller[--x->caller_count];
    }
}
