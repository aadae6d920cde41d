/* SPDX-License-Identifier: Apache-2.0 */
/* The brain over the modelled service: events in, knobs out, every 100 ms, as in a running
 * foldback.
 *
 * One service (0) with one route (0); endpoints carry their own numbers.  The engine is the
 * product's; only the transport is missing: a request's event arrives at once, a knob acts at the
 * next tick.  Knobs carried out here: shed threshold, retry budget, timeout.  The limit stays the
 * learner's, as in mode act; its proposals are fed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "control/engine.h"
#include "sim/world.h"

#define OUTPUTS_MAX 1024

struct brain {
    struct engine *engine;
    uint64_t ticks;
    double value[KNOB_COUNT];     /* in force */
    double last_step[KNOB_COUNT]; /* of the last move, for reversals */
    union ev_any outputs[OUTPUTS_MAX];
};

static void feed(struct brain *b, const void *event);
static void name_target(struct brain *b, enum ev_kind kind, uint16_t number, const char *name);
static void configure(struct world *w, struct brain *b);
static void gauge_service(struct world *w, struct brain *b);
static void gauge_endpoints(struct world *w, struct brain *b);
static void note_outputs(struct world *w, struct brain *b, const struct engine_out *out);
static void apply_knobs(struct world *w, struct brain *b);

bool brain_init(struct world *w)
{
    struct brain *b = calloc(1, sizeof(*b));
    w->brain = b;
    if (!b)
        return false;
    b->engine = engine_new();
    if (!b->engine)
        return false;
    configure(w, b);
    name_target(b, EV_KIND_SERVICE, 0, "sim");
    name_target(b, EV_KIND_ROUTE, 0, "sim /");
    for (uint16_t i = 0; i < w->server_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "endpoint %u", i);
        name_target(b, EV_KIND_ENDPOINT, i, name);
    }
    b->value[KNOB_SHED_THRESHOLD] = knob_row(KNOB_SHED_THRESHOLD)->safe;
    b->value[KNOB_RETRY_PCT] = w->conf.retry_pct;
    b->value[KNOB_TIMEOUT_MS] = w->timeout_ms;
    return true;
}

void brain_fini(struct world *w)
{
    if (w->brain)
        engine_free(w->brain->engine);
    free(w->brain);
}

/* The scenario's timeout and retry budget are what an operator configured. */
static void configure(struct world *w, struct brain *b)
{
    struct engine_target targets[2] = {{.kind = EV_KIND_SERVICE, .name = "sim"},
                                       {.kind = EV_KIND_ROUTE, .name = "sim /"}};
    for (size_t t = 0; t < FB_COUNT(targets); t++)
        for (size_t k = 0; k < KNOB_COUNT; k++)
            targets[t].knob[k] = (struct knob_setting){
                .configured = NAN, .min = NAN, .max = NAN, .mode = EV_MODE_ACT};
    targets[0].knob[KNOB_RETRY_PCT].configured = w->conf.retry_pct;
    if (w->sc->objective_ms > 0) {
        targets[0].latency_quantile = 0.99;
        targets[0].latency_us = (uint64_t)(w->sc->objective_ms * 1e3);
    }
    if (w->timeout_ms > 0)
        targets[1].knob[KNOB_TIMEOUT_MS].configured = w->timeout_ms;
    struct engine_conf conf = {.config_hash = 1,
                               .targets = targets,
                               .target_count = FB_COUNT(targets),
                               .mode = EV_MODE_ACT};
    engine_configure(b->engine, &conf);
}

void brain_request(struct world *w, const struct sim_request *r, enum ev_reason reason)
{
    if (!w->brain)
        return;
    const struct gate_ticket *t = &r->ticket;
    struct ev_request ev = EV_INIT(REQUEST, request, w->now_us);
    bool was_sent = t->attempts > 0;
    bool has_answer = t->first_byte_us > 0;
    bool is_good = reason == REASON_ANSWERED;
    bool is_gone = reason == REASON_CLIENT_GONE || reason == REASON_CLIENT_GONE_QUEUED;
    ev.service = 0;
    ev.endpoint = was_sent ? w->server_of[r->gateway][t->endpoint] : EV_NONE;
    ev.reason = (uint16_t)reason;
    ev.status = is_good ? 200 : is_gone ? 0 : was_sent ? 502 : 503;
    ev.class = r->class;
    ev.grpc_status = ev.version = EV_NONE;
    ev.total_us = fb_sat_u32(fb_sub_floor_u64(w->now_us, t->arrive_us));
    if (t->queued_us > 0)
        ev.queue_us = fb_sat_u32(fb_sub_floor_u64(was_sent ? t->sent_us : w->now_us, t->queued_us));
    if (was_sent) {
        ev.service_us = fb_sat_u32(fb_sub_floor_u64(w->now_us, t->sent_us));
        ev.upstream_us = has_answer ? fb_sat_u32(t->first_byte_us - t->sent_us) : ev.service_us;
        ev.in_flight = (uint16_t)fb_min_u32(t->in_flight_at_send, UINT16_MAX);
        ev.flags = (uint8_t)fb_min_u32(t->attempts - 1u, EV_REQUEST_ATTEMPTS_MASK);
        if (!has_answer)
            ev.flags |= EV_REQUEST_CENSORED;
        if (!is_good && !is_gone && !ev_reason_is_shed(ev.reason))
            ev.flags |= EV_REQUEST_FAILED;
    }
    if (is_gone)
        ev.flags |= EV_REQUEST_ABORTED;
    feed(w->brain, &ev);
}

