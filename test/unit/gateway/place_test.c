/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/gateway_int.h"

static struct http1_field fields[4];
static struct http1_head head;

static void cookies(const char *first, const char *second)
{
    const char *texts[2] = {first, second};
    head = (struct http1_head){.fields = fields};
    for (int i = 0; i < 2; i++)
        if (texts[i]) {
            fields[head.field_count++] = (struct http1_field){
                .name = SPAN("Cookie"), .value = span_of(texts[i]), .id = HTTP1_H_COOKIE};
            head.seen |= UINT64_C(1) << HTTP1_H_COOKIE;
        }
}

struct row {
    const char *first, *second, *want; /* NULL: none */
};

static void cookie_is_found_by_its_whole_name(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"a=1", NULL, "1"},       {"xa=0; a=1; b=2", NULL, "1"},
        {"b=2", "c=3; a=1", "1"}, {"a=", NULL, ""},
        {"a", NULL, NULL},        {"ab=1", NULL, NULL},
        {"b=a=7", NULL, NULL},    {"", NULL, NULL},
        {";;; a=1", NULL, "1"},   {"a=1=2;a=3", NULL, "1=2"},
        {NULL, NULL, NULL},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        cookies(rows[i].first, rows[i].second);
        struct span got = place_cookie(&head, SPAN("a"));
        if (!rows[i].want) {
            assert_int_equal(got.len, 0);
            continue;
        }
        if (!span_eq(got, span_of(rows[i].want)))
            fail_msg("row %zu: got \"%.*s\"", i, SPAN_ARG(got));
    }
}

static void query_parameter_is_found_by_its_whole_name(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"/x?a=1", NULL, "1"},       {"/x?b=2&a=1&a=3", NULL, "1"}, {"/x?ba=1", NULL, NULL},
        {"/a=1", NULL, NULL},        {"/x?a", NULL, NULL},          {"/x?a=", NULL, ""},
        {"/x?&&a=b=c", NULL, "b=c"}, {"/x?", NULL, NULL},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct span got = place_query(span_of(rows[i].first), SPAN("a"));
        if (!rows[i].want ? got.len != 0 : !span_eq(got, span_of(rows[i].want)))
            fail_msg("%s: got \"%.*s\"", rows[i].first, SPAN_ARG(got));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cookie_is_found_by_its_whole_name),
        cmocka_unit_test(query_parameter_is_found_by_its_whole_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
