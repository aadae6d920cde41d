/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "base/assert.h"
#include "reflex/admit.h"
#include "reflex/gate_int.h"
#include "reflex/hash.h"

/* An answer that fails within this time says nothing of the service time (a refused port answers in
 * 0.1 ms). */
static const uint64_t fast_fail_us = 5 * US_PER_MS;
static const uint64_t balance_every_us = 100 * US_PER_MS;
/* loops.md 2.2a: 4 is at most a few workers too many anywhere; the learner doubles it at once while
 * it binds. */
static const uint32_t limit_start = 4;
/* As the band of the score: less than that is noise. */
static const double worth_ratio = 1.5;
/* Half of an objective is for waiting; three quarters of it at an endpoint are late too often. */
static const double in_time_waits = 1.5;
/* Reported as stalled after this; the score reacts from 50 ms on. */
static const uint64_t stalled_us = 500 * US_PER_MS;

static bool has_untried(const struct gate *g, const struct gate_ticket *t, bool with_spare);
static bool is_spare(const struct gate *g, const struct endpoint *ep);
static double fastest(const struct endpoint *const *of, uint32_t n, uint64_t now_us);
static bool is_worth(const struct gate *g, const struct endpoint *const *full, uint32_t n,
                     double room_us, uint64_t now_us);
static void judge(struct gate *g, struct endpoint *ep, uint64_t now_us);
static void say_health(struct gate *g, struct endpoint *ep, const struct eject_change *change,
                       uint64_t now_us);

/* ---- life of an endpoint ----
 *
 *   add -> OK or RAMPING <-> EJECTED, HALF_OPEN (eject.h) ; drain <-> undrain ; remove -> leaving
 * -> forget
 *
 * Draining and leaving are the operator's word and rule over health; in_use counts what neither of
 * them holds. */

uint16_t gate_endpoint_add(struct gate *g, const struct gate_keep *keep, uint64_t now_us)
{
    uint16_t index = 0;
    while (index < GATE_ENDPOINTS_MAX && g->by_index[index])
        index++;
    if (index == GATE_ENDPOINTS_MAX)
        return EV_NONE;
    struct endpoint *ep = calloc(1, sizeof(*ep));
    if (!ep)
        return EV_NONE;
    ep->index = index;
    ep->limit_min = g->conf.limit_min;
    ep->limit_max = g->conf.limit_max;
    ep->place.identity = hash_mix(index, 0);
    ep->word.weight_pct = 100;
    ep->weight = 1;
    load_init(&ep->load);
    eject_seat_init(&ep->eject, now_us);
    balance_seat_init(&ep->seat, index, keep ? keep->latency_us : 0, now_us);
    limit_init(
        &ep->limit,
        &(struct limit_conf){.min = ep->limit_min, .max = ep->limit_max, .start = limit_start},
        now_us);
    /* What was known before a restart needs no slow start: it had one. */
    if (keep) {
        limit_restore(&ep->limit, keep->limit, keep->base_us, keep->cv, now_us);
        ep->seat.error_ratio = fb_clamp(keep->error_ratio, 0, 1);
    } else {
        balance_seat_ramp(&g->balance, &ep->seat, now_us);
    }
    g->by_index[index] = ep;
    g->endpoints[g->count++] = ep;
    g->in_use++;
    gate_tier_update(g);
    gate_apply_bounds(g, ep);
    ep->health = EV_HEALTH_GONE;
    gate_say(g, ep, keep ? EV_HEALTH_OK : EV_HEALTH_RAMPING, REASON_HEALTH_ADDED, now_us);
    return index;
}

void gate_endpoint_remove(struct gate *g, uint16_t endpoint, uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    if (ep->is_leaving)
        return;
    if (!ep->is_draining && !gate_is_out(ep))
        g->in_use--;
    ep->is_leaving = true;
    gate_say(g, ep, EV_HEALTH_GONE, REASON_HEALTH_REMOVED, now_us);
    gate_tier_update(g);
    gate_endpoint_forget(g, ep);
}

