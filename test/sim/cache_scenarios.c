/* SPDX-License-Identifier: Apache-2.0 */
/* The cache loop over real S3-FIFO caches and the real curves, in virtual time: one route asks for
 * 100,000 pages with Zipf 0.8, the other walks over 60,000 files in a circle; 32 MiB for both.  Ten
 * minutes, then the workloads change places.  Pass band: 95 % of the hits of the best static split
 * (loops.md 2.7). */
#include "analytics/curve.h"
#include "base/assert.h"
#include "base/rng.h"
#include "control/engine.h"
#include "reflex/evict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES 100000u
#define FILES 60000u
#define ITEM_BYTES 2048u
#define MEMORY_KIB (32.0 * 1024)
#define RATE 200u /* of each route, per tick of 100 ms */
#define GHOSTS 16384u

struct item {
    struct evict_node node;
    bool is_in;
};
struct cache {
    struct evict evict;
    struct evict_ghost ghosts[GHOSTS];
    struct item item[PAGES + FILES];
    uint64_t at, hits, asked;
};

static double cdf[PAGES];

static void zipf_init(void)
{
    double sum = 0;
    for (uint32_t i = 0; i < PAGES; i++)
        cdf[i] = sum += pow(i + 1, -0.8);
    for (uint32_t i = 0; i < PAGES; i++)
        cdf[i] /= sum;
}

