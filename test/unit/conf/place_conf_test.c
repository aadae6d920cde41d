/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that say where requests belong and where endpoints come from. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static const char meaning[] =
    "listen: [\":80\"]\n"
    "zone: east\n"
    "dns: { servers: \"127.0.0.1:5353\" }\n"
    "services:\n"
    "  shop:\n"
    "    endpoints:\n"
    "      - { address: \"10.0.0.1:80\", zone: west, backup: true, max_in_flight: 30 }\n"
    "      - \"dns+srv://_HTTP._tcp.Shop.test\"\n"
    "      - { address: \"file:///etc/List.yaml\", weight: 50% }\n"
    "    balance: hash\n"
    "    sticky: { cookie: route, ttl: 1h, path: /shop, secure: on, http_only: no, same_site: "
    "none, "
    "secret_file: /etc/s }\n"
    "    agent_check: { port: 9777, interval: 500ms }\n"
    "    load_reports: no\n"
    "routes:\n"
    "  - { match: /a, service: shop, hash: header X-User }\n"
    "  - { match: /b, service: shop, hash: query  id }\n"
    "  - { match: /c, service: shop, hash: path }\n"
    "  - { match: /, service: shop }\n";

static void keys_mean_what_they_say(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    assert_int_equal(conf_parse(span_of(meaning), "t.yaml", &c, &report), FB_OK);
    conf_report_fini(&report);
    const struct conf_service *sv = &c->services[0];
    assert_string_equal(c->p.top_zone, "east");
    assert_string_equal(c->p.dns_servers, "127.0.0.1:5353");
    assert_string_equal(sv->endpoints[0].zone, "west");
    assert_true(sv->endpoints[0].is_backup);
    assert_int_equal(sv->endpoints[0].in_flight_max, 30);
    assert_int_equal(sv->endpoints[1].kind, CONF_ENDPOINT_SRV);
    assert_string_equal(sv->endpoints[1].host, "_http._tcp.shop.test");
    assert_int_equal(sv->endpoints[2].kind, CONF_ENDPOINT_FILE);
    assert_string_equal(sv->endpoints[2].host, "/etc/List.yaml");
    assert_int_equal(sv->balance, CONF_BALANCE_HASH);
    assert_string_equal(sv->sticky.cookie, "route");
    assert_int_equal(sv->sticky.ttl_ms, 3600000);
    assert_int_equal(sv->sticky.secure, CONF_SECURE_ON);
    assert_int_equal(sv->sticky.same_site, CONF_SITE_NONE);
    assert_false(sv->sticky.is_http_only);
    assert_int_equal(sv->agent.port, 9777);
    assert_int_equal(sv->agent.interval_ms, 500);
    assert_false(sv->has_load_reports);
    assert_int_equal(c->routes[0].hash.kind, CONF_HASH_HEADER);
    assert_string_equal(c->routes[0].hash.name, "X-User");
    assert_int_equal(c->routes[1].hash.kind, CONF_HASH_QUERY);
    assert_string_equal(c->routes[1].hash.name, "id");
    assert_int_equal(c->routes[2].hash.kind, CONF_HASH_PATH);
    assert_int_equal(c->routes[3].hash.kind, CONF_HASH_ADDRESS);
    struct buf out;
    buf_init(&out, 64 * KIB);
    conf_show(c, false, &out);
    static const char *const shown[] = {
        "dns+srv://_http._tcp.shop.test", "file:///etc/List.yaml", "sticky.same_site",
        "agent_check.interval",           "header X-User",         "endpoints[0].max_in_flight"};
    for (size_t i = 0; i < FB_COUNT(shown); i++)
        if (!strstr(buf_str(&out), shown[i]))
            fail_msg("config show does not say %s", shown[i]);
    buf_fini(&out);
    conf_unref(c);
}

#define WITH(more)                                                                                 \
    "listen: [\":80\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\"], " more " } }\n"
