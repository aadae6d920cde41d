/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of operators: they act on the knob book at once, between two ticks, and each becomes a
 * decision with actor 1.  A command for all targets (65535) acts on every used one and is told once
 * per knob. */
#include "base/assert.h"
#include "control/arbiter.h"
#include "control/verifier.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void drain(struct engine *e, const struct ev_command *c, bool is_draining);
static void turn(struct engine *e, const struct ev_command *c, uint16_t knob, uint16_t target);

static bool is_verb_of_knob(uint8_t verb)
{
    return verb == EV_VERB_PIN || verb == EV_VERB_UNPIN || verb == EV_VERB_RESET;
}

static bool is_meant(const struct ev_command *c, uint16_t knob)
{
    const struct knob_row *row = knob_row(knob);
    if (c->knob != EV_NONE && c->knob != knob)
        return false;
    if (c->loop != EV_NONE && c->loop != (uint16_t)row->loop)
        return false;
    if (c->target_kind != EV_KIND_NONE && c->target_kind != (uint8_t)row->kind)
        return false;
    /* a pin needs to say which knob; modes and freezes are of loops */
    return c->verb == EV_VERB_PIN ? c->knob == knob
                                  : is_verb_of_knob(c->verb) || row->loop != LOOP_NONE;
}

static uint16_t reason_of(uint8_t verb)
{
    switch (verb) {
    case EV_VERB_PIN:
        return REASON_OPERATOR_PIN;
    case EV_VERB_UNPIN:
        return REASON_OPERATOR_UNPIN;
    case EV_VERB_MODE:
        return REASON_OPERATOR_MODE;
    case EV_VERB_FREEZE:
        return REASON_OPERATOR_FREEZE;
    case EV_VERB_UNFREEZE:
        return REASON_OPERATOR_UNFREEZE;
    case EV_VERB_RESET:
        return REASON_OPERATOR_RESET;
    case EV_VERB_DRAIN:
        return REASON_OPERATOR_DRAIN;
    default:
        return REASON_OPERATOR_UNDRAIN;
    }
}

/* What an operator, or the end of a time that he set, did. */
struct told {
    uint8_t verb;
    uint16_t knob, target; /* target EV_NONE: all of them, then <from> is the command's value */
    double from;
    const char *note;
};

static void tell(struct engine *e, const struct told *t)
{
    struct ev_decision d = EV_INIT(DECISION, decision, e->s.now_us);
    const struct knob_row *row = knob_row(t->knob);
    d.cause_us = e->s.now_us;
    d.loop = (uint16_t)row->loop;
    d.knob = t->knob;
    d.target = t->target;
    d.target_kind = (uint8_t)row->kind;
    d.reason = reason_of(t->verb);
    d.actor = ACTOR_OPERATOR;
    d.is_applied = 1;
    d.from = d.to = t->from;
    if (t->knob >= KNOB_COUNT) {
        d.target_kind = EV_KIND_ENDPOINT; /* drains have no knob */
    } else if (t->target < KNOB_TARGETS_MAX) {
        const struct knob_layer *layer = control_layer(e, t->knob, t->target);
        d.to = control_value(e, t->knob, t->target);
        d.min = layer->min;
        d.max = layer->max;
        d.mode = layer->mode;
    } else if (t->verb == EV_VERB_MODE) {
        d.mode = (uint8_t)fb_clamp(t->from, EV_MODE_OBSERVE, EV_MODE_ACT);
    }
    snprintf(d.note, sizeof d.note, "%.39s", t->note);
    arbiter_tell(e, &d);
}

void command_feed(struct engine *e, const struct ev_command *c)
{
    e->s.now_us = fb_max_u64(e->s.now_us, c->head.time_us);
    if (c->verb == EV_VERB_DRAIN || c->verb == EV_VERB_UNDRAIN) {
        drain(e, c, c->verb == EV_VERB_DRAIN);
        return;
    }
    if (c->verb > EV_VERB_UNDRAIN || (c->verb <= EV_VERB_MODE && isnan(c->value)))
        return;
    char why[sizeof c->why + 1] = {0};
    memcpy(why, c->why, strnlen(c->why, sizeof c->why));
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++) {
        if (!knob_row(knob)->name || !is_meant(c, knob))
            continue;
        if (c->target == EV_NONE) {
            for (uint16_t i = 0; i < e->s.top[knob_row(knob)->kind]; i++)
                turn(e, c, knob, i);
            tell(e, &(struct told){c->verb, knob, EV_NONE, c->value, why});
        } else if (c->target < KNOB_TARGETS_MAX && control_layer(e, knob, c->target)->is_used) {
            double from = control_value(e, knob, c->target);
            turn(e, c, knob, c->target);
            tell(e, &(struct told){c->verb, knob, c->target, from, why});
        }
    }
}

