/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/facts.h"
#include "base/rng.h"
#include "try.h"

#include <ctype.h>
#include <string.h>

#define MS US_PER_MS
static const struct fact_scope everything = {EV_KIND_NONE, 0};

struct world {
    struct facts *f;
    uint64_t now_us;
};

static struct world world_new(void)
{
    struct world w = {.f = facts_new(64), .now_us = 10 * US_PER_S};
    assert_non_null(w.f);
    return w;
}

static struct ev_request request(const struct world *w)
{
    struct ev_request r = EV_INIT(REQUEST, request, w->now_us);
    r.route = 3;
    r.service = 2;
    r.endpoint = 5;
    r.version = EV_NONE; /* whoever does not say it: as the names say */
    r.class = EV_CLASS_DEFAULT;
    r.reason = REASON_ANSWERED;
    r.status = 200;
    r.queue_us = 1000;
    r.upstream_us = 20000;
    r.total_us = 25000;
    r.sent_bytes = 500;
    return r;
}

static void put(struct world *w, const struct ev_request *r, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        facts_feed(w->f, &r->head);
}

static void tick(struct world *w, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        w->now_us += 100 * MS;
        struct ev_tick t = EV_INIT(TICK, tick, w->now_us);
        t.head.origin = EV_ORIGIN_BRAIN;
        facts_feed(w->f, &t.head);
    }
}

static void gauge(struct world *w, enum ev_kind kind, uint16_t number, uint32_t in_flight,
                  uint16_t queued)
{
    struct ev_gauge g = EV_INIT(GAUGE, gauge, w->now_us);
    g.kind = (uint8_t)kind;
    g.number = number;
    g.in_flight = in_flight;
    g.limit = 40;
    g.queued_default = queued;
    facts_feed(w->f, &g.head);
}

static double value(const struct world *w, enum ev_kind kind, uint16_t number, enum fact_id fact,
                    enum fact_window window)
{
    struct fact got = facts_get(w->f, (struct fact_scope){kind, number}, fact, window);
    if (got.state != FACT_OK)
        print_message("%s: %s, n %llu of %llu\n", fact_row((uint16_t)fact)->name,
                      fact_state_name(got.state), (unsigned long long)got.n,
                      (unsigned long long)got.n_needed);
    assert_int_equal(got.state, FACT_OK);
    return got.value;
}

static void every_row_has_a_lower_case_name_that_finds_it(void **state)
{
    (void)state;
    uint32_t rows = 0;
    for (uint16_t i = 0; i < FACT_END; i++) {
        const struct fact_row *row = fact_row(i);
        if (!row->name)
            continue;
        rows++;
        assert_true(strlen(row->what) > 10);
        assert_int_equal(fact_by_name(span_of(row->name)), i);
        for (const char *c = row->name; *c; c++)
            assert_false(isupper((unsigned char)*c));
    }
    assert_true(rows >= 28);
    assert_null(fact_row(FACT_END)->name);
    assert_int_equal(fact_by_name(SPAN("no_such_fact")), FACT_NONE);
    assert_int_equal(fact_window_ms(FACT_60S), 60000);
}

