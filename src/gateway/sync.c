/* SPDX-License-Identifier: Apache-2.0 */
/* sync: which endpoints a service has: addresses of the configuration and what discover.c found, as
 * one set.
 *
 * An endpoint that stays keeps all that was learned about it.  One that leaves gets no new
 * requests; its seat in the gate is free again when its last request has ended, its memory when its
 * last connection is closed. */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/discover.h"
#include "gateway/gateway_int.h"
#include "io/socket_path.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void place(struct endpoint *ep, const struct wish *wish);
static struct endpoint *find(struct service *sv, const struct sock_addr *addr);
static void add(struct service *sv, const struct sock_addr *addr, const struct wish *wish);
static void say_endpoint(struct endpoint *ep, bool is_gone);
static uint16_t version_number(struct service *sv, const char *version);
static void version_leave(struct service *sv, uint16_t version);
static void remove_endpoint(struct service *sv, struct endpoint *ep);
static void configure(struct service *sv, struct generation *gen);
static void build_gate_conf(const struct conf_service *c, const struct conf *conf,
                            struct gate_conf *out);

struct service *service_get(struct gw *gw, const struct conf_service *conf)
{
    for (struct service *sv = gw->services; sv; sv = sv->next)
        if (strcmp(sv->name, conf->name) == 0)
            return sv;
    struct service *sv = calloc(1, sizeof *sv);
    if (!sv)
        return NULL;
    snprintf(sv->name, sizeof sv->name, "%s", conf->name);
    sv->gw = gw;
    sv->number = memfile_number(gw->mem, EV_KIND_SERVICE, sv->name, EV_NONE);
    struct gate_conf gc;
    gate_conf_default(&gc, conf->latency_us);
    sv->gate = gate_new(&gc, rng_u64(&gw->workers[0].rng));
    if (!sv->gate) {
        free(sv);
        return NULL;
    }
    sv->next = gw->services;
    atomic_store_explicit(&gw->services, sv,
                          memory_order_release); /* other threads walk the list */
    report_name(&gw->workers[0], sv->name,
                &(struct naming){.kind = EV_KIND_SERVICE, .number = sv->number, .parent = EV_NONE});
    return sv;
}

void service_sync(struct service *sv, struct generation *gen)
{
    sv->conf = &gen->conf->services[0];
    for (size_t i = 0; i < gen->conf->service_count; i++)
        if (gen->services[i] == sv)
            sv->conf = &gen->conf->services[i];
    sv->seen = gen->number;
    configure(sv, gen);
    sticky_sync(sv);
    discover_sync(sv);
    service_resync(sv);
}

void service_retire(struct gw *gw, uint32_t generation)
{
    for (struct service *sv = gw->services; sv; sv = sv->next) {
        if (sv->seen == generation)
            continue;
        sv->conf = NULL;
        discover_sync(sv);
        service_resync(sv);
    }
}

void service_reset(struct gw *gw, uint16_t number)
{
    for (struct service *sv = gw->services; sv; sv = sv->next)
        for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
            struct endpoint *ep = sv->endpoints[i];
            if (!ep || ep->number != number ||
                atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
                continue;
            gw->mem->keeps[number].saved_us = 0;
            remove_endpoint(sv, ep);
            service_resync(sv);
            service_ask(sv);
            return;
        }
}

/* Each second: numbers that nobody holds are closed, and endpoints for which there was none begin
 * anew with one. */
void sync_tick(struct gw *gw, uint64_t now_us)
{
    if (now_us < gw->numbers_us + US_PER_S)
        return;
    gw->numbers_us = now_us;
    numbers_tick(gw->mem, fb_mono_us());
    uint32_t room = numbers_room(gw->mem, fb_mono_us());
    for (struct service *sv = gw->services; sv && room; sv = sv->next) {
        bool is_changed = false;
        for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX && room; i++) {
            struct endpoint *ep = sv->endpoints[i];
            if (!ep || ep->number != EV_NONE ||
                atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
                continue;
            room--;
            remove_endpoint(sv, ep);
            is_changed = true;
        }
        if (is_changed) {
            service_resync(sv);
            service_ask(sv);
        }
    }
}

void service_fini_all(struct gw *gw)
{
    discover_fini(gw);
    while (gw->services) {
        struct service *sv = gw->services;
        gw->services = sv->next;
        for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++)
            if (sv->endpoints[i])
                endpoint_unref(sv->endpoints[i]);
        gate_free(sv->gate);
        free(sv);
    }
}

static void endpoint_free(struct endpoint *ep)
{
    struct gw *gw = ep->sv->gw;
    if (ep->number != EV_NONE)
        numbers_let_go(gw->mem, ep->number, gw->setup->slot);
    free(ep);
}

