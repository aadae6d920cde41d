/* SPDX-License-Identifier: Apache-2.0 */
/* timeout loop, every second per route: how long to wait for the first byte.
 *
 *   aim = 2 x q99.9 of the last 60 s, waits given up counted as "longer" (Kaplan-Meier)
 *   above the present value: at once;  below: at most 10 % per 10 s, and only with 1,000 samples
 *   the first value learned replaces the configured guess in one step, after 60 s of watching
 *
 * Widen, then shed: more than 1 % time-outs double the value before more is cut.  Three cases look
 * alike: slower      answers pile up in the upper half of the timeout       -> double, again if
 * needed one hung    time-outs sit on endpoints that answer nothing while others answer -> hold:
 * ejection's work all silent  nothing tells slow from dead                           -> double once
 * a minute as a probe, and back when no answer came in the part that was won Without the last two
 * rules a hung backend would drag the timeout to its upper bound, which is what a timeout is there
 * to prevent. */
#include "base/assert.h"
#include "control/arbiter.h"

#include <math.h>
#include <string.h>

#define QUANTILE 0.999
#define FACTOR 2.0
#define FALL_RATIO 0.9
#define FALL_REST_MS 10000
#define WATCH_US (60 * US_PER_S) /* before the first learned value */
#define DEAD_BAND 1.05
#define WIDEN_RATIO 0.01
#define WIDEN_TIMEOUTS_MIN 3 /* two may be chance at low rates */
#define SENT_MIN 20
#define HALF_US (5 * US_PER_S)
#define PROBE_REST_US (60 * US_PER_S)
/* An endpoint of which half of the requests time out answers nothing worth waiting for. */
#define HUNG_RATIO 0.5
/* One answer in the upper half per four time-outs: the distribution moved, it is not cut off. */
#define UPPER_SHARE 0.25
/* A quantile that time-outs hide (0.1 .. 1 %) while answers pile up below: up by a quarter per 10
 * s. */
#define CREEP_RATIO 1.25

#define PROBE_NOTE "probe ended" /* for explain.c: this fall has no quantile behind it */

struct seen {
    uint32_t sent, timeouts, upper;
    double now_ms, min_ms, max_ms;
    struct fact quantile; /* us, 60 s */
};

void loop_timeout_feed(struct engine *e, const struct ev_request *r)
{
    if (r->route >= KNOB_TARGETS_MAX || r->endpoint == EV_NONE || ev_reason_is_shed(r->reason) ||
        r->flags & EV_REQUEST_STREAM)
        return;
    struct timeout_loop *l = &e->s.timeout[r->route];
    double timeout_us = control_value(e, KNOB_TIMEOUT_MS, r->route) * 1e3;
    if (l->first_us == 0)
        l->first_us = r->head.time_us;
    l->service = r->service;
    l->cause_us = r->head.time_us;
    l->sent[0]++;
    /* requests that were sent under a shorter timeout say nothing of the one in force */
    if (r->reason == REASON_UPSTREAM_TIMEOUT) {
        l->timeouts[0] += r->upstream_us >= 0.95 * timeout_us;
        l->run_timeouts++;
    } else if (!(r->flags & EV_REQUEST_CENSORED)) {
        bool is_upper = r->upstream_us > 0.5 * timeout_us;
        l->upper[0] += is_upper;
        l->run_upper += is_upper;
        l->run_answers++;
    }
}

static void forget_counts(struct timeout_loop *l, uint64_t now_us)
{
    memset(l->sent, 0, sizeof l->sent);
    memset(l->timeouts, 0, sizeof l->timeouts);
    memset(l->upper, 0, sizeof l->upper);
    l->half_from_us = now_us;
}

static void turn_halves(struct timeout_loop *l, uint64_t now_us)
{
    if (now_us - l->half_from_us < HALF_US)
        return;
    l->sent[1] = l->sent[0];
    l->timeouts[1] = l->timeouts[0];
    l->upper[1] = l->upper[0];
    l->sent[0] = l->timeouts[0] = l->upper[0] = 0;
    l->half_from_us = now_us;
}

/* Time-outs of one endpoint as a share of what it was sent, in the shortest window that knows. */
static struct fact timeout_ratio(const struct engine *e, uint16_t endpoint)
{
    struct fact_scope scope = control_scope(EV_KIND_ENDPOINT, endpoint);
    struct fact ratio = facts_get(e->facts, scope, FACT_TIMEOUT_RATIO, FACT_1S);
    if (ratio.state == FACT_INSUFFICIENT_DATA)
        ratio = facts_get(e->facts, scope, FACT_TIMEOUT_RATIO, FACT_10S);
    return ratio;
}

