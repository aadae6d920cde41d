/* SPDX-License-Identifier: Apache-2.0 */
#include "event/series.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define BORN 1000000u
static const uint64_t key[2] = {7, 9};

static struct series_point tell(uint64_t id, uint64_t start_ns, uint64_t time_ns, double value)
{
    return (struct series_point){
        .id = id, .start_ns = start_ns, .time_ns = time_ns, .value = value};
}

static void a_total_is_told_as_what_it_grew_by(void **state)
{
    (void)state;
    struct series *s = series_new(key, BORN);
    series_begin(s, 1);
    struct series_point p = tell(1, BORN + 5, BORN + 10, 7); /* began after us: all of it is new */
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 7);
    p = tell(1, BORN + 5, BORN + 20, 12);
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 5);
    p = tell(1, BORN + 5, BORN + 20, 12); /* sent again */
    assert_int_equal(series_grow(s, &p), SERIES_NOTHING);
    p = tell(1, BORN + 5, BORN + 15, 9); /* late */
    assert_int_equal(series_grow(s, &p), SERIES_NOTHING);
    p = tell(1, BORN + 5, BORN + 30, 13);
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 1);
    series_free(s);
}

static void what_began_before_us_is_known_from_its_second_point_on(void **state)
{
    (void)state;
    static const uint64_t starts[] = {0, 5, BORN};
    for (size_t i = 0; i < FB_COUNT(starts); i++) {
        struct series *s = series_new(key, BORN);
        series_begin(s, 1);
        struct series_point p = tell(1, starts[i], BORN + 10, 1e6);
        assert_int_equal(series_grow(s, &p), SERIES_NOTHING);
        p = tell(1, starts[i], BORN + 20, 1e6 + 2);
        assert_int_equal(series_grow(s, &p), SERIES_GREW);
        assert_true(p.value == 2);
        series_free(s);
    }
}

static void a_reset_counts_from_zero(void **state)
{
    (void)state;
    struct series *s = series_new(key, BORN);
    series_begin(s, 1);
    struct series_point p = tell(1, 5, 10, 100);
    assert_int_equal(series_grow(s, &p), SERIES_NOTHING);
    p = tell(1, 15, 20, 150); /* a new start, although it is larger */
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 150);
    p = tell(1, 15, 30, 4); /* smaller, although the start is the same */
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 4);
    p = (struct series_point){.id = 2, .time_ns = 10, .value = -3, .count = 4};
    assert_int_equal(series_grow(s, &p), SERIES_NOTHING);
    p = (struct series_point){.id = 2, .time_ns = 20, .value = -5, .count = 6}; /* a sum may fall */
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == -2);
    assert_true(p.count == 2);
    p = (struct series_point){.id = 2, .time_ns = 30, .value = 9, .count = 1};
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 9);
    assert_true(p.count == 1);
    series_free(s);
}

static void a_request_that_is_refused_may_come_again(void **state)
{
    (void)state;
    struct series *s = series_new(key, BORN);
    series_undo(s); /* of nothing */
    series_begin(s, 1);
    struct series_point p = tell(1, BORN + 1, BORN + 10, 7);
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    for (int i = 0; i < 3; i++) {
        series_begin(s, 2);
        for (uint64_t n = 1; n <= 2; n++) { /* twice in one request, and a new one */
            p = tell(1, BORN + 1, BORN + 10 + n, 7 + 2 * (double)n);
            assert_int_equal(series_grow(s, &p), SERIES_GREW);
            assert_true(p.value == 2);
        }
        p = tell(2, BORN + 1, BORN + 10, 3);
        assert_int_equal(series_grow(s, &p), SERIES_GREW);
        assert_true(p.value == 3);
        series_undo(s);
    }
    series_begin(s, 3);
    p = tell(1, BORN + 1, BORN + 20, 8);
    assert_int_equal(series_grow(s, &p), SERIES_GREW);
    assert_true(p.value == 1);
    series_free(s);
}

static void many_series_are_bounded_and_silent_ones_make_room(void **state)
{
    (void)state;
    struct series *s = series_new(key, BORN);
    uint64_t full = 0, id = 1;
    series_begin(s, 1);
    for (; id <= SERIES_MAX / 2; id++) {
        struct series_point p = tell(id, BORN + 1, BORN + 10, 1);
        full += series_grow(s, &p) == SERIES_FULL;
    }
    assert_in_range(full, 0, SERIES_MAX / 100); /* half full: hardly any bucket is */
    for (; id <= 4 * SERIES_MAX; id++) {
        struct series_point p = tell(id, BORN + 1, BORN + 10, 1);
        full += series_grow(s, &p) == SERIES_FULL;
    }
    assert_int_equal(id - 1 - full, SERIES_MAX); /* each place is in use */
    series_begin(s, 1 + SERIES_SILENT_S);
    struct series_point p = tell(id++, BORN + 20, BORN + 30, 1);
    assert_int_equal(series_grow(s, &p), SERIES_GREW); /* it began after the one that went */
    for (uint64_t last = id + 4 * SERIES_MAX; id < last; id++) {
        p = tell(id, BORN + 20, BORN + 30, 1);
        full += series_grow(s, &p) == SERIES_FULL;
    }
    /* who lost its place and comes back is known from its second point on: its total was told */
    series_begin(s, 1 + 2 * SERIES_SILENT_S);
    for (uint64_t back = 1; back <= 100; back++) {
        p = tell(back, BORN + 1, BORN + 40, 1000);
        assert_int_equal(series_grow(s, &p), SERIES_NOTHING);
        p = tell(back, BORN + 1, BORN + 50, 1003);
        assert_int_equal(series_grow(s, &p), SERIES_GREW);
        assert_true(p.value == 3);
    }
    series_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_total_is_told_as_what_it_grew_by),
        cmocka_unit_test(what_began_before_us_is_known_from_its_second_point_on),
        cmocka_unit_test(a_reset_counts_from_zero),
        cmocka_unit_test(a_request_that_is_refused_may_come_again),
        cmocka_unit_test(many_series_are_bounded_and_silent_ones_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
