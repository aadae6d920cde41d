/* SPDX-License-Identifier: Apache-2.0 */
/* admin_driver: a brain without gateway and disk, so that API and browser tests run alone.
 *
 *   admin_driver --token TOKEN [--address 127.0.0.1:0] [--past SECONDS] [--seconds SECONDS] [--mode
 * recommend]
 *
 * The real engine, facts and admin server, fed by a model of a shop: two services, five endpoints,
 * a slow endpoint and a burst every two minutes.  --past lets that many seconds go by before it
 * serves, so that history and decisions are there at once.  The log is a ring in memory.  It ends
 * after --seconds (300) at the latest.  Prints "ready ADDRESS" when it serves. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/rng.h"
#include "control/engine.h"
#include "output/admin.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOG_MAX 65536 /* records kept: 16 MiB */
#define OUT_MAX 256
#define ENDPOINTS 5

struct driver {
    struct ingress *ingress;
    struct ingest_stats ingest;
    struct memfile mem;
    struct engine *engine;
    struct admin *admin;
    union ev_any *log;
    uint64_t next_offset, now_us, wall_us, tick, cycle_ms;
    uint64_t requests, cpu_us[3];
    struct engine_out out;
    struct rng rng;
    uint16_t service[2], route[4], endpoint[ENDPOINTS], version[2];
    uint32_t limit[ENDPOINTS];
    uint32_t references; /* since the last sample of the cache */
    bool is_replay;
};

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
    (void)number;
    is_stopped = 1;
}

/* ---- the stream ---- */
static void feed(struct driver *d, const struct ev_head *ev)
{
    fb_assert(ev_is_valid(ev));
    memcpy(&d->log[d->next_offset % LOG_MAX], ev, (size_t)ev->cells * EV_CELL_BYTES);
    d->out.count = 0;
    engine_feed(d->engine, ev, &d->out);
    if (d->admin)
        admin_on_event(d->admin, ev, d->next_offset, d->is_replay);
    d->next_offset++;
    if (d->out.count == 0)
        return;
    size_t count = d->out.count; /* what the engine said goes through the same stream */
    union ev_any *said = calloc(count, sizeof *said);
    fb_assert(said != NULL);
    memcpy(said, d->out.at, count * sizeof *said);
    for (size_t i = 0; i < count; i++)
        feed(d, &said[i].head);
    free(said);
}

static enum fb_code on_submit(void *ctx, const struct ev_head *ev, struct fb_err *err)
{
    struct driver *d = ctx;
    union ev_any copy;
    (void)err;
    memcpy(&copy, ev, (size_t)ev->cells * EV_CELL_BYTES);
    copy.head.time_us = d->now_us;
    feed(d, &copy.head);
    return FB_OK;
}

static void on_stream(void *ctx, struct admin_stream *s)
{
    struct driver *d = ctx;
    *s = (struct admin_stream){.first_offset = fb_sub_floor_u64(d->next_offset, LOG_MAX),
                               .next_offset = d->next_offset,
                               .durable_offset = d->next_offset,
                               .events = d->next_offset,
                               .blocks = d->tick,
                               .segments = 1,
                               .log_bytes = d->next_offset * 14,
                               .lag_us = 20000,
                               .is_disk_ok = true};
}

static enum fb_code on_read(void *ctx, struct admin_read *read)
{
    struct driver *d = ctx;
    uint64_t first = fb_sub_floor_u64(d->next_offset, LOG_MAX);
    read->next = read->from;
    if (read->from < first) {
        read->next = first;
        return FB_E_NOT_FOUND;
    }
    for (uint32_t i = 0; i < read->max; i++) {
        if (read->next >= d->next_offset)
            return FB_E_END;
        const union ev_any *ev = &d->log[read->next % LOG_MAX];
        if (!read->visit(read->visit_ctx, &ev->head, read->next++))
            return FB_OK;
    }
    return FB_OK;
}

static bool on_signal_of(void *ctx, uint32_t i, struct signal_view *out)
{
    const struct driver *d = ctx;
    return engine_signal(d->engine, i, out);
}

