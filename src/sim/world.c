/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world.h"

#include <math.h>
#include <stdlib.h>

#include "base/assert.h"

/* As the gateway ticks while anything is in flight; without the 100 ms of idleness, which changes
 * no figure. */
static const uint64_t tick_us = 5 * US_PER_MS;
static const uint64_t brain_us = 100 * US_PER_MS;

static enum fb_code world_init(struct world *w, uint64_t seed, struct fb_err *err);
static void set_times(struct world *w);
static void set_classes(struct world *w);
static void add_servers(struct world *w);
static bool add_gates(struct world *w, uint64_t seed);
static void world_fini(struct world *w);
static void world_play(struct world *w, const struct sim_event *ev);
static void world_exchange(struct world *w);
static void world_tick(struct world *w, uint32_t gateway);
static bool heap_pop(struct world *w, struct sim_event *out);
static void gate_conf_of(struct world *w);
static void note_limits(struct world *w);

enum fb_code sim_run(const struct sim_scenario *scenario, uint64_t seed,
                     const struct sim_overrides *o, struct sim_result *result, struct fb_err *err)
{
    struct world *w = calloc(1, sizeof(*w));
    if (!w)
        return fb_fail(err, FB_E_NOMEM, "simulate: no memory for the model; use fewer endpoints");
    *result = (struct sim_result){0};
    w->sc = scenario;
    w->o = o;
    w->result = result;
    enum fb_code code = world_init(w, seed, err);
    struct sim_event ev;
    while (code == FB_OK && heap_pop(w, &ev) && ev.at_us < w->end_us) {
        fb_assert(ev.at_us >= w->now_us);
        w->now_us = ev.at_us;
        result->events++;
        world_play(w, &ev);
        if (w->is_out_of_memory)
            code = fb_fail(
                err, FB_E_NOMEM,
                "simulate: out of memory at second %llu; use a lower load or a shorter time",
                (unsigned long long)(w->now_us / US_PER_S));
    }
    if (code == FB_OK)
        result_finish(w);
    world_fini(w);
    free(w);
    return code;
}

static enum fb_code world_init(struct world *w, uint64_t seed, struct fb_err *err)
{
    const struct sim_scenario *sc = w->sc;
    /* Three streams: what a gate decides must not change who arrives when. */
    rng_init(&w->arrivals, seed * 3 + 1);
    rng_init(&w->services, seed * 3 + 2);
    rng_init(&w->clients, seed * 3 + 3);
    w->key_seed = seed * UINT64_C(0xd1342543de82ef95);
    w->job_free = SIM_NONE;
    w->gateways = w->o->gateways > 0 ? (uint32_t)w->o->gateways : fb_max_u32(1, sc->gateways);
    if (w->gateways > SIM_GATEWAYS_MAX)
        return fb_fail(err, FB_E_RANGE, "simulate: gateways must be 1..%d", SIM_GATEWAYS_MAX);
    set_times(w);
    set_classes(w);
    add_servers(w);
    gate_conf_of(w);
    w->timeout_ms = w->o->timeout_ms >= 0 ? w->o->timeout_ms : sc->timeout_ms;
    w->result->timeout_ms = w->timeout_ms;
    if (!add_gates(w, seed))
        return fb_fail(err, FB_E_NOMEM, "simulate: no memory for a gate; use fewer gateways");
    for (uint32_t i = 0; i < SIM_CHANGES_MAX && sc->changes[i].at_s > 0; i++)
        world_schedule(w, (uint64_t)(sc->changes[i].at_s * w->o->time_factor * 1e6), SIM_EV_CHANGE,
                       i, 0);
    if (w->o->is_looping >= 0 ? w->o->is_looping > 0 : sc->is_looping) {
        if (!brain_init(w))
            return fb_fail(err, FB_E_NOMEM, "simulate: no memory for the loops; use loops=off");
        world_schedule(w, brain_us, SIM_EV_BRAIN, 0, 0);
    }
    if (w->o->exchange_ms > 0 && w->gateways > 1)
        world_schedule(w, (uint64_t)w->o->exchange_ms * US_PER_MS, SIM_EV_EXCHANGE, 0, 0);
    if (sc->clients > 0)
        client_start_loop(w);
    else
        client_next_arrival(w);
    return FB_OK;
}

static void set_times(struct world *w)
{
    double end_s = 0;
    for (uint32_t i = 0; i < SIM_PHASES_MAX && w->sc->phases[i].until_s > 0; i++)
        end_s = w->sc->phases[i].until_s;
    if (w->o->trace_rows > 0) {
        end_s = 0;
        for (uint32_t i = 0; i < w->o->trace_rows; i++)
            end_s += w->o->trace[i].seconds;
    }
    end_s *= w->o->time_factor;
    w->end_us = (uint64_t)(end_s * 1e6);
    bool is_trace = w->o->trace_rows > 0;
    w->measure_us = is_trace ? 0 : (uint64_t)(w->sc->measure_s * w->o->time_factor * 1e6);
    w->result->seconds = fb_min_u32((uint32_t)ceil(end_s), SIM_SECONDS_MAX);
}