void gate_endpoint_drain(struct gate *g, uint16_t endpoint, bool is_draining, uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    if (ep->is_draining == is_draining || ep->is_leaving)
        return;
    ep->is_draining = is_draining;
    if (!gate_is_out(ep))
        g->in_use += is_draining ? UINT32_MAX : 1;
    gate_tier_update(g);
    if (is_draining) {
        gate_say(g, ep, EV_HEALTH_DRAINING, REASON_HEALTH_DRAINED, now_us);
        return;
    }
    bool is_well = ep->eject.state == EV_HEALTH_OK;
    if (is_well)
        balance_seat_ramp(&g->balance, &ep->seat, now_us);
    gate_say(g, ep, is_well ? EV_HEALTH_RAMPING : ep->eject.state, REASON_HEALTH_UNDRAINED, now_us);
}

void gate_endpoint_version(struct gate *g, uint16_t endpoint, uint16_t version)
{
    gate_endpoint_at(g, endpoint)->version = (uint16_t)(version + 1); /* EV_NONE becomes 0 */
}

void gate_endpoint_others(struct gate *g, uint16_t endpoint, const struct balance_told *told,
                          uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    if (ep)
        balance_on_others(&ep->seat, told, now_us);
}

struct balance_answers gate_endpoint_answers(struct gate *g, uint16_t endpoint)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    struct balance_answers answers = ep->seat.answers;
    ep->seat.answers = (struct balance_answers){0};
    return answers;
}

void gate_endpoint_weight(struct gate *g, uint16_t endpoint, double weight_pct)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    ep->weight = fb_clamp(weight_pct, 0, 1000) / 100;
    gate_weigh(ep);
}

void gate_endpoint_hold(struct gate *g, uint16_t endpoint, uint64_t until_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    ep->seat.hold_us = fb_max_u64(ep->seat.hold_us, until_us);
}

void gate_endpoint_limit(struct gate *g, uint16_t endpoint, uint32_t min, uint32_t max,
                         uint32_t hold)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    bool is_released = ep->hold > 0 && hold == 0;
    if (ep->hold == 0 && hold > 0)
        ep->unheld = limit_now(&ep->limit);
    ep->limit_min = fb_max_u32(1, min);
    ep->limit_max = fb_max_u32(ep->limit_min, max);
    ep->hold = hold;
    /* What was held is not what was learned: a limit that never was full measures nothing, and far
     * above the workers none ever is.  From below it finds up in seconds. */
    if (is_released)
        limit_set_bounds(&ep->limit, 1, ep->unheld);
    gate_apply_bounds(g, ep);
}

void gate_endpoint_relearn(struct gate *g, uint16_t endpoint, uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    limit_set_bounds(&ep->limit, 1, LIMIT_MAX); /* it begins where it always does, held or not */
    limit_forget(&ep->limit, now_us);
    ep->unheld = limit_now(&ep->limit);
    gate_apply_bounds(g, ep);
}

void gate_endpoint_probe(struct gate *g, uint16_t endpoint, enum eject_probe said, uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, endpoint);
    eject_on_probe(&ep->eject, said, now_us);
    judge(g, ep, now_us);
}

/* A held limit is a learner with no room to move: the same code decides. */
void gate_apply_bounds(const struct gate *g, struct endpoint *ep)
{
    uint32_t cap = gate_cap(ep);
    uint32_t min = fb_min_u32(cap, fb_max_u32(ep->limit_min, g->conf.limit_min));
    uint32_t max = fb_min_u32(cap, fb_max_u32(min, fb_min_u32(ep->limit_max, g->conf.limit_max)));
    if (ep->hold > 0)
        limit_set_bounds(&ep->limit, fb_min_u32(cap, ep->hold), fb_min_u32(cap, ep->hold));
    else
        limit_set_bounds(&ep->limit, min, max);
}

uint32_t gate_limit_of(const struct gate *g, const struct endpoint *ep)
{
    uint32_t cap = gate_cap(ep);
    if (ep->hold > 0)
        return fb_min_u32(cap, ep->hold);
    if (!g->conf.is_limit_learned)
        return fb_min_u32(ep->place.cap || ep->word.cap ? cap : UINT32_MAX,
                          g->conf.limit_fixed > 0 ? g->conf.limit_fixed : UINT32_MAX);
    return limit_now(&ep->limit);
}

/* ---- choosing ---- */