static void on_explain(void *ctx, const struct ev_decision *decision, struct buf *out)
{
    engine_explain(((struct driver *)ctx)->engine, decision, out);
}

static bool on_drained(void *ctx, uint16_t endpoint)
{
    return engine_is_drained(((struct driver *)ctx)->engine, endpoint);
}

static void on_text(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_puts(out, "services:\n  shop:\n    endpoints: [10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80]\n");
}

static void on_effective(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_puts(out, "{\"values\":[{\"key\":\"mode\",\"value\":\"act\",\"source\":\"default\"},"
                  "{\"key\":\"upstream.hedge_pct\",\"value\":\"2\",\"source\":\"default\"}]}");
}

static void on_schema(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_puts(out,
             "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\"}");
}

/* One query at a time, answered with the next turn: an error to what names foo, else two rows. */
static bool is_query_bad;
static int query_fd;

static enum fb_code on_query_begin(void *ctx, const struct admin_query *ask, uint32_t *ticket,
                                   struct fb_err *err)
{
    uint64_t one = 1;
    (void)ctx;
    is_query_bad = strstr(ask->sql, "foo") != NULL;
    *ticket = 1;
    if (write(query_fd, &one, sizeof one) != sizeof one)
        return fb_fail(err, FB_E_IO, "the eventfd is full");
    return FB_OK;
}

static bool on_query_take(void *ctx, uint32_t ticket, struct buf *body,
                          struct admin_query_answer *out)
{
    (void)ctx, (void)ticket;
    if (is_query_bad) {
        out->error_at = 7;
        fb_fail(&out->err, FB_E_USAGE, "no such column: foo");
        return true;
    }
    buf_puts(body, "{\"columns\":[{\"name\":\"service\",\"type\":\"text\"},{\"name\":\"count(*)\","
                   "\"type\":\"real\"}],\"rows\":[[\"shop\",4711],[\"search\",0.5]],"
                   "\"row_count\":2,\"limit\":200,\"is_cut\":false,\"cut_by\":null,"
                   "\"events_read\":9000,\"events_missing\":0,\"took_ms\":1.5}");
    return true;
}

static void on_query_drop(void *ctx, uint32_t ticket)
{
    (void)ctx, (void)ticket;
}

static uint32_t on_connectors(void *ctx, struct admin_connector *out, uint32_t max)
{
    (void)ctx;
    if (max == 0)
        return 0;
    out[0] = (struct admin_connector){.name = "events",
                                      .type = "file",
                                      .state = "running",
                                      .offset = 11,
                                      .lag_events = UINT64_MAX,
                                      .events = 10,
                                      .records = 1,
                                      .last_error = "none \"yet\"",
                                      .last_error_wall_us = 1700000000000000};
    if (max == 1)
        return 1;
    out[1] = (struct admin_connector){.name = "pager",
                                      .type = "http",
                                      .state = "misconfigured",
                                      .offset = 7,
                                      .lag_events = 4,
                                      .lag_us = 61 * US_PER_S,
                                      .events = 6,
                                      .records = 6,
                                      .bytes = 4200,
                                      .errors = 3,
                                      .retries = 2,
                                      .dead = 1,
                                      .last_error = "https://hooks.example.com answers 403",
                                      .last_error_wall_us = 1700000000000000};
    return 2;
}

static enum fb_code on_connector_order(void *ctx, const struct admin_connector_order *order,
                                       struct fb_err *err)
{
    (void)ctx;
    return strcmp(order->name, "events") == 0
               ? FB_OK
               : fb_fail(err, FB_E_NOT_FOUND, "no connector is called %s", order->name);
}

static enum fb_code on_letters_send(void *ctx, const char *connector, const char *id,
                                    uint32_t *number, struct fb_err *err)
{
    (void)ctx, (void)id;
    *number = 1;
    return strcmp(connector, "events") == 0
               ? FB_OK
               : fb_fail(err, FB_E_NOT_FOUND, "no connector is called %s", connector);
}

static enum fb_code on_purge(void *ctx, const struct admin_purge *what, uint32_t *ticket,
                             struct fb_err *err)
{
    (void)ctx;
    (void)err;
    *ticket = 0;
    fprintf(stderr, "purge %u %d %s\n", what->kind, what->is_paced, what->text);
    return FB_OK;
}

