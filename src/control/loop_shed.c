/* SPDX-License-Identifier: Apache-2.0 */
/* shed loop, every 500 ms per service: which share of the arrivals is refused at the door, lowest
 * classes first.
 *
 *   capacity = sent x limit / in flight      what the service would do with all its slots busy
 *   e = (passed - 1.2 capacity) / passed     passed: what the threshold let in
 *   integral += 0.7 e (1 - share);  share = integral + 0.1 e (1 - share)
 *
 * The queue has strict priority and a bounded wait: it refuses by itself what is too much, lowest
 * class first, and it must never run dry.  So the door only cuts what the queue cannot use, beyond
 * 1.2 x the capacity; at exactly the capacity every fluctuation left slots empty (5 % of goodput at
 * twice the capacity).
 *
 * e (1 - share) is exactly (share needed - share), so the loop gain is 0.7 whatever the overload:
 * with a bare 0.7 e it would be 3.5 at five times the capacity, and oscillate.  0.7 = 1.4 per
 * second x 0.5 s (loops.md 2.3); halved it needs 5 s for a ramp, doubled it rings.  The share
 * becomes a threshold by the classes of the last arrivals.  Critical requests (level < 128) are
 * never refused here.
 *
 * Between two runs, each 100 ms: an empty queue and free slots open the door at once. */
#include "base/assert.h"
#include "control/arbiter.h"

#include <math.h>
#include <string.h>

#define PERIOD_MS 500
#define GAIN_I 0.7
#define GAIN_P 0.1
/* One service with less than 20 arrivals in half a second has no overload that a share describes.
 */
#define ARRIVED_MIN 20
/* What is let in, in capacities; between 1.08 and 1.35 of them the integral rests: without this
 * band it cycles by 20 levels every 10 s. */
#define HEADROOM 1.2
#define ERROR_DEAD_HIGH 0.11
#define ERROR_DEAD_LOW -0.11
#define ERROR_LARGE 0.3
/* 300 arrivals in half a second scatter by 6 %; smoothed over about 1.5 s by 3 %, which the band
 * takes. */
#define ERROR_WEIGHT 0.4
/* Below a share of 1 % the door is open. */
#define SHARE_DEAD 0.01
/* Open at once: nobody waits and a quarter of the slots is free, twice 100 ms in a row.  In
 * overload the head-room keeps the queue from running dry that long. */
#define FREE_RATIO 0.75
#define FREE_TICKS 2
/* A move must change what passes by 2 %, against the last direction by 5 %: less than the width of
 * the resting band, so that a turn ends inside it.  (20 levels instead cycled for ever at twice the
 * capacity.) */
#define STEP_MIN 0.02
#define TURN_MIN 0.05
#define LEVEL_MIN 128
#define LEVEL_ALL 512

struct view {
    double arrived, passed, sent, capacity, error, queued;
    struct fact in_flight, limit, queue;
};

void loop_shed_feed(struct engine *e, const struct ev_request *r)
{
    if (r->service >= KNOB_TARGETS_MAX || r->class >= EV_CLASS_COUNT)
        return;
    struct shed_loop *l = &e->s.shed[r->service];
    l->cause_us = r->head.time_us;
    l->arrived[r->class]++;
    l->at_door += r->reason == REASON_SHED_PRIORITY;
    l->in_queue += r->reason == REASON_SHED_QUEUE_FULL || r->reason == REASON_SHED_QUEUE_WAIT ||
                   r->reason == REASON_SHED_DEADLINE;
    l->sent += r->endpoint != EV_NONE && !ev_reason_is_shed(r->reason);
}

/* The level below which a share <share> of the arrivals is refused, from the lowest class upwards.
 */
static double level_of(const struct shed_loop *l, double share)
{
    double total = 0;
    for (int c = 0; c < EV_CLASS_COUNT; c++)
        total += l->histogram[c];
    if (total <= 0 || share <= 0)
        return LEVEL_ALL;
    for (int c = EV_CLASS_COUNT - 1; c >= EV_CLASS_DEFAULT; c--) {
        double part = l->histogram[c] / total;
        if (part >= share)
            return round(128.0 * c + 128.0 * (1.0 - share / part));
        share -= part;
    }
    return LEVEL_MIN;
}

