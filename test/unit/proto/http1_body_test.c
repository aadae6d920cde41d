/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies: chunk syntax, trailers, lengths, the end of the connection, any cut. */
#include "http1_try.h"

struct read {
    char payload[8192];
    size_t len, used;
    enum http1_step step;
    enum http1_error error;
    struct http1_trailers trailers;
    char text[64];
    struct http1_field fields[3];
};

/* Gives <all> in pieces of <piece> bytes, each from memory of its own. */
static void read_body(struct read *r, enum http1_framing framing, uint64_t length, struct span all,
                      size_t piece)
{
    struct http1_body b;
    memset(r, 0, sizeof(*r));
    r->trailers = (struct http1_trailers){r->text, sizeof(r->text), r->fields, 3, 0};
    http1_body_begin_as(&b, framing, length, &r->trailers);
    r->step = HTTP1_MORE;
    for (;;) {
        size_t rest = all.len - r->used;
        size_t give = rest < piece ? rest : piece;
        char *copy = malloc(give ? give : 1);
        struct span data;
        size_t used;
        fb_assert(copy != NULL);
        if (give)
            memcpy(copy, all.at + r->used, give);
        r->step = http1_body_next(&b, (struct span){copy, give}, &data, &used);
        assert_true(used <= give);
        assert_true(is_inside(data, (struct span){copy, give}));
        if (r->step == HTTP1_DATA)
            assert_true(data.len > 0);
        else
            assert_int_equal(data.len, 0);
        memcpy(r->payload + r->len, data.at, data.len);
        r->len += data.len;
        r->used += used;
        free(copy);
        if (r->step == HTTP1_DONE || r->step == HTTP1_FAILED || give == 0)
            break;
        if (r->step == HTTP1_MORE)
            assert_int_equal(used, give);
    }
    r->error = b.error;
    assert_int_equal(b.payload_bytes, r->len);
}

struct row {
    const char *says;
    struct span bytes;
    const char *payload; /* NULL: refused with <error> */
    enum http1_error error;
    size_t left; /* bytes of the next message */
};

#define GOOD(text, want, raw) ROW(text, .bytes = {raw, sizeof(raw) - 1}, .payload = want)
#define BAD(text, cause, raw) ROW(text, .bytes = {raw, sizeof(raw) - 1}, .error = HTTP1_E_##cause)
#define END "\r\n0\r\n\r\n"