/* Written down, and nobody tells: the whole program has the rest. */
static enum fb_code on_endpoint_order(void *ctx, struct admin_endpoint_order *o, struct fb_err *err)
{
    (void)ctx;
    o->ticket = 0;
    return strcmp(o->of.service, "shop") == 0
               ? FB_OK
               : fb_fail(err, FB_E_NOT_FOUND, "there is no service \"%s\"", o->of.service);
}

static const struct admin_endpoint *on_endpoint_at(void *ctx, uint32_t index)
{
    static const struct admin_endpoint one = {
        .service = "shop", .address = "10.0.8.8:80", .weight_pct = 100};
    (void)ctx;
    return index == 0 ? &one : NULL;
}

static enum fb_code on_reload(void *ctx, uint16_t *number, struct fb_err *err)
{
    (void)ctx;
    (void)number;
    return fb_fail(err, FB_E_CONFIG, "line 3: `endpoints` is empty; name at least one address");
}

/* ---- the model ---- */
static const char *const endpoint_names[ENDPOINTS] = {"shop 10.0.0.1:80", "shop 10.0.0.2:80",
                                                      "shop 10.0.0.3:80", "search 10.0.1.1:80",
                                                      "search 10.0.1.2:80"};

static void say_name(struct driver *d, enum ev_kind kind, uint16_t number, uint16_t parent)
{
    struct ev_name ev = EV_INIT(NAME, name, d->now_us);
    ev.kind = (uint8_t)kind;
    ev.number = number;
    ev.parent = parent;
    snprintf(ev.name, sizeof ev.name, "%s", memfile_name(&d->mem, kind, number));
    feed(d, &ev.head);
}

static void make_names(struct driver *d)
{
    static const char *const routes[] = {"shop /checkout/", "shop /", "search /search/",
                                         "search /suggest"};
    d->service[0] = memfile_number(&d->mem, EV_KIND_SERVICE, "shop", EV_NONE);
    d->service[1] = memfile_number(&d->mem, EV_KIND_SERVICE, "search", EV_NONE);
    for (size_t i = 0; i < 2; i++)
        say_name(d, EV_KIND_SERVICE, d->service[i], EV_NONE);
    for (size_t i = 0; i < 4; i++) {
        d->route[i] = memfile_number(&d->mem, EV_KIND_ROUTE, routes[i], d->service[i / 2]);
        say_name(d, EV_KIND_ROUTE, d->route[i], d->service[i / 2]);
    }
    for (size_t i = 0; i < ENDPOINTS; i++) {
        d->endpoint[i] =
            memfile_number(&d->mem, EV_KIND_ENDPOINT, endpoint_names[i], d->service[i / 3]);
        d->limit[i] = 24;
        say_name(d, EV_KIND_ENDPOINT, d->endpoint[i], d->service[i / 3]);
    }
    for (size_t i = 0; i < 2; i++) { /* of shop: its third endpoint is the canary */
        d->version[i] = memfile_number(&d->mem, EV_KIND_VERSION, i ? "shop canary" : "shop main",
                                       d->service[0]);
        say_name(d, EV_KIND_VERSION, d->version[i], d->service[0]);
    }
    for (size_t i = 0; i < ENDPOINTS; i++)
        atomic_store(&d->mem.endpoints[d->endpoint[i]].version,
                     i < 3 ? d->version[i == 2] : EV_NONE);
}

