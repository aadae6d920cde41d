/* SPDX-License-Identifier: Apache-2.0 */
/* Two references of the store keep an entry: that of its bucket and that of its queue.  Who takes
 * it out of one gives that reference back, so a victim can never vanish under the thread that
 * evicts it. Lock order: shard, then route. */
#include "gateway/cache_store_int.h"

#include "base/assert.h"

#include <malloc.h>
#include <stdlib.h>
#include <xxhash.h>

/* Memory that a piece really takes: what the allocator rounded up to, and its own word. */
static uint64_t cost_of(void *piece)
{
    return piece ? malloc_usable_size(piece) + sizeof(size_t) : 0;
}

static bool make_room(struct cache_store *s, uint16_t route, uint64_t bytes);
static void evict_over(struct cache_store *s, struct evict_node *victims);

struct cache_store *cache_store_new(uint64_t seed)
{
    fb_assert(seed != 0);
    struct cache_store *s = aligned_alloc(FB_CACHE_LINE_BYTES, sizeof *s);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    s->seed = seed;
    return s;
}

void cache_store_free(struct cache_store *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (atomic_load(&s->routes[i]))
            cache_store_budget(s, (uint16_t)i, 0);
    for (uint32_t i = 0; i < CACHE_SHARDS; i++)
        free(s->shards[i].buckets);
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        struct cache_route *r = atomic_load(&s->routes[i]);
        if (r)
            free(r->evict.ghosts);
        free(r);
    }
    free(s);
}

void cache_store_limit(struct cache_store *s, uint64_t memory_bytes)
{
    atomic_store_explicit(&s->limit_bytes, memory_bytes, memory_order_relaxed);
}

static struct cache_route *route_of(const struct cache_store *s, uint16_t route)
{
    return route < KNOB_TARGETS_MAX ? atomic_load_explicit(&s->routes[route], memory_order_acquire)
                                    : NULL;
}

/* First thread only: routes come with configurations. */
static struct cache_route *route_new(struct cache_store *s, uint16_t route, uint64_t budget_bytes)
{
    uint32_t slots = 1024;
    while (slots < 65536 && slots < budget_bytes / (4 * KIB))
        slots *= 2;
    struct cache_route *r = aligned_alloc(FB_CACHE_LINE_BYTES, sizeof *r);
    struct evict_ghost *ghosts = calloc(slots, sizeof *ghosts);
    if (!r || !ghosts) {
        free(r);
        free(ghosts);
        return NULL;
    }
    memset(r, 0, sizeof *r);
    evict_init(&r->evict, budget_bytes, ghosts, slots);
    atomic_fetch_add_explicit(&s->used_bytes, cost_of(ghosts) + cost_of(r), memory_order_relaxed);
    atomic_store_explicit(&s->routes[route], r, memory_order_release);
    return r;
}

/* What is over the budget, out of its queues: a list by <older>.  Under the route's lock. */
static struct evict_node *take_victims(struct cache_route *r)
{
    struct evict_node *victims = NULL, *node;
    while ((node = evict_victim(&r->evict)) != NULL) {
        node->older = victims;
        victims = node;
        r->evicted++;
    }
    return victims;
}

void cache_store_budget(struct cache_store *s, uint16_t route, uint64_t budget_bytes)
{
    if (route >= KNOB_TARGETS_MAX)
        return;
    struct cache_route *r = route_of(s, route);
    if (!r && (budget_bytes == 0 || !(r = route_new(s, route, budget_bytes))))
        return;
    spin_lock(&r->lock);
    r->evict.budget_bytes = budget_bytes;
    struct evict_node *victims = take_victims(r);
    spin_unlock(&r->lock);
    evict_over(s, victims);
}

uint64_t cache_hash(const struct cache_store *s, uint16_t route, struct span text)
{
    return XXH3_64bits_withSeed(text.at, text.len,
                                s->seed ^ ((uint64_t)route * 0x9e3779b97f4a7c15u));
}

uint64_t cache_tag_hash(const struct cache_store *s, struct span tag)
{
    return XXH3_64bits_withSeed(tag.at, tag.len, s->seed);
}

struct cache_shard *cache_shard_of(struct cache_store *s, uint64_t hash)
{
    return &s->shards[hash >> 58];
}

