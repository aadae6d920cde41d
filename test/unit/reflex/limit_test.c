/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of reflex/limit: invariants, pauses, restart, bounds, binding, proposals. */
#include "reflex/limit.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct limit_conf four = {.min = 1, .max = 100, .start = 4};

/* An endpoint in lock step: <n> requests at once, each taking <each_us>, round after round. */
static uint64_t rounds(struct limit *l, uint64_t now_us, int count, uint64_t each_us,
                       bool is_wanted)
{
    static struct limit_tag tags[LIMIT_MAX];
    for (int r = 0; r < count; r++) {
        uint32_t n = 0;
        while (limit_has_room(l))
            limit_on_send(l, &tags[n++], now_us);
        uint64_t until_us = now_us + each_us;
        for (; now_us + 5000 < until_us; now_us += 5000)
            limit_tick(l, is_wanted, now_us);
        now_us = until_us;
        for (uint32_t i = 0; i < n; i++)
            limit_on_done(l, &tags[i], LIMIT_OK, is_wanted, now_us);
    }
    return now_us;
}

static void limit_starts_within_its_bounds(void **state)
{
    (void)state;
    struct limit l;
    limit_init(&l, &(struct limit_conf){.min = 6, .max = 9, .start = 4}, 1);
    assert_int_equal(limit_now(&l), 6);
    limit_init(&l, &(struct limit_conf){.min = 1, .max = 3, .start = 4}, 1);
    assert_int_equal(limit_now(&l), 3);
}

static void limit_grows_while_it_binds_and_latency_stays(void **state)
{
    (void)state;
    struct limit l;
    limit_init(&l, &four, 1);
    rounds(&l, 1, 200, 20000, true);
    assert_int_equal(limit_now(&l), 100);
}

static void limit_never_grows_while_nothing_is_wanted(void **state)
{
    (void)state;
    struct limit l;
    limit_init(&l, &four, 1);
    rounds(&l, 1, 500, 20000, false);
    assert_int_equal(limit_now(&l), 4);
}

static void limit_keeps_its_bounds_for_a_million_random_steps(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 7);
    struct limit l;
    uint32_t min = 1, max = 100, open = 0;
    static struct limit_tag tags[LIMIT_MAX];
    uint64_t now_us = 1;
    limit_init(&l, &four, now_us);
    for (int i = 0; i < 1000000; i++) {
        now_us += rng_below(&r, 4) ? rng_below(&r, 3000) : 0;
        uint32_t dice = rng_below(&r, 1000);
        bool is_wanted = rng_below(&r, 3) > 0;
        if (dice < 480 && limit_has_room(&l)) {
            limit_on_send(&l, &tags[open++], now_us);
        } else if (dice < 980 && open > 0) {
            uint32_t at = rng_below(&r, open);
            struct limit_tag tag = tags[at];
            tags[at] = tags[--open];
            limit_on_done(&l, &tag, (enum limit_result)rng_below(&r, 4), is_wanted, now_us);
        } else if (dice < 998) {
            limit_tick(&l, is_wanted, now_us);
        } else if (dice == 998) {
            min = 1 + rng_below(&r, 8);
            max = min + rng_below(&r, 200);
            limit_set_bounds(&l, min, max);
        } else if (rng_below(&r, 100) == 0) {
            limit_restore(&l, rng_unit(&r) * 300, rng_unit(&r) * 1e5, rng_unit(&r) * 3, now_us);
        } else if (rng_below(&r, 100) == 0) {
            now_us += US_PER_S * rng_below(&r, 100);
        }
        assert_true(limit_now(&l) >= min);
        assert_true(limit_now(&l) <= max);
        assert_int_equal(l.in_flight, open);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limit_starts_within_its_bounds),
        cmocka_unit_test(limit_grows_while_it_binds_and_latency_stays),
        cmocka_unit_test(limit_never_grows_while_nothing_is_wanted),
        cmocka_unit_test(limit_keeps_its_bounds_for_a_million_random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
