/* SPDX-License-Identifier: Apache-2.0 */
/* knobs: what the brain published, carried into the gates each tick; and what holds while it is
 * away.
 *
 * Fail-static: without a sign of the brain for static_after the values glide to the configured ones
 * until safe_after.  The limit learner is a reflex: it goes on by itself; only a limit that the
 * brain holds glides. */
#include "gateway/gateway_int.h"

#include <math.h>

struct cell_view {
    double value, min, max, safe;
    bool is_published, is_pinned, is_learner_free; /* mode act, not pinned, not frozen */
    uint8_t resets;
};

static double double_at(const _Atomic uint64_t *bits)
{
    uint64_t raw = atomic_load_explicit(bits, memory_order_relaxed);
    double v;
    memcpy(&v, &raw, sizeof v);
    return v;
}

static struct cell_view look(const struct worker *w, enum knob_id knob, uint16_t target)
{
    const struct knob_table *table = w->gw->mem->knobs;
    const struct knob_row *row = knob_row((uint16_t)knob);
    struct cell_view v = {.value = row->safe, .min = row->min, .max = row->max, .safe = row->safe};
    if (target == EV_NONE || knob_version(table, knob, target) == 0)
        return v;
    const struct knob_cell *c = &table->cell[knob][target];
    v.is_published = true;
    v.value = knob_read(table, knob, target);
    double min = double_at(&c->min_bits), max = double_at(&c->max_bits),
           safe = double_at(&c->safe_bits);
    if (min >= row->min && min <= row->max)
        v.min = min;
    if (max >= v.min && max <= row->max)
        v.max = max;
    if (safe >= row->min && safe <= row->max)
        v.safe = safe;
    v.is_pinned = atomic_load_explicit(&c->source, memory_order_relaxed) == KNOB_FROM_PIN;
    v.resets = atomic_load_explicit(&c->resets, memory_order_relaxed);
    v.is_learner_free = atomic_load_explicit(&c->mode, memory_order_relaxed) == EV_MODE_ACT &&
                        !atomic_load_explicit(&c->is_frozen, memory_order_relaxed) && !v.is_pinned;
    const struct conf_params *p = &w->gen->conf->p;
    if (w->static_age_us && p->gateway_static_after < p->gateway_safe_after)
        v.value = knob_glide(v.value, v.safe, w->static_age_us, p->gateway_static_after * US_PER_MS,
                             p->gateway_safe_after * US_PER_MS);
    return v;
}

/* Before the brain has said anything the configuration alone decides. */
static struct cell_view look_limit(const struct worker *w, const struct service *sv,
                                   uint16_t number)
{
    struct cell_view v = look(w, KNOB_LIMIT, number);
    const struct conf_tune *tune = &sv->conf->tune[KNOB_LIMIT];
    if (sv->conf->is_tcp) /* limit_fixed holds, and what an operator pins */
        v.is_learner_free = !v.is_pinned;
    if (v.is_published || sv->conf->is_tcp)
        return v;
    int mode = tune->mode >= 0 ? tune->mode : (int)sv->conf->mode;
    v.is_learner_free = mode == EV_MODE_ACT;
    if (!isnan(tune->value) && tune->value >= v.min)
        v.value = tune->value;
    if (!isnan(tune->min) && tune->min >= v.min)
        v.min = tune->min;
    if (!isnan(tune->max) && tune->max >= v.min)
        v.max = fmin(tune->max, v.max);
    return v;
}

/* A brain that is silent says nothing of the others: they are gone, as far as is known. */
static void hear_others(struct service *sv, struct endpoint *ep, bool is_silent, uint64_t now_us)
{
    struct memfile_gauge *gauge = ep->gauge;
    if (!gauge)
        return;
    uint32_t count;
    uint64_t sum_us;
    memfile_answers_since(&gauge->others_answers, &ep->heard, &count, &sum_us);
    struct balance_told told = {.answers = {count, (double)sum_us}};
    if (!is_silent)
        told.in_flight = atomic_load_explicit(&gauge->others, memory_order_relaxed);
    gate_endpoint_others(sv->gate, ep->index, &told, now_us);
}

/* An operator dropped what was learned.  What is seen first is from before: a gateway that starts
 * keeps what it was given.  A count that falls is that of a book that began anew. */
static void hear_resets(struct service *sv, struct endpoint *ep, const struct cell_view *limit,
                        uint64_t now_us)
{
    if (!limit->is_published)
        return;
    if (ep->is_limit_told && (int8_t)(limit->resets - ep->limit_resets) > 0)
        gate_endpoint_relearn(sv->gate, ep->index, now_us);
    ep->is_limit_told = true;
    ep->limit_resets = limit->resets;
}

void service_knobs(struct service *sv, struct worker *w)
{
    if (!sv->conf)
        return; /* it left the configuration */
    const struct memfile *mem = w->gw->mem;
    struct cell_view shed = look(w, KNOB_SHED_THRESHOLD, sv->number);
    struct cell_view retry = look(w, KNOB_RETRY_PCT, sv->number);
    if (!retry.is_published)
        retry.value = w->gen->conf->p.upstream_retry_pct;
    spin_lock(&sv->lock);
    uint64_t now_us = fb_max_u64(loop_now_us(w->loop), sv->last_us);
    sv->last_us = now_us;
    gate_set_shed_threshold(sv->gate, (uint32_t)shed.value);
    gate_set_retry_pct(sv->gate, retry.value);
    for (uint16_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        struct endpoint *ep = sv->endpoints[i];
        if (!ep || atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
            continue;
        struct cell_view limit = look_limit(w, sv, ep->number);
        struct cell_view weight = look(w, KNOB_WEIGHT_PCT, ep->number);
        gate_endpoint_limit(sv->gate, i, (uint32_t)limit.min, (uint32_t)limit.max,
                            limit.is_learner_free ? 0 : (uint32_t)fmax(limit.value, 1));
        hear_resets(sv, ep, &limit, now_us);
        hear_others(sv, ep, w->static_age_us > 0, now_us);
        gate_endpoint_weight(sv->gate, i, weight.is_pinned ? weight.value : ep->weight_pct);
        bool is_drained =
            ep->number != EV_NONE &&
            atomic_load_explicit(&mem->endpoints[ep->number].is_drained, memory_order_relaxed) != 0;
        if (is_drained != ep->is_drained) {
            ep->is_drained = is_drained;
            gate_endpoint_drain(sv->gate, i, is_drained, now_us);
        }
    }
    spin_unlock(&sv->lock);
}
