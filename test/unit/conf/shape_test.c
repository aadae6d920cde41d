/* SPDX-License-Identifier: Apache-2.0 */
/* Shaping in the configuration: limits, quotas, whom they count. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define BASE "listen: [\":8080\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\"] } }\n"
#define ROUTED(more) BASE "routes: [{ match: /, service: shop, " more " }]\n"
#define LIMIT(limit) ROUTED("rate_limits: [" limit "]")

static struct conf *good(const char *text)
{
    struct conf *c = NULL;
    struct conf_report report;
    enum fb_code code = conf_parse(span_of(text), "t.yaml", &c, &report);
    for (size_t i = 0; i < report.count; i++)
        print_error("%u:%u %s\n", report.at[i].line, report.at[i].column, report.at[i].text);
    conf_report_fini(&report);
    assert_int_equal(code, FB_OK);
    return c;
}

static void limits_are_read_with_their_defaults(void **state)
{
    (void)state;
    struct conf *c = good(LIMIT("{ rate: 100/s }, { rate: 60/m, burst: 3, by: address/24/56 }, "
                                "{ quota: 10000/d, by: header X-Key, status: 503 }, "
                                "{ rate: 100/10s, by: cookie id }, { rate: 5000/h, by: token }, "
                                "{ rate: 1/2m30s, by: route }"));
    static const struct {
        uint64_t count, period_s, burst;
        uint8_t by, v4, v6;
        uint16_t status;
    } want[] = {{100, 1, 100, CONF_WHO_ADDRESS, 32, 64, 429},
                {60, 60, 3, CONF_WHO_ADDRESS, 24, 56, 429},
                {10000, 86400, 0, CONF_WHO_HEADER, 32, 64, 503},
                {100, 10, 10, CONF_WHO_COOKIE, 32, 64, 429},
                {5000, 3600, 500, CONF_WHO_TOKEN, 32, 64, 429},
                {1, 150, 1, CONF_WHO_ROUTE, 32, 64, 429}};
    const struct conf_route *rt = &c->routes[0];
    assert_int_equal(rt->rate_count, FB_COUNT(want));
    for (size_t i = 0; i < rt->rate_count; i++) {
        const struct conf_rate *r = &rt->rates[i];
        assert_int_equal(r->count, want[i].count);
        assert_int_equal(r->period_us, want[i].period_s * US_PER_S);
        assert_int_equal(r->burst, want[i].burst);
        assert_int_equal(r->who.by, want[i].by);
        assert_int_equal(r->who.v4_bits, want[i].v4);
        assert_int_equal(r->who.v6_bits, want[i].v6);
        assert_int_equal(r->status, want[i].status);
        for (size_t k = 0; k < i; k++)
            assert_true(r->id != rt->rates[k].id);
    }
    assert_string_equal(rt->rates[2].who.name, "X-Key");
    assert_true(rt->rates[2].is_quota);
    assert_int_equal(c->p.limits_rate_keys, 65536);
    conf_unref(c);
}

static void a_limit_keeps_its_identity_while_route_and_limit_stay(void **state)
{
    (void)state;
    static const char *const texts[] = {
        LIMIT("{ rate: 100/s }"),
        LIMIT("{ status: 503, rate: 100/s }"), /* the answer is not what is counted */
        LIMIT("{ rate: 200/s }"),
        LIMIT("{ rate: 100/s, by: token }"),
        LIMIT("{ rate: 100/s, burst: 7 }"),
        LIMIT("{ quota: 100/s }"),
        BASE "routes: [{ match: { path: /, host: a.b }, service: shop, rate_limits: [{ rate: "
             "100/s }] }]\n"};
    uint64_t id[FB_COUNT(texts)];
    for (size_t i = 0; i < FB_COUNT(texts); i++) {
        struct conf *c = good(texts[i]);
        id[i] = c->routes[0].rates[0].id;
        conf_unref(c);
        if (i > 0)
            assert_int_equal(id[i] == id[0], i == 1);
    }
}

static void who_shares_fairly_can_be_anybody_a_limit_can_count(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
        uint8_t by;
    } rows[] = {{ROUTED("key: X-User"), "X-User", CONF_WHO_HEADER},
                {ROUTED("key: header X-User"), "X-User", CONF_WHO_HEADER},
                {ROUTED("key: cookie session"), "session", CONF_WHO_COOKIE},
                {ROUTED("key: token"), "", CONF_WHO_TOKEN},
                {ROUTED("key: address/24"), "", CONF_WHO_ADDRESS},
                {ROUTED("key: address"), "", CONF_WHO_ADDRESS}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf *c = good(rows[i].text);
        assert_int_equal(c->routes[0].key.by, rows[i].by);
        assert_string_equal(c->routes[0].key.name, rows[i].name);
        conf_unref(c);
    }
}

