/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/age.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define S US_PER_S

static void what_waits_is_as_old_as_the_look_that_found_it(void **state)
{
    (void)state;
    struct age a = {.count = 0};
    age_look(&a, 10, 0, 1 * S);
    assert_int_equal(age_us(&a, 2 * S), 0);
    age_look(&a, 10, 5, 3 * S);
    assert_int_equal(age_us(&a, 3 * S), 0);
    age_look(&a, 10, 5, 4 * S);
    assert_int_equal(age_us(&a, 4 * S), 1 * S);
    age_look(&a, 12, 8, 5 * S); /* two came, five more wait */
    assert_int_equal(age_us(&a, 5 * S), 2 * S);
    age_look(&a, 15, 5, 6 * S); /* those of the first look have come */
    assert_int_equal(age_us(&a, 6 * S), 1 * S);
    age_look(&a, 20, 0, 7 * S);
    assert_int_equal(age_us(&a, 9 * S), 0);
}

static void who_is_always_a_little_behind_is_a_little_behind(void **state)
{
    (void)state;
    struct age a = {.count = 0};
    for (uint64_t i = 1; i < 100000; i++) { /* 100 ms each; 50 come in, 20 wait always */
        age_look(&a, 50 * i, 20, i * S / 10);
        assert_in_range(age_us(&a, i * S / 10), 0, S / 2);
    }
}

static void partitions_that_go_to_another_member_begin_it_anew(void **state)
{
    (void)state;
    struct age a = {.count = 0};
    age_look(&a, 100, 1000, 1 * S);
    age_look(&a, 200, 1000, 9 * S);
    assert_int_equal(age_us(&a, 9 * S), 8 * S);
    age_look(&a, 210, 50, 10 * S);
    assert_int_equal(age_us(&a, 10 * S), 0);
}

/* The ends of all partitions can grow by more than those that go to another member had. */
static void what_came_never_goes_back_else_it_begins_anew(void **state)
{
    (void)state;
    struct age a = {.count = 0};
    age_look(&a, 100, 1000, 1 * S);
    age_look(&a, 90, 1020, 9 * S);
    assert_int_equal(age_us(&a, 10 * S), 1 * S);
    age_anew(&a);
    assert_int_equal(age_us(&a, 20 * S), 0);
}

/* Each message is number 2n, what lies between is none: numbers on both sides. */
static void numbers_that_are_left_out_make_nothing_younger(void **state)
{
    (void)state;
    struct age a = {.count = 0};
    for (uint64_t i = 0; i < 100; i++) { /* one comes in 100 ms, three are written */
        age_look(&a, 2 * i, 200 + 4 * i, i * S / 10);
        assert_int_equal(age_us(&a, i * S / 10), i * S / 10);
    }
    assert_in_range(age_us(&a, 10 * S), 9 * S, 10 * S);
}

/* Against an exact account of each message. */
static void it_is_never_younger_than_the_truth_and_little_older(void **state)
{
    (void)state;
    enum { MESSAGES = 20000 };
    static uint64_t written_us[MESSAGES];
    struct rng rng;
    struct age a = {.count = 0};
    uint64_t now_us = S, came = 0, end = 0, oldest_us = 0;
    rng_init(&rng, 11);
    while (end < MESSAGES - 100) {
        now_us += rng_below(&rng, 200) * US_PER_MS;
        uint64_t more = rng_below(&rng, 40);
        for (uint64_t i = 0; i < more; i++)
            written_us[end++] = now_us;
        came += rng_below(&rng, end < MESSAGES / 2 ? 30 : 50);
        came = came > end ? end : came;
        age_look(&a, came, end - came, now_us);
        uint64_t truth_us = came < end ? now_us - written_us[came] : 0;
        oldest_us = fb_max_u64(oldest_us, truth_us);
        assert_true(age_us(&a, now_us) >= truth_us);
        assert_true(age_us(&a, now_us) <= truth_us + truth_us / 4 + S);
    }
    assert_true(oldest_us > 2 * S); /* it was something to measure */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_is_as_old_as_the_look_that_found_it),
        cmocka_unit_test(who_is_always_a_little_behind_is_a_little_behind),
        cmocka_unit_test(partitions_that_go_to_another_member_begin_it_anew),
        cmocka_unit_test(what_came_never_goes_back_else_it_begins_anew),
        cmocka_unit_test(numbers_that_are_left_out_make_nothing_younger),
        cmocka_unit_test(it_is_never_younger_than_the_truth_and_little_older),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
