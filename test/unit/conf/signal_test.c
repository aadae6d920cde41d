/* SPDX-License-Identifier: Apache-2.0 */
/* Signals in the configuration. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define BASE "listen: [\":8080\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\"] } }\n"

static struct conf *read(const char *text, struct conf_report *report)
{
    struct conf *c = NULL;
    (void)!conf_parse(span_of(text), "t.yaml", &c, report);
    return c;
}

static void signals_are_read_with_their_defaults(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *c = read(BASE "signals:\n"
                               "  orders: { event: orders.placed, service: shop, better: higher }\n"
                               "  web.lcp: { value: p75, better: lower, harm: 10% }\n",
                          &report);
    assert_int_equal(report.count, 0);
    assert_int_equal(c->signal_count, 2);
    assert_string_equal(c->signals[0].event, "orders.placed");
    assert_string_equal(c->signals[0].service, "shop");
    assert_int_equal(c->signals[0].value, 0);
    assert_int_equal(c->signals[0].better, 1);
    assert_true(c->signals[0].harm_pct == 5);
    assert_false(c->signals[0].has_sides);
    assert_string_equal(c->signals[1].event, "web.lcp");
    assert_string_equal(c->signals[1].service, "");
    assert_int_equal(c->signals[1].value, 5);
    assert_int_equal(c->signals[1].better, 2);
    assert_true(c->signals[1].harm_pct == 10);
    struct buf shown;
    buf_init(&shown, 1 * MIB);
    conf_show(c, false, &shown);
    assert_non_null(strstr(buf_str(&shown), "signals.orders.event"));
    assert_non_null(strstr(buf_str(&shown), "signals.web.lcp.harm"));
    buf_fini(&shown);
    conf_report_fini(&report);
    conf_unref(c);
}

/* Which split the sides are of: one of all routes of the service, else none. */
static void versions_are_compared_only_when_a_signal_says_so(void **state)
{
    (void)state;
#define SHOP(key)                                                                                  \
    "listen: [\":8080\"]\nservices:\n  other: { endpoints: [\"10.0.0.3:80\"] }\n  shop: { "        \
    "endpoints: "                                                                                  \
    "[\"10.0.0.1:80\", { address: \"10.0.0.2:80\", version: canary }] }\nroutes:\n  - { match: "   \
    "/o/, "                                                                                        \
    "service: other }\n  - { match: /q/, respond: { body: a } }\n  - { match: /, service: shop, "  \
    "split: { stable: 90%, canary: 10% } }\nsignals: { a: { service: shop, better: higher" key     \
    " } }\n"
    static const struct {
        const char *text, *old;
    } rows[] = {{SHOP(""), NULL},
                {SHOP(", compare: before"), NULL},
                {SHOP(", compare: versions"), "stable"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_report report;
        struct conf *c = read(rows[i].text, &report);
        assert_int_equal(report.count, 0);
        assert_int_equal(c->signals[0].has_sides, rows[i].old != NULL);
        const char *why;
        const struct conf_split *split = conf_signal_split(c, &c->signals[0], &why);
        assert_null(why);
        assert_int_equal(split != NULL, rows[i].old != NULL);
        if (split)
            assert_string_equal(split->parts[0].version, rows[i].old);
        struct buf shown;
        buf_init(&shown, 1 * MIB);
        conf_show(c, false, &shown);
        const char *line = strstr(buf_str(&shown), "signals.a.compare");
        assert_non_null(line);
        const char *word = strstr(line, rows[i].old ? "versions" : "before");
        assert_true(word && word < strchr(line, '\n'));
        buf_fini(&shown);
        conf_report_fini(&report);
        conf_unref(c);
    }
}

static void what_is_wrong_is_said_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"signals: [orders]", "signals must be a map"},
        {"signals: { Orders: {} }", "the name of a signal is 1..39"},
        {"signals: { a: { event: 'A B' } }", "signals.a.event must be 1..39 of a-z"},
        {"signals: { a: { event: foldback.tick } }", "are foldback's own"},
        {"signals: { a: { value: p95 } }", "signals.a.value must be rate, sum, mean, last"},
        {"signals: { a: { better: up } }", "signals.a.better must be none, higher or lower"},
        {"signals: { a: { service: shopp } }", "did you mean `shop`?"},
        {"signals: { a: { harm: 0% } }", "signals.a.harm must be 1%..1000%, got \"0%\""},
        {"signals: { a: { compare: both } }", "signals.a.compare must be before or versions"},
        {"signals: { a: { evnt: x } }", "did you mean `event`?"},
        {"signals: { a: 5 }", "signals.a must be a map"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char text[400];
        struct conf_report report;
        snprintf(text, sizeof text, "%s%s\n", BASE, rows[i].text);
        assert_null(read(text, &report));
        assert_true(report.count > 0);
        if (!strstr(report.at[0].text, rows[i].says))
            fail_msg("%s: %s", rows[i].text, report.at[0].text);
        assert_int_equal(report.at[0].line, 3);
        conf_report_fini(&report);
    }
}

static void there_are_at_most_32(void **state)
{
    (void)state;
    for (int count = 32; count <= 33; count++) {
        struct buf text;
        struct conf_report report;
        buf_init(&text, 64 * KIB);
        buf_puts(&text, BASE "signals:\n");
        for (int i = 0; i < count; i++)
            buf_printf(&text, "  s%d: { better: lower }\n", i);
        struct conf *c = read(buf_str(&text), &report);
        assert_int_equal(c != NULL, count == 32);
        if (!c)
            assert_non_null(strstr(report.at[0].text, "at most 32 entries, got 33"));
        conf_unref(c);
        conf_report_fini(&report);
        buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_read_with_their_defaults),
        cmocka_unit_test(versions_are_compared_only_when_a_signal_says_so),
        cmocka_unit_test(what_is_wrong_is_said_with_its_place),
        cmocka_unit_test(there_are_at_most_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
