/* SPDX-License-Identifier: Apache-2.0 */
#include "io/thread.h"

#include <sched.h>
#include <signal.h>
#include <string.h>

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
