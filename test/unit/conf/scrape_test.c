/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HEAD "listen: [\":8080\"]\nservices: { app: { endpoints: [\"127.0.0.1:3000\"] } }\n"
#define URL "url: \"http://127.0.0.1:9100/metrics\""

static struct conf *parse(const char *section, const char *text, struct conf_report *report)
{
    struct conf *c = NULL;
    char whole[4000];
    snprintf(whole, sizeof whole, HEAD "%s: { api: %s }\n", section, text);
    return conf_parse(span_of(whole), "t.yaml", &c, report) == FB_OK ? c : NULL;
}

static void each_mistake_is_one_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"{ every: 5s }", "scrapes.api needs `url`"},
        {"{ " URL ", type: prometheus }", "has no `type`"},
        {"{ url: \"ftp://127.0.0.1/\" }", "must be http://HOST"},
        {"{ url: \"http://me:word@host/\" }", "must not hold a password: use `basic_file`"},
        {"{ " URL ", direction: sink }", "prometheus only reads"},
        {"{ " URL ", every: 100ms }", "must be 500ms..1h"},
        {"{ " URL ", every: 5s, timeout: 5s }", "timeout (5000ms) must be shorter than every"},
        {"{ " URL ", evry: 5s }", "did you mean `every`?"},
        {"{ " URL ", bearer_file: /nowhere/token }", "/nowhere/token"},
        {"{ " URL ", basic_file: /nowhere/who }", "/nowhere/who"},
        {"{ " URL ", basic_file: /etc/hostname, bearer_file: /etc/hostname }",
         "either `basic_file`"},
        {"{ " URL ", metrics: [\"a b\"] }", "something follows"},
        {"{ " URL ", metrics: [\"avg(a)\"] }", "sum, max, min, mean, rate or value"},
        {"{ " URL ", metrics: [a, \"max(b) as a\"] }", "two facts are called \"a\""},
        {"{ " URL ", metrics: [http_server_request_duration_seconds] }",
         "http_server_request_duration_seconds as NAME"},
        {"{ " URL ", page_max: 1KiB }", "page_max must be 4KiB"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_report report;
        struct conf *c = parse("scrapes", rows[i].text, &report);
        bool is_said = false;
        for (size_t p = 0; p < report.count; p++)
            is_said |= strstr(report.at[p].text, rows[i].says) != NULL;
        if (!is_said || report.error_count != 1)
            print_message("%s: %zu errors, first: %s\n", rows[i].text, report.error_count,
                          report.count ? report.at[0].text : "");
        assert_null(c);
        assert_true(is_said);
        assert_int_equal(report.error_count, 1);
        conf_report_fini(&report);
    }
}

static void a_scrape_is_a_source_with_times_that_fit(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *c = parse("scrapes",
                           "{ " URL ", every: 2s, metrics: [queue_depth, "
                           "'http_requests_total{code=\"5*\", path!=\"/\"} as errors'] }",
                           &report);
    assert_non_null(c);
    const struct conf_connector *k = &c->connectors[0];
    assert_string_equal(k->section, "scrapes");
    assert_string_equal(k->type, "prometheus");
    assert_true(k->is_source);
    assert_int_equal(k->backoff_max_ms, 100);
    assert_string_equal(conf_connector_value(k, "every"), "2000");
    assert_string_equal(conf_connector_value(k, "timeout"), "1600");
    assert_string_equal(conf_connector_value(k, "metrics"),
                        "queue_depth\nhttp_requests_total{code=\"5*\", path!=\"/\"} as errors");
    conf_unref(c);
    conf_report_fini(&report);
    c = parse("connectors", "{ type: prometheus, " URL ", every: 1m, timeout: 20s }", &report);
    assert_non_null(c);
    assert_true(c->connectors[0].is_source);
    assert_string_equal(conf_connector_value(&c->connectors[0], "timeout"), "20000");
    conf_unref(c);
    conf_report_fini(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_one_sentence),
        cmocka_unit_test(a_scrape_is_a_source_with_times_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