/* Some endpoints of the service answer nothing while the others hardly time out. */
static bool is_endpoint_hung(const struct engine *e, uint16_t service)
{
    uint32_t hung = 0;
    uint32_t healthy = 0;
    double timeouts = 0;
    double sent = 0;
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ENDPOINT]; i++) {
        const struct name_cell *name = &e->s.name[EV_KIND_ENDPOINT][i];
        if (!name->is_used || name->parent != service)
            continue;
        struct fact ratio = timeout_ratio(e, i);
        if (ratio.state != FACT_OK)
            continue;
        if (ratio.value >= HUNG_RATIO) {
            hung++;
            continue;
        }
        healthy++;
        sent += (double)ratio.n;
        timeouts += ratio.value * (double)ratio.n;
    }
    return hung > 0 && healthy > 0 && timeouts <= WIDEN_RATIO * sent;
}

static void submit(struct engine *e, uint16_t route, struct move *m, const struct seen *s)
{
    struct timeout_loop *l = &e->s.timeout[route];
    struct fact ratio = {.value = s->sent ? (double)s->timeouts / (double)s->sent : NAN,
                         .n = s->sent,
                         .n_needed = SENT_MIN,
                         .state = s->sent >= SENT_MIN ? FACT_OK : FACT_INSUFFICIENT_DATA};
    struct fact quantile = s->quantile;
    quantile.value /= 1e3;
    move_evidence(m, 0, FACT_UPSTREAM_P999, fact_window_ms(FACT_60S), &quantile);
    move_evidence(m, 1, FACT_TIMEOUT_RATIO, 2 * HALF_US / US_PER_MS, &ratio);
    m->d.threshold1 = FACTOR;
    m->d.threshold2 = WIDEN_RATIO;
    m->d.cause_us = l->cause_us;
    if (arbiter_submit(e, m))
        forget_counts(l, e->s.now_us);
}

static void raise_to(struct engine *e, uint16_t route, const struct seen *s, double to,
                     uint16_t reason)
{
    struct move m;
    move_init(&m, e, KNOB_TIMEOUT_MS, route);
    m.d.to = fmin(ceil(to), s->max_ms);
    if (m.d.to <= s->now_ms)
        return;
    m.d.reason = reason;
    m.is_protective = true;
    /* what was sent before has ended after one old timeout; then a second of new ones */
    move_expect(&m, EXPECT_LOWER, FACT_TIMEOUT_RATIO, FACT_1S, (uint32_t)s->now_ms + 1200);
    submit(e, route, &m, s);
}

static void lower_to(struct engine *e, uint16_t route, const struct seen *s, double to,
                     uint32_t rest_ms)
{
    struct move m;
    move_init(&m, e, KNOB_TIMEOUT_MS, route);
    m.d.to = fmax(ceil(to), s->min_ms);
    if (m.d.to >= s->now_ms)
        return;
    m.d.reason = REASON_TIMEOUT_LOWER;
    m.rest_ms = rest_ms;
    move_expect(&m, EXPECT_KEEP, FACT_TIMEOUT_RATIO, FACT_10S, 11200 + (uint32_t)m.d.to);
    submit(e, route, &m, s);
}

/* True when time-outs are what this second was about. */
static bool widen(struct engine *e, uint16_t route, struct timeout_loop *l, const struct seen *s)
{
    if (s->timeouts < WIDEN_TIMEOUTS_MIN || s->sent < SENT_MIN ||
        s->timeouts <= WIDEN_RATIO * s->sent) {
        l->unclear_runs = 0;
        return false;
    }
    /* the newest second tells best; the whole window is full of the tail of the time before */
    bool is_slower = l->run_timeouts >= WIDEN_TIMEOUTS_MIN
                         ? l->run_upper >= UPPER_SHARE * l->run_timeouts
                         : s->upper >= UPPER_SHARE * s->timeouts;
    if (!is_slower && is_endpoint_hung(e, l->service))
        return true;
    bool is_silent = !is_slower && l->run_timeouts > l->run_answers;
    if (is_silent && l->probed_us > 0 && e->s.now_us - l->probed_us < PROBE_REST_US)
        return true;
    /* a second in which something began to hang looks like neither: wait for a whole one */
    if (!is_slower && !is_silent && ++l->unclear_runs < 2)
        return true;
    l->unclear_runs = 0;
    double before_ms = s->now_ms;
    raise_to(e, route, s, 2 * s->now_ms, REASON_TIMEOUT_WIDEN);
    if (is_silent && control_value(e, KNOB_TIMEOUT_MS, route) > before_ms) {
        l->probed_us = e->s.now_us;
        l->probe_back_ms = before_ms;
    }
    return true;
}