/* Shares need not add up to 1; a scenario without any is all default. */
static void set_classes(struct world *w)
{
    double shares = 0;
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        shares += w->sc->class_share[i];
        w->class_factor[i] = 1;
    }
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++)
        w->class_share[i] = shares > 0 ? w->sc->class_share[i] / shares : i == EV_CLASS_DEFAULT;
}

/* The nominal capacity counts those that join later too: load is a share of the whole. */
static void add_servers(struct world *w)
{
    const struct sim_scenario *sc = w->sc;
    for (uint32_t g = 0; g < SIM_GROUPS_MAX; g++)
        for (uint32_t i = 0; i < sc->groups[g].count; i++) {
            fb_assert(w->server_count < SIM_ENDPOINTS_MAX);
            struct sim_server *s = &w->servers[w->server_count++];
            s->workers = sc->groups[g].workers;
            s->zone = sc->groups[g].zone;
            s->tier = sc->groups[g].tier;
            s->slow = sc->groups[g].slow > 0 ? sc->groups[g].slow : 1;
            s->first = s->last = SIM_NONE;
            s->is_in = true;
            w->capacity_per_us += s->workers / (sc->service_ms * w->o->stretch * 1e3 * s->slow);
        }
    for (uint32_t i = 0; i < sc->joins_later; i++)
        w->servers[w->server_count - 1 - i].is_in = false;
}

static bool add_gates(struct world *w, uint64_t seed)
{
    for (uint32_t g = 0; g < w->gateways; g++) {
        w->gates[g] = gate_new(&w->conf, seed * 131 + g);
        if (!w->gates[g])
            return false;
        for (uint32_t i = 0; i < w->server_count; i++) {
            if (!w->servers[i].is_in)
                continue;
            w->servers[i].index[g] = gate_endpoint_add(w->gates[g], NULL, 0);
            world_place(w, g, i);
            w->server_of[g][w->servers[i].index[g]] = (uint16_t)i;
        }
        world_schedule(w, tick_us, SIM_EV_TICK, g, 0);
    }
    return true;
}

void world_place(struct world *w, uint32_t g, uint32_t i)
{
    gate_endpoint_place(w->gates[g], w->servers[i].index[g],
                        &(struct gate_place){.identity = SIM_USER(i + 1),
                                             .tier = (uint8_t)w->servers[i].tier,
                                             .is_far = world_is_far(w, g, i)});
}

/* The product's defaults, then the scenario's wishes, then the caller's. */
static void gate_conf_of(struct world *w)
{
    const struct sim_scenario *sc = w->sc;
    const struct sim_overrides *o = w->o;
    gate_conf_default(&w->conf, (uint64_t)(sc->objective_ms * 1e3));
    struct gate_conf *c = &w->conf;
    c->balance = o->balance >= 0 ? (enum gate_balance)o->balance : sc->balance;
    c->is_limit_learned = o->is_learned >= 0 ? o->is_learned > 0 : !sc->is_limit_off;
    c->limit_fixed = o->limit_fixed >= 0 ? (uint32_t)o->limit_fixed : sc->limit_fixed;
    c->is_ejecting = o->is_ejecting >= 0 ? o->is_ejecting > 0 : !sc->is_eject_off;
    c->is_codel = o->is_codel != 0;
    if (o->queue_wait_ms >= 0)
        c->queue_wait_max_us = (uint64_t)o->queue_wait_ms * US_PER_MS;
    if (o->queue_capacity >= 0)
        c->queue_capacity = (uint32_t)o->queue_capacity;
    if (o->retry_pct >= 0 || sc->retry_pct != 0)
        c->retry_pct = fmax(0, o->retry_pct >= 0 ? o->retry_pct : sc->retry_pct);
    if (sc->retries_max > 0)
        c->retries_max = sc->retries_max;
}

static void world_fini(struct world *w)
{
    for (uint32_t g = 0; g < SIM_GATEWAYS_MAX; g++)
        gate_free(w->gates[g]);
    for (uint32_t i = 0; i < w->request_count; i++)
        free(w->requests[i]);
    free(w->requests);
    free(w->free_requests);
    free(w->jobs);
    free(w->heap);
    brain_fini(w);
}

