/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "reflex/rate.h"

/* A Sunday noon in 2026. */
static const uint64_t noon_us = UINT64_C(1795348800) * US_PER_S;
static const struct rate_limit ten_a_second = {.count = 10, .period_us = US_PER_S, .burst = 5};
static const struct rate_limit a_day = {
    .count = 3, .period_us = 86400 * US_PER_S, .is_quota = true};

static uint32_t passed(struct rate_table *t, const struct rate_limit *l, uint64_t key,
                       uint32_t tries, uint64_t now_us)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tries; i++)
        count += rate_take(t, l, key, now_us).is_passed;
    return count;
}

static void burst_passes_at_once_and_no_more(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(1024);
    assert_int_equal(passed(t, &ten_a_second, 7, 100, noon_us), 5);
    assert_int_equal(passed(t, &ten_a_second, 256, 100, noon_us),
                     5); /* another key is another one */
    rate_table_free(t);
}

static void in_the_long_run_the_rate_passes(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(1024);
    uint32_t count = 0;
    for (uint64_t us = 0; us < 100 * US_PER_S; us += 1237) /* 808 tries a second */
        count += rate_take(t, &ten_a_second, 7, noon_us + us).is_passed;
    assert_true(count >= 1000 - 1);
    assert_true(count <= 1000 + 5 + 1);
    rate_table_free(t);
}

static void verdict_tells_what_is_left_and_when_to_come_back(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(1024);
    struct rate_verdict v = rate_take(t, &ten_a_second, 7, noon_us);
    assert_true(v.is_passed);
    assert_int_equal(v.left, 4);
    assert_int_equal(v.wait_us, 0);
    assert_int_equal(v.reset_us, 100000);
    passed(t, &ten_a_second, 7, 4, noon_us);
    v = rate_take(t, &ten_a_second, 7, noon_us);
    assert_false(v.is_passed);
    assert_int_equal(v.left, 0);
    assert_int_equal(v.wait_us, 100000);
    assert_int_equal(v.reset_us, 500000);
    assert_false(rate_take(t, &ten_a_second, 7, noon_us + v.wait_us - 1).is_passed);
    assert_true(rate_take(t, &ten_a_second, 7, noon_us + v.wait_us).is_passed);
    rate_table_free(t);
}

static void what_is_given_back_can_be_taken_again(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(1024);
    for (uint32_t i = 0; i < 50; i++) {
        assert_true(rate_take(t, &ten_a_second, 7, noon_us).is_passed);
        rate_give(t, &ten_a_second, 7, noon_us);
        assert_true(rate_take(t, &a_day, 7, noon_us).is_passed);
        rate_give(t, &a_day, 7, noon_us);
    }
    assert_int_equal(passed(t, &ten_a_second, 7, 10, noon_us), 5);
    assert_int_equal(passed(t, &a_day, 7, 10, noon_us), 3);
    rate_table_free(t);
}

static void quota_begins_anew_at_midnight_utc(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(1024);
    assert_int_equal(passed(t, &a_day, 7, 10, noon_us), 3);
    struct rate_verdict v = rate_take(t, &a_day, 7, noon_us);
    assert_int_equal(v.wait_us, 12 * 3600 * US_PER_S);
    assert_int_equal(passed(t, &a_day, 7, 10, noon_us + v.wait_us - 1), 0);
    assert_int_equal(passed(t, &a_day, 7, 10, noon_us + v.wait_us), 3);
    rate_table_free(t);
}

static void bucket_and_quota_of_one_key_are_two(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(4);
    for (uint64_t key = 256; key < 768; key += 256) {
        assert_int_equal(passed(t, &ten_a_second, key, 10, noon_us), 5);
        assert_int_equal(passed(t, &a_day, key, 10, noon_us), 3);
        assert_int_equal(passed(t, &ten_a_second, key, 10, noon_us), 0);
        assert_int_equal(passed(t, &a_day, key, 10, noon_us), 0);
    }
    rate_table_free(t);
}

static void full_buckets_are_free_places(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(64);
    struct rng rng;
    rng_init(&rng, 1);
    uint64_t now_us = noon_us;
    for (uint32_t i = 0; i < 10000; i++, now_us += US_PER_S)
        assert_false(rate_take(t, &ten_a_second, rng_u64(&rng), now_us).has_pushed);
    assert_true(rate_table_live(t, now_us) <= 10);
    rate_table_free(t);
}

/* 16,000 keys that come once each, through 1,024 places, beside one that asks ten times too often.
 */
static void flood_of_keys_frees_nobody_who_is_over_his_limit(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(1024);
    struct rng rng;
    rng_init(&rng, 2);
    uint32_t greedy = 0, others = 0, pushed = 0;
    for (uint64_t us = 0; us < 10 * US_PER_S; us += 625) {
        struct rate_verdict v = rate_take(t, &ten_a_second, rng_u64(&rng), noon_us + us);
        others += v.is_passed;
        pushed += v.has_pushed;
        if (us % 10000 == 0)
            greedy += rate_take(t, &ten_a_second, 7, noon_us + us).is_passed;
    }
    assert_int_equal(others, 16000);
    assert_true(greedy <= 100 + 5 + 5);
    assert_true(greedy >= 99);
    assert_true(pushed < 800);
    rate_table_free(t);
}