static uint32_t zipf(struct rng *rng)
{
    double u = (double)(rng_u64(rng) >> 11) / 9007199254740992.0;
    uint32_t low = 0, high = PAGES - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (cdf[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t hash_of(uint64_t key)
{
    uint64_t x = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 31);
}

static struct cache *cache_new(void)
{
    struct cache *c = calloc(1, sizeof *c);
    fb_assert(c != NULL);
    evict_init(&c->evict, 0, c->ghosts, GHOSTS);
    return c;
}

static bool ask(struct cache *c, uint32_t key)
{
    struct item *i = &c->item[key];
    struct evict_node *victim;
    c->asked++;
    if (i->is_in) {
        evict_hit(&i->node);
        c->hits++;
        return true;
    }
    i->node = (struct evict_node){.hash = hash_of(key), .bytes = ITEM_BYTES};
    i->is_in = true;
    evict_insert(&c->evict, &i->node);
    while ((victim = evict_victim(&c->evict)) != NULL)
        FB_CONTAINER(victim, struct item, node)->is_in = false;
    return false;
}

static void set_budget(struct cache *c, double kib)
{
    struct evict_node *victim;
    c->evict.budget_bytes = (uint64_t)(kib * 1024);
    while ((victim = evict_victim(&c->evict)) != NULL)
        FB_CONTAINER(victim, struct item, node)->is_in = false;
}

struct run {
    struct cache *cache[2];
    struct engine *engine; /* NULL: a static split */
    struct rng rng;
    uint64_t now_us, ticks;
    uint32_t moves;
};

static void feed(struct run *r, const struct ev_head *ev)
{
    static union ev_any out[512];
    struct engine_out o = {.at = out, .max = FB_COUNT(out)};
    engine_feed(r->engine, ev, &o);
    for (size_t i = 0; i < o.count; i++)
        r->moves += out[i].head.type == EV_DECISION && out[i].decision.is_applied;
}

static void request(struct run *r, uint16_t route, uint32_t key)
{
    bool is_hit = ask(r->cache[route], key);
    if (!r->engine)
        return;
    struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, r->now_us);
    s.key = hash_of(key + route * 1000000u);
    s.bytes = ITEM_BYTES;
    s.origin_us = is_hit ? 0 : 20000;
    s.references = 1;
    s.route = route;
    s.cache = is_hit ? EV_CACHE_HIT : EV_CACHE_MISS;
    feed(r, &s.head);
}

/* <seconds> with the skewed workload on <skewed>; returns the hit ratio of the last two minutes. */
static double play(struct run *r, uint16_t skewed, uint32_t seconds)
{
    uint64_t hits = 0, asked = 0;
    for (uint32_t tick = 0; tick < seconds * 10; tick++) {
        r->now_us += 100000;
        for (uint32_t i = 0; i < RATE; i++) {
            struct cache *scan = r->cache[1 - skewed];
            request(r, skewed, zipf(&r->rng));
            request(r, (uint16_t)(1 - skewed), PAGES + (uint32_t)(scan->at++ % FILES));
        }
        if (tick == (seconds - 120) * 10)
            for (int c = 0; c < 2; c++)
                r->cache[c]->hits = r->cache[c]->asked = 0;
        if (!r->engine)
            continue;
        struct ev_tick t = EV_INIT(TICK, tick, r->now_us);
        t.tick = ++r->ticks;
        feed(r, &t.head);
        for (uint16_t c = 0; c < 2; c++) {
            const struct knob_layer *l = &engine_book(r->engine)->layer[KNOB_CACHE_KIB][c];
            set_budget(r->cache[c], knob_effective(knob_row(KNOB_CACHE_KIB), l, NULL));
        }
    }
    for (int c = 0; c < 2; c++) {
        hits += r->cache[c]->hits;
        asked += r->cache[c]->asked;
    }
    return (double)hits / (double)asked;
}

static void begin(struct run *r, double first_kib)
{
    *r = (struct run){.cache = {cache_new(), cache_new()}, .now_us = 1000000};
    rng_init(&r->rng, 7);
    set_budget(r->cache[0], first_kib);
    set_budget(r->cache[1], MEMORY_KIB - first_kib);
}

static void end(struct run *r)
{
    free(r->cache[0]);
    free(r->cache[1]);
    engine_free(r->engine);
}

static void add_engine(struct run *r)
{
    static struct engine_target targets[2];
    r->engine = engine_new();
    for (uint16_t i = 0; i < 2; i++) {
        targets[i] = (struct engine_target){.kind = EV_KIND_ROUTE};
        snprintf(targets[i].name, sizeof targets[i].name, "route %u", i);
        for (int k = 0; k < KNOB_COUNT; k++)
            targets[i].knob[k] = (struct knob_setting){
                .configured = NAN, .min = NAN, .max = NAN, .mode = EV_MODE_ACT};
        targets[i].knob[KNOB_CACHE_KIB].configured = MEMORY_KIB / 2;
    }
    engine_configure(r->engine, &(struct engine_conf){
                                    .targets = targets, .target_count = 2, .mode = EV_MODE_ACT});
    for (uint16_t i = 0; i < 2; i++) {
        struct ev_name n = EV_INIT(NAME, name, r->now_us);
        n.number = i;
        n.parent = EV_NONE;
        n.kind = EV_KIND_ROUTE;
        memcpy(n.name, targets[i].name, strlen(targets[i].name));
        feed(r, &n.head);
    }
}

static int test_number, failures;

static void at_least(double value, double bound, const char *what)
{
    bool is_ok = value >= bound;
    failures += !is_ok;
    printf("%sok %d - %s: %.3f, at least %.3f\n", is_ok ? "" : "not ", ++test_number, what, value,
           bound);
}

int main(void)
{
    struct run r;
    double best = 0, equal = 0;
    zipf_init();
    for (int part = 10; part <= 97; part += 29) {
        begin(&r, MEMORY_KIB * part / 100);
        double got = play(&r, 0, 600);
        best = fmax(best, got);
        end(&r);
    }
    begin(&r, MEMORY_KIB / 2);
    equal = play(&r, 0, 600);
    end(&r);
    begin(&r, MEMORY_KIB / 2);
    add_engine(&r);
    double first = play(&r, 0, 600);
    double kib = (double)r.cache[0]->evict.budget_bytes / 1024;
    printf("# best static %.4f, equal %.4f, loop %.4f with %.0f %% for the skewed route\n", best,
           equal, first, 100 * kib / MEMORY_KIB);
    at_least(first / best, 0.95, "share of the best static split after ten minutes");
    double second = play(&r, 1, 600);
    kib = (double)r.cache[1]->evict.budget_bytes / 1024;
    printf("# swapped: loop %.4f with %.0f %%, %u moves\n", second, 100 * kib / MEMORY_KIB,
           r.moves);
    at_least(second / best, 0.95, "the same ten minutes after the workloads changed places");
    double sum = (double)(r.cache[0]->evict.budget_bytes + r.cache[1]->evict.budget_bytes) / 1024;
    at_least(MEMORY_KIB / sum, 0.9999, "the budgets never exceed the memory");
    end(&r);
    printf("1..%d\n", test_number);
    return failures ? 1 : 0;
}
