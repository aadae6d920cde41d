/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/balance.h"

#define SEATS 8
static struct balance b;
static struct balance_seat seats[300];
static struct balance_seat *list[300];
static const uint64_t t0 = 100 * US_PER_S;

static int setup(void **state)
{
    (void)state;
    balance_init(&b, GATE_BALANCE_ADAPTIVE, 1);
    for (uint16_t i = 0; i < FB_COUNT(seats); i++) {
        balance_seat_init(&seats[i], i, 10000, t0);
        list[i] = &seats[i];
    }
    return 0;
}

static void count_picks(uint32_t n, uint32_t rounds, uint32_t *picks)
{
    for (uint32_t i = 0; i < n; i++)
        picks[i] = 0;
    for (uint32_t k = 0; k < rounds; k++)
        picks[balance_pick(&b, list, n, t0)]++;
}

struct score_row {
    const char *says;
    double latency_us[2], error[2], weight[2];
    uint32_t in_flight[2];
    uint32_t want; /* 0 or 1; 2: either */
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct score_row scores[] = {
    ROW("fewer in flight wins among equals", {10000, 10000}, {0, 0}, {1, 1}, {3, 2}, 1),
    ROW("a latency within the band counts as equal", {10000, 14900}, {0, 0}, {1, 1}, {3, 2}, 1),
    ROW("beyond the band latency multiplies", {10000, 30000}, {0, 0}, {1, 1}, {1, 0}, 0),
    ROW("enough load makes the slow one right", {10000, 30000}, {0, 0}, {1, 1}, {3, 0}, 1),
    ROW("failures make fast answers dear", {10000, 1000}, {0, 0.5}, {1, 1}, {5, 0}, 0),
    ROW("twice the weight carries twice the load", {10000, 10000}, {0, 0}, {1, 2}, {1, 2}, 1),
    ROW("weight 0 takes out gently", {10000, 10000}, {0, 0}, {1, 0}, {50, 0}, 0),
    ROW("unknown latency counts as the best", {10000, 0}, {0, 0}, {1, 1}, {1, 0}, 1),
};
#undef ROW

static void score_follows_load_latency_failures_and_weight(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(scores); i++) {
        const struct score_row *row = &scores[i];
        for (int k = 0; k < 2; k++) {
            seats[k].latency_us = row->latency_us[k];
            seats[k].error_ratio = row->error[k];
            seats[k].weight = row->weight[k];
            seats[k].in_flight = row->in_flight[k];
            seats[k].completion_us = t0;
        }
        uint32_t at = balance_pick(&b, list, 2, t0);
        if (at != row->want)
            fail_msg("%s: chose %u", row->says, at);
    }
}

static void equal_seats_are_used_alike(void **state)
{
    (void)state;
    uint32_t picks[SEATS];
    count_picks(SEATS, 8000, picks);
    for (int i = 0; i < SEATS; i++) {
        assert_true(picks[i] > 850);
        assert_true(picks[i] < 1150);
    }
}

static void latency_is_a_mean_over_three_seconds(void **state)
{
    (void)state;
    struct balance_seat *s = &seats[0];
    for (uint64_t t = t0; t < t0 + 3 * US_PER_S; t += 10 * US_PER_MS)
        balance_on_latency(s, 20000, t);
    /* 1 - 1/e of the way, and a little more for the 1 % floor of each sample */
    assert_true(s->latency_us > 16000);
    assert_true(s->latency_us < 19900);
    balance_on_latency(s, 50000, t0 + 60 * US_PER_S);
    assert_true(s->latency_us > 49900); /* the old value means nothing any more */
}

static void censored_samples_only_raise(void **state)
{
    (void)state;
    balance_on_censored(&seats[0], 5000, t0 + US_PER_S);
    assert_true(seats[0].latency_us >= 10000);
    balance_on_censored(&seats[0], 500000, t0 + US_PER_S);
    assert_true(seats[0].latency_us > 10000);
}

static void idle_slow_seat_is_tried_again(void **state)
{
    (void)state;
    seats[0].latency_us = 100000;
    assert_int_equal(balance_pick(&b, list, 2, t0), 1);
    bool is_tried = false;
    for (uint64_t t = t0; t < t0 + 30 * US_PER_S && !is_tried; t += 50 * US_PER_MS) {
        uint32_t at = balance_pick(&b, list, 2, t);
        is_tried = at == 0;
        balance_on_send(list[at], t);
        balance_on_done(list[at], t + 10);
    }
    assert_true(is_tried);
}

