/* SPDX-License-Identifier: Apache-2.0 */
#include "main/upgrade.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/control_msg.h"
#include "main/role.h"
#include "main/state_dir.h"
#include "main/supervisor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A binary that says nothing for so long is none of ours; a gateway binds nothing, it starts in
 * milliseconds, with a long list of certificates in seconds. */
#define CHECK_US (10 * US_PER_S)
#define START_US (30 * US_PER_S)
/* The old brain may need as long for its last snapshot as at a stop, the new one to catch up. */
#define BRAIN_STOP_US (10 * US_PER_S)
#define BRAIN_US (60 * US_PER_S)

static void begin(struct supervisor *s);
static int fresh_conf(struct supervisor *s);
static bool fresh_listeners(struct supervisor *s, struct fb_err *err);
static void start_check(struct supervisor *s);
static void start_gateway(struct supervisor *s);
static void switch_over(struct supervisor *s);
static bool free_slot(struct supervisor *s, uint32_t *slot);
static void clear(struct supervisor *s);
static void answer(struct supervisor *s, const char *state, const char *text);

/* ---- the steps ---- */

void upgrade_ask(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    char id[sizeof u->id], binary[sizeof u->binary];
    if (!state_dir_upgrade_request(s->setup->state_dir, id, sizeof id, binary, sizeof binary)) {
        snprintf(id, sizeof id, "-");
        binary[0] = '\0';
    }
    if (u->step != UPGRADE_NONE || s->phase != PHASE_RUN) {
        const char *why = s->phase == PHASE_RUN ? "another upgrade is under way; try again"
                                                : "foldback is shutting down";
        fb_log(FB_LOG_WARN, "upgrade: %s", why);
        state_dir_upgrade_answer(s->setup->state_dir, id, "refused", why);
        return;
    }
    *u = (struct upgrade){.step = UPGRADE_WANTED,
                          .check = {.name = "check", .control_fd = -1},
                          .next = {.name = "gateway", .control_fd = -1},
                          .conf_fd = -1,
                          .begin_us = fb_mono_us()};
    snprintf(u->id, sizeof u->id, "%s", id);
    snprintf(u->binary, sizeof u->binary, "%s", binary);
    if (!u->binary[0]) { /* the file that was started, as it is now */
        ssize_t n = readlink("/proc/self/exe", u->binary, sizeof u->binary - 1);
        u->binary[n > 0 ? n : 0] = '\0';
        char *gone = strstr(u->binary, " (deleted)");
        if (gone)
            *gone = '\0';
    }
}

void upgrade_advance(struct supervisor *s, uint64_t now_us)
{
    struct upgrade *u = &s->upgrade;
    bool is_late = u->until_us && now_us >= u->until_us;
    switch (u->step) {
    case UPGRADE_NONE:
        return;
    case UPGRADE_WANTED: /* one thing at a time */
        if (s->gateway.pid && s->gateway.is_ready && !s->conf_next)
            begin(s);
        return;
    case UPGRADE_CHECK:
        if (is_late)
            upgrade_abort(s, "the new binary said nothing within 10 s: it is no foldback that can "
                             "take over, or it hangs");
        return;
    case UPGRADE_START:
        if (is_late)
            upgrade_abort(s, "the new gateway was not ready within 30 s");
        return;
    case UPGRADE_BRAIN:
        if (!u->until_us)
            u->until_us = now_us + (s->brain.is_swapped ? BRAIN_US : BRAIN_STOP_US);
        if (!is_late)
            return;
        if (s->brain.pid && !s->brain.is_swapped) { /* it goes on from log and rings */
            fb_log(FB_LOG_WARN, "the old brain did not end in time");
            kill(s->brain.pid, SIGKILL);
            u->until_us = now_us + US_PER_S;
        } else {
            upgrade_abort(s, "the new binary serves, but its brain is not ready; "
                             "`foldback doctor` and the log tell more");
        }
        return;
    }
}

static void begin(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    if (!free_slot(s, &u->next.slot))
        return; /* the oldest gateway was told to hurry */
    u->conf_fd = fresh_conf(s);
    struct fb_err err = {0};
    if (u->conf_fd < 0)
        upgrade_abort(s, "the configuration cannot be read");
    else if (!fresh_listeners(s, &err))
        upgrade_abort(s, err.text);
    else
        start_check(s);
}

/* What is listed now, opened while nothing is changed yet.  A file that this binary does not accept
 * is for the new one to judge: it gets the sockets that are there. */
static bool fresh_listeners(struct supervisor *s, struct fb_err *err)
{
    struct conf *conf = NULL;
    uint32_t threads = s->mem.head->threads;
    if (role_read_conf(s->upgrade.conf_fd, &conf, err) != FB_OK)
        return true;
    bool is_done = listeners_are(&s->listen, conf, threads) ||
                   listeners_open(conf, threads, &s->listen, &s->upgrade.listen, err) == FB_OK;
    conf_unref(conf);
    return is_done;
}