struct endpoint *gate_choose(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    if (g->conf.balance == GATE_BALANCE_HASH && t->place_hash && !t->is_hedge &&
        has_untried(g, t, false))
        return gate_choose_home(g, t, now_us);
    struct gate_seats near, far, tried, spare; /* 2 KiB each: only the counts are cleared */
    near.count = far.count = tried.count = spare.count = 0;
    struct balance_seat *trial = NULL;
    uint16_t version = gate_version_for(g, t);
    /* One pass: where it was not yet, where it was already, and who is on trial. */
    for (uint32_t i = 0; i < g->count; i++) {
        struct endpoint *ep = g->endpoints[i];
        bool is_tried = t->attempts > 0 && gate_was_tried(t, ep->index);
        if (t->attempts > 0 && !is_tried && is_spare(g, ep) && gate_endpoint_has_room(g, ep))
            spare.at[spare.count++] = &ep->seat;
        if (!gate_is_chosen_from(g, ep) || !gate_endpoint_has_room(g, ep))
            continue;
        if (version && ep->version != version)
            continue;
        if (is_tried) {
            tried.at[tried.count++] = &ep->seat;
        } else if (ep->eject.state == EV_HEALTH_HALF_OPEN) {
            trial = &ep->seat;
        } else {
            bool is_second = ep->place.is_far || ep->place.tier > g->tier_best;
            struct gate_seats *to = is_second ? &far : &near;
            to->at[to->count++] = &ep->seat;
        }
    }
    if (near.count + far.count == 0 && spare.count > 0)
        near = spare; /* what failed at all of the first may try the next tier */
    if (far.count > 0)
        gate_zone_join(g, &near, &far, now_us);
    /* A trial costs its request little only if it can be repeated elsewhere. */
    bool is_safe = t->is_idempotent && t->attempts == 0 && near.count > 0;
    struct balance_seat *chosen = NULL;
    if (trial && (is_safe || near.count + tried.count == 0))
        chosen = trial;
    else if (near.count > 0)
        chosen = near.at[balance_pick(&g->balance, near.at, near.count, now_us)];
    else if (tried.count > 0)
        chosen = tried.at[balance_pick(&g->balance, tried.at, tried.count, now_us)];
    return chosen ? FB_CONTAINER(chosen, struct endpoint, seat) : NULL;
}

/* Is it better to send now than to wait?  When the only room is at slow endpoints, the head of a
 * short queue is served sooner by waiting for a fast one; from a certain length on the slow one
 * helps everybody.  The threshold policy is optimal for two servers (Lin, Kumar: Optimal control of
 * a queueing system with two heterogeneous servers, 1984); the length is measured in time: what
 * waits / what the full endpoints complete.  Half of the longest wait caps it, so that in overload
 * all capacity is used. */
bool gate_has_worthy_room(const struct gate *g, uint64_t now_us)
{
    const struct endpoint *full[GATE_ENDPOINTS_MAX];
    const struct endpoint *room[GATE_ENDPOINTS_MAX];
    uint32_t full_count = 0;
    uint32_t room_count = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct endpoint *ep = g->endpoints[i];
        if (!gate_is_chosen_from(g, ep))
            continue;
        if (gate_endpoint_has_room(g, ep))
            room[room_count++] = ep;
        else
            full[full_count++] = ep;
    }
    /* With room at most of them there is a fast one, and the score finds it. */
    if (room_count == 0 || room_count > full_count || g->conf.balance != GATE_BALANCE_ADAPTIVE)
        return room_count > 0;
    return is_worth(g, full, full_count, fastest(room, room_count, now_us), now_us);
}

static double fastest(const struct endpoint *const *of, uint32_t n, uint64_t now_us)
{
    double latency_us = INFINITY;
    for (uint32_t i = 0; i < n; i++)
        latency_us = fmin(latency_us, balance_latency_us(&of[i]->seat, now_us));
    return latency_us;
}

