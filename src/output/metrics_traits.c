/* SPDX-License-Identifier: Apache-2.0 */
/* What features did for requests, counted from the traits in their events.
 *
 * A series appears with the first request that has something to say: a route without a mirror has
 * no line about mirrors. */
#include "output/metrics_int.h"

static void write_of_services(struct writer *w);
static void write_of_routes(struct writer *w);
static void write_carried(struct writer *w);
static void write_bytes(struct writer *w);
static void write_checks(struct writer *w);

struct series { /* one value of the last label */
    const char *label;
    uint64_t bits;
};
struct trait_family {
    enum metric_id id;
    struct series series[5]; /* up to the first without bits */
};

void metrics_feed_traits(struct metrics *m, const struct ev_request *r)
{
    uint32_t route_slot = fb_min_u32(r->route, KNOB_TARGETS_MAX);
    struct metric_route *route = &m->route[route_slot];
    struct metric_service *service = &m->service[fb_min_u32(r->service, KNOB_TARGETS_MAX)];
    if (ev_reason_is_mirror(r->reason)) {
        service->mirror[r->reason != REASON_MIRRORED]++;
        service->did.count[EV_TRAIT_INTRODUCED] += r->traits >> EV_TRAIT_INTRODUCED & 1;
        return;
    }
    for (unsigned i = 0; r->traits && i < EV_TRAIT_COUNT; i++) {
        uint64_t has = r->traits >> i & 1;
        route->did.count[i] += has;
        service->did.count[i] += has;
    }
    route->plain_bytes += r->plain_bytes;
    route->coded_bytes += r->coded_bytes;
    route->split += r->wanted != 0;
    if (r->protocol == EV_PROTOCOL_TCP && r->service != EV_NONE) {
        service->tcp[r->reason != REASON_TCP_ENDED]++;
        service->tcp_received += r->received_bytes;
        service->tcp_sent += r->sent_bytes;
    }
    if (r->limit_used_pct) {
        struct metric_peak *p = &route->limit_used_pct;
        uint64_t span = r->head.time_us / METRIC_PEAK_US;
        if (span > p->span) {
            p->before = span == p->span + 1 ? p->now : 0;
            p->now = 0;
            p->span = span;
        }
        p->now = (uint8_t)fb_max_u64(p->now, fb_min_u64(r->limit_used_pct, 100));
    }
}

unsigned metrics_peak(const struct metrics *m, const struct metric_peak *p)
{
    uint64_t span = fb_max_u64(m->now_us / METRIC_PEAK_US, p->span);
    return span == p->span ? fb_max_u32(p->now, p->before) : span == p->span + 1 ? p->now : 0;
}

uint64_t metrics_did(const struct metric_traits *did, uint64_t bits)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < EV_TRAIT_COUNT; i++)
        sum += bits >> i & 1 ? did->count[i] : 0;
    return sum;
}

void metrics_write_traits(struct writer *w)
{
    write_of_services(w);
    write_of_routes(w);
    write_bytes(w);
    write_carried(w);
    write_checks(w);
}

static bool is_named(const struct writer *w, enum ev_kind kind, uint32_t number)
{
    return number < KNOB_TARGETS_MAX &&
           memfile_name(w->view->memfile, kind, (uint16_t)number)[0] != '\0';
}

/* Of endpoints that are checked. */
static void write_checks(struct writer *w)
{
    static const char *const results[] = {"passed", "failed"};
    metrics_family(w, METRIC_ID_CHECKS);
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const struct metric_endpoint *e = &w->view->metrics->endpoint[i];
        if (e->checks[0] + e->checks[1] == 0 || !is_named(w, EV_KIND_ENDPOINT, i))
            continue;
        for (size_t k = 0; k < FB_COUNT(results); k++)
            metrics_put_u64(
                w, METRIC_ID_CHECKS,
                VALUES(metrics_name(w, EV_KIND_SERVICE, w->view->memfile->endpoints[i].parent),
                       metrics_name(w, EV_KIND_ENDPOINT, i), results[k]),
                e->checks[k]);
    }
}

static uint64_t all_bits(const struct trait_family *f)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < FB_COUNT(f->series); i++)
        bits |= f->series[i].bits;
    return bits;
}

static void write_of_services(struct writer *w)
{
    static const struct trait_family families[] = {
        {METRIC_ID_STICKY,
         {{"kept", EV_TRAIT_BIT(STICKY_KEPT)},
          {"moved", EV_TRAIT_BIT(STICKY_MOVED)},
          {"new", EV_TRAIT_BIT(STICKY_NEW)}}},
        {METRIC_ID_HASH, {{"home", EV_TRAIT_BIT(HOME)}, {"away", EV_TRAIT_BIT(AWAY)}}},
        {METRIC_ID_CROSS_ZONE_REQUESTS, {{NULL, EV_TRAIT_BIT(FAR_ZONE)}}},
        {METRIC_ID_INTRODUCED, {{NULL, EV_TRAIT_BIT(INTRODUCED)}}}};
    const struct metrics *m = w->view->metrics;
    for (size_t f = 0; f < FB_COUNT(families); f++) {
        uint64_t bits = all_bits(&families[f]);
        metrics_family(w, families[f].id);
        for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
            const struct metric_traits *did = &m->service[i].did;
            if (metrics_did(did, bits) == 0 || !is_named(w, EV_KIND_SERVICE, i))
                continue;
            for (const struct series *s = families[f].series; s->bits; s++)
                metrics_put_u64(w, families[f].id,
                                VALUES(metrics_name(w, EV_KIND_SERVICE, i), s->label),
                                metrics_did(did, s->bits));
        }
    }
}