#define TWO                                                                                        \
    "listen: [\":8080\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\", { address: "            \
    "\"10.0.0.2:80\", version: canary }] } }\n"
#define SPLIT(split) TWO "routes: [{ match: /, service: shop, split: " split " }]\n"

static void a_split_names_versions_and_who_may_choose(void **state)
{
    (void)state;
    struct conf *c = good(SPLIT("{ stable: 97.5%, canary: 2.5%, header: X-Version, cookie: ver }"));
    const struct conf_split *s = &c->routes[0].split;
    assert_int_equal(s->count, 2);
    assert_string_equal(s->parts[0].version, "stable");
    assert_string_equal(s->parts[1].version, "canary");
    assert_float_equal(s->parts[1].pct, 2.5, 0);
    assert_string_equal(s->header, "X-Version");
    assert_string_equal(s->cookie, "ver");
    conf_unref(c);
    c = good(BASE);
    assert_int_equal(c->routes[0].split.count, 0);
    conf_unref(c);
}

static void caps_are_read(void **state)
{
    (void)state;
    struct conf *c = good(ROUTED("concurrency: 7"));
    assert_int_equal(c->routes[0].concurrency, 7);
    assert_int_equal(c->services[0].concurrency, 0);
    conf_unref(c);
    c = good("listen: [\":8080\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\"], "
             "concurrency: 1000000 } }\n");
    assert_int_equal(c->services[0].concurrency, 1000000);
    conf_unref(c);
}

static void a_cap_counts_all_together_one_client_or_both(void **state)
{
    (void)state;
    struct conf *c = good(ROUTED("concurrency: [100, { max: 10 }, { max: 5, by: token, status: "
                                 "503 }]"));
    const struct conf_caps *caps = &c->routes[0].caps;
    assert_int_equal(c->routes[0].concurrency, 100);
    assert_int_equal(caps->count, 2);
    assert_int_equal(caps->at[0].most, 10);
    assert_int_equal(caps->at[0].who.by, CONF_WHO_ADDRESS);
    assert_int_equal(caps->at[0].status, 429);
    assert_int_equal(caps->at[1].who.by, CONF_WHO_TOKEN);
    assert_int_equal(caps->at[1].status, 503);
    uint64_t id = caps->at[0].id;
    assert_true(id != caps->at[1].id);
    conf_unref(c);
    c = good(ROUTED("concurrency: { max: 11 }"));
    assert_int_equal(c->routes[0].concurrency, 0);
    assert_int_equal(c->routes[0].caps.at[0].id, id); /* what it has in hand still counts */
    conf_unref(c);
    c = good("listen: [\":8080\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\"], "
             "concurrency: [{ max: 3, by: header X-User }] } }\n");
    assert_int_equal(c->services[0].concurrency, 0);
    assert_string_equal(c->services[0].caps.at[0].who.name, "X-User");
    assert_true(c->services[0].caps.at[0].id != id);
    conf_unref(c);
}

static void what_is_shown_names_the_values_in_force(void **state)
{
    (void)state;
    struct conf *c = good(ROUTED("concurrency: [7, { max: 2 }], rate_limits: [{ rate: "
                                 "100/10s, by: token }, { quota: 5/d }]"));
    struct buf out;
    buf_init(&out, 64 * KIB);
    conf_show(c, false, &out);
    static const char *const want[] = {"routes[0].concurrency                    7",
                                       "routes[0].concurrency[0].max             2",
                                       "routes[0].concurrency[0].by              address",
                                       "routes[0].rate_limits[0].rate            100/10s",
                                       "routes[0].rate_limits[0].burst           10",
                                       "routes[0].rate_limits[0].by              token",
                                       "routes[0].rate_limits[1].quota           5/d"};
    for (size_t i = 0; i < FB_COUNT(want); i++)
        assert_non_null(strstr(buf_str(&out), want[i]));
    buf_fini(&out);
    conf_unref(c);
}

