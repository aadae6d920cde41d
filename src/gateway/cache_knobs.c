/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the cache and the share of each route: equal at the start, then as the loop says. */
#include "gateway/cache.h"

static uint64_t budget_of(struct gw *gw, size_t route, uint64_t share_bytes)
{
    const struct generation *gen = gw->gen;
    const struct conf_cache *c = &gen->conf->routes[route].cache;
    return c->budget_bytes ? c->budget_bytes : share_bytes;
}

void cache_configure(struct gw *gw)
{
    const struct conf *conf = gw->gen->conf;
    uint64_t memory = conf->p.cache_memory, fixed = 0;
    size_t open = 0;
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_cache *c = &conf->routes[i].cache;
        open += c->is_on && !c->budget_bytes;
        fixed += c->is_on ? c->budget_bytes : 0;
    }
    cache_store_limit(gw->cache, memory);
    bool is_in_force[KNOB_TARGETS_MAX] = {false};
    uint64_t share = open ? fb_sub_floor_u64(memory, fixed) / open : 0;
    for (size_t i = 0; i < conf->route_count; i++) {
        uint16_t number = gw->gen->route_numbers[i];
        if (number >= KNOB_TARGETS_MAX || !conf->routes[i].cache.is_on)
            continue;
        is_in_force[number] = true;
        cache_store_budget(gw->cache, number, budget_of(gw, i, fb_max_u64(share, MIB)));
    }
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (!is_in_force[i])
            cache_store_budget(gw->cache, (uint16_t)i, 0);
}

void cache_tick(struct gw *gw)
{
    uint64_t now_us = loop_now_us(gw->workers[0].loop);
    cache_store_tick(gw->cache, now_us);
    if (now_us - gw->cache_said_us < US_PER_S)
        return;
    gw->cache_said_us = now_us;
    cache_say(gw);
}