void endpoint_unref(struct endpoint *ep)
{
    if (atomic_fetch_sub_explicit(&ep->refs, 1, memory_order_acq_rel) == 1)
        endpoint_free(ep);
}

/* Seats that the gate has given up: their endpoints go when nobody holds them. */
void service_sweep(struct service *sv)
{
    struct endpoint *over[GATE_ENDPOINTS_MAX];
    uint32_t count = 0;
    struct gate_endpoint_view view;
    spin_lock(&sv->lock);
    for (uint16_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        struct endpoint *ep = sv->endpoints[i];
        if (!ep || !atomic_load_explicit(&ep->is_gone, memory_order_relaxed) ||
            gate_endpoint_view(sv->gate, i, &view))
            continue;
        over[count++] = ep;
        sv->endpoints[i] = NULL;
    }
    spin_unlock(&sv->lock);
    for (uint32_t i = 0; i < count; i++)
        endpoint_unref(over[i]);
}

/* Makes the set of endpoints what configuration, names and lists say. */
void service_resync(struct service *sv)
{
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++)
        if (sv->endpoints[i])
            sv->endpoints[i]->seen = 0;
    for (size_t i = 0; sv->conf && i < sv->conf->endpoint_count; i++) {
        struct sock_addr addr;
        struct wish wish;
        const struct conf_endpoint *e = &sv->conf->endpoints[i];
        wish_of(e, NULL, &wish);
        if (service_address(sv, e, &addr))
            service_want(sv, &addr, &wish);
    }
    bool is_pending = discover_walk(sv);
    bool has_any = false;
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++)
        has_any |= sv->endpoints[i] && sv->endpoints[i]->seen;
    if (sv->conf && !has_any && is_pending)
        return; /* the new ones are being looked up: better the old ones than none */
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        struct endpoint *ep = sv->endpoints[i];
        if (ep && !ep->seen && !atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
            remove_endpoint(sv, ep);
    }
}

void service_want(struct service *sv, const struct sock_addr *addr, const struct wish *wish)
{
    struct endpoint *ep = find(sv, addr);
    if (!ep) {
        add(sv, addr, wish);
        return;
    }
    if (ep->seen) /* named twice: the first place holds */
        return;
    ep->seen = 1;
    ep->weight_pct = wish->weight_pct;
    spin_lock(&sv->lock);
    place(ep, wish);
    spin_unlock(&sv->lock);
    uint16_t was = ep->version, version = version_number(sv, wish->version);
    if (version == was)
        return;
    ep->version = version; /* what was learned about the address stays */
    split_note(ep);
    say_endpoint(ep, false);
    version_leave(sv, was);
}

bool service_address(const struct service *sv, const struct conf_endpoint *e, struct sock_addr *out)
{
    char name[MEMFILE_NAME_BYTES];
    if (e->kind != CONF_ENDPOINT_ADDRESS)
        return false;
    if (!conf_endpoint_is_unix(e))
        return sock_parse_host(span_of(e->host), e->port, out);
    if (!memfile_endpoint_name(sv->name, e->host, name))
        fb_log(FB_LOG_ERROR,
               "service %s: endpoint %s is left out: with the name of its service it has %d bytes "
               "at most; a link to it with a shorter path does",
               sv->name, e->host, MEMFILE_NAME_BYTES - 1);
    else if (sock_parse_endpoint(span_of(e->host), 0, out))
        return true;
    else
        fb_log(FB_LOG_ERROR,
               "service %s: endpoint %s is left out: %d paths of sockets were in use since the "
               "start, which is the most; `foldback upgrade` begins anew",
               sv->name, e->host, SOCKET_PATHS_MAX);
    return false;
}

bool service_has(struct service *sv, const struct sock_addr *addr)
{
    return find(sv, addr) != NULL;
}

/* Those that are asked how they are: probes, agents. */
void service_ask(struct service *sv)
{
    probe_sync(sv, &sv->gw->workers[0]);
    agent_sync(sv, &sv->gw->workers[0]);
}

/* Under the lock: where it stands among its peers. */
static void place(struct endpoint *ep, const struct wish *wish)
{
    struct gw *gw = ep->sv->gw;
    const char *own = gw->gen->conf->p.top_zone;
    uint64_t pin = sticky_pin(ep);
    atomic_store_explicit(&ep->pin, pin, memory_order_relaxed);
    gate_endpoint_place(
        ep->sv->gate, ep->index,
        &(struct gate_place){.identity = place_identity(ep),
                             .pin = pin,
                             .cap = wish->in_flight_max,
                             .tier = wish->tier,
                             .is_far = own[0] && wish->zone[0] && strcmp(own, wish->zone) != 0});
    if (ep->number == EV_NONE)
        return;
    struct memfile_name *row = &gw->mem->endpoints[ep->number];
    snprintf(row->zone, sizeof row->zone, "%s", wish->zone);
    atomic_store_explicit(&row->origin, wish->origin, memory_order_relaxed);
    atomic_store_explicit(&row->source, wish->source, memory_order_relaxed);
}