static void each_mistake_gets_the_next_step(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {LIMIT("{ rate: 100 }"), "must say per what time, got \"100\"; write for example 100/s"},
        {LIMIT("{ rate: 100/ms }"), "counts over whole seconds"},
        {LIMIT("{ rate: 100/1500ms }"), "counts over whole seconds"},
        {LIMIT("{ rate: fast }"), "100/s, 5000/h or 100/10s"},
        {LIMIT("{ rate: 100/ }"), "is not understood"},
        {LIMIT("{ rate: 100/fortnight }"), "is not understood"},
        {LIMIT("{ rate: 0/s }"), "must be 1..10000000 requests"},
        {LIMIT("{ rate: 99999999/s }"), "must be 1..10000000 requests"},
        {LIMIT("{ quota: 1/400d }"), "per 1s..366d"},
        {LIMIT("{ burst: 7 }"), "either `rate`, for example 100/s, or `quota`"},
        {LIMIT("{ rate: 1/s, quota: 5/d }"), "either `rate`"},
        {LIMIT("{ quota: 5/d, burst: 7 }"), "a quota has no burst"},
        {LIMIT("{ rate: 1/d, burst: 1000 }"), "more than a year"},
        {LIMIT("{ rate: 1/s, burst: 0 }"), "burst must be 1..10000000, got 0"},
        {LIMIT("{ rate: 1/s, status: 200 }"), "status must be 400..599"},
        {LIMIT("{ rate: 1/s, by: user }"),
         "must be address, address/24, token, header NAME, route"},
        {LIMIT("{ rate: 1/s, by: header }"), "must be address"},
        {LIMIT("{ rate: 1/s, by: address/33 }"), "a prefix of addresses is address/24"},
        {LIMIT("{ rate: 1/s, by: address/24/8 }"), "16..128 of IPv6"},
        {LIMIT("{ rates: 1/s }"), "did you mean `rate`?"},
        {SPLIT("{ stable: 95%, canray: 5% }"), "did you mean `canary`?"},
        {SPLIT("{ stable: 95%, blue: 5% }"), "has version `blue`: write { address: HOST:PORT"},
        {SPLIT("{ stable: 95%, canary: 4% }"), "must sum to 100%, these are 99%"},
        {SPLIT("{ stable: 0.5, canary: 50% }"), "split.stable must be 0%..100%, got \"0.5\""},
        {SPLIT("{ stable: 101% }"), "split.stable must be 0%..100%"},
        {SPLIT("{ header: X-V }"), "must have the shares of 1..8 versions"},
        {SPLIT("{ stable: 100%, header: \"a b\" }"), "split.header is the name of a header"},
        {SPLIT("canary"), "split must be a map"},
        {"listen: [\":8080\"]\nservices: { a: { endpoints: [\":1\"], success_floor: 0.5 } }\n",
         "must be 0%..99%, got \"0.5\""},
        {ROUTED("concurrency: 0"), "concurrency must be 1..1000000, got 0"},
        {ROUTED("concurrency: many"), "is not understood"},
        {ROUTED("concurrency: []"), "is empty: write [{ max: 10, by: address }]"},
        {ROUTED("concurrency: [{ by: address }]"), "needs `max`, for example"},
        {ROUTED("concurrency: [{ max: 0 }]"), "max must be 1..1000000, got 0"},
        {ROUTED("concurrency: [{ max: 3, by: route }]"), "all together are a number"},
        {ROUTED("concurrency: [{ max: 3, by: everyone }]"), "must be address, address/24"},
        {ROUTED("concurrency: [{ max: 3, status: 200 }]"), "status must be 400..599, got 200"},
        {ROUTED("concurrency: [{ max: 3 }, { max: 9, by: address }]"),
         "counts the same clients as one before it"},
        {ROUTED("concurrency: [1, 2]"), "all together have one number"},
        {ROUTED("concurrency: [{ max: 1 }, { max: 2, by: token }, { max: 3, by: address/24 }]"),
         "more than 2 ways"},
        {ROUTED("rate_limits: []"), "must have 1..8 limits, got 0"},
        {ROUTED("rate_limits: 100/s"), "must be a list"},
        {LIMIT("{ rate: 1/s, except: [10.0.0.1/8] }"), "10.0.0.0/8"},
        {ROUTED("key: a b"), "token, header NAME or cookie NAME, got \"a b\""},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf *c = NULL;
        struct conf_report report;
        assert_int_equal(conf_parse(span_of(rows[i].text), "t.yaml", &c, &report), FB_E_CONFIG);
        if (!strstr(report.at[0].text, rows[i].want))
            fail_msg("row %zu: \"%s\"", i, report.at[0].text);
        conf_report_fini(&report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_read_with_their_defaults),
        cmocka_unit_test(a_limit_keeps_its_identity_while_route_and_limit_stay),
        cmocka_unit_test(who_shares_fairly_can_be_anybody_a_limit_can_count),
        cmocka_unit_test(a_split_names_versions_and_who_may_choose),
        cmocka_unit_test(caps_are_read),
        cmocka_unit_test(a_cap_counts_all_together_one_client_or_both),
        cmocka_unit_test(what_is_shown_names_the_values_in_force),
        cmocka_unit_test(each_mistake_gets_the_next_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