static void world_play(struct world *w, const struct sim_event *ev)
{
    switch (ev->kind) {
    case SIM_EV_ARRIVE:
        if (ev->mark == w->arrival_mark)
            client_arrive(w);
        break;
    case SIM_EV_COMPLETE:
        server_complete(w, ev->id, ev->mark);
        break;
    case SIM_EV_TICK:
        world_tick(w, ev->id);
        break;
    case SIM_EV_BRAIN:
        brain_tick(w);
        world_schedule(w, w->now_us + brain_us, SIM_EV_BRAIN, 0, 0);
        break;
    case SIM_EV_EXCHANGE:
        world_exchange(w);
        break;
    case SIM_EV_CHANGE:
        server_change(w, &w->sc->changes[ev->id]);
        break;
    case SIM_EV_CONNECT:
    case SIM_EV_TIMEOUT:
    case SIM_EV_PATIENCE:
    case SIM_EV_BACKOFF:
    case SIM_EV_AGAIN:
        client_event(w, ev);
        break;
    }
}

static void add_told(struct balance_told *sum, const struct balance_told *t, int sign)
{
    sum->in_flight += sign * t->in_flight;
    sum->answers.count += sign > 0 ? t->answers.count : -t->answers.count;
    sum->answers.sum_us += sign * t->answers.sum_us;
}

/* Each hears the sum of what the others told one interval ago: as late as a broker makes it. */
static void world_exchange(struct world *w)
{
    for (uint32_t i = 0; i < w->server_count; i++) {
        struct balance_told sum = {0};
        for (uint32_t g = 0; g < w->gateways; g++)
            add_told(&sum, &w->told[g][i], 1);
        for (uint32_t g = 0; g < w->gateways && w->servers[i].is_in; g++) {
            struct gate_endpoint_view view;
            uint16_t at = w->servers[i].index[g];
            struct balance_told others = sum, *own = &w->told[g][i];
            add_told(&others, own, -1);
            gate_endpoint_others(w->gates[g], at, &others, w->now_us);
            own->in_flight = gate_endpoint_view(w->gates[g], at, &view) ? view.in_flight : 0;
            own->answers = gate_endpoint_answers(w->gates[g], at);
        }
    }
    world_schedule(w, w->now_us + (uint64_t)w->o->exchange_ms * US_PER_MS, SIM_EV_EXCHANGE, 0, 0);
}

static void world_tick(struct world *w, uint32_t gateway)
{
    struct gate *g = w->gates[gateway];
    gate_tick(g, w->now_us);
    client_pump(w, gateway);
    if (gateway == 0)
        note_limits(w);
    union ev_any events[16];
    size_t n;
    while ((n = gate_take_events(g, events, FB_COUNT(events))) > 0)
        for (size_t i = 0; i < n; i++) {
            brain_event(w, gateway, &events[i]);
            if (events[i].head.type != EV_HEALTH)
                continue;
            w->result->ejections += events[i].health.to == EV_HEALTH_EJECTED &&
                                    events[i].health.from != EV_HEALTH_EJECTED;
            w->result->panics += events[i].health.reason == REASON_HEALTH_PANIC;
        }
    world_schedule(w, w->now_us + tick_us, SIM_EV_TICK, gateway, 0);
}

static void note_limits(struct world *w)
{
    uint64_t second = w->now_us / US_PER_S;
    if (second >= SIM_SECONDS_MAX)
        return;
    for (uint32_t i = 0; i < 4 && i < w->server_count; i++) {
        struct gate_endpoint_view view;
        if (!w->servers[i].is_in || !gate_endpoint_view(w->gates[0], w->servers[i].index[0], &view))
            continue;
        w->result->by_second[second].limit[i] = (uint16_t)fb_min_u32(view.limit, UINT16_MAX);
        w->result->by_second[second].in_flight[i] =
            (uint16_t)fb_min_u32(view.in_flight, UINT16_MAX);
    }
}

/* ---- heap: earliest first, then in the order of scheduling ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void world_schedule(struct world *w, uint64_t at_us, enum sim_event_kind kind, uint32_t id,
                    uint32_t mark)
{
    if (w->heap_len == w->heap_cap) {
        size_t cap = w->heap_cap ? w->heap_cap * 2 : 4096;
        struct sim_event *more = realloc(w->heap, cap * sizeof(*more));
        if (!more) {
            w->is_out_of_memory = true;
            return;
        }
        w->heap = more;
        w->heap_cap = cap;
    }
    struct sim_event ev = {
        .at_us = at_us, .order = w->order++, .id = id, .mark = mark, .kind = kind};
    size_t i = w->heap_len++;
    while (i > 0 && is_before(&ev, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = ev;
}

static bool heap_pop(struct world *w, struct sim_event *out)
{
    if (w->heap_len == 0)
        return false;
    *out = w->heap[0];
    struct sim_event last = w->heap[--w->heap_len];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_len)
            break;
        if (child + 1 < w->heap_len && is_before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!is_before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->heap_len > 0)
        w->heap[i] = last;
    return true;
}
