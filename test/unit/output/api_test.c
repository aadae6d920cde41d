/* SPDX-License-Identifier: Apache-2.0 */
/* Routing table, percent-encoding, JSON bodies, redaction, history. */
#include "output/api.h"
#include "output/history.h"
#include "output/jsonin.h"
#include "output/recent.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_path_finds_its_row_and_parameters(void **state)
{
    (void)state;
    struct span params[2];
    bool is_known = false;
    const struct api_row *row =
        api_find(SPAN("PUT"), SPAN("/v1/knobs/limit/shop%2010.0.0.1%3A80/pin"), params, &is_known);
    assert_non_null(row);
    assert_string_equal(row->name, "pin");
    assert_true(span_eq(params[0], SPAN("limit")));
    char name[64];
    assert_true(api_decode(params[1], false, name, sizeof name));
    assert_string_equal(name, "shop 10.0.0.1:80");
    assert_null(api_find(SPAN("POST"), SPAN("/v1/status"), params, &is_known));
    assert_true(is_known);
    assert_null(api_find(SPAN("GET"), SPAN("/v1/nothing"), params, &is_known));
    assert_false(is_known);
    assert_null(api_find(SPAN("GET"), SPAN("/v1/decisions/"), params, &is_known));
    assert_null(api_find(SPAN("GET"), SPAN(""), params, &is_known));
}

static void every_schema_that_a_row_names_exists(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_row_count(); i++) {
        const struct api_row *row = api_row_at(i);
        if (row->body[0])
            assert_true(api_schema(row->body).len > 0);
        if (row->answer[0] && !strchr(row->answer, '/'))
            assert_true(api_schema(row->answer).len > 0);
        assert_true(strlen(row->what) > 10);
    }
}

static void malformed_percent_encoding_is_refused(void **state)
{
    (void)state;
    char out[8];
    assert_false(api_decode(SPAN("%2"), false, out, sizeof out));
    assert_false(api_decode(SPAN("%zz"), false, out, sizeof out));
    assert_false(api_decode(SPAN("%00"), false, out, sizeof out));
    assert_false(api_decode(SPAN("12345678"), false, out, sizeof out));
    assert_true(api_decode(SPAN("a+b"), true, out, sizeof out));
    assert_string_equal(out, "a b");
    assert_true(api_decode(SPAN("a+b"), false, out, sizeof out));
    assert_string_equal(out, "a+b");
}

static void a_body_is_one_flat_object(void **state)
{
    (void)state;
    struct jsonin in;
    assert_int_equal(
        jsonin_parse(&in,
                     SPAN(" {\"value\": 4.5e1, \"why\":\"a\\u00e4\\n\", \"x\":null, \"b\":true} "),
                     NULL),
        FB_OK);
    assert_true(jsonin_find(&in, "value")->number == 45);
    assert_string_equal(jsonin_text(&in, "why", NULL), "a\xc3\xa4\n");
    assert_null(jsonin_find(&in, "x"));
    assert_null(jsonin_text(&in, "value", "fallback"));
    static const char *const bad[] = {"",
                                      "[]",
                                      "{",
                                      "{\"a\":{}}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":01}",
                                      "{\"a\":1}x",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":\"\\u0000\"}",
                                      "{\"a\":1.}",
                                      "{\"a\":.5}",
                                      "{\"a\":+1}",
                                      "{\"a\":nan}",
                                      "{\"a\" 1}",
                                      "{\"a\":1,}",
                                      "{\"a\":1e999}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\xc3\"}",
                                      "{\"a\":\"\xc3\xa4\xa4\"}",
                                      "{\"a\":\"\x80\"}",
                                      "{\"a\":\"\x01\"}"};
    for (size_t i = 0; i < FB_COUNT(bad); i++)
        if (jsonin_parse(&in, span_of(bad[i]), NULL) == FB_OK)
            fail_msg("accepted: %s", bad[i]);
}

static void a_path_is_told_without_what_may_name_a_person(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"/checkout/pay", "/checkout/pay"},
                                          {"/orders/4711/items", "/orders/*/items"},
                                          {"/u/jo@example.org", "/u/*"},
                                          {"/", "/"},
                                          {"/t/averyveryverylongsegmentwithsecrets/", "/t/*/"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct buf out;
        buf_init(&out, 256);
        recent_redact_path(span_of(rows[i][0]), &out);
        assert_string_equal(buf_str(&out), rows[i][1]);
        buf_fini(&out);
    }
}

static void recent_requests_are_found_until_they_are_overwritten(void **state)
{
    (void)state;
    struct recent *r = recent_new();
    assert_non_null(r);
    struct ev_request ev = EV_INIT(REQUEST, request, 1);
    uint64_t offset = 0;
    for (uint64_t id = 1; id <= RECENT_REQUESTS_MAX + 5; id++) {
        ev.request_id = id;
        recent_add_request(r, &ev, id * 2);
    }
    assert_null(recent_request(r, 3, NULL));
    assert_non_null(recent_request(r, RECENT_REQUESTS_MAX + 5, &offset));
    assert_int_equal(offset, 2 * (RECENT_REQUESTS_MAX + 5));
    recent_free(r);
}

static void history_holds_nothing_where_facts_know_nothing(void **state)
{
    (void)state;
    struct facts *facts = facts_new(8);
    struct history h;
    uint32_t slot = 0;
    assert_non_null(facts);
    history_init(&h);
    assert_false(history_slot(&h, 0, &slot));
    assert_true(history_tick(&h, facts, 5 * US_PER_S));
    assert_false(history_tick(&h, facts, 5 * US_PER_S + 500000));
    assert_true(history_tick(&h, facts, 6 * US_PER_S));
    assert_true(history_slot(&h, 1, &slot));
    assert_int_equal(h.wall_s[slot], 5);
    const struct history_series *all = history_find(&h, (struct fact_scope){EV_KIND_NONE, 0});
    assert_non_null(all);
    assert_true(isnan(all->point[slot][HISTORY_latency_p99]));
    assert_null(history_find(&h, (struct fact_scope){EV_KIND_SERVICE, 3}));
    history_fini(&h);
    facts_free(facts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_finds_its_row_and_parameters),
        cmocka_unit_test(every_schema_that_a_row_names_exists),
        cmocka_unit_test(malformed_percent_encoding_is_refused),
        cmocka_unit_test(a_body_is_one_flat_object),
        cmocka_unit_test(a_path_is_told_without_what_may_name_a_person),
        cmocka_unit_test(recent_requests_are_found_until_they_are_overwritten),
        cmocka_unit_test(history_holds_nothing_where_facts_know_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