static struct endpoint *find(struct service *sv, const struct sock_addr *addr)
{
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        struct endpoint *ep = sv->endpoints[i];
        if (ep && !atomic_load_explicit(&ep->is_gone, memory_order_relaxed) &&
            sock_eq(&ep->addr, addr))
            return ep;
    }
    return NULL;
}

/* NULL without memory. */
static struct endpoint *endpoint_new(struct service *sv, const struct sock_addr *addr,
                                     const struct wish *wish)
{
    size_t bytes = sizeof(struct endpoint) + sv->gw->thread_count * sizeof(struct pool);
    bytes = (bytes + FB_CACHE_LINE_BYTES - 1) & ~(size_t)(FB_CACHE_LINE_BYTES - 1);
    struct endpoint *ep = aligned_alloc(FB_CACHE_LINE_BYTES, bytes);
    if (!ep)
        return NULL;
    memset(ep, 0, bytes);
    ep->addr = *addr;
    ep->version = EV_NONE; /* until its version's name is out */
    ep->sv = sv;
    ep->is_dns = wish->is_dns;
    snprintf(ep->host, sizeof ep->host, "%s", wish->host);
    ep->seen = 1;
    ep->refs = 1;
    ep->weight_pct = wish->weight_pct;
    sock_format(addr, ep->text);
    return ep;
}

/* True: a gateway before us learned *keep about it. */
static bool take_number(struct endpoint *ep, struct gate_keep *keep)
{
    struct gw *gw = ep->sv->gw;
    char name[MEMFILE_NAME_BYTES];
    memfile_endpoint_name(ep->sv->name, ep->text, name);
    ep->number = numbers_take(gw->mem, name, ep->sv->number, fb_mono_us());
    if (ep->number == EV_NONE)
        return false;
    numbers_hold(gw->mem, ep->number, gw->setup->slot);
    ep->generation = numbers_generation(gw->mem, ep->number);
    const struct memfile_keep *k = &gw->mem->keeps[ep->number];
    ep->gauge = &gw->mem->gauges[ep->number];
    ep->in_flight = &ep->gauge->in_flight[gw->setup->slot];
    ep->heard = atomic_load_explicit(&ep->gauge->others_answers, memory_order_relaxed);
    *keep = (struct gate_keep){k->limit, k->base_us, k->cv, k->latency_us, k->error_ratio};
    return k->saved_us != 0;
}

static void add(struct service *sv, const struct sock_addr *addr, const struct wish *wish)
{
    struct gw *gw = sv->gw;
    struct endpoint *ep = endpoint_new(sv, addr, wish);
    if (!ep) {
        fb_log(FB_LOG_ERROR, "service %s: no memory for one more endpoint", sv->name);
        return;
    }
    struct gate_keep keep;
    bool is_known = take_number(ep, &keep);
    service_say(sv,
                &gw->workers[0]); /* what the last owner of its seat has to say is not its own */
    spin_lock(&sv->lock);
    uint64_t now_us = fb_max_u64(loop_refresh_us(gw->workers[0].loop), sv->last_us);
    sv->last_us = now_us;
    ep->index = gate_endpoint_add(sv->gate, is_known ? &keep : NULL, now_us);
    bool is_full = ep->index == EV_NONE;
    if (!is_full) {
        place(ep, wish);
        gate_endpoint_weight(sv->gate, ep->index, wish->weight_pct);
        if (sv->endpoints[ep->index]) /* a free seat whose last owner was not swept yet */
            endpoint_unref(sv->endpoints[ep->index]);
        sv->endpoints[ep->index] = ep;
    }
    spin_unlock(&sv->lock);
    if (is_full) {
        fb_log(FB_LOG_ERROR,
               "service %s: endpoint %s is left out: at most %d endpoints per service", sv->name,
               ep->text, GATE_ENDPOINTS_MAX);
        endpoint_free(ep);
        return;
    }
    ep->version = version_number(sv, wish->version);
    split_note(ep);
    say_endpoint(ep, false);
}

static void remove_endpoint(struct service *sv, struct endpoint *ep)
{
    struct gw *gw = sv->gw;
    probe_stop(ep);
    agent_stop(ep);
    spin_lock(&sv->lock);
    uint64_t now_us = fb_max_u64(loop_refresh_us(gw->workers[0].loop), sv->last_us);
    sv->last_us = now_us;
    gate_endpoint_remove(sv->gate, ep->index, now_us);
    atomic_store_explicit(&ep->is_gone, true, memory_order_relaxed);
    spin_unlock(&sv->lock);
    atomic_fetch_add_explicit(&gw->gone_count, 1, memory_order_release);
    say_endpoint(ep, true);
    version_leave(sv, ep->version);
}

