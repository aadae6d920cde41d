/* SPDX-License-Identifier: Apache-2.0 */
/* Request heads: what is taken, what is refused and why, whatever the cuts. */
#include "http1_try.h"

#define H "Host: a\r\n"
#define HEAD "POST / HTTP/1.1\r\n" H

struct row {
    const char *says;
    struct span bytes;
    enum http1_error error;
};

#define BAD(text, cause, raw) ROW(text, .bytes = {raw, sizeof(raw) - 1}, .error = HTTP1_E_##cause)
#define GOOD(text, raw) ROW(text, .bytes = {raw, sizeof(raw) - 1})

static const struct row rows[] = {
    /* request line */
    GOOD("smallest", "GET / HTTP/1.1\r\n" H "\r\n"),
    GOOD("one empty line in front", "\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    BAD("two empty lines in front", BAD_LINE, "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    BAD("bare LF in front", BAD_LINE_END, "\nGET / HTTP/1.1\r\n" H "\r\n"),
    BAD("bare CR in front", BAD_LINE_END, "\rGET / HTTP/1.1\r\n" H "\r\n"),
    BAD("blank in front", BAD_LINE, " GET / HTTP/1.1\r\n" H "\r\n"),
    BAD("no method", BAD_LINE, " / HTTP/1.1\r\n" H "\r\n"),
    BAD("method is no token", BAD_LINE, "G(T / HTTP/1.1\r\n" H "\r\n"),
    BAD("method with a NUL", BAD_LINE, "G\0T / HTTP/1.1\r\n" H "\r\n"),
    BAD("tab behind the method", BAD_LINE, "GET\t/ HTTP/1.1\r\n" H "\r\n"),
    BAD("two blanks behind the method", BAD_LINE, "GET  / HTTP/1.1\r\n" H "\r\n"),
    BAD("two blanks behind the target", BAD_LINE, "GET /  HTTP/1.1\r\n" H "\r\n"),
    BAD("blank in the target", BAD_LINE, "GET /a b HTTP/1.1\r\n" H "\r\n"),
    BAD("tab in the target", BAD_TARGET, "GET /a\tb HTTP/1.1\r\n" H "\r\n"),
    BAD("no target", BAD_LINE, "GET HTTP/1.1\r\n" H "\r\n"),
    BAD("empty target", BAD_LINE, "GET  HTTP/1.1\r\n" H "\r\n"),
    BAD("HTTP/0.9", BAD_LINE, "GET /\r\n"),
    BAD("HTTP/0.9 with fields", BAD_LINE, "GET /\r\n" H "\r\n"),
    BAD("version 0.9", BAD_VERSION, "GET / HTTP/0.9\r\n" H "\r\n"),
    BAD("version 2.0", BAD_VERSION, "GET / HTTP/2.0\r\n" H "\r\n"),
    BAD("preface of HTTP/2", BAD_VERSION, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    BAD("version 9.9", BAD_VERSION, "GET / HTTP/9.9\r\n" H "\r\n"),
    GOOD("version 1.2 counts as 1.1", "GET / HTTP/1.2\r\n" H "\r\n"),
    GOOD("version 1.9 counts as 1.1", "GET / HTTP/1.9\r\n" H "\r\n"),
    BAD("two digits of minor version", BAD_LINE, "GET / HTTP/1.32\r\n" H "\r\n"),
    BAD("two digits of major version", BAD_LINE, "GET / HTTP/11.1\r\n" H "\r\n"),
    BAD("no minor version", BAD_LINE, "GET / HTTP/1\r\n" H "\r\n"),
    BAD("no minor digit", BAD_LINE, "GET / HTTP/1.\r\n" H "\r\n"),
    BAD("blank in the version", BAD_LINE, "GET / HTTP/ 1.1\r\n" H "\r\n"),
    BAD("blank behind the version", BAD_LINE, "GET / HTTP/1.1 \r\n" H "\r\n"),
    BAD("small letters in the version", BAD_LINE, "GET / http/1.1\r\n" H "\r\n"),
    BAD("no slash in the version", BAD_LINE, "GET / HTTP-1.1\r\n" H "\r\n"),
    BAD("CR in the version", BAD_LINE, "GET / HTTP/\r\r1.1\r\n" H "\r\n"),
    BAD("huge version", BAD_LINE, "GET / HTTP/4294967295.255\r\n\r\n"),
    BAD("bare LF behind the version", BAD_LINE_END, "GET / HTTP/1.1\n" H "\r\n"),
    BAD("bare CR behind the version", BAD_LINE_END, "GET / HTTP/1.1\r" H "\r\n"),
    BAD("bare LF behind the target", BAD_LINE, "GET /\n" H "\r\n"),
    /* target */
    BAD("NUL in the target", BAD_TARGET, "GET /\0a HTTP/1.1\r\n" H "\r\n"),
    BAD("DEL in the target", BAD_TARGET, "GET /\177 HTTP/1.1\r\n" H "\r\n"),
    BAD("byte above ASCII in the target", BAD_TARGET, "GET /\303\251 HTTP/1.1\r\n" H "\r\n"),
    BAD("fragment", BAD_TARGET, "GET /a#b HTTP/1.1\r\n" H "\r\n"),
    BAD("backslash in the path", BAD_TARGET, "GET /a\\b HTTP/1.1\r\n" H "\r\n"),
    GOOD("backslash in the query", "GET /a?b\\c HTTP/1.1\r\n" H "\r\n"),
    BAD("no slash in front", BAD_TARGET, "GET a HTTP/1.1\r\n" H "\r\n"),
    BAD("query only", BAD_TARGET, "GET ?a HTTP/1.1\r\n" H "\r\n"),
    BAD("asterisk with GET", BAD_TARGET, "GET * HTTP/1.1\r\n" H "\r\n"),
    GOOD("asterisk with OPTIONS", "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
    BAD("asterisk and more", BAD_TARGET, "OPTIONS *a HTTP/1.1\r\n" H "\r\n"),
    GOOD("absolute form", "GET http://a/b HTTP/1.1\r\n" H "\r\n"),
    GOOD("absolute form, any case", "GET HTTP://A/b HTTP/1.1\r\n" H "\r\n"),
    GOOD("absolute form, https", "GET https://a/b HTTP/1.1\r\n" H "\r\n"),
    GOOD("absolute form, usual port", "GET http://a:80/b HTTP/1.1\r\n" H "\r\n"),
    GOOD("absolute form without path", "GET http://a HTTP/1.1\r\n" H "\r\n"),
    GOOD("absolute form, query only", "GET http://a?b HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, other host", BAD_HOST, "GET http://b/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, other port", BAD_HOST, "GET http://a:81/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, port of the other scheme", BAD_HOST,
        "GET http://a:443/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form without Host", BAD_HOST, "GET http://a/ HTTP/1.1\r\n\r\n"),
    BAD("absolute form, no authority", BAD_HOST, "GET http:///b HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, nothing behind", BAD_TARGET, "GET http:// HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, user", BAD_HOST, "GET http://u@a/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, user and password", BAD_HOST, "GET http://u:p@a/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, other scheme", BAD_TARGET, "GET ftp://a/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute form, one slash", BAD_TARGET, "GET http:/a HTTP/1.1\r\n" H "\r\n"),
    GOOD("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    BAD("CONNECT without port", BAD_TARGET, "CONNECT a HTTP/1.1\r\n" H "\r\n"),
    BAD("CONNECT with a path", BAD_TARGET, "CONNECT /a HTTP/1.1\r\n" H "\r\n"),
    BAD("authority with GET", BAD_TARGET, "GET a:443 HTTP/1.1\r\n" H "\r\n"),
    /* field lines */
    BAD("name with a bracket", BAD_NAME, HEAD "Bad[Name: v\r\n\r\n"),
    BAD("no name", BAD_NAME, HEAD ": v\r\n\r\n"),
    BAD("no colon", BAD_NAME, HEAD "Name\r\n\r\n"),
    BAD("blank before the colon", BAD_NAME, HEAD "Name : v\r\n\r\n"),
    BAD("tab before the colon", BAD_NAME, HEAD "Name\t: v\r\n\r\n"),
    BAD("NUL in a name", BAD_NAME, HEAD "Na\0me: v\r\n\r\n"),
    BAD("byte above ASCII in a name", BAD_NAME, HEAD "Na\205me: v\r\n\r\n"),
    BAD("control byte before a name", BAD_NAME, HEAD "\001Name: v\r\n\r\n"),
    BAD("quoted name", BAD_NAME, HEAD "\"Name\": v\r\n\r\n"),
    BAD("folded value", BAD_FOLD, HEAD "A: v\r\n w\r\n\r\n"),
    BAD("folded value, tab", BAD_FOLD, HEAD "A: v\r\n\tw\r\n\r\n"),
    BAD("blank before the first name", BAD_FOLD, "GET / HTTP/1.1\r\n " H "\r\n"),
    BAD("line of blanks", BAD_FOLD, HEAD " \r\n\r\n"),
    BAD("bare LF behind a value", BAD_LINE_END, HEAD "A: v\nB: w\r\n\r\n"),
    BAD("bare CR in a value", BAD_LINE_END, HEAD "A: v\rw\r\n\r\n"),
    BAD("two CR behind a value", BAD_LINE_END, HEAD "A: v\r\r\n\r\n"),
    BAD("bare LF at the end", BAD_LINE_END, HEAD "A: v\r\n\n"),
    BAD("bare CR at the end", BAD_LINE_END, HEAD "A: v\r\n\rX"),
    BAD("NUL in a value", BAD_VALUE, HEAD "A: v\0w\r\n\r\n"),
    BAD("control byte in a value", BAD_VALUE, HEAD "A: v\007w\r\n\r\n"),
    BAD("vertical tab in a value", BAD_VALUE, HEAD "A: \013v\r\n\r\n"),
    BAD("DEL in a value", BAD_VALUE, HEAD "A: v\177\r\n\r\n"),
    BAD("control byte in a long value", BAD_VALUE, HEAD "A: 0123456789abcdef01234\001\r\n\r\n"),
    GOOD("empty value", HEAD "A:\r\n\r\n"),
    GOOD("value of blanks", HEAD "A: \t \r\n\r\n"),
    GOOD("tab in a value", HEAD "A: v\tw\r\n\r\n"),
    GOOD("blanks around a value", HEAD "A:\t\t v \t\r\n\r\n"),
    GOOD("bytes above ASCII in a value", HEAD "A: \205\223\240\r\n\r\n"),
    GOOD("colon in a value", HEAD "A: b: c\r\n\r\n"),
    GOOD("all token bytes in a name", HEAD "!#$%&'*+-.^_`|~09azAZ: v\r\n\r\n"),
    /* Host */
    BAD("no Host", BAD_HOST, "GET / HTTP/1.1\r\n\r\n"),
    GOOD("no Host in 1.0", "GET / HTTP/1.0\r\n\r\n"),
    BAD("two Host", BAD_HOST, "GET / HTTP/1.1\r\n" H "Host: b\r\n\r\n"),
    BAD("two equal Host", BAD_HOST, "GET / HTTP/1.1\r\n" H H "\r\n"),
    BAD("two Host in 1.0", BAD_HOST, "GET / HTTP/1.0\r\n" H H "\r\n"),
    BAD("empty Host", BAD_HOST, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    BAD("empty Host in 1.0", BAD_HOST, "GET / HTTP/1.0\r\nHost: \r\n\r\n"),
    BAD("user in Host", BAD_HOST, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    BAD("path in Host", BAD_HOST, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    BAD("blank in Host", BAD_HOST, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    BAD("byte above ASCII in Host", BAD_HOST, "GET / HTTP/1.1\r\nHost: \377a\r\n\r\n"),
    BAD("escape in Host", BAD_HOST, "GET / HTTP/1.1\r\nHost: a%41\r\n\r\n"),
    BAD("empty label in Host", BAD_HOST, "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n"),
    BAD("Host of a dot", BAD_HOST, "GET / HTTP/1.1\r\nHost: .\r\n\r\n"),
    BAD("Host of a port", BAD_HOST, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
    BAD("letters in the port", BAD_HOST, "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n"),
    BAD("port 0", BAD_HOST, "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n"),
    BAD("port 65536", BAD_HOST, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    BAD("two ports", BAD_HOST, "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    GOOD("port 65535", "GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n"),
    GOOD("empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n"),
    GOOD("IPv6", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"),
    BAD("IPv6 without end", BAD_HOST, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    BAD("IPv6 without brackets", BAD_HOST, "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"),
    BAD("bad IPv6", BAD_HOST, "GET / HTTP/1.1\r\nHost: [1::2::3]\r\n\r\n"),
    BAD("IPv6 with zone", BAD_HOST, "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n"),
    /* framing */
    GOOD("length", HEAD "Content-Length: 5\r\n\r\n"),
    GOOD("length 0", HEAD "Content-Length: 0\r\n\r\n"),
    GOOD("largest length", HEAD "Content-Length: 9223372036854775807\r\n\r\n"),
    BAD("length beyond 63 bits", BAD_FRAMING, HEAD "Content-Length: 9223372036854775808\r\n\r\n"),
    BAD("length beyond 64 bits", BAD_FRAMING, HEAD "Content-Length: 99999999999999999999\r\n\r\n"),
    BAD("empty length", BAD_FRAMING, HEAD "Content-Length:\r\n\r\n"),
    BAD("plus", BAD_FRAMING, HEAD "Content-Length: +5\r\n\r\n"),
    BAD("minus", BAD_FRAMING, HEAD "Content-Length: -5\r\n\r\n"),
    BAD("hex length", BAD_FRAMING, HEAD "Content-Length: 0x5\r\n\r\n"),
    BAD("octal length", BAD_FRAMING, HEAD "Content-Length: 0o5\r\n\r\n"),
    BAD("leading zero", BAD_FRAMING, HEAD "Content-Length: 05\r\n\r\n"),
    BAD("blank in the length", BAD_FRAMING, HEAD "Content-Length: 1 0\r\n\r\n"),
    BAD("letters in the length", BAD_FRAMING, HEAD "Content-Length: 1Z\r\n\r\n"),
    BAD("fraction", BAD_FRAMING, HEAD "Content-Length: 5.0\r\n\r\n"),
    BAD("list of lengths", BAD_FRAMING, HEAD "Content-Length: 5, 5\r\n\r\n"),
    BAD("two lengths", BAD_FRAMING, HEAD "Content-Length: 5\r\nContent-Length: 10\r\n\r\n"),
    BAD("two equal lengths", BAD_FRAMING, HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    BAD("length, any case, twice", BAD_FRAMING,
        HEAD "content-length: 5\r\nCONTENT-LENGTH: 5\r\n\r\n"),
    GOOD("chunked", HEAD "Transfer-Encoding: chunked\r\n\r\n"),
    GOOD("chunked, any case", HEAD "TRANSFER-ENCODING: Chunked\r\n\r\n"),
    BAD("chunked in 1.0", BAD_FRAMING,
        "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n"),
    BAD("chunked and length", BAD_FRAMING,
        HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    BAD("length and chunked", BAD_FRAMING,
        HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("chunked twice", BAD_FRAMING,
        HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("chunked twice in a line", BAD_FRAMING, HEAD "Transfer-Encoding: chunked, chunked\r\n\r\n"),
    BAD("chunked not last", BAD_FRAMING, HEAD "Transfer-Encoding: chunked, gzip\r\n\r\n"),
    BAD("chunked not last, two lines", BAD_FRAMING,
        HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n"),
    BAD("chunked with a parameter", BAD_FRAMING, HEAD "Transfer-Encoding: chunked;a=b\r\n\r\n"),
    BAD("comma in front", BAD_FRAMING, HEAD "Transfer-Encoding: ,chunked\r\n\r\n"),
    BAD("comma behind", BAD_FRAMING, HEAD "Transfer-Encoding: chunked,\r\n\r\n"),
    BAD("quoted coding", BAD_FRAMING, HEAD "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    BAD("empty coding", BAD_FRAMING, HEAD "Transfer-Encoding:\r\n\r\n"),
    BAD("coding with a blank", BAD_FRAMING, HEAD "Transfer-Encoding: chun ked\r\n\r\n"),
    BAD("coding above ASCII", BAD_FRAMING, HEAD "Transfer-Encoding: \377chunked\377\r\n\r\n"),
    BAD("gzip", BAD_CODING, HEAD "Transfer-Encoding: gzip\r\n\r\n"),
    BAD("identity", BAD_CODING, HEAD "Transfer-Encoding: identity\r\n\r\n"),
    BAD("xchunked", BAD_CODING, HEAD "Transfer-Encoding: xchunked\r\n\r\n"),
    BAD("gzip, chunked", BAD_CODING, HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    BAD("gzip, chunked, two lines", BAD_CODING,
        HEAD "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("gzip with a parameter", BAD_CODING, HEAD "Transfer-Encoding: gzip;q=1\r\n\r\n"),
    BAD("identity and length", BAD_FRAMING,
        HEAD "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n"),
    BAD("Transfer_Encoding", BAD_FRAMING, HEAD "Transfer_Encoding: chunked\r\n\r\n"),
    BAD("Content_Length", BAD_FRAMING, HEAD "Content_Length: 5\r\n\r\n"),
    BAD("-Content-Length", BAD_FRAMING, HEAD "-Content-Length: 5\r\n\r\n"),
    BAD("Content-Length_", BAD_FRAMING, HEAD "Content-Length_: 5\r\n\r\n"),
    BAD("Transfer.Encoding!", BAD_FRAMING, HEAD "Transfer.Encoding!: chunked\r\n\r\n"),
    GOOD("a name that only contains one", HEAD "X-Content-Length: 5\r\n\r\n"),
    GOOD("underscores elsewhere", HEAD "My_Custom_Header: 5\r\n\r\n"),
    /* Connection, Expect */
    BAD("Connection names Host", BAD_CONNECTION, HEAD "Connection: Host\r\n\r\n"),
    BAD("Connection names Content-Length", BAD_CONNECTION,
        HEAD "Connection: content-length\r\n\r\n"),
    BAD("Connection names the coding", BAD_CONNECTION,
        HEAD "Connection: close, Transfer-Encoding\r\n\r\n"),
    BAD("Connection names Authorization", BAD_CONNECTION, HEAD "Connection: Authorization\r\n\r\n"),
    BAD("Connection names X-Forwarded-For", BAD_CONNECTION,
        HEAD "Connection: keep-alive\r\nConnection: X-Forwarded-For\r\n\r\n"),
    BAD("Connection names 33 fields", BAD_CONNECTION,
        HEAD
        "Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\r\n\r\n"),
    GOOD("Connection names 32 fields", HEAD
         "Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\r\n\r\n"),
    GOOD("Connection with junk", HEAD "Connection: ,, a b, \"x\",\r\n\r\n"),
    GOOD("Expect", HEAD "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"),
    BAD("other Expect", BAD_EXPECT, HEAD "Expect: 200-ok\r\n\r\n"),
    GOOD("other Expect in 1.0", "POST / HTTP/1.0\r\n" H "Expect: 200-ok\r\n\r\n"),
    /* limits: line 256, header 1024, 8 fields */
    GOOD("eight fields", HEAD "A: 2\r\nA: 3\r\nA: 4\r\nA: 5\r\nA: 6\r\nA: 7\r\nA: 8\r\n\r\n"),
    BAD("nine fields", TOO_MANY_HEADERS,
        HEAD "A: 2\r\nA: 3\r\nA: 4\r\nA: 5\r\nA: 6\r\nA: 7\r\nA: 8\r\nA: 9\r\n\r\n"),
};

static void request_is_judged_by_its_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct try t;
        try_whole(&t, false, HTTP1_OTHER, rows[i].bytes);
        enum http1_step want = rows[i].error == HTTP1_E_NONE ? HTTP1_DONE : HTTP1_FAILED;
        if (t.step != want || t.p.error != rows[i].error)
            fail_msg("%s: step %d, error %s, want %s", rows[i].says, (int)t.step,
                     http1_error_name(t.p.error), http1_error_name(rows[i].error));
        if (t.step == HTTP1_DONE)
            assert_int_equal(t.p.head.head_bytes, rows[i].bytes.len);
        try_end(&t);
    }
}

static void cuts_do_not_change_the_outcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        assert_cuts_do_not_matter(false, HTTP1_OTHER, rows[i].bytes);
}

static void bytes_of_the_next_message_are_left_alone(void **state)
{
    (void)state;
    struct try t;
    struct span all = SPAN(HEAD "\r\n\0\1\2 junk");
    try_whole(&t, false, HTTP1_OTHER, all);
    assert_int_equal(t.step, HTTP1_DONE);
    assert_int_equal(t.p.head.head_bytes, sizeof(HEAD "\r\n") - 1);
    try_end(&t);
}

/* A reader that shares no code with the parser: every accepted head is lines of token, colon,
 * value. */
static void assert_strict(struct span head)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    const char *line_end = memchr(head.at + 2, '\n', head.len - 2);
    const char *at = line_end + 1;
    const char *end = head.at + head.len - 2;
    while (at < end) {
        const char *colon = memchr(at, ':', (size_t)(end - at));
        assert_non_null(colon);
        assert_true(colon > at);
        for (; at < colon; at++) {
            bool is_alnum = (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') ||
                            (*at >= 'A' && *at <= 'Z');
            assert_true(is_alnum || (*at && strchr(others, *at)));
        }
        for (; *at != '\r'; at++) {
            unsigned char c = (unsigned char)*at;
            assert_true(c >= 0x20 || c == '\t');
            assert_true(c != 0x7f);
        }
        assert_int_equal(at[1], '\n');
        at += 2;
    }
    assert_memory_equal(end, "\r\n", 2);
}

static void assert_inside(const struct try *t, struct span all)
{
    const struct http1_head *h = &t->p.head;
    const struct span spans[] = {h->method_text, h->target,    h->path,  h->query,
                                 h->host,        h->host_name, h->reason};
    for (size_t i = 0; i < FB_COUNT(spans); i++)
        assert_true(is_inside(spans[i], all));
    for (uint32_t i = 0; i < h->field_count; i++) {
        assert_true(is_inside(h->fields[i].name, all));
        assert_true(is_inside(h->fields[i].value, all));
    }
}

/* Every byte of every good head, replaced, removed or doubled. */
static void mutated_request_is_refused_or_still_strict(void **state)
{
    (void)state;
    static const char bytes[] = "\0\t\n\r :,/;*#%\\\"a\177\200\377";
    char text[1024];
    unsigned taken = 0;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct span good = rows[i].bytes;
        for (size_t at = 0; rows[i].error == HTTP1_E_NONE && at < good.len; at++) {
            for (size_t b = 0; b < sizeof(bytes) + 1; b++) {
                size_t len = good.len;
                memcpy(text, good.at, len);
                if (b < sizeof(bytes) - 1) {
                    text[at] = bytes[b];
                } else if (b == sizeof(bytes) - 1) {
                    memmove(text + at, text + at + 1, --len - at);
                } else {
                    memmove(text + at + 1, text + at, len++ - at);
                }
                struct try t;
                try_whole(&t, false, HTTP1_OTHER, (struct span){text, len});
                assert_inside(&t, (struct span){t.bytes, len});
                if (t.step == HTTP1_DONE) {
                    assert_strict((struct span){t.bytes, t.p.head.head_bytes});
                    taken++;
                }
                try_end(&t);
            }
        }
    }
    assert_true(taken > 100); /* else the test proves nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_is_judged_by_its_row),
        cmocka_unit_test(cuts_do_not_change_the_outcome),
        cmocka_unit_test(bytes_of_the_next_message_are_left_alone),
        cmocka_unit_test(mutated_request_is_refused_or_still_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
