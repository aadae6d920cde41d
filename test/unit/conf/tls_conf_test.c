/* SPDX-License-Identifier: Apache-2.0 */
/* TLS in the configuration: what it means, and what is said about mistakes. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define SERVICE "services: { shop: { endpoints: [\"10.0.0.1:80\"] } }\n"
#define TLS(map) "listen: [{ address: \":1\", tls: " map " }]\n" SERVICE
#define OUT(more) "listen: [\":1\"]\nservices: { shop: { " more " } }\n"
#define ROW(text_says, ...)                                                                        \
    {                                                                                              \
        .says = text_says, __VA_ARGS__                                                             \
    }

static void a_listener_may_have_certificates(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    assert_int_equal(
        conf_parse(span_of(TLS("{ cert: /dev/null, key: /dev/zero, client_ca: /dev/null, "
                               "min_version: 1.3, certs: [{ cert: /dev/zero, key: /dev/null }] }")),
                   "t", &c, &report),
        FB_OK);
    const struct conf_tls *t = &c->listens[0].tls;
    assert_true(t->is_on);
    assert_true(t->is_13_only);
    assert_int_equal(t->verify, CONF_VERIFY_REQUIRED);
    assert_int_equal(t->cert_count, 2);
    assert_string_equal(t->certs[0].cert, "/dev/null");
    assert_string_equal(t->certs[1].cert, "/dev/zero");
    conf_report_fini(&report);
    conf_unref(c);
}

static void https_endpoints_have_a_port_and_are_verified(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    assert_int_equal(
        conf_parse(span_of(OUT("endpoints: [\"https://a.example\", \"https://b.example:8443\"]")),
                   "t", &c, &report),
        FB_OK);
    const struct conf_service *sv = &c->services[0];
    assert_true(sv->tls.is_on);
    assert_false(sv->tls.is_unverified);
    assert_int_equal(sv->endpoints[0].port, 443);
    assert_int_equal(sv->endpoints[1].port, 8443);
    conf_report_fini(&report);
    conf_unref(c);
}

static const struct {
    const char *says, *text, *want;
} bad[] = {
    ROW("a certificate without a key", .text = TLS("{ cert: /dev/null }"), .want = "without key"),
    ROW("nothing", .text = TLS("{ min_version: 1.2 }"), .want = "tls has no certificate"),
    ROW("a word", .text = TLS("on"), .want = "a map, `internal` or off"),
    ROW("a file that is not there", .text = TLS("{ cert: /nowhere/a.pem, key: /dev/null }"),
        .want = "/nowhere/a.pem"),
    ROW("an old version", .text = TLS("{ cert: /dev/null, key: /dev/null, min_version: 1.1 }"),
        .want = "must be 1.2 or 1.3"),
    ROW("verify without authorities",
        .text = TLS("{ cert: /dev/null, key: /dev/null, verify: required }"),
        .want = "verify needs client_ca"),
    ROW("one of several without a key", .text = TLS("{ certs: [{ cert: /dev/null }] }"),
        .want = "needs `cert` and `key`"),
    ROW("an unknown key", .text = TLS("{ certificate: a }"), .want = "unknown key `certificate`"),
    ROW("https and off", .text = OUT("endpoints: [\"https://a:1\"], tls: off"),
        .want = "https:// endpoints and `tls: off`"),
    ROW("a name that is none", .text = OUT("endpoints: [\"a:1\"], tls: { name: \"a b\" }"),
        .want = "tls.name must be a host name"),
    ROW("a client certificate without a key",
        .text = OUT("endpoints: [\"a:1\"], tls: { cert: /dev/null }"), .want = "without key"),
};

static void each_mistake_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        struct conf *c;
        struct conf_report report;
        enum fb_code code = conf_parse(span_of(bad[i].text), "t", &c, &report);
        bool is_found = false;
        for (size_t k = 0; k < report.count; k++)
            is_found |= strstr(report.at[k].text, bad[i].want) != NULL;
        if (!is_found)
            print_error("%s: want \"%s\", got %s\n", bad[i].says, bad[i].want,
                        report.count ? report.at[0].text : "nothing");
        assert_int_equal(code, FB_E_CONFIG);
        assert_true(is_found);
        conf_report_fini(&report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_may_have_certificates),
        cmocka_unit_test(https_endpoints_have_a_port_and_are_verified),
        cmocka_unit_test(each_mistake_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
