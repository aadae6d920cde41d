/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/eject.h"

#define SEATS 10
static struct eject e;
static struct eject_seat seats[SEATS];
static struct eject_seat *list[SEATS];
static const uint64_t t0 = 100 * US_PER_S;

static int setup(void **state)
{
    (void)state;
    eject_init(&e, 1);
    for (int i = 0; i < SEATS; i++) {
        eject_seat_init(&seats[i], t0);
        list[i] = &seats[i];
    }
    return 0;
}

static void feed(uint32_t at, uint32_t good, uint32_t bad, uint64_t now_us)
{
    for (uint32_t i = 0; i < good; i++)
        eject_on_end(&seats[at], EJECT_GOOD, false, now_us);
    for (uint32_t i = 0; i < bad; i++)
        eject_on_end(&seats[at], EJECT_BAD, false, now_us);
}

struct judge_row {
    const char *says;
    uint32_t n, good, bad, others_good, others_bad;
    bool is_out;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct judge_row rows[] = {
    ROW("nineteen samples are too few", 3, 0, 19, 100, 0, false),
    ROW("twenty failures are enough", 3, 0, 20, 100, 0, true),
    ROW("a failure ratio below a half stays", 3, 21, 19, 100, 0, false),
    ROW("half and more goes", 3, 10, 10, 100, 0, true),
    ROW("when all fail alike none goes", 3, 0, 100, 0, 100, false),
    ROW("five per cent loss is no outlier", 3, 95, 5, 95, 5, false),
    ROW("the only one stays", 1, 0, 100, 0, 0, false),
};
#undef ROW

static void failing_is_judged_by_count_ratio_and_peers(void **state)
{
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct judge_row *row = &rows[i];
        setup(state);
        feed(0, row->good, row->bad, t0);
        for (uint32_t k = 1; k < row->n; k++)
            feed(k, row->others_good, row->others_bad, t0);
        struct eject_change c = eject_judge(&e, list, row->n, 0, t0);
        if ((c.to == EV_HEALTH_EJECTED && c.reason == REASON_HEALTH_PASSIVE_ERRORS) != row->is_out)
            fail_msg("%s: reason %d", row->says, (int)c.reason);
        if (row->is_out) {
            assert_int_equal(c.failures, row->bad);
            assert_int_equal(c.samples, row->bad + row->good);
            assert_false(eject_allows(&e, &seats[0]));
        }
    }
}

static void old_failures_are_forgotten(void **state)
{
    (void)state;
    feed(0, 0, 19, t0);
    feed(0, 0, 1, t0 + 10 * US_PER_S);
    uint32_t samples;
    assert_true(eject_failure_ratio(&seats[0], t0 + 10 * US_PER_S, &samples) > 0.99);
    assert_int_equal(samples, 1);
    eject_failure_ratio(&seats[0], t0 + 30 * US_PER_S, &samples);
    assert_int_equal(samples, 0);
}

static void a_good_past_does_not_vouch_for_a_row_of_failures(void **state)
{
    (void)state;
    for (uint64_t s = 0; s < 10; s++)
        for (uint32_t k = 0; k < 3; k++)
            feed(k, 200, 0, t0 + s * US_PER_S);
    uint64_t now_us = t0 + 9 * US_PER_S;
    feed(0, 0, 10, now_us + 199 * US_PER_MS);
    feed(1, 100, 1, now_us + 199 * US_PER_MS);
    assert_int_equal(eject_judge(&e, list, 3, 0, now_us + 199 * US_PER_MS).reason, REASON_NONE);
    assert_int_equal(eject_judge(&e, list, 3, 0, now_us + 200 * US_PER_MS).reason,
                     REASON_HEALTH_PASSIVE_ERRORS);
    assert_int_equal(eject_judge(&e, list, 3, 1, now_us + 200 * US_PER_MS).reason, REASON_NONE);
}

static void three_bad_seconds_are_enough_after_a_good_past(void **state)
{
    (void)state;
    for (uint64_t s = 0; s < 10; s++)
        for (uint32_t k = 0; k < 3; k++)
            feed(k, 200, 0, t0 + s * US_PER_S);
    for (uint64_t s = 10; s < 13; s++)
        for (uint32_t k = 0; k < 3; k++)
            feed(k, 90, k == 0 ? 100 : 0, t0 + s * US_PER_S);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0 + 12 * US_PER_S).reason,
                     REASON_HEALTH_PASSIVE_ERRORS);
}

