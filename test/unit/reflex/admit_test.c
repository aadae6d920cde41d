/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/admit.h"

static struct rng rng;
static const uint64_t hour_us = 3600 * US_PER_S;

static void levels_lie_in_the_band_of_their_class(void **state)
{
    (void)state;
    rng_init(&rng, 1);
    for (uint8_t class = 0; class < EV_CLASS_COUNT; class ++)
        for (uint64_t user = 0; user < 1000; user++) {
            uint32_t level = admit_level(class, user, 0, &rng);
            assert_true(level >= class * 128u);
            assert_true(level < class * 128u + 128);
        }
}

static void users_spread_evenly(void **state)
{
    (void)state;
    rng_init(&rng, 1);
    for (int has_user = 0; has_user < 2; has_user++) {
        uint32_t below = 0;
        for (uint64_t user = 1; user <= 10000; user++) /* small numbers, as a bad hash would give */
            below += admit_level(0, has_user ? user : 0, 0, &rng) < 32;
        assert_true(below > 2300);
        assert_true(below < 2700);
    }
}

static void user_keeps_his_level_for_an_hour(void **state)
{
    (void)state;
    uint32_t kept = 0;
    for (uint64_t user = 1; user <= 1000; user++) {
        uint32_t level = admit_level(1, user, 0, &rng);
        assert_int_equal(admit_level(1, user, hour_us - 1, &rng), level);
        kept += admit_level(1, user, hour_us, &rng) == level;
    }
    assert_true(kept < 30); /* 1 of 128 by chance */
}

static void deadlines_saturate(void **state)
{
    (void)state;
    assert_int_equal(deadline_after(10, 5), 15);
    assert_int_equal(deadline_after(10, UINT64_MAX), UINT64_MAX);
    assert_true(deadline_is_over(10, 10));
    assert_false(deadline_is_over(11, 10));
    assert_false(deadline_is_over(UINT64_MAX, 10));
    assert_int_equal(deadline_left_us(30, 10), 20);
    assert_int_equal(deadline_left_us(10, 30), 0);
    assert_int_equal(deadline_left_us(UINT64_MAX, 30), UINT64_MAX);
}

static void attempts_get_more_time_within_the_deadline(void **state)
{
    (void)state;
    assert_int_equal(deadline_attempt_us(100, 0, UINT64_MAX, 0), 100);
    assert_int_equal(deadline_attempt_us(100, 2, UINT64_MAX, 0), 400);
    assert_int_equal(deadline_attempt_us(100, 2, 350, 0), 350);
    assert_int_equal(deadline_attempt_us(100, 2, 350, 400), 0);
    assert_int_equal(deadline_attempt_us(UINT64_MAX, 3, UINT64_MAX, 0), UINT64_MAX);
    assert_int_equal(deadline_attempt_us(1, 200, UINT64_MAX, 0), 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_lie_in_the_band_of_their_class),
        cmocka_unit_test(users_spread_evenly),
        cmocka_unit_test(user_keeps_his_level_for_an_hour),
        cmocka_unit_test(deadlines_saturate),
        cmocka_unit_test(attempts_get_more_time_within_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
