/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/gate.h"

#include <math.h>
#include <stdlib.h>

#include "base/assert.h"
#include "reflex/admit.h"
#include "reflex/gate_int.h"

static const uint64_t objective_none_wait_us = US_PER_S;
static const uint32_t retries_free = 2;

static enum gate_answer place(struct gate *g, struct gate_ticket *t, uint64_t now_us);
static bool try_send(struct gate *g, struct gate_ticket *t, uint64_t now_us);
static bool is_admitted(struct gate *g, const struct gate_ticket *t, uint64_t now_us);
static double refused_share(struct gate *g, const struct gate_ticket *t, uint64_t now_us);
static bool is_worth_a_try(struct gate *g, const struct gate_ticket *t, double refused,
                           uint64_t now_us);
static uint8_t class_of(const struct gate_ticket *t);
static enum gate_answer shed(struct gate_ticket *t, enum ev_reason why);

void gate_conf_default(struct gate_conf *conf, uint64_t objective_us)
{
    *conf = (struct gate_conf){.balance = GATE_BALANCE_ADAPTIVE,
                               .is_limit_learned = true,
                               .limit_min = 1,
                               .limit_max = 4096,
                               .queue_capacity = GATE_QUEUE_CAPACITY,
                               .queue_wait_max_us =
                                   objective_us > 0 ? objective_us / 2 : objective_none_wait_us,
                               .objective_us = objective_us,
                               .is_codel = true,
                               .is_ejecting = true,
                               .retry_pct = 10,
                               .retries_max = 2,
                               .hedge_pct = 2,
                               .ejected_pct_max = 30};
}

struct gate *gate_new(const struct gate_conf *conf, uint64_t seed)
{
    struct gate *g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    rng_init(&g->rng, seed);
    g->shed_threshold = ADMIT_ALL;
    balance_init(&g->balance, conf->balance, rng_u64(&g->rng));
    eject_init(&g->eject, rng_u64(&g->rng));
    retry_init(&g->retry, conf->retry_pct, 0);
    hedge_init(&g->hedge, conf->hedge_pct, 0);
    queue_init(&g->queue, 0);
    gate_reconfigure(g, conf);
    return g;
}

void gate_free(struct gate *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++)
        free(g->by_index[i]);
    free(g);
}

void gate_reconfigure(struct gate *g, const struct gate_conf *conf)
{
    g->conf = *conf;
    g->conf.limit_min = fb_max_u32(1, conf->limit_min);
    g->conf.limit_max = fb_max_u32(g->conf.limit_min, conf->limit_max);
    if (g->conf.queue_capacity == 0)
        g->conf.queue_capacity = GATE_QUEUE_CAPACITY;
    g->balance.policy = conf->balance;
    g->eject.is_on = conf->is_ejecting;
    g->eject.ejected_pct_max = conf->ejected_pct_max;
    retry_set_pct(&g->retry, conf->retry_pct);
    hedge_set_pct(&g->hedge, conf->hedge_pct);
    queue_set(&g->queue, g->conf.queue_capacity, conf->queue_wait_max_us, conf->is_codel);
    for (uint32_t i = 0; i < g->count; i++)
        gate_apply_bounds(g, g->endpoints[i]);
}

/* ---- knobs ---- */

void gate_set_shed_threshold(struct gate *g, uint32_t threshold)
{
    if (threshold == g->shed_threshold)
        return;
    g->shed_threshold = threshold;
    fair_plan(&g->fair, threshold);
}

void gate_set_retry_pct(struct gate *g, double pct)
{
    retry_set_pct(&g->retry, pct);
}

void gate_set_hedge_pct(struct gate *g, double pct)
{
    hedge_set_pct(&g->hedge, pct);
}

/* ---- one request ---- */

enum gate_answer gate_arrive(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    fb_assert(t->state == GATE_NEW);
    fb_assert(t->class < EV_CLASS_COUNT);
    t->endpoint = EV_NONE;
    double refused = refused_share(g, t, now_us);
    if (g->queue.length > 0 || g->shed_threshold < ADMIT_ALL || refused > 0)
        fair_ask(&g->fair, t->class, t->key_hash);
    if (!is_admitted(g, t, now_us))
        return shed(t, REASON_SHED_PRIORITY);
    if (!is_worth_a_try(g, t, refused, now_us))
        return shed(t, REASON_SHED_ERRORS);
    retry_earn(&g->retry, now_us);
    hedge_earn(&g->hedge, now_us);
    return place(g, t, now_us);
}