static void refused_connections_in_a_row_eject(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        eject_on_end(&seats[0], EJECT_NO_CONNECT, false, t0);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0).reason, REASON_NONE); /* one burst */
    struct eject_change c = eject_judge(&e, list, 3, 0, t0 + 50 * US_PER_MS);
    assert_int_equal(c.reason, REASON_HEALTH_PASSIVE_CONNECT);
}

static void one_success_ends_the_row(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        eject_on_end(&seats[0], EJECT_NO_CONNECT, false, t0);
    eject_on_end(&seats[0], EJECT_GOOD, false, t0);
    for (int i = 0; i < 4; i++)
        eject_on_end(&seats[0], EJECT_NO_CONNECT, false, t0);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0 + US_PER_S).reason, REASON_NONE);
}

static void answers_beat_probes(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        eject_on_probe(&seats[0], EJECT_PROBE_SILENT, t0);
    eject_on_end(&seats[0], EJECT_GOOD, false, t0 + US_PER_S);
    eject_on_probe(&seats[0], EJECT_PROBE_SILENT, t0 + US_PER_S);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0 + 2 * US_PER_S).reason, REASON_NONE);
    struct eject_change c = eject_judge(&e, list, 3, 0, t0 + 3 * US_PER_S); /* 2 s of silence */
    assert_int_equal(c.reason, REASON_HEALTH_PROBE_FAILED);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0 + 30 * US_PER_S).reason, REASON_NONE);
    eject_on_probe(&seats[0], EJECT_PROBE_GOOD, t0 + 30 * US_PER_S);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0 + 30 * US_PER_S).reason,
                     REASON_HEALTH_HALF_OPEN);
}

static struct eject_change judged(uint32_t n, uint32_t at, uint64_t now_us)
{
    return eject_judge(&e, list, n, at, now_us);
}

static void a_refusal_holds_against_good_answers(void **state)
{
    (void)state;
    feed(0, 100, 0, t0);
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    assert_int_equal(judged(3, 0, t0).reason, REASON_HEALTH_PROBE_FAILED);
    feed(0, 100, 0, t0 + US_PER_S); /* what was under way ends well */
    assert_int_equal(judged(3, 0, t0 + 3600 * US_PER_S).reason, REASON_NONE);
    assert_false(eject_allows(&e, &seats[0]));
    eject_on_probe(&seats[0], EJECT_PROBE_SILENT, t0 + 3600 * US_PER_S); /* it has stopped */
    assert_int_equal(judged(3, 0, t0 + 7200 * US_PER_S).reason, REASON_NONE);
    eject_on_probe(&seats[0], EJECT_PROBE_GOOD, t0 + 7200 * US_PER_S);
    assert_int_equal(judged(3, 0, t0 + 7200 * US_PER_S).reason, REASON_HEALTH_HALF_OPEN);
}

static void refusals_hold_where_ejection_is_off(void **state)
{
    (void)state;
    e.is_on = false;
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    eject_on_probe(&seats[1], EJECT_PROBE_SILENT, t0);
    feed(2, 0, 100, t0);
    assert_int_equal(judged(4, 0, t0).reason, REASON_HEALTH_PROBE_FAILED);
    assert_int_equal(judged(4, 1, t0 + 2 * US_PER_S).reason, REASON_HEALTH_PROBE_FAILED);
    assert_int_equal(judged(4, 2, t0).reason, REASON_NONE);
    assert_int_equal(judged(4, 0, t0 + 3 * US_PER_S).reason, REASON_NONE);
    assert_int_equal(judged(4, 1, t0 + 3 * US_PER_S).reason, REASON_NONE);
}

/* Of three databases one leads: the two others are well and want nothing. */
static void refusals_are_no_panic_while_one_is_left(void **state)
{
    (void)state;
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    eject_on_probe(&seats[1], EJECT_PROBE_REFUSED, t0);
    assert_int_equal(judged(3, 0, t0).to, EV_HEALTH_EJECTED);
    assert_int_equal(judged(3, 1, t0).to, EV_HEALTH_EJECTED);
    assert_false(eject_panic_changed(&e, list, 3, t0));
    assert_false(eject_allows(&e, &seats[0]));
    assert_true(eject_allows(&e, &seats[2]));
}

