/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of reflex/limit: invariants, pauses, restart, bounds, binding, proposals.  How well it
 * learns is tested in test/sim/limit_scenarios.c. */
#include "reflex/limit.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct limit_conf four = {.min = 1, .max = 100, .start = 4};

/* An endpoint with constant service time: FIFO, <workers>; answers are seen once per turn. */
struct endpoint {
    struct limit l;
    struct limit_tag tag[LIMIT_MAX];
    uint64_t ready_us[LIMIT_MAX]; /* by order of sending */
    uint64_t free_us[LIMIT_MAX];  /* of the workers */
    uint32_t head, tail;          /* sent, answered */
    uint64_t now_us;
    uint32_t workers;
    uint64_t service_us, turn_us;
    bool is_paused;
};
static struct endpoint ep;

static void start(const struct limit_conf *conf, uint32_t workers)
{
    memset(&ep, 0, sizeof ep);
    ep.workers = workers;
    ep.service_us = 20000;
    ep.turn_us = 1000;
    ep.now_us = 1000;
    limit_init(&ep.l, conf, ep.now_us);
}

static void send_one(void)
{
    uint32_t at = ep.head++ % LIMIT_MAX, first = 0;
    for (uint32_t i = 1; i < ep.workers; i++)
        if (ep.free_us[i] < ep.free_us[first])
            first = i;
    uint64_t begin_us = ep.free_us[first] > ep.now_us ? ep.free_us[first] : ep.now_us;
    ep.free_us[first] = ep.ready_us[at] = begin_us + ep.service_us;
    limit_on_send(&ep.l, &ep.tag[at], ep.now_us);
}

/* <wanted> requests at most at once; the limit binds when it is more than the limit. */
static void run(uint64_t for_us, uint32_t wanted)
{
    for (uint64_t end_us = ep.now_us + for_us; ep.now_us < end_us; ep.now_us += ep.turn_us) {
        bool is_wanted = wanted > limit_now(&ep.l);
        while (!ep.is_paused && ep.tail != ep.head &&
               ep.ready_us[ep.tail % LIMIT_MAX] <= ep.now_us) {
            limit_on_done(&ep.l, &ep.tag[ep.tail++ % LIMIT_MAX], LIMIT_OK, is_wanted, ep.now_us);
            if (limit_has_room(&ep.l) && ep.l.in_flight < wanted)
                send_one();
        }
        while (limit_has_room(&ep.l) && ep.l.in_flight < wanted)
            send_one();
        if (ep.now_us % 5000 == 0)
            limit_tick(&ep.l, is_wanted, ep.now_us);
        assert_int_equal(ep.l.in_flight, ep.head - ep.tail);
    }
}

static void limit_starts_within_its_bounds(void **state)
{
    (void)state;
    struct limit l;
    limit_init(&l, &(struct limit_conf){.min = 6, .max = 9, .start = 4}, 1);
    assert_int_equal(limit_now(&l), 6);
    limit_init(&l, &(struct limit_conf){.min = 1, .max = 3, .start = 4}, 1);
    assert_int_equal(limit_now(&l), 3);
}

static void limit_grows_while_it_binds_and_latency_stays(void **state)
{
    (void)state;
    start(&four, 1000);
    run(US_PER_S, 500);
    assert_int_equal(limit_now(&ep.l), 100);
}

static void limit_never_grows_while_nothing_is_wanted(void **state)
{
    (void)state;
    start(&four, 1000);
    run(10 * US_PER_S, 4);
    assert_int_equal(limit_now(&ep.l), 4);
}

static void limit_finds_the_workers_in_a_cold_start_under_overload(void **state)
{
    (void)state;
    static const uint32_t workers[] = {1, 2, 4, 16, 64};
    for (size_t i = 0; i < FB_COUNT(workers); i++) {
        start(&four, workers[i]);
        run(10 * US_PER_S, 500);
        assert_in_range(limit_now(&ep.l), workers[i], 2 * workers[i] + 1);
    }
}

static void limit_follows_the_workers_down(void **state)
{
    (void)state;
    start(&four, 16);
    run(2 * US_PER_S, 12);
    run(2 * US_PER_S, 500);
    assert_in_range(limit_now(&ep.l), 14, 40); /* a probe may be going on */
    ep.workers = 4;
    run(3 * US_PER_S, 500);
    assert_in_range(limit_now(&ep.l), 4, 8);
}

