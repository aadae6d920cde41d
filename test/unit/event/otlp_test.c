/* SPDX-License-Identifier: Apache-2.0 */
#include "event/otlp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct seen {
    struct otlp_sample at[8];
    char name[8][40], service[8][40];
    size_t count;
};

static void note(void *arg, const struct otlp_sample *s)
{
    struct seen *seen = arg;
    assert_true(seen->count < 8);
    snprintf(seen->name[seen->count], 40, "%.*s", SPAN_ARG(s->name));
    snprintf(seen->service[seen->count], 40, "%.*s", SPAN_ARG(s->service));
    seen->at[seen->count++] = *s;
}

/* Messages inside out: a field of bytes around what is there. */
static void wrap(char *at, size_t *len, int number)
{
    assert_true(*len < 120);
    memmove(at + 2, at, *len);
    at[0] = (char)(number << 3 | 2);
    at[1] = (char)*len;
    *len += 2;
}

/* A gauge "cpu" with one data point of 1.5, of the service "shop". */
static size_t make_gauge(char *out)
{
    char point[128] = {4 << 3 | 1}, name[] = "\x0a\x03"
                                             "cpu";
    char resource[] = "\x0a\x16\x0a\x14\x0a\x0cservice.name\x12\x04\x0a\x02sh";
    double value = 1.5;
    memcpy(point + 1, &value, sizeof value);
    size_t len = 9;
    wrap(point, &len, 1); /* data_points */
    wrap(point, &len, 5); /* gauge */
    memcpy(point + len, name, 5);
    len += 5;
    wrap(point, &len, 2); /* metrics */
    wrap(point, &len, 2); /* scope_metrics */
    resource[1] = sizeof resource - 1 - 2;
    memcpy(point + len, resource, sizeof resource - 1);
    len += sizeof resource - 1;
    wrap(point, &len, 1); /* resource_metrics */
    memcpy(out, point, len);
    return len;
}

static void a_gauge_is_read_from_the_wire_and_a_cut_one_is_refused(void **state)
{
    (void)state;
    char bytes[128];
    size_t len = make_gauge(bytes);
    struct seen seen = {.count = 0};
    assert_true(otlp_read(OTLP_METRICS, (struct span){bytes, len}, note, &seen));
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.name[0], "cpu");
    assert_string_equal(seen.service[0], "sh");
    assert_true(seen.at[0].value == 1.5);
    for (size_t cut = 1; cut < len; cut++) {
        seen.count = 0;
        assert_false(otlp_read(OTLP_METRICS, (struct span){bytes, cut}, note, &seen));
    }
}

static void json_of_each_signal_is_read(void **state)
{
    (void)state;
    struct seen seen = {.count = 0};
    char why[160];
    assert_true(otlp_read_json(
        OTLP_METRICS,
        SPAN("{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"a\",\"sum\":"
             "{\"dataPoints\":[{\"asInt\":\"7\"}]}},{\"name\":\"b\",\"histogram\":{\"dataPoints\":"
             "[{\"count\":\"4\",\"sum\":10}]}}]}]}]}"),
        note, &seen, why));
    assert_int_equal(seen.count, 2);
    assert_true(seen.at[0].kind == OTLP_SUM && seen.at[0].value == 7);
    assert_true(seen.at[1].kind == OTLP_MEAN && seen.at[1].value == 2.5 && seen.at[1].weight == 4);
    seen.count = 0;
    assert_true(otlp_read_json(OTLP_LOGS,
                               SPAN("{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":["
                                    "{\"severityNumber\":17},{}]}]}]}"),
                               note, &seen, why));
    assert_string_equal(seen.name[0], "otel.logs.error");
    assert_string_equal(seen.name[1], "otel.logs.none");
    seen.count = 0;
    assert_true(otlp_read_json(
        OTLP_TRACES,
        SPAN(
            "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\","
            "\"value\":{\"stringValue\":\"shop\"}}]},\"scopeSpans\":[{\"spans\":[{\"name\":\"GET\","
            "\"startTimeUnixNano\":\"1000000\",\"endTimeUnixNano\":\"3500000\"}]}]}]}"),
        note, &seen, why));
    assert_string_equal(seen.service[0], "shop");
    assert_true(seen.at[0].value == 2.5);
    assert_false(otlp_read_json(OTLP_TRACES, SPAN("[1,"), note, &seen, why));
    assert_false(otlp_read_json(OTLP_TRACES, SPAN("[]"), note, &seen, why));
    /* what looks like JSON and is no such document is refused, not passed over */
    static const char *const wrong[] = {
        "{\"resourceMetrics\":1}", "{\"resourceMetrics\":[1]}",
        "{\"resourceMetrics\":[{\"scopeMetrics\":\"x\"}]}",
        "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":{}}]}]}", "{\"resourceSpans\":[]}"};
    for (size_t i = 0; i < FB_COUNT(wrong); i++) {
        why[0] = '\0';
        assert_false(otlp_read_json(OTLP_METRICS, span_of(wrong[i]), note, &seen, why));
        assert_true(strlen(why) > 10);
    }
    assert_true(otlp_read_json(OTLP_METRICS, SPAN("{}"), note, &seen, why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gauge_is_read_from_the_wire_and_a_cut_one_is_refused),
        cmocka_unit_test(json_of_each_signal_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
