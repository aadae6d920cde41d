/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guard/region.h"

#define HEAD "listen: [\":80\"]\n"
#define SHOP "  shop: { endpoints: [\"10.0.0.1:80\"], region: eu }\n"
#define BLOG "  blog: { endpoints: [\"10.0.0.2:80\"] }\n"
#define ROUTES "routes:\n  - { match: /shop/, service: shop }\n  - { match: /, service: blog }\n"

static struct conf *parse(const char *text, struct conf_report *report)
{
    struct conf *conf = NULL;
    *report = (struct conf_report){0};
    (void)!conf_parse(span_of(text), "t.yaml", &conf, report);
    return conf;
}

/* What would let an event out, the line that says so, and a word of the next step. */
static const struct {
    const char *text, *says;
    uint32_t line;
} refused[] = {
    {HEAD "services:\n" SHOP BLOG ROUTES, "add `region: eu` at the top level", 3},
    {HEAD "region: us\nservices:\n" SHOP BLOG ROUTES, "serve it from a node of eu", 4},
    {HEAD "region: EU!\nservices:\n" BLOG, "small letters", 2},
    {HEAD "region: eu\nservices:\n" SHOP BLOG
          "routes:\n  - { match: /, service: shop, region: us }\n",
     "would leave the region", 7},
    {HEAD "region: eu\nservices:\n" SHOP BLOG
          "routes:\n  - match: /\n    service: shop\n    mirror: { service: blog }\n",
     "would be copied to service blog, which is of no region", 9},
    {HEAD "region: eu\nservices:\n" SHOP BLOG ROUTES
          "connectors:\n  archive: { type: file, path: /tmp/x }\n",
     "`region: eu`", 10},
};

static void a_configuration_that_lets_an_event_out_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(refused); i++) {
        struct conf_report report;
        struct conf *conf = parse(refused[i].text, &report);
        if (conf || report.count == 0)
            fail_msg("row %zu was accepted", i);
        bool is_said = false;
        for (size_t k = 0; k < report.count; k++)
            is_said |= strstr(report.at[k].text, refused[i].says) != NULL &&
                       report.at[k].line == refused[i].line;
        if (!is_said)
            fail_msg("row %zu: line %u: %s", i, report.at[0].line, report.at[0].text);
        conf_report_fini(&report);
    }
}

static const char good[] =
    HEAD "region: eu\nservices:\n" SHOP BLOG "  crm: { endpoints: [\"10.0.0.3:80\"] }\n"
         "routes:\n  - { match: /shop/, service: shop }\n"
         "  - { match: /crm/, service: crm, region: eu }\n"
         "  - { match: /, service: blog }\n"
         "connectors:\n"
         "  home: { type: file, path: /tmp/x, region: eu }\n"
         "  world: { type: file, path: /tmp/y, region: us }\n";

static const char *name_of(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us)
{
    (void)time_us;
    static const char *const names[][5] = {
        [EV_KIND_ROUTE] = {"shop /shop/", "crm /crm/", "blog /", "gone /x"},
        [EV_KIND_SERVICE] = {"shop", "blog", "crm", "gone"},
        [EV_KIND_ENDPOINT] = {"shop 10.0.0.1:80", "blog 10.0.0.2:80", "crm 10.0.0.3:80"},
        [EV_KIND_VERSION] = {"shop stable", "blog stable", "crm stable"}};
    (void)ctx;
    return number < 5 && names[kind][number] ? names[kind][number] : "";
}

#define IS_EU(is_eu)                                                                               \
    do {                                                                                           \
        assert_true(region_may_pass(&book, &ev.head, "eu"));                                       \
        assert_int_equal(region_may_pass(&book, &ev.head, "us"), !(is_eu));                        \
        assert_int_equal(region_may_pass(&book, &ev.head, ""), !(is_eu));                          \
    } while (0)

