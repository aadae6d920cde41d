/* SPDX-License-Identifier: Apache-2.0 */
/* wheel: timers of 1 ms in four rings of 64 slots (64 ms, 4 s, 4 min, 4.6 h), as in Varghese and
 * Lauck (1987).
 *
 * Setting a timer to a later time than it is armed for only writes due_us; when its slot comes up
 * it is armed again.  So a timer that is pushed back at each request is moved at most once per
 * shortest wait. Pure: time is an argument.  Threads: one at a time.  Units: <tick> is ms since
 * boot, rounded down. */
#ifndef FB_IO_WHEEL_H
#define FB_IO_WHEEL_H
#include "io/loop.h"

#define WHEEL_LEVELS 4
#define WHEEL_SLOTS 64

struct wheel {
    struct loop_timer *slot[WHEEL_LEVELS][WHEEL_SLOTS];
    uint64_t used[WHEEL_LEVELS]; /* bit per slot; may be set for an empty one, never clear for a
                                    full one */
    uint64_t tick;               /* next ms to look at */
};

void wheel_init(struct wheel *w, uint64_t now_us);
void wheel_set(struct wheel *w, struct loop_timer *t, uint64_t due_us);
void wheel_stop(struct loop_timer *t);
/* Calls on_due of everything due at <now_us>. */
void wheel_advance(struct wheel *w, uint64_t now_us);
/* How long nothing can be due, rounded up to ms, at most <most_ms>. */
uint32_t wheel_wait_ms(const struct wheel *w, uint64_t now_us, uint32_t most_ms);
#endif
