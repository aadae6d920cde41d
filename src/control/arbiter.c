/* SPDX-License-Identifier: Apache-2.0 */
#include "control/arbiter.h"

#include "base/assert.h"
#include "control/verifier.h"

#include <math.h>
#include <string.h>

/* More than six reversals a minute is a limit cycle (loops.md 3); half the gain doubles its period.
 */
#define OSCILLATION_MAX 6
#define OSCILLATION_WINDOW_US (60 * US_PER_S)
/* Three halvings leave 1/8 of a step: slow, but a knob that still follows. */
#define HALVINGS_MAX 3
/* Half a tick: a loop whose period equals its rest must not lose every second turn to a late tick.
 */
#define TICK_JITTER_US (50 * US_PER_MS)
/* Time for a halved gain to show, before it is halved again. */
#define HALVING_REST_US (10 * US_PER_S)
/* Moves below 2 % of the value are noise: they neither count as reversals nor are worth a
 * recommendation. */
#define DEAD_BAND_RATIO 0.02

static double damped(struct engine *e, struct cell *cell, const struct move *m, double from);
static void count_reversal(struct engine *e, struct cell *cell, double from, double to);
static void apply(struct engine *e, struct move *m);

void move_init(struct move *m, const struct engine *e, enum knob_id knob, uint16_t target)
{
    memset(m, 0, sizeof *m);
    const struct knob_row *row = knob_row((uint16_t)knob);
    m->d = EV_INIT(DECISION, decision, e->s.now_us);
    m->d.knob = (uint16_t)knob;
    m->d.loop = (uint16_t)row->loop;
    m->d.target = target;
    m->d.target_kind = (uint8_t)row->kind;
    m->d.cause_us = e->s.now_us;
    m->d.from = control_value(e, (uint16_t)knob, target);
    m->scope = control_scope(row->kind, target);
}

void move_evidence(struct move *m, uint32_t i, enum fact_id fact, uint32_t window_ms,
                   const struct fact *seen)
{
    fb_assert(i < 4);
    uint32_t n = fb_sat_u32(seen->n);
    double value = seen->state == FACT_OK ? seen->value : NAN;
    struct ev_decision *d = &m->d;
    uint16_t *facts[4] = {&d->fact1, &d->fact2, &d->fact3, &d->fact4};
    uint32_t *windows[4] = {&d->window1_ms, &d->window2_ms, &d->window3_ms, &d->window4_ms};
    uint32_t *ns[4] = {&d->n1, &d->n2, &d->n3, &d->n4};
    double *values[4] = {&d->value1, &d->value2, &d->value3, &d->value4};
    *facts[i] = (uint16_t)fact;
    *windows[i] = window_ms;
    *ns[i] = n;
    *values[i] = value;
    if (i == 0)
        d->n_needed = fb_sat_u32(seen->n_needed);
}

void move_expect(struct move *m, enum expected expected, enum fact_id fact, enum fact_window window,
                 uint32_t verify_ms)
{
    m->d.expected = (uint8_t)expected;
    m->d.expected_fact = (uint16_t)fact;
    m->window = window;
    m->verify_ms = verify_ms;
}

uint64_t arbiter_tell(struct engine *e, struct ev_decision *d)
{
    d->decision_id = ++e->s.decision_id;
    d->config_hash = e->s.config_hash;
    d->head.origin = EV_ORIGIN_BRAIN;
    control_emit(e, &d->head);
    return d->decision_id;
}

