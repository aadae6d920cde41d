/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reflex/retry.h"

static const uint64_t t0 = 10 * US_PER_S;

static void ten_are_there_at_the_start_and_no_more(void **state)
{
    (void)state;
    struct retry r;
    retry_init(&r, 10, t0);
    for (int i = 0; i < 10; i++)
        assert_true(retry_charge(&r, t0));
    assert_false(retry_charge(&r, t0));
}

static void a_tenth_of_first_attempts_is_earned(void **state)
{
    (void)state;
    struct retry r;
    retry_init(&r, 10, t0);
    uint32_t retries = 0;
    uint32_t firsts = 0;
    for (uint64_t now_us = t0; now_us < t0 + 20 * US_PER_S; now_us += US_PER_MS) {
        retry_earn(&r, now_us);
        firsts++;
        while (retry_charge(&r, now_us)) /* takes all it can get */
            retries++;
    }
    assert_true(retries >= firsts / 10);
    assert_true(retries <= firsts / 10 + 10 + 20 + 1); /* the start, and one a second */
}

static void no_more_than_two_seconds_are_saved(void **state)
{
    (void)state;
    struct retry r;
    retry_init(&r, 10, t0);
    for (uint64_t now_us = t0; now_us < t0 + 60 * US_PER_S; now_us += US_PER_MS)
        retry_earn(&r, now_us);
    uint32_t saved = 0;
    while (retry_charge(&r, t0 + 60 * US_PER_S))
        saved++;
    assert_true(saved >= 190);
    assert_true(saved <= 201); /* 1000/s x 10 % x 2 s */
}

static void zero_means_never(void **state)
{
    (void)state;
    struct retry r;
    retry_init(&r, 10, t0);
    retry_set_pct(&r, 0);
    assert_false(retry_charge(&r, t0));
    retry_set_pct(&r, 10);
    assert_true(retry_charge(&r, t0));
}

static void backoff_doubles_with_full_jitter(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 3);
    for (uint32_t nth = 0; nth < 70; nth++) {
        uint64_t most_us = nth < 5 ? UINT64_C(25000) << nth : nth < 6 ? 800000 : US_PER_S;
        double sum = 0;
        for (int i = 0; i < 1000; i++) {
            uint64_t us = retry_backoff_us(nth, &rng);
            assert_true(us < most_us);
            sum += (double)us;
        }
        assert_true(sum / 1000 > 0.45 * (double)most_us);
        assert_true(sum / 1000 < 0.55 * (double)most_us);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_are_there_at_the_start_and_no_more),
        cmocka_unit_test(a_tenth_of_first_attempts_is_earned),
        cmocka_unit_test(no_more_than_two_seconds_are_saved),
        cmocka_unit_test(zero_means_never),
        cmocka_unit_test(backoff_doubles_with_full_jitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
