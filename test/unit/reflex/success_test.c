/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/success.h"

static struct success s;
static const uint64_t t0 = 1000 * US_PER_S;

/* <per_s> attempts a second for <seconds>, the first <good_pct> of each hundred good. */
static uint64_t feed(uint64_t from_us, uint32_t seconds, uint32_t per_s, uint32_t good_pct)
{
    for (uint32_t i = 0; i < seconds * per_s; i++)
        success_note(&s, i % 100 < good_pct, from_us + (uint64_t)i * US_PER_S / per_s);
    return from_us + seconds * US_PER_S;
}

static int begin(void **state)
{
    (void)state;
    s = (struct success){0};
    return 0;
}

static void above_the_floor_nothing_is_refused(void **state)
{
    (void)state;
    uint64_t now_us = feed(t0, 30, 100, 51);
    assert_true(success_refuse_share(&s, 0.5, now_us - 1) <= 0);
}

static void below_it_as_much_as_the_formula_says(void **state)
{
    (void)state;
    uint64_t now_us = feed(t0, 30, 100, 20);
    assert_true(fabs(success_refuse_share(&s, 0.5, now_us - 1) - 0.6) < 0.01);
    assert_true(fabs(success_refuse_share(&s, 0.9, now_us - 1) - 0.778) < 0.01);
    assert_true(success_refuse_share(&s, 0, now_us - 1) <= 0); /* off */
}

static void some_always_go_on_asking(void **state)
{
    (void)state;
    uint64_t now_us = feed(t0, 30, 100, 0);
    assert_true(fabs(success_refuse_share(&s, 0.99, now_us - 1) - 0.8) < 1e-9);
}

static void few_attempts_say_nothing(void **state)
{
    (void)state;
    uint64_t now_us = feed(t0, 30, 9, 0);
    assert_true(success_refuse_share(&s, 0.9, now_us) <= 0);
}

static void what_is_old_is_forgotten(void **state)
{
    (void)state;
    uint64_t now_us = feed(t0, 20, 100, 0);
    assert_true(success_refuse_share(&s, 0.5, now_us - 1) > 0.7);
    now_us = feed(now_us, 6, 100, 100);
    assert_true(success_refuse_share(&s, 0.5, now_us - 1) <= 0); /* six of ten seconds good */
    feed(now_us, 1, 200, 0);
    assert_true(success_refuse_share(&s, 0.5, now_us + 3600 * US_PER_S) <= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(above_the_floor_nothing_is_refused, begin),
        cmocka_unit_test_setup(below_it_as_much_as_the_formula_says, begin),
        cmocka_unit_test_setup(some_always_go_on_asking, begin),
        cmocka_unit_test_setup(few_attempts_say_nothing, begin),
        cmocka_unit_test_setup(what_is_old_is_forgotten, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
