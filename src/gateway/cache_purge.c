/* SPDX-License-Identifier: Apache-2.0 */
/* Purges.  One URL is found by its key; a prefix, a tag or everything means a walk over the store,
 * a shard at a time, so that no request waits for more than one shard.
 *
 * A paced purge (the cold-cache guard) does not drop: each entry it hits is fetched anew when it is
 * asked for next, as long as the service has room for that; else it is served once more. */
#include "gateway/cache.h"
#include "gateway/control_msg.h"

/* "http://Host:80/Path?q" to "host/Path?q": the form of keys. */
static bool key_of(struct span url, struct http1_out *w)
{
    const char *scheme = memmem(url.at, url.len, "://", 3);
    if (scheme && scheme - url.at <= 5)
        url = (struct span){scheme + 3, url.len - (size_t)(scheme + 3 - url.at)};
    const char *slash = memchr(url.at, '/', url.len);
    struct span host = {url.at, slash ? (size_t)(slash - url.at) : url.len}, name;
    uint16_t port;
    if (!http1_host_split(host, &name, &port))
        return false;
    size_t from = w->len;
    http1_put(w, name);
    for (size_t i = from; i < w->len; i++)
        if (w->at[i] >= 'A' && w->at[i] <= 'Z')
            w->at[i] = (char)(w->at[i] | 0x20);
    if (slash)
        http1_put(w, (struct span){slash, url.len - host.len});
    else
        http1_put(w, SPAN("/"));
    return !w->failed;
}

void cache_purge(struct gw *gw, uint16_t kind, bool is_paced, struct span text)
{
    char key[CONTROL_TEXT_BYTES];
    struct http1_out w = http1_out(key, sizeof key);
    struct cache_purge p = {.kind = (enum cache_purge_kind)kind, .text = text};
    uint64_t now_us = loop_now_us(gw->workers[0].loop);
    if (kind > CACHE_PURGE_TAG)
        return;
    if (kind == CACHE_PURGE_URL || kind == CACHE_PURGE_PREFIX) {
        if (!key_of(text, &w))
            return;
        p.text = http1_out_span(&w);
    }
    if (kind == CACHE_PURGE_URL && !is_paced) {
        for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
            struct cache_key k = {.route = (uint16_t)i, .text = p.text};
            if (!cache_has_route(gw->cache, k.route))
                continue;
            k.hash = cache_hash(gw->cache, k.route, k.text);
            cache_remove_key(gw->cache, &k);
        }
        return;
    }
    p.paced_us = is_paced ? now_us : 0;
    uint64_t hit = 0;
    for (uint32_t shard = 0; shard < CACHE_SHARDS; shard++)
        hit += cache_purge_part(gw->cache, &p, shard);
    fb_log(FB_LOG_INFO, "cache: a purge hit %llu answers", (unsigned long long)hit);
}