/* What TLS and HTTP/2 of clients would have counted. */
static void count_protocols(struct driver *d)
{
    struct memfile_head *h = d->mem.head;
    atomic_fetch_add(&h->tls.full, 1);
    atomic_fetch_add(&h->tls.resumed, 3);
    if (d->tick % 40 == 0)
        atomic_fetch_add(&h->tls.failed[1 + d->tick / 40 % 3], 1);
    atomic_fetch_add(&h->h2.counts[MEMFILE_H2_STREAMS], 12);
    atomic_fetch_add(&h->h2.counts[MEMFILE_H2_CONTROL], 2);
    if (d->tick % 600 == 0)
        atomic_fetch_add(&h->h2.counts[MEMFILE_H2_FLOOD_RESETS], 1);
    atomic_store(&h->h2.connections[0], 17);
    atomic_store(&h->h2.streams[0], 23);
    static const char *const names[] = {"shop.example", "*.api.shop.example"};
    for (uint32_t i = 0; i < 2; i++) {
        struct memfile_cert *c = &h->tls.certs[i];
        snprintf(c->name, sizeof c->name, "%s", names[i]);
        snprintf(c->file, sizeof c->file, "/etc/foldback/%s.pem", i ? "api" : "shop");
        atomic_store(&c->not_after_s, d->wall_us / US_PER_S + (i ? 9U : 81U) * UINT64_C(86400));
        if (i == 0) { /* in the last quarter of its seven days */
            atomic_store(&c->staple_made_s, d->wall_us / US_PER_S - 6 * UINT64_C(86400));
            atomic_store(&c->staple_until_s, d->wall_us / US_PER_S + UINT64_C(86400));
        }
    }
    atomic_store(&h->tls.cert_count, 2);
    atomic_store(&h->renew.good, 2);
    atomic_store(&h->renew.next_s, d->wall_us / US_PER_S + 9 * 3600);
}

/* What features did: cookies and a mirror at shop, compression and a limit at search. */
static void put_traits(struct ev_request *r, size_t e)
{
    uint64_t bits = r->request_id >> 16;
    if (r->endpoint == EV_NONE)
        return;
    if (e < 3) {
        r->traits = bits % 50 == 0   ? EV_TRAIT_BIT(STICKY_MOVED)
                    : bits % 10 == 0 ? EV_TRAIT_BIT(STICKY_NEW)
                                     : EV_TRAIT_BIT(STICKY_KEPT);
        r->traits |= bits % 20 == 3 ? EV_TRAIT_BIT(COPIED) : 0;
        r->wanted = (uint16_t)(r->version + 1);
        return;
    }
    r->traits = bits % 8 == 0 ? EV_TRAIT_BIT(AWAY) : EV_TRAIT_BIT(HOME);
    r->limit_used_pct = 40 + bits % 53;
    if (bits % 3 == 0) {
        r->traits |= bits % 2 ? EV_TRAIT_BIT(ZSTD) : EV_TRAIT_BIT(GZIP);
        r->plain_bytes = 24000;
        r->coded_bytes = 5200;
    }
}

/* From the bits of its id, so that the random sequence stays. */
static void put_protocol(const struct driver *d, struct ev_request *r, size_t e)
{
    uint64_t bits = r->request_id >> 8;
    r->protocol = bits % 10 < 6 ? EV_PROTOCOL_HTTP2 : EV_PROTOCOL_HTTP1;
    r->tls = bits % 10 < 8 ? EV_TLS_13 : bits % 10 < 9 ? EV_TLS_12 : EV_TLS_NONE;
    r->grpc_status =
        r->protocol == EV_PROTOCOL_HTTP2 && bits / 10 % 4 == 0 ? bits / 40 % 50 == 0 : EV_NONE;
    r->version = e < 3 ? d->version[e == 2] : EV_NONE;
    put_traits(r, e);
    if (bits / 2000 % 100 == 0 && r->status == 200) {
        r->flags |= EV_REQUEST_HEDGED;
        r->hedge = bits / 200000 % 3 ? EV_HEDGE_WON : EV_HEDGE_LOST;
    }
}

/* One route with a cache of 16 MiB that many small answers want, one with a cache that rests. */
static void put_cache(struct driver *d, struct ev_request *r)
{
    uint64_t bits = r->request_id >> 8;
    uint32_t id = (uint32_t)pow(20000, (double)(bits % 65536) / 65536);
    uint64_t key = (id + 1) * UINT64_C(0x9e3779b97f4a7c15);
    key ^= key >> 31;
    if (r->route != d->route[1])
        return;
    r->cache = id > 1300 ? EV_CACHE_MISS : id % 40 ? EV_CACHE_HIT : EV_CACHE_COLLAPSED;
    d->references++;
    if ((uint32_t)key >= UINT32_MAX / 4)
        return;
    struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, r->head.time_us);
    s.key = key;
    s.bytes = 6000 + (uint32_t)(key >> 40) % 12000;
    s.origin_us = r->cache == EV_CACHE_MISS ? 24000 : 0;
    s.references = d->references;
    s.route = r->route;
    s.shift = 2;
    s.cache = r->cache;
    d->references = 0;
    feed(d, &s.head);
}

