/* SPDX-License-Identifier: Apache-2.0 */
/* The writer: canonical bytes, bounds, and heads that survive a round trip. */
#include "http1_try.h"

static void numbers_are_written(void **state)
{
    (void)state;
    char out[128];
    struct http1_out w = http1_out(out, sizeof(out));
    static const uint64_t values[] = {0, 9, 10, 255, UINT64_MAX};
    for (size_t i = 0; i < FB_COUNT(values); i++) {
        http1_put_u64(&w, values[i]);
        http1_put(&w, SPAN(" "));
        http1_put_hex(&w, values[i]);
        http1_put(&w, SPAN(";"));
    }
    assert_span(http1_out_span(&w),
                SPAN("0 0;9 9;10 a;255 ff;18446744073709551615 ffffffffffffffff;"));
}

static void write_answer(struct http1_out *w)
{
    http1_put_status_line(w, 404);
    http1_put_field(w, SPAN("Date"), SPAN("x"));
    http1_put_field(w, SPAN("Empty"), SPAN(""));
    http1_put_field_u64(w, SPAN("Age"), 17);
    http1_put_framing(w, HTTP1_BODY_LENGTH, 0);
    http1_put_end(w);
}

static void head_is_written(void **state)
{
    (void)state;
    char out[256];
    struct http1_out w = http1_out(out, sizeof(out));
    write_answer(&w);
    assert_false(w.failed);
    assert_int_equal(w.needed, w.len);
    assert_span(http1_out_span(&w), SPAN("HTTP/1.1 404 Not Found\r\nDate: x\r\nEmpty: \r\n"
                                         "Age: 17\r\nContent-Length: 0\r\n\r\n"));
    w = http1_out(out, sizeof(out));
    http1_put_request_line(&w, SPAN("GET"), SPAN("/a?b"));
    http1_put_framing(&w, HTTP1_BODY_CHUNKED, 0);
    http1_put_framing(&w, HTTP1_BODY_NONE, 0);
    http1_put_framing(&w, HTTP1_BODY_CLOSE, 0);
    assert_span(http1_out_span(&w), SPAN("GET /a?b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"));
}

static void short_room_is_reported_with_the_room_needed(void **state)
{
    (void)state;
    char out[256];
    struct http1_out all = http1_out(out, sizeof(out));
    write_answer(&all);
    for (size_t cap = 0; cap < all.len; cap++) {
        char *exact = malloc(cap ? cap : 1); /* the sanitizer sees a byte too many */
        struct http1_out w = http1_out(exact, cap);
        write_answer(&w);
        assert_true(w.failed);
        assert_true(w.len <= cap);
        assert_int_equal(w.needed, all.len);
        free(exact);
    }
}

static void chunks_are_written(void **state)
{
    (void)state;
    char out[128];
    struct http1_out w = http1_out(out, sizeof(out));
    struct http1_field trailer = {.name = SPAN("X-A"), .value = SPAN("1")};
    http1_put_chunk_head(&w, 17);
    http1_put_chunk_last(&w, &trailer, 1);
    http1_put_chunk_last(&w, NULL, 0);
    assert_span(http1_out_span(&w), SPAN("11\r\n0\r\nX-A: 1\r\n\r\n" HTTP1_CHUNK_LAST));
    w = http1_out(out, HTTP1_CHUNK_HEAD_MAX_BYTES);
    http1_put_chunk_head(&w, UINT64_MAX);
    assert_false(w.failed);
}

#define REQUEST                                                                                    \
    "PUT /x HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Loose:  1\r\nX-B: 2\r\nConnection: x-hop\r\n"  \
    "X-Hop: 3\r\nX-C:\r\nX-D: 4\r\nContent-Length: 5\r\n\r\n"

static void forwarded_fields_leave_out_hop_by_hop_and_skipped_ones(void **state)
{
    (void)state;
    static const struct http1_limits limits = {256, 1024, 16};
    struct http1_field fields[16];
    struct http1_parser p;
    char out[512];
    struct http1_out w = http1_out(out, sizeof(out));
    http1_request_begin(&p, &limits, fields);
    assert_int_equal(http1_parse(&p, SPAN(REQUEST)), HTTP1_DONE);
    http1_put_fields(&w, &p.head, HTTP1_SKIP_FRAMING | HTTP1_SKIP(ACCEPT));
    assert_span(http1_out_span(&w), SPAN("Host: a\r\nX-Loose: 1\r\nX-B: 2\r\nX-C: \r\nX-D: 4\r\n"));
    w = http1_out(out, sizeof(out));
    http1_put_fields(&w, &p.head, 0);
    assert_span(http1_out_span(&w), SPAN("Host: a\r\nAccept: */*\r\nX-Loose: 1\r\nX-B: 2\r\n"
                                         "X-C: \r\nX-D: 4\r\nContent-Length: 5\r\n"));
}

static void status_has_its_registered_phrase(void **state)
{
    (void)state;
    static const struct {
        uint16_t status;
        const char *text;
    } texts[] = {
        {100, "Continue"},
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {404, "Not Found"},
        {431, "Request Header Fields Too Large"},
        {502, "Bad Gateway"},
        {599, ""},
        {508, "Loop Detected"},
        {511, "Network Authentication Required"},
        {0, ""},
        {413, "Content Too Large"},
        {999, ""},
    };
    for (size_t i = 0; i < FB_COUNT(texts); i++)
        assert_string_equal(http1_status_text(texts[i].status), texts[i].text);
    const char *last = "";
    for (uint16_t status = 100; status < 600;
         status++) { /* the table is sorted and has no doubles */
        const char *text = http1_status_text(status);
        if (text[0])
            assert_string_not_equal(text, last);
        last = text[0] ? text : last;
    }
}

static void token_and_value_are_told(void **state)
{
    (void)state;
    assert_true(http1_is_token(SPAN("X-A")));
    assert_false(http1_is_token(SPAN("")));
    assert_false(http1_is_token(SPAN("X A")));
    assert_false(http1_is_token(SPAN("X:")));
    assert_true(http1_is_value(SPAN("")));
    assert_true(http1_is_value(SPAN("a b\tc")));
    assert_false(http1_is_value(SPAN(" a")));
    assert_false(http1_is_value(SPAN("a\t")));
    assert_false(http1_is_value(SPAN("a\r\nb")));
    assert_false(http1_is_value(SPAN("01234567890123456789\n1")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_written),
        cmocka_unit_test(head_is_written),
        cmocka_unit_test(short_room_is_reported_with_the_room_needed),
        cmocka_unit_test(chunks_are_written),
        cmocka_unit_test(forwarded_fields_leave_out_hop_by_hop_and_skipped_ones),
        cmocka_unit_test(status_has_its_registered_phrase),
        cmocka_unit_test(token_and_value_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
