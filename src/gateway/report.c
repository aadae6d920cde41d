/* SPDX-License-Identifier: Apache-2.0 */
/* report: what the gateway says to the stream: one event per request, gauges and verdicts per tick,
 * names.
 *
 * A full ring drops and counts; nothing here waits. */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/gateway_int.h"
#include "reflex/hash.h"

#define EVENTS_PER_TICK 64

static void report_sample(struct request *req);
static void report_access(struct request *req);
static uint16_t number_of_route(const struct request *req);
static uint16_t number_of_endpoint(const struct request *req);
static uint16_t still(const struct request *req, uint16_t number, uint32_t generation);

static inline uint8_t flags_of(const struct request *req)
{
    uint8_t attempts = req->ticket.attempts;
    uint8_t flags =
        (uint8_t)(attempts > 1 ? fb_min_u32(attempts - 1u, EV_REQUEST_ATTEMPTS_MASK) : 0);
    if (req->is_reused)
        flags |= EV_REQUEST_REUSED;
    if (req->is_aborted)
        flags |= EV_REQUEST_ABORTED;
    if (req->is_censored || (req->is_aborted && !req->first_byte_us))
        flags |= EV_REQUEST_CENSORED;
    if (req->is_stream)
        flags |= EV_REQUEST_STREAM;
    if (req->is_failed)
        flags |= EV_REQUEST_FAILED;
    return flags;
}

void report_request(struct request *req)
{
#ifdef FB_BENCH_NO_EVENTS /* what the event costs: doc/design/gateway.md has the command */
    (void)report_sample, (void)report_access;
    return;
#endif
    struct worker *w = req->worker;
    struct ev_request ev = EV_INIT(REQUEST, request, req->end_us);
    ev.head.origin = (uint8_t)w->index;
    ev.request_id = req->request_id;
    ev.route = number_of_route(req);
    ev.service = req->sv ? req->sv->number : EV_NONE;
    ev.endpoint = number_of_endpoint(req);
    ev.reason = req->reason ? req->reason : REASON_INTERNAL;
    ev.status = req->status;
    ev.class = req->ticket.class;
    ev.flags = flags_of(req);
    ev.queue_us = req->queue_us;
    ev.upstream_us = req->upstream_us;
    ev.service_us = req->service_us;
    ev.total_us = fb_sat_u32(fb_sub_floor_u64(req->end_us, req->start_us));
    ev.sent_bytes = fb_sat_u32(req->sent_bytes);
    ev.received_bytes = fb_sat_u32(req->received_bytes);
    ev.in_flight = req->in_flight;
    ev.subject = (uint16_t)hash_mix(
        req->ticket.key_hash,
        atomic_load_explicit(&req->worker->gw->mem->head->pseudonym, memory_order_relaxed));
    ev.protocol = req->protocol;
    ev.tls = req->tls;
    ev.tls_cipher = req->tls_cipher;
    ev.cache = req->cache;
    ev.hedge = req->hedge;
    if (req->hedge == EV_HEDGE_LOST || req->hedge == EV_HEDGE_WON) {
        ev.flags |= EV_REQUEST_HEDGED;
        ev.hedge_us = req->hedge_us;
        ev.hedge_endpoint = still(req, req->hedge_endpoint, req->hedge_generation);
    }
    ev.grpc_status = req->grpc_status;
    ev.wanted = req->ticket.wanted;
    ev.version = req->ep ? req->ep_version : EV_NONE;
    ev.traits = req->traits | req->ticket.traits;
    ev.plain_bytes = req->plain_bytes;
    ev.coded_bytes = req->coded_bytes;
    ev.limit_used_pct = req->limit_used_pct;
    if (req->is_mirror) {
        bool is_answered = req->first_byte_us && !req->is_failed;
        ev.route = EV_NONE;
        ev.reason = is_answered ? REASON_MIRRORED : REASON_MIRROR_FAILED;
    }
    ring_put(w->ring, &ev.head);
    if (req->texts) {
        report_sample(req);
        report_access(req);
    }
}