/* The share of the arrivals that a level refuses: the inverse of level_of. */
static double share_of(const struct shed_loop *l, double level)
{
    double total = 0;
    double refused = 0;
    for (int c = 0; c < EV_CLASS_COUNT; c++) {
        total += l->histogram[c];
        if (c > EV_CLASS_CRITICAL)
            refused += l->histogram[c] * fb_clamp((128.0 * (c + 1) - level) / 128.0, 0, 1);
    }
    return total > 0 ? refused / total : 0;
}

static bool look(const struct engine *e, uint16_t service, const struct shed_loop *l,
                 struct view *v)
{
    struct fact_scope scope = control_scope(EV_KIND_SERVICE, service);
    v->in_flight = facts_get(e->facts, scope, FACT_IN_FLIGHT, FACT_1S);
    v->limit = facts_get(e->facts, scope, FACT_LIMIT, FACT_1S);
    v->queue = facts_get(e->facts, scope, FACT_QUEUED, FACT_100MS);
    if (v->in_flight.state != FACT_OK || v->limit.state != FACT_OK)
        return false;
    v->queued = v->queue.state == FACT_OK ? v->queue.value : 0;
    v->arrived = 0;
    for (int c = 0; c < EV_CLASS_COUNT; c++)
        v->arrived += l->arrived[c];
    v->sent = l->sent;
    /* what waits in the queue has passed the door too, and its event comes later */
    double grown = v->queued - (double)l->queued_before;
    v->passed = v->sent + l->in_queue + (grown > 0 ? grown : 0);
    double slots = v->limit.value > 0 ? v->limit.value / fmax(v->in_flight.value, 1.0) : 4.0;
    v->capacity = v->sent * fmax(slots, 1.0);
    double room = HEADROOM * v->capacity;
    v->error = v->passed > 0 ? fb_clamp((v->passed - room) / v->passed, -4.0, 1.0) : -1.0;
    return true;
}

static void decide(struct engine *e, uint16_t service, const struct shed_loop *l,
                   const struct view *v)
{
    struct move m;
    move_init(&m, e, KNOB_SHED_THRESHOLD, service);
    double level = l->share < SHARE_DEAD ? LEVEL_ALL : level_of(l, l->share);
    bool is_end = level == LEVEL_ALL || level == LEVEL_MIN;
    bool is_raise = level < m.d.from;
    uint8_t direction = e->s.cell[KNOB_SHED_THRESHOLD][service].direction;
    bool is_turn = direction == (is_raise ? DIRECTION_UP : DIRECTION_DOWN);
    double passes = 1 - share_of(l, m.d.from);
    double step = fabs(1 - share_of(l, level) - passes) / fmax(passes, 0.01);
    if (level == m.d.from || (step < (is_turn ? TURN_MIN : STEP_MIN) && !is_end))
        return;
    m.d.to = level;
    m.d.reason = is_raise ? REASON_SHED_RAISE : REASON_SHED_LOWER;
    m.d.cause_us = l->cause_us;
    m.is_protective = true; /* both ways serve users; the gain of the integral is the damping */
    double per_s = 1000.0 / PERIOD_MS;
    struct fact arrived = {
        .value = v->arrived * per_s, .n = (uint64_t)v->arrived, .n_needed = ARRIVED_MIN};
    struct fact sent = {.value = v->sent * per_s, .n = (uint64_t)v->sent};
    move_evidence(&m, 0, FACT_OFFERED_RATE, PERIOD_MS, &arrived);
    move_evidence(&m, 1, FACT_RATE, PERIOD_MS, &sent);
    move_evidence(&m, 2, FACT_QUEUED, fact_window_ms(FACT_100MS), &v->queue);
    move_evidence(&m, 3, FACT_IN_FLIGHT, fact_window_ms(FACT_1S), &v->in_flight);
    m.d.threshold1 = v->capacity * per_s;
    m.d.threshold2 = l->share;
    if (is_raise)
        move_expect(&m, EXPECT_LOWER, FACT_QUEUED, FACT_1S, 2500);
    else
        move_expect(&m, EXPECT_LOWER, FACT_SHED_RATIO, FACT_1S, 2500);
    arbiter_submit(e, &m);
}

