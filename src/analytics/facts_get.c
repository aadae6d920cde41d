/* SPDX-License-Identifier: Apache-2.0 */
/* Ask: every answer carries its n and its state; a value is NAN unless it is known.
 *
 * How many samples a fact needs: a quantile q needs 1 / (1 - q), so that one sample lies beyond it,
 * and at least 10; a ratio needs 20 (one event is then 5 %); a rate needs a closed pane, and zero
 * is a value. */
#include "analytics/facts_int.h"

#include "base/assert.h"

#include <math.h>

#define N_NEEDED_RATIO 20
#define N_NEEDED_MEAN 10

/* Product words are lower case, which the preprocessor cannot do: a row without its word does not
 * compile. */
#define LOWER_RATE "rate"
#define LOWER_OFFERED_RATE "offered_rate"
#define LOWER_ERROR_RATIO "error_ratio"
#define LOWER_SHED_RATIO "shed_ratio"
#define LOWER_LATENCY_P50 "latency_p50"
#define LOWER_LATENCY_P90 "latency_p90"
#define LOWER_LATENCY_P99 "latency_p99"
#define LOWER_LATENCY_P999 "latency_p999"
#define LOWER_LATENCY_MEAN "latency_mean"
#define LOWER_UPSTREAM_P50 "upstream_p50"
#define LOWER_UPSTREAM_P99 "upstream_p99"
#define LOWER_UPSTREAM_P999 "upstream_p999"
#define LOWER_QUEUE_WAIT_P50 "queue_wait_p50"
#define LOWER_QUEUE_WAIT_P99 "queue_wait_p99"
#define LOWER_TIMEOUT_RATIO "timeout_ratio"
#define LOWER_IN_TIME_RATIO "in_time_ratio"
#define LOWER_IN_FLIGHT "in_flight"
#define LOWER_LIMIT "limit"
#define LOWER_QUEUED "queued"
#define LOWER_RETRY_RATIO "retry_ratio"
#define LOWER_BYTES_RATE "bytes_rate"
#define LOWER_CPU_RATIO "cpu_ratio"
#define LOWER_MEMORY_RATIO "memory_ratio"
#define LOWER_LEARNER_LATENCY "learner_latency"
#define LOWER_LEARNER_BASE "learner_base"
#define LOWER_GOODPUT "goodput"
#define LOWER_LEARNER_RATIO "learner_ratio"
#define LOWER_CACHE_HIT_RATIO "cache_hit_ratio"
#define LOWER_SENT_RATE "sent_rate"
#define LOWER_CACHE_SPARED_RATE "cache_spared_rate"
#define LOWER_OFFERED_IN_QUEUE "offered_in_queue"
#define LOWER_UPSTREAM_P95 "upstream_p95"
#define LOWER_HEDGE_RATIO "hedge_ratio"
#define LOWER_HEDGE_GAIN "hedge_gain"
#define LOWER_SIGNAL "signal"

static const struct fact_row rows[FACT_END] = {
#define FACT(fname, fid, funit, says) [fid] = {.name = LOWER_##fname, .unit = funit, .what = says},
#include "analytics/facts.def"
#undef FACT
};
static const struct fact_row no_row;

static const uint32_t window_ms[FACT_WINDOW_COUNT] = {100, 1000, 10000, 60000};

/* What a fact is made of, looked up once per question. */
struct asked {
    const struct facts *f;
    const struct slot *slot;
    enum window_length length;
    uint64_t ended, shed, aborted;
    double covered_s;
};

static struct fact of_count(const struct asked *a, enum fact_id fact);
static struct fact of_quantile(const struct asked *a, enum fact_id fact);
static struct fact of_gauge(const struct asked *a, enum facts_count count);
static struct fact of_learner(const struct asked *a, enum fact_id fact);
static struct fact of_resource(const struct facts *f, uint16_t number, enum fact_id fact);

const struct fact_row *fact_row(uint16_t fact)
{
    return fact < FACT_END ? &rows[fact] : &no_row;
}

uint16_t fact_by_name(struct span name)
{
    for (uint16_t i = 0; i < FACT_END; i++)
        if (rows[i].name && span_ieq(name, span_of(rows[i].name)))
            return i;
    return FACT_NONE;
}

uint32_t fact_window_ms(enum fact_window window)
{
    fb_assert(window < FACT_WINDOW_COUNT);
    return window_ms[window];
}

const char *fact_state_name(enum fact_state state)
{
    static const char *const states[] = {"ok", "insufficient_data", "stale"};
    return state < FB_COUNT(states) ? states[state] : "?";
}

