/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request belongs, when that is not decided by load alone. */
#include "base/assert.h"
#include "reflex/gate_int.h"
#include "reflex/hash.h"

#include <math.h>

/* A full endpoint whose requests went elsewhere is wanted for this long: a few ticks, so that its
 * learner tries a higher limit although no request waits. */
static const uint64_t spill_shown_us = 50 * US_PER_MS;

/* Another zone is worth its hop when the own one is this much worse: twice and 10 ms, several times
 * what a hop between zones costs (1 to 2 ms). */
static const double zone_ratio = 2;
static const double zone_add_us = 10e3;
/* Shares of traffic that begin and end a spill, and the time over which they are counted. */
static const double spill_begin = 0.05;
static const double spill_end = 0.01;
static const double sends_fade = 0.98; /* per 100 ms: 5 s */
/* Without a learned limit (passed connections): six at once keep their home whatever the mean is.
 */
static const uint32_t limit_unknown = 8;
/* A tier with nothing better than this is not well, though nobody may be ejected any more. */
static const double tier_errors_max = 0.5;

static bool is_own_zone_worth(const struct gate_seats *near, const struct gate_seats *far,
                              uint64_t now_us);
static void note_zone(struct gate *g, uint64_t now_us);
static uint8_t tier_with_help(const struct gate *g);

void gate_endpoint_place(struct gate *g, uint16_t endpoint, const struct gate_place *place)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    ep->place = *place;
    gate_apply_bounds(g, ep);
    gate_tier_update(g);
}

void gate_weigh(struct endpoint *ep)
{
    ep->seat.weight = ep->weight * ep->word.weight_pct / 100 * ep->load.factor;
}

/* ---- what it says of itself ---- */

void gate_endpoint_word(struct gate *g, uint16_t endpoint, const struct gate_word *word,
                        uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    bool was_out = gate_is_out(ep);
    struct gate_word was = ep->word;
    ep->word = *word;
    ep->word.weight_pct = fb_clamp(word->weight_pct, 0, 1000);
    gate_weigh(ep);
    gate_apply_bounds(g, ep);
    if (ep->is_leaving)
        return;
    bool is_out = gate_is_out(ep);
    if (was_out != is_out && !ep->is_draining)
        g->in_use += is_out ? UINT32_MAX : 1;
    gate_tier_update(g);
    if (is_out) {
        if (!was_out || was.is_down != word->is_down)
            gate_say(g, ep, word->is_down ? EV_HEALTH_EJECTED : EV_HEALTH_DRAINING,
                     word->is_down ? REASON_HEALTH_AGENT_DOWN : REASON_HEALTH_AGENT_OUT, now_us);
        return;
    }
    bool is_well = ep->eject.state == EV_HEALTH_OK;
    if (was_out && is_well)
        balance_seat_ramp(&g->balance, &ep->seat, now_us);
    enum ev_health_state to = ep->is_draining      ? EV_HEALTH_DRAINING
                              : was_out && is_well ? EV_HEALTH_RAMPING
                              : was_out            ? ep->eject.state
                                                   : (enum ev_health_state)ep->health;
    if (word->is_lost && !was.is_lost)
        gate_say(g, ep, to, REASON_HEALTH_AGENT_LOST, now_us);
    else if (was_out || (was.is_lost && !word->is_lost))
        gate_say(g, ep, to, REASON_HEALTH_AGENT_BACK, now_us);
    else if (fabs(was.weight_pct - word->weight_pct) > 0.5 || was.cap != word->cap)
        gate_say(g, ep, to, REASON_HEALTH_AGENT_WEIGHT, now_us);
}

void gate_endpoint_load(struct gate *g, uint16_t endpoint, const struct load_report *report)
{
    gate_endpoint_at(g, endpoint)->load.last = *report;
}

void gate_place_tick(struct gate *g, uint64_t now_us)
{
    struct load *loads[GATE_ENDPOINTS_MAX];
    double per_s[GATE_ENDPOINTS_MAX];
    for (uint32_t i = 0; i < g->count; i++) {
        loads[i] = &g->endpoints[i]->load;
        per_s[i] = balance_picks(&g->endpoints[i]->seat, now_us) / 5; /* they fade with 5 s */
    }
    load_tick(loads, per_s, g->count, now_us);
    for (uint32_t i = 0; i < g->count; i++)
        gate_weigh(g->endpoints[i]);
    gate_tier_update(g);
    note_zone(g, now_us);
}

/* ---- tiers ---- */

void gate_tier_update(struct gate *g)
{
    uint8_t best = UINT8_MAX;
    uint8_t last = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        if (ep->is_leaving || ep->is_draining || gate_is_out(ep))
            continue;
        if (ep->place.tier > last)
            last = ep->place.tier;
        bool is_well = ep->eject.state == EV_HEALTH_OK && ep->seat.error_ratio <= tier_errors_max;
        if (is_well && ep->place.tier < best)
            best = ep->place.tier;
    }
    g->tier_best = best < UINT8_MAX ? best : last;
    g->tier = tier_with_help(g);
}

/* While an endpoint of the tiers in use is broken, those that are left may be too few for all: then
 * the next tier takes what finds no room, as another zone does. */
