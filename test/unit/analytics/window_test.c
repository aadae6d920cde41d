/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/window.h"
#include "base/rng.h"
#include "try.h"

#include <string.h>

/* A window that remembers every pane, to compare with. */
#define PANES 2000
static uint64_t pane[PANES];

static uint64_t last_panes(uint64_t closed, uint64_t from_pane)
{
    uint64_t sum = 0;
    for (uint64_t i = from_pane; i < closed; i++)
        sum += pane[i];
    return sum;
}

static void sums_equal_a_window_that_forgets_nothing(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    struct window_clock c;
    struct window_count w;
    memset(&w, 0, sizeof w);
    window_start(&c, 5);
    for (uint64_t i = 0; i < PANES; i++) {
        pane[i] = rng_below(&rng, 1000);
        window_close(&c, 5 + (i + 1) * WINDOW_PANE_US);
        window_roll_count(&w, &c, pane[i]);
        uint64_t n = i + 1;
        uint64_t sec = n / 10;       /* whole seconds */
        uint64_t ten = n / 100 * 10; /* whole tens, in seconds */
        assert_int_equal(window_sum(&w, &c, WINDOW_100MS), pane[i]);
        assert_int_equal(window_sum(&w, &c, WINDOW_1S), last_panes(n, n > 10 ? n - 10 : 0));
        assert_int_equal(window_sum(&w, &c, WINDOW_10S),
                         last_panes(n, sec > 10 ? (sec - 10) * 10 : 0));
        assert_int_equal(window_sum(&w, &c, WINDOW_60S),
                         last_panes(n, ten > 60 ? (ten - 60) * 10 : 0));
    }
}

static void a_window_says_how_much_time_it_covers(void **state)
{
    (void)state;
    struct window_clock c;
    window_start(&c, 1000);
    assert_int_equal(window_covered_us(&c, WINDOW_1S), 0);
    for (uint64_t i = 1; i <= 1234; i++) {
        window_close(&c, 1000 + i * WINDOW_PANE_US);
        uint64_t whole_us = i * WINDOW_PANE_US;
        assert_int_equal(window_covered_us(&c, WINDOW_100MS), WINDOW_PANE_US);
        assert_int_equal(window_covered_us(&c, WINDOW_1S), fb_min_u64(whole_us, US_PER_S));
        uint64_t ten_us = window_covered_us(&c, WINDOW_10S);
        uint64_t sixty_us = window_covered_us(&c, WINDOW_60S);
        assert_int_equal(ten_us, i < 100 ? whole_us : 10 * US_PER_S + i % 10 * WINDOW_PANE_US);
        assert_int_equal(sixty_us, i < 600 ? whole_us : 60 * US_PER_S + i % 100 * WINDOW_PANE_US);
    }
}

static void a_sketch_window_equals_a_sketch_of_its_panes(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 2);
    struct window_clock c;
    struct window_sketch *w = calloc(1, sizeof *w);
    static struct sketch secs[200];
    window_start(&c, 0);
    for (uint64_t i = 0; i < 1500; i++) {
        for (uint32_t k = rng_below(&rng, 20); k > 0; k--) {
            uint64_t us = 1 + (uint64_t)(1000.0 * (double)(1 + i) * exp(rng_normal(&rng)));
            window_add(w, us);
            sketch_add(&secs[i / 10], us);
        }
        window_close(&c, (i + 1) * WINDOW_PANE_US);
        window_roll_sketch(w, &c);
    }
    static struct sketch want, got;
    for (int s = 140; s < 150; s++)
        sketch_merge(&want, &secs[s]);
    window_collect(w, &c, WINDOW_10S, &got);
    assert_memory_equal(&got, &want, sizeof got);
    memset(&want, 0, sizeof want);
    memset(&got, 0, sizeof got);
    for (int s = 90; s < 150; s++)
        sketch_merge(&want, &secs[s]);
    window_collect(w, &c, WINDOW_60S, &got);
    assert_memory_equal(&got, &want, sizeof got);
    free(w);
}

static void a_window_without_new_samples_is_empty_after_its_length_and_costs_nothing(void **state)
{
    (void)state;
    struct window_clock c;
    struct window_sketch *w = calloc(1, sizeof *w);
    window_start(&c, 0);
    window_add(w, 1234);
    for (uint64_t i = 1; i <= 720; i++) {
        window_close(&c, i * WINDOW_PANE_US);
        window_roll_sketch(w, &c);
        struct sketch s = {0};
        window_collect(w, &c, WINDOW_1S, &s);
        assert_int_equal(s.n, i <= 10);
    }
    assert_int_equal(w->low, w->high);
    for (size_t b = 0; b < SKETCH_BUCKETS; b++)
        assert_int_equal(w->bucket[b].sum_60s, 0);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_a_window_that_forgets_nothing),
        cmocka_unit_test(a_window_says_how_much_time_it_covers),
        cmocka_unit_test(a_sketch_window_equals_a_sketch_of_its_panes),
        cmocka_unit_test(a_window_without_new_samples_is_empty_after_its_length_and_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