static void when_all_refuse_all_are_asked(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        eject_on_probe(&seats[i], EJECT_PROBE_REFUSED, t0);
    for (uint32_t i = 0; i < 3; i++)
        (void)judged(3, i, t0);
    assert_int_equal(seats[2].state, EV_HEALTH_OK); /* the last one stays */
    assert_true(eject_panic_changed(&e, list, 3, t0));
    for (uint32_t i = 0; i < 3; i++)
        assert_true(eject_allows(&e, &seats[i]));
    eject_on_probe(&seats[2], EJECT_PROBE_GOOD, t0);
    assert_true(eject_panic_changed(&e, list, 3, t0));
    assert_false(eject_allows(&e, &seats[0]));
}

static void who_refuses_is_asked_when_the_others_are_dead(void **state)
{
    (void)state;
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    (void)judged(2, 0, t0);
    for (int k = 0; k < 5; k++)
        eject_on_end(&seats[1], EJECT_NO_CONNECT, false, t0);
    assert_true(eject_panic_changed(&e, list, 2, t0 + US_PER_S));
    assert_true(eject_allows(&e, &seats[0]));
}

/* Of two: its share of the trials does not come back with each refusal. */
static void who_refuses_while_it_is_tried_is_out_again(void **state)
{
    (void)state;
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    (void)judged(2, 0, t0);
    eject_on_probe(&seats[0], EJECT_PROBE_GOOD, t0);
    assert_int_equal(judged(2, 0, t0).to, EV_HEALTH_HALF_OPEN);
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    assert_int_equal(judged(2, 0, t0).to, EV_HEALTH_EJECTED);
    assert_false(eject_allows(&e, &seats[0]));
}

static void who_refuses_is_asked_when_the_others_have_left(void **state)
{
    (void)state;
    eject_on_probe(&seats[0], EJECT_PROBE_REFUSED, t0);
    (void)judged(2, 0, t0);
    assert_false(eject_panic_changed(&e, list, 2, t0));
    assert_true(eject_panic_changed(&e, list, 1, t0));
    assert_true(eject_allows(&e, &seats[0]));
}

static void at_most_three_of_ten_are_out_for_failing(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        feed(i, 0, 50, t0);
    for (uint32_t i = 4; i < SEATS; i++)
        feed(i, 500, 0, t0);
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++)
        out += eject_judge(&e, list, SEATS, i, t0).to == EV_HEALTH_EJECTED;
    assert_int_equal(out, 3);
}

static void dead_ones_go_beyond_the_share_but_not_the_last(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        for (int k = 0; k < 5; k++)
            eject_on_end(&seats[i], EJECT_NO_CONNECT, false, t0);
    uint64_t now_us = t0 + 100 * US_PER_MS;
    assert_int_equal(eject_judge(&e, list, 3, 0, now_us).to, EV_HEALTH_EJECTED);
    assert_int_equal(eject_judge(&e, list, 3, 1, now_us).to, EV_HEALTH_EJECTED);
    assert_int_equal(eject_judge(&e, list, 3, 2, now_us).reason, REASON_NONE);
    assert_true(eject_allows(&e, &seats[2]));
}

static void comes_back_through_trials(void **state)
{
    (void)state;
    feed(0, 0, 20, t0);
    struct eject_change c = eject_judge(&e, list, 3, 0, t0);
    uint64_t term_us = c.until_us - t0;
    assert_true(term_us >= 1700 * US_PER_MS); /* 2 s +- 15 % */
    assert_true(term_us <= 2300 * US_PER_MS);
    assert_int_equal(eject_judge(&e, list, 3, 0, c.until_us - 1).reason, REASON_NONE);
    uint64_t now_us = c.until_us;
    assert_int_equal(eject_judge(&e, list, 3, 0, now_us).reason, REASON_HEALTH_HALF_OPEN);
    for (int i = 0; i < 3; i++) {
        assert_true(eject_allows(&e, &seats[0]));
        seats[0].trials++;
        assert_false(eject_allows(&e, &seats[0])); /* one at a time */
        assert_int_equal(eject_judge(&e, list, 3, 0, now_us).reason, REASON_NONE);
        eject_on_end(&seats[0], EJECT_GOOD, true, now_us);
    }
    c = eject_judge(&e, list, 3, 0, now_us);
    assert_int_equal(c.reason, REASON_HEALTH_RECOVERED);
    assert_int_equal(c.to, EV_HEALTH_RAMPING);
    assert_true(eject_allows(&e, &seats[0]));
}

