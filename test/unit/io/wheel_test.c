/* SPDX-License-Identifier: Apache-2.0 */
#include "io/wheel.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define START_US UINT64_C(1700000000123456)
#define TIMERS 2000

struct entry {
    struct loop_timer timer;
    uint64_t due_us, fired_us;
    uint32_t fired;
};

static uint64_t now_us;

static void on_due(struct loop_timer *t)
{
    struct entry *e = FB_CONTAINER(t, struct entry, timer);
    e->fired_us = now_us;
    e->fired++;
}

static void advance_to(struct wheel *w, uint64_t until_us)
{
    while (now_us < until_us) {
        uint32_t wait_ms = wheel_wait_ms(w, now_us, 10000);
        now_us = fb_min_u64(until_us, now_us + fb_max_u64(wait_ms * US_PER_MS, 1));
        wheel_advance(w, now_us);
    }
}

static void timers_of_all_lengths_come_within_a_millisecond(void **state)
{
    (void)state;
    static struct entry entries[TIMERS];
    struct rng rng;
    struct wheel w;
    rng_init(&rng, 7);
    now_us = START_US;
    wheel_init(&w, now_us);
    for (int i = 0; i < TIMERS; i++) {
        /* from 0 to 6 hours, so that every ring and the reach beyond the last are used */
        uint64_t span_us = UINT64_C(1) << (rng_u64(&rng) % 35);
        entries[i] =
            (struct entry){.timer = {.on_due = on_due}, .due_us = now_us + rng_u64(&rng) % span_us};
        wheel_set(&w, &entries[i].timer, entries[i].due_us);
    }
    advance_to(&w, START_US + (UINT64_C(1) << 35));
    for (int i = 0; i < TIMERS; i++) {
        assert_int_equal(entries[i].fired, 1);
        assert_true(entries[i].fired_us >= entries[i].due_us);
        assert_true(entries[i].fired_us < entries[i].due_us + 2 * US_PER_MS);
    }
}

static void a_timer_pushed_back_is_not_moved_and_comes_once(void **state)
{
    (void)state;
    struct wheel w;
    struct entry e = {.timer = {.on_due = on_due}};
    now_us = START_US;
    wheel_init(&w, now_us);
    wheel_set(&w, &e.timer, now_us + 10 * US_PER_MS);
    uint64_t place = e.timer.armed_ms;
    for (int i = 0; i < 100; i++) {
        wheel_set(&w, &e.timer, now_us + 20 * US_PER_MS);
        assert_int_equal(e.timer.armed_ms, place);
    }
    advance_to(&w, START_US + 15 * US_PER_MS);
    assert_int_equal(e.fired, 0);
    advance_to(&w, START_US + 30 * US_PER_MS);
    assert_int_equal(e.fired, 1);
    assert_true(e.fired_us >= START_US + 20 * US_PER_MS);
}

static void a_timer_pulled_forward_comes_early(void **state)
{
    (void)state;
    struct wheel w;
    struct entry e = {.timer = {.on_due = on_due}};
    now_us = START_US;
    wheel_init(&w, now_us);
    wheel_set(&w, &e.timer, now_us + 60 * US_PER_S);
    wheel_set(&w, &e.timer, now_us + 5 * US_PER_MS);
    advance_to(&w, START_US + 10 * US_PER_MS);
    assert_int_equal(e.fired, 1);
    advance_to(&w, START_US + 120 * US_PER_S);
    assert_int_equal(e.fired, 1);
}

static void a_stopped_timer_never_comes(void **state)
{
    (void)state;
    struct wheel w;
    struct entry e = {.timer = {.on_due = on_due}};
    now_us = START_US;
    wheel_init(&w, now_us);
    wheel_set(&w, &e.timer, now_us + 5 * US_PER_MS);
    assert_true(loop_timer_is_set(&e.timer));
    wheel_stop(&e.timer);
    wheel_stop(&e.timer);
    assert_false(loop_timer_is_set(&e.timer));
    advance_to(&w, START_US + US_PER_S);
    assert_int_equal(e.fired, 0);
}

static struct entry *victim;
static struct wheel *victim_wheel;

static void on_due_stop_other(struct loop_timer *t)
{
    on_due(t);
    wheel_stop(&victim->timer);
}

static void a_callback_may_stop_its_neighbour(void **state)
{
    (void)state;
    struct wheel w;
    struct entry a[3];
    now_us = START_US;
    wheel_init(&w, now_us);
    for (int i = 0; i < 3; i++) {
        a[i] = (struct entry){.timer = {.on_due = i == 2 ? on_due_stop_other : on_due}};
        wheel_set(&w, &a[i].timer, now_us + 5 * US_PER_MS);
    }
    victim = &a[1];
    advance_to(&w, START_US + 10 * US_PER_MS);
    assert_int_equal(a[0].fired + a[1].fired + a[2].fired, 2);
    assert_int_equal(a[1].fired, 0);
}

static void on_due_again(struct loop_timer *t)
{
    on_due(t);
    wheel_set(victim_wheel, t, now_us);
}

static void a_callback_that_sets_itself_to_now_does_not_hang_the_turn(void **state)
{
    (void)state;
    struct wheel w;
    struct entry e = {.timer = {.on_due = on_due_again}};
    now_us = START_US;
    wheel_init(&w, now_us);
    victim_wheel = &w;
    wheel_set(&w, &e.timer, now_us);
    now_us += 3 * US_PER_MS;
    wheel_advance(&w, now_us);
    assert_in_range(e.fired, 1, 5);
}

static void nothing_to_wait_for_waits_as_long_as_allowed(void **state)
{
    (void)state;
    struct wheel w;
    wheel_init(&w, START_US);
    assert_int_equal(wheel_wait_ms(&w, START_US, 1234), 1234);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_of_all_lengths_come_within_a_millisecond),
        cmocka_unit_test(a_timer_pushed_back_is_not_moved_and_comes_once),
        cmocka_unit_test(a_timer_pulled_forward_comes_early),
        cmocka_unit_test(a_stopped_timer_never_comes),
        cmocka_unit_test(a_callback_may_stop_its_neighbour),
        cmocka_unit_test(a_callback_that_sets_itself_to_now_does_not_hang_the_turn),
        cmocka_unit_test(nothing_to_wait_for_waits_as_long_as_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
