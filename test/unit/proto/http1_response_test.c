/* SPDX-License-Identifier: Apache-2.0 */
/* Response heads: status line, framing by status and method, lifetime. */
#include "http1_try.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define LEN "Content-Length: 5\r\n"
#define TE "Transfer-Encoding: chunked\r\n"

struct row {
    const char *says;
    struct span bytes;
    enum http1_method answered;
    enum http1_error error;
    enum http1_framing framing;
};

#define BAD(text, cause, raw)                                                                      \
    ROW(text, .bytes = {raw, sizeof(raw) - 1}, .answered = HTTP1_GET, .error = HTTP1_E_##cause)
#define GOOD(text, frame, raw)                                                                     \
    ROW(text, .bytes = {raw, sizeof(raw) - 1}, .answered = HTTP1_GET, .framing = HTTP1_BODY_##frame)
#define TO(method, text, frame, raw)                                                               \
    ROW(text, .bytes = {raw, sizeof(raw) - 1}, .answered = HTTP1_##method,                         \
        .framing = HTTP1_BODY_##frame)

static const struct row rows[] = {
    GOOD("length", LENGTH, OK LEN "\r\n"),
    GOOD("length 0", LENGTH, OK "Content-Length: 0\r\n\r\n"),
    GOOD("length with leading zeros", LENGTH, OK "Content-Length: 005\r\n\r\n"),
    GOOD("chunked", CHUNKED, OK TE "\r\n"),
    GOOD("neither", CLOSE, OK "\r\n"),
    GOOD("neither in 1.0", CLOSE, "HTTP/1.0 200 OK\r\n\r\n"),
    GOOD("100", NONE, "HTTP/1.1 100 Continue\r\n\r\n"),
    GOOD("103 with fields", NONE, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    GOOD("101", NONE, "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    GOOD("204", NONE, "HTTP/1.1 204 No Content\r\n\r\n"),
    GOOD("204 with a length", NONE, "HTTP/1.1 204 No Content\r\n" LEN "\r\n"),
    GOOD("304", NONE, "HTTP/1.1 304 Not Modified\r\n\r\n"),
    GOOD("304 with a length", NONE, "HTTP/1.1 304 Not Modified\r\n" LEN "\r\n"),
    TO(HEAD, "HEAD with a length", NONE, OK LEN "\r\n"),
    TO(HEAD, "HEAD with chunked", NONE, OK TE "\r\n"),
    TO(HEAD, "HEAD with neither", NONE, OK "\r\n"),
    TO(CONNECT, "CONNECT taken", NONE, OK "\r\n"),
    TO(CONNECT, "CONNECT refused", LENGTH, "HTTP/1.1 403 No\r\n" LEN "\r\n"),
    GOOD("no phrase", CLOSE, "HTTP/1.1 200 \r\n\r\n"),
    GOOD("no phrase and no blank", CLOSE, "HTTP/1.1 200\r\n\r\n"),
    GOOD("phrase above ASCII", CLOSE, "HTTP/1.1 200 \303\251\r\n\r\n"),
    GOOD("1.2", CLOSE, "HTTP/1.2 200 OK\r\n\r\n"),
    GOOD("599", CLOSE, "HTTP/1.1 599 Odd\r\n\r\n"),
    GOOD("unknown 4xx", CLOSE, "HTTP/1.1 499 Odd\r\n\r\n"),
    GOOD("no Host is needed, two are nothing to us", CLOSE, OK "Host: a\r\nHost: b/\r\n\r\n"),
    BAD("600", BAD_STATUS, "HTTP/1.1 600 X\r\n\r\n"),
    BAD("099", BAD_STATUS, "HTTP/1.1 099 X\r\n\r\n"),
    BAD("000", BAD_STATUS, "HTTP/1.1 000 X\r\n\r\n"),
    BAD("two digits", BAD_STATUS, "HTTP/1.1 20 X\r\n\r\n"),
    BAD("four digits", BAD_STATUS, "HTTP/1.1 2000 X\r\n\r\n"),
    BAD("no digits", BAD_STATUS, "HTTP/1.1 OK\r\n\r\n"),
    BAD("hex", BAD_STATUS, "HTTP/1.1 2a0 X\r\n\r\n"),
    BAD("plus", BAD_STATUS, "HTTP/1.1 +20 X\r\n\r\n"),
    BAD("two blanks", BAD_STATUS, "HTTP/1.1  200 X\r\n\r\n"),
    BAD("tab behind the status", BAD_LINE, "HTTP/1.1 200\tX\r\n\r\n"),
    BAD("letters behind the status", BAD_LINE, "HTTP/1.1 200X\r\n\r\n"),
    BAD("tab behind the version", BAD_LINE, "HTTP/1.1\t200 X\r\n\r\n"),
    BAD("HTTP/2", BAD_VERSION, "HTTP/2.0 200 OK\r\n\r\n"),
    BAD("HTTP/0.9", BAD_VERSION, "HTTP/0.9 200 OK\r\n\r\n"),
    BAD("other protocol", BAD_LINE, "ICY 200 OK\r\n\r\n"),
    BAD("small letters", BAD_LINE, "http/1.1 200 OK\r\n\r\n"),
    BAD("body without head", BAD_LINE, "<html>"),
    BAD("empty line in front", BAD_LINE, "\r\n" OK "\r\n"),
    BAD("NUL in the phrase", BAD_VALUE, "HTTP/1.1 200 O\0K\r\n\r\n"),
    BAD("control byte in the phrase", BAD_VALUE, "HTTP/1.1 200 O\033K\r\n\r\n"),
    BAD("bare LF", BAD_LINE_END, "HTTP/1.1 200 OK\n\r\n"),
    BAD("bare LF, no phrase", BAD_LINE_END, "HTTP/1.1 200\n\r\n"),
    BAD("bare CR", BAD_LINE_END, "HTTP/1.1 200 O\rK\r\n\r\n"),
    BAD("fold", BAD_FOLD, OK "A: b\r\n c\r\n\r\n"),
    BAD("blank before the colon", BAD_NAME, OK "A : b\r\n\r\n"),
    BAD("two lengths", BAD_FRAMING, OK LEN LEN "\r\n"),
    BAD("list of lengths", BAD_FRAMING, OK "Content-Length: 5, 5\r\n\r\n"),
    BAD("bad length", BAD_FRAMING, OK "Content-Length: x\r\n\r\n"),
    BAD("length and chunked", BAD_FRAMING, OK LEN TE "\r\n"),
    BAD("chunked twice", BAD_FRAMING, OK TE TE "\r\n"),
    BAD("chunked in 1.0", BAD_FRAMING, "HTTP/1.0 200 OK\r\n" TE "\r\n"),
    BAD("gzip", BAD_CODING, OK "Transfer-Encoding: gzip\r\n\r\n"),
    BAD("Transfer_Encoding", BAD_FRAMING, OK "Transfer_Encoding: chunked\r\n\r\n"),
    BAD("Connection names Set-Cookie", BAD_CONNECTION, OK "Connection: Set-Cookie\r\n\r\n"),
    BAD("nine fields", TOO_MANY_HEADERS,
        OK "A: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\nA: 5\r\nA: 6\r\nA: 7\r\nA: 8\r\nA: 9\r\n\r\n"),
};

static void response_is_judged_by_its_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct try t;
        try_whole(&t, true, rows[i].answered, rows[i].bytes);
        enum http1_step want = rows[i].error == HTTP1_E_NONE ? HTTP1_DONE : HTTP1_FAILED;
        if (t.step != want || t.p.error != rows[i].error)
            fail_msg("%s: step %d, error %s, want %s", rows[i].says, (int)t.step,
                     http1_error_name(t.p.error), http1_error_name(rows[i].error));
        if (t.step == HTTP1_DONE && t.p.head.framing != rows[i].framing)
            fail_msg("%s: framing %d", rows[i].says, (int)t.p.head.framing);
        try_end(&t);
    }
}

static void cuts_do_not_change_the_outcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        assert_cuts_do_not_matter(true, rows[i].answered, rows[i].bytes);
}

static void status_and_phrase_are_read(void **state)
{
    (void)state;
    struct try t;
    try_whole(&t, true, HTTP1_GET, SPAN("HTTP/1.0 418  I'm a teapot \r\n" LEN "\r\nshort"));
    assert_int_equal(t.step, HTTP1_DONE);
    assert_int_equal(t.p.head.status, 418);
    assert_int_equal(t.p.head.version_minor, 0);
    assert_int_equal(t.p.head.body_bytes, 5);
    assert_span(t.p.head.reason, SPAN("I'm a teapot"));
    try_end(&t);
}

static void several_1xx_are_heads_of_their_own(void **state)
{
    (void)state;
    struct span all =
        SPAN("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
             "HTTP/1.1 200 OK\r\n" LEN "\r\nhello");
    static const uint16_t want[] = {100, 103, 200};
    for (size_t i = 0; i < FB_COUNT(want); i++) {
        struct try t;
        try_whole(&t, true, HTTP1_GET, all);
        assert_int_equal(t.step, HTTP1_DONE);
        assert_int_equal(t.p.head.status, want[i]);
        assert_true(t.p.head.keep_alive);
        all.at += t.p.head.head_bytes;
        all.len -= t.p.head.head_bytes;
        try_end(&t);
    }
    assert_span(all, SPAN("hello"));
}

static void connection_lives_only_behind_a_body_with_an_end(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool want;
    } lives[] = {
        {OK LEN "\r\n", true},
        {OK TE "\r\n", true},
        {OK "\r\n", false},
        {OK LEN "Connection: close\r\n\r\n", false},
        {"HTTP/1.0 200 OK\r\n" LEN "\r\n", false},
        {"HTTP/1.0 200 OK\r\n" LEN "Connection: keep-alive\r\n\r\n", true},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false},
        {"HTTP/1.1 304 X\r\n\r\n", true},
    };
    for (size_t i = 0; i < FB_COUNT(lives); i++) {
        struct try t;
        try_whole(&t, true, HTTP1_GET, span_of(lives[i].bytes));
        assert_int_equal(t.step, HTTP1_DONE);
        if (t.p.head.keep_alive != lives[i].want)
            fail_msg("%s", lives[i].bytes);
        try_end(&t);
    }
}