static void write_of_routes(struct writer *w)
{
    static const struct trait_family families[] = {
        {METRIC_ID_MIRRORED,
         {{"copied", EV_TRAIT_BIT(COPIED)}, {"not_copied", EV_TRAIT_BIT(NOT_COPIED)}}},
        {METRIC_ID_AUTH,
         {{"checked", EV_TRAIT_BIT(AUTH_CHECKED)},
          {"remembered", EV_TRAIT_BIT(AUTH_REMEMBERED)},
          {"allowed", EV_TRAIT_BIT(AUTH_ALLOWED)},
          {"refused", EV_TRAIT_BIT(AUTH_REFUSED)},
          {"failed", EV_TRAIT_BIT(AUTH_FAILED)}}},
        {METRIC_ID_PROXIED, {{NULL, EV_TRAIT_BIT(PROXIED)}}},
        {METRIC_ID_ROUTE_COMPRESSED,
         {{"gzip", EV_TRAIT_BIT(GZIP)},
          {"br", EV_TRAIT_BIT(BROTLI)},
          {"zstd", EV_TRAIT_BIT(ZSTD)},
          {"stored", EV_TRAIT_BIT(STORED_CODED)},
          {"refused", EV_TRAIT_BIT(NOT_CODED)}}}};
    const struct metrics *m = w->view->metrics;
    for (size_t f = 0; f < FB_COUNT(families); f++) {
        uint64_t bits = all_bits(&families[f]);
        metrics_family(w, families[f].id);
        for (uint32_t i = 0; i < METRIC_SLOTS; i++) {
            const struct metric_traits *did = &m->route[i].did;
            if (metrics_did(did, bits) == 0 ||
                (i < KNOB_TARGETS_MAX && !is_named(w, EV_KIND_ROUTE, i)))
                continue;
            for (size_t k = 0; k < FB_COUNT(families[f].series); k++)
                if (families[f].series[k].bits)
                    metrics_put_u64(w, families[f].id,
                                    VALUES(metrics_name(w, EV_KIND_ROUTE, i),
                                           metrics_route_service(w, i),
                                           families[f].series[k].label),
                                    metrics_did(did, families[f].series[k].bits));
        }
    }
}

#define FOR_ROUTES(w, i)                                                                           \
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)                                                \
        if (is_named(w, EV_KIND_ROUTE, i))
#define OF_ROUTE(w, i, ...)                                                                        \
    VALUES(metrics_name(w, EV_KIND_ROUTE, i), metrics_route_service(w, i), __VA_ARGS__)

static void write_bytes(struct writer *w)
{
    const struct metrics *m = w->view->metrics;
    metrics_family(w, METRIC_ID_ROUTE_COMPRESS_IN);
    FOR_ROUTES(w, i)
    if (m->route[i].plain_bytes)
        metrics_put_u64(w, METRIC_ID_ROUTE_COMPRESS_IN, OF_ROUTE(w, i, NULL),
                        m->route[i].plain_bytes);
    metrics_family(w, METRIC_ID_ROUTE_COMPRESS_OUT);
    FOR_ROUTES(w, i)
    if (m->route[i].plain_bytes)
        metrics_put_u64(w, METRIC_ID_ROUTE_COMPRESS_OUT, OF_ROUTE(w, i, NULL),
                        m->route[i].coded_bytes);
    metrics_family(w, METRIC_ID_SPLIT_CHOICES);
    FOR_ROUTES(w, i)
    if (m->route[i].split) {
        uint64_t named = m->route[i].did.count[EV_TRAIT_SPLIT_NAMED];
        metrics_put_u64(w, METRIC_ID_SPLIT_CHOICES, OF_ROUTE(w, i, "share"),
                        m->route[i].split - named);
        metrics_put_u64(w, METRIC_ID_SPLIT_CHOICES, OF_ROUTE(w, i, "name"), named);
    }
    metrics_family(w, METRIC_ID_LIMIT_USED);
    FOR_ROUTES(w, i)
    if (m->route[i].limit_used_pct.span)
        metrics_put_f64(w, METRIC_ID_LIMIT_USED, OF_ROUTE(w, i, NULL),
                        metrics_peak(m, &m->route[i].limit_used_pct) / 100.0);
}

/* Of services: what they got as mirrors, and passed connections. */
static void write_carried(struct writer *w)
{
    static const char *const labels[3][2] = {
        {"answered", "failed"}, {"passed", "failed"}, {"from_client", "to_client"}};
    const enum metric_id ids[3] = {METRIC_ID_MIRROR_COPIES, METRIC_ID_TCP, METRIC_ID_TCP_BYTES};
    const struct metrics *m = w->view->metrics;
    for (size_t f = 0; f < FB_COUNT(ids); f++) {
        metrics_family(w, ids[f]);
        for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
            const struct metric_service *s = &m->service[i];
            const uint64_t bytes[2] = {s->tcp_received, s->tcp_sent};
            const uint64_t *counts = f == 0 ? s->mirror : f == 1 ? s->tcp : bytes;
            bool is_seen = f == 0 ? s->mirror[0] + s->mirror[1] > 0 : s->tcp[0] + s->tcp[1] > 0;
            for (size_t k = 0; k < 2 && is_seen && is_named(w, EV_KIND_SERVICE, i); k++)
                metrics_put_u64(w, ids[f],
                                VALUES(metrics_name(w, EV_KIND_SERVICE, i), labels[f][k]),
                                counts[k]);
        }
    }
}
