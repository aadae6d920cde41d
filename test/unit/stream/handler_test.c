/* SPDX-License-Identifier: Apache-2.0 */
/* What of handlers needs no receiver: signature, answers, waits, choice of events, dead letters. */
#include "stream/connectors/backoff.h"
#include "stream/connectors/dead.h"
#include "stream/connectors/hook.h"
#include "stream/connectors/wants.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* As computed by hmac and hashlib of Python. */
static void a_signature_is_what_others_compute_too(void **state)
{
    (void)state;
    char line[HOOK_SIGNATURE_BYTES], key[200];
    assert_true(
        hook_sign(SPAN("a key of more than sixteen bytes"), 1764000000, SPAN("{\"a\":1}"), line));
    assert_string_equal(line, "Foldback-Signature: t=1764000000,v1="
                              "8c9e236fe7f74e24df84287f9b76e57445ba09607f17e41ebaeafc1bffce904d");
    memset(key, 'k', sizeof key); /* longer than a block of SHA-256, and nothing to sign */
    assert_true(hook_sign((struct span){key, sizeof key}, 0, SPAN(""), line));
    assert_string_equal(line, "Foldback-Signature: t=0,v1="
                              "76a82ba859636cc3081c72aa270fd66ac81a202f8182404e7752795c6e7ba88f");
    assert_true(hook_sign(SPAN("k"), UINT64_MAX, SPAN(""), line));
    assert_int_equal(strlen(line), strlen("Foldback-Signature: t=18446744073709551615,v1=") + 64);
}

static void an_answer_means_taken_again_a_hand_or_never(void **state)
{
    (void)state;
    static const struct {
        long status;
        enum hook_answer want;
    } rows[] = {{0, HOOK_AGAIN},        {100, HOOK_AGAIN},      {199, HOOK_AGAIN},
                {200, HOOK_TAKEN},      {204, HOOK_TAKEN},      {299, HOOK_TAKEN},
                {300, HOOK_NEEDS_HAND}, {301, HOOK_NEEDS_HAND}, {399, HOOK_NEEDS_HAND},
                {400, HOOK_REFUSED},    {401, HOOK_NEEDS_HAND}, {402, HOOK_REFUSED},
                {403, HOOK_NEEDS_HAND}, {404, HOOK_NEEDS_HAND}, {405, HOOK_NEEDS_HAND},
                {406, HOOK_REFUSED},    {408, HOOK_AGAIN},      {410, HOOK_NEEDS_HAND},
                {413, HOOK_TOO_LARGE},  {422, HOOK_REFUSED},    {425, HOOK_AGAIN},
                {429, HOOK_AGAIN},      {499, HOOK_REFUSED},    {500, HOOK_AGAIN},
                {503, HOOK_AGAIN},      {599, HOOK_AGAIN},      {999, HOOK_AGAIN}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        if (hook_answer_of(rows[i].status) != rows[i].want)
            print_message("%ld\n", rows[i].status);
        assert_int_equal(hook_answer_of(rows[i].status), rows[i].want);
    }
}

