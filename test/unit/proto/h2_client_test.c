/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/2 session of ours against frames written by hand, and against a server's session. */
#include "base/assert.h"
#include "proto/h2_client.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka needs the headers above. */
#include <cmocka.h>

#define SETTINGS "\0\0\0\4\0\0\0\0\0"

static struct {
    char said[2000]; /* what the hooks were told, in order */
    size_t said_bytes;
    char sent[8000]; /* frames */
    size_t sent_bytes;
    size_t body_left;
} seen;

static void say(const char *word, struct span s)
{
    seen.said_bytes +=
        (size_t)snprintf(seen.said + seen.said_bytes, sizeof seen.said - seen.said_bytes,
                         "[%s %.*s]", word, SPAN_ARG(s));
}

static void on_head(void *conn, void *stream, struct span head, bool is_last)
{
    (void)conn, (void)stream;
    say(is_last ? "head-last" : "head", head);
}
static void on_data(void *conn, void *stream, struct span payload)
{
    (void)conn, (void)stream;
    say("data", payload);
}
static void on_last(void *conn, void *stream, const struct http1_field *trailers, uint32_t count)
{
    (void)conn, (void)stream;
    say("last", count ? trailers[0].value : SPAN(""));
}
static void on_gone(void *conn, void *stream, enum h2_gone why)
{
    static const char *const words[] = {"done", "unsent", "reset", "bad", "large"};
    (void)conn, (void)stream;
    say("gone", span_of(words[why]));
}
static struct h2_client_give give(void *conn, void *stream, char *to, size_t room)
{
    (void)conn, (void)stream;
    size_t n = seen.body_left < room ? seen.body_left : room;
    memset(to, 'x', n);
    seen.body_left -= n;
    return (struct h2_client_give){.bytes = n, .is_last = seen.body_left == 0};
}
static void put(void *conn, struct span frames)
{
    (void)conn;
    assert_true(seen.sent_bytes + frames.len <= sizeof seen.sent);
    memcpy(seen.sent + seen.sent_bytes, frames.at, frames.len);
    seen.sent_bytes += frames.len;
}
static const struct h2_client_hooks hooks = {on_head, on_data, on_last, on_gone, give, put};

static struct h2_client *session(void)
{
    const struct h2_client_conf conf = {{256, 200, 8}, 65535, 1 << 20, false};
    memset(&seen, 0, sizeof seen);
    struct h2_client *s = h2_client_new(&conf, &hooks, NULL);
    assert_non_null(s);
    return s;
}

#define GET                                                                                        \
    SPAN("GET /a HTTP/1.1\r\nHost: h\r\nX-Big: Yes\r\nConnection: te\r\nTE: trailers\r\n\r\n")
#define OK_HEAD "\0\0\1\1\4\0\0\0\1\x88" /* HEADERS: :status 200 of the static table */
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
#define BYTES(literal) .bytes = {(literal), sizeof(literal) - 1}
static const struct {
    const char *says, *want;
    struct span bytes;
    bool is_over;
} rows[] = {
    ROW("an answer", BYTES(SETTINGS OK_HEAD "\0\0\2\0\1\0\0\0\1ok"),
        .want = "[head HTTP/1.1 200 \r\n\r\n][data ok][last ][gone done]"),
    ROW("an answer without a body", BYTES(SETTINGS "\0\0\1\1\5\0\0\0\1\x88"),
        .want = "[head-last HTTP/1.1 200 \r\n\r\n][last ][gone done]"),
    ROW("trailers", BYTES(SETTINGS OK_HEAD "\0\0\7\1\5\0\0\0\1\0\2xa\2ok"), /* xa: ok */
        .want = "[head HTTP/1.1 200 \r\n\r\n][last ok][gone done]"),
    ROW("a refused stream", BYTES(SETTINGS "\0\0\4\3\0\0\0\0\1\0\0\0\7"), .want = "[gone unsent]"),
    ROW("a reset", BYTES(SETTINGS OK_HEAD "\0\0\4\3\0\0\0\0\1\0\0\0\2"),
        .want = "[head HTTP/1.1 200 \r\n\r\n][gone reset]"),
    ROW("a goodbye that leaves it out", BYTES(SETTINGS "\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        .want = "[gone unsent]"),
    ROW("data before a head", BYTES(SETTINGS "\0\0\2\0\1\0\0\0\1ok"), .want = "", .is_over = true),
    ROW("an answer that is not HTTP/2", BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), .want = "",
        .is_over = true),
};

static void frames_of_an_endpoint_become_facts(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct h2_client *s = session();
        assert_int_equal(h2_client_request(s, &seen, GET, false), 1);
        assert_true(h2_client_pump(s, SIZE_MAX));
        bool is_good = h2_client_take(s, rows[i].bytes);
        if (is_good)
            is_good = h2_client_pump(s, SIZE_MAX) || !rows[i].is_over;
        if (strcmp(seen.said, rows[i].want) != 0 || is_good == rows[i].is_over)
            fail_msg("%s: %s", rows[i].says, seen.said);
        h2_client_free(s);
    }
}

