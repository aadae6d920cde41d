/* SPDX-License-Identifier: Apache-2.0 */
/* hedge loop, every second per route: after which wait a second copy is worth its cost.
 *
 *   delay = q95 of the time to the first byte over 60 s: one in twenty waits longer, and of those
 *           the gateway copies what its budget and the spare room allow
 *
 * The wait is counted from the first send, whoever answered, so that hedging does not shorten the
 * quantile that it rests on.  An endpoint that hangs must not drag the delay to where it hangs,
 * just when copies are worth most: more than ten medians is no slow answer but a lost one.
 *
 * Measured, not claimed: one of ten requests is held out.  When the slowest of the copied are no
 * rarer than the slowest of the held out, the delay becomes 0 (off) for ten minutes. */
#include "base/assert.h"
#include "control/arbiter.h"

#include <math.h>
#include <string.h>

#define QUANTILE 0.95
#define SLOW_QUANTILE 0.99
#define MEDIANS_MAX 10.0
#define WATCH_US (10 * US_PER_S)
/* A window of 60 s moves slowly; steps below this are noise of the quantile. */
#define DEAD_BAND 0.15
#define REST_MS 10000
/* Of the held-out requests above the 99 % line: fewer say nothing (s.e. 18 %). */
#define SLOW_NEEDED 30
#define GAIN_MIN 0.05
#define HALF_US (300 * US_PER_S)
#define OFF_US (600 * US_PER_S)

void loop_hedge_feed(struct engine *e, const struct ev_request *r)
{
    if (r->route >= KNOB_TARGETS_MAX || r->endpoint == EV_NONE || ev_reason_is_shed(r->reason) ||
        r->flags & EV_REQUEST_STREAM)
        return;
    struct hedge_loop *l = &e->s.hedge[r->route];
    if (l->first_us == 0)
        l->first_us = r->head.time_us;
    l->service = r->service;
    l->cause_us = r->head.time_us;
    if (r->hedge == EV_HEDGE_NONE || l->slow_us <= 0)
        return;
    uint32_t group = r->hedge == EV_HEDGE_CONTROL;
    uint64_t waited_us = r->upstream_us;
    if (r->hedge == EV_HEDGE_WON)
        waited_us += r->hedge_us;
    l->all[group]++;
    l->slow[group] += (double)waited_us > l->slow_us;
}

/* A second copy needs a second endpoint. */
static bool has_two(const struct engine *e, uint16_t service)
{
    uint32_t count = 0;
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ENDPOINT] && count < 2; i++) {
        const struct name_cell *name = &e->s.name[EV_KIND_ENDPOINT][i];
        count += name->is_used && name->parent == service;
    }
    return count >= 2;
}

static struct fact quantile_ms(const struct engine *e, uint16_t route, double q)
{
    struct fact f =
        facts_upstream_quantile(e->facts, control_scope(EV_KIND_ROUTE, route), q, FACT_60S);
    f.value /= 1e3;
    return f;
}

static void forget_half(struct hedge_loop *l, uint64_t now_us)
{
    if (now_us - l->half_us < HALF_US)
        return;
    l->half_us = now_us;
    for (int i = 0; i < 2; i++) {
        l->all[i] /= 2;
        l->slow[i] /= 2;
    }
}

/* Share of slow requests that copies save, of those that were slow without; NAN: too few yet. */
static double gain_of(const struct hedge_loop *l)
{
    if (l->slow[1] < SLOW_NEEDED || l->all[0] == 0)
        return NAN;
    double with = (double)l->slow[0] / l->all[0];
    double without = (double)l->slow[1] / l->all[1];
    return 1 - with / without;
}

static void move_to(struct engine *e, uint16_t route, double to, uint16_t reason,
                    const struct fact *q95)
{
    struct hedge_loop *l = &e->s.hedge[route];
    struct move m;
    move_init(&m, e, KNOB_HEDGE_DELAY_MS, route);
    if (to == m.d.from)
        return;
    struct fact held = {.value = gain_of(l), .n = l->all[1], .n_needed = SLOW_NEEDED};
    held.state = isnan(held.value) ? FACT_INSUFFICIENT_DATA : FACT_OK;
    m.d.to = to;
    m.d.reason = reason;
    m.d.cause_us = l->cause_us;
    m.rest_ms = REST_MS;
    m.is_protective = reason == REASON_HEDGE_OFF;
    move_evidence(&m, 0, FACT_UPSTREAM_P95, fact_window_ms(FACT_60S), q95);
    move_evidence(&m, 1, FACT_HEDGE_GAIN, HALF_US / US_PER_MS, &held);
    m.d.threshold1 = QUANTILE;
    m.d.threshold2 = GAIN_MIN;
    move_expect(&m, EXPECT_KEEP, FACT_LATENCY_P50, FACT_10S, 12000);
    if (arbiter_submit(e, &m) && reason == REASON_HEDGE_OFF) {
        l->off_until_us = e->s.now_us + OFF_US;
        memset(l->all, 0, sizeof l->all);
        memset(l->slow, 0, sizeof l->slow);
    }
}

static void run_one(struct engine *e, uint16_t route)
{
    struct hedge_loop *l = &e->s.hedge[route];
    const struct knob_layer *layer = control_layer(e, KNOB_HEDGE_DELAY_MS, route);
    if (l->first_us == 0 || e->s.now_us - l->first_us < WATCH_US || layer->max <= 0 ||
        e->s.now_us < l->off_until_us || !has_two(e, l->service))
        return;
    struct fact q95 = quantile_ms(e, route, QUANTILE);
    struct fact q50 = quantile_ms(e, route, 0.5);
    struct fact q99 = quantile_ms(e, route, SLOW_QUANTILE);
    forget_half(l, e->s.now_us);
    if (q99.state == FACT_OK)
        l->slow_us = q99.value * 1e3;
    if (q95.state != FACT_OK || q50.state != FACT_OK)
        return;
    double now = control_value(e, KNOB_HEDGE_DELAY_MS, route);
    double gain = gain_of(l);
    if (now > 0 && !isnan(gain) && gain < GAIN_MIN) {
        move_to(e, route, layer->min, REASON_HEDGE_OFF, &q95);
        return;
    }
    double aim = fmin(q95.value, MEDIANS_MAX * q50.value);
    aim = fb_clamp(ceil(aim), fmax(layer->min, 1), layer->max);
    if (now > 0 && fabs(aim - now) <= fmax(DEAD_BAND * now, 1))
        return;
    move_to(e, route, aim, REASON_HEDGE_FOLLOWS, &q95);
}

void loop_hedge_run(struct engine *e)
{
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ROUTE]; i++)
        if (control_layer(e, KNOB_HEDGE_DELAY_MS, i)->is_used)
            run_one(e, i);
}