/* The file as it is now; `run --to` has none. */
static int fresh_conf(struct supervisor *s)
{
    struct buf text;
    char part[4096];
    if (!s->setup->file)
        return fcntl(s->conf_fd, F_DUPFD_CLOEXEC, 3);
    int fd = open(s->setup->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    buf_init(&text, 16 * MIB);
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0)
        buf_put(&text, part, (size_t)n);
    close(fd);
    int copy = n == 0 && !text.failed ? role_text_fd(buf_span(&text)) : -1;
    buf_fini(&text);
    return copy;
}

static void start_check(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    int pair[2];
    struct fb_err err;
    char version[16], count[16];
    snprintf(version, sizeof version, "%d", UPGRADE_STATE_VERSION);
    const struct listeners *listen = u->listen.total ? &u->listen : &s->listen;
    snprintf(count, sizeof count, "%zu", listen->total / s->mem.head->threads);
    const char *const args[] = {"__check", version, count, NULL};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        upgrade_abort(s, strerror(errno));
        return;
    }
    struct role_start start = {.binary = u->binary,
                               .argv = args,
                               .mem_fd = s->mem.fd,
                               .control_fd = pair[1],
                               .conf_fd = u->conf_fd};
    enum fb_code code = role_spawn(&start, &u->check.pid, &err);
    close(pair[1]);
    if (code != FB_OK) {
        close(pair[0]);
        u->check.pid = 0;
        upgrade_abort(s, err.text);
        return;
    }
    u->check.control_fd = pair[0];
    u->step = UPGRADE_CHECK;
    u->until_us = fb_mono_us() + CHECK_US;
}

static void start_gateway(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    u->step = UPGRADE_START;
    u->until_us = fb_mono_us() + START_US;
    supervisor_start(s, &u->next, u->binary, u->conf_fd);
    if (!u->next.pid)
        upgrade_abort(s, "the new gateway cannot be started; the log says why");
}

/* The new gateway accepts: from here on there are two that could, and one that does. */
static void switch_over(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    for (size_t i = 0; i < RETIRED_MAX; i++)
        if (!s->retired[i].pid && s->gateway.pid) {
            s->retired[i] = s->gateway;
            control_send(s->gateway.control_fd, CONTROL_RETIRE, 0, 0, "");
            s->gateway.pid = 0;
        }
    fb_assert(!s->gateway.pid);
    s->gateway = u->next;
    supervisor_tell_pid(s, &s->gateway);
    u->next = (struct child){.name = "gateway", .control_fd = -1};
    close(s->conf_fd);
    s->conf_fd = u->conf_fd;
    u->conf_fd = -1;
    if (u->listen.total) {
        listeners_close(&s->listen, &u->listen);
        s->listen = u->listen;
        u->listen = (struct listeners){0};
    }
    struct fb_err err = {0};
    upgrade_exec(s, u->binary, &err);
    u->step = UPGRADE_BRAIN; /* the new gateway stays */
    char text[sizeof err.text + 80];
    snprintf(text, sizeof text, "the new gateway serves, supervisor and brain are the old ones: %s",
             err.text);
    upgrade_abort(s, text);
}

/* A seat in the memory file; when all are taken the gateway that has been ending for the longest
 * time is told to hurry, and it is asked again later. */
static bool free_slot(struct supervisor *s, uint32_t *slot)
{
    bool is_taken[MEMFILE_SLOTS] = {false};
    struct child *oldest = NULL;
    uint32_t retired = 0;
    is_taken[s->gateway.slot] = true;
    for (size_t i = 0; i < RETIRED_MAX; i++) {
        struct child *c = &s->retired[i];
        if (!c->pid)
            continue;
        retired++;
        is_taken[c->slot] = true;
        if (!oldest || c->started_us < oldest->started_us)
            oldest = c;
    }
    if (retired == RETIRED_MAX) {
        if (oldest->is_ready) { /* once */
            oldest->is_ready = false;
            control_send(oldest->control_fd, CONTROL_DRAIN, 0, 0, "");
        }
        return false;
    }
    *slot = 0;
    while (is_taken[*slot])
        ++*slot;
    return true;
}

/* ---- what the processes say ---- */

void upgrade_message(struct supervisor *s, struct child *c)
{
    struct upgrade *u = &s->upgrade;
    struct control_msg m;
    char text[400];
    int fd = -1, got = control_receive(c->control_fd, &m, &fd);
    if (fd >= 0)
        close(fd);
    if (got < 0) { /* it ended: its pid tells more */
        close(c->control_fd);
        c->control_fd = -1;
    }
    if (got <= 0)
        return;
    snprintf(text, sizeof text, "%.*s", (int)fb_min_u32(m.text_bytes, sizeof text - 1), m.text);
    if (m.kind == CONTROL_REFUSED)
        upgrade_abort(s, text);
    if (m.kind != CONTROL_READY)
        return;
    if (c == &u->check) {
        fb_log(FB_LOG_INFO, "upgrade: %s is foldback %.40s and can take over", u->binary, text);
        start_gateway(s);
    } else if (u->step == UPGRADE_START) {
        c->is_ready = true;
        switch_over(s);
    }
}