static void limit_takes_a_longer_service_time_for_no_queue(void **state)
{
    (void)state;
    start(&four, 16);
    run(2 * US_PER_S, 12);
    run(2 * US_PER_S, 500);
    ep.service_us = 60000;
    run(6 * US_PER_S, 500);
    assert_in_range(limit_now(&ep.l), 14, 40); /* a probe may be going on */
}

static void limit_is_not_fooled_by_answers_that_come_in_bursts(void **state)
{
    (void)state;
    start(&four, 1000);
    ep.service_us = 300;
    ep.turn_us = 5000; /* a gateway that is busy for 5 ms per turn */
    run(3 * US_PER_S, 64);
    assert_true(limit_now(&ep.l) >= 64);
}

static void limit_sends_nothing_into_a_pause_and_keeps_its_value(void **state)
{
    (void)state;
    start(&four, 16);
    run(2 * US_PER_S, 10);
    uint32_t limit = limit_now(&ep.l), sent = 0;
    ep.is_paused = true;
    run(300000, 5); /* 10 service times of silence / 2 workers known */
    sent = ep.head;
    assert_false(limit_has_room(&ep.l));
    run(100000, 10);
    assert_int_equal(ep.head, sent);
    ep.is_paused = false;
    run(100000, 5);
    assert_true(limit_has_room(&ep.l));
    assert_int_equal(limit_now(&ep.l), limit);
    run(2 * US_PER_S, 5);
    assert_int_equal(limit_now(&ep.l), limit);
}

static void limit_lets_one_through_when_a_pause_is_long(void **state)
{
    (void)state;
    start(&four, 16);
    run(2 * US_PER_S, 10);
    ep.is_paused = true;
    run(US_PER_S, 5);
    uint32_t sent = ep.head;
    run(20 * US_PER_S, 100);
    assert_in_range(ep.head - sent, 1, 6); /* gaps double */
}

static void limit_forgets_a_pause_when_nothing_is_in_flight(void **state)
{
    (void)state;
    start(&four, 16);
    run(2 * US_PER_S, 3);
    ep.is_paused = true;
    run(300000, 3);
    assert_false(limit_has_room(&ep.l));
    while (ep.tail != ep.head)
        limit_on_done(&ep.l, &ep.tag[ep.tail++ % LIMIT_MAX], LIMIT_GONE, false, ep.now_us);
    assert_true(limit_has_room(&ep.l));
}

static void limit_begins_with_what_it_restores(void **state)
{
    (void)state;
    start(&four, 16);
    limit_restore(&ep.l, 16, 20000, 0.5, ep.now_us);
    assert_int_equal(limit_now(&ep.l), 16);
    run(US_PER_S, 500);
    assert_in_range(limit_now(&ep.l), 14, 40); /* a probe may be going on */
    start(&four, 16);
    limit_restore(&ep.l, 5000, 20000, 0.5, ep.now_us);
    assert_int_equal(limit_now(&ep.l), 100);
    start(&four, 16);
    limit_restore(&ep.l, 0, 0, 0, ep.now_us);
    assert_int_equal(limit_now(&ep.l), 4);
}

static void limit_obeys_new_bounds_at_once(void **state)
{
    (void)state;
    start(&four, 1000);
    run(US_PER_S, 500);
    limit_set_bounds(&ep.l, 1, 10);
    assert_int_equal(limit_now(&ep.l), 10);
    run(2 * US_PER_S, 500);
    assert_int_equal(limit_now(&ep.l), 10);
    limit_set_bounds(&ep.l, 30, 40);
    assert_int_equal(limit_now(&ep.l), 30);
    run(2 * US_PER_S, 500);
    assert_int_equal(limit_now(&ep.l), 40);
}

static void limit_learns_no_service_time_from_fast_failures(void **state)
{
    (void)state;
    start(&four, 16);
    run(2 * US_PER_S, 10);
    double base_us = ep.l.base.us;
    run(200000, 0);
    for (int i = 0; i < 1000; i++) {
        struct limit_tag tag;
        ep.now_us += 1000;
        limit_on_send(&ep.l, &tag, ep.now_us);
        limit_on_done(&ep.l, &tag, LIMIT_FAST_FAIL, false, ep.now_us + 100);
        limit_tick(&ep.l, false, ep.now_us + 100);
    }
    assert_true(ep.l.base.us > 0.95 * base_us);
}