static void a_request_counts_in_each_of_its_scopes(void **state)
{
    (void)state;
    struct world w = world_new();
    for (uint16_t i = 0; i < 2; i++) {
        struct ev_name n = EV_INIT(NAME, name, w.now_us);
        n.kind = i ? EV_KIND_ENDPOINT : EV_KIND_VERSION;
        n.number = i ? 5 : 1;
        n.version = 1;
        facts_feed(w.f, &n.head);
    }
    struct ev_request r = request(&w);
    put(&w, &r, 10);
    r.version = 1; /* and it goes by what it says, whatever its endpoint has now */
    put(&w, &r, 10);
    tick(&w, 10);
    static const struct {
        enum ev_kind kind;
        uint16_t number;
    } in[] = {{EV_KIND_NONE, 0},
              {EV_KIND_ROUTE, 3},
              {EV_KIND_SERVICE, 2},
              {EV_KIND_ENDPOINT, 5},
              {EV_KIND_VERSION, 1}};
    for (size_t i = 0; i < FB_COUNT(in); i++) {
        assert_near(value(&w, in[i].kind, in[i].number, FACT_RATE, FACT_1S), 20, 1e-9);
        assert_near(value(&w, in[i].kind, in[i].number, FACT_LATENCY_P50, FACT_1S), 25, 0.011);
        assert_near(value(&w, in[i].kind, in[i].number, FACT_UPSTREAM_P50, FACT_1S), 20, 0.011);
        assert_near(value(&w, in[i].kind, in[i].number, FACT_QUEUE_WAIT_P50, FACT_1S), 1, 0.011);
        assert_near(value(&w, in[i].kind, in[i].number, FACT_LATENCY_MEAN, FACT_10S), 25, 1e-9);
        assert_near(value(&w, in[i].kind, in[i].number, FACT_BYTES_RATE, FACT_1S), 10000, 1e-9);
    }
    struct fact_scope scopes[16];
    assert_int_equal(facts_scopes(w.f, scopes, 16), 5);
    assert_int_equal(facts_scopes(w.f, scopes, 2), 2);
    facts_free(w.f);
}

struct kind_row {
    const char *says;
    uint16_t reason, endpoint;
    uint8_t flags;
    double error, shed, timeout, in_time; /* ratios when half of 200 requests are of this kind */
    uint64_t latency_n;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct kind_row kinds[] = {
    ROW("a second good answer", .reason = REASON_ANSWERED, .endpoint = 5, .in_time = 1,
        .latency_n = 200),
    ROW("5xx", .reason = REASON_UPSTREAM_ERROR, .endpoint = 5, .flags = EV_REQUEST_FAILED,
        .error = .5, .in_time = .5, .latency_n = 100),
    ROW("shed: neither latency nor error", .reason = REASON_SHED_PRIORITY, .endpoint = EV_NONE,
        .shed = .5, .in_time = .5, .latency_n = 100),
    ROW("shed in the queue, flagged failed", .reason = REASON_SHED_QUEUE_WAIT, .endpoint = EV_NONE,
        .flags = EV_REQUEST_FAILED, .shed = .5, .in_time = .5, .latency_n = 100),
    ROW("timed out", .reason = REASON_UPSTREAM_TIMEOUT, .endpoint = 5,
        .flags = EV_REQUEST_FAILED | EV_REQUEST_CENSORED, .error = .5, .timeout = .5, .in_time = .5,
        .latency_n = 100),
    ROW("client gone: no error", .reason = REASON_CLIENT_GONE, .endpoint = 5,
        .flags = EV_REQUEST_ABORTED | EV_REQUEST_CENSORED, .in_time = .5, .latency_n = 100),
    ROW("stream: its length is no latency", .reason = REASON_ANSWERED, .endpoint = 5,
        .flags = EV_REQUEST_STREAM, .in_time = .5, .latency_n = 100),
};

static void each_kind_of_end_counts_where_it_belongs(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(kinds); i++) {
        const struct kind_row *row = &kinds[i];
        print_message("%s\n", row->says);
        struct world w = world_new();
        struct ev_request good = request(&w);
        struct ev_request other = request(&w);
        other.reason = row->reason;
        other.endpoint = row->endpoint;
        other.flags = row->flags;
        put(&w, &good, 100);
        put(&w, &other, 100);
        tick(&w, 10);
        assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_ERROR_RATIO, FACT_1S), row->error, 1e-9);
        assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_SHED_RATIO, FACT_1S), row->shed, 1e-9);
        assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_TIMEOUT_RATIO, FACT_1S), row->timeout, 1e-9);
        assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_IN_TIME_RATIO, FACT_1S), row->in_time, 1e-9);
        assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_OFFERED_RATE, FACT_1S), 200, 1e-9);
        assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_RATE, FACT_1S), 200 * (1 - row->shed), 1e-9);
        struct fact p50 =
            facts_get(w.f, (struct fact_scope){EV_KIND_ROUTE, 3}, FACT_LATENCY_P50, FACT_1S);
        assert_int_equal(p50.n, row->latency_n);
        facts_free(w.f);
    }
}