static void say_cache(struct driver *d)
{
    for (size_t i = 1; i < 3; i++) {
        struct ev_cache_use u = EV_INIT(CACHE_USE, cache_use, d->now_us);
        u.route = d->route[i];
        u.budget_bytes = i == 1 ? 16 * MIB : 48 * MIB;
        u.used_bytes = i == 1 ? 15 * MIB + 700 * KIB : 0;
        u.entries = i == 1 ? 1310 : 0;
        u.stored = i == 1 ? 1310 + d->tick * 3 : 0;
        u.evicted = i == 1 ? d->tick * 3 : 0;
        u.memory_bytes = 64 * MIB;
        u.total_bytes = 16 * MIB;
        feed(d, &u.head);
    }
}

static bool is_slow_phase(const struct driver *d)
{
    return d->cycle_ms > 30000 && d->cycle_ms < 50000;
}

static bool is_burst(const struct driver *d)
{
    return d->cycle_ms > 70000 && d->cycle_ms < 95000;
}

static void say_request(struct driver *d, size_t route)
{
    struct ev_request ev = EV_INIT(REQUEST, request, d->now_us - rng_below(&d->rng, 100000));
    size_t service = route / 2;
    size_t e = service == 0 ? rng_below(&d->rng, 3) : 3 + rng_below(&d->rng, 2);
    double upstream_ms = exp(rng_normal(&d->rng) * 0.45) * (service == 0 ? 22 : 9);
    if (is_slow_phase(d) && e == 1)
        upstream_ms = upstream_ms * 6 + 40;
    ev.request_id = rng_u64(&d->rng) | UINT64_C(1) << 63;
    ev.route = d->route[route];
    ev.service = d->service[service];
    ev.endpoint = d->endpoint[e];
    ev.class = (uint8_t)(route == 0 ? EV_CLASS_CRITICAL : rng_below(&d->rng, 4));
    ev.status = 200;
    ev.reason = REASON_ANSWERED;
    ev.in_flight = (uint16_t)(4 + rng_below(&d->rng, 12));
    ev.queue_us = is_burst(d) ? (uint32_t)(rng_exp(&d->rng, 30) * 1e3) : rng_below(&d->rng, 300);
    ev.upstream_us = (uint32_t)(upstream_ms * 1e3);
    ev.service_us = ev.upstream_us + 800;
    ev.total_us = ev.queue_us + ev.service_us + 200;
    ev.sent_bytes = 2000 + rng_below(&d->rng, 9000);
    ev.received_bytes = 400;
    if (rng_unit(&d->rng) < (is_slow_phase(d) && e == 1 ? 0.08 : 0.002)) {
        ev.status = 502;
        ev.reason = REASON_UPSTREAM_RESET;
        ev.flags = EV_REQUEST_FAILED;
    }
    if (is_burst(d) && ev.class >= EV_CLASS_DEGRADED && rng_unit(&d->rng) < 0.6) {
        ev.status = 503;
        ev.reason = REASON_SHED_PRIORITY;
        ev.endpoint = EV_NONE;
        ev.upstream_us = ev.service_us = 0;
        ev.total_us = 120;
        ev.in_flight = 0;
    }
    put_protocol(d, &ev, e);
    put_cache(d, &ev);
    if (rng_below(&d->rng, 4) == 0) {
        static const char *const paths[] = {"/checkout/pay", "/products/4711", "/search/shoes",
                                            "/suggest"};
        struct ev_sample s = EV_INIT(SAMPLE, sample, ev.head.time_us);
        s.request_id = ev.request_id;
        s.route = ev.route;
        s.endpoint = ev.endpoint;
        s.status = ev.status;
        s.reason = ev.reason;
        s.total_us = ev.total_us;
        s.class = ev.class;
        snprintf(s.method, sizeof s.method, "%s", route == 0 ? "POST" : "GET");
        snprintf(s.host, sizeof s.host, "shop.example");
        snprintf(s.path, sizeof s.path, "%s", paths[route]);
        feed(d, &s.head);
    }
    feed(d, &ev.head);
    d->requests++;
}

