/* SPDX-License-Identifier: Apache-2.0 */
/* traffic: request events as a shop of middle size would make them, for the benchmarks of the log.
 *
 * 12 routes, 3 services, 9 endpoints with skewed shares; lognormal upstream latencies of which each
 * route has its own median (2-80 ms, sigma 0.6); 1.5 % errors; queue waits in 3 % of the requests;
 * answers of 0.2-60 KiB; 5,000 subjects, skewed; request ids counted per gateway thread and mixed;
 * Poisson arrivals.  Threads: one. */
#ifndef FB_TEST_TRAFFIC_H
#define FB_TEST_TRAFFIC_H
#include "base/mix.h"
#include "base/rng.h"
#include "event/event.h"

#include <math.h>

struct traffic {
    struct rng rng;
    uint32_t threads;
    double per_s;
    double now_us;
    uint32_t sequence[64];
    uint64_t request_id[64];
    uint64_t node; /* of the blocks; 1 */
};

static inline void traffic_init(struct traffic *t, uint64_t seed, uint32_t threads, double per_s)
{
    *t = (struct traffic){.threads = threads, .per_s = per_s, .now_us = 5e9, .node = 1};
    rng_init(&t->rng, seed);
    for (uint32_t i = 0; i < threads; i++)
        t->request_id[i] = ((uint64_t)i << 56) | (rng_u64(&t->rng) >> 16);
}

/* Skewed choice of 0 .. n-1: the square of a uniform number. */
static inline uint32_t traffic_pick(struct traffic *t, uint32_t n)
{
    double u = rng_unit(&t->rng);
    return (uint32_t)(u * u * n);
}

static inline void traffic_next(struct traffic *t, struct ev_request *r)
{
    t->now_us += rng_exp(&t->rng, 1e6 / t->per_s);
    *r = EV_INIT(REQUEST, request, (uint64_t)t->now_us);
    uint32_t thread = rng_below(&t->rng, t->threads);
    uint32_t route = traffic_pick(t, 12);
    r->head.origin = (uint8_t)thread;
    r->head.sequence = t->sequence[thread]++;
    r->request_id = mix_u64(t->request_id[thread]++) ^ mix_salt(t->node);
    r->route = (uint16_t)route;
    r->service = (uint16_t)(route % 3);
    r->endpoint = (uint16_t)(r->service * 3u + rng_below(&t->rng, 3));
    r->class = (uint8_t)(route < 2 ? EV_CLASS_CRITICAL : EV_CLASS_DEFAULT);
    bool has_failed = rng_unit(&t->rng) < 0.015;
    r->reason = has_failed ? REASON_UPSTREAM_ERROR : REASON_ANSWERED;
    r->status = has_failed ? 503 : rng_unit(&t->rng) < 0.04 ? 404 : 200;
    r->flags = (uint8_t)((rng_unit(&t->rng) < 0.98 ? EV_REQUEST_REUSED : 0) |
                         (has_failed ? EV_REQUEST_FAILED : 0));
    double median_us = 2000.0 * pow(1.4, route);
    if (rng_unit(&t->rng) < 0.03)
        r->queue_us = (uint32_t)rng_exp(&t->rng, 4000);
    r->upstream_us = (uint32_t)(median_us * exp(0.6 * rng_normal(&t->rng)));
    r->service_us = r->upstream_us + 20 + (uint32_t)rng_exp(&t->rng, 150);
    r->total_us = r->service_us + r->queue_us + 30 + (uint32_t)rng_exp(&t->rng, 25);
    r->sent_bytes = 180 + (uint32_t)(1500.0 * (route + 1) * exp(0.5 * rng_normal(&t->rng)));
    r->received_bytes = 320 + rng_below(&t->rng, 200);
    r->in_flight = (uint16_t)(1 + t->per_s / 9 * median_us / 1e6 * 0.1 + rng_below(&t->rng, 8));
    r->subject = (uint16_t)(traffic_pick(t, 5000) * 13);
}
#endif
