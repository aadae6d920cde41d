/* SPDX-License-Identifier: Apache-2.0 */
/* thread: named threads, and a lock for a few hundred nanoseconds of work.
 *
 * Threads: any. */
#ifndef FB_IO_THREAD_H
#define FB_IO_THREAD_H
#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>

/* Starts <run>(<arg>) with all signals blocked; <name> has at most 15 bytes.  Errors: NOMEM. */
FB_MUST_USE
enum fb_code thread_start(pthread_t *out, const char *name, void *(*run)(void *arg), void *arg);
/* How the kernel shares a core between this thread and others.  URGENT: it seldom works for long
 * and should begin at once: a short slice of its own (Linux 6.12; nothing happens before).
 * BACKGROUND: it never interrupts another thread, gets a third of what an ordinary one gets when
 * both want all of the core, and hands this down to threads that it starts. */
enum thread_haste { THREAD_URGENT, THREAD_BACKGROUND };
void thread_haste(enum thread_haste haste);
/* Cores that this process may use, at least 1. */
uint32_t thread_cores(void);

/* Spins for about a microsecond, then yields: on a machine with fewer cores than threads the owner
 * may have been descheduled inside. */
struct spin {
    _Atomic uint32_t is_held;
};
void spin_lock_slow(struct spin *s);
static inline void spin_lock(struct spin *s)
{
    if (FB_UNLIKELY(atomic_exchange_explicit(&s->is_held, 1, memory_order_acquire)))
        spin_lock_slow(s);
}
static inline void spin_unlock(struct spin *s)
{
    atomic_store_explicit(&s->is_held, 0, memory_order_release);
}
#endif
