/* SPDX-License-Identifier: Apache-2.0 */
/* What a good request head says: target, host, framing, lifetime, upgrade, hop-by-hop marks;
 * limits. */
#include "http1_try.h"

#define H "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n" H

enum fact {
    FACT_KEEP_ALIVE,
    FACT_UPGRADE,
    FACT_WEBSOCKET,
    FACT_CONTINUE,
    FACT_TE,
};

struct fact_row {
    const char *says;
    const char *bytes;
    enum fact fact;
    bool want;
};

#define IS(text, which, raw) ROW(text, .bytes = raw, .fact = FACT_##which, .want = true)
#define NOT(text, which, raw) ROW(text, .bytes = raw, .fact = FACT_##which, .want = false)
#define WS "Upgrade: websocket\r\n"
#define TEN "GET / HTTP/1.0\r\n"
#define LEN "Content-Length: 1\r\n"
#define EXPECT "Expect: 100-continue\r\n"

static const struct fact_row fact_rows[] = {
    IS("1.1 lives on", KEEP_ALIVE, GET "\r\n"),
    NOT("1.1 with close ends", KEEP_ALIVE, GET "Connection: close\r\n\r\n"),
    NOT("close in a list counts", KEEP_ALIVE, GET "Connection: foo ,\tCLOSE\r\n\r\n"),
    NOT("close in a second line counts", KEEP_ALIVE,
        GET "Connection: foo\r\nConnection: close\r\n\r\n"),
    NOT("close wins over keep-alive", KEEP_ALIVE, GET "Connection: keep-alive, close\r\n\r\n"),
    IS("a longer word is not close", KEEP_ALIVE, GET "Connection: closed\r\n\r\n"),
    NOT("1.0 ends", KEEP_ALIVE, TEN "\r\n"),
    IS("1.0 with keep-alive lives on", KEEP_ALIVE, TEN "Connection: Keep-Alive\r\n\r\n"),
    NOT("Proxy-Connection says nothing", KEEP_ALIVE, TEN "Proxy-Connection: keep-alive\r\n\r\n"),
    IS("upgrade", UPGRADE, GET "Connection: upgrade\r\n" WS "\r\n"),
    NOT("upgrade not nominated", UPGRADE, GET WS "\r\n"),
    NOT("upgrade without protocol", UPGRADE, GET "Connection: upgrade\r\n\r\n"),
    NOT("upgrade in 1.0", UPGRADE, TEN "Connection: upgrade\r\n" WS "\r\n"),
    IS("websocket", WEBSOCKET, GET "Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"),
    NOT("h2c", WEBSOCKET, GET "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    NOT("websocket and h2c", WEBSOCKET,
        GET "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"),
    NOT("two Upgrade", WEBSOCKET, GET "Connection: Upgrade\r\n" WS WS "\r\n"),
    IS("expects 100", CONTINUE, GET EXPECT LEN "\r\n"),
    IS("expects 100, chunked", CONTINUE, GET EXPECT "Transfer-Encoding: chunked\r\n\r\n"),
    NOT("expects 100 without a body", CONTINUE, GET EXPECT "\r\n"),
    NOT("expects 100 with an empty body", CONTINUE, GET EXPECT "Content-Length: 0\r\n\r\n"),
    NOT("expects 100 in 1.0", CONTINUE, TEN EXPECT LEN "\r\n"),
    IS("trailers wanted", TE, GET "TE: trailers\r\nConnection: te\r\n\r\n"),
    NOT("trailers wanted, not nominated", TE, GET "TE: trailers\r\n\r\n"),
};

static bool fact_of(const struct http1_head *head, enum fact fact)
{
    switch (fact) {
    case FACT_KEEP_ALIVE:
        return head->keep_alive;
    case FACT_UPGRADE:
        return head->is_upgrade;
    case FACT_WEBSOCKET:
        return head->is_websocket;
    case FACT_CONTINUE:
        return head->expect_continue;
    case FACT_TE:
        return head->te_trailers;
    }
    return false;
}

