/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

/* One second of <n> requests on route 0: lognormal around <median_us>, cut at the timeout in force.
 */
static void second(struct world *w, struct rng *rng, uint32_t n, double median_us)
{
    for (uint32_t t = 0; t < 10; t++) {
        double timeout_us = world_value(w, KNOB_TIMEOUT_MS, 0) * 1e3;
        for (uint32_t i = 0; i < n / 10; i++) {
            double us = median_us * exp(0.4 * rng_normal(rng));
            bool is_cut = us > timeout_us;
            struct ev_request r =
                world_request(w, is_cut ? REASON_UPSTREAM_TIMEOUT : REASON_ANSWERED,
                              (uint32_t)(is_cut ? timeout_us : us));
            r.endpoint = (uint16_t)(i % 3);
            world_put(w, &r.head);
        }
        world_tick(w, 1);
    }
}

static double timeout_ms(const struct world *w)
{
    return world_value(w, KNOB_TIMEOUT_MS, 0);
}

static struct world *world_learned(struct rng *rng, double median_us)
{
    struct world *w = world_new(EV_MODE_ACT);
    rng_init(rng, 1);
    for (int i = 0; i < 64; i++)
        second(w, rng, 200, median_us);
    return w;
}

/* 99.9 % of a lognormal with sigma 0.4 lie below exp(3.09 x 0.4) = 3.44 medians. */
#define Q999 3.44

static void the_first_value_is_twice_the_quantile_after_a_minute(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    struct world *w = world_new(EV_MODE_ACT);
    for (int i = 0; i < 58; i++)
        second(w, &rng, 200, 20000);
    assert_near(timeout_ms(w), 15000, 0);
    for (int i = 0; i < 5; i++)
        second(w, &rng, 200, 20000);
    assert_near(timeout_ms(w), 2 * Q999 * 20, 0.15);
    const struct ev_decision *d = world_decision(w, REASON_TIMEOUT_LOWER);
    assert_near(d->from, 15000, 0);
    assert_true(d->n1 >= 10000);
    assert_int_equal(d->window1_ms, 60000);
    assert_near(d->to, ceil(2 * d->value1), 1e-9);
    assert_int_equal(d->expected_fact, FACT_TIMEOUT_RATIO);
    assert_int_equal(d->expected, EXPECT_KEEP);
    world_free(w);
}

static void under_a_thousand_samples_it_does_not_fall(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    struct world *w = world_new(EV_MODE_ACT);
    for (int i = 0; i < 150; i++)
        second(w, &rng, 10, 20000);
    assert_near(timeout_ms(w), 15000, 0);
    world_free(w);
}

static void it_rises_at_once_and_falls_by_a_tenth_per_ten_seconds(void **state)
{
    (void)state;
    struct rng rng;
    struct world *w = world_learned(&rng, 20000);
    double before = timeout_ms(w);
    for (int i = 0; i < 8; i++)
        second(w, &rng, 200, 30000);
    assert_true(timeout_ms(w) > 1.25 * before);
    for (int i = 0; i < 75; i++)
        second(w, &rng, 200, 30000);
    double high = timeout_ms(w);
    assert_near(high, 2 * Q999 * 30, 0.3);
    double last = high;
    for (int i = 0; i < 300; i++) {
        second(w, &rng, 200, 10000);
        assert_true(timeout_ms(w) >= 0.899 * last);
        if (i % 10 == 9)
            last = timeout_ms(w);
    }
    assert_near(timeout_ms(w), 2 * Q999 * 10, 0.2);
    world_free(w);
}

static void more_than_one_percent_of_timeouts_doubles_it(void **state)
{
    (void)state;
    struct rng rng;
    struct world *w = world_learned(&rng, 20000);
    double before = timeout_ms(w);
    w->count = 0;
    second(w, &rng, 200, 80000);
    second(w, &rng, 200, 80000);
    const struct ev_decision *d = world_decision(w, REASON_TIMEOUT_WIDEN);
    assert_non_null(d);
    assert_near(d->to, ceil(2 * before), 0.02);
    assert_true(d->value2 > 0.01);
    world_free(w);
}

