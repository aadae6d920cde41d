/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/sketch.h"
#include "base/rng.h"
#include "try.h"

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void every_bucket_stands_for_its_times_within_one_percent(void **state)
{
    (void)state;
    for (double us = 1; us < 1e9; us = us * 1.003 + 1) {
        uint64_t t = (uint64_t)us;
        assert_near(sketch_value_us(sketch_bucket(t)), (double)t, 0.01 + 1e-9);
    }
}

static void buckets_grow_with_time(void **state)
{
    (void)state;
    uint32_t last = 0;
    for (uint64_t us = 1; us < 2000000; us++) {
        uint32_t b = sketch_bucket(us);
        assert_true(b >= last);
        last = b;
    }
    assert_int_equal(sketch_bucket(0), 0);
    assert_true(sketch_bucket(SKETCH_MAX_US) < SKETCH_BUCKETS);
    assert_int_equal(sketch_bucket(UINT64_MAX), sketch_bucket(SKETCH_MAX_US));
}

struct shape {
    const char *says;
    double sigma, shift;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct shape shapes[] = {
    ROW("narrow", .sigma = 0.1, .shift = 1e4),
    ROW("proxy-like", .sigma = 1, .shift = 2e4),
    ROW("heavy tail", .sigma = 2.5, .shift = 1e3),
    ROW("microseconds", .sigma = 0.5, .shift = 20),
};

static void quantiles_are_within_one_percent_of_the_sorted_samples(void **state)
{
    (void)state;
    enum { N = 20000 };
    static const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999, 1};
    uint64_t *sorted = calloc(N, sizeof *sorted);
    for (size_t i = 0; i < FB_COUNT(shapes); i++) {
        struct rng rng;
        rng_init(&rng, i + 1);
        struct sketch s = {0};
        for (int k = 0; k < N; k++) {
            sorted[k] = 1 + (uint64_t)(shapes[i].shift * exp(shapes[i].sigma * rng_normal(&rng)));
            sketch_add(&s, sorted[k]);
        }
        qsort(sorted, N, sizeof *sorted, by_value);
        for (size_t q = 0; q < FB_COUNT(qs); q++) {
            size_t rank = (size_t)ceil(qs[q] * N) - 1;
            print_message("%s q %g\n", shapes[i].says, qs[q]);
            assert_near(sketch_quantile_us(&s, qs[q]), (double)sorted[rank], 0.0101);
        }
    }
    free(sorted);
}

static void a_merge_equals_one_sketch_of_everything(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    static struct sketch parts[3], all, left, right;
    for (int k = 0; k < 5000; k++) {
        uint64_t us = 1 + rng_u64(&rng) % 3000000;
        sketch_add(&parts[k % 3], us);
        sketch_add(&all, us);
    }
    for (int i = 0; i < 3; i++) {
        sketch_merge(&left, &parts[i]);
        sketch_merge(&right, &parts[2 - i]);
    }
    assert_memory_equal(&left, &all, sizeof all);
    assert_memory_equal(&right, &all, sizeof all);
}

static void an_empty_sketch_has_no_quantile(void **state)
{
    (void)state;
    struct sketch none = {0};
    assert_true(isnan(sketch_quantile_us(&none, 0.5)));
    struct sketch_censored got = sketch_quantile_censored(&none, &none, 0.5);
    assert_true(isnan(got.value_us));
    assert_false(got.is_reached);
}

static void without_censored_samples_both_estimates_agree(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 3);
    static struct sketch s, none;
    for (int k = 0; k < 10000; k++)
        sketch_add(&s, 1 + (uint64_t)(5000 * exp(rng_normal(&rng))));
    for (double q = 0.1; q < 1; q += 0.1) {
        struct sketch_censored got = sketch_quantile_censored(&s, &none, q);
        assert_true(got.is_reached);
        assert_near(got.value_us, sketch_quantile_us(&s, q), 0);
    }
}

static void the_textbook_example_of_kaplan_and_meier_comes_out(void **state)
{
    (void)state;
    /* times 1 2+ 3 4+ 5 (x 1000 us, + censored): S = 4/5 after 1, x 2/3 after 3, 0 after 5 */
    static struct sketch seen, cut;
    sketch_add(&seen, 1000);
    sketch_add(&cut, 2000);
    sketch_add(&seen, 3000);
    sketch_add(&cut, 4000);
    sketch_add(&seen, 5000);
    assert_near(sketch_quantile_censored(&seen, &cut, 0.19).value_us, 1000, 0.011);
    assert_near(sketch_quantile_censored(&seen, &cut, 0.21).value_us, 3000, 0.011);
    assert_near(sketch_quantile_censored(&seen, &cut, 0.46).value_us, 3000, 0.011);
    assert_near(sketch_quantile_censored(&seen, &cut, 0.48).value_us, 5000, 0.011);
}

static void waits_given_up_early_do_not_pull_the_quantile_down(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    static struct sketch truth, seen, cut;
    for (int k = 0; k < 200000; k++) {
        uint64_t us = 1 + (uint64_t)(20000 * exp(0.5 * rng_normal(&rng)));
        uint64_t gone = 1 + (uint64_t)rng_exp(&rng, 60000); /* clients leave at random */
        sketch_add(&truth, us);
        if (us <= gone)
            sketch_add(&seen, us);
        else
            sketch_add(&cut, gone);
    }
    double want = sketch_quantile_us(&truth, 0.99);
    assert_near(sketch_quantile_censored(&seen, &cut, 0.99).value_us, want, 0.03);
    /* the naive form, which drops what was given up, is wrong by far */
    assert_true(sketch_quantile_us(&seen, 0.99) < 0.9 * want);
}

static void a_quantile_beyond_all_that_was_seen_is_a_lower_bound(void **state)
{
    (void)state;
    static struct sketch seen, cut;
    for (int k = 0; k < 90; k++)
        sketch_add(&seen, 1000);
    for (int k = 0; k < 10; k++)
        sketch_add(&cut, 8000);
    struct sketch_censored got = sketch_quantile_censored(&seen, &cut, 0.99);
    assert_false(got.is_reached);
    assert_near(got.value_us, 8000, 0.011);
    assert_true(sketch_quantile_censored(&seen, &cut, 0.9).is_reached);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bucket_stands_for_its_times_within_one_percent),
        cmocka_unit_test(buckets_grow_with_time),
        cmocka_unit_test(quantiles_are_within_one_percent_of_the_sorted_samples),
        cmocka_unit_test(a_merge_equals_one_sketch_of_everything),
        cmocka_unit_test(an_empty_sketch_has_no_quantile),
        cmocka_unit_test(without_censored_samples_both_estimates_agree),
        cmocka_unit_test(the_textbook_example_of_kaplan_and_meier_comes_out),
        cmocka_unit_test(waits_given_up_early_do_not_pull_the_quantile_down),
        cmocka_unit_test(a_quantile_beyond_all_that_was_seen_is_a_lower_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