static void head_says_what_its_row_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(fact_rows); i++) {
        struct try t;
        try_whole(&t, false, HTTP1_OTHER, span_of(fact_rows[i].bytes));
        assert_int_equal(t.step, HTTP1_DONE);
        if (fact_of(&t.p.head, fact_rows[i].fact) != fact_rows[i].want)
            fail_msg("%s", fact_rows[i].says);
        try_end(&t);
    }
}

struct target_row {
    const char *says;
    const char *line;
    const char *host_field;
    enum http1_form form;
    const char *path, *query, *host_name;
    uint16_t port;
    bool has_query;
};

static const struct target_row target_rows[] = {
    ROW("path", "GET /a/b", "h", HTTP1_ORIGIN, "/a/b", "", "h", 0, false),
    ROW("path and query", "GET /a?b=c?d", "h:81", HTTP1_ORIGIN, "/a", "b=c?d", "h", 81, true),
    ROW("empty query", "GET /a?", "h.", HTTP1_ORIGIN, "/a", "", "h", 0, true),
    ROW("absolute", "GET http://H.x:80/a?b", "h.X", HTTP1_ABSOLUTE, "/a", "b", "H.x", 80, true),
    ROW("absolute, no path", "GET http://h?b", "h", HTTP1_ABSOLUTE, "", "b", "h", 0, true),
    ROW("absolute, https", "GET https://h", "h:443", HTTP1_ABSOLUTE, "", "", "h", 0, false),
    ROW("two slashes", "GET //a/b", "h", HTTP1_ORIGIN, "//a/b", "", "h", 0, false),
    ROW("colon in the path", "GET /http://x/", "h", HTTP1_ORIGIN, "/http://x/", "", "h", 0, false),
    ROW("asterisk", "OPTIONS *", "[::1]:8", HTTP1_ASTERISK, "*", "", "[::1]", 8, false),
    ROW("authority", "CONNECT h:443", "h:443", HTTP1_AUTHORITY, "", "", "h", 443, false),
};

static void target_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(target_rows); i++) {
        const struct target_row *row = &target_rows[i];
        char text[256];
        struct try t;
        int len = snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: %s\r\n\r\n", row->line,
                           row->host_field);
        try_whole(&t, false, HTTP1_OTHER, (struct span){text, (size_t)len});
        if (t.step != HTTP1_DONE)
            fail_msg("%s: %s", row->says, http1_error_name(t.p.error));
        const struct http1_head *h = &t.p.head;
        assert_int_equal(h->form, row->form);
        assert_span(h->path, span_of(row->path));
        assert_span(h->query, span_of(row->query));
        assert_span(h->host_name, span_of(row->host_name));
        assert_int_equal(h->host_port, row->port);
        assert_int_equal(h->has_query, row->has_query);
        try_end(&t);
    }
}

static void method_is_known_by_its_exact_name(void **state)
{
    (void)state;
    for (unsigned m = HTTP1_GET; m < HTTP1_METHOD_COUNT; m++)
        assert_int_equal(http1_method_lookup(span_of(http1_method_name(m))), m);
    assert_int_equal(http1_method_lookup(SPAN("get")), HTTP1_OTHER);
    assert_int_equal(http1_method_lookup(SPAN("GETS")), HTTP1_OTHER);
    assert_int_equal(http1_method_lookup(SPAN("PROPFIND")), HTTP1_OTHER);
}

static void fields_are_trimmed_and_known(void **state)
{
    (void)state;
    struct try t;
    try_whole(&t, false, HTTP1_OTHER,
              SPAN(GET "X-Other:\t v w \r\nCOOKIE: a=b\r\ncookie:c\r\n\r\n"));
    const struct http1_head *h = &t.p.head;
    assert_int_equal(t.step, HTTP1_DONE);
    assert_int_equal(h->field_count, 4);
    assert_span(h->fields[1].name, SPAN("X-Other"));
    assert_span(h->fields[1].value, SPAN("v w"));
    assert_int_equal(h->fields[1].id, HTTP1_H_OTHER);
    assert_false(h->fields[1].flags & HTTP1_FIELD_PLAIN_LINE);
    assert_true(h->fields[2].flags & HTTP1_FIELD_PLAIN_LINE);
    assert_false(h->fields[3].flags & HTTP1_FIELD_PLAIN_LINE);
    assert_true(http1_has(h, HTTP1_H_COOKIE));
    assert_false(http1_has(h, HTTP1_H_DATE));
    assert_ptr_equal(http1_find(h, HTTP1_H_COOKIE), &h->fields[2]);
    assert_null(http1_find(h, HTTP1_H_DATE));
    assert_ptr_equal(http1_find_name(h, SPAN("x-OTHER")), &h->fields[1]);
    assert_null(http1_find_name(h, SPAN("x-othe")));
    try_end(&t);
}

