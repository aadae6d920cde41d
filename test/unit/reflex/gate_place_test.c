/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/gate.h"

static struct gate *g;
static struct gate_conf conf;
static uint16_t ep[4];
static struct gate_ticket t[600];
static uint64_t now_us;

static void open_gate(uint32_t endpoints, uint32_t limit)
{
    now_us = 100 * US_PER_S;
    gate_conf_default(&conf, 400 * US_PER_MS); /* waits 200 ms, 50 ms at a pin */
    conf.is_limit_learned = false;
    conf.limit_fixed = limit;
    g = gate_new(&conf, 1);
    assert_non_null(g);
    for (uint32_t i = 0; i < endpoints; i++) {
        ep[i] = gate_endpoint_add(
            g, &(struct gate_keep){.limit = limit, .base_us = 10000, .cv = 1, .latency_us = 10000},
            now_us);
        gate_endpoint_place(g, ep[i], &(struct gate_place){.identity = i + 1, .pin = 101 + i});
    }
    for (size_t i = 0; i < FB_COUNT(t); i++)
        t[i] = (struct gate_ticket){.arrive_us = now_us,
                                    .deadline_us = UINT64_MAX,
                                    .class = EV_CLASS_DEFAULT,
                                    .is_idempotent = true};
}

static int close_gate(void **state)
{
    (void)state;
    gate_free(g);
    g = NULL;
    return 0;
}

static bool was_said(enum ev_reason why)
{
    union ev_any events[64];
    size_t n = gate_take_events(g, events, FB_COUNT(events));
    bool is_there = false;
    for (size_t i = 0; i < n; i++)
        is_there |= events[i].head.type == EV_HEALTH && events[i].health.reason == why;
    return is_there;
}

/* ---- sticky sessions ---- */

static void pinned_goes_to_its_own_endpoint(void **state)
{
    (void)state;
    open_gate(4, 8);
    for (int i = 0; i < 8; i++) {
        t[i].pin = 103;
        assert_int_equal(gate_arrive(g, &t[i], now_us), GATE_SEND);
        assert_int_equal(t[i].endpoint, ep[2]);
    }
}

static void unknown_pin_is_balanced(void **state)
{
    (void)state;
    open_gate(2, 4);
    t[0].pin = 999;
    assert_int_equal(gate_arrive(g, &t[0], now_us), GATE_SEND);
}

static void full_endpoint_is_waited_for_by_class(void **state)
{
    (void)state;
    open_gate(2, 1);
    for (int i = 0; i < 4; i++)
        t[i].pin = 101;
    t[3].class = EV_CLASS_CRITICAL;
    assert_int_equal(gate_arrive(g, &t[0], now_us), GATE_SEND);
    for (int i = 1; i < 4; i++)
        assert_int_equal(gate_arrive(g, &t[i], now_us), GATE_WAIT);
    assert_null(gate_next(g, now_us)); /* the other one has room and is not asked */
    struct gate_view view;
    gate_view(g, &view);
    assert_int_equal(view.queued[EV_CLASS_DEFAULT], 2);
    static const int order[] = {3, 1, 2};
    for (int i = 0; i < 3; i++) {
        gate_done(g, &t[i == 0 ? 0 : order[i - 1]], GATE_OK, now_us);
        assert_ptr_equal(gate_next(g, now_us), &t[order[i]]);
        assert_int_equal(t[order[i]].endpoint, ep[0]);
        assert_null(gate_next(g, now_us));
    }
}

static void whoever_waits_too_long_goes_elsewhere(void **state)
{
    (void)state;
    open_gate(2, 1);
    t[0].pin = t[1].pin = 101;
    gate_arrive(g, &t[0], now_us);
    assert_int_equal(gate_arrive(g, &t[1], now_us), GATE_WAIT);
    now_us += 49 * US_PER_MS;
    assert_null(gate_next(g, now_us));
    now_us += 2 * US_PER_MS;
    assert_ptr_equal(gate_next(g, now_us), &t[1]);
    assert_int_equal(t[1].state, GATE_IN_FLIGHT);
    assert_int_equal(t[1].endpoint, ep[1]);
}

static void drained_or_gone_endpoint_frees_those_who_wait(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        open_gate(2, 1);
        t[0].pin = t[1].pin = 101;
        gate_arrive(g, &t[0], now_us);
        assert_int_equal(gate_arrive(g, &t[1], now_us), GATE_WAIT);
        if (way == 0)
            gate_endpoint_drain(g, ep[0], true, now_us);
        else if (way == 1)
            gate_endpoint_remove(g, ep[0], now_us);
        else
            gate_endpoint_word(g, ep[0], &(struct gate_word){.weight_pct = 100, .is_out = true},
                               now_us);
        assert_ptr_equal(gate_next(g, now_us), &t[1]);
        assert_int_equal(t[1].endpoint, ep[1]);
        gate_done(g, &t[0], GATE_OK, now_us);
        gate_done(g, &t[1], GATE_OK, now_us);
        close_gate(NULL);
    }
}

