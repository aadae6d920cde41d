/* SPDX-License-Identifier: Apache-2.0 */
/* renew: runs the program that renews certificates (tls.renew_exec), at the start and from time to
 * time.  The gateway sees the new files by itself.
 *
 *   resting --due--> running --ends | RUN_MAX: killed--> resting
 *
 * The supervisor does it because the process that faces the network may not start programs. */
#include "base/clock.h"
#include "base/log.h"
#include "main/supervisor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* An authority's check of a challenge takes seconds; an ACME client that hangs is ended. */
#define RUN_MAX_US (600 * US_PER_S)
/* After a failure it is tried again soon, but not so often that an authority locks us out. */
#define AGAIN_US (3600 * US_PER_S)

static _Noreturn void child(const struct supervisor *s)
{
    const char *exec = s->conf->p.tls_renew_exec;
    sigset_t none;
    int null = open("/dev/null", O_RDWR);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid(); /* its children end with it, and a Ctrl-C is not for it */
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    setenv("FOLDBACK_STATE", s->setup->state_dir, 1);
    setenv("FOLDBACK_ACME_DIR", s->conf->p.tls_acme_dir, 1);
    execl(exec, exec, (char *)NULL);
    _exit(127);
}

/* What others may see of it. */
static void show(const struct supervisor *s)
{
    const struct renew *r = &s->renew;
    struct memfile_renew *m = &s->mem.head->renew;
    uint64_t wall_us = fb_wall_us(), now_us = fb_mono_us();
    uint64_t next_us = wall_us + fb_sub_floor_u64(r->next_us, now_us);
    atomic_store(&m->is_running, r->pid != 0);
    atomic_store(&m->begun_s, (wall_us - fb_sub_floor_u64(now_us, r->begun_us)) / US_PER_S);
    atomic_store(&m->next_s, next_us / US_PER_S);
}

static void show_end(const struct supervisor *s, int status)
{
    struct memfile_renew *m = &s->mem.head->renew;
    uint32_t code = (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    atomic_store(&m->last_code, code);
    atomic_store(&m->is_failing, code != 0);
    atomic_fetch_add(code ? &m->failed : &m->good, 1);
    show(s);
}

uint64_t renew_due_us(const struct supervisor *s)
{
    if (!s->conf->p.tls_renew_exec[0] || s->phase != PHASE_RUN || !s->is_announced)
        return UINT64_MAX;
    return s->renew.pid ? s->renew.begun_us + RUN_MAX_US : s->renew.next_us;
}

void renew_advance(struct supervisor *s, uint64_t now_us)
{
    struct renew *r = &s->renew;
    if (now_us < renew_due_us(s))
        return;
    if (r->pid) {
        fb_log(FB_LOG_ERROR, "%s still runs after %d s: it is ended", s->conf->p.tls_renew_exec,
               (int)(RUN_MAX_US / US_PER_S));
        kill(-r->pid, SIGKILL);
        r->begun_us = now_us;
        return;
    }
    r->next_us = now_us + s->conf->p.tls_renew_every * US_PER_MS;
    r->begun_us = now_us;
    pid_t pid = fork();
    if (pid == 0)
        child(s);
    if (pid > 0)
        r->pid = pid;
    else
        fb_log(FB_LOG_ERROR, "%s cannot be started: %s", s->conf->p.tls_renew_exec,
               strerror(errno));
    show(s);
}

bool renew_reaped(struct supervisor *s, pid_t pid, int status)
{
    struct renew *r = &s->renew;
    if (pid != r->pid)
        return false;
    r->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        fb_log(FB_LOG_INFO, "%s ended well", s->conf->p.tls_renew_exec);
        show_end(s, status);
        return true;
    }
    r->next_us = fb_min_u64(r->next_us, fb_mono_us() + AGAIN_US);
    show_end(s, status);
    fb_log(FB_LOG_ERROR, "%s ended with %s %d; it is tried again within the hour",
           s->conf->p.tls_renew_exec, WIFEXITED(status) ? "code" : "signal",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return true;
}

void renew_stop(struct supervisor *s)
{
    if (s->renew.pid)
        kill(-s->renew.pid, SIGTERM);
}