static void every_known_name_is_found_in_any_case(void **state)
{
    (void)state;
    for (unsigned id = 1; id < HTTP1_H_COUNT; id++) {
        struct span name = http1_header_name(id);
        char text[32];
        for (size_t i = 0; i < name.len; i++)
            text[i] = name.at[i] >= 'a' && name.at[i] <= 'z' ? (char)(name.at[i] - 32) : name.at[i];
        assert_int_equal(http1_header_lookup(name), id);
        assert_int_equal(http1_header_lookup((struct span){text, name.len}), id);
        for (size_t i = 0; i < name.len; i++) { /* one byte off, one byte short */
            memcpy(text, name.at, name.len);
            text[i] = text[i] == 'q' ? 'j' : 'q';
            assert_int_not_equal(http1_header_lookup((struct span){text, name.len}), id);
        }
        assert_int_not_equal(http1_header_lookup((struct span){name.at, name.len - 1}), id);
    }
    assert_int_equal(http1_header_lookup(SPAN("")), HTTP1_H_OTHER);
}

static void hop_by_hop_fields_are_marked(void **state)
{
    (void)state;
    static const struct http1_limits limits = {256, 1024, 16};
    struct http1_field fields[16];
    struct http1_parser p;
    struct span all = SPAN(GET "Connection: x-a, close\r\nX-A: 1\r\nx-a: 2\r\nX-AB: 3\r\n"
                               "Keep-Alive: 5\r\nTE: x\r\nUpgrade: y\r\nProxy-Connection: z\r\n"
                               "Proxy: p\r\nProxy-Authorization: q\r\nVia: v\r\n\r\n");
    http1_request_begin(&p, &limits, fields);
    assert_int_equal(http1_parse(&p, all), HTTP1_DONE);
    static const char want[] = "0111011111100"; /* Host, Connection, X-A, x-a, X-AB, ... */
    for (uint32_t i = 0; i < p.head.field_count; i++) {
        bool is_hop = (fields[i].flags & HTTP1_FIELD_HOP) != 0;
        if (is_hop != (want[i] == '1'))
            fail_msg("%.*s", SPAN_ARG(fields[i].name));
    }
    assert_true(fields[2].flags & HTTP1_FIELD_NOMINATED);
    assert_false(fields[1].flags & HTTP1_FIELD_NOMINATED);
}

static void expect_of_an_old_client_is_not_forwarded(void **state)
{
    (void)state;
    struct try t;
    try_whole(&t, false, HTTP1_OTHER, SPAN("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"));
    assert_true(t.fields[0].flags & HTTP1_FIELD_HOP);
    try_end(&t);
    try_whole(&t, false, HTTP1_OTHER, SPAN(GET "Expect: 100-continue\r\n\r\n"));
    assert_false(t.fields[1].flags & HTTP1_FIELD_HOP);
    try_end(&t);
}

/* A message with a part of <len> bytes, judged by try_limits (line 256, header 1024). */
static enum http1_error sized(const char *before, size_t len, const char *after)
{
    char text[4096];
    struct try t;
    size_t at = strlen(before);
    memcpy(text, before, at);
    memset(text + at, 'a', len);
    memcpy(text + at + len, after, strlen(after));
    struct span all = {text, at + len + strlen(after)};
    assert_cuts_do_not_matter(false, HTTP1_OTHER, all);
    try_whole(&t, false, HTTP1_OTHER, all);
    try_end(&t);
    return t.p.error;
}

