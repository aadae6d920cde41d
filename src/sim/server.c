/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints as they behave: one FIFO queue before c workers; work that was begun is finished even
 * when nobody waits for it any more, which is what makes overload last. */
#include <math.h>
#include <stdlib.h>

#include "base/assert.h"
#include "sim/world.h"

static const uint64_t refused_us = 100; /* a closed port answers in 0.1 ms */
static const uint64_t fail_fast_us = 1000;

static uint32_t job_new(struct world *w);
static void job_free(struct world *w, uint32_t id);
static void job_start(struct world *w, uint32_t id);
static void measure(struct world *w, struct sim_server *s);
static double service_us(struct world *w, const struct sim_server *s);
static void die(struct world *w, uint32_t endpoint);
static void freeze(struct world *w, uint32_t endpoint, double seconds);

void server_submit(struct world *w, uint16_t endpoint, struct sim_request *r)
{
    struct sim_server *s = &w->servers[endpoint];
    if (s->is_dead) {
        world_schedule(w, w->now_us + refused_us, SIM_EV_CONNECT, r->id, r->mark);
        return;
    }
    uint32_t id = job_new(w);
    if (id == SIM_NONE)
        return;
    struct sim_job *job = &w->jobs[id];
    job->request = r->id;
    job->endpoint = endpoint;
    job->next = SIM_NONE;
    job->is_running = false;
    job->is_error = s->fail_share > 0 && rng_unit(&w->services) < s->fail_share;
    r->job = id;
    /* An endpoint that fails fast has always room: that is what makes it a sinkhole.  It takes no
     * worker. */
    if (job->is_error) {
        job->start_us = w->now_us;
        job->end_us = w->now_us + fail_fast_us;
        world_schedule(w, job->end_us, SIM_EV_COMPLETE, id, job->mark);
        return;
    }
    if (s->running < s->workers) {
        job_start(w, id);
        return;
    }
    s->waiting++;
    if (s->last == SIM_NONE)
        s->first = id;
    else
        w->jobs[s->last].next = id;
    s->last = id;
}

void server_complete(struct world *w, uint32_t id, uint32_t mark)
{
    struct sim_job *job = &w->jobs[id];
    if (job->mark != mark)
        return;
    struct sim_server *s = &w->servers[job->endpoint];
    if (job->is_running &&
        w->now_us < s->stall_until_us) { /* frozen: the rest is done afterwards */
        uint64_t rest_us = w->now_us - fb_max_u64(s->stall_from_us, job->start_us);
        job->end_us = s->stall_until_us + rest_us;
        job->start_us = s->stall_until_us;
        world_schedule(w, job->end_us, SIM_EV_COMPLETE, id, mark);
        return;
    }
    measure(w, s);
    bool is_error = job->is_error;
    uint32_t request = job->request;
    if (job->is_running) {
        uint64_t spent_us = job->end_us - job->start_us;
        w->work_us += spent_us;
        if (request == SIM_NONE)
            w->wasted_us += spent_us;
        s->running--;
    }
    job_free(w, id);
    while (s->running < s->workers && s->first != SIM_NONE) {
        uint32_t next = s->first;
        s->first = w->jobs[next].next;
        if (s->first == SIM_NONE)
            s->last = SIM_NONE;
        s->waiting--;
        job_start(w, next);
    }
    if (request == SIM_NONE)
        return;
    struct sim_request *r = w->requests[request];
    r->job = SIM_NONE;
    if (w->sc->is_reporting && s->is_in)
        gate_endpoint_load(
            w->gates[r->gateway], s->index[r->gateway],
            &(struct load_report){
                .utilisation = s->utilisation, .per_s = -1, .err_per_s = -1, .at_us = w->now_us});
    client_attempt_over(w, r, is_error ? GATE_FAILED : GATE_OK);
}

