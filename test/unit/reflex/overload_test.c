/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "reflex/overload.h"

static const struct overload_conf conf = {.target = {0.8, 0.9, 0.95, 0.9}};
static const uint64_t tick_us = 100 * US_PER_MS;
static struct overload o;
static uint64_t now_us;

static struct overload_verdict step(double memory, double descriptors, double cpu, double ring)
{
    const double used[OVERLOAD_RESOURCES] = {memory, descriptors, cpu, ring};
    now_us += tick_us;
    return overload_step(&o, &conf, used, now_us);
}

static int begin(void **state)
{
    (void)state;
    o = (struct overload){0};
    now_us = 100 * US_PER_S;
    return 0;
}

static void below_the_targets_nothing_happens(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct overload_verdict v = step(0.79, 0.89, 0.94, 0.89);
        assert_int_equal(v.stage, OVERLOAD_NONE);
        assert_int_equal(v.threshold, 512);
        assert_true(overload_idle_us(v.place) == UINT64_MAX);
    }
}

static void the_ladder_is_climbed_in_order(void **state)
{
    (void)state;
    static const struct {
        double memory;
        enum overload_stage stage;
        uint32_t threshold;
    } rows[] = {{0.801, OVERLOAD_TRIM, 512},  {0.831, OVERLOAD_SHORT, 512},
                {0.90, OVERLOAD_REFUSE, 384}, {0.94, OVERLOAD_REFUSE, 256},
                {0.985, OVERLOAD_PAUSE, 128}, {1.5, OVERLOAD_PAUSE, 128}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct overload_verdict v = step(rows[i].memory, 0, 0, 0);
        assert_int_equal(v.cause, OVERLOAD_MEMORY);
        assert_int_equal(v.stage, rows[i].stage);
        assert_true(abs((int)v.threshold - (int)rows[i].threshold) <= 1);
    }
}

static void up_at_once_and_down_slowly(void **state)
{
    (void)state;
    assert_int_equal(step(0, 1, 0, 0).stage, OVERLOAD_PAUSE);
    int ticks = 0;
    uint32_t last = 0;
    struct overload_verdict v;
    while ((v = step(0, 0, 0, 0)).stage != OVERLOAD_NONE) {
        assert_true(v.threshold >= last);
        last = v.threshold;
        ticks++;
    }
    assert_true(ticks >= 48 && ticks <= 52); /* 5 s */
}

static void idle_connections_get_less_time_the_higher_it_is(void **state)
{
    (void)state;
    uint64_t last_us = 5 * US_PER_S + 1;
    for (double used = 0.92; used < 1; used += 0.01) {
        struct overload_verdict v = step(0, used, 0, 0);
        uint64_t idle_us = overload_idle_us(v.place);
        assert_true(idle_us < last_us);
        last_us = idle_us;
    }
    assert_int_equal(last_us, 0);
}

static void cpu_climbs_while_busy_and_never_pauses(void **state)
{
    (void)state;
    enum overload_stage last = OVERLOAD_NONE;
    for (int i = 0; i < 100; i++) {
        struct overload_verdict v = step(0, 0, 1, 0);
        assert_true(v.stage >= last);
        last = v.stage;
        if (i == 19)
            assert_int_equal(v.stage, OVERLOAD_REFUSE);
        assert_true(v.stage < OVERLOAD_PAUSE);
    }
    assert_true(step(0, 0, 1, 0).threshold < 140);
}

/* A gateway that needs 1.6 times its CPU when it serves all, of which half is best effort: it
 * settles where the work fits, and stays there. */
static void cpu_settles_where_the_work_fits(void **state)
{
    (void)state;
    uint32_t threshold = 512, low = 512, high = 0;
    for (int i = 0; i < 600; i++) {
        double best_effort = fmin(fmax((threshold - 384.0) / 128, 0), 1);
        double cpu = fmin(0.8 + 0.8 * best_effort, 1);
        threshold = step(0, 0, cpu, 0).threshold;
        if (i >= 300) {
            low = threshold < low ? threshold : low;
            high = threshold > high ? threshold : high;
        }
    }
    assert_true(low >= 370); /* best effort suffices: nobody above it is refused for long */
    assert_true(high <= 440);
}

static void full_rings_cost_no_request(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct overload_verdict v = step(0, 0, 0, 1);
        assert_int_equal(v.stage, OVERLOAD_TRIM);
        assert_int_equal(v.cause, OVERLOAD_RING);
        assert_int_equal(v.threshold, 512);
    }
}

static void the_highest_resource_decides(void **state)
{
    (void)state;
    struct overload_verdict v = step(0.85, 0.995, 0, 0);
    assert_int_equal(v.cause, OVERLOAD_DESCRIPTORS);
    assert_string_equal(overload_resource_name(v.cause), "descriptors");
    assert_string_equal(overload_stage_name(v.stage), "pause");
}

static void a_stopped_process_does_not_jump(void **state)
{
    (void)state;
    step(0, 0, 1, 0);
    now_us += 3600 * US_PER_S;
    assert_true(step(0, 0, 1, 0).place <= 0.55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(below_the_targets_nothing_happens, begin),
        cmocka_unit_test_setup(the_ladder_is_climbed_in_order, begin),
        cmocka_unit_test_setup(up_at_once_and_down_slowly, begin),
        cmocka_unit_test_setup(idle_connections_get_less_time_the_higher_it_is, begin),
        cmocka_unit_test_setup(cpu_climbs_while_busy_and_never_pauses, begin),
        cmocka_unit_test_setup(cpu_settles_where_the_work_fits, begin),
        cmocka_unit_test_setup(full_rings_cost_no_request, begin),
        cmocka_unit_test_setup(the_highest_resource_decides, begin),
        cmocka_unit_test_setup(a_stopped_process_does_not_jump, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
