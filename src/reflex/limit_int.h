/* SPDX-License-Identifier: Apache-2.0 */
/* limit_int: shared by limit.c (bookkeeping) and limit_judge.c (verdicts). */
#ifndef FB_REFLEX_LIMIT_INT_H
#define FB_REFLEX_LIMIT_INT_H
#include "reflex/limit.h"

/*            wants more                         enough samples
 *   HOLD ------------------> PROBE (higher) ------------------> HOLD   probe_start, probe_judge
 *    ^ \   queue in endpoint                    enough samples   ^
 *    |  `------------------> CHECK (lower) ----------------------'     down_start, check_judge
 *    `--- any, void: a pause, or it stopped binding                                            */
enum limit_mode { LIMIT_HOLD, LIMIT_PROBE, LIMIT_CHECK };

#define LIMIT_PROBE_GAP_MIN_US UINT64_C(100000)
#define LIMIT_PROBE_GAP_MAX_US UINT64_C(2000000)
/* What a restored base weighs: enough to use, little enough to be overruled in a second. */
#define LIMIT_RESTORED_SAMPLES 50.0
/* Latencies are capped at this many service times before they are averaged: a queue shifts all of
 * them, a heavy tail only few.  At sigma 1.5 it takes 7x fewer samples for the same verdict. */
#define LIMIT_CAP_SERVICES 4.0

struct limit_verdict {
    struct limit_mean seen;
    double ratio; /* latency over service time; 1 = no queue */
    double error; /* relative standard error of it */
    /* The same from ages alone, open requests counted as if they completed now: surely not too
     * high, and there at once, when hardly anything completes any more. */
    double ratio_low, error_low;
};

void limit_judge(struct limit *l, bool is_bound, uint64_t now_us);
void limit_meter_start(struct limit *l, uint64_t now_us);
void limit_base_set(struct limit *l, double base_us, double samples);
void limit_levels_decay(struct limit *l, uint64_t now_us);
/* Sets the limit within the bounds; a new generation.  <v>: the evidence, NULL when there is none;
 * REASON_NONE: the caller proposes. */
void limit_move(struct limit *l, double to, uint16_t reason, const struct limit_verdict *v,
                uint64_t now_us);
void limit_propose(struct limit *l, uint16_t reason, uint32_t from, const struct limit_verdict *v,
                   uint64_t now_us);

static inline double limit_capped(const struct limit *l, double age_us)
{
    double cap_us = LIMIT_CAP_SERVICES * l->base.us;
    return l->base.us > 0 && age_us > cap_us ? cap_us : age_us;
}

/* 1..8 one level each, then four per doubling. */
static inline unsigned limit_level_of(uint32_t in_flight)
{
    if (in_flight <= 8)
        return in_flight ? in_flight - 1 : 0;
    unsigned log2 = 31 - (unsigned)__builtin_clz(in_flight - 1);
    unsigned level = 8 + (log2 - 3) * 4 + (((in_flight - 1) >> (log2 - 2)) & 3);
    return level < LIMIT_LEVELS ? level : LIMIT_LEVELS - 1;
}

/* The largest in-flight count of a level. */
static inline uint32_t limit_level_top(unsigned level)
{
    if (level < 8)
        return level + 1;
    unsigned log2 = 3 + (level - 8) / 4;
    return (UINT32_C(1) << log2) + (((level - 8) % 4) + 1) * (UINT32_C(1) << (log2 - 2));
}
#endif
