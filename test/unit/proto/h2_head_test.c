/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of HTTP/2: what is taken, what is refused and how, what HTTP/1 is told. */
#include "proto/h2_head.h"
#include "proto/http1_write.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define FIELDS 8
static const struct http1_limits limits = {200, 400, FIELDS};
static char text[4096];
static struct http1_field fields[FIELDS + 4];

struct pair {
    const char *name, *value;
};
#define GET                                                                                        \
    {":method", "GET"}, {":scheme", "http"}, {":authority", "a"},                                  \
    {                                                                                              \
        ":path", "/x?y"                                                                            \
    }
struct row {
    const char *says;
    struct pair pairs[14];
    enum http1_error error;
    bool is_malformed, has_body;
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
#define GOOD(text, ...) ROW(text, .pairs = {__VA_ARGS__})
#define MALFORMED(text, ...)                                                                       \
    ROW(text, .pairs = {__VA_ARGS__}, .error = HTTP1_E_BAD_LINE, .is_malformed = true)
#define BAD(text, cause, ...) ROW(text, .pairs = {__VA_ARGS__}, .error = HTTP1_E_##cause)

static const struct row rows[] = {
    GOOD("smallest", GET),
    GOOD("host instead of authority", {":method", "GET"}, {":scheme", "http"}, {":path", "/"},
         {"host", "a"}),
    GOOD("host that agrees", GET, {"host", "A"}),
    GOOD("https in clear", {":method", "GET"}, {":scheme", "https"}, {":authority", "a"},
         {":path", "/"}),
    GOOD("asterisk", {":method", "OPTIONS"}, {":scheme", "http"}, {":authority", "a"},
         {":path", "*"}),
    GOOD("empty value", GET, {"x", ""}),
    GOOD("trailers in te", GET, {"te", "trailers"}),
    BAD("host that differs", BAD_HOST, GET, {"host", "b"}),
    BAD("two hosts", BAD_HOST, GET, {"host", "a"}, {"host", "a"}),
    BAD("user in the authority", BAD_HOST, {":method", "GET"}, {":scheme", "http"},
        {":authority", "u@a"}, {":path", "/"}),
    BAD("no authority at all", BAD_HOST, {":method", "GET"}, {":scheme", "http"}, {":path", "/"}),
    BAD("asterisk of GET", BAD_TARGET, {":method", "GET"}, {":scheme", "http"}, {":authority", "a"},
        {":path", "*"}),
    BAD("backslash", BAD_TARGET, {":method", "GET"}, {":scheme", "http"}, {":authority", "a"},
        {":path", "/a\\b"}),
    BAD("expect", BAD_EXPECT, GET, {"expect", "tea"}),
    BAD("many fields", TOO_MANY_HEADERS, GET, {"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}, {"e", ""},
        {"f", ""}, {"g", ""}, {"h", ""}, {"i", ""}),
    MALFORMED("connection", GET, {"connection", "close"}),
    MALFORMED("keep-alive", GET, {"keep-alive", "1"}),
    MALFORMED("proxy-connection", GET, {"proxy-connection", "close"}),
    MALFORMED("transfer-encoding", GET, {"transfer-encoding", "chunked"}),
    MALFORMED("upgrade", GET, {"upgrade", "h2c"}),
    MALFORMED("te", GET, {"te", "gzip"}),
    MALFORMED("te with trailers and more", GET, {"te", "trailers, gzip"}),
    MALFORMED("upper case", GET, {"X", "1"}),
    MALFORMED("name with a blank", GET, {"x y", "1"}),
    MALFORMED("name with a colon", GET, {"x:", "1"}),
    MALFORMED("CR in a value", GET, {"x", "a\rb"}),
    MALFORMED("LF in a value", GET, {"x", "a\nb"}),
    MALFORMED("blank behind a value", GET, {"x", "a "}),
    MALFORMED("tab in front of a value", GET, {"x", "\ta"}),
    MALFORMED("pseudo field last", GET, {"x", "1"}, {":path", "/"}),
    MALFORMED("two methods", GET, {":method", "GET"}),
    MALFORMED("two schemes", GET, {":scheme", "http"}),
    MALFORMED("two authorities", GET, {":authority", "a"}),
    MALFORMED("two paths", GET, {":path", "/"}),
    MALFORMED("empty authority", {":method", "GET"}, {":scheme", "http"}, {":authority", ""},
              {":path", "/"}),
    MALFORMED("another scheme", {":method", "GET"}, {":scheme", "ftp"}, {":authority", "a"},
              {":path", "/"}),
    MALFORMED("no method", {":scheme", "http"}, {":authority", "a"}, {":path", "/"}),
    MALFORMED("method is no token", {":method", "G T"}, {":scheme", "http"}, {":authority", "a"},
              {":path", "/"}),
    MALFORMED("no scheme", {":method", "GET"}, {":authority", "a"}, {":path", "/"}),
    MALFORMED("no path", {":method", "GET"}, {":scheme", "http"}, {":authority", "a"}),
    MALFORMED("absolute path", {":method", "GET"}, {":scheme", "http"}, {":authority", "a"},
              {":path", "http://b/"}),
    MALFORMED("path with a fragment", {":method", "GET"}, {":scheme", "http"}, {":authority", "a"},
              {":path", "/#a"}),
    MALFORMED("status", GET, {":status", "200"}),
    MALFORMED("length without a body", GET, {"content-length", "3"}),
    MALFORMED("two lengths", GET, {"content-length", "0"}, {"content-length", "0"}),
    MALFORMED("length with a sign", GET, {"content-length", "+0"}),
    MALFORMED("nearly a length", GET, {"content_length", "3"}),
    MALFORMED("nearly a coding", GET, {"transfer_encoding", "chunked"}),
    MALFORMED("CONNECT with a path", {":method", "CONNECT"}, {":authority", "a:1"}, {":path", "/"}),
    MALFORMED("protocol without CONNECT", GET, {":protocol", "websocket"}),
    BAD("another protocol", BAD_CODING, {":method", "CONNECT"}, {":scheme", "http"},
        {":authority", "a"}, {":path", "/"}, {":protocol", "udp"}),
};

static enum http1_error build(struct h2_head *h, const struct pair *pairs, bool is_last)
{
    h2_head_begin(h, &limits, text, fields);
    for (size_t i = 0; i < FB_COUNT(rows[0].pairs) && pairs[i].name; i++)
        h2_head_take(h, span_of(pairs[i].name), span_of(pairs[i].value));
    return h2_head_finish(h, is_last, 7);
}

static void a_head_is_taken_or_refused_for_its_cause(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct h2_head h;
        enum http1_error error = build(&h, rows[i].pairs, true);
        if (error != rows[i].error || h.is_malformed != rows[i].is_malformed)
            print_message("%s: %s\n", rows[i].says, http1_error_name(error));
        assert_int_equal(error, rows[i].error);
        assert_int_equal(h.is_malformed, rows[i].is_malformed);
    }
}

static void a_head_has_the_facts_of_http1(void **state)
{
    static const struct pair pairs[14] = {{":method", "POST"},
                                          {":scheme", "http"},
                                          {":authority", "a.b.:81"},
                                          {":path", "/p?q"},
                                          {"x", "1"},
                                          {"te", "trailers"},
                                          {"expect", "100-continue"},
                                          {"content-length", "3"}};
    struct h2_head h;
    (void)state;
    assert_int_equal(build(&h, pairs, false), HTTP1_E_NONE);
    const struct http1_head *head = &h.p.head;
    assert_int_equal(head->method, HTTP1_POST);
    assert_int_equal(head->framing, HTTP1_BODY_LENGTH);
    assert_int_equal(head->body_bytes, 3);
    assert_int_equal(head->host_port, 81);
    assert_true(span_eq(head->host_name, SPAN("a.b")));
    assert_true(span_eq(head->path, SPAN("/p")));
    assert_true(span_eq(head->query, SPAN("q")));
    assert_true(head->te_trailers);
    assert_true(head->expect_continue);
    assert_true(head->keep_alive);
    assert_int_equal(head->version_minor, 1);
}

static void a_body_of_unknown_length_is_chunked(void **state)
{
    static const struct pair pairs[14] = {GET};
    struct h2_head h;
    (void)state;
    assert_int_equal(build(&h, pairs, false), HTTP1_E_NONE);
    assert_int_equal(h.p.head.framing, HTTP1_BODY_CHUNKED);
    assert_int_equal(build(&h, pairs, true), HTTP1_E_NONE);
    assert_int_equal(h.p.head.framing, HTTP1_BODY_NONE);
}

static void crumbs_become_one_cookie(void **state)
{
    static const struct pair pairs[14] = {GET, {"cookie", "a=1"}, {"x", "1"}, {"cookie", "b=2"}};
    struct h2_head h;
    char out_text[256];
    (void)state;
    assert_int_equal(build(&h, pairs, true), HTTP1_E_NONE);
    struct http1_out out = http1_out(out_text, sizeof out_text);
    http1_put_fields(&out, &h.p.head, 0);
    assert_true(span_eq(http1_out_span(&out), SPAN("x: 1\r\ncookie: a=1; b=2\r\n")));
}

static void an_extended_connect_becomes_an_upgrade(void **state)
{
    static const struct pair pairs[14] = {{":method", "CONNECT"}, {":protocol", "websocket"},
                                          {":scheme", "http"},    {":authority", "a"},
                                          {":path", "/chat"},     {"sec-websocket-version", "13"}};
    struct h2_head h;
    (void)state;
    assert_int_equal(build(&h, pairs, false), HTTP1_E_NONE);
    const struct http1_head *head = &h.p.head;
    assert_int_equal(head->method, HTTP1_GET);
    assert_true(span_eq(head->method_text, SPAN("GET")));
    assert_true(head->is_websocket);
    assert_int_equal(head->framing, HTTP1_BODY_NONE);
    assert_true(span_eq(http1_find(head, HTTP1_H_UPGRADE)->value, SPAN("websocket")));
    struct span key = http1_find(head, HTTP1_H_SEC_WEBSOCKET_KEY)->value;
    assert_int_equal(key.len, 24);
    assert_memory_equal(key.at + 22, "==", 2);
    assert_int_equal(build(&h, pairs, true), HTTP1_E_BAD_LINE); /* a tunnel needs an open stream */
}

static void lines_that_are_too_long_are_named(void **state)
{
    char value[512];
    struct h2_head h;
    (void)state;
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    const struct pair large[14] = {GET, {"y", value}};
    assert_int_equal(build(&h, large, true), HTTP1_E_HEADERS_TOO_LARGE);
    value[0] = '/';
    const struct pair line[14] = {
        {":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", value}};
    assert_int_equal(build(&h, line, true), HTTP1_E_LINE_TOO_LONG);
    assert_false(h.is_malformed);
}

static void a_head_that_waits_may_move(void **state)
{
    static char other[4096];
    static struct http1_field other_fields[FIELDS + 4];
    struct h2_head h;
    (void)state;
    h2_head_begin(&h, &limits, text, fields);
    h2_head_take(&h, SPAN(":method"), SPAN("GET"));
    h2_head_take(&h, SPAN(":authority"), SPAN("host"));
    h2_head_take(&h, SPAN("x"), SPAN("1")); /* malformed order comes later: only moving is tried */
    memcpy(other, text, h.len);
    memcpy(other_fields, fields, sizeof fields);
    memset(text, '#', sizeof text);
    h2_head_move(&h, other, other_fields);
    assert_true(span_eq(h.p.head.method_text, SPAN("GET")));
    assert_true(span_eq(h.authority, SPAN("host")));
    assert_true(span_eq(h.p.head.fields[0].value, SPAN("1")));
}

static void a_priority_is_read_as_a_dictionary_with_its_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        uint8_t urgency;
        bool is_incremental;
    } cases[] = {
        {"", 3, false},         {"u=0", 0, false},           {"i", 3, true},
        {"u=7, i", 7, true},    {"i=?1;x=1 ,u=5", 5, true},  {"i, i=?0", 3, false},
        {"u=1, u=2", 2, false}, {"u=8", 3, false},           {"u=-1, i", 3, true},
        {"u=22", 3, false},     {"u=, x=\"u=1\"", 3, false}, {"U=1", 3, false},
    };
    for (size_t i = 0; i < FB_COUNT(cases); i++) {
        struct h2_priority p = h2_priority_of(span_of(cases[i].field));
        assert_int_equal(p.urgency, cases[i].urgency);
        assert_int_equal(p.is_incremental, cases[i].is_incremental);
    }
}

