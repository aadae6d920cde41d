/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/retry.h"

#include <math.h>

/* Ten: the first requests after a start may meet a dead endpoint before anything was earned. */
static const double hold_min = 10.0;
/* 2 s of earning: with 10 s the first second of a total failure saw 1.8 x the work, now 1.3 x, and
 * no scenario lost an answer by it (doc/design/balance.md). */
static const double hold_s = 2.0;
static const double recent_s = 10.0;
static const double floor_per_s = 1.0;
static const uint64_t backoff_first_us = 25 * US_PER_MS;
static const uint64_t backoff_max_us = US_PER_S;
/* Time is folded in at this grain: an exp() per request would be a tenth of its whole cost. */
static const uint64_t grain_us = 10 * US_PER_MS;

void retry_init(struct retry *r, double pct, uint64_t now_us)
{
    *r = (struct retry){.pct = pct, .tokens = hold_min, .at_us = now_us};
}

void retry_set_pct(struct retry *r, double pct)
{
    r->pct = fb_clamp(pct, 0, 100);
}

static void advance(struct retry *r, uint64_t now_us)
{
    uint64_t passed_us = fb_sub_floor_u64(now_us, r->at_us);
    if (passed_us < grain_us)
        return;
    double passed_s = (double)passed_us / (double)US_PER_S;
    r->at_us = now_us;
    r->recent *= exp(-passed_s / recent_s);
    r->tokens += passed_s * floor_per_s;
}

static void clip(struct retry *r)
{
    double hold_max = fmax(hold_min, r->recent * (hold_s / recent_s) * r->pct / 100);
    if (r->tokens > hold_max)
        r->tokens = hold_max;
}

void retry_earn(struct retry *r, uint64_t now_us)
{
    advance(r, now_us);
    r->recent += 1;
    r->tokens += r->pct / 100;
    clip(r);
}

bool retry_charge(struct retry *r, uint64_t now_us)
{
    advance(r, now_us);
    clip(r);
    if (r->pct <= 0 || r->tokens < 1)
        return false;
    r->tokens -= 1;
    return true;
}

uint64_t retry_backoff_us(uint32_t nth, struct rng *rng)
{
    uint64_t most_us = fb_min_u64(backoff_first_us << (nth < 16 ? nth : 16), backoff_max_us);
    return (uint64_t)(rng_unit(rng) * (double)most_us);
}
