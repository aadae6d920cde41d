/* SPDX-License-Identifier: Apache-2.0 */
/* Clients: they come at random or in a closed loop, wait, lose patience, try again. */
#include <math.h>
#include <stdlib.h>

#include "base/assert.h"
#include "sim/world.h"

/* Clients try again after 50..150 ms; in a closed loop a refusal costs 1 ms, an answer nothing. */
static const uint64_t again_min_us = 50 * US_PER_MS;
static const uint64_t again_span_us = 100 * US_PER_MS;
static const uint64_t loop_refused_us = US_PER_MS;

static struct sim_request *request_new(struct world *w);
static void request_free(struct world *w, struct sim_request *r);
static void offer(struct world *w, uint8_t class, uint64_t user);
static void try_gate(struct world *w, struct sim_request *r);
static void answer_of_gate(struct world *w, struct sim_request *r, enum gate_answer answer);
static void send(struct world *w, struct sim_request *r);
static void note_home(struct world *w, const struct sim_request *r, uint16_t endpoint);
static void give_up(struct world *w, struct sim_request *r);
static void over(struct world *w, struct sim_request *r, enum sim_end end);
static void detach(struct world *w, struct sim_request *r);
static uint8_t class_draw(struct world *w);
static uint64_t user_draw(struct world *w);

/* ---- arrivals ---- */

static double rate_at(const struct world *w, uint64_t at_us, uint64_t *until_us)
{
    double at_s = (double)at_us / 1e6;
    double rate = 0;
    *until_us = UINT64_MAX;
    if (w->o->trace_rows > 0) {
        double from_s = 0;
        for (uint32_t i = 0; i < w->o->trace_rows; i++) {
            double to_s = from_s + w->o->trace[i].seconds * w->o->time_factor;
            if (at_s < to_s) {
                *until_us = (uint64_t)(to_s * 1e6) + 1;
                rate = w->o->trace[i].requests / (w->o->trace[i].seconds * 1e6);
                break;
            }
            from_s = to_s;
        }
    } else {
        uint32_t i = result_phase_of(w, at_us);
        *until_us = (uint64_t)(w->sc->phases[i].until_s * w->o->time_factor * 1e6) + 1;
        rate = w->sc->phases[i].load * w->capacity_per_us;
    }
    double factor = 0;
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++)
        factor += w->class_share[i] * w->class_factor[i];
    return rate * factor * w->o->load_factor;
}

/* Memoryless: at the end of a phase, and when a rate changes, drawing again from there is exact. */
void client_next_arrival(struct world *w)
{
    w->arrival_mark++;
    uint64_t at_us = w->now_us;
    while (at_us < w->end_us) {
        uint64_t until_us;
        double rate = rate_at(w, at_us, &until_us);
        double gap_us = rate > 0 ? rng_exp(&w->arrivals, 1 / rate) : INFINITY;
        if ((double)at_us + gap_us < (double)until_us) {
            world_schedule(w, at_us + (uint64_t)gap_us, SIM_EV_ARRIVE, 0, w->arrival_mark);
            return;
        }
        at_us = until_us;
    }
}

void client_arrive(struct world *w)
{
    offer(w, class_draw(w), user_draw(w));
    client_next_arrival(w);
}

void client_start_loop(struct world *w)
{
    uint32_t clients = w->o->clients > 0 ? (uint32_t)w->o->clients : w->sc->clients;
    for (uint32_t i = 0; i < clients; i++)
        offer(w, class_draw(w), user_draw(w));
}

static void offer(struct world *w, uint8_t class, uint64_t user)
{
    struct sim_request *r = request_new(w);
    if (!r)
        return;
    r->arrive_us = w->now_us;
    r->class = class;
    r->user = user;
    r->client_tries = 0;
    r->was_sent = false;
    result_offer(w, r);
    if (w->sc->patience_ms > 0)
        world_schedule(w, w->now_us + (uint64_t)(w->sc->patience_ms * 1e3), SIM_EV_PATIENCE, r->id,
                       r->patience_mark);
    try_gate(w, r);
}

/* As the keyed hash of the gateway: another one in each process. */
static uint64_t world_key(const struct world *w, uint64_t user)
{
    uint64_t z = (user ^ w->key_seed) * UINT64_C(0xbf58476d1ce4e5b9);
    return user ? (z ^ z >> 31) | 1 : 0;
}