/* Endpoint 1 hangs from now on: its requests run into the timeout; the other two answer. */
static void second_with_a_hung_endpoint(struct world *w, uint32_t n, bool all)
{
    for (uint32_t t = 0; t < 10; t++) {
        uint32_t timeout_us = (uint32_t)(timeout_ms(w) * 1e3);
        for (uint32_t i = 0; i < n / 10; i++) {
            bool is_hung = all || i % 3 == 1;
            struct ev_request r =
                world_request(w, is_hung ? REASON_UPSTREAM_TIMEOUT : REASON_ANSWERED,
                              is_hung ? timeout_us : 20000);
            r.endpoint = (uint16_t)(i % 3);
            world_put(w, &r.head);
        }
        world_tick(w, 1);
    }
}

static void one_hung_endpoint_is_not_the_routes_fault(void **state)
{
    (void)state;
    struct rng rng;
    struct world *w = world_learned(&rng, 20000);
    double before = timeout_ms(w);
    for (int i = 0; i < 30; i++)
        second_with_a_hung_endpoint(w, 300, false);
    assert_near(timeout_ms(w), before, 0);
    world_free(w);
}

static void a_tail_from_before_does_not_make_a_hung_endpoint_look_slow(void **state)
{
    (void)state;
    struct rng rng;
    struct world *w = world_learned(&rng, 20000);
    for (int i = 0; i < 4;
         i++) /* 2 % of the answers in the upper half, none cut, too short to raise it far */
        second(w, &rng, 200, 30000);
    double before = timeout_ms(w);
    for (int i = 0; i < 10; i++)
        second_with_a_hung_endpoint(w, 300, false);
    assert_true(timeout_ms(w) < 1.5 * before);
    world_free(w);
}

static void when_all_is_silent_it_probes_once_and_comes_back(void **state)
{
    (void)state;
    struct rng rng;
    struct world *w = world_learned(&rng, 20000);
    double before = timeout_ms(w);
    double most = before;
    for (int i = 0; i < 50; i++) {
        second_with_a_hung_endpoint(w, 300, true);
        most = fmax(most, timeout_ms(w));
    }
    assert_true(most <= 2 * before + 1);
    assert_true(most > before);
    assert_near(timeout_ms(w), before, 0);
    world_free(w);
}

static void the_configured_start_is_the_ceiling_unless_a_maximum_is_given(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    struct world *w = world_new(EV_MODE_ACT);
    for (int i = 0; i < 20; i++)
        second(w, &rng, 200, 20e6); /* 20 s: nearly all run into 15 s */
    assert_near(timeout_ms(w), 15000, 0);
    world_free(w);
}

static void streams_and_shed_requests_say_nothing(void **state)
{
    (void)state;
    struct rng rng;
    struct world *w = world_learned(&rng, 20000);
    double before = timeout_ms(w);
    for (int i = 0; i < 300; i++) {
        struct ev_request r = world_request(w, REASON_ANSWERED, 100000);
        r.flags = EV_REQUEST_STREAM;
        world_put(w, &r.head);
        world_requests(w, REASON_SHED_QUEUE_WAIT, 100000, 1);
        if (i % 30 == 0)
            world_tick(w, 1);
    }
    second(w, &rng, 200, 20000);
    assert_near(timeout_ms(w), before, 0.05);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_value_is_twice_the_quantile_after_a_minute),
        cmocka_unit_test(under_a_thousand_samples_it_does_not_fall),
        cmocka_unit_test(it_rises_at_once_and_falls_by_a_tenth_per_ten_seconds),
        cmocka_unit_test(more_than_one_percent_of_timeouts_doubles_it),
        cmocka_unit_test(one_hung_endpoint_is_not_the_routes_fault),
        cmocka_unit_test(a_tail_from_before_does_not_make_a_hung_endpoint_look_slow),
        cmocka_unit_test(when_all_is_silent_it_probes_once_and_comes_back),
        cmocka_unit_test(the_configured_start_is_the_ceiling_unless_a_maximum_is_given),
        cmocka_unit_test(streams_and_shed_requests_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
