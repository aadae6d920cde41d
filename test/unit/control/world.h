/* SPDX-License-Identifier: Apache-2.0 */
/* world: an engine with one service ("shop", number 0), routes 0 and 1 and three endpoints, and a
 * virtual clock.
 *
 * Each helper makes one kind of event; decisions, outcomes and alerts of a tick are kept in <room>.
 */
#ifndef FB_TEST_CONTROL_WORLD_H
#define FB_TEST_CONTROL_WORLD_H
#include "base/rng.h"
#include "control/arbiter.h"
#include "control/control_int.h"
#include "control/verifier.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_near(got, want, share)                                                              \
    do {                                                                                           \
        double got_ = (got), want_ = (want);                                                       \
        if (!(fabs(got_ - want_) <= (share)*fabs(want_) + 1e-12))                                  \
            fail_msg("%s is %.9g, wanted %.9g within %g", #got, got_, want_, (double)(share));     \
    } while (0)

struct world {
    struct engine *e;
    uint64_t now_us;
    union ev_any room[4096]; /* everything that came out so far */
    size_t count;
};

static inline void world_name(struct world *w, enum ev_kind kind, uint16_t number, uint16_t parent,
                              const char *name)
{
    struct ev_name n = EV_INIT(NAME, name, w->now_us);
    n.kind = (uint8_t)kind;
    n.number = number;
    n.parent = parent;
    n.version = EV_NONE;
    snprintf(n.name, sizeof n.name, "%s", name);
    engine_feed(w->e, &n.head, NULL);
}

/* Configured: timeout 15 s, retries 10 %; everything else as the rows say. */
static inline void world_configure(struct world *w, enum ev_mode mode)
{
    static struct engine_target t[4];
    memset(t, 0, sizeof t);
    static const struct {
        enum ev_kind kind;
        const char *name;
    } who[] = {{EV_KIND_SERVICE, "shop"},
               {EV_KIND_ENDPOINT, "shop"},
               {EV_KIND_ROUTE, "shop /"},
               {EV_KIND_ROUTE, "shop /api/"}};
    for (size_t i = 0; i < 4; i++) {
        t[i].kind = who[i].kind;
        snprintf(t[i].name, sizeof t[i].name, "%s", who[i].name);
        for (size_t k = 0; k < KNOB_COUNT; k++)
            t[i].knob[k] = (struct knob_setting){NAN, NAN, NAN, mode};
        t[i].knob[KNOB_TIMEOUT_MS].configured = 15000;
        t[i].knob[KNOB_RETRY_PCT].configured = 10;
    }
    t[1].knob[KNOB_LIMIT].min = 2;
    t[1].knob[KNOB_LIMIT].max = 64;
    struct engine_conf conf = {.config_hash = 7, .targets = t, .target_count = 4, .mode = mode};
    engine_configure(w->e, &conf);
}

static inline struct world *world_new(enum ev_mode mode)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->e = engine_new();
    assert_non_null(w->e);
    w->now_us = 100 * US_PER_S;
    world_configure(w, mode);
    world_name(w, EV_KIND_SERVICE, 0, EV_NONE, "shop");
    world_name(w, EV_KIND_ROUTE, 0, 0, "shop /");
    world_name(w, EV_KIND_ROUTE, 1, 0, "shop /api/");
    world_name(w, EV_KIND_ENDPOINT, 0, 0, "shop 10.0.0.1:80");
    world_name(w, EV_KIND_ENDPOINT, 1, 0, "shop 10.0.0.2:80");
    world_name(w, EV_KIND_ENDPOINT, 2, 0, "shop 10.0.0.3:80");
    return w;
}

static inline void world_free(struct world *w)
{
    engine_free(w->e);
    free(w);
}

static inline void world_put(struct world *w, const struct ev_head *ev)
{
    struct engine_out out = {.at = w->room + w->count, .max = FB_COUNT(w->room) - w->count};
    engine_feed(w->e, ev, &out);
    assert_int_equal(out.dropped, 0);
    w->count += out.count;
}

static inline void world_tick(struct world *w, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        w->now_us += 100 * US_PER_MS;
        struct ev_tick t = EV_INIT(TICK, tick, w->now_us);
        t.head.origin = EV_ORIGIN_BRAIN;
        world_put(w, &t.head);
    }
}

static inline struct ev_request world_request(const struct world *w, uint16_t reason,
                                              uint32_t upstream_us)
{
    struct ev_request r = EV_INIT(REQUEST, request, w->now_us);
    r.reason = reason;
    r.upstream_us = upstream_us;
    r.total_us = upstream_us + 100;
    r.class = EV_CLASS_DEFAULT;
    r.status = 200;
    if (ev_reason_is_shed(reason))
        r.endpoint = EV_NONE;
    if (reason == REASON_UPSTREAM_TIMEOUT)
        r.flags = EV_REQUEST_FAILED | EV_REQUEST_CENSORED;
    if (reason == REASON_UPSTREAM_ERROR)
        r.flags = EV_REQUEST_FAILED;
    return r;
}

static inline void world_requests(struct world *w, uint16_t reason, uint32_t upstream_us,
                                  uint32_t times)
{
    struct ev_request r = world_request(w, reason, upstream_us);
    for (uint32_t i = 0; i < times; i++) {
        if (r.endpoint != EV_NONE)
            r.endpoint = (uint16_t)(i % 3);
        world_put(w, &r.head);
    }
}

static inline void world_gauge(struct world *w, uint32_t in_flight, uint32_t limit, uint16_t queued)
{
    struct ev_gauge g = EV_INIT(GAUGE, gauge, w->now_us);
    g.kind = EV_KIND_SERVICE;
    g.in_flight = in_flight;
    g.limit = limit;
    g.queued_default = queued;
    world_put(w, &g.head);
}

static inline void world_command(struct world *w, enum ev_verb verb, enum knob_id knob,
                                 uint16_t target, double value)
{
    struct ev_command c = EV_INIT(COMMAND, command, w->now_us);
    c.head.origin = EV_ORIGIN_BRAIN;
    c.verb = (uint8_t)verb;
    c.target = target;
    c.knob = (uint16_t)knob;
    c.loop = EV_NONE;
    c.target_kind = (uint8_t)knob_row((uint16_t)knob)->kind;
    c.value = value;
    snprintf(c.why, sizeof c.why, "test");
    world_put(w, &c.head);
}

/* The newest record of <type> with <reason> that came out, NULL when there is none. */
static inline const union ev_any *world_last(const struct world *w, enum ev_type type,
                                             uint16_t reason)
{
    for (size_t i = w->count; i-- > 0;) {
        const union ev_any *ev = &w->room[i];
        if (ev->head.type != type)
            continue;
        uint16_t has = type == EV_DECISION  ? ev->decision.reason
                       : type == EV_OUTCOME ? ev->outcome.reason
                                            : ev->alert.reason;
        if (reason == REASON_NONE || has == reason)
            return ev;
    }
    return NULL;
}

static inline const struct ev_decision *world_decision(const struct world *w, uint16_t reason)
{
    const union ev_any *ev = world_last(w, EV_DECISION, reason);
    return ev ? &ev->decision : NULL;
}

static inline const struct knob_layer *world_layer(const struct world *w, enum knob_id knob,
                                                   uint16_t target)
{
    return &engine_book(w->e)->layer[knob][target];
}

static inline double world_value(const struct world *w, enum knob_id knob, uint16_t target)
{
    return knob_effective(knob_row((uint16_t)knob), world_layer(w, knob, target), NULL);
}
#endif
