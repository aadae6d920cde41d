/* SPDX-License-Identifier: Apache-2.0 */
/* cache_store_int: what the files of the store share. */
#ifndef FB_GATEWAY_CACHE_STORE_INT_H
#define FB_GATEWAY_CACHE_STORE_INT_H
#include "gateway/cache_store.h"

#define CACHE_PENDING_BUCKETS 64u
#define CACHE_MARKS 4096u

struct cache_pending { /* an answer that is being fetched */
    struct cache_pending *next;
    uint64_t hash;
    struct cache_waiter *waiters;
    uint32_t waiter_count;
    uint16_t route;
    uint32_t key_bytes;
    char key[];
};

struct cache_shard {
    _Alignas(FB_CACHE_LINE_BYTES) struct spin lock;
    struct cache_entry **buckets; /* NULL until the first entry */
    uint64_t mask, count;
    struct cache_pending *pending[CACHE_PENDING_BUCKETS];
};

struct cache_route {
    struct spin lock;
    struct evict evict;
    uint64_t stored, evicted, refused;
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic uint32_t references; /* since the last sample */
};

struct cache_store {
    struct cache_shard shards[CACHE_SHARDS];
    struct cache_route *_Atomic routes[KNOB_TARGETS_MAX];
    _Atomic uint64_t used_bytes, limit_bytes;
    _Atomic uint32_t now_s;
    uint64_t seed;
    /* keys whose answers could not be kept: upper half of the hash, until which second */
    _Atomic uint64_t marks[CACHE_MARKS];
};

struct cache_shard *cache_shard_of(struct cache_store *s, uint64_t hash);
#endif
