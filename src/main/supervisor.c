/* SPDX-License-Identifier: Apache-2.0 */
#include "main/supervisor.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/control_msg.h"
#include "io/socket.h"
#include "knob/memfile.h"
#include "main/role.h"
#include "main/state_dir.h"
#include "main/supervisor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that lived shorter than this is started again after a growing pause: no fork storm. */
#define YOUNG_US (2 * US_PER_S)
#define PAUSE_MAX_US (5 * US_PER_S)
/* How long the brain may take for its last snapshot. */
#define BRAIN_STOP_US (10 * US_PER_S)

static enum fb_code prepare(struct supervisor *s, struct fb_err *err);
static enum fb_code open_admin(struct supervisor *s, struct fb_err *err);
static void turn(struct supervisor *s);
static void read_signals(struct supervisor *s);
static void read_control(struct supervisor *s, struct child *c);
static void reap(struct supervisor *s);
static void reload(struct supervisor *s);
static void reload_again(struct supervisor *s);
static void forget_reload(struct supervisor *s);
static void send_reload(struct supervisor *s);
static void say_listeners(const struct supervisor *s);
static void advance(struct supervisor *s, uint64_t now_us);
static void announce(struct supervisor *s);
static void cleanup(struct supervisor *s);

void supervisor_init(struct supervisor *s, const struct supervisor_setup *setup)
{
    *s = (struct supervisor){.setup = setup,
                             .admin_fd = -1,
                             .signal_fd = -1,
                             .lock_fd = -1,
                             .conf_fd = -1,
                             .conf_next_fd = -1,
                             .gateway = {.name = "gateway", .control_fd = -1},
                             .brain = {.name = "brain", .control_fd = -1},
                             .upgrade = {.conf_fd = -1}};
}

int supervisor_run(const struct supervisor_setup *setup)
{
    struct supervisor s;
    struct fb_err err;
    supervisor_init(&s, setup);
    s.conf = conf_ref(setup->conf);
    s.conf_started = conf_ref(setup->conf);
    fb_log_init("supervisor", FB_LOG_INFO);
    if (prepare(&s, &err) != FB_OK) {
        fprintf(stderr, "foldback: %s\n", err.text);
        cleanup(&s);
        return fb_error_row(err.code)->exit_code;
    }
    supervisor_start(&s, &s.brain, NULL, s.conf_fd);
    /* With an old state the brain hands learned values over first; without one nobody has to wait.
     */
    if (!state_dir_has_state(setup->state_dir))
        supervisor_start(&s, &s.gateway, NULL, s.conf_fd);
    else
        s.gateway.start_at_us = fb_mono_us() + 2 * US_PER_S;
    return supervisor_loop(&s);
}

int supervisor_loop(struct supervisor *s)
{
    while (s->phase != PHASE_END)
        turn(s);
    cleanup(s);
    return s->code;
}

static enum fb_code prepare(struct supervisor *s, struct fb_err *err)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
    enum fb_code code = state_dir_open(s->setup->state_dir, &s->lock_fd, err);
    if (code != FB_OK)
        return code;
    code = state_dir_token(s->setup->state_dir, s->conf->p.admin_token_file, s->token_file,
                           sizeof s->token_file, err);
    if (code == FB_OK)
        code = state_dir_ingest_token(s->setup->state_dir, s->conf->p.ingest_token_file, err);
    if (code != FB_OK)
        return code;
    /* stream time reads as the wall clock at this moment, and never jumps afterwards */
    fb_mono_offset_set(0);
    fb_mono_offset_set(fb_sub_floor_u64(fb_wall_us(), fb_mono_us()));
    uint32_t threads = s->conf->p.top_threads;
    if (threads == 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
        threads = fb_min_u32(threads, MEMFILE_THREADS_MAX);
    }
    code = memfile_create(&s->mem, threads, s->conf->p.gateway_ring_cells, err);
    if (code != FB_OK)
        return code;
    s->mem.head->node_id = state_dir_node_id(s->setup->state_dir);
    state_dir_secret(s->setup->state_dir, s->mem.head->secret);
    atomic_store(&s->mem.head->supervisor_pid, (uint32_t)getpid());
    code = listeners_open(s->conf, threads, NULL, &s->listen, err);
    if (code == FB_OK)
        code = open_admin(s, err);
    if (code != FB_OK)
        return code;
    s->conf_fd = role_text_fd((struct span){s->conf->text, s->conf->text_bytes});
    if (s->conf_fd < 0)
        return fb_fail(err, FB_E_IO, "cannot start: %s", strerror(errno));
    return supervisor_signals(s, err);
}