static struct fact known(double value, uint64_t n, uint64_t n_needed)
{
    bool is_enough = n >= n_needed && !isnan(value);
    return (struct fact){.value = is_enough ? value : NAN,
                         .n = n,
                         .n_needed = n_needed,
                         .state = is_enough ? FACT_OK : FACT_INSUFFICIENT_DATA};
}

static struct fact stale(struct fact fact)
{
    fact.value = NAN;
    fact.state = FACT_STALE;
    return fact;
}

static const struct slot *find(const struct facts *f, struct fact_scope scope, uint8_t class)
{
    if (scope.kind >= FACTS_KINDS || scope.number >= FACTS_NUMBERS_MAX)
        return NULL;
    if (class == FACT_ALL_CLASSES) {
        uint16_t at = f->s.slot_of[scope.kind][scope.number];
        return at ? facts_slot_at(f, at - 1U) : NULL;
    }
    if (class >= EV_CLASS_COUNT || f->s.class_count == 0)
        return NULL;
    if (scope.kind == EV_KIND_NONE)
        return facts_class_at(f, class);
    uint16_t at = scope.kind == EV_KIND_SERVICE ? f->s.class_of[scope.number] : 0;
    return at ? facts_class_at(f, at - 1U + class) : NULL;
}

static uint64_t sum(const struct asked *a, enum facts_count count)
{
    return window_sum(&a->slot->count[count], &a->f->s.clock, a->length);
}

static struct asked ask(const struct facts *f, const struct slot *slot, enum fact_window window)
{
    fb_assert(window < FACT_WINDOW_COUNT);
    struct asked a = {.f = f, .slot = slot, .length = (enum window_length)window};
    a.covered_s = (double)window_covered_us(&f->s.clock, a.length) / 1e6;
    a.ended = sum(&a, COUNT_ENDED);
    a.shed = sum(&a, COUNT_SHED);
    a.aborted = sum(&a, COUNT_ABORTED);
    return a;
}

static bool is_input_stale(const struct facts *f)
{
    return f->s.clock.now_us > f->s.last_input_us + FACTS_INPUT_STALE_US;
}

struct fact facts_get(const struct facts *f, struct fact_scope scope, enum fact_id fact,
                      enum fact_window window)
{
    fb_assert(fact < FACT_END);
    if (fact == FACT_CPU_RATIO || fact == FACT_MEMORY_RATIO)
        return of_resource(f, scope.kind == EV_KIND_NONE ? scope.number : EV_NONE, fact);
    const struct slot *slot = find(f, scope, FACT_ALL_CLASSES);
    if (!slot)
        return known(NAN, 0, 1);
    struct asked a = ask(f, slot, window);
    switch (fact) {
    case FACT_IN_FLIGHT:
        return of_gauge(&a, COUNT_IN_FLIGHT);
    case FACT_LIMIT:
        return of_gauge(&a, COUNT_LIMIT);
    case FACT_QUEUED:
        return of_gauge(&a, COUNT_QUEUED);
    case FACT_LEARNER_LATENCY:
    case FACT_LEARNER_BASE:
    case FACT_LEARNER_RATIO:
        return of_learner(&a, fact);
    default:
        break;
    }
    struct fact got = of_count(&a, fact);
    if (got.n_needed == 0)
        got = of_quantile(&a, fact);
    return is_input_stale(f) ? stale(got) : got;
}

struct fact facts_get_class(const struct facts *f, struct fact_scope scope, uint8_t class,
                            enum fact_id fact, enum fact_window window)
{
    fb_assert(fact < FACT_END);
    if (class == FACT_ALL_CLASSES)
        return facts_get(f, scope, fact, window);
    const struct slot *slot = find(f, scope, class);
    if (!slot)
        return known(NAN, 0, 1);
    struct asked a = ask(f, slot, window);
    struct fact got = of_count(&a, fact);
    if (got.n_needed == 0) {
        bool is_latency = fact >= FACT_LATENCY_P50 && fact <= FACT_LATENCY_P999;
        got = is_latency ? of_quantile(&a, fact) : known(NAN, 0, 1);
    }
    return is_input_stale(f) ? stale(got) : got;
}

static struct fact ratio(uint64_t part, uint64_t n)
{
    return known(n ? (double)part / (double)n : NAN, n, N_NEEDED_RATIO);
}

static struct fact rate(const struct asked *a, uint64_t total, uint64_t n)
{
    struct fact got = known(a->covered_s > 0 ? (double)total / a->covered_s : NAN, n, 0);
    got.n_needed = 1; /* closed panes, not events: a rate of zero is known */
    return got;
}

