/* SPDX-License-Identifier: Apache-2.0 */
/* An empty cache before endpoints that can do a fifth of the load (loops.md 5.7, after a restart):
 * 2,000 requests a second, Zipf 0.9 over 8,000 pages, all of which the cache has room for; the
 * endpoint does 20 at a time, 50 ms each on average, the rest waits in it.  The gate is the real
 * one, with queue, classes and a learned limit; collapsing is modelled as the gateway does it:
 * those who waited for an answer that was shed are told together, and go by themselves the fourth
 * time.
 *
 * RESTART knows nothing of the endpoint; PURGED learned its limit from 100 requests a second that
 * the cache let through, and then everything is dropped; UNLIMITED is what it would be without.
 */
#include "base/assert.h"
#include "base/rng.h"
#include "reflex/gate.h"
#include "tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGES 8000u
#define RUN_MS 30000u
#define WARM_MS 60000u
#define PER_MS 2.0
#define PLACES 20u
#define FLYING_MAX 4096u
#define WORK_US 50000.0
#define COLLAPSE_US (5 * US_PER_S)
#define WAITS_MAX 3u

struct one {
    struct gate_ticket ticket; /* first: the gate gives it back */
    struct one *next;          /* of those who wait for a page, by arrival */
    struct one *newer, **link; /* all that are under way */
    uint64_t end_us, wait_until_us;
    uint32_t page, waits;
    uint8_t class;
    bool is_owner;
};
struct page {
    struct one *owner, *waiters;
    bool is_in;
};
struct count {
    double asked[EV_CLASS_COUNT], failed[EV_CLASS_COUNT], fetched, waited, back_s, most_per_s;
    double second[RUN_MS / 1000], hits[RUN_MS / 1000];
};
struct world {
    struct one *all;
    struct gate *gate;
    struct rng rng;
    struct page page[PAGES];
    double cdf[PAGES];
    struct one *flying[FLYING_MAX];
    uint64_t free_us[PLACES]; /* when each place of the endpoint is free */
    struct count n;
    uint64_t now_us, start_us;
};

static void go(struct world *w, struct one *o);
static void arrive_at_cache(struct world *w, struct one *o);

static void over(struct one *o)
{
    *o->link = o->newer;
    if (o->newer)
        o->newer->link = o->link;
    free(o);
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

static void failed(struct world *w, struct one *o)
{
    w->n.failed[o->class]++;
    over(o);
}

static void fly(struct world *w, struct one *o)
{
    uint64_t *place = &w->free_us[0];
    for (uint32_t i = 1; i < PLACES; i++)
        if (w->free_us[i] < *place)
            place = &w->free_us[i];
    uint64_t begin_us = *place > w->now_us ? *place : w->now_us;
    o->end_us = begin_us + (uint64_t)(-log(1 - rng_unit(&w->rng)) * WORK_US);
    *place = o->end_us;
    w->n.waited += begin_us - w->now_us > 100 * US_PER_MS;
    w->n.fetched++;
    w->n.second[(w->now_us - w->start_us) / US_PER_S % (RUN_MS / 1000)]++;
    uint32_t free_at = 0;
    while (free_at < FLYING_MAX && w->flying[free_at])
        free_at++;
    fb_assert(free_at < FLYING_MAX);
    w->flying[free_at] = o;
}

/* The owner has no answer: the gate had no room for it. */
static void owner_shed(struct world *w, struct page *p)
{
    p->owner = NULL;
    struct one *list = p->waiters;
    p->waiters = NULL;
    while (list) {
        struct one *next = list->next;
        arrive_at_cache(w, list);
        list = next;
    }
}

static void shed(struct world *w, struct one *o)
{
    struct page *p = &w->page[o->page];
    bool was_owner = o->is_owner;
    failed(w, o);
    if (was_owner)
        owner_shed(w, p);
}

static void drain(struct world *w)
{
    struct gate_ticket *t;
    while ((t = gate_next(w->gate, w->now_us)) != NULL) {
        struct one *o = FB_CONTAINER(t, struct one, ticket);
        if (t->state == GATE_IN_FLIGHT)
            fly(w, o);
        else
            shed(w, o);
    }
}

static void go(struct world *w, struct one *o)
{
    switch (gate_arrive(w->gate, &o->ticket, w->now_us)) {
    case GATE_SEND:
        fly(w, o);
        break;
    case GATE_WAIT:
        break;
    case GATE_SHED:
        shed(w, o);
        break;
    }
}

static void arrive_at_cache(struct world *w, struct one *o)
{
    struct page *p = &w->page[o->page];
    o->next = NULL;
    if (p->is_in) {
        over(o);
        return;
    }
    if (!p->owner) {
        p->owner = o;
        o->is_owner = true;
        go(w, o);
        return;
    }
    if (o->waits >= WAITS_MAX) {
        go(w, o);
        return;
    }
    if (o->waits++ == 0)
        o->wait_until_us = w->now_us + COLLAPSE_US;
    struct one **at = &p->waiters;
    while (*at)
        at = &(*at)->next;
    *at = o;
}

static void done(struct world *w, struct one *o)
{
    struct page *p = &w->page[o->page];
    gate_done(w->gate, &o->ticket, GATE_OK, w->now_us);
    p->is_in = true;
    bool was_owner = o->is_owner;
    over(o);
    if (was_owner) {
        p->owner = NULL;
        struct one *list = p->waiters;
        p->waiters = NULL;
        while (list) {
            struct one *next = list->next;
            over(list);
            list = next;
        }
    }
}

static void too_long(struct world *w)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        struct one **at = &w->page[i].waiters;
        while (*at) {
            struct one *o = *at;
            if (o->wait_until_us > w->now_us) {
                at = &o->next;
                continue;
            }
            *at = o->next;
            o->next = NULL;
            go(w, o);
            at = &w->page[i].waiters;
        }
    }
}