static void head_beyond_the_limits_is_refused_and_the_connection_lives(void **state)
{
    (void)state;
    struct h2_client *s = session();
    char block[400] = "\0\0\0\1\5\0\0\0\1\x88";
    size_t len = 10;
    for (int i = 0; i < 3; i++) {
        memcpy(block + len, "\0\1x\x60", 4);
        memset(block + len + 4, 'y', 0x60);
        len += 4 + 0x60;
    }
    block[1] = (char)((len - 9) >> 8);
    block[2] = (char)((len - 9) & 255);
    h2_client_request(s, &seen, GET, false);
    assert_true(h2_client_pump(s, SIZE_MAX));
    assert_true(h2_client_take(s, (struct span){SETTINGS, 9}));
    assert_true(h2_client_take(s, (struct span){block, len}));
    assert_string_equal(seen.said, "[gone large]");
    assert_int_equal(h2_client_request(s, &seen, GET, false), 3);
    assert_true(h2_client_pump(s, SIZE_MAX));
    h2_client_free(s);
}

static void owner_that_left_is_told_nothing(void **state)
{
    (void)state;
    struct h2_client *s = session();
    int32_t id = h2_client_request(s, &seen, GET, false);
    assert_true(h2_client_pump(s, SIZE_MAX));
    h2_client_reset(s, id);
    assert_true(h2_client_pump(s, SIZE_MAX));
    assert_true(
        h2_client_take(s, (struct span){SETTINGS OK_HEAD "\0\0\2\0\1\0\0\0\1ok", 9 + 10 + 11}));
    assert_string_equal(seen.said, "");
    h2_client_free(s);
}

/* ---- a server reads what we wrote ---- */

static char fields[1000];

static int on_field(nghttp2_session *session_, const nghttp2_frame *frame, const uint8_t *name,
                    size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
                    void *arg)
{
    (void)session_, (void)frame, (void)flags, (void)arg;
    size_t at = strlen(fields);
    snprintf(fields + at, sizeof fields - at, "%.*s=%.*s;", (int)name_bytes, (const char *)name,
             (int)value_bytes, (const char *)value);
    return 0;
}

static void text_of_a_request_becomes_fields(void **state)
{
    (void)state;
    struct h2_client *s = session();
    nghttp2_session *server;
    nghttp2_session_callbacks *callbacks;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_field);
    assert_int_equal(nghttp2_session_server_new(&server, callbacks, NULL), 0);
    nghttp2_session_callbacks_del(callbacks);
    fields[0] = '\0';
    seen.body_left = 5;
    h2_client_request(s, &seen, GET, true);
    assert_true(h2_client_pump(s, SIZE_MAX));
    assert_int_equal(nghttp2_session_mem_recv(server, (const uint8_t *)seen.sent, seen.sent_bytes),
                     seen.sent_bytes);
    assert_string_equal(fields, ":method=GET;:scheme=http;:authority=h;:path=/a;"
                                "x-big=Yes;te=trailers;");
    assert_int_equal(seen.body_left, 0);
    nghttp2_session_del(server);
    h2_client_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_an_endpoint_become_facts),
        cmocka_unit_test(head_beyond_the_limits_is_refused_and_the_connection_lives),
        cmocka_unit_test(owner_that_left_is_told_nothing),
        cmocka_unit_test(text_of_a_request_becomes_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