static void say_gauges(struct driver *d)
{
    for (size_t i = 0; i < ENDPOINTS; i++) {
        bool is_slow = is_slow_phase(d) && i == 1;
        struct ev_gauge g = EV_INIT(GAUGE, gauge, d->now_us);
        g.kind = EV_KIND_ENDPOINT;
        g.number = d->endpoint[i];
        g.service = d->service[i / 3];
        g.health = is_slow && d->cycle_ms > 40000 ? EV_HEALTH_EJECTED : EV_HEALTH_OK;
        g.in_flight = is_burst(d) ? d->limit[i] : d->limit[i] / 3 + rng_below(&d->rng, 4);
        g.limit = d->limit[i];
        g.latency_us = is_slow ? 170000 : i < 3 ? 24000 : 10000;
        g.error_ppm = is_slow ? 80000 : 1800;
        g.weight_ppm = i < 3 ? (is_slow ? 60000 : 333000) : 500000;
        g.connections = d->limit[i] + 6;
        feed(d, &g.head);
    }
    for (size_t i = 0; i < 2; i++) {
        struct ev_gauge g = EV_INIT(GAUGE, gauge, d->now_us);
        g.kind = EV_KIND_SERVICE;
        g.number = g.service = d->service[i];
        g.in_flight = i == 0 ? 34 : 12;
        g.limit = i == 0 ? d->limit[0] + d->limit[1] + d->limit[2] : d->limit[3] + d->limit[4];
        g.shed_level = 512;
        g.queued_default = is_burst(d) ? (uint16_t)(20 + rng_below(&d->rng, 30)) : 0;
        g.queued_best_effort = is_burst(d) ? (uint16_t)rng_below(&d->rng, 40) : 0;
        feed(d, &g.head);
    }
}

/* The learner of one endpoint moves now and then. */
static void say_proposal(struct driver *d)
{
    size_t i = rng_below(&d->rng, ENDPOINTS);
    struct ev_proposal p = EV_INIT(PROPOSAL, proposal, d->now_us);
    bool is_down = is_slow_phase(d) && i == 1;
    p.endpoint = d->endpoint[i];
    p.service = d->service[i / 3];
    p.limit_from = d->limit[i];
    p.limit_to = is_down ? fb_max_u32(4, d->limit[i] * 2 / 3) : fb_min_u32(64, d->limit[i] + 4);
    if (p.limit_to == 64)
        p.limit_to = 16;
    p.reason = p.limit_to < p.limit_from ? REASON_LEARN_DOWN : REASON_LEARN_KEPT_UP;
    p.is_binding = 1;
    p.samples = 220;
    p.base_samples = 900;
    p.base_us = i < 3 ? 21000 : 8000;
    p.latency_us = is_down ? p.base_us * 5.8 : p.base_us * 1.07;
    p.ratio = p.latency_us / p.base_us;
    p.error = 0.02;
    p.moves = 1;
    d->limit[i] = p.limit_to;
    feed(d, &p.head);
}

static void say_resources(struct driver *d)
{
    for (uint8_t scope = 0; scope < 4; scope++) {
        struct ev_resource r = EV_INIT(RESOURCE, resource, d->now_us);
        static const uint32_t per_s_us[] = {900000, 400, 310000, 42000};
        r.scope = scope;
        r.cores = 2;
        r.threads = (uint16_t)(scope == 0 ? 0 : scope == 2 ? 3 : 2);
        r.descriptors = scope == 0 ? 0 : 40U + scope;
        r.cpu_us = (uint64_t)per_s_us[scope] * d->tick / 10;
        r.memory_bytes = scope == 0 ? 900 * MIB : 12 * MIB + scope * MIB;
        r.memory_total_bytes = 2048 * MIB;
        feed(d, &r.head);
    }
}

