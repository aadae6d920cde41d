/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "analytics/cold.h"

#include <math.h>

#define KEYS 2000u
#define BYTES 10000u

static uint64_t hash_of(uint64_t key)
{
    uint64_t x = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 31);
}

/* Twenty rounds over all keys: nothing is answered before nearly all of them are there. */
static struct curves *loop_curve(void)
{
    struct curves *c = curves_new();
    assert_non_null(c);
    for (uint32_t i = 0; i < 20 * KEYS; i++) {
        struct ev_cache_sample s = EV_INIT(CACHE_SAMPLE, cache_sample, 1);
        s.key = hash_of(i % KEYS);
        s.bytes = BYTES;
        s.origin_us = 1000;
        s.references = 1;
        curves_feed(c, &s);
    }
    return c;
}

static const struct cold_seen warm = {.spared_per_s = 95,
                                      .fetched_per_s = 5,
                                      .service_per_s = 5,
                                      .capacity_per_s = NAN,
                                      .used_bytes = KEYS * (double)BYTES * 1.2,
                                      .entries = KEYS * 1.2};

static void without_a_capacity_the_cache_fills_as_fast_as_it_is_asked(void **state)
{
    (void)state;
    struct curves *c = loop_curve();
    struct cold_view v;
    assert_true(cold_predict(c, 0, &warm, &v));
    assert_true(v.now_per_s == 5 && v.cold_per_s == 100);
    assert_true(isnan(v.load_ratio));
    assert_true(v.refill_s > 0.85 * KEYS / 100 && v.refill_s < 1.3 * KEYS / 100);
    curves_free(c);
}

static void a_full_service_makes_it_last_and_a_busy_one_for_ever(void **state)
{
    (void)state;
    struct curves *c = loop_curve();
    struct cold_seen seen = warm;
    struct cold_view free_view, v;
    assert_true(cold_predict(c, 0, &warm, &free_view));
    seen.capacity_per_s = 25; /* four times what may be fetched */
    assert_true(cold_predict(c, 0, &seen, &v));
    assert_true(fabs(v.load_ratio - 4) < 0.01);
    assert_true(v.refill_s > 3.5 * free_view.refill_s && v.refill_s < 4.5 * free_view.refill_s);
    seen.service_per_s = 30; /* other routes use all of it */
    assert_true(cold_predict(c, 0, &seen, &v));
    assert_true(isinf(v.refill_s));
    assert_true(fabs(v.load_ratio - 5) < 0.01);
    seen.capacity_per_s = 1000;
    assert_true(cold_predict(c, 0, &seen, &v));
    assert_true(v.load_ratio < 0.2);
    assert_true(fabs(v.refill_s - free_view.refill_s) < 0.1);
    curves_free(c);
}

static void it_says_nothing_before_it_knows(void **state)
{
    (void)state;
    struct curves *c = loop_curve(), *empty = curves_new();
    struct cold_seen seen = warm;
    struct cold_view v;
    assert_false(cold_predict(empty, 0, &warm, &v));
    assert_false(cold_predict(c, 1, &warm, &v));
    seen.entries = 0;
    assert_false(cold_predict(c, 0, &seen, &v));
    seen = warm;
    seen.spared_per_s = NAN;
    assert_false(cold_predict(c, 0, &seen, &v));
    seen.spared_per_s = seen.fetched_per_s = 0;
    assert_false(cold_predict(c, 0, &seen, &v));
    curves_free(c);
    curves_free(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_capacity_the_cache_fills_as_fast_as_it_is_asked),
        cmocka_unit_test(a_full_service_makes_it_last_and_a_busy_one_for_ever),
        cmocka_unit_test(it_says_nothing_before_it_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