static void waits_double_up_to_the_most_and_are_spread_below(void **state)
{
    (void)state;
    static const uint32_t tops[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    for (uint32_t i = 0; i < FB_COUNT(tops); i++) {
        assert_int_equal(backoff_ms(i, 10000, 0), 0);
        assert_int_equal(backoff_ms(i, 10000, 0.5), tops[i] / 2);
        assert_in_range(backoff_ms(i, 10000, 0.9999999), tops[i] - 1, tops[i]);
    }
    assert_in_range(backoff_ms(UINT32_MAX, 600000, 0.9999999), 599999, 600000); /* and ends */
    assert_int_equal(backoff_ms(0, 50, 0.5), 25);
}

static const struct conf_connector *handler_of(struct conf **conf, const char *text)
{
    char whole[600];
    struct conf_report report;
    snprintf(whole, sizeof whole,
             "listen: [\":8080\"]\nservices: { app: { endpoints: [\"127.0.0.1:3000\"] } }\n"
             "handlers: { h: { url: \"http://127.0.0.1/\"%s } }\n",
             text);
    enum fb_code code = conf_parse(span_of(whole), "t.yaml", conf, &report);
    conf_report_fini(&report);
    assert_int_equal(code, FB_OK);
    return &(*conf)->connectors[0];
}

static bool gets(const char *text, const struct ev_head *ev)
{
    static struct filter filter;
    static const struct filter_names names;
    struct conf *conf = NULL;
    struct fb_err err;
    const struct conf_connector *c = handler_of(&conf, text);
    assert_int_equal(filter_parse(&filter, span_of(c->filter), &err), FB_OK);
    bool is_wanted = wants_event(c, &filter, ev, &names);
    conf_unref(conf);
    return is_wanted;
}

static void a_handler_gets_what_its_events_and_filter_name(void **state)
{
    (void)state;
    struct ev_alert alert = EV_INIT(ALERT, alert, 1);
    struct ev_decision decision = EV_INIT(DECISION, decision, 1);
    struct ev_request request = EV_INIT(REQUEST, request, 1);
    struct ev_custom custom = EV_INIT(CUSTOM, custom, 1);
    alert.severity = 2;
    request.status = 503;
    /* Without `events`: decisions, alerts, keys. */
    assert_true(gets("", &alert.head));
    assert_true(gets("", &decision.head));
    assert_false(gets("", &request.head));
    assert_false(gets("", &custom.head));
    assert_true(gets(", events: [alert], filter: severity>=2", &alert.head));
    assert_false(gets(", events: [alert], filter: severity>=3", &alert.head));
    assert_false(gets(", events: [alert], filter: severity>=2", &decision.head));
    assert_true(gets(", events: [alert], filter: severity=2 and is_over=0", &alert.head));
    alert.is_over = 1;
    assert_false(gets(", events: [alert], filter: severity=2 and is_over=0", &alert.head));
    assert_true(gets(", events: [request], filter: status>=500", &request.head));
    assert_false(gets(", events: [request], filter: status>=504", &request.head));
    assert_true(gets(", events: all", &custom.head));
}

static void put(struct buf *out, struct dead_letter letter)
{
    buf_init(out, MIB);
    dead_put(&letter, "pager", 1764000000123, out);
    assert_false(out->failed);
    assert_int_equal(out->at[out->len - 1], '\n');
    assert_ptr_equal(memchr(out->at, '\n', out->len), out->at + out->len - 1);
}

static void a_dead_letter_is_one_line_with_all_that_is_needed_to_send_it_again(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        size_t len;
        const char *base64;
    } rows[] = {{"", 0, ""},        {"f", 1, "Zg=="},          {"fo", 2, "Zm8="},
                {"foo", 3, "Zm9v"}, {"foobar", 6, "Zm9vYmFy"}, {"\xff\xfe\xfd\0\n", 5, "//79AAo="}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct buf line;
        put(&line, (struct dead_letter){.topic = "",
                                        .position = "",
                                        .offset = 77,
                                        .count = 1,
                                        .key = SPAN("app"),
                                        .value = {rows[i].value, rows[i].len},
                                        .reason = "http://h answers 422: \"no\"\n\x01"});
        json_t *o = json_loadb(line.at, line.len, 0, NULL);
        assert_non_null(o);
        assert_int_equal(json_integer_value(json_object_get(o, "time_ms")), 1764000000123);
        assert_string_equal(json_string_value(json_object_get(o, "connector")), "pager");
        assert_string_equal(json_string_value(json_object_get(o, "reason")),
                            "http://h answers 422: \"no\"\n\x01");
        assert_int_equal(json_integer_value(json_object_get(o, "offset")), 77);
        assert_int_equal(json_integer_value(json_object_get(o, "events")), 1);
        assert_string_equal(json_string_value(json_object_get(o, "key_base64")), "YXBw");
        assert_string_equal(json_string_value(json_object_get(o, "value_base64")), rows[i].base64);
        assert_null(json_object_get(o, "topic"));
        json_decref(o);
        buf_fini(&line);
    }
    struct buf line;
    put(&line, (struct dead_letter){.topic = "orders",
                                    .position = "12-0",
                                    .key = SPAN(""),
                                    .value = SPAN("x"),
                                    .reason = "not JSON"});
    json_t *o = json_loadb(line.at, line.len, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(o, "topic")), "orders");
    assert_string_equal(json_string_value(json_object_get(o, "position")), "12-0");
    assert_null(json_object_get(o, "offset"));
    json_decref(o);
    buf_fini(&line);
}

static void a_dead_letter_without_room_says_so(void **state)
{
    (void)state;
    struct buf out;
    struct dead_letter letter = {
        .topic = "", .position = "", .key = SPAN(""), .value = SPAN("x"), .reason = "no"};
    buf_init(&out, 40);
    dead_put(&letter, "pager", 1, &out);
    assert_true(out.failed);
    buf_fini(&out);
}

/* The example of the specification's own libraries. */
static void a_signature_is_one_of_standard_webhooks_too(void **state)
{
    (void)state;
    unsigned char key[64];
    size_t len = 0;
    char line[HOOK_SIGNATURE_BYTES];
    assert_true(hook_key(SPAN("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), key, sizeof key, &len));
    assert_int_equal(len, 24);
    const struct hook_message m = {SPAN("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                                   SPAN("{\"test\": 2432232314}")};
    assert_true(hook_sign_standard((struct span){(const char *)key, len}, &m, line));
    assert_string_equal(line, "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_true(hook_key(SPAN("a key as it is"), key, sizeof key, &len));
    assert_int_equal(len, 14);
    assert_memory_equal(key, "a key as it is", 14);
    assert_true(hook_key(SPAN("whsec_YWI="), key, sizeof key, &len));
    assert_int_equal(len, 2);
    static const char *const bad[] = {"whsec_", "whsec_abc", "whsec_ab!d", "whsec_===="};
    for (size_t i = 0; i < FB_COUNT(bad); i++)
        assert_false(hook_key(span_of(bad[i]), key, sizeof key, &len));
    assert_false(hook_key(SPAN("longer than it"), key, 4, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signature_is_one_of_standard_webhooks_too),
        cmocka_unit_test(a_signature_is_what_others_compute_too),
        cmocka_unit_test(an_answer_means_taken_again_a_hand_or_never),
        cmocka_unit_test(waits_double_up_to_the_most_and_are_spread_below),
        cmocka_unit_test(a_handler_gets_what_its_events_and_filter_name),
        cmocka_unit_test(a_dead_letter_is_one_line_with_all_that_is_needed_to_send_it_again),
        cmocka_unit_test(a_dead_letter_without_room_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
