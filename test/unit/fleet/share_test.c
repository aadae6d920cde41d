/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "fleet/share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

static uint64_t sum_ppm(const struct fleet_share *s, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += s[i].share_ppm;
    return sum;
}

static void whoever_asks_for_little_gets_it_and_the_hungry_share_the_rest(void **state)
{
    (void)state;
    /* limit 1,000/s; asked: 100/s, 900/s, 900/s */
    struct fleet_share s[3] = {{1, 0, 100000}, {2, 0, 900000}, {3, 0, 900000}};
    fleet_divide(s, 3, 1000000, FLEET_SHARE_ALL);
    assert_in_range(s[0].share_ppm, 104000, 106000);
    assert_in_range(s[1].share_ppm, 446000, 448500);
    assert_int_equal(s[1].share_ppm, s[2].share_ppm);
}

static void nothing_lies_idle_when_all_are_content(void **state)
{
    (void)state;
    struct fleet_share s[4] = {{1, 0, 10000}, {2, 0, 10000}, {3, 0, 0}, {4, 0, 50000}};
    fleet_divide(s, 4, 1000000, FLEET_SHARE_ALL);
    assert_in_range(sum_ppm(s, 4), FLEET_SHARE_ALL - 4, FLEET_SHARE_ALL);
    assert_true(s[3].share_ppm > s[0].share_ppm);
    assert_true(s[2].share_ppm > 200000);
}

static void the_promises_hold_for_any_demand(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    struct fleet_share s[FLEET_NODES_MAX];
    for (int round = 0; round < 2000; round++) {
        uint32_t n = 1 + (uint32_t)(rng_u64(&rng) % FLEET_NODES_MAX);
        uint64_t limit_milli = 1 + rng_u64(&rng) % 100000000;
        for (uint32_t i = 0; i < n; i++)
            s[i] = (struct fleet_share){i + 1, 0,
                                        (uint32_t)(rng_u64(&rng) >> (32 + rng_u64(&rng) % 32))};
        fleet_divide(s, n, limit_milli, FLEET_SHARE_ALL);
        assert_in_range(sum_ppm(s, n), FLEET_SHARE_ALL - 2 * n, FLEET_SHARE_ALL);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(s[i].share_ppm > 0);
            if (i > 0 && s[i].asked_milli > s[i - 1].asked_milli)
                assert_true(s[i].share_ppm + 1 >= s[i - 1].share_ppm);
        }
    }
}

static void what_is_in_force_never_passes_the_limit_on_the_way(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 2);
    enum { N = 5 };
    uint32_t in_force[N] = {200000, 200000, 200000, 200000, 200000};
    struct fleet_share s[N];
    for (int phase = 0; phase < 200; phase++) {
        uint32_t asked[N];
        for (int i = 0; i < N; i++)
            asked[i] = (uint32_t)(rng_u64(&rng) % 1000000);
        for (int step = 0; step < 12; step++) {
            for (uint32_t i = 0; i < N; i++)
                s[i] = (struct fleet_share){i + 1, 0, asked[i]};
            fleet_divide(s, N, 1000000, FLEET_SHARE_ALL);
            struct fleet_share goal[N];
            memcpy(goal, s, sizeof s);
            fleet_step(s, in_force, N, FLEET_SHARE_ALL);
            /* nodes hear of it one after another, in any order */
            uint32_t order = (uint32_t)(rng_u64(&rng) % N);
            for (uint32_t k = 0; k < N; k++) {
                uint32_t i = (order + k) % N;
                in_force[i] = s[i].share_ppm;
                uint64_t sum = 0;
                for (uint32_t j = 0; j < N; j++)
                    sum += in_force[j];
                assert_true(sum <= FLEET_SHARE_ALL);
            }
            if (step == 11)
                for (uint32_t i = 0; i < N; i++)
                    assert_true(in_force[i] + 2 >= goal[i].share_ppm);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_asks_for_little_gets_it_and_the_hungry_share_the_rest),
        cmocka_unit_test(nothing_lies_idle_when_all_are_content),
        cmocka_unit_test(the_promises_hold_for_any_demand),
        cmocka_unit_test(what_is_in_force_never_passes_the_limit_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