static struct cache_entry **bucket_of(struct cache_shard *sh, uint64_t hash)
{
    return &sh->buckets[hash & sh->mask];
}

static bool is_key(const struct cache_entry *e, const struct cache_key *key)
{
    return e->node.hash == key->hash && e->route == key->route && span_eq(e->key, key->text);
}

struct cache_entry *cache_find(struct cache_store *s, const struct cache_key *key,
                               const struct http1_head *head, bool *has_others)
{
    struct cache_shard *sh = cache_shard_of(s, key->hash);
    struct cache_entry *found = NULL;
    *has_others = false;
    spin_lock(&sh->lock);
    for (struct cache_entry *e = sh->buckets ? *bucket_of(sh, key->hash) : NULL; e; e = e->next) {
        if (!is_key(e, key))
            continue;
        if (e->version != key->version ||
            (e->variant.len && !cache_variant_fits(e->variant, head))) {
            *has_others = true;
            continue;
        }
        cache_entry_ref(e);
        found = e;
        break;
    }
    spin_unlock(&sh->lock);
    if (found)
        evict_hit(&found->node);
    return found;
}

void cache_entry_ref(struct cache_entry *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
}

void cache_entry_unref(struct cache_store *s, struct cache_entry *e)
{
    if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
        return;
    fb_assert(e->node.queue == EVICT_NONE);
    cache_body_unref(s, e->body);
    atomic_fetch_sub_explicit(&s->used_bytes, cost_of(e), memory_order_relaxed);
    free(e);
}

static struct span keep(char **at, struct span text)
{
    char *to = *at;
    if (text.len)
        memcpy(to, text.at, text.len);
    *at += text.len;
    return (struct span){to, text.len};
}

struct cache_entry *cache_entry_new(struct cache_store *s, const struct cache_making *m)
{
    size_t tag_bytes = m->tag_count * sizeof(uint64_t);
    size_t bytes = sizeof(struct cache_entry) + tag_bytes + m->key.text.len + m->variant.len +
                   m->head.len + m->etag.len + m->last_modified.len;
    if (!make_room(s, m->key.route, bytes))
        return NULL;
    struct cache_entry *e = malloc(bytes);
    if (!e)
        return NULL;
    atomic_fetch_add_explicit(&s->used_bytes, cost_of(e), memory_order_relaxed);
    *e = (struct cache_entry){.refs = 1,
                              .route = m->key.route,
                              .version = m->key.version,
                              .tag_count = m->tag_count,
                              .node.hash = m->key.hash};
    char *at = (char *)(e + 1);
    e->tags = (void *)at;
    if (tag_bytes)
        memcpy(at, m->tags, tag_bytes);
    at += tag_bytes;
    e->text = at;
    e->key = keep(&at, m->key.text);
    e->variant = keep(&at, m->variant);
    e->head = keep(&at, m->head);
    e->etag = keep(&at, m->etag);
    e->last_modified = keep(&at, m->last_modified);
    return e;
}

struct cache_body *cache_body_new(struct cache_store *s)
{
    struct cache_body *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->refs = 1;
    b->cost_bytes = cost_of(b);
    atomic_fetch_add_explicit(&s->used_bytes, b->cost_bytes, memory_order_relaxed);
    return b;
}

void cache_body_unref(struct cache_store *s, struct cache_body *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    atomic_fetch_sub_explicit(&s->used_bytes, b->cost_bytes, memory_order_relaxed);
    while (b->first) {
        struct cache_segment *next = b->first->next;
        free(b->first);
        b->first = next;
    }
    for (uint32_t i = 0; i < CACHE_CODINGS; i++)
        cache_body_unref(s, atomic_load_explicit(&b->coded[i], memory_order_relaxed));
    free(b);
}

/* As large as is known to come; without that knowledge doubling from 4 KiB, so that at most half of
 * a body's memory is unused. */
static struct cache_segment *segment_new(struct cache_store *s, const struct cache_body *b,
                                         size_t need, uint64_t expected_bytes)
{
    uint64_t room =
        expected_bytes > b->bytes ? expected_bytes - b->bytes : fb_max_u64(b->bytes, 4 * KIB);
    room = fb_min_u64(fb_max_u64(room, fb_min_u64(need, CACHE_SEGMENT_BYTES)), CACHE_SEGMENT_BYTES);
    struct cache_segment *seg = malloc(sizeof *seg + room);
    if (!seg)
        return NULL;
    *seg = (struct cache_segment){.cap = (uint32_t)room};
    atomic_fetch_add_explicit(&s->used_bytes, cost_of(seg), memory_order_relaxed);
    return seg;
}