/* Facts that are quotients of counters; n_needed 0 when <fact> is none of them. */
static struct fact of_count(const struct asked *a, enum fact_id fact)
{
    uint64_t through = a->ended - a->shed;
    uint64_t tried = through - a->aborted;
    uint64_t latency_n;
    switch (fact) {
    case FACT_RATE:
        return rate(a, through, through);
    case FACT_OFFERED_RATE:
        return rate(a, a->ended, a->ended);
    case FACT_OFFERED_IN_QUEUE:
        return rate(a, a->ended - sum(a, COUNT_SHED_AT_DOOR), a->ended);
    case FACT_GOODPUT:
        return rate(a, sum(a, COUNT_IN_TIME), a->ended);
    case FACT_BYTES_RATE:
        return rate(a, sum(a, COUNT_BYTES), a->ended);
    case FACT_SENT_RATE:
        return rate(a, sum(a, COUNT_SENT), a->ended);
    case FACT_CACHE_SPARED_RATE:
        return rate(a, sum(a, COUNT_CACHE_HITS), a->ended);
    case FACT_ERROR_RATIO:
        return ratio(sum(a, COUNT_FAILED), tried);
    case FACT_SHED_RATIO:
        return ratio(a->shed, a->ended);
    case FACT_TIMEOUT_RATIO:
        return ratio(sum(a, COUNT_TIMEOUT), sum(a, COUNT_SENT));
    case FACT_IN_TIME_RATIO:
        return ratio(sum(a, COUNT_IN_TIME), a->ended);
    case FACT_CACHE_HIT_RATIO:
        return ratio(sum(a, COUNT_CACHE_HITS), sum(a, COUNT_CACHE_ASKED));
    case FACT_RETRY_RATIO:
        return ratio(sum(a, COUNT_RETRIES), sum(a, COUNT_SENT));
    case FACT_HEDGE_RATIO:
        return ratio(sum(a, COUNT_HEDGED), sum(a, COUNT_SENT));
    case FACT_LATENCY_MEAN:
        latency_n = sum(a, COUNT_LATENCY_N);
        return known(latency_n ? (double)sum(a, COUNT_LATENCY_US) / (double)latency_n / 1e3 : NAN,
                     latency_n, N_NEEDED_MEAN);
    default:
        return (struct fact){.value = NAN};
    }
}

static uint64_t needed_for(double q)
{
    /* + 0.5: 1 / (1 - 0.999) must be 1000 whatever its last bit */
    uint64_t n = (uint64_t)(1.0 / (1.0 - q) + 0.5);
    return n < 10 ? 10 : n;
}

static struct fact quantile(const struct asked *a, enum facts_sketch sketch, double q)
{
    struct sketch all = {0};
    window_collect(&a->slot->sketch[sketch], &a->f->s.clock, a->length, &all);
    return known(sketch_quantile_us(&all, q) / 1e3, all.n, needed_for(q));
}

/* In us; insufficient while so many waits were given up that the quantile lies beyond all of them.
 */
static struct fact upstream(const struct asked *a, double q)
{
    struct sketch seen = {0};
    struct sketch given_up = {0};
    window_collect(&a->slot->sketch[SKETCH_UPSTREAM], &a->f->s.clock, a->length, &seen);
    window_collect(&a->slot->sketch[SKETCH_GIVEN_UP], &a->f->s.clock, a->length, &given_up);
    struct sketch_censored got = sketch_quantile_censored(&seen, &given_up, q);
    return known(got.is_reached ? got.value_us : NAN, seen.n + given_up.n, needed_for(q));
}

static struct fact in_ms(struct fact us)
{
    us.value /= 1e3;
    return us;
}

static struct fact of_quantile(const struct asked *a, enum fact_id fact)
{
    switch (fact) {
    case FACT_LATENCY_P50:
        return quantile(a, SKETCH_LATENCY, 0.5);
    case FACT_LATENCY_P90:
        return quantile(a, SKETCH_LATENCY, 0.9);
    case FACT_LATENCY_P99:
        return quantile(a, SKETCH_LATENCY, 0.99);
    case FACT_LATENCY_P999:
        return quantile(a, SKETCH_LATENCY, 0.999);
    case FACT_QUEUE_WAIT_P50:
        return quantile(a, SKETCH_QUEUE, 0.5);
    case FACT_QUEUE_WAIT_P99:
        return quantile(a, SKETCH_QUEUE, 0.99);
    case FACT_UPSTREAM_P50:
        return in_ms(upstream(a, 0.5));
    case FACT_UPSTREAM_P95:
        return in_ms(upstream(a, 0.95));
    case FACT_UPSTREAM_P99:
        return in_ms(upstream(a, 0.99));
    case FACT_UPSTREAM_P999:
        return in_ms(upstream(a, 0.999));
    default:
        return known(NAN, 0, 1);
    }
}

