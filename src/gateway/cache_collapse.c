/* SPDX-License-Identifier: Apache-2.0 */
/* Collapsing: of many requests for one answer one fetches it, the others wait for that.
 *
 * When the answer turns out not to be storable they all go on at once, and for a while nobody waits
 * for that key: else the requests of a page that may not be kept would queue behind each other. */
#include "base/assert.h"
#include "gateway/cache_store_int.h"

#include <stdlib.h>

/* Long enough that a busy page collapses once in a while only, short enough that a page which
 * becomes storable is noticed. */
#define USELESS_S 10u

static struct cache_pending **pending_at(struct cache_shard *sh, const struct cache_key *key)
{
    struct cache_pending **at = &sh->pending[key->hash & (CACHE_PENDING_BUCKETS - 1)];
    while (*at && !((*at)->hash == key->hash && (*at)->route == key->route &&
                    span_eq((struct span){(*at)->key, (*at)->key_bytes}, key->text)))
        at = &(*at)->next;
    return at;
}

static _Atomic uint64_t *mark_of(struct cache_store *s, uint64_t hash)
{
    return &s->marks[hash & (CACHE_MARKS - 1)];
}

static bool is_useless(struct cache_store *s, uint64_t hash)
{
    uint64_t mark = atomic_load_explicit(mark_of(s, hash), memory_order_relaxed);
    uint32_t now_s = atomic_load_explicit(&s->now_s, memory_order_relaxed);
    return mark && mark >> 32 == hash >> 32 && (uint32_t)mark > now_s;
}

void cache_store_tick(struct cache_store *s, uint64_t now_us)
{
    atomic_store_explicit(&s->now_s, (uint32_t)(now_us / US_PER_S), memory_order_relaxed);
}

enum cache_join cache_join(struct cache_store *s, const struct cache_key *key,
                           struct cache_waiter *waiter, struct cache_pending **pending)
{
    struct cache_shard *sh = cache_shard_of(s, key->hash);
    *pending = NULL;
    if (is_useless(s, key->hash))
        return CACHE_JOIN_ALONE;
    struct cache_pending *mine = malloc(sizeof *mine + key->text.len);
    spin_lock(&sh->lock);
    struct cache_pending **at = pending_at(sh, key), *p = *at;
    enum cache_join is = CACHE_JOIN_ALONE;
    if (!p && mine) {
        *mine = (struct cache_pending){
            .hash = key->hash, .route = key->route, .key_bytes = (uint32_t)key->text.len};
        memcpy(mine->key, key->text.at, key->text.len);
        *at = *pending = mine;
        mine = NULL;
        is = CACHE_JOIN_OWNER;
    } else if (p && waiter && p->waiter_count < CACHE_WAITERS_MAX) {
        waiter->next = p->waiters;
        waiter->prev = &p->waiters;
        if (p->waiters)
            p->waiters->prev = &waiter->next;
        p->waiters = waiter;
        p->waiter_count++;
        waiter->is_listed = true;
        is = CACHE_JOIN_WAITS;
    }
    spin_unlock(&sh->lock);
    free(mine);
    return is;
}

void cache_pending_end(struct cache_store *s, struct cache_pending *p, bool is_useless_now,
                       uint64_t now_us)
{
    struct cache_key key = {.hash = p->hash, .route = p->route, .text = {p->key, p->key_bytes}};
    struct cache_shard *sh = cache_shard_of(s, p->hash);
    if (is_useless_now)
        atomic_store_explicit(mark_of(s, p->hash),
                              (p->hash & ~UINT64_C(0xffffffff)) |
                                  (uint32_t)(now_us / US_PER_S + USELESS_S),
                              memory_order_relaxed);
    spin_lock(&sh->lock);
    struct cache_pending **at = pending_at(sh, &key);
    fb_assert(*at == p);
    *at = p->next;
    struct cache_waiter *list = p->waiters, *first = NULL;
    while (list) { /* in the order of their coming */
        struct cache_waiter *next = list->next;
        list->is_listed = false;
        list->next = first;
        first = list;
        list = next;
    }
    spin_unlock(&sh->lock);
    free(p);
    while (first) { /* a waiter is its owner's again as soon as it is told */
        struct cache_waiter *next = first->next;
        loop_post(first->loop, &first->message);
        first = next;
    }
}

bool cache_leave(struct cache_store *s, const struct cache_key *key, struct cache_waiter *waiter)
{
    struct cache_shard *sh = cache_shard_of(s, key->hash);
    spin_lock(&sh->lock);
    bool was_listed = waiter->is_listed;
    if (was_listed) {
        struct cache_pending *p = *pending_at(sh, key);
        fb_assert(p != NULL);
        p->waiter_count--;
        *waiter->prev = waiter->next;
        if (waiter->next)
            waiter->next->prev = waiter->prev;
        waiter->is_listed = false;
    }
    spin_unlock(&sh->lock);
    return was_listed;
}
