/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/gate.h"
#include "reflex/queue.h"

static struct queue q;
static struct gate_ticket t[2000];
static const uint64_t t0 = 10 * US_PER_S;
static const uint64_t wait_us = 250 * US_PER_MS;

static int setup(void **state)
{
    (void)state;
    queue_init(&q, t0);
    queue_set(&q, 1000, wait_us, true);
    for (size_t i = 0; i < FB_COUNT(t); i++)
        t[i] = (struct gate_ticket){.deadline_us = UINT64_MAX, .key_hash = i % 1000};
    return 0;
}

static void put(size_t i, uint8_t class, uint64_t now_us)
{
    assert_null(queue_put(&q, &t[i], class, now_us));
}

static void classes_are_served_in_strict_order(void **state)
{
    (void)state;
    put(0, EV_CLASS_BEST_EFFORT, t0);
    put(1, EV_CLASS_DEFAULT, t0);
    put(2, EV_CLASS_CRITICAL, t0);
    put(3, EV_CLASS_DEGRADED, t0);
    static const size_t want[] = {2, 1, 3, 0};
    for (size_t i = 0; i < 4; i++)
        assert_ptr_equal(queue_take(&q), &t[want[i]]);
    assert_null(queue_take(&q));
}

static void one_user_cannot_hold_up_another(void **state)
{
    (void)state;
    for (size_t i = 0; i < 100; i++) {
        t[i].key_hash = 7;
        put(i, EV_CLASS_DEFAULT, t0);
    }
    t[100].key_hash = 8;
    put(100, EV_CLASS_DEFAULT, t0);
    assert_ptr_equal(queue_take(&q), &t[0]);
    assert_ptr_equal(queue_take(&q), &t[100]);
    assert_ptr_equal(queue_take(&q), &t[1]);
}

static void same_user_is_served_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < 10; i++) {
        t[i].key_hash = 7;
        put(i, EV_CLASS_DEFAULT, t0);
    }
    for (size_t i = 0; i < 10; i++)
        assert_ptr_equal(queue_take(&q), &t[i]);
}

static void a_user_who_fills_the_queue_makes_room_for_others(void **state)
{
    (void)state;
    queue_set(&q, 100, wait_us, true);
    for (size_t i = 0; i < 100; i++) {
        t[i].key_hash = 7;
        put(i, EV_CLASS_DEFAULT, t0);
    }
    t[100].key_hash = 7;
    assert_ptr_equal(queue_put(&q, &t[100], EV_CLASS_DEFAULT, t0), &t[100]);
    for (size_t i = 0; i < 45; i++) { /* ten users, up to five each */
        t[200 + i].key_hash = 20 + i % 10;
        assert_ptr_equal(queue_put(&q, &t[200 + i], EV_CLASS_DEFAULT, t0), &t[99 - i]);
    }
    assert_int_equal(q.length, 100);
    assert_ptr_equal(queue_put(&q, &t[300], EV_CLASS_CRITICAL, t0), &t[54]);
}

static void full_queue_drops_the_newest_of_the_lowest_class(void **state)
{
    (void)state;
    queue_set(&q, 3, wait_us, true);
    put(0, EV_CLASS_DEGRADED, t0);
    put(1, EV_CLASS_DEGRADED, t0);
    put(2, EV_CLASS_DEFAULT, t0);
    assert_ptr_equal(queue_put(&q, &t[3], EV_CLASS_BEST_EFFORT, t0), &t[3]); /* itself the lowest */
    assert_ptr_equal(queue_put(&q, &t[4], EV_CLASS_DEGRADED, t0),
                     &t[4]); /* the newest of its class */
    assert_ptr_equal(queue_put(&q, &t[5], EV_CLASS_CRITICAL, t0), &t[1]);
    assert_int_equal(q.length, 3);
}

static void waiting_too_long_and_deadlines_end_it(void **state)
{
    (void)state;
    put(0, EV_CLASS_DEFAULT, t0);
    t[1].deadline_us = t0 + 10 * US_PER_MS;
    put(1, EV_CLASS_DEFAULT, t0);
    assert_null(queue_take_expired(&q, t0 + 5 * US_PER_MS));
    queue_tick(&q, t0 + 11 * US_PER_MS);
    assert_ptr_equal(queue_take_expired(&q, t0 + 11 * US_PER_MS), &t[1]);
    assert_int_equal(queue_verdict(&q, &t[1], t0 + 11 * US_PER_MS), REASON_SHED_DEADLINE);
    assert_null(queue_take_expired(&q, t0 + wait_us - 1));
    assert_int_equal(queue_verdict(&q, &t[0], t0 + wait_us - 1), REASON_NONE);
    assert_ptr_equal(queue_take_expired(&q, t0 + wait_us), &t[0]);
    assert_int_equal(queue_verdict(&q, &t[0], t0 + wait_us), REASON_SHED_QUEUE_WAIT);
    assert_int_equal(q.length, 0);
}