static void trailers_have_no_pseudo_fields(void **state)
{
    struct h2_head h;
    (void)state;
    h2_trailer_begin(&h, &limits, text, fields);
    h2_head_take(&h, SPAN("x-sum"), SPAN("1"));
    h2_head_take(&h, SPAN("content-length"), SPAN("1"));
    assert_int_equal(h2_head_finish(&h, true, 7), HTTP1_E_NONE);
    assert_int_equal(h.p.head.field_count, 2);
    assert_false(fields[0].flags & HTTP1_FIELD_NO_TRAILER);
    assert_true(fields[1].flags & HTTP1_FIELD_NO_TRAILER);
    h2_trailer_begin(&h, &limits, text, fields);
    h2_head_take(&h, SPAN(":path"), SPAN("/"));
    assert_int_equal(h2_head_finish(&h, true, 7), HTTP1_E_BAD_LINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_taken_or_refused_for_its_cause),
        cmocka_unit_test(a_head_has_the_facts_of_http1),
        cmocka_unit_test(a_body_of_unknown_length_is_chunked),
        cmocka_unit_test(crumbs_become_one_cookie),
        cmocka_unit_test(an_extended_connect_becomes_an_upgrade),
        cmocka_unit_test(lines_that_are_too_long_are_named),
        cmocka_unit_test(a_head_that_waits_may_move),
        cmocka_unit_test(a_priority_is_read_as_a_dictionary_with_its_defaults),
        cmocka_unit_test(trailers_have_no_pseudo_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