static const struct row rows[] = {
    GOOD("empty", "", "0\r\n\r\n"),
    GOOD("one chunk", "hello", "5\r\nhello" END),
    GOOD("two chunks", "helloab", "5\r\nhello\r\n2\r\nab" END),
    GOOD("hex, both cases", "0123456789ab0123456789abc",
         "c\r\n0123456789ab\r\nD\r\n0123456789abc" END),
    GOOD("leading zeros", "hello", "0000000000000005\r\nhello\r\n000\r\n\r\n"),
    GOOD("payload like framing", "\r\n0\r\n\r\n", "7\r\n\r\n0\r\n\r\n" END),
    GOOD("extension", "hello", "5;a\r\nhello" END),
    GOOD("extension with a value", "hello", "5;a=b\r\nhello" END),
    GOOD("extensions", "hello", "5;a=b;c;d=e\r\nhello" END),
    GOOD("quoted extension", "hello", "5;a=\"b c;\t\"\r\nhello" END),
    GOOD("escapes in quotes", "hello", "5;a=\"\\\"\\\\\"\r\nhello" END),
    GOOD("empty quotes", "hello", "5;a=\"\";b\r\nhello" END),
    GOOD("blanks around the parts", "hello", "5 ; a = \"b\" ;\tc\t=\td\r\nhello" END),
    GOOD("extension of the last chunk", "", "0;a=b\r\n\r\n"),
    GOOD("trailer", "", "0\r\nX-A: b\r\n\r\n"),
    GOOD("trailer without value", "", "0\r\nX-A:\r\n\r\n"),
    BAD("no digits", BAD_CHUNK, "\r\nhello"),
    BAD("no digits before an extension", BAD_CHUNK, ";a\r\nhello"),
    BAD("blank before the size", BAD_CHUNK, " 5\r\nhello" END),
    BAD("blank behind the size", BAD_CHUNK, "5 \r\nhello" END),
    BAD("tab behind the size", BAD_CHUNK, "5\t\r\nhello" END),
    BAD("plus", BAD_CHUNK, "+5\r\nhello" END),
    BAD("minus", BAD_CHUNK, "-5\r\nhello" END),
    BAD("0x", BAD_CHUNK, "0x5\r\nhello" END),
    BAD("underscore", BAD_CHUNK, "1_0\r\nhello world!!!!!" END),
    BAD("letters", BAD_CHUNK, "5g\r\nhello" END),
    BAD("comma", BAD_CHUNK, "5,5\r\nhello" END),
    BAD("dot", BAD_CHUNK, "5.0\r\nhello" END),
    BAD("byte above ASCII", BAD_CHUNK, "5\240\r\nhello" END),
    BAD("NUL", BAD_CHUNK, "5\0\r\nhello" END),
    BAD("17 digits", BAD_CHUNK, "00000000000000005\r\nhello" END),
    BAD("64 bits", BAD_CHUNK, "ffffffffffffffff\r\n"),
    BAD("beyond 63 bits", BAD_CHUNK, "8000000000000000\r\n"),
    BAD("bare LF behind the size", BAD_CHUNK, "5\nhello" END),
    BAD("bare CR behind the size", BAD_CHUNK, "5\rhello" END),
    BAD("two CR behind the size", BAD_CHUNK, "5\r\r\nhello" END),
    BAD("bare LF behind the data", BAD_CHUNK, "5\r\nhello\n0\r\n\r\n"),
    BAD("bare CR behind the data", BAD_CHUNK, "5\r\nhello\r0\r\n\r\n"),
    BAD("data too long", BAD_CHUNK, "5\r\nhelloX\r\n0\r\n\r\n"),
    BAD("data too short", BAD_CHUNK, "5\r\nhell\r\n0\r\n\r\n"),
    BAD("semicolon alone", BAD_CHUNK, "5;\r\nhello" END),
    BAD("two semicolons", BAD_CHUNK, "5;;a\r\nhello" END),
    BAD("semicolon at the end", BAD_CHUNK, "5;a;\r\nhello" END),
    BAD("extension without name", BAD_CHUNK, "5;=b\r\nhello" END),
    BAD("extension without value", BAD_CHUNK, "5;a=\r\nhello" END),
    BAD("extension name is no token", BAD_CHUNK, "5;a[=b\r\nhello" END),
    BAD("extension value is no token", BAD_CHUNK, "5;a=b]\r\nhello" END),
    BAD("extension with two values", BAD_CHUNK, "5;a=b c\r\nhello" END),
    BAD("extension with two names", BAD_CHUNK, "5;a b\r\nhello" END),
    BAD("blank behind an extension", BAD_CHUNK, "5;a=b \r\nhello" END),
    BAD("blank behind an extension name", BAD_CHUNK, "5;a \r\nhello" END),
    BAD("quotes without end", BAD_CHUNK, "5;a=\"b\r\nhello" END),
    BAD("bytes behind quotes", BAD_CHUNK, "5;a=\"b\"c\r\nhello" END),
    BAD("control byte in quotes", BAD_CHUNK, "5;a=\"\001\"\r\nhello" END),
    BAD("escaped control byte", BAD_CHUNK, "5;a=\"\\\001\"\r\nhello" END),
    BAD("bare LF in quotes", BAD_CHUNK, "5;a=\"\n\"\r\nhello" END),
    BAD("bare CR in an extension", BAD_CHUNK, "5;a\rb\r\nhello" END),
    BAD("bare LF in an extension", BAD_CHUNK, "5;a\nb\r\nhello" END),
    BAD("HTTP in place of a chunk", BAD_CHUNK, "GET / HTTP/1.1\r\n"),
    BAD("trailer without colon", BAD_TRAILER, "0\r\nX-A\r\n\r\n"),
    BAD("trailer without name", BAD_TRAILER, "0\r\n: b\r\n\r\n"),
    BAD("blank before the colon", BAD_TRAILER, "0\r\nX-A : b\r\n\r\n"),
    BAD("folded trailer", BAD_TRAILER, "0\r\nX-A: b\r\n c\r\n\r\n"),
    BAD("control byte in a trailer", BAD_TRAILER, "0\r\nX-A: \001\r\n\r\n"),
    BAD("bare LF behind a trailer", BAD_TRAILER, "0\r\nX-A: b\n\r\n"),
    BAD("bare CR in a trailer", BAD_TRAILER, "0\r\nX-A: b\rc\r\n\r\n"),
    BAD("bare LF at the end", BAD_TRAILER, "0\r\n\n"),
    BAD("bare CR at the end", BAD_TRAILER, "0\r\n\rX"),
    BAD("request line in the trailers", BAD_TRAILER, "0\r\nGET / HTTP/1.1\r\n\r\n"),
    BAD("Transfer_Encoding in the trailers", BAD_TRAILER, "0\r\nTransfer_Encoding: x\r\n\r\n"),
    BAD("four kept trailers", TRAILERS_TOO_LARGE, "0\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n"),
    BAD("trailers of more than 64 bytes", TRAILERS_TOO_LARGE,
        "0\r\nX-A: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n\r\n"),
};

