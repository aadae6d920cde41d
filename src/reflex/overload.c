/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/overload.h"

#include "base/assert.h"
#include "reflex/admit.h"

#include <math.h>

static const double short_from = 0.15;
static const double refuse_from = 0.30;
static const double pause_from = 0.90;
/* Twice as slow holds a passed spike 10 s long; twice as fast lets in at once what just left. */
static const double fall_per_s = 0.2;
/* A thread that is busy all the time climbs the whole ladder in two seconds. */
static const double cpu_rise_per_s = 0.5;
/* Busier than the target less this is close enough to stay. */
static const double cpu_band = 0.05;
/* A pause between calls (a stopped process) counts as so much at most. */
static const double gap_s_max = 1;

static double most_of(enum overload_resource r)
{
    return r == OVERLOAD_CPU ? pause_from - 0.01 : r == OVERLOAD_RING ? short_from - 0.01 : 1;
}

/* Where <used> lies between target and all of it. */
static double place_of(double used, double target)
{
    if (used < target)
        return 0;
    return target < 1 ? fmin((used - target) / (1 - target), 1) : 1;
}

struct overload_verdict overload_step(struct overload *o, const struct overload_conf *conf,
                                      const double used[OVERLOAD_RESOURCES], uint64_t now_us)
{
    struct overload_verdict v = {.threshold = ADMIT_ALL};
    double gap_s =
        o->last_us ? fmin((double)fb_sub_floor_u64(now_us, o->last_us) / 1e6, gap_s_max) : 0;
    o->last_us = now_us;
    for (uint32_t r = 0; r < OVERLOAD_RESOURCES; r++) {
        double *place = &o->place[r];
        double target = conf->target[r];
        fb_assert(target >= 0);
        fb_assert(target <= 1);
        if (r != OVERLOAD_CPU)
            *place = fmax(place_of(used[r], target), *place - fall_per_s * gap_s);
        else if (used[r] >= target)
            *place += cpu_rise_per_s * gap_s * fmax(place_of(used[r], target), 0.1);
        else if (used[r] < target - cpu_band)
            *place -= fall_per_s * gap_s / 2;
        *place = fb_clamp(*place, 0, most_of((enum overload_resource)r));
        if (*place > v.place) {
            v.place = *place;
            v.cause = (enum overload_resource)r;
        }
    }
    if (v.place <= 0)
        return v;
    v.stage = v.place >= pause_from    ? OVERLOAD_PAUSE
              : v.place >= refuse_from ? OVERLOAD_REFUSE
              : v.place >= short_from  ? OVERLOAD_SHORT
                                       : OVERLOAD_TRIM;
    double share = fb_clamp((v.place - refuse_from) / (pause_from - refuse_from), 0, 1);
    v.threshold = ADMIT_ALL - (uint32_t)(share * (ADMIT_ALL - ADMIT_LEVELS_PER_CLASS));
    fb_assert(v.threshold >= ADMIT_LEVELS_PER_CLASS);
    return v;
}

uint64_t overload_idle_us(double place)
{
    if (place < short_from)
        return UINT64_MAX;
    /* 5 s down to none: whoever is about to ask again keeps his connection the longest */
    double share = (place - short_from) / (pause_from - short_from);
    return (uint64_t)(5e6 * fb_clamp(1 - share, 0, 1));
}

const char *overload_resource_name(uint32_t resource)
{
    static const char *const names[] = {"memory", "descriptors", "cpu", "ring"};
    return resource < FB_COUNT(names) ? names[resource] : "";
}

const char *overload_stage_name(uint32_t stage)
{
    static const char *const names[] = {"none", "trim", "short", "refuse", "pause"};
    return stage < FB_COUNT(names) ? names[stage] : "";
}
