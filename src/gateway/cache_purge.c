/* SPDX-License-Identifier: Apache-2.0 */
/* Purges.  One URL is found by its key; a prefix, a tag or everything means a walk over the store,
 * a shard at a time, so that no request waits for more than one shard.
 *
 * A paced purge (the cold-cache guard) does not drop: each entry it hits is fetched anew when it is
 * asked for next, as long as the service has room for that; else it is served once more. */
#include "gateway/cache.h"
#include "gateway/control_msg.h"

#define SCHEMES 2

static uint64_t purge_key(struct gw *gw, struct span text)
{
    uint64_t hit = 0;
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        struct cache_key k = {.route = (uint16_t)i, .text = text};
        if (!cache_has_route(gw->cache, k.route))
            continue;
        k.hash = cache_hash(gw->cache, k.route, k.text);
        hit += cache_remove_key(gw->cache, &k);
    }
    return hit;
}

static uint64_t purge_walk(struct gw *gw, const struct cache_purge *p)
{
    uint64_t hit = 0;
    for (uint32_t shard = 0; shard < CACHE_SHARDS; shard++)
        hit += cache_purge_part(gw->cache, p, shard);
    return hit;
}

uint64_t cache_purge(struct gw *gw, uint16_t kind, bool is_paced, struct span text)
{
    struct cache_purge p = {.kind = (enum cache_purge_kind)kind, .text = text};
    bool is_url = kind == CACHE_PURGE_URL || kind == CACHE_PURGE_PREFIX;
    /* what is named without a scheme goes with both */
    uint32_t count = is_url && !cache_url_has_scheme(text) ? SCHEMES : 1;
    uint64_t hit = 0;
    if (kind > CACHE_PURGE_TAG)
        return 0;
    p.paced_us = is_paced ? loop_now_us(gw->workers[0].loop) : 0;
    for (uint32_t i = 0; i < count; i++) {
        char key[CONTROL_TEXT_BYTES + 32];
        struct http1_out w = http1_out(key, sizeof key);
        if (is_url && !cache_key_of_url(&w, text, i == 1))
            return 0;
        if (is_url)
            p.text = http1_out_span(&w);
        if (kind == CACHE_PURGE_URL && !is_paced)
            hit += purge_key(gw, p.text);
        else
            hit += purge_walk(gw, &p);
    }
    if (kind != CACHE_PURGE_URL || is_paced)
        fb_log(FB_LOG_INFO, "cache: a purge hit %llu answers", (unsigned long long)hit);
    return hit;
}
