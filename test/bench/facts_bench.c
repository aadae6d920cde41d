/* SPDX-License-Identifier: Apache-2.0 */
/* facts_bench: events per second through analytics alone, through the whole engine, and a sketch
 * insert.
 *
 * Scopes: everything, 8 routes, 4 services, 32 endpoints, 2 versions, 4 classes: all facts on.  A
 * tick each 100 ms of virtual time at 20,000 requests/s.  Run: facts_bench [millions of events],
 * one core, no other load. */
#include "analytics/sketch.h"
#include "base/clock.h"
#include "base/rng.h"
#include "control/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH 65536
#define EVENTS_PER_TICK 2000

static void name_target(struct engine *e, struct facts *f, enum ev_kind kind, uint16_t number,
                        uint16_t parent)
{
    struct ev_name n = EV_INIT(NAME, name, 1);
    n.kind = (uint8_t)kind;
    n.number = number;
    n.parent = parent;
    n.version = (uint16_t)(number % 2);
    snprintf(n.name, sizeof n.name, "%s %u", ev_kind_name((uint8_t)kind), number);
    engine_feed(e, &n.head, NULL);
    facts_feed(f, &n.head);
}

static void make_requests(struct ev_request *r)
{
    struct rng rng;
    rng_init(&rng, 1);
    for (uint32_t i = 0; i < BATCH; i++) {
        r[i] = EV_INIT(REQUEST, request, 0);
        r[i].endpoint = (uint16_t)rng_below(&rng, 32);
        r[i].service = r[i].endpoint % 4;
        r[i].route = (uint16_t)(r[i].service * 2 + rng_below(&rng, 2));
        r[i].class = (uint8_t)rng_below(&rng, 4);
        r[i].reason = REASON_ANSWERED;
        r[i].upstream_us = (uint32_t)(20000 * exp(rng_normal(&rng)));
        r[i].queue_us = rng_below(&rng, 2000);
        r[i].total_us = r[i].upstream_us + r[i].queue_us + 100;
        r[i].sent_bytes = 2000;
    }
}

static double rate(uint64_t events, uint64_t from_us)
{
    return (double)events / (double)(fb_mono_us() - from_us);
}

int main(int argc, char **argv)
{
    uint64_t events = (uint64_t)(argc > 1 ? atoi(argv[1]) : 4) * 1000000;
    struct ev_request *r = calloc(BATCH, sizeof *r);
    struct engine *e = engine_new();
    struct facts *f = facts_new(256);
    if (!r || !e || !f)
        return 1;
    make_requests(r);
    struct engine_conf conf = {.mode = EV_MODE_ACT};
    engine_configure(e, &conf);
    for (uint16_t i = 0; i < 8; i++)
        name_target(e, f, EV_KIND_ROUTE, i, i / 2);
    for (uint16_t i = 0; i < 4; i++)
        name_target(e, f, EV_KIND_SERVICE, i, EV_NONE);
    for (uint16_t i = 0; i < 32; i++)
        name_target(e, f, EV_KIND_ENDPOINT, i, i % 4);
    for (uint16_t i = 0; i < 2; i++)
        name_target(e, f, EV_KIND_VERSION, i, EV_NONE);

    static struct sketch s;
    uint64_t from_us = fb_mono_us();
    for (uint64_t i = 0; i < events * 8; i++)
        sketch_add(&s, r[i % BATCH].upstream_us);
    printf("sketch insert   %6.2f ns (n %llu)\n", 1e3 / rate(events * 8, from_us),
           (unsigned long long)s.n);

    static union ev_any room[256];
    for (int whole = 0; whole < 2; whole++) {
        uint64_t now_us = US_PER_S;
        from_us = fb_mono_us();
        for (uint64_t i = 0; i < events; i++) {
            struct ev_request *ev = &r[i % BATCH];
            ev->head.time_us = now_us + i * 50;
            if (whole)
                engine_feed(e, &ev->head, NULL);
            else
                facts_feed(f, &ev->head);
            if (i % EVENTS_PER_TICK == 0) {
                struct ev_tick t = EV_INIT(TICK, tick, now_us + i * 50);
                t.head.origin = EV_ORIGIN_BRAIN;
                struct engine_out out = {.at = room, .max = 256};
                if (whole)
                    engine_feed(e, &t.head, &out);
                else
                    facts_feed(f, &t.head);
            }
        }
        printf("%-15s %6.2f M events/s, one core\n", whole ? "whole engine" : "facts",
               rate(events, from_us));
    }
    struct ev_tick t = EV_INIT(TICK, tick, 0);
    uint64_t base_us = facts_now_us(f);
    from_us = fb_mono_us();
    for (uint32_t i = 1; i <= 100; i++) {
        t.head.time_us = base_us + i * 100000;
        facts_feed(f, &t.head);
    }
    printf("tick            %6.1f us for 47 scopes\n", (double)(fb_mono_us() - from_us) / 100);
    struct buf bytes;
    buf_init(&bytes, GIB);
    from_us = fb_mono_us();
    engine_save(e, &bytes);
    printf("snapshot        %6.2f MiB in %.1f ms\n", (double)bytes.len / (double)MIB,
           (double)(fb_mono_us() - from_us) / 1e3);
    buf_fini(&bytes);
    facts_free(f);
    engine_free(e);
    free(r);
    return 0;
}
