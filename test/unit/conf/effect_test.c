/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that do nothing as the rest of the file is: each is told, and what has an effect is not. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define LISTEN "listen: [\":8080\"]\n"
#define ONE "endpoints: [\"10.0.0.1:80\"]"
#define TWO "endpoints: [\"10.0.0.1:80\", \"10.0.0.2:80\"]"
#define WITH(service) LISTEN "services:\n  shop: { " service " }\n"
#define ROUTED(service, route) WITH(service) "routes:\n  - { match: /, service: shop, " route " }\n"
#define CANARY "endpoints: [\"10.0.0.1:80\", { address: \"10.0.0.2:80\", version: canary }]"
#define SPLIT(old, new) "split: { stable: " #old "%, canary: " #new "% }"
#define VERSIONS "signals: { a: { service: shop, better: lower, compare: versions } }\n"
#define BESIDE(first, second)                                                                      \
    WITH(CANARY)                                                                                   \
    "routes:\n  - { match: /a/, service: shop, " first                                             \
    " }\n  - { match: /, service: shop, " second " }\n"
#define BASE WITH(ONE)
#define OWN(route) BASE "routes:\n  - { match: /q/, " route " }\n  - { match: /, service: shop }\n"

struct row {
    const char *says, *text;
    const char *want; /* NULL: no warning */
    uint32_t line;    /* 0: any */
};
#define ROW(text_, ...)                                                                            \
    {                                                                                              \
        .says = text_, __VA_ARGS__                                                                 \
    }

static const struct row rows[] = {
    ROW("nothing to say", .text = BASE),
    ROW("sticky with one endpoint", .text = WITH(ONE ", sticky: { cookie: a }"), .line = 3,
        .want =
            "services.shop.sticky has no effect as long as there is one endpoint: add endpoints"),
    ROW("sticky with two", .text = WITH(TWO ", sticky: { cookie: a }")),
    ROW("sticky with a name", .text = WITH("endpoints: [\"dns://a.test:80\"], sticky: { cookie: a "
                                           "}")),
    ROW("limits of a route that answers itself",
        .text = OWN("respond: { body: a }, rate_limits: [{ rate: 1/s }], allow: [10.0.0.0/8]"),
        .line = 5, .want = "rate_limits of respond /q/ has no effect: the route answers by itself"),
    ROW("a page of a refusal",
        .text = OWN(
            "respond: { body: a }, deny: [10.0.0.0/8], error_pages: [{ status: 403, body: b }]")),
    ROW("a page of no refusal",
        .text = OWN("respond: { body: a }, error_pages: [{ status: 403, body: b }]"), .line = 5,
        .want = "error_pages of respond /q/ has no effect"),
    ROW("eject with one endpoint", .text = WITH(ONE ", eject: true"),
        .want = "services.shop.eject has no effect as long as there is one endpoint"),
    ROW("eject by default", .text = WITH(ONE)),
    ROW("weight with round-robin",
        .text = WITH("endpoints: [{ address: \"10.0.0.1:80\", weight: 50% }, \"10.0.0.2:80\"], "
                     "balance: round-robin"),
        .want = "the weight of 10.0.0.1 has no effect with `balance: round-robin`"),
    ROW("weight with weighted",
        .text = WITH("endpoints: [{ address: \"10.0.0.1:80\", weight: 50% }, \"10.0.0.2:80\"], "
                     "balance: weighted")),
    ROW("hash without its balance", .text = ROUTED(TWO, "hash: path"), .line = 5,
        .want = "hash of route shop / has no effect: write `balance: hash` at service shop"),
    ROW("hash with its balance", .text = ROUTED(TWO ", balance: hash", "hash: path")),
    ROW("hedge without a budget", .text = ROUTED(TWO, "hedge: 20ms") "upstream: { hedge_pct: 0 }\n",
        .want = "hedge of route shop / has no effect with `upstream.hedge_pct: 0`"),
    ROW("hedge off without a budget",
        .text = ROUTED(TWO, "hedge: off") "upstream: { hedge_pct: 0 }\n"),
    ROW("timeout behind the deadline", .text = ROUTED(TWO, "timeout: 5s, deadline: 2s"),
        .want = "timeout of route shop / has no effect: its deadline of 2000ms comes first"),
    ROW("timeout before the deadline", .text = ROUTED(TWO, "timeout: 1s, deadline: 2s")),
    ROW("a route's cap above its service's",
        .text = ROUTED(TWO ", concurrency: 10", "concurrency: 10"),
        .want = "concurrency of route shop / has no effect: service shop as a whole takes 10"),
    ROW("a route's cap below", .text = ROUTED(TWO ", concurrency: 10", "concurrency: 9")),
    ROW("limits of a fleet without one",
        .text = ROUTED(TWO, "rate_limits: [{ rate: 9/s, scope: fleet }]"),
        .want = "`scope: fleet` of route shop / has no effect"),
    ROW("zones without an own one",
        .text = WITH("endpoints: [{ address: \"10.0.0.1:80\", zone: a }]"),
        .want = "zones of endpoints have no effect: say `zone:` of this node"),
    ROW("an own zone alone", .text = "zone: a\n" BASE, .line = 1,
        .want = "zone has no effect: no endpoint has one"),
    ROW("both zones",
        .text = "zone: a\n" WITH("endpoints: [{ address: \"10.0.0.1:80\", zone: a }]")),
    ROW("a cache that nobody uses", .text = BASE "cache: { memory: 2MiB }\n", .line = 4,
        .want = "cache.memory has no effect: no route keeps answers: write `cache: on`"),
    ROW("a cache in use", .text = ROUTED(ONE, "cache: on") "cache: { memory: 2MiB }\n"),
    ROW("retry keys without retries",
        .text = BASE "upstream: { retries: 0, retry_on: [connect] }\n",
        .want = "upstream.retry_on has no effect: upstream.retries is 0"),
    ROW("retries without a budget", .text = BASE "upstream: { retries: 1, retry_pct: 0 }\n",
        .want = "upstream.retries has no effect: upstream.retry_pct is 0"),
    ROW("retries off alone", .text = BASE "upstream: { retries: 0 }\n"),
    ROW("a fleet without a way", .text = BASE "fleet: { lease: 1m }\n",
        .want = "fleet.lease has no effect: fleet.connector is not set"),
    ROW("a log that is off", .text = BASE "access_log: { query: true }\n",
        .want = "access_log.query has no effect: access_log.format is off"),
    ROW("a log that is on", .text = BASE "access_log: { format: json, query: true }\n"),
    ROW("rotation of no key", .text = BASE "encryption: { rotate_age: 1d }\n",
        .want = "encryption.rotate_age has no effect: nothing is encrypted"),
    ROW("tickets without TLS", .text = BASE "tls: { ticket_rotation: 1h }\n",
        .want = "tls.ticket_rotation has no effect: no listener speaks TLS"),
    ROW("renewal by nobody", .text = BASE "tls: { renew_every: 1h }\n",
        .want = "tls.renew_every has no effect: tls.renew_exec is not set"),
    ROW("overload off", .text = BASE "overload: { mode: off, delay: 2s }\n",
        .want = "overload.delay has no effect: overload.mode is off"),
    ROW("keys of no limit", .text = BASE "limits: { rate_keys: 5000 }\n",
        .want = "limits.rate_keys has no effect: no route has rate_limits"),
    ROW("datagrams of nobody", .text = BASE "ingest: { interval: 2s }\n",
        .want = "ingest.interval has no effect: no StatsD is listened to"),
    ROW("servers for no name", .text = BASE "dns: { servers: \"127.0.0.1:53\" }\n",
        .want = "dns.servers has no effect: no endpoint is a name"),
    ROW("http keys of tcp",
        .text = "listen: [{ address: \":8080\", protocol: tcp, service: shop }]\n"
                "services:\n  shop:\n    " TWO "\n    host: a\n",
        .line = 5, .want = "services.shop.host has no effect: a tcp listener leads here"),
    ROW("keys of checks of tcp",
        .text = "listen: [{ address: \":8080\", protocol: tcp, service: shop }]\n"
                "services:\n  shop:\n    " TWO "\n    host: a\n    protocol: h2c\n"
                "    health: { grpc: on }\n"),
    ROW("versions of one split", .text = ROUTED(CANARY, SPLIT(95, 5)) VERSIONS),
    ROW("versions of no service",
        .text = ROUTED(CANARY, SPLIT(95, 5)) "signals: { a: { better: lower, "
                                             "compare: versions } }\n",
        .want = "signals.a.compare has no effect, a release is held against before: say `service`",
        .line = 6),
    ROW("versions that are no better",
        .text =
            ROUTED(CANARY, SPLIT(95, 5)) "signals: { a: { service: shop, compare: versions } }\n",
        .want = "held against before: say `better`"),
    ROW("versions without a split", .text = ROUTED(CANARY, "hedge: off") VERSIONS,
        .want = "no route of its service has a `split`"),
    ROW("versions of a route beside one without a split",
        .text = BESIDE("hedge: off", SPLIT(95, 5)) VERSIONS,
        .want = "the routes of its service have different splits"),
    ROW("versions of two shares", .text = BESIDE(SPLIT(95, 5), SPLIT(94, 6)) VERSIONS,
        .want = "the routes of its service have different splits"),
    ROW("versions of two routes with the same split",
        .text = BESIDE(SPLIT(95, 5), SPLIT(95, 5)) VERSIONS),
    ROW("before, with two shares",
        .text = BESIDE(SPLIT(95, 5), SPLIT(94, 6)) "signals: { a: { service: shop, better: lower, "
                                                   "compare: before } }\n"),
    ROW("a service without endpoints", .text = WITH("endpoints: []"),
        .want = "services.shop.endpoints is empty: requests get 503 until `foldback endpoint add`"),
};