static void limit_says_each_move_once(void **state)
{
    (void)state;
    struct ev_proposal p;
    start(&four, 16);
    assert_false(limit_take_proposal(&ep.l, &p));
    run(2 * US_PER_S, 500);
    assert_true(limit_take_proposal(&ep.l, &p));
    assert_true(ev_is_valid(&p.head));
    assert_int_equal(p.limit_from, 4);
    assert_int_equal(p.limit_to, limit_now(&ep.l));
    assert_true(p.moves >= 2);
    assert_int_equal(p.is_binding, 1);
    assert_int_equal(ev_reason_row(p.reason)->kind, REASON_KIND_LEARN);
    assert_true(p.base_us > 15000);
    assert_false(limit_take_proposal(&ep.l, &p));
}

/* The load ends each time a higher limit was just tried: whoever reads the proposals knows the
 * limit at any time, and that what was tried was given up. */
static void limit_tells_also_what_was_given_up(void **state)
{
    (void)state;
    struct ev_proposal p;
    uint32_t known = 4, unused = 0, idle = 0;
    start(&four, 1000);
    for (int i = 0; i < 4000; i++) {
        run(ep.turn_us, idle > 0 ? 0 : 500);
        idle -= idle > 0;
        if (limit_take_proposal(&ep.l, &p)) {
            assert_int_equal(p.limit_from, known);
            known = p.limit_to;
            unused += p.reason == REASON_LEARN_UNUSED;
            idle = p.reason == REASON_LEARN_PROBE_UP ? 800 : idle;
        }
        assert_int_equal(known, limit_now(&ep.l));
    }
    assert_true(unused > 0);
}

static void limit_goes_on_the_same_after_a_copy(void **state)
{
    (void)state;
    static struct endpoint copy;
    start(&four, 16);
    run(US_PER_S, 500);
    copy = ep;
    run(US_PER_S, 500);
    struct endpoint *first = &ep;
    struct limit end = first->l;
    ep = copy;
    run(US_PER_S, 500);
    assert_memory_equal(&ep.l, &end, sizeof end);
}

static void limit_keeps_its_bounds_for_a_million_random_steps(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 7);
    struct limit l;
    uint32_t min = 1, max = 100, open = 0;
    static struct limit_tag tags[LIMIT_MAX];
    uint64_t now_us = 1;
    limit_init(&l, &four, now_us);
    for (int i = 0; i < 1000000; i++) {
        now_us += rng_below(&r, 4) ? rng_below(&r, 3000) : 0;
        uint32_t dice = rng_below(&r, 1000);
        bool is_wanted = rng_below(&r, 3) > 0;
        if (dice < 480 && limit_has_room(&l)) {
            limit_on_send(&l, &tags[open++], now_us);
        } else if (dice < 980 && open > 0) {
            uint32_t at = rng_below(&r, open);
            struct limit_tag tag = tags[at];
            tags[at] = tags[--open];
            limit_on_done(&l, &tag, (enum limit_result)rng_below(&r, 4), is_wanted, now_us);
        } else if (dice < 998) {
            limit_tick(&l, is_wanted, now_us);
        } else if (dice == 998) {
            min = 1 + rng_below(&r, 8);
            max = min + rng_below(&r, 200);
            limit_set_bounds(&l, min, max);
        } else if (rng_below(&r, 100) == 0) {
            limit_restore(&l, rng_unit(&r) * 300, rng_unit(&r) * 1e5, rng_unit(&r) * 3, now_us);
        } else if (rng_below(&r, 100) == 0) {
            now_us += US_PER_S * rng_below(&r, 100);
        }
        assert_true(limit_now(&l) >= min);
        assert_true(limit_now(&l) <= max);
        assert_int_equal(l.in_flight, open);
    }
}

/* Sends what has room, ticks every 5 ms; nothing is ever answered in whole. */
static void flood(uint64_t for_us, uint32_t wanted, bool with_heads)
{
    for (uint64_t end_us = ep.now_us + for_us; ep.now_us < end_us; ep.now_us += 5000) {
        for (uint32_t i = ep.tail; with_heads && i != ep.head; i++)
            if (!ep.tag[i].has_head)
                limit_on_head(&ep.l, &ep.tag[i]);
        limit_tick(&ep.l, ep.l.in_flight < wanted, ep.now_us);
        while (limit_has_room(&ep.l) && ep.l.in_flight < wanted)
            limit_on_send(&ep.l, &ep.tag[ep.head++], ep.now_us);
    }
}