void report_refused(struct worker *w, uint16_t reason, uint16_t status, uint64_t start_us,
                    size_t received_bytes)
{
    uint64_t now_us = loop_now_us(w->loop);
    struct ev_request ev = EV_INIT(REQUEST, request, now_us);
    ev.head.origin = (uint8_t)w->index;
    ev.request_id = worker_request_id(w);
    ev.route = ev.service = ev.endpoint = ev.grpc_status = ev.version = EV_NONE;
    ev.reason = reason;
    ev.status = status;
    ev.class = EV_CLASS_DEFAULT;
    ev.total_us = fb_sat_u32(fb_sub_floor_u64(now_us, start_us));
    ev.received_bytes = fb_sat_u32(received_bytes);
    ring_put(w->ring, &ev.head);
    w->requests_total++;
}

void report_name(struct worker *w, const char *name, const struct naming *n)
{
    struct ev_name ev = EV_INIT(NAME, name, fb_mono_us());
    if (n->number == EV_NONE)
        return;
    ev.head.origin = (uint8_t)w->index;
    ev.number = n->number;
    ev.parent = n->parent;
    ev.version = n->kind == EV_KIND_ENDPOINT ? n->version : EV_NONE;
    ev.kind = (uint8_t)n->kind;
    ev.is_gone = n->is_gone;
    size_t len = strlen(name);
    memcpy(ev.name, name, len < sizeof ev.name ? len : sizeof ev.name);
    ring_put(w->ring, &ev.head);
}

/* Asked at each request; samples are spread over time by a bucket that holds at most a tenth of a
 * second. */
bool report_wants_texts(struct worker *w, bool *is_sampled)
{
    const struct conf_params *p = &w->gen->conf->p;
    if (w->sample_tokens > 0) {
        w->sample_tokens--;
        *is_sampled = true;
    }
    return *is_sampled || p->access_log_format != CONF_LOG_OFF;
}

/* 100 ms of sample tokens for this worker; the rate is shared evenly. */
void report_refill(struct worker *w)
{
    uint32_t rate = w->gen->conf->p.log_sample_rate, threads = w->gw->thread_count;
    w->sample_credit += rate; /* in tenths of a token times threads */
    w->sample_tokens = w->sample_credit / (10 * threads);
    uint32_t most = rate / (2 * threads) + 1;
    if (w->sample_tokens > most)
        w->sample_tokens = most;
    w->sample_credit -= w->sample_tokens * 10 * threads;
    if (w->sample_credit > 10 * threads)
        w->sample_credit = 10 * threads;
}

void service_say(struct service *sv, struct worker *w)
{
    static union ev_any events[EVENTS_PER_TICK]; /* thread 0 only */
    fb_assert(w->index == 0);
    spin_lock(&sv->lock);
    size_t event_count = gate_take_events(sv->gate, events, EVENTS_PER_TICK);
    spin_unlock(&sv->lock);
    for (size_t i = 0; i < event_count; i++) {
        union ev_any *ev = &events[i];
        uint16_t index = ev->head.type == EV_HEALTH ? ev->health.endpoint : ev->proposal.endpoint;
        struct endpoint *ep = index < GATE_ENDPOINTS_MAX ? sv->endpoints[index] : NULL;
        uint16_t number = ep ? ep->number : EV_NONE;
        ev->head.origin = (uint8_t)w->index;
        if (ev->head.type == EV_HEALTH) {
            ev->health.endpoint = number;
            ev->health.service = sv->number;
        } else {
            ev->proposal.endpoint = number;
            ev->proposal.service = sv->number;
        }
        ring_put(w->ring, &ev->head);
    }
}

static void report_place(struct memfile_gauge *g, const struct gate_endpoint_view *v)
{
    uint32_t place = MEMFILE_PLACE_KNOWN | (v->is_far ? MEMFILE_PLACE_FAR : 0) |
                     (v->is_out ? MEMFILE_PLACE_OUT : 0) | (v->is_spare ? MEMFILE_PLACE_SPARE : 0);
    uint32_t load = v->utilisation < 0
                        ? UINT32_MAX
                        : (uint32_t)fb_clamp(v->utilisation * 1000, 0, UINT32_MAX - 1.0);
    atomic_store_explicit(&g->weight_permille, (uint32_t)fb_clamp(v->weight * 1000, 0, 1e6),
                          memory_order_relaxed);
    atomic_store_explicit(&g->utilisation_permille, load, memory_order_relaxed);
    atomic_store_explicit(&g->place, place, memory_order_relaxed);
}