static void body_is_judged_by_its_row_whatever_the_pieces(void **state)
{
    (void)state;
    static struct read r;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        for (size_t piece = 1; piece <= rows[i].bytes.len; piece++) {
            read_body(&r, HTTP1_BODY_CHUNKED, 0, rows[i].bytes, piece);
            enum http1_step want = rows[i].payload ? HTTP1_DONE : HTTP1_FAILED;
            if (r.step != want || r.error != rows[i].error)
                fail_msg("%s: step %d, error %s, pieces of %zu", rows[i].says, (int)r.step,
                         http1_error_name(r.error), piece);
            if (!rows[i].payload)
                continue;
            assert_span((struct span){r.payload, r.len}, span_of(rows[i].payload));
            assert_int_equal(r.used, rows[i].bytes.len);
        }
    }
}

static void bytes_of_the_next_message_are_left_alone(void **state)
{
    (void)state;
    static struct read r;
    for (size_t piece = 1; piece < 30; piece++) {
        read_body(&r, HTTP1_BODY_CHUNKED, 0, SPAN("1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1"), piece);
        assert_int_equal(r.step, HTTP1_DONE);
        assert_int_equal(r.used, 11);
        read_body(&r, HTTP1_BODY_LENGTH, 3, SPAN("abcGET"), piece);
        assert_int_equal(r.used, 3);
        assert_span((struct span){r.payload, r.len}, SPAN("abc"));
    }
    read_body(&r, HTTP1_BODY_NONE, 0, SPAN("GET"), 3);
    assert_int_equal(r.step, HTTP1_DONE);
    assert_int_equal(r.used, 0);
}

static void trailers_are_filtered(void **state)
{
    (void)state;
    static struct read r;
    static const char *const dropped[] = {
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Host: b",
        "Authorization: x",
        "Cookie: a=b",
        "Set-Cookie: a=b",
        "Content-Type: a/b",
        "Trailer: x",
        "TE: x",
        "Connection: close",
        "Expect: x",
        "Max-Forwards: 1",
        "Cache-Control: x",
        "Proxy-Foo: x",
        "Content-Encoding: x",
        "Content-Range: x",
        "X-Forwarded-By: x",
        "If-Range: x",
        "Sec-Fetch-Site: x",
    };
    for (size_t i = 0; i < FB_COUNT(dropped); i++) {
        char text[256];
        int len = snprintf(text, sizeof(text), "0\r\nX-A: 1\r\n%s\r\nX-B:  2 \r\n\r\n", dropped[i]);
        for (size_t piece = 1; piece < 40; piece += 38) {
            read_body(&r, HTTP1_BODY_CHUNKED, 0, (struct span){text, (size_t)len}, piece);
            assert_int_equal(r.step, HTTP1_DONE);
            if (r.trailers.field_count != 2)
                fail_msg("%s", dropped[i]);
            assert_span(r.fields[0].name, SPAN("X-A"));
            assert_span(r.fields[0].value, SPAN("1"));
            assert_span(r.fields[1].name, SPAN("X-B"));
            assert_span(r.fields[1].value, SPAN("2"));
        }
    }
}

static void trailers_without_a_place_are_dropped_up_to_a_limit(void **state)
{
    (void)state;
    static char text[16384];
    struct http1_body b;
    struct span data;
    size_t used;
    int head = snprintf(text, sizeof(text), "0\r\nX-A: ");
    for (size_t more = 0; more < 2; more++) {
        size_t len = (size_t)head;
        size_t fill = HTTP1_TRAILER_DROP_MAX_BYTES - strlen("X-A: \r\n") + more;
        memset(text + len, 'a', fill);
        memcpy(text + len + fill, "\r\n\r\n", 4);
        len += fill + 4;
        http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
        enum http1_step step = http1_body_next(&b, (struct span){text, len}, &data, &used);
        assert_int_equal(step, more ? HTTP1_FAILED : HTTP1_DONE);
        assert_int_equal(b.error, more ? HTTP1_E_TRAILERS_TOO_LARGE : HTTP1_E_NONE);
    }
}

