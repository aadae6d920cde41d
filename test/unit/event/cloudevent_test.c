/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents: required attributes, ids that name one event, times, redaction. */
#include "event/cloudevent.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static json_t *put(const struct ev_head *ev, const struct cloudevent_place *at)
{
    struct buf out;
    struct json j;
    json_error_t why;
    buf_init(&out, MIB);
    json_init(&j, &out);
    cloudevent_put(&j, ev, at);
    json_t *root = json_loadb(out.at, out.len, 0, &why);
    assert_non_null(root);
    buf_fini(&out);
    return root;
}

static const char *text(const json_t *root, const char *key)
{
    const char *t = json_string_value(json_object_get(root, key));
    assert_non_null(t);
    return t;
}

static void an_event_has_every_required_attribute(void **state)
{
    (void)state;
    struct ev_request r = EV_INIT(REQUEST, request, 5);
    r.status = 200;
    r.reason = REASON_ANSWERED;
    struct cloudevent_place at = {
        .node = 0xdeadbeef, .offset = 4711, .wall_us = 1795366800000001, .subject = "shop"};
    json_t *root = put(&r.head, &at);
    assert_string_equal(text(root, "specversion"), "1.0");
    assert_string_equal(text(root, "type"), "foldback.request.v1");
    assert_string_equal(text(root, "source"), "/foldback/nodes/00000000deadbeef");
    assert_string_equal(text(root, "id"), "00000000deadbeef/4711");
    assert_string_equal(text(root, "time"), "2026-11-22T17:00:00.000001Z");
    assert_string_equal(text(root, "datacontenttype"), "application/json");
    assert_string_equal(text(root, "dataschema"), "urn:foldback:schema:request:1");
    assert_string_equal(text(root, "subject"), "shop");
    assert_string_equal(text(root, "sequence"), "00000000000000004711");
    const json_t *data = json_object_get(root, "data");
    assert_int_equal(json_integer_value(json_object_get(data, "status")), 200);
    assert_int_equal(json_integer_value(json_object_get(data, "offset")), 4711);
    json_decref(root);
}

static void every_type_fits_and_names_are_those_the_standard_allows(void **state)
{
    (void)state;
    for (int t = 0; t < EV_TYPE_END; t++) {
        const struct ev_type_row *row = ev_type_row((uint8_t)t);
        if (!row->name)
            continue;
        union ev_any any = {.head = {.type = (uint8_t)t, .cells = row->cells, .version = 1}};
        json_t *root =
            put(&any.head, &(struct cloudevent_place){.offset = INT64_MAX, .node = UINT64_MAX});
        const char *key;
        json_t *value;
        char type[CLOUDEVENT_TYPE_BYTES];
        snprintf(type, sizeof type, "foldback.%s.v1", row->name);
        assert_string_equal(text(root, "type"), type);
        assert_string_equal(text(root, "id"), "ffffffffffffffff/9223372036854775807");
        assert_null(json_object_get(root, "subject")); /* never an empty string */
        /* "MUST consist of lower-case letters or digits", and at most 20 of them. */
        json_object_foreach(root, key, value)
        {
            assert_true(strlen(key) <= 20);
            assert_int_equal(strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789"), strlen(key));
            if (strcmp(key, "data") != 0)
                assert_true(json_string_length(value) > 0);
        }
        json_decref(root);
    }
}

static void personal_fields_are_redacted_only_when_asked(void **state)
{
    (void)state;
    struct ev_sample s = EV_INIT(SAMPLE, sample, 5);
    memcpy(s.path, "/mine", 5);
    json_t *open = put(&s.head, &(struct cloudevent_place){0});
    json_t *hidden = put(&s.head, &(struct cloudevent_place){.is_redacted = true});
    assert_string_equal(text(json_object_get(open, "data"), "path"), "/mine");
    assert_string_equal(text(json_object_get(hidden, "data"), "path"), "-");
    json_decref(open);
    json_decref(hidden);
}

static void times_agree_with_the_c_library(void **state)
{
    (void)state;
    char mine[CLOUDEVENT_TIME_BYTES], theirs[CLOUDEVENT_TIME_BYTES];
    /* 86 399 x 37 s: each day of the week, leap days, ends of months and centuries come by. */
    for (uint64_t second = 0; second < UINT64_C(253402300800); second += 86399 * 37) {
        struct tm tm;
        time_t t = (time_t)second;
        assert_non_null(gmtime_r(&t, &tm));
        strftime(theirs, sizeof theirs, "%Y-%m-%dT%H:%M:%S.000042Z", &tm);
        cloudevent_time(mine, second * 1000000 + 42);
        assert_string_equal(mine, theirs);
    }
    cloudevent_time(mine, 951782400000000);
    assert_string_equal(mine, "2000-02-29T00:00:00.000000Z");
    cloudevent_time(mine, UINT64_MAX);
    assert_string_equal(mine, "9999-12-31T23:59:59.999999Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_has_every_required_attribute),
        cmocka_unit_test(every_type_fits_and_names_are_those_the_standard_allows),
        cmocka_unit_test(personal_fields_are_redacted_only_when_asked),
        cmocka_unit_test(times_agree_with_the_c_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
