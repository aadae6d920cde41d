/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/evict.h"

#include "base/assert.h"

#include <string.h>

/* The small queue's share of the budget: the paper's 10 %, where its traces were best. */
#define SMALL_SHARE 10u
/* Hits in the small queue that earn a place in main.  One would let in every second visit of a
 * scan; three forgets what is asked for once an hour. */
#define PROMOTE_HITS 2u

static void push(struct evict_list *l, struct evict_node *node, enum evict_queue queue);
static void unlink_node(struct evict_list *l, struct evict_node *node);
static void remember(struct evict *e, uint64_t hash);
static bool recall(struct evict *e, uint64_t hash);

void evict_init(struct evict *e, uint64_t budget_bytes, struct evict_ghost *ghosts, uint32_t slots)
{
    fb_assert(slots >= EVICT_GHOST_WAYS);
    fb_assert((slots & (slots - 1)) == 0);
    *e = (struct evict){.budget_bytes = budget_bytes, .ghosts = ghosts, .ghost_mask = slots - 1};
}

void evict_insert(struct evict *e, struct evict_node *node)
{
    bool is_known = recall(e, node->hash);
    fb_assert(node->queue == EVICT_NONE);
    atomic_store_explicit(&node->hits, 0, memory_order_relaxed);
    push(is_known ? &e->main : &e->small, node, is_known ? EVICT_MAIN : EVICT_SMALL);
}

void evict_grow(struct evict *e, struct evict_node *node, uint64_t bytes)
{
    fb_assert(node->queue != EVICT_NONE);
    node->bytes += bytes;
    (node->queue == EVICT_SMALL ? &e->small : &e->main)->bytes += bytes;
}

void evict_remove(struct evict *e, struct evict_node *node)
{
    if (node->queue == EVICT_SMALL)
        unlink_node(&e->small, node);
    else if (node->queue == EVICT_MAIN)
        unlink_node(&e->main, node);
}

struct evict_node *evict_victim(struct evict *e)
{
    while (evict_used(e) > e->budget_bytes) {
        bool is_small_over = e->small.bytes > e->budget_bytes / SMALL_SHARE;
        bool is_from_small = e->small.oldest && (is_small_over || !e->main.oldest);
        struct evict_node *node = is_from_small ? e->small.oldest : e->main.oldest;
        fb_assert(node != NULL);
        uint8_t hits = atomic_load_explicit(&node->hits, memory_order_relaxed);
        unlink_node(is_from_small ? &e->small : &e->main, node);
        if (is_from_small && hits >= PROMOTE_HITS) {
            atomic_store_explicit(&node->hits, 0, memory_order_relaxed);
            push(&e->main, node, EVICT_MAIN);
            continue;
        }
        if (!is_from_small && hits > 0) { /* at most three rounds: hits only falls here */
            atomic_store_explicit(&node->hits, (uint8_t)(hits - 1), memory_order_relaxed);
            push(&e->main, node, EVICT_MAIN);
            continue;
        }
        if (is_from_small)
            remember(e, node->hash);
        return node;
    }
    return NULL;
}

static void push(struct evict_list *l, struct evict_node *node, enum evict_queue queue)
{
    node->queue = (uint8_t)queue;
    node->newer = NULL;
    node->older = l->newest;
    if (l->newest)
        l->newest->newer = node;
    else
        l->oldest = node;
    l->newest = node;
    l->bytes += node->bytes;
    l->count++;
}

static void unlink_node(struct evict_list *l, struct evict_node *node)
{
    fb_assert(l->count > 0);
    fb_assert(l->bytes >= node->bytes);
    *(node->newer ? &node->newer->older : &l->newest) = node->older;
    *(node->older ? &node->older->newer : &l->oldest) = node->newer;
    node->newer = node->older = NULL;
    node->queue = EVICT_NONE;
    l->bytes -= node->bytes;
    l->count--;
}

/* ---- ghosts: prints of keys in sets of four, the oldest of a set goes ---- */

static struct evict_ghost *ghost_set(const struct evict *e, uint64_t hash)
{
    return &e->ghosts[(uint32_t)hash & e->ghost_mask & ~(EVICT_GHOST_WAYS - 1)];
}

static uint32_t print_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1; /* 0 is an empty cell */
}

static void remember(struct evict *e, uint64_t hash)
{
    struct evict_ghost *set = ghost_set(e, hash), *oldest = set;
    e->ghost_number++;
    for (uint32_t i = 0; i < EVICT_GHOST_WAYS; i++) {
        if (set[i].print == 0) {
            oldest = &set[i];
            break;
        }
        if (e->ghost_number - set[i].number > e->ghost_number - oldest->number)
            oldest = &set[i];
    }
    *oldest = (struct evict_ghost){print_of(hash), e->ghost_number};
}

/* Takes the ghost out.  It counts while no more keys were remembered since than main has entries:
 * the paper's bound, which makes a ghost worth about one turn of the main queue. */
static bool recall(struct evict *e, uint64_t hash)
{
    struct evict_ghost *set = ghost_set(e, hash);
    uint64_t most = e->main.count + e->small.count;
    for (uint32_t i = 0; i < EVICT_GHOST_WAYS; i++) {
        if (set[i].print != print_of(hash))
            continue;
        bool is_recent = (uint64_t)(e->ghost_number - set[i].number) <= most;
        set[i] = (struct evict_ghost){0, 0};
        return is_recent;
    }
    return false;
}