static void endpoint_that_left_waits_for_its_last_ticket(void **state)
{
    (void)state;
    open_gate(1, 1);
    struct gate_endpoint_view view;
    t[0].pin = t[1].pin = 101;
    gate_arrive(g, &t[0], now_us);
    assert_int_equal(gate_arrive(g, &t[1], now_us), GATE_WAIT);
    gate_endpoint_remove(g, ep[0], now_us);
    gate_done(g, &t[0], GATE_OK, now_us);
    assert_true(gate_endpoint_view(g, ep[0], &view));
    assert_ptr_equal(gate_next(g, now_us), &t[1]); /* nobody else is there */
    assert_int_equal(t[1].reason, REASON_NO_ENDPOINT);
    assert_false(gate_endpoint_view(g, ep[0], &view));
}

static void cancelled_while_waiting_is_forgotten(void **state)
{
    (void)state;
    open_gate(2, 1);
    for (int i = 0; i < 4; i++)
        t[i].pin = 101;
    gate_arrive(g, &t[0], now_us);
    for (int i = 1; i < 4; i++)
        gate_arrive(g, &t[i], now_us);
    gate_cancel(g, &t[2], now_us);
    gate_cancel(g, &t[1], now_us);
    gate_done(g, &t[0], GATE_OK, now_us);
    assert_ptr_equal(gate_next(g, now_us), &t[3]);
    gate_cancel(g, &t[3], now_us);
    struct gate_view view;
    gate_view(g, &view);
    assert_int_equal(view.in_flight, 0);
    assert_int_equal(view.queued[EV_CLASS_DEFAULT], 0);
}

static void deadline_ends_the_wait(void **state)
{
    (void)state;
    open_gate(2, 1);
    t[0].pin = t[1].pin = 101;
    t[1].deadline_us = now_us + 10 * US_PER_MS;
    gate_arrive(g, &t[0], now_us);
    assert_int_equal(gate_arrive(g, &t[1], now_us), GATE_WAIT);
    now_us += 11 * US_PER_MS;
    assert_ptr_equal(gate_next(g, now_us), &t[1]);
    assert_int_equal(t[1].state, GATE_ENDED);
    assert_int_equal(t[1].reason, REASON_SHED_DEADLINE);
}

static void list_of_those_who_wait_is_bounded(void **state)
{
    (void)state;
    open_gate(2, 300);
    struct gate_view view;
    for (int i = 0; i < 600; i++) {
        t[i].pin = 101;
        gate_arrive(g, &t[i], now_us);
    }
    gate_view(g, &view);
    assert_int_equal(view.in_flight, 344); /* 300 at home, 256 wait, the rest elsewhere */
    assert_int_equal(view.queued[EV_CLASS_DEFAULT], 256);
}

static void a_retry_leaves_the_pin(void **state)
{
    (void)state;
    open_gate(2, 4);
    uint64_t backoff_us;
    t[0].pin = 101;
    gate_arrive(g, &t[0], now_us);
    gate_done(g, &t[0], GATE_CONNECT_FAILED, now_us);
    assert_true(gate_retry(g, &t[0], GATE_CONNECT_FAILED, &backoff_us, now_us));
    assert_int_equal(gate_retry_send(g, &t[0], now_us), GATE_SEND);
    assert_int_equal(t[0].endpoint, ep[1]);
}

/* ---- zones and tiers ---- */

static void place(uint32_t i, bool is_far, uint8_t tier)
{
    gate_endpoint_place(g, ep[i],
                        &(struct gate_place){.identity = i + 1, .is_far = is_far, .tier = tier});
}

static void own_zone_is_filled_first(void **state)
{
    (void)state;
    open_gate(4, 3);
    place(2, true, 0);
    place(3, true, 0);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(gate_arrive(g, &t[i], now_us), GATE_SEND);
        bool is_far = t[i].endpoint == ep[2] || t[i].endpoint == ep[3];
        assert_int_equal(is_far, i >= 6);
        assert_int_equal(t[i].traits, is_far ? EV_TRAIT_BIT(FAR_ZONE) : 0);
    }
    struct gate_view view;
    gate_view(g, &view);
    assert_true(view.far_share > 0.49 && view.far_share < 0.51);
}