enum gate_answer gate_retry_send(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    fb_assert(t->state == GATE_ENDED);
    fb_assert(t->attempts > 0);
    if (!is_admitted(g, t, now_us))
        return shed(t, REASON_SHED_PRIORITY);
    return place(g, t, now_us);
}

/* Sends at once when nobody of its class or above waits and there is room, else queues. */
static enum gate_answer place(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    t->reason = REASON_NONE;
    t->traits = 0;
    if (g->in_use == 0)
        return shed(t, REASON_NO_ENDPOINT);
    if (deadline_is_over(t->deadline_us, now_us))
        return shed(t, REASON_SHED_DEADLINE);
    if (t->pin) {
        enum gate_pin_answer at_pin = gate_pin_place(g, t, now_us);
        if (at_pin != GATE_PIN_NONE)
            return at_pin == GATE_PIN_SENT ? GATE_SEND : GATE_WAIT;
    }
    /* Lower classes that wait do not matter: it would pass them anyway.  Somebody of its own class
     * who waits goes first, even when room became free this instant. */
    uint8_t class = class_of(t);
    bool is_first = true;
    for (uint32_t i = 0; i <= class; i++)
        is_first = is_first && g->queue.classes[i].length == 0;
    if (is_first && gate_has_worthy_room(g, now_us) && try_send(g, t, now_us))
        return GATE_SEND;
    if (g->conf.queue_wait_max_us == 0)
        return shed(t, REASON_SHED_QUEUE_WAIT);
    t->queue_row = fair_row(&g->fair, class, t->key_hash);
    struct gate_ticket *victim = queue_put(&g->queue, t, class, now_us);
    if (victim == t)
        return shed(t, REASON_SHED_QUEUE_FULL);
    t->state = GATE_QUEUED;
    if (victim)
        gate_end_waiting(g, victim, REASON_SHED_QUEUE_FULL);
    return GATE_WAIT;
}

struct gate_ticket *gate_next(struct gate *g, uint64_t now_us)
{
    /* Refusals first: they cost nothing and their clients wait. */
    struct gate_ticket *t = g->ended_oldest;
    if (t) {
        g->ended_oldest = t->next;
        t->next = NULL;
        return t;
    }
    while ((t = gate_pin_next(g, now_us)))
        if (t->state != GATE_NEW || place(g, t, now_us) != GATE_WAIT)
            return t;
    if (g->queue.length == 0)
        return NULL;
    t = queue_take_expired(&g->queue, now_us);
    if (t) {
        shed(t, queue_verdict(&g->queue, t, now_us));
        return t;
    }
    if (g->in_use == 0) {
        t = queue_take(&g->queue);
        shed(t, REASON_NO_ENDPOINT);
        return t;
    }
    /* Asked before taking: who is taken out would lose his place. */
    if (!gate_has_worthy_room(g, now_us))
        return NULL;
    t = queue_take(&g->queue);
    enum ev_reason why = queue_verdict(&g->queue, t, now_us);
    if (why != REASON_NONE) {
        shed(t, why);
        return t;
    }
    bool is_sent = try_send(g, t, now_us);
    fb_assert(is_sent);
    return t;
}

void gate_first_byte(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    fb_assert(t->state == GATE_IN_FLIGHT);
    t->first_byte_us = now_us;
    if (!t->tag.has_head)
        limit_on_head(&gate_endpoint_at(g, t->endpoint)->limit, &t->tag);
}

void gate_left(struct gate_ticket *t, uint64_t now_us)
{
    fb_assert(t->state == GATE_IN_FLIGHT);
    t->tag.left_us = now_us;
}

uint64_t gate_transfer_us(const struct gate *g, const struct gate_ticket *t)
{
    fb_assert(t->state == GATE_IN_FLIGHT);
    const struct endpoint *ep = gate_endpoint_at(g, t->endpoint);
    bool is_capped = !g->conf.is_limit_learned || ep->hold > 0 ||
                     fb_min_u32(g->conf.limit_max, ep->limit_max) < LIMIT_MAX ||
                     gate_cap(ep) < LIMIT_MAX;
    return is_capped ? UINT64_MAX : limit_transfer_us(&ep->limit);
}

void gate_done(struct gate *g, struct gate_ticket *t, enum gate_outcome outcome, uint64_t now_us)
{
    fb_assert(t->state == GATE_IN_FLIGHT);
    t->state = GATE_ENDED;
    gate_account(g, t, outcome, now_us);
}