static void ask(struct world *w)
{
    static const double share[EV_CLASS_COUNT] = {0.2, 0.5, 0.8, 1};
    double u = rng_unit(&w->rng);
    struct one *o = calloc(1, sizeof *o);
    fb_assert(o != NULL);
    o->newer = w->all;
    o->link = &w->all;
    if (o->newer)
        o->newer->link = &o->newer;
    w->all = o;
    while (u > share[o->class])
        o->class ++;
    o->page = page_of(w);
    o->ticket = (struct gate_ticket){.arrive_us = w->now_us,
                                     .deadline_us = UINT64_MAX,
                                     .key_hash = rng_u64(&w->rng) | 1,
                                     .class = o->class,
                                     .is_idempotent = true};
    w->n.asked[o->class]++;
    w->n.hits[(w->now_us - w->start_us) / US_PER_S % (RUN_MS / 1000)] += w->page[o->page].is_in;
    arrive_at_cache(w, o);
}

enum start { RESTART, PURGED, UNLIMITED };

static struct world *world_new(uint64_t seed, enum start start)
{
    struct world *w = calloc(1, sizeof *w);
    struct gate_conf conf;
    fb_assert(w != NULL);
    double sum = 0;
    for (uint32_t i = 0; i < PAGES; i++) {
        w->cdf[i] = sum += pow(i + 1, -0.9);
        w->page[i].is_in = start == PURGED;
    }
    for (uint32_t i = 0; i < PAGES; i++)
        w->cdf[i] /= sum;
    gate_conf_default(&conf, 500 * US_PER_MS);
    conf.is_limit_learned = start != UNLIMITED;
    conf.limit_fixed = FLYING_MAX - 1;
    w->gate = gate_new(&conf, seed);
    fb_assert(w->gate && gate_endpoint_add(w->gate, NULL, 0) == 0);
    rng_init(&w->rng, seed);
    return w;
}

static void play(struct world *w, uint32_t ms, double *due_ms)
{
    w->now_us = ms * US_PER_MS;
    for (uint32_t i = 0; i < FLYING_MAX; i++)
        if (w->flying[i] && w->flying[i]->end_us <= w->now_us) {
            struct one *o = w->flying[i];
            w->flying[i] = NULL;
            done(w, o);
            drain(w);
        }
    for (; *due_ms < ms; *due_ms += -log(1 - rng_unit(&w->rng)) / PER_MS) {
        ask(w);
        drain(w);
    }
    if (ms % 100 == 0)
        too_long(w);
    if (ms % 5 == 0) {
        gate_tick(w->gate, w->now_us);
        drain(w);
    }
}