static void a_ticket_says_whether_it_is_at_home(void **state)
{
    (void)state;
    open_gate(3, 1);
    conf.balance = GATE_BALANCE_HASH;
    gate_reconfigure(g, &conf);
    for (int i = 0; i < 2; i++) {
        t[i].place_hash = 77;
        assert_int_equal(gate_arrive(g, &t[i], now_us), GATE_SEND);
        assert_int_equal(t[i].traits, i == 0 ? EV_TRAIT_BIT(HOME) : EV_TRAIT_BIT(AWAY));
    }
    assert_int_equal(gate_arrive(g, &t[2], now_us), GATE_SEND);
    assert_int_equal(t[2].traits, 0);
}

static void a_spill_is_said_and_its_end_too(void **state)
{
    (void)state;
    open_gate(2, 1);
    place(1, true, 0);
    was_said(REASON_NONE);
    gate_arrive(g, &t[0], now_us);
    for (int i = 1; i < 10; i++) {
        gate_arrive(g, &t[i], now_us);
        gate_done(g, &t[i], GATE_OK, now_us);
    }
    gate_tick(g, now_us += 100 * US_PER_MS);
    assert_true(was_said(REASON_HEALTH_ZONE_SPILL));
    gate_done(g, &t[0], GATE_OK, now_us);
    for (int i = 10; i < 500; i++) {
        gate_arrive(g, &t[i], now_us);
        assert_int_equal(t[i].endpoint, ep[0]);
        gate_done(g, &t[i], GATE_OK, now_us);
        gate_tick(g, now_us += 20 * US_PER_MS);
    }
    assert_true(was_said(REASON_HEALTH_ZONE_HOME));
}

static void a_bad_own_zone_is_left(void **state)
{
    (void)state;
    open_gate(2, 100);
    place(1, true, 0);
    /* the far one is known to answer in 10 ms; our own takes 300 ms now */
    for (int i = 0; i < 40; i++) {
        gate_arrive(g, &t[i], now_us);
        uint64_t took_us = t[i].endpoint == ep[0] ? 300 * US_PER_MS : 10 * US_PER_MS;
        now_us += took_us;
        gate_first_byte(g, &t[i], now_us);
        gate_done(g, &t[i], GATE_OK, now_us);
    }
    gate_arrive(g, &t[50], now_us);
    assert_int_equal(t[50].endpoint, ep[1]);
}

static void spare_tier_waits_for_the_first_to_fail(void **state)
{
    (void)state;
    open_gate(3, 2);
    place(2, false, 1);
    struct gate_endpoint_view view;
    for (int i = 0; i < 4; i++) {
        gate_arrive(g, &t[i], now_us);
        assert_true(t[i].endpoint != ep[2]);
    }
    assert_int_equal(gate_arrive(g, &t[4], now_us), GATE_WAIT); /* full is no failure */
    assert_true(gate_endpoint_view(g, ep[2], &view));
    assert_true(view.is_spare);
    gate_endpoint_drain(g, ep[0], true, now_us);
    gate_endpoint_word(g, ep[1], &(struct gate_word){.weight_pct = 100, .is_down = true}, now_us);
    assert_ptr_equal(gate_next(g, now_us), &t[4]);
    assert_int_equal(t[4].endpoint, ep[2]);
    gate_endpoint_drain(g, ep[0], false, now_us);
    gate_endpoint_view(g, ep[2], &view);
    assert_true(view.is_spare);
}

static void a_broken_tier_gets_help_when_it_is_full(void **state)
{
    (void)state;
    open_gate(3, 2);
    place(2, false, 1);
    gate_endpoint_word(g, ep[1], &(struct gate_word){.weight_pct = 100, .is_down = true}, now_us);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gate_arrive(g, &t[i], now_us), GATE_SEND);
        assert_int_equal(t[i].endpoint, i < 2 ? ep[0] : ep[2]);
    }
    assert_int_equal(gate_arrive(g, &t[4], now_us), GATE_WAIT);
    gate_endpoint_word(g, ep[1], &(struct gate_word){.weight_pct = 100}, now_us);
    assert_ptr_equal(gate_next(g, now_us), &t[4]);
    assert_int_equal(t[4].endpoint, ep[1]);
}

/* ---- the word of agents, and caps ---- */

static void a_cap_holds_below_any_limit(void **state)
{
    (void)state;
    open_gate(1, 100);
    gate_endpoint_place(g, ep[0], &(struct gate_place){.cap = 3});
    for (int i = 0; i < 3; i++)
        assert_int_equal(gate_arrive(g, &t[i], now_us), GATE_SEND);
    assert_int_equal(gate_arrive(g, &t[3], now_us), GATE_WAIT);
    conf.is_limit_learned = true;
    conf.limit_min = 10; /* above the cap: the cap is the operator's harder word */
    gate_reconfigure(g, &conf);
    gate_endpoint_limit(g, ep[0], 1, 4096, 50);
    struct gate_endpoint_view view;
    gate_endpoint_view(g, ep[0], &view);
    assert_int_equal(view.limit, 3);
}