static void report_endpoint(struct worker *w, const struct endpoint *ep,
                            const struct gate_endpoint_view *v, uint64_t now_us)
{
    struct ev_gauge ev = EV_INIT(GAUGE, gauge, now_us);
    ev.head.origin = (uint8_t)w->index;
    ev.kind = EV_KIND_ENDPOINT;
    ev.health = (uint8_t)v->health;
    ev.number = ep->number;
    ev.service = ep->sv->number;
    ev.in_flight = v->in_flight;
    ev.limit = v->limit;
    ev.latency_us = (uint32_t)fb_clamp(v->latency_us, 0, UINT32_MAX);
    ev.error_ppm = (uint32_t)fb_clamp(v->error_ratio * 1e6, 0, 1e6);
    ev.weight_ppm = (uint32_t)fb_clamp(v->share * 1e6, 0, 1e6);
    for (uint32_t t = 0; t < w->gw->thread_count; t++)
        ev.connections += atomic_load_explicit(&ep->pools[t].open, memory_order_relaxed);
    ring_put(w->ring, &ev.head);
}

/* For who reads the memory file, and for a gateway that comes after this one. */
static void show_endpoint(const struct endpoint *ep, const struct gate_endpoint_view *v,
                          const struct gate_keep *keep, uint64_t now_us)
{
    struct memfile_keep *k = &ep->sv->gw->mem->keeps[ep->number];
    atomic_store_explicit(&ep->gauge->limit, v->limit, memory_order_relaxed);
    report_place(ep->gauge, v);
    atomic_store_explicit(&ep->gauge->health, (uint32_t)v->health, memory_order_relaxed);
    k->limit = keep->limit;
    k->base_us = keep->base_us;
    k->latency_us = keep->latency_us;
    k->error_ratio = keep->error_ratio;
    k->cv = keep->cv;
    k->health = (uint8_t)v->health;
    k->saved_us = now_us;
}

static void report_service(struct worker *w, const struct service *sv, const struct gate_view *view,
                           uint64_t now_us)
{
    struct ev_gauge ev = EV_INIT(GAUGE, gauge, now_us);
    ev.head.origin = (uint8_t)w->index;
    ev.kind = EV_KIND_SERVICE;
    ev.number = ev.service = sv->number;
    ev.shed_level = (uint16_t)view->shed_threshold;
    ev.in_flight = view->in_flight;
    ev.limit = view->limit_sum;
    ev.queued_critical = (uint16_t)fb_min_u32(view->queued[EV_CLASS_CRITICAL], UINT16_MAX);
    ev.queued_default = (uint16_t)fb_min_u32(view->queued[EV_CLASS_DEFAULT], UINT16_MAX);
    ev.queued_degraded = (uint16_t)fb_min_u32(view->queued[EV_CLASS_DEGRADED], UINT16_MAX);
    ev.queued_best_effort = (uint16_t)fb_min_u32(view->queued[EV_CLASS_BEST_EFFORT], UINT16_MAX);
    ring_put(w->ring, &ev.head);
}

void service_report(struct service *sv, struct worker *w, uint64_t now_us)
{
    struct gate_view view;
    struct gate_endpoint_view ep_views[GATE_ENDPOINTS_MAX];
    struct gate_keep keeps[GATE_ENDPOINTS_MAX];
    struct balance_answers answers[GATE_ENDPOINTS_MAX];
    uint16_t at[GATE_ENDPOINTS_MAX], count = 0;
    spin_lock(&sv->lock);
    gate_view(sv->gate, &view);
    for (uint16_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        if (!sv->endpoints[i] || !gate_endpoint_view(sv->gate, i, &ep_views[count]))
            continue;
        gate_endpoint_keep(sv->gate, i, &keeps[count]);
        answers[count] = gate_endpoint_answers(sv->gate, i);
        at[count++] = i;
    }
    spin_unlock(&sv->lock);

    for (uint16_t i = 0; i < count; i++) {
        const struct endpoint *ep = sv->endpoints[at[i]];
        report_endpoint(w, ep, &ep_views[i], now_us);
        if (!ep->gauge)
            continue;
        memfile_answers_add(&ep->gauge->answers, answers[i].count, (uint64_t)answers[i].sum_us);
        show_endpoint(ep, &ep_views[i], &keeps[i], now_us);
    }
    report_service(w, sv, &view, now_us);
}

