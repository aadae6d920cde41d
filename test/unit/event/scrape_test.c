/* SPDX-License-Identifier: Apache-2.0 */
#include "event/scrape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

static char told[4000]; /* name=value ... of the last page */

static void on_fact(void *arg, const char *name, double value)
{
    (void)arg;
    size_t len = strlen(told);
    snprintf(told + len, sizeof told - len, "%s=%g ", name, value);
}

static void on_sample(void *arg, const struct prom_sample *m)
{
    scrape_take(arg, m);
}

static bool page(struct scrape *s, uint64_t at_us, const char *text)
{
    static struct promtext p;
    told[0] = '\0';
    promtext_init(&p, false, on_sample, s);
    scrape_begin(s);
    bool is_whole = promtext_feed(&p, span_of(text)) && promtext_end(&p) && scrape_is_good(s);
    if (is_whole)
        scrape_commit(s, at_us, on_fact, NULL);
    else
        scrape_abort(s);
    return is_whole;
}

static struct scrape *made(const char *rules)
{
    struct fb_err err = {0};
    struct scrape *s = scrape_new(span_of(rules), (uint64_t[2]){1, 2}, &err);
    if (!s)
        print_message("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static void a_rule_that_is_none_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {{"", "name of a metric"},
                {"{a=\"b\"}", "name of a metric"},
                {"avg(a)", "sum, max, min, mean, rate or value"},
                {"max(a", "closing parenthesis"},
                {"max()", "name of a metric"},
                {"a{b}", "labels are"},
                {"a{b=c}", "labels are"},
                {"a{b=\"c}", "closing quote"},
                {"a{b=\"c\" d=\"e\"}", "closing brace"},
                {"a{b=~\"c\"}", "labels are"},
                {"a b", "something follows"},
                {"a as", "something follows"},
                {"a as B", "name of a fact"},
                {"a as @canary", "name of a fact"},
                {"a as b@", "name of a fact"},
                {"a as b@c@d", "name of a fact"},
                {"a as bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "name of a fact"},
                {"a{a=\"\",a=\"\",a=\"\",a=\"\",a=\"\",a=\"\",a=\"\",a=\"\",a=\"\"}", "8 labels"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct scrape_rule rule;
        struct fb_err err = {0};
        assert_int_equal(scrape_rule_parse(span_of(rows[i].text), &rule, &err), FB_E_CONFIG);
        if (!strstr(err.text, rows[i].says))
            print_message("%s -> %s\n", rows[i].text, err.text);
        assert_non_null(strstr(err.text, rows[i].says));
    }
    struct scrape_rule rule;
    struct fb_err err;
    assert_int_equal(
        scrape_rule_parse(SPAN(" max( a:b {c = \"d,}e*\", f!=\"\"} ) as g.h-1 "), &rule, &err),
        FB_OK);
    assert_int_equal(rule.how, SCRAPE_MAX);
    assert_int_equal(rule.match_count, 2);
    assert_true(span_eq(rule.fact, SPAN("g.h-1")));
    assert_true(rule.match[0].is_prefix);
    assert_true(span_eq(rule.match[0].value, SPAN("d,}e")));
    assert_true(rule.match[1].is_not);
    assert_int_equal(scrape_rule_parse(SPAN("a{b=\"c\"} as a@c"), &rule, &err), FB_OK);
    assert_true(span_eq(rule.fact, SPAN("a@c")));
}

static void gauges_are_told_as_they_are(void **state)
{
    (void)state;
    struct scrape *s =
        made("depth\nmax(depth) as deepest\nmin(depth) as flattest\nmean(depth) as m\n"
             "depth{queue=\"mail\"} as mail\ndepth{queue!=\"m*\"} as rest\nnothing");
    static const char text[] =
        "# TYPE depth gauge\ndepth{queue=\"mail\"} 7\ndepth{queue=\"web\"} 2\n"
        "depth{queue=\"bad\"} NaN\n";
    assert_true(page(s, SECOND, text));
    assert_string_equal(told, "depth=9 deepest=7 flattest=2 m=4.5 mail=7 rest=2 ");
    struct span name;
    assert_int_equal(scrape_found(s, 0, &name), 2);
    assert_int_equal(scrape_found(s, 6, &name), 0);
    assert_true(span_eq(name, SPAN("nothing")));
    scrape_free(s);
}

static void counters_are_rates_and_a_smaller_one_began_anew(void **state)
{
    (void)state;
    struct scrape *s = made("hits_total\nrate(plain) as plain\nvalue(hits_total) as all\n"
                            "hits_total{code=\"5*\"} as errors");
    assert_true(page(s, 10 * SECOND,
                     "# TYPE hits_total counter\nhits_total{code=\"200\"} 100\n"
                     "hits_total{code=\"500\"} 10\nplain 5\n"));
    assert_string_equal(told, "all=110 ");
    assert_true(page(s, 20 * SECOND,
                     "# TYPE hits_total counter\nhits_total{code=\"500\"} 15\n"
                     "hits_total{code=\"200\"} 300\nplain 5\n"));
    assert_string_equal(told, "hits_total=20.5 plain=0 all=315 errors=0.5 ");
    /* the process began anew: 40 + 1 since then */
    assert_true(page(s, 30 * SECOND,
                     "# TYPE hits_total counter\nhits_total{code=\"200\"} 40\n"
                     "hits_total{code=\"500\"} 1\nplain 2\n"));
    assert_string_equal(told, "hits_total=4.1 plain=0.2 all=41 errors=0.1 ");
    assert_int_equal(scrape_resets(s), 4); /* three series, one of them in two rules */
    /* a new series has no rate yet, one that went and came neither */
    assert_true(page(s, 40 * SECOND, "# TYPE hits_total counter\nhits_total{code=\"404\"} 1000\n"));
    assert_string_equal(told, "all=1000 ");
    assert_true(page(s, 50 * SECOND,
                     "# TYPE hits_total counter\nhits_total{code=\"404\"} 1010\n"
                     "hits_total{code=\"200\"} 99\n"));
    assert_string_equal(told, "hits_total=1 all=1109 ");
    scrape_free(s);
}

static void half_a_page_changes_nothing(void **state)
{
    (void)state;
    struct scrape *s = made("hits_total\ndepth");
    assert_true(page(s, 10 * SECOND, "hits_total 100\ndepth 1\n"));
    assert_false(page(s, 15 * SECOND, "hits_total 500\nhits_total{new=\"1\"} 7\ndepth 9\nbad\n"));
    assert_string_equal(told, "");
    /* the mean of the 20 s; the series that only the bad page had is new */
    assert_true(page(s, 30 * SECOND, "hits_total 300\nhits_total{new=\"1\"} 9\ndepth 2\n"));
    assert_string_equal(told, "hits_total=10 depth=2 ");
    scrape_free(s);
}

static const char wait_1[] =
    "# TYPE wait histogram\n"
    "wait_bucket{path=\"a\",le=\"0.1\"} 100\nwait_bucket{path=\"a\",le=\"1\"} 100\n"
    "wait_bucket{path=\"a\",le=\"+Inf\"} 100\nwait_sum{path=\"a\"} 5\n"
    "wait_count{path=\"a\"} 100\n";
static const char wait_2[] =
    "# TYPE wait histogram\n"
    "wait_bucket{path=\"a\",le=\"0.1\"} 150\nwait_bucket{path=\"a\",le=\"1\"} 200\n"
    "wait_bucket{path=\"a\",le=\"+Inf\"} 200\nwait_sum{path=\"a\"} 35\n"
    "wait_count{path=\"a\"} 200\n";
static const char wait_3[] =
    "# TYPE wait histogram\n" /* began anew, with a larger sum */
    "wait_bucket{path=\"a\",le=\"0.1\"} 0\nwait_bucket{path=\"a\",le=\"1\"} 0\n"
    "wait_bucket{path=\"a\",le=\"+Inf\"} 20\nwait_sum{path=\"a\"} 60\n"
    "wait_count{path=\"a\"} 20\n";

static void histograms_are_a_rate_a_mean_and_a_quantile_of_what_came(void **state)
{
    (void)state;
    struct scrape *s = made("wait as w\nwait_count as n\nwait_bucket{le=\"0.1\"} as quick");
    assert_true(page(s, 10 * SECOND, wait_1));
    assert_string_equal(told, "");
    assert_true(page(s, 20 * SECOND, wait_2));
    /* of 100, 50 up to 0.1 and 50 up to 1: the 99th is 0.1 + 0.9 * 49/50 */
    assert_string_equal(told, "w.rate=10 w.mean=0.3 w.p99=0.982 n=10 quick=5 ");
    assert_true(page(s, 30 * SECOND, wait_3));
    assert_string_equal(told, "w.rate=2 w.mean=3 w.p99=1 n=2 quick=0 ");
    assert_true(page(s, 40 * SECOND, wait_3)); /* nothing came */
    assert_string_equal(told, "w.rate=0 n=0 quick=0 ");
    scrape_free(s);
}

static void summaries_are_a_rate_and_a_mean_and_their_quantiles_by_name(void **state)
{
    (void)state;
    struct scrape *s = made("rpc\nrpc{quantile=\"0.99\"} as rpc99");
    static const char one[] =
        "# TYPE rpc summary\nrpc{quantile=\"0.5\"} 1\nrpc{quantile=\"0.99\"} 8\n"
        "rpc_sum 10\nrpc_count 4\n";
    static const char two[] =
        "# TYPE rpc summary\nrpc{quantile=\"0.5\"} 1\nrpc{quantile=\"0.99\"} 9\n"
        "rpc_sum 30\nrpc_count 14\n";
    assert_true(page(s, 10 * SECOND, one));
    assert_string_equal(told, "rpc99=8 ");
    assert_true(page(s, 20 * SECOND, two));
    assert_string_equal(told, "rpc.rate=1 rpc.mean=2 rpc99=9 ");
    scrape_free(s);
}

static void more_series_than_there_is_room_for_make_the_page_bad(void **state)
{
    (void)state;
    static char text[200000];
    struct scrape *s = made("a\nb");
    for (uint32_t more = 0; more < 2; more++) {
        size_t len = 0;
        for (uint32_t i = 0; i < SCRAPE_SERIES_MAX + more; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "a{i=\"%u\"} 1\n", i);
        assert_int_equal(page(s, (1 + more) * SECOND, text), !more);
    }
    assert_true(page(s, 3 * SECOND, "b 1\n")); /* the others are forgotten, there is room again */
    assert_string_equal(told, "b=1 ");
    assert_true(page(s, 4 * SECOND, "a 1\na 5\n")); /* the same twice: the first */
    assert_string_equal(told, "a=1 ");
    scrape_free(s);
}

static void an_openmetrics_counter_goes_by_both_names(void **state)
{
    (void)state;
    static struct promtext p;
    struct scrape *s = made("hits\nhits_total as t");
    for (uint64_t i = 1; i <= 2; i++) {
        char text[100];
        snprintf(text, sizeof text, "# TYPE hits counter\nhits_total %llu\nhits_created 5\n# EOF\n",
                 (unsigned long long)i * 10);
        told[0] = '\0';
        promtext_init(&p, true, on_sample, s);
        scrape_begin(s);
        assert_true(promtext_feed(&p, span_of(text)));
        assert_true(promtext_end(&p));
        scrape_commit(s, i * SECOND, on_fact, NULL);
    }
    assert_string_equal(told, "hits=10 t=10 ");
    scrape_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_that_is_none_is_refused),
        cmocka_unit_test(gauges_are_told_as_they_are),
        cmocka_unit_test(counters_are_rates_and_a_smaller_one_began_anew),
        cmocka_unit_test(half_a_page_changes_nothing),
        cmocka_unit_test(histograms_are_a_rate_a_mean_and_a_quantile_of_what_came),
        cmocka_unit_test(summaries_are_a_rate_and_a_mean_and_their_quantiles_by_name),
        cmocka_unit_test(more_series_than_there_is_room_for_make_the_page_bad),
        cmocka_unit_test(an_openmetrics_counter_goes_by_both_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