bool cache_body_add(struct cache_store *s, struct cache_body *b, uint16_t route, struct span data,
                    uint64_t expected_bytes)
{
    while (data.len) {
        struct cache_segment *last = b->last;
        if (!last || last->len == last->cap) {
            if (!make_room(s, route, fb_min_u64(data.len, CACHE_SEGMENT_BYTES)))
                return false;
            struct cache_segment *seg = segment_new(s, b, data.len, expected_bytes);
            if (!seg)
                return false;
            *(last ? &last->next : &b->first) = seg;
            b->last = last = seg;
            b->cost_bytes += cost_of(seg);
        }
        size_t n = fb_min_u64(data.len, last->cap - last->len);
        memcpy(last->at + last->len, data.at, n);
        last->len += (uint32_t)n;
        b->bytes += n;
        data.at += n;
        data.len -= n;
    }
    return true;
}

/* Out of its bucket, under the shard's lock; the bucket's reference is the caller's then. */
static bool unlink_entry(struct cache_shard *sh, struct cache_entry *e)
{
    if (!atomic_load_explicit(&e->is_published, memory_order_relaxed))
        return false;
    struct cache_entry **at = bucket_of(sh, e->node.hash);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    e->next = NULL;
    sh->count--;
    atomic_store_explicit(&e->is_published, false, memory_order_relaxed);
    return true;
}

/* Out of its queue, under no lock but the route's; true: the queue's reference is the caller's. */
static bool unqueue(struct cache_store *s, struct cache_entry *e)
{
    struct cache_route *r = route_of(s, e->route);
    spin_lock(&r->lock);
    bool was_queued = e->node.queue != EVICT_NONE;
    evict_remove(&r->evict, &e->node);
    spin_unlock(&r->lock);
    return was_queued;
}

void cache_remove(struct cache_store *s, struct cache_entry *e)
{
    struct cache_shard *sh = cache_shard_of(s, e->node.hash);
    spin_lock(&sh->lock);
    bool was_linked = unlink_entry(sh, e);
    spin_unlock(&sh->lock);
    if (!was_linked)
        return;
    if (unqueue(s, e))
        cache_entry_unref(s, e);
    cache_entry_unref(s, e);
}

/* Gives back what was taken out of buckets: a list by <next>. */
static void drop_list(struct cache_store *s, struct cache_entry *list)
{
    while (list) {
        struct cache_entry *next = list->next;
        list->next = NULL;
        if (unqueue(s, list))
            cache_entry_unref(s, list);
        cache_entry_unref(s, list);
        list = next;
    }
}

uint32_t cache_remove_key(struct cache_store *s, const struct cache_key *key)
{
    struct cache_shard *sh = cache_shard_of(s, key->hash);
    struct cache_entry *out = NULL;
    uint32_t count = 0;
    spin_lock(&sh->lock);
    struct cache_entry *e = sh->buckets ? *bucket_of(sh, key->hash) : NULL;
    while (e) {
        struct cache_entry *next = e->next;
        if (is_key(e, key) && unlink_entry(sh, e)) {
            e->next = out;
            out = e;
            count++;
        }
        e = next;
    }
    spin_unlock(&sh->lock);
    drop_list(s, out);
    return count;
}

/* Twice as many buckets; without memory the chains grow longer. */
static void widen(struct cache_store *s, struct cache_shard *sh)
{
    uint64_t room = sh->buckets ? 2 * (sh->mask + 1) : 64;
    struct cache_entry **wider = calloc(room, sizeof(struct cache_entry *));
    if (!wider)
        return;
    for (uint64_t i = 0; sh->buckets && i <= sh->mask; i++)
        for (struct cache_entry *e = sh->buckets[i], *next; e; e = next) {
            next = e->next;
            struct cache_entry **at = &wider[e->node.hash & (room - 1)];
            while (*at) /* the newest of a key stays the first */
                at = &(*at)->next;
            *at = e;
            e->next = NULL;
        }
    atomic_fetch_add_explicit(&s->used_bytes, cost_of(wider) - cost_of(sh->buckets),
                              memory_order_relaxed);
    free(sh->buckets);
    sh->buckets = wider;
    sh->mask = room - 1;
}