/* After exec they are blocked still, and one that came meanwhile is not lost. */
enum fb_code supervisor_signals(struct supervisor *s, struct fb_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0)
        return fb_fail(err, FB_E_IO, "cannot start: %s", strerror(errno));
    return FB_OK;
}

static enum fb_code open_admin(struct supervisor *s, struct fb_err *err)
{
    const char *address = s->conf->p.admin_listen;
    if (strcmp(address, "off") == 0)
        return FB_OK;
    enum fb_code code = sock_listen(address, &s->admin_fd, 1, err);
    if (code == FB_E_PORT_IN_USE && s->setup->is_admin_address_free)
        code = sock_listen("127.0.0.1:0", &s->admin_fd, 1, err);
    if (code != FB_OK)
        return code;
    struct sock_addr local;
    if (sock_local(s->admin_fd, &local))
        sock_format(&local, s->admin_address);
    return FB_OK;
}

void supervisor_start(struct supervisor *s, struct child *c, const char *binary, int conf_fd)
{
    int pair[2];
    struct fb_err err;
    char count[16], slot[16];
    c->start_at_us = 0;
    c->is_ready = false;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        fb_log(FB_LOG_ERROR, "%s: no socket pair: %s", c->name, strerror(errno));
        c->start_at_us = fb_mono_us() + US_PER_S;
        return;
    }
    bool is_gateway = c != &s->brain;
    if (!is_gateway) /* it counts from one again */
        s->reload_asked = s->reload_number = 0;
    const struct listeners *listen =
        c == &s->upgrade.next && s->upgrade.listen.total ? &s->upgrade.listen : &s->listen;
    snprintf(count, sizeof count, "%zu", listen->total);
    snprintf(slot, sizeof slot, "%u", c->slot);
    const char *const gateway_args[] = {"__gateway", count, slot, s->setup->state_dir, NULL};
    const char *const brain_args[] = {"__brain", s->setup->state_dir, s->token_file,
                                      s->admin_address, NULL};
    struct role_start start = {.binary = binary,
                               .argv = is_gateway ? gateway_args : brain_args,
                               .is_background = !is_gateway, /* no request waits for a tick */
                               .mem_fd = s->mem.fd,
                               .control_fd = pair[1],
                               .conf_fd = conf_fd,
                               .more = is_gateway ? listen->fds : &s->admin_fd,
                               .more_count = is_gateway ? listen->total : s->admin_fd >= 0};
    if (role_spawn(&start, &c->pid, &err) != FB_OK) {
        fb_log(FB_LOG_ERROR, "%s: %s", c->name, err.text);
        close(pair[0]);
        c->pid = 0;
        c->start_at_us = fb_mono_us() + US_PER_S;
    } else {
        c->control_fd = pair[0];
        c->started_us = fb_mono_us();
        if (c == &s->gateway || c == &s->brain)
            supervisor_tell_pid(s, c);
    }
    close(pair[1]);
}

void supervisor_tell_pid(struct supervisor *s, const struct child *c)
{
    struct memfile_head *h = s->mem.head;
    if (c == &s->gateway)
        atomic_store(&h->gateway_slot, c->slot);
    atomic_store(c == &s->gateway ? &h->gateway_pid : &h->brain_pid, (uint32_t)c->pid);
}