static void report_sample(struct request *req)
{
    const struct request_texts *t = (const void *)req->texts->at;
    struct worker *w = req->worker;
    if (!t->is_sampled)
        return;
    struct ev_sample ev = EV_INIT(SAMPLE, sample, req->end_us);
    ev.head.origin = (uint8_t)w->index;
    ev.request_id = req->request_id;
    ev.route = number_of_route(req);
    ev.endpoint = number_of_endpoint(req);
    ev.status = req->status;
    ev.reason = req->reason;
    ev.total_us = fb_sat_u32(fb_sub_floor_u64(req->end_us, req->start_us));
    ev.class = req->ticket.class;
    memcpy(ev.method, t->method.at, fb_min_u64(t->method.len, sizeof ev.method));
    memcpy(ev.host, t->host.at, fb_min_u64(t->host.len, sizeof ev.host));
    memcpy(ev.path, t->path.at, fb_min_u64(t->path.len, sizeof ev.path));
    ring_put(w->ring, &ev.head);
}

static void report_access(struct request *req)
{
    const struct request_texts *t = (const void *)req->texts->at;
    struct worker *w = req->worker;
    const struct conf *conf = req->gen->conf;
    if (!w->access.log || conf->p.access_log_format == CONF_LOG_OFF)
        return;
    char id[17];
    for (int i = 15; i >= 0; i--)
        id[i] = "0123456789abcdef"[req->request_id >> (60 - 4 * i) & 15];
    uint64_t total_us = fb_sub_floor_u64(req->end_us, req->start_us);
    char cut[ACCESS_ADDRESS_BYTES];
    struct span peer = {req->peer_text, req->peer_text_bytes};
    struct access_entry e = {
        .wall_us = fb_wall_us() - total_us,
        .client = conf->p.privacy_raw_addresses ? peer : access_cut_address(peer, cut),
        .method = t->method,
        .target = t->target,
        .host = t->host,
        .referer = t->referer,
        .user_agent = t->user_agent,
        .request_id = {id, 16},
        .route = req->route == ROUTE_NONE ? "" : conf->routes[req->route].name,
        .service = req->sv ? req->sv->name : "",
        .endpoint = memfile_name(w->gw->mem, EV_KIND_ENDPOINT, number_of_endpoint(req)),
        .reason = ev_reason_row(req->reason)->name,
        .class = req->route == ROUTE_NONE ? "" : ev_class_name(req->ticket.class),
        .bytes = req->sent_bytes,
        .queue_us = req->queue_us,
        .upstream_us = req->upstream_us,
        .total_us = fb_sat_u32(total_us),
        .status = req->status,
        .attempts = req->ticket.attempts,
        .version_major = req->protocol == EV_PROTOCOL_HTTP2 ? 2 : 1,
        .version_minor = req->protocol == EV_PROTOCOL_HTTP2 ? 0 : req->version_minor,
        .is_cut = req->is_aborted};
    access_buf_put(&w->access, &e, req->end_us);
}

/* The endpoint left long ago and its number is closed: then the event says none. */
static uint16_t still(const struct request *req, uint16_t number, uint32_t generation)
{
    return number == EV_NONE || numbers_generation(req->worker->gw->mem, number) != generation
               ? EV_NONE
               : number;
}

static uint16_t number_of_endpoint(const struct request *req)
{
    return req->ep ? still(req, req->ep_number, req->ep_generation) : EV_NONE;
}

static uint16_t number_of_route(const struct request *req)
{
    return req->route == ROUTE_NONE ? EV_NONE : req->gen->route_numbers[req->route];
}
