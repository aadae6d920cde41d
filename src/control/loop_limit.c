/* SPDX-License-Identifier: Apache-2.0 */
/* limit loop, each tick: makes decisions of what the learner in the gateway did since the last one.
 *
 * The learner moves at the speed of completions, inside the bounds of the published cell and only
 * in mode act, not pinned, not frozen; a tick would be too slow.  Control owns bounds, mode, pin
 * and freeze, and the story: all moves of one tick become one decision.  The learned value lives
 * here, so that it outlives the gateway. */
#include "base/assert.h"
#include "control/arbiter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void loop_limit_feed(struct engine *e, const struct ev_proposal *p)
{
    if (p->endpoint >= KNOB_TARGETS_MAX || isnan(p->ratio))
        return;
    struct limit_loop *l = &e->s.limit[p->endpoint];
    if (l->moves == 0)
        l->limit_from = p->limit_from;
    l->limit_to = p->limit_to;
    l->latency_us = p->latency_us;
    l->base_us = p->base_us;
    l->ratio = p->ratio;
    l->error = p->error;
    l->samples = p->samples;
    l->base_samples = p->base_samples;
    l->moves += p->moves > 0 ? p->moves : 1;
    l->reason = p->reason;
    l->at_us = p->head.time_us;
}

/* Until its first decision an endpoint has the value that its learner started at, or kept over a
 * restart of the brain.  That is a report, not a decision: it enters the book silently, so that
 * readers see what the gateway does and not the knob's safe value. */
void loop_limit_gauge(struct engine *e, const struct ev_gauge *g)
{
    if (g->kind != EV_KIND_ENDPOINT || g->number >= KNOB_TARGETS_MAX || g->limit == 0)
        return;
    struct knob_layer *layer = control_layer(e, KNOB_LIMIT, g->number);
    if (!layer->is_used || layer->is_pinned || layer->is_frozen || layer->mode != EV_MODE_ACT ||
        (layer->is_learned && layer->decision_id > 0))
        return;
    double value = fb_clamp((double)g->limit, layer->min, layer->max);
    if (layer->is_learned && layer->learned == value)
        return;
    layer->learned = value;
    layer->is_learned = 1;
    layer->learned_us = g->head.time_us;
    layer->decision_id = 0;
    layer->config_hash = e->s.config_hash;
}

static void decide(struct engine *e, uint16_t endpoint, const struct limit_loop *l)
{
    const struct knob_layer *layer = control_layer(e, KNOB_LIMIT, endpoint);
    double wanted = (double)l->limit_to;
    struct move m;
    move_init(&m, e, KNOB_LIMIT, endpoint);
    /* no decision yet: what was in force is the learner's start value, and a gauge may have told
     * the new one already */
    if (!layer->is_learned || layer->decision_id == 0 || layer->mode != EV_MODE_ACT)
        m.d.from = (double)l->limit_from;
    m.d.to = wanted;
    m.d.reason =
        wanted < layer->min || wanted > layer->max ? REASON_LIMIT_BOUNDED : REASON_LIMIT_FOLLOWS;
    m.d.verdict = l->reason;
    m.d.cause_us = l->at_us;
    m.is_reflex = true;
    /* a step that is tried, a pause and a restored base rest on no latency of this limit */
    struct fact latency = {
        .value = l->samples > 0 ? l->latency_us / 1e3 : NAN, .n = l->samples, .n_needed = 10};
    struct fact base = {.value = l->base_samples > 0 ? l->base_us / 1e3 : NAN,
                        .n = l->base_samples};
    struct fact ratio = {.value = l->samples > 0 ? l->ratio : NAN, .n = l->samples};
    struct fact in_flight = facts_get(e->facts, m.scope, FACT_IN_FLIGHT, FACT_1S);
    move_evidence(&m, 0, FACT_LEARNER_LATENCY, 0, &latency);
    move_evidence(&m, 1, FACT_LEARNER_BASE, 0, &base);
    move_evidence(&m, 2, FACT_LEARNER_RATIO, 0, &ratio);
    move_evidence(&m, 3, FACT_IN_FLIGHT, fact_window_ms(FACT_1S), &in_flight);
    m.d.threshold1 = base.value;
    m.d.threshold2 = l->error;
    const char *verdict = ev_reason_row(l->reason)->name;
    snprintf(m.d.note, sizeof m.d.note, "%u moves; %.20s", l->moves, verdict ? verdict : "?");
    /* a second of completions shows the new latency; lower must not cost, higher must not either */
    if (l->reason != REASON_LEARN_RESET) /* that promises nothing */
        move_expect(&m, m.d.to < m.d.from ? EXPECT_LOWER : EXPECT_KEEP, FACT_UPSTREAM_P50, FACT_1S,
                    1200);
    arbiter_submit(e, &m);
}

void loop_limit_run(struct engine *e)
{
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ENDPOINT]; i++) {
        struct limit_loop *l = &e->s.limit[i];
        if (l->moves == 0)
            continue;
        struct limit_loop taken = *l;
        memset(l, 0, sizeof *l);
        decide(e, i, &taken);
    }
}
