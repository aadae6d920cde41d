/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "reflex/gate_int.h"

static bool is_available(const struct endpoint *ep)
{
    return !ep->is_leaving && !ep->is_draining && !gate_is_out(ep) &&
           ep->eject.state != EV_HEALTH_EJECTED;
}

uint32_t gate_limit_sum(const struct gate *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->count; i++)
        if (is_available(g->endpoints[i]))
            sum += gate_limit_of(g, g->endpoints[i]);
    return fb_sat_u32(sum);
}

void gate_view(const struct gate *g, struct gate_view *view)
{
    *view = (struct gate_view){.in_flight = g->in_flight,
                               .shed_threshold = g->shed_threshold,
                               .far_share = g->sends > 0 ? g->far_sends / g->sends : 0,
                               .is_panic = g->eject.is_panic};
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++)
        view->queued[i] = g->queue.classes[i].length + g->pin_queued[i];
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        if (ep->is_leaving)
            continue;
        view->endpoints++;
        view->available += is_available(ep);
    }
    view->limit_sum = gate_limit_sum(g);
    view->hedges = g->hedge.sent;
    view->is_overloaded = g->queue.length > 0 && !gate_has_room(g);
}

bool gate_endpoint_view(const struct gate *g, uint16_t endpoint, struct gate_endpoint_view *view)
{
    if (endpoint >= GATE_ENDPOINTS_MAX || !g->by_index[endpoint])
        return false;
    const struct endpoint *ep = g->by_index[endpoint];
    struct gate_keep keep;
    gate_endpoint_keep(g, endpoint, &keep);
    *view = (struct gate_endpoint_view){.in_flight = ep->in_flight,
                                        .limit = gate_limit_of(g, ep),
                                        .health = (enum ev_health_state)ep->health,
                                        .latency_us = ep->seat.latency_us,
                                        .error_ratio = ep->seat.error_ratio,
                                        .base_us = keep.base_us,
                                        .cv = keep.cv};
    view->has_answered = ep->has_answered;
    view->weight = ep->seat.weight;
    view->utilisation = -1;
    view->is_far = ep->place.is_far;
    view->is_out = gate_is_out(ep);
    view->is_spare = ep->place.tier > g->tier_best;
    view->is_binding = g->queue.length > 0 && ep->in_flight >= view->limit;
    /* Pick counts fade alike, so their shares need no common clock reading closer than the last
     * pick. */
    uint64_t now_us = 0;
    for (uint32_t i = 0; i < g->count; i++)
        now_us = fb_max_u64(now_us, g->endpoints[i]->seat.picks_us);
    if (load_is_fresh(&ep->load, fb_max_u64(now_us, g->balance_us)))
        view->utilisation = ep->load.last.utilisation;
    double sum = 0;
    for (uint32_t i = 0; i < g->count; i++)
        sum += balance_picks(&g->endpoints[i]->seat, now_us);
    view->share = sum > 0 ? balance_picks(&ep->seat, now_us) / sum : 0;
    return true;
}

void gate_endpoint_keep(const struct gate *g, uint16_t endpoint, struct gate_keep *keep)
{
    fb_assert(endpoint < GATE_ENDPOINTS_MAX);
    const struct endpoint *ep = g->by_index[endpoint];
    fb_assert(ep);
    *keep = (struct gate_keep){.limit = ep->hold > 0 ? ep->unheld : limit_now(&ep->limit),
                               .base_us = limit_base_us(&ep->limit),
                               .cv = limit_cv(&ep->limit),
                               .latency_us = ep->seat.latency_us,
                               .error_ratio = ep->seat.error_ratio};
}

/* ---- events ----
 *
 * 64 are kept between two calls; the gateway asks after each tick.  What does not fit is lost,
 * never what is already there: the first sign of a fault is worth more than its echo. */

union ev_any *gate_event_new(struct gate *g)
{
    if (g->events_count == GATE_EVENTS)
        return NULL;
    union ev_any *ev = &g->events[(g->events_first + g->events_count++) % GATE_EVENTS];
    *ev = (union ev_any){0};
    return ev;
}

size_t gate_take_events(struct gate *g, union ev_any *out, size_t max)
{
    size_t n = 0;
    while (n < max && g->events_count > 0) {
        out[n++] = g->events[g->events_first];
        g->events_first = (g->events_first + 1) % GATE_EVENTS;
        g->events_count--;
    }
    return n;
}

/* ---- shed while waiting ----
 *
 * A ticket pushed out by a more important one cannot be answered inside somebody else's
 * gate_arrive: it is kept here until gate_next hands it back. */

void gate_end_waiting(struct gate *g, struct gate_ticket *t, enum ev_reason why)
{
    t->state = GATE_ENDED;
    t->reason = (uint16_t)why;
    t->next = NULL;
    if (g->ended_oldest)
        g->ended_newest->next = t;
    else
        g->ended_oldest = t;
    g->ended_newest = t;
}

void gate_forget_ended(struct gate *g, struct gate_ticket *t)
{
    struct gate_ticket *before = NULL;
    for (struct gate_ticket *x = g->ended_oldest; x; before = x, x = x->next) {
        if (x != t)
            continue;
        if (before)
            before->next = t->next;
        else
            g->ended_oldest = t->next;
        if (g->ended_newest == t)
            g->ended_newest = before;
        t->next = NULL;
        return;
    }
}
