/* SPDX-License-Identifier: Apache-2.0 */
#include "output/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct metrics *metrics;
    struct memfile mem;
    struct knob_book *book;
    struct timeline timeline;
    struct buf out;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->metrics = metrics_new(1000 * US_PER_S);
    f->book = calloc(1, sizeof *f->book);
    assert_int_equal(memfile_create(&f->mem, 1, 64, NULL), FB_OK);
    assert_true(timeline_init(&f->timeline));
    buf_init(&f->out, 8 * MIB);
    uint16_t service = memfile_number(&f->mem, EV_KIND_SERVICE, "sh\"op", EV_NONE);
    (void)memfile_number(&f->mem, EV_KIND_ROUTE, "shop /", service);
    (void)memfile_number(&f->mem, EV_KIND_ENDPOINT, "shop 10.0.0.1:80", service);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    metrics_free(f->metrics);
    free(f->book);
    memfile_close(&f->mem);
    timeline_fini(&f->timeline);
    buf_fini(&f->out);
    free(f);
    return 0;
}

static const char *written(struct fixture *f, bool is_openmetrics)
{
    struct metrics_view view = {
        .metrics = f->metrics, .memfile = &f->mem, .book = f->book, .timeline = &f->timeline};
    buf_clear(&f->out);
    metrics_write(&view, &f->out, is_openmetrics);
    assert_false(f->out.failed);
    return buf_str(&f->out);
}

static void request(struct fixture *f, uint16_t route, uint16_t status, uint32_t total_us)
{
    struct ev_request r = EV_INIT(REQUEST, request, 5);
    r.request_id = 0xabc;
    r.route = route;
    r.service = 0;
    r.endpoint = status == 503 ? EV_NONE : 0;
    r.status = status;
    r.reason = status == 503 ? REASON_SHED_QUEUE_FULL : REASON_ANSWERED;
    r.total_us = total_us;
    metrics_feed(f->metrics, &r.head);
}

static void request_of(struct fixture *f, uint16_t version, uint16_t status)
{
    struct ev_request r = EV_INIT(REQUEST, request, 5);
    r.status = status;
    r.reason = REASON_ANSWERED;
    r.total_us = 4000;
    r.version = version;
    metrics_feed(f->metrics, &r.head);
}

static void expect(const char *text, const char *line)
{
    if (!strstr(text, line))
        fail_msg("missing: %s", line);
}

static void requests_are_counted_by_route_and_bucket(void **state)
{
    struct fixture *f = *state;
    request(f, 0, 200, 4000);
    request(f, 0, 200, 60000);
    request(f, 0, 503, 90);
    request(f, EV_NONE, 404, 50);
    const char *text = written(f, false);
    expect(text,
           "foldback_requests_total{route=\"shop /\",service=\"sh\\\"op\",code_class=\"2xx\"} 2\n");
    expect(text,
           "foldback_requests_total{route=\"shop /\",service=\"sh\\\"op\",code_class=\"5xx\"} 1\n");
    expect(text,
           "foldback_requests_total{route=\"_none\",service=\"_none\",code_class=\"4xx\"} 1\n");
    expect(text, "le=\"0.005\"} 1\n");
    expect(text, "le=\"0.075\"} 2\n");
    expect(text, "le=\"+Inf\"} 2\n");
    expect(text, "foldback_shed_total{service=\"sh\\\"op\",reason=\"shed_queue_full\"} 1\n");
    expect(
        text,
        "foldback_request_duration_seconds_sum{route=\"shop /\",service=\"sh\\\"op\"} 0.064000\n");
}

static void openmetrics_differs_where_it_must(void **state)
{
    struct fixture *f = *state;
    request(f, 0, 200, 60000);
    const char *text = written(f, true);
    expect(text, "# TYPE foldback_requests counter\n");
    expect(text, "# TYPE foldback_build info\n");
    expect(text, "le=\"0.075\"} 1 # {request_id=\"0000000000000abc\"} 0.060000 ");
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    assert_null(strstr(written(f, false), "# EOF"));
}

