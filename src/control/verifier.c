/* SPDX-License-Identifier: Apache-2.0 */
#include "control/verifier.h"

#include "base/assert.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A ratio moved when it moved by three standard errors (one false verdict in 700) and by half a
 * point. */
#define RATIO_SIGMAS 3.0
#define RATIO_STEP_MIN 0.005
/* Quantiles and rates of a second scatter by 10 %; gauges of queues by far more. */
#define VALUE_STEP_RATIO 0.2
#define GAUGE_STEP_RATIO 1.0
/* Load that moved by a quarter explains any effect: like is compared with like only. */
#define LOAD_STEP_RATIO 0.25
#define DEPLOY_EXPLAINS_S 60
/* After a bad verdict a loop rests for 20 dwells (shed 10 s, timeout and retry 20 s): the next try
 * should meet another second.  Protective moves do not wait. */
#define REST_DWELLS 20

static void verdict(struct engine *e, uint16_t knob, uint16_t target);
static const struct signal *harmed_signal(const struct engine *e, const struct pending *p,
                                          struct ev_outcome *o);
static void go_back(struct engine *e, const struct pending *p, struct ev_outcome *o,
                    const char *signal);
static void freeze(struct engine *e, uint16_t knob, uint16_t target, struct ev_outcome *o);

static bool is_ratio(enum fact_id fact)
{
    return fact == FACT_ERROR_RATIO || fact == FACT_SHED_RATIO || fact == FACT_TIMEOUT_RATIO ||
           fact == FACT_IN_TIME_RATIO || fact == FACT_RETRY_RATIO;
}

static bool is_gauge(enum fact_id fact)
{
    return fact == FACT_IN_FLIGHT || fact == FACT_LIMIT || fact == FACT_QUEUED;
}

static bool is_higher_good(enum fact_id fact)
{
    return fact == FACT_RATE || fact == FACT_GOODPUT || fact == FACT_IN_TIME_RATIO;
}

static double offered(const struct engine *e, struct fact_scope scope)
{
    struct fact seen = facts_get(e->facts, scope, FACT_OFFERED_RATE, FACT_1S);
    return seen.state == FACT_OK ? seen.value : NAN;
}

void verifier_expect(struct engine *e, struct move *m)
{
    struct ev_decision *d = &m->d;
    struct pending *p = &e->s.cell[d->knob][d->target].pending;
    struct fact before = {.value = NAN};
    if (d->expected_fact != FACT_NONE)
        before = facts_get(e->facts, m->scope, (enum fact_id)d->expected_fact, m->window);
    bool is_chain = p->decision_id > 0 && (p->to > p->from) == (d->to > d->from);
    d->supersedes = p->decision_id;
    d->before = before.value;
    if (m->verify_ms == 0) {
        memset(p, 0, sizeof *p);
        return;
    }
    if (is_chain) {
        p->to = d->to;
        d->before = p->before;
    } else {
        memset(p, 0, sizeof *p);
        p->from_us = e->s.now_us;
        p->at_us = e->s.now_us + m->verify_ms * US_PER_MS;
        p->from = d->from;
        p->to = d->to;
        p->before = before.value;
        p->n_before = before.n;
        p->offered_before = offered(e, m->scope);
        p->fact = d->expected_fact;
        p->expected = d->expected;
        p->window = (uint8_t)m->window;
        p->kind = (uint8_t)m->scope.kind;
        p->number = m->scope.number;
        p->loop = (uint8_t)d->loop;
    }
    d->verify_at_us = p->at_us;
}

void verifier_forget(struct engine *e, uint16_t knob, uint16_t target)
{
    struct pending *p = &e->s.cell[knob][target].pending;
    memset(p, 0, sizeof *p);
}

void verifier_run(struct engine *e)
{
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++) {
        uint16_t top = e->s.top[knob_row(knob)->kind];
        for (uint16_t target = 0; target < top; target++) {
            const struct pending *p = &e->s.cell[knob][target].pending;
            if (p->decision_id > 0 && e->s.now_us >= p->at_us)
                verdict(e, knob, target);
        }
    }
}

