/* SPDX-License-Identifier: Apache-2.0 */
#include "event/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char *name_of(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us)
{
    (void)time_us;
    (void)ctx;
    if (kind == EV_KIND_ROUTE && number == 3)
        return "shop /checkout/";
    return kind == EV_KIND_SERVICE && number == 1 ? "shop" : "";
}

static const struct filter_names names = {name_of, NULL};

static struct ev_request slow_checkout(void)
{
    struct ev_request r = EV_INIT(REQUEST, request, 1000000);
    r.route = 3;
    r.service = 1;
    r.endpoint = EV_NONE;
    r.status = 503;
    r.reason = REASON_UPSTREAM_TIMEOUT;
    r.class = EV_CLASS_BEST_EFFORT;
    r.total_us = 250000;
    r.sent_bytes = 65536;
    return r;
}

#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .expression = text, __VA_ARGS__                                                            \
    }

static void an_expression_matches_what_it_says(void **state)
{
    (void)state;
    static const struct {
        const char *expression;
        bool want;
    } rows[] = {
        ROW("", .want = true),
        ROW("status>=500", .want = true),
        ROW("status<500", .want = false),
        ROW("status>=500 and route=~\"/checkout\" and total_ms>100", .want = true),
        ROW("status>=500 and route=~\"/cart\"", .want = false),
        ROW("total_ms = 250", .want = true),
        ROW("total_us >= 250ms", .want = true),
        ROW("total_s<0.2", .want = false),
        ROW("total_ms>0.2s", .want = true),
        ROW("sent_bytes=64KiB", .want = true),
        ROW("class=best-effort", .want = true),
        ROW("class=critical or service=shop", .want = true),
        ROW("not (class=critical or service=shop)", .want = false),
        ROW("reason=upstream_timeout", .want = true),
        ROW("type=request", .want = true),
        ROW("type!=request", .want = false),
        ROW("status=~\"^5\"", .want = true),
        ROW("status!~\"^5\"", .want = false),
        /* A field that the event lacks never matches. */
        ROW("path=~\"x\"", .want = false),
        ROW("path!~\"x\"", .want = false),
    };
    struct ev_request r = slow_checkout();
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct filter f;
        struct fb_err err = {0};
        if (filter_parse(&f, span_of(rows[i].expression), &err) != FB_OK)
            fail_msg("%s: %s", rows[i].expression, err.text);
        if (filter_matches(&f, &r.head, NULL, &names) != rows[i].want)
            fail_msg("%s: expected %d", rows[i].expression, rows[i].want);
    }
}

static void a_sample_lends_its_path(void **state)
{
    (void)state;
    struct ev_request r = slow_checkout();
    struct ev_sample s = EV_INIT(SAMPLE, sample, 1000000);
    struct filter f;
    snprintf(s.path, sizeof s.path, "/checkout/pay");
    assert_int_equal(filter_parse(&f, SPAN("path=~\"^/checkout\" and status=503"), NULL), FB_OK);
    assert_true(filter_matches(&f, &r.head, &s.head, &names));
    assert_false(filter_matches(&f, &r.head, NULL, &names));
}

static void a_mistake_names_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *expression, *says;
    } rows[] = {
        ROW("status", .says = "expected one of"),
        ROW("status>", .says = "expected a number"),
        ROW("wibble=1", .says = "no event has this field"),
        ROW("status=1 status=2", .says = "expected `and`"),
        ROW("(status=1", .says = "missing ')'"),
        ROW("route=\"x", .says = "closing quote"),
        ROW("route>shop", .says = "need a number, which is not what is at character 7 of"),
        ROW("total_ms = fast", .says = "is a number, which is not what is at character 12 of"),
        ROW("route=~\"(\"", .says = "pattern"),
        ROW("and", .says = "no event has"),
        ROW("((((((((((((((((((status=1))))))))))))))))))", .says = "levels"),
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct filter f;
        struct fb_err err = {0};
        enum fb_code code = filter_parse(&f, span_of(rows[i].expression), &err);
        /* the remedy of damaged bytes ("look at where the file comes from") would mislead */
        assert_int_equal(code, FB_E_FILTER);
        if (!strstr(err.text, rows[i].says))
            fail_msg("%s: \"%s\" lacks \"%s\"", rows[i].expression, err.text, rows[i].says);
    }
}

static void a_pattern_matches_as_regular_expressions_do(void **state)
{
    (void)state;
    static const struct {
        const char *expression, *subject;
        bool want;
    } rows[] = {
        ROW("abc", .subject = "xxabcxx", .want = true),
        ROW("^abc", .subject = "xabc", .want = false),
        ROW("abc$", .subject = "xabc", .want = true),
        ROW("^a.c$", .subject = "abc", .want = true),
        ROW("^(a|bc)+$", .subject = "abcbca", .want = true),
        ROW("^(a|bc)+$", .subject = "abcb", .want = false),
        ROW("^[a-c]*[^0-9]\\d$", .subject = "abcx7", .want = true),
        ROW("^$", .subject = "", .want = true),
        ROW("a?b", .subject = "b", .want = true),
        ROW("x|", .subject = "", .want = true),
        ROW("\\.", .subject = "a", .want = false),
        /* Exponential for a backtracking matcher. */
        ROW("^(a*)*(a*)*(a*)*b$", .subject = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            .want = false),
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct pattern p;
        assert_int_equal(pattern_compile(&p, span_of(rows[i].expression), NULL), FB_OK);
        if (pattern_matches(&p, span_of(rows[i].subject)) != rows[i].want)
            fail_msg("%s on %s: expected %d", rows[i].expression, rows[i].subject, rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_expression_matches_what_it_says),
        cmocka_unit_test(a_sample_lends_its_path),
        cmocka_unit_test(a_mistake_names_its_place),
        cmocka_unit_test(a_pattern_matches_as_regular_expressions_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