static void integrate(struct shed_loop *l, double error, uint32_t halvings)
{
    double gain = GAIN_I;
    double seen = error;
    if (fabs(error) > ERROR_LARGE) {
        /* a ramp or its end is no noise and no cycle; what this step does not correct stays in the
         * filter */
        l->error = (1 - GAIN_I) * error;
    } else {
        l->error += ERROR_WEIGHT * (error - l->error);
        seen = l->error;
        gain /= (double)(1U << halvings);
    }
    if (seen > ERROR_DEAD_LOW && seen < ERROR_DEAD_HIGH)
        return;
    double most = share_of(l, LEVEL_MIN);
    l->integral = fb_clamp(l->integral + gain * seen * (1 - l->share), 0, most);
    l->share = fb_clamp(l->integral + GAIN_P * seen * (1 - l->share), 0, most);
}

static void run_one(struct engine *e, uint16_t service)
{
    struct shed_loop *l = &e->s.shed[service];
    struct view v;
    bool is_known = look(e, service, l, &v);
    for (int c = 0; c < EV_CLASS_COUNT; c++)
        l->histogram[c] = l->histogram[c] * 0.7 + l->arrived[c];
    const struct knob_layer *layer = control_layer(e, KNOB_SHED_THRESHOLD, service);
    if (layer->is_pinned || layer->is_frozen) {
        /* what the integral would collect now is not what it will have to answer later */
        l->integral = l->share = l->error = 0;
    } else if (is_known) {
        double error = v.arrived < ARRIVED_MIN && v.error > 0 ? 0 : v.error;
        integrate(l, error, e->s.cell[KNOB_SHED_THRESHOLD][service].halvings);
        l->queued_before = (uint32_t)v.queued;
        decide(e, service, l, &v);
    }
    memset(l->arrived, 0, sizeof l->arrived);
    l->at_door = l->in_queue = l->sent = 0;
}

/* The overload is over: what the door still refuses now has nobody to make room for. */
static void open_if_free(struct engine *e, uint16_t service)
{
    struct shed_loop *l = &e->s.shed[service];
    const struct knob_layer *layer = control_layer(e, KNOB_SHED_THRESHOLD, service);
    if (l->share <= 0 || layer->is_pinned || layer->is_frozen)
        return;
    struct fact_scope scope = control_scope(EV_KIND_SERVICE, service);
    struct view v = {.error = -1};
    v.in_flight = facts_get(e->facts, scope, FACT_IN_FLIGHT, FACT_100MS);
    v.limit = facts_get(e->facts, scope, FACT_LIMIT, FACT_100MS);
    v.queue = facts_get(e->facts, scope, FACT_QUEUED, FACT_100MS);
    bool is_free = v.in_flight.state == FACT_OK && v.limit.state == FACT_OK &&
                   v.queue.state == FACT_OK && v.queue.value < 1 &&
                   v.in_flight.value <= FREE_RATIO * v.limit.value;
    l->free_ticks = is_free ? l->free_ticks + 1 : 0;
    if (l->free_ticks < FREE_TICKS)
        return;
    for (int c = 0; c < EV_CLASS_COUNT; c++)
        v.arrived += l->arrived[c];
    v.sent = l->sent;
    v.capacity = v.sent * v.limit.value / fmax(v.in_flight.value, 1.0);
    l->integral = l->share = l->error = 0;
    decide(e, service, l, &v);
}

void loop_shed_run(struct engine *e, bool is_due)
{
    for (uint16_t i = 0; i < e->s.top[EV_KIND_SERVICE]; i++) {
        if (!control_layer(e, KNOB_SHED_THRESHOLD, i)->is_used)
            continue;
        open_if_free(e, i);
        if (is_due)
            run_one(e, i);
    }
}