enum ev_verdict verifier_judge(enum expected expected, enum fact_id fact, const struct fact *before,
                               const struct fact *after)
{
    if (after->state != FACT_OK || isnan(before->value) || expected == EXPECT_NONE)
        return EV_OUTCOME_UNKNOWN;
    double step = after->value - before->value;
    double least;
    if (is_ratio(fact)) {
        double n1 = (double)before->n;
        double n2 = (double)after->n;
        double p = (before->value * n1 + after->value * n2) / (n1 + n2);
        double sigma = sqrt(fmax(p * (1 - p), 0) * (1 / n1 + 1 / n2));
        least = fmax(RATIO_SIGMAS * sigma, RATIO_STEP_MIN);
    } else {
        double part = is_gauge(fact) ? GAUGE_STEP_RATIO : VALUE_STEP_RATIO;
        least = fmax(part * fabs(before->value), is_gauge(fact) ? 4.0 : 0.0);
        if (is_gauge(fact) && step < 0)
            least /= 2; /* half of it gone is as much as twice of it come */
    }
    if (fabs(step) <= least)
        return EV_OUTCOME_NONE;
    bool is_up = step > 0;
    if (expected == EXPECT_KEEP)
        return is_up == is_higher_good(fact) ? EV_OUTCOME_NONE : EV_OUTCOME_WORSE;
    return is_up == (expected == EXPECT_HIGHER) ? EV_OUTCOME_BETTER : EV_OUTCOME_WORSE;
}

static bool did_load_move(const struct engine *e, const struct pending *p)
{
    double now = offered(e, control_scope((enum ev_kind)p->kind, p->number));
    if (isnan(now) || isnan(p->offered_before) || p->offered_before <= 0)
        return true;
    return fabs(now / p->offered_before - 1) > LOAD_STEP_RATIO;
}

/* Who deploys can say so (deploy markers).  What gets worse then may be the new version's doing:
 * the move goes back all the same, but it is not counted against the loop. */
static bool was_deployed(const struct engine *e)
{
    return customs_deploy_age_s(e->customs) <= DEPLOY_EXPLAINS_S;
}

static void verdict(struct engine *e, uint16_t knob, uint16_t target)
{
    struct knob_layer *layer = control_layer(e, knob, target);
    struct pending p = e->s.cell[knob][target].pending;
    verifier_forget(e, knob, target);
    struct fact before = {.value = p.before, .n = p.n_before};
    struct fact after = facts_get(e->facts, control_scope((enum ev_kind)p.kind, p.number),
                                  (enum fact_id)p.fact, (enum fact_window)p.window);
    enum ev_verdict seen =
        verifier_judge((enum expected)p.expected, (enum fact_id)p.fact, &before, &after);
    if (seen == EV_OUTCOME_WORSE && did_load_move(e, &p))
        seen = EV_OUTCOME_UNKNOWN;

    struct ev_outcome o = EV_INIT(OUTCOME, outcome, e->s.now_us);
    o.head.origin = EV_ORIGIN_BRAIN;
    o.decision_id = p.decision_id;
    o.loop = p.loop;
    o.knob = knob;
    o.target = target;
    o.target_kind = (uint8_t)knob_row(knob)->kind;
    o.outcome = (uint8_t)seen;
    o.fact = p.fact;
    o.reason = REASON_VERIFIED;
    o.before = p.before;
    o.after = after.value;
    o.n_before = fb_sat_u32(p.n_before);
    o.n_after = fb_sat_u32(after.n);
    bool is_ours =
        layer->is_learned && layer->mode == EV_MODE_ACT && !layer->is_pinned && !layer->is_frozen;
    const struct signal *harmed = NULL;
    if (is_ours && (seen == EV_OUTCOME_BETTER || seen == EV_OUTCOME_NONE))
        harmed = harmed_signal(e, &p, &o);
    if (harmed)
        o.outcome = seen = EV_OUTCOME_WORSE;
    if (seen == EV_OUTCOME_BETTER || seen == EV_OUTCOME_NONE)
        layer->misses = 0;
    if (seen == EV_OUTCOME_WORSE && is_ours && p.loop != LOOP_LIMIT)
        go_back(e, &p, &o, harmed ? harmed->conf.name : "");
    o.knob_value = control_value(e, knob, target);
    control_emit(e, &o.head);
    if (o.is_frozen)
        freeze(e, knob, target, &o);
}

/* What the move promised may be kept while what people do suffers.  Shedding in an overload is the
 * lesser evil, and the limit judges itself: these two are not asked. */