bool upgrade_reaped(struct supervisor *s, pid_t pid, int status)
{
    struct upgrade *u = &s->upgrade;
    char text[200];
    for (size_t i = 0; i < RETIRED_MAX; i++)
        if (s->retired[i].pid == pid) {
            if (s->retired[i].control_fd >= 0)
                close(s->retired[i].control_fd);
            s->retired[i] = (struct child){.control_fd = -1};
            fb_log(FB_LOG_INFO, "the gateway from before the upgrade (%d) has ended", (int)pid);
            return true;
        }
    if (pid == u->check.pid) {
        u->check.pid = 0;
        if (u->step == UPGRADE_CHECK) { /* its last word may still be on the way */
            if (u->check.control_fd >= 0)
                upgrade_message(s, &u->check);
            if (u->step == UPGRADE_CHECK) {
                snprintf(text, sizeof text, "%.100s is no foldback that can take over (%s %d)",
                         u->binary, WIFEXITED(status) ? "exit" : "signal",
                         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
                upgrade_abort(s, text);
            }
        }
        return true;
    }
    if (pid != 0 && pid == u->next.pid) {
        u->next.pid = 0;
        if (u->step == UPGRADE_START) {
            snprintf(text, sizeof text, "the new gateway ended by %s %d before it was ready",
                     WIFEXITED(status) ? "exit" : "signal",
                     WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
            upgrade_abort(s, text);
        }
        return true;
    }
    return false;
}

void upgrade_brain_ready(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    char text[240];
    if (u->step != UPGRADE_BRAIN)
        return;
    snprintf(text, sizeof text, "foldback %s runs in place of %s after %llu ms", FB_VERSION,
             u->from, (unsigned long long)((fb_mono_us() - u->begin_us) / US_PER_MS));
    fb_log(FB_LOG_INFO, "upgrade: %s", text);
    answer(s, "done", text);
    clear(s);
}

void upgrade_abort(struct supervisor *s, const char *why)
{
    struct upgrade *u = &s->upgrade;
    bool is_serving = u->step == UPGRADE_BRAIN;
    fb_log(FB_LOG_ERROR, "upgrade to %s: %s%s", u->binary[0] ? u->binary : "the new binary", why,
           is_serving ? "" : "; nothing was changed");
    answer(s, "failed", why);
    clear(s);
}

void upgrade_stop(struct supervisor *s)
{
    if (s->upgrade.step != UPGRADE_NONE)
        upgrade_abort(s, "foldback is shutting down");
}

static void clear(struct supervisor *s)
{
    struct upgrade *u = &s->upgrade;
    struct child *own[] = {&u->check, &u->next};
    for (size_t i = 0; i < FB_COUNT(own); i++) {
        if (own[i]->pid) {
            kill(own[i]->pid, SIGKILL);
            waitpid(own[i]->pid, NULL, 0);
        }
        if (own[i]->pid || own[i]->control_fd > 0)
            close(own[i]->control_fd);
    }
    if (u->conf_fd >= 0)
        close(u->conf_fd);
    listeners_close(&u->listen, &s->listen);
    *u = (struct upgrade){.conf_fd = -1, .check = {.control_fd = -1}, .next = {.control_fd = -1}};
}

static void answer(struct supervisor *s, const char *state, const char *text)
{
    state_dir_upgrade_answer(s->setup->state_dir, s->upgrade.id, state, text);
}

/* ---- the new binary looks before it leaps ---- */

int upgrade_check_main(int argc, char **argv)
{
    struct memfile mem;
    struct conf *conf = NULL;
    struct fb_err err = {0};
    fb_log_init("check", FB_LOG_INFO);
    int version = argc > 2 ? atoi(argv[2]) : 0;
    size_t listeners = argc > 3 ? (size_t)atoi(argv[3]) : 0;
    enum fb_code code = FB_OK;
    if (version != UPGRADE_STATE_VERSION)
        code = fb_fail(&err, FB_E_VERSION,
                       "this version takes over state version %d, the running one has %d; restart",
                       UPGRADE_STATE_VERSION, version);
    if (code == FB_OK)
        code = memfile_attach(&mem, ROLE_FD_MEM, &err);
    if (code == FB_OK)
        code = role_read_conf(ROLE_FD_CONF, &conf, &err);
    if (code == FB_OK && conf->listen_count != listeners)
        code = fb_fail(&err, FB_E_CONFIG,
                       "`listen` has %zu addresses, %zu sockets are open; a change of `listen` "
                       "needs a restart",
                       conf->listen_count, listeners);
    control_send(ROLE_FD_CONTROL, code == FB_OK ? CONTROL_READY : CONTROL_REFUSED, 0, 0,
                 code == FB_OK ? FB_VERSION : err.text);
    conf_unref(conf);
    return code == FB_OK ? 0 : 1;
}
