/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

/* One second of <n> requests on route 0, lognormal around <median_us> with sigma 0.4; one in ten is
 * held out, what waits longer than <copied_us> is copied and answered <copy_us> later. */
struct load {
    double median_us, copied_us, copy_us;
};
static struct ev_decision last; /* of the loop */

static void second(struct world *w, struct rng *rng, uint32_t n, const struct load *load)
{
    for (uint32_t t = 0; t < 10; t++) {
        for (uint32_t i = 0; i < n / 10; i++) {
            double us = load->median_us * exp(0.4 * rng_normal(rng));
            struct ev_request r = world_request(w, REASON_ANSWERED, (uint32_t)us);
            r.endpoint = (uint16_t)(i % 3);
            r.hedge = rng_below(rng, 10) == 0 ? EV_HEDGE_CONTROL : EV_HEDGE_ARMED;
            if (load->copied_us > 0 && us > load->copied_us && r.hedge == EV_HEDGE_ARMED) {
                r.flags |= EV_REQUEST_HEDGED;
                r.hedge = EV_HEDGE_WON;
                r.hedge_us = (uint32_t)load->copied_us;
                r.hedge_endpoint = (uint16_t)((i + 1) % 3);
                r.upstream_us = (uint32_t)fmin(load->copy_us, us - load->copied_us);
            }
            world_put(w, &r.head);
        }
        world_tick(w, 1);
        for (size_t i = 0; i < w->count; i++)
            if (w->room[i].head.type == EV_DECISION && w->room[i].decision.loop == LOOP_HEDGE)
                last = w->room[i].decision;
        w->count = 0;
    }
}

static double delay_ms(const struct world *w)
{
    return world_value(w, KNOB_HEDGE_DELAY_MS, 0);
}

/* 95 % of a lognormal with sigma 0.4 lie below exp(1.645 x 0.4) = 1.93 medians. */
#define Q95 1.93

static void the_delay_is_the_time_of_95_percent(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 1);
    assert_near(delay_ms(w), 0, 0);
    for (int i = 0; i < 40; i++)
        second(w, &rng, 200, &(struct load){.median_us = 50000});
    assert_near(delay_ms(w), Q95 * 50, 0.16);
    assert_int_equal(last.reason, REASON_HEDGE_FOLLOWS);
    assert_int_equal(last.fact1, FACT_UPSTREAM_P95);
    for (int i = 0; i < 120; i++)
        second(w, &rng, 200, &(struct load){.median_us = 20000});
    assert_near(delay_ms(w), Q95 * 20, 0.16);
    world_free(w);
}

/* Copies cut the tail that the quantile is made of: counted from the first send it stays. */
static void copies_do_not_shorten_the_delay_that_sends_them(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 2);
    for (int i = 0; i < 40; i++)
        second(w, &rng, 200, &(struct load){.median_us = 50000});
    double before_ms = delay_ms(w);
    for (int i = 0; i < 180; i++)
        second(w, &rng, 200,
               &(struct load){.median_us = 50000, .copied_us = delay_ms(w) * 1e3, .copy_us = 5000});
    assert_near(delay_ms(w), before_ms, 0.2);
    world_free(w);
}

/* A third of the requests hangs for 5 s: q95 is there, and no delay at all. */
static void an_endpoint_that_hangs_does_not_drag_the_delay_along(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 3);
    for (int i = 0; i < 40; i++)
        second(w, &rng, 200, &(struct load){.median_us = 20000});
    for (int i = 0; i < 60; i++) {
        second(w, &rng, 140, &(struct load){.median_us = 20000});
        struct ev_request r = world_request(w, REASON_ANSWERED, 5000000);
        for (int k = 0; k < 60; k++)
            world_put(w, &r.head);
    }
    assert_true(delay_ms(w) > 0);
    assert_true(delay_ms(w) <= 10 * 20 * 1.6);
    world_free(w);
}

static void without_gain_it_stops_for_ten_minutes(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 4);
    int seconds = 0;
    while (delay_ms(w) <= 0 && seconds++ < 60)
        second(w, &rng, 500, &(struct load){.median_us = 50000});
    assert_true(delay_ms(w) > 0);
    /* the second copy is as slow as the first: armed and held out look alike */
    for (seconds = 0; delay_ms(w) > 0 && seconds < 400; seconds++)
        second(w, &rng, 500, &(struct load){.median_us = 50000});
    assert_true(seconds < 400);
    assert_int_equal(last.reason, REASON_HEDGE_OFF);
    assert_int_equal(last.fact2, FACT_HEDGE_GAIN);
    assert_true(last.value2 < 0.05);
    const struct hedge_loop *l = &w->e->s.hedge[0];
    assert_true(l->off_until_us > w->now_us + 590 * US_PER_S);
    for (int i = 0; i < 60; i++)
        second(w, &rng, 500, &(struct load){.median_us = 50000});
    assert_near(delay_ms(w), 0, 0);
    world_free(w);
}

static void with_gain_it_goes_on(void **state)
{
    (void)state;
    struct world *w = world_new(EV_MODE_ACT);
    struct rng rng;
    rng_init(&rng, 5);
    for (int i = 0; i < 400; i++)
        second(w, &rng, 500,
               &(struct load){.median_us = 50000, .copied_us = delay_ms(w) * 1e3, .copy_us = 5000});
    assert_true(delay_ms(w) > 0);
    assert_true(w->e->s.hedge[0].slow[1] > 30);
    world_free(w);
}

static void one_endpoint_modes_and_bounds(void **state)
{
    (void)state;
    struct rng rng;
    static const enum ev_mode modes[] = {EV_MODE_OBSERVE, EV_MODE_RECOMMEND};
    for (size_t m = 0; m < FB_COUNT(modes); m++) {
        struct world *w = world_new(modes[m]);
        rng_init(&rng, 6);
        for (int i = 0; i < 30; i++)
            second(w, &rng, 200, &(struct load){.median_us = 50000});
        assert_near(delay_ms(w), 0, 0);
        world_free(w);
    }
    struct world *w = world_new(EV_MODE_ACT);
    w->e->s.name[EV_KIND_ENDPOINT][1].is_used = 0;
    w->e->s.name[EV_KIND_ENDPOINT][2].is_used = 0;
    rng_init(&rng, 7);
    for (int i = 0; i < 30; i++)
        second(w, &rng, 200, &(struct load){.median_us = 50000});
    assert_near(delay_ms(w), 0, 0);
    world_free(w);
    w = world_new(EV_MODE_ACT);
    control_layer(w->e, KNOB_HEDGE_DELAY_MS, 0)->max = 0; /* hedge: off */
    for (int i = 0; i < 30; i++)
        second(w, &rng, 200, &(struct load){.median_us = 50000});
    assert_near(delay_ms(w), 0, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_delay_is_the_time_of_95_percent),
        cmocka_unit_test(copies_do_not_shorten_the_delay_that_sends_them),
        cmocka_unit_test(an_endpoint_that_hangs_does_not_drag_the_delay_along),
        cmocka_unit_test(without_gain_it_stops_for_ten_minutes),
        cmocka_unit_test(with_gain_it_goes_on),
        cmocka_unit_test(one_endpoint_modes_and_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
