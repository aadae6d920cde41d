/* SPDX-License-Identifier: Apache-2.0 */
/* Fields about caching: directives, dates, ages, tags, ranges, codings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/cache_control.h"

#include <stdlib.h>

static struct http1_field fields[32];
static struct http1_parser parser;

static const struct http1_head *answer(const char *lines)
{
    static char text[4096];
    static const struct http1_limits limits = {4096, 4096, 32};
    strcpy(text, "HTTP/1.1 200 OK\r\n");
    strcat(text, lines);
    strcat(text, "\r\n");
    http1_response_begin(&parser, &limits, fields, HTTP1_GET);
    assert_int_equal(http1_parse(&parser, span_of(text)), HTTP1_DONE);
    return &parser.head;
}

struct row {
    const char *says;
    int64_t max_age;
    uint32_t flags;
};

static const struct row rows[] = {
    {"Cache-Control: max-age=60\r\n", 60, 0},
    {"Cache-Control: MAX-AGE=60\r\n", 60, 0},
    {"Cache-Control: max-age=\"60\"\r\n", 60, 0},
    {"Cache-Control: max-age=0060\r\n", 60, 0},
    {"Cache-Control: ,, max-age=60 ,,\r\n", 60, 0},
    {"Cache-Control: max-age=99999999999999999999\r\n", CACHE_SECONDS_MAX, 0},
    {"Cache-Control: max-age=-1\r\n", 0, 0},
    {"Cache-Control: max-age=1.5\r\n", 0, 0},
    {"Cache-Control: max-age='60'\r\n", 0, 0},
    {"Cache-Control: max-age=\r\n", 0, 0},
    {"Cache-Control: max-age\r\n", 0, 0},
    {"Cache-Control: max-age =60\r\n", CACHE_NO_SECONDS, 0},
    {"Cache-Control: max-age=60, max-age=1\r\n", 1, 0},
    {"Cache-Control: max-age=60\r\nCache-Control: max-age=1\r\n", 1, 0},
    {"Cache-Control: x=\"max-age=60\", max-age=1\r\n", 1, 0},
    {"Cache-Control: x=\"a\\\"b, max-age=1\", max-age=60\r\n", 60, 0},
    {"Cache-Control: x=\"never closed, max-age=60\r\n", CACHE_NO_SECONDS, 0},
    {"Cache-Control: no-store\r\n", CACHE_NO_SECONDS, CACHE_NO_STORE},
    {"Cache-Control: no-storex, max-age=5\r\n", 5, 0},
    {"Cache-Control: private=\"a, b\", max-age=5\r\n", 5, CACHE_PRIVATE_FIELDS},
    {"Cache-Control: no-cache=\"\"\r\n", CACHE_NO_SECONDS, CACHE_NO_CACHE},
    {"Cache-Control: Public , Must-Revalidate\r\n", CACHE_NO_SECONDS,
     CACHE_PUBLIC | CACHE_MUST_REVALIDATE},
};

static void directives_mean_what_they_say_and_doubt_means_stale(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct cache_directives d;
        cache_directives_read(answer(rows[i].says), &d);
        if (d.max_age != rows[i].max_age || d.flags != rows[i].flags)
            fail_msg("%s gives %lld and %x", rows[i].says, (long long)d.max_age, d.flags);
    }
}

static void a_malformed_targeted_field_does_not_count(void **state)
{
    (void)state;
    struct cache_directives d;
    struct span name = SPAN("cdn-cache-control");
    assert_false(cache_targeted_read(answer("Cache-Control: max-age=1\r\n"), name, &d));
    assert_true(cache_targeted_read(answer("CDN-Cache-Control: max-age=60\r\n"), name, &d));
    assert_int_equal(d.max_age, 60);
    assert_false(cache_targeted_read(answer("CDN-Cache-Control: &max-age=60\r\n"), name, &d));
    assert_false(cache_targeted_read(answer("CDN-Cache-Control: \r\n"), name, &d));
}

static void ages_that_are_no_number_do_not_count(void **state)
{
    (void)state;
    assert_int_equal(cache_age_read(answer("")), 0);
    assert_int_equal(cache_age_read(answer("Age: 7\r\n")), 7);
    assert_int_equal(cache_age_read(answer("Age: 7, 9\r\n")), 7);
    assert_int_equal(cache_age_read(answer("Age: 7\r\nAge: 9\r\n")), 7);
    assert_int_equal(cache_age_read(answer("Age: abc\r\n")), 0);
    assert_int_equal(cache_age_read(answer("Age: -7\r\n")), 0);
    assert_int_equal(cache_age_read(answer("Age: 7.0\r\n")), 0);
    assert_int_equal(cache_age_read(answer("Age: 99999999999\r\n")), CACHE_SECONDS_MAX);
}

struct date_row {
    const char *text;
    int64_t want;
};

static const struct date_row dates[] = {
    {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
    {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
    {"Sun Nov  6 08:49:37 1994", 784111777},
    {"sun, 06 nov 1994 08:49:37 gmt", 784111777},
    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    {"Thu, 29 Feb 2024 23:59:60 GMT", 1709251200},
    {"Thursday, 18-Aug-50 02:01:18 GMT", 2544400878},
    {"Sun, 06 Nov 94 08:49:37 GMT", CACHE_NO_DATE},
    {"Sun, 06-Nov-1994 08:49:37 GMT", CACHE_NO_DATE},
    {"Sun 06 Nov 1994 08:49:37 GMT", CACHE_NO_DATE},
    {"Sun, 06 Nov 1994 8:49:37 GMT", CACHE_NO_DATE},
    {"Sun, 06 Nov 1994 08.49.37 GMT", CACHE_NO_DATE},
    {"Sun, 06 Nov 1994 08:49:37 UTC", CACHE_NO_DATE},
    {"Sun, 06 Nov 1994 24:49:37 GMT", CACHE_NO_DATE},
    {"Sun, 00 Nov 1994 08:49:37 GMT", CACHE_NO_DATE},
    {"Sun, 06 Nov 1994 08:49:37 GMT ", CACHE_NO_DATE},
    {"0", CACHE_NO_DATE},
    {"", CACHE_NO_DATE},
    {"S", CACHE_NO_DATE},
    {"Sun,", CACHE_NO_DATE},
};

static void dates_in_three_forms_are_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(dates); i++) {
        int64_t got = cache_date_parse(span_of(dates[i].text), 1790000000);
        if (got != dates[i].want)
            fail_msg("%s gives %lld", dates[i].text, (long long)got);
    }
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    for (int64_t s = -60000000000; s < 250000000000; s += 86399 * 977) {
        char text[CACHE_DATE_BYTES];
        cache_date_format(s, text);
        assert_int_equal(cache_date_parse((struct span){text, sizeof text}, 0), s);
    }
}

static void tags_are_compared_weakly_or_strongly(void **state)
{
    (void)state;
    struct span list = SPAN("\"a,b\", W/\"c\" ,, \"d\"");
    assert_true(cache_etag_is_in(list, SPAN("\"a,b\""), true));
    assert_true(cache_etag_is_in(list, SPAN("W/\"a,b\""), true));
    assert_true(cache_etag_is_in(list, SPAN("\"c\""), true));
    assert_false(cache_etag_is_in(list, SPAN("\"c\""), false));
    assert_true(cache_etag_is_in(list, SPAN("\"d\""), false));
    assert_false(cache_etag_is_in(list, SPAN("W/\"d\""), false));
    assert_false(cache_etag_is_in(list, SPAN("\"a\""), true));
    assert_false(cache_etag_is_in(SPAN(""), SPAN("\"a\""), true));
    assert_true(cache_etag_is_in(SPAN(" * "), SPAN("\"a\""), false));
}

struct range_row {
    const char *value;
    enum cache_range is;
    uint64_t first, last;
};

static const struct range_row ranges[] = {
    {"bytes=0-0", CACHE_RANGE_PART, 0, 0},
    {"bytes=0-", CACHE_RANGE_PART, 0, 99},
    {"BYTES = 5 - 7", CACHE_RANGE_PART, 5, 7},
    {"bytes=90-1000", CACHE_RANGE_PART, 90, 99},
    {"bytes=-7", CACHE_RANGE_PART, 93, 99},
    {"bytes=-1000", CACHE_RANGE_PART, 0, 99},
    {"bytes=-0", CACHE_RANGE_BEYOND, 0, 0},
    {"bytes=100-", CACHE_RANGE_BEYOND, 0, 0},
    {"bytes=7-5", CACHE_RANGE_NONE, 0, 0},
    {"bytes=0-1,3-4", CACHE_RANGE_NONE, 0, 0},
    {"bytes=-", CACHE_RANGE_NONE, 0, 0},
    {"bytes=", CACHE_RANGE_NONE, 0, 0},
    {"bytes", CACHE_RANGE_NONE, 0, 0},
    {"lines=0-1", CACHE_RANGE_NONE, 0, 0},
    {"bytes=0x1-5", CACHE_RANGE_NONE, 0, 0},
    {"bytes=18446744073709551616-", CACHE_RANGE_NONE, 0, 0},
};

static void one_range_of_bytes_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(ranges); i++) {
        uint64_t first = 0, last = 0;
        enum cache_range is = cache_range_parse(span_of(ranges[i].value), 100, &first, &last);
        if (is != ranges[i].is || first != ranges[i].first || last != ranges[i].last)
            fail_msg("%s gives %d %llu %llu", ranges[i].value, (int)is, (unsigned long long)first,
                     (unsigned long long)last);
    }
    uint64_t first, last;
    assert_int_equal(cache_range_parse(SPAN("bytes=0-"), 0, &first, &last), CACHE_RANGE_BEYOND);
}

static void codings_have_qualities(void **state)
{
    (void)state;
    const struct http1_head *h =
        answer("Accept-Encoding: gzip;q=0.5, BR, zstd;q=0\r\nAccept-Encoding: *;q=0.1\r\n");
    assert_int_equal(cache_coding_quality(h, SPAN("gzip")), 500);
    assert_int_equal(cache_coding_quality(h, SPAN("br")), 1000);
    assert_int_equal(cache_coding_quality(h, SPAN("zstd")), 0);
    assert_int_equal(cache_coding_quality(h, SPAN("deflate")), 100);
    assert_int_equal(cache_coding_quality(answer(""), SPAN("gzip")), 0);
    assert_int_equal(cache_coding_quality(answer(""), SPAN("identity")), 1000);
    assert_int_equal(
        cache_coding_quality(answer("Accept-Encoding: gzip;q=2.5, br;q=0.9999\r\n"), SPAN("br")),
        0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directives_mean_what_they_say_and_doubt_means_stale),
        cmocka_unit_test(a_malformed_targeted_field_does_not_count),
        cmocka_unit_test(ages_that_are_no_number_do_not_count),
        cmocka_unit_test(dates_in_three_forms_are_read_strictly),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(tags_are_compared_weakly_or_strongly),
        cmocka_unit_test(one_range_of_bytes_is_understood),
        cmocka_unit_test(codings_have_qualities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