static void a_timed_out_wait_is_a_lower_bound_not_a_lost_sample(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    put(&w, &r, 950);
    r.reason = REASON_UPSTREAM_TIMEOUT;
    r.flags = EV_REQUEST_FAILED | EV_REQUEST_CENSORED;
    r.upstream_us = 10000; /* given up at 10 ms, before the 20 ms that an answer takes */
    put(&w, &r, 50);
    tick(&w, 10);
    struct fact_scope route = {EV_KIND_ROUTE, 3};
    struct fact q = facts_upstream_quantile(w.f, route, 0.99, FACT_1S);
    assert_int_equal(q.state, FACT_OK);
    assert_int_equal(q.n, 1000);
    assert_near(q.value, 20000, 0.011);
    /* given up after everything that was seen: the tail is unknown, and says so */
    r.upstream_us = 90000;
    put(&w, &r, 50);
    tick(&w, 1);
    q = facts_upstream_quantile(w.f, route, 0.99, FACT_10S);
    assert_int_equal(q.state, FACT_INSUFFICIENT_DATA);
    assert_true(isnan(q.value));
    assert_true(q.n >= q.n_needed);
    facts_free(w.f);
}

static void too_few_samples_are_no_zero(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    put(&w, &r, 99);
    tick(&w, 10);
    struct fact p99 = facts_get(w.f, everything, FACT_LATENCY_P99, FACT_1S);
    assert_int_equal(p99.state, FACT_INSUFFICIENT_DATA);
    assert_int_equal(p99.n, 99);
    assert_int_equal(p99.n_needed, 100);
    assert_true(isnan(p99.value));
    struct fact none =
        facts_get(w.f, (struct fact_scope){EV_KIND_SERVICE, 900}, FACT_RATE, FACT_1S);
    assert_int_equal(none.state, FACT_INSUFFICIENT_DATA);
    assert_int_equal(facts_get(w.f, (struct fact_scope){EV_KIND_ROUTE, 5000}, FACT_RATE, FACT_1S).n,
                     0);
    facts_free(w.f);
}

static void facts_go_stale_when_the_gateway_falls_silent(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    put(&w, &r, 100);
    gauge(&w, EV_KIND_SERVICE, 2, 7, 0);
    tick(&w, 5);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_IN_FLIGHT, FACT_1S), 7, 1e-9);
    tick(&w, 10);
    assert_int_equal(
        facts_get(w.f, (struct fact_scope){EV_KIND_SERVICE, 2}, FACT_IN_FLIGHT, FACT_1S).state,
        FACT_STALE);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_RATE, FACT_1S), 0,
                1e-9); /* a rate of zero is known */
    tick(&w, 10);
    struct fact rate = facts_get(w.f, (struct fact_scope){EV_KIND_SERVICE, 2}, FACT_RATE, FACT_10S);
    assert_int_equal(rate.state, FACT_STALE);
    assert_true(isnan(rate.value));
    gauge(&w, EV_KIND_SERVICE, 2, 9, 0);
    tick(&w, 1);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_IN_FLIGHT, FACT_100MS), 9, 1e-9);
    facts_free(w.f);
}