static bool is_worth(const struct gate *g, const struct endpoint *const *full, uint32_t n,
                     double room_us, uint64_t now_us)
{
    double full_us = fastest(full, n, now_us);
    if (room_us <= worth_ratio * full_us)
        return true;
    /* More comes than can be served: a slot left empty is a request refused, as long as the slow
     * one answers in time (without this the slow third of S7 idled and 4 % of critical were
     * refused). */
    bool is_over = g->shed_threshold < ADMIT_ALL || queue_is_overloaded(&g->queue, now_us);
    if (is_over && room_us < in_time_waits * (double)g->conf.queue_wait_max_us)
        return true;
    double drain_per_us = 0;
    for (uint32_t i = 0; i < n; i++) {
        double latency_us = balance_latency_us(&full[i]->seat, now_us);
        if (latency_us > 0 && latency_us * worth_ratio < room_us)
            drain_per_us += full[i]->in_flight / latency_us;
    }
    double wait_us = (g->queue.length + 1) / fmax(drain_per_us, 1e-9);
    return wait_us >= fmin(room_us - full_us, (double)g->conf.queue_wait_max_us / 2);
}

bool gate_has_room(const struct gate *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (gate_is_chosen_from(g, g->endpoints[i]) && gate_endpoint_has_room(g, g->endpoints[i]))
            return true;
    return false;
}

bool gate_has_untried(const struct gate *g, const struct gate_ticket *t)
{
    return has_untried(g, t, true);
}

static bool has_untried(const struct gate *g, const struct gate_ticket *t, bool with_spare)
{
    for (uint32_t i = 0; i < g->count; i++)
        if ((gate_is_chosen_from(g, g->endpoints[i]) ||
             (with_spare && is_spare(g, g->endpoints[i]))) &&
            !gate_was_tried(t, g->endpoints[i]->index))
            return true;
    return false;
}

/* Of a later tier and otherwise fit. */
static bool is_spare(const struct gate *g, const struct endpoint *ep)
{
    return ep->place.tier > g->tier && !ep->is_leaving && !ep->is_draining && !gate_is_out(ep) &&
           eject_allows(&g->eject, &ep->eject);
}

bool gate_is_chosen_from(const struct gate *g, const struct endpoint *ep)
{
    if (ep->is_leaving || ep->is_draining || gate_is_out(ep) || ep->place.tier > g->tier)
        return false;
    /* Panic is for those who have nothing better: here the next tier is. */
    if (ep->place.tier < g->tier_best && ep->eject.state == EV_HEALTH_EJECTED)
        return false;
    return eject_allows(&g->eject, &ep->eject);
}

bool gate_endpoint_has_room(const struct gate *g, const struct endpoint *ep)
{
    if (!g->conf.is_limit_learned || ep->hold > 0)
        return ep->in_flight < gate_limit_of(g, ep);
    return limit_has_room(&ep->limit);
}

/* ---- one attempt ---- */

void gate_start(struct gate *g, struct gate_ticket *t, struct endpoint *ep, uint64_t now_us)
{
    fb_assert(t->attempts < UINT8_MAX);
    t->endpoint = ep->index;
    t->tried[ep->index / 64] |= UINT64_C(1) << (ep->index % 64);
    t->attempts++;
    t->state = GATE_IN_FLIGHT;
    t->sent_us = now_us;
    t->first_byte_us = 0;
    t->in_flight_at_send = ++ep->in_flight;
    g->in_flight++;
    g->sends += 1;
    g->far_sends += ep->place.is_far;
    t->traits |= (uint8_t)(ep->place.is_far << EV_TRAIT_FAR_ZONE);
    t->is_trial = ep->eject.state == EV_HEALTH_HALF_OPEN;
    if (t->is_trial)
        ep->eject.trials++;
    balance_on_send(&ep->seat, now_us);
    limit_on_send(&ep->limit, &t->tag, now_us);
}

/* Three readers, three questions.  Balance: how long and how often wrong.  Limit: is this a sample
 * of the service time.  Ejection: does the endpoint live. */