/* Who knows the seed fills the set of somebody else; who does not hits it once in 256 times. */
static void keys_of_one_set_push_each_other_out_and_touch_no_other(void **state)
{
    (void)state;
    enum { SETS = 256, FLOOD = 2000 };
    for (int is_aimed = 0; is_aimed <= 1; is_aimed++) {
        struct rate_table *t = rate_table_new(SETS * 4);
        struct rng rng;
        rng_init(&rng, 5);
        uint32_t forgotten = 0;
        for (uint64_t user = 1; user <= 100; user++) /* honest ones, at their limit */
            passed(t, &ten_a_second, user << 2 | user << 20, 5, noon_us);
        for (uint32_t i = 0; i < FLOOD; i++) {
            uint64_t key = is_aimed ? (rng_u64(&rng) & ~UINT64_C(0x3ff)) | 7 << 2 : rng_u64(&rng);
            assert_true(rate_take(t, &ten_a_second, key, noon_us).is_passed);
        }
        for (uint64_t user = 1; user <= 100; user++)
            forgotten += rate_take(t, &ten_a_second, user << 2 | user << 20, noon_us).is_passed;
        /* those at their limit are the last that are forgotten */
        assert_true(forgotten <= 1);
        assert_true(rate_table_live(t, noon_us) <= SETS * 4);
        rate_table_free(t);
    }
}

static void memory_stays_and_nobody_is_refused_when_all_places_are_taken(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(4);
    uint32_t pushed = 0;
    for (uint64_t key = 1; key <= 1000; key++) {
        struct rate_verdict v = rate_take(t, &a_day, key << 8, noon_us);
        assert_true(v.is_passed);
        pushed += v.has_pushed;
    }
    assert_int_equal(pushed, 996);
    assert_int_equal(rate_table_live(t, noon_us), 4);
    rate_table_free(t);
}

static void extremes_do_not_overflow(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(16);
    const struct rate_limit fastest = {.count = 10000000, .period_us = US_PER_S, .burst = 10000000};
    const struct rate_limit slowest = {
        .count = 1, .period_us = 31 * 86400 * US_PER_S, .burst = 1000};
    assert_true(rate_take(t, &fastest, 256, noon_us).left == 9999999);
    assert_int_equal(passed(t, &slowest, 512, 2000, noon_us), 1000);
    assert_int_equal(rate_take(t, &slowest, 512, noon_us).wait_us, slowest.period_us);
    rate_table_free(t);
}

/* Of 1,000/s with 100 at once a part, then less of it each second: no second is given away. */
static void a_limit_that_is_made_smaller_does_not_begin_anew(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(16);
    uint64_t now_us = noon_us;
    uint32_t sum = 0;
    double allowed = 0;
    for (int step = 0; step < 40; step++) {
        double share = 1.0 / (1 + step);
        struct rate_limit l = {.count = 1000,
                               .period_us = (uint64_t)((double)US_PER_S / share),
                               .burst = fb_max_u64((uint64_t)(100 * share), 1)};
        for (int i = 0; i < 1000; i++, now_us += 1000)
            sum += rate_take(t, &l, 512, now_us).is_passed;
        allowed += 1000 * share;
    }
    assert_true(sum <= allowed + 101 + 40);
    assert_true(sum >= allowed * 0.9);
    rate_table_free(t);
}

static void a_quota_that_is_made_smaller_says_when_to_come_back(void **state)
{
    (void)state;
    struct rate_table *t = rate_table_new(16);
    struct rate_limit l = {.count = 1000, .period_us = 3600 * US_PER_S, .is_quota = true};
    assert_int_equal(passed(t, &l, 512, 800, noon_us), 800);
    l.count = 500;
    struct rate_verdict v = rate_take(t, &l, 512, noon_us);
    assert_false(v.is_passed);
    assert_int_equal(v.left, 0);
    assert_true(v.wait_us > 60 * US_PER_S);
    rate_table_free(t);
}

struct thread_try {
    struct rate_table *t;
    const struct rate_limit *l;
    uint32_t passed;
};

static void *try_from_thread(void *arg)
{
    struct thread_try *try = arg;
    for (uint32_t i = 0; i < 20000; i++)
        try->passed += rate_take(try->t, try->l, 7, noon_us).is_passed;
    return NULL;
}

static void threads_share_one_bucket_exactly(void **state)
{
    (void)state;
    const struct rate_limit limits[] = {
        {.count = 10, .period_us = US_PER_S, .burst = 30000},
        {.count = 30000, .period_us = 3600 * US_PER_S, .is_quota = true}};
    for (size_t l = 0; l < FB_COUNT(limits); l++) {
        struct rate_table *t = rate_table_new(64);
        struct thread_try tries[4];
        pthread_t threads[4];
        uint32_t sum = 0;
        for (size_t i = 0; i < 4; i++) {
            tries[i] = (struct thread_try){t, &limits[l], 0};
            assert_int_equal(pthread_create(&threads[i], NULL, try_from_thread, &tries[i]), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            sum += tries[i].passed;
        }
        assert_int_equal(sum, 30000);
        rate_table_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(burst_passes_at_once_and_no_more),
        cmocka_unit_test(in_the_long_run_the_rate_passes),
        cmocka_unit_test(verdict_tells_what_is_left_and_when_to_come_back),
        cmocka_unit_test(what_is_given_back_can_be_taken_again),
        cmocka_unit_test(quota_begins_anew_at_midnight_utc),
        cmocka_unit_test(bucket_and_quota_of_one_key_are_two),
        cmocka_unit_test(full_buckets_are_free_places),
        cmocka_unit_test(flood_of_keys_frees_nobody_who_is_over_his_limit),
        cmocka_unit_test(keys_of_one_set_push_each_other_out_and_touch_no_other),
        cmocka_unit_test(memory_stays_and_nobody_is_refused_when_all_places_are_taken),
        cmocka_unit_test(extremes_do_not_overflow),
        cmocka_unit_test(a_limit_that_is_made_smaller_does_not_begin_anew),
        cmocka_unit_test(a_quota_that_is_made_smaller_says_when_to_come_back),
        cmocka_unit_test(threads_share_one_bucket_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