static void failing_seat_recovers_its_name(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++)
        balance_on_verdict(&seats[0], true, t0 + (uint64_t)i * 10000);
    assert_true(seats[0].error_ratio > 0.95);
    double bad = balance_cost_us(&seats[0], t0 + 5 * US_PER_S);
    assert_true(bad > 400000);
    for (int i = 0; i < 500; i++)
        balance_on_verdict(&seats[0], false, t0 + 5 * US_PER_S + (uint64_t)i * 10000);
    assert_true(seats[0].error_ratio < 0.05);
}

static void stalled_seat_costs_its_silence(void **state)
{
    (void)state;
    balance_on_send(&seats[0], t0);
    assert_false(balance_is_stalled(&seats[0], t0 + 50 * US_PER_MS));
    assert_false(balance_is_stalled(&seats[0], t0 + 79 * US_PER_MS)); /* 8 x 10 ms */
    assert_true(balance_is_stalled(&seats[0], t0 + 81 * US_PER_MS));
    assert_true(balance_cost_us(&seats[0], t0 + 2 * US_PER_S) >= 2e6);
    balance_on_done(&seats[0], t0 + 2 * US_PER_S);
    assert_true(balance_cost_us(&seats[0], t0 + 2 * US_PER_S) <= 10000);
}

static void stall_leaves_no_mark(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        balance_on_send(&seats[0], t0);
    uint64_t now_us = t0 + 2 * US_PER_S;
    for (int i = 0; i < 4; i++) { /* all four sat it out */
        balance_on_latency(&seats[0], 2 * US_PER_S, now_us);
        balance_on_done(&seats[0], now_us);
    }
    assert_true(seats[0].latency_us < 15000); /* within the band of its 10 ms */
}

static void slow_for_good_is_noticed_though_it_looks_like_stalls(void **state)
{
    (void)state;
    uint64_t now_us = t0;
    int n = 0;
    for (; n < 100 && seats[0].latency_us < 500000; n++) { /* one by one, 100 x slower */
        balance_on_send(&seats[0], now_us);
        now_us += US_PER_S;
        balance_on_latency(&seats[0], US_PER_S, now_us);
        balance_on_done(&seats[0], now_us);
    }
    assert_true(n < 40);
}

static void retry_after_is_respected(void **state)
{
    (void)state;
    seats[0].hold_us = t0 + 5 * US_PER_S;
    seats[1].in_flight = 200;
    seats[1].completion_us = t0;
    assert_int_equal(balance_pick(&b, list, 2, t0), 1);
    seats[0].hold_us = t0;
    assert_int_equal(balance_pick(&b, list, 2, t0), 0);
}

static void newcomer_gets_a_tenth_and_grows(void **state)
{
    (void)state;
    uint32_t picks[5];
    balance_tick(&b, list, 5, t0);
    balance_seat_ramp(&b, &seats[0], t0);
    assert_true(seats[0].latency_us > 9999); /* the median of the others */
    count_picks(5, 10000, picks);
    assert_true(picks[0] > 100);
    assert_true(picks[0] < 320); /* a tenth of a fifth is 200 */
    seats[0].ramp_samples = 50;
    balance_tick(&b, list, 5, t0 + 4 * US_PER_S);
    assert_true(seats[0].ramp_us > 0);
    balance_tick(&b, list, 5, t0 + 5 * US_PER_S);
    assert_int_equal(seats[0].ramp_us, 0);
    count_picks(5, 10000, picks);
    assert_true(picks[0] > 1700);
}

static void slow_newcomer_ramps_longer_but_not_for_ever(void **state)
{
    (void)state;
    balance_tick(&b, list, 5, t0);
    balance_seat_ramp(&b, &seats[0], t0);
    seats[0].ramp_samples = 500;
    seats[0].latency_us = 50000;
    balance_tick(&b, list, 5, t0 + 20 * US_PER_S);
    assert_true(seats[0].ramp_us > 0);
    balance_tick(&b, list, 5, t0 + 30 * US_PER_S);
    assert_int_equal(seats[0].ramp_us, 0);
}

static void when_all_are_new_none_waits(void **state)
{
    (void)state;
    uint32_t picks[4];
    for (int i = 0; i < 4; i++)
        balance_seat_ramp(&b, &seats[i], t0);
    count_picks(4, 4000, picks);
    for (int i = 0; i < 4; i++)
        assert_true(picks[i] > 800);
}

