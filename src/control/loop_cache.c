/* SPDX-License-Identifier: Apache-2.0 */
/* cache loop, every 30 s: memory goes where a megabyte saves most.
 *
 *   value of a step = requests that the larger cache would answer x what the endpoint takes for one
 *   from the route that loses least by 1 % of all memory to the one that gains most by it
 *
 * What is taken away must be fetched again, so near balance at most 2 % a minute move (loops.md
 * 2.7); what is worth little moves up to six times as fast.  With 2 % a minute two routes come to
 * 91 % of the hits of the best static split in ten minutes and to 83 % ten minutes after their
 * workloads changed places; with 8 % to 100 and 92; with 12 % to 100 and 98.  The
 * sum of the budgets never grows.  A tenth of advantage is needed: below it two routes would hand
 * the same megabyte to and fro. */
#include "base/assert.h"
#include "control/arbiter.h"

#include <math.h>

#define STEP_RATIO 0.01
#define STEPS_MAX 6.0
#define DEAD_BAND 1.10
#define FLOOR_KIB 1024.0
/* Requests behind a curve before it counts: its error is then about 3 %. */
/* Half of a curve is older than two minutes: a swap of workloads shows within two runs. */
#define FADE 0.84
#define VERIFY_MS 90000

struct side {
    uint16_t route;
    double kib, value_us; /* of one step, per faded count */
    struct curve_view view;
    bool is_found;
};

void loop_cache_feed(struct engine *e, const struct ev_cache_sample *s)
{
    if (s->route < KNOB_TARGETS_MAX)
        curves_feed(e->curves, s);
}

static double worth(const struct engine *e, uint16_t route, double kib)
{
    return curve_hits(e->curves, route, kib * 1024);
}

/* May the loop turn this knob now?  The other half of an exchange must not be refused. */
static bool is_free(const struct engine *e, uint16_t route)
{
    const struct knob_layer *l = &e->book.layer[KNOB_CACHE_KIB][route];
    const struct cell *c = &e->s.cell[KNOB_CACHE_KIB][route];
    return l->is_used && l->is_configured && !l->is_pinned && !l->is_frozen &&
           e->s.now_us >= c->cooldown_until_us;
}

static void submit(struct engine *e, const struct side *s, double to_kib, uint16_t reason)
{
    struct move m;
    move_init(&m, e, KNOB_CACHE_KIB, s->route);
    struct fact hits = {
        .value = s->view.requests > 0 ? worth(e, s->route, s->kib) / s->view.requests : NAN,
        .n = s->view.samples,
        .n_needed = CURVE_SAMPLES_MIN,
        .state = FACT_OK};
    m.d.to = to_kib;
    m.d.reason = reason;
    m.d.cause_us = e->s.now_us;
    m.d.threshold1 = DEAD_BAND;
    move_evidence(&m, 0, FACT_CACHE_HIT_RATIO, 120000, &hits);
    move_expect(&m, EXPECT_KEEP, FACT_CACHE_HIT_RATIO, FACT_60S, VERIFY_MS);
    arbiter_submit(e, &m);
}

void loop_cache_run(struct engine *e)
{
    struct side to = {.value_us = 0}, from = {.value_us = INFINITY};
    double total_kib = 0;
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ROUTE]; i++)
        if (control_layer(e, KNOB_CACHE_KIB, i)->is_configured)
            total_kib += control_value(e, KNOB_CACHE_KIB, i);
    double step_kib = floor(total_kib * STEP_RATIO);
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ROUTE]; i++) {
        struct side s = {.route = i, .is_found = true};
        if (!is_free(e, i))
            continue;
        s.kib = control_value(e, KNOB_CACHE_KIB, i);
        bool is_known = curve_view(e->curves, i, &s.view) && s.view.samples >= CURVE_SAMPLES_MIN;
        double now = worth(e, i, s.kib);
        if (is_known) {
            s.value_us = (worth(e, i, s.kib + step_kib) - now) * s.view.origin_us;
            if (s.value_us > to.value_us)
                to = s;
        }
        s.value_us = (now - worth(e, i, s.kib - step_kib)) * s.view.origin_us;
        double floor_kib = fmax(FLOOR_KIB, control_layer(e, KNOB_CACHE_KIB, i)->min);
        if (s.kib - step_kib >= floor_kib && s.value_us < from.value_us)
            from = s;
    }
    if (to.is_found && from.is_found && to.route != from.route && step_kib >= 1 &&
        to.kib + step_kib <= control_layer(e, KNOB_CACHE_KIB, to.route)->max &&
        to.value_us > DEAD_BAND * from.value_us) {
        double steps = from.value_us > 0 ? to.value_us / from.value_us : STEPS_MAX;
        double floor_kib = fmax(FLOOR_KIB, control_layer(e, KNOB_CACHE_KIB, from.route)->min);
        double most =
            fmin(from.kib - floor_kib, control_layer(e, KNOB_CACHE_KIB, to.route)->max - to.kib);
        double move_kib = fmin(floor(step_kib * fb_clamp(steps, 1, STEPS_MAX)), most);
        submit(e, &from, from.kib - move_kib, REASON_CACHE_SHRINK);
        submit(e, &to, to.kib + move_kib, REASON_CACHE_GROW);
    }
    curves_fade(e->curves, FADE);
}