static void set_mode(struct engine *e, uint16_t knob, uint16_t target, const struct ev_command *c)
{
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    if (cell->mode_until_us == 0)
        cell->mode_before = layer->mode;
    cell->mode_until_us = c->expires_us;
    cell->has_recommended = 0;
    layer->mode = (uint8_t)fb_clamp(c->value, EV_MODE_OBSERVE, EV_MODE_ACT);
}

static void turn(struct engine *e, const struct ev_command *c, uint16_t knob, uint16_t target)
{
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    if (!layer->is_used)
        return;
    verifier_forget(e, knob, target);
    switch (c->verb) {
    case EV_VERB_PIN:
        layer->is_pinned = 1;
        layer->pinned = fb_clamp(c->value, knob_row(knob)->min, knob_row(knob)->max);
        cell->pin_until_us = c->expires_us;
        break;
    case EV_VERB_UNPIN:
        layer->is_pinned = 0;
        layer->pinned = 0;
        cell->pin_until_us = 0;
        break;
    case EV_VERB_MODE:
        set_mode(e, knob, target, c);
        break;
    case EV_VERB_FREEZE:
        layer->is_frozen = 1;
        cell->is_frozen_by_verifier = 0;
        cell->frozen_until_us = c->expires_us;
        break;
    case EV_VERB_UNFREEZE:
        verifier_thaw(e, knob, target);
        break;
    default: /* EV_VERB_RESET */
        layer->is_learned = 0;
        layer->learned = 0;
        layer->learned_us = 0;
        layer->decision_id = 0;
        layer->misses = 0;
        layer->resets++;
        memset(cell->reversal_us, 0, sizeof cell->reversal_us);
        cell->halvings = 0;
        cell->cooldown_until_us = 0;
        if (knob == KNOB_SHED_THRESHOLD)
            memset(&e->s.shed[target], 0, sizeof e->s.shed[target]);
        if (knob == KNOB_TIMEOUT_MS)
            memset(&e->s.timeout[target], 0, sizeof e->s.timeout[target]);
        if (knob == KNOB_HEDGE_DELAY_MS)
            memset(&e->s.hedge[target], 0, sizeof e->s.hedge[target]);
        break;
    }
}

static void drain(struct engine *e, const struct ev_command *c, bool is_draining)
{
    uint16_t from = c->target == EV_NONE ? 0 : c->target;
    uint16_t to = c->target == EV_NONE ? e->s.top[EV_KIND_ENDPOINT] : (uint16_t)(c->target + 1);
    char why[sizeof c->why + 1] = {0};
    memcpy(why, c->why, strnlen(c->why, sizeof c->why));
    for (uint16_t i = from; i < to && i < KNOB_TARGETS_MAX; i++) {
        e->s.is_drained[i] = is_draining;
        e->s.drain_until_us[i] = is_draining ? c->expires_us : 0;
    }
    if (c->target == EV_NONE || c->target < KNOB_TARGETS_MAX)
        tell(e, &(struct told){c->verb, EV_NONE, c->target, is_draining, why});
}

static void expire_knob(struct engine *e, uint16_t knob, uint16_t target)
{
    struct knob_layer *layer = control_layer(e, knob, target);
    struct cell *cell = &e->s.cell[knob][target];
    uint64_t now_us = e->s.now_us;
    double from = control_value(e, knob, target);
    if (layer->is_pinned && cell->pin_until_us > 0 && now_us >= cell->pin_until_us) {
        layer->is_pinned = 0;
        layer->pinned = 0;
        cell->pin_until_us = 0;
        tell(e, &(struct told){EV_VERB_UNPIN, knob, target, from, "expired"});
    }
    if (cell->mode_until_us > 0 && now_us >= cell->mode_until_us) {
        layer->mode = cell->mode_before;
        cell->mode_until_us = 0;
        tell(e, &(struct told){EV_VERB_MODE, knob, target, from, "expired"});
    }
    if (layer->is_frozen && cell->frozen_until_us > 0 && now_us >= cell->frozen_until_us) {
        bool was_operator = !cell->is_frozen_by_verifier;
        verifier_thaw(e, knob, target);
        if (was_operator)
            tell(e, &(struct told){EV_VERB_UNFREEZE, knob, target, from, "expired"});
    }
}

void command_expire(struct engine *e)
{
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++)
        for (uint16_t i = 0; i < e->s.top[knob_row(knob)->kind]; i++)
            expire_knob(e, knob, i);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        if (!e->s.is_drained[i] || e->s.drain_until_us[i] == 0 ||
            e->s.now_us < e->s.drain_until_us[i])
            continue;
        e->s.is_drained[i] = 0;
        e->s.drain_until_us[i] = 0;
        tell(e, &(struct told){EV_VERB_UNDRAIN, EV_NONE, i, 0, "expired"});
    }
}
