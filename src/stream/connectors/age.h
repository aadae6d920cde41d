/* SPDX-License-Identifier: Apache-2.0 */
/* age: how long the oldest message waits at a broker, without believing any clock but ours.
 *
 *   end:       messages that came, and those that wait behind them, at a look; or their numbers,
 *              when a broker leaves out some
 *   the oldest that waits is number <came>: it waits since the first look whose end was beyond it
 *
 * What waited already at the first look counts from there: the age is what is known at least.
 * Bounded: AGE_LOOKS; neighbours are joined when it is full, the earlier time counts.
 * Pure.  Threads: a struct age belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_AGE_H
#define FB_STREAM_CONNECTORS_AGE_H
#include "base/base.h"

#define AGE_LOOKS 32u

struct age {
    uint64_t end[AGE_LOOKS], at_us[AGE_LOOKS]; /* both ascending */
    uint64_t apart_us;                         /* looks that are closer are one */
    uint64_t came;
    uint32_t count;
};
/* <behind> wait behind the <came> that came, counted or numbered alike; either goes back:
 * partitions changed hands, it begins anew. */
void age_look(struct age *a, uint64_t came, uint64_t behind, uint64_t now_us);
void age_anew(struct age *a);
/* 0: none waits. */
uint64_t age_us(const struct age *a, uint64_t now_us);
#endif