static const struct signal *harmed_signal(const struct engine *e, const struct pending *p,
                                          struct ev_outcome *o)
{
    struct signal_base base;
    struct signal_sum sum;
    uint16_t service = p->number;
    if (p->loop == LOOP_LIMIT || p->loop == LOOP_SHED || did_load_move(e, p))
        return NULL;
    if (p->kind == EV_KIND_ROUTE || p->kind == EV_KIND_ENDPOINT)
        service = e->s.name[p->kind][p->number].parent;
    const struct signal *g = release_harmed(e, service, p->from_us, &base, &sum);
    if (!g)
        return NULL;
    o->fact = FACT_SIGNAL;
    o->before = base.ratio;
    o->after = sum.x / sum.r;
    o->n_before = fb_sat_u32((uint64_t)base.r);
    o->n_after = fb_sat_u32((uint64_t)sum.r);
    return g;
}

/* Back to where the chain began, and a rest, so that the same mistake is not made at once. */
static void go_back(struct engine *e, const struct pending *p, struct ev_outcome *o,
                    const char *signal)
{
    uint16_t knob = o->knob;
    uint16_t target = o->target;
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    struct move m;
    move_init(&m, e, (enum knob_id)knob, target);
    m.d.reason = REASON_REVERTED;
    m.d.actor = ACTOR_VERIFIER;
    m.d.supersedes = o->decision_id;
    m.d.to = fb_clamp(p->from, layer->min, layer->max);
    m.d.min = layer->min;
    m.d.max = layer->max;
    m.d.mode = layer->mode;
    m.d.is_applied = 1;
    cell->cooldown_until_us = e->s.now_us + REST_DWELLS * knob_row(knob)->dwell_ms * US_PER_MS;
    m.d.cooldown_until_us = cell->cooldown_until_us;
    m.d.fact1 = o->fact;
    m.d.value1 = o->after;
    m.d.threshold1 = o->before;
    m.d.n1 = o->n_after;
    snprintf(m.d.note, sizeof m.d.note, "%s", signal);
    layer->misses = (uint8_t)(layer->misses + !was_deployed(e));
    layer->learned = m.d.to;
    layer->decision_id = arbiter_tell(e, &m.d);
    layer->learned_us = e->s.now_us;
    o->is_reverted = 1;
    o->reason = REASON_REVERTED;
    if (layer->misses >= VERIFIER_MISSES_MAX) {
        o->is_frozen = 1;
        o->reason = REASON_FROZEN;
    }
}

static struct ev_alert alert_of(struct engine *e, uint16_t knob, uint16_t target)
{
    struct ev_alert a = EV_INIT(ALERT, alert, e->s.now_us);
    a.head.origin = EV_ORIGIN_BRAIN;
    a.reason = REASON_ALERT_LOOP_FROZEN;
    a.target = target;
    a.target_kind = (uint8_t)knob_row(knob)->kind;
    a.loop = (uint8_t)knob_row(knob)->loop;
    a.severity = 1;
    return a;
}

static void freeze(struct engine *e, uint16_t knob, uint16_t target, struct ev_outcome *o)
{
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    layer->is_frozen = 1;
    cell->is_frozen_by_verifier = 1;
    cell->frozen_until_us = e->s.now_us + VERIFIER_FREEZE_US;
    struct ev_alert a = alert_of(e, knob, target);
    a.value = o->after;
    a.threshold = o->before;
    a.decision_id = o->decision_id;
    snprintf(a.text, sizeof a.text,
             "%s: two decisions in a row made it worse; the loop rests for %u s.",
             engine_name(e, (enum ev_kind)a.target_kind, target),
             (unsigned)(VERIFIER_FREEZE_US / US_PER_S));
    control_emit(e, &a.head);
}

void verifier_thaw(struct engine *e, uint16_t knob, uint16_t target)
{
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    bool was_alert = cell->is_frozen_by_verifier;
    layer->is_frozen = 0;
    layer->misses = 0;
    cell->is_frozen_by_verifier = 0;
    cell->frozen_until_us = 0;
    if (!was_alert)
        return;
    struct ev_alert a = alert_of(e, knob, target);
    a.is_over = 1;
    snprintf(a.text, sizeof a.text, "%s: the loop may act again.",
             engine_name(e, (enum ev_kind)a.target_kind, target));
    control_emit(e, &a.head);
}
