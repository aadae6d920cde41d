/* SPDX-License-Identifier: Apache-2.0 */
/* The cold-cache guard's forecast against what happens: 2,000 requests a second over 20,000 pages
 * with Zipf 0.8 on a cache for 4,000 of them, in virtual time.  It is emptied; then once everything
 * goes to the endpoints, and once only what their capacity allows while old answers fill in
 * (loops.md 5.7). */
#include "analytics/cold.h"
#include "base/assert.h"
#include "base/rng.h"
#include "reflex/evict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGES 20000u
#define ROOM 4000u
#define ITEM_BYTES 4096u
#define PER_TICK 200u /* of 100 ms */
#define GHOSTS 8192u
#define CAPACITY 1500.0 /* per second: 1.3 x the load with a warm cache */
#define WARM_TICKS 600u

struct item {
    struct evict_node node;
    bool is_in, is_old; /* old: purged, not yet fetched anew */
};
struct world {
    struct evict evict;
    struct evict_ghost ghosts[GHOSTS];
    struct item item[PAGES];
    struct curves *curves;
    struct rng rng;
    double cdf[PAGES];
};

struct tick {
    uint32_t fetched, spared;
};

static uint64_t hash_of(uint64_t key)
{
    uint64_t x = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 31);
}

static uint32_t page_of(struct world *w)
{
    double u = rng_unit(&w->rng);
    uint32_t low = 0, high = PAGES - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (w->cdf[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);
    fb_assert(w != NULL);
    double sum = 0;
    for (uint32_t i = 0; i < PAGES; i++)
        w->cdf[i] = sum += pow(i + 1, -0.8);
    for (uint32_t i = 0; i < PAGES; i++)
        w->cdf[i] /= sum;
    evict_init(&w->evict, (uint64_t)ROOM * ITEM_BYTES, w->ghosts, GHOSTS);
    w->curves = curves_new();
    rng_init(&w->rng, 11);
    return w;
}

static void world_free(struct world *w)
{
    curves_free(w->curves);
    free(w);
}

static void take_in(struct world *w, uint32_t page)
{
    struct evict_node *victim;
    struct item *i = &w->item[page];
    i->node = (struct evict_node){.hash = hash_of(page), .bytes = ITEM_BYTES};
    i->is_in = true;
    evict_insert(&w->evict, &i->node);
    while ((victim = evict_victim(&w->evict)) != NULL)
        FB_CONTAINER(victim, struct item, node)->is_in = false;
}

/* One tick; at most <room> requests go to the endpoints for pages that an old answer is there for.
 */
static struct tick play(struct world *w, double room)
{
    struct tick t = {0, 0};
    for (uint32_t n = 0; n < PER_TICK; n++) {
        uint32_t page = page_of(w);
        struct item *i = &w->item[page];
        struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, 1);
        s.key = hash_of(page);
        s.bytes = ITEM_BYTES;
        s.origin_us = 20000;
        s.references = 1;
        curves_feed(w->curves, &s);
        if (i->is_in)
            evict_hit(&i->node);
        if (i->is_in && (!i->is_old || t.fetched >= room)) {
            t.spared++;
            continue;
        }
        t.fetched++;
        i->is_old = false;
        if (!i->is_in)
            take_in(w, page);
    }
    return t;
}

static struct cold_view warm_up(struct world *w, double capacity, double *hit_ratio)
{
    struct tick sum = {0, 0};
    struct cold_view v;
    for (uint32_t n = 0; n < WARM_TICKS; n++) {
        struct tick t = play(w, INFINITY);
        if (n >= WARM_TICKS - 100) {
            sum.fetched += t.fetched;
            sum.spared += t.spared;
        }
    }
    *hit_ratio = sum.spared / (double)(sum.spared + sum.fetched);
    struct cold_seen seen = {.spared_per_s = sum.spared / 10.0,
                             .fetched_per_s = sum.fetched / 10.0,
                             .service_per_s = sum.fetched / 10.0,
                             .capacity_per_s = capacity,
                             .used_bytes = (double)ROOM * ITEM_BYTES,
                             .entries = ROOM};
    fb_assert(cold_predict(w->curves, 0, &seen, &v));
    return v;
}

static int test_number, failures;

static void between(double low, double value, double high, const char *what)
{
    bool is_ok = value >= low && value <= high;
    failures += !is_ok;
    printf("%sok %d - %s: %.3f, %.3f to %.3f\n", is_ok ? "" : "not ", ++test_number, what, value,
           low, high);
}

/* Everything is dropped: all that was spared arrives, and fades as was said. */
static void dropped_at_once(void)
{
    struct world *w = world_new();
    double hit_ratio, back_s = 0, first = 0;
    struct cold_view v = warm_up(w, NAN, &hit_ratio);
    evict_init(&w->evict, (uint64_t)ROOM * ITEM_BYTES, w->ghosts, GHOSTS);
    for (uint32_t i = 0; i < PAGES; i++)
        w->item[i].is_in = false;
    uint32_t spared = 0;
    for (uint32_t n = 1; n <= 600 && back_s == 0; n++) {
        struct tick t = play(w, INFINITY);
        if (n == 1)
            first = t.fetched * 10.0;
        spared = n % 5 == 1 ? t.spared : spared + t.spared;
        if (n % 5 == 0 && spared >= 0.9 * hit_ratio * 5 * PER_TICK)
            back_s = n / 10.0;
    }
    printf("# hit ratio %.3f, forecast %.0f/s and %.1f s; seen %.0f/s and %.1f s\n", hit_ratio,
           v.cold_per_s, v.refill_s, first, back_s);
    between(0.8, first / v.cold_per_s, 1.05, "load of the endpoints in the first 100 ms");
    between(0.6, back_s / v.refill_s, 1.6, "time until nine tenths of the hits are back");
    world_free(w);
}

/* A paced purge: the endpoints get what they can take, everybody gets an answer. */
static void paced(void)
{
    struct world *w = world_new();
    double hit_ratio, most = 0, second = 0, back_s = 0;
    struct cold_view v = warm_up(w, CAPACITY, &hit_ratio);
    for (uint32_t i = 0; i < PAGES; i++)
        w->item[i].is_old = w->item[i].is_in;
    for (uint32_t n = 1; n <= 600; n++) {
        struct tick t = play(w, CAPACITY / 10);
        uint32_t old = 0;
        second = n % 10 == 1 ? t.fetched : second + t.fetched;
        if (n % 10 == 0)
            most = fmax(most, second);
        for (uint32_t i = 0; i < PAGES; i++)
            old += w->item[i].is_in && w->item[i].is_old;
        if (back_s == 0 && old < ROOM / 4)
            back_s = n / 10.0;
    }
    printf("# load when empty %.2f x the capacity, forecast %.1f s; most %.0f/s, mostly new after "
           "%.1f s\n",
           v.load_ratio, v.refill_s, most, back_s);
    between(1.2, v.load_ratio, 1.4, "the forecast sees that it would be too much");
    /* pages that it has no old answer for come besides; here there is no queue where they wait */
    between(0, most / CAPACITY, 1.1, "requests to the endpoints in a second, of their capacity");
    between(0.3, back_s / v.refill_s, 2.5, "time until most of the cache is new");
    world_free(w);
}

int main(void)
{
    dropped_at_once();
    paced();
    printf("1..%d\n", test_number);
    return failures ? 1 : 0;
}