static void many_seats_are_drawn_without_replacement(void **state)
{
    (void)state;
    /* 100 seats, 97 of them slow: four draws meet a fast one in 12 % of picks, and then it wins. */
    for (int i = 0; i < 97; i++)
        seats[i].latency_us = 1e6;
    uint32_t fast = 0;
    for (int k = 0; k < 5000; k++)
        fast += balance_pick(&b, list, 100, t0) >= 97;
    assert_true(fast > 450);
    assert_true(fast < 750);
    for (int i = 64; i < 97; i++)
        seats[i].latency_us = 10000;
    for (int k = 0; k < 200; k++) /* up to 64 all are looked at */
        assert_true(balance_pick(&b, list + 36, 64, t0) >= 28);
}

static void round_robin_takes_turns_by_number(void **state)
{
    (void)state;
    b.policy = GATE_BALANCE_ROUND_ROBIN;
    struct balance_seat *mixed[3] = {&seats[7], &seats[2], &seats[5]};
    static const uint16_t want[] = {2, 5, 7, 2, 5};
    for (size_t i = 0; i < FB_COUNT(want); i++)
        assert_int_equal(mixed[balance_pick(&b, mixed, 3, t0)]->index, want[i]);
    assert_int_equal(mixed[balance_pick(&b, mixed, 2, t0)]->index, 7); /* 5 is gone */
}

static void weighted_follows_the_weights(void **state)
{
    (void)state;
    uint32_t picks[3];
    b.policy = GATE_BALANCE_WEIGHTED;
    seats[0].weight = 5;
    seats[1].weight = 1;
    seats[2].weight = 0;
    count_picks(3, 600, picks);
    assert_int_equal(picks[0], 500);
    assert_int_equal(picks[1], 100);
    assert_int_equal(picks[2], 0);
}

static void least_request_ignores_latency(void **state)
{
    (void)state;
    b.policy = GATE_BALANCE_LEAST_REQUEST;
    seats[0].latency_us = 1e6;
    seats[1].in_flight = 1;
    assert_int_equal(balance_pick(&b, list, 2, t0), 0);
}

static void two_choices_never_take_the_worst_of_three(void **state)
{
    (void)state;
    b.policy = GATE_BALANCE_RANDOM_TWO;
    seats[1].in_flight = 9;
    for (int i = 0; i < 1000; i++)
        assert_int_not_equal(balance_pick(&b, list, 3, t0), 1);
}

static void shares_fade(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        balance_on_send(&seats[0], t0);
    assert_true(balance_picks(&seats[0], t0) > 99);
    double later = balance_picks(&seats[0], t0 + 5 * US_PER_S);
    assert_true(later > 36);
    assert_true(later < 38);
}

static void the_first_answer_counts_though_it_took_long(void **state)
{
    (void)state;
    balance_seat_init(&seats[0], 0, 0, t0);
    balance_on_send(&seats[0], t0);
    balance_on_send(&seats[0], t0);
    balance_on_latency(&seats[0], 480000, t0 + 480000);
    balance_on_done(&seats[0], t0 + 480000);
    assert_true(fabs(seats[0].latency_us - 480000) < 1);
    balance_on_latency(&seats[0], 520000, t0 + 520000);
    assert_true(seats[0].latency_us > 480000 && seats[0].latency_us < 520000);
}

static void tell(struct balance_seat *s, uint32_t in_flight, uint64_t answers, double mean_us,
                 uint64_t now_us)
{
    balance_on_others(s,
                      &(struct balance_told){.in_flight = in_flight,
                                             .answers = {answers, (double)answers * mean_us}},
                      now_us);
}

static void load_of_others_is_a_mean_over_seconds(void **state)
{
    (void)state;
    for (uint64_t t = t0; t < t0 + US_PER_S; t += 100000)
        tell(&seats[0], 10, 0, 0, t);
    assert_true(seats[0].others > 2 && seats[0].others < 4);
    for (uint64_t t = t0 + US_PER_S; t < t0 + 30 * US_PER_S; t += 100000)
        tell(&seats[0], 0, 0, 0, t);
    assert_true(seats[0].others <= 0); /* they are gone for good */
}