/* Feeds one chunk of <payload> bytes with <ext> bytes of extension; the size line is 3 digits. */
static enum http1_step feed_chunk(struct http1_body *b, size_t payload, size_t ext)
{
    static char text[32768];
    struct span data;
    size_t used;
    size_t len = (size_t)snprintf(text, sizeof(text), "%03zx;", payload);
    memset(text + len, 'a', ext - 1);
    len += ext - 1;
    memcpy(text + len, "\r\n", 2);
    memset(text + len + 2, 'b', payload);
    memcpy(text + len + 2 + payload, "\r\n", 2);
    struct span in = {text, len + payload + 4};
    enum http1_step step;
    while ((step = http1_body_next(b, in, &data, &used)) == HTTP1_DATA) {
        in.at += used;
        in.len -= used;
    }
    return step;
}

static void extensions_may_not_outweigh_the_payload(void **state)
{
    (void)state;
    struct http1_body b;
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    for (size_t i = 0; i < 2000; i++) /* 2000 signed chunks: 170 kB of extensions */
        assert_int_equal(feed_chunk(&b, 512, 85), HTTP1_MORE);
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    assert_int_equal(feed_chunk(&b, 1, HTTP1_CHUNK_EXCESS_MAX_BYTES), HTTP1_MORE);
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    assert_int_equal(feed_chunk(&b, 1, HTTP1_CHUNK_EXCESS_MAX_BYTES + 1), HTTP1_FAILED);
    assert_int_equal(b.error, HTTP1_E_CHUNK_OVERHEAD);
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    size_t chunks = 0;
    while (feed_chunk(&b, 1, 85) == HTTP1_MORE)
        chunks++;
    assert_int_equal(chunks, HTTP1_CHUNK_EXCESS_MAX_BYTES / 84);
}

static void payload_that_went_another_way_counts(void **state)
{
    (void)state;
    struct http1_body b;
    struct span data;
    size_t used;
    http1_body_begin_as(&b, HTTP1_BODY_LENGTH, 10, NULL);
    assert_int_equal(http1_body_next(&b, SPAN("abc"), &data, &used), HTTP1_DATA);
    assert_int_equal(http1_body_skip(&b, 5), HTTP1_DATA);
    assert_int_equal(b.left, 2);
    assert_int_equal(http1_body_skip(&b, 2), HTTP1_DONE);
    assert_int_equal(b.payload_bytes, 10);
    assert_int_equal(http1_body_end(&b), HTTP1_DONE);
}

static void end_of_the_connection_ends_only_a_body_without_length(void **state)
{
    (void)state;
    struct http1_body b;
    struct span data;
    size_t used;
    http1_body_begin_as(&b, HTTP1_BODY_CLOSE, 0, NULL);
    assert_int_equal(http1_body_next(&b, SPAN("abc"), &data, &used), HTTP1_DATA);
    assert_int_equal(data.len, 3);
    assert_int_equal(http1_body_end(&b), HTTP1_DONE);
    http1_body_begin_as(&b, HTTP1_BODY_LENGTH, 4, NULL);
    assert_int_equal(http1_body_next(&b, SPAN("abc"), &data, &used), HTTP1_DATA);
    assert_int_equal(http1_body_end(&b), HTTP1_FAILED);
    assert_int_equal(b.error, HTTP1_E_CUT);
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    assert_int_equal(http1_body_next(&b, SPAN("0\r\n"), &data, &used), HTTP1_MORE);
    assert_int_equal(http1_body_end(&b), HTTP1_FAILED);
    http1_body_begin_as(&b, HTTP1_BODY_LENGTH, 0, NULL);
    assert_int_equal(http1_body_end(&b), HTTP1_DONE);
    http1_body_begin_as(&b, HTTP1_BODY_NONE, 0, NULL);
    assert_int_equal(http1_body_end(&b), HTTP1_DONE);
}

static void body_follows_its_head(void **state)
{
    (void)state;
    struct try t;
    struct http1_body b;
    struct span data;
    size_t used;
    try_whole(&t, false, HTTP1_OTHER,
              SPAN("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabc"));
    http1_body_begin(&b, &t.p.head, NULL);
    struct span in = {t.bytes + t.p.head.head_bytes, 3};
    assert_int_equal(http1_body_next(&b, in, &data, &used), HTTP1_DATA);
    assert_span(data, SPAN("ab"));
    assert_int_equal(http1_body_next(&b, SPAN("c"), &data, &used), HTTP1_DONE);
    try_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(body_is_judged_by_its_row_whatever_the_pieces),
        cmocka_unit_test(bytes_of_the_next_message_are_left_alone),
        cmocka_unit_test(trailers_are_filtered),
        cmocka_unit_test(trailers_without_a_place_are_dropped_up_to_a_limit),
        cmocka_unit_test(extensions_may_not_outweigh_the_payload),
        cmocka_unit_test(payload_that_went_another_way_counts),
        cmocka_unit_test(end_of_the_connection_ends_only_a_body_without_length),
        cmocka_unit_test(body_follows_its_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