static void each_relapse_doubles_the_term(void **state)
{
    (void)state;
    feed(0, 0, 20, t0);
    struct eject_change c = eject_judge(&e, list, 3, 0, t0);
    uint64_t now_us = t0;
    double before = (double)(c.until_us - t0);
    for (int i = 0; i < 8; i++) {
        now_us = c.until_us;
        assert_int_equal(eject_judge(&e, list, 3, 0, now_us).reason, REASON_HEALTH_HALF_OPEN);
        seats[0].trials++;
        eject_on_end(&seats[0], EJECT_BAD, true, now_us);
        c = eject_judge(&e, list, 3, 0, now_us);
        assert_int_equal(c.reason, REASON_HEALTH_RELAPSED);
        double term = (double)(c.until_us - now_us);
        if (i < 4)
            assert_true(term > 1.3 * before);
        assert_true(term <= 69.1e6); /* 60 s + 15 % */
        before = term;
    }
}

static void panic_ignores_failing_but_not_dead(void **state)
{
    (void)state;
    feed(0, 0, 50, t0);
    feed(1, 100, 0, t0);
    feed(2, 100, 0, t0);
    eject_judge(&e, list, 3, 0, t0);
    assert_false(eject_panic_changed(&e, list, 3, t0));
    for (int i = 0; i < 5; i++)
        eject_on_end(&seats[1], EJECT_NO_CONNECT, false, t0 + 11 * US_PER_S);
    uint64_t now_us = t0 + 12 * US_PER_S;
    seats[0].until_us = now_us + US_PER_S;
    eject_judge(&e, list, 3, 1, now_us);
    assert_true(eject_panic_changed(&e, list, 3, now_us));
    assert_true(e.is_panic);
    assert_true(eject_allows(&e, &seats[0]));
    assert_false(eject_allows(&e, &seats[1]));
    assert_false(eject_panic_changed(&e, list, 3, now_us));
}

static void switched_off_it_lets_all_in(void **state)
{
    (void)state;
    feed(0, 0, 50, t0);
    eject_judge(&e, list, 3, 0, t0);
    assert_false(eject_allows(&e, &seats[0]));
    e.is_on = false;
    assert_int_equal(eject_judge(&e, list, 3, 0, t0).to, EV_HEALTH_HALF_OPEN);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0).to, EV_HEALTH_RAMPING);
    feed(0, 0, 50, t0);
    assert_int_equal(eject_judge(&e, list, 3, 0, t0).reason, REASON_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(failing_is_judged_by_count_ratio_and_peers, setup),
        cmocka_unit_test_setup(old_failures_are_forgotten, setup),
        cmocka_unit_test_setup(a_good_past_does_not_vouch_for_a_row_of_failures, setup),
        cmocka_unit_test_setup(three_bad_seconds_are_enough_after_a_good_past, setup),
        cmocka_unit_test_setup(refused_connections_in_a_row_eject, setup),
        cmocka_unit_test_setup(one_success_ends_the_row, setup),
        cmocka_unit_test_setup(answers_beat_probes, setup),
        cmocka_unit_test_setup(a_refusal_holds_against_good_answers, setup),
        cmocka_unit_test_setup(refusals_hold_where_ejection_is_off, setup),
        cmocka_unit_test_setup(refusals_are_no_panic_while_one_is_left, setup),
        cmocka_unit_test_setup(when_all_refuse_all_are_asked, setup),
        cmocka_unit_test_setup(who_refuses_is_asked_when_the_others_are_dead, setup),
        cmocka_unit_test_setup(who_refuses_while_it_is_tried_is_out_again, setup),
        cmocka_unit_test_setup(who_refuses_is_asked_when_the_others_have_left, setup),
        cmocka_unit_test_setup(at_most_three_of_ten_are_out_for_failing, setup),
        cmocka_unit_test_setup(dead_ones_go_beyond_the_share_but_not_the_last, setup),
        cmocka_unit_test_setup(comes_back_through_trials, setup),
        cmocka_unit_test_setup(each_relapse_doubles_the_term, setup),
        cmocka_unit_test_setup(panic_ignores_failing_but_not_dead, setup),
        cmocka_unit_test_setup(switched_off_it_lets_all_in, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
