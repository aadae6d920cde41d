/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the cache and the share of each route: equal at the start, then as the loop says. */
#include "gateway/cache.h"

static uint64_t budget_of(struct gw *gw, size_t route, uint64_t share_bytes)
{
    const struct generation *gen = gw->gen;
    const struct conf_cache *c = &gen->conf->routes[route].cache;
    return c->budget_bytes ? c->budget_bytes : share_bytes;
}

/* Of the memory that is not given by name, for each route that shares it. */
static uint64_t share_of(const struct conf *conf)
{
    uint64_t fixed = 0;
    size_t open = 0;
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_cache *c = &conf->routes[i].cache;
        open += c->is_on && !c->budget_bytes;
        fixed += c->is_on ? c->budget_bytes : 0;
    }
    return open ? fb_sub_floor_u64(conf->p.cache_memory, fixed) / open : 0;
}

void cache_configure(struct gw *gw)
{
    const struct conf *conf = gw->gen->conf;
    cache_store_limit(gw->cache, conf->p.cache_memory);
    bool is_in_force[KNOB_TARGETS_MAX] = {false};
    uint64_t share = share_of(conf);
    for (size_t i = 0; i < conf->route_count; i++) {
        uint16_t number = gw->gen->route_numbers[i];
        if (number >= KNOB_TARGETS_MAX || !conf->routes[i].cache.is_on)
            continue;
        is_in_force[number] = true;
        gw->wants_coder |= conf->routes[i].compress.is_on;
        cache_store_budget(gw->cache, number, budget_of(gw, i, fb_max_u64(share, MIB)));
    }
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (!is_in_force[i])
            cache_store_budget(gw->cache, (uint16_t)i, 0);
}

/* What the loop has published; a smaller budget is taken first, so that the sum never exceeds. */
static void follow_knobs(struct gw *gw)
{
    const struct generation *gen = gw->gen;
    const struct knob_table *knobs = gw->mem->knobs;
    const struct worker *w = &gw->workers[0];
    const struct conf_params *p = &gen->conf->p;
    uint64_t share = share_of(gen->conf);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < gen->conf->route_count; i++) {
            uint16_t number = gen->route_numbers[i];
            struct cache_stats now;
            if (number >= KNOB_TARGETS_MAX || !gen->conf->routes[i].cache.is_on ||
                knob_version(knobs, KNOB_CACHE_KIB, number) == 0)
                continue;
            double kib = knob_read(knobs, KNOB_CACHE_KIB, number);
            double safe = (double)budget_of(gw, i, fb_max_u64(share, MIB)) / (double)KIB;
            if (w->static_age_us && p->gateway_static_after < p->gateway_safe_after)
                kib = knob_glide(kib, safe, w->static_age_us, p->gateway_static_after * US_PER_MS,
                                 p->gateway_safe_after * US_PER_MS);
            uint64_t bytes = (uint64_t)kib * KIB;
            cache_stats(gw->cache, number, &now);
            if (pass == 0 ? bytes < now.budget_bytes : bytes > now.budget_bytes)
                cache_store_budget(gw->cache, number, bytes);
        }
}

void cache_tick(struct gw *gw)
{
    uint64_t now_us = loop_now_us(gw->workers[0].loop);
    cache_store_tick(gw->cache, now_us);
    follow_knobs(gw);
    if (gw->wants_coder)
        cache_coder_start(gw);
    if (now_us - gw->cache_said_us < US_PER_S)
        return;
    gw->cache_said_us = now_us;
    cache_say(gw);
}