static void say_signal(struct driver *d, const char *name, double value)
{
    struct ev_custom c = EV_INIT(CUSTOM, custom, d->now_us);
    c.value = value;
    snprintf(c.name, sizeof c.name, "%s", name);
    feed(d, &c.head);
}

/* Of the application: orders, page speed that gets worse in the slow phase. */
static void say_signals(struct driver *d)
{
    for (uint64_t i = rng_below(&d->rng, 4) + 1; i > 0; i--)
        say_signal(d, "shop.sold", 19.9);
    say_signal(d, "web.lcp", (is_slow_phase(d) ? 2400 : 1300) + 200 * rng_normal(&d->rng));
}

static void take_one(void *arg, struct ev_head *ev)
{
    struct driver *d = arg;
    ev->time_us = d->now_us;
    feed(d, ev);
}

static void step(struct driver *d)
{
    (void)ingress_take(d->ingress, MIB, take_one, d);
    static const double per_tick[4] = {3, 12, 7, 4};
    d->cycle_ms = d->tick * 100 % 120000;
    for (size_t route = 0; route < 4; route++) {
        double want = per_tick[route] * (is_burst(d) ? 3 : 1) + rng_normal(&d->rng);
        for (int i = 0; i < (int)want; i++)
            say_request(d, route);
    }
    say_gauges(d);
    say_signals(d);
    if (d->tick % 23 == 0)
        say_proposal(d);
    if (d->tick % 10 == 0) {
        say_resources(d);
        say_cache(d);
    }
    if (d->cycle_ms == 85000 || d->cycle_ms == 100000) {
        struct ev_alert al = EV_INIT(ALERT, alert, d->now_us);
        al.reason = REASON_ALERT_OBJECTIVE_MISSED;
        al.target_kind = EV_KIND_SERVICE;
        al.target = d->service[0];
        al.severity = 1;
        al.loop = 255;
        al.is_over = d->cycle_ms == 100000;
        snprintf(al.text, sizeof al.text,
                 "shop answers 97.1 %% within 250 ms; the objective is 99 %%.");
        feed(d, &al.head);
    }
    struct ev_tick t = EV_INIT(TICK, tick, d->now_us);
    t.tick = d->tick++;
    t.wall_us = d->wall_us;
    t.events = d->next_offset;
    t.lag_us = 300;
    t.loop_us = 900;
    feed(d, &t.head);
    struct memfile_head *h = d->mem.head;
    atomic_store(&h->gateway_beat_us, d->now_us);
    atomic_store(&h->brain_beat_us, d->now_us);
    atomic_store(&h->requests, d->requests);
    atomic_store(&h->connections, 41);
    count_protocols(d);
    admin_tick(d->admin, d->now_us);
}

static void configure(struct driver *d, enum ev_mode mode)
{
    struct engine_target *targets = calloc(2, sizeof *targets);
    fb_assert(targets != NULL);
    for (size_t i = 0; i < 2; i++) {
        targets[i].kind = EV_KIND_SERVICE;
        snprintf(targets[i].name, sizeof targets[i].name, "%s", i ? "search" : "shop");
        targets[i].latency_quantile = 0.99;
        targets[i].latency_us = 250000;
        for (size_t k = 0; k < KNOB_COUNT; k++)
            targets[i].knob[k] = (struct knob_setting){NAN, NAN, NAN, mode};
    }
    static const struct signal_conf signals[] = {
        {"orders", "shop.sold", "shop", SIGNAL_RATE, SIGNAL_HIGHER, {0, 0}, 0.05, ""},
        {"page_speed", "web.lcp", "shop", SIGNAL_P75, SIGNAL_LOWER, {0, 0}, 0.1, ""}};
    struct engine_conf conf = {.config_hash = 0x5eed,
                               .targets = targets,
                               .target_count = 2,
                               .signals = signals,
                               .signal_count = FB_COUNT(signals),
                               .mode = mode};
    engine_configure(d->engine, &conf);
    free(targets);
}

static const char *option(int argc, char **argv, const char *name, const char *fallback)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return fallback;
}