static void keys_without_effect_are_told_and_no_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct row *r = &rows[i];
        struct conf *c = NULL;
        struct conf_report report;
        enum fb_code code = conf_parse(span_of(r->text), "t.yaml", &c, &report);
        const struct conf_problem *p = report.count ? &report.at[0] : NULL;
        bool is_right = r->want ? p && strstr(p->text, r->want) : p == NULL;
        if (code != FB_OK || !is_right || (p && !p->is_warning) ||
            (r->line && p && p->line != r->line))
            print_error("%s: code %d, line %u: %s\n", r->says, code, p ? p->line : 0,
                        p ? p->text : "(nothing)");
        assert_int_equal(code, FB_OK);
        assert_true(is_right);
        assert_true(!p || p->is_warning);
        assert_true(!r->line || !p || p->line == r->line);
        assert_int_equal(report.error_count, 0);
        conf_report_fini(&report);
        conf_unref(c);
    }
}

static void a_file_with_errors_is_not_told_about_effects(void **state)
{
    (void)state;
    struct conf *c = NULL;
    struct conf_report report;
    assert_int_equal(
        conf_parse(SPAN(BASE "cache: { memory: 2MiB }\nmode: akt\n"), "t.yaml", &c, &report),
        FB_E_CONFIG);
    assert_int_equal(report.count, 1);
    assert_false(report.at[0].is_warning);
    conf_report_fini(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_without_effect_are_told_and_no_others),
        cmocka_unit_test(a_file_with_errors_is_not_told_about_effects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