static void say_endpoint(struct endpoint *ep, bool is_gone)
{
    struct gw *gw = ep->sv->gw;
    char name[MEMFILE_NAME_BYTES];
    memfile_endpoint_name(ep->sv->name, ep->text, name);
    if (ep->number != EV_NONE) {
        gw->mem->endpoints[ep->number].version = is_gone ? EV_NONE : ep->version;
        if (is_gone)
            numbers_leave(gw->mem, ep->number, fb_mono_us());
        else
            numbers_stay(gw->mem, ep->number);
    }
    report_name(&gw->workers[0], name,
                &(struct naming){.kind = EV_KIND_ENDPOINT,
                                 .number = ep->number,
                                 .parent = ep->sv->number,
                                 .version = ep->version,
                                 .is_gone = is_gone});
}

static void version_name(const struct service *sv, const char *version, char name[104])
{
    snprintf(name, 104, "%.60s %.32s", sv->name, version[0] ? version : "stable");
}

static bool version_has_endpoints(const struct service *sv, uint16_t version)
{
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        const struct endpoint *ep = sv->endpoints[i];
        if (ep && ep->version == version &&
            !atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
            return true;
    }
    return false;
}

/* The number of a version; its name is told before the first endpoint that has it. */
static uint16_t version_number(struct service *sv, const char *version)
{
    struct gw *gw = sv->gw;
    char name[104];
    version_name(sv, version, name);
    uint16_t number = memfile_number(gw->mem, EV_KIND_VERSION, name, sv->number);
    if (number != EV_NONE && !version_has_endpoints(sv, number))
        report_name(
            &gw->workers[0], name,
            &(struct naming){.kind = EV_KIND_VERSION, .number = number, .parent = sv->number});
    return number;
}

/* An endpoint of this version left, or has another one now. */
static void version_leave(struct service *sv, uint16_t version)
{
    struct gw *gw = sv->gw;
    if (version == EV_NONE || version_has_endpoints(sv, version))
        return;
    report_name(
        &gw->workers[0], memfile_name(gw->mem, EV_KIND_VERSION, version),
        &(struct naming){
            .kind = EV_KIND_VERSION, .number = version, .parent = sv->number, .is_gone = true});
}

static void configure(struct service *sv, struct generation *gen)
{
    struct gate_conf gc;
    build_gate_conf(sv->conf, gen->conf, &gc);
    spin_lock(&sv->lock);
    gate_reconfigure(sv->gate, &gc);
    spin_unlock(&sv->lock);
}

static void build_gate_conf(const struct conf_service *c, const struct conf *conf,
                            struct gate_conf *out)
{
    static const enum gate_balance balances[] = {
        [CONF_BALANCE_ADAPTIVE] = GATE_BALANCE_ADAPTIVE,
        [CONF_BALANCE_ROUND_ROBIN] = GATE_BALANCE_ROUND_ROBIN,
        [CONF_BALANCE_LEAST_REQUEST] = GATE_BALANCE_LEAST_REQUEST,
        [CONF_BALANCE_WEIGHTED] = GATE_BALANCE_WEIGHTED,
        [CONF_BALANCE_RANDOM_TWO] = GATE_BALANCE_RANDOM_TWO,
        [CONF_BALANCE_HASH] = GATE_BALANCE_HASH};
    gate_conf_default(out, c->latency_us);
    out->balance = balances[c->balance];
    if (c->queue_capacity)
        out->queue_capacity = c->queue_capacity;
    if (c->queue_wait_max_ms)
        out->queue_wait_max_us = c->queue_wait_max_ms * US_PER_MS;
    if (c->is_queue_off)
        out->queue_wait_max_us = 0; /* what finds no room is refused at once */
    out->is_ejecting = c->is_ejecting;
    out->success_floor = c->success_floor_pct / 100;
    out->retry_pct = conf->p.upstream_retry_pct;
    out->hedge_pct = (double)conf->p.upstream_hedge_pct;
    out->retries_max = conf->p.upstream_retries;
    const struct conf_tune *limit = &c->tune[KNOB_LIMIT];
    if (limit->min > 0)
        out->limit_min = (uint32_t)limit->min;
    if (limit->max > 0)
        out->limit_max = (uint32_t)limit->max;
    if (!c->is_tcp)
        return;
    /* Connections last as long as they like: their length says nothing about the endpoint, so that
     * there is nothing to learn a limit or a latency from, and no completion is no stall. */
    out->is_limit_learned = false;
    out->limit_fixed = limit->value > 0 ? (uint32_t)limit->value : (uint32_t)fmax(limit->max, 0);
    out->is_long = true;
    if (c->balance == CONF_BALANCE_ADAPTIVE)
        out->balance = GATE_BALANCE_LEAST_REQUEST;
}
