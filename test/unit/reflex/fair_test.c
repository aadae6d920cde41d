/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "reflex/admit.h"
#include "reflex/fair.h"

#define CLASS EV_CLASS_DEFAULT
#define GREEDY UINT64_C(99)

static struct fair f;
static struct rng lot;
static uint64_t now_us;

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    rng_init(&lot, 3);
    now_us = 10 * US_PER_S;
    return 0;
}

static uint64_t key(uint64_t user)
{
    uint64_t z = (user + 1) * UINT64_C(0xbf58476d1ce4e5b9);
    return (z ^ z >> 31) | 1;
}

/* <users> ask 2/s each and GREEDY <times> as much, for 20 s. */
static void ask(uint32_t users, uint32_t times, uint32_t threshold)
{
    for (uint32_t tenth = 0; tenth < 200; tenth++) {
        for (uint32_t u = 0; u < users; u++)
            if ((u + tenth) % 5 == 0)
                fair_ask(&f, CLASS, key(u));
        for (uint32_t i = 0; i < times; i++)
            if ((i + tenth) % 5 == 0)
                fair_ask(&f, CLASS, key(GREEDY));
        now_us += 100 * US_PER_MS;
        fair_tick(&f, threshold, now_us);
    }
}

/* Of a thousand requests of <user>. */
static uint32_t passed(uint64_t user, uint32_t threshold)
{
    uint32_t sum = 0;
    uint32_t level = admit_level(CLASS, key(user), now_us, &lot);
    for (uint32_t i = 0; i < 1000; i++)
        sum += fair_passes(&f, key(user), level, threshold, &lot);
    return sum;
}

static void the_greedy_one_is_cut_and_nobody_else(void **state)
{
    (void)state;
    uint32_t threshold = 128 + 80; /* 5 of 8 pass; he asks half */
    ask(20, 20, threshold);
    for (uint32_t u = 0; u < 20; u++)
        assert_int_equal(passed(u, threshold), 1000);
    assert_in_range(passed(GREEDY, threshold), 150, 350); /* 1/4 of his */
}

static void few_equal_users_share_by_requests(void **state)
{
    (void)state;
    uint32_t threshold = 128 + 64;
    ask(4, 0, threshold);
    for (uint32_t u = 0; u < 4; u++)
        assert_in_range(passed(u, threshold), 400, 600);
}

static void one_user_alone_is_not_all_or_nothing(void **state)
{
    (void)state;
    ask(1, 0, 128 + 32);
    assert_in_range(passed(0, 128 + 32), 180, 320);
    fair_plan(&f, 256);
    assert_int_equal(passed(0, 256), 1000);
    fair_plan(&f, 128);
    assert_int_equal(passed(0, 128), 0);
}

static void a_crowd_is_refused_by_user_behind_the_greedy_one(void **state)
{
    (void)state;
    uint32_t threshold = 128 + 32; /* a quarter passes; the crowd asks half */
    ask(100, 100, threshold);
    uint32_t whole = 0;
    uint32_t none = 0;
    for (uint32_t u = 0; u < 100; u++) {
        uint32_t n = passed(u, threshold);
        whole += n == 1000;
        none += n == 0;
    }
    assert_in_range(whole, 30, 65);
    assert_in_range(none, 30, 65);
    /* who shares a place in both rows with somebody may be in between */
    assert_in_range(whole + none, 95, 100);
    assert_in_range(passed(GREEDY, threshold), 0, 120);
}

static void who_shares_a_place_with_the_greedy_one_is_told_apart(void **state)
{
    (void)state;
    uint64_t user = 1000;
    while (fair_place(key(user), 0) != fair_place(key(GREEDY), 0) ||
           fair_place(key(user), 1) == fair_place(key(GREEDY), 1))
        user++;
    uint32_t threshold = 128 + 80;
    ask(20, 20, threshold);
    assert_int_equal(fair_row(&f, CLASS, key(user)), 1);
    assert_int_equal(fair_row(&f, CLASS, key(GREEDY)), 0);
    assert_int_equal(passed(user, threshold), 1000);
}

static void what_was_asked_is_forgotten(void **state)
{
    (void)state;
    uint32_t threshold = 128 + 80;
    ask(20, 20, threshold);
    for (uint32_t i = 0; i < 600; i++) {
        now_us += 100 * US_PER_MS;
        fair_tick(&f, threshold, now_us);
    }
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++)
        assert_true(f.classes[i].total <= 0 && f.classes[i].cut.level <= 0);
}

static void a_share_cuts_as_a_threshold_does(void **state)
{
    (void)state;
    ask(20, 20, ADMIT_ALL);
    struct fair_cut cut = fair_plan_share(&f, CLASS, 80.0 / ADMIT_LEVELS_PER_CLASS);
    uint32_t greedy = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t level = admit_level(CLASS, key(GREEDY), now_us, &lot);
        greedy += fair_passes_share(&f, &cut, key(GREEDY), level, &lot);
        level = admit_level(CLASS, key(i % 20), now_us, &lot);
        assert_true(fair_passes_share(&f, &cut, key(i % 20), level, &lot));
    }
    assert_in_range(greedy, 150, 350);
    assert_true(f.classes[CLASS].cut.level <= 0); /* the threshold's own is another one */
    assert_true(fair_plan_share(&f, EV_CLASS_BEST_EFFORT, 0.5).level <= 0); /* nobody asked */
}

static void without_counts_the_number_decides(void **state)
{
    (void)state;
    for (uint32_t level = 0; level < ADMIT_ALL; level++)
        assert_int_equal(fair_passes(&f, key(1), level, 128 + 64, &lot), level < 128 + 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_greedy_one_is_cut_and_nobody_else, setup),
        cmocka_unit_test_setup(few_equal_users_share_by_requests, setup),
        cmocka_unit_test_setup(one_user_alone_is_not_all_or_nothing, setup),
        cmocka_unit_test_setup(a_crowd_is_refused_by_user_behind_the_greedy_one, setup),
        cmocka_unit_test_setup(who_shares_a_place_with_the_greedy_one_is_told_apart, setup),
        cmocka_unit_test_setup(what_was_asked_is_forgotten, setup),
        cmocka_unit_test_setup(a_share_cuts_as_a_threshold_does, setup),
        cmocka_unit_test_setup(without_counts_the_number_decides, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
