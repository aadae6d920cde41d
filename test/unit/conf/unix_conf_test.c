/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints on Unix sockets: how they are written, and what is said of those that are not. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define FILE_OF(endpoints, more)                                                                   \
    "listen: [\":80\"]\n"                                                                          \
    "services: { shop: { endpoints: [" endpoints "] " more " } }\n"                                \
    "routes: [{ match: /, service: shop }]\n"
#define LISTEN_AT(address, more)                                                                   \
    "listen: [\"" address "\"]\n" more "services: { shop: { endpoints: [\"a:1\"] } }\n"            \
    "routes: [{ match: /, service: shop }]\n"
#define X10 "xxxxxxxxxx"
#define X80 X10 X10 X10 X10 X10 X10 X10 X10

struct row {
    const char *says, *text, *want;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }

static const struct row good[] = {
    ROW("a path", .text = "\"unix:/run/app.sock\"", .want = "unix:/run/app.sock"),
    ROW("bare", .text = "unix:/run/app.sock", .want = "unix:/run/app.sock"),
    ROW("abstract", .text = "\"unix:@app\"", .want = "unix:@app"),
    ROW("as a URL", .text = "\"unix:///run/app.sock\"", .want = "unix:/run/app.sock"),
    ROW("as nginx", .text = "\"http://unix:/run/app.sock\"", .want = "unix:/run/app.sock"),
    ROW("in a map", .text = "{ address: \"unix:/run/a-b_c.1\", weight: 50%, zone: east }",
        .want = "unix:/run/a-b_c.1"),
    ROW("capitals stay", .text = "\"unix:/Run/App\"", .want = "unix:/Run/App"),
    ROW("the longest beside a name of 4", .text = "\"unix:/" X80 "xxxxxxxxxxxx\"",
        .want = "unix:/" X80 "xxxxxxxxxxxx"),
};

static void good_ones_are_read_and_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(good); i++) {
        char text[600];
        struct conf *c;
        struct conf_report report;
        struct buf out;
        snprintf(text, sizeof text, FILE_OF("%s", ""), good[i].text);
        if (conf_parse(span_of(text), "t.yaml", &c, &report) != FB_OK)
            fail_msg("%s: %s", good[i].says, report.count ? report.at[0].text : "?");
        conf_report_fini(&report);
        const struct conf_endpoint *ep = &c->services[0].endpoints[0];
        assert_int_equal(ep->kind, CONF_ENDPOINT_ADDRESS);
        assert_true(conf_endpoint_is_unix(ep));
        assert_string_equal(ep->host, good[i].want);
        buf_init(&out, 64 * KIB);
        conf_show(c, false, &out);
        if (!strstr(buf_str(&out), good[i].want) || strstr(buf_str(&out), "sock:0"))
            fail_msg("%s: config show says %s", good[i].says, buf_str(&out));
        buf_fini(&out);
        conf_unref(c);
    }
}

static const struct row bad[] = {
    ROW("relative", .text = FILE_OF("\"unix:run/app.sock\"", ""), .want = "an absolute path"),
    ROW("nothing", .text = FILE_OF("\"unix:\"", ""), .want = "an absolute path"),
    ROW("a folder", .text = FILE_OF("\"unix:/run/\"", ""), .want = "an absolute path"),
    ROW("a blank", .text = FILE_OF("\"unix:/run/a b\"", ""), .want = "an absolute path"),
    ROW("a byte 0", .text = FILE_OF("\"unix:/run/a\\0b\"", ""), .want = ""),
    ROW("nginx with a URI", .text = FILE_OF("\"http://unix:/run/a:/x\"", ""),
        .want = "an absolute path"),
    ROW("too long", .text = FILE_OF("\"unix:/" X80 "xxxxxxxxxxxxx\"", ""),
        .want = "the path must have 2..93 bytes in a service of this name, got 94"),
    ROW("of HAProxy", .text = FILE_OF("\"unix@/run/app.sock\"", ""), .want = "unix:/PATH"),
    ROW("of HAProxy, bare", .text = FILE_OF("/run/app.sock", ""), .want = "unix:/PATH"),
    ROW("of Caddy", .text = FILE_OF("\"unix//run/app.sock\"", ""), .want = "unix:/PATH"),
    ROW("of HAProxy, abstract", .text = FILE_OF("\"abns@app\"", ""), .want = "unix:@NAME"),
    ROW("of Envoy", .text = FILE_OF("{ pipe: { path: /run/a } }", ""), .want = "unix:/PATH"),
    ROW("twice", .text = FILE_OF("\"unix:/run/a\", \"unix:///run/a\"", ""),
        .want = "the same endpoint as number 1"),
    ROW("listening at a relative path", .text = LISTEN_AT("unix:web.sock", ""),
        .want = "an absolute path"),
    ROW("listening at an abstract name", .text = LISTEN_AT("unix:@web", ""),
        .want = "open to everybody on this machine"),
    ROW("listening at too long a path", .text = LISTEN_AT("unix:/" X80 X10 X10 "xxxxxxx", ""),
        .want = "the path must have 2..107 bytes, got 108"),
    ROW("listening twice", .text = LISTEN_AT("unix:/run/a\", \"unix:///run/a", ""),
        .want = "listen has unix:/run/a twice"),
    ROW("the admin API", .text = LISTEN_AT(":80", "admin: { listen: \"unix:/run/a\" }\n"),
        .want = "nor a Unix one"),
    ROW("h2 without TLS", .text = FILE_OF("\"unix:/run/a\"", ", protocol: h2"),
        .want = "`protocol: h2c`"),
};

static void wrong_ones_are_refused_with_the_way_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        struct conf *c;
        struct conf_report report;
        if (conf_parse(span_of(bad[i].text), "t.yaml", &c, &report) == FB_OK)
            fail_msg("%s: was taken", bad[i].says);
        bool is_said = false;
        for (size_t k = 0; k < report.count; k++)
            is_said |= strstr(report.at[k].text, bad[i].want) != NULL;
        if (!is_said)
            fail_msg("%s: %s", bad[i].says, report.count ? report.at[0].text : "?");
        conf_report_fini(&report);
    }
}

static void a_listener_may_be_one(void **state)
{
    (void)state;
    static const char text[] = LISTEN_AT("unix:/" X80 X10 X10 "xxxxxx", "");
    struct conf *c;
    struct conf_report report;
    assert_int_equal(conf_parse(SPAN(text), "t.yaml", &c, &report), FB_OK);
    conf_report_fini(&report);
    assert_string_equal(c->listens[0].address, "unix:/" X80 X10 X10 "xxxxxx");
    conf_unref(c);
}

static void a_port_that_cannot_be_asked_is_a_warning(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    assert_int_equal(
        conf_parse(SPAN(FILE_OF("\"unix:/run/a\", \"10.0.0.1:80\"", ", agent_check: { port: 9777 }"
                                                                    ", health: { port: 9778 }")),
                   "t.yaml", &c, &report),
        FB_OK);
    assert_int_equal(report.count, 2);
    assert_non_null(strstr(report.at[0].text, "agent_check has no effect on unix:/run/a"));
    assert_non_null(strstr(report.at[1].text, "health.port has no effect on unix:/run/a"));
    conf_report_fini(&report);
    conf_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_read_and_shown),
        cmocka_unit_test(wrong_ones_are_refused_with_the_way_out),
        cmocka_unit_test(a_listener_may_be_one),
        cmocka_unit_test(a_port_that_cannot_be_asked_is_a_warning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