/* A probe that won no answer goes back; one that did has shown that the service is slow, not dead.
 */
static bool end_probe(struct engine *e, uint16_t route, struct timeout_loop *l,
                      const struct seen *s)
{
    if (l->probe_back_ms <= 0)
        return false;
    if (s->upper > 0) {
        l->probe_back_ms = 0;
        return false;
    }
    if (e->s.now_us - l->probed_us < (uint64_t)(s->now_ms * 1e3) + US_PER_S)
        return true;
    double back_ms = l->probe_back_ms;
    l->probe_back_ms = 0;
    struct move m;
    move_init(&m, e, KNOB_TIMEOUT_MS, route);
    m.d.to = back_ms;
    m.d.reason = REASON_TIMEOUT_LOWER;
    m.is_protective = true;
    memcpy(m.d.note, PROBE_NOTE, sizeof PROBE_NOTE);
    submit(e, route, &m, s);
    return true;
}

static void follow(struct engine *e, uint16_t route, struct timeout_loop *l, const struct seen *s)
{
    const struct fact *q = &s->quantile;
    if (q->state == FACT_STALE)
        return;
    if (q->state != FACT_OK) {
        bool is_hidden =
            q->n >= q->n_needed && s->timeouts >= WIDEN_TIMEOUTS_MIN && s->upper >= s->timeouts;
        uint64_t rest_until_us = e->s.cell[KNOB_TIMEOUT_MS][route].cooldown_until_us;
        if (is_hidden && e->s.now_us >= rest_until_us)
            raise_to(e, route, s, CREEP_RATIO * s->now_ms, REASON_TIMEOUT_RAISE);
        return;
    }
    double aim_ms = fb_clamp(FACTOR * q->value / 1e3, s->min_ms, s->max_ms);
    if (aim_ms > s->now_ms * DEAD_BAND) {
        raise_to(e, route, s, aim_ms, REASON_TIMEOUT_RAISE);
        return;
    }
    if (aim_ms * DEAD_BAND >= s->now_ms || e->s.now_us - l->first_us < WATCH_US)
        return;
    bool is_first = !control_layer(e, KNOB_TIMEOUT_MS, route)->is_learned;
    lower_to(e, route, s, is_first ? aim_ms : fmax(aim_ms, FALL_RATIO * s->now_ms), FALL_REST_MS);
}

static void run_one(struct engine *e, uint16_t route)
{
    struct timeout_loop *l = &e->s.timeout[route];
    const struct knob_layer *layer = control_layer(e, KNOB_TIMEOUT_MS, route);
    const struct knob_row *row = knob_row(KNOB_TIMEOUT_MS);
    struct seen s = {.sent = l->sent[0] + l->sent[1],
                     .timeouts = l->timeouts[0] + l->timeouts[1],
                     .upper = l->upper[0] + l->upper[1],
                     .now_ms = control_value(e, KNOB_TIMEOUT_MS, route),
                     .min_ms = layer->min,
                     .max_ms = layer->max};
    /* Nobody said how long is too long: then the configured start value is the ceiling. */
    if (layer->max >= row->max)
        s.max_ms = layer->is_configured ? layer->configured : row->safe;
    turn_halves(l, e->s.now_us);
    s.quantile =
        facts_upstream_quantile(e->facts, control_scope(EV_KIND_ROUTE, route), QUANTILE, FACT_60S);
    if (!end_probe(e, route, l, &s) && !widen(e, route, l, &s))
        follow(e, route, l, &s);
    l->run_answers = l->run_timeouts = l->run_upper = 0;
}

void loop_timeout_run(struct engine *e)
{
    for (uint16_t i = 0; i < e->s.top[EV_KIND_ROUTE]; i++)
        if (control_layer(e, KNOB_TIMEOUT_MS, i)->is_used && e->s.timeout[i].first_us > 0)
            run_one(e, i);
}