void brain_event(struct world *w, uint32_t gateway, const union ev_any *event)
{
    if (!w->brain)
        return;
    union ev_any ev = *event;
    if (ev.head.type == EV_PROPOSAL)
        ev.proposal.endpoint = w->server_of[gateway][ev.proposal.endpoint];
    else if (ev.head.type == EV_HEALTH)
        ev.health.endpoint = w->server_of[gateway][ev.health.endpoint];
    feed(w->brain, &ev);
}

void brain_tick(struct world *w)
{
    struct brain *b = w->brain;
    gauge_endpoints(w, b);
    gauge_service(w, b);
    struct ev_tick tick = EV_INIT(TICK, tick, w->now_us);
    tick.tick = b->ticks++;
    struct engine_out out = {.at = b->outputs, .max = OUTPUTS_MAX};
    engine_feed(b->engine, &tick.head, &out);
    fb_assert(out.dropped == 0);
    note_outputs(w, b, &out);
    apply_knobs(w, b);
}

static void feed(struct brain *b, const void *event)
{
    engine_feed(b->engine, event, NULL);
}

static void name_target(struct brain *b, enum ev_kind kind, uint16_t number, const char *name)
{
    struct ev_name ev = EV_INIT(NAME, name, 0);
    ev.number = number;
    ev.kind = (uint8_t)kind;
    ev.parent = kind == EV_KIND_SERVICE ? EV_NONE : 0;
    snprintf(ev.name, sizeof(ev.name), "%s", name);
    feed(b, &ev);
}

static void gauge_endpoints(struct world *w, struct brain *b)
{
    for (uint16_t i = 0; i < w->server_count; i++) {
        struct ev_gauge ev = EV_INIT(GAUGE, gauge, w->now_us);
        ev.kind = EV_KIND_ENDPOINT;
        ev.number = i;
        uint32_t seen = 0;
        double share = 0;
        for (uint32_t g = 0; g < w->gateways; g++) {
            struct gate_endpoint_view view;
            if (!w->servers[i].is_in ||
                !gate_endpoint_view(w->gates[g], w->servers[i].index[g], &view))
                continue;
            seen++;
            ev.health = (uint8_t)view.health;
            ev.in_flight += view.in_flight;
            ev.limit += view.limit == UINT32_MAX ? 0 : view.limit;
            ev.latency_us = fb_sat_u32((uint64_t)view.latency_us);
            ev.error_ppm = (uint32_t)(view.error_ratio * 1e6);
            share += view.share;
        }
        if (seen == 0)
            continue;
        ev.weight_ppm = (uint32_t)(share / seen * 1e6);
        feed(b, &ev);
    }
}

static void gauge_service(struct world *w, struct brain *b)
{
    struct ev_gauge ev = EV_INIT(GAUGE, gauge, w->now_us);
    ev.kind = EV_KIND_SERVICE;
    for (uint32_t g = 0; g < w->gateways; g++) {
        struct gate_view view;
        gate_view(w->gates[g], &view);
        ev.shed_level = (uint16_t)view.shed_threshold;
        ev.in_flight += view.in_flight;
        ev.limit += w->conf.is_limit_learned || w->conf.limit_fixed ? view.limit_sum : 0;
        ev.queued_critical += (uint16_t)fb_min_u32(view.queued[EV_CLASS_CRITICAL], 8191);
        ev.queued_default += (uint16_t)fb_min_u32(view.queued[EV_CLASS_DEFAULT], 8191);
        ev.queued_degraded += (uint16_t)fb_min_u32(view.queued[EV_CLASS_DEGRADED], 8191);
        ev.queued_best_effort += (uint16_t)fb_min_u32(view.queued[EV_CLASS_BEST_EFFORT], 8191);
    }
    feed(b, &ev);
}

static void note_outputs(struct world *w, struct brain *b, const struct engine_out *out)
{
    for (size_t i = 0; i < out->count; i++) {
        const union ev_any *ev = &out->at[i];
        w->result->loop_freezes +=
            ev->head.type == EV_ALERT && ev->alert.reason == REASON_ALERT_LOOP_FROZEN;
        if (ev->head.type != EV_DECISION || !ev->decision.is_applied ||
            ev->decision.knob >= KNOB_COUNT)
            continue;
        const struct ev_decision *d = &ev->decision;
        w->result->decisions++;
        if (d->knob == KNOB_LIMIT)
            continue; /* many endpoints; the limit suites look at them */
        double step = d->to - d->from;
        w->result->loop_moves[d->knob]++;
        w->result->loop_reversals[d->knob] += step * b->last_step[d->knob] < 0;
        b->last_step[d->knob] = step;
    }
}

static void apply_knobs(struct world *w, struct brain *b)
{
    static const enum knob_id knobs[] = {KNOB_SHED_THRESHOLD, KNOB_RETRY_PCT, KNOB_TIMEOUT_MS};
    const struct knob_book *book = engine_book(b->engine);
    for (size_t i = 0; i < FB_COUNT(knobs); i++) {
        enum knob_source source;
        double value =
            knob_effective(knob_row((uint16_t)knobs[i]), &book->layer[knobs[i]][0], &source);
        if (value == b->value[knobs[i]] || (knobs[i] == KNOB_TIMEOUT_MS && w->timeout_ms <= 0))
            continue;
        b->value[knobs[i]] = value;
        if (knobs[i] == KNOB_TIMEOUT_MS)
            w->timeout_ms = value;
        for (uint32_t g = 0; g < w->gateways; g++) {
            if (knobs[i] == KNOB_SHED_THRESHOLD)
                gate_set_shed_threshold(w->gates[g], (uint32_t)value);
            else if (knobs[i] == KNOB_RETRY_PCT)
                gate_set_retry_pct(w->gates[g], value);
        }
    }
    w->result->timeout_ms = w->timeout_ms;
}
