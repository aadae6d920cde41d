/* SPDX-License-Identifier: Apache-2.0 */
#include "query/when.h"

#include "base/base.h"
#include "event/cloudevent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static void times_are_read_to_the_smallest_instant_they_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t us;
    } rows[] = {{"1970-01-01", 0},
                {"2026-11-22", UINT64_C(1795305600000000)},
                {"2026-11-22T17", UINT64_C(1795366800000000)},
                {"2026-11-22T17:00", UINT64_C(1795366800000000)},
                {"2026-11-22 17:00:01Z", UINT64_C(1795366801000000)},
                {"2026-11-22T17:00:00.25Z", UINT64_C(1795366800250000)},
                {"2026-11-22T17:00:00.0000019", UINT64_C(1795366800000001)},
                {"2000-02-29T00:00:00Z", UINT64_C(951782400000000)}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        uint64_t us = 1;
        assert_true(when_parse(span_of(rows[i].text), &us));
        assert_int_equal(us, rows[i].us);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",
                                       "now",
                                       "2026",
                                       "2026-13-01",
                                       "2026-00-01",
                                       "2026-04-31",
                                       "1969-12-31",
                                       "2026-11-22T",
                                       "2026-11-22T25",
                                       "2026-11-22T17:60",
                                       "2026-11-22x",
                                       "2026-11-22T17:00:00+01:00"};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        uint64_t us;
        assert_false(when_parse(span_of(rows[i]), &us));
    }
}

static void a_printed_time_reads_back_the_same(void **state)
{
    (void)state;
    for (uint64_t us = 1; us < UINT64_C(253402300799000000); us += UINT64_C(7777777777777)) {
        char text[CLOUDEVENT_TIME_BYTES];
        uint64_t back;
        cloudevent_time(text, us);
        assert_true(when_parse(span_of(text), &back));
        assert_int_equal(back, us);
    }
}

static void lengths_have_units_and_bounds(void **state)
{
    (void)state;
    uint64_t us;
    static const struct {
        const char *text;
        uint64_t us;
    } rows[] = {{"90", 90000000},
                {"90s", 90000000},
                {"500ms", 500000},
                {"1us", 1},
                {"15m", UINT64_C(900000000)},
                {"2h", UINT64_C(7200000000)},
                {"3d", UINT64_C(259200000000)}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        assert_true(when_parse_length(span_of(rows[i].text), &us));
        assert_int_equal(us, rows[i].us);
    }
    static const char *const bad[] = {"",   "s", "0s", "-1s", "1.5s", "1y", "99999999999999999d",
                                      "1 s"};
    for (size_t i = 0; i < FB_COUNT(bad); i++)
        assert_false(when_parse_length(span_of(bad[i]), &us));
    assert_true(when_parse_either(SPAN("10s"), 25000000, &us));
    assert_int_equal(us, 15000000);
    assert_true(when_parse_either(SPAN("1d"), 25000000, &us));
    assert_int_equal(us, 0);
}

static void times_compare_however_they_are_written(void **state)
{
    (void)state;
    assert_int_equal(when_compare(SPAN("2026-11-22 17:00"), SPAN("2026-11-22T17:00:00.000000Z")),
                     0);
    assert_true(when_compare(SPAN("2026-11-22T17:00:00.5Z"), SPAN("2026-11-22T17:00:00Z")) > 0);
    assert_true(when_compare(SPAN("2026-11-22"), SPAN("zzz")) < 0);
    assert_true(when_compare(SPAN("a"), SPAN("ab")) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_to_the_smallest_instant_they_name),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(a_printed_time_reads_back_the_same),
        cmocka_unit_test(lengths_have_units_and_bounds),
        cmocka_unit_test(times_compare_however_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
