/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/gate.h"
#include "reflex/hedge.h"

static const uint64_t t0 = 100 * US_PER_S;
static const struct hedge_seen spare = {.has_other = true, .has_room = true};
static const struct hedge_seen stalled = {.is_stalled = true, .has_other = true, .has_room = true};

/* ---- the budget ---- */

static void hedges_stay_a_share_of_the_requests(void **state)
{
    (void)state;
    struct hedge h;
    uint32_t sent = 0;
    hedge_init(&h, 2, t0);
    for (uint32_t i = 0; i < 10000; i++) {
        uint64_t now_us = t0 + i * 1000;
        hedge_earn(&h, now_us);
        sent += hedge_ask(&h, &stalled, now_us) != HEDGE_NO; /* everybody asks */
        assert_true(sent <= 1 + (i + 1) * 0.02 + 1e-6);
    }
    assert_int_equal(sent, 201);
    hedge_set_pct(&h, 0);
    assert_int_equal(hedge_ask(&h, &spare, t0 + 10 * US_PER_S), HEDGE_NO);
}

static void what_a_lull_saved_is_bounded(void **state)
{
    (void)state;
    struct hedge h;
    hedge_init(&h, 2, t0);
    for (uint32_t i = 0; i < 100000; i++) /* 1,000 a second: 200 tokens are 10 s of earning */
        hedge_earn(&h, t0 + i * 1000);
    uint32_t slow = 0, sent = 0;
    while (hedge_ask(&h, &spare, t0 + 100 * US_PER_S) != HEDGE_NO)
        slow++;
    assert_in_range(slow, 75, 105); /* half is left for a stall */
    while (hedge_ask(&h, &stalled, t0 + 100 * US_PER_S) != HEDGE_NO)
        sent++;
    assert_in_range(slow + sent, 150, 210);
}

/* ---- when ---- */

static void slow_answers_are_copied_only_into_room_that_nobody_wants(void **state)
{
    (void)state;
    static const struct {
        struct hedge_seen seen;
        double utilisation;
        enum hedge_answer want;
    } rows[] = {
        {{.has_other = true, .has_room = true}, 0.5, HEDGE_SEND},
        {{.has_other = true, .has_room = true}, 0.71, HEDGE_NO},
        {{.has_other = true, .has_room = true, .is_limiting = true}, 0.5, HEDGE_NO},
        {{.has_other = true}, 0.5, HEDGE_NO},
        {{.has_room = true}, 0.5, HEDGE_NO},
        {{.is_stalled = true}, 0.5, HEDGE_NO},
        {{.is_stalled = true, .has_other = true, .has_room = true}, 0.95, HEDGE_SEND},
        {{.is_stalled = true, .has_other = true}, 0.95, HEDGE_QUEUE},
        {{.is_stalled = true, .has_other = true, .has_room = true, .is_limiting = true},
         0.95,
         HEDGE_QUEUE},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct hedge h;
        hedge_init(&h, 2, t0);
        h.utilisation = rows[i].utilisation;
        assert_int_equal(hedge_ask(&h, &rows[i].seen, t0), rows[i].want);
        assert_true(rows[i].want == HEDGE_NO ? h.tokens == 1 : h.tokens == 0);
    }
}

static void utilisation_is_a_mean_of_seconds_not_a_moment(void **state)
{
    (void)state;
    struct hedge h;
    hedge_init(&h, 2, t0);
    for (uint32_t i = 1; i <= 600; i++)
        hedge_tick(&h, 6, 10, t0 + i * 100 * US_PER_MS);
    assert_true(h.utilisation > 0.59 && h.utilisation < 0.61);
    for (uint32_t i = 1; i <= 20; i++) /* two bad seconds */
        hedge_tick(&h, 10, 10, t0 + (60 * 10 + i) * 100 * US_PER_MS);
    assert_true(h.utilisation < 0.7);
    for (uint32_t i = 1; i <= 100; i++)
        hedge_tick(&h, 10, 10, t0 + (62 * 10 + i) * 100 * US_PER_MS);
    assert_true(h.utilisation > 0.8);
}

/* ---- in the gate ---- */

static struct gate_ticket fresh(void)
{
    return (struct gate_ticket){.arrive_us = t0,
                                .deadline_us = UINT64_MAX,
                                .class = EV_CLASS_DEFAULT,
                                .is_idempotent = true};
}