static void every_family_of_the_table_is_written(void **state)
{
    struct fixture *f = *state;
    const char *text = written(f, false);
    for (unsigned i = 0; i < METRIC_ID_COUNT; i++) {
        char line[120];
        int len = snprintf(line, sizeof line, "# HELP %s ", metric_row(i)->name);
        assert_true(len > 0);
        expect(text, line);
    }
}

static void cpu_never_goes_down_when_a_process_restarts(void **state)
{
    struct fixture *f = *state;
    struct ev_resource r = EV_INIT(RESOURCE, resource, 5);
    r.scope = 2;
    r.cpu_us = 3000000;
    metrics_feed(f->metrics, &r.head);
    r.cpu_us = 500000;
    metrics_feed(f->metrics, &r.head);
    expect(written(f, false), "foldback_process_cpu_seconds_total{process=\"gateway\"} 3.5\n");
}

static void accept_chooses_the_format(void **state)
{
    (void)state;
    assert_true(metrics_wants_openmetrics(
        SPAN("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")));
    assert_false(metrics_wants_openmetrics(SPAN("text/plain,application/openmetrics-text")));
    assert_false(metrics_wants_openmetrics(SPAN("*/*")));
}

static void features_are_counted_from_the_traits_of_requests(void **state)
{
    struct fixture *f = *state;
    struct ev_request r = EV_INIT(REQUEST, request, 25 * US_PER_S);
    assert_null(strstr(written(f, false), "foldback_sticky_requests_total{"));
    r.traits = EV_TRAIT_BIT(STICKY_KEPT) | EV_TRAIT_BIT(COPIED) | EV_TRAIT_BIT(ZSTD);
    r.plain_bytes = 1000;
    r.coded_bytes = 100;
    r.limit_used_pct = 80;
    r.wanted = 1;
    metrics_feed(f->metrics, &r.head);
    r.traits = EV_TRAIT_BIT(STICKY_NEW) | EV_TRAIT_BIT(SPLIT_NAMED) | EV_TRAIT_BIT(AWAY) |
               EV_TRAIT_BIT(FAR_ZONE) | EV_TRAIT_BIT(PROXIED) | EV_TRAIT_BIT(INTRODUCED);
    r.limit_used_pct = 20;
    metrics_feed(f->metrics, &r.head);
    const char *text = written(f, false);
    expect(text, "foldback_sticky_requests_total{service=\"sh\\\"op\",result=\"kept\"} 1\n");
    expect(text, "foldback_sticky_requests_total{service=\"sh\\\"op\",result=\"moved\"} 0\n");
    expect(text, "foldback_sticky_requests_total{service=\"sh\\\"op\",result=\"new\"} 1\n");
    expect(text, "foldback_hash_requests_total{service=\"sh\\\"op\",result=\"away\"} 1\n");
    expect(text, "foldback_cross_zone_requests_total{service=\"sh\\\"op\"} 1\n");
    expect(text, "foldback_proxy_headers_sent_total{service=\"sh\\\"op\"} 1\n");
    expect(text, "foldback_proxied_requests_total{route=\"shop /\",service=\"sh\\\"op\"} 1\n");
    expect(text, "{route=\"shop /\",service=\"sh\\\"op\",result=\"copied\"} 1\n");
    expect(text, "{route=\"shop /\",service=\"sh\\\"op\",by=\"share\"} 1\n");
    expect(text, "{route=\"shop /\",service=\"sh\\\"op\",by=\"name\"} 1\n");
    expect(text, "{route=\"shop /\",service=\"sh\\\"op\",by=\"zstd\"} 1\n");
    expect(text,
           "foldback_route_compress_in_bytes_total{route=\"shop /\",service=\"sh\\\"op\"} 2000\n");
    expect(text,
           "foldback_route_compress_out_bytes_total{route=\"shop /\",service=\"sh\\\"op\"} 200\n");
    expect(text, "foldback_rate_limit_used_ratio{route=\"shop /\",service=\"sh\\\"op\"} 0.8\n");
}