static void gauges_are_means_and_everything_is_the_sum_of_services(void **state)
{
    (void)state;
    struct world w = world_new();
    for (uint32_t i = 0; i < 10; i++) {
        gauge(&w, EV_KIND_SERVICE, 1, i, 2);
        gauge(&w, EV_KIND_SERVICE, 2, 10, 3);
        gauge(&w, EV_KIND_ENDPOINT, 5, 4, 0);
        tick(&w, 1);
    }
    assert_near(value(&w, EV_KIND_SERVICE, 1, FACT_IN_FLIGHT, FACT_1S), 4.5, 1e-9);
    assert_near(value(&w, EV_KIND_ENDPOINT, 5, FACT_IN_FLIGHT, FACT_1S), 4, 1e-9);
    assert_near(value(&w, EV_KIND_ENDPOINT, 5, FACT_LIMIT, FACT_1S), 40, 1e-9);
    assert_near(value(&w, EV_KIND_NONE, 0, FACT_IN_FLIGHT, FACT_1S), 14.5, 1e-9);
    assert_near(value(&w, EV_KIND_NONE, 0, FACT_QUEUED, FACT_1S), 5, 1e-9);
    facts_free(w.f);
}

static void classes_are_kept_apart_for_services_and_everything(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    r.class = EV_CLASS_CRITICAL;
    put(&w, &r, 50);
    r.class = EV_CLASS_BEST_EFFORT;
    r.reason = REASON_SHED_PRIORITY;
    r.endpoint = EV_NONE;
    put(&w, &r, 150);
    tick(&w, 10);
    struct fact_scope service = {EV_KIND_SERVICE, 2};
    for (int i = 0; i < 2; i++) {
        struct fact_scope scope = i ? everything : service;
        assert_near(
            facts_get_class(w.f, scope, EV_CLASS_CRITICAL, FACT_IN_TIME_RATIO, FACT_1S).value, 1,
            1e-9);
        assert_near(facts_get_class(w.f, scope, EV_CLASS_CRITICAL, FACT_LATENCY_P50, FACT_1S).value,
                    25, 0.011);
        assert_near(
            facts_get_class(w.f, scope, EV_CLASS_BEST_EFFORT, FACT_SHED_RATIO, FACT_1S).value, 1,
            1e-9);
        assert_near(
            facts_get_class(w.f, scope, EV_CLASS_BEST_EFFORT, FACT_OFFERED_RATE, FACT_1S).value,
            150, 1e-9);
        assert_near(facts_get_class(w.f, scope, FACT_ALL_CLASSES, FACT_SHED_RATIO, FACT_1S).value,
                    0.75, 1e-9);
    }
    assert_int_equal(facts_get_class(w.f, service, EV_CLASS_DEFAULT, FACT_LATENCY_P50, FACT_1S).n,
                     0);
    assert_int_equal(facts_get_class(w.f, service, 0, FACT_UPSTREAM_P50, FACT_1S).state,
                     FACT_INSUFFICIENT_DATA);
    facts_free(w.f);
}

static void an_answer_after_the_objective_is_not_in_time(void **state)
{
    (void)state;
    struct world w = world_new();
    facts_set_objective(w.f, 2, 100 * MS);
    struct ev_request r = request(&w);
    put(&w, &r, 30);
    r.total_us = 100001;
    put(&w, &r, 10);
    tick(&w, 10);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_IN_TIME_RATIO, FACT_1S), 0.75, 1e-9);
    assert_near(value(&w, EV_KIND_ROUTE, 3, FACT_GOODPUT, FACT_1S), 30, 1e-9);
    facts_free(w.f);
}

static void retries_count_per_first_attempt(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    put(&w, &r, 30);
    r.flags = 2; /* three attempts */
    put(&w, &r, 10);
    tick(&w, 10);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_RETRY_RATIO, FACT_1S), 0.5, 1e-9);
    facts_free(w.f);
}

