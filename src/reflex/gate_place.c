/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request belongs, when that is not decided by load alone. */
#include "base/assert.h"
#include "reflex/gate_int.h"
#include "reflex/hash.h"

/* A full endpoint whose requests went elsewhere is wanted for this long: a few ticks, so that its
 * learner tries a higher limit although no request waits. */
static const uint64_t spill_shown_us = 50 * US_PER_MS;

bool gate_is_wanted(const struct gate *g, const struct endpoint *ep, uint64_t now_us)
{
    bool is_spilling = ep->spill_us > 0 && fb_sub_floor_u64(now_us, ep->spill_us) < spill_shown_us;
    return g->queue.length > 0 || is_spilling;
}

/* ---- consistent hashing ----
 *
 * Slow start is by time alone and only beside others that are through with it: after a start all
 * ramp alike, and keys would wander with the answers that each happened to get. */

uint16_t gate_version_for(const struct gate *g, const struct gate_ticket *t)
{
    if (!t->wanted)
        return 0;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        bool is_again = t->attempts > 0 && gate_was_tried(t, ep->index);
        if (ep->version == t->wanted && !is_again && gate_is_chosen_from(g, ep) &&
            gate_endpoint_has_room(g, ep))
            return t->wanted;
    }
    return 0;
}

struct endpoint *gate_choose_home(struct gate *g, const struct gate_ticket *t, uint64_t now_us)
{
    struct endpoint *of[GATE_ENDPOINTS_MAX];
    struct hash_seat seats[GATE_ENDPOINTS_MAX];
    struct hash_ask ask = {.key = t->place_hash};
    bool has_fresh = false;
    bool is_ramping = true;
    uint32_t n = 0;
    uint16_t version = gate_version_for(g, t);
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        if (!gate_is_chosen_from(g, ep) || (version && ep->version != version))
            continue;
        is_ramping = is_ramping && ep->seat.ramp_us > 0;
        has_fresh = has_fresh || (!gate_was_tried(t, ep->index) && gate_endpoint_has_room(g, ep));
    }
    for (uint32_t i = 0; i < g->count; i++) {
        struct endpoint *ep = g->endpoints[i];
        if (!gate_is_chosen_from(g, ep) || (version && ep->version != version))
            continue;
        bool is_trial = ep->eject.state == EV_HEALTH_HALF_OPEN;
        bool is_safe = !is_trial || (t->is_idempotent && t->attempts == 0);
        bool is_again = t->attempts > 0 && gate_was_tried(t, ep->index);
        struct hash_seat *s = &seats[n];
        *s = (struct hash_seat){.identity = ep->identity,
                                .weight = ep->seat.weight,
                                .in_flight = ep->in_flight,
                                .limit = g->conf.is_limit_learned ? gate_limit_of(g, ep) : 0,
                                .has_room = gate_endpoint_has_room(g, ep)};
        if (!is_ramping)
            s->weight *= balance_ramp(&ep->seat, now_us);
        if (has_fresh && (is_again || !is_safe))
            s->has_room = false;
        ask.in_flight += s->in_flight;
        ask.weight += s->weight;
        of[n++] = ep;
    }
    if (n == 0)
        return NULL;
    struct hash_choice c = hash_pick(seats, n, &ask);
    fb_assert(c.home < n);
    if (!gate_endpoint_has_room(g, of[c.home]))
        of[c.home]->spill_us = now_us;
    return c.at < n ? of[c.at] : NULL;
}