static void answers_of_others_count_while_there_are_no_own_ones(void **state)
{
    (void)state;
    balance_on_latency(&seats[0], 10000, t0);
    tell(&seats[0], 0, 20, 160000, t0 + 500000);
    assert_true(seats[0].latency_us < 10001); /* own ones speak for themselves */
    tell(&seats[0], 0, 20, 160000, t0 + 2 * US_PER_S);
    assert_true(seats[0].latency_us > 60000);
    balance_seat_init(&seats[1], 1, 0, t0);
    tell(&seats[1], 0, 1, 160000, t0);
    assert_true(fabs(seats[1].latency_us - 160000) < 1); /* nothing else is known */
}

static void a_slow_seat_is_not_tried_while_others_use_it(void **state)
{
    (void)state;
    seats[0].latency_us = seats[1].latency_us = 160000;
    for (uint64_t t = t0; t < t0 + 60 * US_PER_S; t += 100000)
        tell(&seats[0], 1, 0, 0, t);
    assert_true(balance_cost_us(&seats[0], t0 + 60 * US_PER_S) > 159000);
    assert_true(balance_cost_us(&seats[1], t0 + 60 * US_PER_S) < 1000);
    assert_true(balance_cost_us(&seats[0], t0 + 120 * US_PER_S) < 1000); /* they went */
}

static void failures_from_here_fade_though_others_use_the_seat(void **state)
{
    (void)state;
    seats[0].error_ratio = 1;
    for (uint64_t t = t0; t < t0 + 120 * US_PER_S; t += 100000)
        tell(&seats[0], 1, 1, 10000, t);
    assert_true(balance_cost_us(&seats[0], t0 + 120 * US_PER_S) < 15000);
}

static void a_longer_way_from_here_is_learned_and_forgotten(void **state)
{
    (void)state;
    uint64_t t = t0;
    for (; t < t0 + 60 * US_PER_S; t += 100000) { /* 40 ms from here, 10 ms from there */
        seats[0].latency_us = 40000;
        balance_on_latency(&seats[0], 40000, t);
        tell(&seats[0], 1, 5, 10000, t);
    }
    for (; t < t0 + 70 * US_PER_S; t += 100000)
        tell(&seats[0], 1, 5, 10000, t);
    assert_true(seats[0].latency_us > 30000); /* still far, though nobody here sent */
    for (; t < t0 + 600 * US_PER_S; t += 100000)
        tell(&seats[0], 1, 5, 10000, t);
    assert_true(seats[0].latency_us < 11000); /* worth a try: the way may be another one now */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(score_follows_load_latency_failures_and_weight, setup),
        cmocka_unit_test_setup(equal_seats_are_used_alike, setup),
        cmocka_unit_test_setup(latency_is_a_mean_over_three_seconds, setup),
        cmocka_unit_test_setup(censored_samples_only_raise, setup),
        cmocka_unit_test_setup(idle_slow_seat_is_tried_again, setup),
        cmocka_unit_test_setup(failing_seat_recovers_its_name, setup),
        cmocka_unit_test_setup(stalled_seat_costs_its_silence, setup),
        cmocka_unit_test_setup(stall_leaves_no_mark, setup),
        cmocka_unit_test_setup(slow_for_good_is_noticed_though_it_looks_like_stalls, setup),
        cmocka_unit_test_setup(retry_after_is_respected, setup),
        cmocka_unit_test_setup(newcomer_gets_a_tenth_and_grows, setup),
        cmocka_unit_test_setup(slow_newcomer_ramps_longer_but_not_for_ever, setup),
        cmocka_unit_test_setup(when_all_are_new_none_waits, setup),
        cmocka_unit_test_setup(many_seats_are_drawn_without_replacement, setup),
        cmocka_unit_test_setup(round_robin_takes_turns_by_number, setup),
        cmocka_unit_test_setup(weighted_follows_the_weights, setup),
        cmocka_unit_test_setup(least_request_ignores_latency, setup),
        cmocka_unit_test_setup(two_choices_never_take_the_worst_of_three, setup),
        cmocka_unit_test_setup(shares_fade, setup),
        cmocka_unit_test_setup(the_first_answer_counts_though_it_took_long, setup),
        cmocka_unit_test_setup(load_of_others_is_a_mean_over_seconds, setup),
        cmocka_unit_test_setup(answers_of_others_count_while_there_are_no_own_ones, setup),
        cmocka_unit_test_setup(a_slow_seat_is_not_tried_while_others_use_it, setup),
        cmocka_unit_test_setup(failures_from_here_fade_though_others_use_the_seat, setup),
        cmocka_unit_test_setup(a_longer_way_from_here_is_learned_and_forgotten, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