static void resource_ratios_need_two_readings_and_survive_a_restart_of_the_process(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_resource r = EV_INIT(RESOURCE, resource, w.now_us);
    r.cores = 4;
    r.cpu_us = 1000000;
    r.memory_bytes = 25;
    r.memory_total_bytes = 100;
    facts_feed(w.f, &r.head);
    tick(&w, 10);
    assert_int_equal(facts_get(w.f, everything, FACT_CPU_RATIO, FACT_1S).state,
                     FACT_INSUFFICIENT_DATA);
    assert_near(value(&w, EV_KIND_NONE, 0, FACT_MEMORY_RATIO, FACT_1S), 0.25, 1e-9);
    r.head.time_us = w.now_us;
    r.cpu_us = 3000000;
    facts_feed(w.f, &r.head);
    assert_near(value(&w, EV_KIND_NONE, 0, FACT_CPU_RATIO, FACT_1S), 0.5, 1e-9);
    r.head.time_us += US_PER_S;
    r.cpu_us = 10; /* counters began again */
    facts_feed(w.f, &r.head);
    assert_int_equal(facts_get(w.f, everything, FACT_CPU_RATIO, FACT_1S).state,
                     FACT_INSUFFICIENT_DATA);
    tick(&w, 200);
    assert_int_equal(facts_get(w.f, everything, FACT_MEMORY_RATIO, FACT_1S).state, FACT_STALE);
    facts_free(w.f);
}

static void the_learner_is_a_fact_of_its_endpoint(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_proposal p = EV_INIT(PROPOSAL, proposal, w.now_us);
    p.endpoint = 5;
    p.latency_us = 30000;
    p.base_us = 20000;
    p.ratio = 1.5;
    p.samples = 20;
    p.base_samples = 400;
    facts_feed(w.f, &p.head);
    tick(&w, 1);
    assert_near(value(&w, EV_KIND_ENDPOINT, 5, FACT_LEARNER_LATENCY, FACT_1S), 30, 1e-9);
    assert_near(value(&w, EV_KIND_ENDPOINT, 5, FACT_LEARNER_BASE, FACT_1S), 20, 1e-9);
    assert_near(value(&w, EV_KIND_ENDPOINT, 5, FACT_LEARNER_RATIO, FACT_1S), 1.5, 1e-9);
    tick(&w, 601);
    struct fact_scope scope = {EV_KIND_ENDPOINT, 5};
    assert_int_equal(facts_get(w.f, scope, FACT_LEARNER_BASE, FACT_1S).state, FACT_STALE);
    facts_free(w.f);
}

static void the_heatmap_counts_each_answer_once(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    static const uint32_t total_us[] = {500, 5000, 50000, 500000};
    for (uint32_t i = 0; i < 4; i++) {
        r.total_us = total_us[i];
        put(&w, &r, i + 1);
    }
    tick(&w, 1);
    static const double bounds_us[] = {1000, 10000, 100000};
    uint32_t counts[3];
    facts_heat(w.f, everything, bounds_us, counts, 3);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 2);
    assert_int_equal(counts[2], 7); /* the last one takes the rest */
    facts_free(w.f);
}

static void a_late_tick_closes_the_panes_that_passed(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    put(&w, &r, 60);
    tick(&w, 1);
    w.now_us += 3 * US_PER_S; /* the brain was away */
    tick(&w, 1);
    gauge(&w, EV_KIND_SERVICE, 2, 1, 0); /* the gateway lives */
    tick(&w, 1);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_RATE, FACT_1S), 0, 1e-9);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_RATE, FACT_10S), 60 / 3.3, 0.01);
    facts_free(w.f);
}

static void a_clock_that_began_again_empties_the_windows(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    put(&w, &r, 60);
    tick(&w, 20);
    w.now_us = 5 * US_PER_S;
    tick(&w, 1);
    assert_int_equal(facts_now_us(w.f), w.now_us);
    r.head.time_us = w.now_us;
    put(&w, &r, 30);
    tick(&w, 10);
    assert_near(value(&w, EV_KIND_SERVICE, 2, FACT_RATE, FACT_60S), 30, 1e-9);
    facts_free(w.f);
}

