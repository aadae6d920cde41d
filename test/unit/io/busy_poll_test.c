/* SPDX-License-Identifier: Apache-2.0 */
#include "io/busy_poll.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void wait_many(struct busy_poll *s, int count, uint64_t waited_us, bool had_events)
{
    for (int i = 0; i < count; i++)
        busy_poll_waited(s, waited_us, had_events);
}

static void short_waits_begin_the_spinning_and_long_ones_end_it(void **state)
{
    (void)state;
    struct busy_poll s = {.most_us = 50};
    assert_int_equal(busy_poll_budget_us(&s, 1), 0);
    wait_many(&s, 100, 30, true);
    assert_int_equal(busy_poll_budget_us(&s, 1), 50);
    wait_many(&s, 200, 5000, true);
    assert_int_equal(busy_poll_budget_us(&s, 1), 0);
}

static void a_sleep_is_judged_without_its_wake_up(void **state)
{
    (void)state;
    struct busy_poll asleep = {.most_us = 50}, awake = {.most_us = 50, .is_on = true, .hits = 0.2f};
    wait_many(&asleep, 25, 85, true);
    assert_int_equal(busy_poll_budget_us(&asleep, 1), 50);
    wait_many(&awake, 20, 85, true);
    assert_int_equal(busy_poll_budget_us(&awake, 1), 0);
}

static void a_wait_without_an_event_is_no_hit(void **state)
{
    (void)state;
    struct busy_poll s = {.most_us = 50};
    wait_many(&s, 100, 10, false);
    assert_int_equal(busy_poll_budget_us(&s, 1), 0);
}

static void a_core_that_others_want_is_left_to_them_for_a_second(void **state)
{
    (void)state;
    struct busy_poll s = {.most_us = 50};
    wait_many(&s, 100, 30, true);
    busy_poll_judge(&s, 1000, 1000000);
    wait_many(&s, 2000, 30, true);
    busy_poll_judge(&s, 1030, 1100000); /* 300 per second: the brain next door */
    assert_int_equal(busy_poll_budget_us(&s, 1100000), 50);
    wait_many(&s, 2000, 30, true);
    busy_poll_judge(&s, 1080, 1200000);
    assert_int_equal(busy_poll_budget_us(&s, 1200000), 0);
    assert_int_equal(busy_poll_budget_us(&s, 2199999), 0);
    assert_int_equal(busy_poll_budget_us(&s, 2200000), 50);
}

static void a_thread_that_works_most_of_the_time_does_not_poll(void **state)
{
    (void)state;
    struct busy_poll s = {.most_us = 50};
    wait_many(&s, 100, 30, true);
    busy_poll_judge(&s, 0, 1000000);
    wait_many(&s, 2200, 30, true); /* 66 of 100 ms */
    busy_poll_judge(&s, 0, 1100000);
    assert_int_equal(busy_poll_budget_us(&s, 1100000), 50);
    wait_many(&s, 1500, 30, true); /* 45 of 100 ms */
    busy_poll_judge(&s, 0, 1200000);
    assert_int_equal(busy_poll_budget_us(&s, 1200000), 0);
    assert_int_equal(busy_poll_budget_us(&s, 1400000), 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_waits_begin_the_spinning_and_long_ones_end_it),
        cmocka_unit_test(a_sleep_is_judged_without_its_wake_up),
        cmocka_unit_test(a_wait_without_an_event_is_no_hit),
        cmocka_unit_test(a_thread_that_works_most_of_the_time_does_not_poll),
        cmocka_unit_test(a_core_that_others_want_is_left_to_them_for_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