static struct count run(uint64_t seed, enum start start)
{
    struct world *w = world_new(seed, start);
    double due_ms = 0;
    uint32_t warm_ms = start == PURGED ? WARM_MS : 0;
    for (uint32_t ms = 0; ms < warm_ms; ms++) {
        if (ms % 10 == 0)
            w->page[page_of(w)].is_in = false;
        play(w, ms, &due_ms);
    }
    w->n = (struct count){.back_s = RUN_MS / 1000};
    w->start_us = warm_ms * US_PER_MS;
    for (uint32_t i = 0; i < PAGES; i++)
        w->page[i].is_in = false;
    for (uint32_t ms = 0; ms < RUN_MS; ms++)
        play(w, warm_ms + ms, &due_ms);
    struct count n = w->n;
    for (uint32_t s = 0; s < RUN_MS / 1000; s++) {
        n.most_per_s = fmax(n.most_per_s, n.second[s]);
        if (n.hits[s] >= 0.9 * PER_MS * 1000)
            n.back_s = fmin(n.back_s, s + 1);
    }
    while (w->all)
        over(w->all);
    gate_free(w->gate);
    free(w);
    return n;
}

struct mean {
    double failed_pct, class_pct[EV_CLASS_COUNT], waited_pct, back_s, most_per_s;
};

static struct mean mean_of(unsigned seeds, enum start start, const char *name)
{
    struct mean m = {0};
    for (unsigned seed = 1; seed <= seeds; seed++) {
        struct count n = run(seed, start);
        double asked = 0, failed = 0;
        for (int c = 0; c < EV_CLASS_COUNT; c++) {
            asked += n.asked[c];
            failed += n.failed[c];
            m.class_pct[c] += 100 * n.failed[c] / n.asked[c] / seeds;
        }
        m.failed_pct += 100 * failed / asked / seeds;
        m.waited_pct += 100 * n.waited / n.fetched / seeds;
        m.back_s += n.back_s / seeds;
        m.most_per_s += n.most_per_s / seeds;
    }
    printf("# %s: waited over 100 ms inside the endpoint %.2f %%, at most %.0f/s; refused %.2f %% "
           "(by class %.2f %.2f %.2f %.2f), nine tenths of hits after %.1f s\n",
           name, m.waited_pct, m.most_per_s, m.failed_pct, m.class_pct[0], m.class_pct[1],
           m.class_pct[2], m.class_pct[3], m.back_s);
    return m;
}

int main(int argc, char **argv)
{
    struct tap t = tap_begin(argc, argv);
    struct mean m = mean_of(t.seeds, RESTART, "restart");
    tap_at_most(&t, m.waited_pct, 1, "restart: of the fetches, %% that wait inside the endpoint");
    tap_at_most(&t, m.class_pct[0], 0.5, "restart: critical requests that are refused, %%");
    tap_at_most(&t, m.failed_pct, 7, "restart: all that are refused in 30 s, %%");
    tap_at_most(&t, m.back_s, 20, "restart: seconds until nine tenths are hits");
    m = mean_of(t.seeds, PURGED, "purged");
    tap_at_most(&t, m.waited_pct, 2, "purged: of the fetches, %% that wait inside the endpoint");
    tap_at_most(&t, m.class_pct[0], 0.5, "purged: critical requests that are refused, %%");
    tap_at_most(&t, m.failed_pct, 7, "purged: all that are refused in 30 s, %%");
    tap_at_most(&t, m.back_s, 20, "purged: seconds until nine tenths are hits");
    m = mean_of(1, UNLIMITED, "unlimited");
    tap_at_least(&t, m.waited_pct, 50,
                 "without a limit the endpoint itself is where they wait, %%");
    return tap_end(&t);
}