static void how_full_a_limit_was_is_forgotten(void **state)
{
    struct fixture *f = *state;
    struct ev_request r = EV_INIT(REQUEST, request, 25 * US_PER_S);
    struct ev_tick tick = EV_INIT(TICK, tick, 39 * US_PER_S);
    r.limit_used_pct = 80;
    metrics_feed(f->metrics, &r.head);
    metrics_feed(f->metrics, &tick.head);
    assert_int_equal(metrics_peak(f->metrics, &f->metrics->route[0].limit_used_pct), 80);
    tick.head.time_us = 40 * US_PER_S;
    metrics_feed(f->metrics, &tick.head);
    assert_int_equal(metrics_peak(f->metrics, &f->metrics->route[0].limit_used_pct), 0);
}

static void mirrors_and_passed_connections_count_for_their_service(void **state)
{
    struct fixture *f = *state;
    struct ev_request r = EV_INIT(REQUEST, request, 5);
    r.route = EV_NONE;
    r.reason = REASON_MIRRORED;
    metrics_feed(f->metrics, &r.head);
    r.reason = REASON_MIRROR_FAILED;
    metrics_feed(f->metrics, &r.head);
    r.reason = REASON_TCP_ENDED;
    r.protocol = EV_PROTOCOL_TCP;
    r.received_bytes = 7;
    r.sent_bytes = 9;
    metrics_feed(f->metrics, &r.head);
    const char *text = written(f, false);
    expect(text, "foldback_mirror_copies_total{service=\"sh\\\"op\",result=\"answered\"} 1\n");
    expect(text, "foldback_mirror_copies_total{service=\"sh\\\"op\",result=\"failed\"} 1\n");
    expect(text, "foldback_tcp_connections_total{service=\"sh\\\"op\",result=\"passed\"} 1\n");
    expect(text, "foldback_tcp_bytes_total{service=\"sh\\\"op\",direction=\"from_client\"} 7\n");
    expect(text, "foldback_tcp_bytes_total{service=\"sh\\\"op\",direction=\"to_client\"} 9\n");
}

static void requests_count_for_the_version_that_answered(void **state)
{
    struct fixture *f = *state;
    (void)memfile_number(&f->mem, EV_KIND_VERSION, "shop stable", 0);
    (void)memfile_number(&f->mem, EV_KIND_VERSION, "shop canary", 0);
    request_of(f, 0, 200);
    request_of(f, 1, 500);
    request_of(f, 1, 200);
    request_of(f, EV_NONE, 200);
    const char *text = written(f, false);
    assert_non_null(strstr(text, "foldback_version_requests_total{service=\"sh\\\"op\","
                                 "version=\"stable\",code_class=\"2xx\"} 1\n"));
    assert_non_null(strstr(text, "version=\"canary\",code_class=\"2xx\"} 1\n"));
    assert_non_null(strstr(text, "version=\"canary\",code_class=\"5xx\"} 1\n"));
    assert_non_null(strstr(text, "foldback_version_duration_seconds_count{service=\"sh\\\"op\","
                                 "version=\"canary\"} 2\n"));
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(requests_count_for_the_version_that_answered),
        TEST(features_are_counted_from_the_traits_of_requests),
        TEST(how_full_a_limit_was_is_forgotten),
        TEST(mirrors_and_passed_connections_count_for_their_service),
        TEST(requests_are_counted_by_route_and_bucket),
        TEST(openmetrics_differs_where_it_must),
        TEST(every_family_of_the_table_is_written),
        TEST(cpu_never_goes_down_when_a_process_restarts),
        TEST(accept_chooses_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
