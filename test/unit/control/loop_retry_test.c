/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

/* A second with <error_pct> of 200 requests failed. */
static void second(struct world *w, uint32_t error_pct, uint32_t in_flight, uint16_t queued)
{
    for (uint32_t t = 0; t < 10; t++) {
        world_requests(w, REASON_UPSTREAM_ERROR, 1000, error_pct / 5);
        world_requests(w, REASON_ANSWERED, 20000, 20 - error_pct / 5);
        world_gauge(w, in_flight, 40, queued);
        world_tick(w, 1);
    }
}

struct row {
    const char *says;
    uint32_t error_pct, in_flight;
    uint16_t queued;
    double want;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct row rows[] = {
    ROW("healthy: the whole budget", .error_pct = 0, .in_flight = 10, .want = 10),
    ROW("five per cent: still the whole budget", .error_pct = 5, .in_flight = 10, .want = 10),
    ROW("between: a share", .error_pct = 15, .in_flight = 10, .want = 6),
    ROW("thirty per cent: none", .error_pct = 30, .in_flight = 10, .want = 0),
    ROW("all fails: none", .error_pct = 100, .in_flight = 10, .want = 0),
    ROW("the limit binds: none, without any error", .error_pct = 0, .in_flight = 40, .queued = 9,
        .want = 0),
    ROW("full, but nothing waits: the whole budget", .error_pct = 0, .in_flight = 40, .want = 10),
};

static void the_budget_follows_errors_and_the_limit(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct row *r = &rows[i];
        print_message("%s\n", r->says);
        struct world *w = world_new(EV_MODE_ACT);
        second(w, 0, 10, 0);
        second(w, r->error_pct, r->in_flight, r->queued);
        assert_near(world_value(w, KNOB_RETRY_PCT, 0), r->want, 0.01);
        world_free(w);
    }
}

static void a_cut_is_at_once_and_the_way_back_takes_seconds(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    second(w, 0, 10, 0);
    second(w, 100, 10, 0);
    assert_near(world_value(w, KNOB_RETRY_PCT, 0), 0, 0);
    assert_int_equal(world_decision(w, REASON_RETRY_CUT)->fact1, FACT_ERROR_RATIO);
    double last = 0;
    for (int i = 0; i < 16; i++) {
        second(w, 0, 10, 0);
        double now = world_value(w, KNOB_RETRY_PCT, 0);
        assert_true(now <= last + 2.001);
        last = now;
    }
    assert_near(last, 10, 0);
    assert_non_null(world_decision(w, REASON_RETRY_RESTORE));
    world_free(w);
}

static void unknown_errors_hold_the_budget(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    second(w, 0, 10, 0);
    second(w, 30, 10, 0);
    world_tick(w, 30); /* 2 s without any event of the gateway: stale */
    double held = world_value(w, KNOB_RETRY_PCT, 0);
    uint64_t decisions = engine_decision_count(w->e);
    world_tick(w, 400); /* unknown is not zero per cent */
    assert_near(world_value(w, KNOB_RETRY_PCT, 0), held, 0);
    assert_int_equal(engine_decision_count(w->e), decisions);
    world_free(w);
}

static void in_mode_recommend_the_cut_is_told_only(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_RECOMMEND);
    second(w, 0, 10, 0);
    second(w, 100, 10, 0);
    assert_near(world_value(w, KNOB_RETRY_PCT, 0), 10, 0);
    assert_int_equal(world_decision(w, REASON_RETRY_CUT)->is_applied, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_follows_errors_and_the_limit),
        cmocka_unit_test(a_cut_is_at_once_and_the_way_back_takes_seconds),
        cmocka_unit_test(unknown_errors_hold_the_budget),
        cmocka_unit_test(in_mode_recommend_the_cut_is_told_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