static void each_event_is_of_the_region_of_what_it_is_about(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *conf = parse(good, &report);
    if (!conf)
        fail_msg("%s", report.count ? report.at[0].text : "refused");
    struct region_book book = {.conf = conf, .names = {.name = name_of}};
    assert_true(region_is_used(conf));
    union ev_any ev;
    for (uint16_t route = 0; route < 4; route++) {
        ev.request = EV_INIT(REQUEST, request, 1);
        ev.request.route = route;
        ev.request.service = ev.request.endpoint = EV_NONE;
        IS_EU(route != 2); /* a route that left the configuration stays at home */
        ev.sample = EV_INIT(SAMPLE, sample, 1);
        ev.sample.route = route;
        IS_EU(route != 2);
    }
    for (uint16_t service = 0; service < 2; service++) {
        ev.gauge = EV_INIT(GAUGE, gauge, 1);
        ev.gauge.kind = EV_KIND_SERVICE;
        ev.gauge.number = service;
        IS_EU(service == 0);
        ev.decision = EV_INIT(DECISION, decision, 1);
        ev.decision.target_kind = EV_KIND_ENDPOINT;
        ev.decision.target = service;
        IS_EU(service == 0);
        ev.health = EV_INIT(HEALTH, health, 1);
        ev.health.service = service;
        ev.health.endpoint = EV_NONE;
        IS_EU(service == 0);
    }
    ev.name = EV_INIT(NAME, name, 1);
    ev.name.kind = EV_KIND_ENDPOINT;
    strcpy(ev.name.name, "shop 10.0.0.1:80");
    IS_EU(true);
    strcpy(ev.name.name, "blog 10.0.0.2:80");
    IS_EU(false);
    ev.request = EV_INIT(REQUEST, request, 1);
    ev.request.route = ev.request.endpoint = EV_NONE;
    ev.request.service = 4; /* a number without a name */
    IS_EU(true);
    ev.custom = EV_INIT(CUSTOM, custom, 1);
    IS_EU(true);
    ev.config = EV_INIT(CONFIG, config, 1);
    IS_EU(true);
    ev.tick = EV_INIT(TICK, tick, 1);
    IS_EU(false);
    ev.decision = EV_INIT(DECISION, decision, 1);
    ev.decision.target_kind = EV_KIND_NONE;
    ev.decision.target = EV_NONE;
    IS_EU(false);
    conf_report_fini(&report);
    conf_unref(conf);
}

static void what_is_told_of_a_signal_stays_at_home(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *conf = parse(good, &report);
    assert_non_null(conf);
    struct region_book book = {.conf = conf, .names = {.name = name_of}};
    union ev_any ev;
    static const uint16_t signals[] = {REASON_ALERT_SIGNAL_HARMED, REASON_ALERT_SIGNAL_UNUSUAL};
    for (size_t i = 0; i < FB_COUNT(signals); i++) {
        ev.alert = EV_INIT(ALERT, alert, 1); /* of no target, with the name of a signal */
        ev.alert.reason = signals[i];
        ev.alert.target_kind = EV_KIND_NONE;
        IS_EU(true);
    }
    static const uint16_t releases[] = {REASON_RELEASE_HARMED, REASON_RELEASE_VERSION_HARMED};
    for (size_t i = 0; i < FB_COUNT(releases); i++) {
        ev.decision = EV_INIT(DECISION, decision, 1);
        ev.decision.reason = releases[i];
        ev.decision.target_kind = EV_KIND_ROUTE;
        ev.decision.target = 2; /* blog, of no region; the signal is in the note */
        IS_EU(true);
    }
    ev.alert = EV_INIT(ALERT, alert, 1); /* of the node itself */
    ev.alert.reason = REASON_ALERT_LOG_CLEAR;
    ev.alert.target = EV_NONE;
    IS_EU(false);
    conf_report_fini(&report);
    conf_unref(conf);
}

static void without_regions_everything_may_pass(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *conf = parse(HEAD "services:\n" BLOG, &report);
    assert_non_null(conf);
    struct region_book book = {.conf = conf};
    struct ev_request ev = EV_INIT(REQUEST, request, 1);
    assert_false(region_is_used(conf));
    assert_true(region_may_pass(&book, &ev.head, "us"));
    assert_true(region_may_pass(&book, &ev.head, ""));
    conf_report_fini(&report);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_that_lets_an_event_out_is_refused),
        cmocka_unit_test(each_event_is_of_the_region_of_what_it_is_about),
        cmocka_unit_test(what_is_told_of_a_signal_stays_at_home),
        cmocka_unit_test(without_regions_everything_may_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
