/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/hedge.h"

#include <math.h>

/* Above it a second copy takes the room of a request that is about to come (loops.md 2.6). */
static const double utilisation_max = 0.7;
static const double utilisation_s = 10.0;
/* 10 s of earning: a pause of one of three endpoints holds as many requests as its limit, at once.
 */
static const double hold_s = 10.0;
static const double recent_s = 10.0;
static const double hold_min = 2.0;
/* One in twenty answers is slow by definition and would spend all; the few that a stall holds are
 * the ones worth it (test/sim/hedge_scenarios.c: p99.9 195 ms without a reserve). */
static const double reserve_share = 0.5;
static const uint64_t grain_us = 10 * US_PER_MS;

void hedge_init(struct hedge *h, double pct, uint64_t now_us)
{
    *h = (struct hedge){.pct = pct, .tokens = 1, .recent_us = now_us, .utilisation_us = now_us};
}

void hedge_set_pct(struct hedge *h, double pct)
{
    h->pct = fb_clamp(pct, 0, 100);
}

static void fade(struct hedge *h, uint64_t now_us)
{
    uint64_t passed_us = fb_sub_floor_u64(now_us, h->recent_us);
    if (passed_us < grain_us)
        return;
    h->recent *= exp(-(double)passed_us / (double)US_PER_S / recent_s);
    h->recent_us = now_us;
}

void hedge_earn(struct hedge *h, uint64_t now_us)
{
    fade(h, now_us);
    h->recent += 1;
    h->tokens += h->pct / 100;
    double hold_max = fmax(hold_min, h->recent * (hold_s / recent_s) * h->pct / 100);
    if (h->tokens > hold_max)
        h->tokens = hold_max;
    h->reserve = hold_max * reserve_share;
}

void hedge_tick(struct hedge *h, uint32_t in_flight, uint32_t limit, uint64_t now_us)
{
    double passed_s = (double)fb_sub_floor_u64(now_us, h->utilisation_us) / (double)US_PER_S;
    double now = limit > 0 ? (double)in_flight / limit : 1;
    h->utilisation += (now - h->utilisation) * (1 - exp(-passed_s / utilisation_s));
    h->utilisation_us = now_us;
}

void hedge_refund(struct hedge *h)
{
    h->tokens += 1;
    h->sent--;
}

enum hedge_answer hedge_ask(struct hedge *h, const struct hedge_seen *seen, uint64_t now_us)
{
    fade(h, now_us);
    if (h->pct <= 0 || h->tokens < 1 || !seen->has_other)
        return HEDGE_NO;
    bool is_spare = seen->has_room && !seen->is_limiting && h->utilisation <= utilisation_max;
    bool is_worth = seen->is_stalled || (is_spare && h->tokens - 1 >= h->reserve);
    if (!is_worth)
        return HEDGE_NO;
    h->tokens -= 1;
    h->sent++;
    return seen->has_room && !seen->is_limiting ? HEDGE_SEND : HEDGE_QUEUE;
}
