/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/load.h"

#include <math.h>

#include "base/assert.h"

#define SEATS_MAX 256

/* Below this a utilisation is noise: one garbage collection is as much. */
static const double utilisation_min = 0.02;
static const double per_s_min = 1;
static const double factor_min = 0.25;
static const double factor_max = 4;
/* Per tick of 100 ms: 63 % of the way in 2 s.  Reports are means over seconds; a quicker pull
 * makes endpoints swing against each other. */
static const double pull = 0.05;

static double capacity(const struct load *l, double picks_per_s, uint64_t now_us);

void load_init(struct load *l)
{
    *l = (struct load){.factor = 1};
}

bool load_is_fresh(const struct load *l, uint64_t now_us)
{
    return l->last.at_us > 0 && fb_sub_floor_u64(now_us, l->last.at_us) < LOAD_STALE_US;
}

void load_tick(struct load *const *of, const double *picks_per_s, uint32_t n, uint64_t now_us)
{
    double cap[SEATS_MAX];
    double sum = 0;
    uint32_t known = 0;
    fb_assert(n <= SEATS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        cap[i] = capacity(of[i], picks_per_s[i], now_us);
        if (cap[i] > 0) {
            sum += cap[i];
            known++;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        double to = cap[i] > 0 ? fb_clamp(cap[i] * known / sum, factor_min, factor_max) : 1;
        of[i]->factor += pull * (to - of[i]->factor);
    }
}

/* Requests per second that it could do; 0: it does not say. */
static double capacity(const struct load *l, double picks_per_s, uint64_t now_us)
{
    double per_s = l->last.per_s > 0 ? l->last.per_s : picks_per_s;
    if (!load_is_fresh(l, now_us) || l->last.utilisation < utilisation_min || per_s < per_s_min)
        return 0;
    double errors = fmax(0, l->last.err_per_s) / per_s;
    return per_s / (l->last.utilisation + fmin(errors, 1));
}
