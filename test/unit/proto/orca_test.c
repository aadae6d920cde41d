/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/agent_text.h"
#include "proto/orca.h"

struct row {
    const char *value;
    bool is_good;
    double utilisation, per_s, err_per_s;
};
#define GOOD(text, a, b, c)                                                                        \
    {                                                                                              \
        text, true, a, b, c                                                                        \
    }
#define BAD(text)                                                                                  \
    {                                                                                              \
        text, false, -1, -1, -1                                                                    \
    }
static const struct row rows[] = {
    GOOD("TEXT cpu_utilization=0.3,mem_utilization=0.8,rps_fractional=10.5,eps=1", 0.3, 10.5, 1),
    GOOD("TEXT cpu_utilization=0.3, application_utilization=0.7", 0.7, -1, -1),
    GOOD("TEXT cpu_utilization:0.3", 0.3, -1, -1),
    GOOD("cpu_utilization=5e-1", 0.5, -1, -1),
    GOOD("TEXT named_metrics.foo=x,eps=2.", -1, -1, 2),
    GOOD("TEXT application_utilization=0,cpu_utilization=1.5", 1.5, -1, -1),
    BAD("TEXT cpu_utilization=nan"),
    BAD("TEXT cpu_utilization=-1"),
    BAD("TEXT cpu_utilization=1e99"),
    BAD("TEXT cpu_utilization=0.3x"),
    BAD("TEXT cpu_utilization="),
    BAD("TEXT mem_utilization=0.5"),
    BAD("TEXT"),
    BAD(""),
    GOOD("JSON {\"cpu_utilization\": 0.25, \"rps_fractional\":4}", 0.25, 4, -1),
    GOOD("JSON {\"named_metrics\":{\"a}\":[1,{\"cpu_utilization\":9}]},\"cpuUtilization\":0.5 }",
         0.5, -1, -1),
    BAD("JSON {}"),
    BAD("JSON {\"cpu_utilization\":\"0.3\"}"),
    BAD("JSON {\"cpu_utilization\":0.3"),
    BAD("JSON {\"cpu_utilization\":0.3}x"),
    BAD("JSON {\"a\\"),
    BAD("JSON [0.3]"),
    /* field 1 = 0.25, field 6 = 100, field 7 = 2; a map and a varint are stepped over */
    GOOD("BIN CQAAAAAAANA/MQAAAAAAAFlAOQAAAAAAAABAGAUiBAoCYWI=", 0.25, 100, 2),
    BAD("BIN CQAAAAAAANA"),
    BAD("BIN !!!!"),
    BAD("BIN CQAAAAAAAPB/ "),
    BAD("BIN CQAAAAAA8H8="),
};

static bool is_about(double a, double b)
{
    return a > b - 1e-9 && a < b + 1e-9;
}

static void reports_are_read_in_all_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct orca o;
        bool is_good = orca_parse(ORCA_FIELD, span_of(rows[i].value), &o);
        if (is_good != rows[i].is_good)
            fail_msg("%s: %s", rows[i].value, is_good ? "accepted" : "refused");
        if (is_good &&
            (!is_about(o.utilisation, rows[i].utilisation) || !is_about(o.per_s, rows[i].per_s) ||
             !is_about(o.err_per_s, rows[i].err_per_s)))
            fail_msg("%s: %g %g %g", rows[i].value, o.utilisation, o.per_s, o.err_per_s);
    }
    struct orca o;
    assert_true(orca_parse(ORCA_FIELD_BIN, SPAN("CQAAAAAAANA/"), &o));
    assert_true(is_about(o.utilisation, 0.25));
}

static void the_field_is_known_by_name_only(void **state)
{
    (void)state;
    assert_int_equal(orca_field(SPAN("Endpoint-Load-Metrics")), ORCA_FIELD);
    assert_int_equal(orca_field(SPAN("endpoint-load-metrics-bin")), ORCA_FIELD_BIN);
    assert_int_equal(orca_field(SPAN("endpoint-load-metrics-x")), ORCA_NONE);
}

/* ---- agents ---- */

static void words_of_agents_are_understood(void **state)
{
    (void)state;
    struct agent_report r;
    assert_true(agent_parse(SPAN("75% maxconn:30, up ready #all well 50%"), &r));
    assert_true(r.has_weight && r.weight_pct > 74 && r.weight_pct < 76);
    assert_true(r.has_cap);
    assert_int_equal(r.cap, 30);
    assert_int_equal(r.state, AGENT_UP);
    assert_int_equal(r.admin, AGENT_READY);
    assert_true(agent_parse(SPAN("drain"), &r));
    assert_int_equal(r.admin, AGENT_DRAIN);
    assert_false(r.has_weight || r.has_cap);
    assert_true(agent_parse(SPAN("MAINT"), &r));
    assert_int_equal(r.admin, AGENT_MAINT);
    static const char *const down[] = {"down", "fail", "failed", "stopped", "down#disk full"};
    for (size_t i = 0; i < FB_COUNT(down); i++) {
        assert_true(agent_parse(span_of(down[i]), &r));
        assert_int_equal(r.state, AGENT_DOWN);
    }
}

static void garbage_of_agents_is_no_report(void **state)
{
    (void)state;
    static const char *const bad[] = {"",         " ",        "#up",       "GET / HTTP/1.1",
                                      "up extra", "75",       "-5%",       "1001%",
                                      "%",        "maxconn:", "maxconn:x", "99999999999999999999%"};
    struct agent_report r;
    for (size_t i = 0; i < FB_COUNT(bad); i++)
        if (agent_parse(span_of(bad[i]), &r))
            fail_msg("\"%s\" was accepted", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_are_read_in_all_forms),
        cmocka_unit_test(the_field_is_known_by_name_only),
        cmocka_unit_test(words_of_agents_are_understood),
        cmocka_unit_test(garbage_of_agents_is_no_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