void gate_cancel(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    if (t->state == GATE_QUEUED && t->is_at_pin) {
        gate_pin_remove(g, t);
    } else if (t->state == GATE_QUEUED) {
        queue_remove(&g->queue, t);
    } else if (t->state == GATE_IN_FLIGHT) {
        t->state = GATE_ENDED;
        gate_account(g, t, GATE_ABANDONED, now_us);
    } else if (g->ended_oldest) { /* shed while it waited and not yet handed back */
        gate_forget_ended(g, t);
    }
    t->state = GATE_ENDED;
}

bool gate_retry(struct gate *g, struct gate_ticket *t, enum gate_outcome outcome,
                uint64_t *backoff_us, uint64_t now_us)
{
    fb_assert(t->state == GATE_ENDED);
    *backoff_us = 0;
    bool is_unsent = outcome == GATE_CONNECT_FAILED;
    bool is_failure = is_unsent || outcome == GATE_FAILED || outcome == GATE_TIMED_OUT;
    if (!is_failure || !(is_unsent || t->is_idempotent))
        return false;
    if (t->attempts == 0 || t->attempts > g->conf.retries_max)
        return false;
    /* Work that reached an endpoint is not repeated in overload: it would only displace others. */
    if (!is_unsent && queue_is_overloaded(&g->queue, now_us))
        return false;
    /* An endpoint that says it is overloaded (503 with Retry-After, 429) was excluded above: its
     * peers are likely as busy, and asking them is the storm. */
    bool is_elsewhere = gate_has_untried(g, t);
    if (t->is_for_others && !is_elsewhere)
        return false;
    /* What never reached an endpoint may go to another one at once; nobody is hurt by haste there.
     */
    if (!(is_unsent && is_elsewhere))
        *backoff_us = retry_backoff_us(t->attempts - 1u, &g->rng);
    if (deadline_left_us(t->deadline_us, now_us) <= *backoff_us)
        return false;
    /* A refused connection cost no endpoint any work: the first two go elsewhere free of charge, so
     * that a dead endpoint under load does not spend what its last answers need. */
    if (is_unsent && is_elsewhere && t->attempts <= retries_free && g->conf.retry_pct > 0)
        return true;
    return retry_charge(&g->retry, now_us);
}

static bool try_send(struct gate *g, struct gate_ticket *t, uint64_t now_us)
{
    struct endpoint *ep = gate_choose(g, t, now_us);
    if (!ep)
        return false;
    gate_start(g, t, ep, now_us);
    return true;
}

/* Critical is never shed by the threshold, not even its retries: only by time and by the hard
 * limits. */
static bool is_admitted(struct gate *g, const struct gate_ticket *t, uint64_t now_us)
{
    if (t->class == EV_CLASS_CRITICAL || g->shed_threshold >= ADMIT_ALL)
        return true;
    uint32_t level = admit_level(class_of(t), t->key_hash, now_us, &g->rng);
    return fair_passes(&g->fair, t->key_hash, level, g->shed_threshold, &g->rng);
}

/* Almost everything fails: most is not sent into that. */
static double refused_share(struct gate *g, const struct gate_ticket *t, uint64_t now_us)
{
    if (g->conf.success_floor <= 0 || t->class == EV_CLASS_CRITICAL)
        return 0;
    return success_refuse_share(&g->success, g->conf.success_floor, now_us);
}

/* Who asks more than others pays first; before the first tick that knows, the number decides. */
static bool is_worth_a_try(struct gate *g, const struct gate_ticket *t, double refused,
                           uint64_t now_us)
{
    if (refused <= 0)
        return true;
    const struct fair_cut *cut = &g->worth[t->class];
    uint32_t level = admit_level(t->class, t->key_hash, now_us, &g->rng);
    if (cut->level > 0 && t->key_hash != 0)
        return fair_passes_share(&g->fair, cut, t->key_hash, level, &g->rng);
    return level % ADMIT_LEVELS_PER_CLASS < (1 - refused) * ADMIT_LEVELS_PER_CLASS;
}

/* A retry competes one class lower: work that is new comes before work that failed once. */
static uint8_t class_of(const struct gate_ticket *t)
{
    uint32_t class = t->class + (t->attempts > 0 ? 1u : 0u);
    return (uint8_t)fb_min_u32(class, EV_CLASS_COUNT - 1);
}

static enum gate_answer shed(struct gate_ticket *t, enum ev_reason why)
{
    t->state = GATE_ENDED;
    t->reason = (uint16_t)why;
    return GATE_SHED;
}
