/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/statsd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void lines_of_each_kind_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum statsd_kind kind;
        const char *name, *values, *tags;
        double rate;
    } rows[] = {
        {"foldback.req:1|c|#route:/a", STATSD_COUNTER, "foldback.req", "1", "route:/a", 1},
        {"a:3|c|@0.1", STATSD_COUNTER, "a", "3", "", 0.1},
        {"a:1:2:3|d|c:box|T1656581400", STATSD_TIMER, "a", "1:2:3", "", 1},
        {"a:12.5|ms|@0.5|#x,y:z", STATSD_TIMER, "a", "12.5", "x,y:z", 0.5},
        {"a:7|h", STATSD_TIMER, "a", "7", "", 1},
        {"a:-3|g", STATSD_GAUGE, "a", "-3", "", 1},
        {"a:user 7|s", STATSD_SET, "a", "user 7", "", 1},
        {"_e{5,12}:title|te|xt\\nline2|t:warning|#a:b", STATSD_EVENT, "title", "te|xt\\nline2",
         "a:b", 1},
        {"_sc|fb|1|#q|m:m\\:x", STATSD_CHECK, "fb", "m\\:x", "q", 1},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct statsd_line l;
        assert_int_equal(statsd_parse(span_of(rows[i].line), &l), STATSD_OK);
        assert_int_equal(l.kind, rows[i].kind);
        assert_true(span_eq(l.name, span_of(rows[i].name)));
        assert_true(span_eq(l.values, span_of(rows[i].values)));
        assert_true(span_eq(l.tags, span_of(rows[i].tags)));
        assert_true(l.rate == rows[i].rate);
    }
}

static void what_is_wrong_is_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum statsd_fault fault;
    } rows[] = {
        {"a", STATSD_BAD_SYNTAX},          {":1|c", STATSD_BAD_NAME},
        {"a:|c", STATSD_BAD_VALUE},        {"a:x|c", STATSD_BAD_VALUE},
        {"a:1", STATSD_BAD_TYPE},          {"a:1|q", STATSD_BAD_TYPE},
        {"a:nan|g", STATSD_BAD_VALUE},     {"a:1e999|g", STATSD_BAD_VALUE},
        {"a:1:|ms", STATSD_BAD_VALUE},     {"a:1|c|@0", STATSD_BAD_VALUE},
        {"a:1|c|@2", STATSD_BAD_VALUE},    {"_e{5,1}:ab|c", STATSD_BAD_SYNTAX},
        {"_e{0,1}:|c", STATSD_BAD_SYNTAX}, {"_sc|x|9", STATSD_BAD_VALUE},
        {"_sc||1", STATSD_BAD_NAME},       {"", STATSD_BAD_NAME},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct statsd_line l;
        assert_int_equal(statsd_parse(span_of(rows[i].line), &l), rows[i].fault);
    }
}

static void a_sign_makes_a_gauge_relative(void **state)
{
    (void)state;
    struct statsd_line l;
    assert_int_equal(statsd_parse(SPAN("a:+3|g"), &l), STATSD_OK);
    assert_true(l.is_relative);
    assert_int_equal(statsd_parse(SPAN("a:3|g"), &l), STATSD_OK);
    assert_false(l.is_relative);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_each_kind_are_read),
        cmocka_unit_test(what_is_wrong_is_told_apart),
        cmocka_unit_test(a_sign_makes_a_gauge_relative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