static void try_gate(struct world *w, struct sim_request *r)
{
    r->gateway = (uint16_t)(w->gateways > 1 ? rng_below(&w->clients, w->gateways) : 0);
    r->ticket = (struct gate_ticket){.arrive_us = w->now_us,
                                     .deadline_us = UINT64_MAX,
                                     .key_hash = world_key(w, r->user),
                                     .place_hash = r->user,
                                     .class = r->class,
                                     .is_idempotent = true};
    if (w->sc->is_deadline_known)
        r->ticket.deadline_us = r->arrive_us + (uint64_t)(w->sc->in_time_ms * 1e3);
    r->client_tries++;
    w->second_arrivals++;
    answer_of_gate(w, r, gate_arrive(w->gates[r->gateway], &r->ticket, w->now_us));
}

static void answer_of_gate(struct world *w, struct sim_request *r, enum gate_answer answer)
{
    if (answer == GATE_SEND)
        send(w, r);
    else if (answer == GATE_SHED)
        give_up(w, r);
    if (answer == GATE_WAIT) /* it may make another endpoint worth using, or push out somebody */
        client_pump(w, r->gateway);
}

static void send(struct world *w, struct sim_request *r)
{
    w->result->attempts++;
    w->second_sends++;
    w->result->retries += r->ticket.attempts > 1;
    w->reached += !r->was_sent;
    r->was_sent = true;
    uint16_t endpoint = w->server_of[r->gateway][r->ticket.endpoint];
    note_home(w, r, endpoint);
    if (w->now_us >= w->measure_us) {
        w->sends++;
        w->sends0 += endpoint == 0;
        w->sends_far += world_is_far(w, r->gateway, endpoint);
        w->sends_last += endpoint + 1u == w->server_count;
    }

    r->mark++;
    if (w->timeout_ms > 0)
        world_schedule(w, w->now_us + (uint64_t)(w->timeout_ms * 1e3), SIM_EV_TIMEOUT, r->id,
                       r->mark);
    server_submit(w, endpoint, r);
}

/* Does the user meet the endpoint that it met last time? */
static void note_home(struct world *w, const struct sim_request *r, uint16_t endpoint)
{
    struct sim_home *home = &w->homes[(r->user >> 32) % SIM_HOMES];
    if (r->user == 0 || r->ticket.attempts > 1)
        return;
    if (home->user == r->user && w->now_us >= w->measure_us) {
        w->sends_again++;
        w->sends_same += home->endpoint == endpoint;
    }
    *home = (struct sim_home){r->user, endpoint};
}

void client_pump(struct world *w, uint32_t gateway)
{
    struct gate_ticket *t;
    while ((t = gate_next(w->gates[gateway], w->now_us))) {
        struct sim_request *r = FB_CONTAINER(t, struct sim_request, ticket);
        if (t->state == GATE_IN_FLIGHT)
            send(w, r);
        else
            give_up(w, r);
    }
}

/* ---- ends ----
 *
 *   attempt over -> good | gate retries (backoff) | client tries again (50..150 ms) | given up
 *
 * <mark> makes events of an attempt that is over stale; <patience_mark> lives as long as the
 * request. */

void client_attempt_over(struct world *w, struct sim_request *r, enum gate_outcome outcome)
{
    struct gate *g = w->gates[r->gateway];
    if (outcome == GATE_OK)
        gate_first_byte(g, &r->ticket, w->now_us);
    uint32_t gateway = r->gateway;
    r->mark++;
    r->outcome = (uint8_t)outcome;
    gate_done(g, &r->ticket, outcome, w->now_us);
    uint64_t backoff_us;
    if (outcome == GATE_OK) {
        bool is_late = w->now_us - r->arrive_us > (uint64_t)(w->sc->in_time_ms * 1e3);
        brain_request(w, r, REASON_ANSWERED);
        over(w, r, is_late ? SIM_END_LATE : SIM_END_GOOD);
    } else if (gate_retry(g, &r->ticket, outcome, &backoff_us, w->now_us)) {
        world_schedule(w, w->now_us + backoff_us, SIM_EV_BACKOFF, r->id, r->mark);
    } else {
        give_up(w, r);
    }
    client_pump(w, gateway);
}

void client_event(struct world *w, const struct sim_event *ev)
{
    struct sim_request *r = w->requests[ev->id];
    bool is_patience = ev->kind == SIM_EV_PATIENCE;
    if (!r->is_live || ev->mark != (is_patience ? r->patience_mark : r->mark))
        return;
    struct gate *g = w->gates[r->gateway];
    uint32_t gateway = r->gateway;
    switch (ev->kind) {
    case SIM_EV_CONNECT:
        client_attempt_over(w, r, GATE_CONNECT_FAILED);
        break;
    case SIM_EV_TIMEOUT:
        detach(w, r);
        client_attempt_over(w, r, GATE_TIMED_OUT);
        break;
    case SIM_EV_BACKOFF:
        answer_of_gate(w, r, gate_retry_send(g, &r->ticket, w->now_us));
        break;
    case SIM_EV_AGAIN:
        try_gate(w, r);
        break;
    case SIM_EV_PATIENCE:
        detach(w, r);
        brain_request(w, r,
                      r->ticket.state == GATE_IN_FLIGHT ? REASON_CLIENT_GONE
                                                        : REASON_CLIENT_GONE_QUEUED);
        gate_cancel(g, &r->ticket, w->now_us);
        over(w, r, SIM_END_ABANDONED);
        client_pump(w, gateway);
        break;
    default:
        break;
    }
}