static struct gate *open_gate(uint32_t endpoints, uint32_t limit)
{
    struct gate_conf conf;
    gate_conf_default(&conf, 500 * US_PER_MS);
    conf.is_limit_learned = false;
    conf.limit_fixed = limit;
    struct gate *g = gate_new(&conf, 1);
    assert_non_null(g);
    for (uint32_t i = 0; i < endpoints; i++)
        gate_endpoint_add(
            g, &(struct gate_keep){.limit = limit, .base_us = 10000, .cv = 1, .latency_us = 10000},
            t0);
    return g;
}

static void the_copy_goes_where_the_first_was_not(void **state)
{
    (void)state;
    struct gate *g = open_gate(2, 4);
    struct gate_ticket first = fresh(), two = fresh(), three = fresh();
    assert_int_equal(gate_arrive(g, &first, t0), GATE_SEND);
    gate_tick(g, t0 + 100 * US_PER_MS);
    assert_int_equal(gate_hedge(g, &two, &first, t0 + 100 * US_PER_MS), GATE_SEND);
    assert_int_not_equal(two.endpoint, first.endpoint);
    assert_int_equal(gate_hedge(g, &three, &first, t0 + 100 * US_PER_MS), GATE_SHED);
    gate_done(g, &two, GATE_OK, t0 + 110 * US_PER_MS);
    gate_done(g, &first, GATE_OK, t0 + 120 * US_PER_MS);
    struct gate_view view;
    gate_view(g, &view);
    assert_int_equal(view.in_flight, 0);
    assert_int_equal(view.hedges, 1);
    gate_free(g);
}

static void one_endpoint_has_no_second(void **state)
{
    (void)state;
    struct gate *g = open_gate(1, 4);
    struct gate_ticket first = fresh(), two = fresh();
    assert_int_equal(gate_arrive(g, &first, t0), GATE_SEND);
    assert_int_equal(gate_hedge(g, &two, &first, t0 + 500 * US_PER_MS), GATE_SHED);
    assert_int_equal(two.state, GATE_NEW);
    gate_done(g, &first, GATE_OK, t0 + US_PER_S);
    gate_free(g);
}

/* Endpoint 0 completes nothing, 1 is full and others wait: what 0 holds queues for 1. */
static void what_a_stalled_endpoint_holds_waits_with_the_others(void **state)
{
    (void)state;
    struct gate *g = open_gate(2, 1);
    struct gate_ticket first = fresh(), other = fresh(), waits = fresh(), two = fresh();
    assert_int_equal(gate_arrive(g, &first, t0), GATE_SEND);
    assert_int_equal(gate_arrive(g, &other, t0), GATE_SEND);
    uint64_t now_us = t0;
    for (int i = 0; i < 30; i++) { /* <other>'s endpoint works, <first>'s does not */
        now_us += 10 * US_PER_MS;
        gate_first_byte(g, &other, now_us);
        gate_done(g, &other, GATE_OK, now_us);
        other = fresh();
        assert_int_equal(gate_arrive(g, &other, now_us), GATE_SEND);
    }
    assert_int_equal(gate_arrive(g, &waits, now_us), GATE_WAIT);
    assert_int_equal(gate_hedge(g, &two, &first, now_us), GATE_WAIT);
    gate_done(g, &other, GATE_OK, now_us + 5000);
    assert_ptr_equal(gate_next(g, now_us + 5000), &waits);
    gate_done(g, &waits, GATE_OK, now_us + 10000);
    assert_ptr_equal(gate_next(g, now_us + 10000), &two);
    assert_int_not_equal(two.endpoint, first.endpoint);
    gate_done(g, &two, GATE_OK, now_us + 15000);
    gate_cancel(g, &first, now_us + 15000);
    gate_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hedges_stay_a_share_of_the_requests),
        cmocka_unit_test(what_a_lull_saved_is_bounded),
        cmocka_unit_test(slow_answers_are_copied_only_into_room_that_nobody_wants),
        cmocka_unit_test(utilisation_is_a_mean_of_seconds_not_a_moment),
        cmocka_unit_test(the_copy_goes_where_the_first_was_not),
        cmocka_unit_test(one_endpoint_has_no_second),
        cmocka_unit_test(what_a_stalled_endpoint_holds_waits_with_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