static void limits_hold_to_the_byte(void **state)
{
    (void)state;
    const char *end = " HTTP/1.1\r\n" H "\r\n";
    assert_int_equal(sized("GET /", 256 - 14, end), HTTP1_E_NONE);
    assert_int_equal(sized("GET /", 257 - 14, end), HTTP1_E_LINE_TOO_LONG);
    assert_int_equal(sized("GET /", 1000, ""), HTTP1_E_LINE_TOO_LONG);
    assert_int_equal(sized("", 1000, ""), HTTP1_E_LINE_TOO_LONG);
    size_t around = strlen(H) + strlen("A: ") + strlen("\r\n\r\n");
    assert_int_equal(sized(GET "A: ", 1024 - around, "\r\n\r\n"), HTTP1_E_NONE);
    assert_int_equal(sized(GET "A: ", 1025 - around, "\r\n\r\n"), HTTP1_E_HEADERS_TOO_LARGE);
    assert_int_equal(sized(GET, 2000, ""), HTTP1_E_HEADERS_TOO_LARGE);
}

static void unfinished_head_asks_for_more(void **state)
{
    (void)state;
    struct span all = SPAN("\r\n" GET "A: b\r\n\r\n");
    for (size_t len = 0; len < all.len; len++) {
        struct try t;
        try_whole(&t, false, HTTP1_OTHER, (struct span){all.at, len});
        assert_int_equal(t.step, HTTP1_MORE);
        try_end(&t);
    }
}

/* 64 KiB in single bytes: a parser that began again with each byte would look at 2 * 10^9 bytes. */
static void single_bytes_cost_no_second_look(void **state)
{
    (void)state;
    static const struct http1_limits limits = {65536, 1 << 20, 4};
    static char text[200000];
    struct http1_field fields[4];
    struct http1_parser p;
    size_t len = (size_t)snprintf(text, sizeof(text), "GET /");
    memset(text + len, 'a', 60000);
    len += 60000;
    len += (size_t)snprintf(text + len, 64, " HTTP/1.1\r\n" H "X: ");
    memset(text + len, 'b', 100000);
    len += 100000;
    len += (size_t)snprintf(text + len, 64, "\r\n\r\n");
    http1_request_begin(&p, &limits, fields);
    enum http1_step step = HTTP1_MORE;
    for (size_t now = 1; now <= len; now++) {
        uint32_t before = p.at;
        step = http1_parse(&p, (struct span){text, now});
        if (step == HTTP1_MORE)
            assert_true(now - p.at <= 13); /* never more than a version is left for later */
        assert_true(p.at >= before);
    }
    assert_int_equal(step, HTTP1_DONE);
}

static void lists_are_walked_without_empty_elements(void **state)
{
    (void)state;
    struct span rest = SPAN(",a ,\t,b c, ");
    struct span element;
    assert_true(http1_list_next(&rest, &element));
    assert_span(element, SPAN("a"));
    assert_true(http1_list_next(&rest, &element));
    assert_span(element, SPAN("b c"));
    assert_false(http1_list_next(&rest, &element));
    assert_false(http1_list_next(&rest, &element));
}

static void every_error_has_a_name_and_a_sentence(void **state)
{
    (void)state;
    for (unsigned e = 0; e < HTTP1_E_COUNT; e++) {
        assert_true(strlen(http1_error_name(e)) > 2);
        assert_true(strlen(http1_error_text(e)) > 5);
    }
    assert_string_equal(http1_error_name(HTTP1_E_BAD_HOST), "BAD_HOST");
    assert_string_equal(http1_error_name(HTTP1_E_COUNT), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_says_what_its_row_says),
        cmocka_unit_test(target_is_split),
        cmocka_unit_test(method_is_known_by_its_exact_name),
        cmocka_unit_test(fields_are_trimmed_and_known),
        cmocka_unit_test(every_known_name_is_found_in_any_case),
        cmocka_unit_test(hop_by_hop_fields_are_marked),
        cmocka_unit_test(expect_of_an_old_client_is_not_forwarded),
        cmocka_unit_test(limits_hold_to_the_byte),
        cmocka_unit_test(unfinished_head_asks_for_more),
        cmocka_unit_test(single_bytes_cost_no_second_look),
        cmocka_unit_test(lists_are_walked_without_empty_elements),
        cmocka_unit_test(every_error_has_a_name_and_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
