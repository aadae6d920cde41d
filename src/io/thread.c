/* SPDX-License-Identifier: Apache-2.0 */
#include "io/thread.h"

#define URGENT_SLICE_NS 200000
#define BACKGROUND_NICE 5

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum fb_code thread_start(pthread_t *out, const char *name, void *(*run)(void *arg), void *arg)
{
    sigset_t all, was;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int failed = pthread_create(out, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (failed)
        return FB_E_NOMEM;
    pthread_setname_np(*out, name);
    return FB_OK;
}

uint32_t thread_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : (uint32_t)n;
}

void spin_lock_slow(struct spin *s)
{
    for (uint32_t spins = 0;; spins++) {
        if (!atomic_load_explicit(&s->is_held, memory_order_relaxed) &&
            !atomic_exchange_explicit(&s->is_held, 1, memory_order_acquire))
            return;
        if (spins < 64)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
}

/* sched_setattr has no wrapper in glibc 2.36. */
struct sched_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void thread_haste(enum thread_haste haste)
{
    errno = 0;
    int was = getpriority(PRIO_PROCESS, 0);
    if (errno)
        return;
    /* somebody gave it real-time priority: that is urgent enough */
    if (haste == THREAD_URGENT && sched_getscheduler(0) != SCHED_OTHER)
        return;
    struct sched_attributes a = {.size = sizeof a, .policy = SCHED_OTHER, .nice = was};
    if (haste == THREAD_URGENT) {
        a.runtime_ns = URGENT_SLICE_NS;
    } else {
        a.policy = SCHED_BATCH;
        a.nice = was + BACKGROUND_NICE < 19 ? was + BACKGROUND_NICE : 19;
    }
    (void)syscall(SYS_sched_setattr, 0, &a, 0); /* without it only latency is lost */
}