bool arbiter_submit(struct engine *e, struct move *m)
{
    struct ev_decision *d = &m->d;
    fb_assert(d->knob < KNOB_COUNT);
    fb_assert(d->target < KNOB_TARGETS_MAX);
    fb_assert(!isnan(d->to));
    const struct knob_row *row = knob_row(d->knob);
    fb_assert(d->loop == (uint16_t)row->loop); /* one owner per knob */
    struct knob_layer *layer = control_layer(e, d->knob, d->target);
    struct cell *cell = &e->s.cell[d->knob][d->target];
    if (!layer->is_used || layer->is_pinned || layer->is_frozen)
        return false;
    bool is_acting = layer->mode == EV_MODE_ACT;
    bool is_resting = e->s.now_us + TICK_JITTER_US < cell->cooldown_until_us;
    if (is_acting && !m->is_protective && !m->is_reflex && is_resting)
        return false;

    if (!m->is_reflex)
        d->to = damped(e, cell, m, d->from);
    d->to = fb_clamp(d->to, layer->min, layer->max);
    if (d->to == d->from)
        return false;
    if (!is_acting) {
        double band = DEAD_BAND_RATIO * fabs(cell->recommended);
        if (cell->has_recommended && fabs(d->to - cell->recommended) <= band)
            return false;
        cell->has_recommended = 1;
        cell->recommended = d->to;
    }
    d->min = layer->min;
    d->max = layer->max;
    d->mode = layer->mode;
    d->is_applied = is_acting;
    if (is_acting)
        apply(e, m);
    else
        arbiter_tell(e, d);
    return is_acting;
}

static double damped(struct engine *e, struct cell *cell, const struct move *m, double from)
{
    const struct knob_row *row = knob_row(m->d.knob);
    double step = m->d.to - from;
    if (cell->halvings > 0 && arbiter_oscillation(e, (enum knob_id)m->d.knob, m->d.target) == 0 &&
        e->s.now_us - cell->gain_us >= OSCILLATION_WINDOW_US) {
        cell->halvings--; /* a calm minute gives half of it back */
        cell->gain_us = e->s.now_us;
    }
    if (!m->is_protective)
        step /= (double)(1U << cell->halvings);
    if (row->step_max_ratio > 0) {
        double most = row->step_max_ratio * fabs(from);
        step = fb_clamp(step, -most, most);
    }
    return from + step;
}

uint32_t arbiter_oscillation(const struct engine *e, enum knob_id knob, uint16_t target)
{
    const struct cell *cell = &e->s.cell[knob][target];
    uint32_t n = 0;
    for (uint32_t i = 0; i < CONTROL_REVERSALS; i++)
        n += cell->reversal_us[i] > 0 && e->s.now_us - cell->reversal_us[i] < OSCILLATION_WINDOW_US;
    return n;
}

static void count_reversal(struct engine *e, struct cell *cell, double from, double to)
{
    if (fabs(to - from) <= DEAD_BAND_RATIO * fabs(from))
        return;
    uint8_t direction = to > from ? DIRECTION_UP : DIRECTION_DOWN;
    if (cell->direction != DIRECTION_NONE && cell->direction != direction) {
        memmove(cell->reversal_us, cell->reversal_us + 1,
                (CONTROL_REVERSALS - 1) * sizeof(uint64_t));
        cell->reversal_us[CONTROL_REVERSALS - 1] = e->s.now_us;
    }
    cell->direction = direction;
}

static void apply(struct engine *e, struct move *m)
{
    struct ev_decision *d = &m->d;
    const struct knob_row *row = knob_row(d->knob);
    struct knob_layer *layer = control_layer(e, d->knob, d->target);
    struct cell *cell = &e->s.cell[d->knob][d->target];
    uint32_t rest_ms = fb_max_u32(m->rest_ms, row->dwell_ms);
    if (!m->is_reflex) {
        count_reversal(e, cell, d->from, d->to);
        if (arbiter_oscillation(e, (enum knob_id)d->knob, d->target) > OSCILLATION_MAX &&
            cell->halvings < HALVINGS_MAX && e->s.now_us - cell->gain_us >= HALVING_REST_US) {
            cell->halvings++;
            cell->gain_us = e->s.now_us;
        }
    }
    cell->cooldown_until_us = e->s.now_us + rest_ms * US_PER_MS;
    d->cooldown_until_us = cell->cooldown_until_us;
    verifier_expect(e, m);
    arbiter_tell(e, d);
    if (m->verify_ms > 0)
        cell->pending.decision_id = d->decision_id;
    layer->learned = d->to;
    layer->is_learned = 1;
    layer->learned_us = e->s.now_us;
    layer->decision_id = d->decision_id;
    layer->config_hash = e->s.config_hash;
    fb_assert(layer->learned >= layer->min);
    fb_assert(layer->learned <= layer->max);
}