static enum limit_result read_end(struct endpoint *ep, const struct gate_ticket *t,
                                  enum gate_outcome outcome, uint64_t now_us, enum eject_sign *sign)
{
    uint64_t heard_us = t->tag.left_us ? fb_min_u64(t->tag.left_us, now_us) : now_us;
    uint64_t age_us = fb_sub_floor_u64(heard_us, t->sent_us);
    uint64_t answer_us = t->first_byte_us ? fb_sub_floor_u64(t->first_byte_us, t->sent_us) : age_us;
    *sign = EJECT_BAD;
    switch (outcome) {
    case GATE_OK:
        *sign = EJECT_GOOD;
        balance_on_latency(&ep->seat, answer_us, now_us);
        return LIMIT_OK;
    case GATE_RELEASED:
        *sign = EJECT_GOOD;
        balance_on_latency(&ep->seat, answer_us, now_us);
        return LIMIT_TRANSFER;
    case GATE_FAILED:
        return age_us < fast_fail_us ? LIMIT_FAST_FAIL : LIMIT_OK;
    case GATE_OVERLOADED:
        return LIMIT_FAST_FAIL;
    case GATE_TIMED_OUT:
        balance_on_censored(&ep->seat, age_us, now_us);
        return LIMIT_TIMED_OUT;
    case GATE_CONNECT_FAILED: /* the endpoint's workers never saw it */
        *sign = EJECT_NO_CONNECT;
        return LIMIT_GONE;
    case GATE_ABANDONED: /* a lower bound: dropping it would be survivor bias; no fault of the
                            endpoint */
        *sign = EJECT_UNKNOWN;
        if (t->first_byte_us)
            balance_on_latency(&ep->seat, answer_us, now_us);
        else
            balance_on_censored(&ep->seat, age_us, now_us);
        return LIMIT_TIMED_OUT;
    }
    return LIMIT_OK;
}

void gate_account(struct gate *g, struct gate_ticket *t, enum gate_outcome outcome, uint64_t now_us)
{
    struct endpoint *ep = gate_endpoint_at(g, t->endpoint);
    enum eject_sign sign;
    fb_assert(ep->in_flight > 0);
    fb_assert(g->in_flight > 0);
    ep->in_flight--;
    g->in_flight--;
    ep->has_answered |= outcome == GATE_OK || t->first_byte_us != 0;
    enum limit_result result = read_end(ep, t, outcome, now_us, &sign);
    balance_on_done(&ep->seat, now_us);
    if (sign != EJECT_UNKNOWN) {
        success_note(&g->success, sign == EJECT_GOOD, now_us);
        balance_on_verdict(&ep->seat, sign != EJECT_GOOD, now_us);
    }
    limit_on_done(&ep->limit, &t->tag, result, gate_is_wanted(g, ep, now_us), now_us);
    eject_on_end(&ep->eject, sign, t->is_trial, now_us);
    /* Only what can change the verdict is judged here; the rest waits for the tick. */
    if (t->is_trial || sign == EJECT_BAD || sign == EJECT_NO_CONNECT)
        judge(g, ep, now_us);
    t->is_trial = false;
    if (ep->is_leaving)
        gate_endpoint_forget(g, ep);
}

/* ---- time ---- */

static void plan_worth(struct gate *g, uint64_t now_us)
{
    double refused = success_refuse_share(&g->success, g->conf.success_floor, now_us);
    for (uint8_t i = EV_CLASS_CRITICAL + 1; i < EV_CLASS_COUNT; i++)
        g->worth[i] =
            refused > 0 ? fair_plan_share(&g->fair, i, 1 - refused) : (struct fair_cut){0};
}