static void the_word_of_an_agent_is_followed_and_said(void **state)
{
    (void)state;
    open_gate(2, 10);
    struct gate_endpoint_view view;
    struct gate_word word = {.weight_pct = 50};
    was_said(REASON_NONE);
    gate_endpoint_word(g, ep[0], &word, now_us);
    assert_true(was_said(REASON_HEALTH_AGENT_WEIGHT));
    gate_endpoint_view(g, ep[0], &view);
    assert_true(view.weight > 0.49 && view.weight < 0.51);
    word.cap = 2;
    gate_endpoint_word(g, ep[0], &word, now_us);
    gate_endpoint_view(g, ep[0], &view);
    assert_int_equal(view.limit, 2);
    word.is_out = true;
    gate_endpoint_word(g, ep[0], &word, now_us);
    assert_true(was_said(REASON_HEALTH_AGENT_OUT));
    for (int i = 0; i < 6; i++) {
        gate_arrive(g, &t[i], now_us);
        assert_int_equal(t[i].endpoint, ep[1]);
    }
    word.is_out = false;
    gate_endpoint_word(g, ep[0], &word, now_us);
    assert_true(was_said(REASON_HEALTH_AGENT_BACK));
    word.is_down = true;
    gate_endpoint_word(g, ep[0], &word, now_us);
    assert_true(was_said(REASON_HEALTH_AGENT_DOWN));
    gate_endpoint_word(g, ep[0], &(struct gate_word){.weight_pct = 100, .is_lost = true}, now_us);
    assert_true(was_said(REASON_HEALTH_AGENT_LOST));
    gate_endpoint_view(g, ep[0], &view);
    assert_false(view.is_out);
    assert_int_equal(view.limit, 10);
}

static void all_agents_out_is_no_endpoint(void **state)
{
    (void)state;
    open_gate(2, 10);
    for (int i = 0; i < 2; i++)
        gate_endpoint_word(g, ep[i], &(struct gate_word){.weight_pct = 100, .is_out = true},
                           now_us);
    assert_int_equal(gate_arrive(g, &t[0], now_us), GATE_SHED);
    assert_int_equal(t[0].reason, REASON_NO_ENDPOINT);
    /* drained by an operator as well: counted once */
    gate_endpoint_drain(g, ep[0], true, now_us);
    gate_endpoint_word(g, ep[0], &(struct gate_word){.weight_pct = 100}, now_us);
    assert_int_equal(gate_arrive(g, &t[1], now_us), GATE_SHED);
    gate_endpoint_drain(g, ep[0], false, now_us);
    assert_int_equal(gate_arrive(g, &t[2], now_us), GATE_SEND);
    gate_endpoint_remove(g, ep[1], now_us);
    assert_int_equal(gate_arrive(g, &t[3], now_us), GATE_SEND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(pinned_goes_to_its_own_endpoint, close_gate),
        cmocka_unit_test_teardown(unknown_pin_is_balanced, close_gate),
        cmocka_unit_test_teardown(full_endpoint_is_waited_for_by_class, close_gate),
        cmocka_unit_test_teardown(whoever_waits_too_long_goes_elsewhere, close_gate),
        cmocka_unit_test_teardown(drained_or_gone_endpoint_frees_those_who_wait, close_gate),
        cmocka_unit_test_teardown(endpoint_that_left_waits_for_its_last_ticket, close_gate),
        cmocka_unit_test_teardown(cancelled_while_waiting_is_forgotten, close_gate),
        cmocka_unit_test_teardown(deadline_ends_the_wait, close_gate),
        cmocka_unit_test_teardown(list_of_those_who_wait_is_bounded, close_gate),
        cmocka_unit_test_teardown(a_retry_leaves_the_pin, close_gate),
        cmocka_unit_test_teardown(own_zone_is_filled_first, close_gate),
        cmocka_unit_test_teardown(a_ticket_says_whether_it_is_at_home, close_gate),
        cmocka_unit_test_teardown(a_spill_is_said_and_its_end_too, close_gate),
        cmocka_unit_test_teardown(a_bad_own_zone_is_left, close_gate),
        cmocka_unit_test_teardown(spare_tier_waits_for_the_first_to_fail, close_gate),
        cmocka_unit_test_teardown(a_broken_tier_gets_help_when_it_is_full, close_gate),
        cmocka_unit_test_teardown(a_cap_holds_below_any_limit, close_gate),
        cmocka_unit_test_teardown(the_word_of_an_agent_is_followed_and_said, close_gate),
        cmocka_unit_test_teardown(all_agents_out_is_no_endpoint, close_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