static void newest_goes_first_while_a_class_drops(void **state)
{
    (void)state;
    put(0, EV_CLASS_DEFAULT, t0);
    assert_ptr_equal(queue_take_expired(&q, t0 + wait_us), &t[0]);
    put(1, EV_CLASS_DEFAULT, t0 + wait_us);
    put(2, EV_CLASS_DEFAULT, t0 + wait_us);
    put(3, EV_CLASS_CRITICAL, t0 + wait_us);
    put(4, EV_CLASS_CRITICAL, t0 + wait_us);
    assert_ptr_equal(queue_take(&q), &t[3]); /* this class drops nothing */
    assert_ptr_equal(queue_take(&q), &t[4]);
    assert_ptr_equal(queue_take(&q), &t[2]);
    assert_true(queue_is_overloaded(&q, t0 + wait_us));
}

static void order_returns_when_all_can_be_served_in_time(void **state)
{
    (void)state;
    uint64_t now_us = t0;
    put(0, EV_CLASS_DEFAULT, now_us);
    now_us += wait_us;
    assert_non_null(queue_take_expired(&q, now_us));
    for (size_t i = 1; i <= 20; i++)
        put(i, EV_CLASS_DEFAULT, now_us);
    /* 100 a second: 20 need 200 ms, and 225 ms is 90 % of the bound. */
    for (int round = 0; round < 20 && q.classes[EV_CLASS_DEFAULT].is_newest_first; round++) {
        for (size_t k = 0; k < 10; k++) {
            struct gate_ticket *served = queue_take(&q);
            assert_null(queue_put(&q, served, EV_CLASS_DEFAULT, now_us));
        }
        now_us += 100 * US_PER_MS;
        queue_tick(&q, now_us);
    }
    assert_false(q.classes[EV_CLASS_DEFAULT].is_newest_first);
    assert_int_equal(q.length, 20);
}

static void plain_order_when_adaptive_is_off(void **state)
{
    (void)state;
    queue_set(&q, 1000, wait_us, false);
    put(0, EV_CLASS_DEFAULT, t0);
    assert_non_null(queue_take_expired(&q, t0 + wait_us));
    put(1, EV_CLASS_DEFAULT, t0 + wait_us);
    put(2, EV_CLASS_DEFAULT, t0 + wait_us);
    assert_ptr_equal(queue_take(&q), &t[1]);
}

static void removal_from_anywhere_keeps_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < 600; i++)
        put(i, (uint8_t)(i % EV_CLASS_COUNT), t0);
    queue_tick(&q, t0); /* sets the sweep on the first */
    for (size_t i = 0; i < 600; i += 2)
        queue_remove(&q, &t[i]);
    size_t seen = 0;
    uint8_t last = 0;
    struct gate_ticket *x;
    while ((x = queue_take(&q))) {
        assert_true(x->queue_class >= last);
        last = x->queue_class;
        assert_int_equal((x - t) % 2, 1);
        seen++;
    }
    assert_int_equal(seen, 300);
    assert_null(queue_take_expired(&q, t0 + wait_us));
}

static void random_use_never_loses_one(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    bool is_in[FB_COUNT(t)] = {false};
    uint64_t now_us = t0;
    uint32_t in = 0;
    for (int step = 0; step < 200000; step++) {
        now_us += rng_below(&rng, 2000);
        size_t i = rng_below(&rng, FB_COUNT(t));
        struct gate_ticket *out = NULL;
        uint32_t what = rng_below(&rng, 8);
        if (what < 3 && !is_in[i]) {
            t[i].key_hash = rng_below(&rng, 700);
            t[i].deadline_us = now_us + rng_below(&rng, 500000);
            out = queue_put(&q, &t[i], (uint8_t)rng_below(&rng, 4), now_us);
            is_in[i] = true;
            in++;
        } else if (what == 3 && is_in[i]) {
            queue_remove(&q, &t[i]);
            out = &t[i];
        } else if (what == 4) {
            out = queue_take(&q);
        } else if (what == 5) {
            out = queue_take_expired(&q, now_us);
        } else if (what == 6) {
            queue_tick(&q, now_us);
        }
        if (out) {
            assert_true(is_in[out - t]);
            is_in[out - t] = false;
            in--;
        }
        assert_int_equal(q.length, in);
        assert_true(q.length <= q.capacity);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(classes_are_served_in_strict_order, setup),
        cmocka_unit_test_setup(one_user_cannot_hold_up_another, setup),
        cmocka_unit_test_setup(same_user_is_served_in_order, setup),
        cmocka_unit_test_setup(full_queue_drops_the_newest_of_the_lowest_class, setup),
        cmocka_unit_test_setup(a_user_who_fills_the_queue_makes_room_for_others, setup),
        cmocka_unit_test_setup(waiting_too_long_and_deadlines_end_it, setup),
        cmocka_unit_test_setup(newest_goes_first_while_a_class_drops, setup),
        cmocka_unit_test_setup(order_returns_when_all_can_be_served_in_time, setup),
        cmocka_unit_test_setup(plain_order_when_adaptive_is_off, setup),
        cmocka_unit_test_setup(removal_from_anywhere_keeps_the_rest, setup),
        cmocka_unit_test_setup(random_use_never_loses_one, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
