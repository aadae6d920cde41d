/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "reflex/hash.h"

#define SEATS 10
#define KEYS 20000
static struct hash_seat seats[256];
static struct hash_ask ask;

static int setup(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < FB_COUNT(seats); i++)
        seats[i] = (struct hash_seat){
            .identity = hash_mix(i, 99), .weight = 1, .limit = 40, .has_room = true};
    ask = (struct hash_ask){.weight = SEATS};
    return 0;
}

static uint64_t home(uint64_t key, uint32_t n)
{
    ask.key = hash_mix(key, 12345);
    return seats[hash_pick(seats, n, &ask).at].identity;
}

static void keys_spread_by_weight(void **state)
{
    (void)state;
    uint32_t picks[SEATS] = {0};
    seats[0].weight = 3;
    seats[1].weight = 0.5;
    ask.weight = 3 + 0.5 + 8;
    for (uint64_t k = 0; k < KEYS; k++) {
        ask.key = hash_mix(k, 1);
        picks[hash_pick(seats, SEATS, &ask).at]++;
    }
    for (int i = 0; i < SEATS; i++) {
        double fair = KEYS * seats[i].weight / ask.weight;
        assert_true(fabs(picks[i] - fair) < 5 * sqrt(fair));
    }
}

static void order_of_seats_does_not_matter(void **state)
{
    (void)state;
    uint64_t before[200];
    for (uint64_t k = 0; k < 200; k++)
        before[k] = home(k, SEATS);
    for (uint32_t i = 0; i < SEATS / 2; i++) {
        struct hash_seat swap = seats[i];
        seats[i] = seats[SEATS - 1 - i];
        seats[SEATS - 1 - i] = swap;
    }
    for (uint64_t k = 0; k < 200; k++)
        assert_true(before[k] == home(k, SEATS));
}

static void only_keys_of_the_one_that_leaves_move(void **state)
{
    (void)state;
    uint64_t gone = seats[SEATS - 1].identity;
    uint32_t moved = 0;
    for (uint64_t k = 0; k < KEYS; k++) {
        uint64_t before = home(k, SEATS);
        uint64_t after = home(k, SEATS - 1);
        assert_true(after != gone);
        if (before != after) {
            assert_true(before == gone);
            moved++;
        }
    }
    assert_true(moved > KEYS / SEATS * 9 / 10);
    assert_true(moved < KEYS / SEATS * 11 / 10);
}

static void more_weight_takes_keys_and_gives_none(void **state)
{
    (void)state;
    uint64_t before[2000];
    for (uint64_t k = 0; k < 2000; k++)
        before[k] = home(k, SEATS);
    seats[4].weight = 2;
    for (uint64_t k = 0; k < 2000; k++) {
        uint64_t after = home(k, SEATS);
        assert_true(after == before[k] || after == seats[4].identity);
    }
}

static void no_seat_passes_a_quarter_above_its_share(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    for (int i = 0; i < SEATS; i++)
        seats[i].limit = 0;
    /* one key only, and nothing ever ends */
    for (ask.in_flight = 0; ask.in_flight < 1000; ask.in_flight++) {
        ask.key = 5;
        uint32_t at = hash_pick(seats, SEATS, &ask).at;
        seats[at].in_flight++;
        assert_true(seats[at].in_flight <= ceil(1.25 * ((double)ask.in_flight + 1) / SEATS));
    }
}

static void up_to_three_quarters_of_the_limit_keys_stay_home(void **state)
{
    (void)state;
    ask.key = 5;
    for (int i = 0; i < 30; i++) {
        struct hash_choice c = hash_pick(seats, SEATS, &ask);
        assert_int_equal(c.at, c.home);
        seats[c.at].in_flight++;
        ask.in_flight++;
    }
    assert_true(hash_pick(seats, SEATS, &ask).at != hash_pick(seats, SEATS, &ask).home);
}

static void a_full_home_sends_the_key_to_the_same_second_one(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 100; k++) {
        ask.key = hash_mix(k, 3);
        struct hash_choice c = hash_pick(seats, SEATS, &ask);
        assert_int_equal(c.at, c.home);
        seats[c.home].has_room = false;
        struct hash_choice second = hash_pick(seats, SEATS, &ask);
        assert_int_equal(second.home, c.home);
        assert_true(second.at != c.home);
        seats[c.home].weight = 0; /* gone altogether: the same one inherits */
        assert_int_equal(hash_pick(seats, SEATS, &ask).at, second.at);
        seats[c.home].weight = 1;
        seats[c.home].has_room = true;
    }
}

static void nobody_with_room_is_said(void **state)
{
    (void)state;
    for (int i = 0; i < SEATS; i++)
        seats[i].has_room = false;
    struct hash_choice c = hash_pick(seats, SEATS, &ask);
    assert_int_equal(c.at, SEATS);
    assert_true(c.home < SEATS);
}

static void weight_zero_is_the_last_resort(void **state)
{
    (void)state;
    seats[0].weight = 0;
    for (uint64_t k = 0; k < 500; k++)
        assert_true(home(k, 2) == seats[1].identity);
    seats[1].has_room = false;
    assert_true(home(1, 2) == seats[0].identity);
}

static void the_pruned_search_finds_the_best_score(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    for (uint64_t round = 0; round < 2000; round++) {
        uint32_t n = 1 + rng_below(&rng, FB_COUNT(seats));
        double best = -1;
        uint32_t want = 0;
        ask.key = rng_u64(&rng);
        for (uint32_t i = 0; i < n; i++) {
            seats[i].weight = 0.1 + 10 * rng_unit(&rng);
            double draw = ((double)(hash_mix(ask.key, seats[i].identity) >> 11) + 0.5) * 0x1p-53;
            double score = seats[i].weight / -log(draw);
            if (score > best) {
                best = score;
                want = i;
            }
        }
        assert_int_equal(hash_pick(seats, n, &ask).home, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(keys_spread_by_weight, setup),
        cmocka_unit_test_setup(order_of_seats_does_not_matter, setup),
        cmocka_unit_test_setup(only_keys_of_the_one_that_leaves_move, setup),
        cmocka_unit_test_setup(more_weight_takes_keys_and_gives_none, setup),
        cmocka_unit_test_setup(no_seat_passes_a_quarter_above_its_share, setup),
        cmocka_unit_test_setup(up_to_three_quarters_of_the_limit_keys_stay_home, setup),
        cmocka_unit_test_setup(a_full_home_sends_the_key_to_the_same_second_one, setup),
        cmocka_unit_test_setup(nobody_with_room_is_said, setup),
        cmocka_unit_test_setup(weight_zero_is_the_last_resort, setup),
        cmocka_unit_test_setup(the_pruned_search_finds_the_best_score, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
