/* SPDX-License-Identifier: Apache-2.0 */
/* retry loop, every second per service: retries help against single failures and kill a service
 * that fails.
 *
 *   budget = configured x clamp((30 - error %) / (30 - 5), 0, 1), and 0 while the limit binds
 *
 * Up to 5 % errors the whole budget, from 30 % on none: retries then sustain the failure
 * (loops.md 2.5, 3). Cuts come at once; the budget comes back by a fifth of the configured value
 * per second. */
#include "control/arbiter.h"

#include <math.h>

#define ERROR_FULL_PCT 5.0
#define ERROR_NONE_PCT 30.0
#define RESTORE_RATIO 0.2
/* A tenth of the budget: less is noise of the error ratio. */
#define STEP_MIN_RATIO 0.1

void loop_retry_feed(struct engine *e, const struct ev_request *r)
{
    if (r->service < KNOB_TARGETS_MAX)
        e->s.retry[r->service].cause_us = r->head.time_us;
}

static bool is_binding(const struct engine *e, struct fact_scope scope, struct fact *queued)
{
    *queued = facts_get(e->facts, scope, FACT_QUEUED, FACT_1S);
    struct fact in_flight = facts_get(e->facts, scope, FACT_IN_FLIGHT, FACT_1S);
    struct fact limit = facts_get(e->facts, scope, FACT_LIMIT, FACT_1S);
    if (queued->state != FACT_OK || in_flight.state != FACT_OK || limit.state != FACT_OK)
        return false;
    /* means over ten gauges: 0.95 because a slot is empty between an answer and the next send */
    return queued->value >= 1 && limit.value > 0 && in_flight.value >= 0.95 * limit.value;
}

static void run_one(struct engine *e, uint16_t service)
{
    const struct knob_layer *layer = control_layer(e, KNOB_RETRY_PCT, service);
    double configured = layer->is_configured ? layer->configured : knob_row(KNOB_RETRY_PCT)->safe;
    struct move m;
    move_init(&m, e, KNOB_RETRY_PCT, service);
    struct fact queued;
    bool is_full = is_binding(e, m.scope, &queued);
    struct fact errors = facts_get(e->facts, m.scope, FACT_ERROR_RATIO, FACT_1S);
    uint32_t window_ms = fact_window_ms(FACT_1S);
    if (errors.state == FACT_INSUFFICIENT_DATA) {
        errors = facts_get(e->facts, m.scope, FACT_ERROR_RATIO, FACT_10S);
        window_ms = fact_window_ms(FACT_10S);
    }
    if (errors.state != FACT_OK && !is_full)
        return;
    double part = 0;
    if (!is_full)
        part = fb_clamp((ERROR_NONE_PCT - errors.value * 100) / (ERROR_NONE_PCT - ERROR_FULL_PCT),
                        0, 1);
    double to = fb_clamp(configured * part, layer->min, layer->max);
    bool is_cut = to < m.d.from;
    if (!is_cut)
        to = fmin(to, m.d.from + RESTORE_RATIO * configured);
    bool is_end = to == configured * part && (part == 0 || part == 1);
    if (fabs(to - m.d.from) < STEP_MIN_RATIO * configured && !is_end)
        return;
    m.d.to = to;
    m.d.reason = is_cut ? REASON_RETRY_CUT : REASON_RETRY_RESTORE;
    m.d.cause_us = e->s.retry[service].cause_us;
    m.is_protective = is_cut;
    move_evidence(&m, 0, FACT_ERROR_RATIO, window_ms, &errors);
    move_evidence(&m, 1, FACT_QUEUED, fact_window_ms(FACT_1S), &queued);
    m.d.threshold1 = ERROR_FULL_PCT / 100;
    m.d.threshold2 = ERROR_NONE_PCT / 100;
    if (is_cut)
        move_expect(&m, EXPECT_LOWER, FACT_RETRY_RATIO, FACT_1S, 2500);
    else
        move_expect(&m, EXPECT_KEEP, FACT_ERROR_RATIO, FACT_1S, 2500);
    arbiter_submit(e, &m);
}

void loop_retry_run(struct engine *e)
{
    for (uint16_t i = 0; i < e->s.top[EV_KIND_SERVICE]; i++)
        if (control_layer(e, KNOB_RETRY_PCT, i)->is_used)
            run_one(e, i);
}
