/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/load.h"

static struct load loads[3];
static struct load *list[3];
static double per_s[3];
static uint64_t now_us;

static int setup(void **state)
{
    (void)state;
    now_us = 100 * US_PER_S;
    for (int i = 0; i < 3; i++) {
        load_init(&loads[i]);
        list[i] = &loads[i];
        per_s[i] = 100;
    }
    return 0;
}

static void say(int i, double utilisation, double rate, double errors)
{
    loads[i].last = (struct load_report){utilisation, rate, errors, now_us};
}

static void run(int ticks)
{
    for (int i = 0; i < ticks; i++)
        load_tick(list, per_s, 3, now_us);
}

static bool is_about(double a, double b)
{
    return a > b - 0.02 && a < b + 0.02;
}

static void half_as_busy_is_twice_the_share(void **state)
{
    (void)state;
    say(0, 0.3, -1, -1);
    say(1, 0.6, -1, -1);
    run(300);
    assert_true(is_about(loads[0].factor, 2 * loads[1].factor));
    assert_true(is_about(loads[2].factor, 1)); /* it says nothing */
}

static void its_own_rate_counts_more_than_what_we_sent(void **state)
{
    (void)state;
    say(0, 0.5, 300, -1); /* others send there too */
    say(1, 0.5, 100, -1);
    run(300);
    assert_true(is_about(loads[0].factor, 1.5));
    assert_true(is_about(loads[1].factor, 0.5));
}

static void errors_are_load(void **state)
{
    (void)state;
    say(0, 0.5, 100, 50);
    say(1, 0.5, 100, 0);
    run(300);
    assert_true(is_about(loads[1].factor, 2 * loads[0].factor));
}

static void it_moves_over_seconds_and_within_bounds(void **state)
{
    (void)state;
    say(0, 1.0, -1, -1);
    say(1, 0.02, -1, -1);
    run(1);
    assert_true(loads[0].factor > 0.9);
    run(600);
    assert_true(loads[0].factor >= 0.249);
    assert_true(loads[1].factor <= 4);
}

static void stale_and_senseless_reports_age_out(void **state)
{
    (void)state;
    say(0, 0.3, -1, -1);
    say(1, 0.6, -1, -1);
    run(300);
    assert_true(load_is_fresh(&loads[0], now_us));
    now_us += LOAD_STALE_US;
    assert_false(load_is_fresh(&loads[0], now_us));
    run(300);
    assert_true(is_about(loads[0].factor, 1));
    say(0, 0.001, -1, -1); /* idle: says nothing of what it can do */
    say(1, -1, 100, 0);
    run(300);
    assert_true(is_about(loads[0].factor, 1));
    assert_true(is_about(loads[1].factor, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(half_as_busy_is_twice_the_share, setup),
        cmocka_unit_test_setup(its_own_rate_counts_more_than_what_we_sent, setup),
        cmocka_unit_test_setup(errors_are_load, setup),
        cmocka_unit_test_setup(it_moves_over_seconds_and_within_bounds, setup),
        cmocka_unit_test_setup(stale_and_senseless_reports_age_out, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