static void turn(struct supervisor *s)
{
    uint64_t now_us = fb_mono_us(), wake_us = now_us + 10 * US_PER_S;
    const struct child *children[] = {&s->gateway, &s->brain};
    for (size_t i = 0; i < 2; i++)
        if (s->phase == PHASE_RUN && !children[i]->pid && children[i]->start_at_us)
            wake_us = fb_min_u64(wake_us, children[i]->start_at_us);
    if (s->phase_until_us)
        wake_us = fb_min_u64(wake_us, s->phase_until_us);
    if (s->upgrade.until_us)
        wake_us = fb_min_u64(wake_us, s->upgrade.until_us);
    struct child *own[] = {&s->gateway, &s->brain, &s->upgrade.check, &s->upgrade.next};
    struct pollfd fds[5] = {{.fd = s->signal_fd, .events = POLLIN}};
    for (size_t i = 0; i < FB_COUNT(own); i++) {
        bool is_there = own[i]->pid && own[i]->control_fd >= 0;
        fds[i + 1] = (struct pollfd){.fd = is_there ? own[i]->control_fd : -1, .events = POLLIN};
    }
    wake_us = fb_min_u64(wake_us, fb_min_u64(renew_due_us(s), exec_helper_due_us(s)));
    wake_us = fb_min_u64(wake_us, silent_due_us(s));
    int wait_ms = wake_us <= now_us ? 0 : (int)((wake_us - now_us + 999) / 1000);
    if (poll(fds, FB_COUNT(fds), wait_ms) < 0)
        fb_assert(errno == EINTR);
    for (size_t i = 0; i < 2; i++)
        if (fds[i + 1].revents)
            read_control(s, own[i]);
    for (size_t i = 2; i < FB_COUNT(own); i++)
        if (fds[i + 1].revents && own[i]->control_fd == fds[i + 1].fd)
            upgrade_message(s, own[i]);
    if (fds[0].revents)
        read_signals(s);
    reap(s);
    advance(s, fb_mono_us());
}

static void tell_gateways(struct supervisor *s, enum control_kind kind)
{
    if (s->gateway.pid)
        control_send(s->gateway.control_fd, kind, 0, 0, "");
    for (size_t i = 0; i < RETIRED_MAX; i++)
        if (s->retired[i].pid)
            control_send(s->retired[i].control_fd, kind, 0, 0, "");
}

static bool has_gateways(const struct supervisor *s)
{
    bool is_any = s->gateway.pid != 0;
    for (size_t i = 0; i < RETIRED_MAX; i++)
        is_any |= s->retired[i].pid != 0;
    return is_any;
}

static void kill_gateways(const struct supervisor *s)
{
    if (s->gateway.pid)
        kill(s->gateway.pid, SIGKILL);
    for (size_t i = 0; i < RETIRED_MAX; i++)
        if (s->retired[i].pid)
            kill(s->retired[i].pid, SIGKILL);
}

static void read_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reload(s);
        } else if (info.ssi_signo == SIGUSR2) {
            upgrade_ask(s);
        } else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            if (s->phase == PHASE_RUN) {
                upgrade_stop(s);
                renew_stop(s);
                s->phase = PHASE_DRAIN;
                s->phase_until_us =
                    fb_mono_us() + s->conf->p.gateway_drain_timeout * US_PER_MS + 2 * US_PER_S;
                tell_gateways(s, CONTROL_DRAIN);
            } else { /* asked twice: at once */
                tell_gateways(s, CONTROL_STOP);
                s->phase_until_us = fb_mono_us() + US_PER_S;
            }
        }
    }
}

static void refused(struct supervisor *s, const struct control_msg *m)
{
    char why[CONTROL_TEXT_BYTES + 1];
    memcpy(why, m->text, m->text_bytes);
    why[m->text_bytes] = '\0';
    if (s->conf_next)
        verdict_refused(s, NULL, why);
    forget_reload(s);
    reload_again(s);
}