/* What <e> replaces: the same variant, and the oldest of too many. */
static struct cache_entry *unlink_replaced(struct cache_shard *sh, const struct cache_entry *e)
{
    struct cache_key key = {.hash = e->node.hash, .route = e->route, .text = e->key};
    struct cache_entry *out = NULL, *next;
    uint32_t variants = 0;
    for (struct cache_entry *at = *bucket_of(sh, key.hash); at; at = next) {
        next = at->next;
        if (!is_key(at, &key))
            continue;
        bool is_same = at->version == e->version && span_eq(at->variant, e->variant);
        if (!is_same && ++variants < CACHE_VARIANTS_MAX)
            continue;
        unlink_entry(sh, at);
        at->next = out;
        out = at;
    }
    return out;
}

uint64_t cache_cost(struct cache_entry *e)
{
    const struct cache_body *b = e->body;
    return cost_of(e) +
           (b ? b->cost_bytes + atomic_load_explicit(&b->coded_cost_bytes, memory_order_relaxed)
              : 0);
}

void cache_publish(struct cache_store *s, struct cache_entry *e)
{
    struct cache_shard *sh = cache_shard_of(s, e->node.hash);
    struct cache_route *r = route_of(s, e->route);
    fb_assert(e->node.queue == EVICT_NONE);
    e->node.bytes = cache_cost(e);
    if (!r)
        return;
    if (e->node.bytes > r->evict.budget_bytes / 2) { /* it would push out everything else */
        spin_lock(&r->lock);
        r->refused++;
        spin_unlock(&r->lock);
        return;
    }
    spin_lock(&sh->lock);
    if (!sh->buckets || sh->count > sh->mask)
        widen(s, sh);
    if (!sh->buckets) {
        spin_unlock(&sh->lock);
        return;
    }
    struct cache_entry *out = unlink_replaced(sh, e);
    struct cache_entry **at = bucket_of(sh, e->node.hash);
    e->next = *at;
    *at = e;
    sh->count++;
    atomic_store_explicit(&e->is_published, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->refs, 2, memory_order_relaxed);
    e->node.bytes = cache_cost(e); /* a coded form may have come to its body until here */
    spin_lock(&r->lock);
    evict_insert(&r->evict, &e->node);
    r->stored++;
    struct evict_node *victims = take_victims(r);
    spin_unlock(&r->lock);
    spin_unlock(&sh->lock);
    drop_list(s, out);
    evict_over(s, victims);
}

bool cache_add_coded(struct cache_store *s, struct cache_entry *e, uint32_t coding,
                     struct cache_body *coded)
{
    struct cache_shard *sh = cache_shard_of(s, e->node.hash);
    struct cache_route *r = route_of(s, e->route);
    struct cache_body *b = e->body;
    struct evict_node *victims = NULL;
    spin_lock(&sh->lock);
    for (e = sh->buckets ? *bucket_of(sh, e->node.hash) : NULL; e && e->body != b;)
        e = e->next;
    spin_lock(&r->lock);
    bool is_kept = e && e->node.queue != EVICT_NONE &&
                   e->node.bytes + coded->cost_bytes <= r->evict.budget_bytes / 2;
    if (is_kept) {
        evict_grow(&r->evict, &e->node, coded->cost_bytes);
        atomic_fetch_add_explicit(&b->coded_cost_bytes, coded->cost_bytes, memory_order_relaxed);
        atomic_store_explicit(&b->coded[coding], coded, memory_order_release);
        victims = take_victims(r);
    }
    spin_unlock(&r->lock);
    spin_unlock(&sh->lock);
    evict_over(s, victims);
    return is_kept;
}