static void serve(struct driver *d, uint64_t until_us)
{
    uint64_t next_us = fb_mono_us();
    while (!is_stopped && fb_mono_us() < until_us) {
        uint64_t now_us = fb_mono_us();
        struct pollfd p = {.fd = admin_fd(d->admin), .events = POLLIN};
        if (poll(&p, 1, now_us >= next_us ? 0 : (int)((next_us - now_us) / 1000) + 1) > 0)
            admin_run(d->admin, fb_mono_us());
        if (fb_mono_us() < next_us)
            continue;
        next_us += 100000;
        d->now_us = fb_mono_us();
        d->wall_us = fb_wall_us();
        step(d);
    }
}

int main(int argc, char **argv)
{
    struct fb_err err = {0};
    static struct driver d;
    uint64_t past_s = strtoull(option(argc, argv, "--past", "0"), NULL, 10);
    uint64_t life_s = strtoull(option(argc, argv, "--seconds", "300"), NULL, 10);
    int mode = ev_mode_by_name(span_of(option(argc, argv, "--mode", "act")));
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    rng_init(&d.rng, 7);
    d.engine = engine_new();
    d.log = calloc(LOG_MAX, sizeof *d.log);
    d.out = (struct engine_out){.at = calloc(OUT_MAX, sizeof(union ev_any)), .max = OUT_MAX};
    d.ingress = ingress_new(MIB);
    if (!d.engine || !d.log || !d.ingress || !d.out.at ||
        memfile_create(&d.mem, 1, 64, &err) != FB_OK || mode < 0) {
        fprintf(stderr, "admin_driver: cannot start: %s\n", err.text);
        return 1;
    }
    configure(&d, (enum ev_mode)mode);
    d.now_us = fb_mono_us() - past_s * US_PER_S;
    d.wall_us = fb_wall_us() - past_s * US_PER_S;
    query_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct admin_setup setup = {.address = option(argc, argv, "--address", "127.0.0.1:0"),
                                .listen_fd = -1,
                                .token = option(argc, argv, "--token", ""),
                                .node = "test-node",
                                .session_seed = {rng_u64(&d.rng), rng_u64(&d.rng)},
                                .now_us = d.now_us,
                                .wall_us = d.wall_us,
                                .source = {.ctx = &d,
                                           .facts = engine_facts(d.engine),
                                           .book = engine_book(d.engine),
                                           .curves = engine_curves(d.engine),
                                           .customs = engine_customs(d.engine),
                                           .signals = engine_signals(d.engine),
                                           .signal = on_signal_of,
                                           .ingress = d.ingress,
                                           .ingest = &d.ingest,
                                           .memfile = &d.mem,
                                           .explain = on_explain,
                                           .is_drained = on_drained,
                                           .submit = on_submit,
                                           .stream = on_stream,
                                           .read_events = on_read,
                                           .config_text = on_text,
                                           .config_effective = on_effective,
                                           .config_schema = on_schema,
                                           .reload = on_reload,
                                           .purge = on_purge,
                                           .endpoint_order = on_endpoint_order,
                                           .endpoint_at = on_endpoint_at,
                                           .connectors = on_connectors,
                                           .connector_order = on_connector_order,
                                           .letters_send = on_letters_send,
                                           .query_begin = on_query_begin,
                                           .query_take = on_query_take,
                                           .query_drop = on_query_drop,
                                           .query_fd = query_fd}};
    if (admin_new(&d.admin, &setup, &err) != FB_OK) {
        fprintf(stderr, "admin_driver: %s\n", err.text);
        return 1;
    }
    make_names(&d);
    for (uint64_t i = 0; i < past_s * 10; i++) {
        d.now_us += 100000;
        d.wall_us += 100000;
        step(&d);
    }
    printf("ready %s\n", admin_address(d.admin));
    fflush(stdout);
    serve(&d, fb_mono_us() + life_s * US_PER_S);
    admin_free(d.admin);
    ingress_free(d.ingress);
    engine_free(d.engine);
    memfile_close(&d.mem);
    free(d.log);
    free(d.out.at);
    return 0;
}
