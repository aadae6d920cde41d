/* SPDX-License-Identifier: Apache-2.0 */
/* What the cache says to the stream: a gauge per route and second, and the requests for a sample of
 * its keys, from which analytics makes the miss-ratio curves (SHARDS: a key is in the sample or it
 * is not, so that each reuse of a sampled key is seen). */
#include "base/clock.h"
#include "gateway/cache.h"

/* Per worker: enough for a curve within .003, at most 64 kB/s of events. */
#define SAMPLES_MAX_PER_S 1000u
#define SHIFT_MAX 20u
/* Of a sample that leaves keys out, keys that are asked for often are told besides, once in this
 * many requests: less than 1 % of the traffic, and a key with 0.1 % of 10,000 requests a second is
 * told each 13 s. */
#define HOT_EVERY 128u

static void say(struct request *req, struct cache_entry *e, enum ev_cache verdict,
                uint32_t hot_references);

void cache_sample(struct request *req, struct cache_entry *e, enum ev_cache verdict)
{
    struct worker *w = req->worker;
    cache_refer(w->gw->cache, req->cw->key.route);
    uint32_t asked = atomic_load_explicit(&e->asked, memory_order_relaxed) + 1;
    atomic_store_explicit(&e->asked, asked, memory_order_relaxed);
    bool is_hot = asked % HOT_EVERY == 0 && w->cache_shift > 0;
    bool is_sampled = (uint32_t)e->node.hash < (UINT64_C(1) << 32) >> w->cache_shift;
    if (is_hot)
        say(req, e, verdict, HOT_EVERY);
    if (is_sampled)
        say(req, e, verdict, 0);
}

static void say(struct request *req, struct cache_entry *e, enum ev_cache verdict,
                uint32_t hot_references)
{
    struct worker *w = req->worker;
    struct cache_store *s = w->gw->cache;
    uint16_t route = req->cw->key.route;
    struct ev_cache_sample ev = EV_INIT(CACHE_SAMPLE, cache_sample, loop_now_us(w->loop));
    ev.head.origin = (uint8_t)w->index;
    ev.key = e->node.hash;
    ev.bytes = fb_sat_u32(cache_cost(e));
    ev.origin_us =
        verdict == EV_CACHE_MISS || verdict == EV_CACHE_REVALIDATED ? req->upstream_us : 0;
    ev.references = cache_take_references(s, route);
    ev.route = route;
    ev.shift = w->cache_shift;
    ev.cache = (uint8_t)verdict;
    ev.hot_references = hot_references;
    ring_put(w->ring, &ev.head);
    w->cache_samples += hot_references == 0;
}

/* Each 100 ms: the rate of samples stays within bounds, whatever the traffic is. */
void cache_sample_adapt(struct worker *w)
{
    if (w->cache_samples > SAMPLES_MAX_PER_S / 10 && w->cache_shift < SHIFT_MAX)
        w->cache_shift++;
    w->cache_samples = 0;
}

void cache_say(struct gw *gw)
{
    struct worker *w = &gw->workers[0];
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        struct cache_stats st;
        if (!cache_has_route(gw->cache, (uint16_t)i))
            continue;
        cache_stats(gw->cache, (uint16_t)i, &st);
        struct ev_cache_use ev = EV_INIT(CACHE_USE, cache_use, loop_now_us(w->loop));
        ev.head.origin = (uint8_t)w->index;
        ev.route = (uint16_t)i;
        ev.used_bytes = st.used_bytes;
        ev.budget_bytes = st.budget_bytes;
        ev.entries = st.entries;
        ev.stored = st.stored;
        ev.evicted = st.evicted;
        ev.refused = st.refused;
        ev.total_bytes = cache_used(gw->cache);
        ev.memory_bytes = gw->gen->conf->p.cache_memory;
        ring_put(w->ring, &ev.head);
    }
}