void server_change(struct world *w, const struct sim_change *change)
{
    if (change->kind == SIM_CLASS_LOAD) {
        w->class_factor[change->endpoint] = change->value;
        client_next_arrival(w);
        return;
    }
    for (uint32_t k = 0; k < fb_max_u32(1, change->count); k++) {
        uint32_t at = change->endpoint + k;
        fb_assert(at < w->server_count);
        struct sim_server *s = &w->servers[at];
        switch (change->kind) {
        case SIM_SLOW:
            s->slow = change->value;
            break;
        case SIM_WORKERS:
            s->workers = (uint32_t)change->value;
            break;
        case SIM_STALL:
            freeze(w, at, change->value);
            break;
        case SIM_FAIL_FAST:
            s->fail_share = change->value;
            break;
        case SIM_DEAD:
            if (change->value > 0)
                die(w, at);
            s->is_dead = change->value > 0;
            break;
        case SIM_JOIN:
            s->is_in = true;
            s->cold_until_us = w->now_us + (uint64_t)(change->value * 1e6);
            for (uint32_t g = 0; g < w->gateways; g++) {
                s->index[g] = gate_endpoint_add(w->gates[g], NULL, w->now_us);
                world_place(w, g, at);
                w->server_of[g][s->index[g]] = (uint16_t)at;
            }
            break;
        case SIM_LEAVE:
            s->is_in = false;
            for (uint32_t g = 0; g < w->gateways; g++)
                gate_endpoint_remove(w->gates[g], s->index[g], w->now_us);
            break;
        case SIM_CLASS_LOAD:
            break;
        }
    }
}

static void freeze(struct world *w, uint32_t endpoint, double seconds)
{
    struct sim_server *s = &w->servers[endpoint];
    s->stall_from_us = w->now_us;
    s->stall_until_us = w->now_us + (uint64_t)(seconds * 1e6);
}

/* Everything it worked on is cut at once. */
static void die(struct world *w, uint32_t endpoint)
{
    struct sim_server *s = &w->servers[endpoint];
    s->is_dead = true;
    s->running = s->waiting = 0;
    s->first = s->last = SIM_NONE;
    for (uint32_t id = 0; id < w->job_count; id++) {
        if (w->jobs[id].endpoint != endpoint)
            continue;
        uint32_t request = w->jobs[id].request;
        job_free(w, id);
        if (request == SIM_NONE)
            continue;
        w->requests[request]->job = SIM_NONE;
        client_attempt_over(w, w->requests[request], GATE_FAILED);
    }
}

/* Before the number of busy workers changes. */
static void measure(struct world *w, struct sim_server *s)
{
    double keep = exp(-(double)(w->now_us - s->utilisation_us) / 1e6);
    s->utilisation =
        keep * s->utilisation + (1 - keep) * s->running / (double)fb_max_u32(1, s->workers);
    s->utilisation_us = w->now_us;
}

static void job_start(struct world *w, uint32_t id)
{
    struct sim_job *job = &w->jobs[id];
    struct sim_server *s = &w->servers[job->endpoint];
    measure(w, s);
    s->running++;
    job->is_running = true;
    job->next = SIM_NONE;
    job->start_us = fb_max_u64(w->now_us, s->stall_until_us);
    uint64_t need_us = (uint64_t)service_us(w, s);
    /* Cold start: nothing is answered sooner than its length after it was begun. */
    if (w->now_us < s->cold_until_us)
        need_us = fb_max_u64(need_us, s->cold_until_us - w->now_us);
    job->end_us = job->start_us + fb_max_u64(1, need_us);
    world_schedule(w, job->end_us, SIM_EV_COMPLETE, id, job->mark);
}

static double service_us(struct world *w, const struct sim_server *s)
{
    const struct sim_scenario *sc = w->sc;
    double mean_us = sc->service_ms * w->o->stretch * 1e3 * s->slow;
    double excess = (double)s->waiting / fmax(1, s->workers);
    mean_us *= 1 + sc->alpha * excess;
    switch (sc->service) {
    case SIM_EXPONENTIAL:
        return rng_exp(&w->services, mean_us);
    case SIM_LOGNORMAL:
        return mean_us * exp(sc->sigma * rng_normal(&w->services) - sc->sigma * sc->sigma / 2);
    case SIM_CONSTANT:
        break;
    }
    return mean_us;
}

static uint32_t job_new(struct world *w)
{
    if (w->job_free != SIM_NONE) {
        uint32_t id = w->job_free;
        w->job_free = w->jobs[id].next;
        return id;
    }
    if (w->job_count == w->job_cap) {
        uint32_t cap = w->job_cap ? w->job_cap * 2 : 1024;
        struct sim_job *more = realloc(w->jobs, cap * sizeof(*more));
        if (!more) {
            w->is_out_of_memory = true;
            return SIM_NONE;
        }
        w->jobs = more;
        w->job_cap = cap;
    }
    w->jobs[w->job_count] = (struct sim_job){.request = SIM_NONE};
    return w->job_count++;
}

static void job_free(struct world *w, uint32_t id)
{
    struct sim_job *job = &w->jobs[id];
    job->mark++;
    job->request = SIM_NONE;
    job->is_running = false;
    job->endpoint = UINT16_MAX;
    job->next = w->job_free;
    w->job_free = id;
}
