/* SPDX-License-Identifier: Apache-2.0 */
/* Counting.  Writing is in metrics_families.c. */
#include "output/metrics_int.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

static void feed_request(struct metrics *m, const struct ev_request *r);
static void feed_resource(struct metrics *m, const struct ev_resource *r);
static void feed_gauge(struct metrics *m, const struct ev_gauge *g);
static void feed_check(struct metric_endpoint *e, const struct ev_health *h);
static void feed_cache(struct metrics *m, const struct ev_cache_use *u);

/* The buckets that OpenTelemetry advises for http.server.request.duration, without 0. */
static const uint32_t bounds_us[METRIC_BUCKETS] = {
    5000, 10000, 25000, 50000, 75000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

static const struct metric_row rows[] = {
#define METRIC(kind_, id, name_, labels_, most, help_)                                             \
    {.name = name_, .labels = labels_, .most_series = most, .help = help_, .kind = METRIC_##kind_},
#include "output/metrics.def"
#undef METRIC
};

const struct metric_row *metric_row(unsigned id)
{
    fb_assert(id < FB_COUNT(rows));
    return &rows[id];
}

struct metrics *metrics_new(uint64_t start_wall_us)
{
    struct metrics *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->start_wall_us = start_wall_us;
    m->exemplar = calloc(METRIC_SLOTS, sizeof *m->exemplar);
    if (!m->exemplar) {
        free(m);
        return NULL;
    }
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    free(m->exemplar);
    free(m);
}

static size_t slot_of(uint16_t number)
{
    return number < KNOB_TARGETS_MAX ? number : KNOB_TARGETS_MAX;
}

void metrics_feed(struct metrics *m, const struct ev_head *ev)
{
    if (ev->type < EV_TYPE_END)
        m->events[ev->type]++;
    switch (ev->type) {
    case EV_REQUEST:
        feed_request(m, (const struct ev_request *)ev);
        break;
    case EV_TICK: {
        const struct ev_tick *t = (const struct ev_tick *)ev;
        m->ticks++;
        m->tick_cpu_us += t->loop_us;
        m->tick_lag_us = t->lag_us;
        m->wall_minus_mono_us = t->wall_us - ev->time_us;
        m->now_us = ev->time_us;
        break;
    }
    case EV_HEALTH: {
        const struct ev_health *h = (const struct ev_health *)ev;
        struct metric_endpoint *e = &m->endpoint[slot_of(h->endpoint)];
        if (h->from != h->to)
            e->health_reason = h->reason;
        else if (h->reason == REASON_HEALTH_PROBE_PASSED || h->reason == REASON_HEALTH_PROBE_FAILED)
            feed_check(e, h);
        break;
    }
    case EV_NAME: { /* counts of the one before are not its own */
        const struct ev_name *n = (const struct ev_name *)ev;
        if (ev_owner_is_other(&m->owners, n))
            memset(&m->endpoint[slot_of(n->number)], 0, sizeof m->endpoint[0]);
        break;
    }
    case EV_GAUGE:
        feed_gauge(m, (const struct ev_gauge *)ev);
        break;
    case EV_CACHE_USE:
        feed_cache(m, (const struct ev_cache_use *)ev);
        break;
    case EV_RESOURCE:
        feed_resource(m, (const struct ev_resource *)ev);
        break;
    case EV_DECISION: {
        const struct ev_decision *d = (const struct ev_decision *)ev;
        if (d->loop < LOOP_COUNT)
            m->decisions[d->loop][d->is_applied ? 0 : 1]++;
        break;
    }
    case EV_OUTCOME: {
        const struct ev_outcome *o = (const struct ev_outcome *)ev;
        if (o->loop < LOOP_COUNT) {
            m->verdicts[o->loop][o->outcome & 3]++;
            m->reverts[o->loop] += o->is_reverted ? 1 : 0;
        }
        break;
    }
    case EV_GAP: {
        const struct ev_gap *g = (const struct ev_gap *)ev;
        unsigned i = (unsigned)g->reason - REASON_LOSS_RING_FULL;
        m->lost[i < FB_COUNT(m->lost) ? i : 0] += g->lost;
        break;
    }
    default:
        break;
    }
}

static void feed_check(struct metric_endpoint *e, const struct ev_health *h)
{
    bool has_failed = h->reason == REASON_HEALTH_PROBE_FAILED;
    e->checks[has_failed]++;
    e->checks_row = has_failed ? e->checks_row + 1 : 0;
    e->check_us = h->probe_us;
    e->check_status = h->status;
}

/* A gateway that started again counts from 0: what it had before stays counted. */
static uint64_t grown(uint64_t was, uint64_t now)
{
    return now >= was ? now - was : now;
}

static void feed_cache(struct metrics *m, const struct ev_cache_use *u)
{
    struct metric_route *route = &m->route[slot_of(u->route)];
    route->stored += grown(route->use.stored, u->stored);
    route->evicted += grown(route->use.evicted, u->evicted);
    route->refused += grown(route->use.refused, u->refused);
    route->use = *u;
}

static size_t count_into(struct metric_histogram *h, uint32_t us)
{
    size_t b = 0;
    while (b < METRIC_BUCKETS && us > bounds_us[b])
        b++;
    h->bucket[b]++;
    h->count++;
    h->sum_us += us;
    return b;
}

static size_t code_class(uint16_t status)
{
    return status >= 100 && status < 600 ? (size_t)status / 100 - 1 : METRIC_CODE_CLASSES - 1;
}

static void count_version(struct metrics *m, const struct ev_request *r, bool is_shed)
{
    if (r->version >= KNOB_TARGETS_MAX)
        return;
    struct metric_version *version = &m->version[r->version];
    version->code[code_class(r->status)]++;
    if (!is_shed && r->status != 0 && !(r->flags & EV_REQUEST_STREAM))
        count_into(&version->duration, r->total_us);
}

static void count_protocol(struct metrics *m, const struct ev_request *r)
{
    m->protocol[fb_min_u32(r->protocol, EV_PROTOCOL_TCP)]++;
    m->tls[fb_min_u32(r->tls, EV_TLS_13)]++;
    if (r->grpc_status != EV_NONE)
        m->grpc[r->grpc_status != 0]++;
}

static void feed_request(struct metrics *m, const struct ev_request *r)
{
    metrics_feed_traits(m, r);
    if (ev_reason_is_mirror(r->reason)) { /* no client asked: it is counted by its reason */
        m->ends[r->reason]++;
        return;
    }
    size_t route_slot = slot_of(r->route);
    struct metric_route *route = &m->route[route_slot];
    bool is_rule = ev_reason_is_rule(r->reason);
    bool is_shed = ev_reason_is_shed(r->reason);
    bool is_failed = (r->flags & EV_REQUEST_FAILED) != 0;
    route->code[code_class(r->status)]++;
    route->cache[r->cache < EV_CACHE_END ? r->cache : 0]++;
    route->sent_bytes += r->sent_bytes;
    route->received_bytes += r->received_bytes;
    route->service = r->service;
    if (r->flags & EV_REQUEST_HEDGED)
        route->hedges[r->hedge == EV_HEDGE_WON]++;
    if (r->reason == REASON_RATE_LIMITED || r->reason == REASON_QUOTA_EXCEEDED)
        route->limited[r->reason == REASON_QUOTA_EXCEEDED]++;
    route->split_fallbacks +=
        r->wanted != 0 && r->endpoint != EV_NONE && r->version != r->wanted - 1;
    if (!is_shed && !is_rule && r->status != 0 && !(r->flags & EV_REQUEST_STREAM)) {
        size_t b = count_into(&route->duration, r->total_us);
        m->exemplar[route_slot][b] = (struct metric_exemplar){
            r->request_id, m->wall_minus_mono_us + r->head.time_us, r->total_us};
    }
    if (r->reason < REASON_END)
        m->ends[r->reason]++;
    count_protocol(m, r);

    struct metric_service *service = &m->service[slot_of(r->service)];
    service->client_capped += r->reason == REASON_CLIENT_CAPPED;
    unsigned result = is_shed || is_rule ? METRIC_SHED
                      : is_failed        ? METRIC_FAILED
                                         : METRIC_ANSWERED;
    service->result[r->class < EV_CLASS_COUNT ? r->class : EV_CLASS_DEFAULT][result]++;
    for (unsigned i = 0; is_shed && i < METRIC_SHED_REASONS; i++)
        service->shed[i] += metrics_shed_reason(i) == r->reason;
    service->retries += r->flags & EV_REQUEST_ATTEMPTS_MASK;
    if (r->service != EV_NONE && !is_rule)
        count_into(&service->wait, r->queue_us);

    if (r->endpoint != EV_NONE) {
        struct metric_endpoint *endpoint = &m->endpoint[slot_of(r->endpoint)];
        endpoint->code[code_class(r->status)]++;
        endpoint->failures += is_failed ? 1 : 0;
        endpoint->service = r->service;
        count_version(m, r, is_shed);
    }
}

static void feed_gauge(struct metrics *m, const struct ev_gauge *g)
{
    if (g->kind == EV_KIND_SERVICE) {
        m->service[slot_of(g->number)].gauge = *g;
    } else if (g->kind == EV_KIND_ENDPOINT) {
        m->endpoint[slot_of(g->number)].gauge = *g;
        m->endpoint[slot_of(g->number)].service = g->service;
    }
}

static void feed_resource(struct metrics *m, const struct ev_resource *r)
{
    if (r->scope >= FB_COUNT(m->process))
        return;
    struct metric_process *p = &m->process[r->scope];
    if (r->cpu_us < p->last.cpu_us) /* a new process in this role */
        p->cpu_before_us += p->last.cpu_us;
    p->last = *r;
}

uint16_t metrics_shed_reason(unsigned slot)
{
    unsigned reason = slot < 8 ? REASON_SHED_PRIORITY + slot : REASON_SHED_OWN_LOAD + slot - 8;
    return ev_reason_is_shed((uint16_t)reason) ? (uint16_t)reason : REASON_NONE;
}

const char *metrics_bound(unsigned bucket)
{
    static const char *const text[METRIC_BUCKETS + 1] = {"0.005", "0.01", "0.025", "0.05", "0.075",
                                                         "0.1",   "0.25", "0.5",   "1.0",  "2.5",
                                                         "5.0",   "10.0", "+Inf"};
    fb_assert(bucket < FB_COUNT(text));
    return text[bucket];
}

/* q values are honoured only as far as Prometheus uses them: OpenMetrics is named first when
 * wanted. */
bool metrics_wants_openmetrics(struct span accept)
{
    struct span om = SPAN("application/openmetrics-text"), rest = accept;
    while (rest.len > 0) {
        struct span item = span_trim(span_cut(rest, ',', &rest));
        if (span_starts(item, om))
            return true;
        if (span_starts(item, SPAN("text/plain")))
            return false;
    }
    return false;
}