#define ENDPOINT(text) "listen: [\":80\"]\nservices: { shop: { endpoints: [" text "] } }\n"
#define ROUTE(more) WITH("eject: no") "routes: [{ match: /, service: shop, hash: " more " }]\n"

static void wrong_ones_are_refused_with_the_way_out(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {ROUTE("user"), "header NAME, cookie NAME or query NAME"},
        {ROUTE("header"), "needs a name"},
        {ROUTE("cookie a=b"), "needs a name"},
        {ROUTE("path x"), "takes no name"},
        {WITH("sticky: { ttl: 1h }"), "needs the name of its cookie"},
        {WITH("sticky: { cookie: \"a b\" }"), "cookie must be"},
        {WITH("sticky: { cookie: a, path: \"x;y\" }"), "path of a cookie"},
        {WITH("sticky: { cookie: a, same_site: none, secure: off }"), "needs secure"},
        {WITH("sticky: { cookie: a, same_site: Never }"), "lax"},
        {WITH("agent_check: { interval: 1s }"), "needs a port"},
        {WITH("agent_check: { port: 70000 }"), "1..65535"},
        {ENDPOINT("{ address: \"1.2.3.4:5\", zone: \"a b\" }"), "zone must be"},
        {ENDPOINT("{ address: \"1.2.3.4:5\", max_in_flight: 5000 }"), "1..4096"},
        {ENDPOINT("\"dns+srv://\""), "must follow dns+srv://"},
        {ENDPOINT("\"dns+srv://a.b:80\""), "takes no port"},
        {ENDPOINT("\"dns+srv://a b\""), "is no name"},
        {ENDPOINT("\"file://\""), "must follow file://"},
        {ENDPOINT("\"file:///a\", \"file:///a\""), "same endpoint"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf *c;
        struct conf_report report;
        bool is_said = false;
        assert_int_equal(conf_parse(span_of(rows[i].text), "t.yaml", &c, &report), FB_E_CONFIG);
        for (size_t k = 0; k < report.count; k++)
            is_said |= strstr(report.at[k].text, rows[i].want) != NULL;
        if (!is_said)
            fail_msg("%s\nwanted: %s\ngot: %s", rows[i].text, rows[i].want,
                     report.count ? report.at[0].text : "nothing");
        conf_report_fini(&report);
    }
}

static void lists_are_read_in_both_forms(void **state)
{
    (void)state;
    static const char *const good[] = {
        "- \"10.0.0.1:80\"\n- { address: \"10.0.0.2:80\", weight: 50%, zone: a }\n",
        "endpoints: [\"10.0.0.1:80\", \"dns://a.test:80\"]\n",
        "{\"endpoints\": [\"10.0.0.1:80\", {\"address\": \"10.0.0.2:80\", \"backup\": true}]}",
        "[\"10.0.0.1:80\", \"dns+srv://_a._tcp.test\"]",
    };
    static const char *const bad[] = {
        "",
        "[]",
        "endpoints: []",
        "endpoints: {}",
        "nodes: []",
        "just words",
        "[\"file:///other\"]",
        "[\"10.0.0.1\"]",
        "[\"10.0.0.1:80\", \"10.0.0.1:80\"]",
        "- {",
    };
    struct conf *c;
    struct conf_report report;
    for (size_t i = 0; i < FB_COUNT(good); i++) {
        if (conf_parse_endpoints(span_of(good[i]), "l", &c, &report) != FB_OK)
            fail_msg("%s: %s", good[i], report.count ? report.at[0].text : "?");
        assert_int_equal(c->services[0].endpoint_count, 2);
        conf_unref(c);
        conf_report_fini(&report);
    }
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        if (conf_parse_endpoints(span_of(bad[i]), "l", &c, &report) == FB_OK)
            fail_msg("accepted: %s", bad[i]);
        assert_true(report.error_count > 0);
        conf_report_fini(&report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_mean_what_they_say),
        cmocka_unit_test(wrong_ones_are_refused_with_the_way_out),
        cmocka_unit_test(lists_are_read_in_both_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