static void read_control(struct supervisor *s, struct child *c)
{
    struct control_msg m;
    int fd = -1;
    int got = control_receive(c->control_fd, &m, &fd);
    if (fd >= 0)
        close(fd);
    if (got < 0) { /* it died or is about to: SIGCHLD tells */
        close(c->control_fd);
        c->control_fd = -1;
        return;
    }
    if (got == 0)
        return;
    switch (m.kind) {
    case CONTROL_READY:
        c->is_ready = true;
        if (c == &s->brain && !s->gateway.pid && s->phase == PHASE_RUN && !s->is_announced)
            supervisor_start(s, &s->gateway, NULL, s->conf_fd);
        if (c == &s->brain) {
            verdict_again(s);
            upgrade_brain_ready(s);
        }
        if (c == &s->gateway)
            reload_again(s);
        announce(s);
        break;
    case CONTROL_RELOADED:
        if (c != &s->gateway || !s->conf_next)
            break;
        fb_log(FB_LOG_INFO, "new configuration in force%s%.*s", m.text_bytes ? "; " : "",
               (int)m.text_bytes, m.text);
        conf_unref(s->conf);
        s->conf = s->conf_next;
        s->conf_next = NULL;
        say_listeners(s);
        listeners_close(&s->listen, &s->listen_next);
        s->listen = s->listen_next;
        s->listen_next = (struct listeners){0};
        close(s->conf_fd);
        s->conf_fd = s->conf_next_fd;
        s->conf_next_fd = -1;
        control_send_fd(s->brain.control_fd, CONTROL_RELOAD, "", s->conf_fd);
        verdict_in_force(s);
        reload_again(s);
        break;
    case CONTROL_REFUSED:
        fb_log(FB_LOG_ERROR, "%s: %.*s", c->name, (int)m.text_bytes, m.text);
        if (c != &s->gateway)
            break;
        refused(s, &m);
        break;
    case CONTROL_RELOAD: /* the API asked */
        if (c != &s->brain)
            break;
        s->reload_asked = m.number;
        reload(s);
        break;
    case CONTROL_ENDPOINT:
    case CONTROL_RESET: /* from the API through the brain to the gateway */
        if (c == &s->brain)
            control_send(s->gateway.control_fd, (enum control_kind)m.kind, m.number, m.value, "");
        break;
    case CONTROL_PURGE:
    case CONTROL_LIST:
        if (c == &s->brain) {
            char text[CONTROL_TEXT_BYTES + 1];
            memcpy(text, m.text, m.text_bytes);
            text[m.text_bytes] = '\0';
            control_send(s->gateway.control_fd, (enum control_kind)m.kind, m.number, m.value, text);
        }
        break;
    case CONTROL_TOLD: /* and back */
        if (c == &s->gateway)
            control_send(s->brain.control_fd, CONTROL_TOLD, m.number, m.value, "");
        break;
    default:
        break;
    }
}

static void reap(struct supervisor *s)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        if (upgrade_reaped(s, pid, status) || renew_reaped(s, pid, status) ||
            exec_helper_reaped(s, pid))
            continue;
        struct child *c = pid == s->gateway.pid ? &s->gateway
                          : pid == s->brain.pid ? &s->brain
                                                : NULL;
        if (!c)
            continue;
        uint64_t now_us = fb_mono_us();
        c->pid = 0;
        if (c == &s->gateway &&
            s->conf_next) { /* it died with a reload: done again when it is back */
            forget_reload(s);
            s->is_reload_wanted = true;
        }
        if (c->control_fd >= 0)
            close(c->control_fd);
        c->control_fd = -1;
        if (s->phase != PHASE_RUN) {
            if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
                fb_log(FB_LOG_ERROR, "%s (%d) crashed at the stop: signal %d; please report it",
                       c->name, (int)pid, WTERMSIG(status));
            continue;
        }
        if (c == &s->brain && s->upgrade.step == UPGRADE_BRAIN && !c->is_swapped) {
            c->is_swapped = true; /* the old binary's, told to stop: the new one at once */
            c->start_at_us = now_us;
            s->upgrade.until_us = 0;
            continue;
        }
        bool is_clean = WIFEXITED(status);
        bool is_over = !s->is_announced && is_clean && WEXITSTATUS(status) != 0;
        fb_log(FB_LOG_ERROR, "%s (%d) ended by %s %d; %s", c->name, (int)pid,
               is_clean ? "exit" : "signal", is_clean ? WEXITSTATUS(status) : WTERMSIG(status),
               is_over ? "foldback cannot start, the line above says why" : "starting it again");
        if (is_over) {
            s->code = WEXITSTATUS(status); /* it said why */
            s->phase = PHASE_DRAIN;
            control_send(s->gateway.control_fd, CONTROL_STOP, 0, 0, "");
            s->phase_until_us = now_us + US_PER_S;
            continue;
        }
        if (now_us - c->started_us < YOUNG_US)
            c->pause_us = fb_min_u64(c->pause_us ? c->pause_us * 2 : 50 * US_PER_MS, PAUSE_MAX_US);
        else
            c->pause_us = 0;
        c->start_at_us = now_us + c->pause_us;
    }
}