static uint8_t tier_with_help(const struct gate *g)
{
    bool is_hurt = false;
    uint32_t next = UINT8_MAX;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        if (ep->is_leaving || ep->is_draining)
            continue;
        if (ep->place.tier <= g->tier_best)
            is_hurt |= ep->eject.state != EV_HEALTH_OK || ep->word.is_down;
        else
            next = fb_min_u32(next, ep->place.tier);
    }
    return is_hurt && next < UINT8_MAX ? (uint8_t)next : g->tier_best;
}

/* ---- zones ---- */

void gate_zone_join(struct gate *g, struct gate_seats *near, const struct gate_seats *far,
                    uint64_t now_us)
{
    if (near->count > 0 && !g->eject.is_panic && is_own_zone_worth(near, far, now_us))
        return;
    for (uint32_t i = 0; i < g->count && near->count == 0; i++)
        if (!g->endpoints[i]->place.is_far && g->endpoints[i]->place.tier <= g->tier_best &&
            gate_is_chosen_from(g, g->endpoints[i]))
            g->endpoints[i]->spill_us = now_us; /* full: its limit binds */
    for (uint32_t i = 0; i < far->count; i++)
        near->at[near->count++] = far->at[i];
}

/* By the best that each zone offers.  What is known of a far one does not fade as in the score:
 * being forgotten is no reason for a visit. */
static bool is_own_zone_worth(const struct gate_seats *near, const struct gate_seats *far,
                              uint64_t now_us)
{
    double own_us = INFINITY;
    double other_us = INFINITY;
    for (uint32_t i = 0; i < near->count; i++)
        own_us = fmin(own_us, balance_cost_us(near->at[i], now_us));
    for (uint32_t i = 0; i < far->count; i++) {
        const struct balance_seat *s = far->at[i];
        if (s->latency_us > 0)
            other_us = fmin(other_us, fmax(balance_cost_us(s, now_us), s->latency_us));
    }
    return own_us <= zone_ratio * other_us + zone_add_us;
}

static void note_zone(struct gate *g, uint64_t now_us)
{
    g->sends *= sends_fade;
    g->far_sends *= sends_fade;
    struct endpoint *own = NULL;
    for (uint32_t i = 0; i < g->count && !own; i++)
        if (!g->endpoints[i]->is_leaving && !g->endpoints[i]->place.is_far)
            own = g->endpoints[i];
    double share = g->sends >= 1 ? g->far_sends / g->sends : 0;
    bool is_spilling = own && share > (g->is_spilling ? spill_end : spill_begin);
    if (is_spilling == g->is_spilling)
        return;
    g->is_spilling = is_spilling;
    if (own)
        gate_say(g, own, own->health,
                 is_spilling ? REASON_HEALTH_ZONE_SPILL : REASON_HEALTH_ZONE_HOME, now_us);
}

bool gate_is_wanted(const struct gate *g, const struct endpoint *ep, uint64_t now_us)
{
    bool is_spilling = ep->spill_us > 0 && fb_sub_floor_u64(now_us, ep->spill_us) < spill_shown_us;
    return g->queue.length > 0 || ep->pin_count > 0 || is_spilling;
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

struct endpoint *gate_choose_home(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    struct endpoint *of[GATE_ENDPOINTS_MAX];
    struct hash_seat seats[GATE_ENDPOINTS_MAX];
    struct hash_ask ask = {.key = t->place_hash};
    bool has_fresh = false;
    bool has_best = false; /* room in the best tier: then the next one holds no keys */
    bool is_ramping = true;
    uint32_t n = 0;
    uint16_t version = gate_version_for(g, t);
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        if (!gate_is_chosen_from(g, ep) || (version && ep->version != version))
            continue;
        is_ramping = is_ramping && ep->seat.ramp_us > 0;
        bool is_fresh = !gate_was_tried(t, ep->index) && gate_endpoint_has_room(g, ep);
        has_best = has_best || (is_fresh && ep->place.tier <= g->tier_best);
        has_fresh = has_fresh || is_fresh;
    }
    for (uint32_t i = 0; i < g->count; i++) {
        struct endpoint *ep = g->endpoints[i];
        if (!gate_is_chosen_from(g, ep) || (version && ep->version != version))
            continue;
        if (ep->place.tier > g->tier_best && has_best)
            continue;
        bool is_trial = ep->eject.state == EV_HEALTH_HALF_OPEN;
        bool is_safe = !is_trial || (t->is_idempotent && t->attempts == 0);
        bool is_again = t->attempts > 0 && gate_was_tried(t, ep->index);
        struct hash_seat *s = &seats[n];
        *s = (struct hash_seat){.identity = ep->place.identity,
                                .weight = ep->weight * ep->word.weight_pct / 100,
                                .in_flight = ep->in_flight,
                                .limit =
                                    g->conf.is_limit_learned ? gate_limit_of(g, ep) : limit_unknown,
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
    if (c.at == n)
        return NULL;
    t->traits = c.at == c.home ? EV_TRAIT_BIT(HOME) : EV_TRAIT_BIT(AWAY);
    return of[c.at];
}