static void more_scopes_than_room_are_counted_and_harmless(void **state)
{
    (void)state;
    struct world w = world_new();
    struct ev_request r = request(&w);
    for (uint16_t i = 0; i < 200; i++) {
        r.route = i;
        put(&w, &r, 1);
    }
    tick(&w, 10);
    assert_near(value(&w, EV_KIND_NONE, 0, FACT_RATE, FACT_1S), 200, 1e-9);
    assert_int_equal(facts_get(w.f, (struct fact_scope){EV_KIND_ROUTE, 199}, FACT_RATE, FACT_1S).n,
                     0);
    facts_free(w.f);
}

static void random_events(struct world *w, struct rng *rng, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct ev_request r = request(w);
        r.route = (uint16_t)rng_below(rng, 3);
        r.service = (uint16_t)rng_below(rng, 2);
        r.endpoint = rng_below(rng, 20) ? (uint16_t)rng_below(rng, 4) : EV_NONE;
        r.class = (uint8_t)rng_below(rng, 4);
        r.reason = r.endpoint == EV_NONE ? REASON_SHED_QUEUE_FULL : REASON_ANSWERED;
        r.upstream_us = (uint32_t)(20000 * exp(rng_normal(rng)));
        r.total_us = r.upstream_us + 100;
        if (rng_below(rng, 50) == 0) {
            r.reason = REASON_UPSTREAM_TIMEOUT;
            r.flags = EV_REQUEST_FAILED | EV_REQUEST_CENSORED;
        }
        put(w, &r, 1);
        if (rng_below(rng, 40) == 0) {
            gauge(w, EV_KIND_SERVICE, r.service, rng_below(rng, 40), 3);
            tick(w, 1 + rng_below(rng, 3));
        }
    }
}

static void a_snapshot_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 9);
    struct world w = world_new();
    struct world copy = {.f = facts_new(64)};
    struct buf before, after;
    buf_init(&before, 64 * MIB);
    buf_init(&after, 64 * MIB);
    struct fb_err err;
    for (int round = 0; round < 5; round++) {
        random_events(&w, &rng, 3000);
        buf_clear(&before);
        facts_save(w.f, &before);
        assert_int_equal(facts_load(copy.f, buf_span(&before), &err), FB_OK);
        copy.now_us = w.now_us;
        struct rng twin = rng;
        random_events(&w, &rng, 2000);
        random_events(&copy, &twin, 2000);
        buf_clear(&before);
        buf_clear(&after);
        facts_save(w.f, &before);
        facts_save(copy.f, &after);
        assert_int_equal(before.len, after.len);
        assert_memory_equal(before.at, after.at, before.len);
    }
    buf_fini(&before);
    buf_fini(&after);
    facts_free(w.f);
    facts_free(copy.f);
}

static void a_damaged_snapshot_is_refused_or_read_but_never_crashes(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 4);
    struct world w = world_new();
    random_events(&w, &rng, 500);
    struct buf b;
    buf_init(&b, 64 * MIB);
    facts_save(w.f, &b);
    struct facts *f = facts_new(64);
    struct fb_err err;
    assert_int_equal(facts_load(f, (struct span){b.at, b.len / 2}, &err), FB_E_DAMAGED);
    assert_non_null(strstr(err.text, "snapshot"));
    b.at[3] ^= 1;
    assert_int_equal(facts_load(f, buf_span(&b), &err), FB_E_VERSION);
    b.at[3] ^= 1;
    for (int i = 0; i < 300; i++) {
        size_t at = 24 + rng_below(&rng, (uint32_t)b.len - 24);
        b.at[at] ^= (char)(1 << rng_below(&rng, 8));
        if (facts_load(f, buf_span(&b), &err) == FB_OK) {
            struct fact got = facts_get(f, everything, FACT_LATENCY_P99, FACT_60S);
            assert_true(got.state <= FACT_STALE);
        }
    }
    buf_fini(&b);
    facts_free(f);
    facts_free(w.f);
}