static void advance(struct supervisor *s, uint64_t now_us)
{
    renew_advance(s, now_us);
    exec_helper_advance(s, now_us);
    silent_advance(s, now_us);
    struct child *children[] = {&s->brain, &s->gateway};
    if (s->phase == PHASE_RUN) {
        for (size_t i = 0; i < 2; i++)
            if (!children[i]->pid && children[i]->start_at_us && now_us >= children[i]->start_at_us)
                supervisor_start(s, children[i], NULL, s->conf_fd);
        upgrade_advance(s, now_us);
        if (s->gateway.is_ready && !s->conf_next && s->upgrade.step == UPGRADE_NONE)
            reload_again(s);
        return;
    }
    if (s->phase == PHASE_DRAIN) {
        if (has_gateways(s) && s->phase_until_us && now_us >= s->phase_until_us) {
            fb_log(FB_LOG_WARN, "the gateway did not drain in time; requests in flight are cut");
            kill_gateways(s);
            s->phase_until_us = now_us + US_PER_S;
        }
        if (!has_gateways(s)) {
            s->phase = PHASE_BRAIN_STOP;
            s->phase_until_us = now_us + BRAIN_STOP_US;
            control_send(s->brain.control_fd, CONTROL_STOP, CONTROL_STOP_NODE, 0, "");
        }
    }
    if (s->phase == PHASE_BRAIN_STOP) { /* in the same turn: a brain that is gone wakes nobody */
        if (s->brain.pid && now_us >= s->phase_until_us) {
            kill(s->brain.pid, SIGKILL);
            s->phase_until_us = now_us + US_PER_S;
        }
        if (!s->brain.pid)
            s->phase = PHASE_END;
    }
}

/* One at a time: the gateway's answer must be about the configuration that is remembered here. */
static void reload_again(struct supervisor *s)
{
    if (!s->is_reload_wanted)
        return;
    s->is_reload_wanted = false;
    reload(s);
}

static void forget_reload(struct supervisor *s)
{
    conf_unref(s->conf_next);
    s->conf_next = NULL;
    if (s->conf_next_fd >= 0)
        close(s->conf_next_fd);
    s->conf_next_fd = -1;
    listeners_close(&s->listen_next, &s->listen);
}

static void reload(struct supervisor *s)
{
    if (s->conf_next || s->upgrade.step == UPGRADE_CHECK || s->upgrade.step == UPGRADE_START) {
        s->is_reload_wanted = true;
        return;
    }
    struct conf *now = NULL;
    struct conf_report report = {0};
    struct fb_err err = {0};
    struct buf text;
    s->reload_number = s->reload_asked;
    if (!s->setup->file) {
        fb_log(FB_LOG_WARN, "reload: there is no file; `foldback run --config FILE` has one");
        verdict_no_file(s);
        return;
    }
    buf_init(&text, MIB);
    enum fb_code code = conf_load(s->setup->file, &now, &report, &err);
    if (code != FB_OK) {
        for (size_t i = 0; i < report.count; i++)
            fb_log(FB_LOG_ERROR, "reload: %s:%u:%u: %s", s->setup->file, report.at[i].line,
                   report.at[i].column, report.at[i].text);
        fb_log(FB_LOG_ERROR, "reload: %s; the old configuration stays",
               report.count ? "errors above" : err.text);
        verdict_refused(s, &report, err.text);
    } else {
        for (size_t i = 0; i < report.count; i++)
            fb_log(FB_LOG_WARN, "reload: %s:%u:%u: warning: %s", s->setup->file, report.at[i].line,
                   report.at[i].column, report.at[i].text);
        size_t left = conf_reload_needs_restart(s->conf_started, now, &text);
        if (left)
            fb_log(FB_LOG_WARN, "reload: takes effect at the next start: %s", buf_str(&text));
        s->conf_next = now;
        send_reload(s);
    }
    conf_report_fini(&report);
    buf_fini(&text);
}

