/* SPDX-License-Identifier: Apache-2.0 */
/* admit: who passes the door of a service while it sheds, and how much time a request has.
 *
 * A request has a level: class x 128 + a number 0..127 of its user.  It passes when its level is
 * below the threshold, so a threshold of 512 lets all in and 192 lets in critical and half of
 * default.  The user's number changes each hour: within it a user is either served or not (no page
 * with half of its parts), over the day nobody is always the victim.  Critical requests are never
 * refused here. Pure.  Threads: any. */
#ifndef FB_REFLEX_ADMIT_H
#define FB_REFLEX_ADMIT_H
#include "base/rng.h"
#include "event/event.h"

#define ADMIT_LEVELS_PER_CLASS 128
#define ADMIT_ALL (EV_CLASS_COUNT * ADMIT_LEVELS_PER_CLASS)

/* Level of a request; without a user (<key_hash> 0) the number is drawn by lot. */
uint32_t admit_level(uint8_t class, uint64_t key_hash, uint64_t now_us, struct rng *lot);

/* ---- deadlines: absolute, CLOCK_MONOTONIC us, UINT64_MAX none ---- */

static inline uint64_t deadline_after(uint64_t from_us, uint64_t budget_us)
{
    return budget_us > UINT64_MAX - from_us ? UINT64_MAX : from_us + budget_us;
}
static inline bool deadline_is_over(uint64_t deadline_us, uint64_t now_us)
{
    return deadline_us <= now_us;
}
/* 0 when it is over, UINT64_MAX when there is none. */
static inline uint64_t deadline_left_us(uint64_t deadline_us, uint64_t now_us)
{
    return deadline_us == UINT64_MAX ? UINT64_MAX : fb_sub_floor_u64(deadline_us, now_us);
}
/* How long the <nth> attempt (0, 1, ...) may wait: <timeout_us> x 2^nth, since a repetition that is
 * cut as early as the first attempt fails like it, but never longer than the deadline leaves. */
static inline uint64_t deadline_attempt_us(uint64_t timeout_us, uint32_t nth, uint64_t deadline_us,
                                           uint64_t now_us)
{
    uint32_t shift = fb_min_u32(nth, 8);
    uint64_t wait_us = timeout_us > UINT64_MAX >> shift ? UINT64_MAX : timeout_us << shift;
    return fb_min_u64(wait_us, deadline_left_us(deadline_us, now_us));
}
#endif