static void our_own_decisions_change_nothing(void **state)
{
    (void)state;
    struct world w = world_new();
    struct buf before, after;
    buf_init(&before, 64 * MIB);
    buf_init(&after, 64 * MIB);
    facts_save(w.f, &before);
    struct ev_decision d = EV_INIT(DECISION, decision, w.now_us);
    struct ev_outcome o = EV_INIT(OUTCOME, outcome, w.now_us);
    struct ev_alert a = EV_INIT(ALERT, alert, w.now_us);
    facts_feed(w.f, &d.head);
    facts_feed(w.f, &o.head);
    facts_feed(w.f, &a.head);
    facts_save(w.f, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.at, after.at, before.len);
    buf_fini(&before);
    buf_fini(&after);
    facts_free(w.f);
}

static void name_endpoint(struct world *w, uint16_t number, const char *text, bool is_gone)
{
    struct ev_name n = EV_INIT(NAME, name, w->now_us);
    n.kind = EV_KIND_ENDPOINT;
    n.number = number;
    n.version = EV_NONE;
    n.is_gone = is_gone;
    memcpy(n.name, text, strlen(text));
    facts_feed(w->f, &n.head);
}

static void a_number_that_changed_hands_has_no_past_and_one_that_came_back_has(void **state)
{
    (void)state;
    struct world w = world_new();
    name_endpoint(&w, 5, "shop 10.0.0.1:80", false);
    struct ev_request r = request(&w);
    put(&w, &r, 100);
    tick(&w, 1);
    struct fact_scope endpoint = {EV_KIND_ENDPOINT, 5}, service = {EV_KIND_SERVICE, 2};
    double all = facts_get(w.f, service, FACT_RATE, FACT_10S).value;
    assert_true(facts_get(w.f, endpoint, FACT_RATE, FACT_10S).value > 0);
    name_endpoint(&w, 5, "shop 10.0.0.1:80", true);
    name_endpoint(&w, 5, "shop 10.0.0.1:80", false);
    assert_true(facts_get(w.f, endpoint, FACT_RATE, FACT_10S).value > 0);
    name_endpoint(&w, 5, "shop 10.0.0.2:80", false);
    assert_int_equal(facts_get(w.f, endpoint, FACT_LATENCY_P50, FACT_10S).n, 0);
    assert_true(facts_get(w.f, service, FACT_RATE, FACT_10S).value == all);
    r = request(&w);
    put(&w, &r, 50);
    tick(&w, 1);
    assert_int_equal(facts_get(w.f, endpoint, FACT_LATENCY_P50, FACT_10S).n, 50);
    facts_free(w.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_a_lower_case_name_that_finds_it),
        cmocka_unit_test(a_request_counts_in_each_of_its_scopes),
        cmocka_unit_test(each_kind_of_end_counts_where_it_belongs),
        cmocka_unit_test(a_timed_out_wait_is_a_lower_bound_not_a_lost_sample),
        cmocka_unit_test(too_few_samples_are_no_zero),
        cmocka_unit_test(facts_go_stale_when_the_gateway_falls_silent),
        cmocka_unit_test(gauges_are_means_and_everything_is_the_sum_of_services),
        cmocka_unit_test(classes_are_kept_apart_for_services_and_everything),
        cmocka_unit_test(an_answer_after_the_objective_is_not_in_time),
        cmocka_unit_test(retries_count_per_first_attempt),
        cmocka_unit_test(resource_ratios_need_two_readings_and_survive_a_restart_of_the_process),
        cmocka_unit_test(the_learner_is_a_fact_of_its_endpoint),
        cmocka_unit_test(the_heatmap_counts_each_answer_once),
        cmocka_unit_test(a_late_tick_closes_the_panes_that_passed),
        cmocka_unit_test(a_clock_that_began_again_empties_the_windows),
        cmocka_unit_test(more_scopes_than_room_are_counted_and_harmless),
        cmocka_unit_test(a_snapshot_goes_on_bit_for_bit),
        cmocka_unit_test(a_damaged_snapshot_is_refused_or_read_but_never_crashes),
        cmocka_unit_test(a_number_that_changed_hands_has_no_past_and_one_that_came_back_has),
        cmocka_unit_test(our_own_decisions_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