/* Sockets first, the file that names them behind them: a gateway that has it can serve it. */
static void send_reload(struct supervisor *s)
{
    struct fb_err err = {0};
    uint32_t threads = s->mem.head->threads;
    int to = s->gateway.control_fd;
    listeners_name(&s->listen, s->conf, threads);
    s->conf_next_fd = role_text_fd((struct span){s->conf_next->text, s->conf_next->text_bytes});
    if (listeners_open(s->conf_next, threads, &s->listen, &s->listen_next, &err) != FB_OK) {
        fb_log(FB_LOG_ERROR, "reload: %s: %s; the old configuration stays", s->setup->file,
               err.text);
    } else if (s->conf_next_fd >= 0 && listeners_send(&s->listen_next, &s->listen, threads, to) &&
               control_send_fd(to, CONTROL_RELOAD, s->setup->file, s->conf_next_fd)) {
        return;
    } else {
        fb_fail(&err, FB_E_UNREACHABLE, "the gateway is not there; try again");
        fb_log(FB_LOG_ERROR, "reload: %s", err.text);
    }
    verdict_refused(s, NULL, err.text);
    forget_reload(s);
}

static void say_one(const struct listeners *from, const struct listeners *other, uint32_t threads,
                    const char *what)
{
    for (size_t i = 0; i < from->total / threads; i++) {
        struct sock_addr at;
        char where[SOCK_TEXT_BYTES] = "";
        if (listeners_have(other, from->fds[i]))
            continue;
        if (sock_local(from->fds[i], &at))
            sock_format(&at, where);
        fb_log(FB_LOG_INFO, "listen: %s (%s) %s", from->at[i], where, what);
    }
}

static void say_listeners(const struct supervisor *s)
{
    uint32_t threads = s->mem.head->threads;
    say_one(&s->listen_next, &s->listen, threads, "serves now");
    say_one(&s->listen, &s->listen_next, threads, "takes no more connections");
}

static void announce(struct supervisor *s)
{
    if (s->is_announced || !s->gateway.is_ready || !s->brain.is_ready)
        return;
    s->is_announced = true;
    state_dir_announce(s->setup->state_dir, s->admin_address, s->token_file);
    state_dir_notify_systemd("READY=1");
    if (!s->setup->is_quiet) {
        for (size_t i = 0; i < s->conf->listen_count; i++) {
            struct sock_addr at;
            char where[SOCK_TEXT_BYTES] = "";
            if (sock_local(s->listen.fds[i], &at))
                sock_format(&at, where);
            printf("foldback %s serves %s://%s  (mode %s, %u thread%s)\n", FB_VERSION,
                   conf_listen_scheme(&s->conf->listens[i]), where,
                   ev_mode_name(s->conf->p.top_mode), s->mem.head->threads,
                   s->mem.head->threads == 1 ? "" : "s");
        }
        char url[640];
        if (s->admin_fd >= 0 && state_dir_url(s->admin_address, s->token_file, url, sizeof url))
            printf("dashboard        %s\n", url);
        printf("ask it           foldback --state %s status | decisions | why ...\n",
               s->setup->state_dir);
        fflush(stdout);
    }
    if (s->setup->on_ready)
        s->setup->on_ready(s->setup->arg, s->admin_address);
}

static void cleanup(struct supervisor *s)
{
    silent_stop(s);
    forget_reload(s);
    upgrade_stop(s);
    listeners_close(&s->listen, NULL);
    renew_stop(s);
    const int fds[] = {s->admin_fd,           s->signal_fd,        s->conf_fd,
                       s->gateway.control_fd, s->brain.control_fd, s->mem.fd};
    memfile_close(&s->mem);
    for (size_t i = 0; i < FB_COUNT(fds); i++)
        if (fds[i] > 0)
            close(fds[i]);
    state_dir_close(s->setup->state_dir, s->lock_fd);
    conf_unref(s->conf);
    conf_unref(s->conf_started);
    free(s->reload_refused);
}
