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
#include <string.h>

#define FULL_NOTE "limit binds" /* for explain.c */
#define ERROR_FULL_PCT 5.0
#define ERROR_NONE_PCT 30.0
#define RESTORE_RATIO 0.2
#define FULL_REST_US (5 * US_PER_S)
#define CUT_REST_MS                                                                                \
    5000 /* no way back before the 10 s window has seen half of what was cut for                   \
          */
/* A tenth of the budget: less is noise of the error ratio. */
#define STEP_MIN_RATIO 0.1

void loop_retry_feed(struct engine *e, const struct ev_request *r)
{
    if (r->service < KNOB_TARGETS_MAX)
        e->s.retry[r->service].cause_us = r->head.time_us;
}

/* The service is limiting: all slots taken and someone waits, or the door refuses some. */
static bool is_binding(const struct engine *e, uint16_t service, struct fact *queued)
{
    struct fact_scope scope = control_scope(EV_KIND_SERVICE, service);
    *queued = facts_get(e->facts, scope, FACT_QUEUED, FACT_1S);
    struct fact in_flight = facts_get(e->facts, scope, FACT_IN_FLIGHT, FACT_1S);
    struct fact limit = facts_get(e->facts, scope, FACT_LIMIT, FACT_1S);
    if (queued->state != FACT_OK || in_flight.state != FACT_OK || limit.state != FACT_OK)
        return false;
    if (control_value(e, KNOB_SHED_THRESHOLD, service) < knob_row(KNOB_SHED_THRESHOLD)->max)
        return true;
    /* means over ten gauges: 0.95 because a slot is empty between an answer and the next send */
    return queued->value >= 1 && limit.value > 0 && in_flight.value >= 0.95 * limit.value;
}

/* The worse of 1 s and 10 s: a bad second cuts, only ten good ones restore.  With 1 s alone a
 * steady 20 % of errors scatters by 2 points and moves the budget each second. */
static uint32_t worst_errors(const struct engine *e, struct fact_scope scope, struct fact *errors)
{
    struct fact now = facts_get(e->facts, scope, FACT_ERROR_RATIO, FACT_1S);
    *errors = facts_get(e->facts, scope, FACT_ERROR_RATIO, FACT_10S);
    if (now.state != FACT_OK || (errors->state == FACT_OK && errors->value >= now.value))
        return fact_window_ms(FACT_10S);
    *errors = now;
    return fact_window_ms(FACT_1S);
}

static void run_one(struct engine *e, uint16_t service)
{
    const struct knob_layer *layer = control_layer(e, KNOB_RETRY_PCT, service);
    double configured = layer->is_configured ? layer->configured : knob_row(KNOB_RETRY_PCT)->safe;
    struct move m;
    move_init(&m, e, KNOB_RETRY_PCT, service);
    struct fact queued;
    struct retry_loop *l = &e->s.retry[service];
    bool is_full = is_binding(e, service, &queued);
    if (is_full)
        l->full_us = e->s.now_us;
    else if (l->full_us > 0 && e->s.now_us - l->full_us < FULL_REST_US)
        return; /* at its edge a limit binds every other second */
    struct fact errors;
    uint32_t window_ms = worst_errors(e, m.scope, &errors);
    if (errors.state != FACT_OK && !is_full)
        return;
    double part = 0;
    if (!is_full)
        part = fb_clamp((ERROR_NONE_PCT - errors.value * 100) / (ERROR_NONE_PCT - ERROR_FULL_PCT),
                        0, 1);
    double aim = fb_clamp(configured * part, layer->min, layer->max);
    bool is_cut = aim < m.d.from;
    double to = is_cut ? aim : fmin(aim, m.d.from + RESTORE_RATIO * configured);
    bool is_end = to == aim && (part == 0 || part == 1);
    if (fabs(to - m.d.from) < STEP_MIN_RATIO * configured && !is_end)
        return;
    m.d.to = to;
    m.d.reason = is_cut ? REASON_RETRY_CUT : REASON_RETRY_RESTORE;
    m.d.cause_us = l->cause_us;
    if (is_full)
        memcpy(m.d.note, FULL_NOTE, sizeof FULL_NOTE);
    m.rest_ms = is_cut ? CUT_REST_MS : 0;
    m.is_protective = is_cut || is_end; /* a damped last step would never arrive */
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