static void what_is_not_known_yet_is_given_more_before_anybody_is_refused(void **state)
{
    (void)state;
    start(&four, 1000);
    flood(90000, 16, false);
    assert_int_equal(limit_now(&ep.l), 4);
    flood(130000, 16, false); /* half of an objective of 500 ms is for waiting */
    assert_int_equal(ep.l.in_flight, 16);
    start(&four, 1000);
    flood(40000, 60, true); /* they answer: these are transfers */
    assert_int_equal(ep.l.in_flight, 60);
    start(&(struct limit_conf){.min = 1, .max = 6, .start = 4}, 1000);
    flood(1000000, 60, true);
    assert_int_equal(ep.l.in_flight, 6); /* its bound is its bound */
}

static void what_is_known_grows_on_evidence_only(void **state)
{
    (void)state;
    start(&four, 4);
    run(1000000, 4);
    uint32_t before = limit_now(&ep.l);
    while (ep.tail != ep.head)
        limit_on_done(&ep.l, &ep.tag[ep.tail++ % LIMIT_MAX], LIMIT_GONE, false, ep.now_us);
    ep.head = ep.tail = 0;
    flood(300000, 60, true);
    assert_true(limit_now(&ep.l) <= 2 * before); /* one step to try, no more without an answer */
}

static void a_transfer_is_no_sample_and_no_queue(void **state)
{
    (void)state;
    start(&four, 4);
    run(1000000, 3);
    double base_us = limit_base_us(&ep.l);
    uint32_t before = limit_now(&ep.l);
    assert_int_equal(limit_transfer_us(&ep.l), (uint64_t)(4 * base_us));
    for (int i = 0; i < 100; i++) { /* three at once, for ten service times each */
        struct limit_tag tag[3];
        for (int k = 0; k < 3; k++) {
            limit_on_send(&ep.l, &tag[k], ep.now_us);
            limit_on_head(&ep.l, &tag[k]);
        }
        for (int tick = 0; tick < 40; tick++)
            limit_tick(&ep.l, false, ep.now_us += 5000);
        for (int k = 0; k < 3; k++)
            limit_on_done(&ep.l, &tag[k], LIMIT_TRANSFER, false, ep.now_us);
    }
    assert_true(limit_now(&ep.l) >= before);
    assert_true(limit_base_us(&ep.l) < 1.2 * base_us);
    assert_int_equal(ep.l.headed, 0);
}

static void a_hold_after_the_last_word_adds_nothing_to_an_age(void **state)
{
    (void)state;
    for (int is_left = 0; is_left <= 1; is_left++) {
        struct limit_tag tag;
        start(&(struct limit_conf){.min = 1, .max = 100, .start = 1}, 1);
        limit_on_send(&ep.l, &tag, ep.now_us);
        assert_true(tag.is_tagged);
        if (is_left)
            tag.left_us = ep.now_us + 15000;
        limit_on_done(&ep.l, &tag, LIMIT_TIMED_OUT, false, ep.now_us + US_PER_S);
        assert_int_equal(ep.l.meter.sum_us, is_left ? 15000 : US_PER_S);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limit_starts_within_its_bounds),
        cmocka_unit_test(what_is_not_known_yet_is_given_more_before_anybody_is_refused),
        cmocka_unit_test(what_is_known_grows_on_evidence_only),
        cmocka_unit_test(a_transfer_is_no_sample_and_no_queue),
        cmocka_unit_test(limit_grows_while_it_binds_and_latency_stays),
        cmocka_unit_test(limit_never_grows_while_nothing_is_wanted),
        cmocka_unit_test(limit_finds_the_workers_in_a_cold_start_under_overload),
        cmocka_unit_test(limit_follows_the_workers_down),
        cmocka_unit_test(limit_takes_a_longer_service_time_for_no_queue),
        cmocka_unit_test(limit_is_not_fooled_by_answers_that_come_in_bursts),
        cmocka_unit_test(limit_sends_nothing_into_a_pause_and_keeps_its_value),
        cmocka_unit_test(limit_lets_one_through_when_a_pause_is_long),
        cmocka_unit_test(limit_forgets_a_pause_when_nothing_is_in_flight),
        cmocka_unit_test(limit_begins_with_what_it_restores),
        cmocka_unit_test(limit_obeys_new_bounds_at_once),
        cmocka_unit_test(limit_learns_no_service_time_from_fast_failures),
        cmocka_unit_test(limit_says_each_move_once),
        cmocka_unit_test(a_hold_after_the_last_word_adds_nothing_to_an_age),
        cmocka_unit_test(limit_tells_also_what_was_given_up),
        cmocka_unit_test(limit_goes_on_the_same_after_a_copy),
        cmocka_unit_test(limit_keeps_its_bounds_for_a_million_random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