static enum ev_reason reason_of(const struct sim_request *r)
{
    if (r->ticket.reason != REASON_NONE)
        return (enum ev_reason)r->ticket.reason;
    switch ((enum gate_outcome)r->outcome) {
    case GATE_TIMED_OUT:
        return REASON_UPSTREAM_TIMEOUT;
    case GATE_CONNECT_FAILED:
        return REASON_CONNECT_REFUSED;
    default:
        return REASON_UPSTREAM_ERROR;
    }
}

/* The gate refused or the endpoint failed for good: the client tries again or takes it as its
 * answer. */
static void give_up(struct world *w, struct sim_request *r)
{
    r->mark++;
    brain_request(w, r, reason_of(r));
    if (r->client_tries <= w->sc->client_retries) {
        uint64_t pause_us =
            again_min_us + (uint64_t)(rng_unit(&w->clients) * (double)again_span_us);
        world_schedule(w, w->now_us + pause_us, SIM_EV_AGAIN, r->id, r->mark);
        return;
    }
    over(w, r, r->ticket.reason != REASON_NONE ? SIM_END_SHED : SIM_END_FAILED);
}

static void over(struct world *w, struct sim_request *r, enum sim_end end)
{
    result_end(w, r, end);
    uint8_t class = r->class;
    uint64_t user = r->user;
    if (w->sc->clients == 0) {
        request_free(w, r);
        return;
    }
    if (end == SIM_END_SHED || end == SIM_END_FAILED) { /* the same client a little later */
        r->client_tries = 0;
        r->mark++;
        r->arrive_us = w->now_us + loop_refused_us;
        result_offer(w, r);
        world_schedule(w, r->arrive_us, SIM_EV_AGAIN, r->id, r->mark);
        return;
    }
    request_free(w, r);
    offer(w, class, user);
}

/* The client or the gateway no longer waits; the endpoint does not know. */
static void detach(struct world *w, struct sim_request *r)
{
    if (r->job != SIM_NONE)
        w->jobs[r->job].request = SIM_NONE;
    r->job = SIM_NONE;
    r->mark++;
}

static struct sim_request *request_new(struct world *w)
{
    if (w->free_request_count > 0) {
        struct sim_request *r = w->requests[w->free_requests[--w->free_request_count]];
        r->is_live = true;
        return r;
    }
    if (w->request_count == w->request_cap) {
        uint32_t cap = w->request_cap ? w->request_cap * 2 : 1024;
        struct sim_request **more = realloc(w->requests, cap * sizeof(struct sim_request *));
        if (more)
            w->requests = more;
        uint32_t *frees = realloc(w->free_requests, cap * sizeof(*frees));
        if (frees)
            w->free_requests = frees;
        if (!more || !frees) {
            w->is_out_of_memory = true;
            return NULL;
        }
        w->request_cap = cap;
    }
    struct sim_request *r = calloc(1, sizeof(*r));
    if (!r) {
        w->is_out_of_memory = true;
        return NULL;
    }
    r->id = w->request_count;
    r->job = SIM_NONE;
    r->is_live = true;
    w->requests[w->request_count++] = r;
    return r;
}

static void request_free(struct world *w, struct sim_request *r)
{
    fb_assert(r->is_live);
    fb_assert(r->job == SIM_NONE);
    r->is_live = false;
    r->mark++;
    r->patience_mark++;
    w->free_requests[w->free_request_count++] = r->id;
}

static uint8_t class_draw(struct world *w)
{
    double sum = 0;
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++)
        sum += w->class_share[i] * w->class_factor[i];
    double x = rng_unit(&w->clients) * sum;
    uint8_t last = EV_CLASS_DEFAULT;
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++) {
        double share = w->class_share[i] * w->class_factor[i];
        if (share <= 0)
            continue;
        last = i;
        if (x < share)
            break;
        x -= share;
    }
    return last;
}

static uint64_t user_draw(struct world *w)
{
    if (w->sc->users == 0)
        return 0;
    uint64_t user = 1;
    if (rng_unit(&w->clients) >= w->sc->heavy_share)
        user = 2 + rng_below(&w->clients, w->sc->users);
    return SIM_USER(user);
}
