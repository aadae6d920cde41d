/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "reflex/split.h"

#define USERS 20000

static const struct split_part three[] = {{11, 80}, {22, 15}, {33, 5}};

static void picks_of(const struct split_part *parts, uint32_t n, uint32_t out[USERS])
{
    struct rng rng;
    rng_init(&rng, 5);
    for (uint32_t i = 0; i < USERS; i++)
        out[i] = split_pick(parts, n, rng_u64(&rng));
}

static uint32_t count_of(const uint32_t picks[USERS], uint32_t part)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < USERS; i++)
        count += picks[i] == part;
    return count;
}

static void each_version_gets_its_share(void **state)
{
    (void)state;
    static uint32_t picks[USERS];
    picks_of(three, 3, picks);
    for (uint32_t i = 0; i < 3; i++) {
        double want = three[i].share / 100 * USERS;
        assert_true(fabs(count_of(picks, i) - want) < 4 * sqrt(want));
    }
}

static void small_keys_spread_as_well(void **state)
{
    (void)state;
    uint32_t count = 0;
    for (uint64_t key = 0; key < USERS; key++)
        count += split_pick(three, 3, key) == 1;
    assert_true(fabs(count - 0.15 * USERS) < 4 * sqrt(0.15 * USERS));
}

static void a_share_that_grows_moves_only_whom_it_wins(void **state)
{
    (void)state;
    static uint32_t before[USERS], after[USERS];
    struct split_part more[] = {three[0], three[1], {33, 10}};
    picks_of(three, 3, before);
    picks_of(more, 3, after);
    for (uint32_t i = 0; i < USERS; i++)
        assert_true(after[i] == before[i] || after[i] == 2);
    assert_true(count_of(after, 2) > count_of(before, 2));
}

static void a_version_without_share_gets_nobody_and_moves_only_its_own(void **state)
{
    (void)state;
    static uint32_t before[USERS], after[USERS];
    struct split_part less[] = {three[0], {22, 0}, three[2]};
    picks_of(three, 3, before);
    picks_of(less, 3, after);
    for (uint32_t i = 0; i < USERS; i++)
        assert_true(before[i] == 1 ? after[i] != 1 : after[i] == before[i]);
    struct split_part none[] = {{1, 0}, {2, 0}};
    assert_int_equal(split_pick(none, 2, 7), 2);
    assert_int_equal(split_pick(none, 0, 7), 0);
}

static void a_moved_split_keeps_proportions_and_sums_to_all(void **state)
{
    (void)state;
    struct split_part parts[] = {three[0], three[1], three[2]};
    split_move(parts, 3, 40);
    assert_true(fabs(parts[0].share - 60) < 1e-9);
    assert_true(fabs(parts[1].share - 30) < 1e-9);
    assert_true(fabs(parts[2].share - 10) < 1e-9);
    split_move(parts, 3, 0);
    split_move(parts, 3, 50); /* proportions are gone: evenly */
    assert_true(fabs(parts[1].share - 25) < 1e-9);
    split_move(parts, 3, 1e9);
    assert_true(fabs(parts[0].share) < 1e-9);
    split_move(parts, 1, 50);
    assert_true(fabs(parts[0].share) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_version_gets_its_share),
        cmocka_unit_test(small_keys_spread_as_well),
        cmocka_unit_test(a_share_that_grows_moves_only_whom_it_wins),
        cmocka_unit_test(a_version_without_share_gets_nobody_and_moves_only_its_own),
        cmocka_unit_test(a_moved_split_keeps_proportions_and_sums_to_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