void gate_tick(struct gate *g, uint64_t now_us)
{
    queue_tick(&g->queue, now_us);
    fair_tick(&g->fair, g->shed_threshold, now_us);
    for (uint32_t i = 0; i < g->count; i++) {
        struct endpoint *ep = g->endpoints[i];
        if (!ep->hold && g->conf.is_limit_learned)
            limit_tick(&ep->limit, gate_is_wanted(g, ep, now_us), now_us);
        struct ev_proposal proposal;
        if (limit_take_proposal(&ep->limit, &proposal)) {
            union ev_any *ev = gate_event_new(g);
            if (ev) {
                ev->proposal = proposal;
                ev->proposal.endpoint = ep->index;
                ev->proposal.service = 0;
            }
        }
    }
    /* Medians, slow starts and verdicts move over seconds: each 100 ms is enough. */
    if (fb_sub_floor_u64(now_us, g->balance_us) < balance_every_us)
        return;
    g->balance_us = now_us;
    plan_worth(g, now_us);
    hedge_tick(&g->hedge, g->in_flight, gate_limit_sum(g), now_us);
    struct balance_seat *seats[GATE_ENDPOINTS_MAX];
    struct eject_seat *ejects[GATE_ENDPOINTS_MAX];
    uint32_t n = 0, asked = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        struct endpoint *ep = g->endpoints[i];
        if (ep->is_leaving)
            continue;
        seats[n++] = &ep->seat;
        if (!ep->is_draining && !gate_is_out(ep))
            ejects[asked++] = &ep->eject;
    }
    gate_place_tick(g, now_us);
    balance_tick(&g->balance, seats, n, now_us);
    for (uint32_t i = 0; i < g->count; i++) {
        struct endpoint *ep = g->endpoints[i];
        if (ep->is_leaving)
            continue;
        judge(g, ep, now_us);
        if (ep->health == EV_HEALTH_RAMPING && ep->seat.ramp_us == 0)
            gate_say(g, ep, EV_HEALTH_OK, REASON_HEALTH_RECOVERED, now_us);
        bool is_stalled = !g->conf.is_long && balance_is_stalled(&ep->seat, now_us) &&
                          fb_sub_floor_u64(now_us, ep->seat.completion_us) > stalled_us;
        if (is_stalled != ep->is_stalled) {
            ep->is_stalled = is_stalled;
            gate_say(g, ep, ep->health,
                     is_stalled ? REASON_HEALTH_STALLED : REASON_HEALTH_UNSTALLED, now_us);
        }
    }
    if (eject_panic_changed(&g->eject, ejects, asked, now_us) && g->count > 0) {
        struct endpoint *ep = g->endpoints[0];
        gate_say(g, ep, ep->health,
                 g->eject.is_panic ? REASON_HEALTH_PANIC : REASON_HEALTH_PANIC_OVER, now_us);
    }
}

static void judge(struct gate *g, struct endpoint *ep, uint64_t now_us)
{
    struct eject_seat *ejects[GATE_ENDPOINTS_MAX];
    uint32_t n = 0;
    uint32_t own = 0;
    if (ep->is_leaving)
        return;
    for (uint32_t i = 0; i < g->count; i++) {
        if (g->endpoints[i]->is_leaving ||
            ((g->endpoints[i]->is_draining || gate_is_out(g->endpoints[i])) &&
             g->endpoints[i] != ep))
            continue;
        if (g->endpoints[i] == ep)
            own = n;
        ejects[n++] = &g->endpoints[i]->eject;
    }
    struct eject_change change = eject_judge(&g->eject, ejects, n, own, now_us);
    if (change.reason == REASON_NONE)
        return;
    if (change.to == EV_HEALTH_RAMPING)
        balance_seat_ramp(&g->balance, &ep->seat, now_us);
    gate_tier_update(g);
    if (!ep->is_draining)
        say_health(g, ep, &change, now_us);
}

static void say_health(struct gate *g, struct endpoint *ep, const struct eject_change *change,
                       uint64_t now_us)
{
    enum ev_health_state from = ep->health;
    ep->health = (uint8_t)change->to;
    union ev_any *ev = gate_event_new(g);
    if (!ev)
        return;
    ev->health = EV_INIT(HEALTH, health, now_us);
    ev->health.endpoint = ep->index;
    ev->health.from = (uint8_t)from;
    ev->health.to = (uint8_t)change->to;
    ev->health.reason = (uint16_t)change->reason;
    ev->health.failures = change->failures;
    ev->health.samples = change->samples;
    ev->health.until_us = change->until_us;
}

void gate_say(struct gate *g, struct endpoint *ep, enum ev_health_state to, enum ev_reason why,
              uint64_t now_us)
{
    say_health(g, ep, &(struct eject_change){.to = to, .reason = why}, now_us);
}

void gate_endpoint_forget(struct gate *g, struct endpoint *ep)
{
    fb_assert(ep->is_leaving);
    if (ep->in_flight > 0 || ep->pin_count > 0)
        return; /* who is the last calls again */
    for (uint32_t i = 0; i < g->count; i++)
        if (g->endpoints[i] == ep) {
            g->endpoints[i] = g->endpoints[--g->count];
            break;
        }
    g->by_index[ep->index] = NULL;
    free(ep);
}

struct endpoint *gate_endpoint_at(const struct gate *g, uint16_t index)
{
    fb_assert(index < GATE_ENDPOINTS_MAX);
    fb_assert(g->by_index[index]);
    return g->by_index[index];
}