static void only_101_switches(void **state)
{
    (void)state;
    struct try t;
    try_whole(&t, true, HTTP1_GET,
              SPAN("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
    assert_true(t.p.head.is_upgrade);
    assert_true(t.p.head.is_websocket);
    try_end(&t);
    try_whole(&t, true, HTTP1_GET,
              SPAN(OK "Connection: upgrade\r\nUpgrade: websocket\r\n" LEN "\r\n"));
    assert_false(t.p.head.is_upgrade);
    assert_false(t.p.head.is_websocket);
    try_end(&t);
}

static void length_of_a_missing_body_is_still_told(void **state)
{
    (void)state;
    struct try t;
    try_whole(&t, true, HTTP1_HEAD, SPAN(OK LEN "\r\n"));
    assert_true(t.p.head.has_length);
    assert_int_equal(t.p.head.body_bytes, 5);
    assert_int_equal(t.p.head.framing, HTTP1_BODY_NONE);
    try_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(response_is_judged_by_its_row),
        cmocka_unit_test(cuts_do_not_change_the_outcome),
        cmocka_unit_test(status_and_phrase_are_read),
        cmocka_unit_test(several_1xx_are_heads_of_their_own),
        cmocka_unit_test(connection_lives_only_behind_a_body_with_an_end),
        cmocka_unit_test(only_101_switches),
        cmocka_unit_test(length_of_a_missing_body_is_still_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