/* Victims are out of their queues: their queue references are ours.  A list by <older>. */
static void evict_over(struct cache_store *s, struct evict_node *victims)
{
    while (victims) {
        struct cache_entry *e = FB_CONTAINER(victims, struct cache_entry, node);
        struct cache_shard *sh = cache_shard_of(s, e->node.hash);
        victims = victims->older;
        e->node.older = NULL;
        spin_lock(&sh->lock);
        bool was_linked = unlink_entry(sh, e);
        spin_unlock(&sh->lock);
        if (was_linked)
            cache_entry_unref(s, e);
        cache_entry_unref(s, e);
    }
}

/* Evicts of the same route until <bytes> more fit into the store; false when they do not, because
 * what is evicted is still being written, or others fill the memory. */
static bool make_room(struct cache_store *s, uint16_t route, uint64_t bytes)
{
    uint64_t limit = atomic_load_explicit(&s->limit_bytes, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&s->used_bytes, memory_order_relaxed);
    struct cache_route *r = route_of(s, route);
    if (!r || bytes > limit)
        return false;
    if (used + bytes <= limit)
        return true;
    uint64_t over = used + bytes - limit;
    spin_lock(&r->lock);
    uint64_t budget = r->evict.budget_bytes;
    r->evict.budget_bytes = fb_sub_floor_u64(evict_used(&r->evict), over);
    struct evict_node *victims = take_victims(r);
    r->evict.budget_bytes = budget;
    spin_unlock(&r->lock);
    evict_over(s, victims);
    used = atomic_load_explicit(&s->used_bytes, memory_order_relaxed);
    if (used + bytes <= limit)
        return true;
    spin_lock(&r->lock);
    r->refused++;
    spin_unlock(&r->lock);
    return false;
}

void cache_stats(struct cache_store *s, uint16_t route, struct cache_stats *out)
{
    struct cache_route *r = route_of(s, route);
    *out = (struct cache_stats){0};
    if (!r)
        return;
    spin_lock(&r->lock);
    *out = (struct cache_stats){.used_bytes = evict_used(&r->evict),
                                .budget_bytes = r->evict.budget_bytes,
                                .entries = r->evict.small.count + r->evict.main.count,
                                .stored = r->stored,
                                .evicted = r->evicted,
                                .refused = r->refused};
    spin_unlock(&r->lock);
}

void cache_refer(struct cache_store *s, uint16_t route)
{
    struct cache_route *r = route_of(s, route);
    if (r)
        atomic_fetch_add_explicit(&r->references, 1, memory_order_relaxed);
}

uint32_t cache_take_references(struct cache_store *s, uint16_t route)
{
    struct cache_route *r = route_of(s, route);
    return r ? atomic_exchange_explicit(&r->references, 0, memory_order_relaxed) : 0;
}

bool cache_has_route(const struct cache_store *s, uint16_t route)
{
    return route_of(s, route) != NULL;
}

uint64_t cache_used(const struct cache_store *s)
{
    return atomic_load_explicit(&s->used_bytes, memory_order_relaxed);
}

/* ---- purge ---- */

static bool is_purged(const struct cache_store *s, const struct cache_entry *e,
                      const struct cache_purge *p)
{
    switch (p->kind) {
    case CACHE_PURGE_ALL:
        return true;
    case CACHE_PURGE_URL:
        return span_eq(e->key, p->text);
    case CACHE_PURGE_PREFIX:
        return span_starts(e->key, p->text);
    case CACHE_PURGE_TAG:
        break;
    }
    uint64_t hash = cache_tag_hash(s, p->text);
    for (uint16_t i = 0; i < e->tag_count; i++)
        if (e->tags[i] == hash)
            return true;
    return false;
}

uint64_t cache_purge_part(struct cache_store *s, const struct cache_purge *p, uint32_t shard)
{
    struct cache_shard *sh = &s->shards[shard];
    struct cache_entry *out = NULL, *next;
    uint64_t hit = 0;
    spin_lock(&sh->lock);
    for (uint64_t i = 0; sh->buckets && i <= sh->mask; i++)
        for (struct cache_entry *e = sh->buckets[i]; e; e = next) {
            next = e->next;
            if (!is_purged(s, e, p))
                continue;
            hit++;
            if (p->paced_us) {
                atomic_store_explicit(&e->purged_us, p->paced_us, memory_order_relaxed);
                continue;
            }
            unlink_entry(sh, e);
            e->next = out;
            out = e;
        }
    spin_unlock(&sh->lock);
    drop_list(s, out);
    return hit;
}