struct fact facts_upstream_quantile(const struct facts *f, struct fact_scope scope, double q,
                                    enum fact_window window)
{
    const struct slot *slot = find(f, scope, FACT_ALL_CLASSES);
    if (!slot)
        return known(NAN, 0, needed_for(q));
    struct asked a = ask(f, slot, window);
    struct fact got = upstream(&a, q);
    return is_input_stale(f) ? stale(got) : got;
}

static struct fact of_gauge(const struct asked *a, enum facts_count count)
{
    uint64_t panes = sum(a, COUNT_GAUGES);
    struct fact got = known(panes ? (double)sum(a, count) / (double)panes : NAN, panes, 1);
    bool has_been = a->slot->last_gauge_us > 0;
    bool is_old = a->f->s.clock.now_us > a->slot->last_gauge_us + FACTS_GAUGE_STALE_US;
    return has_been && is_old ? stale(got) : got;
}

static struct fact of_learner(const struct asked *a, enum fact_id fact)
{
    const struct slot *slot = a->slot;
    bool is_base = fact == FACT_LEARNER_BASE;
    double value = fact == FACT_LEARNER_RATIO ? slot->learner_ratio
                   : is_base                  ? slot->learner_base_us / 1e3
                                              : slot->learner_latency_us / 1e3;
    uint64_t n = is_base ? slot->learner_base_samples : slot->learner_samples;
    struct fact got = known(slot->learner_us ? value : NAN, n, 1);
    bool is_old = a->f->s.clock.now_us > slot->learner_us + FACTS_LEARNER_STALE_US;
    return slot->learner_us > 0 && is_old ? stale(got) : got;
}

/* Number 0 is the host; 1 supervisor, 2 gateway, 3 brain. */
static struct fact of_resource(const struct facts *f, uint16_t number, enum fact_id fact)
{
    if (number >= FACTS_RESOURCE_SCOPES)
        return known(NAN, 0, 1);
    const struct facts_resource *seen = &f->s.resource[number];
    struct fact got = fact == FACT_CPU_RATIO ? known(seen->cpu_ratio, seen->samples, 2)
                                             : known(seen->memory_ratio, seen->samples, 1);
    bool is_old = f->s.clock.now_us > seen->at_us + FACTS_RESOURCE_STALE_US;
    return seen->samples > 0 && is_old ? stale(got) : got;
}

void facts_heat(const struct facts *f, struct fact_scope scope, const double *bounds_us,
                uint32_t *counts, uint32_t count)
{
    fb_assert(count > 0);
    for (uint32_t i = 0; i < count; i++)
        counts[i] = 0;
    const struct slot *slot = find(f, scope, FACT_ALL_CLASSES);
    if (!slot)
        return;
    struct sketch all = {0};
    window_collect(&slot->sketch[SKETCH_LATENCY], &f->s.clock, WINDOW_1S, &all);
    uint32_t at = 0;
    for (uint32_t b = 0; b < SKETCH_BUCKETS; b++) {
        if (!all.count[b])
            continue;
        double value_us = sketch_value_us(b);
        while (at + 1 < count && value_us > bounds_us[at])
            at++;
        counts[at] += all.count[b];
    }
}

bool facts_pane(const struct facts *f, struct fact_scope scope, struct facts_pane *pane,
                struct sketch *latency)
{
    const struct slot *slot = find(f, scope, FACT_ALL_CLASSES);
    if (!slot)
        return false;
    uint64_t sum[COUNT_COUNT];
    for (uint32_t i = 0; i <= COUNT_IN_TIME; i++)
        sum[i] = window_sum(&slot->count[i], &f->s.clock, WINDOW_100MS);
    uint64_t not_late =
        sum[COUNT_SHED] + sum[COUNT_FAILED] + sum[COUNT_ABORTED] + sum[COUNT_IN_TIME];
    bool has_objective = scope.kind == EV_KIND_SERVICE && scope.number < FACTS_NUMBERS_MAX &&
                         f->s.objective_us[scope.number] > 0;
    *pane = (struct facts_pane){
        .ended = fb_sat_u32(sum[COUNT_ENDED]),
        .failed = fb_sat_u32(sum[COUNT_FAILED]),
        .shed = fb_sat_u32(sum[COUNT_SHED]),
        .late = has_objective ? fb_sat_u32(fb_sub_floor_u64(sum[COUNT_ENDED], not_late)) : 0};
    window_collect(&slot->sketch[SKETCH_LATENCY], &f->s.clock, WINDOW_100MS, latency);
    return true;
}

size_t facts_scopes(const struct facts *f, struct fact_scope *out, size_t max)
{
    size_t n = 0;
    for (uint32_t i = 0; i < f->s.slot_count && n < max; i++) {
        const struct slot *slot = facts_slot_at(f, i);
        out[n++] = (struct fact_scope){.kind = (enum ev_kind)slot->kind, .number = slot->number};
    }
    return n;
}
